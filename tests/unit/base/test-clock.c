/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "base/clock.h"
#include "base/str.h"

static void test_formats(void **state)
{
        char text[TIME_RFC3339_SIZE];

        time_format_rfc3339(1600000000999999, text);
        assert_string_equal(text, "2020-09-13T12:26:40Z");
        time_format_rfc3339_micro(1600000000000001, text);
        assert_string_equal(text, "2020-09-13T12:26:40.000001Z");
        time_format_rfc3339_nano(0, 5, text);
        assert_string_equal(text, "1970-01-01T00:00:00.000000005Z");
        time_format_rfc3339_micro(-1, text);
        assert_string_equal(text, "1969-12-31T23:59:59.999999Z");
}

static void test_parsing(void **state)
{
        static const struct {
                const char *text;
                int64_t us;
        } good[] = {
                { "2020-09-13T12:26:40Z", 1600000000000000 },
                { "2020-09-13T14:26:40+02:00", 1600000000000000 },
                { "2020-09-13T12:26:40.5Z", 1600000000500000 },
                { "2020-09-13T12:26:40.123456789Z", 1600000000123456 },
        };
        static const char *const bad[] = { "",
                                           "2020",
                                           "2020-13-01T00:00:00Z",
                                           "2020-01-01 00:00:00",
                                           "2020-01-01T00:00:00",
                                           "2020-01-01T00:00:00.Z",
                                           "2020-01-01T00:00:00Zx",
                                           "2020-01-01T25:00:00Z" };
        int64_t us;

        for (size_t i = 0; i < ELEMENTS(good); i++) {
                assert_int_equal(time_parse_rfc3339(good[i].text, &us), 0);
                assert_int_equal(us, good[i].us);
        }
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(time_parse_rfc3339(bad[i], &us), -EINVAL);
}

static void test_durations(void **state)
{
        static const struct {
                const char *text;
                int64_t us;
        } good[] = {
                { "0", 0 },
                { "0s", 0 },
                { "10s", 10000000 },
                { "1m30s", 90000000 },
                { "1.5h", 5400000000 },
                { "100ms", 100000 },
                { "-5s", -5000000 },
                { "1us", 1 },
        };
        static const char *const bad[] = { "", "5", "s", "1x", "1s ", "--1s", "1.s.2" };
        int64_t us;

        for (size_t i = 0; i < ELEMENTS(good); i++) {
                assert_int_equal(time_parse_duration(good[i].text, &us), 0);
                assert_int_equal(us, good[i].us);
        }
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(time_parse_duration(bad[i], &us), -EINVAL);
        assert_int_equal(time_parse_duration("99999999999h", &us), -ERANGE);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_formats),
                cmocka_unit_test(test_parsing),
                cmocka_unit_test(test_durations),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
