/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The tree of control groups: where it hangs, and what both versions share (making, removing,
 * killing, walking).
 *
 * Groups are opened by path for each call; nothing is kept open. Directories of groups are ours:
 * nothing else makes or removes any beneath the root prefix, but containers with a writable
 * /sys/fs/cgroup (privileged ones) may add children, hence every removal and every kill walks.
 */

#include "runtime/cgroup-internal.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <math.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define MOUNTINFO_MAX (4 << 20)
#define PROCS_MAX (4 << 20)
#define WALK_DEPTH_MAX 64
#define RETRY_FIRST_MS 1
#define RETRY_LAST_MS 50
#define SYSTEMD_GROUP "/system.slice/kubelite-pods.service"

static const char *const known_controllers[] = {
        "cpu",      "cpuacct",    "cpuset", "memory",  "devices",
        "freezer",  "blkio",      "pids",   "hugetlb", "net_cls",
        "net_prio", "perf_event", "rdma",   "misc",    "name=systemd",
};

/* --- finding the hierarchies --- */

static bool has_part(const char *list, const char *part)
{
        size_t n = strlen(part);

        for (const char *p = list; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
                if (strncmp(p, part, n) == 0 && (p[n] == ',' || p[n] == '\0'))
                        return true;
        return false;
}

int cgroup_find(const CgroupTree *tree, const char *controller)
{
        for (size_t i = 0; i < tree->n_hierarchies; i++)
                if (has_part(tree->hierarchies[i].name, controller))
                        return (int)i;
        return -1;
}

static int add_hierarchy(CgroupTree *tree, const char *name, const char *mount_dir)
{
        CgroupHierarchy *h = &tree->hierarchies[tree->n_hierarchies];

        if (tree->n_hierarchies == CGROUP_HIERARCHIES_MAX)
                return -E2BIG;
        h->name = strdup(name);
        h->mount_dir = strdup(mount_dir);
        if (!h->name || !h->mount_dir) {
                free(h->name);
                free(h->mount_dir);
                *h = (CgroupHierarchy){ 0 };
                return -ENOMEM;
        }
        tree->n_hierarchies++;
        return 0;
}

/* Keeps the controllers among the super block's options: "rw,cpu,cpuacct" -> "cpu,cpuacct". */
static void controllers_of(const char *options, Buf *to)
{
        KL_AUTOSTRV parts = strv_split(options, ',');

        for (char **p = parts; p && *p; p++)
                for (size_t i = 0; i < ELEMENTS(known_controllers); i++)
                        if (str_eq(*p, known_controllers[i]))
                                buf_addf(to, "%s%s", to->len ? "," : "", *p);
}

/* One line of mountinfo: "… <root> <mount point> <options> … - <type> <source> <super options>". */
static int add_mount_line(CgroupTree *tree, char *line, const char *mount_dir)
{
        KL_AUTOBUF controllers = BUF_INIT;
        char *fields[5], *tail = strstr(line, " - "), *save = NULL, *type, *options;

        if (!tail)
                return 0;
        *tail = '\0';
        for (size_t i = 0; i < ELEMENTS(fields); i++)
                if (!(fields[i] = strtok_r(i ? NULL : line, " ", &save)))
                        return 0;
        type = strtok_r(tail + 3, " ", &save);
        if (!type || !strtok_r(NULL, " ", &save) || !(options = strtok_r(NULL, " ", &save)))
                return 0;
        if (!str_starts(fields[4], mount_dir) || !str_eq(fields[3], "/"))
                return 0;
        /* A cgroup2 mount beside version 1 has no controllers that matter. */
        if (!str_eq(type, "cgroup"))
                return 0;
        controllers_of(options, &controllers);
        if (controllers.len == 0 || cgroup_find(tree, buf_str(&controllers)) >= 0)
                return 0;
        return add_hierarchy(tree, buf_str(&controllers), fields[4]);
}

static int find_v1(CgroupTree *tree, const char *mount_dir, KlError **err)
{
        KL_AUTOFREE char *text = NULL;
        char *save = NULL;
        int r = file_read("/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "read /proc/self/mountinfo");
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                r = add_mount_line(tree, line, mount_dir);
                if (r < 0)
                        return kl_error_errno(err, r, NULL, "read the control group mounts");
        }
        if (cgroup_find(tree, "memory") < 0 || cgroup_find(tree, "cpu") < 0)
                return kl_error(
                        err, -ENOSYS, NULL,
                        "no control groups are mounted beneath %s (memory and cpu are needed)",
                        mount_dir);
        r = cgroup_find(tree, "freezer");
        tree->kill_index = r < 0 ? 0 : (size_t)r;
        return 0;
}

/* "<top>/<root>" without doubled or trailing slashes. With systemd, the top is the delegated unit's
 * group: systemd makes it, we only live beneath. */
static int set_prefixes(CgroupTree *tree, const CgroupTreeOptions *options)
{
        for (size_t i = 0; i < tree->n_hierarchies; i++) {
                CgroupHierarchy *h = &tree->hierarchies[i];
                const char *root = str_empty(options->root) ? "/" : options->root;
                size_t n;

                while (*root == '/')
                        root++;
                h->top = str_format("%s%s", h->mount_dir, options->systemd ? SYSTEMD_GROUP : "");
                h->dir = h->top ? str_format("%s/%s", h->top, root) : NULL;
                if (!h->dir)
                        return -ENOMEM;
                n = strlen(h->dir);
                while (n > 1 && h->dir[n - 1] == '/')
                        h->dir[--n] = '\0';
        }
        return 0;
}

static bool is_cgroup2(const char *dir)
{
        struct statfs fs;

        return statfs(dir, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

int cgroup_tree_new(const CgroupTreeOptions *options, CgroupTree **ret, KlError **err)
{
        KL_AUTO(cgroup_tree_free) CgroupTree *tree = calloc(1, sizeof(*tree));
        const char *mount_dir = options->mount_dir ? options->mount_dir : CGROUP_MOUNT_DIR;
        int r;

        if (!tree)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        tree->no_kill_file = options->no_kill_file;
        tree->mode = options->force_v2 || is_cgroup2(mount_dir) ? CGROUP_V2 : CGROUP_V1;
        tree->ops = tree->mode == CGROUP_V2 ? &cgroup_v2_ops : &cgroup_v1_ops;
        r = tree->mode == CGROUP_V2 ? add_hierarchy(tree, "", mount_dir)
                                    : find_v1(tree, mount_dir, err);
        if (r == 0)
                r = set_prefixes(tree, options);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "find the control groups");
        /* Making it ourselves would be a foreign group in systemd's tree. */
        if (options->systemd && tree->mode == CGROUP_V2 &&
            access(tree->hierarchies[0].top, F_OK) < 0)
                return kl_error_errno(err, -errno, NULL,
                                      "cgroupDriver is systemd and kubelite-pods.service is not "
                                      "running: '%s'",
                                      tree->hierarchies[0].top);
        *ret = KL_STEAL(tree);
        return 0;
}

CgroupTree *cgroup_tree_free(CgroupTree *tree)
{
        if (!tree)
                return NULL;
        for (size_t i = 0; i < tree->n_hierarchies; i++) {
                free(tree->hierarchies[i].name);
                free(tree->hierarchies[i].dir);
                free(tree->hierarchies[i].mount_dir);
                free(tree->hierarchies[i].top);
        }
        free(tree);
        return NULL;
}

CgroupMode cgroup_tree_mode(const CgroupTree *tree)
{
        return tree->mode;
}

size_t cgroup_n_hierarchies(const CgroupTree *tree)
{
        return tree->n_hierarchies;
}

const char *cgroup_hierarchy_name(const CgroupTree *tree, size_t i)
{
        return tree->hierarchies[i].name;
}

const char *cgroup_qos_path(QosClass qos)
{
        switch (qos) {
        case QOS_BURSTABLE:
                return "kubepods/burstable";
        case QOS_BEST_EFFORT:
                return "kubepods/besteffort";
        case QOS_GUARANTEED:
        default:
                return "kubepods";
        }
}

char *cgroup_pod_path(QosClass qos, const char *uid)
{
        return str_format("%s/pod%s", cgroup_qos_path(qos), uid);
}

char *cgroup_dir(const CgroupTree *tree, size_t i, const char *path)
{
        if (i >= tree->n_hierarchies)
                return NULL;
        return str_format("%s/%s", tree->hierarchies[i].dir, path);
}

const char *cgroup_prefix(const CgroupTree *tree)
{
        return tree->hierarchies[0].dir + strlen(tree->hierarchies[0].mount_dir);
}

int cgroup_open(const CgroupTree *tree, size_t i, const char *path)
{
        KL_AUTOFREE char *dir = cgroup_dir(tree, i, path);
        int fd;

        if (!dir)
                return -ENOMEM;
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* --- files --- */

int cgroup_write_u64(int dir_fd, const char *file, uint64_t value)
{
        char text[24];

        snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
        return file_write_at(dir_fd, file, text);
}

int cgroup_write_i64(int dir_fd, const char *file, int64_t value)
{
        char text[24];

        snprintf(text, sizeof(text), "%lld", (long long)value);
        return file_write_at(dir_fd, file, text);
}

int cgroup_read_u64(int dir_fd, const char *file, uint64_t *ret)
{
        KL_AUTOFREE char *text = NULL;
        int r = file_read_at(dir_fd, file, 4096, &text, NULL);

        if (r < 0)
                return r;
        text[strcspn(text, "\n")] = '\0';
        if (str_eq(text, "max")) {
                *ret = UINT64_MAX;
                return 0;
        }
        return str_to_u64(text, UINT64_MAX, ret);
}

int cgroup_read_key(int dir_fd, const char *file, const char *key, uint64_t *ret)
{
        KL_AUTOFREE char *text = NULL;
        size_t n = strlen(key);
        char *save = NULL;
        int r = file_read_at(dir_fd, file, 65536, &text, NULL);

        if (r < 0)
                return r;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                if (strncmp(line, key, n) == 0 && line[n] == ' ')
                        return str_to_u64(line + n + 1, UINT64_MAX, ret);
        return -ENOENT;
}

/* As the kernel names sizes: "64KB", "2MB", "1GB". */
static void page_size_name(uint64_t bytes, char *buf, size_t size)
{
        static const char *const units[] = { "B", "KB", "MB", "GB" };
        size_t unit = 0;

        for (; bytes >= 1024 && unit + 1 < ELEMENTS(units); unit++)
                bytes /= 1024;
        snprintf(buf, size, "%llu%s", (unsigned long long)bytes, units[unit]);
}

int cgroup_write_hugepages(int dir_fd, const Resources *resources, const char *file)
{
        for (size_t i = 0; i < resources->n_hugepages; i++) {
                char size[32], name[96];
                int r;

                page_size_name(resources->hugepages[i].page_bytes, size, sizeof(size));
                snprintf(name, sizeof(name), "hugetlb.%s.%s", size, file);
                r = cgroup_write_u64(dir_fd, name, resources->hugepages[i].limit_bytes);
                if (r < 0 && r != -ENOENT)
                        return r;
        }
        return 0;
}

/* --- making --- */

static int make_dir(const char *dir)
{
        if (mkdir(dir, 0755) < 0 && errno != EEXIST)
                return -errno;
        return 0;
}

/* Group by group from the mount point down, so that each can prepare itself before its children. */
static int make_in(const CgroupTree *tree, const CgroupHierarchy *h, const char *path)
{
        KL_AUTOFREE char *dir = str_format("%s/%s", h->dir, path);
        size_t skip = strlen(h->mount_dir) + 1;
        int r;

        if (!dir)
                return -ENOMEM;
        if (make_dir(dir) == 0)
                return 0;
        for (char *p = dir + skip; (p = strchr(p, '/')); *p++ = '/') {
                *p = '\0';
                r = make_dir(dir);
                if (r < 0)
                        return r;
        }
        return make_dir(dir);
}

int cgroup_create(const CgroupTree *tree, const char *path, bool inner, KlError **err)
{
        int r = 0;

        for (size_t i = 0; i < tree->n_hierarchies && r == 0; i++)
                r = make_in(tree, &tree->hierarchies[i], path);
        if (r == 0)
                r = tree->ops->prepare(tree, path, inner);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "create control group '%s'", path);
        return 0;
}

int cgroup_apply(const CgroupTree *tree, const char *path, const Resources *resources, bool reset,
                 KlError **err)
{
        return tree->ops->apply(tree, path, resources, reset, err);
}

int cgroup_apply_container(const CgroupTree *tree, const char *path, const Resources *resources,
                           KlError **err)
{
        return tree->ops->apply_container(tree, path, resources, err);
}

int cgroup_set_devices(const CgroupTree *tree, const char *path, const DeviceRule *rules, size_t n,
                       KlError **err)
{
        return tree->ops->set_devices(tree, path, rules, n, err);
}

int cgroup_attach(const CgroupTree *tree, const char *path, pid_t pid)
{
        for (size_t i = 0; i < tree->n_hierarchies; i++) {
                KL_AUTOFD int fd = cgroup_open(tree, i, path);
                int r = fd < 0 ? fd : cgroup_write_u64(fd, "cgroup.procs", (uint64_t)pid);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- walking --- */

static int walk(int dir_fd, int depth, int (*func)(int, void *), void *data)
{
        KL_AUTODIR DIR *dir = NULL;
        struct dirent *entry;
        int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

        if (copy < 0)
                return errno == ENOENT ? 0 : -errno;
        dir = fdopendir(copy);
        if (!dir) {
                kl_close(copy);
                return -ENOMEM;
        }
        while ((entry = readdir(dir))) {
                KL_AUTOFD int child = -1;

                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                child = openat(dir_fd, entry->d_name,
                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (child < 0)
                        continue;
                r = depth < WALK_DEPTH_MAX ? walk(child, depth + 1, func, data) : -ELOOP;
                if (r < 0)
                        return r;
        }
        return func(dir_fd, data);
}

int cgroup_walk(int dir_fd, int (*func)(int dir_fd, void *data), void *data)
{
        return walk(dir_fd, 0, func, data);
}

typedef struct SignalWalk {
        int signo, count;
} SignalWalk;

static int signal_group(int dir_fd, void *data)
{
        KL_AUTOFREE char *text = NULL;
        SignalWalk *w = data;
        char *save = NULL;
        int r = file_read_at(dir_fd, "cgroup.procs", PROCS_MAX, &text, NULL);

        if (r < 0)
                return r == -ENODEV || r == -ENOENT || r == -EOPNOTSUPP ? 0 : r;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                int64_t pid;

                if (str_to_i64(line, 1, INT32_MAX, &pid) < 0)
                        continue;
                w->count++;
                if (w->signo)
                        kill((pid_t)pid, w->signo);
        }
        return 0;
}

int cgroup_signal_tree(int dir_fd, int signo)
{
        SignalWalk w = { .signo = signo };
        int r = cgroup_walk(dir_fd, signal_group, &w);

        return r < 0 ? r : w.count;
}

int cgroup_empty(const CgroupTree *tree, const char *path)
{
        KL_AUTOFD int fd = cgroup_open(tree, tree->kill_index, path);
        int n;

        if (fd < 0)
                return fd == -ENOENT ? 1 : fd;
        n = cgroup_signal_tree(fd, 0);
        return n < 0 ? n : n == 0;
}

int cgroup_children(const CgroupTree *tree, const char *path, char ***ret)
{
        KL_AUTOSTRV names = NULL;
        KL_AUTODIR DIR *dir = NULL;
        struct dirent *entry;
        int fd = cgroup_open(tree, tree->kill_index, path);

        if (fd < 0)
                return fd;
        dir = fdopendir(fd);
        if (!dir) {
                kl_close(fd);
                return -ENOMEM;
        }
        while ((entry = readdir(dir)))
                if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
                    strv_add(&names, entry->d_name) < 0)
                        return -ENOMEM;
        *ret = KL_STEAL(names);
        return 0;
}

size_t cgroup_pids(const CgroupTree *tree, const char *path, pid_t *pids, size_t n)
{
        KL_AUTOFREE char *text = NULL;
        KL_AUTOFD int fd = cgroup_open(tree, tree->kill_index, path);
        char *save = NULL;
        size_t found = 0;
        int64_t pid;

        if (fd < 0 || file_read_at(fd, "cgroup.procs", PROCS_MAX, &text, NULL) < 0)
                return 0;
        for (char *line = strtok_r(text, "\n", &save); line && found < n;
             line = strtok_r(NULL, "\n", &save))
                if (str_to_i64(line, 1, INT32_MAX, &pid) == 0)
                        pids[found++] = (pid_t)pid;
        return found;
}

/* --- killing and removing --- */

static void pause_ms(uint64_t ms)
{
        poll(NULL, 0, (int)ms);
}

int cgroup_kill(const CgroupTree *tree, const char *path, uint64_t timeout_ms)
{
        uint64_t end = time_monotonic_ms() + timeout_ms, wait = RETRY_FIRST_MS;

        for (;;) {
                int r = cgroup_empty(tree, path);

                if (r)
                        return r < 0 ? r : 0;
                r = tree->ops->kill_once(tree, path);
                if (r < 0 && r != -ENOENT && r != -ENODEV)
                        return r;
                if (time_monotonic_ms() >= end)
                        return cgroup_empty(tree, path) == 1 ? 0 : -EBUSY;
                pause_ms(wait);
                wait = wait * 2 > RETRY_LAST_MS ? RETRY_LAST_MS : wait * 2;
        }
}

static int remove_children(int dir_fd, int depth)
{
        KL_AUTODIR DIR *dir = NULL;
        struct dirent *entry;
        int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;

        if (copy < 0)
                return errno == ENOENT ? 0 : -errno;
        dir = fdopendir(copy);
        if (!dir) {
                kl_close(copy);
                return -ENOMEM;
        }
        while ((entry = readdir(dir))) {
                KL_AUTOFD int child = -1;

                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                if (unlinkat(dir_fd, entry->d_name, AT_REMOVEDIR) == 0)
                        continue;
                child = openat(dir_fd, entry->d_name,
                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (child >= 0 && depth < WALK_DEPTH_MAX)
                        remove_children(child, depth + 1);
                if (unlinkat(dir_fd, entry->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                        result = -errno;
        }
        return result;
}

static int remove_in(const char *dir)
{
        KL_AUTOFD int fd = -1;

        if (rmdir(dir) == 0 || errno == ENOENT)
                return 0;
        if (errno != EBUSY && errno != ENOTEMPTY)
                return -errno;
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
                remove_children(fd, 0);
        return rmdir(dir) == 0 || errno == ENOENT ? 0 : -errno;
}

int cgroup_remove(const CgroupTree *tree, const char *path, uint64_t timeout_ms)
{
        uint64_t end = time_monotonic_ms() + timeout_ms, wait = RETRY_FIRST_MS;

        for (;;) {
                int result = 0;

                for (size_t i = 0; i < tree->n_hierarchies; i++) {
                        KL_AUTOFREE char *dir = cgroup_dir(tree, i, path);
                        int r = dir ? remove_in(dir) : -ENOMEM;

                        if (r < 0)
                                result = r;
                }
                if (result == 0 || time_monotonic_ms() >= end)
                        return result;
                pause_ms(wait);
                wait = wait * 2 > RETRY_LAST_MS ? RETRY_LAST_MS : wait * 2;
        }
}

static bool is_managed(const CgroupTree *tree, const char *mount_dir)
{
        for (size_t i = 0; i < tree->n_hierarchies; i++)
                if (str_eq(tree->hierarchies[i].mount_dir, mount_dir))
                        return true;
        return false;
}

void cgroup_remove_strays(const CgroupTree *tree, const char *path)
{
        const char *first = tree->hierarchies[0].mount_dir, *slash = strrchr(first, '/');
        KL_AUTOFREE char *base = strndup(first, (size_t)(slash - first));
        KL_AUTODIR DIR *dir = base && tree->mode == CGROUP_V1 ? opendir(base) : NULL;
        struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                KL_AUTOFREE char *mount_dir = str_format("%s/%s", base, entry->d_name);
                KL_AUTOFREE char *group = NULL;

                if (entry->d_name[0] == '.' || !mount_dir || is_managed(tree, mount_dir))
                        continue;
                group = str_format("%s%s/%s", mount_dir, cgroup_prefix(tree), path);
                if (!group || access(group, F_OK) < 0)
                        continue;
                if (remove_in(group) < 0)
                        continue;
                do {
                        *strrchr(group, '/') = '\0';
                } while (strlen(group) > strlen(mount_dir) && rmdir(group) == 0);
        }
}

uint64_t cgroup_oom_kills(const CgroupTree *tree, const char *path)
{
        return tree->ops->oom_kills(tree, path);
}

/*
 * The curve that runc and crun use since 2025, so that small requests keep their proportion:
 * weight = 10^((l^2 + 125 l) / 612 - 7/34) with l = log2(shares), rounded up.
 */
uint64_t cgroup_weight_of_shares(uint64_t shares)
{
        double l, w;

        if (shares == 0)
                return 0;
        if (shares <= 2)
                return 1;
        if (shares >= 262144)
                return 10000;
        l = log2((double)shares);
        w = ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0) - 1e-9);
        return w < 1 ? 1 : w > 10000 ? 10000 : (uint64_t)w;
}

uint64_t cgroup_weight_linear(uint64_t shares)
{
        if (shares == 0)
                return 0;
        if (shares < 2)
                shares = 2;
        if (shares > 262144)
                shares = 262144;
        return 1 + (shares - 2) * 9999 / 262142;
}
