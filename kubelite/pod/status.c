/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Phase and conditions as upstream's kubelet computes them (pkg/kubelet/kubelet_pods.go getPhase,
 * pkg/kubelet/status/generate.go), and the patch of what changed.
 */

#include "pod/status.h"

#include "base/clock.h"
#include "base/str.h"
#include "pod/status-internal.h"

static const char *const field_names[STATUS_FIELD_COUNT] = {
        [STATUS_OBSERVED_GENERATION] = "observedGeneration",
        [STATUS_PHASE] = "phase",
        [STATUS_CONDITIONS] = "conditions",
        [STATUS_MESSAGE] = "message",
        [STATUS_REASON] = "reason",
        [STATUS_HOST_IP] = "hostIP",
        [STATUS_HOST_IPS] = "hostIPs",
        [STATUS_POD_IP] = "podIP",
        [STATUS_POD_IPS] = "podIPs",
        [STATUS_START_TIME] = "startTime",
        [STATUS_INIT_CONTAINERS] = "initContainerStatuses",
        [STATUS_CONTAINERS] = "containerStatuses",
        [STATUS_EPHEMERAL_CONTAINERS] = "ephemeralContainerStatuses",
        [STATUS_QOS_CLASS] = "qosClass",
};

static const char *const condition_names[CONDITION_COUNT] = {
        [CONDITION_READY_TO_START] = "PodReadyToStartContainers",
        [CONDITION_INITIALIZED] = "Initialized",
        [CONDITION_READY] = "Ready",
        [CONDITION_CONTAINERS_READY] = "ContainersReady",
        [CONDITION_SCHEDULED] = "PodScheduled",
        [CONDITION_DISRUPTION] = "DisruptionTarget",
        [CONDITION_ALL_RESTARTING] = "AllContainersRestarting",
};

bool status_is_running(const ContainerView *c)
{
        return c->run == RUN_RUNNING || c->run == RUN_STOPPING;
}

/* An init container that no longer holds the pod back. */
bool status_init_done(const ContainerView *c)
{
        if (c->spec->sidecar)
                return c->started || c->run == RUN_EXITED;
        return c->run == RUN_EXITED && c->current.exit_code == 0 && !c->earlier;
}

bool status_initialized(const PodView *view)
{
        const Pod *pod = view->pod;

        for (size_t i = pod->n_init; i < pod->n_init + pod->n_main; i++)
                if (view->containers[i].run != RUN_NONE && !view->containers[i].earlier)
                        return true;
        for (size_t i = 0; i < pod->n_init; i++)
                if (!status_init_done(&view->containers[i]))
                        return false;
        return true;
}

typedef struct Counts {
        size_t waiting, running, stopped, succeeded;
        size_t restarting; /* of the stopped */
} Counts;

static bool will_restart(const PodView *view, const ContainerView *c)
{
        int code = c->current.exit_code;

        return restart_wanted(c->spec->kind, restart_policy_of(view->pod, c->spec),
                              restart_rule(c->spec, code), code);
}

/* Main containers, and of the sidecars those that still run. */
static Counts count_containers(const PodView *view)
{
        const Pod *pod = view->pod;
        Counts n = { 0 };

        for (size_t i = 0; i < pod->n_init + pod->n_main; i++) {
                const ContainerView *c = &view->containers[i];

                if (i < pod->n_init) {
                        n.running += c->spec->sidecar && status_is_running(c);
                } else if (status_is_running(c)) {
                        n.running++;
                } else if (c->run == RUN_EXITED || c->last.id) {
                        n.stopped++;
                        n.succeeded += c->run == RUN_EXITED && c->current.exit_code == 0;
                        n.restarting += c->run != RUN_EXITED || will_restart(view, c);
                } else {
                        n.waiting++;
                }
        }
        return n;
}

static bool init_failed_for_good(const PodView *view)
{
        const Pod *pod = view->pod;

        if (status_initialized(view))
                return false;
        for (size_t i = 0; i < pod->n_init; i++) {
                const ContainerView *c = &view->containers[i];

                if (!c->spec->sidecar && c->run == RUN_EXITED && c->current.exit_code != 0 &&
                    !will_restart(view, c))
                        return true;
        }
        return false;
}

/* A container's end makes all of the pod's start over, and they have not yet (KEP-5532). */
static bool restarts_all(const PodView *view)
{
        for (size_t i = 0; i < view->pod->n_init + view->pod->n_main; i++) {
                const ContainerView *c = &view->containers[i];

                if (c->run == RUN_EXITED && !c->earlier &&
                    restart_rule(c->spec, c->current.exit_code) == RULE_RESTART_ALL)
                        return true;
        }
        return false;
}

static bool ended(const PodView *view)
{
        return view->ended_reason && view->terminated;
}

/* The phase by containers alone: what conditions are derived from. */
static const char *phase_of_containers(const PodView *view)
{
        Counts n = count_containers(view);

        if (view->rejected_reason || ended(view))
                return "Failed";
        if (!view->phase_is_echo && pod_phase_is_terminal(view->pod->seen_phase))
                return view->pod->seen_phase;
        if (init_failed_for_good(view))
                return "Failed";
        if (!status_initialized(view) || n.waiting > 0)
                return "Pending";
        if (n.running > 0)
                return "Running";
        if (view->terminated && view->terminating && !view->pod->is_static)
                return n.succeeded == n.stopped ? "Succeeded" : "Failed";
        if (n.restarting > 0)
                return "Running";
        return n.succeeded == n.stopped ? "Succeeded" : "Failed";
}

bool pod_phase_is_terminal(const char *phase)
{
        return str_eq(phase, "Succeeded") || str_eq(phase, "Failed");
}

const char *pod_status_phase(const PodView *view)
{
        const char *phase = phase_of_containers(view);

        /* A pod that ends before all of it ever ran has failed: what did not run counts as 137. */
        if (view->terminated && view->terminating && !view->pod->is_static &&
            !pod_phase_is_terminal(phase))
                return "Failed";
        return phase;
}

/* --- conditions --- */

typedef struct ConditionText {
        bool status;
        const char *reason;
        const char *message;
} ConditionText;

/* Names joined by blanks in brackets; the pod's containers for which bad() holds. */
static void name_list(const PodView *view, bool (*bad)(const PodView *, size_t), const char *head,
                      Buf *to)
{
        size_t n = 0;

        buf_addf(to, "%s[", head);
        for (size_t i = 0; i < view->pod->n_init + view->pod->n_main; i++)
                if (bad(view, i))
                        buf_addf(to, "%s%s", n++ ? " " : "", view->pod->containers[i].name);
        buf_add_str(to, "]");
}

static bool is_incomplete(const PodView *view, size_t i)
{
        return i < view->pod->n_init && !status_init_done(&view->containers[i]);
}

static bool is_unready(const PodView *view, size_t i)
{
        const Container *spec = &view->pod->containers[i];

        if (spec->kind == CONTAINER_INIT && !spec->sidecar)
                return false;
        return !view->containers[i].ready;
}

static bool any(const PodView *view, bool (*bad)(const PodView *, size_t))
{
        for (size_t i = 0; i < view->pod->n_init + view->pod->n_main; i++)
                if (bad(view, i))
                        return true;
        return false;
}

static ConditionText ready_text(const PodView *view, const char *phase, Buf *message)
{
        if (str_eq(phase, "Succeeded"))
                return (ConditionText){ false, "PodCompleted", NULL };
        if (str_eq(phase, "Failed"))
                return (ConditionText){ false, "PodFailed", NULL };
        if (!any(view, is_unready))
                return (ConditionText){ true, NULL, NULL };
        name_list(view, is_unready, "containers with unready status: ", message);
        return (ConditionText){ false, "ContainersNotReady", buf_str(message) };
}

static ConditionText initialized_text(const PodView *view, const char *phase, Buf *message)
{
        if (str_eq(phase, "Succeeded"))
                return (ConditionText){ true, "PodCompleted", NULL };
        if (status_initialized(view))
                return (ConditionText){ true, NULL, NULL };
        name_list(view, is_incomplete, "containers with incomplete status: ", message);
        return (ConditionText){ false, "ContainersNotInitialized", buf_str(message) };
}

static const PodCondition *seen_condition(const Pod *pod, const char *type)
{
        for (size_t i = 0; i < pod->n_seen_conditions; i++)
                if (str_eq(pod->seen_conditions[i].type, type))
                        return &pod->seen_conditions[i];
        return NULL;
}

/* Readiness gates: all must be True in the API; containers come first. */
static ConditionText gated_text(const PodView *view, ConditionText containers, Buf *message)
{
        if (!containers.status)
                return containers;
        for (char **gate = view->pod->readiness_gates; gate && *gate; gate++) {
                const PodCondition *c = seen_condition(view->pod, *gate);

                if (c && str_eq(c->status, "True"))
                        continue;
                buf_addf(message, "%scorresponding condition of pod readiness gate \"%s\" %s",
                         message->len ? ", " : "", *gate,
                         c ? "the status is not \"True\"." : "does not exist.");
        }
        if (!message->len)
                return containers;
        return (ConditionText){ false, "ReadinessGatesNotReady", buf_str(message) };
}

/* A new condition takes over the time that the API already holds for the same status. */
static int64_t transition_time(const PodView *view, ConditionType type, bool status)
{
        ConditionMemory *memory = &view->conditions[type];

        if (!memory->known) {
                const PodCondition *seen = seen_condition(view->pod, condition_names[type]);

                if (seen && seen->transition_us && str_eq(seen->status, status ? "True" : "False"))
                        memory->transition_us = seen->transition_us;
                else
                        memory->transition_us = view->now_us;
        } else if (memory->status != status) {
                memory->transition_us = view->now_us;
        }
        memory->known = true;
        memory->status = status;
        return memory->transition_us;
}

static void write_condition(const PodView *view, ConditionType type, ConditionText text,
                            JsonWriter *w)
{
        char stamp[TIME_RFC3339_SIZE];

        time_format_rfc3339(transition_time(view, type, text.status), stamp);
        jw_object(w);
        jw_kstr(w, "type", condition_names[type]);
        if (view->pod->generation > 0)
                jw_kint(w, "observedGeneration", view->pod->generation);
        jw_kstr(w, "status", text.status ? "True" : "False");
        jw_key(w, "lastProbeTime");
        jw_null(w);
        jw_kstr(w, "lastTransitionTime", stamp);
        /* Explicit nulls: a merge would keep the reason of the state before. */
        jw_kstr(w, "reason", text.reason);
        jw_kstr(w, "message", text.message);
        jw_end(w);
}

static ConditionText restarting_text(const PodView *view, const char *phase)
{
        if (str_eq(phase, "Succeeded"))
                return (ConditionText){ false, "PodCompleted", NULL };
        if (str_eq(phase, "Failed"))
                return (ConditionText){ false, "PodFailed", NULL };
        if (!restarts_all(view))
                return (ConditionText){ false, NULL, NULL };
        return (ConditionText){ true, "RestartAllContainersStarted",
                                "container exited with restart policy rule" };
}

static void write_conditions(const PodView *view, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);
        KL_AUTOBUF incomplete = BUF_INIT;
        KL_AUTOBUF unready = BUF_INIT;
        KL_AUTOBUF gates = BUF_INIT;
        const char *phase = phase_of_containers(view);
        ConditionText containers = ready_text(view, phase, &unready);

        jw_array(&w);
        write_condition(view, CONDITION_READY_TO_START,
                        (ConditionText){ view->sandbox_ready, NULL, NULL }, &w);
        write_condition(view, CONDITION_INITIALIZED, initialized_text(view, phase, &incomplete),
                        &w);
        write_condition(view, CONDITION_READY, gated_text(view, containers, &gates), &w);
        write_condition(view, CONDITION_CONTAINERS_READY, containers, &w);
        write_condition(view, CONDITION_SCHEDULED, (ConditionText){ true, NULL, NULL }, &w);
        if (view->disruption)
                write_condition(
                        view, CONDITION_DISRUPTION,
                        (ConditionText){ true, "TerminationByKubelet", view->ended_message }, &w);
        if (restart_all_possible(view->pod))
                write_condition(view, CONDITION_ALL_RESTARTING, restarting_text(view, phase), &w);
        jw_end(&w);
}

/* --- the fields --- */

static void write_ips(char *const *ips, JsonWriter *w)
{
        jw_array(w);
        for (; ips && *ips; ips++) {
                jw_object(w);
                jw_kstr(w, "ip", *ips);
                jw_end(w);
        }
        jw_end(w);
}

/* Why a pod is over: refused, ended by this node, or as the API holds it of one that was over
 * before. */
static const char *reason_of(const PodView *view)
{
        if (view->rejected_reason)
                return view->rejected_reason;
        if (view->ended_reason)
                return ended(view) ? view->ended_reason : NULL;
        return !view->phase_is_echo && pod_phase_is_terminal(view->pod->seen_phase)
                       ? view->pod->seen_reason
                       : NULL;
}

static const char *message_of(const PodView *view)
{
        if (view->rejected_reason)
                return view->rejected_message;
        if (view->ended_reason)
                return ended(view) ? view->ended_message : NULL;
        return !view->phase_is_echo && pod_phase_is_terminal(view->pod->seen_phase)
                       ? view->pod->seen_message
                       : NULL;
}

static void write_field(const PodView *view, StatusField field, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);
        char stamp[TIME_RFC3339_SIZE];
        bool rejected = view->rejected_reason;

        switch (field) {
        case STATUS_OBSERVED_GENERATION:
                if (view->pod->generation > 0)
                        jw_int(&w, view->pod->generation);
                break;
        case STATUS_PHASE:
                jw_str(&w, pod_status_phase(view));
                break;
        case STATUS_CONDITIONS:
                if (!rejected)
                        write_conditions(view, to);
                break;
        case STATUS_MESSAGE:
                if (message_of(view))
                        jw_str(&w, message_of(view));
                break;
        case STATUS_REASON:
                if (reason_of(view))
                        jw_str(&w, reason_of(view));
                break;
        case STATUS_HOST_IP:
                if (!rejected && view->host_ips && view->host_ips[0])
                        jw_str(&w, view->host_ips[0]);
                break;
        case STATUS_HOST_IPS:
                if (!rejected && view->host_ips && view->host_ips[0])
                        write_ips(view->host_ips, &w);
                break;
        case STATUS_POD_IP:
                if (!rejected && view->pod_ips && view->pod_ips[0])
                        jw_str(&w, view->pod_ips[0]);
                break;
        case STATUS_POD_IPS:
                if (!rejected && view->pod_ips && view->pod_ips[0])
                        write_ips(view->pod_ips, &w);
                break;
        case STATUS_START_TIME:
                time_format_rfc3339(view->start_us, stamp);
                jw_str(&w, stamp);
                break;
        case STATUS_INIT_CONTAINERS:
                if (!rejected && view->pod->n_init)
                        status_write_containers(view, 0, view->pod->n_init, to);
                break;
        case STATUS_CONTAINERS:
                if (!rejected)
                        status_write_containers(view, view->pod->n_init, view->pod->n_main, to);
                break;
        case STATUS_EPHEMERAL_CONTAINERS:
                if (!rejected && view->pod->n_ephemeral)
                        status_write_containers(view, view->pod->n_init + view->pod->n_main,
                                                view->pod->n_ephemeral, to);
                break;
        case STATUS_QOS_CLASS:
                jw_str(&w, pod_qos_name(pod_qos(view->pod)));
                break;
        case STATUS_FIELD_COUNT:
                break;
        }
}

int pod_status_render(const PodView *view, PodStatus *ret)
{
        PodStatus status = { 0 };

        for (size_t i = 0; i < STATUS_FIELD_COUNT; i++) {
                KL_AUTOBUF text = BUF_INIT;

                write_field(view, (StatusField)i, &text);
                if (buf_error(&text)) {
                        pod_status_deinit(&status);
                        return -ENOMEM;
                }
                if (text.len)
                        status.fields[i] = buf_steal(&text);
        }
        *ret = status;
        return 0;
}

void pod_status_deinit(PodStatus *status)
{
        for (size_t i = 0; i < STATUS_FIELD_COUNT; i++)
                free(status->fields[i]);
        *status = (PodStatus){ 0 };
}

void pod_status_write(const PodStatus *status, JsonWriter *w)
{
        jw_object(w);
        for (size_t i = 0; i < STATUS_FIELD_COUNT; i++) {
                if (!status->fields[i])
                        continue;
                jw_key(w, field_names[i]);
                jw_raw(w, status->fields[i], strlen(status->fields[i]));
        }
        jw_end(w);
}

/* podIPs and hostIPs merge by ip on the server: an old address would stay beside the new one. */
static void write_replaced(JsonWriter *w, const char *list)
{
        KL_AUTOBUF text = BUF_INIT;

        buf_add_str(&text, "[{\"$patch\":\"replace\"}");
        if (list[1] != ']')
                buf_add_char(&text, ',');
        buf_add_str(&text, list + 1);
        if (buf_error(&text))
                w->to->error = buf_error(&text);
        jw_raw(w, buf_str(&text), text.len);
}

int pod_status_patch(const char *uid, const PodStatus *was, const PodStatus *now, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);
        bool changed = false;

        jw_object(&w);
        jw_kobject(&w, "metadata");
        jw_kstr(&w, "uid", uid);
        jw_end(&w);
        jw_kobject(&w, "status");
        for (size_t i = 0; i < STATUS_FIELD_COUNT; i++) {
                const char *a = was ? was->fields[i] : NULL, *b = now->fields[i];

                if (str_eq(a, b))
                        continue;
                changed = true;
                jw_key(&w, field_names[i]);
                if (!b)
                        jw_null(&w);
                else if ((i == STATUS_POD_IPS || i == STATUS_HOST_IPS) && a)
                        write_replaced(&w, b);
                else
                        jw_raw(&w, b, strlen(b));
        }
        jw_end(&w);
        jw_end(&w);
        if (buf_error(to))
                return buf_error(to);
        return changed ? 0 : 1;
}
