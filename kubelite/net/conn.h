/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NET_CONN_H
#define KUBELITE_NET_CONN_H

#include "loop/loop.h"
#include "net/tls.h"

#include <stddef.h>

/*
 * One outgoing byte stream: TCP or a Unix socket, plain or TLS, perhaps through an HTTP proxy.
 * Addresses are tried one after the other; names are resolved in a worker. Callbacks come from the
 * loop only, never within a call of the owner's, and the owner may free the connection in any of
 * them. An idle connection holds no buffers.
 */
#define CONN_CONNECT_TIMEOUT_MS 10000
#define CONN_ADDRESS_TIMEOUT_MIN_MS 2000 /* one address of several gets at least this */
#define CONN_ADDRESSES_MAX 8
#define CONN_QUEUE_MAX (1U << 20) /* bytes not yet taken by the socket */
#define CONN_QUEUE_LOW (64U << 10)
#define CONN_READ_SIZE (16U << 10)
#define CONN_READS_PER_TURN 16 /* then the others' turn */

typedef struct Conn Conn;

/* An HTTP proxy that takes CONNECT. */
typedef struct ConnProxy {
        char *host;
        uint16_t port;
        char *authorization; /* value of Proxy-Authorization, or NULL */
} ConnProxy;

/* "http://[user:password@]host[:port]". */
int conn_proxy_parse(const char *url, ConnProxy **ret, KlError **err);
ConnProxy *conn_proxy_free(ConnProxy *proxy);
KL_DEFINE_CLEANUP(ConnProxy *, conn_proxy_free);
/* Whether NO_PROXY's value excepts a host: "*", names with their subdomains, addresses, CIDRs. */
bool conn_proxy_excepts(const char *no_proxy, const char *host, uint16_t port);

typedef struct ConnFuncs {
        void (*opened)(Conn *conn, void *data);
        void (*input)(Conn *conn, const char *bytes, size_t len, void *data);
        /* The write queue fell to CONN_QUEUE_LOW or below. */
        void (*writable)(Conn *conn, void *data);
        /* The last callback. err is NULL when the peer ended the stream in order. */
        void (*closed)(Conn *conn, const KlError *err, void *data);
} ConnFuncs;

typedef struct ConnSpec {
        const char *host; /* name or address; copied */
        uint16_t port;
        const char *unix_path;  /* instead of host and port */
        TlsContext *tls;        /* NULL: plain */
        const char *tls_name;   /* NULL: host */
        const ConnProxy *proxy; /* must live until opened or closed was called */
        const ConnFuncs *funcs;
        void *data;
} ConnSpec;

int conn_new(Loop *loop, const ConnSpec *spec, Conn **ret, KlError **err);
Conn *conn_free(Conn *conn);
KL_DEFINE_CLEANUP(Conn *, conn_free);

/* Queues; -ENOBUFS when the queue is full (nothing was taken), -ENOTCONN after an error. */
int conn_write(Conn *conn, const void *data, size_t len);
/* Writes what the socket takes at once, for who is about to free the connection. */
void conn_push(Conn *conn);
size_t conn_queued(const Conn *conn);
/* While paused nothing is read, and the peer's window fills. */
void conn_pause(Conn *conn, bool paused);
/* What TLS agreed on: "h2", "http/1.1" or "". */
const char *conn_alpn(const Conn *conn);

#endif
