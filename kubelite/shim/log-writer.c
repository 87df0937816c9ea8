/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The log writer: the pod's second process. It reads what containers write, puts it into their CRI
 * log files, and copies it to who is attached; and carries what they send to the container's
 * standard input. One channel a container (or exec with a terminal).
 *
 * The queue of a container is its pipe, 64 KiB: while the disk or an attached client does not take
 * more, the container waits. A disk without space must not stop containers, so then records are
 * dropped and counted, and the gap is told in the log when there is space again.
 */

#include "shim/log-file.h"
#include "shim/log-internal.h"
#include "shim/log-line.h"
#include "shim/shim-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define READ_SIZE 16384U
#define BATCH_SIZE 32768U
/* What a drained stream may still give, should something else than the container hold its other
 * end. */
#define DRAIN_MAX (1U << 20)
#define EVENTS_MAX 16
/* More are closed at once. */
#define ATTACHED_MAX 64U
#define PAGE 4096

typedef struct Channel Channel;
typedef struct Attached Attached;
typedef struct Watch Watch;

struct Watch {
        void (*func)(Watch *watch);
        Channel *channel;
        Attached *attached;
        int fd;
        bool active;
};

/* A chunk that one descriptor did not take whole. */
typedef struct Rest {
        char *data;
        size_t len;
} Rest;

struct Attached {
        List link;
        Watch in, out[2]; /* stdout, stderr */
        Rest rest[2];
        bool gone; /* freed at the end of the turn */
};

struct Channel {
        List link, attached;
        uint32_t id;
        size_t n_attached;
        LogFile file;
        bool tty, stdin_once;
        bool wait; /* for the first client */
        bool gone; /* freed when its clients have got the last bytes */
        Watch out[2], in;
        LogStream stream[2];
        Rest in_rest;
        uint64_t lost_records, lost_bytes;
        int lost_errno;
};

static struct {
        int epoll_fd;
        Watch control;
        List channels;
        bool control_gone;
} writer;

/* Page-aligned, so that their memory can be given back when there is nothing to do. */
static char input[READ_SIZE] __attribute__((aligned(PAGE)));
static char batch[BATCH_SIZE] __attribute__((aligned(PAGE)));
static size_t batch_len;

/* --- watches --- */

static void watch_set(Watch *watch, uint32_t events, bool active)
{
        struct epoll_event event = { .events = events, .data.ptr = watch };

        if (watch->fd < 0 || (!active && !watch->active))
                return;
        epoll_ctl(writer.epoll_fd,
                  !active         ? EPOLL_CTL_DEL
                  : watch->active ? EPOLL_CTL_MOD
                                  : EPOLL_CTL_ADD,
                  watch->fd, &event);
        watch->active = active;
}

static void watch_close(Watch *watch)
{
        watch_set(watch, 0, false);
        watch->fd = kl_close(watch->fd);
}

static void answer(uint32_t type, uint32_t channel)
{
        LogMessage message = { .type = type, .channel = channel };

        packet_send(writer.control.fd, &message, sizeof(message), NULL, 0, true);
}

/* --- the file --- */

static void lose(Channel *c, const char *data, size_t len, int error)
{
        for (size_t i = 0; i < len; i++)
                c->lost_records += data[i] == '\n';
        c->lost_bytes += len;
        c->lost_errno = error;
}

/* Whole records or nothing: half a record is cut off again. The bytes that are in the file. */
static size_t write_records(int fd, const char *data, size_t len, int *error)
{
        size_t done = 0, whole;
        struct stat st;

        *error = 0;
        while (done < len) {
                ssize_t n = write(fd, data + done, len - done);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0) {
                        *error = n < 0 ? errno : ENOSPC;
                        break;
                }
                done += (size_t)n;
        }
        whole = done;
        while (whole > 0 && whole < len && data[whole - 1] != '\n')
                whole--;
        if (whole < done && fstat(fd, &st) == 0)
                (void)!ftruncate(fd, st.st_size - (off_t)(done - whole));
        return whole;
}

static void stamp_now(char stamp[static TIME_RFC3339_SIZE])
{
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        time_format_rfc3339_nano(now.tv_sec, now.tv_nsec, stamp);
}

static bool write_gap(Channel *c)
{
        char stamp[TIME_RFC3339_SIZE], text[256];
        int n, error;

        stamp_now(stamp);
        n = snprintf(text, sizeof(text),
                     "%s stderr F kubelite: %llu log records (%llu bytes) lost: %s\n", stamp,
                     (unsigned long long)c->lost_records, (unsigned long long)c->lost_bytes,
                     strerror(c->lost_errno));
        if (write_records(c->file.fd, text, (size_t)n, &error) != (size_t)n)
                return false;
        c->lost_records = c->lost_bytes = 0;
        return true;
}

static void flush(Channel *c)
{
        size_t done = 0;
        int error = c->lost_errno;

        if (batch_len > 0 && log_file_prepare(&c->file, batch_len))
                answer(LOG_ROTATED, c->id);
        if (batch_len > 0 && (c->lost_records == 0 || write_gap(c)))
                done = write_records(c->file.fd, batch, batch_len, &error);
        if (done < batch_len)
                lose(c, batch + done, batch_len - done, error);
        batch_len = 0;
}

static void add_record(const char *record, size_t len, void *data)
{
        Channel *c = data;

        if (batch_len + len > sizeof(batch))
                flush(c);
        memcpy(batch + batch_len, record, len);
        batch_len += len;
}

static void log_bytes(Channel *c, int stream, const char *data, size_t len)
{
        char stamp[TIME_RFC3339_SIZE];

        if (c->file.fd < 0)
                return;
        stamp_now(stamp);
        log_stream_add(&c->stream[stream], stamp, data, len, add_record, c);
        flush(c);
}

/* --- attached clients --- */

static void watch_sources(Channel *c);

static void detach(Attached *a)
{
        if (a->gone)
                return;
        a->gone = true;
        watch_close(&a->in);
        for (int i = 0; i < 2; i++) {
                watch_close(&a->out[i]);
                free(a->rest[i].data);
                a->rest[i] = (Rest){ NULL, 0 };
        }
}

static ssize_t write_some(int fd, const char *data, size_t len)
{
        ssize_t n;

        do
                n = write(fd, data, len);
        while (n < 0 && errno == EINTR);
        return n < 0 && errno == EAGAIN ? 0 : n;
}

static int keep_rest(Rest *rest, const char *data, size_t len)
{
        char *bytes = realloc(rest->data, rest->len + len);

        if (!bytes)
                return -ENOMEM;
        memcpy(bytes + rest->len, data, len);
        *rest = (Rest){ bytes, rest->len + len };
        return 0;
}

/* Tries again; true when all is out, or the client is gone. */
static bool push_rest(Rest *rest, int fd, bool *failed)
{
        ssize_t n = write_some(fd, rest->data, rest->len);

        *failed = n < 0;
        if (n < 0)
                return true;
        memmove(rest->data, rest->data + n, rest->len - (size_t)n);
        rest->len -= (size_t)n;
        if (rest->len > 0)
                return false;
        free(rest->data);
        *rest = (Rest){ NULL, 0 };
        return true;
}

/* Nothing more comes for it: closes what needs no more writing. */
static void finish(Attached *a)
{
        watch_close(&a->in);
        for (int i = 0; i < 2; i++)
                if (!a->rest[i].data)
                        watch_close(&a->out[i]);
        if (a->out[0].fd < 0 && a->out[1].fd < 0)
                detach(a);
}

static void attached_writable(Watch *watch)
{
        Attached *a = watch->attached;
        int i = watch == &a->out[1];
        bool failed = false;

        if (!a->rest[i].data) {
                /* Nothing to write: the other end hung up. */
                detach(a);
        } else if (push_rest(&a->rest[i], watch->fd, &failed)) {
                if (failed)
                        detach(a);
                else if (watch->channel->gone)
                        finish(a);
                else
                        watch_set(watch, 0, true);
        }
        watch_sources(watch->channel);
}

/* At its end a channel gives more although a client has not taken all of what was before. */
static void copy_to(Attached *a, int i, const char *data, size_t len)
{
        Watch *to = &a->out[i];
        ssize_t n = a->rest[i].data ? 0 : write_some(to->fd, data, len);

        if (n < 0 || ((size_t)n < len && keep_rest(&a->rest[i], data + n, len - (size_t)n) < 0))
                detach(a);
        else if ((size_t)n < len)
                watch_set(to, EPOLLOUT, true);
}

static void copy_out(Channel *c, int stream, const char *data, size_t len)
{
        int i = c->tty ? 0 : stream;

        list_for_each (a, &c->attached, Attached, link)
                if (!a->gone && a->out[i].fd >= 0)
                        copy_to(a, i, data, len);
        watch_sources(c);
}

/* --- containers' output --- */

static bool anybody_waits(const Channel *c)
{
        list_for_each (a, (List *)(uintptr_t)&c->attached, Attached, link)
                if (!a->gone && (a->rest[0].data || a->rest[1].data))
                        return true;
        return false;
}

static void watch_sources(Channel *c)
{
        bool active = !c->wait && !anybody_waits(c);

        for (int i = 0; i < 2; i++)
                watch_set(&c->out[i], EPOLLIN, active);
}

static void end_stream(Channel *c, int stream)
{
        char stamp[TIME_RFC3339_SIZE];

        watch_close(&c->out[stream]);
        stamp_now(stamp);
        if (c->file.fd >= 0) {
                log_stream_end(&c->stream[stream], stamp, add_record, c);
                flush(c);
        }
}

/* One read; 0: the end or nothing there. */
static size_t take(Channel *c, int stream)
{
        ssize_t n;

        do
                n = read(c->out[stream].fd, input, sizeof(input));
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EAGAIN)
                return 0;
        /* EIO: nobody has the terminal open; for a container's own it is the end too. */
        if (n <= 0) {
                end_stream(c, stream);
                return 0;
        }
        log_bytes(c, stream, input, (size_t)n);
        copy_out(c, stream, input, (size_t)n);
        return (size_t)n;
}

static void readable(Watch *watch)
{
        take(watch->channel, watch == &watch->channel->out[1]);
}

/* --- standard input --- */

static void in_writable(Watch *watch)
{
        Channel *c = watch->channel;
        bool failed = false;

        if (c->in_rest.data && !push_rest(&c->in_rest, watch->fd, &failed))
                return;
        watch_set(watch, 0, false);
        if (failed || !c->in_rest.data)
                list_for_each (a, &c->attached, Attached, link)
                        if (!a->gone && a->in.fd >= 0)
                                watch_set(&a->in, EPOLLIN, true);
}

static void stdin_ended(Channel *c, Attached *a)
{
        watch_close(&a->in);
        if (a->out[0].fd < 0 && a->out[1].fd < 0)
                detach(a);
        if (!c->stdin_once || c->tty || c->in.fd < 0)
                return;
        watch_close(&c->in);
        answer(LOG_STDIN_DONE, c->id);
}

static void from_client(Watch *watch)
{
        Channel *c = watch->channel;
        ssize_t n = read(watch->fd, input, sizeof(input)), put;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                stdin_ended(c, watch->attached);
                return;
        }
        put = c->in.fd < 0 ? n : write_some(c->in.fd, input, (size_t)n);
        if (put < 0 || put == n || keep_rest(&c->in_rest, input + put, (size_t)(n - put)) < 0)
                return;
        list_for_each (a, &c->attached, Attached, link)
                watch_set(&a->in, 0, false);
        watch_set(&c->in, EPOLLOUT, true);
}

/* --- what the shim asks for --- */

static Channel *find(uint32_t id)
{
        list_for_each (c, &writer.channels, Channel, link)
                if (c->id == id && !c->gone)
                        return c;
        return NULL;
}

static int next_fd(int *fds, size_t n_fds, size_t *at)
{
        int fd = -1;

        if (*at < n_fds) {
                fd = fds[*at];
                fds[(*at)++] = -1;
        }
        return fd;
}

static void init_watch(Watch *watch, Channel *c, Attached *a, int fd, void (*func)(Watch *watch))
{
        *watch = (Watch){ func, c, a, fd, false };
        if (fd >= 0)
                (void)fd_nonblock(fd);
}

static void add_channel(const LogMessage *m, int *fds, size_t n_fds)
{
        static const char *const names[2] = { "stdout", "stderr" };
        Channel *c = calloc(1, sizeof(*c));
        size_t at = 0;
        int file, dir;

        if (!c)
                return;
        list_init(&c->attached);
        list_append(&writer.channels, &c->link);
        c->id = m->channel;
        c->tty = m->flags & LOG_TTY;
        c->stdin_once = m->flags & LOG_STDIN_ONCE;
        c->wait = m->flags & LOG_WAIT;
        file = m->flags & LOG_HAS_FILE ? next_fd(fds, n_fds, &at) : -1;
        dir = m->flags & LOG_HAS_DIR ? next_fd(fds, n_fds, &at) : -1;
        log_file_init(&c->file, file, dir, m);
        init_watch(&c->out[0], c, NULL, m->flags & LOG_HAS_OUT ? next_fd(fds, n_fds, &at) : -1,
                   readable);
        init_watch(&c->out[1], c, NULL, m->flags & LOG_HAS_ERR ? next_fd(fds, n_fds, &at) : -1,
                   readable);
        init_watch(&c->in, c, NULL,
                   m->flags & LOG_HAS_IN ? next_fd(fds, n_fds, &at)
                   : c->tty              ? fcntl(c->out[0].fd, F_DUPFD_CLOEXEC, 3)
                                         : -1,
                   in_writable);
        for (int i = 0; i < 2; i++)
                c->stream[i].name = names[i];
        watch_sources(c);
}

static void attach(Channel *c, uint32_t streams, int *fds, size_t n_fds)
{
        Attached *a = c->n_attached < ATTACHED_MAX ? calloc(1, sizeof(*a)) : NULL;
        size_t at = 0;

        if (!a)
                return;
        c->n_attached++;
        list_append(&c->attached, &a->link);
        init_watch(&a->in, c, a, streams & SHIM_ATTACH_STDIN ? next_fd(fds, n_fds, &at) : -1,
                   from_client);
        init_watch(&a->out[0], c, a, streams & SHIM_ATTACH_STDOUT ? next_fd(fds, n_fds, &at) : -1,
                   attached_writable);
        init_watch(&a->out[1], c, a, streams & SHIM_ATTACH_STDERR ? next_fd(fds, n_fds, &at) : -1,
                   attached_writable);
        watch_set(&a->in, EPOLLIN, true);
        /* Only for the hang-up, which is always told. */
        watch_set(&a->out[0], 0, true);
        watch_set(&a->out[1], 0, true);
        c->wait = false;
        watch_sources(c);
}

static void close_channel(Channel *c)
{
        for (int i = 0; i < 2; i++)
                for (size_t n = 0; c->out[i].fd >= 0 && n < DRAIN_MAX;) {
                        size_t got = take(c, i);

                        n += got;
                        if (got == 0 && c->out[i].fd >= 0)
                                end_stream(c, i);
                }
        for (int i = 0; i < 2; i++)
                if (c->out[i].fd >= 0)
                        end_stream(c, i);
        if (c->lost_records > 0 && c->file.fd >= 0)
                (void)write_gap(c);
        watch_close(&c->in);
        list_for_each (a, &c->attached, Attached, link)
                finish(a);
        c->gone = true;
        answer(LOG_ENDED, c->id);
}

static void handle(const LogMessage *m, int *fds, size_t n_fds)
{
        Channel *c = find(m->channel);
        size_t at = 0;

        if (m->type == LOG_ADD && !c) {
                add_channel(m, fds, n_fds);
        } else if (m->type == LOG_END && !c) {
                answer(LOG_ENDED, m->channel);
        } else if (m->type == LOG_END) {
                close_channel(c);
        } else if (m->type == LOG_ATTACH && c) {
                attach(c, m->flags, fds, n_fds);
        } else if (m->type == LOG_REOPEN && c && n_fds > 0) {
                log_file_use(&c->file, next_fd(fds, n_fds, &at));
        }
}

static void from_shim(Watch *watch)
{
        int fds[LOG_MESSAGE_FDS];
        LogMessage message;
        size_t n_fds;
        ssize_t n =
                packet_receive(watch->fd, &message, sizeof(message), fds, LOG_MESSAGE_FDS, &n_fds);

        if (n == -EAGAIN)
                return;
        if (n != (ssize_t)sizeof(message)) {
                watch_close(watch);
                writer.control_gone = true;
        } else {
                handle(&message, fds, n_fds);
        }
        for (size_t i = 0; i < n_fds; i++)
                kl_close(fds[i]);
}

/* --- the loop --- */

static void free_gone(void)
{
        list_for_each (c, &writer.channels, Channel, link) {
                list_for_each (a, &c->attached, Attached, link)
                        if (a->gone) {
                                list_unlink(&a->link);
                                c->n_attached--;
                                free(a);
                        }
                if (!c->gone || c->n_attached > 0)
                        continue;
                list_unlink(&c->link);
                log_file_deinit(&c->file);
                free(c->in_rest.data);
                free(c);
        }
}

/* Without the shim all that is left is what the pipes hold. */
static bool all_ended(void)
{
        list_for_each (c, &writer.channels, Channel, link)
                if (c->out[0].fd >= 0 || c->out[1].fd >= 0)
                        return false;
        return true;
}

static void give_back(void)
{
        madvise(input, sizeof(input), MADV_DONTNEED);
        madvise(batch, sizeof(batch), MADV_DONTNEED);
        log_record_release();
        stack_release();
}

void log_writer_main(int control_fd)
{
        struct epoll_event events[EVENTS_MAX];

        list_init(&writer.channels);
        writer.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        init_watch(&writer.control, NULL, NULL, control_fd, from_shim);
        watch_set(&writer.control, EPOLLIN, true);
        while (!writer.control_gone || !all_ended()) {
                int n = epoll_wait(writer.epoll_fd, events, EVENTS_MAX, 0);

                if (n == 0) {
                        give_back();
                        n = epoll_wait(writer.epoll_fd, events, EVENTS_MAX, -1);
                }
                for (int i = 0; i < n; i++) {
                        Watch *watch = events[i].data.ptr;

                        if (watch->active)
                                watch->func(watch);
                }
                free_gone();
        }
        _exit(0);
}
