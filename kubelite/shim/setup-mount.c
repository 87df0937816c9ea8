/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Mounts of a container, in its own mount namespace before the old root is dropped. Every target is
 * opened beneath the new root (links of the image resolve inside of it, magic links never) and
 * every mount is put on that descriptor, so that no name is looked up twice. Targets of the
 * built-in kinds may not be links at all.
 */

#include "shim/shim-internal.h"

#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#define REASON "StartError"
#define PROC_MAGIC 0x9fa0
#define OPTION_MAX 256
#define TARGET_DEPTH_MAX 64

/* --- targets --- */

static int make_last(int dir_fd, const char *name, bool dir)
{
        KL_AUTOFD int fd = -1;

        if (dir)
                return mkdirat(dir_fd, name, 0755) < 0 && errno != EEXIST ? -errno : 0;
        fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        return fd < 0 && errno != EEXIST ? -errno : 0;
}

static int open_or_make(int root_fd, const char *path, bool dir, uint64_t resolve, int depth)
{
        int fd = sys_openat2(root_fd, path, O_PATH, 0, resolve);
        KL_AUTOFD int parent = -1;
        char up[PATH_MAX];
        const char *slash, *name;
        int r;

        if (fd != -ENOENT)
                return fd;
        if (depth == 0)
                return -ELOOP;
        slash = strrchr(path, '/');
        name = slash ? slash + 1 : path;
        if (slash && (size_t)(slash - path) >= sizeof(up))
                return -ENAMETOOLONG;
        snprintf(up, sizeof(up), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
        if (str_eq(name, "") || str_eq(name, ".") || str_eq(name, ".."))
                return open_or_make(root_fd, up, true, resolve, depth - 1);
        parent = open_or_make(root_fd, *up ? up : ".", true, resolve, depth - 1);
        if (parent < 0)
                return KL_STEAL_FD(parent);
        r = make_last(parent, name, dir);
        if (r < 0)
                return r;
        return sys_openat2(parent, name, O_PATH | O_NOFOLLOW, 0,
                           RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

int setup_target(int root_fd, const char *path, bool dir, bool follow, KlError **err)
{
        uint64_t resolve =
                RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (follow ? 0 : RESOLVE_NO_SYMLINKS);
        struct stat st;
        int fd;

        while (*path == '/')
                path++;
        if (strlen(path) >= PATH_MAX)
                return kl_error(err, -ENAMETOOLONG, REASON, "mount target '%.64s…' is too long",
                                path);
        fd = open_or_make(root_fd, *path ? path : ".", dir, resolve, TARGET_DEPTH_MAX);
        if (fd == -ELOOP && !follow)
                return kl_error(err, fd, REASON, "'/%s' in the image is a symbolic link", path);
        if (fd < 0)
                return kl_error_errno(err, fd, REASON, "mount target '/%s'", path);
        if (fstat(fd, &st) < 0 || S_ISDIR(st.st_mode) != dir || S_ISLNK(st.st_mode)) {
                close(fd);
                return kl_error(err, dir ? -ENOTDIR : -EISDIR, REASON, "mount target '/%s' is %s",
                                path, dir ? "no directory" : "a directory");
        }
        return fd;
}

/* --- making and changing mounts --- */

static int set_options(int fs, const char *options)
{
        char one[OPTION_MAX];
        int r = 0;

        while (r == 0 && options && *options) {
                size_t len = strcspn(options, ",");
                char *value;

                if (len >= sizeof(one))
                        return -EINVAL;
                memcpy(one, options, len);
                one[len] = '\0';
                value = strchr(one, '=');
                if (value)
                        *value++ = '\0';
                if (*one)
                        r = value ? sys_fsconfig_string(fs, one, value)
                                  : sys_fsconfig_flag(fs, one);
                options += len + (options[len] == ',');
        }
        return r;
}

int setup_new_mount(const char *type, const char *options, unsigned int attr, KlError **err)
{
        KL_AUTOFD int fs = sys_fsopen(type);
        int r = fs;

        if (r >= 0)
                r = set_options(fs, options);
        if (r >= 0)
                r = sys_fsconfig_create(fs);
        if (r >= 0)
                r = sys_fsmount(fs, attr);
        return r < 0 ? kl_error_errno(err, r, REASON, "mount %s%s%s", type, options ? " with " : "",
                                      options ? options : "")
                     : r;
}

/* Before Linux 5.12: by a remount of that one mount, keeping the flags that it has. */
static int remount(int fd, uint64_t attr)
{
        unsigned long flags = MS_REMOUNT | MS_BIND;
        struct statvfs st;
        char path[32];

        if (fstatvfs(fd, &st) < 0)
                return -errno;
        flags |= (st.f_flag & ST_NOSUID) || (attr & MOUNT_ATTR_NOSUID) ? MS_NOSUID : 0;
        flags |= (st.f_flag & ST_NODEV) || (attr & MOUNT_ATTR_NODEV) ? MS_NODEV : 0;
        flags |= (st.f_flag & ST_NOEXEC) || (attr & MOUNT_ATTR_NOEXEC) ? MS_NOEXEC : 0;
        flags |= (st.f_flag & ST_RDONLY) || (attr & MOUNT_ATTR_RDONLY) ? MS_RDONLY : 0;
        flags |= st.f_flag & ST_NOATIME ? MS_NOATIME : 0;
        flags |= st.f_flag & ST_NODIRATIME ? MS_NODIRATIME : 0;
        flags |= st.f_flag & ST_RELATIME ? MS_RELATIME : 0;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        return mount(NULL, path, NULL, flags, NULL) < 0 ? -errno : 0;
}

/* Of an attached mount. */
static int set_attr(int fd, uint64_t attr, bool recursive)
{
        MountAttr change = { .attr_set = attr };
        int r;

        if (!attr)
                return 0;
        r = sys_mount_setattr(fd, recursive ? AT_RECURSIVE : 0, &change);
        return r == -ENOSYS && !recursive ? remount(fd, attr) : r;
}

int setup_read_only(int mount_fd)
{
        return set_attr(mount_fd, MOUNT_ATTR_RDONLY, false);
}

/* What the root of a user namespace mounts goes no further than its own namespaces: shared then
 * means shared among these, and still following the host. */
static int set_propagation(int fd, uint32_t propagation, bool user_ns)
{
        static const unsigned long flags[] = {
                [SHIM_PROPAGATION_PRIVATE] = MS_PRIVATE,
                [SHIM_PROPAGATION_SLAVE] = MS_SLAVE,
                [SHIM_PROPAGATION_SHARED] = MS_SHARED,
        };
        char path[32];

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (user_ns && propagation == SHIM_PROPAGATION_SHARED &&
            mount(NULL, path, NULL, MS_REC | MS_SLAVE, NULL) < 0)
                return -errno;
        return mount(NULL, path, NULL, MS_REC | flags[propagation], NULL) < 0 ? -errno : 0;
}

static unsigned int attr_of(uint32_t flags)
{
        return (flags & (SHIM_MOUNT_RO | SHIM_MOUNT_RO_RECURSIVE) ? MOUNT_ATTR_RDONLY : 0) |
               (flags & SHIM_MOUNT_NOSUID ? MOUNT_ATTR_NOSUID : 0) |
               (flags & SHIM_MOUNT_NODEV ? MOUNT_ATTR_NODEV : 0) |
               (flags & SHIM_MOUNT_NOEXEC ? MOUNT_ATTR_NOEXEC : 0);
}

/* --- the kinds --- */

/* With the host's privileges: who mounts there is not root of the pod's user namespace only. What
 * is mounted beneath a volume and cannot be mapped (/proc, say) belongs to nobody inside. */
int setup_idmap(Setup *setup, KlError **err)
{
        MountAttr attr = { .attr_set = MOUNT_ATTR_IDMAP,
                           .userns_fd = (uint64_t)setup->shim->user_fd };

        for (size_t i = 0; setup->shim->user_ns && i < setup->start->n_mounts; i++) {
                const ShimMount *mount = &setup->start->mounts[i];
                int r = 0;

                if (mount->kind != SHIM_MOUNT_BIND || !(mount->flags & SHIM_MOUNT_IDMAP))
                        continue;
                r = sys_mount_setattr(setup->fds[mount->fd], AT_RECURSIVE, &attr);
                if (r < 0)
                        r = sys_mount_setattr(setup->fds[mount->fd], 0, &attr);
                if (r == -EINVAL || r == -EPERM)
                        return kl_error(
                                err, r, REASON,
                                "failed to set MOUNT_ATTR_IDMAP on the mount '%s': its file "
                                "system cannot map ids for a pod with hostUsers: false",
                                mount->target);
                if (r < 0)
                        return kl_error_errno(err, r, REASON, "map ids of mount '%s'",
                                              mount->target);
        }
        return 0;
}

/* /proc belongs to the kernel's view of the container: only what lxcfs is made for may be covered.
 */
static bool may_cover_proc(const char *target)
{
        static const char *const allowed[] = { "cpuinfo",
                                               "diskstats",
                                               "meminfo",
                                               "stat",
                                               "swaps",
                                               "uptime",
                                               "loadavg",
                                               "slabinfo",
                                               "sys/kernel/ns_last_pid",
                                               "sys/crypto/fips_enabled" };

        while (*target == '/')
                target++;
        if (!str_starts(target, "proc/"))
                return false;
        for (size_t i = 0; i < ELEMENTS(allowed); i++)
                if (str_eq(target + strlen("proc/"), allowed[i]))
                        return true;
        return false;
}

static int mount_bind(Setup *setup, const ShimMount *mount, KlError **err)
{
        int from = setup->fds[mount->fd], r;
        KL_AUTOFD int at = -1;
        struct statfs fs;
        struct stat st;

        if (fstat(from, &st) < 0)
                return kl_error_errno(err, -errno, REASON, "source of mount '%s'", mount->target);
        at = setup_target(setup->root_fd, mount->target, S_ISDIR(st.st_mode), true, err);
        if (at < 0)
                return KL_STEAL_FD(at);
        if (fstatfs(at, &fs) == 0 && fs.f_type == PROC_MAGIC && !may_cover_proc(mount->target))
                return kl_error(err, -EPERM, REASON, "mount target '%s' is inside of /proc",
                                mount->target);
        r = sys_move_mount(from, at);
        if (r == 0)
                r = set_propagation(from, mount->propagation, setup->shim->user_ns);
        if (r == 0)
                r = set_attr(from, attr_of(mount->flags & ~(uint32_t)SHIM_MOUNT_RO_RECURSIVE),
                             false);
        if (r == 0 && (mount->flags & SHIM_MOUNT_RO_RECURSIVE))
                r = set_attr(from, MOUNT_ATTR_RDONLY, true);
        return r < 0 ? kl_error_errno(err, r, REASON, "mount '%s'", mount->target) : 0;
}

/* "cpu,cpuacct" or "name=systemd"; a hierarchy that cannot be mounted is left out. */
static int mount_hierarchy(int dir_fd, const char *name, unsigned int attr)
{
        const char *dir = str_starts(name, "name=") ? name + 5 : name;
        KL_AUTOFD int fs = -1, tree = -1, at = -1;
        int r;

        if (!*dir || strchr(dir, '/') || strlen(dir) > NAME_MAX)
                return -EINVAL;
        if (mkdirat(dir_fd, dir, 0755) < 0)
                return -errno;
        fs = sys_fsopen("cgroup");
        r = fs < 0 ? fs : set_options(fs, name);
        if (r == 0 && dir != name)
                r = sys_fsconfig_flag(fs, "none");
        if (r == 0)
                r = sys_fsconfig_create(fs);
        if (r == 0)
                r = tree = sys_fsmount(fs, attr);
        at = r < 0 ? -1 : openat(dir_fd, dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (r >= 0)
                r = at < 0 ? -errno : sys_move_mount(tree, at);
        if (r < 0)
                unlinkat(dir_fd, dir, AT_REMOVEDIR);
        /* cpu -> cpu,cpuacct */
        for (const char *p = dir; r == 0 && strchr(dir, ',') && *p;) {
                size_t len = strcspn(p, ",");
                char one[NAME_MAX + 1];

                snprintf(one, sizeof(one), "%.*s", (int)len, p);
                symlinkat(dir, dir_fd, one);
                p += len + (p[len] == ',');
        }
        return r;
}

static int mount_cgroup_v1(Setup *setup, int at, const ShimMount *mount, KlError **err)
{
        unsigned int attr = attr_of(mount->flags);
        KL_AUTOFD int tmpfs = setup_new_mount("tmpfs", "mode=755", attr & ~MOUNT_ATTR_RDONLY, err);
        int r;

        if (tmpfs < 0)
                return KL_STEAL_FD(tmpfs);
        r = sys_move_mount(tmpfs, at);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "mount '%s'", mount->target);
        for (size_t i = 0; i < setup->start->n_cgroups; i++)
                if (!(setup->start->cgroups[i].roles & SHIM_CGROUP_UNIFIED))
                        (void)mount_hierarchy(tmpfs, setup->start->cgroups[i].name, attr);
        r = set_attr(tmpfs, attr, false);
        return r < 0 ? kl_error_errno(err, r, REASON, "mount '%s'", mount->target) : 0;
}

static int new_mount_of(Setup *setup, const ShimMount *mount, KlError **err)
{
        unsigned int attr = attr_of(mount->flags);

        switch (mount->kind) {
        case SHIM_MOUNT_PROC:
                return setup_new_mount("proc", mount->options, attr, err);
        case SHIM_MOUNT_SYSFS:
                return setup_new_mount("sysfs", mount->options, attr, err);
        case SHIM_MOUNT_TMPFS:
                return setup_new_mount("tmpfs", mount->options, attr, err);
        case SHIM_MOUNT_DEV:
                return fcntl(setup->dev_fd, F_DUPFD_CLOEXEC, 3);
        case SHIM_MOUNT_DEVPTS:
                return setup_new_mount("devpts",
                                       mount->options ? mount->options
                                                      : "newinstance,ptmxmode=0666,mode=0620,gid=5",
                                       attr, err);
        case SHIM_MOUNT_SHM:
                return KL_STEAL_FD(setup->shm_fd);
        case SHIM_MOUNT_MQUEUE:
                return setup_new_mount("mqueue", mount->options, attr, err);
        case SHIM_MOUNT_CGROUP:
                return setup_new_mount("cgroup2", mount->options, attr, err);
        case SHIM_MOUNT_BIND:
        case SHIM_MOUNT_KINDS:
                break;
        }
        return kl_error(err, -EINVAL, REASON, "mount '%s' is of an unknown kind", mount->target);
}

static int mount_one(Setup *setup, const ShimMount *mount, KlError **err)
{
        KL_AUTOFD int at = -1, tree = -1;
        bool v1 = setup->start->n_cgroups > 0 &&
                  !cgroup_with_role(setup->start->cgroups, setup->start->n_cgroups,
                                    SHIM_CGROUP_UNIFIED);
        int r;

        if (mount->kind == SHIM_MOUNT_BIND)
                return mount_bind(setup, mount, err);
        at = setup_target(setup->root_fd, mount->target, true, mount->kind == SHIM_MOUNT_TMPFS,
                          err);
        if (at < 0)
                return KL_STEAL_FD(at);
        if (mount->kind == SHIM_MOUNT_CGROUP && v1)
                return mount_cgroup_v1(setup, at, mount, err);
        tree = new_mount_of(setup, mount, err);
        if (tree < 0)
                return KL_STEAL_FD(tree);
        r = sys_move_mount(tree, at);
        if (r == 0 && mount->kind == SHIM_MOUNT_SHM)
                r = set_attr(tree, attr_of(mount->flags), false);
        return r < 0 ? kl_error_errno(err, r, REASON, "mount '%s'", mount->target) : 0;
}

/* --- masked and read-only paths --- */

/* The host's /dev/null, by its number. */
static int clone_null(void)
{
        int fd = sys_open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW);
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) {
                close(fd);
                return -ENODEV;
        }
        return fd;
}

/* -ENOENT: there is nothing to hide. */
static int open_existing(Setup *setup, const char *path)
{
        while (*path == '/')
                path++;
        return sys_openat2(setup->root_fd, path, O_PATH, 0,
                           RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS);
}

static int mask(Setup *setup, const char *path, KlError **err)
{
        KL_AUTOFD int at = open_existing(setup, path), tree = -1;
        struct stat st;
        int r = 0;

        if (at == -ENOENT || at == -ENOTDIR)
                return 0;
        if (at < 0 || fstat(at, &st) < 0)
                return kl_error_errno(err, at < 0 ? at : -errno, REASON, "mask '%s'", path);
        if (S_ISDIR(st.st_mode)) {
                tree = setup_new_mount("tmpfs", "mode=755,size=0,nr_inodes=2", MOUNT_ATTR_RDONLY,
                                       err);
                if (tree < 0)
                        return KL_STEAL_FD(tree);
        } else {
                r = tree = clone_null();
        }
        if (r >= 0)
                r = sys_move_mount(tree, at);
        return r < 0 ? kl_error_errno(err, r, REASON, "mask '%s'", path) : 0;
}

static int make_read_only(Setup *setup, const char *path, KlError **err)
{
        KL_AUTOFD int at = open_existing(setup, path), tree = -1;
        int r;

        if (at == -ENOENT || at == -ENOTDIR)
                return 0;
        r = at;
        if (r >= 0)
                r = tree = sys_open_tree(at, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE);
        if (r >= 0)
                r = sys_move_mount(tree, at);
        if (r >= 0)
                r = set_attr(tree, MOUNT_ATTR_RDONLY, false);
        return r < 0 ? kl_error_errno(err, r, REASON, "make '%s' read-only", path) : 0;
}

/* A mount of its own, which the root's becoming read-only does not touch. */
static int keep_writable(Setup *setup, const char *path, KlError **err)
{
        KL_AUTOFD int at = setup_target(setup->root_fd, path, true, true, err), tree = -1;
        int r = at;

        if (at < 0)
                return KL_STEAL_FD(at);
        r = tree = sys_open_tree(at, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
        if (r >= 0)
                r = sys_move_mount(tree, at);
        return r < 0 ? kl_error_errno(err, r, REASON, "keep '%s' writable", path) : 0;
}

int setup_mounts(Setup *setup, KlError **err)
{
        const ShimStart *start = setup->start;
        int r = 0;

        /* First, so that volumes and the node's files lie over them. */
        for (char *const *p = start->writable_paths; r == 0 && *p; p++)
                r = keep_writable(setup, *p, err);
        for (size_t i = 0; r == 0 && i < start->n_mounts; i++)
                r = mount_one(setup, &start->mounts[i], err);
        for (char *const *p = start->masked_paths; r == 0 && *p; p++)
                r = mask(setup, *p, err);
        for (char *const *p = start->read_only_paths; r == 0 && *p; p++)
                r = make_read_only(setup, *p, err);
        return r;
}
