/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Logs of pods that went while no daemon ran. Once after a start, when it is known which pods there
 * are, one worker removes the directories of all others, and the collectors' links that lead
 * nowhere. What is newer than the worker belongs to a pod that it does not know yet.
 */

#include "pod/manager-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <time.h>

#define DEADLINE_MS 300000

typedef struct LogSweep {
        const char *log_dir, *links_dir;
        char **live;
        struct timespec begin;
} LogSweep;

static bool is_older(int dir_fd, const char *name, const struct timespec *begin)
{
        struct stat st;

        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
                return false;
        return st.st_ctim.tv_sec < begin->tv_sec ||
               (st.st_ctim.tv_sec == begin->tv_sec && st.st_ctim.tv_nsec < begin->tv_nsec);
}

/* <namespace>_<name>_<uid>: none of the three has an underscore. */
static const char *uid_of(const char *name)
{
        const char *first = strchr(name, '_'), *last = strrchr(name, '_');

        return first && first != last && last[1] ? last + 1 : NULL;
}

static void remove_dirs(const LogSweep *sweep)
{
        KL_AUTODIR DIR *dir = opendir(sweep->log_dir);
        struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                const char *uid = uid_of(entry->d_name);

                if (uid && !strv_contains(sweep->live, uid) &&
                    is_older(dirfd(dir), entry->d_name, &sweep->begin))
                        tree_remove_at(dirfd(dir), entry->d_name);
        }
}

static void remove_links(const LogSweep *sweep)
{
        KL_AUTODIR DIR *dir = opendir(sweep->links_dir);
        size_t n = strlen(sweep->log_dir);
        struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                char target[PATH_MAX];
                ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

                if (len < 0)
                        continue;
                target[len] = '\0';
                if (strncmp(target, sweep->log_dir, n) == 0 && target[n] == '/' &&
                    access(target, F_OK) < 0 && errno == ENOENT)
                        unlinkat(dirfd(dir), entry->d_name, 0);
        }
}

static int sweep_body(void *arg)
{
        remove_dirs(arg);
        remove_links(arg);
        return 0;
}

static void sweep_free(void *arg)
{
        LogSweep *sweep = arg;

        strv_free(sweep->live);
        free(sweep);
}

static void on_swept(Worker *worker, WorkerResult *result, void *data)
{
        PodManager *m = data;

        m->log_sweeper = worker_free(m->log_sweeper);
}

void manager_sweep_logs(PodManager *m, char *const *live)
{
        LogSweep *sweep = calloc(1, sizeof(*sweep));
        WorkerSpec spec = {
                .name = "log sweep",
                .body = sweep_body,
                .body_arg = sweep,
                .free_arg = sweep_free,
                .deadline_ms = DEADLINE_MS,
                .done = on_swept,
                .data = m,
        };
        KL_AUTOERR err = NULL;

        if (!sweep)
                return;
        sweep->log_dir = m->context->log_dir;
        sweep->links_dir = m->context->log_links_dir;
        sweep->live = strv_copy(live);
        clock_gettime(CLOCK_REALTIME_COARSE, &sweep->begin);
        if (!sweep->live) {
                sweep_free(sweep);
                return;
        }
        if (worker_start(m->context->loop, &spec, &m->log_sweeper, &err) < 0)
                log_warning(NULL, "Logs of pods that are gone stay, ignoring: %s",
                            kl_error_msg(err));
}
