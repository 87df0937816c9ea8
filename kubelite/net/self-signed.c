/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A serving certificate for a node that was given none: as upstream's, signed by an authority that
 * exists for this one signature and whose key is forgotten.
 */

#include "net/server-tls.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#define YEAR_S (365 * 24 * 3600)
#define DAY_S (24 * 3600)

typedef struct Making {
        EVP_PKEY *ca_key, *key;
        X509 *ca, *cert;
} Making;

static void making_deinit(Making *m)
{
        EVP_PKEY_free(m->ca_key);
        EVP_PKEY_free(m->key);
        X509_free(m->ca);
        X509_free(m->cert);
        ERR_clear_error();
}

static int openssl_error(KlError **err, const char *what)
{
        const char *reason = ERR_reason_error_string(ERR_peek_error());

        return kl_error(err, -EIO, NULL, "%s: %s", what, reason ? reason : "unknown error");
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
        X509_EXTENSION *extension;
        X509V3_CTX ctx;
        bool ok;

        X509V3_set_ctx_nodb(&ctx);
        X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
        extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
        ok = extension && X509_add_ext(cert, extension, -1) == 1;
        X509_EXTENSION_free(extension);
        return ok;
}

static bool set_serial(X509 *cert)
{
        unsigned char bytes[16];
        BIGNUM *number;
        bool ok;

        if (RAND_bytes(bytes, sizeof(bytes)) != 1)
                return false;
        bytes[0] &= 0x7f;
        number = BN_bin2bn(bytes, sizeof(bytes), NULL);
        ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
        BN_free(number);
        return ok;
}

static X509 *new_certificate(EVP_PKEY *key, const char *name)
{
        X509 *cert = X509_new();
        X509_NAME *subject;

        if (!cert || X509_set_version(cert, X509_VERSION_3) != 1 || !set_serial(cert) ||
            !X509_gmtime_adj(X509_getm_notBefore(cert), -DAY_S) ||
            !X509_gmtime_adj(X509_getm_notAfter(cert), YEAR_S) || X509_set_pubkey(cert, key) != 1) {
                X509_free(cert);
                return NULL;
        }
        subject = X509_get_subject_name(cert);
        if (X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name,
                                       -1, -1, 0) != 1) {
                X509_free(cert);
                return NULL;
        }
        return cert;
}

static int make_authority(Making *m, const char *host, KlError **err)
{
        KL_AUTOFREE char *name =
                str_format("%.40s-ca@%lld", host, (long long)(time_realtime_us() / 1000000));

        if (!name)
                return kl_error_oom(err);
        m->ca_key = EVP_EC_gen("P-256");
        m->ca = m->ca_key ? new_certificate(m->ca_key, name) : NULL;
        if (!m->ca || X509_set_issuer_name(m->ca, X509_get_subject_name(m->ca)) != 1 ||
            !add_extension(m->ca, m->ca, NID_basic_constraints, "critical,CA:TRUE") ||
            !add_extension(m->ca, m->ca, NID_key_usage, "critical,digitalSignature,keyCertSign") ||
            !add_extension(m->ca, m->ca, NID_subject_key_identifier, "hash") ||
            X509_sign(m->ca, m->ca_key, EVP_sha256()) <= 0)
                return openssl_error(err, "make an authority for the serving certificate");
        return 0;
}

static int alternative_names(const char *host, char *const *addresses, Buf *to)
{
        buf_addf(to, "DNS:%s", host);
        for (; addresses && *addresses; addresses++)
                buf_addf(to, ",IP:%s", *addresses);
        return buf_error(to);
}

static int make_leaf(Making *m, const char *host, char *const *addresses, KlError **err)
{
        KL_AUTOFREE char *name =
                str_format("%.40s@%lld", host, (long long)(time_realtime_us() / 1000000));
        KL_AUTOBUF names = BUF_INIT;

        if (!name || alternative_names(host, addresses, &names) < 0)
                return kl_error_oom(err);
        m->key = EVP_EC_gen("P-256");
        m->cert = m->key ? new_certificate(m->key, name) : NULL;
        if (!m->cert || X509_set_issuer_name(m->cert, X509_get_subject_name(m->ca)) != 1 ||
            !add_extension(m->cert, m->ca, NID_basic_constraints, "critical,CA:FALSE") ||
            !add_extension(m->cert, m->ca, NID_key_usage,
                           "critical,digitalSignature,keyEncipherment") ||
            !add_extension(m->cert, m->ca, NID_ext_key_usage, "serverAuth") ||
            !add_extension(m->cert, m->ca, NID_subject_alt_name, buf_str(&names)) ||
            X509_sign(m->cert, m->ca_key, EVP_sha256()) <= 0)
                return openssl_error(err, "make a serving certificate");
        return 0;
}

static char *bio_text(BIO *bio)
{
        char *data;
        long len = BIO_get_mem_data(bio, &data);

        return len > 0 ? strndup(data, (size_t)len) : NULL;
}

static int print_pair(const Making *m, char **ret_cert, char **ret_key, KlError **err)
{
        BIO *cert = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_mem());
        KL_AUTOFREE char *cert_pem = NULL;
        KL_AUTOFREE char *key_pem = NULL;

        if (cert && key && PEM_write_bio_X509(cert, m->cert) == 1 &&
            PEM_write_bio_X509(cert, m->ca) == 1 &&
            PEM_write_bio_PrivateKey(key, m->key, NULL, NULL, 0, NULL, NULL) == 1) {
                cert_pem = bio_text(cert);
                key_pem = bio_text(key);
        }
        BIO_free(cert);
        BIO_free(key);
        if (!cert_pem || !key_pem)
                return openssl_error(err, "write a serving certificate");
        *ret_cert = KL_STEAL(cert_pem);
        *ret_key = KL_STEAL(key_pem);
        return 0;
}

int self_signed_certificate(const char *host, char *const *addresses, char **ret_cert_pem,
                            char **ret_key_pem, KlError **err)
{
        __attribute__((cleanup(making_deinit))) Making m = { 0 };

        KL_TRY(make_authority(&m, host, err));
        KL_TRY(make_leaf(&m, host, addresses, err));
        return print_pair(&m, ret_cert_pem, ret_key_pem, err);
}
