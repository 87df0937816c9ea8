/* SPDX-License-Identifier: Apache-2.0 */

/* Machine facts, as upstream's cAdvisor finds them out. */

#include "node/facts.h"

#include "base/file.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#define FILE_MAX 65536
#define PREFIXED_PATH_MAX 512

static int read_text(const char *prefix, const char *path, char **ret)
{
        char full[PREFIXED_PATH_MAX];
        size_t len;

        if ((size_t)snprintf(full, sizeof(full), "%s%s", prefix, path) >= sizeof(full))
                return -ENAMETOOLONG;
        return file_read(full, FILE_MAX, ret, &len);
}

/* One line, trimmed; false if the file is missing or empty. */
static bool read_line(const char *prefix, const char *path, char ret[static FACTS_TEXT_MAX])
{
        KL_AUTOFREE char *text = NULL;
        const char *start;
        size_t n;

        if (read_text(prefix, path, &text) < 0)
                return false;
        start = text + strspn(text, " \t\r\n");
        n = strcspn(start, "\r\n");
        while (n > 0 && isspace((unsigned char)start[n - 1]))
                n--;
        if (n == 0 || n >= FACTS_TEXT_MAX)
                return false;
        memcpy(ret, start, n);
        ret[n] = '\0';
        return true;
}

const char *facts_go_architecture(const char *machine)
{
        static const struct {
                const char *machine, *go;
        } names[] = {
                { "x86_64", "amd64" },
                { "aarch64", "arm64" },
                { "armv7l", "arm" },
                { "armv6l", "arm" },
                { "armv8l", "arm" },
                { "i686", "386" },
                { "i586", "386" },
                { "i386", "386" },
                { "ppc64le", "ppc64le" },
                { "ppc64", "ppc64" },
                { "s390x", "s390x" },
                { "riscv64", "riscv64" },
                { "loongarch64", "loong64" },
                { "mips64", "mips64le" },
        };

        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (str_eq(names[i].machine, machine))
                        return names[i].go;
        return machine;
}

int facts_cpu_list_count(const char *list, int64_t *ret)
{
        KL_AUTOSTRV parts = strv_split(list, ',');
        int64_t count = 0;

        if (!parts)
                return -ENOMEM;
        for (char **part = parts; *part; part++) {
                char *dash = strchr(*part, '-');
                int64_t first, last;

                if (dash)
                        *dash = '\0';
                if (str_to_i64(*part, 0, 65535, &first) < 0)
                        return -EINVAL;
                last = first;
                if (dash && str_to_i64(dash + 1, first, 65535, &last) < 0)
                        return -EINVAL;
                count += last - first + 1;
        }
        if (count == 0)
                return -EINVAL;
        *ret = count;
        return 0;
}

/* "MemTotal:   24684084 kB" in bytes; 0 if it is not there. */
static int64_t meminfo_bytes(const char *text, const char *name)
{
        for (const char *line = text; line; line = strchr(line, '\n')) {
                char number[24];
                const char *p;
                size_t n;
                int64_t kib;

                line += *line == '\n';
                if (!str_starts(line, name) || line[strlen(name)] != ':')
                        continue;
                p = line + strlen(name) + 1;
                p += strspn(p, " ");
                n = strspn(p, "0123456789");
                if (n >= sizeof(number))
                        return 0;
                memcpy(number, p, n);
                number[n] = '\0';
                return str_to_i64(number, 0, INT64_MAX / 1024, &kib) < 0 ? 0 : kib * 1024;
        }
        return 0;
}

static int by_page_size(const void *a, const void *b)
{
        const NodeHugepages *x = a, *y = b;

        return x->page_bytes < y->page_bytes ? -1 : x->page_bytes > y->page_bytes;
}

/* hugepages-2048kB/nr_hugepages */
static bool read_hugepages(const char *prefix, const char *entry, NodeHugepages *ret)
{
        static const char start[] = "hugepages-";
        char size[24], path[PREFIXED_PATH_MAX], line[FACTS_TEXT_MAX];
        int64_t kib, count;
        size_t n;

        if (!str_starts(entry, start))
                return false;
        n = strspn(entry + strlen(start), "0123456789");
        if (n == 0 || n >= sizeof(size) || !str_eq(entry + strlen(start) + n, "kB"))
                return false;
        memcpy(size, entry + strlen(start), n);
        size[n] = '\0';
        snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/%s/nr_hugepages", entry);
        if (str_to_i64(size, 1, INT64_MAX / 1024, &kib) < 0 || !read_line(prefix, path, line) ||
            str_to_i64(line, 0, INT64_MAX / 1024 / kib, &count) < 0)
                return false;
        ret->page_bytes = kib * 1024;
        ret->total_bytes = ret->page_bytes * count;
        return true;
}

static void read_all_hugepages(const char *prefix, NodeFacts *facts)
{
        char path[PREFIXED_PATH_MAX];
        struct dirent *entry;
        KL_AUTODIR DIR *dir = NULL;

        facts->n_hugepages = 0;
        snprintf(path, sizeof(path), "%s/sys/kernel/mm/hugepages", prefix);
        dir = opendir(path);
        if (!dir)
                return;
        while (facts->n_hugepages < FACTS_HUGEPAGES_MAX && (entry = readdir(dir)))
                if (read_hugepages(prefix, entry->d_name, &facts->hugepages[facts->n_hugepages]))
                        facts->n_hugepages++;
        qsort(facts->hugepages, facts->n_hugepages, sizeof(facts->hugepages[0]), by_page_size);
}

int facts_refresh(const char *prefix, NodeFacts *facts)
{
        KL_AUTOFREE char *meminfo = NULL;
        int r = read_text(prefix, "/proc/meminfo", &meminfo);

        if (r < 0)
                return r;
        facts->memory_bytes = meminfo_bytes(meminfo, "MemTotal");
        facts->swap_bytes = meminfo_bytes(meminfo, "SwapTotal");
        read_all_hugepages(prefix, facts);
        return facts->memory_bytes > 0 ? 0 : -ENODATA;
}

/* PRETTY_NAME="Debian GNU/Linux 12 (bookworm)" */
static bool os_release_name(const char *text, char ret[static FACTS_TEXT_MAX])
{
        static const char key[] = "PRETTY_NAME=";

        for (const char *line = text; line; line = strchr(line, '\n')) {
                size_t n = 0;

                line += *line == '\n';
                if (!str_starts(line, key))
                        continue;
                for (const char *p = line + strlen(key); *p && *p != '\n'; p++) {
                        if (*p == '"' || *p == '\'')
                                continue;
                        if (*p == '\\' && p[1] && p[1] != '\n')
                                p++;
                        if (n + 1 < FACTS_TEXT_MAX)
                                ret[n++] = *p;
                }
                ret[n] = '\0';
                return n > 0;
        }
        return false;
}

static void read_os_image(const char *prefix, NodeFacts *facts)
{
        static const char *const paths[] = { "/etc/os-release", "/usr/lib/os-release" };

        for (size_t i = 0; i < ELEMENTS(paths); i++) {
                KL_AUTOFREE char *text = NULL;

                if (read_text(prefix, paths[i], &text) >= 0 &&
                    os_release_name(text, facts->os_image))
                        return;
        }
        snprintf(facts->os_image, sizeof(facts->os_image), "Linux");
}

static void read_first(const char *prefix, const char *const *paths, size_t n,
                       char ret[static FACTS_TEXT_MAX])
{
        for (size_t i = 0; i < n; i++)
                if (read_line(prefix, paths[i], ret))
                        return;
}

static void read_identity(const char *prefix, NodeFacts *facts)
{
        static const char *const machine_id[] = { "/etc/machine-id", "/var/lib/dbus/machine-id" };
        static const char *const uuid[] = {
                "/sys/class/dmi/id/product_uuid", "/proc/device-tree/system-id",
                "/proc/device-tree/vm,uuid",      "/etc/machine-id",
                "/var/lib/dbus/machine-id",
        };

        read_first(prefix, machine_id, ELEMENTS(machine_id), facts->machine_id);
        read_first(prefix, uuid, ELEMENTS(uuid), facts->system_uuid);
        read_line(prefix, "/proc/sys/kernel/random/boot_id", facts->boot_id);
        read_line(prefix, "/proc/sys/kernel/osrelease", facts->kernel_version);
}

int facts_read(const char *prefix, NodeFacts *ret, KlError **err)
{
        NodeFacts facts = { 0 };
        char cpus[FACTS_TEXT_MAX] = "";
        struct utsname machine;
        int r;

        if (!read_line(prefix, "/sys/devices/system/cpu/online", cpus) ||
            facts_cpu_list_count(cpus, &facts.cpus) < 0)
                facts.cpus = *prefix ? 0 : sysconf(_SC_NPROCESSORS_ONLN);
        r = facts_refresh(prefix, &facts);
        if (r < 0 || facts.cpus <= 0)
                return kl_error(err, -ENODATA, NULL,
                                "cannot tell the CPUs and memory of this machine (is /proc "
                                "mounted?)");
        read_identity(prefix, &facts);
        read_os_image(prefix, &facts);
        if (uname(&machine) == 0)
                snprintf(facts.architecture, sizeof(facts.architecture), "%s",
                         facts_go_architecture(machine.machine));
        *ret = facts;
        return 0;
}

int facts_root_size(const char *dir, int64_t *ret_bytes)
{
        struct statvfs st;

        if (statvfs(dir, &st) < 0)
                return -errno;
        *ret_bytes = (int64_t)st.f_blocks * (int64_t)st.f_frsize;
        return 0;
}
