/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A client's bytes into streaming sessions of every protocol, with an owner that now takes its
 * input and now does not, writes, closes, finishes and frees as further bytes say. What is asserted
 * is that memory stays within its limits and that nothing follows the last callback.
 */

#include "server/stream-internal.h"

#include <assert.h>

typedef struct Owner {
        Loop *loop;
        StreamSession *session;
        const uint8_t *actions;
        size_t n_actions, at;
        size_t queued;
        bool closed, transport_closed;
} Owner;

static unsigned int action(Owner *o)
{
        return o->n_actions ? o->actions[o->at++ % o->n_actions] : 0;
}

static void t_write(const void *bytes, size_t len, void *data)
{
        Owner *o = data;

        assert(!o->transport_closed);
        o->queued += len;
        assert(o->queued < 2 * STREAM_QUEUE_MAX);
}

static size_t t_queued(void *data)
{
        return ((Owner *)data)->queued;
}

static void t_pause(bool paused, void *data)
{
        assert(!((Owner *)data)->transport_closed);
}

static void t_close(void *data)
{
        Owner *o = data;

        assert(!o->transport_closed);
        o->transport_closed = true;
}

static const StreamTransport transport = { t_write, t_queued, t_pause, t_close };

static void perhaps_end(Owner *o)
{
        unsigned int what = action(o);

        if (!o->session)
                return;
        if (what == 255)
                o->session = stream_session_free(o->session);
        else if (what == 254)
                stream_finish_exit(o->session, 1);
        else if (what == 253)
                stream_finish_error(o->session, "why not");
}

static void o_started(StreamSession *s, void *data)
{
        perhaps_end(data);
}

static void act(Owner *o, StreamChannel *c)
{
        unsigned int what = action(o);
        char bytes[300] = "output";

        if (what & 1)
                stream_write(c, bytes, what);
        if ((what & 0x0e) == 0x0e)
                stream_end(c);
        if (what > 200)
                stream_resume(c);
}

static void o_connect(StreamSession *s, StreamChannel *c, uint16_t port, void *data)
{
        assert(port > 0);
        act(data, c);
        if (action(data) > 240)
                stream_forward_close(c, "refused");
}

static size_t o_input(StreamChannel *c, const char *bytes, size_t len, void *data)
{
        Owner *o = data;
        size_t n = action(o);

        act(o, c);
        if (n > 250 && o->session && o->session->spec.protocol.kind == STREAM_PORT_FORWARD)
                stream_forward_close(c, "enough");
        perhaps_end(o);
        return n > 128 || n > len ? len : n;
}

static void o_input_end(StreamChannel *c, void *data)
{
        act(data, c);
        perhaps_end(data);
}

static void o_writable(StreamChannel *c, void *data)
{
        act(data, c);
}

static void o_gone(StreamChannel *c, void *data)
{
        act(data, c);
}

static void o_resize(StreamSession *s, uint16_t columns, uint16_t rows, void *data)
{
        perhaps_end(data);
}

static void o_closed(StreamSession *s, const KlError *err, void *data)
{
        Owner *o = data;

        assert(!o->closed);
        o->closed = true;
        if (action(o) & 1)
                o->session = stream_session_free(s);
}

static const StreamFuncs funcs = { o_started,  o_connect, o_input,  o_input_end,
                                   o_writable, o_gone,    o_resize, o_closed };

static const StreamProtocol protocols[] = {
        { STREAM_REMOTE_COMMAND, STREAM_SPDY, 4 },
        { STREAM_REMOTE_COMMAND, STREAM_SPDY, 2 },
        { STREAM_PORT_FORWARD, STREAM_SPDY, 1 },
        { STREAM_PORT_FORWARD, STREAM_TUNNEL, 1 },
        { STREAM_REMOTE_COMMAND, STREAM_CHANNELS, 5 },
        { STREAM_REMOTE_COMMAND, STREAM_CHANNELS, 4, true },
        { STREAM_PORT_FORWARD, STREAM_CHANNELS, 4 },
        { STREAM_PORT_FORWARD, STREAM_CHANNELS, 4, true },
};

static void between(Owner *o)
{
        StreamSession *s = o->session;
        unsigned int what = action(o);

        assert(s->n_pending <= STREAM_SESSION_PENDING_MAX + STREAM_PENDING_MAX);
        if (what & 1)
                o->queued = 0;
        if (what & 2)
                stream_session_sent(s);
        if (o->session && what & 4 && stream_stdin(s))
                stream_resume(stream_stdin(s));
        if (o->session && what == 0xf8)
                stream_session_eof(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static Loop *loop;
        Owner o = { 0 };
        StreamSpec spec = { .in = true,
                            .out = true,
                            .err = true,
                            .transport = &transport,
                            .funcs = &funcs,
                            .transport_data = &o,
                            .data = &o,
                            .ports = (const uint16_t[]){ 1, 2, 3 },
                            .n_ports = 3 };

        if (size < 3 || size < 3 + (size_t)data[2] || (!loop && loop_new(&loop, NULL) < 0))
                return 0;
        o.actions = data + 3;
        o.n_actions = data[2];
        spec.protocol = protocols[data[0] % (sizeof(protocols) / sizeof(protocols[0]))];
        spec.tty = data[0] & 0x80;
        if (stream_session_new(loop, &spec, &o.session, NULL) < 0)
                return 0;
        stream_session_start(o.session);
        for (size_t at = 3 + (size_t)data[2], n; o.session && at < size; at += n) {
                n = (size_t)data[1] * 16 + 1;
                n = n < size - at ? n : size - at;
                if (!o.session->paused)
                        stream_session_input(o.session, (const char *)data + at, n);
                if (o.session)
                        between(&o);
        }
        stream_session_free(o.session);
        loop_turn(loop, false);
        assert(o.transport_closed || o.closed);
        return 0;
}
