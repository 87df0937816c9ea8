/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_PROBE_STATE_H
#define KUBELITE_PROBE_STATE_H

#include "probe/probe.h"

/*
 * When one probe of one container is due, and what its results amount to: pure functions of times
 * and results (pkg/kubelet/prober/worker.go). A state belongs to one run of a container.
 *
 * Liveness counts as good until it failed, readiness as bad until it succeeded; startup is open,
 * and holds the other two back until it succeeded. A failed liveness or startup probe is not tried
 * again in this run.
 */
typedef enum ProbeVerdict {
        VERDICT_OPEN,
        VERDICT_SUCCESS,
        VERDICT_FAILURE,
} ProbeVerdict;

typedef struct ProbeState {
        ProbeKind kind;
        ProbeVerdict verdict;
        bool held; /* failed for good */
        ProbeOutcome last;
        int64_t in_a_row;
        uint64_t next_ms; /* monotonic; 0: none was planned yet */
} ProbeState;

/* What is observed of the container. */
typedef struct ProbeView {
        bool running; /* and its postStart hook is over */
        bool started; /* its startup probe has succeeded, or it has none */
        bool terminating;
        uint64_t running_since_ms; /* monotonic */
} ProbeView;

void probe_state_init(ProbeState *state, ProbeKind kind);

/* The verdict that an earlier daemon came to. */
void probe_state_restore(ProbeState *state, ProbeVerdict verdict);

/*
 * When to try next; 0: not until something changes. The first try of a readiness or startup probe
 * comes with the end of its initial delay, that of a liveness probe without one after a period.
 * jitter_ms (0: none) spreads the first tries of a daemon that adopts many containers.
 */
uint64_t probe_due_ms(ProbeState *state, const Probe *probe, const ProbeView *view, uint64_t now_ms,
                      uint64_t jitter_ms);

/* A try began: plans the one after it. */
void probe_state_tried(ProbeState *state, const Probe *probe, uint64_t now_ms);

/* A result came in. true: the verdict changed. */
bool probe_state_observe(ProbeState *state, const Probe *probe, ProbeOutcome outcome);

#endif
