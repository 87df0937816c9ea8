/* SPDX-License-Identifier: Apache-2.0 */

/* CHECK: is what prevResult says still there, and connected as ADD left it? */

#include "cni/plugins/bridge.h"

#include "base/str.h"
#include "cni/plugins/ipam.h"
#include "cni/plugins/netns.h"
#include "cni/plugins/rules.h"

#include <fcntl.h>

typedef struct Check {
        const PluginCall *call;
        BridgeConfig config;
        Result result;
        LinkInfo bridge, container;
} Check;

static int fail(KlError **err, const char *what, const char *name)
{
        return plugin_error(err, PLUGIN_FAILED, "%s '%s'", what, name);
}

static int check_link(Rtnl *rtnl, const ResultInterface *expected, const char *kind, LinkInfo *ret,
                      KlError **err)
{
        char mac[MAC_TEXT_SIZE];
        int r = rtnl_link_get(rtnl, expected->name, ret);

        if (r < 0)
                return fail(err, "there is no interface", expected->name);
        if (!str_eq(ret->kind, kind))
                return plugin_error(err, PLUGIN_FAILED, "interface '%s' is not a %s",
                                    expected->name, kind);
        if (!str_empty(expected->mac) && !str_eq(expected->mac, mac_format(ret->mac, mac)))
                return plugin_error(err, PLUGIN_FAILED, "interface '%s' has the address %s, not %s",
                                    expected->name, mac, expected->mac);
        return 0;
}

static const ResultInterface *find_interface(const Check *c, const char *name, const char *sandbox)
{
        for (size_t i = 0; i < c->result.n_interfaces; i++) {
                const ResultInterface *interface = &c->result.interfaces[i];

                if (str_eq(interface->name, name) &&
                    str_eq(interface->sandbox ? interface->sandbox : "", sandbox))
                        return interface;
        }
        return NULL;
}

static int check_ips(const Check *c, Rtnl *rtnl, KlError **err)
{
        AddressInfo have[RTNL_ADDRESSES_MAX];
        char text[IP_PREFIX_TEXT_SIZE];
        size_t n;
        int r = rtnl_addresses(rtnl, c->container.index, AF_UNSPEC, have, RTNL_ADDRESSES_MAX, &n);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "read addresses");
        n = n < RTNL_ADDRESSES_MAX ? n : RTNL_ADDRESSES_MAX;
        for (size_t i = 0; i < c->result.n_ips; i++) {
                const IpPrefix *ip = &c->result.ips[i].address;
                size_t k = 0;

                while (k < n &&
                       !(have[k].address.len == ip->len && ip_equal(&have[k].address.ip, &ip->ip)))
                        k++;
                if (k == n)
                        return plugin_error(err, PLUGIN_FAILED,
                                            "interface '%s' has lost the "
                                            "address %s",
                                            c->call->ifname, ip_prefix_format(ip, text));
        }
        return 0;
}

static int match_route(const RouteInfo *route, void *data)
{
        const ResultRoute *wanted = data;

        return route->dst.len == wanted->dst.len && ip_equal(&route->dst.ip, &wanted->dst.ip) &&
               (wanted->gw.family == AF_UNSPEC || ip_equal(&route->gw, &wanted->gw));
}

static int check_routes(const Check *c, Rtnl *rtnl, KlError **err)
{
        char text[IP_PREFIX_TEXT_SIZE];

        for (size_t i = 0; i < c->result.n_routes; i++) {
                ResultRoute *route = &c->result.routes[i];
                int r = rtnl_routes(rtnl, route->dst.ip.family, match_route, route);

                if (r < 0)
                        return kl_error_errno(err, r, NULL, "read routes");
                if (r == 0)
                        return fail(err, "there is no route to",
                                    ip_prefix_format(&route->dst, text));
        }
        return 0;
}

static int check_container(Check *c, KlError **err)
{
        const ResultInterface *expected = find_interface(c, c->call->ifname, c->call->netns);
        KL_AUTO(rtnl_free) Rtnl *rtnl = NULL;
        int r;

        if (!expected)
                return fail(err, "prevResult has no interface", c->call->ifname);
        r = rtnl_open(&rtnl, err);
        if (r == 0)
                r = check_link(rtnl, expected, "veth", &c->container, err);
        if (r == 0)
                r = check_ips(c, rtnl, err);
        return r < 0 ? r : check_routes(c, rtnl, err);
}

/* The node's end: whatever it is called, its peer is the container's and its master the bridge. */
static int check_veth(const Check *c, Rtnl *rtnl, KlError **err)
{
        for (size_t i = 0; i < c->result.n_interfaces; i++) {
                const ResultInterface *expected = &c->result.interfaces[i];
                LinkInfo link;

                if (!str_empty(expected->sandbox) || str_eq(expected->name, c->config.bridge))
                        continue;
                if (rtnl_link_get(rtnl, expected->name, &link) < 0 || !str_eq(link.kind, "veth"))
                        continue;
                if (link.index == c->container.peer && link.peer == c->container.index &&
                    link.master == c->bridge.index)
                        return 0;
        }
        return fail(err, "no pair of interfaces leads from the container to", c->config.bridge);
}

static int check_masquerade(const Check *c, KlError **err)
{
        KL_AUTO(nft_free) Nft *nft = NULL;
        char owner[PLUGIN_OWNER_SIZE];
        size_t n;
        int r;

        if (!c->config.ip_masq || c->result.n_ips == 0)
                return 0;
        plugin_owner(c->call, owner);
        r = nft_open(&nft, err);
        if (r == 0)
                r = rules_count(nft, &masquerade_table, owner, &n, err);
        if (r == 0 && n < c->result.n_ips)
                r = fail(err, "masquerade rules are missing in the nftables table",
                         masquerade_table.name);
        return r;
}

static int check_node(Check *c, Rtnl *rtnl, KlError **err)
{
        const ResultInterface *expected = find_interface(c, c->config.bridge, "");
        int r;

        if (!expected)
                return fail(err, "prevResult has no bridge", c->config.bridge);
        r = check_link(rtnl, expected, "bridge", &c->bridge, err);
        if (r == 0 && c->config.promiscuous && c->bridge.promiscuity == 0)
                r = fail(err, "promiscuous mode is off on", c->config.bridge);
        return r;
}

static int prepare(Check *c, KlError **err)
{
        const Value *previous = value_get(c->call->config, "prevResult");
        int r = bridge_config_parse(c->call, &c->config, err);

        if (r < 0)
                return r;
        if (!previous)
                return plugin_error(err, PLUGIN_CONFIG, "required prevResult missing");
        r = plugin_config_error(result_parse(previous, c->call->arena, &c->result, err), err);
        if (r == 0 && c->config.ipam)
                r = ipam_run(c->call, c->config.ipam, "CHECK", err);
        return r;
}

int bridge_check(const PluginCall *call, KlError **err)
{
        KL_AUTO(rtnl_free) Rtnl *rtnl = NULL;
        KL_AUTOFD int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), netns = -1;
        Check c = { .call = call };
        int r = prepare(&c, err), back;

        if (r == 0)
                r = rtnl_open(&rtnl, err);
        if (r == 0)
                r = check_node(&c, rtnl, err);
        if (r < 0)
                return r;
        netns = netns_open(call->netns);
        if (netns < 0 || own < 0)
                return plugin_error(err, PLUGIN_FAILED, "failed to open netns '%s'", call->netns);
        r = netns_enter(netns, err);
        if (r < 0)
                return r;
        r = check_container(&c, err);
        back = netns_enter(own, err);
        if (r == 0)
                r = back;
        if (r == 0)
                r = check_veth(&c, rtnl, err);
        return r < 0 ? r : check_masquerade(&c, err);
}
