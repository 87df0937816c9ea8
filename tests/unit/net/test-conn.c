/* SPDX-License-Identifier: Apache-2.0 */

/* Plain connections to sockets of the test's own; TLS is tested against other people's. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "net/conn-internal.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>

#define WAIT_MS 5000

typedef struct Seen {
        Loop *loop;
        Conn *conn;
        int opened, closed, writable, code;
        bool free_on_input;
        Buf input;
        char *message;
} Seen;

static void on_opened(Conn *conn, void *data)
{
        ((Seen *)data)->opened++;
}

static void on_input(Conn *conn, const char *bytes, size_t len, void *data)
{
        Seen *seen = data;

        buf_add(&seen->input, bytes, len);
        if (seen->free_on_input)
                seen->conn = conn_free(seen->conn);
}

static void on_writable(Conn *conn, void *data)
{
        ((Seen *)data)->writable++;
}

static void on_closed(Conn *conn, const KlError *err, void *data)
{
        Seen *seen = data;

        seen->closed++;
        seen->code = err ? err->code : 0;
        seen->message = err ? strdup(err->msg) : NULL;
        seen->conn = conn_free(conn);
}

static const ConnFuncs funcs = { on_opened, on_input, on_writable, on_closed };

#define TURN_UNTIL(seen, condition)                                                                \
        do {                                                                                       \
                uint64_t end_ = time_monotonic_ms() + WAIT_MS;                                     \
                while (!(condition) && time_monotonic_ms() < end_)                                 \
                        loop_turn((seen)->loop, false);                                            \
                assert_true(condition);                                                            \
        } while (0)

static void start(Seen *seen, ConnSpec spec)
{
        spec.funcs = &funcs;
        spec.data = seen;
        if (!seen->loop)
                assert_int_equal(loop_new(&seen->loop, NULL), 0);
        assert_int_equal(conn_new(seen->loop, &spec, &seen->conn, NULL), 0);
        assert_int_equal(seen->opened + seen->closed, 0);
}

static void finish(Seen *seen)
{
        conn_free(seen->conn);
        buf_deinit(&seen->input);
        free(seen->message);
        loop_free(seen->loop);
}

static int listen_tcp(const char *address, uint16_t *ret_port)
{
        Address a;
        struct sockaddr_storage bound;
        socklen_t len = sizeof(bound);
        int fd;

        assert_int_equal(address_parse(address, 0, &a), 0);
        fd = socket(a.to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&a.to, a.len), 0);
        assert_int_equal(listen(fd, 5), 0);
        getsockname(fd, (struct sockaddr *)&bound, &len);
        *ret_port = ntohs(((struct sockaddr_in *)&bound)->sin_port);
        return fd;
}

static void test_round_trip(void **state)
{
        Seen seen = { 0 };
        uint16_t port;
        KL_AUTOFD int listener = listen_tcp("127.0.0.1", &port);
        KL_AUTOFD int peer = -1;
        char got[16] = "";

        start(&seen, (ConnSpec){ .host = "127.0.0.1", .port = port });
        /* What is written before it is open goes out then. */
        assert_int_equal(conn_write(seen.conn, "hello ", 6), 0);
        TURN_UNTIL(&seen, seen.opened);
        assert_int_equal(conn_write(seen.conn, "world", 5), 0);
        peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        TURN_UNTIL(&seen, conn_queued(seen.conn) == 0);
        assert_int_equal(fd_read_all(peer, got, 11), 11);
        assert_string_equal(got, "hello world");
        fd_write_all(peer, "back", 4);
        TURN_UNTIL(&seen, seen.input.len == 4);
        peer = kl_close(peer);
        TURN_UNTIL(&seen, seen.closed);
        assert_int_equal(seen.code, 0);
        finish(&seen);
}

static void test_write_queue_is_bounded(void **state)
{
        static char chunk[64 << 10];
        Seen seen = { 0 };
        uint16_t port;
        KL_AUTOFD int listener = listen_tcp("127.0.0.1", &port);
        KL_AUTOFD int peer = -1;
        KL_AUTOFREE char *sink = malloc(1 << 20);
        size_t sent = 0, got = 0;
        int r = 0;

        start(&seen, (ConnSpec){ .host = "127.0.0.1", .port = port });
        TURN_UNTIL(&seen, seen.opened);
        peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        while (r == 0 && sent < 256U << 20) {
                r = conn_write(seen.conn, chunk, sizeof(chunk));
                sent += r == 0 ? sizeof(chunk) : 0;
                loop_turn(seen.loop, false);
        }
        assert_int_equal(r, -ENOBUFS);
        assert_true(conn_queued(seen.conn) <= CONN_QUEUE_MAX);
        assert_int_equal(seen.writable, 0);
        for (int i = 0; got < sent && i < 1000000; i++) {
                ssize_t n = read(peer, sink, 1 << 20);

                got += n > 0 ? (size_t)n : 0;
                loop_turn(seen.loop, false);
        }
        assert_int_equal(got, sent);
        assert_true(seen.writable > 0);
        finish(&seen);
}

static void test_pause(void **state)
{
        Seen seen = { 0 };
        uint16_t port;
        KL_AUTOFD int listener = listen_tcp("127.0.0.1", &port);
        KL_AUTOFD int peer = -1;

        start(&seen, (ConnSpec){ .host = "127.0.0.1", .port = port });
        TURN_UNTIL(&seen, seen.opened);
        peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        conn_pause(seen.conn, true);
        fd_write_all(peer, "x", 1);
        for (int i = 0; i < 20; i++)
                loop_turn(seen.loop, false);
        assert_int_equal(seen.input.len, 0);
        conn_pause(seen.conn, false);
        TURN_UNTIL(&seen, seen.input.len == 1);
        finish(&seen);
}

static void test_free_in_callback(void **state)
{
        Seen seen = { .free_on_input = true };
        uint16_t port;
        KL_AUTOFD int listener = listen_tcp("127.0.0.1", &port);
        KL_AUTOFD int peer = -1;

        start(&seen, (ConnSpec){ .host = "127.0.0.1", .port = port });
        TURN_UNTIL(&seen, seen.opened);
        peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        fd_write_all(peer, "x", 1);
        TURN_UNTIL(&seen, !seen.conn);
        assert_int_equal(seen.closed, 0);
        finish(&seen);
}

static void test_names_try_all_addresses(void **state)
{
        Seen seen = { 0 };
        uint16_t port;
        /* localhost is ::1 first on most machines, where nobody listens. */
        KL_AUTOFD int listener = listen_tcp("127.0.0.1", &port);

        start(&seen, (ConnSpec){ .host = "localhost", .port = port });
        TURN_UNTIL(&seen, seen.opened || seen.closed);
        assert_int_equal(seen.opened, 1);
        finish(&seen);
}

static void test_refused(void **state)
{
        Seen seen = { 0 };
        uint16_t port;

        kl_close(listen_tcp("127.0.0.1", &port));
        start(&seen, (ConnSpec){ .host = "127.0.0.1", .port = port });
        assert_int_equal(conn_write(seen.conn, "x", 1), 0);
        TURN_UNTIL(&seen, seen.closed);
        assert_int_equal(seen.code, -ECONNREFUSED);
        assert_non_null(strstr(seen.message, "Connection refused"));
        finish(&seen);
}

static void test_no_such_name(void **state)
{
        Seen seen = { 0 };

        start(&seen, (ConnSpec){ .host = "nowhere.invalid", .port = 1 });
        TURN_UNTIL(&seen, seen.closed);
        assert_int_equal(seen.code, -EHOSTUNREACH);
        assert_non_null(strstr(seen.message, "look up 'nowhere.invalid'"));
        finish(&seen);
}

/* Longer than sun_path: named through its directory. */
static void test_unix_socket_with_a_long_path(void **state)
{
        char dir[] = "/tmp/klt-conn-XXXXXX";
        KL_AUTOFREE char *deep = NULL;
        KL_AUTOFREE char *path = NULL;
        struct sockaddr_un un = { .sun_family = AF_UNIX };
        KL_AUTOFD int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        KL_AUTOFD int dir_fd = -1;
        Seen seen = { 0 };

        assert_non_null(mkdtemp(dir));
        deep = str_format("%s/%0150d", dir, 0);
        path = str_format("%s/socket", deep);
        assert_int_equal(mkdir(deep, 0700), 0);
        dir_fd = open(deep, O_PATH | O_DIRECTORY | O_CLOEXEC);
        snprintf(un.sun_path, sizeof(un.sun_path), "/proc/self/fd/%d/socket", dir_fd);
        assert_int_equal(bind(listener, (struct sockaddr *)&un, sizeof(un)), 0);
        assert_int_equal(listen(listener, 1), 0);
        start(&seen, (ConnSpec){ .unix_path = path });
        TURN_UNTIL(&seen, seen.opened);
        finish(&seen);
        assert_int_equal(tree_remove(dir), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_write_queue_is_bounded),
                cmocka_unit_test(test_pause),
                cmocka_unit_test(test_free_in_callback),
                cmocka_unit_test(test_names_try_all_addresses),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_no_such_name),
                cmocka_unit_test(test_unix_socket_with_a_long_path),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
