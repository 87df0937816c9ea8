/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/unit.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/gzip.h"
#include "server/log-chain.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST "0.log.20260101-000000"
#define SECOND "0.log.20260101-000100"
#define THIRD "0.log.20260101-000200"

typedef struct Folder {
        char path[64];
        int fd;
} Folder;

static int set_up(void **state)
{
        Folder *f = calloc(1, sizeof(*f));

        strcpy(f->path, "/tmp/kubelite-chain-XXXXXX");
        assert_non_null(mkdtemp(f->path));
        f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(mkdirat(f->fd, "c", 0755), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        Folder *f = *state;

        close(f->fd);
        assert_int_equal(tree_remove(f->path), 0);
        free(f);
        return 0;
}

static char *path_of(const Folder *f, const char *name)
{
        return str_format("%s/c/%s", f->path, name);
}

static void put(const Folder *f, const char *name, const char *text)
{
        KL_AUTOFREE char *path = path_of(f, name);
        KL_AUTOFD int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

        assert_true(fd >= 0);
        assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static void put_lines(const Folder *f, const char *name, int from, int to)
{
        KL_AUTOBUF text = BUF_INIT;

        for (int i = from; i < to; i++)
                buf_addf(&text, "line %d of %s\n", i, i % 7 ? "some" : "a longer kind of some");
        put(f, name, buf_str(&text));
}

static void move(const Folder *f, const char *from, const char *to)
{
        KL_AUTOFREE char *a = path_of(f, from), *b = path_of(f, to);

        assert_int_equal(rename(a, b), 0);
}

static void drop(const Folder *f, const char *name)
{
        KL_AUTOFREE char *path = path_of(f, name);

        assert_int_equal(unlink(path), 0);
}

static void pack(const Folder *f, const char *name)
{
        KL_AUTOFREE char *from = path_of(f, name), *to = str_format("%s.gz", from), *data = NULL;
        KL_AUTO(gzip_free) Gzip *gzip = gzip_new();
        KL_AUTOBUF packed = BUF_INIT;
        size_t len;

        assert_int_equal(file_read(from, 64 << 20, &data, &len), 0);
        assert_int_equal(gzip_add(gzip, data, len, true, &packed), 0);
        assert_int_equal(file_replace(to, packed.data, packed.len, 0640, false), 0);
        assert_int_equal(unlink(from), 0);
}

static LogChain *open_chain(const Folder *f, unsigned int flags)
{
        LogChain *c = NULL;

        assert_int_equal(log_chain_open(f->fd, "c/0.log", flags, &c), 0);
        return c;
}

static void read_on(LogChain *c, Buf *to)
{
        char block[1000];
        bool fresh;
        ssize_t n;

        while ((n = log_chain_read(c, block, sizeof(block), &fresh)) > 0)
                buf_add(to, block, (size_t)n);
        assert_int_equal(n, 0);
}

static void expect(LogChain *c, const char *text)
{
        KL_AUTOBUF got = BUF_INIT;

        read_on(c, &got);
        assert_string_equal(buf_str(&got), text);
}

static char *tail(const Folder *f, int64_t lines)
{
        KL_AUTO(log_chain_free) LogChain *c = open_chain(f, 0);
        KL_AUTOBUF got = BUF_INIT;
        int r;

        while ((r = log_chain_seek_tail(c, lines)) > 0)
                ;
        assert_int_equal(r, 0);
        read_on(c, &got);
        return buf_steal(&got);
}

static char *whole(const Folder *f)
{
        KL_AUTO(log_chain_free) LogChain *c = open_chain(f, 0);
        KL_AUTOBUF got = BUF_INIT;

        assert_int_equal(log_chain_seek_oldest(c, INT64_MIN), 0);
        read_on(c, &got);
        return buf_steal(&got);
}

static void test_all_files_in_order(void **state)
{
        const Folder *f = *state;
        KL_AUTOFREE char *text = NULL;

        put(f, FIRST, "a\n");
        put(f, SECOND, "b\n");
        put(f, THIRD, "c\n");
        put(f, "0.log", "d\n");
        put(f, "1.log", "other\n");
        put(f, "0.log.20260101-000100.tmp", "half");
        put(f, "0.log.old", "other\n");
        pack(f, FIRST);
        text = whole(f);
        assert_string_equal(text, "a\nb\nc\nd\n");
}

/* Every number of lines, with plain and compressed files of several blocks. */
static void test_tail(void **state)
{
        const Folder *f = *state;
        KL_AUTOFREE char *text = NULL;
        const char *at;
        int left = 9000;

        put_lines(f, FIRST, 0, 4000);
        put_lines(f, SECOND, 4000, 4003);
        put_lines(f, THIRD, 4003, 8000);
        put_lines(f, "0.log", 8000, 9000);
        pack(f, FIRST);
        pack(f, SECOND);
        text = whole(f);
        for (at = text; *at; at = strchr(at, '\n') + 1, left--) {
                KL_AUTOFREE char *got = NULL;

                /* All about the seams, and a sample of the rest. */
                if (left % 977 && labs(left - 1000) > 3 && labs(left - 5000) > 6 && left < 8998)
                        continue;
                got = tail(f, left);
                assert_string_equal(got, at);
        }
        for (int more = 0; more < 3; more++) {
                KL_AUTOFREE char *got = tail(f, 9000 + more);

                assert_string_equal(got, text);
        }
        {
                KL_AUTOFREE char *none = tail(f, 0);

                assert_string_equal(none, "");
        }
}

static void test_tail_of_a_single_file(void **state)
{
        const Folder *f = *state;
        static const char *const expected[] = { "", "c", "b\nc", "a\nb\nc", "a\nb\nc" };

        put(f, "0.log", "");
        for (int i = 0; i < 3; i++) {
                KL_AUTOFREE char *got = tail(f, i);

                assert_string_equal(got, "");
        }
        put(f, "0.log", "a\nb\nc");
        for (int i = 0; i < 5; i++) {
                KL_AUTOFREE char *got = tail(f, i);

                assert_string_equal(got, expected[i]);
        }
}

/* However often it is rotated between two looks, and whatever became of the files. */
static void test_follow(void **state)
{
        const Folder *f = *state;
        KL_AUTO(log_chain_free) LogChain *c = NULL;

        put(f, FIRST, "old\n");
        put(f, "0.log", "a\n");
        c = open_chain(f, LOG_CHAIN_FOLLOW);
        assert_int_equal(log_chain_seek_tail(c, 1), 1);
        while (log_chain_seek_tail(c, 1) > 0)
                ;
        expect(c, "a\n");
        put(f, "0.log", "b\n");
        move(f, "0.log", SECOND);
        expect(c, "b\n");
        put(f, "0.log", "c\n");
        move(f, "0.log", THIRD);
        pack(f, SECOND);
        put(f, "0.log", "d\n");
        expect(c, "c\nd\n");
        put(f, "0.log", "e\n");
        expect(c, "e\n");
        drop(f, "0.log");
        expect(c, "");
        put(f, "0.log", "f\n");
        expect(c, "f\n");
}

/* The oldest go while they are read: what is left is given. */
static void test_files_that_vanish(void **state)
{
        const Folder *f = *state;
        KL_AUTO(log_chain_free) LogChain *c = NULL;
        KL_AUTOFREE char *third = path_of(f, THIRD), *fourth = NULL;
        char two[2];
        bool fresh;

        put(f, FIRST, "a\n");
        put(f, SECOND, "b\n");
        put(f, THIRD, "c\n");
        put(f, "0.log", "d\n");
        c = open_chain(f, 0);
        assert_int_equal(log_chain_seek_oldest(c, INT64_MIN), 0);
        assert_int_equal(log_chain_read(c, two, 2, &fresh), 2);
        drop(f, SECOND);
        pack(f, THIRD);
        expect(c, "c\nd\n");
        /* What is no file is passed over; what is broken is read as far as it goes. */
        fourth = path_of(f, "0.log.20260101-000300");
        assert_int_equal(symlink("/etc/passwd", fourth), 0);
        assert_int_equal(mkfifo(third, 0600), 0);
        put(f, "0.log.20260101-000400.gz", "this is not compressed");
        {
                KL_AUTOFREE char *text = whole(f);
                KL_AUTOFREE char *last = tail(f, 2);

                assert_string_equal(text, "a\nd\n");
                assert_string_equal(last, "a\nd\n");
        }
}

static void test_files_before_a_time(void **state)
{
        const Folder *f = *state;
        KL_AUTO(log_chain_free) LogChain *c = NULL;
        KL_AUTOFREE char *first = path_of(f, FIRST);
        struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };

        put(f, FIRST, "a\n");
        put(f, SECOND, "b\n");
        put(f, "0.log", "c\n");
        assert_int_equal(utimensat(AT_FDCWD, first, old, 0), 0);
        c = open_chain(f, 0);
        assert_int_equal(log_chain_seek_oldest(c, 2000000000), 0);
        expect(c, "b\nc\n");
}

static void test_refusals(void **state)
{
        const Folder *f = *state;
        KL_AUTOFREE char *log = path_of(f, "0.log");
        LogChain *c = NULL;

        assert_int_equal(log_chain_open(f->fd, "c/0.log", 0, &c), -ENOENT);
        assert_int_equal(symlink("/etc/passwd", log), 0);
        assert_int_equal(log_chain_open(f->fd, "c/0.log", 0, &c), -ELOOP);
        assert_int_equal(unlink(log), 0);
        assert_int_equal(mkfifo(log, 0600), 0);
        assert_int_equal(log_chain_open(f->fd, "c/0.log", 0, &c), -EINVAL);
        assert_int_equal(log_chain_open(f->fd, "c/../../x", 0, &c), -EXDEV);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                T(test_all_files_in_order),
                T(test_tail),
                T(test_tail_of_a_single_file),
                T(test_follow),
                T(test_files_that_vanish),
                T(test_files_before_a_time),
                T(test_refusals),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
