/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Results in and out. Version 1.0.0 dropped the "version" member of addresses; 1.1.0 added the
 * properties of routes, which older runtimes would not expect.
 */

#include "cni/plugins/result.h"

#include "base/str.h"
#include "codec/json.h"

static int parse_ip_member(const Field *object, const char *key, Arena *arena, IpAddress *ret,
                           KlError **err)
{
        Field f = field_get(object, key);
        char *text = NULL;
        int r = field_str(object, key, arena, &text, err);

        if (r < 0 || str_empty(text))
                return r;
        return ip_parse(text, ret) < 0 ? field_error(&f, err, "'%s' is not an address", text) : 0;
}

static int parse_prefix_member(const Field *object, const char *key, Arena *arena, IpPrefix *ret,
                               KlError **err)
{
        Field f = field_get(object, key);
        char *text = NULL;
        int r = field_str(object, key, arena, &text, err);

        if (r < 0)
                return r;
        if (!text)
                return field_error(&f, err, "is required");
        if (ip_prefix_parse(text, ret) < 0)
                return field_error(&f, err, "'%s' is not an address with a prefix length", text);
        return 0;
}

int result_parse_route(const Field *f, Arena *arena, ResultRoute *ret, KlError **err)
{
        ResultRoute route = { .mtu = -1, .advmss = -1, .priority = -1, .table = -1, .scope = -1 };
        int r;

        r = parse_prefix_member(f, "dst", arena, &route.dst, err);
        if (r == 0)
                r = parse_ip_member(f, "gw", arena, &route.gw, err);
        if (r == 0)
                r = field_int(f, "mtu", 0, INT32_MAX, &route.mtu, err);
        if (r == 0)
                r = field_int(f, "advmss", 0, INT32_MAX, &route.advmss, err);
        if (r == 0)
                r = field_int(f, "priority", 0, UINT32_MAX, &route.priority, err);
        if (r == 0)
                r = field_int(f, "table", 0, UINT32_MAX, &route.table, err);
        if (r == 0)
                r = field_int(f, "scope", 0, 255, &route.scope, err);
        if (r == 0 && route.gw.family != AF_UNSPEC && route.gw.family != route.dst.ip.family)
                r = field_error(f, err, "gw is of another family than dst");
        if (r == 0)
                *ret = route;
        return r;
}

int result_parse_dns(const Field *f, Arena *arena, ResultDns *ret, KlError **err)
{
        char *domain = NULL;
        int r;

        r = field_strv(f, "nameservers", arena, &ret->nameservers, err);
        if (r == 0)
                r = field_str(f, "domain", arena, &domain, err);
        if (r == 0)
                r = field_strv(f, "search", arena, &ret->search, err);
        if (r == 0)
                r = field_strv(f, "options", arena, &ret->options, err);
        ret->domain = domain;
        return r;
}

bool result_dns_is_set(const ResultDns *dns)
{
        return dns->nameservers || dns->search || dns->options || !str_empty(dns->domain);
}

static int parse_interface(const Field *f, Arena *arena, ResultInterface *ret, KlError **err)
{
        char *name = NULL, *mac = NULL, *sandbox = NULL;
        int r;

        r = field_str(f, "name", arena, &name, err);
        if (r == 0)
                r = field_str(f, "mac", arena, &mac, err);
        if (r == 0)
                r = field_str(f, "sandbox", arena, &sandbox, err);
        if (r == 0 && !name)
                r = field_error(f, err, "has no name");
        *ret = (ResultInterface){ name, mac, sandbox };
        return r;
}

static int parse_ip(const Field *f, Arena *arena, ResultIp *ret, KlError **err)
{
        int r;

        *ret = (ResultIp){ .interface = -1 };
        r = parse_prefix_member(f, "address", arena, &ret->address, err);
        if (r == 0)
                r = parse_ip_member(f, "gateway", arena, &ret->gateway, err);
        if (r == 0)
                r = field_int(f, "interface", 0, INT32_MAX, &ret->interface, err);
        return r;
}

static int parse_interfaces(const Field *root, Arena *arena, Result *ret, KlError **err)
{
        Field list;
        int r = field_array(root, "interfaces", RESULT_INTERFACES_MAX, &list, &ret->n_interfaces,
                            err);

        if (r < 0)
                return r;
        ret->interfaces = ARENA_ARRAY(arena, ret->n_interfaces + 1, ResultInterface);
        if (!ret->interfaces)
                return -ENOMEM;
        for (size_t i = 0; r == 0 && i < ret->n_interfaces; i++) {
                Field f = field_at(&list, i);

                r = parse_interface(&f, arena, &ret->interfaces[i], err);
        }
        return r;
}

static int parse_ips(const Field *root, Arena *arena, Result *ret, KlError **err)
{
        Field list;
        int r = field_array(root, "ips", RESULT_IPS_MAX, &list, &ret->n_ips, err);

        if (r < 0)
                return r;
        ret->ips = ARENA_ARRAY(arena, ret->n_ips + 1, ResultIp);
        if (!ret->ips)
                return -ENOMEM;
        for (size_t i = 0; r == 0 && i < ret->n_ips; i++) {
                Field f = field_at(&list, i);

                r = parse_ip(&f, arena, &ret->ips[i], err);
        }
        return r;
}

static int parse_routes(const Field *root, Arena *arena, Result *ret, KlError **err)
{
        Field list;
        int r = field_array(root, "routes", RESULT_ROUTES_MAX, &list, &ret->n_routes, err);

        if (r < 0)
                return r;
        ret->routes = ARENA_ARRAY(arena, ret->n_routes + 1, ResultRoute);
        if (!ret->routes)
                return -ENOMEM;
        for (size_t i = 0; r == 0 && i < ret->n_routes; i++) {
                Field f = field_at(&list, i);

                r = result_parse_route(&f, arena, &ret->routes[i], err);
        }
        return r;
}

int result_parse(const Value *v, Arena *arena, Result *ret, KlError **err)
{
        Field root = field_root(v), dns;
        Result result = { 0 };
        int r;

        if (value_type(v) != VALUE_OBJECT)
                return kl_error(err, -EINVAL, NULL, "the result is not an object");
        r = parse_interfaces(&root, arena, &result, err);
        if (r == 0)
                r = parse_ips(&root, arena, &result, err);
        if (r == 0)
                r = parse_routes(&root, arena, &result, err);
        if (r < 0)
                return r;
        r = field_object(&root, "dns", &dns, err);
        if (r == 0)
                r = result_parse_dns(&dns, arena, &result.dns, err);
        if (r < 0)
                return r;
        *ret = result;
        return 0;
}

/* --- writing --- */

static void write_route_number(JsonWriter *w, const char *key, int64_t value)
{
        if (value >= 0)
                jw_kint(w, key, value);
}

static void write_route(JsonWriter *w, const ResultRoute *route, PluginVersion version)
{
        char text[IP_PREFIX_TEXT_SIZE];

        jw_object(w);
        jw_kstr(w, "dst", ip_prefix_format(&route->dst, text));
        if (route->gw.family != AF_UNSPEC)
                jw_kstr(w, "gw", ip_format(&route->gw, text));
        if (version >= PLUGIN_1_1_0) {
                write_route_number(w, "mtu", route->mtu);
                write_route_number(w, "advmss", route->advmss);
                write_route_number(w, "priority", route->priority);
                write_route_number(w, "table", route->table);
                write_route_number(w, "scope", route->scope);
        }
        jw_end(w);
}

static void write_ip(JsonWriter *w, const ResultIp *ip, PluginVersion version)
{
        char text[IP_PREFIX_TEXT_SIZE];

        jw_object(w);
        if (version < PLUGIN_1_0_0)
                jw_kstr(w, "version", ip->address.ip.family == AF_INET6 ? "6" : "4");
        if (ip->interface >= 0)
                jw_kint(w, "interface", ip->interface);
        jw_kstr(w, "address", ip_prefix_format(&ip->address, text));
        if (ip->gateway.family != AF_UNSPEC)
                jw_kstr(w, "gateway", ip_format(&ip->gateway, text));
        jw_end(w);
}

static void write_dns(JsonWriter *w, const ResultDns *dns)
{
        jw_kobject(w, "dns");
        if (dns->nameservers)
                jw_kstrv(w, "nameservers", dns->nameservers);
        jw_kstr_opt(w, "domain", dns->domain);
        if (dns->search)
                jw_kstrv(w, "search", dns->search);
        if (dns->options)
                jw_kstrv(w, "options", dns->options);
        jw_end(w);
}

void result_write(const Result *result, PluginVersion version, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);

        jw_object(&w);
        jw_kstr(&w, "cniVersion", plugin_version_text(version));
        if (result->n_interfaces > 0) {
                jw_karray(&w, "interfaces");
                for (size_t i = 0; i < result->n_interfaces; i++) {
                        jw_object(&w);
                        jw_kstr(&w, "name", result->interfaces[i].name);
                        jw_kstr_opt(&w, "mac", result->interfaces[i].mac);
                        jw_kstr_opt(&w, "sandbox", result->interfaces[i].sandbox);
                        jw_end(&w);
                }
                jw_end(&w);
        }
        if (result->n_ips > 0) {
                jw_karray(&w, "ips");
                for (size_t i = 0; i < result->n_ips; i++)
                        write_ip(&w, &result->ips[i], version);
                jw_end(&w);
        }
        if (result->n_routes > 0) {
                jw_karray(&w, "routes");
                for (size_t i = 0; i < result->n_routes; i++)
                        write_route(&w, &result->routes[i], version);
                jw_end(&w);
        }
        write_dns(&w, &result->dns);
        jw_end(&w);
}
