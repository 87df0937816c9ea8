/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The container's root: an overlay, made as a detached mount with the host's privileges, attached
 * and pivoted into in the container's own mount namespace. The layers' descriptors are of the
 * host's mount namespace, and newer kernels take only what is of the caller's: so the overlay is
 * made before leaving it.
 */

#include "shim/shim-internal.h"

#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define LAYERS_MAX 127U
#define REASON "StartError"
/* "/proc/self/fd/2147483647" */
#define FD_PATH_SIZE 32

uint32_t map_id(const ShimIdMap *maps, size_t n, uint32_t inside)
{
        for (size_t i = 0; i < n; i++)
                if (inside >= maps[i].inside && inside - maps[i].inside < maps[i].count)
                        return maps[i].outside + (inside - maps[i].inside);
        return inside;
}

/* The writable layer looks as the image's root directory does; ids are the pod's. */
static int make_upper(const Setup *setup, int layers_fd, int rw_fd, const char *top, KlError **err)
{
        ShimSandbox sandbox = { 0 };
        Mapped mapped = { 0 };
        struct stat st;
        int r;

        if (mkdirat(rw_fd, "work", 0700) < 0 && errno != EEXIST)
                return kl_error_errno(err, -errno, REASON, "make work directory");
        if (mkdirat(rw_fd, "upper", 0755) < 0)
                return errno == EEXIST ? 0
                                       : kl_error_errno(err, -errno, REASON, "make writable layer");
        if (fstatat(layers_fd, top, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return kl_error_errno(err, -errno, REASON, "layer '%s'", top);
        r = spec_map(setup->shim->sandbox_fd, &mapped);
        if (r == 0)
                r = shim_sandbox_decode(mapped.data, mapped.len, &sandbox);
        if (r == 0 &&
            (fchownat(rw_fd, "upper", map_id(sandbox.uid_maps, sandbox.n_uid_maps, st.st_uid),
                      map_id(sandbox.gid_maps, sandbox.n_gid_maps, st.st_gid), 0) < 0 ||
             fchmodat(rw_fd, "upper", st.st_mode & 07777, 0) < 0))
                r = -errno;
        shim_sandbox_deinit(&sandbox);
        spec_unmap(&mapped);
        return r < 0 ? kl_error_errno(err, r, REASON, "prepare writable layer") : 0;
}

/* One layer as a descriptor: a directory, or with a user namespace an idmapped mount of it. */
static int open_layer(const Setup *setup, int layers_fd, const char *name, KlError **err)
{
        MountAttr attr = { .attr_set = MOUNT_ATTR_IDMAP };
        KL_AUTOFD int fd = -1, path_fd = -1;
        int r;

        path_fd = openat(layers_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (path_fd < 0)
                return kl_error_errno(err, -errno, REASON, "open layer '%s'", name);
        if (!setup->shim->user_ns)
                return KL_STEAL_FD(path_fd);
        fd = sys_open_tree(path_fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
        if (fd < 0)
                return kl_error_errno(err, fd, REASON, "clone layer '%s'", name);
        attr.userns_fd = (uint64_t)setup->shim->user_fd;
        r = sys_mount_setattr(fd, 0, &attr);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "map ids of layer '%s'", name);
        return KL_STEAL_FD(fd);
}

/* Linux 6.8 and newer: any number of layers of any name. -EOPNOTSUPP: not this kernel. */
static int overlay_by_fsconfig(const Setup *setup, int layers_fd, int rw_fd, size_t n,
                               KlError **err)
{
        KL_AUTOFD int fs = sys_fsopen("overlay"), root = -1;
        int r = fs;

        if (fs >= 0 && fchdir(layers_fd) < 0)
                r = -errno;
        for (size_t i = n; r >= 0 && i-- > 0;) {
                const char *name = setup->start->layers[i];
                char path[FD_PATH_SIZE];

                if (setup->shim->user_ns) {
                        r = open_layer(setup, layers_fd, name, err);
                        if (r < 0)
                                return r;
                        snprintf(path, sizeof(path), "/proc/self/fd/%d", r);
                        name = path;
                }
                r = sys_fsconfig_string(fs, "lowerdir+", name);
                if (r == -EINVAL && i == n - 1)
                        return -EOPNOTSUPP;
                if (r < 0)
                        return kl_error_errno(err, r, REASON, "add layer '%s'",
                                              setup->start->layers[i]);
        }
        if (r >= 0 && fchdir(rw_fd) < 0)
                r = -errno;
        if (r >= 0)
                r = sys_fsconfig_string(fs, "upperdir", "upper");
        if (r >= 0)
                r = sys_fsconfig_string(fs, "workdir", "work");
        if (r >= 0)
                r = sys_fsconfig_create(fs);
        /* Before 6.5 overlay keeps the options as text and reads them only here. */
        if (r == -EINVAL)
                return -EOPNOTSUPP;
        if (r >= 0)
                r = root = sys_fsmount(fs, 0);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "mount overlay of %zu layers", n);
        return KL_STEAL_FD(root);
}

/*
 * Older kernels: one page of options, so layers go by the short names of their descriptors. It can
 * only be attached somewhere, which the host must not see: this is in a mount namespace of our own.
 */
static int overlay_by_mount(const Setup *setup, const int *layers, size_t n, int rw_fd,
                            KlError **err)
{
        const char *at = setup->shim->state_path;
        KL_AUTOBUF options = BUF_INIT_LIMIT(4095);
        int fd;

        buf_add_str(&options, "lowerdir=");
        for (size_t i = n; i-- > 0;)
                buf_addf(&options, "/proc/self/fd/%d%s", layers[i], i ? ":" : "");
        buf_addf(&options, ",upperdir=/proc/self/fd/%d/upper,workdir=/proc/self/fd/%d/work", rw_fd,
                 rw_fd);
        if (buf_error(&options) < 0)
                return kl_error_errno(err, buf_error(&options), REASON, "overlay of %zu layers", n);
        if (mount("overlay", at, "overlay", 0, buf_str(&options)) < 0)
                return kl_error_errno(err, -errno, REASON, "mount overlay of %zu layers", n);
        fd = sys_open_tree(AT_FDCWD, at, OPEN_TREE_CLONE);
        if (fd < 0)
                kl_error_errno(err, fd, REASON, "clone overlay");
        umount2(at, MNT_DETACH);
        return fd;
}

static int leave_mounts(KlError **err)
{
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
                return kl_error_errno(err, -errno, REASON, "leave the host's mounts");
        return 0;
}

/* The same directory in this namespace's copy of the host's tree. */
static int reopen(int fd, KlError **err)
{
        char name[FD_PATH_SIZE], path[PATH_MAX];
        ssize_t n;
        int r;

        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
        n = readlink(name, path, sizeof(path) - 1);
        if (n < 0)
                return kl_error_errno(err, -errno, REASON, "path of a directory of layers");
        path[n] = '\0';
        r = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return r < 0 ? kl_error_errno(err, -errno, REASON, "open '%s'", path) : r;
}

static int open_layers(const Setup *setup, int layers_fd, int *layers, size_t n, KlError **err)
{
        for (size_t i = 0; i < n; i++) {
                layers[i] = open_layer(setup, layers_fd, setup->start->layers[i], err);
                if (layers[i] < 0)
                        return layers[i];
        }
        return 0;
}

/* Idmapped layers are mounts of no namespace, made in the host's; directories are of the namespace.
 */
static int overlay_in_own_namespace(Setup *setup, int layers_fd, int rw_fd, size_t n, KlError **err)
{
        int layers[LAYERS_MAX], r = 0;

        if (setup->shim->user_ns)
                r = open_layers(setup, layers_fd, layers, n, err);
        if (r == 0)
                r = leave_mounts(err);
        if (r == 0 && !setup->shim->user_ns) {
                r = reopen(layers_fd, err);
                if (r >= 0)
                        r = open_layers(setup, r, layers, n, err);
        }
        if (r == 0)
                r = reopen(rw_fd, err);
        if (r >= 0)
                r = setup->root_fd = overlay_by_mount(setup, layers, n, r, err);
        return r < 0 ? r : 0;
}

int setup_overlay(Setup *setup, KlError **err)
{
        int layers_fd = setup->fds[setup->start->layers_fd],
            rw_fd = setup->fds[setup->start->rw_fd];
        size_t n = strv_len(setup->start->layers);
        int r;

        if (n > LAYERS_MAX)
                return kl_error(err, -E2BIG, REASON, "%zu layers, at most %u are possible", n,
                                LAYERS_MAX);
        r = make_upper(setup, layers_fd, rw_fd, setup->start->layers[n - 1], err);
        if (r < 0)
                return r;
        r = overlay_by_fsconfig(setup, layers_fd, rw_fd, n, err);
        if (r == -EOPNOTSUPP)
                return overlay_in_own_namespace(setup, layers_fd, rw_fd, n, err);
        setup->root_fd = r;
        return r < 0 ? r : leave_mounts(err);
}

/* Over the state directory of this namespace's copy of the host's tree, which pivoting drops. The
 * root of a user namespace may not look for it: it stands there already. */
int setup_attach_root(Setup *setup, KlError **err)
{
        KL_AUTOFD int fd = setup->shim->user_ns ? -1
                                                : open(setup->shim->state_path,
                                                       O_PATH | O_DIRECTORY | O_CLOEXEC);
        int at = setup->shim->user_ns ? AT_FDCWD : fd;
        int r = at == -1 ? -errno : sys_move_mount(setup->root_fd, at);

        return r < 0 ? kl_error_errno(err, r, REASON, "attach root") : 0;
}

int setup_pivot(Setup *setup, KlError **err)
{
        bool shared = false;
        int r = 0;

        for (size_t i = 0; i < setup->start->n_mounts; i++)
                shared = shared || setup->start->mounts[i].propagation == SHIM_PROPAGATION_SHARED;
        if (fchdir(setup->root_fd) < 0)
                r = -errno;
        if (r == 0)
                r = sys_pivot_root(".", ".");
        /* The old root lies over the new one now. */
        if (r == 0 && umount2(".", MNT_DETACH) < 0)
                r = -errno;
        if (r == 0 && chdir("/") < 0)
                r = -errno;
        if (r == 0 && mount(NULL, "/", NULL, MS_REC | (shared ? MS_SHARED : MS_SLAVE), NULL) < 0)
                r = -errno;
        return r < 0 ? kl_error_errno(err, r, REASON, "enter root") : 0;
}
