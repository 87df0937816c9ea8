/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The place of the reader is a file and an offset. `done` is the newest rotated file that is behind
 * it: what comes next is the first rotated file that is newer, else the current one. When the
 * current file turns out to be another one, the open one has become the first rotated file after
 * `done`, and needs to be read once more to its end: between the last read and the renaming it may
 * have grown.
 */

#include "server/log-chain.h"

#include "base/file.h"
#include "base/rotated.h"
#include "base/str.h"
#include "codec/gzip.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* Renames that race with opening are few. */
#define OPEN_TRIES 16

struct LogChain {
        int root_fd;
        char *path, *dir; /* of the current file, and of its directory; beneath root_fd */
        const char *name; /* within path */
        unsigned int flags;
        int fd;         /* -1: the current file is gone for a moment */
        char *stem;     /* of the open file; NULL: it is the current one */
        char *done;     /* "": none */
        bool moved;     /* the current file is another one by now */
        bool fresh;     /* nothing was read of this file yet */
        int64_t at;     /* of the file itself, also of a compressed one */
        int64_t wanted; /* position of a read that has to wait */

        Gunzip *gunzip; /* of a compressed file */
        Buf packed;
        size_t packed_at;
        int64_t skip; /* lines, of a compressed file */

        /* seek_tail */
        bool seeking, at_file_end, counted_all;
        int64_t lines_left, counted;
};

/* --- opening --- */

static int open_regular(int root_fd, const char *path)
{
        KL_AUTOFD int fd = path_open_beneath(root_fd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        return S_ISREG(st.st_mode) ? KL_STEAL_FD(fd) : -EINVAL;
}

static int open_beside(const LogChain *c, const char *stem, const char *suffix)
{
        KL_AUTOFREE char *path = str_format("%s/%s%s", c->dir, stem, suffix);

        return path ? open_regular(c->root_fd, path) : -ENOMEM;
}

static int list(const LogChain *c, char ***ret)
{
        KL_AUTOFD int dir = path_open_beneath(c->root_fd, c->dir, O_RDONLY | O_DIRECTORY, 0);

        return dir < 0 ? dir : rotated_list(dir, c->name, ret);
}

static int set_text(char **to, const char *text)
{
        char *copy = text ? strdup(text) : NULL;

        if (text && !copy)
                return -ENOMEM;
        free(*to);
        *to = copy;
        return 0;
}

/* Takes fd over. */
static int use(LogChain *c, int fd, const char *stem, bool packed)
{
        kl_close(c->fd);
        c->fd = fd;
        c->at = c->skip = 0;
        c->moved = false;
        c->fresh = true;
        buf_deinit(&c->packed);
        c->packed_at = 0;
        c->gunzip = gunzip_free(c->gunzip);
        KL_TRY(set_text(&c->stem, stem));
        if (packed && !(c->gunzip = gunzip_new()))
                return -ENOMEM;
        return 0;
}

/* A compressed file takes its name before the other one goes. -ENOENT: both are gone. */
static int open_rotated(LogChain *c, const char *stem)
{
        int fd = open_beside(c, stem, "");
        bool packed = fd == -ENOENT;

        if (packed)
                fd = open_beside(c, stem, ROTATED_GZ);
        return fd < 0 ? fd : use(c, fd, stem, packed);
}

static const char *first_after(char *const *names, const char *done)
{
        for (; *names; names++)
                if (strcmp(*names, done) > 0)
                        return *names;
        return NULL;
}

/* 1: what comes after `done` is open; 0: nothing is there, or the current file is gone for a
 * moment. Anything else than a file at a rotated one's place is passed over. */
static int open_next(LogChain *c)
{
        for (int i = 0; i < OPEN_TRIES; i++) {
                KL_AUTOSTRV before = NULL;
                KL_AUTOSTRV after = NULL;
                const char *stem;
                int fd, r;

                KL_TRY(list(c, &before));
                while ((stem = first_after(before, c->done))) {
                        r = open_rotated(c, stem);
                        if (r == 0)
                                return 1;
                        if (r == -ENOMEM)
                                return r;
                        KL_TRY(set_text(&c->done, stem));
                }
                fd = open_regular(c->root_fd, c->path);
                KL_TRY(use(c, fd < 0 ? -1 : fd, NULL, false));
                KL_TRY(list(c, &after));
                if (first_after(after, c->done))
                        continue;
                return fd < 0 ? (fd == -ENOENT ? 0 : fd) : 1;
        }
        return -EAGAIN;
}

/* --- reading --- */

static ssize_t read_at(LogChain *c, void *buf, size_t size, int64_t at)
{
        struct iovec to = { buf, size };
        ssize_t n = preadv2(c->fd, &to, 1, at, c->flags & LOG_CHAIN_NOWAIT ? RWF_NOWAIT : 0);

        if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
                n = pread(c->fd, buf, size, at);
        c->wanted = at;
        return n < 0 ? -errno : n;
}

static ssize_t fill_packed(LogChain *c)
{
        char *block;
        ssize_t n;

        buf_clear(&c->packed);
        c->packed_at = 0;
        block = buf_reserve(&c->packed, LOG_CHAIN_BLOCK);
        if (!block)
                return -ENOMEM;
        n = read_at(c, block, LOG_CHAIN_BLOCK, c->at);
        if (n > 0) {
                c->packed.len = (size_t)n;
                c->at += n;
        }
        return n;
}

static ssize_t read_packed(LogChain *c, char *buf, size_t size)
{
        for (;;) {
                size_t used;
                ssize_t n;

                if (c->packed_at == c->packed.len) {
                        n = fill_packed(c);
                        if (n <= 0)
                                return n;
                }
                n = gunzip_add(c->gunzip, c->packed.data + c->packed_at,
                               c->packed.len - c->packed_at, &used, buf, size);
                c->packed_at += used;
                if (n != 0)
                        return n;
        }
}

/* The next bytes of the open file; 0 at its end. */
static ssize_t read_file(LogChain *c, char *buf, size_t size)
{
        ssize_t n;

        if (c->fd < 0)
                return 0;
        if (c->gunzip)
                return read_packed(c, buf, size);
        n = read_at(c, buf, size, c->at);
        if (n > 0)
                c->at += n;
        return n;
}

/* What is left of a block when the lines before the tail are taken off. */
static size_t skip_lines(LogChain *c, char *buf, size_t n)
{
        size_t at = 0;

        while (c->skip > 0 && at < n) {
                const char *lf = memchr(buf + at, '\n', n - at);

                at = lf ? (size_t)(lf - buf) + 1 : n;
                c->skip -= lf != NULL;
        }
        memmove(buf, buf + at, n - at);
        return n - at;
}

static bool is_file(const LogChain *c, const char *stem, const struct stat *open)
{
        KL_AUTOFD int fd = open_beside(c, stem, "");
        struct stat st;

        return fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == open->st_ino &&
               st.st_dev == open->st_dev;
}

/* The open file is no longer the current one: which one it has become is behind us. */
static int pass_moved(LogChain *c)
{
        KL_AUTOSTRV names = NULL;
        const char *ours;
        struct stat st;

        if (c->fd < 0 || fstat(c->fd, &st) < 0)
                return 0;
        KL_TRY(list(c, &names));
        ours = first_after(names, c->done);
        for (size_t i = 0; names[i]; i++)
                if (strcmp(names[i], c->done) > 0 && is_file(c, names[i], &st))
                        ours = names[i];
        return ours ? set_text(&c->done, ours) : 0;
}

/* True when the name belongs to another file than the open one, or the file was cut short. */
static bool look_at_current(LogChain *c)
{
        KL_AUTOFD int fd = open_regular(c->root_fd, c->path);
        struct stat now, then;

        if (fd < 0 || c->fd < 0 || fstat(fd, &now) < 0 || fstat(c->fd, &then) < 0)
                return false;
        if (now.st_ino != then.st_ino || now.st_dev != then.st_dev) {
                c->moved = true;
                return true;
        }
        if (then.st_size >= c->at)
                return false;
        c->at = 0;
        c->fresh = true;
        return true;
}

/* At the end of the open file. 1: read on; 0: that was all for now. */
static int next_file(LogChain *c)
{
        if (c->stem) {
                KL_TRY(set_text(&c->done, c->stem));
                return open_next(c);
        }
        if (!(c->flags & LOG_CHAIN_FOLLOW))
                return 0;
        if (c->fd < 0)
                return open_next(c);
        if (!c->moved)
                return look_at_current(c);
        KL_TRY(pass_moved(c));
        return open_next(c);
}

ssize_t log_chain_read(LogChain *c, char *buf, size_t size, bool *ret_new)
{
        for (;;) {
                ssize_t n = read_file(c, buf, size);
                int r;

                /* What is broken in a compressed file ends it. */
                if (n < 0 && !(n == -EBADMSG && c->stem))
                        return n;
                if (n <= 0) {
                        r = next_file(c);
                        if (r <= 0)
                                return r;
                        continue;
                }
                n = (ssize_t)skip_lines(c, buf, (size_t)n);
                if (n == 0)
                        continue;
                *ret_new = c->fresh;
                c->fresh = false;
                return n;
        }
}

int log_chain_fd(const LogChain *c)
{
        return c->fd;
}

int64_t log_chain_position(const LogChain *c)
{
        return c->wanted;
}

/* --- where to begin --- */

static bool is_older(const LogChain *c, const char *stem, int64_t since_us)
{
        KL_AUTOFD int plain = open_beside(c, stem, "");
        KL_AUTOFD int fd = plain >= 0 ? KL_STEAL_FD(plain) : open_beside(c, stem, ROTATED_GZ);
        struct stat st;

        /* Compressing makes a file younger, never older. A second more: times are coarse. */
        return fd >= 0 && fstat(fd, &st) == 0 && (st.st_mtim.tv_sec + 1) * 1000000LL < since_us;
}

int log_chain_seek_oldest(LogChain *c, int64_t since_us)
{
        KL_AUTOSTRV names = NULL;
        int r;

        KL_TRY(list(c, &names));
        KL_TRY(set_text(&c->done, ""));
        for (size_t i = 0; names[i] && since_us != INT64_MIN && is_older(c, names[i], since_us);
             i++)
                KL_TRY(set_text(&c->done, names[i]));
        r = open_next(c);
        return r < 0 ? r : 0;
}

static int begin_at_end(LogChain *c)
{
        struct stat st;

        if (c->fd < 0)
                return 0;
        if (fstat(c->fd, &st) < 0)
                return -errno;
        c->at = c->gunzip ? 0 : st.st_size;
        c->at_file_end = true;
        c->counted_all = false;
        c->counted = 0;
        return 0;
}

/* 1: the file before this one is open; 0: there is none. */
static int open_previous(LogChain *c)
{
        KL_AUTOSTRV names = NULL;
        size_t n;

        KL_TRY(list(c, &names));
        for (n = strv_len(names); n > 0; n--) {
                const char *bound = c->stem ? c->stem : c->done;
                int order = strcmp(names[n - 1], bound);

                if (c->stem ? order >= 0 : order > 0)
                        continue;
                if (open_rotated(c, names[n - 1]) == 0) {
                        KL_TRY(set_text(&c->done, n > 1 ? names[n - 2] : ""));
                        KL_TRY(begin_at_end(c));
                        return 1;
                }
        }
        return 0;
}

/* True when the beginning is found in the block. */
static bool scan_back(LogChain *c, const char *block, size_t n, int64_t from)
{
        while (n > 0) {
                const char *lf = memrchr(block, '\n', n);

                if (!lf)
                        break;
                n = (size_t)(lf - block);
                /* The one that ends the file ends the last line, and begins none. */
                if (c->at_file_end && from + (int64_t)n + 1 == c->at) {
                        c->at_file_end = false;
                        continue;
                }
                c->at_file_end = false;
                if (--c->lines_left == 0) {
                        c->at = from + (int64_t)n + 1;
                        return true;
                }
        }
        c->at_file_end = false;
        c->at = from;
        return false;
}

static int step_plain(LogChain *c)
{
        static char block[LOG_CHAIN_BLOCK];
        size_t size = c->at < LOG_CHAIN_BLOCK ? (size_t)c->at : LOG_CHAIN_BLOCK;
        int64_t from = c->at - (int64_t)size;
        struct stat st;
        ssize_t n;

        n = read_at(c, block, size, from);
        if (n < 0)
                return (int)n;
        if ((size_t)n < size) {
                /* A part of it is not in the page cache, or the file was cut short. */
                if (fstat(c->fd, &st) == 0 && st.st_size < c->at) {
                        c->at = st.st_size;
                        return 1;
                }
                c->wanted = from + n;
                return -EAGAIN;
        }
        if (scan_back(c, block, size, from))
                return 0;
        /* The first line of the file has no newline before it. */
        return c->at == 0 && --c->lines_left == 0 ? 0 : 1;
}

static int rewind_packed(LogChain *c)
{
        gunzip_free(c->gunzip);
        c->gunzip = gunzip_new();
        buf_clear(&c->packed);
        c->packed_at = 0;
        c->at = 0;
        return c->gunzip ? 0 : -ENOMEM;
}

/* Lines of a compressed file can only be counted from its beginning. */
static int step_packed(LogChain *c)
{
        static char block[LOG_CHAIN_BLOCK];
        ssize_t n = read_packed(c, block, sizeof(block));
        int64_t skip;

        for (const char *at = block; n > 0 && (at = memchr(at, '\n', (size_t)(block + n - at)));
             at++)
                c->counted++;
        if (n > 0)
                return 1;
        /* What is broken is read as far as it goes. */
        if (n < 0 && n != -EBADMSG)
                return (int)n;
        c->counted_all = true;
        skip = c->counted - c->lines_left;
        c->lines_left -= c->counted;
        if (skip < 0)
                return 1;
        KL_TRY(rewind_packed(c));
        c->skip = skip;
        return 0;
}

static int start_tail(LogChain *c, int64_t lines)
{
        c->seeking = true;
        c->lines_left = lines;
        KL_TRY(begin_at_end(c));
        return lines > 0;
}

int log_chain_seek_tail(LogChain *c, int64_t lines)
{
        int r;

        if (!c->seeking)
                return start_tail(c, lines);
        if (c->gunzip && !c->counted_all)
                return step_packed(c);
        if (!c->gunzip && c->at > 0)
                return step_plain(c);
        r = open_previous(c);
        /* There are not so many. */
        return r == 0 && c->gunzip ? rewind_packed(c) : r;
}

/* --- the object --- */

int log_chain_open(int root_fd, const char *path, unsigned int flags, LogChain **ret)
{
        KL_AUTO(log_chain_free) LogChain *c = calloc(1, sizeof(*c));
        const char *slash = strrchr(path, '/');
        KL_AUTOSTRV names = NULL;
        size_t n;

        if (!c)
                return -ENOMEM;
        c->fd = -1;
        c->root_fd = root_fd;
        c->flags = flags;
        c->path = strdup(path);
        c->dir = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
        c->done = strdup("");
        if (!c->path || !c->dir || !c->done)
                return -ENOMEM;
        c->name = slash ? c->path + (slash + 1 - path) : c->path;
        KL_TRY(list(c, &names));
        n = strv_len(names);
        if (n > 0)
                KL_TRY(set_text(&c->done, names[n - 1]));
        KL_TRY(open_next(c));
        if (c->fd < 0)
                return -ENOENT;
        *ret = KL_STEAL(c);
        return 0;
}

LogChain *log_chain_free(LogChain *c)
{
        if (!c)
                return NULL;
        kl_close(c->fd);
        gunzip_free(c->gunzip);
        buf_deinit(&c->packed);
        free(c->path);
        free(c->dir);
        free(c->stem);
        free(c->done);
        free(c);
        return NULL;
}
