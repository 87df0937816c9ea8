/* SPDX-License-Identifier: Apache-2.0 */

/* Typed reads and the paths in their errors. */

#include "../unit.h"
#include "base/str.h"
#include "codec/json.h"

static const char text[] = "{\"s\":\"x\",\"n\":7,\"r\":0.5,\"b\":true,\"l\":[\"a\",\"b\"],"
                           "\"m\":{\"k\":[{\"p\":1}]},\"z\":null,\"mixed\":[\"a\",1]}";

typedef struct Fixture {
        Value *v;
        Arena *arena;
        Field root;
} Fixture;

static int setup(void **state)
{
        Fixture *f = calloc(1, sizeof(*f));

        *state = f;
        f->arena = arena_new();
        if (json_parse(text, strlen(text), &f->v, NULL) < 0)
                return -1;
        f->root = field_root(f->v);
        return 0;
}

static int teardown(void **state)
{
        Fixture *f = *state;

        arena_free(f->arena);
        value_free(f->v);
        free(f);
        return 0;
}

static void test_reads(void **state)
{
        Fixture *f = *state;
        char *s = NULL, *absent = NULL, **list = NULL;
        int64_t n = 0;
        bool b = false;

        assert_int_equal(field_str(&f->root, "s", f->arena, &s, NULL), 0);
        assert_string_equal(s, "x");
        assert_int_equal(field_str(&f->root, "nothing", f->arena, &absent, NULL), 0);
        assert_int_equal(field_str(&f->root, "z", f->arena, &absent, NULL), 0);
        assert_null(absent);
        assert_int_equal(field_scalar(&f->root, "n", f->arena, &s, NULL), 0);
        assert_string_equal(s, "7");
        assert_int_equal(field_scalar(&f->root, "r", f->arena, &s, NULL), 0);
        assert_string_equal(s, "0.5");
        assert_int_equal(field_int(&f->root, "n", 0, 10, &n, NULL), 0);
        assert_int_equal(n, 7);
        assert_int_equal(field_bool(&f->root, "b", &b, NULL), 0);
        assert_true(b);
        assert_int_equal(field_strv(&f->root, "l", f->arena, &list, NULL), 0);
        assert_string_equal(list[1], "b");
        assert_null(list[2]);
}

static void expect(int r, KlError **err, const char *message)
{
        assert_int_equal(r, -EINVAL);
        assert_string_equal(kl_error_msg(*err), message);
        *err = kl_error_free(*err);
}

static void test_errors_name_the_path(void **state)
{
        Fixture *f = *state;
        KlError *err = NULL;
        Field m, k, first, list;
        char *s, **v;
        int64_t n;
        size_t len;
        bool b;

        expect(field_str(&f->root, "n", f->arena, &s, &err), &err,
               "n: expected a string, got a number");
        expect(field_int(&f->root, "r", 0, 1, &n, &err), &err,
               "r: expected an integer, got a number");
        expect(field_int(&f->root, "n", 8, 9, &n, &err), &err, "n: 7 is not in 8-9");
        expect(field_bool(&f->root, "s", &b, &err), &err, "s: expected a boolean, got a string");
        expect(field_strv(&f->root, "mixed", f->arena, &v, &err), &err,
               "mixed[1]: expected a string, got a number");
        expect(field_array(&f->root, "l", 1, &list, &len, &err), &err,
               "l: 2 elements, at most 1 are allowed");
        m = field_get(&f->root, "m");
        k = field_get(&m, "k");
        first = field_at(&k, 0);
        expect(field_str(&first, "p", f->arena, &s, &err), &err,
               "m.k[0].p: expected a string, got a number");
        expect(field_object(&f->root, "s", &m, &err), &err, "s: expected a map, got a string");
        assert_int_equal(field_object(&f->root, "none", &m, NULL), 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reads),
                cmocka_unit_test(test_errors_name_the_path),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
