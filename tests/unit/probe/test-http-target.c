/* SPDX-License-Identifier: Apache-2.0 */

/* Paths of handlers and locations of redirects. */

#include "../unit.h"
#include "base/str.h"
#include "probe/probe-internal.h"

static void test_targets(void **state)
{
        static const struct {
                const char *path, *target;
        } cases[] = {
                { "/", "/" },
                { "", "/" },
                { "healthz", "/healthz" },
                { "/a?b=c&d", "/a?b=c&d" },
                { "?q", "/?q" },
                { "/a#fragment", "/a" },
                { "/a b\r\nX: y", "/a%20b%0D%0AX:%20y" },
                { "/%41%zz%", "/%41%25zz%25" },
                { "/\xc3\xa9", "/%C3%A9" },
                { "http://elsewhere:80/x?y", "/x?y" },
                { "//elsewhere/x", "/x" },
                { "/a://b", "/a://b" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *target = http_target(cases[i].path);

                assert_string_equal(target, cases[i].target);
                assert_true(http_target_is_valid(target));
        }
}

static void test_redirects(void **state)
{
        static const struct {
                const char *location;
                int names_host;
                bool https;
                const char *host;
                uint16_t port;
                const char *target;
        } cases[] = {
                { "/x", 0, false, "h", 81, "/x" },
                { "x", 0, false, "h", 81, "/a/x" },
                { "?x", 0, false, "h", 81, "/a/b?x" },
                { "../../x/./y/..", 0, false, "h", 81, "/x/" },
                { "//other/x", 1, false, "other", 80, "/x" },
                { "https://h/x?y", 1, true, "h", 443, "/x?y" },
                { "http://h:82", 1, false, "h", 82, "/" },
                { "http://[::1]:82/", 1, false, "::1", 82, "/" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                HttpPlace from = { .host = strdup("h"), .target = strdup("/a/b?c"), .port = 81 },
                          to;

                assert_int_equal(http_place_follow(&from, cases[i].location, &to, NULL),
                                 cases[i].names_host);
                assert_int_equal(to.https, cases[i].https);
                assert_string_equal(to.host, cases[i].host);
                assert_int_equal(to.port, cases[i].port);
                assert_string_equal(to.target, cases[i].target);
                http_place_deinit(&from);
                http_place_deinit(&to);
        }
}

static void test_bad_redirects(void **state)
{
        static const char *const locations[] = { "ftp://h/", "http://", "http://h:port/", "http:" };

        for (size_t i = 0; i < ELEMENTS(locations); i++) {
                HttpPlace from = { .host = strdup("h"), .target = strdup("/"), .port = 81 }, to;

                assert_true(http_place_follow(&from, locations[i], &to, NULL) < 0);
                http_place_deinit(&from);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_targets),
                cmocka_unit_test(test_redirects),
                cmocka_unit_test(test_bad_redirects),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
