/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The atomic writer. Files live in a directory of their own, `..<time>.<random>`; `..data` points
 * to the one in force and is replaced by rename; what users see are links through `..data`, one for
 * each first path component, which need no change when contents change.
 */

#include "volume/volume-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define DATA_LINK "..data"
#define DATA_LINK_NEW "..data_tmp"
#define FILE_COMPARE_MAX (8U << 20)

/* First component of a path, copied into buf. */
static void first_component(const char *path, char *buf, size_t size)
{
        snprintf(buf, size, "%.*s", (int)strcspn(path, "/"), path);
}

static bool path_is_safe(const char *path)
{
        if (!*path || *path == '/' || strlen(path) >= PATH_MAX || strncmp(path, "..", 2) == 0)
                return false;
        for (const char *p = path; *p; p += strcspn(p, "/"), p += *p == '/')
                if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || !p[2]))
                        return false;
        return true;
}

static mode_t file_mode(const AtomicFile *f, int64_t gid)
{
        return f->mode | (gid >= 0 ? 0440 : 0);
}

/* --- is it there already? --- */

static bool file_is_same(int data, const AtomicFile *f, int64_t gid)
{
        KL_AUTOFREE char *text = NULL;
        struct stat st;
        size_t len;

        if (fstatat(data, f->path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
            (st.st_mode & 07777) != file_mode(f, gid) || (size_t)st.st_size != f->len)
                return false;
        if (file_read_at(data, f->path, FILE_COMPARE_MAX, &text, &len) < 0)
                return false;
        return len == f->len && memcmp(text, f->data, len) == 0;
}

static size_t count_files(int dir_fd, const char *name)
{
        KL_AUTOFD int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        KL_AUTODIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;
        size_t n = 0;

        if (!dir)
                return 0;
        fd = -1;
        while ((entry = readdir(dir))) {
                if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
                        continue;
                n += entry->d_type == DT_DIR ? count_files(dirfd(dir), entry->d_name) : 1;
        }
        return n;
}

static bool all_same(int dir, const char *current, const AtomicFile *files, size_t n, int64_t gid)
{
        KL_AUTOFD int data = *current ? openat(dir, current, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

        if (data < 0 || count_files(dir, current) != n)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!file_is_same(data, &files[i], gid))
                        return false;
        return true;
}

/* --- writing --- */

static int make_parents(int data, const char *path, int64_t gid)
{
        KL_AUTOFREE char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        for (char *slash = strchr(copy, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                if (mkdirat(data, copy, 0755) < 0 && errno != EEXIST)
                        return -errno;
                if (gid >= 0 && (fchownat(data, copy, (uid_t)-1, (gid_t)gid, 0) < 0 ||
                                 fchmodat(data, copy, 02755, 0) < 0))
                        return -errno;
                *slash = '/';
        }
        return 0;
}

static int write_file(int data, const AtomicFile *f, int64_t gid)
{
        KL_AUTOFD int fd = -1;
        int r = make_parents(data, f->path, gid);

        if (r < 0)
                return r;
        fd = openat(data, f->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = fd_write_all(fd, f->data, f->len);
        if (r < 0)
                return r;
        if ((gid >= 0 || f->uid >= 0) && fchown(fd, f->uid >= 0 ? (uid_t)f->uid : (uid_t)-1,
                                                gid >= 0 ? (gid_t)gid : (gid_t)-1) < 0)
                return -errno;
        return fchmod(fd, file_mode(f, gid)) < 0 ? -errno : 0;
}

static int write_generation(int dir, const char *name, const AtomicFile *files, size_t n,
                            int64_t gid, KlError **err)
{
        KL_AUTOFD int data = -1;

        if (mkdirat(dir, name, 0755) < 0)
                return kl_error_errno(err, -errno, NULL, "make '%s'", name);
        data = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (data < 0)
                return kl_error_errno(err, -errno, NULL, "open '%s'", name);
        if (fchmod(data, gid >= 0 ? 02755 : 0755) < 0 ||
            (gid >= 0 && fchown(data, (uid_t)-1, (gid_t)gid) < 0))
                return kl_error_errno(err, -errno, NULL, "set up '%s'", name);
        for (size_t i = 0; i < n; i++) {
                int r = write_file(data, &files[i], gid);

                if (r < 0)
                        return kl_error_errno(err, r, NULL, "write '%s'", files[i].path);
        }
        return 0;
}

static int switch_generation(int dir, const char *name)
{
        unlinkat(dir, DATA_LINK_NEW, 0);
        if (symlinkat(name, dir, DATA_LINK_NEW) < 0 ||
            renameat(dir, DATA_LINK_NEW, dir, DATA_LINK) < 0)
                return -errno;
        return 0;
}

static int make_links(int dir, const AtomicFile *files, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                char first[NAME_MAX + 1], target[NAME_MAX + 16];

                first_component(files[i].path, first, sizeof(first));
                snprintf(target, sizeof(target), DATA_LINK "/%s", first);
                if (symlinkat(target, dir, first) < 0 && errno != EEXIST)
                        return -errno;
        }
        return 0;
}

static bool names_file(const AtomicFile *files, size_t n, const char *name)
{
        for (size_t i = 0; i < n; i++) {
                size_t len = strcspn(files[i].path, "/");

                if (strlen(name) == len && strncmp(files[i].path, name, len) == 0)
                        return true;
        }
        return false;
}

/* Links of files that are gone, and all generations but the current one. */
static void drop_stale(int dir_fd, const char *current, const AtomicFile *files, size_t n)
{
        KL_AUTOFD int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        KL_AUTODIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;

        if (!dir)
                return;
        fd = -1;
        while ((entry = readdir(dir))) {
                const char *name = entry->d_name;

                if (str_eq(name, ".") || str_eq(name, "..") || str_eq(name, DATA_LINK) ||
                    str_eq(name, current))
                        continue;
                if (strncmp(name, "..", 2) == 0)
                        tree_remove_at(dir_fd, name);
                else if (!names_file(files, n, name))
                        unlinkat(dir_fd, name, 0);
        }
}

static void generation_name(char *buf, size_t size)
{
        char stamp[TIME_RFC3339_SIZE], random[9];

        time_format_rfc3339(time_realtime_us(), stamp);
        for (char *p = stamp; *p; p++)
                if (*p == '-' || *p == ':' || *p == 'T')
                        *p = '_';
        stamp[19] = '\0';
        random_hex(random, 4);
        snprintf(buf, size, "..%s.%s", stamp, random);
}

int atomic_write(const char *path, const AtomicFile *files, size_t n, int64_t gid, KlError **err)
{
        KL_AUTOFD int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        char current[NAME_MAX + 1] = "", next[64];
        ssize_t len;
        int r;

        if (dir < 0)
                return kl_error_errno(err, -errno, NULL, "open '%s'", path);
        for (size_t i = 0; i < n; i++)
                if (!path_is_safe(files[i].path))
                        return kl_error(err, -EINVAL, NULL, "'%s' is no path for a file",
                                        files[i].path);
        len = readlinkat(dir, DATA_LINK, current, sizeof(current) - 1);
        current[len > 0 ? len : 0] = '\0';
        if (strchr(current, '/') || strncmp(current, "..", 2) != 0)
                current[0] = '\0';
        if (all_same(dir, current, files, n, gid)) {
                r = make_links(dir, files, n);
                return r < 0 ? kl_error_errno(err, r, NULL, "link files") : 0;
        }
        generation_name(next, sizeof(next));
        r = write_generation(dir, next, files, n, gid, err);
        if (r < 0) {
                tree_remove_at(dir, next);
                return r;
        }
        r = switch_generation(dir, next);
        if (r == 0)
                r = make_links(dir, files, n);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "switch to the new files");
        drop_stale(dir, next, files, n);
        return 0;
}
