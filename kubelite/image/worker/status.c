/* SPDX-License-Identifier: Apache-2.0 */

/* Lines for who started kubelite-image; one that reads no more is no reason to stop. */

#include "image/worker/status-internal.h"

#include "base/buf.h"
#include "base/file.h"
#include "codec/json.h"

static void send_line(Buf *line)
{
        buf_add_char(line, '\n');
        if (buf_error(line) == 0)
                fd_write_all(STDOUT_FILENO, line->data, line->len);
}

void status_progress(const char *layer, const char *phase, uint64_t done, uint64_t total)
{
        KL_AUTOBUF line = BUF_INIT;

        buf_addf(&line, "P %s %s %llu %llu", layer ? layer : "-", phase, (unsigned long long)done,
                 (unsigned long long)total);
        send_line(&line);
}

void status_result(const char *id, char *const *names)
{
        KL_AUTOBUF line = BUF_INIT_LIMIT(STATUS_LINE_MAX);
        JsonWriter w = JSON_WRITER(&line);

        buf_add_str(&line, "R ");
        jw_object(&w);
        jw_kstr_opt(&w, "id", id);
        jw_kstrv(&w, "names", names);
        jw_end(&w);
        send_line(&line);
}

void status_error(const KlError *err)
{
        KL_AUTOBUF line = BUF_INIT;
        JsonWriter w = JSON_WRITER(&line);

        buf_add_str(&line, "E ");
        jw_object(&w);
        jw_kint(&w, "code", err ? -err->code : EIO);
        jw_kstr(&w, "reason", kl_error_reason(err, "ErrImagePull"));
        jw_kstr(&w, "message", kl_error_msg(err));
        jw_end(&w);
        send_line(&line);
}
