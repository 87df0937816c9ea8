/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_SOURCE_FILE_H
#define KUBELITE_POD_SOURCE_FILE_H

#include "api/pod.h"
#include "loop/loop.h"

/*
 * Static pods from a manifest directory: YAML or JSON files, several documents each, followed by
 * inotify and read again every fileCheckFrequency. Names that start with a dot are ignored. A file
 * that cannot be read or decoded is reported once and keeps what it gave before.
 */
#define MANIFEST_SIZE_MAX (1U << 20)
#define MANIFEST_FILES_MAX 1024

typedef struct FileSource FileSource;

/*
 * All static pods of the moment, after each change. Take one by setting its slot to
 * NULL; the others are freed. uid tells versions apart: an edited manifest is another pod.
 */
typedef void (*FileSourceFunc)(FileSource *source, Pod **pods, size_t n, void *data);

/* dir may not exist yet, and may be one manifest file instead of a directory. */
int file_source_new(Loop *loop, const char *dir, const char *node_name, uint64_t check_ms,
                    FileSourceFunc func, void *data, FileSource **ret, KlError **err);
FileSource *file_source_free(FileSource *source);
KL_DEFINE_CLEANUP(FileSource *, file_source_free);

/* Reads everything now; func is called from within. */
void file_source_scan(FileSource *source);

/*
 * One document into a static pod: uid, name suffix, namespace, node name and annotations as
 * upstream's file source gives them; references to API objects are refused with the field's name.
 */
int static_pod_decode(Value *document, const char *node_name, const char *path, Pod **ret,
                      KlError **err);

#endif
