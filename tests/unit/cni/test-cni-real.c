/* SPDX-License-Identifier: Apache-2.0 */

/* Real plugins, Debian's containernetworking-plugins and our own ones of this build, in network
 * namespaces of the test's own: the test process is the node, a sleeping child is the pod. */

#include "fixture.h"

#include <sched.h>

#define DEBIAN_PLUGINS "/usr/lib/cni"
#define SKIP 77

static const char *plugins = DEBIAN_PLUGINS;
static const char *version = "1.0.0";

static int run(const char *command)
{
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                execl("/bin/sh", "sh", "-c", command, (char *)NULL);
                _exit(127);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return status;
}

static void assert_runs(const char *format, const char *arg)
{
        KL_AUTOFREE char *command = NULL;
        KL_AUTOBUF buf = BUF_INIT;

        for (const char *p = format; *p; p++)
                if (*p == '@')
                        buf_add_str(&buf, arg);
                else
                        buf_add_char(&buf, *p);
        command = strdup(buf_str(&buf));
        if (run(command) != 0)
                fail_msg("failed: %s", command);
}

static pid_t start_pod(void)
{
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                if (unshare(CLONE_NEWNET) < 0 || write(ready[1], "", 1) != 1)
                        _exit(1);
                pause();
                _exit(0);
        }
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        close(ready[1]);
        return pid;
}

static void open_real(Fixture *f, bool portmap)
{
        KL_AUTOFREE char *text = str_format(
                "{\"cniVersion\":\"%s\",\"name\":\"kubelite-test\",\"plugins\":["
                "{\"type\":\"bridge\",\"bridge\":\"kl-cni0\",\"isGateway\":true,\"ipam\":{"
                "\"type\":\"host-local\",\"dataDir\":\"%s/ipam\",\"ranges\":[[{\"subnet\":"
                "\"10.87.0.0/24\"}],[{\"subnet\":\"fd87::/64\"}]],\"routes\":[{\"dst\":"
                "\"0.0.0.0/0\"}]}}%s]}",
                version, f->dir,
                portmap ? ",{\"type\":\"portmap\",\"capabilities\":{\"portMappings\":true}}" : "");

        put_conf(f, "10.conflist", text);
        f->bin_dirs[0] = (char *)plugins;
        f->timeout_ms = 30000;
        fixture_open(f);
}

static void test_bridge(void **state)
{
        Fixture *f = *state;
        KL_AUTOPID pid_t pod = start_pod();
        KL_AUTOFREE char *netns = str_format("/proc/%d/ns/net", pod);
        KL_AUTO(cni_result_free) CniResult *cached = NULL;
        CniAttachment a = attachment(ID);
        CniCall *call;

        open_real(f, false);
        a.netns = netns;
        add_attachment(f, &a);
        if (f->error)
                fail_msg("%s", f->error);
        assert_string_equal(f->ip, "10.87.0.2");
        assert_int_equal(cni_cached_result(f->cni, ID, "eth0", &cached), 0);
        assert_string_equal(cached->ips[1], "fd87::2");
        assert_runs("nsenter --net=@ ip addr show dev eth0 | grep -q 10.87.0.2/24", netns);
        f->n_done = 0;
        assert_int_equal(cni_check(f->cni, ID, "eth0", on_done, f, &call, NULL), 0);
        WAIT_FOR(f, f->n_done);
        if (f->error)
                fail_msg("%s", f->error);
        /* CHECK finds fault. */
        assert_runs("nsenter --net=@ ip addr flush dev eth0", netns);
        f->n_done = 0;
        assert_int_equal(cni_check(f->cni, ID, "eth0", on_done, f, &call, NULL), 0);
        WAIT_FOR(f, f->n_done);
        assert_non_null(f->error);
        del(f, ID);
        if (f->error)
                fail_msg("%s", f->error);
        assert_runs("! nsenter --net=@ ip link show eth0 2>/dev/null", netns);
        assert_runs("test -z \"$(ls @/ipam/kubelite-test | grep ^10)\"", f->dir);
}

/* Older configurations of the same network. */
static void test_versions(void **state)
{
        static const char *const versions[] = { "0.2.0", "0.3.1", "0.4.0", "1.0.0" };
        Fixture *f = *state;

        f->bin_dirs[0] = (char *)plugins;
        f->timeout_ms = 30000;
        for (size_t i = 0; i < ELEMENTS(versions); i++) {
                KL_AUTOPID pid_t pod = start_pod();
                KL_AUTOFREE char *netns = str_format("/proc/%d/ns/net", pod);
                KL_AUTOFREE char *text = str_format(
                        "{\"cniVersion\":\"%s\",\"name\":\"kl%zu\",\"plugins\":[{\"type\":"
                        "\"bridge\",\"bridge\":\"kl-cni1\",\"ipam\":{\"type\":\"host-local\","
                        "\"subnet\":\"10.88.0.0/24\",\"dataDir\":\"%s/ipam\"}},{\"type\":"
                        "\"portmap\",\"capabilities\":{\"portMappings\":true}}]}",
                        versions[i], i, f->dir);
                CniAttachment a = attachment(ID);

                put_conf(f, "10.conflist", text);
                f->cni = cni_free(f->cni);
                fixture_open(f);
                a.netns = netns;
                add_attachment(f, &a);
                if (f->error)
                        fail_msg("%s: %s", versions[i], f->error);
                assert_string_equal(f->ip, "10.88.0.2");
                del(f, ID);
                if (f->error)
                        fail_msg("%s: %s", versions[i], f->error);
        }
}

/* The sandbox is gone before the DEL: its address is freed all the same. */
static void test_pod_is_gone(void **state)
{
        Fixture *f = *state;
        pid_t pod = start_pod();
        KL_AUTOFREE char *netns = str_format("/proc/%d/ns/net", pod);
        CniAttachment a = attachment(ID);

        open_real(f, false);
        a.netns = netns;
        add_attachment(f, &a);
        assert_null(f->error);
        kl_pid_cleanup(&pod);
        f->cni = cni_free(f->cni);
        fixture_open(f);
        assert_int_equal(cni_collect(f->cni, (char *[]){ NULL }, NULL), 0);
        WAIT_FOR(f, n_records(f) == 0);
        assert_runs("test -z \"$(ls @/ipam/kubelite-test | grep ^10)\"", f->dir);
}

static void test_portmap(void **state)
{
        Fixture *f = *state;
        KL_AUTOPID pid_t pod = start_pod();
        KL_AUTOFREE char *netns = str_format("/proc/%d/ns/net", pod);
        CniPortMapping port = { 18080, 80, "tcp", "" };
        CniAttachment a = attachment(ID);

        if (run("command -v iptables >/dev/null") != 0)
                skip();
        open_real(f, true);
        a.netns = netns;
        a.ports = &port;
        a.n_ports = 1;
        add_attachment(f, &a);
        if (f->error)
                fail_msg("%s", f->error);
        assert_runs("iptables-save -t nat | grep -q 'dport 18080'", "");
        del(f, ID);
        if (f->error)
                fail_msg("%s", f->error);
        assert_runs("! iptables-save -t nat | grep -q 'dport 18080'", "");
}

/* A real plugin's error, with its details. */
static void test_error(void **state)
{
        Fixture *f = *state;
        CniAttachment a = attachment(ID);

        open_real(f, false);
        a.netns = "/nonexistent";
        add_attachment(f, &a);
        assert_non_null(f->error);
        if (!str_starts(f->error, "plugin type=\"bridge\" failed (add): failed to open netns"))
                fail_msg("%s", f->error);
        assert_int_equal(n_records(f), 0);
}

/* Ours know STATUS, and GC: an address that nobody holds any more is freed. */
static void test_status_and_gc(void **state)
{
        Fixture *f = *state;
        KL_AUTOPID pid_t pod = start_pod();
        KL_AUTOFREE char *netns = str_format("/proc/%d/ns/net", pod);
        KL_AUTOFREE char *ipam = str_format("%s/ipam/kubelite-test", f->dir);
        KL_AUTOFREE char *lost = str_format("%s/10.87.0.99", ipam);
        CniAttachment a = attachment(ID);

        open_real(f, true);
        WAIT_FOR(f, !cni_not_ready_message(f->cni));
        a.netns = netns;
        add_attachment(f, &a);
        if (f->error)
                fail_msg("%s", f->error);
        put_file(ipam, "10.87.0.99", "lost\r\neth0", 0600);
        assert_int_equal(cni_collect(f->cni, (char *[]){ (char *)ID, NULL }, NULL), 0);
        WAIT_FOR(f, access(lost, F_OK) < 0);
        assert_runs("test -e @/10.87.0.2", ipam);
        del(f, ID);
        if (f->error)
                fail_msg("%s", f->error);
}

/* <build>/cni/plugins, from <build>/tests/unit/<this program>. */
static char *our_plugins(void)
{
        char exe[4096];
        ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
        char *slash;

        exe[n > 0 ? n : 0] = '\0';
        slash = strrchr(exe, '/');
        return slash ? str_format("%.*s/../../cni/plugins", (int)(slash - exe), exe) : NULL;
}

static int skip_all(const char *reason)
{
        fprintf(stderr, "skipped: %s\n", reason);
        return getenv("KUBELITE_TEST_MUST_RUN") ? 1 : SKIP;
}

int main(void)
{
        const struct CMUnitTest debian[] = {
                TEST(test_bridge),  TEST(test_versions), TEST(test_pod_is_gone),
                TEST(test_portmap), TEST(test_error),
        };
        const struct CMUnitTest ours[] = {
                TEST(test_bridge),
                TEST(test_pod_is_gone),
                TEST(test_status_and_gc),
        };
        KL_AUTOFREE char *dir = our_plugins();
        KL_AUTOFREE char *bridge = str_format("%s/bridge", dir ? dir : "");
        int failed;

        if (access(DEBIAN_PLUGINS "/bridge", X_OK) < 0)
                return skip_all("Debian's containernetworking-plugins are not installed");
        if (unshare(CLONE_NEWNET) < 0)
                return skip_all("network namespaces cannot be made");
        run("ip link set lo up");
        failed = cmocka_run_group_tests(debian, NULL, NULL);
        if (!dir || !bridge || access(bridge, X_OK) < 0)
                return failed ? failed : skip_all("our own plugins are not built");
        plugins = dir;
        version = "1.1.0";
        run("ip link del kl-cni0");
        return failed + cmocka_run_group_tests(ours, NULL, NULL);
}
