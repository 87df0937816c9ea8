/* SPDX-License-Identifier: Apache-2.0 */

/* One mirror pod: observed by the manager's watch, created and deleted here. */

#include "pod/mirror.h"

#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"

#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000

struct Mirror {
        Loop *loop;
        ApiClient *api;
        MirrorEvents events;
        void *data;
        char *namespace, *name, *hash, *json, *node_name, *node_uid;
        bool observed, present, matches, refused;
        char *uid; /* of what is in the API */
        ApiRequest *request;
        Timer *retry;
        uint64_t retry_ms;
};

static void mirror_step(Mirror *m);

static void on_retry(Timer *timer, void *data)
{
        mirror_step(data);
}

int mirror_new(Loop *loop, ApiClient *api, const Pod *pod, const char *node_name,
               const char *node_uid, const MirrorEvents *events, void *data, Mirror **ret,
               KlError **err)
{
        KL_AUTO(mirror_free) Mirror *m = calloc(1, sizeof(*m));

        if (!m)
                return kl_error_oom(err);
        m->loop = loop;
        m->api = api;
        m->events = *events;
        m->data = data;
        m->namespace = strdup(pod->namespace);
        m->name = strdup(pod->name);
        m->hash = strdup(pod->uid);
        m->json = strdup(pod->static_json);
        m->node_name = strdup(node_name);
        m->node_uid = strdup(node_uid);
        m->retry = timer_new(loop, on_retry, m);
        if (!m->namespace || !m->name || !m->hash || !m->json || !m->node_name || !m->node_uid ||
            !m->retry)
                return kl_error_oom(err);
        *ret = KL_STEAL(m);
        return 0;
}

Mirror *mirror_free(Mirror *m)
{
        if (!m)
                return NULL;
        api_request_cancel(m->request);
        timer_free(m->retry);
        free(m->namespace);
        free(m->name);
        free(m->hash);
        free(m->json);
        free(m->node_name);
        free(m->node_uid);
        free(m->uid);
        free(m);
        return NULL;
}

void mirror_set_node(Mirror *m, const char *node_uid)
{
        char *copy = strdup(node_uid);

        if (!copy)
                return;
        free(m->node_uid);
        m->node_uid = copy;
        mirror_step(m);
}

void mirror_observed(Mirror *m, bool present, const char *uid, const char *hash)
{
        bool was_ours = m->present && m->matches;

        m->observed = true;
        m->present = present;
        m->matches = present && str_eq(hash, m->hash);
        if (!str_eq(m->uid, uid)) {
                free(m->uid);
                m->uid = uid ? strdup(uid) : NULL;
        }
        if (m->matches)
                m->refused = false;
        if (m->matches || was_ours)
                m->events.changed(m, m->matches ? m->uid : NULL, m->data);
        mirror_step(m);
}

static void retry_later(Mirror *m)
{
        m->retry_ms = m->retry_ms ? m->retry_ms * 2 : RETRY_MIN_MS;
        if (m->retry_ms > RETRY_MAX_MS)
                m->retry_ms = RETRY_MAX_MS;
        timer_start(m->retry, m->retry_ms);
}

static void on_done(ApiRequest *request, const ApiResponse *response, void *data)
{
        Mirror *m = data;
        bool ok = response->status >= 200 && response->status < 300;

        m->request = NULL;
        if (ok || response->status == 409 || response->status == 404) {
                /* The watch tells what came of it; if it does not, look again. */
                m->retry_ms = ok ? 0 : m->retry_ms;
                retry_later(m);
                return;
        }
        if (response->status >= 400 && response->status < 500 && response->status != 429 &&
            response->status != 401 && !m->refused) {
                m->refused = true;
                m->events.refused(m, response->message, m->data);
        }
        retry_later(m);
}

static int mirror_body(const Mirror *m, Buf *to)
{
        KL_AUTO(value_free) Value *pod = NULL;
        KL_AUTO(value_free) Value *owners = NULL;
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);
        Value *meta, *annotations;
        int r;

        r = json_parse(m->json, strlen(m->json), &pod, NULL);
        if (r < 0)
                return r;
        jw_array(&w);
        jw_object(&w);
        jw_kstr(&w, "apiVersion", "v1");
        jw_kstr(&w, "kind", "Node");
        jw_kstr(&w, "name", m->node_name);
        jw_kstr(&w, "uid", m->node_uid);
        jw_kbool(&w, "controller", true);
        jw_end(&w);
        jw_end(&w);
        r = json_parse(buf_str(&text), text.len, &owners, NULL);
        meta = value_object_at(pod, "metadata");
        annotations = meta ? value_object_at(meta, "annotations") : NULL;
        if (r < 0 || !annotations)
                return -ENOMEM;
        value_remove(meta, "uid");
        value_set_str(annotations, MIRROR_ANNOTATION, m->hash);
        value_set(meta, "ownerReferences", KL_STEAL(owners));
        return json_print(pod, to);
}

static void mirror_send(Mirror *m, const char *method, const char *path, const Buf *body)
{
        ApiCall call = { .method = method,
                         .path = path,
                         .body = buf_str(body),
                         .body_len = body->len,
                         .done = on_done,
                         .data = m };
        KL_AUTOERR err = NULL;

        if (api_call(m->api, &call, &m->request, &err) < 0) {
                log_warning(m->name, "Mirror pod: %s", kl_error_msg(err));
                retry_later(m);
        }
}

static void mirror_create(Mirror *m)
{
        KL_AUTOBUF body = BUF_INIT;
        char path[512];

        if (mirror_body(m, &body) < 0) {
                retry_later(m);
                return;
        }
        snprintf(path, sizeof(path), "/api/v1/namespaces/%s/pods", m->namespace);
        mirror_send(m, "POST", path, &body);
}

static void mirror_delete(Mirror *m)
{
        KL_AUTOBUF body = BUF_INIT;
        JsonWriter w = JSON_WRITER(&body);
        char path[1024];

        jw_object(&w);
        jw_kint(&w, "gracePeriodSeconds", 0);
        jw_kobject(&w, "preconditions");
        jw_kstr(&w, "uid", m->uid);
        jw_end(&w);
        jw_end(&w);
        snprintf(path, sizeof(path), "/api/v1/namespaces/%s/pods/%s", m->namespace, m->name);
        mirror_send(m, "DELETE", path, &body);
}

static void mirror_step(Mirror *m)
{
        if (m->request || !m->observed || (timer_active(m->retry) && m->retry_ms))
                return;
        if (!m->present && *m->node_uid)
                mirror_create(m);
        else if (m->present && !m->matches)
                mirror_delete(m);
}
