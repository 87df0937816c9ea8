/* SPDX-License-Identifier: Apache-2.0 */

/* Kubeconfigs as kubeadm, users and tests write them, and what is refused. */

#include "config/kubeconfig.h"

#include "base/file.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define HEAD                                                                                       \
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"                                       \
        "contexts: [{name: other, context: {}}, {name: c, context: {cluster: k, user: u}}]\n"
#define CLUSTER "clusters: [{name: k, cluster: {server: 'https://h:6443/'}}]\n"

static Kubeconfig *read_ok(const char *text)
{
        KL_AUTOERR err = NULL;
        Kubeconfig *config = NULL;

        if (kubeconfig_read("k.conf", "/etc/dir", text, strlen(text), &config, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        return config;
}

static void refused(const char *text, int code, const char *message)
{
        KL_AUTO(kubeconfig_free) Kubeconfig *config = NULL;
        KL_AUTOERR err = NULL;

        assert_int_equal(kubeconfig_read("k.conf", "/etc/dir", text, strlen(text), &config, &err),
                         code);
        assert_string_equal(kl_error_msg(err), message);
}

static void test_kubeadm(void **state)
{
        KL_AUTO(kubeconfig_free) Kubeconfig *config = read_ok(
                "apiVersion: v1\nclusters:\n- cluster:\n"
                "    certificate-authority-data: LS0tLS1CRUdJTgo=\n"
                "    server: https://192.168.0.1:6443\n  name: default-cluster\n"
                "contexts:\n- context:\n    cluster: default-cluster\n    namespace: default\n"
                "    user: default-auth\n  name: default-context\n"
                "current-context: default-context\nkind: Config\npreferences: {}\nusers:\n"
                "- name: default-auth\n  user:\n"
                "    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem\n"
                "    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem\n");

        assert_string_equal(config->server, "https://192.168.0.1:6443");
        assert_string_equal(config->ca_pem, "-----BEGIN\n");
        assert_string_equal(config->cert_file, "/var/lib/kubelet/pki/kubelet-client-current.pem");
        assert_string_equal(config->key_file, config->cert_file);
        assert_null(config->token);
        assert_false(config->insecure_skip_verify);
}

static void test_inline_wins_and_paths_are_relative(void **state)
{
        KL_AUTO(kubeconfig_free) Kubeconfig *config = read_ok(
                HEAD "clusters: [{name: k, cluster: {server: 'https://h:6443/', "
                     "tls-server-name: n, proxy-url: 'http://p:1', insecure-skip-tls-verify: true, "
                     "certificate-authority: /nonexistent, certificate-authority-data: YQ==}}]\n"
                     "users: [{name: u, user: {client-certificate: a.crt, "
                     "client-certificate-data: Yg==, client-key: ../k.key, tokenFile: t}}]\n");

        assert_string_equal(config->server, "https://h:6443");
        assert_string_equal(config->tls_server_name, "n");
        assert_string_equal(config->proxy_url, "http://p:1");
        assert_true(config->insecure_skip_verify);
        assert_string_equal(config->ca_pem, "a");
        assert_string_equal(config->cert_pem, "b");
        assert_null(config->cert_file);
        assert_string_equal(config->key_file, "/etc/dir/../k.key");
        assert_string_equal(config->token_file, "/etc/dir/t");
}

static void test_ca_file_is_read(void **state)
{
        char dir[] = "/tmp/kubelite-kubeconfig-XXXXXX";
        KL_AUTOFREE char *ca = NULL, *path = NULL;
        KL_AUTO(kubeconfig_free) Kubeconfig *config = NULL;
        KL_AUTOERR err = NULL;
        static const char text[] = HEAD "clusters: [{name: k, cluster: {server: 'https://h', "
                                        "certificate-authority: ca.crt}}]\n"
                                        "users: [{name: u, user: {token: abc}}]\n";

        assert_non_null(mkdtemp(dir));
        ca = str_format("%s/ca.crt", dir);
        path = str_format("%s/kubeconfig", dir);
        assert_int_equal(file_replace(ca, "PEM", 3, 0600, false), 0);
        assert_int_equal(file_replace(path, text, sizeof(text) - 1, 0600, false), 0);
        if (kubeconfig_read_file(path, &config, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_string_equal(config->ca_pem, "PEM");
        assert_string_equal(config->token, "abc");
        config = kubeconfig_free(config);
        unlink(ca);
        assert_int_equal(kubeconfig_read_file(path, &config, &err), -ENOENT);
        assert_non_null(strstr(kl_error_msg(err), ca));
        tree_remove(dir);
}

static void test_size_limit(void **state)
{
        char path[] = "/tmp/kubelite-kubeconfig-XXXXXX";
        int fd = mkstemp(path);
        KL_AUTO(kubeconfig_free) Kubeconfig *config = NULL;

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t)KUBECONFIG_SIZE_MAX + 1), 0);
        close(fd);
        assert_int_equal(kubeconfig_read_file(path, &config, NULL), -EFBIG);
        unlink(path);
}

static void test_refusals(void **state)
{
        refused("kind: Pod\n", -EINVAL, "k.conf: this is no kubeconfig (kind: Config)");
        refused("kind: Config\n", -EINVAL, "k.conf: current-context is not set");
        refused("kind: Config\ncurrent-context: x\n", -EINVAL,
                "k.conf: contexts: none is named 'x'");
        refused(HEAD, -EINVAL, "k.conf: clusters: none is named 'k'");
        refused(HEAD CLUSTER, -EINVAL, "k.conf: users: none is named 'u'");
        refused(HEAD "clusters: [{name: k, cluster: {}}]\n", -EINVAL,
                "k.conf: clusters[0].cluster: has no server");
        refused(HEAD "clusters: [{name: k, cluster: {server: h}}]\n", -EINVAL,
                "k.conf: clusters[0].cluster: server 'h' is no https URL");
        refused(HEAD CLUSTER "users: [{name: u, user: {client-certificate: x}}]\n", -EINVAL,
                "k.conf: users[0].user: client certificate and client key go together");
        refused(HEAD CLUSTER "users: [{name: u, user: {client-key-data: '%%'}}]\n", -EINVAL,
                "k.conf: users[0].user.client-key-data: this is no base64 of a text");
        refused(HEAD CLUSTER "users: [{name: u, user: {exec: {command: aws}}}]\n", -ENOTSUP,
                "k.conf: users[0].user.exec: credentials from a program (exec) are not supported "
                "yet; use a client certificate, a token or a token file");
        refused(HEAD CLUSTER "users: [{name: u, user: {username: a, password: b}}]\n", -ENOTSUP,
                "k.conf: users[0].user.username: user name and password are not supported; use a "
                "client certificate, a token or a token file");
        refused(HEAD CLUSTER "users: [{name: u, user: {token: 3}}]\n", -EINVAL,
                "k.conf: users[0].user.token: expected a string, got a number");
}

static void test_base64(void **state)
{
        static const struct {
                const char *in, *out;
        } cases[] = {
                { "YQ==", "a" },    { "YWI=", "ab" }, { "YWJj", "abc" },
                { "YW Jj", "abc" }, { "YQ", "a" },    { "Y", NULL },
                { "YQ=a", NULL },   { "AA==", NULL }, { "Y===", NULL },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *text =
                        str_format(HEAD CLUSTER "users: [{name: u, user: {client-key: k, "
                                                "client-certificate-data: '%s'}}]\n",
                                   cases[i].in);
                KL_AUTO(kubeconfig_free) Kubeconfig *config = NULL;
                int r = kubeconfig_read("x", "/", text, strlen(text), &config, NULL);

                assert_int_equal(r, cases[i].out ? 0 : -EINVAL);
                if (cases[i].out)
                        assert_string_equal(config->cert_pem, cases[i].out);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kubeadm),
                cmocka_unit_test(test_inline_wins_and_paths_are_relative),
                cmocka_unit_test(test_ca_file_is_read),
                cmocka_unit_test(test_size_limit),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_base64),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
