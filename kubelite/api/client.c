/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requests to the API server. The client owns them: each is queued, flies, and is freed after its
 * callback. Critical ones never wait; of the others API_REQUESTS_MAX fly at once.
 *
 * The client logs when the server is lost and found again, once each; what a single failed request
 * means is its owner's business.
 */

#include "api/client-internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"
#include "metrics/metrics.h"
#include "net/url.h"

#include <assert.h>
#include <strings.h>

#define TIMEOUT_MS 30000
#define REFRESH_MS 60000
#define RETRY_AFTER_MAX_S 300
#define EXCERPT_MAX 200

struct ApiRequest {
        List list;
        ApiClient *client;
        HttpRequest *http;
        char *method, *path, *body, *content_type, *accept;
        size_t body_len;
        bool critical, flying, is_json, is_text, authenticated_again, delivering;
        ApiPriority priority;
        uint64_t timeout_ms, retry_after_ms;
        uint64_t began_us;
        int status;
        Buf answer;
        ApiFunc done;
        void *data;
};

static void client_start_next(ApiClient *client);
static int request_start(ApiRequest *request, KlError **err);

/* --- helpers that watches use too --- */

void api_escape(char *buf, size_t size, const char *text)
{
        static const char hex[] = "0123456789ABCDEF";
        size_t n = 0;

        for (; *text && n + 4 <= size; text++) {
                unsigned char c = (unsigned char)*text;

                if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    strchr("-._~", c)) {
                        buf[n++] = (char)c;
                        continue;
                }
                buf[n++] = '%';
                buf[n++] = hex[c >> 4];
                buf[n++] = hex[c & 15];
        }
        if (size > 0)
                buf[n < size ? n : size - 1] = '\0';
}

static bool is_status(const Value *object)
{
        return str_eq(value_get_str(object, "kind"), "Status");
}

const char *api_status_reason(const Value *object)
{
        const char *reason = is_status(object) ? value_get_str(object, "reason") : NULL;

        return reason ? reason : "";
}

const char *api_status_message(const Value *object)
{
        const char *message = is_status(object) ? value_get_str(object, "message") : NULL;

        return message ? message : "";
}

uint64_t api_retry_after_ms(const HttpHeader *headers, size_t n)
{
        const char *value = http_header_get(headers, n, "Retry-After");
        uint64_t seconds;

        if (!value || str_to_u64(value, UINT32_MAX, &seconds) < 0)
                return 0;
        return (seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S) * 1000;
}

int api_http_request(ApiClient *client, const ApiHttpCall *call, HttpRequest **ret, KlError **err)
{
        KL_AUTOFREE char *path = str_format("%s%s", client->prefix, call->path);
        const char *authorization = api_auth_header(client->auth);
        HttpHeader headers[4];
        size_t n = 0;
        HttpCall http = {
                .class = call->class,
                .method = call->method,
                .path = path,
                .headers = headers,
                .body = call->body,
                .body_len = call->body_len,
                .timeout_ms = call->timeout_ms,
                .funcs = call->funcs,
                .data = call->data,
        };

        if (!path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        headers[n++] = (HttpHeader){ "accept", call->accept };
        headers[n++] = (HttpHeader){ "user-agent", client->user_agent };
        if (call->body_len > 0)
                headers[n++] = (HttpHeader){ "content-type", call->content_type };
        if (authorization)
                headers[n++] = (HttpHeader){ "authorization", authorization };
        http.n_headers = n;
        return http_request_new(client->http, &http, ret, err);
}

void api_client_note(ApiClient *client, const KlError *err)
{
        uint64_t now = time_monotonic_ms();

        if (err && !client->unreachable_told) {
                log_warning(NULL, "Cannot reach the API server '%s': %s", client->server,
                            kl_error_msg(err));
                client->unreachable_told = true;
        }
        if (!err && client->unreachable_told) {
                log_info(NULL, "The API server '%s' answers again", client->server);
                client->unreachable_told = false;
        }
        if (client->reachable != !err) {
                client->reachable = !err;
                client->reachable_since_ms = now;
        }
}

bool api_client_refresh(ApiClient *client)
{
        bool tls, changed = api_auth_refresh(client->auth, &tls);

        if (tls) {
                log_info(NULL, "Using the new client certificate for the API server");
                http_client_set_tls(client->http, api_auth_tls(client->auth));
        }
        return changed;
}

/* --- one request --- */

static void request_free(ApiRequest *request)
{
        list_unlink(&request->list);
        if (request->flying && !request->critical)
                request->client->n_flying--;
        http_request_free(request->http);
        free(request->method);
        free(request->path);
        free(request->body);
        free(request->content_type);
        free(request->accept);
        buf_deinit(&request->answer);
        free(request);
}

ApiRequest *api_request_cancel(ApiRequest *request)
{
        ApiClient *client;

        if (!request || request->delivering)
                return NULL;
        client = request->client;
        request_free(request);
        client_start_next(client);
        return NULL;
}

static void request_deliver(ApiRequest *request, const ApiResponse *response)
{
        ApiClient *client = request->client;

        request->http = http_request_free(request->http);
        request->delivering = true;
        request->done(request, response, request->data);
        request_free(request);
        client_start_next(client);
}

static void request_fail(ApiRequest *request, const KlError *err)
{
        ApiResponse response = { .body = "", .reason = "", .message = kl_error_msg(err) };

        request_deliver(request, &response);
}

/* Errors in other encodings than JSON are told by their status alone. */
static const char *reason_of_status(int status)
{
        static const struct {
                int status;
                const char *reason;
        } reasons[] = {
                { 400, "BadRequest" },
                { 401, "Unauthorized" },
                { 403, "Forbidden" },
                { 404, "NotFound" },
                { 405, "MethodNotAllowed" },
                { 409, "Conflict" },
                { 410, "Gone" },
                { 413, "RequestEntityTooLarge" },
                { 422, "Invalid" },
                { 429, "TooManyRequests" },
                { 500, "InternalError" },
                { 503, "ServiceUnavailable" },
                { 504, "Timeout" },
        };

        for (size_t i = 0; i < ELEMENTS(reasons); i++)
                if (reasons[i].status == status)
                        return reasons[i].reason;
        return "";
}

/* What a failed request is to be called when the server sent no v1.Status. */
static void describe_failure(const ApiRequest *request, char *buf, size_t size)
{
        const char *text = request->is_text ? buf_str(&request->answer) : "";
        int n = (int)strcspn(text, "\r\n");

        snprintf(buf, size, "HTTP status %d%s%.*s", request->status, n > 0 ? ": " : "",
                 n < EXCERPT_MAX ? n : EXCERPT_MAX, text);
}

static void request_answered(ApiRequest *request)
{
        KL_AUTO(value_free) Value *object = NULL;
        KL_AUTOERR err = NULL;
        char text[512] = "", why[256] = "";
        KL_AUTOFREE char *message = NULL;
        ApiResponse response = {
                .status = request->status,
                .body = buf_str(&request->answer),
                .body_len = request->answer.len,
                .retry_after_ms = request->retry_after_ms,
        };
        bool failed = request->status < 200 || request->status > 299;

        if (request->is_json && request->answer.len > 0 &&
            json_parse(request->answer.data, request->answer.len, &object, &err) < 0 && !failed) {
                kl_error_wrap(&err, err->code, "the API server's answer");
                request_fail(request, err);
                return;
        }
        response.object = object;
        response.reason = api_status_reason(object);
        if (failed && !*response.reason)
                response.reason = reason_of_status(request->status);
        response.message = api_status_message(object);
        if (failed && !*response.message) {
                describe_failure(request, text, sizeof(text));
                response.message = text;
        }
        if (request->status == 401) {
                api_auth_explain(request->client->auth, why, sizeof(why));
                message = str_format("%s%s", response.message, why);
                response.message = message ? message : response.message;
        }
        request_deliver(request, &response);
}

/* A token that expired may have been replaced already. */
static bool request_authenticate_again(ApiRequest *request)
{
        KL_AUTOERR err = NULL;

        if (request->status != 401 || request->authenticated_again ||
            !api_client_refresh(request->client))
                return false;
        request->authenticated_again = true;
        request->http = http_request_free(request->http);
        buf_clear(&request->answer);
        if (request_start(request, &err) < 0)
                request_fail(request, err);
        return true;
}

static void on_head(HttpRequest *http, int status, const HttpHeader *headers, size_t n, void *data)
{
        ApiRequest *request = data;
        const char *type = http_header_get(headers, n, "Content-Type");

        request->status = status;
        request->is_json = type && strncasecmp(type, "application/json", 16) == 0;
        request->is_text = request->is_json || (type && strncasecmp(type, "text/", 5) == 0);
        request->retry_after_ms = api_retry_after_ms(headers, n);
}

static void on_body(HttpRequest *http, const char *bytes, size_t len, void *data)
{
        ApiRequest *request = data;
        KL_AUTOERR err = NULL;

        buf_add(&request->answer, bytes, len);
        if (!buf_error(&request->answer))
                return;
        if (buf_error(&request->answer) == -EMSGSIZE)
                kl_error(&err, -EMSGSIZE, NULL,
                         "the API server's answer to %s %s is larger than "
                         "%u MiB",
                         request->method, request->path, API_BODY_MAX >> 20);
        else
                kl_error(&err, -ENOMEM, NULL, "out of memory");
        request_fail(request, err);
}

/* Labels are client-go's. */
static void count_request(const ApiRequest *request, const KlError *err)
{
        const char *scheme_end = strstr(request->client->server, "://");
        const char *host = scheme_end ? scheme_end + 3 : request->client->server;
        char code[16] = "<error>";

        if (!err)
                snprintf(code, sizeof(code), "%d", request->status);
        metric_add(METRIC_REST_REQUESTS, 1, code, host, request->method);
        metric_observe(METRIC_REST_REQUEST_DURATION,
                       (double)(time_monotonic_us() - request->began_us) / 1e6, host,
                       request->method);
}

static void on_done(HttpRequest *http, const KlError *err, void *data)
{
        ApiRequest *request = data;

        count_request(request, err);
        api_client_note(request->client, err);
        if (err)
                request_fail(request, err);
        else if (!request_authenticate_again(request))
                request_answered(request);
}

static int request_start(ApiRequest *request, KlError **err)
{
        static const HttpFuncs funcs = { .head = on_head, .body = on_body, .done = on_done };
        ApiHttpCall call = {
                .class = request->critical ? HTTP_CRITICAL : HTTP_NORMAL,
                .method = request->method,
                .path = request->path,
                .body = request->body,
                .body_len = request->body_len,
                .content_type = request->content_type,
                .accept = request->accept,
                .timeout_ms = request->timeout_ms,
                .funcs = &funcs,
                .data = request,
        };

        request->began_us = time_monotonic_us();
        return api_http_request(request->client, &call, &request->http, err);
}

/* --- the queue --- */

static void request_fly(ApiRequest *request)
{
        KL_AUTOERR err = NULL;

        list_unlink(&request->list);
        request->flying = true;
        if (!request->critical)
                request->client->n_flying++;
        if (request_start(request, &err) < 0)
                request_fail(request, err);
}

static void client_start_next(ApiClient *client)
{
        for (size_t i = 0; i < API_PRIORITIES; i++)
                while (!list_empty(&client->queues[i]) && client->n_flying < API_REQUESTS_MAX)
                        request_fly(list_first(&client->queues[i], ApiRequest, list));
}

static int copy_text(char **to, const char *from)
{
        *to = strdup(from);
        return *to ? 0 : -ENOMEM;
}

int api_call(ApiClient *client, const ApiCall *call, ApiRequest **ret, KlError **err)
{
        ApiRequest *request = calloc(1, sizeof(*request));
        int r = 0;

        if (!request)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        list_init(&request->list);
        request->client = client;
        request->critical = call->critical;
        request->priority = call->priority;
        request->timeout_ms = call->timeout_ms ? call->timeout_ms : TIMEOUT_MS;
        request->done = call->done;
        request->data = call->data;
        request->body_len = call->body ? call->body_len : 0;
        request->body = request->body_len ? malloc(request->body_len) : NULL;
        request->answer = (Buf)BUF_INIT_LIMIT(API_BODY_MAX);
        if (copy_text(&request->method, call->method) < 0 ||
            copy_text(&request->path, call->path) < 0 ||
            copy_text(&request->content_type,
                      call->content_type ? call->content_type : "application/json") < 0 ||
            copy_text(&request->accept, call->accept ? call->accept : "application/json") < 0 ||
            (request->body_len && !request->body))
                r = kl_error(err, -ENOMEM, NULL, "out of memory");
        if (r == 0 && request->body_len)
                memcpy(request->body, call->body, request->body_len);
        if (r == 0 && (call->critical || client->n_flying < API_REQUESTS_MAX)) {
                request->flying = true;
                if (!request->critical)
                        client->n_flying++;
                r = request_start(request, err);
        } else if (r == 0) {
                list_append(&client->queues[request->priority], &request->list);
        }
        if (r < 0) {
                request_free(request);
                return r;
        }
        if (ret)
                *ret = request;
        return 0;
}

/* --- the client --- */

static void on_refresh(Timer *timer, void *data)
{
        ApiClient *client = data;

        api_client_refresh(client);
        timer_start(timer, REFRESH_MS);
}

static int choose_proxy(ApiClient *client, const ApiEndpoint *endpoint, const Url *url,
                        KlError **err)
{
        bool tls = str_eq(url->scheme, "https");
        const char *proxy = endpoint->proxy_url, *except;

        if (str_empty(proxy)) {
                proxy = getenv(tls ? "HTTPS_PROXY" : "HTTP_PROXY");
                if (str_empty(proxy))
                        proxy = getenv(tls ? "https_proxy" : "http_proxy");
                except = getenv("NO_PROXY");
                if (str_empty(except))
                        except = getenv("no_proxy");
                if (str_empty(proxy) || conn_proxy_excepts(except, url->host, url->port))
                        return 0;
        }
        return conn_proxy_parse(proxy, &client->proxy, err);
}

static int client_set_up(ApiClient *client, const ApiEndpoint *endpoint, KlError **err)
{
        KL_AUTO(url_free) Url *url = NULL;
        HttpClientSpec spec;
        size_t len;
        bool tls;
        int r;

        r = url_parse(endpoint->server, &url, err);
        if (r < 0)
                return kl_error_wrap(err, r, "API server '%s'", endpoint->server);
        tls = str_eq(url->scheme, "https");
        if (!tls && !str_eq(url->scheme, "http"))
                return kl_error(err, -EINVAL, NULL, "API server '%s': not an https:// URL",
                                endpoint->server);
        r = choose_proxy(client, endpoint, url, err);
        if (r == 0)
                r = api_auth_new(endpoint, tls, &client->auth, err);
        if (r < 0)
                return r;
        for (len = strlen(url->path); len > 0 && url->path[len - 1] == '/'; len--)
                url->path[len - 1] = '\0';
        if (copy_text(&client->prefix, url->path) < 0 ||
            copy_text(&client->server, endpoint->server) < 0 ||
            copy_text(&client->user_agent,
                      endpoint->user_agent ? endpoint->user_agent : "kubelite") < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        spec = (HttpClientSpec){
                .host = url->host,
                .port = url->port,
                .authority = url->authority,
                .tls = api_auth_tls(client->auth),
                .tls_name = str_empty(endpoint->tls_server_name) ? NULL : endpoint->tls_server_name,
                .proxy = client->proxy,
        };
        return http_client_new(client->loop, &spec, &client->http, err);
}

int api_client_new(Loop *loop, const ApiEndpoint *endpoint, ApiClient **ret, KlError **err)
{
        KL_AUTO(api_client_free) ApiClient *client = calloc(1, sizeof(*client));
        int r;

        if (!client)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        client->loop = loop;
        for (size_t i = 0; i < API_PRIORITIES; i++)
                list_init(&client->queues[i]);
        client->reachable_since_ms = time_monotonic_ms();
        r = client_set_up(client, endpoint, err);
        if (r < 0)
                return r;
        if (api_auth_has_files(client->auth)) {
                client->refresh = timer_new(loop, on_refresh, client);
                if (!client->refresh)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                timer_start(client->refresh, REFRESH_MS);
        }
        *ret = KL_STEAL(client);
        return 0;
}

ApiClient *api_client_free(ApiClient *client)
{
        if (!client)
                return NULL;
        for (size_t i = 0; i < API_PRIORITIES; i++)
                assert(list_empty(&client->queues[i]));
        assert(client->n_flying == 0 && client->n_watches == 0);
        timer_free(client->refresh);
        http_client_free(client->http);
        api_auth_free(client->auth);
        conn_proxy_free(client->proxy);
        free(client->server);
        free(client->prefix);
        free(client->user_agent);
        free(client);
        return NULL;
}

bool api_client_reachable(const ApiClient *client)
{
        return client->reachable;
}

uint64_t api_client_reachable_since(const ApiClient *client)
{
        return client->reachable_since_ms;
}

size_t api_client_connections(const ApiClient *client)
{
        return http_client_links(client->http);
}
