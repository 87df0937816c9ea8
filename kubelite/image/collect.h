/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_COLLECT_H
#define KUBELITE_IMAGE_COLLECT_H

#include "image/image.h"
#include "stats/disk.h"

/*
 * Removes images that nobody uses: the least recently used ones while their file system is too
 * full, and (if so configured) those that were not used for long. Pinned images stay, and those
 * that are younger than the minimum age.
 */

/* --- whom: pure --- */

typedef struct ImageUse {
        uint64_t size_bytes;
        uint64_t seen_ms, used_ms; /* monotonic: first seen, last seen in use */
        bool in_use, pinned;
} ImageUse;

typedef struct ImagePolicy {
        uint64_t min_age_ms, max_age_ms; /* max_age_ms 0: however old */
        int64_t high_percent, low_percent;
} ImagePolicy;

/* Sets remove[i], in the order of last use, until so many bytes would be free; what that frees. */
uint64_t image_plan_space(const ImagePolicy *policy, const ImageUse *images, size_t n,
                          uint64_t now_ms, uint64_t wanted_bytes, bool *remove);
/* Those that were not used for max_age_ms, as far as a collector knows that began at begun_ms. */
void image_plan_age(const ImagePolicy *policy, const ImageUse *images, size_t n, uint64_t now_ms,
                    uint64_t begun_ms, bool *remove);
/* How much must go of a file system like this; 0: nothing. */
uint64_t image_plan_excess(const ImagePolicy *policy, uint64_t capacity, uint64_t available);

/* --- when --- */

typedef struct ImageCollector ImageCollector;

#define IMAGE_COLLECT_INTERVAL_MS 300000

typedef struct ImageCollectorOptions {
        ImageStore *store;
        DiskService *disk;
        const char *images_dir; /* the file system that fills */
        ImagePolicy policy;
        /* More had to go than could. */
        void (*failed)(uint64_t wanted_bytes, uint64_t freed_bytes, void *data);
        void *data;
} ImageCollectorOptions;

/* options' strings outlive it. */
int image_collector_new(Loop *loop, const ImageCollectorOptions *options, ImageCollector **ret,
                        KlError **err);
ImageCollector *image_collector_free(ImageCollector *collector);
KL_DEFINE_CLEANUP(ImageCollector *, image_collector_free);

/* All that are not used and old enough; true if there is one. */
bool image_collector_remove_unused(ImageCollector *collector);

#endif
