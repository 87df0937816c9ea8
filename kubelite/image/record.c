/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Records of images as JSON. Only kubelite writes them, after it has verified what they say; they
 * are still decoded with care, since disks rot.
 */

#include "image/record-internal.h"

#include "base/str.h"
#include "codec/json.h"
#include "image/digest-internal.h"
#include "image/manifest-internal.h"

ImageRecord *image_record_new(void)
{
        KL_AUTO(image_record_free) ImageRecord *record = calloc(1, sizeof(*record));

        if (!record)
                return NULL;
        record->arena = arena_new();
        record->tags = calloc(1, sizeof(char *));
        record->digests = calloc(1, sizeof(char *));
        if (!record->arena || !record->tags || !record->digests)
                return NULL;
        record->image.tags = record->tags;
        record->image.digests = record->digests;
        return KL_STEAL(record);
}

ImageRecord *image_record_free(ImageRecord *record)
{
        if (!record)
                return NULL;
        strv_free(record->tags);
        strv_free(record->digests);
        arena_free(record->arena);
        free(record);
        return NULL;
}

int image_record_add_tag(ImageRecord *record, const char *tag)
{
        int r = strv_contains(record->tags, tag) ? 0 : strv_add(&record->tags, tag);

        record->image.tags = record->tags;
        return r;
}

int image_record_add_digest(ImageRecord *record, const char *digest)
{
        int r = strv_contains(record->digests, digest) ? 0 : strv_add(&record->digests, digest);

        record->image.digests = record->digests;
        return r;
}

bool image_record_remove_tag(ImageRecord *record, const char *tag)
{
        for (size_t i = 0; record->tags[i]; i++) {
                if (!str_eq(record->tags[i], tag))
                        continue;
                free(record->tags[i]);
                memmove(&record->tags[i], &record->tags[i + 1],
                        strv_len(&record->tags[i + 1]) * sizeof(char *) + sizeof(char *));
                return true;
        }
        return false;
}

bool layer_name_is_valid(const char *name)
{
        size_t len = name ? strlen(name) : 0;

        return len > 0 && len < LAYER_NAME_MAX &&
               strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz") == len;
}

int image_record_encode(const ImageRecord *record, Buf *to)
{
        const Image *image = &record->image;
        JsonWriter w = JSON_WRITER(to);

        jw_object(&w);
        jw_kint(&w, "version", RECORD_VERSION);
        jw_kint(&w, "sequence", (int64_t)record->sequence);
        jw_kstr(&w, "id", image->id);
        jw_kstrv(&w, "tags", record->tags);
        jw_kstrv(&w, "digests", record->digests);
        jw_kint(&w, "size", (int64_t)image->size_bytes);
        jw_kbool(&w, "pinned", image->pinned);
        jw_kstr(&w, "architecture", image->architecture);
        jw_kstr(&w, "os", image->os);
        jw_kstrv(&w, "layers", image->layers);
        jw_kobject(&w, "config");
        jw_kstr_opt(&w, "user", image->user);
        jw_kstr_opt(&w, "workingDir", image->working_dir);
        jw_kstr_opt(&w, "stopSignal", image->stop_signal);
        jw_kstrv(&w, "env", image->env);
        jw_kstrv(&w, "entrypoint", image->entrypoint);
        jw_kstrv(&w, "cmd", image->cmd);
        jw_kstrv(&w, "volumes", image->volumes);
        jw_end(&w);
        jw_end(&w);
        return buf_error(to);
}

static int decode_text(const Field *object, const char *key, Arena *arena, const char **ret,
                       KlError **err)
{
        char *text = NULL;
        int r = field_str(object, key, arena, &text, err);

        *ret = text ? text : "";
        return r;
}

static int decode_list(const Field *object, const char *key, Arena *arena, char *const **ret,
                       KlError **err)
{
        char **list = NULL;
        int r = field_strv(object, key, arena, &list, err);

        if (r == 0 && !list)
                list = ARENA_ARRAY(arena, 1, char *);
        *ret = list;
        return r < 0 || list ? r : kl_error(err, -ENOMEM, NULL, "out of memory");
}

static int decode_names(const Field *root, ImageRecord *record, KlError **err)
{
        char *const *tags, *const *digests;
        int r = decode_list(root, "tags", record->arena, &tags, err);

        if (r == 0)
                r = decode_list(root, "digests", record->arena, &digests, err);
        for (size_t i = 0; r == 0 && tags[i]; i++)
                r = image_record_add_tag(record, tags[i]);
        for (size_t i = 0; r == 0 && digests[i]; i++)
                r = image_record_add_digest(record, digests[i]);
        return r;
}

static int decode_config(const Field *root, ImageRecord *record, KlError **err)
{
        Field config = field_get(root, "config");
        Image *image = &record->image;
        Arena *arena = record->arena;
        int r = decode_text(&config, "user", arena, &image->user, err);

        if (r == 0)
                r = decode_text(&config, "workingDir", arena, &image->working_dir, err);
        if (r == 0)
                r = decode_text(&config, "stopSignal", arena, &image->stop_signal, err);
        if (r == 0)
                r = decode_list(&config, "env", arena, &image->env, err);
        if (r == 0)
                r = decode_list(&config, "entrypoint", arena, &image->entrypoint, err);
        if (r == 0)
                r = decode_list(&config, "cmd", arena, &image->cmd, err);
        if (r == 0)
                r = decode_list(&config, "volumes", arena, &image->volumes, err);
        return r;
}

static int decode_layers(const Field *root, ImageRecord *record, KlError **err)
{
        int r = decode_list(root, "layers", record->arena, &record->image.layers, err);

        if (r < 0)
                return r;
        if (strv_len(record->image.layers) > MANIFEST_LAYERS_MAX)
                return kl_error(err, -EINVAL, NULL, "the record has too many layers");
        for (size_t i = 0; record->image.layers[i]; i++)
                if (!layer_name_is_valid(record->image.layers[i]))
                        return kl_error(err, -EINVAL, NULL, "the record names a layer '%s'",
                                        record->image.layers[i]);
        return 0;
}

static int decode_record(const Field *root, ImageRecord *record, KlError **err)
{
        Image *image = &record->image;
        int64_t version = 0, size = 0, sequence = 0;
        int r = field_int(root, "version", 0, INT32_MAX, &version, err);

        if (r == 0 && version != RECORD_VERSION)
                r = kl_error(err, -EINVAL, NULL, "the record has version %lld", (long long)version);
        if (r == 0)
                r = decode_text(root, "id", record->arena, &image->id, err);
        if (r == 0 && !digest_is_valid(image->id))
                r = kl_error(err, -EINVAL, NULL, "the record has no id");
        if (r == 0)
                r = field_int(root, "size", 0, INT64_MAX, &size, err);
        if (r == 0)
                r = field_int(root, "sequence", 0, INT64_MAX, &sequence, err);
        if (r == 0)
                r = field_bool(root, "pinned", &image->pinned, err);
        if (r == 0)
                r = decode_text(root, "architecture", record->arena, &image->architecture, err);
        if (r == 0)
                r = decode_text(root, "os", record->arena, &image->os, err);
        image->size_bytes = (uint64_t)size;
        record->sequence = (uint64_t)sequence;
        return r;
}

int image_record_decode(const char *data, size_t len, ImageRecord **ret, KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        KL_AUTO(image_record_free) ImageRecord *record = image_record_new();
        Field root;
        int r;

        if (!record)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = json_parse(data, len, &document, err);
        if (r < 0)
                return r;
        root = field_root(document);
        r = decode_record(&root, record, err);
        if (r == 0)
                r = decode_names(&root, record, err);
        if (r == 0)
                r = decode_layers(&root, record, err);
        if (r == 0)
                r = decode_config(&root, record, err);
        if (r < 0)
                return r < 0 && err && !*err ? kl_error(err, r, NULL, "out of memory") : r;
        *ret = KL_STEAL(record);
        return 0;
}
