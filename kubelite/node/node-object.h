/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NODE_NODE_OBJECT_H
#define KUBELITE_NODE_NODE_OBJECT_H

#include "base/buf.h"
#include "codec/value.h"
#include "config/kubelet-config.h"
#include "node/facts.h"

/*
 * The Node object as text: pure functions from facts, configuration and conditions to JSON. A
 * status is kept as a few sections, each the JSON text of one member; what has changed is what
 * differs as text from the section that the server accepted last.
 */

/* --- resources --- */

#define NODE_RESOURCES_MAX 16

typedef struct NodeResource {
        char name[40];
        int64_t value; /* CPUs in thousandths, else bytes or a count */
} NodeResource;

typedef struct NodeResources {
        NodeResource capacity[NODE_RESOURCES_MAX];
        NodeResource allocatable[NODE_RESOURCES_MAX]; /* the same names in the same order */
        size_t n;
} NodeResources;

/* Capacity from facts; allocatable is that less what is reserved and the hard eviction thresholds.
 * -EINVAL for a reservation that is no quantity. */
int node_resources(const NodeFacts *facts, const KubeletConfig *config, NodeResources *ret,
                   KlError **err);
/* The same without the eviction thresholds: what all pods together may use, and their group is
 * limited to (enforceNodeAllocatable: pods). */
int node_pods_resources(const NodeFacts *facts, const KubeletConfig *config, NodeResources *ret,
                        KlError **err);
/* Allocatable of a resource; 0 if there is none. */
int64_t node_resources_allocatable(const NodeResources *resources, const char *name);

/* --- conditions --- */

typedef enum NodeConditionType {
        NODE_MEMORY_PRESSURE,
        NODE_DISK_PRESSURE,
        NODE_PID_PRESSURE,
        NODE_READY,
        NODE_CONDITIONS,
} NodeConditionType;

extern const char *const node_condition_names[NODE_CONDITIONS];

typedef struct NodeCondition {
        const char *status; /* "True", "False", "Unknown"; NULL: not known */
        const char *reason;
        char *message; /* owned */
        int64_t transition_us;
} NodeCondition;

typedef struct NodeHealth {
        bool pressure[NODE_READY]; /* by NODE_MEMORY_PRESSURE, … */
        const char *runtime_error; /* NULL: fine */
        const char *network_error; /* message of the plugin; NULL: fine */
        const char *storage_error;
} NodeHealth;

/* Upstream's reasons and texts; the transition's time is kept where the status is the same. */
int node_conditions(const NodeHealth *health, int64_t now_us, const NodeCondition *last,
                    NodeCondition *ret);
void node_conditions_deinit(NodeCondition *conditions);

/* --- the status in sections --- */

typedef enum NodeSection {
        NODE_SECTION_ADDRESSES,
        NODE_SECTION_ALLOCATABLE,
        NODE_SECTION_CAPACITY,
        NODE_SECTION_ENDPOINTS,
        NODE_SECTION_DECLARED,
        NODE_SECTION_FEATURES,
        NODE_SECTION_IMAGES,
        NODE_SECTION_INFO,
        NODE_SECTION_HANDLERS,
        NODE_SECTIONS,
} NodeSection;

extern const char *const node_section_names[NODE_SECTIONS];

#define NODE_IMAGE_NAMES_MAX 5

typedef struct NodeImage {
        char *const *digests, *const *tags; /* NULL-terminated, may be NULL */
        uint64_t size_bytes;
} NodeImage;

typedef struct NodeStatus {
        const NodeFacts *facts;
        const NodeResources *resources;
        char *const *addresses; /* NULL: the section is left to a cloud provider */
        const char *hostname;
        const char *kubelet_version, *runtime_version; /* "v1.36.0+kubelite.1", "0.1.0" */
        int64_t port;
        const char *images;    /* text of that section, see node_images_print */
        char *const *handlers; /* RuntimeClass handlers beside the embedded one, "name=…" */
        bool user_namespaces, recursive_read_only;
} NodeStatus;

typedef struct NodeSections {
        char *text[NODE_SECTIONS]; /* owned; NULL: not ours to write */
} NodeSections;

int node_sections(const NodeStatus *status, NodeSections *ret);
void node_sections_deinit(NodeSections *sections);

/* The largest `max` images (-1: all), names by digest first. To be freed; NULL when out of memory.
 */
char *node_images_print(const NodeImage *images, size_t n, int64_t max);

/* --- objects and patches --- */

typedef struct NodeIdentity {
        const char *name, *hostname, *architecture;
        const ConfigPair *labels;
        const ConfigTaint *taints;
        const char *provider_id; /* "" */
        const char *provided_ip; /* of an external cloud provider's node, or NULL */
        bool external_cloud, attach_detach;
} NodeIdentity;

/* For POST; the same text serves standalone nodes. */
int node_object_print(const NodeIdentity *identity, const NodeSections *sections,
                      const NodeCondition *conditions, int64_t now_us, Buf *to);

typedef struct NodePatch {
        const char *uid;
        const NodeSections *now, *accepted; /* accepted->text NULL: send */
        const NodeCondition *conditions, *accepted_conditions;
        char *const *stale_resources; /* names to remove, or NULL */
        int64_t now_us;
} NodePatch;

/* True if anything but the time of the heartbeat differs. */
bool node_patch_needed(const NodePatch *patch);
/* Strategic merge patch of status: what differs, and a heartbeat of every condition. */
int node_patch_print(const NodePatch *patch, Buf *to);

/* What an existing Node lacks of labels and annotations that a node owns: a strategic merge patch,
 * or nothing (0 bytes) when all is there. As upstream's adoption, taints and further labels of
 * --node-labels are left alone. */
int node_adopt_print(const NodeIdentity *identity, const Value *existing, Buf *to);

/* True if every member of `ours` is in `theirs` with an equal value. */
bool node_value_contains(const Value *theirs, const Value *ours);

#endif
