/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The walls around the parsers of hostile bytes. Each role is a process of its own, started by
 * exec, hence without its parent's memory (credentials of registries). It begins as root, calls one
 * of these functions before it reads the first byte, and cannot go back.
 */

#include "image/worker/confine-internal.h"

#include "base/str.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define NOBODY 65534
#define READER_ROOT "/proc"

static int failed(const char *what, KlError **err)
{
        return kl_error_errno(err, -errno, NULL, "confine: %s", what);
}

/* --- capabilities --- */

static const int unpacker_caps[] = { CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,
                                     CAP_FSETID, CAP_MKNOD,        CAP_SETFCAP };

static int keep_capabilities(const int *caps, size_t n, KlError **err)
{
        struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
        struct __user_cap_data_struct data[2] = { { 0 } };

        for (size_t i = 0; i < n; i++) {
                data[caps[i] / 32].effective |= 1U << (caps[i] % 32);
                data[caps[i] / 32].permitted |= 1U << (caps[i] % 32);
        }
        /* the bounding set first, while CAP_SETPCAP is there; without it no_new_privs must do */
        for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
                if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM)
                        return failed("drop capabilities", err);
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
                return failed("drop ambient capabilities", err);
        if (syscall(SYS_capset, &header, data) < 0)
                return failed("set capabilities", err);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return failed("set no_new_privs", err);
        return 0;
}

/* --- root --- */

/*
 * Makes directory the root and leaves no other mount. On a machine that runs from its initial RAM
 * disk pivot_root(2) is not possible; then the mount is moved over the root.
 */
static int change_root(const char *directory, unsigned long flags, KlError **err)
{
        if (mount(directory, directory, NULL, MS_BIND, NULL) < 0 || chdir(directory) < 0)
                return failed("bind the root", err);
        if (mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC | flags,
                  NULL) < 0)
                return failed("restrict the root", err);
        if (syscall(SYS_pivot_root, ".", ".") == 0) {
                if (umount2(".", MNT_DETACH) < 0)
                        return failed("leave the old root", err);
        } else if (errno != EINVAL || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) {
                return failed("change the root", err);
        }
        return chdir("/") < 0 ? failed("change the root", err) : 0;
}

static int leave_namespaces(KlError **err)
{
        if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
                return failed("leave the namespaces", err);
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return failed("make mounts private", err);
        return 0;
}

/* --- system calls --- */

static const int file_reader_calls[] = {
        SCMP_SYS(read),
        SCMP_SYS(pread64),
        SCMP_SYS(readv),
        SCMP_SYS(write),
        SCMP_SYS(writev),
        SCMP_SYS(lseek),
        SCMP_SYS(_llseek),
        SCMP_SYS(close),
        SCMP_SYS(fstat),
        SCMP_SYS(fstat64),
        SCMP_SYS(fcntl),
        SCMP_SYS(fcntl64),
        SCMP_SYS(poll),
        SCMP_SYS(ppoll),
        SCMP_SYS(fadvise64),
        SCMP_SYS(brk),
        SCMP_SYS(mmap),
        SCMP_SYS(mmap2),
        SCMP_SYS(munmap),
        SCMP_SYS(mremap),
        SCMP_SYS(madvise),
        SCMP_SYS(futex),
        SCMP_SYS(getrandom),
        SCMP_SYS(clock_gettime),
        SCMP_SYS(clock_gettime64),
        SCMP_SYS(gettimeofday),
        SCMP_SYS(time),
        SCMP_SYS(exit),
        SCMP_SYS(exit_group),
        SCMP_SYS(rt_sigreturn),
        SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(rt_sigaction),
        SCMP_SYS(sigaltstack),
        SCMP_SYS(getpid),
        SCMP_SYS(gettid),
        SCMP_SYS(tgkill),
        SCMP_SYS(restart_syscall),
        SCMP_SYS(sched_yield),
        SCMP_SYS(rseq),
        SCMP_SYS(prlimit64),
};

static const int unpacker_calls[] = {
        SCMP_SYS(openat),           SCMP_SYS(openat2),
        SCMP_SYS(pwrite64),         SCMP_SYS(ftruncate),
        SCMP_SYS(ftruncate64),      SCMP_SYS(mkdirat),
        SCMP_SYS(mknodat),          SCMP_SYS(linkat),
        SCMP_SYS(symlinkat),        SCMP_SYS(unlinkat),
        SCMP_SYS(fchown),           SCMP_SYS(fchownat),
        SCMP_SYS(fchmod),           SCMP_SYS(fchmodat),
        SCMP_SYS(fsetxattr),        SCMP_SYS(utimensat),
        SCMP_SYS(utimensat_time64), SCMP_SYS(newfstatat),
        SCMP_SYS(fstatat64),        SCMP_SYS(statx),
        SCMP_SYS(getdents64),       SCMP_SYS(sync_file_range),
        SCMP_SYS(sync_file_range2),
};

/* A client of the network through curl and the resolver needs more than could be listed with
 * confidence; what could make it more than that is taken away. */
static const int fetcher_denied[] = {
        SCMP_SYS(execve),
        SCMP_SYS(execveat),
        SCMP_SYS(ptrace),
        SCMP_SYS(process_vm_readv),
        SCMP_SYS(process_vm_writev),
        SCMP_SYS(unshare),
        SCMP_SYS(setns),
        SCMP_SYS(mount),
        SCMP_SYS(umount2),
        SCMP_SYS(pivot_root),
        SCMP_SYS(chroot),
        SCMP_SYS(fsopen),
        SCMP_SYS(fsmount),
        SCMP_SYS(move_mount),
        SCMP_SYS(open_tree),
        SCMP_SYS(mount_setattr),
        SCMP_SYS(bpf),
        SCMP_SYS(perf_event_open),
        SCMP_SYS(userfaultfd),
        SCMP_SYS(keyctl),
        SCMP_SYS(add_key),
        SCMP_SYS(request_key),
        SCMP_SYS(init_module),
        SCMP_SYS(finit_module),
        SCMP_SYS(delete_module),
        SCMP_SYS(kexec_load),
        SCMP_SYS(kexec_file_load),
        SCMP_SYS(io_uring_setup),
        SCMP_SYS(io_uring_enter),
        SCMP_SYS(io_uring_register),
        SCMP_SYS(pidfd_getfd),
        SCMP_SYS(open_by_handle_at),
        SCMP_SYS(personality),
        SCMP_SYS(reboot),
        SCMP_SYS(swapon),
        SCMP_SYS(swapoff),
        SCMP_SYS(acct),
        SCMP_SYS(setuid),
        SCMP_SYS(setgid),
        SCMP_SYS(setresuid),
        SCMP_SYS(setresgid),
        SCMP_SYS(setgroups),
        SCMP_SYS(capset),
};

static int add_rules(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                int r = seccomp_rule_add(filter, action, calls[i], 0);

                if (r < 0 && r != -EEXIST)
                        return r;
        }
        return 0;
}

/* Memory may change its protection, but never to executable. */
static int add_mprotect(scmp_filter_ctx filter)
{
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

static void filter_release(scmp_filter_ctx *filter)
{
        seccomp_release(*filter);
}

static int load_filter(scmp_filter_ctx filter, int r, KlError **err)
{
        if (r == 0)
                r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
        if (r == 0)
                r = seccomp_load(filter);
        return r < 0 ? kl_error_errno(err, r, NULL, "confine: filter system calls") : 0;
}

/* What is not listed answers ENOSYS, so that libraries take their older way. */
static int allow_calls(const int *more, size_t n, KlError **err)
{
        __attribute__((cleanup(filter_release))) scmp_filter_ctx filter =
                seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
        int r;

        if (!filter)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = add_rules(filter, SCMP_ACT_ALLOW, file_reader_calls, ELEMENTS(file_reader_calls));
        if (r == 0)
                r = add_rules(filter, SCMP_ACT_ALLOW, more, n);
        if (r == 0)
                r = add_mprotect(filter);
        return load_filter(filter, r, err);
}

static int deny_calls(KlError **err)
{
        __attribute__((cleanup(filter_release))) scmp_filter_ctx filter =
                seccomp_init(SCMP_ACT_ALLOW);
        int r;

        if (!filter)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = add_rules(filter, SCMP_ACT_ERRNO(EPERM), fetcher_denied, ELEMENTS(fetcher_denied));
        return load_filter(filter, r, err);
}

/* --- files of the fetcher --- */

static void allow_reading(int ruleset, const char *path)
{
        KL_AUTOFD int fd = open(path, O_PATH | O_CLOEXEC);
        struct landlock_path_beneath_attr beneath = {
                .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
                .parent_fd = fd,
        };

        if (fd >= 0)
                syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
}

/* A second wall behind the user id; a kernel without Landlock goes without it. */
static int restrict_files(KlError **err)
{
        static const char *const readable[] = { "/etc",
                                                "/usr",
                                                "/lib",
                                                "/lib64",
                                                "/run/systemd/resolve",
                                                "/run/resolvconf",
                                                "/run/NetworkManager",
                                                "/dev/urandom",
                                                "/var/lib/ca-certificates" };
        struct landlock_ruleset_attr attr = { .handled_access_fs = (1ULL << 13) - 1 };
        KL_AUTOFD int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

        if (ruleset < 0)
                return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : failed("restrict files", err);
        for (size_t i = 0; i < ELEMENTS(readable); i++)
                allow_reading(ruleset, readable[i]);
        if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
                return failed("restrict files", err);
        return 0;
}

static int become_nobody(KlError **err)
{
        if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
            setresuid(NOBODY, NOBODY, NOBODY) < 0)
                return failed("change the user", err);
        /* the change of user cleared it */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
                return failed("follow the parent", err);
        return 0;
}

/* --- the roles --- */

int confine_unpacker(const char *directory, KlError **err)
{
        int r = prctl(PR_SET_DUMPABLE, 0) < 0 ? failed("become undumpable", err) : 0;

        if (r == 0)
                r = leave_namespaces(err);
        if (r == 0)
                r = change_root(directory, 0, err);
        if (r == 0)
                r = keep_capabilities(unpacker_caps, ELEMENTS(unpacker_caps), err);
        return r;
}

int confine_unpacker_calls(KlError **err)
{
        return allow_calls(unpacker_calls, ELEMENTS(unpacker_calls), err);
}

int confine_reader(KlError **err)
{
        int r = leave_namespaces(err);

        if (r == 0 &&
            mount("none", READER_ROOT, "tmpfs", MS_NOSUID, "size=0,nr_inodes=1,mode=0") < 0)
                r = failed("mount an empty root", err);
        if (r == 0)
                r = change_root(READER_ROOT, MS_RDONLY, err);
        if (r == 0)
                r = become_nobody(err);
        if (r == 0)
                r = keep_capabilities(NULL, 0, err);
        if (r == 0)
                r = allow_calls(NULL, 0, err);
        return r;
}

int confine_fetcher(KlError **err)
{
        int r = restrict_files(err);

        if (r == 0)
                r = become_nobody(err);
        if (r == 0)
                r = keep_capabilities(NULL, 0, err);
        if (r == 0)
                r = deny_calls(err);
        return r;
}
