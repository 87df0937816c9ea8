/* SPDX-License-Identifier: Apache-2.0 */

/*
 * OpenSSL under our names. The socket is reached through a BIO of our own, so that a write to a
 * broken connection raises no SIGPIPE. Buffers are released while a session is idle
 * (SSL_MODE_RELEASE_BUFFERS), sessions are not cached, and renegotiation is refused.
 *
 * As Go does, a server's name is looked for in its subject alternative names only.
 */

#include "net/tls.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

struct TlsContext {
        unsigned int n_refs;
        SSL_CTX *ctx;
        bool verify;
        int64_t cert_end;
};

struct TlsSession {
        SSL *ssl;
        char *name;
        char *peer_names; /* of a certificate that is for somebody else */
        bool verify;
        bool finished;
        int io_error; /* errno of the socket's last failure */
};

static void bio_free_cleanup(BIO **bio)
{
        BIO_free(*bio);
}

static void x509_free_cleanup(X509 **x)
{
        X509_free(*x);
}

static void pkey_free_cleanup(EVP_PKEY **key)
{
        EVP_PKEY_free(*key);
}

/* The most telling entry of OpenSSL's queue, which is emptied. */
static const char *openssl_reason(char *buf, size_t size)
{
        unsigned long code = ERR_peek_error();
        const char *reason = ERR_reason_error_string(code);

        if (reason)
                snprintf(buf, size, "%s", reason);
        else
                snprintf(buf, size, "error %lx", code);
        ERR_clear_error();
        return buf;
}

static int tls_error(KlError **err, int code, const char *what)
{
        char reason[200];

        return kl_error(err, code, NULL, "%s: %s", what, openssl_reason(reason, sizeof(reason)));
}

/* --- the socket --- */

static int bio_write(BIO *bio, const char *data, size_t len, size_t *ret_n)
{
        TlsSession *s = BIO_get_data(bio);
        int fd;
        ssize_t n;

        BIO_get_fd(bio, &fd);
        BIO_clear_retry_flags(bio);
        n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                BIO_set_retry_write(bio);
        else if (n < 0)
                s->io_error = errno;
        *ret_n = n > 0 ? (size_t)n : 0;
        return n > 0;
}

static int bio_read(BIO *bio, char *buf, size_t size, size_t *ret_n)
{
        TlsSession *s = BIO_get_data(bio);
        int fd;
        ssize_t n;

        BIO_get_fd(bio, &fd);
        BIO_clear_retry_flags(bio);
        n = recv(fd, buf, size, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                BIO_set_retry_read(bio);
        else if (n < 0)
                s->io_error = errno;
        else if (n == 0)
                BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
        *ret_n = n > 0 ? (size_t)n : 0;
        return n > 0;
}

/* The descriptor travels as the BIO's number, by the same control codes as OpenSSL's socket BIO. */
static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
        switch (cmd) {
        case BIO_C_SET_FD:
                BIO_set_app_data(bio, (void *)(intptr_t) * (int *)ptr);
                BIO_set_init(bio, 1);
                return 1;
        case BIO_C_GET_FD:
                *(int *)ptr = (int)(intptr_t)BIO_get_app_data(bio);
                return 1;
        case BIO_CTRL_EOF:
                return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
        case BIO_CTRL_FLUSH:
        case BIO_CTRL_DUP:
                return 1;
        default:
                (void)num;
                return 0;
        }
}

/* Made once for the whole process: OpenSSL has few BIO types to give away. */
static const BIO_METHOD *bio_method(void)
{
        static BIO_METHOD *method;

        if (!method) {
                method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "kubelite");
                if (!method)
                        return NULL;
                BIO_meth_set_write_ex(method, bio_write);
                BIO_meth_set_read_ex(method, bio_read);
                BIO_meth_set_ctrl(method, bio_ctrl);
        }
        return method;
}

/* --- contexts --- */

static int load_authorities(SSL_CTX *ctx, const char *pem, KlError **err)
{
        __attribute__((cleanup(bio_free_cleanup))) BIO *bio = BIO_new_mem_buf(pem, -1);
        X509_STORE *store = SSL_CTX_get_cert_store(ctx);
        int n = 0;

        while (bio) {
                __attribute__((cleanup(x509_free_cleanup))) X509 *cert =
                        PEM_read_bio_X509(bio, NULL, NULL, NULL);

                if (!cert)
                        break;
                if (X509_STORE_add_cert(store, cert) != 1)
                        return tls_error(err, -EINVAL, "take a certificate authority");
                n++;
        }
        ERR_clear_error();
        if (n == 0)
                return kl_error(err, -EINVAL, NULL,
                                "the certificate authority data holds no PEM certificate");
        return 0;
}

/* The hashed directory is read certificate by certificate as needed; the bundle costs a megabyte.
 */
static int load_system_authorities(SSL_CTX *ctx, KlError **err)
{
        const char *dir = X509_get_default_cert_dir();
        KL_AUTODIR DIR *d = getenv("SSL_CERT_FILE") ? NULL : opendir(dir);
        struct dirent *entry;
        bool hashed = false;

        while (d && !hashed && (entry = readdir(d)))
                hashed = str_ends(entry->d_name, ".0");
        if (SSL_CTX_set_default_verify_dir(ctx) != 1 ||
            (!hashed && SSL_CTX_set_default_verify_file(ctx) != 1))
                return tls_error(err, -EINVAL, "load the system's certificate authorities");
        ERR_clear_error();
        return 0;
}

static int64_t cert_end(const X509 *cert)
{
        int days, seconds;

        if (!ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)))
                return 0;
        return time_realtime_us() / 1000000 + (int64_t)days * 86400 + seconds;
}

static int use_chain(TlsContext *context, BIO *bio, KlError **err)
{
        __attribute__((cleanup(x509_free_cleanup))) X509 *leaf =
                PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);

        if (!leaf || SSL_CTX_use_certificate(context->ctx, leaf) != 1)
                return tls_error(err, -EINVAL, "read the client certificate");
        context->cert_end = cert_end(leaf);
        for (;;) {
                X509 *next = PEM_read_bio_X509(bio, NULL, NULL, NULL);

                if (!next)
                        break;
                if (SSL_CTX_add0_chain_cert(context->ctx, next) != 1) {
                        X509_free(next);
                        return tls_error(err, -EINVAL, "read the client certificate's chain");
                }
        }
        ERR_clear_error();
        return 0;
}

static int no_passphrase(char *buf, int size, int rwflag, void *data)
{
        return -1;
}

static int use_client_cert(TlsContext *context, const char *cert_pem, const char *key_pem,
                           KlError **err)
{
        __attribute__((cleanup(bio_free_cleanup))) BIO *cert = BIO_new_mem_buf(cert_pem, -1);
        __attribute__((cleanup(bio_free_cleanup))) BIO *key = BIO_new_mem_buf(key_pem, -1);
        __attribute__((cleanup(pkey_free_cleanup))) EVP_PKEY *pkey = NULL;
        int r;

        if (!cert || !key)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = use_chain(context, cert, err);
        if (r < 0)
                return r;
        pkey = PEM_read_bio_PrivateKey(key, NULL, no_passphrase, NULL);
        if (!pkey)
                return tls_error(err, -EINVAL, "read the client certificate's key");
        if (SSL_CTX_use_PrivateKey(context->ctx, pkey) != 1)
                return tls_error(err, -EINVAL, "the key does not belong to the client certificate");
        return 0;
}

static int use_client_files(TlsContext *context, const TlsSpec *spec, KlError **err)
{
        KL_AUTOFREE char *cert = NULL;
        KL_AUTOFREE char *key = NULL;
        size_t len;
        int r;

        r = file_read(spec->cert_file, TLS_PEM_MAX, &cert, &len);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read client certificate '%s'",
                                      spec->cert_file);
        /* A rotated pair is one file with both. */
        r = file_read(spec->key_file ? spec->key_file : spec->cert_file, TLS_PEM_MAX, &key, &len);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read client key '%s'", spec->key_file);
        r = use_client_cert(context, cert, key, err);
        OPENSSL_cleanse(key, len);
        return r < 0 ? kl_error_wrap(err, r, "client certificate '%s'", spec->cert_file) : 0;
}

static int context_set_up(TlsContext *context, const TlsSpec *spec, KlError **err)
{
        static const unsigned char both[] = "\x02h2\x08http/1.1", http1[] = "\x08http/1.1";
        SSL_CTX *ctx = context->ctx;
        int r = 0;

        SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
        SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
        SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        if (spec->h2)
                r = SSL_CTX_set_alpn_protos(ctx, both, sizeof(both) - 1);
        else
                r = SSL_CTX_set_alpn_protos(ctx, http1, sizeof(http1) - 1);
        if (r != 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        SSL_CTX_set_verify(ctx, context->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
        if (context->verify)
                r = spec->ca_pem ? load_authorities(ctx, spec->ca_pem, err)
                                 : load_system_authorities(ctx, err);
        if (r == 0 && spec->cert_pem)
                r = use_client_cert(context, spec->cert_pem,
                                    spec->key_pem ? spec->key_pem : spec->cert_pem, err);
        else if (r == 0 && spec->cert_file)
                r = use_client_files(context, spec, err);
        return r;
}

int tls_context_new(const TlsSpec *spec, TlsContext **ret, KlError **err)
{
        KL_AUTO(tls_context_unref) TlsContext *context = calloc(1, sizeof(*context));
        int r;

        if (!context)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        context->n_refs = 1;
        context->verify = !spec->insecure_skip_verify;
        context->ctx = SSL_CTX_new(TLS_client_method());
        if (!context->ctx)
                return tls_error(err, -ENOMEM, "start TLS");
        r = context_set_up(context, spec, err);
        if (r < 0)
                return r;
        *ret = KL_STEAL(context);
        return 0;
}

TlsContext *tls_context_ref(TlsContext *context)
{
        if (context)
                context->n_refs++;
        return context;
}

TlsContext *tls_context_unref(TlsContext *context)
{
        if (context && --context->n_refs == 0) {
                SSL_CTX_free(context->ctx);
                free(context);
        }
        return NULL;
}

int64_t tls_context_cert_end(const TlsContext *context)
{
        return context->cert_end;
}

/* --- sessions --- */

static bool name_is_address(const char *name)
{
        unsigned char bytes[16];

        return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

static int session_set_name(TlsSession *s)
{
        X509_VERIFY_PARAM *param = SSL_get0_param(s->ssl);

        if (name_is_address(s->name))
                return s->verify ? X509_VERIFY_PARAM_set1_ip_asc(param, s->name) : 1;
        if (SSL_set_tlsext_host_name(s->ssl, s->name) != 1)
                return 0;
        if (!s->verify)
                return 1;
        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                                       X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        return X509_VERIFY_PARAM_set1_host(param, s->name, 0);
}

/* The names that a certificate is for: "a, b, 10.0.0.1". */
static void cert_names(X509 *cert, char *buf, size_t size)
{
        GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
        size_t len = 0;

        buf[0] = '\0';
        for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
                const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
                char text[256] = "";

                if (name->type == GEN_DNS) {
                        snprintf(text, sizeof(text), "%.*s", ASN1_STRING_length(name->d.dNSName),
                                 ASN1_STRING_get0_data(name->d.dNSName));
                } else if (name->type == GEN_IPADD) {
                        int family =
                                ASN1_STRING_length(name->d.iPAddress) == 4 ? AF_INET : AF_INET6;

                        if (family == AF_INET || ASN1_STRING_length(name->d.iPAddress) == 16)
                                inet_ntop(family, ASN1_STRING_get0_data(name->d.iPAddress), text,
                                          sizeof(text));
                }
                if (text[0] && len + strlen(text) + 3 < size)
                        len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? ", " : "",
                                                text);
        }
        GENERAL_NAMES_free(names);
}

/* Keeps what is told about a wrong name; the verdict stays OpenSSL's. */
static int on_verify(int ok, X509_STORE_CTX *store)
{
        SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
        TlsSession *s = SSL_get_app_data(ssl);
        int error = X509_STORE_CTX_get_error(store);
        char names[512];

        if (!ok && !s->peer_names && X509_STORE_CTX_get0_cert(store) &&
            (error == X509_V_ERR_HOSTNAME_MISMATCH || error == X509_V_ERR_IP_ADDRESS_MISMATCH)) {
                cert_names(X509_STORE_CTX_get0_cert(store), names, sizeof(names));
                s->peer_names = strdup(names);
        }
        return ok;
}

int tls_session_new(TlsContext *context, int fd, const char *name, TlsSession **ret, KlError **err)
{
        KL_AUTO(tls_session_free) TlsSession *s = calloc(1, sizeof(*s));
        BIO *bio;

        if (!s)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        s->verify = context->verify;
        s->name = strdup(name);
        s->ssl = SSL_new(context->ctx);
        bio = bio_method() ? BIO_new(bio_method()) : NULL;
        if (!s->name || !s->ssl || !bio) {
                BIO_free(bio);
                return tls_error(err, -ENOMEM, "start a TLS session");
        }
        BIO_set_data(bio, s);
        BIO_set_fd(bio, fd, BIO_NOCLOSE);
        SSL_set_bio(s->ssl, bio, bio);
        SSL_set_connect_state(s->ssl);
        SSL_set_app_data(s->ssl, s);
        if (s->verify)
                SSL_set_verify(s->ssl, SSL_VERIFY_PEER, on_verify);
        if (session_set_name(s) != 1)
                return tls_error(err, -EINVAL, "set the server's name for TLS");
        *ret = KL_STEAL(s);
        return 0;
}

TlsSession *tls_session_free(TlsSession *session)
{
        if (session) {
                SSL_free(session->ssl);
                free(session->name);
                free(session->peer_names);
                free(session);
        }
        return NULL;
}

static int name_error(const TlsSession *s, KlError **err)
{
        if (str_empty(s->peer_names))
                return kl_error(err, -EACCES, NULL,
                                "x509: the server's certificate has no alternative names, and so "
                                "is not valid for %s",
                                s->name);
        return kl_error(err, -EACCES, NULL, "x509: certificate is valid for %s, not %s",
                        s->peer_names, s->name);
}

/* Why the server's certificate was not taken. */
static int verify_error(const TlsSession *s, KlError **err)
{
        long result = SSL_get_verify_result(s->ssl);

        ERR_clear_error();
        switch (result) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
                return kl_error(err, -EACCES, NULL, "x509: the server's certificate has expired");
        case X509_V_ERR_CERT_NOT_YET_VALID:
                return kl_error(err, -EACCES, NULL,
                                "x509: the server's certificate is not yet valid; is this "
                                "machine's clock right?");
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        case X509_V_ERR_CERT_SIGNATURE_FAILURE:
                return kl_error(err, -EACCES, NULL,
                                "x509: certificate signed by unknown authority");
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
                return name_error(s, err);
        default:
                return kl_error(err, -EACCES, NULL, "x509: %s",
                                X509_verify_cert_error_string(result));
        }
}

/* What a failed call means; ret is OpenSSL's result of it. */
static int session_error(TlsSession *s, int ret, const char *what, KlError **err)
{
        int code = SSL_get_error(s->ssl, ret);
        int io_error = s->io_error;

        if (code == SSL_ERROR_WANT_READ)
                return TLS_WANT_READ;
        if (code == SSL_ERROR_WANT_WRITE)
                return TLS_WANT_WRITE;
        s->finished = true;
        if (code == SSL_ERROR_SYSCALL) {
                ERR_clear_error();
                if (io_error)
                        return kl_error_errno(err, -io_error, NULL, "%s", what);
                return kl_error(err, -ECONNRESET, NULL, "%s: the connection was closed", what);
        }
        if (s->verify && SSL_get_verify_result(s->ssl) != X509_V_OK)
                return verify_error(s, err);
        switch (ERR_GET_REASON(ERR_peek_error())) {
        case SSL_R_WRONG_VERSION_NUMBER:
        case SSL_R_HTTP_REQUEST:
                ERR_clear_error();
                return kl_error(err, -EPROTO, TLS_REASON_PLAIN, "%s: the server does not speak TLS",
                                what);
        case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
        case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
        case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
        case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
        case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
                return tls_error(err, -EACCES, "the server refused our client certificate");
        default:
                return tls_error(err, -EPROTO, what);
        }
}

int tls_handshake(TlsSession *s, KlError **err)
{
        int r;

        ERR_clear_error();
        s->io_error = 0;
        r = SSL_do_handshake(s->ssl);
        return r == 1 ? TLS_DONE : session_error(s, r, "TLS handshake", err);
}

const char *tls_alpn(const TlsSession *s)
{
        const unsigned char *name;
        unsigned int len;

        SSL_get0_alpn_selected(s->ssl, &name, &len);
        if (len == 2 && memcmp(name, "h2", 2) == 0)
                return "h2";
        return len > 0 ? "http/1.1" : "";
}

int tls_read(TlsSession *s, void *buf, size_t size, size_t *ret_n, KlError **err)
{
        int r;

        ERR_clear_error();
        s->io_error = 0;
        *ret_n = 0;
        r = SSL_read_ex(s->ssl, buf, size, ret_n);
        if (r == 1)
                return TLS_DONE;
        if (SSL_get_error(s->ssl, r) == SSL_ERROR_ZERO_RETURN)
                return TLS_DONE;
        return session_error(s, r, "the connection broke", err);
}

int tls_write(TlsSession *s, const void *data, size_t len, size_t *ret_n, KlError **err)
{
        int r;

        ERR_clear_error();
        s->io_error = 0;
        *ret_n = 0;
        r = SSL_write_ex(s->ssl, data, len, ret_n);
        return r == 1 ? TLS_DONE : session_error(s, r, "the connection broke", err);
}

void tls_shutdown(TlsSession *s)
{
        /* After a fatal error, or before the handshake ended, OpenSSL forbids it. */
        if (!s->finished && SSL_is_init_finished(s->ssl))
                SSL_shutdown(s->ssl);
        ERR_clear_error();
}
