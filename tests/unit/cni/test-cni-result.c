/* SPDX-License-Identifier: Apache-2.0 */

#include "fixture.h"

#include "cni/cni-result.h"

#define V2                                                                                         \
        "{\"cniVersion\":\"0.2.0\",\"ip4\":{\"ip\":\"10.1.0.2/24\",\"gateway\":\"10.1.0.1\","      \
        "\"routes\":[{\"dst\":\"0.0.0.0/0\"}]},\"dns\":{\"nameservers\":[\"1.1.1.1\"]}}"
#define V4                                                                                         \
        "{\"cniVersion\":\"0.4.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/x\"}],"       \
        "\"ips\":[{\"version\":\"4\",\"interface\":0,\"address\":\"10.1.0.2/24\"}]}"
#define V10                                                                                        \
        "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/x\"}],"       \
        "\"ips\":[{\"interface\":0,\"address\":\"10.1.0.2/24\"}]}"

static void assert_converted(const char *from, CniVersion version, const char *expected)
{
        KL_AUTOBUF to = BUF_INIT;
        KL_AUTOERR err = NULL;

        if (cni_result_convert(from, strlen(from), version, &to, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_string_equal(buf_str(&to), expected);
}

static void test_convert(void **state)
{
        assert_converted(V2, CNI_0_1_0,
                         "{\"cniVersion\":\"0.1.0\",\"ip4\":{\"ip\":\"10.1.0.2/24\",\"gateway\":"
                         "\"10.1.0.1\",\"routes\":[{\"dst\":\"0.0.0.0/0\"}]},\"dns\":{"
                         "\"nameservers\":[\"1.1.1.1\"]}}");
        assert_converted(V2, CNI_0_4_0,
                         "{\"cniVersion\":\"0.4.0\",\"ips\":[{\"version\":\"4\",\"address\":"
                         "\"10.1.0.2/24\",\"gateway\":\"10.1.0.1\"}],\"routes\":[{\"dst\":"
                         "\"0.0.0.0/0\"}],\"dns\":{\"nameservers\":[\"1.1.1.1\"]}}");
        assert_converted(V4, CNI_1_0_0,
                         "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":"
                         "\"/x\"}],\"ips\":[{\"interface\":0,\"address\":\"10.1.0.2/24\"}]}");
        assert_converted(V10, CNI_0_3_1,
                         "{\"cniVersion\":\"0.3.1\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":"
                         "\"/x\"}],\"ips\":[{\"version\":\"4\",\"interface\":0,\"address\":"
                         "\"10.1.0.2/24\"}]}");
        assert_converted(V10, CNI_0_2_0,
                         "{\"cniVersion\":\"0.2.0\",\"ip4\":{\"ip\":\"10.1.0.2/24\","
                         "\"routes\":[]}}");
        /* Without a version it is of the configuration's. */
        assert_converted("{\"ips\":[{\"version\":\"4\",\"address\":\"10.1.0.2/24\"}]}", CNI_0_4_0,
                         "{\"cniVersion\":\"0.4.0\",\"ips\":[{\"version\":\"4\",\"address\":"
                         "\"10.1.0.2/24\"}]}");
}

static void assert_ips(const char *json, const char *expected)
{
        KL_AUTO(cni_result_free) CniResult *result = NULL;
        KL_AUTOBUF ips = BUF_INIT;
        KL_AUTOERR err = NULL;

        if (cni_result_parse(json, "eth0", &result, &err) < 0) {
                assert_string_equal(kl_error_msg(err), expected);
                return;
        }
        for (size_t i = 0; result->ips[i]; i++)
                buf_addf(&ips, "%s ", result->ips[i]);
        assert_string_equal(buf_str(&ips), expected);
}

static void test_ips(void **state)
{
        assert_ips(V2, "10.1.0.2 ");
        assert_ips(V4, "10.1.0.2 ");
        assert_ips("{\"interfaces\":[{\"name\":\"br\"},{\"name\":\"net1\",\"sandbox\":\"/x\"},"
                   "{\"name\":\"eth0\",\"sandbox\":\"/x\"}],\"ips\":["
                   "{\"interface\":0,\"address\":\"10.0.0.1/8\"},"
                   "{\"interface\":1,\"address\":\"10.0.0.2/8\"},"
                   "{\"interface\":2,\"address\":\"10.0.0.3/8\"},"
                   "{\"interface\":2,\"address\":\"fd00::3/64\"}]}",
                   "10.0.0.3 fd00::3 ");
        assert_ips("{\"interfaces\":[{\"name\":\"net1\",\"sandbox\":\"/x\"}],\"ips\":["
                   "{\"interface\":0,\"address\":\"10.0.0.2/8\"}]}",
                   "10.0.0.2 ");
        assert_ips("{\"ips\":[{\"address\":\"10.0.0.2/8\"}]}", "10.0.0.2 ");
        assert_ips("{\"ips\":[{\"interface\":7,\"address\":\"10.0.0.2/8\"}]}", "");
        assert_ips("{\"ips\":[{\"interface\":-1,\"address\":\"10.0.0.2/8\"}]}", "");
        assert_ips("{\"ips\":[{\"address\":\"10.0.0.2/33\"}]}",
                   "the result's address '10.0.0.2/33' is none");
        assert_ips("{\"ips\":[{\"address\":7}]}", "the result's address '' is none");
        assert_ips("{\"ips\":{}}", "");
        assert_ips("{}", "");
}

static void test_ip_limit(void **state)
{
        KL_AUTO(cni_result_free) CniResult *result = NULL;
        KL_AUTOBUF text = BUF_INIT;

        buf_add_str(&text, "{\"ips\":[{\"address\":\"10.0.0.1\"}");
        for (int i = 0; i < CNI_IPS_MAX; i++)
                buf_add_str(&text, ",{\"address\":\"10.0.0.1\"}");
        buf_add_str(&text, "]}");
        assert_int_equal(cni_result_parse(buf_str(&text), "eth0", &result, NULL), 0);
        assert_int_equal(strv_len(result->ips), CNI_IPS_MAX);
}

static void test_garbage(void **state)
{
        static const char *const cases[] = { "", "x", "[]", "{\"cniVersion\":\"3.0\"}", "{\"a\":" };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOBUF to = BUF_INIT;

                assert_true(cni_result_convert(cases[i], strlen(cases[i]), CNI_1_0_0, &to, NULL) <
                            0);
        }
}

static void test_versions(void **state)
{
        const char *text = "{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"0.4.0\",\"1.0.0\","
                           "\"8\",1]}";
        unsigned int set;

        assert_int_equal(cni_version_info_parse(text, strlen(text), &set, NULL), 0);
        assert_int_equal(set, 1u << CNI_0_4_0 | 1u << CNI_1_0_0);
        assert_int_equal(cni_version_info_parse("{}", 2, &set, NULL), -EINVAL);
}

static void test_error(void **state)
{
        const char *text = "{\"code\":11,\"msg\":\"busy\",\"details\":\"later\"}";
        KL_AUTOFREE char *message = NULL;
        int code;

        assert_int_equal(cni_error_parse(text, strlen(text), &code, &message, NULL), 0);
        assert_string_equal(message, "busy; later");
        assert_int_equal(code, 11);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_convert),  cmocka_unit_test(test_ips),
                cmocka_unit_test(test_ip_limit), cmocka_unit_test(test_garbage),
                cmocka_unit_test(test_versions), cmocka_unit_test(test_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
