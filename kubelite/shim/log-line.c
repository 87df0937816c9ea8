/* SPDX-License-Identifier: Apache-2.0 */

/* Splitting of output into records; an unfinished line is the only thing kept between calls. */

#include "shim/log-line.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <sys/mman.h>

#define PAGE 4096U

/* One at a time is built here: there is one thread, and func copies it. */
static char record[(LOG_RECORD_MAX + PAGE - 1) / PAGE * PAGE] __attribute__((aligned(PAGE)));

void log_record_release(void)
{
        madvise(record, sizeof(record), MADV_DONTNEED);
}

static void emit(const LogStream *stream, const char *stamp, char tag, const char *a, size_t a_len,
                 const char *b, size_t b_len, LogRecordFunc func, void *data)
{
        int head = snprintf(record, sizeof(record), "%s %s %c ", stamp, stream->name, tag);
        size_t len = (size_t)head;

        if (a_len)
                memcpy(record + len, a, a_len);
        len += a_len;
        if (b_len)
                memcpy(record + len, b, b_len);
        len += b_len;
        record[len++] = '\n';
        func(record, len, data);
}

static void emit_with_partial(LogStream *stream, const char *stamp, char tag, const char *bytes,
                              size_t len, LogRecordFunc func, void *data)
{
        emit(stream, stamp, tag, stream->partial, stream->len, bytes, len, func, data);
        free(stream->partial);
        stream->partial = NULL;
        stream->len = 0;
}

static int keep(LogStream *stream, const char *stamp, const char *bytes, size_t len,
                LogRecordFunc func, void *data)
{
        if (!stream->partial)
                stream->partial = malloc(LOG_LINE_MAX);
        if (!stream->partial) {
                emit(stream, stamp, 'P', NULL, 0, bytes, len, func, data);
                return -ENOMEM;
        }
        memcpy(stream->partial + stream->len, bytes, len);
        stream->len += len;
        return 0;
}

int log_stream_add(LogStream *stream, const char *stamp, const char *bytes, size_t len,
                   LogRecordFunc func, void *data)
{
        while (len > 0) {
                const char *newline = memchr(bytes, '\n', len);
                size_t line = newline ? (size_t)(newline - bytes) : len;
                size_t room = LOG_LINE_MAX - stream->len;

                if (line > room) {
                        emit_with_partial(stream, stamp, 'P', bytes, room, func, data);
                        bytes += room;
                        len -= room;
                        continue;
                }
                if (!newline)
                        return keep(stream, stamp, bytes, len, func, data);
                emit_with_partial(stream, stamp, 'F', bytes, line, func, data);
                bytes += line + 1;
                len -= line + 1;
        }
        return 0;
}

void log_stream_end(LogStream *stream, const char *stamp, LogRecordFunc func, void *data)
{
        if (stream->len > 0)
                emit_with_partial(stream, stamp, 'P', NULL, 0, func, data);
        free(stream->partial);
        stream->partial = NULL;
        stream->len = 0;
}
