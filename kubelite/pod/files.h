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
        bool no_resolver;           /* resolvConf: "": pods that use the node's have none */
} DnsSettings;

/* resolv.conf(5) limits that glibc and upstream's validation share. */
#define DNS_NAMESERVERS_MAX 3
#define DNS_SEARCHES_MAX 32
#define DNS_SEARCH_CHARS_MAX 2048

/* What upstream tells in events. */
typedef struct DnsNotes {
        char *searches, *nameservers; /* the line as it is, where limits made it shorter */
        bool missing_cluster_dns;     /* asked for, and the node's was taken instead */
} DnsNotes;

void dns_notes_deinit(DnsNotes *notes);

void files_resolv_conf(const Pod *pod, const DnsSettings *dns, DnsNotes *ret_notes, Buf *to);

/* For pods with a network of their own; with the host's network: the host's file and the aliases.
 */
void files_hosts(const Pod *pod, const char *hostname, const char *domain, char *const *pod_ips,
                 const char *host_hosts, Buf *to);

/*
 * What gethostname(2) says in the pod: hostnameOverride, which has no domain, spec.hostname or the
 * pod's name, cut to 63 and free of trailing
 * '-' and '.'; the full name with setHostnameAsFQDN. ret_domain: "sub.ns.svc.cluster.local" or "".
 * -ENAMETOOLONG for an FQDN above 64. Both to be freed.
 */
int files_hostname(const Pod *pod, const char *cluster_domain, char **ret_hostname,
                   char **ret_domain, KlError **err);

#endif
