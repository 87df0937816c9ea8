/* SPDX-License-Identifier: Apache-2.0 */

/* String helpers that do not belong to one format. */

#include "base/str.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>

bool str_starts(const char *s, const char *prefix)
{
        return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
        size_t n = strlen(s), m = strlen(suffix);

        return n >= m && strcmp(s + n - m, suffix) == 0;
}

char *str_format(const char *format, ...)
{
        char *s = NULL;
        va_list args;
        int n;

        va_start(args, format);
        n = vasprintf(&s, format, args);
        va_end(args);
        return n < 0 ? NULL : s;
}

int str_to_u64(const char *s, uint64_t max, uint64_t *ret)
{
        uint64_t value = 0;

        if (!*s)
                return -EINVAL;
        for (; *s; s++) {
                unsigned int digit = (unsigned int)(*s - '0');

                if (digit > 9)
                        return -EINVAL;
                if (value > (UINT64_MAX - digit) / 10)
                        return -ERANGE;
                value = value * 10 + digit;
        }
        if (value > max)
                return -ERANGE;
        *ret = value;
        return 0;
}

int str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
        bool negative = *s == '-';
        uint64_t magnitude;
        int64_t value;
        int r;

        r = str_to_u64(negative ? s + 1 : s, (uint64_t)INT64_MAX + negative, &magnitude);
        if (r < 0)
                return r;
        value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
        if (value < min || value > max)
                return -ERANGE;
        *ret = value;
        return 0;
}

void hex_encode(const void *data, size_t len, char *out)
{
        static const char digits[] = "0123456789abcdef";
        const unsigned char *p = data;

        for (size_t i = 0; i < len; i++) {
                out[2 * i] = digits[p[i] >> 4];
                out[2 * i + 1] = digits[p[i] & 15];
        }
        out[2 * len] = '\0';
}

static void random_bytes(void *data, size_t len)
{
        unsigned char *p = data;

        while (len > 0) {
                ssize_t n = getrandom(p, len, 0);

                if (n < 0) {
                        assert(errno == EINTR);
                        continue;
                }
                p += n;
                len -= (size_t)n;
        }
}

void random_hex(char *out, size_t n_bytes)
{
        unsigned char bytes[64];

        assert(n_bytes <= sizeof(bytes));
        random_bytes(bytes, n_bytes);
        hex_encode(bytes, n_bytes, out);
}

uint64_t random_u64(void)
{
        uint64_t value;

        random_bytes(&value, sizeof(value));
        return value;
}

static bool name_char(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* One label of len bytes. */
static bool label_ok(const char *s, size_t len)
{
        if (len == 0 || len > 63 || !name_char(s[0]) || !name_char(s[len - 1]))
                return false;
        for (size_t i = 0; i < len; i++)
                if (!name_char(s[i]) && s[i] != '-')
                        return false;
        return true;
}

bool name_is_dns1123_label(const char *s)
{
        return s && label_ok(s, strlen(s));
}

bool name_is_dns1123_subdomain(const char *s)
{
        if (!s || strlen(s) > 253)
                return false;
        for (;;) {
                size_t n = strcspn(s, ".");

                /* A label of a subdomain may be longer than 63, as in upstream's check. */
                if (n == 0 || !name_char(s[0]) || !name_char(s[n - 1]))
                        return false;
                for (size_t i = 0; i < n; i++)
                        if (!name_char(s[i]) && s[i] != '-')
                                return false;
                if (!s[n])
                        return true;
                s += n + 1;
        }
}

uint32_t hash_fnv32(const void *data, size_t len)
{
        const unsigned char *p = data;
        uint32_t h = 2166136261U;

        for (size_t i = 0; i < len; i++)
                h = (h ^ p[i]) * 16777619U;
        return h;
}

uint64_t hash_fnv64(const void *data, size_t len)
{
        const unsigned char *p = data;
        uint64_t h = 14695981039346656037ULL;

        for (size_t i = 0; i < len; i++)
                h = (h ^ p[i]) * 1099511628211ULL;
        return h;
}

size_t strv_len(char *const *v)
{
        size_t n = 0;

        while (v && v[n])
                n++;
        return n;
}

char **strv_free(char **v)
{
        int saved = errno;

        for (size_t i = 0; v && v[i]; i++)
                free(v[i]);
        free(v);
        errno = saved;
        return NULL;
}

static int strv_push(char ***v, char *s)
{
        size_t n = strv_len(*v);
        char **grown;

        /* Grows at powers of two only. */
        if (s && (n == 0 || (n & (n - 1)) == 0)) {
                grown = reallocarray(*v, n ? 2 * n + 1 : 2, sizeof(*grown));
                if (grown)
                        *v = grown;
        } else {
                grown = *v;
        }
        if (!s || !grown) {
                free(s);
                return -ENOMEM;
        }
        grown[n] = s;
        grown[n + 1] = NULL;
        return 0;
}

int strv_add(char ***v, const char *s)
{
        return strv_push(v, strdup(s));
}

int strv_addf(char ***v, const char *format, ...)
{
        char *s = NULL;
        va_list args;

        va_start(args, format);
        if (vasprintf(&s, format, args) < 0)
                s = NULL;
        va_end(args);
        return strv_push(v, s);
}

bool strv_contains(char *const *v, const char *s)
{
        for (; v && *v; v++)
                if (strcmp(*v, s) == 0)
                        return true;
        return false;
}

char **strv_split(const char *s, char separator)
{
        KL_AUTOSTRV v = calloc(1, sizeof(*v));

        while (v && *s) {
                const char *end = strchrnul(s, separator);

                if (end > s && strv_push(&v, strndup(s, (size_t)(end - s))) < 0)
                        return NULL;
                s = *end ? end + 1 : end;
        }
        return KL_STEAL(v);
}

char **strv_copy(char *const *v)
{
        KL_AUTOSTRV copy = calloc(1, sizeof(*copy));

        for (; copy && v && *v; v++)
                if (strv_add(&copy, *v) < 0)
                        return NULL;
        return KL_STEAL(copy);
}
