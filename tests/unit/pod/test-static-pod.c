/* SPDX-License-Identifier: Apache-2.0 */

/* Static pods: what they are completed with, and what they must not name. */

#include "../unit.h"
#include "base/str.h"
#include "codec/yaml.h"
#include "pod/source-file.h"

static int decode(const char *yaml, Pod **pod, KlError **err)
{
        KL_AUTO(value_free) Value *v = NULL;

        assert_int_equal(yaml_read(yaml, strlen(yaml), &v, err), 0);
        return static_pod_decode(v, "node1", "/m/a.yaml", pod, err);
}

static void test_completion(void **state)
{
        const char *yaml = "kind: Pod\nmetadata: {name: web}\n"
                           "spec: {containers: [{name: c, image: x}]}\n";
        KL_AUTO(pod_free) Pod *a = NULL;
        KL_AUTO(pod_free) Pod *b = NULL;
        KL_AUTO(pod_free) Pod *other = NULL;

        assert_int_equal(decode(yaml, &a, NULL), 0);
        assert_int_equal(decode(yaml, &b, NULL), 0);
        assert_int_equal(decode("kind: Pod\nmetadata: {name: web}\n"
                                "spec: {containers: [{name: c, image: y}]}\n",
                                &other, NULL),
                         0);
        assert_string_equal(a->name, "web-node1");
        assert_string_equal(a->namespace, "default");
        assert_string_equal(a->node_name, "node1");
        assert_true(a->is_static);
        assert_int_equal(strlen(a->uid), 32);
        assert_string_equal(a->uid, b->uid);
        assert_string_not_equal(a->uid, other->uid);
        assert_string_equal(key_values_get(&a->annotations, "kubernetes.io/config.hash"), a->uid);
        assert_string_equal(key_values_get(&a->annotations, "kubernetes.io/config.source"), "file");
}

static void refused(const char *spec, const char *field)
{
        KL_AUTOFREE char *yaml = str_format("kind: Pod\nmetadata: {name: web}\nspec:\n%s", spec);
        KL_AUTO(pod_free) Pod *pod = NULL;
        KL_AUTOERR err = NULL;

        assert_true(decode(yaml, &pod, &err) < 0);
        assert_int_equal(strncmp(kl_error_msg(err), field, strlen(field)), 0);
}

#define C "  containers: [{name: c, image: x}]\n"

static void test_references(void **state)
{
        refused(C "  serviceAccountName: s\n", "spec.serviceAccountName:");
        refused(C "  volumes: [{name: v, secret: {secretName: s}}]\n", "spec.volumes[0].secret:");
        refused(C "  volumes: [{name: v, configMap: {name: s}}]\n", "spec.volumes[0].configMap:");
        refused(C "  volumes: [{name: v, persistentVolumeClaim: {claimName: s}}]\n",
                "spec.volumes[0].persistentVolumeClaim:");
        refused(C "  volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: "
                  "t}}]}}]\n",
                "spec.volumes[0].projected.sources[0].serviceAccountToken:");
        refused("  containers: [{name: c, image: x, envFrom: [{secretRef: {name: s}}]}]\n",
                "spec.containers{c}.envFrom[0].secretRef:");
}

static void test_bad_documents(void **state)
{
        KL_AUTO(pod_free) Pod *pod = NULL;
        static const struct {
                const char *yaml, *message;
        } cases[] = {
                { "kind: Service\n", "kind: 'Service' is not Pod" },
                { "- a\n", "document: expected a map, got a list" },
                { "kind: Pod\nmetadata: {name: a}\n", "spec: is required" },
                { "kind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n",
                  "spec.containers: a pod needs at least one container" },
                { "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: x, ports: "
                  "[{containerPort: 99999}]}]}\n",
                  "spec.containers[0].ports[0].containerPort: 99999 is not in 1-65535" },
                { "kind: Pod\nmetadata: {name: ../x}\nspec: {containers: [{name: c, image: x}]}\n",
                  "metadata.name: '../x-node1' is no DNS-1123 subdomain" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOERR err = NULL;

                assert_true(decode(cases[i].yaml, &pod, &err) < 0);
                assert_string_equal(kl_error_msg(err), cases[i].message);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_completion),
                cmocka_unit_test(test_references),
                cmocka_unit_test(test_bad_documents),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
