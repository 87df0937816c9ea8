/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The server's side of TLS. A client's certificate is asked for but not judged in the handshake:
 * the authorities may change while a connection lives, and a bad certificate is answered with a 401
 * that says so, as upstream does. client_cas_verify() is the judge, and nothing else is.
 *
 * Sessions are not resumed: a resumed one would carry only the leaf of the client's chain.
 */

#include "net/server-tls-internal.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

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

static void store_ctx_free_cleanup(X509_STORE_CTX **ctx)
{
        X509_STORE_CTX_free(*ctx);
}

static int tls_error(KlError **err, int code, const char *what)
{
        const char *reason = ERR_reason_error_string(ERR_peek_error());

        kl_error(err, code, NULL, "%s: %s", what, reason ? reason : "unknown error");
        ERR_clear_error();
        return code;
}

/* --- settings --- */

static const char default_ciphers[] =
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
        "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

static int min_version(const char *name, int *ret)
{
        if (str_empty(name) || str_eq(name, "VersionTLS12")) {
                *ret = TLS1_2_VERSION;
                return 0;
        }
        if (str_eq(name, "VersionTLS13")) {
                *ret = TLS1_3_VERSION;
                return 0;
        }
        return -EINVAL;
}

/* OpenSSL's name of a suite that Go (and IANA) calls `name`; NULL if there is none. */
static const char *cipher_name(STACK_OF(SSL_CIPHER) * all, const char *name)
{
        for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
                const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(all, i);
                const char *standard = SSL_CIPHER_standard_name(cipher);
                size_t n = strlen(name);

                if (!standard)
                        continue;
                /* Go once named two suites without their hash. */
                if (str_eq(standard, name) ||
                    (str_ends(name, "_CHACHA20_POLY1305") && strncmp(standard, name, n) == 0))
                        return SSL_CIPHER_get_name(cipher);
        }
        return NULL;
}

static bool is_tls13_cipher(const char *name)
{
        return str_eq(name, "TLS_AES_128_GCM_SHA256") || str_eq(name, "TLS_AES_256_GCM_SHA384") ||
               str_eq(name, "TLS_CHACHA20_POLY1305_SHA256");
}

/* As in Go, suites of TLS 1.3 cannot be chosen; naming them is no error. */
static int apply_ciphers(SSL_CTX *ctx, char *const *names, KlError **err)
{
        KL_AUTOBUF list = BUF_INIT;
        STACK_OF(SSL_CIPHER) * all;

        if (!names || !names[0])
                return SSL_CTX_set_cipher_list(ctx, default_ciphers) == 1
                               ? 0
                               : tls_error(err, -EINVAL, "choose TLS cipher suites");
        if (SSL_CTX_set_cipher_list(ctx, "ALL:!aNULL:!eNULL") != 1)
                return tls_error(err, -EINVAL, "list TLS cipher suites");
        all = SSL_CTX_get_ciphers(ctx);
        for (; *names; names++) {
                const char *name = cipher_name(all, *names);

                if (is_tls13_cipher(*names))
                        continue;
                if (!name)
                        return kl_error(err, -EINVAL, NULL, "unknown TLS cipher suite '%s'",
                                        *names);
                buf_addf(&list, "%s%s", list.len ? ":" : "", name);
        }
        if (buf_error(&list))
                return kl_error_oom(err);
        if (SSL_CTX_set_cipher_list(ctx, list.len ? buf_str(&list) : default_ciphers) != 1)
                return tls_error(err, -EINVAL, "choose TLS cipher suites");
        return 0;
}

/* Any certificate may come; what it is worth is judged later. */
static int take_any(int ok, X509_STORE_CTX *store)
{
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned int in_len, void *data)
{
        static const unsigned char http1[] = "\x08http/1.1";
        unsigned char *chosen;

        if (SSL_select_next_proto(&chosen, out_len, http1, sizeof(http1) - 1, in, in_len) !=
            OPENSSL_NPN_NEGOTIATED)
                return SSL_TLSEXT_ERR_NOACK;
        *out = chosen;
        return SSL_TLSEXT_ERR_OK;
}

int server_tls_apply(SSL_CTX *ctx, const ServerTls *tls, KlError **err)
{
        int version;

        if (min_version(tls->min_version, &version) < 0)
                return kl_error(err, -EINVAL, NULL, "unknown TLS version '%s'", tls->min_version);
        SSL_CTX_set_min_proto_version(ctx, version);
        SSL_CTX_set_max_proto_version(ctx, 0);
        SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
                                         SSL_OP_IGNORE_UNEXPECTED_EOF |
                                         SSL_OP_CIPHER_SERVER_PREFERENCE);
        SSL_CTX_set_num_tickets(ctx, 0);
        SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
        SSL_CTX_set_verify(ctx, tls->ask_client_cert ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, take_any);
        KL_TRY(apply_ciphers(ctx, tls->cipher_suites, err));
        return tls->cert_pem ? server_tls_use(ctx, tls->cert_pem, tls->key_pem, err) : 0;
}

static int no_passphrase(char *buf, int size, int rwflag, void *data)
{
        return -1;
}

/* The pair is tried on a context of its own first: half a pair must never be served. */
static int use_on(SSL_CTX *ctx, const char *cert_pem, const char *key_pem, KlError **err)
{
        __attribute__((cleanup(bio_free_cleanup))) BIO *cert = BIO_new_mem_buf(cert_pem, -1);
        __attribute__((cleanup(bio_free_cleanup))) BIO *key = BIO_new_mem_buf(key_pem, -1);
        __attribute__((cleanup(x509_free_cleanup))) X509 *leaf = NULL;
        __attribute__((cleanup(pkey_free_cleanup))) EVP_PKEY *pkey = NULL;
        X509 *next;

        if (!cert || !key)
                return kl_error_oom(err);
        leaf = PEM_read_bio_X509_AUX(cert, NULL, NULL, NULL);
        if (!leaf)
                return tls_error(err, -EINVAL, "read the serving certificate");
        pkey = PEM_read_bio_PrivateKey(key, NULL, no_passphrase, NULL);
        if (!pkey)
                return tls_error(err, -EINVAL, "read the serving certificate's key");
        if (X509_check_private_key(leaf, pkey) != 1)
                return tls_error(err, -EINVAL,
                                 "the key does not belong to the serving certificate");
        SSL_CTX_clear_chain_certs(ctx);
        if (SSL_CTX_use_certificate(ctx, leaf) != 1 || SSL_CTX_use_PrivateKey(ctx, pkey) != 1)
                return tls_error(err, -EINVAL, "use the serving certificate");
        while ((next = PEM_read_bio_X509(cert, NULL, NULL, NULL))) {
                if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
                        X509_free(next);
                        return tls_error(err, -EINVAL, "use the serving certificate's chain");
                }
        }
        ERR_clear_error();
        return 0;
}

int server_tls_use(SSL_CTX *ctx, const char *cert_pem, const char *key_pem, KlError **err)
{
        ServerTls tls = { .cert_pem = cert_pem, .key_pem = key_pem };

        KL_TRY(server_tls_check(&tls, err));
        return use_on(ctx, cert_pem, key_pem, err);
}

int server_tls_check(const ServerTls *tls, KlError **err)
{
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        int version, r = 0;

        if (!ctx)
                return tls_error(err, -ENOMEM, "start TLS");
        if (min_version(tls->min_version, &version) < 0)
                r = kl_error(err, -EINVAL, NULL, "unknown TLS version '%s'", tls->min_version);
        if (r == 0)
                r = apply_ciphers(ctx, tls->cipher_suites, err);
        if (r == 0 && tls->cert_pem)
                r = use_on(ctx, tls->cert_pem, tls->key_pem, err);
        SSL_CTX_free(ctx);
        return r;
}

static int64_t cert_end(const X509 *cert)
{
        int days, seconds;

        if (!ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)))
                return 0;
        return time_realtime_us() / 1000000 + (int64_t)days * 86400 + seconds;
}

int64_t pem_certificate_end(const char *pem)
{
        __attribute__((cleanup(bio_free_cleanup))) BIO *bio = BIO_new_mem_buf(pem, -1);
        __attribute__((cleanup(x509_free_cleanup))) X509 *cert =
                bio ? PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL) : NULL;

        ERR_clear_error();
        return cert ? cert_end(cert) : 0;
}

int secret_digest(const void *data, size_t len, char ret[static SECRET_DIGEST_SIZE])
{
        unsigned char digest[32];

        if (EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL) != 1)
                return -ENOMEM;
        hex_encode(digest, sizeof(digest), ret);
        return 0;
}

/* --- clients --- */

struct ClientChain {
        X509 *leaf;
        STACK_OF(X509) * rest;
};

struct ClientCas {
        X509_STORE *store;
};

ClientChain *client_chain_of(SSL *ssl)
{
        STACK_OF(X509) *sent = SSL_get_peer_cert_chain(ssl);
        X509 *leaf = SSL_get1_peer_certificate(ssl);
        ClientChain *chain = leaf ? calloc(1, sizeof(*chain)) : NULL;

        if (!chain) {
                X509_free(leaf);
                return NULL;
        }
        chain->leaf = leaf;
        /* On the server's side this is without the leaf. */
        chain->rest = sent ? X509_chain_up_ref(sent) : NULL;
        return chain;
}

ClientChain *client_chain_free(ClientChain *chain)
{
        if (chain) {
                X509_free(chain->leaf);
                sk_X509_pop_free(chain->rest, X509_free);
                free(chain);
        }
        return NULL;
}

int client_cas_new(const char *pem, ClientCas **ret, KlError **err)
{
        __attribute__((cleanup(bio_free_cleanup))) BIO *bio = BIO_new_mem_buf(pem, -1);
        KL_AUTO(client_cas_free) ClientCas *cas = calloc(1, sizeof(*cas));
        size_t n = 0;

        if (!bio || !cas || !(cas->store = X509_STORE_new()))
                return kl_error_oom(err);
        for (;;) {
                __attribute__((cleanup(x509_free_cleanup))) X509 *cert =
                        PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);

                if (!cert)
                        break;
                if (X509_STORE_add_cert(cas->store, cert) != 1)
                        return tls_error(err, -EINVAL, "take a certificate authority");
                n++;
        }
        ERR_clear_error();
        if (n == 0)
                return kl_error(err, -EINVAL, NULL, "no certificate authority in it");
        *ret = KL_STEAL(cas);
        return 0;
}

ClientCas *client_cas_free(ClientCas *cas)
{
        if (cas) {
                X509_STORE_free(cas->store);
                free(cas);
        }
        return NULL;
}

void client_identity_deinit(ClientIdentity *identity)
{
        free(identity->name);
        strv_free(identity->groups);
        *identity = (ClientIdentity){ 0 };
}

/* The text of a name's entry, in UTF-8; NULL if it is none, too long, or holds a NUL. */
static char *entry_text(const X509_NAME_ENTRY *entry)
{
        unsigned char *utf8 = NULL;
        int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry));
        char *text = NULL;

        if (len > 0 && len <= CLIENT_NAME_MAX && !memchr(utf8, '\0', (size_t)len))
                text = strndup((char *)utf8, (size_t)len);
        OPENSSL_free(utf8);
        return text;
}

static int read_groups(const X509_NAME *subject, ClientIdentity *ret, KlError **err)
{
        ret->groups = calloc(1, sizeof(*ret->groups));
        if (!ret->groups)
                return kl_error_oom(err);
        for (int at = -1, n = 0;; n++) {
                KL_AUTOFREE char *group = NULL;

                at = X509_NAME_get_index_by_NID((X509_NAME *)subject, NID_organizationName, at);
                if (at < 0)
                        return 0;
                if (n == CLIENT_GROUPS_MAX)
                        return kl_error(err, -EACCES, NULL, "x509: too many organizations");
                group = entry_text(X509_NAME_get_entry(subject, at));
                if (!group)
                        return kl_error(err, -EACCES, NULL, "x509: malformed organization");
                if (strv_add(&ret->groups, group) < 0)
                        return kl_error_oom(err);
        }
}

static int read_identity(const X509 *leaf, ClientIdentity *ret, KlError **err)
{
        const X509_NAME *subject = X509_get_subject_name(leaf);
        int at = X509_NAME_get_index_by_NID((X509_NAME *)subject, NID_commonName, -1);

        if (at >= 0)
                ret->name = entry_text(X509_NAME_get_entry(subject, at));
        if (!ret->name)
                return kl_error(err, -EINVAL, NULL, "x509: the certificate has no common name");
        return read_groups(subject, ret, err);
}

int client_cas_verify(const ClientCas *cas, const ClientChain *chain, ClientIdentity *ret,
                      KlError **err)
{
        __attribute__((cleanup(store_ctx_free_cleanup))) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
        const STACK_OF(X509) * verified;
        ClientIdentity identity = { 0 };
        int r;

        if (!ctx || X509_STORE_CTX_init(ctx, cas->store, chain->leaf, chain->rest) != 1 ||
            X509_STORE_CTX_set_default(ctx, "ssl_client") != 1)
                return tls_error(err, -ENOMEM, "verify a client certificate");
        r = X509_verify_cert(ctx);
        ERR_clear_error();
        if (r != 1)
                return kl_error(err, -EACCES, NULL, "x509: %s",
                                X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
        r = read_identity(chain->leaf, &identity, err);
        if (r < 0) {
                client_identity_deinit(&identity);
                return r;
        }
        identity.end = INT64_MAX;
        verified = X509_STORE_CTX_get0_chain(ctx);
        for (int i = 0; i < sk_X509_num(verified); i++) {
                int64_t end = cert_end(sk_X509_value(verified, i));

                identity.end = end < identity.end ? end : identity.end;
        }
        *ret = identity;
        return 0;
}
