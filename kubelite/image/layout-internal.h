/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_LAYOUT_INTERNAL_H
#define KUBELITE_IMAGE_LAYOUT_INTERNAL_H

#include "base/map.h"
#include "image/digest-internal.h"
#include "image/record-internal.h"

/*
 * The store on disk:
 *
 *     version               "1"
 *     lock                  held by the one owner: the daemon, or a tool that runs without one
 *     commit                held while names are given and records change
 *     images/<hex>.json     one record an image, by the digest of its configuration
 *     diffs/<digest>.json   which layer holds a diff id; written after the layer is on the disk
 *     layers/<name>/        unpacked layers as overlay wants them; names are short (base 36)
 *     ingest/<digest>       downloads that were cut off, to be resumed
 *     tmp/<random>/         a running pull or import, flocked by it
 *     trash/<random>/       what is being removed
 *
 * Blobs are not kept once they are unpacked. A layer without a diffs file, a diffs file without an
 * image and a record whose layers are gone do not count: each step of a commit may be the last one.
 *
 * All calls block on the disk; the daemon calls them in workers, but for open and load at start.
 */

#define LAYOUT_VERSION "1"
/* A cut-off download is worth keeping this long; a layer of a failed pull too. */
#define LAYOUT_INGEST_AGE_S (24 * 3600)
#define LAYOUT_ORPHAN_AGE_S 3600

typedef struct Layout {
        char *path;
        int dir_fd;
        int images_fd, diffs_fd, layers_fd, ingest_fd, tmp_fd, trash_fd;
} Layout;

int layout_open(const char *path, Layout **ret, KlError **err);
Layout *layout_close(Layout *layout);
KL_DEFINE_CLEANUP(Layout *, layout_close);

/* The owner's lock; a descriptor, or -EBUSY when somebody else owns the store. */
int layout_own(Layout *layout, KlError **err);

/* Records by id. Broken ones are left out and told to `broken` (may be NULL). */
typedef void (*LayoutBrokenFunc)(const char *name, const KlError *err, void *data);
int layout_load(Layout *layout, LayoutBrokenFunc broken, void *data, Map **ret, KlError **err);
/* One record; >0 (1) when there is none. */
int layout_load_one(Layout *layout, const char *id, ImageRecord **ret, KlError **err);

/* The layer that holds a diff: 1 and its name, 0 when it is not here. */
int layout_find_diff(Layout *layout, const char *diff_id, char ret_name[static LAYER_NAME_MAX]);

/* --- commit --- */

typedef struct LayoutLayer {
        const char *diff_id;
        int tmp_dir_fd;       /* -1 when the layer was here before */
        const char *tmp_name; /* directory beneath tmp_dir_fd */
        uint64_t size_bytes;  /* unpacked, for information */
} LayoutLayer;

typedef struct LayoutCommit {
        LayoutLayer *layers; /* lowest first; taken over as far as they are new */
        size_t n_layers;
        ImageRecord *record; /* complete but for layers and sequence; NULL: layers only */
} LayoutCommit;

/* >0 (1): a layer that was here before is gone, nothing was written but the new layers; fetch it
 * again. */
int layout_commit(Layout *layout, const LayoutCommit *commit, KlError **err);

/* For clean.c: a descriptor that holds the commit lock. */
int layout_lock_commit(Layout *layout, KlError **err);
int layout_write_record(Layout *layout, const ImageRecord *record, KlError **err);

/* --- removal --- */

/* Removes a tag (or the whole image, tag NULL), its record with the last tag, then the layers that
 * no image uses any more. -ENOENT. */
int layout_remove(Layout *layout, const char *id, const char *tag, KlError **err);

/* What crashed pulls left: tmp, trash, old downloads, layers that nothing refers to. */
int layout_clean(Layout *layout, KlError **err);

/* A fresh directory beneath tmp/, open and flocked until *ret_fd is closed. */
int layout_make_tmp(Layout *layout, int *ret_fd, char ret_name[static 33], KlError **err);

#endif
