/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The resize channel: JSON objects one after the other, in pieces of any size. They are flat, so
 * that braces find their ends. What is none of them is dropped: a terminal's size is no reason to
 * end a session.
 */

#include "server/stream-internal.h"

#include "codec/json.h"

static void apply(StreamSession *s)
{
        KL_AUTO(value_free) Value *size = NULL;
        int64_t width, height;

        if (json_parse(s->resize.data, s->resize.len, &size, NULL) < 0)
                return;
        width = value_int(value_get(size, "Width"), -1);
        height = value_int(value_get(size, "Height"), -1);
        if (width < 0 || width > UINT16_MAX || height < 0 || height > UINT16_MAX)
                return;
        s->spec.funcs->resize(s, (uint16_t)width, (uint16_t)height, s->spec.data);
}

void stream_resize_input(StreamSession *s, const char *bytes, size_t len)
{
        for (size_t i = 0; i < len && !stream_is_over(s); i++) {
                if (bytes[i] == '{') {
                        buf_clear(&s->resize);
                        s->in_resize = true;
                }
                if (!s->in_resize)
                        continue;
                buf_add_char(&s->resize, bytes[i]);
                if (buf_error(&s->resize))
                        s->in_resize = false;
                if (bytes[i] != '}' || !s->in_resize)
                        continue;
                s->in_resize = false;
                apply(s);
        }
        if (!s->in_resize)
                buf_deinit(&s->resize);
}
