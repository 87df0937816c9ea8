/* SPDX-License-Identifier: Apache-2.0 */

#include "server/stream-pump.h"

#include "base/file.h"

#include <sys/socket.h>

#define READ_SIZE (64U << 10)
/* Per wake-up, so that a flood leaves the loop its turns. */
#define READS_PER_TURN 8

struct StreamPump {
        StreamPumpSpec spec;
        Watch *watch;
        bool in, out;  /* directions that are still open */
        bool starved;  /* the channel has no room */
        bool waiting;  /* the descriptor takes no more now */
        bool draining; /* what is there is all */
        bool socket;
        unsigned int events; /* that are asked for */
};

static unsigned int wanted_events(const StreamPump *p)
{
        /* A pipe's other end may go while nothing is written to it. */
        return (p->out && !p->starved ? WATCH_READ : 0) | (p->in && p->waiting ? WATCH_WRITE : 0) |
               (p->in && !p->socket ? WATCH_HANGUP : 0);
}

static void follow(StreamPump *p)
{
        unsigned int events = wanted_events(p);

        if (events != p->events)
                watch_set(p->watch, events);
        p->events = events;
}

static void close_if_done(StreamPump *p)
{
        if (p->in || p->out) {
                follow(p);
                return;
        }
        p->watch = watch_free(p->watch);
        p->spec.fd = kl_close(p->spec.fd);
}

/* --- to the client --- */

static void out_ended(StreamPump *p)
{
        p->out = false;
        close_if_done(p);
        stream_end(p->spec.channel);
        p->spec.func(p, PUMP_OUT_ENDED, p->spec.data);
}

/* One read; false when there is no more for now. */
static bool move_out(StreamPump *p, bool *ret_ended)
{
        char chunk[READ_SIZE];
        size_t room = stream_room(p->spec.channel);
        ssize_t n;

        p->starved = room == 0;
        if (p->starved)
                return false;
        n = read(p->spec.fd, chunk, room < sizeof(chunk) ? room : sizeof(chunk));
        if (n > 0) {
                stream_write(p->spec.channel, chunk, (size_t)n);
                return true;
        }
        if (n < 0 && errno == EINTR)
                return true;
        /* A connection that broke is over both ways. */
        if (n < 0 && errno != EAGAIN)
                p->in = false;
        *ret_ended = n == 0 || errno != EAGAIN || p->draining;
        return false;
}

static void pump_out(StreamPump *p)
{
        bool ended = false;

        for (int i = 0; i < READS_PER_TURN && move_out(p, &ended); i++)
                ;
        if (ended)
                out_ended(p);
        else
                follow(p);
}

void stream_pump_writable(StreamPump *p)
{
        if (p->out && p->starved)
                pump_out(p);
}

void stream_pump_drain(StreamPump *p)
{
        if (!p->out)
                return;
        p->draining = true;
        if (!p->starved)
                pump_out(p);
}

/* --- from the client --- */

static void in_failed(StreamPump *p)
{
        p->in = false;
        close_if_done(p);
        p->spec.func(p, PUMP_IN_FAILED, p->spec.data);
}

size_t stream_pump_input(StreamPump *p, const char *bytes, size_t len)
{
        ssize_t n;

        if (!p->in)
                return len;
        do
                n = p->socket ? send(p->spec.fd, bytes, len, MSG_NOSIGNAL)
                              : write(p->spec.fd, bytes, len);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno != EAGAIN) {
                in_failed(p);
                return len;
        }
        if (n < 0)
                n = 0;
        if ((size_t)n < len) {
                p->waiting = true;
                follow(p);
        }
        return (size_t)n;
}

void stream_pump_input_end(StreamPump *p)
{
        if (!p->in)
                return;
        p->in = false;
        if (p->socket)
                shutdown(p->spec.fd, SHUT_WR);
        close_if_done(p);
}

bool stream_pump_is_done(const StreamPump *p)
{
        return !p->in && !p->out;
}

static void on_event(Watch *watch, int fd, unsigned int events, void *data)
{
        StreamPump *p = data;

        /* Either may free the pump: the other comes with the next turn. */
        if (p->in && p->waiting && (events & WATCH_WRITE)) {
                p->waiting = false;
                follow(p);
                stream_resume(p->spec.channel);
        } else if (p->out && !p->starved && (events & WATCH_READ)) {
                pump_out(p);
        } else if (p->in && (events & WATCH_HANGUP)) {
                in_failed(p);
        }
}

int stream_pump_new(Loop *loop, const StreamPumpSpec *spec, StreamPump **ret)
{
        KL_AUTOFD int fd = spec->fd;
        KL_AUTOFREE StreamPump *p = calloc(1, sizeof(*p));
        socklen_t len = sizeof(int);
        int type;

        if (!p)
                return -ENOMEM;
        p->spec = *spec;
        p->in = spec->directions & PUMP_IN;
        p->out = spec->directions & PUMP_OUT;
        p->socket = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0;
        KL_TRY(fd_set_nonblock(fd, true));
        p->events = wanted_events(p);
        KL_TRY(watch_new(loop, fd, p->events, on_event, p, &p->watch));
        KL_STEAL_FD(fd);
        *ret = KL_STEAL(p);
        return 0;
}

StreamPump *stream_pump_free(StreamPump *p)
{
        if (p) {
                watch_free(p->watch);
                kl_close(p->spec.fd);
                free(p);
        }
        return NULL;
}
