/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The control socket's server. A ControlReply is a connection: reading its request, then waiting
 * for the handler's answer, then writing the rest of that. The handler holds a borrowed pointer to
 * it between its call and its answer (state WAITING); in the other states only this file does.
 *
 * Bounds: connections, length and duration of a request, what is queued for a client that does not
 * read. Progress is dropped when the queue is full; the final line always fits.
 */

#include "server/control.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/list.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define READ_SIZE 4096
#define PASSED_FDS_MAX 8

typedef enum ReplyState {
        REPLY_READING, /* the request */
        REPLY_WAITING, /* for the handler */
        REPLY_ENDING,  /* the final line is queued */
} ReplyState;

struct Control {
        Loop *loop;
        char *path;
        const ControlHandler *handlers;
        void *data;
        int fd;
        Watch *watch;
        List replies;
        size_t n_replies;
};

struct ControlReply {
        Control *control;
        List link;
        ReplyState state;
        int fd;
        int passed_fds[CONTROL_FDS_MAX];
        size_t n_passed;
        int pass_fd; /* to go with the next bytes */
        Watch *watch;
        Timer *timer;
        Buf request, queue;
        ControlCancelFunc cancel;
        void *cancel_data;
        ControlLineFunc line;
};

static ControlReply *reply_free(ControlReply *r)
{
        if (!r)
                return NULL;
        list_unlink(&r->link);
        r->control->n_replies--;
        watch_free(r->watch);
        timer_free(r->timer);
        kl_close(r->fd);
        for (size_t i = 0; i < r->n_passed; i++)
                kl_close(r->passed_fds[i]);
        kl_close(r->pass_fd);
        buf_deinit(&r->request);
        buf_deinit(&r->queue);
        free(r);
        return NULL;
}

/* The client is gone. */
static void reply_drop(ControlReply *r)
{
        if (r->state == REPLY_WAITING && r->cancel)
                r->cancel(r, r->cancel_data);
        reply_free(r);
}

static ssize_t reply_send(ControlReply *r)
{
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = { { 0 } };
        struct iovec iov = { r->queue.data, r->queue.len };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        struct cmsghdr *c;
        ssize_t n;

        if (r->pass_fd >= 0) {
                msg.msg_control = control.bytes;
                msg.msg_controllen = sizeof(control.bytes);
                c = CMSG_FIRSTHDR(&msg);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &r->pass_fd, sizeof(int));
        }
        n = sendmsg(r->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
                r->pass_fd = kl_close(r->pass_fd);
        return n;
}

/* Writes what the socket takes; false when the reply was freed. */
static bool reply_flush(ControlReply *r)
{
        while (r->queue.len > 0) {
                ssize_t n = reply_send(r);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0) {
                        reply_drop(r);
                        return false;
                }
                buf_consume(&r->queue, (size_t)n);
                if (r->state == REPLY_ENDING)
                        timer_start(r->timer, CONTROL_TIMEOUT_MS);
        }
        if (r->queue.len == 0 && r->state == REPLY_ENDING) {
                reply_free(r);
                return false;
        }
        watch_set(r->watch,
                  (r->state == REPLY_ENDING ? 0 : WATCH_READ) | (r->queue.len ? WATCH_WRITE : 0));
        return true;
}

/* Writing happens when the loop finds the socket writable, so that no reply is freed within a
 * handler's call. */
static void reply_schedule(ControlReply *r)
{
        watch_set(r->watch, (r->state == REPLY_ENDING ? 0 : WATCH_READ) | WATCH_WRITE);
}

static void reply_line(ControlReply *r, const char *key, const char *json, size_t len)
{
        buf_addf(&r->queue, "{\"%s\":", key);
        buf_add(&r->queue, json, len);
        buf_add_str(&r->queue, "}\n");
        reply_schedule(r);
}

static void reply_end(ControlReply *r)
{
        r->state = REPLY_ENDING;
        timer_start(r->timer, CONTROL_TIMEOUT_MS);
}

bool control_reply_progress(ControlReply *reply, const char *json, size_t len)
{
        if (reply->queue.len + len > CONTROL_QUEUE_MAX)
                return false;
        reply_line(reply, "progress", json, len);
        return true;
}

static void reply_fail(ControlReply *r, const char *reason, const char *message)
{
        KL_AUTOBUF buf = BUF_INIT;
        JsonWriter w = JSON_WRITER(&buf);

        jw_object(&w);
        jw_kstr(&w, "reason", reason);
        jw_kstr(&w, "message", message);
        jw_end(&w);
        reply_end(r);
        reply_line(r, "error", buf_str(&buf), buf.len);
}

void control_reply_error(ControlReply *reply, const KlError *err)
{
        reply_fail(reply, kl_error_reason(err, "Failed"), kl_error_msg(err));
}

void control_reply_refuse(ControlReply *reply, const char *reason, const char *format, ...)
{
        KL_AUTOBUF text = BUF_INIT;
        va_list args;

        va_start(args, format);
        buf_vaddf(&text, format, args);
        va_end(args);
        reply_fail(reply, reason, buf_str(&text));
}

void control_reply_result(ControlReply *reply, const char *json, size_t len)
{
        if (!json) {
                reply_fail(reply, "Failed", "out of memory");
                return;
        }
        if (len > CONTROL_RESULT_MAX) {
                reply_fail(reply, "TooLarge", "the answer is too long");
                return;
        }
        reply_end(reply);
        reply_line(reply, "result", json, len);
}

void control_reply_on_cancel(ControlReply *reply, ControlCancelFunc func, void *data)
{
        reply->cancel = func;
        reply->cancel_data = data;
}

void control_reply_on_line(ControlReply *reply, ControlLineFunc func)
{
        reply->line = func;
}

void control_reply_pass(ControlReply *reply, int fd)
{
        kl_close(reply->pass_fd);
        reply->pass_fd = fd;
}

int control_reply_fd(const ControlReply *reply, size_t i)
{
        return i < reply->n_passed ? reply->passed_fds[i] : -1;
}

/* --- requests --- */

static void reply_dispatch(ControlReply *r, size_t len)
{
        KL_AUTO(value_free) Value *request = NULL;
        KL_AUTOERR err = NULL;
        const char *command;

        timer_stop(r->timer);
        r->state = REPLY_WAITING;
        if (json_parse(r->request.data, len, &request, &err) < 0) {
                reply_fail(r, "InvalidRequest", kl_error_msg(err));
                return;
        }
        command = value_get_str(request, "command");
        for (const ControlHandler *h = r->control->handlers; command && h->command; h++)
                if (str_eq(h->command, command)) {
                        h->func(r, request, control_reply_fd(r, 0), r->control->data);
                        return;
                }
        reply_fail(r, "InvalidRequest", "the request names no known command");
}

/* The first ones are kept; others are closed. */
static void take_fds(ControlReply *r, struct msghdr *msg)
{
        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
                size_t n =
                        c->cmsg_len >= CMSG_LEN(0) ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (r->n_passed < CONTROL_FDS_MAX)
                                r->passed_fds[r->n_passed++] = fd;
                        else
                                kl_close(fd);
                }
        }
}

static ssize_t reply_receive(ControlReply *r, char *data, size_t size)
{
        union {
                char bytes[CMSG_SPACE(PASSED_FDS_MAX * sizeof(int))];
                struct cmsghdr align;
        } control;
        struct iovec iov = { data, size };
        struct msghdr msg = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        ssize_t n = recvmsg(r->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n >= 0)
                take_fds(r, &msg);
        return n;
}

/* What follows a request. */
static void reply_lines(ControlReply *r)
{
        const char *end;

        if (buf_error(&r->request)) {
                reply_drop(r);
                return;
        }
        while (r->state == REPLY_WAITING && r->request.len > 0 &&
               (end = memchr(r->request.data, '\n', r->request.len))) {
                KL_AUTO(value_free) Value *line = NULL;
                size_t len = (size_t)(end - r->request.data);

                if (json_parse(r->request.data, len, &line, NULL) == 0)
                        r->line(r, line, r->cancel_data);
                buf_consume(&r->request, len + 1);
        }
}

static void reply_request(ControlReply *r, size_t len)
{
        reply_dispatch(r, len);
        buf_consume(&r->request, len + 1);
        if (r->line)
                reply_lines(r);
}

static void reply_read(ControlReply *r)
{
        char chunk[READ_SIZE];
        ssize_t n = reply_receive(r, chunk, sizeof(chunk));
        const char *end;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                reply_drop(r);
                return;
        }
        if (r->state != REPLY_READING && !r->line)
                return; /* nothing may follow the request; it is not kept */
        buf_add(&r->request, chunk, (size_t)n);
        if (r->state == REPLY_WAITING) {
                reply_lines(r);
                return;
        }
        end = r->request.len ? memchr(r->request.data, '\n', r->request.len) : NULL;
        if (buf_error(&r->request) || (!end && r->request.len == CONTROL_REQUEST_MAX))
                reply_fail(r, "InvalidRequest", "the request is too long");
        else if (end)
                reply_request(r, (size_t)(end - r->request.data));
}

static void on_connection(Watch *watch, int fd, unsigned int events, void *data)
{
        ControlReply *r = data;

        if ((events & WATCH_WRITE) && !reply_flush(r))
                return;
        if ((events & WATCH_READ) && r->state != REPLY_ENDING)
                reply_read(r);
}

static void on_timeout(Timer *timer, void *data)
{
        ControlReply *r = data;

        if (r->state == REPLY_READING)
                reply_fail(r, "InvalidRequest", "the request did not come in time");
        else
                reply_drop(r);
}

/* --- connections --- */

static bool peer_is_allowed(int fd)
{
        struct ucred cred;
        socklen_t len = sizeof(cred);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
               (cred.uid == 0 || cred.uid == geteuid());
}

static int reply_new(Control *control, int fd)
{
        ControlReply *r = calloc(1, sizeof(*r));
        int rc;

        if (!r) {
                kl_close(fd);
                return -ENOMEM;
        }
        *r = (ControlReply){ .control = control,
                             .fd = fd,
                             .pass_fd = -1,
                             .request = BUF_INIT_LIMIT(CONTROL_REQUEST_MAX) };
        list_append(&control->replies, &r->link);
        control->n_replies++;
        r->timer = timer_new(control->loop, on_timeout, r);
        rc = r->timer ? watch_new(control->loop, fd, WATCH_READ, on_connection, r, &r->watch)
                      : -ENOMEM;
        if (rc < 0)
                reply_free(r);
        else
                timer_start(r->timer, CONTROL_TIMEOUT_MS);
        return rc;
}

static void refuse(int fd, const char *reason, const char *message)
{
        KL_AUTOFREE char *line =
                str_format("{\"error\":{\"reason\":\"%s\",\"message\":\"%s\"}}\n", reason, message);

        if (line)
                send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void on_listener(Watch *watch, int listener, unsigned int events, void *data)
{
        Control *control = data;
        KL_AUTOFD int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        int r;

        if (fd < 0)
                return;
        if (!peer_is_allowed(fd)) {
                refuse(fd, "Forbidden", "only root may use this socket");
                return;
        }
        if (control->n_replies >= CONTROL_CONNECTIONS_MAX) {
                refuse(fd, "Unavailable", "too many commands at once");
                return;
        }
        r = reply_new(control, KL_STEAL_FD(fd));
        if (r < 0)
                log_warning(NULL, "A control connection is dropped: %s", strerror(-r));
}

/* Through the directory's descriptor: sun_path holds 107 bytes only. */
static int bind_beneath(int fd, const char *path)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        const char *slash = strrchr(path, '/');
        KL_AUTOFREE char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup("./");
        const char *name = slash ? slash + 1 : path;
        KL_AUTOFD int dir_fd = -1;
        mode_t mask;
        int r;

        if (!dir)
                return -ENOMEM;
        dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return -errno;
        r = snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", dir_fd, name);
        if (r < 0 || (size_t)r >= sizeof(addr.sun_path))
                return -ENAMETOOLONG;
        if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
                return -errno;
        mask = umask(0177);
        r = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
        umask(mask);
        return r;
}

int control_new(Loop *loop, const char *path, const ControlHandler *handlers, void *data,
                Control **ret, KlError **err)
{
        KL_AUTO(control_free) Control *control = calloc(1, sizeof(*control));
        int r;

        if (!control)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *control = (Control){ .loop = loop, .handlers = handlers, .data = data, .fd = -1 };
        list_init(&control->replies);
        control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (control->fd < 0)
                return kl_error_errno(err, -errno, NULL, "make a socket");
        r = bind_beneath(control->fd, path);
        if (r == 0 && listen(control->fd, CONTROL_CONNECTIONS_MAX) < 0)
                r = -errno;
        if (r < 0)
                return kl_error_errno(err, r, NULL, "listen on '%s'", path);
        control->path = strdup(path);
        if (!control->path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = watch_new(loop, control->fd, WATCH_READ, on_listener, control, &control->watch);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "listen on '%s'", path);
        *ret = KL_STEAL(control);
        return 0;
}

Control *control_free(Control *control)
{
        if (!control)
                return NULL;
        while (!list_empty(&control->replies))
                reply_drop(list_first(&control->replies, ControlReply, link));
        watch_free(control->watch);
        kl_close(control->fd);
        if (control->path)
                unlink(control->path);
        free(control->path);
        free(control);
        return NULL;
}
