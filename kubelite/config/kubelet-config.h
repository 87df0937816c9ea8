/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CONFIG_KUBELET_CONFIG_H
#define KUBELITE_CONFIG_KUBELET_CONFIG_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * KubeletConfiguration, kubelet.config.k8s.io/v1beta1: file, drop-ins, flags and defaults in one
 * typed struct. Names follow the document's. Everything lives in the config's arena.
 *
 * The order is: kubelet_config_new, kubelet_config_read (file, then each drop-in),
 * kubelet_config_set (flags), kubelet_config_finish (defaults and checks). daemon_config_load
 * (config/flags.h) does all of it.
 */

/* Lists of them end with a NULL key. */
typedef struct ConfigPair {
        char *key;
        char *value;
} ConfigPair;

/* Lists of them end with a NULL key. */
typedef struct ConfigTaint {
        char *key;
        char *value;  /* "" when there is none */
        char *effect; /* NoSchedule, PreferNoSchedule, NoExecute */
} ConfigTaint;

typedef struct KubeletConfig {
        /* sources and intervals; durations are microseconds */
        char *static_pod_path, *static_pod_url;
        int64_t sync_frequency_us, file_check_frequency_us, http_check_frequency_us;

        /* server */
        bool enable_server, enable_debugging_handlers, enable_profiling_handler;
        bool enable_debug_flags_handler, enable_system_log_handler, enable_system_log_query;
        char *address, *healthz_bind_address;
        int64_t port, read_only_port, healthz_port;
        char *tls_cert_file, *tls_private_key_file, *tls_min_version;
        char **tls_cipher_suites;
        bool rotate_certificates, server_tls_bootstrap;
        char *client_ca_file;
        bool anonymous_auth, webhook_auth;
        int64_t webhook_auth_cache_ttl_us;
        char *authorization_mode; /* AlwaysAllow or Webhook */
        int64_t cache_authorized_ttl_us, cache_unauthorized_ttl_us;
        int64_t streaming_connection_idle_timeout_us;

        /* registration and status */
        bool register_node;
        ConfigTaint *register_with_taints;
        char *provider_id;
        int64_t node_status_update_frequency_us, node_status_report_frequency_us;
        int64_t node_lease_duration_seconds;
        int64_t node_status_max_images;
        bool enable_controller_attach_detach;

        /* API client; a limit binds only where the document or a flag gives one */
        bool kube_api_qps_set, event_record_qps_set;
        int64_t kube_api_qps, kube_api_burst, event_record_qps, event_burst;

        /* resources */
        char *cgroup_root, *cgroup_driver, *kubelet_cgroups, *system_cgroups;
        char *system_reserved_cgroup, *kube_reserved_cgroup;
        bool cgroups_per_qos, fail_cgroup_v1, fail_swap_on, single_process_oom_kill;
        bool single_process_oom_kill_set; /* its default depends on the cgroup version */
        int64_t max_pods, pods_per_core, pod_pids_limit, oom_score_adj, max_open_files;
        ConfigPair *system_reserved, *kube_reserved;
        char **enforce_node_allocatable;
        char *reserved_system_cpus;
        bool cpu_cfs_quota;
        int64_t cpu_cfs_quota_period_us;
        char *memory_swap_behavior;
        bool local_storage_capacity_isolation;
        char *cpu_manager_policy, *memory_manager_policy, *topology_manager_policy;
        char *topology_manager_scope;

        /* eviction */
        ConfigPair *eviction_hard, *eviction_soft, *eviction_soft_grace_period;
        ConfigPair *eviction_minimum_reclaim;
        bool merge_default_eviction_settings;
        int64_t eviction_pressure_transition_period_us, eviction_max_pod_grace_period;

        /* pods */
        char **cluster_dns, **allowed_unsafe_sysctls;
        char *cluster_domain, *resolv_conf, *pod_cidr, *hairpin_mode, *pod_logs_dir;
        char *volume_plugin_dir;
        bool seccomp_default;
        int64_t user_namespace_ids_per_pod;
        int64_t crash_loop_max_period_us;
        int64_t runtime_request_timeout_us, volume_stats_agg_period_us;
        int64_t pod_housekeeping_period_us;
        char *change_detection_strategy; /* of config maps and secrets */
        int64_t shutdown_grace_period_us, shutdown_grace_period_critical_pods_us;

        /* logs of containers, and of the daemon */
        char *container_log_max_size;
        int64_t container_log_max_files, container_log_max_workers;
        int64_t container_log_monitor_interval_us;
        char *logging_format; /* text or json */
        int64_t logging_verbosity;

        /* images */
        bool serialize_image_pulls;
        int64_t max_parallel_image_pulls; /* 0: no limit */
        int64_t registry_pull_qps, registry_burst;
        int64_t image_minimum_gc_age_us, image_maximum_gc_age_us;
        int64_t image_gc_high_threshold_percent, image_gc_low_threshold_percent;

        ConfigPair *feature_gates; /* "true" or "false" */

        /* What was odd and is ignored: one sentence each, for whoever loads it to log. */
        char **warnings;

        struct ConfigState *state; /* which fields were given, text of fields we only carry */
        Arena *arena;
} KubeletConfig;

int kubelet_config_new(KubeletConfig **ret, KlError **err);
KubeletConfig *kubelet_config_free(KubeletConfig *config);
KL_DEFINE_CLEANUP(KubeletConfig *, kubelet_config_free);

/* Merges a document (YAML or JSON) over what is there: maps by key, lists as a whole, null resets.
 * `name` is the file's, for messages. */
int kubelet_config_read(KubeletConfig *config, const char *name, const char *text, size_t len,
                        KlError **err);
int kubelet_config_read_file(KubeletConfig *config, const char *path, KlError **err);
/* Every *.conf file below the directory, in the order of their names. */
int kubelet_config_read_dir(KubeletConfig *config, const char *path, KlError **err);

/* Sets one field ("authentication.x509.clientCAFile") from a flag's text. -EINVAL without the name
 * of the flag in its message. Lists: "a,b"; maps: "k=v,k=v" or "k<v"; taints: "k=v:Effect,…". */
int kubelet_config_set(KubeletConfig *config, const char *path, const char *text, KlError **err);
/* A switch needs no value on the command line. */
bool kubelet_config_is_bool(const char *path);

/* Fills in defaults and checks what fields say together. */
int kubelet_config_finish(KubeletConfig *config, KlError **err);

/* The document as JSON, as the configz endpoint shows it. */
int kubelet_config_print(const KubeletConfig *config, Buf *to);

/* The value of a pair's key, or NULL. */
const char *config_pair_get(const ConfigPair *pairs, const char *key);

/* "k=v,k=v" with any one of the separators "=<:"; for flags. */
int config_pairs_parse(Arena *arena, const char *text, ConfigPair **ret, KlError **err);
int config_taints_parse(Arena *arena, const char *text, ConfigTaint **ret, KlError **err);

#endif
