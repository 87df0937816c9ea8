/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Channels as SPDY streams. A stream says by its headers what it is; one that does not fit is
 * refused. Streams whose channel is gone have no user any more: what they still bring is dropped,
 * and they are ended when the peer ends them.
 */

#include "server/stream-internal.h"

#include "base/str.h"

static void on_output(const void *head, size_t head_len, const void *body, size_t body_len,
                      void *data)
{
        StreamSession *s = data;
        const StreamTransport *t = s->spec.transport;

        if (s->lost)
                return;
        if (s->spec.protocol.framing == STREAM_TUNNEL) {
                stream_websocket_write(s, WS_BINARY, head, head_len, body, body_len);
                return;
        }
        t->write(head, head_len, s->spec.transport_data);
        if (body_len > 0)
                t->write(body, body_len, s->spec.transport_data);
}

static void attach(StreamChannel *c, SpdyStream *stream)
{
        spdy_stream_set_user(stream, c);
        c->spdy = stream;
        c->attached = true;
}

/* --- new streams --- */

static SpdyStatus offered_command(StreamSession *s, SpdyStream *stream, const char *type)
{
        static const char *const names[LANES] = { "stdin", "stdout", "stderr", "error", "resize" };

        for (size_t i = 0; i < LANES; i++) {
                if (!str_eq(type, names[i]))
                        continue;
                if (s->lanes[i].attached)
                        return SPDY_PROTOCOL_ERROR;
                attach(&s->lanes[i], stream);
                return SPDY_OK;
        }
        return SPDY_PROTOCOL_ERROR;
}

static StreamChannel *find_pair(StreamSession *s, const char *request_id)
{
        list_for_each (c, &s->pairs, StreamChannel, link)
                if (!c->live && !c->closed && str_eq(c->request_id, request_id))
                        return c;
        return NULL;
}

/* Old clients give no name: their streams come as error and data, with ids two apart. */
static const char *request_id_of(SpdyStream *stream, const char *header, bool is_error, char *buf,
                                 size_t size)
{
        if (!str_empty(header))
                return header;
        snprintf(buf, size, "%u", spdy_stream_id(stream) - (is_error ? 0 : 2));
        return buf;
}

static SpdyStatus offered_forward(StreamSession *s, SpdyStream *stream, const char *type,
                                  const HttpHeader *headers, size_t n)
{
        const char *port_text = http_header_get(headers, n, "port");
        bool is_error = str_eq(type, "error");
        StreamChannel *c, *half;
        char buf[16];
        const char *id = request_id_of(stream, http_header_get(headers, n, "requestid"), is_error,
                                       buf, sizeof(buf));
        uint64_t port;

        if ((!is_error && !str_eq(type, "data")) || strlen(id) > STREAM_REQUEST_ID_MAX)
                return SPDY_PROTOCOL_ERROR;
        if (!port_text || str_to_u64(port_text, UINT16_MAX, &port) < 0 || port == 0)
                return SPDY_PROTOCOL_ERROR;
        c = find_pair(s, id);
        if (!c && s->n_pairs >= STREAM_PAIRS_MAX)
                return SPDY_REFUSED_STREAM;
        if (!c)
                c = stream_pair_new(s, (uint16_t)port, id);
        if (!c)
                return SPDY_INTERNAL_ERROR;
        half = is_error ? c->error : c;
        if (half->attached)
                return SPDY_PROTOCOL_ERROR;
        if (!is_error)
                c->port = (uint16_t)port;
        attach(half, stream);
        stream_arm(s);
        return SPDY_OK;
}

static SpdyStatus on_offered(SpdyStream *stream, const HttpHeader *headers, size_t n, void *data)
{
        StreamSession *s = data;
        const char *type = http_header_get(headers, n, "streamtype");

        if (stream_is_over(s) || s->finishing)
                return SPDY_REFUSED_STREAM;
        if (s->spec.protocol.kind == STREAM_PORT_FORWARD)
                return offered_forward(s, stream, type, headers, n);
        return offered_command(s, stream, type);
}

static bool all_there(const StreamSession *s)
{
        for (size_t i = 0; i < LANES; i++)
                if (stream_wants_lane(s, (Lane)i) && !s->lanes[i].attached)
                        return false;
        return true;
}

static void on_opened(SpdyStream *stream, void *data)
{
        StreamSession *s = data;
        StreamChannel *c = spdy_stream_user(stream);

        if (!c || stream_is_over(s))
                return;
        if (c->lane == LANE_DATA_ERROR)
                c = c->data;
        if (c->lane == LANE_DATA && c->attached && c->error->attached)
                stream_pair_connect(c);
        else if (c->lane < LANES && all_there(s))
                stream_start_command(s);
        if (stream_is_over(s))
                spdy_session_stop(s->spdy);
}

/* --- their life --- */

static void on_input(SpdyStream *stream, const char *bytes, size_t len, void *data)
{
        StreamSession *s = data;
        StreamChannel *c = spdy_stream_user(stream);

        if (c)
                stream_lane_input(c, bytes, len);
        else
                spdy_stream_consumed(stream, len);
        if (stream_is_over(s))
                spdy_session_stop(s->spdy);
}

static void on_input_end(SpdyStream *stream, void *data)
{
        StreamSession *s = data;
        StreamChannel *c = spdy_stream_user(stream);

        if (c)
                stream_lane_end(c);
        else
                spdy_stream_end(stream);
        if (stream_is_over(s))
                spdy_session_stop(s->spdy);
}

static void on_writable(SpdyStream *stream, void *data)
{
        StreamSession *s = data;
        StreamChannel *c = spdy_stream_user(stream);

        if (c && s->finishing)
                stream_session_sent(s);
        else if (c)
                stream_lane_writable(c);
        if (stream_is_over(s))
                spdy_session_stop(s->spdy);
}

static void check_left(StreamSession *s, size_t n_streams)
{
        if (s->goaway && n_streams == 0)
                stream_over(s, 0, NULL);
}

static void on_gone(SpdyStream *stream, SpdyStatus status, void *data)
{
        StreamSession *s = data;
        StreamChannel *c = spdy_stream_user(stream);

        if (c) {
                c->spdy = NULL;
                if (c->lane == LANE_DATA && status != SPDY_OK)
                        stream_pair_drop(c, true);
                else if (c->lane == LANE_STDIN)
                        stream_lane_end(c);
        }
        if (!stream_is_over(s))
                check_left(s, spdy_session_n_streams(s->spdy) - 1);
        if (stream_is_over(s))
                spdy_session_stop(s->spdy);
}

static void on_goaway(void *data)
{
        StreamSession *s = data;

        s->goaway = true;
        check_left(s, spdy_session_n_streams(s->spdy));
        if (stream_is_over(s))
                spdy_session_stop(s->spdy);
}

const SpdyFuncs stream_spdy_funcs = {
        .output = on_output,
        .offered = on_offered,
        .opened = on_opened,
        .input = on_input,
        .input_end = on_input_end,
        .writable = on_writable,
        .gone = on_gone,
        .goaway = on_goaway,
};

/* --- the mux --- */

static int mux_input(StreamSession *s, char *bytes, size_t len, size_t *ret_used, KlError **err)
{
        return spdy_session_input(s->spdy, bytes, len, ret_used, err);
}

static void mux_begin(StreamSession *s)
{
}

/* What is written to a stream that the peer has reset goes nowhere, and stops nobody. */
static size_t mux_window(const StreamChannel *c)
{
        return c->spdy ? spdy_stream_room(c->spdy) : SIZE_MAX;
}

static void mux_write(StreamChannel *c, const void *bytes, size_t len)
{
        if (c->spdy)
                spdy_stream_write(c->spdy, bytes, len);
}

static void mux_end(StreamChannel *c)
{
        if (c->spdy)
                spdy_stream_end(c->spdy);
}

static void mux_consumed(StreamChannel *c, size_t len)
{
        if (c->spdy)
                spdy_stream_consumed(c->spdy, len);
        else
                spdy_session_consumed(c->session->spdy, len);
}

static void mux_detach(StreamChannel *c)
{
        if (c->spdy)
                spdy_stream_set_user(c->spdy, NULL);
        c->spdy = NULL;
}

static void mux_goodbye(StreamSession *s, int error)
{
        spdy_session_goaway(s->spdy, error == 0 || error == -ESHUTDOWN || error == -ETIMEDOUT
                                             ? SPDY_GOAWAY_OK
                                             : SPDY_GOAWAY_PROTOCOL_ERROR);
        if (s->spec.protocol.framing == STREAM_TUNNEL)
                stream_websocket_close(s, error);
}

const StreamMux stream_spdy_mux = {
        .input = mux_input,
        .begin = mux_begin,
        .window = mux_window,
        .write = mux_write,
        .end = mux_end,
        .consumed = mux_consumed,
        .detach = mux_detach,
        .goodbye = mux_goodbye,
};
