/* SPDX-License-Identifier: Apache-2.0 */

/*
 * RuntimeDefault: what containerd's default profile allows, as a table; compared with its
 * contrib/seccomp at 1.7 and with Docker's, which containerd follows, at 25. As in containerd 2,
 * io_uring is refused. Beyond both: calls that are younger than they are and need no privilege, and
 * no AF_ALG. Everything that is not named here is refused. Lines are grouped by what the calls do;
 * the rules that depend on a capability follow the common ones.
 */

#include "runtime/seccomp-internal.h"

#include "base/str.h"
#include "runtime/caps-internal.h"

#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>

static const char common[] =
        /* files and directories */
        "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 "
        "faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 "
        "fchown fchown32 fchownat fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs "
        "fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 ioctl lchown "
        "lchown32 link linkat listmount _llseek lseek lstat lstat64 mkdir mkdirat mknod mknodat "
        "name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev "
        "pwritev2 read readahead readlink readlinkat readv rename renameat renameat2 rmdir "
        "sendfile sendfile64 splice stat stat64 statfs statfs64 statmount statx symlink symlinkat "
        "sync sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat "
        "utimensat_time64 utimes vmsplice write writev cachestat file_getattr file_setattr "
        /* extended attributes */
        "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr "
        "listxattrat llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr "
        "setxattrat "
        /* watching and waiting */
        "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait "
        "epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init "
        "inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents "
        "io_pgetevents_time64 io_setup io_submit _newselect pipe pipe2 poll ppoll ppoll_time64 "
        "pselect6 pselect6_time64 select signalfd signalfd4 "
        /* memory */
        "brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 "
        "mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc "
        "pkey_free pkey_mprotect process_mrelease remap_file_pages "
        /* processes, threads, scheduling */
        "capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64 "
        "futex_wait futex_waitv futex_wake get_robust_list get_thread_area getcpu getpgid getpgrp "
        "getpid getppid getpriority getrlimit getrusage getsid gettid ioprio_get ioprio_set "
        "landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_open "
        "pidfd_send_signal prctl prlimit64 process_vm_readv process_vm_writev ptrace rseq "
        "restart_syscall sched_getaffinity sched_getattr sched_getparam sched_get_priority_max "
        "sched_get_priority_min sched_getscheduler sched_rr_get_interval "
        "sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam "
        "sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address "
        "setpgid setpriority setrlimit setsid sysinfo times ugetrlimit uname uretprobe vfork wait4 "
        "waitid waitpid riscv_hwprobe "
        /* signals */
        "kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn "
        "rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack "
        "sigprocmask sigreturn tgkill tkill "
        /* users and groups */
        "getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid "
        "getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 "
        "setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid "
        "setresuid32 setreuid setreuid32 setuid setuid32 "
        /* time */
        "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 "
        "clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer "
        "gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun "
        "timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create "
        "timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 "
        /* sockets and messages */
        "accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr "
        "mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend "
        "mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd recv recvfrom recvmmsg "
        "recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg "
        "sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketcall socketpair "
        "getrandom";

static const char of_this_arch[] =
#if defined(__x86_64__) || defined(__i386__)
        "arch_prctl modify_ldt";
#elif defined(__aarch64__) || defined(__arm__)
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";
#elif defined(__s390x__)
        "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr";
#elif defined(__powerpc64__)
        "sync_file_range2 swapcontext";
#elif defined(__riscv)
        "riscv_flush_icache";
#else
        "";
#endif

static const struct {
        unsigned int cap;
        const char *names;
} by_capability[] = {
        { CAP_DAC_READ_SEARCH, "open_by_handle_at" },
        { CAP_SYS_ADMIN,
          "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount "
          "mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd "
          "setdomainname sethostname setns syslog umount umount2 unshare" },
        { CAP_SYS_BOOT, "reboot" },
        { CAP_SYS_CHROOT, "chroot" },
        { CAP_SYS_MODULE, "delete_module init_module finit_module" },
        { CAP_SYS_PACCT, "acct" },
        { CAP_SYS_PTRACE, "kcmp pidfd_getfd process_madvise" },
        { CAP_SYS_RAWIO, "iopl ioperm" },
        { CAP_SYS_TIME, "settimeofday stime clock_settime clock_settime64" },
        { CAP_SYS_TTY_CONFIG, "vhangup" },
        { CAP_SYS_NICE, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node" },
        { CAP_SYSLOG, "syslog" },
        { CAP_BPF, "bpf" },
        { CAP_PERFMON, "perf_event_open" },
};

/* The ABIs that native programs may also use. */
static const uint32_t sub_archs[] = {
#if defined(__x86_64__)
        SCMP_ARCH_X86,
        SCMP_ARCH_X32,
#elif defined(__aarch64__)
        SCMP_ARCH_ARM,
#elif defined(__s390x__)
        SCMP_ARCH_S390,
#endif
        0,
};

#define NEW_NAMESPACES                                                                             \
        (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | \
         CLONE_NEWCGROUP)

/* Linux domain, UNSPEC, …: the host's crypto interface (AF_ALG, 38) and virtual machine sockets
 * (AF_VSOCK, 40), which are not namespaced, are left out. Every comparison is over 64 bits while
 * the kernel looks at 32, so nothing but equality and "less than" is safe here. */
#define SOCKET_DOMAINS_BELOW 38
static const unsigned int socket_domains[] = { 39, 41, 42, 43, 44, 45 };

static const uint64_t personalities[] = { 0, 0x8, 0x20000, 0x20008, 0xffffffff };

#if defined(__s390x__)
#define CLONE_FLAGS_ARG 1
#else
#define CLONE_FLAGS_ARG 0
#endif

#define DEFAULT_RULES_MAX 64

typedef struct Builder {
        Arena *arena;
        SeccompProfile *profile;
        bool failed;
} Builder;

static char **split(Builder *b, const char *names)
{
        size_t n = 1;
        char **v, *text = arena_strdup(b->arena, names), *save = NULL;

        for (const char *p = names; *p; p++)
                n += *p == ' ';
        v = ARENA_ARRAY(b->arena, n + 1, char *);
        if (!v || !text)
                return NULL;
        n = 0;
        for (char *p = strtok_r(text, " ", &save); p; p = strtok_r(NULL, " ", &save))
                v[n++] = p;
        return v;
}

static void add(Builder *b, const char *names, uint32_t action, const SeccompArg *arg)
{
        SeccompRule *rule = &b->profile->rules[b->profile->n_rules];

        rule->names = split(b, names);
        if (!rule->names) {
                b->failed = true;
                return;
        }
        rule->action = action;
        if (arg) {
                rule->args[0] = *arg;
                rule->n_args = 1;
        }
        b->profile->n_rules++;
}

static void add_equal(Builder *b, const char *name, uint64_t value)
{
        add(b, name, SCMP_ACT_ALLOW, &(SeccompArg){ .op = SCMP_CMP_EQ, .value = value });
}

SeccompProfile *seccomp_default_profile(Arena *arena, uint64_t bounding)
{
        Builder b = { .arena = arena, .profile = ARENA_NEW(arena, SeccompProfile) };

        if (!b.profile)
                return NULL;
        b.profile->rules = ARENA_ARRAY(arena, DEFAULT_RULES_MAX, SeccompRule);
        b.profile->archs = ARENA_ARRAY(arena, ELEMENTS(sub_archs), uint32_t);
        if (!b.profile->rules || !b.profile->archs)
                return NULL;
        b.profile->default_action = SCMP_ACT_ERRNO(EPERM);
        b.profile->enosys_for_newer = true;
        for (size_t i = 0; sub_archs[i]; i++)
                b.profile->archs[b.profile->n_archs++] = sub_archs[i];
        add(&b, common, SCMP_ACT_ALLOW, NULL);
        add(&b, of_this_arch, SCMP_ACT_ALLOW, NULL);
        for (size_t i = 0; i < ELEMENTS(personalities); i++)
                add_equal(&b, "personality", personalities[i]);
        add(&b, "socket", SCMP_ACT_ALLOW,
            &(SeccompArg){ .op = SCMP_CMP_LT, .value = SOCKET_DOMAINS_BELOW });
        for (size_t i = 0; i < ELEMENTS(socket_domains); i++)
                add_equal(&b, "socket", socket_domains[i]);
        for (size_t i = 0; i < ELEMENTS(by_capability); i++)
                if (bounding & CAP_BIT(by_capability[i].cap))
                        add(&b, by_capability[i].names, SCMP_ACT_ALLOW, NULL);
        if (!(bounding & CAP_BIT(CAP_SYS_ADMIN))) {
                add(&b, "clone", SCMP_ACT_ALLOW,
                    &(SeccompArg){ .index = CLONE_FLAGS_ARG,
                                   .op = SCMP_CMP_MASKED_EQ,
                                   .value = NEW_NAMESPACES,
                                   .value_two = 0 });
                /* Its flags are behind a pointer: programs must fall back to clone. */
                add(&b, "clone3", SCMP_ACT_ERRNO(ENOSYS), NULL);
        }
        return b.failed ? NULL : b.profile;
}
