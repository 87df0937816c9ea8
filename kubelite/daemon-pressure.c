/* SPDX-License-Identifier: Apache-2.0 */

/* Eviction and the collection of images: what they are told, and whom they tell. */

#include "daemon.h"

static void on_pressure(const bool pressure[static NODE_PRESSURES], void *data)
{
        static const NodeConditionType conditions[NODE_PRESSURES] = {
                [PRESSURE_MEMORY] = NODE_MEMORY_PRESSURE,
                [PRESSURE_DISK] = NODE_DISK_PRESSURE,
                [PRESSURE_PID] = NODE_PID_PRESSURE,
        };
        Daemon *d = data;

        for (size_t i = 0; i < NODE_PRESSURES; i++) {
                d->context.pressure[i] = pressure[i];
                node_set_pressure(d->node, conditions[i], pressure[i]);
        }
}

static bool on_reclaim_disk(void *data)
{
        Daemon *d = data;
        bool any = image_collector_remove_unused(d->collector);

        return pod_manager_remove_dead(d->pods) || any;
}

static void on_collect_failed(uint64_t wanted_bytes, uint64_t freed_bytes, void *data)
{
        Daemon *d = data;
        EventObject object = { .api_version = "v1",
                               .kind = "Node",
                               .namespace = "",
                               .name = d->name,
                               .uid = d->name };

        event_emit(d->events, &object, "Warning", "FreeDiskSpaceFailed",
                   "Failed to garbage collect required amount of images. Attempted to free %llu "
                   "bytes, but only found %llu bytes eligible to free.",
                   (unsigned long long)wanted_bytes, (unsigned long long)freed_bytes);
}

static uint64_t ms(int64_t us)
{
        return us > 0 ? (uint64_t)us / 1000 : 0;
}

int daemon_pressure_start(Daemon *d, KlError **err)
{
        const KubeletConfig *config = d->config;
        ImageCollectorOptions images = {
                .store = d->images,
                .disk = stats_disk(d->stats),
                .images_dir = d->flags->image_dir,
                .policy = { .min_age_ms = ms(config->image_minimum_gc_age_us),
                            .max_age_ms = ms(config->image_maximum_gc_age_us),
                            .high_percent = config->image_gc_high_threshold_percent,
                            .low_percent = config->image_gc_low_threshold_percent },
                .failed = on_collect_failed,
                .data = d,
        };
        EvictorOptions evictor = {
                .config = config,
                .context = &d->context,
                .pods = d->pods,
                .runtime = d->runtime,
                .disk = stats_disk(d->stats),
                .root_dir = d->flags->root_dir,
                .images_dir = d->flags->image_dir,
                .containers_dir = d->paths.data_dir,
                .pressure = on_pressure,
                .reclaim_disk = on_reclaim_disk,
                .data = d,
        };

        KL_TRY(image_collector_new(d->loop, &images, &d->collector, err));
        KL_TRY(evictor_new(d->loop, &evictor, &d->evictor, err));
        return system_oom_new(d->loop, d->events, d->name, &d->system_oom, err);
}
