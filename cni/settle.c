/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Plugins outlive the daemon, so that one that is half through an ADD is not cut off by an update
 * of the daemon. A new daemon must know that they are gone before it takes their work down.
 *
 * A process id alone is no identity. Processes are held by pidfd first and recognised afterwards,
 * so that what is signalled is what was looked at.
 */

#include "cni/cni-settle.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/syscall.h>

#define ENVIRON_MAX (256 * 1024)
#define PROCESSES_MAX 256
/* After SIGKILL; a process in uninterruptible sleep is waited for no longer. */
#define KILL_WAIT_MS 5000

typedef struct Found {
        int fds[PROCESSES_MAX];
        size_t n;
} Found;

static void found_clear(Found *f)
{
        for (size_t i = 0; i < f->n; i++)
                kl_close(f->fds[i]);
        f->n = 0;
}

static bool environ_has(const char *data, size_t len, const char *entry)
{
        size_t entry_len = strlen(entry) + 1;

        for (const char *p = data; p && p + entry_len <= data + len;) {
                if (memcmp(p, entry, entry_len) == 0)
                        return true;
                p = memchr(p, '\0', (size_t)(data + len - p));
                p = p ? p + 1 : NULL;
        }
        return false;
}

static void read_environ(pid_t pid, Buf *to)
{
        char path[64];
        KL_AUTOFD int fd = -1;
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d/environ", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        while (fd >= 0 && to->len < ENVIRON_MAX) {
                char *at = buf_reserve(to, 16384);

                n = at ? read(fd, at, 16384) : -1;
                if (n <= 0)
                        return;
                buf_commit(to, (size_t)n);
        }
}

static bool is_plugin(const CniRecord *record, pid_t pid)
{
        KL_AUTOFREE char *id = str_format("CNI_CONTAINERID=%s", record->id);
        KL_AUTOFREE char *owner = str_format(CNI_OWNER_VARIABLE "=%s", record->owner);
        KL_AUTOBUF env = BUF_INIT;

        if (record->pid == pid && record->pid_start && cni_process_start(pid) == record->pid_start)
                return true;
        if (!id || !owner || str_empty(record->owner))
                return false;
        read_environ(pid, &env);
        return env.len && environ_has(env.data, env.len, id) &&
               environ_has(env.data, env.len, owner);
}

/* A process that ended counts as gone, though its parent may not have reaped it. */
static bool is_running(int pidfd)
{
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        return poll(&p, 1, 0) == 0;
}

static int find_plugins(const CniRecord *record, Found *found)
{
        KL_AUTODIR DIR *d = opendir("/proc");

        if (!d)
                return -errno;
        for (struct dirent *e; (e = readdir(d)) && found->n < PROCESSES_MAX;) {
                KL_AUTOFD int fd = -1;
                uint64_t pid;

                if (str_to_u64(e->d_name, INT32_MAX, &pid) < 0 || (pid_t)pid == getpid())
                        continue;
                fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
                if (fd >= 0 && is_running(fd) && is_plugin(record, (pid_t)pid))
                        found->fds[found->n++] = KL_STEAL_FD(fd);
        }
        return 0;
}

/* True when all ended in time. */
static bool wait_all(const Found *found, uint64_t until_ms)
{
        for (size_t i = 0; i < found->n; i++) {
                struct pollfd p = { .fd = found->fds[i], .events = POLLIN };
                uint64_t now = time_monotonic_ms();
                int r = poll(&p, 1, until_ms > now ? (int)(until_ms - now) : 0);

                if (r < 0 && errno == EINTR)
                        i--;
                else if (r == 0)
                        return false;
        }
        return true;
}

static uint64_t settle_deadline(const CniRecord *record, uint64_t timeout_ms)
{
        uint64_t now = time_monotonic_ms();
        char boot_id[64];

        cni_boot_id(boot_id, sizeof(boot_id));
        if (!str_eq(record->boot_id, boot_id) || record->started_ms > now)
                return now;
        return record->started_ms + timeout_ms;
}

int cni_settle(const CniRecord *record, uint64_t timeout_ms)
{
        uint64_t until = settle_deadline(record, timeout_ms);
        int killed = 0;

        for (;;) {
                Found found = { .n = 0 };
                bool ended;
                int r = find_plugins(record, &found);

                if (r < 0 || found.n == 0)
                        return r < 0 ? r : killed;
                ended = wait_all(&found, until);
                for (size_t i = 0; !ended && i < found.n; i++)
                        if (syscall(SYS_pidfd_send_signal, found.fds[i], SIGKILL, NULL, 0) == 0)
                                killed++;
                if (!ended)
                        ended = wait_all(&found, time_monotonic_ms() + KILL_WAIT_MS);
                found_clear(&found);
                if (!ended)
                        return -ETIMEDOUT;
        }
}
