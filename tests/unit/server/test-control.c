/* SPDX-License-Identifier: Apache-2.0 */

/* The control server in a child process, blocking clients in the test. */

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"
#include "server/control.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

typedef struct Server {
        char dir[256];
        char *path;
        pid_t pid;
        int told; /* what the server's handlers say */
} Server;

/* --- in the server --- */

typedef struct Side {
        Loop *loop;
        int tell;
} Side;

static void tell(Side *side, char c)
{
        if (write(side->tell, &c, 1) != 1)
                _exit(1);
}

static void on_echo(ControlReply *reply, const Value *request, int fd, void *data)
{
        KL_AUTOBUF buf = BUF_INIT;

        json_print(request, &buf);
        control_reply_result(reply, buf_str(&buf), buf.len);
}

static void on_gone(ControlReply *reply, void *data)
{
        tell(data, 'C');
}

static void on_wait(ControlReply *reply, const Value *request, int fd, void *data)
{
        control_reply_on_cancel(reply, on_gone, data);
        control_reply_progress(reply, "{\"n\":1}", 7);
        tell(data, 'W');
}

static void on_fail(ControlReply *reply, const Value *request, int fd, void *data)
{
        KL_AUTOERR err = NULL;

        kl_error(&err, -ENOENT, "NotFound", "no \"pod\"");
        control_reply_error(reply, err);
}

static void on_fd(ControlReply *reply, const Value *request, int fd, void *data)
{
        char text[64] = "\"";
        ssize_t n = fd >= 0 ? pread(fd, text + 1, 32, 0) : 0;

        text[n + 1] = '"';
        control_reply_result(reply, text, (size_t)n + 2);
}

/* Much progress for a client that does not read, then a result. */
static void on_flood(ControlReply *reply, const Value *request, int fd, void *data)
{
        char line[1024];
        int dropped = 0;

        memset(line, ' ', sizeof(line));
        line[0] = '1';
        for (int i = 0; i < 10000; i++)
                dropped += !control_reply_progress(reply, line, sizeof(line));
        control_reply_result(reply, dropped > 9000 ? "true" : "false", dropped > 9000 ? 4 : 5);
}

static void on_big(ControlReply *reply, const Value *request, int fd, void *data)
{
        size_t size = (size_t)value_int(value_get(request, "size"), 0);
        KL_AUTOFREE char *text = malloc(size);

        memset(text, 'x', size);
        text[0] = text[size - 1] = '"';
        control_reply_result(reply, text, size);
}

static void on_stop(ControlReply *reply, const Value *request, int fd, void *data)
{
        control_reply_result(reply, "null", 4);
        loop_stop(((Side *)data)->loop);
}

static void serve(const char *path, int tell_fd)
{
        static const ControlHandler handlers[] = {
                { "echo", on_echo },   { "wait", on_wait }, { "fail", on_fail }, { "fd", on_fd },
                { "flood", on_flood }, { "big", on_big },   { "stop", on_stop }, { NULL, NULL },
        };
        Side side = { .tell = tell_fd };
        Control *control = NULL;
        KL_AUTOERR err = NULL;

        if (loop_new(&side.loop, &err) < 0 ||
            control_new(side.loop, path, handlers, &side, &control, &err) < 0) {
                fprintf(stderr, "%s\n", kl_error_msg(err));
                exit(1);
        }
        tell(&side, 'R');
        loop_run(side.loop);
        control_free(control);
        loop_free(side.loop);
}

/* --- the client --- */

static char heard(Server *s)
{
        struct pollfd p = { .fd = s->told, .events = POLLIN };
        char c = 0;

        if (poll(&p, 1, 10000) == 1 && read(s->told, &c, 1) == 1)
                return c;
        return 0;
}

static int setup(void **state)
{
        Server *s = calloc(1, sizeof(*s));
        KL_AUTOFREE char *deep = NULL;
        int fds[2];

        /* Longer than sun_path takes. */
        snprintf(s->dir, sizeof(s->dir), "/tmp/kubelite-control-XXXXXX");
        assert_non_null(mkdtemp(s->dir));
        deep = str_format("%s/%0120d", s->dir, 0);
        assert_int_equal(mkdir(deep, 0700), 0);
        s->path = str_format("%s/kubelite.sock", deep);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        s->pid = fork();
        if (s->pid == 0) {
                serve(s->path, fds[1]);
                free(s->path);
                free(s);
                exit(0);
        }
        close(fds[1]);
        s->told = fds[0];
        assert_int_equal(heard(s), 'R');
        *state = s;
        return 0;
}

static int dial(Server *s)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        KL_AUTOFREE char *dir = strndup(s->path, (size_t)(strrchr(s->path, '/') - s->path));
        KL_AUTOFD int dir_fd = open(dir, O_PATH | O_CLOEXEC);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/kubelite.sock", dir_fd);
        assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
        return fd;
}

static char *read_all(int fd)
{
        KL_AUTOBUF buf = BUF_INIT;
        ssize_t n;

        do {
                char *at = buf_reserve(&buf, 65536);

                n = read(fd, at, 65536);
                if (n > 0)
                        buf_commit(&buf, (size_t)n);
        } while (n > 0);
        return strdup(buf_str(&buf));
}

static void assert_answer(Server *s, const char *request, const char *answer)
{
        KL_AUTOFD int fd = dial(s);
        KL_AUTOFREE char *text = NULL;

        assert_int_equal(fd_write_all(fd, request, strlen(request)), 0);
        text = read_all(fd);
        assert_string_equal(text, answer);
}

static int teardown(void **state)
{
        Server *s = *state;
        int status;

        assert_answer(s, "{\"command\":\"stop\"}\n", "");
        assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
        assert_int_equal(status, 0);
        assert_int_equal(access(s->path, F_OK), -1);
        close(s->told);
        assert_int_equal(tree_remove(s->dir), 0);
        free(s->path);
        free(s);
        return 0;
}

static void test_answers(void **state)
{
        Server *s = *state;
        struct stat st;

        assert_int_equal(stat(s->path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_answer(s, "{\"command\":\"echo\",\"a\":[1]}\n",
                      "{\"result\":{\"command\":\"echo\",\"a\":[1]}}\n");
        assert_answer(s, "{\"command\":\"fail\"}\n",
                      "{\"error\":{\"reason\":\"NotFound\",\"message\":\"no \\\"pod\\\"\"}}\n");
        assert_answer(s, "{\"command\":\"nonsense\"}\n",
                      "{\"error\":{\"reason\":\"InvalidRequest\",\"message\":\"the request names "
                      "no known command\"}}\n");
        assert_answer(s, "[]\n",
                      "{\"error\":{\"reason\":\"InvalidRequest\",\"message\":\"the "
                      "request names no known command\"}}\n");
}

static void test_garbage(void **state)
{
        Server *s = *state;
        KL_AUTOFD int fd = dial(s);
        KL_AUTOFREE char *text = NULL;

        assert_int_equal(fd_write_all(fd, "{\"command\":\n", 12), 0);
        text = read_all(fd);
        assert_true(str_starts(text, "{\"error\":{\"reason\":\"InvalidRequest\""));
}

static void test_pieces(void **state)
{
        Server *s = *state;
        KL_AUTOFD int fd = dial(s);
        const char *request = "{\"command\":\"echo\"}\n";
        KL_AUTOFREE char *text = NULL;

        for (size_t i = 0; request[i]; i++) {
                assert_int_equal(fd_write_all(fd, request + i, 1), 0);
                poll(NULL, 0, 1);
        }
        text = read_all(fd);
        assert_string_equal(text, "{\"result\":{\"command\":\"echo\"}}\n");
}

static void test_oversize(void **state)
{
        Server *s = *state;
        KL_AUTOFD int fd = dial(s);
        KL_AUTOFREE char *big = malloc(CONTROL_REQUEST_MAX + 1), *text = NULL;

        memset(big, 'x', CONTROL_REQUEST_MAX + 1);
        fd_write_all(fd, big, CONTROL_REQUEST_MAX + 1);
        text = read_all(fd);
        assert_string_equal(text, "{\"error\":{\"reason\":\"InvalidRequest\",\"message\":\"the "
                                  "request is too long\"}}\n");
}

static void test_disconnect(void **state)
{
        Server *s = *state;
        int fd = dial(s);

        assert_int_equal(fd_write_all(fd, "{\"command\":\"wait\"}\n", 19), 0);
        assert_int_equal(heard(s), 'W');
        close(fd);
        assert_int_equal(heard(s), 'C');
}

static void test_too_many(void **state)
{
        Server *s = *state;
        int fds[CONTROL_CONNECTIONS_MAX];

        for (size_t i = 0; i < ELEMENTS(fds); i++) {
                fds[i] = dial(s);
                assert_int_equal(fd_write_all(fds[i], "{\"command\":\"wait\"}\n", 19), 0);
                assert_int_equal(heard(s), 'W');
        }
        assert_answer(s, "",
                      "{\"error\":{\"reason\":\"Unavailable\",\"message\":\"too many "
                      "commands at once\"}}\n");
        for (size_t i = 0; i < ELEMENTS(fds); i++) {
                close(fds[i]);
                assert_int_equal(heard(s), 'C');
        }
        assert_answer(s, "{\"command\":\"echo\"}\n", "{\"result\":{\"command\":\"echo\"}}\n");
}

static void test_slow_reader(void **state)
{
        Server *s = *state;
        KL_AUTOFD int fd = dial(s);
        KL_AUTOFREE char *text = NULL;

        assert_int_equal(fd_write_all(fd, "{\"command\":\"flood\"}\n", 20), 0);
        text = read_all(fd);
        assert_true(str_ends(text, "{\"result\":true}\n"));
}

static void test_result_size(void **state)
{
        Server *s = *state;
        KL_AUTOFD int fd = dial(s);
        KL_AUTOFREE char *request =
                str_format("{\"command\":\"big\",\"size\":%d}\n", CONTROL_RESULT_MAX);
        KL_AUTOFREE char *over =
                str_format("{\"command\":\"big\",\"size\":%d}\n", CONTROL_RESULT_MAX + 1);
        KL_AUTOFREE char *text = NULL;

        assert_int_equal(fd_write_all(fd, request, strlen(request)), 0);
        text = read_all(fd);
        assert_int_equal(strlen(text), CONTROL_RESULT_MAX + strlen("{\"result\":}\n"));
        assert_answer(s, over,
                      "{\"error\":{\"reason\":\"TooLarge\",\"message\":\"the answer is "
                      "too long\"}}\n");
}

static void test_descriptor(void **state)
{
        Server *s = *state;
        KL_AUTOFD int fd = dial(s);
        KL_AUTOFREE char *name = str_format("%s/file", s->dir), *text = NULL;
        KL_AUTOFD int file = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        union {
                char bytes[CMSG_SPACE(2 * sizeof(int))];
                struct cmsghdr align;
        } control = { { 0 } };
        char request[] = "{\"command\":\"fd\"}\n";
        struct iovec iov = { request, sizeof(request) - 1 };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof(control.bytes) };
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

        assert_int_equal(fd_write_all(file, "hello", 5), 0);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(2 * sizeof(int));
        memcpy(CMSG_DATA(c), (int[]){ file, fd }, 2 * sizeof(int));
        assert_int_equal(sendmsg(fd, &msg, 0), sizeof(request) - 1);
        text = read_all(fd);
        assert_string_equal(text, "{\"result\":\"hello\"}\n");
}

/* Stopping cancels what is under way. */
static void test_stop_with_commands(void **state)
{
        Server *s = *state;
        int fd = dial(s);

        assert_int_equal(fd_write_all(fd, "{\"command\":\"wait\"}\n", 19), 0);
        assert_int_equal(heard(s), 'W');
        assert_answer(s, "{\"command\":\"stop\"}\n", "");
        assert_int_equal(heard(s), 'C');
        close(fd);
        waitpid(s->pid, NULL, 0);
        /* For the teardown. */
        s->pid = fork();
        if (s->pid == 0) {
                int devnull = open("/dev/null", O_WRONLY | O_CLOEXEC);

                serve(s->path, devnull);
                free(s->path);
                free(s);
                exit(0);
        }
        while (access(s->path, F_OK) < 0)
                poll(NULL, 0, 5);
        poll(NULL, 0, 50);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_answers),     TEST(test_garbage),
                TEST(test_pieces),      TEST(test_oversize),
                TEST(test_disconnect),  TEST(test_too_many),
                TEST(test_slow_reader), TEST(test_result_size),
                TEST(test_descriptor),  TEST(test_stop_with_commands),
        };

        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
