/* SPDX-License-Identifier: Apache-2.0 */

/* Specs and exit records through their encodings; broken ones are refused. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "shim/record.h"

static char *const args[] = { (char *)"sh", (char *)"", (char *)"-c", NULL };
static char *const env[] = { (char *)"A=1", NULL };
static char *const layers[] = { (char *)"l0", (char *)"l1", NULL };
static char *const masked[] = { (char *)"/proc/kcore", NULL };
static const uint32_t groups[] = { 1, 4294967295U };
static const ShimCgroup cgroups[] = { { SHIM_CGROUP_MEMORY, "memory", "/m" },
                                      { 0, "cpu,cpuacct", "/c" } };
static const ShimRlimit rlimits[] = { { 7, 1, UINT64_MAX } };
static const ShimDevice devices[] = { { "/dev/fuse", 'c', 10, 229, 0666, 1, 2 } };
static const ShimMount mounts[] = {
        { SHIM_MOUNT_PROC, "/proc", -1, SHIM_MOUNT_NODEV, 0, NULL },
        { SHIM_MOUNT_BIND, "/data", 42, SHIM_MOUNT_RO, SHIM_PROPAGATION_SHARED, NULL },
        { SHIM_MOUNT_TMPFS, "/t", -1, 0, 0, "size=1" },
};
static const uint64_t seccomp[3] = { 1, 2, 3 };

static ShimStart sample(void)
{
        return (ShimStart){
                .id = "abc",
                .args = args,
                .env = env,
                .cwd = "/w",
                .user = { .run_as_user = -1,
                          .run_as_group = 0,
                          .image_user = "app",
                          .non_root = true,
                          .groups = groups,
                          .n_groups = 2 },
                .cap_bounding = 5,
                .cap_effective = 1ULL << 40,
                .no_new_privs = true,
                .seccomp = seccomp,
                .seccomp_size = sizeof(seccomp),
                .seccomp_flags = 2,
                .rlimits = rlimits,
                .n_rlimits = 1,
                .oom_score_adj = -998,
                .cgroups = cgroups,
                .n_cgroups = 2,
                .layers_fd = 40,
                .layers = layers,
                .rw_fd = 41,
                .mounts = mounts,
                .n_mounts = 3,
                .masked_paths = masked,
                .writable_paths = masked,
                .devices = devices,
                .n_devices = 1,
                .tty = true,
                .log_fd = 43,
                .stop_signal = 15,
                .log_dir_fd = 44,
                .log_name = "7.log",
                .log_max_bytes = 1ULL << 33,
                .apparmor = "confined",
        };
}

static void test_start(void **state)
{
        KL_AUTOBUF buf = BUF_INIT;
        ShimStart start = sample(), got;
        static RecordFds fds;

        assert_int_equal(shim_start_encode(&start, &buf, &fds), 0);
        assert_int_equal(fds.n, 5);
        assert_int_equal(shim_start_decode(buf.data, buf.len, fds.n, &got), 0);
        assert_string_equal(got.id, "abc");
        assert_string_equal(got.args[1], "");
        assert_string_equal(got.args[2], "-c");
        assert_null(got.args[3]);
        assert_string_equal(got.env[0], "A=1");
        assert_int_equal(got.user.run_as_user, -1);
        assert_int_equal(got.user.run_as_group, 0);
        assert_string_equal(got.user.image_user, "app");
        assert_true(got.user.non_root && !got.user.strict_groups && got.no_new_privs && got.tty);
        assert_int_equal(got.user.n_groups, 2);
        assert_int_equal(got.user.groups[1], 4294967295U);
        assert_true(got.cap_effective == 1ULL << 40);
        assert_int_equal(got.seccomp_size, sizeof(seccomp));
        assert_memory_equal(got.seccomp, seccomp, sizeof(seccomp));
        assert_true(got.rlimits[0].hard == UINT64_MAX);
        assert_int_equal(got.oom_score_adj, -998);
        assert_int_equal(got.n_cgroups, 2);
        assert_string_equal(got.cgroups[1].name, "cpu,cpuacct");
        assert_int_equal(fds.fds[got.layers_fd], 40);
        assert_int_equal(fds.fds[got.rw_fd], 41);
        assert_int_equal(fds.fds[got.mounts[1].fd], 42);
        assert_int_equal(fds.fds[got.log_fd], 43);
        assert_int_equal(fds.fds[got.log_dir_fd], 44);
        assert_string_equal(got.log_name, "7.log");
        assert_true(got.log_max_bytes == 1ULL << 33);
        assert_string_equal(got.apparmor, "confined");
        assert_int_equal(got.mounts[0].fd, -1);
        assert_string_equal(got.mounts[2].options, "size=1");
        assert_int_equal(got.devices[0].minor, 229);
        assert_string_equal(got.masked_paths[0], "/proc/kcore");
        assert_string_equal(got.writable_paths[0], "/proc/kcore");
        assert_null(got.read_only_paths[0]);
        shim_start_deinit(&got);
        /* An index that no descriptor came for. */
        assert_int_equal(shim_start_decode(buf.data, buf.len, 3, &got), -EBADMSG);
}

/* Every cut, and every byte changed: an answer, never a crash. */
static void test_broken_start(void **state)
{
        KL_AUTOBUF buf = BUF_INIT;
        ShimStart start = sample(), got;
        static RecordFds fds;

        assert_int_equal(shim_start_encode(&start, &buf, &fds), 0);
        for (size_t i = 0; i < buf.len; i++) {
                KL_AUTOFREE char *copy = malloc(i + 1);

                memcpy(copy, buf.data, i);
                if (shim_start_decode(copy, i, fds.n, &got) == 0)
                        shim_start_deinit(&got);
        }
        for (size_t i = 0; i < buf.len; i++)
                for (int bit = 0; bit < 8; bit++) {
                        buf.data[i] ^= (char)(1 << bit);
                        if (shim_start_decode(buf.data, buf.len, fds.n, &got) == 0)
                                shim_start_deinit(&got);
                        buf.data[i] ^= (char)(1 << bit);
                }
}

/* A newer daemon's fields are passed over. */
static void test_unknown_field(void **state)
{
        const uint32_t unknown[4] = { 999, 8, 1, 2 };
        KL_AUTOBUF buf = BUF_INIT;
        ShimStart start = sample(), got;
        static RecordFds fds;

        assert_int_equal(shim_start_encode(&start, &buf, &fds), 0);
        buf_add(&buf, unknown, sizeof(unknown));
        assert_int_equal(shim_start_decode(buf.data, buf.len, fds.n, &got), 0);
        shim_start_deinit(&got);
}

static void test_limits(void **state)
{
        KL_AUTOFREE char *big = malloc(SHIM_SPEC_MAX);
        ShimMount *many = calloc(SHIM_SPEC_FDS_MAX + 1, sizeof(*many));
        KL_AUTOBUF buf = BUF_INIT;
        ShimStart start = sample();
        static RecordFds fds;

        memset(big, 'x', SHIM_SPEC_MAX);
        big[SHIM_SPEC_MAX - 1] = '\0';
        start.cwd = big;
        assert_int_equal(shim_start_encode(&start, &buf, &fds), -EMSGSIZE);
        start = sample();
        for (size_t i = 0; i <= SHIM_SPEC_FDS_MAX; i++)
                many[i] = (ShimMount){ SHIM_MOUNT_BIND, "/x", 5, 0, 0, NULL };
        start.mounts = many;
        start.n_mounts = SHIM_SPEC_FDS_MAX + 1;
        assert_int_equal(shim_start_encode(&start, &buf, &fds), -EMSGSIZE);
        free(many);
}

static void test_sandbox(void **state)
{
        const ShimIdMap map = { 0, 100000, 65536 };
        const ShimSysctl sysctl = { "net.core.somaxconn", "1" };
        ShimSandbox sandbox = { .id = "s",
                                .netns_path = "/run/netns/s",
                                .hostname = "h",
                                .host_ipc = true,
                                .uid_maps = &map,
                                .n_uid_maps = 1,
                                .gid_maps = &map,
                                .n_gid_maps = 1,
                                .sysctls = &sysctl,
                                .n_sysctls = 1,
                                .cgroups = cgroups,
                                .n_cgroups = 2,
                                .shm_bytes = 99,
                                .oom_score_adj = -998 };
        KL_AUTOBUF buf = BUF_INIT;
        ShimSandbox got;

        assert_int_equal(shim_sandbox_encode(&sandbox, &buf), 0);
        assert_int_equal(shim_sandbox_decode(buf.data, buf.len, &got), 0);
        assert_string_equal(got.id, "s");
        assert_string_equal(got.hostname, "h");
        assert_true(got.host_ipc && !got.host_pid && !got.host_network && !got.share_pid);
        assert_int_equal(got.uid_maps[0].outside, 100000);
        assert_int_equal(got.gid_maps[0].count, 65536);
        assert_string_equal(got.sysctls[0].name, "net.core.somaxconn");
        assert_int_equal(got.shm_bytes, 99);
        assert_int_equal(got.oom_score_adj, -998);
        shim_sandbox_deinit(&got);
        assert_int_equal(shim_sandbox_decode(NULL, 0, &got), -EBADMSG);
}

static void test_exec(void **state)
{
        ShimExec exec = { .container = "c",
                          .args = args,
                          .extra_env = NULL,
                          .cwd = "/",
                          .tty = true,
                          .stdin_fd = -1,
                          .stdout_fd = 9,
                          .stderr_fd = 8,
                          .timeout_ms = 1000 };
        KL_AUTOBUF buf = BUF_INIT;
        static RecordFds fds;
        ShimExec got;

        assert_int_equal(shim_exec_encode(&exec, &buf, &fds), 0);
        assert_int_equal(shim_exec_decode(buf.data, buf.len, fds.n, &got), 0);
        assert_int_equal(got.stdin_fd, -1);
        assert_int_equal(fds.fds[got.stdout_fd], 9);
        assert_int_equal(fds.fds[got.stderr_fd], 8);
        assert_int_equal(got.timeout_ms, 1000);
        assert_null(got.extra_env[0]);
        shim_exec_deinit(&got);
}

static void test_exit(void **state)
{
        ShimContainerState s = { .id = "abc",
                                 .state = SHIM_CONTAINER_EXITED,
                                 .exit_code = 137,
                                 .signal = 9,
                                 .oom_killed = 1,
                                 .created_us = 1,
                                 .started_us = 2,
                                 .finished_us = 3,
                                 .uid = 4294967295U,
                                 .gid = 7,
                                 .n_groups = 2,
                                 .groups = { 7, 4294967295U },
                                 .reason = "R",
                                 .message = "two\nlines with spaces" };
        KL_AUTOBUF buf = BUF_INIT;
        ShimContainerState got;

        assert_int_equal(shim_exit_format(&s, &buf), 0);
        assert_int_equal(shim_exit_parse(buf.data, buf.len, &got), 0);
        assert_string_equal(got.id, "abc");
        assert_int_equal(got.exit_code, 137);
        assert_int_equal(got.signal, 9);
        assert_int_equal(got.oom_killed, 1);
        assert_int_equal(got.finished_us, 3);
        assert_int_equal(got.uid, 4294967295U);
        assert_int_equal(got.n_groups, 2);
        assert_int_equal(got.groups[1], 4294967295U);
        assert_string_equal(got.reason, "R");
        assert_string_equal(got.message, "two lines with spaces");
        for (size_t i = 0; i < buf.len; i++)
                (void)shim_exit_parse(buf.data, i, &got);
        assert_int_equal(shim_exit_parse("kubelite-exit 2\n", 16, &got), -EBADMSG);
        assert_int_equal(shim_exit_parse("", 0, &got), -EBADMSG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_start),         cmocka_unit_test(test_broken_start),
                cmocka_unit_test(test_unknown_field), cmocka_unit_test(test_limits),
                cmocka_unit_test(test_sandbox),       cmocka_unit_test(test_exec),
                cmocka_unit_test(test_exit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
