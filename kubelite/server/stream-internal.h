/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_STREAM_INTERNAL_H
#define KUBELITE_SERVER_STREAM_INTERNAL_H

#include "base/buf.h"
#include "base/list.h"
#include "codec/base64.h"
#include "codec/spdy.h"
#include "codec/websocket.h"
#include "server/stream.h"

/* The numbers of a remote command's WebSocket channels. */
typedef enum Lane {
        LANE_STDIN = 0,
        LANE_STDOUT = 1,
        LANE_STDERR = 2,
        LANE_ERROR = 3,
        LANE_RESIZE = 4,
        LANES = 5,
        LANE_DATA = 5, /* of port-forward */
        LANE_DATA_ERROR = 6,
} Lane;

#define CHANNEL_CLOSE 255 /* v5: the next byte's channel is half-closed */

struct StreamChannel {
        StreamSession *session;
        List link; /* in pairs, of a data channel */
        Lane lane;
        void *user;
        uint16_t port;
        char request_id[STREAM_REQUEST_ID_MAX + 1];
        StreamChannel *error; /* a data channel's, owned by it */
        StreamChannel *data;  /* an error channel's */
        uint64_t deadline;    /* of a pair that is not whole */

        SpdyStream *spdy; /* NULL: not there yet, or gone */
        int number;       /* of a WebSocket channel */
        bool attached;    /* it has, or had, what carries it */
        bool live;        /* the owner knows of it: input may be delivered */
        bool closed;      /* given up: freed at the outermost stream_leave() */
        bool in_ended, in_told, out_ended, starved, delivering;
        Buf pending; /* input that was not taken */
};

/* What carries channels. */
typedef struct StreamMux {
        int (*input)(StreamSession *s, char *bytes, size_t len, size_t *ret_used, KlError **err);
        void (*begin)(StreamSession *s);
        size_t (*window)(const StreamChannel *c); /* bytes that the peer wants */
        void (*write)(StreamChannel *c, const void *bytes, size_t len);
        void (*end)(StreamChannel *c);
        void (*consumed)(StreamChannel *c, size_t len);
        void (*detach)(StreamChannel *c); /* the channel is about to be freed */
        void (*goodbye)(StreamSession *s, int error);
} StreamMux;

extern const StreamMux stream_spdy_mux, stream_channels_mux;
extern const SpdyFuncs stream_spdy_funcs;

struct StreamSession {
        Loop *loop;
        StreamSpec spec;
        const StreamMux *mux;
        SpdySession *spdy;
        StreamChannel lanes[LANES];
        List pairs;
        size_t n_pairs, n_closed; /* of them, those in use and those to be freed */
        Timer *timer;
        uint64_t last_activity, deadline;

        Buf input;  /* not parsed yet */
        Buf tunnel; /* unmasked and not parsed yet */
        size_t n_pending;
        unsigned int depth; /* of calls that may call back */
        bool processing, blocked, paused;
        bool started, finishing, over, dead, lost, goaway;
        Buf status;

        WsParser ws;
        bool in_message, closing; /* of WebSocket channels */
        unsigned char channel;
        Base64Decoder decoder;
        Buf resize;
        bool in_resize;
        uint16_t ports[STREAM_PORTS_MAX];
};

/* --- stream-session.c --- */

void stream_enter(StreamSession *s);
void stream_leave(StreamSession *s);
/* Nothing may be done for the session any more. */
bool stream_is_over(const StreamSession *s);
/* Ends the session with a last callback. error: 0 or what ends it, told to the peer. */
void stream_over(StreamSession *s, int error, const KlError *err);
void stream_start_command(StreamSession *s);
/* From the mux: input of a channel, its end. */
void stream_lane_input(StreamChannel *c, const char *bytes, size_t len);
void stream_lane_end(StreamChannel *c);
/* … and that its window grew. */
void stream_lane_writable(StreamChannel *c);
/* Whether remote commands of this session use the lane. */
bool stream_wants_lane(const StreamSession *s, Lane lane);
/* Sets the timer for what is due next. */
void stream_arm(StreamSession *s);
/* Input goes on, if nothing is full any more. */
void stream_unblock(StreamSession *s);

/* --- stream-pair.c --- */

/* NULL when out of memory. */
StreamChannel *stream_pair_new(StreamSession *s, uint16_t port, const char *request_id);
void stream_pair_connect(StreamChannel *c);
/* Ends both halves; the owner hears of it if tell. */
void stream_pair_drop(StreamChannel *c, bool tell);
void stream_pair_free(StreamChannel *c);
/* Of pairs that were never whole; returns the next deadline or UINT64_MAX. */
uint64_t stream_pairs_expire(StreamSession *s, uint64_t now);

/* --- stream-status.c --- */

void stream_status_exit(Buf *to, int version, int exit_code);
void stream_status_error(Buf *to, int version, const char *message);

/* --- stream-websocket.c --- */

int stream_websocket_input(StreamSession *s, char *bytes, size_t len, size_t *ret_used,
                           KlError **err);
/* A message of two parts. */
void stream_websocket_write(StreamSession *s, WsOpcode opcode, const void *head, size_t head_len,
                            const void *body, size_t body_len);
void stream_websocket_close(StreamSession *s, int error);

/* --- stream-resize.c --- */

void stream_resize_input(StreamSession *s, const char *bytes, size_t len);

#endif
