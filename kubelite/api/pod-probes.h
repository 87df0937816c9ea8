/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_API_POD_PROBES_H
#define KUBELITE_API_POD_PROBES_H

#include "codec/http1.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Probes and lifecycle hooks of a container, with the API's defaults filled in (api/pod.h). */

typedef enum HandlerKind {
        HANDLER_EXEC,
        HANDLER_HTTP,
        HANDLER_TCP,
        HANDLER_GRPC,  /* probes only */
        HANDLER_SLEEP, /* hooks only */
} HandlerKind;

/* What a probe or a hook does. */
typedef struct Handler {
        HandlerKind kind;
        char **command;  /* exec */
        char *host;      /* http, tcp; NULL: the pod's address */
        char *port_name; /* as given: a number or the name of a port of the container */
        uint16_t port;   /* 0: the container has no port of that name */
        char *path;      /* http; may have a query */
        bool https;
        HttpHeader *headers;
        size_t n_headers;
        char *service; /* grpc; "" by default */
        int64_t sleep_s;
} Handler;

typedef enum ProbeKind {
        PROBE_LIVENESS,
        PROBE_READINESS,
        PROBE_STARTUP,
        PROBE_KINDS,
} ProbeKind;

typedef struct Probe {
        Handler handler;
        int64_t initial_delay_s, timeout_s, period_s;
        int64_t success_threshold, failure_threshold;
        int64_t grace_s; /* of the container that this probe ends; -1: the pod's */
} Probe;

typedef struct Lifecycle {
        Handler *post_start, *pre_stop; /* NULL: none */
        char *stop_signal;              /* "SIGUSR1", or NULL: the image's */
} Lifecycle;

/* "Liveness", "Readiness", "Startup", as events and metrics name them. */
const char *probe_kind_name(ProbeKind kind);

#endif
