/* SPDX-License-Identifier: Apache-2.0 */

/* URLs, as far as servers and proxies are named by them. */

#include "net/url.h"

#include "base/str.h"

#include <ctype.h>
#include <string.h>

Url *url_free(Url *url)
{
        if (url) {
                free(url->scheme);
                free(url->userinfo);
                free(url->host);
                free(url->path);
                free(url->authority);
                free(url);
        }
        return NULL;
}

static int hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c = (char)tolower((unsigned char)c);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place; a broken escape stays as it is. */
static void percent_decode(char *text)
{
        char *to = text;

        for (const char *from = text; *from; from++) {
                if (*from == '%' && hex_value(from[1]) >= 0 && hex_value(from[2]) >= 0) {
                        *to++ = (char)(hex_value(from[1]) << 4 | hex_value(from[2]));
                        from += 2;
                } else {
                        *to++ = *from;
                }
        }
        *to = '\0';
}

static int default_port(const char *scheme)
{
        if (str_eq(scheme, "http"))
                return 80;
        return str_eq(scheme, "https") ? 443 : 0;
}

/* host, host:port, [v6], [v6]:port. */
static int split_host(Url *url, char *text)
{
        char *host = text, *port = NULL;
        uint64_t n;

        if (*text == '[') {
                char *end = strchr(text, ']');

                if (!end || (end[1] && end[1] != ':'))
                        return -EINVAL;
                port = end[1] ? end + 2 : NULL;
                *end = '\0';
                host = text + 1;
        } else if (strchr(text, ':')) {
                port = strchr(text, ':');
                *port++ = '\0';
        }
        url->port = (uint16_t)default_port(url->scheme);
        if (port && *port) {
                if (str_to_u64(port, UINT16_MAX, &n) < 0 || n == 0)
                        return -EINVAL;
                url->port = (uint16_t)n;
        }
        if (!*host)
                return -EINVAL;
        url->host = strdup(host);
        return url->host ? 0 : -ENOMEM;
}

static bool text_is_plain(const char *text)
{
        for (; *text; text++)
                if ((unsigned char)*text <= ' ' || *text == 0x7f)
                        return false;
        return true;
}

static int set_authority(Url *url)
{
        const char *open = strchr(url->host, ':') ? "[" : "", *close = *open ? "]" : "";

        if (url->port == default_port(url->scheme))
                url->authority = str_format("%s%s%s", open, url->host, close);
        else
                url->authority = str_format("%s%s%s:%u", open, url->host, close, url->port);
        return url->authority ? 0 : -ENOMEM;
}

static int split(Url *url, const char *text)
{
        const char *colon = strstr(text, "://"), *rest = colon ? colon + 3 : NULL;
        size_t len;
        KL_AUTOFREE char *authority = NULL;
        char *at;
        int r;

        if (!rest || colon == text || !text_is_plain(text))
                return -EINVAL;
        len = strcspn(rest, "/?#");
        url->scheme = strndup(text, (size_t)(colon - text));
        url->path = strndup(rest + len, strcspn(rest + len, "#"));
        authority = strndup(rest, len);
        if (!url->scheme || !url->path || !authority)
                return -ENOMEM;
        for (char *c = url->scheme; *c; c++)
                *c = (char)tolower((unsigned char)*c);
        at = strrchr(authority, '@');
        if (at) {
                *at++ = '\0';
                url->userinfo = strdup(authority);
                if (!url->userinfo)
                        return -ENOMEM;
                percent_decode(url->userinfo);
        }
        r = split_host(url, at ? at : authority);
        return r < 0 ? r : set_authority(url);
}

int url_parse(const char *text, Url **ret, KlError **err)
{
        KL_AUTO(url_free) Url *url = calloc(1, sizeof(*url));
        int r = url ? split(url, text) : -ENOMEM;

        if (r == -ENOMEM)
                return kl_error(err, r, NULL, "out of memory");
        if (r < 0)
                return kl_error(err, r, NULL, "not a URL");
        *ret = KL_STEAL(url);
        return 0;
}
