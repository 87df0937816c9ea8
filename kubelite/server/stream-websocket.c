/* SPDX-License-Identifier: Apache-2.0 */

/*
 * WebSocket, in its two uses: messages that begin with a channel's number (a byte, or with base64 a
 * character counted from '0'), and messages that are pieces of a SPDY connection.
 *
 * There are no windows here: a client that does not read is held back by the transport alone.
 */

#include "server/stream-internal.h"

#include "base/str.h"

/* --- output --- */

void stream_websocket_write(StreamSession *s, WsOpcode opcode, const void *head, size_t head_len,
                            const void *body, size_t body_len)
{
        char frame[WS_HEAD_MAX + 32 + WS_CONTROL_MAX];
        size_t n = ws_write_head(frame, opcode, true, head_len + body_len);
        bool fits = n + head_len <= sizeof(frame);

        if (s->lost)
                return;
        if (fits && head_len > 0)
                memcpy(frame + n, head, head_len);
        s->spec.transport->write(frame, n + (fits ? head_len : 0), s->spec.transport_data);
        if (!fits)
                s->spec.transport->write(head, head_len, s->spec.transport_data);
        if (body_len > 0)
                s->spec.transport->write(body, body_len, s->spec.transport_data);
}

void stream_websocket_close(StreamSession *s, int error)
{
        KL_AUTOBUF frame = BUF_INIT;
        uint16_t code = error == 0                                   ? WS_CLOSE_NORMAL
                        : error == -ESHUTDOWN || error == -ETIMEDOUT ? WS_CLOSE_GOING_AWAY
                        : error == -EPROTONOSUPPORT                  ? WS_CLOSE_UNSUPPORTED
                                                                     : ws_close_code(error);

        if (s->closing)
                return;
        s->closing = true;
        ws_write_close(&frame, WS_SERVER, code, "");
        if (!buf_error(&frame) && !s->lost)
                s->spec.transport->write(frame.data, frame.len, s->spec.transport_data);
}

/* --- input: channels --- */

static StreamChannel *find_channel(StreamSession *s, unsigned int number)
{
        if (s->spec.protocol.kind == STREAM_REMOTE_COMMAND)
                return number < LANES ? &s->lanes[number] : NULL;
        list_for_each (c, &s->pairs, StreamChannel, link)
                if (!c->closed && (unsigned int)c->number == number)
                        return c;
        return NULL;
}

static int channel_payload(StreamSession *s, char *bytes, size_t len, KlError **err)
{
        StreamChannel *c = find_channel(s, s->channel);
        ssize_t n = (ssize_t)len;

        if (s->channel == CHANNEL_CLOSE && s->spec.protocol.version >= 5) {
                c = len > 0 ? find_channel(s, (unsigned char)bytes[0]) : NULL;
                if (c)
                        stream_lane_end(c);
                return 0;
        }
        if (s->spec.protocol.base64)
                n = base64_decode(&s->decoder, bytes, len, bytes);
        if (n < 0)
                return kl_error(err, -EILSEQ, NULL, "malformed base64 from the client");
        if (c && n > 0)
                stream_lane_input(c, bytes, (size_t)n);
        return 0;
}

static int channel_input(StreamSession *s, const WsPart *part, KlError **err)
{
        char *bytes = part->data;
        size_t len = part->len;
        int r = 0;

        if (!s->in_message && len > 0) {
                s->in_message = true;
                s->decoder = (Base64Decoder){ 0 };
                s->channel = (unsigned char)*bytes;
                if (s->spec.protocol.base64)
                        s->channel = (unsigned char)(s->channel - '0');
                bytes++;
                len--;
        }
        if (s->in_message && len > 0)
                r = channel_payload(s, bytes, len, err);
        if (!part->end)
                return r;
        if (r == 0 && s->in_message && !base64_decoder_done(&s->decoder))
                r = kl_error(err, -EILSEQ, NULL, "malformed base64 from the client");
        s->in_message = false;
        return r;
}

/* --- input: frames --- */

static int data_input(StreamSession *s, const WsPart *part, KlError **err)
{
        if (s->spec.protocol.framing != STREAM_TUNNEL)
                return channel_input(s, part, err);
        if (part->text)
                return kl_error(err, -EPROTONOSUPPORT, NULL, "SPDY does not come as text");
        buf_add(&s->tunnel, part->data, part->len);
        return 0;
}

int stream_websocket_input(StreamSession *s, char *bytes, size_t len, size_t *ret_used,
                           KlError **err)
{
        WsPart part;

        KL_TRY(ws_parse(&s->ws, bytes, len, ret_used, &part, err));
        switch (part.type) {
        case WS_PART_DATA:
                return data_input(s, &part, err);
        case WS_PART_PING:
                stream_websocket_write(s, WS_PONG, part.data, part.len, NULL, 0);
                return 0;
        case WS_PART_CLOSE:
                stream_over(s, 0, NULL);
                return 0;
        case WS_PART_PONG:
        case WS_PART_MORE:
        default:
                return 0;
        }
}

/* --- the mux --- */

static void mux_write(StreamChannel *c, const void *bytes, size_t len)
{
        StreamSession *s = c->session;
        unsigned char number = (unsigned char)c->number;
        KL_AUTOBUF text = BUF_INIT;

        if (!s->spec.protocol.base64) {
                stream_websocket_write(s, WS_BINARY, &number, 1, bytes, len);
                return;
        }
        number = (unsigned char)(number + '0');
        base64_encode(&text, bytes, len);
        if (!buf_error(&text))
                stream_websocket_write(s, WS_TEXT, &number, 1, text.data, text.len);
}

/* An empty message on the lowest channel that we write tells that the connection is made. */
static void begin_command(StreamSession *s)
{
        Lane lane = s->spec.out ? LANE_STDOUT : s->spec.err ? LANE_STDERR : LANE_ERROR;

        for (size_t i = 0; i < LANES; i++)
                s->lanes[i].attached = true;
        mux_write(&s->lanes[lane], NULL, 0);
        stream_start_command(s);
}

/* Two channels a port; on each the port is told first, in two bytes. */
static void begin_forward(StreamSession *s)
{
        for (size_t i = 0; i < s->spec.n_ports; i++) {
                unsigned char port[2] = { (unsigned char)s->ports[i],
                                          (unsigned char)(s->ports[i] >> 8) };
                StreamChannel *c = stream_pair_new(s, s->ports[i], "");
                KL_AUTOERR err = NULL;

                if (!c) {
                        stream_over(s, kl_error_oom(&err), err);
                        return;
                }
                c->number = (int)(2 * i);
                c->error->number = (int)(2 * i + 1);
                c->attached = c->error->attached = true;
                mux_write(c, port, sizeof(port));
                mux_write(c->error, port, sizeof(port));
        }
        list_for_each (c, &s->pairs, StreamChannel, link) {
                if (stream_is_over(s))
                        return;
                stream_pair_connect(c);
        }
}

static void mux_begin(StreamSession *s)
{
        if (s->spec.protocol.kind == STREAM_REMOTE_COMMAND)
                begin_command(s);
        else
                begin_forward(s);
}

static size_t mux_window(const StreamChannel *c)
{
        return SIZE_MAX;
}

static void mux_nothing(StreamChannel *c)
{
}

static void mux_consumed(StreamChannel *c, size_t len)
{
}

const StreamMux stream_channels_mux = {
        .begin = mux_begin,
        .window = mux_window,
        .write = mux_write,
        .end = mux_nothing,
        .consumed = mux_consumed,
        .detach = mux_nothing,
        .goodbye = stream_websocket_close,
};
