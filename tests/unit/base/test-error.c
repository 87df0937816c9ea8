/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "base/error.h"

#include <string.h>

static void test_origin_and_wrapping(void **state)
{
        KL_AUTOERR err = NULL;

        assert_int_equal(kl_error_errno(&err, -ENOENT, "Gone", "open '%s'", "x"), -ENOENT);
        assert_string_equal(err->msg, "open 'x': No such file or directory");
        assert_int_equal(kl_error_wrap(&err, -EIO, "pod '%s'", "p"), -ENOENT);
        assert_string_equal(err->msg, "pod 'p': open 'x': No such file or directory");
        assert_string_equal(kl_error_reason(err, "?"), "Gone");
        kl_error_default_reason(err, "Other");
        assert_string_equal(err->reason, "Gone");
}

static void test_first_error_stays(void **state)
{
        KL_AUTOERR err = NULL;

        kl_error(&err, -EINVAL, NULL, "first");
        kl_error(&err, -EPERM, NULL, "second");
        assert_string_equal(err->msg, "first");
}

static void test_null_is_allowed(void **state)
{
        assert_int_equal(kl_error(NULL, -EINVAL, NULL, "x"), -EINVAL);
        assert_int_equal(kl_error_wrap(NULL, -EINVAL, "x"), -EINVAL);
        assert_string_equal(kl_error_msg(NULL), "unknown error");
        assert_null(kl_error_free(NULL));
}

static void test_out_of_memory_is_static(void **state)
{
        KL_AUTOERR err = NULL;

        assert_int_equal(kl_error_oom(&err), -ENOMEM);
        kl_error_wrap(&err, -ENOMEM, "context");
        kl_error_set_reason(err, "X");
        assert_string_equal(err->msg, "out of memory");
        assert_null(err->reason);
}

static void test_moving(void **state)
{
        KL_AUTOERR to = NULL;
        KlError *from = NULL;

        kl_error(&from, -EBUSY, NULL, "busy");
        assert_int_equal(kl_error_move(&to, &from), -EBUSY);
        assert_null(from);
        assert_string_equal(to->msg, "busy");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_origin_and_wrapping),
                cmocka_unit_test(test_first_error_stays),
                cmocka_unit_test(test_null_is_allowed),
                cmocka_unit_test(test_out_of_memory_is_static),
                cmocka_unit_test(test_moving),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
