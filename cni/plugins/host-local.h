/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_PLUGINS_HOST_LOCAL_H
#define KUBELITE_CNI_PLUGINS_HOST_LOCAL_H

#include "cni/plugins/address.h"
#include "cni/plugins/plugin.h"
#include "cni/plugins/result.h"

/*
 * host-local: addresses from ranges, one file per reservation in <dataDir>/<network>. Files, lock
 * and the order of allocation are those of the reference plugin, so that either may continue what
 * the other began.
 */
extern const PluginOps host_local_ops;

#define HOST_LOCAL_DATA_DIR "/var/lib/cni/networks"
#define HOST_LOCAL_RANGE_SETS_MAX 64
#define HOST_LOCAL_RANGES_MAX 256
#define HOST_LOCAL_REQUESTS_MAX 64
#define HOST_LOCAL_LOCK_S 30

/* --- configuration --- */

/* start, end: inclusive. The gateway is never given out. */
typedef struct Range {
        IpPrefix subnet;
        IpAddress start, end, gateway;
} Range;

typedef struct RangeSet {
        Range *ranges;
        size_t n;
} RangeSet;

typedef struct HostLocalConfig {
        RangeSet *sets;
        size_t n_sets;
        ResultRoute *routes;
        size_t n_routes;
        const char *data_dir;
        const char *resolv_conf; /* NULL: none */
        IpAddress *requests;
        size_t n_requests;
} HostLocalConfig;

int host_local_config_parse(const PluginCall *call, HostLocalConfig *ret, KlError **err);

/* Fills what is not given (AF_UNSPEC) and checks that all of it fits together. */
int range_complete(Range *range, KlError **err);
bool range_contains(const Range *range, const IpAddress *ip);
/* The range with this address, or NULL. */
const Range *range_set_find(const RangeSet *set, const IpAddress *ip);
/* "10.0.0.1-10.0.0.254,…" */
void range_set_format(const RangeSet *set, Buf *to);

/* The servers, domains and options of a resolv.conf. */
int resolv_conf_read(const char *path, Arena *arena, ResultDns *ret, KlError **err);

/* --- reservations --- */

typedef struct Store Store;

/* Makes the directory, and waits for its lock; PLUGIN_TRY_AGAIN after HOST_LOCAL_LOCK_S. */
int store_open(const char *data_dir, const char *network, Store **ret, KlError **err);
Store *store_free(Store *store);
KL_DEFINE_CLEANUP(Store *, store_free);

/* 0, or 1 if somebody has it. */
int store_reserve(Store *store, const char *id, const char *ifname, const IpAddress *ip,
                  KlError **err);
/* The address given out last from a range set; -ENOENT if none. */
int store_last(Store *store, size_t set, IpAddress *ret);
int store_set_last(Store *store, size_t set, const IpAddress *ip, KlError **err);
int store_release(Store *store, const char *id, const char *ifname, KlError **err);
/* What an attachment has; *ret in the arena. */
int store_find(Store *store, const char *id, const char *ifname, Arena *arena, IpAddress **ret,
               size_t *ret_n, KlError **err);
int store_collect(Store *store, const PluginAttachment *attachments, size_t n, KlError **err);

#endif
