/* SPDX-License-Identifier: Apache-2.0 */

/* What the machine around the kernel must have: network, clock, disk, memory, free ports. */

#include "cli/cli-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <time.h>

#define KUBELET_PORT 10250
/* A clock before the sources' time is wrong for certain; certificates fail then. */
#define CLOCK_YEAR_MIN 2026
#define CONF_MAX (1024 * 1024)
#define MEMORY_MIN ((uint64_t)60 << 20)
#define MEMORY_GOOD ((uint64_t)200 << 20)
#define DISK_MIN ((uint64_t)256 << 20)
#define DISK_GOOD ((uint64_t)2 << 30)

/* --- CNI --- */

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **list_configs(const char *dir)
{
        KL_AUTODIR DIR *d = opendir(dir);
        KL_AUTOSTRV names = NULL;

        for (struct dirent *e; d && (e = readdir(d));)
                if ((str_ends(e->d_name, ".conflist") || str_ends(e->d_name, ".conf") ||
                     str_ends(e->d_name, ".json")) &&
                    strv_add(&names, e->d_name) < 0)
                        return NULL;
        if (strv_len(names) > 1)
                qsort(names, strv_len(names), sizeof(*names), compare_names);
        return KL_STEAL(names);
}

static bool find_plugin(char *const *dirs, const char *type)
{
        for (size_t i = 0; dirs && dirs[i]; i++) {
                KL_AUTOFREE char *path = str_format("%s/%s", dirs[i], type);

                if (path && access(path, X_OK) == 0)
                        return true;
        }
        return false;
}

static void check_plugin(Checks *c, const CheckPaths *paths, const Value *plugin)
{
        const char *types[] = { value_get_str(plugin, "type"),
                                value_get_str(value_get(plugin, "ipam"), "type") };

        for (size_t i = 0; i < ELEMENTS(types); i++) {
                bool found = types[i] && find_plugin(paths->cni_bin_dirs, types[i]);

                if (types[i])
                        check_add(c, "CNI plugin", found ? CHECK_OK : CHECK_WARNING,
                                  "install it (Debian: containernetworking-plugins), or wait for "
                                  "the network's DaemonSet",
                                  "%s%s", types[i],
                                  found ? "" : " is in none of the plugin directories");
        }
}

static void check_cni(Checks *c, const CheckPaths *paths)
{
        KL_AUTOSTRV files = list_configs(paths->cni_conf_dir);
        KL_AUTO(value_free) Value *config = NULL;
        KL_AUTOFREE char *path = NULL, *text = NULL;
        KL_AUTOERR err = NULL;
        const Value *plugins;
        size_t len;

        if (!files) {
                check_add(c, "CNI configuration", CHECK_WARNING,
                          "pods without hostNetwork wait until a network is configured; a "
                          "cluster's network DaemonSet does that",
                          "none in %s", paths->cni_conf_dir);
                return;
        }
        path = str_format("%s/%s", paths->cni_conf_dir, files[0]);
        if (!path || file_read(path, CONF_MAX, &text, &len) < 0 ||
            json_parse(text, len, &config, &err) < 0) {
                check_add(c, "CNI configuration", CHECK_WARNING, "repair or remove the file",
                          "%s: %s", path ? path : "", err ? kl_error_msg(err) : "cannot be read");
                return;
        }
        check_add(c, "CNI configuration", CHECK_OK, NULL, "%s", path);
        plugins = value_get(config, "plugins");
        for (size_t i = 0; i < value_len(plugins); i++)
                check_plugin(c, paths, value_at(plugins, i));
        if (!plugins)
                check_plugin(c, paths, config);
}

static void check_sysctl(Checks *c, const char *name, const char *path, const char *advice)
{
        char value[32] = "";
        int r = file_read_line(path, value, sizeof(value));

        check_add(c, name, r == 0 && str_eq(value, "1") ? CHECK_OK : CHECK_WARNING, advice, "%s",
                  r < 0 ? "cannot be read" : value);
}

static void check_conntrack(Checks *c)
{
        bool has = access("/proc/sys/net/netfilter/nf_conntrack_max", F_OK) == 0 ||
                   access("/proc/net/nf_conntrack", F_OK) == 0;

        check_add(c, "conntrack", has ? CHECK_OK : CHECK_WARNING,
                  "modprobe nf_conntrack: services and host ports need it", "%s",
                  has ? "there" : "not loaded");
}

/* --- clock, disk, memory --- */

static void check_clock(Checks *c)
{
        time_t now = time(NULL);
        struct tm tm;
        char text[64];

        gmtime_r(&now, &tm);
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm);
        check_add(c, "clock", tm.tm_year + 1900 >= CLOCK_YEAR_MIN ? CHECK_OK : CHECK_MISSING,
                  "set the clock (timedatectl, chrony): TLS certificates fail with a wrong one",
                  "%s", text);
}

/* Of the nearest directory above that exists. */
static void check_disk(Checks *c, const char *name, const char *path)
{
        KL_AUTOFREE char *dir = strdup(path);
        struct statvfs fs;
        uint64_t available;
        char text[32];

        while (dir && statvfs(dir, &fs) < 0) {
                char *slash = strrchr(dir, '/');

                if (!slash || !dir[1])
                        return;
                slash[slash == dir] = '\0';
        }
        if (!dir)
                return;
        available = (uint64_t)fs.f_bavail * fs.f_frsize;
        cli_format_bytes(available, text, sizeof(text));
        check_add(c, name,
                  (fs.f_flag & ST_RDONLY) || available < DISK_MIN ? CHECK_MISSING
                  : available < DISK_GOOD                         ? CHECK_WARNING
                                                                  : CHECK_OK,
                  "make room, or choose another directory (--root-dir, --image-dir)",
                  "%s free for %s%s", text, path, fs.f_flag & ST_RDONLY ? ", read-only" : "");
}

static void check_memory(Checks *c)
{
        struct sysinfo info;
        uint64_t total;
        char text[32];

        if (sysinfo(&info) < 0)
                return;
        total = (uint64_t)info.totalram * info.mem_unit;
        cli_format_bytes(total, text, sizeof(text));
        check_add(c, "memory",
                  total < MEMORY_MIN    ? CHECK_MISSING
                  : total < MEMORY_GOOD ? CHECK_WARNING
                                        : CHECK_OK,
                  "a few small pods fit into 64 MB, not more", "%s", text);
        cli_format_bytes((uint64_t)info.totalswap * info.mem_unit, text, sizeof(text));
        check_add(c, "swap", info.totalswap ? CHECK_WARNING : CHECK_OK,
                  "swapoff -a and remove it from /etc/fstab, or set failSwapOn: false", "%s",
                  info.totalswap ? text : "off");
}

/* --- others on this machine --- */

static bool port_is_free(uint16_t port)
{
        struct sockaddr_in6 addr = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        struct sockaddr_in addr4 = { .sin_family = AF_INET, .sin_port = htons(port) };
        KL_AUTOFD int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        KL_AUTOFD int fd4 = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int on = 1;

        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        setsockopt(fd4, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
        if (fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 && errno == EADDRINUSE)
                return false;
        return fd4 < 0 || bind(fd4, (struct sockaddr *)&addr4, sizeof(addr4)) == 0 ||
               errno != EADDRINUSE;
}

static const char *running_agent(void)
{
        static const char *const agents[] = { "kubelet", "k3s-server", "k3s-agent", "microk8s" };
        KL_AUTODIR DIR *d = opendir("/proc");

        for (struct dirent *e; d && (e = readdir(d));) {
                char path[300], name[64];

                snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
                if (e->d_name[0] < '1' || e->d_name[0] > '9' ||
                    file_read_line(path, name, sizeof(name)) < 0)
                        continue;
                for (size_t i = 0; i < ELEMENTS(agents); i++)
                        if (strcmp(agents[i], name) == 0)
                                return agents[i];
        }
        return NULL;
}

static bool daemon_answers(const char *state_dir)
{
        KL_AUTO(value_free) Value *answer = NULL;

        return cli_request(&(CliRequest){ .state_dir = state_dir,
                                          .json = "{\"command\":\"version\"}",
                                          .timeout_s = CLI_QUERY_TIMEOUT_S,
                                          .fd = -1 },
                           &answer, NULL) == 0;
}

static void check_others(Checks *c, const CheckPaths *paths)
{
        bool ours = daemon_answers(paths->state_dir);
        bool port_free = port_is_free(KUBELET_PORT);
        const char *agent = running_agent();

        check_add(c, "daemon", CHECK_OK, NULL, "%s", ours ? "running" : "not running");
        check_add(c, "other node agent", agent ? CHECK_WARNING : CHECK_OK,
                  "stop and disable it: two agents fight over the same pods", "%s",
                  agent ? agent : "none");
        check_add(c, "port 10250", port_free || ours ? CHECK_OK : CHECK_MISSING,
                  "stop what listens there (ss -ltnp), or use --port", "%s",
                  port_free ? "free" : "in use");
}

void check_node(Checks *checks, const CheckPaths *paths)
{
        check_add(checks, "root", geteuid() == 0 ? CHECK_OK : CHECK_WARNING,
                  "the daemon runs as root; some checks need it too", "%s",
                  geteuid() == 0 ? "yes" : "no");
        check_cni(checks, paths);
        check_sysctl(checks, "ip_forward", "/proc/sys/net/ipv4/ip_forward",
                     "sysctl -w net.ipv4.ip_forward=1 (and keep it in /etc/sysctl.d): pods reach "
                     "nobody else without it");
        check_conntrack(checks);
        check_clock(checks);
        check_disk(checks, "root directory", paths->root_dir);
        check_disk(checks, "image directory", paths->image_dir);
        check_memory(checks);
        check_others(checks, paths);
}
