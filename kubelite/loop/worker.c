/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Child processes with a deadline and bounded output.
 *
 * A worker is done when three things have happened: it was reaped, its standard output and its
 * standard error reached their end. A grandchild that keeps the pipes open does not delay that:
 * after the exit the pipes are read until they are empty, not until they are closed.
 *
 * The forked child runs with one thread, default signal handlers and an empty signal mask. Between
 * fork and exec only async-signal-safe calls are made.
 */

#include "loop/worker.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/loop-internal.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define WORKER_READ_SIZE 65536
#define WORKER_PASS_FD 3
/* The kernel takes 253 in one message. */
#define PASS_BATCH 200
#define KILL_WAIT_MS 1000

struct Worker {
        Loop *loop;
        List queued;
        const char *name;
        char *path;
        char **argv, **envp;
        char *cwd;
        WorkerBody body;
        void *body_arg;
        void (*free_arg)(void *);
        int keep_fds[ELEMENTS(((WorkerSpec *)0)->keep_fds)];
        size_t n_keep;
        int *hold; /* ascending */
        size_t n_hold;
        Buf input;
        Buf out, errors;
        uint64_t deadline_ms, term_grace_ms;
        bool outlives_us, own_group, truncated, timed_out, counted;
        void (*on_out)(Worker *, const char *, size_t, void *);
        WorkerFunc done;
        void *data;

        pid_t pid;
        int status;
        int in_fd, out_fd, err_fd, pass_fd;
        Watch *in_watch, *out_watch, *err_watch;
        Child *child;
        Timer *timer;
        bool *freed; /* set when a callback frees the worker under us */
};

static void worker_launch(Worker *w);

static void worker_signal(Worker *w, int signo)
{
        /* A child that was just forked may not have made its group yet. */
        if (w->pid > 0 && (!w->own_group || kill(-w->pid, signo) < 0))
                kill(w->pid, signo);
}

static void queue_next(Loop *loop)
{
        while (loop->n_workers < WORKERS_MAX && !list_empty(&loop->workers_queued)) {
                Worker *w = list_first(&loop->workers_queued, Worker, queued);

                list_unlink(&w->queued);
                worker_launch(w);
        }
}

static void worker_close_pipes(Worker *w)
{
        w->in_watch = watch_free(w->in_watch);
        w->out_watch = watch_free(w->out_watch);
        w->err_watch = watch_free(w->err_watch);
        w->in_fd = kl_close(w->in_fd);
        w->out_fd = kl_close(w->out_fd);
        w->err_fd = kl_close(w->err_fd);
        w->pass_fd = kl_close(w->pass_fd);
}

/* A killed process is gone in no time, unless it sleeps where no signal reaches it. */
static void worker_kill(Worker *w)
{
        KL_AUTOFD int pidfd = (int)syscall(SYS_pidfd_open, w->pid, 0);
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        int r;

        worker_signal(w, SIGKILL);
        do
                r = poll(&p, 1, KILL_WAIT_MS);
        while (r < 0 && errno == EINTR);
        if (pidfd < 0 || r != 0) {
                child_free(w->child);
                while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
                        ;
                return;
        }
        log_warning(NULL, "Process %d (%s) does not end, leaving it behind", w->pid, w->name);
        child_abandon(w->child);
}

Worker *worker_free(Worker *w)
{
        if (!w)
                return NULL;
        list_unlink(&w->queued);
        if (w->child && w->pid > 0)
                worker_kill(w);
        if (w->free_arg)
                w->free_arg(w->body_arg);
        if (w->freed)
                *w->freed = true;
        worker_close_pipes(w);
        timer_free(w->timer);
        for (size_t i = 0; i < w->n_keep; i++)
                kl_close(w->keep_fds[i]);
        if (w->counted) {
                w->counted = false;
                w->loop->n_workers--;
                queue_next(w->loop);
        }
        free(w->hold);
        free(w->path);
        strv_free(w->argv);
        strv_free(w->envp);
        free(w->cwd);
        buf_deinit(&w->input);
        buf_deinit(&w->out);
        buf_deinit(&w->errors);
        free(w);
        return NULL;
}

pid_t worker_pid(const Worker *worker)
{
        return worker->pid;
}

typedef union PassControl {
        char bytes[CMSG_SPACE(PASS_BATCH * sizeof(int))];
        struct cmsghdr align;
} PassControl;

/* One message; its number of descriptors, 0 when there is none. */
static size_t receive_batch(int socket, int *fds)
{
        PassControl control;
        char byte;
        struct iovec iov = { &byte, 1 };
        struct msghdr msg = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        struct cmsghdr *c;
        size_t n;

        if (recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
                return 0;
        c = CMSG_FIRSTHDR(&msg);
        if (!c || c->cmsg_type != SCM_RIGHTS)
                return 0;
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), n * sizeof(int));
        return n;
}

static int *receive_fds(int socket, size_t *ret_n)
{
        int batch[PASS_BATCH], *fds = NULL;
        size_t n, total = 0;

        while (socket >= 0 && (n = receive_batch(socket, batch)) > 0) {
                int *grown = total + n <= WORKER_FDS_MAX
                                     ? reallocarray(fds, total + n, sizeof(*fds))
                                     : NULL;

                if (!grown) {
                        for (size_t i = 0; i < n; i++)
                                kl_close(batch[i]);
                        break;
                }
                fds = grown;
                memcpy(fds + total, batch, n * sizeof(*fds));
                total += n;
        }
        *ret_n = total;
        return fds;
}

static int pass_batch(const int *fds, size_t n)
{
        PassControl control = { { 0 } };
        char byte = 0;
        struct iovec iov = { &byte, 1 };
        struct msghdr msg = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = CMSG_SPACE(n * sizeof(int)),
        };
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
        return sendmsg(WORKER_PASS_FD, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int worker_pass_fds(const int *fds, size_t n)
{
        int r = n > WORKER_FDS_MAX ? -E2BIG : 0;

        for (size_t i = 0; i < n && r == 0; i += PASS_BATCH)
                r = pass_batch(fds + i, n - i < PASS_BATCH ? n - i : PASS_BATCH);
        return r;
}

/* Reads what is there; false at the end of the pipe (or when the worker was freed by on_out). */
static bool drain(Worker *w, int fd, Buf *to, bool forward)
{
        char chunk[WORKER_READ_SIZE];
        bool freed = false;

        for (;;) {
                ssize_t n = read(fd, chunk, sizeof(chunk));
                size_t room;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return true;
                if (n <= 0)
                        return false;
                if (forward && w->on_out) {
                        w->freed = &freed;
                        w->on_out(w, chunk, (size_t)n, w->data);
                        if (freed)
                                return false;
                        w->freed = NULL;
                        continue;
                }
                room = to->limit - to->len;
                if ((size_t)n > room)
                        w->truncated |= forward;
                buf_add(to, chunk, (size_t)n < room ? (size_t)n : room);
        }
}

/* The result stays valid through the callback even if that frees the worker. */
static void worker_finish(Worker *w)
{
        KL_AUTOBUF out = w->out;
        KL_AUTOBUF errors = w->errors;
        WorkerResult result = {
                .status = w->status,
                .timed_out = w->timed_out,
                .truncated = w->truncated,
                .out = buf_str(&out),
                .out_len = out.len,
                .errors = buf_str(&errors),
                .errors_len = errors.len,
        };
        size_t n_passed;

        result.passed_fds = receive_fds(w->pass_fd, &result.n_passed_fds);
        n_passed = result.n_passed_fds;
        w->out = w->errors = (Buf)BUF_INIT;
        timer_stop(w->timer);
        worker_close_pipes(w);
        if (w->counted) {
                w->counted = false;
                w->loop->n_workers--;
                queue_next(w->loop);
        }
        w->done(w, &result, w->data);
        for (size_t i = 0; i < n_passed; i++)
                kl_close(result.passed_fds[i]);
        free(result.passed_fds);
}

static void on_child_exit(Child *child, int status, void *data)
{
        Worker *w = data;
        bool freed = false;

        w->child = child_free(child);
        w->status = status;
        if (w->own_group)
                kill(-w->pid, SIGKILL);
        if (w->out_fd >= 0) {
                bool on_out_freed = false;

                w->freed = &on_out_freed;
                drain(w, w->out_fd, &w->out, true);
                freed = on_out_freed;
        }
        if (freed)
                return;
        w->freed = NULL;
        if (w->err_fd >= 0)
                drain(w, w->err_fd, &w->errors, false);
        worker_finish(w);
}

static void on_output(Watch *watch, int fd, unsigned int events, void *data)
{
        Worker *w = data;
        bool out = fd == w->out_fd, freed = false;

        w->freed = &freed;
        if (drain(w, fd, out ? &w->out : &w->errors, out) || freed)
                return;
        w->freed = NULL;
        if (out) {
                w->out_watch = watch_free(w->out_watch);
                w->out_fd = kl_close(w->out_fd);
        } else {
                w->err_watch = watch_free(w->err_watch);
                w->err_fd = kl_close(w->err_fd);
        }
}

static void on_input(Watch *watch, int fd, unsigned int events, void *data)
{
        Worker *w = data;
        ssize_t n = write(fd, w->input.data, w->input.len);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n > 0)
                buf_consume(&w->input, (size_t)n);
        if (n < 0 || w->input.len == 0) {
                w->in_watch = watch_free(w->in_watch);
                w->in_fd = kl_close(w->in_fd);
        }
}

static void on_deadline(Timer *timer, void *data)
{
        Worker *w = data;

        if (!w->timed_out && w->term_grace_ms > 0) {
                w->timed_out = true;
                worker_signal(w, SIGTERM);
                timer_start(timer, w->term_grace_ms);
                return;
        }
        w->timed_out = true;
        worker_signal(w, SIGKILL);
}

/* --- in the child --- */

typedef struct ChildPipes {
        int in, out, err, pass;
} ChildPipes;

static int move_fd(int fd, int to)
{
        if (fd == to)
                return fcntl(fd, F_SETFD, 0);
        return dup2(fd, to);
}

static void child_reset(const Worker *w)
{
        struct sigaction sa = { .sa_handler = SIG_DFL };
        sigset_t none;

        if (w->own_group)
                setsid();
        if (!w->outlives_us)
                prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int signo = 1; signo < NSIG; signo++)
                sigaction(signo, &sa, NULL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        umask(0022);
}

static void close_others(const Worker *w, unsigned int from)
{
        for (size_t i = 0; i < w->n_hold; i++) {
                unsigned int fd = (unsigned int)w->hold[i];

                if (fd > from)
                        syscall(SYS_close_range, from, fd - 1, 0);
                from = fd >= from ? fd + 1 : from;
        }
        syscall(SYS_close_range, from, ~0U, 0);
}

/* Everything the child keeps is first moved above the range that it will be put into. */
static void __attribute__((noreturn)) child_run(Worker *w, ChildPipes p)
{
        int high[8], n = 0;

        child_reset(w);
        if (chdir(w->cwd ? w->cwd : "/") < 0)
                _exit(126);
        high[n++] = fcntl(p.in, F_DUPFD_CLOEXEC, 32);
        high[n++] = fcntl(p.out, F_DUPFD_CLOEXEC, 32);
        high[n++] = fcntl(p.err, F_DUPFD_CLOEXEC, 32);
        if (w->body)
                high[n++] = fcntl(p.pass, F_DUPFD_CLOEXEC, 32);
        for (size_t i = 0; i < w->n_keep; i++)
                high[n++] = fcntl(w->keep_fds[i], F_DUPFD_CLOEXEC, 32);
        for (int i = 0; i < n; i++)
                if (high[i] < 0 || move_fd(high[i], i) < 0)
                        _exit(126);
        close_others(w, (unsigned int)n);
        if (w->body)
                _exit(w->body(w->body_arg) & 0xff);
        execve(w->path, w->argv, w->envp);
        dprintf(STDERR_FILENO, "cannot execute '%s': %s\n", w->path, strerror(errno));
        _exit(127);
}

/* --- start --- */

static void pipe_close(int (*fds)[2])
{
        kl_close((*fds)[0]);
        kl_close((*fds)[1]);
}

#define AUTO_PIPE __attribute__((cleanup(pipe_close)))

static int worker_watch(Worker *w)
{
        int r;

        r = watch_new(w->loop, w->out_fd, WATCH_READ, on_output, w, &w->out_watch);
        if (r == 0)
                r = watch_new(w->loop, w->err_fd, WATCH_READ, on_output, w, &w->err_watch);
        if (r == 0 && w->in_fd >= 0)
                r = watch_new(w->loop, w->in_fd, WATCH_WRITE, on_input, w, &w->in_watch);
        if (r == 0)
                r = child_new(w->loop, w->pid, on_child_exit, w, &w->child);
        return r;
}

static int worker_fork(Worker *w)
{
        AUTO_PIPE int in[2] = { -1, -1 };
        AUTO_PIPE int out[2] = { -1, -1 };
        AUTO_PIPE int err[2] = { -1, -1 };
        AUTO_PIPE int pass[2] = { -1, -1 };
        int r;

        if (w->input.len > 0)
                r = pipe2(in, O_CLOEXEC);
        else
                r = in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (r < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
                return -errno;
        if (w->body && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pass) < 0)
                return -errno;
        w->pid = fork();
        if (w->pid < 0) {
                w->pid = 0;
                return -errno;
        }
        if (w->pid == 0)
                child_run(w, (ChildPipes){ in[0], out[1], err[1], pass[1] });
        w->in_fd = KL_STEAL_FD(in[1]);
        w->out_fd = KL_STEAL_FD(out[0]);
        w->err_fd = KL_STEAL_FD(err[0]);
        w->pass_fd = KL_STEAL_FD(pass[0]);
        if (w->in_fd >= 0)
                fd_set_nonblock(w->in_fd, true);
        fd_set_nonblock(w->out_fd, true);
        fd_set_nonblock(w->err_fd, true);
        r = worker_watch(w);
        if (r < 0 && !w->child) {
                worker_signal(w, SIGKILL);
                waitpid(w->pid, NULL, 0);
                w->pid = 0;
        }
        return r;
}

/* Reports a start that failed through the same callback, from the loop. */
static void on_start_failed(Timer *timer, void *data)
{
        worker_finish(data);
}

static void worker_launch(Worker *w)
{
        int r;

        w->counted = true;
        w->loop->n_workers++;
        r = worker_fork(w);
        if (r == 0) {
                timer_start(w->timer, w->deadline_ms);
                return;
        }
        w->status = 126 << 8;
        buf_addf(&w->errors, "cannot start: %s", strerror(-r));
        timer_free(w->timer);
        w->timer = timer_new(w->loop, on_start_failed, w);
        if (w->timer)
                timer_start(w->timer, 0);
}

static int keep_fds(Worker *w, const WorkerSpec *spec)
{
        for (size_t i = 0; i < ELEMENTS(spec->keep_fds) && spec->keep_fds[i] > 0; i++) {
                w->keep_fds[i] = fcntl(spec->keep_fds[i], F_DUPFD_CLOEXEC, 3);
                if (w->keep_fds[i] < 0)
                        return -errno;
                w->n_keep++;
        }
        return 0;
}

static int compare_fds(const void *a, const void *b)
{
        return *(const int *)a - *(const int *)b;
}

static int hold_fds(Worker *w, const WorkerSpec *spec)
{
        if (spec->n_hold_fds == 0)
                return 0;
        w->hold = calloc(spec->n_hold_fds, sizeof(*w->hold));
        if (!w->hold)
                return -ENOMEM;
        for (size_t i = 0; i < spec->n_hold_fds; i++) {
                assert(spec->hold_fds[i] >= WORKER_HOLD_MIN);
                w->hold[w->n_hold++] = spec->hold_fds[i];
        }
        qsort(w->hold, w->n_hold, sizeof(*w->hold), compare_fds);
        return 0;
}

int worker_start(Loop *loop, const WorkerSpec *spec, Worker **ret, KlError **err)
{
        static char *const default_env[] = {
                (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL
        };
        KL_AUTO(worker_free) Worker *w = calloc(1, sizeof(*w));
        int r;

        assert(spec->deadline_ms > 0 && spec->done && (spec->path || spec->body));
        if (!w) {
                if (spec->free_arg)
                        spec->free_arg(spec->body_arg);
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        *w = (Worker){
                .loop = loop,
                .name = spec->name,
                .body = spec->body,
                .body_arg = spec->body_arg,
                .free_arg = spec->free_arg,
                .deadline_ms = spec->deadline_ms,
                .term_grace_ms = spec->term_grace_ms,
                .outlives_us = spec->outlives_us,
                .own_group = spec->own_group,
                .on_out = spec->on_out,
                .done = spec->done,
                .data = spec->data,
                .in_fd = -1,
                .out_fd = -1,
                .err_fd = -1,
                .pass_fd = -1,
                .out = BUF_INIT_LIMIT(spec->out_max ? spec->out_max : 1),
                .errors = BUF_INIT_LIMIT(WORKER_STDERR_MAX),
        };
        list_init(&w->queued);
        r = keep_fds(w, spec);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "start %s", spec->name);
        r = hold_fds(w, spec);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "start %s", spec->name);
        w->path = spec->path ? strdup(spec->path) : NULL;
        w->argv = spec->argv ? strv_copy(spec->argv) : NULL;
        w->envp = strv_copy(spec->envp ? spec->envp : default_env);
        w->cwd = spec->cwd ? strdup(spec->cwd) : NULL;
        w->timer = timer_new(loop, on_deadline, w);
        if (spec->input_len)
                buf_add(&w->input, spec->input, spec->input_len);
        if ((spec->path && (!w->path || !w->argv)) || !w->envp || (spec->cwd && !w->cwd) ||
            !w->timer || buf_error(&w->input))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *ret = w;
        if (loop->n_workers < WORKERS_MAX)
                worker_launch(w);
        else
                list_append(&loop->workers_queued, &w->queued);
        w = NULL;
        return 0;
}

void worker_describe(const WorkerResult *result, uint64_t deadline_ms, char *buf, size_t size)
{
        int status = result->status;

        if (result->timed_out)
                snprintf(buf, size, "did not end within %g s", (double)deadline_ms / 1000);
        else if (WIFSIGNALED(status))
                snprintf(buf, size, "was killed by signal %d (%s)", WTERMSIG(status),
                         strsignal(WTERMSIG(status)));
        else
                snprintf(buf, size, "exited with status %d", WEXITSTATUS(status));
}
