/* SPDX-License-Identifier: Apache-2.0 */

/* What a worker counts: upstream's kubelet_* families of pods, containers and the runtime. */

#include "pod/worker-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "metrics/metrics.h"

#define RUNTIME_HANDLER "" /* upstream's label for the default one */

static double seconds_since_ms(uint64_t begin_ms)
{
        return (double)(time_monotonic_ms() - begin_ms) / 1000;
}

static const char *kind_of(const WorkContainer *c)
{
        static const char *const kinds[] = { "init_container", "container", "ephemeral_container" };

        return kinds[c->view.spec->kind];
}

void worker_count_new(PodWorker *w, bool adopted)
{
        w->times.seen_ms = time_monotonic_ms();
        w->times.seen_us = time_realtime_us();
        /* What an earlier daemon started is not started again. */
        w->times.started = adopted;
        if (!adopted)
                metric_observe(METRIC_CONTAINERS_PER_POD, (double)w->pod->n_main);
}

void worker_count_turn(PodWorker *w, uint64_t begin_us)
{
        double took = (double)(time_monotonic_us() - begin_us) / 1e6;
        const char *operation = w->terminating ? "kill" : w->times.turned ? "sync" : "create";

        if (!w->times.turned)
                metric_observe(METRIC_POD_WORKER_START_DURATION,
                               seconds_since_ms(w->times.seen_ms));
        w->times.turned = true;
        metric_observe(METRIC_POD_WORKER_DURATION, took, operation);
}

/* --- sandboxes --- */

void worker_count_sandbox_begun(PodWorker *w)
{
        w->times.sandbox_ms = time_monotonic_ms();
        metric_add(METRIC_STARTED_PODS, 1);
        metric_add(METRIC_RUNTIME_OPERATIONS, 1, "run_podsandbox");
}

void worker_count_sandbox_ready(PodWorker *w)
{
        double took = seconds_since_ms(w->times.sandbox_ms);

        /* Adopted. */
        if (!w->times.sandbox_ms)
                return;
        metric_observe(METRIC_RUN_PODSANDBOX_DURATION, took, RUNTIME_HANDLER);
        metric_observe(METRIC_RUNTIME_OPERATIONS_DURATION, took, "run_podsandbox");
}

void worker_count_sandbox_error(void)
{
        metric_add(METRIC_STARTED_PODS_ERRORS, 1);
        metric_add(METRIC_RUN_PODSANDBOX_ERRORS, 1, RUNTIME_HANDLER);
        metric_add(METRIC_RUNTIME_OPERATIONS_ERRORS, 1, "run_podsandbox");
}

/* --- images --- */

/* Upstream's names of sizes (pkg/kubelet/images, GetBucket). */
static const char *size_bucket(uint64_t bytes)
{
        static const struct {
                uint64_t below_mb;
                const char *name;
        } buckets[] = {
                { 10, "0-10MB" },       { 100, "10MB-100MB" },    { 500, "100MB-500MB" },
                { 1000, "500MB-1GB" },  { 5000, "1GB-5GB" },      { 10000, "5GB-10GB" },
                { 20000, "10GB-20GB" }, { 30000, "20GB-30GB" },   { 40000, "30GB-40GB" },
                { 60000, "40GB-60GB" }, { 100000, "60GB-100GB" },
        };

        for (size_t i = 0; i < ELEMENTS(buckets); i++)
                if (bytes < buckets[i].below_mb * 1024 * 1024)
                        return buckets[i].name;
        return "GT100GB";
}

void worker_count_pull_begun(PodWorker *w)
{
        if (!w->times.pull_first_ms)
                w->times.pull_first_ms = time_monotonic_ms();
        metric_add(METRIC_RUNTIME_OPERATIONS, 1, "pull_image");
}

void worker_count_pull_done(PodWorker *w, const WorkContainer *c, const Image *image)
{
        double took = seconds_since_ms(c->pull_started_ms);

        w->times.pull_last_ms = time_monotonic_ms();
        metric_observe(METRIC_RUNTIME_OPERATIONS_DURATION, took, "pull_image");
        if (!image)
                metric_add(METRIC_RUNTIME_OPERATIONS_ERRORS, 1, "pull_image");
        else
                metric_observe(METRIC_IMAGE_PULL_DURATION, took, size_bucket(image->size_bytes));
}

/* --- containers --- */

void worker_count_start(PodWorker *w, WorkContainer *c)
{
        c->start_began_ms = time_monotonic_ms();
        if (c->view.spec->kind == CONTAINER_INIT && !w->times.init_first_ms)
                w->times.init_first_ms = c->start_began_ms;
        metric_add(METRIC_STARTED_CONTAINERS, 1, kind_of(c));
        metric_add(METRIC_RUNTIME_OPERATIONS, 1, "create_container");
        metric_add(METRIC_RUNTIME_OPERATIONS, 1, "start_container");
}

void worker_count_start_error(const WorkContainer *c, const char *reason)
{
        metric_add(METRIC_STARTED_CONTAINERS_ERRORS, 1, kind_of(c), reason);
}

void worker_count_stop(void)
{
        metric_add(METRIC_RUNTIME_OPERATIONS, 1, "stop_container");
}

static bool all_started(const PodWorker *w)
{
        for (size_t i = 0; i < w->n_containers; i++) {
                const ContainerView *v = &w->containers[i]->view;

                if (v->spec->kind == CONTAINER_MAIN && !v->current.started_us)
                        return false;
        }
        return true;
}

/* Pod start as the SLO defines it: what pulls and init containers took does not count. */
static void count_pod_started(PodWorker *w)
{
        const WorkerTimes *t = &w->times;
        int64_t created_us = w->pod->created_us ? w->pod->created_us : t->seen_us;
        double total = (double)(time_realtime_us() - created_us) / 1e6, sli;
        bool first =
                !w->pod->host_network && metric_value(METRIC_POD_START_SLI_DURATION, "true") == 0;
        const char *label = first ? "true" : "false";

        if (total < 0)
                total = 0;
        sli = total - (double)(t->pull_last_ms - t->pull_first_ms) / 1000 -
              (double)(t->init_last_ms - t->init_first_ms) / 1000;
        metric_observe(METRIC_POD_START_DURATION, seconds_since_ms(t->seen_ms));
        metric_observe(METRIC_POD_START_TOTAL_DURATION, total, label);
        metric_observe(METRIC_POD_START_SLI_DURATION, sli > 0 ? sli : 0, label);
}

void worker_count_started(PodWorker *w, const WorkContainer *c, const ContainerInfo *info)
{
        metric_observe(METRIC_RUNTIME_OPERATIONS_DURATION, seconds_since_ms(c->start_began_ms),
                       "start_container");
        if (!info->started_us) {
                metric_add(METRIC_RUNTIME_OPERATIONS_ERRORS, 1, "start_container");
                metric_add(METRIC_STARTED_CONTAINERS_ERRORS, 1, kind_of(c), "RunContainerError");
        }
        if (w->times.started || !all_started(w))
                return;
        w->times.started = true;
        count_pod_started(w);
}

void worker_count_ended(PodWorker *w, const WorkContainer *c)
{
        if (c->view.spec->kind == CONTAINER_INIT && w->times.init_first_ms)
                w->times.init_last_ms = time_monotonic_ms();
}
