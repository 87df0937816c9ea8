/* SPDX-License-Identifier: Apache-2.0 */

/*
 * nf_tables over libmnl. The handful of expressions that the plugins need are written straight into
 * the message: a library of all expressions costs more to load than the whole plugin takes to run.
 *
 * The kernel answers a batch within sendmsg(2) and without NLM_F_ACK only speaks of errors, so an
 * empty receive queue afterwards means success, however many rules there were.
 */

#include "cni/plugins/nft.h"

#include "base/str.h"

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

/* No message of ours is longer; checked where one begins. */
#define MESSAGE_MAX 4096
#define ANSWER_SIZE 65536
#define SOCKET_BUFFER (4 * 1024 * 1024)
#define DUMP_TRIES 16

/* Types in a rule's user data: 0 is nft's comment, ours is out of the range that nft uses. */
#define UDATA_COMMENT 0
#define UDATA_TAG 0x4b

#ifndef NFNL_BATCH_GENID
#define NFNL_BATCH_GENID 1
#endif

struct Nft {
        struct mnl_socket *socket;
        uint32_t seq;
        size_t used;
        int error;                /* sticky until nft_begin */
        struct nlmsghdr *message; /* under construction */
        struct nlattr *expressions;
        char batch[NFT_BATCH_MAX];
        char answer[ANSWER_SIZE];
};

int nft_open(Nft **ret, KlError **err)
{
        KL_AUTO(nft_free) Nft *nft = calloc(1, sizeof(*nft));
        int size = SOCKET_BUFFER, fd;

        if (!nft)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        nft->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
        if (!nft->socket || mnl_socket_bind(nft->socket, 0, MNL_SOCKET_AUTOPID) < 0)
                return kl_error_errno(err, -errno, NULL, "open a netfilter socket");
        fd = mnl_socket_get_fd(nft->socket);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
        *ret = KL_STEAL(nft);
        return 0;
}

Nft *nft_free(Nft *nft)
{
        if (!nft)
                return NULL;
        if (nft->socket)
                mnl_socket_close(nft->socket);
        free(nft);
        return NULL;
}

/* --- messages --- */

static struct nlmsghdr *message_at(void *at, uint32_t seq, uint16_t type, uint16_t flags,
                                   uint8_t family, uint16_t resource)
{
        struct nlmsghdr *nlh = mnl_nlmsg_put_header(at);
        struct nfgenmsg *nfg;

        nlh->nlmsg_type = type;
        nlh->nlmsg_flags = NLM_F_REQUEST | flags;
        nlh->nlmsg_seq = seq;
        nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
        nfg->nfgen_family = family;
        nfg->version = NFNETLINK_V0;
        nfg->res_id = htons(resource);
        return nlh;
}

/* When the batch is full its first message is overwritten; the sticky error keeps it from being
 * sent. */
static struct nlmsghdr *batch_put(Nft *nft, uint16_t type, uint16_t flags, uint8_t family,
                                  uint16_t resource)
{
        if (nft->used + MESSAGE_MAX > NFT_BATCH_MAX) {
                nft->error = -EMSGSIZE;
                nft->used = 0;
        }
        return message_at(nft->batch + nft->used, nft->seq++, type, flags, family, resource);
}

static void batch_end(Nft *nft, const struct nlmsghdr *nlh)
{
        nft->used += NLMSG_ALIGN(nlh->nlmsg_len);
}

static struct nlmsghdr *change_put(Nft *nft, uint16_t type, uint16_t flags)
{
        return batch_put(nft, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, NFPROTO_INET, 0);
}

static struct nlmsghdr *begin(Nft *nft)
{
        nft->used = 0;
        nft->error = 0;
        return batch_put(nft, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
}

void nft_begin(Nft *nft)
{
        batch_end(nft, begin(nft));
}

void nft_begin_guarded(Nft *nft, uint32_t generation)
{
        struct nlmsghdr *nlh = begin(nft);

        mnl_attr_put_u32(nlh, NFNL_BATCH_GENID, htonl(generation));
        batch_end(nft, nlh);
}

int nft_commit(Nft *nft)
{
        int fd = mnl_socket_get_fd(nft->socket), r = 0;

        batch_end(nft, batch_put(nft, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
        if (nft->error < 0)
                return nft->error;
        if (mnl_socket_sendto(nft->socket, nft->batch, nft->used) < 0)
                return -errno;
        for (;;) {
                ssize_t got = recv(fd, nft->answer, ANSWER_SIZE, MSG_DONTWAIT);
                struct nlmsghdr *nlh = (struct nlmsghdr *)nft->answer;
                int rest = (int)got;

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return errno == EAGAIN ? r : -errno;
                for (; mnl_nlmsg_ok(nlh, rest); nlh = mnl_nlmsg_next(nlh, &rest)) {
                        const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

                        if (nlh->nlmsg_type == NLMSG_ERROR && r == 0)
                                r = e->error;
                }
        }
}

void nft_add_table(Nft *nft, const char *table)
{
        struct nlmsghdr *nlh = change_put(nft, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);

        mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
        batch_end(nft, nlh);
}

void nft_delete_table(Nft *nft, const char *table)
{
        struct nlmsghdr *nlh = change_put(nft, NFT_MSG_DELTABLE, 0);

        mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
        batch_end(nft, nlh);
}

void nft_add_chain(Nft *nft, const char *table, const char *chain, const NftHook *hook)
{
        struct nlmsghdr *nlh = change_put(nft, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
        struct nlattr *nest;

        mnl_attr_put_strz(nlh, NFTA_CHAIN_TABLE, table);
        mnl_attr_put_strz(nlh, NFTA_CHAIN_NAME, chain);
        if (hook) {
                nest = mnl_attr_nest_start(nlh, NFTA_CHAIN_HOOK);
                mnl_attr_put_u32(nlh, NFTA_HOOK_HOOKNUM, htonl(hook->hook));
                mnl_attr_put_u32(nlh, NFTA_HOOK_PRIORITY, htonl((uint32_t)hook->priority));
                mnl_attr_nest_end(nlh, nest);
                mnl_attr_put_strz(nlh, NFTA_CHAIN_TYPE, hook->type);
        }
        batch_end(nft, nlh);
}

void nft_delete_rule(Nft *nft, const char *table, const char *chain, uint64_t handle)
{
        struct nlmsghdr *nlh = change_put(nft, NFT_MSG_DELRULE, 0);

        mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, table);
        mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, chain);
        mnl_attr_put_u64(nlh, NFTA_RULE_HANDLE, htobe64(handle));
        batch_end(nft, nlh);
}

/* --- rules --- */

void nft_rule_begin(Nft *nft, const char *table, const char *chain)
{
        nft->message = change_put(nft, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
        mnl_attr_put_strz(nft->message, NFTA_RULE_TABLE, table);
        mnl_attr_put_strz(nft->message, NFTA_RULE_CHAIN, chain);
        nft->expressions = mnl_attr_nest_start(nft->message, NFTA_RULE_EXPRESSIONS);
}

static size_t udata_put(uint8_t *to, uint8_t type, const char *text, size_t max)
{
        size_t n = strnlen(text, max);

        to[0] = type;
        to[1] = (uint8_t)(n + 1);
        memcpy(to + 2, text, n);
        to[2 + n] = '\0';
        return n + 3;
}

void nft_rule_end(Nft *nft, const char *comment, const char *tag)
{
        uint8_t data[NFT_COMMENT_MAX + NFT_TAG_MAX + 6];
        size_t n = 0;

        mnl_attr_nest_end(nft->message, nft->expressions);
        if (comment)
                n += udata_put(data, UDATA_COMMENT, comment, NFT_COMMENT_MAX);
        if (tag)
                n += udata_put(data + n, UDATA_TAG, tag, NFT_TAG_MAX);
        /* NFT_USERDATA_MAXLEN; the kernel would refuse the rule. */
        if (n > 256)
                nft->error = -ENAMETOOLONG;
        if (n > 0)
                mnl_attr_put(nft->message, NFTA_RULE_USERDATA, n, data);
        batch_end(nft, nft->message);
}

typedef struct Expression {
        struct nlattr *element, *data;
} Expression;

static Expression expression_begin(Nft *nft, const char *name)
{
        Expression e;

        e.element = mnl_attr_nest_start(nft->message, NFTA_LIST_ELEM);
        mnl_attr_put_strz(nft->message, NFTA_EXPR_NAME, name);
        e.data = mnl_attr_nest_start(nft->message, NFTA_EXPR_DATA);
        return e;
}

static void expression_end(Nft *nft, Expression e)
{
        mnl_attr_nest_end(nft->message, e.data);
        mnl_attr_nest_end(nft->message, e.element);
}

static void put_u32(Nft *nft, uint16_t type, uint32_t value)
{
        mnl_attr_put_u32(nft->message, type, htonl(value));
}

static void put_data(Nft *nft, uint16_t type, const void *data, size_t len)
{
        struct nlattr *nest = mnl_attr_nest_start(nft->message, type);

        mnl_attr_put(nft->message, NFTA_DATA_VALUE, len, data);
        mnl_attr_nest_end(nft->message, nest);
}

static void put_compare(Nft *nft, bool negate, const void *data, size_t len)
{
        Expression e = expression_begin(nft, "cmp");

        put_u32(nft, NFTA_CMP_SREG, NFT_REG_1);
        put_u32(nft, NFTA_CMP_OP, negate ? NFT_CMP_NEQ : NFT_CMP_EQ);
        put_data(nft, NFTA_CMP_DATA, data, len);
        expression_end(nft, e);
}

static void put_meta(Nft *nft, uint32_t key)
{
        Expression e = expression_begin(nft, "meta");

        put_u32(nft, NFTA_META_KEY, key);
        put_u32(nft, NFTA_META_DREG, NFT_REG_1);
        expression_end(nft, e);
}

static void put_payload(Nft *nft, uint32_t base, uint32_t offset, uint32_t len)
{
        Expression e = expression_begin(nft, "payload");

        put_u32(nft, NFTA_PAYLOAD_DREG, NFT_REG_1);
        put_u32(nft, NFTA_PAYLOAD_BASE, base);
        put_u32(nft, NFTA_PAYLOAD_OFFSET, offset);
        put_u32(nft, NFTA_PAYLOAD_LEN, len);
        expression_end(nft, e);
}

static void put_mask(Nft *nft, const IpPrefix *prefix)
{
        static const uint8_t none[16] = { 0 };
        uint8_t mask[16] = { 0 };
        uint32_t size = (uint32_t)ip_size(&prefix->ip);
        Expression e;

        for (unsigned int i = 0; i < prefix->len; i++)
                mask[i / 8] |= (uint8_t)(0x80 >> (i % 8));
        e = expression_begin(nft, "bitwise");
        put_u32(nft, NFTA_BITWISE_SREG, NFT_REG_1);
        put_u32(nft, NFTA_BITWISE_DREG, NFT_REG_1);
        put_u32(nft, NFTA_BITWISE_LEN, size);
        put_data(nft, NFTA_BITWISE_MASK, mask, size);
        put_data(nft, NFTA_BITWISE_XOR, none, size);
        expression_end(nft, e);
}

void nft_match_family(Nft *nft, int family)
{
        uint8_t proto = family == AF_INET6 ? NFPROTO_IPV6 : NFPROTO_IPV4;

        put_meta(nft, NFT_META_NFPROTO);
        put_compare(nft, false, &proto, 1);
}

/* A match of the family must precede. */
void nft_match_address(Nft *nft, NftDirection direction, const IpPrefix *prefix, bool negate)
{
        bool v6 = prefix->ip.family == AF_INET6;
        uint32_t size = (uint32_t)ip_size(&prefix->ip);
        uint32_t source = v6 ? 8 : 12; /* offsets in the IP headers, RFC 8200 and RFC 791 */
        IpAddress network = ip_prefix_first(prefix);

        if (prefix->len == 0 && !negate)
                return;
        put_payload(nft, NFT_PAYLOAD_NETWORK_HEADER,
                    direction == NFT_SOURCE ? source : source + size, size);
        if (prefix->len < ip_bits(&prefix->ip))
                put_mask(nft, prefix);
        put_compare(nft, negate, network.bytes, size);
}

void nft_match_protocol(Nft *nft, uint8_t protocol)
{
        put_meta(nft, NFT_META_L4PROTO);
        put_compare(nft, false, &protocol, 1);
}

/* TCP, UDP and SCTP have the destination port at the same place. A match of one must precede. */
void nft_match_dport(Nft *nft, uint16_t port)
{
        uint16_t wire = htons(port);

        put_payload(nft, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
        put_compare(nft, false, &wire, 2);
}

static void match_link_name(Nft *nft, uint32_t key, const char *name, bool negate)
{
        char padded[16] = { 0 };

        memcpy(padded, name, strnlen(name, sizeof(padded) - 1));
        put_meta(nft, key);
        put_compare(nft, negate, padded, sizeof(padded));
}

void nft_match_iifname(Nft *nft, const char *name, bool negate)
{
        match_link_name(nft, NFT_META_IIFNAME, name, negate);
}

void nft_match_oifname(Nft *nft, const char *name)
{
        match_link_name(nft, NFT_META_OIFNAME, name, false);
}

/* lo has index 1 in every network namespace (LOOPBACK_IFINDEX). */
void nft_match_not_loopback(Nft *nft)
{
        uint32_t lo = 1;

        put_meta(nft, NFT_META_IIF);
        put_compare(nft, true, &lo, sizeof(lo));
}

void nft_match_local_destination(Nft *nft)
{
        Expression e = expression_begin(nft, "fib");
        uint32_t local = RTN_LOCAL;

        put_u32(nft, NFTA_FIB_DREG, NFT_REG_1);
        put_u32(nft, NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
        put_u32(nft, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
        expression_end(nft, e);
        put_compare(nft, false, &local, sizeof(local));
}

static void put_verdict(Nft *nft, int32_t code, const char *chain)
{
        Expression e = expression_begin(nft, "immediate");
        struct nlattr *data, *verdict;

        put_u32(nft, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
        data = mnl_attr_nest_start(nft->message, NFTA_IMMEDIATE_DATA);
        verdict = mnl_attr_nest_start(nft->message, NFTA_DATA_VERDICT);
        put_u32(nft, NFTA_VERDICT_CODE, (uint32_t)code);
        if (chain)
                mnl_attr_put_strz(nft->message, NFTA_VERDICT_CHAIN, chain);
        mnl_attr_nest_end(nft->message, verdict);
        mnl_attr_nest_end(nft->message, data);
        expression_end(nft, e);
}

void nft_jump(Nft *nft, const char *chain)
{
        put_verdict(nft, NFT_JUMP, chain);
}

void nft_drop(Nft *nft)
{
        put_verdict(nft, NF_DROP, NULL);
}

void nft_masquerade(Nft *nft)
{
        Expression e = expression_begin(nft, "masq");

        expression_end(nft, e);
}

static void put_immediate(Nft *nft, uint32_t reg, const void *data, size_t len)
{
        Expression e = expression_begin(nft, "immediate");

        put_u32(nft, NFTA_IMMEDIATE_DREG, reg);
        put_data(nft, NFTA_IMMEDIATE_DATA, data, len);
        expression_end(nft, e);
}

void nft_dnat(Nft *nft, const IpAddress *to, uint16_t port)
{
        uint16_t wire = htons(port);
        Expression e;

        put_immediate(nft, NFT_REG_1, to->bytes, ip_size(to));
        put_immediate(nft, NFT_REG_2, &wire, sizeof(wire));
        e = expression_begin(nft, "nat");
        put_u32(nft, NFTA_NAT_TYPE, NFT_NAT_DNAT);
        put_u32(nft, NFTA_NAT_FAMILY, to->family == AF_INET6 ? NFPROTO_IPV6 : NFPROTO_IPV4);
        put_u32(nft, NFTA_NAT_REG_ADDR_MIN, NFT_REG_1);
        put_u32(nft, NFTA_NAT_REG_PROTO_MIN, NFT_REG_2);
        expression_end(nft, e);
}

/* --- reading --- */

/* One request with one answer; *ret is NULL where the answer is a mere acknowledgement. */
static int ask(Nft *nft, const struct nlmsghdr *request, const struct nlmsghdr **ret)
{
        const struct nlmsghdr *nlh = (const struct nlmsghdr *)nft->answer;
        ssize_t got;

        if (mnl_socket_sendto(nft->socket, request, request->nlmsg_len) < 0)
                return -errno;
        got = mnl_socket_recvfrom(nft->socket, nft->answer, ANSWER_SIZE);
        if (got < 0)
                return -errno;
        if (!mnl_nlmsg_ok(nlh, (int)got))
                return -EBADMSG;
        *ret = nlh->nlmsg_type == NLMSG_ERROR ? NULL : nlh;
        return *ret ? 0 : ((const struct nlmsgerr *)mnl_nlmsg_get_payload(nlh))->error;
}

int nft_generation(Nft *nft, uint32_t *ret)
{
        const struct nlmsghdr *nlh =
                message_at(nft->batch, nft->seq++, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, 0,
                           AF_UNSPEC, 0);
        const struct nlattr *attr;
        int r = ask(nft, nlh, &nlh);

        if (r < 0 || !nlh)
                return r < 0 ? r : -EBADMSG;
        mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
        {
                if (mnl_attr_get_type(attr) == NFTA_GEN_ID &&
                    mnl_attr_get_payload_len(attr) == sizeof(uint32_t)) {
                        *ret = ntohl(mnl_attr_get_u32(attr));
                        return 0;
                }
        }
        return -EBADMSG;
}

int nft_has_table(Nft *nft, const char *table, bool *ret)
{
        struct nlmsghdr *nlh =
                message_at(nft->batch, nft->seq++, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, 0,
                           NFPROTO_INET, 0);
        const struct nlmsghdr *answer;
        int r;

        mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
        r = ask(nft, nlh, &answer);
        *ret = r == 0;
        return r == -ENOENT ? 0 : r;
}

/* User data was written by anybody: every length is checked, and texts must end in NUL. */
static void udata_parse(const struct nlattr *attr, NftRuleInfo *rule)
{
        const uint8_t *p = mnl_attr_get_payload(attr);
        size_t left = mnl_attr_get_payload_len(attr);

        while (left >= 2 && (size_t)p[1] + 2 <= left) {
                size_t n = p[1];
                bool text = n > 0 && p[2 + n - 1] == '\0';

                if (text && p[0] == UDATA_COMMENT)
                        rule->comment = (const char *)p + 2;
                if (text && p[0] == UDATA_TAG)
                        rule->tag = (const char *)p + 2;
                p += n + 2;
                left -= n + 2;
        }
}

static int rule_read(const struct nlmsghdr *nlh, const NftReader *reader)
{
        NftRuleInfo rule = { "", "", "", 0 };
        const struct nlattr *attr;

        mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
        {
                switch (mnl_attr_get_type(attr)) {
                case NFTA_RULE_CHAIN:
                        if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
                                rule.chain = mnl_attr_get_str(attr);
                        break;
                case NFTA_RULE_HANDLE:
                        rule.handle = be64toh(mnl_attr_get_u64(attr));
                        break;
                case NFTA_RULE_USERDATA:
                        udata_parse(attr, &rule);
                        break;
                default:
                        break;
                }
        }
        return reader->func(&rule, reader->data);
}

static int rules_pass(Nft *nft, const char *table, const NftReader *reader)
{
        struct nlmsghdr *nlh =
                message_at(nft->batch, nft->seq++, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE,
                           NLM_F_DUMP, NFPROTO_INET, 0);
        uint32_t seq = nlh->nlmsg_seq;
        bool interrupted = false;
        int r = 0;

        mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, table);
        if (mnl_socket_sendto(nft->socket, nlh, nlh->nlmsg_len) < 0)
                return -errno;
        for (;;) {
                ssize_t got = mnl_socket_recvfrom(nft->socket, nft->answer, ANSWER_SIZE);
                int rest = (int)got;

                if (got < 0)
                        return -errno;
                nlh = (struct nlmsghdr *)nft->answer;
                for (; mnl_nlmsg_ok(nlh, rest); nlh = mnl_nlmsg_next(nlh, &rest)) {
                        if (nlh->nlmsg_seq != seq)
                                continue;
                        interrupted |= (nlh->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
                        if (nlh->nlmsg_type == NLMSG_DONE)
                                return interrupted ? -EINTR : r;
                        if (nlh->nlmsg_type == NLMSG_ERROR)
                                return ((struct nlmsgerr *)mnl_nlmsg_get_payload(nlh))->error;
                        if (r == 0)
                                r = rule_read(nlh, reader);
                }
        }
}

int nft_read_rules(Nft *nft, const char *table, const NftReader *reader)
{
        int r = -EINTR;

        for (int i = 0; r == -EINTR && i < DUMP_TRIES; i++) {
                reader->reset(reader->data);
                r = rules_pass(nft, table, reader);
        }
        return r == -ENOENT ? 0 : r;
}
