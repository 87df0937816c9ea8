/* SPDX-License-Identifier: Apache-2.0 */

/* Security settings that do not go together are refused in upstream's words; AppArmor's profiles
 * come from fields and annotations. */

#include "../pod/pod-literal.h"
#include "../unit.h"
#include "base/str.h"

#define HEAD "metadata: {name: p}\nspec:\n"
#define C "  containers: [{name: c, image: x}]\n"
#define CONTAINER(security)                                                                        \
        HEAD "  containers: [{name: c, image: x, securityContext: {" security "}}]\n"
#define POD(security) HEAD C "  securityContext: {" security "}\n"
#define AT_CONTAINER "spec.containers[0].securityContext"
#define AT_POD "spec.securityContext"

static void test_conflicts(void **state)
{
        static const struct {
                const char *yaml, *message;
        } cases[] = {
                { CONTAINER("allowPrivilegeEscalation: false, privileged: true"), AT_CONTAINER
                  ": Invalid value: cannot set `allowPrivilegeEscalation` to false and "
                  "`privileged` to true" },
                { CONTAINER(
                          "allowPrivilegeEscalation: false, capabilities: {add: [CAP_SYS_ADMIN]}"),
                  AT_CONTAINER
                  ": Invalid value: cannot set `allowPrivilegeEscalation` to false and "
                  "`capabilities.Add` CAP_SYS_ADMIN" },
                { CONTAINER("procMount: Unmasked"),
                  AT_CONTAINER ".procMount: Invalid value: \"Unmasked\": `hostUsers` must be false "
                               "to use `Unmasked`" },
                { CONTAINER("procMount: None"),
                  AT_CONTAINER ".procMount: Unsupported value: \"None\": supported values: "
                               "\"Default\", \"Unmasked\"" },
                { CONTAINER("seccompProfile: {type: Localhost}"),
                  AT_CONTAINER ".seccompProfile.localhostProfile: Required value: must be set when "
                               "seccomp type is Localhost" },
                { CONTAINER("seccompProfile: {type: Localhost, localhostProfile: ''}"),
                  AT_CONTAINER ".seccompProfile.localhostProfile: Required value: must be set when "
                               "seccomp type is Localhost" },
                { CONTAINER("seccompProfile: {type: Localhost, localhostProfile: /etc/passwd}"),
                  AT_CONTAINER ".seccompProfile.localhostProfile: Invalid value: \"/etc/passwd\": "
                               "must be a relative path" },
                { CONTAINER("seccompProfile: {type: Localhost, localhostProfile: a/../../b}"),
                  AT_CONTAINER ".seccompProfile.localhostProfile: Invalid value: \"a/../../b\": "
                               "must not contain '..'" },
                { CONTAINER("seccompProfile: {type: Unconfined, localhostProfile: a}"), AT_CONTAINER
                  ".seccompProfile.localhostProfile: Invalid value: \"a\": can only be "
                  "set when seccomp type is Localhost" },
                { POD("seccompProfile: {type: unconfined}"),
                  AT_POD ".seccompProfile.type: Unsupported value: \"unconfined\": supported "
                         "values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"" },
                { POD("appArmorProfile: {type: Localhost}"),
                  AT_POD ".appArmorProfile.localhostProfile: Required value: must be set when "
                         "AppArmor type is Localhost" },
                { POD("appArmorProfile: {type: RuntimeDefault, localhostProfile: a}"),
                  AT_POD ".appArmorProfile.localhostProfile: Invalid value: \"a\": can only be set "
                         "when AppArmor type is Localhost" },
                { POD("appArmorProfile: {type: Some}"),
                  AT_POD ".appArmorProfile.type: Unsupported value: \"Some\": supported values: "
                         "\"Localhost\", \"RuntimeDefault\", \"Unconfined\"" },
                { POD("supplementalGroupsPolicy: None"), AT_POD
                  ".supplementalGroupsPolicy: Unsupported value: \"None\": supported values: "
                  "\"Merge\", \"Strict\"" },
                { POD("sysctls: [{name: a.b, value: '1'}, {name: a.b, value: '2'}]"),
                  AT_POD ".sysctls[1].name: Duplicate value: \"a.b\"" },
                { HEAD C "  hostUsers: false\n  hostNetwork: true\n",
                  "spec.hostNetwork: Forbidden: when `hostUsers` is false" },
                { HEAD C "  hostUsers: false\n  hostPID: true\n",
                  "spec.hostPID: Forbidden: when `hostUsers` is false" },
                { HEAD C "  hostUsers: false\n  hostIPC: true\n",
                  "spec.hostIPC: Forbidden: when `hostUsers` is false" },
                { HEAD C "  shareProcessNamespace: true\n  hostPID: true\n",
                  "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and "
                  "HostPID cannot both be enabled" },
                { HEAD "  volumes: [{name: v}]\n  containers: [{name: c, image: x, volumeMounts: "
                       "[{name: v, mountPath: /v, mountPropagation: Bidirectional}]}]\n",
                  "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional "
                  "mount propagation is available only to privileged containers" },
                { HEAD C
                  "  initContainers: [{name: i, image: x, securityContext: {procMount: X}}]\n",
                  "spec.initContainers[0].securityContext.procMount: Unsupported value: \"X\": "
                  "supported values: \"Default\", \"Unmasked\"" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTO(value_free) Value *v = NULL;
                KL_AUTO(pod_free) Pod *pod = NULL;
                KL_AUTOERR err = NULL;

                assert_int_equal(yaml_read(cases[i].yaml, strlen(cases[i].yaml), &v, NULL), 0);
                assert_int_equal(pod_decode(v, &pod, &err), -EINVAL);
                assert_string_equal(kl_error_msg(err), cases[i].message);
        }
}

static void test_hostile_sysctls(void **state)
{
        static const char *const names[] = {
                "kernel.shm_rmid_forced+x", "a=b", "a b", "../x", "a/../b", "A", "a.", "|x"
        };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                KL_AUTOFREE char *yaml =
                        str_format(POD("sysctls: [{name: '%s', value: '1'}]"), names[i]);
                KL_AUTO(value_free) Value *v = NULL;
                KL_AUTO(pod_free) Pod *pod = NULL;
                KL_AUTOERR err = NULL;

                assert_int_equal(yaml_read(yaml, strlen(yaml), &v, NULL), 0);
                assert_int_equal(pod_decode(v, &pod, &err), -EINVAL);
                assert_non_null(strstr(kl_error_msg(err), ".sysctls[0].name: Invalid value"));
        }
}

static void test_what_goes_together(void **state)
{
        pod_free(pod_literal(CONTAINER("allowPrivilegeEscalation: false, capabilities: {add: "
                                       "[SYS_ADMIN]}")));
        pod_free(pod_literal(HEAD "  hostUsers: false\n  shareProcessNamespace: true\n"
                                  "  containers: [{name: c, image: x, securityContext: "
                                  "{procMount: Unmasked, privileged: true}}]\n"));
        pod_free(pod_literal(
                POD("seccompProfile: {type: Localhost, localhostProfile: a/..b/c.json}")));
}

static void test_apparmor(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                "metadata:\n  name: p\n  annotations:\n"
                "    container.apparmor.security.beta.kubernetes.io/a: localhost/mine\n"
                "    container.apparmor.security.beta.kubernetes.io/b: unconfined\n"
                "    container.apparmor.security.beta.kubernetes.io/c: runtime/default\n"
                "    container.apparmor.security.beta.kubernetes.io/d: unconfined\n"
                "spec:\n  securityContext: {appArmorProfile: {type: Localhost, localhostProfile: "
                "pods}, seLinuxOptions: {level: 's0'}}\n  containers:\n"
                "  - {name: a, image: x}\n  - {name: b, image: x}\n  - {name: c, image: x}\n"
                "  - {name: d, image: x, securityContext: {appArmorProfile: {type: "
                "RuntimeDefault}}}\n  - {name: e, image: x}\n");
        static const char *const types[] = { "Localhost", "Unconfined", "RuntimeDefault",
                                             "RuntimeDefault", "Localhost" };

        for (size_t i = 0; i < ELEMENTS(types); i++)
                assert_string_equal(pod_apparmor(pod, &pod->containers[i]).type, types[i]);
        assert_string_equal(pod_apparmor(pod, &pod->containers[0]).localhost_profile, "mine");
        assert_string_equal(pod_apparmor(pod, &pod->containers[4]).localhost_profile, "pods");
        assert_true(pod->security.selinux_given);
        assert_false(pod->containers[0].security.selinux_given);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_conflicts),
                cmocka_unit_test(test_hostile_sysctls),
                cmocka_unit_test(test_what_goes_together),
                cmocka_unit_test(test_apparmor),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
