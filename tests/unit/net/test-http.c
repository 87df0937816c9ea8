/* SPDX-License-Identifier: Apache-2.0 */

/*
 * HTTP/2 over a Unix socket as gRPC uses it, against a server made of nghttp2's other half in the
 * same loop. It answers each request by its path: "/echo" sends the body back, "/trailers" adds a
 * trailer, "/never" says nothing, "/reset" resets the stream.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "net/http.h"

#include <nghttp2/nghttp2.h>
#include <sys/socket.h>
#include <sys/un.h>

#define WAIT_MS 5000
#define STREAMS_MAX 4

typedef struct Peer {
        struct Server *server;
        int fd;
        Watch *watch;
        Buf out;
        nghttp2_session *session;
        struct PeerStream {
                int32_t id;
                char path[32];
                Buf body;
                size_t sent;
        } streams[64];
} Peer;

typedef struct Server {
        Loop *loop;
        char dir[32];
        char *path;
        int fd;
        Watch *watch;
        Peer *peers[8];
        size_t n_peers;
        unsigned int most_streams, n_resets;
} Server;

static struct PeerStream *peer_stream(Peer *p, int32_t id)
{
        return &p->streams[(id / 2) % (int)ELEMENTS(p->streams)];
}

static int peer_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                       size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                       void *data)
{
        struct PeerStream *s = peer_stream(data, frame->hd.stream_id);

        s->id = frame->hd.stream_id;
        if (name_len == 5 && memcmp(name, ":path", 5) == 0)
                snprintf(s->path, sizeof(s->path), "%s", (const char *)value);
        return 0;
}

static int peer_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                     size_t len, void *data)
{
        buf_add(&peer_stream(data, id)->body, bytes, len);
        return 0;
}

static ssize_t peer_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t size,
                         uint32_t *flags, nghttp2_data_source *source, void *data)
{
        struct PeerStream *s = source->ptr;
        nghttp2_nv trailer = { (uint8_t *)(uintptr_t) "grpc-status", (uint8_t *)(uintptr_t) "0", 11,
                               1, 0 };
        size_t n = s->body.len - s->sent;

        n = n < size ? n : size;
        if (n > 0)
                memcpy(buf, s->body.data + s->sent, n);
        s->sent += n;
        if (s->sent < s->body.len)
                return (ssize_t)n;
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (str_eq(s->path, "/trailers")) {
                *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
                nghttp2_submit_trailer(session, id, &trailer, 1);
        }
        return (ssize_t)n;
}

static int peer_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
        Peer *p = data;
        struct PeerStream *s = peer_stream(p, frame->hd.stream_id);
        nghttp2_data_provider body = { .source.ptr = s, .read_callback = peer_read };
        nghttp2_nv status = { (uint8_t *)(uintptr_t) ":status", (uint8_t *)(uintptr_t) "200", 7, 3,
                              0 };
        unsigned int n = 0;

        p->server->n_resets += frame->hd.type == NGHTTP2_RST_STREAM;
        if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) ||
            (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
                return 0;
        for (size_t i = 0; i < ELEMENTS(p->streams); i++)
                n += p->streams[i].id != 0;
        if (n > p->server->most_streams)
                p->server->most_streams = n;
        if (str_eq(s->path, "/reset"))
                nghttp2_submit_rst_stream(session, 0, s->id, NGHTTP2_INTERNAL_ERROR);
        else if (!str_eq(s->path, "/never"))
                nghttp2_submit_response(session, s->id, &status, 1, &body);
        return 0;
}

static int peer_stream_closed(nghttp2_session *session, int32_t id, uint32_t code, void *data)
{
        struct PeerStream *s = peer_stream(data, id);

        buf_deinit(&s->body);
        *s = (struct PeerStream){ 0 };
        return 0;
}

static void peer_io(Watch *watch, int fd, unsigned int events, void *data)
{
        Peer *p = data;
        char chunk[65536];
        const uint8_t *out;
        ssize_t n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);

        if (n == 0) {
                p->watch = watch_free(p->watch);
                return;
        }
        if (n > 0)
                assert_int_equal(nghttp2_session_mem_recv(p->session, (uint8_t *)chunk, (size_t)n),
                                 n);
        while (p->out.len < sizeof(chunk) && (n = nghttp2_session_mem_send(p->session, &out)) > 0)
                buf_add(&p->out, out, (size_t)n);
        n = p->out.len ? send(fd, p->out.data, p->out.len, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        if (n > 0)
                buf_consume(&p->out, (size_t)n);
        watch_set(watch, WATCH_READ | (nghttp2_session_want_write(p->session) || p->out.len > 0
                                               ? (unsigned int)WATCH_WRITE
                                               : 0U));
}

static void on_accept(Watch *watch, int fd, unsigned int events, void *data)
{
        Server *server = data;
        Peer *p = calloc(1, sizeof(*p));
        nghttp2_session_callbacks *callbacks;
        nghttp2_settings_entry limit = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX };

        assert_non_null(p);
        p->server = server;
        p->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        nghttp2_session_callbacks_new(&callbacks);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, peer_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, peer_data);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, peer_frame);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, peer_stream_closed);
        assert_int_equal(nghttp2_session_server_new(&p->session, callbacks, p), 0);
        nghttp2_session_callbacks_del(callbacks);
        nghttp2_submit_settings(p->session, 0, &limit, 1);
        assert_int_equal(watch_new(server->loop, p->fd, WATCH_READ, peer_io, p, &p->watch), 0);
        assert_true(server->n_peers < ELEMENTS(server->peers));
        server->peers[server->n_peers++] = p;
}

static void server_start(Server *server)
{
        struct sockaddr_un un = { .sun_family = AF_UNIX };

        *server = (Server){ .dir = "/tmp/klt-http-XXXXXX" };
        assert_int_equal(loop_new(&server->loop, NULL), 0);
        assert_non_null(mkdtemp(server->dir));
        server->path = str_format("%s/socket", server->dir);
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", server->path);
        server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(server->fd, (struct sockaddr *)&un, sizeof(un)), 0);
        assert_int_equal(listen(server->fd, 5), 0);
        assert_int_equal(
                watch_new(server->loop, server->fd, WATCH_READ, on_accept, server, &server->watch),
                0);
}

static void server_stop(Server *server)
{
        for (size_t i = 0; i < server->n_peers; i++) {
                Peer *p = server->peers[i];

                watch_free(p->watch);
                nghttp2_session_del(p->session);
                buf_deinit(&p->out);
                for (size_t k = 0; k < ELEMENTS(p->streams); k++)
                        buf_deinit(&p->streams[k].body);
                kl_close(p->fd);
                free(p);
        }
        watch_free(server->watch);
        kl_close(server->fd);
        free(server->path);
        assert_int_equal(tree_remove(server->dir), 0);
        loop_free(server->loop);
}

/* --- the client's side --- */

typedef struct Call {
        HttpRequest *request;
        HttpClient **client_to_free;
        int status, done, code;
        bool cancel_on_head;
        char trailer[16];
        Buf body;
} Call;

static void on_head(HttpRequest *request, int status, const HttpHeader *headers, size_t n,
                    void *data)
{
        Call *call = data;

        call->status = status;
        if (call->cancel_on_head)
                call->request = http_request_free(call->request);
}

static void on_body(HttpRequest *request, const char *bytes, size_t len, void *data)
{
        buf_add(&((Call *)data)->body, bytes, len);
}

static void on_trailers(HttpRequest *request, const HttpHeader *headers, size_t n, void *data)
{
        const char *value = http_header_get(headers, n, "grpc-status");

        snprintf(((Call *)data)->trailer, sizeof(((Call *)0)->trailer), "%s", value ? value : "");
}

static void on_done(HttpRequest *request, const KlError *err, void *data)
{
        Call *call = data;

        call->done++;
        call->code = err ? err->code : 0;
        call->request = http_request_free(request);
        if (call->client_to_free)
                *call->client_to_free = http_client_free(*call->client_to_free);
}

static void start(HttpClient *client, Call *call, const char *path, HttpClass class,
                  const char *body, size_t len, uint64_t timeout_ms)
{
        static const HttpFuncs funcs = { on_head, on_body, on_trailers, NULL, on_done };
        HttpHeader headers[] = { { "TE", "trailers" }, { "Content-Type", "application/grpc" } };
        HttpCall spec = { .class = class,
                          .method = "POST",
                          .path = path,
                          .headers = headers,
                          .n_headers = 2,
                          .body = body,
                          .body_len = len,
                          .timeout_ms = timeout_ms,
                          .funcs = &funcs,
                          .data = call };

        assert_int_equal(http_request_new(client, &spec, &call->request, NULL), 0);
}

static HttpClient *connect_client(Server *server)
{
        HttpClientSpec spec = { .unix_path = server->path, .h2_prior_knowledge = true };
        HttpClient *client;

        assert_int_equal(http_client_new(server->loop, &spec, &client, NULL), 0);
        return client;
}

#define TURN_UNTIL(server, condition)                                                              \
        do {                                                                                       \
                uint64_t end_ = time_monotonic_ms() + WAIT_MS;                                     \
                while (!(condition) && time_monotonic_ms() < end_)                                 \
                        loop_turn((server)->loop, false);                                          \
                assert_true(condition);                                                            \
        } while (0)

static void test_trailers(void **state)
{
        Server server;
        HttpClient *client;
        Call call = { 0 };

        server_start(&server);
        client = connect_client(&server);
        start(client, &call, "/trailers", HTTP_NORMAL, "hello", 5, 0);
        TURN_UNTIL(&server, call.done);
        assert_int_equal(call.code, 0);
        assert_int_equal(call.status, 200);
        assert_string_equal(buf_str(&call.body), "hello");
        assert_string_equal(call.trailer, "0");
        buf_deinit(&call.body);
        http_client_free(client);
        server_stop(&server);
}

/* Far larger than all windows and queues, both ways. */
static void test_large_bodies(void **state)
{
        size_t len = 8U << 20;
        KL_AUTOFREE char *body = malloc(len);
        Server server;
        HttpClient *client;
        Call call = { 0 };

        for (size_t i = 0; i < len; i++)
                body[i] = (char)(i * 7 + i / 251);
        server_start(&server);
        client = connect_client(&server);
        start(client, &call, "/echo", HTTP_NORMAL, body, len, 0);
        TURN_UNTIL(&server, call.done);
        assert_int_equal(call.code, 0);
        assert_int_equal(call.body.len, len);
        assert_memory_equal(call.body.data, body, len);
        buf_deinit(&call.body);
        http_client_free(client);
        server_stop(&server);
}

static void test_watches_open_more_connections(void **state)
{
        Server server;
        HttpClient *client;
        Call watches[8] = { 0 }, call = { 0 }, lease = { 0 };

        server_start(&server);
        client = connect_client(&server);
        for (size_t i = 0; i < ELEMENTS(watches); i++)
                start(client, &watches[i], "/never", HTTP_WATCH, "x", 1, 0);
        /* Four streams each; half of the first one's are kept for others: 2 + 4 + 2. */
        TURN_UNTIL(&server, server.n_peers == 3);
        start(client, &call, "/echo", HTTP_NORMAL, "x", 1, 0);
        start(client, &lease, "/echo", HTTP_CRITICAL, "x", 1, 0);
        TURN_UNTIL(&server, call.done && lease.done);
        assert_int_equal(server.n_peers, 4);
        assert_int_equal(http_client_links(client), 4);
        assert_true(server.most_streams <= STREAMS_MAX);
        for (size_t i = 0; i < ELEMENTS(watches); i++)
                http_request_free(watches[i].request);
        TURN_UNTIL(&server, server.n_resets == ELEMENTS(watches));
        buf_deinit(&call.body);
        buf_deinit(&lease.body);
        http_client_free(client);
        server_stop(&server);
}

static void test_cancel_and_reset(void **state)
{
        Server server;
        HttpClient *client;
        Call reset = { 0 }, cancelled = { .cancel_on_head = true }, after = { 0 };

        server_start(&server);
        client = connect_client(&server);
        start(client, &reset, "/reset", HTTP_NORMAL, "x", 1, 0);
        start(client, &cancelled, "/echo", HTTP_NORMAL, "x", 1, 0);
        TURN_UNTIL(&server, reset.done && cancelled.status);
        assert_int_equal(reset.code, -ECONNRESET);
        assert_int_equal(cancelled.done, 0);
        assert_null(cancelled.request);
        start(client, &after, "/echo", HTTP_NORMAL, "x", 1, 0);
        TURN_UNTIL(&server, after.done);
        assert_int_equal(after.code, 0);
        assert_int_equal(server.n_peers, 1);
        buf_deinit(&after.body);
        http_client_free(client);
        server_stop(&server);
}

static void test_timeouts(void **state)
{
        Server server;
        HttpClient *client;
        Call normal = { 0 }, lease = { 0 }, again = { 0 };

        server_start(&server);
        client = connect_client(&server);
        start(client, &normal, "/never", HTTP_NORMAL, "x", 1, 50);
        start(client, &lease, "/never", HTTP_CRITICAL, "x", 1, 50);
        TURN_UNTIL(&server, normal.done && lease.done);
        assert_int_equal(normal.code, -ETIMEDOUT);
        assert_int_equal(lease.code, -ETIMEDOUT);
        TURN_UNTIL(&server, http_client_links(client) == 1);
        start(client, &again, "/echo", HTTP_CRITICAL, "x", 1, 1000);
        TURN_UNTIL(&server, again.done);
        assert_int_equal(again.code, 0);
        assert_int_equal(server.n_peers, 3);
        buf_deinit(&again.body);
        http_client_free(client);
        server_stop(&server);
}

static void test_client_is_freed_in_a_callback(void **state)
{
        Server server;
        HttpClient *client;
        Call call = { .client_to_free = &client }, unreachable = { .client_to_free = &client };

        server_start(&server);
        client = connect_client(&server);
        start(client, &call, "/echo", HTTP_NORMAL, "x", 1, 0);
        TURN_UNTIL(&server, call.done);
        buf_deinit(&call.body);
        unlink(server.path);
        client = connect_client(&server);
        start(client, &unreachable, "/echo", HTTP_NORMAL, "x", 1, 0);
        TURN_UNTIL(&server, unreachable.done);
        assert_int_equal(unreachable.code, -ENOENT);
        server_stop(&server);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_trailers),
                cmocka_unit_test(test_large_bodies),
                cmocka_unit_test(test_watches_open_more_connections),
                cmocka_unit_test(test_cancel_and_reset),
                cmocka_unit_test(test_timeouts),
                cmocka_unit_test(test_client_is_freed_in_a_callback),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
