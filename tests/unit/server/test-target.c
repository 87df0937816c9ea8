/* SPDX-License-Identifier: Apache-2.0 */

#include "base/str.h"
#include "server/log-options.h"
#include "server/target.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_paths(void **state)
{
        Target t;

        assert_int_equal(target_parse("/a/b%2Fc/d+e/?x=1&y=a%20b+c&x=2&z", &t), 0);
        assert_int_equal(t.n_segments, 3);
        assert_string_equal(t.segments[0], "a");
        assert_string_equal(t.segments[1], "b/c");
        assert_string_equal(t.segments[2], "d+e");
        assert_true(t.ends_in_slash);
        assert_int_equal(t.n_parameters, 4);
        assert_string_equal(target_get(&t, "x"), "1");
        assert_string_equal(target_get(&t, "y"), "a b c");
        assert_string_equal(t.parameters[2].value, "2");
        assert_string_equal(target_get(&t, "z"), "");
        assert_null(target_get(&t, "w"));
        target_deinit(&t);
        assert_int_equal(target_parse("/", &t), 0);
        assert_int_equal(t.n_segments, 0);
        target_deinit(&t);
}

static void test_refusals(void **state)
{
        static const char *const bad[] = { "",        "a",       "http://h/a",  "/a//b",
                                           "//a",     "/a/../b", "/a/%2e%2e/b", "/a/%2E/",
                                           "/a/./b",  "/%",      "/%4",         "/%zz",
                                           "/a%00b",  "/a?x=%0", "/a?%gg",      "/..",
                                           "/a/%2e.", "*",       "/a?x=%00" };
        Target t;

        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(target_parse(bad[i], &t), -EINVAL);
}

static void test_limits(void **state)
{
        char text[4096] = "";
        Target t;

        for (size_t i = 0; i <= TARGET_SEGMENTS_MAX; i++)
                memcpy(text + 2 * i, "/a", 3);
        assert_int_equal(target_parse(text, &t), -E2BIG);
        text[2 * TARGET_SEGMENTS_MAX] = '\0';
        assert_int_equal(target_parse(text, &t), 0);
        target_deinit(&t);
        memcpy(text, "/?", 3);
        for (size_t i = 0; i <= TARGET_PARAMETERS_MAX; i++)
                memcpy(text + 2 + 2 * i, "a&", 3);
        assert_int_equal(target_parse(text, &t), -E2BIG);
}

static void test_log_options(void **state)
{
        static const struct {
                const char *query;
                int code;
        } cases[] = {
                { "/", 0 },
                { "/?follow=true&tailLines=0&limitBytes=1", 0 },
                { "/?tailLines=-1", -EDOM },
                { "/?tailLines=", -EINVAL },
                { "/?limitBytes=0", -EDOM },
                { "/?sinceSeconds=9223372036854775807", 0 },
                { "/?sinceSeconds=9223372036854775808", -EINVAL },
                { "/?sinceTime=2026-01-01T00:00:00Z", 0 },
                { "/?sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1", -EDOM },
                { "/?stream=Stdout", 0 },
                { "/?stream=x", -EDOM },
                { "/?stream=Stderr&tailLines=1", -EDOM },
                { "/?stream=All&tailLines=1", 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOERR err = NULL;
                LogOptions options;
                Target t;

                assert_int_equal(target_parse(cases[i].query, &t), 0);
                assert_int_equal(log_options_parse(&t, &options, &err), cases[i].code);
                target_deinit(&t);
        }
}

static void test_booleans(void **state)
{
        Target t;

        assert_int_equal(target_parse("/?a=true&b=1&c&d=false&e=0&f=FALSE&g=no", &t), 0);
        assert_true(target_bool(&t, "a") && target_bool(&t, "b") && target_bool(&t, "c"));
        assert_false(target_bool(&t, "d") || target_bool(&t, "e") || target_bool(&t, "f"));
        assert_true(target_bool(&t, "g"));
        assert_false(target_bool(&t, "h"));
        target_deinit(&t);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_paths),    cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_limits),   cmocka_unit_test(test_log_options),
                cmocka_unit_test(test_booleans),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
