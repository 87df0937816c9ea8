/* SPDX-License-Identifier: Apache-2.0 */

/* What is limited as a whole: all pods together to what is not reserved (enforceNodeAllocatable).
 */

#include "daemon.h"

#include "api/quantity.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#define SHARES_PER_CPU 1024
#define PID "pid"

static int64_t read_number(const char *path)
{
        char line[32];
        int64_t value;

        if (file_read_line(path, line, sizeof(line)) < 0 ||
            str_to_i64(line, 1, INT64_MAX, &value) < 0)
                return INT64_MAX;
        return value;
}

static int64_t reserved_pids(const ConfigPair *pairs)
{
        const char *text = config_pair_get(pairs, PID);
        int64_t value;

        return text && quantity_value(text, &value) == 0 ? value : 0;
}

/* 0: no limit makes sense. */
static int64_t pids_of_pods(const KubeletConfig *config)
{
        int64_t most = read_number("/proc/sys/kernel/pid_max");
        int64_t threads = read_number("/proc/sys/kernel/threads-max");

        if (threads < most)
                most = threads;
        if (most == INT64_MAX)
                return 0;
        most -= reserved_pids(config->system_reserved) + reserved_pids(config->kube_reserved);
        return most > 0 ? most : 1;
}

static void add_hugepages(const NodeFacts *facts, Resources *ret)
{
        for (size_t i = 0; i < facts->n_hugepages && i < HUGEPAGES_MAX; i++)
                ret->hugepages[ret->n_hugepages++] =
                        (HugepageLimit){ (uint64_t)facts->hugepages[i].page_bytes,
                                         (uint64_t)facts->hugepages[i].total_bytes };
}

void daemon_limit_pods(Daemon *d)
{
        const NodeFacts *facts = node_facts(d->node);
        KL_AUTOERR err = NULL;
        NodeResources resources;
        Resources limits = { .linear_weight = true };
        int64_t milli;

        if (!strv_contains(d->config->enforce_node_allocatable, "pods"))
                return;
        if (node_pods_resources(facts, d->config, &resources, &err) == 0) {
                milli = node_resources_allocatable(&resources, "cpu");
                limits.cpu_shares = milli > 0 ? (uint64_t)milli * SHARES_PER_CPU / 1000 : 2;
                limits.memory_bytes = node_resources_allocatable(&resources, "memory");
                limits.pids = pids_of_pods(d->config);
                add_hugepages(facts, &limits);
        }
        if (limits.memory_bytes == d->limited.memory_bytes &&
            limits.cpu_shares == d->limited.cpu_shares)
                return;
        d->limited = limits;
        if (err || runtime_set_qos_resources(d->runtime, QOS_GUARANTEED, &limits, &err) < 0)
                log_warning(NULL, "Pods are not limited as a whole, ignoring: %s",
                            kl_error_msg(err));
}
