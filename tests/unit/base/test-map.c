/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "base/map.h"
#include "base/str.h"

static int n_freed;

static void count_free(void *value)
{
        n_freed++;
        free(value);
}

static void test_many(void **state)
{
        KL_AUTO(map_free) Map *map = map_new(count_free);
        char key[32];

        n_freed = 0;
        for (int i = 0; i < 5000; i++) {
                snprintf(key, sizeof(key), "k%d", i);
                assert_int_equal(map_set(map, key, strdup(key)), 0);
        }
        for (int i = 0; i < 5000; i += 2) {
                snprintf(key, sizeof(key), "k%d", i);
                assert_true(map_remove(map, key));
                assert_false(map_remove(map, key));
        }
        assert_int_equal(n_freed, 2500);
        assert_int_equal(map_len(map), 2500);
        for (int i = 0; i < 5000; i++) {
                snprintf(key, sizeof(key), "k%d", i);
                if (i % 2)
                        assert_string_equal(map_get(map, key), key);
                else
                        assert_null(map_get(map, key));
        }
}

static void test_replacing_and_taking(void **state)
{
        KL_AUTO(map_free) Map *map = map_new(count_free);
        char *taken;

        n_freed = 0;
        map_set(map, "a", strdup("1"));
        map_set(map, "a", strdup("2"));
        assert_int_equal(n_freed, 1);
        taken = map_take(map, "a");
        assert_string_equal(taken, "2");
        assert_int_equal(n_freed, 1);
        free(taken);
        assert_null(map_take(map, "a"));
}

static void test_removal_while_visiting(void **state)
{
        KL_AUTO(map_free) Map *map = map_new(NULL);
        const char *key;
        char *value;
        int visited = 0;

        map_set(map, "a", (void *)1);
        map_set(map, "b", (void *)2);
        map_set(map, "c", (void *)3);
        for (size_t i = 0; map_next(map, &i, &key, &value); visited++)
                map_remove(map, key);
        assert_int_equal(visited, 3);
        assert_int_equal(map_len(map), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_many),
                cmocka_unit_test(test_replacing_and_taking),
                cmocka_unit_test(test_removal_while_visiting),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
