/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A reader works in steps, a few at a turn, so that a large log delays nobody: find where the last
 * lines begin, read a chunk, hand it out, wait. One inotify instance serves all readers (there are
 * only 128 to a user), and one timer asks whether followed containers still run.
 *
 * Reads are preadv2(RWF_NOWAIT), Linux 4.14. EAGAIN means that the disk would have to be waited
 * for: a worker reads the range into the page cache, and the read is tried again.
 */

#include "server/log-reader.h"

#include "base/list.h"
#include "base/str.h"
#include "loop/worker.h"
#include "server/log-chain.h"
#include "server/log-format.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define TICK_MS 1000
#define CHUNKS_PER_TURN 4 /* then the others' turn */
#define FETCH_BYTES (1U << 20)
#define FETCH_DEADLINE_MS 120000
#define FETCH_FD 4 /* what a function worker is given to keep */
#define WATCH_EVENTS (IN_MODIFY | IN_CREATE | IN_MOVED_TO)

struct LogService {
        Loop *loop;
        char *dir;
        int dir_fd;
        int inotify;
        Watch *watch;
        Timer *tick;
        List readers;
};

typedef enum ReaderState {
        READER_SEEK, /* looks for where to begin */
        READER_READ,
        READER_WAITS, /* at the end of a followed file */
        READER_DONE,
} ReaderState;

struct LogReader {
        List link;
        LogService *service;
        LogReaderFuncs funcs;
        void *data;
        char *path; /* relative to the log directory */
        LogChain *chain;
        int wd; /* of the directory, or -1 */
        ReaderState state;
        int64_t tail_lines; /* -1: all */
        bool follow, blocked, last_round;
        LogFormat format;
        Buf out; /* formatted, not handed out yet */
        Deferred *step;
        Worker *fetch;
        int64_t fetch_at;
};

static void reader_finish(LogReader *r, const KlError *err)
{
        if (r->state == READER_DONE)
                return;
        r->state = READER_DONE;
        r->funcs.done(r, err, r->data);
}

static void reader_fail(LogReader *r, int code)
{
        KL_AUTOERR err = NULL;

        kl_error_errno(&err, code, NULL, "read a log");
        reader_finish(r, err);
}

/* --- reading --- */

/* In a child: it may wait for the disk. */
static int fetch_body(void *arg)
{
        const int64_t *at = arg;
        static char block[LOG_READER_CHUNK];

        for (size_t n = 0; n < FETCH_BYTES; n += sizeof(block))
                if (pread(FETCH_FD, block, sizeof(block), *at + (int64_t)n) <= 0)
                        break;
        return 0;
}

static void on_fetched(Worker *worker, WorkerResult *result, void *data)
{
        LogReader *r = data;

        r->fetch = worker_free(r->fetch);
        if (result->timed_out)
                reader_fail(r, -EIO);
        else
                deferred_schedule(r->step);
}

static void start_fetch(LogReader *r)
{
        WorkerSpec spec = {
                .name = "log-fetch",
                .body = fetch_body,
                .body_arg = &r->fetch_at,
                .keep_fds = { log_chain_fd(r->chain) },
                .out_max = 16,
                .deadline_ms = FETCH_DEADLINE_MS,
                .done = on_fetched,
                .data = r,
        };

        r->fetch_at = log_chain_position(r->chain);
        if (worker_start(r->service->loop, &spec, &r->fetch, NULL) < 0)
                reader_fail(r, -EAGAIN);
}

/* --- where to begin --- */

static int seek(LogReader *r)
{
        if (r->tail_lines >= 0)
                return log_chain_seek_tail(r->chain, r->tail_lines);
        return log_chain_seek_oldest(r->chain, r->format.options.since_us);
}

static void step_seek(LogReader *r)
{
        int rc = seek(r);

        if (rc == -EAGAIN) {
                start_fetch(r);
                return;
        }
        if (rc < 0) {
                reader_fail(r, rc);
                return;
        }
        if (rc == 0)
                r->state = READER_READ;
        deferred_schedule(r->step);
}

/* --- forwards --- */

/* False when the owner cannot take it now, or the reader is gone. */
static bool hand_out(LogReader *r)
{
        int rc;

        if (r->out.len == 0)
                return true;
        r->blocked = true; /* unless it is resumed before the call returns */
        rc = r->funcs.output(r, r->out.data, r->out.len, r->data);
        if (rc == -ENOBUFS)
                return false;
        r->blocked = false;
        if (rc < 0)
                return false;
        buf_clear(&r->out);
        return true;
}

static void at_end(LogReader *r)
{
        buf_deinit(&r->out);
        if (!r->follow || r->last_round) {
                reader_finish(r, NULL);
                return;
        }
        /* Asked before the last look at the file: what was written until then is found by it. */
        if (!r->funcs.goes_on(r, r->data)) {
                r->last_round = true;
                deferred_schedule(r->step);
                return;
        }
        r->state = READER_WAITS;
}

/* True when more can be done at once; false also when the reader may be gone. */
static bool step_read(LogReader *r)
{
        static char block[LOG_READER_CHUNK];
        bool new_file;
        ssize_t n;

        if (!hand_out(r))
                return false;
        n = log_chain_read(r->chain, block, sizeof(block), &new_file);
        if (n == -EAGAIN) {
                start_fetch(r);
                return false;
        }
        if (n < 0) {
                reader_fail(r, (int)n);
                return false;
        }
        if (n == 0) {
                at_end(r);
                return false;
        }
        if (new_file)
                log_format_cut(&r->format);
        log_format_add(&r->format, block, (size_t)n, &r->out, &r->out);
        if (buf_error(&r->out)) {
                reader_fail(r, -ENOMEM);
                return false;
        }
        if (!hand_out(r))
                return false;
        if (!r->format.full)
                return true;
        reader_finish(r, NULL);
        return false;
}

static void read_on(LogReader *r)
{
        for (int i = 0; i < CHUNKS_PER_TURN; i++)
                if (!step_read(r))
                        return;
        deferred_schedule(r->step);
}

static void on_step(Deferred *deferred, void *data)
{
        LogReader *r = data;

        if (r->fetch || r->blocked)
                return;
        if (r->state == READER_SEEK)
                step_seek(r);
        else if (r->state == READER_READ && !r->format.full)
                read_on(r);
        else if (r->state == READER_READ && hand_out(r))
                reader_finish(r, NULL);
}

void log_reader_resume(LogReader *r)
{
        r->blocked = false;
        deferred_schedule(r->step);
}

static void wake(LogReader *r)
{
        if (r->state != READER_WAITS)
                return;
        r->state = READER_READ;
        deferred_schedule(r->step);
}

/* --- following --- */

static void on_inotify(Watch *watch, int fd, unsigned int events, void *data)
{
        LogService *s = data;
        char buf[8192] __attribute__((aligned(8)));
        ssize_t n;

        while ((n = read(fd, buf, sizeof(buf))) > 0) {
                for (char *at = buf; at < buf + n;) {
                        const struct inotify_event *e = (struct inotify_event *)at;

                        list_for_each (r, &s->readers, LogReader, link)
                                if (r->wd == e->wd || (e->mask & IN_Q_OVERFLOW))
                                        wake(r);
                        at += sizeof(*e) + e->len;
                }
        }
}

static void on_tick(Timer *timer, void *data)
{
        LogService *s = data;
        bool any = false;

        list_for_each (r, &s->readers, LogReader, link) {
                any |= r->follow;
                if (r->state == READER_WAITS && !r->funcs.goes_on(r, r->data))
                        wake(r);
        }
        if (any)
                timer_start(timer, TICK_MS);
}

/* The directory: a rotated file is another file. Without a watch the tick would never find more. */
static int follow_directory(LogReader *r, KlError **err)
{
        LogService *s = r->service;
        const char *slash = strrchr(r->path, '/');
        KL_AUTOFREE char *dir =
                str_format("%s/%.*s", s->dir, slash ? (int)(slash - r->path) : 0, r->path);

        if (!dir)
                return kl_error_oom(err);
        r->wd = inotify_add_watch(s->inotify, dir, WATCH_EVENTS | IN_ONLYDIR);
        if (r->wd < 0)
                return kl_error_errno(err, -errno, NULL, "follow directory '%s'", dir);
        if (!timer_active(s->tick))
                timer_start(s->tick, TICK_MS);
        return 0;
}

static void unfollow_directory(LogReader *r)
{
        int wd = r->wd;

        r->wd = -1;
        if (wd < 0)
                return;
        list_for_each (other, &r->service->readers, LogReader, link)
                if (other->wd == wd)
                        return;
        inotify_rm_watch(r->service->inotify, wd);
}

/* --- readers and their service --- */

static const char *relative(const LogService *s, const char *path)
{
        size_t n = strlen(s->dir);

        if (strncmp(path, s->dir, n) != 0 || path[n] != '/')
                return NULL;
        return path + n + 1;
}

int log_reader_new(LogService *s, const char *path, const LogOptions *options,
                   const LogReaderFuncs *funcs, void *data, LogReader **ret, KlError **err)
{
        KL_AUTO(log_reader_free) LogReader *r = calloc(1, sizeof(*r));
        int rc;

        if (!r)
                return kl_error_oom(err);
        list_init(&r->link);
        list_append(&s->readers, &r->link);
        r->service = s;
        r->funcs = *funcs;
        r->data = data;
        r->wd = -1;
        r->follow = options->follow;
        log_format_init(&r->format, options);
        path = relative(s, path);
        if (!path)
                return kl_error(err, -EINVAL, NULL, "the log is not in the log directory");
        r->path = strdup(path);
        r->step = deferred_new(s->loop, on_step, r);
        if (!r->path || !r->step)
                return kl_error_oom(err);
        rc = log_chain_open(s->dir_fd, path, LOG_CHAIN_NOWAIT | (r->follow ? LOG_CHAIN_FOLLOW : 0),
                            &r->chain);
        if (rc < 0)
                return kl_error_errno(err, rc, NULL, "open log '%s'", path);
        if (r->follow)
                KL_TRY(follow_directory(r, err));
        r->state = READER_SEEK;
        r->tail_lines = options->tail_lines;
        deferred_schedule(r->step);
        *ret = KL_STEAL(r);
        return 0;
}

LogReader *log_reader_free(LogReader *r)
{
        if (!r)
                return NULL;
        list_unlink(&r->link);
        unfollow_directory(r);
        worker_free(r->fetch);
        deferred_free(r->step);
        log_format_deinit(&r->format);
        buf_deinit(&r->out);
        log_chain_free(r->chain);
        free(r->path);
        free(r);
        return NULL;
}

int log_service_new(Loop *loop, const char *log_dir, LogService **ret, KlError **err)
{
        KL_AUTO(log_service_free) LogService *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return kl_error_oom(err);
        list_init(&s->readers);
        s->loop = loop;
        s->inotify = -1;
        s->dir_fd = -1;
        s->dir = strdup(log_dir);
        s->tick = timer_new(loop, on_tick, s);
        if (!s->dir || !s->tick)
                return kl_error_oom(err);
        s->dir_fd = open(log_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (s->dir_fd < 0)
                return kl_error_errno(err, -errno, NULL, "open log directory '%s'", log_dir);
        s->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (s->inotify < 0)
                return kl_error_errno(err, -errno, NULL, "follow logs");
        r = watch_new(loop, s->inotify, WATCH_READ, on_inotify, s, &s->watch);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "follow logs");
        *ret = KL_STEAL(s);
        return 0;
}

LogService *log_service_free(LogService *s)
{
        if (!s)
                return NULL;
        watch_free(s->watch);
        timer_free(s->tick);
        kl_close(s->inotify);
        kl_close(s->dir_fd);
        free(s->dir);
        free(s);
        return NULL;
}
