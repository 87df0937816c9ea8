/* SPDX-License-Identifier: Apache-2.0 */

/* Challenges and registries.yaml. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/str.h"
#include "image/worker/auth-internal.h"
#include "image/worker/registries-internal.h"

#include <fcntl.h>

static void test_challenges(void **state)
{
        char *headers[] = {
                (char *)"Basic realm=\"x\"",
                (char *)"Bearer realm=\"https://auth.example/token\",service=\"reg \\\"q\\\"\", "
                        "scope=\"repository:a:pull\"",
                NULL,
        };
        char *broken[] = { (char *)"Bearer realm", (char *)"Bearer ,,,=", (char *)"Negotiate",
                           (char *)"", NULL };
        AuthChallenge c;

        assert_int_equal(auth_challenge_parse(headers, &c), 0);
        assert_true(c.bearer && c.basic);
        assert_string_equal(c.realm, "https://auth.example/token");
        assert_string_equal(c.service, "reg \"q\"");
        assert_string_equal(c.scope, "repository:a:pull");
        auth_challenge_deinit(&c);
        assert_int_equal(auth_challenge_parse(broken, &c), 0);
        assert_false(c.bearer || c.basic);
        auth_challenge_deinit(&c);
        assert_int_equal(auth_challenge_parse(NULL, &c), 0);
}

static void test_plain_realm_is_refused(void **state)
{
        AuthChallenge c = { .bearer = true, .realm = (char *)"http://evil.example/token" };
        AuthCredentials credentials = { .username = "u", .password = "p" };
        HttpTls tls = { 0 };
        KL_AUTOERR err = NULL;
        char *answer = NULL;

        assert_int_equal(auth_answer(NULL, &c, &credentials, "https://reg.example/v2", "a", &tls,
                                     &answer, &err),
                         -EACCES);
        assert_non_null(strstr(kl_error_msg(err), "not reached by https"));
        c.realm = (char *)"file:///etc/passwd";
        assert_int_equal(auth_answer(NULL, &c, &credentials, "http://reg.example/v2", "a", &tls,
                                     &answer, NULL),
                         -EACCES);
}

static void test_basic(void **state)
{
        AuthChallenge c = { .basic = true };
        AuthCredentials credentials = { .username = "user", .password = "pass" }, none = { 0 };
        HttpTls tls = { 0 };
        char *answer = NULL;

        assert_int_equal(
                auth_answer(NULL, &c, &credentials, "https://r/v2", "a", &tls, &answer, NULL), 0);
        assert_string_equal(answer, "Basic dXNlcjpwYXNz");
        free(answer);
        assert_int_equal(auth_answer(NULL, &c, &none, "https://r/v2", "a", &tls, &answer, NULL),
                         -EACCES);
}

static RegistryPlan *plan_of(const char *yaml, const char *reference, const ImageAuth *auth,
                             int expected)
{
        char path[] = "/tmp/klt-registries-XXXXXX";
        int fd = mkostemp(path, O_CLOEXEC);
        RegistryPlan *plan = NULL;
        ImageRef ref = { 0 };

        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(file_replace(path, yaml, strlen(yaml), 0600, false), 0);
        assert_int_equal(image_ref_parse(reference, &ref, NULL), 0);
        assert_int_equal(registry_plan_new(path, &ref, auth, &plan, NULL), expected);
        image_ref_deinit(&ref);
        unlink(path);
        return plan;
}

static void test_plan(void **state)
{
        static const char yaml[] =
                "mirrors:\n"
                "  docker.io:\n"
                "    endpoint: [\"https://m1:5000\", \"http://m2/v2/hub/\", \"m3\"]\n"
                "    rewrite: {\"^library/(.*)\": \"hub/$1\"}\n"
                "  \"*\":\n"
                "    endpoint: [\"https://all\"]\n"
                "configs:\n"
                "  \"m1:5000\":\n"
                "    auth: {username: u, password: p}\n"
                "    tls: {insecure_skip_verify: true}\n"
                "  m3:\n"
                "    auth: {auth: dXNlcjpwYXNz}\n";
        ImageAuth auth = { .username = "pull", .password = "secret" };
        KL_AUTO(registry_plan_free) RegistryPlan *plan = plan_of(yaml, "busybox", &auth, 0);
        KL_AUTO(registry_plan_free) RegistryPlan *other = plan_of(yaml, "quay.io/a/b", NULL, 0);

        assert_int_equal(plan->n_endpoints, 4);
        assert_string_equal(plan->endpoints[0].base, "https://m1:5000/v2");
        assert_string_equal(plan->endpoints[0].repository, "hub/busybox");
        assert_string_equal(plan->endpoints[0].username, "u");
        assert_true(plan->endpoints[0].insecure);
        assert_string_equal(plan->endpoints[1].base, "http://m2/v2/hub");
        assert_null(plan->endpoints[1].username);
        assert_string_equal(plan->endpoints[2].base, "https://m3/v2");
        assert_string_equal(plan->endpoints[2].password, "pass");
        assert_string_equal(plan->endpoints[3].base, "https://registry-1.docker.io/v2");
        assert_string_equal(plan->endpoints[3].repository, "library/busybox");
        assert_string_equal(plan->endpoints[3].username, "pull");
        assert_null(plan->endpoints[3].host_argument);
        assert_string_equal(plan->endpoints[0].host_argument, "docker.io");
        assert_int_equal(other->n_endpoints, 2);
        assert_string_equal(other->endpoints[0].base, "https://all/v2");
}

static void test_loopback(void **state)
{
        KL_AUTO(registry_plan_free) RegistryPlan *plan = plan_of("", "127.0.0.1:5000/a", NULL, 0);

        assert_int_equal(plan->n_endpoints, 2);
        assert_string_equal(plan->endpoints[0].base, "http://127.0.0.1:5000/v2");
        assert_string_equal(plan->endpoints[1].base, "https://127.0.0.1:5000/v2");
        assert_true(plan->endpoints[1].fallback);
}

static void test_wrong_files(void **state)
{
        static const char *const wrong[] = {
                "mirrors: {docker.io: {endpoint: [\"ftp://x\"]}}",
                "mirrors: {docker.io: {endpoint: [[]]}}",
                "mirrors: {docker.io: {endpoint: [\"https://x\"], rewrite: {\"(\": x}}}",
                "configs: {docker.io: {auth: {auth: \"!\"}}}",
                "a: [",
        };

        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                assert_null(plan_of(wrong[i], "busybox", NULL, -EINVAL));
        assert_null(plan_of("configs: {docker.io: {tls: {ca_file: /nonexistent}}}", "busybox", NULL,
                            -ENOENT));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_challenges), cmocka_unit_test(test_plain_realm_is_refused),
                cmocka_unit_test(test_basic),      cmocka_unit_test(test_plan),
                cmocka_unit_test(test_loopback),   cmocka_unit_test(test_wrong_files),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
