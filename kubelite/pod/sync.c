/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The status of one pod on its way to the API. While a patch flies, newer statuses replace each
 * other, but a pod that ran is told to have run: that status goes first. What says nothing new of
 * any container (the first one, the sandbox's address) waits a moment for what will.
 */

#include "pod/sync.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "metrics/metrics.h"

#define HOLD_MS 100
#define RETRY_MIN_MS 500
#define RETRY_MAX_MS 30000
#define PATH_MAX_LEN 1024

struct StatusSync {
        Loop *loop;
        ApiClient *api;
        StatusSyncEvents events;
        void *data;
        char *namespace, *name, *uid;
        PodStatus ran, wanted, sent, accepted; /* ran: before `wanted`, or empty */
        bool have_ran, have_wanted, have_accepted, delete_wanted, deleting;
        ApiRequest *request;
        Deferred *turn;
        Timer *retry, *hold;
        bool held; /* `wanted` has waited */
        uint64_t retry_ms;
        uint64_t changed_ms; /* since when there is something to tell; 0: there is nothing */
};

static void sync_step(StatusSync *s);

static bool is_news(const StatusSync *s)
{
        for (size_t i = 0; s->have_accepted && i < STATUS_FIELD_COUNT; i++)
                if (!str_eq(s->accepted.fields[i], s->wanted.fields[i]))
                        return true;
        return !s->have_accepted;
}

static int status_copy(const PodStatus *from, PodStatus *ret)
{
        PodStatus copy = { 0 };

        for (size_t i = 0; i < STATUS_FIELD_COUNT; i++) {
                if (!from->fields[i])
                        continue;
                copy.fields[i] = strdup(from->fields[i]);
                if (!copy.fields[i]) {
                        pod_status_deinit(&copy);
                        return -ENOMEM;
                }
        }
        *ret = copy;
        return 0;
}

static void on_turn(Deferred *turn, void *data)
{
        sync_step(data);
}

static void on_retry(Timer *timer, void *data)
{
        sync_step(data);
}

static void on_held(Timer *timer, void *data)
{
        StatusSync *s = data;

        s->held = true;
        sync_step(s);
}

int status_sync_new(Loop *loop, ApiClient *api, const StatusSyncEvents *events, void *data,
                    StatusSync **ret, KlError **err)
{
        KL_AUTO(status_sync_free) StatusSync *s = calloc(1, sizeof(*s));

        if (!s)
                return kl_error_oom(err);
        s->loop = loop;
        s->api = api;
        s->events = *events;
        s->data = data;
        s->turn = deferred_new(loop, on_turn, s);
        s->retry = timer_new(loop, on_retry, s);
        s->hold = timer_new(loop, on_held, s);
        if (!s->turn || !s->retry || !s->hold)
                return kl_error_oom(err);
        *ret = KL_STEAL(s);
        return 0;
}

StatusSync *status_sync_free(StatusSync *s)
{
        if (!s)
                return NULL;
        api_request_cancel(s->request);
        deferred_free(s->turn);
        timer_free(s->retry);
        timer_free(s->hold);
        pod_status_deinit(&s->ran);
        pod_status_deinit(&s->wanted);
        pod_status_deinit(&s->sent);
        pod_status_deinit(&s->accepted);
        free(s->namespace);
        free(s->name);
        free(s->uid);
        free(s);
        return NULL;
}

int status_sync_target(StatusSync *s, const char *namespace, const char *name, const char *uid)
{
        char *ns_copy, *name_copy, *uid_copy;

        if (str_eq(s->uid, uid))
                return 0;
        ns_copy = strdup(namespace);
        name_copy = strdup(name);
        uid_copy = strdup(uid);
        if (!ns_copy || !name_copy || !uid_copy) {
                free(ns_copy);
                free(name_copy);
                free(uid_copy);
                return -ENOMEM;
        }
        free(s->namespace);
        free(s->name);
        free(s->uid);
        s->namespace = ns_copy;
        s->name = name_copy;
        s->uid = uid_copy;
        s->request = api_request_cancel(s->request);
        s->deleting = false;
        s->have_accepted = false;
        deferred_schedule(s->turn);
        return 0;
}

static bool says_running(const PodStatus *status)
{
        return str_eq(status->fields[STATUS_PHASE], "\"Running\"");
}

static void keep_running(StatusSync *s, const PodStatus *next)
{
        bool told = (s->have_accepted && says_running(&s->accepted)) ||
                    (s->request && says_running(&s->sent));

        if (told || !s->have_wanted || !says_running(&s->wanted) || says_running(next))
                return;
        pod_status_deinit(&s->ran);
        s->ran = s->wanted;
        s->wanted = (PodStatus){ 0 };
        s->have_ran = true;
}

void status_sync_post(StatusSync *s, PodStatus *status)
{
        keep_running(s, status);
        pod_status_deinit(&s->wanted);
        s->wanted = *status;
        *status = (PodStatus){ 0 };
        s->have_wanted = true;
        if (!s->changed_ms && is_news(s))
                s->changed_ms = time_monotonic_ms();
        deferred_schedule(s->turn);
}

void status_sync_delete(StatusSync *s)
{
        s->delete_wanted = true;
        deferred_schedule(s->turn);
}

const PodStatus *status_sync_last(const StatusSync *s)
{
        return s->have_wanted ? &s->wanted : NULL;
}

static void retry_later(StatusSync *s, const ApiResponse *response, const char *what)
{
        uint64_t delay;

        s->retry_ms = s->retry_ms ? s->retry_ms * 2 : RETRY_MIN_MS;
        if (s->retry_ms > RETRY_MAX_MS)
                s->retry_ms = RETRY_MAX_MS;
        delay = s->retry_ms / 2 + random_u64() % (s->retry_ms / 2 + 1);
        if (response->retry_after_ms > delay)
                delay = response->retry_after_ms;
        if (response->status)
                log_warning(s->name, "Pod status: %s was refused (%d %s), tried again: %s", what,
                            response->status, response->reason, response->message);
        else
                log_debug(s->name, "Pod status: %s failed, tried again: %s", what,
                          response->message);
        timer_start(s->retry, delay);
}

/* 404: gone. 409: another uid. Both mean that this pod is not there any more. */
static bool is_gone(const ApiResponse *response)
{
        return response->status == 404 ||
               (response->status == 409 && !str_eq(response->reason, "Conflict")) ||
               (response->status == 409 && strstr(response->message, "UID"));
}

static void on_patched(ApiRequest *request, const ApiResponse *response, void *data)
{
        StatusSync *s = data;

        s->request = NULL;
        if (response->status >= 200 && response->status < 300) {
                pod_status_deinit(&s->accepted);
                if (s->have_ran && says_running(&s->sent)) {
                        pod_status_deinit(&s->ran);
                        s->have_ran = false;
                }
                s->accepted = s->sent;
                s->sent = (PodStatus){ 0 };
                s->have_accepted = true;
                s->retry_ms = 0;
                if (s->changed_ms)
                        metric_observe(METRIC_POD_STATUS_SYNC_DURATION,
                                       (double)(time_monotonic_ms() - s->changed_ms) / 1000);
                s->changed_ms = 0;
                deferred_schedule(s->turn);
                return;
        }
        if (is_gone(response)) {
                s->events.gone(s, s->data);
                return;
        }
        retry_later(s, response, "the patch");
}

static void on_deleted(ApiRequest *request, const ApiResponse *response, void *data)
{
        StatusSync *s = data;

        s->request = NULL;
        s->deleting = false;
        if ((response->status >= 200 && response->status < 300) || is_gone(response)) {
                s->events.gone(s, s->data);
                return;
        }
        retry_later(s, response, "the deletion");
}

static void send_call(StatusSync *s, const char *method, const char *suffix, const Buf *body,
                      const char *content_type, ApiFunc done)
{
        char path[PATH_MAX_LEN];
        KL_AUTOERR err = NULL;
        ApiCall call = {
                .method = method,
                .path = path,
                .body = buf_str(body),
                .body_len = body->len,
                .content_type = content_type,
                .done = done,
                .data = s,
        };

        snprintf(path, sizeof(path), "/api/v1/namespaces/%s/pods/%s%s", s->namespace, s->name,
                 suffix);
        if (api_call(s->api, &call, &s->request, &err) < 0)
                retry_later(s, &(ApiResponse){ .reason = "", .message = kl_error_msg(err) },
                            method);
}

/* True if a patch went out. */
static bool send_patch(StatusSync *s, const PodStatus *status)
{
        KL_AUTOBUF body = BUF_INIT;
        PodStatus copy;

        if (pod_status_patch(s->uid, s->have_accepted ? &s->accepted : NULL, status, &body) != 0)
                return false;
        if (status_copy(status, &copy) < 0)
                return false;
        pod_status_deinit(&s->sent);
        s->sent = copy;
        send_call(s, "PATCH", "/status", &body, "application/strategic-merge-patch+json",
                  on_patched);
        return true;
}

static void send_delete(StatusSync *s)
{
        KL_AUTOBUF body = BUF_INIT;
        JsonWriter w = JSON_WRITER(&body);

        jw_object(&w);
        jw_kstr(&w, "kind", "DeleteOptions");
        jw_kstr(&w, "apiVersion", "v1");
        jw_kint(&w, "gracePeriodSeconds", 0);
        jw_kobject(&w, "preconditions");
        jw_kstr(&w, "uid", s->uid);
        jw_end(&w);
        jw_end(&w);
        s->deleting = true;
        send_call(s, "DELETE", "", &body, NULL, on_deleted);
}

static bool is_telling(size_t field)
{
        return field == STATUS_PHASE || field == STATUS_MESSAGE || field == STATUS_REASON ||
               field == STATUS_INIT_CONTAINERS || field == STATUS_CONTAINERS ||
               field == STATUS_EPHEMERAL_CONTAINERS;
}

static bool differs_in_details(const PodStatus *was, const PodStatus *now)
{
        bool differs = false;

        for (size_t i = 0; i < STATUS_FIELD_COUNT; i++) {
                if (str_eq(was->fields[i], now->fields[i]))
                        continue;
                if (is_telling(i))
                        return false;
                differs = true;
        }
        return differs;
}

/* True if the wanted status has to wait for a better one. A pod whose image is here runs before its
 * first status would be answered. */
static bool holds(StatusSync *s)
{
        bool minor = s->have_accepted ? differs_in_details(&s->accepted, &s->wanted)
                                      : str_eq(s->wanted.fields[STATUS_PHASE], "\"Pending\"");

        if (!minor || s->held || s->delete_wanted) {
                timer_stop(s->hold);
                s->held = false;
                return false;
        }
        if (!timer_active(s->hold))
                timer_start(s->hold, HOLD_MS);
        return true;
}

static void sync_step(StatusSync *s)
{
        if (s->request || !s->uid)
                return;
        if (timer_active(s->retry))
                return;
        if (s->have_ran && send_patch(s, &s->ran))
                return;
        if (s->have_wanted && !holds(s) && send_patch(s, &s->wanted))
                return;
        if (s->delete_wanted && !s->deleting)
                send_delete(s);
}
