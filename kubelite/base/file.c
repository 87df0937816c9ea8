/* SPDX-License-Identifier: Apache-2.0 */

/* Whole-file reads and writes, and removal of trees without leaving their file system. */

#include "base/file.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>

#define LOCK_POLL_MS 20

/* Deeper trees are removed in several passes by the caller's retry; no pod needs them. */
#define TREE_DEPTH_MAX 512

int fd_write_all(int fd, const void *data, size_t len)
{
        const char *p = data;

        while (len > 0) {
                ssize_t n = write(fd, p, len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                p += n;
                len -= (size_t)n;
        }
        return 0;
}

ssize_t fd_read_all(int fd, void *data, size_t max)
{
        size_t done = 0;

        while (done < max) {
                ssize_t n = read(fd, (char *)data + done, max - done);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        return (ssize_t)done;
}

int fd_set_nonblock(int fd, bool nonblock)
{
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0)
                return -errno;
        flags = nonblock ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
        return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

/* /proc and /sys files report size 0, so the buffer grows as it is read. */
static int read_growing(int fd, size_t hint, size_t max, char **ret_data, size_t *ret_len)
{
        KL_AUTOFREE char *data = NULL;
        size_t cap = hint < 4095 ? 4095 : hint, len = 0;

        for (;;) {
                ssize_t n;
                char *grown;

                if (cap > max)
                        cap = max;
                grown = realloc(data, cap + 2);
                if (!grown)
                        return -ENOMEM;
                data = grown;
                /* One byte more than allowed tells a file that is too big. */
                n = fd_read_all(fd, data + len, cap + 1 - len);
                if (n < 0)
                        return (int)n;
                len += (size_t)n;
                if (len <= cap)
                        break;
                if (cap == max)
                        return -EFBIG;
                cap *= 2;
        }
        data[len] = '\0';
        *ret_data = KL_STEAL(data);
        if (ret_len)
                *ret_len = len;
        return 0;
}

int file_read_at(int dir_fd, const char *path, size_t max, char **ret_data, size_t *ret_len)
{
        KL_AUTOFD int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        if (st.st_size > 0 && (size_t)st.st_size > max)
                return -EFBIG;
        return read_growing(fd, (size_t)st.st_size, max, ret_data, ret_len);
}

int file_read(const char *path, size_t max, char **ret_data, size_t *ret_len)
{
        return file_read_at(AT_FDCWD, path, max, ret_data, ret_len);
}

int file_read_line(const char *path, char *buf, size_t size)
{
        KL_AUTOFD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = fd_read_all(fd, buf, size - 1);
        if (n < 0)
                return (int)n;
        buf[n] = '\0';
        buf[strcspn(buf, "\n")] = '\0';
        return 0;
}

int file_write_at(int dir_fd, const char *path, const char *text)
{
        KL_AUTOFD int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);

        if (fd < 0)
                return -errno;
        return fd_write_all(fd, text, strlen(text));
}

int file_write(const char *path, const char *text)
{
        return file_write_at(AT_FDCWD, path, text);
}

static int replace_write(int fd, const void *data, size_t len, mode_t mode, bool sync)
{
        int r = fd_write_all(fd, data, len);

        if (r < 0)
                return r;
        if (fchmod(fd, mode) < 0 || (sync && fsync(fd) < 0))
                return -errno;
        return 0;
}

int file_replace_at(int dir_fd, const char *path, const void *data, size_t len, mode_t mode,
                    bool sync)
{
        KL_AUTOFREE char *temp = NULL;
        KL_AUTOFD int fd = -1;
        char suffix[17];
        int r;

        random_hex(suffix, 8);
        temp = str_format("%s.%s.tmp", path, suffix);
        if (!temp)
                return -ENOMEM;
        fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = replace_write(fd, data, len, mode, sync);
        if (r == 0 && renameat(dir_fd, temp, dir_fd, path) < 0)
                r = -errno;
        if (r < 0)
                unlinkat(dir_fd, temp, 0);
        return r;
}

int file_replace(const char *path, const void *data, size_t len, mode_t mode, bool sync)
{
        return file_replace_at(AT_FDCWD, path, data, len, mode, sync);
}

int dir_make_all(const char *path, mode_t mode)
{
        char part[PATH_MAX];
        size_t n = strlen(path);

        if (n == 0 || n >= sizeof(part))
                return n ? -ENAMETOOLONG : -ENOENT;
        memcpy(part, path, n + 1);
        for (char *p = part + 1; *p; p++) {
                if (*p != '/')
                        continue;
                *p = '\0';
                if (mkdir(part, mode) < 0 && errno != EEXIST && errno != EROFS)
                        return -errno;
                *p = '/';
        }
        if (mkdir(part, mode) == 0)
                return 0;
        if (errno == EEXIST) {
                struct stat st;

                return stat(part, &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
        }
        return -errno;
}

bool path_is_mount(int dir_fd, const char *name)
{
        struct statx here, parent;
        KL_AUTOFD int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &here) < 0)
                return false;
        if (here.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)
                return here.stx_attributes & STATX_ATTR_MOUNT_ROOT;
        if (statx(fd, "..", 0, STATX_BASIC_STATS, &parent) < 0)
                return false;
        return here.stx_dev_major != parent.stx_dev_major ||
               here.stx_dev_minor != parent.stx_dev_minor;
}

static int tree_remove_depth(int dir_fd, const char *name, int depth);

static int tree_empty(int fd, int depth)
{
        KL_AUTOFD int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        KL_AUTODIR DIR *dir = NULL;
        struct dirent *entry;
        int result = 0, r;

        dir = copy < 0 ? NULL : fdopendir(copy);
        if (!dir)
                return -errno;
        copy = -1;
        while ((errno = 0, entry = readdir(dir))) {
                if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
                        continue;
                r = tree_remove_depth(fd, entry->d_name, depth + 1);
                if (r < 0 && result == 0)
                        result = r;
        }
        return result ? result : errno ? -errno : 0;
}

static int tree_remove_depth(int dir_fd, const char *name, int depth)
{
        KL_AUTOFD int fd = -1;
        int r;

        if (depth > TREE_DEPTH_MAX)
                return -ELOOP;
        if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno == EBUSY)
                return -EXDEV;
        if (errno != EISDIR && errno != EPERM)
                return -errno;
        if (path_is_mount(dir_fd, name))
                return -EXDEV;
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        r = tree_empty(fd, depth);
        if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                return r < 0 ? r : -errno;
        return 0;
}

int tree_remove_at(int dir_fd, const char *name)
{
        return tree_remove_depth(dir_fd, name, 0);
}

int tree_remove(const char *path)
{
        return tree_remove_at(AT_FDCWD, path);
}

int fd_lock(int fd)
{
        for (int waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += LOCK_POLL_MS) {
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return -errno;
                if (waited_ms >= FD_LOCK_WAIT_MS)
                        return -EBUSY;
                poll(NULL, 0, LOCK_POLL_MS);
        }
        return 0;
}
