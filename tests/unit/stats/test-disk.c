/* SPDX-License-Identifier: Apache-2.0 */

/* The measuring of paths: what counts, what is kept, and what a path that never answers costs. */

#include "../unit.h"
#include "base/file.h"
#include "base/str.h"
#include "stats/disk-internal.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_MS 20000

typedef struct Fixture {
        Loop *loop;
        DiskService *disk;
        char dir[64];
        int n_answers;
        DiskUsage answer[8];
        size_t n;
} Fixture;

static int set_up(void **state)
{
        Fixture *f = calloc(1, sizeof(*f));

        assert_int_equal(loop_new(&f->loop, NULL), 0);
        assert_int_equal(disk_service_new(f->loop, &f->disk, NULL), 0);
        snprintf(f->dir, sizeof(f->dir), "/tmp/kubelite-disk-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        Fixture *f = *state;

        disk_service_free(f->disk);
        loop_free(f->loop);
        tree_remove(f->dir);
        free(f);
        return 0;
}

static void make_file(const Fixture *f, const char *name, size_t size)
{
        KL_AUTOFREE char *path = str_format("%s/%s", f->dir, name);
        KL_AUTOFREE char *data = calloc(1, size);

        assert_int_equal(file_replace(path, data, size, 0600, true), 0);
}

static void on_done(DiskQuery *query, const DiskUsage *usages, size_t n, void *data)
{
        Fixture *f = data;

        assert_true(n <= ELEMENTS(f->answer));
        memcpy(f->answer, usages, n * sizeof(*usages));
        f->n = n;
        f->n_answers++;
}

static DiskQuery *ask(Fixture *f, const DiskPath *paths, size_t n, uint64_t age_ms,
                      uint64_t wait_ms)
{
        DiskRequest request = { paths, n, age_ms, wait_ms, on_done, f };
        DiskQuery *query;

        assert_int_equal(disk_query(f->disk, &request, &query, NULL), 0);
        return query;
}

static void measure(Fixture *f, const DiskPath *paths, size_t n, uint64_t age_ms)
{
        int before = f->n_answers;

        ask(f, paths, n, age_ms, WAIT_MS);
        while (f->n_answers == before)
                loop_turn(f->loop, true);
        assert_int_equal(f->n, n);
}

static void test_a_tree_as_du_counts_it(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *sub = str_format("%s/sub", f->dir);
        KL_AUTOFREE char *a = str_format("%s/a", f->dir);
        KL_AUTOFREE char *other_name = str_format("%s/sub/same", f->dir);
        KL_AUTOFREE char *link_name = str_format("%s/sub/root", f->dir);
        KL_AUTOFREE char *fifo = str_format("%s/fifo", f->dir);
        DiskPath paths[] = { { f->dir, DISK_TREE }, { a, DISK_TREE }, { f->dir, DISK_FS } };
        struct stat st, dir;
        uint64_t expected;

        assert_int_equal(mkdir(sub, 0700), 0);
        make_file(f, "a", 100000);
        assert_int_equal(stat(a, &st), 0);
        expected = (uint64_t)st.st_blocks * 512;
        assert_int_equal(link(a, other_name), 0);
        assert_int_equal(symlink("/", link_name), 0);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(stat(i ? sub : f->dir, &dir), 0);
                expected += (uint64_t)dir.st_blocks * 512;
        }
        measure(f, paths, ELEMENTS(paths), 0);
        assert_true(f->answer[0].known);
        assert_int_equal(f->answer[0].used_bytes, expected);
        /* Two directories, the file with its two names, link and pipe. */
        assert_int_equal(f->answer[0].inodes_used, 5);
        assert_int_equal(f->answer[1].used_bytes, (uint64_t)st.st_blocks * 512);
        assert_int_equal(f->answer[1].inodes_used, 1);
        assert_true(f->answer[2].known);
        assert_true(f->answer[2].capacity_bytes >=
                    f->answer[2].used_bytes + f->answer[2].available_bytes);
        assert_int_equal(f->answer[2].capacity_bytes, f->answer[0].capacity_bytes);
        assert_true(f->answer[0].time_us > 0);
}

static void test_a_tree_ends_at_mounts(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *sub = str_format("%s/sub", f->dir);
        DiskPath paths[] = { { f->dir, DISK_TREE }, { sub, DISK_TREE } };

        if (mkdir(sub, 0700) < 0 || mount("tmpfs", sub, "tmpfs", 0, NULL) < 0)
                skip();
        make_file(f, "sub/inside", 1 << 20);
        measure(f, paths, ELEMENTS(paths), 0);
        umount2(sub, MNT_DETACH);
        assert_true(f->answer[0].used_bytes < 1 << 20);
        assert_true(f->answer[1].used_bytes >= 1 << 20);
}

static void test_figures_are_kept(void **state)
{
        Fixture *f = *state;
        DiskPath path = { f->dir, DISK_TREE };
        DiskUsage first;

        assert_false(disk_last(f->disk, f->dir, DISK_TREE).known);
        measure(f, &path, 1, 60000);
        first = f->answer[0];
        make_file(f, "a", 1 << 20);
        measure(f, &path, 1, 60000);
        assert_int_equal(f->answer[0].used_bytes, first.used_bytes);
        assert_int_equal(f->answer[0].time_us, first.time_us);
        usleep(2000);
        measure(f, &path, 1, 0);
        assert_true(f->answer[0].used_bytes >= first.used_bytes + (1 << 20));
        assert_int_equal(disk_last(f->disk, f->dir, DISK_TREE).used_bytes, f->answer[0].used_bytes);
        assert_false(disk_last(f->disk, f->dir, DISK_FS).known);
}

static void test_what_is_not_there_is_not_known(void **state)
{
        Fixture *f = *state;
        DiskPath paths[] = { { "/nowhere/at/all", DISK_TREE }, { "/nowhere", DISK_FS } };

        measure(f, paths, ELEMENTS(paths), 0);
        assert_false(f->answer[0].known);
        assert_false(f->answer[1].known);
        measure(f, NULL, 0, 0);
}

static void test_a_query_that_is_dropped(void **state)
{
        Fixture *f = *state;
        DiskPath path = { f->dir, DISK_TREE };

        disk_query_free(ask(f, &path, 1, 0, WAIT_MS));
        measure(f, &path, 1, 60000);
        assert_int_equal(f->n_answers, 1);
        assert_true(f->answer[0].known);
        /* One that is under way when the service goes. */
        disk_query_free(ask(f, &path, 1, 0, WAIT_MS));
}

/* A file system whose server never answers. */
static char *mount_dead(Fixture *f, int *ret_fd)
{
        KL_AUTOFREE char *dir = str_format("%s/dead", f->dir);
        KL_AUTOFREE char *options = NULL;

        *ret_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        options = str_format("fd=%d,rootmode=40000,user_id=0,group_id=0", *ret_fd);
        if (*ret_fd < 0 || mkdir(dir, 0700) < 0 || mount("dead", dir, "fuse", 0, options) < 0)
                return NULL;
        return KL_STEAL(dir);
}

static void test_a_path_that_never_answers(void **state)
{
        Fixture *f = *state;
        KL_AUTOFD int fuse = -1;
        KL_AUTOFREE char *dead = NULL;
        KL_AUTOFREE char *beside = str_format("%s/beside", f->dir);
        DiskPath paths[] = { { f->dir, DISK_FS }, { NULL, DISK_TREE }, { beside, DISK_TREE } };

        make_file(f, "beside", 1);
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                skip();
        dead = mount_dead(f, &fuse);
        if (!dead)
                skip();
        paths[1].path = dead;
        disk_service_set_deadlines(f->disk, 300, 300);

        /* Who does not want to wait has what is there. */
        ask(f, paths, 3, 0, 1);
        while (f->n_answers == 0)
                loop_turn(f->loop, true);
        assert_false(f->answer[1].known);

        /* The others are measured all the same, also those behind it. */
        measure(f, paths, 3, 0);
        assert_true(f->answer[0].known);
        assert_false(f->answer[1].known);

        /* It was tried alone, too; now it is left alone, and nobody waits for it. */
        disk_service_set_deadlines(f->disk, 60000, 60000);
        measure(f, paths, 3, 60000);
        assert_true(f->answer[0].known);
        assert_false(f->answer[1].known);
        umount2(dead, MNT_DETACH);
        measure(f, paths, 3, 0);
        assert_true(f->answer[2].known);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_tree_as_du_counts_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_a_tree_ends_at_mounts, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_figures_are_kept, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_what_is_not_there_is_not_known, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_a_query_that_is_dropped, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_a_path_that_never_answers, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
