/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_PLUGINS_ADDRESS_H
#define KUBELITE_CNI_PLUGINS_ADDRESS_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* IPv4 and IPv6 addresses. A v4-mapped IPv6 address is read as the IPv4 address that it means. */
typedef struct IpAddress {
        int family; /* AF_INET, AF_INET6; AF_UNSPEC: none */
        uint8_t bytes[16];
} IpAddress;

/* An address with the length of its network: 10.1.2.3/24. */
typedef struct IpPrefix {
        IpAddress ip;
        unsigned int len;
} IpPrefix;

#define IP_TEXT_SIZE INET6_ADDRSTRLEN
#define IP_PREFIX_TEXT_SIZE (INET6_ADDRSTRLEN + 4)

/* 0 or -EINVAL. */
int ip_parse(const char *text, IpAddress *ret);
int ip_prefix_parse(const char *text, IpPrefix *ret);

/* Both return `to`. */
const char *ip_format(const IpAddress *ip, char to[static IP_TEXT_SIZE]);
const char *ip_prefix_format(const IpPrefix *prefix, char to[static IP_PREFIX_TEXT_SIZE]);

/* 4 or 16 bytes, 32 or 128 bits. */
size_t ip_size(const IpAddress *ip);
unsigned int ip_bits(const IpAddress *ip);

/* Order by family, then numerically. */
int ip_compare(const IpAddress *a, const IpAddress *b);
bool ip_equal(const IpAddress *a, const IpAddress *b);
bool ip_is_zero(const IpAddress *ip);

/* The following address; wraps around at the end. */
IpAddress ip_next(const IpAddress *ip);

/* First and last address of the network that the prefix is in. */
IpAddress ip_prefix_first(const IpPrefix *prefix);
IpAddress ip_prefix_last(const IpPrefix *prefix);
bool ip_prefix_contains(const IpPrefix *prefix, const IpAddress *ip);

#endif
