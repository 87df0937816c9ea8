/* SPDX-License-Identifier: Apache-2.0 */

/*
 * KubeletConfiguration: documents are walked against the table of fields (kubelet-config-fields.c),
 * one after the other into the same struct, which is upstream's merge of drop-ins: maps by key,
 * everything else as a whole, null takes a field back. Defaults come last, so that a document or
 * flag may be applied at any time before kubelet_config_finish.
 */

#include "config/kubelet-config-internal.h"

#include "base/file.h"
#include "base/map.h"
#include "base/str.h"
#include "codec/yaml.h"

#include <fcntl.h>
#include <stdio.h>

int kubelet_config_new(KubeletConfig **ret, KlError **err)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        KubeletConfig *config = arena ? ARENA_NEW(arena, KubeletConfig) : NULL;

        if (config) {
                config->state = ARENA_NEW(arena, ConfigState);
                if (config->state) {
                        config->state->given = ARENA_ARRAY(arena, config_fields_len, bool);
                        config->state->slots = ARENA_ARRAY(arena, config_fields_len, ConfigSlot);
                }
        }
        if (!config || !config->state || !config->state->given || !config->state->slots)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        config->arena = KL_STEAL(arena);
        *ret = config;
        return 0;
}

KubeletConfig *kubelet_config_free(KubeletConfig *config)
{
        if (config) {
                strv_free(config->warnings);
                arena_free(config->arena);
        }
        return NULL;
}

int config_warn(KubeletConfig *config, const char *format, ...)
{
        KL_AUTOBUF text = BUF_INIT;
        va_list args;

        va_start(args, format);
        buf_vaddf(&text, format, args);
        va_end(args);
        return strv_add(&config->warnings, buf_str(&text));
}

int config_field_find(const char *path)
{
        for (size_t i = 0; i < config_fields_len; i++)
                if (str_eq(config_fields[i].path, path))
                        return (int)i;
        return -1;
}

bool kubelet_config_is_bool(const char *path)
{
        int i = config_field_find(path);

        return i >= 0 && config_fields[i].kind == CONFIG_BOOL;
}

/* True for "authentication" and "authentication.webhook": objects with fields in them. */
static bool is_group(const char *path)
{
        size_t n = strlen(path);

        for (size_t i = 0; i < config_fields_len; i++)
                if (str_starts(config_fields[i].path, path) && config_fields[i].path[n] == '.')
                        return true;
        return false;
}

/* null: as if never given. */
static void take_back(KubeletConfig *config, const char *path)
{
        size_t n = strlen(path);

        for (size_t i = 0; i < config_fields_len; i++) {
                const ConfigField *field = &config_fields[i];
                void *slot = config_slot(config, i);

                if (!str_starts(field->path, path) || (field->path[n] && field->path[n] != '.'))
                        continue;
                config->state->given[i] = false;
                if (field->kind == CONFIG_BOOL)
                        *(bool *)slot = false;
                else if (field->kind == CONFIG_INT || field->kind == CONFIG_DURATION)
                        *(int64_t *)slot = 0;
                else
                        *(void **)slot = NULL;
        }
}

static int walk(KubeletConfig *config, const char *name, const Field *at, KlError **err);

static int member(KubeletConfig *config, const char *name, const Field *f, KlError **err)
{
        char path[512];
        int i;

        field_path(f, path, sizeof(path));
        i = config_field_find(path);
        if (i < 0 && !is_group(path)) {
                if (config_warn(config, "%s: unknown field '%s', ignoring", name, path) < 0)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                return 0;
        }
        if (value_type(f->value) == VALUE_NULL) {
                take_back(config, path);
                return 0;
        }
        if (i < 0) {
                if (value_type(f->value) != VALUE_OBJECT)
                        return field_error(f, err, "expected a map, got %s",
                                           value_type_name(value_type(f->value)));
                return walk(config, name, f, err);
        }
        config->state->given[i] = true;
        return config_decode(config, (size_t)i, f, err);
}

static int walk(KubeletConfig *config, const char *name, const Field *at, KlError **err)
{
        const char *key;
        const Value *child;

        for (void *it = NULL; value_next(at->value, &it, &key, &child);) {
                Field f = { .value = child, .parent = at, .key = key };
                int r;

                if (!at->parent && (str_eq(key, "apiVersion") || str_eq(key, "kind")))
                        continue;
                r = member(config, name, &f, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_kind(const Value *document, KlError **err)
{
        const char *version = value_get_str(document, "apiVersion");
        const char *kind = value_get_str(document, "kind");

        if (value_type(document) != VALUE_OBJECT)
                return kl_error(err, -EINVAL, NULL, "this is no %s but %s", KUBELET_CONFIG_KIND,
                                document ? value_type_name(value_type(document)) : "empty");
        if (!str_eq(version, KUBELET_CONFIG_API_VERSION))
                return kl_error(err, -EINVAL, NULL, "apiVersion: expected '%s', got '%s'",
                                KUBELET_CONFIG_API_VERSION, version ? version : "");
        if (!str_eq(kind, KUBELET_CONFIG_KIND))
                return kl_error(err, -EINVAL, NULL, "kind: expected '%s', got '%s'",
                                KUBELET_CONFIG_KIND, kind ? kind : "");
        return 0;
}

int kubelet_config_read(KubeletConfig *config, const char *name, const char *text, size_t len,
                        KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        Field root;
        int r;

        r = yaml_read(text, len, &document, err);
        if (r >= 0)
                r = check_kind(document, err);
        if (r >= 0) {
                root = field_root(document);
                r = walk(config, name, &root, err);
        }
        return r < 0 ? kl_error_wrap(err, r, "%s", name) : 0;
}

int kubelet_config_read_file(KubeletConfig *config, const char *path, KlError **err)
{
        KL_AUTOFREE char *text = NULL;
        size_t len;
        int r = file_read(path, KUBELET_CONFIG_SIZE_MAX, &text, &len);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "read the configuration '%s'", path);
        return kubelet_config_read(config, path, text, len, err);
}

static int by_name(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Full paths of all *.conf below the directory; upstream descends, too. */
static int list_dropins(const char *path, unsigned int depth, char ***ret, KlError **err)
{
        KL_AUTODIR DIR *dir = opendir(path);
        struct dirent *entry;

        if (!dir)
                return kl_error_errno(err, -errno, NULL, "open the directory '%s'", path);
        while ((entry = readdir(dir))) {
                KL_AUTOFREE char *full = NULL;
                int r = 0;

                if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
                        continue;
                full = str_format("%s/%s", path, entry->d_name);
                if (!full)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                if (entry->d_type == DT_DIR && depth < 4)
                        r = list_dropins(full, depth + 1, ret, err);
                else if (entry->d_type != DT_DIR && str_ends(entry->d_name, ".conf"))
                        r = strv_add(ret, full);
                if (r < 0)
                        return r;
                if (strv_len(*ret) > KUBELET_CONFIG_DROPINS_MAX)
                        return kl_error(err, -E2BIG, NULL, "more than %d files in '%s'",
                                        KUBELET_CONFIG_DROPINS_MAX, path);
        }
        return 0;
}

int kubelet_config_read_dir(KubeletConfig *config, const char *path, KlError **err)
{
        KL_AUTOSTRV files = NULL;
        int r = list_dropins(path, 0, &files, err);

        if (r < 0 || !files)
                return r;
        qsort(files, strv_len(files), sizeof(*files), by_name);
        for (char **file = files; *file; file++) {
                r = kubelet_config_read_file(config, *file, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int kubelet_config_set(KubeletConfig *config, const char *path, const char *text, KlError **err)
{
        int i = config_field_find(path);

        if (i < 0)
                return kl_error(err, -EINVAL, NULL, "no field '%s'", path);
        config->state->given[i] = true;
        return config_decode_text(config, (size_t)i, text, err);
}
