/* SPDX-License-Identifier: Apache-2.0 */

/* Value is jansson's json_t under another name; no other header shows that. */

#include "codec/value.h"

#include "codec/value-internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void value_free(Value *value)
{
        json_decref(value_json(value));
}

ValueType value_type(const Value *v)
{
        if (!v)
                return VALUE_NULL;
        switch (json_typeof(value_json_const(v))) {
        case JSON_OBJECT:
                return VALUE_OBJECT;
        case JSON_ARRAY:
                return VALUE_ARRAY;
        case JSON_STRING:
                return VALUE_STRING;
        case JSON_INTEGER:
                return VALUE_INT;
        case JSON_REAL:
                return VALUE_REAL;
        case JSON_TRUE:
        case JSON_FALSE:
                return VALUE_BOOL;
        case JSON_NULL:
                return VALUE_NULL;
        }
        return VALUE_NULL;
}

const char *value_type_name(ValueType type)
{
        static const char *const names[] = {
                [VALUE_NULL] = "null",     [VALUE_BOOL] = "a boolean",  [VALUE_INT] = "a number",
                [VALUE_REAL] = "a number", [VALUE_STRING] = "a string", [VALUE_ARRAY] = "a list",
                [VALUE_OBJECT] = "a map",
        };

        return names[type];
}

const Value *value_get(const Value *object, const char *key)
{
        return value_wrap_const(json_object_get(value_json_const(object), key));
}

const Value *value_at(const Value *array, size_t i)
{
        return value_wrap_const(json_array_get(value_json_const(array), i));
}

const Value *value_path(const Value *v, const char *dotted)
{
        while (v && *dotted) {
                size_t n = strcspn(dotted, ".");
                char key[128];

                if (n >= sizeof(key))
                        return NULL;
                memcpy(key, dotted, n);
                key[n] = '\0';
                v = value_get(v, key);
                dotted += dotted[n] ? n + 1 : n;
        }
        return v;
}

size_t value_len(const Value *v)
{
        const json_t *j = value_json_const(v);

        return json_is_array(j) ? json_array_size(j) : json_object_size(j);
}

const char *value_str(const Value *v)
{
        return json_string_value(value_json_const(v));
}

const char *value_get_str(const Value *object, const char *key)
{
        return value_str(value_get(object, key));
}

int64_t value_int(const Value *v, int64_t fallback)
{
        const json_t *j = value_json_const(v);

        return json_is_integer(j) ? (int64_t)json_integer_value(j) : fallback;
}

bool value_bool(const Value *v, bool fallback)
{
        const json_t *j = value_json_const(v);

        return json_is_boolean(j) ? json_is_true(j) : fallback;
}

char *value_number_text(const Value *v)
{
        const json_t *j = value_json_const(v);
        char *text = NULL;
        int n = -1;

        if (json_is_integer(j))
                n = asprintf(&text, "%" JSON_INTEGER_FORMAT, json_integer_value(j));
        else if (json_is_real(j))
                n = asprintf(&text, "%.15g", json_real_value(j));
        return n < 0 ? NULL : text;
}

bool value_next(const Value *object, void **iter, const char **ret_key, const Value **ret_child)
{
        json_t *j = value_json((Value *)(uintptr_t)object);

        *iter = *iter ? json_object_iter_next(j, *iter) : json_object_iter(j);
        if (!*iter)
                return false;
        *ret_key = json_object_iter_key(*iter);
        *ret_child = value_wrap_const(json_object_iter_value(*iter));
        return true;
}

bool value_equal(const Value *a, const Value *b)
{
        if (value_type(a) == VALUE_NULL || value_type(b) == VALUE_NULL)
                return value_type(a) == value_type(b);
        return json_equal(value_json_const(a), value_json_const(b));
}

Value *value_new_object(void)
{
        return value_wrap(json_object());
}

Value *value_copy(const Value *v)
{
        return value_wrap(json_deep_copy(value_json_const(v)));
}

int value_set(Value *object, const char *key, Value *child)
{
        return json_object_set_new(value_json(object), key, value_json(child)) < 0 ? -ENOMEM : 0;
}

int value_set_str(Value *object, const char *key, const char *text)
{
        return value_set(object, key, value_wrap(json_string(text)));
}

int value_remove(Value *object, const char *key)
{
        return json_object_del(value_json(object), key) < 0 ? -ENOENT : 0;
}

Value *value_object_at(Value *object, const char *key)
{
        json_t *child = json_object_get(value_json(object), key);

        if (json_is_object(child))
                return value_wrap(child);
        child = json_object();
        if (!child || json_object_set_new(value_json(object), key, child) < 0)
                return NULL;
        return value_wrap(child);
}
