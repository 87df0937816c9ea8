/* SPDX-License-Identifier: Apache-2.0 */

#include "probe/state.h"

void probe_state_init(ProbeState *s, ProbeKind kind)
{
        static const ProbeVerdict first[PROBE_KINDS] = {
                [PROBE_LIVENESS] = VERDICT_SUCCESS,
                [PROBE_READINESS] = VERDICT_FAILURE,
                [PROBE_STARTUP] = VERDICT_OPEN,
        };

        *s = (ProbeState){ .kind = kind, .verdict = first[kind] };
}

static bool is_final(const ProbeState *s)
{
        return s->kind != PROBE_READINESS && s->verdict == VERDICT_FAILURE;
}

void probe_state_restore(ProbeState *s, ProbeVerdict verdict)
{
        s->verdict = verdict;
        s->held = is_final(s);
}

static bool is_wanted(const ProbeState *s, const ProbeView *view)
{
        if (!view->running || s->held)
                return false;
        if (view->terminating && s->kind != PROBE_READINESS)
                return false;
        return view->started != (s->kind == PROBE_STARTUP);
}

static uint64_t first_ms(const ProbeState *s, const Probe *probe, const ProbeView *view)
{
        uint64_t delay_ms = (uint64_t)probe->initial_delay_s * 1000;

        /* Before its first result a liveness probe only has something to lose. */
        if (s->kind == PROBE_LIVENESS && delay_ms == 0)
                delay_ms = (uint64_t)probe->period_s * 1000;
        return view->running_since_ms + delay_ms;
}

uint64_t probe_due_ms(ProbeState *s, const Probe *probe, const ProbeView *view, uint64_t now_ms,
                      uint64_t jitter_ms)
{
        uint64_t first;

        if (!is_wanted(s, view))
                return 0;
        if (!s->next_ms) {
                first = first_ms(s, probe, view);
                s->next_ms = (first > now_ms ? first : now_ms) + jitter_ms;
        }
        return s->next_ms;
}

void probe_state_tried(ProbeState *s, const Probe *probe, uint64_t now_ms)
{
        uint64_t period_ms = (uint64_t)probe->period_s * 1000;

        /* In step with the first one; a try that took longer than a period is followed at once. */
        s->next_ms += period_ms;
        if (s->next_ms < now_ms)
                s->next_ms = now_ms;
}

bool probe_state_observe(ProbeState *s, const Probe *probe, ProbeOutcome outcome)
{
        ProbeVerdict before = s->verdict;

        if (outcome == PROBE_UNKNOWN || s->held)
                return false;
        if (outcome == PROBE_WARNING)
                outcome = PROBE_SUCCESS;
        s->in_a_row = s->last == outcome ? s->in_a_row + 1 : 1;
        s->last = outcome;
        if (s->in_a_row <
            (outcome == PROBE_SUCCESS ? probe->success_threshold : probe->failure_threshold))
                return false;
        s->verdict = outcome == PROBE_SUCCESS ? VERDICT_SUCCESS : VERDICT_FAILURE;
        s->held = is_final(s);
        return s->verdict != before;
}
