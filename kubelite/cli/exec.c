/* SPDX-License-Identifier: Apache-2.0 */

/*
 * exec and attach. The process gets pipes of ours and never what this command was given, be it a
 * terminal or a file: those are the host's.
 */

#include "cli/cli-internal.h"

#include "base/str.h"
#include "codec/json.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

typedef struct Options {
        const char *namespace, *container;
        bool in, tty;
} Options;

/* Pipes: ours in streams, theirs in fds. */
static int make_pipes(bool in, bool err, CliStreams *streams, int fds[static 3])
{
        int *ours[3] = { &streams->in, &streams->out, &streams->err };
        bool wanted[3] = { in, true, err };

        for (size_t i = 0; i < 3; i++) {
                int pair[2];

                *ours[i] = fds[i] = -1;
                if (!wanted[i]) {
                        /* Descriptors are passed by their place. */
                        fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
                } else if (pipe2(pair, O_CLOEXEC) < 0) {
                        return -errno;
                } else {
                        *ours[i] = pair[i == 0];
                        fds[i] = pair[i != 0];
                }
        }
        return 0;
}

static char *make_request(const char *command, const CliTarget *target, char **args, bool tty)
{
        KL_AUTOBUF json = BUF_INIT;
        JsonWriter w = JSON_WRITER(&json);

        jw_object(&w);
        jw_kstr(&w, "command", command);
        jw_kstr(&w, "namespace", target->namespace);
        jw_kstr(&w, "pod", target->pod);
        jw_kstr(&w, "container", target->container);
        if (args)
                jw_kstrv(&w, "args", args);
        jw_kbool(&w, "tty", tty);
        jw_end(&w);
        return buf_steal(&json);
}

static int start(const char *state_dir, const char *json, const int fds[static 3],
                 CliStreams *streams, KlError **err)
{
        int r;

        if (!json)
                return kl_error_oom(err);
        KL_TRY(cli_connect(state_dir, &streams->control, err));
        r = cli_send(streams->control, json, fds, 3);
        return r < 0 && r != -EPIPE ? kl_error_errno(err, r, NULL, "ask the daemon") : 0;
}

static int run(const char *command, const CliCommon *common, const Options *o, char **args)
{
        bool attach = str_eq(command, "attach");
        CliStreams streams = { -1, -1, -1, -1, o->tty && isatty(STDIN_FILENO), attach };
        KL_AUTO(value_free) Value *result = NULL;
        KL_AUTOFREE char *json = NULL;
        KL_AUTOERR err = NULL;
        CliTarget target = { NULL, NULL, NULL };
        int fds[3] = { -1, -1, -1 }, signo = 0;
        int r = cli_find_target(common->state_dir, o->namespace, args[0], o->container, &target,
                                &err);

        if (r == 0) {
                json = make_request(command, &target, attach ? NULL : args + 1, o->tty);
                r = make_pipes(o->in, !o->tty, &streams, fds);
                if (r < 0)
                        kl_error_errno(&err, r, NULL, "make a pipe");
        }
        if (r == 0)
                r = start(common->state_dir, json, fds, &streams, &err);
        for (size_t i = 0; i < 3; i++)
                kl_close(fds[i]);
        if (r == 0)
                r = cli_run_streams(&streams, &result, &signo, &err);
        cli_target_deinit(&target);
        kl_close(streams.control);
        if (r < 0)
                return cli_fail("%s", kl_error_msg(err));
        if (r > 0)
                return 128 + signo;
        return attach ? CLI_OK : (int)value_int(value_get(result, "exit_code"), CLI_FAILED);
}

static int parse_and_run(const CliCommand *command, int argc, char **argv, int min_args,
                         int max_args)
{
        Options o = { 0 };
        const CliOption options[] = {
                { 'n', "namespace", "NAME", "of the pod", NULL, &o.namespace },
                { 'c', "container", "NAME", "of the pod; default: its first", NULL, &o.container },
                { 'i', "stdin", NULL, "pass standard input on", &o.in, NULL },
                { 't', "tty", NULL, "its terminal is this one", &o.tty, NULL },
                { 0 },
        };
        CliCommon common;
        char **args;
        int r = cli_parse(command, options, min_args, max_args, argc, argv, &common, &args);

        return r >= 0 ? r : run(command->name, &common, &o, args);
}

int cli_run_exec(const CliCommand *command, int argc, char **argv)
{
        return parse_and_run(command, argc, argv, 2, INT_MAX);
}

int cli_run_attach(const CliCommand *command, int argc, char **argv)
{
        return parse_and_run(command, argc, argv, 1, 1);
}
