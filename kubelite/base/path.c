/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Opening paths that somebody else wrote. openat2(2) does it in the kernel, free of races; where it
 * is missing (ENOSYS, before Linux 5.6, or a seccomp profile that does not know it) the path is
 * walked part by part with O_NOFOLLOW and links are refused: stricter, never laxer.
 */

#include "base/file.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

/* The kernel answers EAGAIN when a rename races with the walk. */
#define OPENAT2_TRIES 64

static int open_walk(int dir_fd, const char *path, int flags, mode_t mode)
{
        KL_AUTOFD int at = openat(dir_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        char copy[PATH_MAX];
        size_t n = strlen(path);
        char *save = NULL, *part, *next;

        if (at < 0)
                return -errno;
        if (n >= sizeof(copy))
                return -ENAMETOOLONG;
        memcpy(copy, path, n + 1);
        part = strtok_r(copy, "/", &save);
        if (!part)
                part = copy, copy[0] = '.', copy[1] = '\0';
        for (;; part = next) {
                int fd;

                next = strtok_r(NULL, "/", &save);
                if (str_eq(part, ".."))
                        return -EXDEV;
                if (!next) {
                        fd = openat(at, part, flags | O_NOFOLLOW | O_CLOEXEC, mode);
                        return fd < 0 ? -errno : fd;
                }
                fd = openat(at, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0)
                        return -errno;
                close(at);
                at = fd;
        }
}

static int open_resolved(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
        struct open_how how = {
                .flags = (uint64_t)(unsigned int)(flags | O_CLOEXEC),
                .mode = flags & (O_CREAT | O_TMPFILE) & ~O_DIRECTORY ? mode : 0,
                .resolve = resolve | RESOLVE_NO_MAGICLINKS,
        };

        for (int i = 0; i < OPENAT2_TRIES; i++) {
                long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));

                if (fd >= 0)
                        return (int)fd;
                if (errno == ENOSYS)
                        return open_walk(dir_fd, path, flags, mode);
                if (errno != EAGAIN && errno != EINTR)
                        return -errno;
        }
        return -EAGAIN;
}

int path_open_in_root(int dir_fd, const char *path, int flags, mode_t mode)
{
        return open_resolved(dir_fd, path, flags, mode, RESOLVE_IN_ROOT);
}

int path_open_within(int dir_fd, const char *path, int flags, mode_t mode)
{
        return open_resolved(dir_fd, path, flags, mode, RESOLVE_BENEATH);
}

int path_open_beneath(int dir_fd, const char *path, int flags, mode_t mode)
{
        return open_resolved(dir_fd, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}
