/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Containers of a pod: starting, stopping, what the runtime tells of them, and the crash-loop
 * back-off (client-go's flowcontrol.Backoff as the kubelet uses it: the first restart comes at
 * once, then 10 s doubling; ten minutes without a crash forget it).
 */

#include "pod/worker-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "pod/environment.h"

#include <sys/stat.h>

#define CRASH_BACKOFF_MIN_MS 10000
#define CONFIG_RETRY_MS 10000
#define HOOK_RETRY_MS                                                                              \
        1000 /* long enough for its message to be seen; upstream's PLEG takes as long */

WorkContainer *worker_container(PodWorker *w, const char *name)
{
        for (size_t i = 0; i < w->n_containers; i++)
                if (strcmp(w->containers[i]->name, name) == 0)
                        return w->containers[i];
        return NULL;
}

static void run_record_clear(RunRecord *record)
{
        free(record->id);
        free(record->message);
        *record = (RunRecord){ 0 };
}

static void set_waiting(WorkContainer *c, const char *reason, const char *message)
{
        char *copy = message ? strdup(message) : NULL;

        free(c->view.waiting_message);
        c->view.waiting_reason = reason;
        c->view.waiting_message = copy;
}

static void release_image(PodWorker *w, WorkContainer *c)
{
        if (c->held_image)
                image_release(w->context->images, c->held_image);
        free(c->held_image);
        c->held_image = NULL;
}

void worker_container_free(PodWorker *w, WorkContainer *c)
{
        if (!c)
                return;
        worker_cancel_pull(c);
        worker_hooks_end(c);
        worker_probes_stop(c);
        free(c->hook_error);
        worker_forget_env_files(c);
        release_image(w, c);
        run_record_clear(&c->view.current);
        run_record_clear(&c->view.last);
        run_record_clear(&c->before.last);
        free(c->view.waiting_message);
        free(c->name);
        free(c->hash);
        free(c->image);
        free(c->image_id);
        free(c->groups);
        free(c->image_error);
        free(c);
}

/* --- crash-loop back-off --- */

static bool backoff_expired(const PodWorker *w, const WorkContainer *c)
{
        int64_t idle_us = c->view.current.finished_us - c->crash_updated_us;

        return idle_us > 2 * (int64_t)w->context->crash_backoff_max_ms * 1000;
}

/* Sets start_retry_ms of a container that ended and will be started again. */
static void backoff_wait(PodWorker *w, WorkContainer *c)
{
        int64_t since_ms = (time_realtime_us() - c->view.current.finished_us) / 1000;

        c->start_retry_ms = 0;
        c->backoff_reported = false;
        if (!c->crash_backoff_ms || backoff_expired(w, c))
                return;
        /* A clock that was set must not make a container wait longer than its back-off. */
        if (since_ms < 0)
                since_ms = 0;
        if ((uint64_t)since_ms < c->crash_backoff_ms)
                c->start_retry_ms = time_monotonic_ms() + c->crash_backoff_ms - (uint64_t)since_ms;
}

static void backoff_next(PodWorker *w, WorkContainer *c)
{
        /* Upstream counts a run that it ended for its probe only when there was one before. */
        if (c->view.run != RUN_EXITED || (c->ended_by_probe && !c->view.last.id))
                return;
        if (!c->crash_backoff_ms || backoff_expired(w, c))
                c->crash_backoff_ms = CRASH_BACKOFF_MIN_MS;
        else
                c->crash_backoff_ms *= 2;
        if (c->crash_backoff_ms > w->context->crash_backoff_max_ms)
                c->crash_backoff_ms = w->context->crash_backoff_max_ms;
        c->crash_updated_us = time_realtime_us();
}

void worker_report_backoff(PodWorker *w, WorkContainer *c)
{
        KL_AUTOFREE char *message = NULL;
        const Pod *p = w->pod;

        if (c->backoff_reported || c->config_error)
                return;
        c->backoff_reported = true;
        message = str_format("back-off %llus restarting failed container=%s pod=%s_%s(%s)",
                             (unsigned long long)c->crash_backoff_ms / 1000, c->name, p->name,
                             p->namespace, p->uid);
        set_waiting(c, "CrashLoopBackOff", message);
        worker_event(w, c, EVENT_WARNING, "BackOff",
                     "Back-off restarting failed container %s in pod %s_%s(%s)", c->name, p->name,
                     p->namespace, p->uid);
        w->status_dirty = true;
}

/* --- start --- */

typedef struct StartLookup {
        PodWorker *worker;
        WorkContainer *container;
} StartLookup;

static const ObjectRef *lookup_object(ObjectKind kind, const char *name, void *data)
{
        return worker_object(((const StartLookup *)data)->worker, kind, name);
}

static int lookup_file(const char *volume, const char *path, const char **ret_text, void *data,
                       KlError **err)
{
        const StartLookup *lookup = data;

        return worker_env_file(lookup->container, volume, path, ret_text, err);
}

/* A start that failed before the runtime was asked: shown as waiting, tried again. */
static void start_failed(PodWorker *w, WorkContainer *c, const KlError *err)
{
        const char *reason = kl_error_reason(err, "CreateContainerError");

        worker_count_start_error(c, reason);
        c->config_error = true;
        c->start_retry_ms = time_monotonic_ms() + CONFIG_RETRY_MS;
        set_waiting(c, reason, kl_error_msg(err));
        worker_event(w, c, EVENT_WARNING, "Failed", "Error: %s", kl_error_msg(err));
        worker_dirty(w, true);
}

static void announce_image(PodWorker *w, WorkContainer *c)
{
        if (c->image_pulled)
                return;
        worker_event(w, c, EVENT_NORMAL, "Pulled",
                     "Container image \"%s\" already present on machine and can be accessed by the "
                     "pod",
                     c->view.spec->image);
}

/* pkg/kubelet/network/dns */
static void report_dns(PodWorker *w, const DnsNotes *notes)
{
        if (w->dns_reported)
                return;
        w->dns_reported = true;
        if (notes->nameservers)
                worker_event(w, NULL, EVENT_WARNING, "DNSConfigForming",
                             "Nameserver limits were exceeded, some nameservers have been omitted, "
                             "the applied nameserver line is: %s",
                             notes->nameservers);
        if (notes->searches)
                worker_event(w, NULL, EVENT_WARNING, "DNSConfigForming",
                             "Search Line limits were exceeded, some search paths have been "
                             "omitted, the applied search line is: %s",
                             notes->searches);
        if (notes->missing_cluster_dns)
                worker_event(w, NULL, EVENT_WARNING, "MissingClusterDNS",
                             "pod: \"%s_%s(%s)\". kubelet does not have ClusterDNS IP configured "
                             "and cannot create Pod using \"ClusterFirst\" policy. Falling back to "
                             "\"Default\" policy.",
                             w->pod->name, w->pod->namespace, w->pod->uid);
}

static void unlink_log(PodWorker *w, const WorkContainer *c, const char *id)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        const char *link = arena ? compile_log_link(w->context, w->pod, c->name, id, arena) : NULL;

        if (link)
                runtime_remove(w->context->runtime, link);
}

void worker_tidy_log(PodWorker *w, const char *container, unsigned int attempt)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        const char *path =
                arena ? compile_log_path(w->context, w->pod, container, attempt, arena) : NULL;

        if (path)
                log_tidy_rotated(w->context->log_tidy, path);
}

/* Of the run before the last one. */
static void forget_log(PodWorker *w, const WorkContainer *c)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        const char *path = arena && c->before.restart_count > 0
                                   ? compile_log_path(w->context, w->pod, c->name,
                                                      c->before.restart_count - 1, arena)
                                   : NULL;

        unlink_log(w, c, c->before.last.id);
        worker_remove_termination_file(w, c, c->before.last.id);
        if (path)
                log_tidy_remove(w->context->log_tidy, path);
}

void worker_unlink_logs(PodWorker *w, const WorkContainer *c)
{
        if (c->view.current.id)
                unlink_log(w, c, c->view.current.id);
        if (c->view.last.id)
                unlink_log(w, c, c->view.last.id);
        worker_remove_termination_file(w, c, c->view.last.id);
}

bool pod_worker_remove_dead(PodWorker *w)
{
        bool any = false;

        for (size_t i = 0; w->sandbox && i < w->n_containers; i++) {
                const WorkContainer *c = w->containers[i];
                ContainerInfo info;

                /* The status goes on telling of it. */
                if (!c->view.last.id || !sandbox_container(w->sandbox, c->view.last.id, &info))
                        continue;
                unlink_log(w, c, c->view.last.id);
                sandbox_remove_container(w->sandbox, c->view.last.id);
                any = true;
        }
        return any;
}

static int hold_image(PodWorker *w, WorkContainer *c, const Image *image)
{
        char *id = strdup(image->id);

        if (!id)
                return -ENOMEM;
        image_hold(w->context->images, id);
        release_image(w, c);
        c->held_image = id;
        return 0;
}

/* It is certain that there is such a run: the one before the last is forgotten for good. */
static void settle_run(PodWorker *w, WorkContainer *c)
{
        if (!c->before.last.id)
                return;
        if (w->sandbox)
                sandbox_remove_container(w->sandbox, c->before.last.id);
        forget_log(w, c);
        run_record_clear(&c->before.last);
}

/* The run that ended becomes the last one at once, with no new one yet. */
static void rotate_records(PodWorker *w, WorkContainer *c)
{
        settle_run(w, c);
        c->before.restart_count = c->view.restart_count;
        c->before.last = c->view.last;
        c->view.last = c->view.current;
        c->view.current = (RunRecord){ 0 };
        settle_run(w, c);
}

/* The run that ended becomes the last one. */
static void begin_run(PodWorker *w, WorkContainer *c, const char *id)
{
        settle_run(w, c);
        c->before.ran = c->view.current.id != NULL;
        c->before.restart_count = c->view.restart_count;
        c->before.crash_backoff_ms = c->crash_backoff_ms;
        c->before.crash_updated_us = c->crash_updated_us;
        backoff_next(w, c);
        if (c->before.ran) {
                c->before.last = c->view.last;
                c->view.last = c->view.current;
        }
        c->view.current = (RunRecord){ .id = strdup(id) };
        c->view.restart_count = c->next_attempt++;
}

void worker_container_refused(PodWorker *w, const char *id, const KlError *error)
{
        WorkContainer *c = NULL;

        for (size_t i = 0; i < w->n_containers; i++)
                if (str_eq(w->containers[i]->view.current.id, id))
                        c = w->containers[i];
        if (!c)
                return;
        run_record_clear(&c->view.current);
        if (c->before.ran) {
                c->view.current = c->view.last;
                c->view.last = c->before.last;
                c->before.last = (RunRecord){ 0 };
        }
        c->next_attempt--;
        c->view.restart_count = c->before.restart_count;
        c->crash_backoff_ms = c->before.crash_backoff_ms;
        c->crash_updated_us = c->before.crash_updated_us;
        c->view.run = c->view.current.id ? RUN_EXITED : RUN_NONE;
        release_image(w, c);
        start_failed(w, c, error);
}

/* The container whose processes an ephemeral one is to see; NULL: its own only. */
static int find_target(PodWorker *w, const WorkContainer *c, const char **ret_id, KlError **err)
{
        const char *name = c->view.spec->target_container;
        const WorkContainer *target;

        *ret_id = NULL;
        if (str_empty(name))
                return 0;
        target = worker_container(w, name);
        if (!target || !target->view.current.id)
                return kl_error(err, -ENOENT, "CreateContainerConfigError",
                                "unable to find target container %s", name);
        if (target->view.run != RUN_RUNNING)
                return kl_error(err, -EINVAL, "CreateContainerError",
                                "invalid target container: container \"%s\" is not running",
                                target->view.current.id);
        *ret_id = target->view.current.id;
        return 0;
}

static int start_in_sandbox(PodWorker *w, WorkContainer *c, char *const *env, KlError **err)
{
        const Image *image = image_find(w->context->images, c->view.spec->image);
        __attribute__((cleanup(compiled_deinit))) Compiled compiled = { 0 };
        char id[65];
        CompileInput in = {
                .context = w->context,
                .pod = w->pod,
                .container = c->view.spec,
                .image = image,
                .volumes = w->volumes,
                .env = env,
                .id = id,
                .attempt = c->next_attempt,
                .pod_ips = w->pod_ips,
        };

        random_hex(id, 32);
        KL_TRY(find_target(w, c, &in.pid_target, err));
        KL_TRY(compile_container(&in, &compiled, err));
        KL_TRY(sandbox_start_container(w->sandbox, &compiled.spec, err));
        report_dns(w, &compiled.dns_notes);
        worker_count_start(w, c);
        hold_image(w, c, image);
        begin_run(w, c, id);
        free(c->hash);
        c->hash = strdup(c->view.spec->hash);
        return 0;
}

void worker_start_container(PodWorker *w, WorkContainer *c)
{
        const Image *image = image_find(w->context->images, c->view.spec->image);
        const Services *services = w->context->services;
        StartLookup lookup = { w, c };
        KL_AUTOSTRV service_env = NULL;
        KL_AUTOSTRV env = NULL;
        KL_AUTOERR err = NULL;
        EnvInput in = {
                .pod = w->pod,
                .container = c->view.spec,
                .facts = &w->facts,
                .lookup = lookup_object,
                .lookup_data = &lookup,
                .file = lookup_file,
        };
        int r;

        worker_refresh_facts(w);
        if (!image) {
                /* It went between the look and the start. */
                c->image_state = IMAGE_UNKNOWN;
                worker_dirty(w, false);
                return;
        }
        /* An API pod can wait for services to be read; a static one may be what serves them. */
        if (services && !services_known(services) && !w->pod->is_static)
                return;
        service_env = services_environment(services, w->pod);
        in.service_env = service_env;
        r = environment_build(&in, &env, &err);
        if (r > 0)
                return; /* something is still being read; its arrival plans again */
        worker_forget_env_files(c);
        announce_image(w, c);
        if (r == 0)
                r = start_in_sandbox(w, c, env, &err);
        if (r < 0) {
                start_failed(w, c, err);
                return;
        }
        c->view.run = RUN_STARTING;
        c->config_error = false;
        c->outdated = false;
        c->announced = c->post_start_over = c->pre_stop_over = c->ended_by_probe = false;
        free(c->hook_error);
        c->hook_error = NULL;
        set_waiting(c, NULL, NULL);
}

/* --- stop --- */

static int64_t stop_grace_s(const PodWorker *w, const WorkContainer *c)
{
        int64_t grace = w->terminating && w->grace_s >= 0 ? w->grace_s : w->pod->grace_s;
        ProbeKind kind;

        if (w->ended && w->end_grace_s >= 0 && w->end_grace_s < grace)
                grace = w->end_grace_s;
        if (!worker_is_ending(w) && worker_probe_failed(c, &kind) && c->view.spec->probes[kind] &&
            c->view.spec->probes[kind]->grace_s >= 0)
                return c->view.spec->probes[kind]->grace_s;
        return grace;
}

void worker_stop_container(PodWorker *w, WorkContainer *c)
{
        char text[512];
        ProbeKind kind;

        worker_count_stop();
        worker_stop_text(w, c, text, sizeof(text));
        worker_event(w, c, EVENT_NORMAL, "Killing", "%s", text);
        c->ended_by_probe = worker_probe_failed(c, &kind);
        worker_abandon_post_start(w, c);
        worker_stop_within(w, c, stop_grace_s(w, c));
}

void worker_kill_container(PodWorker *w, WorkContainer *c)
{
        worker_event(w, c, EVENT_NORMAL, "Killing", "Stopping container %s", c->name);
        c->view.run = RUN_STOPPING;
        sandbox_stop_container(w->sandbox, c->view.current.id, 0);
}

void worker_reset_containers(PodWorker *w)
{
        for (size_t i = 0; i < w->n_containers; i++) {
                WorkContainer *c = w->containers[i];

                if (c->view.spec->kind == CONTAINER_EPHEMERAL || c->view.run != RUN_EXITED)
                        continue;
                /* Who makes the pod start over again and again waits longer each time. */
                if (restart_rule(c->view.spec, c->view.current.exit_code) == RULE_RESTART_ALL)
                        backoff_next(w, c);
                rotate_records(w, c);
                /* A daemon that starts now must not take it for a run of the new round. */
                if (w->sandbox && c->view.last.id)
                        sandbox_remove_container(w->sandbox, c->view.last.id);
                c->view.run = RUN_NONE;
                c->view.ready = c->view.started = false;
                set_waiting(c, NULL, NULL);
        }
        worker_dirty(w, true);
}

/* --- what the runtime tells --- */

static void apply_user(WorkContainer *c, const ContainerInfo *info)
{
        uint32_t *groups = calloc(info->n_groups + 1, sizeof(*groups));

        if (!groups)
                return;
        if (info->n_groups)
                memcpy(groups, info->groups, info->n_groups * sizeof(*groups));
        free(c->groups);
        c->groups = groups;
        c->view.uid = info->uid;
        c->view.gid = info->gid;
        c->view.groups = groups;
        c->view.n_groups = info->n_groups;
        c->view.user_known = true;
}

static void apply_image(WorkContainer *c, const ContainerInfo *info)
{
        free(c->image);
        free(c->image_id);
        c->image = info->image ? strdup(info->image) : NULL;
        c->image_id = info->image_ref ? strdup(info->image_ref) : NULL;
        c->view.image = c->image;
        c->view.image_id = c->image_id;
}

static void apply_exit(PodWorker *w, WorkContainer *c, const ContainerInfo *info)
{
        static const char *const reasons[] = { "Completed",
                                               "Error",
                                               "OOMKilled",
                                               "StartError",
                                               "ContainerCannotRun",
                                               "DeadlineExceeded",
                                               "ContainerStatusUnknown" };
        RunRecord *run = &c->view.current;

        run->exit_code = info->exit_code;
        run->finished_us = info->finished_us;
        run->reason = info->exit_code == 0 ? "Completed" : "Error";
        for (size_t i = 0; i < ELEMENTS(reasons); i++)
                if (str_eq(info->reason, reasons[i]))
                        run->reason = reasons[i];
        free(run->message);
        run->message = str_empty(info->message) ? worker_termination_message(w, c, info)
                                                : strdup(info->message);
}

void worker_apply_info(PodWorker *w, WorkContainer *c, const ContainerInfo *info)
{
        RunRecord *run = &c->view.current;

        if (!run->id)
                run->id = strdup(info->id);
        run->started_us = info->started_us;
        c->sandbox_attempt = info->sandbox_attempt;
        c->view.restart_count = info->attempt;
        c->next_attempt = info->attempt + 1;
        apply_image(c, info);
        if (info->started_us)
                apply_user(c, info);
        switch (info->state) {
        case CONTAINER_CREATED:
                c->view.run = RUN_STARTING;
                break;
        case CONTAINER_RUNNING:
                if (c->view.run != RUN_STOPPING)
                        c->view.run = worker_post_start_pending(c) ? RUN_STARTING : RUN_RUNNING;
                break;
        case CONTAINER_EXITED:
                apply_exit(w, c, info);
                c->view.run = RUN_EXITED;
                break;
        }
        worker_refresh_health(w, c);
}

static bool will_restart(PodWorker *w, const WorkContainer *c)
{
        PlanContainer all[POD_CONTAINERS_MAX];
        PlanInput in = { 0 };

        worker_fill_plan(w, &in, all);
        if (w->terminating || pod_plan_is_complete(&in))
                return false;
        for (size_t i = 0; i < w->n_containers; i++)
                if (w->containers[i] == c)
                        return pod_plan_restarts(&in, &all[i]);
        return false;
}

static void container_ended(PodWorker *w, WorkContainer *c)
{
        bool start_error = str_eq(c->view.current.reason, "StartError");

        worker_count_ended(w, c);
        release_image(w, c);
        worker_hooks_end(c);
        worker_probes_stop(c);
        c->image_state = IMAGE_UNKNOWN;
        if (start_error)
                worker_event(w, c, EVENT_WARNING, "Failed", "Error: %s",
                             c->view.current.message ? c->view.current.message : "");
        backoff_wait(w, c);
        if (start_error && will_restart(w, c))
                set_waiting(c, "RunContainerError", c->view.current.message);
        if (c->hook_error && will_restart(w, c)) {
                set_waiting(c, "PostStartHookError", c->hook_error);
                if (c->start_retry_ms)
                        return;
                c->start_retry_ms = time_monotonic_ms() + HOOK_RETRY_MS;
                c->backoff_reported = true;
        }
}

/* That it ran is told even if its end is known by now. */
static void show_start(PodWorker *w, WorkContainer *c, const ContainerInfo *info)
{
        ContainerInfo started = *info;

        started.state = CONTAINER_RUNNING;
        worker_apply_info(w, c, &started);
        w->events.changed(w, w->data);
}

void worker_container_changed(PodWorker *w, const ContainerInfo *info)
{
        WorkContainer *c = worker_container(w, info->name);
        RunState before;

        /* A removed container, or the run before the current one. */
        if (!c || !str_eq(c->view.current.id, info->id))
                return;
        before = c->view.run;
        if (!c->announced && info->started_us)
                show_start(w, c, info);
        worker_apply_info(w, c, info);
        if (!c->announced && info->state != CONTAINER_CREATED) {
                settle_run(w, c);
                worker_event(w, c, EVENT_NORMAL, "Created", "Container created");
                if (info->started_us)
                        worker_event(w, c, EVENT_NORMAL, "Started", "Container started");
                worker_count_started(w, c, info);
                c->announced = true;
                if (info->state == CONTAINER_RUNNING && worker_post_start_pending(c))
                        worker_post_start(w, c);
                else if (info->state == CONTAINER_RUNNING)
                        worker_probes_start(w, c);
        }
        if (info->state == CONTAINER_EXITED && before != RUN_EXITED)
                container_ended(w, c);
        worker_dirty(w, true);
}
