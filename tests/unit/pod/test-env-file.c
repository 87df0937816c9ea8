/* SPDX-License-Identifier: Apache-2.0 */

/* Env files: what upstream's parser takes and refuses. */

#include "../unit.h"
#include "base/str.h"
#include "pod/env-file.h"

static void test_values(void **state)
{
        static const struct {
                const char *text, *value; /* of A; NULL: none */
        } cases[] = {
                { "A='1'\n", "1" },
                { "A='1'", "1" },
                { "# c\n\n  \t\n  A='x y'   # more\nB='2'\n", "x y" },
                { "B='2'\nA=''\n", "" },
                { "A='two\nlines # no comment'\nB='2'\n", "two\nlines # no comment" },
                { "B='A='\nA='2'\n", "2" },
                { "A='$(B) \\n \"q\"'\n", "$(B) \\n \"q\"" },
                { "A= 'other word'\n", "" },
                { "A='1'\nA='2'\n", "1" },
                { "A='1'\nthis is never read\n", "1" },
                { "AB='1'\n", NULL },
                { "", NULL },
                { "A='1'\r\n", "1" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *value = NULL;

                assert_int_equal(env_file_find(cases[i].text, "A", &value, NULL), 0);
                if (cases[i].value)
                        assert_string_equal(value ? value : "(none)", cases[i].value);
                else
                        assert_null(value);
        }
}

static void test_errors(void **state)
{
        static const struct {
                const char *text, *message;
        } cases[] = {
                { "A=1\n", "at line 1: value must be enclosed in single quotes" },
                { "\nA=\"1\"\n", "at line 2: value must be enclosed in single quotes" },
                { "A\n", "at line 1: missing '='" },
                { "='1'\n", "at line 1: empty variable name" },
                { "A ='1'\n", "at line 1: whitespace before '=' is not allowed" },
                { "B='x\ny' z\n", "at line 2: unexpected content after closing quote" },
                { "A='1''2'\n", "at line 1: unexpected content after closing quote" },
                { "B='1'\nA='x\ny\n", "starting at line 2: unclosed single quote" },
                { "A=", "at line 1: value must be enclosed in single quotes" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *value = NULL;
                KL_AUTOERR err = NULL;

                assert_int_equal(env_file_find(cases[i].text, "A", &value, &err), -EINVAL);
                if (!strstr(kl_error_msg(err), cases[i].message))
                        fail_msg("'%s' is not in '%s'", cases[i].message, kl_error_msg(err));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_errors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
