/* SPDX-License-Identifier: Apache-2.0 */

/*
 * GET over HTTP/1.1, one connection a request. Redirects are followed on the same host name alone;
 * one that leads elsewhere ends the attempt as a success with a warning (pkg/probe/http). The body
 * is read up to the limit, then the connection is closed under the server.
 */

#include "probe/probe-internal.h"

#include "base/str.h"

#include <strings.h>

typedef struct HttpAttempt {
        Attempt base;
        HttpPlace place;
        char *own_host;      /* the handler's Host header, or NULL */
        HttpHeader *headers; /* strings in `strings`; without Host */
        size_t n_headers;
        char **strings;
        unsigned int n_redirects;
        HttpClient *client;
        HttpRequest *request;
        int status;
        Buf body;
        char *plain_host; /* the host whose HTTPS turned out to be HTTP */
} HttpAttempt;

static int begin(HttpAttempt *a, KlError **err);

static void close_request(HttpAttempt *a)
{
        a->request = http_request_free(a->request);
        a->client = http_client_free(a->client);
}

static void tell(HttpAttempt *a, ProbeOutcome outcome, const char *output)
{
        AttemptResult result = {
                .outcome = outcome,
                .output = output,
                .plain_host = outcome == PROBE_SUCCESS ? a->plain_host : NULL,
        };

        attempt_tell_result(&a->base, &result);
}

/* As Go's client words it: Get "<url>": <what>. */
static void tell_get_failed(HttpAttempt *a, const char *url, const char *what)
{
        KL_AUTOBUF text = BUF_INIT;
        char host_port[HOST_PORT_MAX];

        host_port_format(a->place.host, a->place.port, host_port);
        if (url)
                buf_addf(&text, "Get \"%s\": %s", url, what);
        else
                buf_addf(&text, "Get \"%s://%s%s\": %s", a->place.https ? "https" : "http",
                         host_port, a->place.target, what);
        tell(a, PROBE_FAILURE, buf_str(&text));
}

/* --- the answer --- */

static void judge(HttpAttempt *a)
{
        KL_AUTOBUF text = BUF_INIT;

        if (a->base.hook || (a->status >= 200 && a->status < 300)) {
                tell(a, PROBE_SUCCESS, buf_str(&a->body));
        } else if (a->status >= 300 && a->status < 400) {
                buf_addf(&text, "Probe terminated redirects, Response body: %s", buf_str(&a->body));
                tell(a, PROBE_WARNING, buf_str(&text));
        } else {
                buf_addf(&text, "HTTP probe failed with statuscode: %d", a->status);
                tell(a, PROBE_FAILURE, buf_str(&text));
        }
}

static bool is_redirect(int status)
{
        return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Goes where the server points. false: the answer at hand is the last one. */
static bool follow(HttpAttempt *a, const char *location)
{
        KL_AUTOFREE char *url = strdup(location);
        KL_AUTOERR err = NULL;
        HttpPlace next;
        int r = url ? http_place_follow(&a->place, location, &next, &err) : -ENOMEM;

        if (r < 0) {
                tell_get_failed(a, url, url ? kl_error_msg(err) : "out of memory");
                return true;
        }
        if (strcasecmp(next.host, a->place.host) != 0) {
                http_place_deinit(&next);
                return false;
        }
        if (++a->n_redirects > PROBE_REDIRECTS_MAX - 1) {
                http_place_deinit(&next);
                tell_get_failed(a, url, "stopped after 10 redirects");
                return true;
        }
        close_request(a);
        http_place_deinit(&a->place);
        a->place = next;
        if (r > 0) { /* the handler's Host header was for the first one */
                free(a->own_host);
                a->own_host = NULL;
        }
        if (begin(a, &err) < 0)
                tell_get_failed(a, url, kl_error_msg(err));
        return true;
}

static void on_head(HttpRequest *request, int status, const HttpHeader *headers, size_t n,
                    void *data)
{
        const char *location = http_header_get(headers, n, "Location");
        HttpAttempt *a = data;

        a->status = status;
        if (is_redirect(status) && !str_empty(location))
                follow(a, location);
}

static void on_body(HttpRequest *request, const char *bytes, size_t len, void *data)
{
        HttpAttempt *a = data;
        size_t room = PROBE_OUTPUT_MAX - a->body.len;

        buf_add(&a->body, bytes, len < room ? len : room);
        if (len < room)
                return;
        close_request(a);
        judge(a);
}

/* The server answered TLS in HTTP. Hooks that were written when upstream ignored their scheme rely
 * on this (ConsistentHTTPGetHandlers, Kubernetes 1.26). */
static bool falls_back(HttpAttempt *a, const KlError *err)
{
        char host_port[HOST_PORT_MAX];

        if (!a->base.hook || !a->place.https || !str_eq(err->reason, TLS_REASON_PLAIN))
                return false;
        host_port_format(a->place.host, a->place.port, host_port);
        a->plain_host = strdup(host_port);
        a->place.https = false;
        for (size_t i = 0; i < a->n_headers; i++)
                if (strcasecmp(a->headers[i].name, "Authorization") == 0)
                        a->headers[i--] = a->headers[--a->n_headers];
        return a->plain_host && begin(a, NULL) == 0;
}

static void on_done(HttpRequest *request, const KlError *err, void *data)
{
        HttpAttempt *a = data;
        char host_port[HOST_PORT_MAX], text[512];

        if (!err) {
                close_request(a);
                judge(a);
                return;
        }
        if (a->status) {
                /* The head came, the body broke: upstream takes this for no result. */
                attempt_tell(&a->base, PROBE_UNKNOWN,
                             err->code == -ECONNRESET ? "unexpected EOF" : kl_error_msg(err));
                return;
        }
        host_port_format(a->place.host, a->place.port, host_port);
        dial_error_format(err, host_port, text, sizeof(text));
        close_request(a);
        if (!falls_back(a, err))
                tell_get_failed(a, NULL, text);
}

/* --- the request --- */

static int begin(HttpAttempt *a, KlError **err)
{
        static const HttpFuncs funcs = { .head = on_head, .body = on_body, .done = on_done };
        HttpClientSpec client = {
                .host = a->place.host,
                .port = a->place.port,
                .authority = a->own_host,
                .tls = a->place.https ? a->base.prober->tls : NULL,
        };
        HttpCall call = {
                .class = HTTP_NORMAL,
                .method = "GET",
                .path = a->place.target,
                .headers = a->headers,
                .n_headers = a->n_headers,
                .funcs = &funcs,
                .data = a,
        };

        a->status = 0;
        buf_clear(&a->body);
        KL_TRY(http_client_new(a->base.prober->loop, &client, &a->client, err));
        return http_request_new(a->client, &call, &a->request, err);
}

static int add_header(HttpAttempt *a, const char *name, const char *value)
{
        size_t n = strv_len(a->strings);

        if (strv_add(&a->strings, name) < 0 || strv_add(&a->strings, value) < 0)
                return -ENOMEM;
        a->headers[a->n_headers++] = (HttpHeader){ a->strings[n], a->strings[n + 1] };
        return 0;
}

/* User-Agent and Accept have values unless the handler gives its own; an empty one takes them
 * away. Connection is ours. */
static int copy_headers(HttpAttempt *a, const Handler *h)
{
        const Prober *prober = a->base.prober;
        const char *host = http_header_get(h->headers, h->n_headers, "Host");
        int r = 0;

        a->headers = calloc(h->n_headers + 4, sizeof(*a->headers));
        a->own_host = str_empty(host) ? NULL : strdup(host);
        if (!a->headers || (!str_empty(host) && !a->own_host))
                return -ENOMEM;
        for (size_t i = 0; r == 0 && i < h->n_headers; i++) {
                const char *name = h->headers[i].name, *value = h->headers[i].value;
                bool ours = strcasecmp(name, "Host") == 0 || strcasecmp(name, "Connection") == 0;
                bool removes = !*value && (strcasecmp(name, "Accept") == 0 ||
                                           strcasecmp(name, "User-Agent") == 0);

                if (!ours && !removes)
                        r = add_header(a, name, value);
        }
        if (r == 0 && !http_header_get(h->headers, h->n_headers, "User-Agent"))
                r = add_header(a, "User-Agent",
                               a->base.hook ? prober->lifecycle_agent : prober->probe_agent);
        if (r == 0 && !http_header_get(h->headers, h->n_headers, "Accept"))
                r = add_header(a, "Accept", "*/*");
        return r == 0 ? add_header(a, "Connection", "close") : r;
}

static int http_start(Attempt *base, const AttemptSpec *spec, KlError **err)
{
        HttpAttempt *a = (HttpAttempt *)base;
        const char *host;

        KL_TRY(attempt_port(spec, err));
        KL_TRY(attempt_host(spec, &host, err));
        a->place = (HttpPlace){
                .https = spec->handler->https,
                .port = spec->handler->port,
                .host = strdup(host),
                .target = http_target(spec->handler->path),
        };
        if (!a->place.host || !a->place.target || copy_headers(a, spec->handler) < 0)
                return kl_error_oom(err);
        return begin(a, err);
}

static void http_stop(Attempt *base)
{
        HttpAttempt *a = (HttpAttempt *)base;

        close_request(a);
        http_place_deinit(&a->place);
        buf_deinit(&a->body);
        free(a->headers);
        free(a->own_host);
        free(a->plain_host);
        a->headers = NULL;
        a->own_host = a->plain_host = NULL;
        a->strings = strv_free(a->strings);
}

static void http_timed_out(Attempt *base)
{
        HttpAttempt *a = (HttpAttempt *)base;

        tell_get_failed(a, NULL,
                        a->status ? "context deadline exceeded (Client.Timeout or context "
                                    "cancellation while reading body)"
                                  : "context deadline exceeded (Client.Timeout exceeded while "
                                    "awaiting headers)");
}

const AttemptOps attempt_http = {
        .size = sizeof(HttpAttempt),
        .start = http_start,
        .stop = http_stop,
        .timed_out = http_timed_out,
};
