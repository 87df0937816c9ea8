/* SPDX-License-Identifier: Apache-2.0 */

/* Chains of script plugins, good and hostile ones. */

#include "fixture.h"

#define CHAIN                                                                                      \
        "{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"plugins\":[{\"type\":\"one\"},"              \
        "{\"type\":\"two\",\"capabilities\":{\"portMappings\":true}}]}"

static void open_chain(Fixture *f)
{
        put_conf(f, "10.conflist", CHAIN);
        put_plugin(f, "one", GOOD_PLUGIN);
        put_plugin(f, "two", GOOD_PLUGIN);
        fixture_open(f);
}

static void assert_logged(Fixture *f, const char *line)
{
        KL_AUTOFREE char *log = read_log(f);

        if (!strstr(log, line))
                fail_msg("'%s' is not in:\n%s", line, log);
}

static void test_add_check_del(void **state)
{
        Fixture *f = *state;
        KL_AUTO(cni_result_free) CniResult *cached = NULL;
        CniAttachment a = attachment(ID);
        CniPortMapping port = { 8080, 80, "tcp", "" };
        CniCall *call;

        open_chain(f);
        assert_null(cni_not_ready_message(f->cni));
        assert_string_equal(cni_network_name(f->cni), "net");
        a.ports = &port;
        a.n_ports = 1;
        a.egress_bps = 1000;
        add_attachment(f, &a);
        assert_null(f->error);
        assert_string_equal(f->ip, "10.9.0.2");
        assert_logged(f, "ADD one {\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"type\":\"one\"}\n");
        assert_logged(f, "\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":8080,"
                         "\"containerPort\":80,\"protocol\":\"tcp\",\"hostIP\":\"\"}]},"
                         "\"prevResult\":{\"cniVersion\":\"1.0.0\"");
        assert_int_equal(cni_cached_result(f->cni, ID, "eth0", &cached), 0);
        assert_string_equal(cached->ips[0], "10.9.0.2");
        assert_null(cached->ips[1]);
        f->n_done = 0;
        assert_int_equal(cni_check(f->cni, ID, "eth0", on_done, f, &call, NULL), 0);
        WAIT_FOR(f, f->n_done);
        assert_null(f->error);
        del(f, ID);
        assert_null(f->error);
        assert_verbs(f, "ADD one,ADD two,CHECK one,CHECK two,DEL two,DEL one,");
        assert_logged(f, "DEL two {\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"type\":\"two\","
                         "\"capabilities\":{\"portMappings\":true},\"runtimeConfig\"");
        assert_int_equal(n_records(f), 0);
        del(f, ID);
        assert_null(f->error);
        assert_verbs(f, "ADD one,ADD two,CHECK one,CHECK two,DEL two,DEL one,");
}

static void test_environment(void **state)
{
        Fixture *f = *state;

        put_conf(f, "10.conf", "{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"type\":\"one\"}");
        put_plugin(f, "one",
                   "env | grep -E '^(CNI_|NOTIFY)' | sort >$(dirname $0)/../env;" GOOD_PLUGIN);
        setenv("NOTIFY_SOCKET", "/x", 1);
        fixture_open(f);
        add(f, ID);
        unsetenv("NOTIFY_SOCKET");
        assert_null(f->error);
        {
                KL_AUTOFREE char *path = str_format("%s/env", f->dir);
                KL_AUTOFREE char *env = NULL, *expected = NULL;
                size_t len;

                assert_int_equal(file_read(path, 65536, &env, &len), 0);
                expected = str_format("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;"
                                      "K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=" ID
                                      ";K8S_POD_UID=u-1\nCNI_COMMAND=ADD\nCNI_CONTAINERID=" ID
                                      "\nCNI_IFNAME=eth0\nCNI_NETNS=/proc/self/ns/net\n"
                                      "CNI_PATH=%s\n",
                                      f->bin);
                assert_string_equal(env, expected);
        }
}

/* The netns of a DEL is empty once it is gone. */
static void test_del_without_netns(void **state)
{
        Fixture *f = *state;
        CniAttachment a = attachment(ID);

        put_conf(f, "10.conf", "{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"type\":\"one\"}");
        put_plugin(f, "one", "echo \"netns=[$CNI_NETNS] {\" >>$(dirname $0)/../log;" GOOD_PLUGIN);
        fixture_open(f);
        a.netns = "/run/netns/kubelite-gone";
        add_attachment(f, &a);
        del(f, ID);
        assert_null(f->error);
        assert_logged(f, "netns=[/run/netns/kubelite-gone]");
        assert_logged(f, "netns=[]");
}

static void assert_add_fails(Fixture *f, const char *body, const char *error, const char *verbs)
{
        put_conf(f, "10.conflist", CHAIN);
        put_plugin(f, "one", GOOD_PLUGIN);
        put_plugin(f, "two", body);
        if (!f->cni)
                fixture_open(f);
        add(f, ID);
        assert_non_null(f->error);
        if (!strstr(f->error, error))
                fail_msg("'%s' is not in '%s'", error, f->error);
        assert_verbs(f, verbs);
        assert_int_equal(n_records(f), 0);
}

#define TAKEN_DOWN "ADD one,ADD two,DEL two,DEL one,"

static void test_error_json(void **state)
{
        assert_add_fails(
                *state,
                "[ $CNI_COMMAND = DEL ] && exit 0; echo '{\"cniVersion\":"
                "\"1.0.0\",\"code\":7,\"msg\":\"bad thing\",\"details\":\"more\"}'; exit 1",
                "plugin type=\"two\" failed (add): bad thing; more", TAKEN_DOWN);
}

static void test_stderr_only(void **state)
{
        assert_add_fails(*state, "[ $CNI_COMMAND = DEL ] && exit 0; echo oh no >&2; exit 1",
                         "plugin type=\"two\" failed (add): netplugin failed: \"oh no\"",
                         TAKEN_DOWN);
}

static void test_crash(void **state)
{
        assert_add_fails(*state, "[ $CNI_COMMAND = DEL ] && exit 0; kill -SEGV $$",
                         "plugin type=\"two\" failed (add): netplugin failed with no error "
                         "message: it was killed by signal 11",
                         TAKEN_DOWN);
}

static void test_half_json(void **state)
{
        assert_add_fails(
                *state, "[ $CNI_COMMAND = DEL ] && exit 0; printf '{\"cniVersion\":'",
                "plugin type=\"two\" failed (add): cannot decode its result: ", TAKEN_DOWN);
}

static void test_half_error(void **state)
{
        assert_add_fails(*state, "[ $CNI_COMMAND = DEL ] && exit 0; printf '{\"msg\":'; exit 1",
                         "netplugin failed but error parsing its diagnostic message \"{\"msg\":\"",
                         TAKEN_DOWN);
}

static void test_no_output(void **state)
{
        assert_add_fails(*state, "exit 0", "cannot decode its result", TAKEN_DOWN);
}

static void test_no_address(void **state)
{
        assert_add_fails(*state, "echo '{\"cniVersion\":\"1.0.0\"}'",
                         "network \"net\" gave no address to \"eth0\"", TAKEN_DOWN);
}

static void test_output_limit(void **state)
{
        assert_add_fails(*state, "[ $CNI_COMMAND = DEL ] && exit 0; head -c 10485760 /dev/zero",
                         "plugin type=\"two\" failed (add): it printed more than 1048576 bytes",
                         TAKEN_DOWN);
}

/* The whole process group goes. */
static void test_hang(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *path = str_format("%s/child", f->dir);
        KL_AUTOFREE char *pid = NULL;
        uint64_t before = time_monotonic_ms();
        size_t len;

        f->timeout_ms = 300;
        assert_add_fails(f,
                         "[ $CNI_COMMAND = DEL ] && exit 0; sleep 1000 & "
                         "echo $! >$(dirname $0)/../child; wait",
                         "plugin type=\"two\" failed (add): it did not end within 0.3 s and was "
                         "killed",
                         TAKEN_DOWN);
        assert_true(time_monotonic_ms() - before < 5000);
        assert_int_equal(file_read(path, 100, &pid, &len), 0);
        pid[strcspn(pid, "\n")] = '\0';
        {
                int64_t number = 0;

                assert_int_equal(str_to_i64(pid, 1, INT32_MAX, &number), 0);
                WAIT_FOR(f, kill((pid_t)number, 0) < 0);
        }
}

static void test_missing_plugin(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *error = NULL;

        put_conf(f, "10.conflist", CHAIN);
        put_plugin(f, "one", GOOD_PLUGIN);
        f->bin_dirs[1] = (char *)"/nonexistent/bin";
        fixture_open(f);
        add(f, ID);
        error = str_format("plugin type=\"two\" failed (add): failed to find plugin \"two\" in "
                           "path [%s /nonexistent/bin]",
                           f->bin);
        assert_string_equal(f->error, error);
        assert_verbs(f, "ADD one,DEL one,");
        assert_int_equal(n_records(f), 0);
        /* It appears: nothing is remembered. */
        put_plugin(f, "two", GOOD_PLUGIN);
        add(f, ID);
        assert_null(f->error);
}

/* A DEL that fails goes on to the other plugins, keeps the record, and can be repeated. */
static void test_del_fails(void **state)
{
        Fixture *f = *state;

        open_chain(f);
        add(f, ID);
        put_plugin(f, "two", "echo '{\"code\":100,\"msg\":\"no\"}'; exit 1");
        del(f, ID);
        assert_string_equal(f->error, "plugin type=\"two\" failed (delete): no");
        assert_int_equal(n_records(f), 1);
        put_plugin(f, "two", GOOD_PLUGIN);
        del(f, ID);
        assert_null(f->error);
        assert_verbs(f, "ADD one,ADD two,DEL two,DEL one,DEL two,DEL one,");
        assert_int_equal(n_records(f), 0);
}

/* What is attached is taken down with the configuration that it was attached with. */
static void test_config_changes(void **state)
{
        Fixture *f = *state;

        open_chain(f);
        add(f, ID);
        put_conf(f, "05.conf", "{\"cniVersion\":\"1.0.0\",\"name\":\"new\",\"type\":\"three\"}");
        WAIT_FOR(f, str_eq(cni_network_name(f->cni), "new"));
        del(f, ID);
        assert_null(f->error);
        assert_verbs(f, "ADD one,ADD two,DEL two,DEL one,");
}

static void test_no_config(void **state)
{
        Fixture *f = *state;
        CniAttachment a = attachment(ID);
        KL_AUTOERR err = NULL;
        CniCall *call;

        fixture_open(f);
        assert_string_equal(cni_not_ready_message(f->cni), "cni plugin not initialized");
        assert_int_equal(cni_add(f->cni, &a, on_done, f, &call, &err), -EAGAIN);
        assert_string_equal(err->msg, "cni plugin not initialized");
}

/* An ADD over an attachment takes that down first. */
static void test_add_twice(void **state)
{
        Fixture *f = *state;

        open_chain(f);
        add(f, ID);
        add(f, ID);
        assert_null(f->error);
        assert_verbs(f, "ADD one,ADD two,DEL two,DEL one,ADD one,ADD two,");
}

static void test_serialised(void **state)
{
        Fixture *f = *state;
        CniAttachment a = attachment(ID), b = attachment("b");
        CniCall *call;

        open_chain(f);
        put_plugin(f, "one", "sleep 0.1;" GOOD_PLUGIN);
        assert_int_equal(cni_add(f->cni, &a, on_done, f, &call, NULL), 0);
        assert_int_equal(cni_del(f->cni, ID, "eth0", on_done, f, &call, NULL), 0);
        assert_int_equal(cni_add(f->cni, &b, on_done, f, &call, NULL), 0);
        WAIT_FOR(f, f->n_done == 3);
        assert_int_equal(n_records(f), 1);
        {
                KL_AUTOFREE char *verbs = log_verbs(f);

                /* b ran beside a; a's DEL came after its ADD. */
                assert_true(str_starts(verbs, "ADD one,ADD one,"));
                assert_non_null(strstr(verbs, "DEL two,"));
                assert_non_null(strstr(strstr(verbs, "DEL two,"), "DEL one,"));
        }
}

static void test_abandon(void **state)
{
        Fixture *f = *state;
        CniAttachment a = attachment(ID);
        CniCall *call;

        open_chain(f);
        put_plugin(f, "one", "sleep 0.2;" GOOD_PLUGIN);
        assert_int_equal(cni_add(f->cni, &a, on_done, f, &call, NULL), 0);
        WAIT_FOR(f, n_records(f) == 1);
        cni_call_abandon(call);
        WAIT_FOR(f, n_records(f) == 0);
        assert_int_equal(f->n_done, 0);
        assert_verbs(f, "ADD one,ADD two,DEL two,DEL one,");
}

#define VERSIONS(list)                                                                             \
        "[ $CNI_COMMAND = VERSION ] && echo '{\"cniVersion\":\"1.0.0\","                           \
        "\"supportedVersions\":[" list "]}' && exit 0;" GOOD_PLUGIN

static void test_version_choice(void **state)
{
        Fixture *f = *state;

        put_conf(f, "10.conflist",
                 "{\"cniVersion\":\"0.3.1\",\"cniVersions\":[\"0.4.0\",\"1.0.0\"],"
                 "\"name\":\"net\",\"plugins\":[{\"type\":\"one\"},"
                 "{\"type\":\"two\"}]}");
        put_plugin(f, "one", VERSIONS("\"0.3.1\",\"0.4.0\",\"1.0.0\""));
        put_plugin(f, "two", VERSIONS("\"0.3.1\",\"0.4.0\""));
        fixture_open(f);
        add(f, ID);
        assert_null(f->error);
        assert_logged(f, "ADD one {\"cniVersion\":\"0.4.0\"");
        assert_logged(f, "\"prevResult\":{\"cniVersion\":\"0.4.0\"");
        add(f, "b");
        assert_verbs(f, "VERSION one,VERSION two,ADD one,ADD two,ADD one,ADD two,");
        put_plugin(f, "two", VERSIONS("\"0.2.0\""));
        add(f, "c");
        assert_string_equal(f->error, "the plugins of network \"net\" have no version in common "
                                      "with it");
        assert_int_equal(n_records(f), 2);
}

#define OLD_PLUGIN                                                                                 \
        "[ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"0.2.0\",\"ip4\":{\"ip\":"               \
        "\"10.9.0.7/24\"}}'; exit 0"

/* A plugin of the first days, alone, and in a newer list. */
static void test_old_results(void **state)
{
        Fixture *f = *state;

        put_conf(f, "10.conf", "{\"cniVersion\":\"0.2.0\",\"name\":\"net\",\"type\":\"one\"}");
        put_plugin(f, "one", OLD_PLUGIN);
        put_plugin(f, "two", GOOD_PLUGIN);
        fixture_open(f);
        add(f, ID);
        assert_null(f->error);
        assert_string_equal(f->ip, "10.9.0.7");
        del(f, ID);
        assert_null(f->error);
        assert_logged(f, "DEL one {\"cniVersion\":\"0.2.0\",\"name\":\"net\",\"type\":\"one\"}");
        put_conf(f, "05.conflist",
                 "{\"cniVersion\":\"0.3.1\",\"name\":\"new\",\"plugins\":["
                 "{\"type\":\"one\"},{\"type\":\"two\"}]}");
        WAIT_FOR(f, str_eq(cni_network_name(f->cni), "new"));
        add(f, ID);
        assert_null(f->error);
        assert_logged(f, "\"prevResult\":{\"cniVersion\":\"0.3.1\",\"ips\":[{\"version\":\"4\","
                         "\"address\":\"10.9.0.7/24\"}],\"routes\":[]}");
}

/* A burst: all at once, nobody lost. */
static void test_burst(void **state)
{
        Fixture *f = *state;
        CniCall *call;

        open_chain(f);
        for (int i = 0; i < 100; i++) {
                KL_AUTOFREE char *id = str_format("pod%d", i);
                CniAttachment a = attachment(id);

                assert_int_equal(cni_add(f->cni, &a, on_done, f, &call, NULL), 0);
        }
        WAIT_FOR(f, f->n_done == 100);
        assert_null(f->error);
        assert_int_equal(n_records(f), 100);
}

/* A record that cannot be written stops an ADD before the first plugin. */
static void test_cache_gone(void **state)
{
        Fixture *f = *state;

        open_chain(f);
        assert_int_equal(tree_remove(f->cache), 0);
        add(f, ID);
        assert_non_null(strstr(f->error, "No such file or directory"));
        assert_verbs(f, "");
}

static void test_broken_record(void **state)
{
        Fixture *f = *state;

        open_chain(f);
        put_file(f->cache, ID "@eth0.json", "{\"schema\":1,", 0600);
        assert_int_equal(cni_cached_result(f->cni, ID, "eth0", &(CniResult *){ NULL }), -EINVAL);
        del(f, ID);
        assert_null(f->error);
        assert_int_equal(n_records(f), 0);
}

/* Freeing with calls under way ends them without callbacks. */
static void test_free_with_calls(void **state)
{
        Fixture *f = *state;
        CniAttachment a = attachment(ID);
        CniCall *call;

        open_chain(f);
        put_plugin(f, "one", "sleep 1000");
        assert_int_equal(cni_add(f->cni, &a, on_done, f, &call, NULL), 0);
        assert_int_equal(cni_del(f->cni, ID, "eth0", on_done, f, &call, NULL), 0);
        WAIT_FOR(f, n_records(f) == 1);
        f->cni = cni_free(f->cni);
        assert_int_equal(f->n_done, 0);
        assert_int_equal(n_records(f), 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_add_check_del),   TEST(test_environment),    TEST(test_del_without_netns),
                TEST(test_error_json),      TEST(test_stderr_only),    TEST(test_crash),
                TEST(test_half_json),       TEST(test_half_error),     TEST(test_no_output),
                TEST(test_no_address),      TEST(test_output_limit),   TEST(test_hang),
                TEST(test_missing_plugin),  TEST(test_del_fails),      TEST(test_config_changes),
                TEST(test_no_config),       TEST(test_add_twice),      TEST(test_serialised),
                TEST(test_abandon),         TEST(test_version_choice), TEST(test_old_results),
                TEST(test_burst),           TEST(test_cache_gone),     TEST(test_broken_record),
                TEST(test_free_with_calls),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
