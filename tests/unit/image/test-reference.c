/* SPDX-License-Identifier: Apache-2.0 */

/* The table follows the tests of github.com/distribution/reference in what it covers. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "image/digest-internal.h"
#include "image/image.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_valid(void **state)
{
        static const struct {
                const char *text, *formatted;
        } cases[] = {
                { "busybox", "docker.io/library/busybox:latest" },
                { "busybox:1.36", "docker.io/library/busybox:1.36" },
                { "user/app", "docker.io/user/app:latest" },
                { "docker.io/busybox", "docker.io/library/busybox:latest" },
                { "index.docker.io/library/busybox", "docker.io/library/busybox:latest" },
                { "localhost/app", "localhost/app:latest" },
                { "localhost:5000/app:v1", "localhost:5000/app:v1" },
                { "127.0.0.1:5000/a/b/c:1", "127.0.0.1:5000/a/b/c:1" },
                { "[::1]:5000/app", "[::1]:5000/app:latest" },
                { "Registry/app", "Registry/app:latest" },
                { "gcr.io/my-project/my_app.x--y__z:T_1.2-3",
                  "gcr.io/my-project/my_app.x--y__z:T_1.2-3" },
                { "a.b/c@sha256:" HEX64, "a.b/c@sha256:" HEX64 },
                { "a.b/c:t@sha256:" HEX64, "a.b/c:t@sha256:" HEX64 },
                { "foo_bar/x", "docker.io/foo_bar/x:latest" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                ImageRef ref = { 0 };
                char *text;

                assert_int_equal(image_ref_parse(cases[i].text, &ref, NULL), 0);
                text = image_ref_format(&ref);
                assert_string_equal(text, cases[i].formatted);
                free(text);
                image_ref_deinit(&ref);
        }
}

static void test_invalid(void **state)
{
        static const struct {
                const char *text, *why;
        } cases[] = {
                { "", "invalid reference format" },
                { "UPPER//x:1", "invalid reference format" },
                { "App", "repository name (library/App) must be lowercase" },
                { "a.b/App:1", "repository name (App) must be lowercase" },
                { ":tag", "invalid reference format" },
                { "a b", "invalid reference format" },
                { "a/", "invalid reference format" },
                { "/a", "invalid reference format" },
                { "a//b", "invalid reference format" },
                { "a..b", "invalid reference format" },
                { "a___b", "invalid reference format" },
                { "-a", "invalid reference format" },
                { "a-", "invalid reference format" },
                { "a:", "invalid reference format" },
                { "a:-t", "invalid reference format" },
                { "a:t/b", "invalid reference format" },
                { "-x.com/a", "invalid reference format" },
                { "x..com/a", "invalid reference format" },
                { "x.com:port/a", "invalid reference format" },
                { "x.com:/a", "invalid reference format" },
                { "[::g]/a", "invalid reference format" },
                { "a@sha256:abc", "invalid reference format" },
                { "a@md5:" HEX64, "unsupported digest algorithm" },
                { "a@sha256:" HEX64 "00", "invalid checksum digest length" },
                { HEX64, "cannot specify 64-byte hexadecimal strings" },
                { "../a", "invalid reference format" },
                { "a/../b", "invalid reference format" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOERR err = NULL;
                ImageRef ref = { 0 };

                assert_int_equal(image_ref_parse(cases[i].text, &ref, &err), -EINVAL);
                assert_string_equal(kl_error_reason(err, ""), "InvalidImageName");
                if (!strstr(kl_error_msg(err), cases[i].why))
                        fail_msg("'%s': %s", cases[i].text, kl_error_msg(err));
        }
}

static void test_text(void **state)
{
        KL_AUTOERR err = NULL;
        ImageRef ref = { 0 };

        image_ref_parse("UPPER//x:1", &ref, &err);
        assert_string_equal(
                kl_error_msg(err),
                "Failed to apply default image tag \"UPPER//x:1\": couldn't parse image "
                "name \"UPPER//x:1\": invalid reference format");
}

static void test_lengths(void **state)
{
        char name[300];
        ImageRef ref = { 0 };

        memset(name, 'a', sizeof(name));
        memcpy(name, "h.h/", 4);
        name[255] = '\0';
        assert_int_equal(image_ref_parse(name, &ref, NULL), 0);
        image_ref_deinit(&ref);
        name[255] = 'a';
        name[256] = '\0';
        assert_int_equal(image_ref_parse(name, &ref, NULL), -EINVAL);
        memcpy(name, "h.h/a:", 6);
        name[6 + 128] = '\0';
        assert_int_equal(image_ref_parse(name, &ref, NULL), 0);
        image_ref_deinit(&ref);
        name[6 + 128] = 'a';
        name[6 + 129] = '\0';
        assert_int_equal(image_ref_parse(name, &ref, NULL), -EINVAL);
}

static void test_digests(void **state)
{
        char name[DIGEST_TEXT_SIZE];

        assert_true(digest_is_valid("sha256:" HEX64));
        assert_true(digest_is_valid("sha512:" HEX64 HEX64));
        assert_false(digest_is_valid("sha256:" HEX64 "/"));
        assert_false(digest_is_valid("sha256:../" HEX64));
        assert_false(digest_is_valid("SHA256:" HEX64));
        assert_false(digest_is_valid(NULL));
        assert_int_equal(digest_check("sha256:ABCDEF6789abcdef0123456789abcdef0123456789abcdef"
                                      "0123456789abcdef"),
                         DIGEST_BAD_FORMAT);
        digest_file_name("sha512:" HEX64 HEX64, name);
        assert_string_equal(name, "sha512-" HEX64 HEX64);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_valid),   cmocka_unit_test(test_invalid),
                cmocka_unit_test(test_text),    cmocka_unit_test(test_lengths),
                cmocka_unit_test(test_digests),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
