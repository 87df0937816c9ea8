/* SPDX-License-Identifier: Apache-2.0 */

#include "base/clock.h"
#include "base/str.h"
#include "cli/cli-internal.h"
#include "codec/json.h"
#include "codec/yaml.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_nearest(void **state)
{
        static const char *const names[] = { "pods", "ps", "images", "pull", "inspect" };

        assert_string_equal(cli_nearest("pod", names, ELEMENTS(names)), "pods");
        assert_string_equal(cli_nearest("imgaes", names, ELEMENTS(names)), "images");
        assert_string_equal(cli_nearest("pul", names, ELEMENTS(names)), "pull");
        assert_null(cli_nearest("frobnicate", names, ELEMENTS(names)));
}

static void assert_clean(const char *text, const char *expected)
{
        KL_AUTOBUF buf = BUF_INIT;

        cli_add_clean(&buf, text);
        assert_string_equal(buf_str(&buf), expected);
}

static void test_clean(void **state)
{
        assert_clean("plain ünï", "plain ünï");
        assert_clean("\033[2Jx\r\n\tz\x7f", "?[2Jx???z?");
        assert_clean("\xc2\x9b"
                     "31m",
                     "?31m");
}

static void test_table(void **state)
{
        static const char *const header[] = { "A", "LONGER" };
        KL_AUTOFREE char *text = NULL;
        size_t len;
        FILE *to = open_memstream(&text, &len);
        CliTable table;

        cli_table_init(&table, header, 2);
        cli_table_add(&table, "first");
        cli_table_add(&table, "x");
        cli_table_add(&table, "ü");
        cli_table_addf(&table, "%d", 7);
        cli_table_add(&table, NULL);
        cli_table_add(&table, "");
        assert_int_equal(cli_table_print(&table, to), CLI_OK);
        fclose(to);
        assert_string_equal(text, "A       LONGER\nfirst   x\nü       7\n-       -\n");
}

static void test_age(void **state)
{
        static const struct {
                int64_t seconds;
                const char *text;
        } cases[] = { { 0, "0s" },    { 119, "119s" },   { 120, "2m" },    { 7199, "119m" },
                      { 7200, "2h" }, { 172799, "47h" }, { 172800, "2d" }, { -5, "0s" } };
        int64_t then;
        char buf[32];

        assert_int_equal(time_parse_rfc3339("2026-01-02T03:04:05Z", &then), 0);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                cli_format_age("2026-01-02T03:04:05Z", then + cases[i].seconds * 1000000, buf,
                               sizeof(buf));
                assert_string_equal(buf, cases[i].text);
        }
        cli_format_age(NULL, then, buf, sizeof(buf));
        assert_string_equal(buf, "-");
}

static void test_bytes(void **state)
{
        static const struct {
                uint64_t bytes;
                const char *text;
        } cases[] = { { 0, "0B" },
                      { 999, "999B" },
                      { 1500, "1.5kB" },
                      { 237000000, "237MB" },
                      { 1200000000000000, "1200TB" } };
        char buf[32];

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                cli_format_bytes(cases[i].bytes, buf, sizeof(buf));
                assert_string_equal(buf, cases[i].text);
        }
}

/* What is written reads back as the same. */
static void test_yaml(void **state)
{
        static const char *const cases[] = {
                "{\"a\":1,\"b\":{\"c\":[1,2,{\"d\":\"x\",\"e\":[[1],[]]}],\"f\":{}},\"g\":null}",
                "[]",
                "{}",
                "\"text\"",
                "[[[1]],{\"a\":[{\"b\":[{}]}]}]",
                "{\"s\":[\"true\",\"1\",\"\",\"a: b\",\"- "
                "x\",\"#c\",\"a\\nb\",\"null\",\"sha256:ab\","
                "\"/a/b\",\"it's\",\"x:\",\"~\",\"1.5\",\"No\",\"*a\",\"&b\",\"a "
                "#b\",\"\\u001b\"]}",
                "{\"1\":true,\"a b\":1.5,\"yes\":-3}",
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTO(value_free) Value *v = NULL, *back = NULL;
                KL_AUTOBUF text = BUF_INIT;
                KL_AUTOERR err = NULL;

                assert_int_equal(json_parse(cases[i], strlen(cases[i]), &v, NULL), 0);
                cli_yaml_write(v, &text);
                if (yaml_read(buf_str(&text), text.len, &back, &err) < 0 || !value_equal(v, back))
                        fail_msg("%s\n%s%s", cases[i], buf_str(&text), kl_error_msg(err));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nearest), cmocka_unit_test(test_clean),
                cmocka_unit_test(test_table),   cmocka_unit_test(test_age),
                cmocka_unit_test(test_bytes),   cmocka_unit_test(test_yaml),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
