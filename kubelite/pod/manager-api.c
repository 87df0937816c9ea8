/* SPDX-License-Identifier: Apache-2.0 */

/* Pods of the API server: real ones become workers, mirror pods are only compared. */

#include "pod/manager-internal.h"

#include "base/log.h"
#include "base/str.h"

/* Upstream's word for what its own validation refuses. */
#define REASON_REFUSED "FailedValidation"

/* --- mirror pods --- */

static void seen_mirror_free(void *data)
{
        SeenMirror *seen = data;

        free(seen->uid);
        free(seen->hash);
        free(seen);
}

static void full_name(char *buf, size_t size, const char *namespace, const char *name)
{
        snprintf(buf, size, "%s/%s", namespace, name);
}

static void remember_mirror(PodManager *m, const char *key, const char *uid, const char *hash)
{
        SeenMirror *old = map_take(m->seen_mirrors, key), *seen;

        if (old)
                seen_mirror_free(old);
        if (!uid)
                return;
        seen = calloc(1, sizeof(*seen));
        if (!seen)
                return;
        seen->uid = strdup(uid);
        seen->hash = strdup(hash ? hash : "");
        if (!seen->uid || !seen->hash || map_set(m->seen_mirrors, key, seen) < 0)
                seen_mirror_free(seen);
}

void manager_tell_mirror(PodManager *m, PodEntry *e)
{
        const Pod *pod = pod_worker_pod(e->worker);
        char key[512];
        SeenMirror *seen;

        if (!m->api_synced)
                return;
        full_name(key, sizeof(key), pod->namespace, pod->name);
        seen = map_get(m->seen_mirrors, key);
        mirror_observed(e->mirror, seen, seen ? seen->uid : NULL, seen ? seen->hash : NULL);
}

static void on_orphan_deleted(ApiRequest *request, const ApiResponse *response, void *data)
{
        if (response->status >= 300 && response->status != 404)
                log_warning(NULL, "A mirror pod without a static pod could not be deleted: %s",
                            response->message);
}

static void delete_orphan(PodManager *m, const char *key)
{
        static const char body[] = "{\"gracePeriodSeconds\":0}";
        const char *slash = strchr(key, '/');
        char path[1024];
        ApiRequest *request;
        ApiCall call = { .method = "DELETE",
                         .path = path,
                         .body = body,
                         .body_len = sizeof(body) - 1,
                         .done = on_orphan_deleted };

        snprintf(path, sizeof(path), "/api/v1/namespaces/%.*s/pods/%s", (int)(slash - key), key,
                 slash + 1);
        api_call(m->context->api, &call, &request, NULL);
}

void manager_drop_orphan_mirrors(PodManager *m)
{
        SeenMirror *seen;
        const char *key;

        if (!m->api_synced || !m->files_scanned || !m->context->api)
                return;
        for (size_t i = 0; map_next(m->seen_mirrors, &i, &key, &seen);) {
                const char *slash = strchr(key, '/');
                KL_AUTOFREE char *namespace = strndup(key, (size_t)(slash - key));

                if (namespace && !manager_static_by_name(m, namespace, slash + 1))
                        delete_orphan(m, key);
        }
}

static void mirror_event(PodManager *m, const ApiEvent *event, const char *hash)
{
        char key[512];
        PodEntry *e;

        full_name(key, sizeof(key), event->namespace, event->name);
        remember_mirror(m, key, event->type == API_EVENT_SET ? event->uid : NULL, hash);
        e = manager_static_by_name(m, event->namespace, event->name);
        if (e && e->mirror)
                manager_tell_mirror(m, e);
        else if (!e && event->type == API_EVENT_SET)
                manager_drop_orphan_mirrors(m);
}

static bool is_known_mirror(PodManager *m, const ApiEvent *event)
{
        char key[512];

        full_name(key, sizeof(key), event->namespace, event->name);
        return map_get(m->seen_mirrors, key);
}

/* --- pods --- */

static int refused_status(const char *message, PodStatus *ret)
{
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);

        jw_str(&w, message);
        if (buf_error(&text))
                return -ENOMEM;
        ret->fields[STATUS_PHASE] = strdup("\"Failed\"");
        ret->fields[STATUS_REASON] = strdup("\"" REASON_REFUSED "\"");
        ret->fields[STATUS_MESSAGE] = buf_steal(&text);
        return ret->fields[STATUS_PHASE] && ret->fields[STATUS_REASON] ? 0 : -ENOMEM;
}

static int refused_entry(PodManager *m, const ApiEvent *event, const char *message, KlError **err)
{
        PodEntry *e = calloc(1, sizeof(*e));
        PodStatus status = { 0 };
        int r;

        if (!e || !(e->uid = strdup(event->uid)) || map_set(m->entries, event->uid, e) < 0) {
                free(e ? e->uid : NULL);
                free(e);
                return kl_error_oom(err);
        }
        e->manager = m;
        r = manager_connect(m, e, err);
        if (r == 0)
                r = status_sync_target(e->sync, event->namespace, event->name, event->uid);
        if (r == 0)
                r = refused_status(message, &status);
        if (r == 0)
                status_sync_post(e->sync, &status);
        pod_status_deinit(&status);
        return r;
}

/* A pod that is beyond what this node understands: told so, and taken from the API when its time
 * has come, since nobody else will. */
static void refuse_pod(PodManager *m, const ApiEvent *event, const KlError *why)
{
        EventObject object = { .api_version = "v1",
                               .kind = "Pod",
                               .namespace = event->namespace,
                               .name = event->name,
                               .uid = event->uid };
        KL_AUTOFREE char *message = str_format("Pod was rejected: %s", kl_error_msg(why));
        KL_AUTOERR err = NULL;

        log_error(event->name, "Pod from the API cannot be run: %s", kl_error_msg(why));
        event_emit(m->context->events, &object, "Warning", REASON_REFUSED,
                   "Error validating pod %s_%s(%s) from api: %s", event->name, event->namespace,
                   event->uid, kl_error_msg(why));
        if (!message || refused_entry(m, event, message, &err) < 0)
                log_error(event->name, "Its status cannot be told: %s", kl_error_msg(err));
}

/* --- waiting for admission --- */

bool manager_holds(const PodManager *m)
{
        return !m->api_synced || (str_empty(m->context->node_uid) && !m->held_long);
}

void manager_hold(PodManager *m, Pod *pod)
{
        if (map_set(m->held, pod->uid, pod) == 0)
                return;
        log_error(pod->name, "Pod cannot be run: out of memory");
        pod_free(pod);
}

static int by_creation(const void *a, const void *b)
{
        const Pod *x = *(Pod *const *)a, *y = *(Pod *const *)b;

        if (x->created_us != y->created_us)
                return x->created_us < y->created_us ? -1 : 1;
        return strcmp(x->name, y->name);
}

void manager_release_held(PodManager *m)
{
        size_t n = map_len(m->held), count = 0;
        KL_AUTOFREE Pod **pods = NULL;
        const char *uid;
        Pod *pod;

        if (n == 0 || manager_holds(m))
                return;
        pods = calloc(n, sizeof(Pod *));
        if (!pods)
                return;
        for (size_t i = 0; map_next(m->held, &i, &uid, &pod);) {
                pods[count++] = pod;
                map_take(m->held, uid);
        }
        qsort(pods, count, sizeof(Pod *), by_creation);
        for (size_t i = 0; i < count; i++)
                manager_add_pod(m, pods[i]);
}

static void set_pod(PodManager *m, const ApiEvent *event)
{
        PodEntry *e = manager_entry(m, event->uid);
        KL_AUTOERR err = NULL;
        Pod *pod = NULL;

        if (pod_decode(event->object, &pod, &err) < 0) {
                if (!e)
                        refuse_pod(m, event, err);
                e = manager_entry(m, event->uid);
                if (e && !e->worker && value_path(event->object, "metadata.deletionTimestamp"))
                        status_sync_delete(e->sync);
                return;
        }
        if (!pod->uid) {
                pod_free(pod);
                return;
        }
        if (!e) {
                if (!manager_runs(m, pod) && manager_holds(m))
                        manager_hold(m, pod);
                else
                        manager_add_pod(m, pod);
                return;
        }
        if (!e->worker) {
                pod_free(pod);
                return;
        }
        pod_worker_update(e->worker, pod);
        if (pod->deleted_us)
                pod_worker_terminate(e->worker, pod->deletion_grace_s);
}

static void delete_pod(PodManager *m, const ApiEvent *event)
{
        PodEntry *e = event->uid ? manager_entry(m, event->uid) : NULL;

        if (event->uid)
                map_remove(m->held, event->uid);
        if (!e)
                return;
        e->gone_from_api = true;
        if (e->worker)
                pod_worker_terminate(e->worker, -1);
        deferred_schedule(m->sweep);
}

static void on_synced(PodManager *m)
{
        PodEntry *e;

        m->api_synced = true;
        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);)
                if (e->mirror && e->worker)
                        manager_tell_mirror(m, e);
        manager_drop_orphan_mirrors(m);
        timer_start(m->held_timer, HELD_MAX_MS);
        manager_release_held(m);
        manager_sweep_unclaimed(m);
}

static void on_event(ApiWatch *watch, const ApiEvent *event, void *data)
{
        PodManager *m = data;
        const Value *annotations = value_path(event->object, "metadata.annotations");
        const char *mirror = value_get_str(annotations, MIRROR_ANNOTATION);

        /* One that somebody deletes is no mirror of anything any more: it is removed, and made
         * anew. */
        if (mirror && value_path(event->object, "metadata.deletionTimestamp"))
                mirror = "";

        switch (event->type) {
        case API_EVENT_SET:
                if (mirror)
                        mirror_event(m, event, mirror);
                else if (event->uid && *event->uid)
                        set_pod(m, event);
                break;
        case API_EVENT_DELETED:
                if (is_known_mirror(m, event))
                        mirror_event(m, event, NULL);
                else
                        delete_pod(m, event);
                break;
        case API_EVENT_SYNCED:
                on_synced(m);
                break;
        case API_EVENT_ERROR:
                log_warning(NULL, "Pods cannot be watched at the moment: %s", event->message);
                break;
        }
}

int manager_follow_api(PodManager *m, KlError **err)
{
        KL_AUTOFREE char *selector = str_format("spec.nodeName=%s", m->context->node_name);
        ApiWatchSpec spec = {
                .path = "/api/v1/pods", .field_selector = selector, .func = on_event, .data = m
        };

        if (!selector)
                return kl_error_oom(err);
        return api_watch(m->context->api, &spec, &m->watch, err);
}
