/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A connection reads heads and bodies through the parser of codec/http1 and runs one exchange at a
 * time. Input is taken while an exchange runs, up to HTTP_SERVER_AHEAD_MAX: only so is it noticed
 * that a client has gone. Above that the connection is paused.
 *
 * Steps of the machine never nest: input, and the end of a response, only mark work; process() is
 * the one loop that does it. The exchange object belongs to its connection.
 */

#include "server/http-server.h"

#include "base/list.h"
#include "base/str.h"

#include <assert.h>
#include <strings.h>

typedef struct Connection Connection;

struct HttpStream {
        HttpStreamFuncs funcs; /* all NULL before an upgrade */
        void *data;
};

struct Exchange {
        Connection *connection;
        Http1Head head;
        char *text; /* what the head's strings lie in */
        void *data;
        void (*on_end)(void *data);
        ExchangeBodyFunc on_body;
        ExchangeWritableFunc on_writable;
        Buf body; /* collected */
        bool has_body, received;
        bool begun, chunked, close, no_body, ended;
        Buf headers; /* of the response, as lines */
        unsigned int n_headers;
        Buf rest;       /* a whole response … */
        size_t rest_at; /* … and how much of it the queue has taken */
};

struct Connection {
        HttpStream stream;
        HttpServer *server;
        List link;
        ListenerConn *conn;
        Http1Parser parser;
        Buf ahead;
        Exchange *exchange;
        Timer *timer;
        size_t queued_before; /* when the timer of a response was started */
        Deferred *work;
        bool working, closed, upgraded;
        bool in_head; /* the timer runs for one */
};

struct HttpServer {
        Loop *loop;
        HttpServerSpec spec;
        Listener *listener;
        List connections;
        List dead; /* freed at the end of the turn */
        Deferred *sweep;
};

static void process(Connection *c);

const char *http_status_text(int status)
{
        static const struct {
                int status;
                const char *text;
        } texts[] = {
                { 100, "Continue" },
                { 101, "Switching Protocols" },
                { 200, "OK" },
                { 301, "Moved Permanently" },
                { 400, "Bad Request" },
                { 401, "Unauthorized" },
                { 403, "Forbidden" },
                { 404, "Not Found" },
                { 405, "Method Not Allowed" },
                { 413, "Request Entity Too Large" },
                { 417, "Expectation Failed" },
                { 422, "Unprocessable Entity" },
                { 431, "Request Header Fields Too Large" },
                { 500, "Internal Server Error" },
                { 501, "Not Implemented" },
                { 503, "Service Unavailable" },
        };

        for (size_t i = 0; i < ELEMENTS(texts); i++)
                if (texts[i].status == status)
                        return texts[i].text;
        return "Status";
}

/* --- exchanges --- */

static void exchange_free(Exchange *x)
{
        if (!x)
                return;
        x->connection->exchange = NULL;
        if (x->on_end)
                x->on_end(x->data);
        buf_deinit(&x->body);
        buf_deinit(&x->headers);
        buf_deinit(&x->rest);
        free(x->head.headers);
        free(x->text);
        free(x);
}

static char *put(char **at, const char *s)
{
        char *to = *at;
        size_t n = strlen(s) + 1;

        memcpy(to, s, n);
        *at += n;
        return to;
}

/* The parser's head goes with the message's end; the exchange's stays. */
static int copy_head(Exchange *x, const Http1Head *head)
{
        size_t size = strlen(head->method) + strlen(head->target) + 2;
        char *at;

        for (size_t i = 0; i < head->n_headers; i++)
                size += strlen(head->headers[i].name) + strlen(head->headers[i].value) + 2;
        x->head = *head;
        x->head.headers = calloc(head->n_headers + 1, sizeof(*x->head.headers));
        x->text = at = malloc(size);
        if (!x->head.headers || !x->text)
                return -ENOMEM;
        x->head.method = put(&at, head->method);
        x->head.target = put(&at, head->target);
        for (size_t i = 0; i < head->n_headers; i++) {
                x->head.headers[i].name = put(&at, head->headers[i].name);
                x->head.headers[i].value = put(&at, head->headers[i].value);
        }
        if (head->upgrade)
                x->head.upgrade = http_header_get(x->head.headers, x->head.n_headers, "Upgrade");
        return 0;
}

const Http1Head *exchange_head(const Exchange *x)
{
        return &x->head;
}

const char *exchange_header(const Exchange *x, const char *name)
{
        return http_header_get(x->head.headers, x->head.n_headers, name);
}

ListenerConn *exchange_conn(const Exchange *x)
{
        return x->connection->conn;
}

void exchange_set_data(Exchange *x, void *data)
{
        x->data = data;
}

void *exchange_data(const Exchange *x)
{
        return x->data;
}

void exchange_on_end(Exchange *x, void (*func)(void *exchange_data))
{
        x->on_end = func;
}

/* --- connections --- */

static void connection_free(Connection *c)
{
        list_unlink(&c->link);
        exchange_free(c->exchange);
        timer_free(c->timer);
        deferred_free(c->work);
        http1_parser_deinit(&c->parser);
        buf_deinit(&c->ahead);
        free(c);
}

/* Nothing of it is called any more; its memory goes at the end of the turn. */
static void connection_drop(Connection *c)
{
        if (c->closed)
                return;
        c->closed = true;
        timer_stop(c->timer);
        list_unlink(&c->link);
        list_append(&c->server->dead, &c->link);
        deferred_schedule(c->server->sweep);
}

static void connection_close(Connection *c, bool flush)
{
        if (c->closed)
                return;
        if (flush)
                listener_conn_close(c->conn);
        else
                listener_conn_abort(c->conn);
        connection_drop(c);
}

static void on_sweep(Deferred *deferred, void *data)
{
        HttpServer *s = data;

        while (!list_empty(&s->dead))
                connection_free(list_first(&s->dead, Connection, link));
}

static void on_timeout(Timer *timer, void *data)
{
        Connection *c = data;
        size_t queued = listener_conn_queued(c->conn);
        Exchange *x = c->exchange;

        /* A response that moves has time. */
        if (x && x->received && x->begun && (queued < c->queued_before || queued == 0)) {
                c->queued_before = queued;
                timer_start(timer, c->server->spec.stall_ms);
                return;
        }
        exchange_free(x);
        connection_close(c, false);
}

static void on_work(Deferred *deferred, void *data)
{
        process(data);
}

/* --- responses --- */

static void response_ended(Exchange *x)
{
        Connection *c = x->connection;
        bool close = x->close;

        x->ended = true;
        exchange_free(x);
        if (close)
                connection_close(c, true);
        else
                deferred_schedule(c->work);
}

/* A whole response's rest follows as the queue empties. */
static void pump(Exchange *x)
{
        Connection *c = x->connection;

        while (x->rest_at < x->rest.len) {
                size_t queued = listener_conn_queued(c->conn);
                size_t room = queued < HTTP_SERVER_QUEUE_MAX ? HTTP_SERVER_QUEUE_MAX - queued : 0;
                size_t left = x->rest.len - x->rest_at, n = left < room ? left : room;

                if (n == 0 || listener_conn_write(c->conn, x->rest.data + x->rest_at, n) < 0) {
                        listener_conn_notify(c->conn);
                        return;
                }
                x->rest_at += n;
        }
        response_ended(x);
}

int exchange_add_header(Exchange *x, const char *name, const char *value)
{
        HttpHeader header = { name, value };

        if (!http_headers_are_valid(&header, 1))
                return -EINVAL;
        if (x->n_headers == HTTP_SERVER_HEADERS_MAX)
                return -ENOBUFS;
        x->n_headers++;
        buf_addf(&x->headers, "%s: %s\r\n", name, value);
        return buf_error(&x->headers);
}

/* The head of a response; length -1: unknown. A body that nobody waited for ends the connection. */
static void write_head(Exchange *x, Buf *to, int status, const char *content_type, int64_t length)
{
        x->begun = true;
        x->no_body = str_eq(x->head.method, "HEAD");
        x->chunked = length < 0 && x->head.minor > 0;
        x->close |= !x->received || !x->head.keep_alive || (length < 0 && !x->chunked);
        buf_addf(to, "HTTP/1.1 %d %s\r\n", status, http_status_text(status));
        buf_add(to, x->headers.data, x->headers.len);
        if (content_type)
                buf_addf(to, "Content-Type: %s\r\n", content_type);
        if (length >= 0)
                buf_addf(to, "Content-Length: %lld\r\n", (long long)length);
        else if (x->chunked)
                buf_add_str(to, "Transfer-Encoding: chunked\r\n");
        if (x->close)
                buf_add_str(to, "Connection: close\r\n");
        else if (x->head.minor == 0)
                buf_add_str(to, "Connection: keep-alive\r\n");
        buf_add_str(to, "\r\n");
}

static void start_stall_timer(Connection *c)
{
        c->queued_before = listener_conn_queued(c->conn);
        timer_start(c->timer, c->server->spec.stall_ms);
}

void exchange_respond(Exchange *x, int status, const char *content_type, const void *body,
                      size_t len)
{
        Connection *c = x->connection;

        assert(!x->begun);
        write_head(x, &x->rest, status, content_type, (int64_t)len);
        if (!x->no_body)
                buf_add(&x->rest, body, len);
        if (buf_error(&x->rest)) {
                exchange_abort(x);
                return;
        }
        start_stall_timer(c);
        pump(x);
}

void exchange_respond_buf(Exchange *x, int status, const char *content_type, Buf *body)
{
        if (buf_error(body))
                exchange_respond_text(x, 500, "out of memory");
        else
                exchange_respond(x, status, content_type, body->data, body->len);
        buf_deinit(body);
}

void exchange_respond_text(Exchange *x, int status, const char *format, ...)
{
        KL_AUTOBUF text = BUF_INIT;
        va_list args;

        va_start(args, format);
        buf_vaddf(&text, format, args);
        va_end(args);
        buf_add_char(&text, '\n');
        exchange_add_header(x, "X-Content-Type-Options", "nosniff");
        exchange_respond(x, status, "text/plain; charset=utf-8", text.data, text.len);
}

void exchange_begin(Exchange *x, int status, const char *content_type,
                    ExchangeWritableFunc writable)
{
        Connection *c = x->connection;
        KL_AUTOBUF head = BUF_INIT;

        assert(!x->begun);
        x->on_writable = writable;
        write_head(x, &head, status, content_type, -1);
        if (!buf_error(&head))
                listener_conn_write(c->conn, head.data, head.len);
        start_stall_timer(c);
}

int exchange_write(Exchange *x, const void *data, size_t len)
{
        Connection *c = x->connection;
        char line[32];
        int n;

        assert(len <= HTTP_SERVER_CHUNK_MAX);
        if (x->no_body || len == 0)
                return 0;
        if (listener_conn_queued(c->conn) + len + sizeof(line) + 2 > HTTP_SERVER_QUEUE_MAX) {
                listener_conn_notify(c->conn);
                return -ENOBUFS;
        }
        if (!x->chunked)
                return listener_conn_write(c->conn, data, len);
        n = snprintf(line, sizeof(line), "%zx\r\n", len);
        KL_TRY(listener_conn_write(c->conn, line, (size_t)n));
        KL_TRY(listener_conn_write(c->conn, data, len));
        return listener_conn_write(c->conn, "\r\n", 2);
}

/* API servers (1.20 and others) that pass a response on through a WebSocket lose the bytes which
 * they read together with its end: the last chunk comes in a record of its own. */
void exchange_end(Exchange *x)
{
        listener_conn_begin_record(x->connection->conn);
        if (x->chunked && !x->no_body &&
            listener_conn_write(x->connection->conn, "0\r\n\r\n", 5) < 0)
                x->close = true;
        response_ended(x);
}

void exchange_abort(Exchange *x)
{
        Connection *c = x->connection;

        exchange_free(x);
        connection_close(c, false);
}

/* --- requests --- */

void exchange_collect(Exchange *x, ExchangeBodyFunc func)
{
        const char *expect = exchange_header(x, "Expect");

        if (x->received) {
                func(x, buf_str(&x->body), x->body.len);
                return;
        }
        if (x->head.content_length > HTTP_SERVER_BODY_MAX) {
                exchange_respond_text(x, 413, "request body larger than %u bytes",
                                      HTTP_SERVER_BODY_MAX);
                return;
        }
        x->on_body = func;
        x->body.limit = HTTP_SERVER_BODY_MAX;
        if (expect && strcasecmp(expect, "100-continue") == 0)
                listener_conn_write(x->connection->conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

/* A request that cannot be read: there is no exchange that could answer. */
static void refuse(Connection *c, int status, const char *why)
{
        KL_AUTOBUF text = BUF_INIT;

        buf_addf(&text,
                 "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "
                 "%zu\r\nConnection: close\r\n\r\n%s\n",
                 status, http_status_text(status), strlen(why) + 1, why);
        if (!buf_error(&text))
                listener_conn_write(c->conn, text.data, text.len);
        connection_close(c, true);
}

static void take_head(Connection *c)
{
        const Http1Head *head = &c->parser.head;
        Exchange *x = calloc(1, sizeof(*x));
        Http1Part end;
        size_t used;

        if (!x || copy_head(x, head) < 0) {
                free(x ? x->head.headers : NULL);
                free(x ? x->text : NULL);
                free(x);
                connection_close(c, false);
                return;
        }
        x->connection = c;
        c->exchange = x;
        c->in_head = false;
        x->has_body = head->chunked || head->content_length > 0;
        if (!x->has_body) {
                http1_parse(&c->parser, "", 0, &used, &end, NULL);
                assert(end.type == HTTP1_END);
                x->received = true;
        }
        if (x->has_body)
                timer_start(c->timer, HTTP_SERVER_BODY_MS);
        else
                timer_stop(c->timer);
        if (exchange_header(x, "Expect") &&
            strcasecmp(exchange_header(x, "Expect"), "100-continue") != 0)
                exchange_respond_text(x, 417, "unknown expectation");
        else
                c->server->spec.request(x, c->server->spec.data);
}

static void take_body(Connection *c, const Http1Part *part)
{
        Exchange *x = c->exchange;

        if (!x || !x->on_body)
                return;
        buf_add(&x->body, part->data, part->len);
        if (!buf_error(&x->body))
                return;
        x->on_body = NULL;
        exchange_respond_text(x, 413, "request body larger than %u bytes", HTTP_SERVER_BODY_MAX);
}

static void take_end(Connection *c)
{
        Exchange *x = c->exchange;
        ExchangeBodyFunc func = x ? x->on_body : NULL;

        if (!x)
                return;
        x->received = true;
        timer_stop(c->timer);
        x->on_body = NULL;
        if (func)
                func(x, buf_str(&x->body), x->body.len);
}

/* Whether input may be parsed now: an exchange whose request is whole has to end first. */
static bool may_parse(const Connection *c)
{
        return !c->closed && !c->upgraded && !(c->exchange && c->exchange->received);
}

static int parse_part(Connection *c)
{
        KL_AUTOERR err = NULL;
        Http1Part part;
        size_t used;
        int r;

        r = http1_parse(&c->parser, buf_str(&c->ahead), c->ahead.len, &used, &part, &err);
        if (r < 0) {
                exchange_free(c->exchange);
                refuse(c, r == -EMSGSIZE ? 431 : 400, kl_error_msg(err));
                return 0;
        }
        if (part.type == HTTP1_BODY)
                take_body(c, &part);
        buf_consume(&c->ahead, used);
        if (part.type == HTTP1_HEAD)
                take_head(c);
        if (part.type == HTTP1_END)
                take_end(c);
        return part.type != HTTP1_MORE;
}

static void deliver_upgraded(Connection *c)
{
        Buf bytes = c->ahead;

        c->ahead = (Buf)BUF_INIT;
        if (bytes.len > 0)
                c->stream.funcs.input(&c->stream, bytes.data, bytes.len, c->stream.data);
        buf_deinit(&bytes);
}

static void process(Connection *c)
{
        if (c->working || c->closed)
                return;
        c->working = true;
        while (may_parse(c) && parse_part(c))
                ;
        c->working = false;
        if (c->closed)
                return;
        if (c->upgraded) {
                deliver_upgraded(c);
                return;
        }
        listener_conn_pause(c->conn, c->ahead.len >= HTTP_SERVER_AHEAD_MAX);
        if (c->ahead.len == 0)
                buf_deinit(&c->ahead);
        if (c->exchange)
                return;
        if (http1_parser_idle(&c->parser) && !c->in_head)
                timer_start(c->timer, HTTP_SERVER_IDLE_MS);
        else if (!c->in_head)
                timer_start(c->timer, HTTP_SERVER_HEAD_MS);
        c->in_head |= !http1_parser_idle(&c->parser);
}

/* --- the listener's callbacks --- */

static void *on_opened(ListenerConn *conn, void *data)
{
        HttpServer *s = data;
        Connection *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        list_init(&c->link);
        c->server = s;
        c->conn = conn;
        http1_parser_init(&c->parser, HTTP1_REQUEST);
        c->timer = timer_new(s->loop, on_timeout, c);
        c->work = deferred_new(s->loop, on_work, c);
        if (!c->timer || !c->work) {
                connection_free(c);
                return NULL;
        }
        list_append(&s->connections, &c->link);
        c->in_head = true;
        timer_start(c->timer, HTTP_SERVER_HEAD_MS);
        return c;
}

static void on_input(ListenerConn *conn, const char *bytes, size_t len, void *data)
{
        Connection *c = data;

        if (c->upgraded && c->ahead.len == 0) {
                c->stream.funcs.input(&c->stream, (char *)bytes, len, c->stream.data);
                return;
        }
        buf_add(&c->ahead, bytes, len);
        if (buf_error(&c->ahead)) {
                exchange_free(c->exchange);
                connection_close(c, false);
                return;
        }
        process(c);
}

static void on_writable(ListenerConn *conn, void *data)
{
        Connection *c = data;
        Exchange *x = c->exchange;

        if (c->upgraded)
                c->stream.funcs.writable(&c->stream, c->stream.data);
        else if (x && x->rest.len > 0)
                pump(x);
        else if (x && x->on_writable)
                x->on_writable(x);
}

static void on_closed(ListenerConn *conn, void *data)
{
        Connection *c = data;
        bool upgraded = c->upgraded && !c->closed;

        exchange_free(c->exchange);
        connection_drop(c);
        if (upgraded)
                c->stream.funcs.closed(&c->stream, c->stream.data);
}

/* --- upgrades --- */

HttpStream *exchange_upgrade(Exchange *x, const HttpHeader *headers, size_t n_headers,
                             const HttpStreamFuncs *funcs, void *data)
{
        Connection *c = x->connection;
        KL_AUTOBUF head = BUF_INIT;

        assert(!x->begun);
        if (!x->head.upgrade || !x->received || !http_headers_are_valid(headers, n_headers)) {
                exchange_respond_text(x, 400, "you must specify at least 1 upgrade protocol");
                return NULL;
        }
        buf_add_str(&head, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
        buf_add(&head, x->headers.data, x->headers.len);
        for (size_t i = 0; i < n_headers; i++)
                buf_addf(&head, "%s: %s\r\n", headers[i].name, headers[i].value);
        buf_add_str(&head, "\r\n");
        if (buf_error(&head) || listener_conn_write(c->conn, head.data, head.len) < 0) {
                exchange_abort(x);
                return NULL;
        }
        c->upgraded = true;
        c->stream = (HttpStream){ .funcs = *funcs, .data = data };
        timer_stop(c->timer);
        listener_conn_pause(c->conn, false);
        exchange_free(x);
        deferred_schedule(c->work);
        return &c->stream;
}

static Connection *of_stream(const HttpStream *stream)
{
        return container_of(stream, Connection, stream);
}

int http_stream_write(HttpStream *stream, const void *data, size_t len)
{
        Connection *c = of_stream(stream);

        return c->closed ? -ENOTCONN : listener_conn_write(c->conn, data, len);
}

size_t http_stream_queued(const HttpStream *stream)
{
        const Connection *c = of_stream(stream);

        return c->closed ? 0 : listener_conn_queued(c->conn);
}

void http_stream_pause(HttpStream *stream, bool paused)
{
        Connection *c = of_stream(stream);

        if (!c->closed)
                listener_conn_pause(c->conn, paused);
}

void http_stream_close(HttpStream *stream)
{
        connection_close(of_stream(stream), true);
}

void http_stream_abort(HttpStream *stream)
{
        connection_close(of_stream(stream), false);
}

/* --- the server --- */

int http_server_new(Loop *loop, const HttpServerSpec *spec, HttpServer **ret, KlError **err)
{
        static const ListenerFuncs funcs = { on_opened, on_input, on_writable, on_closed };
        KL_AUTO(http_server_free) HttpServer *s = calloc(1, sizeof(*s));
        ListenerSpec listener = {
                .address = spec->address,
                .port = spec->port,
                .tls = spec->tls,
                .funcs = &funcs,
                .data = s,
        };

        if (!s)
                return kl_error_oom(err);
        list_init(&s->connections);
        list_init(&s->dead);
        s->loop = loop;
        s->spec = *spec;
        s->sweep = deferred_new(loop, on_sweep, s);
        if (!s->sweep)
                return kl_error_oom(err);
        KL_TRY(listener_new(loop, &listener, &s->listener, err));
        *ret = KL_STEAL(s);
        return 0;
}

HttpServer *http_server_free(HttpServer *s)
{
        if (!s)
                return NULL;
        listener_free(s->listener);
        on_sweep(NULL, s);
        deferred_free(s->sweep);
        free(s);
        return NULL;
}

Listener *http_server_listener(HttpServer *s)
{
        return s->listener;
}
