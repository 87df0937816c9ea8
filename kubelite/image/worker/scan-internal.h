/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_SCAN_INTERNAL_H
#define KUBELITE_IMAGE_SCAN_INTERNAL_H

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

/* The members of an image archive (a tar file of documents and blobs), by position. */

#define SCAN_MEMBERS_MAX 100000
#define SCAN_NAME_MAX 4096
#define SCAN_ARCHIVE_MAX (1ULL << 40)

typedef struct ScanMember {
        const char *name;
        const char *link; /* target of a link, else NULL */
        uint64_t offset, size;
} ScanMember;

/* Like pread; fewer bytes only at the end. */
typedef ssize_t (*ScanRead)(void *data, void *to, size_t len, uint64_t offset);
typedef int (*ScanFunc)(const ScanMember *member, void *data);

int scan_archive(ScanRead read, void *read_data, ScanFunc func, void *data, KlError **err);

#endif
