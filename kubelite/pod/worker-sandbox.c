/* SPDX-License-Identifier: Apache-2.0 */

/* The pod's surroundings: volumes, sandbox, network. */

#include "pod/worker-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#define SANDBOX_BACKOFF_MIN_MS 1000
#define SANDBOX_BACKOFF_MAX_MS 15000
#define IFNAME "eth0"
#define BANDWIDTH_INGRESS "kubernetes.io/ingress-bandwidth"
#define BANDWIDTH_EGRESS "kubernetes.io/egress-bandwidth"

/* --- volumes --- */

static void on_volumes(PodVolumes *set, void *data)
{
        PodWorker *w = data;
        unsigned int failures = 0;
        const char *message = pod_volumes_message(set, &failures);

        switch (pod_volumes_state(set)) {
        case VOLUMES_PENDING:
                break;
        case VOLUMES_READY:
                w->volumes_adopted = false;
                w->volume_state = VOLUME_STATE_READY;
                break;
        case VOLUMES_FAILED:
                if (failures != w->volume_failures && message)
                        worker_event(w, NULL, EVENT_WARNING, "FailedMount", "%s", message);
                w->volume_failures = failures;
                break;
        case VOLUMES_GONE:
                w->volume_state = VOLUME_STATE_GONE;
                w->volumes = pod_volumes_free(w->volumes);
                break;
        }
        worker_dirty(w, true);
}

void worker_setup_volumes(PodWorker *w)
{
        KL_AUTOERR err = NULL;
        int r;

        r = pod_volumes_new(w->context->volumes, w->pod, &w->facts, on_volumes, w, &w->volumes,
                            &err);
        if (r < 0) {
                log_error(w->pod->name, "Volumes cannot be set up: %s", kl_error_msg(err));
                w->volume_state = VOLUME_STATE_NONE;
                w->sandbox_retry_ms = time_monotonic_ms() + SANDBOX_BACKOFF_MAX_MS;
                timer_start(w->wake, SANDBOX_BACKOFF_MAX_MS);
                return;
        }
        w->volume_state = pod_volumes_state(w->volumes) == VOLUMES_READY ? VOLUME_STATE_READY
                                                                         : VOLUME_STATE_PENDING;
        if (w->volume_state == VOLUME_STATE_READY)
                worker_dirty(w, true);
}

void worker_teardown_volumes(PodWorker *w)
{
        KL_AUTOERR err = NULL;

        /* A pod that this daemon never set up may have left something under an earlier one. */
        if (!w->volumes && pod_volumes_new(w->context->volumes, w->pod, &w->facts, on_volumes, w,
                                           &w->volumes, &err) < 0) {
                log_error(w->pod->name, "Volumes cannot be torn down, ignoring: %s",
                          kl_error_msg(err));
                w->volume_state = VOLUME_STATE_GONE;
                worker_dirty(w, false);
                return;
        }
        w->volume_state = VOLUME_STATE_TEARING_DOWN;
        pod_volumes_teardown(w->volumes);
}

/* --- the end --- */

#define REMOVE_LOGS_DEADLINE_MS 60000

static int remove_logs_body(void *arg)
{
        return tree_remove(arg) < 0;
}

static void on_logs_removed(Worker *worker, WorkerResult *result, void *data)
{
        PodWorker *w = data;

        w->log_remover = worker_free(w->log_remover);
        if (!WIFEXITED(result->status) || WEXITSTATUS(result->status) != 0)
                log_warning(w->pod->name, "Logs of the pod could not be removed, ignoring");
        w->finished = true;
        worker_dirty(w, false);
}

void worker_finish_pod(PodWorker *w)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        const char *log_dir = arena ? compile_log_dir(w->context, w->pod, arena) : NULL;
        char *dir = log_dir ? strdup(log_dir) : NULL;
        WorkerSpec spec = {
                .name = "log removal",
                .body = remove_logs_body,
                .body_arg = dir,
                .free_arg = free,
                .deadline_ms = REMOVE_LOGS_DEADLINE_MS,
                .done = on_logs_removed,
                .data = w,
        };

        if (w->log_remover || w->finished) {
                free(dir);
                return;
        }
        /* A pod that ended by itself kept its records until now. */
        runtime_forget_pod(w->context->runtime, w->pod->uid);
        for (size_t i = 0; i < w->n_containers; i++)
                worker_unlink_logs(w, w->containers[i]);
        if (!dir || worker_start(w->context->loop, &spec, &w->log_remover, NULL) < 0)
                w->finished = true;
}

/* --- sandbox --- */

static void sandbox_failed_at(PodWorker *w)
{
        w->sandbox_backoff_ms =
                w->sandbox_backoff_ms ? w->sandbox_backoff_ms * 2 : SANDBOX_BACKOFF_MIN_MS;
        if (w->sandbox_backoff_ms > SANDBOX_BACKOFF_MAX_MS)
                w->sandbox_backoff_ms = SANDBOX_BACKOFF_MAX_MS;
        w->sandbox_retry_ms = time_monotonic_ms() + w->sandbox_backoff_ms;
}

static void sandbox_error(PodWorker *w, const char *what, const KlError *error)
{
        worker_event(w, NULL, EVENT_WARNING, "FailedCreatePodSandBox",
                     "Failed to create pod sandbox: %s%s", what, kl_error_msg(error));
        sandbox_failed_at(w);
        worker_count_sandbox_error();
        worker_dirty(w, true);
}

static void on_sandbox_ready(Sandbox *sandbox, const char *netns_path, void *data)
{
        PodWorker *w = data;

        free(w->netns);
        w->netns = strdup(netns_path);
        w->sandbox_state = SANDBOX_READY;
        if (w->pod->host_network) {
                w->sandbox_backoff_ms = 0;
                worker_count_sandbox_ready(w);
        }
        worker_dirty(w, true);
}

/* The handle stays until it is destroyed, as after a loss; then the next one is made. */
static void on_sandbox_failed(Sandbox *sandbox, const KlError *error, void *data)
{
        PodWorker *w = data;

        w->sandbox_state = SANDBOX_LOST;
        sandbox_error(w, "", error);
}

static void on_container_changed(Sandbox *sandbox, const ContainerInfo *info, void *data)
{
        worker_container_changed(data, info);
}

static void on_log_rotated(Sandbox *sandbox, const ContainerInfo *info, void *data)
{
        worker_tidy_log(data, info->name, info->attempt);
}

static void on_container_refused(Sandbox *sandbox, const char *id, const KlError *error, void *data)
{
        worker_container_refused(data, id, error);
}

static void on_sandbox_lost(Sandbox *sandbox, void *data)
{
        PodWorker *w = data;

        w->sandbox_state = SANDBOX_LOST;
        worker_event(w, NULL, EVENT_NORMAL, "SandboxChanged",
                     "Pod sandbox changed, it will be killed and re-created.");
        worker_dirty(w, true);
}

static void on_sandbox_destroyed(Sandbox *sandbox, void *data)
{
        PodWorker *w = data;

        w->sandbox = NULL;
        w->sandbox_state = SANDBOX_NONE;
        /* What did not end by itself ended with it. */
        for (size_t i = 0; i < w->n_containers; i++)
                if (w->containers[i]->view.run == RUN_STARTING)
                        w->containers[i]->view.run = RUN_NONE;
        worker_dirty(w, true);
}

const SandboxEvents worker_sandbox_events = {
        .ready = on_sandbox_ready,
        .failed = on_sandbox_failed,
        .container_changed = on_container_changed,
        .log_rotated = on_log_rotated,
        .container_refused = on_container_refused,
        .lost = on_sandbox_lost,
        .destroyed = on_sandbox_destroyed,
};

void worker_create_sandbox(PodWorker *w)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        KL_AUTOERR err = NULL;
        SandboxSpec spec = { 0 };
        const char *handler = NULL;
        char id[65];
        int r;

        random_hex(id, 32);
        free(w->sandbox_id);
        w->sandbox_id = strdup(id);
        w->no_network_reported = false;
        w->dns_reported = false;
        r = arena && w->sandbox_id ? 0 : kl_error_oom(&err);
        if (r == 0 && !str_empty(w->pod->runtime_class))
                r = runtime_classes_find(w->context->runtime_classes, w->pod->runtime_class,
                                         &handler, &err);
        if (r > 0)
                return;
        if (r == 0)
                r = compile_sandbox(w->context, w->pod, id, w->sandbox_attempt, arena, &spec, &err);
        spec.handler = handler;
        if (r == 0)
                spec.pod_start_us = w->start_us;
        if (r == 0)
                r = sandbox_create(w->context->runtime, &spec, &worker_sandbox_events, w,
                                   &w->sandbox, &err);
        if (r < 0) {
                sandbox_error(w, "", err);
                return;
        }
        w->sandbox_attempt++;
        w->sandbox_state = SANDBOX_CREATING;
        worker_count_sandbox_begun(w);
}

void worker_destroy_sandbox(PodWorker *w)
{
        w->sandbox_state = SANDBOX_DESTROYING;
        sandbox_destroy(w->sandbox, w->terminating);
}

/* --- network --- */

void worker_report_no_network(PodWorker *w)
{
        if (w->no_network_reported)
                return;
        w->no_network_reported = true;
        worker_event(w, NULL, EVENT_WARNING, "NetworkNotReady",
                     "network is not ready: container runtime network not ready: "
                     "NetworkReady=false reason:NetworkPluginNotReady message:Network plugin "
                     "returns error: %s",
                     cni_not_ready_message(w->context->cni));
}

static void set_pod_ips(PodWorker *w, char *const *ips)
{
        strv_free(w->pod_ips);
        w->pod_ips = strv_copy(ips);
        worker_refresh_facts(w);
        if (w->volumes)
                pod_volumes_update(w->volumes, w->pod, &w->facts);
}

static void on_network_added(CniCall *call, const CniResult *result, const KlError *error,
                             void *data)
{
        PodWorker *w = data;

        w->cni_call = NULL;
        if (!error) {
                w->network_state = NETWORK_READY;
                w->sandbox_backoff_ms = 0;
                worker_count_sandbox_ready(w);
                set_pod_ips(w, result->ips);
                worker_dirty(w, true);
                return;
        }
        w->network_state = NETWORK_NONE;
        sandbox_error(
                w, "rpc error: code = Unknown desc = failed to setup network for sandbox: ", error);
        worker_destroy_sandbox(w);
}

static uint64_t bandwidth(const Pod *pod, const char *annotation)
{
        KeyValues one = pod->annotations;
        int64_t value = resource_value(&one, annotation);

        return value > 0 ? (uint64_t)value : 0;
}

static size_t port_mappings(const Pod *pod, CniPortMapping *ret)
{
        size_t n = 0;

        for (size_t i = pod->n_init; i < pod->n_init + pod->n_main; i++) {
                const Container *c = &pod->containers[i];

                for (size_t p = 0; p < c->n_ports; p++) {
                        const ContainerPort *port = &c->ports[p];

                        if (!port->host_port)
                                continue;
                        if (ret)
                                ret[n] = (CniPortMapping){
                                        .host_port = port->host_port,
                                        .container_port = port->container_port,
                                        .protocol = str_eq(port->protocol, "UDP")    ? "udp"
                                                    : str_eq(port->protocol, "SCTP") ? "sctp"
                                                                                     : "tcp",
                                        .host_ip = port->host_ip ? port->host_ip : "",
                                };
                        n++;
                }
        }
        return n;
}

void worker_add_network(PodWorker *w)
{
        size_t n = port_mappings(w->pod, NULL);
        KL_AUTOFREE CniPortMapping *ports = calloc(n + 1, sizeof(*ports));
        KL_AUTOERR err = NULL;
        CniAttachment attachment = {
                .id = w->sandbox_id,
                .netns = w->netns,
                .ifname = IFNAME,
                .pod_namespace = w->pod->namespace,
                .pod_name = w->pod->name,
                .pod_uid = w->pod->uid,
                .ports = ports,
                .n_ports = n,
                .ingress_bps = bandwidth(w->pod, BANDWIDTH_INGRESS),
                .egress_bps = bandwidth(w->pod, BANDWIDTH_EGRESS),
        };
        int r;

        if (ports)
                port_mappings(w->pod, ports);
        r = ports ? cni_add(w->context->cni, &attachment, on_network_added, w, &w->cni_call, &err)
                  : kl_error_oom(&err);
        if (r < 0) {
                sandbox_error(w, "", err);
                worker_destroy_sandbox(w);
                return;
        }
        w->network_state = NETWORK_ADDING;
}

static void on_network_deleted(CniCall *call, const CniResult *result, const KlError *error,
                               void *data)
{
        PodWorker *w = data;

        w->cni_call = NULL;
        if (error) {
                worker_event(w, NULL, EVENT_WARNING, "FailedKillPod",
                             "error killing pod: failed to tear down network: %s",
                             kl_error_msg(error));
                w->network_state = NETWORK_READY;
                timer_start(w->wake, SANDBOX_BACKOFF_MIN_MS);
                return;
        }
        w->network_state = NETWORK_NONE;
        worker_dirty(w, true);
}

void worker_delete_network(PodWorker *w)
{
        KL_AUTOERR err = NULL;

        w->network_state = NETWORK_DELETING;
        if (cni_del(w->context->cni, w->sandbox_id, IFNAME, on_network_deleted, w, &w->cni_call,
                    &err) == 0)
                return;
        log_error(w->pod->name, "Network cannot be torn down, tried again: %s", kl_error_msg(err));
        w->network_state = NETWORK_READY;
        timer_start(w->wake, SANDBOX_BACKOFF_MIN_MS);
}

/* --- after a restart of the daemon --- */

static void adopt_network(PodWorker *w)
{
        KL_AUTO(cni_result_free) CniResult *result = NULL;

        if (w->pod->host_network)
                return;
        if (cni_cached_result(w->context->cni, w->sandbox_id, IFNAME, &result) < 0)
                return;
        w->network_state = NETWORK_READY;
        set_pod_ips(w, result->ips);
}

static void adopt_container(PodWorker *w, const ContainerInfo *info)
{
        WorkContainer *c = worker_container(w, info->name);

        if (!c) {
                if (info->state != CONTAINER_EXITED)
                        sandbox_stop_container(w->sandbox, info->id, 0);
                return;
        }
        /* Records come in no order: the highest attempt is the current run, the next the last. */
        if (!c->view.current.id || info->attempt > c->view.restart_count) {
                if (c->view.current.id) {
                        free(c->view.last.id);
                        free(c->view.last.message);
                        c->view.last = c->view.current;
                        c->view.current = (RunRecord){ 0 };
                }
                /* Upstream takes a hook that an earlier kubelet had begun for done. */
                c->announced = c->post_start_over = true;
                worker_apply_info(w, c, info);
                free(c->hash);
                c->hash = info->spec_hash ? strdup(info->spec_hash) : NULL;
                c->outdated = c->view.spec && !str_eq(c->hash, c->view.spec->hash);
        } else if (!c->view.last.id) {
                c->view.last = (RunRecord){
                        .id = strdup(info->id),
                        .started_us = info->started_us,
                        .finished_us = info->finished_us,
                        .exit_code = info->exit_code,
                        .reason = info->exit_code ? "Error" : "Completed",
                        .message = worker_termination_message(w, c, info),
                };
        }
}

void worker_adopt(PodWorker *w, const AdoptedSandbox *adopted)
{
        ContainerInfo info;

        w->sandbox = adopted->sandbox;
        w->sandbox_id = strdup(sandbox_id(adopted->sandbox));
        w->sandbox_attempt = adopted->spec.attempt + 1;
        /* What the API says comes first; a static pod's start is known from the record alone. */
        if (!w->pod->seen_start_us && adopted->spec.pod_start_us)
                w->start_us = adopted->spec.pod_start_us;
        w->sandbox_state = adopted->lost ? SANDBOX_LOST : SANDBOX_READY;
        w->netns = sandbox_netns(adopted->sandbox) ? strdup(sandbox_netns(adopted->sandbox)) : NULL;
        sandbox_set_events(adopted->sandbox, &worker_sandbox_events, w);
        w->volumes_adopted = !adopted->lost;
        adopt_network(w);
        for (size_t i = 0; sandbox_container_at(adopted->sandbox, i, &info); i++)
                adopt_container(w, &info);
        /* Logs may have been rotated while no daemon ran. */
        for (size_t i = 0; sandbox_container_at(adopted->sandbox, i, &info); i++)
                worker_tidy_log(w, info.name, info.attempt);
        for (size_t i = 0; i < w->n_containers; i++) {
                WorkContainer *c = w->containers[i];
                const Image *image = c->view.spec && c->view.run == RUN_RUNNING
                                             ? image_find(w->context->images, c->view.spec->image)
                                             : NULL;

                if (c->view.run == RUN_RUNNING)
                        worker_probes_adopt(w, c);
                if (image && (c->held_image = strdup(image->id)))
                        image_hold(w->context->images, c->held_image);
        }
}
