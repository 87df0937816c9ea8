/* SPDX-License-Identifier: Apache-2.0 */

/* On the real hierarchies: version 1, and the controllerless version 2 mount beside them. */

#include "runtime/cgroup-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#define UNIFIED "/sys/fs/cgroup/unified"
#define MISC_MAJOR 10
#define FUSE_MINOR 229

static char root[64];

static CgroupTree *open_tree_of(bool v2)
{
        CgroupTreeOptions options = { .root = root,
                                      .force_v2 = v2,
                                      .mount_dir = v2 ? UNIFIED : NULL };
        CgroupTree *tree = NULL;
        KL_AUTOERR err = NULL;

        if (cgroup_tree_new(&options, &tree, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        return tree;
}

/* The prefix itself goes as well. */
static void remove_root(const CgroupTree *tree)
{
        assert_int_equal(cgroup_remove(tree, "kubepods", 5000), 0);
        for (size_t i = 0; i < tree->n_hierarchies; i++)
                assert_int_equal(rmdir(tree->hierarchies[i].dir), 0);
}

static pid_t spawn_in(const CgroupTree *tree, const char *path, bool stubborn)
{
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (stubborn)
                        signal(SIGTERM, SIG_IGN);
                if (cgroup_attach(tree, path, 0) < 0)
                        _exit(9);
                if (write(ready[1], "x", 1) != 1)
                        _exit(8);
                for (;;)
                        pause();
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

static void expect_killed(pid_t pid)
{
        int status = 0;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void test_weights(void **state)
{
        assert_int_equal(cgroup_weight_of_shares(2), 1);
        assert_int_equal(cgroup_weight_of_shares(1024), 100);
        assert_int_equal(cgroup_weight_of_shares(262144), 10000);
        assert_int_equal(cgroup_weight_of_shares(1 << 20), 10000);
        assert_in_range(cgroup_weight_of_shares(102), 16, 18);
        assert_int_equal(cgroup_weight_linear(0), 0);
        assert_int_equal(cgroup_weight_linear(1), 1);
        assert_int_equal(cgroup_weight_linear(2), 1);
        assert_int_equal(cgroup_weight_linear(102), 4);
        assert_int_equal(cgroup_weight_linear(1024), 39);
        assert_int_equal(cgroup_weight_linear(262144), 10000);
        assert_int_equal(cgroup_weight_linear(UINT64_MAX), 10000);
        for (uint64_t s = 2; s < 4096; s++)
                assert_true(cgroup_weight_of_shares(s) <= cgroup_weight_of_shares(s + 1));
}

static void test_paths(void **state)
{
        KL_AUTOFREE char *a = cgroup_pod_path(QOS_GUARANTEED, "u1");
        KL_AUTOFREE char *b = cgroup_pod_path(QOS_BURSTABLE, "u1");
        KL_AUTOFREE char *c = cgroup_pod_path(QOS_BEST_EFFORT, "u1");

        assert_string_equal(a, "kubepods/podu1");
        assert_string_equal(b, "kubepods/burstable/podu1");
        assert_string_equal(c, "kubepods/besteffort/podu1");
}

static void expect_file(const CgroupTree *tree, const char *controller, const char *file,
                        const char *value)
{
        KL_AUTOFREE char *dir =
                cgroup_dir(tree, (size_t)cgroup_find(tree, controller), "kubepods/podt/c");
        KL_AUTOFREE char *path = str_format("%s/%s", dir, file);
        char line[64];

        assert_int_equal(file_read_line(path, line, sizeof(line)), 0);
        assert_string_equal(line, value);
}

static void test_v1_limits(void **state)
{
        KL_AUTO(cgroup_tree_free) CgroupTree *tree = open_tree_of(false);
        Resources pod = { .cpu_shares = 512, .cpu_quota_us = 50000, .memory_bytes = 64 << 20 };
        Resources c = {
                .cpu_shares = 102, .cpu_quota_us = 20000, .memory_bytes = 32 << 20, .pids = 50
        };
        CgroupStats stats;
        KL_AUTOERR err = NULL;

        assert_int_equal(cgroup_tree_mode(tree), CGROUP_V1);
        assert_int_equal(cgroup_create(tree, "kubepods/podt", true, &err), 0);
        assert_int_equal(cgroup_apply(tree, "kubepods/podt", &pod, false, &err), 0);
        assert_int_equal(cgroup_create(tree, "kubepods/podt/c", false, &err), 0);
        assert_int_equal(cgroup_create(tree, "kubepods/podt/c", false, &err), 0);
        assert_int_equal(cgroup_apply(tree, "kubepods/podt/c", &c, false, &err), 0);
        expect_file(tree, "cpu", "cpu.shares", "102");
        expect_file(tree, "cpu", "cpu.cfs_quota_us", "20000");
        expect_file(tree, "memory", "memory.limit_in_bytes", "33554432");
        expect_file(tree, "memory", "memory.memsw.limit_in_bytes", "33554432");
        expect_file(tree, "pids", "pids.max", "50");
        /* Up and down again, and then none. */
        c.memory_bytes = 48 << 20;
        assert_int_equal(cgroup_apply(tree, "kubepods/podt/c", &c, false, &err), 0);
        expect_file(tree, "memory", "memory.memsw.limit_in_bytes", "50331648");
        c.memory_bytes = 16 << 20;
        c.cpu_quota_us = 100000;
        c.cpu_period_us = 200000;
        assert_int_equal(cgroup_apply(tree, "kubepods/podt/c", &c, false, &err), 0);
        expect_file(tree, "memory", "memory.limit_in_bytes", "16777216");
        expect_file(tree, "cpu", "cpu.cfs_period_us", "200000");
        assert_int_equal(
                cgroup_stats(tree, CGROUP_BASE_TREE, "kubepods/podt/c", CGROUP_STATS_ALL, &stats),
                0);
        assert_int_equal(stats.memory_limit_bytes, 16 << 20);
        assert_int_equal(cgroup_apply(tree, "kubepods/podt/c", &(Resources){ 0 }, true, &err), 0);
        expect_file(tree, "cpu", "cpu.cfs_quota_us", "-1");
        expect_file(tree, "pids", "pids.max", "max");
        assert_int_equal(
                cgroup_stats(tree, CGROUP_BASE_TREE, "kubepods/podt/c", CGROUP_STATS_ALL, &stats),
                0);
        assert_int_equal(stats.memory_limit_bytes, 0);
        assert_int_equal(cgroup_oom_kills(tree, "kubepods/podt/c"), 0);
        remove_root(tree);
        assert_null(err);
}

/* Frozen and stubborn processes, also in a group of their own beneath. */
static void kill_everything(bool v2)
{
        KL_AUTO(cgroup_tree_free) CgroupTree *tree = open_tree_of(v2);
        pid_t a, b, c;

        assert_int_equal(cgroup_create(tree, "kubepods/podt/c", false, NULL), 0);
        for (size_t i = 0; i < cgroup_n_hierarchies(tree); i++) {
                KL_AUTOFREE char *inner = cgroup_dir(tree, i, "kubepods/podt/c/inner");

                assert_int_equal(mkdir(inner, 0755), 0);
        }
        assert_int_equal(cgroup_empty(tree, "kubepods/podt"), 1);
        a = spawn_in(tree, "kubepods/podt/c", true);
        b = spawn_in(tree, "kubepods/podt/c/inner", false);
        c = spawn_in(tree, "kubepods/podt/c/inner", false);
        if (!v2) {
                KL_AUTOFD int fd = cgroup_open(tree, tree->kill_index, "kubepods/podt/c/inner");

                assert_int_equal(file_write_at(fd, "freezer.state", "FROZEN"), 0);
        }
        assert_int_equal(cgroup_empty(tree, "kubepods/podt"), 0);
        assert_int_not_equal(cgroup_remove(tree, "kubepods/podt", 20), 0);
        assert_int_equal(cgroup_kill(tree, "kubepods/podt", 5000), 0);
        expect_killed(a);
        expect_killed(b);
        expect_killed(c);
        assert_int_equal(cgroup_empty(tree, "kubepods/podt"), 1);
        remove_root(tree);
        assert_int_equal(cgroup_empty(tree, "kubepods/podt"), 1);
        assert_int_equal(cgroup_kill(tree, "kubepods/podt", 100), 0);
}

static void test_v1_kill(void **state)
{
        kill_everything(false);
}

static void test_v2_kill(void **state)
{
        kill_everything(true);
}

/* Before Linux 5.14 there is no cgroup.kill. */
static void test_v2_kill_old(void **state)
{
        CgroupTreeOptions options = {
                .root = root, .force_v2 = true, .mount_dir = UNIFIED, .no_kill_file = true
        };
        KL_AUTO(cgroup_tree_free) CgroupTree *tree = NULL;
        pid_t a;

        assert_int_equal(cgroup_tree_new(&options, &tree, NULL), 0);
        assert_int_equal(cgroup_create(tree, "kubepods/podt/c", false, NULL), 0);
        a = spawn_in(tree, "kubepods/podt/c", true);
        assert_int_equal(cgroup_kill(tree, "kubepods/podt", 5000), 0);
        expect_killed(a);
        remove_root(tree);
}

/* A bomb that forks faster than a list can be read. */
static void test_fork_bomb(void **state)
{
        KL_AUTO(cgroup_tree_free) CgroupTree *tree = open_tree_of(false);
        Resources limit = { .pids = 60 };
        pid_t pid;

        assert_int_equal(cgroup_create(tree, "kubepods/podt/c", false, NULL), 0);
        assert_int_equal(cgroup_apply(tree, "kubepods/podt/c", &limit, false, NULL), 0);
        pid = fork();
        if (pid == 0) {
                setsid();
                if (cgroup_attach(tree, "kubepods/podt/c", 0) < 0)
                        _exit(1);
                signal(SIGCHLD, SIG_IGN);
                for (;;)
                        if (fork() > 0 && getppid() == 1)
                                _exit(0);
        }
        for (int i = 0; i < 500 && cgroup_empty(tree, "kubepods/podt/c") == 1; i++)
                usleep(1000);
        usleep(20000);
        assert_int_equal(cgroup_kill(tree, "kubepods/podt/c", 10000), 0);
        waitpid(pid, NULL, 0);
        remove_root(tree);
}

/* What a process in the group may do with the fuse device: errno of mknod and of open. */
static void device_access(const CgroupTree *tree, int *ret_mknod, int *ret_open)
{
        char path[64];
        int fds[2], result[2] = { -1, -1 };
        pid_t pid;

        snprintf(path, sizeof(path), "/tmp/test-cgroup-dev.%d", getpid());
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                int fd;

                if (cgroup_attach(tree, "kubepods/podt/c", 0) < 0)
                        _exit(1);
                result[0] =
                        mknod(path, S_IFCHR | 0600, makedev(MISC_MAJOR, FUSE_MINOR)) ? errno : 0;
                fd = open(path, O_RDWR | O_CLOEXEC);
                result[1] = fd < 0 ? errno : 0;
                fd = open("/dev/null", O_RDWR | O_CLOEXEC);
                if (fd < 0)
                        result[1] = 1000;
                _exit(write(fds[1], result, sizeof(result)) != sizeof(result));
        }
        close(fds[1]);
        assert_int_equal(read(fds[0], result, sizeof(result)), sizeof(result));
        close(fds[0]);
        waitpid(pid, NULL, 0);
        unlink(path);
        *ret_mknod = result[0];
        *ret_open = result[1];
}

static void check_devices(bool v2)
{
        static const DeviceRule null_only[] = { { 'c', 1, 3, "rwm" } };
        static const DeviceRule upstream[] = { { 'c', -1, -1, "m" },
                                               { 'b', -1, -1, "m" },
                                               { 'c', 1, 3, "rwm" } };
        static const DeviceRule all[] = { { 'a', -1, -1, "rwm" } };
        KL_AUTO(cgroup_tree_free) CgroupTree *tree = open_tree_of(v2);
        KL_AUTOERR err = NULL;
        int made, opened;

        assert_int_equal(cgroup_create(tree, "kubepods/podt/c", false, NULL), 0);
        device_access(tree, &made, &opened);
        assert_int_equal(made, 0);
        assert_int_not_equal(opened, EPERM);
        if (!v2) {
                assert_int_equal(cgroup_set_devices(tree, "kubepods/podt/c", null_only, 1, &err),
                                 0);
                device_access(tree, &made, &opened);
                assert_int_equal(made, EPERM);
        }
        assert_int_equal(cgroup_set_devices(tree, "kubepods/podt/c", upstream, 3, &err), 0);
        device_access(tree, &made, &opened);
        assert_int_equal(made, 0);
        assert_int_equal(opened, EPERM);
        if (!v2) {
                assert_int_equal(cgroup_set_devices(tree, "kubepods/podt/c", all, 1, &err), 0);
                device_access(tree, &made, &opened);
                assert_int_equal(made, 0);
                assert_int_not_equal(opened, EPERM);
        }
        remove_root(tree);
        assert_null(err);
}

static void test_v1_devices(void **state)
{
        check_devices(false);
}

static void test_v2_devices(void **state)
{
        check_devices(true);
}

/* The files of version 2 on a directory: what is written where. */
static void test_v2_files(void **state)
{
        static const struct {
                const char *file, *before, *after;
        } files[] = {
                { "cgroup.controllers", "cpu memory pids", "cpu memory pids" },
                { "cpu.weight", "", "100" },
                { "cpu.max", "", "20000 100000" },
                { "memory.max", "", "33554432" },
                { "memory.swap.max", "", "4096" },
                { "memory.oom.group", "", "1" },
                { "pids.max", "", "9" },
                { "hugetlb.2MB.max", "", "4194304" },
                { "hugetlb.2MB.rsvd.max", "", "4194304" },
                { "hugetlb.1GB.max", "", "0" },
                { "hugetlb.64KB.max", "", "65536" },
        };
        char dir[] = "/tmp/test-cgroup2.XXXXXX";
        KL_AUTO(cgroup_tree_free) CgroupTree *tree = NULL;
        Resources res = {
                .cpu_shares = 1024,
                .cpu_quota_us = 20000,
                .memory_bytes = 32 << 20,
                .pids = 9,
                .swap_bytes = 4096,
                /* The last size is none that this kernel knows. */
                .hugepages = { { 2 << 20, 4 << 20 },
                               { 1 << 30, 0 },
                               { 65536, 65536 },
                               { 1 << 14, 1 } },
                .n_hugepages = 4,
        };
        KL_AUTOFREE char *group = NULL;
        CgroupTreeOptions options = { .mount_dir = dir, .root = "/", .force_v2 = true };

        assert_non_null(mkdtemp(dir));
        assert_int_equal(cgroup_tree_new(&options, &tree, NULL), 0);
        group = cgroup_dir(tree, 0, "kubepods/podt/c");
        assert_int_equal(dir_make_all(group, 0755), 0);
        for (size_t i = 0; i < ELEMENTS(files); i++) {
                KL_AUTOFREE char *path = str_format("%s/%s", group, files[i].file);

                assert_int_equal(
                        file_replace(path, files[i].before, strlen(files[i].before), 0644, false),
                        0);
        }
        assert_int_equal(cgroup_apply(tree, "kubepods/podt/c", &res, false, NULL), 0);
        assert_int_equal(cgroup_apply_container(tree, "kubepods/podt/c", &res, NULL), 0);
        for (size_t i = 0; i < ELEMENTS(files); i++) {
                KL_AUTOFREE char *path = str_format("%s/%s", group, files[i].file);
                char line[64];

                assert_int_equal(file_read_line(path, line, sizeof(line)), 0);
                assert_string_equal(line, files[i].after);
        }
        tree_remove(dir);
}

static void test_systemd_root(void **state)
{
        char mount_dir[] = "/tmp/test-cgroup2.XXXXXX";
        CgroupTreeOptions options = {
                .mount_dir = mount_dir, .root = "/x/", .force_v2 = true, .systemd = true
        };
        KL_AUTO(cgroup_tree_free) CgroupTree *tree = NULL;
        KL_AUTOFREE char *dir = NULL, *unit = NULL, *expected = NULL;
        KL_AUTOERR err = NULL;

        assert_non_null(mkdtemp(mount_dir));
        assert_int_equal(cgroup_tree_new(&options, &tree, &err), -ENOENT);
        assert_non_null(strstr(err->msg, "kubelite-pods.service is not running"));
        unit = str_format("%s/system.slice/kubelite-pods.service", mount_dir);
        assert_int_equal(dir_make_all(unit, 0755), 0);
        assert_int_equal(cgroup_tree_new(&options, &tree, NULL), 0);
        dir = cgroup_dir(tree, 0, "kubepods");
        expected = str_format("%s/x/kubepods", unit);
        assert_string_equal(dir, expected);
        tree_remove(mount_dir);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_weights),      cmocka_unit_test(test_paths),
                cmocka_unit_test(test_v1_limits),    cmocka_unit_test(test_v1_kill),
                cmocka_unit_test(test_fork_bomb),    cmocka_unit_test(test_v1_devices),
                cmocka_unit_test(test_v2_kill),      cmocka_unit_test(test_v2_kill_old),
                cmocka_unit_test(test_v2_devices),   cmocka_unit_test(test_v2_files),
                cmocka_unit_test(test_systemd_root),
        };

        snprintf(root, sizeof(root), "/kubelite-test-%d", getpid());
        return cmocka_run_group_tests(tests, NULL, NULL);
}
