/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_PLUGINS_PORTMAP_H
#define KUBELITE_CNI_PLUGINS_PORTMAP_H

#include "cni/plugins/plugin.h"
#include "cni/plugins/rules.h"

#include <net/if.h>

/* portmap: ports of the node that lead to ports of the container. A chained plugin. */
extern const PluginOps portmap_ops;

#define PORTMAP_MAPPINGS_MAX 512
#define PORTMAP_CONDITIONS_MAX 16

typedef struct PortMapping {
        uint16_t host_port, container_port;
        uint8_t protocol;
        IpAddress host_ip; /* AF_UNSPEC: any */
} PortMapping;

typedef enum ConditionKind {
        CONDITION_SOURCE,
        CONDITION_DESTINATION,
        CONDITION_IIFNAME
} ConditionKind;

typedef struct Condition {
        ConditionKind kind;
        bool negate;
        IpPrefix prefix;
        char link[IFNAMSIZ];
} Condition;

typedef struct Conditions {
        Condition list[PORTMAP_CONDITIONS_MAX];
        size_t n;
} Conditions;

typedef struct PortmapConfig {
        bool snat, masquerade_all;
        Conditions conditions_v4, conditions_v6;
        PortMapping *mappings;
        size_t n_mappings;
} PortmapConfig;

int portmap_config_parse(const PluginCall *call, PortmapConfig *ret, KlError **err);

/*
 * Conditions as words: nftables' (`ip saddr != 10.0.0.0/8`, `iifname eth0`) or iptables'
 * (`! -s 10.0.0.0/8`, `-i eth0`). PLUGIN_CONFIG for anything else.
 */
int conditions_parse(char *const *texts, int family, Conditions *ret, KlError **err);

extern const RuleTable portmap_table;

typedef struct PortmapRules {
        const PortmapConfig *config;
        const char *owner;
        IpAddress v4, v6;    /* of the container; AF_UNSPEC: none */
        char link[IFNAMSIZ]; /* leads to v4, "" if unknown */
} PortmapRules;

/* How many rules portmap_rules_add makes. */
size_t portmap_rules_expected(const PortmapRules *rules);
int portmap_rules_add(Nft *nft, const PortmapRules *rules, KlError **err);

/* Whether a mapping is for this family. */
bool portmap_applies(const PortMapping *mapping, int family);

/*
 * Forgets the connections of UDP ports: packets of a flow that the kernel already knows do not ask
 * the rules again. -errno, which is no reason to fail.
 */
int conntrack_forget_udp(const PortMapping *mappings, size_t n);

#endif
