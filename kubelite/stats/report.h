/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_STATS_REPORT_H
#define KUBELITE_STATS_REPORT_H

#include "base/arena.h"
#include "base/buf.h"
#include "codec/json.h"
#include "runtime/runtime.h"
#include "stats/disk.h"

/*
 * What the node and its pods use at one moment: figures without any I/O, and their renderings as
 * upstream serves them. All memory is the report's arena.
 */
#define STATS_INTERFACES_MAX 64
#define STATS_INTERFACE_SIZE 16

typedef struct StatsGroup {
        bool known;
        int64_t time_us, started_us; /* realtime; started_us 0: unknown */
        CgroupStats used;
        bool has_rate;
        uint64_t nano_cores; /* between the sample before and this one */
        uint64_t processes;  /* 0: not looked at */
} StatsGroup;

typedef struct StatsInterface {
        char name[STATS_INTERFACE_SIZE];
        uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped;
        uint64_t tx_bytes, tx_packets, tx_errors, tx_dropped;
} StatsInterface;

typedef struct StatsNetwork {
        int64_t time_us; /* 0: there is none */
        StatsInterface *interfaces;
        size_t n;
} StatsNetwork;

typedef struct StatsContainer {
        const char *name, *id, *image, *group_path;
        pid_t pid; /* of its first process */
        StatsGroup group;
        const char *layer_path, *log_path; /* measured for: */
        DiskUsage rootfs, logs;
        uint64_t open_files_limit; /* soft; 0: not looked at */
} StatsContainer;

typedef struct StatsVolume {
        const char *name, *path;
        const char *claim;    /* of a PersistentVolumeClaim, or NULL */
        bool file_system;     /* has one of its own: what it uses is what that has used */
        bool local_ephemeral; /* takes of the node's ephemeral storage */
        DiskUsage usage;
} StatsVolume;

typedef struct StatsPod {
        const char *namespace, *name, *uid, *group_path;
        bool host_network;
        int64_t started_us;
        StatsGroup group;
        StatsNetwork network;
        StatsContainer *containers; /* those that run */
        size_t n_containers;
        StatsVolume *volumes;
        size_t n_volumes;
        const char *files_path; /* etc-hosts and the like */
        DiskUsage files, ephemeral;
} StatsPod;

typedef struct StatsQosGroup {
        const char *path;
        StatsGroup group;
} StatsQosGroup;

typedef struct StatsReport {
        Arena *arena;
        const char *node_name;
        CgroupMode cgroups;
        StatsGroup node;
        StatsNetwork network;
        uint64_t memory_bytes, swap_bytes; /* of the machine */
        uint64_t max_pids, processes;
        DiskUsage node_fs, image_fs, container_fs;
        StatsQosGroup pods_group, burstable, best_effort;
        StatsGroup daemon; /* its own group, if it has one */
        StatsPod *pods;
        size_t n_pods;
} StatsReport;

/* GET /stats/summary. */
void stats_write_summary(const StatsReport *report, bool only_cpu_and_memory, JsonWriter *w);

/* GET /metrics/resource. */
void stats_write_resource(const StatsReport *report, Buf *to);

/* What does not change while the machine runs. */
typedef struct StatsMachine {
        const char *boot_id, *machine_id, *system_uuid, *kernel_version, *os_image;
        int64_t cpus;
        uint64_t cores, sockets; /* 0: the processors do not tell */
        const char *root_device;
} StatsMachine;

/* GET /metrics/cadvisor. */
void stats_write_cadvisor(const StatsReport *report, const StatsMachine *machine, Buf *to);

/* Of the text of /proc/cpuinfo. */
void stats_count_cores(const char *cpuinfo, uint64_t *ret_cores, uint64_t *ret_sockets);
/* What is mounted where a path is, from the text of /proc/self/mountinfo; "none". */
void stats_find_device(const char *mountinfo, const char *path, char *ret, size_t size);

#endif
