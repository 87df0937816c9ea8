/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "base/str.h"
#include "codec/json.h"

static void test_round_trip(void **state)
{
        static const char text[] = "{\"a\":[1,-2,2.5,\"x\\\"\\n\",null,true,false],\"b\":{}}";
        KL_AUTO(value_free) Value *v = NULL;
        KL_AUTOBUF out = BUF_INIT;

        assert_int_equal(json_parse(text, strlen(text), &v, NULL), 0);
        assert_int_equal(json_print(v, &out), 0);
        assert_string_equal(buf_str(&out), text);
}

static void test_errors_say_where(void **state)
{
        static const char *const bad[] = {
                "", "{", "[1,]", "{\"a\":1,}", "nul", "\"\xff\"", "1 2"
        };
        Value *v = NULL;

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                KL_AUTOERR err = NULL;

                assert_int_equal(json_parse(bad[i], strlen(bad[i]), &v, &err), -EINVAL);
                assert_int_equal(strncmp(kl_error_msg(err), "line ", 5), 0);
        }
}

static void test_depth_limit(void **state)
{
        char deep[8192];
        Value *v = NULL;

        memset(deep, '[', sizeof(deep));
        assert_true(json_parse(deep, sizeof(deep), &v, NULL) < 0);
}

static void test_writer(void **state)
{
        KL_AUTOBUF out = BUF_INIT;
        JsonWriter w = JSON_WRITER(&out);
        char *list[] = { (char *)"x", (char *)"y", NULL };

        jw_object(&w);
        jw_kstr(&w, "a", "q\"\\\n\x01");
        jw_kstr_opt(&w, "none", NULL);
        jw_kstr_opt(&w, "empty", "");
        jw_kstr(&w, "null", NULL);
        jw_kint(&w, "n", -5);
        jw_kstrv(&w, "l", list);
        jw_karray(&w, "e");
        jw_end(&w);
        jw_kstrf(&w, "f", "%d", 7);
        jw_end(&w);
        assert_string_equal(buf_str(&out), "{\"a\":\"q\\\"\\\\\\n\\u0001\",\"null\":null,\"n\":-5,"
                                           "\"l\":[\"x\",\"y\"],\"e\":[],\"f\":\"7\"}");
}

/* What is no UTF-8 becomes U+FFFD, so that the result always parses. */
static void test_writer_mends_utf8(void **state)
{
        static const char *const texts[] = { "\xff",         "a\xc3",
                                             "\xed\xa0\x80", "\xf5\x80\x80\x80",
                                             "\xe0\x80\x80", "ok \xc3\xa9 \xe2\x82\xac" };

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                KL_AUTOBUF out = BUF_INIT;
                KL_AUTO(value_free) Value *v = NULL;
                JsonWriter w = JSON_WRITER(&out);

                jw_str(&w, texts[i]);
                assert_int_equal(json_parse(buf_str(&out), out.len, &v, NULL), 0);
        }
}

static void test_writer_keeps_the_error(void **state)
{
        KL_AUTOBUF out = BUF_INIT_LIMIT(8);
        JsonWriter w = JSON_WRITER(&out);

        jw_array(&w);
        for (int i = 0; i < 100; i++)
                jw_int(&w, i);
        jw_end(&w);
        assert_int_equal(buf_error(&out), -EMSGSIZE);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_errors_say_where),
                cmocka_unit_test(test_depth_limit),
                cmocka_unit_test(test_writer),
                cmocka_unit_test(test_writer_mends_utf8),
                cmocka_unit_test(test_writer_keeps_the_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
