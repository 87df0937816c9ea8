/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_BASE_FILE_H
#define KUBELITE_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Files and paths. All descriptors are close-on-exec. Functions return 0 or a negative errno (or a
 * descriptor); dir_fd may be AT_FDCWD. These calls block on the disk: the daemon uses them for
 * /proc, /sys, tmpfs and small files on local disks only.
 */

/* Whole regular file, at most max bytes (-EFBIG above), NUL added. -EINVAL for anything else but a
 * regular file, so that a FIFO cannot block. */
int file_read_at(int dir_fd, const char *path, size_t max, char **ret_data, size_t *ret_len);
int file_read(const char *path, size_t max, char **ret_data, size_t *ret_len);

/* One line of a /proc or /sys file without its newline. */
int file_read_line(const char *path, char *buf, size_t size);

/* Writes in place, for /proc, /sys and cgroup files. */
int file_write_at(int dir_fd, const char *path, const char *text);
int file_write(const char *path, const char *text);

/* Temp file beside it, optionally fsync, rename: readers see the old or the new file. */
int file_replace_at(int dir_fd, const char *path, const void *data, size_t len, mode_t mode,
                    bool sync);
int file_replace(const char *path, const void *data, size_t len, mode_t mode, bool sync);

/* mkdir -p: existing directories are kept as they are. */
int dir_make_all(const char *path, mode_t mode);

/* Opens beneath a directory: `..`, absolute names and links are resolved as if dir_fd were the root
 * (RESOLVE_IN_ROOT), or refused (RESOLVE_BENEATH | NO_SYMLINKS); magic links never. Falls back to a
 * walk by O_NOFOLLOW where openat2(2), Linux 5.6, is missing. */
int path_open_in_root(int dir_fd, const char *path, int flags, mode_t mode);
/* Relative links are followed as long as they lead nowhere else (RESOLVE_BENEATH). */
int path_open_within(int dir_fd, const char *path, int flags, mode_t mode);
int path_open_beneath(int dir_fd, const char *path, int flags, mode_t mode);

/* Removes a tree, bottom up, following no link and crossing no mount (-EXDEV names one).
 * -ENOENT is success. */
int tree_remove_at(int dir_fd, const char *name);
int tree_remove(const char *path);

/* True for a mount point of any kind (statx MNT_ID comparison with its parent, Linux 5.8). */
bool path_is_mount(int dir_fd, const char *name);

/* read/write all, restarting on EINTR. */
int fd_write_all(int fd, const void *data, size_t len);
ssize_t fd_read_all(int fd, void *data, size_t max);

int fd_set_nonblock(int fd, bool nonblock);

/* An exclusive flock(2), for the life of a daemon. Children of one that was killed a moment ago may
 * hold it until they are gone, too: waits for them as long as FD_LOCK_WAIT_MS, then -EBUSY. */
#define FD_LOCK_WAIT_MS 3000
int fd_lock(int fd);

#endif
