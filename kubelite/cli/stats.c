/* SPDX-License-Identifier: Apache-2.0 */

/* stats: what containers use now. */

#include "cli/cli-internal.h"

#include "base/str.h"

/* A rate needs two readings; who asks first waits this long for the second one. */
#define SECOND_READING_S 1
/* Disks may be slow. */
#define STATS_TIMEOUT_S 15

static void add_bytes(CliTable *table, const Value *object, const char *key)
{
        const Value *v = value_get(object, key);
        char text[32];

        if (value_type(v) != VALUE_INT) {
                cli_table_add(table, NULL);
                return;
        }
        cli_format_bytes((uint64_t)value_int(v, 0), text, sizeof(text));
        cli_table_add(table, text);
}

static void add_cpu(CliTable *table, const Value *object)
{
        const Value *v = value_get(object, "cpu_nano_cores");

        if (value_type(v) == VALUE_INT)
                cli_table_addf(table, "%lldm", (long long)(value_int(v, 0) + 500000) / 1000000);
        else
                cli_table_add(table, NULL);
}

static int print_stats(const Value *pods)
{
        static const char *const header[] = { "POD",    "NAMESPACE", "CONTAINER", "CPU",
                                              "MEMORY", "LIMIT",     "DISK",      "LOGS" };
        CliTable table;

        cli_table_init(&table, header, ELEMENTS(header));
        for (size_t i = 0; i < value_len(pods); i++) {
                const Value *pod = value_at(pods, i), *list = value_get(pod, "containers");

                for (size_t j = 0; j < value_len(list); j++) {
                        const Value *c = value_at(list, j);

                        cli_table_add(&table, value_get_str(pod, "name"));
                        cli_table_add(&table, value_get_str(pod, "namespace"));
                        cli_table_add(&table, value_get_str(c, "name"));
                        add_cpu(&table, c);
                        add_bytes(&table, c, "memory_working_set_bytes");
                        add_bytes(&table, c, "memory_limit_bytes");
                        add_bytes(&table, c, "rootfs_bytes");
                        add_bytes(&table, c, "logs_bytes");
                }
        }
        return cli_table_print(&table, stdout);
}

static bool lacks_rates(const Value *pods)
{
        for (size_t i = 0; i < value_len(pods); i++)
                if (!value_get(value_at(pods, i), "cpu_nano_cores"))
                        return true;
        return false;
}

int cli_run_stats(const CliCommand *command, int argc, char **argv)
{
        const char *namespace = NULL;
        const CliOption options[] = {
                { 'n', "namespace", "NAME", "pods of this namespace only", NULL, &namespace },
                { 0 },
        };
        KL_AUTOFREE char *json = NULL;
        KL_AUTO(value_free) Value *pods = NULL;
        KL_AUTOERR err = NULL;
        CliRequest request = { .fd = -1, .timeout_s = STATS_TIMEOUT_S };
        CliCommon common;
        char **args;
        int r;

        r = cli_parse(command, options, 0, 1, argc, argv, &common, &args);
        if (r >= 0)
                return r;
        json = cli_make_request("stats", "namespace", namespace, "name", args[0], NULL);
        request.state_dir = common.state_dir;
        request.json = json;
        r = cli_request(&request, &pods, &err);
        if (r == 0 && lacks_rates(pods)) {
                value_free(pods);
                pods = NULL;
                sleep(SECOND_READING_S);
                r = cli_request(&request, &pods, &err);
        }
        if (r < 0)
                return cli_fail("%s", kl_error_msg(err));
        return common.format != CLI_TABLE ? cli_print_value(pods, common.format)
                                          : print_stats(pods);
}
