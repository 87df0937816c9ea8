/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SHIM_SYS_H
#define KUBELITE_SHIM_SYS_H

#include <linux/openat2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>

/*
 * System calls that the C library has no function for, and small file helpers. All return 0 (or a
 * descriptor, or a pid) or a negative errno; all descriptors are close-on-exec.
 */

/* Kernel headers' mount numbers clash with the C library's <sys/mount.h>, so they are named here.
 */
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC 02000000
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef MOUNT_ATTR_RDONLY
#define MOUNT_ATTR_RDONLY 0x00000001
#define MOUNT_ATTR_NOSUID 0x00000002
#define MOUNT_ATTR_NODEV 0x00000004
#define MOUNT_ATTR_NOEXEC 0x00000008
#endif
#ifndef MOUNT_ATTR_IDMAP
#define MOUNT_ATTR_IDMAP 0x00100000
#endif

typedef struct MountAttr {
        uint64_t attr_set, attr_clr, propagation, userns_fd;
} MountAttr;

int sys_open_tree(int dir_fd, const char *path, unsigned int flags);
/* From a detached (or attached) mount's descriptor onto a descriptor of the place. */
int sys_move_mount(int from_fd, int to_fd);
int sys_mount_setattr(int fd, unsigned int flags, const MountAttr *attr);
int sys_fsopen(const char *type);
int sys_fsconfig_string(int fs_fd, const char *key, const char *value);
int sys_fsconfig_flag(int fs_fd, const char *key);
int sys_fsconfig_create(int fs_fd);
int sys_fsmount(int fs_fd, unsigned int attr);
int sys_pivot_root(const char *new_root, const char *put_old);
int sys_openat2(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve);
int sys_pidfd_open(pid_t pid);
int sys_close_range(unsigned int first, unsigned int last);
int sys_memfd(const char *name);

/* fork(2) with flags; exit signal SIGCHLD. cgroup_fd: -1, or the v2 cgroup to be born in. */
pid_t sys_fork(uint64_t clone_flags, int cgroup_fd);

/* --- files --- */

/* Whole small file into buf, NUL added; the length, -EFBIG if it does not fit. */
ssize_t file_load(int dir_fd, const char *path, char *buf, size_t size);
/* One write(2), for /proc, /sys and cgroup files. */
int file_store(int dir_fd, const char *path, const char *text);
int file_store_number(int dir_fd, const char *path, int64_t value);
/* mkdir -p of an absolute path's directories; with_last also makes the last part. */
int dir_make_path(const char *path, mode_t mode, bool with_last);
/* Temporary file beside it and rename. */
int file_swap(int dir_fd, const char *path, const void *data, size_t len);
int fd_write_full(int fd, const void *data, size_t len);
int fd_nonblock(int fd);

/* Gives back the stack pages below the caller's: what a burst of work has touched. */
void stack_release(void);

/* --- SOCK_SEQPACKET packets with descriptors --- */

#define PACKET_FDS_MAX 250U

/* Never raises SIGPIPE. With wait false -EAGAIN when the socket is full. */
int packet_send(int fd, const void *data, size_t len, const int *fds, size_t n_fds, bool wait);
/*
 * The packet's length; 0 at the end. Descriptors beyond `max_fds`, and a packet longer than size,
 * are -EMSGSIZE with all descriptors closed.
 */
ssize_t packet_receive(int fd, void *data, size_t size, int *fds, size_t max_fds,
                       size_t *ret_n_fds);
int packet_pair(int ret[2]);

#endif
