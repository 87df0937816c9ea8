/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_PLUGINS_RESULT_H
#define KUBELITE_CNI_PLUGINS_RESULT_H

#include "cni/plugins/address.h"
#include "cni/plugins/plugin.h"

/* The result of ADD. Everything is borrowed from an arena or a configuration. */

#define RESULT_INTERFACES_MAX 64
#define RESULT_IPS_MAX 64
#define RESULT_ROUTES_MAX 1024

typedef struct ResultInterface {
        const char *name, *mac, *sandbox; /* mac, sandbox: NULL if there is none */
} ResultInterface;

typedef struct ResultIp {
        IpPrefix address;
        IpAddress gateway; /* AF_UNSPEC: none */
        int64_t interface; /* -1: none */
} ResultIp;

/* -1: not given */
typedef struct ResultRoute {
        IpPrefix dst;
        IpAddress gw;
        int64_t mtu, advmss, priority, table, scope;
} ResultRoute;

typedef struct ResultDns {
        char **nameservers, **search, **options; /* NULL: none */
        const char *domain;
} ResultDns;

typedef struct Result {
        ResultInterface *interfaces;
        ResultIp *ips;
        ResultRoute *routes;
        size_t n_interfaces, n_ips, n_routes;
        ResultDns dns;
} Result;

/* Of any version from 0.3.0 on. -EINVAL with the path of what is wrong. */
int result_parse(const Value *v, Arena *arena, Result *ret, KlError **err);
void result_write(const Result *result, PluginVersion version, Buf *to);

int result_parse_route(const Field *f, Arena *arena, ResultRoute *ret, KlError **err);
int result_parse_dns(const Field *f, Arena *arena, ResultDns *ret, KlError **err);
bool result_dns_is_set(const ResultDns *dns);

#endif
