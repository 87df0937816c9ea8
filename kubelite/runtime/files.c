/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a container's start does with file systems: the node's own files of the container, the
 * writable layer, the log, and the volumes. All of it runs in a worker, since any of these may hang
 * (a volume on a server that is gone, a full or frozen disk); the descriptors go to the daemon.
 *
 * Paths become descriptors in the host's mount namespace before anything of the container runs. A
 * bind source becomes a detached copy of its mount tree, so that renaming or replacing the path
 * afterwards changes nothing; flags and propagation are set by the shim when it attaches the copy.
 */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define REASON "CreateContainerError"
#define CONFIG_REASON "CreateContainerConfigError"
#define TEXT_MAX (4U << 20)

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

/* --- the node's own files --- */

static int make_parent(const char *path, mode_t mode)
{
        KL_AUTOFREE char *dir = strdup(path);
        char *slash = dir ? strrchr(dir, '/') : NULL;

        if (!slash || slash == dir)
                return slash ? 0 : -ENOMEM;
        *slash = '\0';
        return dir_make_all(dir, mode);
}

/* Files that running containers have mounted stay the same ones while their text does. */
static int write_text(const FileSpec *file)
{
        KL_AUTOFREE char *old = NULL;

        if (file_read(file->path, TEXT_MAX, &old, NULL) == 0 && str_eq(old, file->text))
                return 0;
        return file_replace(file->path, file->text, strlen(file->text), 0644, false);
}

static int make_fresh(const FileSpec *file)
{
        KL_AUTOFD int fd =
                open(file->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);

        if (fd < 0)
                return -errno;
        /* Writable by whoever the container runs as, whatever our umask is. */
        return fchmod(fd, 0666) < 0 ? -errno : 0;
}

static int make_file(const FileSpec *file, KlError **err)
{
        int r = make_parent(file->path, file->kind == FILE_LINK ? 0755 : 0750);

        if (r == 0 && file->kind == FILE_TEXT)
                r = write_text(file);
        if (r == 0 && file->kind == FILE_FRESH)
                r = make_fresh(file);
        if (file->kind == FILE_LINK) {
                if (r == 0)
                        r = symlink(file->text, file->path);
                return 0;
        }
        return r < 0 ? kl_error_errno(err, r, REASON, "make '%s'", file->path) : 0;
}

static int make_files(const Document *document, KlError **err)
{
        int r = 0;

        for (size_t i = 0; i < document->n_files && r == 0; i++)
                r = make_file(&document->files[i], err);
        return r;
}

static void remove_fresh(const Document *document)
{
        for (size_t i = 0; i < document->n_files; i++)
                if (document->files[i].kind != FILE_TEXT)
                        unlink(document->files[i].path);
}

/* --- sub-paths --- */

/* Makes one missing component after the other, always inside the volume. */
static int make_sub_path(int root, const char *sub_path, KlError **err)
{
        KL_AUTOFREE char *path = strdup(sub_path);
        struct stat st;

        if (!path || fstat(root, &st) < 0)
                return kl_error_oom(err);
        for (char *end = path; *end;) {
                KL_AUTOFD int parent = -1;
                char *slash, saved;

                end += strspn(end, "/");
                end += strcspn(end, "/");
                saved = *end;
                *end = '\0';
                slash = strrchr(path, '/');
                if (slash)
                        *slash = '\0';
                parent = path_open_in_root(root, slash ? path : ".", O_PATH | O_DIRECTORY, 0);
                if (slash)
                        *slash = '/';
                if (parent < 0)
                        return kl_error_errno(err, parent, CONFIG_REASON, "subPath '%s'", sub_path);
                if (mkdirat(parent, slash ? slash + 1 : path, st.st_mode & 07777) < 0 &&
                    errno != EEXIST)
                        return kl_error_errno(err, -errno, CONFIG_REASON, "make subPath '%s'",
                                              sub_path);
                *end = saved;
        }
        return 0;
}

static int open_sub_path(int root, const char *sub_path, KlError **err)
{
        int fd;

        fd = path_open_in_root(root, sub_path, O_PATH, 0);
        if (fd == -ENOENT) {
                int r = make_sub_path(root, sub_path, err);

                if (r < 0)
                        return r;
                fd = path_open_in_root(root, sub_path, O_PATH, 0);
        }
        if (fd < 0)
                return kl_error_errno(err, fd, CONFIG_REASON, "open subPath '%s'", sub_path);
        return fd;
}

/* --- volumes --- */

/* Links in the path of a volume are the administrator's; magic ones (/proc/<pid>/root, /dev/fd)
 * lead into other processes. */
static int open_source(const char *path)
{
        struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS };
        int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

        if (fd < 0 && errno == ENOSYS)
                fd = open(path, O_PATH | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* Nothing but a proc file system may stand in for /proc. */
static int check_proc(const DocumentMount *m, int fd, KlError **err)
{
        struct statfs fs;

        if (!str_eq(m->target, "/proc"))
                return 0;
        if (fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
                return kl_error(err, -EINVAL, REASON,
                                "'%s' cannot be mounted on /proc: it is no proc", m->source);
        return 0;
}

static int open_bind(const DocumentMount *m, KlError **err)
{
        KL_AUTOFD int opened = m->source_fd < 0 ? open_source(m->source) : -1;
        KL_AUTOFD int beneath = -1;
        int source = m->source_fd < 0 ? opened : m->source_fd, fd, r;

        if (source < 0)
                return kl_error_errno(err, source, REASON, "open the volume '%s'", m->source);
        if (m->sub_path) {
                source = beneath = open_sub_path(source, m->sub_path, err);
                if (source < 0)
                        return source;
        }
        r = check_proc(m, source, err);
        if (r < 0)
                return r;
        fd = (int)syscall(SYS_open_tree, source, "",
                          AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (fd < 0)
                return kl_error_errno(err, -errno, REASON, "mount the volume '%s'", m->source);
        return fd;
}

static int open_writable(const Document *document, const char *data_dir, KlError **err)
{
        KL_AUTOFREE char *rw = str_format("%s/%s", data_dir, document->id);
        int fd;

        if (!rw)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (mkdir(rw, 0700) < 0 && errno != EEXIST)
                return kl_error_errno(err, -errno, REASON, "make '%s'", rw);
        fd = open(rw, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? kl_error_errno(err, -errno, REASON, "open '%s'", rw) : fd;
}

static int open_log(const char *path, KlError **err)
{
        KL_AUTOFD int fd = -1;
        struct stat st;
        int r = make_parent(path, 0755);

        if (r < 0)
                return kl_error_errno(err, r, REASON, "make the directory of the log '%s'", path);
        fd = open(path,
                  O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                  0640);
        if (fd < 0)
                return kl_error_errno(err, -errno, REASON, "open the log file '%s'", path);
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return kl_error(err, -EINVAL, REASON, "the log '%s' is no regular file", path);
        fcntl(fd, F_SETFL, O_APPEND);
        return KL_STEAL_FD(fd);
}

static int open_log_dir(const char *path, KlError **err)
{
        const char *slash = strrchr(path, '/');
        KL_AUTOFREE char *dir = slash ? strndup(path, (size_t)(slash - path)) : NULL;
        int fd;

        if (!dir)
                return slash ? kl_error_oom(err)
                             : kl_error(err, -EINVAL, REASON, "the log '%s' is in no directory",
                                        path);
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? kl_error_errno(err, -errno, REASON, "open '%s'", dir) : fd;
}

static int open_nothing(KlError **err)
{
        int fd = open("/dev/null", O_PATH | O_CLOEXEC);

        return fd < 0 ? kl_error_errno(err, -errno, REASON, "open /dev/null") : fd;
}

static int open_all(const Document *document, const char *layers_dir, const char *data_dir,
                    int *fds, KlError **err)
{
        int n = 0;

        fds[n] = open(layers_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fds[n] < 0)
                return kl_error_errno(err, -errno, REASON, "open '%s'", layers_dir);
        fds[++n] = open_writable(document, data_dir, err);
        if (fds[n] < 0)
                return fds[n];
        fds[++n] = str_empty(document->log_path) ? open_nothing(err)
                                                 : open_log(document->log_path, err);
        if (fds[n] < 0)
                return fds[n];
        fds[++n] = str_empty(document->log_path) ? open_nothing(err)
                                                 : open_log_dir(document->log_path, err);
        if (fds[n] < 0)
                return fds[n];
        for (size_t i = 0; i < document->n_mounts; i++) {
                if (document->mounts[i].kind != SHIM_MOUNT_BIND)
                        continue;
                fds[++n] = open_bind(&document->mounts[i], err);
                if (fds[n] < 0)
                        return fds[n];
        }
        return n + 1;
}

int files_open(const Document *document, const char *layers_dir, const char *data_dir, int *fds,
               KlError **err)
{
        int r = make_files(document, err);

        if (r == 0)
                r = open_all(document, layers_dir, data_dir, fds, err);
        if (r < 0)
                remove_fresh(document);
        return r;
}
