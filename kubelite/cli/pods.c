/* SPDX-License-Identifier: Apache-2.0 */

/* pods and ps. */

#include "cli/cli-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/json.h"

#define SHORT_ID 13

static void add_short_id(CliTable *table, const char *id)
{
        cli_table_addf(table, "%.*s", SHORT_ID, id ? id : "");
}

static void add_int(CliTable *table, const Value *object, const char *key)
{
        const Value *v = value_get(object, key);

        if (value_type(v) == VALUE_INT)
                cli_table_addf(table, "%lld", (long long)value_int(v, 0));
        else
                cli_table_add(table, NULL);
}

static int print_ids(const Value *list)
{
        for (size_t i = 0; i < value_len(list); i++) {
                const char *id = value_get_str(value_at(list, i), "id");

                if (id)
                        puts(id);
        }
        return CLI_OK;
}

/* --- pods --- */

static int print_pods(const Value *pods)
{
        static const char *const header[] = { "POD ID", "CREATED",   "STATE",    "READY",
                                              "NAME",   "NAMESPACE", "RESTARTS", "IP" };
        int64_t now = time_realtime_us();
        CliTable table;

        cli_table_init(&table, header, ELEMENTS(header));
        for (size_t i = 0; i < value_len(pods); i++) {
                const Value *p = value_at(pods, i);
                char age[32];

                cli_format_age(value_get_str(p, "created"), now, age, sizeof(age));
                add_short_id(&table, value_get_str(p, "id"));
                cli_table_add(&table, age);
                cli_table_add(&table, value_get_str(p, "phase"));
                cli_table_addf(&table, "%lld/%lld",
                               (long long)value_int(value_get(p, "containers_ready"), 0),
                               (long long)value_int(value_get(p, "containers"), 0));
                cli_table_add(&table, value_get_str(p, "name"));
                cli_table_add(&table, value_get_str(p, "namespace"));
                add_int(&table, p, "restarts");
                cli_table_add(&table, value_get_str(p, "ip"));
        }
        return cli_table_print(&table, stdout);
}

int cli_run_pods(const CliCommand *command, int argc, char **argv)
{
        const char *namespace = NULL, *name = NULL;
        bool quiet = false;
        const CliOption options[] = {
                { 'n', "namespace", "NAME", "pods of this namespace only", NULL, &namespace },
                { 0, "name", "NAME", "pods of this name only", NULL, &name },
                { 'q', "quiet", NULL, "ids only", &quiet, NULL },
                { 0 },
        };
        KL_AUTOFREE char *json = NULL;
        KL_AUTO(value_free) Value *pods = NULL;
        CliCommon common;
        char **args;
        int r;

        r = cli_parse(command, options, 0, 0, argc, argv, &common, &args);
        if (r >= 0)
                return r;
        json = cli_make_request("pods", "namespace", namespace, "name", name, NULL);
        r = cli_fetch(&common, json, &pods);
        if (r != CLI_OK)
                return r;
        if (common.format != CLI_TABLE)
                return cli_print_value(pods, common.format);
        return quiet ? print_ids(pods) : print_pods(pods);
}

/* --- ps --- */

static void add_state(CliTable *table, const Value *c)
{
        const char *state = value_get_str(c, "state"), *reason = value_get_str(c, "reason");
        const Value *code = value_get(c, "exit_code");

        if (str_eq(state, "exited") && value_type(code) == VALUE_INT)
                cli_table_addf(table, "exited (%lld%s%s)", (long long)value_int(code, 0),
                               reason ? ", " : "", reason ? reason : "");
        else if (reason)
                cli_table_addf(table, "%s (%s)", state ? state : "", reason);
        else
                cli_table_add(table, state);
}

static int print_containers(const Value *list)
{
        static const char *const header[] = { "CONTAINER", "IMAGE",   "STARTED", "STATE",
                                              "NAME",      "ATTEMPT", "POD",     "NAMESPACE" };
        int64_t now = time_realtime_us();
        CliTable table;

        cli_table_init(&table, header, ELEMENTS(header));
        for (size_t i = 0; i < value_len(list); i++) {
                const Value *c = value_at(list, i);
                char age[32];

                cli_format_age(value_get_str(c, "started_at"), now, age, sizeof(age));
                add_short_id(&table, value_get_str(c, "id"));
                cli_table_add(&table, value_get_str(c, "image"));
                cli_table_add(&table, age);
                add_state(&table, c);
                cli_table_add(&table, value_get_str(c, "name"));
                add_int(&table, c, "attempt");
                cli_table_add(&table, value_get_str(c, "pod"));
                cli_table_add(&table, value_get_str(c, "namespace"));
        }
        return cli_table_print(&table, stdout);
}

static char *make_ps_request(bool all, const char *namespace, const char *pod, const char *name)
{
        KL_AUTOBUF buf = BUF_INIT;
        JsonWriter w = JSON_WRITER(&buf);

        jw_object(&w);
        jw_kstr(&w, "command", "ps");
        jw_kbool(&w, "all", all);
        jw_kstr_opt(&w, "namespace", namespace);
        jw_kstr_opt(&w, "pod", pod);
        jw_kstr_opt(&w, "name", name);
        jw_end(&w);
        return buf_steal(&buf);
}

int cli_run_ps(const CliCommand *command, int argc, char **argv)
{
        const char *namespace = NULL, *pod = NULL, *name = NULL;
        bool all = false, quiet = false;
        const CliOption options[] = {
                { 'a', "all", NULL, "exited ones and earlier attempts too", &all, NULL },
                { 'n', "namespace", "NAME", "of this namespace only", NULL, &namespace },
                { 'p', "pod", "NAME", "of this pod only", NULL, &pod },
                { 0, "name", "NAME", "of this name only", NULL, &name },
                { 'q', "quiet", NULL, "ids only", &quiet, NULL },
                { 0 },
        };
        KL_AUTOFREE char *json = NULL;
        KL_AUTO(value_free) Value *list = NULL;
        CliCommon common;
        char **args;
        int r;

        r = cli_parse(command, options, 0, 0, argc, argv, &common, &args);
        if (r >= 0)
                return r;
        json = make_ps_request(all, namespace, pod, name);
        r = cli_fetch(&common, json, &list);
        if (r != CLI_OK)
                return r;
        if (common.format != CLI_TABLE)
                return cli_print_value(list, common.format);
        return quiet ? print_ids(list) : print_containers(list);
}
