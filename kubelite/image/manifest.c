/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Decoding of image documents. They come from registries and archives and are hostile: sizes,
 * counts and digests are checked before anything else sees them. Foreign layers' "urls" are not
 * read at all, so nothing can make a node fetch from an address that a manifest names.
 */

#include "image/manifest-internal.h"

#include "base/str.h"
#include "codec/json.h"
#include "image/digest-internal.h"

#include <sys/utsname.h>

Platform platform_host(void)
{
        static const struct {
                const char *machine;
                Platform platform;
        } machines[] = {
                { "x86_64", { "linux", "amd64", "" } },
                { "aarch64", { "linux", "arm64", "v8" } },
                { "armv7l", { "linux", "arm", "v7" } },
                { "armv6l", { "linux", "arm", "v6" } },
                { "i686", { "linux", "386", "" } },
                { "i386", { "linux", "386", "" } },
                { "ppc64le", { "linux", "ppc64le", "" } },
                { "s390x", { "linux", "s390x", "" } },
                { "riscv64", { "linux", "riscv64", "" } },
                { "loongarch64", { "linux", "loong64", "" } },
                { "mips64", { "linux", "mips64", "" } },
        };
        struct utsname name;

        if (uname(&name) == 0)
                for (size_t i = 0; i < ELEMENTS(machines); i++)
                        if (str_eq(machines[i].machine, name.machine))
                                return machines[i].platform;
        return (Platform){ "linux", "unknown", "" };
}

static int decode_digest(const Field *object, const char *key, Arena *arena, const char **ret,
                         KlError **err)
{
        Field field = field_get(object, key);
        char *digest = NULL;
        int r = field_str(object, key, arena, &digest, err);

        if (r < 0)
                return r;
        if (!digest)
                return field_error(&field, err, "is missing");
        if (!digest_is_valid(digest))
                return field_error(&field, err, "is no digest that can be checked");
        *ret = digest;
        return 0;
}

static int decode_text(const Field *object, const char *key, Arena *arena, const char **ret,
                       KlError **err)
{
        char *text = NULL;
        int r = field_str(object, key, arena, &text, err);

        *ret = text ? text : "";
        return r;
}

static int decode_descriptor(const Field *field, Arena *arena, Descriptor *ret, KlError **err)
{
        Field annotations = { 0 };
        char *name = NULL, *ref_name = NULL;
        int64_t size = -1;
        int r;

        if (value_type(field->value) != VALUE_OBJECT)
                return field_error(field, err, "expected an object");
        r = decode_text(field, "mediaType", arena, &ret->media_type, err);
        if (r == 0)
                r = decode_digest(field, "digest", arena, &ret->digest, err);
        if (r == 0)
                r = field_int(field, "size", 0, (int64_t)BLOB_BYTES_MAX, &size, err);
        if (r < 0)
                return r;
        if (size < 0)
                return field_error(field, err, "has no size");
        ret->size = (uint64_t)size;
        r = field_object(field, "annotations", &annotations, err);
        if (r != 0)
                return r < 0 ? r : 0;
        r = field_str(&annotations, "io.containerd.image.name", arena, &name, err);
        if (r == 0)
                r = field_str(&annotations, "org.opencontainers.image.ref.name", arena, &ref_name,
                              err);
        ret->name = name;
        ret->ref_name = ref_name;
        return r;
}

static int decode_platform(const Field *entry, Arena *arena, Platform *ret, KlError **err)
{
        Field platform = { 0 };
        int r = field_object(entry, "platform", &platform, err);

        *ret = (Platform){ "", "", "" };
        if (r != 0)
                return r < 0 ? r : 0;
        r = decode_text(&platform, "os", arena, &ret->os, err);
        if (r == 0)
                r = decode_text(&platform, "architecture", arena, &ret->architecture, err);
        if (r == 0)
                r = decode_text(&platform, "variant", arena, &ret->variant, err);
        return r;
}

static int decode_index(const Field *root, Arena *arena, Manifest *ret, KlError **err)
{
        Field entries;
        int r = field_array(root, "manifests", INDEX_ENTRIES_MAX, &entries, &ret->n_entries, err);

        if (r < 0)
                return r;
        ret->entries = ARENA_ARRAY(arena, ret->n_entries + 1, Descriptor);
        ret->platforms = ARENA_ARRAY(arena, ret->n_entries + 1, Platform);
        if (!ret->entries || !ret->platforms)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        for (size_t i = 0; i < ret->n_entries; i++) {
                Field entry = field_at(&entries, i);

                r = decode_descriptor(&entry, arena, &ret->entries[i], err);
                if (r == 0)
                        r = decode_platform(&entry, arena, &ret->platforms[i], err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int decode_image(const Field *root, Arena *arena, Manifest *ret, KlError **err)
{
        Field config = field_get(root, "config"), layers;
        int r = decode_descriptor(&config, arena, &ret->config, err);

        if (r < 0)
                return r;
        if (ret->config.size > CONFIG_BYTES_MAX)
                return field_error(&config, err, "is larger than %u bytes", CONFIG_BYTES_MAX);
        r = field_array(root, "layers", MANIFEST_LAYERS_MAX, &layers, &ret->n_layers, err);
        if (r < 0)
                return r;
        ret->layers = ARENA_ARRAY(arena, ret->n_layers + 1, Descriptor);
        if (!ret->layers)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        for (size_t i = 0; i < ret->n_layers; i++) {
                Field layer = field_at(&layers, i);

                r = decode_descriptor(&layer, arena, &ret->layers[i], err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_document(const char *data, size_t len, size_t max, Value **ret, KlError **err)
{
        if (len > max)
                return kl_error(err, -EMSGSIZE, NULL, "the document is larger than %zu bytes", max);
        return json_parse(data, len, ret, err);
}

int manifest_decode(const char *data, size_t len, Arena *arena, Manifest *ret, KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        Field root;
        int64_t version = 0;
        int r = parse_document(data, len, MANIFEST_BYTES_MAX, &document, err);

        if (r < 0)
                return r;
        *ret = (Manifest){ 0 };
        root = field_root(document);
        r = field_int(&root, "schemaVersion", 0, 100, &version, err);
        if (r < 0)
                return r;
        if (version == 1)
                return kl_error(err, -EINVAL, NULL,
                                "it is a manifest of schema 1, which is no "
                                "longer supported");
        if (value_type(value_get(document, "config")) == VALUE_OBJECT) {
                ret->kind = MANIFEST_IMAGE;
                return decode_image(&root, arena, ret, err);
        }
        if (value_type(value_get(document, "manifests")) != VALUE_ARRAY)
                return kl_error(err, -EINVAL, NULL, "it is neither an image manifest nor an index");
        ret->kind = MANIFEST_INDEX;
        return decode_index(&root, arena, ret, err);
}

/* "arm64" without a variant is v8, "arm" without one is v7. */
static const char *variant_of(const Platform *p)
{
        if (!str_empty(p->variant))
                return p->variant;
        if (str_eq(p->architecture, "arm64"))
                return "v8";
        return str_eq(p->architecture, "arm") ? "v7" : "";
}

/* 0: does not run here; higher is better. */
static int platform_score(const Platform *p, const Platform *wanted)
{
        const char *have = variant_of(p), *want = variant_of(wanted);

        if (!str_eq(p->os, wanted->os) || !str_eq(p->architecture, wanted->architecture))
                return 0;
        if (str_eq(have, want))
                return 100;
        if (have[0] == 'v' && want[0] == 'v' && have[1] <= want[1])
                return 10 + (have[1] - '0');
        /* amd64's variants: the plain one runs everywhere, v2 and higher may not */
        return str_empty(have) ? 50 : 0;
}

const Descriptor *manifest_choose(const Manifest *index, const Platform *wanted)
{
        const Descriptor *best = NULL;
        int best_score = 0;

        for (size_t i = 0; i < index->n_entries; i++) {
                int score = platform_score(&index->platforms[i], wanted);

                if (score > best_score) {
                        best = &index->entries[i];
                        best_score = score;
                }
        }
        if (!best && index->n_entries == 1 && str_empty(index->platforms[0].os))
                return &index->entries[0];
        return best;
}

/* --- the configuration --- */

static int decode_strv(const Field *object, const char *key, Arena *arena, char ***ret,
                       KlError **err)
{
        int r = field_strv(object, key, arena, ret, err);

        if (r < 0)
                return r;
        if (!*ret)
                *ret = ARENA_ARRAY(arena, 1, char *);
        return *ret ? 0 : kl_error(err, -ENOMEM, NULL, "out of memory");
}

/* Volumes are the keys of an object. */
static int decode_volumes(const Field *config, Arena *arena, char ***ret, KlError **err)
{
        const Value *volumes = field_get(config, "Volumes").value;
        const char *key;
        const Value *child;
        size_t n = 0;

        *ret = ARENA_ARRAY(arena, value_len(volumes) + 1, char *);
        if (!*ret)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (value_type(volumes) != VALUE_OBJECT)
                return 0;
        for (void *it = NULL; value_next(volumes, &it, &key, &child); n++) {
                (*ret)[n] = arena_strdup(arena, key);
                if (!(*ret)[n])
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        return 0;
}

static int decode_process(const Field *root, Arena *arena, ImageConfig *ret, KlError **err)
{
        Field config = field_get(root, "config");
        int r = decode_text(&config, "User", arena, &ret->user, err);

        if (r == 0)
                r = decode_text(&config, "WorkingDir", arena, &ret->working_dir, err);
        if (r == 0)
                r = decode_text(&config, "StopSignal", arena, &ret->stop_signal, err);
        if (r == 0)
                r = decode_strv(&config, "Env", arena, &ret->env, err);
        if (r == 0)
                r = decode_strv(&config, "Entrypoint", arena, &ret->entrypoint, err);
        if (r == 0)
                r = decode_strv(&config, "Cmd", arena, &ret->cmd, err);
        if (r == 0)
                r = decode_volumes(&config, arena, &ret->volumes, err);
        return r;
}

static int decode_diff_ids(const Field *root, Arena *arena, ImageConfig *ret, KlError **err)
{
        Field rootfs = field_get(root, "rootfs"), ids;
        int r = field_array(&rootfs, "diff_ids", MANIFEST_LAYERS_MAX, &ids, &ret->n_layers, err);

        if (r < 0)
                return r;
        r = decode_strv(&rootfs, "diff_ids", arena, &ret->diff_ids, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ret->n_layers; i++) {
                Field id = field_at(&ids, i);

                if (!digest_is_valid(ret->diff_ids[i]))
                        return field_error(&id, err, "is no digest that can be checked");
        }
        return 0;
}

int image_config_decode(const char *data, size_t len, Arena *arena, ImageConfig *ret, KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        Field root;
        int r = parse_document(data, len, CONFIG_BYTES_MAX, &document, err);

        if (r < 0)
                return r;
        if (value_type(document) != VALUE_OBJECT)
                return kl_error(err, -EINVAL, NULL, "the image's configuration is no object");
        *ret = (ImageConfig){ 0 };
        root = field_root(document);
        r = decode_text(&root, "architecture", arena, &ret->architecture, err);
        if (r == 0)
                r = decode_text(&root, "os", arena, &ret->os, err);
        if (r == 0)
                r = decode_text(&root, "variant", arena, &ret->variant, err);
        if (r == 0)
                r = decode_diff_ids(&root, arena, ret, err);
        if (r == 0)
                r = decode_process(&root, arena, ret, err);
        return r;
}

/* --- docker save --- */

int docker_save_decode(const char *data, size_t len, Arena *arena, DockerSaveImage **ret,
                       size_t *ret_n, KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        Field root;
        size_t n;
        int r = parse_document(data, len, MANIFEST_BYTES_MAX, &document, err);

        if (r < 0)
                return r;
        root = field_root(document);
        n = value_len(document);
        if (value_type(document) != VALUE_ARRAY || n > DOCKER_SAVE_IMAGES_MAX)
                return kl_error(err, -EINVAL, NULL, "manifest.json is no list of at most %d images",
                                DOCKER_SAVE_IMAGES_MAX);
        *ret = ARENA_ARRAY(arena, n + 1, DockerSaveImage);
        if (!*ret)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        for (size_t i = 0; i < n; i++) {
                DockerSaveImage *image = &(*ret)[i];
                Field entry = field_at(&root, i), layers;

                r = decode_text(&entry, "Config", arena, &image->config, err);
                if (r == 0)
                        r = decode_strv(&entry, "RepoTags", arena, &image->tags, err);
                if (r == 0)
                        r = field_array(&entry, "Layers", MANIFEST_LAYERS_MAX, &layers,
                                        &image->n_layers, err);
                if (r == 0)
                        r = decode_strv(&entry, "Layers", arena, &image->layers, err);
                if (r < 0)
                        return r;
        }
        *ret_n = n;
        return 0;
}
