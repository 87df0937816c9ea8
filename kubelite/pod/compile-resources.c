/* SPDX-License-Identifier: Apache-2.0 */

/* Requests and limits as cgroup values: pkg/kubelet/cm/helpers_linux.go and
 * pkg/kubelet/qos/policy.go of upstream. */

#include "pod/compile.h"

#include "base/str.h"
#include "pod/status.h"

#define SHARES_MIN 2
#define SHARES_MAX 262144
#define SHARES_PER_CPU 1024
#define QUOTA_PERIOD_US 100000
#define QUOTA_MIN_US 1000
#define OOM_GUARANTEED (-997)
#define OOM_BEST_EFFORT 1000
#define PRIORITY_NODE_CRITICAL 2000000000

static uint64_t shares_of(int64_t milli)
{
        int64_t shares = milli * SHARES_PER_CPU / 1000;

        if (milli <= 0 || shares < SHARES_MIN)
                return SHARES_MIN;
        return shares > SHARES_MAX ? SHARES_MAX : (uint64_t)shares;
}

static int64_t quota_of(int64_t milli)
{
        int64_t quota = milli * QUOTA_PERIOD_US / 1000;

        if (milli <= 0)
                return 0;
        return quota < QUOTA_MIN_US ? QUOTA_MIN_US : quota;
}

Resources compile_container_resources(const PodContext *context, const Container *container)
{
        const ResourceRequirements *r = &container->resources;
        int64_t memory = resource_value(&r->limits, "memory");

        return (Resources){
                .cpu_shares = shares_of(resource_milli(&r->requests, "cpu")),
                .cpu_quota_us =
                        context->cpu_cfs_quota ? quota_of(resource_milli(&r->limits, "cpu")) : 0,
                .cpu_period_us = QUOTA_PERIOD_US,
                .memory_bytes = memory > 0 ? memory : 0,
        };
}

typedef int64_t (*ResourceRead)(const KeyValues *list, const char *name);

static const KeyValues *list_of(const Container *c, bool limits)
{
        return limits ? &c->resources.limits : &c->resources.requests;
}

/*
 * Main containers and sidecars run together, an init container beside the sidecars before it: the
 * larger of the two sums counts. -1 if a limit is missing somewhere, which makes the pod unlimited.
 */
static int64_t pod_sum(const Pod *pod, const char *name, bool limits, ResourceRead read)
{
        int64_t sum = 0, sidecars = 0, init_peak = 0, overhead = read(&pod->overhead, name);

        for (size_t i = 0; i < pod->n_init + pod->n_main; i++) {
                const Container *c = &pod->containers[i];
                int64_t value = read(list_of(c, limits), name);

                if (value <= 0 && limits)
                        return -1;
                if (value < 0)
                        value = 0;
                if (c->kind == CONTAINER_INIT && !c->sidecar) {
                        if (value + sidecars > init_peak)
                                init_peak = value + sidecars;
                        continue;
                }
                if (c->sidecar)
                        sidecars += value;
                sum += value;
        }
        if (init_peak > sum)
                sum = init_peak;
        return sum + (overhead > 0 ? overhead : 0);
}

Resources compile_pod_resources(const PodContext *context, const Pod *pod)
{
        int64_t cpu_limit = pod_sum(pod, "cpu", true, resource_milli);
        int64_t memory_limit = pod_sum(pod, "memory", true, resource_value);

        return (Resources){
                .cpu_shares = shares_of(pod_sum(pod, "cpu", false, resource_milli)),
                .cpu_quota_us = context->cpu_cfs_quota ? quota_of(cpu_limit) : 0,
                .cpu_period_us = QUOTA_PERIOD_US,
                .memory_bytes = memory_limit > 0 ? memory_limit : 0,
                .pids = context->pod_pids_limit,
        };
}

int compile_oom_score_adj(const PodContext *context, const Pod *pod, const Container *container)
{
        int64_t request = resource_value(&container->resources.requests, "memory"), adj;

        if (pod->is_static || (pod->has_priority && pod->priority >= PRIORITY_NODE_CRITICAL))
                return OOM_GUARANTEED;
        switch (pod_qos(pod)) {
        case POD_GUARANTEED:
                return OOM_GUARANTEED;
        case POD_BEST_EFFORT:
                return OOM_BEST_EFFORT;
        case POD_BURSTABLE:
                break;
        }
        if (request < 0)
                request = 0;
        adj = context->capacity_memory > 0 ? 1000 - 1000 * request / context->capacity_memory : 999;
        if (adj < 1000 + OOM_GUARANTEED)
                return 1000 + OOM_GUARANTEED;
        return adj >= OOM_BEST_EFFORT ? OOM_BEST_EFFORT - 1 : (int)adj;
}
