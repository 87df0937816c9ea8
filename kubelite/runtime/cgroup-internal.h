/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_RUNTIME_CGROUP_INTERNAL_H
#define KUBELITE_RUNTIME_CGROUP_INTERNAL_H

#include "base/error.h"
#include "runtime/runtime.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Control groups of both versions behind one table of operations. A group is named by its path
 * beneath the tree's root ("kubepods/burstable/pod<uid>/<id>"); on version 1 it exists in every
 * mounted hierarchy. All calls block on the kernel; those marked (worker) may do so for long and
 * belong into a worker process.
 */
typedef struct CgroupTree CgroupTree;

#define CGROUP_MOUNT_DIR "/sys/fs/cgroup"
/* Hierarchies of version 1 that are used, the named one of systemd included. */
#define CGROUP_HIERARCHIES_MAX 16
#define CGROUP_SHIM_LEAF "shim"

typedef struct CgroupTreeOptions {
        const char *mount_dir; /* NULL: CGROUP_MOUNT_DIR */
        const char *root;      /* "/" or a prefix; made if missing */
        bool systemd;          /* beneath kubelite-pods.service */
        bool force_v2;         /* mount_dir is a cgroup2 mount beside version 1 hierarchies */
        bool no_kill_file;     /* as on Linux before 5.14 */
} CgroupTreeOptions;

int cgroup_tree_new(const CgroupTreeOptions *options, CgroupTree **ret, KlError **err);
CgroupTree *cgroup_tree_free(CgroupTree *tree);
KL_DEFINE_CLEANUP(CgroupTree *, cgroup_tree_free);
CgroupMode cgroup_tree_mode(const CgroupTree *tree);

/* "kubepods", "kubepods/burstable", "kubepods/besteffort"; static. */
const char *cgroup_qos_path(QosClass qos);
/* "<qos>/pod<uid>", to be freed. */
char *cgroup_pod_path(QosClass qos, const char *uid);

/* Absolute directory of a group in the i-th hierarchy; NULL past the last one. To be freed. */
char *cgroup_dir(const CgroupTree *tree, size_t i, const char *path);
/* The tree's root as runtimes name groups, from the mount point on: "" or "/a/b"; borrowed. */
const char *cgroup_prefix(const CgroupTree *tree);
size_t cgroup_n_hierarchies(const CgroupTree *tree);
/* Its controllers as mounted: "cpu,cpuacct", "name=systemd", "" for version 2. */
const char *cgroup_hierarchy_name(const CgroupTree *tree, size_t i);

/* Makes the group and its missing ancestors; existing ones are fine. With `inner` its controllers
 * are handed on to children (version 2), and no process may live in it. */
int cgroup_create(const CgroupTree *tree, const char *path, bool inner, KlError **err);

/* Unset values are left alone, unless `reset`: then they become unlimited. (worker, when lowering)
 */
int cgroup_apply(const CgroupTree *tree, const char *path, const Resources *resources, bool reset,
                 KlError **err);
/* What only containers have: swap, killed as one. */
int cgroup_apply_container(const CgroupTree *tree, const char *path, const Resources *resources,
                           KlError **err);

typedef struct DeviceRule {
        char type;            /* 'c', 'b', 'a': both */
        int64_t major, minor; /* -1: any */
        const char *access;   /* of "rwm" */
} DeviceRule;

/* Denies all devices but these. */
int cgroup_set_devices(const CgroupTree *tree, const char *path, const DeviceRule *rules, size_t n,
                       KlError **err);

/* Moves a process (0: the caller) into the group, everywhere. */
int cgroup_attach(const CgroupTree *tree, const char *path, pid_t pid);

/* 1 if no process lives in it or beneath, 0 if one does; a group that is gone is empty. */
int cgroup_empty(const CgroupTree *tree, const char *path);
/* SIGKILLs everything in it and beneath, frozen or not, until it is empty. -EBUSY after
 * timeout_ms. (worker) */
int cgroup_kill(const CgroupTree *tree, const char *path, uint64_t timeout_ms);
/* Removes it and everything beneath. -EBUSY while something lives there. (worker) */
int cgroup_remove(const CgroupTree *tree, const char *path, uint64_t timeout_ms);
/* Version 1: the same group, and what is empty above it, in hierarchies that are not ours. Other
 * runtimes join them too. */
void cgroup_remove_strays(const CgroupTree *tree, const char *path);
/* Processes killed by its OOM killer so far; 0 if that is unknown. */
uint64_t cgroup_oom_kills(const CgroupTree *tree, const char *path);

/* What a path is relative to: the tree's own root, or the mount point ("" is all of the machine).
 */
typedef enum CgroupBase {
        CGROUP_BASE_TREE,
        CGROUP_BASE_MOUNT,
} CgroupBase;

int cgroup_stats(const CgroupTree *tree, CgroupBase base, const char *path, CgroupStatsLevel level,
                 CgroupStats *ret);
/* Of a file in the kernel's format; false for anything else. */
bool cgroup_pressure_parse(const char *text, CgroupPressure *ret);
/* Where the caller is, beneath the mount point. */
int cgroup_self_path(const CgroupTree *tree, char *ret, size_t size);

/* Names of the groups beneath (one level). To be freed. */
int cgroup_children(const CgroupTree *tree, const char *path, char ***ret);

/* Processes of the group itself; returns how many were stored, at most n. */
size_t cgroup_pids(const CgroupTree *tree, const char *path, pid_t *pids, size_t n);

/* cpu.weight for cpu.shares: the curve that maps 2, 1024, 262144 to 1, 100, 10000; and the straight
 * line from 2, 262144 to 1, 10000. */
uint64_t cgroup_weight_of_shares(uint64_t shares);
uint64_t cgroup_weight_linear(uint64_t shares);

/* --- for the two implementations --- */

typedef struct CgroupHierarchy {
        char *name; /* controllers, comma-separated */
        char *dir;  /* mount point + root prefix */
        char *mount_dir;
        char *top; /* the highest group whose controllers we may hand on */
} CgroupHierarchy;

typedef struct CgroupOps {
        int (*prepare)(const CgroupTree *tree, const char *path, bool inner);
        int (*apply)(const CgroupTree *tree, const char *path, const Resources *resources,
                     bool reset, KlError **err);
        int (*apply_container)(const CgroupTree *tree, const char *path, const Resources *resources,
                               KlError **err);
        int (*set_devices)(const CgroupTree *tree, const char *path, const DeviceRule *rules,
                           size_t n, KlError **err);
        int (*kill_once)(const CgroupTree *tree, const char *path);
        uint64_t (*oom_kills)(const CgroupTree *tree, const char *path);
} CgroupOps;

struct CgroupTree {
        CgroupMode mode;
        const CgroupOps *ops;
        bool no_kill_file;
        CgroupHierarchy hierarchies[CGROUP_HIERARCHIES_MAX];
        size_t n_hierarchies;
        size_t kill_index; /* the hierarchy whose members count: freezer, or version 2 */
};

extern const CgroupOps cgroup_v1_ops, cgroup_v2_ops;

/* Hierarchy with a controller, or -1. */
int cgroup_find(const CgroupTree *tree, const char *controller);
/* Opens the group's directory in a hierarchy; a descriptor or -errno. */
int cgroup_open(const CgroupTree *tree, size_t i, const char *path);
int cgroup_write_u64(int dir_fd, const char *file, uint64_t value);
int cgroup_write_i64(int dir_fd, const char *file, int64_t value);
int cgroup_read_u64(int dir_fd, const char *file, uint64_t *ret);
/* "<key> <number>" of a flat keyed file. */
int cgroup_read_key(int dir_fd, const char *file, const char *key, uint64_t *ret);
/* Signals what is in cgroup.procs of it and of everything beneath. Count, or -errno. */
int cgroup_signal_tree(int dir_fd, int signo);
/* Calls func for the group and everything beneath it, children first. */
int cgroup_walk(int dir_fd, int (*func)(int dir_fd, void *data), void *data);

/* "hugetlb.2MB.<file>" for each size; kernels without the controller or the size have no file. */
int cgroup_write_hugepages(int dir_fd, const Resources *resources, const char *file);

int cgroup_device_program_attach(int cgroup_fd, const DeviceRule *rules, size_t n, KlError **err);

#endif
