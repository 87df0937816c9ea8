/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_JSON_H
#define KUBELITE_CODEC_JSON_H

#include "base/buf.h"
#include "codec/value.h"

/* JSON, RFC 8259: strict UTF-8, no duplicate-key check (last one wins), at most
 * JSON_DEPTH_MAX levels. */
#define JSON_DEPTH_MAX 256
/* A tree takes up to 60 times the room of its text: hostile text is refused before it is one. */
#define JSON_VALUES_MAX (1U << 20)

/* 0, -EINVAL with line and column, -E2BIG, or -ENOMEM. */
int json_parse(const char *data, size_t len, Value **ret, KlError **err);

/* Compact text. 0 or -ENOMEM. */
int json_print(const Value *v, Buf *to);

/*
 * A writer that needs no tree. Commas are its business; errors are those of the buffer. Strings are
 * escaped; bytes that are no UTF-8 become U+FFFD.
 */
typedef struct JsonWriter {
        Buf *to;
        unsigned int depth;
        bool need_comma;
        char ends[64]; /* the closing bracket of each level */
} JsonWriter;

#define JSON_WRITER(buf) ((JsonWriter){ .to = (buf) })

void jw_object(JsonWriter *w);
void jw_array(JsonWriter *w);
void jw_end(JsonWriter *w);
void jw_key(JsonWriter *w, const char *key);
void jw_str(JsonWriter *w, const char *text); /* NULL writes null */
void jw_strn(JsonWriter *w, const char *text, size_t len);
void jw_int(JsonWriter *w, int64_t value);
void jw_uint(JsonWriter *w, uint64_t value);
void jw_bool(JsonWriter *w, bool value);
void jw_null(JsonWriter *w);
void jw_value(JsonWriter *w, const Value *v);
/* Text that is JSON already. */
void jw_raw(JsonWriter *w, const char *json, size_t len);

/* key and value in one. */
void jw_kstr(JsonWriter *w, const char *key, const char *text);
/* Writes nothing when text is NULL or "". */
void jw_kstr_opt(JsonWriter *w, const char *key, const char *text);
void jw_kstrf(JsonWriter *w, const char *key, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
void jw_kint(JsonWriter *w, const char *key, int64_t value);
void jw_kbool(JsonWriter *w, const char *key, bool value);
void jw_kobject(JsonWriter *w, const char *key);
void jw_karray(JsonWriter *w, const char *key);
void jw_kstrv(JsonWriter *w, const char *key, char *const *strv);

#endif
