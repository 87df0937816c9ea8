/* SPDX-License-Identifier: Apache-2.0 */

/* What is looked at for eviction: from /proc, groups and disks to the figures of evict-plan.h. */

#include "base/file.h"
#include "base/str.h"
#include "pod/evict-internal.h"
#include "pod/placement.h"
#include "pod/served.h"

#define FILE_SYSTEMS 2

/* --- which pods --- */

static bool in_scope(const PodEntry *e, EvictScope scope)
{
        const Pod *pod = e->worker ? pod_worker_pod(e->worker) : NULL;

        if (!pod || scope == SCOPE_NODE || !pod_worker_is_active(e->worker) ||
            pod_worker_terminating(e->worker) || pod_worker_ended(e->worker))
                return false;
        return scope != SCOPE_LIMITED || (evict_has_limits(pod) && !pod_is_critical(pod));
}

void evict_list_pods(PodManager *m, EvictScope scope, StatsGather *gather)
{
        PodEntry *e;

        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);)
                if (in_scope(e, scope) && pod_worker_list_stats(e->worker, gather) < 0)
                        return;
}

/* --- disks --- */

typedef struct Paths {
        DiskPath *list;
        const DiskUsage *usages; /* or NULL: collect paths */
        size_t n, most;
} Paths;

static void visit(Paths *p, const char *path, DiskKind kind, DiskUsage *target)
{
        if (!path || p->n == p->most)
                return;
        if (p->usages)
                *target = p->usages[p->n];
        else
                p->list[p->n] = (DiskPath){ path, kind };
        p->n++;
}

static void visit_trees(Paths *p, StatsReport *report)
{
        for (size_t i = 0; i < report->n_pods; i++) {
                StatsPod *pod = &report->pods[i];

                visit(p, pod->files_path, DISK_TREE, &pod->files);
                for (size_t j = 0; j < pod->n_containers; j++) {
                        visit(p, pod->containers[j].layer_path, DISK_TREE,
                              &pod->containers[j].rootfs);
                        visit(p, pod->containers[j].log_path, DISK_TREE, &pod->containers[j].logs);
                }
                for (size_t j = 0; j < pod->n_volumes; j++)
                        if (!pod->volumes[j].file_system)
                                visit(p, pod->volumes[j].path, DISK_TREE, &pod->volumes[j].usage);
        }
}

static size_t count_trees(const StatsReport *report)
{
        size_t n = 0;

        for (size_t i = 0; i < report->n_pods; i++)
                n += 1 + 2 * report->pods[i].n_containers + report->pods[i].n_volumes;
        return n;
}

DiskPath *evict_disk_paths(const EvictorOptions *options, StatsReport *report, bool trees,
                           size_t *ret_n)
{
        size_t most = FILE_SYSTEMS + (trees ? count_trees(report) : 0);
        Paths p = { .list = calloc(most, sizeof(DiskPath)), .most = most };

        if (!p.list)
                return NULL;
        visit(&p, options->root_dir, DISK_FS, NULL);
        visit(&p, options->images_dir, DISK_FS, NULL);
        if (trees)
                visit_trees(&p, report);
        *ret_n = p.n;
        return p.list;
}

void evict_take_disks(StatsReport *report, const DiskUsage *usages, size_t n)
{
        Paths p = { .usages = usages, .most = n };

        visit(&p, "", DISK_FS, &report->node_fs);
        visit(&p, "", DISK_FS, &report->image_fs);
        if (n > FILE_SYSTEMS)
                visit_trees(&p, report);
}

/* --- the node --- */

static int64_t number_in(const char *path)
{
        char line[64];
        int64_t value;

        if (file_read_line(path, line, sizeof(line)) < 0 ||
            str_to_i64(line, 1, INT64_MAX, &value) < 0)
                return -1;
        return value;
}

/* "0.10 0.20 0.30 2/191 4711": tasks that run, and all. */
static int64_t count_tasks(void)
{
        char line[128];
        long long n;

        if (file_read_line("/proc/loadavg", line, sizeof(line)) < 0 ||
            sscanf(line, "%*f %*f %*f %*u/%lld", &n) != 1)
                return -1;
        return n;
}

static EvictObserved observe_pids(void)
{
        int64_t most = number_in("/proc/sys/kernel/pid_max"), tasks = count_tasks();
        int64_t threads = number_in("/proc/sys/kernel/threads-max");

        if (threads > 0 && threads < most)
                most = threads;
        return (EvictObserved){ most > 0 && tasks >= 0, most - tasks, most };
}

static EvictObserved observe_memory(const StatsGroup *group, uint64_t capacity)
{
        return (EvictObserved){ group->known && capacity > 0,
                                (int64_t)(capacity - group->used.memory_working_set_bytes),
                                (int64_t)capacity };
}

static void observe(const StatsReport *report, EvictObserved observed[static EVICT_SIGNALS])
{
        const DiskUsage *node = &report->node_fs, *image = &report->image_fs;
        uint64_t limit = report->pods_group.group.used.memory_limit_bytes;

        if (limit == 0 || limit > report->memory_bytes)
                limit = report->memory_bytes;
        observed[SIGNAL_MEMORY] = observe_memory(&report->node, report->memory_bytes);
        observed[SIGNAL_ALLOCATABLE_MEMORY] = observe_memory(&report->pods_group.group, limit);
        observed[SIGNAL_NODEFS] = (EvictObserved){ node->known, (int64_t)node->available_bytes,
                                                   (int64_t)node->capacity_bytes };
        observed[SIGNAL_IMAGEFS] = (EvictObserved){ image->known, (int64_t)image->available_bytes,
                                                    (int64_t)image->capacity_bytes };
        /* File systems without a fixed number of inodes (btrfs) show none. */
        observed[SIGNAL_NODEFS_INODES] =
                (EvictObserved){ node->known && node->inodes > 0, (int64_t)node->inodes_free,
                                 (int64_t)node->inodes };
        observed[SIGNAL_IMAGEFS_INODES] =
                (EvictObserved){ image->known && image->inodes > 0, (int64_t)image->inodes_free,
                                 (int64_t)image->inodes };
        observed[SIGNAL_PID] = observe_pids();
}

/* --- pods --- */

static int64_t bytes(const DiskUsage *usage)
{
        return usage->known ? (int64_t)usage->used_bytes : 0;
}

static int64_t inodes(const DiskUsage *usage)
{
        return usage->known ? (int64_t)usage->inodes_used : 0;
}

static int look_containers(const StatsPod *from, Arena *arena, EvictPod *to)
{
        EvictContainer *list = ARENA_ARRAY(arena, from->n_containers + 1, EvictContainer);

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < from->n_containers; i++) {
                const StatsContainer *c = &from->containers[i];
                const Container *spec = pod_container(to->pod, c->name);
                bool disks = c->rootfs.known || c->logs.known;

                to->layers += bytes(&c->rootfs);
                to->layer_inodes += inodes(&c->rootfs);
                to->other_storage += bytes(&c->logs);
                to->other_inodes += inodes(&c->logs);
                if (!spec)
                        continue;
                list[to->n_containers++] = (EvictContainer){
                        .spec = spec,
                        .memory = c->group.known ? (int64_t)c->group.used.memory_working_set_bytes
                                                 : -1,
                        .storage = disks ? bytes(&c->rootfs) + bytes(&c->logs) : -1,
                        .logs = bytes(&c->logs),
                };
        }
        to->containers = list;
        return 0;
}

static int look_volumes(const StatsPod *from, Arena *arena, EvictPod *to)
{
        EvictVolume *list = ARENA_ARRAY(arena, from->n_volumes + 1, EvictVolume);

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < from->n_volumes; i++) {
                const StatsVolume *v = &from->volumes[i];

                if (v->local_ephemeral) {
                        to->other_storage += bytes(&v->usage);
                        to->other_inodes += inodes(&v->usage);
                }
                if (v->usage.known)
                        list[to->n_volumes++] = (EvictVolume){ v->name, bytes(&v->usage) };
        }
        to->volumes = list;
        return 0;
}

static int look_pod(const StatsPod *from, Arena *arena, const Pod *pod, EvictPod *to)
{
        *to = (EvictPod){
                .pod = pod,
                .known = from->group.known,
                .memory = (int64_t)from->group.used.memory_working_set_bytes,
                .processes = (int64_t)from->group.used.pids,
        };
        KL_TRY(look_containers(from, arena, to));
        KL_TRY(look_volumes(from, arena, to));
        to->storage = to->layers + to->other_storage + bytes(&from->files);
        return 0;
}

int evict_look(PodManager *m, StatsReport *report, EvictLook *ret)
{
        *ret = (EvictLook){
                .pods = ARENA_ARRAY(report->arena, report->n_pods + 1, EvictPod),
                .entries = ARENA_ARRAY(report->arena, report->n_pods + 1, PodEntry *),
        };
        if (!ret->pods || !ret->entries)
                return -ENOMEM;
        observe(report, ret->observed);
        for (size_t i = 0; i < report->n_pods; i++) {
                PodEntry *e = manager_entry(m, report->pods[i].uid);

                /* It may have ended while its disks were measured. */
                if (!e || !in_scope(e, SCOPE_DISK))
                        continue;
                KL_TRY(look_pod(&report->pods[i], report->arena, pod_worker_pod(e->worker),
                                &ret->pods[ret->n]));
                ret->entries[ret->n++] = e;
        }
        return 0;
}
