/* SPDX-License-Identifier: Apache-2.0 */

/* The host-local program. */

#include "cni/plugins/host-local.h"

int main(void)
{
        return plugin_main(&host_local_ops);
}
