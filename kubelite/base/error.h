/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_BASE_ERROR_H
#define KUBELITE_BASE_ERROR_H

#include "base/cleanup.h"

/*
 * Errors. A function that can fail for more than one reason ends in `KlError **err` and returns
 *   0   done,
 *   <0  a negative errno: fatal for this operation, forwarded up,
 *   >0  a result that the function's header names; the direct caller handles it.
 *
 * The error is filled once, where it happens, and wrapped with context on the way up, so that the
 * one frame that swallows it logs one sentence. `err` may be NULL and is left alone on success.
 */

typedef struct KlError {
        int code;           /* negative errno */
        const char *reason; /* CamelCase token for events and statuses; static string or NULL */
        char *msg;          /* one sentence without a full stop */
} KlError;

/* Fills *err (unless err is NULL or already filled) and returns code, which must be negative. */
int kl_error(KlError **err, int code, const char *reason, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* Like kl_error, and appends ": <strerror(-code)>". */
int kl_error_errno(KlError **err, int code, const char *reason, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* Prefixes "<context>: " to the message of *err and returns its code (or code if there is none). */
int kl_error_wrap(KlError **err, int code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Replaces the reason when there is none yet, or always; the reason must be a static string. */
void kl_error_default_reason(KlError *err, const char *reason);
void kl_error_set_reason(KlError *err, const char *reason);

/* Message and reason that are safe to print for a NULL error too. */
const char *kl_error_msg(const KlError *err);
const char *kl_error_reason(const KlError *err, const char *fallback);

/* Moves *from into *to (freeing from when to is NULL or filled); returns the code. */
int kl_error_move(KlError **to, KlError **from);

KlError *kl_error_free(KlError *err);
KL_DEFINE_CLEANUP(KlError *, kl_error_free);

#define KL_AUTOERR KL_AUTO(kl_error_free) KlError *

/* For chains of calls that only forward: returns from the function on a negative result. */
#define KL_TRY(expr)                                                                               \
        do {                                                                                       \
                int kl_try_ = (expr);                                                              \
                                                                                                   \
                if (kl_try_ < 0)                                                                   \
                        return kl_try_;                                                            \
        } while (0)

int kl_error_oom(KlError **err);

#endif
