/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_PLUGINS_NETLINK_H
#define KUBELITE_CNI_PLUGINS_NETLINK_H

#include "cni/plugins/address.h"

#include "base/error.h"

#include <net/if.h>

/*
 * Links, addresses and routes of the network namespace that the process was in when the socket was
 * made. Changes are queued and sent together: one system call for all, answered in order.
 */
typedef struct Rtnl Rtnl;

int rtnl_open(Rtnl **ret, KlError **err);
Rtnl *rtnl_free(Rtnl *rtnl);
KL_DEFINE_CLEANUP(Rtnl *, rtnl_free);

#define LINK_ALIAS_SIZE 256
#define MAC_SIZE 6
#define MAC_TEXT_SIZE 18

typedef struct LinkInfo {
        int index, master, peer; /* 0: none */
        char name[IFNAMSIZ];
        char kind[16];
        char alias[LINK_ALIAS_SIZE];
        uint8_t mac[MAC_SIZE];
        unsigned int flags, mtu, promiscuity;
        bool oper_up;
} LinkInfo;

/* -ENODEV if there is none. */
int rtnl_link_get(Rtnl *rtnl, const char *name, LinkInfo *ret);
/* Calls func for every link; a positive or negative answer ends the walk and is returned. */
int rtnl_links(Rtnl *rtnl, int (*func)(const LinkInfo *link, void *data), void *data);

typedef struct AddressInfo {
        IpPrefix address;
        unsigned int flags;
} AddressInfo;

#define RTNL_ADDRESSES_MAX 256

/* The addresses of a link; at most max are stored, *ret_n tells how many there are. */
int rtnl_addresses(Rtnl *rtnl, int index, int family, AddressInfo *ret, size_t max, size_t *ret_n);

typedef struct RouteInfo {
        IpPrefix dst;
        IpAddress gw;
        uint32_t table, priority;
        int oif;
        bool local; /* to an address of the namespace itself */
} RouteInfo;

int rtnl_routes(Rtnl *rtnl, int family, int (*func)(const RouteInfo *route, void *data),
                void *data);
/* The route that a packet to this address would take; -ENETUNREACH or -EHOSTUNREACH if there is
 * none. */
int rtnl_route_get(Rtnl *rtnl, const IpAddress *to, RouteInfo *ret);

/* --- changes: queued until rtnl_commit --- */

typedef struct VethParams {
        const char *name, *alias;
        int master;
        const char *peer_name;
        int peer_netns;          /* descriptor */
        const uint8_t *peer_mac; /* NULL: the kernel's choice */
        uint32_t mtu;            /* 0: default */
        bool hairpin, isolated;
} VethParams;

void rtnl_add_bridge(Rtnl *rtnl, const char *name, const uint8_t mac[static MAC_SIZE],
                     uint32_t mtu);
/* The pair, this end up and in its bridge, the other in its namespace and down. */
void rtnl_add_veth(Rtnl *rtnl, const VethParams *params);
void rtnl_set_up(Rtnl *rtnl, int index, bool promiscuous);
/* Pins the address, so that a bridge keeps it when ports come and go. */
void rtnl_set_mac(Rtnl *rtnl, int index, const uint8_t mac[static MAC_SIZE]);
void rtnl_del_link(Rtnl *rtnl, int index);
void rtnl_add_address(Rtnl *rtnl, int index, const IpPrefix *address, bool dad);
void rtnl_del_address(Rtnl *rtnl, int index, const IpPrefix *address);

typedef struct RouteParams {
        IpPrefix dst;
        IpAddress gw;                                /* AF_UNSPEC: none */
        int64_t mtu, advmss, priority, table, scope; /* -1: default */
} RouteParams;

void rtnl_add_route(Rtnl *rtnl, int index, const RouteParams *route);

/* Sends what is queued; all of it is tried, the first failure is told. */
int rtnl_commit(Rtnl *rtnl, KlError **err);

/* --- hardware addresses --- */

const char *mac_format(const uint8_t mac[static MAC_SIZE], char to[static MAC_TEXT_SIZE]);
/* Unicast addresses in colon form only. 0 or -EINVAL. */
int mac_parse(const char *text, uint8_t ret[static MAC_SIZE]);
/* Random, locally administered. */
void mac_random(uint8_t ret[static MAC_SIZE]);

#endif
