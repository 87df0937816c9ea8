/* SPDX-License-Identifier: Apache-2.0 */

/*
 * containers/<id>/exit: how a container ended, for a daemon that was not there, and for one that
 * finds the shim gone as well. Numbers only, but for id, reason and message; a message's line ends
 * are written as spaces.
 */

#include "shim/record.h"

#include "base/str.h"

#include <stdio.h>

static const char head[] = "kubelite-exit 1\n";

int shim_exit_format(const ShimContainerState *s, Buf *buf)
{
        buf_clear(buf);
        buf_add_str(buf, head);
        buf_addf(buf,
                 "id %s\nexit_code %d\nsignal %d\noom_killed %u\nstart_error %u\nerror_code %d\n",
                 s->id, s->exit_code, s->signal, s->oom_killed, s->start_error, s->error_code);
        buf_addf(buf, "created_us %lld\nstarted_us %lld\nfinished_us %lld\nuid %u\ngid %u\n",
                 (long long)s->created_us, (long long)s->started_us, (long long)s->finished_us,
                 s->uid, s->gid);
        for (uint32_t i = 0; i < s->n_groups && i < SHIM_GROUPS_MAX; i++)
                buf_addf(buf, "group %u\n", s->groups[i]);
        buf_addf(buf, "reason %s\n", s->reason);
        buf_add_str(buf, "message ");
        for (const char *p = s->message; *p; p++)
                buf_add_char(buf, *p == '\n' ? ' ' : *p);
        buf_add_char(buf, '\n');
        return buf_error(buf);
}

static void copy_text(char *to, size_t size, const char *from, size_t len)
{
        if (len >= size)
                len = size - 1;
        memcpy(to, from, len);
        to[len] = '\0';
}

typedef struct ExitNumber {
        const char *key;
        int64_t value, min, max;
} ExitNumber;

/* One line each. */
static int parse_group(const char *text, size_t len, ShimContainerState *s)
{
        char copy[16];
        int64_t group;

        if (len >= sizeof(copy) || s->n_groups >= SHIM_GROUPS_MAX)
                return -EBADMSG;
        copy_text(copy, sizeof(copy), text, len);
        if (str_to_i64(copy, 0, UINT32_MAX, &group) < 0)
                return -EBADMSG;
        s->groups[s->n_groups++] = (uint32_t)group;
        return 0;
}

static int parse_line(const char *line, size_t len, ExitNumber *numbers, size_t n,
                      ShimContainerState *s)
{
        const char *space = memchr(line, ' ', len);
        size_t key, rest;
        char text[24];

        if (!space)
                return -EBADMSG;
        key = (size_t)(space - line);
        rest = len - key - 1;
        if (key == 2 && memcmp(line, "id", 2) == 0)
                copy_text(s->id, sizeof(s->id), space + 1, rest);
        if (key == 6 && memcmp(line, "reason", 6) == 0)
                copy_text(s->reason, sizeof(s->reason), space + 1, rest);
        if (key == 7 && memcmp(line, "message", 7) == 0)
                copy_text(s->message, sizeof(s->message), space + 1, rest);
        if (key == 5 && memcmp(line, "group", 5) == 0)
                return parse_group(space + 1, rest, s);
        for (size_t i = 0; i < n; i++) {
                if (strlen(numbers[i].key) != key || memcmp(numbers[i].key, line, key) != 0)
                        continue;
                if (rest >= sizeof(text))
                        return -EBADMSG;
                copy_text(text, sizeof(text), space + 1, rest);
                if (str_to_i64(text, numbers[i].min, numbers[i].max, &numbers[i].value) < 0)
                        return -EBADMSG;
        }
        return 0;
}

int shim_exit_parse(const char *text, size_t len, ShimContainerState *ret)
{
        enum { CODE, SIGNAL, OOM, START, ERROR, CREATED, STARTED, FINISHED, UID, GID, N };
        ExitNumber numbers[N] = {
                [CODE] = { "exit_code", 0, INT32_MIN, INT32_MAX },
                [SIGNAL] = { "signal", 0, 0, 128 },
                [OOM] = { "oom_killed", 0, 0, 1 },
                [START] = { "start_error", 0, 0, 1 },
                [ERROR] = { "error_code", 0, INT32_MIN, INT32_MAX },
                [CREATED] = { "created_us", 0, 0, INT64_MAX },
                [STARTED] = { "started_us", 0, 0, INT64_MAX },
                [FINISHED] = { "finished_us", 0, 0, INT64_MAX },
                [UID] = { "uid", 0, 0, UINT32_MAX },
                [GID] = { "gid", 0, 0, UINT32_MAX },
        };
        const char *p = text + sizeof(head) - 1, *end = text + len;

        if (len < sizeof(head) - 1 || memcmp(text, head, sizeof(head) - 1) != 0)
                return -EBADMSG;
        memset(ret, 0, sizeof(*ret));
        while (p < end) {
                const char *newline = memchr(p, '\n', (size_t)(end - p));

                if (!newline || parse_line(p, (size_t)(newline - p), numbers, N, ret) < 0)
                        return -EBADMSG;
                p = newline + 1;
        }
        if (!ret->id[0])
                return -EBADMSG;
        ret->state = SHIM_CONTAINER_EXITED;
        ret->exit_code = (int32_t)numbers[CODE].value;
        ret->signal = (int32_t)numbers[SIGNAL].value;
        ret->oom_killed = (uint32_t)numbers[OOM].value;
        ret->start_error = (uint32_t)numbers[START].value;
        ret->error_code = (int32_t)numbers[ERROR].value;
        ret->created_us = numbers[CREATED].value;
        ret->started_us = numbers[STARTED].value;
        ret->finished_us = numbers[FINISHED].value;
        ret->uid = (uint32_t)numbers[UID].value;
        ret->gid = (uint32_t)numbers[GID].value;
        return 0;
}
