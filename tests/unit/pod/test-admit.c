/* SPDX-License-Identifier: Apache-2.0 */

/* Admission, in upstream's words. */

#include "../unit.h"
#include "base/str.h"
#include "pod-literal.h"
#include "pod/admit.h"

/* A burstable pod that is here: 200m, port 8080. */
#define OTHER                                                                                      \
        "metadata: {name: o}\nspec:\n  containers:\n  - {name: c, image: x, resources: "           \
        "{requests: {cpu: 200m, ephemeral-storage: 1Gi, example.com/gpu: 1}}, "                    \
        "ports: [{containerPort: 1, hostPort: 8080}]}\n"

static const ResourceAmount amounts[] = {
        { "cpu", 2000 },          { "ephemeral-storage", 2147483648 },
        { "memory", 1073741824 }, { "pods", 10 },
        { "hugepages-2Mi", 0 },   { "example.com/gpu", 2 },
};

typedef struct Case {
        const char *spec; /* below "spec:", or a whole pod that begins with "metadata" */
        const char *reason, *message; /* NULL: taken */
} Case;

static PodContext node_context(void)
{
        static const KeyValue labels[] = { { (char *)"zone", (char *)"a" },
                                           { (char *)"cores", (char *)"8" } };
        static const NodeTaint taints[] = { { "dedicated", "db", "NoSchedule" },
                                            { "sick", "", "NoExecute" } };
        static char *unsafe[] = { (char *)"kernel.shm*", NULL };

        return (PodContext){
                .node_name = "n1",
                .allocatable = amounts,
                .n_allocatable = ELEMENTS(amounts),
                .node_labels = { (KeyValue *)(uintptr_t)labels, ELEMENTS(labels) },
                .node_taints = taints,
                .n_node_taints = 1, /* without the NoExecute one */
                .allowed_unsafe_sysctls = unsafe,
        };
}

static void check(const PodContext *context, const Case *c)
{
        KL_AUTOFREE char *yaml = str_starts(c->spec, "metadata")
                                         ? strdup(c->spec)
                                         : str_format(POD_HEAD "spec:\n%s", c->spec);
        KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);
        KL_AUTO(pod_free) Pod *other = pod_literal(OTHER);
        const Pod *others[] = { other };
        Admission admission;
        int r = pod_admit(context, pod, others, 1, &admission);

        if (c->reason) {
                assert_string_equal(admission.reason, c->reason);
                assert_string_equal(admission.message, c->message);
        } else if (r) {
                fail_msg("%s: %s", admission.reason, admission.message);
        }
        assert_int_equal(r, c->reason ? 1 : 0);
        assert_null(admission.preempted);
        admission_deinit(&admission);
}

#define C "  containers: [{name: c, image: x}]\n"
#define REQUESTS(list) "  containers: [{name: c, image: x, resources: {requests: {" list "}}}]\n"
#define TERMS(list)                                                                                \
        C "  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: "           \
          "{nodeSelectorTerms: [" list "]}}}\n"
#define LABEL(text) TERMS("{matchExpressions: [{" text "}]}")
#define NOT_ENOUGH "Node didn't have enough resource: "
#define NO_AFFINITY                                                                                \
        "NodeAffinity",                                                                            \
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
#define NO_PORTS                                                                                   \
        "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the "         \
                     "requested pod "                                                              \
                     "ports"

static void test_resources(void **state)
{
        const Case cases[] = {
                { C, NULL, NULL },
                { REQUESTS("cpu: 1800m"), NULL, NULL },
                { REQUESTS("cpu: 64"), "OutOfcpu",
                  NOT_ENOUGH "cpu, requested: 64000, used: 200, capacity: 2000" },
                { REQUESTS("memory: 2Gi"), "OutOfmemory",
                  NOT_ENOUGH "memory, requested: 2147483648, used: 0, capacity: 1073741824" },
                { REQUESTS("ephemeral-storage: 1.5Gi"), "OutOfephemeral-storage",
                  NOT_ENOUGH "ephemeral-storage, requested: 1610612736, used: 1073741824, "
                             "capacity: 2147483648" },
                { REQUESTS("hugepages-2Mi: 4Mi"), "OutOfhugepages-2Mi",
                  NOT_ENOUGH "hugepages-2Mi, requested: 4194304, used: 0, capacity: 0" },
                { REQUESTS("hugepages-1Gi: 1Gi"), "OutOfhugepages-1Gi",
                  NOT_ENOUGH "hugepages-1Gi, requested: 1073741824, used: 0, capacity: 0" },
                { REQUESTS("example.com/gpu: 1"), NULL, NULL },
                { REQUESTS("example.com/gpu: 2"), "OutOfexample.com/gpu",
                  NOT_ENOUGH "example.com/gpu, requested: 2, used: 1, capacity: 2" },
                /* Unknown to the node: of the cluster. */
                { REQUESTS("example.com/dongle: 7"), NULL, NULL },
                /* The first of several is told, and resources come first. */
                { REQUESTS("cpu: 3, memory: 2Gi") "  nodeSelector: {zone: b}\n", "OutOfcpu",
                  NOT_ENOUGH "cpu, requested: 3000, used: 200, capacity: 2000" },
        };
        PodContext context = node_context();

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                check(&context, &cases[i]);
}

static void test_number_of_pods(void **state)
{
        const Case full = { C, "OutOfpods", NOT_ENOUGH "pods, requested: 1, used: 1, capacity: 1" };
        const ResourceAmount one[] = { { "pods", 1 } };
        PodContext context = node_context();

        context.allocatable = one;
        context.n_allocatable = 1;
        check(&context, &full);
}

static void test_node(void **state)
{
        const Case cases[] = {
                { C "  nodeSelector: {zone: a}\n", NULL, NULL },
                { C "  nodeSelector: {zone: b}\n", NO_AFFINITY },
                { LABEL("key: zone, operator: In, values: [b, a]"), NULL, NULL },
                { LABEL("key: zone, operator: In, values: [b]"), NO_AFFINITY },
                { LABEL("key: zone, operator: NotIn, values: [b]"), NULL, NULL },
                { LABEL("key: none, operator: NotIn, values: [b]"), NULL, NULL },
                { LABEL("key: zone, operator: NotIn, values: [a]"), NO_AFFINITY },
                { LABEL("key: zone, operator: Exists"), NULL, NULL },
                { LABEL("key: none, operator: Exists"), NO_AFFINITY },
                { LABEL("key: none, operator: DoesNotExist"), NULL, NULL },
                { LABEL("key: zone, operator: DoesNotExist"), NO_AFFINITY },
                { LABEL("key: cores, operator: Gt, values: ['4']"), NULL, NULL },
                { LABEL("key: cores, operator: Gt, values: ['8']"), NO_AFFINITY },
                { LABEL("key: cores, operator: Lt, values: ['9']"), NULL, NULL },
                { LABEL("key: zone, operator: Lt, values: ['9']"), NO_AFFINITY },
                { LABEL("key: none, operator: Lt, values: ['9']"), NO_AFFINITY },
                { TERMS("{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}"), NULL,
                  NULL },
                { TERMS("{matchFields: [{key: metadata.name, operator: NotIn, values: [n1]}]}"),
                  NO_AFFINITY },
                /* Terms are alternatives, what is in one are conditions; an empty one is none. */
                { TERMS("{matchExpressions: [{key: none, operator: Exists}]}, "
                        "{matchExpressions: [{key: zone, operator: Exists}]}"),
                  NULL, NULL },
                { TERMS("{matchExpressions: [{key: none, operator: Exists}, "
                        "{key: zone, operator: Exists}]}"),
                  NO_AFFINITY },
                { TERMS("{}"), NO_AFFINITY },
                { TERMS(""), NO_AFFINITY },
                { C "  nodeName: n2\n", "NodeName",
                  "Predicate NodeName failed: node(s) didn't match the requested node name" },
                { "  containers: [{name: c, image: x, ports: [{containerPort: 2, hostPort: "
                  "8080}]}]\n",
                  NO_PORTS },
                { "  containers: [{name: c, image: x, ports: [{containerPort: 2, hostPort: 8080, "
                  "protocol: UDP}]}]\n",
                  NULL, NULL },
                { C "  initContainers: [{name: i, image: x, restartPolicy: Always, ports: "
                    "[{containerPort: 2, hostPort: 8080}]}]\n",
                  NO_PORTS },
                { C "  initContainers: [{name: i, image: x, ports: [{containerPort: 2, hostPort: "
                    "8080}]}]\n",
                  NULL, NULL },
                { C "  os: {name: windows}\n", "PodOSNotSupported",
                  "Failed to admit pod as the OS field doesn't match node OS" },
                { C "  volumes: [{name: v, gitRepo: {repository: 'https://a/b'}}]\n",
                  "GitRepoVolumeForbidden",
                  "volume \"v\": this node never mounts gitRepo volumes; clone in an init "
                  "container instead" },
                { "metadata: {name: w, labels: {kubernetes.io/os: windows}}\nspec:\n" C,
                  "PodOSSelectorNodeLabelDoesNotMatch",
                  "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label" },
        };
        PodContext context = node_context();

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                check(&context, &cases[i]);
}

static void test_taints(void **state)
{
        const char *const text =
                "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
        const Case cases[] = {
                /* NoSchedule is the scheduler's. */
                { C, "TaintToleration", text },
                { C "  tolerations: [{operator: Exists}]\n", NULL, NULL },
                { C "  tolerations: [{key: sick, operator: Exists, effect: NoExecute}]\n", NULL,
                  NULL },
                { C "  tolerations: [{key: sick}]\n", NULL, NULL },
                { C "  tolerations: [{key: sick, value: x}]\n", "TaintToleration", text },
                { C "  tolerations: [{key: sick, operator: Exists, effect: NoSchedule}]\n",
                  "TaintToleration", text },
                { C "  tolerations: [{key: other, operator: Exists}]\n", "TaintToleration", text },
        };
        PodContext context = node_context();

        context.n_node_taints = 2;
        for (size_t i = 0; i < ELEMENTS(cases); i++)
                check(&context, &cases[i]);
}

static void test_sysctls(void **state)
{
        const Case cases[] = {
                { C "  securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}\n",
                  "SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted" },
                { C "  securityContext: {sysctls: [{name: kernel.shmmax, value: '1'}]}\n", NULL,
                  NULL },
                { C "  hostIPC: true\n"
                    "  securityContext: {sysctls: [{name: kernel.shmmax, value: '1'}]}\n",
                  "SysctlForbidden",
                  "forbidden sysctl: \"kernel.shmmax\" not allowed with host ipc enabled" },
                { C "  securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: "
                    "'1'}]}\n",
                  NULL, NULL },
        };
        PodContext context = node_context();

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                check(&context, &cases[i]);
}

static void test_pressure(void **state)
{
        const Case memory[] = {
                { C, "Evicted", "The node had condition: [MemoryPressure]. " },
                { REQUESTS("cpu: 1m"), NULL, NULL },
                { C "  tolerations: [{key: node.kubernetes.io/memory-pressure, operator: "
                    "Exists}]\n",
                  NULL, NULL },
                { C "  priority: 2000001000\n", NULL, NULL },
        };
        const Case disk[] = {
                { C, "Evicted", "The node had condition: [MemoryPressure DiskPressure]. " },
                { REQUESTS("cpu: 1m"), "Evicted",
                  "The node had condition: [MemoryPressure DiskPressure]. " },
                { C "  tolerations: [{operator: Exists}]\n", "Evicted",
                  "The node had condition: [MemoryPressure DiskPressure]. " },
        };
        PodContext context = node_context();

        context.pressure[PRESSURE_MEMORY] = true;
        for (size_t i = 0; i < ELEMENTS(memory); i++)
                check(&context, &memory[i]);
        context.pressure[PRESSURE_DISK] = true;
        for (size_t i = 0; i < ELEMENTS(disk); i++)
                check(&context, &disk[i]);
}

/* --- preemption --- */

typedef struct Neighbour {
        const char *name, *resources;
        int priority;
} Neighbour;

#define NEIGHBOURS_MAX 8

/* Names of those that must go for a critical pod that wants these requests; "!" and a message if
 * none would help. */
static void check_preempted(const char *requests, const Neighbour *neighbours, const char *expected)
{
        KL_AUTOFREE char *yaml =
                str_format(POD_HEAD "spec:\n  priority: 2000001000\n  containers: [{name: c, "
                                    "image: x, resources: {requests: {%s}}}]\n",
                           requests);
        KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);
        Pod *others[NEIGHBOURS_MAX] = { 0 };
        PodContext context = node_context();
        char chosen[512] = "";
        Admission admission;
        size_t n = 0;

        for (; neighbours[n].name; n++) {
                KL_AUTOFREE char *text = str_format(
                        "metadata: {name: %s}\nspec:\n  priority: %d\n  containers: "
                        "[{name: c, image: x, resources: {%s}}]\n",
                        neighbours[n].name, neighbours[n].priority, neighbours[n].resources);

                others[n] = pod_literal(text);
        }
        if (pod_admit(&context, pod, (const Pod *const *)others, n, &admission))
                snprintf(chosen, sizeof(chosen), "!%s: %s", admission.reason, admission.message);
        else
                for (size_t i = 0; i < n; i++)
                        if (admission.preempted[i])
                                snprintf(chosen + strlen(chosen), sizeof(chosen) - strlen(chosen),
                                         "%s ", others[i]->name);
        assert_string_equal(chosen, expected);
        admission_deinit(&admission);
        for (size_t i = 0; i < n; i++)
                pod_free(others[i]);
}

static void test_critical_pods_preempt(void **state)
{
        const Neighbour some[] = {
                { "guaranteed", "limits: {cpu: 1, memory: 100Mi}", 0 },
                { "burstable", "requests: {cpu: 900m}", 0 },
                { 0 },
        };
        const Neighbour sizes[] = {
                { "small", "requests: {cpu: 200m}", 0 },
                { "right", "requests: {cpu: 700m}", 0 },
                { "large", "requests: {cpu: 1100m}", 0 },
                { 0 },
        };
        const Neighbour critical[] = {
                { "system", "requests: {cpu: 1500m}", 2000001000 },
                { "user", "requests: {cpu: 400m}", 0 },
                { 0 },
        };

        check_preempted("cpu: 500m", some, "burstable ");
        check_preempted("cpu: 1500m", some, "guaranteed burstable ");
        /* One that is enough, and of these the smallest; more than one only where needed. */
        check_preempted("cpu: 600m", sizes, "right ");
        check_preempted("cpu: 1800m", sizes, "right large ");
        check_preempted("cpu: 400m", critical, "user ");
        check_preempted("cpu: 1", critical,
                        "!UnexpectedAdmissionError: Unexpected error while attempting to recover "
                        "from admission failure: preemption: error finding a set of pods to "
                        "preempt: no set of running pods found to reclaim resources: [(res: cpu, "
                        "q: 500), ]");
}

static void test_critical_pods_need_more_than_resources(void **state)
{
        KL_AUTO(pod_free) Pod *pod =
                pod_literal(POD_HEAD "spec:\n  priority: 2000001000\n  nodeSelector: {zone: b}\n"
                                     "  containers: [{name: c, image: x, resources: {requests: "
                                     "{cpu: 64}}}]\n");
        PodContext context = node_context();
        Admission admission;

        assert_int_equal(pod_admit(&context, pod, NULL, 0, &admission), 1);
        assert_string_equal(admission.reason, "NodeAffinity");
        admission_deinit(&admission);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_resources),
                cmocka_unit_test(test_number_of_pods),
                cmocka_unit_test(test_node),
                cmocka_unit_test(test_taints),
                cmocka_unit_test(test_sysctls),
                cmocka_unit_test(test_pressure),
                cmocka_unit_test(test_critical_pods_preempt),
                cmocka_unit_test(test_critical_pods_need_more_than_resources),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
