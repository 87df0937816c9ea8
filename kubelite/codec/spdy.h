/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_SPDY_H
#define KUBELITE_CODEC_SPDY_H

#include "base/error.h"
#include "codec/http1.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The server's end of a SPDY/3.1 session: bytes in, streams out, and back. No I/O, and no buffers
 * but the one for an unfinished control frame: data passes through in pieces.
 *
 * Flow control. The clients of the Kubernetes API neither send window updates nor look at ours:
 * with them the transport's back-pressure is all there is. So our windows are announced and
 * refilled, never enforced, and the peer's count from its first WINDOW_UPDATE or
 * SETTINGS_INITIAL_WINDOW_SIZE on. Whoever reads a session bounds its own memory by stopping it
 * (spdy_session_stop).
 */
#define SPDY_FRAME_MAX (1U << 20)         /* of data */
#define SPDY_CONTROL_MAX (64U << 10)      /* a control frame's body */
#define SPDY_HEADER_BLOCK_MAX (64U << 10) /* inflated */
#define SPDY_HEADERS_MAX 100
#define SPDY_SETTINGS_MAX 64
#define SPDY_STREAMS_MAX 256
#define SPDY_WINDOW 65536

typedef enum SpdyStatus {
        SPDY_OK = 0,
        SPDY_PROTOCOL_ERROR = 1,
        SPDY_INVALID_STREAM = 2,
        SPDY_REFUSED_STREAM = 3,
        SPDY_UNSUPPORTED_VERSION = 4,
        SPDY_CANCEL = 5,
        SPDY_INTERNAL_ERROR = 6,
        SPDY_FLOW_CONTROL_ERROR = 7,
        SPDY_STREAM_IN_USE = 8,
        SPDY_STREAM_ALREADY_CLOSED = 9,
        SPDY_FRAME_TOO_LARGE = 11,
} SpdyStatus;

typedef enum SpdyGoaway {
        SPDY_GOAWAY_OK = 0,
        SPDY_GOAWAY_PROTOCOL_ERROR = 1,
        SPDY_GOAWAY_INTERNAL_ERROR = 2,
} SpdyGoaway;

typedef struct SpdySession SpdySession;
typedef struct SpdyStream SpdyStream;

/*
 * Callbacks may write to, end and reset any stream, and stop the session; they must not free it.
 */
typedef struct SpdyFuncs {
        /* One frame: its head, and its body (of data; borrowed) or NULL. */
        void (*output)(const void *head, size_t head_len, const void *body, size_t body_len,
                       void *data);
        /* The peer opens a stream. Anything but SPDY_OK refuses it. Nothing may be written yet. */
        SpdyStatus (*offered)(SpdyStream *stream, const HttpHeader *headers, size_t n, void *data);
        /* It is answered: writing may begin. */
        void (*opened)(SpdyStream *stream, void *data);
        /* To be confirmed with spdy_stream_consumed(), now or later. */
        void (*input)(SpdyStream *stream, const char *bytes, size_t len, void *data);
        void (*input_end)(SpdyStream *stream, void *data);
        /* The peer's window grew. */
        void (*writable)(SpdyStream *stream, void *data);
        /* The stream's last callback: both ends have ended it (SPDY_OK), or it was reset by the
         * peer or for the peer's mistake. Not called for what spdy_stream_reset() resets. */
        void (*gone)(SpdyStream *stream, SpdyStatus status, void *data);
        /* The peer opens no more streams. */
        void (*goaway)(void *data);
} SpdyFuncs;

/* NULL when out of memory. */
SpdySession *spdy_session_new(const SpdyFuncs *funcs, void *data);
/* Without callbacks and without a word to the peer. */
SpdySession *spdy_session_free(SpdySession *session);
KL_DEFINE_CLEANUP(SpdySession *, spdy_session_free);

/*
 * Works off bytes until they are used up or the session is stopped; never called from its own
 * callbacks. A negative result ends the session: a GOAWAY was written.
 */
int spdy_session_input(SpdySession *session, const char *bytes, size_t len, size_t *ret_used,
                       KlError **err);
/* Within a callback: spdy_session_input() returns after it. */
void spdy_session_stop(SpdySession *session);
/* Says that no further stream is accepted; later SYN_STREAMs are ignored. */
void spdy_session_goaway(SpdySession *session, SpdyGoaway status);
size_t spdy_session_n_streams(const SpdySession *session);

uint32_t spdy_stream_id(const SpdyStream *stream);
void spdy_stream_set_user(SpdyStream *stream, void *user);
void *spdy_stream_user(const SpdyStream *stream);

/* What the peer's windows allow to write now; SIZE_MAX when it has none. */
size_t spdy_stream_room(const SpdyStream *stream);
/* One data frame of at most SPDY_FRAME_MAX bytes, within the room. */
void spdy_stream_write(SpdyStream *stream, const void *bytes, size_t len);
/* No more output. The stream is gone if the peer had ended its side too. */
void spdy_stream_end(SpdyStream *stream);
/* Frees the stream. */
void spdy_stream_reset(SpdyStream *stream, SpdyStatus status);
/* So much input was taken: the peer may send as much again. */
void spdy_stream_consumed(SpdyStream *stream, size_t len);
/* The same for input whose stream is gone. */
void spdy_session_consumed(SpdySession *session, size_t len);

#endif
