/* SPDX-License-Identifier: Apache-2.0 */

/* Each input is parsed whole, byte by byte and in threes: the parts must come to the same. */

#include "base/str.h"
#include "codec/base64.h"
#include "codec/websocket.h"
#include "tests/unit/unit.h"

/* "T[..]." text, "B[..]." binary ("." at the message's end), "P[..]" ping, "O[..]" pong,
 * "C1000[..]" close, "!1002" an error. */
static void describe(Buf *out, const WsPart *part, bool *in_message)
{
        switch (part->type) {
        case WS_PART_DATA:
                if (!*in_message)
                        buf_add_str(out, part->text ? "T[" : "B[");
                buf_add(out, part->data, part->len);
                *in_message = !part->end;
                if (part->end)
                        buf_add_str(out, "].");
                break;
        case WS_PART_PING:
        case WS_PART_PONG:
                buf_add_str(out, part->type == WS_PART_PING ? "P[" : "O[");
                buf_add(out, part->data, part->len);
                buf_add_str(out, "]");
                break;
        case WS_PART_CLOSE:
                buf_addf(out, "C%d[", part->code);
                buf_add(out, part->data, part->len);
                buf_add_str(out, "]");
                break;
        case WS_PART_MORE:
        default:
                break;
        }
}

static char *transcript(WsRole role, const char *input, size_t len, size_t step, size_t max)
{
        WsParser p;
        Buf out = BUF_INIT;
        bool in_message = false;

        ws_parser_init(&p, role, max);
        p.check_utf8 = true;
        for (size_t at = 0; at < len; at += step) {
                size_t left = len - at < step ? len - at : step, used;
                KL_AUTOFREE char *piece = malloc(left);
                char *data = piece;
                WsPart part = { .type = WS_PART_PING };

                memcpy(piece, input + at, left);
                while (left > 0 || part.type != WS_PART_MORE) {
                        int r = ws_parse(&p, data, left, &used, &part, NULL);

                        if (r < 0) {
                                buf_addf(&out, "!%d", ws_close_code(r));
                                return buf_steal(&out);
                        }
                        assert_true(used <= left);
                        data += used;
                        left -= used;
                        describe(&out, &part, &in_message);
                }
        }
        return buf_steal(&out);
}

static void expect_max(WsRole role, const char *input, size_t len, const char *want, size_t max)
{
        size_t steps[] = { 1, 3, len };

        for (size_t i = 0; i < ELEMENTS(steps); i++) {
                KL_AUTOFREE char *got = transcript(role, input, len, steps[i], max);

                assert_string_equal(got ? got : "", want);
        }
}

#define EXPECT(role, literal, want)                                                                \
        expect_max(role, literal, sizeof(literal) - 1, want, WS_MESSAGE_MAX)
/* From a client, masked with zeros: the payload stands as it is. */
#define Z "\0\0\0\0"

/* The examples of RFC 6455, section 5.7. */
static void test_rfc(void **state)
{
        EXPECT(WS_CLIENT, "\x81\x05\x48\x65\x6c\x6c\x6f", "T[Hello].");
        EXPECT(WS_SERVER, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "T[Hello].");
        EXPECT(WS_CLIENT, "\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f", "T[Hello].");
        EXPECT(WS_CLIENT, "\x89\x05\x48\x65\x6c\x6c\x6f", "P[Hello]");
        EXPECT(WS_SERVER, "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "O[Hello]");
}

static void test_key(void **state)
{
        char accept[WS_ACCEPT_SIZE];

        assert_int_equal(ws_accept_key("dGhlIHNhbXBsZSBub25jZQ==", accept), 0);
        assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_int_equal(ws_accept_key("AAAAAAAAAAAAAAAAAAAAAA==", accept), 0);
        assert_string_equal(accept, "ICX+Yqv66kxgM0FcWaLWlFLwTAI=");
        assert_int_equal(ws_accept_key("", accept), -EINVAL);
        assert_int_equal(ws_accept_key("dGhlIHNhbXBsZSBub25jZQ=", accept), -EINVAL);
        assert_int_equal(ws_accept_key("dGhlIHNhbXBsZSBub25jZQAA", accept), -EINVAL);
        assert_int_equal(ws_accept_key("dGhlIHNhbXBsZSBub25jZ!==", accept), -EINVAL);
        assert_int_equal(ws_accept_key("dGhlIHNhbXBsZSBub25jZQ==AAAA", accept), -EINVAL);
}

static void test_messages(void **state)
{
        EXPECT(WS_SERVER, "\x82\x80" Z, "B[].");
        EXPECT(WS_SERVER, "\x02\x80" Z "\x00\x80" Z "\x80\x81" Z "x", "B[x].");
        /* A ping between fragments. */
        EXPECT(WS_SERVER, "\x02\x82" Z "ab\x89\x81" Z "p\x80\x81" Z "c", "B[abP[p]c].");
        EXPECT(WS_SERVER, "\x82\x81" Z "a\x82\x81" Z "b", "B[a].B[b].");
}

static void test_malformed(void **state)
{
        EXPECT(WS_SERVER, "\x82\x01x", "!1002");                       /* not masked */
        EXPECT(WS_CLIENT, "\x82\x81" Z "x", "!1002");                  /* masked */
        EXPECT(WS_SERVER, "\xc2\x81" Z "x", "!1002");                  /* RSV1 */
        EXPECT(WS_SERVER, "\x83\x81" Z "x", "!1002");                  /* opcode 3 */
        EXPECT(WS_SERVER, "\x8b\x81" Z "x", "!1002");                  /* opcode 11 */
        EXPECT(WS_SERVER, "\x80\x81" Z "x", "!1002");                  /* nothing to continue */
        EXPECT(WS_SERVER, "\x02\x81" Z "x\x82\x81" Z "y", "B[x!1002"); /* not continued */
        EXPECT(WS_SERVER, "\x09\x81" Z "x", "!1002");                  /* fragmented ping */
        EXPECT(WS_SERVER, "\x89\xfe\x00\x7e" Z, "!1002");              /* long ping */
        EXPECT(WS_SERVER, "\x82\xfe\x00\x7d" Z, "!1002");              /* not the shortest length */
        EXPECT(WS_SERVER, "\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff" Z, "!1002");
        EXPECT(WS_SERVER, "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00" Z, "!1002");
        EXPECT(WS_SERVER, "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" Z, "!1009");
}

static void test_limit(void **state)
{
        expect_max(WS_SERVER, "\x82\x84" Z "abcd", 10, "B[abcd].", 4);
        expect_max(WS_SERVER, "\x82\x85" Z "abcde", 11, "!1009", 4);
        expect_max(WS_SERVER, "\x02\x83" Z "abc\x80\x82" Z "de", 17, "B[abc!1009", 4);
        /* A ping does not count. */
        expect_max(WS_SERVER, "\x02\x83" Z "abc\x89\x85" Z "12345\x80\x81" Z "d", 27,
                   "B[abcP[12345]d].", 4);
}

static void test_close(void **state)
{
        EXPECT(WS_SERVER, "\x88\x80" Z "garbage", "C1005[]");
        EXPECT(WS_SERVER, "\x88\x82" Z "\x03\xe8", "C1000[]");
        EXPECT(WS_SERVER,
               "\x88\x85" Z "\x0f\xa0"
               "bye",
               "C4000[bye]");
        EXPECT(WS_SERVER, "\x88\x81" Z "\x03", "!1002");
        EXPECT(WS_SERVER, "\x88\x82" Z "\x03\xed", "!1002");
        EXPECT(WS_SERVER, "\x88\x82" Z "\x00\x00", "!1002");
        EXPECT(WS_SERVER, "\x88\x82" Z "\x0b\xb7", "!1002");
        EXPECT(WS_SERVER, "\x88\x83" Z "\x03\xe8\xff", "!1007");
        EXPECT(WS_SERVER, "\x88\x84" Z "\x03\xe8\xe2\x82", "!1007");
}

static void test_utf8(void **state)
{
        EXPECT(WS_SERVER, "\x81\x83" Z "\xe2\x82\xac", "T[\xe2\x82\xac].");
        EXPECT(WS_SERVER, "\x01\x81" Z "\xe2\x80\x82" Z "\x82\xac", "T[\xe2\x82\xac].");
        EXPECT(WS_SERVER, "\x81\x84" Z "\xf4\x8f\xbf\xbf", "T[\xf4\x8f\xbf\xbf].");
        EXPECT(WS_SERVER, "\x82\x81" Z "\xff", "B[\xff].");
        EXPECT(WS_SERVER, "\x81\x81" Z "\xff", "!1007");
        EXPECT(WS_SERVER, "\x81\x82" Z "\xc0\x80", "!1007");
        /* How much of a message was given out before its fault depends on the pieces. */
        for (size_t i = 0; i < 4; i++) {
                static const char *const bad[] = { "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80",
                                                   "\xe2\x82z" };
                char input[16] = "\x81\x83";
                KL_AUTOFREE char *got = NULL;

                memcpy(input + 6, bad[i], 3);
                got = transcript(WS_SERVER, input, 9, 9, WS_MESSAGE_MAX);
                assert_string_equal(got, "!1007");
        }
}

static void test_big(void **state)
{
        size_t sizes[] = { 125, 126, 65535, 65536, WS_MESSAGE_MAX };

        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                KL_AUTOFREE char *payload = malloc(sizes[i] + 1), *got = NULL;
                KL_AUTOBUF frame = BUF_INIT;

                for (size_t k = 0; k < sizes[i]; k++)
                        payload[k] = (char)('a' + k % 26);
                payload[sizes[i]] = '\0';
                ws_write_frame(&frame, WS_CLIENT, WS_BINARY, true, payload, sizes[i]);
                got = transcript(WS_SERVER, frame.data, frame.len, 1000, WS_MESSAGE_MAX);
                assert_memory_equal(got, "B[", 2);
                assert_memory_equal(got + 2, payload, sizes[i]);
                assert_string_equal(got + 2 + sizes[i], "].");
        }
}

static void test_write(void **state)
{
        KL_AUTOBUF out = BUF_INIT;
        char head[WS_HEAD_MAX];

        ws_write_frame(&out, WS_SERVER, WS_TEXT, false, "Hel", 3);
        ws_write_close(&out, WS_SERVER, 1009, "big");
        assert_int_equal(out.len, 12);
        assert_memory_equal(out.data,
                            "\x01\x03Hel\x88\x05\x03\xf1"
                            "big",
                            12);
        assert_int_equal(ws_write_head(head, WS_BINARY, true, 126), 4);
        assert_memory_equal(head, "\x82\x7e\x00\x7e", 4);
        assert_int_equal(ws_write_head(head, WS_BINARY, true, 65536), 10);
        assert_memory_equal(head, "\x82\x7f\0\0\0\0\0\x01\0\0", 10);
}

/* A long reason is cut between characters. */
static void test_write_long_close(void **state)
{
        KL_AUTOBUF out = BUF_INIT;
        char reason[200] = "";

        for (size_t i = 0; i + 3 < sizeof(reason); i += 3)
                memcpy(reason + i, "\xe2\x82\xac", 4);
        ws_write_close(&out, WS_SERVER, 1000, reason);
        assert_int_equal(out.len, 2 + 2 + 123);
        memmove(reason + 1, reason, sizeof(reason) - 1);
        reason[0] = 'x';
        buf_clear(&out);
        ws_write_close(&out, WS_SERVER, 1000, reason);
        assert_int_equal(out.len, 2 + 2 + 121);
}

static void test_base64(void **state)
{
        static const char *const pairs[][2] = {
                { "", "" },        { "f", "Zg==" },        { "fo", "Zm8=" },
                { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "\xff\xfe", "//4=" }
        };
        static const char *const bad[] = { "Z", "Zg=", "Zg==Zg==", "Zm9=v", "=", "Z===", "Zm 9v" };

        for (size_t i = 0; i < ELEMENTS(pairs); i++) {
                KL_AUTOBUF text = BUF_INIT;
                Base64Decoder d = { 0 };
                char out[16];
                ssize_t n = 0;

                base64_encode(&text, pairs[i][0], strlen(pairs[i][0]));
                assert_string_equal(buf_str(&text), pairs[i][1]);
                for (size_t k = 0; k < text.len; k++)
                        n += base64_decode(&d, text.data + k, 1, out + n);
                assert_true(base64_decoder_done(&d));
                assert_int_equal(n, strlen(pairs[i][0]));
                assert_memory_equal(out, pairs[i][0], (size_t)n);
        }
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                Base64Decoder d = { 0 };
                char out[16];

                assert_true(base64_decode(&d, bad[i], strlen(bad[i]), out) < 0 ||
                            !base64_decoder_done(&d));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rfc),      cmocka_unit_test(test_key),
                cmocka_unit_test(test_messages), cmocka_unit_test(test_malformed),
                cmocka_unit_test(test_limit),    cmocka_unit_test(test_close),
                cmocka_unit_test(test_utf8),     cmocka_unit_test(test_big),
                cmocka_unit_test(test_write),    cmocka_unit_test(test_write_long_close),
                cmocka_unit_test(test_base64),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
