/* SPDX-License-Identifier: Apache-2.0 */

/* What there is to measure of each pod: its groups, and where it keeps things on disk. */

#include "pod/served.h"

#include "base/str.h"
#include "pod/manager-internal.h"
#include "pod/status-internal.h"
#include "pod/worker-internal.h"

/* As upstream's IsLocalEphemeralVolume: what a pod writes there comes off the node's own disk. */
static bool is_local_ephemeral(const Volume *volume)
{
        return volume->kind == VOLUME_CONFIG_MAP ||
               (volume->kind == VOLUME_EMPTY_DIR && str_empty(volume->medium));
}

static int add_volumes(const PodWorker *w, StatsGather *gather, StatsPod *to)
{
        for (size_t i = 0; w->volumes && i < w->pod->n_volumes; i++) {
                const Volume *volume = &w->pod->volumes[i];
                StatsVolumeSource source = {
                        .name = volume->name,
                        .path = pod_volume_path(w->volumes, volume->name),
                        .claim = str_empty(volume->claim) ? NULL : volume->claim,
                        .local_ephemeral = is_local_ephemeral(volume),
                };

                /* Of the host's own directories nobody knows where they end; nor does upstream. */
                if (!source.path || volume->kind == VOLUME_HOST_PATH)
                        continue;
                source.file_system = source.claim != NULL;
                KL_TRY(stats_add_volume(gather, to, &source));
        }
        return 0;
}

static int add_containers(const PodWorker *w, StatsGather *gather, StatsPod *to, Arena *arena)
{
        const char *log_dir = compile_log_dir(w->context, w->pod, arena);

        for (size_t i = 0; i < w->n_containers; i++) {
                const ContainerView *view = &w->containers[i]->view;
                StatsContainerSource source = {
                        .sandbox = w->sandbox,
                        .name = view->spec->name,
                        .id = view->current.id,
                        .image = str_empty(view->image) ? view->spec->image : view->image,
                        .log_path = arena_format(arena, "%s/%s", log_dir, view->spec->name),
                        .started_us = view->current.started_us,
                };
                ContainerInfo info;

                if (!status_is_running(view) || !source.id ||
                    !sandbox_container(w->sandbox, source.id, &info))
                        continue;
                source.pid = info.pid;
                KL_TRY(stats_add_container(gather, to, &source));
        }
        return 0;
}

int pod_worker_list_stats(const PodWorker *w, StatsGather *gather)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        StatsPodSource source = {
                .namespace = w->pod->namespace,
                .name = w->pod->name,
                .uid = w->pod->uid,
                .host_network = w->pod->host_network,
                .started_us = w->start_us,
                .sandbox = w->sandbox,
                .n_containers = w->n_containers,
                .n_volumes = w->pod->n_volumes,
        };
        StatsPod *to;

        if (!w->sandbox)
                return 0;
        if (!arena)
                return -ENOMEM;
        source.files_path =
                arena_format(arena, "%s/pods/%s/etc-hosts", w->context->root_dir, w->pod->uid);
        to = stats_add_pod(gather, &source);
        if (!to)
                return -ENOMEM;
        KL_TRY(add_containers(w, gather, to, arena));
        return add_volumes(w, gather, to);
}

void pod_manager_list_stats(PodManager *m, StatsGather *gather)
{
        PodEntry *e;

        for (size_t i = 0; map_next(m->entries, &i, NULL, &e);)
                if (e->worker && pod_worker_list_stats(e->worker, gather) < 0)
                        return;
}
