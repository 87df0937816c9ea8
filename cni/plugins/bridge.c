/* SPDX-License-Identifier: Apache-2.0 */

/*
 * DEL, STATUS and GC of bridge. The node's end of a pair carries its owner as alias, so it is found
 * and removed (and with it the container's end) whether or not the namespace can still be opened.
 * The bridge itself stays: it belongs to all.
 */

#include "cni/plugins/bridge.h"

#include "base/str.h"
#include "cni/plugins/ipam.h"
#include "cni/plugins/netns.h"
#include "cni/plugins/rules.h"

#include <fcntl.h>

/* Gone meanwhile, perhaps with its namespace, is as good. */
static int delete_link(Rtnl *rtnl, int index, KlError **err)
{
        KL_AUTOERR why = NULL;
        int r;

        rtnl_del_link(rtnl, index);
        r = rtnl_commit(rtnl, &why);
        return r < 0 && r != -ENODEV ? kl_error_move(err, &why) : 0;
}

static int delete_in_container(const PluginCall *call, KlError **err)
{
        KL_AUTO(rtnl_free) Rtnl *rtnl = NULL;
        LinkInfo link;
        int r = rtnl_open(&rtnl, err);

        if (r < 0)
                return r;
        r = rtnl_link_get(rtnl, call->ifname, &link);
        if (r == -ENODEV)
                return 0;
        if (r < 0)
                return kl_error_errno(err, r, NULL, "look up '%s'", call->ifname);
        return delete_link(rtnl, link.index, err);
}

/* For pairs that another implementation of bridge has made. */
static int delete_foreign(const PluginCall *call, KlError **err)
{
        KL_AUTOFD int own = -1, netns = -1;
        int r, back;

        if (str_empty(call->netns))
                return 0;
        netns = netns_open(call->netns);
        if (netns == -ENOENT)
                return 0;
        own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (netns < 0 || own < 0)
                return plugin_error(err, PLUGIN_FAILED, "failed to open netns '%s'", call->netns);
        r = netns_enter(netns, err);
        if (r < 0)
                return r;
        r = delete_in_container(call, err);
        back = netns_enter(own, err);
        return r < 0 ? r : back;
}

static int delete_pair(const PluginCall *call, const char *owner, KlError **err)
{
        KL_AUTO(rtnl_free) Rtnl *rtnl = NULL;
        LinkInfo link;
        int r = rtnl_open(&rtnl, err);

        if (r < 0)
                return r;
        if (bridge_veth_find(rtnl, owner, &link) == 0)
                return delete_link(rtnl, link.index, err);
        return delete_foreign(call, err);
}

static int delete_rules(Nft **nft, const char *owner, KlError **err)
{
        int r = nft_open(nft, err);

        return r < 0 ? r : rules_remove_owner(*nft, &masquerade_table, owner, err);
}

/*
 * The address is released last, when nothing uses it any more. The rules go first so that the
 * kernel frees them while it takes down the links; a failure there holds up nothing else.
 */
static int bridge_del(const PluginCall *call, KlError **err)
{
        KL_AUTO(nft_free) Nft *nft = NULL;
        char owner[PLUGIN_OWNER_SIZE];
        BridgeConfig config;
        int r = bridge_config_parse(call, &config, err), next;

        if (r < 0)
                return r;
        plugin_owner(call, owner);
        if (config.ip_masq)
                r = delete_rules(&nft, owner, err);
        next = delete_pair(call, owner, err);
        if (next == 0 && config.ipam)
                next = ipam_run(call, config.ipam, "DEL", err);
        return r < 0 ? r : next;
}

static int bridge_status(const PluginCall *call, KlError **err)
{
        BridgeConfig config;
        int r = bridge_config_parse(call, &config, err);

        if (r == 0 && config.ip_masq)
                r = rules_check_kernel(err);
        if (r == 0 && config.ipam)
                r = ipam_run(call, config.ipam, "STATUS", err);
        return r;
}

/* --- GC --- */

typedef struct Stale {
        const PluginCall *call;
        const PluginAttachment *attachments;
        size_t n;
        Arena *arena;
        int *links;
        size_t n_links, cap;
} Stale;

static int collect_link(const LinkInfo *link, void *data)
{
        Stale *stale = data;

        if (!str_eq(link->kind, "veth") ||
            !plugin_owner_is_stale(stale->call, stale->attachments, stale->n, link->alias))
                return 0;
        if (stale->n_links == stale->cap) {
                size_t cap = stale->cap ? stale->cap * 2 : 64;
                int *links = ARENA_ARRAY(stale->arena, cap, int);

                if (!links)
                        return -ENOMEM;
                if (stale->n_links > 0)
                        memcpy(links, stale->links, stale->n_links * sizeof(*links));
                stale->links = links;
                stale->cap = cap;
        }
        stale->links[stale->n_links++] = link->index;
        return 0;
}

static int collect_pairs(const PluginCall *call, const PluginAttachment *attachments, size_t n,
                         KlError **err)
{
        Stale stale = { .call = call, .attachments = attachments, .n = n, .arena = call->arena };
        KL_AUTO(rtnl_free) Rtnl *rtnl = NULL;
        int r = rtnl_open(&rtnl, err);

        if (r < 0)
                return r;
        r = rtnl_links(rtnl, collect_link, &stale);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "list interfaces");
        for (size_t i = 0; r == 0 && i < stale.n_links; i++)
                r = delete_link(rtnl, stale.links[i], err);
        return r;
}

static int bridge_gc(const PluginCall *call, KlError **err)
{
        KL_AUTO(nft_free) Nft *nft = NULL;
        PluginAttachment *attachments;
        BridgeConfig config;
        size_t n;
        int r = bridge_config_parse(call, &config, err);

        if (r == 0)
                r = plugin_valid_attachments(call, &attachments, &n, err);
        if (r == 0)
                r = collect_pairs(call, attachments, n, err);
        if (r == 0 && config.ipam)
                r = ipam_run(call, config.ipam, "GC", err);
        if (r == 0)
                r = nft_open(&nft, err);
        if (r == 0)
                r = rules_collect(nft, &masquerade_table, call, attachments, n, err);
        return r;
}

const PluginOps bridge_ops = {
        .add = bridge_add,
        .del = bridge_del,
        .check = bridge_check,
        .status = bridge_status,
        .gc = bridge_gc,
};
