/* SPDX-License-Identifier: Apache-2.0 */

/* Workers against real processes: output, limits, deadlines, descriptors, the queue. */

#include "../unit.h"
#include "base/file.h"
#include "base/str.h"
#include "loop/worker.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>

typedef struct Run {
        Loop *loop;
        Worker *worker;
        int status, n_done, passed;
        bool timed_out, truncated;
        char out[256], errors[256];
        size_t out_len, n_passed;
} Run;

static void on_done(Worker *worker, WorkerResult *result, void *data)
{
        Run *run = data;

        run->status = result->status;
        run->timed_out = result->timed_out;
        run->truncated = result->truncated;
        run->out_len = result->out_len;
        snprintf(run->out, sizeof(run->out), "%s", result->out);
        /* What was collected stays readable after the worker is freed. */
        run->worker = worker_free(run->worker);
        snprintf(run->errors, sizeof(run->errors), "%s", result->errors);
        run->n_passed = result->n_passed_fds;
        run->passed = run->n_passed ? KL_STEAL_FD(result->passed_fds[run->n_passed - 1]) : -1;
        run->n_done++;
        loop_stop(run->loop);
}

static void shell(Run *run, const char *script, WorkerSpec spec)
{
        char *argv[] = { (char *)"sh", (char *)"-c", (char *)(uintptr_t)script, NULL };
        KL_AUTOERR err = NULL;

        assert_int_equal(loop_new(&run->loop, NULL), 0);
        spec.name = "test";
        if (!spec.body)
                spec.path = "/bin/sh";
        spec.argv = argv;
        if (!spec.deadline_ms)
                spec.deadline_ms = 10000;
        if (!spec.out_max)
                spec.out_max = 100;
        spec.done = on_done;
        spec.data = run;
        assert_int_equal(worker_start(run->loop, &spec, &run->worker, &err), 0);
        loop_run(run->loop);
        run->loop = loop_free(run->loop);
}

static void test_output_and_status(void **state)
{
        Run run = { 0 };

        shell(&run, "cat; echo oops >&2; exit 3", (WorkerSpec){ .input = "hi", .input_len = 2 });
        assert_string_equal(run.out, "hi");
        assert_string_equal(run.errors, "oops\n");
        assert_int_equal(WEXITSTATUS(run.status), 3);
        assert_false(run.truncated);
}

static void test_output_limit(void **state)
{
        Run run = { 0 };

        shell(&run, "head -c 1000000 /dev/zero | tr '\\0' x", (WorkerSpec){ .out_max = 10 });
        assert_string_equal(run.out, "xxxxxxxxxx");
        assert_true(run.truncated);
}

static void test_deadline_kills_the_group(void **state)
{
        Run run = { 0 };

        shell(&run, "trap '' TERM; sleep 100 & echo $!; wait; sleep 100",
              (WorkerSpec){ .deadline_ms = 200, .term_grace_ms = 100, .own_group = true });
        assert_true(run.timed_out);
        assert_true(WIFSIGNALED(run.status));
}

/* A grandchild that keeps the pipe open does not hold the worker back. */
static void test_grandchild_keeps_the_pipe(void **state)
{
        Run run = { 0 };

        shell(&run, "sleep 3 & echo done", (WorkerSpec){ .own_group = true });
        assert_string_equal(run.out, "done\n");
        assert_false(run.timed_out);
}

static void test_missing_program(void **state)
{
        Run run = { 0 };
        char *argv[] = { (char *)"x", NULL };
        WorkerSpec spec = { .name = "x",
                            .path = "/no/such",
                            .argv = argv,
                            .deadline_ms = 1000,
                            .done = on_done,
                            .data = &run };

        assert_int_equal(loop_new(&run.loop, NULL), 0);
        assert_int_equal(worker_start(run.loop, &spec, &run.worker, NULL), 0);
        loop_run(run.loop);
        loop_free(run.loop);
        assert_int_equal(WEXITSTATUS(run.status), 127);
        assert_non_null(strstr(run.errors, "cannot execute '/no/such'"));
}

static int pass_body(void *arg)
{
        KL_AUTOFD int fd = memfd_create("passed", MFD_CLOEXEC);

        if (fd < 0 || write(fd, "x", 1) != 1 || lseek(fd, 0, SEEK_SET) != 0)
                return 1;
        return worker_pass_fds(&fd, 1) < 0;
}

static int pass_many_body(void *arg)
{
        int fds[500];

        for (size_t i = 0; i < ELEMENTS(fds); i++)
                fds[i] = memfd_create("passed", MFD_CLOEXEC);
        if (write(fds[499], "x", 1) != 1 || lseek(fds[499], 0, SEEK_SET) != 0)
                return 1;
        return worker_pass_fds(fds, ELEMENTS(fds)) < 0;
}

static void test_function_passes_a_descriptor(void **state)
{
        Run run = { 0 };
        char c = '\0';

        shell(&run, "", (WorkerSpec){ .body = pass_body });
        assert_true(run.passed >= 0);
        assert_int_equal(read(run.passed, &c, 1), 1);
        assert_int_equal(c, 'x');
        close(run.passed);
}

static void test_function_passes_many_descriptors(void **state)
{
        Run run = { 0 };
        char c = '\0';

        shell(&run, "", (WorkerSpec){ .body = pass_many_body });
        assert_int_equal(run.n_passed, 500);
        assert_int_equal(read(run.passed, &c, 1), 1);
        assert_int_equal(c, 'x');
        close(run.passed);
}

static int list_body(void *arg)
{
        KL_AUTODIR DIR *d = opendir("/proc/self/fd");
        struct dirent *entry;

        while ((entry = readdir(d)))
                if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(d))
                        dprintf(STDOUT_FILENO, "%s ", entry->d_name);
        return 0;
}

static void test_no_descriptor_leaks(void **state)
{
        Run run = { 0 };
        KL_AUTOFD int extra = open("/dev/null", O_RDONLY);
        KL_AUTOFD int held = -1;
        char expected[64];

        assert_true(extra >= 0);
        shell(&run, "", (WorkerSpec){ .body = list_body });
        assert_string_equal(run.out, "0 1 2 3 ");
        held = fcntl(extra, F_DUPFD, 40);
        snprintf(expected, sizeof(expected), "0 1 2 3 %d ", held);
        shell(&run, "", (WorkerSpec){ .body = list_body, .hold_fds = &held, .n_hold_fds = 1 });
        assert_string_equal(run.out, expected);
        shell(&run, "echo /proc/self/fd/*", (WorkerSpec){ .keep_fds = { extra, -1 } });
        assert_non_null(strstr(run.out, "/fd/3"));
        assert_null(strstr(run.out, "/fd/5"));
}

static void test_freeing_kills(void **state)
{
        char *argv[] = { (char *)"sleep", (char *)"100", NULL };
        Run run = { 0 };
        WorkerSpec spec = { .name = "sleep",
                            .path = "/bin/sleep",
                            .argv = argv,
                            .deadline_ms = 100000,
                            .done = on_done,
                            .data = &run };
        pid_t pid;

        assert_int_equal(loop_new(&run.loop, NULL), 0);
        assert_int_equal(worker_start(run.loop, &spec, &run.worker, NULL), 0);
        pid = worker_pid(run.worker);
        worker_free(run.worker);
        assert_int_equal(kill(pid, 0), -1);
        assert_int_equal(run.n_done, 0);
        loop_free(run.loop);
}

typedef struct Many {
        Loop *loop;
        int done;
} Many;

static void on_one_of_many(Worker *worker, WorkerResult *result, void *data)
{
        Many *many = data;

        worker_free(worker);
        if (++many->done == 2 * WORKERS_MAX)
                loop_stop(many->loop);
}

static void test_queue(void **state)
{
        char *argv[] = { (char *)"true", NULL };
        Many many = { 0 };
        WorkerSpec spec = { .name = "true",
                            .path = "/bin/true",
                            .argv = argv,
                            .deadline_ms = 20000,
                            .done = on_one_of_many,
                            .data = &many };

        assert_int_equal(loop_new(&many.loop, NULL), 0);
        for (int i = 0; i < 2 * WORKERS_MAX; i++) {
                Worker *worker = NULL;

                assert_int_equal(worker_start(many.loop, &spec, &worker, NULL), 0);
                assert_true((worker_pid(worker) == 0) == (i >= WORKERS_MAX));
        }
        loop_run(many.loop);
        assert_int_equal(many.done, 2 * WORKERS_MAX);
        loop_free(many.loop);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_output_and_status),
                cmocka_unit_test(test_output_limit),
                cmocka_unit_test(test_deadline_kills_the_group),
                cmocka_unit_test(test_grandchild_keeps_the_pipe),
                cmocka_unit_test(test_missing_program),
                cmocka_unit_test(test_function_passes_a_descriptor),
                cmocka_unit_test(test_function_passes_many_descriptors),
                cmocka_unit_test(test_no_descriptor_leaks),
                cmocka_unit_test(test_freeing_kills),
                cmocka_unit_test(test_queue),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
