/* SPDX-License-Identifier: Apache-2.0 */

#include "../unit.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static char dir[64];

static int setup(void **state)
{
        strncpy(dir, "/tmp/kubelite-file-XXXXXX", sizeof(dir) - 1);
        return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
        return tree_remove(dir);
}

static char *in_dir(const char *name)
{
        return str_format("%s/%s", dir, name);
}

static void put(const char *name, const char *text)
{
        KL_AUTOFREE char *path = in_dir(name);

        assert_int_equal(file_replace(path, text, strlen(text), 0644, false), 0);
}

static void test_read_limits(void **state)
{
        KL_AUTOFREE char *path = in_dir("f");
        KL_AUTOFREE char *text = NULL;
        size_t len;

        put("f", "hello");
        assert_int_equal(file_read(path, 4, &text, &len), -EFBIG);
        assert_int_equal(file_read(path, 5, &text, &len), 0);
        assert_string_equal(text, "hello");
        free(text);
        text = NULL;
        assert_int_equal(file_read("/proc/self/status", 64, &text, &len), -EFBIG);
        assert_int_equal(file_read("/proc/self/status", 1 << 20, &text, &len), 0);
        assert_true(len > 100);
}

static void test_read_refuses_what_blocks(void **state)
{
        KL_AUTOFREE char *path = in_dir("fifo");
        char *text;

        assert_int_equal(mkfifo(path, 0600), 0);
        assert_int_equal(file_read(path, 10, &text, NULL), -EINVAL);
        assert_int_equal(file_read(dir, 10, &text, NULL), -EISDIR);
}

static void test_replace_leaves_nothing(void **state)
{
        KL_AUTOFREE char *path = in_dir("r");
        KL_AUTOFREE char *text = NULL;
        struct stat st;

        put("r", "one");
        assert_int_equal(file_replace(path, "two", 3, 0600, true), 0);
        assert_int_equal(file_read(path, 10, &text, NULL), 0);
        assert_string_equal(text, "two");
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(file_replace("/proc/nowhere/x", "a", 1, 0600, false), -ENOENT);
}

static void test_tree_removal_stays_inside(void **state)
{
        KL_AUTOFREE char *tree = in_dir("tree/a/b");
        KL_AUTOFREE char *top = in_dir("tree");
        KL_AUTOFREE char *link = in_dir("tree/link");
        KL_AUTOFREE char *canary = in_dir("canary");
        KL_AUTOFREE char *mounted = in_dir("tree/a/mnt");

        put("canary", "x");
        assert_int_equal(dir_make_all(tree, 0755), 0);
        assert_int_equal(symlink(dir, link), 0);
        assert_int_equal(mkdir(mounted, 0755), 0);
        assert_int_equal(mount("tmpfs", mounted, "tmpfs", 0, ""), 0);
        assert_int_equal(tree_remove(top), -EXDEV);
        assert_int_equal(access(canary, F_OK), 0);
        assert_int_equal(umount(mounted), 0);
        assert_int_equal(tree_remove(top), 0);
        assert_int_equal(access(top, F_OK), -1);
        assert_int_equal(access(canary, F_OK), 0);
        assert_int_equal(tree_remove(top), 0);
}

static void check_in_root(void)
{
        KL_AUTOFD int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        KL_AUTOFREE char *sub = in_dir("sub");
        KL_AUTOFD int fd = -1;

        dir_make_all(sub, 0755);
        put("sub/f", "x");
        fd = path_open_in_root(root, "sub/f", O_RDONLY, 0);
        assert_true(fd >= 0);
        assert_true(path_open_in_root(root, "sub/none", O_RDONLY, 0) == -ENOENT);
        assert_true(path_open_beneath(root, "../etc/passwd", O_RDONLY, 0) < 0);
}

static void test_paths(void **state)
{
        KL_AUTOFD int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        KL_AUTOFREE char *link = in_dir("out");
        KL_AUTOFD int fd = -1;

        check_in_root();
        assert_int_equal(symlink("/etc/passwd", link), 0);
        /* In the root's terms /etc/passwd is not there. */
        assert_int_equal(path_open_in_root(root, "out", O_RDONLY, 0), -ENOENT);
        assert_int_equal(path_open_beneath(root, "out", O_RDONLY, 0), -ELOOP);
        fd = path_open_in_root(root, "../../../..", O_PATH, 0);
        assert_true(fd >= 0);
}

/* The same on a kernel that does not know openat2: a filter answers ENOSYS. */
static void test_paths_without_openat2(void **state)
{
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { ELEMENTS(filter), filter };
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                KL_AUTOFD int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

                if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                        _exit(2);
                if (path_open_in_root(root, "sub/f", O_RDONLY, 0) < 0)
                        _exit(3);
                if (path_open_in_root(root, "out", O_RDONLY, 0) >= 0)
                        _exit(4);
                if (path_open_in_root(root, "sub/../../x", O_RDONLY, 0) >= 0)
                        _exit(5);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_read_limits),
                cmocka_unit_test(test_read_refuses_what_blocks),
                cmocka_unit_test(test_replace_leaves_nothing),
                cmocka_unit_test(test_tree_removal_stays_inside),
                cmocka_unit_test(test_paths),
                cmocka_unit_test(test_paths_without_openat2),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
