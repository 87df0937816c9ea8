/* SPDX-License-Identifier: Apache-2.0 */

/* Statuses from views, against what upstream's node reports for the same states. */

#include "../unit.h"
#include "base/str.h"
#include "pod-literal.h"
#include "pod/status.h"

typedef struct Fixture {
        Pod *pod;
        ContainerView views[4];
        ConditionMemory conditions[CONDITION_COUNT];
        PodView view;
        PodStatus status;
} Fixture;

static void fixture_init(Fixture *f, const char *spec)
{
        KL_AUTOFREE char *yaml = str_format(POD_HEAD "spec:\n%s", spec);

        memset(f, 0, sizeof(*f));
        f->pod = pod_literal(yaml);
        for (size_t i = 0; i < f->pod->n_containers; i++)
                f->views[i].spec = &f->pod->containers[i];
        f->view = (PodView){ .pod = f->pod,
                             .containers = f->views,
                             .conditions = f->conditions,
                             .start_us = 1000000,
                             .now_us = 2000000 };
}

static void render(Fixture *f)
{
        pod_status_deinit(&f->status);
        assert_int_equal(pod_status_render(&f->view, &f->status), 0);
}

static void fixture_deinit(Fixture *f)
{
        pod_status_deinit(&f->status);
        pod_free(f->pod);
}

static void set_exited(ContainerView *c, int exit_code)
{
        c->run = RUN_EXITED;
        c->current = (RunRecord){ .id = (char *)"abc",
                                  .exit_code = exit_code,
                                  .reason = exit_code ? "Error" : "Completed",
                                  .started_us = 3000000,
                                  .finished_us = 4000000 };
        c->ready = c->started = false;
}

static void set_running(ContainerView *c)
{
        c->run = RUN_RUNNING;
        c->current = (RunRecord){ .id = (char *)"abc", .started_us = 3000000 };
        c->ready = c->started = true;
}

static bool has(const char *text, const char *part)
{
        if (text && strstr(text, part))
                return true;
        fprintf(stderr, "'%s' is not in %s\n", part, text ? text : "(absent)");
        return false;
}

static void test_simple_pod(void **state)
{
        char *ips[] = { (char *)"10.0.0.2", NULL };
        Fixture f;

        fixture_init(&f, "  containers: [{name: c, image: x}]\n");
        render(&f);
        assert_string_equal(f.status.fields[STATUS_PHASE], "\"Pending\"");
        assert_true(has(f.status.fields[STATUS_CONTAINERS],
                        "\"state\":{\"waiting\":{\"reason\":\"ContainerCreating\"}},"
                        "\"lastState\":{},\"ready\":false"));
        assert_true(has(f.status.fields[STATUS_CONDITIONS],
                        "\"message\":\"containers with unready status: [c]\""));
        assert_string_equal(f.status.fields[STATUS_QOS_CLASS], "\"BestEffort\"");
        assert_null(f.status.fields[STATUS_POD_IP]);

        set_running(&f.views[0]);
        f.view.pod_ips = ips;
        f.view.sandbox_ready = true;
        render(&f);
        assert_string_equal(f.status.fields[STATUS_PHASE], "\"Running\"");
        assert_string_equal(f.status.fields[STATUS_POD_IPS], "[{\"ip\":\"10.0.0.2\"}]");
        assert_true(
                has(f.status.fields[STATUS_CONDITIONS], "{\"type\":\"Ready\",\"status\":\"True\""));
        assert_true(has(f.status.fields[STATUS_CONTAINERS], "\"containerID\":\"kubelite://abc\""));
        fixture_deinit(&f);
}

static void test_phases(void **state)
{
        static const struct {
                const char *policy;
                int exit_code;
                const char *phase, *ready_reason;
        } cases[] = {
                { "Never", 0, "\"Succeeded\"", "PodCompleted" },
                { "Never", 3, "\"Failed\"", "PodFailed" },
                { "OnFailure", 0, "\"Succeeded\"", "PodCompleted" },
                { "OnFailure", 3, "\"Running\"", "ContainersNotReady" },
                { "Always", 0, "\"Running\"", "ContainersNotReady" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *spec =
                        str_format("  restartPolicy: %s\n  containers: [{name: c, image: x}]\n",
                                   cases[i].policy);
                Fixture f;

                fixture_init(&f, spec);
                set_exited(&f.views[0], cases[i].exit_code);
                render(&f);
                assert_string_equal(f.status.fields[STATUS_PHASE], cases[i].phase);
                assert_true(has(f.status.fields[STATUS_CONDITIONS], cases[i].ready_reason));
                fixture_deinit(&f);
        }
}

static void test_crash_loop(void **state)
{
        Fixture f;

        fixture_init(&f, "  containers: [{name: c, image: x}]\n");
        set_exited(&f.views[0], 1);
        f.views[0].waiting_reason = "CrashLoopBackOff";
        f.views[0].waiting_message = (char *)"back-off 10s";
        f.views[0].restart_count = 2;
        render(&f);
        assert_true(has(f.status.fields[STATUS_CONTAINERS],
                        "\"state\":{\"waiting\":{\"reason\":\"CrashLoopBackOff\",\"message\":"
                        "\"back-off 10s\"}},\"lastState\":{\"terminated\":{\"exitCode\":1,"));
        assert_true(has(f.status.fields[STATUS_CONTAINERS], "\"restartCount\":2"));
        assert_string_equal(f.status.fields[STATUS_PHASE], "\"Running\"");
        fixture_deinit(&f);
}

/* A pod that ends before its container ran: upstream's ContainerStatusUnknown, phase Failed, and
 * conditions as they were. */
static void test_terminated_before_it_ran(void **state)
{
        Fixture f;

        fixture_init(&f, "  containers: [{name: c, image: x}]\n");
        f.view.terminating = f.view.terminated = true;
        render(&f);
        assert_string_equal(f.status.fields[STATUS_PHASE], "\"Failed\"");
        assert_true(has(f.status.fields[STATUS_CONTAINERS],
                        "{\"terminated\":{\"exitCode\":137,\"reason\":\"ContainerStatusUnknown\","
                        "\"message\":\"The container could not be located when the pod was "
                        "terminated\",\"startedAt\":null,\"finishedAt\":null}}"));
        assert_true(has(f.status.fields[STATUS_CONDITIONS], "ContainersNotReady"));
        fixture_deinit(&f);
}

static void test_init_containers(void **state)
{
        Fixture f;

        fixture_init(&f, "  initContainers: [{name: i1, image: x}, {name: i2, image: x}]\n"
                         "  containers: [{name: c, image: x}]\n");
        render(&f);
        assert_true(has(f.status.fields[STATUS_CONDITIONS],
                        "\"message\":\"containers with incomplete status: [i1 i2]\""));
        assert_true(has(f.status.fields[STATUS_CONTAINERS], "\"reason\":\"PodInitializing\""));
        set_exited(&f.views[0], 0);
        render(&f);
        assert_true(has(f.status.fields[STATUS_CONDITIONS], "incomplete status: [i2]"));
        set_exited(&f.views[1], 0);
        set_running(&f.views[2]);
        render(&f);
        assert_true(has(f.status.fields[STATUS_CONDITIONS],
                        "{\"type\":\"Initialized\",\"status\":\"True\""));
        fixture_deinit(&f);
}

/* In a new sandbox they run once more; until then they wait, and their end is the last state. */
static void test_init_containers_of_a_sandbox_before(void **state)
{
        Fixture f;

        fixture_init(&f, "  initContainers: [{name: i, image: x}]\n"
                         "  containers: [{name: c, image: x}]\n");
        set_exited(&f.views[0], 0);
        set_exited(&f.views[1], 137);
        f.views[0].earlier = f.views[1].earlier = true;
        render(&f);
        assert_string_equal(f.status.fields[STATUS_PHASE], "\"Pending\"");
        assert_true(has(f.status.fields[STATUS_CONDITIONS], "incomplete status: [i]"));
        assert_true(has(f.status.fields[STATUS_INIT_CONTAINERS],
                        "\"state\":{\"waiting\":{\"reason\":\"PodInitializing\"}},"
                        "\"lastState\":{\"terminated\":{\"exitCode\":0"));
        fixture_deinit(&f);
}

static void test_sidecars_count_while_they_run(void **state)
{
        Fixture f;

        fixture_init(&f, "  restartPolicy: Never\n"
                         "  initContainers: [{name: s, image: x, restartPolicy: Always}]\n"
                         "  containers: [{name: c, image: x}]\n");
        set_running(&f.views[0]);
        set_exited(&f.views[1], 0);
        render(&f);
        assert_string_equal(f.status.fields[STATUS_PHASE], "\"Running\"");
        set_exited(&f.views[0], 137);
        render(&f);
        assert_string_equal(f.status.fields[STATUS_PHASE], "\"Succeeded\"");
        fixture_deinit(&f);
}

static void test_phases_by_restart_rules(void **state)
{
        static const struct {
                const char *pod, *container;
                int exit_code;
                const char *phase;
        } cases[] = {
                { "Always", "restartPolicy: Never", 1, "\"Failed\"" },
                { "Always", "restartPolicy: Never", 0, "\"Succeeded\"" },
                { "Never", "restartPolicy: OnFailure", 1, "\"Running\"" },
                { "Never",
                  "restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: "
                  "{operator: In, values: [42]}}]",
                  42, "\"Running\"" },
                { "Never",
                  "restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: "
                  "{operator: NotIn, values: [42]}}]",
                  42, "\"Failed\"" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *spec =
                        str_format("  restartPolicy: %s\n  containers: [{name: c, image: x, %s}]\n",
                                   cases[i].pod, cases[i].container);
                Fixture f;

                fixture_init(&f, spec);
                set_exited(&f.views[0], cases[i].exit_code);
                render(&f);
                assert_string_equal(f.status.fields[STATUS_PHASE], cases[i].phase);
                fixture_deinit(&f);
        }
}

static void test_all_containers_restarting(void **state)
{
        Fixture f;

        fixture_init(&f, "  restartPolicy: Never\n"
                         "  containers: [{name: c, image: x, restartPolicy: Never, "
                         "restartPolicyRules: [{action: RestartAllContainers, exitCodes: "
                         "{operator: In, values: [42]}}]}]\n");
        set_running(&f.views[0]);
        render(&f);
        assert_true(has(f.status.fields[STATUS_CONDITIONS],
                        "{\"type\":\"AllContainersRestarting\",\"status\":\"False\""));
        set_exited(&f.views[0], 42);
        render(&f);
        assert_string_equal(f.status.fields[STATUS_PHASE], "\"Running\"");
        assert_true(has(f.status.fields[STATUS_CONDITIONS],
                        "{\"type\":\"AllContainersRestarting\",\"status\":\"True\""));
        assert_true(has(f.status.fields[STATUS_CONDITIONS],
                        "\"reason\":\"RestartAllContainersStarted\",\"message\":\"container exited "
                        "with restart policy rule\""));
        fixture_deinit(&f);
}

/* The reason is told when nothing runs any more, and stays over restarts of the daemon. */
static void test_ended_by_the_node(void **state)
{
        Fixture f;

        fixture_init(&f, "  containers: [{name: c, image: x}]\n");
        set_running(&f.views[0]);
        f.view.ended_reason = "DeadlineExceeded";
        f.view.ended_message = "too long";
        render(&f);
        assert_string_equal(f.status.fields[STATUS_PHASE], "\"Running\"");
        assert_null(f.status.fields[STATUS_REASON]);
        set_exited(&f.views[0], 143);
        f.view.terminated = true;
        render(&f);
        assert_string_equal(f.status.fields[STATUS_PHASE], "\"Failed\"");
        assert_string_equal(f.status.fields[STATUS_REASON], "\"DeadlineExceeded\"");
        assert_string_equal(f.status.fields[STATUS_MESSAGE], "\"too long\"");
        assert_true(has(f.status.fields[STATUS_CONDITIONS], "PodFailed"));
        f.view.ended_reason = f.view.ended_message = NULL;
        f.pod->seen_phase = (char *)"Failed";
        f.pod->seen_reason = (char *)"DeadlineExceeded";
        render(&f);
        assert_string_equal(f.status.fields[STATUS_REASON], "\"DeadlineExceeded\"");
        fixture_deinit(&f);
}

static void test_rejected_pod_has_little(void **state)
{
        Fixture f;

        fixture_init(&f, "  containers: [{name: c, image: x}]\n");
        f.view.rejected_reason = "OutOfcpu";
        f.view.rejected_message = "Pod was rejected: no";
        render(&f);
        assert_string_equal(f.status.fields[STATUS_PHASE], "\"Failed\"");
        assert_string_equal(f.status.fields[STATUS_REASON], "\"OutOfcpu\"");
        assert_null(f.status.fields[STATUS_CONTAINERS]);
        assert_null(f.status.fields[STATUS_CONDITIONS]);
        fixture_deinit(&f);
}

static void test_transition_times_stay(void **state)
{
        KL_AUTOFREE char *first = NULL;
        Fixture f;

        fixture_init(&f, "  containers: [{name: c, image: x}]\n");
        render(&f);
        first = strdup(f.status.fields[STATUS_CONDITIONS]);
        f.view.now_us = 99000000;
        render(&f);
        assert_string_equal(f.status.fields[STATUS_CONDITIONS], first);
        fixture_deinit(&f);
}

static void test_patch(void **state)
{
        char *a[] = { (char *)"10.0.0.2", NULL }, *b[] = { (char *)"10.0.0.3", NULL };
        KL_AUTOBUF patch = BUF_INIT;
        PodStatus old = { 0 };
        Fixture f;

        fixture_init(&f, "  containers: [{name: c, image: x}]\n");
        f.view.pod_ips = a;
        render(&f);
        old = f.status;
        f.status = (PodStatus){ 0 };
        render(&f);
        assert_int_equal(pod_status_patch("u", &old, &f.status, &patch), 1);
        buf_clear(&patch);
        f.view.pod_ips = b;
        render(&f);
        assert_int_equal(pod_status_patch("u", &old, &f.status, &patch), 0);
        assert_string_equal(buf_str(&patch),
                            "{\"metadata\":{\"uid\":\"u\"},\"status\":{\"podIP\":\"10.0.0.3\","
                            "\"podIPs\":[{\"$patch\":\"replace\"},{\"ip\":\"10.0.0.3\"}]}}");
        buf_clear(&patch);
        f.view.pod_ips = NULL;
        render(&f);
        assert_int_equal(pod_status_patch("u", &old, &f.status, &patch), 0);
        assert_true(has(buf_str(&patch), "\"podIP\":null,\"podIPs\":null"));
        pod_status_deinit(&old);
        fixture_deinit(&f);
}

static void test_qos(void **state)
{
        static const struct {
                const char *resources, *qos;
        } cases[] = {
                { "{}", "BestEffort" },
                { "{requests: {cpu: 1}}", "Burstable" },
                { "{limits: {cpu: 1, memory: 1Mi}}", "Guaranteed" },
                { "{limits: {cpu: 1, memory: 1Mi}, requests: {cpu: 500m}}", "Burstable" },
                { "{limits: {memory: 1Mi}}", "Burstable" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *yaml = str_format(
                        POD_HEAD "spec:\n  containers: [{name: c, image: x, resources: %s}]\n",
                        cases[i].resources);
                KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);

                assert_string_equal(pod_qos_name(pod_qos(pod)), cases[i].qos);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_simple_pod),
                cmocka_unit_test(test_phases),
                cmocka_unit_test(test_crash_loop),
                cmocka_unit_test(test_terminated_before_it_ran),
                cmocka_unit_test(test_init_containers),
                cmocka_unit_test(test_init_containers_of_a_sandbox_before),
                cmocka_unit_test(test_sidecars_count_while_they_run),
                cmocka_unit_test(test_phases_by_restart_rules),
                cmocka_unit_test(test_all_containers_restarting),
                cmocka_unit_test(test_ended_by_the_node),
                cmocka_unit_test(test_rejected_pod_has_little),
                cmocka_unit_test(test_transition_times_stay),
                cmocka_unit_test(test_patch),
                cmocka_unit_test(test_qos),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
