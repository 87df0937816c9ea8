/* SPDX-License-Identifier: Apache-2.0 */

#include "pod/log-tidy.h"

#include "base/file.h"
#include "base/list.h"
#include "base/log.h"
#include "base/rotated.h"
#include "base/str.h"
#include "codec/gzip.h"
#include "loop/worker.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DEADLINE_MS 600000
#define BLOCK (64U << 10)
#define IOPRIO_IDLE (3 << 13)
#define IOPRIO_WHO_PROCESS 1

typedef struct Job {
        List link;
        LogTidy *tidy;
        char *path;
        bool remove;
        Worker *worker; /* NULL: waits */
} Job;

struct LogTidy {
        Loop *loop;
        LogTidyOptions options;
        List jobs;
        size_t n_jobs, n_running;
        Timer *timer;
};

/* --- in the worker --- */

/* Pods may have put anything into the directory, if they can write to it at all. */
static int open_regular(int dir_fd, const char *name, struct stat *ret)
{
        KL_AUTOFD int fd =
                openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        if (fd < 0 || fstat(fd, ret) < 0)
                return -errno;
        return S_ISREG(ret->st_mode) ? KL_STEAL_FD(fd) : -EINVAL;
}

static int pack(int in, int out)
{
        static char block[BLOCK];
        KL_AUTO(gzip_free) Gzip *gzip = gzip_new();
        KL_AUTOBUF packed = BUF_INIT;
        ssize_t n;

        if (!gzip)
                return -ENOMEM;
        do {
                n = fd_read_all(in, block, sizeof(block));
                if (n < 0)
                        return (int)n;
                KL_TRY(gzip_add(gzip, block, (size_t)n, n == 0, &packed));
                KL_TRY(fd_write_all(out, packed.data, packed.len));
                buf_clear(&packed);
        } while (n > 0);
        return 0;
}

/* The compressed file takes its name before the other one goes: a reader finds one of them. */
static int compress(int dir_fd, const char *name)
{
        KL_AUTOFREE char *tmp = str_format("%s" ROTATED_TMP, name);
        KL_AUTOFREE char *gz = str_format("%s" ROTATED_GZ, name);
        struct stat st;
        KL_AUTOFD int in = open_regular(dir_fd, name, &st);
        KL_AUTOFD int out = -1;
        int r;

        if (in < 0)
                return in;
        if (!tmp || !gz)
                return -ENOMEM;
        unlinkat(dir_fd, tmp, 0);
        out = openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st.st_mode & 0777);
        if (out < 0)
                return -errno;
        r = pack(in, out);
        if (r == 0 && renameat(dir_fd, tmp, dir_fd, gz) < 0)
                r = -errno;
        if (r < 0)
                unlinkat(dir_fd, tmp, 0);
        else
                unlinkat(dir_fd, name, 0);
        return r;
}

static void remove_all(int dir_fd, const char *name)
{
        static const char *const suffixes[] = { "", ROTATED_GZ, ROTATED_TMP };

        for (size_t i = 0; i < ELEMENTS(suffixes); i++) {
                KL_AUTOFREE char *full = str_format("%s%s", name, suffixes[i]);

                if (full)
                        unlinkat(dir_fd, full, 0);
        }
}

static bool is_there(int dir_fd, const char *name, const char *suffix)
{
        KL_AUTOFREE char *full = str_format("%s%s", name, suffix);
        struct stat st;

        return full && fstatat(dir_fd, full, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int tidy_rotated(int dir_fd, char *const *names, size_t keep)
{
        size_t n = strv_len(names);
        int r = 0;

        for (size_t i = 0; i < n; i++) {
                if (n - i > keep)
                        remove_all(dir_fd, names[i]);
                else if (is_there(dir_fd, names[i], ROTATED_GZ))
                        unlinkat(dir_fd, names[i], 0);
                else if (i + 1 < n && r == 0)
                        r = compress(dir_fd, names[i]);
        }
        return r;
}

static int tidy_body(void *arg)
{
        const Job *job = arg;
        const char *log = strrchr(job->path, '/') + 1;
        KL_AUTOFREE char *dir = strndup(job->path, (size_t)(log - job->path));
        KL_AUTOFD int dir_fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        KL_AUTOSTRV names = NULL;
        int r;

        (void)!nice(19);
        syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
        if (dir_fd < 0)
                return errno != ENOENT; /* the pod may be gone by now */
        r = rotated_list(dir_fd, log, &names);
        if (r == 0)
                r = tidy_rotated(dir_fd, names,
                                 job->remove ? 0 : (size_t)job->tidy->options.max_files - 1);
        if (job->remove)
                unlinkat(dir_fd, log, 0);
        if (r < 0)
                dprintf(STDERR_FILENO, "%s", strerror(-r));
        return r < 0;
}

/* --- in the daemon --- */

static void run(LogTidy *t);

static void job_free(Job *job)
{
        list_unlink(&job->link);
        job->tidy->n_jobs--;
        if (job->worker)
                job->tidy->n_running--;
        worker_free(job->worker);
        free(job->path);
        free(job);
}

static void on_done(Worker *worker, WorkerResult *result, void *data)
{
        Job *job = data;
        LogTidy *t = job->tidy;
        char how[128];

        if (result->status != 0) {
                worker_describe(result, DEADLINE_MS, how, sizeof(how));
                log_warning(NULL, "Rotated logs of '%s' stay as they are, ignoring: %s", job->path,
                            result->errors_len ? result->errors : how);
        }
        job_free(job);
        run(t);
}

static void run(LogTidy *t)
{
        list_for_each (job, &t->jobs, Job, link) {
                WorkerSpec spec = {
                        .name = "log tidy",
                        .body = tidy_body,
                        .body_arg = job,
                        .deadline_ms = DEADLINE_MS,
                        .done = on_done,
                        .data = job,
                };

                if (t->n_running >= t->options.workers)
                        return;
                if (job->worker)
                        continue;
                if (worker_start(t->loop, &spec, &job->worker, NULL) < 0) {
                        timer_start(t->timer, t->options.interval_ms);
                        return;
                }
                t->n_running++;
        }
}

static void on_timer(Timer *timer, void *data)
{
        run(data);
}

static void add(LogTidy *t, const char *path, bool remove)
{
        Job *job;

        list_for_each (other, &t->jobs, Job, link)
                if (!other->worker && str_eq(other->path, path)) {
                        other->remove |= remove;
                        return;
                }
        /* What finds no place is found by the next rotation, or the next start. */
        job = t->n_jobs < LOG_TIDY_JOBS_MAX ? calloc(1, sizeof(*job)) : NULL;
        if (!job)
                return;
        list_init(&job->link);
        job->tidy = t;
        job->remove = remove;
        job->path = strdup(path);
        t->n_jobs++;
        if (!job->path || !strchr(path, '/')) {
                job_free(job);
                return;
        }
        list_append(&t->jobs, &job->link);
        if (!timer_active(t->timer))
                timer_start(t->timer, t->options.interval_ms);
}

void log_tidy_rotated(LogTidy *t, const char *path)
{
        add(t, path, false);
}

void log_tidy_remove(LogTidy *t, const char *path)
{
        add(t, path, true);
}

int log_tidy_new(Loop *loop, const LogTidyOptions *options, LogTidy **ret, KlError **err)
{
        KL_AUTO(log_tidy_free) LogTidy *t = calloc(1, sizeof(*t));

        if (!t)
                return kl_error_oom(err);
        t->loop = loop;
        t->options = *options;
        list_init(&t->jobs);
        t->timer = timer_new(loop, on_timer, t);
        if (!t->timer)
                return kl_error_oom(err);
        *ret = KL_STEAL(t);
        return 0;
}

LogTidy *log_tidy_free(LogTidy *t)
{
        if (!t)
                return NULL;
        list_for_each (job, &t->jobs, Job, link)
                job_free(job);
        timer_free(t->timer);
        free(t);
        return NULL;
}
