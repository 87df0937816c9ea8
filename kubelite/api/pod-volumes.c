/* SPDX-License-Identifier: Apache-2.0 */

/* Decoding of a pod's volumes. A type that is not supported decodes too: it fails at mount time,
 * with an event, as upstream does, and does not hide the rest of the pod. */

#include "api/pod-internal.h"

#include "base/str.h"

#define MODE_DEFAULT 0644
#define MODE_MAX 0777
#define TOKEN_EXPIRATION_S 3600
#define TOKEN_EXPIRATION_MIN_S 600

static int decode_items(const Decode *d, const Field *source, Projection *p)
{
        Field list;
        size_t n;

        KL_TRY(field_array(source, "items", POD_LIST_MAX, &list, &n, d->err));
        p->items = ARENA_ARRAY(d->arena, n + 1, KeyToPath);
        if (!p->items)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                KeyToPath *item = &p->items[p->n_items++];
                Field f = field_at(&list, i);

                item->mode = -1;
                KL_TRY(decode_name(d, &f, "key", &item->key));
                KL_TRY(decode_name(d, &f, "path", &item->path));
                KL_TRY(field_int(&f, "mode", 0, MODE_MAX, &item->mode, d->err));
        }
        return 0;
}

static int decode_downward(const Decode *d, const Field *source, Projection *p)
{
        Field list;
        size_t n;

        KL_TRY(field_array(source, "items", POD_LIST_MAX, &list, &n, d->err));
        p->downward = ARENA_ARRAY(d->arena, n + 1, DownwardItem);
        if (!p->downward)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                DownwardItem *item = &p->downward[p->n_downward++];
                Field f = field_at(&list, i);
                bool found;

                item->mode = -1;
                KL_TRY(decode_name(d, &f, "path", &item->path));
                KL_TRY(field_int(&f, "mode", 0, MODE_MAX, &item->mode, d->err));
                KL_TRY(decode_field_ref(d, &f, &item->from, &found));
                if (!found)
                        return field_error(&f, d->err, "has neither fieldRef nor resourceFieldRef");
        }
        return 0;
}

static int decode_token(const Decode *d, const Field *source, Projection *p)
{
        p->expiration_s = TOKEN_EXPIRATION_S;
        KL_TRY(field_str(source, "audience", d->arena, &p->audience, d->err));
        KL_TRY(field_int(source, "expirationSeconds", TOKEN_EXPIRATION_MIN_S, INT32_MAX,
                         &p->expiration_s, d->err));
        return decode_name(d, source, "path", &p->path);
}

/* name_key: "name" in projections and config maps, "secretName" in secret volumes. */
static int decode_projection(const Decode *d, const Field *source, const char *type,
                             const char *name_key, Projection *p)
{
        p->type = arena_strdup(d->arena, type);
        if (!p->type)
                return kl_error_oom(d->err);
        if (str_eq(type, "downwardAPI")) {
                p->kind = PROJECTION_DOWNWARD_API;
                return decode_downward(d, source, p);
        }
        if (str_eq(type, "serviceAccountToken")) {
                p->kind = PROJECTION_TOKEN;
                return decode_token(d, source, p);
        }
        if (!str_eq(type, "configMap") && !str_eq(type, "secret")) {
                p->kind = PROJECTION_UNSUPPORTED;
                return 0;
        }
        p->kind = str_eq(type, "secret") ? PROJECTION_SECRET : PROJECTION_CONFIG_MAP;
        KL_TRY(decode_name(d, source, name_key, &p->object));
        KL_TRY(field_bool(source, "optional", &p->optional, d->err));
        return decode_items(d, source, p);
}

static int decode_mode(const Decode *d, const Field *source, Volume *v)
{
        int64_t mode = MODE_DEFAULT;

        KL_TRY(field_int(source, "defaultMode", 0, MODE_MAX, &mode, d->err));
        v->default_mode = (uint32_t)mode;
        return 0;
}

static int decode_single(const Decode *d, const Field *source, Volume *v, VolumeKind kind,
                         const char *name_key)
{
        v->kind = kind;
        v->sources = ARENA_NEW(d->arena, Projection);
        if (!v->sources)
                return kl_error_oom(d->err);
        v->n_sources = 1;
        KL_TRY(decode_mode(d, source, v));
        return decode_projection(d, source, v->type, name_key, v->sources);
}

static int decode_projected(const Decode *d, const Field *source, Volume *v)
{
        const Value *child;
        Field list;
        size_t n;

        v->kind = VOLUME_PROJECTED;
        KL_TRY(decode_mode(d, source, v));
        KL_TRY(field_array(source, "sources", POD_LIST_MAX, &list, &n, d->err));
        v->sources = ARENA_ARRAY(d->arena, n + 1, Projection);
        if (!v->sources)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i), member;
                const char *type = NULL;
                void *iter = NULL;

                if (value_type(f.value) != VALUE_OBJECT || value_len(f.value) != 1 ||
                    !value_next(f.value, &iter, &type, &child))
                        return field_error(&f, d->err, "must have exactly one source");
                member = field_get(&f, type);
                KL_TRY(decode_projection(d, &member, type, "name", &v->sources[v->n_sources++]));
        }
        return 0;
}

static int decode_empty_dir(const Decode *d, const Field *source, Volume *v)
{
        v->kind = VOLUME_EMPTY_DIR;
        KL_TRY(field_str(source, "medium", d->arena, &v->medium, d->err));
        return field_scalar(source, "sizeLimit", d->arena, &v->size_limit, d->err);
}

static int decode_host_path(const Decode *d, const Field *source, Volume *v)
{
        Field path = field_get(source, "path");

        v->kind = VOLUME_HOST_PATH;
        KL_TRY(decode_name(d, source, "path", &v->host_path));
        if (v->host_path[0] != '/')
                return field_error(&path, d->err, "'%s' is not absolute", v->host_path);
        for (const char *p = strstr(v->host_path, "/.."); p; p = strstr(p + 1, "/.."))
                if (p[3] == '/' || p[3] == '\0')
                        return field_error(&path, d->err, "must not contain '..'");
        return field_str(source, "type", d->arena, &v->host_path_type, d->err);
}

static int decode_source(const Decode *d, const Field *source, Volume *v)
{
        if (str_eq(v->type, "emptyDir"))
                return decode_empty_dir(d, source, v);
        if (str_eq(v->type, "hostPath"))
                return decode_host_path(d, source, v);
        if (str_eq(v->type, "configMap"))
                return decode_single(d, source, v, VOLUME_CONFIG_MAP, "name");
        if (str_eq(v->type, "secret"))
                return decode_single(d, source, v, VOLUME_SECRET, "secretName");
        if (str_eq(v->type, "downwardAPI"))
                return decode_single(d, source, v, VOLUME_DOWNWARD_API, "name");
        if (str_eq(v->type, "projected"))
                return decode_projected(d, source, v);
        v->kind = VOLUME_UNSUPPORTED;
        return field_str(source, "claimName", d->arena, &v->claim, d->err);
}

static int decode_volume(const Decode *d, const Field *f, Volume *v)
{
        Field name = field_get(f, "name"), source;
        const Value *child;
        void *iter = NULL;
        const char *key;

        KL_TRY(decode_name(d, f, "name", &v->name));
        if (!name_is_dns1123_label(v->name))
                return field_error(&name, d->err, "'%s' is no DNS-1123 label", v->name);
        while (value_next(f->value, &iter, &key, &child)) {
                if (str_eq(key, "name") || value_type(child) == VALUE_NULL)
                        continue;
                if (v->type)
                        return field_error(f, d->err, "has more than one source");
                v->type = arena_strdup(d->arena, key);
        }
        /* A volume without a source is an emptyDir. */
        if (!v->type) {
                v->type = arena_strdup(d->arena, "emptyDir");
                v->kind = VOLUME_EMPTY_DIR;
                return v->type ? 0 : kl_error_oom(d->err);
        }
        source = field_get(f, v->type);
        if (value_type(source.value) != VALUE_OBJECT)
                return field_error(&source, d->err, "expected a map, got %s",
                                   value_type_name(value_type(source.value)));
        return decode_source(d, &source, v);
}

int decode_volumes(const Decode *d, const Field *spec, Pod *pod)
{
        Field list;
        size_t n;

        KL_TRY(field_array(spec, "volumes", POD_VOLUMES_MAX, &list, &n, d->err));
        pod->volumes = ARENA_ARRAY(d->arena, n + 1, Volume);
        if (!pod->volumes)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i), name = field_get(&f, "name");

                KL_TRY(decode_volume(d, &f, &pod->volumes[i]));
                if (pod_volume(pod, pod->volumes[i].name))
                        return field_error(&name, d->err, "'%s' is there twice",
                                           pod->volumes[i].name);
                pod->n_volumes++;
        }
        return 0;
}
