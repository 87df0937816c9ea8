/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The "ipam" member, and the addresses and ranges that the runtime asks for. host-local gets the
 * whole configuration of the plugin that calls it, so members beside "ipam" are not its business.
 */

#include "cni/plugins/host-local.h"

#include "base/file.h"
#include "base/str.h"

#define RESOLV_CONF_MAX 65536

/* --- ranges --- */

bool range_contains(const Range *range, const IpAddress *ip)
{
        return ip_prefix_contains(&range->subnet, ip) && ip_compare(ip, &range->start) >= 0 &&
               ip_compare(ip, &range->end) <= 0;
}

static int range_check_member(const Range *range, const char *name, const IpAddress *ip,
                              KlError **err)
{
        char a[IP_TEXT_SIZE], b[IP_PREFIX_TEXT_SIZE];

        if (ip_prefix_contains(&range->subnet, ip))
                return 0;
        return plugin_error(err, PLUGIN_CONFIG, "%s %s is not in the network %s", name,
                            ip_format(ip, a), ip_prefix_format(&range->subnet, b));
}

static IpAddress range_last(const Range *range)
{
        IpAddress last = ip_prefix_last(&range->subnet);

        if (last.family == AF_INET)
                last.bytes[3]--;
        return last;
}

int range_complete(Range *range, KlError **err)
{
        IpAddress network = ip_prefix_first(&range->subnet);
        char a[IP_PREFIX_TEXT_SIZE], b[IP_TEXT_SIZE];
        int r;

        if (range->subnet.len + 2 > ip_bits(&range->subnet.ip))
                return plugin_error(err, PLUGIN_CONFIG,
                                    "the network %s is too small to allocate "
                                    "from",
                                    ip_prefix_format(&range->subnet, a));
        if (!ip_equal(&network, &range->subnet.ip))
                return plugin_error(err, PLUGIN_CONFIG,
                                    "the network %s has host bits set, its "
                                    "address is %s",
                                    ip_prefix_format(&range->subnet, a), ip_format(&network, b));
        if (range->gateway.family == AF_UNSPEC)
                range->gateway = ip_next(&network);
        if (range->start.family == AF_UNSPEC)
                range->start = ip_next(&network);
        if (range->end.family == AF_UNSPEC)
                range->end = range_last(range);
        r = range_check_member(range, "rangeStart", &range->start, err);
        if (r == 0)
                r = range_check_member(range, "rangeEnd", &range->end, err);
        if (r == 0 && ip_compare(&range->start, &range->end) > 0)
                r = plugin_error(err, PLUGIN_CONFIG, "rangeStart %s is after rangeEnd",
                                 ip_format(&range->start, b));
        if (r == 0 && range->gateway.family != network.family)
                r = plugin_error(err, PLUGIN_CONFIG, "gateway %s is of another family than %s",
                                 ip_format(&range->gateway, b),
                                 ip_prefix_format(&range->subnet, a));
        return r;
}

const Range *range_set_find(const RangeSet *set, const IpAddress *ip)
{
        for (size_t i = 0; i < set->n; i++)
                if (range_contains(&set->ranges[i], ip))
                        return &set->ranges[i];
        return NULL;
}

void range_set_format(const RangeSet *set, Buf *to)
{
        char a[IP_TEXT_SIZE], b[IP_TEXT_SIZE];

        for (size_t i = 0; i < set->n; i++)
                buf_addf(to, "%s%s-%s", i > 0 ? "," : "", ip_format(&set->ranges[i].start, a),
                         ip_format(&set->ranges[i].end, b));
}

static bool ranges_overlap(const Range *a, const Range *b)
{
        return a->start.family == b->start.family && ip_compare(&a->start, &b->end) <= 0 &&
               ip_compare(&b->start, &a->end) <= 0;
}

static bool sets_overlap(const RangeSet *a, const RangeSet *b, bool same)
{
        for (size_t i = 0; i < a->n; i++)
                for (size_t k = same ? i + 1 : 0; k < b->n; k++)
                        if (ranges_overlap(&a->ranges[i], &b->ranges[k]))
                                return true;
        return false;
}

static int check_overlaps(const HostLocalConfig *config, KlError **err)
{
        for (size_t i = 0; i < config->n_sets; i++)
                for (size_t k = i; k < config->n_sets; k++)
                        if (sets_overlap(&config->sets[i], &config->sets[k], i == k))
                                return plugin_error(err, PLUGIN_CONFIG,
                                                    "range set %zu overlaps with %zu", i, k);
        return 0;
}

/* --- decoding --- */

static int parse_address(const Field *object, const char *key, Arena *arena, IpAddress *ret,
                         KlError **err)
{
        Field f = field_get(object, key);
        char *text = NULL;
        int r = field_str(object, key, arena, &text, err);

        if (r < 0 || str_empty(text))
                return r;
        return ip_parse(text, ret) < 0 ? field_error(&f, err, "'%s' is not an address", text) : 0;
}

static int parse_range(const Field *f, Arena *arena, Range *ret, KlError **err)
{
        Field subnet = field_get(f, "subnet");
        char *text = NULL;
        int r = field_str(f, "subnet", arena, &text, err);

        *ret = (Range){ 0 };
        if (r == 0 && (!text || ip_prefix_parse(text, &ret->subnet) < 0))
                r = field_error(&subnet, err, "'%s' is not a network", text ? text : "");
        if (r == 0)
                r = parse_address(f, "rangeStart", arena, &ret->start, err);
        if (r == 0)
                r = parse_address(f, "rangeEnd", arena, &ret->end, err);
        if (r == 0)
                r = parse_address(f, "gateway", arena, &ret->gateway, err);
        if (r < 0)
                return plugin_config_error(r, err);
        return range_complete(ret, err);
}

static int parse_set(const Field *f, Arena *arena, RangeSet *ret, KlError **err)
{
        static const char *const keys[] = { "subnet", "rangeStart", "rangeEnd", "gateway", NULL };
        char path[96];
        int r = 0;

        field_path(f, path, sizeof(path));
        if (value_type(f->value) != VALUE_ARRAY || value_len(f->value) == 0 ||
            value_len(f->value) > HOST_LOCAL_RANGES_MAX)
                return plugin_error(err, PLUGIN_CONFIG, "%s: expected a list of 1 to %d ranges",
                                    path, HOST_LOCAL_RANGES_MAX);
        ret->n = value_len(f->value);
        ret->ranges = ARENA_ARRAY(arena, ret->n, Range);
        if (!ret->ranges)
                return -ENOMEM;
        for (size_t i = 0; r == 0 && i < ret->n; i++) {
                Field range = field_at(f, i);

                r = plugin_check_keys(range.value, path, keys, err);
                if (r == 0)
                        r = parse_range(&range, arena, &ret->ranges[i], err);
                if (r == 0 && ret->ranges[i].subnet.ip.family != ret->ranges[0].subnet.ip.family)
                        r = plugin_error(err, PLUGIN_CONFIG, "%s: mixes IPv4 and IPv6", path);
        }
        return r;
}

static int parse_sets(const Field *object, const char *key, Arena *arena, HostLocalConfig *config,
                      KlError **err)
{
        Field list;
        size_t n;
        int r = field_array(object, key, HOST_LOCAL_RANGE_SETS_MAX / 2, &list, &n, err);

        if (r < 0)
                return plugin_config_error(r, err);
        for (size_t i = 0; r == 0 && i < n; i++) {
                Field set = field_at(&list, i);

                r = parse_set(&set, arena, &config->sets[config->n_sets++], err);
        }
        return r;
}

/* Sets of the runtime come first, then the flat form, then "ranges". */
static int parse_ranges(const Field *ipam, const Field *runtime, Arena *arena,
                        HostLocalConfig *config, KlError **err)
{
        Field subnet = field_get(ipam, "subnet");
        RangeSet *flat;
        int r;

        config->sets = ARENA_ARRAY(arena, HOST_LOCAL_RANGE_SETS_MAX + 1, RangeSet);
        if (!config->sets)
                return -ENOMEM;
        r = parse_sets(runtime, "ipRanges", arena, config, err);
        if (r == 0 && field_present(&subnet)) {
                flat = &config->sets[config->n_sets++];
                flat->n = 1;
                flat->ranges = ARENA_NEW(arena, Range);
                r = flat->ranges ? parse_range(ipam, arena, flat->ranges, err) : -ENOMEM;
        }
        if (r == 0)
                r = parse_sets(ipam, "ranges", arena, config, err);
        if (r == 0 && config->n_sets == 0)
                r = plugin_error(err, PLUGIN_CONFIG, "ipam: no ranges");
        return r < 0 ? r : check_overlaps(config, err);
}

static int parse_routes(const Field *ipam, Arena *arena, HostLocalConfig *config, KlError **err)
{
        static const char *const keys[] = { "dst",      "gw",    "mtu",   "advmss",
                                            "priority", "table", "scope", NULL };
        Field list;
        int r = field_array(ipam, "routes", RESULT_ROUTES_MAX, &list, &config->n_routes, err);

        if (r < 0)
                return plugin_config_error(r, err);
        config->routes = ARENA_ARRAY(arena, config->n_routes + 1, ResultRoute);
        if (!config->routes)
                return -ENOMEM;
        for (size_t i = 0; r == 0 && i < config->n_routes; i++) {
                Field f = field_at(&list, i);

                r = plugin_check_keys(f.value, "ipam.routes", keys, err);
                if (r == 0)
                        r = plugin_config_error(
                                result_parse_route(&f, arena, &config->routes[i], err), err);
        }
        return r;
}

/* "10.0.0.5" or "10.0.0.5/24". */
static int add_request(HostLocalConfig *config, const char *text, KlError **err)
{
        IpPrefix prefix;

        if (config->n_requests == HOST_LOCAL_REQUESTS_MAX)
                return plugin_error(err, PLUGIN_CONFIG, "more than %d addresses are requested",
                                    HOST_LOCAL_REQUESTS_MAX);
        if (ip_parse(text, &prefix.ip) < 0 && ip_prefix_parse(text, &prefix) < 0)
                return plugin_error(err, PLUGIN_CONFIG, "the requested '%s' is not an address",
                                    text);
        for (size_t i = 0; i < config->n_requests; i++)
                if (ip_equal(&config->requests[i], &prefix.ip))
                        return 0;
        config->requests[config->n_requests++] = prefix.ip;
        return 0;
}

static int add_requests(const Field *object, Arena *arena, HostLocalConfig *config, KlError **err)
{
        char **texts = NULL;
        int r = plugin_config_error(field_strv(object, "ips", arena, &texts, err), err);

        for (char **p = texts; r == 0 && p && *p; p++)
                r = add_request(config, *p, err);
        return r;
}

static int parse_requests(const PluginCall *call, const Field *root, const Field *runtime,
                          HostLocalConfig *config, KlError **err)
{
        static const char *const known[] = { "IP", "MAC", NULL };
        Field args = field_get(root, "args"), cni = field_get(&args, "cni");
        const char *ip;
        int r;

        config->requests = ARENA_ARRAY(call->arena, HOST_LOCAL_REQUESTS_MAX, IpAddress);
        if (!config->requests)
                return -ENOMEM;
        r = plugin_check_args(call, known, err);
        if (r == 0)
                r = plugin_arg(call, "IP", &ip, err);
        if (r == 0 && ip)
                r = add_request(config, ip, err);
        if (r == 0)
                r = add_requests(&cni, call->arena, config, err);
        if (r == 0)
                r = add_requests(runtime, call->arena, config, err);
        return r;
}

int host_local_config_parse(const PluginCall *call, HostLocalConfig *ret, KlError **err)
{
        static const char *const keys[] = { "type",       "ranges",  "subnet", "rangeStart",
                                            "rangeEnd",   "gateway", "routes", "dataDir",
                                            "resolvConf", NULL };
        Field root = field_root(call->config), ipam, runtime = field_get(&root, "runtimeConfig");
        HostLocalConfig config = { 0 };
        char *data_dir = NULL, *resolv_conf = NULL;
        int r;

        r = plugin_config_error(field_object(&root, "ipam", &ipam, err), err);
        if (r > 0)
                return plugin_error(err, PLUGIN_CONFIG, "the configuration has no 'ipam'");
        if (r == 0)
                r = plugin_check_keys(ipam.value, "ipam", keys, err);
        if (r == 0)
                r = parse_ranges(&ipam, &runtime, call->arena, &config, err);
        if (r == 0)
                r = parse_routes(&ipam, call->arena, &config, err);
        if (r == 0)
                r = parse_requests(call, &root, &runtime, &config, err);
        if (r < 0)
                return r;
        r = field_str(&ipam, "dataDir", call->arena, &data_dir, err);
        if (r == 0)
                r = field_str(&ipam, "resolvConf", call->arena, &resolv_conf, err);
        if (r < 0)
                return plugin_config_error(r, err);
        config.data_dir = str_empty(data_dir) ? HOST_LOCAL_DATA_DIR : data_dir;
        config.resolv_conf = str_empty(resolv_conf) ? NULL : resolv_conf;
        if (*config.data_dir != '/')
                return plugin_error(err, PLUGIN_CONFIG, "ipam.dataDir is not an absolute path");
        *ret = config;
        return 0;
}

/* --- resolv.conf --- */

static int strv_to_arena(char **v, Arena *arena, char ***ret)
{
        size_t n = strv_len(v);

        if (n == 0)
                return 0;
        *ret = ARENA_ARRAY(arena, n + 1, char *);
        for (size_t i = 0; *ret && i < n; i++) {
                (*ret)[i] = arena_strdup(arena, v[i]);
                if (!(*ret)[i])
                        return -ENOMEM;
        }
        return *ret ? 0 : -ENOMEM;
}

typedef struct ResolvConf {
        char **nameservers, **search, **options;
        const char *domain;
} ResolvConf;

static void resolv_conf_deinit(ResolvConf *conf)
{
        strv_free(conf->nameservers);
        strv_free(conf->search);
        strv_free(conf->options);
}

static int resolv_conf_line(char *line, Arena *arena, ResolvConf *conf)
{
        char *save = NULL, *key = strtok_r(line, " \t\r", &save), *word;
        char ***list = NULL;
        int r = 0;

        if (!key || *key == '#' || *key == ';')
                return 0;
        word = strtok_r(NULL, " \t\r", &save);
        if (!word)
                return 0;
        if (str_eq(key, "domain")) {
                conf->domain = arena_strdup(arena, word);
                return conf->domain ? 0 : -ENOMEM;
        }
        if (str_eq(key, "nameserver"))
                return strv_add(&conf->nameservers, word);
        if (str_eq(key, "search"))
                list = &conf->search;
        if (str_eq(key, "options"))
                list = &conf->options;
        for (; list && r == 0 && word; word = strtok_r(NULL, " \t\r", &save))
                r = strv_add(list, word);
        return r;
}

int resolv_conf_read(const char *path, Arena *arena, ResultDns *ret, KlError **err)
{
        __attribute__((cleanup(resolv_conf_deinit))) ResolvConf conf = { 0 };
        KL_AUTOFREE char *text = NULL;
        char *save = NULL;
        size_t len;
        int r = file_read(path, RESOLV_CONF_MAX, &text, &len);

        if (r < 0)
                return plugin_error(err, PLUGIN_FAILED, "read '%s': %s", path, strerror(-r));
        for (char *line = strtok_r(text, "\n", &save); r == 0 && line;
             line = strtok_r(NULL, "\n", &save))
                r = resolv_conf_line(line, arena, &conf);
        if (r == 0)
                r = strv_to_arena(conf.nameservers, arena, &ret->nameservers);
        if (r == 0)
                r = strv_to_arena(conf.search, arena, &ret->search);
        if (r == 0)
                r = strv_to_arena(conf.options, arena, &ret->options);
        ret->domain = conf.domain;
        return r < 0 ? kl_error_errno(err, r, NULL, "read '%s'", path) : 0;
}
