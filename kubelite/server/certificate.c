/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The serving certificate: from the configured files, read again when they change; else a
 * self-signed one, kept as kubelet.crt and kubelet.key in the certificate directory.
 */

#include "server/server-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <sys/stat.h>

#define PEM_MAX (1U << 20)
/* A self-signed certificate is replaced this long before its end. */
#define RENEW_BEFORE_S (30 * 24 * 3600)

/* Changes whenever one of the files does. */
static int64_t files_stamp(const KubeletServer *s)
{
        struct stat cert, key;

        if (stat(s->cert_file, &cert) < 0 || stat(s->key_file, &key) < 0)
                return 0;
        return (int64_t)(cert.st_ino * 31 + key.st_ino) ^ cert.st_mtim.tv_sec * 1000003 ^
               key.st_mtim.tv_sec * 999983 ^ cert.st_mtim.tv_nsec ^ key.st_mtim.tv_nsec;
}

static int read_pair(KubeletServer *s, char **ret_cert, char **ret_key, KlError **err)
{
        KL_AUTOFREE char *cert = NULL;
        KL_AUTOFREE char *key = NULL;
        ServerTls tls = { 0 };
        size_t len;
        int r;

        r = file_read(s->cert_file, PEM_MAX, &cert, &len);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read '%s'", s->cert_file);
        r = file_read(s->key_file, PEM_MAX, &key, &len);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read '%s'", s->key_file);
        tls.cert_pem = cert;
        tls.key_pem = key;
        r = server_tls_check(&tls, err);
        if (r < 0)
                return kl_error_wrap(err, r, "'%s'", s->cert_file);
        *ret_cert = KL_STEAL(cert);
        *ret_key = KL_STEAL(key);
        return 0;
}

static int make_pair(KubeletServer *s, char **ret_cert, char **ret_key, KlError **err)
{
        KL_AUTOFREE char *cert = NULL;
        KL_AUTOFREE char *key = NULL;
        int r;

        KL_TRY(self_signed_certificate(s->options.node_name, s->addresses, &cert, &key, err));
        r = dir_make_all(s->options.cert_dir, 0755);
        if (r == 0)
                r = file_replace(s->key_file, key, strlen(key), 0600, false);
        if (r == 0)
                r = file_replace(s->cert_file, cert, strlen(cert), 0644, false);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "write the serving certificate '%s'",
                                      s->cert_file);
        log_info(NULL, "Made a self-signed serving certificate, '%s'", s->cert_file);
        *ret_cert = KL_STEAL(cert);
        *ret_key = KL_STEAL(key);
        return 0;
}

static bool is_good_for_long(const char *cert)
{
        return pem_certificate_end(cert) > time_realtime_us() / 1000000 + RENEW_BEFORE_S;
}

static int load_self_signed(KubeletServer *s, char **ret_cert, char **ret_key, KlError **err)
{
        KL_AUTOFREE char *cert = NULL;
        KL_AUTOFREE char *key = NULL;

        if (read_pair(s, &cert, &key, NULL) == 0 && is_good_for_long(cert)) {
                *ret_cert = KL_STEAL(cert);
                *ret_key = KL_STEAL(key);
                return 0;
        }
        return make_pair(s, ret_cert, ret_key, err);
}

int server_certificate_load(KubeletServer *s, char **ret_cert, char **ret_key, KlError **err)
{
        KL_TRY((s->self_signed ? load_self_signed : read_pair)(s, ret_cert, ret_key, err));
        s->cert_stamp = files_stamp(s);
        return 0;
}

static int take_over(KubeletServer *s, KlError **err)
{
        KL_AUTOFREE char *cert = NULL;
        KL_AUTOFREE char *key = NULL;

        KL_TRY(read_pair(s, &cert, &key, err));
        return listener_set_certificate(http_server_listener(s->http), cert, key, err);
}

void server_certificate_check(KubeletServer *s)
{
        int64_t stamp = files_stamp(s);
        KL_AUTOERR err = NULL;

        if (!s->http || stamp == 0 || stamp == s->cert_stamp)
                return;
        if (take_over(s, &err) < 0) {
                /* Files may be seen half replaced; the next look finds them whole. */
                if (!s->cert_failed)
                        log_warning(NULL, "The serving certificate stays as it was: %s",
                                    kl_error_msg(err));
                s->cert_failed = true;
                return;
        }
        s->cert_stamp = stamp;
        s->cert_failed = false;
        log_info(NULL, "Serving certificate replaced from '%s'", s->cert_file);
}
