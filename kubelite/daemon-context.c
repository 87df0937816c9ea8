/* SPDX-License-Identifier: Apache-2.0 */

/* What pods are run with: settings of the configuration, and what the node knows of itself. */

#include "daemon.h"

#include "api/quantity.h"
#include "base/log.h"
#include "base/str.h"

#include <unistd.h>

#define RESOLV_DEFAULT "/etc/resolv.conf"
#define RESOLV_SYSTEMD "/run/systemd/resolve/resolv.conf"

/* systemd-resolved's stub listens on a loopback address that pods cannot reach; its real servers
 * stand in another file. */
static const char *resolv_conf_path(const KubeletConfig *config)
{
        if (!config->resolv_conf)
                return access(RESOLV_SYSTEMD, R_OK) == 0 ? RESOLV_SYSTEMD : RESOLV_DEFAULT;
        return config->resolv_conf;
}

static char *links_dir(const char *log_dir)
{
        const char *slash = strrchr(log_dir, '/');

        return str_format("%.*s/containers", slash ? (int)(slash - log_dir) : 0, log_dir);
}

/* A negative size: logs are not rotated. The smallest one is not 0, which would mean the same. */
static int64_t log_max_bytes(const KubeletConfig *config)
{
        int64_t bytes;

        if (quantity_value(config->container_log_max_size, &bytes) < 0 || bytes < 0)
                return 0;
        return bytes > 0 ? bytes : 1;
}

/* What pods are placed by: labels, taints and allocatable resources of the node, all in one arena
 * that is replaced as a whole. */
typedef struct Placement {
        Arena *arena;
        KeyValue *labels;
        NodeTaint *taints;
        ResourceAmount *amounts;
        size_t n_labels, n_taints, n_amounts;
} Placement;

static bool placement_room(Placement *p, const Node *node)
{
        const ConfigPair *labels = node_labels(node), *extended = node_extended_resources(node);
        const ConfigTaint *taints = node_taints(node);
        size_t amounts = node_resource_list(node)->n;

        for (; labels && labels->key; labels++)
                p->n_labels++;
        for (; taints && taints->key; taints++)
                p->n_taints++;
        for (; extended && extended->key; extended++)
                amounts++;
        p->labels = ARENA_ARRAY(p->arena, p->n_labels + 1, KeyValue);
        p->taints = ARENA_ARRAY(p->arena, p->n_taints + 1, NodeTaint);
        p->amounts = ARENA_ARRAY(p->arena, amounts + 1, ResourceAmount);
        return p->labels && p->taints && p->amounts;
}

static char *keep(Placement *p, const char *text)
{
        return arena_strdup(p->arena, text ? text : "");
}

static bool placement_fill(Placement *p, const Node *node)
{
        const NodeResources *resources = node_resource_list(node);
        const ConfigPair *extended = node_extended_resources(node);
        bool ok = true;

        for (size_t i = 0; i < p->n_labels; i++) {
                p->labels[i] = (KeyValue){ keep(p, node_labels(node)[i].key),
                                           keep(p, node_labels(node)[i].value) };
                ok &= p->labels[i].key && p->labels[i].value;
        }
        for (size_t i = 0; i < p->n_taints; i++) {
                const ConfigTaint *t = &node_taints(node)[i];

                p->taints[i] =
                        (NodeTaint){ keep(p, t->key), keep(p, t->value), keep(p, t->effect) };
                ok &= p->taints[i].key && p->taints[i].value && p->taints[i].effect;
        }
        for (size_t i = 0; i < resources->n; i++)
                p->amounts[p->n_amounts++] =
                        (ResourceAmount){ keep(p, resources->allocatable[i].name),
                                          resources->allocatable[i].value };
        for (; extended && extended->key; extended++) {
                int64_t value;

                if (quantity_value(extended->value, &value) == 0)
                        p->amounts[p->n_amounts++] =
                                (ResourceAmount){ keep(p, extended->key), value };
        }
        for (size_t i = 0; i < p->n_amounts; i++)
                ok &= p->amounts[i].name != NULL;
        return ok;
}

static void copy_placement(Daemon *d)
{
        Placement p = { .arena = arena_new() };

        if (!p.arena || !placement_room(&p, d->node) || !placement_fill(&p, d->node)) {
                log_warning(NULL, "Labels of the node stay as they were: out of memory");
                arena_free(p.arena);
                return;
        }
        arena_free(d->placement_arena);
        d->placement_arena = p.arena;
        d->context.node_labels = (KeyValues){ p.labels, p.n_labels };
        d->context.node_taints = p.taints;
        d->context.n_node_taints = p.n_taints;
        d->context.allocatable = p.amounts;
        d->context.n_allocatable = p.n_amounts;
}

static int64_t capacity_of(const NodeResources *resources, const char *name)
{
        for (size_t i = 0; i < resources->n; i++)
                if (str_eq(resources->capacity[i].name, name))
                        return resources->capacity[i].value;
        return 0;
}

static void copy_hugepage_sizes(const NodeFacts *facts, PodContext *c)
{
        c->n_hugepage_sizes = 0;
        for (size_t i = 0; i < facts->n_hugepages && i < HUGEPAGES_MAX; i++)
                c->hugepage_sizes[c->n_hugepage_sizes++] = (uint64_t)facts->hugepages[i].page_bytes;
}

void daemon_context_refresh(Daemon *d)
{
        const NodeResources *resources = node_resource_list(d->node);
        PodContext *c = &d->context;
        char *uid = strdup(node_uid(d->node));

        if (uid) {
                free(d->uid);
                d->uid = uid;
        }
        c->node_uid = d->uid ? d->uid : "";
        c->host_ips = node_addresses(d->node);
        c->capacity_cpu_milli = capacity_of(resources, "cpu");
        c->capacity_memory = capacity_of(resources, "memory");
        c->capacity_swap = node_facts(d->node)->swap_bytes;
        copy_hugepage_sizes(node_facts(d->node), c);
        daemon_limit_pods(d);
        c->facts = (PodFacts){
                .node_name = d->name,
                .host_ips = c->host_ips,
                .allocatable_cpu_milli = node_resources_allocatable(resources, "cpu"),
                .allocatable_memory = node_resources_allocatable(resources, "memory"),
                .allocatable_storage = node_resources_allocatable(resources, "ephemeral-storage"),
        };
        copy_placement(d);
}

static SecurityModules kernel_modules(void)
{
        return (SecurityModules){
                .apparmor = runtime_has_apparmor(),
                .selinux = access("/sys/fs/selinux/enforce", F_OK) == 0,
        };
}

int daemon_context_init(Daemon *d, KlError **err)
{
        const KubeletConfig *config = d->config;

        d->log_links_dir = links_dir(config->pod_logs_dir);
        d->resolv_conf = strdup(resolv_conf_path(config));
        if (!d->log_links_dir || !d->resolv_conf)
                return kl_error_oom(err);
        d->context = (PodContext){
                .loop = d->loop,
                .runtime = d->runtime,
                .images = d->images,
                .cni = d->cni,
                .volumes = d->volumes,
                .objects = d->objects,
                .services = d->services,
                .runtime_classes = d->runtime_classes,
                .events = d->events,
                .prober = d->prober,
                .api = d->api,
                .node_name = d->name,
                .root_dir = d->flags->root_dir,
                .log_dir = config->pod_logs_dir,
                .log_links_dir = d->log_links_dir,
                .log_tidy = d->log_tidy,
                .log_max_bytes = log_max_bytes(config),
                .dns = { .cluster_dns = config->cluster_dns,
                         .cluster_domain = config->cluster_domain ? config->cluster_domain : "" },
                .resolv_conf = d->resolv_conf,
                .pod_pids_limit = config->pod_pids_limit > 0 ? config->pod_pids_limit : 0,
                .seccomp_default = config->seccomp_default,
                .cpu_cfs_quota = config->cpu_cfs_quota,
                .cpu_cfs_period_us = (uint64_t)config->cpu_cfs_quota_period_us,
                .limited_swap = str_eq(config->memory_swap_behavior, "LimitedSwap") &&
                                runtime_cgroup_mode(d->runtime) == CGROUP_V2,
                .oom_kill_single =
                        config->single_process_oom_kill_set && config->single_process_oom_kill,
                .allowed_unsafe_sysctls = config->allowed_unsafe_sysctls,
                .crash_backoff_max_ms = (uint64_t)config->crash_loop_max_period_us / 1000,
        };
        d->context.modules = kernel_modules();
        if (!d->context.crash_backoff_max_ms)
                d->context.crash_backoff_max_ms = 300000;
        daemon_context_refresh(d);
        return 0;
}
