/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Commands in running containers. The shim runs them and enforces their time-outs; here they are
 * numbers with a callback. Output that is to be collected comes through a pipe of ours: it is read
 * to the end of what is there when the command is done, not to the end of the pipe, which a child
 * in the background may hold. What exceeds the limit is read and dropped, so that the command is
 * never blocked by it.
 */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>

#define READ_SIZE 16384
/* Per wake-up, so that a flood leaves the loop its turns; the rest follows with the next. */
#define READS_PER_TURN 16

static void exec_release(Exec *e)
{
        list_unlink(&e->link);
        watch_free(e->watch);
        kl_close(e->out_fd);
        deferred_free(e->deferred);
        kl_error_free(e->error);
        buf_deinit(&e->output);
        free(e);
}

static void finish(Exec *e, int exit_code, bool timed_out, const KlError *error)
{
        list_unlink(&e->link);
        if (e->done)
                e->done(e, exit_code, timed_out, buf_str(&e->output), e->output.len, error,
                        e->data);
        exec_release(e);
}

/* false at the end of the pipe. */
static bool drain(Exec *e, int max_reads)
{
        char chunk[READ_SIZE];

        for (int i = 0; i < max_reads; i++) {
                ssize_t n = read(e->out_fd, chunk, sizeof(chunk));
                size_t room = e->output.limit - e->output.len;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN;
                if (n == 0)
                        return false;
                buf_add(&e->output, chunk, (size_t)n < room ? (size_t)n : room);
        }
        return true;
}

static void on_output(Watch *watch, int fd, unsigned int events, void *data)
{
        Exec *e = data;

        if (drain(e, READS_PER_TURN))
                return;
        e->watch = watch_free(e->watch);
        e->out_fd = kl_close(e->out_fd);
}

static Exec *find(Sandbox *s, uint32_t number)
{
        list_for_each (e, &s->execs, Exec, link)
                if (e->number == number)
                        return e;
        return NULL;
}

void execs_done(Sandbox *s, const ShimExecDone *done)
{
        Exec *e = find(s, done->exec);
        KL_AUTOERR err = NULL;

        if (!e)
                return;
        if (e->out_fd >= 0)
                drain(e, READS_PER_TURN);
        if (done->start_error)
                kl_error(&err, done->error_code < 0 ? done->error_code : -EIO, NULL, "%s",
                         done->message);
        finish(e, done->exit_code, done->timed_out, err);
}

void execs_on_result(Sandbox *s, uint32_t request, const ShimResult *result)
{
        Exec *e = find(s, request);
        KL_AUTOERR err = NULL;

        if (!e)
                return;
        kl_error(&err, result->code, NULL, "%s", result->message);
        finish(e, 0, false, err);
}

static void on_lost(Deferred *deferred, void *data)
{
        Exec *e = data;

        finish(e, 0, false, e->error);
}

/* May be called from the owner's calls, hence told later. */
void execs_lost(Sandbox *s)
{
        list_for_each (e, &s->execs, Exec, link) {
                list_unlink(&e->link);
                e->sandbox = NULL;
                kl_error(&e->error, -EPIPE, NULL, "the container's sandbox has ended");
                e->deferred = e->done ? deferred_new(s->runtime->loop, on_lost, e) : NULL;
                if (e->deferred)
                        deferred_schedule(e->deferred);
                else
                        exec_release(e);
        }
}

void execs_drop(Sandbox *s)
{
        list_for_each (e, &s->execs, Exec, link)
                exec_release(e);
}

static int make_pipe(Exec *e, Loop *loop, size_t out_max, int *ret_write)
{
        int fds[2], r;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        e->out_fd = fds[0];
        *ret_write = fds[1];
        e->output.limit = out_max;
        fd_set_nonblock(e->out_fd, true);
        r = watch_new(loop, e->out_fd, WATCH_READ, on_output, e, &e->watch);
        return r;
}

static size_t n_execs(const Sandbox *s)
{
        size_t n = 0;

        list_for_each (e, &s->execs, Exec, link)
                n++;
        return n;
}

static void exec_cleanup(Exec **e)
{
        if (*e)
                exec_release(*e);
}

int sandbox_exec(Sandbox *s, const char *container_id, const ExecSpec *spec, Exec **ret,
                 KlError **err)
{
        __attribute__((cleanup(exec_cleanup))) Exec *e = NULL;
        KL_AUTOFD int write_fd = -1;
        const Container *c = container_find(s, container_id);
        ShimExec request;
        int r = 0;

        if (!c || c->state != CONTAINER_RUNNING || !s->client || s->destroying)
                return kl_error(err, -ENOENT, NULL, "the container is not running");
        if (n_execs(s) >= EXECS_MAX)
                return kl_error(err, -EAGAIN, NULL, "%d commands run in the pod already",
                                EXECS_MAX);
        if (!spec->args || !spec->args[0])
                return kl_error(err, -EINVAL, NULL, "no command specified");
        e = calloc(1, sizeof(*e));
        if (!e)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        list_init(&e->link);
        e->sandbox = s;
        e->out_fd = -1;
        e->done = spec->done;
        e->data = spec->data;
        if (spec->out_max)
                r = make_pipe(e, s->runtime->loop, spec->out_max, &write_fd);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "make a pipe");
        request = (ShimExec){
                .container = container_id,
                .args = spec->args,
                .cwd = "",
                .tty = spec->tty,
                .stdin_fd = spec->stdin_fd,
                .stdout_fd = spec->out_max ? write_fd : spec->stdout_fd,
                .stderr_fd = spec->out_max ? write_fd : spec->stderr_fd,
                .timeout_ms = spec->timeout_ms,
        };
        r = shim_client_exec(s->client, &request);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "ask the shim");
        e->number = (uint32_t)r;
        list_append(&s->execs, &e->link);
        *ret = KL_STEAL(e);
        return 0;
}

Exec *exec_kill(Exec *e)
{
        if (!e)
                return NULL;
        if (e->sandbox && e->sandbox->client)
                shim_client_exec_kill(e->sandbox->client, e->number);
        exec_release(e);
        return NULL;
}

int exec_resize(Exec *e, uint16_t rows, uint16_t columns)
{
        if (!e->sandbox || !e->sandbox->client)
                return -ENOTCONN;
        return shim_client_resize(e->sandbox->client, NULL, e->number, rows, columns);
}

/* --- a container's own streams --- */

static ShimClient *client_of(const Sandbox *s, const char *id)
{
        const Container *c = container_find(s, id);

        return c && c->state == CONTAINER_RUNNING ? s->client : NULL;
}

int sandbox_attach(Sandbox *s, const char *id, int stdin_fd, int stdout_fd, int stderr_fd)
{
        ShimClient *client = client_of(s, id);
        int r = client ? shim_client_attach(client, id, stdin_fd, stdout_fd, stderr_fd) : -ENOENT;

        return r < 0 ? r : 0;
}

int sandbox_resize(Sandbox *s, const char *id, uint16_t rows, uint16_t columns)
{
        ShimClient *client = client_of(s, id);
        int r = client ? shim_client_resize(client, id, 0, rows, columns) : -ENOENT;

        return r < 0 ? r : 0;
}

int sandbox_reopen_log(Sandbox *s, const char *id, int log_fd)
{
        ShimClient *client = client_of(s, id);
        int r = client ? shim_client_reopen_log(client, id, log_fd) : -ENOENT;

        return r < 0 ? r : 0;
}
