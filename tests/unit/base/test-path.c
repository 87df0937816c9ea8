/* SPDX-License-Identifier: Apache-2.0 */

/* Names beneath a directory that somebody else changes all the time (CVE-2021-25741): what is
 * opened is beneath it, or nothing is. */

#include "base/file.h"

#include "../unit.h"
#include "base/cleanup.h"
#include "base/str.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RACES 4000
#define RACES_MAX 1000000
#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

static char base[64];

static int set_up(void **state)
{
        KL_AUTOFD int dir = -1;

        snprintf(base, sizeof(base), "/tmp/test-path.XXXXXX");
        if (!mkdtemp(base))
                return -1;
        dir = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return mkdirat(dir, "v", 0755) < 0 || mkdirat(dir, "v/sub", 0755) < 0 ||
               mkdirat(dir, "v/sub/deep", 0755) < 0 || symlinkat("/", dir, "v/root") < 0 ||
               symlinkat("../..", dir, "v/up") < 0 ||
               symlinkat("/proc/self/root", dir, "v/magic") < 0;
}

static int tear_down(void **state)
{
        return tree_remove(base);
}

static pid_t exchange(const char *a, const char *b)
{
        KL_AUTOFREE char *one = str_format("%s/v/%s", base, a),
                         *two = str_format("%s/v/%s", base, b);
        pid_t pid = fork();

        if (pid != 0)
                return pid;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, two, RENAME_EXCHANGE) == 0)
                ;
        _exit(1);
}

/* Where a descriptor is, as the kernel names it now. */
static void expect_beneath(int fd, const char *root)
{
        char link[64], path[PATH_MAX];
        ssize_t n;

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path) - 1);
        assert_true(n > 0);
        path[n] = '\0';
        if (!str_starts(path, root))
                fail_msg("opened '%s'", path);
}

static void race(const char *link, const char *path)
{
        KL_AUTOFREE char *root = str_format("%s/v", base);
        KL_AUTOFD int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        pid_t pid = exchange("sub", link);
        size_t opened = 0;

        assert_true(pid > 0);
        /* While names are exchanged without a pause, the kernel may have to give up each time. */
        for (int i = 0; i < RACES || (opened == 0 && i < RACES_MAX); i++) {
                KL_AUTOFD int fd = path_open_in_root(dir, path, O_PATH, 0);
                KL_AUTOFD int strict = path_open_beneath(dir, path, O_PATH, 0);

                opened += fd >= 0;
                if (fd >= 0)
                        expect_beneath(fd, root);
                if (strict >= 0)
                        expect_beneath(strict, root);
        }
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_true(opened > 0);
}

static void test_link_to_the_root(void **state)
{
        race("root", "sub");
        race("root", "sub/deep");
}

static void test_link_upwards(void **state)
{
        race("up", "sub/deep");
}

static void test_magic_link(void **state)
{
        race("magic", "sub");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_link_to_the_root, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_link_upwards, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_magic_link, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
