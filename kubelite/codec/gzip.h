/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_GZIP_H
#define KUBELITE_CODEC_GZIP_H

#include "base/buf.h"

/* gzip, in any pieces. */

typedef struct Gzip Gzip;
typedef struct Gunzip Gunzip;

Gzip *gzip_new(void);
Gzip *gzip_free(Gzip *gzip);
KL_DEFINE_CLEANUP(Gzip *, gzip_free);
/* Appends what comes out; last: the end of the data. 0 or -ENOMEM. */
int gzip_add(Gzip *gzip, const void *data, size_t len, bool last, Buf *to);

Gunzip *gunzip_new(void);
Gunzip *gunzip_free(Gunzip *gunzip);
KL_DEFINE_CLEANUP(Gunzip *, gunzip_free);
/* At most size bytes come out, however well they were packed; *used bytes of the input were taken.
 * Returns how many came out (0: more input is wanted, or the data has ended), -EBADMSG or
 * -ENOMEM. */
ssize_t gunzip_add(Gunzip *gunzip, const void *data, size_t len, size_t *used, void *out,
                   size_t size);

#endif
