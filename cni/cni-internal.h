/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_CNI_INTERNAL_H
#define KUBELITE_CNI_CNI_INTERNAL_H

#include "base/list.h"
#include "base/map.h"
#include "cni/cni-record.h"
#include "cni/cni.h"
#include "loop/worker.h"

/* What one plugin may print. */
#define CNI_OUTPUT_MAX (1024 * 1024)
#define CNI_TIMEOUT_MS 60000
/* VERSION and STATUS touch nothing; GC keeps all other calls waiting. */
#define CNI_QUERY_TIMEOUT_MS 10000
/* DELs of stale attachments at once, and when those that failed are tried again. */
#define CNI_COLLECT_PARALLEL 4
#define CNI_COLLECT_RETRY_MS 60000
#define CNI_STATUS_INTERVAL_MS 60000
#define CNI_STATUS_RETRY_MS 5000

typedef struct CniFollow CniFollow;
typedef struct CniCollector CniCollector;
typedef struct CniHealth CniHealth;

struct Cni {
        Loop *loop;
        char *conf_dir, *cache_dir;
        char **bin_dirs;
        char *search_path; /* bin_dirs joined by ':' */
        uint64_t timeout_ms;
        void (*changed)(void *data);
        void *data;
        char owner[33];
        CniConfig *config; /* NULL: none */
        Map *versions;     /* plugin binary -> PluginVersions */
        List calls;        /* CniCall.link, oldest first */
        size_t n_running;
        Deferred *kick; /* cni_calls_next */
        CniFollow *follow;
        CniCollector *collector;
        CniHealth *health;
};

/* --- invoke.c --- */

typedef struct CniInvocation {
        const char *verb; /* "ADD" */
        const Value *plugin;
        const char *network;
        CniVersion version;
        const CniRecord *record;       /* NULL for VERSION, STATUS and GC */
        const char *previous;          /* prevResult as JSON, or NULL */
        const char *valid_attachments; /* for GC: JSON array, or NULL */
        uint64_t timeout_ms;
} CniInvocation;

int cni_find_plugin(const Cni *cni, const char *type, char **ret, KlError **err);
int cni_invoke(Cni *cni, const CniInvocation *inv, WorkerFunc done, void *data, Worker **ret,
               KlError **err);
/* What came of it: 0, or the error with upstream's wording. */
int cni_outcome(const WorkerResult *result, uint64_t timeout_ms, KlError **err);
/* Prefixes `plugin type="bridge" failed (add)`. */
int cni_wrap_plugin(KlError **err, int code, const Value *plugin, const char *verb);

/* --- versions.c: which versions a plugin speaks, asked once a binary --- */

typedef struct CniChoice CniChoice;
typedef void (*CniChoiceFunc)(CniVersion version, const KlError *error, void *data);

/* The highest version that the configuration and all its plugins speak. Where there is nothing to
 * ask, the callback comes within the call and *ret is NULL; else the choice is freed before it. */
int cni_choose_version(Cni *cni, const CniConfig *config, CniChoiceFunc done, void *data,
                       CniChoice **ret, KlError **err);
CniChoice *cni_choice_free(CniChoice *choice);

/* --- call.c --- */

/* Starts what may run now; called through cni->kick. */
void cni_calls_next(Cni *cni);
bool cni_has_call(const Cni *cni, const char *id);
/* Ends all calls without their callbacks. */
void cni_calls_drop(Cni *cni);
/* Frees the configuration in use, loads it anew, tells `changed`. */
void cni_reload(Cni *cni);

/* --- collect.c --- */

/* True while GC wants to be, or is, alone: no new call may start. */
bool cni_collector_blocks(const Cni *cni);
int cni_collector_new(Cni *cni, KlError **err);
/* A call ended; what could not be taken down is for the collector. */
void cni_collector_call_ended(Cni *cni, bool left_behind);
/* GC may be possible now. */
void cni_collector_config_changed(Cni *cni);
CniCollector *cni_collector_free(CniCollector *collector);

/* --- follow.c: the configuration directory --- */

int cni_follow_new(Cni *cni, KlError **err);
CniFollow *cni_follow_free(CniFollow *follow);

/* --- health.c: the STATUS verb --- */

int cni_health_new(Cni *cni, KlError **err);
CniHealth *cni_health_free(CniHealth *health);
/* Asks anew, e.g. after the configuration changed. */
void cni_health_check(Cni *cni);
/* NULL when the network in use is well. */
const char *cni_health_message(const Cni *cni);

#endif
