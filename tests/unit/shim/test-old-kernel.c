/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Older kernels, played by a seccomp filter that lets newer system calls fail with ENOSYS for the
 * shim and all that it starts. The parent only waits for the verdict of the filtered child.
 */

#include "tests/unit/shim/harness.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define ARGS(...) ((char *const *)(uintptr_t)(const char *const[]){ __VA_ARGS__, NULL })

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

static void forbid(long number)
{
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)number, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { ELEMENTS(filter), filter };

        assert_int_equal(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), 0);
}

static void test_without_mount_setattr(void **state)
{
        World *w;
        ShimSandbox sandbox;
        KL_AUTOFREE char *out = NULL, *volume = NULL;
        int fd;
        Run run;

        forbid(SYS_mount_setattr);
        w = world_new();
        sandbox = sandbox_default(w);
        volume = str_format("%s/volume", w->dir);
        world_sandbox(w, &sandbox);
        mkdir(volume, 0755);
        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "exec 2>/dev/null; echo x > /v/f || echo ro; echo x > /f || echo roroot;"
                      "echo x > /proc/sys/kernel/domainname || echo rosys; grep -c ' /v ' "
                      "/proc/mounts;"
                      "mkdir /sys/fs/cgroup/x || echo rocgroup"));
        fd = sys_open_tree(AT_FDCWD, volume, OPEN_TREE_CLONE);
        run.mounts[run.start.n_mounts++] =
                (ShimMount){ SHIM_MOUNT_BIND, "/v", fd, SHIM_MOUNT_RO, 0, NULL };
        run.start.read_only_root = true;
        out = run_to_end(w, &run);
        if (container_of_id(w, "c1")->start_error)
                fail_msg("%s", container_of_id(w, "c1")->message);
        assert_string_equal(out, "ro\nroroot\nrosys\n1\nrocgroup\n");
        /* A recursive read-only mount cannot be had: an error, not a writable mount. */
        close(fd);
        fd = sys_open_tree(AT_FDCWD, volume, OPEN_TREE_CLONE);
        run_init(w, &run, "c2", ARGS("true"));
        run.mounts[run.start.n_mounts++] =
                (ShimMount){ SHIM_MOUNT_BIND, "/v", fd, SHIM_MOUNT_RO_RECURSIVE, 0, NULL };
        free(run_to_end(w, &run));
        assert_int_equal(container_of_id(w, "c2")->start_error, 1);
        assert_int_equal(container_of_id(w, "c2")->error_code, -ENOSYS);
        close(fd);
        world_free(w);
}

static int in_child(const struct CMUnitTest *tests)
{
        int status;
        pid_t pid = fork();

        if (pid == 0)
                _exit(_cmocka_run_group_tests("old kernel", tests, 1, NULL, NULL) != 0);
        return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_without_mount_setattr) };
        int failed = 0;

        if (geteuid() != 0)
                return SKIPPED;
        for (size_t i = 0; i < ELEMENTS(tests); i++)
                failed += in_child(&tests[i]);
        return failed;
}
