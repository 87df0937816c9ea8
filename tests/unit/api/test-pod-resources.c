/* SPDX-License-Identifier: Apache-2.0 */

/* What a pod as a whole requests and is limited to, by the formulas of KEP-753 and KEP-2837. */

#include "../pod/pod-literal.h"
#include "../unit.h"
#include "api/pod-resources.h"
#include "base/str.h"

typedef struct Case {
        const char *what, *spec;
        int64_t request, limit, bound; /* of cpu, in thousandths */
} Case;

#define CPU(requests, limits)                                                                      \
        "image: x, resources: {requests: {cpu: " requests "}, limits: {cpu: " limits "}}"
#define REQUEST(value) "image: x, resources: {requests: {cpu: " value "}}"

static const Case cases[] = {
        { "nothing", "{containers: [{name: a, image: x}]}", 0, -1, 0 },
        { "a limit is a request",
          "{containers: [{name: a, image: x, resources: {limits: {cpu: 1}}}]}", 1000, 1000, 1000 },
        { "a sum", "{containers: [{name: a, " CPU("1", "2") "}, {name: b, " CPU("500m", "1") "}]}",
          1500, 3000, 3000 },
        { "a limit is missing",
          "{containers: [{name: a, " CPU("1", "2") "}, {name: b, " REQUEST("500m") "}]}", 1500,
          2000, 0 },
        { "a large init container",
          "{initContainers: [{name: i, " CPU("4", "5") "}], containers: [{name: a, " CPU("1",
                                                                                         "2") "}]}",
          4000, 5000, 5000 },
        { "a small one",
          "{initContainers: [{name: i, " CPU("1", "1") "}], containers: [{name: a, " CPU("1",
                                                                                         "2") "}]}",
          1000, 2000, 2000 },
        { "init containers run one after the other",
          "{initContainers: [{name: i, " REQUEST("2") "}, {name: j, " REQUEST(
                  "3") "}], containers: [{name: a, " REQUEST("1") "}]}",
          3000, -1, 0 },
        { "a sidecar runs with the others",
          "{initContainers: [{name: s, restartPolicy: Always, " REQUEST(
                  "1") "}], containers: [{name: a, " REQUEST("1") "}]}",
          2000, -1, 0 },
        { "beside init containers after it only",
          "{initContainers: [{name: i, " REQUEST(
                  "3") "}, {name: s, restartPolicy: "
                       "Always, " REQUEST("1") "}, {name: "
                                               "j, " REQUEST("2") "}], "
                                                                  "contain"
                                                                  "ers: "
                                                                  "[{name:"
                                                                  " a,"
                                                                  " " REQUEST("500m") "}]}",
          3000, -1, 0 },
        { "which can be the peak",
          "{initContainers: [{name: s, restartPolicy: Always, " REQUEST(
                  "1") "}, {name: j, " REQUEST("5") "}], containers: [{name: "
                                                    "a, " REQUEST("500m") "}]}",
          6000, -1, 0 },
        { "overhead", "{overhead: {cpu: 250m}, containers: [{name: a, " CPU("1", "2") "}]}", 1250,
          2250, 2250 },
        { "overhead limits nothing",
          "{overhead: {cpu: 250m}, containers: [{name: a, " REQUEST("1") "}]}", 1250, -1, 0 },
        { "the pod's own",
          "{resources: {requests: {cpu: 3}, limits: {cpu: 4}}, containers: [{name: "
          "a, " CPU("1", "2") "}, {name: b, image: x}]}",
          3000, 4000, 4000 },
        { "the pod's own limit only",
          "{resources: {limits: {cpu: 4}}, containers: [{name: a, image: x}]}", 4000, 4000, 4000 },
        { "beside requests of containers",
          "{resources: {limits: {cpu: 4}}, containers: [{name: a, " REQUEST("1") "}]}", 1000, 4000,
          4000 },
        { "and overhead",
          "{overhead: {cpu: 1}, resources: {requests: {cpu: 3}, limits: {cpu: 4}}, "
          "containers: "
          "[{name: a, image: x}]}",
          4000, 5000, 5000 },
        { "the pod's memory says nothing of cpu",
          "{resources: {limits: {memory: 1Gi}}, containers: [{name: a, " REQUEST("1") "}]}", 1000,
          -1, 0 },
        { "ephemeral containers have none",
          "{containers: [{name: a, " REQUEST("1") "}], ephemeralContainers: [{name: e, " REQUEST(
                  "9") "}]}",
          1000, -1, 0 },
        { "saturating",
          "{containers: [{name: a, " REQUEST("9007199254740993k") "}, {name: "
                                                                  "b, " REQUEST("90071992"
                                                                                "54740993"
                                                                                "k") "}]"
                                                                                     "}",
          INT64_MAX, -1, 0 },
};

static void test_cpu(void **state)
{
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *yaml = str_format(POD_HEAD "spec: %s\n", cases[i].spec);
                KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);

                if (pod_request(pod, "cpu") != cases[i].request ||
                    pod_limit(pod, "cpu") != cases[i].limit ||
                    pod_limit_bound(pod, "cpu") != cases[i].bound)
                        fail_msg("%s: request %lld, limit %lld, bound %lld", cases[i].what,
                                 (long long)pod_request(pod, "cpu"),
                                 (long long)pod_limit(pod, "cpu"),
                                 (long long)pod_limit_bound(pod, "cpu"));
        }
}

static void test_others_than_cpu(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                POD_HEAD "spec: {resources: {limits: {memory: 1Gi, hugepages-2Mi: 4Mi}}, "
                         "containers: [{name: a, image: x, resources: {requests: "
                         "{ephemeral-storage: 1500m, example.com/gpu: 2}, limits: "
                         "{ephemeral-storage: 2Gi}}}]}\n");

        KL_AUTOFREE const char **names = NULL;
        size_t n = 0;

        assert_int_equal(pod_request(pod, "memory"), 1 << 30);
        assert_int_equal(pod_request(pod, "hugepages-2Mi"), 4 << 20);
        assert_int_equal(pod_request(pod, "ephemeral-storage"), 2); /* rounded up */
        assert_int_equal(pod_limit(pod, "ephemeral-storage"), 2147483648);
        assert_int_equal(pod_request(pod, "example.com/gpu"), 2);
        names = pod_requested_names(pod, &n);
        assert_int_equal(n, 4);
        assert_string_equal(names[0], "ephemeral-storage");
        assert_string_equal(names[3], "hugepages-2Mi");
}

static void test_names(void **state)
{
        assert_true(resource_is_extended("example.com/gpu"));
        assert_false(resource_is_extended("cpu"));
        assert_false(resource_is_extended("attachable-volumes-x"));
        assert_false(resource_is_extended("node.kubernetes.io/thing"));
        assert_false(resource_is_extended("requests.example.com/gpu"));
        assert_true(resource_is_hugepages("hugepages-1Gi"));
        assert_false(resource_is_hugepages("memory"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cpu),
                cmocka_unit_test(test_others_than_cpu),
                cmocka_unit_test(test_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
