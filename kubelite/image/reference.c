/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Image references, in the grammar of github.com/distribution/reference:
 *
 *     [domain/]path[:tag][@digest]
 *
 * A first part without '.', ':' and upper case that is not "localhost" is no domain: then docker.io
 * is meant, and "library/" for a path of one part. The error texts are those which users of other
 * nodes know.
 */

#include "image/image.h"

#include "base/buf.h"
#include "base/str.h"
#include "image/digest-internal.h"

#include <ctype.h>

#define DEFAULT_HOST "docker.io"
#define LEGACY_HOST "index.docker.io"
#define OFFICIAL_PREFIX "library/"
#define NAME_MAX_LENGTH 255
#define TAG_MAX_LENGTH 128
#define IDENTIFIER_LENGTH 64

static bool is_lower_alnum(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
        return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* Length of a separator between the words of a path part: '.', '_', '__' or dashes; 0: none. */
static size_t separator_length(const char *s)
{
        if (*s == '.')
                return 1;
        if (*s == '_')
                return s[1] == '_' ? 2 : 1;
        return strspn(s, "-");
}

static bool path_is_valid(const char *s)
{
        for (;;) {
                size_t n;

                if (!is_lower_alnum(*s))
                        return false;
                while (is_lower_alnum(*s))
                        s++;
                if (!*s)
                        return true;
                if (*s == '/') {
                        s++;
                        continue;
                }
                n = separator_length(s);
                if (n == 0)
                        return false;
                s += n;
        }
}

static bool host_name_is_valid(const char *s, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                bool first = i == 0 || s[i - 1] == '.';
                bool last = i + 1 == len || s[i + 1] == '.';

                if (!is_alnum(s[i]) && (first || last || (s[i] != '-' && s[i] != '.')))
                        return false;
        }
        return len > 0;
}

static bool host_is_valid(const char *host)
{
        size_t len;

        if (*host == '[') {
                len = strspn(host + 1, "0123456789abcdefABCDEF:");
                if (len == 0 || host[1 + len] != ']')
                        return false;
                len += 2;
        } else {
                len = strcspn(host, ":");
                if (!host_name_is_valid(host, len))
                        return false;
        }
        if (!host[len])
                return true;
        host += len;
        return *host == ':' && host[1] && strspn(host + 1, "0123456789") == strlen(host + 1);
}

static bool tag_is_valid(const char *tag)
{
        size_t len = strlen(tag);

        if (len == 0 || len > TAG_MAX_LENGTH || (!is_alnum(*tag) && *tag != '_'))
                return false;
        for (; *tag; tag++)
                if (!is_alnum(*tag) && !strchr("_.-", *tag))
                        return false;
        return true;
}

static bool has_upper(const char *s, size_t len)
{
        for (size_t i = 0; i < len; i++)
                if (s[i] >= 'A' && s[i] <= 'Z')
                        return true;
        return false;
}

static bool is_identifier(const char *s)
{
        return strlen(s) == IDENTIFIER_LENGTH && strspn(s, "0123456789abcdef") == IDENTIFIER_LENGTH;
}

static int refuse(const char *text, KlError **err, const char *why)
{
        return kl_error(err, -EINVAL, "InvalidImageName",
                        "Failed to apply default image tag \"%s\": couldn't parse image name "
                        "\"%s\": %s",
                        text, text, why);
}

/* Splits into host and the rest, both owned by ref. */
static int split_host(const char *text, ImageRef *ref)
{
        const char *slash = strchr(text, '/');
        size_t len = slash ? (size_t)(slash - text) : 0;
        bool is_host =
                slash && (memchr(text, '.', len) || memchr(text, ':', len) ||
                          has_upper(text, len) || (len == 9 && memcmp(text, "localhost", 9) == 0));
        const char *rest = is_host ? slash + 1 : text;

        ref->host = is_host ? strndup(text, len) : strdup(DEFAULT_HOST);
        if (ref->host && str_eq(ref->host, LEGACY_HOST)) {
                free(ref->host);
                ref->host = strdup(DEFAULT_HOST);
        }
        if (str_eq(ref->host, DEFAULT_HOST) && !strchr(rest, '/'))
                ref->repository = str_format(OFFICIAL_PREFIX "%s", rest);
        else
                ref->repository = strdup(rest);
        return ref->host && ref->repository ? 0 : -ENOMEM;
}

/* Cuts "@digest" and ":tag" off the repository. */
static int split_suffixes(ImageRef *ref)
{
        char *at = strchr(ref->repository, '@');
        char *colon;

        if (at) {
                *at = '\0';
                ref->digest = strdup(at + 1);
                if (!ref->digest)
                        return -ENOMEM;
        }
        colon = strchr(ref->repository, ':');
        if (colon) {
                *colon = '\0';
                ref->tag = strdup(colon + 1);
                if (!ref->tag)
                        return -ENOMEM;
        }
        if (!ref->tag && !ref->digest)
                ref->tag = strdup("latest");
        return ref->tag || ref->digest ? 0 : -ENOMEM;
}

static int check(const char *text, const ImageRef *ref, KlError **err)
{
        if (!host_is_valid(ref->host) || !path_is_valid(ref->repository) ||
            (ref->tag && !tag_is_valid(ref->tag)))
                return refuse(text, err, "invalid reference format");
        if (strlen(ref->host) + 1 + strlen(ref->repository) > NAME_MAX_LENGTH)
                return refuse(text, err, "repository name must not be more than 255 characters");
        if (!ref->digest)
                return 0;
        switch (digest_check(ref->digest)) {
        case DIGEST_VALID:
                return 0;
        case DIGEST_UNKNOWN_ALGORITHM:
                return refuse(text, err, "unsupported digest algorithm");
        case DIGEST_BAD_LENGTH:
                return refuse(text, err, "invalid checksum digest length");
        case DIGEST_BAD_FORMAT:
        default:
                return refuse(text, err, "invalid reference format");
        }
}

int image_ref_parse(const char *text, ImageRef *ret, KlError **err)
{
        __attribute__((cleanup(image_ref_deinit))) ImageRef ref = { 0 };
        KL_AUTOFREE char *why = NULL;
        size_t name_len;
        int r;

        if (is_identifier(text)) {
                why = str_format("invalid repository name (%s), cannot specify 64-byte "
                                 "hexadecimal strings",
                                 text);
                return refuse(text, err, why ? why : "invalid reference format");
        }
        if (split_host(text, &ref) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        name_len = strcspn(ref.repository, ":");
        if (has_upper(ref.repository, name_len)) {
                why = str_format("invalid reference format: repository name (%.*s) must be "
                                 "lowercase",
                                 (int)name_len, ref.repository);
                return refuse(text, err, why ? why : "invalid reference format");
        }
        if (split_suffixes(&ref) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = check(text, &ref, err);
        if (r < 0)
                return r;
        *ret = ref;
        ref = (ImageRef){ 0 };
        return 0;
}

void image_ref_deinit(ImageRef *ref)
{
        free(ref->host);
        free(ref->repository);
        free(ref->tag);
        free(ref->digest);
        *ref = (ImageRef){ 0 };
}

char *image_ref_format(const ImageRef *ref)
{
        KL_AUTOBUF text = BUF_INIT;

        buf_addf(&text, "%s/%s", ref->host, ref->repository);
        if (ref->tag)
                buf_addf(&text, ":%s", ref->tag);
        if (ref->digest)
                buf_addf(&text, "@%s", ref->digest);
        return buf_steal(&text);
}
