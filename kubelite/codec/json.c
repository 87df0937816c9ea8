/* SPDX-License-Identifier: Apache-2.0 */

/* JSON in (jansson) and out (the writer, straight into a buffer). */

#include "codec/json.h"

#include "codec/value-internal.h"

#include <assert.h>
#include <stdarg.h>

/* The end of the string that begins before `at`: after its closing quote, or `end`. */
static const char *skip_string(const char *at, const char *end)
{
        for (; at < end && *at != '"'; at++)
                if (*at == '\\' && at + 1 < end)
                        at++;
        return at < end ? at + 1 : end;
}

/* At least as many as the text has values, near enough: each follows one of these, but the first.
 */
static size_t count_values(const char *data, size_t len)
{
        const char *end = data + len;
        size_t n = 1;

        for (const char *at = data; at < end;) {
                char c = *at++;

                n += c == ',' || c == '[' || c == '{';
                if (c == '"')
                        at = skip_string(at, end);
        }
        return n;
}

int json_parse(const char *data, size_t len, Value **ret, KlError **err)
{
        json_error_t error;
        json_t *j;

        if (len > JSON_VALUES_MAX && count_values(data, len) > JSON_VALUES_MAX)
                return kl_error(err, -E2BIG, NULL, "more than %u values", JSON_VALUES_MAX);
        j = json_loadb(data, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
        if (!j)
                return kl_error(err, -EINVAL, NULL, "line %d, column %d: %s", error.line,
                                error.column, error.text);
        *ret = value_wrap(j);
        return 0;
}

static int print_chunk(const char *data, size_t size, void *to)
{
        buf_add(to, data, size);
        return buf_error(to) ? -1 : 0;
}

int json_print(const Value *v, Buf *to)
{
        int r = json_dump_callback(value_json_const(v), print_chunk, to,
                                   JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));

        return r < 0 ? (buf_error(to) ? buf_error(to) : -ENOMEM) : 0;
}

static void writer_separate(JsonWriter *w)
{
        if (w->need_comma)
                buf_add_char(w->to, ',');
        w->need_comma = true;
}

static void writer_open(JsonWriter *w, char open, char end)
{
        assert(w->depth < sizeof(w->ends));
        writer_separate(w);
        buf_add_char(w->to, open);
        w->ends[w->depth++] = end;
        w->need_comma = false;
}

void jw_object(JsonWriter *w)
{
        writer_open(w, '{', '}');
}

void jw_array(JsonWriter *w)
{
        writer_open(w, '[', ']');
}

void jw_end(JsonWriter *w)
{
        assert(w->depth > 0);
        buf_add_char(w->to, w->ends[--w->depth]);
        w->need_comma = true;
}

/* Length of the valid UTF-8 sequence at p (RFC 3629), 0 for none. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
        size_t n = p[0] < 0x80                   ? 1
                   : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                   : (p[0] & 0xf0) == 0xe0       ? 3
                   : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                 : 0;

        if (n == 0 || n > left)
                return 0;
        for (size_t i = 1; i < n; i++)
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
            (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
                return 0;
        return n;
}

static void write_escaped(Buf *to, const unsigned char *p, size_t len)
{
        static const char short_names[] = "\"\"\\\\\bb\ff\nn\rr\tt";

        for (size_t n; len > 0; p += n, len -= n) {
                const char *pair;

                n = utf8_sequence(p, len);
                if (n == 0) {
                        n = 1;
                        buf_add_str(to, "\xef\xbf\xbd");
                } else if (n > 1 || (p[0] >= 0x20 && p[0] != '"' && p[0] != '\\')) {
                        buf_add(to, p, n);
                } else {
                        for (pair = short_names; *pair && *pair != (char)p[0];)
                                pair += 2;
                        if (*pair && p[0])
                                buf_addf(to, "\\%c", pair[1]);
                        else
                                buf_addf(to, "\\u%04x", p[0]);
                }
        }
}

void jw_strn(JsonWriter *w, const char *text, size_t len)
{
        writer_separate(w);
        buf_add_char(w->to, '"');
        write_escaped(w->to, (const unsigned char *)text, len);
        buf_add_char(w->to, '"');
}

void jw_str(JsonWriter *w, const char *text)
{
        if (text)
                jw_strn(w, text, strlen(text));
        else
                jw_null(w);
}

void jw_key(JsonWriter *w, const char *key)
{
        jw_str(w, key);
        buf_add_char(w->to, ':');
        w->need_comma = false;
}

void jw_int(JsonWriter *w, int64_t value)
{
        writer_separate(w);
        buf_addf(w->to, "%lld", (long long)value);
}

void jw_uint(JsonWriter *w, uint64_t value)
{
        writer_separate(w);
        buf_addf(w->to, "%llu", (unsigned long long)value);
}

void jw_bool(JsonWriter *w, bool value)
{
        jw_raw(w, value ? "true" : "false", value ? 4 : 5);
}

void jw_null(JsonWriter *w)
{
        jw_raw(w, "null", 4);
}

void jw_value(JsonWriter *w, const Value *v)
{
        if (!v) {
                jw_null(w);
                return;
        }
        writer_separate(w);
        if (json_print(v, w->to) < 0 && !w->to->error)
                w->to->error = -ENOMEM;
}

void jw_raw(JsonWriter *w, const char *json, size_t len)
{
        writer_separate(w);
        buf_add(w->to, json, len);
}

void jw_kstr(JsonWriter *w, const char *key, const char *text)
{
        jw_key(w, key);
        jw_str(w, text);
}

void jw_kstr_opt(JsonWriter *w, const char *key, const char *text)
{
        if (text && *text)
                jw_kstr(w, key, text);
}

void jw_kstrf(JsonWriter *w, const char *key, const char *format, ...)
{
        KL_AUTOBUF text = BUF_INIT;
        va_list args;

        va_start(args, format);
        buf_vaddf(&text, format, args);
        va_end(args);
        if (buf_error(&text))
                w->to->error = buf_error(&text);
        jw_kstr(w, key, buf_str(&text));
}

void jw_kint(JsonWriter *w, const char *key, int64_t value)
{
        jw_key(w, key);
        jw_int(w, value);
}

void jw_kbool(JsonWriter *w, const char *key, bool value)
{
        jw_key(w, key);
        jw_bool(w, value);
}

void jw_kobject(JsonWriter *w, const char *key)
{
        jw_key(w, key);
        jw_object(w);
}

void jw_karray(JsonWriter *w, const char *key)
{
        jw_key(w, key);
        jw_array(w);
}

void jw_kstrv(JsonWriter *w, const char *key, char *const *strv)
{
        jw_karray(w, key);
        for (; strv && *strv; strv++)
                jw_str(w, *strv);
        jw_end(w);
}
