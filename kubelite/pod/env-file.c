/* SPDX-License-Identifier: Apache-2.0 */

/* Env files, as pkg/kubelet/util/env reads them since 1.35. */

#include "pod/env-file.h"

#include "base/str.h"

#define BLANKS " \t"
#define INVALID "invalid environment variable format at line %zu: "

typedef struct Reader {
        const char *at;
        size_t line; /* of `at`, from 1 */
        KlError **err;
} Reader;

static const char *end_of_line(const char *text)
{
        return text + strcspn(text, "\n");
}

static void next_line(Reader *r)
{
        r->at = end_of_line(r->at);
        if (*r->at)
                r->at++;
        r->line++;
}

/* `at` is behind the opening quote; afterwards it is on the line that follows. */
static int read_value(Reader *r, const char **ret, size_t *ret_len)
{
        const char *close = strchr(r->at, '\''), *rest;

        if (!close)
                return kl_error(
                        r->err, -EINVAL, NULL,
                        "invalid environment variable format starting at line %zu: unclosed "
                        "single quote",
                        r->line);
        *ret = r->at;
        *ret_len = (size_t)(close - r->at);
        for (const char *p = r->at; p < close; p++)
                r->line += *p == '\n';
        rest = close + 1 + strspn(close + 1, BLANKS);
        if (rest < end_of_line(rest) && *rest != '#' && *rest != '\r')
                return kl_error(r->err, -EINVAL, NULL,
                                INVALID "unexpected content after closing quote", r->line);
        r->at = rest;
        next_line(r);
        return 0;
}

/* One assignment. *ret_name_len is 0 for a line without one. */
static int read_line(Reader *r, const char **ret_name, size_t *ret_name_len, const char **ret_value,
                     size_t *ret_len)
{
        const char *line = r->at + strspn(r->at, BLANKS), *end = end_of_line(line), *eq;

        *ret_name_len = 0;
        if (line == end || *line == '#' || *line == '\r') {
                next_line(r);
                return 0;
        }
        eq = memchr(line, '=', (size_t)(end - line));
        if (!eq)
                return kl_error(r->err, -EINVAL, NULL, INVALID "missing '='", r->line);
        if (eq == line)
                return kl_error(r->err, -EINVAL, NULL, INVALID "empty variable name", r->line);
        if (strchr(BLANKS, eq[-1]))
                return kl_error(r->err, -EINVAL, NULL,
                                INVALID "whitespace before '=' is not allowed", r->line);
        *ret_name = line;
        *ret_name_len = (size_t)(eq - line);
        *ret_value = "";
        *ret_len = 0;
        /* As in a shell: what follows a blank is another word. */
        if (eq + 1 < end && strchr(BLANKS, eq[1])) {
                next_line(r);
                return 0;
        }
        if (eq[1] != '\'')
                return kl_error(r->err, -EINVAL, NULL,
                                INVALID "value must be enclosed in single quotes", r->line);
        r->at = eq + 2;
        return read_value(r, ret_value, ret_len);
}

int env_file_find(const char *text, const char *key, char **ret, KlError **err)
{
        Reader r = { .at = text, .line = 1, .err = err };
        size_t key_len = strlen(key);

        while (*r.at) {
                const char *name = NULL, *value = NULL;
                size_t name_len, len = 0;

                KL_TRY(read_line(&r, &name, &name_len, &value, &len));
                if (!name || name_len != key_len || memcmp(name, key, key_len) != 0)
                        continue;
                *ret = strndup(value, len);
                return *ret ? 0 : kl_error_oom(err);
        }
        return 0;
}
