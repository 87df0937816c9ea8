/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The last steps of a set-up, in the container's root and namespaces: directory, standard streams,
 * limits, credentials, seccomp, program. Order matters:
 *  - a filter without no_new_privs needs CAP_SYS_ADMIN, so it goes in before capabilities are
 *    dropped; with no_new_privs it is the last thing before the program;
 *  - changes of credentials make the process dumpable as the sysctl says, so that is taken back
 *    after each, until exec makes it the container's own;
 *  - the directory is checked after all descriptors that could lead out of the root are closed.
 */

#include "shim/shim-internal.h"

#include "base/str.h"
#include "shim/program.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define REASON "StartError"
#define STATUS_FD 3
#define CAP_LIMIT 64
#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif
#define SECCOMP_MODE_SET_FILTER 1

static int set_stdio(Setup *setup, KlError **err)
{
        for (int i = 0; i < 3; i++) {
                int fd = setup->stdio[i];
                struct stat st;

                if (fd < 0)
                        fd = open("/dev/null",
                                  i == 0 ? O_RDONLY | O_CLOEXEC : O_WRONLY | O_CLOEXEC);
                if (fd < 0)
                        return kl_error_errno(err, -errno, REASON, "open '/dev/null'");
                /* So that the user may open /dev/stdout and /dev/stderr again. */
                if (setup->stdio[i] >= 0 && fstat(fd, &st) == 0 &&
                    (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
                        (void)!fchown(fd, setup->user.uid, (gid_t)-1);
                if (dup2(fd, i) < 0)
                        return kl_error_errno(err, -errno, REASON, "set standard streams");
        }
        if (setsid() < 0)
                return kl_error_errno(err, -errno, REASON, "make session");
        if (setup->tty && ioctl(0, TIOCSCTTY, 0) < 0)
                return kl_error_errno(err, -errno, REASON, "take terminal");
        return 0;
}

/* From here on there are 0, 1, 2 and the status socket, which exec closes. */
static int close_others(Setup *setup)
{
        if (setup->status_fd != STATUS_FD) {
                if (dup3(setup->status_fd, STATUS_FD, O_CLOEXEC) < 0)
                        return -errno;
                setup->status_fd = STATUS_FD;
        }
        return sys_close_range(STATUS_FD + 1, UINT_MAX);
}

/* What exists but does not resolve beneath the root is left to chdir, and its check. */
void setup_make_cwd(const Setup *setup)
{
        int fd = setup_target(setup->root_fd, setup->cwd, true, true, NULL);

        kl_close(fd);
}

static int enter_cwd(const Setup *setup, bool last, KlError **err)
{
        const char *cwd = *setup->cwd ? setup->cwd : "/";
        char where[PATH_MAX];
        long n;

        if (chdir(cwd) < 0) {
                if (!last && errno == EACCES)
                        return 0;
                return kl_error_errno(err, -errno, REASON, "chdir to cwd (\"%.512s\")", cwd);
        }
        /* The system call and not the library, which hides the mark of a directory outside. */
        n = syscall(SYS_getcwd, where, sizeof(where));
        if (n < 0 || where[0] != '/')
                return kl_error(
                        err, -EPERM, REASON,
                        "current working directory \"%.512s\" is outside of the container's root",
                        cwd);
        return 0;
}

static int set_rlimits(const ShimStart *start, KlError **err)
{
        for (size_t i = 0; i < start->n_rlimits; i++) {
                const ShimRlimit *limit = &start->rlimits[i];
                struct rlimit now, want = { limit->soft, limit->hard };

                if (setrlimit((int)limit->resource, &want) == 0)
                        continue;
                if (errno != EPERM || getrlimit((int)limit->resource, &now) < 0)
                        return kl_error_errno(err, -errno, REASON, "set limit %u", limit->resource);
                if (want.rlim_max > now.rlim_max)
                        want.rlim_max = now.rlim_max;
                if (want.rlim_cur > want.rlim_max)
                        want.rlim_cur = want.rlim_max;
                if (setrlimit((int)limit->resource, &want) < 0)
                        return kl_error_errno(err, -errno, REASON, "set limit %u", limit->resource);
        }
        return 0;
}

static int set_seccomp(const ShimStart *start, KlError **err)
{
        struct sock_fprog program = {
                .len = (unsigned short)(start->seccomp_size / sizeof(struct sock_filter)),
                .filter = (struct sock_filter *)(uintptr_t)start->seccomp,
        };

        if (!start->seccomp)
                return 0;
        if (syscall(SYS_seccomp, SECCOMP_MODE_SET_FILTER, start->seccomp_flags, &program) < 0)
                return kl_error_errno(err, -errno, REASON, "load seccomp filter");
        return 0;
}

static int set_bounding(uint64_t mask, KlError **err)
{
        for (int cap = 0; cap < CAP_LIMIT; cap++) {
                int there = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

                if (there < 0)
                        break;
                if (there && !(mask & (UINT64_C(1) << cap)) &&
                    prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
                        return kl_error_errno(err, -errno, REASON, "drop capability %d", cap);
        }
        return 0;
}

/* Inheritable stays empty: it would survive into what the container executes. */
static int set_capabilities(uint64_t mask, KlError **err)
{
        struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
        struct __user_cap_data_struct data[2];

        if (syscall(SYS_capget, &head, data) < 0)
                return kl_error_errno(err, -errno, REASON, "read capabilities");
        for (int i = 0; i < 2; i++) {
                data[i].permitted &= (uint32_t)(mask >> (32 * i));
                data[i].effective = data[i].permitted;
                data[i].inheritable = 0;
        }
        if (syscall(SYS_capset, &head, data) < 0)
                return kl_error_errno(err, -errno, REASON, "set capabilities");
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        return 0;
}

static int ids_error(int code, const char *what, KlError **err)
{
        return code == -EINVAL ? kl_error(err, code, REASON,
                                          "set %s: not an id of the pod's user namespace", what)
                               : kl_error_errno(err, code, REASON, "set %s", what);
}

static int set_ids(const ResolvedUser *user, KlError **err)
{
        gid_t groups[SHIM_GROUPS_MAX];

        for (size_t i = 0; i < user->n_groups; i++)
                groups[i] = user->groups[i];
        if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
                return kl_error_errno(err, -errno, REASON, "keep capabilities");
        /* The plain system calls: the library's would signal threads that do not exist. */
        if (syscall(SYS_setgroups, user->n_groups, groups) < 0)
                return ids_error(-errno, "supplementary groups", err);
        if (syscall(SYS_setresgid, user->gid, user->gid, user->gid) < 0)
                return ids_error(-errno, "group", err);
        if (syscall(SYS_setresuid, user->uid, user->uid, user->uid) < 0)
                return ids_error(-errno, "user", err);
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
                return kl_error_errno(err, -errno, REASON, "keep capabilities");
        return 0;
}

static int set_credentials(Setup *setup, KlError **err)
{
        const ShimStart *start = setup->start;
        int r = 0;

        if (!start->no_new_privs)
                r = set_seccomp(start, err);
        if (r == 0)
                r = set_bounding(start->cap_bounding, err);
        if (r == 0)
                r = set_ids(&setup->user, err);
        if (r == 0)
                r = set_capabilities(start->cap_effective, err);
        if (r == 0 && start->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                r = kl_error_errno(err, -errno, REASON, "set no_new_privs");
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        return r;
}

int setup_report_ids(const Setup *setup)
{
        Report report = { .kind = REPORT_IDS,
                          .uid = setup->user.uid,
                          .gid = setup->user.gid,
                          .n_groups = (uint32_t)setup->user.n_groups };

        memcpy(report.groups, setup->user.groups, setup->user.n_groups * sizeof(report.groups[0]));
        return report_send(setup->status_fd, &report, -1);
}

static int add_home(Setup *setup)
{
        static char home[sizeof("HOME=") + sizeof(setup->user.home)];
        size_t n = 0;

        if (env_get(setup->env, "HOME"))
                return 0;
        while (setup->env[n])
                n++;
        snprintf(home, sizeof(home), "HOME=%s", setup->user.home);
        setup->env[n] = home; /* there is room: see setup.c */
        setup->env[n + 1] = NULL;
        return 0;
}

static void reset_signals(void)
{
        struct sigaction action = { .sa_handler = SIG_DFL };
        sigset_t none;

        for (int i = 1; i < 65; i++)
                sigaction(i, &action, NULL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
}

void setup_run(Setup *setup)
{
        char program[PATH_MAX];
        KlError *err = NULL;
        int r;

        syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
        umask(0022);
        setup_make_cwd(setup);
        r = set_stdio(setup, &err);
        if (r == 0)
                r = setup_report_ids(setup);
        if (r == 0)
                r = close_others(setup);
        if (r == 0)
                r = enter_cwd(setup, false, &err);
        setrlimit(RLIMIT_NOFILE, &setup->shim->nofile);
        if (r == 0)
                r = set_rlimits(setup->start, &err);
        if (r == 0)
                r = set_credentials(setup, &err);
        if (r == 0)
                r = enter_cwd(setup, true, &err);
        if (r == 0)
                r = add_home(setup);
        if (r == 0)
                r = program_find(setup->args[0], setup->env, program, &err);
        if (r < 0)
                setup_fail(setup, r, err);
        reset_signals();
        if (setup->start->no_new_privs) {
                r = set_seccomp(setup->start, &err);
                if (r < 0)
                        setup_fail(setup, r, err);
        }
        execve(program, setup->args, setup->env);
        r = -errno;
        kl_error(&err, r, REASON, "exec %.512s: %s", program,
                 r == -ENOEXEC  ? "exec format error"
                 : r == -ENOENT ? "no such file or directory"
                 : r == -EACCES ? "permission denied"
                                : strerror(-r));
        setup_fail(setup, r, err);
}
