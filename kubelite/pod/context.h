/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_CONTEXT_H
#define KUBELITE_POD_CONTEXT_H

#include "api/events.h"
#include "api/objects.h"
#include "api/pod-fields.h"
#include "cni/cni.h"
#include "image/image.h"
#include "pod/files.h"
#include "pod/log-tidy.h"
#include "pod/runtime-classes.h"
#include "pod/services.h"
#include "probe/probe.h"
#include "runtime/runtime.h"
#include "volume/volume.h"

typedef struct NodeTaint {
        const char *key, *value, *effect;
} NodeTaint;

typedef struct ResourceAmount {
        const char *name;
        int64_t value; /* cpu in thousandths, else units */
} ResourceAmount;

typedef enum NodePressure {
        PRESSURE_MEMORY,
        PRESSURE_DISK,
        PRESSURE_PID,
        NODE_PRESSURES,
} NodePressure;

/* Which the kernel has. */
typedef struct SecurityModules {
        bool apparmor, selinux;
} SecurityModules;

/*
 * What every pod of this node is run with: the rooms below, and the node's settings. One per
 * daemon, made by main; the pod room borrows it. Pointers to rooms are NULL only where noted.
 */
typedef struct PodContext {
        Loop *loop;
        Runtime *runtime;
        ImageStore *images;
        Cni *cni;
        Volumes *volumes;
        ObjectCache *objects;
        EventRecorder *events;
        Prober *prober;
        Services *services; /* NULL on a standalone node */
        RuntimeClasses *runtime_classes;
        ApiClient *api; /* NULL on a standalone node */

        const char *node_name, *node_uid; /* the uid is "" until the node is registered */
        const char *root_dir;             /* /var/lib/kubelet */
        const char *log_dir;              /* /var/log/pods */
        const char *log_links_dir;        /* /var/log/containers */
        LogTidy *log_tidy;
        int64_t log_max_bytes; /* of a container's log file; 0: it is not rotated */
        char *const *host_ips;
        DnsSettings dns;
        const char *resolv_conf; /* path of the node's resolv.conf, "" for none */
        PodFacts facts;          /* pod_ips unset */
        int64_t capacity_cpu_milli, capacity_memory;
        const ResourceAmount *allocatable;
        size_t n_allocatable;
        int64_t pod_pids_limit; /* 0: none */
        bool seccomp_default;
        bool cpu_cfs_quota;
        uint64_t cpu_cfs_period_us;
        bool limited_swap;     /* memorySwap.swapBehavior: LimitedSwap, and the kernel can */
        int64_t capacity_swap; /* bytes */
        bool oom_kill_single;  /* singleProcessOOMKill */
        uint64_t hugepage_sizes[HUGEPAGES_MAX];
        size_t n_hugepage_sizes;
        char *const *allowed_unsafe_sysctls;
        SecurityModules modules;
        KeyValues node_labels;
        const NodeTaint *node_taints;
        size_t n_node_taints;
        bool pressure[NODE_PRESSURES];
        uint64_t crash_backoff_max_ms;
} PodContext;

#endif
