/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The store's directories: opening, locks, loading records. Writing is commit.c, removal is
 * clean.c.
 */

#include "image/layout-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#define VERSION_BYTES_MAX 64
#define DIFF_RECORD_BYTES_MAX 4096

static int open_part(Layout *layout, const char *name, int *ret)
{
        if (mkdirat(layout->dir_fd, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        *ret = openat(layout->dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return *ret < 0 ? -errno : 0;
}

static int open_parts(Layout *layout)
{
        int r = open_part(layout, "images", &layout->images_fd);

        if (r == 0)
                r = open_part(layout, "diffs", &layout->diffs_fd);
        if (r == 0)
                r = open_part(layout, "layers", &layout->layers_fd);
        if (r == 0)
                r = open_part(layout, "ingest", &layout->ingest_fd);
        if (r == 0)
                r = open_part(layout, "tmp", &layout->tmp_fd);
        if (r == 0)
                r = open_part(layout, "trash", &layout->trash_fd);
        return r;
}

static int check_version(Layout *layout, KlError **err)
{
        KL_AUTOFREE char *version = NULL;
        size_t len;
        int r = file_read_at(layout->dir_fd, "version", VERSION_BYTES_MAX, &version, &len);

        if (r == -ENOENT)
                r = file_replace_at(layout->dir_fd, "version", LAYOUT_VERSION "\n",
                                    strlen(LAYOUT_VERSION) + 1, 0600, true);
        else if (r == 0 && !str_eq(version, LAYOUT_VERSION "\n"))
                return kl_error(err, -EINVAL, NULL,
                                "the image store '%s' has version '%.*s', this "
                                "program knows " LAYOUT_VERSION,
                                layout->path, (int)strcspn(version, "\n"), version);
        return r < 0 ? kl_error_errno(err, r, NULL, "read '%s/version'", layout->path) : 0;
}

int layout_open(const char *path, Layout **ret, KlError **err)
{
        KL_AUTO(layout_close) Layout *layout = malloc(sizeof(*layout));
        int r;

        if (!layout)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *layout = (Layout){ NULL, -1, -1, -1, -1, -1, -1, -1 };
        r = dir_make_all(path, 0700);
        if (r == 0) {
                layout->path = realpath(path, NULL);
                r = layout->path ? 0 : -errno;
        }
        if (r == 0) {
                layout->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                r = layout->dir_fd < 0 ? -errno : open_parts(layout);
        }
        if (r < 0)
                return kl_error_errno(err, r, NULL, "open the image store '%s'", path);
        r = check_version(layout, err);
        if (r < 0)
                return r;
        *ret = KL_STEAL(layout);
        return 0;
}

Layout *layout_close(Layout *layout)
{
        if (!layout)
                return NULL;
        kl_close(layout->dir_fd);
        kl_close(layout->images_fd);
        kl_close(layout->diffs_fd);
        kl_close(layout->layers_fd);
        kl_close(layout->ingest_fd);
        kl_close(layout->tmp_fd);
        kl_close(layout->trash_fd);
        free(layout->path);
        free(layout);
        return NULL;
}

int layout_own(Layout *layout, KlError **err)
{
        KL_AUTOFD int fd =
                openat(layout->dir_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r;

        if (fd < 0)
                return kl_error_errno(err, -errno, NULL, "open '%s/lock'", layout->path);
        r = fd_lock(fd);
        if (r < 0) {
                if (r == -EBUSY)
                        return kl_error(err, -EBUSY, NULL,
                                        "the image store '%s' is in use by "
                                        "another process",
                                        layout->path);
                return kl_error_errno(err, r, NULL, "lock '%s/lock'", layout->path);
        }
        return KL_STEAL_FD(fd);
}

/* --- records --- */

static int load_file(Layout *layout, const char *name, ImageRecord **ret, KlError **err)
{
        KL_AUTO(image_record_free) ImageRecord *record = NULL;
        KL_AUTOFREE char *data = NULL;
        size_t len;
        int r = file_read_at(layout->images_fd, name, RECORD_BYTES_MAX, &data, &len);

        if (r == -ENOENT)
                return 1;
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read '%s'", name);
        r = image_record_decode(data, len, &record, err);
        if (r < 0)
                return r;
        for (size_t i = 0; record->image.layers[i]; i++)
                if (faccessat(layout->layers_fd, record->image.layers[i], F_OK,
                              AT_SYMLINK_NOFOLLOW) < 0)
                        return kl_error(err, -EINVAL, NULL, "layer '%s' is missing",
                                        record->image.layers[i]);
        *ret = KL_STEAL(record);
        return 0;
}

int layout_load_one(Layout *layout, const char *id, ImageRecord **ret, KlError **err)
{
        char name[DIGEST_TEXT_SIZE + 8];

        snprintf(name, sizeof(name), "%s.json", digest_hex(id));
        return load_file(layout, name, ret, err);
}

/* Of two records with one tag (a crash between two writes) the newer one keeps it. */
static void settle_tags(Map *records)
{
        ImageRecord *a, *b;

        for (size_t i = 0; map_next(records, &i, NULL, &a);)
                for (size_t j = 0; map_next(records, &j, NULL, &b);)
                        for (size_t k = 0; a != b && a->sequence > b->sequence && a->tags[k]; k++)
                                image_record_remove_tag(b, a->tags[k]);
}

static void free_record(void *record)
{
        image_record_free(record);
}

int layout_load(Layout *layout, LayoutBrokenFunc broken, void *data, Map **ret, KlError **err)
{
        KL_AUTO(map_free) Map *records = map_new(free_record);
        KL_AUTODIR DIR *dir = NULL;
        struct dirent *entry;
        int fd = openat(layout->images_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0)
                dir = fdopendir(fd);
        if (!dir || !records)
                return kl_error(err, -ENOMEM, NULL, "cannot read '%s/images'", layout->path);
        while ((entry = readdir(dir))) {
                KL_AUTO(image_record_free) ImageRecord *record = NULL;
                KL_AUTOERR broken_err = NULL;

                if (!str_ends(entry->d_name, ".json"))
                        continue;
                if (load_file(layout, entry->d_name, &record, &broken_err) < 0 && broken)
                        broken(entry->d_name, broken_err, data);
                if (!record)
                        continue;
                if (map_set(records, record->image.id, record) < 0)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                record = NULL;
        }
        settle_tags(records);
        *ret = KL_STEAL(records);
        return 0;
}

/* --- diffs --- */

int layout_find_diff(Layout *layout, const char *diff_id, char ret_name[static LAYER_NAME_MAX])
{
        KL_AUTO(value_free) Value *document = NULL;
        KL_AUTOFREE char *data = NULL;
        char file[DIGEST_TEXT_SIZE + 8], name[DIGEST_TEXT_SIZE];
        const char *layer;
        size_t len;

        digest_file_name(diff_id, name);
        snprintf(file, sizeof(file), "%s.json", name);
        if (file_read_at(layout->diffs_fd, file, DIFF_RECORD_BYTES_MAX, &data, &len) < 0 ||
            json_parse(data, len, &document, NULL) < 0)
                return 0;
        layer = value_get_str(document, "layer");
        if (!layer_name_is_valid(layer) ||
            faccessat(layout->layers_fd, layer, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;
        snprintf(ret_name, LAYER_NAME_MAX, "%s", layer);
        return 1;
}

int layout_make_tmp(Layout *layout, int *ret_fd, char ret_name[static 33], KlError **err)
{
        KL_AUTOFD int fd = -1;

        random_hex(ret_name, 16);
        if (mkdirat(layout->tmp_fd, ret_name, 0700) == 0)
                fd = openat(layout->tmp_fd, ret_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
                return kl_error_errno(err, -errno, NULL, "make '%s/tmp/%s'", layout->path,
                                      ret_name);
        *ret_fd = KL_STEAL_FD(fd);
        return 0;
}
