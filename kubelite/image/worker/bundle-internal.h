/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_BUNDLE_INTERNAL_H
#define KUBELITE_IMAGE_BUNDLE_INTERNAL_H

#include "base/buf.h"
#include "image/layout-internal.h"

/* Named files of an import: members of an archive, or files beneath a directory. */

typedef struct Bundle Bundle;

/* path: file or directory; else fd. An archive that is compressed or no regular file is first
 * written, inflated, beneath tmp_fd. */
int bundle_open(const char *path, int fd, int tmp_fd, Bundle **ret, KlError **err);
Bundle *bundle_free(Bundle *bundle);
KL_DEFINE_CLEANUP(Bundle *, bundle_free);

typedef struct BundleFile {
        int fd; /* owned by the bundle */
        uint64_t offset, size;
} BundleFile;

/* >0 (1): there is no such file. */
int bundle_find(Bundle *bundle, const char *name, BundleFile *ret, KlError **err);

/* A small file as a whole; >0 (1) as bundle_find. */
int bundle_read(Bundle *bundle, const char *name, size_t max, Buf *to, KlError **err);

#endif
