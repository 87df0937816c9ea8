/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_MANAGER_INTERNAL_H
#define KUBELITE_POD_MANAGER_INTERNAL_H

#include "base/map.h"
#include "loop/worker.h"
#include "pod/manager.h"
#include "pod/mirror.h"
#include "pod/source-file.h"
#include "pod/sync.h"
#include "pod/worker.h"

typedef struct PodEntry {
        PodManager *manager;
        char *uid;
        PodWorker *worker; /* NULL once nothing of it is left on the node */
        StatusSync *sync;  /* NULL on a standalone node */
        Mirror *mirror;    /* of a static pod */
        bool gone_from_api;
        bool unwanted; /* its manifest went */
} PodEntry;

/* A sandbox of an earlier daemon that nobody claimed yet. */
typedef struct Unclaimed {
        PodManager *manager;
        Sandbox *sandbox;
        char *uid, *id, *namespace, *name;
        bool lost, clearing;
        CniCall *call;
        AdoptedSandbox adopted;
} Unclaimed;

/* What the watch last saw of a mirror pod. */
typedef struct SeenMirror {
        char *uid, *hash;
} SeenMirror;

struct PodManager {
        const PodContext *context;
        char *manifest_path;
        uint64_t file_check_ms;
        Map *entries;      /* uid -> PodEntry */
        Map *unclaimed;    /* uid -> Unclaimed */
        Map *seen_mirrors; /* "ns/name" -> SeenMirror */
        ApiWatch *watch;
        FileSource *files;
        Map *held; /* uid -> Pod: of the API, not admitted yet, see manager_hold */
        Timer *held_timer;
        bool held_long;
        Deferred *regroup;         /* the group of burstable pods has other shares now */
        uint64_t burstable_shares; /* as last set */
        Deferred *sweep;           /* entries that are done are freed here */
        bool api_synced, files_scanned, adopted;
        Worker *log_sweeper;
        bool logs_swept;
};

void manager_sweep_unclaimed(PodManager *m);
void manager_unclaimed_free(void *unclaimed);
void manager_add_unclaimed(PodManager *m, const AdoptedSandbox *adopted);

/* manager-logs.c */
/* Removes logs of pods that are not in `live`, in the background. */
void manager_sweep_logs(PodManager *m, char *const *live);

/* manager-api.c */
int manager_follow_api(PodManager *m, KlError **err);
void manager_tell_mirror(PodManager *m, PodEntry *e);
void manager_drop_orphan_mirrors(PodManager *m);

/*
 * Pods that do not run yet wait until the first list is complete and the node is known, and are
 * then admitted in the order of their creation: so a new daemon counts all that runs before it
 * admits anything, and knows the labels that pods select by. After HELD_MAX_MS it admits without
 * the node.
 */
#define HELD_MAX_MS 10000
bool manager_holds(const PodManager *m);
/* pod is consumed. */
void manager_hold(PodManager *m, Pod *pod);
void manager_release_held(PodManager *m);

/* manager-groups.c */
int manager_groups_init(PodManager *m);

/* manager.c */
/* A sandbox of an earlier daemon waits for this pod. */
/* Pods that hold resources, without `except` (may be NULL); entries may be NULL. To be freed;
 * NULL: out of memory. */
const Pod **manager_active_pods(const PodManager *m, const PodEntry *except, PodEntry **entries,
                                size_t *ret_n);
bool manager_runs(const PodManager *m, const Pod *pod);
/* Makes the entry's way to the API; it has no target yet. */
int manager_connect(PodManager *m, PodEntry *e, KlError **err);
/* Starts a worker; pod is consumed. */
void manager_add_pod(PodManager *m, Pod *pod);
PodEntry *manager_entry(PodManager *m, const char *uid);
/* A static pod of this name that is not the one with `uid`, or NULL. */
PodEntry *manager_static_by_name(PodManager *m, const char *namespace, const char *name);

#endif
