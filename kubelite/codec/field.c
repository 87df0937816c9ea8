/* SPDX-License-Identifier: Apache-2.0 */

/* The decoder's cursor: typed reads that name the path of what is wrong. */

#include "codec/value.h"

#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#define FIELD_PATH_MAX 512

Field field_root(const Value *v)
{
        return (Field){ .value = v };
}

Field field_get(const Field *object, const char *key)
{
        const Value *v = value_get(object->value, key);

        return (Field){
                .value = value_type(v) == VALUE_NULL ? NULL : v,
                .parent = object,
                .key = key,
        };
}

Field field_at(const Field *array, size_t i)
{
        return (Field){ .value = value_at(array->value, i), .parent = array, .index = i };
}

bool field_present(const Field *f)
{
        return f->value;
}

static void path_add(const Field *f, Buf *to)
{
        if (!f->parent)
                return;
        path_add(f->parent, to);
        if (f->key)
                buf_addf(to, "%s%s", to->len ? "." : "", f->key);
        else
                buf_addf(to, "[%zu]", f->index);
}

void field_path(const Field *f, char *buf, size_t size)
{
        KL_AUTOBUF text = BUF_INIT;

        path_add(f, &text);
        snprintf(buf, size, "%s", text.len ? buf_str(&text) : "document");
}

int field_error(const Field *f, KlError **err, const char *format, ...)
{
        KL_AUTOBUF text = BUF_INIT;
        char path[FIELD_PATH_MAX];
        va_list args;

        if (!err)
                return -EINVAL;
        va_start(args, format);
        buf_vaddf(&text, format, args);
        va_end(args);
        field_path(f, path, sizeof(path));
        return kl_error(err, -EINVAL, NULL, "%s: %s", path, buf_str(&text));
}

static int wrong_type(const Field *f, const char *expected, KlError **err)
{
        return field_error(f, err, "expected %s, got %s", expected,
                           value_type_name(value_type(f->value)));
}

int field_str(const Field *object, const char *key, Arena *arena, char **ret, KlError **err)
{
        Field f = field_get(object, key);

        if (!f.value)
                return 0;
        if (value_type(f.value) != VALUE_STRING)
                return wrong_type(&f, "a string", err);
        *ret = arena_strdup(arena, value_str(f.value));
        return *ret ? 0 : kl_error(err, -ENOMEM, NULL, "out of memory");
}

int field_scalar(const Field *object, const char *key, Arena *arena, char **ret, KlError **err)
{
        Field f = field_get(object, key);
        KL_AUTOFREE char *text = NULL;

        if (value_type(f.value) == VALUE_INT || value_type(f.value) == VALUE_REAL) {
                text = value_number_text(f.value);
                *ret = arena_strdup(arena, text);
                return *ret ? 0 : kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        return field_str(object, key, arena, ret, err);
}

int field_bool(const Field *object, const char *key, bool *ret, KlError **err)
{
        Field f = field_get(object, key);

        if (!f.value)
                return 0;
        if (value_type(f.value) != VALUE_BOOL)
                return wrong_type(&f, "a boolean", err);
        *ret = value_bool(f.value, false);
        return 0;
}

int field_int(const Field *object, const char *key, int64_t min, int64_t max, int64_t *ret,
              KlError **err)
{
        Field f = field_get(object, key);
        int64_t n;

        if (!f.value)
                return 0;
        if (value_type(f.value) != VALUE_INT)
                return wrong_type(&f, "an integer", err);
        n = value_int(f.value, 0);
        if (n < min || n > max)
                return field_error(&f, err, "%lld is not in %lld-%lld", (long long)n,
                                   (long long)min, (long long)max);
        *ret = n;
        return 0;
}

int field_array(const Field *object, const char *key, size_t max, Field *ret, size_t *ret_len,
                KlError **err)
{
        Field f = field_get(object, key);

        if (f.value && value_type(f.value) != VALUE_ARRAY)
                return wrong_type(&f, "a list", err);
        if (value_len(f.value) > max)
                return field_error(&f, err, "%zu elements, at most %zu are allowed",
                                   value_len(f.value), max);
        *ret = f;
        *ret_len = value_len(f.value);
        return 0;
}

int field_object(const Field *object, const char *key, Field *ret, KlError **err)
{
        Field f = field_get(object, key);

        *ret = f;
        if (!f.value)
                return 1;
        if (value_type(f.value) != VALUE_OBJECT)
                return wrong_type(&f, "a map", err);
        return 0;
}

#define FIELD_STRV_MAX 65536

int field_strv(const Field *object, const char *key, Arena *arena, char ***ret, KlError **err)
{
        Field list;
        size_t n;
        char **v;
        int r;

        r = field_array(object, key, FIELD_STRV_MAX, &list, &n, err);
        if (r < 0 || !list.value)
                return r;
        v = ARENA_ARRAY(arena, n + 1, char *);
        if (!v)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);

                if (value_type(f.value) != VALUE_STRING)
                        return wrong_type(&f, "a string", err);
                v[i] = arena_strdup(arena, value_str(f.value));
                if (!v[i])
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        *ret = v;
        return 0;
}
