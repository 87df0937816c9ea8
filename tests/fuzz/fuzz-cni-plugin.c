/* SPDX-License-Identifier: Apache-2.0 */

/* What a CNI plugin reads on its standard input: the configuration of each of ours, and the results
 * in it. */

#include "cni/plugins/bridge.h"
#include "cni/plugins/host-local.h"
#include "cni/plugins/portmap.h"
#include "codec/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_result(const Value *v, Arena *arena)
{
        KL_AUTOBUF text = BUF_INIT;
        Result result;

        if (result_parse(v, arena, &result, NULL) == 0)
                result_write(&result, PLUGIN_1_1_0, &text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        KL_AUTO(value_free) Value *v = NULL;
        PluginAttachment *attachments;
        HostLocalConfig host_local;
        PortmapConfig portmap;
        BridgeConfig bridge;
        PluginCall call;
        size_t n;

        if (!arena || json_parse((const char *)data, size, &v, NULL) < 0)
                return 0;
        call = (PluginCall){
                .container_id = "c1",
                .netns = "/n",
                .ifname = "eth0",
                .path = "/p",
                .network = "net",
                .args = value_get_str(v, "CNI_ARGS"),
                .config = v,
                .arena = arena,
        };
        if (!call.args)
                call.args = "";
        bridge_config_parse(&call, &bridge, NULL);
        host_local_config_parse(&call, &host_local, NULL);
        portmap_config_parse(&call, &portmap, NULL);
        plugin_valid_attachments(&call, &attachments, &n, NULL);
        read_result(v, arena);
        read_result(value_get(v, "prevResult"), arena);
        return 0;
}
