/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Service account tokens by TokenRequest, bound to the pod. Refreshed at 80 % of their life or
 * after a day, with jitter (pkg/kubelet/token/token_manager.go); a refresh that fails keeps the old
 * token and is tried again.
 */

#include "volume/volume-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/json.h"

#define REFRESH_MAX_MS (24ULL * 3600 * 1000)
#define RETRY_MIN_MS 200
#define RETRY_MAX_MS 60000
#define JITTER_MAX_MS 10000

struct Token {
        ApiClient *api;
        char *path, *body;
        TokenFunc func;
        void *data;
        char *text, *error;
        ApiRequest *request;
        Timer *timer;
        uint64_t retry_ms;
};

static void token_ask(Token *t);

static void on_timer(Timer *timer, void *data)
{
        token_ask(data);
}

static uint64_t refresh_delay_ms(const char *expires)
{
        int64_t until_us, life_ms;
        uint64_t delay;

        if (!expires || time_parse_rfc3339(expires, &until_us) < 0)
                return REFRESH_MAX_MS;
        life_ms = (until_us - time_realtime_us()) / 1000;
        if (life_ms < 1000)
                return RETRY_MAX_MS;
        delay = (uint64_t)life_ms * 8 / 10;
        if (delay > REFRESH_MAX_MS)
                delay = REFRESH_MAX_MS;
        return delay > 2 * JITTER_MAX_MS ? delay - random_u64() % JITTER_MAX_MS : delay;
}

static void token_failed(Token *t, const char *message)
{
        free(t->error);
        t->error = str_format("failed to fetch token: %s", message);
        t->retry_ms = t->retry_ms ? t->retry_ms * 2 : RETRY_MIN_MS;
        if (t->retry_ms > RETRY_MAX_MS)
                t->retry_ms = RETRY_MAX_MS;
        timer_start(t->timer, t->retry_ms);
        if (!t->text)
                t->func(t->data);
}

static void on_response(ApiRequest *request, const ApiResponse *response, void *data)
{
        Token *t = data;
        const Value *status = value_get(response->object, "status");
        const char *text = value_get_str(status, "token");
        char *copy;

        t->request = NULL;
        if (response->status < 200 || response->status >= 300 || !text) {
                token_failed(t, response->message && *response->message ? response->message
                                                                        : "no token in the answer");
                return;
        }
        copy = strdup(text);
        if (!copy) {
                token_failed(t, "out of memory");
                return;
        }
        free(t->text);
        t->text = copy;
        free(t->error);
        t->error = NULL;
        t->retry_ms = 0;
        timer_start(t->timer, refresh_delay_ms(value_get_str(status, "expirationTimestamp")));
        t->func(t->data);
}

static void token_ask(Token *t)
{
        ApiCall call = { .method = "POST",
                         .path = t->path,
                         .body = t->body,
                         .body_len = strlen(t->body),
                         .critical = true,
                         .done = on_response,
                         .data = t };
        KL_AUTOERR err = NULL;

        if (!t->request && api_call(t->api, &call, &t->request, &err) < 0)
                token_failed(t, kl_error_msg(err));
}

static char *token_body(const Pod *pod, const Projection *source)
{
        Buf body = BUF_INIT;
        JsonWriter w = JSON_WRITER(&body);

        jw_object(&w);
        jw_kstr(&w, "apiVersion", "authentication.k8s.io/v1");
        jw_kstr(&w, "kind", "TokenRequest");
        jw_kobject(&w, "spec");
        jw_karray(&w, "audiences");
        if (!str_empty(source->audience))
                jw_str(&w, source->audience);
        jw_end(&w);
        jw_kint(&w, "expirationSeconds", source->expiration_s);
        jw_kobject(&w, "boundObjectRef");
        jw_kstr(&w, "apiVersion", "v1");
        jw_kstr(&w, "kind", "Pod");
        jw_kstr(&w, "name", pod->name);
        jw_kstr(&w, "uid", pod->uid);
        jw_end(&w);
        jw_end(&w);
        jw_end(&w);
        return buf_steal(&body);
}

int token_new(Volumes *volumes, const Pod *pod, const Projection *source, TokenFunc func,
              void *data, Token **ret, KlError **err)
{
        Token *t = calloc(1, sizeof(*t));
        const char *account = str_empty(pod->service_account) ? "default" : pod->service_account;

        if (!t)
                return kl_error_oom(err);
        t->api = volumes->client;
        t->func = func;
        t->data = data;
        t->path = str_format("/api/v1/namespaces/%s/serviceaccounts/%s/token", pod->namespace,
                             account);
        t->body = token_body(pod, source);
        t->timer = timer_new(volumes->loop, on_timer, t);
        if (!t->path || !t->body || !t->timer) {
                token_free(t);
                return kl_error_oom(err);
        }
        if (t->api)
                token_ask(t);
        else
                t->error = strdup("failed to fetch token: there is no API server");
        *ret = t;
        return 0;
}

Token *token_free(Token *t)
{
        if (!t)
                return NULL;
        api_request_cancel(t->request);
        timer_free(t->timer);
        free(t->path);
        free(t->body);
        free(t->text);
        free(t->error);
        free(t);
        return NULL;
}

const char *token_text(const Token *t)
{
        return t->text;
}

const char *token_error(const Token *t)
{
        return t->error ? t->error : "";
}
