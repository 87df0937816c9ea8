/* SPDX-License-Identifier: Apache-2.0 */

/* Decoding of pods: defaults, and a path in every error. */

#include "../pod/pod-literal.h"
#include "../unit.h"
#include "base/buf.h"
#include "base/str.h"

static void test_defaults(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                "metadata: {name: p}\nspec:\n  containers:\n  - {name: a, image: x}\n"
                "  - {name: b, image: 'h:5000/x:1', resources: {limits: {cpu: 1}}}\n"
                "  - {name: c, image: 'x@sha256:00'}\n  - {name: d, image: 'h:5000/x:latest'}\n"
                "  volumes: [{name: v}]\n");

        assert_string_equal(pod->namespace, "default");
        assert_int_equal(pod->grace_s, 30);
        assert_int_equal(pod->restart_policy, RESTART_ALWAYS);
        assert_string_equal(pod->dns_policy, "ClusterFirst");
        assert_true(pod->enable_service_links);
        assert_true(pod->host_users);
        assert_int_equal(pod->deletion_grace_s, -1);
        assert_int_equal(pod->containers[0].pull_policy, PULL_ALWAYS);
        assert_int_equal(pod->containers[1].pull_policy, PULL_IF_NOT_PRESENT);
        assert_int_equal(pod->containers[2].pull_policy, PULL_IF_NOT_PRESENT);
        assert_int_equal(pod->containers[3].pull_policy, PULL_ALWAYS);
        assert_string_equal(pod->containers[0].termination_message_path, "/dev/termination-log");
        assert_int_equal(pod->containers[0].security.run_as_user, -1);
        /* Requests default to limits. */
        assert_int_equal(resource_milli(&pod->containers[1].resources.requests, "cpu"), 1000);
        assert_int_equal(pod->volumes[0].kind, VOLUME_EMPTY_DIR);
        assert_int_equal(pod->security.fs_group, -1);
}

static void test_kinds_of_containers(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                "metadata: {name: p}\nspec:\n  initContainers:\n"
                "  - {name: s, image: x, restartPolicy: Always}\n  - {name: i, image: x}\n"
                "  containers: [{name: c, image: x}]\n"
                "  ephemeralContainers: [{name: e, image: x, targetContainerName: c}]\n");

        assert_int_equal(pod->n_init, 2);
        assert_int_equal(pod->n_main, 1);
        assert_int_equal(pod->n_ephemeral, 1);
        assert_true(pod->containers[0].sidecar);
        assert_false(pod->containers[1].sidecar);
        assert_int_equal(pod->containers[3].kind, CONTAINER_EPHEMERAL);
        assert_string_equal(pod->containers[3].target_container, "c");
}

static void test_restart_rules(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                "metadata: {name: p}\nspec:\n  containers:\n"
                "  - name: c\n    image: x\n    restartPolicy: Never\n    restartPolicyRules:\n"
                "    - {action: Restart, exitCodes: {operator: In, values: [1, 2]}}\n"
                "    - {action: RestartAllContainers, exitCodes: {operator: NotIn, values: "
                "[0]}}\n");
        const Container *c = &pod->containers[0];

        assert_true(c->has_restart_policy);
        assert_int_equal(c->restart_policy, RESTART_NEVER);
        assert_int_equal(c->n_restart_rules, 2);
        assert_false(c->restart_rules[0].all_containers || c->restart_rules[0].not_in);
        assert_int_equal(c->restart_rules[0].exit_codes[1], 2);
        assert_true(c->restart_rules[1].all_containers && c->restart_rules[1].not_in);
}

#define HEAD "metadata: {name: p}\nspec:\n"
#define NEVER ", restartPolicy: Never"
#define RULES(rules, more)                                                                         \
        "  containers: [{name: c, image: x, restartPolicyRules: [" rules "]" more "}]\n"
#define C "  containers: [{name: c, image: x}]\n"

static void test_errors(void **state)
{
        static const struct {
                const char *yaml, *message;
        } cases[] = {
                { "metadata: {}\nspec: {}\n", "metadata.name: is required" },
                { "metadata: {name: 7}\n", "metadata.name: expected a string, got a number" },
                { "metadata: {name: p}\n", "spec: is required" },
                { "metadata: {name: p, uid: ../x}\nspec: {}\n",
                  "metadata.uid: '../x' cannot name a directory" },
                { "metadata: {name: p, namespace: a/b}\nspec: {}\n",
                  "metadata.namespace: 'a/b' is no DNS-1123 label" },
                { HEAD "  containers: []\n",
                  "spec.containers: a pod needs at least one container" },
                { HEAD "  containers: [{image: x}]\n", "spec.containers[0].name: is required" },
                { HEAD "  containers: [{name: ../c, image: x}]\n",
                  "spec.containers[0].name: '../c' is no DNS-1123 label" },
                { HEAD "  containers: [{name: c, image: x}, {name: c, image: x}]\n",
                  "spec.containers[1].name: 'c' is there twice" },
                { HEAD C "  restartPolicy: Sometimes\n",
                  "spec.restartPolicy: 'Sometimes' is none of Always, OnFailure, Never" },
                { HEAD
                  "  containers: [{name: c, image: x, volumeMounts: [{name: v, mountPath: /x}]}]\n",
                  "spec.containers[0].volumeMounts[0].name: there is no volume 'v'" },
                { HEAD "  containers: [{name: c, image: x, resources: {limits: {cpu: lots}}}]\n",
                  "spec.containers[0].resources.limits.cpu: 'lots' is no quantity" },
                { HEAD C "  volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}]\n",
                  "spec.volumes[0]: has more than one source" },
                { HEAD C "  volumes: [{name: v, hostPath: {path: x}}]\n",
                  "spec.volumes[0].hostPath.path: 'x' is not absolute" },
                { HEAD C "  volumes: [{name: v, hostPath: {path: /a/../b}}]\n",
                  "spec.volumes[0].hostPath.path: must not contain '..'" },
                { HEAD C "  securityContext: {runAsUser: 4294967296}\n",
                  "spec.securityContext.runAsUser: 4294967296 is not in 0-2147483647" },
                { HEAD "  containers: [{name: c, image: x, securityContext: {runAsUser: -1}}]\n",
                  "spec.containers[0].securityContext.runAsUser: -1 is not in 0-2147483647" },
                { HEAD C "  initContainers: [{name: i, image: x, restartPolicy: Once}]\n",
                  "spec.initContainers[0].restartPolicy: 'Once' is none of Always, OnFailure, "
                  "Never" },
                { HEAD C "  ephemeralContainers: [{name: e, image: x, restartPolicy: Never}]\n",
                  "spec.ephemeralContainers[0].restartPolicy: cannot be set for an ephemeral "
                  "container" },
                { HEAD RULES("{action: Restart, exitCodes: {operator: In, values: [1]}}", ""),
                  "spec.containers[0].restartPolicyRules: must specify restartPolicy when restart "
                  "rules are used" },
                { HEAD RULES("{action: Reboot}", NEVER),
                  "spec.containers[0].restartPolicyRules[0].action: 'Reboot' is none of Restart, "
                  "RestartAllContainers" },
                { HEAD RULES("{action: Restart}", NEVER),
                  "spec.containers[0].restartPolicyRules[0].exitCodes: is required" },
                { HEAD RULES("{action: Restart, exitCodes: {operator: Not, values: [1]}}", NEVER),
                  "spec.containers[0].restartPolicyRules[0].exitCodes.operator: 'Not' is none of "
                  "In, NotIn" },
                { HEAD RULES("{action: Restart, exitCodes: {operator: In, values: []}}", NEVER),
                  "spec.containers[0].restartPolicyRules[0].exitCodes.values: at least one exit "
                  "code is needed" },
                { HEAD RULES("{action: Restart, exitCodes: {operator: In, values: [x]}}", NEVER),
                  "spec.containers[0].restartPolicyRules[0].exitCodes.values[0]: is no exit code" },
                { "metadata: {name: p, deletionTimestamp: soon}\nspec: {}\n",
                  "metadata.deletionTimestamp: 'soon' is no RFC 3339 time" },
                { "- x\n", "document: expected a map, got a list" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTO(value_free) Value *v = NULL;
                KL_AUTOERR err = NULL;
                Pod *pod = NULL;

                assert_int_equal(yaml_read(cases[i].yaml, strlen(cases[i].yaml), &v, NULL), 0);
                assert_true(pod_decode(v, &pod, &err) < 0);
                assert_string_equal(kl_error_msg(err), cases[i].message);
        }
}

#define ENV(v) "  containers: [{name: c, image: x, env: [" v "]}]\n"
#define PORTS(p) "  containers: [{name: c, image: x, ports: [" p "]}]\n"
#define MOUNTS(m)                                                                                  \
        "  containers: [{name: c, image: x, volumeMounts: [" m "]}]\n  volumes: [{name: v}]\n"
#define E "spec.containers[0].env[0]"
#define P "spec.containers[0].ports[0]"
#define M "spec.containers[0].volumeMounts[0]"
#define FROM(source)                                                                               \
        ENV("{name: A, valueFrom: {" source "}}")                                                  \
        "  volumes: [{name: v}, {name: h, hostPath: {path: /}}]\n"

/* What upstream's API server refuses and a manifest file may still say. */
static void test_what_makes_no_sense(void **state)
{
        static const struct {
                const char *spec, *message;
        } cases[] = {
                { C "  hostname: a.b\n", "spec.hostname: 'a.b' is no DNS-1123 label" },
                { C "  subdomain: A\n", "spec.subdomain: 'A' is no DNS-1123 label" },
                { C "  hostnameOverride: '-'\n",
                  "spec.hostnameOverride: '-' is no DNS-1123 subdomain of at most 64 characters" },
                { C "  hostnameOverride: h\n  hostNetwork: true\n",
                  "spec.hostnameOverride: Forbidden: may not be set when hostNetwork is true" },
                { C "  hostnameOverride: h\n  setHostnameAsFQDN: true\n",
                  "spec.hostnameOverride: Forbidden: may not be set when setHostnameAsFQDN is "
                  "true" },
                { C "  dnsPolicy: Cluster\n",
                  "spec.dnsPolicy: Unsupported value: \"Cluster\": supported values: "
                  "\"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"" },
                { C "  dnsPolicy: None\n",
                  "spec.dnsConfig.nameservers: must provide at least one DNS nameserver when "
                  "`dnsPolicy` is None" },
                { C "  dnsConfig: {nameservers: [dns.example]}\n",
                  "spec.dnsConfig.nameservers[0]: 'dns.example' is no IP address" },
                { C "  dnsConfig: {searches: [ok_1.b., ., \"a\\nb\"]}\n",
                  "spec.dnsConfig.searches[2]: 'a\nb' is no DNS-1123 subdomain" },
                { C "  hostAliases: [{ip: 1.2.3, hostnames: [a]}]\n",
                  "spec.hostAliases[0].ip: '1.2.3' is no IP address" },
                { C "  hostAliases: [{ip: '::1', hostnames: [a, \"b\\tc\"]}]\n",
                  "spec.hostAliases[0].hostnames[1]: 'b\tc' is no DNS-1123 subdomain" },
                { C "  activeDeadlineSeconds: 0\n",
                  "spec.activeDeadlineSeconds: 0 is not in 1-2147483647" },
                { ENV("{name: A=B}"),
                  E ".name: a valid environment variable name must consist only of printable ASCII "
                    "characters other than '='" },
                { ENV("{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}"),
                  E ".valueFrom: may not be specified when `value` is not empty" },
                { FROM("fieldRef: {fieldPath: metadata.name}, secretKeyRef: {name: s, key: k}"),
                  E ".valueFrom: may not have more than one field specified at a time" },
                { FROM("fieldRef: {fieldPath: metadata.labels}"),
                  E ".valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.labels\"" },
                { FROM("resourceFieldRef: {resource: limits.gpu}"),
                  E ".valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.gpu\"" },
                { FROM("resourceFieldRef: {resource: limits.cpu, containerName: d}"),
                  E ".valueFrom.resourceFieldRef.containerName: there is no container 'd'" },
                { FROM("fileKeyRef: {volumeName: w, path: p, key: K}"),
                  E ".valueFrom.fileKeyRef.volumeName: there is no volume 'w'" },
                { FROM("fileKeyRef: {volumeName: h, path: p, key: K}"),
                  E ".valueFrom.fileKeyRef.volumeName: 'h' is no emptyDir" },
                { FROM("fileKeyRef: {volumeName: v, path: /p, key: K}"),
                  E ".valueFrom.fileKeyRef.path: must be a relative path" },
                { FROM("fileKeyRef: {volumeName: v, path: a/../../p, key: K}"),
                  E ".valueFrom.fileKeyRef.path: must not contain '..'" },
                { PORTS("{containerPort: 80, name: UPPER}"),
                  P ".name: 'UPPER' is no port name: at most 15 of a-z, 0-9 and single '-', and a "
                    "letter among them" },
                { PORTS("{containerPort: 80, name: a}, {containerPort: 81, name: a}"),
                  "spec.containers[0].ports[1].name: Duplicate value: \"a\"" },
                { PORTS("{containerPort: 80, hostIP: here}"),
                  P ".hostIP: 'here' is no IP address" },
                { PORTS("{containerPort: 80, hostPort: 81}") "  hostNetwork: true\n",
                  P ".hostPort: must match `containerPort` when `hostNetwork` is true" },
                { PORTS("{containerPort: 1, hostPort: 9}, {containerPort: 2, hostPort: 9}"),
                  "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//9\"" },
                { MOUNTS("{name: v, mountPath: /a}, {name: v, mountPath: /a}"),
                  "spec.containers[0].volumeMounts[1].mountPath: must be unique" },
                { MOUNTS("{name: v, mountPath: /a, mountPropagation: Both}"),
                  M ".mountPropagation: Unsupported value: \"Both\": supported values: "
                    "\"Bidirectional\", \"HostToContainer\", \"None\"" },
                { MOUNTS("{name: v, mountPath: /a, recursiveReadOnly: Enabled}"),
                  M ".recursiveReadOnly: may only be specified when readOnly is true" },
                { MOUNTS("{name: v, mountPath: /a, subPath: a, subPathExpr: b}"),
                  M ".subPathExpr: subPathExpr and subPath are mutually exclusive" },
                { MOUNTS("{name: v, mountPath: /a, subPath: ../x}"),
                  M ".subPath: must not contain '..'" },
                { "  containers: [{name: c, image: x, terminationMessagePolicy: Log}]\n",
                  "spec.containers[0].terminationMessagePolicy: Unsupported value: \"Log\": "
                  "supported "
                  "values: \"FallbackToLogsOnError\", \"File\"" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *yaml = str_format(HEAD "%s", cases[i].spec);
                KL_AUTO(value_free) Value *v = NULL;
                KL_AUTOERR err = NULL;
                Pod *pod = NULL;

                assert_int_equal(yaml_read(yaml, strlen(yaml), &v, NULL), 0);
                if (pod_decode(v, &pod, &err) == 0)
                        fail_msg("accepted: %s", cases[i].spec);
                assert_string_equal(kl_error_msg(err), cases[i].message);
        }
}

static void test_host_network_ports(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                HEAD PORTS("{containerPort: 80}, {containerPort: 81}") "  hostNetwork: true\n");

        assert_int_equal(pod->containers[0].ports[0].host_port, 80);
        assert_int_equal(pod->containers[0].ports[1].host_port, 81);
}

static void test_too_many_containers(void **state)
{
        KL_AUTOBUF yaml = BUF_INIT;
        KL_AUTO(value_free) Value *v = NULL;
        KL_AUTOERR err = NULL;
        Pod *pod = NULL;

        buf_add_str(&yaml, HEAD "  containers:\n");
        for (int i = 0; i < 2000; i++)
                buf_addf(&yaml, "  - {name: c%d, image: x}\n", i);
        assert_int_equal(yaml_read(buf_str(&yaml), yaml.len, &v, NULL), 0);
        assert_int_equal(pod_decode(v, &pod, &err), -EINVAL);
        assert_string_equal(kl_error_msg(err),
                            "spec.containers: 2000 containers, at most 256 are allowed");
}

static void test_unsupported_volume_still_decodes(void **state)
{
        KL_AUTO(pod_free) Pod *pod =
                pod_literal(HEAD C "  volumes: [{name: n, nfs: {server: s, path: /}}, "
                                   "{name: p, persistentVolumeClaim: {claimName: q}}]\n");

        assert_int_equal(pod->volumes[0].kind, VOLUME_UNSUPPORTED);
        assert_string_equal(pod->volumes[0].type, "nfs");
        assert_string_equal(pod->volumes[1].claim, "q");
}

/* A container's hash changes with its image and with nothing else. */
static void test_hash(void **state)
{
        KL_AUTO(pod_free) Pod *a = pod_literal(HEAD "  containers: [{name: c, image: 'x:1'}]\n");
        KL_AUTO(pod_free) Pod *b = pod_literal(HEAD "  containers: [{name: c, image: 'x:2'}]\n");
        KL_AUTO(pod_free) Pod *c =
                pod_literal(HEAD "  containers: [{name: c, image: 'x:1', tty: true}]\n");

        assert_string_not_equal(a->containers[0].hash, b->containers[0].hash);
        assert_string_equal(a->containers[0].hash, c->containers[0].hash);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_kinds_of_containers),
                cmocka_unit_test(test_restart_rules),
                cmocka_unit_test(test_errors),
                cmocka_unit_test(test_what_makes_no_sense),
                cmocka_unit_test(test_host_network_ports),
                cmocka_unit_test(test_too_many_containers),
                cmocka_unit_test(test_unsupported_volume_still_decodes),
                cmocka_unit_test(test_hash),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
