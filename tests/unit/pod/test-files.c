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

static char *resolv(const char *spec, DnsNotes *notes)
{
        KL_AUTOFREE char *yaml = str_format(POD_HEAD "spec:\n" CONTAINERS "%s", spec);
        KL_AUTO(pod_free) Pod *pod = pod_literal(yaml);
        char *dns[] = { (char *)"10.96.0.10", NULL };
        DnsSettings settings = { .cluster_dns = dns,
                                 .cluster_domain = "cluster.local",
                                 .host_resolv = host_resolv };
        Buf text = BUF_INIT;

        files_resolv_conf(pod, &settings, notes, &text);
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
                DnsNotes notes;
                KL_AUTOFREE char *text = resolv(cases[i].spec, &notes);

                assert_string_equal(text, cases[i].expected);
                assert_null(notes.searches);
                assert_null(notes.nameservers);
                assert_false(notes.missing_cluster_dns);
        }
}

static void test_limits(void **state)
{
        __attribute__((cleanup(dns_notes_deinit))) DnsNotes notes = { 0 };
        KL_AUTOFREE char *text = resolv("  dnsPolicy: None\n  dnsConfig: {nameservers: [1.1.1.1, "
                                        "1.1.1.2, 1.1.1.3, 1.1.1.4], searches: [a.b]}\n",
                                        &notes);

        assert_string_equal(notes.nameservers, "1.1.1.1 1.1.1.2 1.1.1.3");
        assert_null(notes.searches);
        assert_null(strstr(text, "1.1.1.4"));
}

/* 32 domains, 2048 characters with the blanks, and none above 253. */
static void test_search_limits(void **state)
{
        static const struct {
                size_t n, len, kept;
        } cases[] = { { 33, 3, 32 }, { 32, 3, 32 }, { 9, 253, 8 }, { 3, 254, 0 } };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                __attribute__((cleanup(dns_notes_deinit))) DnsNotes notes = { 0 };
                KL_AUTO(pod_free) Pod *pod = pod_literal(POD_HEAD "spec:\n" CONTAINERS);
                char **searches = calloc(cases[i].n + 1, sizeof(*searches));
                Buf text = BUF_INIT;
                size_t kept = 0;

                pod->dns_policy = (char *)"None";
                pod->dns_searches = searches;
                for (size_t k = 0; k < cases[i].n; k++) {
                        searches[k] = calloc(1, cases[i].len + 1);
                        memset(searches[k], 'a', cases[i].len);
                        searches[k][0] = (char)('A' + k % 26);
                        searches[k][1] = (char)('a' + k / 26);
                }
                files_resolv_conf(pod, &(DnsSettings){ 0 }, &notes, &text);
                for (const char *p = notes.searches ? notes.searches : buf_str(&text); *p; p++)
                        kept += *p >= 'A' && *p <= 'Z';
                assert_int_equal(kept, cases[i].kept);
                assert_int_equal(notes.searches != NULL, kept != cases[i].n);
                for (size_t k = 0; k < cases[i].n; k++)
                        free(searches[k]);
                free(searches);
                buf_clear(&text);
                free(buf_steal(&text));
        }
}

static void test_no_resolver(void **state)
{
        KL_AUTO(pod_free) Pod *pod = pod_literal(POD_HEAD "spec:\n" CONTAINERS);
        KL_AUTOBUF text = BUF_INIT;
        DnsNotes notes;

        files_resolv_conf(pod, &(DnsSettings){ .no_resolver = true }, &notes, &text);
        assert_string_equal(buf_str(&text), "search .\nnameserver 127.0.0.1\n");
        assert_true(notes.missing_cluster_dns);
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

static void test_hostname_override(void **state)
{
        KL_AUTO(pod_free) Pod *pod =
                pod_literal(POD_HEAD "spec:\n" CONTAINERS "  hostname: h\n  subdomain: s\n"
                                     "  hostnameOverride: a.very.own.name\n");
        KL_AUTOFREE char *hostname = NULL;
        KL_AUTOFREE char *domain = NULL;

        assert_int_equal(files_hostname(pod, "cluster.local", &hostname, &domain, NULL), 0);
        assert_string_equal(hostname, "a.very.own.name");
        assert_string_equal(domain, "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_policies),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_search_limits),
                cmocka_unit_test(test_no_resolver),
                cmocka_unit_test(test_hostname_override),

                cmocka_unit_test(test_hosts),
                cmocka_unit_test(test_long_names),
                cmocka_unit_test(test_fqdn_too_long),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
