/* SPDX-License-Identifier: Apache-2.0 */

/* Request targets, and what the queries of logs make of them. */

#include "base/str.h"
#include "server/log-options.h"
#include "server/node-log-query.h"
#include "server/target.h"

#include <assert.h>
#include <string.h>

/* Nothing of the query becomes a word of its own. */
static void check_journalctl(const NodeLogQuery *query)
{
        const bool all[NODE_LOG_SERVICES_MAX] = { true, true, true, true };
        KL_AUTOSTRV args = node_log_query_journalctl(query, all);

        for (size_t i = 1; args && args[i]; i++)
                assert(str_starts(args[i], "--"));
        for (size_t i = 0; i < query->n_services; i++)
                assert(!strpbrk(query->services[i], "/. *"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTOFREE char *text = strndup((const char *)data, size);
        LogOptions options;
        NodeLogQuery query;
        Target target;

        if (!text || target_parse(text, &target) < 0)
                return 0;
        assert(text[0] == '/');
        for (size_t i = 0; i < target.n_segments; i++)
                assert(*target.segments[i] && strcmp(target.segments[i], "..") != 0);
        if (log_options_parse(&target, &options, NULL) == 0)
                assert(options.tail_lines >= -1 && options.limit_bytes != 0);
        if (node_log_query_parse(&target, &query, NULL) > 0)
                check_journalctl(&query);
        target_deinit(&target);
        return 0;
}
