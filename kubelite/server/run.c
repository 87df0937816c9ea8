/* SPDX-License-Identifier: Apache-2.0 */

/* /run/{namespace}/{pod}[/{uid}]/{container}?cmd=…: a command's collected output. */

#include "server/streams-internal.h"

#include "base/str.h"

#define OUTPUT_MAX (1U << 20)

typedef struct Run {
        ServerRequest *rq;
        Exec *exec;
        char **args;
} Run;

static void run_free(void *data)
{
        Run *r = data;

        exec_kill(r->exec);
        strv_free(r->args);
        free(r);
}

static char *join(char *const *args)
{
        KL_AUTOBUF text = BUF_INIT;

        for (size_t i = 0; args[i]; i++) {
                buf_add_str(&text, i ? " " : "");
                buf_add_str(&text, args[i]);
        }
        return buf_steal(&text);
}

static void on_done(Exec *exec, int exit_code, bool timed_out, const char *output, size_t len,
                    const KlError *error, void *data)
{
        Run *r = data;
        Exchange *x = r->rq->exchange;

        r->exec = NULL;
        if (error) {
                exchange_respond_text(x, 500, "%s", kl_error_msg(error));
        } else if (exit_code != 0) {
                KL_AUTOFREE char *command = join(r->args);

                exchange_respond_text(x, 500, "command '%s' exited with %d: %.*s",
                                      command ? command : "", exit_code, (int)len, output);
        } else {
                exchange_respond(x, 200, "application/json", output, len);
        }
}

static int start(Run *r, const Place *place, KlError **err)
{
        const char *command = target_get(&r->rq->target, "cmd");
        ExecSpec spec = { .stdin_fd = -1,
                          .stdout_fd = -1,
                          .stderr_fd = -1,
                          .out_max = OUTPUT_MAX,
                          .done = on_done,
                          .data = r };

        r->args = strv_split(command ? command : "", ' ');
        if (!r->args)
                return kl_error_oom(err);
        spec.args = r->args;
        return sandbox_exec(place->sandbox, place->container_id, &spec, &r->exec, err);
}

void server_run(ServerRequest *rq)
{
        const KubeletServerOptions *o = &rq->server->options;
        PlaceName name = server_place_name(&rq->target, true);
        KL_AUTOERR err = NULL;
        Place place;
        Run *r;

        if (o->funcs->find_place(&name, &place, o->data) < 0) {
                exchange_respond_text(rq->exchange, 404, "pod does not exist");
                return;
        }
        if (!place.container_id) {
                exchange_respond_text(rq->exchange, 500, "container not found (\"%s\")",
                                      name.container);
                return;
        }
        r = calloc(1, sizeof(*r));
        if (!r) {
                exchange_respond_text(rq->exchange, 500, "out of memory");
                return;
        }
        r->rq = rq;
        server_request_set_data(rq, r, run_free);
        if (start(r, &place, &err) < 0)
                exchange_respond_text(rq->exchange, 500, "%s", kl_error_msg(err));
}
