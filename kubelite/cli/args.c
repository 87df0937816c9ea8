/* SPDX-License-Identifier: Apache-2.0 */

/* Options of subcommands: one table gives the parser and the help. */

#include "cli/cli-internal.h"

#include "base/str.h"

#include <getopt.h>

#define NAME_MAX_LEN 64
#define FIRST_LONG 256

/* Levenshtein's distance. */
static size_t distance(const char *a, const char *b)
{
        size_t row[NAME_MAX_LEN + 1], len_b = strlen(b);

        if (strlen(a) > NAME_MAX_LEN || len_b > NAME_MAX_LEN)
                return SIZE_MAX;
        for (size_t j = 0; j <= len_b; j++)
                row[j] = j;
        for (size_t i = 1; a[i - 1]; i++) {
                size_t diagonal = row[0];

                row[0] = i;
                for (size_t j = 1; j <= len_b; j++) {
                        size_t best = diagonal + (a[i - 1] != b[j - 1]);

                        diagonal = row[j];
                        best = row[j] + 1 < best ? row[j] + 1 : best;
                        row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
                }
        }
        return row[len_b];
}

const char *cli_nearest(const char *text, const char *const *names, size_t n)
{
        size_t best = strlen(text) > 4 ? 3 : 2;
        const char *found = NULL;

        for (size_t i = 0; i < n; i++)
                if (distance(text, names[i]) <= best &&
                    (!found || distance(text, names[i]) < distance(text, found)))
                        found = names[i];
        return found;
}

static void print_option(const CliOption *o)
{
        char name[64];

        snprintf(name, sizeof(name), "%c%c%s --%s%s%s", o->short_name ? '-' : ' ',
                 o->short_name ? o->short_name : ' ', o->short_name ? "," : " ", o->name,
                 o->arg_name ? " " : "", o->arg_name ? o->arg_name : "");
        printf("  %-24s %s\n", name, o->help);
}

static int print_help(const CliCommand *command, const CliOption *all)
{
        printf("Usage: kubelite %s [OPTION…]%s%s\n\n%s.\n", command->name,
               *command->arguments ? " " : "", command->arguments, command->summary);
        if (command->details)
                printf("%s\n", command->details);
        fputs("\nOptions:\n", stdout);
        for (const CliOption *o = all; o->name; o++)
                print_option(o);
        return CLI_OK;
}

static int usage(const CliCommand *command)
{
        fprintf(stderr, "Usage: kubelite %s [OPTION…]%s%s; see 'kubelite %s --help'\n",
                command->name, *command->arguments ? " " : "", command->arguments, command->name);
        return CLI_USAGE;
}

static int parse_format(CliCommon *common)
{
        if (!common->output || str_eq(common->output, "table"))
                common->format = CLI_TABLE;
        else if (str_eq(common->output, "json"))
                common->format = CLI_JSON;
        else if (str_eq(common->output, "yaml"))
                common->format = CLI_YAML;
        else
                return -EINVAL;
        return 0;
}

static void take_option(const CliOption *o)
{
        if (o->flag)
                *o->flag = true;
        else
                *o->string = optarg;
}

static int parse_all(const CliCommand *command, const CliOption *all, size_t n, int argc,
                     char **argv)
{
        struct option longs[CLI_OPTIONS_MAX + 1] = { { NULL, 0, NULL, 0 } };
        char shorts[2 * CLI_OPTIONS_MAX + 1] = "";
        size_t len = 0;
        int c;

        for (size_t i = 0; i < n; i++) {
                longs[i] = (struct option){ all[i].name,
                                            all[i].string ? required_argument : no_argument, NULL,
                                            FIRST_LONG + (int)i };
                if (all[i].short_name)
                        shorts[len++] = all[i].short_name;
                if (all[i].short_name && all[i].string)
                        shorts[len++] = ':';
        }
        optind = 0;
        while ((c = getopt_long(argc, argv, shorts, longs, NULL)) >= 0) {
                if (c == '?' || c == ':')
                        return usage(command);
                for (size_t i = 0; i < n; i++)
                        if (c == FIRST_LONG + (int)i || c == all[i].short_name)
                                take_option(&all[i]);
        }
        return -1;
}

int cli_parse(const CliCommand *command, const CliOption *options, int min_args, int max_args,
              int argc, char **argv, CliCommon *common, char ***ret_args)
{
        CliOption all[CLI_OPTIONS_MAX] = { { 0 } };
        bool help = false;
        size_t n = 0;
        int r;

        *common = (CliCommon){ .state_dir = CLI_STATE_DIR };
        for (; options && options[n].name; n++)
                all[n] = options[n];
        all[n++] = (CliOption){ 'o',  "output",       "FORMAT", "table, json or yaml",
                                NULL, &common->output };
        all[n++] = (CliOption){ 0,     "state-dir",
                                "DIR", "of the daemon; default " CLI_STATE_DIR,
                                NULL,  &common->state_dir };
        all[n++] = (CliOption){ 'h', "help", NULL, "this text", &help, NULL };
        r = parse_all(command, all, n, argc, argv);
        if (r >= 0)
                return r;
        if (help)
                return print_help(command, all);
        if (parse_format(common) < 0) {
                cli_fail("unknown output format '%s'", common->output);
                return CLI_USAGE;
        }
        if (argc - optind < min_args || argc - optind > max_args)
                return usage(command);
        *ret_args = argv + optind;
        return -1;
}
