/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "base/str.h"

static void test_numbers(void **state)
{
        static const struct {
                const char *text;
                int result;
                int64_t value;
        } cases[] = {
                { "0", 0, 0 },
                { "-5", 0, -5 },
                { "100", 0, 100 },
                { "101", -ERANGE, 0 },
                { "-101", -ERANGE, 0 },
                { "", -EINVAL, 0 },
                { "-", -EINVAL, 0 },
                { "1x", -EINVAL, 0 },
                { " 1", -EINVAL, 0 },
                { "+1", -EINVAL, 0 },
                { "99999999999999999999", -ERANGE, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                int64_t value = 0;

                assert_int_equal(str_to_i64(cases[i].text, -100, 100, &value), cases[i].result);
                assert_int_equal(value, cases[i].value);
        }
}

static void test_names(void **state)
{
        char long_label[65];

        memset(long_label, 'a', 64);
        long_label[64] = '\0';
        assert_true(name_is_dns1123_label("a-1"));
        assert_false(name_is_dns1123_label("-a"));
        assert_false(name_is_dns1123_label("a."));
        assert_false(name_is_dns1123_label("A"));
        assert_false(name_is_dns1123_label(""));
        assert_false(name_is_dns1123_label(NULL));
        assert_false(name_is_dns1123_label(long_label));
        assert_true(name_is_dns1123_subdomain("a.b-c.d"));
        assert_false(name_is_dns1123_subdomain("a..b"));
        assert_false(name_is_dns1123_subdomain("a/b"));
        assert_false(name_is_dns1123_subdomain("../a"));
}

static void test_vectors(void **state)
{
        KL_AUTOSTRV v = NULL;
        KL_AUTOSTRV split = strv_split("a,,b,", ',');

        for (int i = 0; i < 100; i++)
                assert_int_equal(strv_addf(&v, "%d", i), 0);
        assert_int_equal(strv_len(v), 100);
        assert_string_equal(v[63], "63");
        assert_true(strv_contains(v, "99"));
        assert_false(strv_contains(v, "100"));
        assert_int_equal(strv_len(split), 2);
        assert_string_equal(split[1], "b");
}

static void test_hex(void **state)
{
        char a[65], b[65];

        hex_encode("\x00\xff\x10", 3, a);
        assert_string_equal(a, "00ff10");
        random_hex(a, 32);
        random_hex(b, 32);
        assert_int_equal(strlen(a), 64);
        assert_string_not_equal(a, b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_numbers),
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_vectors),
                cmocka_unit_test(test_hex),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
