/* SPDX-License-Identifier: Apache-2.0 */

/* resolv.conf, hosts and host names. */

#include "../unit.h"
#include "base/str.h"
#include "pod-literal.h"
#include "pod/files.h"

#define CONTAINERS "  containers: [{name: c, image: x}]\n"

static const char host_resolv[] =
        "# c\nnameserver 9.9.9.9\nnameserver 8.8.8.8\nsearch corp.example\n"
        "options timeout:1\n";

static char *resolv(const char *spec, bool *cut)
{
        KL_AUTOFREE char *yaml = str_format(POD_HEAD "spec:\n" CONTAINERS "%s", spec);
        KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);
        char *dns[] = { (char *)"10.96.0.10", NULL };
        DnsSettings settings = { .cluster_dns = dns,
                                 .cluster_domain = "cluster.local",
                                 .host_resolv = host_resolv };
        Buf text = BUF_INIT;

        files_resolv_conf(pod, &settings, cut, &text);
        return buf_steal(&text);
}

static void test_policies(void **state)
{
        static const struct {
                const char *spec, *expected;
        } cases[] = {
                { "", "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n"
                      "nameserver 10.96.0.10\noptions ndots:5\n" },
                { "  dnsPolicy: Default\n",
                  "search corp.example\nnameserver 9.9.9.9\nnameserver 8.8.8.8\n"
                  "options timeout:1\n" },
                { "  hostNetwork: true\n",
                  "search corp.example\nnameserver 9.9.9.9\nnameserver 8.8.8.8\n"
                  "options timeout:1\n" },
                { "  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet\n",
                  "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n"
                  "nameserver 10.96.0.10\noptions ndots:5\n" },
                { "  dnsPolicy: None\n  dnsConfig: {nameservers: [1.1.1.1], searches: [a.b], "
                  "options: [{name: ndots, value: '2'}, {name: edns0}]}\n",
                  "search a.b\nnameserver 1.1.1.1\noptions ndots:2 edns0\n" },
                { "  dnsConfig: {options: [{name: ndots, value: '1'}]}\n",
                  "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n"
                  "nameserver 10.96.0.10\noptions ndots:1\n" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                bool cut;
                KL_AUTOFREE char *text = resolv(cases[i].spec, &cut);

                assert_string_equal(text, cases[i].expected);
                assert_false(cut);
        }
}

static void test_limits(void **state)
{
        bool cut;
        KL_AUTOFREE char *text = resolv("  dnsPolicy: None\n  dnsConfig: {nameservers: [1.1.1.1, "
                                        "1.1.1.2, 1.1.1.3, 1.1.1.4]}\n",
                                        &cut);

        assert_true(cut);
        assert_null(strstr(text, "1.1.1.4"));
}

static void test_hosts(void **state)
{
        KL_AUTO(pod_free) Pod *pod =
                pod_literal(POD_HEAD "spec:\n" CONTAINERS "  hostname: h\n  subdomain: s\n"
                                     "  hostAliases: [{ip: 1.2.3.4, hostnames: [foo, bar]}]\n");
        KL_AUTOFREE char *hostname = NULL;
        KL_AUTOFREE char *domain = NULL;
        KL_AUTOBUF text = BUF_INIT;
        char *ips[] = { (char *)"10.0.0.5", NULL };

        assert_int_equal(files_hostname(pod, "cluster.local", &hostname, &domain, NULL), 0);
        assert_string_equal(hostname, "h");
        assert_string_equal(domain, "s.shop.svc.cluster.local");
        files_hosts(pod, hostname, domain, ips, NULL, &text);
        assert_non_null(strstr(buf_str(&text), "10.0.0.5\th.s.shop.svc.cluster.local\th\n"));
        assert_non_null(strstr(buf_str(&text), "1.2.3.4\tfoo\tbar\n"));
}

static void test_long_names(void **state)
{
        KL_AUTO(pod_free) Pod *pod =
                pod_literal("metadata: {name: "
                            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbb}\n"
                            "spec:\n" CONTAINERS);
        KL_AUTOFREE char *hostname = NULL;
        KL_AUTOFREE char *domain = NULL;

        assert_int_equal(files_hostname(pod, "", &hostname, &domain, NULL), 0);
        assert_int_equal(strlen(hostname), 62);
}

static void test_fqdn_too_long(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(
                POD_HEAD
                "spec:\n" CONTAINERS "  setHostnameAsFQDN: true\n"
                "  subdomain: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n");
        KL_AUTOFREE char *hostname = NULL;
        KL_AUTOFREE char *domain = NULL;
        KL_AUTOERR err = NULL;

        assert_int_equal(files_hostname(pod, "cluster.local", &hostname, &domain, &err),
                         -ENAMETOOLONG);
        assert_non_null(strstr(kl_error_msg(err), "is too long (64 characters is the max"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_policies),      cmocka_unit_test(test_limits),
                cmocka_unit_test(test_hosts),         cmocka_unit_test(test_long_names),
                cmocka_unit_test(test_fqdn_too_long),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
