/* SPDX-License-Identifier: Apache-2.0 */

/* passwd and group files of images, and containers' output. */

#include "base/str.h"
#include "shim/log-line.h"
#include "shim/user.h"

#include <assert.h>

static void count(const char *record, size_t len, void *data)
{
        assert(len > 0 && len <= LOG_RECORD_MAX && record[len - 1] == '\n');
        *(size_t *)data += len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTOFREE char *text = strndup((const char *)data, size);
        ShimUser user = { .run_as_user = -1, .run_as_group = -1, .image_user = "app:staff" };
        LogStream stream = { .name = "stderr" };
        size_t written = 0, step = size ? data[0] + 1U : 1;
        ResolvedUser resolved;

        (void)user_resolve(&user, text, text, &resolved, NULL);
        user.image_user = text;
        (void)user_resolve(&user, "app:x:1:2::/:\n", text, &resolved, NULL);
        for (size_t at = 0; at < size; at += step)
                log_stream_add(&stream, "2026-01-01T00:00:00.000000000Z", (const char *)data + at,
                               size - at < step ? size - at : step, count, &written);
        log_stream_end(&stream, "2026-01-01T00:00:00.000000000Z", count, &written);
        return 0;
}
