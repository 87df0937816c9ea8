/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What groups have used, read from the files of both versions. The files are tables: which, what is
 * in them, and from which level of detail on they are read; the numbers go into CgroupStats as
 * they are and are brought to its units at the end. Files that a kernel does not have leave zeros.
 */

#include "runtime/cgroup-internal.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>

/* memory.stat is about 1.5 KiB, of version 2 about 2 KiB. */
#define STATS_TEXT_MAX 8192

typedef struct StatsKey {
        const char *key;
        size_t offset; /* of an uint64_t */
} StatsKey;

#define AT(field) offsetof(CgroupStats, field)

typedef struct StatsFile {
        const char *controller; /* version 1 */
        const char *name;
        CgroupStatsLevel level;
        const StatsKey *keys; /* "key number" lines, ended by NULL; or NULL: */
        size_t offset;        /* of the one number, or of a CgroupPressure */
        bool pressure;
        bool limit; /* of memory or swap */
} StatsFile;

static const StatsKey v1_cpu_stat[] = {
        { "nr_periods", AT(cpu_periods) },
        { "nr_throttled", AT(cpu_throttled_periods) },
        { "throttled_time", AT(cpu_throttled_ns) },
        { NULL, 0 },
};
static const StatsKey v1_cpuacct_stat[] = {
        { "user", AT(cpu_user_ns) },
        { "system", AT(cpu_system_ns) },
        { NULL, 0 },
};
static const StatsKey v1_memory_stat[] = {
        { "pgfault", AT(own_page_faults) },
        { "pgmajfault", AT(own_major_page_faults) },
        { "total_cache", AT(memory_cache_bytes) },
        { "total_rss", AT(memory_rss_bytes) },
        { "total_mapped_file", AT(memory_mapped_bytes) },
        { "total_swap", AT(swap_usage_bytes) },
        { "total_pgfault", AT(page_faults) },
        { "total_pgmajfault", AT(major_page_faults) },
        { "total_inactive_file", AT(memory_inactive_file_bytes) },
        { "total_active_file", AT(memory_active_file_bytes) },
        { NULL, 0 },
};
static const StatsKey v1_oom[] = { { "oom_kill", AT(oom_kills) }, { NULL, 0 } };

/* Grouped by controller: each directory is opened once. */
static const StatsFile v1_files[] = {
        { "cpuacct", "cpuacct.usage", CGROUP_STATS_BASIC, NULL, AT(cpu_usage_ns), false },
        { "cpuacct", "cpuacct.stat", CGROUP_STATS_ALL, v1_cpuacct_stat, 0, false },
        { "memory", "memory.usage_in_bytes", CGROUP_STATS_BASIC, NULL, AT(memory_usage_bytes),
          false },
        { "memory", "memory.stat", CGROUP_STATS_BASIC, v1_memory_stat, 0, false },
        { "memory", "memory.limit_in_bytes", CGROUP_STATS_BASIC, NULL, AT(memory_limit_bytes),
          false, true },
        { "memory", "memory.memsw.limit_in_bytes", CGROUP_STATS_BASIC, NULL, AT(swap_limit_bytes),
          false, true },
        { "memory", "memory.max_usage_in_bytes", CGROUP_STATS_ALL, NULL, AT(memory_max_bytes),
          false },
        { "memory", "memory.kmem.usage_in_bytes", CGROUP_STATS_ALL, NULL, AT(memory_kernel_bytes),
          false },
        { "memory", "memory.failcnt", CGROUP_STATS_ALL, NULL, AT(memory_failures), false },
        { "memory", "memory.soft_limit_in_bytes", CGROUP_STATS_ALL, NULL,
          AT(memory_reservation_bytes), false },
        { "memory", "memory.oom_control", CGROUP_STATS_ALL, v1_oom, 0, false },
        { "pids", "pids.current", CGROUP_STATS_SUMMARY, NULL, AT(pids), false },
        { "pids", "pids.max", CGROUP_STATS_ALL, NULL, AT(pids_limit), false },
        { "cpu", "cpu.shares", CGROUP_STATS_ALL, NULL, AT(cpu_shares), false },
        { "cpu", "cpu.cfs_period_us", CGROUP_STATS_ALL, NULL, AT(cpu_period_us), false },
        { "cpu", "cpu.cfs_quota_us", CGROUP_STATS_ALL, NULL, AT(cpu_quota_us), false },
        { "cpu", "cpu.stat", CGROUP_STATS_ALL, v1_cpu_stat, 0, false },
};

static const StatsKey v2_cpu_stat[] = {
        { "usage_usec", AT(cpu_usage_ns) },
        { "user_usec", AT(cpu_user_ns) },
        { "system_usec", AT(cpu_system_ns) },
        { "nr_periods", AT(cpu_periods) },
        { "nr_throttled", AT(cpu_throttled_periods) },
        { "throttled_usec", AT(cpu_throttled_ns) },
        { NULL, 0 },
};
static const StatsKey v2_memory_stat[] = {
        { "anon", AT(memory_rss_bytes) },
        { "file", AT(memory_cache_bytes) },
        { "kernel", AT(memory_kernel_bytes) }, /* Linux 5.18 */
        { "file_mapped", AT(memory_mapped_bytes) },
        { "inactive_file", AT(memory_inactive_file_bytes) },
        { "active_file", AT(memory_active_file_bytes) },
        { "pgfault", AT(page_faults) },
        { "pgmajfault", AT(major_page_faults) },
        { NULL, 0 },
};
static const StatsKey v2_memory_events[] = {
        { "max", AT(memory_failures) },
        { "oom_kill", AT(oom_kills) },
        { NULL, 0 },
};

static const StatsFile v2_files[] = {
        { NULL, "cpu.stat", CGROUP_STATS_BASIC, v2_cpu_stat, 0, false },
        { NULL, "memory.current", CGROUP_STATS_BASIC, NULL, AT(memory_usage_bytes), false },
        { NULL, "memory.stat", CGROUP_STATS_BASIC, v2_memory_stat, 0, false },
        { NULL, "memory.max", CGROUP_STATS_BASIC, NULL, AT(memory_limit_bytes), false, true },
        { NULL, "memory.swap.current", CGROUP_STATS_BASIC, NULL, AT(swap_usage_bytes), false },
        { NULL, "memory.swap.max", CGROUP_STATS_BASIC, NULL, AT(swap_limit_bytes), false, true },
        { NULL, "pids.current", CGROUP_STATS_SUMMARY, NULL, AT(pids), false },
        { NULL, "cpu.pressure", CGROUP_STATS_SUMMARY, NULL, AT(cpu_pressure), true },
        { NULL, "memory.pressure", CGROUP_STATS_SUMMARY, NULL, AT(memory_pressure), true },
        { NULL, "io.pressure", CGROUP_STATS_SUMMARY, NULL, AT(io_pressure), true },
        { NULL, "pids.max", CGROUP_STATS_ALL, NULL, AT(pids_limit), false },
        { NULL, "memory.peak", CGROUP_STATS_ALL, NULL, AT(memory_max_bytes), false },
        { NULL, "memory.low", CGROUP_STATS_ALL, NULL, AT(memory_reservation_bytes), false },
        { NULL, "memory.events", CGROUP_STATS_ALL, v2_memory_events, 0, false },
        { NULL, "cpu.weight", CGROUP_STATS_ALL, NULL, AT(cpu_shares), false },
};

/* --- texts --- */

static uint64_t parse_number(const char *text)
{
        uint64_t value = 0;

        /* "max", and the -1 of version 1's quota, are none. */
        if (*text < '0' || *text > '9')
                return CGROUP_STATS_UNLIMITED;
        for (; *text >= '0' && *text <= '9'; text++) {
                unsigned int digit = (unsigned int)(*text - '0');

                if (value > (UINT64_MAX - digit) / 10)
                        return CGROUP_STATS_UNLIMITED;
                value = value * 10 + digit;
        }
        return value;
}

static void parse_keyed(const char *text, const StatsKey *keys, CgroupStats *ret)
{
        while (*text) {
                size_t n = strcspn(text, " \n");

                for (const StatsKey *k = keys; text[n] == ' ' && k->key; k++)
                        if (strncmp(k->key, text, n) == 0 && !k->key[n])
                                *(uint64_t *)((char *)ret + k->offset) = parse_number(text + n + 1);
                text += n + strcspn(text + n, "\n");
                text += *text == '\n';
        }
}

static bool parse_pressure_line(const char *line, CgroupPressureLine *ret)
{
        unsigned long long total;
        CgroupPressureLine l;

        if (sscanf(line, "%*s avg10=%lf avg60=%lf avg300=%lf total=%llu", &l.avg10, &l.avg60,
                   &l.avg300, &total) != 4)
                return false;
        l.total_us = total;
        *ret = l;
        return true;
}

bool cgroup_pressure_parse(const char *text, CgroupPressure *ret)
{
        const char *full = strstr(text, "\nfull ");

        *ret = (CgroupPressure){ 0 };
        if (!str_starts(text, "some ") || !parse_pressure_line(text, &ret->some))
                return false;
        /* Kernels before 5.13 have no such line for the processor. */
        if (full)
                parse_pressure_line(full + 1, &ret->full);
        ret->known = true;
        return true;
}

static void parse_file(const StatsFile *file, const char *text, CgroupStats *ret)
{
        if (file->pressure)
                cgroup_pressure_parse(text, (CgroupPressure *)((char *)ret + file->offset));
        else if (file->keys)
                parse_keyed(text, file->keys, ret);
        else
                *(uint64_t *)((char *)ret + file->offset) = parse_number(text);
}

/* --- reading --- */

/* dir: of the length, with room for a name behind it. 0 or -errno. */
static int read_text(char *dir, int length, const char *name, char *buf, size_t size)
{
        KL_AUTOFD int fd = -1;
        ssize_t n;

        if (snprintf(dir + length, (size_t)(PATH_MAX - length), "/%s", name) >= PATH_MAX - length)
                return -ENAMETOOLONG;
        fd = open(dir, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, buf, size - 1);
        if (n < 0)
                return -errno;
        buf[n] = '\0';
        return 0;
}

/* Not through descriptors of directories: most are good for one or two files. */
static int make_dir_path(const CgroupTree *tree, const StatsFile *file, CgroupBase base,
                         const char *path, char ret[static PATH_MAX])
{
        int i = file->controller ? cgroup_find(tree, file->controller) : 0, n;

        if (i < 0)
                return -ENODEV;
        n = base == CGROUP_BASE_TREE
                    ? snprintf(ret, PATH_MAX, "%s/%s", tree->hierarchies[i].dir, path)
                    : snprintf(ret, PATH_MAX, "%s%s", tree->hierarchies[i].mount_dir, path);
        return n < PATH_MAX ? n : -ENAMETOOLONG;
}

static void finish_v1(CgroupStats *s)
{
        long hz = sysconf(_SC_CLK_TCK);
        uint64_t tick_ns = 1000000000ULL / (uint64_t)(hz > 0 ? hz : 100);

        s->cpu_user_ns *= tick_ns;
        s->cpu_system_ns *= tick_ns;
        /* "None" is the largest multiple of a page; that of memory and swap includes the memory. */
        if (s->memory_limit_bytes >= UINT64_MAX >> 2)
                s->memory_limit_bytes = 0;
        if (s->memory_reservation_bytes >= UINT64_MAX >> 2)
                s->memory_reservation_bytes = 0;
        if (s->swap_limit_bytes >= UINT64_MAX >> 2)
                s->swap_limit_bytes = CGROUP_STATS_UNLIMITED;
        else if (s->swap_limit_bytes > s->memory_limit_bytes)
                s->swap_limit_bytes -= s->memory_limit_bytes;
        else
                s->swap_limit_bytes = 0;
}

/* The inverse of cgroup_weight_of_shares, as cAdvisor shows it. */
static uint64_t shares_of_weight(uint64_t weight)
{
        return weight ? 2 + (weight - 1) * 262142 / 9999 : 0;
}

static void finish_v2(CgroupStats *s)
{
        s->cpu_usage_ns *= 1000;
        s->cpu_user_ns *= 1000;
        s->cpu_system_ns *= 1000;
        s->cpu_throttled_ns *= 1000;
        s->own_page_faults = s->page_faults;
        s->own_major_page_faults = s->major_page_faults;
        s->cpu_shares = shares_of_weight(s->cpu_shares);
        if (s->memory_limit_bytes == CGROUP_STATS_UNLIMITED)
                s->memory_limit_bytes = 0;
}

static void finish(const CgroupTree *tree, CgroupStats *s)
{
        if (tree->mode == CGROUP_V1)
                finish_v1(s);
        else
                finish_v2(s);
        s->memory_working_set_bytes =
                s->memory_usage_bytes > s->memory_inactive_file_bytes
                        ? s->memory_usage_bytes - s->memory_inactive_file_bytes
                        : 0;
        if (s->cpu_quota_us == CGROUP_STATS_UNLIMITED)
                s->cpu_quota_us = 0;
        if (s->pids_limit == CGROUP_STATS_UNLIMITED)
                s->pids_limit = 0;
}

/* "max 100000" or "20000 100000". */
static void read_v2_quota(char *dir, int length, CgroupStats *s)
{
        char text[64];
        const char *period;

        if (read_text(dir, length, "cpu.max", text, sizeof(text)) < 0)
                return;
        s->cpu_quota_us = parse_number(text);
        period = strchr(text, ' ');
        s->cpu_period_us = period ? parse_number(period + 1) : 0;
}

int cgroup_stats(const CgroupTree *tree, CgroupBase base, const char *path, CgroupStatsLevel level,
                 CgroupStats *ret)
{
        bool v1 = tree->mode == CGROUP_V1;
        const StatsFile *files = v1 ? v1_files : v2_files;
        size_t n = v1 ? ELEMENTS(v1_files) : ELEMENTS(v2_files);
        const char *controller = NULL;
        char dir[PATH_MAX], text[STATS_TEXT_MAX];
        bool keep = level & CGROUP_STATS_KEEP_LIMITS;
        uint64_t memory_limit = keep ? ret->memory_limit_bytes : 0;
        uint64_t swap_limit = keep ? ret->swap_limit_bytes : 0;
        int length = -1, r = -ENOENT;

        level &= ~CGROUP_STATS_KEEP_LIMITS;
        *ret = (CgroupStats){ 0 };
        for (size_t i = 0; i < n; i++) {
                const StatsFile *f = &files[i];

                if (f->level > level || (f->limit && keep))
                        continue;
                if (i == 0 || (v1 && !str_eq(controller, f->controller)))
                        length = make_dir_path(tree, f, base, path, dir);
                controller = f->controller;
                if (length < 0 || read_text(dir, length, f->name, text, sizeof(text)) < 0)
                        continue;
                parse_file(f, text, ret);
                r = 0;
        }
        if (r == 0 && !v1 && level == CGROUP_STATS_ALL)
                read_v2_quota(dir, length, ret);
        finish(tree, ret);
        if (keep) {
                ret->memory_limit_bytes = memory_limit;
                ret->swap_limit_bytes = swap_limit;
        }
        return r;
}

/* --- the daemon's own group --- */

int cgroup_self_path(const CgroupTree *tree, char *ret, size_t size)
{
        KL_AUTOFILE FILE *f = fopen("/proc/self/cgroup", "re");
        const char *wanted = tree->mode == CGROUP_V1 ? ":memory:" : "0::";
        char line[4096];

        while (f && fscanf(f, "%4095[^\n]%*c", line) == 1) {
                const char *at = tree->mode == CGROUP_V1 ? strstr(line, wanted) : line;

                if (!at || !str_starts(at, wanted))
                        continue;
                snprintf(ret, size, "%s", at + strlen(wanted));
                return 0;
        }
        return -ENOENT;
}
