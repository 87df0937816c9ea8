/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The gathering. The owner's list function names pods, and each is read as it is named, since what
 * the list points to (sandboxes) may be gone a turn later; of disks only paths are kept.
 */

#include "stats/stats.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "stats/stats-internal.h"

#include <string.h>
#include <sys/stat.h>

#define SMALL_FILE_MAX 65536

struct StatsJob {
        Stats *stats;
        StatsReport *report;
        DiskQuery *query;
        DiskUsage **targets; /* where each path's figures go */
        size_t n;
        StatsFunc done;
        void *data;
};

/* --- groups --- */

static Sample *sample_of(Stats *s, const char *key)
{
        Sample *sample = map_get(s->samples, key);

        if (sample)
                return sample;
        sample = calloc(1, sizeof(*sample));
        if (!sample || map_set(s->samples, key, sample) < 0) {
                free(sample);
                return NULL;
        }
        return sample;
}

/* The level to read a group with. */
static CgroupStatsLevel level_for(StatsGather *gather, const char *key, StatsGroup *g)
{
        const Sample *sample = map_get(gather->stats->samples, key);
        int64_t now = time_realtime_us();

        if (!sample || now < sample->limits_us || now - sample->limits_us > STATS_LIMITS_AGE_US)
                return gather->level;
        g->used.memory_limit_bytes = sample->memory_limit_bytes;
        g->used.swap_limit_bytes = sample->swap_limit_bytes;
        return gather->level | CGROUP_STATS_KEEP_LIMITS;
}

/* level: what it was read with. */
static void finish_group(StatsGather *gather, const char *key, CgroupStatsLevel level, int r,
                         StatsGroup *g)
{
        Sample *sample = r == 0 ? sample_of(gather->stats, key) : NULL;

        g->time_us = time_realtime_us();
        g->known = r == 0;
        if (!sample)
                return;
        sample->seen_us = g->time_us;
        if (!(level & CGROUP_STATS_KEEP_LIMITS)) {
                sample->limits_us = g->time_us;
                sample->memory_limit_bytes = g->used.memory_limit_bytes;
                sample->swap_limit_bytes = g->used.swap_limit_bytes;
        }
        if (gather->level >= CGROUP_STATS_SUMMARY)
                rate_update(&sample->rate, g->time_us, g->used.cpu_usage_ns, &g->has_rate,
                            &g->nano_cores);
}

static void forget_samples(Stats *s, int64_t now_us)
{
        const Sample *sample;
        const char *key;

        for (size_t i = 0; map_next(s->samples, &i, &key, &sample);)
                if (now_us - sample->seen_us > STATS_SAMPLE_FORGET_US)
                        map_remove(s->samples, key);
}

/* --- pods --- */

static char *copy(StatsGather *gather, const char *text)
{
        char *made = arena_strdup(gather->report->arena, text);

        if (text && !made)
                gather->error = -ENOMEM;
        return made;
}

/* A string that was allocated, moved into the arena. */
static const char *take(StatsGather *gather, char *text)
{
        const char *made = text ? copy(gather, text) : NULL;

        if (!text)
                gather->error = -ENOMEM;
        free(text);
        return made;
}

static StatsPod *next_pod(StatsGather *gather)
{
        StatsReport *report = gather->report;

        if (report->n_pods == gather->pods_room) {
                size_t room = gather->pods_room ? gather->pods_room * 2 : 16;
                StatsPod *pods = ARENA_ARRAY(report->arena, room, StatsPod);

                if (!pods)
                        return NULL;
                if (report->n_pods)
                        memcpy(pods, report->pods, report->n_pods * sizeof(*pods));
                report->pods = pods;
                gather->pods_room = room;
        }
        return &report->pods[report->n_pods++];
}

StatsPod *stats_add_pod(StatsGather *gather, const StatsPodSource *source)
{
        StatsPod *pod = next_pod(gather);
        CgroupStatsLevel level;
        int r;

        if (!pod) {
                gather->error = -ENOMEM;
                return NULL;
        }
        *pod = (StatsPod){
                .namespace = copy(gather, source->namespace),
                .name = copy(gather, source->name),
                .uid = copy(gather, source->uid),
                .host_network = source->host_network,
                .started_us = source->started_us,
                .files_path = copy(gather, source->files_path),
                .containers = ARENA_ARRAY(gather->report->arena, source->n_containers + 1,
                                          StatsContainer),
                .volumes = ARENA_ARRAY(gather->report->arena, source->n_volumes + 1, StatsVolume),
        };
        if (!pod->containers || !pod->volumes)
                gather->error = -ENOMEM;
        if (gather->error)
                return NULL;
        pod->group.started_us = source->started_us;
        if (!source->sandbox)
                return pod;
        pod->group_path = take(gather, sandbox_group(source->sandbox, NULL));
        level = level_for(gather, pod->uid, &pod->group);
        r = sandbox_stats(source->sandbox, NULL, level, &pod->group.used);
        finish_group(gather, pod->uid, level, r, &pod->group);
        return pod;
}

static uint64_t open_files_limit(pid_t pid)
{
        static const char key[] = "\nMax open files";
        KL_AUTOFREE char *text = NULL;
        unsigned long long limit = 0;
        const char *line;
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
        if (file_read(path, SMALL_FILE_MAX, &text, NULL) < 0)
                return 0;
        line = strstr(text, key);
        return line && sscanf(line + strlen(key), " %llu", &limit) == 1 ? limit : 0;
}

int stats_add_container(StatsGather *gather, StatsPod *pod, const StatsContainerSource *source)
{
        const Sandbox *sandbox = source->sandbox;
        StatsContainer *c = &pod->containers[pod->n_containers];
        CgroupStatsLevel level = level_for(gather, source->id, &c->group);
        int r = sandbox_stats(sandbox, source->id, level, &c->group.used);

        /* It ended a moment ago. */
        if (r < 0)
                return 0;
        *c = (StatsContainer){
                .name = copy(gather, source->name),
                .id = copy(gather, source->id),
                .image = copy(gather, source->image),
                .log_path = copy(gather, source->log_path),
                .pid = source->pid,
                .group = { .used = c->group.used, .started_us = source->started_us },
                .layer_path = take(
                        gather, runtime_container_dir(gather->stats->options.runtime, source->id)),
                .group_path = take(gather, sandbox_group(sandbox, source->id)),
        };
        if (gather->error)
                return gather->error;
        pod->n_containers++;
        finish_group(gather, c->id, level, r, &c->group);
        if (gather->level >= CGROUP_STATS_SUMMARY && !pod->host_network && !pod->network.time_us &&
            source->pid > 0)
                stats_read_network(gather->report->arena, source->pid, &pod->network);
        if (gather->level >= CGROUP_STATS_ALL) {
                c->group.processes = sandbox_processes(sandbox, source->id);
                c->open_files_limit = open_files_limit(source->pid);
        }
        return 0;
}

int stats_add_volume(StatsGather *gather, StatsPod *pod, const StatsVolumeSource *source)
{
        StatsVolume *v = &pod->volumes[pod->n_volumes];

        *v = (StatsVolume){
                .name = copy(gather, source->name),
                .path = copy(gather, source->path),
                .claim = copy(gather, source->claim),
                .file_system = source->file_system,
                .local_ephemeral = source->local_ephemeral,
        };
        if (!gather->error)
                pod->n_volumes++;
        return gather->error;
}

/* --- the node --- */

static uint64_t number_in(const char *path)
{
        char line[64];
        uint64_t n = 0;

        return file_read_line(path, line, sizeof(line)) == 0 &&
                               str_to_u64(line, UINT64_MAX, &n) == 0
                       ? n
                       : 0;
}

static uint64_t value_after(const char *path, const char *key)
{
        KL_AUTOFREE char *text = NULL;
        unsigned long long n = 0;
        const char *at;

        if (file_read(path, 1 << 20, &text, NULL) < 0)
                return 0;
        at = strstr(text, key);
        return at && sscanf(at + strlen(key), " %llu", &n) == 1 ? n : 0;
}

/* "0.10 0.20 0.30 2/191 4711": running and existing tasks. */
static uint64_t count_tasks(void)
{
        char line[128];
        unsigned long long n = 0;

        if (file_read_line("/proc/loadavg", line, sizeof(line)) < 0 ||
            sscanf(line, "%*f %*f %*f %*u/%llu", &n) != 1)
                return 0;
        return n;
}

static void read_node(StatsGather *gather)
{
        StatsReport *report = gather->report;
        const Runtime *runtime = gather->stats->options.runtime;
        uint64_t pid_max, threads_max;
        int r = runtime_machine_stats(runtime, gather->level, &report->node.used);

        finish_group(gather, "node", gather->level, r, &report->node);
        report->memory_bytes = value_after("/proc/meminfo", "MemTotal:") * 1024;
        report->swap_bytes = value_after("/proc/meminfo", "SwapTotal:") * 1024;
        if (gather->level < CGROUP_STATS_SUMMARY)
                return;
        report->node.started_us = (int64_t)value_after("/proc/stat", "btime") * 1000000;
        pid_max = number_in("/proc/sys/kernel/pid_max");
        threads_max = number_in("/proc/sys/kernel/threads-max");
        report->max_pids = threads_max && threads_max < pid_max ? threads_max : pid_max;
        report->processes = count_tasks();
        stats_read_network(report->arena, 0, &report->network);
}

static void read_qos(StatsGather *gather, QosClass qos, StatsQosGroup *g)
{
        const Runtime *runtime = gather->stats->options.runtime;
        int r = runtime_qos_stats(runtime, qos, gather->level, &g->group.used);

        g->path = take(gather, runtime_qos_group(runtime, qos));
        if (!g->path)
                return;
        g->group.started_us = runtime_qos_since_us(runtime, qos);
        finish_group(gather, g->path, gather->level, r, &g->group);
}

static void read_system(StatsGather *gather)
{
        StatsReport *report = gather->report;
        int r;

        read_qos(gather, QOS_GUARANTEED, &report->pods_group);
        r = runtime_self_stats(gather->stats->options.runtime, gather->level, &report->daemon.used);
        finish_group(gather, "kubelet", gather->level, r, &report->daemon);
        if (gather->level < CGROUP_STATS_ALL)
                return;
        read_qos(gather, QOS_BURSTABLE, &report->burstable);
        read_qos(gather, QOS_BEST_EFFORT, &report->best_effort);
}

int stats_report_new(Stats *s, CgroupStatsLevel level, StatsReport **ret, KlError **err)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        StatsReport *report = arena ? ARENA_NEW(arena, StatsReport) : NULL;
        StatsGather gather = { .stats = s, .report = report, .level = level };

        if (!report)
                return kl_error_oom(err);
        report->arena = arena;
        report->node_name = s->options.node_name;
        report->cgroups = runtime_cgroup_mode(s->options.runtime);
        read_node(&gather);
        read_system(&gather);
        s->list(&gather, s->data);
        forget_samples(s, report->node.time_us);
        if (gather.error)
                return kl_error_oom(err);
        *ret = report;
        KL_STEAL(arena);
        return 0;
}

StatsReport *stats_report_free(StatsReport *report)
{
        if (report)
                arena_free(report->arena);
        return NULL;
}

/* --- disks --- */

static void want(StatsJob *job, DiskPath *paths, const char *path, DiskKind kind, DiskUsage *target)
{
        if (!path)
                return;
        paths[job->n] = (DiskPath){ path, kind };
        job->targets[job->n++] = target;
}

static size_t count_paths(const StatsReport *report)
{
        size_t n = 3;

        for (size_t i = 0; i < report->n_pods; i++)
                n += 1 + 2 * report->pods[i].n_containers + report->pods[i].n_volumes;
        return n;
}

static void list_paths(StatsJob *job, DiskPath *paths)
{
        const StatsOptions *o = &job->stats->options;
        StatsReport *report = job->report;

        want(job, paths, o->root_dir, DISK_FS, &report->node_fs);
        want(job, paths, o->images_dir, DISK_FS, &report->image_fs);
        want(job, paths, o->containers_dir, DISK_FS, &report->container_fs);
        for (size_t i = 0; i < report->n_pods; i++) {
                StatsPod *pod = &report->pods[i];

                want(job, paths, pod->files_path, DISK_TREE, &pod->files);
                for (size_t j = 0; j < pod->n_containers; j++) {
                        StatsContainer *c = &pod->containers[j];

                        want(job, paths, c->layer_path, DISK_TREE, &c->rootfs);
                        want(job, paths, c->log_path, DISK_TREE, &c->logs);
                }
                for (size_t j = 0; j < pod->n_volumes; j++) {
                        StatsVolume *v = &pod->volumes[j];

                        want(job, paths, v->path, v->file_system ? DISK_FS : DISK_TREE, &v->usage);
                }
        }
}

static void add_usage(DiskUsage *sum, const DiskUsage *part)
{
        if (!part->known)
                return;
        sum->used_bytes += part->used_bytes;
        sum->inodes_used += part->inodes_used;
        if (part->time_us > sum->time_us)
                sum->time_us = part->time_us;
}

/* What a pod takes of the node's disk: layers, logs, its files, and its volumes of that kind. */
static void sum_ephemeral(StatsPod *pod, const DiskUsage *node_fs)
{
        DiskUsage sum = { .known = node_fs->known,
                          .time_us = node_fs->time_us,
                          .capacity_bytes = node_fs->capacity_bytes,
                          .available_bytes = node_fs->available_bytes,
                          .inodes = node_fs->inodes,
                          .inodes_free = node_fs->inodes_free };

        add_usage(&sum, &pod->files);
        for (size_t i = 0; i < pod->n_containers; i++) {
                add_usage(&sum, &pod->containers[i].rootfs);
                add_usage(&sum, &pod->containers[i].logs);
        }
        for (size_t i = 0; i < pod->n_volumes; i++)
                if (pod->volumes[i].local_ephemeral)
                        add_usage(&sum, &pod->volumes[i].usage);
        pod->ephemeral = sum;
}

/* Images and containers are shown with what is theirs of the file system, as upstream does. */
static void sum_container_fs(StatsReport *report, const DiskUsage *images)
{
        DiskUsage sum = { 0 };

        for (size_t i = 0; i < report->n_pods; i++)
                for (size_t j = 0; j < report->pods[i].n_containers; j++)
                        add_usage(&sum, &report->pods[i].containers[j].rootfs);
        report->container_fs.used_bytes = sum.used_bytes;
        report->container_fs.inodes_used = sum.inodes_used;
        if (images->known) {
                report->image_fs.used_bytes = images->used_bytes;
                report->image_fs.inodes_used = images->inodes_used;
        }
}

StatsJob *stats_job_free(StatsJob *job)
{
        if (!job)
                return NULL;
        disk_query_free(job->query);
        stats_report_free(job->report);
        free(job->targets);
        free(job);
        return NULL;
}

KL_DEFINE_CLEANUP(StatsJob *, stats_job_free);

static void on_images_measured(DiskQuery *query, const DiskUsage *usages, size_t n, void *data)
{
        KL_AUTO(stats_job_free) StatsJob *job = data;
        StatsReport *report = KL_STEAL(job->report);

        job->query = NULL;
        sum_container_fs(report, n ? usages : &(DiskUsage){ 0 });
        job->done(job, report, job->data);
}

/* The images' tree is asked for apart, since it may be older than the rest. */
static void on_disks_measured(DiskQuery *query, const DiskUsage *usages, size_t n, void *data)
{
        StatsJob *job = data;
        DiskPath images = { job->stats->options.images_dir, DISK_TREE };
        DiskRequest request = {
                .paths = &images,
                .n = 1,
                .max_age_ms = STATS_IMAGES_AGE_MS,
                .wait_ms = STATS_DISK_WAIT_MS,
                .done = on_images_measured,
                .data = job,
        };

        job->query = NULL;
        for (size_t i = 0; i < n; i++)
                *job->targets[i] = usages[i];
        for (size_t i = 0; i < job->report->n_pods; i++)
                sum_ephemeral(&job->report->pods[i], &job->report->node_fs);
        if (disk_query(job->stats->disk, &request, &job->query, NULL) < 0)
                on_images_measured(NULL, NULL, 0, job);
}

int stats_report_disks(Stats *s, StatsReport *report, uint64_t wait_ms, StatsFunc done, void *data,
                       StatsJob **ret, KlError **err)
{
        KL_AUTO(stats_job_free) StatsJob *job = calloc(1, sizeof(*job));
        size_t n = count_paths(report);
        KL_AUTOFREE DiskPath *paths = calloc(n, sizeof(*paths));
        DiskRequest request = {
                .paths = paths,
                .max_age_ms = DISK_AGE_MS,
                .wait_ms = wait_ms,
                .done = on_disks_measured,
        };

        if (job)
                job->targets = calloc(n, sizeof(DiskUsage *));
        if (!job || !paths || !job->targets) {
                stats_report_free(report);
                return kl_error_oom(err);
        }
        job->stats = s;
        job->report = report;
        job->done = done;
        job->data = data;
        list_paths(job, paths);
        request.n = job->n;
        request.data = job;
        KL_TRY(disk_query(s->disk, &request, &job->query, err));
        *ret = KL_STEAL(job);
        return 0;
}

/* --- the service --- */

int stats_new(Loop *loop, const StatsOptions *options, StatsListFunc list, void *data, Stats **ret,
              KlError **err)
{
        KL_AUTO(stats_free) Stats *s = calloc(1, sizeof(*s));

        if (!s)
                return kl_error_oom(err);
        s->loop = loop;
        s->options = *options;
        s->list = list;
        s->data = data;
        s->samples = map_new(free);
        if (!s->samples)
                return kl_error_oom(err);
        KL_TRY(disk_service_new(loop, &s->disk, err));
        *ret = KL_STEAL(s);
        return 0;
}

Stats *stats_free(Stats *s)
{
        if (!s)
                return NULL;
        disk_service_free(s->disk);
        map_free(s->samples);
        free(s);
        return NULL;
}

DiskService *stats_disk(Stats *s)
{
        return s->disk;
}
