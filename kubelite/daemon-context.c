/* SPDX-License-Identifier: Apache-2.0 */

/* What pods are run with: settings of the configuration, and what the node knows of itself. */

#include "daemon.h"

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

static void copy_labels(Daemon *d)
{
        const ConfigPair *labels = node_labels(d->node);
        Arena *arena = arena_new();
        size_t n = 0;
        KeyValue *items;

        while (labels && labels[n].key)
                n++;
        items = arena ? ARENA_ARRAY(arena, n + 1, KeyValue) : NULL;
        if (!items) {
                arena_free(arena);
                return;
        }
        for (size_t i = 0; i < n; i++) {
                items[i].key = arena_strdup(arena, labels[i].key);
                items[i].value = arena_strdup(arena, labels[i].value ? labels[i].value : "");
                if (!items[i].key || !items[i].value) {
                        arena_free(arena);
                        return;
                }
        }
        arena_free(d->labels_arena);
        d->labels_arena = arena;
        d->context.node_labels = (KeyValues){ items, n };
}

static int64_t capacity_of(const NodeResources *resources, const char *name)
{
        for (size_t i = 0; i < resources->n; i++)
                if (str_eq(resources->capacity[i].name, name))
                        return resources->capacity[i].value;
        return 0;
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
        c->capacity_pods = node_resources_allocatable(resources, "pods");
        c->facts = (PodFacts){
                .node_name = d->name,
                .host_ips = c->host_ips,
                .allocatable_cpu_milli = node_resources_allocatable(resources, "cpu"),
                .allocatable_memory = node_resources_allocatable(resources, "memory"),
                .allocatable_storage = node_resources_allocatable(resources, "ephemeral-storage"),
        };
        copy_labels(d);
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
                .events = d->events,
                .api = d->api,
                .node_name = d->name,
                .root_dir = d->flags->root_dir,
                .log_dir = config->pod_logs_dir,
                .log_links_dir = d->log_links_dir,
                .dns = { .cluster_dns = config->cluster_dns,
                         .cluster_domain = config->cluster_domain ? config->cluster_domain : "" },
                .resolv_conf = d->resolv_conf,
                .pod_pids_limit = config->pod_pids_limit > 0 ? config->pod_pids_limit : 0,
                .seccomp_default = config->seccomp_default,
                .cpu_cfs_quota = config->cpu_cfs_quota,
                .allowed_unsafe_sysctls = config->allowed_unsafe_sysctls,
                .crash_backoff_max_ms = (uint64_t)config->crash_loop_max_period_us / 1000,
        };
        if (!d->context.crash_backoff_max_ms)
                d->context.crash_backoff_max_ms = 300000;
        daemon_context_refresh(d);
        return 0;
}
