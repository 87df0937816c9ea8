/* SPDX-License-Identifier: Apache-2.0 */

/* With a subcommand the command-line tool, without one the daemon. */

#include "cli/cli.h"
#include "daemon.h"

int main(int argc, char **argv)
{
        if (argc > 1 && argv[1][0] != '-')
                return cli_main(argc, argv);
        return daemon_main(argc, argv);
}
