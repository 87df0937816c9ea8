/* SPDX-License-Identifier: Apache-2.0 */

/* Which images go when their file system fills, or when nobody used them for long. */

#include "../unit.h"
#include "base/str.h"
#include "image/collect.h"

#define MINUTE 60000ULL
#define NOW (1000 * MINUTE)

static const ImagePolicy policy = {
        .min_age_ms = 2 * MINUTE, .max_age_ms = 60 * MINUTE, .high_percent = 85, .low_percent = 80
};

static const ImageUse images[] = {
        { .size_bytes = 10, .seen_ms = NOW - 50 * MINUTE, .used_ms = NOW - 5 * MINUTE },
        { .size_bytes = 20, .seen_ms = NOW - 50 * MINUTE, .used_ms = NOW - 9 * MINUTE },
        { .size_bytes = 30, .seen_ms = NOW - 70 * MINUTE, .used_ms = NOW, .in_use = true },
        { .size_bytes = 40, .seen_ms = NOW - 90 * MINUTE, .pinned = true },
        { .size_bytes = 50, .seen_ms = NOW - 1 * MINUTE },
        { .size_bytes = 60, .seen_ms = NOW - 80 * MINUTE },
};
#define N ELEMENTS(images)

static void check(const bool *remove, const char *expected)
{
        char text[N + 1] = "";

        for (size_t i = 0; i < N; i++)
                text[i] = remove[i] ? 'x' : '.';
        assert_string_equal(text, expected);
}

static uint64_t space(uint64_t wanted, const char *expected)
{
        bool remove[N] = { 0 };
        uint64_t freed = image_plan_space(&policy, images, N, NOW, wanted, remove);

        check(remove, expected);
        return freed;
}

static void test_space(void **state)
{
        /* Never used goes before used long ago; in use, pinned and young ones stay. */
        assert_int_equal(space(0, "......"), 0);
        assert_int_equal(space(1, ".....x"), 60);
        assert_int_equal(space(61, ".x...x"), 80);
        assert_int_equal(space(81, "xx...x"), 90);
        assert_int_equal(space(UINT64_MAX, "xx...x"), 90);
}

static void test_age(void **state)
{
        const ImagePolicy any = { .min_age_ms = 0 };
        bool remove[N] = { 0 };

        image_plan_age(&policy, images, N, NOW, NOW - 30 * MINUTE, remove);
        check(remove, "......"); /* who began half an hour ago knows nothing of an hour */
        image_plan_age(&policy, images, N, NOW, NOW - 61 * MINUTE, remove);
        check(remove, ".....x");
        image_plan_age(&any, images, N, NOW, 0, remove);
        check(remove, ".....x");
}

static void test_excess(void **state)
{
        const ImagePolicy off = { .high_percent = 100, .low_percent = 80 };

        assert_int_equal(image_plan_excess(&policy, 1000, 160), 0);
        assert_int_equal(image_plan_excess(&policy, 1000, 150), 50);
        assert_int_equal(image_plan_excess(&policy, 1000, 0), 200);
        assert_int_equal(image_plan_excess(&off, 1000, 0), 0);
        assert_int_equal(image_plan_excess(&policy, 0, 0), 0);
        assert_int_equal(image_plan_excess(&policy, 1000, 2000), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_space),
                cmocka_unit_test(test_age),
                cmocka_unit_test(test_excess),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
