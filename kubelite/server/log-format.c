/* SPDX-License-Identifier: Apache-2.0 */

/* "<time> stdout|stderr F|P <text>", RFC 3339 times with nanoseconds; P: the line goes on. */

#include "server/log-format.h"

#include "base/clock.h"
#include "base/str.h"

#define STAMP_MAX 64

typedef struct Record {
        const char *stamp, *text;
        size_t stamp_len, text_len;
        bool is_err, partial;
} Record;

void log_format_init(LogFormat *f, const LogOptions *options)
{
        *f = (LogFormat){ .options = *options };
}

void log_format_deinit(LogFormat *f)
{
        buf_deinit(&f->rest);
}

static const char *next_word(const char **at, const char *end, size_t *ret_len)
{
        const char *word = *at, *blank = memchr(word, ' ', (size_t)(end - word));

        *ret_len = (size_t)((blank ? blank : end) - word);
        *at = blank ? blank + 1 : end;
        return word;
}

/* Records as log writers make them have their blanks at the same places. */
#define USUAL_STAMP 30 /* 2006-01-02T15:04:05.000000000Z */

static bool parse_usual(const char *line, size_t len, Record *ret)
{
        const char *stream = line + USUAL_STAMP + 1;

        if (len < USUAL_STAMP + 10 || line[USUAL_STAMP - 1] != 'Z' || stream[-1] != ' ' ||
            stream[6] != ' ' || stream[8] != ' ' || memcmp(stream, "std", 3) != 0)
                return false;
        *ret = (Record){
                .stamp = line,
                .stamp_len = USUAL_STAMP,
                .text = stream + 9,
                .text_len = len - USUAL_STAMP - 10,
                .is_err = stream[3] == 'e',
                .partial = stream[7] == 'P',
        };
        return memcmp(stream + 3, ret->is_err ? "err" : "out", 3) == 0 && stream[7] != ' ';
}

static bool parse(const char *line, size_t len, Record *ret)
{
        const char *at = line, *end = line + len, *stream, *tag;
        size_t stream_len, tag_len;

        if (parse_usual(line, len, ret))
                return true;
        ret->stamp = next_word(&at, end, &ret->stamp_len);
        stream = next_word(&at, end, &stream_len);
        tag = next_word(&at, end, &tag_len);
        ret->text = at;
        ret->text_len = (size_t)(end - at);
        if (ret->stamp_len == 0 || ret->stamp_len >= STAMP_MAX || stream_len != 6 || tag_len == 0)
                return false;
        ret->is_err = memcmp(stream, "stderr", 6) == 0;
        ret->partial = tag[0] == 'P';
        return ret->is_err || memcmp(stream, "stdout", 6) == 0;
}

static bool is_wanted(const LogFormat *f, const Record *record)
{
        char stamp[STAMP_MAX];
        int64_t us;

        if (!(record->is_err ? f->options.err : f->options.out))
                return false;
        if (f->options.since_us == INT64_MIN)
                return true;
        memcpy(stamp, record->stamp, record->stamp_len);
        stamp[record->stamp_len] = '\0';
        return time_parse_rfc3339(stamp, &us) < 0 || us >= f->options.since_us;
}

static void put(LogFormat *f, const char *data, size_t len, Buf *to)
{
        if (f->options.limit_bytes >= 0) {
                if ((uint64_t)f->options.limit_bytes < len)
                        len = (size_t)f->options.limit_bytes;
                f->options.limit_bytes -= (int64_t)len;
                f->full = f->options.limit_bytes == 0;
        }
        buf_add(to, data, len);
}

/* ends: the record's newline lies behind it. */
static void take_record(LogFormat *f, const char *line, size_t len, bool ends, Buf *out, Buf *err)
{
        Record record;
        Buf *to;

        if (f->full || !parse(line, len, &record) || !is_wanted(f, &record))
                return;
        to = record.is_err ? err : out;
        if (f->options.timestamps && !f->mid_line[record.is_err]) {
                put(f, record.stamp, record.stamp_len, to);
                put(f, " ", 1, to);
        }
        /* In what was read the line's end follows the text. */
        put(f, record.text, record.text_len + (!record.partial && ends), to);
        if (!record.partial && !ends)
                put(f, "\n", 1, to);
        f->mid_line[record.is_err] = record.partial;
}

static void keep_rest(LogFormat *f, const char *data, size_t len)
{
        if (f->skipping)
                return;
        if (f->rest.len + len > LOG_FORMAT_RECORD_MAX) {
                f->skipping = true;
                buf_deinit(&f->rest);
                return;
        }
        buf_add(&f->rest, data, len);
}

void log_format_add(LogFormat *f, const char *data, size_t len, Buf *out, Buf *err)
{
        while (len > 0 && !f->full) {
                const char *end = memchr(data, '\n', len);
                size_t n = end ? (size_t)(end - data) : len;

                if (!end) {
                        keep_rest(f, data, n);
                        return;
                }
                if (f->rest.len == 0 && !f->skipping && n <= LOG_FORMAT_RECORD_MAX) {
                        take_record(f, data, n, true, out, err);
                } else {
                        keep_rest(f, data, n);
                        if (!f->skipping)
                                take_record(f, buf_str(&f->rest), f->rest.len, false, out, err);
                        buf_deinit(&f->rest);
                        f->skipping = false;
                }
                data += n + 1;
                len -= n + 1;
        }
}

void log_format_cut(LogFormat *f)
{
        buf_deinit(&f->rest);
        f->skipping = false;
}
