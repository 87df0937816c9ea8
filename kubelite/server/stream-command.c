/* SPDX-License-Identifier: Apache-2.0 */

/*
 * /exec and /attach: a remote command's session, and pipes to the process. A command whose client
 * vanished is killed with all that it started, since nobody will ever read what it writes; one that
 * was attached to goes on. (Upstream leaves such a command running until it meets its closed pipe.)
 */

#include "server/streams-internal.h"

#include "base/str.h"

#include <fcntl.h>

typedef struct Command {
        ServedStream base;
        bool attach, tty;
        char **args;
        char *container_id;
        Exec *exec;
        StreamPump *in, *out, *err;
        bool done; /* the process has ended */
        int exit_code;
} Command;

static Command *of(void *data)
{
        return container_of((ServedStream *)data, Command, base);
}

/* --- the end --- */

static void command_release(ServedStream *s)
{
        Command *c = of(s);

        c->exec = exec_kill(c->exec);
        c->in = stream_pump_free(c->in);
        c->out = stream_pump_free(c->out);
        c->err = stream_pump_free(c->err);
        c->args = strv_free(c->args);
        free(KL_STEAL(c->container_id));
}

static bool has_output(const Command *c)
{
        return (c->out && !stream_pump_is_done(c->out)) || (c->err && !stream_pump_is_done(c->err));
}

static void maybe_finish(Command *c)
{
        if (c->base.session && c->done && !has_output(c))
                stream_finish_exit(c->base.session, c->exit_code);
}

static void fail(Command *c, const char *why)
{
        KL_AUTOFREE char *text = str_format(
                "error %s container: %s", c->attach ? "attaching to" : "executing command in", why);

        stream_finish_error(c->base.session, text ? text : "out of memory");
}

static void on_exec_done(Exec *exec, int exit_code, bool timed_out, const char *output, size_t len,
                         const KlError *error, void *data)
{
        Command *c = data;

        c->exec = NULL;
        if (error) {
                fail(c, kl_error_msg(error));
                return;
        }
        c->done = true;
        c->exit_code = exit_code;
        /* A terminal's output comes through the log writer, which holds the pipe's other end alone.
         * Each may end the session. */
        if (c->out && !c->tty)
                stream_pump_drain(c->out);
        if (c->err)
                stream_pump_drain(c->err);
        maybe_finish(c);
}

static void on_pump(StreamPump *pump, PumpEnd end, void *data)
{
        Command *c = data;

        /* The log writer closes its ends when the container is over. */
        if (c->attach && !has_output(c) && (end == PUMP_OUT_ENDED || (!c->out && !c->err)))
                c->done = true;
        maybe_finish(c);
}

/* --- the beginning --- */

static int make_pump(Command *c, StreamChannel *channel, unsigned int direction, StreamPump **ret,
                     int *ret_fd)
{
        StreamPumpSpec spec = {
                .channel = channel, .directions = direction, .func = on_pump, .data = c
        };
        int fds[2];

        *ret_fd = -1;
        if (!channel)
                return 0;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        spec.fd = fds[direction == PUMP_IN];
        *ret_fd = fds[direction != PUMP_IN];
        return stream_pump_new(c->base.server->loop, &spec, ret);
}

static int start_exec(Command *c, const Place *place, const int *fds, KlError **err)
{
        ExecSpec spec = {
                .args = c->args,
                .tty = c->tty,
                .stdin_fd = fds[0],
                .stdout_fd = fds[1],
                .stderr_fd = fds[2],
                .done = on_exec_done,
                .data = c,
        };

        return sandbox_exec(place->sandbox, place->container_id, &spec, &c->exec, err);
}

static int start_attach(const Place *place, const int *fds, KlError **err)
{
        int r = sandbox_attach(place->sandbox, place->container_id, fds[0], fds[1], fds[2]);

        return r < 0 ? kl_error_errno(err, r, NULL, "ask the shim") : 0;
}

static int start(Command *c, const int *fds, KlError **err)
{
        Place place;

        if (served_stream_find(&c->base, &place) < 0 || !place.container_id)
                return kl_error(err, -ENOENT, NULL, "the container is not running");
        c->container_id = strdup(place.container_id);
        if (!c->container_id)
                return kl_error_oom(err);
        return c->attach ? start_attach(&place, fds, err) : start_exec(c, &place, fds, err);
}

static void on_started(StreamSession *session, void *data)
{
        Command *c = of(data);
        int fds[3] = { -1, -1, -1 };
        KL_AUTOERR err = NULL;
        int r = make_pump(c, stream_stdin(session), PUMP_IN, &c->in, &fds[0]);

        if (r == 0)
                r = make_pump(c, stream_stdout(session), PUMP_OUT, &c->out, &fds[1]);
        if (r == 0)
                r = make_pump(c, stream_stderr(session), PUMP_OUT, &c->err, &fds[2]);
        if (r < 0)
                kl_error_errno(&err, r, NULL, "make a pipe");
        else
                r = start(c, fds, &err);
        for (size_t i = 0; i < ELEMENTS(fds); i++)
                kl_close(fds[i]);
        if (r < 0)
                fail(c, kl_error_msg(err));
}

/* --- while it runs --- */

static StreamPump *pump_of(Command *c, const StreamChannel *channel)
{
        StreamSession *session = c->base.session;

        return channel == stream_stdin(session)    ? c->in
               : channel == stream_stdout(session) ? c->out
                                                   : c->err;
}

static size_t on_input(StreamChannel *channel, const char *bytes, size_t len, void *data)
{
        Command *c = of(data);

        return c->in ? stream_pump_input(c->in, bytes, len) : len;
}

static void on_input_end(StreamChannel *channel, void *data)
{
        Command *c = of(data);

        if (c->in)
                stream_pump_input_end(c->in);
}

static void on_writable(StreamChannel *channel, void *data)
{
        StreamPump *pump = pump_of(of(data), channel);

        if (pump)
                stream_pump_writable(pump);
}

static void on_resize(StreamSession *session, uint16_t columns, uint16_t rows, void *data)
{
        Command *c = of(data);
        Place place;

        if (c->exec)
                exec_resize(c->exec, rows, columns);
        else if (c->attach && served_stream_find(&c->base, &place) == 0 && place.container_id &&
                 str_eq(place.container_id, c->container_id))
                sandbox_resize(place.sandbox, place.container_id, rows, columns);
}

static const ServedStreamOps command_ops = {
        .funcs = { .started = on_started,
                   .input = on_input,
                   .input_end = on_input_end,
                   .writable = on_writable,
                   .resize = on_resize,
                   .closed = served_stream_closed },
        .release = command_release,
};

/* --- requests --- */

/* Upstream wants "1". */
static bool is_set(const Target *target, const char *name)
{
        const char *value = target_get(target, name);

        return str_eq(value, "1") || str_eq(value, "true");
}

static int take_args(const Target *target, char ***ret)
{
        for (size_t i = 0; i < target->n_parameters; i++)
                if (str_eq(target->parameters[i].name, "command"))
                        KL_TRY(strv_add(ret, target->parameters[i].value));
        return 0;
}

static void complain(ServerRequest *rq, const Target *target, bool attach)
{
        const char *container = target->segments[target->n_segments - 1];

        if (attach)
                exchange_respond_text(rq->exchange, 500, "container %s not found in pod %s_%s",
                                      container, target->segments[2], target->segments[1]);
        else
                exchange_respond_text(rq->exchange, 500, "container not found (\"%s\")", container);
}

/* True when the request may go on; else it was answered. */
static bool find(ServerRequest *rq, bool attach, Place *ret)
{
        const KubeletServerOptions *o = &rq->server->options;
        PlaceName name = server_place_name(&rq->target, true);

        if (o->funcs->find_place(&name, ret, o->data) < 0)
                exchange_respond_text(rq->exchange, 404, "pod does not exist");
        else if (!ret->container_id)
                complain(rq, &rq->target, attach);
        else
                return true;
        return false;
}

static Command *command_new(const Target *target, bool attach)
{
        Command *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->base.ops = &command_ops;
        c->attach = attach;
        if (served_stream_name(&c->base, target, true) < 0 || take_args(target, &c->args) < 0) {
                served_stream_drop(&c->base);
                return NULL;
        }
        return c;
}

static void serve(ServerRequest *rq, bool attach)
{
        const Target *target = &rq->target;
        StreamSpec spec = {
                .in = is_set(target, "input") || is_set(target, "stdin"),
                .out = is_set(target, "output") || is_set(target, "stdout"),
                .err = is_set(target, "error") || is_set(target, "stderr"),
                .tty = is_set(target, "tty"),
        };
        StreamUpgrade upgrade;
        Command *c;
        Place place;

        if (!spec.in && !spec.out && (!spec.err || spec.tty)) {
                exchange_respond_text(rq->exchange, 400,
                                      "you must specify at least 1 of stdin, stdout, stderr");
                return;
        }
        if (!find(rq, attach, &place) ||
            !served_stream_negotiate(rq, STREAM_REMOTE_COMMAND, &upgrade))
                return;
        c = command_new(target, attach);
        if (!c) {
                exchange_respond_text(rq->exchange, 500, "out of memory");
                return;
        }
        /* Whether there is a terminal was settled when the container was made. */
        if (attach)
                spec.tty = place.tty;
        c->tty = spec.tty;
        served_stream_start(&c->base, rq, &upgrade, &spec);
}

void server_exec(ServerRequest *rq)
{
        serve(rq, false);
}

void server_attach(ServerRequest *rq)
{
        serve(rq, true);
}
