/* SPDX-License-Identifier: Apache-2.0 */

/* The command line, and that every row of its table leads somewhere. */

#include "config/flags.h"

#include "config/flags-internal.h"
#include "config/kubelet-config-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define ARGS(...) ((char *[]){ (char *)"kubelite", __VA_ARGS__, NULL })

static int parse(char *const *argv, Flags **ret, KlError **err)
{
        return flags_parse((int)strv_len(argv), argv, ret, err);
}

static Flags *parse_ok(char *const *argv)
{
        KL_AUTOERR err = NULL;
        Flags *flags = NULL;

        if (parse(argv, &flags, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        return flags;
}

static void refused(char *const *argv, const char *message)
{
        KL_AUTO(flags_free) Flags *flags = NULL;
        KL_AUTOERR err = NULL;

        assert_int_equal(parse(argv, &flags, &err), -EINVAL);
        assert_string_equal(kl_error_msg(err), message);
}

static void test_table_is_complete(void **state)
{
        for (size_t i = 0; i < flag_specs_len; i++) {
                const FlagSpec *spec = &flag_specs[i];

                for (size_t k = 0; k < i; k++)
                        assert_string_not_equal(spec->name, flag_specs[k].name);
                if (spec->kind == FLAG_CONFIG && config_field_find(spec->path) < 0)
                        fail_msg("--%s sets '%s', which is no field", spec->name, spec->path);
                if (spec->fallback)
                        assert_int_equal(spec->kind, FLAG_STR);
                if (spec->kind != FLAG_UNUSED && spec->kind != FLAG_UNUSED_BOOL)
                        assert_non_null(spec->help);
        }
}

static void test_every_unused_flag_is_accepted(void **state)
{
        for (size_t i = 0; i < flag_specs_len; i++) {
                KL_AUTOFREE char *arg = str_format("--%s", flag_specs[i].name);
                KL_AUTO(flags_free) Flags *flags = NULL;

                if (flag_specs[i].kind == FLAG_UNUSED)
                        flags = parse_ok(ARGS(arg, (char *)"something"));
                else if (flag_specs[i].kind == FLAG_UNUSED_BOOL)
                        flags = parse_ok(ARGS(arg));
                else
                        continue;
                assert_int_equal(strv_len(flags->warnings), 1);
                assert_non_null(strstr(flags->warnings[0], arg));
        }
}

static void test_config_fields_are_complete(void **state)
{
        for (size_t i = 0; i < config_fields_len; i++)
                for (size_t k = 0; k < i; k++)
                        assert_string_not_equal(config_fields[i].path, config_fields[k].path);
}

static void test_forms(void **state)
{
        KL_AUTO(flags_free) Flags *flags =
                parse_ok(ARGS((char *)"--root-dir=/r", (char *)"--state_dir", (char *)"/s",
                              (char *)"--cni-bin-dir=/a,/b", (char *)"--cni-bin-dir", (char *)"/c",
                              (char *)"--exit-on-lock-contention", (char *)"-v=3",
                              (char *)"--config-dir=", (char *)"--node-ip=10.9.9.9",
                              (char *)"--node-ip=10.0.0.1,fd00::1",
                              (char *)"--node-labels=a=b,node.kubernetes.io/x=y"));

        assert_string_equal(flags->root_dir, "/r");
        assert_string_equal(flags->state_dir, "/s");
        assert_int_equal(strv_len(flags->cni_bin_dirs), 3);
        assert_string_equal(flags->cni_bin_dirs[2], "/c");
        assert_true(flags->exit_on_lock_contention);
        assert_string_equal(flags->overrides[0].value, "3");
        assert_string_equal(flags->node_ips[1], "fd00::1");
        assert_string_equal(config_pair_get(flags->node_labels, "node.kubernetes.io/x"), "y");
        assert_string_equal(flags->image_dir, "/var/lib/kubelite/images");
        assert_null(flags->kubeconfig);
        assert_null(flags->config_dir);
}

static void test_refusals(void **state)
{
        refused(ARGS((char *)"--kubconfig=x"),
                "unknown flag --kubconfig, did you mean --kubeconfig?");
        refused(ARGS((char *)"--max-podz", (char *)"3"),
                "unknown flag --max-podz, did you mean --max-pods?");
        refused(ARGS((char *)"--qqqqqqqqqqqq"), "unknown flag --qqqqqqqqqqqq (see --help)");
        refused(ARGS((char *)"--config"), "flag --config needs a value");
        refused(ARGS((char *)"something"), "'something' is no flag (see --help)");
        refused(ARGS((char *)"--exit-on-lock-contention=maybe"),
                "flag --exit-on-lock-contention: 'maybe' is neither true nor false");
        refused(ARGS((char *)"--node-ip=here"), "flag --node-ip: 'here' is no IP address");
        refused(ARGS((char *)"--node-ip=10.0.0.1,10.0.0.2"),
                "flag --node-ip: one address, or one of each family");
        refused(ARGS((char *)"--node-labels=a"), "flag --node-labels: 'a' is not key=value");
        refused(ARGS((char *)"--node-labels=-a=b"), "flag --node-labels: '-a' is no label key");
        refused(ARGS((char *)"--node-labels=a=b c"), "flag --node-labels: 'b c' is no label value");
        refused(ARGS((char *)"--cloud-provider=aws"),
                "flag --cloud-provider: 'aws' is neither empty nor external");
}

static void test_restricted_labels(void **state)
{
        static const struct {
                const char *arg;
                bool ok;
        } cases[] = {
                { "--node-labels=node-role.kubernetes.io/worker=", false },
                { "--node-labels=x.k8s.io/y=z", false },
                { "--node-labels=node.kubernetes.io/x=z", true },
                { "--node-labels=a.node.kubernetes.io/x=z", true },
                { "--node-labels=topology.kubernetes.io/zone=z", true },
                { "--node-labels=example.org/x=", true },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTO(flags_free) Flags *flags = NULL;
                KL_AUTOFREE char *arg = strdup(cases[i].arg);
                int r = parse(ARGS(arg), &flags, NULL);

                assert_int_equal(r, cases[i].ok ? 0 : -EINVAL);
        }
}

static void test_kubeadm_flags(void **state)
{
        KL_AUTO(flags_free) Flags *flags = parse_ok(ARGS(
                (char *)"--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
                (char *)"--kubeconfig=/etc/kubernetes/kubelet.conf",
                (char *)"--config=/var/lib/kubelet/config.yaml",
                (char *)"--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
                (char *)"--pod-infra-container-image=registry.k8s.io/pause:3.10",
                (char *)"--register-with-taints=node-role.kubernetes.io/control-plane:NoSchedule"));

        assert_int_equal(strv_len(flags->warnings), 1);
        assert_string_equal(flags->warnings[0], "Nothing here needs --container-runtime-endpoint, "
                                                "--pod-infra-container-image, ignoring");
}

static void test_flags_override_files(void **state)
{
        char path[] = "/tmp/kubelite-flags-XXXXXX";
        int fd = mkstemp(path);
        static const char text[] = "apiVersion: kubelet.config.k8s.io/v1beta1\n"
                                   "kind: KubeletConfiguration\nmaxPods: 5\nport: 1234\n";
        KL_AUTOFREE char *config_arg = str_format("--config=%s", path);
        KL_AUTO(kubelet_config_free) KubeletConfig *config = NULL;
        KL_AUTO(flags_free) Flags *flags = NULL, *bad = NULL;
        KL_AUTOERR err = NULL;
        int r;

        assert_true(fd >= 0);
        assert_int_equal(fd_write_all(fd, text, sizeof(text) - 1), 0);
        close(fd);
        flags = parse_ok(ARGS(config_arg, (char *)"--max-pods=7", (char *)"--register-node=false",
                              (char *)"--provider-id=x://y"));
        r = daemon_config_load(flags, &config, &err);
        if (r < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_int_equal(config->max_pods, 7);
        assert_int_equal(config->port, 1234);
        assert_false(config->register_node);
        assert_string_equal(config->provider_id, "x://y");

        bad = parse_ok(ARGS((char *)"--max-pods=many"));
        config = kubelet_config_free(config);
        assert_int_equal(daemon_config_load(bad, &config, &err), -EINVAL);
        assert_string_equal(kl_error_msg(err), "flag --max-pods: 'many' is no integer");
        unlink(path);
}

static void test_version(void **state)
{
        char path[] = "/tmp/kubelite-version-XXXXXX";
        int fd = mkstemp(path);
        char version[KUBERNETES_VERSION_SIZE];

        kubernetes_version("/nonexistent/version", version);
        assert_string_equal(version, "v1.36.0");
        assert_int_equal(fd_write_all(fd, "1.34.2\n", 7), 0);
        kubernetes_version(path, version);
        assert_string_equal(version, "v1.34.2");
        close(fd);
        unlink(path);
}

static void test_node_name(void **state)
{
        KL_AUTO(flags_free) Flags *flags =
                parse_ok(ARGS((char *)"--hostname-override=Node-A.Example"));
        KL_AUTO(flags_free) Flags *wrong = parse_ok(ARGS((char *)"--hostname-override=a_b"));
        KL_AUTO(flags_free) Flags *machine = parse_ok(ARGS((char *)"--v=1"));
        KL_AUTOFREE char *name = NULL;
        KL_AUTOFREE char *other = NULL;

        assert_int_equal(flags_node_name(flags, &name, NULL), 0);
        assert_string_equal(name, "node-a.example");
        assert_int_equal(flags_node_name(wrong, &other, NULL), -EINVAL);
        assert_int_equal(flags_node_name(machine, &other, NULL), 0);
}

static void test_help_names_every_flag(void **state)
{
        KL_AUTOFREE char *text = NULL;
        size_t len = 0;
        FILE *f = open_memstream(&text, &len);

        flags_print_help(f);
        fclose(f);
        for (size_t i = 0; i < flag_specs_len; i++) {
                KL_AUTOFREE char *name = str_format("  --%s", flag_specs[i].name);

                assert_non_null(strstr(text, name));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table_is_complete),
                cmocka_unit_test(test_every_unused_flag_is_accepted),
                cmocka_unit_test(test_config_fields_are_complete),
                cmocka_unit_test(test_forms),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_restricted_labels),
                cmocka_unit_test(test_kubeadm_flags),
                cmocka_unit_test(test_flags_override_files),
                cmocka_unit_test(test_version),
                cmocka_unit_test(test_node_name),
                cmocka_unit_test(test_help_names_every_flag),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
