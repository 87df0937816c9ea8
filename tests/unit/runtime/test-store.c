/* SPDX-License-Identifier: Apache-2.0 */

/* Records survive being written and read; damaged ones are told, never half believed. */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char dir[64];

static void put(const char *name, const char *text)
{
        KL_AUTOFREE char *path = str_format("%s/%s", dir, name);

        assert_int_equal(file_replace(path, text, strlen(text), 0600, false), 0);
}

static int set_up(void **state)
{
        snprintf(dir, sizeof(dir), "/tmp/test-store.XXXXXX");
        return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
        return tree_remove(dir);
}

static void test_sandbox(void **state)
{
        Sysctl sysctls[] = { { "net.a", "1" }, { "kernel/b", "x y" } };
        SandboxSpec spec = { .id = ID,
                             .pod_uid = "u-1",
                             .pod_namespace = "ns",
                             .pod_name = "na\"me",
                             .attempt = 7,
                             .pod_start_us = 1700000000000001,
                             .hostname = "h",
                             .host_ipc = true,
                             .share_pid = true,
                             .sysctls = sysctls,
                             .n_sysctls = 2,
                             .qos = QOS_BEST_EFFORT,
                             .resources = { .cpu_shares = 2,
                                            .cpu_quota_us = 3,
                                            .cpu_period_us = 4,
                                            .memory_bytes = 5,
                                            .pids = 6 },
                             .log_dir = "/var/log/x" },
                    got;
        KL_AUTO(arena_free) Arena *arena = arena_new();
        KL_AUTOFREE char *path = str_format("%s/sandbox.json", dir), *text = NULL;
        char *boot;
        struct stat st;

        assert_int_equal(store_write_sandbox(dir, &spec, "boot-1", NULL), 0);
        assert_int_equal(store_read_sandbox(dir, arena, &got, &boot, NULL), 0);
        assert_string_equal(boot, "boot-1");
        assert_string_equal(got.id, ID);
        assert_string_equal(got.pod_name, "na\"me");
        assert_int_equal(got.attempt, 7);
        assert_int_equal(got.pod_start_us, 1700000000000001);
        assert_true(got.host_ipc && got.share_pid && !got.host_network && !got.host_pid);
        assert_int_equal(got.n_sysctls, 2);
        assert_string_equal(got.sysctls[1].value, "x y");
        assert_int_equal(got.qos, QOS_BEST_EFFORT);
        assert_memory_equal(&got.resources, &spec.resources, sizeof(Resources));
        assert_string_equal(got.log_dir, "/var/log/x");
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(file_read(path, 65536, &text, NULL), 0);
        assert_true(str_starts(text, "{\"schema\":1,"));
}

static void test_damaged(void **state)
{
        static const char *const bad[] = {
                "",
                "{",
                "[]",
                "{}",
                "{\"schema\":2}",
                "{\"schema\":\"1\"}",
                "{\"schema\":1}",
                "{\"schema\":1,\"id\":\"" ID "\",\"uid\":\"../x\"}",
                "{\"schema\":1,\"id\":\"short\",\"uid\":\"u\"}",
                "{\"schema\":1,\"id\":\"" ID "\",\"uid\":\"u\",\"attempt\":-1}",
                "{\"schema\":1,\"id\":\"" ID "\",\"uid\":\"u\",\"sysctls\":[{\"name\":\"a\"}]}",
        };
        KL_AUTO(arena_free) Arena *arena = arena_new();
        SandboxSpec got;
        char *boot;

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                KL_AUTOERR err = NULL;

                put("sandbox.json", bad[i]);
                assert_true(store_read_sandbox(dir, arena, &got, &boot, &err) < 0);
                assert_non_null(strstr(kl_error_msg(err), "sandbox.json"));
        }
}

static void test_container(void **state)
{
        ContainerRecord record = { ID, "c", "img", "id", "ref", "hash", 3, 1234567 }, got;
        KL_AUTO(arena_free) Arena *arena = arena_new();
        ShimContainerState *st = calloc(1, sizeof(*st)), *back = calloc(1, sizeof(*st));

        assert_int_equal(store_write_container(dir, &record, NULL), 0);
        assert_int_equal(store_read_container(dir, arena, &got, NULL), 0);
        assert_string_equal(got.image_ref, "ref");
        assert_string_equal(got.spec_hash, "hash");
        assert_int_equal(got.attempt, 3);
        assert_int_equal(got.created_us, 1234567);
        assert_int_equal(store_read_exit(dir, back, NULL), 1);
        snprintf(st->id, sizeof(st->id), "%s", ID);
        st->state = SHIM_CONTAINER_EXITED;
        st->exit_code = 137;
        st->signal = 9;
        st->finished_us = 99;
        snprintf(st->reason, sizeof(st->reason), "ContainerStatusUnknown");
        snprintf(st->message, sizeof(st->message), "two\nlines");
        assert_int_equal(store_write_exit(dir, st, NULL), 0);
        assert_int_equal(store_read_exit(dir, back, NULL), 0);
        assert_int_equal(back->exit_code, 137);
        assert_int_equal(back->finished_us, 99);
        assert_string_equal(back->reason, "ContainerStatusUnknown");
        assert_non_null(strstr(back->message, "two"));
        put("exit", "garbage");
        assert_true(store_read_exit(dir, back, NULL) < 0);
        put("meta.json", "{\"schema\":1,\"id\":\"x\"}");
        assert_true(store_read_container(dir, arena, &got, NULL) < 0);
        free(st);
        free(back);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_sandbox, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_container, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
