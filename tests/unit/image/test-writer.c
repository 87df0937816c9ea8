/* SPDX-License-Identifier: Apache-2.0 */

/* The writer's limits and what must stay outside the layer; whole layers are in tests/daemon. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/str.h"
#include "image/worker/writer-internal.h"

#include <fcntl.h>
#include <sys/stat.h>

typedef struct Fixture {
        char path[32];
        int root;
        Writer *writer;
        char **opaque;
} Fixture;

static void on_opaque(const char *path, void *data)
{
        Fixture *f = data;

        strv_add(&f->opaque, path);
}

static int setup(void **state)
{
        Fixture *f = calloc(1, sizeof(*f));

        memcpy(f->path, "/tmp/klt-writer-XXXXXX", 23);
        assert_non_null(mkdtemp(f->path));
        f->root = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(writer_new(f->root, on_opaque, f, &f->writer, NULL), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        Fixture *f = *state;

        writer_free(f->writer);
        close(f->root);
        tree_remove(f->path);
        strv_free(f->opaque);
        free(f);
        return 0;
}

static Entry file_entry(const char *path)
{
        return (Entry){ .path = path, .mode = S_IFREG | 0644, .uid = getuid(), .gid = getgid() };
}

static Entry link_entry(const char *path, const char *target)
{
        return (Entry){ .path = path,
                        .mode = S_IFLNK | 0777,
                        .link = target,
                        .uid = getuid(),
                        .gid = getgid() };
}

static void test_links_stay_inside(void **state)
{
        Fixture *f = *state;
        Entry link = link_entry("a", "/"), up = link_entry("b", "../../.."), file;
        struct stat st;

        assert_int_equal(writer_entry(f->writer, &link, NULL), 0);
        assert_int_equal(writer_entry(f->writer, &up, NULL), 0);
        file = file_entry("a/klt-one");
        assert_int_equal(writer_entry(f->writer, &file, NULL), 1);
        file = file_entry("b/klt-two");
        assert_int_equal(writer_entry(f->writer, &file, NULL), 1);
        assert_int_equal(writer_finish(f->writer, NULL), 0);
        assert_int_equal(fstatat(f->root, "klt-one", &st, 0), 0);
        assert_int_equal(fstatat(f->root, "klt-two", &st, 0), 0);
        assert_int_equal(access("/klt-one", F_OK), -1);
}

static void test_entry_limit(void **state)
{
        Fixture *f = *state;
        Entry mark = { .path = ".wh..wh.x", .mode = S_IFREG };
        KL_AUTOERR err = NULL;

        for (int i = 0; i < LAYER_ENTRIES_MAX; i++)
                assert_int_equal(writer_entry(f->writer, &mark, NULL), 0);
        assert_int_equal(writer_entry(f->writer, &mark, &err), -EFBIG);
        assert_non_null(strstr(kl_error_msg(err), "more than 1000000 entries"));
}

static void test_sizes(void **state)
{
        Fixture *f = *state;
        Entry file = file_entry("holes");
        struct stat st;

        file.size = LAYER_APPARENT_MAX + 1;
        assert_int_equal(writer_entry(f->writer, &file, NULL), -EFBIG);
        file = file_entry("small");
        file.size = 10;
        assert_int_equal(writer_entry(f->writer, &file, NULL), 1);
        assert_int_equal(writer_data(f->writer, "abcdef", 6, 5, NULL), -EINVAL);
        assert_int_equal(writer_data(f->writer, "abc", 3, 2, NULL), 0);
        assert_int_equal(writer_finish(f->writer, NULL), 0);
        assert_int_equal(fstatat(f->root, "small", &st, 0), 0);
        assert_int_equal(st.st_size, 10);
}

static void test_xattr_limits(void **state)
{
        Fixture *f = *state;
        static char big[ENTRY_XATTR_BYTES_MAX + 1];
        EntryXattr many[ENTRY_XATTRS_MAX + 1], large = { "user.a", big, sizeof(big) };
        EntryXattr trusted = { "trusted.overlay.opaque", "y", 1 };
        EntryXattr other = { "security.selinux", "x", 1 };
        Entry file = file_entry("x");

        for (size_t i = 0; i < ELEMENTS(many); i++)
                many[i] = (EntryXattr){ "user.a", "1", 1 };
        file.xattrs = many;
        file.n_xattrs = ELEMENTS(many);
        assert_int_equal(writer_entry(f->writer, &file, NULL), -EFBIG);
        file.xattrs = &large;
        file.n_xattrs = 1;
        assert_int_equal(writer_entry(f->writer, &file, NULL), -EFBIG);
        file.xattrs = &trusted;
        assert_int_equal(writer_entry(f->writer, &file, NULL), -EPERM);
        file.xattrs = &other; /* left out */
        assert_int_equal(writer_entry(f->writer, &file, NULL), 1);
        assert_int_equal(writer_finish(f->writer, NULL), 0);
}

static void test_opaque(void **state)
{
        Fixture *f = *state;
        Entry mark = { .path = "d/.wh..wh..opq", .mode = S_IFREG };

        assert_int_equal(writer_entry(f->writer, &mark, NULL), 0);
        assert_int_equal(writer_finish(f->writer, NULL), 0);
        assert_int_equal(strv_len(f->opaque), 1);
        assert_string_equal(f->opaque[0], "d");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_links_stay_inside, setup, teardown),
                cmocka_unit_test_setup_teardown(test_entry_limit, setup, teardown),
                cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_xattr_limits, setup, teardown),
                cmocka_unit_test_setup_teardown(test_opaque, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
