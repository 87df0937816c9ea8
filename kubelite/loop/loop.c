/* SPDX-License-Identifier: Apache-2.0 */

/*
 * libuv under our names. libuv frees a handle in its close callback, at the end of the turn; that
 * gives the rule that a freed object is never called again yet its memory outlives the callback
 * that freed it. A handle whose `func` is NULL is on its way out.
 */

#include "loop/loop-internal.h"

#include <assert.h>
#include <string.h>
#include <sys/syscall.h>

struct Timer {
        uv_timer_t uv;
        TimerFunc func;
        void *data;
};

struct Deferred {
        List link;
        Loop *loop;
        DeferredFunc func;
        void *data;
};

struct Watch {
        uv_poll_t uv;
        int fd;
        WatchFunc func;
        void *data;
};

struct Signal {
        uv_signal_t uv;
        SignalFunc func;
        void *data;
};

struct Child {
        List link;
        Loop *loop;
        Watch *watch;
        int pidfd;
        pid_t pid;
        ChildFunc func;
        void *data;
};

static void on_idle(uv_idle_t *idle)
{
        (void)idle;
}

/* Works off what was deferred before this moment; what comes meanwhile waits for the next turn. */
static void on_check(uv_check_t *check)
{
        Loop *loop = check->data;
        List todo = LIST_INIT(todo);

        if (list_empty(&loop->deferred))
                return;
        todo.next = loop->deferred.next;
        todo.prev = loop->deferred.prev;
        todo.next->prev = &todo;
        todo.prev->next = &todo;
        list_init(&loop->deferred);
        uv_idle_stop(&loop->idle);
        while (!list_empty(&todo)) {
                Deferred *d = list_first(&todo, Deferred, link);

                list_unlink(&d->link);
                d->func(d, d->data);
        }
}

int loop_new(Loop **ret, KlError **err)
{
        Loop *loop = calloc(1, sizeof(*loop));
        int r;

        if (!loop)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = uv_loop_init(&loop->uv);
        if (r < 0) {
                free(loop);
                return kl_error(err, r, NULL, "start the event loop: %s", uv_strerror(r));
        }
        list_init(&loop->deferred);
        list_init(&loop->workers_queued);
        list_init(&loop->abandoned);
        uv_check_init(&loop->uv, &loop->check);
        uv_idle_init(&loop->uv, &loop->idle);
        loop->check.data = loop;
        uv_check_start(&loop->check, on_check);
        *ret = loop;
        return 0;
}

Loop *loop_free(Loop *loop)
{
        int r;

        if (!loop)
                return NULL;
        assert(list_empty(&loop->deferred) && list_empty(&loop->workers_queued));
        list_for_each (child, &loop->abandoned, Child, link)
                child_free(child);
        uv_close((uv_handle_t *)&loop->check, NULL);
        uv_close((uv_handle_t *)&loop->idle, NULL);
        uv_run(&loop->uv, UV_RUN_DEFAULT);
        r = uv_loop_close(&loop->uv);
        assert(r == 0);
        free(loop);
        return NULL;
}

void loop_run(Loop *loop)
{
        uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(Loop *loop)
{
        uv_stop(&loop->uv);
}

void loop_turn(Loop *loop, bool wait)
{
        uv_run(&loop->uv, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}

void *loop_uv(Loop *loop)
{
        return &loop->uv;
}

static void on_closed(uv_handle_t *handle)
{
        /* Every handle is the first member of its object. */
        free(handle);
}

static void on_timer(uv_timer_t *uv)
{
        Timer *timer = container_of(uv, Timer, uv);

        if (timer->func)
                timer->func(timer, timer->data);
}

Timer *timer_new(Loop *loop, TimerFunc func, void *data)
{
        Timer *timer = calloc(1, sizeof(*timer));

        if (!timer)
                return NULL;
        uv_timer_init(&loop->uv, &timer->uv);
        timer->func = func;
        timer->data = data;
        return timer;
}

Timer *timer_free(Timer *timer)
{
        if (timer) {
                timer->func = NULL;
                uv_close((uv_handle_t *)&timer->uv, on_closed);
        }
        return NULL;
}

void timer_start(Timer *timer, uint64_t delay_ms)
{
        /* The loop's clock stands still during a turn; a long one must not shorten delays. */
        uv_update_time(timer->uv.loop);
        uv_timer_start(&timer->uv, on_timer, delay_ms, 0);
}

void timer_stop(Timer *timer)
{
        uv_timer_stop(&timer->uv);
}

bool timer_active(const Timer *timer)
{
        return uv_is_active((const uv_handle_t *)&timer->uv);
}

Deferred *deferred_new(Loop *loop, DeferredFunc func, void *data)
{
        Deferred *d = calloc(1, sizeof(*d));

        if (!d)
                return NULL;
        list_init(&d->link);
        d->loop = loop;
        d->func = func;
        d->data = data;
        return d;
}

Deferred *deferred_free(Deferred *deferred)
{
        if (deferred) {
                list_unlink(&deferred->link);
                free(deferred);
        }
        return NULL;
}

void deferred_schedule(Deferred *deferred)
{
        if (!list_empty(&deferred->link))
                return;
        list_append(&deferred->loop->deferred, &deferred->link);
        uv_idle_start(&deferred->loop->idle, on_idle);
}

static int poll_events(unsigned int events)
{
        return (events & WATCH_READ ? UV_READABLE : 0) | (events & WATCH_WRITE ? UV_WRITABLE : 0) |
               (events & WATCH_HANGUP ? UV_DISCONNECT : 0) |
               (events & WATCH_PRI ? UV_PRIORITIZED : 0);
}

static void on_poll(uv_poll_t *uv, int status, int events)
{
        Watch *watch = container_of(uv, Watch, uv);
        unsigned int got = 0;

        if (!watch->func)
                return;
        if (status < 0)
                events = UV_READABLE | UV_WRITABLE | UV_DISCONNECT;
        got |= events & UV_READABLE ? WATCH_READ : 0;
        got |= events & UV_WRITABLE ? WATCH_WRITE : 0;
        got |= events & UV_DISCONNECT ? WATCH_HANGUP : 0;
        got |= events & UV_PRIORITIZED ? WATCH_PRI : 0;
        watch->func(watch, watch->fd, got, watch->data);
}

int watch_new(Loop *loop, int fd, unsigned int events, WatchFunc func, void *data, Watch **ret)
{
        Watch *watch = calloc(1, sizeof(*watch));
        int r;

        if (!watch)
                return -ENOMEM;
        r = uv_poll_init(&loop->uv, &watch->uv, fd);
        if (r < 0) {
                free(watch);
                return r;
        }
        watch->fd = fd;
        watch->func = func;
        watch->data = data;
        r = watch_set(watch, events);
        if (r < 0) {
                watch_free(watch);
                return r;
        }
        *ret = watch;
        return 0;
}

int watch_set(Watch *watch, unsigned int events)
{
        if (!events)
                return uv_poll_stop(&watch->uv);
        return uv_poll_start(&watch->uv, poll_events(events), on_poll);
}

Watch *watch_free(Watch *watch)
{
        if (watch) {
                watch->func = NULL;
                uv_close((uv_handle_t *)&watch->uv, on_closed);
        }
        return NULL;
}

static void on_signal(uv_signal_t *uv, int signo)
{
        Signal *s = container_of(uv, Signal, uv);

        if (s->func)
                s->func(s, signo, s->data);
}

int signal_new(Loop *loop, int signo, SignalFunc func, void *data, Signal **ret)
{
        Signal *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        uv_signal_init(&loop->uv, &s->uv);
        s->func = func;
        s->data = data;
        r = uv_signal_start(&s->uv, on_signal, signo);
        if (r < 0) {
                signal_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

Signal *signal_free(Signal *signal)
{
        if (signal) {
                signal->func = NULL;
                uv_close((uv_handle_t *)&signal->uv, on_closed);
        }
        return NULL;
}

static void on_child(Watch *watch, int fd, unsigned int events, void *data)
{
        Child *child = data;
        int status;

        (void)fd;
        (void)events;
        if (waitpid(child->pid, &status, WNOHANG) != child->pid)
                return;
        watch_free(watch);
        child->watch = NULL;
        child->pidfd = kl_close(child->pidfd);
        child->func(child, status, child->data);
}

int child_new(Loop *loop, pid_t pid, ChildFunc func, void *data, Child **ret)
{
        Child *child = calloc(1, sizeof(*child));
        int r;

        if (!child)
                return -ENOMEM;
        list_init(&child->link);
        child->loop = loop;
        child->pid = pid;
        child->func = func;
        child->data = data;
        child->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (child->pidfd < 0) {
                r = -errno;
                free(child);
                return r;
        }
        r = watch_new(loop, child->pidfd, WATCH_READ, on_child, child, &child->watch);
        if (r < 0) {
                kl_close(child->pidfd);
                free(child);
                return r;
        }
        *ret = child;
        return 0;
}

Child *child_free(Child *child)
{
        if (child) {
                list_unlink(&child->link);
                watch_free(child->watch);
                kl_close(child->pidfd);
                free(child);
        }
        return NULL;
}

static void on_abandoned(Child *child, int status, void *data)
{
        child_free(child);
}

void child_abandon(Child *child)
{
        child->func = on_abandoned;
        list_append(&child->loop->abandoned, &child->link);
}

int process_watch_new(Loop *loop, int pidfd, WatchFunc func, void *data, Watch **ret)
{
        return watch_new(loop, pidfd, WATCH_READ, func, data, ret);
}
