/* SPDX-License-Identifier: Apache-2.0 */

/* Log records, users and programs: the parts of the shim that read what containers write. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"
#include "shim/log-line.h"
#include "shim/program.h"
#include "shim/user.h"

#include <fcntl.h>
#include <sys/stat.h>

/* --- log records --- */

static void collect(const char *record, size_t len, void *data)
{
        buf_add(data, record, len);
}

static void check_log(const char *input, size_t len, size_t step, const char *expected)
{
        LogStream stream = { .name = "stdout" };
        KL_AUTOBUF out = BUF_INIT;

        for (size_t at = 0; at < len; at += step)
                log_stream_add(&stream, "T", input + at, len - at < step ? len - at : step, collect,
                               &out);
        log_stream_end(&stream, "T", collect, &out);
        assert_string_equal(buf_str(&out), expected);
        assert_null(stream.partial);
}

static void test_lines(void **state)
{
        for (size_t step = 1; step < 12; step++) {
                check_log("a\nb\n", 4, step, "T stdout F a\nT stdout F b\n");
                check_log("a\n\nb", 4, step, "T stdout F a\nT stdout F \nT stdout P b\n");
                check_log("\n", 1, step, "T stdout F \n");
                check_log("", 0, step, "");
        }
}

static void test_long_lines(void **state)
{
        const size_t sizes[] = { LOG_LINE_MAX - 1, LOG_LINE_MAX, LOG_LINE_MAX + 1,
                                 3 * LOG_LINE_MAX };
        const size_t steps[] = { 1000, LOG_LINE_MAX, 65536 };

        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                KL_AUTOFREE char *text = malloc(sizes[i] + 1);
                KL_AUTOBUF expected = BUF_INIT;
                size_t left = sizes[i];

                memset(text, 'x', sizes[i]);
                text[sizes[i]] = '\n';
                while (left > LOG_LINE_MAX) {
                        buf_addf(&expected, "T stdout P %.*s\n", (int)LOG_LINE_MAX, text);
                        left -= LOG_LINE_MAX;
                }
                buf_addf(&expected, "T stdout F %.*s\n", (int)left, text);
                for (size_t j = 0; j < ELEMENTS(steps); j++)
                        check_log(text, sizes[i] + 1, steps[j], buf_str(&expected));
        }
}

/* --- users --- */

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "broken line\n::::::\nbig:x:4294967296:1::/:\n"
                             "app:x:1000:1001:App:/home/app:/bin/sh\n"
                             "1234:x:77:78::/numeric:\n"
                             "nolf:x:5:6::/n:";
static const char group[] = "root:x:0:\nextra:x:2000:other,app\nmore:x:2001:app\napplike:x:2002:"
                            "apple,xapp\nstaff:x:50:";

static int resolve(const ShimUser *user, ResolvedUser *ret, KlError **err)
{
        return user_resolve(user, passwd, group, ret, err);
}

static ShimUser of(const char *image_user)
{
        return (ShimUser){ .run_as_user = -1, .run_as_group = -1, .image_user = image_user };
}

static void check_user(const char *image_user, uint32_t uid, uint32_t gid, const char *home)
{
        KL_AUTOERR err = NULL;
        ShimUser user = of(image_user);
        ResolvedUser got;

        if (resolve(&user, &got, &err) < 0)
                fail_msg("'%s': %s", image_user, kl_error_msg(err));
        assert_int_equal(got.uid, uid);
        assert_int_equal(got.gid, gid);
        assert_string_equal(got.home, home);
        assert_int_equal(got.groups[0], gid);
}

static void test_image_users(void **state)
{
        check_user("", 0, 0, "/root");
        check_user("root", 0, 0, "/root");
        check_user("app", 1000, 1001, "/home/app");
        check_user("1000", 1000, 1001, "/home/app");
        check_user("4242", 4242, 0, "/");
        check_user("app:staff", 1000, 50, "/home/app");
        check_user("app:77", 1000, 77, "/home/app");
        check_user("0:0", 0, 0, "/root");
        check_user("+0", 0, 0, "/root");
        check_user("2147483647", 2147483647, 0, "/");
        check_user("nolf", 5, 6, "/n");
        check_user(":staff", 0, 50, "/root");
}

static void test_bad_users(void **state)
{
        static const char *const bad[] = { "4294967296",
                                           "2147483648",
                                           "-1",
                                           "-0x1",
                                           "nobody",
                                           "app:nogroup",
                                           "app:4294967296",
                                           "18446744073709551616",
                                           "99999999999999999999999" };

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                KL_AUTOERR err = NULL;
                ShimUser user = of(bad[i]);
                ResolvedUser got;

                if (resolve(&user, &got, &err) >= 0)
                        fail_msg("'%s' became %u:%u", bad[i], got.uid, got.gid);
                assert_string_equal(err->reason, "CreateContainerError");
        }
}

static void test_groups(void **state)
{
        const uint32_t extra[] = { 3000, 2000 };
        ShimUser user = of("app");
        ResolvedUser got;

        user.groups = extra;
        user.n_groups = 2;
        assert_int_equal(resolve(&user, &got, NULL), 0);
        assert_int_equal(got.n_groups, 4);
        assert_int_equal(got.groups[1], 2000);
        assert_int_equal(got.groups[2], 2001);
        assert_int_equal(got.groups[3], 3000);
        user.strict_groups = true;
        assert_int_equal(resolve(&user, &got, NULL), 0);
        assert_int_equal(got.n_groups, 3);
        user.run_as_user = 1000;
        user.image_user = "whoever";
        user.run_as_group = 9;
        assert_int_equal(resolve(&user, &got, NULL), 0);
        assert_int_equal(got.uid, 1000);
        assert_int_equal(got.gid, 9);
}

static void test_non_root(void **state)
{
        KL_AUTOERR err = NULL;
        ShimUser user = of("root");
        ResolvedUser got;

        user.non_root = true;
        assert_int_equal(resolve(&user, &got, &err), -EPERM);
        assert_string_equal(err->reason, "CreateContainerConfigError");
        user.run_as_user = 0;
        user.image_user = "app";
        assert_int_equal(resolve(&user, &got, NULL), -EPERM);
        user.run_as_user = -1;
        assert_int_equal(resolve(&user, &got, NULL), 0);
}

/* What images put there in bad faith. */
static void test_hostile_files(void **state)
{
        char dir[] = "/tmp/kubelite-test-user-XXXXXX";
        ShimUser user = of("app");
        ResolvedUser got;
        char path[64];
        int root;

        assert_non_null(mkdtemp(dir));
        root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        user.image_user = "7";
        assert_int_equal(user_lookup(&user, root, &got, NULL), 0);
        assert_int_equal(got.uid, 7);
        assert_int_equal(mkdirat(root, "etc", 0755), 0);
        assert_int_equal(symlinkat("/dev/zero", root, "etc/passwd"), 0);
        assert_int_equal(user_lookup(&user, root, &got, NULL), -ELOOP);
        unlinkat(root, "etc/passwd", 0);
        assert_int_equal(mkfifoat(root, "etc/passwd", 0644), 0);
        assert_int_equal(user_lookup(&user, root, &got, NULL), -EINVAL);
        unlinkat(root, "etc/passwd", 0);
        snprintf(path, sizeof(path), "%s/etc/group", dir);
        assert_int_equal(file_replace(path, "", 0, 0644, false), 0);
        assert_int_equal(truncate(path, USER_FILE_MAX), 0);
        assert_int_equal(user_lookup(&user, root, &got, NULL), 0);
        assert_int_equal(truncate(path, USER_FILE_MAX + 1), 0);
        assert_int_equal(user_lookup(&user, root, &got, NULL), -EFBIG);
        close(root);
        assert_int_equal(tree_remove(dir), 0);
}

/* --- programs --- */

static void expect_missing(const char *name, char *const *env, const char *message)
{
        KL_AUTOERR err = NULL;
        char path[PATH_MAX];

        assert_true(program_find(name, env, path, &err) < 0);
        assert_string_equal(kl_error_msg(err), message);
        assert_string_equal(err->reason, "StartError");
}

static void test_programs(void **state)
{
        char *const env[] = { (char *)"PATH=/nowhere:/bin:/usr/bin", NULL };
        char *const etc[] = { (char *)"PATH=/etc", NULL };
        char *const none[] = { NULL };
        char path[PATH_MAX];

        assert_int_equal(program_find("sh", env, path, NULL), 0);
        assert_string_equal(path, "/bin/sh");
        assert_int_equal(program_find("sh", none, path, NULL), 0);
        assert_int_equal(program_find("/bin/sh", none, path, NULL), 0);
        expect_missing("x", env, "exec: \"x\": executable file not found in $PATH");
        expect_missing("", env, "exec: \"\": executable file not found in $PATH");
        expect_missing("/no/such", env,
                       "exec: \"/no/such\": stat /no/such: no such file or directory");
        expect_missing("passwd", etc, "exec: \"passwd\": permission denied");
        expect_missing("/etc", etc, "exec: \"/etc\": is a directory");
        assert_string_equal(env_get(env, "PATH"), "/nowhere:/bin:/usr/bin");
        assert_null(env_get(env, "PAT"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lines),         cmocka_unit_test(test_long_lines),
                cmocka_unit_test(test_image_users),   cmocka_unit_test(test_bad_users),
                cmocka_unit_test(test_groups),        cmocka_unit_test(test_non_root),
                cmocka_unit_test(test_hostile_files), cmocka_unit_test(test_programs),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
