/* SPDX-License-Identifier: Apache-2.0 */

/* The portmap program. */

#include "cni/plugins/portmap.h"

int main(void)
{
        return plugin_main(&portmap_ops);
}
