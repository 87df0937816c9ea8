/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Error objects. When memory for a message cannot be had, the static out-of-memory error takes its
 * place, so that an error is never lost; it is shared, constant, and never freed.
 */

#include "base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

static KlError error_oom = { .code = -ENOMEM, .reason = NULL, .msg = (char *)"out of memory" };

static int error_fill(KlError **err, int code, const char *reason, char *msg)
{
        KlError *e;

        assert(code < 0);
        if (!err || *err) {
                free(msg);
                return code;
        }
        e = msg ? malloc(sizeof(*e)) : NULL;
        if (!e) {
                free(msg);
                *err = &error_oom;
                return code;
        }
        *e = (KlError){ .code = code, .reason = reason, .msg = msg };
        *err = e;
        return code;
}

int kl_error(KlError **err, int code, const char *reason, const char *format, ...)
{
        char *msg = NULL;
        va_list args;

        if (!err)
                return code;
        va_start(args, format);
        if (vasprintf(&msg, format, args) < 0)
                msg = NULL;
        va_end(args);
        return error_fill(err, code, reason, msg);
}

int kl_error_errno(KlError **err, int code, const char *reason, const char *format, ...)
{
        KL_AUTOFREE char *head = NULL;
        char *msg = NULL;
        va_list args;

        if (!err)
                return code;
        va_start(args, format);
        if (vasprintf(&head, format, args) < 0)
                head = NULL;
        va_end(args);
        if (head && asprintf(&msg, "%s: %s", head, strerror(-code)) < 0)
                msg = NULL;
        return error_fill(err, code, reason, msg);
}

int kl_error_wrap(KlError **err, int code, const char *format, ...)
{
        KL_AUTOFREE char *head = NULL;
        char *msg = NULL;
        va_list args;

        if (!err)
                return code;
        va_start(args, format);
        if (vasprintf(&head, format, args) < 0)
                head = NULL;
        va_end(args);
        if (!*err)
                return error_fill(err, code, NULL, KL_STEAL(head));
        code = (*err)->code;
        if (*err == &error_oom || !head || asprintf(&msg, "%s: %s", head, (*err)->msg) < 0)
                return code;
        free((*err)->msg);
        (*err)->msg = msg;
        return code;
}

int kl_error_oom(KlError **err)
{
        if (err && !*err)
                *err = &error_oom;
        return -ENOMEM;
}

void kl_error_default_reason(KlError *err, const char *reason)
{
        if (err && err != &error_oom && !err->reason)
                err->reason = reason;
}

void kl_error_set_reason(KlError *err, const char *reason)
{
        if (err && err != &error_oom)
                err->reason = reason;
}

const char *kl_error_msg(const KlError *err)
{
        return err && err->msg ? err->msg : "unknown error";
}

const char *kl_error_reason(const KlError *err, const char *fallback)
{
        return err && err->reason ? err->reason : fallback;
}

int kl_error_move(KlError **to, KlError **from)
{
        KlError *e = *from;
        int code = e ? e->code : -EIO;

        *from = NULL;
        if (to && !*to)
                *to = e;
        else
                kl_error_free(e);
        return code;
}

KlError *kl_error_free(KlError *err)
{
        if (err && err != &error_oom) {
                int saved = errno;

                free(err->msg);
                free(err);
                errno = saved;
        }
        return NULL;
}
