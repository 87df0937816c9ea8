/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_LOG_TIDY_H
#define KUBELITE_POD_LOG_TIDY_H

#include "loop/loop.h"

/*
 * What is left of logs that their pod's log writer has rotated: the newest rotated file stays as it
 * is, since collectors may still read it, older ones are compressed, the oldest removed. All by
 * niced workers.
 */
#define LOG_TIDY_JOBS_MAX 8192

typedef struct LogTidy LogTidy;

typedef struct LogTidyOptions {
        int64_t max_files;    /* of one log, with the current one */
        unsigned int workers; /* at the same time */
        uint64_t interval_ms; /* a rotated log waits for at most this long */
} LogTidyOptions;

int log_tidy_new(Loop *loop, const LogTidyOptions *options, LogTidy **ret, KlError **err);
LogTidy *log_tidy_free(LogTidy *tidy);
KL_DEFINE_CLEANUP(LogTidy *, log_tidy_free);

/* The log at this path was rotated, or may have been. */
void log_tidy_rotated(LogTidy *tidy, const char *path);
/* It is not needed any more, nor its rotated files. */
void log_tidy_remove(LogTidy *tidy, const char *path);

#endif
