/* SPDX-License-Identifier: Apache-2.0 */

/* Addresses, prefixes and hardware addresses of the CNI plugins. */

#include "base/str.h"
#include "cni/plugins/address.h"
#include "cni/plugins/netlink.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_parse_and_format(void **state)
{
        static const struct {
                const char *in, *out;
        } good[] = {
                { "10.0.0.1", "10.0.0.1" },        { "::", "::" },
                { "fd00:0:0:0::1", "fd00::1" },    { "FD00::A", "fd00::a" },
                { "::ffff:10.0.0.1", "10.0.0.1" }, { "255.255.255.255", "255.255.255.255" },
        };
        static const char *const bad[] = { "",           "10.0.0",  "10.0.0.256", "1.2.3.4/24",
                                           ":",          "fd00::g", "10.0.0.1 ",  " 10.0.0.1",
                                           "01.2.3.4.5", "::1%eth0" };
        char text[IP_TEXT_SIZE];
        IpAddress ip;

        for (size_t i = 0; i < ELEMENTS(good); i++) {
                assert_int_equal(ip_parse(good[i].in, &ip), 0);
                assert_string_equal(ip_format(&ip, text), good[i].out);
        }
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(ip_parse(bad[i], &ip), -EINVAL);
}

static void test_prefixes(void **state)
{
        static const struct {
                const char *in, *first, *last;
        } good[] = {
                { "10.1.2.3/24", "10.1.2.0", "10.1.2.255" },
                { "10.1.2.3/32", "10.1.2.3", "10.1.2.3" },
                { "10.1.2.3/0", "0.0.0.0", "255.255.255.255" },
                { "10.1.2.3/13", "10.0.0.0", "10.7.255.255" },
                { "fd00::1/127", "fd00::", "fd00::1" },
                { "fd00:1:2:3:4::/61", "fd00:1:2::", "fd00:1:2:7:ffff:ffff:ffff:ffff" },
        };
        static const char *const bad[] = { "10.0.0.1",    "10.0.0.1/",
                                           "10.0.0.1/33", "fd00::/129",
                                           "/8",          "10.0.0.1/-1",
                                           "10.0.0.1/8x", "10.0.0.1/4294967304" };
        char text[IP_PREFIX_TEXT_SIZE];
        IpPrefix prefix;

        for (size_t i = 0; i < ELEMENTS(good); i++) {
                IpAddress first, last;

                assert_int_equal(ip_prefix_parse(good[i].in, &prefix), 0);
                first = ip_prefix_first(&prefix);
                last = ip_prefix_last(&prefix);
                assert_string_equal(ip_format(&first, text), good[i].first);
                assert_string_equal(ip_format(&last, text), good[i].last);
                assert_true(ip_prefix_contains(&prefix, &first));
                assert_true(ip_prefix_contains(&prefix, &last));
        }
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(ip_prefix_parse(bad[i], &prefix), -EINVAL);
}

static void test_next(void **state)
{
        static const char *const pairs[][2] = {
                { "10.0.0.255", "10.0.1.0" },
                { "255.255.255.255", "0.0.0.0" },
                { "fd00::ffff:ffff", "fd00::1:0:0" },
        };
        char text[IP_TEXT_SIZE];
        IpAddress ip;

        for (size_t i = 0; i < ELEMENTS(pairs); i++) {
                assert_int_equal(ip_parse(pairs[i][0], &ip), 0);
                ip = ip_next(&ip);
                assert_string_equal(ip_format(&ip, text), pairs[i][1]);
        }
}

static void test_other_family_is_elsewhere(void **state)
{
        IpPrefix all4, all6;
        IpAddress ip;

        assert_int_equal(ip_prefix_parse("0.0.0.0/0", &all4), 0);
        assert_int_equal(ip_prefix_parse("::/0", &all6), 0);
        assert_int_equal(ip_parse("10.0.0.1", &ip), 0);
        assert_true(ip_prefix_contains(&all4, &ip));
        assert_false(ip_prefix_contains(&all6, &ip));
        assert_false(ip_equal(&all4.ip, &all6.ip));
        assert_true(ip_is_zero(&all6.ip));
}

static void test_mac(void **state)
{
        static const char *const bad[] = { "",
                                           "02:00:00:00:00",
                                           "02:00:00:00:00:0g",
                                           "02-00-00-00-00-01",
                                           "01:00:00:00:00:01",
                                           "02:00:00:00:00:01:" };
        char text[MAC_TEXT_SIZE];
        uint8_t mac[MAC_SIZE];

        assert_int_equal(mac_parse("0A:1b:2C:3d:4E:5f", mac), 0);
        assert_string_equal(mac_format(mac, text), "0a:1b:2c:3d:4e:5f");
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(mac_parse(bad[i], mac), -EINVAL);
        for (size_t i = 0; i < 64; i++) {
                mac_random(mac);
                assert_int_equal(mac[0] & 3, 2);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse_and_format),
                cmocka_unit_test(test_prefixes),
                cmocka_unit_test(test_next),
                cmocka_unit_test(test_other_family_is_elsewhere),
                cmocka_unit_test(test_mac),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
