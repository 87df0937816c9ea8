/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_STATS_STATS_H
#define KUBELITE_STATS_STATS_H

#include "stats/report.h"

/*
 * Gathers reports. Nothing happens unless one is asked for: no timer, no thread, no sampling ahead.
 * Groups and networks are read at once, disks by workers (stats/disk.h) and kept for a while.
 *
 * Rates are between two readings. Upstream reads every 10 s or so and shows the rate over the last
 * such interval; here the interval is the one between requests: a scrape every 15 s gives the rate
 * over 15 s. Readings less than STATS_RATE_MIN_MS apart share a rate, so that many clients do not
 * make it jumpy; the first reading of all has none (as upstream's).
 */
typedef struct Stats Stats;

#define STATS_RATE_MIN_MS 5000
/* Limits hardly change: they are read again after this long. */
#define STATS_LIMITS_AGE_US (60 * 1000000LL)
/* Rates of what was not read for this long begin anew. */
#define STATS_SAMPLE_FORGET_US (600 * 1000000LL)
/* Images are unpacked once: looking how much they take is long work for little news. */
#define STATS_IMAGES_AGE_MS 600000
/* A request waits this long for disks; then it has older figures, or none. */
#define STATS_DISK_WAIT_MS 5000

typedef struct StatsOptions {
        const Runtime *runtime;
        const char *node_name;
        const char *root_dir;   /* nodefs is where this is */
        const char *images_dir; /* imagefs likewise */
        const char *containers_dir;
} StatsOptions;

/* What is to be read of a pod; the lists have room for what was asked for, and count up from 0.
 * Strings are copied. */
typedef struct StatsPodSource {
        const char *namespace, *name, *uid;
        bool host_network;
        int64_t started_us;
        const Sandbox *sandbox; /* NULL: none */
        const char *files_path; /* or NULL */
        size_t n_containers, n_volumes;
} StatsPodSource;

typedef struct StatsContainerSource {
        const Sandbox *sandbox;
        const char *name, *id, *image, *log_path;
        int64_t started_us;
        pid_t pid;
} StatsContainerSource;

typedef struct StatsVolumeSource {
        const char *name, *path, *claim;
        bool file_system, local_ephemeral;
} StatsVolumeSource;

typedef struct StatsGather StatsGather;

/* The owner's list of pods: calls these for each. NULL and negative results mean no memory. */
typedef void (*StatsListFunc)(StatsGather *gather, void *data);
StatsPod *stats_add_pod(StatsGather *gather, const StatsPodSource *source);
int stats_add_container(StatsGather *gather, StatsPod *pod, const StatsContainerSource *source);
int stats_add_volume(StatsGather *gather, StatsPod *pod, const StatsVolumeSource *source);

/* options and what they point to outlive it. */
int stats_new(Loop *loop, const StatsOptions *options, StatsListFunc list, void *data, Stats **ret,
              KlError **err);
Stats *stats_free(Stats *stats);
KL_DEFINE_CLEANUP(Stats *, stats_free);
DiskService *stats_disk(Stats *stats);

/* Everything but disks, now. level: how much of each group; networks from CGROUP_STATS_SUMMARY on.
 */
int stats_report_new(Stats *stats, CgroupStatsLevel level, StatsReport **ret, KlError **err);
StatsReport *stats_report_free(StatsReport *report);
KL_DEFINE_CLEANUP(StatsReport *, stats_report_free);

/* Adds the disks, within wait_ms, then hands the report over; done comes from the loop. */
typedef struct StatsJob StatsJob;
typedef void (*StatsFunc)(StatsJob *job, StatsReport *report, void *data);
int stats_report_disks(Stats *stats, StatsReport *report, uint64_t wait_ms, StatsFunc done,
                       void *data, StatsJob **ret, KlError **err);
/* Nobody is told, the report is freed. The job is freed after its callback without that. */
StatsJob *stats_job_free(StatsJob *job);

/* /proc/net/dev as text, without the interfaces that upstream ignores; at most
 * STATS_INTERFACES_MAX. */
size_t stats_parse_interfaces(const char *text, StatsInterface ret[static STATS_INTERFACES_MAX]);

#endif
