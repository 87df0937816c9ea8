/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "base/str.h"
#include "codec/json.h"
#include "codec/yaml.h"

static void test_scalars(void **state)
{
        static const struct {
                const char *yaml, *json;
        } cases[] = {
                { "a: 1", "{\"a\":1}" },
                { "a: '1'", "{\"a\":\"1\"}" },
                { "a: 0644", "{\"a\":420}" },
                { "a: 0o644", "{\"a\":420}" },
                { "a: 0x1f", "{\"a\":31}" },
                { "a: 1.5", "{\"a\":1.5}" },
                { "a: yes", "{\"a\":true}" },
                { "a: off", "{\"a\":false}" },
                { "a: ~", "{\"a\":null}" },
                { "a:", "{\"a\":null}" },
                { "a: 1e3", "{\"a\":1000.0}" },
                { "a: 1.2.3", "{\"a\":\"1.2.3\"}" },
                { "a: -5", "{\"a\":-5}" },
                { "a: 10m", "{\"a\":\"10m\"}" },
                { "a: 08", "{\"a\":8.0}" },
                { "1: x", "{\"1\":\"x\"}" },
                { "a: |\n  x\n  y\n", "{\"a\":\"x\\ny\\n\"}" },
                { "{\"a\": [1, \"b\"]}", "{\"a\":[1,\"b\"]}" },
                { "a: &x [1]\nb: *x", "{\"a\":[1],\"b\":[1]}" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTO(value_free) Value *v = NULL;
                KL_AUTOBUF text = BUF_INIT;

                assert_int_equal(yaml_read(cases[i].yaml, strlen(cases[i].yaml), &v, NULL), 0);
                assert_int_equal(json_print(v, &text), 0);
                assert_string_equal(buf_str(&text), cases[i].json);
        }
}

static void check_error(const char *yaml, const char *message)
{
        KL_AUTOERR err = NULL;
        Value *v = NULL;

        assert_true(yaml_read(yaml, strlen(yaml), &v, &err) < 0);
        assert_non_null(strstr(kl_error_msg(err), message));
}

static void test_errors(void **state)
{
        KL_AUTOBUF deep = BUF_INIT;

        check_error("a: [1", "line ");
        check_error("a: 1\na: 2\n", "key 'a' is there twice");
        check_error("? [a]\n: 1\n", "a key is no scalar");
        check_error("a: &x [*x]\n", "");
        for (int i = 0; i < 2 * YAML_DEPTH_MAX; i++)
                buf_add_char(&deep, '[');
        for (int i = 0; i < 2 * YAML_DEPTH_MAX; i++)
                buf_add_char(&deep, ']');
        check_error(buf_str(&deep), "nested too deeply");
}

/* A few hundred bytes that would be a billion nodes. */
static void test_expansion_attack(void **state)
{
        KL_AUTOBUF text = BUF_INIT;

        buf_add_str(&text, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for (int i = 1; i < 10; i++)
                buf_addf(&text, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n",
                         i, i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1,
                         i - 1);
        check_error(buf_str(&text), "too many nodes");
}

static void test_documents(void **state)
{
        static const char text[] = "a: 1\n---\n# nothing\n---\nb: 2\n...\n";
        KL_AUTOBUF many = BUF_INIT;
        Value **v = NULL;
        size_t n = 0;

        assert_int_equal(yaml_read_documents(text, strlen(text), &v, &n, NULL), 0);
        assert_int_equal(n, 2);
        assert_int_equal(value_int(value_get(v[1], "b"), 0), 2);
        value_free(v[0]);
        value_free(v[1]);
        free(v);
        for (int i = 0; i <= YAML_DOCUMENTS_MAX; i++)
                buf_add_str(&many, "--- 1\n");
        assert_int_equal(yaml_read_documents(buf_str(&many), many.len, &v, &n, NULL), -E2BIG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_scalars),
                cmocka_unit_test(test_errors),
                cmocka_unit_test(test_expansion_attack),
                cmocka_unit_test(test_documents),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
