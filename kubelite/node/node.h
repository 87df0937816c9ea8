/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NODE_NODE_H
#define KUBELITE_NODE_NODE_H

#include "api/client.h"
#include "api/events.h"
#include "config/kubeconfig.h"
#include "config/kubelet-config.h"
#include "loop/loop.h"
#include "node/node-object.h"

/*
 * This machine as a Node of the cluster: registers or adopts the object, keeps its status, renews
 * its Lease, makes its CSINode, and follows the object for what others write to it. Without an API
 * client (standalone) it only computes the object.
 *
 * As upstream, a Node that is deleted while the daemon runs is not made again until the next start;
 * one that somebody else makes anew is taken up.
 */
typedef struct Node Node;

typedef struct NodeOptions {
        const KubeletConfig *config;   /* must outlive the node */
        const char *name;              /* of the Node; also its hostname label and address */
        const char *root_dir;          /* its file system is the ephemeral storage */
        char *const *node_ips;         /* --node-ip, or NULL */
        const ConfigPair *labels;      /* --node-labels, or NULL; must outlive the node */
        bool external_cloud;           /* --cloud-provider=external */
        const char *kubelet_version;   /* "v1.36.0+kubelite.1" */
        const char *runtime_version;   /* "0.1.0" */
        char *const *runtime_handlers; /* beside the embedded one, "name=…"; or NULL */
        bool user_namespaces, recursive_read_only;
        const char *facts_prefix; /* "" or NULL; tests */

        /* All may be NULL. */
        /* each time the uid becomes known or changes */
        void (*on_registered)(Node *node, void *data);
        /* labels, taints, pod CIDRs, extended resources or addresses changed */
        void (*on_changed)(Node *node, void *data);
        void *data;
} NodeOptions;

/* Reads the machine's facts; client and events may be NULL. Strings are copied except as said. */
int node_new(Loop *loop, ApiClient *client, EventRecorder *events, const NodeOptions *options,
             Node **ret, KlError **err);
Node *node_free(Node *node);
KL_DEFINE_CLEANUP(Node *, node_free);
/* Begins to talk to the API server. */
void node_start(Node *node);

/* --- inputs --- */

/* Until these were called once, the node is not Ready; an adopted one that was stays so for
 * NODE_ADOPT_GRACE_MS, so that a restart of the daemon shows nobody a NotReady node. */
#define NODE_ADOPT_GRACE_MS 20000
/* message: the plugin's, such as "Network plugin returns error: cni plugin not initialized". */
void node_set_network_ready(Node *node, bool ready, const char *message);
void node_set_runtime_ready(Node *node, bool ready, const char *message);
void node_set_pressure(Node *node, NodeConditionType which, bool pressed);
/* Told to the server with the next computing, at most nodeStatusUpdateFrequency later. Copied. */
int node_set_images(Node *node, const NodeImage *images, size_t n);

/* --- what is known ---
 * Pointers are borrowed until the end of the on_registered (uid) or on_changed (addresses, labels,
 * taints, pod CIDRs) that tells of another value. */

const char *node_name(const Node *node);
/* "" until known. */
const char *node_uid(const Node *node);
/* The Node exists and its uid is known. */
bool node_registered(const Node *node);
bool node_ready(const Node *node);
/* IP addresses, the primary first (hostIP, hostIPs); NULL-terminated, perhaps empty. */
char *const *node_addresses(const Node *node);
const NodeResources *node_resource_list(const Node *node);
const NodeFacts *node_facts(const Node *node);
/* Labels and taints as the server has them, or as they will be registered; NULL-key-terminated. */
const ConfigPair *node_labels(const Node *node);
const ConfigTaint *node_taints(const Node *node);
/* Allocatable resources that others wrote into the status ("example.com/dongle"); likewise. */
const ConfigPair *node_extended_resources(const Node *node);
/* spec.podCIDRs, or podCIDR of the configuration; NULL-terminated or NULL. */
char *const *node_pod_cidrs(const Node *node);

/* The object as JSON, computed now. */
int node_print(Node *node, Buf *to);

/* The kubeconfig's cluster and user as the API client wants them; borrows its strings. */
ApiEndpoint node_api_endpoint(const Kubeconfig *kubeconfig, const char *user_agent);

#endif
