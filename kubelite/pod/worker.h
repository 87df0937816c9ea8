/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_WORKER_H
#define KUBELITE_POD_WORKER_H

#include "pod/context.h"
#include "pod/status.h"

/*
 * The worker of one pod: observes, plans (pod/plan.h), executes. Whatever happens marks it dirty;
 * at the end of the turn it plans again. It knows nothing of where pods come from or go to.
 */
typedef struct PodWorker PodWorker;

typedef struct PodWorkerEvents {
        /* The status may have changed; render it with pod_worker_status. At most once a turn. */
        void (*changed)(PodWorker *worker, void *data);
        /* Nothing of the pod is left on this node. Free the worker (not within the call is not
         * needed: the worker is not touched after it). */
        void (*finished)(PodWorker *worker, void *data);
} PodWorkerEvents;

/* pod is consumed. adopted may be NULL: nothing of it runs yet. */
int pod_worker_new(const PodContext *context, Pod *pod, const AdoptedSandbox *adopted,
                   const PodWorkerEvents *events, void *data, PodWorker **ret, KlError **err);
/* Leaves running what runs: for the end of the daemon. */
PodWorker *pod_worker_free(PodWorker *worker);
KL_DEFINE_CLEANUP(PodWorker *, pod_worker_free);

const Pod *pod_worker_pod(const PodWorker *worker);

/* A newer version of the same pod (uid); consumed. */
void pod_worker_update(PodWorker *worker, Pod *pod);

/* Ends the pod; asked again with a shorter grace, that one counts. Ends in finished(). -1: the
 * pod's own. */
void pod_worker_terminate(PodWorker *worker, int64_t grace_s);
bool pod_worker_terminating(const PodWorker *worker);

/* The node ends the pod on its own account, for good: containers stop, the pod stays in the API as
 * Failed with this reason and message. Strings are copied; the first ending counts. */
typedef struct PodEnding {
        const char *reason, *message; /* "Evicted", "Preempting", … */
        int64_t grace_s;              /* at most; -1: the pod's own */
        bool disruption;              /* shown as condition DisruptionTarget, too, from now on */
} PodEnding;

void pod_worker_end(PodWorker *worker, const PodEnding *ending);
bool pod_worker_ended(const PodWorker *worker);

/* Something of it runs or will run: its requests count. */
bool pod_worker_is_active(PodWorker *worker);

/* Refuses the pod (admission): phase Failed, nothing starts. */
void pod_worker_reject(PodWorker *worker, const char *reason, const char *message);

/* Removes what is left of earlier runs (records, writable layers, logs); true if there is any. */
bool pod_worker_remove_dead(PodWorker *worker);

/* Something of the context changed (network configuration, node addresses): plan again. */
void pod_worker_poke(PodWorker *worker);

void pod_worker_event(PodWorker *worker, const char *type, const char *reason, const char *text);

int pod_worker_status(PodWorker *worker, PodStatus *ret);
const char *pod_worker_phase(PodWorker *worker);

/* For the local commands: what is observed now. */
void pod_worker_describe(PodWorker *worker, JsonWriter *w);
/* only: one container's name, or NULL; all: earlier and ended runs too. Elements of an open list.
 */
void pod_worker_describe_containers(PodWorker *worker, const char *only, bool all, JsonWriter *w);

#endif
