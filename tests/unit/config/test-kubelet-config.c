/* SPDX-License-Identifier: Apache-2.0 */

/* KubeletConfiguration: what tools write, defaults, merging, refusals, and the way back to JSON. */

#include "config/kubelet-config.h"

#include "config/kubelet-config-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define HEADER "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
#define SECOND 1000000LL

static KubeletConfig *fresh(void)
{
        KubeletConfig *config = NULL;

        assert_int_equal(kubelet_config_new(&config, NULL), 0);
        return config;
}

static void read_ok(KubeletConfig *config, const char *text)
{
        KL_AUTOERR err = NULL;

        if (kubelet_config_read(config, "x.yaml", text, strlen(text), &err) < 0)
                fail_msg("%s", kl_error_msg(err));
}

static void finish_ok(KubeletConfig *config)
{
        KL_AUTOERR err = NULL;

        if (kubelet_config_finish(config, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
}

static void read_fixture(KubeletConfig *config, const char *name)
{
        KL_AUTOFREE char *path = str_format("%s/%s", FIXTURES_DIR, name);
        KL_AUTOERR err = NULL;

        if (kubelet_config_read_file(config, path, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
}

/* The document is refused, at the latest by finish, with this message. */
static void refused(const char *body, const char *message)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();
        KL_AUTOFREE char *text = str_format("%s%s", HEADER, body);
        KL_AUTOERR err = NULL;
        int r = kubelet_config_read(config, "x.yaml", text, strlen(text), &err);

        if (r >= 0)
                r = kubelet_config_finish(config, &err);
        assert_int_equal(r, -EINVAL);
        assert_string_equal(kl_error_msg(err), message);
}

static void test_defaults(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();

        finish_ok(config);
        assert_int_equal(config->port, 10250);
        assert_int_equal(config->healthz_port, 10248);
        assert_int_equal(config->max_pods, 110);
        assert_int_equal(config->pod_pids_limit, -1);
        assert_int_equal(config->node_lease_duration_seconds, 40);
        assert_int_equal(config->node_status_update_frequency_us, 10 * SECOND);
        assert_int_equal(config->node_status_report_frequency_us, 300 * SECOND);
        assert_int_equal(config->file_check_frequency_us, 20 * SECOND);
        assert_int_equal(config->crash_loop_max_period_us, 300 * SECOND);
        assert_string_equal(config->cgroup_driver, "cgroupfs");
        assert_string_equal(config->resolv_conf, "/etc/resolv.conf");
        assert_string_equal(config->authorization_mode, "Webhook");
        assert_string_equal(config->container_log_max_size, "10Mi");
        assert_string_equal(config->enforce_node_allocatable[0], "pods");
        assert_null(config->enforce_node_allocatable[1]);
        assert_string_equal(config_pair_get(config->eviction_hard, "memory.available"), "100Mi");
        assert_string_equal(config_pair_get(config->eviction_hard, "imagefs.inodesFree"), "5%");
        assert_true(config->register_node);
        assert_true(config->serialize_image_pulls);
        assert_true(config->fail_swap_on);
        assert_false(config->fail_cgroup_v1);
        assert_false(config->anonymous_auth);
        assert_true(config->webhook_auth);
        assert_false(config->kube_api_qps_set);
        assert_null(config->warnings);
}

static void test_kubeadm(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();

        read_fixture(config, "kubeadm-config.yaml");
        finish_ok(config);
        assert_null(config->warnings);
        assert_string_equal(config->client_ca_file, "/etc/kubernetes/pki/ca.crt");
        assert_string_equal(config->cgroup_driver, "systemd");
        assert_string_equal(config->static_pod_path, "/etc/kubernetes/manifests");
        assert_string_equal(config->cluster_dns[0], "10.96.0.10");
        assert_true(config->rotate_certificates);
        /* "0s" everywhere means the defaults. */
        assert_int_equal(config->webhook_auth_cache_ttl_us, 120 * SECOND);
        assert_int_equal(config->node_status_update_frequency_us, 10 * SECOND);
        assert_int_equal(config->node_status_report_frequency_us, 300 * SECOND);
        assert_int_equal(config->sync_frequency_us, 60 * SECOND);
        assert_int_equal(config->image_maximum_gc_age_us, 0);
}

static void test_nodeadm_with_dropin(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();
        KL_AUTOERR err = NULL;

        read_fixture(config, "nodeadm-config.json");
        if (kubelet_config_read_dir(config, FIXTURES_DIR, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        finish_ok(config);
        assert_null(config->warnings);
        assert_int_equal(config->max_pods, 29);
        assert_string_equal(config->cluster_dns[0], "10.100.0.10");
        assert_null(config->cluster_dns[1]);
        /* Maps merge by key; given in part, nothing is filled in. */
        assert_string_equal(config_pair_get(config->eviction_hard, "nodefs.available"), "15%");
        assert_string_equal(config_pair_get(config->eviction_hard, "memory.available"), "100Mi");
        assert_null(config_pair_get(config->eviction_hard, "imagefs.available"));
        assert_string_equal(config_pair_get(config->kube_reserved, "memory"), "442Mi");
        assert_string_equal(
                config_pair_get(config->feature_gates, "RotateKubeletServerCertificate"), "true");
        assert_int_equal(config->shutdown_grace_period_us, 150 * SECOND);
        assert_int_equal(config->logging_verbosity, 2);
}

static void test_null_takes_back(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();

        read_ok(config, HEADER "maxPods: 5\nclusterDNS: [1.2.3.4]\nregisterNode: false\n"
                               "evictionHard: {memory.available: 1Mi, pid.available: 5%}\n"
                               "authentication: {anonymous: {enabled: true}}\n");
        read_ok(config, HEADER "maxPods: null\nclusterDNS: null\nregisterNode: null\n"
                               "evictionHard: {pid.available: null}\nauthentication: null\n");
        finish_ok(config);
        assert_int_equal(config->max_pods, 110);
        assert_null(config->cluster_dns);
        assert_true(config->register_node);
        assert_false(config->anonymous_auth);
        assert_null(config_pair_get(config->eviction_hard, "pid.available"));
        assert_string_equal(config_pair_get(config->eviction_hard, "memory.available"), "1Mi");
}

static void test_zero_of_pointers_counts(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();

        read_ok(config, HEADER "healthzPort: 0\nregistryPullQPS: 0\nresolvConf: ''\n"
                               "nodeStatusMaxImages: 0\nport: 0\noomScoreAdj: 0\n"
                               "enforceNodeAllocatable: []\n");
        finish_ok(config);
        assert_int_equal(config->healthz_port, 0);
        assert_int_equal(config->registry_pull_qps, 0);
        assert_int_equal(config->node_status_max_images, 0);
        assert_int_equal(config->oom_score_adj, 0);
        assert_string_equal(config->resolv_conf, "");
        assert_null(config->enforce_node_allocatable[0]);
        assert_int_equal(config->port, 10250);
}

static void test_dependent_defaults(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();

        read_ok(config, HEADER "nodeStatusUpdateFrequency: 4s\nmaxParallelImagePulls: 3\n"
                               "kubeAPIQPS: 7\nmergeDefaultEvictionSettings: true\n"
                               "evictionHard: {memory.available: 1Gi}\n");
        finish_ok(config);
        assert_int_equal(config->node_status_report_frequency_us, 4 * SECOND);
        assert_false(config->serialize_image_pulls);
        assert_true(config->kube_api_qps_set);
        assert_int_equal(config->kube_api_qps, 7);
        assert_string_equal(config_pair_get(config->eviction_hard, "memory.available"), "1Gi");
        assert_string_equal(config_pair_get(config->eviction_hard, "nodefs.available"), "10%");
}

static void test_unknown_fields_warn_with_path(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();

        read_ok(config, HEADER "maxPod: 3\nauthentication:\n  x509:\n    clientCA: x\n"
                               "featureGates: {NoSuchGate: true}\n");
        finish_ok(config);
        assert_int_equal(strv_len(config->warnings), 3);
        assert_string_equal(config->warnings[0], "x.yaml: unknown field 'maxPod', ignoring");
        assert_string_equal(config->warnings[1],
                            "x.yaml: unknown field 'authentication.x509.clientCA', ignoring");
        assert_string_equal(config->warnings[2], "Unknown feature gate 'NoSuchGate', ignoring");
}

static void test_refusals(void **state)
{
        refused("maxPods: abc\n", "x.yaml: maxPods: expected an integer, got \"abc\"");
        refused("port: 70000\n", "x.yaml: port: 70000 is not in 0-65535");
        refused("port: -1\n", "x.yaml: port: -1 is not in 0-65535");
        refused("syncFrequency: 5\n",
                "x.yaml: syncFrequency: expected a duration such as \"10s\", got 5");
        refused("syncFrequency: soon\n",
                "x.yaml: syncFrequency: 'soon' is no duration (such as \"10s\" or \"1m30s\")");
        refused("cgroupDriver: docker\n",
                "x.yaml: cgroupDriver: 'docker' is none of cgroupfs|systemd");
        refused("registerNode: 'yes'\n",
                "x.yaml: registerNode: expected true or false, got \"yes\"");
        refused("authentication: 3\n", "x.yaml: authentication: expected a map, got a number");
        refused("clusterDNS: [a, 3]\n", "x.yaml: clusterDNS[1]: expected a string, got 3");
        refused("clusterDNS: [example.org]\n", "clusterDNS[0]: 'example.org' is no IP address");
        refused("featureGates: {A: 3}\n", "x.yaml: featureGates.A: expected true or false, got 3");
        refused("evictionHard: {memory.free: 3Mi}\n", "evictionHard: unknown signal 'memory.free'");
        refused("evictionHard: {memory.available: much}\n",
                "evictionHard.memory.available: 'much' is neither a quantity nor a percentage");
        refused("kubeReserved: {gpu: 1}\n",
                "kubeReserved: cannot reserve 'gpu', only cpu, memory, ephemeral-storage and pid");
        refused("systemReserved: {cpu: 1x}\n", "systemReserved.cpu: '1x' is no quantity");
        refused("registerWithTaints: [{key: a, effect: Never}]\n",
                "x.yaml: registerWithTaints[0]: 'Never' is no effect (NoSchedule, PreferNoSchedule "
                "or "
                "NoExecute)");
        refused("imageGCLowThresholdPercent: 90\n",
                "imageGCLowThresholdPercent: 90 is not less than imageGCHighThresholdPercent, 85");
        refused("enforceNodeAllocatable: [pods, kube-reserved]\n",
                "enforceNodeAllocatable: 'kube-reserved' needs kubeReservedCgroup");
        refused("tlsCertFile: x\n", "tlsCertFile and tlsPrivateKeyFile go together");
        refused("address: here\n", "address: 'here' is no IP address");
}

static void test_wrong_kind(void **state)
{
        static const char *const texts[] = {
                "apiVersion: v1\nkind: Pod\n",  "- 1\n",         "",
                "kind: KubeletConfiguration\n", HEADER "a: [\n", "just text",
        };

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();
                KL_AUTOERR err = NULL;
                int r = kubelet_config_read(config, "x.yaml", texts[i], strlen(texts[i]), &err);

                assert_true(r < 0);
                assert_true(str_starts(kl_error_msg(err), "x.yaml: "));
        }
}

static void test_set_from_text(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();
        KL_AUTOERR err = NULL;

        assert_int_equal(kubelet_config_set(config, "evictionHard",
                                            "memory.available<5%,nodefs.available<1Gi", &err),
                         0);
        assert_int_equal(kubelet_config_set(config, "registerWithTaints",
                                            "a=b:NoSchedule,c:NoExecute", &err),
                         0);
        assert_int_equal(kubelet_config_set(config, "clusterDNS", "1.1.1.1,::1", &err), 0);
        assert_int_equal(kubelet_config_set(config, "maxPods", "42", &err), 0);
        finish_ok(config);
        assert_string_equal(config_pair_get(config->eviction_hard, "memory.available"), "5%");
        assert_null(config_pair_get(config->eviction_hard, "imagefs.available"));
        assert_string_equal(config->register_with_taints[0].value, "b");
        assert_string_equal(config->register_with_taints[1].key, "c");
        assert_string_equal(config->register_with_taints[1].value, "");
        assert_string_equal(config->register_with_taints[1].effect, "NoExecute");
        assert_null(config->register_with_taints[2].key);
        assert_int_equal(config->max_pods, 42);
        assert_true(kubelet_config_set(config, "registerWithTaints", "a=b", &err) < 0);
}

static void test_print(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh(), *again = fresh();
        KL_AUTO(value_free) Value *document = NULL;
        KL_AUTOBUF text = BUF_INIT;
        KL_AUTOBUF second = BUF_INIT;
        KL_AUTOERR err = NULL;

        read_fixture(config, "nodeadm-config.json");
        finish_ok(config);
        assert_int_equal(kubelet_config_print(config, &text), 0);
        if (json_parse(text.data, text.len, &document, &err) < 0)
                fail_msg("%s: %s", kl_error_msg(err), buf_str(&text));
        assert_string_equal(value_str(value_path(document, "kind")), "KubeletConfiguration");
        assert_string_equal(value_str(value_path(document, "syncFrequency")), "1m0s");
        assert_string_equal(value_str(value_path(document, "shutdownGracePeriod")), "2m30s");
        assert_string_equal(value_str(value_path(document, "imageMaximumGCAge")), "0s");
        assert_string_equal(value_str(value_path(document, "cpuCFSQuotaPeriod")), "100ms");
        assert_string_equal(value_str(value_path(document, "streamingConnectionIdleTimeout")),
                            "4h0m0s");
        assert_string_equal(value_str(value_path(document, "authentication.x509.clientCAFile")),
                            "/etc/kubernetes/pki/ca.crt");
        assert_int_equal(value_int(value_path(document, "logging.verbosity"), -1), 2);
        assert_int_equal(value_int(value_path(document, "maxPods"), -1), 17);
        assert_true(value_bool(value_path(document, "featureGates.RotateKubeletServerCertificate"),
                               false));
        assert_null(value_path(document, "staticPodURL"));
        assert_null(value_path(document, "singleProcessOOMKill"));

        read_ok(again, buf_str(&text));
        finish_ok(again);
        assert_int_equal(kubelet_config_print(again, &second), 0);
        assert_string_equal(buf_str(&second), buf_str(&text));
        assert_null(again->warnings);
}

static void test_limits(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();
        char dir[] = "/tmp/kubelite-config-XXXXXX";
        KL_AUTOBUF text = BUF_INIT;
        KL_AUTOFREE char *path = NULL;
        KL_AUTOERR err = NULL;
        KL_AUTOERR large = NULL;
        KL_AUTOERR many = NULL;

        buf_add_str(&text, HEADER "clusterDNS:\n");
        for (int i = 0; i <= KUBELET_CONFIG_LIST_MAX; i++)
                buf_add_str(&text, "- 10.0.0.1\n");
        assert_int_equal(kubelet_config_read(config, "x", text.data, text.len, &err), -EINVAL);
        assert_string_equal(kl_error_msg(err),
                            "x: clusterDNS: 1025 elements, at most 1024 are allowed");

        assert_non_null(mkdtemp(dir));
        path = str_format("%s/large", dir);
        while (text.len <= KUBELET_CONFIG_SIZE_MAX)
                buf_add_str(&text, "# a comment\n");
        assert_int_equal(file_replace(path, text.data, text.len, 0600, false), 0);
        assert_int_equal(kubelet_config_read_file(config, path, &large), -EFBIG);
        for (int i = 0; i <= KUBELET_CONFIG_DROPINS_MAX; i++) {
                KL_AUTOFREE char *name = str_format("%s/%d.conf", dir, i);

                assert_int_equal(file_replace(name, HEADER, strlen(HEADER), 0600, false), 0);
        }
        assert_int_equal(kubelet_config_read_dir(config, dir, &many), -E2BIG);
        tree_remove(dir);
}

static void test_missing_file(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = fresh();
        KL_AUTOERR err = NULL;

        assert_int_equal(kubelet_config_read_file(config, "/nonexistent/x", &err), -ENOENT);
        assert_non_null(strstr(kl_error_msg(err), "'/nonexistent/x'"));
}

static void test_settings_for_pods_security(void **state)
{
        static const struct {
                const char *text, *message;
        } bad[] = {
                { "allowedUnsafeSysctls: [kernel.msg*, kernel.core_pattern]",
                  "allowedUnsafeSysctls[1]: 'kernel.core_pattern' is not known to be namespaced" },
                { "allowedUnsafeSysctls: ['net.*.x']",
                  "allowedUnsafeSysctls[0]: 'net.*.x' is no name of a sysctl" },
                { "userNamespaces: {idsPerPod: 65537}",
                  "userNamespaces.idsPerPod: 65537 is not a multiple of 65536" },
        };

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                KL_AUTO(kubelet_config_free) KubeletConfig *config = NULL;
                KL_AUTOFREE char *text = str_format("apiVersion: kubelet.config.k8s.io/v1beta1\n"
                                                    "kind: KubeletConfiguration\n%s\n",
                                                    bad[i].text);
                KL_AUTOERR err = NULL;

                assert_int_equal(kubelet_config_new(&config, NULL), 0);
                assert_int_equal(kubelet_config_read(config, "f", text, strlen(text), NULL), 0);
                assert_int_equal(kubelet_config_finish(config, &err), -EINVAL);
                assert_non_null(strstr(kl_error_msg(err), bad[i].message));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_settings_for_pods_security),
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_kubeadm),
                cmocka_unit_test(test_nodeadm_with_dropin),
                cmocka_unit_test(test_null_takes_back),
                cmocka_unit_test(test_zero_of_pointers_counts),
                cmocka_unit_test(test_dependent_defaults),
                cmocka_unit_test(test_unknown_fields_warn_with_path),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_wrong_kind),
                cmocka_unit_test(test_set_from_text),
                cmocka_unit_test(test_print),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_missing_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
