/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_VALUE_H
#define KUBELITE_CODEC_VALUE_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A parsed document, from JSON or YAML, as a tree. It is meant to be short-lived: decode it into
 * structs of your own and free it.
 *
 * Two ways to read it. The plain accessors below take any Value, NULL too, and answer NULL or a
 * default for what is not there. The decoder (Field) keeps track of where it is, so that a wrong
 * type or value is reported with its path: `spec.containers[1].name: expected a string, got a
 * number`.
 */
typedef struct Value Value;

typedef enum ValueType {
        VALUE_NULL, /* also: absent */
        VALUE_BOOL,
        VALUE_INT,
        VALUE_REAL,
        VALUE_STRING,
        VALUE_ARRAY,
        VALUE_OBJECT,
} ValueType;

void value_free(Value *value);
KL_DEFINE_CLEANUP(Value *, value_free);

ValueType value_type(const Value *v);
const char *value_type_name(ValueType type);

/* Borrowed children; NULL when absent or when v is of another type. */
const Value *value_get(const Value *object, const char *key);
const Value *value_at(const Value *array, size_t i);
/* "spec.nodeName": steps through objects. */
const Value *value_path(const Value *v, const char *dotted);
/* Members of an object or elements of an array; 0 for others. */
size_t value_len(const Value *v);

/* The text of a string, NULL for others; borrowed. */
const char *value_str(const Value *v);
const char *value_get_str(const Value *object, const char *key);
int64_t value_int(const Value *v, int64_t fallback);
bool value_bool(const Value *v, bool fallback);
/* A number as text, without an exponent where that is exact; to be freed. NULL for others. */
char *value_number_text(const Value *v);

/* Visits an object's members in their order:
 * `for (void *it = NULL; value_next(object, &it, &key, &child);)`. */
bool value_next(const Value *object, void **iter, const char **ret_key, const Value **ret_child);

/* Deep equality. */
bool value_equal(const Value *a, const Value *b);

/* --- building and changing trees (small documents only; large output goes through JsonWriter) ---
 */

Value *value_new_object(void);
/* A copy that shares nothing. */
Value *value_copy(const Value *v);
/* Puts child (consumed, even on failure) under key. 0 or -ENOMEM. */
int value_set(Value *object, const char *key, Value *child);
int value_set_str(Value *object, const char *key, const char *text);
int value_remove(Value *object, const char *key);
/* Borrowed and changeable; made as an empty object if absent. */
Value *value_object_at(Value *object, const char *key);

/* --- decoding with paths --- */

/* A place in the document; lives on the decoder's stack. */
typedef struct Field {
        const Value *value; /* NULL when absent */
        const struct Field *parent;
        const char *key; /* member name, or NULL for an element */
        size_t index;
} Field;

Field field_root(const Value *v);
/* A member; its value is NULL where absent or null. The parent must outlive the child. */
Field field_get(const Field *object, const char *key);
Field field_at(const Field *array, size_t i);
bool field_present(const Field *f);

/* "spec.containers[1].name" (at most size - 1 bytes). */
void field_path(const Field *f, char *buf, size_t size);
/* -EINVAL with "<path>: <message>". */
int field_error(const Field *f, KlError **err, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/*
 * Typed reads: absent leaves *ret as it was and returns 0; a wrong type or range is -EINVAL. They
 * read the member `key` of `object`.
 */
int field_str(const Field *object, const char *key, Arena *arena, char **ret, KlError **err);
/* As field_str, and takes numbers too, as text: quantities, intOrString. */
int field_scalar(const Field *object, const char *key, Arena *arena, char **ret, KlError **err);
int field_bool(const Field *object, const char *key, bool *ret, KlError **err);
int field_int(const Field *object, const char *key, int64_t min, int64_t max, int64_t *ret,
              KlError **err);
/* Arrays of strings as a NULL-terminated vector in the arena. */
int field_strv(const Field *object, const char *key, Arena *arena, char ***ret, KlError **err);
/* Sets *ret to the member and checks that it is an array of at most max elements (0 if absent). */
int field_array(const Field *object, const char *key, size_t max, Field *ret, size_t *ret_len,
                KlError **err);
/* Sets *ret to the member and checks that it is an object; >0 (1) when it is absent or null. */
int field_object(const Field *object, const char *key, Field *ret, KlError **err);

#endif
