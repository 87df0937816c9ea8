/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_BASE64_H
#define KUBELITE_CODEC_BASE64_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Base64, RFC 4648: the standard alphabet, with padding. */

/* Appends the text of len bytes. */
void base64_encode(Buf *to, const void *data, size_t len);

/* Of one text that arrives in pieces: { 0 } begins. */
typedef struct Base64Decoder {
        uint32_t bits;
        unsigned int n_digits, n_padding;
} Base64Decoder;

/* Room that the bytes of len more digits may need. */
#define BASE64_ROOM(len) ((len) / 4 * 3 + 3)

/*
 * The bytes that len more digits complete (out may be in itself, since it never overtakes), or
 * -EINVAL: a character outside of the alphabet, or anything after the padding.
 */
ssize_t base64_decode(Base64Decoder *d, const char *in, size_t len, char *out);
/* Whether the text ended where a text may end. */
bool base64_decoder_done(const Base64Decoder *d);

#endif
