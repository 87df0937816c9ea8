/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NET_SERVER_TLS_H
#define KUBELITE_NET_SERVER_TLS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* TLS, server side: settings, the clients' certificates, and a serving certificate of our own. */

#define CLIENT_NAME_MAX 1024  /* bytes of a common name or organization */
#define CLIENT_GROUPS_MAX 256 /* organizations of one certificate */

typedef struct ServerTls {
        const char *cert_pem, *key_pem; /* the chain, leaf first */
        const char *min_version;        /* "VersionTLS12" (default), "VersionTLS13" */
        char *const *cipher_suites;     /* Go's names; NULL or empty: our defaults */
        bool ask_client_cert;
} ServerTls;

/* Whether the settings can be used at all; NULL-safe for absent certificates. */
int server_tls_check(const ServerTls *tls, KlError **err);

/* Seconds since 1970 when the first certificate in a PEM text ends; 0 if there is none. */
int64_t pem_certificate_end(const char *pem);

/* --- who the client is --- */

/* Certificates as a client sent them; not verified. */
typedef struct ClientChain ClientChain;

typedef struct ClientIdentity {
        char *name;    /* common name */
        char **groups; /* organizations; never NULL */
        int64_t end;   /* when the verdict expires at the latest, seconds since 1970 */
} ClientIdentity;

void client_identity_deinit(ClientIdentity *identity);

/* The authorities that client certificates must come from. */
typedef struct ClientCas ClientCas;

int client_cas_new(const char *pem, ClientCas **ret, KlError **err);
ClientCas *client_cas_free(ClientCas *cas);
KL_DEFINE_CLEANUP(ClientCas *, client_cas_free);

/* Judged now: signatures, dates, use for client authentication. -EACCES and why; -EINVAL for a
 * certificate without a common name. */
int client_cas_verify(const ClientCas *cas, const ClientChain *chain, ClientIdentity *ret,
                      KlError **err);

/* SHA-256 as 64 hex and a NUL: keys of caches that must not hold secrets. */
#define SECRET_DIGEST_SIZE 65
int secret_digest(const void *data, size_t len, char ret[static SECRET_DIGEST_SIZE]);

/* --- self-signed --- */

/* A P-256 key and a certificate for host name and addresses (NULL-terminated), good for a year, the
 * certificate followed by the authority that signed it. To be freed. */
int self_signed_certificate(const char *host, char *const *addresses, char **ret_cert_pem,
                            char **ret_key_pem, KlError **err);

#endif
