/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "base/buf.h"

static void test_appending(void **state)
{
        KL_AUTOBUF buf = BUF_INIT;

        assert_string_equal(buf_str(&buf), "");
        buf_add_str(&buf, "ab");
        buf_add_char(&buf, 'c');
        buf_addf(&buf, "%03d", 7);
        assert_string_equal(buf_str(&buf), "abc007");
        assert_int_equal(buf.len, 6);
        buf_consume(&buf, 2);
        assert_string_equal(buf_str(&buf), "c007");
        buf_consume(&buf, 99);
        assert_string_equal(buf_str(&buf), "");
}

static void test_limit_is_sticky(void **state)
{
        KL_AUTOBUF buf = BUF_INIT_LIMIT(4);

        buf_add_str(&buf, "abcd");
        assert_int_equal(buf_error(&buf), 0);
        buf_add_char(&buf, 'e');
        assert_int_equal(buf_error(&buf), -EMSGSIZE);
        buf_consume(&buf, 4);
        buf_add_char(&buf, 'x');
        assert_int_equal(buf.len, 0);
        buf_clear(&buf);
        buf_add_char(&buf, 'x');
        assert_string_equal(buf_str(&buf), "x");
}

static void test_stealing(void **state)
{
        KL_AUTOBUF buf = BUF_INIT;
        KL_AUTOBUF full = BUF_INIT_LIMIT(1);
        KL_AUTOFREE char *empty = buf_steal(&buf);

        assert_string_equal(empty, "");
        buf_add_str(&full, "ab");
        assert_null(buf_steal(&full));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_appending),
                cmocka_unit_test(test_limit_is_sticky),
                cmocka_unit_test(test_stealing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
