/* SPDX-License-Identifier: Apache-2.0 */

/* The kernel's list of AppArmor profiles, and names that are none. */

#include "runtime/runtime-internal.h"

#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_loaded(void **state)
{
        static const char list[] = "/usr/bin/man (enforce)\nmine (complain)\nwith space (enforce)\n"
                                   "kubelite-default (enforce)";

        assert_true(apparmor_is_loaded(list, "/usr/bin/man"));
        assert_true(apparmor_is_loaded(list, "mine"));
        assert_true(apparmor_is_loaded(list, "with space"));
        assert_true(apparmor_is_loaded(list, APPARMOR_DEFAULT));
        assert_false(apparmor_is_loaded(list, "min"));
        assert_false(apparmor_is_loaded(list, "mine (complain)"));
        assert_false(apparmor_is_loaded(list, "space"));
        assert_false(apparmor_is_loaded("", "mine"));
}

static void test_names(void **state)
{
        KL_AUTOFREE char *longest = calloc(1, APPARMOR_NAME_MAX + 2);

        memset(longest, 'a', APPARMOR_NAME_MAX + 1);
        assert_int_equal(apparmor_check(NULL, NULL), 0);
        assert_int_equal(apparmor_check("", NULL), 0);
        assert_int_equal(apparmor_check("a\nb", NULL), -EINVAL);
        assert_int_equal(apparmor_check(longest, NULL), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_loaded),
                cmocka_unit_test(test_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
