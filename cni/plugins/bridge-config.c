/* SPDX-License-Identifier: Apache-2.0 */

/* The configuration of bridge. What is not implemented is refused, not ignored. */

#include "cni/plugins/bridge.h"

#include "base/str.h"

#define MTU_MAX 65535
#define VLAN_MAX 4094

static const char *const config_keys[] = {
        "bridge",        "isGateway",   "isDefaultGateway",
        "forceAddress",  "ipMasq",      "ipMasqBackend",
        "mtu",           "hairpinMode", "promiscMode",
        "vlan",          "vlanTrunk",   "preserveDefaultVlan",
        "macspoofchk",   "enabledad",   "disableContainerInterface",
        "portIsolation", NULL,
};

/* VLANs and the spoof check: only their "off" values. */
static int check_unsupported(const Field *root, Arena *arena, KlError **err)
{
        Field trunk = field_get(root, "vlanTrunk");
        bool spoof = false, preserve = false;
        char *backend = NULL;
        int64_t vlan = 0;
        int r;

        r = field_int(root, "vlan", 0, VLAN_MAX, &vlan, err);
        if (r == 0)
                r = field_bool(root, "macspoofchk", &spoof, err);
        if (r == 0)
                r = field_bool(root, "preserveDefaultVlan", &preserve, err);
        if (r == 0)
                r = field_str(root, "ipMasqBackend", arena, &backend, err);
        if (r < 0)
                return plugin_config_error(r, err);
        if (vlan != 0)
                return plugin_refuse("vlan", "VLANs are not implemented", err);
        if (field_present(&trunk) && value_len(trunk.value) > 0)
                return plugin_refuse("vlanTrunk", "VLANs are not implemented", err);
        if (spoof)
                return plugin_refuse("macspoofchk", "the check is not implemented", err);
        if (backend && !str_eq(backend, "nftables"))
                return plugin_refuse("ipMasqBackend", "only nftables is implemented", err);
        return 0;
}

static int parse_switches(const Field *root, BridgeConfig *config, KlError **err)
{
        const struct {
                const char *key;
                bool *to;
        } switches[] = {
                { "isGateway", &config->is_gateway },
                { "isDefaultGateway", &config->is_default_gateway },
                { "forceAddress", &config->force_address },
                { "ipMasq", &config->ip_masq },
                { "hairpinMode", &config->hairpin },
                { "promiscMode", &config->promiscuous },
                { "enabledad", &config->dad },
                { "disableContainerInterface", &config->link_down },
                { "portIsolation", &config->isolated },
        };
        int64_t mtu = 0;
        int r = field_int(root, "mtu", 0, MTU_MAX, &mtu, err);

        for (size_t i = 0; r == 0 && i < ELEMENTS(switches); i++)
                r = field_bool(root, switches[i].key, switches[i].to, err);
        config->mtu = (uint32_t)mtu;
        return plugin_config_error(r, err);
}

/* From CNI_ARGS, args.cni or the capability; the last of them wins. */
static int parse_mac(const PluginCall *call, const Field *root, BridgeConfig *config, KlError **err)
{
        static const char *const known[] = { "IP", "MAC", NULL };
        Field args = field_get(root, "args"), cni = field_get(&args, "cni");
        Field runtime = field_get(root, "runtimeConfig");
        const char *env = NULL;
        char *mac = NULL;
        int r;

        r = plugin_check_args(call, known, err);
        if (r == 0)
                r = plugin_arg(call, "MAC", &env, err);
        if (r < 0)
                return r;
        r = field_str(&cni, "mac", call->arena, &mac, err);
        if (r == 0)
                r = field_str(&runtime, "mac", call->arena, &mac, err);
        if (r < 0)
                return plugin_config_error(r, err);
        if (!str_empty(mac))
                env = mac;
        config->has_mac = !str_empty(env);
        if (config->has_mac && mac_parse(env, config->mac) < 0)
                return plugin_error(err, PLUGIN_CONFIG, "'%s' is not a unicast MAC address", env);
        return 0;
}

/* Capabilities may be meant for the IPAM plugin, whose list we only know if it is ours. */
static int check_runtime(const Field *root, const BridgeConfig *config, KlError **err)
{
        static const char *const known[] = { "mac", "ips", "ipRanges", NULL };
        Field runtime = field_get(root, "runtimeConfig");

        if (config->ipam && !str_eq(config->ipam, "host-local"))
                return 0;
        return plugin_check_keys(runtime.value, "runtimeConfig", known, err);
}

static int parse_names(const PluginCall *call, const Field *root, BridgeConfig *config,
                       KlError **err)
{
        char *bridge = NULL, *type = NULL;
        Field ipam = { 0 }, dns = { 0 };
        int r;

        r = field_str(root, "bridge", call->arena, &bridge, err);
        if (r == 0)
                r = field_object(root, "ipam", &ipam, err);
        if (r == 0)
                r = field_str(&ipam, "type", call->arena, &type, err);
        if (r >= 0)
                r = field_object(root, "dns", &dns, err);
        if (r == 0)
                r = result_parse_dns(&dns, call->arena, &config->dns, err);
        if (r < 0)
                return plugin_config_error(r, err);
        config->bridge = str_empty(bridge) ? BRIDGE_DEFAULT_NAME : bridge;
        config->ipam = str_empty(type) ? NULL : type;
        if (!plugin_ifname_valid(config->bridge))
                return plugin_error(err, PLUGIN_CONFIG, "'bridge' is not a valid interface name");
        if (!config->ipam && value_len(ipam.value) > 0)
                return plugin_error(err, PLUGIN_CONFIG, "ipam.type is required");
        return 0;
}

int bridge_config_parse(const PluginCall *call, BridgeConfig *ret, KlError **err)
{
        Field root = field_root(call->config);
        BridgeConfig config = { 0 };
        int r;

        r = plugin_check_keys(call->config, "", config_keys, err);
        if (r == 0)
                r = check_unsupported(&root, call->arena, err);
        if (r == 0)
                r = parse_switches(&root, &config, err);
        if (r == 0)
                r = parse_names(call, &root, &config, err);
        if (r == 0)
                r = check_runtime(&root, &config, err);
        if (r == 0)
                r = parse_mac(call, &root, &config, err);
        if (r < 0)
                return r;
        if (config.ipam && config.link_down)
                return plugin_error(err, PLUGIN_CONFIG,
                                    "cannot use IPAM when disableContainerInterface is set");
        if (config.hairpin && config.promiscuous)
                return plugin_error(
                        err, PLUGIN_CONFIG,
                        "cannot set hairpin mode and promiscuous mode at the same time");
        config.is_gateway |= config.is_default_gateway;
        *ret = config;
        return 0;
}
