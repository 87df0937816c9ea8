/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SHIM_LOG_LINE_H
#define KUBELITE_SHIM_LOG_LINE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A container's output as CRI log records, "<RFC 3339 time> stdout|stderr F|P <text>\n". A line
 * that is longer than LOG_LINE_MAX, or ends without a newline at the end of the stream, is cut into
 * P records. Pure: bytes in, records out.
 */

#define LOG_LINE_MAX 16384U
#define LOG_RECORD_MAX (LOG_LINE_MAX + 64U)

typedef struct LogStream {
        const char *name; /* "stdout", "stderr" */
        char *partial;    /* LOG_LINE_MAX bytes, or NULL while there is no unfinished line */
        size_t len;
} LogStream;

/* Takes one record: header and text, to be written as they are. */
typedef void (*LogRecordFunc)(const char *record, size_t len, void *data);

/* -ENOMEM if an unfinished line could not be kept; it is then given out as P. */
int log_stream_add(LogStream *stream, const char *stamp, const char *bytes, size_t len,
                   LogRecordFunc func, void *data);
/* Gives back the memory of the last records. */
void log_record_release(void);
/* The end: what is unfinished goes out as P. */
void log_stream_end(LogStream *stream, const char *stamp, LogRecordFunc func, void *data);

#endif
