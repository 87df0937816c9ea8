/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/cli-internal.h"

#include "base/str.h"
#include "codec/json.h"

static void print_server(const Value *server)
{
        static const char *const keys[][2] = {
                { "version", "Server version" },
                { "kubernetes_version", "Kubernetes version" },
                { "node", "Node" },
                { "started_at", "Running since" },
        };

        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                KL_AUTOBUF clean = BUF_INIT;
                const char *text = value_get_str(server, keys[i][0]);

                if (!text)
                        continue;
                cli_add_clean(&clean, text);
                printf("%-19s %s\n", keys[i][1], buf_str(&clean));
        }
}

static int print_json(const Value *server, CliFormat format)
{
        KL_AUTO(value_free) Value *all = NULL;
        KL_AUTOBUF buf = BUF_INIT;
        JsonWriter w = JSON_WRITER(&buf);

        jw_object(&w);
        jw_kobject(&w, "client");
        jw_kstr(&w, "version", KUBELITE_VERSION);
        jw_end(&w);
        jw_key(&w, "server");
        jw_value(&w, server);
        jw_end(&w);
        if (buf_error(&buf) || json_parse(buf_str(&buf), buf.len, &all, NULL) < 0)
                return cli_fail("out of memory");
        return cli_print_value(all, format);
}

/* A daemon that does not answer is told of, and is no failure: this tool has a version as well. */
int cli_run_version(const CliCommand *command, int argc, char **argv)
{
        KL_AUTO(value_free) Value *server = NULL;
        KL_AUTOERR err = NULL;
        CliRequest request = { .json = "{\"command\":\"version\"}",
                               .fd = -1,
                               .timeout_s = CLI_QUERY_TIMEOUT_S };
        CliCommon common;
        char **args;
        int r;

        r = cli_parse(command, NULL, 0, 0, argc, argv, &common, &args);
        if (r >= 0)
                return r;
        request.state_dir = common.state_dir;
        r = cli_request(&request, &server, &err);
        if (common.format != CLI_TABLE)
                return print_json(server, common.format);
        printf("%-19s %s\n", "Client version", KUBELITE_VERSION);
        fflush(stdout);
        if (r < 0)
                cli_fail("%s", kl_error_msg(err));
        else
                print_server(server);
        return CLI_OK;
}
