/* SPDX-License-Identifier: Apache-2.0 */

/* Pods as the kubelet API serves them: what the API gave of a pod, and the status that is now. */

#include "pod/served.h"

#include "base/str.h"
#include "pod/manager-internal.h"
#include "pod/status-internal.h"
#include "pod/worker-internal.h"

static void begin_list(JsonWriter *w)
{
        jw_object(w);
        jw_kstr(w, "kind", "PodList");
        jw_kstr(w, "apiVersion", "v1");
        jw_kobject(w, "metadata");
        jw_end(w);
        jw_karray(w, "items");
}

static int write_pod(PodWorker *worker, JsonWriter *w)
{
        const Pod *pod = pod_worker_pod(worker);
        PodStatus status = { 0 };
        int r = pod_worker_status(worker, &status);

        if (r < 0)
                return r;
        jw_object(w);
        jw_raw(w, pod->json, strlen(pod->json));
        jw_key(w, "status");
        pod_status_write(&status, w);
        jw_end(w);
        pod_status_deinit(&status);
        return 0;
}

int pod_manager_write_pods(PodManager *m, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);
        PodEntry *e;

        begin_list(&w);
        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);)
                if (e->worker)
                        KL_TRY(write_pod(e->worker, &w));
        jw_end(&w);
        jw_end(&w);
        return buf_error(to);
}

static bool has_running(const PodWorker *worker)
{
        for (size_t i = 0; i < worker->n_containers; i++)
                if (status_is_running(&worker->containers[i]->view))
                        return true;
        return false;
}

static void write_running(const PodWorker *worker, JsonWriter *w)
{
        jw_object(w);
        jw_kobject(w, "metadata");
        jw_kstr(w, "name", worker->pod->name);
        jw_kstr(w, "namespace", worker->pod->namespace);
        jw_kstr(w, "uid", worker->pod->uid);
        jw_end(w);
        jw_kobject(w, "spec");
        jw_karray(w, "containers");
        for (size_t i = 0; i < worker->n_containers; i++) {
                const ContainerView *c = &worker->containers[i]->view;

                if (!status_is_running(c))
                        continue;
                jw_object(w);
                jw_kstr(w, "name", c->spec->name);
                jw_kstr(w, "image", c->image_id && *c->image_id ? c->image_id : c->spec->image);
                jw_kobject(w, "resources");
                jw_end(w);
                jw_end(w);
        }
        jw_end(w);
        jw_end(w);
        jw_kobject(w, "status");
        jw_end(w);
        jw_end(w);
}

int pod_manager_write_running(PodManager *m, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);
        PodEntry *e;

        begin_list(&w);
        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);)
                if (e->worker && has_running(e->worker))
                        write_running(e->worker, &w);
        jw_end(&w);
        jw_end(&w);
        return buf_error(to);
}

/* --- logs --- */

static PodWorker *find_pod(PodManager *m, const char *namespace, const char *name)
{
        PodWorker *found = NULL;
        PodEntry *e;

        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);) {
                const Pod *pod = e->worker ? pod_worker_pod(e->worker) : NULL;

                if (!pod || !str_eq(pod->namespace, namespace) || !str_eq(pod->name, name))
                        continue;
                /* Of two of one name the newer one counts. */
                if (!found || pod_worker_terminating(found))
                        found = e->worker;
        }
        return found;
}

static bool has_run(const ContainerView *c)
{
        return c->run == RUN_RUNNING || c->run == RUN_STOPPING || c->run == RUN_EXITED;
}

/* The attempt whose log is asked for; upstream's words where there is none (kubelet_pods.go,
 * validateContainerLogStatus). */
static int find_attempt(const PodWorker *w, const ContainerView *c, bool previous,
                        unsigned int *ret, KlError **err)
{
        const char *name = c->spec->name, *reason = c->waiting_reason;

        if (previous) {
                if (!c->last.id || c->restart_count == 0)
                        return kl_error(err, -EINVAL, NULL,
                                        "previous terminated container \"%s\" in pod \"%s\" not "
                                        "found",
                                        name, w->pod->name);
                *ret = c->restart_count - 1;
                return 0;
        }
        if (has_run(c)) {
                *ret = c->restart_count;
                return 0;
        }
        if (c->last.id && c->restart_count > 0) {
                *ret = c->restart_count - 1;
                return 0;
        }
        if (reason && (str_eq(reason, "ErrImagePull") || str_eq(reason, "ImagePullBackOff")))
                return kl_error(err, -EINVAL, NULL,
                                "container \"%s\" in pod \"%s\" is waiting to start: %s", name,
                                w->pod->name,
                                str_eq(reason, "ErrImagePull")
                                        ? "image can't be pulled"
                                        : "trying and failing to pull image");
        return kl_error(err, -EINVAL, NULL,
                        "container \"%s\" in pod \"%s\" is waiting to start: %s", name,
                        w->pod->name, reason ? reason : "ContainerCreating");
}

static const WorkContainer *find_container(const PodWorker *w, const char *name)
{
        for (size_t i = 0; i < w->n_containers; i++)
                if (str_eq(w->containers[i]->name, name))
                        return w->containers[i];
        return NULL;
}

int pod_manager_find_log(PodManager *m, const char *namespace, const char *pod,
                         const char *container, bool previous, char **ret_path, KlError **err)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        const PodWorker *w = find_pod(m, namespace, pod);
        const WorkContainer *c = w ? find_container(w, container) : NULL;
        unsigned int attempt = 0;
        const char *path;

        if (!w)
                return kl_error(err, -ENOENT, NULL, "pod \"%s\" does not exist", pod);
        if (!c)
                return kl_error(err, -ENOENT, NULL, "container \"%s\" not found in pod \"%s\"",
                                container, pod);
        KL_TRY(find_attempt(w, &c->view, previous, &attempt, err));
        path = arena ? compile_log_path(m->context, w->pod, c->name, attempt, arena) : NULL;
        *ret_path = path ? strdup(path) : NULL;
        return *ret_path ? 0 : kl_error_oom(err);
}

bool pod_manager_log_goes_on(PodManager *m, const char *namespace, const char *pod,
                             const char *container, const char *path)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        const PodWorker *w = find_pod(m, namespace, pod);
        const WorkContainer *c = w ? find_container(w, container) : NULL;
        const char *now;

        if (!c || !arena || !status_is_running(&c->view))
                return false;
        now = compile_log_path(m->context, w->pod, c->name, c->view.restart_count, arena);
        return str_eq(now, path);
}

/* --- places --- */

static bool is_uid_of(PodManager *m, const Pod *pod, const char *uid)
{
        KL_AUTOFREE char *key = str_format("%s/%s", pod->namespace, pod->name);
        const SeenMirror *mirror = key ? map_get(m->seen_mirrors, key) : NULL;

        return str_eq(pod->uid, uid) || (mirror && str_eq(mirror->uid, uid));
}

int pod_manager_find_place(PodManager *m, const PlaceName *name, Place *ret)
{
        const PodWorker *w = find_pod(m, name->namespace, name->pod);
        const WorkContainer *c = w && name->container ? find_container(w, name->container) : NULL;

        *ret = (Place){ 0 };
        if (!w)
                return -ENOENT;
        ret->pod_uid = w->pod->uid;
        if (!str_empty(name->uid) && !is_uid_of(m, w->pod, name->uid)) {
                ret->uid_differs = true;
                return 0;
        }
        if (w->sandbox_state == SANDBOX_READY)
                ret->sandbox = w->sandbox;
        if (c && ret->sandbox && status_is_running(&c->view)) {
                ret->container_id = c->view.current.id;
                ret->tty = c->view.spec->tty;
                ret->stdin_open = c->view.spec->stdin_open;
        }
        return 0;
}
