/* SPDX-License-Identifier: Apache-2.0 */

/*
 * emptyDir and hostPath, made in workers. A host path may lie on a file system that hangs, so it is
 * opened there too, and a descriptor passed back; nothing else of the daemon touches the path.
 */

#include "volume/volume-internal.h"

#include "api/quantity.h"
#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/stat.h>

/* --- emptyDir --- */

static mode_t empty_dir_mode(const Pod *pod)
{
        /* With fsGroup the group owns it and new files inherit that. */
        return pod->security.fs_group >= 0 ? 02777 : 0777;
}

/* In the worker. */
static int empty_dir_make(const VolumeSetup *s)
{
        const Volume *v = s->volume;
        int64_t limit = 0, gid = s->set->pod->security.fs_group;
        mode_t mode = empty_dir_mode(s->set->pod);
        char options[64] = "mode=0777";

        if (setup_make_dir(s, mode) < 0)
                return 1;
        if (v->size_limit && quantity_value(v->size_limit, &limit) == 0 && limit > 0)
                snprintf(options, sizeof(options), "mode=0777,size=%lld", (long long)limit);
        if (str_eq(v->medium, "Memory") && setup_mount_tmpfs(s, options) < 0)
                return 1;
        if (gid >= 0 && chown(s->path, (uid_t)-1, (gid_t)gid) < 0) {
                dprintf(STDERR_FILENO, "give it to group %lld: %s", (long long)gid,
                        strerror(errno));
                return 1;
        }
        if (chmod(s->path, mode) < 0) {
                dprintf(STDERR_FILENO, "set its mode: %s", strerror(errno));
                return 1;
        }
        return 0;
}

static int empty_dir_body(void *arg)
{
        return empty_dir_make(arg);
}

static void on_empty_dir(Worker *worker, WorkerResult *result, void *data)
{
        VolumeSetup *s = data;
        char how[128];

        s->worker = worker_free(s->worker);
        if (result->status == 0) {
                setup_ready(s);
                return;
        }
        worker_describe(result, SETUP_DEADLINE_MS, how, sizeof(how));
        setup_failed(s, "%s", result->errors_len ? result->errors : how);
}

static void empty_dir_start(VolumeSetup *s)
{
        const Volume *v = s->volume;
        int64_t limit = 0;

        if (v->size_limit && quantity_value(v->size_limit, &limit) < 0)
                setup_failed(s, "sizeLimit '%s' is no quantity", v->size_limit);
        else if (!str_empty(v->medium) && !str_eq(v->medium, "Memory"))
                setup_failed(s, "medium '%s' is not supported by this node", v->medium);
        else
                setup_start_worker(s, "emptyDir", empty_dir_body, on_empty_dir);
}

const VolumeOps empty_dir_ops = { .start = empty_dir_start };

/* --- hostPath --- */

typedef struct HostPathType {
        const char *name;
        mode_t type; /* S_IFMT bits that it must have; 0: any */
        const char *description;
        bool make_dir, make_file;
} HostPathType;

static const HostPathType types[] = {
        { "", 0, "", true, false },
        { "DirectoryOrCreate", S_IFDIR, "a directory", true, false },
        { "Directory", S_IFDIR, "a directory", false, false },
        { "FileOrCreate", S_IFREG, "a file", false, true },
        { "File", S_IFREG, "a file", false, false },
        { "Socket", S_IFSOCK, "a socket file", false, false },
        { "CharDevice", S_IFCHR, "a character device", false, false },
        { "BlockDevice", S_IFBLK, "a block device", false, false },
};

static const HostPathType *host_path_type(const char *name)
{
        for (size_t i = 0; i < ELEMENTS(types); i++)
                if (str_eq(types[i].name, name ? name : ""))
                        return &types[i];
        return NULL;
}

static int make_host_path(const char *path, const HostPathType *type)
{
        int fd;

        if (type->make_dir)
                return dir_make_all(path, 0755);
        fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0)
                return -errno;
        close(fd);
        return 0;
}

/* In the worker: upstream's checks and texts (pkg/volume/hostpath). */
static int host_path_body(void *arg)
{
        const VolumeSetup *s = arg;
        const HostPathType *type = host_path_type(s->volume->host_path_type);
        KL_AUTOFD int fd = open(s->path, O_PATH | O_CLOEXEC);
        struct stat st;
        int r;

        if (fd < 0 && errno == ENOENT && (type->make_dir || type->make_file)) {
                r = make_host_path(s->path, type);
                if (r < 0) {
                        dprintf(STDERR_FILENO, "make '%s': %s", s->path, strerror(-r));
                        return 1;
                }
                fd = open(s->path, O_PATH | O_CLOEXEC);
        }
        if (fd < 0 || fstat(fd, &st) < 0 || (type->type && (st.st_mode & S_IFMT) != type->type)) {
                dprintf(STDERR_FILENO, "hostPath type check failed: %s is not %s", s->path,
                        *type->description ? type->description : "there");
                return 1;
        }
        return worker_pass_fds(&fd, 1) < 0;
}

static void on_host_path(Worker *worker, WorkerResult *result, void *data)
{
        VolumeSetup *s = data;

        s->worker = worker_free(s->worker);
        if (result->timed_out) {
                setup_failed(s, "'%s' does not answer", s->path);
                return;
        }
        if (result->n_passed_fds != 1) {
                setup_failed(s, "%s", result->errors);
                return;
        }
        s->fd = kl_close(s->fd);
        s->fd = KL_STEAL_FD(result->passed_fds[0]);
        setup_ready(s);
}

static void host_path_start(VolumeSetup *s)
{
        if (!host_path_type(s->volume->host_path_type))
                setup_failed(s, "hostPath type '%s' is not known", s->volume->host_path_type);
        else
                setup_start_worker(s, "hostPath", host_path_body, on_host_path);
}

const VolumeOps host_path_ops = { .start = host_path_start };
