/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_LOG_READER_H
#define KUBELITE_SERVER_LOG_READER_H

#include "loop/loop.h"
#include "server/log-options.h"

/*
 * Reads containers' log files for clients, and follows them by inotify across rotation. Nothing
 * blocks: what is not in the page cache is fetched by a worker. Only regular files beneath the log
 * directory are opened, and through no link.
 */
#define LOG_READER_CHUNK (32U << 10)

typedef struct LogService LogService;
typedef struct LogReader LogReader;

/* Borrows nothing; log_dir is copied. */
int log_service_new(Loop *loop, const char *log_dir, LogService **ret, KlError **err);
/* All readers must have been freed. */
LogService *log_service_free(LogService *service);
KL_DEFINE_CLEANUP(LogService *, log_service_free);

typedef struct LogReaderFuncs {
        /* A piece of at most 2 * LOG_READER_CHUNK bytes. -ENOBUFS: later, after
         * log_reader_resume(); the same bytes come again. */
        int (*output)(LogReader *reader, const char *data, size_t len, void *data_ptr);
        /* Asked at the end of the file when following: more to come? */
        bool (*goes_on)(LogReader *reader, void *data_ptr);
        /* The last callback. */
        void (*done)(LogReader *reader, const KlError *err, void *data_ptr);
} LogReaderFuncs;

/* path is beneath the log directory. -ENOENT when there is no such file (yet). No callback comes
 * within this call. */
int log_reader_new(LogService *service, const char *path, const LogOptions *options,
                   const LogReaderFuncs *funcs, void *data, LogReader **ret, KlError **err);
LogReader *log_reader_free(LogReader *reader);
KL_DEFINE_CLEANUP(LogReader *, log_reader_free);
void log_reader_resume(LogReader *reader);

#endif
