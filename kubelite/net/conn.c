/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One outgoing byte stream. It goes through resolve, connect, proxy and handshake to open, in this
 * order and without those that it does not need, and ends closed.
 *
 * An error never calls back from within conn_write(): it is kept in `error` and told from the
 * deferred call. A connection that its owner frees in a callback is `doomed`, and goes when the
 * last call into it returns.
 */

#include "net/conn-internal.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "codec/http1.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

typedef enum ConnState {
        CONN_RESOLVE,
        CONN_CONNECT,
        CONN_PROXY,
        CONN_HANDSHAKE,
        CONN_OPEN,
        CONN_CLOSED,
} ConnState;

#define KEEPALIVE_IDLE_S 30
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3

struct Conn {
        Loop *loop;
        ConnState state;
        char *host, *tls_name;
        uint16_t port;
        const ConnProxy *proxy;
        bool want_tls, paused, write_blocked_read, want_write, was_full, unread;
        TlsSession *tls;
        TlsContext *tls_context;
        Resolve *resolve;
        Address *addresses;
        size_t n_addresses, next_address;
        uint64_t give_up_ms; /* monotonic */
        int fd, dir_fd;
        Watch *watch;
        Timer *timer;
        Deferred *deferred;
        Http1Parser *proxy_parser;
        Buf out;
        KlError *error; /* of the last address while connecting, then what ended the stream */
        unsigned int busy;
        bool doomed;
        KlError *write_error; /* nothing can be written any more */
        const ConnFuncs *funcs;
        void *data;
};

static void conn_next_address(Conn *conn);
static void conn_set_watch(Conn *conn);

static void conn_close_socket(Conn *conn)
{
        conn->tls = tls_session_free(conn->tls);
        conn->watch = watch_free(conn->watch);
        conn->fd = kl_close(conn->fd);
        conn->dir_fd = kl_close(conn->dir_fd);
}

static void conn_destroy(Conn *conn)
{
        if (conn->proxy_parser) {
                http1_parser_deinit(conn->proxy_parser);
                free(conn->proxy_parser);
        }
        buf_deinit(&conn->out);
        kl_error_free(conn->error);
        kl_error_free(conn->write_error);
        free(conn->addresses);
        free(conn->host);
        free(conn->tls_name);
        tls_context_unref(conn->tls_context);
        free(conn);
}

Conn *conn_free(Conn *conn)
{
        if (!conn)
                return NULL;
        if (conn->tls && conn->state == CONN_OPEN)
                tls_shutdown(conn->tls);
        conn_close_socket(conn);
        conn->resolve = resolve_free(conn->resolve);
        conn->timer = timer_free(conn->timer);
        conn->deferred = deferred_free(conn->deferred);
        conn->state = CONN_CLOSED;
        conn->doomed = true;
        if (conn->busy == 0)
                conn_destroy(conn);
        return NULL;
}

static void conn_enter(Conn *conn)
{
        conn->busy++;
}

/* False when the owner has freed the connection meanwhile; it must not be touched then. */
static bool conn_leave(Conn *conn)
{
        conn->busy--;
        if (!conn->doomed)
                return true;
        if (conn->busy == 0)
                conn_destroy(conn);
        return false;
}

/* Ends the stream; the owner is told from the loop. */
static void conn_end(Conn *conn, KlError *error)
{
        if (conn->state == CONN_CLOSED) {
                kl_error_free(error);
                return;
        }
        conn->state = CONN_CLOSED;
        kl_error_free(conn->error);
        conn->error = error;
        conn->watch = watch_free(conn->watch);
        timer_stop(conn->timer);
        buf_deinit(&conn->out);
        deferred_schedule(conn->deferred);
}

/* While connecting: the next address, if there is one. */
static void conn_attempt_failed(Conn *conn, KlError *error)
{
        kl_error_free(conn->error);
        conn->error = error;
        conn_close_socket(conn);
        conn_next_address(conn);
}

static void conn_failed(Conn *conn, KlError *error)
{
        if (conn->state == CONN_CONNECT)
                conn_attempt_failed(conn, error);
        else
                conn_end(conn, error);
}

static void conn_opened(Conn *conn)
{
        conn->state = CONN_OPEN;
        conn->error = kl_error_free(conn->error);
        timer_stop(conn->timer);
        free(conn->addresses);
        conn->addresses = NULL;
        conn_set_watch(conn);
        conn->funcs->opened(conn, conn->data);
}

/* --- reading and writing --- */

static void conn_set_watch(Conn *conn)
{
        unsigned int events = 0;

        if (!conn->watch)
                return;
        if (conn->state == CONN_CONNECT)
                events = WATCH_WRITE;
        else if (!conn->paused || conn->state != CONN_OPEN)
                events = WATCH_READ;
        if (conn->want_write || (conn->out.len > 0 && !conn->write_blocked_read))
                events |= WATCH_WRITE;
        watch_set(conn->watch, events);
}

/* TLS_ results as of tls_read and tls_write, for plain sockets too. */
static int raw_read(Conn *conn, void *buf, size_t size, size_t *ret_n, KlError **err)
{
        ssize_t n;

        if (conn->tls)
                return tls_read(conn->tls, buf, size, ret_n, err);
        n = recv(conn->fd, buf, size, 0);
        *ret_n = n > 0 ? (size_t)n : 0;
        if (n >= 0)
                return TLS_DONE;
        if (errno == EAGAIN || errno == EINTR)
                return TLS_WANT_READ;
        return kl_error_errno(err, -errno, NULL, "the connection broke");
}

static int raw_write(Conn *conn, const void *data, size_t len, size_t *ret_n, KlError **err)
{
        ssize_t n;

        if (conn->tls)
                return tls_write(conn->tls, data, len, ret_n, err);
        n = send(conn->fd, data, len, MSG_NOSIGNAL);
        *ret_n = n > 0 ? (size_t)n : 0;
        if (n >= 0)
                return TLS_DONE;
        if (errno == EAGAIN || errno == EINTR)
                return TLS_WANT_WRITE;
        return kl_error_errno(err, -errno, NULL, "the connection broke");
}

/* The peer may have said why before it closed: what it sent is read first, then the stream ends. */
static void conn_write_broke(Conn *conn, KlError *err)
{
        conn->write_error = err;
        buf_deinit(&conn->out);
        conn->unread = true;
        conn->paused = false;
        deferred_schedule(conn->deferred);
}

/* As much as the socket takes. */
static void conn_flush(Conn *conn)
{
        KlError *err = NULL;
        size_t done = 0;
        int r = TLS_DONE;

        conn->write_blocked_read = false;
        while (done < conn->out.len && r == TLS_DONE) {
                size_t n;

                r = raw_write(conn, conn->out.data + done, conn->out.len - done, &n, &err);
                done += n;
        }
        buf_consume(&conn->out, done);
        conn->write_blocked_read = r == TLS_WANT_READ;
        if (r < 0) {
                conn_write_broke(conn, err);
                return;
        }
        if (conn->out.len == 0)
                buf_deinit(&conn->out);
        conn_set_watch(conn);
}

int conn_write(Conn *conn, const void *data, size_t len)
{
        if (conn->state == CONN_CLOSED || conn->write_error)
                return -ENOTCONN;
        if (conn->out.len + len > CONN_QUEUE_MAX) {
                conn->was_full = true;
                return -ENOBUFS;
        }
        buf_add(&conn->out, data, len);
        if (buf_error(&conn->out)) {
                KlError *err = NULL;

                kl_error(&err, -ENOMEM, NULL, "out of memory");
                conn_end(conn, err);
                return -ENOTCONN;
        }
        if (conn->out.len > CONN_QUEUE_LOW)
                conn->was_full = true;
        if (conn->state == CONN_OPEN)
                deferred_schedule(conn->deferred);
        return 0;
}

void conn_push(Conn *conn)
{
        if (conn->state == CONN_OPEN)
                conn_flush(conn);
}

size_t conn_queued(const Conn *conn)
{
        return conn->out.len;
}

void conn_pause(Conn *conn, bool paused)
{
        conn->paused = paused;
        conn_set_watch(conn);
        /* Bytes that TLS has decrypted already raise no event. */
        conn->unread |= !paused;
        if (!paused && conn->state == CONN_OPEN)
                deferred_schedule(conn->deferred);
}

const char *conn_alpn(const Conn *conn)
{
        return conn->tls ? tls_alpn(conn->tls) : "";
}

/* False when the connection is gone or closed. */
static bool conn_read_once(Conn *conn, bool *ret_more)
{
        char chunk[CONN_READ_SIZE];
        KlError *err = NULL;
        size_t n;
        int r = raw_read(conn, chunk, sizeof(chunk), &n, &err);

        *ret_more = r == TLS_DONE;
        conn->want_write = r == TLS_WANT_WRITE;
        if (conn->write_error && !err && (r != TLS_DONE || n == 0)) {
                err = KL_STEAL(conn->write_error);
                r = err->code;
        }
        if (r < 0 || (r == TLS_DONE && n == 0)) {
                conn_end(conn, err);
                return false;
        }
        if (r != TLS_DONE)
                return true;
        conn_enter(conn);
        conn->funcs->input(conn, chunk, n, conn->data);
        return conn_leave(conn) && conn->state == CONN_OPEN;
}

static void conn_read(Conn *conn)
{
        bool more = true;

        for (int i = 0; i < CONN_READS_PER_TURN && more && !conn->paused; i++)
                if (!conn_read_once(conn, &more))
                        return;
        conn->unread = more;
        if (more && !conn->paused)
                deferred_schedule(conn->deferred);
        conn_set_watch(conn);
}

static void conn_tell_writable(Conn *conn)
{
        if (!conn->was_full || conn->out.len > CONN_QUEUE_LOW || conn->state != CONN_OPEN)
                return;
        conn->was_full = false;
        conn->funcs->writable(conn, conn->data);
}

static void on_deferred(Deferred *deferred, void *data)
{
        Conn *conn = data;

        if (conn->state == CONN_OPEN) {
                conn_flush(conn);
                conn_enter(conn);
                conn_tell_writable(conn);
                if (!conn_leave(conn))
                        return;
                if (conn->state == CONN_OPEN && conn->unread && !conn->paused)
                        conn_read(conn);
                return;
        }
        if (conn->state == CONN_CLOSED)
                conn->funcs->closed(conn, conn->error, conn->data);
}

/* --- on the way to open --- */

static void conn_handshake(Conn *conn)
{
        KlError *err = NULL;
        int r = tls_handshake(conn->tls, &err);

        if (r < 0) {
                conn_end(conn, err);
                return;
        }
        conn->want_write = r == TLS_WANT_WRITE;
        conn_set_watch(conn);
        if (r == TLS_DONE)
                conn_opened(conn);
}

static void conn_connected(Conn *conn)
{
        const char *name = conn->tls_name ? conn->tls_name : conn->host;
        KlError *err = NULL;

        if (!conn->want_tls) {
                conn_opened(conn);
                return;
        }
        conn->state = CONN_HANDSHAKE;
        if (tls_session_new(conn->tls_context, conn->fd, name, &conn->tls, &err) < 0) {
                conn_end(conn, err);
                return;
        }
        conn_handshake(conn);
}

static int conn_ask_proxy(Conn *conn, KlError **err)
{
        bool v6 = strchr(conn->host, ':') != NULL;
        KL_AUTOFREE char *target = str_format(v6 ? "[%s]:%u" : "%s:%u", conn->host, conn->port);
        HttpHeader headers[] = {
                { "Host", target },
                { "Proxy-Authorization", conn->proxy->authorization },
        };

        conn->proxy_parser = calloc(1, sizeof(*conn->proxy_parser));
        if (!target || !conn->proxy_parser)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        http1_parser_init(conn->proxy_parser, HTTP1_RESPONSE);
        http1_parser_expect(conn->proxy_parser, "CONNECT");
        if (http1_write_request(&conn->out, "CONNECT", target, headers,
                                conn->proxy->authorization ? 2 : 1) < 0)
                return kl_error(err, -EINVAL, NULL, "cannot ask a proxy for '%s'", target);
        return 0;
}

static int proxy_answered(Conn *conn, const char *data, size_t len, KlError **err)
{
        Http1Parser *p = conn->proxy_parser;
        Http1Part part;
        size_t used;
        int r;

        for (;;) {
                r = http1_parse(p, data, len, &used, &part, err);
                if (r < 0)
                        return r;
                data += used;
                len -= used;
                if (part.type == HTTP1_SWITCHED && len > 0)
                        return kl_error(err, -EPROTO, NULL, "it sent more than its answer");
                if (part.type == HTTP1_SWITCHED)
                        return 1;
                if (part.type != HTTP1_HEAD)
                        return 0;
                if (p->head.status >= 300)
                        return kl_error(err, -ECONNREFUSED, NULL, "it answered %d %s",
                                        p->head.status, p->head.reason);
        }
}

static void conn_read_proxy(Conn *conn)
{
        char chunk[1024];
        KlError *err = NULL;
        size_t n;
        int r;

        conn_flush(conn);
        if (conn->state != CONN_PROXY)
                return;
        r = raw_read(conn, chunk, sizeof(chunk), &n, &err);
        if (r == TLS_WANT_READ)
                return;
        if (r == TLS_DONE && n == 0)
                r = kl_error(&err, -ECONNRESET, NULL, "it closed the connection");
        if (r == TLS_DONE)
                r = proxy_answered(conn, chunk, n, &err);
        if (r < 0) {
                kl_error_wrap(&err, r, "proxy %s:%u", conn->proxy->host, conn->proxy->port);
                conn_end(conn, err);
        } else if (r == 1) {
                conn_connected(conn);
        }
}

static void conn_check_connect(Conn *conn)
{
        char name[256];
        int error = 0;
        socklen_t len = sizeof(error);
        KlError *err = NULL;

        getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error == 0 && conn->proxy) {
                conn->state = CONN_PROXY;
                if (conn_ask_proxy(conn, &err) < 0)
                        conn_end(conn, err);
                else
                        conn_read_proxy(conn);
                return;
        }
        if (error == 0) {
                conn_connected(conn);
                return;
        }
        address_format(&conn->addresses[conn->next_address - 1], name, sizeof(name));
        kl_error_errno(&err, -error, NULL, "connect to %s", name);
        conn_attempt_failed(conn, err);
}

static void on_socket(Watch *watch, int fd, unsigned int events, void *data)
{
        Conn *conn = data;

        switch (conn->state) {
        case CONN_CONNECT:
                conn_check_connect(conn);
                return;
        case CONN_PROXY:
                conn_read_proxy(conn);
                return;
        case CONN_HANDSHAKE:
                conn_handshake(conn);
                return;
        case CONN_OPEN:
                break;
        case CONN_RESOLVE:
        case CONN_CLOSED:
        default:
                return;
        }
        if (events & WATCH_WRITE || conn->write_blocked_read) {
                conn_flush(conn);
                conn_enter(conn);
                conn_tell_writable(conn);
                if (!conn_leave(conn))
                        return;
        }
        if (conn->state == CONN_OPEN)
                conn_read(conn);
}

static void set_socket_options(int fd, int family)
{
        int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S;
        int count = KEEPALIVE_COUNT;

        if (family == AF_UNIX)
                return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static int conn_try(Conn *conn, const Address *address, KlError **err)
{
        char name[256];
        int r;

        address_format(address, name, sizeof(name));
        conn->fd = socket(address->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (conn->fd < 0)
                return kl_error_errno(err, -errno, NULL, "connect to %s", name);
        set_socket_options(conn->fd, address->to.ss_family);
        r = connect(conn->fd, (const struct sockaddr *)&address->to, address->len);
        if (r < 0 && errno != EINPROGRESS)
                return kl_error_errno(err, -errno, NULL, "connect to %s", name);
        r = watch_new(conn->loop, conn->fd, WATCH_WRITE, on_socket, conn, &conn->watch);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "watch a socket");
        return 0;
}

static void conn_next_address(Conn *conn)
{
        uint64_t now = time_monotonic_ms(), left, share;

        conn->state = CONN_CONNECT;
        while (conn->next_address < conn->n_addresses && now < conn->give_up_ms) {
                KlError *err = NULL;

                if (conn_try(conn, &conn->addresses[conn->next_address++], &err) == 0) {
                        left = conn->give_up_ms - now;
                        share = left / (conn->n_addresses - conn->next_address + 1);
                        if (share < CONN_ADDRESS_TIMEOUT_MIN_MS)
                                share = CONN_ADDRESS_TIMEOUT_MIN_MS;
                        timer_start(conn->timer, share < left ? share : left);
                        return;
                }
                conn_close_socket(conn);
                kl_error_free(conn->error);
                conn->error = err;
        }
        conn_end(conn, KL_STEAL(conn->error));
}

static void on_timer(Timer *timer, void *data)
{
        Conn *conn = data;
        KlError *err = NULL;
        char name[256];

        /* The whole of proxy and handshake has what is left of the time. */
        if (conn->state != CONN_CONNECT && time_monotonic_ms() < conn->give_up_ms) {
                timer_start(timer, conn->give_up_ms - time_monotonic_ms());
                return;
        }
        address_format(&conn->addresses[conn->next_address - 1], name, sizeof(name));
        kl_error(&err, -ETIMEDOUT, NULL, "%s %s: no answer within %d s",
                 conn->state == CONN_HANDSHAKE ? "TLS handshake with" : "connect to", name,
                 CONN_CONNECT_TIMEOUT_MS / 1000);
        conn_failed(conn, err);
}

static void on_addresses(const Address *addresses, size_t n, const KlError *err, void *data)
{
        Conn *conn = data;
        KlError *copy = NULL;

        conn->resolve = resolve_free(conn->resolve);
        if (err) {
                kl_error(&copy, err->code, NULL, "%s", err->msg);
                conn_end(conn, copy);
                return;
        }
        conn->addresses = calloc(n, sizeof(*addresses));
        if (!conn->addresses) {
                kl_error(&copy, -ENOMEM, NULL, "out of memory");
                conn_end(conn, copy);
                return;
        }
        memcpy(conn->addresses, addresses, n * sizeof(*addresses));
        conn->n_addresses = n;
        conn->give_up_ms = time_monotonic_ms() + CONN_CONNECT_TIMEOUT_MS;
        conn_next_address(conn);
}

/* Finds where to connect to. Even when it is known at once, connecting begins in the loop, since
 * nothing may call back before conn_new() has returned: errors do so through the deferred call. */
static int conn_begin(Conn *conn, const ConnSpec *spec, KlError **err)
{
        const char *host = conn->proxy ? conn->proxy->host : conn->host;
        uint16_t port = conn->proxy ? conn->proxy->port : conn->port;
        Address address;
        int r;

        conn->give_up_ms = time_monotonic_ms() + CONN_CONNECT_TIMEOUT_MS;
        if (spec->unix_path) {
                r = address_unix(spec->unix_path, &address, &conn->dir_fd);
                if (r < 0)
                        return kl_error_errno(err, r, NULL, "socket '%s'", spec->unix_path);
        } else if (address_parse(host, port, &address) < 0) {
                return resolve_start(conn->loop, host, port, on_addresses, conn, &conn->resolve,
                                     err);
        }
        conn->addresses = calloc(1, sizeof(address));
        if (!conn->addresses)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        conn->addresses[0] = address;
        conn->n_addresses = 1;
        conn_next_address(conn);
        return 0;
}

int conn_new(Loop *loop, const ConnSpec *spec, Conn **ret, KlError **err)
{
        KL_AUTO(conn_free) Conn *conn = calloc(1, sizeof(*conn));
        int r;

        if (!conn)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        conn->loop = loop;
        conn->fd = conn->dir_fd = -1;
        conn->port = spec->port;
        conn->proxy = spec->unix_path ? NULL : spec->proxy;
        conn->want_tls = spec->tls != NULL;
        conn->tls_context = tls_context_ref(spec->tls);
        conn->funcs = spec->funcs;
        conn->data = spec->data;
        conn->host = strdup(spec->host ? spec->host : "localhost");
        conn->tls_name = spec->tls_name ? strdup(spec->tls_name) : NULL;
        conn->timer = timer_new(loop, on_timer, conn);
        conn->deferred = deferred_new(loop, on_deferred, conn);
        if (!conn->host || (spec->tls_name && !conn->tls_name) || !conn->timer || !conn->deferred)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = conn_begin(conn, spec, err);
        if (r < 0)
                return r;
        *ret = KL_STEAL(conn);
        return 0;
}
