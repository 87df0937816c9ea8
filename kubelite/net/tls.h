/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NET_TLS_H
#define KUBELITE_NET_TLS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * TLS, client side: 1.2 and later, over a non-blocking socket that the caller owns and polls.
 * Errors name what is wrong with a certificate in Go's words ("x509: certificate signed by unknown
 * authority"), since that is what people search for.
 */
typedef struct TlsContext TlsContext;
typedef struct TlsSession TlsSession;

#define TLS_PEM_MAX (1U << 20)
/* Reason of the error of a handshake with a server that speaks something else. */
#define TLS_REASON_PLAIN "NotTLS"

typedef struct TlsSpec {
        const char *ca_pem;               /* NULL: the system's authorities */
        const char *cert_pem, *key_pem;   /* client certificate (chain), or NULL */
        const char *cert_file, *key_file; /* … from files, or NULL */
        bool insecure_skip_verify;
        bool h2; /* offer h2 besides http/1.1 */
} TlsSpec;

/* Copies what it needs. Counted: connections on their way share it with whoever replaces it. */
int tls_context_new(const TlsSpec *spec, TlsContext **ret, KlError **err);
TlsContext *tls_context_ref(TlsContext *context);
TlsContext *tls_context_unref(TlsContext *context);
KL_DEFINE_CLEANUP(TlsContext *, tls_context_unref);

/* When our own certificate ends, seconds since 1970; 0 without one. */
int64_t tls_context_cert_end(const TlsContext *context);

/* name: what the peer's certificate must be for (a DNS name, also sent as SNI, or an address). */
int tls_session_new(TlsContext *context, int fd, const char *name, TlsSession **ret, KlError **err);
TlsSession *tls_session_free(TlsSession *session);
KL_DEFINE_CLEANUP(TlsSession *, tls_session_free);

/* Results of the calls below besides byte counts and negative errnos. */
enum {
        TLS_DONE = 0,
        TLS_WANT_READ = 1,
        TLS_WANT_WRITE = 2,
};

/* TLS_DONE, TLS_WANT_READ, TLS_WANT_WRITE, or an error. */
int tls_handshake(TlsSession *session, KlError **err);
/* "h2", "http/1.1", or "" where nothing was agreed. */
const char *tls_alpn(const TlsSession *session);

/* 0 with *ret_n > 0 bytes; 0 with *ret_n == 0 at the peer's end; TLS_WANT_READ, TLS_WANT_WRITE, or
 * an error. After TLS_WANT_WRITE the same bytes (and more, elsewhere too) must be offered again. */
int tls_read(TlsSession *session, void *buf, size_t size, size_t *ret_n, KlError **err);
int tls_write(TlsSession *session, const void *data, size_t len, size_t *ret_n, KlError **err);
/* Says goodbye, as far as the socket takes it. */
void tls_shutdown(TlsSession *session);

#endif
