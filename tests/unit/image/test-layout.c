/* SPDX-License-Identifier: Apache-2.0 */

/* Commits, removals, and what a crash may leave. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/str.h"
#include "image/layout-internal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <utime.h>

#define ID(c) "sha256:" c "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

typedef struct Fixture {
        char path[32];
        Layout *layout;
} Fixture;

static int setup(void **state)
{
        Fixture *f = calloc(1, sizeof(*f));

        memcpy(f->path, "/tmp/klt-layout-XXXXXX", 23);
        assert_non_null(mkdtemp(f->path));
        assert_int_equal(layout_open(f->path, &f->layout, NULL), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        Fixture *f = *state;

        layout_close(f->layout);
        tree_remove(f->path);
        free(f);
        return 0;
}

static ImageRecord *record_of(const char *id, const char *tag)
{
        ImageRecord *record = image_record_new();
        static char *none[] = { NULL };

        record->image.id = arena_strdup(record->arena, id);
        record->image.user = record->image.working_dir = record->image.stop_signal = "";
        record->image.architecture = "amd64";
        record->image.os = "linux";
        record->image.env = record->image.entrypoint = record->image.cmd = none;
        record->image.volumes = record->image.layers = none;
        assert_int_equal(image_record_add_tag(record, tag), 0);
        return record;
}

/* Commits an image of the given diffs, new ones as directories in a fresh tmp. */
static int commit(Fixture *f, const char *id, const char *tag, const char *const *diffs, size_t n,
                  bool new)
{
        KL_AUTO(image_record_free) ImageRecord *record = record_of(id, tag);
        LayoutLayer layers[4] = { 0 };
        LayoutCommit c = { layers, n, record };
        char name[33];
        int fd = -1, r;

        assert_int_equal(layout_make_tmp(f->layout, &fd, name, NULL), 0);
        for (size_t i = 0; i < n; i++) {
                static const char *const names[] = { "0", "1", "2", "3" };

                layers[i] = (LayoutLayer){ diffs[i], new ? fd : -1, names[i], 1 };
                if (new)
                        assert_int_equal(mkdirat(fd, names[i], 0755), 0);
        }
        r = layout_commit(f->layout, &c, NULL);
        close(fd);
        return r;
}

static size_t count(Fixture *f, const char *part)
{
        KL_AUTOFREE char *path = str_format("%s/%s", f->path, part);
        KL_AUTODIR DIR *dir = opendir(path);
        size_t n = 0;

        while (readdir(dir))
                n++;
        return n - 2;
}

static void test_shared_layers(void **state)
{
        Fixture *f = *state;
        static const char *const one[] = { ID("a"), ID("b") }, *const two[] = { ID("a"), ID("c") };
        KL_AUTO(map_free) Map *records = NULL;

        assert_int_equal(commit(f, ID("0"), "x:1", one, 2, true), 0);
        assert_int_equal(commit(f, ID("1"), "x:2", two, 2, true), 0);
        assert_int_equal(count(f, "layers"), 3);
        assert_int_equal(layout_remove(f->layout, ID("0"), "x:1", NULL), 0);
        assert_int_equal(count(f, "layers"), 2);
        assert_int_equal(count(f, "trash"), 0);
        assert_int_equal(layout_load(f->layout, NULL, NULL, &records, NULL), 0);
        assert_int_equal(map_len(records), 1);
        assert_int_equal(layout_remove(f->layout, ID("0"), NULL, NULL), -ENOENT);
}

static void test_equal_layers(void **state)
{
        Fixture *f = *state;
        static const char *const diffs[] = { ID("a"), ID("b"), ID("a") };
        KL_AUTO(image_record_free) ImageRecord *record = NULL;
        char a[LAYER_NAME_MAX], b[LAYER_NAME_MAX];

        assert_int_equal(commit(f, ID("0"), "x:1", diffs, 3, true), 0);
        assert_int_equal(layout_load_one(f->layout, ID("0"), &record, NULL), 0);
        assert_int_equal(strv_len(record->image.layers), 2);
        assert_int_equal(layout_find_diff(f->layout, ID("b"), b), 1);
        assert_int_equal(layout_find_diff(f->layout, ID("a"), a), 1);
        assert_string_equal(record->image.layers[0], b);
        assert_string_equal(record->image.layers[1], a);
}

static void test_layer_that_went(void **state)
{
        Fixture *f = *state;
        static const char *const diffs[] = { ID("a") };

        assert_int_equal(commit(f, ID("0"), "x:1", diffs, 1, false), 1);
        assert_int_equal(count(f, "images"), 0);
        assert_int_equal(commit(f, ID("0"), "x:1", diffs, 1, true), 0);
}

static void test_tag_moves(void **state)
{
        Fixture *f = *state;
        static const char *const diffs[] = { ID("a") };
        KL_AUTO(image_record_free) ImageRecord *old = NULL, *new = NULL;

        assert_int_equal(commit(f, ID("0"), "x:1", diffs, 1, true), 0);
        assert_int_equal(commit(f, ID("1"), "x:1", diffs, 1, false), 0);
        assert_int_equal(layout_load_one(f->layout, ID("0"), &old, NULL), 0);
        assert_int_equal(layout_load_one(f->layout, ID("1"), &new, NULL), 0);
        assert_null(old->tags[0]);
        assert_string_equal(new->tags[0], "x:1");
        assert_true(new->sequence > old->sequence);
}

static void write_text(int dir, const char *name, const char *text)
{
        assert_int_equal(file_replace_at(dir, name, text, strlen(text), 0600, false), 0);
}

static void test_broken_records(void **state)
{
        Fixture *f = *state;
        static const char *const diffs[] = { ID("a") };
        KL_AUTO(map_free) Map *records = NULL;
        char layer[LAYER_NAME_MAX];

        assert_int_equal(commit(f, ID("0"), "x:1", diffs, 1, true), 0);
        write_text(f->layout->images_fd, "a.json", "{");
        write_text(f->layout->images_fd, "b.json", "{\"version\":2}");
        write_text(f->layout->images_fd, "c.json",
                   "{\"version\":1,\"id\":\"" ID("c") "\",\"layers\":[\"../../etc\"]}");
        write_text(f->layout->images_fd, "d.json",
                   "{\"version\":1,\"id\":\"" ID("d") "\",\"layers\":[\"zzz\"]}");
        assert_int_equal(layout_load(f->layout, NULL, NULL, &records, NULL), 0);
        assert_int_equal(map_len(records), 1);
        assert_int_equal(layout_find_diff(f->layout, ID("a"), layer), 1);
        tree_remove_at(f->layout->layers_fd, layer);
        records = map_free(records);
        assert_int_equal(layout_load(f->layout, NULL, NULL, &records, NULL), 0);
        assert_int_equal(map_len(records), 0);
}

static void test_clean(void **state)
{
        Fixture *f = *state;
        static const char *const diffs[] = { ID("a") };
        struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
        char name[33], held[33];
        int fd, held_fd;

        assert_int_equal(commit(f, ID("0"), "x:1", diffs, 1, true), 0);
        assert_int_equal(layout_clean(f->layout, NULL), 0);
        assert_int_equal(layout_make_tmp(f->layout, &fd, name, NULL), 0);
        close(fd);
        assert_int_equal(layout_make_tmp(f->layout, &held_fd, held, NULL), 0);
        mkdirat(f->layout->layers_fd, "zz", 0755);
        mkdirat(f->layout->trash_fd, "x", 0755);
        write_text(f->layout->ingest_fd, "new", "x");
        write_text(f->layout->ingest_fd, "old", "x");
        utimensat(f->layout->ingest_fd, "old", old, 0);
        write_text(f->layout->images_fd, "a.json.0123.tmp", "x");
        assert_int_equal(layout_clean(f->layout, NULL), 0);
        assert_int_equal(count(f, "tmp"), 1);
        assert_int_equal(count(f, "trash"), 0);
        assert_int_equal(count(f, "layers"), 1);
        assert_int_equal(count(f, "ingest"), 1);
        assert_int_equal(count(f, "images"), 1);
        close(held_fd);
        assert_int_equal(layout_clean(f->layout, NULL), 0);
        assert_int_equal(count(f, "tmp"), 0);
}

static void test_owner(void **state)
{
        Fixture *f = *state;
        KL_AUTO(layout_close) Layout *other = NULL;
        KL_AUTOFD int lock = layout_own(f->layout, NULL);
        KL_AUTOERR err = NULL;

        assert_true(lock >= 0);
        assert_int_equal(layout_open(f->path, &other, NULL), 0);
        assert_int_equal(layout_own(other, &err), -EBUSY);
}

static void test_version(void **state)
{
        Fixture *f = *state;
        KL_AUTO(layout_close) Layout *other = NULL;
        KL_AUTOERR err = NULL;

        write_text(f->layout->dir_fd, "version", "2\n");
        assert_int_equal(layout_open(f->path, &other, &err), -EINVAL);
        assert_non_null(strstr(kl_error_msg(err), "has version '2'"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_shared_layers), TEST(test_equal_layers),   TEST(test_layer_that_went),
                TEST(test_tag_moves),     TEST(test_broken_records), TEST(test_clean),
                TEST(test_owner),         TEST(test_version),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
