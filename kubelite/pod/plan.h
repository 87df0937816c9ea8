/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_PLAN_H
#define KUBELITE_POD_PLAN_H

#include "pod/restart.h"

/*
 * What to do next for one pod: a pure function of what is wanted and what is observed. Jobs in
 * flight are part of the observation, so that planning again at any moment starts nothing twice.
 * The worker executes the actions and marks the pod dirty when anything changed.
 */

typedef enum SandboxState {
        SANDBOX_NONE,
        SANDBOX_CREATING,
        SANDBOX_READY,
        SANDBOX_LOST, /* its shim is gone; only cleaning up makes sense */
        SANDBOX_DESTROYING,
} SandboxState;

typedef enum NetworkState {
        NETWORK_NONE,
        NETWORK_ADDING,
        NETWORK_READY,
        NETWORK_DELETING,
} NetworkState;

typedef enum VolumeState {
        VOLUME_STATE_NONE,
        VOLUME_STATE_PENDING, /* or failed for now: retried by the volumes room */
        VOLUME_STATE_READY,
        VOLUME_STATE_TEARING_DOWN,
        VOLUME_STATE_GONE,
} VolumeState;

typedef enum ImageState {
        IMAGE_UNKNOWN,
        IMAGE_PULLING,
        IMAGE_READY,
        IMAGE_FAILED, /* try again at image_retry_ms */
} ImageState;

typedef enum RunState {
        RUN_NONE, /* never started, as far as records go */
        RUN_STARTING,
        RUN_RUNNING,
        RUN_STOPPING,
        RUN_EXITED,
} RunState;

typedef struct PlanContainer {
        ContainerKind kind;
        bool sidecar;
        RunState run;
        bool outdated;           /* runs another image than the spec says now */
        bool unhealthy;          /* its liveness or startup probe failed */
        bool starting_up;        /* its startup probe has not succeeded yet */
        bool post_start_pending; /* it has a postStart hook that is not over in this run */
        bool in_post_start;      /* … and that runs beside its process */
        bool earlier;            /* exited, in a sandbox before the current one */
        bool own_policy;
        RestartPolicy policy; /* instead of the pod's */
        int exit_code;        /* of the last exit */
        RestartRule rule;     /* that the exit met */
        ImageState image;
        uint64_t image_retry_ms; /* monotonic */
        uint64_t start_retry_ms; /* crash-loop or configuration-error back-off ends; 0: now */
} PlanContainer;

typedef struct PlanInput {
        uint64_t now_ms; /* monotonic */
        RestartPolicy restart_policy;
        bool terminating;     /* deletion was asked for, or the pod is to end for good */
        bool removed;         /* terminating, and nothing may remain of it afterwards */
        bool finished;        /* over for good, by the API or the node: nothing may start again */
        uint64_t deadline_ms; /* monotonic end of activeDeadlineSeconds; 0: none */
        bool host_network;
        bool network_available; /* a CNI configuration is there */
        SandboxState sandbox;
        uint64_t sandbox_retry_ms;
        NetworkState network;
        VolumeState volumes;
        const PlanContainer *containers; /* in the pod's order: init, main, ephemeral */
        size_t n_containers;
} PlanInput;

typedef enum ActionType {
        ACTION_SETUP_VOLUMES,
        ACTION_CREATE_SANDBOX,
        ACTION_ADD_NETWORK,
        ACTION_REPORT_NO_NETWORK, /* no CNI configuration yet */
        ACTION_ENSURE_IMAGE,      /* container */
        ACTION_START,             /* container */
        ACTION_STOP,              /* container */
        ACTION_KILL,              /* container: at once, it starts over with all others */
        ACTION_REPORT_BACKOFF,    /* container: it waits in CrashLoopBackOff */
        ACTION_RESET,             /* all have ended to start over: forget that they ran */
        ACTION_EXPIRE,            /* activeDeadlineSeconds are over */
        ACTION_DELETE_NETWORK,
        ACTION_DESTROY_SANDBOX,
        ACTION_TEARDOWN_VOLUMES,
        ACTION_FINISH, /* nothing is left; the pod may be forgotten */
} ActionType;

typedef struct Action {
        ActionType type;
        size_t container;
} Action;

/* Per container at most two, and a few for the pod. */
#define PLAN_ACTIONS_MAX (2 * POD_CONTAINERS_MAX + 8)

typedef struct Plan {
        Action actions[PLAN_ACTIONS_MAX];
        size_t n;
        uint64_t wake_ms; /* plan again then; 0: only when something changes */
} Plan;

void pod_plan(const PlanInput *in, Plan *ret);

/* A container that ended will be started again. */
bool pod_plan_restarts(const PlanInput *in, const PlanContainer *container);

/* All main containers ended and none will be started again (or an init container failed for good).
 */
bool pod_plan_is_complete(const PlanInput *in);

#endif
