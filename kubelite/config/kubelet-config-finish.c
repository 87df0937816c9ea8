/* SPDX-License-Identifier: Apache-2.0 */

/* Defaults, and what fields must say together. Follows upstream's defaults.go and validation.go. */

#include "config/kubelet-config-internal.h"

#include "base/str.h"
#include "codec/sysctl-names.h"

#include <arpa/inet.h>

static int apply_fallbacks(KubeletConfig *config, KlError **err)
{
        for (size_t i = 0; i < config_fields_len; i++) {
                const ConfigField *field = &config_fields[i];
                bool missing = !config->state->given[i] || (!(field->flags & CONFIG_POINTER) &&
                                                            config_field_is_zero(config, i));
                int r;

                if (!missing || !field->fallback)
                        continue;
                r = config_decode_text(config, i, field->fallback, err);
                if (r < 0)
                        return kl_error_wrap(err, r, "default of %s", field->path);
        }
        return 0;
}

static bool given(const KubeletConfig *config, const char *path)
{
        int i = config_field_find(path);

        return i >= 0 && config->state->given[i];
}

static bool set_to_something(const KubeletConfig *config, const char *path)
{
        int i = config_field_find(path);

        return i >= 0 && config->state->given[i] && !config_field_is_zero(config, (size_t)i);
}

/* Defaults that depend on other fields; runs before the table's. */
static void apply_dependent(KubeletConfig *config)
{
        config->kube_api_qps_set = given(config, "kubeAPIQPS");
        config->event_record_qps_set = given(config, "eventRecordQPS");
        config->single_process_oom_kill_set = given(config, "singleProcessOOMKill");
        /* An explicit update frequency is also the report frequency, unless that is given. */
        if (set_to_something(config, "nodeStatusUpdateFrequency") &&
            !set_to_something(config, "nodeStatusReportFrequency")) {
                config->node_status_report_frequency_us = config->node_status_update_frequency_us;
                config->state->given[config_field_find("nodeStatusReportFrequency")] = true;
        }
        if (!given(config, "serializeImagePulls") && config->max_parallel_image_pulls > 1) {
                config->serialize_image_pulls = false;
                config->state->given[config_field_find("serializeImagePulls")] = true;
        }
}

/* Hard eviction has defaults only as a whole, or key by key where the document asks for it. */
static int default_eviction(KubeletConfig *config, KlError **err)
{
        static const ConfigPair defaults[] = {
                { (char *)(uintptr_t) "memory.available", (char *)(uintptr_t) "100Mi" },
                { (char *)(uintptr_t) "nodefs.available", (char *)(uintptr_t) "10%" },
                { (char *)(uintptr_t) "nodefs.inodesFree", (char *)(uintptr_t) "5%" },
                { (char *)(uintptr_t) "imagefs.available", (char *)(uintptr_t) "15%" },
                { (char *)(uintptr_t) "imagefs.inodesFree", (char *)(uintptr_t) "5%" },
        };
        bool any = config->eviction_hard && config->eviction_hard->key;

        if (any && !config->merge_default_eviction_settings)
                return 0;
        for (size_t i = 0; i < ELEMENTS(defaults); i++) {
                KL_AUTOFREE char *text = NULL;

                if (config_pair_get(config->eviction_hard, defaults[i].key))
                        continue;
                text = str_format("%s=%s", defaults[i].key, defaults[i].value);
                if (!text)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                if (config_pairs_parse(config->arena, text, &config->eviction_hard, err) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* "100Mi", "1.5Gi", "200m", "2e3": digits, perhaps a point, a suffix. Its range is its user's. */
static bool looks_like_quantity(const char *text)
{
        static const char *const suffixes[] = { "",  "n", "u",  "m",  "k",  "M",  "G",  "T",
                                                "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
        const char *p = text + (*text == '+');
        size_t whole = strspn(p, "0123456789"), part = 0;

        p += whole;
        if (*p == '.')
                part = strspn(p + 1, "0123456789"), p += 1 + part;
        if (whole + part == 0)
                return false;
        if ((*p == 'e' || *p == 'E') && p[1])
                return strspn(p + 1 + (p[1] == '-' || p[1] == '+'), "0123456789") > 0;
        for (size_t i = 0; i < ELEMENTS(suffixes); i++)
                if (str_eq(p, suffixes[i]))
                        return true;
        return false;
}

static bool looks_like_percentage(const char *text)
{
        size_t n = strspn(text, "0123456789.");

        return n > 0 && str_eq(text + n, "%");
}

static int check_reserved(const char *path, const ConfigPair *pairs, KlError **err)
{
        static const char *const known[] = { "cpu", "memory", "ephemeral-storage", "pid" };

        for (; pairs && pairs->key; pairs++) {
                bool found = false;

                for (size_t i = 0; i < ELEMENTS(known); i++)
                        found = found || str_eq(known[i], pairs->key);
                if (!found)
                        return kl_error(err, -EINVAL, NULL,
                                        "%s: cannot reserve '%s', only cpu, memory, "
                                        "ephemeral-storage and pid",
                                        path, pairs->key);
                if (!looks_like_quantity(pairs->value))
                        return kl_error(err, -EINVAL, NULL, "%s.%s: '%s' is no quantity", path,
                                        pairs->key, pairs->value);
        }
        return 0;
}

static int check_thresholds(const char *path, const ConfigPair *pairs, KlError **err)
{
        static const char *const signals[] = {
                "memory.available",      "allocatableMemory.available", "nodefs.available",
                "nodefs.inodesFree",     "imagefs.available",           "imagefs.inodesFree",
                "containerfs.available", "containerfs.inodesFree",      "pid.available",
        };

        for (; pairs && pairs->key; pairs++) {
                bool found = false;

                for (size_t i = 0; i < ELEMENTS(signals); i++)
                        found = found || str_eq(signals[i], pairs->key);
                if (!found)
                        return kl_error(err, -EINVAL, NULL, "%s: unknown signal '%s'", path,
                                        pairs->key);
                if (!looks_like_quantity(pairs->value) && !looks_like_percentage(pairs->value))
                        return kl_error(err, -EINVAL, NULL,
                                        "%s.%s: '%s' is neither a quantity nor a percentage", path,
                                        pairs->key, pairs->value);
        }
        return 0;
}

static bool is_address(const char *text)
{
        unsigned char raw[16];

        return inet_pton(AF_INET, text, raw) == 1 || inet_pton(AF_INET6, text, raw) == 1;
}

static int check_addresses(const KubeletConfig *config, KlError **err)
{
        if (!is_address(config->address))
                return kl_error(err, -EINVAL, NULL, "address: '%s' is no IP address",
                                config->address);
        if (!is_address(config->healthz_bind_address))
                return kl_error(err, -EINVAL, NULL, "healthzBindAddress: '%s' is no IP address",
                                config->healthz_bind_address);
        for (char **dns = config->cluster_dns; dns && *dns; dns++)
                if (!is_address(*dns))
                        return kl_error(err, -EINVAL, NULL,
                                        "clusterDNS[%td]: '%s' is no IP address",
                                        dns - config->cluster_dns, *dns);
        return 0;
}

static int check_allocatable(const KubeletConfig *config, KlError **err)
{
        char *const *levels = config->enforce_node_allocatable;

        if (strv_contains(levels, "none") && strv_len(levels) > 1)
                return kl_error(err, -EINVAL, NULL,
                                "enforceNodeAllocatable: 'none' does not go with others");
        if (strv_contains(levels, "system-reserved") && str_empty(config->system_reserved_cgroup))
                return kl_error(err, -EINVAL, NULL,
                                "enforceNodeAllocatable: 'system-reserved' "
                                "needs systemReservedCgroup");
        if (strv_contains(levels, "kube-reserved") && str_empty(config->kube_reserved_cgroup))
                return kl_error(err, -EINVAL, NULL,
                                "enforceNodeAllocatable: 'kube-reserved' needs "
                                "kubeReservedCgroup");
        return 0;
}

/* Upstream's pkg/kubelet/sysctl: what is not a pod's own is not for pods. */
static int check_sysctls(const KubeletConfig *config, KlError **err)
{
        for (char **p = config->allowed_unsafe_sysctls; p && *p; p++) {
                KL_AUTOFREE char *dotted = strdup(*p);

                if (!dotted)
                        return kl_error_oom(err);
                if (!sysctl_pattern_is_valid(*p))
                        return kl_error(err, -EINVAL, NULL,
                                        "allowedUnsafeSysctls[%td]: '%s' is no name of a sysctl",
                                        p - config->allowed_unsafe_sysctls, *p);
                sysctl_name_to_dots(dotted);
                if (!sysctl_namespace(dotted))
                        return kl_error(err, -EINVAL, NULL,
                                        "allowedUnsafeSysctls[%td]: '%s' is not known to be "
                                        "namespaced",
                                        p - config->allowed_unsafe_sysctls, *p);
        }
        return 0;
}

static int check_user_namespaces(const KubeletConfig *config, KlError **err)
{
        if (config->user_namespace_ids_per_pod % 65536)
                return kl_error(err, -EINVAL, NULL,
                                "userNamespaces.idsPerPod: %lld is not a multiple of 65536",
                                (long long)config->user_namespace_ids_per_pod);
        return 0;
}

static int check_images(const KubeletConfig *config, KlError **err)
{
        if (config->image_gc_low_threshold_percent >= config->image_gc_high_threshold_percent)
                return kl_error(err, -EINVAL, NULL,
                                "imageGCLowThresholdPercent: %lld is not less "
                                "than imageGCHighThresholdPercent, %lld",
                                (long long)config->image_gc_low_threshold_percent,
                                (long long)config->image_gc_high_threshold_percent);
        if (config->serialize_image_pulls && config->max_parallel_image_pulls > 1)
                return kl_error(err, -EINVAL, NULL,
                                "maxParallelImagePulls: %lld does not go with "
                                "serializeImagePulls",
                                (long long)config->max_parallel_image_pulls);
        /* A negative one turns rotation off. */
        if (!looks_like_quantity(config->container_log_max_size +
                                 (config->container_log_max_size[0] == '-')))
                return kl_error(err, -EINVAL, NULL, "containerLogMaxSize: '%s' is no quantity",
                                config->container_log_max_size);
        return 0;
}

static int check_shutdown(const KubeletConfig *config, KlError **err)
{
        if (config->shutdown_grace_period_critical_pods_us > config->shutdown_grace_period_us)
                return kl_error(err, -EINVAL, NULL,
                                "shutdownGracePeriodCriticalPods: more than "
                                "shutdownGracePeriod");
        if (str_empty(config->tls_cert_file) != str_empty(config->tls_private_key_file))
                return kl_error(err, -EINVAL, NULL,
                                "tlsCertFile and tlsPrivateKeyFile go together");
        return 0;
}

static int check(KubeletConfig *config, KlError **err)
{
        int r = check_addresses(config, err);

        if (r >= 0)
                r = check_reserved("systemReserved", config->system_reserved, err);
        if (r >= 0)
                r = check_reserved("kubeReserved", config->kube_reserved, err);
        if (r >= 0)
                r = check_thresholds("evictionHard", config->eviction_hard, err);
        if (r >= 0)
                r = check_thresholds("evictionSoft", config->eviction_soft, err);
        if (r >= 0)
                r = check_allocatable(config, err);
        if (r >= 0)
                r = check_images(config, err);
        if (r >= 0)
                r = check_shutdown(config, err);
        if (r >= 0)
                r = check_user_namespaces(config, err);
        if (r >= 0)
                r = check_sysctls(config, err);
        return r;
}

int kubelet_config_finish(KubeletConfig *config, KlError **err)
{
        int r;

        apply_dependent(config);
        r = apply_fallbacks(config, err);
        if (r >= 0)
                r = default_eviction(config, err);
        if (r < 0)
                return r;
        if (config->pod_pids_limit < 0)
                config->pod_pids_limit = -1;
        for (ConfigPair *gate = config->feature_gates; gate && gate->key; gate++)
                if (!config_gate_known(gate->key) &&
                    config_warn(config, "Unknown feature gate '%s', ignoring", gate->key) < 0)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
        return check(config, err);
}
