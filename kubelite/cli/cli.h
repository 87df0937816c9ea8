/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CLI_CLI_H
#define KUBELITE_CLI_CLI_H

/* The command-line tool: argv[1] is the subcommand. Blocks, uses no loop. Returns the exit status:
 * 0, 1 (it failed), 2 (wrong usage). */
int cli_main(int argc, char **argv);

#endif
