/* SPDX-License-Identifier: Apache-2.0 */

/* Network namespaces and their sysctls. */

#include "cni/plugins/netns.h"

#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

int netns_open(const char *path)
{
        KL_AUTOFD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct statfs fs;

        if (fd < 0)
                return errno == ENOTDIR ? -ENOENT : -errno;
        if (fstatfs(fd, &fs) < 0)
                return -errno;
        if (fs.f_type != NSFS_MAGIC || ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)
                return -ENOENT;
        return KL_STEAL_FD(fd);
}

bool netns_is_own(const char *path)
{
        struct stat own, other;

        return stat("/proc/self/ns/net", &own) == 0 && stat(path, &other) == 0 &&
               own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

int netns_enter(int fd, KlError **err)
{
        if (setns(fd, CLONE_NEWNET) < 0)
                return kl_error_errno(err, -errno, NULL, "enter the network namespace");
        return 0;
}

int sysctl_set(const char *value, const char *format, ...)
{
        char path[128], now[16];
        va_list args;
        int n, m;

        n = snprintf(path, sizeof(path), "/proc/sys/net/");
        va_start(args, format);
        m = vsnprintf(path + n, sizeof(path) - (size_t)n, format, args);
        va_end(args);
        if (m < 0 || (size_t)(n + m) >= sizeof(path))
                return -ENAMETOOLONG;
        if (file_read_line(path, now, sizeof(now)) == 0 && str_eq(now, value))
                return 0;
        return file_write(path, value);
}
