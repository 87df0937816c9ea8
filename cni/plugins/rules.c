/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Life of a plugin's table without a lock. Adding asks whether the table is there (a transaction
 * that fails costs an RCU grace period, a question nothing); if it is missing, it comes exclusively
 * with the rules; whoever loses that race starts over. Removing an owner's rules needs no guard,
 * since a table with rules is removed by nobody. Removing the empty table is guarded by the rule
 * set's generation: it fails if anybody changed anything meanwhile.
 */

#include "cni/plugins/rules.h"

#include "base/str.h"

#include <linux/netfilter.h>

#ifndef ERESTART
#define ERESTART 85
#endif

/* Each lost race means that somebody else made progress. */
#define RACES_MAX 256

int rules_add(Nft *nft, const RuleTable *table, void (*add)(Nft *nft, const void *data),
              const void *data, KlError **err)
{
        int r = 0;

        for (int i = 0; i < RACES_MAX; i++) {
                bool known;

                r = nft_has_table(nft, table->name, &known);
                if (r < 0)
                        break;
                nft_begin(nft);
                if (!known) {
                        nft_add_table(nft, table->name);
                        table->make(nft);
                }
                add(nft, data);
                r = nft_commit(nft);
                if (r != (known ? -ENOENT : -EEXIST) && r != -ERESTART)
                        break;
        }
        return r < 0 ? kl_error_errno(err, r, NULL, "add rules to the nftables table '%s'",
                                      table->name)
                     : 0;
}

/* --- reading --- */

typedef struct Found {
        char chain[32];
        uint64_t handle;
        char tag[NFT_TAG_MAX + 1];
        bool doomed, owned;
} Found;

typedef struct Search {
        bool (*matches)(const struct Search *search, const char *owner);
        const char *owner;
        const PluginCall *call;
        const PluginAttachment *attachments;
        size_t n_attachments;
        Found *found;
        size_t n, cap, n_doomed;
} Search;

static void search_reset(void *data)
{
        Search *search = data;

        search->n = search->n_doomed = 0;
}

static int search_take(const NftRuleInfo *rule, void *data)
{
        Search *search = data;
        Found *found;

        if (!*rule->comment)
                return 0;
        if (search->n == search->cap) {
                size_t cap = search->cap ? search->cap * 2 : 64;

                found = reallocarray(search->found, cap, sizeof(*found));
                if (!found)
                        return -ENOMEM;
                search->found = found;
                search->cap = cap;
        }
        found = &search->found[search->n++];
        *found =
                (Found){ .handle = rule->handle, .doomed = search->matches(search, rule->comment) };
        snprintf(found->chain, sizeof(found->chain), "%s", rule->chain);
        snprintf(found->tag, sizeof(found->tag), "%s", rule->tag);
        if (found->doomed)
                search->n_doomed++;
        return 0;
}

static void search_deinit(Search *search)
{
        free(search->found);
}

static int search_run(Search *search, Nft *nft, const RuleTable *table, KlError **err)
{
        NftReader reader = { search_reset, search_take, search };
        int r = nft_read_rules(nft, table->name, &reader);

        return r < 0 ? kl_error_errno(err, r, NULL, "read the nftables table '%s'", table->name)
                     : 0;
}

static bool matches_owner(const Search *search, const char *owner)
{
        return str_eq(search->owner, owner);
}

static bool matches_stale(const Search *search, const char *owner)
{
        return plugin_owner_is_stale(search->call, search->attachments, search->n_attachments,
                                     owner);
}

static bool tag_is_left(const Search *search, const char *tag)
{
        for (size_t i = 0; i < search->n; i++)
                if (!search->found[i].doomed && str_eq(search->found[i].tag, tag))
                        return true;
        return false;
}

/* Tells the table's owner about the tags of doomed rules; true if one of them is used no more. */
static bool tags_tell(const RuleTable *table, const Search *doomed, const Search *now)
{
        bool unused = false;

        for (size_t i = 0; table->tag_used && i < doomed->n; i++) {
                const Found *found = &doomed->found[i];
                bool left;

                if (!found->doomed || !*found->tag)
                        continue;
                left = tag_is_left(now, found->tag);
                table->tag_used(found->tag, left);
                unused |= !left;
        }
        return unused;
}

/*
 * One look at what is left: 0 done, 1 if somebody changed the rule set while we drew conclusions
 * from it. Of several that remove their rules at once, the last one sees the table empty.
 */
static int settle_once(Nft *nft, const RuleTable *table, const Search *doomed, KlError **err)
{
        __attribute__((cleanup(search_deinit))) Search now = { .matches = matches_owner };
        uint32_t generation, later;
        int r = nft_generation(nft, &generation);

        if (r == 0)
                r = search_run(&now, nft, table, err);
        if (r < 0)
                return r;
        if (tags_tell(table, doomed, &now) && now.n > 0) {
                r = nft_generation(nft, &later);
                return r < 0 ? r : later != generation;
        }
        if (now.n > 0)
                return 0;
        nft_begin_guarded(nft, generation);
        nft_delete_table(nft, table->name);
        r = nft_commit(nft);
        if (r == -ERESTART)
                return 1;
        return r == -ENOENT ? 0 : r;
}

/* A table that changes all the time is in use. */
static int settle(Nft *nft, const RuleTable *table, const Search *doomed, KlError **err)
{
        int r = 1;

        for (int i = 0; r > 0 && i < RACES_MAX; i++)
                r = settle_once(nft, table, doomed, err);
        return r < 0 ? kl_error_errno(err, r, NULL, "settle the nftables table '%s'", table->name)
                     : 0;
}

static int remove_matching(Nft *nft, Search *search, const RuleTable *table, KlError **err)
{
        int r = search_run(search, nft, table, err);

        if (r < 0 || search->n_doomed == 0)
                return r;
        nft_begin(nft);
        for (size_t i = 0; i < search->n; i++)
                if (search->found[i].doomed)
                        nft_delete_rule(nft, table->name, search->found[i].chain,
                                        search->found[i].handle);
        r = nft_commit(nft);
        if (r < 0 && r != -ENOENT)
                return kl_error_errno(err, r, NULL, "delete rules of the nftables table '%s'",
                                      table->name);
        return settle(nft, table, search, err);
}

int rules_remove_owner(Nft *nft, const RuleTable *table, const char *owner, KlError **err)
{
        __attribute__((cleanup(search_deinit)))
        Search search = { .matches = matches_owner, .owner = owner };

        return remove_matching(nft, &search, table, err);
}

int rules_collect(Nft *nft, const RuleTable *table, const PluginCall *call,
                  const PluginAttachment *attachments, size_t n, KlError **err)
{
        __attribute__((cleanup(search_deinit))) Search search = {
                .matches = matches_stale,
                .call = call,
                .attachments = attachments,
                .n_attachments = n,
        };

        return remove_matching(nft, &search, table, err);
}

int rules_count(Nft *nft, const RuleTable *table, const char *owner, size_t *ret, KlError **err)
{
        __attribute__((cleanup(search_deinit)))
        Search search = { .matches = matches_owner, .owner = owner };
        int r = search_run(&search, nft, table, err);

        *ret = search.n_doomed;
        return r;
}

int rules_check_kernel(KlError **err)
{
        KL_AUTO(nft_free) Nft *nft = NULL;
        uint32_t generation;
        int r = nft_open(&nft, NULL);

        if (r == 0)
                r = nft_generation(nft, &generation);
        return r < 0 ? plugin_error(err, PLUGIN_UNAVAILABLE, "nftables: %s", strerror(-r)) : 0;
}

/* --- ipMasq --- */

#define MASQUERADE_TABLE "kubelite_masquerade"
#define MASQUERADE_CHAIN "postrouting"

static void masquerade_make(Nft *nft)
{
        static const NftHook hook = { "nat", NF_INET_POST_ROUTING, 100 };

        nft_add_chain(nft, MASQUERADE_TABLE, MASQUERADE_CHAIN, &hook);
}

const RuleTable masquerade_table = { .name = MASQUERADE_TABLE, .make = masquerade_make };

typedef struct Masquerade {
        const char *owner;
        const ResultIp *ips;
        size_t n;
} Masquerade;

/* From this address to anywhere but its own network and multicast groups. */
static void masquerade_rules(Nft *nft, const void *data)
{
        static const IpPrefix multicast4 = { { AF_INET, { 224 } }, 4 };
        static const IpPrefix multicast6 = { { AF_INET6, { 0xff } }, 8 };
        const Masquerade *m = data;

        for (size_t i = 0; i < m->n; i++) {
                const IpPrefix *network = &m->ips[i].address;
                IpPrefix host = { network->ip, ip_bits(&network->ip) };
                bool v6 = network->ip.family == AF_INET6;

                nft_rule_begin(nft, MASQUERADE_TABLE, MASQUERADE_CHAIN);
                nft_match_family(nft, network->ip.family);
                nft_match_address(nft, NFT_SOURCE, &host, false);
                nft_match_address(nft, NFT_DESTINATION, network, true);
                nft_match_address(nft, NFT_DESTINATION, v6 ? &multicast6 : &multicast4, true);
                nft_masquerade(nft);
                nft_rule_end(nft, m->owner, NULL);
        }
}

int masquerade_add(Nft *nft, const char *owner, const ResultIp *ips, size_t n, KlError **err)
{
        Masquerade m = { owner, ips, n };

        return rules_add(nft, &masquerade_table, masquerade_rules, &m, err);
}
