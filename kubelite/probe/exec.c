/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A command in the container. The shim keeps the time and kills everything that the command
 * started; output beyond the limit is read and dropped, so that writing endlessly ends with the
 * time-out too.
 */

#include "probe/probe-internal.h"

#include "base/str.h"

/* A process in uninterruptible sleep outlives its SIGKILL: the result does not wait for it. */
#define KILL_SLACK_MS 2000

typedef struct ExecAttempt {
        Attempt base;
        Exec *exec;
        char *command; /* for the message of a time-out */
} ExecAttempt;

static void exec_timed_out(Attempt *base)
{
        ExecAttempt *a = (ExecAttempt *)base;

        attempt_tellf(base, PROBE_FAILURE, "command timed out: \"%s\" timed out after %llus",
                      a->command, (unsigned long long)base->timeout_ms / 1000);
}

static void on_exec_done(Exec *exec, int exit_code, bool timed_out, const char *output, size_t len,
                         const KlError *error, void *data)
{
        ExecAttempt *a = data;

        a->exec = NULL;
        if (error) {
                attempt_tellf(&a->base, PROBE_UNKNOWN, "%s", kl_error_msg(error));
        } else if (timed_out) {
                exec_timed_out(&a->base);
        } else if (exit_code != 0 && a->base.hook) {
                attempt_tellf(&a->base, PROBE_FAILURE,
                              "error: command '%s' exited with %d: %.*s, message: \"%.*s\"",
                              a->command, exit_code, (int)len, output, (int)len, output);
        } else {
                attempt_tellf(&a->base, exit_code == 0 ? PROBE_SUCCESS : PROBE_FAILURE, "%.*s",
                              (int)len, output);
        }
}

static char *join(char *const *args)
{
        KL_AUTOBUF text = BUF_INIT_LIMIT(PROBE_OUTPUT_MAX);

        for (size_t i = 0; args[i]; i++)
                buf_addf(&text, "%s%s", i ? " " : "", args[i]);
        return text.data ? strdup(text.data) : strdup("");
}

static int exec_start(Attempt *base, const AttemptSpec *spec, KlError **err)
{
        ExecAttempt *a = (ExecAttempt *)base;
        char *const *command = spec->command ? spec->command : spec->handler->command;
        ExecSpec exec = {
                .args = command,
                .stdin_fd = -1,
                .stdout_fd = -1,
                .stderr_fd = -1,
                .out_max = PROBE_OUTPUT_MAX,
                .timeout_ms = spec->timeout_ms,
                .done = on_exec_done,
                .data = a,
        };

        if (!spec->sandbox || !spec->container_id)
                return kl_error(err, -ENOENT, NULL, "the container is not running");
        a->command = join(command);
        if (!a->command)
                return kl_error_oom(err);
        return sandbox_exec(spec->sandbox, spec->container_id, &exec, &a->exec, err);
}

static void exec_stop(Attempt *base)
{
        ExecAttempt *a = (ExecAttempt *)base;

        a->exec = exec_kill(a->exec);
        free(a->command);
        a->command = NULL;
}

const AttemptOps attempt_exec = {
        .size = sizeof(ExecAttempt),
        .start = exec_start,
        .stop = exec_stop,
        .timed_out = exec_timed_out,
        .slack_ms = KILL_SLACK_MS,
};
