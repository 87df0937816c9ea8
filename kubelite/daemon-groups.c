/* SPDX-License-Identifier: Apache-2.0 */

/* What is limited as a whole: all pods together to what is not reserved (enforceNodeAllocatable).
 */

#include "daemon.h"

#include "api/quantity.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <unistd.h>

#define SHARES_PER_CPU 1024
#define PID "pid"
#define RESERVED_DEADLINE_MS 60000

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

/* --- what is reserved --- */

typedef struct Reserved {
        const char *level, *field; /* of enforceNodeAllocatable; of the group */
        const char *group;
        const ConfigPair *pairs;
        bool compressible_only; /* processor time alone */
} Reserved;

static int64_t amount(const ConfigPair *pairs, const char *name)
{
        const char *text = config_pair_get(pairs, name);
        int64_t value;
        int r;

        if (!text)
                return 0;
        r = str_eq(name, "cpu") ? quantity_milli(text, &value) : quantity_value(text, &value);
        return r < 0 ? 0 : value;
}

static int limit_reserved(const Reserved *reserved)
{
        int64_t milli = amount(reserved->pairs, "cpu");
        Resources limits = { .linear_weight = true };
        KL_AUTOERR err = NULL;

        if (milli > 0)
                limits.cpu_shares = (uint64_t)milli * SHARES_PER_CPU / 1000;
        if (!reserved->compressible_only) {
                limits.memory_bytes = amount(reserved->pairs, "memory");
                limits.pids = amount(reserved->pairs, PID);
        }
        if (runtime_limit_group(reserved->group, &limits, &err) == 0)
                return 0;
        dprintf(STDERR_FILENO, "%s: %s; ", reserved->field, kl_error_msg(err));
        return 1;
}

/* Worker: lowering a memory limit reclaims before the write returns. */
static int limit_reserved_body(void *arg)
{
        const KubeletConfig *config = arg;
        const Reserved all[] = {
                { "system-reserved", "systemReservedCgroup", config->system_reserved_cgroup,
                  config->system_reserved, false },
                { "system-reserved-compressible", "systemReservedCgroup",
                  config->system_reserved_cgroup, config->system_reserved, true },
                { "kube-reserved", "kubeReservedCgroup", config->kube_reserved_cgroup,
                  config->kube_reserved, false },
                { "kube-reserved-compressible", "kubeReservedCgroup", config->kube_reserved_cgroup,
                  config->kube_reserved, true },
        };
        int status = 0;

        for (size_t i = 0; i < ELEMENTS(all); i++)
                if (strv_contains(config->enforce_node_allocatable, all[i].level) &&
                    !str_empty(all[i].group))
                        status |= limit_reserved(&all[i]);
        return status;
}

static void on_reserved_limited(Worker *worker, WorkerResult *result, void *data)
{
        Daemon *d = data;
        char how[128];

        d->reserved_worker = worker_free(d->reserved_worker);
        if (result->status == 0)
                return;
        worker_describe(result, RESERVED_DEADLINE_MS, how, sizeof(how));
        log_warning(NULL, "Reserved groups are not limited, ignoring: %s",
                    result->errors_len ? result->errors : how);
}

static bool wants_reserved(const KubeletConfig *config)
{
        char *const *levels = config->enforce_node_allocatable;

        for (; levels && *levels; levels++)
                if (str_starts(*levels, "system-reserved") || str_starts(*levels, "kube-reserved"))
                        return true;
        return false;
}

void daemon_limit_reserved(Daemon *d)
{
        WorkerSpec spec = {
                .name = "reserved groups",
                .body = limit_reserved_body,
                .body_arg = d->config,
                .deadline_ms = RESERVED_DEADLINE_MS,
                .done = on_reserved_limited,
                .data = d,
        };
        KL_AUTOERR err = NULL;

        if (wants_reserved(d->config) &&
            worker_start(d->loop, &spec, &d->reserved_worker, &err) < 0)
                log_warning(NULL, "Reserved groups are not limited, ignoring: %s",
                            kl_error_msg(err));
}
