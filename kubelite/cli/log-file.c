/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Prints a log file of CRI format:
 *
 *     2026-01-02T03:04:05.000000006Z stdout F text
 *
 * with P for a line that goes on in the next record of its stream. Following survives rotation: the
 * file is renamed and another takes its name, so the open one is read to its end first.
 *
 * Pods write what they like into their logs; as with kubectl the bytes go out as they are.
 */

#include "cli/cli-internal.h"

#include "base/clock.h"
#include "base/str.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#define BLOCK 65536
/* A record is 16 KiB and its head; what is longer is no record of ours and is cut. */
#define RECORD_MAX (1024 * 1024)
#define WAIT_MS 1000

typedef struct Reader {
        const CliLogOptions *options;
        FILE *out, *errors;
        int fd;
        Buf rest;         /* an incomplete record */
        bool mid_line[2]; /* per stream: the last record was partial */
} Reader;

typedef struct Record {
        const char *time, *text;
        size_t time_len, text_len;
        bool is_error, partial;
} Record;

/* Takes the next word, up to a blank. */
static bool next_word(const char **p, const char *end, const char **ret, size_t *ret_len)
{
        const char *blank = memchr(*p, ' ', (size_t)(end - *p));

        *ret = *p;
        *ret_len = (size_t)((blank ? blank : end) - *p);
        *p = blank ? blank + 1 : end;
        return *ret_len > 0;
}

static bool record_parse(const char *line, size_t len, Record *ret)
{
        const char *p = line, *end = line + len, *stream, *tag;
        size_t stream_len, tag_len;

        if (!next_word(&p, end, &ret->time, &ret->time_len) ||
            !next_word(&p, end, &stream, &stream_len) || !next_word(&p, end, &tag, &tag_len))
                return false;
        if (stream_len != 6 || (memcmp(stream, "stdout", 6) && memcmp(stream, "stderr", 6)))
                return false;
        ret->is_error = stream[3] == 'e';
        ret->partial = tag[0] == 'P';
        ret->text = p;
        ret->text_len = (size_t)(end - p);
        return true;
}

static bool record_is_late_enough(const Reader *r, const Record *record)
{
        char time[64];
        int64_t us;

        if (r->options->since_us == INT64_MIN || record->time_len >= sizeof(time))
                return true;
        memcpy(time, record->time, record->time_len);
        time[record->time_len] = '\0';
        return time_parse_rfc3339(time, &us) < 0 || us >= r->options->since_us;
}

static void print_record(Reader *r, const char *line, size_t len)
{
        Record record;
        FILE *to;

        if (!record_parse(line, len, &record) || !record_is_late_enough(r, &record))
                return;
        to = record.is_error ? r->errors : r->out;
        if (r->options->timestamps && !r->mid_line[record.is_error])
                fprintf(to, "%.*s ", (int)record.time_len, record.time);
        fwrite(record.text, 1, record.text_len, to);
        if (!record.partial)
                fputc('\n', to);
        r->mid_line[record.is_error] = record.partial;
}

static void print_block(Reader *r, const char *data, size_t len)
{
        for (const char *end; len > 0; data = end + 1) {
                size_t n;

                end = memchr(data, '\n', len);
                n = end ? (size_t)(end - data) : len;
                if (r->rest.len + n <= RECORD_MAX)
                        buf_add(&r->rest, data, n);
                if (!end)
                        return;
                print_record(r, buf_str(&r->rest), r->rest.len);
                buf_clear(&r->rest);
                len -= n + 1;
        }
}

/* To the end of the open file. */
static int read_on(Reader *r)
{
        char block[BLOCK];
        ssize_t n;

        while ((n = read(r->fd, block, sizeof(block))) != 0) {
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                print_block(r, block, (size_t)n);
                if (ferror(r->out))
                        return -EPIPE;
        }
        fflush(r->out);
        fflush(r->errors);
        return 0;
}

/* Where the last `lines` lines begin; partial records count as lines, as upstream counts them. */
static int64_t tail_offset(int fd, int64_t lines)
{
        int64_t at = lseek(fd, 0, SEEK_END);
        char block[BLOCK];
        bool first = true;

        while (at > 0) {
                size_t size = at < BLOCK ? (size_t)at : BLOCK;
                ssize_t n = pread(fd, block, size, at - (int64_t)size);

                if (n <= 0)
                        return 0;
                for (ssize_t i = n; i > 0; i--) {
                        if (block[i - 1] != '\n')
                                first = false;
                        else if (!first && lines-- <= 1)
                                return at - (int64_t)size + i;
                        else
                                first = false;
                }
                at -= (int64_t)size;
        }
        return 0;
}

/* A regular file, not through a link: the path is ours, its directory holds what pods made. */
static int open_log(const char *path)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
                kl_close(fd);
                return -EINVAL;
        }
        return fd;
}

/* True when another file has taken the name; it is the open one then. */
static bool switch_file(Reader *r)
{
        KL_AUTOFD int fd = open_log(r->options->path);
        struct stat now, then;

        if (fd < 0 || fstat(fd, &now) < 0 || fstat(r->fd, &then) < 0 ||
            (now.st_ino == then.st_ino && now.st_dev == then.st_dev))
                return false;
        /* What was written between our last read and the rename. */
        read_on(r);
        kl_close(r->fd);
        r->fd = KL_STEAL_FD(fd);
        buf_clear(&r->rest);
        return true;
}

static int watch_directory(const char *path)
{
        const char *slash = strrchr(path, '/');
        KL_AUTOFREE char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
        KL_AUTOFD int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

        if (fd < 0 || !dir || inotify_add_watch(fd, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
                return -1;
        return KL_STEAL_FD(fd);
}

static int follow(Reader *r)
{
        KL_AUTOFD int watch = watch_directory(r->options->path);
        bool last = false;
        int rc;

        for (;;) {
                struct pollfd p = { .fd = watch, .events = POLLIN };
                char events[4096];
                int n;

                rc = read_on(r);
                if (rc < 0)
                        return rc;
                if (switch_file(r))
                        continue;
                if (last)
                        return 0;
                n = poll(&p, 1, WAIT_MS);
                if (n > 0)
                        while (read(watch, events, sizeof(events)) > 0)
                                ;
                if (n == 0 && r->options->goes_on && !r->options->goes_on(r->options->data))
                        last = true;
        }
}

int cli_log_print(const CliLogOptions *options, FILE *out, FILE *errors, KlError **err)
{
        Reader r = {
                .options = options, .out = out, .errors = errors, .fd = open_log(options->path)
        };
        int rc;

        if (r.fd < 0)
                return kl_error_errno(err, r.fd, r.fd == -ENOENT ? "NotFound" : NULL, "open '%s'",
                                      options->path);
        if (options->tail >= 0)
                lseek(r.fd,
                      options->tail ? tail_offset(r.fd, options->tail) : lseek(r.fd, 0, SEEK_END),
                      SEEK_SET);
        rc = options->follow ? follow(&r) : read_on(&r);
        kl_close(r.fd);
        buf_deinit(&r.rest);
        if (rc < 0 && rc != -EPIPE)
                return kl_error_errno(err, rc, NULL, "read '%s'", options->path);
        return 0;
}
