/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From a Document to what the shim is told, with the descriptors that files.c opened.
 */

#include "runtime/runtime-internal.h"

#include "base/str.h"

static int set_mounts(Digest *d, const Document *document)
{
        size_t next = FD_MOUNTS;

        d->mounts = calloc(document->n_mounts + 1, sizeof(*d->mounts));
        if (!d->mounts)
                return -ENOMEM;
        for (size_t i = 0; i < document->n_mounts; i++) {
                const DocumentMount *m = &document->mounts[i];
                bool bind = m->kind == SHIM_MOUNT_BIND;

                if (bind && next >= d->n_fds)
                        return -EINVAL;
                d->mounts[i] = (ShimMount){
                        .kind = m->kind,
                        .target = m->target,
                        .fd = bind ? d->fds[next++] : -1,
                        .flags = m->flags,
                        .propagation = m->propagation,
                        .options = m->options,
                };
        }
        d->start.mounts = d->mounts;
        d->start.n_mounts = document->n_mounts;
        return next == d->n_fds ? 0 : -EINVAL;
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
                .writable_paths = document->writable_paths,
                .masked_paths = document->masked_paths,
                .read_only_paths = document->read_only_paths,
                .devices = document->devices,
                .n_devices = document->n_devices,
                .tty = document->tty,
                .stdin_open = document->stdin_open,
                .stdin_once = document->stdin_once,
                .stop_signal = document->stop_signal,
                .pid_target = document->pid_target,
        };
}

int digest_new(const Document *document, const CgroupTree *tree, const char *cgroup_path, int *fds,
               size_t n, Digest **ret, KlError **err)
{
        KL_AUTO(digest_free) Digest *d = calloc(1, sizeof(*d));
        int r;

        if (!d || !(d->fds = calloc(n + 1, sizeof(*d->fds))))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        for (; d->n_fds < n; d->n_fds++)
                d->fds[d->n_fds] = KL_STEAL_FD(fds[d->n_fds]);
        copy_plain(&d->start, document);
        r = digest_cgroups(tree, cgroup_path, d->cgroups, d->cgroup_paths);
        if (r < 0)
                return kl_error(err, r, NULL, "out of memory");
        d->start.cgroups = d->cgroups;
        d->start.n_cgroups = (size_t)r;
        r = n < FD_MOUNTS ? -EINVAL : set_mounts(d, document);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "take over the container's descriptors");
        d->start.layers_fd = d->fds[FD_LAYERS];
        d->start.rw_fd = d->fds[FD_RW];
        if (!str_empty(document->log_path))
                d->start.log_fd = d->fds[FD_LOG];
        /* The log writer renames and makes files in the directory. */
        if (d->start.log_fd >= 0 && document->log_max_bytes > 0) {
                d->start.log_dir_fd = d->fds[FD_LOG_DIR];
                d->start.log_name = strrchr(document->log_path, '/') + 1;
                d->start.log_max_bytes = (uint64_t)document->log_max_bytes;
        }
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
