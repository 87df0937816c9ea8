/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_CONTROL_H
#define KUBELITE_SERVER_CONTROL_H

#include "codec/value.h"
#include "loop/loop.h"

/*
 * The local control socket, <state-dir>/kubelite.sock (0600, root only by peer credentials).
 *
 * One request a connection. The client sends one line of JSON, {"command":"pods", …}, and with it,
 * if the command takes one, a descriptor (SCM_RIGHTS, on the first byte). The server answers with
 * lines of JSON: any number of {"progress":…}, then exactly one {"result":…} or
 * {"error":{"reason":"NotFound","message":"…"}}, and closes. A client that closes its end, or its
 * sending side, before that cancels the command.
 *
 * Requests and results ("?" marks what may be absent; times are RFC 3339 strings):
 *
 *   pods      {namespace?, name?}
 *             [{id, uid, name, namespace, phase, ready: bool, containers_ready: int,
 *               containers: int, restarts: int, ip?, created, source: "api"|"file"}]
 *   ps        {all: bool, pod?, namespace?, name?}
 *             [{id, name, pod, namespace, image, state: "running"|"waiting"|"exited", attempt: int,
 *               started_at?, finished_at?, exit_code?, reason?, pid?, log_path}]
 *             ("all" lists earlier attempts and exited ones too)
 *   images    {}
 *             [{id, tags: [], digests: [], size_bytes, pinned: bool}]
 *   pull      {image}
 *             progress {phase, layer?, n_layers?, bytes, total?}; result {id, image, size_bytes?}
 *   import    {path?, name?} and a descriptor of the archive or layout directory
 *             progress as pull; result {images: [reference…]}
 *   rmi       {image, force: bool}; result {id, deleted: [tag or id…]}
 *   inspect   {name, namespace?} name or id (or its beginning) of a pod, container or image
 *             result: the object
 *   stats     {namespace?, name?} of running pods; memory is the working set
 *             [{name, namespace, uid, cpu_nano_cores?, cpu_core_nano_seconds,
 *               memory_working_set_bytes, memory_limit_bytes?, pids, ephemeral_bytes?, containers:
 *               [{name, id, the same but ephemeral_bytes, rootfs_bytes?, logs_bytes?}]}]
 *   exec      {namespace, pod, container, args: [], tty: bool} and descriptors that become the
 *             command's standard input, output and error
 *             result {exit_code}; meanwhile the client may send lines {"rows":…,"columns":…}.
 *             The command is killed when the client closes the connection
 *   attach    {namespace, pod, container} and descriptors as exec; result {tty: bool}, at once
 *   forward   {namespace, pod, port}; result {} and a descriptor: a connection to that port
 *   version   {}; {version, kubernetes_version, node?, pid, started_at}
 *
 * Reasons that the tool acts on: NotFound, Ambiguous, InvalidRequest, Unavailable. Others are
 * shown.
 */
typedef struct Control Control;
typedef struct ControlReply ControlReply;

#define CONTROL_CONNECTIONS_MAX 64
#define CONTROL_FDS_MAX 3 /* passed with a request */
#define CONTROL_REQUEST_MAX (64 * 1024)
/* One result; and what may wait for a slow client before progress lines are dropped. */
#define CONTROL_RESULT_MAX (32 * 1024 * 1024)
#define CONTROL_QUEUE_MAX (64 * 1024)
/* For the request line to arrive, and for each step of a slow client's reading. */
#define CONTROL_TIMEOUT_MS 10000

/*
 * The handler answers at once or later, with control_reply_result() or control_reply_error() once;
 * either ends the reply, as does the cancel callback. request is valid during the call only. fd is
 * -1 or the first descriptor; it belongs to the server: dup it to keep it.
 */
typedef void (*ControlFunc)(ControlReply *reply, const Value *request, int fd, void *data);

typedef struct ControlHandler {
        const char *command;
        ControlFunc func;
} ControlHandler;

/* handlers: ended by a NULL command; must outlive the server. An older socket at path is replaced;
 * the path may be longer than sockaddr_un takes. */
int control_new(Loop *loop, const char *path, const ControlHandler *handlers, void *data,
                Control **ret, KlError **err);
/* Cancels what is under way, removes the socket. */
Control *control_free(Control *control);
KL_DEFINE_CLEANUP(Control *, control_free);

/* The client is gone (or the server goes): stop working, do not touch the reply again. */
typedef void (*ControlCancelFunc)(ControlReply *reply, void *data);
void control_reply_on_cancel(ControlReply *reply, ControlCancelFunc func, void *data);

/* Of those that came with the request; -1 if there are fewer. The server's: dup it to keep it. */
int control_reply_fd(const ControlReply *reply, size_t i);
/* Lines that follow the request; data is control_reply_on_cancel's. Without it they are dropped. */
typedef void (*ControlLineFunc)(ControlReply *reply, const Value *line, void *data);
void control_reply_on_line(ControlReply *reply, ControlLineFunc func);
/* Passes a descriptor, which is taken over, with the final line. */
void control_reply_pass(ControlReply *reply, int fd);

/* json is one value on one line. False when it was dropped since the client reads too slowly. */
bool control_reply_progress(ControlReply *reply, const char *json, size_t len);
/* A result over the limit, or NULL (an allocation that failed), becomes an error. */
void control_reply_result(ControlReply *reply, const char *json, size_t len);
/* The reason is err's, or "Failed". */
void control_reply_error(ControlReply *reply, const KlError *err);
/* An error in words. */
void control_reply_refuse(ControlReply *reply, const char *reason, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

#endif
