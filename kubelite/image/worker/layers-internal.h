/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_LAYERS_INTERNAL_H
#define KUBELITE_IMAGE_LAYERS_INTERNAL_H

#include "image/layout-internal.h"
#include "image/worker/registries-internal.h"

/* The layers of one image, fetched and unpacked in parallel into a temporary directory. */

#define LAYERS_PARALLEL 3
/* Below this a download is not worth being kept for a later try. */
#define LAYER_PARTIAL_MIN (1U << 20)

typedef struct LayerJob {
        const char *digest; /* of the blob; NULL: only the diff id is known */
        const char *diff_id;
        uint64_t size;
        int file_fd; /* the blob is here, from offset; -1: it is fetched */
        uint64_t offset;

        /* results */
        bool present;      /* in the store before, or a layer above is the same */
        char tmp_name[12]; /* else this directory beneath the set's */
        uint64_t unpacked_bytes;
        bool done;
} LayerJob;

typedef struct LayerSet {
        Layout *layout;
        LayerJob *jobs;
        size_t n_jobs;
        int tmp_fd; /* of layout_make_tmp */
        const char *tmp_name;
        const RegistryPlan *plan; /* NULL for imports */
} LayerSet;

/* On failure the jobs that are `done` may be committed all the same. */
int layers_run(LayerSet *set, KlError **err);

#endif
