/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How a command ended, for the error stream: a v1.Status from protocol 4 on; before it a text, and
 * nothing for success.
 */

#include "server/stream-internal.h"

#include "base/str.h"
#include "codec/json.h"

#define STATUS_VERSION 4

static void begin(JsonWriter *w, const char *status)
{
        jw_object(w);
        jw_kobject(w, "metadata");
        jw_end(w);
        jw_kstr(w, "status", status);
}

void stream_status_exit(Buf *to, int version, int exit_code)
{
        JsonWriter w = JSON_WRITER(to);

        if (version < STATUS_VERSION) {
                if (exit_code != 0)
                        buf_addf(to, "command terminated with non-zero exit code: exit status %d",
                                 exit_code);
                return;
        }
        begin(&w, exit_code == 0 ? "Success" : "Failure");
        if (exit_code != 0) {
                jw_kstrf(&w, "message",
                         "command terminated with non-zero exit code: exit status %d", exit_code);
                jw_kstr(&w, "reason", "NonZeroExitCode");
                jw_kobject(&w, "details");
                jw_karray(&w, "causes");
                jw_object(&w);
                jw_kstr(&w, "reason", "ExitCode");
                jw_kstrf(&w, "message", "%d", exit_code);
                jw_end(&w);
                jw_end(&w);
                jw_end(&w);
        }
        jw_end(&w);
}

void stream_status_error(Buf *to, int version, const char *message)
{
        JsonWriter w = JSON_WRITER(to);

        if (version < STATUS_VERSION) {
                buf_addf(to, "Internal error occurred: %s", message);
                return;
        }
        begin(&w, "Failure");
        jw_kstrf(&w, "message", "Internal error occurred: %s", message);
        jw_kstr(&w, "reason", "InternalError");
        jw_kobject(&w, "details");
        jw_karray(&w, "causes");
        jw_object(&w);
        jw_kstr(&w, "message", message);
        jw_end(&w);
        jw_end(&w);
        jw_end(&w);
        jw_kint(&w, "code", 500);
        jw_end(&w);
}
