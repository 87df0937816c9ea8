/* SPDX-License-Identifier: Apache-2.0 */

/*
 * exec, attach and forward of the local socket. The client's own pipes are handed to the process,
 * and a connection into a pod to the client: no byte of theirs comes through the daemon.
 */

#include "daemon.h"

#include "base/str.h"
#include "pod/served.h"
#include "server/pod-dial.h"

typedef struct LocalExec {
        ControlReply *reply;
        Exec *exec;
} LocalExec;

/* True when it is there; else the request was answered. */
static bool find(Daemon *d, ControlReply *reply, const Value *request, bool container, Place *ret)
{
        PlaceName name = {
                .namespace = value_get_str(request, "namespace"),
                .pod = value_get_str(request, "pod"),
                .container = container ? value_get_str(request, "container") : NULL,
        };

        if (!name.namespace || !name.pod || (container && !name.container))
                control_reply_refuse(reply, "InvalidRequest", "the request names no %s",
                                     container ? "container" : "pod");
        else if (pod_manager_find_place(d->pods, &name, ret) < 0)
                control_reply_refuse(reply, "NotFound", "there is no pod '%s'", name.pod);
        else if (container && !ret->container_id)
                control_reply_refuse(reply, "NotFound", "container '%s' is not running",
                                     name.container);
        else if (!ret->sandbox)
                control_reply_refuse(reply, "NotFound", "pod '%s' is not running", name.pod);
        else
                return true;
        return false;
}

/* --- exec --- */

static void on_exec_done(Exec *exec, int exit_code, bool timed_out, const char *output, size_t len,
                         const KlError *error, void *data)
{
        LocalExec *e = data;
        KL_AUTOFREE char *text = str_format("{\"exit_code\":%d}", exit_code);

        if (error)
                control_reply_error(e->reply, error);
        else
                control_reply_result(e->reply, text, text ? strlen(text) : 0);
        free(e);
}

static void on_exec_cancelled(ControlReply *reply, void *data)
{
        LocalExec *e = data;

        exec_kill(e->exec);
        free(e);
}

static void on_exec_line(ControlReply *reply, const Value *line, void *data)
{
        LocalExec *e = data;
        int64_t rows = value_int(value_get(line, "rows"), -1);
        int64_t columns = value_int(value_get(line, "columns"), -1);

        if (rows >= 0 && rows <= UINT16_MAX && columns >= 0 && columns <= UINT16_MAX)
                exec_resize(e->exec, (uint16_t)rows, (uint16_t)columns);
}

static char **args_of(const Value *request)
{
        const Value *list = value_get(request, "args");
        char **args = NULL;

        for (size_t i = 0; i < value_len(list); i++)
                if (!value_str(value_at(list, i)) ||
                    strv_add(&args, value_str(value_at(list, i))) < 0)
                        return strv_free(args);
        return args;
}

void daemon_control_exec(ControlReply *reply, const Value *request, int fd, void *data)
{
        KL_AUTOSTRV args = args_of(request);
        LocalExec *e = calloc(1, sizeof(*e));
        ExecSpec spec = {
                .args = args,
                .tty = value_bool(value_get(request, "tty"), false),
                .stdin_fd = control_reply_fd(reply, 0),
                .stdout_fd = control_reply_fd(reply, 1),
                .stderr_fd = control_reply_fd(reply, 2),
                .done = on_exec_done,
                .data = e,
        };
        KL_AUTOERR err = NULL;
        Place place;

        if (!find(data, reply, request, true, &place)) {
                free(e);
                return;
        }
        if (!e || sandbox_exec(place.sandbox, place.container_id, &spec, &e->exec, &err) < 0) {
                if (!e)
                        kl_error_oom(&err);
                control_reply_error(reply, err);
                free(e);
                return;
        }
        e->reply = reply;
        control_reply_on_cancel(reply, on_exec_cancelled, e);
        control_reply_on_line(reply, on_exec_line);
}

/* --- attach --- */

void daemon_control_attach(ControlReply *reply, const Value *request, int fd, void *data)
{
        KL_AUTOERR err = NULL;
        Place place;
        int r;

        if (!find(data, reply, request, true, &place))
                return;
        r = sandbox_attach(place.sandbox, place.container_id, control_reply_fd(reply, 0),
                           control_reply_fd(reply, 1), control_reply_fd(reply, 2));
        if (r < 0) {
                kl_error_errno(&err, r, NULL, "attach to the container");
                control_reply_error(reply, err);
        } else {
                const char *text = place.tty ? "{\"tty\":true}" : "{\"tty\":false}";

                control_reply_result(reply, text, strlen(text));
        }
}

/* --- forward --- */

static void on_dialed(PodDial *dial, int fd, const char *why, void *data)
{
        ControlReply *reply = data;

        pod_dial_free(dial);
        if (fd < 0) {
                control_reply_refuse(reply, "Unavailable", "%s", why);
                return;
        }
        control_reply_pass(reply, fd);
        control_reply_result(reply, "{}", 2);
}

static void on_dial_cancelled(ControlReply *reply, void *data)
{
        pod_dial_free(data);
}

void daemon_control_forward(ControlReply *reply, const Value *request, int fd, void *data)
{
        Daemon *d = data;
        int64_t port = value_int(value_get(request, "port"), 0);
        PodDial *dial;
        Place place;

        if (!find(d, reply, request, false, &place))
                return;
        if (port < 1 || port > UINT16_MAX) {
                control_reply_refuse(reply, "InvalidRequest", "the request names no %s", "port");
                return;
        }
        dial = pod_dial_new(d->loop, sandbox_netns(place.sandbox), (uint16_t)port, on_dialed,
                            reply);
        if (dial)
                control_reply_on_cancel(reply, on_dial_cancelled, dial);
        else
                control_reply_refuse(reply, NULL, "%s", "out of memory");
}
