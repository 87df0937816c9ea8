/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The verbs of host-local. One address from each range set, in turn: the search goes on after the
 * address given out last, so that an address rests as long as possible before it is used again.
 */

#include "cni/plugins/host-local.h"

#include "base/str.h"

typedef struct Allocation {
        const PluginCall *call;
        HostLocalConfig *config;
        Store *store;
        const IpAddress *held; /* by this attachment already */
        size_t n_held;
} Allocation;

/* The n-th wish of the runtime that this set can fulfil is used up. */
static bool take_request(HostLocalConfig *config, const RangeSet *set, IpAddress *ret)
{
        for (size_t i = 0; i < config->n_requests; i++) {
                if (!range_set_find(set, &config->requests[i]))
                        continue;
                *ret = config->requests[i];
                config->n_requests--;
                memmove(&config->requests[i], &config->requests[i + 1],
                        (config->n_requests - i) * sizeof(*ret));
                return true;
        }
        return false;
}

static void give(const Range *range, const IpAddress *ip, ResultIp *ret)
{
        *ret = (ResultIp){ .address = { *ip, range->subnet.len },
                           .gateway = range->gateway,
                           .interface = -1 };
}

static int reserve(const Allocation *a, size_t set, const IpAddress *ip, KlError **err)
{
        int r = store_reserve(a->store, a->call->container_id, a->call->ifname, ip, err);

        return r != 0 ? r : store_set_last(a->store, set, ip, err);
}

static int allocate_requested(const Allocation *a, size_t index, const IpAddress *ip, ResultIp *ret,
                              KlError **err)
{
        const RangeSet *set = &a->config->sets[index];
        const Range *range = range_set_find(set, ip);
        KL_AUTOBUF text = BUF_INIT;
        char name[IP_TEXT_SIZE];
        int r;

        ip_format(ip, name);
        if (ip_equal(ip, &range->gateway))
                return plugin_error(err, PLUGIN_FAILED, "the requested address %s is the gateway",
                                    name);
        r = reserve(a, index, ip, err);
        if (r > 0) {
                range_set_format(set, &text);
                return plugin_error(err, PLUGIN_FAILED,
                                    "requested IP address %s is not available in range set %s",
                                    name, buf_str(&text));
        }
        if (r == 0)
                give(range, ip, ret);
        return r;
}

/* The place after `at`, in the next range (the first after the last) when its range ends there. */
static void step(const RangeSet *set, size_t *range, IpAddress *at)
{
        if (!ip_equal(at, &set->ranges[*range].end)) {
                *at = ip_next(at);
                return;
        }
        *range = (*range + 1) % set->n;
        *at = set->ranges[*range].start;
}

static int allocate_next(const Allocation *a, size_t index, ResultIp *ret, KlError **err)
{
        const RangeSet *set = &a->config->sets[index];
        KL_AUTOBUF text = BUF_INIT;
        IpAddress at, first;
        size_t range = 0;

        if (store_last(a->store, index, &at) == 0 && range_set_find(set, &at)) {
                range = (size_t)(range_set_find(set, &at) - set->ranges);
                step(set, &range, &at);
        } else {
                at = set->ranges[0].start;
        }
        first = at;
        do {
                if (!ip_equal(&at, &set->ranges[range].gateway)) {
                        int r = reserve(a, index, &at, err);

                        if (r == 0)
                                give(&set->ranges[range], &at, ret);
                        if (r <= 0)
                                return r;
                }
                step(set, &range, &at);
        } while (!ip_equal(&at, &first));
        range_set_format(set, &text);
        return plugin_error(err, PLUGIN_FAILED, "no IP addresses available in range set: %s",
                            buf_str(&text));
}

static int check_not_held(const Allocation *a, const RangeSet *set, KlError **err)
{
        char text[IP_TEXT_SIZE];

        for (size_t i = 0; i < a->n_held; i++)
                if (range_set_find(set, &a->held[i]))
                        return plugin_error(err, PLUGIN_FAILED,
                                            "%s has been allocated to %s, duplicate allocation is "
                                            "not allowed",
                                            ip_format(&a->held[i], text), a->call->container_id);
        return 0;
}

static int allocate_set(const Allocation *a, size_t index, ResultIp *ret, KlError **err)
{
        const RangeSet *set = &a->config->sets[index];
        IpAddress wish;
        int r;

        if (take_request(a->config, set, &wish)) {
                r = allocate_requested(a, index, &wish, ret, err);
        } else {
                r = check_not_held(a, set, err);
                if (r == 0)
                        r = allocate_next(a, index, ret, err);
        }
        return r < 0 ? kl_error_wrap(err, r, "failed to allocate for range %zu", index) : 0;
}

static int check_all_fulfilled(const HostLocalConfig *config, KlError **err)
{
        KL_AUTOBUF text = BUF_INIT;
        char ip[IP_TEXT_SIZE];

        if (config->n_requests == 0)
                return 0;
        for (size_t i = 0; i < config->n_requests; i++)
                buf_addf(&text, " %s", ip_format(&config->requests[i], ip));
        return plugin_error(err, PLUGIN_FAILED, "failed to allocate all requested IPs:%s",
                            buf_str(&text));
}

/* What was given out in this call before it failed; a reservation of an earlier ADD stays. */
static void take_back(const Allocation *a, const Result *result)
{
        if (result->n_ips > 0 && a->n_held == 0)
                store_release(a->store, a->call->container_id, a->call->ifname, NULL);
}

static int allocate(const PluginCall *call, HostLocalConfig *config, Result *result, KlError **err)
{
        KL_AUTO(store_free) Store *store = NULL;
        Allocation a = { .call = call, .config = config };
        IpAddress *held;
        int r;

        r = store_open(config->data_dir, call->network, &store, err);
        if (r < 0)
                return r;
        a.store = store;
        r = store_find(store, call->container_id, call->ifname, call->arena, &held, &a.n_held, err);
        a.held = held;
        for (size_t i = 0; r == 0 && i < config->n_sets; i++) {
                r = allocate_set(&a, i, &result->ips[i], err);
                if (r == 0)
                        result->n_ips++;
        }
        if (r == 0)
                r = check_all_fulfilled(config, err);
        if (r < 0)
                take_back(&a, result);
        return r;
}

static int host_local_add(const PluginCall *call, Buf *to, KlError **err)
{
        HostLocalConfig config;
        Result result = { 0 };
        int r;

        r = host_local_config_parse(call, &config, err);
        if (r == 0 && config.resolv_conf)
                r = resolv_conf_read(config.resolv_conf, call->arena, &result.dns, err);
        if (r < 0)
                return r;
        result.ips = ARENA_ARRAY(call->arena, config.n_sets, ResultIp);
        if (!result.ips)
                return -ENOMEM;
        r = allocate(call, &config, &result, err);
        if (r < 0)
                return r;
        result.routes = config.routes;
        result.n_routes = config.n_routes;
        result_write(&result, call->version, to);
        return 0;
}

static int open_store(const PluginCall *call, Store **ret, KlError **err)
{
        HostLocalConfig config;
        int r = host_local_config_parse(call, &config, err);

        return r < 0 ? r : store_open(config.data_dir, call->network, ret, err);
}

static int host_local_del(const PluginCall *call, KlError **err)
{
        KL_AUTO(store_free) Store *store = NULL;
        int r = open_store(call, &store, err);

        return r < 0 ? r : store_release(store, call->container_id, call->ifname, err);
}

static int host_local_check(const PluginCall *call, KlError **err)
{
        KL_AUTO(store_free) Store *store = NULL;
        IpAddress *ips;
        size_t n;
        int r = open_store(call, &store, err);

        if (r == 0)
                r = store_find(store, call->container_id, call->ifname, call->arena, &ips, &n, err);
        if (r == 0 && n == 0)
                r = plugin_error(err, PLUGIN_FAILED, "no address is reserved for the container %s",
                                 call->container_id);
        return r;
}

static int host_local_status(const PluginCall *call, KlError **err)
{
        KL_AUTO(store_free) Store *store = NULL;
        KL_AUTOERR why = NULL;
        HostLocalConfig config;
        int r = host_local_config_parse(call, &config, err);

        if (r == 0 && store_open(config.data_dir, call->network, &store, &why) < 0)
                r = plugin_error(err, PLUGIN_UNAVAILABLE, "%s", kl_error_msg(why));
        return r;
}

static int host_local_gc(const PluginCall *call, KlError **err)
{
        KL_AUTO(store_free) Store *store = NULL;
        PluginAttachment *attachments;
        size_t n;
        int r = plugin_valid_attachments(call, &attachments, &n, err);

        if (r == 0)
                r = open_store(call, &store, err);
        return r < 0 ? r : store_collect(store, attachments, n, err);
}

const PluginOps host_local_ops = {
        .add = host_local_add,
        .del = host_local_del,
        .check = host_local_check,
        .status = host_local_status,
        .gc = host_local_gc,
};
