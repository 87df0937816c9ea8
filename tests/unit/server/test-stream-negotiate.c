/* SPDX-License-Identifier: Apache-2.0 */

/* Requests against their answers. */

#include "base/str.h"
#include "server/stream.h"
#include "tests/unit/unit.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

typedef struct Case {
        StreamKind kind;
        const char *upgrade, *protocols;
        int status;
        StreamFraming framing;
        int version;
        bool base64;
        const char *answer; /* the protocol's header, NULL: none */
} Case;

static const Case cases[] = {
        { STREAM_REMOTE_COMMAND, "SPDY/3.1", "v4.channel.k8s.io", 101, STREAM_SPDY, 4, false,
          "v4.channel.k8s.io" },
        { STREAM_REMOTE_COMMAND, "spdy/3.1", "v9.channel.k8s.io, v5.channel.k8s.io", 101,
          STREAM_SPDY, 5, false, "v5.channel.k8s.io" },
        { STREAM_REMOTE_COMMAND, "SPDY/3.1", "v3.channel.k8s.io,v4.channel.k8s.io", 101,
          STREAM_SPDY, 3, false, "v3.channel.k8s.io" },
        { STREAM_REMOTE_COMMAND, "SPDY/3.1", "v2.channel.k8s.io", 101, STREAM_SPDY, 2, false,
          "v2.channel.k8s.io" },
        { STREAM_REMOTE_COMMAND, "SPDY/3.1", "channel.k8s.io", 101, STREAM_SPDY, 1, false,
          "channel.k8s.io" },
        { STREAM_REMOTE_COMMAND, "SPDY/3.1", NULL, 101, STREAM_SPDY, 1, false, NULL },
        { STREAM_REMOTE_COMMAND, "SPDY/3.1", "portforward.k8s.io", 403, 0, 0, false, NULL },
        { STREAM_PORT_FORWARD, "SPDY/3.1", "portforward.k8s.io", 101, STREAM_SPDY, 1, false,
          "portforward.k8s.io" },
        { STREAM_PORT_FORWARD, "SPDY/3.1", "v4.channel.k8s.io", 403, 0, 0, false, NULL },
        { STREAM_REMOTE_COMMAND, "websocket", "v5.channel.k8s.io", 101, STREAM_CHANNELS, 5, false,
          "v5.channel.k8s.io" },
        { STREAM_REMOTE_COMMAND, "WebSocket", "v4.channel.k8s.io", 101, STREAM_CHANNELS, 4, false,
          "v4.channel.k8s.io" },
        { STREAM_REMOTE_COMMAND, "websocket", "channel.k8s.io", 101, STREAM_CHANNELS, 1, false,
          "channel.k8s.io" },
        { STREAM_REMOTE_COMMAND, "websocket", "base64.channel.k8s.io", 101, STREAM_CHANNELS, 1,
          true, "base64.channel.k8s.io" },
        { STREAM_REMOTE_COMMAND, "websocket", "v4.base64.channel.k8s.io", 101, STREAM_CHANNELS, 4,
          true, "v4.base64.channel.k8s.io" },
        { STREAM_REMOTE_COMMAND, "websocket", NULL, 101, STREAM_CHANNELS, 1, false, NULL },
        { STREAM_REMOTE_COMMAND, "websocket", "v3.channel.k8s.io", 403, 0, 0, false, NULL },
        { STREAM_REMOTE_COMMAND, "websocket", "SPDY/3.1+portforward.k8s.io", 403, 0, 0, false,
          NULL },
        { STREAM_PORT_FORWARD, "websocket", "SPDY/3.1+portforward.k8s.io", 101, STREAM_TUNNEL, 1,
          false, "SPDY/3.1+portforward.k8s.io" },
        { STREAM_PORT_FORWARD, "websocket", "v4.channel.k8s.io", 101, STREAM_CHANNELS, 4, false,
          "v4.channel.k8s.io" },
        { STREAM_PORT_FORWARD, "websocket", "v4.base64.channel.k8s.io", 101, STREAM_CHANNELS, 4,
          true, "v4.base64.channel.k8s.io" },
        { STREAM_PORT_FORWARD, "h2c", NULL, 400, 0, 0, false, NULL },
};

static void check(const Case *c)
{
        bool spdy = strcasecmp(c->upgrade, "SPDY/3.1") == 0;
        const char *name = spdy ? "X-Stream-Protocol-Version" : "Sec-WebSocket-Protocol";
        HttpHeader headers[] = { { "Connection", "keep-alive, upgrade" },
                                 { "Upgrade", c->upgrade },
                                 { "Sec-WebSocket-Version", "13" },
                                 { "Sec-WebSocket-Key", KEY },
                                 { name, c->protocols } };
        size_t n = c->protocols ? 5 : 4;
        const char *answer;
        StreamUpgrade up;

        stream_negotiate(c->kind, "GET", headers, n, &up);
        assert_int_equal(up.status, c->status);
        assert_true(up.n_headers <= STREAM_UPGRADE_HEADERS);
        assert_int_equal(stream_is_upgrade(headers, n), c->status != 400);
        if (c->status != 101) {
                assert_non_null(up.message);
                return;
        }
        answer = http_header_get(up.headers, up.n_headers, name);
        assert_true(str_eq(answer, c->answer));
        assert_int_equal(up.protocol.kind, c->kind);
        assert_int_equal(up.protocol.framing, c->framing);
        assert_int_equal(up.protocol.version, c->version);
        assert_int_equal(up.protocol.base64, c->base64);
        assert_string_equal(http_header_get(up.headers, up.n_headers, "Upgrade"),
                            spdy ? "SPDY/3.1" : "websocket");
        answer = http_header_get(up.headers, up.n_headers, "Sec-WebSocket-Accept");
        assert_true(str_eq(answer, spdy ? NULL : ACCEPT));
}

static void test_cases(void **state)
{
        for (size_t i = 0; i < ELEMENTS(cases); i++)
                check(&cases[i]);
}

/* As client-go sends them: one header for each. */
static void test_many_headers(void **state)
{
        HttpHeader headers[] = { { "Connection", "Upgrade" },
                                 { "Upgrade", "SPDY/3.1" },
                                 { "X-Stream-Protocol-Version", "v6.channel.k8s.io" },
                                 { "X-Stream-Protocol-Version", "v4.channel.k8s.io" },
                                 { "X-Stream-Protocol-Version", "v3.channel.k8s.io" } };
        StreamUpgrade up;

        stream_negotiate(STREAM_REMOTE_COMMAND, "POST", headers, ELEMENTS(headers), &up);
        assert_int_equal(up.status, 101);
        assert_int_equal(up.protocol.version, 4);
        stream_negotiate(STREAM_REMOTE_COMMAND, "POST", headers, 3, &up);
        assert_int_equal(up.status, 403);
        assert_non_null(
                http_header_get(up.headers, up.n_headers, "X-Accepted-Stream-Protocol-Versions"));
        stream_negotiate(STREAM_REMOTE_COMMAND, "POST", headers, 1, &up);
        assert_int_equal(up.status, 400);
        assert_false(stream_is_upgrade(headers + 1, 1));
}

static void test_bad_websocket(void **state)
{
        static const struct {
                const char *method, *version, *key;
                int status;
        } bad[] = {
                { "POST", "13", KEY, 400 },       { "GET", "8", KEY, 426 },
                { "GET", "", KEY, 426 },          { "GET", "13", "", 400 },
                { "GET", "13", "c2hvcnQ=", 400 },
        };
        StreamUpgrade up;

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                HttpHeader headers[] = { { "Connection", "Upgrade" },
                                         { "Upgrade", "websocket" },
                                         { "Sec-WebSocket-Version", bad[i].version },
                                         { "Sec-WebSocket-Key", bad[i].key } };

                stream_negotiate(STREAM_REMOTE_COMMAND, bad[i].method, headers, 4, &up);
                assert_int_equal(up.status, bad[i].status);
                if (up.status == 426)
                        assert_string_equal(up.headers[0].value, "13");
                stream_negotiate(STREAM_REMOTE_COMMAND, "GET", headers, 2, &up);
                assert_int_equal(up.status, 426);
                stream_negotiate(STREAM_REMOTE_COMMAND, "GET", headers, 3, &up);
                assert_int_not_equal(up.status, 101);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cases),
                cmocka_unit_test(test_many_headers),
                cmocka_unit_test(test_bad_websocket),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
