/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_PROBE_PROBE_H
#define KUBELITE_PROBE_PROBE_H

#include "api/pod-probes.h"
#include "loop/loop.h"
#include "runtime/runtime.h"

/*
 * Attempts: what a probe or a lifecycle hook does, done once. Each has a deadline, bounded output
 * and a callback that comes exactly once, unless the attempt is freed before: then whatever it
 * started is killed or closed. When to try, and what results mean, is probe/state.h's and the pod
 * room's.
 *
 * Connections are made from the daemon's network namespace, as upstream does it; certificates are
 * not verified.
 */
#define PROBE_OUTPUT_MAX (10U << 10)
#define PROBE_REDIRECTS_MAX 10

/* What all attempts of a daemon share. */
typedef struct Prober Prober;

/* version: "v1.36.2"; servers are told "kube-probe/1.36" and "kube-lifecycle/1.36". */
int prober_new(Loop *loop, const char *version, Prober **ret, KlError **err);
Prober *prober_free(Prober *prober);
KL_DEFINE_CLEANUP(Prober *, prober_free);
/* Since prober_new(), which is the daemon's start. */
uint64_t prober_age_ms(const Prober *prober);

typedef enum ProbeOutcome {
        PROBE_SUCCESS,
        PROBE_WARNING, /* a success that people should know of */
        PROBE_FAILURE,
        PROBE_UNKNOWN, /* it could not be tried: no result at all */
} ProbeOutcome;

typedef struct AttemptResult {
        ProbeOutcome outcome;
        /* What was printed or answered, or why it failed; cut to PROBE_OUTPUT_MAX. */
        const char *output;
        const char *plain_host; /* an HTTPS hook was answered in HTTP, there; or NULL */
} AttemptResult;

typedef struct Attempt Attempt;

typedef struct AttemptSpec {
        const Handler *handler; /* copied as far as it is needed later */
        bool hook;              /* any answer is a success; HTTPS may fall back to HTTP */
        Sandbox *sandbox;       /* for exec */
        const char *container_id;
        char *const *command; /* for exec: with its references expanded; NULL: the handler's */
        const char *pod_ip;   /* NULL or "": none yet */
        uint64_t timeout_ms;  /* 0: none */
        void (*done)(Attempt *attempt, const AttemptResult *result, void *data);
        void *data;
} AttemptSpec;

/* done never comes within the call. Fails only when memory does; all else is told as a result. */
int attempt_start(Prober *prober, const AttemptSpec *spec, Attempt **ret, KlError **err);
Attempt *attempt_free(Attempt *attempt);
KL_DEFINE_CLEANUP(Attempt *, attempt_free);

#endif
