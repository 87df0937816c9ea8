/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_API_POD_H
#define KUBELITE_API_POD_H

#include "api/pod-probes.h"
#include "base/arena.h"
#include "base/error.h"
#include "codec/value.h"

#include <stddef.h>
#include <stdint.h>

/*
 * v1.Pod as far as the node acts on it, typed, with the API's defaults filled in. A Pod and all
 * that it points to live in its arena. Fields that are named as in the API mean what the API says.
 * Pointers are NULL and numbers -1 where a field is absent and that makes a difference.
 */

/* Upstream has no such limits; a node has. */
#define POD_CONTAINERS_MAX 256 /* init, main and ephemeral together */
#define POD_VOLUMES_MAX 256
#define POD_LIST_MAX 4096 /* any other list: env, ports, mounts, items */

typedef struct KeyValue {
        char *key, *value;
} KeyValue;

typedef struct KeyValues {
        KeyValue *items;
        size_t n;
} KeyValues;

/* NULL if there is none. */
const char *key_values_get(const KeyValues *list, const char *key);

typedef enum RestartPolicy {
        RESTART_ALWAYS,
        RESTART_ON_FAILURE,
        RESTART_NEVER,
} RestartPolicy;

/* One of a container's restartPolicyRules (KEP-5307, KEP-5532). */
typedef struct RestartRuleSpec {
        bool all_containers; /* action RestartAllContainers, else Restart */
        bool not_in;         /* exitCodes.operator NotIn, else In */
        int64_t *exit_codes;
        size_t n_exit_codes;
} RestartRuleSpec;

#define POD_RESTART_RULES_MAX 20
#define POD_RESTART_CODES_MAX 255

typedef enum PullPolicy {
        PULL_IF_NOT_PRESENT,
        PULL_ALWAYS,
        PULL_NEVER,
} PullPolicy;

typedef struct KeyToPath {
        char *key, *path;
        int64_t mode; /* -1: defaultMode */
} KeyToPath;

typedef struct FieldSelector { /* ObjectFieldSelector or ResourceFieldSelector */
        char *field_path;      /* "metadata.name"; NULL for a resource */
        char *container;       /* resourceFieldRef */
        char *resource;
        char *divisor;
} FieldSelector;

typedef struct DownwardItem {
        char *path;
        FieldSelector from;
        int64_t mode;
} DownwardItem;

typedef enum EnvSource {
        ENV_VALUE,
        ENV_FIELD,
        ENV_CONFIG_MAP,
        ENV_SECRET,
        ENV_FILE, /* KEP-3721 */
} EnvSource;

typedef struct EnvVar {
        char *name;
        EnvSource source;
        char *value;         /* ENV_VALUE; "" by default */
        FieldSelector field; /* ENV_FIELD */
        char *object, *key;  /* config map, secret, or the volume with the file */
        char *path;          /* ENV_FILE: beneath the volume */
        bool optional;
} EnvVar;

typedef struct EnvFrom {
        char *prefix;
        char *object;
        bool secret; /* else a config map */
        bool optional;
} EnvFrom;

typedef struct ContainerPort {
        char *name, *protocol, *host_ip;
        uint16_t container_port, host_port;
} ContainerPort;

typedef struct VolumeMount {
        char *name, *mount_path, *sub_path, *sub_path_expr;
        bool read_only;
        char *recursive_read_only; /* "Disabled", "IfPossible", "Enabled", or NULL */
        char *mount_propagation;   /* "None", "HostToContainer", "Bidirectional", or NULL */
} VolumeMount;

/* Quantities as text, keyed by resource name. */
typedef struct ResourceRequirements {
        KeyValues requests, limits;
} ResourceRequirements;

typedef struct SeccompProfile {
        char *type; /* "RuntimeDefault", "Unconfined", "Localhost", or NULL */
        char *localhost_profile;
} SeccompProfile;

typedef struct AppArmorProfile { /* likewise */
        char *type;
        char *localhost_profile; /* the name of a loaded profile */
} AppArmorProfile;

typedef struct SecurityContext {           /* of a container */
        int64_t run_as_user, run_as_group; /* -1: unset */
        int run_as_non_root;               /* -1: unset */
        int privileged;                    /* likewise */
        int allow_privilege_escalation;
        int read_only_root_filesystem;
        char **cap_add, **cap_drop;
        char *proc_mount; /* "Default", "Unmasked", or NULL */
        SeccompProfile seccomp;
        AppArmorProfile apparmor;
        bool selinux_given; /* seLinuxOptions */
} SecurityContext;

typedef enum ContainerKind {
        CONTAINER_INIT,
        CONTAINER_MAIN,
        CONTAINER_EPHEMERAL,
} ContainerKind;

typedef struct Container {
        ContainerKind kind;
        bool sidecar; /* an init container with restartPolicy Always */
        bool has_restart_policy;
        RestartPolicy restart_policy; /* its own, instead of the pod's */
        RestartRuleSpec *restart_rules;
        size_t n_restart_rules;
        char *name, *image, *working_dir;
        char **command, **args;
        ContainerPort *ports;
        size_t n_ports;
        EnvVar *env;
        size_t n_env;
        EnvFrom *env_from;
        size_t n_env_from;
        VolumeMount *mounts;
        size_t n_mounts;
        ResourceRequirements resources;
        SecurityContext security;
        PullPolicy pull_policy;
        char *termination_message_path;
        bool termination_fallback_to_logs;
        bool stdin_open, stdin_once, tty;
        Probe *probes[PROBE_KINDS]; /* NULL: none */
        Lifecycle lifecycle;
        char *target_container; /* ephemeral */
        char *hash;             /* 16 hex over the container's spec: a change means a restart */
} Container;

typedef enum VolumeKind {
        VOLUME_EMPTY_DIR,
        VOLUME_HOST_PATH,
        VOLUME_CONFIG_MAP,
        VOLUME_SECRET,
        VOLUME_DOWNWARD_API,
        VOLUME_PROJECTED,
        VOLUME_UNSUPPORTED, /* `type` says which */
} VolumeKind;

typedef enum ProjectionKind {
        PROJECTION_CONFIG_MAP,
        PROJECTION_SECRET,
        PROJECTION_DOWNWARD_API,
        PROJECTION_TOKEN,
        PROJECTION_UNSUPPORTED,
} ProjectionKind;

/* One source of files; configMap, secret and downwardAPI volumes are projections with one source.
 */
typedef struct Projection {
        ProjectionKind kind;
        char *object; /* config map or secret */
        KeyToPath *items;
        size_t n_items;
        bool optional;
        DownwardItem *downward;
        size_t n_downward;
        char *audience, *path; /* service account token */
        int64_t expiration_s;
        char *type; /* the field's name, for messages */
} Projection;

typedef struct Volume {
        VolumeKind kind;
        char *name;
        char *type;                /* the source's field name: "emptyDir", "nfs", … */
        char *medium, *size_limit; /* emptyDir */
        char *host_path, *host_path_type;
        char *claim; /* persistentVolumeClaim */
        Projection *sources;
        size_t n_sources;
        uint32_t default_mode;
} Volume;

typedef struct HostAlias {
        char *ip;
        char **hostnames;
} HostAlias;

typedef struct NodeRequirement {
        char *key, *operator; /* "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt" */
        char **values;        /* NULL-terminated, may be NULL */
} NodeRequirement;

/* All of its requirements must hold; a term without any holds for no node. */
typedef struct NodeTerm {
        NodeRequirement *labels, *fields;
        size_t n_labels, n_fields;
} NodeTerm;

typedef struct Toleration { /* NULL where absent */
        char *key, *operator, * value, *effect;
} Toleration;

typedef struct PodSecurity {
        int64_t run_as_user, run_as_group, fs_group; /* -1: unset */
        int run_as_non_root;
        int64_t *supplemental_groups;
        size_t n_supplemental_groups;
        char *supplemental_groups_policy;
        char *fs_group_change_policy;
        KeyValues sysctls;
        SeccompProfile seccomp;
        AppArmorProfile apparmor;
        bool selinux_given;
} PodSecurity;

typedef struct PodCondition {
        char *type, *status, *reason, *message;
        int64_t transition_us;
} PodCondition;

/* What the API held of one container when the pod was decoded; for continuity after a restart. */
typedef struct SeenContainer {
        char *name;
        int64_t restart_count;
        bool ran; /* it has or had a container */
} SeenContainer;

typedef struct Pod {
        Arena *arena;
        /* metadata */
        char *name, *namespace, *uid, *resource_version;
        int64_t generation; /* 0 on servers that have none */
        KeyValues labels, annotations;
        int64_t created_us;
        int64_t deleted_us;       /* deletionTimestamp; 0: not being deleted */
        int64_t deletion_grace_s; /* -1: none */
        /* spec */
        char *node_name, *service_account, *hostname, *subdomain, *scheduler_name;
        char *hostname_override; /* KEP-4762 */
        RestartPolicy restart_policy;
        int64_t grace_s;           /* terminationGracePeriodSeconds */
        int64_t active_deadline_s; /* -1: none */
        bool host_network, host_pid, host_ipc, share_pid, host_users;
        bool set_hostname_as_fqdn, enable_service_links, automount_token_known_off;
        char *dns_policy; /* "ClusterFirst", … */
        char **dns_nameservers, **dns_searches;
        KeyValues dns_options;
        HostAlias *host_aliases;
        size_t n_host_aliases;
        char **image_pull_secrets;
        KeyValues node_selector;
        bool has_node_terms; /* required node affinity: one of the terms must hold */
        NodeTerm *node_terms;
        size_t n_node_terms;
        Toleration *tolerations;
        size_t n_tolerations;
        char **readiness_gates;
        char *runtime_class, *priority_class, *os_name;
        int64_t priority;
        bool has_priority;
        PodSecurity security;
        Container *containers; /* init, then main, then ephemeral */
        size_t n_init, n_main, n_ephemeral, n_containers;
        Volume *volumes;
        size_t n_volumes;
        KeyValues overhead;
        ResourceRequirements resources; /* pod level */
        /* status, as last seen in the API */
        char *seen_phase, *seen_reason, *seen_message;
        int64_t seen_start_us;
        PodCondition *seen_conditions;
        size_t n_seen_conditions;
        SeenContainer *seen_containers;
        size_t n_seen_containers;
        /* where it came from */
        bool is_static;
        char *source;      /* "api", or the manifest's path */
        char *static_json; /* of a static pod: the whole object, for its mirror */
        char *hash;        /* 16 hex over spec: tells changes of a static pod */
        char *json;        /* "metadata":{…},"spec":{…}, to show it again */
} Pod;

/* value must be a Pod object. -EINVAL with the path of what is wrong. */
int pod_decode(const Value *value, Pod **ret, KlError **err);
Pod *pod_free(Pod *pod);
KL_DEFINE_CLEANUP(Pod *, pod_free);

const Container *pod_container(const Pod *pod, const char *name);
/* The container's own, by field or annotation, or else the pod's; type NULL: none. Borrowed. */
AppArmorProfile pod_apparmor(const Pod *pod, const Container *container);
const Volume *pod_volume(const Pod *pod, const char *name);

/* Names that upstream accepts (relaxed validation, 1.30 and later): printable ASCII but '='. */
bool env_name_is_valid(const char *name);

/* CPU in milli, memory and others in units; -1 where not given. */
int64_t resource_milli(const KeyValues *list, const char *name);
int64_t resource_value(const KeyValues *list, const char *name);

const char *restart_policy_name(RestartPolicy policy);
const char *pull_policy_name(PullPolicy policy);

#endif
