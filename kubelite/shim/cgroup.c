/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the shim does with cgroups: join, kill, ask whether anything is left, ask for out-of-memory
 * kills. Making, limiting and removing them is the daemon's work.
 *
 * Killing: v2 by cgroup.kill (Linux 5.14); before that, and on v1, frozen, so that nothing can fork
 * away, then SIGKILL to all, then thawed, since a frozen task of v1 dies only then. One pass may
 * miss what was not frozen yet: the caller repeats until the group is empty.
 */

#include "shim/shim-internal.h"

#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <sys/stat.h>

#define REASON "StartError"
#define DEPTH_MAX 16
#define FREEZE_LOOKS 20

/*
 * Moving a process takes a lock that, on an idle machine, waits 6-13 ms for all processors. A
 * thread that moves itself alone, by v1's "tasks", needs no lock (Linux 5.5), and there is one
 * thread here.
 */
int cgroup_attach(const ShimCgroup *cgroups, size_t n, KlError **err)
{
        for (size_t i = 0; i < n; i++) {
                KL_AUTOFD int dir = open(cgroups[i].path, O_PATH | O_DIRECTORY | O_CLOEXEC);
                const char *file =
                        cgroups[i].roles & SHIM_CGROUP_UNIFIED ? "cgroup.procs" : "tasks";
                int r = dir < 0 ? -errno : file_store(dir, file, "0");

                if (r < 0)
                        return kl_error_errno(err, r, REASON, "join cgroup '%s'", cgroups[i].path);
        }
        return 0;
}

const ShimCgroup *cgroup_with_role(const ShimCgroup *cgroups, size_t n, uint32_t role)
{
        for (size_t i = 0; i < n; i++)
                if (cgroups[i].roles & role)
                        return &cgroups[i];
        return NULL;
}

static int open_group(const ShimCgroup *cgroup, const char *sub)
{
        KL_AUTOFD int dir = open(cgroup->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int fd;

        if (dir < 0)
                return -errno;
        if (!sub)
                return KL_STEAL_FD(dir);
        fd = openat(dir, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : fd;
}

/* SIGKILL (or with kill false only a look) to what is in this very group; the number of processes.
 */
static int kill_procs(int dir, bool kill_them)
{
        KL_AUTOFD int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
        char buf[1024];
        long pid = 0;
        int n = 0;

        for (ssize_t got; fd >= 0 && (got = read(fd, buf, sizeof(buf))) > 0;) {
                for (ssize_t i = 0; i < got; i++) {
                        if (buf[i] != '\n') {
                                pid = pid * 10 + (buf[i] - '0');
                                continue;
                        }
                        if (pid > 1 && kill_them)
                                kill((pid_t)pid, SIGKILL);
                        n++;
                        pid = 0;
                }
        }
        return n;
}

/* Depth first through the groups beneath, which a privileged container may have made. */
static int walk(int dir, bool kill_them, int depth)
{
        int n = kill_procs(dir, kill_them), copy;
        KL_AUTODIR DIR *list = NULL;
        struct dirent *entry;
        struct stat st;

        /* A group without groups beneath has two links: no listing needed. */
        if (depth == 0 || (fstat(dir, &st) == 0 && st.st_nlink == 2))
                return n;
        copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        list = copy < 0 ? NULL : fdopendir(copy);
        if (!list) {
                kl_close(copy);
                return n;
        }
        while ((entry = readdir(list))) {
                KL_AUTOFD int sub = -1;

                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                sub = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
                if (sub >= 0)
                        n += walk(sub, kill_them, depth - 1);
        }
        return n;
}

static bool v2_populated(int dir)
{
        char text[512];

        return file_load(dir, "cgroup.events", text, sizeof(text)) > 0 &&
               strstr(text, "populated 1");
}

/* Asks for the freeze and gives it a moment; a task in an uninterruptible wait may take longer. */
static void freeze_v1(int dir)
{
        char state[32];

        if (file_store(dir, "freezer.state", "FROZEN") < 0)
                return;
        for (int i = 0; i < FREEZE_LOOKS; i++)
                if (file_load(dir, "freezer.state", state, sizeof(state)) < 0 ||
                    str_starts(state, "FROZEN"))
                        return;
}

int cgroup_kill(const ShimCgroup *cgroup, const char *sub)
{
        KL_AUTOFD int dir = open_group(cgroup, sub);
        bool v2 = cgroup->roles & SHIM_CGROUP_UNIFIED;
        int n;

        if (dir < 0)
                return 0;
        if (v2) {
                if (!v2_populated(dir))
                        return 0;
                if (file_store(dir, "cgroup.kill", "1") == 0)
                        return 1;
                (void)file_store(dir, "cgroup.freeze", "1");
                n = walk(dir, true, DEPTH_MAX);
                (void)file_store(dir, "cgroup.freeze", "0");
                return n;
        }
        if (walk(dir, false, DEPTH_MAX) == 0)
                return 0;
        freeze_v1(dir);
        n = walk(dir, true, DEPTH_MAX);
        (void)file_store(dir, "freezer.state", "THAWED");
        return n;
}

bool cgroup_is_empty(const ShimCgroup *cgroup, const char *sub)
{
        KL_AUTOFD int dir = open_group(cgroup, sub);

        if (dir < 0)
                return true;
        return cgroup->roles & SHIM_CGROUP_UNIFIED ? !v2_populated(dir)
                                                   : walk(dir, false, DEPTH_MAX) == 0;
}

bool cgroup_had_oom(const ShimCgroup *cgroups, size_t n)
{
        const ShimCgroup *v2 = cgroup_with_role(cgroups, n, SHIM_CGROUP_UNIFIED);
        const ShimCgroup *memory = v2 ? v2 : cgroup_with_role(cgroups, n, SHIM_CGROUP_MEMORY);
        KL_AUTOFD int dir = memory ? open_group(memory, NULL) : -1;
        char text[1024];
        const char *at = text;

        if (dir < 0 ||
            file_load(dir, v2 ? "memory.events" : "memory.oom_control", text, sizeof(text)) <= 0)
                return false;
        while ((at = strstr(at, "oom_kill "))) {
                if (at == text || at[-1] == '\n')
                        return at[strlen("oom_kill ")] != '0';
                at++;
        }
        return false;
}

void cgroup_remove_execs(const ShimCgroup *cgroup)
{
        int dir = open_group(cgroup, NULL);
        KL_AUTODIR DIR *list = dir < 0 ? NULL : fdopendir(dir);
        struct dirent *entry;

        if (!list) {
                kl_close(dir);
                return;
        }
        while ((entry = readdir(list)))
                if (entry->d_type == DT_DIR && str_starts(entry->d_name, "exec-"))
                        unlinkat(dir, entry->d_name, AT_REMOVEDIR);
}
