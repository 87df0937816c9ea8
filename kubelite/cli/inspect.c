/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/cli-internal.h"

/* Prints what the daemon says of a pod, container or image: YAML, unless JSON is asked for. */
int cli_run_inspect(const CliCommand *command, int argc, char **argv)
{
        const char *namespace = NULL;
        const CliOption options[] = {
                { 'n', "namespace", "NAME", "of the pod; default: any", NULL, &namespace },
                { 0 },
        };
        KL_AUTOFREE char *json = NULL;
        KL_AUTO(value_free) Value *object = NULL;
        CliCommon common;
        char **args;
        int r;

        r = cli_parse(command, options, 1, 1, argc, argv, &common, &args);
        if (r >= 0)
                return r;
        json = cli_make_request("inspect", "name", args[0], "namespace", namespace, NULL);
        r = cli_fetch(&common, json, &object);
        if (r != CLI_OK)
                return r;
        return cli_print_value(object, common.format == CLI_JSON ? CLI_JSON : CLI_YAML);
}
