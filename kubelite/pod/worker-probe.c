/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Probes of the pod's containers: timers, attempts, and what their results do to the container's
 * `started` and `ready`. The rules are probe/state.h's. Verdicts are noted with the container's
 * record, so that the next daemon goes on from them and a ready pod stays ready over its start.
 */

#include "pod/worker-internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "metrics/metrics.h"
#include "pod/environment.h"
#include "probe/state.h"

#define NOTE_STARTED "started"
#define NOTE_READY "started ready"

struct ContainerProbe {
        PodWorker *worker;
        WorkContainer *container;
        ProbeState state;
        Timer *timer;
        Attempt *attempt;
        uint64_t began_us;
};

static const Probe *spec_of(const WorkContainer *c, ProbeKind kind)
{
        return c->view.spec ? c->view.spec->probes[kind] : NULL;
}

static ProbeVerdict verdict_of(const WorkContainer *c, ProbeKind kind)
{
        return c->probes[kind] ? c->probes[kind]->state.verdict : VERDICT_OPEN;
}

static bool is_running(const WorkContainer *c)
{
        return c->view.run == RUN_RUNNING || c->view.run == RUN_STOPPING;
}

/* --- what results amount to --- */

static bool is_started(const PodWorker *w, const WorkContainer *c)
{
        if (!is_running(c) || c->hook_error)
                return false;
        /* A pod that ends stops asking. */
        return !spec_of(c, PROBE_STARTUP) || worker_is_ending(w) ||
               verdict_of(c, PROBE_STARTUP) == VERDICT_SUCCESS;
}

static bool is_ready(const WorkContainer *c, bool started)
{
        return started &&
               (!spec_of(c, PROBE_READINESS) || verdict_of(c, PROBE_READINESS) == VERDICT_SUCCESS);
}

static void note_verdicts(PodWorker *w, WorkContainer *c)
{
        bool started = verdict_of(c, PROBE_STARTUP) == VERDICT_SUCCESS || c->view.started;
        const char *note = c->view.ready ? NOTE_READY : started ? NOTE_STARTED : "";

        if (!w->sandbox || !is_running(c) || str_eq(c->note, note))
                return;
        if (!c->probes[PROBE_STARTUP] && !c->probes[PROBE_READINESS])
                return;
        c->note = note;
        if (sandbox_write_note(w->sandbox, c->view.current.id, note) < 0)
                log_warning(w->pod->name, "The state of the probes of '%s' is not kept, ignoring",
                            c->name);
}

static void schedule(ContainerProbe *p);

void worker_refresh_health(PodWorker *w, WorkContainer *c)
{
        const Container *spec = c->view.spec;
        bool started = is_started(w, c), ready = is_ready(c, started);

        /* An init container is ready once it completed. */
        if (spec && spec->kind == CONTAINER_INIT && !spec->sidecar)
                ready = c->view.run == RUN_EXITED && c->view.current.exit_code == 0;
        if (started != c->view.started || ready != c->view.ready)
                worker_dirty(w, true);
        c->view.started = started;
        c->view.ready = ready;
        note_verdicts(w, c);
        for (int kind = 0; kind < PROBE_KINDS; kind++)
                if (c->probes[kind])
                        schedule(c->probes[kind]);
}

bool worker_probe_failed(const WorkContainer *c, ProbeKind *ret)
{
        static const ProbeKind kinds[] = { PROBE_LIVENESS, PROBE_STARTUP };

        for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                if (!c->probes[kinds[i]] || verdict_of(c, kinds[i]) != VERDICT_FAILURE)
                        continue;
                *ret = kinds[i];
                return true;
        }
        return false;
}

/* --- one try --- */

const char *worker_pod_ip(const PodWorker *w)
{
        char *const *ips = w->pod->host_network ? w->context->host_ips : w->pod_ips;

        return ips ? ips[0] : NULL;
}

static void emit(ContainerProbe *p, const AttemptResult *result)
{
        const char *name = probe_kind_name(p->state.kind);
        PodWorker *w = p->worker;

        switch (result->outcome) {
        case PROBE_SUCCESS:
                break;
        case PROBE_WARNING:
                worker_event(w, p->container, EVENT_WARNING, "ProbeWarning", "%s probe warning: %s",
                             name, result->output);
                break;
        case PROBE_FAILURE:
                worker_event(w, p->container, EVENT_WARNING, "Unhealthy", "%s probe failed: %s",
                             name, result->output);
                break;
        case PROBE_UNKNOWN:
                worker_event(w, p->container, EVENT_WARNING, "Unhealthy",
                             "%s probe errored and resulted in unknown state: %s", name,
                             result->output);
                break;
        }
}

static void count(const ContainerProbe *p, ProbeOutcome outcome)
{
        const Pod *pod = p->worker->pod;
        const char *name = p->container->name, *kind = probe_kind_name(p->state.kind);

        if (outcome == PROBE_UNKNOWN)
                return;
        metric_add(METRIC_PROBES, 1, name, pod->namespace, pod->name, pod->uid, kind,
                   outcome == PROBE_FAILURE ? "failed" : "successful");
        if (outcome != PROBE_FAILURE)
                metric_observe(METRIC_PROBE_DURATION,
                               (double)(time_monotonic_us() - p->began_us) / 1e6, name,
                               pod->namespace, pod->name, kind);
}

static void on_attempt(Attempt *attempt, const AttemptResult *result, void *data)
{
        ContainerProbe *p = data;
        PodWorker *w = p->worker;
        WorkContainer *c = p->container;
        const Probe *spec = spec_of(c, p->state.kind);
        bool changed = spec && probe_state_observe(&p->state, spec, result->outcome);

        emit(p, result);
        count(p, result->outcome);
        p->attempt = attempt_free(p->attempt);
        if (changed)
                worker_dirty(w, false);
        worker_refresh_health(w, c);
}

/* References to variables with a literal value are expanded, as upstream does it for probes. */
static char **expand_command(const Container *spec, char *const *command)
{
        KL_AUTOSTRV env = calloc(1, sizeof(*env));
        bool any = false;

        for (char *const *arg = command; *arg; arg++)
                any |= strchr(*arg, '$') != NULL;
        if (!any || !env)
                return NULL;
        for (size_t i = 0; i < spec->n_env; i++) {
                const EnvVar *v = &spec->env[i];

                if (strv_addf(&env, "%s=%s", v->name,
                              v->source == ENV_VALUE && v->value ? v->value : "") < 0)
                        return NULL;
        }
        return environment_expand_all(command, env);
}

static void on_due(Timer *timer, void *data)
{
        ContainerProbe *p = data;
        PodWorker *w = p->worker;
        const Probe *spec = spec_of(p->container, p->state.kind);
        KL_AUTOSTRV command = NULL;
        KL_AUTOERR err = NULL;
        AttemptSpec attempt = {
                .sandbox = w->sandbox,
                .container_id = p->container->view.current.id,
                .done = on_attempt,
                .data = p,
        };

        if (!spec || p->attempt)
                return;
        probe_state_tried(&p->state, spec, time_monotonic_ms());
        attempt.handler = &spec->handler;
        attempt.timeout_ms = (uint64_t)spec->timeout_s * 1000;
        attempt.pod_ip = worker_pod_ip(w);
        if (spec->handler.kind == HANDLER_EXEC)
                command = expand_command(p->container->view.spec, spec->handler.command);
        attempt.command = command;
        p->began_us = time_monotonic_us();
        if (attempt_start(w->context->prober, &attempt, &p->attempt, &err) < 0) {
                log_error(w->pod->name, "A probe of '%s' is left out: %s", p->container->name,
                          kl_error_msg(err));
                schedule(p);
        }
}

/* --- when --- */

/* A daemon that finds many containers does not try them all at once. */
static uint64_t jitter_ms(const PodWorker *w, const WorkContainer *c, const Probe *spec)
{
        uint64_t period_ms = (uint64_t)spec->period_s * 1000;

        if (!c->adopted || prober_age_ms(w->context->prober) >= period_ms)
                return 0;
        return random_u64() % period_ms;
}

static void schedule(ContainerProbe *p)
{
        WorkContainer *c = p->container;
        const Probe *spec = spec_of(c, p->state.kind);
        uint64_t now = time_monotonic_ms(), due = 0;
        ProbeView view = {
                .running = is_running(c) && !c->hook_error,
                .started = c->view.started,
                .terminating = worker_is_ending(p->worker),
                .running_since_ms = c->running_since_ms,
        };

        if (spec)
                due = probe_due_ms(&p->state, spec, &view, now,
                                   p->state.next_ms ? 0 : jitter_ms(p->worker, c, spec));
        if (!due) {
                p->attempt = attempt_free(p->attempt);
                timer_stop(p->timer);
        } else if (!p->attempt) {
                timer_start(p->timer, due > now ? due - now : 0);
        }
}

static ContainerProbe *probe_free(ContainerProbe *p)
{
        if (!p)
                return NULL;
        attempt_free(p->attempt);
        timer_free(p->timer);
        free(p);
        return NULL;
}

static ContainerProbe *probe_new(PodWorker *w, WorkContainer *c, ProbeKind kind)
{
        ContainerProbe *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        p->worker = w;
        p->container = c;
        probe_state_init(&p->state, kind);
        p->timer = timer_new(w->context->loop, on_due, p);
        return p->timer ? p : probe_free(p);
}

static void make_probes(PodWorker *w, WorkContainer *c, bool adopted)
{
        int64_t running_us = time_realtime_us() - c->view.current.started_us;
        uint64_t now = time_monotonic_ms();

        worker_probes_stop(c);
        c->adopted = adopted;
        /* A clock that was set does not make a delay longer. */
        c->running_since_ms = running_us > 0 && (uint64_t)running_us / 1000 < now
                                      ? now - (uint64_t)running_us / 1000
                                      : now;
        for (int kind = 0; kind < PROBE_KINDS; kind++) {
                if (!spec_of(c, (ProbeKind)kind))
                        continue;
                c->probes[kind] = probe_new(w, c, (ProbeKind)kind);
                if (!c->probes[kind])
                        log_error(w->pod->name, "'%s' is not probed: out of memory", c->name);
        }
}

void worker_probes_start(PodWorker *w, WorkContainer *c)
{
        make_probes(w, c, false);
        worker_refresh_health(w, c);
}

void worker_probes_adopt(PodWorker *w, WorkContainer *c)
{
        KL_AUTOFREE char *note = sandbox_read_note(w->sandbox, c->view.current.id);

        make_probes(w, c, true);
        if (c->probes[PROBE_STARTUP] && (str_eq(note, NOTE_STARTED) || str_eq(note, NOTE_READY)))
                probe_state_restore(&c->probes[PROBE_STARTUP]->state, VERDICT_SUCCESS);
        if (c->probes[PROBE_READINESS] && str_eq(note, NOTE_READY))
                probe_state_restore(&c->probes[PROBE_READINESS]->state, VERDICT_SUCCESS);
        worker_refresh_health(w, c);
}

void worker_probes_stop(WorkContainer *c)
{
        for (int kind = 0; kind < PROBE_KINDS; kind++)
                c->probes[kind] = probe_free(c->probes[kind]);
        c->note = NULL;
}

void worker_probes_forget(const PodWorker *w)
{
        metric_forget(METRIC_PROBES, "pod_uid", w->pod->uid);
        metric_forget(METRIC_PROBE_DURATION, "pod", w->pod->name);
}
