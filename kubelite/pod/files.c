/* SPDX-License-Identifier: Apache-2.0 */

/* resolv.conf, hosts and host names, as upstream's pkg/kubelet/network/dns and kubelet_pods.go. */

#include "pod/files.h"

#include "base/str.h"

#define HOSTNAME_MAX 63
#define FQDN_MAX 64

typedef struct Resolv {
        char **nameservers, **searches, **options;
} Resolv;

static void resolv_deinit(Resolv *r)
{
        strv_free(r->nameservers);
        strv_free(r->searches);
        strv_free(r->options);
}

static void add_unique(char ***list, const char *text)
{
        if (*text && !strv_contains(*list, text))
                strv_add(list, text);
}

/* One line of the host's file. A later search line replaces an earlier one. */
static void resolv_parse_line(Resolv *r, char *line)
{
        char *save = NULL, *word = strtok_r(line, " \t", &save), *rest;

        if (!word || *word == '#' || *word == ';')
                return;
        if (str_eq(word, "nameserver")) {
                rest = strtok_r(NULL, " \t", &save);
                if (rest)
                        add_unique(&r->nameservers, rest);
                return;
        }
        if (str_eq(word, "search"))
                r->searches = strv_free(r->searches);
        else if (!str_eq(word, "options"))
                return;
        while ((rest = strtok_r(NULL, " \t", &save)))
                add_unique(str_eq(word, "search") ? &r->searches : &r->options, rest);
}

static void resolv_parse(Resolv *r, const char *text)
{
        KL_AUTOFREE char *copy = strdup(text ? text : "");
        char *save = NULL;

        for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; line;
             line = strtok_r(NULL, "\n", &save))
                resolv_parse_line(r, line);
}

static void resolv_cluster(Resolv *r, const Pod *pod, const DnsSettings *dns)
{
        KL_AUTOSTRV host_searches = r->searches;

        r->nameservers = strv_free(r->nameservers);
        r->searches = NULL;
        r->options = strv_free(r->options);
        for (char *const *ip = dns->cluster_dns; ip && *ip; ip++)
                add_unique(&r->nameservers, *ip);
        if (!str_empty(dns->cluster_domain)) {
                strv_addf(&r->searches, "%s.svc.%s", pod->namespace, dns->cluster_domain);
                strv_addf(&r->searches, "svc.%s", dns->cluster_domain);
                strv_add(&r->searches, dns->cluster_domain);
        }
        for (char **s = host_searches; s && *s; s++)
                add_unique(&r->searches, *s);
        strv_add(&r->options, "ndots:5");
}

/* An option of dnsConfig replaces one of the same name ("ndots" against "ndots:5"). */
static void resolv_set_option(Resolv *r, const KeyValue *option)
{
        size_t n = strlen(option->key);

        for (char **o = r->options; o && *o; o++) {
                if (strncmp(*o, option->key, n) != 0 || ((*o)[n] != ':' && (*o)[n] != '\0'))
                        continue;
                free(*o);
                *o = option->value ? str_format("%s:%s", option->key, option->value)
                                   : strdup(option->key);
                return;
        }
        if (option->value)
                strv_addf(&r->options, "%s:%s", option->key, option->value);
        else
                strv_add(&r->options, option->key);
}

static void resolv_config(Resolv *r, const Pod *pod)
{
        for (char **ip = pod->dns_nameservers; ip && *ip; ip++)
                add_unique(&r->nameservers, *ip);
        for (char **s = pod->dns_searches; s && *s; s++)
                add_unique(&r->searches, *s);
        for (size_t i = 0; i < pod->dns_options.n; i++)
                resolv_set_option(r, &pod->dns_options.items[i]);
}

void dns_notes_deinit(DnsNotes *notes)
{
        free(notes->searches);
        free(notes->nameservers);
        *notes = (DnsNotes){ 0 };
}

/* glibc 2.28 ends programs over longer ones. */
#define SEARCH_DOMAIN_MAX 253

/* As many words as the limits allow; joined by blanks. True if that is not all of them. */
static bool join_words(char *const *words, size_t max, size_t max_chars, size_t max_word, Buf *to)
{
        bool cut = false;

        for (size_t n = 0; words && *words; words++) {
                size_t len = strlen(*words);

                if (len > max_word) {
                        cut = true;
                        continue;
                }
                if (n >= max || to->len + len + (n > 0) > max_chars)
                        return true;
                buf_addf(to, "%s%s", n++ ? " " : "", *words);
        }
        return cut;
}

static void resolv_write(const Resolv *r, DnsNotes *notes, Buf *to)
{
        KL_AUTOBUF searches = BUF_INIT;
        KL_AUTOBUF servers = BUF_INIT;
        KL_AUTOBUF options = BUF_INIT;

        if (join_words(r->searches, DNS_SEARCHES_MAX, DNS_SEARCH_CHARS_MAX, SEARCH_DOMAIN_MAX,
                       &searches))
                notes->searches = strdup(buf_str(&searches));
        if (join_words(r->nameservers, DNS_NAMESERVERS_MAX, SIZE_MAX, SIZE_MAX, &servers))
                notes->nameservers = strdup(buf_str(&servers));
        join_words(r->options, SIZE_MAX, SIZE_MAX, SIZE_MAX, &options);
        if (searches.len)
                buf_addf(to, "search %s\n", buf_str(&searches));
        for (size_t i = 0; r->nameservers && r->nameservers[i] && i < DNS_NAMESERVERS_MAX; i++)
                buf_addf(to, "nameserver %s\n", r->nameservers[i]);
        if (options.len)
                buf_addf(to, "options %s\n", buf_str(&options));
}

void files_resolv_conf(const Pod *pod, const DnsSettings *dns, DnsNotes *ret_notes, Buf *to)
{
        __attribute__((cleanup(resolv_deinit))) Resolv r = { 0 };
        bool cluster = str_eq(pod->dns_policy, "ClusterFirstWithHostNet") ||
                       (str_eq(pod->dns_policy, "ClusterFirst") && !pod->host_network);
        bool has_dns = dns->cluster_dns && dns->cluster_dns[0];

        *ret_notes = (DnsNotes){ .missing_cluster_dns = cluster && !has_dns };
        if (!str_eq(pod->dns_policy, "None"))
                resolv_parse(&r, dns->host_resolv);
        if (cluster && has_dns) {
                resolv_cluster(&r, pod, dns);
        } else if (dns->no_resolver && !str_eq(pod->dns_policy, "None")) {
                /* Without servers a resolver asks the local one. */
                add_unique(&r.nameservers, "127.0.0.1");
                add_unique(&r.searches, ".");
        }
        resolv_config(&r, pod);
        resolv_write(&r, ret_notes, to);
}

static void add_aliases(const Pod *pod, Buf *to)
{
        if (!pod->n_host_aliases)
                return;
        buf_add_str(to, "\n# Entries added by HostAliases.\n");
        for (size_t i = 0; i < pod->n_host_aliases; i++) {
                buf_addf(to, "%s", pod->host_aliases[i].ip);
                for (char **h = pod->host_aliases[i].hostnames; h && *h; h++)
                        buf_addf(to, "\t%s", *h);
                buf_add_char(to, '\n');
        }
}

void files_hosts(const Pod *pod, const char *hostname, const char *domain, char *const *pod_ips,
                 const char *host_hosts, Buf *to)
{
        size_t short_len = strlen(hostname);

        /* With setHostnameAsFQDN the domain is a part of the host name already. */
        if (pod->set_hostname_as_fqdn && *domain)
                short_len -= strlen(domain) + 1;
        if (pod->host_network) {
                buf_add_str(to, "# Kubernetes-managed hosts file (host network).\n");
                buf_add_str(to, host_hosts ? host_hosts : "");
                add_aliases(pod, to);
                return;
        }
        buf_add_str(to, "# Kubernetes-managed hosts file.\n"
                        "127.0.0.1\tlocalhost\n"
                        "::1\tlocalhost ip6-localhost ip6-loopback\n"
                        "fe00::0\tip6-localnet\n"
                        "fe00::0\tip6-mcastprefix\n"
                        "fe00::1\tip6-allnodes\n"
                        "fe00::2\tip6-allrouters\n");
        for (; pod_ips && *pod_ips; pod_ips++) {
                if (*domain)
                        buf_addf(to, "%s\t%.*s.%s\t%.*s\n", *pod_ips, (int)short_len, hostname,
                                 domain, (int)short_len, hostname);
                else
                        buf_addf(to, "%s\t%s\n", *pod_ips, hostname);
        }
        add_aliases(pod, to);
}

static char *hostname_cut(const char *name)
{
        size_t n = strnlen(name, HOSTNAME_MAX);

        while (n > 0 && strlen(name) > HOSTNAME_MAX && (name[n - 1] == '-' || name[n - 1] == '.'))
                n--;
        return strndup(name, n);
}

int files_hostname(const Pod *pod, const char *cluster_domain, char **ret_hostname,
                   char **ret_domain, KlError **err)
{
        const char *wanted = pod->hostname_override     ? pod->hostname_override
                             : str_empty(pod->hostname) ? pod->name
                                                        : pod->hostname;
        KL_AUTOFREE char *name = hostname_cut(wanted);
        KL_AUTOFREE char *domain = NULL;
        char *full;

        if (str_empty(pod->subdomain) || pod->hostname_override)
                domain = strdup("");
        else
                domain = str_format("%s.%s.svc.%s", pod->subdomain, pod->namespace,
                                    cluster_domain ? cluster_domain : "");
        if (!name || !domain)
                return kl_error_oom(err);
        if (pod->set_hostname_as_fqdn && *domain) {
                full = str_format("%s.%s", name, domain);
                if (!full)
                        return kl_error_oom(err);
                if (strlen(full) > FQDN_MAX) {
                        kl_error(err, -ENAMETOOLONG, "FailedCreatePodSandBox",
                                 "failed to construct FQDN from pod hostname and cluster domain, "
                                 "FQDN %s is too long (%zu characters is the max, %zu characters "
                                 "requested)",
                                 full, (size_t)FQDN_MAX, strlen(full));
                        free(full);
                        return -ENAMETOOLONG;
                }
                free(name);
                name = full;
        }
        *ret_hostname = KL_STEAL(name);
        *ret_domain = KL_STEAL(domain);
        return 0;
}
