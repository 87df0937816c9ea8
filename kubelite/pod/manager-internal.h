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
        Deferred *sweep; /* entries that are done are freed here */
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

/* manager.c */
/* Makes the entry's way to the API; it has no target yet. */
int manager_connect(PodManager *m, PodEntry *e, KlError **err);
/* Starts a worker; pod is consumed. */
void manager_add_pod(PodManager *m, Pod *pod);
PodEntry *manager_entry(PodManager *m, const char *uid);
/* A static pod of this name that is not the one with `uid`, or NULL. */
PodEntry *manager_static_by_name(PodManager *m, const char *namespace, const char *name);

#endif
