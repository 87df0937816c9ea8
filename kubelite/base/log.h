/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_BASE_LOG_H
#define KUBELITE_BASE_LOG_H

#include <stdbool.h>

/*
 * One line an event, to standard error: level, time, object fields, a sentence (capital first
 * letter, no full stop, values quoted, ", ignoring" where the failure is not fatal). Secrets,
 * tokens and environment values are never logged. Never use inside libraries' leaf functions: the
 * frame that swallows an error logs it.
 */

typedef enum LogLevel {
        LOG_LEVEL_ERROR,
        LOG_LEVEL_WARNING,
        LOG_LEVEL_INFO,
        LOG_LEVEL_DEBUG,
} LogLevel;

/* --v: 0-1 = info, 2 and more = debug. */
void log_set_level(LogLevel level);
LogLevel log_level(void);

/* JSON lines (--logging-format=json) instead of text. */
void log_set_json(bool json);

/*
 * object: "pod=ns/name container=c", or NULL. Lines are cut at 8 KiB; control characters are
 * escaped, so that no input can forge a line.
 */
void log_write(LogLevel level, const char *object, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

#define log_error(object, ...) log_write(LOG_LEVEL_ERROR, object, __VA_ARGS__)
#define log_warning(object, ...) log_write(LOG_LEVEL_WARNING, object, __VA_ARGS__)
#define log_info(object, ...) log_write(LOG_LEVEL_INFO, object, __VA_ARGS__)
#define log_debug(object, ...)                                                                     \
        do {                                                                                       \
                if (log_level() >= LOG_LEVEL_DEBUG)                                                \
                        log_write(LOG_LEVEL_DEBUG, object, __VA_ARGS__);                           \
        } while (0)

#endif
