/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_FILES_H
#define KUBELITE_POD_FILES_H

#include "api/pod.h"
#include "base/buf.h"

/*
 * The files that a node puts into containers beside volumes: resolv.conf, hosts, hostname. All
 * pure: text from facts.
 */

typedef struct DnsSettings {
        char *const *cluster_dns;   /* addresses, may be NULL */
        const char *cluster_domain; /* "cluster.local", or "" */
        const char *host_resolv;    /* content of the node's resolv.conf */
} DnsSettings;

/* resolv.conf(5) limits that glibc and upstream's validation share. */
#define DNS_NAMESERVERS_MAX 3
#define DNS_SEARCHES_MAX 32
#define DNS_SEARCH_CHARS_MAX 2048

/* ret_cut: something was left out because of the limits (upstream's DNSConfigForming event). */
void files_resolv_conf(const Pod *pod, const DnsSettings *dns, bool *ret_cut, Buf *to);

/* For pods with a network of their own; with the host's network: the host's file and the aliases.
 */
void files_hosts(const Pod *pod, const char *hostname, const char *domain, char *const *pod_ips,
                 const char *host_hosts, Buf *to);

/*
 * What gethostname(2) says in the pod: spec.hostname or the pod's name, cut to 63 and free of
 * trailing
 * '-' and '.'; the full name with setHostnameAsFQDN. ret_domain: "sub.ns.svc.cluster.local" or "".
 * -ENAMETOOLONG for an FQDN above 64. Both to be freed.
 */
int files_hostname(const Pod *pod, const char *cluster_domain, char **ret_hostname,
                   char **ret_domain, KlError **err);

#endif
