/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_EVICT_INTERNAL_H
#define KUBELITE_POD_EVICT_INTERNAL_H

#include "pod/evict-plan.h"
#include "pod/evict.h"
#include "pod/manager-internal.h"

/* How much is looked at. */
typedef enum EvictScope {
        SCOPE_NODE,    /* the node alone */
        SCOPE_LIMITED, /* and the disks of pods that have limits */
        SCOPE_MEMORY,  /* and all pods' memory and processes */
        SCOPE_DISK,    /* and all pods' disks */
} EvictScope;

/* What was looked at: the pods of a report, as evict-plan.h wants them. All in the report's arena.
 */
typedef struct EvictLook {
        EvictObserved observed[EVICT_SIGNALS];
        EvictPod *pods;
        PodEntry **entries; /* of the same pods */
        size_t n;
} EvictLook;

/* Names the pods that belong to the scope. */
void evict_list_pods(PodManager *manager, EvictScope scope, StatsGather *gather);

/* The file systems first (node, images), then trees. To be freed. */
DiskPath *evict_disk_paths(const EvictorOptions *options, StatsReport *report, bool trees,
                           size_t *ret_n);
/* In the same order. */
void evict_take_disks(StatsReport *report, const DiskUsage *usages, size_t n);

/* -ENOMEM. */
int evict_look(PodManager *manager, StatsReport *report, EvictLook *ret);

#endif
