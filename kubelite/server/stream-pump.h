/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_STREAM_PUMP_H
#define KUBELITE_SERVER_STREAM_PUMP_H

#include "loop/loop.h"
#include "server/stream.h"

/*
 * Bytes between one channel of a session and one descriptor: a pipe of a process, or a connected
 * socket. Nothing is kept here: what the descriptor does not take stays in the session, and what
 * the session has no room for stays in the kernel, so that either side holds the other back.
 */
typedef struct StreamPump StreamPump;

enum {
        PUMP_IN = 1,  /* from the client to the descriptor */
        PUMP_OUT = 2, /* from the descriptor to the client */
};

typedef enum PumpEnd {
        PUMP_OUT_ENDED, /* nothing more comes; all of it was given to the channel */
        PUMP_IN_FAILED, /* nobody reads any more; further input is dropped */
} PumpEnd;

/* The pump may be freed within it. */
typedef void (*StreamPumpFunc)(StreamPump *pump, PumpEnd end, void *data);

typedef struct StreamPumpSpec {
        StreamChannel *channel; /* outlives the pump */
        int fd;                 /* taken over, also by a failure */
        unsigned int directions;
        StreamPumpFunc func;
        void *data;
} StreamPumpSpec;

int stream_pump_new(Loop *loop, const StreamPumpSpec *spec, StreamPump **ret);
StreamPump *stream_pump_free(StreamPump *pump);
KL_DEFINE_CLEANUP(StreamPump *, stream_pump_free);

/* The session's callbacks of the channel. */
size_t stream_pump_input(StreamPump *pump, const char *bytes, size_t len);
void stream_pump_input_end(StreamPump *pump);
void stream_pump_writable(StreamPump *pump);

/* Whoever wrote into the pipe is gone: what is in it is all there will be, even if something else
 * holds its other end. */
void stream_pump_drain(StreamPump *pump);

/* Both directions are over. */
bool stream_pump_is_done(const StreamPump *pump);

#endif
