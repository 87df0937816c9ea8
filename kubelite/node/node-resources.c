/* SPDX-License-Identifier: Apache-2.0 */

/* Capacity and allocatable resources of the node. */

#include "node/node-object.h"

#include "api/quantity.h"
#include "base/str.h"

#include <math.h>
#include <stdio.h>

static NodeResource *add(NodeResources *resources, const char *name, int64_t value)
{
        NodeResource *at = &resources->capacity[resources->n];

        snprintf(at->name, sizeof(at->name), "%s", name);
        at->value = value;
        resources->allocatable[resources->n] = *at;
        return &resources->allocatable[resources->n++];
}

static int reserve(NodeResource *at, const char *field, const ConfigPair *pairs, KlError **err)
{
        const char *text = config_pair_get(pairs, at->name);
        int64_t value;
        int r;

        if (!text)
                return 0;
        r = str_eq(at->name, "cpu") ? quantity_milli(text, &value) : quantity_value(text, &value);
        if (r < 0)
                return kl_error(err, -EINVAL, NULL, "%s.%s: '%s' is no quantity", field, at->name,
                                text);
        at->value -= value;
        return 0;
}

/* "10%" of the capacity, or a quantity. Upstream keeps percentages as 32-bit floats. */
static int threshold(const char *signal, const char *text, int64_t capacity, int64_t *ret,
                     KlError **err)
{
        size_t n = strlen(text);
        char number[32];
        char *end;
        float percent;

        if (n == 0 || text[n - 1] != '%') {
                if (quantity_value(text, ret) < 0)
                        return kl_error(err, -EINVAL, NULL, "evictionHard.%s: '%s' is no quantity",
                                        signal, text);
                return 0;
        }
        if (n >= sizeof(number))
                return kl_error(err, -EINVAL, NULL, "evictionHard.%s: '%s' is no percentage",
                                signal, text);
        memcpy(number, text, n - 1);
        number[n - 1] = '\0';
        percent = strtof(number, &end) / 100;
        if (*end || end == number || !(percent >= 0) || percent > 1)
                return kl_error(err, -EINVAL, NULL, "evictionHard.%s: '%s' is no percentage",
                                signal, text);
        *ret = (int64_t)((double)capacity * (double)percent);
        return 0;
}

/* thresholds: what hard eviction keeps free counts as reserved, too. */
typedef struct Reserve {
        const KubeletConfig *config;
        bool thresholds;
} Reserve;

static int reserve_threshold(NodeResource *at, const char *signal, const Reserve *with,
                             int64_t capacity, KlError **err)
{
        const char *text = config_pair_get(with->config->eviction_hard, signal);
        int64_t value = 0;
        int r;

        if (!text || !with->thresholds)
                return 0;
        r = threshold(signal, text, capacity, &value, err);
        if (r < 0)
                return r;
        at->value -= value;
        return 0;
}

static int reserve_all(NodeResource *at, const KubeletConfig *config, KlError **err)
{
        int r = reserve(at, "systemReserved", config->system_reserved, err);

        return r < 0 ? r : reserve(at, "kubeReserved", config->kube_reserved, err);
}

/* A list of CPUs replaces what the two reservations say of cpu. */
static int add_cpu(NodeResources *resources, const NodeFacts *facts, const KubeletConfig *config,
                   KlError **err)
{
        NodeResource *at = add(resources, "cpu", facts->cpus * 1000);
        int64_t reserved;

        if (str_empty(config->reserved_system_cpus))
                return reserve_all(at, config, err);
        if (facts_cpu_list_count(config->reserved_system_cpus, &reserved) < 0)
                return kl_error(err, -EINVAL, NULL, "reservedSystemCPUs: '%s' is no list of CPUs",
                                config->reserved_system_cpus);
        at->value -= reserved * 1000;
        return 0;
}

static int add_storage(NodeResources *resources, const NodeFacts *facts, const Reserve *with,
                       KlError **err)
{
        NodeResource *at;
        int r;

        if (!with->config->local_storage_capacity_isolation || facts->root_bytes <= 0)
                return 0;
        at = add(resources, "ephemeral-storage", facts->root_bytes);
        r = reserve_all(at, with->config, err);
        return r < 0 ? r : reserve_threshold(at, "nodefs.available", with, facts->root_bytes, err);
}

/* Huge pages are not there for anything else. */
static int64_t add_hugepages(NodeResources *resources, const NodeFacts *facts)
{
        int64_t sum = 0;

        for (size_t i = 0; i < facts->n_hugepages; i++) {
                char size[QUANTITY_SIZE], name[40];

                quantity_format_bytes(facts->hugepages[i].page_bytes, size);
                snprintf(name, sizeof(name), "hugepages-%.28s", size);
                add(resources, name, facts->hugepages[i].total_bytes);
                sum += facts->hugepages[i].total_bytes;
        }
        return sum;
}

static int add_memory(NodeResources *resources, const NodeFacts *facts, const Reserve *with,
                      int64_t hugepages, KlError **err)
{
        NodeResource *at = add(resources, "memory", facts->memory_bytes);
        int r = reserve_all(at, with->config, err);

        if (r >= 0)
                r = reserve_threshold(at, "memory.available", with, facts->memory_bytes, err);
        if (r < 0)
                return r;
        if (at->value < 0)
                at->value = 0;
        at->value -= hugepages;
        return 0;
}

static int compute(const NodeFacts *facts, const Reserve *with, NodeResources *ret, KlError **err)
{
        const KubeletConfig *config = with->config;
        NodeResources resources = { 0 };
        int64_t pods = config->max_pods;
        int64_t hugepages;
        int r;

        r = add_cpu(&resources, facts, config, err);
        if (r >= 0)
                r = add_storage(&resources, facts, with, err);
        if (r < 0)
                return r;
        hugepages = add_hugepages(&resources, facts);
        r = add_memory(&resources, facts, with, hugepages, err);
        if (r < 0)
                return r;
        if (config->pods_per_core > 0 && facts->cpus * config->pods_per_core < pods)
                pods = facts->cpus * config->pods_per_core;
        add(&resources, "pods", pods);
        for (size_t i = 0; i < resources.n; i++)
                if (resources.allocatable[i].value < 0)
                        resources.allocatable[i].value = 0;
        *ret = resources;
        return 0;
}

int node_resources(const NodeFacts *facts, const KubeletConfig *config, NodeResources *ret,
                   KlError **err)
{
        const Reserve with = { config, true };

        return compute(facts, &with, ret, err);
}

int node_pods_resources(const NodeFacts *facts, const KubeletConfig *config, NodeResources *ret,
                        KlError **err)
{
        const Reserve with = { config, false };

        return compute(facts, &with, ret, err);
}

int64_t node_resources_allocatable(const NodeResources *resources, const char *name)
{
        for (size_t i = 0; i < resources->n; i++)
                if (str_eq(resources->allocatable[i].name, name))
                        return resources->allocatable[i].value;
        return 0;
}
