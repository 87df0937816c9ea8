/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What plugins print: results, errors, version information. All of it is foreign text of bounded
 * size (the worker's limit).
 *
 * Results have three shapes. Up to 0.2.0: ip4 and ip6 objects. 0.3.0 to 0.4.0: interfaces, ips
 * (each with "version": "4" or "6"), routes. From 1.0.0 without that "version"; 1.1.0 adds members
 * to interfaces and routes. An older reader skips members that it does not know, so only the shapes
 * are converted.
 */

#include "cni/cni-result.h"

#include "base/str.h"
#include "codec/json.h"

#include <arpa/inet.h>

/* "10.0.0.5/24" -> "10.0.0.5" in out; the address family, or 0 when it is no address. */
static int split_cidr(const char *cidr, char *out, size_t size)
{
        const char *slash = cidr ? strchr(cidr, '/') : NULL;
        size_t len = slash ? (size_t)(slash - cidr) : cidr ? strlen(cidr) : 0;
        unsigned char addr[16];
        uint64_t prefix;

        if (len == 0 || len >= size)
                return 0;
        memcpy(out, cidr, len);
        out[len] = '\0';
        if (inet_pton(AF_INET, out, addr) == 1)
                return !slash || str_to_u64(slash + 1, 32, &prefix) == 0 ? AF_INET : 0;
        if (inet_pton(AF_INET6, out, addr) == 1)
                return !slash || str_to_u64(slash + 1, 128, &prefix) == 0 ? AF_INET6 : 0;
        return 0;
}

/* --- conversion --- */

static void copy_member(JsonWriter *w, const Value *object, const char *key)
{
        const Value *v = value_get(object, key);

        if (v && value_type(v) != VALUE_NULL) {
                jw_key(w, key);
                jw_value(w, v);
        }
}

static void write_ip(JsonWriter *w, const Value *ip, CniVersion to)
{
        char addr[INET6_ADDRSTRLEN];
        int family = split_cidr(value_get_str(ip, "address"), addr, sizeof(addr));
        const Value *child;
        const char *key;

        jw_object(w);
        if (to < CNI_1_0_0)
                jw_kstr(w, "version", family == AF_INET6 ? "6" : "4");
        for (void *it = NULL; value_next(ip, &it, &key, &child);)
                if (!str_eq(key, "version")) {
                        jw_key(w, key);
                        jw_value(w, child);
                }
        jw_end(w);
}

static void write_new_shape(JsonWriter *w, const Value *root, CniVersion to)
{
        const Value *ips = value_get(root, "ips"), *child;
        const char *key;

        for (void *it = NULL; value_next(root, &it, &key, &child);)
                if (!str_eq(key, "cniVersion") && !str_eq(key, "ips")) {
                        jw_key(w, key);
                        jw_value(w, child);
                }
        if (value_type(ips) != VALUE_ARRAY)
                return;
        jw_karray(w, "ips");
        for (size_t i = 0; i < value_len(ips); i++)
                write_ip(w, value_at(ips, i), to);
        jw_end(w);
}

static void write_old_as_new(JsonWriter *w, const Value *root, CniVersion to)
{
        static const char *const families[][2] = { { "ip4", "4" }, { "ip6", "6" } };

        jw_karray(w, "ips");
        for (size_t i = 0; i < ELEMENTS(families); i++) {
                const Value *ip = value_get(root, families[i][0]);

                if (!value_get_str(ip, "ip"))
                        continue;
                jw_object(w);
                if (to < CNI_1_0_0)
                        jw_kstr(w, "version", families[i][1]);
                jw_kstr(w, "address", value_get_str(ip, "ip"));
                copy_member(w, ip, "gateway");
                jw_end(w);
        }
        jw_end(w);
        jw_karray(w, "routes");
        for (size_t i = 0; i < ELEMENTS(families); i++) {
                const Value *routes = value_path(value_get(root, families[i][0]), "routes");

                for (size_t j = 0; j < value_len(routes); j++)
                        jw_value(w, value_at(routes, j));
        }
        jw_end(w);
        copy_member(w, root, "dns");
}

static void write_old_family(JsonWriter *w, const Value *root, const char *key, int family)
{
        const Value *ips = value_get(root, "ips"), *routes = value_get(root, "routes");
        char addr[INET6_ADDRSTRLEN];

        for (size_t i = 0; i < value_len(ips); i++) {
                const Value *ip = value_at(ips, i);

                if (split_cidr(value_get_str(ip, "address"), addr, sizeof(addr)) != family)
                        continue;
                jw_kobject(w, key);
                jw_kstr(w, "ip", value_get_str(ip, "address"));
                copy_member(w, ip, "gateway");
                jw_karray(w, "routes");
                for (size_t j = 0; j < value_len(routes); j++) {
                        const Value *route = value_at(routes, j);

                        if (split_cidr(value_get_str(route, "dst"), addr, sizeof(addr)) == family)
                                jw_value(w, route);
                }
                jw_end(w);
                jw_end(w);
                return;
        }
}

static void write_new_as_old(JsonWriter *w, const Value *root)
{
        write_old_family(w, root, "ip4", AF_INET);
        write_old_family(w, root, "ip6", AF_INET6);
        copy_member(w, root, "dns");
}

int cni_result_convert(const char *json, size_t len, CniVersion version, Buf *to, KlError **err)
{
        KL_AUTO(value_free) Value *root = NULL;
        JsonWriter w = JSON_WRITER(to);
        CniVersion from = version;
        const char *named;
        int r;

        r = json_parse(json, len, &root, err);
        if (r < 0)
                return r;
        if (value_type(root) != VALUE_OBJECT)
                return kl_error(err, -EINVAL, NULL, "the result is no object");
        named = value_get_str(root, "cniVersion");
        if (!str_empty(named) && cni_version_parse(named, &from) < 0)
                return kl_error(err, -EINVAL, NULL, "the result is of version '%s'", named);
        jw_object(&w);
        jw_kstr(&w, "cniVersion", cni_versions[version]);
        if (from >= CNI_0_3_0 && version >= CNI_0_3_0)
                write_new_shape(&w, root, version);
        else if (version >= CNI_0_3_0)
                write_old_as_new(&w, root, version);
        else if (from >= CNI_0_3_0)
                write_new_as_old(&w, root);
        else
                for (size_t i = 0; i < 3; i++)
                        copy_member(&w, root, (const char *const[]){ "ip4", "ip6", "dns" }[i]);
        jw_end(&w);
        return buf_error(to) ? kl_error(err, -ENOMEM, NULL, "out of memory") : 0;
}

/* --- addresses --- */

typedef enum IpMatch { IP_NONE, IP_NO_INTERFACE, IP_IN_SANDBOX, IP_OF_INTERFACE } IpMatch;

static IpMatch match_ip(const Value *root, const Value *ip, const char *ifname)
{
        const Value *index = value_get(ip, "interface"), *interface;
        int64_t i = value_int(index, -1);

        if (!index || value_type(index) == VALUE_NULL)
                return IP_NO_INTERFACE;
        interface = i >= 0 ? value_at(value_get(root, "interfaces"), (size_t)i) : NULL;
        if (!interface || str_empty(value_get_str(interface, "sandbox")))
                return IP_NONE;
        return str_eq(value_get_str(interface, "name"), ifname) ? IP_OF_INTERFACE : IP_IN_SANDBOX;
}

static int add_ip(char ***ips, const char *cidr, KlError **err)
{
        char addr[INET6_ADDRSTRLEN];

        if (!split_cidr(cidr, addr, sizeof(addr)))
                return kl_error(err, -EINVAL, NULL, "the result's address '%s' is none",
                                cidr ? cidr : "");
        if (strv_add(ips, addr) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        return 0;
}

static int collect_ips(const Value *root, const char *ifname, char ***ips, KlError **err)
{
        const Value *list = value_get(root, "ips");
        size_t n = value_len(list) < CNI_IPS_MAX ? value_len(list) : CNI_IPS_MAX;
        IpMatch best = IP_NO_INTERFACE;
        int r = 0;

        for (size_t i = 0; i < n; i++) {
                IpMatch m = match_ip(root, value_at(list, i), ifname);

                best = m > best ? m : best;
        }
        for (size_t i = 0; r == 0 && i < n; i++)
                if (match_ip(root, value_at(list, i), ifname) == best)
                        r = add_ip(ips, value_get_str(value_at(list, i), "address"), err);
        for (size_t i = 0; r == 0 && i < 2; i++) {
                const Value *old = value_get(root, i == 0 ? "ip4" : "ip6");

                if (old && value_type(old) != VALUE_NULL)
                        r = add_ip(ips, value_get_str(old, "ip"), err);
        }
        return r;
}

CniResult *cni_result_free(CniResult *result)
{
        if (!result)
                return NULL;
        strv_free((char **)result->ips);
        free((char *)result->json);
        free(result);
        return NULL;
}

int cni_result_parse(const char *json, const char *ifname, CniResult **ret, KlError **err)
{
        KL_AUTO(cni_result_free) CniResult *result = calloc(1, sizeof(*result));
        KL_AUTO(value_free) Value *root = NULL;
        KL_AUTOSTRV ips = NULL;
        int r;

        if (!result)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = json_parse(json, strlen(json), &root, err);
        if (r == 0)
                r = collect_ips(root, ifname, &ips, err);
        if (r < 0)
                return r;
        if (!ips)
                ips = calloc(1, sizeof(*ips));
        result->ips = KL_STEAL(ips);
        result->json = strdup(json);
        if (!result->ips || !result->json)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *ret = KL_STEAL(result);
        return 0;
}

/* --- errors and versions --- */

int cni_error_parse(const char *json, size_t len, int *ret_code, char **ret_text, KlError **err)
{
        KL_AUTO(value_free) Value *root = NULL;
        const char *msg, *details;
        int64_t code;
        int r;

        r = json_parse(json, len, &root, err);
        if (r < 0)
                return r;
        if (value_type(root) != VALUE_OBJECT)
                return kl_error(err, -EINVAL, NULL, "expected an object");
        msg = value_get_str(root, "msg");
        details = value_get_str(root, "details");
        code = value_int(value_get(root, "code"), 0);
        *ret_text = str_format("%s%s%s", msg ? msg : "", str_empty(details) ? "" : "; ",
                               details ? details : "");
        if (!*ret_text)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *ret_code = code > 0 && code < INT32_MAX ? (int)code : 0;
        return 0;
}

int cni_version_info_parse(const char *json, size_t len, unsigned int *ret, KlError **err)
{
        KL_AUTO(value_free) Value *root = NULL;
        const Value *versions;
        unsigned int set = 0;
        CniVersion v;
        int r;

        r = json_parse(json, len, &root, err);
        if (r < 0)
                return r;
        versions = value_get(root, "supportedVersions");
        for (size_t i = 0; i < value_len(versions); i++)
                if (cni_version_parse(value_str(value_at(versions, i)), &v) == 0)
                        set |= 1u << v;
        if (!set)
                return kl_error(err, -EINVAL, NULL, "it names no version");
        *ret = set;
        return 0;
}
