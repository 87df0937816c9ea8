/* SPDX-License-Identifier: Apache-2.0 */

/* Request targets, and what a log's query makes of them. */

#include "server/log-options.h"
#include "server/target.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTOFREE char *text = strndup((const char *)data, size);
        LogOptions options;
        Target target;

        if (!text || target_parse(text, &target) < 0)
                return 0;
        assert(text[0] == '/');
        for (size_t i = 0; i < target.n_segments; i++)
                assert(*target.segments[i] && strcmp(target.segments[i], "..") != 0);
        if (log_options_parse(&target, &options, NULL) == 0)
                assert(options.tail_lines >= -1 && options.limit_bytes != 0);
        target_deinit(&target);
        return 0;
}
