/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_LOG_FORMAT_H
#define KUBELITE_SERVER_LOG_FORMAT_H

#include "base/buf.h"
#include "server/log-options.h"

/*
 * CRI log records in, what a client gets out. Pure. Records come in any pieces; one that is longer
 * than LOG_FORMAT_RECORD_MAX is no record and is dropped.
 */
#define LOG_FORMAT_RECORD_MAX (64U << 10)

typedef struct LogFormat {
        LogOptions options;
        Buf rest;         /* an unfinished record */
        bool skipping;    /* … that was too long */
        bool mid_line[2]; /* per stream: the last record was partial */
        bool full;        /* limitBytes is reached: nothing comes any more */
} LogFormat;

void log_format_init(LogFormat *format, const LogOptions *options);
void log_format_deinit(LogFormat *format);
/* Appends to out or err, which may be one; errors are the buffers'. */
void log_format_add(LogFormat *format, const char *data, size_t len, Buf *out, Buf *err);
/* Another file begins. */
void log_format_cut(LogFormat *format);

#endif
