/* SPDX-License-Identifier: Apache-2.0 */

/* What the runtime's groups have used. */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <sys/stat.h>

#define PRESSURE_TEXT_MAX 512
#define GROUP_PATH_MAX 4096

static char *group_of(const Sandbox *s, const char *id)
{
        return id ? str_format("%s/%s", s->cgroup, id) : strdup(s->cgroup);
}

int sandbox_stats(const Sandbox *s, const char *id, CgroupStatsLevel level, CgroupStats *ret)
{
        KL_AUTOFREE char *path = group_of(s, id);
        const Container *c = id ? container_find(s, id) : NULL;

        if (id && (!c || c->state != CONTAINER_RUNNING))
                return -ENOENT;
        return path ? cgroup_stats(s->runtime->tree, CGROUP_BASE_TREE, path, level, ret) : -ENOMEM;
}

int runtime_qos_stats(const Runtime *runtime, QosClass qos, CgroupStatsLevel level,
                      CgroupStats *ret)
{
        return cgroup_stats(runtime->tree, CGROUP_BASE_TREE, cgroup_qos_path(qos), level, ret);
}

int runtime_self_stats(const Runtime *runtime, CgroupStatsLevel level, CgroupStats *ret)
{
        char path[GROUP_PATH_MAX];

        if (cgroup_self_path(runtime->tree, path, sizeof(path)) < 0 || str_eq(path, "/"))
                return 1;
        return cgroup_stats(runtime->tree, CGROUP_BASE_MOUNT, path, level, ret);
}

int64_t runtime_qos_since_us(const Runtime *runtime, QosClass qos)
{
        KL_AUTOFREE char *dir =
                cgroup_dir(runtime->tree, runtime->tree->kill_index, cgroup_qos_path(qos));
        struct stat st;

        return dir && stat(dir, &st) == 0 ? (int64_t)st.st_mtime * 1000000 : 0;
}

uint64_t sandbox_processes(const Sandbox *s, const char *id)
{
        KL_AUTOFREE char *path = group_of(s, id);
        KL_AUTOFD int fd =
                path ? cgroup_open(s->runtime->tree, s->runtime->tree->kill_index, path) : -1;
        int n = fd < 0 ? 0 : cgroup_signal_tree(fd, 0);

        return n > 0 ? (uint64_t)n : 0;
}

/* --- the machine --- */

/* In bytes; 0 if there is no such line. */
static uint64_t meminfo(const char *text, const char *key)
{
        const char *line = strstr(text, key);
        unsigned long long kib = 0;

        return line && sscanf(line + strlen(key), ": %llu", &kib) == 1 ? kib * 1024 : 0;
}

/* The root group of version 2 has no memory.current: what is not free is used. */
static void memory_from_meminfo(CgroupStats *s)
{
        KL_AUTOFREE char *text = NULL;
        uint64_t total;

        if (file_read("/proc/meminfo", 65536, &text, NULL) < 0)
                return;
        total = meminfo(text, "MemTotal");
        s->memory_usage_bytes = total - meminfo(text, "MemFree");
        s->memory_inactive_file_bytes = meminfo(text, "Inactive(file)");
        s->memory_working_set_bytes =
                s->memory_usage_bytes > s->memory_inactive_file_bytes
                        ? s->memory_usage_bytes - s->memory_inactive_file_bytes
                        : 0;
        s->swap_usage_bytes = meminfo(text, "SwapTotal") - meminfo(text, "SwapFree");
}

static void read_pressure(const char *path, CgroupPressure *ret)
{
        KL_AUTOFREE char *text = NULL;

        if (!ret->known && file_read(path, PRESSURE_TEXT_MAX, &text, NULL) == 0)
                cgroup_pressure_parse(text, ret);
}

int runtime_machine_stats(const Runtime *runtime, CgroupStatsLevel level, CgroupStats *ret)
{
        int r = cgroup_stats(runtime->tree, CGROUP_BASE_MOUNT, "", level, ret);

        if (r < 0)
                return r;
        if (!ret->memory_usage_bytes)
                memory_from_meminfo(ret);
        if (level >= CGROUP_STATS_SUMMARY) {
                read_pressure("/proc/pressure/cpu", &ret->cpu_pressure);
                read_pressure("/proc/pressure/memory", &ret->memory_pressure);
                read_pressure("/proc/pressure/io", &ret->io_pressure);
        }
        return 0;
}

/* --- names --- */

static char *beneath_mount(const Runtime *runtime, const char *path)
{
        const CgroupHierarchy *h = &runtime->tree->hierarchies[runtime->tree->kill_index];

        return str_format("%s/%s", h->dir + strlen(h->mount_dir), path);
}

char *sandbox_group(const Sandbox *s, const char *id)
{
        KL_AUTOFREE char *path = group_of(s, id);

        return path ? beneath_mount(s->runtime, path) : NULL;
}

char *runtime_qos_group(const Runtime *runtime, QosClass qos)
{
        return beneath_mount(runtime, cgroup_qos_path(qos));
}

char *runtime_container_dir(const Runtime *runtime, const char *id)
{
        return str_format("%s/%s", runtime->data_dir, id);
}
