/* SPDX-License-Identifier: Apache-2.0 */

/* Expansion and assembly of environments. */

#include "../unit.h"
#include "base/str.h"
#include "pod-literal.h"
#include "pod/environment.h"

static const ObjectRef *nothing(ObjectKind kind, const char *name, void *data)
{
        return NULL;
}

static void test_expansion(void **state)
{
        char *env[] = { (char *)"A=1", (char *)"B=two", NULL };
        static const struct {
                const char *in, *out;
        } cases[] = {
                { "$(A)-$(B)", "1-two" }, { "$$(A)", "$(A)" }, { "$(C)", "$(C)" },
                { "$(A", "$(A" },         { "$A", "$A" },      { "$$$(A)", "$1" },
                { "100%$", "100%$" },     { "$()", "$()" },    { "", "" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *text = environment_expand(cases[i].in, env);

                assert_string_equal(text, cases[i].out);
        }
}

static void test_strict_expansion(void **state)
{
        char *env[] = { (char *)"A=1", NULL };
        KL_AUTOFREE char *text = NULL;
        KL_AUTOERR err = NULL;

        assert_int_equal(environment_expand_strict("x/$(A)", env, &text, &err), 0);
        assert_string_equal(text, "x/1");
        assert_true(environment_expand_strict("x/$(NO)", env, &text, &err) < 0);
        assert_string_equal(kl_error_reason(err, ""), "CreateContainerConfigError");
}

static void test_build_order(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                POD_HEAD
                "spec:\n  containers:\n  - name: c\n    image: x:1\n"
                "    resources: {limits: {cpu: 1500m, memory: 64Mi}}\n"
                "    env:\n"
                "    - {name: PATH, value: /mine}\n"
                "    - {name: WHO, value: $(POD)}\n"
                "    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n"
                "    - {name: LATE, value: $(POD).$(PATH)}\n"
                "    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}\n"
                "    - {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory, "
                "divisor: 1Mi}}}\n"
                "    - {name: APP, valueFrom: {fieldRef: {fieldPath: "
                "\"metadata.labels['app']\"}}}\n");
        PodFacts facts = { .node_name = "n1" };
        EnvInput in = {
                .pod = pod, .container = pod->containers, .facts = &facts, .lookup = nothing
        };
        KL_AUTOSTRV env = NULL;
        KL_AUTOERR err = NULL;
        static const char *const expected[] = {
                "PATH=/mine", "WHO=$(POD)", "POD=web", "LATE=web./mine",
                "CPU=2",      "MEM=64",     "APP=web", NULL,
        };

        assert_int_equal(environment_build(&in, &env, &err), 0);
        for (size_t i = 0; expected[i]; i++)
                assert_string_equal(env[i], expected[i]);
        assert_null(env[7]);
}

static void test_image_below_the_pod(void **state)
{
        char *image_env[] = { (char *)"PATH=/bin", (char *)"HOME=/root", NULL };
        char *env[] = { (char *)"A=1", (char *)"PATH=/mine", NULL };
        KL_AUTOSTRV all = environment_complete("h", image_env, env);
        static const char *const expected[] = { "HOSTNAME=h", "PATH=/mine", "HOME=/root", "A=1" };

        for (size_t i = 0; i < ELEMENTS(expected); i++)
                assert_string_equal(all[i], expected[i]);
        assert_null(all[4]);
}

static void test_missing_object(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                POD_HEAD
                "spec:\n  containers:\n  - name: c\n    image: x:1\n    env:\n"
                "    - {name: O, valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}}\n"
                "    - {name: X, valueFrom: {configMapKeyRef: {name: m, key: k}}}\n");
        PodFacts facts = { .node_name = "n1" };
        EnvInput in = {
                .pod = pod, .container = pod->containers, .facts = &facts, .lookup = nothing
        };
        KL_AUTOSTRV env = NULL;
        KL_AUTOERR err = NULL;

        assert_true(environment_build(&in, &env, &err) < 0);
        assert_string_equal(kl_error_reason(err, ""), "CreateContainerConfigError");
}

static int file(const char *volume, const char *path, const char **ret_text, void *data,
                KlError **err)
{
        *ret_text = strcmp(path, "none") == 0 ? NULL : "A='1'\nB='$(A)'\n";
        return strcmp(path, "later") == 0;
}

/* Values of files are not expanded themselves, and may be referred to. */
static void test_env_files(void **state)
{
        static const struct {
                const char *ref, *expected; /* NULL: an error, "": not yet */
        } cases[] = {
                { "path: f, key: B", "V=$(A) W=<$(A)>" },
                { "path: later, key: B", "" },
                { "path: none, key: B, optional: true", "W=<$(V)>" },
                { "path: f, key: C, optional: true", "W=<$(V)>" },
                { "path: none, key: B", NULL },
                { "path: f, key: C", NULL },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *yaml = str_format(
                        POD_HEAD "spec:\n  containers:\n  - name: c\n    image: x:1\n    env:\n"
                                 "    - {name: V, valueFrom: {fileKeyRef: {volumeName: v, %s}}}\n"
                                 "    - {name: W, value: <$(V)>}\n"
                                 "  volumes: [{name: v}]\n",
                        cases[i].ref);
                KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);
                EnvInput in = { .pod = pod,
                                .container = pod->containers,
                                .facts = &(PodFacts){ 0 },
                                .lookup = nothing,
                                .file = file };
                KL_AUTOSTRV env = NULL;
                KL_AUTOERR err = NULL;
                int r = environment_build(&in, &env, &err);

                if (!cases[i].expected) {
                        assert_int_equal(r, -ENOENT);
                        assert_string_equal(kl_error_reason(err, ""), "CreateContainerConfigError");
                } else if (!*cases[i].expected) {
                        assert_int_equal(r, 1);
                } else {
                        KL_AUTOBUF text = BUF_INIT;

                        assert_int_equal(r, 0);
                        for (size_t k = 0; env[k]; k++)
                                buf_addf(&text, "%s%s", k ? " " : "", env[k]);
                        assert_string_equal(buf_str(&text), cases[i].expected);
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_expansion),           cmocka_unit_test(test_strict_expansion),
                cmocka_unit_test(test_build_order),         cmocka_unit_test(test_env_files),
                cmocka_unit_test(test_image_below_the_pod), cmocka_unit_test(test_missing_object),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
