/* SPDX-License-Identifier: Apache-2.0 */

/*
 * GET /metrics/cadvisor: every group of the tree under the names and labels that cAdvisor gives
 * them. What cAdvisor serves as a constant 0 on kubelets (load averages, task states, NVM) is left
 * out, and so is what would take a look at each process (descriptors, sockets).
 */

#include "stats/report.h"

#include "base/str.h"
#include "metrics/exposition.h"

#include <stddef.h>

typedef struct Group {
        const char *id, *container, *image, *name, *namespace, *pod;
        const StatsGroup *group;
        const StatsNetwork *network;
        uint64_t memory_limit_bytes, open_files_limit;
        bool leaf; /* a container */
} Group;

typedef struct Groups {
        Group *items;
        size_t n;
} Groups;

static ExpoSample begin_sample(Buf *to, const char *name, const Group *g)
{
        ExpoSample sample = expo_begin(to, name, "");

        expo_label(&sample, "container", g->container);
        expo_label(&sample, "id", g->id);
        expo_label(&sample, "image", g->image);
        expo_label(&sample, "name", g->name);
        expo_label(&sample, "namespace", g->namespace);
        expo_label(&sample, "pod", g->pod);
        return sample;
}

static int64_t stamp_ms(const Group *g)
{
        return g->group->time_us / 1000;
}

/* --- the groups --- */

static void add_group(Groups *to, Group g)
{
        if (g.group->known && g.id)
                to->items[to->n++] = g;
}

static void add_pods(Groups *to, const StatsReport *report)
{
        for (size_t i = 0; i < report->n_pods; i++) {
                const StatsPod *pod = &report->pods[i];

                add_group(to, (Group){ .id = pod->group_path,
                                       .namespace = pod->namespace,
                                       .pod = pod->name,
                                       .group = &pod->group,
                                       .memory_limit_bytes = pod->group.used.memory_limit_bytes,
                                       .network = &pod->network });
                for (size_t j = 0; j < pod->n_containers; j++) {
                        const StatsContainer *c = &pod->containers[j];

                        add_group(to,
                                  (Group){ .id = c->group_path,
                                           .container = c->name,
                                           .image = c->image,
                                           .name = c->id,
                                           .namespace = pod->namespace,
                                           .pod = pod->name,
                                           .group = &c->group,
                                           .memory_limit_bytes = c->group.used.memory_limit_bytes,
                                           .open_files_limit = c->open_files_limit,
                                           .leaf = true });
                }
        }
}

static bool list_groups(const StatsReport *report, Groups *ret)
{
        size_t room = 4;
        const StatsQosGroup *const qos[] = { &report->pods_group, &report->best_effort,
                                             &report->burstable };

        for (size_t i = 0; i < report->n_pods; i++)
                room += 1 + report->pods[i].n_containers;
        ret->items = calloc(room, sizeof(*ret->items));
        if (!ret->items)
                return false;
        add_group(ret, (Group){ .id = "/",
                                .group = &report->node,
                                .network = &report->network,
                                .memory_limit_bytes = report->memory_bytes });
        for (size_t i = 0; i < ELEMENTS(qos); i++)
                add_group(ret,
                          (Group){ .id = qos[i]->path,
                                   .group = &qos[i]->group,
                                   .memory_limit_bytes = qos[i]->group.used.memory_limit_bytes });
        add_pods(ret, report);
        return true;
}

/* --- families: one number each --- */

#define USED(field) offsetof(CgroupStats, field)

typedef struct Figure {
        const char *name, *help;
        ExpoType type;
        size_t offset; /* of an uint64_t in CgroupStats */
        bool seconds;  /* it counts nanoseconds */
        bool spec;     /* a setting: without a timestamp */
} Figure;

static const Figure cpu_figures[] = {
        { "container_cpu_cfs_periods_total", "Periods of the processor limit that passed",
          EXPO_COUNTER, USED(cpu_periods), false, false },
        { "container_cpu_cfs_throttled_periods_total", "Periods in which the limit was reached",
          EXPO_COUNTER, USED(cpu_throttled_periods), false, false },
        { "container_cpu_cfs_throttled_seconds_total", "Time spent waiting because of the limit",
          EXPO_COUNTER, USED(cpu_throttled_ns), true, false },
};

static const Figure figures[] = {
        { "container_cpu_system_seconds_total", "Processor time in the kernel, in seconds",
          EXPO_COUNTER, USED(cpu_system_ns), true, false },
        { "container_cpu_user_seconds_total", "Processor time outside of the kernel, in seconds",
          EXPO_COUNTER, USED(cpu_user_ns), true, false },
        { "container_memory_cache", "Page cache in bytes", EXPO_GAUGE, USED(memory_cache_bytes),
          false, false },
        { "container_memory_failcnt", "How often memory hit its limit", EXPO_COUNTER,
          USED(memory_failures), false, false },
        { "container_memory_kernel_usage", "Memory of the kernel in bytes", EXPO_GAUGE,
          USED(memory_kernel_bytes), false, false },
        { "container_memory_mapped_file", "Mapped files in bytes", EXPO_GAUGE,
          USED(memory_mapped_bytes), false, false },
        { "container_memory_max_usage_bytes", "The most memory that was used, in bytes", EXPO_GAUGE,
          USED(memory_max_bytes), false, false },
        { "container_memory_rss", "Anonymous memory in bytes", EXPO_GAUGE, USED(memory_rss_bytes),
          false, false },
        { "container_memory_swap", "Swap in bytes", EXPO_GAUGE, USED(swap_usage_bytes), false,
          false },
        { "container_memory_total_active_file_bytes", "Active files in bytes", EXPO_GAUGE,
          USED(memory_active_file_bytes), false, false },
        { "container_memory_total_inactive_file_bytes", "Inactive files in bytes", EXPO_GAUGE,
          USED(memory_inactive_file_bytes), false, false },
        { "container_memory_usage_bytes", "Memory in use, whenever it was last touched, in bytes",
          EXPO_GAUGE, USED(memory_usage_bytes), false, false },
        { "container_memory_working_set_bytes", "Working set in bytes", EXPO_GAUGE,
          USED(memory_working_set_bytes), false, false },
        { "container_oom_events_total", "Processes killed for want of memory", EXPO_COUNTER,
          USED(oom_kills), false, false },
        { "container_spec_cpu_period", "Period of the processor limit in microseconds", EXPO_GAUGE,
          USED(cpu_period_us), false, true },
        { "container_spec_cpu_shares", "Share of the processors", EXPO_GAUGE, USED(cpu_shares),
          false, true },
        { "container_spec_memory_reservation_limit_bytes", "Memory reservation in bytes",
          EXPO_GAUGE, USED(memory_reservation_bytes), false, true },
        { "container_threads", "Threads in the container", EXPO_GAUGE, USED(pids), false, false },
        { "container_threads_max", "Threads that there may be; 0: any number", EXPO_GAUGE,
          USED(pids_limit), false, false },
};

static uint64_t used_at(const Group *g, size_t offset)
{
        return *(const uint64_t *)((const char *)&g->group->used + offset);
}

static void write_figure(const Figure *f, const Groups *groups, bool limited_only, Buf *to)
{
        bool open = false;

        for (size_t i = 0; i < groups->n; i++) {
                const Group *g = &groups->items[i];
                uint64_t value = used_at(g, f->offset);
                int64_t time_ms = f->spec ? 0 : stamp_ms(g);
                ExpoSample sample;

                if (limited_only && !g->group->used.cpu_quota_us)
                        continue;
                if (!open)
                        expo_family(to, f->name, f->help, f->type);
                open = true;
                sample = begin_sample(to, f->name, g);
                if (f->seconds)
                        expo_end(&sample, (double)value / 1e9, time_ms);
                else
                        expo_end_u64(&sample, value, time_ms);
        }
}

/* --- families that are more than a number --- */

static void write_cpu_usage(const Groups *groups, Buf *to)
{
        static const char name[] = "container_cpu_usage_seconds_total";

        expo_family(to, name, "Processor time in seconds", EXPO_COUNTER);
        for (size_t i = 0; i < groups->n; i++) {
                const Group *g = &groups->items[i];
                ExpoSample sample = begin_sample(to, name, g);

                expo_label(&sample, "cpu", "total");
                expo_end(&sample, (double)g->group->used.cpu_usage_ns / 1e9, stamp_ms(g));
        }
}

/* The limit of one processor is 100000 in upstream's quota; only those that have one are shown. */
static void write_cpu_quota(const Groups *groups, Buf *to)
{
        static const Figure quota = { "container_spec_cpu_quota",
                                      "Processor limit in microseconds per period",
                                      EXPO_GAUGE,
                                      USED(cpu_quota_us),
                                      false,
                                      true };

        write_figure(&quota, groups, true, to);
}

static void write_failures(const Groups *groups, Buf *to)
{
        static const char name[] = "container_memory_failures_total";
        static const struct {
                const char *type, *scope;
                size_t offset;
        } rows[] = {
                { "pgfault", "container", USED(own_page_faults) },
                { "pgfault", "hierarchy", USED(page_faults) },
                { "pgmajfault", "container", USED(own_major_page_faults) },
                { "pgmajfault", "hierarchy", USED(major_page_faults) },
        };

        expo_family(to, name, "Page faults", EXPO_COUNTER);
        for (size_t i = 0; i < groups->n; i++) {
                const Group *g = &groups->items[i];

                for (size_t j = 0; j < ELEMENTS(rows); j++) {
                        ExpoSample sample = begin_sample(to, name, g);

                        expo_label(&sample, "failure_type", rows[j].type);
                        expo_label(&sample, "scope", rows[j].scope);
                        expo_end_u64(&sample, used_at(g, rows[j].offset), stamp_ms(g));
                }
        }
}

static void write_memory_limits(const Groups *groups, Buf *to)
{
        static const char limit[] = "container_spec_memory_limit_bytes";
        static const char swap[] = "container_spec_memory_swap_limit_bytes";

        expo_family(to, limit, "Memory limit in bytes; 0: none", EXPO_GAUGE);
        for (size_t i = 0; i < groups->n; i++) {
                ExpoSample sample = begin_sample(to, limit, &groups->items[i]);

                expo_end_u64(&sample, groups->items[i].memory_limit_bytes, 0);
        }
        expo_family(to, swap, "Swap limit in bytes; 0: none", EXPO_GAUGE);
        for (size_t i = 0; i < groups->n; i++) {
                uint64_t value = groups->items[i].group->used.swap_limit_bytes;
                ExpoSample sample = begin_sample(to, swap, &groups->items[i]);

                expo_end_u64(&sample, value == CGROUP_STATS_UNLIMITED ? 0 : value, 0);
        }
}

static void write_times(const Groups *groups, Buf *to)
{
        static const char seen[] = "container_last_seen",
                          started[] = "container_start_time_seconds";

        expo_family(to, seen, "When this was read, seconds since 1970", EXPO_GAUGE);
        for (size_t i = 0; i < groups->n; i++) {
                const Group *g = &groups->items[i];
                ExpoSample sample = begin_sample(to, seen, g);

                expo_end_u64(&sample, (uint64_t)(g->group->time_us / 1000000), stamp_ms(g));
        }
        expo_family(to, started, "When it started, seconds since 1970", EXPO_GAUGE);
        for (size_t i = 0; i < groups->n; i++) {
                ExpoSample sample;

                if (!groups->items[i].group->started_us)
                        continue;
                sample = begin_sample(to, started, &groups->items[i]);
                expo_end(&sample, (double)groups->items[i].group->started_us / 1e6, 0);
        }
}

static void write_processes(const Groups *groups, Buf *to)
{
        static const char processes[] = "container_processes", limits[] = "container_ulimits_soft";

        expo_family(to, processes, "Processes in the container", EXPO_GAUGE);
        for (size_t i = 0; i < groups->n; i++) {
                const Group *g = &groups->items[i];
                ExpoSample sample;

                if (!g->leaf)
                        continue;
                sample = begin_sample(to, processes, g);
                expo_end_u64(&sample, g->group->processes, stamp_ms(g));
        }
        expo_family(to, limits, "Soft limits of the container's first process", EXPO_GAUGE);
        for (size_t i = 0; i < groups->n; i++) {
                const Group *g = &groups->items[i];
                ExpoSample sample;

                if (!g->open_files_limit)
                        continue;
                sample = begin_sample(to, limits, g);
                expo_label(&sample, "ulimit", "max_open_files");
                expo_end_u64(&sample, g->open_files_limit, stamp_ms(g));
        }
}

/* --- networks --- */

static void write_networks(const Groups *groups, Buf *to)
{
        static const struct {
                const char *name, *help;
                size_t offset;
        } families[] = {
                { "container_network_receive_bytes_total", "Bytes received",
                  offsetof(StatsInterface, rx_bytes) },
                { "container_network_receive_errors_total", "Errors while receiving",
                  offsetof(StatsInterface, rx_errors) },
                { "container_network_receive_packets_dropped_total",
                  "Packets dropped while receiving", offsetof(StatsInterface, rx_dropped) },
                { "container_network_receive_packets_total", "Packets received",
                  offsetof(StatsInterface, rx_packets) },
                { "container_network_transmit_bytes_total", "Bytes sent",
                  offsetof(StatsInterface, tx_bytes) },
                { "container_network_transmit_errors_total", "Errors while sending",
                  offsetof(StatsInterface, tx_errors) },
                { "container_network_transmit_packets_dropped_total",
                  "Packets dropped while sending", offsetof(StatsInterface, tx_dropped) },
                { "container_network_transmit_packets_total", "Packets sent",
                  offsetof(StatsInterface, tx_packets) },
        };

        for (size_t f = 0; f < ELEMENTS(families); f++) {
                expo_family(to, families[f].name, families[f].help, EXPO_COUNTER);
                for (size_t i = 0; i < groups->n; i++) {
                        const StatsNetwork *net = groups->items[i].network;

                        for (size_t j = 0; net && j < net->n; j++) {
                                const char *at = (const char *)&net->interfaces[j];
                                ExpoSample sample =
                                        begin_sample(to, families[f].name, &groups->items[i]);

                                expo_label(&sample, "interface", net->interfaces[j].name);
                                expo_end_u64(&sample, *(const uint64_t *)(at + families[f].offset),
                                             net->time_us / 1000);
                        }
                }
        }
}

/* --- file systems: the node's, and what each container wrote --- */

static void write_fs_sample(Buf *to, const char *name, const char *device, uint64_t value,
                            const Group *g)
{
        ExpoSample sample = begin_sample(to, name, g);

        expo_label(&sample, "device", device);
        expo_end_u64(&sample, value, stamp_ms(g));
}

static void write_file_systems(const StatsReport *report, const Group *root, const char *device,
                               Buf *to)
{
        const DiskUsage *fs = &report->node_fs;
        const struct {
                const char *name, *help;
                uint64_t value;
        } families[] = {
                { "container_fs_inodes_free", "Inodes that are free", fs->inodes_free },
                { "container_fs_inodes_total", "Inodes", fs->inodes },
                { "container_fs_limit_bytes", "Bytes that the file system holds",
                  fs->capacity_bytes },
                { "container_fs_usage_bytes", "Bytes in use", fs->used_bytes },
        };

        for (size_t i = 0; fs->known && i < ELEMENTS(families); i++) {
                expo_family(to, families[i].name, families[i].help, EXPO_GAUGE);
                write_fs_sample(to, families[i].name, device, families[i].value, root);
        }
        for (size_t i = 0; fs->known && i < report->n_pods; i++) {
                const StatsPod *pod = &report->pods[i];

                for (size_t j = 0; j < pod->n_containers; j++) {
                        const StatsContainer *c = &pod->containers[j];
                        Group g = { .id = c->group_path,
                                    .container = c->name,
                                    .image = c->image,
                                    .name = c->id,
                                    .namespace = pod->namespace,
                                    .pod = pod->name,
                                    .group = &c->group };

                        if (c->rootfs.known)
                                write_fs_sample(to, "container_fs_usage_bytes", device,
                                                c->rootfs.used_bytes, &g);
                }
        }
}

/* --- the machine --- */

static void write_machine(const StatsReport *report, const StatsMachine *m, Buf *to)
{
        const struct {
                const char *name, *help;
                uint64_t value;
        } families[] = {
                { "machine_cpu_cores", "Logical processors", (uint64_t)m->cpus },
                { "machine_cpu_physical_cores", "Physical cores", m->cores },
                { "machine_cpu_sockets", "Processor sockets", m->sockets },
                { "machine_memory_bytes", "Memory in bytes", report->memory_bytes },
                { "machine_swap_bytes", "Swap in bytes", report->swap_bytes },
        };
        ExpoSample sample;

        for (size_t i = 0; i < ELEMENTS(families); i++) {
                expo_family(to, families[i].name, families[i].help, EXPO_GAUGE);
                sample = expo_begin(to, families[i].name, "");
                expo_label(&sample, "boot_id", m->boot_id);
                expo_label(&sample, "machine_id", m->machine_id);
                expo_label(&sample, "system_uuid", m->system_uuid);
                expo_end_u64(&sample, families[i].value, 0);
        }
        expo_family(to, "machine_scrape_error", "1 if the machine could not be read, else 0",
                    EXPO_GAUGE);
        sample = expo_begin(to, "machine_scrape_error", "");
        expo_end_u64(&sample, 0, 0);
}

static void write_version(const StatsMachine *m, Buf *to)
{
        ExpoSample sample;

        expo_family(to, "cadvisor_version_info", "Always 1; the labels tell of the machine",
                    EXPO_GAUGE);
        sample = expo_begin(to, "cadvisor_version_info", "");
        expo_label(&sample, "cadvisorRevision", "");
        expo_label(&sample, "cadvisorVersion", "");
        expo_label(&sample, "dockerVersion", "");
        expo_label(&sample, "kernelVersion", m->kernel_version);
        expo_label(&sample, "osVersion", m->os_image);
        expo_end_u64(&sample, 1, 0);
}

void stats_write_cadvisor(const StatsReport *report, const StatsMachine *machine, Buf *to)
{
        Groups groups = { 0 };
        ExpoSample sample;
        bool ok = list_groups(report, &groups);

        write_version(machine, to);
        for (size_t i = 0; i < ELEMENTS(cpu_figures); i++)
                write_figure(&cpu_figures[i], &groups, true, to);
        write_cpu_usage(&groups, to);
        for (size_t i = 0; i < ELEMENTS(figures); i++)
                write_figure(&figures[i], &groups, false, to);
        write_cpu_quota(&groups, to);
        write_failures(&groups, to);
        write_memory_limits(&groups, to);
        write_times(&groups, to);
        write_processes(&groups, to);
        write_networks(&groups, to);
        if (groups.n)
                write_file_systems(report, &groups.items[0], machine->root_device, to);
        expo_family(to, "container_scrape_error", "1 if groups could not be read, else 0",
                    EXPO_GAUGE);
        sample = expo_begin(to, "container_scrape_error", "");
        expo_end_u64(&sample, !ok || !report->node.known, 0);
        write_machine(report, machine, to);
        free(groups.items);
}
