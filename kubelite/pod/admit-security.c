/* SPDX-License-Identifier: Apache-2.0 */

/* Upstream's pkg/kubelet/sysctl and pkg/security/apparmor. */

#include "pod/admit-security.h"

#include "base/str.h"
#include "codec/sysctl-names.h"

static int refuse(const char **ret_reason, char **ret_message, const char *reason, char *message)
{
        *ret_reason = reason;
        *ret_message = message;
        return 1;
}

/* --- sysctls --- */

/* Those that a pod keeps to itself; every kernel that this runs on has them (the last came with
 * 4.15). */
static bool is_safe(const char *name)
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
                if (str_eq(name, safe[i]))
                        return true;
        return false;
}

/* "kernel.msg*" matches by prefix, others whole. */
static bool matches(const char *pattern, const char *name)
{
        size_t n = strlen(pattern);
        char dotted[SYSCTL_NAME_MAX + 1];

        if (n == 0 || n >= sizeof(dotted))
                return false;
        memcpy(dotted, pattern, n + 1);
        sysctl_name_to_dots(dotted);
        return dotted[n - 1] == '*' ? strncmp(dotted, name, n - 1) == 0 : str_eq(dotted, name);
}

static bool is_allowed(char *const *patterns, const char *name)
{
        for (; patterns && *patterns; patterns++)
                if (matches(*patterns, name))
                        return true;
        return false;
}

static int admit_sysctl(const PodContext *context, const Pod *pod, const char *key,
                        const char **ret_reason, char **ret_message)
{
        KL_AUTOFREE char *name = strdup(key);
        const char *ns;

        if (name)
                sysctl_name_to_dots(name);
        if (!name || (!is_safe(name) && !is_allowed(context->allowed_unsafe_sysctls, name)))
                return refuse(
                        ret_reason, ret_message, "SysctlForbidden",
                        str_format("forbidden sysctl: \"%s\" not allowlisted", name ? name : key));
        ns = sysctl_namespace(name);
        if ((str_eq(ns, "ipc") && pod->host_ipc) || (str_eq(ns, "net") && pod->host_network))
                return refuse(
                        ret_reason, ret_message, "SysctlForbidden",
                        str_format("forbidden sysctl: \"%s\" not allowed with host %s enabled",
                                   name, ns));
        return 0;
}

int admit_sysctls(const PodContext *context, const Pod *pod, const char **ret_reason,
                  char **ret_message)
{
        for (size_t i = 0; i < pod->security.sysctls.n; i++)
                if (admit_sysctl(context, pod, pod->security.sysctls.items[i].key, ret_reason,
                                 ret_message))
                        return 1;
        return 0;
}

/* --- security modules --- */

static bool wants_apparmor(const Pod *pod)
{
        for (size_t i = 0; i < pod->n_containers; i++) {
                AppArmorProfile profile = pod_apparmor(pod, &pod->containers[i]);

                if (profile.type && !str_eq(profile.type, "Unconfined"))
                        return true;
        }
        return false;
}

static bool wants_selinux(const Pod *pod)
{
        bool wants = pod->security.selinux_given;

        for (size_t i = 0; i < pod->n_containers; i++)
                wants |= pod->containers[i].security.selinux_given;
        return wants;
}

int admit_modules(const PodContext *context, const Pod *pod, const char **ret_reason,
                  char **ret_message)
{
        if (wants_apparmor(pod) && !context->modules.apparmor)
                return refuse(ret_reason, ret_message, "AppArmor",
                              strdup("Cannot enforce AppArmor: AppArmor is not enabled on the "
                                     "host"));
        /* Where the kernel has no SELinux, labels mean nothing, as to upstream's runtimes; where it
         * has, a container must not run without the label that confines it. */
        if (wants_selinux(pod) && context->modules.selinux)
                return refuse(ret_reason, ret_message, "SELinux",
                              strdup("Cannot enforce SELinux: this node sets no labels"));
        return 0;
}
