/* SPDX-License-Identifier: Apache-2.0 */

/* What needs no server: escaping, and what the event correlator decides. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/client.h"
#include "api/events-internal.h"
#include "base/str.h"

static void test_escape(void **state)
{
        static const struct {
                const char *from, *to;
        } cases[] = {
                { "", "" },
                { "plain-text_1.2~", "plain-text_1.2~" },
                { "spec.nodeName=a b", "spec.nodeName%3Da%20b" },
                { "a/b?c&d%", "a%2Fb%3Fc%26d%25" },
                { "\xc3\xa9", "%C3%A9" },
        };
        char small[8];

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char buf[64];

                api_escape(buf, sizeof(buf), cases[i].from);
                assert_string_equal(buf, cases[i].to);
        }
        /* Never half an escape. */
        api_escape(small, sizeof(small), "////");
        assert_string_equal(small, "%2F%2F");
}

static const EventObject pod = { "v1", "Pod", "ns", "p", "uid", NULL, "spec.containers{c}" };

static void test_equal_events_share_a_key(void **state)
{
        KL_AUTO(correlator_free) Correlator *c = correlator_new();
        EventObject other = pod;
        const struct {
                const EventObject *object;
                const char *type, *reason, *message;
        } different[] = { { &pod, "Normal", "Started", "other" },
                          { &pod, "Normal", "Stopped", "m" },
                          { &pod, "Warning", "Started", "m" },
                          { &other, "Normal", "Started", "m" } };
        KL_AUTOFREE char *first = NULL;
        KL_AUTOFREE char *again = NULL;

        other.field_path = "spec.containers{d}";
        assert_false(correlator_aggregate(c, &pod, "Normal", "Started", "m", 0, &first));
        assert_false(correlator_aggregate(c, &pod, "Normal", "Started", "m", 1, &again));
        assert_string_equal(first, again);
        for (size_t i = 0; i < ELEMENTS(different); i++) {
                KL_AUTOFREE char *key = NULL;

                correlator_aggregate(c, different[i].object, different[i].type, different[i].reason,
                                     different[i].message, 2, &key);
                assert_string_not_equal(first, key);
        }
}

static void test_similar_events_are_aggregated(void **state)
{
        KL_AUTO(correlator_free) Correlator *c = correlator_new();
        KL_AUTOFREE char *tenth = NULL;
        KL_AUTOFREE char *eleventh = NULL;
        KL_AUTOFREE char *known = NULL;
        KL_AUTOFREE char *later = NULL;

        for (int i = 0; i < EVENTS_SIMILAR_MAX - 1; i++) {
                KL_AUTOFREE char *message = str_format("try %d", i);
                KL_AUTOFREE char *key = NULL;

                assert_false(correlator_aggregate(c, &pod, "Warning", "Failed", message, 0, &key));
        }
        assert_true(correlator_aggregate(c, &pod, "Warning", "Failed", "tenth", 0, &tenth));
        assert_true(correlator_aggregate(c, &pod, "Warning", "Failed", "eleventh", 0, &eleventh));
        assert_string_equal(tenth, eleventh);
        assert_true(correlator_aggregate(c, &pod, "Warning", "Failed", "try 0", 1, &known));
        assert_false(correlator_aggregate(c, &pod, "Warning", "Failed", "x", EVENTS_WINDOW_MS + 2,
                                          &later));
        correlator_sweep(c, 3 * (uint64_t)EVENTS_WINDOW_MS);
        assert_int_equal(correlator_size(c), 0);
}

static void test_spam_is_dropped(void **state)
{
        KL_AUTO(correlator_free) Correlator *c = correlator_new();
        EventObject other = pod;

        other.name = "q";
        for (int i = 0; i < EVENTS_BURST; i++)
                assert_true(correlator_admit(c, &pod, 0));
        assert_false(correlator_admit(c, &pod, EVENTS_REFILL_MS - 1));
        assert_true(correlator_admit(c, &other, EVENTS_REFILL_MS - 1));
        assert_true(correlator_admit(c, &pod, EVENTS_REFILL_MS));
        assert_false(correlator_admit(c, &pod, EVENTS_REFILL_MS + 1));
        correlator_sweep(c, EVENTS_REFILL_MS * 5);
        assert_int_equal(correlator_size(c), 1);
        correlator_sweep(c, (uint64_t)EVENTS_REFILL_MS * EVENTS_BURST * 2);
        assert_int_equal(correlator_size(c), 0);
}

static void test_memory_is_bounded(void **state)
{
        KL_AUTO(correlator_free) Correlator *c = correlator_new();

        for (int i = 0; i < 3 * EVENTS_KNOWN_MAX; i++) {
                KL_AUTOFREE char *name = str_format("p%d", i);
                KL_AUTOFREE char *key = NULL;
                EventObject object = pod;

                object.name = name;
                correlator_aggregate(c, &object, "Normal", "Started", "m", 0, &key);
                assert_non_null(key);
                assert_true(correlator_admit(c, &object, 0));
        }
        assert_true(correlator_size(c) <= 2 * EVENTS_KNOWN_MAX);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_escape),
                cmocka_unit_test(test_equal_events_share_a_key),
                cmocka_unit_test(test_similar_events_are_aggregated),
                cmocka_unit_test(test_spam_is_dropped),
                cmocka_unit_test(test_memory_is_bounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
