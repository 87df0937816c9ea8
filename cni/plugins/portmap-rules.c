/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The rules of portmap:
 *
 *   prerouting, output  what is for an address of the node goes through `hostports`
 *   hostports           a rule for each mapping: destination becomes the container
 *   masquerading        hairpin (a container to itself) and localhost get the node's address, else
 *                       the answer would not come back this way
 *   guard               nothing but lo may carry 127.0.0.0/8: route_localnet, without which
 *                       localhost has no host ports, would open the node's local services to its
 *                       neighbours (CVE-2020-8558)
 *
 * The NAT hooks come after those of kube-proxy, so that a host port never takes a service's
 * connection (CVE-2019-9946); only what is for the node itself is looked at (CVE-2025-67499).
 */

#include "cni/plugins/portmap.h"

#include "base/str.h"
#include "cni/plugins/netns.h"

#include <linux/netfilter.h>

#define TABLE "kubelite_portmap"
#define HOSTPORTS "hostports"
#define MASQUERADING "masquerading"

/* nft's dstnat and srcnat are -100 and 100, raw is -300. */
#define PRIORITY_DNAT (-100 + 5)
#define PRIORITY_SNAT 100
#define PRIORITY_GUARD (-300)

static const IpPrefix localhost4 = { { AF_INET, { 127 } }, 8 };
static const IpPrefix localhost6 = { { AF_INET6, { [15] = 1 } }, 128 };

static void make_guard(Nft *nft)
{
        static const NftHook hook = { "filter", NF_INET_PRE_ROUTING, PRIORITY_GUARD };
        static const NftDirection directions[] = { NFT_SOURCE, NFT_DESTINATION };

        nft_add_chain(nft, TABLE, "guard", &hook);
        for (size_t i = 0; i < ELEMENTS(directions); i++) {
                nft_rule_begin(nft, TABLE, "guard");
                nft_match_not_loopback(nft);
                nft_match_family(nft, AF_INET);
                nft_match_address(nft, directions[i], &localhost4, false);
                nft_drop(nft);
                nft_rule_end(nft, NULL, NULL);
        }
}

static void make_entry(Nft *nft, const char *chain, uint32_t hook_number)
{
        NftHook hook = { "nat", hook_number, PRIORITY_DNAT };

        nft_add_chain(nft, TABLE, chain, &hook);
        nft_rule_begin(nft, TABLE, chain);
        nft_match_local_destination(nft);
        nft_jump(nft, HOSTPORTS);
        nft_rule_end(nft, NULL, NULL);
}

static void make_table(Nft *nft)
{
        static const NftHook snat = { "nat", NF_INET_POST_ROUTING, PRIORITY_SNAT };

        nft_add_chain(nft, TABLE, HOSTPORTS, NULL);
        nft_add_chain(nft, TABLE, MASQUERADING, &snat);
        make_guard(nft);
        make_entry(nft, "prerouting", NF_INET_PRE_ROUTING);
        make_entry(nft, "output", NF_INET_LOCAL_OUT);
}

/* Loopback routing over a link is on exactly as long as a rule needs it. */
static void set_route_localnet(const char *link, bool used)
{
        if (plugin_ifname_valid(link))
                sysctl_set(used ? "1" : "0", "ipv4/conf/%s/route_localnet", link);
}

const RuleTable portmap_table = { TABLE, make_table, set_route_localnet };

bool portmap_applies(const PortMapping *mapping, int family)
{
        return mapping->host_ip.family == AF_UNSPEC || mapping->host_ip.family == family;
}

static void match_conditions(Nft *nft, const Conditions *conditions)
{
        for (size_t i = 0; i < conditions->n; i++) {
                const Condition *c = &conditions->list[i];

                if (c->kind == CONDITION_IIFNAME)
                        nft_match_iifname(nft, c->link, c->negate);
                else
                        nft_match_address(
                                nft, c->kind == CONDITION_SOURCE ? NFT_SOURCE : NFT_DESTINATION,
                                &c->prefix, c->negate);
        }
}

static void add_mapping(Nft *nft, const PortmapRules *rules, const IpAddress *container,
                        const PortMapping *mapping)
{
        const PortmapConfig *config = rules->config;
        IpPrefix host = { mapping->host_ip, ip_bits(&mapping->host_ip) };
        bool v6 = container->family == AF_INET6;

        nft_rule_begin(nft, TABLE, HOSTPORTS);
        nft_match_family(nft, container->family);
        match_conditions(nft, v6 ? &config->conditions_v6 : &config->conditions_v4);
        if (host.len > 0 && !ip_is_zero(&host.ip))
                nft_match_address(nft, NFT_DESTINATION, &host, false);
        /* ::1 cannot be routed; refused at once, a client of "localhost" goes on to 127.0.0.1. */
        else if (v6)
                nft_match_address(nft, NFT_DESTINATION, &localhost6, true);
        nft_match_protocol(nft, mapping->protocol);
        nft_match_dport(nft, mapping->host_port);
        nft_dnat(nft, container, mapping->container_port);
        nft_rule_end(nft, rules->owner, NULL);
}

static void add_masquerade(Nft *nft, const PortmapRules *rules, const IpAddress *container,
                           const IpPrefix *source, const char *link)
{
        IpPrefix to = { *container, ip_bits(container) };

        nft_rule_begin(nft, TABLE, MASQUERADING);
        nft_match_family(nft, container->family);
        nft_match_address(nft, NFT_SOURCE, source, false);
        nft_match_address(nft, NFT_DESTINATION, &to, false);
        nft_masquerade(nft);
        nft_rule_end(nft, rules->owner, link);
}

static bool needs_localhost(const PortmapRules *rules, const IpAddress *container)
{
        return rules->config->snat && container->family == AF_INET && *rules->link;
}

static void add_family(Nft *nft, const PortmapRules *rules, const IpAddress *container)
{
        const PortmapConfig *config = rules->config;
        IpPrefix self = { *container, ip_bits(container) };

        if (container->family == AF_UNSPEC)
                return;
        for (size_t i = 0; i < config->n_mappings; i++)
                if (portmap_applies(&config->mappings[i], container->family))
                        add_mapping(nft, rules, container, &config->mappings[i]);
        if (config->masquerade_all)
                self.len = 0;
        if (config->snat)
                add_masquerade(nft, rules, container, &self, NULL);
        if (needs_localhost(rules, container))
                add_masquerade(nft, rules, container, &localhost4, rules->link);
}

static size_t count_family(const PortmapRules *rules, const IpAddress *container)
{
        size_t n = 0;

        if (container->family == AF_UNSPEC)
                return 0;
        for (size_t i = 0; i < rules->config->n_mappings; i++)
                n += portmap_applies(&rules->config->mappings[i], container->family);
        return n + rules->config->snat + needs_localhost(rules, container);
}

size_t portmap_rules_expected(const PortmapRules *rules)
{
        return count_family(rules, &rules->v4) + count_family(rules, &rules->v6);
}

static void add_all(Nft *nft, const void *data)
{
        const PortmapRules *rules = data;

        add_family(nft, rules, &rules->v4);
        add_family(nft, rules, &rules->v6);
}

/* The guard is in place before the link may route loopback addresses. */
int portmap_rules_add(Nft *nft, const PortmapRules *rules, KlError **err)
{
        int r = rules_add(nft, &portmap_table, add_all, rules, err);

        if (r < 0 || !needs_localhost(rules, &rules->v4))
                return r;
        r = sysctl_set("1", "ipv4/conf/%s/route_localnet", rules->link);
        return r < 0 ? kl_error_errno(err, r, NULL, "enable route_localnet on '%s'", rules->link)
                     : 0;
}
