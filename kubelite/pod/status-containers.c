/* SPDX-License-Identifier: Apache-2.0 */

/* ContainerStatus, and the QoS class, which is derived from the containers' resources. */

#include "pod/status-internal.h"

#include "base/clock.h"
#include "base/str.h"

static void write_stamp(JsonWriter *w, const char *key, int64_t us)
{
        char stamp[TIME_RFC3339_SIZE];

        if (us > 0)
                time_format_rfc3339(us, stamp);
        jw_kstr(w, key, us > 0 ? stamp : NULL);
}

static void write_container_id(JsonWriter *w, const char *id)
{
        if (id)
                jw_kstrf(w, "containerID", CONTAINER_ID_PREFIX "%s", id);
}

/* The messages of a pod share what upstream's status manager allows them. */
#define MESSAGES_MAX (12 << 10)

static void write_message(const PodView *view, const char *message, JsonWriter *w)
{
        int max = MESSAGES_MAX / (int)view->pod->n_containers;

        if (message)
                jw_kstrf(w, "message", "%.*s", max, message);
}

static void write_terminated(const PodView *view, const RunRecord *run, JsonWriter *w)
{
        jw_kobject(w, "terminated");
        jw_kint(w, "exitCode", run->exit_code);
        jw_kstr(w, "reason", run->reason);
        write_message(view, run->message, w);
        write_stamp(w, "startedAt", run->started_us);
        write_stamp(w, "finishedAt", run->finished_us);
        write_container_id(w, run->id);
        jw_end(w);
}

static void write_waiting(const char *reason, const char *message, JsonWriter *w)
{
        jw_kobject(w, "waiting");
        jw_kstr(w, "reason", reason);
        jw_kstr_opt(w, "message", message);
        jw_end(w);
}

/* An exited container that is about to run again shows as waiting, its end as the last state. */
static bool shows_waiting(const PodView *view, const ContainerView *c)
{
        if (c->run == RUN_NONE || c->run == RUN_STARTING)
                return true;
        /* An init container that is to run again in a new sandbox. */
        if (c->earlier && c->spec->kind == CONTAINER_INIT && !view->terminated)
                return true;
        return c->run == RUN_EXITED && !view->terminating && c->waiting_reason;
}

/* Of a pod that is over: whether a container that has no record counts as failed. Those behind init
 * containers that never got through, and init containers behind the last one that ever ran, were
 * not to run yet (pkg/kubelet/status, TerminatePod). */
static bool was_to_run(const PodView *view, const ContainerView *c)
{
        size_t at = (size_t)(c - view->containers), last = 0;

        if (at >= view->pod->n_init)
                return status_initialized(view);
        for (size_t i = 0; i < view->pod->n_init; i++)
                if (view->containers[i].run != RUN_NONE || view->containers[i].last.id)
                        last = i;
        return at <= last;
}

/* Ended by somebody, not by itself. */
static bool is_over(const PodView *view)
{
        return view->terminated && (view->terminating || view->ended_reason);
}

static void write_not_located(const PodView *view, JsonWriter *w)
{
        static const RunRecord lost = {
                .exit_code = 137,
                .reason = "ContainerStatusUnknown",
                .message = (char *)"The container could not be located when the pod was terminated",
        };

        write_terminated(view, &lost, w);
}

static void write_state(const PodView *view, const ContainerView *c, JsonWriter *w)
{
        const char *reason = c->waiting_reason;

        jw_kobject(w, "state");
        if (status_is_running(c)) {
                jw_kobject(w, "running");
                write_stamp(w, "startedAt", c->current.started_us);
                jw_end(w);
        } else if (!shows_waiting(view, c)) {
                write_terminated(view, &c->current, w);
        } else if (is_over(view) && !c->current.id && was_to_run(view, c)) {
                write_not_located(view, w);
        } else {
                if (!reason)
                        reason = view->pod->n_init ? "PodInitializing" : "ContainerCreating";
                write_waiting(reason, c->waiting_message, w);
        }
        jw_end(w);
}

static void write_last_state(const PodView *view, const ContainerView *c, JsonWriter *w)
{
        const RunRecord *last = &c->last;

        if (shows_waiting(view, c) && c->current.id && c->run == RUN_EXITED)
                last = &c->current;
        jw_kobject(w, "lastState");
        if (last->id)
                write_terminated(view, last, w);
        jw_end(w);
}

static void write_mounts(const Container *spec, JsonWriter *w)
{
        if (!spec->n_mounts)
                return;
        jw_karray(w, "volumeMounts");
        for (size_t i = 0; i < spec->n_mounts; i++) {
                const VolumeMount *m = &spec->mounts[i];

                jw_object(w);
                jw_kstr(w, "name", m->name);
                jw_kstr(w, "mountPath", m->mount_path);
                if (m->read_only) {
                        bool recursive = m->recursive_read_only &&
                                         !str_eq(m->recursive_read_only, "Disabled");

                        jw_kbool(w, "readOnly", true);
                        jw_kstr(w, "recursiveReadOnly", recursive ? "Enabled" : "Disabled");
                }
                jw_end(w);
        }
        jw_end(w);
}

static void write_quantities(JsonWriter *w, const char *key, const KeyValues *list)
{
        if (!list->n)
                return;
        jw_kobject(w, key);
        for (size_t i = 0; i < list->n; i++)
                jw_kstr(w, list->items[i].key, list->items[i].value);
        jw_end(w);
}

static void write_resources(const ContainerView *c, JsonWriter *w)
{
        write_quantities(w, "allocatedResources", &c->spec->resources.requests);
        jw_kobject(w, "resources");
        write_quantities(w, "limits", &c->spec->resources.limits);
        write_quantities(w, "requests", &c->spec->resources.requests);
        jw_end(w);
}

static void write_user(const ContainerView *c, JsonWriter *w)
{
        jw_kobject(w, "user");
        jw_kobject(w, "linux");
        jw_kint(w, "uid", c->uid);
        jw_kint(w, "gid", c->gid);
        jw_karray(w, "supplementalGroups");
        for (size_t i = 0; i < c->n_groups; i++)
                jw_int(w, c->groups[i]);
        jw_end(w);
        jw_end(w);
        jw_end(w);
}

static void write_container(const PodView *view, const ContainerView *c, JsonWriter *w)
{
        /* What is being started is told about when it runs: one status less for each start. */
        const char *id = c->run == RUN_STARTING ? c->last.id : c->current.id;

        jw_object(w);
        jw_kstr(w, "name", c->spec->name);
        write_state(view, c, w);
        write_last_state(view, c, w);
        jw_kbool(w, "ready", c->ready);
        jw_kint(w, "restartCount", c->restart_count);
        jw_kstr(w, "image", str_empty(c->image) ? c->spec->image : c->image);
        jw_kstr(w, "imageID", c->image_id ? c->image_id : "");
        write_container_id(w, id);
        jw_kbool(w, "started", c->started);
        if (id)
                write_resources(c, w);
        write_mounts(c->spec, w);
        if (id && c->user_known)
                write_user(c, w);
        jw_end(w);
}

void status_write_containers(const PodView *view, size_t first, size_t n, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);

        jw_array(&w);
        for (size_t i = first; i < first + n; i++)
                write_container(view, &view->containers[i], &w);
        jw_end(&w);
}

static const char *const qos_resources[] = { "cpu", "memory" };

static void count_qos(const ResourceRequirements *r, bool *any, bool *guaranteed)
{
        for (size_t i = 0; i < ELEMENTS(qos_resources); i++) {
                int64_t request = resource_milli(&r->requests, qos_resources[i]);
                int64_t limit = resource_milli(&r->limits, qos_resources[i]);

                if (request < 0)
                        request = limit;
                *any |= request > 0 || limit > 0;
                *guaranteed &= limit > 0 && request == limit;
        }
}

static bool has_pod_level(const Pod *pod)
{
        return pod->resources.requests.n + pod->resources.limits.n > 0;
}

/* Guaranteed: cpu and memory limits on every container, and requests equal to them. Best effort:
 * none of either anywhere. Where the pod has resources of its own, they alone count
 * (pkg/apis/core/v1/helper/qos). */
PodQos pod_qos(const Pod *pod)
{
        bool any = false, guaranteed = true;

        if (has_pod_level(pod))
                count_qos(&pod->resources, &any, &guaranteed);
        for (size_t i = 0; !has_pod_level(pod) && i < pod->n_init + pod->n_main; i++)
                count_qos(&pod->containers[i].resources, &any, &guaranteed);
        if (!any)
                return POD_BEST_EFFORT;
        return guaranteed ? POD_GUARANTEED : POD_BURSTABLE;
}

const char *pod_qos_name(PodQos qos)
{
        static const char *const names[] = { "Guaranteed", "Burstable", "BestEffort" };

        return names[qos];
}
