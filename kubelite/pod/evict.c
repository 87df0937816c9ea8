/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One look at a time: a report, then its disks by workers, then what follows from it. A look that
 * finds something to reclaim is followed at once by one that knows the pods, too, and that one
 * decides.
 */

#include "pod/evict.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "metrics/metrics.h"
#include "pod/evict-internal.h"
#include "pod/placement.h"

#include <fcntl.h>
#include <sys/stat.h>

#define STALLS "/proc/pressure/memory"
/* Woken when tasks waited for memory for 100 ms within 1 s. */
#define STALL_TRIGGER "some 100000 1000000"
#define DISK_WAIT_MS 20000
#define DISK_FRESH_MS 5000
/* Measuring trees may take this part of the time; but each minute it is done (as upstream does). */
#define TREES_SHARE 50
#define TREES_LATEST_MS 60000
#define GRACE_HARD_S 1 /* immediateEvictionGracePeriodSeconds */
#define REASON "Evicted"

struct Evictor {
        EvictorOptions options;
        EvictConfig config;
        EvictState state;
        Stats *stats;
        StatsOptions stats_options;
        Timer *timer;
        Watch *stalls;
        int stalls_fd;
        EvictScope scope;
        StatsReport *report;
        DiskQuery *query;
        uint64_t looked_ms;    /* the last look began */
        uint64_t trees_due_ms; /* pods with limits: not before */
        bool trees;            /* of the look at hand */
        bool reclaimed;        /* the node's own was, since this pressure began */
        char *leaving;         /* uid of the pod evicted last, while it is on its way */
        uint64_t leaving_until_ms;
};

static void begin(Evictor *e, EvictScope scope);

/* --- ending pods --- */

static bool end_pod(Evictor *e, PodEntry *entry, const char *message, int64_t grace_s,
                    const char *signal)
{
        const Pod *pod = pod_worker_pod(entry->worker);
        PodEnding ending = {
                .reason = REASON,
                .message = message,
                .grace_s = grace_s,
                .disruption = true,
        };

        if (pod_is_critical(pod))
                return false;
        log_warning(pod->name, "Pod is evicted: %s", message);
        pod_worker_event(entry->worker, "Warning", REASON, message);
        pod_worker_end(entry->worker, &ending);
        metric_add(METRIC_EVICTIONS, 1, signal);
        free(e->leaving);
        e->leaving = strdup(entry->uid);
        e->leaving_until_ms = time_monotonic_ms() + EVICT_CLEANUP_MS;
        return true;
}

static bool is_leaving(Evictor *e)
{
        PodEntry *entry = e->leaving ? manager_entry(e->options.pods, e->leaving) : NULL;

        if (entry && entry->worker && pod_worker_is_active(entry->worker) &&
            time_monotonic_ms() < e->leaving_until_ms)
                return true;
        free(e->leaving);
        e->leaving = NULL;
        return false;
}

/* Pods that use more than they may. True if one was ended. */
static bool end_over_limit(Evictor *e, const EvictLook *look)
{
        bool any = false;

        for (size_t i = 0; i < look->n; i++) {
                KL_AUTOFREE char *message = evict_over_limit(&e->config, &look->pods[i]);

                if (message)
                        any |= end_pod(e, look->entries[i], message, GRACE_HARD_S,
                                       "ephemeralpodfs.limit");
        }
        return any;
}

static PodEntry *entry_of(const EvictLook *look, const Pod *pod)
{
        for (size_t i = 0; i < look->n; i++)
                if (pod_worker_pod(look->entries[i]->worker) == pod)
                        return look->entries[i];
        return NULL;
}

static void end_first(Evictor *e, const EvictThreshold *threshold, EvictLook *look)
{
        int64_t grace = threshold->grace_ms ? e->config.max_grace_s : GRACE_HARD_S;

        evict_rank(&e->config, threshold->signal, look->pods, look->n);
        for (size_t i = 0; i < look->n; i++) {
                KL_AUTOFREE char *message =
                        evict_message(&e->config, threshold, look->observed, &look->pods[i]);
                PodEntry *entry = entry_of(look, look->pods[i].pod);

                if (entry && message &&
                    end_pod(e, entry, message, grace, evict_signal_name(threshold->signal)))
                        return;
        }
        log_warning(NULL, "The node is short of %s, and there is no pod to evict",
                    evict_resource(threshold->signal));
}

/* --- what follows from a look --- */

static void tell_node(Evictor *e, const char *resource)
{
        const PodContext *context = e->options.context;
        EventObject object = { .api_version = "v1",
                               .kind = "Node",
                               .namespace = "",
                               .name = context->node_name,
                               .uid = context->node_name };

        event_emit(context->events, &object, "Warning", "EvictionThresholdMet",
                   "Attempting to reclaim %s", resource);
}

static bool is_disk(const EvictThreshold *threshold)
{
        return evict_pressure(threshold->signal) == PRESSURE_DISK;
}

static EvictScope scope_for(const EvictThreshold *threshold)
{
        return is_disk(threshold) ? SCOPE_DISK : SCOPE_MEMORY;
}

static void reclaim(Evictor *e, const EvictThreshold *threshold, EvictLook *look)
{
        if (e->scope < scope_for(threshold)) {
                begin(e, scope_for(threshold));
                return;
        }
        tell_node(e, evict_resource(threshold->signal));
        if (is_disk(threshold) && !e->reclaimed) {
                e->reclaimed = true;
                if (e->options.reclaim_disk(e->options.data)) {
                        timer_start(e->timer, EVICT_RECLAIM_MS);
                        return;
                }
        }
        end_first(e, threshold, look);
}

static void decide(Evictor *e)
{
        KL_AUTO(stats_report_free) StatsReport *report = KL_STEAL(e->report);
        EvictDecision decision;
        EvictLook look;

        timer_start(e->timer, EVICT_INTERVAL_MS);
        if (evict_look(e->options.pods, report, &look) < 0) {
                log_error(NULL, "Pressure is not looked at: out of memory");
                return;
        }
        evict_step(&e->config, &e->state, look.observed, time_monotonic_ms(), &decision);
        e->options.pressure(decision.pressure, e->options.data);
        if (!decision.reclaim)
                e->reclaimed = false;
        if (e->trees && end_over_limit(e, &look))
                return;
        if (decision.reclaim && !is_leaving(e))
                reclaim(e, decision.reclaim, &look);
}

/* --- looking --- */

static uint64_t trees_pause(uint64_t took_ms)
{
        return took_ms * TREES_SHARE < TREES_LATEST_MS ? took_ms * TREES_SHARE : TREES_LATEST_MS;
}

static void on_measured(DiskQuery *query, const DiskUsage *usages, size_t n, void *data)
{
        Evictor *e = data;
        uint64_t now = time_monotonic_ms();

        e->query = NULL;
        evict_take_disks(e->report, usages, n);
        if (e->trees)
                e->trees_due_ms = now + trees_pause(now - e->looked_ms);
        decide(e);
}

static void measure(Evictor *e)
{
        size_t n = 0;
        KL_AUTOFREE DiskPath *paths = evict_disk_paths(&e->options, e->report, e->trees, &n);
        DiskRequest request = {
                .paths = paths,
                .n = n,
                .max_age_ms = DISK_FRESH_MS,
                .wait_ms = DISK_WAIT_MS,
                .done = on_measured,
                .data = e,
        };
        KL_AUTOERR err = NULL;

        if (!paths || disk_query(e->options.disk, &request, &e->query, &err) < 0) {
                e->trees = false;
                decide(e);
        }
}

static void list_pods(StatsGather *gather, void *data)
{
        Evictor *e = data;

        evict_list_pods(e->options.pods, e->scope, gather);
}

static void begin(Evictor *e, EvictScope scope)
{
        CgroupStatsLevel level = scope == SCOPE_MEMORY ? CGROUP_STATS_SUMMARY : CGROUP_STATS_BASIC;
        KL_AUTOERR err = NULL;

        timer_stop(e->timer);
        e->scope = scope;
        e->trees = scope == SCOPE_LIMITED || scope == SCOPE_DISK;
        e->looked_ms = time_monotonic_ms();
        if (stats_report_new(e->stats, level, &e->report, &err) < 0) {
                log_error(NULL, "Pressure is not looked at: %s", kl_error_msg(err));
                timer_start(e->timer, EVICT_INTERVAL_MS);
                return;
        }
        measure(e);
}

static void look(Evictor *e)
{
        bool limits = e->options.config->local_storage_capacity_isolation &&
                      time_monotonic_ms() >= e->trees_due_ms;

        if (!e->report)
                begin(e, limits ? SCOPE_LIMITED : SCOPE_NODE);
}

static void on_timer(Timer *timer, void *data)
{
        look(data);
}

static void on_stalls(Watch *watch, int fd, unsigned int events, void *data)
{
        Evictor *e = data;

        if (time_monotonic_ms() - e->looked_ms >= EVICT_STALL_MS)
                look(e);
}

/* --- life --- */

/* Not there (no PSI in the kernel, or switched off): the timer has to do. */
static void watch_stalls(Evictor *e, Loop *loop)
{
        bool memory = false;

        for (size_t i = 0; i < e->config.n; i++)
                memory |= evict_pressure(e->config.thresholds[i].signal) == PRESSURE_MEMORY;
        if (!memory)
                return;
        e->stalls_fd = open(STALLS, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (e->stalls_fd < 0)
                return;
        if (write(e->stalls_fd, STALL_TRIGGER, sizeof(STALL_TRIGGER)) < 0 ||
            watch_new(loop, e->stalls_fd, WATCH_PRI, on_stalls, e, &e->stalls) < 0)
                e->stalls_fd = kl_close(e->stalls_fd);
}

static bool same_file_system(const char *a, const char *b)
{
        struct stat x, y;

        return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev;
}

int evictor_new(Loop *loop, const EvictorOptions *options, Evictor **ret, KlError **err)
{
        KL_AUTO(evictor_free) Evictor *e = calloc(1, sizeof(*e));

        if (!e)
                return kl_error_oom(err);
        e->options = *options;
        e->stalls_fd = -1;
        KL_TRY(evict_config(options->config, &e->config, err));
        e->config.image_fs = !same_file_system(options->root_dir, options->images_dir);
        e->stats_options = (StatsOptions){
                .runtime = options->runtime,
                .node_name = options->context->node_name,
                .root_dir = options->root_dir,
                .images_dir = options->images_dir,
                .containers_dir = options->containers_dir,
        };
        KL_TRY(stats_new(loop, &e->stats_options, list_pods, e, &e->stats, err));
        e->timer = timer_new(loop, on_timer, e);
        if (!e->timer)
                return kl_error_oom(err);
        watch_stalls(e, loop);
        /* Not at once: what is adopted first shows itself. */
        timer_start(e->timer, EVICT_STALL_MS);
        *ret = KL_STEAL(e);
        return 0;
}

Evictor *evictor_free(Evictor *e)
{
        if (!e)
                return NULL;
        disk_query_free(e->query);
        stats_report_free(e->report);
        stats_free(e->stats);
        timer_free(e->timer);
        watch_free(e->stalls);
        kl_close(e->stalls_fd);
        free(e->leaving);
        free(e);
        return NULL;
}
