/* SPDX-License-Identifier: Apache-2.0 */

/* The atomic writer on a real directory. */

#include "../unit.h"
#include "base/file.h"
#include "base/str.h"
#include "volume/volume-internal.h"

#include <fcntl.h>
#include <sys/stat.h>

static char dir[64];

static int setup(void **state)
{
        strncpy(dir, "/tmp/kubelite-atomic-XXXXXX", sizeof(dir) - 1);
        return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
        return tree_remove(dir);
}

static void write_all(const AtomicFile *files, size_t n)
{
        KL_AUTOERR err = NULL;

        if (atomic_write(dir, files, n, -1, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
}

static void expect_file(const char *name, const char *content)
{
        KL_AUTOFREE char *path = str_format("%s/%s", dir, name);
        KL_AUTOFREE char *text = NULL;
        int r = file_read(path, 1000, &text, NULL);

        if (!content) {
                assert_int_equal(r, -ENOENT);
                return;
        }
        assert_int_equal(r, 0);
        assert_string_equal(text, content);
}

static void current(char *buf, size_t size)
{
        KL_AUTOFREE char *path = str_format("%s/..data", dir);
        ssize_t n = readlink(path, buf, size - 1);

        buf[n > 0 ? n : 0] = '\0';
}

static size_t count_entries(void)
{
        KL_AUTODIR DIR *d = opendir(dir);
        size_t n = 0;

        while (readdir(d))
                n++;
        return n - 2;
}

#define FILE_OF(p, text)                                                                           \
        {                                                                                          \
                .path = (char *)(p), .data = (text), .len = strlen(text), .mode = 0644, .uid = -1  \
        }

static void test_versions_replace_each_other(void **state)
{
        const AtomicFile one[] = { FILE_OF("a", "1"), FILE_OF("sub/b", "2") };
        const AtomicFile two[] = { FILE_OF("a", "new"), FILE_OF("c", "3") };
        char first[64], second[64];

        write_all(one, 2);
        expect_file("a", "1");
        expect_file("sub/b", "2");
        current(first, sizeof(first));
        /* The same again changes nothing. */
        write_all(one, 2);
        current(second, sizeof(second));
        assert_string_equal(first, second);
        write_all(two, 2);
        current(second, sizeof(second));
        assert_string_not_equal(first, second);
        expect_file("a", "new");
        expect_file("c", "3");
        expect_file("sub/b", NULL);
        /* ..data, its target, and a link each for a and c. */
        assert_int_equal(count_entries(), 4);
}

static void test_modes(void **state)
{
        AtomicFile file = FILE_OF("secret", "x");
        KL_AUTOFREE char *path = str_format("%s/secret", dir);
        struct stat st;

        file.mode = 0400;
        write_all(&file, 1);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0400);
        assert_int_equal(atomic_write(dir, &file, 1, 1234, NULL), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0440);
        assert_int_equal(st.st_gid, 1234);
}

static void test_paths_stay_inside(void **state)
{
        static const char *const bad[] = { "",       "/etc/x", "../x", "a/../../x",
                                           "..data", "..x",    "a/.." };

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                const AtomicFile file = FILE_OF(bad[i], "x");
                KL_AUTOERR err = NULL;

                assert_int_equal(atomic_write(dir, &file, 1, -1, &err), -EINVAL);
        }
}

/* Links planted by whoever can write into the volume lead nowhere. */
static void test_planted_links(void **state)
{
        const AtomicFile file = FILE_OF("a", "mine");
        KL_AUTOFREE char *data = str_format("%s/..data", dir);
        KL_AUTOFREE char *canary_dir = str_format("%s-canary", dir);
        KL_AUTOFREE char *canary = str_format("%s/keep", canary_dir);

        assert_int_equal(dir_make_all(canary_dir, 0755), 0);
        assert_int_equal(file_replace(canary, "x", 1, 0644, false), 0);
        unlink(data);
        assert_int_equal(symlink(canary_dir, data), 0);
        write_all(&file, 1);
        expect_file("a", "mine");
        assert_int_equal(access(canary, F_OK), 0);
        assert_int_equal(tree_remove(canary_dir), 0);
}

static void test_full_disk_keeps_the_old(void **state)
{
        const AtomicFile one = FILE_OF("a", "old");
        const AtomicFile missing = FILE_OF("a", "new");
        KL_AUTOERR err = NULL;

        write_all(&one, 1);
        assert_true(atomic_write("/proc/self", &missing, 1, -1, &err) < 0);
        expect_file("a", "old");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_versions_replace_each_other),
                cmocka_unit_test(test_modes),
                cmocka_unit_test(test_paths_stay_inside),
                cmocka_unit_test(test_planted_links),
                cmocka_unit_test(test_full_disk_keeps_the_old),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
