/* SPDX-License-Identifier: Apache-2.0 */

/* The real plugins of Debian's containernetworking-plugins, in network namespaces of the test's
 * own: the test process is the node, a sleeping child is the pod. */

#include "fixture.h"

#include <sched.h>

#define PLUGINS "/usr/lib/cni"
#define SKIP 77

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

static void open_debian(Fixture *f, bool portmap)
{
        KL_AUTOFREE char *text = str_format(
                "{\"cniVersion\":\"1.0.0\",\"name\":\"kubelite-test\",\"plugins\":["
                "{\"type\":\"bridge\",\"bridge\":\"kl-cni0\",\"isGateway\":true,\"ipam\":{"
                "\"type\":\"host-local\",\"dataDir\":\"%s/ipam\",\"ranges\":[[{\"subnet\":"
                "\"10.87.0.0/24\"}],[{\"subnet\":\"fd87::/64\"}]],\"routes\":[{\"dst\":"
                "\"0.0.0.0/0\"}]}}%s]}",
                f->dir,
                portmap ? ",{\"type\":\"portmap\",\"capabilities\":{\"portMappings\":true}}" : "");

        put_conf(f, "10.conflist", text);
        f->bin_dirs[0] = (char *)PLUGINS;
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

        open_debian(f, false);
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

/* The sandbox is gone before the DEL: its address is freed all the same. */
static void test_pod_is_gone(void **state)
{
        Fixture *f = *state;
        pid_t pod = start_pod();
        KL_AUTOFREE char *netns = str_format("/proc/%d/ns/net", pod);
        CniAttachment a = attachment(ID);

        open_debian(f, false);
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
        open_debian(f, true);
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

        open_debian(f, false);
        a.netns = "/nonexistent";
        add_attachment(f, &a);
        assert_non_null(f->error);
        if (!str_starts(f->error, "plugin type=\"bridge\" failed (add): failed to open netns"))
                fail_msg("%s", f->error);
        assert_int_equal(n_records(f), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_bridge), TEST(test_pod_is_gone), TEST(test_portmap), TEST(test_error),
        };
        const char *reason = NULL;

        if (access(PLUGINS "/bridge", X_OK) < 0)
                reason = "Debian's containernetworking-plugins are not installed";
        else if (unshare(CLONE_NEWNET) < 0)
                reason = "network namespaces cannot be made";
        if (reason) {
                fprintf(stderr, "skipped: %s\n", reason);
                return getenv("KUBELITE_TEST_MUST_RUN") ? 1 : SKIP;
        }
        run("ip link set lo up");
        return cmocka_run_group_tests(tests, NULL, NULL);
}
