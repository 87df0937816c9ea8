/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "base/arena.h"

#include <string.h>

static void test_alignment_and_zero(void **state)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();

        for (size_t i = 1; i < 3000; i += 7) {
                unsigned char *p = arena_alloc(arena, i);

                assert_non_null(p);
                assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
                for (size_t k = 0; k < i; k++)
                        assert_int_equal(p[k], 0);
                memset(p, 0xff, i);
        }
}

static void test_strings(void **state)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();

        assert_string_equal(arena_strdup(arena, "abc"), "abc");
        assert_null(arena_strdup(arena, NULL));
        assert_string_equal(arena_strndup(arena, "abc", 2), "ab");
        assert_string_equal(arena_format(arena, "%d-%s", 7, "x"), "7-x");
}

static void test_overflow(void **state)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();

        assert_null(arena_calloc(arena, SIZE_MAX / 2, 4));
        assert_null(arena_alloc(arena, SIZE_MAX));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_alignment_and_zero),
                cmocka_unit_test(test_strings),
                cmocka_unit_test(test_overflow),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
