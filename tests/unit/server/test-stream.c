/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sessions between a transport and an owner that write down what happens. What the transport was
 * given is read back as words: SPDY frames as "reply3", "rst3/1", "wu3+32768", "goaway3/0",
 * "3:bytes" and "fin3"; WebSocket messages as "1:bytes" (in base64 mode decoded, with a t before),
 * "pong:bytes" and "close1000". Long payloads appear by their length.
 */

#include "base/str.h"
#include "codec/spdy-internal.h"
#include "server/stream-internal.h"
#include "tests/unit/unit.h"

#include "tests/unit/codec/spdy-vectors.h"

typedef struct Side {
        Loop *loop;
        StreamSession *session;
        StreamProtocol protocol;

        /* the transport */
        Buf out;
        size_t queued;
        bool count, paused, transport_closed;

        /* the owner */
        Buf log;
        size_t takes; /* of each input */
        bool free_on_input, free_on_started, finish_on_started, close_on_end;
        StreamChannel *channels[8];
        size_t n_channels;
        bool closed;
} Side;

/* --- the transport --- */

static void t_write(const void *bytes, size_t len, void *data)
{
        Side *side = data;

        assert_false(side->transport_closed);
        buf_add(&side->out, bytes, len);
        if (side->count)
                side->queued += len;
}

static size_t t_queued(void *data)
{
        return ((Side *)data)->queued;
}

static void t_pause(bool paused, void *data)
{
        Side *side = data;

        assert_true(side->paused != paused);
        side->paused = paused;
}

static void t_close(void *data)
{
        Side *side = data;

        assert_false(side->transport_closed);
        side->transport_closed = true;
}

static const StreamTransport transport = { t_write, t_queued, t_pause, t_close };

/* --- the owner --- */

static void add_bytes(Buf *to, const char *bytes, size_t len)
{
        if (len > 200)
                buf_addf(to, "%zu", len);
        else
                buf_add(to, bytes, len);
        buf_add_str(to, " ");
}

static void o_started(StreamSession *s, void *data)
{
        Side *side = data;

        buf_add_str(&side->log, "started ");
        if (side->finish_on_started)
                stream_finish_exit(s, 0);
        if (side->free_on_started)
                side->session = stream_session_free(s);
}

static void o_connect(StreamSession *s, StreamChannel *c, uint16_t port, void *data)
{
        Side *side = data;

        buf_addf(&side->log, "connect%u ", port);
        stream_channel_set_user(c, (void *)(uintptr_t)(side->n_channels + 1));
        side->channels[side->n_channels++] = c;
}

static size_t o_input(StreamChannel *c, const char *bytes, size_t len, void *data)
{
        Side *side = data;
        size_t n = len < side->takes ? len : side->takes;

        buf_addf(&side->log, "in%u:", (unsigned int)(uintptr_t)stream_channel_user(c));
        add_bytes(&side->log, bytes, n);
        if (side->free_on_input)
                side->session = stream_session_free(side->session);
        return n;
}

static void o_input_end(StreamChannel *c, void *data)
{
        Side *side = data;

        buf_addf(&side->log, "end%u ", (unsigned int)(uintptr_t)stream_channel_user(c));
        if (side->close_on_end)
                stream_forward_close(c, NULL);
}

static void o_writable(StreamChannel *c, void *data)
{
        buf_addf(&((Side *)data)->log, "writable%u ",
                 (unsigned int)(uintptr_t)stream_channel_user(c));
}

static void o_gone(StreamChannel *c, void *data)
{
        buf_addf(&((Side *)data)->log, "gone%u ", (unsigned int)(uintptr_t)stream_channel_user(c));
}

static void o_resize(StreamSession *s, uint16_t columns, uint16_t rows, void *data)
{
        buf_addf(&((Side *)data)->log, "%ux%u ", columns, rows);
}

static void o_closed(StreamSession *s, const KlError *err, void *data)
{
        Side *side = data;

        assert_false(side->closed);
        side->closed = true;
        buf_addf(&side->log, "closed%s%s ", err ? ":" : "", err ? kl_error_msg(err) : "");
}

static const StreamFuncs funcs = { o_started,  o_connect, o_input,  o_input_end,
                                   o_writable, o_gone,    o_resize, o_closed };

/* --- what was sent --- */

static void spdy_word(Buf *words, const SpdyPart *part)
{
        uint32_t id = part->len >= 4 ? spdy_u32(part->data) : 0;
        uint32_t second = part->len >= 8 ? spdy_u32(part->data + 4) : 0;

        if (part->type == SPDY_PART_DATA && part->len > 0) {
                buf_addf(words, "%u:", part->stream);
                add_bytes(words, part->data, part->len);
        }
        if (part->type == SPDY_PART_DATA && part->fin)
                buf_addf(words, "fin%u ", part->stream);
        if (part->type != SPDY_PART_CONTROL)
                return;
        if (part->control == SPDY_SYN_REPLY)
                buf_addf(words, "reply%u ", id);
        else if (part->control == SPDY_RST_STREAM)
                buf_addf(words, "rst%u/%u ", id, second);
        else if (part->control == SPDY_PING)
                buf_addf(words, "ping%u ", id);
        else if (part->control == SPDY_GOAWAY)
                buf_addf(words, "goaway%u/%u ", id, second);
        else if (part->control == SPDY_WINDOW_UPDATE)
                buf_addf(words, "wu%u+%u ", id, second);
}

static void spdy_words(Buf *words, const char *bytes, size_t len)
{
        SpdyParser parser;
        SpdyPart part = { SPDY_PART_DATA };
        size_t used;

        spdy_parser_init(&parser);
        while (len > 0 || part.type != SPDY_PART_MORE) {
                assert_int_equal(spdy_parse(&parser, bytes, len, &used, &part, NULL), 0);
                bytes += used;
                len -= used;
                spdy_word(words, &part);
        }
        spdy_parser_deinit(&parser);
}

static void message_word(Side *side, Buf *words, const WsPart *part, Buf *spdy)
{
        Base64Decoder d = { 0 };
        ssize_t n;

        if (part->type == WS_PART_PONG) {
                buf_add_str(words, "pong:");
                add_bytes(words, part->data, part->len);
        } else if (part->type == WS_PART_CLOSE) {
                buf_addf(words, "close%u ", part->code);
        } else if (part->type == WS_PART_DATA && side->protocol.framing == STREAM_TUNNEL) {
                assert_false(part->text);
                buf_add(spdy, part->data, part->len);
        } else if (part->type == WS_PART_DATA && part->text) {
                n = base64_decode(&d, part->data + 1, part->len - 1, part->data + 1);
                assert_true(n >= 0 && base64_decoder_done(&d));
                buf_addf(words, "t%c:", part->data[0]);
                add_bytes(words, part->data + 1, (size_t)n);
        } else if (part->type == WS_PART_DATA) {
                buf_addf(words, "%u:", (unsigned char)part->data[0]);
                add_bytes(words, part->data + 1, part->len - 1);
        }
}

static void websocket_words(Side *side, Buf *words, Buf *spdy)
{
        WsParser parser;
        WsPart part = { WS_PART_DATA };
        char *bytes = side->out.data;
        size_t len = side->out.len, used;

        ws_parser_init(&parser, WS_CLIENT, 10 * WS_MESSAGE_MAX);
        while (len > 0 || part.type != WS_PART_MORE) {
                assert_int_equal(ws_parse(&parser, bytes, len, &used, &part, NULL), 0);
                bytes += used;
                len -= used;
                message_word(side, words, &part, spdy);
        }
}

static void expect_sent(Side *side, const char *want)
{
        KL_AUTOBUF words = BUF_INIT;
        KL_AUTOBUF spdy = BUF_INIT;

        if (side->protocol.framing == STREAM_SPDY)
                spdy_words(&words, side->out.data, side->out.len);
        else
                websocket_words(side, &words, &spdy);
        if (spdy.len > 0) {
                KL_AUTOFREE char *rest = buf_steal(&words);

                spdy_words(&words, spdy.data, spdy.len);
                buf_add_str(&words, rest ? rest : "");
        }
        assert_string_equal(buf_str(&words), want);
        buf_clear(&side->out);
}

static void expect(Side *side, const char *want)
{
        assert_string_equal(buf_str(&side->log), want);
        buf_clear(&side->log);
}

/* --- the client --- */

static void receive(Side *side, const char *bytes, size_t len)
{
        if (side->session)
                stream_session_input(side->session, bytes, len);
}

#define RECEIVE(side, literal) receive(side, literal, sizeof(literal) - 1)

static void receive_vectors(Side *side, const struct SpdyVector *v, size_t n)
{
        for (size_t i = 0; i < n; i++)
                receive(side, v[i].bytes, v[i].len);
}

static void receive_data(Side *side, uint32_t stream, size_t len)
{
        KL_AUTOFREE char *bytes = calloc(1, len + SPDY_HEAD_SIZE);

        spdy_data_head((unsigned char *)bytes, stream, 0, len);
        memset(bytes + SPDY_HEAD_SIZE, 'x', len);
        receive(side, bytes, len + SPDY_HEAD_SIZE);
}

static void message(Side *side, WsOpcode opcode, const char *bytes, size_t len)
{
        KL_AUTOBUF frame = BUF_INIT;

        ws_write_frame(&frame, WS_CLIENT, opcode, true, bytes, len);
        receive(side, frame.data, frame.len);
}

#define MESSAGE(side, literal) message(side, WS_BINARY, literal, sizeof(literal) - 1)
#define TEXT(side, literal) message(side, WS_TEXT, literal, sizeof(literal) - 1)

/* --- set-up --- */

static int setup(void **state)
{
        Side *side = calloc(1, sizeof(*side));

        side->takes = SIZE_MAX;
        assert_int_equal(loop_new(&side->loop, NULL), 0);
        *state = side;
        return 0;
}

static int teardown(void **state)
{
        Side *side = *state;

        stream_session_free(side->session);
        loop_free(side->loop);
        buf_deinit(&side->out);
        buf_deinit(&side->log);
        free(side);
        return 0;
}

static void begin_spec(Side *side, StreamSpec *spec)
{
        side->protocol = spec->protocol;
        spec->transport = &transport;
        spec->funcs = &funcs;
        spec->transport_data = spec->data = side;
        assert_int_equal(stream_session_new(side->loop, spec, &side->session, NULL), 0);
        stream_session_start(side->session);
}

static void begin(Side *side, StreamProtocol protocol)
{
        StreamSpec spec = { .protocol = protocol, .in = true, .out = true, .err = true };

        begin_spec(side, &spec);
}

static void begin_tty(Side *side, StreamProtocol protocol)
{
        StreamSpec spec = { .protocol = protocol, .in = true, .out = true, .tty = true };

        begin_spec(side, &spec);
}

static const StreamProtocol spdy_v4 = { STREAM_REMOTE_COMMAND, STREAM_SPDY, 4 };
static const StreamProtocol spdy_v2 = { STREAM_REMOTE_COMMAND, STREAM_SPDY, 2 };
static const StreamProtocol spdy_forward = { STREAM_PORT_FORWARD, STREAM_SPDY, 1 };
static const StreamProtocol tunnel = { STREAM_PORT_FORWARD, STREAM_TUNNEL, 1 };
static const StreamProtocol ws_v1 = { STREAM_REMOTE_COMMAND, STREAM_CHANNELS, 1 };
static const StreamProtocol ws_v4 = { STREAM_REMOTE_COMMAND, STREAM_CHANNELS, 4 };
static const StreamProtocol ws_v5 = { STREAM_REMOTE_COMMAND, STREAM_CHANNELS, 5 };
static const StreamProtocol ws_base64 = { STREAM_REMOTE_COMMAND, STREAM_CHANNELS, 4, true };
static const StreamProtocol ws_forward = { STREAM_PORT_FORWARD, STREAM_CHANNELS, 4 };

/* Streams: 1 error, 3 stdin, 5 stdout, 7 stderr. */
static void begin_spdy(Side *side)
{
        begin(side, spdy_v4);
        receive_vectors(side, vector_command, 4);
        expect(side, "started ");
        expect_sent(side, "reply1 reply3 reply5 reply7 ");
}

/* --- remote command over SPDY --- */

#define SUCCESS "{\"metadata\":{},\"status\":\"Success\"}"
#define FAILURE_3                                                                                  \
        "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"command terminated with "           \
        "non-zero exit code: exit status 3\",\"reason\":\"NonZeroExitCode\",\"details\":"          \
        "{\"causes\":[{\"reason\":\"ExitCode\",\"message\":\"3\"}]}}"

static void test_spdy_command(void **state)
{
        Side *side = *state;

        begin_spdy(side);
        RECEIVE(side, "\0\0\0\x03\0\0\0\x05hello\0\0\0\x03\x01\0\0\0");
        expect(side, "in0:hello end0 ");
        assert_int_equal(stream_write(stream_stdout(side->session), "out", 3), 3);
        assert_int_equal(stream_write(stream_stderr(side->session), "err", 3), 3);
        stream_end(stream_stderr(side->session));
        expect_sent(side, "5:out 7:err fin7 ");
        stream_finish_exit(side->session, 0);
        expect_sent(side, "fin5 1:" SUCCESS " fin1 goaway7/0 ");
        expect(side, "closed ");
        assert_true(side->transport_closed);
        RECEIVE(side, "\0\0\0\x03\0\0\0\x05hello");
        stream_finish_exit(side->session, 0);
        assert_int_equal(stream_room(stream_stdout(side->session)), 0);
        expect_sent(side, "");
        expect(side, "");
}

static void test_spdy_exit_code(void **state)
{
        Side *side = *state;

        begin_spdy(side);
        stream_finish_exit(side->session, 3);
        buf_consume(&side->out, 16); /* two ends */
        assert_true(str_starts(side->out.data + 8, FAILURE_3));
}

static void test_spdy_error(void **state)
{
        Side *side = *state;

        begin_spdy(side);
        stream_finish_error(side->session, "no \"x\"");
        buf_consume(&side->out, 16);
        assert_true(str_starts(side->out.data + 8,
                               "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"Internal "
                               "error occurred: no \\\"x\\\"\",\"reason\":\"InternalError\","
                               "\"details\":{\"causes\":[{\"message\":\"no "
                               "\\\"x\\\"\"}]},\"code\":500}"));
}

/* Before protocol 4 the error stream has text, or nothing. */
static void test_spdy_old(void **state)
{
        static const char *const want[] = {
                "fin5 fin7 fin1 goaway7/0 ",
                "fin5 fin7 1:command terminated with non-zero exit code: exit status 1 fin1 "
                "goaway7/0 ",
                "fin5 fin7 1:Internal error occurred: gone fin1 goaway7/0 ",
        };

        for (int i = 0; i < 3; i++) {
                void *side;

                setup(&side);
                begin(side, spdy_v2);
                receive_vectors(side, vector_command, 4);
                buf_clear(&((Side *)side)->out);
                if (i < 2)
                        stream_finish_exit(((Side *)side)->session, i);
                else
                        stream_finish_error(((Side *)side)->session, "gone");
                expect_sent(side, want[i]);
                teardown(&side);
        }
}

/* What stdin brings before the last stream is there waits for it. */
static void test_spdy_early_input(void **state)
{
        Side *side = *state;

        begin(side, spdy_v4);
        receive_vectors(side, vector_command, 2);
        RECEIVE(side, "\0\0\0\x03\x01\0\0\x05"
                      "early");
        receive_vectors(side, vector_command + 2, 1);
        expect(side, "");
        receive_vectors(side, vector_command + 3, 1);
        expect(side, "started in0:early end0 ");
}

static void test_spdy_resize(void **state)
{
        Side *side = *state;

        begin_tty(side, spdy_v4);
        receive_vectors(side, vector_command, 4);
        expect(side, ""); /* the terminal's stream is missing; stderr is taken and ignored */
        receive_vectors(side, vector_command + 4, 1);
        expect(side, "started ");
        assert_null(stream_stderr(side->session));
        RECEIVE(side, "\0\0\0\x09\0\0\0\x1a{\"Width\":80,\"Height\":24}\n{");
        RECEIVE(side, "\0\0\0\x09\0\0\0\x19\"Width\":0,\"Height\":65535}");
        expect(side, "80x24 0x65535 ");
        RECEIVE(side, "\0\0\0\x09\0\0\0\x10{\"Width\":65536}{\0\0\0\x09\0\0\0\x02}x");
        RECEIVE(side, "\0\0\0\x09\0\0\0\x19{\"Width\":-1,\"Height\":24}x");
        expect(side, "");
        RECEIVE(side, "\0\0\0\x09\0\0\0\x01{");
        for (size_t i = 0; i < STREAM_RESIZE_MAX; i++)
                RECEIVE(side, "\0\0\0\x09\0\0\0\x01 ");
        RECEIVE(side, "\0\0\0\x09\0\0\0\x19}{\"Width\":1,\"Height\":2}  ");
        expect(side, "1x2 ");
}

static void test_spdy_strange_streams(void **state)
{
        Side *side = *state;

        /* The forward vectors' first stream is an error, the second "data". */
        begin(side, spdy_v4);
        receive_vectors(side, vector_forward, 4);
        expect_sent(side, "reply1 rst3/1 rst5/1 rst7/1 ");
}

/* A stream that the client has reset takes what is written, so that the process goes on. */
static void test_spdy_reset_streams(void **state)
{
        Side *side = *state;

        begin_spdy(side);
        RECEIVE(side, "\x80\x03\0\x03\0\0\0\x08\0\0\0\x03\0\0\0\x05");
        expect(side, "end0 ");
        RECEIVE(side, "\x80\x03\0\x03\0\0\0\x08\0\0\0\x05\0\0\0\x05");
        expect(side, "");
        assert_int_equal(stream_write(stream_stdout(side->session), "out", 3), 3);
        expect_sent(side, "");
        RECEIVE(side, "\x80\x03\0\x07\0\0\0\x08\0\0\0\0\0\0\0\0");
        expect(side, "");
        RECEIVE(side, "\x80\x03\0\x03\0\0\0\x08\0\0\0\x01\0\0\0\x05");
        RECEIVE(side, "\x80\x03\0\x03\0\0\0\x08\0\0\0\x07\0\0\0\x05");
        expect(side, "closed ");
        expect_sent(side, "goaway7/0 ");
}

static void test_spdy_garbage(void **state)
{
        Side *side = *state;

        begin_spdy(side);
        RECEIVE(side, "GET / HTTP/1.1\r\n\r\n");
        expect(side, "closed:SPDY data frame of 2115668 bytes ");
        expect_sent(side, "goaway7/1 ");
        assert_true(side->transport_closed);
}

static void test_eof(void **state)
{
        Side *side = *state;

        begin_spdy(side);
        stream_session_eof(side->session);
        expect(side, "closed ");
        expect_sent(side, "");
        assert_false(side->transport_closed);
        assert_int_equal(stream_write(stream_stdout(side->session), "x", 1), 0);
        side->session = stream_session_free(side->session);
        assert_false(side->transport_closed);
}

static void test_session_free(void **state)
{
        Side *side = *state;

        begin_spdy(side);
        side->session = stream_session_free(side->session);
        expect_sent(side, "goaway7/0 ");
        assert_true(side->transport_closed);
        expect(side, "");
}

static void test_free_in_callbacks(void **state)
{
        Side *side = *state;

        begin_spdy(side);
        side->free_on_input = true;
        RECEIVE(side, "\0\0\0\x03\0\0\0\x01x\0\0\0\x03\0\0\0\x01y");
        expect(side, "in0:x ");
        side->transport_closed = false;
        side->free_on_started = true;
        begin(side, spdy_v4);
        receive_vectors(side, vector_command, 5);
        expect(side, "started ");
        side->transport_closed = false;
        begin(side, ws_v4);
        assert_null(side->session);
        side->transport_closed = false;
        side->finish_on_started = true;
        begin(side, ws_v4);
        expect(side, "started started closed ");
}

static void wait_closed(Side *side)
{
        while (!side->closed)
                loop_turn(side->loop, true);
}

static void test_timeouts(void **state)
{
        Side *side = *state;
        StreamSpec spec = { .protocol = spdy_v4, .out = true, .creation_timeout_ms = 20 };

        begin_spec(side, &spec);
        receive_vectors(side, vector_command, 2);
        wait_closed(side);
        expect(side, "closed:timed out waiting for client to create streams ");
        stream_session_free(side->session);
        side->closed = side->transport_closed = false;
        spec.creation_timeout_ms = 0;
        spec.idle_timeout_ms = 20;
        spec.protocol = ws_v4;
        begin_spec(side, &spec);
        wait_closed(side);
        expect(side, "started closed:the session was idle for too long ");
}

/* --- back-pressure --- */

static void test_output_queue(void **state)
{
        Side *side = *state;
        KL_AUTOFREE char *big = calloc(1, STREAM_QUEUE_MAX + 1);
        StreamChannel *out;

        begin_spdy(side);
        out = stream_stdout(side->session);
        assert_int_equal(stream_room(out), STREAM_QUEUE_MAX);
        side->count = true;
        assert_int_equal(stream_write(out, big, STREAM_QUEUE_MAX + 1), STREAM_QUEUE_MAX);
        expect_sent(side, "5:65536 5:65536 5:65536 5:65536 ");
        assert_int_equal(stream_write(out, big, 1), 0);
        stream_session_sent(side->session);
        expect(side, "");
        side->queued = STREAM_QUEUE_LOW;
        stream_session_sent(side->session);
        expect(side, "writable0 ");
        stream_session_sent(side->session);
        expect(side, "");
        assert_int_equal(stream_room(out), STREAM_QUEUE_MAX - STREAM_QUEUE_LOW);
}

/* A client with windows: they hold back the output, and the status. */
static void test_output_window(void **state)
{
        Side *side = *state;
        KL_AUTOFREE char *big = calloc(1, 100000);
        StreamChannel *out;

        begin_spdy(side);
        out = stream_stdout(side->session);
        /* SETTINGS: initial window 10; session window as it was. */
        RECEIVE(side, "\x80\x03\0\x04\0\0\0\x0c\0\0\0\x01\0\0\0\x07\0\0\0\x0a");
        assert_int_equal(stream_write(out, big, 100000), 10);
        assert_int_equal(stream_room(out), 0);
        RECEIVE(side, "\x80\x03\0\x09\0\0\0\x08\0\0\0\x05\0\x01\0\0");
        expect(side, "writable0 ");
        assert_int_equal(stream_write(out, big, 100000), 65526);
        buf_clear(&side->out);
        stream_finish_exit(side->session, 0);
        expect_sent(side, "");
        RECEIVE(side, "\x80\x03\0\x09\0\0\0\x08\0\0\0\x01\0\0\x10\0");
        expect_sent(side, "");
        RECEIVE(side, "\x80\x03\0\x09\0\0\0\x08\0\0\0\0\0\0\x10\0");
        expect_sent(side, "fin5 fin7 1:" SUCCESS " fin1 goaway7/0 ");
        expect(side, "closed ");
}

/* A process that does not read stdin stops the client, not our memory. */
static void test_input_pause(void **state)
{
        Side *side = *state;

        begin_spdy(side);
        side->takes = 100;
        receive_data(side, 3, 30000);
        assert_false(side->paused);
        receive_data(side, 3, 35636);
        assert_true(side->paused);
        assert_int_equal(side->session->n_pending, 65536);
        buf_clear(&side->log);
        /* What the transport had read already is kept too, unparsed. */
        receive_data(side, 3, 10);
        RECEIVE(side, "\0\0\0\x03\x01\0\0\0");
        expect(side, "");
        side->takes = 1;
        stream_resume(stream_stdin(side->session));
        assert_true(side->paused);
        assert_int_equal(side->session->n_pending, 65545);
        side->takes = 50000;
        stream_resume(stream_stdin(side->session));
        assert_false(side->paused);
        buf_clear(&side->log);
        side->takes = SIZE_MAX;
        stream_resume(stream_stdin(side->session));
        expect(side, "in0:15545 end0 ");
        assert_int_equal(side->session->n_pending, 0);
        stream_resume(stream_stdin(side->session));
        expect(side, "");
}

/* Answers that a client does not read are as little a way to fill memory. */
static void test_flood(void **state)
{
        Side *side = *state;
        size_t sent = 0;

        begin_spdy(side);
        side->count = true;
        while (!side->paused) {
                RECEIVE(side, "\x80\x03\0\x06\0\0\0\x04\0\0\0\x07");
                assert_true(++sent < 40000);
        }
        assert_true(side->queued < 2 * STREAM_QUEUE_MAX);
        side->queued = 0;
        stream_session_sent(side->session);
        assert_false(side->paused);
}

/* --- remote command over WebSocket --- */

static void test_channels(void **state)
{
        Side *side = *state;

        begin(side, ws_v4);
        expect(side, "started ");
        expect_sent(side, "1: ");
        MESSAGE(side, "\0in");
        MESSAGE(side, "\0");
        MESSAGE(side, "");
        MESSAGE(side, "\x07what");
        MESSAGE(side, "\x01what");
        /* No half-close before protocol 5. */
        MESSAGE(side, "\xff\0");
        TEXT(side, "\0in");
        expect(side, "in0:in in0:in ");
        stream_write(stream_stdout(side->session), "out", 3);
        stream_write(stream_stderr(side->session), "err", 3);
        stream_end(stream_stdout(side->session));
        message(side, WS_PING, "abc", 3);
        expect_sent(side, "1:out 2:err pong:abc ");
        stream_finish_exit(side->session, 3);
        expect_sent(side, "3:" FAILURE_3 " close1000 ");
        expect(side, "closed ");
}

static void test_channels_v5(void **state)
{
        Side *side = *state;

        begin_tty(side, ws_v5);
        MESSAGE(side, "\x04{\"Width\":80,\"Height\":24}");
        MESSAGE(side, "\0bye");
        MESSAGE(side, "\xff\0");
        MESSAGE(side, "\0late");
        MESSAGE(side, "\xff");
        MESSAGE(side, "\xff\x09");
        expect(side, "started 80x24 in0:bye end0 ");
        stream_finish_exit(side->session, 0);
        expect_sent(side, "1: 3:" SUCCESS " close1000 ");
}

static void test_channels_fragments(void **state)
{
        Side *side = *state;
        KL_AUTOBUF frames = BUF_INIT;

        begin(side, ws_v4);
        ws_write_frame(&frames, WS_CLIENT, WS_BINARY, false, "", 0);
        ws_write_frame(&frames, WS_CLIENT, WS_CONTINUATION, false, "\0a", 2);
        ws_write_frame(&frames, WS_CLIENT, WS_CONTINUATION, true, "\0b", 2);
        receive(side, frames.data, frames.len);
        assert_int_equal(side->log.len, strlen("started in0:a in0:") + 2 + 1);
}

static void test_channels_old(void **state)
{
        Side *side = *state;

        begin(side, ws_v1);
        stream_finish_exit(side->session, 2);
        expect_sent(side, "1: 3:command terminated with non-zero exit code: exit status 2 "
                          "close1000 ");
}

static void test_channels_base64(void **state)
{
        Side *side = *state;

        begin(side, ws_base64);
        TEXT(side, "0aGVsbG8=");
        TEXT(side, "0");
        expect(side, "started in0:hello ");
        stream_write(stream_stdout(side->session), "out", 3);
        expect_sent(side, "t1: t1:out ");
        TEXT(side, "0aGV");
        expect(side, "closed:malformed base64 from the client ");
        expect_sent(side, "close1007 ");
}

static void test_channels_close(void **state)
{
        Side *side = *state;

        begin(side, ws_v4);
        message(side, WS_CLOSE, "\x03\xe8", 2);
        expect(side, "started closed ");
        expect_sent(side, "1: close1000 ");
}

static void test_channels_malformed(void **state)
{
        Side *side = *state;

        begin(side, ws_v4);
        RECEIVE(side, "\x82\x01x");
        expect(side, "started closed:WebSocket frame is not masked ");
        expect_sent(side, "1: close1002 ");
}

static void test_channels_pause(void **state)
{
        Side *side = *state;
        char bytes[10001] = { 0 };

        begin(side, ws_v4);
        side->takes = 0;
        for (int i = 0; i < 7; i++)
                message(side, WS_BINARY, bytes, sizeof(bytes));
        assert_true(side->paused);
        message(side, WS_BINARY, "\0z", 2);
        buf_clear(&side->log);
        side->takes = SIZE_MAX;
        stream_resume(stream_stdin(side->session));
        expect(side, "in0:70000 in0:z ");
        assert_false(side->paused);
}

/* --- port-forward --- */

static void begin_forward(Side *side, StreamProtocol protocol)
{
        StreamSpec spec = { .protocol = protocol };

        begin_spec(side, &spec);
}

/* Streams: 1 error and 3 data of connection 0, 5 and 7 of connection 1. */
static void test_forward(void **state)
{
        Side *side = *state;

        begin_forward(side, spdy_forward);
        receive_vectors(side, vector_forward, 4);
        expect(side, "connect8080 connect8080 ");
        expect_sent(side, "reply1 reply3 reply5 reply7 ");
        RECEIVE(side, "\0\0\0\x01\x01\0\0\0\0\0\0\x07\0\0\0\x03two\0\0\0\x03\x01\0\0\x03one");
        expect(side, "in2:two in1:one end1 ");
        assert_int_equal(stream_write(side->channels[0], "ONE", 3), 3);
        stream_end(side->channels[0]);
        expect_sent(side, "3:ONE fin3 fin1 ");
        stream_forward_close(side->channels[0], NULL);
        expect_sent(side, "");
        stream_forward_close(side->channels[1], "refused");
        expect_sent(side, "5:refused fin5 fin7 ");
        /* The client's late bytes and its goodbye. */
        RECEIVE(side, "\0\0\0\x07\0\0\0\x03two\0\0\0\x07\x01\0\0\0\0\0\0\x05\x01\0\0\0");
        expect(side, "");
        assert_int_equal(spdy_session_n_streams(side->session->spdy), 0);
        RECEIVE(side, "\x80\x03\0\x07\0\0\0\x08\0\0\0\0\0\0\0\0");
        expect(side, "closed ");
}

/* kubectl resets the data stream and then waits for the error stream's end. */
static void test_forward_reset(void **state)
{
        Side *side = *state;

        begin_forward(side, spdy_forward);
        receive_vectors(side, vector_forward, 2);
        RECEIVE(side, "\0\0\0\x01\x01\0\0\0");
        buf_clear(&side->out);
        RECEIVE(side, "\x80\x03\0\x03\0\0\0\x08\0\0\0\x03\0\0\0\x05");
        expect(side, "connect8080 gone1 ");
        expect_sent(side, "fin1 ");
        assert_int_equal(spdy_session_n_streams(side->session->spdy), 0);
        assert_int_equal(side->session->n_pairs, 0);
}

static void test_forward_unnamed(void **state)
{
        Side *side = *state;

        begin_forward(side, spdy_forward);
        receive_vectors(side, vector_forward_unnamed, 2);
        expect(side, "connect80 ");
}

static void test_forward_bad(void **state)
{
        Side *side = *state;

        begin_forward(side, spdy_forward);
        receive_vectors(side, vector_forward_bad, N_FORWARD_BAD);
        expect_sent(side, "rst1/1 rst3/1 rst5/1 ");
        assert_int_equal(side->session->n_pairs, 0);
}

static void test_forward_close_in_callback(void **state)
{
        Side *side = *state;

        side->close_on_end = true;
        begin_forward(side, spdy_forward);
        receive_vectors(side, vector_forward, 4);
        RECEIVE(side, "\0\0\0\x03\x01\0\0\x01x\0\0\0\x07\x01\0\0\x01y");
        expect(side, "connect8080 connect8080 in1:x end1 in2:y end2 ");
        assert_int_equal(side->session->n_pairs, 0);
}

/* One of a pair that never becomes one. */
static void test_forward_half(void **state)
{
        Side *side = *state;
        StreamSpec spec = { .protocol = spdy_forward,
                            .creation_timeout_ms = 20,
                            .idle_timeout_ms = 60 };

        begin_spec(side, &spec);
        receive_vectors(side, vector_forward, 1);
        buf_clear(&side->out);
        wait_closed(side);
        expect(side, "closed:the session was idle for too long ");
        expect_sent(side, "1:timed out waiting for streams fin1 goaway1/0 ");
}

/* A connection that takes nothing leaves the others alone, up to the session's limit. */
static void test_forward_pause(void **state)
{
        Side *side = *state;

        begin_forward(side, spdy_forward);
        receive_vectors(side, vector_forward, 4);
        side->takes = 0;
        receive_data(side, 3, STREAM_PENDING_MAX - 1);
        assert_false(side->paused);
        receive_data(side, 7, 10);
        receive_data(side, 3, 1);
        assert_true(side->paused);
        receive_data(side, 7, 5);
        buf_clear(&side->log);
        /* Giving it up lets the other one go on. */
        stream_forward_close(side->channels[0], "gone");
        assert_false(side->paused);
        side->takes = SIZE_MAX;
        stream_resume(side->channels[1]);
        expect(side, "in2:xxxxxxxxxxxxxxx ");
        assert_int_equal(side->session->n_pending, 0);
}

static void test_forward_channels(void **state)
{
        Side *side = *state;
        StreamSpec spec = { .protocol = ws_forward,
                            .ports = (const uint16_t[]){ 80, 0x3031 },
                            .n_ports = 2 };

        begin_spec(side, &spec);
        expect(side, "connect80 connect12337 ");
        assert_int_equal(side->out.data[2], 0);
        assert_memory_equal(side->out.data, "\x82\x03\0P\0\x82\x03\x01P\0", 10);
        buf_consume(&side->out, 10);
        expect_sent(side, "2:10 3:10 ");
        MESSAGE(side, "\0one");
        MESSAGE(side, "\x02two");
        MESSAGE(side, "\x03no");
        expect(side, "in1:one in2:two ");
        stream_write(side->channels[1], "TWO", 3);
        stream_forward_close(side->channels[1], "refused");
        expect_sent(side, "2:TWO 3:refused ");
        MESSAGE(side, "\x02late");
        expect(side, "");
        stream_forward_close(side->channels[0], NULL);
        expect(side, "closed ");
        expect_sent(side, "close1000 ");
}

static void test_tunnel(void **state)
{
        Side *side = *state;
        KL_AUTOBUF all = BUF_INIT;

        begin_forward(side, tunnel);
        for (size_t i = 0; i < 2; i++)
                buf_add(&all, vector_forward[i].bytes, vector_forward[i].len);
        buf_add(&all, "\0\0\0\x03\0\0\0\x05hello", 13);
        /* Messages end where they like. */
        for (size_t i = 0; i < all.len; i += 7)
                message(side, WS_BINARY, all.data + i, all.len - i < 7 ? all.len - i : 7);
        assert_true(str_starts(buf_str(&side->log), "connect8080 in1:"));
        expect_sent(side, "reply1 reply3 ");
        buf_clear(&side->log);
        stream_write(side->channels[0], "HELLO", 5);
        stream_forward_close(side->channels[0], "over");
        expect_sent(side, "3:HELLO 1:over fin1 fin3 ");
        TEXT(side, "hello");
        expect(side, "closed:SPDY does not come as text ");
        expect_sent(side, "goaway3/1 close1003 ");
}

static void test_tunnel_pause(void **state)
{
        Side *side = *state;
        KL_AUTOBUF all = BUF_INIT;

        begin_forward(side, tunnel);
        for (size_t i = 0; i < 2; i++)
                message(side, WS_BINARY, vector_forward[i].bytes, vector_forward[i].len);
        side->takes = 0;
        for (int i = 0; i < 10; i++) {
                char frame[10008] = "\0\0\0\x03\0\0\x27\x10";

                buf_add(&all, frame, sizeof(frame));
        }
        message(side, WS_BINARY, all.data, all.len);
        assert_true(side->paused);
        assert_true(side->session->n_pending < 80000);
        buf_clear(&side->log);
        side->takes = SIZE_MAX;
        stream_resume(side->channels[0]);
        assert_false(side->paused);
        assert_int_equal(side->session->n_pending, 0);
        assert_int_equal(side->session->tunnel.len, 0);
}

/* --- what is asked for --- */

static void test_spec(void **state)
{
        Side *side = *state;
        StreamSpec specs[] = {
                { .protocol = spdy_v4 },
                { .protocol = spdy_v4, .err = true, .tty = true },
                { .protocol = ws_forward },
                { .protocol = ws_forward, .n_ports = STREAM_PORTS_MAX + 1 },
        };

        for (size_t i = 0; i < ELEMENTS(specs); i++)
                assert_int_equal(stream_session_new(side->loop, &specs[i], &side->session, NULL),
                                 -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_spdy_command),
                TEST(test_spdy_exit_code),
                TEST(test_spdy_error),
                TEST(test_spdy_old),
                TEST(test_spdy_early_input),
                TEST(test_spdy_resize),
                TEST(test_spdy_strange_streams),
                TEST(test_spdy_reset_streams),
                TEST(test_spdy_garbage),
                TEST(test_eof),
                TEST(test_session_free),
                TEST(test_free_in_callbacks),
                TEST(test_timeouts),
                TEST(test_output_queue),
                TEST(test_output_window),
                TEST(test_input_pause),
                TEST(test_flood),
                TEST(test_channels),
                TEST(test_channels_v5),
                TEST(test_channels_fragments),
                TEST(test_channels_old),
                TEST(test_channels_base64),
                TEST(test_channels_close),
                TEST(test_channels_malformed),
                TEST(test_channels_pause),
                TEST(test_forward),
                TEST(test_forward_reset),
                TEST(test_forward_unnamed),
                TEST(test_forward_bad),
                TEST(test_forward_close_in_callback),
                TEST(test_forward_half),
                TEST(test_forward_pause),
                TEST(test_forward_channels),
                TEST(test_tunnel),
                TEST(test_tunnel_pause),
                TEST(test_spec),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
