/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_STREAMS_INTERNAL_H
#define KUBELITE_SERVER_STREAMS_INTERNAL_H

#include "base/list.h"
#include "server/server-internal.h"
#include "server/stream-pump.h"

/*
 * A session of an upgraded request: the first member of what serves it. It lives in the server's
 * list until served_stream_end(), which is called once, by the session's `closed` at the latest;
 * its memory goes at the end of the turn, since its own callbacks may be under way.
 */
typedef struct ServedStream ServedStream;

typedef struct ServedStreamOps {
        StreamFuncs funcs;                /* whose data is the ServedStream */
        void (*release)(ServedStream *s); /* all but its memory; the session is gone already */
} ServedStreamOps;

struct ServedStream {
        List link;
        KubeletServer *server;
        const ServedStreamOps *ops;
        HttpStream *http; /* NULL: closed */
        StreamSession *session;
        bool broken;
        /* Who is meant, looked up whenever something is to be done there: the pod may go. */
        char *namespace, *pod, *uid, *container;
};

/* Before it was started: releases and frees it. */
void served_stream_drop(ServedStream *s);
/* False: there is no protocol for it, and the request was answered. */
bool served_stream_negotiate(ServerRequest *rq, StreamKind kind, StreamUpgrade *ret);
/* Answers the request: upgrades it and starts the session, or says why not. The stream is consumed.
 * spec has what the session is about; protocol, transport and owner are filled here. */
void served_stream_start(ServedStream *s, ServerRequest *rq, const StreamUpgrade *upgrade,
                         StreamSpec *spec);
/* Says goodbye if that was not done, closes the connection, releases. */
void served_stream_end(ServedStream *s);
/* The session's `closed`. */
void served_stream_closed(StreamSession *session, const KlError *err, void *stream);

/* segments: namespace, pod, perhaps uid, container if it has one. -ENOMEM. */
int served_stream_name(ServedStream *s, const Target *target, bool has_container);
/* The same, borrowed from the target. */
PlaceName server_place_name(const Target *target, bool has_container);
/* -ENOENT: there is no such pod. */
int served_stream_find(const ServedStream *s, Place *ret);

#endif
