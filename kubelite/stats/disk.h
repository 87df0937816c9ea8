/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_STATS_DISK_H
#define KUBELITE_STATS_DISK_H

#include "loop/loop.h"

#include <stddef.h>

/*
 * How full things are: the space that a tree of files takes, and that a file system has. Measuring
 * may block or take long, so it is done by workers, only when somebody asks, and what was measured
 * is kept for whoever asks next. A path that does not answer costs nobody else an answer.
 */
typedef struct DiskService DiskService;
typedef struct DiskQuery DiskQuery;

/* What upstream's statistics are refreshed by: volumes each minute, the rest about each 10 s. */
#define DISK_AGE_MS 60000
/* All that is waited for at once in one worker, and one tree that took longer than that. */
#define DISK_DEADLINE_MS 20000
#define DISK_SLOW_DEADLINE_MS 120000
/* A path that was in the way is left alone for this long. */
#define DISK_BARRED_MS 300000
/* A path that nobody asked for in this time is forgotten (when somebody asks for another). */
#define DISK_FORGET_MS 600000
#define DISK_PATHS_MAX 32768
#define DISK_BATCH_MAX 1024

typedef enum DiskKind {
        /* All that is beneath the path (a directory, or one file) on its file system, following no
         * link; a file with several names counts once, as in du(1). */
        DISK_TREE,
        /* The file system that the path is on. */
        DISK_FS,
} DiskKind;

typedef struct DiskPath {
        const char *path;
        DiskKind kind;
} DiskPath;

typedef struct DiskUsage {
        bool known;      /* false: never measured, or there is no such path */
        int64_t time_us; /* when; realtime */
        uint64_t used_bytes, inodes_used;
        /* Of the file system, for both kinds. */
        uint64_t capacity_bytes, available_bytes, inodes, inodes_free;
} DiskUsage;

int disk_service_new(Loop *loop, DiskService **ret, KlError **err);
/* All queries must be over. */
DiskService *disk_service_free(DiskService *service);
KL_DEFINE_CLEANUP(DiskService *, disk_service_free);

/* usages: one for each path, in the query's order; valid during the call. The query is freed after
 * it. */
typedef void (*DiskFunc)(DiskQuery *query, const DiskUsage *usages, size_t n, void *data);

typedef struct DiskRequest {
        const DiskPath *paths; /* copied */
        size_t n;
        uint64_t max_age_ms; /* older figures are measured again */
        uint64_t wait_ms;    /* after this, what is known then: older figures, or none */
        DiskFunc done;       /* from the loop, never within disk_query */
        void *data;
} DiskRequest;

int disk_query(DiskService *service, const DiskRequest *request, DiskQuery **ret, KlError **err);
/* Nobody is told. */
DiskQuery *disk_query_free(DiskQuery *query);
KL_DEFINE_CLEANUP(DiskQuery *, disk_query_free);

/* What was last measured, without asking. */
DiskUsage disk_last(const DiskService *service, const char *path, DiskKind kind);

#endif
