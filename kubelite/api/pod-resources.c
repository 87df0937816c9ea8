/* SPDX-License-Identifier: Apache-2.0 */

#include "api/pod-resources.h"

#include "base/str.h"

int64_t resource_amount(const KeyValues *list, const char *name)
{
        return str_eq(name, "cpu") ? resource_milli(list, name) : resource_value(list, name);
}

bool resource_is_hugepages(const char *name)
{
        return str_starts(name, "hugepages-");
}

bool resource_is_extended(const char *name)
{
        return strchr(name, '/') && !strstr(name, "kubernetes.io/") &&
               !str_starts(name, "requests.");
}

static int64_t add(int64_t a, int64_t b)
{
        return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static int64_t max(int64_t a, int64_t b)
{
        return a > b ? a : b;
}

static const KeyValues *list_of(const ResourceRequirements *r, bool limits)
{
        return limits ? &r->limits : &r->requests;
}

/* -1 where no container has any. */
static int64_t aggregate(const Pod *pod, const char *name, bool limits)
{
        int64_t sum = 0, sidecars = 0, peak = 0;
        bool any = false;

        for (size_t i = 0; i < pod->n_init + pod->n_main; i++) {
                const Container *c = &pod->containers[i];
                int64_t value = resource_amount(list_of(&c->resources, limits), name);

                any |= value >= 0;
                value = max(value, 0);
                if (c->kind == CONTAINER_INIT && !c->sidecar) {
                        peak = max(peak, add(value, sidecars));
                        continue;
                }
                if (c->sidecar)
                        sidecars = add(sidecars, value);
                sum = add(sum, value);
        }
        return any ? max(sum, peak) : -1;
}

/* What spec.resources can say. */
static bool is_pod_level(const char *name)
{
        return str_eq(name, "cpu") || str_eq(name, "memory") || resource_is_hugepages(name);
}

int64_t pod_request(const Pod *pod, const char *name)
{
        int64_t sum = aggregate(pod, name, false), overhead = resource_amount(&pod->overhead, name);

        if (is_pod_level(name)) {
                int64_t own = resource_amount(&pod->resources.requests, name);

                if (own >= 0)
                        sum = own;
                else if (sum < 0) /* as the API server would have filled it in */
                        sum = resource_amount(&pod->resources.limits, name);
        }
        return add(max(sum, 0), max(overhead, 0));
}

int64_t pod_limit(const Pod *pod, const char *name)
{
        int64_t sum = aggregate(pod, name, true), overhead = resource_amount(&pod->overhead, name);
        int64_t own = is_pod_level(name) ? resource_amount(&pod->resources.limits, name) : -1;

        if (own >= 0)
                sum = own;
        return sum > 0 ? add(sum, max(overhead, 0)) : sum;
}

int64_t pod_limit_bound(const Pod *pod, const char *name)
{
        if (is_pod_level(name) && resource_amount(&pod->resources.limits, name) > 0)
                return pod_limit(pod, name);
        for (size_t i = 0; i < pod->n_init + pod->n_main; i++)
                if (resource_amount(&pod->containers[i].resources.limits, name) <= 0)
                        return 0;
        return max(pod_limit(pod, name), 0);
}

static bool contains(const char *const *names, size_t n, const char *name)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(names[i], name) == 0)
                        return true;
        return false;
}

static void add_names(const char **names, size_t *n, const KeyValues *list)
{
        for (size_t i = 0; i < list->n; i++)
                if (!contains(names, *n, list->items[i].key))
                        names[(*n)++] = list->items[i].key;
}

const char **pod_requested_names(const Pod *pod, size_t *ret_n)
{
        size_t most = pod->resources.requests.n + pod->resources.limits.n + pod->overhead.n;
        const char **names;

        for (size_t i = 0; i < pod->n_init + pod->n_main; i++)
                most += pod->containers[i].resources.requests.n;
        names = calloc(most + 1, sizeof(*names));
        *ret_n = 0;
        if (!names)
                return NULL;
        for (size_t i = 0; i < pod->n_init + pod->n_main; i++)
                add_names(names, ret_n, &pod->containers[i].resources.requests);
        add_names(names, ret_n, &pod->resources.requests);
        add_names(names, ret_n, &pod->resources.limits);
        add_names(names, ret_n, &pod->overhead);
        return names;
}
