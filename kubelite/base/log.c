/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The log writer. A line is built in a stack buffer and goes out in one write(2), so that lines of
 * the daemon and of its workers never mix within a line.
 */

#include "base/log.h"

#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG_LINE_MAX 8192
#define LOG_TEXT_MAX 4096

static LogLevel current_level = LOG_LEVEL_INFO;
static bool json_lines;

void log_set_level(LogLevel level)
{
        current_level = level;
}

LogLevel log_level(void)
{
        return current_level;
}

void log_set_json(bool json)
{
        json_lines = json;
}

/* Copies text with quotes, backslashes and control characters escaped as JSON wants them. */
static size_t log_escape(char *to, size_t size, const char *text, bool quotes)
{
        size_t n = 0;

        for (; *text && n + 7 < size; text++) {
                unsigned char c = (unsigned char)*text;

                if (quotes && (c == '"' || c == '\\')) {
                        to[n++] = '\\';
                        to[n++] = (char)c;
                } else if (c == '\n') {
                        to[n++] = '\\';
                        to[n++] = 'n';
                } else if (c < 0x20 || c == 0x7f) {
                        n += (size_t)snprintf(to + n, size - n, "\\u%04x", c);
                } else {
                        to[n++] = (char)c;
                }
        }
        to[n] = '\0';
        return n;
}

void log_write(LogLevel level, const char *object, const char *format, ...)
{
        static const char *const names[] = { "error", "warning", "info", "debug" };
        char text[LOG_TEXT_MAX], clean[LOG_LINE_MAX - 512], line[LOG_LINE_MAX];
        char stamp[TIME_RFC3339_SIZE], who[384] = "";
        int saved = errno, n;
        va_list args;

        if (level > current_level)
                return;
        va_start(args, format);
        n = vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        if (n < 0)
                return;
        log_escape(clean, sizeof(clean), text, json_lines);
        if (object)
                log_escape(who, sizeof(who), object, json_lines);
        time_format_rfc3339_micro(time_realtime_us(), stamp);
        if (json_lines)
                n = snprintf(line, sizeof(line),
                             "{\"ts\":\"%s\",\"level\":\"%s\",\"object\":\"%s\",\"msg\":\"%s\"}\n",
                             stamp, names[level], who, clean);
        else
                n = snprintf(line, sizeof(line), "%s %-7s %s%s%s\n", stamp, names[level], who,
                             *who ? ": " : "", clean);
        if (n >= (int)sizeof(line)) {
                n = sizeof(line) - 1;
                line[n - 1] = '\n';
        }
        if (write(STDERR_FILENO, line, (size_t)n) < 0)
                errno = saved;
        errno = saved;
}
