/* SPDX-License-Identifier: Apache-2.0 */

/* Decoding of a container's environment, and of references to fields and resources. */

#include "api/pod-internal.h"

#include "base/str.h"

int decode_field_ref(const Decode *d, const Field *owner, FieldSelector *ret, bool *ret_found)
{
        Field ref;
        int r;

        *ret_found = true;
        r = field_object(owner, "fieldRef", &ref, d->err);
        if (r == 0)
                return decode_name(d, &ref, "fieldPath", &ret->field_path);
        if (r < 0)
                return r;
        r = field_object(owner, "resourceFieldRef", &ref, d->err);
        if (r != 0) {
                *ret_found = false;
                return r < 0 ? r : 0;
        }
        KL_TRY(decode_name(d, &ref, "resource", &ret->resource));
        KL_TRY(field_str(&ref, "containerName", d->arena, &ret->container, d->err));
        return field_scalar(&ref, "divisor", d->arena, &ret->divisor, d->err);
}

static int decode_key_ref(const Decode *d, const Field *ref, EnvVar *env)
{
        KL_TRY(decode_name(d, ref, "name", &env->object));
        KL_TRY(decode_name(d, ref, "key", &env->key));
        return field_bool(ref, "optional", &env->optional, d->err);
}

static int decode_file_ref(const Decode *d, const Field *ref, EnvVar *env)
{
        KL_TRY(decode_name(d, ref, "volumeName", &env->object));
        KL_TRY(decode_name(d, ref, "path", &env->path));
        KL_TRY(decode_name(d, ref, "key", &env->key));
        return field_bool(ref, "optional", &env->optional, d->err);
}

typedef struct RefKind {
        const char *field;
        EnvSource source;
        int (*decode)(const Decode *d, const Field *ref, EnvVar *env);
} RefKind;

static int decode_value_from(const Decode *d, const Field *from, EnvVar *env)
{
        static const RefKind kinds[] = {
                { "configMapKeyRef", ENV_CONFIG_MAP, decode_key_ref },
                { "secretKeyRef", ENV_SECRET, decode_key_ref },
                { "fileKeyRef", ENV_FILE, decode_file_ref },
        };
        size_t n = 0;
        bool found;

        for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                Field ref;
                int r = field_object(from, kinds[i].field, &ref, d->err);

                if (r < 0)
                        return r;
                if (r > 0)
                        continue;
                n++;
                env->source = kinds[i].source;
                KL_TRY(kinds[i].decode(d, &ref, env));
        }
        KL_TRY(decode_field_ref(d, from, &env->field, &found));
        if (found)
                env->source = ENV_FIELD;
        n += found;
        if (n == 1)
                return 0;
        return field_error(from, d->err,
                           n ? "may not have more than one field specified at a time"
                             : "has no source that is supported");
}

static int decode_env(const Decode *d, const Field *f, EnvVar *env)
{
        Field from;
        int r;

        KL_TRY(decode_name(d, f, "name", &env->name));
        env->value = arena_strdup(d->arena, "");
        KL_TRY(field_scalar(f, "value", d->arena, &env->value, d->err));
        r = field_object(f, "valueFrom", &from, d->err);
        if (r < 0)
                return r;
        if (r == 0 && *env->value)
                return field_error(&from, d->err, "may not be specified when `value` is not empty");
        if (r == 0)
                return decode_value_from(d, &from, env);
        return 0;
}

static int decode_env_list(const Decode *d, const Field *container, Container *c)
{
        Field list;
        size_t n;

        KL_TRY(field_array(container, "env", POD_LIST_MAX, &list, &n, d->err));
        c->env = ARENA_ARRAY(d->arena, n + 1, EnvVar);
        if (!c->env)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);

                KL_TRY(decode_env(d, &f, &c->env[c->n_env++]));
        }
        return 0;
}

static int decode_env_from(const Decode *d, const Field *container, Container *c)
{
        Field list;
        size_t n;

        KL_TRY(field_array(container, "envFrom", POD_LIST_MAX, &list, &n, d->err));
        c->env_from = ARENA_ARRAY(d->arena, n + 1, EnvFrom);
        if (!c->env_from)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                EnvFrom *from = &c->env_from[c->n_env_from++];
                Field f = field_at(&list, i), ref;
                int r;

                from->prefix = arena_strdup(d->arena, "");
                KL_TRY(field_str(&f, "prefix", d->arena, &from->prefix, d->err));
                r = field_object(&f, "configMapRef", &ref, d->err);
                if (r > 0) {
                        from->secret = true;
                        r = field_object(&f, "secretRef", &ref, d->err);
                }
                if (r != 0)
                        return r < 0 ? r : field_error(&f, d->err, "names no source");
                KL_TRY(decode_name(d, &ref, "name", &from->object));
                KL_TRY(field_bool(&ref, "optional", &from->optional, d->err));
        }
        return 0;
}

int decode_environment(const Decode *d, const Field *container, Container *c)
{
        KL_TRY(decode_env_list(d, container, c));
        return decode_env_from(d, container, c);
}
