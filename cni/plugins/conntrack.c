/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Connections of the kernel's connection tracking, by ctnetlink. Entries are read, compared here
 * and deleted by their tuple, zone and id, so that an entry made meanwhile under the same tuple
 * stays.
 */

#include "cni/plugins/portmap.h"

#include "base/str.h"
#include "cni/plugins/netlink.h"

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define ANSWER_SIZE 65536
#define RECEIVE_BUFFER (4 * 1024 * 1024)
/* Deletions: message and attributes are copied from the entry, so they are as long at most. */
#define DELETE_MAX 512

typedef struct Flush {
        struct mnl_socket *dump, *change;
        Rtnl *rtnl;
        const PortMapping *mappings;
        size_t n;
        uint32_t seq;
} Flush;

static void flush_deinit(Flush *flush)
{
        if (flush->dump)
                mnl_socket_close(flush->dump);
        if (flush->change)
                mnl_socket_close(flush->change);
        rtnl_free(flush->rtnl);
}

static struct mnl_socket *open_socket(void)
{
        struct mnl_socket *s = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
        int size = RECEIVE_BUFFER;

        if (!s)
                return NULL;
        if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
                mnl_socket_close(s);
                return NULL;
        }
        setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
        return s;
}

static struct nlmsghdr *message(void *buffer, uint16_t type, uint16_t flags, uint8_t family,
                                uint32_t seq)
{
        struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
        struct nfgenmsg *nfg;

        nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
        nlh->nlmsg_flags = NLM_F_REQUEST | flags;
        nlh->nlmsg_seq = seq;
        nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
        nfg->nfgen_family = family;
        nfg->version = NFNETLINK_V0;
        return nlh;
}

static const struct nlattr *child(const struct nlattr *nest, uint16_t type)
{
        const struct nlattr *attr;

        if (!nest)
                return NULL;
        mnl_attr_for_each_nested(attr, nest) if (mnl_attr_get_type(attr) == type) return attr;
        return NULL;
}

/* The original direction's destination of a UDP connection. */
static bool parse_destination(const struct nlattr *tuple, int family, IpAddress *ret_ip,
                              uint16_t *ret_port)
{
        const struct nlattr *ip = child(tuple, CTA_TUPLE_IP),
                            *proto = child(tuple, CTA_TUPLE_PROTO);
        const struct nlattr *dst = child(ip, family == AF_INET6 ? CTA_IP_V6_DST : CTA_IP_V4_DST);
        const struct nlattr *number = child(proto, CTA_PROTO_NUM);
        const struct nlattr *port = child(proto, CTA_PROTO_DST_PORT);

        *ret_ip = (IpAddress){ .family = family };
        if (!dst || !number || !port || mnl_attr_get_payload_len(dst) != ip_size(ret_ip) ||
            mnl_attr_get_u8(number) != IPPROTO_UDP)
                return false;
        memcpy(ret_ip->bytes, mnl_attr_get_payload(dst), ip_size(ret_ip));
        *ret_port = ntohs(mnl_attr_get_u16(port));
        return true;
}

/* Flows through the node to the same port of other hosts are nobody's mapping: a container's DNS
 * query must not lose its answer because port 53 of the node is being mapped. */
static bool is_local(const Flush *flush, const IpAddress *ip)
{
        RouteInfo route;

        return rtnl_route_get(flush->rtnl, ip, &route) == 0 && route.local;
}

static bool is_mapped(const Flush *flush, const IpAddress *ip, uint16_t port)
{
        for (size_t i = 0; i < flush->n; i++) {
                const PortMapping *m = &flush->mappings[i];

                if (m->protocol != IPPROTO_UDP || m->host_port != port ||
                    !portmap_applies(m, ip->family))
                        continue;
                if (m->host_ip.family == AF_UNSPEC || ip_is_zero(&m->host_ip))
                        return is_local(flush, ip);
                if (ip_equal(&m->host_ip, ip))
                        return true;
        }
        return false;
}

static void copy_attr(struct nlmsghdr *to, const struct nlattr *attr)
{
        if (attr && to->nlmsg_len + attr->nla_len + NLMSG_ALIGNTO <= DELETE_MAX)
                mnl_attr_put(to, attr->nla_type, mnl_attr_get_payload_len(attr),
                             mnl_attr_get_payload(attr));
}

/* An entry that ended by itself is as good; nothing is answered to success. */
static void delete_entry(Flush *flush, uint8_t family, const struct nlattr *tuple,
                         const struct nlattr *zone, const struct nlattr *id)
{
        char buffer[DELETE_MAX];
        struct nlmsghdr *nlh = message(buffer, IPCTNL_MSG_CT_DELETE, 0, family, ++flush->seq);

        copy_attr(nlh, tuple);
        copy_attr(nlh, zone);
        copy_attr(nlh, id);
        mnl_socket_sendto(flush->change, nlh, nlh->nlmsg_len);
}

static void look_at(Flush *flush, const struct nlmsghdr *nlh)
{
        const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *tuple = NULL, *zone = NULL, *id = NULL, *attr;
        IpAddress ip;
        uint16_t port;

        mnl_attr_for_each(attr, nlh, sizeof(*nfg))
        {
                switch (mnl_attr_get_type(attr)) {
                case CTA_TUPLE_ORIG:
                        tuple = attr;
                        break;
                case CTA_ZONE:
                        zone = attr;
                        break;
                case CTA_ID:
                        id = attr;
                        break;
                default:
                        break;
                }
        }
        if (tuple && parse_destination(tuple, nfg->nfgen_family, &ip, &port) &&
            is_mapped(flush, &ip, port))
                delete_entry(flush, nfg->nfgen_family, tuple, zone, id);
}

static int flush_run(Flush *flush, char *answer)
{
        struct nlmsghdr *nlh =
                message(answer, IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC, ++flush->seq);
        uint32_t seq = nlh->nlmsg_seq;

        if (mnl_socket_sendto(flush->dump, nlh, nlh->nlmsg_len) < 0)
                return -errno;
        for (;;) {
                ssize_t got = mnl_socket_recvfrom(flush->dump, answer, ANSWER_SIZE);
                int rest = (int)got;

                if (got < 0)
                        return -errno;
                nlh = (struct nlmsghdr *)answer;
                for (; mnl_nlmsg_ok(nlh, rest); nlh = mnl_nlmsg_next(nlh, &rest)) {
                        if (nlh->nlmsg_seq != seq)
                                continue;
                        if (nlh->nlmsg_type == NLMSG_DONE)
                                return 0;
                        if (nlh->nlmsg_type == NLMSG_ERROR)
                                return ((struct nlmsgerr *)mnl_nlmsg_get_payload(nlh))->error;
                        look_at(flush, nlh);
                }
        }
}

int conntrack_forget_udp(const PortMapping *mappings, size_t n)
{
        __attribute__((cleanup(flush_deinit))) Flush flush = { .mappings = mappings, .n = n };
        KL_AUTOFREE char *answer = NULL;
        size_t i = 0;
        int r;

        while (i < n && mappings[i].protocol != IPPROTO_UDP)
                i++;
        if (i == n)
                return 0;
        answer = malloc(ANSWER_SIZE);
        if (!answer)
                return -ENOMEM;
        flush.dump = open_socket();
        flush.change = open_socket();
        if (!flush.dump || !flush.change)
                return -errno;
        r = rtnl_open(&flush.rtnl, NULL);
        return r < 0 ? r : flush_run(&flush, answer);
}
