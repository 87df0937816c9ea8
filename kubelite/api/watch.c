/* SPDX-License-Identifier: Apache-2.0 */

/*
 * List, then watch, for ever.
 *
 * `known` holds what the owner was told to exist: uid and version by "namespace/name". It makes
 * deletions during an outage visible, and keeps what comes twice (a list after a watch) from being
 * told twice.
 *
 * The owner may free the watch in any callback: it is `doomed` then, and goes when the last call
 * into it returns.
 */

#include "api/client-internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "codec/json.h"

#include <assert.h>

#define PAGE_ITEMS 500
#define WATCH_SECONDS_MIN 300
#define WATCH_SECONDS_SPREAD 300
#define WATCH_OVERDUE_MS 30000 /* after its own time-out the watch is given up */
#define HEAD_TIMEOUT_MS 30000
#define ERROR_BODY_MAX (64U << 10)
#define BACKOFF_MIN_MS 800
#define BACKOFF_DENIED_MIN_MS 100 /* the authorizer's graph lags behind a binding */
#define BACKOFF_MAX_MS 30000
#define HEALTHY_AFTER_MS 5000 /* a watch that lasted this long was no failure */
#define LEAVE_SPREAD_MS 30000 /* watches leave a closing connection one by one */
#define STALE_LISTS_MS 60000  /* a server that stays behind so long was restored from a backup */

typedef enum WatchState {
        WATCH_WAITING, /* for the back-off's end */
        WATCH_LISTING,
        WATCH_OPENING, /* no answer yet */
        WATCH_WATCHING,
} WatchState;

typedef struct Known {
        uint64_t generation, version;
        char uid[];
} Known;

struct ApiWatch {
        ApiClient *client;
        char *path, *selector;
        ApiWatchFunc func;
        void *data;
        uint64_t error_grace_ms;

        WatchState state;
        Map *known;
        uint64_t generation; /* of the list that is being read */
        char *version;       /* to watch from; NULL: list */
        uint64_t version_seen;
        char *next_page, *list_version;
        ApiRequest *list;
        HttpRequest *http;
        Timer *timer;
        Buf line;
        int status;
        uint64_t retry_after_ms, opened_ms, backoff_ms;
        uint64_t failing_since_ms, stale_since_ms; /* 0: not */
        bool failure_told, heard, leaving;
        unsigned int busy;
        bool doomed;
};

static void watch_begin(ApiWatch *w);
static void watch_open(ApiWatch *w);

static void watch_enter(ApiWatch *w)
{
        w->busy++;
}

static void watch_leave(ApiWatch *w)
{
        w->busy--;
        if (w->busy > 0 || !w->doomed)
                return;
        map_free(w->known);
        buf_deinit(&w->line);
        free(w->path);
        free(w->selector);
        free(w->version);
        free(w->next_page);
        free(w->list_version);
        free(w);
}

ApiWatch *api_watch_free(ApiWatch *w)
{
        if (!w)
                return NULL;
        watch_enter(w);
        w->doomed = true;
        w->list = api_request_cancel(w->list);
        w->http = http_request_free(w->http);
        w->timer = timer_free(w->timer);
        w->client->n_watches--;
        watch_leave(w);
        return NULL;
}

/* --- telling the owner --- */

static void tell(ApiWatch *w, ApiEvent event)
{
        if (!w->doomed)
                w->func(w, &event, w->data);
}

/* A key of `known` split again; both parts "" at worst. */
static void tell_deleted(ApiWatch *w, const char *key, const char *uid, const Value *object)
{
        KL_AUTOFREE char *namespace = strdup(key);
        char *slash = namespace ? strchr(namespace, '/') : NULL;

        if (!slash)
                return;
        *slash = '\0';
        tell(w, (ApiEvent){ .type = API_EVENT_DELETED,
                            .object = object,
                            .namespace = namespace,
                            .name = slash + 1,
                            .uid = uid });
}

static uint64_t version_number(const char *version)
{
        uint64_t n = 0;

        return version && str_to_u64(version, UINT64_MAX, &n) == 0 ? n : 0;
}

static void see_version(ApiWatch *w, const char *version)
{
        uint64_t n = version_number(version);

        if (n > w->version_seen)
                w->version_seen = n;
}

/* "namespace/name"; NULL for what is no object. */
static char *object_key(const Value *object)
{
        const Value *metadata = value_get(object, "metadata");
        const char *name = value_get_str(metadata, "name");
        const char *namespace = value_get_str(metadata, "namespace");

        return name ? str_format("%s/%s", namespace ? namespace : "", name) : NULL;
}

static int remember(ApiWatch *w, const char *key, const char *uid, uint64_t version)
{
        size_t size = strlen(uid) + 1;
        KL_AUTOFREE Known *known = malloc(sizeof(*known) + size);

        if (!known)
                return -ENOMEM;
        known->generation = w->generation;
        known->version = version;
        memcpy(known->uid, uid, size);
        if (map_set(w->known, key, known) < 0)
                return -ENOMEM;
        known = NULL;
        return 0;
}

/* An object as it is now. */
static void object_set(ApiWatch *w, const Value *object)
{
        const Value *metadata = value_get(object, "metadata");
        const char *uid = value_get_str(metadata, "uid");
        uint64_t version = version_number(value_get_str(metadata, "resourceVersion"));
        KL_AUTOFREE char *key = object_key(object);
        Known *known = key ? map_get(w->known, key) : NULL;

        if (!key)
                return;
        uid = uid ? uid : "";
        if (known && str_eq(known->uid, uid)) {
                known->generation = w->generation;
                if (version != 0 && version == known->version)
                        return;
                known->version = version;
        } else {
                /* Deleted and made anew while nobody looked. */
                if (known) {
                        KL_AUTOFREE Known *old = map_take(w->known, key);

                        tell_deleted(w, key, old->uid, NULL);
                }
                if (w->doomed || remember(w, key, uid, version) < 0)
                        return;
        }
        tell(w, (ApiEvent){ .type = API_EVENT_SET,
                            .object = object,
                            .namespace = value_get_str(metadata, "namespace"),
                            .name = value_get_str(metadata, "name"),
                            .uid = uid });
}

static void object_deleted(ApiWatch *w, const Value *object)
{
        KL_AUTOFREE char *key = object_key(object);
        KL_AUTOFREE Known *known = key ? map_take(w->known, key) : NULL;

        if (known)
                tell_deleted(w, key, known->uid, object);
}

/* --- failures --- */

static uint64_t with_jitter(uint64_t ms)
{
        return ms + random_u64() % (ms / 2 + 1);
}

static void watch_wait(ApiWatch *w, uint64_t min_ms)
{
        uint64_t delay;

        w->list = api_request_cancel(w->list);
        w->http = http_request_free(w->http);
        buf_deinit(&w->line);
        w->state = WATCH_WAITING;
        w->leaving = false;
        w->backoff_ms = w->backoff_ms ? w->backoff_ms * 2 : min_ms;
        if (w->backoff_ms > BACKOFF_MAX_MS)
                w->backoff_ms = BACKOFF_MAX_MS;
        delay = with_jitter(w->backoff_ms);
        if (delay < w->retry_after_ms)
                delay = with_jitter(w->retry_after_ms);
        w->retry_after_ms = 0;
        timer_start(w->timer, delay);
}

/* The watch does not work at the moment: told once an outage, after its grace. */
static void watch_failed(ApiWatch *w, int status, const char *message)
{
        uint64_t now = time_monotonic_ms();
        bool denied = status == 403 || status == 404;

        if (w->doomed)
                return;
        log_debug(NULL, "Watch of '%s' failed: %s", w->path, message);
        watch_wait(w, denied ? BACKOFF_DENIED_MIN_MS : BACKOFF_MIN_MS);
        if (!w->failing_since_ms)
                w->failing_since_ms = now;
        if (w->failure_told || now - w->failing_since_ms < w->error_grace_ms)
                return;
        w->failure_told = true;
        tell(w, (ApiEvent){ .type = API_EVENT_ERROR, .status = status, .message = message });
}

static void watch_works(ApiWatch *w)
{
        w->failing_since_ms = 0;
        w->failure_told = false;
        w->backoff_ms = 0;
}

/* Our version is too old: at once if the watch worked so far, else not too often. */
static void watch_relist(ApiWatch *w)
{
        free(w->version);
        w->version = NULL;
        if (!w->heard) {
                watch_wait(w, BACKOFF_MIN_MS);
                return;
        }
        w->http = http_request_free(w->http);
        buf_deinit(&w->line);
        watch_begin(w);
}

/* --- the list --- */

static char *list_path(const ApiWatch *w)
{
        char page[2048] = "";
        bool more = w->next_page != NULL;

        if (more)
                api_escape(page, sizeof(page), w->next_page);
        return str_format("%s?limit=%d%s%s%s%s", w->path, PAGE_ITEMS,
                          w->selector ? "&fieldSelector=" : "", w->selector ? w->selector : "",
                          more ? "&continue=" : "", page);
}

/* What is known and was not in the list is gone. */
static void list_sweep(ApiWatch *w)
{
        const char *key;
        Known *known;

        for (size_t i = 0; !w->doomed && map_next(w->known, &i, &key, &known);) {
                KL_AUTOFREE char *name = NULL;
                KL_AUTOFREE Known *gone = NULL;

                if (known->generation == w->generation)
                        continue;
                name = strdup(key);
                gone = map_take(w->known, key);
                if (name)
                        tell_deleted(w, name, gone->uid, NULL);
        }
}

static void list_finished(ApiWatch *w)
{
        list_sweep(w);
        free(w->version);
        w->version = KL_STEAL(w->list_version);
        w->stale_since_ms = 0;
        watch_works(w);
        tell(w, (ApiEvent){ .type = API_EVENT_SYNCED });
        if (!w->doomed)
                watch_open(w);
}

/* A server behind a load balancer may lag: its list would look as if things had been deleted. One
 * that stays behind was restored from a backup. */
static bool list_is_stale(ApiWatch *w, const char *version)
{
        uint64_t now = time_monotonic_ms(), n = version_number(version);

        if (n == 0 || n >= w->version_seen)
                return false;
        if (!w->stale_since_ms)
                w->stale_since_ms = now;
        if (now - w->stale_since_ms < STALE_LISTS_MS)
                return true;
        log_warning(
                NULL,
                "The API server's version of '%s' went back from %llu to %llu, taking it as new",
                w->path, (unsigned long long)w->version_seen, (unsigned long long)n);
        w->version_seen = n;
        return false;
}

static void list_page(ApiWatch *w, const Value *list)
{
        const Value *metadata = value_get(list, "metadata"), *items = value_get(list, "items");
        const char *version = value_get_str(metadata, "resourceVersion");
        const char *next = value_get_str(metadata, "continue");
        bool first = w->list_version == NULL;

        if (!version) {
                watch_failed(w, 0, "the API server's list has no resourceVersion");
                return;
        }
        if (first && list_is_stale(w, version)) {
                watch_failed(w, 0, "the API server's list is older than what was seen");
                return;
        }
        free(w->next_page);
        w->next_page = str_empty(next) ? NULL : strdup(next);
        if (first)
                w->list_version = strdup(version);
        if (!w->list_version || (!str_empty(next) && !w->next_page)) {
                watch_failed(w, 0, "out of memory");
                return;
        }
        see_version(w, version);
        for (size_t i = 0; i < value_len(items) && !w->doomed; i++)
                object_set(w, value_at(items, i));
        if (w->doomed)
                return;
        if (w->next_page)
                watch_begin(w);
        else
                list_finished(w);
}

static void list_forget(ApiWatch *w)
{
        free(w->next_page);
        free(w->list_version);
        w->next_page = w->list_version = NULL;
}

static void on_listed(ApiRequest *request, const ApiResponse *response, void *data)
{
        ApiWatch *w = data;

        watch_enter(w);
        w->list = NULL;
        if (response->status == 200 && value_type(response->object) == VALUE_OBJECT) {
                list_page(w, response->object);
        } else {
                list_forget(w);
                w->retry_after_ms = response->retry_after_ms;
                watch_failed(w, response->status,
                             response->status == 200 ? "the API server's list is no JSON object"
                                                     : response->message);
        }
        watch_leave(w);
}

/* Lists (on, if a page is there already), or watches from the version there is. */
static void watch_begin(ApiWatch *w)
{
        KL_AUTOFREE char *path = NULL;
        KL_AUTOERR err = NULL;
        ApiCall call = { .method = "GET", .done = on_listed, .data = w };

        if (w->version) {
                watch_open(w);
                return;
        }
        if (!w->list_version)
                w->generation++;
        path = list_path(w);
        call.path = path;
        w->state = WATCH_LISTING;
        timer_stop(w->timer);
        if (!path || api_call(w->client, &call, &w->list, &err) < 0) {
                list_forget(w);
                watch_failed(w, 0, kl_error_msg(err));
        }
}

/* --- the watch --- */

static void event_error(ApiWatch *w, const Value *object)
{
        int64_t code = value_int(value_get(object, "code"), 0);
        const char *message = api_status_message(object);

        if (code == 410) {
                log_debug(NULL, "Watch of '%s': version %s is too old", w->path, w->version);
                watch_relist(w);
                return;
        }
        watch_failed(w, (int)code, *message ? message : "the API server sent an error event");
}

static void watch_line(ApiWatch *w, const char *line, size_t len)
{
        KL_AUTO(value_free) Value *event = NULL;
        KL_AUTOERR err = NULL;
        const Value *object;
        const char *type, *version;
        char *copy;

        if (len == 0)
                return;
        if (json_parse(line, len, &event, &err) < 0) {
                kl_error_wrap(&err, err->code, "the API server's watch event");
                watch_failed(w, 0, kl_error_msg(err));
                return;
        }
        type = value_get_str(event, "type");
        object = value_get(event, "object");
        if (str_eq(type, "ERROR")) {
                event_error(w, object);
                return;
        }
        version = value_get_str(value_get(object, "metadata"), "resourceVersion");
        if (!type || !version) {
                watch_failed(w, 0, "the API server sent a watch event without type or version");
                return;
        }
        copy = strdup(version);
        if (!copy) {
                watch_failed(w, 0, "out of memory");
                return;
        }
        free(w->version);
        w->version = copy;
        see_version(w, copy);
        w->heard = true;
        watch_works(w);
        if (str_eq(type, "ADDED") || str_eq(type, "MODIFIED"))
                object_set(w, object);
        else if (str_eq(type, "DELETED"))
                object_deleted(w, object);
}

static void on_head(HttpRequest *http, int status, const HttpHeader *headers, size_t n, void *data)
{
        ApiWatch *w = data;

        api_client_note(w->client, NULL);
        w->status = status;
        w->retry_after_ms = api_retry_after_ms(headers, n);
        w->state = WATCH_WATCHING;
        w->opened_ms = time_monotonic_ms();
        if (status == 200)
                timer_start(w->timer, (WATCH_SECONDS_MIN + WATCH_SECONDS_SPREAD) * 1000ULL +
                                              WATCH_OVERDUE_MS);
}

/* Takes one piece up to a newline or the end of input; true if the stream is still of interest. */
static bool take_piece(ApiWatch *w, const char *bytes, size_t len, bool whole)
{
        const HttpRequest *http = w->http;

        if (whole && w->line.len == 0) {
                watch_line(w, bytes, len);
                return !w->doomed && w->http == http;
        }
        buf_add(&w->line, bytes, len);
        if (buf_error(&w->line)) {
                watch_failed(w, 0,
                             buf_error(&w->line) == -EMSGSIZE
                                     ? "the API server sent a watch event larger than 8 MiB"
                                     : "out of memory");
                return false;
        }
        if (whole) {
                Buf line = w->line;

                w->line = (Buf)BUF_INIT_LIMIT(API_WATCH_LINE_MAX);
                watch_line(w, line.data, line.len);
                buf_deinit(&line);
        }
        return !w->doomed && w->http == http;
}

static void on_body(HttpRequest *http, const char *bytes, size_t len, void *data)
{
        ApiWatch *w = data;
        bool more = true;

        if (w->status != 200) {
                if (w->line.len + len <= ERROR_BODY_MAX)
                        buf_add(&w->line, bytes, len);
                return;
        }
        watch_enter(w);
        while (more && len > 0) {
                const char *lf = memchr(bytes, '\n', len);
                size_t n = lf ? (size_t)(lf - bytes) : len;

                more = take_piece(w, bytes, n, lf != NULL);
                n += lf != NULL;
                bytes += n;
                len -= n;
        }
        watch_leave(w);
}

static void watch_refused(ApiWatch *w)
{
        KL_AUTO(value_free) Value *status = NULL;
        char text[64], why[256] = "";
        KL_AUTOFREE char *message = NULL;
        const char *given;

        json_parse(buf_str(&w->line), w->line.len, &status, NULL);
        if (w->status == 410) {
                watch_relist(w);
                return;
        }
        given = api_status_message(status);
        snprintf(text, sizeof(text), "HTTP status %d", w->status);
        if (w->status == 401 && !api_client_refresh(w->client))
                api_auth_explain(w->client->auth, why, sizeof(why));
        message = str_format("%s%s", *given ? given : text, why);
        watch_failed(w, w->status, message ? message : text);
}

/* Connections break. Only when it happens again before anything came is that an outage. */
static void watch_lost(ApiWatch *w, const KlError *err, bool was_healthy)
{
        if (!was_healthy && w->failing_since_ms) {
                watch_failed(w, 0, kl_error_msg(err));
                return;
        }
        log_debug(NULL, "Watch of '%s' was cut off: %s", w->path, kl_error_msg(err));
        if (!w->failing_since_ms)
                w->failing_since_ms = time_monotonic_ms();
        watch_wait(w, BACKOFF_DENIED_MIN_MS);
}

static void on_done(HttpRequest *http, const KlError *err, void *data)
{
        ApiWatch *w = data;
        bool was_healthy = w->heard || time_monotonic_ms() - w->opened_ms >= HEALTHY_AFTER_MS;

        watch_enter(w);
        w->http = http_request_free(w->http);
        if (err && w->state == WATCH_OPENING)
                api_client_note(w->client, err);
        if (w->status != 0 && w->status != 200)
                watch_refused(w);
        else if (w->status == 0)
                watch_failed(w, 0, err ? kl_error_msg(err) : "no answer");
        else if (was_healthy && !err)
                watch_begin(w);
        else if (err)
                watch_lost(w, err, was_healthy);
        else
                watch_wait(w, BACKOFF_MIN_MS);
        watch_leave(w);
}

/* All watches of a connection hear this at once; leaving at once would be a storm of requests,
 * each of which may make the server close the next connection. */
static void on_draining(HttpRequest *http, void *data)
{
        ApiWatch *w = data;

        w->leaving = true;
        timer_start(w->timer, random_u64() % LEAVE_SPREAD_MS + 1);
}

static void watch_open(ApiWatch *w)
{
        static const HttpFuncs funcs = {
                .head = on_head,
                .body = on_body,
                .done = on_done,
                .draining = on_draining,
        };
        unsigned int seconds =
                WATCH_SECONDS_MIN + (unsigned int)(random_u64() % WATCH_SECONDS_SPREAD);
        KL_AUTOFREE char *path = str_format(
                "%s?watch=true&allowWatchBookmarks=true&resourceVersion=%s&timeoutSeconds=%u%s%s",
                w->path, w->version, seconds, w->selector ? "&fieldSelector=" : "",
                w->selector ? w->selector : "");
        ApiHttpCall call = {
                .class = HTTP_WATCH,
                .method = "GET",
                .path = path,
                .accept = "application/json",
                .funcs = &funcs,
                .data = w,
        };
        KL_AUTOERR err = NULL;

        w->http = http_request_free(w->http);
        buf_deinit(&w->line);
        w->line = (Buf)BUF_INIT_LIMIT(API_WATCH_LINE_MAX);
        w->status = 0;
        w->heard = w->leaving = false;
        w->state = WATCH_OPENING;
        timer_start(w->timer, HEAD_TIMEOUT_MS);
        if (!path || api_http_request(w->client, &call, &w->http, &err) < 0)
                watch_failed(w, 0, err ? kl_error_msg(err) : "out of memory");
}

static void on_timer(Timer *timer, void *data)
{
        ApiWatch *w = data;

        watch_enter(w);
        if (w->leaving || w->state == WATCH_WAITING || w->state == WATCH_WATCHING) {
                w->http = http_request_free(w->http);
                watch_begin(w);
        } else if (w->state == WATCH_OPENING) {
                watch_failed(w, 0, "the API server does not answer");
        }
        watch_leave(w);
}

void api_watch_poke(ApiWatch *w)
{
        if (w->state == WATCH_WAITING)
                timer_start(w->timer, 0);
}

int api_watch(ApiClient *client, const ApiWatchSpec *spec, ApiWatch **ret, KlError **err)
{
        ApiWatch *w = calloc(1, sizeof(*w));
        char selector[1024];

        if (!w)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        w->client = client;
        client->n_watches++;
        w->func = spec->func;
        w->data = spec->data;
        w->error_grace_ms = spec->error_grace_ms;
        w->known = map_new(free);
        w->path = strdup(spec->path);
        w->timer = timer_new(client->loop, on_timer, w);
        if (spec->field_selector) {
                api_escape(selector, sizeof(selector), spec->field_selector);
                w->selector = strdup(selector);
        }
        if (!w->known || !w->path || !w->timer || (spec->field_selector && !w->selector)) {
                api_watch_free(w);
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        /* The first list is begun by the loop, since it may fail at once. */
        timer_start(w->timer, 0);
        *ret = w;
        return 0;
}
