/* SPDX-License-Identifier: Apache-2.0 */

/*
 * As whom: client certificate and bearer token, given as data or as files that others replace.
 * Files are compared by their stat, so that an unchanged one costs no read. A file that cannot be
 * read or makes no sense any more leaves the last good credentials in place.
 */

#include "api/client-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <sys/stat.h>

#define TOKEN_MAX (64U << 10)

typedef struct FileId {
        ino_t inode;
        off_t size;
        struct timespec changed;
} FileId;

struct ApiAuth {
        char *ca_pem, *cert_pem, *key_pem, *cert_file, *key_file, *token_file;
        bool insecure, want_tls;
        char *header;
        FileId cert_id, key_id;
        TlsContext *tls;
};

static FileId file_id(const char *path)
{
        struct stat st;

        if (!path || stat(path, &st) < 0)
                return (FileId){ 0 };
        return (FileId){ st.st_ino, st.st_size, st.st_mtim };
}

static bool same_file(const FileId *a, const FileId *b)
{
        return a->inode == b->inode && a->size == b->size &&
               a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

ApiAuth *api_auth_free(ApiAuth *auth)
{
        if (auth) {
                tls_context_unref(auth->tls);
                free(auth->ca_pem);
                free(auth->cert_pem);
                if (auth->key_pem)
                        explicit_bzero(auth->key_pem, strlen(auth->key_pem));
                free(auth->key_pem);
                free(auth->cert_file);
                free(auth->key_file);
                free(auth->token_file);
                if (auth->header)
                        explicit_bzero(auth->header, strlen(auth->header));
                free(auth->header);
                free(auth);
        }
        return NULL;
}

static int copy_text(char **to, const char *from)
{
        *to = str_empty(from) ? NULL : strdup(from);
        return str_empty(from) || *to ? 0 : -ENOMEM;
}

static int set_token(ApiAuth *auth, const char *token, KlError **err)
{
        char *header;

        for (const char *c = token; *c; c++)
                if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
                        return kl_error(err, -EINVAL, NULL,
                                        "the token has blanks or control "
                                        "characters in it");
        header = str_format("Bearer %s", token);
        if (!header)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        free(auth->header);
        auth->header = header;
        return 0;
}

static int read_token(ApiAuth *auth, KlError **err)
{
        KL_AUTOFREE char *text = NULL;
        size_t len;
        int r = file_read(auth->token_file, TOKEN_MAX, &text, &len);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "read token file '%s'", auth->token_file);
        while (len > 0 && strchr(" \t\r\n", text[len - 1]))
                text[--len] = '\0';
        if (len == 0)
                return kl_error(err, -EINVAL, NULL, "token file '%s' is empty", auth->token_file);
        r = set_token(auth, text, err);
        explicit_bzero(text, len);
        return r < 0 ? kl_error_wrap(err, r, "token file '%s'", auth->token_file) : 0;
}

static int make_tls(ApiAuth *auth, KlError **err)
{
        TlsSpec spec = {
                .ca_pem = auth->ca_pem,
                .cert_pem = auth->cert_pem,
                .key_pem = auth->key_pem,
                .cert_file = auth->cert_file,
                .key_file = auth->key_file,
                .insecure_skip_verify = auth->insecure,
                .h2 = true,
        };
        FileId cert = file_id(auth->cert_file), key = file_id(auth->key_file);
        TlsContext *tls;
        int r = tls_context_new(&spec, &tls, err);

        if (r < 0)
                return r;
        tls_context_unref(auth->tls);
        auth->tls = tls;
        auth->cert_id = cert;
        auth->key_id = key;
        return 0;
}

int api_auth_new(const ApiEndpoint *endpoint, bool tls, ApiAuth **ret, KlError **err)
{
        KL_AUTO(api_auth_free) ApiAuth *auth = calloc(1, sizeof(*auth));
        int r = 0;

        if (!auth || copy_text(&auth->ca_pem, endpoint->ca_pem) < 0 ||
            copy_text(&auth->cert_pem, endpoint->cert_pem) < 0 ||
            copy_text(&auth->key_pem, endpoint->key_pem) < 0 ||
            copy_text(&auth->cert_file, endpoint->cert_file) < 0 ||
            copy_text(&auth->key_file, endpoint->key_file) < 0 ||
            copy_text(&auth->token_file, endpoint->token_file) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        auth->insecure = endpoint->insecure_skip_verify;
        auth->want_tls = tls;
        if (auth->token_file)
                r = read_token(auth, err);
        else if (!str_empty(endpoint->token))
                r = set_token(auth, endpoint->token, err);
        if (r == 0 && tls)
                r = make_tls(auth, err);
        if (r < 0)
                return r;
        *ret = KL_STEAL(auth);
        return 0;
}

TlsContext *api_auth_tls(const ApiAuth *auth)
{
        return auth->tls;
}

const char *api_auth_header(const ApiAuth *auth)
{
        return auth->header;
}

bool api_auth_has_files(const ApiAuth *auth)
{
        return auth->token_file || (auth->want_tls && auth->cert_file);
}

static bool refresh_token(ApiAuth *auth)
{
        KL_AUTOFREE char *old = auth->header ? strdup(auth->header) : NULL;
        KL_AUTOERR err = NULL;
        bool changed;

        if (read_token(auth, &err) < 0)
                log_warning(NULL, "Cannot renew the API server's token, keeping the old one: %s",
                            kl_error_msg(err));
        changed = !str_eq(old, auth->header);
        if (old)
                explicit_bzero(old, strlen(old));
        return changed;
}

bool api_auth_refresh(ApiAuth *auth, bool *ret_tls)
{
        FileId cert = file_id(auth->cert_file), key = file_id(auth->key_file);
        bool changed = auth->token_file && refresh_token(auth);
        KL_AUTOERR err = NULL;

        *ret_tls = false;
        if (!auth->want_tls || !auth->cert_file ||
            (same_file(&cert, &auth->cert_id) && same_file(&key, &auth->key_id)))
                return changed;
        if (make_tls(auth, &err) < 0) {
                log_warning(NULL, "Cannot take the new client certificate, keeping the old one: %s",
                            kl_error_msg(err));
                return changed;
        }
        *ret_tls = true;
        return true;
}

void api_auth_explain(const ApiAuth *auth, char *buf, size_t size)
{
        int64_t end = auth->tls ? tls_context_cert_end(auth->tls) : 0;
        int64_t now = time_realtime_us() / 1000000;
        char when[TIME_RFC3339_SIZE];

        buf[0] = '\0';
        if (end > 0 && end < now) {
                time_format_rfc3339(end * 1000000, when);
                snprintf(buf, size, "; the client certificate expired at %s", when);
        } else if (auth->header) {
                snprintf(buf, size, "; the server refused the bearer token%s%s",
                         auth->token_file ? " of " : "", auth->token_file ? auth->token_file : "");
        } else if (end == 0) {
                snprintf(buf, size, "; there is neither a client certificate nor a token");
        }
}
