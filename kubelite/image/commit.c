/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Making an image visible. The order is what makes it safe against a crash at any point:
 *
 *     1. syncfs: everything that was unpacked is on the disk
 *     2. each new layer: rename into layers/, then its diffs file (written, synced, renamed)
 *     3. the image's record (written, synced, renamed)
 *     4. other records lose the tags that this one took
 *
 * The commit lock serialises 2 to 4 between processes.
 */

#include "image/layout-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#define NAME_BASE 36

int layout_lock_commit(Layout *layout, KlError **err)
{
        KL_AUTOFD int fd =
                openat(layout->dir_fd, "commit", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd < 0)
                return kl_error_errno(err, -errno, NULL, "open '%s/commit'", layout->path);
        while (flock(fd, LOCK_EX) < 0)
                if (errno != EINTR)
                        return kl_error_errno(err, -errno, NULL, "lock '%s/commit'", layout->path);
        return KL_STEAL_FD(fd);
}

/* --- names of layers: numbers in base 36, each larger than all that are there --- */

static uint64_t name_to_number(const char *name)
{
        uint64_t n = 0;

        if (!layer_name_is_valid(name) || strlen(name) > 10)
                return 0;
        for (; *name; name++)
                n = n * NAME_BASE + (uint64_t)(*name <= '9' ? *name - '0' : *name - 'a' + 10);
        return n;
}

static void number_to_name(uint64_t n, char ret[static LAYER_NAME_MAX])
{
        char digits[LAYER_NAME_MAX];
        size_t len = 0, i = 0;

        do {
                digits[len++] = "0123456789abcdefghijklmnopqrstuvwxyz"[n % NAME_BASE];
                n /= NAME_BASE;
        } while (n > 0);
        while (len > 0)
                ret[i++] = digits[--len];
        ret[i] = '\0';
}

static int next_number(Layout *layout, uint64_t *ret)
{
        KL_AUTODIR DIR *dir = NULL;
        struct dirent *entry;
        int fd = openat(layout->layers_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0)
                dir = fdopendir(fd);
        if (!dir)
                return -ENOMEM;
        *ret = 1;
        while ((entry = readdir(dir))) {
                uint64_t n = name_to_number(entry->d_name);

                if (n >= *ret)
                        *ret = n + 1;
        }
        return 0;
}

static int write_diff(Layout *layout, const LayoutLayer *layer, const char *name)
{
        char digest_name[DIGEST_TEXT_SIZE], file[DIGEST_TEXT_SIZE + 8];
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);

        jw_object(&w);
        jw_kint(&w, "version", RECORD_VERSION);
        jw_kstr(&w, "layer", name);
        jw_kint(&w, "size", (int64_t)layer->size_bytes);
        jw_end(&w);
        if (buf_error(&text))
                return buf_error(&text);
        digest_file_name(layer->diff_id, digest_name);
        snprintf(file, sizeof(file), "%s.json", digest_name);
        return file_replace_at(layout->diffs_fd, file, text.data, text.len, 0600, true);
}

static int place_layer(Layout *layout, LayoutLayer *layer, uint64_t *number, KlError **err)
{
        char name[LAYER_NAME_MAX];
        int r;

        if (layer->tmp_dir_fd < 0 || layout_find_diff(layout, layer->diff_id, name))
                return 0;
        number_to_name((*number)++, name);
        if (renameat(layer->tmp_dir_fd, layer->tmp_name, layout->layers_fd, name) < 0)
                return kl_error_errno(err, -errno, NULL, "move a layer to '%s/layers/%s'",
                                      layout->path, name);
        r = write_diff(layout, layer, name);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "record layer '%s'", name);
        return 0;
}

static int place_layers(Layout *layout, const LayoutCommit *commit, KlError **err)
{
        uint64_t number;
        int r = next_number(layout, &number);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "read '%s/layers'", layout->path);
        for (size_t i = 0; i < commit->n_layers && r == 0; i++)
                r = place_layer(layout, &commit->layers[i], &number, err);
        return r;
}

/*
 * The names of the layers, lowest first. overlay refuses a layer that is named twice; of equal
 * layers the topmost counts, which hides whatever the lower one could add.
 */
static int name_layers(Layout *layout, const LayoutCommit *commit, KlError **err)
{
        ImageRecord *record = commit->record;
        char **names = ARENA_ARRAY(record->arena, commit->n_layers + 1, char *);
        size_t n = 0;

        if (!names)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        for (size_t i = 0; i < commit->n_layers; i++) {
                char name[LAYER_NAME_MAX];
                bool again = false;

                for (size_t j = i + 1; j < commit->n_layers && !again; j++)
                        again = str_eq(commit->layers[i].diff_id, commit->layers[j].diff_id);
                if (again)
                        continue;
                if (!layout_find_diff(layout, commit->layers[i].diff_id, name))
                        return 1;
                names[n] = arena_strdup(record->arena, name);
                if (!names[n++])
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        record->image.layers = names;
        return 0;
}

/* --- records --- */

int layout_write_record(Layout *layout, const ImageRecord *record, KlError **err)
{
        char file[DIGEST_TEXT_SIZE + 8];
        KL_AUTOBUF text = BUF_INIT;
        int r = image_record_encode(record, &text);

        snprintf(file, sizeof(file), "%s.json", digest_hex(record->image.id));
        if (r == 0)
                r = file_replace_at(layout->images_fd, file, text.data, text.len, 0600, true);
        return r < 0 ? kl_error_errno(err, r, NULL, "write '%s/images/%s'", layout->path, file) : 0;
}

static int merge_names(ImageRecord *record, const ImageRecord *older)
{
        int r = 0;

        for (size_t i = 0; older->tags[i] && r == 0; i++)
                r = image_record_add_tag(record, older->tags[i]);
        for (size_t i = 0; older->digests[i] && r == 0; i++)
                r = image_record_add_digest(record, older->digests[i]);
        record->image.pinned |= older->image.pinned;
        return r;
}

/* Takes the tags of `record` away from the others; a record may be left with digests only. */
static int take_tags(Layout *layout, Map *records, const ImageRecord *record, KlError **err)
{
        ImageRecord *other;
        int r = 0;

        for (size_t i = 0; map_next(records, &i, NULL, &other) && r == 0;) {
                bool changed = false;

                if (str_eq(other->image.id, record->image.id))
                        continue;
                for (size_t k = 0; record->tags[k]; k++)
                        changed |= image_record_remove_tag(other, record->tags[k]);
                if (changed)
                        r = layout_write_record(layout, other, err);
        }
        return r;
}

static int commit_record(Layout *layout, ImageRecord *record, KlError **err)
{
        KL_AUTO(map_free) Map *records = NULL;
        ImageRecord *other;
        int r = layout_load(layout, NULL, NULL, &records, err);

        if (r < 0)
                return r;
        for (size_t i = 0; map_next(records, &i, NULL, &other);)
                if (other->sequence >= record->sequence)
                        record->sequence = other->sequence + 1;
        other = map_get(records, record->image.id);
        if (other && merge_names(record, other) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = layout_write_record(layout, record, err);
        if (r == 0)
                r = take_tags(layout, records, record, err);
        return r;
}

int layout_commit(Layout *layout, const LayoutCommit *commit, KlError **err)
{
        KL_AUTOFD int lock = -1;
        bool any_new = false;
        int r;

        for (size_t i = 0; i < commit->n_layers; i++)
                any_new |= commit->layers[i].tmp_dir_fd >= 0;
        if (any_new && syncfs(layout->dir_fd) < 0)
                return kl_error_errno(err, -errno, NULL, "write '%s' to the disk", layout->path);
        lock = layout_lock_commit(layout, err);
        if (lock < 0)
                return lock;
        r = place_layers(layout, commit, err);
        if (r < 0 || !commit->record)
                return r;
        if (any_new && fsync(layout->layers_fd) < 0)
                return kl_error_errno(err, -errno, NULL, "write '%s/layers'", layout->path);
        r = name_layers(layout, commit, err);
        if (r != 0)
                return r;
        return commit_record(layout, commit->record, err);
}
