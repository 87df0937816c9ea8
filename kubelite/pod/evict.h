/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_EVICT_H
#define KUBELITE_POD_EVICT_H

#include "config/kubelet-config.h"
#include "pod/manager.h"
#include "stats/stats.h"

/*
 * Keeps the node from running out of memory, disk or process ids: looks each EVICT_INTERVAL_MS (and
 * when the kernel tells of stalls for want of memory), asks evict-plan.h what follows, shows
 * pressure, reclaims, ends pods. What pods use is read only under pressure, and of pods that have
 * limits for local storage.
 */
typedef struct Evictor Evictor;

#define EVICT_INTERVAL_MS 10000
/* Two looks because of stalls are at least so far apart. */
#define EVICT_STALL_MS 1000
/* The next look after something was reclaimed. */
#define EVICT_RECLAIM_MS 2000
/* So long at most is waited for an evicted pod to be gone before another one has to go. */
#define EVICT_CLEANUP_MS 30000

typedef struct EvictorOptions {
        const KubeletConfig *config;
        const PodContext *context;
        PodManager *pods;
        const Runtime *runtime;
        DiskService *disk;
        const char *root_dir, *images_dir, *containers_dir;
        /* Pressure as it is now, whenever it was looked at. */
        void (*pressure)(const bool pressure[static NODE_PRESSURES], void *data);
        /* Disk is short: remove what nobody needs. True if something goes. */
        bool (*reclaim_disk)(void *data);
        void *data;
} EvictorOptions;

/* options and what they point to outlive it. */
int evictor_new(Loop *loop, const EvictorOptions *options, Evictor **ret, KlError **err);
Evictor *evictor_free(Evictor *evictor);
KL_DEFINE_CLEANUP(Evictor *, evictor_free);

#endif
