/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pid 1 of a shared pid namespace. Every container of the pod can see it, so there is nothing to
 * find: it is not dumpable from before it joins anything, its root is an empty read-only file
 * system, it is nobody without capabilities and without descriptors. It only reaps.
 */

#include "shim/shim-internal.h"

#include "shim/sys.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#define INIT_ID 65535U

static int empty_root(void)
{
        KL_AUTOFD int tree = -1, at = -1;
        int r = 0;

        if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
                return -errno;
        tree = setup_new_mount(
                "tmpfs", "mode=555,nr_inodes=2",
                MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID, NULL);
        at = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (tree < 0 || at < 0)
                return -EIO;
        r = sys_move_mount(tree, at);
        if (r == 0 && (fchdir(tree) < 0 || sys_pivot_root(".", ".") < 0 ||
                       umount2(".", MNT_DETACH) < 0 || chdir("/") < 0))
                r = -errno;
        return r;
}

static int drop_all(void)
{
        struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
        struct __user_cap_data_struct none[2] = { { 0 } };

        for (int cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
                ;
        if (syscall(SYS_setgroups, 0, NULL) < 0 ||
            syscall(SYS_setresgid, INIT_ID, INIT_ID, INIT_ID) < 0 ||
            syscall(SYS_setresuid, INIT_ID, INIT_ID, INIT_ID) < 0)
                return -errno;
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        if (syscall(SYS_capset, &head, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        return 0;
}

/* As pid 1 of the new namespace, with its own copy of the host's mounts. */
_Noreturn static void init_main(const Shim *shim, int ready_fd)
{
        struct sigaction ignore = { .sa_handler = SIG_IGN };
        sigset_t none;
        int r;

        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        prctl(PR_SET_NAME, "kubelite-init");
        r = shim->user_ns ? 0 : sandbox_join(shim, NULL);
        if (r == 0)
                r = empty_root();
        if (r == 0)
                r = drop_all();
        /* Children that nobody waits for vanish by themselves. */
        sigaction(SIGCHLD, &ignore, NULL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (r < 0 || write(ready_fd, "", 1) != 1)
                _exit(1);
        sys_close_range(0, UINT_MAX);
        for (;;)
                pause();
}

/* In a user namespace: becomes its root first, then makes the pid namespace as its owner. */
_Noreturn static void init_in_user_ns(const Shim *shim, int ready_fd, int pid_fd)
{
        pid_t pid;
        int r;

        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        r = sandbox_join_user(shim, NULL);
        if (r == 0)
                r = sandbox_join(shim, NULL);
        pid = r < 0 ? r : sys_fork(CLONE_PARENT | CLONE_NEWPID | CLONE_NEWNS, -1);
        if (pid == 0)
                init_main(shim, ready_fd);
        if (pid < 0 || write(pid_fd, &pid, sizeof(pid)) != sizeof(pid))
                _exit(1);
        _exit(0);
}

/* Waits for it to be locked up: no container may join before. */
static pid_t wait_ready(int ready_fd)
{
        char byte;
        ssize_t n;

        do
                n = read(ready_fd, &byte, 1);
        while (n < 0 && errno == EINTR);
        return n == 1 ? 0 : -EIO;
}

pid_t pod_init_start(Shim *shim)
{
        int ready[2], pids[2];
        pid_t pid, init = -EIO;
        int r;

        if (pipe2(ready, O_CLOEXEC) < 0)
                return -errno;
        if (pipe2(pids, O_CLOEXEC) < 0) {
                r = -errno;
                close(ready[0]);
                close(ready[1]);
                return r;
        }
        pid = sys_fork(shim->user_ns ? 0 : CLONE_NEWPID | CLONE_NEWNS, -1);
        if (pid == 0 && shim->user_ns)
                init_in_user_ns(shim, ready[1], pids[1]);
        if (pid == 0)
                init_main(shim, ready[1]);
        close(ready[1]);
        close(pids[1]);
        if (pid > 0 && !shim->user_ns)
                init = pid;
        else if (pid > 0 && read(pids[0], &init, sizeof(init)) != sizeof(init))
                init = -EIO;
        r = pid < 0 ? pid : init < 0 ? init : wait_ready(ready[0]);
        if (r < 0 && init > 0)
                kill(init, SIGKILL);
        close(ready[0]);
        close(pids[0]);
        return r < 0 ? r : init;
}
