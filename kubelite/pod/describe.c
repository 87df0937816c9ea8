/* SPDX-License-Identifier: Apache-2.0 */

/* What the local commands show of pods and containers. */

#include "pod/manager-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "pod/status-internal.h"
#include "pod/worker-internal.h"

#define ID_PREFIX_MIN 6

static void write_stamp(JsonWriter *w, const char *key, int64_t us)
{
        char stamp[TIME_RFC3339_SIZE];

        if (us > 0)
                time_format_rfc3339(us, stamp);
        jw_kstr(w, key, us > 0 ? stamp : "");
}

static const char *state_name(const ContainerView *c)
{
        if (status_is_running(c))
                return "running";
        return c->run == RUN_EXITED && !c->waiting_reason ? "exited" : "waiting";
}

static const char *reason_of(const ContainerView *c)
{
        if (!status_is_running(c) && c->waiting_reason)
                return c->waiting_reason;
        return c->run == RUN_EXITED && c->current.reason ? c->current.reason : "";
}

void pod_worker_describe(PodWorker *w, JsonWriter *out)
{
        size_t ready = 0, restarts = 0;
        const Pod *p = w->pod;
        char *const *ips = p->host_network ? w->context->host_ips : w->pod_ips;

        for (size_t i = p->n_init; i < p->n_init + p->n_main; i++)
                ready += w->containers[i]->view.ready;
        for (size_t i = 0; i < w->n_containers; i++)
                restarts += w->containers[i]->view.restart_count;
        jw_object(out);
        jw_kstr(out, "id", w->sandbox_id ? w->sandbox_id : "");
        jw_kstr(out, "uid", p->uid);
        jw_kstr(out, "name", p->name);
        jw_kstr(out, "namespace", p->namespace);
        jw_kstr(out, "phase", pod_worker_phase(w));
        jw_kbool(out, "ready", ready == p->n_main && !w->terminating);
        jw_kbool(out, "terminating", w->terminating);
        jw_kint(out, "containers_ready", (int64_t)ready);
        jw_kint(out, "containers", (int64_t)p->n_main);
        jw_kint(out, "restarts", (int64_t)restarts);
        jw_kstr_opt(out, "ip", ips ? ips[0] : NULL);
        write_stamp(out, "created", w->start_us);
        jw_kstr(out, "source", p->is_static ? "file" : "api");
        jw_end(out);
}

/* What a run of the container and the container itself have in common. */
static void describe_names(PodWorker *w, const WorkContainer *c, const char *id,
                           unsigned int attempt, JsonWriter *out)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        const char *log =
                arena ? compile_log_path(w->context, w->pod, c->name, attempt, arena) : NULL;

        jw_kstr(out, "id", id ? id : "");
        jw_kstr(out, "name", c->name);
        jw_kstr(out, "pod", w->pod->name);
        jw_kstr(out, "namespace", w->pod->namespace);
        jw_kstr(out, "pod_uid", w->pod->uid);
        jw_kstr(out, "image", c->view.spec->image);
        jw_kint(out, "attempt", attempt);
        jw_kstr(out, "log_path", log ? log : "");
}

static void describe_run(const RunRecord *run, bool ended, JsonWriter *out)
{
        if (run->started_us)
                write_stamp(out, "started_at", run->started_us);
        if (!ended)
                return;
        write_stamp(out, "finished_at", run->finished_us);
        jw_kint(out, "exit_code", run->exit_code);
}

static void describe_container(PodWorker *w, const WorkContainer *c, JsonWriter *out)
{
        const RunRecord *run = &c->view.current;
        ContainerInfo info;

        jw_object(out);
        describe_names(w, c, run->id, c->view.restart_count, out);
        jw_kstr(out, "state", state_name(&c->view));
        describe_run(run, c->view.run == RUN_EXITED, out);
        jw_kstr_opt(out, "reason", reason_of(&c->view));
        jw_kstr_opt(out, "message", c->view.waiting_message);
        if (w->sandbox && run->id && status_is_running(&c->view) &&
            sandbox_container(w->sandbox, run->id, &info))
                jw_kint(out, "pid", info.pid);
        jw_end(out);
}

static void describe_last(PodWorker *w, const WorkContainer *c, JsonWriter *out)
{
        const RunRecord *run = &c->view.last;

        jw_object(out);
        describe_names(w, c, run->id, c->view.restart_count ? c->view.restart_count - 1 : 0, out);
        jw_kstr(out, "state", "exited");
        describe_run(run, true, out);
        jw_kstr_opt(out, "reason", run->reason);
        jw_end(out);
}

void pod_worker_describe_containers(PodWorker *w, const char *only, bool all, JsonWriter *out)
{
        for (size_t i = 0; i < w->n_containers; i++) {
                const WorkContainer *c = w->containers[i];

                if (only && !str_eq(only, c->name))
                        continue;
                if (all || status_is_running(&c->view))
                        describe_container(w, c, out);
                if (all && c->view.last.id)
                        describe_last(w, c, out);
        }
}

static bool filter_matches(const PodFilter *filter, const Pod *pod)
{
        return (!filter->namespace || str_eq(filter->namespace, pod->namespace)) &&
               (!filter->name || str_eq(filter->name, pod->name) || str_eq(filter->name, pod->uid));
}

void pod_manager_list(PodManager *m, const PodFilter *filter, JsonWriter *w)
{
        PodEntry *e;

        jw_array(w);
        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);)
                if (e->worker && filter_matches(filter, pod_worker_pod(e->worker)))
                        pod_worker_describe(e->worker, w);
        jw_end(w);
}

void pod_manager_list_containers(PodManager *m, const PodFilter *filter, JsonWriter *w)
{
        PodEntry *e;

        jw_array(w);
        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);)
                if (e->worker && filter_matches(filter, pod_worker_pod(e->worker)))
                        pod_worker_describe_containers(e->worker, filter->container, filter->all,
                                                       w);
        jw_end(w);
}

static bool names_pod(const Pod *pod, const char *namespace, const char *what)
{
        const char *slash = strchr(what, '/');

        if (namespace && !str_eq(namespace, pod->namespace))
                return false;
        if (slash)
                return strncmp(pod->namespace, what, (size_t)(slash - what)) == 0 &&
                       pod->namespace[slash - what] == '\0' && str_eq(pod->name, slash + 1);
        return str_eq(pod->uid, what) || str_eq(pod->name, what);
}

static void inspect_pod(PodWorker *worker, JsonWriter *w)
{
        PodStatus status = { 0 };

        jw_object(w);
        jw_key(w, "pod");
        pod_worker_describe(worker, w);
        jw_key(w, "status");
        if (pod_worker_status(worker, &status) == 0)
                pod_status_write(&status, w);
        else
                jw_null(w);
        pod_status_deinit(&status);
        jw_karray(w, "containers");
        pod_worker_describe_containers(worker, NULL, true, w);
        jw_end(w);
        jw_end(w);
}

static bool inspect_container(PodWorker *worker, const char *what, JsonWriter *w)
{
        size_t n = strlen(what);

        for (size_t i = 0; i < worker->n_containers; i++) {
                const WorkContainer *c = worker->containers[i];
                bool by_id = c->view.current.id && n >= ID_PREFIX_MIN &&
                             strncmp(c->view.current.id, what, n) == 0;

                if (!by_id && !str_eq(c->name, what))
                        continue;
                jw_object(w);
                jw_key(w, "container");
                describe_container(worker, c, w);
                jw_key(w, "pod");
                pod_worker_describe(worker, w);
                jw_end(w);
                return true;
        }
        return false;
}

int pod_manager_inspect(PodManager *m, const char *namespace, const char *what, JsonWriter *w)
{
        PodEntry *e;

        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);) {
                if (e->worker && names_pod(pod_worker_pod(e->worker), namespace, what)) {
                        inspect_pod(e->worker, w);
                        return 0;
                }
        }
        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);) {
                const Pod *pod = e->worker ? pod_worker_pod(e->worker) : NULL;

                if (pod && (!namespace || str_eq(namespace, pod->namespace)) &&
                    inspect_container(e->worker, what, w))
                        return 0;
        }
        return 1;
}
