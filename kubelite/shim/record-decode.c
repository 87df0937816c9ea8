/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Bytes to specs. The bytes are walked twice: once to count, so that every array is allocated at
 * its size, then to fill. Nothing is trusted: a length, a string without its end, an index or a
 * number out of range is -EBADMSG.
 */

#include "shim/record.h"

#include "base/str.h"
#include "shim/record-internal.h"

#include <limits.h>

typedef struct Field {
        uint32_t tag;
        const void *data;
        size_t len;
} Field;

typedef struct Cursor {
        const char *at, *end;
} Cursor;

/* 1: a field, 0: the end, -EBADMSG. */
static int next(Cursor *cursor, Field *ret)
{
        size_t left = (size_t)(cursor->end - cursor->at), padded;
        uint32_t head[2];

        if (left == 0)
                return 0;
        if (left < sizeof(head))
                return -EBADMSG;
        memcpy(head, cursor->at, sizeof(head));
        left -= sizeof(head);
        padded = ((size_t)head[1] + FIELD_ALIGN - 1) & ~(size_t)(FIELD_ALIGN - 1);
        if (padded > left)
                return -EBADMSG;
        *ret = (Field){ head[0], cursor->at + sizeof(head), head[1] };
        cursor->at += sizeof(head) + padded;
        return 1;
}

static Cursor cursor_of(const Field *field)
{
        const char *data = field->data;

        /* Nested fields are filled up by their own, so the length is a multiple already. */
        return (Cursor){ data, data + field->len };
}

static int get_str(const Field *field, const char **ret)
{
        const char *s = field->data;

        if (field->len == 0 || memchr(s, '\0', field->len) != s + field->len - 1)
                return -EBADMSG;
        *ret = s;
        return 0;
}

static int get_u64(const Field *field, uint64_t *ret)
{
        if (field->len != sizeof(*ret))
                return -EBADMSG;
        memcpy(ret, field->data, sizeof(*ret));
        return 0;
}

static int get_i64(const Field *field, int64_t *ret)
{
        if (field->len != sizeof(*ret))
                return -EBADMSG;
        memcpy(ret, field->data, sizeof(*ret));
        return 0;
}

static int get_u32(const Field *field, uint32_t *ret)
{
        uint64_t value;
        int r = get_u64(field, &value);

        if (r < 0)
                return r;
        if (value > UINT32_MAX)
                return -EBADMSG;
        *ret = (uint32_t)value;
        return 0;
}

static int get_i32(const Field *field, int32_t *ret)
{
        int64_t value;
        int r = get_i64(field, &value);

        if (r < 0)
                return r;
        if (value < INT32_MIN || value > INT32_MAX)
                return -EBADMSG;
        *ret = (int32_t)value;
        return 0;
}

static int get_bool(const Field *field, bool *ret)
{
        uint64_t value;
        int r = get_u64(field, &value);

        if (r == 0)
                *ret = value != 0;
        return r;
}

static int get_fd(const Field *field, size_t n_fds, int *ret)
{
        uint64_t value;
        int r = get_u64(field, &value);

        if (r < 0)
                return r;
        if (value >= n_fds || value > INT_MAX)
                return -EBADMSG;
        *ret = (int)value;
        return 0;
}

static int count_tags(const void *data, size_t len, size_t *counts, size_t n_tags)
{
        Cursor cursor = { data, (const char *)data + len };
        Field field;
        int r;

        if (len > SHIM_SPEC_MAX)
                return -EMSGSIZE;
        while ((r = next(&cursor, &field)) > 0)
                if (field.tag < n_tags)
                        counts[field.tag]++;
        return r;
}

/* Decoded arrays are filled in place; the specs show them const. */
#define APPEND(spec, array, n) ((void *)(uintptr_t) & (spec)->array[(spec)->n++])

static char **strv_of(char *const *v)
{
        return (char **)(uintptr_t)v;
}

/* v was allocated one longer than there are strings. */
static int append_str(const Field *field, char *const *v)
{
        const char *s;
        int r = get_str(field, &s);

        if (r < 0)
                return r;
        strv_of(v)[strv_len(v)] = (char *)(uintptr_t)s;
        return 0;
}

static int get_cgroup(const Field *nested, ShimCgroup *ret)
{
        Cursor cursor = cursor_of(nested);
        Field field;
        int r;

        *ret = (ShimCgroup){ .name = "" };
        while ((r = next(&cursor, &field)) > 0) {
                if (field.tag == CGROUP_ROLES)
                        r = get_u32(&field, &ret->roles);
                else if (field.tag == CGROUP_NAME)
                        r = get_str(&field, &ret->name);
                else if (field.tag == CGROUP_PATH)
                        r = get_str(&field, &ret->path);
                if (r < 0)
                        return r;
        }
        return r < 0 || !ret->path ? -EBADMSG : 0;
}

static int get_map(const Field *field, ShimIdMap *ret)
{
        if (field->len != sizeof(*ret))
                return -EBADMSG;
        memcpy(ret, field->data, sizeof(*ret));
        return 0;
}

static int get_sysctl(const Field *nested, ShimSysctl *ret)
{
        Cursor cursor = cursor_of(nested);
        Field field;
        int r;

        while ((r = next(&cursor, &field)) > 0) {
                if (field.tag == SYSCTL_NAME)
                        r = get_str(&field, &ret->name);
                else if (field.tag == SYSCTL_VALUE)
                        r = get_str(&field, &ret->value);
                if (r < 0)
                        return r;
        }
        return r < 0 || !ret->name || !ret->value ? -EBADMSG : 0;
}

static int sandbox_field(const Field *field, ShimSandbox *s)
{
        switch (field->tag) {
        case SANDBOX_ID:
                return get_str(field, &s->id);
        case SANDBOX_NETNS:
                return get_str(field, &s->netns_path);
        case SANDBOX_HOSTNAME:
                return get_str(field, &s->hostname);
        case SANDBOX_HOST_NETWORK:
                return get_bool(field, &s->host_network);
        case SANDBOX_HOST_PID:
                return get_bool(field, &s->host_pid);
        case SANDBOX_HOST_IPC:
                return get_bool(field, &s->host_ipc);
        case SANDBOX_SHARE_PID:
                return get_bool(field, &s->share_pid);
        case SANDBOX_UID_MAP:
                return get_map(field, APPEND(s, uid_maps, n_uid_maps));
        case SANDBOX_GID_MAP:
                return get_map(field, APPEND(s, gid_maps, n_gid_maps));
        case SANDBOX_SYSCTL:
                return get_sysctl(field, APPEND(s, sysctls, n_sysctls));
        case SANDBOX_CGROUP:
                return get_cgroup(field, APPEND(s, cgroups, n_cgroups));
        case SANDBOX_SHM_BYTES:
                return get_u64(field, &s->shm_bytes);
        case SANDBOX_OOM_SCORE_ADJ:
                return get_i32(field, &s->oom_score_adj);
        default:
                return 0;
        }
}

static bool sandbox_alloc(ShimSandbox *s, const size_t *counts)
{
        /* One more, so that no allocation is of size 0. */
        s->uid_maps = calloc(counts[SANDBOX_UID_MAP] + 1, sizeof(*s->uid_maps));
        s->gid_maps = calloc(counts[SANDBOX_GID_MAP] + 1, sizeof(*s->gid_maps));
        s->sysctls = calloc(counts[SANDBOX_SYSCTL] + 1, sizeof(*s->sysctls));
        s->cgroups = calloc(counts[SANDBOX_CGROUP] + 1, sizeof(*s->cgroups));
        return s->uid_maps && s->gid_maps && s->sysctls && s->cgroups;
}

int shim_sandbox_decode(const void *data, size_t len, ShimSandbox *ret)
{
        ShimSandbox s = { .netns_path = "", .hostname = "" };
        Cursor cursor = { data, (const char *)data + len };
        size_t counts[SANDBOX_TAGS] = { 0 };
        Field field;
        int r;

        r = count_tags(data, len, counts, SANDBOX_TAGS);
        if (r < 0)
                return r;
        if (!sandbox_alloc(&s, counts))
                r = -ENOMEM;
        while (r == 0 && (r = next(&cursor, &field)) > 0)
                r = sandbox_field(&field, &s);
        if (r == 0 && !s.id)
                r = -EBADMSG;
        if (r < 0) {
                shim_sandbox_deinit(&s);
                return r;
        }
        *ret = s;
        return 0;
}

void shim_sandbox_deinit(ShimSandbox *s)
{
        free((void *)(uintptr_t)s->uid_maps);
        free((void *)(uintptr_t)s->gid_maps);
        free((void *)(uintptr_t)s->sysctls);
        free((void *)(uintptr_t)s->cgroups);
        *s = (ShimSandbox){ 0 };
}

static int get_groups(const Field *field, ShimUser *user)
{
        if (field->len % sizeof(*user->groups) ||
            field->len / sizeof(*user->groups) > SHIM_GROUPS_MAX)
                return -EBADMSG;
        user->groups = field->data;
        user->n_groups = field->len / sizeof(*user->groups);
        return 0;
}

static int get_rlimit(const Field *field, ShimRlimit *ret)
{
        uint64_t numbers[3];

        if (field->len != sizeof(numbers))
                return -EBADMSG;
        memcpy(numbers, field->data, sizeof(numbers));
        if (numbers[0] > UINT32_MAX)
                return -EBADMSG;
        *ret = (ShimRlimit){ (uint32_t)numbers[0], numbers[1], numbers[2] };
        return 0;
}

static int mount_field(const Field *field, size_t n_fds, uint32_t *kind, ShimMount *ret)
{
        switch (field->tag) {
        case MOUNT_KIND:
                return get_u32(field, kind);
        case MOUNT_TARGET:
                return get_str(field, &ret->target);
        case MOUNT_FD:
                return get_fd(field, n_fds, &ret->fd);
        case MOUNT_FLAGS:
                return get_u32(field, &ret->flags);
        case MOUNT_PROPAGATION:
                return get_u32(field, &ret->propagation);
        case MOUNT_OPTIONS:
                return get_str(field, &ret->options);
        default:
                return 0;
        }
}

static int get_mount(const Field *nested, size_t n_fds, ShimMount *ret)
{
        Cursor cursor = cursor_of(nested);
        uint32_t kind = SHIM_MOUNT_BIND;
        Field field;
        int r;

        *ret = (ShimMount){ .fd = -1 };
        while ((r = next(&cursor, &field)) > 0) {
                r = mount_field(&field, n_fds, &kind, ret);
                if (r < 0)
                        return r;
        }
        if (r < 0 || !ret->target || kind >= SHIM_MOUNT_KINDS ||
            ret->propagation > SHIM_PROPAGATION_SHARED)
                return -EBADMSG;
        ret->kind = (ShimMountKind)kind;
        return kind == SHIM_MOUNT_BIND && ret->fd < 0 ? -EBADMSG : 0;
}

static int device_field(const Field *field, uint32_t *type, ShimDevice *ret)
{
        switch (field->tag) {
        case DEVICE_PATH:
                return get_str(field, &ret->path);
        case DEVICE_TYPE:
                return get_u32(field, type);
        case DEVICE_MAJOR:
                return get_u32(field, &ret->major);
        case DEVICE_MINOR:
                return get_u32(field, &ret->minor);
        case DEVICE_MODE:
                return get_u32(field, &ret->mode);
        case DEVICE_UID:
                return get_u32(field, &ret->uid);
        case DEVICE_GID:
                return get_u32(field, &ret->gid);
        default:
                return 0;
        }
}

static int get_device(const Field *nested, ShimDevice *ret)
{
        Cursor cursor = cursor_of(nested);
        uint32_t type = 'c';
        Field field;
        int r;

        while ((r = next(&cursor, &field)) > 0) {
                r = device_field(&field, &type, ret);
                if (r < 0)
                        return r;
        }
        if (r < 0 || !ret->path || (type != 'c' && type != 'b'))
                return -EBADMSG;
        ret->type = (char)type;
        return 0;
}

static int user_field(const Field *field, ShimUser *user)
{
        switch (field->tag) {
        case START_RUN_AS_USER:
                return get_i64(field, &user->run_as_user);
        case START_RUN_AS_GROUP:
                return get_i64(field, &user->run_as_group);
        case START_IMAGE_USER:
                return get_str(field, &user->image_user);
        case START_NON_ROOT:
                return get_bool(field, &user->non_root);
        case START_STRICT_GROUPS:
                return get_bool(field, &user->strict_groups);
        case START_GROUPS:
                return get_groups(field, user);
        default:
                return 0;
        }
}

static int root_field(const Field *field, size_t n_fds, ShimStart *s)
{
        switch (field->tag) {
        case START_LAYERS_FD:
                return get_fd(field, n_fds, &s->layers_fd);
        case START_LAYER:
                return append_str(field, s->layers);
        case START_RW_FD:
                return get_fd(field, n_fds, &s->rw_fd);
        case START_READ_ONLY_ROOT:
                return get_bool(field, &s->read_only_root);
        case START_WRITABLE:
                return append_str(field, s->writable_paths);
        case START_MOUNT:
                return get_mount(field, n_fds, APPEND(s, mounts, n_mounts));
        case START_MASKED:
                return append_str(field, s->masked_paths);
        case START_READ_ONLY:
                return append_str(field, s->read_only_paths);
        case START_DEVICE:
                return get_device(field, APPEND(s, devices, n_devices));
        default:
                return user_field(field, &s->user);
        }
}

static int get_seccomp(const Field *field, ShimStart *s)
{
        /* sizeof(struct sock_filter), and BPF_MAXINSNS. */
        if (field->len == 0 || field->len % 8 || field->len / 8 > 4096)
                return -EBADMSG;
        s->seccomp = field->data;
        s->seccomp_size = field->len;
        return 0;
}

static int start_field(const Field *field, size_t n_fds, ShimStart *s)
{
        switch (field->tag) {
        case START_ID:
                return get_str(field, &s->id);
        case START_ARG:
                return append_str(field, s->args);
        case START_ENV:
                return append_str(field, s->env);
        case START_CWD:
                return get_str(field, &s->cwd);
        case START_CAP_BOUNDING:
                return get_u64(field, &s->cap_bounding);
        case START_CAP_EFFECTIVE:
                return get_u64(field, &s->cap_effective);
        case START_NO_NEW_PRIVS:
                return get_bool(field, &s->no_new_privs);
        case START_SECCOMP:
                return get_seccomp(field, s);
        case START_SECCOMP_FLAGS:
                return get_u32(field, &s->seccomp_flags);
        case START_RLIMIT:
                return get_rlimit(field, APPEND(s, rlimits, n_rlimits));
        case START_OOM_SCORE_ADJ:
                return get_i32(field, &s->oom_score_adj);
        case START_CGROUP:
                return get_cgroup(field, APPEND(s, cgroups, n_cgroups));
        case START_TTY:
                return get_bool(field, &s->tty);
        case START_STDIN:
                return get_bool(field, &s->stdin_open);
        case START_STDIN_ONCE:
                return get_bool(field, &s->stdin_once);
        case START_LOG_FD:
                return get_fd(field, n_fds, &s->log_fd);
        case START_STOP_SIGNAL:
                return get_u32(field, &s->stop_signal);
        case START_PID_TARGET:
                return get_str(field, &s->pid_target);
        case START_LOG_DIR_FD:
                return get_fd(field, n_fds, &s->log_dir_fd);
        case START_LOG_NAME:
                return get_str(field, &s->log_name);
        case START_LOG_MAX_BYTES:
                return get_u64(field, &s->log_max_bytes);
        case START_APPARMOR:
                return get_str(field, &s->apparmor);
        case START_HANDLER:
                return get_str(field, &s->handler);
        case START_CONFIG_HEAD:
                return get_str(field, &s->config_head);
        case START_CONFIG_TAIL:
                return get_str(field, &s->config_tail);
        case START_PROCESS_REST:
                return get_str(field, &s->process_rest);
        default:
                return root_field(field, n_fds, s);
        }
}

static bool start_alloc(ShimStart *s, const size_t *counts)
{
        s->args = calloc(counts[START_ARG] + 1, sizeof(*s->args));
        s->env = calloc(counts[START_ENV] + 1, sizeof(*s->env));
        s->layers = calloc(counts[START_LAYER] + 1, sizeof(*s->layers));
        s->masked_paths = calloc(counts[START_MASKED] + 1, sizeof(*s->masked_paths));
        s->read_only_paths = calloc(counts[START_READ_ONLY] + 1, sizeof(*s->read_only_paths));
        s->writable_paths = calloc(counts[START_WRITABLE] + 1, sizeof(*s->writable_paths));
        s->rlimits = calloc(counts[START_RLIMIT] + 1, sizeof(*s->rlimits));
        s->cgroups = calloc(counts[START_CGROUP] + 1, sizeof(*s->cgroups));
        s->mounts = calloc(counts[START_MOUNT] + 1, sizeof(*s->mounts));
        s->devices = calloc(counts[START_DEVICE] + 1, sizeof(*s->devices));
        return s->args && s->env && s->layers && s->masked_paths && s->read_only_paths &&
               s->writable_paths && s->rlimits && s->cgroups && s->mounts && s->devices;
}

int shim_start_decode(const void *data, size_t len, size_t n_fds, ShimStart *ret)
{
        ShimStart s = { .cwd = "",
                        .apparmor = "",
                        .user = { .run_as_user = -1, .run_as_group = -1, .image_user = "" },
                        .layers_fd = -1,
                        .rw_fd = -1,
                        .log_fd = -1,
                        .log_dir_fd = -1,
                        .log_name = "" };
        Cursor cursor = { data, (const char *)data + len };
        size_t counts[START_TAGS] = { 0 };
        Field field;
        int r;

        r = count_tags(data, len, counts, START_TAGS);
        if (r < 0)
                return r;
        if (!start_alloc(&s, counts))
                r = -ENOMEM;
        while (r == 0 && (r = next(&cursor, &field)) > 0)
                r = start_field(&field, n_fds, &s);
        if (r == 0 && (!s.id || strlen(s.id) >= SHIM_ID_SIZE || !s.args[0] || !s.layers[0] ||
                       s.layers_fd < 0 || s.rw_fd < 0 ||
                       (s.handler && (!s.config_head || !s.config_tail || !s.process_rest))))
                r = -EBADMSG;
        if (r < 0) {
                shim_start_deinit(&s);
                return r;
        }
        *ret = s;
        return 0;
}

void shim_start_deinit(ShimStart *s)
{
        free(strv_of(s->args));
        free(strv_of(s->env));
        free(strv_of(s->layers));
        free(strv_of(s->masked_paths));
        free(strv_of(s->read_only_paths));
        free(strv_of(s->writable_paths));
        free((void *)(uintptr_t)s->rlimits);
        free((void *)(uintptr_t)s->cgroups);
        free((void *)(uintptr_t)s->mounts);
        free((void *)(uintptr_t)s->devices);
        *s = (ShimStart){ 0 };
}

static int exec_field(const Field *field, size_t n_fds, ShimExec *s)
{
        switch (field->tag) {
        case EXEC_CONTAINER:
                return get_str(field, &s->container);
        case EXEC_ARG:
                return append_str(field, s->args);
        case EXEC_ENV:
                return append_str(field, s->extra_env);
        case EXEC_CWD:
                return get_str(field, &s->cwd);
        case EXEC_TTY:
                return get_bool(field, &s->tty);
        case EXEC_STDIN_FD:
                return get_fd(field, n_fds, &s->stdin_fd);
        case EXEC_STDOUT_FD:
                return get_fd(field, n_fds, &s->stdout_fd);
        case EXEC_STDERR_FD:
                return get_fd(field, n_fds, &s->stderr_fd);
        case EXEC_TIMEOUT_MS:
                return get_u64(field, &s->timeout_ms);
        default:
                return 0;
        }
}

int shim_exec_decode(const void *data, size_t len, size_t n_fds, ShimExec *ret)
{
        ShimExec s = { .cwd = "", .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
        Cursor cursor = { data, (const char *)data + len };
        size_t counts[EXEC_TAGS] = { 0 };
        Field field;
        int r;

        r = count_tags(data, len, counts, EXEC_TAGS);
        if (r < 0)
                return r;
        s.args = calloc(counts[EXEC_ARG] + 1, sizeof(*s.args));
        s.extra_env = calloc(counts[EXEC_ENV] + 1, sizeof(*s.extra_env));
        if (!s.args || !s.extra_env)
                r = -ENOMEM;
        while (r == 0 && (r = next(&cursor, &field)) > 0)
                r = exec_field(&field, n_fds, &s);
        if (r == 0 && (!s.container || !s.args[0]))
                r = -EBADMSG;
        if (r < 0) {
                shim_exec_deinit(&s);
                return r;
        }
        *ret = s;
        return 0;
}

void shim_exec_deinit(ShimExec *s)
{
        free(strv_of(s->args));
        free(strv_of(s->extra_env));
        *s = (ShimExec){ 0 };
}
