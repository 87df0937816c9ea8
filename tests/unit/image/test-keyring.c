/* SPDX-License-Identifier: Apache-2.0 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/str.h"
#include "image/keyring.h"

/* The users that are tried for an image, in order: "a b ". */
static void assert_users(const Keyring *k, const char *image, const char *expected)
{
        __attribute__((cleanup(image_ref_deinit))) ImageRef ref = { 0 };
        KL_AUTOBUF users = BUF_INIT;
        const ImageAuth *auth;

        assert_int_equal(image_ref_parse(image, &ref, NULL), 0);
        for (size_t i = 0; (auth = keyring_find(k, &ref, i)); i++)
                buf_addf(&users, "%s ", auth->username ? auth->username : auth->identity_token);
        assert_string_equal(buf_str(&users), expected);
}

static void add(Keyring *k, const char *json, bool legacy)
{
        assert_int_equal(keyring_add(k, json, strlen(json), legacy, NULL), 0);
}

static void test_matching(void **state)
{
        static const struct {
                const char *key, *image;
                bool matches;
        } cases[] = {
                { "example.com", "example.com/a", true },
                { "https://example.com", "example.com/a", true },
                { "http://example.com/v1/", "example.com/a", true },
                { "https://example.com/v2/team", "example.com/team/a", true },
                { "example.com/team", "example.com/team/a", true },
                { "example.com/team", "example.com/other/a", false },
                { "example.com", "example.com:5000/a", false },
                { "example.com:5000", "example.com:5000/a", true },
                { "example.com:5000", "example.com/a", false },
                { "*.example.com", "a.example.com/x", true },
                { "*.example.com", "example.com/x", false },
                { "*.example.com", "a.b.example.com/x", false },
                { "*.*.example.com", "a.b.example.com/x", true },
                { "a*.example.com", "ab.example.com/x", true },
                { "*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com/x", true },
                { "example.com", "example.com.evil.org/x", false },
                { "example.com", "evil.org/example.com/x", false },
                { "https://index.docker.io/v1/", "busybox", true },
                { "docker.io", "docker.io/library/busybox", true },
                { "index.docker.io", "quay.io/busybox", false },
                { "127.0.0.1:5001", "127.0.0.1:5001/alpine:3.7", true },
                { "[::1]:5000", "[::1]:5000/x", true },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTO(keyring_free) Keyring *k = keyring_new();
                KL_AUTOFREE char *json =
                        str_format("{\"auths\":{\"%s\":{\"username\":\"u\",\"password\":\"p\"}}}",
                                   cases[i].key);

                add(k, json, false);
                print_message("%s for %s\n", cases[i].key, cases[i].image);
                assert_users(k, cases[i].image, cases[i].matches ? "u " : "");
        }
}

static void test_longest_path_first_and_configurations_in_order(void **state)
{
        KL_AUTO(keyring_free) Keyring *k = keyring_new();

        add(k,
            "{\"auths\":{\"r.io\":{\"username\":\"host\"},\"r.io/a\":{\"username\":\"a\"},"
            "\"r.io/a/b\":{\"username\":\"ab\"}}}",
            false);
        add(k, "{\"r.io/a\":{\"username\":\"later\"}}", true);
        assert_users(k, "r.io/a/b/c", "ab a host later ");
        assert_users(k, "r.io/x", "host ");
}

static void test_forms_of_a_secret(void **state)
{
        __attribute__((cleanup(image_ref_deinit))) ImageRef ref = { 0 };
        KL_AUTO(keyring_free) Keyring *k = keyring_new();
        const ImageAuth *auth;

        /* "user:pass:word" */
        add(k,
            "{\"auths\":{\"a.io\":{\"auth\":\"dXNlcjpwYXNzOndvcmQ=\"},"
            "\"b.io\":{\"identitytoken\":\"t\"},\"c.io\":{\"auth\":\"!!\"},\"d.io\":{},"
            "\"e.io\":{\"auth\":\"bm9jb2xvbg==\"},\"f.io\":5,\"\":{\"username\":\"x\"}}}",
            false);
        assert_int_equal(image_ref_parse("a.io/x", &ref, NULL), 0);
        auth = keyring_find(k, &ref, 0);
        assert_string_equal(auth->username, "user");
        assert_string_equal(auth->password, "pass:word");
        assert_users(k, "b.io/x", "t ");
        assert_users(k, "c.io/x", "");
        assert_users(k, "d.io/x", "");
        assert_users(k, "e.io/x", "");
        assert_users(k, "f.io/x", "");
}

static void test_refused_without_quoting(void **state)
{
        KL_AUTO(keyring_free) Keyring *k = keyring_new();
        KL_AUTOERR err = NULL;
        const char *bad = "{\"auths\": secret}";

        assert_int_equal(keyring_add(k, bad, strlen(bad), false, &err), -EINVAL);
        assert_null(strstr(kl_error_msg(err), "secret"));
        assert_int_equal(keyring_add(k, "[]", 2, false, NULL), -EINVAL);
        assert_int_equal(keyring_add(k, "{}", KEYRING_CONFIG_MAX + 1, false, NULL), -E2BIG);
}

static void test_number_of_entries_is_limited(void **state)
{
        KL_AUTO(keyring_free) Keyring *k = keyring_new();
        KL_AUTOBUF json = BUF_INIT;

        buf_add_str(&json, "{");
        for (int i = 0; i <= KEYRING_ENTRIES_MAX; i++)
                buf_addf(&json, "%s\"h%d.io\":{\"username\":\"u\"}", i ? "," : "", i);
        buf_add_str(&json, "}");
        assert_int_equal(keyring_add(k, buf_str(&json), json.len, true, NULL), -E2BIG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_matching),
                cmocka_unit_test(test_longest_path_first_and_configurations_in_order),
                cmocka_unit_test(test_forms_of_a_secret),
                cmocka_unit_test(test_refused_without_quoting),
                cmocka_unit_test(test_number_of_entries_is_limited),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
