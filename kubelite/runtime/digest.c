/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From a Document to what the shim is told: paths become descriptors here, in the host's mount
 * namespace, before anything of the container runs. A bind source becomes a detached copy of its
 * mount tree, so that renaming or replacing the path afterwards changes nothing; flags and
 * propagation are set by the shim when it attaches the copy.
 */

#include "runtime/runtime-internal.h"

#include "base/str.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define REASON "CreateContainerError"

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

static int hold(Digest *d, int fd)
{
        d->fds[d->n_fds++] = fd;
        return fd;
}

/* Links in the path of a volume are the administrator's; magic ones (/proc/<pid>/root, /dev/fd)
 * lead into other processes. */
static int open_source(const char *path)
{
        struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS };
        int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

        if (fd < 0 && errno == ENOSYS)
                fd = open(path, O_PATH | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* Nothing but a proc file system may stand in for /proc. */
static int check_proc(const DocumentMount *m, int fd, KlError **err)
{
        struct statfs fs;

        if (!str_eq(m->target, "/proc"))
                return 0;
        if (fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
                return kl_error(err, -EINVAL, REASON,
                                "'%s' cannot be mounted on /proc: it is no proc", m->source);
        return 0;
}

static int open_bind(Digest *d, const DocumentMount *m, KlError **err)
{
        KL_AUTOFD int opened = m->source_fd < 0 ? open_source(m->source) : -1;
        int source = m->source_fd < 0 ? opened : m->source_fd, fd, r;

        if (source < 0)
                return kl_error_errno(err, source, REASON, "open the volume '%s'", m->source);
        r = check_proc(m, source, err);
        if (r < 0)
                return r;
        fd = (int)syscall(SYS_open_tree, source, "",
                          AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (fd < 0)
                return kl_error_errno(err, -errno, REASON, "mount the volume '%s'", m->source);
        return hold(d, fd);
}

static int open_mounts(Digest *d, const Document *document, KlError **err)
{
        d->mounts = calloc(document->n_mounts + 1, sizeof(*d->mounts));
        if (!d->mounts)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        for (size_t i = 0; i < document->n_mounts; i++) {
                const DocumentMount *m = &document->mounts[i];
                int fd = m->kind == SHIM_MOUNT_BIND ? open_bind(d, m, err) : -1;

                if (m->kind == SHIM_MOUNT_BIND && fd < 0)
                        return fd;
                d->mounts[i] = (ShimMount){
                        .kind = m->kind,
                        .target = m->target,
                        .fd = fd,
                        .flags = m->flags,
                        .propagation = m->propagation,
                        .options = m->options,
                };
        }
        d->start.mounts = d->mounts;
        d->start.n_mounts = document->n_mounts;
        return 0;
}

static int open_layers(Digest *d, const Document *document, const char *layers_dir,
                       const char *data_dir, KlError **err)
{
        KL_AUTOFREE char *rw = str_format("%s/%s", data_dir, document->id);
        int fd;

        if (!rw)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        fd = open(layers_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return kl_error_errno(err, -errno, REASON, "open '%s'", layers_dir);
        d->start.layers_fd = hold(d, fd);
        if (mkdir(rw, 0700) < 0 && errno != EEXIST)
                return kl_error_errno(err, -errno, REASON, "make '%s'", rw);
        fd = open(rw, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return kl_error_errno(err, -errno, REASON, "open '%s'", rw);
        d->start.rw_fd = hold(d, fd);
        return 0;
}

/* The log writer renames and makes files in the directory. */
static int rotate_log(Digest *d, const Document *document, KlError **err)
{
        const char *slash = strrchr(document->log_path, '/');
        KL_AUTOFREE char *dir = NULL;
        int fd;

        if (!slash)
                return kl_error(err, -EINVAL, REASON, "the log '%s' is in no directory",
                                document->log_path);
        dir = strndup(document->log_path, (size_t)(slash - document->log_path));
        if (!dir)
                return kl_error_oom(err);
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return kl_error_errno(err, -errno, REASON, "open '%s'", dir);
        d->start.log_dir_fd = hold(d, fd);
        d->start.log_name = slash + 1;
        d->start.log_max_bytes = (uint64_t)document->log_max_bytes;
        return 0;
}

static int open_log(Digest *d, const Document *document, KlError **err)
{
        struct stat st;
        int fd;

        d->start.log_fd = d->start.log_dir_fd = -1;
        if (str_empty(document->log_path))
                return 0;
        fd = open(document->log_path,
                  O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                  0640);
        if (fd < 0)
                return kl_error_errno(err, -errno, REASON, "open the log file '%s'",
                                      document->log_path);
        d->start.log_fd = hold(d, fd);
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return kl_error(err, -EINVAL, REASON, "the log '%s' is no regular file",
                                document->log_path);
        fcntl(fd, F_SETFL, O_APPEND);
        return document->log_max_bytes > 0 ? rotate_log(d, document, err) : 0;
}

static uint32_t roles_of(const CgroupTree *tree, size_t i)
{
        uint32_t roles = 0;

        if (cgroup_tree_mode(tree) == CGROUP_V2)
                return SHIM_CGROUP_UNIFIED;
        if (cgroup_find(tree, "memory") == (int)i)
                roles |= SHIM_CGROUP_MEMORY;
        if (cgroup_find(tree, "freezer") == (int)i)
                roles |= SHIM_CGROUP_FREEZER;
        return roles;
}

int digest_cgroups(const CgroupTree *tree, const char *path, ShimCgroup *cgroups, char **paths)
{
        size_t n = cgroup_n_hierarchies(tree);

        for (size_t i = 0; i < n; i++) {
                paths[i] = cgroup_dir(tree, i, path);
                if (!paths[i])
                        return -ENOMEM;
                cgroups[i] = (ShimCgroup){ .roles = roles_of(tree, i),
                                           .name = cgroup_hierarchy_name(tree, i),
                                           .path = paths[i] };
        }
        return (int)n;
}

static void copy_plain(ShimStart *start, const Document *document)
{
        *start = (ShimStart){
                .id = document->id,
                .args = document->args,
                .env = document->env,
                .cwd = document->cwd,
                .user = document->user,
                .cap_bounding = document->caps,
                .cap_effective = document->caps,
                .no_new_privs = document->no_new_privs,
                .apparmor = document->apparmor,
                .rlimits = document->rlimits,
                .n_rlimits = document->n_rlimits,
                .oom_score_adj = document->oom_score_adj,
                .layers = document->layers,
                .layers_fd = -1,
                .rw_fd = -1,
                .log_fd = -1,
                .log_dir_fd = -1,
                .read_only_root = document->read_only_root,
                .masked_paths = document->masked_paths,
                .read_only_paths = document->read_only_paths,
                .devices = document->devices,
                .n_devices = document->n_devices,
                .tty = document->tty,
                .stdin_open = document->stdin_open,
                .stdin_once = document->stdin_once,
                .stop_signal = document->stop_signal,
        };
}

int digest_new(const Document *document, const CgroupTree *tree, const char *cgroup_path,
               const char *layers_dir, const char *data_dir, Digest **ret, KlError **err)
{
        KL_AUTO(digest_free) Digest *d = calloc(1, sizeof(*d));
        int r;

        if (!d || !(d->fds = calloc(document->n_mounts + 3, sizeof(*d->fds))))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        copy_plain(&d->start, document);
        r = digest_cgroups(tree, cgroup_path, d->cgroups, d->cgroup_paths);
        if (r < 0)
                return kl_error(err, r, NULL, "out of memory");
        d->start.cgroups = d->cgroups;
        d->start.n_cgroups = (size_t)r;
        r = open_layers(d, document, layers_dir, data_dir, err);
        if (r == 0)
                r = open_mounts(d, document, err);
        if (r == 0)
                r = open_log(d, document, err);
        if (r < 0)
                return r;
        *ret = KL_STEAL(d);
        return 0;
}

Digest *digest_free(Digest *d)
{
        if (!d)
                return NULL;
        for (size_t i = 0; i < d->n_fds; i++)
                kl_close(d->fds[i]);
        for (size_t i = 0; i < ELEMENTS(d->cgroup_paths); i++)
                free(d->cgroup_paths[i]);
        free(d->fds);
        free(d->mounts);
        free(d);
        return NULL;
}
