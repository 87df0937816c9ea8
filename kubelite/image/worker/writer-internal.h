/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_WRITER_INTERNAL_H
#define KUBELITE_IMAGE_WRITER_INTERNAL_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* Writes a layer's entries beneath a directory, as overlay wants them. */

#define LAYER_ENTRIES_MAX 1000000
/* Apparent sizes together: files with holes cost nothing, but lie to tools. */
#define LAYER_APPARENT_MAX (1ULL << 40)
#define ENTRY_XATTRS_MAX 64
#define ENTRY_XATTR_BYTES_MAX 65536
/* Memory for what is done at the end: times of directories, opaque marks. */
#define WRITER_NOTES_BYTES_MAX (64U << 20)

typedef struct EntryXattr {
        const char *name;
        const void *value;
        size_t len;
} EntryXattr;

typedef struct Entry {
        const char *path; /* as the archive has it */
        mode_t mode;      /* type and permissions; type 0: a hard link */
        const char *link; /* target of a symbolic or hard link */
        uid_t uid;
        gid_t gid;
        dev_t device;
        uint64_t size; /* regular files */
        struct timespec mtime;
        const EntryXattr *xattrs;
        size_t n_xattrs;
} Entry;

typedef struct Writer Writer;

/* root_fd is borrowed. opaque: directories (paths) that hide those of lower layers. */
int writer_new(int root_fd, void (*opaque)(const char *path, void *data), void *data, Writer **ret,
               KlError **err);
Writer *writer_free(Writer *writer);
KL_DEFINE_CLEANUP(Writer *, writer_free);

/* >0 (1): a regular file whose bytes are to follow; it ends with the next entry. */
int writer_entry(Writer *writer, const Entry *entry, KlError **err);
int writer_data(Writer *writer, const void *data, size_t len, uint64_t offset, KlError **err);

/* Ends the last file, sets the times of directories, reports opaque ones. */
int writer_finish(Writer *writer, KlError **err);

uint64_t writer_entries(const Writer *writer);

#endif
