/* SPDX-License-Identifier: Apache-2.0 */

/* Thin wrappers, no policy. */

#include "shim/sys.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1U
#endif
#define FSCONFIG_KIND_FLAG 0
#define FSCONFIG_KIND_STRING 1
#define FSCONFIG_KIND_CREATE 6
#define FSOPEN_CLOSE_ON_EXEC 1
#define FSMOUNT_CLOSE_ON_EXEC 1
#define MOVE_FROM_EMPTY 0x04
#define MOVE_TO_EMPTY 0x40
#define STACK_RELEASE (96U * 1024)

/* Appeared after the oldest C library headers that this is built with. */
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

struct clone3_args {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
                set_tid_size, cgroup;
};

static int result(long r)
{
        return r < 0 ? -errno : (int)r;
}

int sys_open_tree(int dir_fd, const char *path, unsigned int flags)
{
        return result(syscall(SYS_open_tree, dir_fd, path, flags | OPEN_TREE_CLOEXEC));
}

int sys_move_mount(int from_fd, int to_fd)
{
        return result(
                syscall(SYS_move_mount, from_fd, "", to_fd, "", MOVE_FROM_EMPTY | MOVE_TO_EMPTY));
}

int sys_mount_setattr(int fd, unsigned int flags, const MountAttr *attr)
{
        return result(
                syscall(SYS_mount_setattr, fd, "", flags | AT_EMPTY_PATH, attr, sizeof(*attr)));
}

int sys_fsopen(const char *type)
{
        return result(syscall(SYS_fsopen, type, FSOPEN_CLOSE_ON_EXEC));
}

int sys_fsconfig_string(int fs_fd, const char *key, const char *value)
{
        return result(syscall(SYS_fsconfig, fs_fd, FSCONFIG_KIND_STRING, key, value, 0));
}

int sys_fsconfig_flag(int fs_fd, const char *key)
{
        return result(syscall(SYS_fsconfig, fs_fd, FSCONFIG_KIND_FLAG, key, NULL, 0));
}

int sys_fsconfig_create(int fs_fd)
{
        return result(syscall(SYS_fsconfig, fs_fd, FSCONFIG_KIND_CREATE, NULL, NULL, 0));
}

int sys_fsmount(int fs_fd, unsigned int attr)
{
        return result(syscall(SYS_fsmount, fs_fd, FSMOUNT_CLOSE_ON_EXEC, attr));
}

int sys_pivot_root(const char *new_root, const char *put_old)
{
        return result(syscall(SYS_pivot_root, new_root, put_old));
}

int sys_openat2(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
        struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC),
                                .mode = mode,
                                .resolve = resolve };
        int fd;

        /* EAGAIN: a rename elsewhere raced with `..`. */
        do
                fd = result(syscall(SYS_openat2, dir_fd, path, &how, sizeof(how)));
        while (fd == -EAGAIN || fd == -EINTR);
        return fd;
}

int sys_pidfd_open(pid_t pid)
{
        return result(syscall(SYS_pidfd_open, pid, 0));
}

int sys_close_range(unsigned int first, unsigned int last)
{
        return result(syscall(SYS_close_range, first, last, 0));
}

int sys_memfd(const char *name)
{
        return result(syscall(SYS_memfd_create, name, MFD_CLOEXEC));
}

pid_t sys_fork(uint64_t clone_flags, int cgroup_fd)
{
        struct clone3_args args = { .flags = clone_flags, .exit_signal = SIGCHLD };

        /* With CLONE_PARENT the exit signal is the caller's own. */
        if (clone_flags & CLONE_PARENT)
                args.exit_signal = 0;
        if (cgroup_fd >= 0) {
                args.flags |= CLONE_INTO_CGROUP;
                args.cgroup = (uint64_t)cgroup_fd;
        }
        return result(syscall(SYS_clone3, &args, sizeof(args)));
}

ssize_t file_load(int dir_fd, const char *path, char *buf, size_t size)
{
        KL_AUTOFD int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
        size_t len = 0;

        if (fd < 0)
                return -errno;
        while (len < size) {
                ssize_t n = read(fd, buf + len, size - len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0) {
                        buf[len] = '\0';
                        return (ssize_t)len;
                }
                len += (size_t)n;
        }
        return -EFBIG;
}

int file_store(int dir_fd, const char *path, const char *text)
{
        KL_AUTOFD int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);

        if (fd < 0)
                return -errno;
        return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

int file_store_number(int dir_fd, const char *path, int64_t value)
{
        char text[24];

        snprintf(text, sizeof(text), "%lld", (long long)value);
        return file_store(dir_fd, path, text);
}

int dir_make_path(const char *path, mode_t mode, bool with_last)
{
        char copy[PATH_MAX];
        size_t len = strlen(path);

        if (len == 0 || len >= sizeof(copy))
                return -ENAMETOOLONG;
        memcpy(copy, path, len + 1);
        for (char *p = copy + 1; *p; p++) {
                if (*p != '/')
                        continue;
                *p = '\0';
                if (mkdir(copy, mode) < 0 && errno != EEXIST)
                        return -errno;
                *p = '/';
        }
        return with_last && mkdir(copy, mode) < 0 && errno != EEXIST ? -errno : 0;
}

int file_swap(int dir_fd, const char *path, const void *data, size_t len)
{
        char temp[PATH_MAX];
        KL_AUTOFD int fd = -1;
        int r;

        if ((size_t)snprintf(temp, sizeof(temp), "%s.tmp", path) >= sizeof(temp))
                return -ENAMETOOLONG;
        fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        r = fd_write_full(fd, data, len);
        if (r == 0 && renameat(dir_fd, temp, dir_fd, path) < 0)
                r = -errno;
        if (r < 0)
                unlinkat(dir_fd, temp, 0);
        return r;
}

int fd_write_full(int fd, const void *data, size_t len)
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

int fd_nonblock(int fd)
{
        int flags = fcntl(fd, F_GETFL);

        return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

void stack_release(void)
{
        uintptr_t here = (uintptr_t)__builtin_frame_address(0), page = 4096;
        uintptr_t top = (here & ~(page - 1)) - page;

        /* Part of it may be no memory at all; the rest goes all the same. */
        (void)!madvise((void *)(top - STACK_RELEASE), STACK_RELEASE, MADV_DONTNEED);
}

typedef union Control {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * PACKET_FDS_MAX)];
} Control;

int packet_send(int fd, const void *data, size_t len, const int *fds, size_t n_fds, bool wait)
{
        struct iovec iov = { (void *)(uintptr_t)data, len };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        Control control;

        if (n_fds > PACKET_FDS_MAX)
                return -EMSGSIZE;
        if (n_fds > 0) {
                struct cmsghdr *c = &control.align;

                memset(&control, 0, CMSG_SPACE(sizeof(int) * n_fds));
                msg.msg_control = &control;
                msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
        }
        for (;;) {
                if (sendmsg(fd, &msg, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT)) >= 0)
                        return 0;
                if (errno != EINTR)
                        return -errno;
        }
}

/* Takes the descriptors out of the control data; all of them, so that none leaks. */
static size_t take_fds(struct msghdr *msg, int *fds, size_t max, bool *over)
{
        size_t n = 0;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
                size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < count; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
                        if (n < max) {
                                fds[n++] = fd;
                        } else {
                                close(fd);
                                *over = true;
                        }
                }
        }
        return n;
}

ssize_t packet_receive(int fd, void *data, size_t size, int *fds, size_t max_fds, size_t *ret_n_fds)
{
        struct iovec iov = { data, size };
        Control control;
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = sizeof(control) };
        bool over = false;
        ssize_t len;

        *ret_n_fds = 0;
        do
                len = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        while (len < 0 && errno == EINTR);
        if (len < 0)
                return -errno;
        *ret_n_fds = take_fds(&msg, fds, max_fds, &over);
        if (over || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
                while (*ret_n_fds > 0)
                        close(fds[--*ret_n_fds]);
                return -EMSGSIZE;
        }
        return len;
}

int packet_pair(int ret[2])
{
        return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}
