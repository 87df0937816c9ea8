/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_WORKER_INTERNAL_H
#define KUBELITE_POD_WORKER_INTERNAL_H

#include "base/map.h"
#include "image/keyring.h"
#include "loop/worker.h"
#include "pod/compile.h"
#include "pod/plan.h"
#include "pod/worker.h"

#define EVENT_NORMAL "Normal"
#define EVENT_WARNING "Warning"

typedef struct ContainerProbe ContainerProbe;
typedef struct EnvFiles EnvFiles;
typedef struct EnvFile EnvFile;

/* One container of the pod, over all its runs. */
typedef struct WorkContainer {
        char *name;
        ContainerView view; /* view.spec is set when a pod is applied */
        char *hash;         /* of the spec that runs */
        bool outdated;
        unsigned int next_attempt;
        int64_t sandbox_attempt; /* of the sandbox of its last run; -1: unknown */
        char *image, *image_id;  /* behind the view's pointers */
        uint32_t *groups;
        char *held_image; /* id, while a run needs it */

        ImageState image_state;
        ImageJob *pull;
        Keyring *keyring;  /* while a pull goes on */
        size_t credential; /* of the keyring: tried now */
        uint64_t pull_started_ms, image_retry_ms, image_failed_ms, image_backoff_ms;
        char *image_error;
        bool image_pulled; /* the Pulled event was sent with the pull itself */

        /* Of a start that the runtime may still refuse: then all is as before it. */
        struct {
                bool ran;
                RunRecord last;
                unsigned int restart_count;
                uint64_t crash_backoff_ms;
                int64_t crash_updated_us;
        } before;

        uint64_t start_began_ms;
        uint64_t start_retry_ms; /* next start not before; 0: now */
        uint64_t crash_backoff_ms;
        int64_t crash_updated_us;
        bool config_error; /* what start_retry_ms waits for is a configuration */
        bool backoff_reported;
        EnvFiles *env_files; /* read for the next start, or NULL */
        struct PodWorker *worker;

        /* of the current run */
        ContainerProbe *probes[PROBE_KINDS]; /* NULL: none, or it does not run */
        const char *note;                    /* of the probes' state, as written last; static */
        uint64_t running_since_ms;           /* monotonic */
        bool announced;                      /* its events of the start are out */
        bool adopted, ended_by_probe;
        Attempt *hook; /* the one that runs */
        bool post_start_over, pre_stop_over;
        char *hook_error; /* postStart failed: the container is on its way out */
        Timer *hook_deadline;
        uint64_t stop_began_ms; /* the grace period counts from here */
        int64_t stop_grace_s;
} WorkContainer;

/* When things began, for what is counted; monotonic, 0: not yet. */
typedef struct WorkerTimes {
        uint64_t seen_ms, sandbox_ms;
        int64_t seen_us; /* realtime */
        uint64_t pull_first_ms, pull_last_ms;
        uint64_t init_first_ms, init_last_ms;
        bool turned, started;
} WorkerTimes;

struct PodWorker {
        const PodContext *context;
        Pod *pod;
        PodWorkerEvents events;
        void *data;
        Deferred *turn;
        Timer *wake;
        bool status_dirty, finished;
        WorkerTimes times;

        WorkContainer **containers; /* in the pod's order */
        size_t n_containers;

        Sandbox *sandbox;
        SandboxState sandbox_state;
        char *sandbox_id;
        unsigned int sandbox_attempt;
        uint64_t sandbox_retry_ms, sandbox_backoff_ms;
        char *netns;
        NetworkState network_state;
        CniCall *cni_call;
        char **pod_ips;
        bool no_network_reported;
        bool dns_reported;
        Worker *log_remover;

        PodVolumes *volumes;
        VolumeState volume_state;
        unsigned int volume_failures;
        bool volumes_adopted; /* containers run with them; not looked at again yet */
        PodFacts facts;

        Map *objects; /* "c/<name>" or "s/<name>" -> ObjectRef, for the environment */

        bool terminating, rejected;
        bool ended, disruption; /* by the node itself, see PodEnding */
        int64_t end_grace_s;
        bool over_elsewhere; /* it was over before this node knew of it: its status stays */
        bool over_before;    /* its phase was terminal when the termination began */
        int64_t grace_s;     /* of the termination */
        char *rejected_reason, *rejected_message;
        char *ended_reason, *ended_message;
        int64_t start_us;
        ConditionMemory conditions[CONDITION_COUNT];
        ContainerView *views; /* scratch for rendering */
};

/* What the pod names of its config maps and secrets; NULL: not that one. */
ObjectRef *worker_object(PodWorker *w, ObjectKind kind, const char *name);

static inline bool worker_is_ending(const PodWorker *w)
{
        return w->terminating || w->ended;
}

/* Plan again at the end of this turn; status: it may have changed too. */
void worker_dirty(PodWorker *w, bool status);
void worker_fill_plan(PodWorker *w, PlanInput *in, PlanContainer *containers);
bool worker_is_complete(PodWorker *w);
void worker_refresh_facts(PodWorker *w);

/* Events on the pod, or on one of its containers (c may be NULL). */
void worker_event(PodWorker *w, const WorkContainer *c, const char *type, const char *reason,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

/* worker-sandbox.c */
void worker_setup_volumes(PodWorker *w);
void worker_teardown_volumes(PodWorker *w);
void worker_create_sandbox(PodWorker *w);
void worker_add_network(PodWorker *w);
void worker_delete_network(PodWorker *w);
void worker_destroy_sandbox(PodWorker *w);
void worker_report_no_network(PodWorker *w);
/* Removes the logs, in a worker, then sets `finished`. */
void worker_finish_pod(PodWorker *w);
void worker_adopt(PodWorker *w, const AdoptedSandbox *adopted);
extern const SandboxEvents worker_sandbox_events;

/* worker-container.c */
void worker_start_container(PodWorker *w, WorkContainer *c);
void worker_stop_container(PodWorker *w, WorkContainer *c);
void worker_kill_container(PodWorker *w, WorkContainer *c);
/* All containers have ended: they start over as if none ever ran. */
void worker_reset_containers(PodWorker *w);
void worker_report_backoff(PodWorker *w, WorkContainer *c);
void worker_apply_info(PodWorker *w, WorkContainer *c, const ContainerInfo *info);
void worker_container_changed(PodWorker *w, const ContainerInfo *info);
void worker_container_refused(PodWorker *w, const char *id, const KlError *error);
void worker_container_free(PodWorker *w, WorkContainer *c);
void worker_unlink_logs(PodWorker *w, const WorkContainer *c);
/* Compresses and removes rotated files of a container's log, soon and in the background. */
void worker_tidy_log(PodWorker *w, const char *container, unsigned int attempt);
WorkContainer *worker_container(PodWorker *w, const char *name);

/* worker-probe.c */
/* The container runs, and its postStart hook is over. */
void worker_probes_start(PodWorker *w, WorkContainer *c);
/* It runs since before this daemon. */
void worker_probes_adopt(PodWorker *w, WorkContainer *c);
void worker_probes_stop(WorkContainer *c);
/* What probes and state of the container amount to; plans the next tries. */
void worker_refresh_health(PodWorker *w, WorkContainer *c);
/* It has to be ended because of this probe. */
bool worker_probe_failed(const WorkContainer *c, ProbeKind *ret);
/* The pod goes: its metrics too. */
void worker_probes_forget(const PodWorker *w);
/* The first address, or NULL. */
const char *worker_pod_ip(const PodWorker *w);

/* worker-hook.c */
/* Whether the container counts as started only when its hook is over, which has yet to come. */
bool worker_post_start_pending(const WorkContainer *c);
/* Runs it; ends in the container's start being over, or in its end. */
void worker_post_start(PodWorker *w, WorkContainer *c);
/* Gives it up, if it runs: the container is stopped. */
void worker_abandon_post_start(PodWorker *w, WorkContainer *c);
/* Stops the container: its preStop hook, then its stop signal, within the grace period. Asked
 * again, the shorter grace counts. */
void worker_stop_within(PodWorker *w, WorkContainer *c, int64_t grace_s);
/* The container ended, or goes. */
void worker_hooks_end(WorkContainer *c);
/* Why a container is stopped, as the Killing event words it. */
void worker_stop_text(const PodWorker *w, const WorkContainer *c, char *buf, size_t size);

/* worker-image.c */
void worker_ensure_image(PodWorker *w, WorkContainer *c);
void worker_cancel_pull(WorkContainer *c);
/* Turns ErrImagePull into ImagePullBackOff after a moment; the time to look again, or 0. */
uint64_t worker_image_backoff_due(PodWorker *w, WorkContainer *c, uint64_t now_ms);

/* worker-env-file.c */
/* The text of a file in a volume (borrowed; NULL: there is none), for the next start. 1: it is
 * being read, which makes the worker dirty when it is done. */
int worker_env_file(WorkContainer *c, const char *volume, const char *path, const char **ret_text,
                    KlError **err);
void worker_forget_env_files(WorkContainer *c);

/* worker-termination.c */
/* The termination message of a run that just ended, to be freed; NULL: none. Follows no link and
 * blocks on nothing. */
char *worker_termination_message(PodWorker *w, const WorkContainer *c, const ContainerInfo *info);
/* Of a run that is forgotten. */
void worker_remove_termination_file(PodWorker *w, const WorkContainer *c, const char *id);

/* worker-metrics.c */
void worker_count_new(PodWorker *w, bool adopted);
void worker_count_turn(PodWorker *w, uint64_t begin_us);
void worker_count_sandbox_begun(PodWorker *w);
void worker_count_sandbox_ready(PodWorker *w);
void worker_count_sandbox_error(void);
void worker_count_pull_begun(PodWorker *w);
/* image: NULL when it failed. */
void worker_count_pull_done(PodWorker *w, const WorkContainer *c, const Image *image);
void worker_count_start(PodWorker *w, WorkContainer *c);
void worker_count_start_error(const WorkContainer *c, const char *reason);
/* It runs, or it could not. */
void worker_count_started(PodWorker *w, const WorkContainer *c, const ContainerInfo *info);
void worker_count_stop(void);
void worker_count_ended(PodWorker *w, const WorkContainer *c);

#endif
