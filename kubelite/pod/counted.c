/* SPDX-License-Identifier: Apache-2.0 */

/* How many pods, containers and volumes there are of each kind, into the metrics' gauges. */

#include "pod/served.h"

#include "base/str.h"
#include "metrics/metrics.h"
#include "pod/manager-internal.h"
#include "pod/status-internal.h"
#include "pod/worker-internal.h"

typedef enum PodLifecycle {
        POD_LIFECYCLE_SYNC,
        POD_LIFECYCLE_TERMINATING,
        POD_LIFECYCLE_TERMINATED,
        POD_LIFECYCLE_COUNT,
} PodLifecycle;

typedef struct Counts {
        double running_pods, ephemeral, mirrors;
        double created, running, exited;
        double desired[2], active[2];              /* by is_static */
        double working[2][POD_LIFECYCLE_COUNT][2]; /* wanted or orphan, lifecycle, is_static */
} Counts;

static void count_containers(const PodWorker *w, Counts *c)
{
        ContainerInfo info;

        for (size_t i = 0; w->sandbox && sandbox_container_at(w->sandbox, i, &info); i++) {
                switch (info.state) {
                case CONTAINER_CREATED:
                        c->created++;
                        break;
                case CONTAINER_RUNNING:
                        c->running++;
                        break;
                case CONTAINER_EXITED:
                        c->exited++;
                        break;
                }
        }
}

static PodLifecycle lifecycle_of(PodWorker *w)
{
        if (!pod_worker_terminating(w))
                return pod_phase_is_terminal(pod_worker_phase(w)) ? POD_LIFECYCLE_TERMINATED
                                                                  : POD_LIFECYCLE_SYNC;
        return w->sandbox ? POD_LIFECYCLE_TERMINATING : POD_LIFECYCLE_TERMINATED;
}

static void count_pod(const PodEntry *e, Counts *c)
{
        PodWorker *w = e->worker;
        PodLifecycle lifecycle = lifecycle_of(w);
        bool is_static = w->pod->is_static, orphan = e->unwanted || e->gone_from_api;

        c->working[orphan][lifecycle][is_static]++;
        c->desired[is_static] += !orphan;
        c->active[is_static] += lifecycle == POD_LIFECYCLE_SYNC;
        c->mirrors += e->mirror != NULL;
        c->ephemeral += (double)w->pod->n_ephemeral;
        c->running_pods += w->sandbox && w->sandbox_state == SANDBOX_READY;
        count_containers(w, c);
}

/* Upstream names plugins "kubernetes.io/empty-dir" and the like; "" for what has no set-up. */
static const char *plugin_of(const Volume *volume)
{
        switch (volume->kind) {
        case VOLUME_EMPTY_DIR:
                return "kubernetes.io/empty-dir";
        case VOLUME_HOST_PATH:
                return "kubernetes.io/host-path";
        case VOLUME_CONFIG_MAP:
                return "kubernetes.io/configmap";
        case VOLUME_SECRET:
                return "kubernetes.io/secret";
        case VOLUME_DOWNWARD_API:
                return "kubernetes.io/downward-api";
        case VOLUME_PROJECTED:
                return "kubernetes.io/projected";
        case VOLUME_UNSUPPORTED:
        default:
                return "";
        }
}

static void count_volumes(const PodWorker *w)
{
        for (size_t i = 0; i < w->pod->n_volumes; i++) {
                const Volume *volume = &w->pod->volumes[i];
                const char *plugin = plugin_of(volume);

                if (!*plugin)
                        continue;
                metric_add(METRIC_TOTAL_VOLUMES, 1, plugin, "desired_state_of_world");
                if (w->volumes && pod_volume_path(w->volumes, volume->name))
                        metric_add(METRIC_TOTAL_VOLUMES, 1, plugin, "actual_state_of_world");
        }
}

static void set_counts(const Counts *c)
{
        static const char *const is_static[] = { "false", "true" };
        static const char *const config[] = { "desired", "orphan" };
        static const char *const lifecycles[] = { "sync", "terminating", "terminated" };

        metric_set(METRIC_RUNNING_PODS, c->running_pods);
        metric_set(METRIC_RUNNING_CONTAINERS, c->created, "created");
        metric_set(METRIC_RUNNING_CONTAINERS, c->exited, "exited");
        metric_set(METRIC_RUNNING_CONTAINERS, c->running, "running");
        metric_set(METRIC_MANAGED_EPHEMERAL_CONTAINERS, c->ephemeral);
        metric_set(METRIC_MIRROR_PODS, c->mirrors);
        for (size_t s = 0; s < ELEMENTS(is_static); s++) {
                metric_set(METRIC_DESIRED_PODS, c->desired[s], is_static[s]);
                metric_set(METRIC_ACTIVE_PODS, c->active[s], is_static[s]);
                for (size_t o = 0; o < ELEMENTS(config); o++)
                        for (size_t l = 0; l < ELEMENTS(lifecycles); l++)
                                metric_set(METRIC_WORKING_PODS, c->working[o][l][s], config[o],
                                           lifecycles[l], is_static[s]);
        }
}

void pod_manager_count(PodManager *m)
{
        Counts counts = { 0 };
        PodEntry *e;

        metric_clear(METRIC_TOTAL_VOLUMES);
        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);) {
                if (!e->worker)
                        continue;
                count_pod(e, &counts);
                count_volumes(e->worker);
        }
        set_counts(&counts);
}
