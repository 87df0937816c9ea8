/* SPDX-License-Identifier: Apache-2.0 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "image/worker/entry-path-internal.h"

static void test_clean(void **state)
{
        static const struct {
                const char *name, *clean; /* NULL: refused */
        } cases[] = {
                { "", "" },
                { ".", "" },
                { "./", "" },
                { "/", "" },
                { "a", "a" },
                { "./a/./b/", "a/b" },
                { "//a//b", "a/b" },
                { "/etc/x", "etc/x" },
                { "..", NULL },
                { "a/..", NULL },
                { "../a", NULL },
                { "a/../b", NULL },
                { "/..", NULL },
                { "...", "..." },
                { "..a", "..a" },
                { "a../b", "a../b" },
                { ".a/..b", ".a/..b" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char clean[ENTRY_PATH_MAX];
                int r = entry_path_clean(cases[i].name, clean);

                assert_int_equal(r, cases[i].clean ? 0 : -EINVAL);
                if (r == 0)
                        assert_string_equal(clean, cases[i].clean);
        }
}

static void test_length(void **state)
{
        char name[ENTRY_PATH_MAX + 8], clean[ENTRY_PATH_MAX];

        memset(name, 'a', sizeof(name));
        name[ENTRY_PATH_MAX - 2] = '\0';
        assert_int_equal(entry_path_clean(name, clean), 0);
        name[ENTRY_PATH_MAX - 2] = 'a';
        name[ENTRY_PATH_MAX - 1] = '\0';
        assert_int_equal(entry_path_clean(name, clean), -ENAMETOOLONG);
}

static void test_split(void **state)
{
        static const struct {
                const char *path;
                EntryMark mark;
                size_t parent;
                const char *leaf;
        } cases[] = {
                { "a", ENTRY_PLAIN, 0, "a" },
                { "a/b", ENTRY_PLAIN, 1, "b" },
                { ".wh.a", ENTRY_WHITEOUT, 0, "a" },
                { "x/.wh.a", ENTRY_WHITEOUT, 1, "a" },
                { "x/.wh..wh..opq", ENTRY_OPAQUE, 1, ".wh..wh..opq" },
                { ".wh..wh.plnk", ENTRY_IGNORED, 0, ".wh..wh.plnk" },
                { ".wh..wh.plnk/1.2", ENTRY_IGNORED, 12, "1.2" },
                { "x/.wh.", ENTRY_BAD, 1, "" },
                { "x/.wh..", ENTRY_BAD, 1, "." },
                { "x/.wh...", ENTRY_BAD, 1, ".." },
                { ".wha", ENTRY_PLAIN, 0, ".wha" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const char *leaf;
                size_t parent;

                assert_int_equal(entry_path_split(cases[i].path, &parent, &leaf), cases[i].mark);
                assert_int_equal(parent, cases[i].parent);
                assert_string_equal(leaf, cases[i].leaf);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_clean),
                cmocka_unit_test(test_length),
                cmocka_unit_test(test_split),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
