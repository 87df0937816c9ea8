/* SPDX-License-Identifier: Apache-2.0 */

/*
 * /dev: a tmpfs that is filled while it is still detached and ours alone, with the host's
 * privileges (device nodes of a tmpfs that was mounted in a user namespace could not be opened).
 */

#include "shim/shim-internal.h"

#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#define REASON "StartError"
#define DEVPTS_MAGIC 0x1cd1
#define PTMX_MAJOR 5
#define PTMX_MINOR 2
#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif

static const ShimDevice standard[] = {
        { "/dev/null", 'c', 1, 3, 0666, 0, 0 },    { "/dev/zero", 'c', 1, 5, 0666, 0, 0 },
        { "/dev/full", 'c', 1, 7, 0666, 0, 0 },    { "/dev/random", 'c', 1, 8, 0666, 0, 0 },
        { "/dev/urandom", 'c', 1, 9, 0666, 0, 0 }, { "/dev/tty", 'c', 5, 0, 0666, 0, 0 },
};

static const struct {
        const char *name, *target;
} links[] = {
        { "fd", "/proc/self/fd" },       { "stdin", "/proc/self/fd/0" },
        { "stdout", "/proc/self/fd/1" }, { "stderr", "/proc/self/fd/2" },
        { "ptmx", "pts/ptmx" },
};

/* "net/tun" beneath the new tmpfs: nobody else can reach it yet. */
static int make_parents(int dev_fd, const char *name)
{
        char part[NAME_MAX + 1];

        for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
                if ((size_t)(slash - name) >= sizeof(part))
                        return -ENAMETOOLONG;
                memcpy(part, name, (size_t)(slash - name));
                part[slash - name] = '\0';
                if (mkdirat(dev_fd, part, 0755) < 0 && errno != EEXIST)
                        return -errno;
        }
        return 0;
}

static int make_device(int dev_fd, const ShimDevice *device, uint32_t uid, uint32_t gid,
                       KlError **err)
{
        const char *name = device->path + strlen("/dev/");
        mode_t mode = (device->mode & 07777) | (device->type == 'b' ? S_IFBLK : S_IFCHR);
        int r;

        if (!str_starts(device->path, "/dev/") || !*name || strstr(name, ".."))
                return kl_error(err, -EINVAL, REASON, "device '%s' is not in /dev", device->path);
        r = make_parents(dev_fd, name);
        /* What was there first wins: the standard ones, or an earlier entry. */
        if (r == 0 && mknodat(dev_fd, name, mode, makedev(device->major, device->minor)) < 0)
                r = errno == EEXIST ? 0 : -errno;
        else if (r == 0 && (uid || gid) &&
                 fchownat(dev_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
                r = -errno;
        return r < 0 ? kl_error_errno(err, r, REASON, "make device '%s'", device->path) : 0;
}

static int fill(Setup *setup, const ShimSandbox *sandbox, KlError **err)
{
        uint32_t uid = map_id(sandbox->uid_maps, sandbox->n_uid_maps, 0);
        uint32_t gid = map_id(sandbox->gid_maps, sandbox->n_gid_maps, 0);
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTS(standard); i++)
                r = make_device(setup->dev_fd, &standard[i], uid, gid, err);
        /* As on the host: to the root of a user namespace, a disk of the host's root is closed. */
        for (size_t i = 0; r == 0 && i < setup->start->n_devices; i++) {
                const ShimDevice *device = &setup->start->devices[i];

                r = make_device(setup->dev_fd, device, device->uid, device->gid, err);
        }
        for (size_t i = 0; r == 0 && i < ELEMENTS(links); i++)
                if (symlinkat(links[i].target, setup->dev_fd, links[i].name) < 0 ||
                    fchownat(setup->dev_fd, links[i].name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
                        r = kl_error_errno(err, -errno, REASON, "make '/dev/%s'", links[i].name);
        if (r == 0 && setup->start->tty) {
                KL_AUTOFD int fd =
                        openat(setup->dev_fd, "console", O_CREAT | O_EXCL | O_CLOEXEC, 0620);

                if (fd < 0)
                        r = kl_error_errno(err, -errno, REASON, "make '/dev/console'");
        }
        if (r == 0 && (uid || gid) && fchownat(setup->dev_fd, "", uid, gid, AT_EMPTY_PATH) < 0)
                r = kl_error_errno(err, -errno, REASON, "own '/dev'");
        return r;
}

int setup_dev(Setup *setup, const ShimMount *mount, KlError **err)
{
        ShimSandbox sandbox = { 0 };
        Mapped mapped = { 0 };
        mode_t mask;
        int r;

        r = setup_new_mount("tmpfs", mount->options ? mount->options : "mode=755,size=65536k",
                            MOUNT_ATTR_NOSUID |
                                    (mount->flags & SHIM_MOUNT_NOEXEC ? MOUNT_ATTR_NOEXEC : 0),
                            err);
        if (r < 0)
                return r;
        setup->dev_fd = r;
        r = spec_map(setup->shim->sandbox_fd, &mapped);
        if (r == 0)
                r = shim_sandbox_decode(mapped.data, mapped.len, &sandbox);
        if (r < 0) {
                spec_unmap(&mapped);
                return kl_error_errno(err, r, REASON, "read sandbox");
        }
        mask = umask(0);
        r = fill(setup, &sandbox, err);
        umask(mask);
        shim_sandbox_deinit(&sandbox);
        spec_unmap(&mapped);
        return r;
}

/* The container may have put anything at /dev/pts/ptmx: it counts only if it is a devpts' ptmx. */
int setup_pty(int root_fd, int *ret_master, int *ret_slave, KlError **err)
{
        KL_AUTOFD int master = -1, slave = -1;
        struct statfs fs;
        struct stat st;
        int path_fd = sys_openat2(root_fd, "dev/pts/ptmx", O_PATH, 0,
                                  RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
        int unlock = 0;

        if (path_fd < 0)
                return kl_error_errno(err, path_fd, REASON, "open '/dev/pts/ptmx'");
        if (fstat(path_fd, &st) < 0 || fstatfs(path_fd, &fs) < 0 || !S_ISCHR(st.st_mode) ||
            st.st_rdev != makedev(PTMX_MAJOR, PTMX_MINOR) || fs.f_type != DEVPTS_MAGIC) {
                close(path_fd);
                return kl_error(err, -EINVAL, REASON, "'/dev/pts/ptmx' is no pty multiplexer");
        }
        close(path_fd);
        /* By name again and not by a magic link: /proc may be the container's own. */
        master = sys_openat2(root_fd, "dev/pts/ptmx", O_RDWR | O_NOCTTY, 0,
                             RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
        if (master < 0)
                return kl_error_errno(err, master, REASON, "open pty");
        if (fstat(master, &st) < 0 || fstatfs(master, &fs) < 0 || fs.f_type != DEVPTS_MAGIC ||
            ioctl(master, TIOCSPTLCK, &unlock) < 0)
                return kl_error(err, -EINVAL, REASON, "'/dev/pts/ptmx' is no pty multiplexer");
        slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (slave < 0)
                return kl_error_errno(err, -errno, REASON, "open pty");
        *ret_master = KL_STEAL_FD(master);
        *ret_slave = KL_STEAL_FD(slave);
        return 0;
}

int setup_console(Setup *setup, int slave, KlError **err)
{
        KL_AUTOFD int tree = sys_open_tree(slave, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
        KL_AUTOFD int at = sys_openat2(setup->root_fd, "dev/console", O_PATH | O_NOFOLLOW, 0,
                                       RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
        int r = tree < 0 ? tree : at;

        if (r >= 0)
                r = sys_move_mount(tree, at);
        return r < 0 ? kl_error_errno(err, r, REASON, "mount '/dev/console'") : 0;
}
