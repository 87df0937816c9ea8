/* SPDX-License-Identifier: Apache-2.0 */

/* Node admission: pkg/kubelet/lifecycle/predicate.go, pkg/kubelet/sysctl. Static pods skip the
 * selector: they were placed here by hand. */

#include "pod/admit.h"

#include "base/str.h"

static int refuse(const char **ret_reason, char **ret_message, const char *reason, char *message)
{
        *ret_reason = reason;
        *ret_message = message;
        return 1;
}

/* pkg/kubelet/sysctl/safe_sysctls.go */
static bool sysctl_is_safe(const char *name)
{
        static const char *const safe[] = {
                "kernel.shm_rmid_forced",
                "net.ipv4.ip_local_port_range",
                "net.ipv4.tcp_syncookies",
                "net.ipv4.ping_group_range",
                "net.ipv4.ip_unprivileged_port_start",
                "net.ipv4.ip_local_reserved_ports",
                "net.ipv4.tcp_keepalive_time",
                "net.ipv4.tcp_keepalive_intvl",
                "net.ipv4.tcp_keepalive_probes",
                "net.ipv4.tcp_fin_timeout",
                "net.ipv4.tcp_rmem",
                "net.ipv4.tcp_wmem",
        };

        for (size_t i = 0; i < ELEMENTS(safe); i++)
                if (strcmp(name, safe[i]) == 0)
                        return true;
        return false;
}

/* "kernel.msg*" matches by prefix, others whole. */
static bool sysctl_is_allowed(char *const *patterns, const char *name)
{
        for (; patterns && *patterns; patterns++) {
                size_t n = strlen(*patterns);

                if (n && (*patterns)[n - 1] == '*' ? strncmp(*patterns, name, n - 1) == 0
                                                   : strcmp(*patterns, name) == 0)
                        return true;
        }
        return false;
}

static const char *sysctl_namespace_conflict(const Pod *pod, const char *name)
{
        bool ipc = str_starts(name, "kernel.shm") || str_starts(name, "kernel.msg") ||
                   str_starts(name, "kernel.sem") || str_starts(name, "fs.mqueue.");

        if (ipc && pod->host_ipc)
                return "ipc namespace";
        return str_starts(name, "net.") && pod->host_network ? "net namespace" : NULL;
}

static int admit_sysctls(const PodContext *context, const Pod *pod, const char **ret_reason,
                         char **ret_message)
{
        const KeyValues *list = &pod->security.sysctls;

        for (size_t i = 0; i < list->n; i++) {
                KL_AUTOFREE char *name = strdup(list->items[i].key);
                const char *conflict;

                for (char *p = name; p && *p; p++)
                        if (*p == '/')
                                *p = '.';
                if (!name || (!sysctl_is_safe(name) &&
                              !sysctl_is_allowed(context->allowed_unsafe_sysctls, name)))
                        return refuse(ret_reason, ret_message, "SysctlForbidden",
                                      str_format("forbidden sysctl: \"%s\" not allowlisted",
                                                 list->items[i].key));
                conflict = sysctl_namespace_conflict(pod, name);
                if (conflict)
                        return refuse(ret_reason, ret_message, "SysctlForbidden",
                                      str_format("forbidden sysctl: \"%s\" not allowed with host "
                                                 "%s enabled",
                                                 list->items[i].key, conflict));
        }
        return 0;
}

static int admit_selector(const PodContext *context, const Pod *pod, const char **ret_reason,
                          char **ret_message)
{
        for (size_t i = 0; !pod->is_static && i < pod->node_selector.n; i++) {
                const KeyValue *want = &pod->node_selector.items[i];

                if (str_eq(key_values_get(&context->node_labels, want->key), want->value))
                        continue;
                return refuse(ret_reason, ret_message, "NodeAffinity",
                              strdup("Predicate NodeAffinity failed: node(s) didn't match Pod's "
                                     "node affinity/selector"));
        }
        return 0;
}

static bool is_over(const Pod *pod)
{
        return str_eq(pod->seen_phase, "Succeeded") || str_eq(pod->seen_phase, "Failed");
}

typedef int64_t (*ResourceRead)(const KeyValues *list, const char *name);

static int64_t requested(const Pod *pod, const char *name, ResourceRead read)
{
        int64_t sum = 0, peak = 0, overhead = read(&pod->overhead, name);

        for (size_t i = 0; i < pod->n_init + pod->n_main; i++) {
                const Container *c = &pod->containers[i];
                int64_t value = read(&c->resources.requests, name);

                if (value < 0)
                        continue;
                if (c->kind == CONTAINER_INIT && !c->sidecar)
                        peak = value > peak ? value : peak;
                else
                        sum += value;
        }
        return (peak > sum ? peak : sum) + (overhead > 0 ? overhead : 0);
}

static int admit_resource(const Pod *pod, const Pod *const *others, size_t n_others,
                          const char *name, ResourceRead read, int64_t capacity, const char *reason,
                          const char **ret_reason, char **ret_message)
{
        int64_t want = requested(pod, name, read), used = 0;

        if (want == 0 || capacity <= 0)
                return 0;
        for (size_t i = 0; i < n_others; i++)
                if (!is_over(others[i]))
                        used += requested(others[i], name, read);
        if (want + used <= capacity)
                return 0;
        return refuse(ret_reason, ret_message, reason,
                      str_format("Node didn't have enough resource: %s, requested: %lld, used: "
                                 "%lld, capacity: %lld",
                                 name, (long long)want, (long long)used, (long long)capacity));
}

static int admit_resources(const PodContext *context, const Pod *pod, const Pod *const *others,
                           size_t n_others, const char **ret_reason, char **ret_message)
{
        size_t active = 0;

        for (size_t i = 0; i < n_others; i++)
                active += !is_over(others[i]);
        if (context->capacity_pods > 0 && active + 1 > (size_t)context->capacity_pods)
                return refuse(ret_reason, ret_message, "OutOfpods",
                              str_format("Node didn't have enough resource: pods, requested: 1, "
                                         "used: %zu, capacity: %lld",
                                         active, (long long)context->capacity_pods));
        if (admit_resource(pod, others, n_others, "cpu", resource_milli,
                           context->facts.allocatable_cpu_milli, "OutOfcpu", ret_reason,
                           ret_message))
                return 1;
        return admit_resource(pod, others, n_others, "memory", resource_value,
                              context->facts.allocatable_memory, "OutOfmemory", ret_reason,
                              ret_message);
}

static bool ports_conflict(const ContainerPort *a, const ContainerPort *b)
{
        bool any = str_empty(a->host_ip) || str_empty(b->host_ip) ||
                   str_eq(a->host_ip, "0.0.0.0") || str_eq(b->host_ip, "0.0.0.0");

        return a->host_port && a->host_port == b->host_port && str_eq(a->protocol, b->protocol) &&
               (any || str_eq(a->host_ip, b->host_ip));
}

static bool pods_share_port(const Pod *a, const Pod *b)
{
        for (size_t i = 0; i < a->n_containers; i++)
                for (size_t p = 0; p < a->containers[i].n_ports; p++)
                        for (size_t k = 0; k < b->n_containers; k++)
                                for (size_t q = 0; q < b->containers[k].n_ports; q++)
                                        if (ports_conflict(&a->containers[i].ports[p],
                                                           &b->containers[k].ports[q]))
                                                return true;
        return false;
}

int pod_admit(const PodContext *context, const Pod *pod, const Pod *const *others, size_t n_others,
              const char **ret_reason, char **ret_message)
{
        if (!str_empty(pod->os_name) && !str_eq(pod->os_name, "linux"))
                return refuse(ret_reason, ret_message, "PodOSNotSupported",
                              str_format("Failed to admit pod as the OS field doesn't match node "
                                         "OS (linux): %s",
                                         pod->os_name));
        if (admit_sysctls(context, pod, ret_reason, ret_message) ||
            admit_selector(context, pod, ret_reason, ret_message))
                return 1;
        for (size_t i = 0; i < n_others; i++)
                if (!is_over(others[i]) && pods_share_port(pod, others[i]))
                        return refuse(ret_reason, ret_message, "NodePorts",
                                      strdup("Predicate NodePorts failed: node(s) didn't have free "
                                             "ports for the requested pod ports"));
        return admit_resources(context, pod, others, n_others, ret_reason, ret_message);
}
