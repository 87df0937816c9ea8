/* SPDX-License-Identifier: Apache-2.0 */

/* Thresholds and times of probes, from literals. */

#include "../unit.h"
#include "probe/state.h"

#define S 1000ULL
#define START (100 * S) /* the container runs since then */

static const Probe every_10_s = { .period_s = 10, .success_threshold = 1, .failure_threshold = 3 };

static ProbeView running(bool started)
{
        return (ProbeView){ .running = true, .started = started, .running_since_ms = START };
}

static ProbeState fresh(ProbeKind kind)
{
        ProbeState s;

        probe_state_init(&s, kind);
        return s;
}

static void test_first_verdicts(void **state)
{
        assert_int_equal(fresh(PROBE_LIVENESS).verdict, VERDICT_SUCCESS);
        assert_int_equal(fresh(PROBE_READINESS).verdict, VERDICT_FAILURE);
        assert_int_equal(fresh(PROBE_STARTUP).verdict, VERDICT_OPEN);
}

static void test_failure_threshold(void **state)
{
        ProbeState s = fresh(PROBE_LIVENESS);

        assert_false(probe_state_observe(&s, &every_10_s, PROBE_FAILURE));
        assert_false(probe_state_observe(&s, &every_10_s, PROBE_FAILURE));
        /* One success starts the count anew. */
        assert_false(probe_state_observe(&s, &every_10_s, PROBE_SUCCESS));
        assert_false(probe_state_observe(&s, &every_10_s, PROBE_FAILURE));
        assert_false(probe_state_observe(&s, &every_10_s, PROBE_FAILURE));
        assert_true(probe_state_observe(&s, &every_10_s, PROBE_FAILURE));
        assert_int_equal(s.verdict, VERDICT_FAILURE);
        assert_true(s.held);
        /* It stays that way in this run. */
        assert_false(probe_state_observe(&s, &every_10_s, PROBE_SUCCESS));
        assert_int_equal(s.verdict, VERDICT_FAILURE);
}

static void test_success_threshold(void **state)
{
        Probe probe = every_10_s;
        ProbeState s = fresh(PROBE_READINESS);

        probe.success_threshold = 2;
        probe.failure_threshold = 1;
        assert_false(probe_state_observe(&s, &probe, PROBE_SUCCESS));
        assert_true(probe_state_observe(&s, &probe, PROBE_SUCCESS));
        assert_int_equal(s.verdict, VERDICT_SUCCESS);
        assert_true(probe_state_observe(&s, &probe, PROBE_FAILURE));
        assert_false(s.held);
        assert_false(probe_state_observe(&s, &probe, PROBE_SUCCESS));
        assert_true(probe_state_observe(&s, &probe, PROBE_SUCCESS));
}

static void test_warning_is_a_success_and_unknown_is_nothing(void **state)
{
        ProbeState s = fresh(PROBE_READINESS);

        assert_true(probe_state_observe(&s, &every_10_s, PROBE_WARNING));
        assert_int_equal(s.verdict, VERDICT_SUCCESS);
        assert_false(probe_state_observe(&s, &every_10_s, PROBE_FAILURE));
        assert_false(probe_state_observe(&s, &every_10_s, PROBE_UNKNOWN));
        assert_false(probe_state_observe(&s, &every_10_s, PROBE_FAILURE));
        assert_true(probe_state_observe(&s, &every_10_s, PROBE_FAILURE));
}

static void test_first_try(void **state)
{
        Probe delayed = every_10_s;
        ProbeView started = running(true), starting = running(false);
        ProbeState live = fresh(PROBE_LIVENESS), ready = fresh(PROBE_READINESS),
                   startup = fresh(PROBE_STARTUP), late = fresh(PROBE_LIVENESS);

        delayed.initial_delay_s = 4;
        assert_int_equal(probe_due_ms(&ready, &every_10_s, &started, START, 0), START);
        assert_int_equal(probe_due_ms(&startup, &every_10_s, &starting, START, 0), START);
        assert_int_equal(probe_due_ms(&live, &every_10_s, &started, START, 0), START + 10 * S);
        assert_int_equal(probe_due_ms(&late, &delayed, &started, START, 0), START + 4 * S);
}

static void test_period(void **state)
{
        ProbeView view = running(true);
        ProbeState s = fresh(PROBE_READINESS);

        assert_int_equal(probe_due_ms(&s, &every_10_s, &view, START, 0), START);
        probe_state_tried(&s, &every_10_s, START + 3);
        assert_int_equal(probe_due_ms(&s, &every_10_s, &view, START + 5, 0), START + 10 * S);
        /* A try that took 25 s is followed at once, not by all that were missed. */
        probe_state_tried(&s, &every_10_s, START + 35 * S);
        assert_int_equal(probe_due_ms(&s, &every_10_s, &view, START + 35 * S, 0), START + 35 * S);
        probe_state_tried(&s, &every_10_s, START + 35 * S);
        assert_int_equal(probe_due_ms(&s, &every_10_s, &view, START + 36 * S, 0), START + 45 * S);
}

static void test_startup_holds_back_the_others(void **state)
{
        ProbeView starting = running(false), started = running(true);
        ProbeState live = fresh(PROBE_LIVENESS), ready = fresh(PROBE_READINESS),
                   startup = fresh(PROBE_STARTUP);

        assert_int_equal(probe_due_ms(&live, &every_10_s, &starting, START, 0), 0);
        assert_int_equal(probe_due_ms(&ready, &every_10_s, &starting, START, 0), 0);
        assert_int_equal(probe_due_ms(&startup, &every_10_s, &started, START, 0), 0);
        /* Whatever delay they have counts from the container's start. */
        assert_int_equal(probe_due_ms(&ready, &every_10_s, &started, START + 7 * S, 0),
                         START + 7 * S);
        assert_int_equal(probe_due_ms(&live, &every_10_s, &started, START + 77 * S, 0),
                         START + 77 * S);
}

static void test_termination_leaves_readiness(void **state)
{
        ProbeView view = running(true), starting = running(false);
        ProbeState live = fresh(PROBE_LIVENESS), ready = fresh(PROBE_READINESS),
                   startup = fresh(PROBE_STARTUP);

        view.terminating = starting.terminating = true;
        assert_int_equal(probe_due_ms(&live, &every_10_s, &view, START, 0), 0);
        assert_int_equal(probe_due_ms(&startup, &every_10_s, &starting, START, 0), 0);
        assert_int_equal(probe_due_ms(&ready, &every_10_s, &view, START, 0), START);
}

static void test_not_running_and_held(void **state)
{
        ProbeView view = running(true), none = { .started = true };
        ProbeState s = fresh(PROBE_LIVENESS);

        assert_int_equal(probe_due_ms(&s, &every_10_s, &none, START, 0), 0);
        for (int i = 0; i < 3; i++)
                probe_state_observe(&s, &every_10_s, PROBE_FAILURE);
        assert_int_equal(probe_due_ms(&s, &every_10_s, &view, START + 90 * S, 0), 0);
}

static void test_restart_of_the_daemon(void **state)
{
        ProbeView view = running(true);
        ProbeState s = fresh(PROBE_READINESS);

        probe_state_restore(&s, VERDICT_SUCCESS);
        assert_int_equal(s.verdict, VERDICT_SUCCESS);
        /* Spread over a period, once. */
        assert_int_equal(probe_due_ms(&s, &every_10_s, &view, START + 50 * S, 4321),
                         START + 50 * S + 4321);
        assert_int_equal(probe_due_ms(&s, &every_10_s, &view, START + 51 * S, 0),
                         START + 50 * S + 4321);
        /* Failing needs the whole threshold. */
        assert_false(probe_state_observe(&s, &every_10_s, PROBE_FAILURE));
        assert_false(probe_state_observe(&s, &every_10_s, PROBE_FAILURE));
        assert_true(probe_state_observe(&s, &every_10_s, PROBE_FAILURE));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_first_verdicts),
                cmocka_unit_test(test_failure_threshold),
                cmocka_unit_test(test_success_threshold),
                cmocka_unit_test(test_warning_is_a_success_and_unknown_is_nothing),
                cmocka_unit_test(test_first_try),
                cmocka_unit_test(test_period),
                cmocka_unit_test(test_startup_holds_back_the_others),
                cmocka_unit_test(test_termination_leaves_readiness),
                cmocka_unit_test(test_not_running_and_held),
                cmocka_unit_test(test_restart_of_the_daemon),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
