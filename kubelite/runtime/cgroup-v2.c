/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Control groups, version 2: one tree. A group that has children with controllers must hold no
 * processes itself, hence pods are inner groups and shims live in a leaf.
 */

#include "runtime/cgroup-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>

#define DEFAULT_PERIOD_US 100000

/* Handed on to children where the kernel has them. Memory comes first: a group that still holds
 * processes refuses it. It would take those of the others that know threads (cpu, pids, cpuset),
 * and then its children were invalid for processes. */
static const char *const wanted[] = { "memory", "cpu", "pids", "cpuset", "io", "hugetlb" };

static bool has_word(const char *text, const char *word)
{
        size_t n = strlen(word);

        for (const char *p = text; (p = strstr(p, word)); p += n)
                if ((p == text || p[-1] == ' ') && (!p[n] || p[n] == ' ' || p[n] == '\n'))
                        return true;
        return false;
}

/* Refuses a group with processes; otherwise, a controller that cannot be enabled (a real-time
 * process in the root group) is missed where its limits are written. */
static int enable_children(const char *dir)
{
        KL_AUTOFREE char *available = NULL, *enabled = NULL;
        KL_AUTOFD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r;

        if (fd < 0)
                return -errno;
        r = file_read_at(fd, "cgroup.controllers", 4096, &available, NULL);
        if (r == 0)
                r = file_read_at(fd, "cgroup.subtree_control", 4096, &enabled, NULL);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTS(wanted); i++) {
                char text[16];

                if (!has_word(available, wanted[i]) || has_word(enabled, wanted[i]))
                        continue;
                snprintf(text, sizeof(text), "+%s", wanted[i]);
                if (file_write_at(fd, "cgroup.subtree_control", text) == -EBUSY)
                        return -EBUSY;
        }
        return 0;
}

/* The group's ancestors from the top down, and the group itself if it is an inner one. */
static int v2_prepare(const CgroupTree *tree, const char *path, bool inner)
{
        KL_AUTOFREE char *dir = cgroup_dir(tree, 0, path);
        size_t skip = strlen(tree->hierarchies[0].top);
        int r;

        if (!dir)
                return -ENOMEM;
        for (char *p = dir + skip; (p = strchr(p, '/')); *p++ = '/') {
                *p = '\0';
                r = enable_children(dir);
                if (r < 0)
                        return r;
        }
        return inner ? enable_children(dir) : 0;
}

/* --- limits --- */

static int apply_cpu(int fd, const Resources *res, bool reset)
{
        uint64_t period = res->cpu_period_us ? res->cpu_period_us : DEFAULT_PERIOD_US;
        uint64_t weight = res->linear_weight ? cgroup_weight_linear(res->cpu_shares)
                                             : cgroup_weight_of_shares(res->cpu_shares);
        char text[48];
        int r = 0;

        if (weight)
                r = cgroup_write_u64(fd, "cpu.weight", weight);
        if (r < 0)
                return r;
        if (res->cpu_quota_us > 0)
                snprintf(text, sizeof(text), "%lld %llu", (long long)res->cpu_quota_us,
                         (unsigned long long)period);
        else
                snprintf(text, sizeof(text), "max");
        return res->cpu_quota_us > 0 || reset ? file_write_at(fd, "cpu.max", text) : 0;
}

static int apply_max(int fd, const char *file, int64_t value, bool reset)
{
        if (value > 0)
                return cgroup_write_i64(fd, file, value);
        return reset ? file_write_at(fd, file, "max") : 0;
}

static int v2_apply(const CgroupTree *tree, const char *path, const Resources *res, bool reset,
                    KlError **err)
{
        KL_AUTOFD int fd = cgroup_open(tree, 0, path);
        int r = fd;

        if (fd >= 0)
                r = apply_cpu(fd, res, reset);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "limit the processor time of '%s'", path);
        r = apply_max(fd, "memory.max", res->memory_bytes, reset);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "limit the memory of '%s'", path);
        r = apply_max(fd, "pids.max", res->pids, reset);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "limit the processes of '%s'", path);
        r = cgroup_write_hugepages(fd, res, "max");
        if (r == 0)
                r = cgroup_write_hugepages(fd, res, "rsvd.max");
        if (r < 0)
                return kl_error_errno(err, r, NULL, "limit the huge pages of '%s'", path);
        return 0;
}

static int write_if_there(int fd, const char *file, const char *text)
{
        int r = file_write_at(fd, file, text);

        return r == -ENOENT ? 0 : r;
}

static int v2_apply_container(const CgroupTree *tree, const char *path, const Resources *res,
                              KlError **err)
{
        KL_AUTOFD int fd = cgroup_open(tree, 0, path);
        int r = fd;
        char swap[24];

        snprintf(swap, sizeof(swap), "%lld", (long long)res->swap_bytes);
        if (fd >= 0)
                r = write_if_there(fd, "memory.swap.max", swap);
        if (r >= 0)
                r = write_if_there(fd, "memory.oom.group", res->oom_kill_single ? "0" : "1");
        if (r < 0)
                return kl_error_errno(err, r, NULL, "set up the memory of '%s'", path);
        return 0;
}

static int v2_set_devices(const CgroupTree *tree, const char *path, const DeviceRule *rules,
                          size_t n, KlError **err)
{
        KL_AUTOFD int fd = cgroup_open(tree, 0, path);

        if (fd < 0)
                return kl_error_errno(err, fd, NULL, "open the group '%s'", path);
        return cgroup_device_program_attach(fd, rules, n, err);
}

/* --- killing: one write, or (before Linux 5.14) frozen one by one. The freezer of version 2 lets
 * SIGKILL through, and what was frozen from outside may stay so. --- */

static int v2_kill_once(const CgroupTree *tree, const char *path)
{
        KL_AUTOFD int fd = cgroup_open(tree, 0, path);
        int r = -ENOENT;

        if (fd < 0)
                return fd;
        if (!tree->no_kill_file)
                r = file_write_at(fd, "cgroup.kill", "1");
        if (r != -ENOENT)
                return r;
        file_write_at(fd, "cgroup.freeze", "1");
        r = cgroup_signal_tree(fd, SIGKILL);
        file_write_at(fd, "cgroup.freeze", "0");
        return r < 0 ? r : 0;
}

static uint64_t v2_oom_kills(const CgroupTree *tree, const char *path)
{
        KL_AUTOFD int fd = cgroup_open(tree, 0, path);
        uint64_t n = 0;

        if (fd < 0 || cgroup_read_key(fd, "memory.events", "oom_kill", &n) < 0)
                return 0;
        return n;
}

const CgroupOps cgroup_v2_ops = {
        .prepare = v2_prepare,
        .apply = v2_apply,
        .apply_container = v2_apply_container,
        .set_devices = v2_set_devices,
        .kill_once = v2_kill_once,
        .oom_kills = v2_oom_kills,
};
