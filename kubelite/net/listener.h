/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NET_LISTENER_H
#define KUBELITE_NET_LISTENER_H

#include "loop/loop.h"
#include "net/server-tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A TLS server: accepts, shakes hands, and carries bytes. What the bytes mean is the owner's
 * business. Callbacks come from the loop only, never within a call of the owner's, and the owner
 * may close any connection in any of them.
 *
 * Connections that nobody has vouched for yet (listener_conn_trust) are few: a new one pushes out
 * the oldest, first of its own peer, so that a flood can neither fill memory nor lock others out.
 */
#define LISTENER_CONNECTIONS_MAX 4096
#define LISTENER_PEER_MAX 2048     /* of one address */
#define LISTENER_UNTRUSTED_MAX 256 /* of them nobody vouched for */
#define LISTENER_UNTRUSTED_PEER_MAX 128
#define LISTENER_HANDSHAKE_MS 10000     /* from accept to the first byte within TLS */
#define LISTENER_FLUSH_MS 10000         /* for the last bytes of a closing connection */
#define LISTENER_LINGER_MS 1000         /* after them, for the peer to close too */
#define LISTENER_LINGER_MAX (1U << 20)  /* bytes that it may still send meanwhile */
#define LISTENER_QUEUE_MAX (512U << 10) /* bytes that the socket has not taken */
#define LISTENER_QUEUE_LOW (32U << 10)
#define LISTENER_READ_SIZE (16U << 10)
#define LISTENER_PEER_SIZE 48 /* an address as text */

typedef struct Listener Listener;
typedef struct ListenerConn ListenerConn;

typedef struct ListenerFuncs {
        /* The handshake is done and the first bytes are there. Returns the connection's data, or
         * NULL to refuse it. */
        void *(*opened)(ListenerConn *conn, void *data);
        void (*input)(ListenerConn *conn, const char *bytes, size_t len, void *conn_data);
        /* The write queue fell to LISTENER_QUEUE_LOW or below. */
        void (*writable)(ListenerConn *conn, void *conn_data);
        /* The peer is gone or the connection broke. The last callback; none comes after the
         * owner's listener_conn_close(). */
        void (*closed)(ListenerConn *conn, void *conn_data);
} ListenerFuncs;

typedef struct ListenerSpec {
        const char *address; /* numeric, IPv4 or IPv6; "" or "0.0.0.0" for all */
        uint16_t port;       /* 0: any */
        const ServerTls *tls;
        const ListenerFuncs *funcs;
        void *data;
} ListenerSpec;

int listener_new(Loop *loop, const ListenerSpec *spec, Listener **ret, KlError **err);
/* Connections are cut; their closed() is called. Turns the loop until libwebsockets has let go of
 * it, so never from within a callback. */
Listener *listener_free(Listener *listener);
KL_DEFINE_CLEANUP(Listener *, listener_free);

uint16_t listener_port(const Listener *listener);
size_t listener_connections(const Listener *listener);
/* For connections from now on. */
int listener_set_certificate(Listener *listener, const char *cert_pem, const char *key_pem,
                             KlError **err);

/* Queues; -ENOBUFS when the queue is full (nothing was taken), -ENOTCONN after its end. */
int listener_conn_write(ListenerConn *conn, const void *data, size_t len);
/* What is written next goes into a TLS record of its own, apart from what was written before. */
void listener_conn_begin_record(ListenerConn *conn);
/* Calls writable when the queue is, or falls, at or below LISTENER_QUEUE_LOW; -ENOBUFS asks for it
 * too. */
void listener_conn_notify(ListenerConn *conn);
size_t listener_conn_queued(const ListenerConn *conn);
/* While paused nothing is read, and the peer's window fills; its end is told nevertheless. */
void listener_conn_pause(ListenerConn *conn, bool paused);
/* Sends what is queued, then closes; the connection is no longer the owner's. */
void listener_conn_close(ListenerConn *conn);
/* Drops what is queued. */
void listener_conn_abort(ListenerConn *conn);

/* It has shown who it is. */
void listener_conn_trust(ListenerConn *conn);
const char *listener_conn_peer(const ListenerConn *conn);
/* The client's certificate and what it sent along, leaf first; NULL if it sent none. Borrowed. */
const ClientChain *listener_conn_chain(const ListenerConn *conn);

#endif
