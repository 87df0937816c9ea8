/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NODE_NODE_INTERNAL_H
#define KUBELITE_NODE_NODE_INTERNAL_H

#include "node/node.h"

#define NODE_CALL_TIMEOUT_MS 10000 /* then the connection is given up */
#define NODE_REGISTER_RETRY_MAX_MS 7000
#define NODE_STATUS_RETRY_MAX_MS 10000
#define NODE_RETRY_MIN_MS 100

/* Waits that double from NODE_RETRY_MIN_MS, with a fifth of jitter either way. */
typedef struct NodeRetry {
        Timer *timer;
        uint64_t delay_ms;
} NodeRetry;

/* response: the refusal, which may say how long to wait; or NULL. */
void node_retry_later(NodeRetry *retry, uint64_t max_ms, const ApiResponse *response);
static inline void node_retry_reset(NodeRetry *retry)
{
        retry->delay_ms = 0;
}

/* What others write to the Node and we read; replaced as a whole. */
typedef struct NodeView {
        Arena *arena;
        ConfigPair *labels;
        ConfigTaint *taints;
        char **pod_cidrs;
        ConfigPair *extended; /* allocatable of extended resources, as others wrote it */
} NodeView;

typedef struct NodeLease {
        NodeRetry retry; /* also the timer of the regular renewals */
        ApiRequest *request;
        uint64_t due_ms; /* monotonic; the renewals' grid */
        bool whole;      /* owner, holder and duration have to be written, too */
        bool create;     /* there is none */
} NodeLease;

typedef struct NodeCsi {
        NodeRetry retry;
        ApiRequest *request;
        bool done;
} NodeCsi;

struct Node {
        Loop *loop;
        ApiClient *client;
        EventRecorder *events;
        NodeOptions options;
        Arena *arena; /* strings of options and identity */
        NodeIdentity identity;
        char *status_path, *node_path, *lease_path, *csinode_path;

        /* inputs */
        NodeFacts facts;
        NodeResources resources;
        char **addresses, **old_addresses;
        char *images;
        bool pressure[NODE_READY];
        bool runtime_known, network_known;
        char *runtime_error, *network_error; /* NULL: ready */

        /* computed, on its way, accepted */
        NodeSections sections, sent, accepted;
        NodeCondition conditions[NODE_CONDITIONS], sent_conditions[NODE_CONDITIONS];
        NodeCondition accepted_conditions[NODE_CONDITIONS];
        const char *seen[NODE_CONDITIONS]; /* statuses as the watch showed them last */
        uint64_t seen_version;
        char **stale_resources;
        Timer *tick;
        Deferred *dirty;
        NodeRetry status_retry;
        ApiRequest *status_request;
        uint64_t tick_due_ms, reported_ms, hold_ready_until_ms;

        /* registration */
        bool started, exists;
        char *uid;
        uint64_t version; /* resourceVersion of the last write that was answered */
        NodeRetry register_retry;
        ApiRequest *register_request;
        ApiWatch *watch;
        NodeView view;

        NodeLease lease;
        NodeCsi csi;
        bool outage;     /* the last request failed */
        char *complaint; /* the last one logged; NULL while all is well */
};

/* --- node.c --- */
void node_compute(Node *node);
void node_mark_dirty(Node *node);
/* The uid is known, or another than before. */
void node_set_uid(Node *node, const char *uid);
/* One request of the lease's connection. NULL (and logged) when it cannot be made. */
ApiRequest *node_call(Node *node, const char *method, const char *path, const Buf *body,
                      const char *content_type, const char *accept, ApiFunc done);
#define NODE_ACCEPT_METADATA                                                                       \
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
#define NODE_ACCEPT_PROTOBUF "application/vnd.kubernetes.protobuf,application/json"
#define NODE_STRATEGIC "application/strategic-merge-patch+json"
#define NODE_MERGE "application/merge-patch+json"

/* Logs a refusal once until something else happens; that the server is out of reach is logged by
 * the client. */
void node_complain(Node *node, const char *what, const ApiResponse *response);
void node_satisfied(Node *node);
void node_event(Node *node, const char *type, const char *reason, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
void node_owner_print(const Node *node, Buf *to);

/* --- node-status.c --- */
void node_status_send(Node *node);
/* Takes over what an existing Node's status says. */
void node_status_adopt(Node *node, const Value *object);
/* Forgets what was accepted: all is to be written again. */
void node_status_forget(Node *node);
/* After an outage the conditions are written again: the controllers may have set them to Unknown.
 */
void node_status_distrust(Node *node);
/* A watch event's conditions: what others changed of ours is written again. */
void node_status_compare(Node *node, const Value *object);
int node_conditions_copy(const NodeCondition *from, NodeCondition *to);
int node_sections_copy(const NodeSections *from, NodeSections *to);

/* --- node-register.c --- */
int node_register_init(Node *node);
void node_register_start(Node *node);
void node_register_deinit(Node *node);
int node_view_from_options(Node *node);

/* --- node-lease.c --- */
int node_lease_init(Node *node);
/* Now, with owner, holder and duration. */
void node_lease_start(Node *node);
void node_lease_deinit(Node *node);

/* --- node-csinode.c --- */
int node_csi_init(Node *node);
void node_csi_start(Node *node);
void node_csi_deinit(Node *node);

#endif
