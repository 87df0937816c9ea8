/* SPDX-License-Identifier: Apache-2.0 */

/* What the proxy settings mean: URLs of HTTP proxies, and NO_PROXY as Go reads it. */

#include "net/conn-internal.h"
#include "net/url.h"

#include "base/buf.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <strings.h>

ConnProxy *conn_proxy_free(ConnProxy *proxy)
{
        if (proxy) {
                free(proxy->host);
                free(proxy->authorization);
                free(proxy);
        }
        return NULL;
}

static char *basic_authorization(const char *userinfo)
{
        size_t len = strlen(userinfo);
        KL_AUTOFREE char *encoded = malloc(4 * ((len + 2) / 3) + 1);

        if (!encoded)
                return NULL;
        EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)userinfo, (int)len);
        return str_format("Basic %s", encoded);
}

int conn_proxy_parse(const char *url, ConnProxy **ret, KlError **err)
{
        KL_AUTO(conn_proxy_free) ConnProxy *proxy = calloc(1, sizeof(*proxy));
        KL_AUTOFREE char *whole =
                strchr(url, ':') && strstr(url, "://") ? strdup(url) : str_format("http://%s", url);
        KL_AUTO(url_free) Url *parsed = NULL;
        int r;

        if (!proxy || !whole)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = url_parse(whole, &parsed, err);
        if (r < 0)
                return kl_error_wrap(err, r, "proxy");
        if (!str_eq(parsed->scheme, "http"))
                return kl_error(err, -EPROTONOSUPPORT, NULL,
                                "proxy: only http:// proxies are supported, not %s://",
                                parsed->scheme);
        proxy->port = parsed->port;
        proxy->host = KL_STEAL(parsed->host);
        if (parsed->userinfo) {
                proxy->authorization = basic_authorization(parsed->userinfo);
                if (!proxy->authorization)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        *ret = KL_STEAL(proxy);
        return 0;
}

static size_t address_bytes(const char *text, unsigned char ret[static 16])
{
        if (inet_pton(AF_INET, text, ret) == 1)
                return 4;
        return inet_pton(AF_INET6, text, ret) == 1 ? 16 : 0;
}

static bool cidr_holds(char *cidr, const char *host)
{
        char *slash = strchr(cidr, '/');
        unsigned char net[16], addr[16];
        uint64_t bits;
        size_t n;

        *slash = '\0';
        n = address_bytes(cidr, net);
        if (n == 0 || address_bytes(host, addr) != n || str_to_u64(slash + 1, n * 8, &bits) < 0)
                return false;
        for (size_t i = 0; i < bits; i++)
                if ((net[i / 8] ^ addr[i / 8]) & (0x80 >> i % 8))
                        return false;
        return true;
}

/* "example.com" and ".example.com" both hold for its subdomains, the former for itself too. */
static bool name_holds(const char *entry, const char *host)
{
        size_t len, host_len = strlen(host);
        bool itself = true;

        if (entry[0] == '*' && entry[1] == '.')
                entry++;
        if (entry[0] == '.') {
                entry++;
                itself = false;
        }
        len = strlen(entry);
        if (len == 0 || len > host_len || strcasecmp(host + host_len - len, entry) != 0)
                return false;
        return len == host_len ? itself : host[host_len - len - 1] == '.';
}

/* "name:443" is for that port only; splits it off, 0 for none. */
static uint16_t split_port(char *entry)
{
        char *colon = strrchr(entry, ':');
        uint64_t port;

        if (!colon || strchr(entry, ':') != colon || str_to_u64(colon + 1, UINT16_MAX, &port) < 0)
                return 0;
        *colon = '\0';
        return (uint16_t)port;
}

static bool entry_holds(char *entry, const char *host, uint16_t port)
{
        uint16_t only;

        entry += strspn(entry, " \t");
        entry[strcspn(entry, " \t")] = '\0';
        if (str_eq(entry, "*"))
                return true;
        if (strchr(entry, '/'))
                return cidr_holds(entry, host);
        only = split_port(entry);
        return (only == 0 || only == port) && name_holds(entry, host);
}

/* Loopback is never reached through a proxy, as in Go. */
bool conn_proxy_excepts(const char *no_proxy, const char *host, uint16_t port)
{
        KL_AUTOSTRV entries = str_empty(no_proxy) ? NULL : strv_split(no_proxy, ',');

        if (strcasecmp(host, "localhost") == 0 || str_starts(host, "127.") || str_eq(host, "::1"))
                return true;
        for (size_t i = 0; i < strv_len(entries); i++)
                if (entry_holds(entries[i], host, port))
                        return true;
        return false;
}
