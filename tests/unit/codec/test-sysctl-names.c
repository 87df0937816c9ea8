/* SPDX-License-Identifier: Apache-2.0 */

/* Names of sysctls: syntax, the two ways to write them, whose they are. */

#include "codec/sysctl-names.h"

#include "../unit.h"
#include "base/str.h"

static void test_syntax(void **state)
{
        static const char *const good[] = { "a", "kernel.shm_rmid_forced", "net/ipv4/tcp_rmem",
                                            "net.ipv4.conf.eno2/100.rp_filter", "a-b.c_d" };
        static const char *const bad[] = { "",       ".",      "a.",  "/a",       "a..b", "a//b",
                                           "../etc", "a/../b", "A.b", "a b",      "a+b",  "a=b",
                                           "a\n",    "-a",     "a-",  "kernel.*", "a|b" };
        char longest[SYSCTL_NAME_MAX + 2];

        for (size_t i = 0; i < ELEMENTS(good); i++) {
                assert_true(sysctl_name_is_valid(good[i]));
                assert_true(sysctl_pattern_is_valid(good[i]));
        }
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                if (sysctl_name_is_valid(bad[i]))
                        fail_msg("'%s'", bad[i]);
        memset(longest, 'a', sizeof(longest) - 1);
        longest[SYSCTL_NAME_MAX + 1] = '\0';
        assert_false(sysctl_name_is_valid(longest));
        assert_true(sysctl_name_is_valid(longest + 1));
        assert_true(sysctl_pattern_is_valid("kernel.shm*"));
        assert_true(sysctl_pattern_is_valid("net.*"));
        assert_false(sysctl_pattern_is_valid("net.*.x"));
        assert_false(sysctl_pattern_is_valid("net.**"));
        assert_false(sysctl_pattern_is_valid("net.-*"));
}

static void test_separators(void **state)
{
        static const struct {
                const char *name, *dotted, *path;
        } cases[] = {
                { "net.ipv4.tcp_rmem", "net.ipv4.tcp_rmem", "net/ipv4/tcp_rmem" },
                { "net/ipv4/tcp_rmem", "net.ipv4.tcp_rmem", "net/ipv4/tcp_rmem" },
                { "net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter",
                  "net/ipv4/conf/eno2.100/rp_filter" },
                { "net.ipv4.conf.eno2/100.rp_filter", "net.ipv4.conf.eno2/100.rp_filter",
                  "net/ipv4/conf/eno2.100/rp_filter" },
                { "plain", "plain", "plain" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char name[64];

                snprintf(name, sizeof(name), "%s", cases[i].name);
                sysctl_name_to_dots(name);
                assert_string_equal(name, cases[i].dotted);
                sysctl_name_to_path(name);
                assert_string_equal(name, cases[i].path);
        }
}

static void test_namespaces(void **state)
{
        assert_string_equal(sysctl_namespace("kernel.sem"), "ipc");
        assert_string_equal(sysctl_namespace("kernel.shmmax"), "ipc");
        assert_string_equal(sysctl_namespace("kernel.msgmax"), "ipc");
        assert_string_equal(sysctl_namespace("fs.mqueue.msg_max"), "ipc");
        assert_string_equal(sysctl_namespace("net.core.somaxconn"), "net");
        assert_null(sysctl_namespace("kernel.semaphore"));
        assert_null(sysctl_namespace("kernel.core_pattern"));
        assert_null(sysctl_namespace("netx"));
        assert_null(sysctl_namespace("vm.swappiness"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_syntax),
                cmocka_unit_test(test_separators),
                cmocka_unit_test(test_namespaces),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
