/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What all sessions share: the owner's interface, input that waits, room for output, the end, and
 * time limits. What carries the channels is a StreamMux.
 *
 * Callbacks may do anything, freeing the session included. Every entry point that may call back
 * stands between stream_enter() and stream_leave(); what was freed meanwhile goes at the outermost
 * leave, so that nobody in between holds a dangling pointer.
 */

#include "server/stream-internal.h"

#include "base/clock.h"
#include "base/str.h"

#include <assert.h>

/* Room below this is none: no frames of a few bytes while the queue is nearly full. */
#define ROOM_MIN 4096
#define WRITE_MAX (64U << 10) /* one frame */
/* Answers to a client that does not read them. */
#define QUEUE_FLOOD (STREAM_QUEUE_MAX + STREAM_QUEUE_LOW)

static void session_destroy(StreamSession *s)
{
        list_for_each (c, &s->pairs, StreamChannel, link)
                stream_pair_free(c);
        for (size_t i = 0; i < LANES; i++)
                buf_deinit(&s->lanes[i].pending);
        spdy_session_free(s->spdy);
        timer_free(s->timer);
        buf_deinit(&s->input);
        buf_deinit(&s->tunnel);
        buf_deinit(&s->status);
        buf_deinit(&s->resize);
        free(s);
}

void stream_enter(StreamSession *s)
{
        s->depth++;
}

void stream_leave(StreamSession *s)
{
        if (--s->depth > 0)
                return;
        if (s->n_closed > 0) {
                s->n_closed = 0;
                list_for_each (c, &s->pairs, StreamChannel, link)
                        if (c->closed)
                                stream_pair_free(c);
        }
        if (s->dead)
                session_destroy(s);
}

bool stream_is_over(const StreamSession *s)
{
        return s->over || s->dead;
}

/* --- the end --- */

static void transport_close(StreamSession *s, int error)
{
        if (s->lost)
                return;
        s->mux->goodbye(s, error);
        s->lost = true;
        s->spec.transport->close(s->spec.transport_data);
}

void stream_over(StreamSession *s, int error, const KlError *err)
{
        if (stream_is_over(s))
                return;
        transport_close(s, error);
        s->over = true;
        timer_stop(s->timer);
        s->spec.funcs->closed(s, err, s->spec.data);
}

StreamSession *stream_session_free(StreamSession *s)
{
        if (!s)
                return NULL;
        assert(!s->dead);
        stream_enter(s);
        if (!s->over)
                transport_close(s, -ESHUTDOWN);
        if (s->timer)
                timer_stop(s->timer);
        s->dead = true;
        stream_leave(s);
        return NULL;
}

static void lane_end(StreamChannel *c)
{
        if (c->out_ended || !c->attached)
                return;
        c->out_ended = true;
        c->session->mux->end(c);
}

/* The status waits for the peer's window, and for nothing else. */
static void try_finish(StreamSession *s)
{
        StreamChannel *error = &s->lanes[LANE_ERROR];

        if (!s->finishing || stream_is_over(s))
                return;
        if (error->attached && s->status.len > s->mux->window(error))
                return;
        lane_end(&s->lanes[LANE_STDOUT]);
        lane_end(&s->lanes[LANE_STDERR]);
        if (error->attached && s->status.len > 0)
                s->mux->write(error, s->status.data, s->status.len);
        lane_end(error);
        stream_over(s, 0, NULL);
}

static void finish(StreamSession *s)
{
        stream_enter(s);
        s->finishing = true;
        s->deadline = time_monotonic_ms() + STREAM_FINISH_TIMEOUT_MS;
        stream_arm(s);
        try_finish(s);
        stream_leave(s);
}

void stream_finish_exit(StreamSession *s, int exit_code)
{
        if (stream_is_over(s) || s->finishing)
                return;
        stream_status_exit(&s->status, s->spec.protocol.version, exit_code);
        finish(s);
}

void stream_finish_error(StreamSession *s, const char *message)
{
        if (stream_is_over(s) || s->finishing)
                return;
        stream_status_error(&s->status, s->spec.protocol.version, message);
        finish(s);
}

/* --- time --- */

void stream_arm(StreamSession *s)
{
        uint64_t now = time_monotonic_ms(), at = s->last_activity + s->spec.idle_timeout_ms;
        uint64_t pairs = stream_pairs_expire(s, now);

        if (stream_is_over(s))
                return;
        if (s->deadline && s->deadline < at)
                at = s->deadline;
        if (pairs < at)
                at = pairs;
        timer_start(s->timer, at > now ? at - now : 0);
}

static void on_timer(Timer *timer, void *data)
{
        StreamSession *s = data;
        uint64_t now = time_monotonic_ms();
        KL_AUTOERR err = NULL;

        stream_enter(s);
        if (s->deadline && now >= s->deadline)
                kl_error(&err, -ETIMEDOUT, NULL,
                         s->finishing ? "the client does not take the command's status"
                                      : "timed out waiting for client to create streams");
        else if (now >= s->last_activity + s->spec.idle_timeout_ms)
                kl_error(&err, -ETIMEDOUT, NULL, "the session was idle for too long");
        if (err)
                stream_over(s, -ETIMEDOUT, err);
        else
                stream_arm(s);
        stream_leave(s);
}

/* --- beginning --- */

bool stream_wants_lane(const StreamSession *s, Lane lane)
{
        switch (lane) {
        case LANE_STDIN:
                return s->spec.in;
        case LANE_STDOUT:
                return s->spec.out;
        case LANE_STDERR:
                return s->spec.err;
        case LANE_ERROR:
                return true;
        case LANE_RESIZE:
                return s->spec.tty && s->spec.protocol.version >= 3;
        case LANE_DATA:
        case LANE_DATA_ERROR:
        default:
                return false;
        }
}

void stream_start_command(StreamSession *s)
{
        if (s->started || stream_is_over(s))
                return;
        s->started = true;
        s->deadline = 0;
        stream_arm(s);
        for (size_t i = 0; i < LANES; i++)
                s->lanes[i].live = stream_wants_lane(s, (Lane)i);
        s->spec.funcs->started(s, s->spec.data);
        stream_resume(&s->lanes[LANE_STDIN]);
}

static int check_spec(const StreamSpec *spec, KlError **err)
{
        bool channels = spec->protocol.framing == STREAM_CHANNELS;

        if (spec->protocol.kind == STREAM_REMOTE_COMMAND && !spec->in && !spec->out &&
            (!spec->err || spec->tty))
                return kl_error(err, -EINVAL, NULL,
                                "you must specify at least 1 of stdin, stdout, stderr");
        if (spec->protocol.kind == STREAM_PORT_FORWARD && channels &&
            (spec->n_ports == 0 || spec->n_ports > STREAM_PORTS_MAX))
                return kl_error(err, -EINVAL, NULL, "between 1 and %d ports are required",
                                STREAM_PORTS_MAX);
        return 0;
}

int stream_session_new(Loop *loop, const StreamSpec *spec, StreamSession **ret, KlError **err)
{
        KL_AUTO(stream_session_free) StreamSession *s = NULL;

        KL_TRY(check_spec(spec, err));
        s = calloc(1, sizeof(*s));
        if (!s)
                return kl_error_oom(err);
        s->loop = loop;
        s->spec = *spec;
        s->lost = true;
        s->mux =
                spec->protocol.framing == STREAM_CHANNELS ? &stream_channels_mux : &stream_spdy_mux;
        s->resize.limit = STREAM_RESIZE_MAX;
        list_init(&s->pairs);
        if (spec->n_ports)
                memcpy(s->ports, spec->ports, spec->n_ports * sizeof(*spec->ports));
        s->spec.ports = s->ports;
        s->spec.err = spec->err && !spec->tty;
        if (!s->spec.idle_timeout_ms)
                s->spec.idle_timeout_ms = STREAM_IDLE_TIMEOUT_MS;
        if (!s->spec.creation_timeout_ms)
                s->spec.creation_timeout_ms = STREAM_CREATION_TIMEOUT_MS;
        for (size_t i = 0; i < LANES; i++)
                s->lanes[i] = (StreamChannel){ .session = s, .lane = (Lane)i, .number = (int)i };
        ws_parser_init(&s->ws, WS_SERVER, WS_MESSAGE_MAX);
        s->timer = timer_new(loop, on_timer, s);
        if (spec->protocol.framing != STREAM_CHANNELS)
                s->spdy = spdy_session_new(&stream_spdy_funcs, s);
        if (!s->timer || (spec->protocol.framing != STREAM_CHANNELS && !s->spdy))
                return kl_error_oom(err);
        s->lost = false;
        *ret = KL_STEAL(s);
        return 0;
}

void stream_session_start(StreamSession *s)
{
        stream_enter(s);
        s->last_activity = time_monotonic_ms();
        if (s->spec.protocol.kind == STREAM_REMOTE_COMMAND)
                s->deadline = s->last_activity + s->spec.creation_timeout_ms;
        stream_arm(s);
        s->mux->begin(s);
        stream_leave(s);
}

void *stream_session_data(const StreamSession *s)
{
        return s->spec.data;
}

/* --- input --- */

static size_t queued(const StreamSession *s)
{
        return s->lost ? 0 : s->spec.transport->queued(s->spec.transport_data);
}

static bool is_blocked(StreamSession *s)
{
        return s->blocked || queued(s) > QUEUE_FLOOD;
}

static int parse(StreamSession *s, size_t *ret_used, KlError **err)
{
        if (s->spec.protocol.framing == STREAM_SPDY)
                return s->mux->input(s, s->input.data, s->input.len, ret_used, err);
        return stream_websocket_input(s, s->input.data, s->input.len, ret_used, err);
}

/* Until there is no more, or somebody has to take something first. */
static void process(StreamSession *s)
{
        size_t used = 0;

        if (s->processing)
                return;
        s->processing = true;
        while (!stream_is_over(s) && !is_blocked(s) && (s->input.len > 0 || s->tunnel.len > 0)) {
                KL_AUTOERR err = NULL;
                bool was_tunnel = s->tunnel.len > 0;
                int r = was_tunnel ? s->mux->input(s, s->tunnel.data, s->tunnel.len, &used, &err)
                                   : parse(s, &used, &err);

                buf_consume(was_tunnel ? &s->tunnel : &s->input, used);
                if (r == 0 && buf_error(&s->tunnel))
                        r = kl_error_oom(&err);
                if (r < 0)
                        stream_over(s, r, err);
        }
        s->processing = false;
        if (stream_is_over(s))
                return;
        if (s->input.len == 0)
                buf_deinit(&s->input);
        if (s->tunnel.len == 0)
                buf_deinit(&s->tunnel);
        if (is_blocked(s) != s->paused) {
                s->paused = !s->paused;
                s->spec.transport->pause(s->paused, s->spec.transport_data);
        }
}

void stream_session_input(StreamSession *s, const char *bytes, size_t len)
{
        if (stream_is_over(s))
                return;
        stream_enter(s);
        s->last_activity = time_monotonic_ms();
        buf_add(&s->input, bytes, len);
        if (buf_error(&s->input)) {
                KL_AUTOERR err = NULL;

                stream_over(s, kl_error_oom(&err), err);
        }
        process(s);
        stream_leave(s);
}

void stream_session_eof(StreamSession *s)
{
        stream_enter(s);
        s->lost = true;
        stream_over(s, 0, NULL);
        stream_leave(s);
}

static bool has_owner(const StreamChannel *c)
{
        return !stream_is_over(c->session) && !c->session->finishing && !c->closed;
}

/* Gives the owner its input; returns how much it took. */
static size_t deliver(StreamChannel *c, const char *bytes, size_t len)
{
        StreamSession *s = c->session;
        size_t taken;

        c->delivering = true;
        taken = s->spec.funcs->input(c, bytes, len, s->spec.data);
        c->delivering = false;
        if (!stream_is_over(s) && taken > 0)
                s->mux->consumed(c, taken);
        return taken;
}

static bool is_full(const StreamChannel *c)
{
        return c->pending.len >= STREAM_PENDING_MAX;
}

static void deliver_end(StreamChannel *c)
{
        if (!c->in_ended || c->in_told || !c->live || c->pending.len > 0 || !has_owner(c))
                return;
        c->in_told = true;
        c->session->spec.funcs->input_end(c, c->session->spec.data);
}

/* Other channels' input is nobody's business. */
static bool has_input(const StreamChannel *c)
{
        return c->lane == LANE_DATA || (c->lane == LANE_STDIN && c->session->spec.in);
}

void stream_lane_input(StreamChannel *c, const char *bytes, size_t len)
{
        StreamSession *s = c->session;
        size_t taken = 0;

        if (c->lane == LANE_RESIZE && c->live && has_owner(c))
                stream_resize_input(s, bytes, len);
        if (!has_input(c) || !has_owner(c) || c->in_ended) {
                if (!stream_is_over(s))
                        s->mux->consumed(c, len);
                return;
        }
        if (c->live && c->pending.len == 0 && !c->delivering)
                taken = deliver(c, bytes, len);
        if (taken == len || !has_owner(c))
                return;
        buf_add(&c->pending, bytes + taken, len - taken);
        s->n_pending += len - taken;
        if (buf_error(&c->pending)) {
                KL_AUTOERR err = NULL;

                stream_over(s, kl_error_oom(&err), err);
        } else if (is_full(c) || s->n_pending >= STREAM_SESSION_PENDING_MAX) {
                s->blocked = true;
                if (s->spdy)
                        spdy_session_stop(s->spdy);
        }
}

void stream_lane_end(StreamChannel *c)
{
        c->in_ended = true;
        if (has_input(c))
                deliver_end(c);
}

void stream_unblock(StreamSession *s)
{
        bool full = is_full(&s->lanes[LANE_STDIN]);

        if (!s->blocked)
                return;
        list_for_each (c, &s->pairs, StreamChannel, link)
                full = full || (!c->closed && is_full(c));
        s->blocked = full || s->n_pending >= STREAM_SESSION_PENDING_MAX;
        process(s);
}

static void drain(StreamChannel *c)
{
        StreamSession *s = c->session;

        while (c->live && c->pending.len > 0 && has_owner(c)) {
                size_t len = c->pending.len;
                size_t taken = deliver(c, c->pending.data, len);

                if (!has_owner(c))
                        return;
                buf_consume(&c->pending, taken);
                s->n_pending -= taken;
                if (taken < len)
                        return;
        }
        if (c->pending.len == 0)
                buf_deinit(&c->pending);
        deliver_end(c);
}

void stream_resume(StreamChannel *c)
{
        StreamSession *s = c->session;

        if (!has_owner(c) || c->delivering)
                return;
        stream_enter(s);
        drain(c);
        if (!stream_is_over(s))
                stream_unblock(s);
        stream_leave(s);
}

/* --- output --- */

static StreamChannel *lane_of(StreamSession *s, Lane lane)
{
        return stream_wants_lane(s, lane) ? &s->lanes[lane] : NULL;
}

StreamChannel *stream_stdin(StreamSession *s)
{
        return lane_of(s, LANE_STDIN);
}

StreamChannel *stream_stdout(StreamSession *s)
{
        return lane_of(s, LANE_STDOUT);
}

StreamChannel *stream_stderr(StreamSession *s)
{
        return lane_of(s, LANE_STDERR);
}

StreamSession *stream_channel_session(const StreamChannel *c)
{
        return c->session;
}

void stream_channel_set_user(StreamChannel *c, void *user)
{
        c->user = user;
}

void *stream_channel_user(const StreamChannel *c)
{
        return c->user;
}

static size_t room(const StreamChannel *c)
{
        size_t window, used = queued(c->session), queue;

        if (!has_owner(c) || c->out_ended || !c->live)
                return 0;
        queue = used < STREAM_QUEUE_MAX ? STREAM_QUEUE_MAX - used : 0;
        if (queue < ROOM_MIN)
                return 0;
        if (c->session->spec.protocol.base64)
                queue = queue / 4 * 3;
        window = c->session->mux->window(c);
        return window < queue ? window : queue;
}

size_t stream_room(StreamChannel *c)
{
        size_t n = room(c);

        c->starved = n == 0;
        return n;
}

size_t stream_write(StreamChannel *c, const void *bytes, size_t len)
{
        StreamSession *s = c->session;
        const char *at = bytes;
        size_t left = stream_room(c);

        if (left > len)
                left = len;
        len = left;
        while (left > 0) {
                size_t n = left < WRITE_MAX ? left : WRITE_MAX;

                s->mux->write(c, at, n);
                at += n;
                left -= n;
        }
        if (len > 0)
                s->last_activity = time_monotonic_ms();
        return len;
}

void stream_end(StreamChannel *c)
{
        if (!has_owner(c))
                return;
        stream_enter(c->session);
        lane_end(c);
        /* kubectl waits for this before it lets go of its own client. */
        if (c->lane == LANE_DATA)
                lane_end(c->error);
        stream_leave(c->session);
}

void stream_lane_writable(StreamChannel *c)
{
        if (!c->starved || !has_owner(c) || room(c) == 0)
                return;
        c->starved = false;
        c->session->spec.funcs->writable(c, c->session->spec.data);
}

void stream_session_sent(StreamSession *s)
{
        if (stream_is_over(s))
                return;
        stream_enter(s);
        s->last_activity = time_monotonic_ms();
        for (size_t i = 0; i < LANES; i++)
                stream_lane_writable(&s->lanes[i]);
        list_for_each (c, &s->pairs, StreamChannel, link)
                stream_lane_writable(c);
        try_finish(s);
        process(s);
        stream_leave(s);
}
