/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The device nodes of the host, for privileged containers. What each container gets anyway, or
 * has an instance of its own of, is left out.
 */

#include "runtime/document-internal.h"

#include "base/str.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define DEPTH_MAX 8

static const char *const skipped[] = {
        "pts",   "shm",  "fd",   "mqueue", "console", "ptmx",    ".lxc", ".lxd-mounts",
        ".udev", "null", "zero", "full",   "random",  "urandom", "tty",  "hugepages",
};

typedef struct Collector {
        Arena *arena;
        ShimDevice *devices;
        size_t n;
        KlError **err;
} Collector;

static int add_node(Collector *c, const char *path, const struct stat *st)
{
        if (c->n == HOST_DEVICES_MAX)
                return kl_error(c->err, -E2BIG, NULL, "more than %d devices", HOST_DEVICES_MAX);
        c->devices[c->n] = (ShimDevice){
                .path = arena_format(c->arena, "/dev/%s", path),
                .type = S_ISBLK(st->st_mode) ? 'b' : 'c',
                .major = major(st->st_rdev),
                .minor = minor(st->st_rdev),
                .mode = st->st_mode & 07777,
                .uid = st->st_uid,
                .gid = st->st_gid,
        };
        return c->devices[c->n++].path ? 0 : -ENOMEM;
}

static int scan(Collector *c, int dir_fd, const char *prefix, int depth);

static int scan_entry(Collector *c, int dir_fd, const char *prefix, const char *name, int depth)
{
        KL_AUTOFREE char *path = str_format("%s%s", prefix, name);
        struct stat st;

        if (!path)
                return -ENOMEM;
        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;
        if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
                return add_node(c, path, &st);
        if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
                KL_AUTOFREE char *inner = str_format("%s/", path);
                int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

                return !inner ? -ENOMEM : fd < 0 ? 0 : scan(c, fd, inner, depth + 1);
        }
        return 0;
}

/* Takes dir_fd. */
static int scan(Collector *c, int dir_fd, const char *prefix, int depth)
{
        KL_AUTODIR DIR *dir = fdopendir(dir_fd);
        struct dirent *entry;
        int r = 0;

        if (!dir) {
                kl_close(dir_fd);
                return -ENOMEM;
        }
        while (r == 0 && (entry = readdir(dir))) {
                bool skip = str_eq(entry->d_name, ".") || str_eq(entry->d_name, "..");

                for (size_t i = 0; depth == 0 && i < ELEMENTS(skipped); i++)
                        skip |= str_eq(entry->d_name, skipped[i]);
                if (!skip)
                        r = scan_entry(c, dirfd(dir), prefix, entry->d_name, depth);
        }
        return r;
}

int devices_collect(const char *dev_dir, Arena *arena, ShimDevice **ret, size_t *ret_n,
                    KlError **err)
{
        Collector c = { .arena = arena, .err = err };
        int fd, r;

        c.devices = ARENA_ARRAY(arena, HOST_DEVICES_MAX, ShimDevice);
        if (!c.devices)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        fd = open(dev_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return kl_error_errno(err, -errno, NULL, "open '%s'", dev_dir);
        r = scan(&c, fd, "", 0);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "list '%s'", dev_dir);
        *ret = c.devices;
        *ret_n = c.n;
        return 0;
}
