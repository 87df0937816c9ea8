/* SPDX-License-Identifier: Apache-2.0 */

/* The configuration directory in motion. */

#include "fixture.h"

#define NET(name) "{\"cniVersion\":\"1.0.0\",\"name\":\"" name "\",\"type\":\"one\"}"

static void expect(Fixture *f, const char *name)
{
        WAIT_FOR(f, str_eq(cni_network_name(f->cni), name));
}

static void test_files(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *first = str_format("%s/10.conf", f->conf);
        KL_AUTOFREE char *second = str_format("%s/20.conf", f->conf);
        KL_AUTOFREE char *away = str_format("%s/away", f->dir);

        fixture_open(f);
        assert_null(cni_network_name(f->cni));
        put_conf(f, "20.conf", NET("b"));
        expect(f, "b");
        put_conf(f, "10.conf", NET("a"));
        expect(f, "a");
        /* Written in place, in two steps. */
        {
                KL_AUTOFILE FILE *file = fopen(first, "we");

                assert_non_null(file);
                fputs("{\"cniVersion\":\"1.0.0\",", file);
                fflush(file);
                fputs("\"name\":\"c\",\"type\":\"one\"}", file);
        }
        expect(f, "c");
        assert_int_equal(unlink(first), 0);
        expect(f, "b");
        assert_int_equal(rename(second, away), 0);
        expect(f, NULL);
        assert_string_equal(cni_not_ready_message(f->cni), "cni plugin not initialized");
        assert_int_equal(symlink(away, first), 0);
        expect(f, "b");
        assert_true(f->n_changed >= 5);
}

static void test_directory_comes_and_goes(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *deep = str_format("%s/a/b/net.d", f->dir);
        KL_AUTOFREE char *above = str_format("%s/a", f->dir);
        KL_AUTOFREE char *aside = str_format("%s/aside", f->dir);
        KL_AUTOFREE char *other = str_format("%s/other", f->dir);

        free(f->conf);
        f->conf = strdup(deep);
        fixture_open(f);
        assert_int_equal(dir_make_all(deep, 0755), 0);
        put_conf(f, "10.conf", NET("a"));
        expect(f, "a");
        assert_int_equal(rename(above, aside), 0);
        expect(f, NULL);
        assert_int_equal(dir_make_all(deep, 0755), 0);
        put_conf(f, "10.conf", NET("b"));
        expect(f, "b");
        /* Another directory takes its place in one step. */
        assert_int_equal(mkdir(other, 0755), 0);
        put_file(other, "10.conf", NET("c"), 0644);
        assert_int_equal(renameat2(AT_FDCWD, other, AT_FDCWD, deep, RENAME_EXCHANGE), 0);
        expect(f, "c");
        assert_int_equal(tree_remove(above), 0);
        expect(f, NULL);
        assert_int_equal(rename(aside, above), 0);
        expect(f, "a");
}

static void test_link(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *link_path = str_format("%s/link", f->dir);
        KL_AUTOFREE char *target = strdup(f->conf);

        free(f->conf);
        f->conf = strdup(link_path);
        fixture_open(f);
        put_file(target, "10.conf", NET("a"), 0644);
        assert_int_equal(symlink(target, link_path), 0);
        expect(f, "a");
        put_file(target, "05.conf", NET("b"), 0644);
        expect(f, "b");
}

static void test_subdirectory(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *sub = str_format("%s/net", f->conf);

        assert_int_equal(mkdir(sub, 0755), 0);
        put_conf(f, "10.conflist",
                 "{\"cniVersion\":\"1.1.0\",\"name\":\"net\",\"plugins\":["
                 "{\"type\":\"one\"}]}");
        fixture_open(f);
        assert_int_equal(f->cni->config->n_plugins, 1);
        for (int i = 0; i < 3; i++)
                loop_turn(f->loop, false);
        put_file(sub, "x.conf", "{\"type\":\"x\"}", 0644);
        WAIT_FOR(f, f->cni->config->n_plugins == 2);
}

/* Noise beside the directory does not make it read anew. */
static void test_noise(void **state)
{
        Fixture *f = *state;

        put_conf(f, "10.conf", NET("a"));
        fixture_open(f);
        put_file(f->dir, "noise", "x", 0644);
        for (int i = 0; i < 10; i++)
                loop_turn(f->loop, false);
        assert_int_equal(f->n_changed, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_files), TEST(test_directory_comes_and_goes),
                TEST(test_link),  TEST(test_subdirectory),
                TEST(test_noise),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
