/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The life of a worker: applying versions of the pod, planning, executing, rendering.
 *
 * The worker owns its pod, its sandbox handle, its volume set and its references to config maps and
 * secrets. Jobs in flight (image pulls, CNI calls) hold the worker as their data; freeing the
 * worker abandons them.
 */

#include "pod/worker-internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "metrics/metrics.h"

#include <stdarg.h>

#define EVENT_TEXT_MAX 1024
/* pkg/kubelet/active_deadline.go */
#define REASON_DEADLINE "DeadlineExceeded"
#define MESSAGE_DEADLINE "Pod was active on the node longer than the specified deadline"

void worker_dirty(PodWorker *w, bool status)
{
        w->status_dirty |= status;
        deferred_schedule(w->turn);
}

void worker_event(PodWorker *w, const WorkContainer *c, const char *type, const char *reason,
                  const char *format, ...)
{
        static const char *const lists[] = { "initContainers", "containers",
                                             "ephemeralContainers" };
        char path[256] = "", text[EVENT_TEXT_MAX];
        EventObject object = {
                .api_version = "v1",
                .kind = "Pod",
                .namespace = w->pod->namespace,
                .name = w->pod->name,
                .uid = w->pod->uid,
                .resource_version = w->pod->resource_version,
        };
        va_list args;

        if (c && c->view.spec) {
                snprintf(path, sizeof(path), "spec.%s{%s}", lists[c->view.spec->kind], c->name);
                object.field_path = path;
        }
        va_start(args, format);
        vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        event_emit(w->context->events, &object, type, reason, "%s", text);
}

void pod_worker_event(PodWorker *w, const char *type, const char *reason, const char *text)
{
        worker_event(w, NULL, type, reason, "%s", text);
}

/* --- planning --- */

/* Monotonic; a deadline that has passed is in the past. */
static uint64_t deadline_ms(const PodWorker *w, uint64_t now_ms)
{
        int64_t left_ms;

        if (w->pod->active_deadline_s < 0)
                return 0;
        left_ms = (w->start_us - time_realtime_us()) / 1000 + w->pod->active_deadline_s * 1000;
        return left_ms > 0 ? now_ms + (uint64_t)left_ms : now_ms;
}

/* What is derived of a container's last run. */
static void refresh_view(const PodWorker *w, WorkContainer *c)
{
        c->view.earlier = c->view.run == RUN_EXITED && c->sandbox_attempt >= 0 &&
                          c->sandbox_attempt + 1 != w->sandbox_attempt;
}

void worker_fill_plan(PodWorker *w, PlanInput *in, PlanContainer *containers)
{
        *in = (PlanInput){
                .now_ms = time_monotonic_ms(),
                .restart_policy = w->pod->restart_policy,
                .terminating = w->terminating || w->ended,
                .removed = w->terminating,
                .finished = w->rejected || pod_phase_is_terminal(w->pod->seen_phase),
                .host_network = w->pod->host_network,
                .network_available = !cni_not_ready_message(w->context->cni),
                .sandbox = w->sandbox_state,
                .sandbox_retry_ms = w->sandbox_retry_ms,
                .network = w->network_state,
                .volumes = w->volume_state,
                .containers = containers,
                .n_containers = w->n_containers,
        };
        in->deadline_ms = deadline_ms(w, in->now_ms);
        for (size_t i = 0; i < w->n_containers; i++) {
                WorkContainer *c = w->containers[i];
                const Container *spec = c->view.spec;
                ProbeKind kind;

                refresh_view(w, c);
                containers[i] = (PlanContainer){
                        .kind = spec->kind,
                        .sidecar = spec->sidecar,
                        .run = c->view.run,
                        .outdated = c->outdated,
                        .earlier = c->view.earlier,
                        .own_policy = spec->has_restart_policy,
                        .policy = spec->restart_policy,
                        .unhealthy = worker_probe_failed(c, &kind),
                        .starting_up = !c->view.started,
                        .post_start_pending = worker_post_start_pending(c),
                        .in_post_start = worker_post_start_pending(c) && c->hook,
                        .exit_code = c->view.current.exit_code,
                        .rule = restart_rule(spec, c->view.current.exit_code),
                        .image = c->image_state,
                        .image_retry_ms = c->image_retry_ms,
                        .start_retry_ms = c->start_retry_ms,
                };
        }
}

bool worker_is_complete(PodWorker *w)
{
        PlanContainer containers[POD_CONTAINERS_MAX];
        PlanInput in;

        worker_fill_plan(w, &in, containers);
        return pod_plan_is_complete(&in);
}

static const PodEnding deadline_ending = { REASON_DEADLINE, MESSAGE_DEADLINE, .grace_s = -1 };

static void execute(PodWorker *w, const Action *action)
{
        WorkContainer *c = w->containers[action->container];

        switch (action->type) {
        case ACTION_SETUP_VOLUMES:
                worker_setup_volumes(w);
                break;
        case ACTION_CREATE_SANDBOX:
                worker_create_sandbox(w);
                break;
        case ACTION_ADD_NETWORK:
                worker_add_network(w);
                break;
        case ACTION_REPORT_NO_NETWORK:
                worker_report_no_network(w);
                break;
        case ACTION_ENSURE_IMAGE:
                worker_ensure_image(w, c);
                break;
        case ACTION_START:
                worker_start_container(w, c);
                break;
        case ACTION_STOP:
                worker_stop_container(w, c);
                break;
        case ACTION_KILL:
                worker_kill_container(w, c);
                break;
        case ACTION_RESET:
                worker_reset_containers(w);
                break;
        case ACTION_EXPIRE:
                worker_event(w, NULL, EVENT_NORMAL, REASON_DEADLINE, MESSAGE_DEADLINE);
                pod_worker_end(w, &deadline_ending);
                break;
        case ACTION_REPORT_BACKOFF:
                worker_report_backoff(w, c);
                break;
        case ACTION_DELETE_NETWORK:
                worker_delete_network(w);
                break;
        case ACTION_DESTROY_SANDBOX:
                worker_destroy_sandbox(w);
                break;
        case ACTION_TEARDOWN_VOLUMES:
                worker_teardown_volumes(w);
                break;
        case ACTION_FINISH:
                worker_finish_pod(w);
                break;
        }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
        return !a ? b : !b ? a : a < b ? a : b;
}

static void on_turn(Deferred *turn, void *data)
{
        PlanContainer containers[POD_CONTAINERS_MAX];
        uint64_t begin_us = time_monotonic_us();
        PodWorker *w = data;
        PlanInput in;
        Plan plan;

        worker_fill_plan(w, &in, containers);
        pod_plan(&in, &plan);
        for (size_t i = 0; i < plan.n; i++)
                execute(w, &plan.actions[i]);
        for (size_t i = 0; i < w->n_containers; i++)
                plan.wake_ms = earlier(plan.wake_ms,
                                       worker_image_backoff_due(w, w->containers[i], in.now_ms));
        worker_count_turn(w, begin_us);
        if (plan.wake_ms)
                timer_start(w->wake, plan.wake_ms > in.now_ms ? plan.wake_ms - in.now_ms : 0);
        if (w->status_dirty && !w->over_elsewhere)
                w->events.changed(w, w->data);
        w->status_dirty = false;
        if (w->finished)
                w->events.finished(w, w->data);
}

static void on_wake(Timer *timer, void *data)
{
        worker_dirty(data, false);
}

/* --- references of the environment --- */

static void on_object(ObjectRef *ref, void *data)
{
        PodWorker *w = data;

        /* A container that failed for want of this object need not wait any longer. */
        for (size_t i = 0; i < w->n_containers; i++)
                if (w->containers[i]->config_error)
                        w->containers[i]->start_retry_ms = 0;
        worker_dirty(w, false);
}

static char *object_key(ObjectKind kind, const char *name)
{
        return str_format("%c/%s", kind == OBJECT_SECRET ? 's' : 'c', name);
}

ObjectRef *worker_object(PodWorker *w, ObjectKind kind, const char *name)
{
        KL_AUTOFREE char *key = object_key(kind, name);

        return key ? map_get(w->objects, key) : NULL;
}

static int reference_object(PodWorker *w, ObjectKind kind, const char *name, KlError **err)
{
        KL_AUTOFREE char *key = object_key(kind, name);
        KL_AUTO(object_ref_free) ObjectRef *ref = NULL;

        if (!key)
                return kl_error_oom(err);
        if (map_get(w->objects, key))
                return 0;
        KL_TRY(object_ref_new(w->context->objects, kind, w->pod->namespace, name, on_object, w,
                              &ref, err));
        if (map_set(w->objects, key, ref) < 0)
                return kl_error_oom(err);
        ref = NULL;
        return 0;
}

static int reference_objects(PodWorker *w, const Container *c, KlError **err)
{
        for (size_t i = 0; i < c->n_env_from; i++)
                KL_TRY(reference_object(w,
                                        c->env_from[i].secret ? OBJECT_SECRET : OBJECT_CONFIG_MAP,
                                        c->env_from[i].object, err));
        for (size_t i = 0; i < c->n_env; i++) {
                const EnvVar *v = &c->env[i];

                if (v->source != ENV_CONFIG_MAP && v->source != ENV_SECRET)
                        continue;
                KL_TRY(reference_object(w,
                                        v->source == ENV_SECRET ? OBJECT_SECRET : OBJECT_CONFIG_MAP,
                                        v->object, err));
        }
        return 0;
}

static void free_object(void *ref)
{
        object_ref_free(ref);
}

/* --- versions of the pod --- */

static const SeenContainer *seen_container(const Pod *pod, const char *container)
{
        for (size_t i = 0; i < pod->n_seen_containers; i++)
                if (str_eq(pod->seen_containers[i].name, container))
                        return &pod->seen_containers[i];
        return NULL;
}

static WorkContainer *work_container_new(PodWorker *w, const Container *spec)
{
        const SeenContainer *seen = seen_container(w->pod, spec->name);
        WorkContainer *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->name = strdup(spec->name);
        if (!c->name) {
                free(c);
                return NULL;
        }
        c->worker = w;
        /* Records may be gone (a reboot); the API remembers how often it ran. */
        c->sandbox_attempt = -1;
        if (seen) {
                c->view.restart_count = (unsigned int)seen->restart_count;
                c->next_attempt = c->view.restart_count + seen->ran;
        }
        return c;
}

/* Takes a container out of the old order. */
static WorkContainer *take_container(PodWorker *w, const char *name)
{
        for (size_t i = 0; i < w->n_containers; i++) {
                WorkContainer *c = w->containers[i];

                if (c && strcmp(c->name, name) == 0) {
                        w->containers[i] = NULL;
                        return c;
                }
        }
        return NULL;
}

static void free_containers(PodWorker *w)
{
        for (size_t i = 0; i < w->n_containers; i++)
                worker_container_free(w, w->containers[i]);
        free(w->containers);
        free(w->views);
        w->containers = NULL;
        w->views = NULL;
        w->n_containers = 0;
}

/* What is known of a container moves to its place in the new version's order. */
static int apply_containers(PodWorker *w, KlError **err)
{
        size_t n = w->pod->n_containers;
        WorkContainer **next = calloc(n, sizeof(*next));
        ContainerView *views = calloc(n, sizeof(*views));

        for (size_t i = 0; next && views && i < n; i++) {
                const Container *spec = &w->pod->containers[i];

                next[i] = take_container(w, spec->name);
                if (!next[i])
                        next[i] = work_container_new(w, spec);
                if (!next[i])
                        return kl_error_oom(err);
                next[i]->view.spec = spec;
                next[i]->outdated = next[i]->hash && !str_eq(next[i]->hash, spec->hash);
        }
        if (!next || !views) {
                free(next);
                free(views);
                return kl_error_oom(err);
        }
        free_containers(w);
        w->containers = next;
        w->views = views;
        w->n_containers = n;
        for (size_t i = 0; i < n; i++)
                KL_TRY(reference_objects(w, w->containers[i]->view.spec, err));
        for (char **name = w->pod->image_pull_secrets; name && *name; name++)
                KL_TRY(reference_object(w, OBJECT_SECRET, *name, err));
        return 0;
}

void pod_worker_update(PodWorker *w, Pod *pod)
{
        KL_AUTO(pod_free) Pod *old = w->pod;
        KL_AUTOERR err = NULL;

        w->pod = pod;
        if (apply_containers(w, &err) < 0)
                log_error(pod->name, "Update of the pod is incomplete: %s", kl_error_msg(err));
        worker_refresh_facts(w);
        if (w->volumes)
                pod_volumes_update(w->volumes, w->pod, &w->facts);
        worker_dirty(w, true);
}

static void cancel_pulls(PodWorker *w)
{
        for (size_t i = 0; i < w->n_containers; i++)
                worker_cancel_pull(w->containers[i]);
}

int pod_worker_new(const PodContext *context, Pod *pod, const AdoptedSandbox *adopted,
                   const PodWorkerEvents *events, void *data, PodWorker **ret, KlError **err)
{
        KL_AUTO(pod_worker_free) PodWorker *w = calloc(1, sizeof(*w));

        if (!w) {
                pod_free(pod);
                return kl_error_oom(err);
        }
        w->context = context;
        w->pod = pod;
        w->events = *events;
        w->data = data;
        w->grace_s = -1;
        w->over_elsewhere = !adopted && pod_phase_is_terminal(pod->seen_phase);
        worker_refresh_facts(w);
        w->start_us = pod->seen_start_us ? pod->seen_start_us : time_realtime_us();
        w->turn = deferred_new(context->loop, on_turn, w);
        w->wake = timer_new(context->loop, on_wake, w);
        w->objects = map_new(free_object);
        if (!w->turn || !w->wake || !w->objects)
                return kl_error_oom(err);
        KL_TRY(apply_containers(w, err));
        worker_count_new(w, adopted != NULL);
        if (adopted)
                worker_adopt(w, adopted);
        worker_dirty(w, true);
        *ret = KL_STEAL(w);
        return 0;
}

PodWorker *pod_worker_free(PodWorker *w)
{
        if (!w)
                return NULL;
        deferred_free(w->turn);
        timer_free(w->wake);
        cni_call_abandon(w->cni_call);
        free_containers(w);
        worker_probes_forget(w);
        if (w->sandbox)
                sandbox_set_events(w->sandbox, NULL, NULL);
        worker_free(w->log_remover);
        pod_volumes_free(w->volumes);
        map_free(w->objects);
        strv_free(w->pod_ips);
        free(w->sandbox_id);
        free(w->netns);
        free(w->rejected_reason);
        free(w->rejected_message);
        free(w->ended_reason);
        free(w->ended_message);
        pod_free(w->pod);
        free(w);
        return NULL;
}

const Pod *pod_worker_pod(const PodWorker *w)
{
        return w->pod;
}

void pod_worker_terminate(PodWorker *w, int64_t grace_s)
{
        bool first = !w->terminating;
        bool shorter = grace_s >= 0 && (w->grace_s < 0 || grace_s < w->grace_s);

        if (!first && !shorter)
                return;
        if (!w->terminating)
                w->over_before = pod_phase_is_terminal(w->pod->seen_phase);
        w->terminating = true;
        w->grace_s = grace_s;
        cancel_pulls(w);
        for (size_t i = 0; i < w->n_containers; i++) {
                WorkContainer *c = w->containers[i];

                /* Those that are stopping already are asked again: the shorter grace counts. */
                if (c->view.run == RUN_STOPPING)
                        c->view.run = RUN_RUNNING;
                worker_refresh_health(w, c);
        }
        worker_dirty(w, true);
}

bool pod_worker_terminating(const PodWorker *w)
{
        return w->terminating;
}

void pod_worker_end(PodWorker *w, const PodEnding *ending)
{
        if (w->ended || w->rejected || pod_phase_is_terminal(w->pod->seen_phase))
                return;
        w->ended_reason = strdup(ending->reason);
        w->ended_message = strdup(ending->message);
        w->ended = true;
        for (size_t i = 0; i < w->n_containers; i++)
                worker_refresh_health(w, w->containers[i]);
        w->end_grace_s = ending->grace_s;
        w->disruption = ending->disruption;
        cancel_pulls(w);
        worker_dirty(w, true);
}

bool pod_worker_ended(const PodWorker *w)
{
        return w->ended;
}

void pod_worker_reject(PodWorker *w, const char *reason, const char *message)
{
        w->rejected = true;
        metric_add(METRIC_ADMISSION_REJECTIONS, 1, reason);
        free(w->rejected_reason);
        free(w->rejected_message);
        w->rejected_reason = strdup(reason);
        w->rejected_message = str_format("Pod was rejected: %s", message);
        worker_event(w, NULL, EVENT_WARNING, reason, "%s", message);
        worker_dirty(w, true);
}

void pod_worker_poke(PodWorker *w)
{
        worker_refresh_facts(w);
        worker_dirty(w, true);
}

/* What the context says now; on the host's network the pod's addresses are the node's. */
void worker_refresh_facts(PodWorker *w)
{
        w->facts = w->context->facts;
        w->facts.pod_ips = w->pod->host_network ? w->context->host_ips : w->pod_ips;
}

/* --- rendering --- */

static bool nothing_alive(const PodWorker *w)
{
        for (size_t i = 0; i < w->n_containers; i++) {
                RunState run = w->containers[i]->view.run;

                if (run == RUN_STARTING || run == RUN_RUNNING || run == RUN_STOPPING)
                        return false;
        }
        return true;
}

static bool sandbox_ready(const PodWorker *w)
{
        return w->sandbox_state == SANDBOX_READY &&
               (w->volume_state == VOLUME_STATE_READY || w->volumes_adopted) &&
               (w->pod->host_network || w->network_state == NETWORK_READY);
}

static bool is_over(PodWorker *w)
{
        return nothing_alive(w) && (w->terminating || w->ended || worker_is_complete(w));
}

bool pod_worker_is_active(PodWorker *w)
{
        return !w->rejected && !is_over(w);
}

static void fill_view(PodWorker *w, PodView *ret)
{
        for (size_t i = 0; i < w->n_containers; i++) {
                refresh_view(w, w->containers[i]);
                w->views[i] = w->containers[i]->view;
        }
        *ret = (PodView){
                .pod = w->pod,
                .containers = w->views,
                .terminating = w->terminating || w->ended,
                .phase_is_echo = w->terminating && !w->over_before,
                .terminated = is_over(w),
                .ended_reason = w->ended_reason,
                .ended_message = w->ended_message,
                .disruption = w->disruption,
                .rejected_reason = w->rejected_reason,
                .rejected_message = w->rejected_message,
                .sandbox_ready = sandbox_ready(w),
                .host_ips = w->context->host_ips,
                .pod_ips = w->pod->host_network ? w->context->host_ips : w->pod_ips,
                .start_us = w->start_us,
                .conditions = w->conditions,
                .now_us = time_realtime_us(),
        };
}

int pod_worker_status(PodWorker *w, PodStatus *ret)
{
        PodView view;

        fill_view(w, &view);
        return pod_status_render(&view, ret);
}

const char *pod_worker_phase(PodWorker *w)
{
        PodView view;

        fill_view(w, &view);
        return pod_status_phase(&view);
}
