/* SPDX-License-Identifier: Apache-2.0 */

#include "runtime/caps-internal.h"

#include "base/str.h"

#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static uint64_t resolve(const char *add, const char *drop, bool privileged)
{
        KL_AUTOSTRV a = strv_split(add, ' ');
        KL_AUTOSTRV d = strv_split(drop, ' ');
        uint64_t set = 0;

        assert_int_equal(caps_resolve(a, d, privileged, CAP_BIT(41) - 1, &set, NULL), 0);
        return set;
}

static void test_names(void **state)
{
        for (unsigned int i = 0; i <= CAP_LAST_CAP; i++) {
                assert_non_null(cap_name(i));
                assert_int_equal(cap_from_name(cap_name(i)), (int)i);
                assert_int_equal(cap_from_name(cap_name(i) + 4), (int)i);
        }
        assert_null(cap_name(CAP_LAST_CAP + 1));
        assert_int_equal(cap_from_name("net_admin"), CAP_NET_ADMIN);
        assert_int_equal(cap_from_name("cap_sys_time"), CAP_SYS_TIME);
        assert_int_equal(cap_from_name("CAP_"), -EINVAL);
        assert_int_equal(cap_from_name("CAP_ALL"), -EINVAL);
}

static void test_sets(void **state)
{
        uint64_t all = CAP_BIT(41) - 1, some = caps_default();

        assert_int_equal(resolve("", "", false), some);
        assert_int_equal(resolve("NET_ADMIN", "", false), some | CAP_BIT(CAP_NET_ADMIN));
        assert_int_equal(resolve("", "MKNOD CAP_CHOWN", false),
                         some & ~(CAP_BIT(CAP_MKNOD) | CAP_BIT(CAP_CHOWN)));
        assert_int_equal(resolve("", "ALL", false), 0);
        assert_int_equal(resolve("KILL", "ALL", false), CAP_BIT(CAP_KILL));
        assert_int_equal(resolve("ALL", "", false), all);
        assert_int_equal(resolve("ALL", "SYS_ADMIN", false), all & ~CAP_BIT(CAP_SYS_ADMIN));
        assert_int_equal(resolve("KILL", "KILL", false), some & ~CAP_BIT(CAP_KILL));
        assert_int_equal(resolve("", "ALL", true), all);
}

static void test_limits(void **state)
{
        KL_AUTOERR err = NULL;
        KL_AUTOSTRV bad = strv_split("NET_ADMIN FLY", ' ');
        uint64_t set = 1;

        assert_int_equal(caps_resolve(bad, NULL, false, UINT64_MAX, &set, &err), -EINVAL);
        assert_string_equal(err->reason, "CreateContainerError");
        assert_string_equal(err->msg, "unknown capability \"FLY\"");
        /* What the node itself has not got, nobody gets. */
        assert_int_equal(caps_resolve(NULL, NULL, true, CAP_BIT(CAP_KILL), &set, NULL), 0);
        assert_int_equal(set, CAP_BIT(CAP_KILL));
        assert_true((caps_available() & ~(CAP_BIT(CAP_LAST_CAP + 1) - 1)) == 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_sets),
                cmocka_unit_test(test_limits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
