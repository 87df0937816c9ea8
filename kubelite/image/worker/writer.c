/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Entries of a layer to files.
 *
 * Runs in the unpacker: the layer's directory is its root, it has no network and few capabilities.
 * Even so nothing is resolved outside root_fd: parents are opened by openat2(RESOLVE_IN_ROOT),
 * leaves are never followed. So "a -> /etc" followed by "a/passwd" writes <layer>/etc/passwd.
 *
 * Whiteouts become overlay's: a character device 0:0. One that hides a directory which the same
 * layer has anew makes that directory opaque; the mark itself is a trusted.* attribute, which the
 * unpacker may not set: it reports the directory and its parent process sets it.
 *
 * Later entries replace earlier ones of the same name, a directory is kept for a directory.
 */

#include "image/worker/writer-internal.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/str.h"
#include "image/worker/entry-path-internal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define PARENT_MODE 0755
#define XATTR_CAPABILITY "security.capability"

typedef struct Note {
        struct Note *next;
        const char *path;
        struct timespec mtime;
        bool opaque;
} Note;

struct Writer {
        int root_fd;
        void (*opaque)(const char *, void *);
        void *data;
        Arena *arena;
        Note *notes, **notes_end;
        uint64_t n_entries, apparent_bytes;

        /* the directory of the last entry */
        char parent[ENTRY_PATH_MAX];
        int parent_fd;

        /* the open regular file */
        int file_fd;
        Entry file; /* without path and link */
        uint64_t file_end;
        EntryXattr *file_xattrs;
        char name[ENTRY_PATH_MAX]; /* of the entry at hand, for errors */
};

int writer_new(int root_fd, void (*opaque)(const char *path, void *data), void *data, Writer **ret,
               KlError **err)
{
        Writer *writer = calloc(1, sizeof(*writer));

        if (!writer)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        writer->root_fd = root_fd;
        writer->opaque = opaque;
        writer->data = data;
        writer->parent_fd = -1;
        writer->file_fd = -1;
        writer->notes_end = &writer->notes;
        writer->arena = arena_new();
        if (!writer->arena) {
                writer_free(writer);
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        *ret = writer;
        return 0;
}

static void drop_xattrs(Writer *w)
{
        for (size_t i = 0; i < w->file.n_xattrs && w->file_xattrs; i++)
                free((void *)w->file_xattrs[i].name);
        free(w->file_xattrs);
        w->file_xattrs = NULL;
        w->file.n_xattrs = 0;
}

Writer *writer_free(Writer *writer)
{
        if (!writer)
                return NULL;
        kl_close(writer->parent_fd);
        kl_close(writer->file_fd);
        drop_xattrs(writer);
        arena_free(writer->arena);
        free(writer);
        return NULL;
}

uint64_t writer_entries(const Writer *writer)
{
        return writer->n_entries;
}

static int fail(Writer *w, int code, const char *what, KlError **err)
{
        return kl_error_errno(err, code, NULL, "%s '/%s'", what, w->name);
}

static void forget_parent(Writer *w)
{
        w->parent_fd = kl_close(w->parent_fd);
}

static int add_note(Writer *w, const char *path, struct timespec mtime, bool opaque, KlError **err)
{
        Note *note = ARENA_NEW(w->arena, Note);
        char *copy = arena_strdup(w->arena, path);

        if (!note || !copy)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (arena_size(w->arena) > WRITER_NOTES_BYTES_MAX)
                return kl_error(err, -EFBIG, NULL, "the layer has too many directories");
        *note = (Note){ NULL, copy, mtime, opaque };
        *w->notes_end = note;
        w->notes_end = &note->next;
        return 0;
}

/* --- parents --- */

static bool is_whiteout(const struct stat *st)
{
        return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

/* Makes one missing part. A whiteout in its place gives way to an opaque directory. */
static int make_parent(Writer *w, int dir_fd, const char *leaf, const char *path, KlError **err)
{
        struct timespec omit = { 0, UTIME_OMIT };
        struct stat st;

        if (mkdirat(dir_fd, leaf, PARENT_MODE) == 0)
                return 0;
        if (errno != EEXIST)
                return fail(w, -errno, "make the directory of", err);
        if (fstatat(dir_fd, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0 || !is_whiteout(&st))
                return fail(w, -ENOTDIR, "make the directory of", err);
        if (unlinkat(dir_fd, leaf, 0) < 0 || mkdirat(dir_fd, leaf, PARENT_MODE) < 0)
                return fail(w, -errno, "make the directory of", err);
        return add_note(w, path, omit, true, err);
}

/* Opens a directory by its clean path, making what is missing. */
static int open_parents(Writer *w, char *path, int *ret, KlError **err)
{
        KL_AUTOFD int above = -1;
        char *slash;
        int fd = path_open_in_root(w->root_fd, *path ? path : ".", O_PATH | O_DIRECTORY, 0);
        int r;

        if (fd >= 0) {
                *ret = fd;
                return 0;
        }
        if (!*path || (fd != -ENOENT && fd != -ENOTDIR))
                return fail(w, fd, "open the directory of", err);
        slash = strrchr(path, '/');
        if (slash)
                *slash = '\0';
        r = open_parents(w, slash ? path : path + strlen(path), &above, err);
        if (slash)
                *slash = '/';
        if (r < 0)
                return r;
        r = make_parent(w, above, slash ? slash + 1 : path, path, err);
        if (r < 0)
                return r;
        fd = openat(above, slash ? slash + 1 : path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return fail(w, -errno, "open the directory of", err);
        *ret = fd;
        return 0;
}

/* The directory that holds the first len bytes' path; kept open for the next entry. */
static int enter_parent(Writer *w, const char *path, size_t len, KlError **err)
{
        if (w->parent_fd >= 0 && strlen(w->parent) == len && memcmp(w->parent, path, len) == 0)
                return 0;
        forget_parent(w);
        memcpy(w->parent, path, len);
        w->parent[len] = '\0';
        return open_parents(w, w->parent, &w->parent_fd, err);
}

/* --- attributes --- */

static int set_xattrs(Writer *w, int fd, const EntryXattr *xattrs, size_t n, KlError **err)
{
        for (size_t i = 0; i < n; i++) {
                const EntryXattr *x = &xattrs[i];

                if (!str_starts(x->name, "user.") && !str_eq(x->name, XATTR_CAPABILITY))
                        continue;
                if (fsetxattr(fd, x->name, x->value, x->len, 0) < 0 && errno != ENOTSUP)
                        return fail(w, -errno, "set extended attributes of", err);
        }
        return 0;
}

static int check_xattrs(const Entry *entry, KlError **err)
{
        size_t bytes = 0;

        for (size_t i = 0; i < entry->n_xattrs; i++) {
                if (str_starts(entry->xattrs[i].name, "trusted."))
                        return kl_error(err, -EPERM, NULL,
                                        "'/%s' has an attribute '%s', which an "
                                        "image may not set",
                                        entry->path, entry->xattrs[i].name);
                bytes += entry->xattrs[i].len;
        }
        if (entry->n_xattrs > ENTRY_XATTRS_MAX || bytes > ENTRY_XATTR_BYTES_MAX)
                return kl_error(err, -EFBIG, NULL, "'/%s' has too many extended attributes",
                                entry->path);
        return 0;
}

/* Always, since a directory with the setgid bit passes on its group. Owner before mode: chown
 * clears the setuid bits. */
static int set_owner(Writer *w, int fd, const Entry *e, KlError **err)
{
        if (fchown(fd, e->uid, e->gid) < 0 ||
            ((S_ISDIR(e->mode) || e->mode & 07000) && fchmod(fd, e->mode & 07777) < 0))
                return fail(w, -errno, "set the owner of", err);
        return 0;
}

static int finish_file(Writer *w, KlError **err)
{
        struct timespec times[2] = { w->file.mtime, w->file.mtime };
        int r = 0;

        if (w->file_fd < 0)
                return 0;
        if (w->file_end < w->file.size && ftruncate(w->file_fd, (off_t)w->file.size) < 0)
                r = fail(w, -errno, "write", err);
        if (r == 0)
                r = set_owner(w, w->file_fd, &w->file, err);
        if (r == 0)
                r = set_xattrs(w, w->file_fd, w->file_xattrs, w->file.n_xattrs, err);
        if (r == 0 && futimens(w->file_fd, times) < 0)
                r = fail(w, -errno, "set the time of", err);
        if (close(w->file_fd) < 0 && r == 0)
                r = fail(w, -errno, "write", err);
        w->file_fd = -1;
        drop_xattrs(w);
        return r;
}

/* --- one function a kind; leaf is beneath parent_fd and does not exist --- */

static int keep_xattrs(Writer *w, const Entry *e)
{
        if (e->n_xattrs == 0)
                return 0;
        w->file_xattrs = calloc(e->n_xattrs, sizeof(*w->file_xattrs));
        if (!w->file_xattrs)
                return -ENOMEM;
        for (size_t i = 0; i < e->n_xattrs; i++) {
                size_t name = strlen(e->xattrs[i].name) + 1;
                char *copy = malloc(name + e->xattrs[i].len);

                if (!copy)
                        return -ENOMEM;
                memcpy(copy, e->xattrs[i].name, name);
                memcpy(copy + name, e->xattrs[i].value, e->xattrs[i].len);
                w->file_xattrs[i] = (EntryXattr){ copy, copy + name, e->xattrs[i].len };
                w->file.n_xattrs = i + 1;
        }
        return 0;
}

static int write_file(Writer *w, const Entry *e, const char *leaf, KlError **err)
{
        if (e->size > LAYER_APPARENT_MAX - w->apparent_bytes)
                return kl_error(err, -EFBIG, NULL, "the layer's files are larger than %llu bytes",
                                (unsigned long long)LAYER_APPARENT_MAX);
        w->apparent_bytes += e->size;
        w->file_fd = openat(w->parent_fd, leaf,
                            O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, e->mode & 07777);
        if (w->file_fd < 0)
                return fail(w, -errno, "create", err);
        w->file = *e;
        w->file.n_xattrs = 0;
        w->file_end = 0;
        if (keep_xattrs(w, e) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        return 1;
}

static int write_directory(Writer *w, const Entry *e, const char *leaf, bool opaque, KlError **err)
{
        KL_AUTOFD int fd = -1;
        int r;

        if (mkdirat(w->parent_fd, leaf, e->mode & 07777) < 0 && errno != EEXIST)
                return fail(w, -errno, "create", err);
        fd = openat(w->parent_fd, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return fail(w, -errno, "open", err);
        r = set_owner(w, fd, e, err);
        if (r == 0)
                r = set_xattrs(w, fd, e->xattrs, e->n_xattrs, err);
        return r < 0 ? r : add_note(w, w->name, e->mtime, opaque, err);
}

static int write_hardlink(Writer *w, const Entry *e, const char *leaf, KlError **err)
{
        KL_AUTOFD int dir = -1;
        char target[ENTRY_PATH_MAX];
        const char *target_leaf;
        char *slash;
        int r = entry_path_clean(e->link ? e->link : "", target);

        if (r < 0 || !*target)
                return kl_error(err, -EINVAL, NULL,
                                "'/%s' is a hard link to '%s', out of the layer", w->name,
                                e->link ? e->link : "");
        slash = strrchr(target, '/');
        target_leaf = slash ? slash + 1 : target;
        if (slash)
                *slash = '\0';
        dir = path_open_in_root(w->root_fd, slash ? target : ".", O_PATH | O_DIRECTORY, 0);
        if (dir < 0)
                return fail(w, dir, "find the target of hard link", err);
        if (linkat(dir, target_leaf, w->parent_fd, leaf, 0) < 0)
                return fail(w, -errno, "create hard link", err);
        return 0;
}

/* Symbolic links, devices, FIFOs. */
static int write_special(Writer *w, const Entry *e, const char *leaf, KlError **err)
{
        struct timespec times[2] = { e->mtime, e->mtime };
        int r;

        if (S_ISLNK(e->mode))
                r = symlinkat(e->link ? e->link : "", w->parent_fd, leaf);
        else
                r = mknodat(w->parent_fd, leaf, e->mode, S_ISFIFO(e->mode) ? 0 : e->device);
        if (r < 0)
                return fail(w, -errno, "create", err);
        if (fchownat(w->parent_fd, leaf, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
            (!S_ISLNK(e->mode) && fchmodat(w->parent_fd, leaf, e->mode & 07777, 0) < 0))
                return fail(w, -errno, "set the owner of", err);
        if (utimensat(w->parent_fd, leaf, times, AT_SYMLINK_NOFOLLOW) < 0)
                return fail(w, -errno, "set the time of", err);
        return 0;
}

/* --- marks --- */

static int write_whiteout(Writer *w, const char *leaf, size_t parent_len, KlError **err)
{
        struct timespec omit = { 0, UTIME_OMIT };
        char path[ENTRY_PATH_MAX];
        struct stat st;
        int n;

        if (mknodat(w->parent_fd, leaf, S_IFCHR, makedev(0, 0)) == 0)
                return 0;
        if (errno != EEXIST)
                return fail(w, -errno, "create whiteout", err);
        if (fstatat(w->parent_fd, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return fail(w, -errno, "look at", err);
        if (!S_ISDIR(st.st_mode))
                return 0;
        n = snprintf(path, sizeof(path), "%.*s%s%s", (int)parent_len, w->name,
                     parent_len > 0 ? "/" : "", leaf);
        if (n < 0 || (size_t)n >= sizeof(path))
                return fail(w, -ENAMETOOLONG, "create whiteout", err);
        return add_note(w, path, omit, true, err);
}

/* Makes room for an entry: 1 when a whiteout was there, 0, <0. A directory stays for one. */
static int make_room(Writer *w, const Entry *e, const char *leaf, KlError **err)
{
        struct stat st;
        int r;

        if (fstatat(w->parent_fd, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : fail(w, -errno, "look at", err);
        if (S_ISDIR(st.st_mode) && S_ISDIR(e->mode))
                return 0;
        if (S_ISDIR(st.st_mode))
                r = tree_remove_at(w->parent_fd, leaf);
        else
                r = unlinkat(w->parent_fd, leaf, 0) < 0 ? -errno : 0;
        return r < 0 ? fail(w, r, "replace", err) : is_whiteout(&st);
}

/* The root's own entry: owner, mode, time. */
static int write_root(Writer *w, const Entry *e, KlError **err)
{
        KL_AUTOFD int fd = openat(w->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r;

        if (!S_ISDIR(e->mode))
                return kl_error(err, -EINVAL, NULL, "the layer's root is no directory");
        if (fd < 0)
                return fail(w, -errno, "open", err);
        r = set_owner(w, fd, e, err);
        return r < 0 ? r : add_note(w, "", e->mtime, false, err);
}

static int write_plain(Writer *w, const Entry *e, const char *leaf, KlError **err)
{
        int r = make_room(w, e, leaf, err);
        bool opaque = r > 0 && S_ISDIR(e->mode);

        if (r < 0)
                return r;
        switch (e->mode & S_IFMT) {
        case S_IFREG:
                return write_file(w, e, leaf, err);
        case S_IFDIR:
                return write_directory(w, e, leaf, opaque, err);
        case 0:
                return write_hardlink(w, e, leaf, err);
        case S_IFLNK:
        case S_IFCHR:
        case S_IFBLK:
        case S_IFIFO:
                return write_special(w, e, leaf, err);
        default:
                return kl_error(err, -EINVAL, NULL, "'/%s' is of an unknown type", w->name);
        }
}

int writer_entry(Writer *w, const Entry *entry, KlError **err)
{
        struct timespec omit = { 0, UTIME_OMIT };
        size_t parent_len;
        const char *leaf;
        EntryMark mark;
        int r = finish_file(w, err);

        if (r < 0)
                return r;
        if (++w->n_entries > LAYER_ENTRIES_MAX)
                return kl_error(err, -EFBIG, NULL, "the layer has more than %d entries",
                                LAYER_ENTRIES_MAX);
        r = entry_path_clean(entry->path, w->name);
        if (r < 0)
                return kl_error(err, r, NULL,
                                r == -EINVAL ? "the entry '%.200s' leaves the layer"
                                             : "the name '%.200s…' is too long",
                                entry->path);
        r = check_xattrs(entry, err);
        if (r < 0)
                return r;
        if (!*w->name)
                return write_root(w, entry, err);
        mark = entry_path_split(w->name, &parent_len, &leaf);
        if (mark == ENTRY_IGNORED)
                return 0;
        if (mark == ENTRY_BAD)
                return kl_error(err, -EINVAL, NULL, "the entry '%.200s' is no whiteout",
                                entry->path);
        r = enter_parent(w, w->name, parent_len, err);
        if (r < 0)
                return r;
        if (mark == ENTRY_OPAQUE)
                return add_note(w, w->parent, omit, true, err);
        if (mark == ENTRY_WHITEOUT)
                return write_whiteout(w, leaf, parent_len, err);
        return write_plain(w, entry, leaf, err);
}

int writer_data(Writer *w, const void *data, size_t len, uint64_t offset, KlError **err)
{
        const char *from = data;

        if (offset > w->file.size || len > w->file.size - offset)
                return kl_error(err, -EINVAL, NULL, "'/%s' is longer than its header says",
                                w->name);
        while (len > 0) {
                ssize_t n = pwrite(w->file_fd, from, len, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return fail(w, -errno, "write", err);
                from += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
                if (offset > w->file_end)
                        w->file_end = offset;
        }
        return 0;
}

int writer_finish(Writer *w, KlError **err)
{
        int r = finish_file(w, err);

        forget_parent(w);
        for (Note *note = w->notes; note && r == 0; note = note->next) {
                struct timespec times[2] = { note->mtime, note->mtime };
                KL_AUTOFD int fd = path_open_in_root(w->root_fd, *note->path ? note->path : ".",
                                                     O_RDONLY | O_DIRECTORY, 0);

                if (fd < 0)
                        continue; /* it was replaced by something else */
                if (note->opaque)
                        w->opaque(note->path, w->data);
                if (futimens(fd, times) < 0)
                        r = kl_error_errno(err, -errno, NULL, "set the time of '/%s'", note->path);
        }
        return r;
}
