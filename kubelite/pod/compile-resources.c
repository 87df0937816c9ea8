/* SPDX-License-Identifier: Apache-2.0 */

/* Requests and limits as cgroup values: pkg/kubelet/cm/helpers_linux.go, pkg/kubelet/kuberuntime
 * (containers) and pkg/kubelet/qos/policy.go of upstream. */

#include "pod/compile.h"

#include "api/pod-resources.h"
#include "api/quantity.h"
#include "base/str.h"
#include "pod/placement.h"
#include "pod/status.h"

#define SHARES_MIN 2
#define SHARES_MAX 262144
#define SHARES_PER_CPU 1024
#define QUOTA_PERIOD_US 100000
#define QUOTA_MIN_US 1000
#define OOM_GUARANTEED (-997)
#define OOM_BEST_EFFORT 1000
#define NODE_CRITICAL "system-node-critical"

static uint64_t shares_of(int64_t milli)
{
        int64_t shares =
                milli > INT64_MAX / SHARES_PER_CPU ? SHARES_MAX : milli * SHARES_PER_CPU / 1000;

        if (milli <= 0 || shares < SHARES_MIN)
                return SHARES_MIN;
        return shares > SHARES_MAX ? SHARES_MAX : (uint64_t)shares;
}

static uint64_t period_of(const PodContext *context)
{
        return context->cpu_cfs_period_us ? context->cpu_cfs_period_us : QUOTA_PERIOD_US;
}

static int64_t quota_of(const PodContext *context, int64_t milli)
{
        int64_t period = (int64_t)period_of(context), quota;

        if (milli <= 0 || !context->cpu_cfs_quota || milli > INT64_MAX / period)
                return 0;
        quota = milli * period / 1000;
        return quota < QUOTA_MIN_US ? QUOTA_MIN_US : quota;
}

/* A container without a limit may use all that the pod may, where the pod has one of its own. */
static int64_t container_limit(const Pod *pod, const Container *container, const char *name)
{
        int64_t limit = resource_amount(&container->resources.limits, name);

        if (limit <= 0)
                limit = resource_amount(&pod->resources.limits, name);
        return limit > 0 ? limit : 0;
}

static int64_t positive(int64_t value)
{
        return value > 0 ? value : 0;
}

/* --- swap: KEP-2400 --- */

/* A burstable container's share of the node's swap is its request's share of the memory. */
static int64_t swap_of(const PodContext *context, const Pod *pod, const Container *container)
{
        int64_t request = positive(resource_amount(&container->resources.requests, "memory"));
        int64_t limit = positive(resource_amount(&container->resources.limits, "memory"));

        if (!context->limited_swap || pod_is_critical(pod) || pod_qos(pod) != POD_BURSTABLE ||
            request == 0 || request == limit || context->capacity_memory <= 0)
                return 0;
        return (int64_t)((double)request / (double)context->capacity_memory *
                         (double)context->capacity_swap);
}

/* --- huge pages: every size that the machine has is limited, to nothing if nobody asks --- */

typedef int64_t (*HugepageRead)(const Pod *pod, const Container *container, const char *name);

static int64_t read_pod_pages(const Pod *pod, const Container *container, const char *name)
{
        return pod_request(pod, name);
}

static void add_hugepages(const PodContext *context, const Pod *pod, const Container *container,
                          HugepageRead read, Resources *ret)
{
        for (size_t i = 0; i < context->n_hugepage_sizes; i++) {
                char size[QUANTITY_SIZE], name[QUANTITY_SIZE + 16];
                int64_t limit;

                quantity_format_bytes((int64_t)context->hugepage_sizes[i], size);
                snprintf(name, sizeof(name), "hugepages-%s", size);
                limit = positive(read(pod, container, name));
                ret->hugepages[ret->n_hugepages++] =
                        (HugepageLimit){ context->hugepage_sizes[i], (uint64_t)limit };
        }
}

Resources compile_container_resources(const PodContext *context, const Pod *pod,
                                      const Container *container)
{
        Resources ret = {
                .cpu_shares = shares_of(resource_amount(&container->resources.requests, "cpu")),
                .cpu_quota_us = quota_of(context, container_limit(pod, container, "cpu")),
                .cpu_period_us = period_of(context),
                .memory_bytes = container_limit(pod, container, "memory"),
                .swap_bytes = swap_of(context, pod, container),
                .oom_kill_single = context->oom_kill_single,
        };

        add_hugepages(context, pod, container, container_limit, &ret);
        return ret;
}

Resources compile_pod_resources(const PodContext *context, const Pod *pod)
{
        Resources ret = {
                .cpu_shares = shares_of(pod_request(pod, "cpu")),
                .linear_weight = true,
                .cpu_quota_us = quota_of(context, pod_limit_bound(pod, "cpu")),
                .cpu_period_us = period_of(context),
                .memory_bytes = pod_limit_bound(pod, "memory"),
                .pids = context->pod_pids_limit,
        };

        add_hugepages(context, pod, NULL, read_pod_pages, &ret);
        return ret;
}

Resources compile_burstable_resources(const Pod *const *pods, size_t n)
{
        int64_t milli = 0;

        for (size_t i = 0; i < n; i++) {
                int64_t request =
                        pod_qos(pods[i]) == POD_BURSTABLE ? pod_request(pods[i], "cpu") : 0;

                milli = request > INT64_MAX - milli ? INT64_MAX : milli + request;
        }
        return (Resources){ .cpu_shares = shares_of(milli), .linear_weight = true };
}

/* --- the out-of-memory killer's order --- */

static int64_t memory_request(const Container *c)
{
        return positive(resource_amount(&c->resources.requests, "memory"));
}

/* What the pod requests beyond its containers is shared out among them. */
static int64_t unclaimed_memory(const Pod *pod)
{
        int64_t own = resource_amount(&pod->resources.requests, "memory"), sum = 0;
        int64_t n = (int64_t)(pod->n_init + pod->n_main);

        if (own <= 0)
                return 0;
        for (size_t i = 0; i < pod->n_init + pod->n_main; i++)
                sum += memory_request(&pod->containers[i]);
        return own > sum ? (own - sum) / n : 0;
}

/* A sidecar is not killed before the containers that it serves. */
static int64_t effective_memory(const Pod *pod, const Container *container)
{
        int64_t request = memory_request(container), least = INT64_MAX;

        if (!container->sidecar)
                return request;
        for (size_t i = pod->n_init; i < pod->n_init + pod->n_main; i++) {
                int64_t of_main = memory_request(&pod->containers[i]);

                least = of_main < least ? of_main : least;
        }
        return least != INT64_MAX && least > request ? least : request;
}

int compile_oom_score_adj(const PodContext *context, const Pod *pod, const Container *container)
{
        int64_t request, adj;

        if (pod_is_critical(pod) && str_eq(pod->priority_class, NODE_CRITICAL))
                return OOM_GUARANTEED;
        switch (pod_qos(pod)) {
        case POD_GUARANTEED:
                return OOM_GUARANTEED;
        case POD_BEST_EFFORT:
                return OOM_BEST_EFFORT;
        case POD_BURSTABLE:
                break;
        }
        request = effective_memory(pod, container) + unclaimed_memory(pod);
        if (context->capacity_memory <= 0 || request > INT64_MAX / 1000)
                return context->capacity_memory <= 0 ? OOM_BEST_EFFORT - 1 : 1000 + OOM_GUARANTEED;
        adj = 1000 - 1000 * request / context->capacity_memory;
        if (adj < 1000 + OOM_GUARANTEED)
                return 1000 + OOM_GUARANTEED;
        return adj >= OOM_BEST_EFFORT ? OOM_BEST_EFFORT - 1 : (int)adj;
}
