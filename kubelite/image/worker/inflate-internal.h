/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_INFLATE_INTERNAL_H
#define KUBELITE_IMAGE_INFLATE_INTERNAL_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Streams that may be gzip (several members too), zstd (several frames) or plain, told by their
 * first bytes. */

/* As many bytes as the recognition wants, fewer only at the end of the input. */
#define INFLATE_MAGIC_SIZE 4
/* zstd windows up to 128 MiB, as its tool writes at most without being asked for more. */
#define INFLATE_WINDOW_LOG_MAX 27

typedef struct Inflate Inflate;

typedef enum InflateKind {
        INFLATE_PLAIN,
        INFLATE_GZIP,
        INFLATE_ZSTD,
} InflateKind;

InflateKind inflate_recognise(const uint8_t *data, size_t len);

/* NULL when out of memory; kind must not be INFLATE_PLAIN. */
Inflate *inflate_new(InflateKind kind);
Inflate *inflate_free(Inflate *inflate);
KL_DEFINE_CLEANUP(Inflate *, inflate_free);

/*
 * Takes from *in, gives at most size bytes to out. 0: *in is used up or out is full; call again.
 * -EINVAL for damaged data.
 */
int inflate_run(Inflate *inflate, const uint8_t **in, size_t *in_len, uint8_t *out, size_t size,
                size_t *ret_len, KlError **err);

/* At the end of the input: -EINVAL when the stream was cut off. */
int inflate_finish(const Inflate *inflate, KlError **err);

#endif
