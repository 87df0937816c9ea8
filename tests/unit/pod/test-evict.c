/* SPDX-License-Identifier: Apache-2.0 */

/* Node-pressure eviction: thresholds over time, the order of pods, and the words. */

#include "../unit.h"
#include "base/str.h"
#include "pod-literal.h"
#include "pod/evict-plan.h"

#define MIB (1LL << 20)
#define GIB (1LL << 30)

static void read_config(const char *text, EvictConfig *ret)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = NULL;
        KL_AUTOFREE char *document = str_format("apiVersion: kubelet.config.k8s.io/v1beta1\n"
                                                "kind: KubeletConfiguration\n%s",
                                                text);
        KL_AUTOERR err = NULL;

        if (kubelet_config_new(&config, &err) < 0 ||
            kubelet_config_read(config, "test", document, strlen(document), &err) < 0 ||
            kubelet_config_finish(config, &err) < 0 || evict_config(config, ret, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
}

static void test_defaults(void **state)
{
        EvictConfig config;

        read_config("", &config);
        assert_int_equal(config.n, 6);
        assert_int_equal(config.thresholds[0].signal, SIGNAL_MEMORY);
        assert_int_equal(config.thresholds[0].value.quantity, 100 * MIB);
        assert_int_equal(config.thresholds[1].signal, SIGNAL_ALLOCATABLE_MEMORY);
        assert_int_equal(config.thresholds[1].value.quantity, 100 * MIB);
        assert_int_equal(config.thresholds[2].signal, SIGNAL_NODEFS);
        assert_int_equal(evict_threshold_value(&config.thresholds[2], 1000), 100);
        assert_int_equal(config.transition_ms, 300000);
}

static void test_configuration(void **state)
{
        EvictConfig config;

        read_config("evictionHard: {nodefs.available: 1Gi, imagefs.available: 0%, pid.available: "
                    "100%}\n"
                    "evictionSoft: {nodefs.available: 2Gi}\n"
                    "evictionSoftGracePeriod: {nodefs.available: 1m30s}\n"
                    "evictionMinimumReclaim: {nodefs.available: 500Mi}\n"
                    "evictionMaxPodGracePeriod: 7\n",
                    &config);
        /* Hard before soft; 0% and 100% switch off. */
        assert_int_equal(config.n, 2);
        assert_int_equal(config.thresholds[0].grace_ms, 0);
        assert_int_equal(config.thresholds[1].grace_ms, 90000);
        assert_int_equal(config.thresholds[1].reclaim.quantity, 500 * MIB);
        assert_int_equal(config.max_grace_s, 7);
}

/* --- steps --- */

typedef struct Step {
        uint64_t now_s;
        int64_t available_mib;
        bool pressure, reclaims;
} Step;

static void check_steps(const EvictConfig *config, const Step *steps, size_t n)
{
        EvictState state = { 0 };

        for (size_t i = 0; i < n; i++) {
                EvictObserved observed[EVICT_SIGNALS] = {
                        [SIGNAL_NODEFS] = { true, steps[i].available_mib * MIB, 10 * GIB },
                };
                EvictDecision decision;

                evict_step(config, &state, observed, steps[i].now_s * 1000, &decision);
                if (decision.pressure[PRESSURE_DISK] != steps[i].pressure ||
                    !!decision.reclaim != steps[i].reclaims)
                        fail_msg("at %d s: pressure %d, reclaim %d", (int)steps[i].now_s,
                                 decision.pressure[PRESSURE_DISK], !!decision.reclaim);
                assert_false(decision.pressure[PRESSURE_MEMORY]);
        }
}

static void test_hard(void **state)
{
        static const Step steps[] = {
                { 1, 2048, false, false },
                { 11, 1024, false, false },
                { 21, 1023, true, true },
                /* Reclaimed is only what is 500 MiB above. */
                { 31, 1100, true, true },
                { 41, 1523, true, true },
                { 51, 1524, true, false },
                { 61, 1100, true, false },
                /* Pressure is shown for a while after. */
                { 100, 4096, true, false },
                { 101, 4096, false, false },
        };
        EvictConfig config;

        read_config("evictionHard: {nodefs.available: 1Gi}\n"
                    "evictionMinimumReclaim: {nodefs.available: 500Mi}\n"
                    "evictionPressureTransitionPeriod: 60s\n",
                    &config);
        check_steps(&config, steps, ELEMENTS(steps));
}

static void test_soft(void **state)
{
        static const Step steps[] = {
                { 1, 1000, true, false }, /* pressure at once, eviction after the grace period */
                { 30, 1000, true, false }, { 31, 1000, true, true },
                { 41, 1025, true, false }, { 51, 1000, true, false }, /* begins anew */
                { 80, 1000, true, false }, { 81, 1000, true, true },
        };
        EvictConfig config;

        read_config("evictionHard: {memory.available: 1}\n"
                    "evictionSoft: {nodefs.available: 10%}\n"
                    "evictionSoftGracePeriod: {nodefs.available: 30s}\n"
                    "evictionPressureTransitionPeriod: 60s\n",
                    &config);
        check_steps(&config, steps, ELEMENTS(steps));
}

static void test_memory_comes_first(void **state)
{
        EvictObserved observed[EVICT_SIGNALS] = {
                [SIGNAL_MEMORY] = { true, 1, GIB },
                [SIGNAL_NODEFS] = { true, 1, GIB },
        };
        EvictState s = { 0 };
        EvictDecision decision;
        EvictConfig config;

        read_config("evictionHard: {nodefs.available: 10%, memory.available: 10Mi}\n", &config);
        evict_step(&config, &s, observed, 1, &decision);
        assert_int_equal(decision.reclaim->signal, SIGNAL_MEMORY);
        assert_true(decision.pressure[PRESSURE_MEMORY] && decision.pressure[PRESSURE_DISK]);
        assert_false(evict_is_at_rest(&config, observed));
        observed[SIGNAL_MEMORY].available = observed[SIGNAL_NODEFS].available = GIB;
        assert_true(evict_is_at_rest(&config, observed));
        /* What is not known changes nothing. */
        observed[SIGNAL_MEMORY].known = observed[SIGNAL_NODEFS].known = false;
        evict_step(&config, &s, observed, 2, &decision);
        assert_null(decision.reclaim);
        assert_true(decision.pressure[PRESSURE_MEMORY]);
}

/* --- ranking --- */

typedef struct Use {
        const char *name, *requests;
        int priority;
        int64_t used; /* MiB of memory or storage, or processes; -1: unknown */
} Use;

static void check_rank(EvictSignal signal, const Use *uses, size_t n, const char *expected)
{
        const EvictConfig config = { 0 };
        EvictPod pods[8] = { 0 };
        char order[128] = "";

        for (size_t i = 0; i < n; i++) {
                KL_AUTOFREE char *yaml = str_format(
                        "metadata: {name: %s}\nspec: {priority: %d, containers: [{name: c, image: "
                        "x, resources: {requests: {%s}}}]}\n",
                        uses[i].name, uses[i].priority, uses[i].requests);

                pods[i].pod = pod_literal(yaml);
                pods[i].known = uses[i].used >= 0;
                pods[i].memory = pods[i].other_storage = uses[i].used * MIB;
                pods[i].processes = uses[i].used;
        }
        evict_rank(&config, signal, pods, n);
        for (size_t i = 0; i < n; i++) {
                snprintf(order + strlen(order), sizeof(order) - strlen(order), "%s ",
                         pods[i].pod->name);
                pod_free((Pod *)(uintptr_t)pods[i].pod);
        }
        assert_string_equal(order, expected);
}

static void test_ranking(void **state)
{
        static const Use memory[] = {
                { "within", "memory: 100Mi", 0, 90 },     { "over", "memory: 100Mi", 0, 110 },
                { "more-over", "memory: 100Mi", 0, 150 }, { "important", "memory: 10Mi", 9, 500 },
                { "nothing-known", "", 9, -1 },           { "idle", "", -5, 0 },
        };
        static const Use disk[] = {
                { "within", "ephemeral-storage: 1Gi", 0, 900 },
                { "no-request", "", 0, 500 },
                { "small", "", 0, 10 },
        };
        static const Use pids[] = { { "few", "", 0, 3 },
                                    { "many", "", 0, 300 },
                                    { "low", "", -1, 1 } };

        check_rank(SIGNAL_MEMORY, memory, ELEMENTS(memory),
                   "nothing-known more-over over important idle within ");
        check_rank(SIGNAL_NODEFS, disk, ELEMENTS(disk), "no-request small within ");
        check_rank(SIGNAL_PID, pids, ELEMENTS(pids), "low many few ");
}

/* --- words and limits --- */

static void test_message(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                POD_HEAD "spec: {containers: [{name: a, image: x, resources: {requests: {memory: "
                         "10Mi}}}, {name: b, image: x}, {name: c, image: x}]}\n");
        const EvictContainer containers[] = {
                { &pod->containers[0], .memory = 20 * MIB },
                { &pod->containers[1], .memory = 3 * MIB },
                { &pod->containers[2], .memory = 0 },
        };
        const EvictPod p = {
                .pod = pod, .known = true, .containers = containers, .n_containers = 3
        };
        const EvictThreshold t = { .signal = SIGNAL_MEMORY, .value = { .quantity = 100 * MIB } };
        EvictObserved observed[EVICT_SIGNALS] = { [SIGNAL_MEMORY] = { true, 90000 << 10, GIB } };
        KL_AUTOFREE char *text = evict_message(&(EvictConfig){ 0 }, &t, observed, &p);

        assert_string_equal(
                text,
                "The node was low on resource: memory. Threshold quantity: 100Mi, available: "
                "90000Ki. Container a was using 20Mi, request is 10Mi, has larger consumption "
                "of memory. Container b was using 3Mi, request is 0, has larger consumption "
                "of memory. ");
}

static void check_limit(const char *spec, int64_t volume, int64_t container, const char *expected)
{
        KL_AUTOFREE char *yaml = str_format(POD_HEAD "spec: {%s}\n", spec);
        KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);
        const EvictContainer c = { &pod->containers[0], .storage = container * MIB };
        const EvictVolume v = { "v", volume * MIB };
        const EvictPod p = {
                .pod = pod,
                .known = true,
                .storage = (volume + container) * MIB,
                .containers = &c,
                .n_containers = 1,
                .volumes = &v,
                .n_volumes = 1,
        };
        KL_AUTOFREE char *text = evict_over_limit(&(EvictConfig){ 0 }, &p);

        if (!expected)
                assert_null(text);
        else
                assert_string_equal(text, expected);
}

static void test_limits(void **state)
{
#define V "volumes: [{name: v, emptyDir: {sizeLimit: 10Mi}}], "
#define FREE "containers: [{name: c, image: x}]"
#define LIMITED "containers: [{name: c, image: x, resources: {limits: {ephemeral-storage: 20Mi}}}]"
        check_limit(FREE, 100, 100, NULL);
        check_limit(V FREE, 10, 100, NULL);
        check_limit(V FREE, 11, 0, "Usage of EmptyDir volume \"v\" exceeds the limit \"10Mi\". ");
        check_limit(LIMITED, 0, 20, NULL);
        check_limit(
                LIMITED, 11, 10,
                "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. ");
        check_limit("containers: [{name: c, image: x, resources: {limits: {ephemeral-storage: "
                    "20Mi}}}, {name: d, image: x, resources: {limits: {ephemeral-storage: 1Gi}}}]",
                    0, 21, "Container c exceeded its local ephemeral storage limit \"20Mi\". ");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_configuration),
                cmocka_unit_test(test_hard),
                cmocka_unit_test(test_soft),
                cmocka_unit_test(test_memory_comes_first),
                cmocka_unit_test(test_ranking),
                cmocka_unit_test(test_message),
                cmocka_unit_test(test_limits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
