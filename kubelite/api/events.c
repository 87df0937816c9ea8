/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The event recorder. An Entry is one event object on the server, or one that is to be: emitting
 * the same again raises its count and puts it into the queue, if it does not wait there already. So
 * what is sent is always an entry's newest state, and a storm of equal events costs one request
 * at a time.
 *
 * One request flies at a time, since the order of events matters to their readers. The first one
 * after a pause waits a moment: the status which it tells about goes before it.
 */

#include "api/events.h"

#include "api/events-internal.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "codec/json.h"

#include <stdarg.h>

#define HOLD_MS 20
#define RETRY_MS 10000
#define RETRIES_MAX 12
#define SWEEP_MS 60000
#define DROP_WARNING_MS 60000
#define MESSAGE_MAX 4096
#define AGGREGATE_PREFIX "(combined from similar events): "

typedef struct Entry {
        List queued; /* empty: nothing to send */
        char *key;
        char *name, *namespace; /* of the event */
        EventObject object;     /* its strings are owned */
        char *type, *reason, *message;
        int64_t first_us, last_us;
        uint64_t last_ms;
        unsigned int count;
        bool created; /* the server has it */
} Entry;

struct EventRecorder {
        Loop *loop;
        ApiClient *client;
        char *component, *host;
        Correlator *correlator;
        Map *entries; /* by key; owned */
        List queue;
        size_t n_queued;
        Entry *flying;
        bool flying_again; /* it was emitted once more meanwhile */
        ApiRequest *request;
        unsigned int n_tries;
        Timer *retry, *sweep;
        uint64_t dropped_told_ms;
        unsigned int n_dropped;
};

static void recorder_send(EventRecorder *recorder);

static void entry_free(void *data)
{
        Entry *e = data;

        list_unlink(&e->queued);
        free(e->key);
        free(e->name);
        free(e->namespace);
        free((char *)(uintptr_t)e->object.api_version);
        free((char *)(uintptr_t)e->object.kind);
        free((char *)(uintptr_t)e->object.namespace);
        free((char *)(uintptr_t)e->object.name);
        free((char *)(uintptr_t)e->object.uid);
        free((char *)(uintptr_t)e->object.resource_version);
        free((char *)(uintptr_t)e->object.field_path);
        free(e->type);
        free(e->reason);
        free(e->message);
        free(e);
}

static void entry_free_cleanup(Entry **e)
{
        if (*e)
                entry_free(*e);
}

/* --- what is sent --- */

static void write_object(JsonWriter *w, const EventObject *o)
{
        jw_kobject(w, "involvedObject");
        jw_kstr_opt(w, "apiVersion", o->api_version);
        jw_kstr_opt(w, "kind", o->kind);
        jw_kstr_opt(w, "namespace", o->namespace);
        jw_kstr_opt(w, "name", o->name);
        jw_kstr_opt(w, "uid", o->uid);
        jw_kstr_opt(w, "resourceVersion", o->resource_version);
        jw_kstr_opt(w, "fieldPath", o->field_path);
        jw_end(w);
}

static void write_event(const EventRecorder *recorder, const Entry *e, Buf *to)
{
        char first[TIME_RFC3339_SIZE], last[TIME_RFC3339_SIZE];
        JsonWriter w = JSON_WRITER(to);

        time_format_rfc3339(e->first_us, first);
        time_format_rfc3339(e->last_us, last);
        jw_object(&w);
        jw_kstr(&w, "kind", "Event");
        jw_kstr(&w, "apiVersion", "v1");
        jw_kobject(&w, "metadata");
        jw_kstr(&w, "name", e->name);
        jw_kstr(&w, "namespace", e->namespace);
        jw_end(&w);
        write_object(&w, &e->object);
        jw_kstr(&w, "reason", e->reason);
        jw_kstr(&w, "message", e->message);
        jw_kobject(&w, "source");
        jw_kstr(&w, "component", recorder->component);
        jw_kstr_opt(&w, "host", recorder->host);
        jw_end(&w);
        jw_kstr(&w, "firstTimestamp", first);
        jw_kstr(&w, "lastTimestamp", last);
        jw_kint(&w, "count", e->count);
        jw_kstr(&w, "type", e->type);
        jw_key(&w, "eventTime");
        jw_null(&w);
        jw_kstr(&w, "reportingComponent", recorder->component);
        jw_kstr(&w, "reportingInstance", recorder->host ? recorder->host : "");
        jw_end(&w);
}

static void write_patch(const Entry *e, Buf *to)
{
        char last[TIME_RFC3339_SIZE];
        JsonWriter w = JSON_WRITER(to);

        time_format_rfc3339(e->last_us, last);
        jw_object(&w);
        jw_kint(&w, "count", e->count);
        jw_kstr(&w, "lastTimestamp", last);
        jw_kstr(&w, "message", e->message);
        jw_end(&w);
}

/* --- sending --- */

static void entry_enqueue(EventRecorder *recorder, Entry *e)
{
        if (!list_empty(&e->queued))
                return;
        list_append(&recorder->queue, &e->queued);
        recorder->n_queued++;
}

static void entry_dequeue(EventRecorder *recorder, Entry *e)
{
        if (list_empty(&e->queued))
                return;
        list_unlink(&e->queued);
        recorder->n_queued--;
}

static bool is_transient(int status)
{
        return status == 0 || status == 429 || status >= 500;
}

/* Takes the entry off the queue if it is done with: sent, or refused for good. */
static void recorder_settle(EventRecorder *recorder, Entry *e, const ApiResponse *response)
{
        int status = response->status;

        /* 409: an earlier try arrived, and only its answer was lost. */
        if (status == 200 || status == 201 || (status == 409 && !e->created)) {
                e->created = true;
                return;
        }
        log_debug(NULL, "Event '%s' of '%s/%s' was refused: %s", e->reason, e->namespace,
                  e->object.name, response->message);
}

static void on_sent(ApiRequest *request, const ApiResponse *response, void *data)
{
        EventRecorder *recorder = data;
        Entry *e = recorder->flying;
        uint64_t delay = response->retry_after_ms ? response->retry_after_ms : RETRY_MS;

        recorder->request = NULL;
        recorder->flying = NULL;
        if (is_transient(response->status) && ++recorder->n_tries < RETRIES_MAX) {
                timer_start(recorder->retry, delay);
                return;
        }
        recorder->n_tries = 0;
        if (response->status == 404 && e->created) {
                /* The server forgets events after an hour: this one begins anew. */
                e->created = false;
                recorder_send(recorder);
                return;
        }
        recorder_settle(recorder, e, response);
        entry_dequeue(recorder, e);
        if (recorder->flying_again)
                entry_enqueue(recorder, e);
        recorder_send(recorder);
}

static int entry_send(EventRecorder *recorder, Entry *e, KlError **err)
{
        KL_AUTOBUF body = BUF_INIT;
        KL_AUTOFREE char *path =
                e->created ? str_format("/api/v1/namespaces/%s/events/%s", e->namespace, e->name)
                           : str_format("/api/v1/namespaces/%s/events", e->namespace);
        ApiCall call = {
                .method = e->created ? "PATCH" : "POST",
                .path = path,
                .content_type = e->created ? "application/strategic-merge-patch+json" : NULL,
                .priority = API_PRIORITY_LOW,
                .done = on_sent,
                .data = recorder,
        };

        if (e->created)
                write_patch(e, &body);
        else
                write_event(recorder, e, &body);
        if (!path || buf_error(&body))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        call.body = body.data;
        call.body_len = body.len;
        return api_call(recorder->client, &call, &recorder->request, err);
}

static void recorder_send(EventRecorder *recorder)
{
        while (!recorder->flying && !timer_active(recorder->retry) &&
               !list_empty(&recorder->queue)) {
                Entry *e = list_first(&recorder->queue, Entry, queued);
                KL_AUTOERR err = NULL;

                if (entry_send(recorder, e, &err) < 0) {
                        log_warning(NULL, "Cannot send event '%s': %s", e->reason,
                                    kl_error_msg(err));
                        entry_dequeue(recorder, e);
                        continue;
                }
                recorder->flying = e;
                recorder->flying_again = false;
        }
}

static void on_retry(Timer *timer, void *data)
{
        recorder_send(data);
}

/* --- emitting --- */

static int copy_text(const char **to, const char *from)
{
        *to = from ? strdup(from) : NULL;
        return from && !*to ? -ENOMEM : 0;
}

static int copy_object(EventObject *to, const EventObject *from)
{
        if (copy_text(&to->api_version, from->api_version) < 0 ||
            copy_text(&to->kind, from->kind) < 0 || copy_text(&to->name, from->name) < 0 ||
            copy_text(&to->namespace, from->namespace) < 0 || copy_text(&to->uid, from->uid) < 0 ||
            copy_text(&to->resource_version, from->resource_version) < 0 ||
            copy_text(&to->field_path, from->field_path) < 0)
                return -ENOMEM;
        return 0;
}

/* "<object>.<hex of the time in ns>", as upstream names them. */
static char *event_name(const EventObject *object, int64_t now_us)
{
        unsigned long long ns =
                (unsigned long long)now_us * 1000 + random_u64() % 1000; /* never twice the same */

        return str_format("%.236s.%llx", object->name, ns);
}

static Entry *entry_new(EventRecorder *recorder, const EventObject *object, const char *type,
                        const char *reason, const char *key)
{
        __attribute__((cleanup(entry_free_cleanup))) Entry *e = calloc(1, sizeof(*e));

        if (!e)
                return NULL;
        list_init(&e->queued);
        e->first_us = time_realtime_us();
        e->name = event_name(object, e->first_us);
        e->namespace = strdup(str_empty(object->namespace) ? "default" : object->namespace);
        e->key = strdup(key);
        e->type = strdup(type);
        e->reason = strdup(reason);
        if (!e->name || !e->namespace || !e->key || !e->type || !e->reason ||
            copy_object(&e->object, object) < 0 || map_set(recorder->entries, key, e) < 0)
                return NULL;
        return KL_STEAL(e);
}

/* Removes what is old, or, when there is too much of it, whatever is oldest. */
static void forget(EventRecorder *recorder, uint64_t now, bool make_room)
{
        const char *key;
        Entry *e, *oldest = NULL;

        for (size_t i = 0; map_next(recorder->entries, &i, &key, &e);) {
                if (!list_empty(&e->queued) || e == recorder->flying)
                        continue;
                if (now - e->last_ms > EVENTS_WINDOW_MS)
                        map_remove(recorder->entries, key);
                else if (!oldest || e->last_ms < oldest->last_ms)
                        oldest = e;
        }
        if (make_room && oldest && map_len(recorder->entries) >= EVENTS_KNOWN_MAX)
                map_remove(recorder->entries, oldest->key);
}

static void on_sweep(Timer *timer, void *data)
{
        EventRecorder *recorder = data;
        uint64_t now = time_monotonic_ms();

        forget(recorder, now, false);
        correlator_sweep(recorder->correlator, now);
        if (map_len(recorder->entries) > 0 || correlator_size(recorder->correlator) > 0)
                timer_start(timer, SWEEP_MS);
}

/* The queue is full: the oldest entry that is not on its way goes. */
static void drop_oldest(EventRecorder *recorder, uint64_t now)
{
        Entry *oldest = NULL;

        list_for_each (e, &recorder->queue, Entry, queued)
                if (e != recorder->flying) {
                        oldest = e;
                        break;
                }
        if (!oldest)
                return;
        entry_dequeue(recorder, oldest);
        if (!oldest->created)
                map_remove(recorder->entries, oldest->key);
        recorder->n_dropped++;
        if (recorder->dropped_told_ms && now - recorder->dropped_told_ms < DROP_WARNING_MS)
                return;
        log_warning(NULL, "Dropped %u events: more than %d wait to be sent", recorder->n_dropped,
                    EVENTS_QUEUE_MAX);
        recorder->dropped_told_ms = now;
        recorder->n_dropped = 0;
}

static void record(EventRecorder *recorder, const EventObject *object, const char *type,
                   const char *reason, const char *message)
{
        uint64_t now = time_monotonic_ms();
        KL_AUTOFREE char *key = NULL;
        bool aggregated = correlator_aggregate(recorder->correlator, object, type, reason, message,
                                               now, &key);
        Entry *e = key ? map_get(recorder->entries, key) : NULL;
        char *text;

        if (!timer_active(recorder->sweep))
                timer_start(recorder->sweep, SWEEP_MS);
        if (!key || !correlator_admit(recorder->correlator, object, now))
                return;
        if (e && now - e->last_ms > EVENTS_WINDOW_MS && list_empty(&e->queued)) {
                map_remove(recorder->entries, key);
                e = NULL;
        }
        if (!e && map_len(recorder->entries) >= EVENTS_KNOWN_MAX)
                forget(recorder, now, true);
        if (!e)
                e = entry_new(recorder, object, type, reason, key);
        text = str_format("%s%.*s", aggregated ? AGGREGATE_PREFIX : "",
                          MESSAGE_MAX - (int)sizeof(AGGREGATE_PREFIX), message);
        if (!e || !text)
                return;
        free(e->message);
        e->message = text;
        e->count++;
        e->last_ms = now;
        e->last_us = time_realtime_us();
        if (e == recorder->flying)
                recorder->flying_again = true;
        if (list_empty(&e->queued) && recorder->n_queued >= EVENTS_QUEUE_MAX)
                drop_oldest(recorder, now);
        entry_enqueue(recorder, e);
        if (!recorder->flying && !timer_active(recorder->retry))
                timer_start(recorder->retry, HOLD_MS);
}

void event_emit(EventRecorder *recorder, const EventObject *object, const char *type,
                const char *reason, const char *format, ...)
{
        KL_AUTOBUF message = BUF_INIT;
        KL_AUTOBUF of = BUF_INIT;
        va_list args;

        va_start(args, format);
        buf_vaddf(&message, format, args);
        va_end(args);
        if (buf_error(&message))
                return;
        if (str_empty(object->namespace))
                buf_addf(&of, "%s=%s", object->kind, object->name);
        else
                buf_addf(&of, "%s=%s/%s", object->kind, object->namespace, object->name);
        log_info(buf_str(&of), "Event %s %s: %s", type, reason, buf_str(&message));
        if (recorder->client)
                record(recorder, object, type, reason, buf_str(&message));
}

int event_recorder_new(Loop *loop, ApiClient *client, const char *component, const char *host,
                       EventRecorder **ret, KlError **err)
{
        KL_AUTO(event_recorder_free) EventRecorder *recorder = calloc(1, sizeof(*recorder));

        if (!recorder)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        list_init(&recorder->queue);
        recorder->loop = loop;
        recorder->client = client;
        recorder->component = strdup(component);
        recorder->host = strdup(host ? host : "");
        recorder->entries = map_new(entry_free);
        recorder->correlator = correlator_new();
        recorder->retry = timer_new(loop, on_retry, recorder);
        recorder->sweep = timer_new(loop, on_sweep, recorder);
        if (!recorder->component || !recorder->host || !recorder->entries ||
            !recorder->correlator || !recorder->retry || !recorder->sweep)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *ret = KL_STEAL(recorder);
        return 0;
}

EventRecorder *event_recorder_free(EventRecorder *recorder)
{
        if (!recorder)
                return NULL;
        api_request_cancel(recorder->request);
        timer_free(recorder->retry);
        timer_free(recorder->sweep);
        map_free(recorder->entries);
        correlator_free(recorder->correlator);
        free(recorder->component);
        free(recorder->host);
        free(recorder);
        return NULL;
}
