/* SPDX-License-Identifier: Apache-2.0 */

/* Which sysctls a pod may set, and what happens to security modules that the kernel has not. */

#include "../unit.h"
#include "base/str.h"
#include "pod-literal.h"
#include "pod/admit-security.h"

#define C "  containers: [{name: c, image: x}]\n"

static char *const patterns[] = { (char *)"kernel.msg*", (char *)"net/core/somaxconn",
                                  (char *)"net.ipv4.conf.*", NULL };

/* NULL: it is taken. To be freed. */
static char *verdict_on(const char *name, const char *more)
{
        KL_AUTOFREE char *yaml =
                str_format(POD_HEAD "spec:\n" C "  securityContext: {sysctls: [{name: %s, value: "
                                    "'1'}]}\n%s",
                           name, more);
        KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);
        PodContext context = { .allowed_unsafe_sysctls = patterns };
        const char *reason = NULL;
        char *message = NULL;

        if (admit_sysctls(&context, pod, &reason, &message))
                assert_string_equal(reason, "SysctlForbidden");
        return message;
}

static void expect(const char *name, const char *more, const char *message)
{
        KL_AUTOFREE char *got = verdict_on(name, more);

        if (!message)
                assert_null(got);
        else
                assert_string_equal(got, message);
}

static void test_safe(void **state)
{
        static const char *const safe[] = {
                "kernel.shm_rmid_forced",
                "net.ipv4.ip_local_port_range",
                "net.ipv4.tcp_syncookies",
                "net.ipv4.ping_group_range",
                "net.ipv4.tcp_keepalive_time",
                "net.ipv4.ip_unprivileged_port_start",
                "net.ipv4.tcp_keepalive_intvl",
                "net.ipv4.ip_local_reserved_ports",
                "net.ipv4.tcp_keepalive_probes",
                "net.ipv4.tcp_fin_timeout",
                "net.ipv4.tcp_rmem",
                "net.ipv4.tcp_wmem",
        };

        for (size_t i = 0; i < ELEMENTS(safe); i++)
                expect(safe[i], "", NULL);
        expect("net/ipv4/tcp_rmem", "", NULL);
        expect("net.ipv4.tcp_rmem2", "",
               "forbidden sysctl: \"net.ipv4.tcp_rmem2\" not allowlisted");
}

static void test_unsafe(void **state)
{
        expect("kernel.msgmax", "", NULL);
        expect("kernel/msgmax", "", NULL);
        expect("net.core.somaxconn", "", NULL);
        expect("net/ipv4/conf/eth0.5/rp_filter", "", NULL);
        expect("kernel.core_pattern", "",
               "forbidden sysctl: \"kernel.core_pattern\" not allowlisted");
        /* Compared as dots, whatever it is written with. */
        expect("kernel/core_pattern", "",
               "forbidden sysctl: \"kernel.core_pattern\" not allowlisted");
        expect("net.core.somaxconn2", "",
               "forbidden sysctl: \"net.core.somaxconn2\" not allowlisted");
}

static void test_hosts_namespaces(void **state)
{
        expect("kernel.shm_rmid_forced", "  hostIPC: true\n",
               "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled");
        expect("kernel.msgmax", "  hostIPC: true\n",
               "forbidden sysctl: \"kernel.msgmax\" not allowed with host ipc enabled");
        expect("net/ipv4/tcp_syncookies", "  hostNetwork: true\n",
               "forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled");
        expect("kernel.shm_rmid_forced", "  hostNetwork: true\n", NULL);
        expect("net.ipv4.tcp_syncookies", "  hostIPC: true\n", NULL);
}

static int judge(const char *spec, SecurityModules modules, const char **reason)
{
        KL_AUTOFREE char *yaml = str_format(POD_HEAD "spec:\n%s", spec);
        KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);
        PodContext context = { .modules = modules };
        KL_AUTOFREE char *message = NULL;

        *reason = NULL;
        return admit_modules(&context, pod, reason, &message);
}

static void test_modules(void **state)
{
        const SecurityModules none = { false, false }, both = { true, true };
        const char *reason;

        assert_int_equal(judge(C, none, &reason), 0);
        assert_int_equal(judge(C "  securityContext: {appArmorProfile: {type: Unconfined}}\n", none,
                               &reason),
                         0);
        assert_int_equal(judge(C "  securityContext: {appArmorProfile: {type: RuntimeDefault}}\n",
                               none, &reason),
                         1);
        assert_string_equal(reason, "AppArmor");
        assert_int_equal(judge("  containers: [{name: c, image: x, securityContext: "
                               "{appArmorProfile: {type: Localhost, localhostProfile: a}}}]\n",
                               none, &reason),
                         1);
        assert_int_equal(judge(C "  securityContext: {appArmorProfile: {type: RuntimeDefault}}\n",
                               both, &reason),
                         0);
        /* As upstream: labels that no kernel looks at are none. */
        assert_int_equal(
                judge(C "  securityContext: {seLinuxOptions: {level: s0}}\n", none, &reason), 0);
        assert_int_equal(
                judge(C "  securityContext: {seLinuxOptions: {level: s0}}\n", both, &reason), 1);
        assert_string_equal(reason, "SELinux");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_safe),
                cmocka_unit_test(test_unsafe),
                cmocka_unit_test(test_hosts_namespaces),
                cmocka_unit_test(test_modules),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
