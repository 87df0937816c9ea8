/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_BASE_BUF_H
#define KUBELITE_BASE_BUF_H

#include "base/cleanup.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/*
 * A growing byte buffer, always followed by a NUL that is not counted. Errors are sticky: after an
 * allocation failed or the limit was passed, appends do nothing and buf_error() tells -ENOMEM or
 * -EMSGSIZE; so a writer may check once, at its end.
 */
typedef struct Buf {
        char *data; /* NULL while empty */
        size_t len;
        size_t cap;
        size_t limit; /* 0: none */
        int error;
} Buf;

#define BUF_INIT                                                                                   \
        {                                                                                          \
                0                                                                                  \
        }
#define BUF_INIT_LIMIT(n)                                                                          \
        {                                                                                          \
                .limit = (n)                                                                       \
        }

void buf_add(Buf *buf, const void *data, size_t len);
void buf_add_str(Buf *buf, const char *text);
void buf_add_char(Buf *buf, char c);
void buf_addf(Buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vaddf(Buf *buf, const char *format, va_list args) __attribute__((format(printf, 2, 0)));

/* Room for len more bytes; returns where to write them (then call buf_commit), or NULL. */
char *buf_reserve(Buf *buf, size_t len);
void buf_commit(Buf *buf, size_t len);

/* Drops the first n bytes. */
void buf_consume(Buf *buf, size_t n);

/* Empties, keeps the memory and the limit, clears the error. */
void buf_clear(Buf *buf);

int buf_error(const Buf *buf);

/* The text, "" when empty; owned by the buffer. */
const char *buf_str(const Buf *buf);

/* Hands over the bytes as a NUL-terminated string; NULL if there was an error. */
char *buf_steal(Buf *buf);

void buf_deinit(Buf *buf);

#define KL_AUTOBUF __attribute__((cleanup(buf_deinit))) Buf

#endif
