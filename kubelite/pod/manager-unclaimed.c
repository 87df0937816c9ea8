/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sandboxes of an earlier daemon. Until all sources have spoken nobody may conclude that a pod is
 * not wanted: without an API server in reach its pods run on untouched. After that, what is left is
 * taken down: network first, then the sandbox with its records.
 */

#include "pod/manager-internal.h"

#include "base/log.h"
#include "base/str.h"
#include "metrics/metrics.h"

#define IFNAME "eth0"

void manager_unclaimed_free(void *data)
{
        Unclaimed *u = data;

        cni_call_abandon(u->call);
        if (u->sandbox)
                sandbox_set_events(u->sandbox, NULL, NULL);
        free(u->uid);
        free(u->id);
        free(u->namespace);
        free(u->name);
        free(u);
}

void manager_add_unclaimed(PodManager *m, const AdoptedSandbox *adopted)
{
        Unclaimed *u = calloc(1, sizeof(*u));

        if (!u)
                return;
        u->manager = m;
        u->sandbox = adopted->sandbox;
        u->lost = adopted->lost;
        u->uid = strdup(adopted->spec.pod_uid);
        u->id = strdup(sandbox_id(adopted->sandbox));
        u->namespace = strdup(adopted->spec.pod_namespace);
        u->name = strdup(adopted->spec.pod_name);
        u->adopted = (AdoptedSandbox){
                .sandbox = adopted->sandbox,
                .lost = adopted->lost,
                .spec = { .attempt = adopted->spec.attempt,
                          .pod_start_us = adopted->spec.pod_start_us },
        };
        if (!u->uid || !u->id || !u->namespace || !u->name ||
            map_set(m->unclaimed, u->uid, u) < 0) {
                u->sandbox = NULL;
                manager_unclaimed_free(u);
        }
}

static void on_destroyed(Sandbox *sandbox, void *data)
{
        Unclaimed *u = data;
        PodManager *m = u->manager;

        log_info(u->name, "Pod that nobody wants any more was cleared away");
        u->sandbox = NULL;
        map_remove(m->unclaimed, u->uid);
        /* Now its directory may go too. */
        manager_sweep_unclaimed(m);
}

static void ignore_ready(Sandbox *sandbox, const char *netns_path, void *data)
{
}

static void ignore_failed(Sandbox *sandbox, const KlError *error, void *data)
{
}

static void ignore_container(Sandbox *sandbox, const ContainerInfo *info, void *data)
{
}

static void ignore_lost(Sandbox *sandbox, void *data)
{
}

static const SandboxEvents clearing_events = {
        .ready = ignore_ready,
        .failed = ignore_failed,
        .container_changed = ignore_container,
        .lost = ignore_lost,
        .destroyed = on_destroyed,
};

static void on_network_deleted(CniCall *call, const CniResult *result, const KlError *error,
                               void *data)
{
        Unclaimed *u = data;

        u->call = NULL;
        if (error)
                log_warning(u->name, "Network of an unwanted pod, ignoring: %s",
                            kl_error_msg(error));
        sandbox_destroy(u->sandbox, true);
}

static void unclaimed_clear(Unclaimed *u)
{
        KL_AUTOERR err = NULL;

        u->clearing = true;
        metric_add(METRIC_ORPHANED_RUNTIME_PODS, 1);
        sandbox_set_events(u->sandbox, &clearing_events, u);
        if (cni_del(u->manager->context->cni, u->id, IFNAME, on_network_deleted, u, &u->call,
                    &err) < 0)
                sandbox_destroy(u->sandbox, true);
}

/* What may stay on disk: everything that has an entry, or is still being cleared. */
static char **live_uids(PodManager *m)
{
        KL_AUTOSTRV live = calloc(1, sizeof(*live));
        const char *uid;

        for (size_t i = 0; live && map_next(m->entries, &i, &uid, NULL);)
                if (strv_add(&live, uid) < 0)
                        return NULL;
        for (size_t i = 0; live && map_next(m->unclaimed, &i, &uid, NULL);)
                if (strv_add(&live, uid) < 0)
                        return NULL;
        return KL_STEAL(live);
}

void manager_sweep_unclaimed(PodManager *m)
{
        KL_AUTOSTRV live = NULL;
        KL_AUTOERR err = NULL;
        Unclaimed *u;

        if (!m->adopted || !m->api_synced || !m->files_scanned)
                return;
        for (size_t i = 0; map_next(m->unclaimed, &i, NULL, &u);)
                if (!u->clearing)
                        unclaimed_clear(u);
        live = live_uids(m);
        if (live && volumes_collect(m->context->volumes, live, &err) < 0)
                log_warning(NULL, "Volumes of pods that are gone stay for now: %s",
                            kl_error_msg(err));
        if (live && !m->logs_swept && map_len(m->unclaimed) == 0) {
                m->logs_swept = true;
                manager_sweep_logs(m, live);
        }
}
