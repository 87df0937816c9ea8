/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_STREAM_H
#define KUBELITE_SERVER_STREAM_H

#include "codec/http1.h"
#include "loop/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Streaming sessions of the kubelet API: exec and attach (remotecommand, protocols v1 to v5) and
 * port-forward, over SPDY/3.1, over WebSocket channels, and over SPDY in WebSocket messages. One
 * interface for all: the owner sees channels of bytes and never learns what carries them.
 *
 * Back-pressure, both ways. Output: stream_write() takes what fits into the transport's queue (and
 * into the peer's window, if it keeps one); the owner reads its process or socket only while
 * stream_room() says so, and goes on when it is told `writable`. Input: `input` tells how much it
 * took; the rest is kept, and given again after stream_resume(). When a channel has
 * STREAM_PENDING_MAX bytes waiting, or all have STREAM_SESSION_PENDING_MAX, the transport is
 * paused: so a session's memory is bounded whatever the client does.
 */
#define STREAM_QUEUE_MAX (256U << 10) /* bytes that the transport has not sent yet */
#define STREAM_QUEUE_LOW (64U << 10)  /* below: writable again */
#define STREAM_PENDING_MAX (64U << 10)
#define STREAM_SESSION_PENDING_MAX (512U << 10)
#define STREAM_PORTS_MAX 64      /* of one WebSocket session */
#define STREAM_PAIRS_MAX 120     /* connections at a time of one SPDY session */
#define STREAM_RESIZE_MAX 256    /* bytes of one terminal size */
#define STREAM_REQUEST_ID_MAX 64 /* of a port-forward connection's name */

/* --- the upgrade --- */

typedef enum StreamKind {
        STREAM_REMOTE_COMMAND,
        STREAM_PORT_FORWARD,
} StreamKind;

typedef enum StreamFraming {
        STREAM_SPDY,
        STREAM_CHANNELS, /* WebSocket messages that begin with a channel's number */
        STREAM_TUNNEL,   /* SPDY in WebSocket messages */
} StreamFraming;

typedef struct StreamProtocol {
        StreamKind kind;
        StreamFraming framing;
        int version; /* of remotecommand: 1 to 5 */
        bool base64; /* WebSocket text messages */
} StreamProtocol;

#define STREAM_UPGRADE_HEADERS 4

typedef struct StreamUpgrade {
        int status;          /* 101, 400, 403, 426 */
        const char *message; /* of a refusal; static */
        StreamProtocol protocol;
        HttpHeader headers[STREAM_UPGRADE_HEADERS]; /* besides Connection: Upgrade */
        size_t n_headers;
        char accept[32];
} StreamUpgrade;

/* Whether the request asks for an upgrade that these sessions are about. */
bool stream_is_upgrade(const HttpHeader *headers, size_t n);
/* Chooses the protocol. ret->headers point into ret and into static text. */
void stream_negotiate(StreamKind kind, const char *method, const HttpHeader *headers, size_t n,
                      StreamUpgrade *ret);

/* --- the transport: what carries the bytes --- */

/*
 * Functions of whoever owns the connection. They must not call back into the session; it is told by
 * the stream_session_ functions below. After `close`, and after stream_session_eof(), none is
 * called any more.
 */
typedef struct StreamTransport {
        /* Takes all of it; the queue stays below 2 * STREAM_QUEUE_MAX. Bytes are lost without a
         * word when the connection is broken: that is told by stream_session_eof(). */
        void (*write)(const void *bytes, size_t len, void *data);
        /* Bytes taken and not sent. */
        size_t (*queued)(void *data);
        /* While paused, no input. The end of the connection should be told nevertheless. */
        void (*pause)(bool paused, void *data);
        /* Sends what is queued, half-closes, and reads and drops what the peer still sends until it
         * ends or some seconds passed: closing with unread input would reset the connection and
         * could lose the status on its way. */
        void (*close)(void *data);
} StreamTransport;

/* --- the session --- */

typedef struct StreamSession StreamSession;
typedef struct StreamChannel StreamChannel;

typedef struct StreamFuncs {
        /* Remote command: all streams that were asked for are there. Start the process. */
        void (*started)(StreamSession *session, void *data);
        /* Port-forward: a connection. It lives until stream_forward_close() or `gone`. */
        void (*connect)(StreamSession *session, StreamChannel *channel, uint16_t port, void *data);
        /* Bytes for stdin or a connection; returns how many were taken. */
        size_t (*input)(StreamChannel *channel, const char *bytes, size_t len, void *data);
        /* No more of them. */
        void (*input_end)(StreamChannel *channel, void *data);
        /* stream_room() has grown from what was too little. */
        void (*writable)(StreamChannel *channel, void *data);
        /* Port-forward: the client gave the connection up; the channel is freed after this. */
        void (*gone)(StreamChannel *channel, void *data);
        void (*resize)(StreamSession *session, uint16_t columns, uint16_t rows, void *data);
        /* The last callback. err is NULL when all is over in order: the client left, or what
         * stream_finish_…() had to say was handed over. The transport was closed. */
        void (*closed)(StreamSession *session, const KlError *err, void *data);
} StreamFuncs;

typedef struct StreamSpec {
        StreamProtocol protocol;
        bool in, out, err, tty; /* of a remote command; err is ignored with tty */
        const uint16_t *ports;  /* of port-forward over WebSocket channels */
        size_t n_ports;
        uint64_t idle_timeout_ms;     /* 0: STREAM_IDLE_TIMEOUT_MS */
        uint64_t creation_timeout_ms; /* 0: STREAM_CREATION_TIMEOUT_MS */
        const StreamTransport *transport;
        void *transport_data;
        const StreamFuncs *funcs;
        void *data; /* the callbacks' */
} StreamSpec;

#define STREAM_IDLE_TIMEOUT_MS (4U * 3600 * 1000)
#define STREAM_CREATION_TIMEOUT_MS 30000
/* For a client to take the last output and the status. */
#define STREAM_FINISH_TIMEOUT_MS 30000

/*
 * Made when the 101 has been sent. No callback comes before the first stream_session_input() or
 * stream_session_start(), which is to be called once, right after. -EINVAL when no stream is asked
 * for.
 */
int stream_session_new(Loop *loop, const StreamSpec *spec, StreamSession **ret, KlError **err);
/* Says what can still be said (a close frame, a GOAWAY) unless it was closed, and closes the
 * transport. May be called in any callback. */
StreamSession *stream_session_free(StreamSession *session);
KL_DEFINE_CLEANUP(StreamSession *, stream_session_free);
void stream_session_start(StreamSession *session);
void *stream_session_data(const StreamSession *session);

/* From the transport: bytes, all of which are taken. */
void stream_session_input(StreamSession *session, const char *bytes, size_t len);
/* Some of the queue was sent: to be called at STREAM_QUEUE_LOW or below at the latest. */
void stream_session_sent(StreamSession *session);
/* The client is gone. */
void stream_session_eof(StreamSession *session);

/* --- channels --- */

/* Of a remote command; NULL for what was not asked for. */
StreamChannel *stream_stdin(StreamSession *session);
StreamChannel *stream_stdout(StreamSession *session);
StreamChannel *stream_stderr(StreamSession *session);

StreamSession *stream_channel_session(const StreamChannel *channel);
void stream_channel_set_user(StreamChannel *channel, void *user);
void *stream_channel_user(const StreamChannel *channel);

/* How much may be written now. Once it is 0, `writable` follows when it no longer is. */
size_t stream_room(StreamChannel *channel);
/* Takes up to the room; returns how much. */
size_t stream_write(StreamChannel *channel, const void *bytes, size_t len);
/* No more output on this channel; it may still have input. */
void stream_end(StreamChannel *channel);
/* Input can be taken again: calls `input` with what waits. */
void stream_resume(StreamChannel *channel);

/*
 * The process is over and all its output was written: the client gets its exit status, or why there
 * is none, as its protocol wants it, and the session ends with `closed`.
 */
void stream_finish_exit(StreamSession *session, int exit_code);
void stream_finish_error(StreamSession *session, const char *message);

/* The connection is over; message is what to tell the client (who may then end the session), or
 * NULL. Frees the channel. */
void stream_forward_close(StreamChannel *channel, const char *message);

#endif
