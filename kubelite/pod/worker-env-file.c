/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Files that fileKeyRef names. They lie in an emptyDir, where containers put what they like: a
 * worker reads them, beneath the volume and only what is a regular file. They are read anew for
 * each start of a container.
 */

#include "pod/worker-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "pod/env-file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEADLINE_MS 20000
#define ROOT_FD 4 /* the first of keep_fds */

struct EnvFiles {
        WorkContainer *container;
        EnvFile *files;
        size_t n;
        Worker *reader; /* of the last file, which is not read yet */
};

struct EnvFile {
        char *volume, *path;
        const char *root; /* of the volume; NULL: ROOT_FD is it */
        bool read, missing;
        char *text, *error;
};

/* --- in the worker --- */

/* Exit statuses: 0 and the text, or an errno. */
static int read_body(void *arg)
{
        const EnvFile *file = arg;
        KL_AUTOFD int root =
                file->root ? open(file->root, O_PATH | O_DIRECTORY | O_CLOEXEC) : ROOT_FD;
        KL_AUTOFD int fd =
                root < 0 ? -errno
                         : path_open_in_root(root, file->path,
                                             O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
        KL_AUTOFREE char *text = malloc(ENV_FILE_MAX + 1);
        struct stat st;
        ssize_t n;

        if (fd < 0)
                return -fd;
        if (!text || fstat(fd, &st) < 0)
                return text ? errno : ENOMEM;
        if (!S_ISREG(st.st_mode))
                return EINVAL;
        n = fd_read_all(fd, text, ENV_FILE_MAX + 1);
        if (n < 0)
                return (int)-n;
        if ((size_t)n > ENV_FILE_MAX)
                return EFBIG;
        return fd_write_all(STDOUT_FILENO, text, (size_t)n) < 0 ? EIO : 0;
}

/* --- in the daemon --- */

static char *describe(const EnvFile *file, const WorkerResult *result)
{
        char what[128];

        if (WIFEXITED(result->status) && !result->timed_out)
                snprintf(what, sizeof(what), "%s", strerror(WEXITSTATUS(result->status)));
        else
                worker_describe(result, DEADLINE_MS, what, sizeof(what));
        return str_format("failed to open environment variable file \"%s/%s\": %s", file->volume,
                          file->path, what);
}

static void on_read(Worker *worker, WorkerResult *result, void *data)
{
        EnvFiles *files = data;
        EnvFile *file = &files->files[files->n - 1];
        PodWorker *w = files->container->worker;
        bool exited = WIFEXITED(result->status) && !result->timed_out;

        files->reader = worker_free(files->reader);
        file->read = true;
        if (exited && WEXITSTATUS(result->status) == 0)
                file->text = strndup(result->out, result->out_len);
        else if (exited && WEXITSTATUS(result->status) == ENOENT)
                file->missing = true;
        else
                file->error = describe(file, result);
        worker_dirty(w, false);
}

static EnvFile *find_file(const EnvFiles *files, const char *volume, const char *path)
{
        for (size_t i = 0; i < files->n; i++)
                if (str_eq(files->files[i].volume, volume) && str_eq(files->files[i].path, path))
                        return &files->files[i];
        return NULL;
}

static EnvFile *add_file(EnvFiles *files, const char *volume, const char *path)
{
        EnvFile *list = realloc(files->files, (files->n + 1) * sizeof(*list)), *file;

        if (!list)
                return NULL;
        files->files = list;
        file = &list[files->n++];
        *file = (EnvFile){ .volume = strdup(volume), .path = strdup(path) };
        return file->volume && file->path ? file : NULL;
}

static int start_reading(PodWorker *w, EnvFiles *files, EnvFile *file, KlError **err)
{
        int root_fd = -1;
        WorkerSpec spec = {
                .name = "env file",
                .body = read_body,
                .body_arg = file,
                .out_max = ENV_FILE_MAX,
                .deadline_ms = DEADLINE_MS,
                .done = on_read,
                .data = files,
        };

        KL_TRY(pod_volume_source(w->volumes, file->volume, &file->root, &root_fd, err));
        if (root_fd >= 0) {
                file->root = NULL;
                spec.keep_fds[0] = root_fd;
        }
        return worker_start(w->context->loop, &spec, &files->reader, err);
}

static EnvFiles *files_of(WorkContainer *c)
{
        if (!c->env_files && (c->env_files = calloc(1, sizeof(*c->env_files))))
                c->env_files->container = c;
        return c->env_files;
}

int worker_env_file(WorkContainer *c, const char *volume, const char *path, const char **ret_text,
                    KlError **err)
{
        EnvFiles *files = files_of(c);
        EnvFile *file = files ? find_file(files, volume, path) : NULL;

        if (!files)
                return kl_error_oom(err);
        if (files->reader)
                return 1;
        if (!file) {
                file = add_file(files, volume, path);
                if (!file)
                        return kl_error_oom(err);
                KL_TRY(start_reading(c->worker, files, file, err));
                return 1;
        }
        if (!file->read || (!file->text && !file->missing))
                return kl_error(err, -EIO, NULL, "%s", file->error ? file->error : "out of memory");
        *ret_text = file->text;
        return 0;
}

void worker_forget_env_files(WorkContainer *c)
{
        EnvFiles *files = c->env_files;

        if (!files)
                return;
        worker_free(files->reader);
        for (size_t i = 0; i < files->n; i++) {
                free(files->files[i].volume);
                free(files->files[i].path);
                free(files->files[i].text);
                free(files->files[i].error);
        }
        free(files->files);
        free(files);
        c->env_files = NULL;
}
