/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the kernel must have. Features are tried, not looked up: a container or a hardened kernel
 * may refuse what its version promises. System calls are tried with arguments that fail after the
 * call was found (EBADF, EINVAL, EFAULT), so nothing is changed; what needs a mount or a namespace
 * happens in a child that ends at once.
 */

#include "cli/cli-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#define ADVICE_KERNEL "use Linux 5.10 or newer"
#define ADVICE_ROOT "run this as root for a full answer"

static void check_version(Checks *c)
{
        struct utsname u;
        unsigned int major = 0, minor = 0;

        if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
                return;
        check_add(c, "kernel", major > 5 || (major == 5 && minor >= 10) ? CHECK_OK : CHECK_MISSING,
                  ADVICE_KERNEL, "Linux %s, %s", u.release, u.machine);
        check_add(c, "pod user namespaces",
                  major > 6 || (major == 6 && minor >= 3) ? CHECK_OK : CHECK_WARNING,
                  "pods with hostUsers: false need Linux 6.3 or newer", "%s",
                  major > 6 || (major == 6 && minor >= 3) ? "supported" : "not supported");
}

/* A call that the kernel knows fails with anything but ENOSYS. */
static void check_call(Checks *c, const char *name, long nr, CheckState without, const char *advice)
{
        bool known;

        errno = 0;
        known = syscall(nr, -1, NULL, 0, 0, 0) >= 0 || errno != ENOSYS;
        check_add(c, name, known ? CHECK_OK : without, advice, "%s",
                  known ? "there" : "refused or unknown");
}

static void check_calls(Checks *c)
{
        static const char fallback[] = "works without, more slowly; 5.12 and newer have it";

        check_call(c, "pidfd_open", SYS_pidfd_open, CHECK_MISSING, ADVICE_KERNEL);
        check_call(c, "pidfd_send_signal", SYS_pidfd_send_signal, CHECK_MISSING, ADVICE_KERNEL);
        check_call(c, "openat2", SYS_openat2, CHECK_WARNING, fallback);
        check_call(c, "clone3", SYS_clone3, CHECK_WARNING, fallback);
        check_call(c, "close_range", SYS_close_range, CHECK_WARNING, fallback);
        check_call(c, "move_mount", SYS_move_mount, CHECK_MISSING, ADVICE_KERNEL);
        check_call(c, "mount_setattr", SYS_mount_setattr, CHECK_WARNING, fallback);
}

/* Runs in a child; its exit status is an errno. */
static int in_child(int (*body)(void))
{
        pid_t pid = fork();
        int status;

        if (pid < 0)
                return errno;
        if (pid == 0)
                _exit(body() & 0xff);
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return errno;
        return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

static int try_overlay(void)
{
        static const char *const dirs[] = { "l", "u", "w", "m" };

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", "/tmp", "tmpfs", 0, NULL) < 0 || chdir("/tmp") < 0)
                return errno;
        for (size_t i = 0; i < ELEMENTS(dirs); i++)
                if (mkdir(dirs[i], 0700) < 0)
                        return errno;
        return mount("overlay", "m", "overlay", 0, "lowerdir=l,upperdir=u,workdir=w") < 0 ? errno
                                                                                          : 0;
}

static int try_namespaces(void)
{
        return unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID |
                       CLONE_NEWCGROUP) < 0
                       ? errno
                       : 0;
}

static int try_user_namespace(void)
{
        return unshare(CLONE_NEWUSER) < 0 ? errno : 0;
}

/* Asks for the rule set's generation: a kernel without nf_tables answers EINVAL. */
static int try_nftables(void)
{
        struct {
                struct nlmsghdr head;
                struct nfgenmsg body;
        } request = {
                .head = { .nlmsg_len = sizeof(request),
                          .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN,
                          .nlmsg_flags = NLM_F_REQUEST },
        };
        struct timeval limit = { .tv_sec = 5 };
        union {
                char bytes[4096];
                struct nlmsghdr head;
        } answer;
        KL_AUTOFD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
        ssize_t n;

        if (fd < 0)
                return errno;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        if (send(fd, &request, sizeof(request), 0) < 0)
                return errno;
        n = recv(fd, &answer, sizeof(answer), 0);
        if (n < (ssize_t)sizeof(answer.head))
                return n < 0 ? errno : EIO;
        if (answer.head.nlmsg_type != NLMSG_ERROR)
                return 0;
        return -((const struct nlmsgerr *)NLMSG_DATA(&answer.head))->error & 0xff;
}

static void check_tried(Checks *c, const char *name, int (*body)(void), CheckState without,
                        const char *advice)
{
        int e = in_child(body);

        if (e == EPERM && geteuid() != 0)
                check_add(c, name, CHECK_WARNING, ADVICE_ROOT, "cannot be tried");
        else
                check_add(c, name, e == 0 ? CHECK_OK : without, advice, "%s",
                          e == 0 ? "works" : strerror(e));
}

static void check_seccomp(Checks *c)
{
        unsigned int action = SECCOMP_RET_ERRNO;
        bool works = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;

        check_add(c, "seccomp", works ? CHECK_OK : CHECK_MISSING,
                  "use a kernel with CONFIG_SECCOMP_FILTER", "%s",
                  works ? "filters work" : "no filters");
}

/* Where the kernel has it, pods may ask for the runtime's profile, which somebody has to compile.
 */
static void check_apparmor(Checks *c)
{
        char enabled[8] = "";
        bool parser = access("/usr/sbin/apparmor_parser", X_OK) == 0 ||
                      access("/sbin/apparmor_parser", X_OK) == 0;

        if (file_read_line("/sys/module/apparmor/parameters/enabled", enabled, sizeof(enabled)) <
                    0 ||
            enabled[0] != 'Y')
                return;
        check_add(c, "AppArmor", parser ? CHECK_OK : CHECK_WARNING,
                  "apt-get install apparmor, for pods with the AppArmor profile RuntimeDefault",
                  "%s", parser ? "enabled" : "enabled, but there is no apparmor_parser");
}

static void check_capability(Checks *c)
{
        bool has = prctl(PR_CAPBSET_READ, 24 /* CAP_SYS_RESOURCE */, 0, 0, 0) == 1;

        check_add(c, "CAP_SYS_RESOURCE", has ? CHECK_OK : CHECK_WARNING,
                  "oom_score_adj cannot be lowered and limits cannot be raised without it", "%s",
                  has ? "there" : "not in the bounding set");
}

void check_kernel(Checks *checks)
{
        check_version(checks);
        check_calls(checks);
        check_tried(checks, "namespaces", try_namespaces, CHECK_MISSING,
                    "the kernel (or the container around this) must allow mount, net, ipc, uts, "
                    "pid and cgroup namespaces");
        check_tried(checks, "user namespaces", try_user_namespace, CHECK_WARNING,
                    "set sysctl user.max_user_namespaces above 0 for pods with hostUsers: false");
        check_tried(checks, "overlay", try_overlay, CHECK_MISSING,
                    "modprobe overlay, or use a kernel with CONFIG_OVERLAY_FS");
        check_tried(checks, "nftables", try_nftables, CHECK_WARNING,
                    "modprobe nf_tables: masquerading and host ports need it");
        check_seccomp(checks);
        check_apparmor(checks);
        check_capability(checks);
}

/* --- cgroups --- */

static bool words_have(const char *words, const char *word)
{
        KL_AUTOSTRV v = words ? strv_split(words, ' ') : NULL;

        return strv_contains(v, word);
}

/* /proc/cgroups tells what the kernel has, enabled or not; on v2 cgroup.controllers decides. */
static bool v1_controller(const char *table, const char *name)
{
        KL_AUTOSTRV lines = strv_split(table, '\n');

        for (size_t i = 0; lines && lines[i]; i++) {
                KL_AUTOSTRV fields = strv_split(lines[i], '\t');

                if (strv_len(fields) == 4 && str_eq(fields[0], name))
                        return str_eq(fields[3], "1");
        }
        return false;
}

static void check_controllers(Checks *c, bool v2, const char *text)
{
        static const struct {
                const char *name, *shown;
                CheckState without;
                const char *advice;
        } all[] = {
                { "memory", "memory controller", CHECK_MISSING,
                  "add 'cgroup_enable=memory cgroup_memory=1' to the kernel's command line (on a "
                  "Raspberry Pi: /boot/firmware/cmdline.txt) and reboot" },
                { "cpu", "cpu controller", CHECK_MISSING, "use a kernel with CONFIG_CGROUP_SCHED" },
                { "pids", "pids controller", CHECK_MISSING,
                  "use a kernel with CONFIG_CGROUP_PIDS" },
                { "cpuset", "cpuset controller", CHECK_WARNING,
                  "use a kernel with CONFIG_CPUSETS" },
        };

        for (size_t i = 0; i < ELEMENTS(all); i++) {
                bool has = v2 ? words_have(text, all[i].name) : v1_controller(text, all[i].name);

                check_add(c, all[i].shown, has ? CHECK_OK : all[i].without, all[i].advice, "%s",
                          has ? "there" : "not enabled");
        }
}

void check_cgroups(Checks *checks)
{
        KL_AUTOFREE char *text = NULL;
        char line[1024];
        size_t len;
        bool v2 = file_read_line("/sys/fs/cgroup/cgroup.controllers", line, sizeof(line)) == 0;

        if (v2) {
                check_add(checks, "cgroups", CHECK_OK, NULL, "version 2");
                check_controllers(checks, true, line);
        } else if (file_read("/proc/cgroups", 65536, &text, &len) == 0) {
                bool mounted = access("/sys/fs/cgroup/memory/cgroup.procs", F_OK) == 0 ||
                               access("/sys/fs/cgroup/cpu/cgroup.procs", F_OK) == 0;

                check_add(checks, "cgroups", mounted ? CHECK_OK : CHECK_MISSING,
                          "mount the cgroup2 file system at /sys/fs/cgroup",
                          mounted ? "version 1 (supported; version 2 is better)" : "not mounted");
                check_controllers(checks, false, text);
        } else {
                check_add(checks, "cgroups", CHECK_MISSING, "use a kernel with CONFIG_CGROUPS",
                          "none");
        }
        check_add(checks, "cgroup driver", CHECK_OK, NULL, "%s",
                  access("/run/systemd/system", F_OK) == 0
                          ? "systemd runs: cgroupfs or systemd may be configured"
                          : "no systemd: use cgroupfs");
}
