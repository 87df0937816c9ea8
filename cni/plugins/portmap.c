/* SPDX-License-Identifier: Apache-2.0 */

/* The verbs of portmap. The result of the plugins before is passed on as it is. */

#include "cni/plugins/portmap.h"

#include "base/str.h"
#include "cni/plugins/netlink.h"
#include "codec/json.h"

/* Connections that stay in the kernel's table end by themselves within minutes. */
static void forget_connections(const PortmapConfig *config)
{
        int r = conntrack_forget_udp(config->mappings, config->n_mappings);

        if (r < 0)
                fprintf(stderr, "Failed to forget UDP connections: %s, ignoring\n", strerror(-r));
}

/* An address that the result says to be of an interface outside of the container. */
static bool is_elsewhere(const PluginCall *call, const Result *result, const ResultIp *ip)
{
        const ResultInterface *interface;

        if (ip->interface < 0 || (uint64_t)ip->interface >= result->n_interfaces)
                return false;
        interface = &result->interfaces[ip->interface];
        return !str_eq(interface->name, call->ifname) || str_empty(interface->sandbox);
}

/* The first address of each family. */
static int take_addresses(const PluginCall *call, const Result *result, PortmapRules *rules)
{
        for (size_t i = 0; i < result->n_ips; i++) {
                const ResultIp *ip = &result->ips[i];
                IpAddress *to = ip->address.ip.family == AF_INET6 ? &rules->v6 : &rules->v4;

                if (to->family == AF_UNSPEC && !is_elsewhere(call, result, ip))
                        *to = ip->address.ip;
        }
        return rules->v4.family == AF_UNSPEC && rules->v6.family == AF_UNSPEC ? -ENOENT : 0;
}

/* The node's link towards the container's IPv4 address. */
static int find_link(PortmapRules *rules, KlError **err)
{
        KL_AUTO(rtnl_free) Rtnl *rtnl = NULL;
        RouteInfo route;
        int r;

        if (rules->v4.family == AF_UNSPEC || !rules->config->snat)
                return 0;
        r = rtnl_open(&rtnl, err);
        if (r < 0)
                return r;
        r = rtnl_route_get(rtnl, &rules->v4, &route);
        if (r == -ENETUNREACH || r == -EHOSTUNREACH)
                return 0;
        if (r == 0 && !if_indextoname((unsigned int)route.oif, rules->link))
                r = -errno;
        return r < 0 ? kl_error_errno(err, r, NULL, "look up the route to the container") : 0;
}

static int parse_previous(const PluginCall *call, Result *ret, KlError **err)
{
        const Value *previous = value_get(call->config, "prevResult");

        if (!previous)
                return plugin_error(err, PLUGIN_CONFIG,
                                    "prevResult is missing: portmap must be called as chained "
                                    "plugin");
        return plugin_config_error(result_parse(previous, call->arena, ret, err), err);
}

/* Members that we do not know are kept, unless the result is of another version than asked for. */
static int pass_on(const PluginCall *call, const Result *result, Buf *to)
{
        const Value *previous = value_get(call->config, "prevResult");
        const char *version = plugin_version_text(call->version);
        KL_AUTO(value_free) Value *copy = NULL;
        int r;

        if (!str_eq(value_get_str(previous, "cniVersion"), version)) {
                result_write(result, call->version, to);
                return 0;
        }
        copy = value_copy(previous);
        r = copy ? json_print(copy, to) : -ENOMEM;
        return r;
}

static int prepare(const PluginCall *call, const PortmapConfig *config, const Result *result,
                   PortmapRules *ret, KlError **err)
{
        ret->config = config;
        if (take_addresses(call, result, ret) < 0)
                return plugin_error(err, PLUGIN_CONFIG, "prevResult has no address of '%s'",
                                    call->ifname);
        return find_link(ret, err);
}

static int portmap_add(const PluginCall *call, Buf *to, KlError **err)
{
        KL_AUTO(nft_free) Nft *nft = NULL;
        char owner[PLUGIN_OWNER_SIZE];
        PortmapRules rules = { .owner = owner };
        PortmapConfig config;
        Result result;
        int r = portmap_config_parse(call, &config, err);

        if (r == 0)
                r = parse_previous(call, &result, err);
        if (r < 0)
                return r;
        plugin_owner(call, owner);
        if (config.n_mappings > 0) {
                r = prepare(call, &config, &result, &rules, err);
                if (r == 0)
                        r = nft_open(&nft, err);
                if (r < 0)
                        return r;
                r = portmap_rules_add(nft, &rules, err);
                if (r < 0) {
                        rules_remove_owner(nft, &portmap_table, owner, NULL);
                        return r;
                }
                forget_connections(&config);
        }
        return pass_on(call, &result, to);
}

static int portmap_del(const PluginCall *call, KlError **err)
{
        KL_AUTO(nft_free) Nft *nft = NULL;
        char owner[PLUGIN_OWNER_SIZE];
        PortmapConfig config;
        int r = portmap_config_parse(call, &config, err);

        if (r == 0)
                r = nft_open(&nft, err);
        if (r < 0)
                return r;
        plugin_owner(call, owner);
        r = rules_remove_owner(nft, &portmap_table, owner, err);
        if (r == 0)
                forget_connections(&config);
        return r;
}

static int portmap_check(const PluginCall *call, KlError **err)
{
        KL_AUTO(nft_free) Nft *nft = NULL;
        char owner[PLUGIN_OWNER_SIZE];
        PortmapRules rules = { .owner = owner };
        PortmapConfig config;
        Result result;
        size_t n;
        int r = portmap_config_parse(call, &config, err);

        if (r == 0)
                r = parse_previous(call, &result, err);
        if (r < 0 || config.n_mappings == 0)
                return r;
        plugin_owner(call, owner);
        r = prepare(call, &config, &result, &rules, err);
        if (r == 0)
                r = nft_open(&nft, err);
        if (r == 0)
                r = rules_count(nft, &portmap_table, owner, &n, err);
        if (r == 0 && n < portmap_rules_expected(&rules))
                r = plugin_error(err, PLUGIN_FAILED,
                                 "%zu of %zu rules are in the nftables table "
                                 "'%s'",
                                 n, portmap_rules_expected(&rules), portmap_table.name);
        return r;
}

static int portmap_status(const PluginCall *call, KlError **err)
{
        PortmapConfig config;
        int r = portmap_config_parse(call, &config, err);

        return r < 0 ? r : rules_check_kernel(err);
}

static int portmap_gc(const PluginCall *call, KlError **err)
{
        KL_AUTO(nft_free) Nft *nft = NULL;
        PluginAttachment *attachments;
        PortmapConfig config;
        size_t n;
        int r = portmap_config_parse(call, &config, err);

        if (r == 0)
                r = plugin_valid_attachments(call, &attachments, &n, err);
        if (r == 0)
                r = nft_open(&nft, err);
        return r < 0 ? r : rules_collect(nft, &portmap_table, call, attachments, n, err);
}

const PluginOps portmap_ops = {
        .add = portmap_add,
        .del = portmap_del,
        .check = portmap_check,
        .status = portmap_status,
        .gc = portmap_gc,
};
