/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "api/quantity.h"
#include "base/str.h"

static void test_values(void **state)
{
        static const struct {
                const char *text;
                int64_t value, milli;
        } good[] = {
                { "0", 0, 0 },
                { "1", 1, 1000 },
                { "100m", 1, 100 },
                { "1500m", 2, 1500 },
                { "0.5", 1, 500 },
                { "1Ki", 1024, 1024000 },
                { "1.5Gi", 1610612736, 1610612736000 },
                { "1k", 1000, 1000000 },
                { "2e3", 2000, 2000000 },
                { "2E3", 2000, 2000000 },
                { "1e-3", 1, 1 },
                { "1n", 1, 1 },
                { "-1", -1, -1000 },
                { "+5", 5, 5000 },
                { ".5", 1, 500 },
                { "9999999999999Ei", INT64_MAX, INT64_MAX },
        };
        static const char *const bad[] = { "",   "x",    "1x", "1 ", "--1",   "1.2.3",
                                           "Ki", "1KiB", "e3", "1e", "1e999", "." };
        int64_t value;

        for (size_t i = 0; i < ELEMENTS(good); i++) {
                assert_int_equal(quantity_value(good[i].text, &value), 0);
                assert_int_equal(value, good[i].value);
                assert_int_equal(quantity_milli(good[i].text, &value), 0);
                assert_int_equal(value, good[i].milli);
        }
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(quantity_value(bad[i], &value), -EINVAL);
}

static void test_formats(void **state)
{
        char text[QUANTITY_SIZE];

        quantity_format_milli(1500, text);
        assert_string_equal(text, "1500m");
        quantity_format_milli(2000, text);
        assert_string_equal(text, "2");
        quantity_format_bytes(25276502016, text);
        assert_string_equal(text, "24684084Ki");
        quantity_format_bytes(0, text);
        assert_string_equal(text, "0");
        quantity_format_bytes(1000, text);
        assert_string_equal(text, "1000");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_formats),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
