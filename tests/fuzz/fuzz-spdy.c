/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A SPDY session: in one piece and in pieces the same is answered. Odd first byte: what follows is
 * a header block before its compression, for the parser behind it.
 */

#include "codec/spdy.h"

#include "base/buf.h"

#include <assert.h>
#include <zlib.h>

typedef struct Outcome {
        size_t n_out, n_in, n_streams;
        uint32_t sum;
        int result;
        unsigned int actions;
} Outcome;

static void on_output(const void *head, size_t head_len, const void *body, size_t body_len,
                      void *data)
{
        Outcome *o = data;
        const unsigned char *bytes = head;

        assert(head_len >= 8);
        /* Window updates come when they come; everything else in the same order. */
        if (bytes[0] == 0x80 && bytes[3] == 9)
                return;
        o->n_out++;
        for (size_t i = 0; i < head_len; i++)
                o->sum = o->sum * 31 + bytes[i];
}

static SpdyStatus on_offered(SpdyStream *stream, const HttpHeader *headers, size_t n, void *data)
{
        Outcome *o = data;

        assert(n <= SPDY_HEADERS_MAX);
        for (size_t i = 0; i < n; i++)
                o->sum = o->sum * 31 +
                         (uint32_t)(strlen(headers[i].name) + strlen(headers[i].value));
        return spdy_stream_id(stream) % 16 == 15 ? SPDY_REFUSED_STREAM : SPDY_OK;
}

static void on_opened(SpdyStream *stream, void *data)
{
        size_t room = spdy_stream_room(stream);

        spdy_stream_write(stream, "hello", room < 5 ? room : 5);
}

static void on_input(SpdyStream *stream, const char *bytes, size_t len, void *data)
{
        Outcome *o = data;

        o->n_in += len;
        for (size_t i = 0; i < len; i++)
                o->sum += (unsigned char)bytes[i];
        spdy_stream_consumed(stream, len);
}

static void on_input_end(SpdyStream *stream, void *data)
{
        if (spdy_stream_id(stream) & 2)
                spdy_stream_end(stream);
        else if (spdy_stream_id(stream) & 4)
                spdy_stream_reset(stream, SPDY_CANCEL);
}

static void on_writable(SpdyStream *stream, void *data)
{
        assert(spdy_stream_room(stream) > 0);
}

static void on_gone(SpdyStream *stream, SpdyStatus status, void *data)
{
        ((Outcome *)data)->sum += status;
}

static void on_goaway(void *data)
{
}

static const SpdyFuncs funcs = { on_output,    on_offered,  on_opened, on_input,
                                 on_input_end, on_writable, on_gone,   on_goaway };

static Outcome run(const char *data, size_t size, size_t step)
{
        Outcome o = { 0 };
        KL_AUTO(spdy_session_free) SpdySession *s = spdy_session_new(&funcs, &o);

        for (size_t at = 0; at < size && o.result == 0; at += step) {
                size_t len = size - at < step ? size - at : step, used;
                KL_AUTOFREE char *piece = malloc(len);

                memcpy(piece, data + at, len);
                o.result = spdy_session_input(s, piece, len, &used, NULL);
                assert(used <= len && (o.result < 0 || used == len));
        }
        o.n_streams = spdy_session_n_streams(s);
        assert(o.n_streams <= SPDY_STREAMS_MAX);
        return o;
}

/* A SYN_STREAM with this block, compressed without the dictionary. */
static void wrap(Buf *to, const uint8_t *block, size_t len)
{
        z_stream z = { 0 };
        size_t bound;
        char *at;

        deflateInit(&z, 1);
        bound = deflateBound(&z, len) + 32;
        buf_add(to, "\x80\x03\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0", 18);
        at = buf_reserve(to, bound);
        z.next_in = (unsigned char *)(uintptr_t)block;
        z.avail_in = (unsigned int)len;
        z.next_out = (unsigned char *)at;
        z.avail_out = (unsigned int)bound;
        deflate(&z, Z_SYNC_FLUSH);
        bound -= z.avail_out;
        buf_commit(to, bound);
        deflateEnd(&z);
        bound += 10;
        for (size_t i = 0; i < 3; i++)
                to->data[5 + i] = (char)(bound >> (8 * (2 - i)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTOBUF frame = BUF_INIT;
        Outcome whole, pieces;
        const char *input = (const char *)data + 2;
        size_t len = size - 2;

        if (size < 3 || size > 256 * 1024)
                return 0;
        if (data[0] & 1) {
                wrap(&frame, data + 2, len);
                input = frame.data;
                len = frame.len;
        }
        whole = run(input, len, len);
        pieces = run(input, len, (size_t)data[1] + 1);
        assert(whole.result == pieces.result && whole.n_in == pieces.n_in &&
               whole.n_out == pieces.n_out && whole.sum == pieces.sum &&
               whole.n_streams == pieces.n_streams);
        return 0;
}
