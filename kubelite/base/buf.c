/* SPDX-License-Identifier: Apache-2.0 */

/* The growing buffer; capacity doubles, and never passes the limit by more than the NUL. */

#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>

#define BUF_MIN 64

char *buf_reserve(Buf *buf, size_t len)
{
        size_t need, cap;
        char *data;

        if (buf->error)
                return NULL;
        if (len > SIZE_MAX - buf->len - 1 || (buf->limit && len > buf->limit - buf->len)) {
                buf->error = -EMSGSIZE;
                return NULL;
        }
        need = buf->len + len + 1;
        if (need <= buf->cap)
                return buf->data + buf->len;
        cap = buf->cap ? buf->cap : BUF_MIN;
        while (cap < need)
                cap = cap > SIZE_MAX / 2 ? need : cap * 2;
        if (buf->limit && cap > buf->limit + 1)
                cap = buf->limit + 1;
        data = realloc(buf->data, cap);
        if (!data) {
                buf->error = -ENOMEM;
                return NULL;
        }
        buf->data = data;
        buf->cap = cap;
        buf->data[buf->len] = '\0';
        return buf->data + buf->len;
}

void buf_commit(Buf *buf, size_t len)
{
        buf->len += len;
        buf->data[buf->len] = '\0';
}

void buf_add(Buf *buf, const void *data, size_t len)
{
        char *to = buf_reserve(buf, len);

        if (!to)
                return;
        if (len)
                memcpy(to, data, len);
        buf_commit(buf, len);
}

void buf_add_str(Buf *buf, const char *text)
{
        buf_add(buf, text, strlen(text));
}

void buf_add_char(Buf *buf, char c)
{
        buf_add(buf, &c, 1);
}

void buf_vaddf(Buf *buf, const char *format, va_list args)
{
        va_list again;
        char *to;
        int n;

        va_copy(again, args);
        n = vsnprintf(NULL, 0, format, again);
        va_end(again);
        to = n < 0 ? NULL : buf_reserve(buf, (size_t)n);
        if (!to)
                return;
        vsnprintf(to, (size_t)n + 1, format, args);
        buf_commit(buf, (size_t)n);
}

void buf_addf(Buf *buf, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        buf_vaddf(buf, format, args);
        va_end(args);
}

void buf_consume(Buf *buf, size_t n)
{
        if (n >= buf->len) {
                buf->len = 0;
                if (buf->data)
                        buf->data[0] = '\0';
                return;
        }
        memmove(buf->data, buf->data + n, buf->len - n + 1);
        buf->len -= n;
}

void buf_clear(Buf *buf)
{
        buf->error = 0;
        buf_consume(buf, buf->len);
}

int buf_error(const Buf *buf)
{
        return buf->error;
}

const char *buf_str(const Buf *buf)
{
        return buf->data ? buf->data : "";
}

char *buf_steal(Buf *buf)
{
        char *data;

        if (!buf->data && !buf->error)
                buf_reserve(buf, 0);
        data = buf->error ? NULL : buf->data;
        if (buf->error)
                free(buf->data);
        buf->data = NULL;
        buf->len = buf->cap = 0;
        return data;
}

void buf_deinit(Buf *buf)
{
        int saved = errno;

        free(buf->data);
        *buf = (Buf){ .limit = buf->limit };
        errno = saved;
}
