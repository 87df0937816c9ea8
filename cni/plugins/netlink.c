/* SPDX-License-Identifier: Apache-2.0 */

/*
 * rtnetlink through libmnl. The kernel works a message off within sendmsg(2), so the answers to a
 * batch are there when it returns. Extended acks make the kernel's own words part of the error.
 */

#include "cni/plugins/netlink.h"

#include "base/str.h"

#include <assert.h>
#include <libmnl/libmnl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stdarg.h>
#include <sys/socket.h>

#define BATCH_SIZE 65536
/* A message with all its attributes is far smaller. */
#define MESSAGE_MAX 2048
#define BATCH_MESSAGES 256
#define ANSWER_SIZE 65536
#define DUMP_TRIES 8

struct Rtnl {
        struct mnl_socket *socket;
        uint32_t seq;       /* of the newest message */
        uint32_t first_seq; /* of the batch */
        size_t used;
        size_t n;
        int error; /* sticky: the batch overflowed */
        char what[BATCH_MESSAGES][96];
        char batch[BATCH_SIZE];
        char answer[ANSWER_SIZE];
};

int rtnl_open(Rtnl **ret, KlError **err)
{
        KL_AUTO(rtnl_free) Rtnl *rtnl = calloc(1, sizeof(*rtnl));
        int on = 1;

        if (!rtnl)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        rtnl->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
        if (!rtnl->socket || mnl_socket_bind(rtnl->socket, 0, MNL_SOCKET_AUTOPID) < 0)
                return kl_error_errno(err, -errno, NULL, "open a netlink socket");
        mnl_socket_setsockopt(rtnl->socket, NETLINK_EXT_ACK, &on, sizeof(on));
        mnl_socket_setsockopt(rtnl->socket, NETLINK_CAP_ACK, &on, sizeof(on));
        /* Dumps of addresses are filtered by link, Linux 5.0. */
        mnl_socket_setsockopt(rtnl->socket, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
        *ret = KL_STEAL(rtnl);
        return 0;
}

Rtnl *rtnl_free(Rtnl *rtnl)
{
        if (!rtnl)
                return NULL;
        if (rtnl->socket)
                mnl_socket_close(rtnl->socket);
        free(rtnl);
        return NULL;
}

/* --- the batch --- */

static void batch_end(Rtnl *rtnl, const struct nlmsghdr *nlh)
{
        rtnl->used += NLMSG_ALIGN(nlh->nlmsg_len);
        rtnl->n++;
}

/* Starts a message, to be finished by batch_end; what is for the error: "add address 10.0.0.1/24".
 */
__attribute__((format(printf, 4, 5))) static struct nlmsghdr *batch_begin(Rtnl *rtnl, uint16_t type,
                                                                          uint16_t flags,
                                                                          const char *what, ...)
{
        struct nlmsghdr *nlh;
        va_list args;

        if (rtnl->used + MESSAGE_MAX > BATCH_SIZE || rtnl->n == BATCH_MESSAGES) {
                rtnl->error = -EMSGSIZE;
                rtnl->used = 0;
                rtnl->n = 0;
        }
        nlh = mnl_nlmsg_put_header(rtnl->batch + rtnl->used);
        nlh->nlmsg_type = type;
        nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        nlh->nlmsg_seq = ++rtnl->seq;
        if (rtnl->n == 0)
                rtnl->first_seq = nlh->nlmsg_seq;
        va_start(args, what);
        vsnprintf(rtnl->what[rtnl->n], sizeof(rtnl->what[0]), what, args);
        va_end(args);
        return nlh;
}

/* The kernel's explanation in an extended ack, or NULL. */
static const char *ack_text(const struct nlmsghdr *nlh)
{
        const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *attr;

        if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS) || !(nlh->nlmsg_flags & NLM_F_CAPPED))
                return NULL;
        mnl_attr_for_each(attr, nlh, sizeof(*e)) if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
                                                     mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >=
                                                             0) return mnl_attr_get_str(attr);
        return NULL;
}

static int ack_error(Rtnl *rtnl, const struct nlmsghdr *nlh, KlError **err)
{
        const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);
        const char *text = ack_text(nlh);
        const char *what = rtnl->what[nlh->nlmsg_seq - rtnl->first_seq];

        if (text)
                return kl_error(err, e->error, NULL, "%s: %s (%s)", what, strerror(-e->error),
                                text);
        return kl_error_errno(err, e->error, NULL, "%s", what);
}

int rtnl_commit(Rtnl *rtnl, KlError **err)
{
        size_t left = rtnl->n, len = rtnl->used;
        uint32_t first = rtnl->first_seq;
        int r = 0;

        rtnl->n = 0;
        rtnl->used = 0;
        if (rtnl->error < 0)
                return kl_error(err, rtnl->error, NULL, "too many network changes at once");
        if (len > 0 && mnl_socket_sendto(rtnl->socket, rtnl->batch, len) < 0)
                return kl_error_errno(err, -errno, NULL, "send to netlink");
        while (left > 0) {
                ssize_t got = mnl_socket_recvfrom(rtnl->socket, rtnl->answer, ANSWER_SIZE);
                struct nlmsghdr *nlh = (struct nlmsghdr *)rtnl->answer;
                int rest = (int)got;

                if (got < 0)
                        return kl_error_errno(err, -errno, NULL, "receive from netlink");
                for (; mnl_nlmsg_ok(nlh, rest); nlh = mnl_nlmsg_next(nlh, &rest)) {
                        const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

                        if (nlh->nlmsg_type != NLMSG_ERROR ||
                            nlh->nlmsg_seq - first >= BATCH_MESSAGES)
                                continue;
                        left--;
                        if (e->error < 0 && r == 0)
                                r = ack_error(rtnl, nlh, err);
                }
        }
        return r;
}

/* --- queries --- */

typedef int (*AnswerFunc)(const struct nlmsghdr *nlh, void *data);

/* One pass over the answers: 0 at the end, what func said, or -EINTR for an inconsistent dump. */
static int answers_read(Rtnl *rtnl, uint32_t seq, bool dump, AnswerFunc func, void *data)
{
        bool interrupted = false;
        int said = 0;

        for (;;) {
                ssize_t got = mnl_socket_recvfrom(rtnl->socket, rtnl->answer, ANSWER_SIZE);
                struct nlmsghdr *nlh = (struct nlmsghdr *)rtnl->answer;
                int rest = (int)got;

                if (got < 0)
                        return -errno;
                for (; mnl_nlmsg_ok(nlh, rest); nlh = mnl_nlmsg_next(nlh, &rest)) {
                        if (nlh->nlmsg_seq != seq)
                                continue;
                        interrupted |= (nlh->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
                        if (nlh->nlmsg_type == NLMSG_DONE)
                                return said ? said : interrupted ? -EINTR : 0;
                        if (nlh->nlmsg_type == NLMSG_ERROR)
                                return ((struct nlmsgerr *)mnl_nlmsg_get_payload(nlh))->error;
                        if (said == 0)
                                said = func(nlh, data);
                        if (!dump)
                                return said;
                }
        }
}

/* A lone message, built at the start of the batch's buffer (which must be empty). */
static struct nlmsghdr *query_begin(Rtnl *rtnl, uint16_t type, uint16_t flags)
{
        struct nlmsghdr *nlh = mnl_nlmsg_put_header(rtnl->batch);

        assert(rtnl->n == 0);
        nlh->nlmsg_type = type;
        nlh->nlmsg_flags = NLM_F_REQUEST | flags;
        nlh->nlmsg_seq = ++rtnl->seq;
        return nlh;
}

static int query_run(Rtnl *rtnl, struct nlmsghdr *nlh, AnswerFunc func, void *data)
{
        bool dump = (nlh->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;

        if (mnl_socket_sendto(rtnl->socket, nlh, nlh->nlmsg_len) < 0)
                return -errno;
        return answers_read(rtnl, nlh->nlmsg_seq, dump, func, data);
}

static void link_parse_info(const struct nlattr *info, LinkInfo *link)
{
        const struct nlattr *attr;

        mnl_attr_for_each_nested(attr, info) if (mnl_attr_get_type(attr) == IFLA_INFO_KIND)
                snprintf(link->kind, sizeof(link->kind), "%s", mnl_attr_get_str(attr));
}

static void link_parse(const struct nlmsghdr *nlh, LinkInfo *link)
{
        const struct ifinfomsg *msg = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *attr;

        *link = (LinkInfo){ .index = msg->ifi_index, .flags = msg->ifi_flags };
        mnl_attr_for_each(attr, nlh, sizeof(*msg))
        {
                switch (mnl_attr_get_type(attr)) {
                case IFLA_IFNAME:
                        snprintf(link->name, sizeof(link->name), "%s", mnl_attr_get_str(attr));
                        break;
                case IFLA_IFALIAS:
                        snprintf(link->alias, sizeof(link->alias), "%s", mnl_attr_get_str(attr));
                        break;
                case IFLA_ADDRESS:
                        if (mnl_attr_get_payload_len(attr) == MAC_SIZE)
                                memcpy(link->mac, mnl_attr_get_payload(attr), MAC_SIZE);
                        break;
                case IFLA_MASTER:
                        link->master = (int)mnl_attr_get_u32(attr);
                        break;
                case IFLA_LINK:
                        link->peer = (int)mnl_attr_get_u32(attr);
                        break;
                case IFLA_MTU:
                        link->mtu = mnl_attr_get_u32(attr);
                        break;
                case IFLA_PROMISCUITY:
                        link->promiscuity = mnl_attr_get_u32(attr);
                        break;
                case IFLA_OPERSTATE:
                        link->oper_up = mnl_attr_get_u8(attr) == 6; /* IF_OPER_UP, RFC 2863 */
                        break;
                case IFLA_LINKINFO:
                        link_parse_info(attr, link);
                        break;
                default:
                        break;
                }
        }
}

static int take_link(const struct nlmsghdr *nlh, void *data)
{
        link_parse(nlh, data);
        return 0;
}

int rtnl_link_get(Rtnl *rtnl, const char *name, LinkInfo *ret)
{
        struct nlmsghdr *nlh = query_begin(rtnl, RTM_GETLINK, 0);
        struct ifinfomsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof(*msg));

        msg->ifi_family = AF_UNSPEC;
        mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
        mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        return query_run(rtnl, nlh, take_link, ret);
}

typedef struct LinkWalk {
        int (*func)(const LinkInfo *link, void *data);
        void *data;
} LinkWalk;

static int walk_link(const struct nlmsghdr *nlh, void *data)
{
        LinkWalk *walk = data;
        LinkInfo link;

        link_parse(nlh, &link);
        return walk->func(&link, walk->data);
}

int rtnl_links(Rtnl *rtnl, int (*func)(const LinkInfo *link, void *data), void *data)
{
        LinkWalk walk = { func, data };
        int r = -EINTR;

        for (int i = 0; r == -EINTR && i < DUMP_TRIES; i++) {
                struct nlmsghdr *nlh = query_begin(rtnl, RTM_GETLINK, NLM_F_DUMP);
                struct ifinfomsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof(*msg));

                msg->ifi_family = AF_UNSPEC;
                mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
                r = query_run(rtnl, nlh, walk_link, &walk);
        }
        return r;
}

static void put_ip_bytes(const struct nlattr *attr, int family, IpAddress *to)
{
        *to = (IpAddress){ .family = family };
        if (mnl_attr_get_payload_len(attr) == ip_size(to))
                memcpy(to->bytes, mnl_attr_get_payload(attr), ip_size(to));
}

typedef struct AddressWalk {
        int index;
        AddressInfo *to;
        size_t max, n;
} AddressWalk;

static int walk_address(const struct nlmsghdr *nlh, void *data)
{
        const struct ifaddrmsg *msg = mnl_nlmsg_get_payload(nlh);
        AddressInfo info = { .flags = msg->ifa_flags, .address.len = msg->ifa_prefixlen };
        AddressWalk *walk = data;
        const struct nlattr *attr;
        bool local = false;

        if ((int)msg->ifa_index != walk->index)
                return 0;
        mnl_attr_for_each(attr, nlh, sizeof(*msg))
        {
                uint16_t type = mnl_attr_get_type(attr);

                if (type == IFA_LOCAL || (type == IFA_ADDRESS && !local))
                        put_ip_bytes(attr, msg->ifa_family, &info.address.ip);
                local |= type == IFA_LOCAL;
                if (type == IFA_FLAGS)
                        info.flags = mnl_attr_get_u32(attr);
        }
        if (walk->n < walk->max)
                walk->to[walk->n] = info;
        walk->n++;
        return 0;
}

int rtnl_addresses(Rtnl *rtnl, int index, int family, AddressInfo *ret, size_t max, size_t *ret_n)
{
        int r = -EINTR;

        for (int i = 0; r == -EINTR && i < DUMP_TRIES; i++) {
                AddressWalk walk = { index, ret, max, 0 };
                struct nlmsghdr *nlh = query_begin(rtnl, RTM_GETADDR, NLM_F_DUMP);
                struct ifaddrmsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof(*msg));

                msg->ifa_family = (uint8_t)family;
                msg->ifa_index = (uint32_t)index;
                r = query_run(rtnl, nlh, walk_address, &walk);
                *ret_n = walk.n;
        }
        return r;
}

static void route_parse(const struct nlmsghdr *nlh, RouteInfo *route)
{
        const struct rtmsg *msg = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *attr;

        *route = (RouteInfo){ .dst = { { .family = msg->rtm_family }, msg->rtm_dst_len },
                              .table = msg->rtm_table,
                              .local = msg->rtm_type == RTN_LOCAL };
        mnl_attr_for_each(attr, nlh, sizeof(*msg))
        {
                switch (mnl_attr_get_type(attr)) {
                case RTA_DST:
                        put_ip_bytes(attr, msg->rtm_family, &route->dst.ip);
                        break;
                case RTA_GATEWAY:
                        put_ip_bytes(attr, msg->rtm_family, &route->gw);
                        break;
                case RTA_OIF:
                        route->oif = (int)mnl_attr_get_u32(attr);
                        break;
                case RTA_TABLE:
                        route->table = mnl_attr_get_u32(attr);
                        break;
                case RTA_PRIORITY:
                        route->priority = mnl_attr_get_u32(attr);
                        break;
                default:
                        break;
                }
        }
}

typedef struct RouteWalk {
        int (*func)(const RouteInfo *route, void *data);
        void *data;
} RouteWalk;

static int walk_route(const struct nlmsghdr *nlh, void *data)
{
        RouteWalk *walk = data;
        RouteInfo route;

        route_parse(nlh, &route);
        return walk->func(&route, walk->data);
}

int rtnl_routes(Rtnl *rtnl, int family, int (*func)(const RouteInfo *route, void *data), void *data)
{
        RouteWalk walk = { func, data };
        int r = -EINTR;

        for (int i = 0; r == -EINTR && i < DUMP_TRIES; i++) {
                struct nlmsghdr *nlh = query_begin(rtnl, RTM_GETROUTE, NLM_F_DUMP);
                struct rtmsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof(*msg));

                msg->rtm_family = (uint8_t)family;
                r = query_run(rtnl, nlh, walk_route, &walk);
        }
        return r;
}

static int take_route(const struct nlmsghdr *nlh, void *data)
{
        route_parse(nlh, data);
        return 0;
}

int rtnl_route_get(Rtnl *rtnl, const IpAddress *to, RouteInfo *ret)
{
        struct nlmsghdr *nlh = query_begin(rtnl, RTM_GETROUTE, 0);
        struct rtmsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof(*msg));

        msg->rtm_family = (uint8_t)to->family;
        msg->rtm_dst_len = (uint8_t)ip_bits(to);
        mnl_attr_put(nlh, RTA_DST, ip_size(to), to->bytes);
        *ret = (RouteInfo){ 0 };
        return query_run(rtnl, nlh, take_route, ret);
}

/* --- changes --- */

static struct ifinfomsg *link_header(struct nlmsghdr *nlh, int index, unsigned int up)
{
        struct ifinfomsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof(*msg));

        msg->ifi_family = AF_UNSPEC;
        msg->ifi_index = index;
        msg->ifi_flags = up;
        msg->ifi_change = up;
        return msg;
}

void rtnl_add_bridge(Rtnl *rtnl, const char *name, const uint8_t mac[static MAC_SIZE], uint32_t mtu)
{
        struct nlmsghdr *nlh =
                batch_begin(rtnl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "add bridge '%s'", name);
        struct nlattr *info;

        link_header(nlh, 0, 0);
        mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
        mnl_attr_put(nlh, IFLA_ADDRESS, MAC_SIZE, mac);
        if (mtu > 0)
                mnl_attr_put_u32(nlh, IFLA_MTU, mtu);
        info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
        mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "bridge");
        mnl_attr_nest_end(nlh, info);
        batch_end(rtnl, nlh);
}

static void put_veth_peer(struct nlmsghdr *nlh, const VethParams *params)
{
        struct nlattr *peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);

        link_header(nlh, 0, 0);
        mnl_attr_put_strz(nlh, IFLA_IFNAME, params->peer_name);
        mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)params->peer_netns);
        if (params->mtu > 0)
                mnl_attr_put_u32(nlh, IFLA_MTU, params->mtu);
        if (params->peer_mac)
                mnl_attr_put(nlh, IFLA_ADDRESS, MAC_SIZE, params->peer_mac);
        mnl_attr_nest_end(nlh, peer);
}

/* What a new link cannot be born with: its alias and its properties as a bridge's port. */
static void set_port(Rtnl *rtnl, const VethParams *params)
{
        struct nlmsghdr *nlh = batch_begin(rtnl, RTM_NEWLINK, 0, "configure '%s'", params->name);
        struct nlattr *info, *data;

        link_header(nlh, 0, 0);
        mnl_attr_put_strz(nlh, IFLA_IFNAME, params->name);
        mnl_attr_put_strz(nlh, IFLA_IFALIAS, params->alias);
        info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
        mnl_attr_put_strz(nlh, IFLA_INFO_SLAVE_KIND, "bridge");
        data = mnl_attr_nest_start(nlh, IFLA_INFO_SLAVE_DATA);
        mnl_attr_put_u8(nlh, IFLA_BRPORT_MODE, params->hairpin);
        mnl_attr_put_u8(nlh, IFLA_BRPORT_ISOLATED, params->isolated);
        mnl_attr_nest_end(nlh, data);
        mnl_attr_nest_end(nlh, info);
        batch_end(rtnl, nlh);
}

void rtnl_add_veth(Rtnl *rtnl, const VethParams *params)
{
        struct nlmsghdr *nlh =
                batch_begin(rtnl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
                            "add veth pair '%s' and '%s'", params->name, params->peer_name);
        struct nlattr *info, *data;

        link_header(nlh, 0, IFF_UP);
        mnl_attr_put_strz(nlh, IFLA_IFNAME, params->name);
        mnl_attr_put_u32(nlh, IFLA_MASTER, (uint32_t)params->master);
        if (params->mtu > 0)
                mnl_attr_put_u32(nlh, IFLA_MTU, params->mtu);
        info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
        mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
        data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
        put_veth_peer(nlh, params);
        mnl_attr_nest_end(nlh, data);
        mnl_attr_nest_end(nlh, info);
        batch_end(rtnl, nlh);
        set_port(rtnl, params);
}

void rtnl_set_up(Rtnl *rtnl, int index, bool promiscuous)
{
        struct nlmsghdr *nlh = batch_begin(rtnl, RTM_SETLINK, 0, "set link %d up", index);

        link_header(nlh, index, IFF_UP | (promiscuous ? (unsigned int)IFF_PROMISC : 0));
        batch_end(rtnl, nlh);
}

void rtnl_set_mac(Rtnl *rtnl, int index, const uint8_t mac[static MAC_SIZE])
{
        struct nlmsghdr *nlh =
                batch_begin(rtnl, RTM_SETLINK, 0, "set the address of link %d", index);

        link_header(nlh, index, 0);
        mnl_attr_put(nlh, IFLA_ADDRESS, MAC_SIZE, mac);
        batch_end(rtnl, nlh);
}

void rtnl_del_link(Rtnl *rtnl, int index)
{
        struct nlmsghdr *nlh = batch_begin(rtnl, RTM_DELLINK, 0, "delete link %d", index);

        link_header(nlh, index, 0);
        batch_end(rtnl, nlh);
}

static void put_address(struct nlmsghdr *nlh, int index, const IpPrefix *address)
{
        struct ifaddrmsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof(*msg));

        msg->ifa_family = (uint8_t)address->ip.family;
        msg->ifa_prefixlen = (uint8_t)address->len;
        msg->ifa_index = (uint32_t)index;
        mnl_attr_put(nlh, IFA_LOCAL, ip_size(&address->ip), address->ip.bytes);
        mnl_attr_put(nlh, IFA_ADDRESS, ip_size(&address->ip), address->ip.bytes);
}

void rtnl_add_address(Rtnl *rtnl, int index, const IpPrefix *address, bool dad)
{
        char text[IP_PREFIX_TEXT_SIZE];
        struct nlmsghdr *nlh = batch_begin(rtnl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL,
                                           "add address %s", ip_prefix_format(address, text));
        IpAddress broadcast = ip_prefix_last(address);

        put_address(nlh, index, address);
        if (address->ip.family == AF_INET && address->len < 31)
                mnl_attr_put(nlh, IFA_BROADCAST, 4, broadcast.bytes);
        if (address->ip.family == AF_INET6 && !dad)
                mnl_attr_put_u32(nlh, IFA_FLAGS, IFA_F_NODAD);
        batch_end(rtnl, nlh);
}

void rtnl_del_address(Rtnl *rtnl, int index, const IpPrefix *address)
{
        char text[IP_PREFIX_TEXT_SIZE];
        struct nlmsghdr *nlh = batch_begin(rtnl, RTM_DELADDR, 0, "delete address %s",
                                           ip_prefix_format(address, text));

        put_address(nlh, index, address);
        batch_end(rtnl, nlh);
}

static void put_metrics(struct nlmsghdr *nlh, const RouteParams *route)
{
        struct nlattr *metrics;

        if (route->mtu < 0 && route->advmss < 0)
                return;
        metrics = mnl_attr_nest_start(nlh, RTA_METRICS);
        if (route->mtu >= 0)
                mnl_attr_put_u32(nlh, RTAX_MTU, (uint32_t)route->mtu);
        if (route->advmss >= 0)
                mnl_attr_put_u32(nlh, RTAX_ADVMSS, (uint32_t)route->advmss);
        mnl_attr_nest_end(nlh, metrics);
}

void rtnl_add_route(Rtnl *rtnl, int index, const RouteParams *route)
{
        char text[IP_PREFIX_TEXT_SIZE];
        struct nlmsghdr *nlh = batch_begin(rtnl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL,
                                           "add route to %s", ip_prefix_format(&route->dst, text));
        struct rtmsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof(*msg));
        bool gateway = route->gw.family != AF_UNSPEC;

        msg->rtm_family = (uint8_t)route->dst.ip.family;
        msg->rtm_dst_len = (uint8_t)route->dst.len;
        msg->rtm_table = RT_TABLE_MAIN;
        msg->rtm_protocol = RTPROT_BOOT;
        msg->rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
        msg->rtm_type = RTN_UNICAST;
        if (route->scope >= 0)
                msg->rtm_scope = (uint8_t)route->scope;
        if (route->dst.len > 0)
                mnl_attr_put(nlh, RTA_DST, ip_size(&route->dst.ip), route->dst.ip.bytes);
        if (gateway)
                mnl_attr_put(nlh, RTA_GATEWAY, ip_size(&route->gw), route->gw.bytes);
        mnl_attr_put_u32(nlh, RTA_OIF, (uint32_t)index);
        if (route->priority >= 0)
                mnl_attr_put_u32(nlh, RTA_PRIORITY, (uint32_t)route->priority);
        if (route->table >= 0)
                mnl_attr_put_u32(nlh, RTA_TABLE, (uint32_t)route->table);
        put_metrics(nlh, route);
        batch_end(rtnl, nlh);
}

/* --- hardware addresses --- */

const char *mac_format(const uint8_t mac[static MAC_SIZE], char to[static MAC_TEXT_SIZE])
{
        snprintf(to, MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
                 mac[4], mac[5]);
        return to;
}

static int hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

int mac_parse(const char *text, uint8_t ret[static MAC_SIZE])
{
        uint8_t mac[MAC_SIZE];

        if (strlen(text) != MAC_TEXT_SIZE - 1)
                return -EINVAL;
        for (size_t i = 0; i < MAC_SIZE; i++) {
                int high = hex_value(text[i * 3]), low = hex_value(text[i * 3 + 1]);

                if (high < 0 || low < 0 || (i < MAC_SIZE - 1 && text[i * 3 + 2] != ':'))
                        return -EINVAL;
                mac[i] = (uint8_t)(high << 4 | low);
        }
        if (mac[0] & 1)
                return -EINVAL;
        memcpy(ret, mac, MAC_SIZE);
        return 0;
}

void mac_random(uint8_t ret[static MAC_SIZE])
{
        uint64_t bits = random_u64();

        memcpy(ret, &bits, MAC_SIZE);
        ret[0] = (uint8_t)((ret[0] & 0xfc) | 2);
}
