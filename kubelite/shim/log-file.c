/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A container's log file, and its rotation as the daemon's configuration wants it: the file is
 * renamed to "<name>.<UTC time>", as log collectors know it of other nodes, and begun anew. Called
 * between two records only, by the one process that writes: no line is lost or torn, and no daemon
 * is needed. The daemon compresses and removes what was rotated (pod/log-tidy.c).
 *
 * A second has one name: of what comes faster, the file takes more than its limit.
 */

#include "shim/log-file.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define ROTATED_SIZE (SHIM_LOG_NAME_SIZE + 32)

/* A pod may have put anything into its directory of logs, if it can write to it at all. */
static int open_current(const LogFile *f)
{
        KL_AUTOFD int fd = openat(f->dir_fd, f->name,
                                  O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK |
                                          O_NOCTTY | O_CLOEXEC,
                                  0640);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return -EINVAL;
        fcntl(fd, F_SETFL, O_APPEND);
        return KL_STEAL_FD(fd);
}

static bool use_current(LogFile *f)
{
        int fd = open_current(f);

        if (fd < 0)
                return false;
        kl_close(f->fd);
        f->fd = fd;
        return true;
}

void log_file_init(LogFile *f, int fd, int dir_fd, const LogMessage *m)
{
        *f = (LogFile){ .fd = fd, .dir_fd = dir_fd, .max_bytes = m->max_bytes };
        memcpy(f->name, m->name, sizeof(f->name));
        f->name[sizeof(f->name) - 1] = '\0';
        /* The descriptor is of the container's start; a log writer that comes later may find the
         * file renamed by the one before. */
        if (dir_fd >= 0)
                (void)use_current(f);
}

void log_file_use(LogFile *f, int fd)
{
        kl_close(f->fd);
        f->fd = fd;
}

void log_file_deinit(LogFile *f)
{
        f->fd = kl_close(f->fd);
        f->dir_fd = kl_close(f->dir_fd);
}

static int rename_no_replace(int dir_fd, const char *from, const char *to)
{
        struct stat st;

        if (syscall(SYS_renameat2, dir_fd, from, dir_fd, to, RENAME_NOREPLACE) == 0)
                return 0;
        if (errno != EINVAL)
                return -errno;
        /* A file system that does not know the flag. */
        if (fstatat(dir_fd, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
                return -EEXIST;
        return renameat(dir_fd, from, dir_fd, to) < 0 ? -errno : 0;
}

/* True when another file is open now. */
static bool rotate(LogFile *f, const struct timespec *now)
{
        char to[ROTATED_SIZE];
        struct tm tm;
        int n = snprintf(to, sizeof(to), "%s.", f->name);

        if (!gmtime_r(&now->tv_sec, &tm) ||
            strftime(to + n, sizeof(to) - (size_t)n, "%Y%m%d-%H%M%S", &tm) == 0)
                return false;
        if (rename_no_replace(f->dir_fd, f->name, to) < 0)
                return false;
        if (use_current(f))
                return true;
        (void)rename_no_replace(f->dir_fd, to, f->name);
        return false;
}

bool log_file_prepare(LogFile *f, size_t len)
{
        struct timespec now;
        struct stat st;

        if (f->dir_fd < 0 || f->fd < 0 || fstat(f->fd, &st) < 0)
                return false;
        if (st.st_nlink > 0 && (st.st_size == 0 || (uint64_t)st.st_size + len <= f->max_bytes))
                return false;
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        if (now.tv_sec == f->tried_s)
                return false;
        f->tried_s = now.tv_sec;
        /* Somebody has removed it: nobody would ever read what goes on there. */
        if (st.st_nlink == 0)
                return use_current(f);
        return rotate(f, &now);
}
