/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "base/str.h"
#include "metrics/exposition.h"

#include <math.h>

static void test_values_read_back_as_they_were(void **state)
{
        static const struct {
                double value;
                const char *text;
        } cases[] = {
                { 0, "0" },
                { 1, "1" },
                { -3, "-3" },
                { 4063.546676348, "4063.546676348" },
                { 0.1, "0.1" },
                { 1.0 / 3, "0.3333333333333333" },
                { 2.8073984e+07, "28073984" },
                { 9007199254740992, "9007199254740992" },
                { 1e300, "1e+300" },
                { 1.795215832170151e+09, "1795215832.170151" },
                { INFINITY, "+Inf" },
                { -INFINITY, "-Inf" },
                { NAN, "NaN" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char text[EXPO_VALUE_SIZE];

                expo_format(cases[i].value, text);
                assert_string_equal(text, cases[i].text);
        }
}

static void test_a_family_with_hostile_texts(void **state)
{
        KL_AUTOBUF to = BUF_INIT;
        ExpoSample sample;

        expo_family(&to, "a_total", "back\\slash \"quotes\" and\na line", EXPO_COUNTER);
        sample = expo_begin(&to, "a_total", "");
        expo_label(&sample, "one", "\\ \" \n \xff\xfe\xc3\xa9 \xed\xa0\x80");
        expo_label(&sample, "two", NULL);
        expo_end(&sample, 0.5, 1795215871925);
        sample = expo_begin(&to, "a", "_bare");
        expo_end_u64(&sample, UINT64_MAX, 0);
        assert_string_equal(buf_str(&to),
                            "# HELP a_total back\\\\slash \"quotes\" and\\na line\n"
                            "# TYPE a_total counter\n"
                            "a_total{one=\"\\\\ \\\" \\n \xef\xbf\xbd\xef\xbf\xbd\xc3\xa9 "
                            "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",two=\"\"} 0.5 1795215871925\n"
                            "a_bare 18446744073709551615\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_values_read_back_as_they_were),
                cmocka_unit_test(test_a_family_with_hostile_texts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
