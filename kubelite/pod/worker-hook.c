/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Lifecycle hooks. postStart runs beside the container's first process; until it is over the
 * container counts as being started, and those behind it wait. preStop runs within the grace
 * period, and what is left of that, at least GRACE_MIN_S, is the container's after its stop signal.
 *
 * A daemon that starts while a hook runs does as upstream's does: a postStart hook counts as over,
 * a preStop hook runs again, with the whole grace period.
 */

#include "pod/worker-internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "metrics/metrics.h"
#include "pod/restart.h"

#define GRACE_MIN_S 2

/* --- running one --- */

static int start_hook(PodWorker *w, WorkContainer *c, const Handler *handler,
                      void (*done)(Attempt *, const AttemptResult *, void *), KlError **err)
{
        AttemptSpec spec = {
                .handler = handler,
                .hook = true,
                .sandbox = w->sandbox,
                .container_id = c->view.current.id,
                .pod_ip = worker_pod_ip(w),
                .done = done,
                .data = c,
        };

        if (handler->kind == HANDLER_TCP)
                return kl_error(err, -EOPNOTSUPP, NULL,
                                "Cannot run handler: invalid handler: "
                                "&LifecycleHandler{Exec:nil,HTTPGet:nil,TCPSocket:&TCPSocketAction{"
                                "Port:%s,Host:%s,},Sleep:nil,}",
                                handler->port_name, handler->host ? handler->host : "");
        return attempt_start(w->context->prober, &spec, &c->hook, err);
}

/* Upstream's words for each kind. handler is NULL when a newer version of the pod has none, which
 * no API server of upstream's would let through. */
static char *failure_text(const PodWorker *w, const WorkContainer *c, const Handler *handler,
                          const char *error)
{
        KL_AUTOFREE char *tail =
                str_format("for Container \"%s\" in Pod \"%s_%s(%s)\" failed - error: %s", c->name,
                           w->pod->name, w->pod->namespace, w->pod->uid, error);
        KL_AUTOBUF words = BUF_INIT;

        if (!tail || !handler)
                return strdup(error);
        switch (handler->kind) {
        case HANDLER_EXEC:
                for (char **arg = handler->command; *arg; arg++)
                        buf_addf(&words, "%s%s", words.len ? " " : "", *arg);
                return str_format("Exec lifecycle hook ([%s]) %s", buf_str(&words), tail);
        case HANDLER_HTTP:
                return str_format("HTTP lifecycle hook (%s) %s", handler->path, tail);
        case HANDLER_SLEEP:
                return str_format("Sleep lifecycle hook (%lld) %s", (long long)handler->sleep_s,
                                  tail);
        case HANDLER_TCP:
        case HANDLER_GRPC:
                break;
        }
        return strdup(error);
}

static void report_fallback(PodWorker *w, const AttemptResult *result)
{
        if (!result->plain_host)
                return;
        metric_add(METRIC_LIFECYCLE_HTTP_FALLBACKS, 1);
        worker_event(w, NULL, EVENT_WARNING, "LifecycleHTTPFallback",
                     "request to HTTPS lifecycle hook %s got HTTP response, retry with HTTP "
                     "succeeded",
                     result->plain_host);
}

/* --- postStart --- */

bool worker_post_start_pending(const WorkContainer *c)
{
        return c->view.spec && c->view.spec->lifecycle.post_start && !c->post_start_over;
}

static void post_start_over(PodWorker *w, WorkContainer *c)
{
        c->post_start_over = true;
        c->view.run = RUN_RUNNING;
        worker_probes_start(w, c);
        worker_dirty(w, true);
}

static void post_start_failed(PodWorker *w, WorkContainer *c, const char *error)
{
        c->post_start_over = true;
        c->hook_error = failure_text(w, c, c->view.spec->lifecycle.post_start, error);
        if (!c->hook_error)
                c->hook_error = strdup("");
        log_warning(w->pod->name, "%s", c->hook_error ? c->hook_error : error);
        /* What it printed may be secret: statuses have it, events do not. */
        worker_event(w, c, EVENT_WARNING, "FailedPostStartHook", "PostStartHook failed");
        worker_event(w, c, EVENT_NORMAL, "Killing", "FailedPostStartHook");
        worker_stop_within(w, c, w->pod->grace_s);
        worker_dirty(w, true);
}

static void on_post_start(Attempt *attempt, const AttemptResult *result, void *data)
{
        WorkContainer *c = data;
        PodWorker *w = c->worker;
        bool good = result->outcome == PROBE_SUCCESS || result->outcome == PROBE_WARNING;
        KL_AUTOFREE char *error = good ? NULL : strdup(result->output);

        report_fallback(w, result);
        c->hook = attempt_free(c->hook);
        if (good)
                post_start_over(w, c);
        else
                post_start_failed(w, c, error ? error : "");
}

void worker_post_start(PodWorker *w, WorkContainer *c)
{
        KL_AUTOERR err = NULL;

        if (!worker_post_start_pending(c) || c->hook)
                return;
        if (worker_is_ending(w)) {
                post_start_over(w, c);
                return;
        }
        if (start_hook(w, c, c->view.spec->lifecycle.post_start, on_post_start, &err) < 0)
                post_start_failed(w, c, kl_error_msg(err));
}

void worker_abandon_post_start(PodWorker *w, WorkContainer *c)
{
        if (!c->hook || c->post_start_over)
                return;
        c->hook = attempt_free(c->hook);
        post_start_over(w, c);
}

/* --- preStop --- */

static void signal_container(PodWorker *w, WorkContainer *c)
{
        int64_t elapsed_s = (int64_t)(time_monotonic_ms() - c->stop_began_ms) / 1000;
        int64_t left_s = c->stop_grace_s - elapsed_s;

        c->pre_stop_over = true;
        if (w->sandbox)
                sandbox_stop_container(w->sandbox, c->view.current.id,
                                       (uint64_t)(left_s < GRACE_MIN_S ? GRACE_MIN_S : left_s) *
                                               1000);
}

static void pre_stop_failed(PodWorker *w, WorkContainer *c, const char *error)
{
        KL_AUTOFREE char *text = failure_text(w, c, c->view.spec->lifecycle.pre_stop, error);

        log_warning(w->pod->name, "%s", text ? text : error);
        worker_event(w, c, EVENT_WARNING, "FailedPreStopHook", "PreStopHook failed");
}

static void on_pre_stop(Attempt *attempt, const AttemptResult *result, void *data)
{
        WorkContainer *c = data;
        PodWorker *w = c->worker;

        report_fallback(w, result);
        if (result->outcome == PROBE_FAILURE || result->outcome == PROBE_UNKNOWN)
                pre_stop_failed(w, c, result->output);
        c->hook = attempt_free(c->hook);
        timer_stop(c->hook_deadline);
        signal_container(w, c);
}

static void on_hook_deadline(Timer *timer, void *data)
{
        WorkContainer *c = data;
        const Handler *handler = c->view.spec->lifecycle.pre_stop;

        if (handler && handler->kind == HANDLER_SLEEP)
                metric_add(METRIC_SLEEP_TERMINATED_EARLY, 1);
        c->hook = attempt_free(c->hook);
        pre_stop_failed(c->worker, c, "it did not end within the grace period");
        signal_container(c->worker, c);
}

static bool begin_pre_stop(PodWorker *w, WorkContainer *c, int64_t grace_s)
{
        const Handler *handler = c->view.spec ? c->view.spec->lifecycle.pre_stop : NULL;
        KL_AUTOERR err = NULL;

        if (!handler || c->pre_stop_over || grace_s <= 0)
                return false;
        if (!c->hook_deadline)
                c->hook_deadline = timer_new(w->context->loop, on_hook_deadline, c);
        if (!c->hook_deadline)
                return false;
        if (start_hook(w, c, handler, on_pre_stop, &err) < 0) {
                pre_stop_failed(w, c, kl_error_msg(err));
                return false;
        }
        timer_start(c->hook_deadline, (uint64_t)grace_s * 1000);
        return true;
}

/* Asked again while the hook runs. */
static void shorten(PodWorker *w, WorkContainer *c, int64_t grace_s)
{
        uint64_t now = time_monotonic_ms();
        int64_t left_s = c->stop_grace_s - (int64_t)(now - c->stop_began_ms) / 1000;

        if (grace_s >= left_s)
                return;
        c->stop_began_ms = now;
        c->stop_grace_s = grace_s;
        timer_start(c->hook_deadline, grace_s > 0 ? (uint64_t)grace_s * 1000 : 0);
}

void worker_stop_within(PodWorker *w, WorkContainer *c, int64_t grace_s)
{
        c->view.run = RUN_STOPPING;
        if (c->hook) {
                shorten(w, c, grace_s);
                return;
        }
        c->stop_began_ms = time_monotonic_ms();
        c->stop_grace_s = grace_s;
        if (!begin_pre_stop(w, c, grace_s))
                signal_container(w, c);
}

void worker_hooks_end(WorkContainer *c)
{
        c->hook = attempt_free(c->hook);
        c->hook_deadline = timer_free(c->hook_deadline);
}

void worker_stop_text(const PodWorker *w, const WorkContainer *c, char *buf, size_t size)
{
        const Container *spec = c->view.spec;
        bool sidecar = spec && spec->kind == CONTAINER_INIT;
        bool again = !sidecar && spec && restart_policy_of(w->pod, spec) != RESTART_NEVER;
        ProbeKind kind;

        if (worker_is_ending(w) || (!c->outdated && !worker_probe_failed(c, &kind)))
                snprintf(buf, size, "Stopping container %s", c->name);
        else if (c->outdated)
                snprintf(buf, size, "Container %s definition changed, will be restarted", c->name);
        else
                snprintf(buf, size, "%s %s failed %s probe%s",
                         sidecar ? "Init container" : "Container", c->name,
                         kind == PROBE_LIVENESS ? "liveness" : "startup",
                         again ? ", will be restarted" : "");
}
