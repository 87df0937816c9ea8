/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From a ContainerSpec to a Document: defaults, refusals, order. Nothing here looks at the file
 * system or at processes; what that would tell comes with the DocumentContext.
 *
 * The defaults are containerd's, since images and users rely on them.
 */

#include "runtime/document-internal.h"

#include "base/str.h"
#include "loop/worker.h"
#include "runtime/caps-internal.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <strings.h>
#include <sys/resource.h>

#define REASON "CreateContainerError"
#define CONFIG_REASON "CreateContainerConfigError"
#define SOFT_NOFILE 1024
/* More are left read-only. */
#define IMAGE_VOLUMES_MAX 256

static const DocumentMount default_mounts[] = {
        { SHIM_MOUNT_PROC, "proc", -1, "/proc",
          SHIM_MOUNT_NOSUID | SHIM_MOUNT_NOEXEC | SHIM_MOUNT_NODEV, 0, NULL },
        { SHIM_MOUNT_DEV, "tmpfs", -1, "/dev", SHIM_MOUNT_NOSUID, 0, "mode=755,size=65536k" },
        { SHIM_MOUNT_DEVPTS, "devpts", -1, "/dev/pts", SHIM_MOUNT_NOSUID | SHIM_MOUNT_NOEXEC, 0,
          "newinstance,ptmxmode=0666,mode=0620,gid=5" },
        { SHIM_MOUNT_SHM, "shm", -1, "/dev/shm",
          SHIM_MOUNT_NOSUID | SHIM_MOUNT_NOEXEC | SHIM_MOUNT_NODEV, 0, NULL },
        { SHIM_MOUNT_MQUEUE, "mqueue", -1, "/dev/mqueue",
          SHIM_MOUNT_NOSUID | SHIM_MOUNT_NOEXEC | SHIM_MOUNT_NODEV, 0, NULL },
        { SHIM_MOUNT_SYSFS, "sysfs", -1, "/sys",
          SHIM_MOUNT_NOSUID | SHIM_MOUNT_NOEXEC | SHIM_MOUNT_NODEV | SHIM_MOUNT_RO, 0, NULL },
        { SHIM_MOUNT_CGROUP, "cgroup", -1, "/sys/fs/cgroup",
          SHIM_MOUNT_NOSUID | SHIM_MOUNT_NOEXEC | SHIM_MOUNT_NODEV | SHIM_MOUNT_RO, 0, NULL },
};

static const char *const masked_paths[] = {
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        NULL,
};

static const char *const read_only_paths[] = {
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL,
};

/* Files in /proc that are commonly replaced (lxcfs), as runc allows them. */
static const char *const proc_targets[] = {
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/slabinfo",
        "/proc/net/dev",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/crypto/fips_enabled",
};

/* Nodes may be made by anybody with CAP_MKNOD; opening is what is guarded. */
static const DeviceRule default_devices[] = {
        { 'c', -1, -1, "m" },    { 'b', -1, -1, "m" }, { 'c', 1, 3, "rwm" }, /* null */
        { 'c', 1, 5, "rwm" },                                                /* zero */
        { 'c', 1, 7, "rwm" },                                                /* full */
        { 'c', 1, 8, "rwm" },                                                /* random */
        { 'c', 1, 9, "rwm" },                                                /* urandom */
        { 'c', 5, 0, "rwm" },                                                /* tty */
        { 'c', 5, 1, "rwm" },                                                /* console */
        { 'c', 5, 2, "rwm" },                                                /* ptmx */
        { 'c', 136, -1, "rwm" },                                             /* pts */
};

static const DeviceRule all_devices[] = { { 'a', -1, -1, "rwm" } };

/* --- names --- */

bool id_is_valid(const char *id)
{
        return id && strlen(id) == 64 && strspn(id, "0123456789abcdef") == 64;
}

bool uid_is_valid(const char *uid)
{
        size_t n = uid ? strlen(uid) : 0;

        return n > 0 && n <= 128 && uid[0] != '-' &&
               strspn(uid, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == n;
}

static const struct {
        const char *name;
        int number;
} signals[] = {
        { "HUP", SIGHUP },       { "INT", SIGINT },   { "QUIT", SIGQUIT },     { "ILL", SIGILL },
        { "TRAP", SIGTRAP },     { "ABRT", SIGABRT }, { "IOT", SIGIOT },       { "BUS", SIGBUS },
        { "FPE", SIGFPE },       { "KILL", SIGKILL }, { "USR1", SIGUSR1 },     { "SEGV", SIGSEGV },
        { "USR2", SIGUSR2 },     { "PIPE", SIGPIPE }, { "ALRM", SIGALRM },     { "TERM", SIGTERM },
        { "CHLD", SIGCHLD },     { "CLD", SIGCHLD },  { "CONT", SIGCONT },     { "STOP", SIGSTOP },
        { "TSTP", SIGTSTP },     { "TTIN", SIGTTIN }, { "TTOU", SIGTTOU },     { "URG", SIGURG },
        { "XCPU", SIGXCPU },     { "XFSZ", SIGXFSZ }, { "VTALRM", SIGVTALRM }, { "PROF", SIGPROF },
        { "WINCH", SIGWINCH },   { "IO", SIGIO },     { "POLL", SIGIO },       { "PWR", SIGPWR },
        { "SYS", SIGSYS },
#ifdef SIGSTKFLT
        { "STKFLT", SIGSTKFLT },
#endif
};

/* The kernel's numbers: C libraries keep the first real-time signals to themselves. */
#define RTMIN_NUMBER 34
#define RTMAX_NUMBER 64

int signal_from_name(const char *name)
{
        int64_t n;

        if (str_empty(name))
                return 0;
        if (str_to_i64(name, 1, RTMAX_NUMBER, &n) == 0)
                return (int)n;
        if (strncasecmp(name, "SIG", 3) == 0)
                name += 3;
        for (size_t i = 0; i < ELEMENTS(signals); i++)
                if (strcasecmp(signals[i].name, name) == 0)
                        return signals[i].number;
        if (strcasecmp(name, "RTMIN") == 0)
                return RTMIN_NUMBER;
        if (strcasecmp(name, "RTMAX") == 0)
                return RTMAX_NUMBER;
        if (strncasecmp(name, "RTMIN+", 6) == 0 &&
            str_to_i64(name + 6, 0, RTMAX_NUMBER - RTMIN_NUMBER, &n) == 0)
                return RTMIN_NUMBER + (int)n;
        if (strncasecmp(name, "RTMAX-", 6) == 0 &&
            str_to_i64(name + 6, 0, RTMAX_NUMBER - RTMIN_NUMBER, &n) == 0)
                return RTMAX_NUMBER - (int)n;
        return -EINVAL;
}

char *path_clean(Arena *arena, const char *path)
{
        size_t len = strlen(path), n = 0;
        char *out = path[0] == '/' && len < PATH_MAX ? arena_alloc(arena, len + 2) : NULL;

        if (!out)
                return NULL;
        while (*path) {
                size_t part;

                path += strspn(path, "/");
                part = strcspn(path, "/");
                if (part == 2 && path[0] == '.' && path[1] == '.') {
                        while (n > 0 && out[--n] != '/')
                                ;
                } else if (part > 0 && !(part == 1 && path[0] == '.')) {
                        out[n++] = '/';
                        memcpy(out + n, path, part);
                        n += part;
                }
                path += part;
        }
        if (n == 0)
                out[n++] = '/';
        out[n] = '\0';
        return out;
}

/* --- who --- */

/*
 * Numbers that the kernel would cut to 32 bits, or that look like numbers and are none, are never
 * looked up as names: an image must not choose which user they end up as.
 */
static int check_id(const char *what, const char *text, size_t len, KlError **err)
{
        char number[24];
        int64_t id;

        if (len == 0)
                return 0;
        if (text[0] != '+' && text[0] != '-' && strspn(text, "0123456789") < len)
                return 0;
        if (len < sizeof(number)) {
                memcpy(number, text, len);
                number[len] = '\0';
                if (str_to_i64(number, 0, USER_ID_MAX, &id) == 0 && text[0] != '+')
                        return 0;
        }
        return kl_error(err, -EINVAL, REASON, "the image's %s \"%.*s\" is not in 0-%d", what,
                        len > 64 ? 64 : (int)len, text, USER_ID_MAX);
}

static int check_image_user(const char *user, KlError **err)
{
        size_t n = strcspn(user, ":");
        int r = check_id("user", user, n, err);

        if (r == 0 && user[n])
                r = check_id("group", user + n + 1, strlen(user + n + 1), err);
        return r;
}

/* The verdict for names is: cannot be verified, hence refused. */
static int check_non_root(const ContainerSpec *spec, const DocumentContext *c, KlError **err)
{
        const char *user = spec->image_user ? spec->image_user : "";
        size_t n = strcspn(user, ":");
        bool root;

        if (!spec->run_as_non_root)
                return 0;
        if (spec->run_as_user == 0)
                return kl_error(err, -EINVAL, CONFIG_REASON,
                                "container's runAsUser breaks non-root policy (pod: \"%s_%s(%s)\", "
                                "container: %s)",
                                c->pod_name, c->pod_namespace, c->pod_uid, spec->name);
        if (spec->run_as_user > 0)
                return 0;
        if (strspn(user, "0123456789") < n)
                return kl_error(
                        err, -EINVAL, CONFIG_REASON,
                        "container has runAsNonRoot and image has non-numeric user (%.*s), "
                        "cannot verify user is non-root (pod: \"%s_%s(%s)\", container: %s)",
                        (int)n, user, c->pod_name, c->pod_namespace, c->pod_uid, spec->name);
        root = strspn(user, "0") == n;
        if (root)
                return kl_error(err, -EINVAL, CONFIG_REASON,
                                "container has runAsNonRoot and image will run as root (pod: "
                                "\"%s_%s(%s)\", container: %s)",
                                c->pod_name, c->pod_namespace, c->pod_uid, spec->name);
        return 0;
}

static int set_user(Document *d, const ContainerSpec *spec, const DocumentContext *context,
                    KlError **err)
{
        const char *user = spec->image_user ? spec->image_user : "";
        uint32_t *groups;
        int r = 0;

        /* An id that the specification gives makes the image's user irrelevant, wrong or not. */
        if (spec->run_as_user < 0)
                r = check_image_user(user, err);
        if (r == 0)
                r = check_non_root(spec, context, err);
        if (r < 0)
                return r;
        if (spec->run_as_user > USER_ID_MAX || spec->run_as_group > USER_ID_MAX)
                return kl_error(err, -EINVAL, REASON, "user or group ids are not in 0-%d",
                                USER_ID_MAX);
        if (spec->n_supplementary_groups > SHIM_GROUPS_MAX)
                return kl_error(err, -EINVAL, REASON, "more than %u supplementary groups",
                                SHIM_GROUPS_MAX);
        groups = ARENA_ARRAY(d->arena, spec->n_supplementary_groups + 1, uint32_t);
        d->user = (ShimUser){
                .run_as_user = spec->run_as_user < 0 ? -1 : spec->run_as_user,
                .run_as_group = spec->run_as_group < 0 ? -1 : spec->run_as_group,
                .image_user = arena_strdup(d->arena, user),
                .non_root = spec->run_as_non_root,
                .strict_groups = spec->strict_groups,
                .groups = groups,
                .n_groups = spec->n_supplementary_groups,
        };
        if (!groups || !d->user.image_user)
                return -ENOMEM;
        if (spec->n_supplementary_groups)
                memcpy(groups, spec->supplementary_groups,
                       spec->n_supplementary_groups * sizeof(*groups));
        return 0;
}

/* --- mounts --- */

static bool is_beneath(const char *path, const char *dir)
{
        size_t n = strlen(dir);

        return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* A mount over /proc could hide from a process what it is confined by: only what runc allows. */
static int check_target(const char *target, KlError **err)
{
        if (str_eq(target, "/"))
                return kl_error(err, -EINVAL, REASON, "a mount on / is not possible");
        if (!is_beneath(target, "/proc") || str_eq(target, "/proc"))
                return 0;
        for (size_t i = 0; i < ELEMENTS(proc_targets); i++)
                if (str_eq(target, proc_targets[i]))
                        return 0;
        return kl_error(err, -EINVAL, REASON, "a mount on %s is not allowed: it is inside /proc",
                        target);
}

static size_t depth_of(const char *path)
{
        size_t n = 0;

        for (; *path; path++)
                n += *path == '/' && path[1];
        return n;
}

/* Outer mounts first; mounts of equal depth keep their order. */
static void sort_mounts(DocumentMount *mounts, size_t n)
{
        for (size_t i = 1; i < n; i++) {
                DocumentMount m = mounts[i];
                size_t k = i, depth = depth_of(m.target);

                for (; k > 0 && depth_of(mounts[k - 1].target) > depth; k--)
                        mounts[k] = mounts[k - 1];
                mounts[k] = m;
        }
}

static uint32_t propagation_of(MountPropagation propagation)
{
        switch (propagation) {
        case PROPAGATION_BIDIRECTIONAL:
                return SHIM_PROPAGATION_SHARED;
        case PROPAGATION_HOST_TO_CONTAINER:
                return SHIM_PROPAGATION_SLAVE;
        case PROPAGATION_NONE:
        default:
                return SHIM_PROPAGATION_PRIVATE;
        }
}

static int check_sub_path(const char *path, KlError **err)
{
        if (path[0] == '/')
                return kl_error(err, -EINVAL, CONFIG_REASON,
                                "subPath '%s' must not be an absolute path", path);
        for (const char *p = path; *p; p += strcspn(p, "/"), p += strspn(p, "/"))
                if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || !p[2]))
                        return kl_error(err, -EINVAL, CONFIG_REASON,
                                        "subPath '%s' must not contain '..'", path);
        return 0;
}

static int set_mount(Document *d, const MountSpec *spec, const DocumentContext *context,
                     DocumentMount *m, KlError **err)
{
        /* A descriptor that somebody forgot to set is no volume. */
        bool has_fd = spec->source_fd > STDERR_FILENO;

        m->kind = SHIM_MOUNT_BIND;
        m->source_fd = -1;
        m->source = arena_strdup(d->arena, spec->source ? spec->source : "");
        m->target = spec->target ? path_clean(d->arena, spec->target) : NULL;
        if (!m->target)
                return kl_error(err, -EINVAL, REASON, "the mount target \"%s\" is not absolute",
                                spec->target ? spec->target : "");
        if (!has_fd && (!spec->source || spec->source[0] != '/'))
                return kl_error(err, -EINVAL, REASON, "the mount source \"%s\" is not absolute",
                                spec->source ? spec->source : "");
        m->flags = (spec->read_only ? SHIM_MOUNT_RO : 0) |
                   (spec->recursive_read_only ? SHIM_MOUNT_RO | SHIM_MOUNT_RO_RECURSIVE : 0) |
                   (context->ids.count ? SHIM_MOUNT_IDMAP : 0);
        m->propagation = propagation_of(spec->propagation);
        if (!str_empty(spec->sub_path)) {
                int r = check_sub_path(spec->sub_path, err);

                if (r < 0)
                        return r;
                m->sub_path = arena_strdup(d->arena, spec->sub_path);
                if (!m->sub_path)
                        return -ENOMEM;
        }
        if (has_fd) {
                m->source_fd = fcntl(spec->source_fd, F_DUPFD_CLOEXEC, WORKER_HOLD_MIN);
                if (m->source_fd < 0)
                        return kl_error_errno(err, -errno, REASON, "keep '%s' open", m->source);
        }
        return check_target(m->target, err);
}

/* A mount of the caller's replaces a default one at the same place; on /dev it replaces all
 * that is beneath. */
static bool is_replaced(const DocumentMount *m, const DocumentMount *own, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (str_eq(own[i].target, m->target) ||
                    (str_eq(own[i].target, "/dev") && is_beneath(m->target, "/dev")) ||
                    (str_eq(own[i].target, "/sys") && is_beneath(m->target, "/sys")))
                        return true;
        return false;
}

static int set_mounts(Document *d, const ContainerSpec *spec, const DocumentContext *context,
                      KlError **err)
{
        size_t n = ELEMENTS(default_mounts), total = n + spec->n_mounts;
        DocumentMount *own;
        int r = 0;

        if (spec->n_mounts > MOUNTS_MAX)
                return kl_error(err, -EINVAL, REASON, "more than %d mounts", MOUNTS_MAX);
        own = ARENA_ARRAY(d->arena, spec->n_mounts + 1, DocumentMount);
        d->mounts = ARENA_ARRAY(d->arena, total, DocumentMount);
        if (!own || !d->mounts)
                return -ENOMEM;
        for (size_t i = 0; i < spec->n_mounts && r == 0; i++) {
                own[i].source_fd = -1;
                r = set_mount(d, &spec->mounts[i], context, &own[i], err);
                /* Even a refused one may hold a descriptor: the document closes it. */
                d->mounts[d->n_mounts++] = own[i];
        }
        if (r < 0)
                return r;
        sort_mounts(own, spec->n_mounts);
        d->n_mounts = 0;
        for (size_t i = 0; i < n; i++) {
                DocumentMount m = default_mounts[i];

                if (is_replaced(&m, own, spec->n_mounts))
                        continue;
                if (spec->privileged && (m.kind == SHIM_MOUNT_SYSFS || m.kind == SHIM_MOUNT_CGROUP))
                        m.flags &= ~(uint32_t)SHIM_MOUNT_RO;
                d->mounts[d->n_mounts++] = m;
        }
        for (size_t i = 0; i < spec->n_mounts; i++)
                d->mounts[d->n_mounts++] = own[i];
        return 0;
}

static int set_files(Document *d, const ContainerSpec *spec, KlError **err)
{
        d->files = ARENA_ARRAY(d->arena, spec->n_files + 1, FileSpec);
        if (!d->files)
                return -ENOMEM;
        for (size_t i = 0; i < spec->n_files; i++) {
                const FileSpec *from = &spec->files[i];
                FileSpec *to = &d->files[d->n_files++];

                *to = (FileSpec){ from->kind, arena_strdup(d->arena, from->path),
                                  arena_strdup(d->arena, from->text ? from->text : "") };
                if (!to->path || !to->text)
                        return -ENOMEM;
        }
        return 0;
}

/* --- the rest --- */

static char **copy_list(Arena *arena, char *const *list)
{
        size_t n = strv_len(list);
        char **copy = ARENA_ARRAY(arena, n + 1, char *);

        for (size_t i = 0; copy && i < n; i++)
                if (!(copy[i] = arena_strdup(arena, list[i])))
                        return NULL;
        return copy;
}

static int set_process(Document *d, const ContainerSpec *spec, KlError **err)
{
        int signo = signal_from_name(spec->stop_signal);

        if (!spec->args || !spec->args[0])
                return kl_error(err, -EINVAL, REASON, "no command specified");
        if (signo < 0)
                return kl_error(err, -EINVAL, REASON, "unknown stop signal \"%s\"",
                                spec->stop_signal);
        if (!str_empty(spec->cwd) && spec->cwd[0] != '/')
                return kl_error(err, -EINVAL, REASON,
                                "the working directory \"%s\" is not absolute", spec->cwd);
        d->args = copy_list(d->arena, spec->args);
        d->env = copy_list(d->arena, spec->env);
        d->cwd = arena_strdup(d->arena, str_empty(spec->cwd) ? "/" : spec->cwd);
        d->stop_signal = (uint32_t)signo;
        d->pid_target = arena_strdup(d->arena, spec->pid_target ? spec->pid_target : "");
        d->tty = spec->tty;
        d->stdin_open = spec->stdin_open;
        d->stdin_once = spec->stdin_once;
        d->oom_score_adj = spec->oom_score_adj;
        d->log_path = arena_strdup(d->arena, spec->log_path);
        d->log_max_bytes = spec->log_max_bytes;
        return d->args && d->env && d->cwd ? 0 : -ENOMEM;
}

static int set_layers(Document *d, const ContainerSpec *spec, KlError **err)
{
        size_t n = strv_len(spec->layers);

        if (n == 0 || n > LAYERS_MAX)
                return kl_error(err, -EINVAL, REASON, "%zu layers: 1 to %d are possible", n,
                                LAYERS_MAX);
        for (char *const *p = spec->layers; *p; p++)
                if ((*p)[0] == '\0' || (*p)[0] == '/' || (*p)[0] == '.' || strstr(*p, "/.") ||
                    strpbrk(*p, ":,\\"))
                        return kl_error(err, -EINVAL, REASON, "\"%s\" is no name of a layer", *p);
        d->layers = copy_list(d->arena, spec->layers);
        return d->layers ? 0 : -ENOMEM;
}

static int set_rlimits(Document *d, const ContainerSpec *spec, const DocumentContext *context)
{
        bool nofile = false;

        d->rlimits = ARENA_ARRAY(d->arena, spec->n_rlimits + 1, ShimRlimit);
        if (!d->rlimits)
                return -ENOMEM;
        for (size_t i = 0; i < spec->n_rlimits; i++) {
                const RlimitSpec *s = &spec->rlimits[i];

                nofile |= s->resource == RLIMIT_NOFILE;
                d->rlimits[d->n_rlimits++] =
                        (ShimRlimit){ (uint32_t)s->resource, s->soft, s->hard };
        }
        /* The daemon may have raised its own soft limit; programs that use select must not. */
        if (!nofile && context->nofile_hard)
                d->rlimits[d->n_rlimits++] =
                        (ShimRlimit){ RLIMIT_NOFILE,
                                      context->nofile_hard < SOFT_NOFILE ? context->nofile_hard
                                                                         : SOFT_NOFILE,
                                      context->nofile_hard };
        return 0;
}

static int set_devices(Document *d, const ContainerSpec *spec, const DocumentContext *context)
{
        ShimDevice *copy;

        d->device_rules = spec->privileged ? all_devices : default_devices;
        d->n_device_rules = spec->privileged ? ELEMENTS(all_devices) : ELEMENTS(default_devices);
        if (!spec->privileged)
                return 0;
        copy = ARENA_ARRAY(d->arena, context->n_host_devices + 1, ShimDevice);
        if (!copy)
                return -ENOMEM;
        for (size_t i = 0; i < context->n_host_devices; i++) {
                copy[i] = context->host_devices[i];
                copy[i].path = arena_strdup(d->arena, copy[i].path);
                if (!copy[i].path)
                        return -ENOMEM;
        }
        d->devices = copy;
        d->n_devices = context->n_host_devices;
        return 0;
}

/* A VOLUME of an image is one of the container's own directories, and with a read-only root the
 * part of it that can be written. What the kernel or the node keeps is not for images to choose. */
static int set_writable_paths(Document *d, const ContainerSpec *spec)
{
        static const char *const kept[] = { "/proc", "/sys", "/dev" };
        size_t n = 0;

        d->writable_paths = ARENA_ARRAY(d->arena, strv_len(spec->volumes) + 1, char *);
        if (!d->writable_paths)
                return -ENOMEM;
        for (char *const *v = spec->volumes; spec->read_only_root && v && *v; v++) {
                char *path = path_clean(d->arena, *v);
                bool skip = !path || str_eq(path, "/");

                for (size_t i = 0; !skip && i < ELEMENTS(kept); i++)
                        skip = is_beneath(path, kept[i]);
                if (!skip && n < IMAGE_VOLUMES_MAX)
                        d->writable_paths[n++] = path;
        }
        return 0;
}

static int set_confinement(Document *d, const ContainerSpec *spec, const DocumentContext *context,
                           KlError **err)
{
        bool masked = !spec->privileged && !spec->unmasked_proc;
        int r = caps_resolve(spec->cap_add, spec->cap_drop, spec->privileged,
                             context->caps_available, &d->caps, err);

        if (r < 0)
                return r;
        d->privileged = spec->privileged;
        d->no_new_privs = !spec->allow_privilege_escalation && !spec->privileged;
        d->read_only_root = spec->read_only_root;
        d->masked_paths = copy_list(d->arena, masked ? (char *const *)masked_paths : NULL);
        d->read_only_paths = copy_list(d->arena, masked ? (char *const *)read_only_paths : NULL);
        d->seccomp = spec->privileged ? SECCOMP_UNCONFINED : spec->seccomp;
        d->seccomp_profile = arena_strdup(d->arena, spec->seccomp_profile);
        d->apparmor = arena_strdup(d->arena, spec->apparmor ? spec->apparmor : "");
        if (!d->masked_paths || !d->read_only_paths || !d->apparmor)
                return -ENOMEM;
        if (d->seccomp == SECCOMP_LOCALHOST && str_empty(spec->seccomp_profile))
                return kl_error(err, -EINVAL, REASON,
                                "failed to generate seccomp options: localhostProfile must be set "
                                "if seccompProfile type is Localhost");
        return 0;
}

static int set_identity(Document *d, const ContainerSpec *spec, KlError **err)
{
        if (!id_is_valid(spec->id))
                return kl_error(err, -EINVAL, REASON,
                                "the container's id is not 64 hexadecimal digits");
        d->id = arena_strdup(d->arena, spec->id);
        d->name = arena_strdup(d->arena, spec->name ? spec->name : "");
        d->attempt = spec->attempt;
        d->image = arena_strdup(d->arena, spec->image ? spec->image : "");
        d->image_id = arena_strdup(d->arena, spec->image_id ? spec->image_id : "");
        d->image_ref = arena_strdup(d->arena, spec->image_ref ? spec->image_ref : "");
        d->spec_hash = arena_strdup(d->arena, spec->spec_hash ? spec->spec_hash : "");
        d->resources = spec->resources;
        return d->id && d->name && d->image && d->image_id && d->image_ref && d->spec_hash
                       ? 0
                       : -ENOMEM;
}

int document_new(const ContainerSpec *spec, const DocumentContext *context, Document **ret,
                 KlError **err)
{
        KL_AUTO(document_free) Document *d = NULL;
        Arena *arena = arena_new();
        int r;

        d = arena ? ARENA_NEW(arena, Document) : NULL;
        if (!d) {
                arena_free(arena);
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        d->arena = arena;
        r = set_identity(d, spec, err);
        if (r == 0)
                r = set_user(d, spec, context, err);
        if (r == 0)
                r = set_process(d, spec, err);
        if (r == 0)
                r = set_layers(d, spec, err);
        if (r == 0)
                r = set_files(d, spec, err);
        if (r == 0)
                r = set_mounts(d, spec, context, err);
        if (r == 0)
                r = set_rlimits(d, spec, context);
        if (r == 0)
                r = set_devices(d, spec, context);
        if (r == 0)
                r = set_writable_paths(d, spec);
        if (r == 0)
                r = set_confinement(d, spec, context, err);
        if (r == -ENOMEM)
                return kl_error(err, r, NULL, "out of memory");
        if (r < 0)
                return r;
        *ret = KL_STEAL(d);
        return 0;
}

Document *document_free(Document *d)
{
        if (!d)
                return NULL;
        for (size_t i = 0; i < d->n_mounts; i++)
                kl_close(d->mounts[i].source_fd);
        arena_free(d->arena);
        return NULL;
}
