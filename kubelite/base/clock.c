/* SPDX-License-Identifier: Apache-2.0 */

/* Clocks, RFC 3339 stamps as Kubernetes writes them, and Go's duration strings. */

#include "base/clock.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t time_monotonic_us(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t time_monotonic_ms(void)
{
        return time_monotonic_us() / 1000;
}

int64_t time_realtime_us(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_REALTIME, &ts);
        return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static size_t format_seconds(int64_t sec, char ret[static TIME_RFC3339_SIZE])
{
        time_t t = (time_t)sec;
        struct tm tm;

        if (!gmtime_r(&t, &tm))
                memset(&tm, 0, sizeof(tm));
        return strftime(ret, TIME_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
}

static int64_t floor_div(int64_t us, int64_t *ret_rest)
{
        int64_t sec = us / 1000000, rest = us % 1000000;

        if (rest < 0) {
                rest += 1000000;
                sec--;
        }
        *ret_rest = rest;
        return sec;
}

void time_format_rfc3339(int64_t us, char ret[static TIME_RFC3339_SIZE])
{
        int64_t rest, sec = floor_div(us, &rest);
        size_t n = format_seconds(sec, ret);

        snprintf(ret + n, TIME_RFC3339_SIZE - n, "Z");
}

void time_format_rfc3339_micro(int64_t us, char ret[static TIME_RFC3339_SIZE])
{
        int64_t rest, sec = floor_div(us, &rest);
        size_t n = format_seconds(sec, ret);

        snprintf(ret + n, TIME_RFC3339_SIZE - n, ".%06dZ", (int)rest);
}

void time_format_rfc3339_nano(int64_t sec, long nsec, char ret[static TIME_RFC3339_SIZE])
{
        size_t n = format_seconds(sec, ret);

        snprintf(ret + n, TIME_RFC3339_SIZE - n, ".%09ldZ", nsec);
}

static bool digits(const char **p, int n, int *ret)
{
        int value = 0;

        for (int i = 0; i < n; i++, (*p)++) {
                if (**p < '0' || **p > '9')
                        return false;
                value = value * 10 + (**p - '0');
        }
        *ret = value;
        return true;
}

static bool literal(const char **p, char c)
{
        if (**p != c)
                return false;
        (*p)++;
        return true;
}

/* "Z" or "+hh:mm"; seconds east of Greenwich. */
static bool parse_zone(const char **p, int *ret_offset)
{
        int sign, h, m;

        *ret_offset = 0;
        if (literal(p, 'Z') || literal(p, 'z'))
                return true;
        if (**p != '+' && **p != '-')
                return false;
        sign = *(*p)++ == '-' ? -1 : 1;
        if (!digits(p, 2, &h) || !literal(p, ':') || !digits(p, 2, &m) || h > 23 || m > 59)
                return false;
        *ret_offset = sign * (h * 3600 + m * 60);
        return true;
}

int time_parse_rfc3339(const char *text, int64_t *ret_us)
{
        int64_t fraction = 0, scale = 100000;
        struct tm tm = { 0 };
        const char *p = text;
        int offset;

        if (!digits(&p, 4, &tm.tm_year) || !literal(&p, '-') || !digits(&p, 2, &tm.tm_mon) ||
            !literal(&p, '-') || !digits(&p, 2, &tm.tm_mday) || (*p != 'T' && *p != 't'))
                return -EINVAL;
        p++;
        if (!digits(&p, 2, &tm.tm_hour) || !literal(&p, ':') || !digits(&p, 2, &tm.tm_min) ||
            !literal(&p, ':') || !digits(&p, 2, &tm.tm_sec))
                return -EINVAL;
        if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
            tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
                return -EINVAL;
        if (literal(&p, '.')) {
                if (*p < '0' || *p > '9')
                        return -EINVAL;
                for (; *p >= '0' && *p <= '9'; p++, scale /= 10)
                        fraction += (*p - '0') * scale;
        }
        if (!parse_zone(&p, &offset) || *p)
                return -EINVAL;
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        *ret_us = ((int64_t)timegm(&tm) - offset) * 1000000 + fraction;
        return 0;
}

/* The longest matching unit at *p; its length in microseconds times 1000. */
static int64_t duration_unit_ns(const char **p)
{
        static const struct {
                const char *name;
                int64_t ns;
        } units[] = {
                { "ns", 1 },           { "us", 1000 },         { "\xc2\xb5s", 1000 },
                { "\xce\xbcs", 1000 }, { "ms", 1000000 },      { "s", 1000000000 },
                { "m", 60000000000 },  { "h", 3600000000000 },
        };

        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
                size_t n = strlen(units[i].name);

                if (strncmp(*p, units[i].name, n) == 0) {
                        *p += n;
                        return units[i].ns;
                }
        }
        return 0;
}

int time_parse_duration(const char *text, int64_t *ret_us)
{
        const char *p = text;
        bool negative = false;
        double total = 0;

        if (*p == '-' || *p == '+')
                negative = *p++ == '-';
        if (strcmp(p, "0") == 0) {
                *ret_us = 0;
                return 0;
        }
        if (!*p)
                return -EINVAL;
        while (*p) {
                double value = 0, scale = 1;
                bool any = false;
                int64_t unit;

                for (; *p >= '0' && *p <= '9'; p++, any = true)
                        value = value * 10 + (*p - '0');
                if (*p == '.')
                        for (p++; *p >= '0' && *p <= '9'; p++, any = true)
                                value += (*p - '0') * (scale /= 10);
                unit = any ? duration_unit_ns(&p) : 0;
                if (!unit)
                        return -EINVAL;
                total += value * (double)unit / 1000;
        }
        if (total > 9.2e15)
                return -ERANGE;
        *ret_us = (int64_t)(negative ? -total : total);
        return 0;
}
