/* SPDX-License-Identifier: Apache-2.0 */

/* pkg/kubelet/images/image_gc_manager.go. When an image was used last is not kept over restarts, as
 * upstream: a new collector has seen none used. */

#include "image/collect.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "metrics/metrics.h"

#define DISK_WAIT_MS 20000
#define DISK_FRESH_MS 10000

typedef struct Seen {
        uint64_t seen_ms, used_ms;
        bool still_there;
} Seen;

struct ImageCollector {
        ImageCollectorOptions options;
        Timer *timer;
        DiskQuery *query;
        Map *seen; /* image id -> Seen */
        uint64_t begun_ms;
};

/* --- plan --- */

static bool may_go(const ImagePolicy *policy, const ImageUse *image, uint64_t now_ms)
{
        return !image->in_use && !image->pinned && now_ms - image->seen_ms >= policy->min_age_ms;
}

static bool is_before(const ImageUse *a, const ImageUse *b)
{
        return a->used_ms != b->used_ms ? a->used_ms < b->used_ms : a->seen_ms < b->seen_ms;
}

uint64_t image_plan_space(const ImagePolicy *policy, const ImageUse *images, size_t n,
                          uint64_t now_ms, uint64_t wanted_bytes, bool *remove)
{
        uint64_t freed = 0;

        while (freed < wanted_bytes) {
                size_t first = n;

                for (size_t i = 0; i < n; i++)
                        if (!remove[i] && may_go(policy, &images[i], now_ms) &&
                            (first == n || is_before(&images[i], &images[first])))
                                first = i;
                if (first == n)
                        return freed;
                remove[first] = true;
                freed += images[first].size_bytes;
        }
        return freed;
}

void image_plan_age(const ImagePolicy *policy, const ImageUse *images, size_t n, uint64_t now_ms,
                    uint64_t begun_ms, bool *remove)
{
        if (!policy->max_age_ms || now_ms - begun_ms <= policy->max_age_ms)
                return;
        for (size_t i = 0; i < n; i++) {
                uint64_t since = images[i].used_ms ? images[i].used_ms : images[i].seen_ms;

                if (may_go(policy, &images[i], now_ms) && now_ms - since > policy->max_age_ms)
                        remove[i] = true;
        }
}

uint64_t image_plan_excess(const ImagePolicy *policy, uint64_t capacity, uint64_t available)
{
        uint64_t used_percent, free_wanted;

        if (available > capacity || capacity < 100 || policy->high_percent >= 100)
                return 0;
        used_percent = 100 - available / (capacity / 100);
        if ((int64_t)used_percent < policy->high_percent)
                return 0;
        free_wanted = capacity / 100 * (uint64_t)(100 - policy->low_percent);
        return free_wanted > available ? free_wanted - available : 0;
}

/* --- what there is --- */

typedef struct Found {
        ImageUse *images;
        char **ids;
        size_t n;
} Found;

static void found_deinit(Found *found)
{
        free(found->images);
        strv_free(found->ids);
}

#define AUTO_FOUND __attribute__((cleanup(found_deinit))) Found

static Seen *see(ImageCollector *c, const char *id, uint64_t now_ms)
{
        Seen *seen = map_get(c->seen, id);

        if (seen)
                return seen;
        seen = calloc(1, sizeof(*seen));
        if (!seen || map_set(c->seen, id, seen) < 0) {
                free(seen);
                return NULL;
        }
        seen->seen_ms = now_ms;
        return seen;
}

static void forget_gone(ImageCollector *c)
{
        const char *id;
        Seen *seen;

        for (size_t i = 0; map_next(c->seen, &i, &id, &seen);) {
                if (!seen->still_there)
                        map_remove(c->seen, id);
                else
                        seen->still_there = false;
        }
}

static int detect(ImageCollector *c, uint64_t now_ms, Found *ret)
{
        const Image *image;
        size_t n = 0;

        while (image_at(c->options.store, n))
                n++;
        ret->images = calloc(n + 1, sizeof(*ret->images));
        if (!ret->images)
                return -ENOMEM;
        for (size_t i = 0; i < n && (image = image_at(c->options.store, i)); i++) {
                bool in_use = image_is_held(c->options.store, image->id);
                Seen *seen = see(c, image->id, now_ms);

                if (!seen || strv_add(&ret->ids, image->id) < 0)
                        return -ENOMEM;
                seen->still_there = true;
                if (in_use)
                        seen->used_ms = now_ms;
                ret->images[ret->n++] = (ImageUse){ image->size_bytes, seen->seen_ms, seen->used_ms,
                                                    in_use, image->pinned };
        }
        forget_gone(c);
        return 0;
}

static bool remove_planned(ImageCollector *c, const Found *found, const bool *planned,
                           const char *reason)
{
        bool any = false;

        for (size_t i = 0; i < found->n; i++) {
                KL_AUTOERR err = NULL;

                if (!planned[i])
                        continue;
                if (image_remove(c->options.store, found->ids[i], &err) < 0) {
                        log_warning(NULL, "Image '%s' stays, ignoring: %s", found->ids[i],
                                    kl_error_msg(err));
                        continue;
                }
                log_info(NULL, "Image '%s' goes: nobody uses it, and %s", found->ids[i], reason);
                metric_add(METRIC_IMAGE_GARBAGE_COLLECTED, 1, reason);
                any = true;
        }
        return any;
}

bool image_collector_remove_unused(ImageCollector *c)
{
        uint64_t now = time_monotonic_ms();
        AUTO_FOUND found = { 0 };
        KL_AUTOFREE bool *planned = NULL;

        if (detect(c, now, &found) < 0 || !(planned = calloc(found.n + 1, sizeof(*planned))))
                return false;
        image_plan_space(&c->options.policy, found.images, found.n, now, UINT64_MAX, planned);
        return remove_planned(c, &found, planned, "space");
}

/* --- now and then --- */

static void collect(ImageCollector *c, uint64_t excess)
{
        uint64_t now = time_monotonic_ms(), freed = 0;
        AUTO_FOUND found = { 0 };
        KL_AUTOFREE bool *planned = NULL;

        if (detect(c, now, &found) < 0 || !(planned = calloc(found.n + 1, sizeof(*planned))))
                return;
        image_plan_age(&c->options.policy, found.images, found.n, now, c->begun_ms, planned);
        remove_planned(c, &found, planned, "age");
        if (!excess)
                return;
        for (size_t i = 0; i < found.n; i++)
                found.images[i].pinned |= planned[i];
        memset(planned, 0, found.n * sizeof(*planned));
        freed = image_plan_space(&c->options.policy, found.images, found.n, now, excess, planned);
        remove_planned(c, &found, planned, "space");
        if (freed < excess)
                c->options.failed(excess, freed, c->options.data);
}

static void on_measured(DiskQuery *query, const DiskUsage *usages, size_t n, void *data)
{
        ImageCollector *c = data;
        const DiskUsage *fs = &usages[0];

        c->query = NULL;
        timer_start(c->timer, IMAGE_COLLECT_INTERVAL_MS);
        collect(c, fs->known ? image_plan_excess(&c->options.policy, fs->capacity_bytes,
                                                 fs->available_bytes)
                             : 0);
}

static void on_timer(Timer *timer, void *data)
{
        ImageCollector *c = data;
        DiskPath path = { c->options.images_dir, DISK_FS };
        DiskRequest request = {
                .paths = &path,
                .n = 1,
                .max_age_ms = DISK_FRESH_MS,
                .wait_ms = DISK_WAIT_MS,
                .done = on_measured,
                .data = c,
        };
        KL_AUTOERR err = NULL;

        if (disk_query(c->options.disk, &request, &c->query, &err) == 0)
                return;
        log_warning(NULL, "Images are not collected, ignoring: %s", kl_error_msg(err));
        timer_start(c->timer, IMAGE_COLLECT_INTERVAL_MS);
}

int image_collector_new(Loop *loop, const ImageCollectorOptions *options, ImageCollector **ret,
                        KlError **err)
{
        KL_AUTO(image_collector_free) ImageCollector *c = calloc(1, sizeof(*c));
        AUTO_FOUND found = { 0 };

        if (!c)
                return kl_error_oom(err);
        c->options = *options;
        c->begun_ms = time_monotonic_ms();
        c->seen = map_new(free);
        c->timer = timer_new(loop, on_timer, c);
        if (!c->seen || !c->timer || detect(c, c->begun_ms, &found) < 0)
                return kl_error_oom(err);
        timer_start(c->timer, IMAGE_COLLECT_INTERVAL_MS);
        *ret = KL_STEAL(c);
        return 0;
}

ImageCollector *image_collector_free(ImageCollector *c)
{
        if (!c)
                return NULL;
        disk_query_free(c->query);
        timer_free(c->timer);
        map_free(c->seen);
        free(c);
        return NULL;
}
