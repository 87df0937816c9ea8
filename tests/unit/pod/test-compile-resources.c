/* SPDX-License-Identifier: Apache-2.0 */

/* Requests and limits as values of control groups, and as the order of the out-of-memory killer. */

#include "../unit.h"
#include "base/str.h"
#include "pod-literal.h"
#include "pod/compile.h"

#define GIB (1LL << 30)
#define MIB (1LL << 20)

static PodContext node_context(void)
{
        return (PodContext){
                .capacity_memory = 8 * GIB,
                .capacity_swap = 4 * GIB,
                .cpu_cfs_quota = true,
                .cpu_cfs_period_us = 100000,
                .pod_pids_limit = 1000,
                .hugepage_sizes = { 2 * MIB, GIB },
                .n_hugepage_sizes = 2,
        };
}

static Pod *pod_with(const char *spec)
{
        KL_AUTOFREE char *yaml = str_format(POD_HEAD "spec: {%s}\n", spec);

        return pod_literal(yaml);
}

#define ONE(resources) "containers: [{name: a, image: x, resources: {" resources "}}]"

typedef struct Case {
        const char *spec;
        uint64_t shares;
        int64_t quota, memory;         /* of the first container */
        uint64_t pod_shares;           /* and of the pod */
        int64_t pod_quota, pod_memory; /* 0: none */
} Case;

static const Case cases[] = {
        { ONE(""), 2, 0, 0, 2, 0, 0 },
        { ONE("requests: {cpu: 100m}"), 102, 0, 0, 102, 0, 0 },
        { ONE("requests: {cpu: 1m}"), 2, 0, 0, 2, 0, 0 },
        { ONE("limits: {cpu: 500m, memory: 64Mi}"), 512, 50000, 64 * MIB, 512, 50000, 64 * MIB },
        { ONE("limits: {cpu: 5m}"), 5, 1000, 0, 5, 1000, 0 },
        { ONE("requests: {cpu: 1k}"), 262144, 0, 0, 262144, 0, 0 },
        /* One unlimited container makes the pod unlimited. */
        { "containers: [{name: a, image: x, resources: {limits: {cpu: 1, memory: 1Gi}}}, "
          "{name: b, image: x}]",
          1024, 100000, GIB, 1024, 0, 0 },
        { "containers: [{name: a, image: x, resources: {limits: {cpu: 1, memory: 1Gi}}}], "
          "initContainers: [{name: b, image: x}]",
          1024, 100000, GIB, 1024, 0, 0 },
        /* The pod's own limits bind all, and those that have none may use them all. */
        { "resources: {limits: {cpu: 2, memory: 2Gi}}, containers: [{name: a, image: x}, {name: b, "
          "image: x}]",
          2, 200000, 2 * GIB, 2048, 200000, 2 * GIB },
        { "resources: {requests: {cpu: 1500m}, limits: {cpu: 2}}, containers: [{name: a, image: x, "
          "resources: {limits: {cpu: 1, memory: 1Gi}}}, {name: b, image: x}]",
          1024, 100000, GIB, 1536, 200000, 0 },
        /* Overhead is the pod's. */
        { "overhead: {cpu: 250m, memory: 100Mi}, " ONE("limits: {cpu: 1, memory: 1Gi}"), 1024,
          100000, GIB, 1280, 125000, GIB + 100 * MIB },
};

static void test_values(void **state)
{
        PodContext context = node_context();

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const Case *c = &cases[i];
                KL_AUTO(pod_free) Pod *pod = pod_with(c->spec);
                const Container *a = pod_container(pod, "a");
                Resources of_pod = compile_pod_resources(&context, pod);
                Resources own = compile_container_resources(&context, pod, a);

                if (own.cpu_shares != c->shares || own.cpu_quota_us != c->quota ||
                    own.memory_bytes != c->memory || of_pod.cpu_shares != c->pod_shares ||
                    of_pod.cpu_quota_us != c->pod_quota || of_pod.memory_bytes != c->pod_memory)
                        fail_msg("%s: %lld %lld %lld, pod %lld %lld %lld", c->spec,
                                 (long long)own.cpu_shares, (long long)own.cpu_quota_us,
                                 (long long)own.memory_bytes, (long long)of_pod.cpu_shares,
                                 (long long)of_pod.cpu_quota_us, (long long)of_pod.memory_bytes);
                assert_true(of_pod.linear_weight);
                assert_false(own.linear_weight);
                assert_int_equal(of_pod.pids, 1000);
                assert_int_equal(own.pids, 0);
        }
}

static void test_quota_by_configuration(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_with(ONE("limits: {cpu: 500m}"));
        PodContext context = node_context();
        Resources r;

        context.cpu_cfs_period_us = 10000;
        r = compile_container_resources(&context, pod, &pod->containers[0]);
        assert_int_equal(r.cpu_quota_us, 5000);
        assert_int_equal(r.cpu_period_us, 10000);
        context.cpu_cfs_quota = false;
        assert_int_equal(
                compile_container_resources(&context, pod, &pod->containers[0]).cpu_quota_us, 0);
        assert_int_equal(compile_pod_resources(&context, pod).cpu_quota_us, 0);
}

static int64_t swap_of(const PodContext *context, const char *spec)
{
        KL_AUTO(pod_free) Pod *pod = pod_with(spec);

        return compile_container_resources(context, pod, &pod->containers[0]).swap_bytes;
}

static void test_swap(void **state)
{
        PodContext context = node_context();

        assert_int_equal(swap_of(&context, ONE("requests: {memory: 2Gi}")), 0);
        context.limited_swap = true;
        assert_int_equal(swap_of(&context, ONE("requests: {memory: 2Gi}")), GIB);
        assert_int_equal(swap_of(&context, ONE("requests: {memory: 1Gi}, limits: {memory: 2Gi}")),
                         GIB / 2);
        /* Best effort, guaranteed, all of the limit requested, nothing requested, critical. */
        assert_int_equal(swap_of(&context, ONE("")), 0);
        assert_int_equal(swap_of(&context, ONE("limits: {cpu: 1, memory: 1Gi}")), 0);
        assert_int_equal(swap_of(&context, ONE("limits: {memory: 1Gi}")), 0);
        assert_int_equal(swap_of(&context, ONE("requests: {cpu: 1}")), 0);
        assert_int_equal(swap_of(&context, "priority: 2000000000, " ONE("requests: {memory: 2Gi}")),
                         0);
}

static void test_huge_pages(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_with(
                "containers: [{name: a, image: x, resources: {limits: {hugepages-2Mi: 64Mi}}}, "
                "{name: b, image: x, resources: {limits: {hugepages-2Mi: 32Mi}}}]");
        PodContext context = node_context();
        Resources a = compile_container_resources(&context, pod, &pod->containers[0]);
        Resources all = compile_pod_resources(&context, pod);

        assert_int_equal(a.n_hugepages, 2);
        assert_int_equal(a.hugepages[0].page_bytes, 2 * MIB);
        assert_int_equal(a.hugepages[0].limit_bytes, 64 * MIB);
        assert_int_equal(a.hugepages[1].limit_bytes, 0);
        assert_int_equal(all.hugepages[0].limit_bytes, 96 * MIB);
        assert_int_equal(all.hugepages[1].limit_bytes, 0);
}

static void test_burstable_group(void **state)
{
        KL_AUTO(pod_free) Pod *a = pod_with(ONE("requests: {cpu: 500m}"));
        KL_AUTO(pod_free) Pod *b = pod_with(ONE("requests: {cpu: 250m}, limits: {cpu: 1}"));
        KL_AUTO(pod_free) Pod *guaranteed = pod_with(ONE("limits: {cpu: 1, memory: 1Gi}"));
        const Pod *pods[] = { a, b, guaranteed };

        assert_int_equal(compile_burstable_resources(pods, 3).cpu_shares, 768);
        assert_int_equal(compile_burstable_resources(pods, 0).cpu_shares, 2);
}

static void test_oom_score(void **state)
{
        static const struct {
                const char *spec;
                int adj;
        } scores[] = {
                { ONE(""), 1000 },
                { ONE("limits: {cpu: 1, memory: 1Gi}"), -997 },
                { ONE("requests: {cpu: 1}"), 999 },
                { ONE("requests: {memory: 2Gi}"), 750 },
                { ONE("requests: {memory: 1}"), 999 },
                { ONE("requests: {memory: 8Gi}"), 3 },
                { ONE("requests: {memory: 80Ti}"), 3 },
                { "priority: 2000001000, priorityClassName: system-node-critical, " ONE(""), -997 },
                { "priority: 2000000000, priorityClassName: system-cluster-critical, " ONE(""),
                  1000 },
                /* What the pod requests beyond its containers is shared by them. */
                { "resources: {requests: {memory: 4Gi}, limits: {memory: 5Gi}}, containers: "
                  "[{name: a, image: x}, {name: b, image: x, resources: {requests: {memory: "
                  "2Gi}}}]",
                  875 },
                /* A sidecar goes after the containers that it serves. */
                { "initContainers: [{name: s, image: x, restartPolicy: Always, resources: "
                  "{requests: {memory: 1Gi}}}], containers: [{name: a, image: x, resources: "
                  "{requests: {memory: 2Gi}}}]",
                  750 },
        };
        PodContext context = node_context();

        for (size_t i = 0; i < ELEMENTS(scores); i++) {
                KL_AUTO(pod_free) Pod *pod = pod_with(scores[i].spec);
                int adj = compile_oom_score_adj(&context, pod, &pod->containers[0]);

                if (adj != scores[i].adj)
                        fail_msg("%s: %d, not %d", scores[i].spec, adj, scores[i].adj);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_quota_by_configuration),
                cmocka_unit_test(test_swap),
                cmocka_unit_test(test_huge_pages),
                cmocka_unit_test(test_burstable_group),
                cmocka_unit_test(test_oom_score),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
