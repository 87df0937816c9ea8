/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_PLUGINS_RULES_H
#define KUBELITE_CNI_PLUGINS_RULES_H

#include "cni/plugins/nft.h"
#include "cni/plugins/plugin.h"
#include "cni/plugins/result.h"

/*
 * The nftables table of a plugin: made with the first rule, removed with the last one. Every rule
 * of an attachment carries its owner ("<network>/<container>/<interface>") as comment, so removal
 * never touches a neighbour's rule even if both were given the same address.
 *
 * Closing the socket after rules were removed waits for an RCU grace period (the kernel frees the
 * rules first): callers keep it open over whatever else they have to do.
 */
typedef struct RuleTable {
        const char *name;
        /* Chains and the rules that belong to nobody. */
        void (*make)(Nft *nft);
        /* Whether any rule has this tag still: told after one was removed, and before an empty
         * table goes. May be NULL. */
        void (*tag_used)(const char *tag, bool used);
} RuleTable;

/* Adds rules in one transaction, together with the table if it is not there. */
int rules_add(Nft *nft, const RuleTable *table, void (*add)(Nft *nft, const void *data),
              const void *data, KlError **err);
int rules_remove_owner(Nft *nft, const RuleTable *table, const char *owner, KlError **err);
/* All owners of the call's network that are not among its valid attachments. */
int rules_collect(Nft *nft, const RuleTable *table, const PluginCall *call,
                  const PluginAttachment *attachments, size_t n, KlError **err);
int rules_count(Nft *nft, const RuleTable *table, const char *owner, size_t *ret, KlError **err);
/* PLUGIN_UNAVAILABLE when the kernel has no nftables. */
int rules_check_kernel(KlError **err);

/* The bridge's ipMasq: what leaves for beyond the network gets the node's address. */
extern const RuleTable masquerade_table;
int masquerade_add(Nft *nft, const char *owner, const ResultIp *ips, size_t n, KlError **err);

#endif
