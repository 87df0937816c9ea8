/* SPDX-License-Identifier: Apache-2.0 */

/* The plan, step by step, from literals. */

#include "../unit.h"
#include "pod/plan.h"

#include <stdio.h>
#include <string.h>

#define MAX 8

typedef struct Case {
        PlanInput in;
        PlanContainer c[MAX];
        Plan plan;
} Case;

static void case_init(Case *t, size_t n)
{
        memset(t, 0, sizeof(*t));
        t->in = (PlanInput){
                .now_ms = 1000, .network_available = true, .containers = t->c, .n_containers = n
        };
        for (size_t i = 0; i < n; i++)
                t->c[i].kind = CONTAINER_MAIN;
}

/* Everything around the containers is there. */
static void case_ready(Case *t, size_t n)
{
        case_init(t, n);
        t->in.sandbox = SANDBOX_READY;
        t->in.network = NETWORK_READY;
        t->in.volumes = VOLUME_STATE_READY;
        for (size_t i = 0; i < n; i++)
                t->c[i].image = IMAGE_READY;
}

static const char *plan_text(Case *t)
{
        static const char *const names[] = {
                [ACTION_SETUP_VOLUMES] = "volumes",
                [ACTION_CREATE_SANDBOX] = "sandbox",
                [ACTION_ADD_NETWORK] = "network",
                [ACTION_REPORT_NO_NETWORK] = "no-network",
                [ACTION_ENSURE_IMAGE] = "image",
                [ACTION_START] = "start",
                [ACTION_STOP] = "stop",
                [ACTION_KILL] = "kill",
                [ACTION_REPORT_BACKOFF] = "backoff",
                [ACTION_RESET] = "reset",
                [ACTION_EXPIRE] = "expire",
                [ACTION_DELETE_NETWORK] = "del-network",
                [ACTION_DESTROY_SANDBOX] = "destroy",
                [ACTION_TEARDOWN_VOLUMES] = "teardown",
                [ACTION_FINISH] = "finish",
        };
        static char text[512];
        size_t len = 0;

        pod_plan(&t->in, &t->plan);
        text[0] = '\0';
        for (size_t i = 0; i < t->plan.n; i++) {
                ActionType type = t->plan.actions[i].type;
                int on = type == ACTION_ENSURE_IMAGE || type == ACTION_START ||
                         type == ACTION_STOP || type == ACTION_KILL ||
                         type == ACTION_REPORT_BACKOFF;

                len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? " " : "",
                                        names[type]);
                if (on)
                        len += (size_t)snprintf(text + len, sizeof(text) - len, "%zu",
                                                t->plan.actions[i].container);
        }
        return text;
}

static void test_new_pod_starts_all_at_once(void **state)
{
        Case t;

        case_init(&t, 2);
        assert_string_equal(plan_text(&t), "volumes sandbox image0 image1");
        t.in.volumes = VOLUME_STATE_PENDING;
        t.in.sandbox = SANDBOX_CREATING;
        t.c[0].image = t.c[1].image = IMAGE_PULLING;
        assert_string_equal(plan_text(&t), "");
        t.in.sandbox = SANDBOX_READY;
        assert_string_equal(plan_text(&t), "network");
        t.in.network = NETWORK_ADDING;
        t.in.volumes = VOLUME_STATE_READY;
        t.c[0].image = IMAGE_READY;
        assert_string_equal(plan_text(&t), "");
        t.in.network = NETWORK_READY;
        assert_string_equal(plan_text(&t), "start0");
        t.c[0].run = RUN_STARTING;
        t.c[1].image = IMAGE_READY;
        assert_string_equal(plan_text(&t), "start1");
}

static void test_without_network_configuration(void **state)
{
        Case t;

        case_init(&t, 1);
        t.in.network_available = false;
        t.in.volumes = VOLUME_STATE_READY;
        assert_string_equal(plan_text(&t), "no-network image0");
        t.in.host_network = true;
        assert_string_equal(plan_text(&t), "sandbox image0");
        t.in.sandbox = SANDBOX_READY;
        t.c[0].image = IMAGE_READY;
        assert_string_equal(plan_text(&t), "start0");
}

static void test_sandbox_backoff_wakes(void **state)
{
        Case t;

        case_init(&t, 1);
        t.in.volumes = VOLUME_STATE_READY;
        t.in.sandbox_retry_ms = 1500;
        t.c[0].image = IMAGE_READY;
        assert_string_equal(plan_text(&t), "");
        assert_int_equal(t.plan.wake_ms, 1500);
        t.in.now_ms = 1500;
        assert_string_equal(plan_text(&t), "sandbox");
}

static void test_init_containers_in_order(void **state)
{
        Case t;

        case_ready(&t, 3);
        t.c[0].kind = t.c[1].kind = CONTAINER_INIT;
        assert_string_equal(plan_text(&t), "start0");
        t.c[0].run = RUN_RUNNING;
        assert_string_equal(plan_text(&t), "");
        t.c[0].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "start1");
        t.c[1].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "start2");
        /* Once a main container ran, lost records of init containers change nothing. */
        t.c[0].run = t.c[1].run = RUN_NONE;
        t.c[2].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "start2");
}

static void test_init_container_fails(void **state)
{
        Case t;

        case_ready(&t, 2);
        t.c[0] = (PlanContainer){
                .kind = CONTAINER_INIT, .run = RUN_EXITED, .exit_code = 4, .image = IMAGE_READY
        };
        assert_string_equal(plan_text(&t), "start0");
        t.in.restart_policy = RESTART_NEVER;
        assert_true(pod_plan_is_complete(&t.in));
        assert_string_equal(plan_text(&t), "del-network teardown");
}

/* A sidecar that was passed once holds back nothing behind it. */
static void test_sidecar_restarts_beside_init_containers(void **state)
{
        Case t;

        case_ready(&t, 3);
        t.c[0].kind = t.c[1].kind = CONTAINER_INIT;
        t.c[0].sidecar = true;
        t.c[0].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "start0");
        t.c[1].run = RUN_RUNNING;
        t.c[0].start_retry_ms = 5000;
        assert_string_equal(plan_text(&t), "backoff0");
        t.c[1].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "backoff0 start2");
        t.c[0].start_retry_ms = 0;
        t.c[2].run = RUN_RUNNING;
        assert_string_equal(plan_text(&t), "start0");
}

/* As of a Job: once the main containers are done, a sidecar keeps nothing alive. */
static void test_sidecar_does_not_keep_a_pod_alive(void **state)
{
        Case t;

        case_ready(&t, 2);
        t.in.restart_policy = RESTART_ON_FAILURE;
        t.c[0].kind = CONTAINER_INIT;
        t.c[0].sidecar = true;
        t.c[0].run = RUN_RUNNING;
        t.c[1].run = RUN_EXITED;
        assert_true(pod_plan_is_complete(&t.in));
        assert_string_equal(plan_text(&t), "stop0");
        t.c[0].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "del-network teardown");
}

static void test_sidecars_stop_in_reverse(void **state)
{
        Case t;

        case_ready(&t, 3);
        t.c[0].kind = t.c[1].kind = CONTAINER_INIT;
        t.c[0].sidecar = t.c[1].sidecar = true;
        t.c[0].run = t.c[1].run = t.c[2].run = RUN_RUNNING;
        t.in.terminating = t.in.removed = true;
        assert_string_equal(plan_text(&t), "stop2");
        t.c[2].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "stop1");
        t.c[1].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "stop0");
}

/* A new sandbox starts from the beginning, as far as containers are to run again at all. */
static void test_new_sandbox_runs_init_containers_again(void **state)
{
        Case t;

        case_ready(&t, 3);
        t.in.restart_policy = RESTART_ON_FAILURE;
        t.c[0].kind = CONTAINER_INIT;
        t.c[0].run = t.c[1].run = t.c[2].run = RUN_EXITED;
        t.c[2].exit_code = 137;
        t.c[0].earlier = t.c[1].earlier = t.c[2].earlier = true;
        assert_string_equal(plan_text(&t), "start0");
        t.c[0].run = RUN_RUNNING;
        t.c[0].earlier = false;
        assert_string_equal(plan_text(&t), "");
        t.c[0].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "start2");
}

static void test_containers_have_policies_of_their_own(void **state)
{
        static const struct {
                ContainerKind kind;
                RestartPolicy pod, own;
                RestartRule rule;
                int exit_code;
                const char *plan;
        } cases[] = {
                { CONTAINER_MAIN, RESTART_NEVER, RESTART_ALWAYS, RULE_NONE, 0, "start0" },
                { CONTAINER_MAIN, RESTART_NEVER, RESTART_ON_FAILURE, RULE_NONE, 0, "start1" },
                { CONTAINER_MAIN, RESTART_NEVER, RESTART_ON_FAILURE, RULE_NONE, 1, "start0" },
                { CONTAINER_MAIN, RESTART_ALWAYS, RESTART_NEVER, RULE_NONE, 1, "start1" },
                { CONTAINER_MAIN, RESTART_ALWAYS, RESTART_NEVER, RULE_RESTART, 42, "start0" },
                { CONTAINER_INIT, RESTART_NEVER, RESTART_ON_FAILURE, RULE_NONE, 1, "start0" },
                { CONTAINER_INIT, RESTART_ALWAYS, RESTART_NEVER, RULE_NONE, 1,
                  "del-network teardown" },
                { CONTAINER_INIT, RESTART_NEVER, RESTART_NEVER, RULE_RESTART, 42, "start0" },
                { CONTAINER_INIT, RESTART_ALWAYS, RESTART_NEVER, RULE_NONE, 0, "start1" },
        };
        Case t;

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                bool main = cases[i].kind == CONTAINER_MAIN;

                case_ready(&t, 2);
                t.in.restart_policy = cases[i].pod;
                t.c[0].kind = cases[i].kind;
                t.c[0].own_policy = true;
                t.c[0].policy = cases[i].own;
                t.c[0].rule = cases[i].rule;
                t.c[0].run = RUN_EXITED;
                t.c[0].exit_code = cases[i].exit_code;
                /* The other one: of a main container's pod it runs, or waits to be started. */
                t.c[1].run = RUN_NONE;
                if (main && strcmp(cases[i].plan, "start0") == 0)
                        t.c[1].run = RUN_RUNNING;
                assert_string_equal(plan_text(&t), cases[i].plan);
        }
}

static void test_restart_of_all_containers(void **state)
{
        Case t;

        case_ready(&t, 5);
        t.in.restart_policy = RESTART_NEVER;
        t.c[0].kind = t.c[1].kind = CONTAINER_INIT;
        t.c[1].sidecar = true;
        t.c[4].kind = CONTAINER_EPHEMERAL;
        t.c[0].run = RUN_EXITED;
        t.c[1].run = t.c[2].run = t.c[4].run = RUN_RUNNING;
        t.c[3].run = RUN_EXITED;
        t.c[3].exit_code = 42;
        t.c[3].rule = RULE_RESTART_ALL;
        assert_false(pod_plan_is_complete(&t.in));
        assert_string_equal(plan_text(&t), "kill1 kill2");
        t.c[1].run = t.c[2].run = RUN_STOPPING;
        assert_string_equal(plan_text(&t), "");
        t.c[1].run = t.c[2].run = RUN_EXITED;
        t.c[1].exit_code = t.c[2].exit_code = 137;
        assert_string_equal(plan_text(&t), "reset");
        t.c[0].run = t.c[1].run = t.c[2].run = t.c[3].run = RUN_NONE;
        t.c[3].rule = RULE_NONE;
        assert_string_equal(plan_text(&t), "start0");
        /* Deletion comes first. */
        t.c[3].run = RUN_EXITED;
        t.c[3].rule = RULE_RESTART_ALL;
        t.c[2].run = RUN_RUNNING;
        t.in.terminating = t.in.removed = true;
        t.c[4].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "stop2");
}

static void test_active_deadline(void **state)
{
        Case t;

        case_ready(&t, 1);
        t.c[0].run = RUN_RUNNING;
        t.in.deadline_ms = 3000;
        assert_string_equal(plan_text(&t), "");
        assert_int_equal(t.plan.wake_ms, 3000);
        t.in.now_ms = 3000;
        assert_string_equal(plan_text(&t), "expire");
        t.in.finished = true;
        assert_string_equal(plan_text(&t), "stop0");
        t.c[0].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "del-network teardown");
}

static void test_sidecar_starts_first_and_stops_last(void **state)
{
        Case t;

        case_ready(&t, 3);
        t.c[0].kind = t.c[1].kind = CONTAINER_INIT;
        t.c[0].sidecar = true;
        assert_string_equal(plan_text(&t), "start0");
        t.c[0].run = RUN_RUNNING;
        assert_string_equal(plan_text(&t), "start1");
        t.c[1].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "start2");
        t.c[2].run = RUN_RUNNING;
        t.in.terminating = t.in.removed = true;
        assert_string_equal(plan_text(&t), "stop2");
        t.c[2].run = RUN_STOPPING;
        assert_string_equal(plan_text(&t), "");
        t.c[2].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "stop0");
        t.c[0].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "del-network teardown");
}

static void test_restart_policies(void **state)
{
        static const struct {
                RestartPolicy policy;
                int exit_code;
                bool again;
        } cases[] = {
                { RESTART_ALWAYS, 0, true },      { RESTART_ALWAYS, 1, true },
                { RESTART_ON_FAILURE, 0, false }, { RESTART_ON_FAILURE, 1, true },
                { RESTART_NEVER, 0, false },      { RESTART_NEVER, 1, false },
        };
        Case t;

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                case_ready(&t, 1);
                t.in.restart_policy = cases[i].policy;
                t.c[0].run = RUN_EXITED;
                t.c[0].exit_code = cases[i].exit_code;
                assert_string_equal(plan_text(&t),
                                    cases[i].again ? "start0" : "del-network teardown");
        }
}

static void test_crash_loop_waits(void **state)
{
        Case t;

        case_ready(&t, 1);
        t.c[0].run = RUN_EXITED;
        t.c[0].exit_code = 1;
        t.c[0].start_retry_ms = 11000;
        assert_string_equal(plan_text(&t), "backoff0");
        assert_int_equal(t.plan.wake_ms, 11000);
}

static void test_image_backoff_waits(void **state)
{
        Case t;

        case_ready(&t, 1);
        t.c[0].image = IMAGE_FAILED;
        t.c[0].image_retry_ms = 5000;
        assert_string_equal(plan_text(&t), "");
        assert_int_equal(t.plan.wake_ms, 5000);
        t.in.now_ms = 5000;
        assert_string_equal(plan_text(&t), "image0");
}

static void test_deletion_in_order(void **state)
{
        Case t;

        case_ready(&t, 1);
        t.c[0].run = RUN_RUNNING;
        t.in.terminating = t.in.removed = true;
        assert_string_equal(plan_text(&t), "stop0");
        t.c[0].run = RUN_EXITED;
        assert_string_equal(plan_text(&t), "del-network teardown");
        t.in.network = NETWORK_DELETING;
        t.in.volumes = VOLUME_STATE_TEARING_DOWN;
        assert_string_equal(plan_text(&t), "");
        t.in.network = NETWORK_NONE;
        assert_string_equal(plan_text(&t), "destroy");
        t.in.sandbox = SANDBOX_DESTROYING;
        assert_string_equal(plan_text(&t), "");
        t.in.sandbox = SANDBOX_NONE;
        assert_string_equal(plan_text(&t), "");
        t.in.volumes = VOLUME_STATE_GONE;
        assert_string_equal(plan_text(&t), "finish");
}

/* Containers of a lost sandbox may still use the volumes until it was destroyed. */
static void test_volumes_outlast_a_lost_sandbox(void **state)
{
        Case t;

        case_ready(&t, 1);
        t.in.terminating = t.in.removed = true;
        t.in.sandbox = SANDBOX_LOST;
        assert_string_equal(plan_text(&t), "del-network");
        t.in.network = NETWORK_NONE;
        assert_string_equal(plan_text(&t), "destroy");
        t.in.sandbox = SANDBOX_NONE;
        assert_string_equal(plan_text(&t), "teardown");
}

/* Deletion at any moment waits for jobs in flight and starts nothing. */
static void test_deletion_while_starting(void **state)
{
        Case t;

        case_init(&t, 1);
        t.in.terminating = t.in.removed = true;
        t.in.volumes = VOLUME_STATE_PENDING;
        t.in.sandbox = SANDBOX_CREATING;
        t.c[0].image = IMAGE_PULLING;
        assert_string_equal(plan_text(&t), "");
        t.in.sandbox = SANDBOX_READY;
        t.in.network = NETWORK_ADDING;
        assert_string_equal(plan_text(&t), "");
        t.in.network = NETWORK_READY;
        t.c[0].run = RUN_STARTING;
        assert_string_equal(plan_text(&t), "");
        t.c[0].run = RUN_RUNNING;
        assert_string_equal(plan_text(&t), "stop0");
}

static void test_lost_sandbox_is_made_anew(void **state)
{
        Case t;

        case_ready(&t, 1);
        t.in.sandbox = SANDBOX_LOST;
        t.c[0].run = RUN_EXITED;
        t.c[0].exit_code = 137;
        assert_string_equal(plan_text(&t), "del-network");
        t.in.network = NETWORK_NONE;
        assert_string_equal(plan_text(&t), "destroy");
        t.in.sandbox = SANDBOX_NONE;
        assert_string_equal(plan_text(&t), "sandbox");
}

static void test_finished_pod_is_cleared_but_stays(void **state)
{
        Case t;

        case_init(&t, 1);
        t.in.finished = true;
        assert_string_equal(plan_text(&t), "teardown");
        t.in.volumes = VOLUME_STATE_GONE;
        assert_string_equal(plan_text(&t), "");
}

static void test_changed_image_restarts(void **state)
{
        Case t;

        case_ready(&t, 1);
        t.c[0].run = RUN_RUNNING;
        t.c[0].outdated = true;
        assert_string_equal(plan_text(&t), "stop0");
}

static void test_ephemeral_container_runs_once(void **state)
{
        Case t;

        case_ready(&t, 2);
        t.c[0].run = RUN_RUNNING;
        t.c[1].kind = CONTAINER_EPHEMERAL;
        assert_string_equal(plan_text(&t), "start1");
        t.c[1].run = RUN_EXITED;
        t.c[1].exit_code = 1;
        assert_string_equal(plan_text(&t), "");
        /* Whatever becomes of init containers. */
        t.c[0].kind = CONTAINER_INIT;
        t.c[1].run = RUN_NONE;
        assert_string_equal(plan_text(&t), "start1");
}

static void test_failed_probe_stops(void **state)
{
        Case t;

        case_ready(&t, 2);
        t.c[0].run = t.c[1].run = RUN_RUNNING;
        t.c[1].unhealthy = true;
        assert_string_equal(plan_text(&t), "stop1");
        t.c[1].run = RUN_STOPPING;
        assert_string_equal(plan_text(&t), "");
        t.c[1].run = RUN_EXITED;
        t.c[1].unhealthy = false;
        assert_string_equal(plan_text(&t), "start1");
}

/* Containers start in order; a postStart hook holds back those behind it, but not their images. */
static void test_post_start_holds_back(void **state)
{
        Case t;

        case_ready(&t, 3);
        t.c[1].post_start_pending = true;
        t.c[2].image = IMAGE_UNKNOWN;
        assert_string_equal(plan_text(&t), "start0 start1 image2");
        t.c[0].run = RUN_RUNNING;
        t.c[1].run = RUN_STARTING;
        t.c[1].in_post_start = true;
        t.c[2].image = IMAGE_READY;
        assert_string_equal(plan_text(&t), "");
        t.in.terminating = true;
        assert_string_equal(plan_text(&t), "stop0 stop1");
        t.in.terminating = t.c[1].in_post_start = false;
        t.c[1].post_start_pending = false;
        t.c[1].run = RUN_RUNNING;
        assert_string_equal(plan_text(&t), "start2");
        /* One that waits for its back-off holds nobody. */
        t.c[1].run = RUN_EXITED;
        t.c[1].post_start_pending = true;
        t.c[1].start_retry_ms = 5000;
        assert_string_equal(plan_text(&t), "backoff1 start2");
}

static void test_sidecar_starts_up_before_the_next(void **state)
{
        Case t;

        case_ready(&t, 3);
        t.c[0].kind = t.c[1].kind = CONTAINER_INIT;
        t.c[0].sidecar = true;
        t.c[0].run = RUN_RUNNING;
        t.c[0].starting_up = true;
        assert_string_equal(plan_text(&t), "");
        t.c[0].unhealthy = true;
        assert_string_equal(plan_text(&t), "stop0");
        t.c[0].unhealthy = t.c[0].starting_up = false;
        assert_string_equal(plan_text(&t), "start1");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_failed_probe_stops),
                cmocka_unit_test(test_post_start_holds_back),
                cmocka_unit_test(test_sidecar_starts_up_before_the_next),
                cmocka_unit_test(test_new_pod_starts_all_at_once),
                cmocka_unit_test(test_without_network_configuration),
                cmocka_unit_test(test_sandbox_backoff_wakes),
                cmocka_unit_test(test_init_containers_in_order),
                cmocka_unit_test(test_init_container_fails),
                cmocka_unit_test(test_sidecar_starts_first_and_stops_last),
                cmocka_unit_test(test_sidecar_restarts_beside_init_containers),
                cmocka_unit_test(test_sidecar_does_not_keep_a_pod_alive),
                cmocka_unit_test(test_sidecars_stop_in_reverse),
                cmocka_unit_test(test_new_sandbox_runs_init_containers_again),
                cmocka_unit_test(test_containers_have_policies_of_their_own),
                cmocka_unit_test(test_restart_of_all_containers),
                cmocka_unit_test(test_active_deadline),
                cmocka_unit_test(test_restart_policies),
                cmocka_unit_test(test_crash_loop_waits),
                cmocka_unit_test(test_image_backoff_waits),
                cmocka_unit_test(test_deletion_in_order),
                cmocka_unit_test(test_volumes_outlast_a_lost_sandbox),
                cmocka_unit_test(test_deletion_while_starting),
                cmocka_unit_test(test_lost_sandbox_is_made_anew),
                cmocka_unit_test(test_finished_pod_is_cleared_but_stays),
                cmocka_unit_test(test_changed_image_restarts),
                cmocka_unit_test(test_ephemeral_container_runs_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
