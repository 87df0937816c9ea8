/* SPDX-License-Identifier: Apache-2.0 */

/* Formatting of records, and the reader on real files. */

#include "base/file.h"
#include "base/str.h"
#include "server/log-format.h"
#include "server/log-reader.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#define T "2026-01-02T03:04:05.000000006Z"
#define T2 "2026-01-02T03:04:07.000000000Z"

static const LogOptions all = {
        .since_us = INT64_MIN, .tail_lines = -1, .limit_bytes = -1, .out = true, .err = true
};

/* Whatever pieces the input comes in, the output is the same. */
static void check(const LogOptions *options, const char *in, const char *want)
{
        for (size_t step = 1; step <= strlen(in) + 1; step++) {
                KL_AUTOBUF out = BUF_INIT;
                LogFormat f;

                log_format_init(&f, options);
                for (size_t at = 0; at < strlen(in); at += step)
                        log_format_add(&f, in + at, strlen(in) - at < step ? strlen(in) - at : step,
                                       &out, &out);
                log_format_deinit(&f);
                assert_string_equal(buf_str(&out), want);
        }
}

static void test_format(void **state)
{
        static const char in[] = T " stdout F one\n" T " stderr F two\n" T " stdout P thr\n" T
                                   " stdout F ee\n" T " stdout F \n" T2 " stdout F last\n";
        LogOptions o = all;

        check(&o, in, "one\ntwo\nthree\n\nlast\n");
        o.timestamps = true;
        check(&o, in, T " one\n" T " two\n" T " three\n" T " \n" T2 " last\n");
        o.timestamps = false;
        o.err = false;
        check(&o, in, "one\nthree\n\nlast\n");
        o = all;
        o.limit_bytes = 6;
        check(&o, in, "one\ntw");
        o.limit_bytes = 4;
        check(&o, in, "one\n");
        o = all;
        o.since_us = 1767323046000000; /* 03:04:06 */
        check(&o, in, "last\n");
}

static void test_odd_records(void **state)
{
        check(&all, "\n \nnonsense\n" T "\n" T " stdin F x\n" T " stdout\n" T " stdout F\nrest",
              "\n");
        check(&all, "x stdout F y\n", "y\n");
}

static void test_endless_record(void **state)
{
        KL_AUTOBUF out = BUF_INIT;
        static char block[LOG_FORMAT_RECORD_MAX];
        LogFormat f;

        memset(block, 'x', sizeof(block));
        log_format_init(&f, &all);
        for (int i = 0; i < 100; i++)
                log_format_add(&f, block, sizeof(block), &out, &out);
        assert_true(f.rest.len <= LOG_FORMAT_RECORD_MAX);
        log_format_add(&f, "\n" T " stdout F good\n", strlen(T) + 16, &out, &out);
        assert_string_equal(buf_str(&out), "good\n");
        log_format_deinit(&f);
}

/* --- the reader --- */

typedef struct Side {
        Loop *loop;
        LogReader *reader;
        Buf got;
        bool done, goes_on;
        int code;
        unsigned int refuse;
} Side;

static int on_output(LogReader *reader, const char *data, size_t len, void *ptr)
{
        Side *s = ptr;

        if (s->refuse > 0 && s->refuse--) {
                log_reader_resume(reader);
                return -ENOBUFS;
        }
        buf_add(&s->got, data, len);
        return 0;
}

static bool on_goes_on(LogReader *reader, void *ptr)
{
        return ((Side *)ptr)->goes_on;
}

static void on_done(LogReader *reader, const KlError *err, void *ptr)
{
        Side *s = ptr;

        s->done = true;
        s->code = err ? err->code : 0;
        s->reader = log_reader_free(s->reader);
}

static const LogReaderFuncs funcs = { on_output, on_goes_on, on_done };

typedef struct Fixture {
        char dir[64];
        char *path;
        LogService *service;
        Side side;
} Fixture;

static int set_up(void **state)
{
        Fixture *f = calloc(1, sizeof(*f));

        snprintf(f->dir, sizeof(f->dir), "/tmp/kubelite-logs-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        f->path = str_format("%s/pod/c/0.log", f->dir);
        KL_AUTOFREE char *parent = str_format("%s/pod/c", f->dir);

        assert_int_equal(dir_make_all(parent, 0755), 0);
        assert_int_equal(loop_new(&f->side.loop, NULL), 0);
        assert_int_equal(log_service_new(f->side.loop, f->dir, &f->service, NULL), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        Fixture *f = *state;

        log_reader_free(f->side.reader);
        log_service_free(f->service);
        loop_free(f->side.loop);
        buf_deinit(&f->side.got);
        tree_remove(f->dir);
        free(f->path);
        free(f);
        return 0;
}

static void put(const char *path, const char *mode, const char *text)
{
        KL_AUTOFILE FILE *file = fopen(path, mode);

        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
}

static void begin(Fixture *f, const LogOptions *options)
{
        buf_clear(&f->side.got);
        f->side.done = false;
        assert_int_equal(log_reader_new(f->service, f->path, options, &funcs, &f->side,
                                        &f->side.reader, NULL),
                         0);
}

static void read_whole(Fixture *f, const LogOptions *options, const char *want)
{
        begin(f, options);
        while (!f->side.done)
                loop_turn(f->side.loop, true);
        assert_int_equal(f->side.code, 0);
        assert_string_equal(buf_str(&f->side.got), want);
}

static void wait_text(Fixture *f, const char *text)
{
        while (!strstr(buf_str(&f->side.got), text))
                loop_turn(f->side.loop, true);
}

static void test_tail(void **state)
{
        Fixture *f = *state;
        KL_AUTOBUF text = BUF_INIT;
        KL_AUTOBUF want = BUF_INIT;
        LogOptions o = all;

        put(f->path, "w", "");
        o.tail_lines = 3;
        read_whole(f, &o, "");
        for (int i = 0; i < 20000; i++)
                buf_addf(&text, T " stdout F line %d\n", i);
        put(f->path, "w", buf_str(&text));
        read_whole(f, &o, "line 19997\nline 19998\nline 19999\n");
        o.tail_lines = 0;
        read_whole(f, &o, "");
        for (int tail = 1300; tail < 1400; tail++) { /* about the first block's end */
                buf_clear(&want);
                for (int i = 20000 - tail; i < 20000; i++)
                        buf_addf(&want, "line %d\n", i);
                o.tail_lines = tail;
                f->side.refuse = 1;
                read_whole(f, &o, buf_str(&want));
        }
        /* A last line that is not whole yet counts as one, and is not shown. */
        put(f->path, "a", T " stdout F unfin");
        o.tail_lines = 2;
        read_whole(f, &o, "line 19999\n");
}

/* Records end exactly where the blocks that are looked at do. */
static void test_tail_at_block_ends(void **state)
{
        Fixture *f = *state;
        KL_AUTOBUF text = BUF_INIT;
        LogOptions o = all;
        char filler[70];

        memset(filler, 'x', sizeof(filler));
        for (int shift = 0; shift < 64; shift++) {
                buf_clear(&text);
                buf_addf(&text, T " stdout F %.*s\n", 1 + shift, filler);
                while (text.len < 2 * LOG_READER_CHUNK + 64)
                        buf_addf(&text, T " stdout F 0123456789abcdefghijkl\n");
                put(f->path, "w", buf_str(&text));
                for (o.tail_lines = 1020; o.tail_lines < 1028; o.tail_lines++) {
                        size_t n = 0;

                        begin(f, &o);
                        while (!f->side.done)
                                loop_turn(f->side.loop, true);
                        for (size_t i = 0; i < f->side.got.len; i++)
                                n += f->side.got.data[i] == '\n';
                        assert_int_equal(n, o.tail_lines);
                }
        }
}

static void test_follow(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *rotated = str_format("%s.1", f->path);
        LogOptions o = all;

        o.follow = true;
        f->side.goes_on = true;
        put(f->path, "w", T " stdout F a\n");
        begin(f, &o);
        wait_text(f, "a\n");
        put(f->path, "a", T " stdout F b");
        put(f->path, "a", "b\n");
        wait_text(f, "bb\n");
        put(f->path, "a", T " stdout F c\n");
        assert_int_equal(rename(f->path, rotated), 0);
        put(rotated, "a", T " stdout F d\n");
        put(f->path, "w", T " stdout F e\n");
        wait_text(f, "e\n");
        f->side.goes_on = false;
        put(f->path, "a", T " stdout F f\n");
        while (!f->side.done)
                loop_turn(f->side.loop, true);
        assert_string_equal(buf_str(&f->side.got), "a\nbb\nc\nd\ne\nf\n");
}

static void test_only_regular_files_beneath(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *outside = str_format("%s/../kubelite-x", f->dir);
        LogReader *reader;

        assert_int_equal(symlink("/etc/passwd", f->path), 0);
        assert_true(log_reader_new(f->service, f->path, &all, &funcs, &f->side, &reader, NULL) < 0);
        assert_int_equal(unlink(f->path), 0);
        assert_int_equal(mkfifo(f->path, 0600), 0);
        assert_true(log_reader_new(f->service, f->path, &all, &funcs, &f->side, &reader, NULL) < 0);
        assert_true(log_reader_new(f->service, outside, &all, &funcs, &f->side, &reader, NULL) < 0);
        assert_true(log_reader_new(f->service, "/etc/passwd", &all, &funcs, &f->side, &reader,
                                   NULL) < 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_format),
                cmocka_unit_test(test_odd_records),
                cmocka_unit_test(test_endless_record),
                cmocka_unit_test_setup_teardown(test_tail, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_tail_at_block_ends, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_follow, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_only_regular_files_beneath, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
