/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Removal: of records, of layers that nothing uses any more, and of what crashed pulls left. What
 * goes is first renamed into trash/ under the commit lock, so that it is gone at once and whole;
 * the trees are removed after the lock was given back.
 */

#include "image/layout-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

/* Moves what only this image used to trash/, first its diffs file, so that nobody finds half. */
static int drop_layer(Layout *layout, const char *diff_file, const char *layer)
{
        char name[33];

        if (unlinkat(layout->diffs_fd, diff_file, 0) < 0 && errno != ENOENT)
                return -errno;
        random_hex(name, 16);
        if (renameat(layout->layers_fd, layer, layout->trash_fd, name) < 0 && errno != ENOENT)
                return -errno;
        return 0;
}

static bool layer_is_used(Map *records, const char *layer)
{
        ImageRecord *record;

        for (size_t i = 0; map_next(records, &i, NULL, &record);)
                if (strv_contains(record->image.layers, layer))
                        return true;
        return false;
}

/* The layer of one diffs file, "" when it cannot be read. */
static void read_diff(Layout *layout, const char *file, char ret[static LAYER_NAME_MAX])
{
        char digest[DIGEST_TEXT_SIZE + 8];
        char *dash;

        ret[0] = '\0';
        snprintf(digest, sizeof(digest), "%s", file);
        dash = strchr(digest, '-');
        if (!dash || !str_ends(digest, ".json"))
                return;
        *dash = ':';
        digest[strlen(digest) - strlen(".json")] = '\0';
        if (digest_is_valid(digest))
                layout_find_diff(layout, digest, ret);
}

/* Drops layers that no record names: those of `only`, or all that are older than the age. */
static int drop_unused(Layout *layout, Map *records, char *const *only)
{
        KL_AUTODIR DIR *dir = NULL;
        struct dirent *entry;
        int fd = openat(layout->diffs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r = 0;

        if (fd >= 0)
                dir = fdopendir(fd);
        if (!dir)
                return -ENOMEM;
        while (r == 0 && (entry = readdir(dir))) {
                char layer[LAYER_NAME_MAX];
                struct stat st;

                if (entry->d_name[0] == '.' ||
                    fstatat(layout->diffs_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                read_diff(layout, entry->d_name, layer);
                if (only ? !strv_contains(only, layer)
                         : st.st_mtime + LAYOUT_ORPHAN_AGE_S > time(NULL))
                        continue;
                if (!layer[0])
                        unlinkat(layout->diffs_fd, entry->d_name, 0);
                else if (!layer_is_used(records, layer))
                        r = drop_layer(layout, entry->d_name, layer);
        }
        return r;
}

/* Layer directories without a diffs file: a commit that was cut off. */
static int drop_unknown(Layout *layout, Map *records)
{
        KL_AUTO(map_free) Map *known = map_new(NULL);
        KL_AUTODIR DIR *diffs = NULL, *layers = NULL;
        struct dirent *entry;
        int fd = openat(layout->diffs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        diffs = fd >= 0 ? fdopendir(fd) : NULL;
        fd = openat(layout->layers_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        layers = fd >= 0 ? fdopendir(fd) : NULL;
        if (!diffs || !layers || !known)
                return -ENOMEM;
        while ((entry = readdir(diffs))) {
                char layer[LAYER_NAME_MAX];

                read_diff(layout, entry->d_name, layer);
                if (layer[0] && map_set(known, layer, known) < 0)
                        return -ENOMEM;
        }
        while ((entry = readdir(layers))) {
                char name[33];

                if (entry->d_name[0] == '.' || map_get(known, entry->d_name) ||
                    layer_is_used(records, entry->d_name))
                        continue;
                random_hex(name, 16);
                if (renameat(layout->layers_fd, entry->d_name, layout->trash_fd, name) < 0)
                        return -errno;
        }
        return 0;
}

static int remove_record(Layout *layout, Map *records, ImageRecord *record, KlError **err)
{
        KL_AUTO(image_record_free) ImageRecord *gone = NULL;
        char file[DIGEST_TEXT_SIZE + 8];
        int r;

        snprintf(file, sizeof(file), "%s.json", digest_hex(record->image.id));
        if (unlinkat(layout->images_fd, file, 0) < 0)
                return kl_error_errno(err, -errno, NULL, "remove '%s/images/%s'", layout->path,
                                      file);
        gone = map_take(records, record->image.id);
        r = drop_unused(layout, records, gone->image.layers);
        return r < 0 ? kl_error_errno(err, r, NULL, "remove unused layers") : 0;
}

static int remove_locked(Layout *layout, const char *id, const char *tag, KlError **err)
{
        KL_AUTO(map_free) Map *records = NULL;
        KL_AUTOFD int lock = layout_lock_commit(layout, err);
        ImageRecord *record;
        int r;

        if (lock < 0)
                return lock;
        r = layout_load(layout, NULL, NULL, &records, err);
        if (r < 0)
                return r;
        record = map_get(records, id);
        if (!record || (tag && !image_record_remove_tag(record, tag)))
                return kl_error(err, -ENOENT, NULL, "image '%s' is not here", tag ? tag : id);
        if (tag && record->tags[0])
                return layout_write_record(layout, record, err);
        return remove_record(layout, records, record, err);
}

/* --- trees --- */

typedef int (*EntryFunc)(int dir_fd, const char *name);

static int for_each_entry(int dir_fd, EntryFunc func)
{
        KL_AUTODIR DIR *dir = NULL;
        struct dirent *entry;
        int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int first = 0;

        if (fd >= 0)
                dir = fdopendir(fd);
        if (!dir)
                return -errno;
        while ((entry = readdir(dir))) {
                int r;

                if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
                        continue;
                r = func(dir_fd, entry->d_name);
                if (r < 0 && first == 0)
                        first = r;
        }
        return first;
}

/* A directory beneath tmp/ whose owner is gone. */
static int remove_if_unlocked(int dir_fd, const char *name)
{
        KL_AUTOFD int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
                return 0;
        return tree_remove_at(dir_fd, name);
}

static int remove_if_old(int dir_fd, const char *name)
{
        struct stat st;

        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            st.st_mtime + LAYOUT_INGEST_AGE_S > time(NULL))
                return 0;
        return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* What a write that was cut off left behind: "<name>.<random>.tmp". */
static int remove_if_temp(int dir_fd, const char *name)
{
        if (str_ends(name, ".tmp"))
                unlinkat(dir_fd, name, 0);
        return 0;
}

int layout_remove(Layout *layout, const char *id, const char *tag, KlError **err)
{
        int r = remove_locked(layout, id, tag, err);

        if (r < 0)
                return r;
        r = for_each_entry(layout->trash_fd, tree_remove_at);
        return r < 0 ? kl_error_errno(err, r, NULL, "empty '%s/trash'", layout->path) : 0;
}

static int clean_locked(Layout *layout, KlError **err)
{
        KL_AUTO(map_free) Map *records = NULL;
        KL_AUTOFD int lock = layout_lock_commit(layout, err);
        int r;

        if (lock < 0)
                return lock;
        r = layout_load(layout, NULL, NULL, &records, err);
        if (r < 0)
                return r;
        r = drop_unused(layout, records, NULL);
        if (r == 0)
                r = drop_unknown(layout, records);
        for_each_entry(layout->images_fd, remove_if_temp);
        for_each_entry(layout->diffs_fd, remove_if_temp);
        return r < 0 ? kl_error_errno(err, r, NULL, "clean '%s'", layout->path) : 0;
}

int layout_clean(Layout *layout, KlError **err)
{
        int r = clean_locked(layout, err);
        int trees;

        trees = for_each_entry(layout->tmp_fd, remove_if_unlocked);
        if (trees == 0)
                trees = for_each_entry(layout->ingest_fd, remove_if_old);
        if (trees == 0)
                trees = for_each_entry(layout->trash_fd, tree_remove_at);
        if (r == 0 && trees < 0)
                r = kl_error_errno(err, trees, NULL, "clean '%s'", layout->path);
        return r;
}
