/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Making the pod's namespaces. A short-lived child does it, so that the shim itself never leaves
 * the host's: with a user namespace, a child of that child makes user, net, ipc and uts namespaces
 * in this order, so that the latter belong to the former. The first child then enters net, ipc and
 * uts with the host's privileges, sets hostname, sysctls and lo, pins them by bind mounts, makes
 * the mount namespace that holds the pod's shm, and sends all to the shim as descriptors.
 */

#include "shim/shim-internal.h"

#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define REASON "FailedCreatePodSandBox"
#define SHM_DEFAULT (64ULL << 20)
#define PROC_MAGIC 0x9fa0
#define NSFS_MAGIC 0x6e736673

/* Which descriptors come with a good report, in this order. */
enum { NS_USER = 1, NS_NET = 2, NS_IPC = 4, NS_UTS = 8, NS_SHM = 16 };

static const ShimSysctl defaults[] = {
        { "net/ipv4/ip_unprivileged_port_start", "0" },
        { "net/ipv4/ping_group_range", "0 2147483647" },
};

/* No router may configure a pod. Missing where IPv6 is off. */
static const ShimSysctl ipv6_defaults[] = {
        { "net/ipv6/conf/all/accept_ra", "0" },
        { "net/ipv6/conf/default/accept_ra", "0" },
};

static int set_sysctl(const char *name, const char *value, bool missing_ok, KlError **err)
{
        KL_AUTOFD int dir = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
        char path[PATH_MAX];
        struct statfs fs;
        size_t len = strlen(name);

        if (len >= sizeof(path) || strstr(name, "..") || name[0] == '/')
                return kl_error(err, -EINVAL, REASON, "sysctl '%.64s' is no name", name);
        memcpy(path, name, len + 1);
        /* With slashes in it, dots are part of names. */
        if (!strchr(name, '/'))
                for (char *p = path; *p; p++)
                        *p = *p == '.' ? '/' : *p;
        fd = dir < 0 ? -errno
                     : sys_openat2(dir, path, O_WRONLY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
        if (fd == -ENOENT && missing_ok)
                return 0;
        if (fd < 0)
                return kl_error_errno(err, fd, REASON, "sysctl '%s'", name);
        if (fstatfs(fd, &fs) < 0 || fs.f_type != PROC_MAGIC)
                return kl_error(err, -EINVAL, REASON, "sysctl '%s' is not in /proc/sys", name);
        if (write(fd, value, strlen(value)) < 0)
                return kl_error_errno(err, -errno, REASON, "set sysctl '%s' to '%s'", name, value);
        return 0;
}

static int set_sysctls(const ShimSandbox *s, KlError **err)
{
        int r = 0;

        for (size_t i = 0; r == 0 && !s->host_network && i < ELEMENTS(defaults); i++)
                r = set_sysctl(defaults[i].name, defaults[i].value, false, err);
        for (size_t i = 0; r == 0 && !s->host_network && i < ELEMENTS(ipv6_defaults); i++)
                r = set_sysctl(ipv6_defaults[i].name, ipv6_defaults[i].value, true, err);
        for (size_t i = 0; r == 0 && i < s->n_sysctls; i++)
                r = set_sysctl(s->sysctls[i].name, s->sysctls[i].value, false, err);
        return r;
}

static int raise_lo(KlError **err)
{
        KL_AUTOFD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

        if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
                return kl_error_errno(err, -errno, REASON, "raise lo");
        return 0;
}

static int write_maps(pid_t pid, const char *file, const ShimIdMap *maps, size_t n, KlError **err)
{
        KL_AUTOBUF text = BUF_INIT;
        char path[64];
        int r;

        for (size_t i = 0; i < n; i++)
                buf_addf(&text, "%u %u %u\n", maps[i].inside, maps[i].outside, maps[i].count);
        snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
        r = buf_error(&text);
        if (r == 0)
                r = file_store(AT_FDCWD, path, buf_str(&text));
        return r < 0 ? kl_error_errno(err, r, REASON, "write %s", file) : 0;
}

static int open_ns(pid_t pid, const char *name, KlError **err)
{
        char path[64];
        int fd;

        if (pid > 0)
                snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
        else
                snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd < 0 ? kl_error_errno(err, -errno, REASON, "open %s namespace", name) : fd;
}

static int new_namespaces(const ShimSandbox *s)
{
        int flags = (s->host_network ? 0 : CLONE_NEWNET | CLONE_NEWUTS) |
                    (s->host_ipc ? 0 : CLONE_NEWIPC);

        return unshare(flags) < 0 ? -errno : 0;
}

/* The maker with a user namespace: says when it is in it, waits for the maps, makes the others. */
_Noreturn static void user_ns_maker(const ShimSandbox *s, int fd)
{
        char byte;

        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (unshare(CLONE_NEWUSER) < 0 || write(fd, "", 1) != 1 || read(fd, &byte, 1) != 1 ||
            setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 ||
            new_namespaces(s) < 0 || write(fd, "", 1) != 1)
                _exit(1);
        /* Holds the namespaces until the other end has opened them. */
        (void)!read(fd, &byte, 1);
        _exit(0);
}

static int take_namespaces(const ShimSandbox *s, pid_t pid, int *user_fd, KlError **err)
{
        KL_AUTOFD int net = -1, ipc = -1, uts = -1;

        *user_fd = open_ns(pid, "user", err);
        if (*user_fd < 0)
                return *user_fd;
        net = s->host_network ? -1 : open_ns(pid, "net", err);
        uts = s->host_network ? -1 : open_ns(pid, "uts", err);
        ipc = s->host_ipc ? -1 : open_ns(pid, "ipc", err);
        if ((!s->host_network && (net < 0 || uts < 0)) || (!s->host_ipc && ipc < 0))
                return -EIO;
        if ((net >= 0 && setns(net, CLONE_NEWNET) < 0) ||
            (uts >= 0 && setns(uts, CLONE_NEWUTS) < 0) ||
            (ipc >= 0 && setns(ipc, CLONE_NEWIPC) < 0))
                return kl_error_errno(err, -errno, REASON, "enter namespaces");
        return 0;
}

static int make_with_user_ns(const ShimSandbox *s, int *user_fd, KlError **err)
{
        KL_AUTOPID pid_t pid = -1;
        KL_AUTOFD int fd = -1;
        char byte;
        int pair[2], r;

        r = packet_pair(pair);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "make user namespace");
        fd = pair[0];
        pid = sys_fork(0, -1);
        if (pid == 0) {
                close(pair[0]);
                user_ns_maker(s, pair[1]);
        }
        close(pair[1]);
        if (pid < 0 || read(fd, &byte, 1) != 1)
                return kl_error(err, -EPERM, REASON, "cannot make a user namespace");
        r = write_maps(pid, "uid_map", s->uid_maps, s->n_uid_maps, err);
        if (r == 0)
                r = write_maps(pid, "gid_map", s->gid_maps, s->n_gid_maps, err);
        if (r < 0)
                return r;
        if (write(fd, "", 1) != 1 || read(fd, &byte, 1) != 1)
                return kl_error(err, -EPERM, REASON,
                                "cannot make namespaces in the user namespace");
        return take_namespaces(s, pid, user_fd, err);
}

/* A file to mount on; what a sandbox before left there is unmounted first. */
static int pin(const char *ns, int dir_fd, const char *path, KlError **err)
{
        char source[64], target[PATH_MAX];
        KL_AUTOFD int fd = -1;
        struct statfs fs;

        fd = openat(dir_fd, path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);
        if (fd < 0)
                return kl_error_errno(err, -errno, REASON, "make '%s'", path);
        if (dir_fd >= 0)
                snprintf(target, sizeof(target), "/proc/self/fd/%d/%s", dir_fd, path);
        else
                snprintf(target, sizeof(target), "%s", path);
        while (fstatfs(fd, &fs) == 0 && fs.f_type == NSFS_MAGIC) {
                if (umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
                        break;
                close(fd);
                fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        }
        snprintf(source, sizeof(source), "/proc/self/ns/%s", ns);
        if (mount(source, target, NULL, MS_BIND, NULL) < 0)
                return kl_error_errno(err, -errno, REASON, "pin %s namespace at '%s'", ns, path);
        return 0;
}

static int pin_all(const Shim *shim, const ShimSandbox *s, KlError **err)
{
        int r = 0;

        if (!s->host_network) {
                r = dir_make_path(s->netns_path, 0755, false);
                if (r < 0)
                        return kl_error_errno(err, r, REASON, "make directory of '%s'",
                                              s->netns_path);
                r = pin("net", AT_FDCWD, s->netns_path, err);
                if (r == 0)
                        r = pin("uts", shim->state_fd, SHIM_UTS_PIN_NAME, err);
        }
        return r == 0 && !s->host_ipc ? pin("ipc", shim->state_fd, SHIM_IPC_PIN_NAME, err) : r;
}

/* Joining a mount namespace, even one's own, leads to its top: out of a chroot, in which pivoting
 * would change the root of this process alone. */
static int enter_top(KlError **err)
{
        KL_AUTOFD int ns = open_ns(0, "mnt", err);

        if (ns < 0)
                return ns;
        return setns(ns, CLONE_NEWNS) < 0
                       ? kl_error_errno(err, -errno, REASON, "enter mount namespace")
                       : 0;
}

/*
 * A mount namespace whose root is the pod's shm and in which there is nothing else. Containers
 * clone the mount from there: it never appears among the host's mounts, and goes with the last
 * descriptor.
 */
static int make_shm_ns(const ShimSandbox *s, KlError **err)
{
        uint32_t uid = map_id(s->uid_maps, s->n_uid_maps, 0),
                 gid = map_id(s->gid_maps, s->n_gid_maps, 0);
        KL_AUTOFD int tree = -1, at = -1;
        char options[96];
        int r = 0;

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
                return kl_error_errno(err, -errno, REASON, "make mount namespace");
        r = enter_top(err);
        if (r < 0)
                return r;
        snprintf(options, sizeof(options), "mode=1777,size=%llu,uid=%u,gid=%u",
                 (unsigned long long)(s->shm_bytes ? s->shm_bytes : SHM_DEFAULT), uid, gid);
        tree = setup_new_mount("tmpfs", options,
                               MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
        if (tree < 0)
                return KL_STEAL_FD(tree);
        at = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
        /* Opened before /proc is out of reach; it names the namespace, not its root. */
        {
                KL_AUTOFD int ns = open_ns(0, "mnt", err);

                r = at < 0 ? -errno : sys_move_mount(tree, at);
                if (r == 0 && (fchdir(tree) < 0 || sys_pivot_root(".", ".") < 0 ||
                               umount2(".", MNT_DETACH) < 0))
                        r = -errno;
                if (ns < 0 || r < 0)
                        return kl_error_errno(err, r < 0 ? r : ns, REASON, "make shm");
                return KL_STEAL_FD(ns);
        }
}

static int make(const Shim *shim, const ShimSandbox *s, int *fds, uint32_t *which, KlError **err)
{
        int user_fd = -1, n = 0, r;

        r = s->n_uid_maps ? make_with_user_ns(s, &user_fd, err) : new_namespaces(s);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "make namespaces");
        if (!s->host_network && sethostname(s->hostname, strlen(s->hostname)) < 0)
                return kl_error_errno(err, -errno, REASON, "set hostname '%s'", s->hostname);
        r = set_sysctls(s, err);
        if (r == 0 && !s->host_network)
                r = raise_lo(err);
        if (r == 0)
                r = pin_all(shim, s, err);
        if (r < 0)
                return r;
        *which = (user_fd >= 0 ? NS_USER : 0) | (s->host_network ? 0 : NS_NET | NS_UTS) |
                 (s->host_ipc ? 0 : NS_IPC | NS_SHM);
        if (*which & NS_USER)
                fds[n++] = user_fd;
        if (*which & NS_NET)
                fds[n++] = open_ns(0, "net", err);
        if (*which & NS_IPC)
                fds[n++] = open_ns(0, "ipc", err);
        if (*which & NS_UTS)
                fds[n++] = open_ns(0, "uts", err);
        if (*which & NS_SHM)
                fds[n++] = make_shm_ns(s, err);
        for (int i = 0; i < n; i++)
                if (fds[i] < 0)
                        return fds[i];
        return n;
}

_Noreturn static void sandbox_main(const Shim *shim, const ShimSandbox *s, int status_fd)
{
        Report report = { .kind = REPORT_IDS };
        KlError *err = NULL;
        int fds[8], n;

        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        n = make(shim, s, fds, &report.n_groups, &err);
        if (n < 0) {
                report.kind = REPORT_ERROR;
                report.code = n;
                snprintf(report.message, sizeof(report.message), "%s",
                         err ? kl_error_msg(err) : strerror(-n));
                n = 0;
        }
        packet_send(status_fd, &report, sizeof(report), fds, (size_t)n, true);
        _exit(0);
}

/* --- in the shim --- */

static void failed(Shim *shim, int code, const char *message)
{
        shim->sandbox_state = SHIM_SANDBOX_FAILED;
        shim->sandbox_code = code;
        free(shim->sandbox_message);
        shim->sandbox_message = strdup(message);
        sandbox_unpin(shim);
        connection_sandbox(shim);
}

static int *take(int *from, uint32_t which, uint32_t bit, int *to)
{
        if (which & bit)
                *to = *from++;
        return from;
}

/* The shim moves itself at once, before it has children that would have to follow. */
static int finish(Shim *shim, KlError **err)
{
        pid_t pid;
        int r;

        r = log_start(shim);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "start log writer");
        if (!shim->share_pid || shim->host_pid)
                return 0;
        pid = pod_init_start(shim);
        if (pid < 0)
                return kl_error_errno(err, pid, REASON, "start init of the shared pid namespace");
        shim->init_pid = pid;
        return 0;
}

static void made(Shim *shim, Source *source)
{
        KL_AUTOERR err = NULL;
        Report report = { 0 };
        int fds[8], *at = fds, r;
        size_t n_fds;
        ssize_t n = packet_receive(source->fd, &report, sizeof(report), fds, ELEMENTS(fds), &n_fds);
        uint32_t which = report.n_groups;

        if (n == -EAGAIN)
                return;
        source_close(shim, source);
        if (n != (ssize_t)sizeof(report) || report.kind == REPORT_ERROR) {
                report.message[sizeof(report.message) - 1] = '\0';
                failed(shim, report.code ? report.code : -EIO,
                       report.message[0] ? report.message : "namespaces could not be made");
                return;
        }
        at = take(at, which, NS_USER, &shim->user_fd);
        at = take(at, which, NS_NET, &shim->net_fd);
        at = take(at, which, NS_IPC, &shim->ipc_fd);
        at = take(at, which, NS_UTS, &shim->uts_fd);
        take(at, which, NS_SHM, &shim->shm_ns_fd);
        r = finish(shim, &err);
        if (r < 0) {
                failed(shim, r, kl_error_msg(err));
                return;
        }
        shim->sandbox_state = SHIM_SANDBOX_READY;
        connection_sandbox(shim);
}

static int remember(Shim *shim, const ShimSandbox *s)
{
        shim->sandbox_id = strdup(s->id);
        shim->netns_path = strdup(s->host_network ? "" : s->netns_path);
        shim->host_network = s->host_network;
        shim->host_pid = s->host_pid;
        shim->host_ipc = s->host_ipc;
        shim->share_pid = s->share_pid;
        shim->user_ns = s->n_uid_maps > 0;
        shim->root_uid = map_id(s->uid_maps, s->n_uid_maps, 0);
        shim->root_gid = map_id(s->gid_maps, s->n_gid_maps, 0);
        return shim->sandbox_id && shim->netns_path ? 0 : -ENOMEM;
}

static int start_child(Shim *shim, const ShimSandbox *s, KlError **err)
{
        int pair[2], r;
        pid_t pid;

        r = remember(shim, s);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "make sandbox");
        r = packet_pair(pair);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "make sandbox");
        pid = sys_fork(0, -1);
        if (pid == 0)
                sandbox_main(shim, s, pair[1]);
        close(pair[1]);
        if (pid < 0) {
                close(pair[0]);
                return kl_error_errno(err, pid, REASON, "make sandbox");
        }
        shim->sandbox_pid = pid;
        shim->sandbox_state = SHIM_SANDBOX_MAKING;
        r = source_add(shim, &shim->sandbox, pair[0], made);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "make sandbox");
        /* While the child works. */
        (void)file_store_number(AT_FDCWD, "/proc/self/oom_score_adj", s->oom_score_adj);
        return cgroup_attach(s->cgroups, s->n_cgroups, err);
}

int sandbox_start(Shim *shim, int spec_fd, uint32_t request, KlError **err)
{
        ShimSandbox sandbox = { 0 };
        Mapped mapped;
        int r;

        if (shim->sandbox_fd >= 0) {
                close(spec_fd);
                return kl_error(err, -EEXIST, REASON, "there is a sandbox already");
        }
        shim->sandbox_fd = spec_fd;
        shim->sandbox_request = request;
        r = spec_map(spec_fd, &mapped);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "read sandbox spec");
        r = shim_sandbox_decode(mapped.data, mapped.len, &sandbox);
        if (r == 0 && !sandbox.host_network && sandbox.netns_path[0] != '/')
                r = -EBADMSG;
        if (r < 0)
                kl_error_errno(err, r, REASON, "read sandbox spec");
        else
                r = start_child(shim, &sandbox, err);
        shim_sandbox_deinit(&sandbox);
        spec_unmap(&mapped);
        if (r < 0) {
                sandbox_stop_making(shim);
                shim->sandbox_state = SHIM_SANDBOX_FAILED;
                shim->sandbox_code = r;
        }
        return r;
}

/* It is dead when this returns, so that it pins nothing any more. */
void sandbox_stop_making(Shim *shim)
{
        if (shim->sandbox.fd < 0)
                return;
        source_close(shim, &shim->sandbox);
        kill(shim->sandbox_pid, SIGKILL);
        while (waitpid(shim->sandbox_pid, NULL, 0) < 0 && errno == EINTR)
                ;
        shim->sandbox_pid = 0;
}

void sandbox_unpin(Shim *shim)
{
        char path[64];

        if (shim->netns_path && shim->netns_path[0]) {
                umount2(shim->netns_path, MNT_DETACH | UMOUNT_NOFOLLOW);
                unlink(shim->netns_path);
        }
        for (int i = 0; i < 2; i++) {
                const char *name = i == 0 ? SHIM_IPC_PIN_NAME : SHIM_UTS_PIN_NAME;

                snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", shim->state_fd, name);
                umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
                unlinkat(shim->state_fd, name, 0);
        }
}

/* --- in the shim's children --- */

int sandbox_join(const Shim *shim, KlError **err)
{
        if ((shim->net_fd >= 0 && setns(shim->net_fd, CLONE_NEWNET) < 0) ||
            (shim->ipc_fd >= 0 && setns(shim->ipc_fd, CLONE_NEWIPC) < 0) ||
            (shim->uts_fd >= 0 && setns(shim->uts_fd, CLONE_NEWUTS) < 0))
                return kl_error_errno(err, -errno, "StartError", "join the pod's namespaces");
        return 0;
}

int sandbox_join_user(const Shim *shim, KlError **err)
{
        int r = 0;

        if (setns(shim->user_fd, CLONE_NEWUSER) < 0 || setgroups(0, NULL) < 0 ||
            setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
                r = kl_error_errno(err, -errno, "StartError", "join the pod's user namespace");
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        return r;
}

int sandbox_open_shm(const Shim *shim, KlError **err)
{
        KL_AUTOFD int here = -1, root = -1, fd = -1;

        if (shim->shm_ns_fd < 0) {
                fd = sys_open_tree(AT_FDCWD, "/dev/shm", OPEN_TREE_CLONE);
                return fd < 0 ? kl_error_errno(err, fd, "StartError", "clone '/dev/shm'")
                              : KL_STEAL_FD(fd);
        }
        here = open_ns(0, "mnt", err);
        if (here < 0)
                return KL_STEAL_FD(here);
        root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return kl_error_errno(err, -errno, "StartError", "open '/'");
        if (setns(shim->shm_ns_fd, CLONE_NEWNS) < 0)
                return kl_error_errno(err, -errno, "StartError", "enter the pod's shm");
        fd = sys_open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE);
        /* Back at the root that this process had, which in a chroot is not the namespace's. */
        if (setns(here, CLONE_NEWNS) < 0 || fchdir(root) < 0 || chroot(".") < 0)
                return kl_error_errno(err, -errno, "StartError", "leave the pod's shm");
        return fd < 0 ? kl_error_errno(err, fd, "StartError", "clone the pod's shm")
                      : KL_STEAL_FD(fd);
}
