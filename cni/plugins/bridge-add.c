/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ADD. The pair is made with one message: this end up and in the bridge, the other born in the
 * container's namespace, down. It goes up only after its sysctls are set, so that the kernel
 * neither solicits routers nor waits for duplicate address detection. The addresses are announced
 * when the bridge forwards. Whatever was done is undone if a later step fails.
 */

#include "cni/plugins/bridge.h"

#include "base/str.h"
#include "cni/plugins/ipam.h"
#include "cni/plugins/netns.h"
#include "cni/plugins/rules.h"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <time.h>

#define PORT_UP_TIMEOUT_MS 2500
#define DAD_TIMEOUT_MS 10000
#define POLL_FIRST_US 100
#define POLL_MAX_US 20000

enum { INTERFACE_BRIDGE, INTERFACE_VETH, INTERFACE_CONTAINER, N_INTERFACES };

typedef struct Add {
        const PluginCall *call;
        BridgeConfig config;
        char owner[PLUGIN_OWNER_SIZE];
        Rtnl *host, *inside; /* inside: of the container */
        Nft *nft;            /* with ipMasq only */
        int own_netns, netns;
        LinkInfo bridge, veth, container;
        Result result;
        bool ipam_done, masquerade_done;
} Add;

static void pause_us(uint64_t us)
{
        struct timespec t = { .tv_nsec = (long)us * 1000 };

        nanosleep(&t, NULL);
}

/* --- the bridge --- */

static int bridge_make(Add *a, KlError **err)
{
        KL_AUTOERR why = NULL;
        uint8_t mac[MAC_SIZE];
        int r;

        mac_random(mac);
        rtnl_add_bridge(a->host, a->config.bridge, mac, a->config.mtu);
        r = rtnl_commit(a->host, &why);
        if (r < 0 && r != -EEXIST)
                return kl_error_move(err, &why);
        r = rtnl_link_get(a->host, a->config.bridge, &a->bridge);
        return r < 0 ? kl_error_errno(err, r, NULL, "look up '%s'", a->config.bridge) : 0;
}

static int bridge_ensure(Add *a, KlError **err)
{
        const char *name = a->config.bridge;
        bool promiscuous;
        int r = rtnl_link_get(a->host, name, &a->bridge);

        if (r == -ENODEV)
                r = bridge_make(a, err);
        else if (r < 0)
                return kl_error_errno(err, r, NULL, "look up '%s'", name);
        if (r < 0)
                return r;
        if (!str_eq(a->bridge.kind, "bridge"))
                return plugin_error(err, PLUGIN_FAILED, "'%s' already exists but is not a bridge",
                                    name);
        promiscuous = a->config.promiscuous && !(a->bridge.flags & (unsigned int)IFF_PROMISC);
        if ((a->bridge.flags & (unsigned int)IFF_UP) && !promiscuous)
                return 0;
        /* The routes of this link are ours, not those of a router behind a container. */
        sysctl_set("0", "ipv6/conf/%s/accept_ra", name);
        rtnl_set_up(a->host, a->bridge.index, a->config.promiscuous);
        return rtnl_commit(a->host, err);
}

static bool covers(const IpPrefix *a, const IpPrefix *b)
{
        return ip_prefix_contains(a, &b->ip) || ip_prefix_contains(b, &a->ip);
}

/*
 * A bridge has one IPv4 address, and IPv6 addresses whose networks do not overlap; others are in
 * the way. *ret_found: the address is there already.
 */
static int bridge_check_address(Add *a, const IpPrefix *address, bool *ret_found, KlError **err)
{
        AddressInfo have[RTNL_ADDRESSES_MAX];
        char text[IP_PREFIX_TEXT_SIZE];
        size_t n;
        int r = rtnl_addresses(a->host, a->bridge.index, address->ip.family, have,
                               RTNL_ADDRESSES_MAX, &n);

        *ret_found = false;
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read the addresses of '%s'", a->bridge.name);
        for (size_t i = 0; i < n && i < RTNL_ADDRESSES_MAX; i++) {
                const IpPrefix *other = &have[i].address;

                if (ip_equal(&other->ip, &address->ip) && other->len == address->len) {
                        *ret_found = true;
                        return 0;
                }
                if (address->ip.family == AF_INET6 && !covers(other, address))
                        continue;
                if (!a->config.force_address)
                        return plugin_error(err, PLUGIN_FAILED,
                                            "'%s' already has an IP address different from %s",
                                            a->bridge.name, ip_prefix_format(address, text));
                rtnl_del_address(a->host, a->bridge.index, other);
        }
        return 0;
}

static int bridge_set_address(Add *a, const IpPrefix *address, KlError **err)
{
        KL_AUTOERR why = NULL;
        bool found;
        int r = bridge_check_address(a, address, &found, err);

        if (r < 0 || found)
                return r;
        rtnl_set_mac(a->host, a->bridge.index, a->bridge.mac);
        rtnl_add_address(a->host, a->bridge.index, address, a->config.dad);
        r = rtnl_commit(a->host, &why);
        /* Another invocation was as fast. */
        return r == -EEXIST || r == 0 ? 0 : kl_error_move(err, &why);
}

static int forwarding_enable(int family, KlError **err)
{
        int r = family == AF_INET6 ? sysctl_set("1", "ipv6/conf/all/forwarding")
                                   : sysctl_set("1", "ipv4/ip_forward");

        return r < 0 ? kl_error_errno(err, r, NULL, "enable forwarding") : 0;
}

static int bridge_set_gateways(Add *a, KlError **err)
{
        int r = 0;

        for (size_t i = 0; a->config.is_gateway && r == 0 && i < a->result.n_ips; i++) {
                const ResultIp *ip = &a->result.ips[i];
                IpPrefix gateway = { ip->gateway, ip->address.len };

                r = bridge_set_address(a, &gateway, err);
                if (r == 0)
                        r = forwarding_enable(gateway.ip.family, err);
        }
        return r;
}

/* --- the pair --- */

void bridge_veth_name(const char *owner, unsigned int n, char to[static IFNAMSIZ])
{
        char salted[PLUGIN_OWNER_SIZE + 4];
        int len = snprintf(salted, sizeof(salted), "%s#%u", owner, n);

        snprintf(to, IFNAMSIZ, "veth%08x", hash_fnv32(salted, (size_t)len));
}

int bridge_veth_find(Rtnl *rtnl, const char *owner, LinkInfo *ret)
{
        char name[IFNAMSIZ];

        for (unsigned int i = 0; i < BRIDGE_VETH_NAMES; i++) {
                int r;

                bridge_veth_name(owner, i, name);
                r = rtnl_link_get(rtnl, name, ret);
                if (r < 0 || str_eq(ret->alias, owner))
                        return r;
        }
        return -ENODEV;
}

static void veth_delete(Add *a, int index)
{
        rtnl_del_link(a->host, index);
        rtnl_commit(a->host, NULL);
}

/* 1 if the name is taken by somebody else's link. */
static int veth_try(Add *a, const char *name, KlError **err)
{
        KL_AUTOERR why = NULL;
        VethParams params = {
                .name = name,
                .alias = a->owner,
                .master = a->bridge.index,
                .peer_name = a->call->ifname,
                .peer_netns = a->netns,
                .mtu = a->config.mtu,
                .peer_mac = a->config.has_mac ? a->config.mac : NULL,
                .hairpin = a->config.hairpin,
                .isolated = a->config.isolated,
        };
        LinkInfo other;
        int r;

        /* The second half of the change would hit a stranger's link of that name. */
        r = rtnl_link_get(a->host, name, &other);
        if (r == 0 && !str_eq(other.alias, a->owner))
                return 1;
        if (r == 0)
                return plugin_error(err, PLUGIN_FAILED,
                                    "the container already has an interface '%s' of this network",
                                    a->call->ifname);
        rtnl_add_veth(a->host, &params);
        r = rtnl_commit(a->host, &why);
        if (r == -EEXIST)
                return plugin_error(err, PLUGIN_FAILED,
                                    "the container already has an interface '%s'", a->call->ifname);
        if (r == 0)
                return 0;
        /* The pair may be there without its properties. */
        if (rtnl_link_get(a->host, name, &other) == 0 && !*other.alias)
                veth_delete(a, other.index);
        return kl_error_move(err, &why);
}

static int veth_make(Add *a, KlError **err)
{
        char name[IFNAMSIZ];
        int r = 1;

        for (unsigned int i = 0; r > 0 && i < BRIDGE_VETH_NAMES; i++) {
                bridge_veth_name(a->owner, i, name);
                r = veth_try(a, name, err);
        }
        if (r > 0)
                return plugin_error(err, PLUGIN_FAILED, "no free name for the node's interface");
        if (r < 0)
                return r;
        r = rtnl_link_get(a->host, name, &a->veth);
        return r < 0 ? kl_error_errno(err, r, NULL, "look up '%s'", name) : 0;
}

/* A port that does not forward yet would lose the container's first packets. */
static int veth_wait_up(Add *a, KlError **err)
{
        uint64_t waited = 0, step = POLL_FIRST_US;

        for (;;) {
                int r = rtnl_link_get(a->host, a->veth.name, &a->veth);

                if (r < 0)
                        return kl_error_errno(err, r, NULL, "look up '%s'", a->veth.name);
                if (a->veth.oper_up || a->config.link_down)
                        return 0;
                if (waited > PORT_UP_TIMEOUT_MS * 1000)
                        return plugin_error(err, PLUGIN_FAILED, "bridge port '%s' is not up",
                                            a->veth.name);
                pause_us(step);
                waited += step;
                step = step * 2 < POLL_MAX_US ? step * 2 : POLL_MAX_US;
        }
}

/* --- addressing --- */

static bool is_default(const ResultRoute *route, int family)
{
        return route->dst.ip.family == family && route->dst.len == 0 &&
               ip_is_zero(&route->dst.ip) && route->gw.family != AF_UNSPEC;
}

static bool has_default(const Result *result, int family)
{
        for (size_t i = 0; i < result->n_routes; i++)
                if (is_default(&result->routes[i], family))
                        return true;
        return false;
}

/* Gateways that IPAM did not name, and the default routes through them. */
static int complete_result(Add *a)
{
        Result *result = &a->result;
        ResultRoute *routes = ARENA_ARRAY(a->call->arena, result->n_routes + 2, ResultRoute);

        if (!routes)
                return -ENOMEM;
        if (result->n_routes > 0)
                memcpy(routes, result->routes, result->n_routes * sizeof(*routes));
        result->routes = routes;
        for (size_t i = 0; i < result->n_ips; i++) {
                ResultIp *ip = &result->ips[i];
                int family = ip->address.ip.family;
                IpAddress network = ip_prefix_first(&ip->address);

                ip->interface = INTERFACE_CONTAINER;
                if (ip->gateway.family == AF_UNSPEC && a->config.is_gateway)
                        ip->gateway = ip_next(&network);
                if (!a->config.is_default_gateway || has_default(result, family))
                        continue;
                routes[result->n_routes++] = (ResultRoute){
                        .dst = { { .family = family }, 0 },
                        .gw = ip->gateway,
                        .mtu = -1,
                        .advmss = -1,
                        .priority = -1,
                        .table = -1,
                        .scope = -1,
                };
        }
        return 0;
}

static int run_ipam(Add *a, KlError **err)
{
        ResultDns dns;
        int r;

        if (!a->config.ipam)
                return 0;
        r = ipam_add(a->call, a->config.ipam, &a->result, err);
        if (r < 0)
                return r;
        a->ipam_done = true;
        dns = a->config.dns;
        if (result_dns_is_set(&dns))
                a->result.dns = dns;
        return complete_result(a);
}

/* --- in the container's namespace --- */

static bool has_family(const Result *result, int family)
{
        for (size_t i = 0; i < result->n_ips; i++)
                if (result->ips[i].address.ip.family == family)
                        return true;
        return false;
}

/* Missing files mean a kernel without IPv6; nothing is lost then. */
static void container_sysctls(const Add *a)
{
        const char *name = a->call->ifname;

        if (has_family(&a->result, AF_INET6))
                sysctl_set("0", "ipv6/conf/%s/disable_ipv6", name);
        sysctl_set("0", "ipv6/conf/%s/accept_ra", name);
        sysctl_set(a->config.dad ? "1" : "0", "ipv6/conf/%s/accept_dad", name);
        if (a->config.dad)
                sysctl_set("1", "ipv6/conf/%s/enhanced_dad", name);
        sysctl_set("1", "ipv6/conf/%s/ndisc_notify", name);
        sysctl_set("1", "ipv4/conf/%s/arp_notify", name);
}

static void queue_addresses(const Add *a, Rtnl *rtnl, int family)
{
        for (size_t i = 0; i < a->result.n_ips; i++)
                if (a->result.ips[i].address.ip.family == family)
                        rtnl_add_address(rtnl, a->container.index, &a->result.ips[i].address,
                                         a->config.dad);
}

/* Routes without a gateway of their own go through that of the family's first address. */
static void queue_routes(const Add *a, Rtnl *rtnl)
{
        for (size_t i = 0; i < a->result.n_routes; i++) {
                const ResultRoute *route = &a->result.routes[i];
                RouteParams params = { route->dst,      route->gw,    route->mtu,  route->advmss,
                                       route->priority, route->table, route->scope };

                for (size_t k = 0; params.gw.family == AF_UNSPEC && k < a->result.n_ips; k++)
                        if (a->result.ips[k].address.ip.family == route->dst.ip.family)
                                params.gw = a->result.ips[k].gateway;
                rtnl_add_route(rtnl, a->container.index, &params);
        }
}

/* 0: all addresses are usable, 1: some are still being checked. */
static int dad_state(const Add *a, Rtnl *rtnl, KlError **err)
{
        AddressInfo have[RTNL_ADDRESSES_MAX];
        char text[IP_PREFIX_TEXT_SIZE];
        bool tentative = false;
        size_t n;
        int r = rtnl_addresses(rtnl, a->container.index, AF_INET6, have, RTNL_ADDRESSES_MAX, &n);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "read the addresses of '%s'", a->call->ifname);
        for (size_t i = 0; i < n && i < RTNL_ADDRESSES_MAX; i++) {
                if (have[i].flags & IFA_F_DADFAILED)
                        return plugin_error(err, PLUGIN_FAILED,
                                            "the address %s is in use by "
                                            "somebody else",
                                            ip_prefix_format(&have[i].address, text));
                tentative |= (have[i].flags & IFA_F_TENTATIVE) != 0;
        }
        return tentative;
}

static int dad_wait(const Add *a, Rtnl *rtnl, KlError **err)
{
        for (uint64_t waited = 0; a->config.dad; waited += POLL_MAX_US) {
                int r = dad_state(a, rtnl, err);

                if (r <= 0)
                        return r;
                if (waited > DAD_TIMEOUT_MS * 1000)
                        return plugin_error(err, PLUGIN_FAILED,
                                            "duplicate address detection did not end");
                pause_us(POLL_MAX_US);
        }
        return 0;
}

static int container_configure(Add *a, KlError **err)
{
        Rtnl *rtnl;
        int r = rtnl_open(&a->inside, err);

        if (r < 0)
                return r;
        rtnl = a->inside;
        r = rtnl_link_get(rtnl, a->call->ifname, &a->container);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "look up '%s'", a->call->ifname);
        if (a->config.link_down)
                return 0;
        container_sysctls(a);
        queue_addresses(a, rtnl, AF_INET);
        rtnl_set_up(rtnl, a->container.index, false);
        queue_addresses(a, rtnl, AF_INET6);
        queue_routes(a, rtnl);
        r = rtnl_commit(rtnl, err);
        if (r == 0 && has_family(&a->result, AF_INET6))
                r = dad_wait(a, rtnl, err);
        return r < 0 ? kl_error_wrap(err, r, "configure '%s'", a->call->ifname) : 0;
}

static int container_enter_and_configure(Add *a, KlError **err)
{
        int r = netns_enter(a->netns, err), back;

        if (r < 0)
                return r;
        r = container_configure(a, err);
        back = netns_enter(a->own_netns, err);
        return r < 0 ? r : back;
}

/*
 * Neighbours may remember who had the address before. Going up announced it too, but to a port that
 * did not forward yet; setting the hardware address, though it is the same, announces all addresses
 * again (NETDEV_CHANGEADDR with arp_notify and ndisc_notify).
 */
static int announce(Add *a, KlError **err)
{
        if (a->result.n_ips == 0)
                return 0;
        rtnl_set_mac(a->inside, a->container.index, a->container.mac);
        return rtnl_commit(a->inside, err);
}

/* --- all of it --- */

static int do_add(Add *a, KlError **err)
{
        int r = bridge_ensure(a, err);

        if (r == 0)
                r = veth_make(a, err);
        if (r == 0)
                r = run_ipam(a, err);
        if (r == 0)
                r = container_enter_and_configure(a, err);
        if (r == 0)
                r = bridge_set_gateways(a, err);
        if (r == 0 && a->config.ip_masq && a->result.n_ips > 0) {
                a->masquerade_done = true;
                r = masquerade_add(a->nft, a->owner, a->result.ips, a->result.n_ips, err);
        }
        if (r == 0)
                r = veth_wait_up(a, err);
        return r < 0 ? r : announce(a, err);
}

static void undo(Add *a)
{
        if (a->masquerade_done)
                rules_remove_owner(a->nft, &masquerade_table, a->owner, NULL);
        if (a->ipam_done)
                ipam_run(a->call, a->config.ipam, "DEL", NULL);
        if (a->veth.index > 0)
                veth_delete(a, a->veth.index);
}

static int write_result(Add *a, Buf *to)
{
        ResultInterface *list = ARENA_ARRAY(a->call->arena, N_INTERFACES, ResultInterface);
        const LinkInfo *links[] = { &a->bridge, &a->veth, &a->container };
        char mac[MAC_TEXT_SIZE];

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < N_INTERFACES; i++) {
                list[i].name = links[i]->name;
                list[i].mac = arena_strdup(a->call->arena, mac_format(links[i]->mac, mac));
        }
        list[INTERFACE_CONTAINER].sandbox = a->call->netns;
        a->result.interfaces = list;
        a->result.n_interfaces = N_INTERFACES;
        result_write(&a->result, a->call->version, to);
        return 0;
}

int bridge_add(const PluginCall *call, Buf *to, KlError **err)
{
        KL_AUTO(rtnl_free) Rtnl *host = NULL;
        KL_AUTO(nft_free) Nft *nft = NULL;
        KL_AUTOFD int own = -1, netns = -1;
        Add a = { .call = call };
        int r = bridge_config_parse(call, &a.config, err);

        if (r < 0)
                return r;
        netns = netns_open(call->netns);
        if (netns < 0)
                return plugin_error(err, PLUGIN_FAILED, "failed to open netns '%s': %s",
                                    call->netns, strerror(-netns));
        own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (own < 0)
                return kl_error_errno(err, -errno, NULL, "open the node's network namespace");
        r = rtnl_open(&host, err);
        if (r == 0 && a.config.ip_masq)
                r = nft_open(&nft, err);
        if (r < 0)
                return r;
        plugin_owner(call, a.owner);
        a.nft = nft;
        a.host = host;
        a.netns = netns;
        a.own_netns = own;
        a.result.dns = a.config.dns;
        r = do_add(&a, err);
        if (r < 0)
                undo(&a);
        else
                r = write_result(&a, to);
        rtnl_free(a.inside);
        return r;
}
