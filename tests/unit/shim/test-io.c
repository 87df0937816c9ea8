/* SPDX-License-Identifier: Apache-2.0 */

/* What goes in and out of containers of a real shim: commands, terminals, attached clients, logs.
 */

#include "tests/unit/shim/harness.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#include "base/rotated.h"

#define ARGS(...) ((char *const *)(uintptr_t)(const char *const[]){ __VA_ARGS__, NULL })

static int set_up(void **state)
{
        World *w = world_new();
        ShimSandbox sandbox = sandbox_default(w);

        world_sandbox(w, &sandbox);
        *state = w;
        return 0;
}

static int tear_down(void **state)
{
        world_free(*state);
        return 0;
}

static void assert_contains(const char *text, const char *part)
{
        if (!strstr(text, part))
                fail_msg("'%s' is not in '%.2000s'", part, text);
}

static void start_sleeper(World *w, const char *id)
{
        Run run;

        run_init(w, &run, id, ARGS("sleep", "1000"));
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, id, SHIM_CONTAINER_RUNNING));
}

/* The output of a command, both streams. */
static char *exec_output(World *w, ShimExec *exec)
{
        KL_AUTOBUF out = BUF_INIT;
        int fds[2], r;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        exec->stdout_fd = exec->stderr_fd = fds[1];
        w->have_done = false;
        r = shim_client_exec(w->client, exec);
        close(fds[1]);
        assert_true(r > 0);
        WAIT_FOR(w, w->have_done || (w->result_request == (uint32_t)r && w->result.code < 0));
        for (;;) {
                char *to = buf_reserve(&out, 4096);
                struct pollfd poll_fd = { fds[0], POLLIN, 0 };
                ssize_t n = poll(&poll_fd, 1, 0) > 0 ? read(fds[0], to, 4096) : 0;

                if (n <= 0)
                        break;
                buf_commit(&out, (size_t)n);
        }
        close(fds[0]);
        return buf_steal(&out);
}

static ShimExec exec_of(char *const *args)
{
        return (ShimExec){ .container = "c1",
                           .args = args,
                           .cwd = "",
                           .stdin_fd = -1,
                           .stdout_fd = -1,
                           .stderr_fd = -1 };
}

static void test_exec(void **state)
{
        char *const extra[] = { (char *)"EXTRA=1", NULL };
        World *w = *state;
        KL_AUTOFREE char *out = NULL, *gone = NULL;
        ShimExec exec = exec_of(ARGS(
                "sh", "-c",
                "echo in; echo err >&2; hostname; id -u; echo $EXTRA; ps | grep -c 'sleep 1000';"
                "ls /proc/self/fd | tr '\\n' ' '; grep CapBnd /proc/self/status; pwd;"
                "cat /proc/self/cgroup | grep freezer; exit 9"));

        start_sleeper(w, "c1");
        exec.extra_env = extra;
        exec.cwd = "/tmp";
        out = exec_output(w, &exec);
        assert_int_equal(w->done.exit_code, 9);
        assert_int_equal(w->done.start_error, 0);
        assert_contains(out, "in\nerr\npod-host\n0\n1\n");
        assert_contains(out, "0 1 2 3 CapBnd:\t00000000a80425fb\n/tmp\n");
        if (!w->v2)
                assert_contains(out, "/exec-");
        for (size_t i = 0; i < w->n_roots; i++) {
                KL_AUTOFREE char *path = str_format("%s/c1/exec-2", w->roots[i]);

                assert_int_equal(access(path, F_OK), -1);
        }
        exec = exec_of(ARGS("no-such-program"));
        gone = exec_output(w, &exec);
        assert_int_equal(w->done.start_error, 1);
        assert_int_equal(w->done.exit_code, 127);
        assert_contains(w->done.message, "executable file not found in $PATH");
        exec = exec_of(ARGS("true"));
        exec.container = "nobody";
        wait_result(w, shim_client_exec(w->client, &exec), -ENOENT);
}

static void test_exec_timeout(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *out = NULL;
        ShimExec exec = exec_of(ARGS("sh", "-c", "trap '' TERM; setsid sleep 2000 & sleep 2000"));

        start_sleeper(w, "c1");
        exec.timeout_ms = 300;
        out = exec_output(w, &exec);
        assert_int_equal(w->done.timed_out, 1);
        assert_int_equal(w->done.exit_code, 137);
        exec = exec_of(ARGS("sh", "-c", "ps | grep -c '[s]leep 2000'"));
        free(out);
        out = exec_output(w, &exec);
        assert_string_equal(out, "0\n");
        assert_int_equal(container_of_id(w, "c1")->state, SHIM_CONTAINER_RUNNING);
}

static void test_exec_kill(void **state)
{
        World *w = *state;
        ShimExec exec = exec_of(ARGS("sleep", "3000"));
        int r;

        start_sleeper(w, "c1");
        w->have_done = false;
        r = shim_client_exec(w->client, &exec);
        wait_result(w, r, 0);
        wait_result(w, shim_client_exec_kill(w->client, (uint32_t)r), 0);
        WAIT_FOR(w, w->have_done);
        assert_int_equal(w->done.exec, r);
        assert_int_equal(w->done.signal, SIGKILL);
        /* The container ending ends its commands. */
        w->have_done = false;
        wait_result(w, shim_client_exec(w->client, &exec), 0);
        wait_result(w, shim_client_stop(w->client, "c1", 0), 0);
        wait_exit(w, "c1");
        WAIT_FOR(w, w->have_done);
        /* It may have been too early for the program to run. */
        assert_true(w->done.signal == SIGKILL || w->done.start_error);
}

/* The container's files are its own: what it makes of them must not hurt who comes in. */
static void test_exec_hostile(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *out = NULL;
        ShimExec exec = exec_of(ARGS("true"));
        Run run;

        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "rm /etc/passwd; ln -s /dev/zero /etc/passwd; rm /dev/ptmx; echo done; sleep "
                      "1000"));
        run.start.cap_bounding = run.start.cap_effective = ALL_CAPS;
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
        for (int i = 0; i < 300; i++) {
                KL_AUTOFREE char *text = read_text(run.log);

                if (strstr(text, "done"))
                        break;
                usleep(10000);
        }
        out = exec_output(w, &exec);
        assert_int_equal(w->done.start_error, 1);
        exec.cwd = "/proc/self/fd/3";
        free(out);
        out = exec_output(w, &exec);
        assert_int_equal(w->done.start_error, 1);
}

static void read_until(int fd, Buf *buf, const char *text)
{
        int idle = 0;

        while (idle < 500 &&
               !strstr(buf->len > 8192 ? buf_str(buf) + buf->len - 8192 : buf_str(buf), text)) {
                struct pollfd poll_fd = { fd, POLLIN, 0 };
                char *to = buf_reserve(buf, 4096);
                ssize_t n;

                if (poll(&poll_fd, 1, 20) <= 0) {
                        idle++;
                        continue;
                }
                n = read(fd, to, 4096);
                if (n <= 0)
                        break;
                buf_commit(buf, (size_t)n);
        }
        assert_contains(buf_str(buf), text);
}

static void test_exec_tty(void **state)
{
        World *w = *state;
        ShimExec exec =
                exec_of(ARGS("sh", "-c", "tty; echo ready; read x; echo got $x; stty size"));
        KL_AUTOBUF out = BUF_INIT;
        int in[2], from[2], r;

        start_sleeper(w, "c1");
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, from), 0);
        exec.tty = true;
        exec.stdin_fd = in[1];
        exec.stdout_fd = from[1];
        w->have_done = false;
        r = shim_client_exec(w->client, &exec);
        close(in[1]);
        close(from[1]);
        wait_result(w, r, 0);
        read_until(from[0], &out, "ready");
        assert_contains(buf_str(&out), "/dev/pts/");
        wait_result(w, shim_client_resize(w->client, NULL, (uint32_t)r, 33, 111), 0);
        assert_int_equal(write(in[0], "word\n", 5), 5);
        WAIT_FOR(w, w->have_done);
        read_until(from[0], &out, "got word");
        read_until(from[0], &out, "33 111");
        assert_int_equal(w->done.exit_code, 0);
        close(in[0]);
        close(from[0]);
}

static void test_container_tty(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *log = NULL;
        KL_AUTOBUF out = BUF_INIT;
        int pair[2], copy;
        Run run;

        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "tty; test -c /dev/console && echo console; read x; echo got $x; stty size; "
                      "exit 2"));
        run.start.tty = run.start.stdin_open = true;
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        copy = dup(pair[1]);
        wait_result(w, shim_client_attach(w->client, "c1", pair[1], copy, -1), 0);
        close(pair[1]);
        close(copy);
        wait_result(w, shim_client_resize(w->client, "c1", 0, 44, 99), 0);
        assert_int_equal(write(pair[0], "me\n", 3), 3);
        wait_exit(w, "c1");
        read_until(pair[0], &out, "got me");
        close(pair[0]);
        assert_int_equal(container_of_id(w, "c1")->exit_code, 2);
        log = log_text(run.log);
        assert_contains(log, "/dev/pts/0");
        assert_contains(log, "console");
        assert_contains(log, "44 99");
}

static void test_attach(void **state)
{
        World *w = *state;
        KL_AUTOBUF one = BUF_INIT, two = BUF_INIT;
        int a[2], b[2], in[2];
        Run run;

        run_init(w, &run, "c1",
                 ARGS("sh", "-c", "while read x; do echo out $x; echo err $x >&2; done; echo end"));
        run.start.stdin_open = run.start.stdin_once = true;
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
        assert_int_equal(pipe2(b, O_CLOEXEC), 0);
        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        wait_result(w, shim_client_attach(w->client, "c1", in[0], a[1], -1), 0);
        wait_result(w, shim_client_attach(w->client, "c1", -1, -1, b[1]), 0);
        close(in[0]);
        close(a[1]);
        close(b[1]);
        assert_int_equal(write(in[1], "x\ny\n", 4), 4);
        read_until(a[0], &one, "out y");
        read_until(b[0], &two, "err y");
        assert_null(strstr(buf_str(&one), "err"));
        /* The first client's end is the end of the input. */
        close(in[1]);
        wait_exit(w, "c1");
        read_until(a[0], &one, "end");
        close(a[0]);
        close(b[0]);
}

/* An attached client that reads nothing makes the container wait, and leaving lets it go on. */
static void test_slow_client(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *log = NULL;
        int pair[2];
        Run run;

        run_init(w, &run, "c1",
                 ARGS("sh", "-c", "sleep 0.3; yes 0123456789 | head -c 3000000; echo end"));
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        wait_result(w, shim_client_attach(w->client, "c1", -1, pair[1], -1), 0);
        close(pair[1]);
        for (int i = 0; i < 60; i++) {
                loop_turn(w->loop, false);
                usleep(10000);
        }
        assert_int_equal(container_of_id(w, "c1")->state, SHIM_CONTAINER_RUNNING);
        close(pair[0]);
        wait_exit(w, "c1");
        log = log_text(run.log);
        assert_contains(log + strlen(log) - 20, "end\n");
}

static void test_long_line(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *text = run_shell(
                w, "c1", "head -c 1048576 /dev/zero | tr '\\0' x; echo; echo short; echo -n tail");
        KL_AUTOFREE char *path = str_format("%s/c1.log", w->dir), *raw = read_text(path);
        size_t partial = 0, full = 0;

        assert_int_equal(strlen(text), 1048576 + 1 + 6 + 4);
        assert_string_equal(text + 1048576, "\nshort\ntail");
        for (char *p = raw; *p;) {
                char *end = strchr(p, '\n');

                assert_non_null(end);
                assert_true(end - p <= 16384 + 64);
                assert_memory_equal(p + 10, "T", 1);
                assert_memory_equal(p + 30, " stdout ", 8);
                partial += p[38] == 'P';
                full += p[38] == 'F';
                p = end + 1;
        }
        assert_int_equal(full, 2);
        assert_int_equal(partial, 64);
}

static void test_rotation(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *second = str_format("%s/second.log", w->dir), *first = NULL, *rest = NULL;
        size_t lines = 0;
        Run run;
        int fd;

        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "for i in $(seq 1 2000); do echo line $i; done; sleep 0.3;"
                      "for i in $(seq 2001 4000); do echo line $i; done"));
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
        fd = open(second, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        usleep(50000);
        wait_result(w, shim_client_reopen_log(w->client, "c1", fd), 0);
        close(fd);
        wait_exit(w, "c1");
        first = log_text(run.log);
        rest = log_text(second);
        for (char *p = first; *p; p++)
                lines += *p == '\n';
        for (char *p = rest; *p; p++)
                lines += *p == '\n';
        assert_int_equal(lines, 4000);
        assert_contains(rest, "line 4000\n");
        assert_true(*first && first[strlen(first) - 1] == '\n');
}

static void add_file(const World *w, const char *name, Buf *to)
{
        KL_AUTOFREE char *path = str_format("%s/%s", w->dir, name);
        KL_AUTOFREE char *raw = read_text(path);
        KL_AUTOFREE char *text = log_text(path);

        assert_true(!*raw || raw[strlen(raw) - 1] == '\n');
        buf_add_str(to, text);
}

/* To the standard input of container c1, by an attachment of its own. */
static void say(World *w, const char *text)
{
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        wait_result(w, shim_client_attach(w->client, "c1", pair[1], -1, -1), 0);
        close(pair[1]);
        assert_int_equal(write(pair[0], text, strlen(text)), (ssize_t)strlen(text));
        close(pair[0]);
}

static void wait_line(const char *path, int number)
{
        KL_AUTOFREE char *line = str_format(" line %d\n", number);

        for (int i = 0; i < WAIT_MS / 20; i++) {
                KL_AUTOFREE char *text = read_text(path);

                if (strstr(text, line))
                        return;
                usleep(20000);
        }
        fail_msg("no line %d in '%s'", number, path);
}

/* Each file is whole records, none is above the limit, and together they are all that was written;
 * also when the log writer dies between two rotations. */
static void test_rotation_by_size(void **state)
{
        World *w = *state;
        KL_AUTOSTRV rotated = NULL;
        KL_AUTOBUF all = BUF_INIT;
        const uint64_t limit = 200000;
        struct stat st;
        char line[64];
        const char *at;
        Run run;
        int dir;

        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "i=0; while read x; do for k in $(seq 1 2000); do i=$((i+1)); echo line $i; "
                      "done; done"));
        run.start.stdin_open = true;
        dir = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        run.start.log_dir_fd = fcntl(dir, F_DUPFD_CLOEXEC, 3);
        run.start.log_name = "c1.log";
        run.start.log_max_bytes = 60000;
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
        for (int round = 1; round <= 3; round++) {
                say(w, "go\n");
                wait_line(run.log, round * 2000);
                if (round == 1)
                        assert_int_equal(kill(log_writer_pid(w), SIGKILL), 0);
                if (round < 3)
                        usleep(1100000); /* names differ by the second */
        }
        assert_true(w->n_rotated > 0);
        assert_string_equal(w->rotated, "c1");
        wait_result(w, shim_client_stop(w->client, "c1", 0), 0);
        wait_exit(w, "c1");
        assert_int_equal(rotated_list(dir, "c1.log", &rotated), 0);
        assert_in_range(strv_len(rotated), 2, 5);
        for (size_t i = 0; rotated[i]; i++) {
                assert_int_equal(fstatat(dir, rotated[i], &st, 0), 0);
                assert_in_range(st.st_size, 1, limit);
                assert_int_equal(st.st_mode & 0777, 0640);
                add_file(w, rotated[i], &all);
        }
        add_file(w, "c1.log", &all);
        at = buf_str(&all);
        for (int i = 1; i <= 6000; i++) {
                int n = snprintf(line, sizeof(line), "line %d\n", i);

                assert_memory_equal(at, line, (size_t)n);
                at += n;
        }
        assert_string_equal(at, "");
        close(dir);
}

/* A full disk must not stop a container; what was lost is told when there is space again. */
static void test_full_disk(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *disk = str_format("%s/disk", w->dir), *path = str_format("%s/log", disk);
        KL_AUTOFREE char *filler = str_format("%s/filler", disk), *raw = NULL;
        Run run;

        mkdir(disk, 0755);
        assert_int_equal(mount("none", disk, "tmpfs", 0, "size=1m"), 0);
        put_file(disk, "filler", "x", 0644);
        assert_int_equal(truncate(filler, 0), 0);
        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "read x; for i in $(seq 1 30000); do echo filling up the disk with line $i; "
                      "done; "
                      "echo full;"
                      "read x; echo after; exit 0"));
        close(run.start.log_fd);
        run.start.log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        run.start.stdin_open = true;
        wait_result(w, run_start(w, &run), 0);
        {
                int pair[2], copy;
                KL_AUTOBUF out = BUF_INIT;

                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
                copy = dup(pair[1]);
                WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
                wait_result(w, shim_client_attach(w->client, "c1", pair[1], copy, -1), 0);
                close(pair[1]);
                close(copy);
                assert_int_equal(write(pair[0], "go\n", 3), 3);
                read_until(pair[0], &out, "full\n");
                raw = read_text(path);
                assert_true(*raw && raw[strlen(raw) - 1] == '\n');
                /* Space again. */
                assert_int_equal(truncate(path, 0), 0);
                assert_int_equal(write(pair[0], "go\n", 3), 3);
                wait_exit(w, "c1");
                close(pair[0]);
        }
        assert_int_equal(container_of_id(w, "c1")->exit_code, 0);
        free(raw);
        raw = read_text(path);
        assert_contains(raw, "log records (");
        assert_contains(raw, "lost: No space left on device");
        assert_contains(raw, " stdout F after\n");
        umount2(disk, MNT_DETACH);
}

/* A new log writer takes over; the container notices nothing. */
static void test_log_writer_killed(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *log = NULL;
        pid_t writer = log_writer_pid(w);
        Run run;

        assert_true(writer > 0);
        run_init(w, &run, "c1", ARGS("sh", "-c", "echo one; sleep 0.5; echo two; exit 6"));
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
        usleep(100000);
        kill(writer, SIGKILL);
        wait_exit(w, "c1");
        assert_int_equal(container_of_id(w, "c1")->exit_code, 6);
        log = log_text(run.log);
        assert_string_equal(log, "one\ntwo\n");
        assert_true(log_writer_pid(w) > 0 && log_writer_pid(w) != writer);
}

/* Neither the shim nor its log writer keep anything of what is over. */
static void test_no_leak(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *fds = str_format("/proc/%d/fd", shim_client_pid(w->client));
        size_t before = 0;

        start_sleeper(w, "c1");
        for (int round = 0; round < 40; round++) {
                ShimExec exec = exec_of(ARGS("true"));
                struct dirent *entry;
                size_t n = 0;
                KL_AUTODIR DIR *dir = NULL;

                free(exec_output(w, &exec));
                w->n_containers = 0;
                free(run_shell(w, "c2", "true"));
                wait_result(w, shim_client_forget(w->client, "c2"), 0);
                dir = opendir(fds);
                while ((entry = readdir(dir)))
                        n++;
                if (round == 2)
                        before = n;
                if (round > 2)
                        assert_int_equal(n, before);
        }
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                T(test_exec),         T(test_exec_timeout),     T(test_exec_kill),
                T(test_exec_hostile), T(test_exec_tty),         T(test_container_tty),
                T(test_attach),       T(test_slow_client),      T(test_long_line),
                T(test_rotation),     T(test_full_disk),        T(test_log_writer_killed),
                T(test_no_leak),      T(test_rotation_by_size),
        };
        int failed;

        if (geteuid() != 0)
                return SKIPPED;
        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        /* A machine of v1 shows both. */
        if (access("/sys/fs/cgroup/unified/cgroup.controllers", F_OK) == 0 &&
            access("/sys/fs/cgroup/cgroup.controllers", F_OK) < 0) {
                setenv("KUBELITE_TEST_UNIFIED", "1", 1);
                failed += cmocka_run_group_tests_name("unified", tests, NULL, NULL);
        }
        return failed;
}
