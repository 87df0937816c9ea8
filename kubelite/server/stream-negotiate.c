/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which protocol a session speaks. The client lists names in its order of preference; the first one
 * that we know wins. Clients that name none are served as the oldest ones.
 */

#include "server/stream.h"

#include "base/str.h"
#include "codec/websocket.h"

#define SPDY_UPGRADE "SPDY/3.1"
#define SPDY_PROTOCOLS "X-Stream-Protocol-Version"
#define SPDY_ACCEPTED "X-Accepted-Stream-Protocol-Versions"
#define WS_PROTOCOLS "Sec-WebSocket-Protocol"

typedef struct Known {
        const char *name;
        StreamKind kind;
        StreamFraming framing;
        int version;
        bool base64;
} Known;

static const Known known[] = {
        { "v5.channel.k8s.io", STREAM_REMOTE_COMMAND, STREAM_SPDY, 5, false },
        { "v4.channel.k8s.io", STREAM_REMOTE_COMMAND, STREAM_SPDY, 4, false },
        { "v3.channel.k8s.io", STREAM_REMOTE_COMMAND, STREAM_SPDY, 3, false },
        { "v2.channel.k8s.io", STREAM_REMOTE_COMMAND, STREAM_SPDY, 2, false },
        { "channel.k8s.io", STREAM_REMOTE_COMMAND, STREAM_SPDY, 1, false },
        { "portforward.k8s.io", STREAM_PORT_FORWARD, STREAM_SPDY, 1, false },
        { "v5.channel.k8s.io", STREAM_REMOTE_COMMAND, STREAM_CHANNELS, 5, false },
        { "v4.channel.k8s.io", STREAM_REMOTE_COMMAND, STREAM_CHANNELS, 4, false },
        { "v4.base64.channel.k8s.io", STREAM_REMOTE_COMMAND, STREAM_CHANNELS, 4, true },
        { "channel.k8s.io", STREAM_REMOTE_COMMAND, STREAM_CHANNELS, 1, false },
        { "base64.channel.k8s.io", STREAM_REMOTE_COMMAND, STREAM_CHANNELS, 1, true },
        { "SPDY/3.1+portforward.k8s.io", STREAM_PORT_FORWARD, STREAM_TUNNEL, 1, false },
        { "v4.channel.k8s.io", STREAM_PORT_FORWARD, STREAM_CHANNELS, 4, false },
        { "v4.base64.channel.k8s.io", STREAM_PORT_FORWARD, STREAM_CHANNELS, 4, true },
};

static bool asks_for(const HttpHeader *headers, size_t n, const char *protocol)
{
        const char *connection = http_header_get(headers, n, "Connection");
        const char *upgrade = http_header_get(headers, n, "Upgrade");

        return connection && upgrade && http_list_has(connection, "upgrade") &&
               http_list_has(upgrade, protocol);
}

bool stream_is_upgrade(const HttpHeader *headers, size_t n)
{
        return asks_for(headers, n, SPDY_UPGRADE) || asks_for(headers, n, "websocket");
}

static void refuse(StreamUpgrade *u, int status, const char *message)
{
        u->status = status;
        u->message = message;
}

static void add_header(StreamUpgrade *u, const char *name, const char *value)
{
        u->headers[u->n_headers++] = (HttpHeader){ name, value };
}

static const Known *find_known(StreamKind kind, bool spdy, const char *name, size_t len)
{
        for (size_t i = 0; i < ELEMENTS(known); i++)
                if (known[i].kind == kind && (known[i].framing == STREAM_SPDY) == spdy &&
                    strlen(known[i].name) == len && strncmp(known[i].name, name, len) == 0)
                        return &known[i];
        return NULL;
}

/* Over all headers of that name, and the comma-separated names in each. */
static const Known *choose(StreamKind kind, bool spdy, const HttpHeader *headers, size_t n,
                           bool *ret_named)
{
        const char *header = spdy ? SPDY_PROTOCOLS : WS_PROTOCOLS;

        *ret_named = false;
        for (size_t i = 0; i < n; i++) {
                const char *at = headers[i].value;

                if (strcasecmp(headers[i].name, header) != 0)
                        continue;
                while (*(at += strspn(at, ", \t"))) {
                        size_t len = strcspn(at, ", \t");
                        const Known *k = find_known(kind, spdy, at, len);

                        *ret_named = true;
                        if (k)
                                return k;
                        at += len;
                }
        }
        return NULL;
}

static void take(StreamUpgrade *u, StreamKind kind, bool spdy, const Known *k)
{
        u->protocol = (StreamProtocol){ .kind = kind,
                                        .framing = spdy ? STREAM_SPDY : STREAM_CHANNELS,
                                        .version = 1 };
        if (k) {
                u->protocol = (StreamProtocol){ kind, k->framing, k->version, k->base64 };
                add_header(u, spdy ? SPDY_PROTOCOLS : WS_PROTOCOLS, k->name);
        }
        u->status = 101;
        add_header(u, "Upgrade", spdy ? SPDY_UPGRADE : "websocket");
}

static void check_websocket(StreamUpgrade *u, const char *method, const HttpHeader *headers,
                            size_t n)
{
        const char *version = http_header_get(headers, n, "Sec-WebSocket-Version");
        const char *key = http_header_get(headers, n, "Sec-WebSocket-Key");

        if (!str_eq(method, "GET")) {
                refuse(u, 400, "a WebSocket begins with GET");
        } else if (!str_eq(version, "13")) {
                refuse(u, 426, "only version 13 of WebSocket is supported");
                add_header(u, "Sec-WebSocket-Version", "13");
        } else if (!key || ws_accept_key(key, u->accept) < 0) {
                refuse(u, 400, "Sec-WebSocket-Key is missing or malformed");
        }
}

void stream_negotiate(StreamKind kind, const char *method, const HttpHeader *headers, size_t n,
                      StreamUpgrade *ret)
{
        bool spdy = asks_for(headers, n, SPDY_UPGRADE), named;
        const Known *k;

        *ret = (StreamUpgrade){ 0 };
        if (!spdy && !asks_for(headers, n, "websocket")) {
                refuse(ret, 400, "Upgrade request required");
                return;
        }
        if (!spdy)
                check_websocket(ret, method, headers, n);
        if (ret->status)
                return;
        k = choose(kind, spdy, headers, n, &named);
        if (named && !k) {
                refuse(ret, 403, "unable to upgrade: unable to negotiate protocol");
                if (spdy)
                        add_header(ret, SPDY_ACCEPTED,
                                   kind == STREAM_PORT_FORWARD
                                           ? "portforward.k8s.io"
                                           : "v5.channel.k8s.io, v4.channel.k8s.io, "
                                             "v3.channel.k8s.io, v2.channel.k8s.io, "
                                             "channel.k8s.io");
                return;
        }
        take(ret, kind, spdy, k);
        if (!spdy)
                add_header(ret, "Sec-WebSocket-Accept", ret->accept);
}
