/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_EVICT_PLAN_H
#define KUBELITE_POD_EVICT_PLAN_H

#include "api/pod.h"
#include "config/kubelet-config.h"
#include "pod/context.h"

/*
 * Node-pressure eviction as pure functions: thresholds and what was observed -> pressure, and what
 * to reclaim; pods and what they use -> who goes first, and in which words (pkg/kubelet/eviction).
 */

typedef enum EvictSignal {
        SIGNAL_MEMORY,             /* memory.available */
        SIGNAL_ALLOCATABLE_MEMORY, /* allocatableMemory.available: of all pods together */
        SIGNAL_NODEFS,             /* nodefs.available */
        SIGNAL_NODEFS_INODES,      /* nodefs.inodesFree */
        SIGNAL_IMAGEFS,            /* containerfs, too: writable layers are where images are */
        SIGNAL_IMAGEFS_INODES,
        SIGNAL_PID, /* pid.available */
        EVICT_SIGNALS,
} EvictSignal;

/* "memory", "ephemeral-storage", "inodes", "pids". */
const char *evict_resource(EvictSignal signal);
const char *evict_signal_name(EvictSignal signal);
NodePressure evict_pressure(EvictSignal signal);

typedef struct EvictAmount {
        bool is_percentage;
        float fraction;   /* of the capacity, as upstream keeps it */
        int64_t quantity; /* bytes or a count */
} EvictAmount;

typedef struct EvictThreshold {
        EvictSignal signal;
        EvictAmount value, reclaim; /* reclaim: more than value must be free again to be at rest */
        uint64_t grace_ms;          /* 0: hard */
} EvictThreshold;

#define EVICT_THRESHOLDS_MAX (2 * EVICT_SIGNALS)

typedef struct EvictConfig {
        EvictThreshold thresholds[EVICT_THRESHOLDS_MAX];
        size_t n;
        uint64_t transition_ms;
        int64_t max_grace_s; /* of soft evictions */
        bool image_fs;       /* images and writable layers are on a file system of their own */
} EvictConfig;

/* -EINVAL with the field's path. */
int evict_config(const KubeletConfig *config, EvictConfig *ret, KlError **err);

typedef struct EvictObserved {
        bool known;
        int64_t available, capacity;
} EvictObserved;

/* Kept between steps; begins as {0}. */
typedef struct EvictState {
        uint64_t first_ms[EVICT_THRESHOLDS_MAX]; /* when it was first crossed; 0: it is not */
        bool met[EVICT_THRESHOLDS_MAX];          /* with its grace period; until reclaim is met */
        uint64_t pressed_ms[NODE_PRESSURES];     /* when last seen under pressure; 0: never */
} EvictState;

typedef struct EvictDecision {
        bool pressure[NODE_PRESSURES];
        const EvictThreshold *reclaim; /* what to reclaim now; NULL: nothing */
} EvictDecision;

/* now_ms is monotonic and not 0. */
void evict_step(const EvictConfig *config, EvictState *state,
                const EvictObserved observed[static EVICT_SIGNALS], uint64_t now_ms,
                EvictDecision *ret);
/* After reclaiming at the level of the node: false if a threshold (with reclaim) is crossed still.
 */
bool evict_is_at_rest(const EvictConfig *config,
                      const EvictObserved observed[static EVICT_SIGNALS]);

/* In bytes, or a count. */
int64_t evict_threshold_value(const EvictThreshold *threshold, int64_t capacity);

/* --- who --- */

typedef struct EvictContainer {
        const Container *spec;
        int64_t memory;  /* working set; -1: not known */
        int64_t storage; /* writable layer and logs; -1: not known */
        int64_t logs;    /* of these */
} EvictContainer;

typedef struct EvictVolume {
        const char *name;
        int64_t used;
} EvictVolume;

typedef struct EvictPod {
        const Pod *pod;
        bool known; /* what it uses; one of which nothing is known goes first */
        int64_t memory, processes;
        /* by file system, see EvictConfig.image_fs */
        int64_t layers, layer_inodes;        /* writable layers */
        int64_t other_storage, other_inodes; /* logs and local volumes */
        int64_t storage;                     /* all that counts as ephemeral storage */
        const EvictContainer *containers;
        size_t n_containers;
        const EvictVolume *volumes; /* emptyDir ones */
        size_t n_volumes;
} EvictPod;

/* Sorts: who goes first is first. */
void evict_rank(const EvictConfig *config, EvictSignal signal, EvictPod *pods, size_t n);

/* "The node was low on resource: …"; to be freed. */
char *evict_message(const EvictConfig *config, const EvictThreshold *threshold,
                    const EvictObserved observed[static EVICT_SIGNALS], const EvictPod *pod);

/* Why a pod has to go for what it uses itself: limits of emptyDir volumes, of the pod and of its
 * containers. To be freed; NULL: it does not have to. */
char *evict_over_limit(const EvictConfig *config, const EvictPod *pod);
/* It has any such limit: only then what it uses is worth measuring. */
bool evict_has_limits(const Pod *pod);

#endif
