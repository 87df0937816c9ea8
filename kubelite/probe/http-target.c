/* SPDX-License-Identifier: Apache-2.0 */

/* Paths of manifests and locations of redirects, as what a request line can carry. No I/O. */

#include "probe/probe-internal.h"

#include "base/str.h"
#include "net/url.h"

#include <ctype.h>

static bool must_escape(const char *p)
{
        unsigned char c = (unsigned char)*p;

        if (c == '%')
                return !isxdigit((unsigned char)p[1]) || !isxdigit((unsigned char)p[2]);
        return c <= 0x20 || c >= 0x7f || strchr("\"<>\\^`{|}", c);
}

/* Only what follows scheme and host counts; upstream puts its own in front. */
static const char *skip_host(const char *path)
{
        const char *scheme = strstr(path, "://");
        size_t plain = strcspn(path, "/?#");

        if (scheme && scheme == path + plain - 1)
                path = scheme + 1;
        if (str_starts(path, "//"))
                path += 2 + strcspn(path + 2, "/?#");
        return path;
}

char *http_target(const char *path)
{
        KL_AUTOBUF out = BUF_INIT;

        path = skip_host(path);
        if (*path != '/')
                buf_add_char(&out, '/');
        for (; *path && *path != '#'; path++) {
                if (must_escape(path))
                        buf_addf(&out, "%%%02X", (unsigned char)*path);
                else
                        buf_add_char(&out, *path);
        }
        return buf_steal(&out);
}

/* --- redirects --- */

/* Takes "." and ".." out of a rooted path, RFC 3986, 5.2.4. The query stays. */
static void remove_dots(char *target)
{
        char *query = target + strcspn(target, "?"), *in = target, *out = target;

        while (in < query) {
                char *end = in + 1 + strcspn(in + 1, "/?");
                size_t len = (size_t)(end - in);
                bool dot = len == 2 && in[1] == '.';
                bool dots = len == 3 && in[1] == '.' && in[2] == '.';

                if (dots)
                        while (out > target && *--out != '/')
                                ;
                if (!dot && !dots) {
                        memmove(out, in, len);
                        out += len;
                } else if (end == query) {
                        *out++ = '/';
                }
                in = end;
        }
        memmove(out, query, strlen(query) + 1);
}

/* A location without a host, against the target that it was the answer to. */
static char *resolve_target(const char *from, const char *location)
{
        size_t dir = strcspn(from, "?");
        KL_AUTOFREE char *text = NULL;
        char *target;

        if (*location != '?')
                while (dir > 0 && from[dir - 1] != '/')
                        dir--;
        text = *location == '/' ? strdup(location) : str_format("%.*s%s", (int)dir, from, location);
        target = text ? http_target(text) : NULL;
        if (target)
                remove_dots(target);
        return target;
}

static int follow_absolute(const char *location, HttpPlace *ret, KlError **err)
{
        KL_AUTO(url_free) Url *url = NULL;

        KL_TRY(url_parse(location, &url, err));
        ret->https = str_eq(url->scheme, "https");
        if (!ret->https && !str_eq(url->scheme, "http"))
                return kl_error(err, -EPROTONOSUPPORT, NULL, "unsupported protocol scheme \"%s\"",
                                url->scheme);
        ret->port = url->port;
        ret->host = strdup(url->host);
        ret->target = http_target(url->path);
        return ret->host && ret->target ? 0 : kl_error_oom(err);
}

int http_place_follow(const HttpPlace *from, const char *location, HttpPlace *ret, KlError **err)
{
        const char *colon = location + strcspn(location, ":/?#");
        KL_AUTOFREE char *with_scheme = NULL;
        HttpPlace place = { .https = from->https, .port = from->port };
        bool names_host = false;
        int r = 0;

        if (*colon == ':' && colon > location) {
                r = follow_absolute(location, &place, err);
                names_host = true;
        } else if (str_starts(location, "//")) {
                with_scheme = str_format("%s:%s", from->https ? "https" : "http", location);
                r = with_scheme ? follow_absolute(with_scheme, &place, err) : kl_error_oom(err);
                names_host = true;
        } else {
                place.host = strdup(from->host);
                place.target = resolve_target(from->target, location);
                if (!place.host || !place.target)
                        r = kl_error_oom(err);
        }
        if (r < 0) {
                http_place_deinit(&place);
                return r;
        }
        *ret = place;
        return names_host;
}

void http_place_deinit(HttpPlace *place)
{
        free(place->host);
        free(place->target);
        *place = (HttpPlace){ 0 };
}
