/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_PLUGINS_NFT_H
#define KUBELITE_CNI_PLUGINS_NFT_H

#include "cni/plugins/address.h"

#include "base/error.h"

#include <stdbool.h>

/*
 * nftables tables of the inet family, by netlink. A batch is one transaction: all of it happens or
 * nothing. Rules carry a comment (shown by `nft list`) that says whose they are, and may carry a
 * tag that only we read.
 */
typedef struct Nft Nft;

#define NFT_COMMENT_MAX 250
#define NFT_TAG_MAX 15
/* nf_tables needs a named limit for what one transaction may hold. */
#define NFT_BATCH_MAX (1024 * 1024)

int nft_open(Nft **ret, KlError **err);
Nft *nft_free(Nft *nft);
KL_DEFINE_CLEANUP(Nft *, nft_free);

/* --- a transaction --- */

void nft_begin(Nft *nft);
/* Fails with -ERESTART if the rule set has changed since nft_generation told this number. */
void nft_begin_guarded(Nft *nft, uint32_t generation);
/* 0 or the first error: -ENOENT, -EEXIST, -ERESTART, … */
int nft_commit(Nft *nft);

int nft_generation(Nft *nft, uint32_t *ret);
int nft_has_table(Nft *nft, const char *table, bool *ret);

/* Fails with -EEXIST if there is such a table. */
void nft_add_table(Nft *nft, const char *table);
void nft_delete_table(Nft *nft, const char *table);

typedef struct NftHook {
        const char *type; /* "nat", "filter" */
        uint32_t hook;    /* NF_INET_… */
        int32_t priority;
} NftHook;

/* hook NULL: a chain that is only jumped to. */
void nft_add_chain(Nft *nft, const char *table, const char *chain, const NftHook *hook);
void nft_delete_rule(Nft *nft, const char *table, const char *chain, uint64_t handle);

/* --- a rule: begin, matches, verdict, end --- */

void nft_rule_begin(Nft *nft, const char *table, const char *chain);
/* comment and tag may be NULL. */
void nft_rule_end(Nft *nft, const char *comment, const char *tag);

typedef enum NftDirection { NFT_SOURCE, NFT_DESTINATION } NftDirection;

void nft_match_family(Nft *nft, int family);
void nft_match_address(Nft *nft, NftDirection direction, const IpPrefix *prefix, bool negate);
void nft_match_protocol(Nft *nft, uint8_t protocol);
void nft_match_dport(Nft *nft, uint16_t port);
void nft_match_iifname(Nft *nft, const char *name, bool negate);
void nft_match_oifname(Nft *nft, const char *name);
void nft_match_not_loopback(Nft *nft); /* came in by another link than lo */
void nft_match_local_destination(Nft *nft);

void nft_jump(Nft *nft, const char *chain);
void nft_drop(Nft *nft);
void nft_masquerade(Nft *nft);
void nft_dnat(Nft *nft, const IpAddress *to, uint16_t port);

/* --- reading --- */

typedef struct NftRuleInfo {
        const char *chain, *comment, *tag; /* "" where there is none */
        uint64_t handle;
} NftRuleInfo;

/* Calls func for each rule of the table, nothing if there is no table. Restarts when the rule set
 * changes underneath: `reset` is called before each pass. */
typedef struct NftReader {
        void (*reset)(void *data);
        int (*func)(const NftRuleInfo *rule, void *data);
        void *data;
} NftReader;

int nft_read_rules(Nft *nft, const char *table, const NftReader *reader);

#endif
