/* SPDX-License-Identifier: Apache-2.0 */

/* GET /metrics/resource: what metrics-server and autoscalers read. */

#include "stats/report.h"

#include "metrics/exposition.h"

typedef struct Row {
        Buf *to;
        const char *name;
        const StatsPod *pod;             /* NULL: the node */
        const StatsContainer *container; /* NULL: the pod */
} Row;

static ExpoSample begin_row(const Row *row)
{
        ExpoSample sample = expo_begin(row->to, row->name, "");

        if (row->container)
                expo_label(&sample, "container", row->container->name);
        if (row->pod) {
                expo_label(&sample, "namespace", row->pod->namespace);
                expo_label(&sample, "pod", row->pod->name);
        }
        return sample;
}

typedef void (*RowFunc)(const Row *row, const StatsGroup *group);

static int64_t stamp_ms(const StatsGroup *g)
{
        return g->time_us / 1000;
}

static void cpu_row(const Row *row, const StatsGroup *g)
{
        ExpoSample sample = begin_row(row);

        expo_end(&sample, (double)g->used.cpu_usage_ns / 1e9, stamp_ms(g));
}

static void memory_row(const Row *row, const StatsGroup *g)
{
        ExpoSample sample = begin_row(row);

        expo_end_u64(&sample, g->used.memory_working_set_bytes, stamp_ms(g));
}

static void swap_row(const Row *row, const StatsGroup *g)
{
        ExpoSample sample = begin_row(row);

        expo_end_u64(&sample, g->used.swap_usage_bytes, stamp_ms(g));
}

static void swap_limit_row(const Row *row, const StatsGroup *g)
{
        ExpoSample sample;

        if (g->used.swap_limit_bytes == CGROUP_STATS_UNLIMITED)
                return;
        sample = begin_row(row);
        expo_end_u64(&sample, g->used.swap_limit_bytes, stamp_ms(g));
}

static void start_row(const Row *row, const StatsGroup *g)
{
        ExpoSample sample = begin_row(row);

        expo_end(&sample, (double)g->started_us / 1e6, 0);
}

typedef enum Scope {
        SCOPE_CONTAINERS,
        SCOPE_NODE,
        SCOPE_PODS,
} Scope;

static const struct {
        const char *name, *help;
        ExpoType type;
        Scope scope;
        RowFunc func;
} families[] = {
        { "container_cpu_usage_seconds_total", "Processor time that the container used, in seconds",
          EXPO_COUNTER, SCOPE_CONTAINERS, cpu_row },
        { "container_memory_working_set_bytes", "Working set of the container in bytes", EXPO_GAUGE,
          SCOPE_CONTAINERS, memory_row },
        { "container_start_time_seconds", "When the container started, seconds since 1970",
          EXPO_GAUGE, SCOPE_CONTAINERS, start_row },
        { "container_swap_limit_bytes", "Swap that the container may use, in bytes", EXPO_GAUGE,
          SCOPE_CONTAINERS, swap_limit_row },
        { "container_swap_usage_bytes", "Swap that the container uses, in bytes", EXPO_GAUGE,
          SCOPE_CONTAINERS, swap_row },
        { "node_cpu_usage_seconds_total", "Processor time that the node used, in seconds",
          EXPO_COUNTER, SCOPE_NODE, cpu_row },
        { "node_memory_working_set_bytes", "Working set of the node in bytes", EXPO_GAUGE,
          SCOPE_NODE, memory_row },
        { "node_swap_usage_bytes", "Swap that the node uses, in bytes", EXPO_GAUGE, SCOPE_NODE,
          swap_row },
        { "pod_cpu_usage_seconds_total", "Processor time that the pod used, in seconds",
          EXPO_COUNTER, SCOPE_PODS, cpu_row },
        { "pod_memory_working_set_bytes", "Working set of the pod in bytes", EXPO_GAUGE, SCOPE_PODS,
          memory_row },
        { "pod_swap_usage_bytes", "Swap that the pod uses, in bytes", EXPO_GAUGE, SCOPE_PODS,
          swap_row },
};

static void write_pods(const StatsReport *report, Scope scope, RowFunc func, Row row)
{
        for (size_t i = 0; i < report->n_pods; i++) {
                const StatsPod *pod = &report->pods[i];

                row.pod = pod;
                if (scope == SCOPE_PODS && pod->group.known)
                        func(&row, &pod->group);
                for (size_t j = 0; scope == SCOPE_CONTAINERS && j < pod->n_containers; j++) {
                        row.container = &pod->containers[j];
                        func(&row, &pod->containers[j].group);
                }
                row.container = NULL;
        }
}

void stats_write_resource(const StatsReport *report, Buf *to)
{
        ExpoSample sample;

        for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
                Row row = { .to = to, .name = families[i].name };

                expo_family(to, families[i].name, families[i].help, families[i].type);
                if (families[i].scope != SCOPE_NODE)
                        write_pods(report, families[i].scope, families[i].func, row);
                else if (report->node.known)
                        families[i].func(&row, &report->node);
        }
        expo_family(to, "resource_scrape_error", "1 if figures could not be read, else 0",
                    EXPO_GAUGE);
        sample = expo_begin(to, "resource_scrape_error", "");
        expo_end_u64(&sample, !report->node.known, 0);
}
