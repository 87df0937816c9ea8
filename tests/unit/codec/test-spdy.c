/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A session against bytes of an independent client (spdy-vectors.h). What happens is written down
 * as a line of words: streams by id, "+3" opened, "3:bytes", "3." input ended, "3!5" gone (status),
 * "3w" writable, "away"; what is sent, as its frames: "reply3", "rst3/1", "ping7", "wu3+32768",
 * "goaway3/1", "data3:bytes" and "fin3".
 */

#include "base/str.h"
#include "codec/spdy-internal.h"
#include "tests/unit/unit.h"

#include "spdy-vectors.h"

#include <zlib.h>

typedef struct Peer {
        SpdySession *session;
        SpdyInflate *inflate;
        Buf log;
        bool refuse, echo, hold, stop, end_on_end, reset_on_input;
        SpdyStream *last;
        char types[8][16];
} Peer;

static void log_control(Peer *p, const char *frame, size_t len)
{
        uint32_t type = spdy_u32(frame) & 0xffff, id = spdy_u32(frame + 8) & SPDY_ID_MAX;
        uint32_t second = len >= 16 ? spdy_u32(frame + 12) : 0;
        SpdyHeaders headers;

        assert_int_equal(spdy_u32(frame) >> 16, 0x8003);
        assert_int_equal(spdy_u32(frame + 4) & 0xffffff, len - 8);
        if (type == SPDY_SYN_REPLY) {
                buf_addf(&p->log, "reply%u ", id);
                assert_int_equal(
                        spdy_headers_read(p->inflate, frame + 12, len - 12, &headers, NULL), 0);
                assert_int_equal(headers.n, 0);
                buf_deinit(&headers.text);
        } else if (type == SPDY_RST_STREAM) {
                buf_addf(&p->log, "rst%u/%u ", id, second);
        } else if (type == SPDY_PING) {
                buf_addf(&p->log, "ping%u ", id);
        } else if (type == SPDY_GOAWAY) {
                buf_addf(&p->log, "goaway%u/%u ", id, second);
        } else if (type == SPDY_WINDOW_UPDATE) {
                buf_addf(&p->log, "wu%u+%u ", id, second);
        } else {
                fail();
        }
}

static void on_output(const void *head, size_t head_len, const void *body, size_t body_len,
                      void *data)
{
        Peer *p = data;
        const char *frame = head;

        if (frame[0] & 0x80) {
                log_control(p, frame, head_len);
                return;
        }
        assert_int_equal(head_len, 8);
        assert_int_equal(spdy_u32(frame + 4) & 0xffffff, body_len);
        if (body_len > 100)
                buf_addf(&p->log, "data%u:%zu ", spdy_u32(frame), body_len);
        else if (body_len > 0)
                buf_addf(&p->log, "data%u:%.*s ", spdy_u32(frame), (int)body_len,
                         (const char *)body);
        if (frame[4] & 1)
                buf_addf(&p->log, "fin%u ", spdy_u32(frame));
}

static SpdyStatus on_offered(SpdyStream *stream, const HttpHeader *headers, size_t n, void *data)
{
        Peer *p = data;
        const char *type = http_header_get(headers, n, "streamType");
        uint32_t slot = spdy_stream_id(stream) / 2;

        if (type && slot < ELEMENTS(p->types))
                snprintf(p->types[slot], sizeof(p->types[slot]), "%s", type);
        return p->refuse ? SPDY_REFUSED_STREAM : SPDY_OK;
}

static void on_opened(SpdyStream *stream, void *data)
{
        Peer *p = data;

        p->last = stream;
        buf_addf(&p->log, "+%u ", spdy_stream_id(stream));
}

static void on_input(SpdyStream *stream, const char *bytes, size_t len, void *data)
{
        Peer *p = data;

        if (len > 100)
                buf_addf(&p->log, "%u:%zu ", spdy_stream_id(stream), len);
        else
                buf_addf(&p->log, "%u:%.*s ", spdy_stream_id(stream), (int)len, bytes);
        if (p->reset_on_input) {
                spdy_stream_reset(stream, SPDY_CANCEL);
                return;
        }
        if (p->echo)
                spdy_stream_write(stream, bytes, len);
        if (!p->hold)
                spdy_stream_consumed(stream, len);
        if (p->stop)
                spdy_session_stop(p->session);
}

static void on_input_end(SpdyStream *stream, void *data)
{
        Peer *p = data;

        buf_addf(&p->log, "%u. ", spdy_stream_id(stream));
        if (p->end_on_end)
                spdy_stream_end(stream);
}

static void on_writable(SpdyStream *stream, void *data)
{
        buf_addf(&((Peer *)data)->log, "%uw ", spdy_stream_id(stream));
}

static void on_gone(SpdyStream *stream, SpdyStatus status, void *data)
{
        buf_addf(&((Peer *)data)->log, "%u!%u ", spdy_stream_id(stream), status);
}

static void on_goaway(void *data)
{
        buf_add_str(&((Peer *)data)->log, "away ");
}

static const SpdyFuncs funcs = { on_output,    on_offered,  on_opened, on_input,
                                 on_input_end, on_writable, on_gone,   on_goaway };

static int setup(void **state)
{
        Peer *p = calloc(1, sizeof(*p));

        p->session = spdy_session_new(&funcs, p);
        p->inflate = spdy_inflate_new();
        *state = p;
        return p->session && p->inflate ? 0 : -1;
}

static int teardown(void **state)
{
        Peer *p = *state;

        spdy_session_free(p->session);
        spdy_inflate_free(p->inflate);
        buf_deinit(&p->log);
        free(p);
        return 0;
}

static int feed(Peer *p, const char *bytes, size_t len)
{
        size_t used;
        int r = spdy_session_input(p->session, bytes, len, &used, NULL);

        if (r == 0)
                assert_int_equal(used, len);
        return r;
}

#define FEED(p, literal) feed(p, literal, sizeof(literal) - 1)

static void feed_vectors(Peer *p, const struct SpdyVector *v, size_t n)
{
        for (size_t i = 0; i < n; i++)
                assert_int_equal(feed(p, v[i].bytes, v[i].len), 0);
}

static void expect(Peer *p, const char *want)
{
        assert_string_equal(buf_str(&p->log), want);
        buf_clear(&p->log);
}

/* Opens 1, 3, 5, 7 and 9. */
static void open_command(Peer *p)
{
        feed_vectors(p, vector_command, N_COMMAND);
        buf_clear(&p->log);
}

static void test_open(void **state)
{
        Peer *p = *state;

        feed_vectors(p, vector_command, N_COMMAND);
        expect(p, "reply1 +1 reply3 +3 reply5 +5 reply7 +7 reply9 +9 ");
        assert_string_equal(p->types[0], "error");
        assert_string_equal(p->types[1], "stdin");
        assert_string_equal(p->types[2], "stdout");
        assert_string_equal(p->types[3], "stderr");
        assert_string_equal(p->types[4], "resize");
        assert_int_equal(spdy_session_n_streams(p->session), 5);
}

/* The same, however the bytes come. */
static void test_pieces(void **state)
{
        Peer *p = *state;
        KL_AUTOBUF all = BUF_INIT;

        for (size_t i = 0; i < 2; i++)
                buf_add(&all, vector_command[i].bytes, vector_command[i].len);
        buf_add(&all,
                "\0\0\0\x03\0\0\0\x05hello\0\0\0\x03\x01\0\0\0\x80\x03\0\x06\0\0\0\x04\0\0\0\x07",
                33);
        for (size_t i = 0; i < all.len; i++)
                assert_int_equal(feed(p, all.data + i, 1), 0);
        expect(p, "reply1 +1 reply3 +3 3:h 3:e 3:l 3:l 3:o 3. ping7 ");
}

static void test_data(void **state)
{
        Peer *p = *state;

        open_command(p);
        p->echo = true;
        assert_int_equal(FEED(p, "\0\0\0\x03\0\0\0\x05hello\0\0\0\x05\x01\0\0\x02hi"), 0);
        expect(p, "3:hello data3:hello 5:hi data5:hi 5. ");
        spdy_stream_end(p->last);
        expect(p, "fin9 ");
        assert_int_equal(FEED(p, "\0\0\0\x09\x01\0\0\0"), 0);
        expect(p, "9. 9!0 ");
        assert_int_equal(spdy_session_n_streams(p->session), 4);
        p->end_on_end = true;
        assert_int_equal(FEED(p, "\0\0\0\x03\x01\0\0\0"), 0);
        expect(p, "3. fin3 3!0 ");
}

/* HEADERS are read for the compression's sake; FIN counts. Reply frames are a mistake. */
static void test_headers(void **state)
{
        Peer *p = *state;
        KL_AUTOBUF body = BUF_INIT;
        KL_AUTOBUF frame = BUF_INIT;
        SpdyDeflate *def = spdy_deflate_new();
        const HttpHeader headers[] = { { "a", "1" }, { "b", "2" } };

        feed_vectors(p, vector_command, 2);
        buf_clear(&p->log);
        buf_add(&body, "\0\0\0\x03", 4);
        assert_int_equal(spdy_headers_write(def, headers, 2, &body), 0);
        spdy_deflate_free(def);
        /* A second zlib header within the session's stream is none. */
        spdy_write_control(&frame, SPDY_HEADERS, SPDY_FLAG_FIN, body.data, body.len);
        assert_int_equal(feed(p, frame.data, frame.len), -EPROTO);
        expect(p, "goaway3/1 ");
        assert_int_equal(FEED(p, "\0\0\0\x03\0\0\0\x01x"), -EPROTO);
        expect(p, "");
}

static void test_ping(void **state)
{
        Peer *p = *state;

        assert_int_equal(FEED(p, "\x80\x03\0\x06\0\0\0\x04\0\0\0\x07"), 0);
        expect(p, "ping7 ");
        assert_int_equal(FEED(p, "\x80\x03\0\x06\0\0\0\x04\0\0\0\x02"), 0);
        expect(p, "");
        assert_int_equal(FEED(p, "\x80\x03\0\x06\0\0\0\x04\0\0\0\0"), -EPROTO);
        expect(p, "goaway0/1 ");
}

static void test_reset(void **state)
{
        Peer *p = *state;

        open_command(p);
        assert_int_equal(FEED(p, "\x80\x03\0\x03\0\0\0\x08\0\0\0\x03\0\0\0\x05"), 0);
        expect(p, "3!5 ");
        /* Late, unknown, and never opened. */
        assert_int_equal(FEED(p, "\x80\x03\0\x03\0\0\0\x08\0\0\0\x03\0\0\0\x05"), 0);
        assert_int_equal(FEED(p, "\0\0\0\x03\0\0\0\x01x"), 0);
        expect(p, "");
        assert_int_equal(FEED(p, "\0\0\0\x0b\0\0\0\x01x"), 0);
        expect(p, "rst11/2 ");
        p->reset_on_input = true;
        assert_int_equal(FEED(p, "\0\0\0\x05\x01\0\0\x01x"), 0);
        expect(p, "5:x rst5/5 ");
        assert_int_equal(spdy_session_n_streams(p->session), 3);
        assert_int_equal(FEED(p, "\x80\x03\0\x03\0\0\0\x08\0\0\0\x01\0\0\0\0"), -EPROTO);
}

static void test_data_after_end(void **state)
{
        Peer *p = *state;

        open_command(p);
        assert_int_equal(FEED(p, "\0\0\0\x03\x01\0\0\0\0\0\0\x03\0\0\0\x01x"), 0);
        expect(p, "3. rst3/9 3!9 ");
        assert_int_equal(FEED(p, "\0\0\0\0\0\0\0\x01x"), -EPROTO);
}

static void test_refused(void **state)
{
        Peer *p = *state;

        p->refuse = true;
        feed_vectors(p, vector_command, 1);
        expect(p, "rst1/3 ");
        p->refuse = false;
        /* The compression went on. */
        feed_vectors(p, vector_command + 1, 1);
        expect(p, "reply3 +3 ");
        assert_string_equal(p->types[1], "stdin");
}

/* A used id: the stream that has it is lost, an older one changes nothing. */
static void test_id_reuse(void **state)
{
        Peer *p = *state;
        KL_AUTOFREE char *again = malloc(vector_command[1].len);

        memcpy(again, vector_command[1].bytes, vector_command[1].len);
        again[11] = 1;
        feed_vectors(p, vector_command, 1);
        buf_clear(&p->log);
        assert_int_equal(feed(p, again, vector_command[1].len), 0);
        expect(p, "1!1 rst1/1 ");
        again[11] = 1;
        assert_int_equal(feed(p, vector_command[2].bytes, vector_command[2].len), 0);
        expect(p, "reply5 +5 ");
        memcpy(again, vector_command[3].bytes, vector_command[3].len);
        again[11] = 3;
        assert_int_equal(feed(p, again, vector_command[3].len), 0);
        expect(p, "rst3/1 ");
        assert_int_equal(spdy_session_n_streams(p->session), 1);
        memcpy(again, vector_command[4].bytes, vector_command[4].len);
        again[11] = 2;
        assert_int_equal(feed(p, again, vector_command[4].len), -EPROTO);
        expect(p, "goaway5/1 ");
}

static void test_flags(void **state)
{
        Peer *p = *state;
        KL_AUTOFREE char *frame = malloc(vector_command[0].len);

        memcpy(frame, vector_command[0].bytes, vector_command[0].len);
        frame[4] = SPDY_FLAG_FIN;
        assert_int_equal(feed(p, frame, vector_command[0].len), 0);
        expect(p, "reply1 +1 1. ");
        assert_int_equal(spdy_stream_room(p->last), SIZE_MAX);
        spdy_stream_end(p->last);
        expect(p, "fin1 1!0 ");
        memcpy(frame, vector_command[1].bytes, vector_command[1].len);
        frame[4] = SPDY_FLAG_UNIDIRECTIONAL;
        assert_int_equal(feed(p, frame, vector_command[1].len), 0);
        expect(p, "reply3 +3 ");
        assert_int_equal(spdy_stream_room(p->last), 0);
        assert_int_equal(FEED(p, "\0\0\0\x03\x01\0\0\0"), 0);
        expect(p, "3. 3!0 ");
}

static void test_bad_headers(void **state)
{
        const struct {
                const struct SpdyVector *v;
                const char *want;
        } cases[] = {
                { vector_no_headers, "reply1 +1 " }, { vector_values, "reply1 +1 " },
                { vector_count_100, "reply1 +1 " },  { vector_count_101, "rst1/1 " },
                { vector_count_2g, "rst1/1 " },      { vector_name_of_4g, "rst1/1 " },
                { vector_trailing, "rst1/1 " },      { vector_upper_case, "rst1/1 " },
                { vector_duplicate, "rst1/1 " },     { vector_empty_name, "rst1/1 " },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                void *one;

                setup(&one);
                assert_int_equal(feed(one, cases[i].v->bytes, cases[i].v->len), 0);
                if (cases[i].v == vector_values)
                        assert_string_equal(((Peer *)one)->types[0], "error");
                expect(one, cases[i].want);
                teardown(&one);
        }
}

static void test_bomb(void **state)
{
        Peer *p = *state;

        assert_int_equal(feed(p, vector_bomb[0].bytes, vector_bomb[0].len), -EMSGSIZE);
        expect(p, "goaway0/1 ");
}

/* A block that fills the limit to the byte is read, one byte more is not. */
static void test_block_limit(void **state)
{
        for (size_t over = 0; over < 2; over++) {
                size_t len = SPDY_HEADER_BLOCK_MAX - 4 - 4 - 1 - 4 + over;
                KL_AUTOFREE char *value = malloc(len + 1);
                SpdyDeflate *def = spdy_deflate_new();
                SpdyInflate *inf = spdy_inflate_new();
                KL_AUTOFREE SpdyHeaders *headers = calloc(1, sizeof(*headers));
                KL_AUTOBUF block = BUF_INIT;
                HttpHeader header = { "n", value };

                memset(value, 'v', len);
                value[len] = '\0';
                assert_int_equal(spdy_headers_write(def, &header, 1, &block), 0);
                assert_int_equal(spdy_headers_read(inf, block.data, block.len, headers, NULL),
                                 over ? -EMSGSIZE : 0);
                if (!over)
                        assert_string_equal(headers->list[0].value, value);
                buf_deinit(&headers->text);
                spdy_inflate_free(inf);
                spdy_deflate_free(def);
        }
}

static void test_bad_frames(void **state)
{
        static const struct {
                size_t len;
                const char *bytes;
                int want;
        } cases[] = {
                { 8, "\0\0\0\x01\0\x10\0\0", 0 },                      /* 1 MiB to come */
                { 8, "\0\0\0\x01\0\x10\0\x01", -EMSGSIZE },            /* and a byte */
                { 8, "\x80\x03\0\x01\0\x01\0\x01", -EMSGSIZE },        /* control above 64 KiB */
                { 8, "\x80\x02\0\x06\0\0\0\x04", -EPROTO },            /* SPDY/2 */
                { 12, "\x80\x03\0\x01\0\0\0\x04\0\0\0\x01", -EPROTO }, /* short SYN_STREAM */
                { 8, "\x80\x03\0\x02\0\0\0\0", -EPROTO },
                { 8, "\x80\x03\0\x03\0\0\0\0", -EPROTO },
                { 8, "\x80\x03\0\x04\0\0\0\0", -EPROTO },
                { 12, "\x80\x03\0\x04\0\0\0\x04\x80\0\0\0", -EPROTO }, /* 2^31 settings */
                { 12, "\x80\x03\0\x04\0\0\0\x04\0\0\0\0", 0 },
                { 12, "\x80\x03\0\x04\0\0\0\x04\0\0\0\x01", -EPROTO },
                { 8, "\x80\x03\0\x09\0\0\0\0", -EPROTO },
                { 16, "\x80\x03\0\x09\0\0\0\x08\0\0\0\0\0\0\0\0", -EPROTO },
                { 16, "\x80\x03\0\x09\0\0\0\x08\0\0\0\0\x80\0\0\0", -EPROTO },
                { 8, "\x80\x03\0\x0a\0\0\0\0", 0 }, /* unknown: skipped */
                { 10, "\x80\x03\0\x05\0\0\0\x02xx", 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                void *one;

                setup(&one);
                assert_int_equal(feed(one, cases[i].bytes, cases[i].len), cases[i].want);
                teardown(&one);
        }
}

static void test_settings_limit(void **state)
{
        for (uint32_t n = SPDY_SETTINGS_MAX; n <= SPDY_SETTINGS_MAX + 1; n++) {
                KL_AUTOFREE unsigned char *body = calloc(1, 4 + 8 * (size_t)n);
                KL_AUTOBUF frame = BUF_INIT;
                void *one;

                setup(&one);
                spdy_put_u32(body, n);
                spdy_write_control(&frame, SPDY_SETTINGS, 0, body, 4 + 8 * (size_t)n);
                assert_int_equal(feed(one, frame.data, frame.len),
                                 n > SPDY_SETTINGS_MAX ? -EPROTO : 0);
                teardown(&one);
        }
}

static void test_streams_limit(void **state)
{
        Peer *p = *state;
        SpdyDeflate *def = spdy_deflate_new();

        for (uint32_t i = 0; i <= SPDY_STREAMS_MAX; i++) {
                unsigned char fixed[10] = { 0 };
                KL_AUTOBUF body = BUF_INIT;
                KL_AUTOBUF frame = BUF_INIT;

                spdy_put_u32(fixed, 2 * i + 1);
                buf_add(&body, fixed, sizeof(fixed));
                assert_int_equal(spdy_headers_write(def, NULL, 0, &body), 0);
                spdy_write_control(&frame, SPDY_SYN_STREAM, 0, body.data, body.len);
                buf_clear(&p->log);
                assert_int_equal(feed(p, frame.data, frame.len), 0);
        }
        spdy_deflate_free(def);
        expect(p, "rst513/3 ");
        assert_int_equal(spdy_session_n_streams(p->session), SPDY_STREAMS_MAX);
}

/* What was taken is announced again in halves of a window, for the stream and for the session. */
static void test_receive_window(void **state)
{
        Peer *p = *state;
        KL_AUTOFREE char *data = calloc(1, 40008);

        open_command(p);
        memcpy(data, "\0\0\0\x03\0\0\x75\x30", 8);
        assert_int_equal(feed(p, data, 30008), 0);
        expect(p, "3:30000 ");
        memcpy(data, "\0\0\0\x05\0\0\x75\x30", 8);
        assert_int_equal(feed(p, data, 30008), 0);
        expect(p, "5:30000 wu0+60000 ");
        memcpy(data, "\0\0\0\x03\0\0\x0f\xa0", 8);
        assert_int_equal(feed(p, data, 4008), 0);
        expect(p, "3:4000 wu3+34000 ");
        p->hold = true;
        memcpy(data, "\0\0\0\x05\0\0\x9c\x40", 8);
        assert_int_equal(feed(p, data, 40008), 0);
        expect(p, "5:40000 ");
        /* Without a stream, for the session alone. */
        memcpy(data, "\0\0\0\x05\x01\0\0\0\x80\x03\0\x03\0\0\0\x08\0\0\0\x05\0\0\0\x05", 24);
        assert_int_equal(feed(p, data, 24), 0);
        expect(p, "5. 5!5 ");
        spdy_session_consumed(p->session, 40000);
        expect(p, "wu0+44000 ");
}

static void test_send_window(void **state)
{
        Peer *p = *state;
        KL_AUTOFREE char *data = calloc(1, 70000);

        open_command(p);
        /* A peer without windows. */
        assert_int_equal(spdy_stream_room(p->last), SIZE_MAX);
        spdy_stream_write(p->last, data, 70000);
        expect(p, "data9:70000 ");
        /* From now on it has some. */
        assert_int_equal(FEED(p, "\x80\x03\0\x09\0\0\0\x08\0\0\0\x09\0\0\x03\xe8"), 0);
        expect(p, "9w ");
        assert_int_equal(spdy_stream_room(p->last), 65536);
        spdy_stream_write(p->last, data, 65536);
        assert_int_equal(spdy_stream_room(p->last), 0);
        buf_clear(&p->log);
        assert_int_equal(FEED(p, "\x80\x03\0\x09\0\0\0\x08\0\0\0\0\0\0\x01\0"), 0);
        expect(p, "1w 3w 5w 7w 9w ");
        assert_int_equal(spdy_stream_room(p->last), 256);
        /* SETTINGS_INITIAL_WINDOW_SIZE changes windows that are open, below zero even. */
        assert_int_equal(FEED(p, "\x80\x03\0\x04\0\0\0\x0c\0\0\0\x01\0\0\0\x07\0\0\0\0"), 0);
        expect(p, "");
        assert_int_equal(spdy_stream_room(p->last), 0);
        assert_int_equal(FEED(p, "\x80\x03\0\x04\0\0\0\x0c\0\0\0\x01\0\0\0\x07\0\x01\0\0"), 0);
        expect(p, "1w 3w 5w 7w 9w ");
        assert_int_equal(spdy_stream_room(p->last), 256);
}

static void test_window_overflow(void **state)
{
        Peer *p = *state;

        open_command(p);
        assert_int_equal(FEED(p, "\x80\x03\0\x09\0\0\0\x08\0\0\0\x03\x7f\xff\xff\xff"), 0);
        expect(p, "rst3/7 3!7 ");
        assert_int_equal(FEED(p, "\x80\x03\0\x09\0\0\0\x08\0\0\0\x03\x7f\xff\xff\xff"), 0);
        expect(p, "");
        assert_int_equal(FEED(p, "\x80\x03\0\x09\0\0\0\x08\0\0\0\0\x7f\xff\xff\xff"), -EPROTO);
        expect(p, "goaway9/1 ");
}

static void test_settings_overflow(void **state)
{
        Peer *p = *state;

        open_command(p);
        assert_int_equal(FEED(p, "\x80\x03\0\x04\0\0\0\x0c\0\0\0\x01\0\0\0\x07\x80\0\0\0"),
                         -EPROTO);
        expect(p, "goaway9/1 ");
}

static void test_goaway(void **state)
{
        Peer *p = *state;

        feed_vectors(p, vector_command, 1);
        buf_clear(&p->log);
        assert_int_equal(FEED(p, "\x80\x03\0\x07\0\0\0\x08\0\0\0\0\0\0\0\0"), 0);
        expect(p, "away ");
        spdy_session_goaway(p->session, SPDY_GOAWAY_OK);
        spdy_session_goaway(p->session, SPDY_GOAWAY_OK);
        expect(p, "goaway1/0 ");
        /* Nothing is opened any more, what is open goes on. */
        feed_vectors(p, vector_command + 1, 1);
        assert_int_equal(FEED(p, "\0\0\0\x01\0\0\0\x01x"), 0);
        expect(p, "1:x ");
}

static void test_stop(void **state)
{
        Peer *p = *state;
        static const char input[] = "\0\0\0\x03\0\0\0\x01x\0\0\0\x03\0\0\0\x01y";
        size_t used;

        open_command(p);
        p->stop = true;
        assert_int_equal(spdy_session_input(p->session, input, 18, &used, NULL), 0);
        assert_int_equal(used, 9);
        expect(p, "3:x ");
        assert_int_equal(spdy_session_input(p->session, input + 9, 9, &used, NULL), 0);
        assert_int_equal(used, 9);
        expect(p, "3:y ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_open),
                TEST(test_pieces),
                TEST(test_data),
                TEST(test_headers),
                TEST(test_ping),
                TEST(test_reset),
                TEST(test_data_after_end),
                TEST(test_refused),
                TEST(test_id_reuse),
                TEST(test_flags),
                TEST(test_bad_headers),
                TEST(test_bomb),
                TEST(test_block_limit),
                TEST(test_bad_frames),
                TEST(test_settings_limit),
                TEST(test_streams_limit),
                TEST(test_receive_window),
                TEST(test_send_window),
                TEST(test_window_overflow),
                TEST(test_settings_overflow),
                TEST(test_goaway),
                TEST(test_stop),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
