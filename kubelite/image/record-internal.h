/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_RECORD_INTERNAL_H
#define KUBELITE_IMAGE_RECORD_INTERNAL_H

#include "base/arena.h"
#include "base/buf.h"
#include "image/image.h"

/* What the store keeps of an image: images/<hex of the id>.json. */

#define RECORD_VERSION 1
#define RECORD_BYTES_MAX (16U << 20)

typedef struct ImageRecord {
        Arena *arena;      /* everything that is not said to be owned otherwise */
        Image image;       /* tags and digests are those below */
        char **tags;       /* owned; never NULL */
        char **digests;    /* owned; never NULL */
        uint64_t sequence; /* the higher one owns a tag that two records name */
        unsigned int n_held;
} ImageRecord;

/* Empty, with an arena. */
ImageRecord *image_record_new(void);
ImageRecord *image_record_free(ImageRecord *record);
KL_DEFINE_CLEANUP(ImageRecord *, image_record_free);

int image_record_add_tag(ImageRecord *record, const char *tag);
int image_record_add_digest(ImageRecord *record, const char *digest);
/* False when it has no such tag. */
bool image_record_remove_tag(ImageRecord *record, const char *tag);

int image_record_encode(const ImageRecord *record, Buf *to);
/* -EINVAL for what is no record of this version; layer names are checked. */
int image_record_decode(const char *data, size_t len, ImageRecord **ret, KlError **err);

/* Layer directories have names of lower-case letters and digits. */
#define LAYER_NAME_MAX 16
bool layer_name_is_valid(const char *name);

#endif
