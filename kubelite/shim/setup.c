/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the shim's children do to become a container's first process, or an exec in it. They are
 * not dumpable, and hold nothing that a container could reach, before its program runs. Errors go
 * to the shim by the status socket; that socket closing without one means that the program was
 * executed.
 *
 * A container in the host's user namespace is one process, born in its pid and mount namespace.
 * With a user namespace there are two stages: the first keeps the host's privileges for the
 * overlay, the ids of mounts and /dev, then becomes root of the pod's user namespace and makes the
 * second, its sibling, with namespaces that belong to it.
 */

#include "shim/shim-internal.h"

#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define REASON "StartError"

int report_send(int status_fd, const Report *report, int fd)
{
        return packet_send(status_fd, report, sizeof(*report), &fd, fd >= 0, true);
}

void setup_fail(const Setup *setup, int code, KlError *err)
{
        Report report = { .kind = REPORT_ERROR, .code = code };

        snprintf(report.reason, sizeof(report.reason), "%s", kl_error_reason(err, REASON));
        snprintf(report.message, sizeof(report.message), "%s",
                 err ? kl_error_msg(err) : strerror(code < 0 ? -code : code));
        report_send(setup->status_fd, &report, -1);
        _exit(1);
}

static void fail_if(const Setup *setup, int r, KlError *err)
{
        if (r < 0)
                setup_fail(setup, r, err);
}

/* Lowering below what the kernel permits is refused; what the process has is kept then. */
static int set_oom_score(const ShimStart *start, KlError **err)
{
        int r = file_store_number(AT_FDCWD, "/proc/self/oom_score_adj", start->oom_score_adj);

        return r < 0 && r != -EACCES && r != -EPERM
                       ? kl_error_errno(err, r, REASON, "set oom_score_adj")
                       : 0;
}

/* HOME and the end. */
static int copy_env(Setup *setup, char *const *env, char *const *extra)
{
        size_t n = strv_len(env), m = strv_len(extra);

        setup->env = calloc(n + m + 2, sizeof(*setup->env));
        if (!setup->env)
                return -ENOMEM;
        memcpy(setup->env, env, n * sizeof(*env));
        if (m)
                memcpy(setup->env + n, extra, m * sizeof(*extra));
        return 0;
}

static int open_pty(Setup *setup, bool console, KlError **err)
{
        Report report = { .kind = REPORT_TTY };
        KL_AUTOFD int master = -1;
        int slave, r;

        if (!setup->tty)
                return 0;
        r = setup_pty(setup->root_fd, &master, &slave, err);
        if (r == 0 && console)
                r = setup_console(setup, slave, err);
        if (r == 0)
                r = report_send(setup->status_fd, &report, master);
        for (int i = 0; i < 3; i++)
                setup->stdio[i] = slave;
        return r;
}

/* Takes effect with the program. Here the host's /proc is at hand, and no container's. */
static int enter_apparmor(const ShimStart *start, KlError **err)
{
        static const char *const files[] = { "/proc/self/attr/apparmor/exec",
                                             "/proc/self/attr/exec" };
        KL_AUTOBUF text = BUF_INIT;
        KL_AUTOFD int fd = -1;
        ssize_t n;

        if (str_empty(start->apparmor))
                return 0;
        for (size_t i = 0; fd < 0 && i < ELEMENTS(files); i++)
                fd = open(files[i], O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return kl_error_errno(err, -errno, REASON, "AppArmor");
        buf_addf(&text, "exec %s", start->apparmor);
        if (buf_error(&text))
                return -ENOMEM;
        n = write(fd, text.data, text.len);
        if (n < 0)
                return kl_error_errno(err, -errno, REASON, "AppArmor profile '%s'",
                                      start->apparmor);
        return (size_t)n == text.len ? 0 : -EIO;
}

/* Pipes are the host root's, and unmapped owners are nobody to the pod's root: it could neither
 * open /dev/stdout again nor give it to the user. With the host's privileges. */
static void give_stdio(const Setup *setup)
{
        struct stat st;

        for (int i = 0; setup->shim->user_ns && i < 3; i++)
                if (setup->stdio[i] >= 0 && fstat(setup->stdio[i], &st) == 0 &&
                    S_ISFIFO(st.st_mode))
                        (void)!fchown(setup->stdio[i], setup->shim->root_uid,
                                      setup->shim->root_gid);
}

static int make_devices(Setup *setup, KlError **err)
{
        for (size_t i = 0; i < setup->start->n_mounts; i++)
                if (setup->start->mounts[i].kind == SHIM_MOUNT_DEV)
                        return setup_dev(setup, &setup->start->mounts[i], err);
        return 0;
}

/* In the container's namespaces; root is what the pod's user namespace calls so. */
_Noreturn static void finish_container(Setup *setup)
{
        KlError *err = NULL;
        int r = 0;

        if (unshare(CLONE_NEWCGROUP) < 0)
                r = kl_error_errno(&err, -errno, REASON, "make cgroup namespace");
        if (r == 0)
                r = setup_attach_root(setup, &err);
        if (r == 0)
                r = setup_mounts(setup, &err);
        if (r == 0)
                r = open_pty(setup, true, &err);
        if (r == 0)
                r = user_lookup(&setup->start->user, setup->root_fd, &setup->user, &err);
        if (r == 0 && setup->start->read_only_root) {
                /* While it can be written. */
                setup_make_cwd(setup);
                r = setup_read_only(setup->root_fd);
                if (r < 0)
                        kl_error_errno(&err, r, REASON, "make root read-only");
        }
        if (r == 0)
                r = setup_pivot(setup, &err);
        fail_if(setup, r, err);
        setup_run(setup);
}

/* First stage with a user namespace: the second one is our sibling, a child of the shim. */
_Noreturn static void finish_in_user_ns(Setup *setup)
{
        Report report = { .kind = REPORT_PID };
        uint64_t flags = CLONE_PARENT;
        KlError *err = NULL;
        int r = 0;

        /* Only for children, and while the host's privileges may look at its undumpable init. */
        if (setup->pid_holder > 0) {
                KL_AUTOFD int pidfd = sys_pidfd_open(setup->pid_holder);

                r = pidfd < 0 ? pidfd : setns(pidfd, CLONE_NEWPID) < 0 ? -errno : 0;
                if (r < 0)
                        kl_error_errno(&err, r, REASON, "join pid namespace");
        } else if (!setup->shim->host_pid) {
                flags |= CLONE_NEWPID;
        }
        if (r == 0)
                r = sandbox_join_user(setup->shim, &err);
        if (r == 0)
                r = sandbox_join(setup->shim, &err);
        if (r == 0 && unshare(CLONE_NEWNS) < 0)
                r = kl_error_errno(&err, -errno, REASON, "make mount namespace");
        if (r == 0)
                r = sys_fork(flags, -1);
        if (r == 0)
                finish_container(setup);
        if (r < 0)
                setup_fail(setup, r, err);
        report.code = r;
        report_send(setup->status_fd, &report, -1);
        _exit(0);
}

/* Host's user namespace and privileges; from the overlay on in a mount namespace of its own. */
void setup_container(Setup *setup)
{
        const ShimStart *start = setup->start;
        bool v2 = cgroup_with_role(start->cgroups, start->n_cgroups, SHIM_CGROUP_UNIFIED);
        KlError *err = NULL;
        int r;

        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        if (setup->start->handler)
                handler_container(setup);
        give_stdio(setup);
        r = enter_apparmor(start, &err);
        if (r == 0)
                r = copy_env(setup, setup->start->env, NULL);
        if (r == 0 && !v2)
                r = cgroup_attach(start->cgroups, start->n_cgroups, &err);
        if (r == 0)
                r = setup_overlay(setup, &err);
        if (r == 0)
                r = make_devices(setup, &err);
        if (r == 0)
                r = setup_idmap(setup, &err);
        if (r == 0)
                r = setup->shm_fd = sandbox_open_shm(setup->shim, &err);
        if (r >= 0)
                r = set_oom_score(setup->start, &err);
        fail_if(setup, r, err);
        if (setup->shim->user_ns && chdir(setup->shim->state_path) < 0)
                fail_if(setup, kl_error_errno(&err, -errno, REASON, "enter the state directory"),
                        err);
        if (setup->shim->user_ns)
                finish_in_user_ns(setup);
        fail_if(setup, sandbox_join(setup->shim, &err), err);
        finish_container(setup);
}

static int join_cgroups(const Setup *setup, const char *exec_cgroup, KlError **err)
{
        const ShimStart *start = setup->start;
        int r = 0;

        /* v2: born there. v1: its own group where it is killed, the container's elsewhere. */
        if (cgroup_with_role(start->cgroups, start->n_cgroups, SHIM_CGROUP_UNIFIED))
                return 0;
        for (size_t i = 0; r == 0 && i < start->n_cgroups; i++) {
                ShimCgroup one = start->cgroups[i];
                KL_AUTOFREE char *path = NULL;

                if (one.roles & SHIM_CGROUP_FREEZER)
                        one.path = path = str_format("%s/%s", one.path, exec_cgroup);
                r = one.path ? cgroup_attach(&one, 1, err) : -ENOMEM;
        }
        return r;
}

void setup_exec(Setup *setup, const ShimExec *exec, int pidfd, const char *exec_cgroup)
{
        int flags = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNS;
        KlError *err = NULL;
        int r;

        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        give_stdio(setup);
        r = enter_apparmor(setup->start, &err);
        if (r == 0)
                r = copy_env(setup, setup->start->env, exec->extra_env);
        if (r == 0)
                r = join_cgroups(setup, exec_cgroup, &err);
        if (r == 0)
                r = set_oom_score(setup->start, &err);
        if (r == 0 && setns(pidfd, flags | (setup->shim->user_ns ? CLONE_NEWUSER : 0)) < 0)
                r = kl_error_errno(&err, -errno, REASON, "join the container's namespaces");
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        if (r == 0 && setup->shim->user_ns &&
            (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
                r = kl_error_errno(&err, -errno, REASON, "become root of the user namespace");
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        if (r == 0) {
                setup->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
                r = setup->root_fd < 0 ? -errno : open_pty(setup, false, &err);
        }
        if (r == 0)
                r = user_lookup(&setup->start->user, setup->root_fd, &setup->user, &err);
        fail_if(setup, r, err);
        setup_run(setup);
}
