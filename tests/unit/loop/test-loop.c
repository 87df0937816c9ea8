/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "loop/loop.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

typedef struct Fixture {
        Loop *loop;
        Timer *timer;
        Deferred *deferred;
        Watch *watch;
        Child *child;
        int calls, status;
        char order[16];
} Fixture;

static int setup(void **state)
{
        Fixture *f = calloc(1, sizeof(*f));

        *state = f;
        return loop_new(&f->loop, NULL);
}

static int teardown(void **state)
{
        Fixture *f = *state;

        loop_free(f->loop);
        free(f);
        return 0;
}

static void on_timer(Timer *timer, void *data)
{
        Fixture *f = data;

        f->calls++;
        /* Freeing itself is allowed. */
        f->timer = timer_free(f->timer);
        loop_stop(f->loop);
}

static void test_timer_frees_itself(void **state)
{
        Fixture *f = *state;

        f->calls = 0;
        f->timer = timer_new(f->loop, on_timer, f);
        timer_start(f->timer, 1);
        assert_true(timer_active(f->timer));
        loop_run(f->loop);
        assert_int_equal(f->calls, 1);
}

static void on_deferred(Deferred *deferred, void *data)
{
        Fixture *f = data;

        if (++f->calls == 1)
                deferred_schedule(deferred);
        else
                loop_stop(f->loop);
}

static void test_deferred_runs_once_a_turn(void **state)
{
        Fixture *f = *state;

        f->calls = 0;
        f->deferred = deferred_new(f->loop, on_deferred, f);
        deferred_schedule(f->deferred);
        deferred_schedule(f->deferred);
        loop_turn(f->loop, false);
        assert_int_equal(f->calls, 1);
        loop_run(f->loop);
        assert_int_equal(f->calls, 2);
        deferred_free(f->deferred);
}

static void on_readable(Watch *watch, int fd, unsigned int events, void *data)
{
        Fixture *f = data;
        char c;

        assert_true(events & WATCH_READ);
        assert_int_equal(read(fd, &c, 1), 1);
        f->calls++;
        f->watch = watch_free(watch);
        loop_stop(f->loop);
}

static void test_watch(void **state)
{
        Fixture *f = *state;
        int fds[2];

        f->calls = 0;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(watch_new(f->loop, fds[0], WATCH_READ, on_readable, f, &f->watch), 0);
        assert_int_equal(write(fds[1], "xy", 2), 2);
        loop_run(f->loop);
        assert_int_equal(f->calls, 1);
        loop_turn(f->loop, false);
        close(fds[0]);
        close(fds[1]);
}

static void on_child(Child *child, int status, void *data)
{
        Fixture *f = data;

        f->status = status;
        child_free(child);
        loop_stop(f->loop);
}

static void test_child(void **state)
{
        Fixture *f = *state;
        pid_t pid = fork();

        if (pid == 0)
                _exit(7);
        assert_int_equal(child_new(f->loop, pid, on_child, f, &f->child), 0);
        loop_run(f->loop);
        assert_true(WIFEXITED(f->status));
        assert_int_equal(WEXITSTATUS(f->status), 7);
        assert_int_equal(waitpid(pid, NULL, 0), -1);
}

static void on_signal(Signal *signal, int signo, void *data)
{
        Fixture *f = data;

        f->calls = signo;
        loop_stop(f->loop);
}

static void test_signal(void **state)
{
        Fixture *f = *state;
        Signal *s = NULL;

        assert_int_equal(signal_new(f->loop, SIGUSR1, on_signal, f, &s), 0);
        raise(SIGUSR1);
        loop_run(f->loop);
        assert_int_equal(f->calls, SIGUSR1);
        signal_free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_timer_frees_itself),
                cmocka_unit_test(test_deferred_runs_once_a_turn),
                cmocka_unit_test(test_watch),
                cmocka_unit_test(test_child),
                cmocka_unit_test(test_signal),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
