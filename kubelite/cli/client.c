/* SPDX-License-Identifier: Apache-2.0 */

/* The client's side of the control socket (server/control.h has the protocol). */

#include "cli/cli-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define SOCKET_NAME "kubelite.sock"
/* A result is at most 32 MiB; its line is a little longer. */
#define LINE_MAX_BYTES (33 * 1024 * 1024)

int cli_connect(const char *state_dir, int *ret, KlError **err)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        KL_AUTOFD int dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        KL_AUTOFD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int r;

        if (fd < 0)
                return kl_error_errno(err, -errno, NULL, "make a socket");
        snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" SOCKET_NAME, dir);
        if (dir >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
                *ret = KL_STEAL_FD(fd);
                return 0;
        }
        r = -errno;
        if (r == -ENOENT || r == -ECONNREFUSED)
                return kl_error(err, r, "Unavailable",
                                "no daemon answers at %s/" SOCKET_NAME ": is kubelite running?",
                                state_dir);
        if (r == -EACCES || r == -EPERM)
                return kl_error(err, r, "Forbidden", "%s/" SOCKET_NAME " is for root only",
                                state_dir);
        return kl_error_errno(err, r, NULL, "connect to %s/" SOCKET_NAME, state_dir);
}

int cli_send(int socket, const char *json, const int *fds, size_t n_fds)
{
        KL_AUTOFREE char *line = str_format("%s\n", json);
        union {
                char bytes[CMSG_SPACE(CLI_FDS_MAX * sizeof(int))];
                struct cmsghdr align;
        } control = { { 0 } };
        struct iovec iov = { line, line ? strlen(line) : 0 };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        if (!line)
                return -ENOMEM;
        if (n_fds > 0) {
                struct cmsghdr *c;

                msg.msg_control = control.bytes;
                msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                c = CMSG_FIRSTHDR(&msg);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
        }
        n = sendmsg(socket, &msg, MSG_NOSIGNAL);
        if (n < 0)
                return -errno;
        return fd_write_all(socket, line + n, iov.iov_len - (size_t)n);
}

/* 1: there was the final line. */
int cli_take_line(const CliRequest *request, const char *line, size_t len, Value **ret,
                  KlError **err)
{
        KL_AUTO(value_free) Value *message = NULL;
        const Value *error, *result;
        const char *text;
        int r;

        r = json_parse(line, len, &message, err);
        if (r < 0)
                return kl_error_wrap(err, r, "the daemon's answer");
        if (value_get(message, "progress")) {
                if (request->progress)
                        request->progress(value_get(message, "progress"), request->data);
                return 0;
        }
        error = value_get(message, "error");
        if (error) {
                text = value_get_str(error, "message");
                return kl_error(err, -EIO,
                                str_eq(value_get_str(error, "reason"), "NotFound") ? "NotFound"
                                                                                   : NULL,
                                "%s", text ? text : "the daemon refused");
        }
        result = value_get(message, "result");
        *ret = value_copy(result);
        return *ret || !result ? 1 : kl_error(err, -ENOMEM, NULL, "out of memory");
}

static int client_read(int socket, const CliRequest *request, Value **ret, KlError **err)
{
        KL_AUTOBUF buf = BUF_INIT_LIMIT(LINE_MAX_BYTES);
        size_t scanned = 0;

        for (;;) {
                char *at = buf_reserve(&buf, 65536), *end;
                ssize_t n = at ? read(socket, at, 65536) : -1;
                int r;

                if (!at)
                        return kl_error(err, buf_error(&buf), NULL, "the answer is too long");
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return kl_error(err, -ETIMEDOUT, "Unavailable",
                                        "the daemon does not answer within %u s",
                                        request->timeout_s);
                if (n < 0 && errno != ECONNRESET)
                        return kl_error_errno(err, -errno, NULL, "read the daemon's answer");
                if (n <= 0)
                        return kl_error(err, -ECONNRESET, "Unavailable",
                                        "the daemon went away before it answered");
                buf_commit(&buf, (size_t)n);
                while ((end = memchr(buf.data + scanned, '\n', buf.len - scanned))) {
                        size_t len = (size_t)(end - buf.data);

                        r = cli_take_line(request, buf.data, len, ret, err);
                        if (r != 0)
                                return r < 0 ? r : 0;
                        buf_consume(&buf, len + 1);
                        scanned = 0;
                        if (!buf.len)
                                break;
                }
                scanned = buf.len;
        }
}

int cli_request(const CliRequest *request, Value **ret, KlError **err)
{
        KL_AUTOFD int socket = -1;
        int r;

        if (!request->json)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = cli_connect(request->state_dir, &socket, err);
        if (r < 0)
                return r;
        if (request->timeout_s) {
                struct timeval limit = { .tv_sec = request->timeout_s };

                setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        }
        /* A server that refuses at once has said why: read that, whatever became of the request. */
        r = cli_send(socket, request->json, &request->fd, request->fd >= 0);
        if (r < 0 && r != -EPIPE && r != -ECONNRESET)
                return kl_error_errno(err, r, NULL, "ask the daemon");
        return client_read(socket, request, ret, err);
}

int cli_fetch(const CliCommon *common, const char *json, Value **ret)
{
        KL_AUTOERR err = NULL;

        if (cli_request(&(CliRequest){ .state_dir = common->state_dir, .json = json, .fd = -1 },
                        ret, &err) < 0)
                return cli_fail("%s", kl_error_msg(err));
        return CLI_OK;
}

char *cli_make_request(const char *command, ...)
{
        KL_AUTOBUF buf = BUF_INIT;
        JsonWriter w = JSON_WRITER(&buf);
        const char *key;
        va_list args;

        jw_object(&w);
        jw_kstr(&w, "command", command);
        va_start(args, command);
        while ((key = va_arg(args, const char *)))
                jw_kstr_opt(&w, key, va_arg(args, const char *));
        va_end(args);
        jw_end(&w);
        return buf_steal(&buf);
}
