/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SHIM_LOG_FILE_H
#define KUBELITE_SHIM_LOG_FILE_H

#include "shim/log-internal.h"

#include <stdbool.h>
#include <stddef.h>

/* The file that a container's records go to. */
typedef struct LogFile {
        int fd;     /* -1: no log */
        int dir_fd; /* -1: not rotated */
        uint64_t max_bytes;
        int64_t tried_s; /* the second of the last attempt to rotate */
        char name[SHIM_LOG_NAME_SIZE];
} LogFile;

/* Takes both descriptors. */
void log_file_init(LogFile *file, int fd, int dir_fd, const LogMessage *message);
/* Goes on in this one. */
void log_file_use(LogFile *file, int fd);
void log_file_deinit(LogFile *file);
/* Before whole records of this length are written: rotates if they would not fit. True when another
 * file was begun. */
bool log_file_prepare(LogFile *file, size_t len);

#endif
