/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NET_URL_H
#define KUBELITE_NET_URL_H

#include "base/error.h"

#include <stdint.h>

/* "scheme://[user[:password]@]host[:port][/path][?query]" in parts; a fragment is dropped. */
typedef struct Url {
        char *scheme;    /* lower case */
        char *userinfo;  /* percent-decoded, or NULL */
        char *host;      /* IPv6 without brackets */
        uint16_t port;   /* the scheme's (80, 443, or 0) where none is given */
        char *path;      /* with query; "" or starts with "/" */
        char *authority; /* host[:port] as Host wants it: no default port, IPv6 in brackets */
} Url;

int url_parse(const char *text, Url **ret, KlError **err);
Url *url_free(Url *url);
KL_DEFINE_CLEANUP(Url *, url_free);

#endif
