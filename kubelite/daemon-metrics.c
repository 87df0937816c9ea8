/* SPDX-License-Identifier: Apache-2.0 */

/* The pages below /metrics. What rooms count is in the registry; gauges are set when one asks. */

#include "daemon.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "metrics/metrics.h"
#include "node/facts.h"
#include "pod/served.h"

#include <dirent.h>
#include <math.h>
#include <sys/resource.h>

#define CPUINFO_MAX (4U << 20)
#define MOUNTINFO_MAX (4U << 20)
#define DEVICE_SIZE 256

static void respond(ServerRequest *rq, Buf *body)
{
        if (buf_error(body))
                exchange_respond_text(server_request_exchange(rq), 500, "out of memory");
        else
                exchange_respond_buf(server_request_exchange(rq), 200, EXPO_CONTENT_TYPE, body);
}

/* --- /metrics --- */

static double seconds_of(struct timeval t)
{
        return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double count_descriptors(void)
{
        KL_AUTODIR DIR *dir = opendir("/proc/self/fd");
        double n = 0;

        /* ".", ".." and the directory itself are none. */
        while (dir && readdir(dir))
                n++;
        return n > 3 ? n - 3 : 0;
}

static void set_process(const Daemon *d)
{
        struct rlimit files = { 0 }, memory = { 0 };
        struct rusage usage;
        char line[128];
        unsigned long long size = 0, resident = 0;

        if (getrusage(RUSAGE_SELF, &usage) == 0)
                metric_set(METRIC_PROCESS_CPU_SECONDS,
                           seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime));
        getrlimit(RLIMIT_NOFILE, &files);
        getrlimit(RLIMIT_AS, &memory);
        metric_set(METRIC_PROCESS_MAX_FDS, (double)files.rlim_cur);
        metric_set(METRIC_PROCESS_OPEN_FDS, count_descriptors());
        metric_set(METRIC_PROCESS_VIRTUAL_MAX_BYTES,
                   memory.rlim_cur == RLIM_INFINITY ? -1 : (double)memory.rlim_cur);
        if (file_read_line("/proc/self/statm", line, sizeof(line)) == 0 &&
            sscanf(line, "%llu %llu", &size, &resident) == 2) {
                double page = (double)sysconf(_SC_PAGESIZE);

                metric_set(METRIC_PROCESS_VIRTUAL_BYTES, (double)size * page);
                metric_set(METRIC_PROCESS_RESIDENT_BYTES, (double)resident * page);
        }
        metric_set(METRIC_PROCESS_START_TIME, (double)d->started_us / 1e6);
}

static void set_build(const Daemon *d)
{
        char version[KUBERNETES_VERSION_SIZE], major[8] = "", minor[8] = "";
        KL_AUTOFREE char *platform = str_format("linux/%s", node_facts(d->node)->architecture);

        kubernetes_version(KUBERNETES_VERSION_FILE, version);
        sscanf(version, "v%7[0-9].%7[0-9]", major, minor);
        metric_clear(METRIC_BUILD_INFO);
        if (platform)
                metric_set(METRIC_BUILD_INFO, 1, "gcc", version, major, minor, platform);
        metric_set(METRIC_NODE_NAME, 1, d->name);
        metric_set(METRIC_CGROUP_VERSION, runtime_cgroup_mode(d->runtime) == CGROUP_V2 ? 2 : 1);
}

static void set_volume(const StatsPod *pod, const StatsVolume *v)
{
        const DiskUsage *u = &v->usage;

        metric_set(METRIC_VOLUME_AVAILABLE_BYTES, (double)u->available_bytes, pod->namespace,
                   v->claim);
        metric_set(METRIC_VOLUME_CAPACITY_BYTES, (double)u->capacity_bytes, pod->namespace,
                   v->claim);
        metric_set(METRIC_VOLUME_INODES, (double)u->inodes, pod->namespace, v->claim);
        metric_set(METRIC_VOLUME_INODES_FREE, (double)u->inodes_free, pod->namespace, v->claim);
        metric_set(METRIC_VOLUME_INODES_USED, (double)u->inodes_used, pod->namespace, v->claim);
        metric_set(METRIC_VOLUME_USED_BYTES, (double)u->used_bytes, pod->namespace, v->claim);
}

static void set_disks(const StatsReport *report)
{
        static const MetricId ids[] = {
                METRIC_VOLUME_AVAILABLE_BYTES,
                METRIC_VOLUME_CAPACITY_BYTES,
                METRIC_VOLUME_INODES,
                METRIC_VOLUME_INODES_FREE,
                METRIC_VOLUME_INODES_USED,
                METRIC_VOLUME_USED_BYTES,
                METRIC_CONTAINER_LOG_USED_BYTES,
        };

        for (size_t i = 0; i < ELEMENTS(ids); i++)
                metric_clear(ids[i]);
        for (size_t i = 0; i < report->n_pods; i++) {
                const StatsPod *pod = &report->pods[i];

                for (size_t j = 0; j < pod->n_volumes; j++)
                        if (pod->volumes[j].claim && pod->volumes[j].usage.known)
                                set_volume(pod, &pod->volumes[j]);
                for (size_t j = 0; j < pod->n_containers; j++)
                        if (pod->containers[j].logs.known)
                                metric_set(METRIC_CONTAINER_LOG_USED_BYTES,
                                           (double)pod->containers[j].logs.used_bytes, pod->uid,
                                           pod->namespace, pod->name, pod->containers[j].name);
        }
}

static void serve_metrics(Daemon *d, ServerRequest *rq, StatsReport *report)
{
        KL_AUTOBUF body = BUF_INIT;

        set_process(d);
        set_build(d);
        set_disks(report);
        pod_manager_count(d->pods);
        metrics_write(METRIC_PAGE_METRICS, &body);
        respond(rq, &body);
}

/* --- /metrics/probes, /metrics/resource --- */

static void serve_probes(Daemon *d, ServerRequest *rq)
{
        KL_AUTOBUF body = BUF_INIT;

        metric_set(METRIC_PROCESS_START_TIME, (double)d->started_us / 1e6);
        metrics_write(METRIC_PAGE_PROBES, &body);
        respond(rq, &body);
}

static void serve_resource(Daemon *d, ServerRequest *rq)
{
        KL_AUTO(stats_report_free) StatsReport *report = NULL;
        KL_AUTOBUF body = BUF_INIT;
        KL_AUTOERR err = NULL;

        if (stats_report_new(d->stats, CGROUP_STATS_BASIC, &report, &err) < 0) {
                exchange_respond_text(server_request_exchange(rq), 500, "%s", kl_error_msg(err));
                return;
        }
        stats_write_resource(report, &body);
        respond(rq, &body);
}

/* --- /metrics/cadvisor --- */

static void serve_cadvisor(Daemon *d, ServerRequest *rq, StatsReport *report)
{
        const NodeFacts *facts = node_facts(d->node);
        KL_AUTOFREE char *mounts = NULL, *cpuinfo = NULL;
        char device[DEVICE_SIZE] = "none";
        StatsMachine machine = {
                .boot_id = facts->boot_id,
                .machine_id = facts->machine_id,
                .system_uuid = facts->system_uuid,
                .kernel_version = facts->kernel_version,
                .os_image = facts->os_image,
                .cpus = facts->cpus,
                .root_device = device,
        };
        KL_AUTOBUF body = BUF_INIT;

        if (file_read("/proc/cpuinfo", CPUINFO_MAX, &cpuinfo, NULL) == 0)
                stats_count_cores(cpuinfo, &machine.cores, &machine.sockets);
        if (file_read("/proc/self/mountinfo", MOUNTINFO_MAX, &mounts, NULL) == 0)
                stats_find_device(mounts, d->flags->root_dir, device, sizeof(device));
        stats_write_cadvisor(report, &machine, &body);
        respond(rq, &body);
}

/* --- what waits for disks --- */

typedef struct DiskPage {
        Daemon *daemon;
        ServerRequest *rq;
        StatsJob *job;
        void (*serve)(Daemon *d, ServerRequest *rq, StatsReport *report);
} DiskPage;

static void page_free(void *data)
{
        DiskPage *p = data;

        stats_job_free(p->job);
        free(p);
}

static void on_disks(StatsJob *job, StatsReport *report, void *data)
{
        KL_AUTO(stats_report_free) StatsReport *mine = report;
        DiskPage *p = data;

        p->job = NULL;
        p->serve(p->daemon, p->rq, mine);
}

static int start_page(Daemon *d, ServerRequest *rq, CgroupStatsLevel level,
                      void (*serve)(Daemon *, ServerRequest *, StatsReport *), KlError **err)
{
        DiskPage *p = calloc(1, sizeof(*p));
        StatsReport *report;

        if (!p)
                return kl_error_oom(err);
        *p = (DiskPage){ .daemon = d, .rq = rq, .serve = serve };
        server_request_set_data(rq, p, page_free);
        KL_TRY(stats_report_new(d->stats, level, &report, err));
        return stats_report_disks(d->stats, report, STATS_DISK_WAIT_MS, on_disks, p, &p->job, err);
}

static void serve_page(ServerRequest *rq, void *data)
{
        Daemon *d = data;
        const Target *target = server_request_target(rq);
        const char *page = target->n_segments > 1 ? target->segments[1] : "";
        KL_AUTOERR err = NULL;
        int r = 0;

        if (target->n_segments == 1)
                r = start_page(d, rq, CGROUP_STATS_BASIC, serve_metrics, &err);
        else if (target->n_segments == 2 && str_eq(page, "cadvisor"))
                r = start_page(d, rq, CGROUP_STATS_ALL, serve_cadvisor, &err);
        else if (target->n_segments == 2 && str_eq(page, "resource"))
                serve_resource(d, rq);
        else if (target->n_segments == 2 && str_eq(page, "probes"))
                serve_probes(d, rq);
        else
                exchange_respond_text(server_request_exchange(rq), 404, "404 page not found");
        if (r < 0)
                exchange_respond_text(server_request_exchange(rq), 500, "%s", kl_error_msg(err));
}

int daemon_metrics_serve(Daemon *d)
{
        return kubelet_server_handle(d->server, "metrics", serve_page, d);
}
