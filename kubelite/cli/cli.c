/* SPDX-License-Identifier: Apache-2.0 */

/* The table of subcommands, and the way into it. */

#include "cli/cli.h"

#include "cli/cli-internal.h"

#include "base/str.h"

const CliCommand cli_commands[] = {
        { "pods", "", "List the pods of this node",
          "The columns follow crictl's. STATE is the pod's phase.", cli_run_pods },
        { "ps", "", "List containers", "Only running ones, unless --all is given.", cli_run_ps },
        { "images", "", "List images", NULL, cli_run_images },
        { "pull", "IMAGE", "Pull an image from its registry", NULL, cli_run_pull },
        { "import", "FILE|DIRECTORY|-",
          "Import images from an OCI layout, an OCI archive or a 'docker save' archive",
          "With '-', an archive is read from standard input, which must be a file.",
          cli_run_import },
        { "rmi", "IMAGE…", "Remove images", NULL, cli_run_rmi },
        { "logs", "POD [CONTAINER]", "Print a container's log",
          "Standard output and standard error of the container go to those of this command. The "
          "log file is read\ndirectly; the daemon is only asked where it is.",
          cli_run_logs },
        { "exec", "POD -- COMMAND [ARGUMENT…]", "Run a command in a container",
          "The exit status is the command's. It is killed when this is interrupted.",
          cli_run_exec },
        { "attach", "POD", "Follow a container's output, and give it input",
          "Its output so far is what 'logs' prints.", cli_run_attach },
        { "port-forward", "POD [LOCAL:]REMOTE…", "Listen on local ports for a pod's",
          "On 127.0.0.1 and ::1; a LOCAL of 0 is any free port. Each connection is made to the "
          "pod's own loopback.",
          cli_run_port_forward },
        { "inspect", "NAME|ID", "Show all that is known of a pod, container or image",
          "An id may be cut short as long as it is the only one that begins so.", cli_run_inspect },
        { "stats", "[POD]", "Show what running containers use",
          "CPU is in thousandths of a processor, over the time since figures were last asked for, "
          "or over one\nsecond. DISK is what the container wrote outside of volumes, at most a "
          "minute ago.",
          cli_run_stats },
        { "version", "", "Show the versions of this tool and of the daemon", NULL,
          cli_run_version },
        { "check", "", "Tell what this machine lacks to be a node, and what to do about it",
          "Needs no daemon. The exit status is 1 when something needed is missing.",
          cli_run_check },
        { NULL, NULL, NULL, NULL, NULL },
};

static void print_help(FILE *to)
{
        fputs("Usage: kubelite SUBCOMMAND [OPTION…] [ARGUMENT…]\n"
              "       kubelite [FLAG…]              run the node (see --help)\n\nSubcommands:\n",
              to);
        for (const CliCommand *c = cli_commands; c->name; c++)
                fprintf(to, "  %-12s %s\n", c->name, c->summary);
        fputs("\n'kubelite SUBCOMMAND --help' tells more.\n", to);
}

static const CliCommand *find_command(const char *name)
{
        for (const CliCommand *c = cli_commands; c->name; c++)
                if (str_eq(c->name, name))
                        return c;
        return NULL;
}

int cli_main(int argc, char **argv)
{
        const char *names[32];
        const char *nearest;
        const CliCommand *command;
        size_t n = 0;

        if (argc < 2) {
                print_help(stderr);
                return CLI_USAGE;
        }
        if (str_eq(argv[1], "help")) {
                command = argc > 2 ? find_command(argv[2]) : NULL;
                if (command)
                        return command->run(command, 2,
                                            (char *[]){ argv[2], (char *)"--help", NULL });
                print_help(stdout);
                return CLI_OK;
        }
        command = find_command(argv[1]);
        if (command)
                return command->run(command, argc - 1, argv + 1);
        for (const CliCommand *c = cli_commands; c->name && n < ELEMENTS(names); c++)
                names[n++] = c->name;
        nearest = cli_nearest(argv[1], names, n);
        cli_fail("unknown subcommand '%s'%s%s%s", argv[1], nearest ? ", did you mean '" : "",
                 nearest ? nearest : "", nearest ? "'?" : "; see 'kubelite help'");
        return CLI_USAGE;
}
