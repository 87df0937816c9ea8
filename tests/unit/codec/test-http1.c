/* SPDX-License-Identifier: Apache-2.0 */

/* Each message is parsed whole, byte by byte and in pairs: the parts must be the same. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "codec/http1.h"

/* "H200 [body] E": heads by status or method, bodies joined, ends; "!" for an error. */
static char *transcript(Http1Kind kind, const char *method, const char *input, size_t len,
                        size_t step, bool eof)
{
        Http1Parser p;
        Buf out = BUF_INIT;
        bool in_body = false;

        http1_parser_init(&p, kind);
        http1_parser_expect(&p, method);
        buf_add_str(&out, "");
        for (size_t at = 0; at < len && !strchr(buf_str(&out), '!');) {
                size_t n = len - at < step ? len - at : step, used;
                const char *data = input + at;
                Http1Part part = { .type = HTTP1_BODY };

                at += n;
                while (part.type != HTTP1_MORE && part.type != HTTP1_SWITCHED) {
                        KL_AUTOERR err = NULL;

                        if (http1_parse(&p, data, n, &used, &part, &err) < 0) {
                                assert_non_null(err);
                                buf_add_str(&out, "!");
                                break;
                        }
                        assert_true(used <= n);
                        data += used;
                        n -= used;
                        if (in_body && part.type != HTTP1_BODY && part.type != HTTP1_MORE) {
                                buf_add_str(&out, "] ");
                                in_body = false;
                        }
                        if (part.type == HTTP1_HEAD && kind == HTTP1_REQUEST)
                                buf_addf(&out, "H%s ", p.head.method);
                        else if (part.type == HTTP1_HEAD)
                                buf_addf(&out, "H%d ", p.head.status);
                        else if (part.type == HTTP1_END)
                                buf_add_str(&out, "E ");
                        if (part.type == HTTP1_SWITCHED && n > 0) {
                                buf_addf(&out, "S%.*s ", (int)n, data);
                                n = 0;
                        }
                        if (part.type == HTTP1_BODY) {
                                if (!in_body)
                                        buf_add_str(&out, "[");
                                in_body = true;
                                buf_add(&out, part.data, part.len);
                        }
                }
        }
        if (eof)
                buf_add_str(&out, http1_parse_eof(&p, NULL) == 0 ? "eof" : "cut");
        http1_parser_deinit(&p);
        return buf_steal(&out);
}

static void expect(Http1Kind kind, const char *method, const char *input, const char *want)
{
        for (size_t step = 1; step <= strlen(input); step = step < 3 ? step + 1 : strlen(input)) {
                KL_AUTOFREE char *got = transcript(kind, method, input, strlen(input), step, false);

                assert_string_equal(got, want);
                if (step == strlen(input))
                        break;
        }
}

static void response(const char *input, const char *want)
{
        expect(HTTP1_RESPONSE, "GET", input, want);
}

static void request(const char *input, const char *want)
{
        expect(HTTP1_REQUEST, NULL, input, want);
}

static void test_responses(void **state)
{
        response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "H200 [hello] E ");
        response("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "H200 E ");
        response("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "H200 E ");
        response("HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", "H200 [hi] E ");
        response("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\n"
                 "Content-Length: 9\r\n\r\n",
                 "H204 E H304 E ");
        response("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
                 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
                 "H100 H103 H200 [x] E ");
        response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "5\r\nhello\r\nA;ext=\"1\"\r\n 123456789\r\n0\r\nTrailer: x\r\n\r\n",
                 "H200 [hello 123456789] E ");
        response("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "H101 ");
        expect(HTTP1_RESPONSE, "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "H200 E ");
        expect(HTTP1_RESPONSE, "CONNECT", "HTTP/1.1 200 OK\r\n\r\n", "H200 ");
        expect(HTTP1_RESPONSE, "CONNECT", "HTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\nx",
               "H403 [x] E ");
}

static void test_bad_responses(void **state)
{
        static const char *const heads[] = {
                "HTTP/2.0 200 OK\r\n\r\n",
                "HTTP/1.1 2000 OK\r\n\r\n",
                "HTTP/1.1 099 OK\r\n\r\n",
                "SSH-2.0-OpenSSH\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
                "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
                "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
                "HTTP/1.1 200 OK\r\nA: b\x01\r\n\r\n",
                "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
                "\r\n\r\n\r\n",
        };
        static const char *const chunks[] = { "x\r\n",  "\r\n",     "5;\r\x01",
                                              "-1\r\n", "1\r\nabc", "10000000000000000\r\n" };

        for (size_t i = 0; i < ELEMENTS(heads); i++)
                response(heads[i], "!");
        for (size_t i = 0; i < ELEMENTS(chunks); i++) {
                KL_AUTOFREE char *input = str_format(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s", chunks[i]);
                KL_AUTOFREE char *got =
                        transcript(HTTP1_RESPONSE, "GET", input, strlen(input), 999, false);

                assert_non_null(strchr(got, '!'));
        }
}

static void test_requests(void **state)
{
        request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HGET E ");
        request("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\n"
                "Content-Length: 3\r\n\r\nabc",
                "HGET E HPOST [abc] E ");
        request("GET / HTTP/1.0\r\n\r\n", "HGET E ");
        request("GET / HTTP/1.1\r\n\r\n", "!");
        request("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "!");
        request("GET / HTTP/1.1\nHost: a\n\n", "!");
        request("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "!");
        request("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "!");
        request("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n",
                "HPOST !");
        request("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\n",
                "HPOST [x!");
}

static void test_head_fields(void **state)
{
        const char *text = "POST /exec?x=1 HTTP/1.1\r\nHost: a\r\nUPGRADE:  SPDY/3.1 \r\n"
                           "Connection: keep-alive, Upgrade\r\nContent-Length: 0\r\n\r\n";
        Http1Parser p;
        Http1Part part;
        size_t used;

        http1_parser_init(&p, HTTP1_REQUEST);
        assert_true(http1_parser_idle(&p));
        assert_int_equal(http1_parse(&p, text, strlen(text), &used, &part, NULL), 0);
        assert_int_equal(part.type, HTTP1_HEAD);
        assert_int_equal(used, strlen(text));
        assert_string_equal(p.head.target, "/exec?x=1");
        assert_string_equal(p.head.upgrade, "SPDY/3.1");
        assert_true(p.head.keep_alive);
        assert_int_equal(p.head.content_length, 0);
        assert_string_equal(http_header_get(p.head.headers, p.head.n_headers, "host"), "a");
        assert_null(http_header_get(p.head.headers, p.head.n_headers, "hos"));
        http1_parser_deinit(&p);
}

static void test_limits(void **state)
{
        KL_AUTOBUF big = BUF_INIT;
        KL_AUTOBUF many = BUF_INIT;
        KL_AUTOBUF trailers = BUF_INIT;
        KL_AUTOBUF line = BUF_INIT;
        const Buf *const all[] = { &big, &many, &trailers, &line };

        buf_add_str(&big, "HTTP/1.1 200 OK\r\nA: ");
        for (int i = 0; i < (int)HTTP1_HEAD_MAX; i++)
                buf_add_char(&big, 'x');
        buf_add_str(&many, "HTTP/1.1 200 OK\r\n");
        for (int i = 0; i <= HTTP1_HEADERS_MAX; i++)
                buf_add_str(&many, "A: b\r\n");
        buf_add_str(&many, "\r\n");
        buf_add_str(&trailers, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
        for (int i = 0; i <= (int)HTTP1_HEAD_MAX / 4; i++)
                buf_add_str(&trailers, "x: y\r\n");
        buf_add_str(&line, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;");
        for (int i = 0; i < HTTP1_CHUNK_LINE_MAX; i++)
                buf_add_char(&line, 'x');
        for (size_t i = 0; i < ELEMENTS(all); i++) {
                KL_AUTOFREE char *got =
                        transcript(HTTP1_RESPONSE, "GET", all[i]->data, all[i]->len, 1000, false);

                assert_non_null(strchr(got, '!'));
        }
}

static void test_eof(void **state)
{
        static const struct {
                const char *input, *want;
        } cases[] = {
                { "HTTP/1.1 200 OK\r\n\r\nall of it", "H200 [all of iteof" },
                { "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall", "H200 [allcut" },
                { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nal", "H200 [alcut" },
                { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "H200 E eof" },
                { "HTTP/1.1 200", "cut" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *got = transcript(HTTP1_RESPONSE, "GET", cases[i].input,
                                                   strlen(cases[i].input), 999, true);

                assert_string_equal(got, cases[i].want);
        }
}

static void test_writers(void **state)
{
        const HttpHeader good = { "Host", "a" }, bad_value = { "A", "b\r\nC: d" };
        const HttpHeader bad_name = { "A b", "c" };
        KL_AUTOBUF out = BUF_INIT;

        assert_int_equal(http1_write_request(&out, "GET", "/x", &good, 1), 0);
        assert_string_equal(buf_str(&out), "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_int_equal(http1_write_request(&out, "GET", "/x y", &good, 1), -EINVAL);
        assert_int_equal(http1_write_request(&out, "GET", "/x", &bad_value, 1), -EINVAL);
        assert_int_equal(http1_write_request(&out, "GET", "/x", &bad_name, 1), -EINVAL);
        buf_clear(&out);
        assert_int_equal(http1_write_response(&out, 200, "OK", &good, 1), 0);
        http1_write_chunk(&out, "hello", 5);
        http1_write_chunk(&out, "", 0);
        http1_write_last_chunk(&out);
        assert_string_equal(buf_str(&out),
                            "HTTP/1.1 200 OK\r\nHost: a\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
}

static void test_lists(void **state)
{
        assert_true(http_list_has("keep-alive, Upgrade", "upgrade"));
        assert_true(http_list_has("close", "close"));
        assert_false(http_list_has("closed", "close"));
        assert_false(http_list_has("", "close"));
        assert_false(http_list_has(NULL, "close"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_responses), cmocka_unit_test(test_bad_responses),
                cmocka_unit_test(test_requests),  cmocka_unit_test(test_head_fields),
                cmocka_unit_test(test_limits),    cmocka_unit_test(test_eof),
                cmocka_unit_test(test_writers),   cmocka_unit_test(test_lists),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
