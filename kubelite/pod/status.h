/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_STATUS_H
#define KUBELITE_POD_STATUS_H

#include "api/pod.h"
#include "base/buf.h"
#include "codec/json.h"
#include "pod/plan.h"

/*
 * PodStatus as a pure function of what is observed. The view below is what the worker knows; the
 * result is one JSON text a top-level field, so that the patch of what changed is a comparison.
 */

#define CONTAINER_ID_PREFIX "kubelite://"

/* One run of a container. */
typedef struct RunRecord {
        char *id;                        /* 64 hex; NULL: there is no such record */
        int64_t started_us, finished_us; /* 0: unknown */
        int exit_code;
        const char *reason; /* static */
        char *message;      /* or NULL */
} RunRecord;

typedef struct ContainerView {
        const Container *spec;
        RunState run;
        unsigned int restart_count;
        RunRecord current, last; /* last: the run before */
        /* Why it does not run: static, or NULL for the default. Of an exited container: it is to
         * run again, and shows as waiting. */
        const char *waiting_reason;
        char *waiting_message;
        bool ready, started;
        bool earlier;                 /* exited, in a sandbox before the current one */
        const char *image, *image_id; /* of the current or last run; "" before the first */
        uint32_t uid, gid;
        const uint32_t *groups;
        size_t n_groups;
        bool user_known;
} ContainerView;

typedef enum ConditionType {
        CONDITION_READY_TO_START, /* PodReadyToStartContainers */
        CONDITION_INITIALIZED,
        CONDITION_READY,
        CONDITION_CONTAINERS_READY,
        CONDITION_SCHEDULED,
        CONDITION_DISRUPTION,     /* DisruptionTarget; only once it is true */
        CONDITION_ALL_RESTARTING, /* AllContainersRestarting, of pods that have a rule for it */
        CONDITION_COUNT,
} ConditionType;

/* Kept between renderings: a condition's transition time changes only with its status. */
typedef struct ConditionMemory {
        bool known, status;
        int64_t transition_us;
} ConditionMemory;

typedef struct PodView {
        const Pod *pod;
        const ContainerView *containers; /* in the pod's order */
        bool terminating, terminated;    /* terminated: nothing runs any more, for good */
        bool phase_is_echo;              /* the phase that the API holds came with this ending */
        const char *rejected_reason;     /* refused by the node: static */
        const char *rejected_message;
        const char *ended_reason; /* ended by the node: Failed with these once nothing runs */
        const char *ended_message;
        bool disruption;                        /* and shown as DisruptionTarget from the start */
        bool sandbox_ready;                     /* with network and volumes */
        char *const *host_ips, *const *pod_ips; /* NULL-terminated, may be NULL */
        int64_t start_us;
        ConditionMemory *conditions; /* CONDITION_COUNT of them, updated */
        int64_t now_us;
} PodView;

typedef enum StatusField {
        STATUS_OBSERVED_GENERATION,
        STATUS_PHASE,
        STATUS_CONDITIONS,
        STATUS_MESSAGE,
        STATUS_REASON,
        STATUS_HOST_IP,
        STATUS_HOST_IPS,
        STATUS_POD_IP,
        STATUS_POD_IPS,
        STATUS_START_TIME,
        STATUS_INIT_CONTAINERS,
        STATUS_CONTAINERS,
        STATUS_EPHEMERAL_CONTAINERS,
        STATUS_QOS_CLASS,
        STATUS_FIELD_COUNT,
} StatusField;

/* JSON texts; NULL: the field is absent. */
typedef struct PodStatus {
        char *fields[STATUS_FIELD_COUNT];
} PodStatus;

/* 0 or -ENOMEM. */
int pod_status_render(const PodView *view, PodStatus *ret);
void pod_status_deinit(PodStatus *status);

/* "Pending", "Running", "Succeeded", "Failed". */
const char *pod_status_phase(const PodView *view);
bool pod_phase_is_terminal(const char *phase);

/* The whole status as an object. */
void pod_status_write(const PodStatus *status, JsonWriter *w);

/*
 * A strategic merge patch from `was` (NULL: nothing was sent yet) to `now`, with the uid as a
 * precondition: {"metadata":{"uid":…},"status":{…}}. 1 if nothing changed, else 0 or -ENOMEM.
 * Lists that the server would merge by key are sent with a $patch: replace directive.
 */
int pod_status_patch(const char *uid, const PodStatus *was, const PodStatus *now, Buf *to);

/* QoS class as upstream computes it. */
typedef enum PodQos {
        POD_GUARANTEED,
        POD_BURSTABLE,
        POD_BEST_EFFORT,
} PodQos;

PodQos pod_qos(const Pod *pod);
const char *pod_qos_name(PodQos qos);

#endif
