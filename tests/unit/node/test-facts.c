/* SPDX-License-Identifier: Apache-2.0 */

/* Machine facts from a directory that looks like a machine, and from this one. */

#include "node/facts.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static char root[64];

static int make_root(void **state)
{
        snprintf(root, sizeof(root), "/tmp/kubelite-facts-XXXXXX");
        return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
        return tree_remove(root);
}

static void put(const char *path, const char *text)
{
        KL_AUTOFREE char *full = str_format("%s%s", root, path);
        KL_AUTOFREE char *dir = strdup(full);

        *strrchr(dir, '/') = '\0';
        assert_int_equal(dir_make_all(dir, 0755), 0);
        assert_int_equal(file_replace(full, text, strlen(text), 0644, false), 0);
}

static void put_machine(void)
{
        put("/sys/devices/system/cpu/online", "0-2,5\n");
        put("/proc/meminfo",
            "MemTotal:       24684084 kB\nMemFree: 1 kB\nSwapTotal:        2048 kB\n");
        put("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "1\n");
        put("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "16\n");
        put("/etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n");
        put("/proc/sys/kernel/random/boot_id", "a4e723a0-09c2-44c3-b246-a045829c76c9\n");
        put("/proc/sys/kernel/osrelease", "6.1.0\n");
        put("/etc/os-release",
            "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n");
}

static void test_machine(void **state)
{
        KL_AUTOERR err = NULL;
        NodeFacts facts;

        put_machine();
        if (facts_read(root, &facts, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_int_equal(facts.cpus, 4);
        assert_int_equal(facts.memory_bytes, 24684084LL * 1024);
        assert_int_equal(facts.swap_bytes, 2048 * 1024);
        assert_int_equal(facts.n_hugepages, 2);
        assert_int_equal(facts.hugepages[0].page_bytes, 2 << 20);
        assert_int_equal(facts.hugepages[0].total_bytes, 32 << 20);
        assert_int_equal(facts.hugepages[1].total_bytes, 1 << 30);
        assert_string_equal(facts.machine_id, "3d1219c7c4c5404aaa1f6d2a48adfda4");
        assert_string_equal(facts.system_uuid, facts.machine_id);
        assert_string_equal(facts.boot_id, "a4e723a0-09c2-44c3-b246-a045829c76c9");
        assert_string_equal(facts.kernel_version, "6.1.0");
        assert_string_equal(facts.os_image, "Debian GNU/Linux 12 (bookworm)");
        put("/sys/class/dmi/id/product_uuid", "  ABCD-EF \n");
        assert_int_equal(facts_read(root, &facts, &err), 0);
        assert_string_equal(facts.system_uuid, "ABCD-EF");
}

static void test_refresh_sees_hugepages(void **state)
{
        NodeFacts facts;

        put_machine();
        assert_int_equal(facts_read(root, &facts, NULL), 0);
        put("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "4\n");
        assert_int_equal(facts_refresh(root, &facts), 0);
        assert_int_equal(facts.hugepages[0].total_bytes, 8 << 20);
}

static void test_poor_machine(void **state)
{
        KL_AUTOERR err = NULL;
        NodeFacts facts;

        assert_int_equal(facts_read("/nonexistent", &facts, &err), -ENODATA);
        put("/sys/devices/system/cpu/online", "0");
        put("/proc/meminfo", "MemTotal: 1000 kB\n");
        assert_int_equal(facts_read(root, &facts, NULL), 0);
        assert_string_equal(facts.os_image, "Linux");
        assert_string_equal(facts.machine_id, "");
        assert_int_equal(facts.n_hugepages, 0);
        put("/proc/meminfo", "nothing\n");
        assert_int_equal(facts_read(root, &facts, NULL), -ENODATA);
}

static void test_this_machine(void **state)
{
        KL_AUTOERR err = NULL;
        NodeFacts facts;
        int64_t bytes = 0;

        if (facts_read("", &facts, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_int_equal(facts.cpus, sysconf(_SC_NPROCESSORS_ONLN));
        assert_true(facts.memory_bytes > 1 << 20);
        assert_true(*facts.boot_id && *facts.kernel_version && *facts.architecture);
        assert_int_equal(facts_root_size("/", &bytes), 0);
        assert_true(bytes > 0);
        assert_int_equal(facts_root_size("/nonexistent", &bytes), -ENOENT);
}

static void test_cpu_lists(void **state)
{
        static const struct {
                const char *list;
                int64_t count;
        } cases[] = { { "0", 1 },  { "0-3", 4 },  { "0-3,8,10-11", 7 }, { "", -1 },
                      { "a", -1 }, { "3-1", -1 }, { "0-", -1 },         { "-1", -1 } };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                int64_t count = -1;
                int r = facts_cpu_list_count(cases[i].list, &count);

                assert_int_equal(r, cases[i].count < 0 ? -EINVAL : 0);
                assert_int_equal(count, cases[i].count);
        }
}

static void test_routes(void **state)
{
        static const char head[] = "Iface\tDestination\tGateway "
                                   "\tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        KL_AUTOFREE char *route =
                str_format("%seth1\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
                           "eth0\t00000000\t0101A8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0\n"
                           "eth2\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n",
                           head);
        static const char route6[] =
                "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 "
                "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth3\n"
                "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
                "fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth4\n"
                "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
                "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
        char name[FACTS_INTERFACE_SIZE];

        assert_int_equal(facts_default_interface(route, name), 0);
        assert_string_equal(name, "eth0");
        assert_int_equal(facts_default_interface6(route6, name), 0);
        assert_string_equal(name, "eth4");
        assert_int_equal(facts_default_interface(head, name), -ENOENT);
        assert_int_equal(facts_default_interface6("", name), -ENOENT);
        assert_int_equal(facts_default_interface("garbage\n\n\x01\n", name), -ENOENT);
}

static void test_addresses_asked_for(void **state)
{
        char *asked[] = { (char *)"10.1.2.3", (char *)"fd00::3", NULL };
        KL_AUTOSTRV found = NULL;
        KL_AUTOERR err = NULL;

        assert_int_equal(facts_addresses("", asked, &found, &err), 0);
        assert_int_equal(strv_len(found), 2);
        assert_string_equal(found[0], "10.1.2.3");
        assert_string_equal(found[1], "fd00::3");
}

static void test_architectures(void **state)
{
        assert_string_equal(facts_go_architecture("x86_64"), "amd64");
        assert_string_equal(facts_go_architecture("aarch64"), "arm64");
        assert_string_equal(facts_go_architecture("mystery"), "mystery");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_machine, make_root, remove_root),
                cmocka_unit_test_setup_teardown(test_refresh_sees_hugepages, make_root,
                                                remove_root),
                cmocka_unit_test_setup_teardown(test_poor_machine, make_root, remove_root),
                cmocka_unit_test(test_this_machine),
                cmocka_unit_test(test_cpu_lists),
                cmocka_unit_test(test_routes),
                cmocka_unit_test(test_addresses_asked_for),
                cmocka_unit_test(test_architectures),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
