/* SPDX-License-Identifier: Apache-2.0 */

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "cli/cli-internal.h"

#include <assert.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define T1 "2026-01-02T03:04:05.000000001Z "
#define T2 "2026-01-02T03:04:06.000000000Z "
#define T3 "2026-01-02T03:04:07.000000000Z "

typedef struct Log {
        char dir[64];
        char *path;
        FILE *out, *errors;
        char *out_text, *errors_text;
        size_t out_len, errors_len;
        int step;
} Log;

static int setup(void **state)
{
        Log *l = calloc(1, sizeof(*l));

        snprintf(l->dir, sizeof(l->dir), "/tmp/kubelite-log-XXXXXX");
        assert_non_null(mkdtemp(l->dir));
        l->path = str_format("%s/0.log", l->dir);
        l->out = open_memstream(&l->out_text, &l->out_len);
        l->errors = open_memstream(&l->errors_text, &l->errors_len);
        *state = l;
        return 0;
}

static int teardown(void **state)
{
        Log *l = *state;

        fclose(l->out);
        fclose(l->errors);
        free(l->out_text);
        free(l->errors_text);
        assert_int_equal(tree_remove(l->dir), 0);
        free(l->path);
        free(l);
        return 0;
}

static void append(Log *l, const char *text)
{
        KL_AUTOFD int fd = open(l->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

        assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static void show(Log *l, CliLogOptions options)
{
        KL_AUTOERR err = NULL;

        options.path = l->path;
        if (cli_log_print(&options, l->out, l->errors, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        fflush(l->out);
        fflush(l->errors);
}

#define ALL .tail = -1, .since_us = INT64_MIN

static void test_streams(void **state)
{
        Log *l = *state;

        append(l,
               T1 "stdout F one\n" T1 "stderr F bad\n" T2 "stdout P tw\n" T2 "stderr F mid\n" T2
                  "stdout F o\n" T3 "stdout F \nnot a record\n" T3 "stdin F x\n" T3 "stdout F cut");
        show(l, (CliLogOptions){ ALL });
        assert_string_equal(l->out_text, "one\ntwo\n\n");
        assert_string_equal(l->errors_text, "bad\nmid\n");
}

static void test_timestamps(void **state)
{
        Log *l = *state;

        append(l, T1 "stdout P a\n" T2 "stdout F b\n" T3 "stdout F c\n");
        show(l, (CliLogOptions){ ALL, .timestamps = true });
        assert_string_equal(l->out_text, T1 "ab\n" T3 "c\n");
}

static void test_since(void **state)
{
        Log *l = *state;
        CliLogOptions options = { ALL };

        assert_int_equal(time_parse_rfc3339("2026-01-02T03:04:06Z", &options.since_us), 0);
        append(l, T1 "stdout F a\n" T2 "stdout F b\n" T3 "stdout F c\n");
        show(l, options);
        assert_string_equal(l->out_text, "b\nc\n");
}

static void assert_tail(Log *l, int64_t lines, const char *expected)
{
        rewind(l->out);
        show(l, (CliLogOptions){ .tail = lines, .since_us = INT64_MIN });
        l->out_text[l->out_len] = '\0';
        assert_memory_equal(l->out_text, expected, strlen(expected));
        assert_int_equal(l->out_len, strlen(expected));
}

static void test_tail(void **state)
{
        Log *l = *state;

        append(l, T1 "stdout F a\n" T2 "stdout F b\n" T3 "stdout F c\n");
        assert_tail(l, 1, "c\n");
        assert_tail(l, 2, "b\nc\n");
        assert_tail(l, 3, "a\nb\nc\n");
        assert_tail(l, 100, "a\nb\nc\n");
        assert_tail(l, 0, "");
}

/* Over the border of a block. */
static void test_long_tail(void **state)
{
        Log *l = *state;
        KL_AUTOBUF expected = BUF_INIT;

        for (int i = 0; i < 5000; i++) {
                KL_AUTOFREE char *line = str_format(T1 "stdout F line %d\n", i);

                append(l, line);
                if (i >= 1000)
                        buf_addf(&expected, "line %d\n", i);
        }
        assert_tail(l, 4000, buf_str(&expected));
}

/* Writes more, rotates, writes to both files, ends. */
static bool next_step(void *data)
{
        Log *l = data;
        KL_AUTOFREE char *rotated = str_format("%s.1", l->path);

        switch (l->step++) {
        case 0:
                append(l, T1 "stdout F two\n" T1 "stdout F thr");
                return true;
        case 1:
                append(l, "ee\n" T1 "stdout F four\n");
                assert_int_equal(rename(l->path, rotated), 0);
                append(l, T2 "stdout F five\n");
                return true;
        default:
                append(l, T3 "stdout F six\n");
                return false;
        }
}

static void test_follow(void **state)
{
        Log *l = *state;

        append(l, T1 "stdout F one\n");
        show(l, (CliLogOptions){ ALL, .follow = true, .goes_on = next_step, .data = l });
        assert_string_equal(l->out_text, "one\ntwo\nthree\nfour\nfive\nsix\n");
}

/* A pod may have made a link of its log. */
static void test_refuses_links(void **state)
{
        Log *l = *state;
        CliLogOptions options = { ALL, .path = l->path };

        assert_int_equal(symlink("/etc/passwd", l->path), 0);
        assert_int_equal(cli_log_print(&options, l->out, l->errors, NULL), -ELOOP);
        options.path = l->dir;
        assert_int_equal(cli_log_print(&options, l->out, l->errors, NULL), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_streams),       TEST(test_timestamps), TEST(test_since),
                TEST(test_tail),          TEST(test_long_tail),  TEST(test_follow),
                TEST(test_refuses_links),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
