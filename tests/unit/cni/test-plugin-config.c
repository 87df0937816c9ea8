/* SPDX-License-Identifier: Apache-2.0 */

/* Names, arguments, owners, results and configurations of the CNI plugins, without a kernel. */

#include "base/str.h"
#include "cni/plugins/bridge.h"
#include "cni/plugins/host-local.h"
#include "cni/plugins/plugin.h"
#include "cni/plugins/portmap.h"
#include "cni/plugins/result.h"
#include "codec/json.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

typedef struct Fixture {
        Arena *arena;
        Value *value;
        PluginCall call;
} Fixture;

static void fixture_deinit(Fixture *f)
{
        value_free(f->value);
        arena_free(f->arena);
}

#define FIXTURE __attribute__((cleanup(fixture_deinit))) Fixture

static void fixture_init(Fixture *f, const char *json)
{
        *f = (Fixture){ .arena = arena_new() };
        assert_non_null(f->arena);
        assert_int_equal(json_parse(json, strlen(json), &f->value, NULL), 0);
        f->call = (PluginCall){
                .container_id = "c1",
                .netns = "/n",
                .ifname = "eth0",
                .args = "",
                .path = "",
                .network = "net",
                .version = PLUGIN_1_0_0,
                .config = f->value,
                .arena = f->arena,
        };
}

static void test_names(void **state)
{
        static const char *const good[] = { "a", "0", "a.b_c-D9", "a..b" };
        static const char *const bad[] = { "",    ".",   "..",       "-a",   "_a", "a/b",
                                           "a b", "a\n", "\xc3\xa4", "a\"b", "a;b" };
        char longest[PLUGIN_NETWORK_NAME_MAX + 2];

        for (size_t i = 0; i < ELEMENTS(good); i++)
                assert_true(plugin_name_valid(good[i], PLUGIN_NETWORK_NAME_MAX));
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_false(plugin_name_valid(bad[i], PLUGIN_NETWORK_NAME_MAX));
        memset(longest, 'x', sizeof(longest));
        longest[PLUGIN_NETWORK_NAME_MAX] = '\0';
        assert_true(plugin_name_valid(longest, PLUGIN_NETWORK_NAME_MAX));
        longest[PLUGIN_NETWORK_NAME_MAX] = 'x';
        longest[PLUGIN_NETWORK_NAME_MAX + 1] = '\0';
        assert_false(plugin_name_valid(longest, PLUGIN_NETWORK_NAME_MAX));
}

static void test_interface_names(void **state)
{
        static const char *const good[] = { "eth0", "br-lan", "a.5", "123456789012345" };
        static const char *const bad[] = { "",     ".",    "..",  "a/b", "a:b",
                                           "a b",  "a\tb", "a\"", "a%d", "1234567890123456",
                                           "\x7f", "\xff" };

        for (size_t i = 0; i < ELEMENTS(good); i++)
                assert_true(plugin_ifname_valid(good[i]));
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_false(plugin_ifname_valid(bad[i]));
}

static void test_longest_owner_fits_a_rule(void **state)
{
        /* The kernel takes 256 bytes of user data: comment and tag, each with type, length, NUL. */
        assert_true(PLUGIN_OWNER_SIZE + 2 + NFT_TAG_MAX + 3 <= 256);
        assert_true(PLUGIN_OWNER_SIZE - 1 <= NFT_COMMENT_MAX);
}

static void test_error_codes(void **state)
{
        static const PluginCode codes[] = { 1, 3, 4, 5, 6, 7, 8, 11, 50, 100 };

        for (size_t i = 0; i < ELEMENTS(codes); i++) {
                KL_AUTOERR err = NULL;

                assert_true(plugin_error(&err, codes[i], "x %d", 1) < 0);
                assert_int_equal(plugin_error_code(err), codes[i]);
                assert_int_equal(plugin_code_from(codes[i]), codes[i]);
                assert_string_equal(kl_error_msg(err), "x 1");
        }
        assert_int_equal(plugin_error_code(NULL), PLUGIN_FAILED);
        assert_int_equal(plugin_code_from(999), PLUGIN_FAILED);
        assert_int_equal(plugin_code_from(-1), PLUGIN_FAILED);
}

static void test_wrong_type_is_a_config_error(void **state)
{
        FIXTURE f;
        KL_AUTOERR err = NULL;
        BridgeConfig config;

        fixture_init(&f, "{\"isGateway\": 7}");
        assert_true(bridge_config_parse(&f.call, &config, &err) < 0);
        assert_int_equal(plugin_error_code(err), PLUGIN_CONFIG);
        assert_non_null(strstr(kl_error_msg(err), "isGateway"));
}

static void test_keys(void **state)
{
        static const char *const known[] = { "mine", NULL };
        FIXTURE f;
        KL_AUTOERR err = NULL;

        fixture_init(&f, "{\"name\":1,\"type\":1,\"cniVersion\":1,\"ipam\":1,\"dns\":1,\"args\":1,"
                         "\"runtimeConfig\":1,\"prevResult\":1,\"capabilities\":1,\"mine\":1,"
                         "\"cni.dev/valid-attachments\":[]}");
        assert_int_equal(plugin_check_keys(f.value, "", known, &err), 0);
        assert_true(plugin_check_keys(f.value, "inner", known, &err) < 0);
        assert_string_equal(kl_error_msg(err), "unsupported key 'inner.name'");
}

static void test_args(void **state)
{
        static const char *const known[] = { "IP", NULL };
        FIXTURE f;
        const char *value;

        fixture_init(&f, "{}");
        f.call.args = "IgnoreUnknown=1;A=x=y;;IP=10.0.0.1";
        assert_int_equal(plugin_arg(&f.call, "A", &value, NULL), 0);
        assert_string_equal(value, "x=y");
        assert_int_equal(plugin_arg(&f.call, "B", &value, NULL), 0);
        assert_null(value);
        assert_int_equal(plugin_check_args(&f.call, known, NULL), 0);
        f.call.args = "IP=10.0.0.1;A=x";
        assert_true(plugin_check_args(&f.call, known, NULL) < 0);
        f.call.args = "IP";
        assert_true(plugin_arg(&f.call, "IP", &value, NULL) < 0);
        f.call.args = "=x";
        assert_true(plugin_arg(&f.call, "IP", &value, NULL) < 0);
}

static void test_stale_owners(void **state)
{
        static const PluginAttachment live[] = { { "c1", "eth0" }, { "c2", "net1" } };
        FIXTURE f;

        fixture_init(&f, "{}");
        assert_false(plugin_owner_is_stale(&f.call, live, 2, "net/c1/eth0"));
        assert_false(plugin_owner_is_stale(&f.call, live, 2, "net/c2/net1"));
        assert_true(plugin_owner_is_stale(&f.call, live, 2, "net/c1/net1"));
        assert_true(plugin_owner_is_stale(&f.call, live, 0, "net/c1/eth0"));
        assert_false(plugin_owner_is_stale(&f.call, live, 0, "net2/c1/eth0"));
        assert_false(plugin_owner_is_stale(&f.call, live, 0, "ne"));
        assert_false(plugin_owner_is_stale(&f.call, live, 0, ""));
}

static void check_result(PluginVersion version, const char *expected)
{
        static const char *const json =
                "{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/n\"}],"
                "\"ips\":[{\"address\":\"10.0.0.2/24\",\"gateway\":\"10.0.0.1\",\"interface\":0},"
                "{\"address\":\"fd00::2/64\"}],\"routes\":[{\"dst\":\"0.0.0.0/0\",\"mtu\":1400}],"
                "\"dns\":{\"nameservers\":[\"192.0.2.1\"]}}";
        KL_AUTOBUF text = BUF_INIT;
        FIXTURE f;
        Result result;

        fixture_init(&f, json);
        assert_int_equal(result_parse(f.value, f.arena, &result, NULL), 0);
        result_write(&result, version, &text);
        assert_string_equal(buf_str(&text), expected);
}

static void test_results_by_version(void **state)
{
        check_result(PLUGIN_0_4_0,
                     "{\"cniVersion\":\"0.4.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":"
                     "\"/n\"}],\"ips\":[{\"version\":\"4\",\"interface\":0,\"address\":"
                     "\"10.0.0.2/24\",\"gateway\":\"10.0.0.1\"},{\"version\":\"6\",\"address\":"
                     "\"fd00::2/64\"}],\"routes\":[{\"dst\":\"0.0.0.0/0\"}],\"dns\":"
                     "{\"nameservers\":[\"192.0.2.1\"]}}");
        check_result(PLUGIN_1_1_0,
                     "{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":"
                     "\"/n\"}],\"ips\":[{\"interface\":0,\"address\":\"10.0.0.2/24\",\"gateway\":"
                     "\"10.0.0.1\"},{\"address\":\"fd00::2/64\"}],\"routes\":[{\"dst\":"
                     "\"0.0.0.0/0\",\"mtu\":1400}],\"dns\":{\"nameservers\":[\"192.0.2.1\"]}}");
}

static void test_bad_results(void **state)
{
        static const char *const bad[] = {
                "[]",
                "{\"ips\":{}}",
                "{\"ips\":[{}]}",
                "{\"ips\":[{\"address\":\"10.0.0.2\"}]}",
                "{\"ips\":[{\"address\":\"10.0.0.2/24\",\"gateway\":\"x\"}]}",
                "{\"ips\":[{\"address\":\"10.0.0.2/24\",\"interface\":-1}]}",
                "{\"routes\":[{\"gw\":\"10.0.0.1\"}]}",
                "{\"routes\":[{\"dst\":\"::/0\",\"gw\":\"10.0.0.1\"}]}",
                "{\"interfaces\":[{}]}",
                "{\"dns\":{\"search\":\"x\"}}",
        };

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                FIXTURE f;
                Result result;

                fixture_init(&f, bad[i]);
                assert_true(result_parse(f.value, f.arena, &result, NULL) < 0);
        }
}

static void test_ranges(void **state)
{
        FIXTURE f;
        HostLocalConfig config;
        char text[IP_TEXT_SIZE];

        fixture_init(&f, "{\"ipam\":{\"type\":\"host-local\",\"subnet\":\"10.1.0.0/16\",\"ranges\":"
                         "[[{\"subnet\":\"fd00::/64\"},{\"subnet\":\"fd01::/112\",\"rangeStart\":"
                         "\"fd01::10\"}]]},\"runtimeConfig\":{\"ipRanges\":[[{\"subnet\":"
                         "\"10.2.0.0/30\",\"gateway\":\"10.2.0.2\"}]]}}");
        assert_int_equal(host_local_config_parse(&f.call, &config, NULL), 0);
        assert_int_equal(config.n_sets, 3);
        assert_string_equal(ip_format(&config.sets[0].ranges[0].gateway, text), "10.2.0.2");
        assert_string_equal(ip_format(&config.sets[0].ranges[0].end, text), "10.2.0.2");
        assert_string_equal(ip_format(&config.sets[1].ranges[0].start, text), "10.1.0.1");
        assert_string_equal(ip_format(&config.sets[1].ranges[0].end, text), "10.1.255.254");
        assert_string_equal(ip_format(&config.sets[2].ranges[0].end, text),
                            "fd00::ffff:ffff:ffff:ffff");
        assert_string_equal(ip_format(&config.sets[2].ranges[1].start, text), "fd01::10");
        assert_string_equal(config.data_dir, HOST_LOCAL_DATA_DIR);
}

static void test_range_limits(void **state)
{
        KL_AUTOBUF json = BUF_INIT;
        HostLocalConfig config;
        FIXTURE f;

        buf_add_str(&json, "{\"ipam\":{\"ranges\":[[");
        for (int i = 0; i <= HOST_LOCAL_RANGES_MAX; i++)
                buf_addf(&json, "%s{\"subnet\":\"10.%d.%d.0/24\"}", i ? "," : "", i / 256, i % 256);
        buf_add_str(&json, "]]}}");
        fixture_init(&f, buf_str(&json));
        assert_true(host_local_config_parse(&f.call, &config, NULL) < 0);
}

static void test_mappings(void **state)
{
        FIXTURE f;
        PortmapConfig config;

        fixture_init(&f, "{\"markMasqBit\":13,\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":1,"
                         "\"containerPort\":65535,\"protocol\":\"TCP\"},{\"hostPort\":2,"
                         "\"containerPort\":3,\"protocol\":\"sctp\",\"hostIP\":\"::1\"}]}}");
        assert_int_equal(portmap_config_parse(&f.call, &config, NULL), 0);
        assert_true(config.snat);
        assert_int_equal(config.n_mappings, 2);
        assert_int_equal(config.mappings[0].protocol, IPPROTO_TCP);
        assert_true(portmap_applies(&config.mappings[0], AF_INET));
        assert_true(portmap_applies(&config.mappings[0], AF_INET6));
        assert_int_equal(config.mappings[1].protocol, IPPROTO_SCTP);
        assert_false(portmap_applies(&config.mappings[1], AF_INET));
}

static void test_mapping_limit(void **state)
{
        for (size_t n = PORTMAP_MAPPINGS_MAX; n <= PORTMAP_MAPPINGS_MAX + 1; n++) {
                KL_AUTOBUF json = BUF_INIT;
                PortmapConfig config;
                FIXTURE f;
                int r;

                buf_add_str(&json, "{\"runtimeConfig\":{\"portMappings\":[");
                for (size_t i = 0; i < n; i++)
                        buf_addf(&json,
                                 "%s{\"hostPort\":%zu,\"containerPort\":1,\"protocol\":"
                                 "\"tcp\"}",
                                 i ? "," : "", i + 1);
                buf_add_str(&json, "]}}");
                fixture_init(&f, buf_str(&json));
                r = portmap_config_parse(&f.call, &config, NULL);
                assert_int_equal(r == 0, n == PORTMAP_MAPPINGS_MAX);
        }
}

static void test_conditions(void **state)
{
        static const char *const nft[] = { "ip saddr != 10.0.0.0/8", "iifname", "\"eth0\"", NULL };
        static const char *const iptables[] = { "!", "-s", "10.0.0.0/8", "-i", "eth0", NULL };
        static const char *const *const both[] = { nft, iptables };

        for (size_t i = 0; i < ELEMENTS(both); i++) {
                Conditions c;

                assert_int_equal(conditions_parse((char *const *)both[i], AF_INET, &c, NULL), 0);
                assert_int_equal(c.n, 2);
                assert_int_equal(c.list[0].kind, CONDITION_SOURCE);
                assert_true(c.list[0].negate);
                assert_int_equal(c.list[0].prefix.len, 8);
                assert_int_equal(c.list[1].kind, CONDITION_IIFNAME);
                assert_false(c.list[1].negate);
                assert_string_equal(c.list[1].link, "eth0");
        }
}

static void test_condition_limit(void **state)
{
        char *words[PORTMAP_CONDITIONS_MAX + 2] = { NULL };
        char word[] = "-d 10.0.0.0/8";
        Conditions c;

        for (size_t i = 0; i < PORTMAP_CONDITIONS_MAX; i++)
                words[i] = word;
        assert_int_equal(conditions_parse(words, AF_INET, &c, NULL), 0);
        words[PORTMAP_CONDITIONS_MAX] = word;
        assert_true(conditions_parse(words, AF_INET, &c, NULL) < 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_interface_names),
                cmocka_unit_test(test_longest_owner_fits_a_rule),
                cmocka_unit_test(test_error_codes),
                cmocka_unit_test(test_wrong_type_is_a_config_error),
                cmocka_unit_test(test_keys),
                cmocka_unit_test(test_args),
                cmocka_unit_test(test_stale_owners),
                cmocka_unit_test(test_results_by_version),
                cmocka_unit_test(test_bad_results),
                cmocka_unit_test(test_ranges),
                cmocka_unit_test(test_range_limits),
                cmocka_unit_test(test_mappings),
                cmocka_unit_test(test_mapping_limit),
                cmocka_unit_test(test_conditions),
                cmocka_unit_test(test_condition_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
