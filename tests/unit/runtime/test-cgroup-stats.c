/* SPDX-License-Identifier: Apache-2.0 */

/* Files of both cgroup versions, as kernels write them, become the same figures. */

#include "../unit.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/cgroup-internal.h"

#include <stdlib.h>

typedef struct File {
        const char *path, *text;
} File;

static char dir[] = "/tmp/kubelite-stats-XXXXXX";

static int make_dir(void **state)
{
        memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
        return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
        return tree_remove(dir);
}

static void write_files(const File *files, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                KL_AUTOFREE char *path = str_format("%s/%s", dir, files[i].path);
                KL_AUTOFREE char *parent = strndup(path, (size_t)(strrchr(path, '/') - path));

                assert_int_equal(dir_make_all(parent, 0755), 0);
                assert_int_equal(
                        file_replace(path, files[i].text, strlen(files[i].text), 0644, false), 0);
        }
}

/* Each controller in a directory of its own, as mounted. */
static CgroupTree tree_v1(void)
{
        static const char *const names[] = { "cpu", "cpuacct", "memory", "pids" };
        CgroupTree tree = { .mode = CGROUP_V1, .ops = &cgroup_v1_ops };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                CgroupHierarchy *h = &tree.hierarchies[tree.n_hierarchies++];

                h->name = strdup(names[i]);
                h->mount_dir = str_format("%s/%s", dir, names[i]);
                h->dir = strdup(h->mount_dir);
        }
        return tree;
}

static CgroupTree tree_v2(void)
{
        CgroupTree tree = { .mode = CGROUP_V2, .ops = &cgroup_v2_ops, .n_hierarchies = 1 };

        tree.hierarchies[0].name = strdup("");
        tree.hierarchies[0].mount_dir = strdup(dir);
        tree.hierarchies[0].dir = strdup(dir);
        return tree;
}

static void tree_deinit(CgroupTree *tree)
{
        for (size_t i = 0; i < tree->n_hierarchies; i++) {
                free(tree->hierarchies[i].name);
                free(tree->hierarchies[i].mount_dir);
                free(tree->hierarchies[i].dir);
        }
}

#define AUTO_TREE __attribute__((cleanup(tree_deinit))) CgroupTree

static void test_version_1(void **state)
{
        static const File files[] = {
                { "cpuacct/g/cpuacct.usage", "40002965\n" },
                { "cpuacct/g/cpuacct.stat", "user 150\nsystem 25\n" },
                { "cpu/g/cpu.shares", "102\n" },
                { "cpu/g/cpu.cfs_period_us", "100000\n" },
                { "cpu/g/cpu.cfs_quota_us", "-1\n" },
                { "cpu/g/cpu.stat", "nr_periods 7\nnr_throttled 3\nthrottled_time 1000\n" },
                { "memory/g/memory.usage_in_bytes", "28073984\n" },
                { "memory/g/memory.max_usage_in_bytes", "28073985\n" },
                { "memory/g/memory.limit_in_bytes", "67108864\n" },
                { "memory/g/memory.memsw.limit_in_bytes", "100663296\n" },
                { "memory/g/memory.soft_limit_in_bytes", "9223372036854771712\n" },
                { "memory/g/memory.kmem.usage_in_bytes", "4096\n" },
                { "memory/g/memory.failcnt", "2\n" },
                { "memory/g/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n" },
                { "memory/g/memory.stat",
                  "cache 1\nrss 2\npgfault 11\npgmajfault 12\ninactive_file 9\n"
                  "hierarchical_memory_limit 67108864\ntotal_cache 500\ntotal_rss 8273920\n"
                  "total_rss_huge 77\ntotal_mapped_file 600\ntotal_swap 700\ntotal_pgfault 3655\n"
                  "total_pgmajfault 16\ntotal_inactive_file 73984\ntotal_active_file 800\n" },
                { "pids/g/pids.current", "4\n" },
                { "pids/g/pids.max", "max\n" },
        };
        AUTO_TREE tree = tree_v1();
        CgroupStats s;

        write_files(files, ELEMENTS(files));
        assert_int_equal(cgroup_stats(&tree, CGROUP_BASE_TREE, "g", CGROUP_STATS_ALL, &s), 0);
        assert_int_equal(s.cpu_usage_ns, 40002965);
        assert_int_equal(s.cpu_user_ns, 1500000000);
        assert_int_equal(s.cpu_system_ns, 250000000);
        assert_int_equal(s.cpu_shares, 102);
        assert_int_equal(s.cpu_quota_us, 0);
        assert_int_equal(s.cpu_period_us, 100000);
        assert_int_equal(s.cpu_throttled_periods, 3);
        assert_int_equal(s.memory_usage_bytes, 28073984);
        assert_int_equal(s.memory_working_set_bytes, 28000000);
        assert_int_equal(s.memory_rss_bytes, 8273920);
        assert_int_equal(s.memory_cache_bytes, 500);
        assert_int_equal(s.memory_limit_bytes, 64 << 20);
        assert_int_equal(s.memory_reservation_bytes, 0);
        assert_int_equal(s.swap_limit_bytes, 32 << 20);
        assert_int_equal(s.swap_usage_bytes, 700);
        assert_int_equal(s.page_faults, 3655);
        assert_int_equal(s.own_page_faults, 11);
        assert_int_equal(s.major_page_faults, 16);
        assert_int_equal(s.oom_kills, 5);
        assert_int_equal(s.pids, 4);
        assert_int_equal(s.pids_limit, 0);
        assert_false(s.cpu_pressure.known);

        /* Of these only what is asked for is read. */
        assert_int_equal(cgroup_stats(&tree, CGROUP_BASE_MOUNT, "/g", CGROUP_STATS_BASIC, &s), 0);
        assert_int_equal(s.memory_rss_bytes, 8273920);
        assert_int_equal(s.pids, 0);
        assert_int_equal(s.cpu_user_ns, 0);
}

static void test_version_2(void **state)
{
        static const File files[] = {
                { "g/cpu.stat", "usage_usec 40002\nuser_usec 30000\nsystem_usec 10002\n"
                                "nr_periods 7\nnr_throttled 3\nthrottled_usec 5\n" },
                { "g/cpu.weight", "100\n" },
                { "g/cpu.max", "20000 100000\n" },
                { "g/cpu.pressure", "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\n"
                                    "full avg10=0.50 avg60=0.00 avg300=0.00 total=99\n" },
                { "g/memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n" },
                { "g/io.pressure", "garbage\n" },
                { "g/memory.current", "28073984\n" },
                { "g/memory.peak", "28073985\n" },
                { "g/memory.max", "max\n" },
                { "g/memory.low", "0\n" },
                { "g/memory.swap.current", "700\n" },
                { "g/memory.swap.max", "0\n" },
                { "g/memory.events", "low 0\nhigh 0\nmax 2\noom 6\noom_kill 5\n" },
                { "g/memory.stat", "anon 8273920\nfile 500\nkernel 4096\nfile_mapped 600\n"
                                   "inactive_anon 1\ninactive_file 73984\nactive_file 800\n"
                                   "pgfault 3655\npgmajfault 16\n" },
                { "g/pids.current", "4\n" },
                { "g/pids.max", "50\n" },
        };
        AUTO_TREE tree = tree_v2();
        CgroupStats s;

        write_files(files, ELEMENTS(files));
        assert_int_equal(cgroup_stats(&tree, CGROUP_BASE_TREE, "g", CGROUP_STATS_ALL, &s), 0);
        assert_int_equal(s.cpu_usage_ns, 40002000);
        assert_int_equal(s.cpu_user_ns, 30000000);
        assert_int_equal(s.cpu_quota_us, 20000);
        assert_int_equal(s.cpu_period_us, 100000);
        assert_int_equal(s.cpu_shares, 2597); /* the inverse of what 2597 shares become */
        assert_int_equal(s.memory_working_set_bytes, 28000000);
        assert_int_equal(s.memory_rss_bytes, 8273920);
        assert_int_equal(s.memory_max_bytes, 28073985);
        assert_int_equal(s.memory_limit_bytes, 0);
        assert_int_equal(s.swap_usage_bytes, 700);
        assert_int_equal(s.swap_limit_bytes, 0);
        assert_int_equal(s.memory_failures, 2);
        assert_int_equal(s.oom_kills, 5);
        assert_int_equal(s.page_faults, 3655);
        assert_int_equal(s.pids_limit, 50);
        assert_true(s.cpu_pressure.known);
        assert_true(s.cpu_pressure.some.avg10 == 1.5);
        assert_int_equal(s.cpu_pressure.some.total_us, 12345);
        assert_int_equal(s.cpu_pressure.full.total_us, 99);
        assert_true(s.memory_pressure.known);
        assert_int_equal(s.memory_pressure.full.total_us, 0);
        assert_false(s.io_pressure.known);
}

static void test_what_is_missing_is_zero(void **state)
{
        static const File files[] = { { "g/memory.current", "1\n" } };
        AUTO_TREE v1 = tree_v1();
        AUTO_TREE v2 = tree_v2();
        CgroupStats s;

        assert_int_equal(cgroup_stats(&v1, CGROUP_BASE_TREE, "g", CGROUP_STATS_ALL, &s), -ENOENT);
        assert_int_equal(cgroup_stats(&v2, CGROUP_BASE_TREE, "g", CGROUP_STATS_ALL, &s), -ENOENT);
        write_files(files, ELEMENTS(files));
        assert_int_equal(cgroup_stats(&v2, CGROUP_BASE_TREE, "g", CGROUP_STATS_ALL, &s), 0);
        assert_int_equal(s.memory_usage_bytes, 1);
        assert_int_equal(s.cpu_usage_ns, 0);
}

static void test_texts_that_no_kernel_writes(void **state)
{
        static const char *const texts[] = {
                "",
                "some",
                "some avg10=x",
                "some avg10=1 avg60=2 avg300=3",
                "full avg10=1",
                "some avg10=1 avg60=2 avg300=3 total=\n",
        };
        static const File files[] = {
                { "g/memory.stat", "anon\nanon \nanon 99999999999999999999999\n file 3\n\n" },
                { "g/memory.current", "\n" },
        };
        AUTO_TREE v2 = tree_v2();
        CgroupPressure p;
        CgroupStats s;

        for (size_t i = 0; i < ELEMENTS(texts); i++)
                assert_false(cgroup_pressure_parse(texts[i], &p));
        write_files(files, ELEMENTS(files));
        assert_int_equal(cgroup_stats(&v2, CGROUP_BASE_TREE, "g", CGROUP_STATS_ALL, &s), 0);
        assert_int_equal(s.memory_cache_bytes, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_version_1, make_dir, remove_dir),
                cmocka_unit_test_setup_teardown(test_version_2, make_dir, remove_dir),
                cmocka_unit_test_setup_teardown(test_what_is_missing_is_zero, make_dir, remove_dir),
                cmocka_unit_test_setup_teardown(test_texts_that_no_kernel_writes, make_dir,
                                                remove_dir),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
