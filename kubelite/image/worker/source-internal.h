/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_SOURCE_INTERNAL_H
#define KUBELITE_IMAGE_SOURCE_INTERNAL_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A layer's bytes: from a pipe or a part of a file, hashed, inflated, hashed again. */

/* A layer may grow to this size whatever its own is … */
#define LAYER_BYTES_FREE (1ULL << 30)
/* … and beyond it to so many times its own: gzip bombs end here. */
#define LAYER_RATIO_MAX 64

typedef struct SourceOptions {
        int fd;
        bool seekable;         /* read [offset, offset + size) by pread */
        uint64_t offset, size; /* size: of the blob, as declared */
        const char *digest;    /* of the blob; NULL: only the diff id is checked */
        const char *diff_id;   /* of the inflated bytes */
} SourceOptions;

typedef struct Source Source;

int source_new(const SourceOptions *options, Source **ret, KlError **err);
Source *source_free(Source *source);
KL_DEFINE_CLEANUP(Source *, source_free);

/* The next inflated bytes, borrowed until the next call: their number, 0 at the end, <0. */
ssize_t source_read(Source *source, const void **ret, KlError **err);

/* The same into a buffer of SOURCE_OUT_SIZE bytes. */
#define SOURCE_OUT_SIZE (512U << 10)
ssize_t source_read_to(Source *source, uint8_t *to, KlError **err);

/* Bytes of the blob that were read. */
uint64_t source_done(const Source *source);

/* Reads what is left and compares sizes and digests. */
int source_finish(Source *source, KlError **err);

uint64_t source_bytes(const Source *source);

#endif
