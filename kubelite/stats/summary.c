/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The summary API (k8s.io/kubelet/pkg/apis/stats/v1alpha1), rendered. What is not known is left
 * out. Totals of pressure are in the kernel's microseconds, as upstream serves them, although its
 * documentation says nanoseconds.
 */

#include "stats/report.h"

#include "base/clock.h"
#include "base/str.h"

#define DEFAULT_INTERFACE "eth0"

static void write_time(JsonWriter *w, const char *key, int64_t us)
{
        char text[TIME_RFC3339_SIZE];

        if (!us)
                return;
        time_format_rfc3339(us, text);
        jw_kstr(w, key, text);
}

static void write_u64(JsonWriter *w, const char *key, uint64_t value)
{
        jw_key(w, key);
        jw_uint(w, value);
}

static void write_pressure_line(JsonWriter *w, const char *key, const CgroupPressureLine *line)
{
        const double averages[] = { line->avg10, line->avg60, line->avg300 };
        static const char *const keys[] = { "avg10", "avg60", "avg300" };

        jw_kobject(w, key);
        write_u64(w, "total", line->total_us);
        for (size_t i = 0; i < ELEMENTS(averages); i++) {
                char text[32];
                int n = snprintf(text, sizeof(text), "%.2f", averages[i]);

                jw_key(w, keys[i]);
                jw_raw(w, text, (size_t)n);
        }
        jw_end(w);
}

static void write_pressure(JsonWriter *w, const CgroupPressure *pressure)
{
        if (!pressure->known)
                return;
        jw_kobject(w, "psi");
        write_pressure_line(w, "full", &pressure->full);
        write_pressure_line(w, "some", &pressure->some);
        jw_end(w);
}

static void write_cpu(JsonWriter *w, const StatsGroup *g)
{
        jw_kobject(w, "cpu");
        write_time(w, "time", g->time_us);
        if (g->has_rate)
                write_u64(w, "usageNanoCores", g->nano_cores);
        write_u64(w, "usageCoreNanoSeconds", g->used.cpu_usage_ns);
        write_pressure(w, &g->used.cpu_pressure);
        jw_end(w);
}

/* limit 0: none, then there is no saying what is available. */
static void write_memory(JsonWriter *w, const StatsGroup *g, uint64_t limit)
{
        const CgroupStats *u = &g->used;

        jw_kobject(w, "memory");
        write_time(w, "time", g->time_us);
        if (limit)
                write_u64(w, "availableBytes",
                          limit > u->memory_working_set_bytes ? limit - u->memory_working_set_bytes
                                                              : 0);
        write_u64(w, "usageBytes", u->memory_usage_bytes);
        write_u64(w, "workingSetBytes", u->memory_working_set_bytes);
        write_u64(w, "rssBytes", u->memory_rss_bytes);
        write_u64(w, "pageFaults", u->page_faults);
        write_u64(w, "majorPageFaults", u->major_page_faults);
        write_pressure(w, &u->memory_pressure);
        jw_end(w);
}

static void write_io(JsonWriter *w, const StatsGroup *g)
{
        jw_kobject(w, "io");
        write_time(w, "time", g->time_us);
        write_pressure(w, &g->used.io_pressure);
        jw_end(w);
}

/* available: NULL: not shown. */
static void write_swap(JsonWriter *w, const StatsGroup *g, const uint64_t *available)
{
        jw_kobject(w, "swap");
        write_time(w, "time", g->time_us);
        if (available)
                write_u64(w, "swapAvailableBytes", *available);
        write_u64(w, "swapUsageBytes", g->used.swap_usage_bytes);
        jw_end(w);
}

static void write_disk_fields(JsonWriter *w, const DiskUsage *d)
{
        write_time(w, "time", d->time_us);
        write_u64(w, "availableBytes", d->available_bytes);
        write_u64(w, "capacityBytes", d->capacity_bytes);
        write_u64(w, "usedBytes", d->used_bytes);
        write_u64(w, "inodesFree", d->inodes_free);
        write_u64(w, "inodes", d->inodes);
        write_u64(w, "inodesUsed", d->inodes_used);
}

static void write_disk(JsonWriter *w, const char *key, const DiskUsage *d)
{
        if (!d->known)
                return;
        jw_kobject(w, key);
        write_disk_fields(w, d);
        jw_end(w);
}

/* --- networks --- */

static void write_interface_fields(JsonWriter *w, const StatsInterface *i)
{
        jw_kstr(w, "name", i->name);
        write_u64(w, "rxBytes", i->rx_bytes);
        write_u64(w, "rxErrors", i->rx_errors);
        write_u64(w, "txBytes", i->tx_bytes);
        write_u64(w, "txErrors", i->tx_errors);
}

static void write_network(JsonWriter *w, const StatsNetwork *net)
{
        if (!net->time_us || !net->n)
                return;
        jw_kobject(w, "network");
        write_time(w, "time", net->time_us);
        for (size_t i = 0; i < net->n; i++)
                if (str_eq(net->interfaces[i].name, DEFAULT_INTERFACE))
                        write_interface_fields(w, &net->interfaces[i]);
        jw_karray(w, "interfaces");
        for (size_t i = 0; i < net->n; i++) {
                jw_object(w);
                write_interface_fields(w, &net->interfaces[i]);
                jw_end(w);
        }
        jw_end(w);
        jw_end(w);
}

/* --- pods --- */

static void write_container(JsonWriter *w, const StatsContainer *c, bool only)
{
        const CgroupStats *u = &c->group.used;
        uint64_t available = 0;

        if (u->swap_limit_bytes != CGROUP_STATS_UNLIMITED &&
            u->swap_limit_bytes > u->swap_usage_bytes)
                available = u->swap_limit_bytes - u->swap_usage_bytes;
        jw_object(w);
        jw_kstr(w, "name", c->name);
        write_time(w, "startTime", c->group.started_us);
        write_cpu(w, &c->group);
        write_memory(w, &c->group, u->memory_limit_bytes);
        if (!only) {
                write_io(w, &c->group);
                write_disk(w, "rootfs", &c->rootfs);
                write_disk(w, "logs", &c->logs);
        }
        write_swap(w, &c->group, &available);
        jw_end(w);
}

static void write_volumes(JsonWriter *w, const StatsPod *pod)
{
        bool open = false;

        for (size_t i = 0; i < pod->n_volumes; i++) {
                const StatsVolume *v = &pod->volumes[i];

                if (!v->usage.known)
                        continue;
                if (!open)
                        jw_karray(w, "volume");
                open = true;
                jw_object(w);
                write_disk_fields(w, &v->usage);
                jw_kstr(w, "name", v->name);
                if (v->claim) {
                        jw_kobject(w, "pvcRef");
                        jw_kstr(w, "name", v->claim);
                        jw_kstr(w, "namespace", pod->namespace);
                        jw_end(w);
                }
                jw_end(w);
        }
        if (open)
                jw_end(w);
}

static void write_pod(JsonWriter *w, const StatsPod *pod, bool only)
{
        jw_object(w);
        jw_kobject(w, "podRef");
        jw_kstr(w, "name", pod->name);
        jw_kstr(w, "namespace", pod->namespace);
        jw_kstr(w, "uid", pod->uid);
        jw_end(w);
        write_time(w, "startTime", pod->started_us);
        jw_karray(w, "containers");
        for (size_t i = 0; i < pod->n_containers; i++)
                write_container(w, &pod->containers[i], only);
        jw_end(w);
        write_cpu(w, &pod->group);
        write_memory(w, &pod->group, pod->group.used.memory_limit_bytes);
        if (!only) {
                write_io(w, &pod->group);
                write_network(w, &pod->network);
                write_volumes(w, pod);
                write_disk(w, "ephemeral-storage", &pod->ephemeral);
                jw_kobject(w, "process_stats");
                write_u64(w, "process_count", pod->group.used.pids);
                jw_end(w);
        }
        write_swap(w, &pod->group, NULL);
        jw_end(w);
}

/* --- the node --- */

static void write_system_container(JsonWriter *w, const char *name, const StatsGroup *g, bool only)
{
        if (!g->known)
                return;
        jw_object(w);
        jw_kstr(w, "name", name);
        write_time(w, "startTime", g->started_us);
        write_cpu(w, g);
        write_memory(w, g, g->used.memory_limit_bytes);
        if (!only)
                write_io(w, g);
        write_swap(w, g, NULL);
        jw_end(w);
}

static void write_node_disks(JsonWriter *w, const StatsReport *report)
{
        write_disk(w, "fs", &report->node_fs);
        jw_kobject(w, "runtime");
        write_disk(w, "imageFs", &report->image_fs);
        write_disk(w, "containerFs", &report->container_fs);
        jw_end(w);
        jw_kobject(w, "rlimit");
        write_time(w, "time", report->node.time_us);
        write_u64(w, "maxpid", report->max_pids);
        write_u64(w, "curproc", report->processes);
        jw_end(w);
}

static void write_node(JsonWriter *w, const StatsReport *report, bool only)
{
        uint64_t swap_used = report->node.used.swap_usage_bytes, swap_free = 0;

        if (report->swap_bytes > swap_used)
                swap_free = report->swap_bytes - swap_used;
        jw_kobject(w, "node");
        jw_kstr(w, "nodeName", report->node_name);
        jw_karray(w, "systemContainers");
        write_system_container(w, "kubelet", &report->daemon, only);
        write_system_container(w, "pods", &report->pods_group.group, only);
        jw_end(w);
        write_time(w, "startTime", report->node.started_us);
        write_cpu(w, &report->node);
        write_memory(w, &report->node, report->memory_bytes);
        if (!only) {
                write_io(w, &report->node);
                write_network(w, &report->network);
                write_node_disks(w, report);
        }
        write_swap(w, &report->node, &swap_free);
        jw_end(w);
}

void stats_write_summary(const StatsReport *report, bool only_cpu_and_memory, JsonWriter *w)
{
        jw_object(w);
        write_node(w, report, only_cpu_and_memory);
        jw_karray(w, "pods");
        /* A pod without a group has not begun, or is over. */
        for (size_t i = 0; i < report->n_pods; i++)
                if (report->pods[i].group.known)
                        write_pod(w, &report->pods[i], only_cpu_and_memory);
        jw_end(w);
        jw_end(w);
}
