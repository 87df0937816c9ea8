/* SPDX-License-Identifier: Apache-2.0 */

/* Who is evicted, and what is said of it. */

#include "api/pod-resources.h"
#include "api/quantity.h"
#include "base/buf.h"
#include "base/str.h"
#include "pod/evict-plan.h"

/* --- order --- */

typedef struct Ranked {
        EvictPod pod;
        bool unknown, exceeds;
        int64_t priority, over; /* what it uses beyond its request */
        bool by_priority_only;
} Ranked;

static bool is_inodes(EvictSignal signal)
{
        return str_eq(evict_resource(signal), "inodes");
}

static int64_t disk_usage(const EvictConfig *config, EvictSignal signal, const EvictPod *p)
{
        bool image = signal == SIGNAL_IMAGEFS || signal == SIGNAL_IMAGEFS_INODES;
        int64_t layers = is_inodes(signal) ? p->layer_inodes : p->layers;
        int64_t other = is_inodes(signal) ? p->other_inodes : p->other_storage;

        if (!config->image_fs)
                return layers + other;
        return image ? layers : other;
}

static void rank_one(const EvictConfig *config, EvictSignal signal, const EvictPod *p, Ranked *ret)
{
        int64_t used, request = 0;

        *ret = (Ranked){
                .pod = *p,
                .unknown = !p->known,
                .priority = p->pod->has_priority ? p->pod->priority : 0,
        };
        if (signal == SIGNAL_PID) {
                ret->by_priority_only = true;
                ret->over = p->processes;
                return;
        }
        if (evict_pressure(signal) == PRESSURE_MEMORY) {
                used = p->memory;
                request = pod_request(p->pod, "memory");
        } else {
                used = disk_usage(config, signal, p);
                if (!is_inodes(signal))
                        request = pod_request(p->pod, "ephemeral-storage");
        }
        ret->exceeds = used > request;
        ret->over = used - request;
}

static int first_true(bool a, bool b)
{
        return a == b ? 0 : a ? -1 : 1;
}

static int compare(const void *x, const void *y)
{
        const Ranked *a = x, *b = y;
        int r = 0;

        if (!a->by_priority_only) {
                r = first_true(a->unknown, b->unknown);
                if (r == 0)
                        r = first_true(a->exceeds, b->exceeds);
        }
        if (r == 0 && a->priority != b->priority)
                r = a->priority < b->priority ? -1 : 1;
        if (r == 0 && a->over != b->over)
                r = a->over > b->over ? -1 : 1;
        return r ? r : strcmp(a->pod.pod->name, b->pod.pod->name);
}

void evict_rank(const EvictConfig *config, EvictSignal signal, EvictPod *pods, size_t n)
{
        KL_AUTOFREE Ranked *ranked = calloc(n + 1, sizeof(*ranked));

        if (!ranked)
                return;
        for (size_t i = 0; i < n; i++)
                rank_one(config, signal, &pods[i], &ranked[i]);
        qsort(ranked, n, sizeof(*ranked), compare);
        for (size_t i = 0; i < n; i++)
                pods[i] = ranked[i].pod;
}

/* --- words --- */

static void add_consumer(Buf *to, const EvictContainer *c, const char *resource)
{
        bool memory = str_eq(resource, "memory");
        int64_t used = memory ? c->memory : c->storage;
        const char *request = key_values_get(&c->spec->resources.requests, resource);
        char text[QUANTITY_SIZE];
        int64_t value = resource_amount(&c->spec->resources.requests, resource);

        if (used < 0 || used <= value || (value < 0 && used == 0))
                return;
        quantity_format_bytes(used, text);
        buf_addf(to, "Container %s was using %s, request is %s, has larger consumption of %s. ",
                 c->spec->name, text, request ? request : "0", resource);
}

char *evict_message(const EvictConfig *config, const EvictThreshold *threshold,
                    const EvictObserved observed[static EVICT_SIGNALS], const EvictPod *pod)
{
        const char *resource = evict_resource(threshold->signal);
        const EvictObserved *o = &observed[threshold->signal];
        char quantity[QUANTITY_SIZE], available[QUANTITY_SIZE];
        KL_AUTOBUF text = BUF_INIT;

        quantity_format_bytes(evict_threshold_value(threshold, o->capacity), quantity);
        quantity_format_bytes(o->available, available);
        buf_addf(&text, "The node was low on resource: %s. ", resource);
        buf_addf(&text, "Threshold quantity: %s, available: %s. ", quantity, available);
        for (size_t i = 0; pod->known && i < pod->n_containers; i++)
                if (str_eq(resource, "memory") || str_eq(resource, "ephemeral-storage"))
                        add_consumer(&text, &pod->containers[i], resource);
        return buf_steal(&text);
}

/* --- limits of its own --- */

static bool is_limited_volume(const Volume *v)
{
        return v->kind == VOLUME_EMPTY_DIR && !str_empty(v->size_limit);
}

bool evict_has_limits(const Pod *pod)
{
        for (size_t i = 0; i < pod->n_volumes; i++)
                if (is_limited_volume(&pod->volumes[i]))
                        return true;
        return pod_limit(pod, "ephemeral-storage") > 0;
}

static char *volume_over_limit(const EvictPod *p)
{
        for (size_t i = 0; i < p->n_volumes; i++) {
                const Volume *v = pod_volume(p->pod, p->volumes[i].name);
                int64_t limit;

                if (!v || !is_limited_volume(v) || quantity_value(v->size_limit, &limit) < 0)
                        continue;
                if (limit > 0 && p->volumes[i].used > limit)
                        return str_format("Usage of EmptyDir volume \"%s\" exceeds the limit "
                                          "\"%s\". ",
                                          v->name, v->size_limit);
        }
        return NULL;
}

static char *container_over_limit(const EvictConfig *config, const EvictPod *p)
{
        for (size_t i = 0; i < p->n_containers; i++) {
                const EvictContainer *c = &p->containers[i];
                int64_t limit = resource_amount(&c->spec->resources.limits, "ephemeral-storage");
                int64_t used = config->image_fs ? c->logs : c->storage;

                if (c->spec->kind == CONTAINER_MAIN && limit > 0 && used > limit)
                        return str_format(
                                "Container %s exceeded its local ephemeral storage limit "
                                "\"%s\". ",
                                c->spec->name,
                                key_values_get(&c->spec->resources.limits, "ephemeral-storage"));
        }
        return NULL;
}

char *evict_over_limit(const EvictConfig *config, const EvictPod *pod)
{
        int64_t limit = pod_limit(pod->pod, "ephemeral-storage");
        char *message = pod->known ? volume_over_limit(pod) : NULL;
        char text[QUANTITY_SIZE];

        if (!pod->known || message)
                return message;
        if (limit >= 0 && pod->storage > limit) {
                quantity_format_bytes(limit, text);
                return str_format("Pod ephemeral local storage usage exceeds the total limit of "
                                  "containers %s. ",
                                  text);
        }
        return container_over_limit(config, pod);
}
