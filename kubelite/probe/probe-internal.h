/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_PROBE_PROBE_INTERNAL_H
#define KUBELITE_PROBE_PROBE_INTERNAL_H

#include "base/buf.h"
#include "net/http.h"
#include "probe/probe.h"

struct Prober {
        Loop *loop;
        TlsContext *tls;
        char *probe_agent, *lifecycle_agent;
        uint64_t started_ms;
};

/* A kind of attempt. Its struct begins with an Attempt. */
typedef struct AttemptOps {
        size_t size;
        /* A failure is told as PROBE_UNKNOWN with its message. */
        int (*start)(Attempt *attempt, const AttemptSpec *spec, KlError **err);
        /* Stops and frees what it holds, not the attempt itself; also of a half-built one. */
        void (*stop)(Attempt *attempt);
        /* The deadline passed: tell. */
        void (*timed_out)(Attempt *attempt);
        uint64_t slack_ms; /* the kind keeps the deadline by itself; this is for when it does not */
} AttemptOps;

extern const AttemptOps attempt_exec, attempt_http, attempt_tcp, attempt_grpc, attempt_sleep;

struct Attempt {
        const AttemptOps *ops;
        Prober *prober;
        Timer *deadline;
        Deferred *failing; /* tells what went wrong within attempt_start() */
        char *failure;
        bool hook, told;
        uint64_t timeout_ms;
        void (*done)(Attempt *attempt, const AttemptResult *result, void *data);
        void *data;
};

/* The last thing that is done with an attempt: its owner may free it within. What comes after is
 * dropped. */
void attempt_tell_result(Attempt *attempt, const AttemptResult *result);
void attempt_tell(Attempt *attempt, ProbeOutcome outcome, const char *output);
void attempt_tellf(Attempt *attempt, ProbeOutcome outcome, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* The handler's host, or the pod's address. */
int attempt_host(const AttemptSpec *spec, const char **ret, KlError **err);
/* The handler's port. */
int attempt_port(const AttemptSpec *spec, KlError **err);

/* "10.0.0.1:80", "[::1]:80". */
#define HOST_PORT_MAX 320
void host_port_format(const char *host, uint16_t port, char ret[static HOST_PORT_MAX]);

/* Why no connection came about or it broke, in the words of Go's net package: people and scripts
 * look for them. */
void dial_error_format(const KlError *err, const char *host_port, char *buf, size_t size);

/* http-target.c */
/* A path as it may stand in a manifest becomes a request's target: rooted, escaped where it must
 * be, without a fragment. NULL when out of memory. */
char *http_target(const char *path);
typedef struct HttpPlace {
        bool https;
        char *host, *target;
        uint16_t port;
} HttpPlace;
/* Where a redirect leads. location may be absolute, rooted or relative to the target before. >0
 * (1): it names a host. */
int http_place_follow(const HttpPlace *from, const char *location, HttpPlace *ret, KlError **err);
void http_place_deinit(HttpPlace *place);

#endif
