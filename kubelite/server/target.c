/* SPDX-License-Identifier: Apache-2.0 */

/* Request targets: paths and queries. */

#include "server/target.h"

#include "base/str.h"

#include <strings.h>

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* In place. */
static int decode(char *s, bool plus_is_blank)
{
        char *to = s;

        for (; *s; s++) {
                int high, low;

                if (*s != '%') {
                        *to++ = plus_is_blank && *s == '+' ? ' ' : *s;
                        continue;
                }
                high = hex_digit(s[1]);
                low = high < 0 ? -1 : hex_digit(s[2]);
                if (low < 0 || (high == 0 && low == 0))
                        return -EINVAL;
                *to++ = (char)(high << 4 | low);
                s += 2;
        }
        *to = '\0';
        return 0;
}

static int cut_path(Target *t, char *path)
{
        if (*path++ != '/')
                return -EINVAL;
        while (*path) {
                char *slash = strchr(path, '/');

                if (slash)
                        *slash = '\0';
                if (t->n_segments == TARGET_SEGMENTS_MAX)
                        return -E2BIG;
                if (decode(path, false) < 0 || !*path || str_eq(path, ".") || str_eq(path, ".."))
                        return -EINVAL;
                t->segments[t->n_segments++] = path;
                t->ends_in_slash = slash && !slash[1];
                if (!slash)
                        break;
                path = slash + 1;
        }
        return 0;
}

static int cut_query(Target *t, char *query)
{
        size_t n = 1;

        for (const char *at = query; at && *at; at++)
                n += *at == '&';
        if (n > TARGET_PARAMETERS_MAX)
                return -E2BIG;
        t->parameters = query ? calloc(n, sizeof(*t->parameters)) : NULL;
        if (query && !t->parameters)
                return -ENOMEM;
        while (query && *query) {
                char *next = strchr(query, '&'), *value;

                if (next)
                        *next++ = '\0';
                value = strchr(query, '=');
                if (value)
                        *value++ = '\0';
                if (decode(query, true) < 0 || (value && decode(value, true) < 0))
                        return -EINVAL;
                if (*query)
                        t->parameters[t->n_parameters++] =
                                (TargetParameter){ query, value ? value : "" };
                query = next;
        }
        return 0;
}

int target_parse(const char *text, Target *ret)
{
        char *query;
        int r;

        *ret = (Target){ .text = strdup(text) };
        if (!ret->text)
                return -ENOMEM;
        query = strchr(ret->text, '?');
        if (query)
                *query++ = '\0';
        r = cut_path(ret, ret->text);
        if (r == 0)
                r = cut_query(ret, query);
        if (r < 0)
                target_deinit(ret);
        return r;
}

void target_deinit(Target *target)
{
        free(target->text);
        free(target->parameters);
        target->text = NULL;
        target->parameters = NULL;
        target->n_segments = target->n_parameters = 0;
}

const char *target_get(const Target *target, const char *name)
{
        for (size_t i = 0; i < target->n_parameters; i++)
                if (str_eq(target->parameters[i].name, name))
                        return target->parameters[i].value;
        return NULL;
}

bool target_bool(const Target *target, const char *name)
{
        const char *value = target_get(target, name);

        return value && strcasecmp(value, "false") != 0 && !str_eq(value, "0");
}

int target_int(const Target *target, const char *name, int64_t *ret)
{
        const char *value = target_get(target, name);

        if (!value)
                return 0;
        return str_to_i64(value, INT64_MIN, INT64_MAX, ret) < 0 ? -EINVAL : 0;
}
