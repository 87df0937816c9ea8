/* SPDX-License-Identifier: Apache-2.0 */

#include "fixture.h"

static char *parse(const char *text, bool is_list, CniConfig **ret)
{
        KL_AUTOERR err = NULL;

        if (cni_config_parse(text, strlen(text), is_list, NULL, ret, &err) == 0)
                return NULL;
        return strdup(kl_error_msg(err));
}

static void test_list(void **state)
{
        KL_AUTO(cni_config_free) CniConfig *c = NULL;

        assert_null(parse("{\"cniVersion\":\"0.3.1\",\"name\":\"net\",\"disableCheck\":true,"
                          "\"plugins\":[{\"type\":\"a\"},{\"type\":\"b\",\"x\":{\"y\":[1]}}]}",
                          true, &c));
        assert_int_equal(c->n_plugins, 2);
        assert_int_equal(c->versions, 1u << CNI_0_3_1);
        assert_true(c->disable_check);
        assert_string_equal(c->name, "net");
        assert_string_equal(value_get_str(cni_config_plugin(c, 1), "type"), "b");
        assert_non_null(strstr(c->text, "\"x\":{\"y\":[1]}"));
}

static void test_single(void **state)
{
        KL_AUTO(cni_config_free) CniConfig *c = NULL;

        assert_null(parse("{\"name\":\"net\",\"type\":\"a\",\"k\":1}", false, &c));
        assert_int_equal(c->versions, 1u << CNI_0_1_0);
        assert_int_equal(c->n_plugins, 1);
        assert_int_equal(value_int(value_get(cni_config_plugin(c, 0), "k"), 0), 1);
}

static void test_several_versions(void **state)
{
        KL_AUTO(cni_config_free) CniConfig *c = NULL;

        assert_null(parse("{\"cniVersion\":\"1.0.0\",\"cniVersions\":[\"0.4.0\",\"1.1.0\",\"9.0\"],"
                          "\"name\":\"net\",\"plugins\":[{\"type\":\"a\"}]}",
                          true, &c));
        assert_int_equal(c->versions, 1u << CNI_0_4_0 | 1u << CNI_1_0_0 | 1u << CNI_1_1_0);
        assert_int_equal(cni_version_highest(c->versions), CNI_1_1_0);
}

static void test_refused(void **state)
{
        static const struct {
                const char *text, *error;
                bool is_list;
        } cases[] = {
                { "{\"cniVersion\":\"1.0.0\",\"name\":\"n\"}", "it has no plugins", true },
                { "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"plugins\":[]}", "it has no plugins",
                  true },
                { "{\"cniVersion\":\"1.0.0\",\"plugins\":[{\"type\":\"a\"}]}",
                  "name: '' is no network name", true },
                { "{\"name\":\"../x\",\"type\":\"a\"}", "name: '../x' is no network name", false },
                { "{\"cniVersion\":\"7\",\"name\":\"n\",\"type\":\"a\"}",
                  "cniVersion: '7' is not supported", false },
                { "{\"cniVersion\":1,\"name\":\"n\",\"type\":\"a\"}",
                  "cniVersion: expected a string", false },
                { "{\"name\":\"n\",\"type\":\"../a\"}",
                  "plugins[0].type: '../a' is no plugin's name", false },
                { "{\"name\":\"n\"}", "plugins[0].type: '' is no plugin's name", false },
                { "{\"name\":\"n\",\"plugins\":[{\"type\":\"a\"}]}",
                  "a list of plugins belongs in a .conflist file", false },
                { "{\"name\":\"n\",\"plugins\":{}}", "plugins: expected an array", true },
                { "[]", "expected an object", true },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTO(cni_config_free) CniConfig *c = NULL;
                KL_AUTOFREE char *error = parse(cases[i].text, cases[i].is_list, &c);

                assert_non_null(error);
                assert_string_equal(error, cases[i].error);
        }
}

static void test_plugin_limit(void **state)
{
        KL_AUTO(cni_config_free) CniConfig *c = NULL;
        KL_AUTOBUF text = BUF_INIT;
        KL_AUTOFREE char *error = NULL;

        buf_add_str(&text,
                    "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"plugins\":[{\"type\":\"a\"}");
        for (size_t i = 0; i < CNI_PLUGINS_MAX; i++)
                buf_add_str(&text, ",{\"type\":\"a\"}");
        buf_add_str(&text, "]}");
        error = parse(buf_str(&text), true, &c);
        assert_string_equal(error, "33 plugins are more than 32");
}

static void load(Fixture *f, int expected, CniConfig **ret)
{
        assert_int_equal(cni_config_load(f->conf, ret, NULL), expected);
}

static void test_directory(void **state)
{
        Fixture *f = *state;
        KL_AUTO(cni_config_free) CniConfig *none = NULL;
        KL_AUTO(cni_config_free) CniConfig *first = NULL;
        KL_AUTO(cni_config_free) CniConfig *second = NULL;

        put_conf(f, "00-readme.txt", "{\"name\":\"txt\",\"type\":\"a\"}");
        put_conf(f, "01-half.conflist", "{\"name\":\"half\",");
        load(f, 1, &none);
        put_conf(f, "20-b.json", "{\"name\":\"b\",\"type\":\"a\"}");
        load(f, 0, &first);
        assert_string_equal(first->name, "b");
        put_conf(f, "10-a.conflist",
                 "{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"plugins\":[{\"type\":\"a\"}]}");
        load(f, 0, &second);
        assert_string_equal(second->name, "a");
}

static void test_no_directory(void **state)
{
        KL_AUTO(cni_config_free) CniConfig *none = NULL;

        assert_int_equal(cni_config_load("/nonexistent/net.d", &none, NULL), 1);
}

static void test_fifo_and_size(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *fifo = str_format("%s/00-fifo.conf", f->conf);
        KL_AUTOFREE char *big = malloc(CNI_CONF_MAX + 2);
        KL_AUTO(cni_config_free) CniConfig *c = NULL;

        assert_int_equal(mkfifo(fifo, 0600), 0);
        memset(big, ' ', CNI_CONF_MAX + 1);
        big[CNI_CONF_MAX + 1] = '\0';
        put_conf(f, "01-big.conf", big);
        put_conf(f, "02-ok.conf", "{\"name\":\"ok\",\"type\":\"a\"}");
        load(f, 0, &c);
        assert_string_equal(c->name, "ok");
}

static void test_subdirectory(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *sub = str_format("%s/net", f->conf);
        KL_AUTO(cni_config_free) CniConfig *both = NULL;
        KL_AUTO(cni_config_free) CniConfig *inlined = NULL;

        assert_int_equal(mkdir(sub, 0755), 0);
        put_file(sub, "10-x.conf", "{\"type\":\"x\"}", 0644);
        put_conf(f, "10.conflist",
                 "{\"cniVersion\":\"1.1.0\",\"name\":\"net\",\"plugins\":["
                 "{\"type\":\"a\"}]}");
        load(f, 0, &both);
        assert_int_equal(both->n_plugins, 2);
        put_conf(f, "10.conflist",
                 "{\"cniVersion\":\"1.1.0\",\"name\":\"net\",\"plugins\":["
                 "{\"type\":\"a\"}],\"loadOnlyInlinedPlugins\":true}");
        load(f, 0, &inlined);
        assert_int_equal(inlined->n_plugins, 1);
}

static void test_names(void **state)
{
        assert_true(cni_id_is_valid(ID));
        assert_false(cni_id_is_valid(""));
        assert_false(cni_id_is_valid("../a"));
        assert_false(cni_id_is_valid("-a"));
        assert_true(cni_ifname_is_valid("eth0"));
        assert_false(cni_ifname_is_valid("."));
        assert_false(cni_ifname_is_valid("a/b"));
        assert_false(cni_ifname_is_valid("a:b"));
        assert_false(cni_ifname_is_valid("sixteencharacter"));
}

static void test_record(void **state)
{
        Fixture *f = *state;
        KL_AUTO(cni_config_free) CniConfig *c = NULL;
        KL_AUTO(cni_record_free) CniRecord *made = NULL;
        KL_AUTO(cni_record_free) CniRecord *read = NULL;
        CniAttachment a = attachment(ID);
        CniPortMapping port = { 8080, 80, "tcp", "127.0.0.1" };

        a.ports = &port;
        a.n_ports = 1;
        a.ingress_bps = 1000000;
        assert_null(parse("{\"name\":\"net\",\"type\":\"a\"}", false, &c));
        assert_int_equal(cni_record_new(&a, c, &made, NULL), 0);
        made->owner = strdup("o");
        made->result = strdup(RESULT);
        made->state = CNI_ADDED;
        assert_int_equal(mkdir(f->cache, 0700), 0);
        assert_int_equal(cni_record_save(f->cache, made, NULL), 0);
        assert_int_equal(cni_record_load(f->cache, ID, "eth0", &read, NULL), 0);
        assert_string_equal(read->capabilities,
                            "{\"portMappings\":[{\"hostPort\":8080,\"containerPort\":80,"
                            "\"protocol\":\"tcp\",\"hostIP\":\"127.0.0.1\"}],\"bandwidth\":{"
                            "\"ingressRate\":1000000,\"ingressBurst\":4294967295,"
                            "\"egressRate\":0,\"egressBurst\":0}}");
        assert_string_equal(read->args,
                            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;"
                            "K8S_POD_INFRA_CONTAINER_ID=" ID ";K8S_POD_UID=u-1");
        assert_string_equal(read->result, RESULT);
        assert_int_equal(read->state, CNI_ADDED);
        assert_int_equal(cni_record_load(f->cache, ID, "eth1", &read, NULL), 1);
        assert_int_equal(cni_record_remove(f->cache, ID, "eth0"), 0);
        assert_int_equal(cni_record_remove(f->cache, ID, "eth0"), 0);
        assert_int_equal(n_records(f), 0);
}

static void test_arguments_refused(void **state)
{
        KL_AUTO(cni_config_free) CniConfig *c = NULL;
        KL_AUTO(cni_record_free) CniRecord *made = NULL;
        CniAttachment a = attachment(ID);

        assert_null(parse("{\"name\":\"net\",\"type\":\"a\"}", false, &c));
        a.pod_name = "x;K8S_POD_UID=other";
        assert_int_equal(cni_record_new(&a, c, &made, NULL), -EINVAL);
        a = attachment("../x");
        assert_int_equal(cni_record_new(&a, c, &made, NULL), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_list),         TEST(test_single),        TEST(test_several_versions),
                TEST(test_refused),      TEST(test_plugin_limit),  TEST(test_directory),
                TEST(test_no_directory), TEST(test_fifo_and_size), TEST(test_subdirectory),
                TEST(test_names),        TEST(test_record),        TEST(test_arguments_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
