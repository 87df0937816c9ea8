/* SPDX-License-Identifier: Apache-2.0 */

/* Tells as whom it runs: setuid root in an image, it shows whether no_new_privs is on. */

#include <stdio.h>
#include <unistd.h>

int main(void)
{
        printf("Effective uid: %u\n", (unsigned int)geteuid());
        return 0;
}
