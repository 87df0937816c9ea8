/* SPDX-License-Identifier: Apache-2.0 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "net/conn.h"
#include "net/url.h"

static void test_urls(void **state)
{
        static const struct {
                const char *text, *scheme, *userinfo, *host;
                int port;
                const char *path, *authority;
        } cases[] = {
                { "https://a", "https", NULL, "a", 443, "", "a" },
                { "HTTPS://a:6443/", "https", NULL, "a", 6443, "/", "a:6443" },
                { "http://10.0.0.1:80/x?y#z", "http", NULL, "10.0.0.1", 80, "/x?y", "10.0.0.1" },
                { "https://[fd00::1]:6443", "https", NULL, "fd00::1", 6443, "", "[fd00::1]:6443" },
                { "https://[fd00::1]", "https", NULL, "fd00::1", 443, "", "[fd00::1]" },
                { "http://u:p%40x@h:1/", "http", "u:p@x", "h", 1, "/", "h:1" },
                { "http://a@b@c:2", "http", "a@b", "c", 2, "", "c:2" },
                { "socks5://h:1", "socks5", NULL, "h", 1, "", "h:1" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTO(url_free) Url *url = NULL;

                assert_int_equal(url_parse(cases[i].text, &url, NULL), 0);
                assert_string_equal(url->scheme, cases[i].scheme);
                assert_true(str_eq(url->userinfo, cases[i].userinfo));
                assert_string_equal(url->host, cases[i].host);
                assert_int_equal(url->port, cases[i].port);
                assert_string_equal(url->path, cases[i].path);
                assert_string_equal(url->authority, cases[i].authority);
        }
}

static void test_no_urls(void **state)
{
        static const char *const cases[] = { "",
                                             "a",
                                             "://a",
                                             "https://",
                                             "https://:1",
                                             "https://a:x",
                                             "https://a:0",
                                             "https://a:65536",
                                             "https://[a",
                                             "https://[::1]x",
                                             "https://a b",
                                             "https://a/\n" };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                Url *url = NULL;
                KL_AUTOERR err = NULL;

                assert_int_equal(url_parse(cases[i], &url, &err), -EINVAL);
                assert_non_null(err);
                assert_null(url);
        }
}

static void test_proxies(void **state)
{
        KL_AUTO(conn_proxy_free) ConnProxy *plain = NULL;
        KL_AUTO(conn_proxy_free) ConnProxy *full = NULL;
        ConnProxy *none = NULL;

        assert_int_equal(conn_proxy_parse("proxy:3128", &plain, NULL), 0);
        assert_string_equal(plain->host, "proxy");
        assert_int_equal(plain->port, 3128);
        assert_null(plain->authorization);
        assert_int_equal(conn_proxy_parse("http://u:p@10.0.0.1", &full, NULL), 0);
        assert_int_equal(full->port, 80);
        assert_string_equal(full->authorization, "Basic dTpw");
        assert_int_equal(conn_proxy_parse("https://proxy", &none, NULL), -EPROTONOSUPPORT);
        assert_int_equal(conn_proxy_parse("http://", &none, NULL), -EINVAL);
}

static void test_no_proxy(void **state)
{
        static const struct {
                const char *list, *host;
                int port;
                bool excepted;
        } cases[] = {
                { NULL, "localhost", 1, true },
                { NULL, "127.0.0.1", 1, true },
                { NULL, "::1", 1, true },
                { NULL, "a.example", 1, false },
                { "*", "a.example", 1, true },
                { "example", "a.example", 1, true },
                { "example", "example", 1, true },
                { "example", "badexample", 1, false },
                { ".example", "a.example", 1, true },
                { ".example", "example", 1, false },
                { "*.example", "a.example", 1, true },
                { "x, Example:6443 ,y", "a.EXAMPLE", 6443, true },
                { "example:6443", "a.example", 443, false },
                { "10.0.0.0/8", "10.255.0.1", 1, true },
                { "10.0.0.0/8", "11.0.0.1", 1, false },
                { "10.0.0.0/8", "a.example", 1, false },
                { "10.0.0.0/33,fd00::/9", "fd7f::1", 1, true },
                { "fd00::/9", "fd80::1", 1, false },
                { "10.0.0.1", "10.0.0.1", 1, true },
                { "fd00::1", "fd00::1", 1, true },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                if (conn_proxy_excepts(cases[i].list, cases[i].host, (uint16_t)cases[i].port) !=
                    cases[i].excepted)
                        fail_msg("'%s' and %s", cases[i].list, cases[i].host);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_urls),
                cmocka_unit_test(test_no_urls),
                cmocka_unit_test(test_proxies),
                cmocka_unit_test(test_no_proxy),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
