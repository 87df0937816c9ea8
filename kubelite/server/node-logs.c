/* SPDX-License-Identifier: Apache-2.0 */

/*
 * /logs/: files of /var/log, and queries for services' logs where the configuration allows them. A
 * worker finds and writes the answer into a pipe; here it is handed on as fast as the client takes
 * it.
 */

#include "server/node-log-files.h"
#include "server/server-internal.h"

#include "base/str.h"
#include "loop/worker.h"

#include <fcntl.h>

#define FILE_DEADLINE_MS 3600000
#define QUERY_DEADLINE_MS 30000 /* upstream's */
#define BLOCK (16U << 10)
#define OUT_FD 4 /* what a function worker is given to keep */

typedef struct NodeLogRequest {
        ServerRequest *rq;
        NodeLogQuery query;
        bool is_query;
        char *path;
        Worker *worker; /* until it has ended */
        Watch *watch;   /* until the pipe's end */
        int fd;
        bool begun, failed;
        Buf head; /* the answer's first line, not whole yet */
        char block[BLOCK];
        size_t len, at; /* of it, what the response has not taken */
} NodeLogRequest;

static void request_free(void *data)
{
        NodeLogRequest *n = data;

        n->rq->server->n_node_logs--;
        worker_free(n->worker);
        watch_free(n->watch);
        kl_close(n->fd);
        buf_deinit(&n->head);
        free(n->path);
        free(n);
}

/* Ends the request when nothing more can come. */
static void finish(NodeLogRequest *n)
{
        Exchange *x = n->rq->exchange;

        if (n->worker || n->watch || n->at < n->len)
                return;
        if (!n->begun)
                exchange_respond_text(x, 500, "the log cannot be read");
        else if (n->failed)
                exchange_abort(x);
        else
                exchange_end(x);
}

/* False: the client has to take something first. */
static bool push(NodeLogRequest *n)
{
        if (n->at < n->len && exchange_write(n->rq->exchange, n->block + n->at, n->len - n->at) < 0)
                return false;
        n->at = n->len;
        return true;
}

static void on_writable(Exchange *exchange)
{
        ServerRequest *rq = exchange_data(exchange);
        NodeLogRequest *n = rq->data;

        if (!push(n))
                return;
        if (n->watch)
                watch_set(n->watch, WATCH_READ);
        finish(n);
}

/* "<status> <rest>". True when the response goes on with a body. */
static bool begin(NodeLogRequest *n, char *line)
{
        Exchange *x = n->rq->exchange;
        char *rest = strchr(line, ' ');
        int64_t status = 500;

        if (rest)
                *rest++ = '\0';
        n->begun = true;
        if (!rest || str_to_i64(line, 200, 599, &status) < 0)
                rest = line;
        if (status == 200) {
                exchange_begin(x, 200, rest, on_writable);
                return true;
        }
        if (status == 301) {
                exchange_add_header(x, "Location", rest);
                exchange_respond(x, 301, NULL, "", 0);
        } else {
                exchange_respond_text(x, (int)status, "%s", rest);
        }
        return false;
}

/* Takes the first line off what has come; false when there is no response any more. */
static bool take_head(NodeLogRequest *n)
{
        const char *lf = memchr(n->block, '\n', n->len);
        size_t len = lf ? (size_t)(lf - n->block) : n->len;

        if (n->head.len + len > NODE_LOG_LINE_MAX) {
                exchange_respond_text(n->rq->exchange, 500, "the log cannot be read");
                return false;
        }
        buf_add(&n->head, n->block, len);
        n->at = lf ? len + 1 : n->len;
        if (!lf)
                return true;
        if (buf_error(&n->head) || n->head.len == 0) {
                exchange_respond_text(n->rq->exchange, 500, "the log cannot be read");
                return false;
        }
        return begin(n, n->head.data);
}

static void on_readable(Watch *watch, int fd, unsigned int events, void *data)
{
        NodeLogRequest *n = data;
        ssize_t got = read(fd, n->block, sizeof(n->block));

        if (got < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (got <= 0) {
                n->watch = watch_free(n->watch);
                finish(n);
                return;
        }
        n->len = (size_t)got;
        n->at = 0;
        if (!n->begun && !take_head(n))
                return;
        if (!push(n))
                watch_set(n->watch, 0);
}

static void on_done(Worker *worker, WorkerResult *result, void *data)
{
        NodeLogRequest *n = data;

        n->worker = worker_free(n->worker);
        n->failed = result->status != 0;
        finish(n);
}

static int body(void *arg)
{
        const NodeLogRequest *n = arg;

        fcntl(OUT_FD, F_SETFD, FD_CLOEXEC);
        if (n->is_query && !n->query.file)
                return node_log_send_query(OUT_FD, &n->query);
        return node_log_send_path(OUT_FD, n->path, n->rq->target.ends_in_slash);
}

static int start(NodeLogRequest *n)
{
        WorkerSpec spec = {
                .name = "node-logs",
                .body = body,
                .body_arg = n,
                .out_max = 16,
                .deadline_ms = n->is_query ? QUERY_DEADLINE_MS : FILE_DEADLINE_MS,
                .own_group = true,
                .done = on_done,
                .data = n,
        };
        KL_AUTOFD int write_end = -1;
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        n->fd = fds[0];
        write_end = fds[1];
        spec.keep_fds[0] = write_end;
        fcntl(n->fd, F_SETFL, O_NONBLOCK);
        KL_TRY(watch_new(n->rq->server->loop, n->fd, WATCH_READ, on_readable, n, &n->watch));
        return worker_start(n->rq->server->loop, &spec, &n->worker, NULL);
}

/* The path below /logs/, as the client gave it or as its query did; NULL: malformed. To be freed.
 */
static char *path_of(const NodeLogRequest *n)
{
        const Target *t = &n->rq->target;
        KL_AUTOBUF path = BUF_INIT;

        if (n->is_query && n->query.file) {
                buf_add_str(&path, n->query.file + strspn(n->query.file, "/"));
                return buf_steal(&path);
        }
        for (size_t i = 1; i < t->n_segments; i++) {
                if (strchr(t->segments[i], '/'))
                        return NULL;
                buf_addf(&path, "%s%s", i > 1 ? "/" : "", t->segments[i]);
        }
        buf_add_str(&path, "");
        return path.len ? buf_steal(&path) : strdup("");
}

/* 0, or the status that was answered. */
static int parse_query(NodeLogRequest *n)
{
        KL_AUTOERR err = NULL;
        int r;

        if (!n->rq->server->options.config->enable_system_log_query)
                return 0;
        r = node_log_query_parse(&n->rq->target, &n->query, &err);
        n->is_query = r > 0;
        if (r < 0) {
                exchange_respond_text(n->rq->exchange, r == -EDOM ? 406 : 400, "%s",
                                      kl_error_msg(err));
                return r;
        }
        if (n->is_query && n->rq->target.n_segments > 1) {
                exchange_respond_text(n->rq->exchange, 406, "path not allowed in query mode");
                return -EDOM;
        }
        return 0;
}

void server_node_logs(ServerRequest *rq)
{
        NodeLogRequest *n;

        if (!rq->server->options.config->enable_system_log_handler) {
                exchange_respond_text(rq->exchange, 405, "logs endpoint is disabled.");
                return;
        }
        if (rq->server->n_node_logs >= SERVER_NODE_LOGS_MAX) {
                exchange_respond_text(rq->exchange, 503, "too many requests for logs");
                return;
        }
        n = calloc(1, sizeof(*n));
        if (!n) {
                exchange_respond_text(rq->exchange, 500, "out of memory");
                return;
        }
        n->rq = rq;
        n->fd = -1;
        rq->server->n_node_logs++;
        server_request_set_data(rq, n, request_free);
        if (parse_query(n) < 0)
                return;
        n->path = path_of(n);
        if (!n->path)
                exchange_respond_text(rq->exchange, 400, "malformed request");
        else if (start(n) < 0)
                exchange_respond_text(rq->exchange, 500, "the log cannot be read");
}
