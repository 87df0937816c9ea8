/* SPDX-License-Identifier: Apache-2.0 */

/* Log records in whatever pieces: the first byte chooses options, the second the pieces' size. */

#include "server/log-format.h"

#include <assert.h>

static void run(const LogOptions *options, const char *data, size_t len, size_t step, Buf *out)
{
        LogFormat f;

        log_format_init(&f, options);
        for (size_t at = 0; at < len; at += step)
                log_format_add(&f, data + at, len - at < step ? len - at : step, out, out);
        assert(f.rest.len <= LOG_FORMAT_RECORD_MAX);
        log_format_deinit(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTOBUF whole = BUF_INIT;
        KL_AUTOBUF pieces = BUF_INIT;
        LogOptions options = { .tail_lines = -1, .limit_bytes = -1, .since_us = INT64_MIN };

        if (size < 2)
                return 0;
        options.timestamps = data[0] & 1;
        options.out = data[0] & 2;
        options.err = data[0] & 4;
        if (data[0] & 8)
                options.limit_bytes = data[0];
        if (data[0] & 16)
                options.since_us = 1767323045000000;
        run(&options, (const char *)data + 2, size - 2, size, &whole);
        run(&options, (const char *)data + 2, size - 2, (size_t)data[1] + 1, &pieces);
        assert(whole.len == pieces.len);
        assert(whole.len == 0 || memcmp(whole.data, pieces.data, whole.len) == 0);
        assert(options.limit_bytes < 0 || whole.len <= (size_t)options.limit_bytes);
        return 0;
}
