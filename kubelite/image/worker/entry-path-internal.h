/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_ENTRY_PATH_INTERNAL_H
#define KUBELITE_IMAGE_ENTRY_PATH_INTERNAL_H

#include <stddef.h>

/* Names in layers' archives. */

#define ENTRY_PATH_MAX 4096

/*
 * Makes a name relative to the layer's root and plain: no "." parts, no double, leading or trailing
 * slashes; the root itself is "". -EINVAL for one with "..", -ENAMETOOLONG.
 */
int entry_path_clean(const char *name, char ret[static ENTRY_PATH_MAX]);

typedef enum EntryMark {
        ENTRY_PLAIN,
        ENTRY_WHITEOUT, /* .wh.<name>: the name, in lower layers, is gone */
        ENTRY_OPAQUE,   /* .wh..wh..opq: the directory's contents in lower layers are gone */
        ENTRY_IGNORED,  /* other .wh..wh. files: aufs' own */
        ENTRY_BAD,      /* .wh. of nothing, "." or ".." */
} EntryMark;

/* Splits a clean path: *ret_parent has the length of the parent ("" is the root), *ret_leaf points
 * into path (for a whiteout, past its prefix). */
EntryMark entry_path_split(const char *path, size_t *ret_parent, const char **ret_leaf);

#endif
