/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_PLUGINS_BRIDGE_H
#define KUBELITE_CNI_PLUGINS_BRIDGE_H

#include "cni/plugins/netlink.h"
#include "cni/plugins/plugin.h"
#include "cni/plugins/result.h"

/* bridge: a veth pair from the container into a bridge of the node. */
extern const PluginOps bridge_ops;

#define BRIDGE_DEFAULT_NAME "cni0"
/* Names tried for the node's end of the pair before giving up. */
#define BRIDGE_VETH_NAMES 8

typedef struct BridgeConfig {
        const char *bridge;
        const char *ipam; /* NULL: layer 2 only */
        uint32_t mtu;     /* 0: default */
        bool is_gateway, is_default_gateway, force_address, ip_masq;
        bool hairpin, promiscuous, isolated, dad, link_down;
        bool has_mac;
        uint8_t mac[MAC_SIZE];
        ResultDns dns;
} BridgeConfig;

int bridge_config_parse(const PluginCall *call, BridgeConfig *ret, KlError **err);

/* The n-th name for the node's end of the owner's pair. */
void bridge_veth_name(const char *owner, unsigned int n, char to[static IFNAMSIZ]);
/* The node's end; told by the alias, which holds the owner. -ENODEV if there is none. */
int bridge_veth_find(Rtnl *rtnl, const char *owner, LinkInfo *ret);

int bridge_add(const PluginCall *call, Buf *to, KlError **err);
int bridge_check(const PluginCall *call, KlError **err);

#endif
