/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_BASE_ROTATED_H
#define KUBELITE_BASE_ROTATED_H

#include <stdbool.h>

/*
 * Rotated files of a log "0.log" are called "0.log.20060102-150405", and that with ".gz" once they
 * are compressed; while that is done there is one with ".tmp", too. By their names they are in the
 * order of time.
 */
#define ROTATED_MAX 4096 /* more are not looked at */
#define ROTATED_GZ ".gz"
#define ROTATED_TMP ".tmp"

/* The files' names without ROTATED_GZ, oldest first, each once; ends in NULL, to be freed by
 * strv_free. Blocks on the disk as readdir(3) does. 0 or negative errno. */
int rotated_list(int dir_fd, const char *log, char ***ret);

#endif
