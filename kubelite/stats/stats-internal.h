/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_STATS_STATS_INTERNAL_H
#define KUBELITE_STATS_STATS_INTERNAL_H

#include "base/map.h"
#include "stats/stats.h"

/* The reading that a rate is measured from, and the rate that was last found. */
typedef struct RateSample {
        int64_t time_us, asked_us;
        uint64_t cpu_ns;
        bool has_rate;
        uint64_t nano_cores;
} RateSample;

/* What is kept of a group between reports. */
typedef struct Sample {
        RateSample rate;
        int64_t seen_us, limits_us; /* 0: never */
        uint64_t memory_limit_bytes, swap_limit_bytes;
} Sample;

/* Pure: a new reading. */
void rate_update(RateSample *sample, int64_t time_us, uint64_t cpu_ns, bool *ret_has_rate,
                 uint64_t *ret_nano_cores);

struct Stats {
        Loop *loop;
        StatsOptions options;
        StatsListFunc list;
        void *data;
        DiskService *disk;
        Map *samples; /* Sample by container id, pod uid, or "node" and the like */
};

struct StatsGather {
        Stats *stats;
        StatsReport *report;
        CgroupStatsLevel level;
        size_t pods_room;
        int error;
};

/* network.c: of the network that a process (0: ours) is in. */
void stats_read_network(Arena *arena, pid_t pid, StatsNetwork *ret);

#endif
