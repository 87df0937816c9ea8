/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The set of pods. An entry lives from the moment a source names a pod until the worker has
 * finished and the API knows. Entries are freed in a sweep at the end of the turn, never under a
 * callback.
 */

#include "pod/manager-internal.h"

#include "base/log.h"
#include "base/str.h"
#include "metrics/metrics.h"
#include "pod/admit.h"

static void entry_free(void *data)
{
        PodEntry *e = data;

        pod_worker_free(e->worker);
        status_sync_free(e->sync);
        mirror_free(e->mirror);
        free(e->uid);
        free(e);
}

PodEntry *manager_entry(PodManager *m, const char *uid)
{
        return map_get(m->entries, uid);
}

static const Pod *entry_pod(const PodEntry *e)
{
        return e->worker ? pod_worker_pod(e->worker) : NULL;
}

PodEntry *manager_static_by_name(PodManager *m, const char *namespace, const char *name)
{
        PodEntry *e;

        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);) {
                const Pod *pod = entry_pod(e);

                if (pod && pod->is_static && str_eq(pod->namespace, namespace) &&
                    str_eq(pod->name, name))
                        return e;
        }
        return NULL;
}

/* --- workers' events --- */

static void on_changed(PodWorker *worker, void *data)
{
        PodEntry *e = data;
        PodStatus status;

        deferred_schedule(e->manager->regroup);
        if (!e->sync)
                return;
        if (pod_worker_status(worker, &status) < 0) {
                log_error(e->uid, "Status cannot be rendered: out of memory");
                return;
        }
        status_sync_post(e->sync, &status);
}

static void on_finished(PodWorker *worker, void *data)
{
        PodEntry *e = data;

        log_info(pod_worker_pod(worker)->name, "Pod is gone from this node");
        /* The last status goes out before the deletion; the sync keeps it. */
        if (e->sync && !e->gone_from_api)
                status_sync_delete(e->sync);
        e->worker = pod_worker_free(e->worker);
        e->mirror = mirror_free(e->mirror);
        deferred_schedule(e->manager->regroup);
        deferred_schedule(e->manager->sweep);
}

static void on_gone(StatusSync *sync, void *data)
{
        PodEntry *e = data;

        e->gone_from_api = true;
        if (e->worker && !pod_worker_pod(e->worker)->is_static)
                pod_worker_terminate(e->worker, -1);
        deferred_schedule(e->manager->sweep);
}

static const StatusSyncEvents sync_events = { .gone = on_gone };
static const PodWorkerEvents worker_events = { .changed = on_changed, .finished = on_finished };

/* An entry without worker lives on only to tell the API. */
static bool entry_is_done(const PodEntry *e)
{
        return !e->worker && (!e->sync || e->gone_from_api);
}

static void on_sweep(Deferred *deferred, void *data)
{
        PodManager *m = data;
        bool freed = false;
        const char *uid;
        PodEntry *e;

        for (size_t i = 0; map_next(m->entries, &i, &uid, &e);) {
                if (!entry_is_done(e))
                        continue;
                map_remove(m->entries, uid);
                freed = true;
        }
        /* A static pod may wait for its predecessor of the same name. */
        if (freed && m->files)
                file_source_scan(m->files);
}

/* --- adding --- */

#define PREEMPTING "Preempting"
#define PREEMPTING_MESSAGE "Preempted in order to admit critical pod"

static void preempt(PodEntry *e)
{
        static const PodEnding ending = {
                .reason = PREEMPTING,
                .message = PREEMPTING_MESSAGE,
                .grace_s = -1,
                .disruption = true,
        };

        log_info(entry_pod(e)->name, "Pod ends: " PREEMPTING_MESSAGE);
        pod_worker_event(e->worker, "Warning", PREEMPTING, PREEMPTING_MESSAGE);
        pod_worker_end(e->worker, &ending);
}

const Pod **manager_active_pods(const PodManager *m, const PodEntry *except, PodEntry **entries,
                                size_t *ret_n)
{
        const Pod **pods = calloc(map_len(m->entries) + 1, sizeof(*pods));
        PodEntry *e;
        size_t n = 0;

        for (size_t i = 0; pods && map_next(m->entries, &i, NULL, &e);) {
                if (e == except || !e->worker || !pod_worker_is_active(e->worker))
                        continue;
                if (entries)
                        entries[n] = e;
                pods[n++] = entry_pod(e);
        }
        *ret_n = n;
        return pods;
}

static void admit(PodManager *m, PodEntry *e)
{
        size_t n = 0;
        KL_AUTOFREE PodEntry **others = calloc(map_len(m->entries) + 1, sizeof(*others));
        KL_AUTOFREE const Pod **pods = others ? manager_active_pods(m, e, others, &n) : NULL;
        Admission admission;

        if (!pods) {
                pod_worker_reject(e->worker, "UnexpectedAdmissionError", "out of memory");
                return;
        }
        if (pod_admit(m->context, entry_pod(e), pods, n, &admission) != 0) {
                metric_add(METRIC_ADMISSION_REJECTIONS, 1, admission.reason);
                pod_worker_reject(e->worker, admission.reason,
                                  admission.message ? admission.message : "");
        }
        for (size_t i = 0; admission.preempted && i < n; i++)
                if (admission.preempted[i])
                        preempt(others[i]);
        admission_deinit(&admission);
}

static void on_mirror_changed(Mirror *mirror, const char *uid, void *data)
{
        PodEntry *e = data;
        const Pod *pod = entry_pod(e);

        if (uid && pod && e->sync)
                status_sync_target(e->sync, pod->namespace, pod->name, uid);
}

static void on_mirror_refused(Mirror *mirror, const char *message, void *data)
{
        PodEntry *e = data;
        const Pod *pod = entry_pod(e);
        EventObject object = { .api_version = "v1",
                               .kind = "Node",
                               .namespace = "",
                               .name = e->manager->context->node_name,
                               .uid = e->manager->context->node_name };

        if (pod)
                event_emit(e->manager->context->events, &object, "Warning",
                           "FailedToCreateMirrorPod",
                           "Failed to create a mirror pod for \"%s_%s(%s)\": %s", pod->name,
                           pod->namespace, pod->uid, message);
}

static const MirrorEvents mirror_events = {
        .changed = on_mirror_changed,
        .refused = on_mirror_refused,
};

int manager_connect(PodManager *m, PodEntry *e, KlError **err)
{
        return status_sync_new(m->context->loop, m->context->api, &sync_events, e, &e->sync, err);
}

static int entry_connect(PodManager *m, PodEntry *e, const Pod *pod, KlError **err)
{
        if (!m->context->api)
                return 0;
        KL_TRY(manager_connect(m, e, err));
        if (!pod->is_static)
                return status_sync_target(e->sync, pod->namespace, pod->name, pod->uid);
        return mirror_new(m->context->loop, m->context->api, pod, m->context->node_name,
                          m->context->node_uid, &mirror_events, e, &e->mirror, err);
}

bool manager_runs(const PodManager *m, const Pod *pod)
{
        return map_get(m->unclaimed, pod->uid);
}

void manager_add_pod(PodManager *m, Pod *pod)
{
        Unclaimed *unclaimed = map_get(m->unclaimed, pod->uid);
        PodEntry *e = calloc(1, sizeof(*e));
        KL_AUTOERR err = NULL;
        int r;

        if (!e || !(e->uid = strdup(pod->uid)) || map_set(m->entries, pod->uid, e) < 0) {
                log_error(pod->name, "Pod cannot be run: out of memory");
                free(e ? e->uid : NULL);
                free(e);
                pod_free(pod);
                return;
        }
        e->manager = m;
        r = entry_connect(m, e, pod, &err);
        if (r == 0)
                r = pod_worker_new(m->context, pod, unclaimed ? &unclaimed->adopted : NULL,
                                   &worker_events, e, &e->worker, &err);
        else
                pod_free(pod);
        if (r < 0) {
                log_error(e->uid, "Pod cannot be run: %s", kl_error_msg(err));
                map_remove(m->entries, e->uid);
                return;
        }
        if (unclaimed) {
                /* The worker has the sandbox now. */
                unclaimed->sandbox = NULL;
                map_remove(m->unclaimed, e->uid);
        } else if (!pod_phase_is_terminal(pod->seen_phase) && !pod->deleted_us) {
                admit(m, e);
        }
        if (e->mirror)
                manager_tell_mirror(m, e);
        if (pod->deleted_us)
                pod_worker_terminate(e->worker, pod->deletion_grace_s);
}

/* --- static pods --- */

static bool in_set(Pod **pods, size_t n, const char *uid)
{
        for (size_t i = 0; i < n; i++)
                if (pods[i] && str_eq(pods[i]->uid, uid))
                        return true;
        return false;
}

static void drop_static_pods(PodManager *m, Pod **pods, size_t n)
{
        PodEntry *e;

        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);) {
                const Pod *pod = entry_pod(e);

                if (!pod || !pod->is_static || e->unwanted || in_set(pods, n, pod->uid))
                        continue;
                e->unwanted = true;
                log_info(pod->name, "Static pod goes: its manifest changed or is gone");
                pod_worker_terminate(e->worker, -1);
        }
}

static void add_static_pods(PodManager *m, Pod **pods, size_t n, bool running)
{
        for (size_t i = 0; i < n; i++) {
                Pod *pod = pods[i];

                /* One of the same name that is still ending goes first; its end scans again. */
                if (!pod || manager_runs(m, pod) != running || manager_entry(m, pod->uid) ||
                    manager_static_by_name(m, pod->namespace, pod->name))
                        continue;
                pods[i] = NULL;
                log_info(pod->name, "Static pod from '%s'", pod->source);
                manager_add_pod(m, pod);
        }
}

static void on_files(FileSource *source, Pod **pods, size_t n, void *data)
{
        PodManager *m = data;

        drop_static_pods(m, pods, n);
        add_static_pods(m, pods, n, true);
        add_static_pods(m, pods, n, false);
        m->files_scanned = true;
        manager_drop_orphan_mirrors(m);
        manager_sweep_unclaimed(m);
}

/* --- start --- */

static void on_adopted(const AdoptedSandbox *adopted, void *data)
{
        manager_add_unclaimed(data, adopted);
}

/* Attachments of sandboxes that are on record stay; all others are stale. */
static void collect_network(PodManager *m)
{
        KL_AUTOSTRV live = calloc(1, sizeof(*live));
        KL_AUTOERR err = NULL;
        Unclaimed *u;

        for (size_t i = 0; live && map_next(m->unclaimed, &i, NULL, &u);) {
                KL_AUTO(cni_result_free) CniResult *result = NULL;

                /* Without a result the ADD was cut off: it is taken back. */
                if (cni_cached_result(m->context->cni, u->id, "eth0", &result) == 0 &&
                    strv_add(&live, u->id) < 0)
                        return;
        }
        if (live && cni_collect(m->context->cni, live, &err) < 0)
                log_warning(NULL, "Stale network attachments stay for now: %s", kl_error_msg(err));
}

/* Sandboxes of which only the network knows: their records were removed or cannot be read. */
static void unpin_unknown(PodManager *m)
{
        KL_AUTO(map_free) Map *known = map_new(NULL);
        KL_AUTOSTRV attached = NULL;
        KL_AUTOERR err = NULL;
        Unclaimed *u;

        for (size_t i = 0; known && map_next(m->unclaimed, &i, NULL, &u);)
                if (map_set(known, u->id, u) < 0)
                        return;
        if (!known || cni_attached(m->context->cni, &attached, &err) < 0)
                return;
        for (char **id = attached; *id; id++)
                if (!map_get(known, *id))
                        runtime_unpin(*id);
}

static void on_adoption_done(void *data)
{
        PodManager *m = data;
        KL_AUTOERR err = NULL;

        m->adopted = true;
        unpin_unknown(m);
        collect_network(m);
        if (m->files)
                file_source_scan(m->files);
        else
                m->files_scanned = true;
        if (m->context->api && manager_follow_api(m, &err) < 0)
                log_error(NULL, "Pods of the API cannot be followed: %s", kl_error_msg(err));
        if (!m->context->api)
                m->api_synced = true;
        manager_sweep_unclaimed(m);
}

static void held_free(void *pod)
{
        pod_free(pod);
}

static void on_held_long(Timer *timer, void *data)
{
        PodManager *m = data;

        m->held_long = true;
        manager_release_held(m);
}

int pod_manager_new(const PodContext *context, const PodManagerOptions *options, PodManager **ret,
                    KlError **err)
{
        KL_AUTO(pod_manager_free) PodManager *m = calloc(1, sizeof(*m));

        if (!m)
                return kl_error_oom(err);
        m->context = context;
        m->file_check_ms = options->file_check_ms;
        m->entries = map_new(entry_free);
        m->unclaimed = map_new(manager_unclaimed_free);
        m->seen_mirrors = map_new(NULL);
        m->held = map_new(held_free);
        m->held_timer = timer_new(context->loop, on_held_long, m);
        m->sweep = deferred_new(context->loop, on_sweep, m);
        if (!m->entries || !m->unclaimed || !m->seen_mirrors || !m->held || !m->held_timer ||
            !m->sweep || manager_groups_init(m) < 0)
                return kl_error_oom(err);
        if (!str_empty(options->manifest_path))
                KL_TRY(file_source_new(context->loop, options->manifest_path, context->node_name,
                                       options->file_check_ms, on_files, m, &m->files, err));
        *ret = KL_STEAL(m);
        return 0;
}

PodManager *pod_manager_free(PodManager *m)
{
        SeenMirror *seen;

        if (!m)
                return NULL;
        worker_free(m->log_sweeper);
        file_source_free(m->files);
        api_watch_free(m->watch);
        map_free(m->entries);
        map_free(m->unclaimed);
        for (size_t i = 0; m->seen_mirrors && map_next(m->seen_mirrors, &i, NULL, &seen);) {
                free(seen->uid);
                free(seen->hash);
                free(seen);
        }
        map_free(m->seen_mirrors);
        map_free(m->held);
        timer_free(m->held_timer);
        deferred_free(m->sweep);
        deferred_free(m->regroup);
        free(m);
        return NULL;
}

int pod_manager_start(PodManager *m, KlError **err)
{
        return runtime_adopt(m->context->runtime, on_adopted, on_adoption_done, m, err);
}

bool pod_manager_remove_dead(PodManager *m)
{
        bool any = false;
        PodEntry *e;

        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);)
                if (e->worker)
                        any |= pod_worker_remove_dead(e->worker);
        return any;
}

void pod_manager_poke(PodManager *m)
{
        PodEntry *e;

        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);) {
                if (e->worker)
                        pod_worker_poke(e->worker);
                if (e->mirror)
                        mirror_set_node(e->mirror, m->context->node_uid);
        }
        manager_release_held(m);
}
