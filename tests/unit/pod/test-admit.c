/* SPDX-License-Identifier: Apache-2.0 */

/* Admission, in upstream's words. */

#include "../unit.h"
#include "base/str.h"
#include "pod-literal.h"
#include "pod/admit.h"

static void check(const char *spec, const char *reason, const char *message)
{
        KL_AUTOFREE char *yaml = str_format(POD_HEAD "spec:\n%s", spec);
        KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);
        KL_AUTO(pod_free) Pod *other = pod_literal(
                "metadata: {name: o}\nspec:\n  containers:\n  - {name: c, image: x, resources: "
                "{requests: {cpu: 200m}}, ports: [{containerPort: 1, hostPort: 8080}]}\n");
        const Pod *others[] = { other };
        KeyValue label = { (char *)"zone", (char *)"a" };
        char *unsafe[] = { (char *)"kernel.shm*", NULL };
        PodContext context = { .facts = { .allocatable_cpu_milli = 2000,
                                          .allocatable_memory = 1 << 30 },
                               .capacity_pods = 110,
                               .node_labels = { &label, 1 },
                               .allowed_unsafe_sysctls = unsafe };
        KL_AUTOFREE char *text = NULL;
        const char *got = NULL;
        int r = pod_admit(&context, pod, others, 1, &got, &text);

        if (!reason) {
                assert_int_equal(r, 0);
                return;
        }
        assert_int_equal(r, 1);
        assert_string_equal(got, reason);
        assert_string_equal(text, message);
}

#define C "  containers: [{name: c, image: x}]\n"

static void test_cases(void **state)
{
        check(C, NULL, NULL);
        check(C "  nodeSelector: {zone: a}\n", NULL, NULL);
        check(C "  nodeSelector: {zone: b}\n", "NodeAffinity",
              "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector");
        check("  containers: [{name: c, image: x, resources: {requests: {cpu: 64}}}]\n", "OutOfcpu",
              "Node didn't have enough resource: cpu, requested: 64000, used: 200, capacity: 2000");
        check("  containers: [{name: c, image: x, resources: {requests: {memory: 2Gi}}}]\n",
              "OutOfmemory",
              "Node didn't have enough resource: memory, requested: 2147483648, used: 0, "
              "capacity: 1073741824");
        check("  containers: [{name: c, image: x, ports: [{containerPort: 2, hostPort: 8080}]}]\n",
              "NodePorts",
              "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod "
              "ports");
        check(C "  securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}\n",
              "SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted");
        check(C "  securityContext: {sysctls: [{name: kernel.shmmax, value: '1'}]}\n", NULL, NULL);
        check(C "  hostIPC: true\n"
                "  securityContext: {sysctls: [{name: kernel.shmmax, value: '1'}]}\n",
              "SysctlForbidden",
              "forbidden sysctl: \"kernel.shmmax\" not allowed with host ipc namespace enabled");
        check(C "  securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '1'}]}\n",
              NULL, NULL);
        check(C "  os: {name: windows}\n", "PodOSNotSupported",
              "Failed to admit pod as the OS field doesn't match node OS (linux): windows");
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_cases) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
