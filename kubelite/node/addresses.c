/* SPDX-License-Identifier: Apache-2.0 */

/* The node's own addresses: asked for, or those of the default route's interface. */

#include "node/facts.h"

#include "base/file.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>

#define ROUTES_MAX (1U << 20)
#define FIELDS_MAX 12

/* Splits a line at white space; returns the number of fields. */
static size_t split(char *line, char *fields[static FIELDS_MAX])
{
        char *state = NULL;
        size_t n = 0;

        for (char *p = strtok_r(line, " \t", &state); p && n < FIELDS_MAX;
             p = strtok_r(NULL, " \t", &state))
                fields[n++] = p;
        return n;
}

static bool all_zero(const char *hex)
{
        return hex[strspn(hex, "0")] == '\0';
}

static uint64_t hex_number(const char *text)
{
        uint64_t value = 0;

        for (; *text && strlen(text) <= 16; text++) {
                static const char digits[] = "0123456789abcdef";
                const char *at = strchr(digits, *text | 0x20);

                if (!at)
                        return UINT64_MAX;
                value = value * 16 + (uint64_t)(at - digits);
        }
        return *text ? UINT64_MAX : value;
}

/* Calls match for each line's fields; keeps the interface with the lowest metric. */
static int best_route(const char *route,
                      bool (*match)(char **fields, size_t n, uint64_t *metric, const char **name),
                      char ret[static FACTS_INTERFACE_SIZE])
{
        KL_AUTOSTRV lines = strv_split(route, '\n');
        uint64_t best = UINT64_MAX;

        if (!lines)
                return -ENOMEM;
        for (char **line = lines; *line; line++) {
                char *fields[FIELDS_MAX];
                const char *name;
                uint64_t metric;
                size_t n = split(*line, fields);

                if (!match(fields, n, &metric, &name) || metric >= best ||
                    strlen(name) >= FACTS_INTERFACE_SIZE)
                        continue;
                best = metric;
                snprintf(ret, FACTS_INTERFACE_SIZE, "%s", name);
        }
        return best == UINT64_MAX ? -ENOENT : 0;
}

/* Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT */
static bool match4(char **f, size_t n, uint64_t *metric, const char **name)
{
        int64_t value;

        if (n < 8 || !all_zero(f[1]) || !all_zero(f[7]) ||
            str_to_i64(f[6], 0, INT32_MAX, &value) < 0)
                return false;
        *metric = (uint64_t)value;
        *name = f[0];
        return true;
}

/* destination prefix-length source prefix-length next-hop metric refcnt use flags interface */
static bool match6(char **f, size_t n, uint64_t *metric, const char **name)
{
        if (n < 10 || !all_zero(f[0]) || !all_zero(f[1]) || str_eq(f[9], "lo"))
                return false;
        *metric = hex_number(f[5]);
        *name = f[9];
        return true;
}

int facts_default_interface(const char *route, char ret[static FACTS_INTERFACE_SIZE])
{
        return best_route(route, match4, ret);
}

int facts_default_interface6(const char *route, char ret[static FACTS_INTERFACE_SIZE])
{
        return best_route(route, match6, ret);
}

static bool global4(const struct in_addr *in)
{
        uint32_t a = ntohl(in->s_addr);

        return a >> 24 != 127 && a >> 16 != 0xa9fe && a >> 28 < 0xe && a != 0;
}

/* The address as text, if it is of that family and global. */
static bool usable(const struct ifaddrs *i, int family, char ret[static INET6_ADDRSTRLEN])
{
        if (!i->ifa_addr || i->ifa_addr->sa_family != family || !(i->ifa_flags & IFF_UP) ||
            (i->ifa_flags & IFF_LOOPBACK))
                return false;
        if (family == AF_INET) {
                const struct sockaddr_in *in =
                        (const struct sockaddr_in *)(const void *)i->ifa_addr;

                return global4(&in->sin_addr) &&
                       inet_ntop(AF_INET, &in->sin_addr, ret, INET6_ADDRSTRLEN);
        }
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)i->ifa_addr;

        return !IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) && !IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) &&
               !IN6_IS_ADDR_MULTICAST(&in6->sin6_addr) &&
               inet_ntop(AF_INET6, &in6->sin6_addr, ret, INET6_ADDRSTRLEN);
}

/* The first global address on the interface, or on any if it is NULL. */
static bool find_address(const struct ifaddrs *all, const char *interface, int family,
                         char ret[static INET6_ADDRSTRLEN])
{
        for (const struct ifaddrs *i = all; i; i = i->ifa_next)
                if ((!interface || str_eq(i->ifa_name, interface)) && usable(i, family, ret))
                        return true;
        return false;
}

static bool by_default_route(const char *prefix, const struct ifaddrs *all, int family,
                             char ret[static INET6_ADDRSTRLEN])
{
        KL_AUTOFREE char *path = NULL, *text = NULL;
        char interface[FACTS_INTERFACE_SIZE];
        size_t len;
        int r;

        path = str_format("%s/proc/net/%s", prefix, family == AF_INET ? "route" : "ipv6_route");
        if (!path || file_read(path, ROUTES_MAX, &text, &len) < 0)
                return false;
        r = family == AF_INET ? facts_default_interface(text, interface)
                              : facts_default_interface6(text, interface);
        return r >= 0 && find_address(all, interface, family, ret);
}

/* One address of the family, or of either when it is AF_UNSPEC. */
static bool find_out(const char *prefix, const struct ifaddrs *all, int family,
                     char ret[static INET6_ADDRSTRLEN])
{
        if (family != AF_UNSPEC)
                return by_default_route(prefix, all, family, ret) ||
                       find_address(all, NULL, family, ret);
        return by_default_route(prefix, all, AF_INET, ret) ||
               by_default_route(prefix, all, AF_INET6, ret) ||
               find_address(all, NULL, AF_INET, ret) || find_address(all, NULL, AF_INET6, ret);
}

static bool unspecified(const char *address)
{
        return str_eq(address, "0.0.0.0") || str_eq(address, "::");
}

static bool all_specific(char *const *asked)
{
        for (char *const *a = asked; a && *a; a++)
                if (unspecified(*a))
                        return false;
        return asked && *asked;
}

static int collect(const char *prefix, const struct ifaddrs *all, char *const *asked, char ***ret)
{
        char text[INET6_ADDRSTRLEN];
        int r = 0;

        if (!asked || !*asked)
                return find_out(prefix, all, AF_UNSPEC, text) ? strv_add(ret, text) : 0;
        for (; r >= 0 && *asked; asked++) {
                int family = strchr(*asked, ':') ? AF_INET6 : AF_INET;

                if (!unspecified(*asked))
                        r = strv_add(ret, *asked);
                else if (find_out(prefix, all, family, text))
                        r = strv_add(ret, text);
        }
        return r;
}

int facts_addresses(const char *prefix, char *const *asked, char ***ret, KlError **err)
{
        KL_AUTOSTRV found = NULL;
        struct ifaddrs *all = NULL;
        int r;

        if (!all_specific(asked) && getifaddrs(&all) < 0)
                return kl_error_errno(err, -errno, NULL, "list the machine's addresses");
        r = collect(prefix, all, asked, &found);
        freeifaddrs(all);
        if (r < 0)
                return kl_error(err, r, NULL, "out of memory");
        *ret = KL_STEAL(found);
        return 0;
}
