/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The route table, and a request's way through it. Which subresource of nodes a path is about is
 * upstream's (pkg/kubelet/server/auth.go, with KubeletFineGrainedAuthz). One deviation: whatever
 * runs a process or opens a connection in a container is "create", whatever the HTTP method, so
 * that the right to read never becomes the right to run (a WebSocket exec is a GET).
 */

#include "server/server-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "metrics/metrics.h"

typedef void (*RouteFunc)(ServerRequest *rq);

struct Route {
        const char *segment;
        size_t min_segments, max_segments;
        const char *subresources[AUTH_SUBRESOURCES_MAX];
        bool always_create;
        bool debug;          /* only with enableDebuggingHandlers */
        const char *methods; /* "GET POST" */
        RouteFunc func;      /* NULL: only when a handler was given */
        const char *refusal; /* 405 with this text */
};

static void serve_healthz(ServerRequest *rq)
{
        static const char *const checks[] = { "ping", "log", "syncloop" };
        const char *check = rq->target.n_segments > 1 ? rq->target.segments[1] : "ping";
        bool known = false;

        for (size_t i = 0; i < ELEMENTS(checks); i++)
                known |= str_eq(check, checks[i]);
        if (!known) {
                exchange_respond_text(rq->exchange, 404, "404 page not found");
                return;
        }
        exchange_add_header(rq->exchange, "X-Content-Type-Options", "nosniff");
        exchange_respond(rq->exchange, 200, "text/plain; charset=utf-8", "ok", 2);
}

static void respond_json(ServerRequest *rq, int r, Buf *body)
{
        if (r < 0)
                exchange_respond_text(rq->exchange, 500, "out of memory");
        else
                exchange_respond(rq->exchange, 200, "application/json", body->data, body->len);
}

static void serve_pods(ServerRequest *rq)
{
        const KubeletServerOptions *o = &rq->server->options;
        KL_AUTOBUF body = BUF_INIT;

        respond_json(rq, o->funcs->write_pods(&body, o->data), &body);
}

static void serve_running_pods(ServerRequest *rq)
{
        const KubeletServerOptions *o = &rq->server->options;
        KL_AUTOBUF body = BUF_INIT;

        respond_json(rq, o->funcs->write_running(&body, o->data), &body);
}

static void serve_configz(ServerRequest *rq)
{
        KL_AUTOBUF body = BUF_INIT;
        int r;

        buf_add_str(&body, "{\"kubeletconfig\":");
        r = kubelet_config_print(rq->server->options.config, &body);
        buf_add_str(&body, "}");
        respond_json(rq, r < 0 ? r : buf_error(&body), &body);
}

static const Route routes[] = {
        { "healthz", 1, 2, { "healthz", "proxy" }, .methods = "GET", .func = serve_healthz },
        { "pods", 1, 1, { "pods", "proxy" }, .methods = "GET", .func = serve_pods },
        { "runningpods",
          1,
          1,
          { "pods", "proxy" },
          .debug = true,
          .methods = "GET",
          .func = serve_running_pods },
        { "configz", 1, 1, { "configz", "proxy" }, .methods = "GET", .func = serve_configz },
        { "containerLogs",
          4,
          4,
          { "proxy" },
          .debug = true,
          .methods = "GET",
          .func = server_container_logs },
        { "logs",
          1,
          TARGET_SEGMENTS_MAX,
          { "log" },
          .debug = true,
          .methods = "GET",
          .func = server_node_logs },
        { "stats", 1, 5, { "stats" }, .methods = "GET" },
        { "metrics", 1, 3, { "metrics" }, .methods = "GET" },
        { "spec", 1, 1, { "spec" }, .methods = "GET" },
        { "checkpoint",
          4,
          4,
          { "checkpoint" },
          .always_create = true,
          .methods = "POST",
          .refusal = "checkpoints of containers are not supported" },
        { "exec",
          4,
          5,
          { "proxy" },
          .always_create = true,
          .debug = true,
          .methods = "GET POST",
          .func = server_exec },
        { "attach",
          4,
          5,
          { "proxy" },
          .always_create = true,
          .debug = true,
          .methods = "GET POST",
          .func = server_attach },
        { "portForward",
          3,
          4,
          { "proxy" },
          .always_create = true,
          .debug = true,
          .methods = "GET POST",
          .func = server_port_forward },
        { "run",
          4,
          5,
          { "proxy" },
          .always_create = true,
          .debug = true,
          .methods = "POST",
          .func = server_run },
};

/* Everything that is no route is still judged: who may not ask does not learn what there is. */
static const Route no_route = { "", 0, 0, { "proxy" } };

static const Route *find_route(const Target *target)
{
        for (size_t i = 0; target->n_segments > 0 && i < ELEMENTS(routes); i++)
                if (str_eq(routes[i].segment, target->segments[0]))
                        return &routes[i];
        return &no_route;
}

static const char *verb_of(const char *method)
{
        static const char *const verbs[][2] = {
                { "GET", "get" },     { "POST", "create" },   { "PUT", "update" },
                { "PATCH", "patch" }, { "DELETE", "delete" },
        };

        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (str_eq(verbs[i][0], method))
                        return verbs[i][1];
        return NULL;
}

/* --- counting; labels and their values are upstream's --- */

static const char *metric_path(const Target *target)
{
        static const char *const pages[] = { "metrics/cadvisor", "metrics/probes",
                                             "metrics/resource" };
        const char *first = target->n_segments > 0 ? target->segments[0] : "";

        for (size_t i = 0;
             str_eq(first, "metrics") && target->n_segments > 1 && i < ELEMENTS(pages); i++)
                if (str_eq(pages[i] + strlen("metrics/"), target->segments[1]))
                        return pages[i];
        for (size_t i = 0; i < ELEMENTS(routes); i++)
                if (str_eq(routes[i].segment, first))
                        return routes[i].segment;
        return "other";
}

static void count_begun(ServerRequest *rq, const char *method)
{
        static const char *const methods[] = { "GET", "POST", "PUT", "PATCH", "DELETE" };
        static const char *const long_ones[] = { "exec", "attach", "portForward" };
        const char **labels = rq->metric_labels;

        labels[0] = "false";
        labels[1] = "other";
        labels[2] = metric_path(&rq->target);
        labels[3] = "readwrite";
        for (size_t i = 0; i < ELEMENTS(long_ones); i++)
                if (str_eq(long_ones[i], labels[2]))
                        labels[0] = "true";
        for (size_t i = 0; i < ELEMENTS(methods); i++)
                if (str_eq(methods[i], method))
                        labels[1] = methods[i];
        rq->began_us = time_monotonic_us();
        metric_add(METRIC_HTTP_REQUESTS, 1, labels[0], labels[1], labels[2], labels[3]);
        metric_add(METRIC_HTTP_INFLIGHT_REQUESTS, 1, labels[0], labels[1], labels[2], labels[3]);
}

static void count_ended(const ServerRequest *rq)
{
        const char *const *labels = rq->metric_labels;
        double took = (double)(time_monotonic_us() - rq->began_us) / 1e6;

        metric_add(METRIC_HTTP_INFLIGHT_REQUESTS, -1, labels[0], labels[1], labels[2], labels[3]);
        metric_observe(METRIC_HTTP_REQUESTS_DURATION, took, labels[0], labels[1], labels[2],
                       labels[3]);
}

/* --- a request --- */

static void request_free(void *data)
{
        ServerRequest *rq = data;

        count_ended(rq);
        if (rq->free_data)
                rq->free_data(rq->data);
        auth_check_free(rq->check);
        auth_user_unref(rq->user);
        target_deinit(&rq->target);
        rq->server->n_requests--;
        free(rq);
}

static const ExtraHandler *extra_handler(const KubeletServer *s, const char *segment)
{
        for (size_t i = 0; i < s->n_extra; i++)
                if (str_eq(s->extra[i].segment, segment))
                        return &s->extra[i].handler;
        return NULL;
}

static void dispatch(ServerRequest *rq)
{
        const Route *route = rq->route;
        const char *method = exchange_head(rq->exchange)->method;
        const ExtraHandler *extra = extra_handler(rq->server, route->segment);
        size_t n = rq->target.n_segments;

        if (route == &no_route || n < route->min_segments || n > route->max_segments) {
                exchange_respond_text(rq->exchange, 404, "404 page not found");
        } else if (route->debug && !rq->server->options.config->enable_debugging_handlers) {
                exchange_respond_text(rq->exchange, 405, "Debug endpoints are disabled.");
        } else if (!http_list_has(route->methods, method)) {
                exchange_add_header(rq->exchange, "Allow", route->methods);
                exchange_respond_text(rq->exchange, 405, "405: Method Not Allowed");
        } else if (extra && extra->func) {
                extra->func(rq, extra->data);
        } else if (route->refusal) {
                exchange_respond_text(rq->exchange, 405, "%s", route->refusal);
        } else if (route->func) {
                route->func(rq);
        } else {
                exchange_respond_text(rq->exchange, 404, "404 page not found");
        }
}

static void on_judged(AuthCheck *check, int status, const char *message, AuthUser *user, void *data)
{
        ServerRequest *rq = data;

        rq->check = NULL;
        /* Who is known is not pushed out by those who are not. */
        if (user)
                listener_conn_trust(exchange_conn(rq->exchange));
        if (status == 401)
                exchange_add_header(rq->exchange, "WWW-Authenticate", "Bearer");
        if (status != 0) {
                exchange_respond_text(rq->exchange, status, "%s", message);
                return;
        }
        rq->user = auth_user_ref(user);
        dispatch(rq);
}

void server_on_request(Exchange *exchange, void *data)
{
        KubeletServer *s = data;
        const Http1Head *head = exchange_head(exchange);
        const char *verb = verb_of(head->method);
        ServerRequest *rq = calloc(1, sizeof(*rq));
        AuthAction action = { 0 };
        AuthCheck *check;

        if (!rq || !verb || target_parse(head->target, &rq->target) < 0) {
                bool oom = !rq;

                free(rq);
                if (oom)
                        exchange_respond_text(exchange, 500, "out of memory");
                else if (!verb)
                        exchange_respond_text(exchange, 405, "405: Method Not Allowed");
                else
                        exchange_respond_text(exchange, 400, "malformed request");
                return;
        }
        rq->server = s;
        rq->exchange = exchange;
        rq->route = find_route(&rq->target);
        s->n_requests++;
        count_begun(rq, head->method);
        exchange_set_data(exchange, rq);
        exchange_on_end(exchange, request_free);
        action.verb = rq->route->always_create ? "create" : verb;
        memcpy(action.subresources, rq->route->subresources, sizeof(action.subresources));
        /* The request may be answered and gone when this returns. */
        if (auth_check(s->auth, exchange, &action, on_judged, rq, &check) < 0)
                exchange_respond_text(exchange, 500, "out of memory");
        else if (check)
                rq->check = check;
}

Exchange *server_request_exchange(const ServerRequest *rq)
{
        return rq->exchange;
}

const Target *server_request_target(const ServerRequest *rq)
{
        return &rq->target;
}

const AuthUser *server_request_user(const ServerRequest *rq)
{
        return rq->user;
}

void server_request_set_data(ServerRequest *rq, void *data, void (*free_data)(void *data))
{
        rq->data = data;
        rq->free_data = free_data;
}
