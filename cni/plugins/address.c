/* SPDX-License-Identifier: Apache-2.0 */

/* Addresses as plain values: nothing here allocates or does I/O. */

#include "cni/plugins/address.h"

#include "base/str.h"

size_t ip_size(const IpAddress *ip)
{
        return ip->family == AF_INET6 ? 16 : ip->family == AF_INET ? 4 : 0;
}

unsigned int ip_bits(const IpAddress *ip)
{
        return (unsigned int)ip_size(ip) * 8;
}

static void unmap_v4(IpAddress *ip)
{
        static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

        if (ip->family != AF_INET6 || memcmp(ip->bytes, mapped, sizeof(mapped)) != 0)
                return;
        memmove(ip->bytes, ip->bytes + 12, 4);
        memset(ip->bytes + 4, 0, 12);
        ip->family = AF_INET;
}

int ip_parse(const char *text, IpAddress *ret)
{
        IpAddress ip = { .family = strchr(text, ':') ? AF_INET6 : AF_INET };

        if (inet_pton(ip.family, text, ip.bytes) != 1)
                return -EINVAL;
        unmap_v4(&ip);
        *ret = ip;
        return 0;
}

int ip_prefix_parse(const char *text, IpPrefix *ret)
{
        const char *slash = strchr(text, '/');
        char address[IP_TEXT_SIZE];
        IpPrefix prefix;
        uint64_t len;

        if (!slash || (size_t)(slash - text) >= sizeof(address))
                return -EINVAL;
        memcpy(address, text, (size_t)(slash - text));
        address[slash - text] = '\0';
        if (ip_parse(address, &prefix.ip) < 0 ||
            str_to_u64(slash + 1, ip_bits(&prefix.ip), &len) < 0)
                return -EINVAL;
        prefix.len = (unsigned int)len;
        *ret = prefix;
        return 0;
}

const char *ip_format(const IpAddress *ip, char to[static IP_TEXT_SIZE])
{
        if (!inet_ntop(ip->family, ip->bytes, to, IP_TEXT_SIZE))
                to[0] = '\0';
        return to;
}

const char *ip_prefix_format(const IpPrefix *prefix, char to[static IP_PREFIX_TEXT_SIZE])
{
        char address[IP_TEXT_SIZE];

        snprintf(to, IP_PREFIX_TEXT_SIZE, "%s/%u", ip_format(&prefix->ip, address), prefix->len);
        return to;
}

int ip_compare(const IpAddress *a, const IpAddress *b)
{
        if (a->family != b->family)
                return a->family < b->family ? -1 : 1;
        return memcmp(a->bytes, b->bytes, ip_size(a));
}

bool ip_equal(const IpAddress *a, const IpAddress *b)
{
        return ip_compare(a, b) == 0;
}

bool ip_is_zero(const IpAddress *ip)
{
        for (size_t i = 0; i < ip_size(ip); i++)
                if (ip->bytes[i])
                        return false;
        return true;
}

IpAddress ip_next(const IpAddress *ip)
{
        IpAddress next = *ip;

        for (size_t i = ip_size(ip); i-- > 0;)
                if (++next.bytes[i] != 0)
                        break;
        return next;
}

/* The bits of byte i that belong to the network. */
static uint8_t prefix_mask(const IpPrefix *prefix, size_t i)
{
        unsigned int before = (unsigned int)i * 8;

        if (prefix->len >= before + 8)
                return 0xff;
        if (prefix->len <= before)
                return 0;
        return (uint8_t)(0xff << (8 - (prefix->len - before)));
}

IpAddress ip_prefix_first(const IpPrefix *prefix)
{
        IpAddress first = prefix->ip;

        for (size_t i = 0; i < ip_size(&first); i++)
                first.bytes[i] &= prefix_mask(prefix, i);
        return first;
}

IpAddress ip_prefix_last(const IpPrefix *prefix)
{
        IpAddress last = prefix->ip;

        for (size_t i = 0; i < ip_size(&last); i++)
                last.bytes[i] |= (uint8_t)~prefix_mask(prefix, i);
        return last;
}

bool ip_prefix_contains(const IpPrefix *prefix, const IpAddress *ip)
{
        IpPrefix other = { *ip, prefix->len };
        IpAddress a, b;

        if (ip->family != prefix->ip.family)
                return false;
        a = ip_prefix_first(prefix);
        b = ip_prefix_first(&other);
        return ip_equal(&a, &b);
}
