/* SPDX-License-Identifier: Apache-2.0 */

/* The bridge program. */

#include "cni/plugins/bridge.h"

int main(void)
{
        return plugin_main(&bridge_ops);
}
