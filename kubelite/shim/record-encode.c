/* SPDX-License-Identifier: Apache-2.0 */

/* Specs to bytes. Errors of the buffer are sticky, so they are looked at once, at the end. */

#include "shim/record.h"

#include "base/str.h"
#include "shim/record-internal.h"

static void put(Buf *buf, uint32_t tag, const void *data, size_t len)
{
        static const char zeros[FIELD_ALIGN];
        uint32_t head[2] = { tag, (uint32_t)len };

        if (len > SHIM_SPEC_MAX) {
                buf->error = -EMSGSIZE;
                return;
        }
        buf_add(buf, head, sizeof(head));
        buf_add(buf, data, len);
        buf_add(buf, zeros, -len & (FIELD_ALIGN - 1));
}

static void put_str(Buf *buf, uint32_t tag, const char *s)
{
        if (s)
                put(buf, tag, s, strlen(s) + 1);
}

static void put_strv(Buf *buf, uint32_t tag, char *const *v)
{
        for (; v && *v; v++)
                put_str(buf, tag, *v);
}

/* Zero is what a decoder assumes of a missing number. */
static void put_u64(Buf *buf, uint32_t tag, uint64_t value)
{
        if (value)
                put(buf, tag, &value, sizeof(value));
}

/* For numbers whose absence does not mean zero. */
static void put_i64(Buf *buf, uint32_t tag, int64_t value)
{
        put(buf, tag, &value, sizeof(value));
}

static void put_fd(Buf *buf, uint32_t tag, int fd, RecordFds *fds)
{
        if (fd < 0)
                return;
        if (fds->n == SHIM_SPEC_FDS_MAX) {
                buf->error = -EMSGSIZE;
                return;
        }
        put_i64(buf, tag, (int64_t)fds->n);
        fds->fds[fds->n++] = fd;
}

/* Opens a nested field; its length is filled in by end(). */
static size_t begin(Buf *buf, uint32_t tag)
{
        put(buf, tag, NULL, 0);
        return buf->len;
}

static void end(Buf *buf, size_t start)
{
        uint32_t len = (uint32_t)(buf->len - start);

        if (!buf->error)
                memcpy(buf->data + start - sizeof(len), &len, sizeof(len));
}

static void put_cgroups(Buf *buf, uint32_t tag, const ShimCgroup *cgroups, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                size_t at = begin(buf, tag);

                put_u64(buf, CGROUP_ROLES, cgroups[i].roles);
                put_str(buf, CGROUP_NAME, cgroups[i].name);
                put_str(buf, CGROUP_PATH, cgroups[i].path);
                end(buf, at);
        }
}

int shim_sandbox_encode(const ShimSandbox *sandbox, Buf *buf)
{
        buf_clear(buf);
        buf->limit = SHIM_SPEC_MAX;
        put_str(buf, SANDBOX_ID, sandbox->id);
        put_str(buf, SANDBOX_NETNS, sandbox->netns_path);
        put_str(buf, SANDBOX_HOSTNAME, sandbox->hostname);
        put_u64(buf, SANDBOX_HOST_NETWORK, sandbox->host_network);
        put_u64(buf, SANDBOX_HOST_PID, sandbox->host_pid);
        put_u64(buf, SANDBOX_HOST_IPC, sandbox->host_ipc);
        put_u64(buf, SANDBOX_SHARE_PID, sandbox->share_pid);
        for (size_t i = 0; i < sandbox->n_uid_maps; i++)
                put(buf, SANDBOX_UID_MAP, &sandbox->uid_maps[i], sizeof(ShimIdMap));
        for (size_t i = 0; i < sandbox->n_gid_maps; i++)
                put(buf, SANDBOX_GID_MAP, &sandbox->gid_maps[i], sizeof(ShimIdMap));
        for (size_t i = 0; i < sandbox->n_sysctls; i++) {
                size_t at = begin(buf, SANDBOX_SYSCTL);

                put_str(buf, SYSCTL_NAME, sandbox->sysctls[i].name);
                put_str(buf, SYSCTL_VALUE, sandbox->sysctls[i].value);
                end(buf, at);
        }
        put_cgroups(buf, SANDBOX_CGROUP, sandbox->cgroups, sandbox->n_cgroups);
        put_u64(buf, SANDBOX_SHM_BYTES, sandbox->shm_bytes);
        put_i64(buf, SANDBOX_OOM_SCORE_ADJ, sandbox->oom_score_adj);
        return buf_error(buf);
}

static void put_user(Buf *buf, const ShimUser *user)
{
        put_i64(buf, START_RUN_AS_USER, user->run_as_user);
        put_i64(buf, START_RUN_AS_GROUP, user->run_as_group);
        put_str(buf, START_IMAGE_USER, user->image_user);
        put_u64(buf, START_NON_ROOT, user->non_root);
        put_u64(buf, START_STRICT_GROUPS, user->strict_groups);
        if (user->n_groups)
                put(buf, START_GROUPS, user->groups, user->n_groups * sizeof(*user->groups));
}

static void put_mount(Buf *buf, const ShimMount *mount, RecordFds *fds)
{
        size_t at = begin(buf, START_MOUNT);

        put_u64(buf, MOUNT_KIND, mount->kind);
        put_str(buf, MOUNT_TARGET, mount->target);
        put_fd(buf, MOUNT_FD, mount->kind == SHIM_MOUNT_BIND ? mount->fd : -1, fds);
        put_u64(buf, MOUNT_FLAGS, mount->flags);
        put_u64(buf, MOUNT_PROPAGATION, mount->propagation);
        put_str(buf, MOUNT_OPTIONS, mount->options);
        end(buf, at);
}

static void put_device(Buf *buf, const ShimDevice *device)
{
        size_t at = begin(buf, START_DEVICE);

        put_str(buf, DEVICE_PATH, device->path);
        put_u64(buf, DEVICE_TYPE, (unsigned char)device->type);
        put_u64(buf, DEVICE_MAJOR, device->major);
        put_u64(buf, DEVICE_MINOR, device->minor);
        put_u64(buf, DEVICE_MODE, device->mode);
        put_u64(buf, DEVICE_UID, device->uid);
        put_u64(buf, DEVICE_GID, device->gid);
        end(buf, at);
}

static void put_root(Buf *buf, const ShimStart *start, RecordFds *fds)
{
        put_fd(buf, START_LAYERS_FD, start->layers_fd, fds);
        put_strv(buf, START_LAYER, start->layers);
        put_fd(buf, START_RW_FD, start->rw_fd, fds);
        put_u64(buf, START_READ_ONLY_ROOT, start->read_only_root);
        for (size_t i = 0; i < start->n_mounts; i++)
                put_mount(buf, &start->mounts[i], fds);
        put_strv(buf, START_MASKED, start->masked_paths);
        put_strv(buf, START_READ_ONLY, start->read_only_paths);
        for (size_t i = 0; i < start->n_devices; i++)
                put_device(buf, &start->devices[i]);
}

int shim_start_encode(const ShimStart *start, Buf *buf, RecordFds *fds)
{
        buf_clear(buf);
        buf->limit = SHIM_SPEC_MAX;
        fds->n = 0;
        put_str(buf, START_ID, start->id);
        put_strv(buf, START_ARG, start->args);
        put_strv(buf, START_ENV, start->env);
        put_str(buf, START_CWD, start->cwd);
        put_user(buf, &start->user);
        put_u64(buf, START_CAP_BOUNDING, start->cap_bounding);
        put_u64(buf, START_CAP_EFFECTIVE, start->cap_effective);
        put_u64(buf, START_NO_NEW_PRIVS, start->no_new_privs);
        if (start->seccomp)
                put(buf, START_SECCOMP, start->seccomp, start->seccomp_size);
        put_u64(buf, START_SECCOMP_FLAGS, start->seccomp_flags);
        for (size_t i = 0; i < start->n_rlimits; i++) {
                const ShimRlimit *limit = &start->rlimits[i];
                uint64_t numbers[3] = { limit->resource, limit->soft, limit->hard };

                put(buf, START_RLIMIT, numbers, sizeof(numbers));
        }
        put_i64(buf, START_OOM_SCORE_ADJ, start->oom_score_adj);
        put_cgroups(buf, START_CGROUP, start->cgroups, start->n_cgroups);
        put_root(buf, start, fds);
        put_u64(buf, START_TTY, start->tty);
        put_u64(buf, START_STDIN, start->stdin_open);
        put_u64(buf, START_STDIN_ONCE, start->stdin_once);
        put_fd(buf, START_LOG_FD, start->log_fd, fds);
        put_u64(buf, START_STOP_SIGNAL, start->stop_signal);
        if (!str_empty(start->pid_target))
                put_str(buf, START_PID_TARGET, start->pid_target);
        if (start->log_dir_fd >= 0) {
                put_fd(buf, START_LOG_DIR_FD, start->log_dir_fd, fds);
                put_str(buf, START_LOG_NAME, start->log_name);
                put_u64(buf, START_LOG_MAX_BYTES, start->log_max_bytes);
        }
        if (start->apparmor && *start->apparmor)
                put_str(buf, START_APPARMOR, start->apparmor);
        put_strv(buf, START_WRITABLE, start->writable_paths);
        if (start->handler) {
                put_str(buf, START_HANDLER, start->handler);
                put_str(buf, START_CONFIG_HEAD, start->config_head);
                put_str(buf, START_CONFIG_TAIL, start->config_tail);
                put_str(buf, START_PROCESS_REST, start->process_rest);
        }
        return buf_error(buf);
}

int shim_exec_encode(const ShimExec *exec, Buf *buf, RecordFds *fds)
{
        buf_clear(buf);
        buf->limit = SHIM_SPEC_MAX;
        fds->n = 0;
        put_str(buf, EXEC_CONTAINER, exec->container);
        put_strv(buf, EXEC_ARG, exec->args);
        put_strv(buf, EXEC_ENV, exec->extra_env);
        put_str(buf, EXEC_CWD, exec->cwd);
        put_u64(buf, EXEC_TTY, exec->tty);
        put_fd(buf, EXEC_STDIN_FD, exec->stdin_fd, fds);
        put_fd(buf, EXEC_STDOUT_FD, exec->stdout_fd, fds);
        put_fd(buf, EXEC_STDERR_FD, exec->stderr_fd, fds);
        put_u64(buf, EXEC_TIMEOUT_MS, exec->timeout_ms);
        return buf_error(buf);
}
