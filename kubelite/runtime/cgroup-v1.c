/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Control groups, version 1: one tree a controller. What belongs together is spread over the
 * hierarchies, so each setter looks its controller up and does nothing where it is not mounted.
 *
 * Killing: a frozen task takes SIGKILL only when it is thawed, and a running one may fork while
 * the list is read. So: freeze everything, signal everything, thaw everything (also groups that
 * were frozen on their own), look again.
 */

#include "runtime/cgroup-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <poll.h>

/* A task in uninterruptible sleep keeps its group FREEZING; we go on without it. */
#define FREEZE_WAIT_MS 20
#define DEFAULT_PERIOD_US 100000

static int open_controller(const CgroupTree *tree, const char *controller, const char *path)
{
        int i = cgroup_find(tree, controller);

        return i < 0 ? -ENODEV : cgroup_open(tree, (size_t)i, path);
}

/* --- cpuset: a new group is empty and takes no tasks until it has processors and memory nodes ---
 */

static int inherit_file(int parent, int fd, const char *file)
{
        KL_AUTOFREE char *own = NULL, *inherited = NULL;
        int r = file_read_at(fd, file, 65536, &own, NULL);

        if (r < 0 || own[strspn(own, " \n")])
                return r;
        r = file_read_at(parent, file, 65536, &inherited, NULL);
        return r < 0 ? r : file_write_at(fd, file, inherited);
}

static int inherit_cpuset(int parent, int fd)
{
        int r = inherit_file(parent, fd, "cpuset.cpus");

        if (r == 0)
                r = inherit_file(parent, fd, "cpuset.mems");
        if (r == 0)
                r = file_write_at(fd, "cgroup.clone_children", "1");
        return r;
}

static bool cpuset_ready(const char *dir)
{
        char line[16];
        KL_AUTOFREE char *file = str_format("%s/cpuset.cpus", dir);

        return file && file_read_line(file, line, sizeof(line)) == 0 && line[0];
}

/* Before Linux 5.11 limits of a group bind its children only if that is switched on, before there
 * are any. */
static void use_hierarchy(const CgroupTree *tree, const char *path)
{
        KL_AUTOFD int fd = open_controller(tree, "memory", path);
        uint64_t on = 1;

        if (fd >= 0 && cgroup_read_u64(fd, "memory.use_hierarchy", &on) == 0 && on == 0)
                file_write_at(fd, "memory.use_hierarchy", "1");
}

/* From the mount point down: with clone_children set in the highest group, the kernel copies the
 * values to all later ones. */
static int v1_prepare(const CgroupTree *tree, const char *path, bool inner)
{
        int i = cgroup_find(tree, "cpuset"), r = 0;
        KL_AUTOFREE char *dir = i < 0 ? NULL : cgroup_dir(tree, (size_t)i, path);
        KL_AUTOFD int parent = -1;
        char *p;

        if (inner)
                use_hierarchy(tree, path);
        if (i < 0)
                return 0;
        if (!dir)
                return -ENOMEM;
        if (cpuset_ready(dir))
                return 0;
        parent = open(tree->hierarchies[i].mount_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent < 0)
                return -errno;
        p = dir + strlen(tree->hierarchies[i].mount_dir);
        for (char *part, *save = NULL; r == 0 && (part = strtok_r(p, "/", &save)); p = NULL) {
                int fd = openat(parent, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

                if (fd < 0)
                        return -errno;
                r = inherit_cpuset(parent, fd);
                kl_close(parent);
                parent = fd;
        }
        return r;
}

/* --- limits --- */

static int apply_cpu(const CgroupTree *tree, const char *path, const Resources *res, bool reset)
{
        KL_AUTOFD int fd = open_controller(tree, "cpu", path);
        uint64_t period = res->cpu_period_us ? res->cpu_period_us : DEFAULT_PERIOD_US;
        int r = 0;

        if (fd < 0)
                return fd;
        if (res->cpu_shares)
                r = cgroup_write_u64(fd, "cpu.shares", res->cpu_shares);
        if (r < 0 || (res->cpu_quota_us <= 0 && !reset))
                return r;
        if (res->cpu_quota_us <= 0) {
                r = cgroup_write_i64(fd, "cpu.cfs_quota_us", -1);
                return r == -ENOENT ? 0 : r;
        }
        /* The kernel checks quota/period against the parent at each step: where one order is
         * refused because of the old value, the other is not. */
        r = cgroup_write_u64(fd, "cpu.cfs_period_us", period);
        if (r == 0)
                return cgroup_write_i64(fd, "cpu.cfs_quota_us", res->cpu_quota_us);
        r = cgroup_write_i64(fd, "cpu.cfs_quota_us", res->cpu_quota_us);
        return r < 0 ? r : cgroup_write_u64(fd, "cpu.cfs_period_us", period);
}

/* memory.memsw is at least memory.limit at any time, so the order depends on the direction. */
static int apply_memory(const CgroupTree *tree, const char *path, const Resources *res, bool reset)
{
        KL_AUTOFD int fd = open_controller(tree, "memory", path);
        int64_t limit = res->memory_bytes > 0 ? res->memory_bytes : -1;
        bool swap;
        int r;

        if (fd < 0)
                return fd;
        if (limit < 0 && !reset)
                return 0;
        swap = faccessat(fd, "memory.memsw.limit_in_bytes", W_OK, 0) == 0;
        if (limit < 0 && swap) {
                r = cgroup_write_i64(fd, "memory.memsw.limit_in_bytes", limit);
                if (r < 0)
                        return r;
        }
        r = cgroup_write_i64(fd, "memory.limit_in_bytes", limit);
        if (r == -EINVAL && swap) {
                r = cgroup_write_i64(fd, "memory.memsw.limit_in_bytes", limit);
                if (r == 0)
                        r = cgroup_write_i64(fd, "memory.limit_in_bytes", limit);
        }
        if (r == 0 && swap && limit > 0)
                r = cgroup_write_i64(fd, "memory.memsw.limit_in_bytes", limit);
        return r;
}

static int apply_pids(const CgroupTree *tree, const char *path, const Resources *res, bool reset)
{
        KL_AUTOFD int fd = open_controller(tree, "pids", path);

        if (fd < 0)
                return fd == -ENODEV && res->pids <= 0 ? 0 : fd;
        if (res->pids > 0)
                return cgroup_write_i64(fd, "pids.max", res->pids);
        return reset ? file_write_at(fd, "pids.max", "max") : 0;
}

static int apply_hugepages(const CgroupTree *tree, const char *path, const Resources *res)
{
        KL_AUTOFD int fd = open_controller(tree, "hugetlb", path);
        int r;

        if (fd < 0)
                return fd == -ENODEV ? 0 : fd;
        r = cgroup_write_hugepages(fd, res, "limit_in_bytes");
        return r < 0 ? r : cgroup_write_hugepages(fd, res, "rsvd.limit_in_bytes");
}

static int v1_apply(const CgroupTree *tree, const char *path, const Resources *res, bool reset,
                    KlError **err)
{
        int r = apply_cpu(tree, path, res, reset);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "limit the processor time of '%s'", path);
        r = apply_memory(tree, path, res, reset);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "limit the memory of '%s'", path);
        r = apply_pids(tree, path, res, reset);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "limit the processes of '%s'", path);
        r = apply_hugepages(tree, path, res);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "limit the huge pages of '%s'", path);
        return 0;
}

/* Version 1 has neither a group-wide OOM kill nor a swap limit of its own: memory.memsw follows
 * the memory limit. */
static int v1_apply_container(const CgroupTree *tree, const char *path, const Resources *res,
                              KlError **err)
{
        return 0;
}

/* --- devices --- */

static int v1_set_devices(const CgroupTree *tree, const char *path, const DeviceRule *rules,
                          size_t n, KlError **err)
{
        KL_AUTOFD int fd = open_controller(tree, "devices", path);
        int r;

        if (fd < 0)
                return kl_error_errno(err, fd, NULL, "open the devices group of '%s'", path);
        r = file_write_at(fd, "devices.deny", "a");
        for (size_t i = 0; i < n && r == 0; i++) {
                char major[24] = "*", minor[24] = "*", text[64];

                if (rules[i].major >= 0)
                        snprintf(major, sizeof(major), "%lld", (long long)rules[i].major);
                if (rules[i].minor >= 0)
                        snprintf(minor, sizeof(minor), "%lld", (long long)rules[i].minor);
                snprintf(text, sizeof(text), "%c %s:%s %s", rules[i].type, major, minor,
                         rules[i].access);
                r = file_write_at(fd, "devices.allow", rules[i].type == 'a' ? "a" : text);
        }
        if (r < 0)
                return kl_error_errno(err, r, NULL, "set the devices of '%s'", path);
        return 0;
}

/* --- killing --- */

static int thaw_group(int dir_fd, void *data)
{
        file_write_at(dir_fd, "freezer.state", "THAWED");
        return 0;
}

static void freeze(int fd)
{
        uint64_t end = time_monotonic_ms() + FREEZE_WAIT_MS;

        if (file_write_at(fd, "freezer.state", "FROZEN") < 0)
                return;
        do {
                KL_AUTOFREE char *state = NULL;

                if (file_read_at(fd, "freezer.state", 64, &state, NULL) < 0 ||
                    str_starts(state, "FROZEN"))
                        return;
                poll(NULL, 0, 1);
        } while (time_monotonic_ms() < end);
}

static int v1_kill_once(const CgroupTree *tree, const char *path)
{
        KL_AUTOFD int fd = cgroup_open(tree, tree->kill_index, path);
        int r;

        if (fd < 0)
                return fd;
        freeze(fd);
        r = cgroup_signal_tree(fd, SIGKILL);
        /* The top first: a child of a frozen group stays frozen whatever its own state says. */
        thaw_group(fd, NULL);
        cgroup_walk(fd, thaw_group, NULL);
        return r < 0 ? r : 0;
}

/* --- what happened --- */

static uint64_t v1_oom_kills(const CgroupTree *tree, const char *path)
{
        KL_AUTOFD int fd = open_controller(tree, "memory", path);
        uint64_t n = 0;

        if (fd < 0 || cgroup_read_key(fd, "memory.oom_control", "oom_kill", &n) < 0)
                return 0;
        return n;
}

const CgroupOps cgroup_v1_ops = {
        .prepare = v1_prepare,
        .apply = v1_apply,
        .apply_container = v1_apply_container,
        .set_devices = v1_set_devices,
        .kill_once = v1_kill_once,
        .oom_kills = v1_oom_kills,
};
