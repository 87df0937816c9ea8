/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading from roles. A role has said what it has to say when its output ends; it is killed then,
 * so that one which was taken over by its input cannot linger.
 */

#include "image/worker/child-internal.h"

#include "base/str.h"

#include <fcntl.h>

#define READ_SIZE 65536
#define BODY_MAX (16U << 20)

int role_child_start(RoleChild *child, RoleSpec *spec, KlError **err)
{
        int fds[2];
        int r;

        child->fd = -1;
        child->input.limit = ROLE_LINE_MAX + READ_SIZE;
        child->body.limit = BODY_MAX;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return kl_error_errno(err, -errno, NULL, "start the %s process", spec->role);
        spec->out_fd = fds[1];
        r = role_spawn(spec, &child->pid, err);
        close(fds[1]);
        if (r < 0)
                close(fds[0]);
        else
                child->fd = fds[0];
        return r;
}

static void reap(RoleChild *child)
{
        child->fd = kl_close(child->fd);
        kl_pid_cleanup(&child->pid);
        child->pid = 0;
        if (!child->result && !child->err)
                kl_error(&child->err, -EIO, NULL,
                         "a process of kubelite-image ended without a "
                         "result");
}

void role_child_deinit(RoleChild *child)
{
        if (child->fd >= 0)
                child->fd = kl_close(child->fd);
        kl_pid_cleanup(&child->pid);
        child->pid = 0;
        free(child->result);
        child->result = NULL;
        child->err = kl_error_free(child->err);
        buf_deinit(&child->input);
        buf_deinit(&child->body);
}

static int begin_body(RoleChild *child, const char *text)
{
        uint64_t len;

        buf_clear(&child->body);
        if (str_to_u64(text, BODY_MAX, &len) < 0)
                return -EPROTO;
        child->body_left = (size_t)len;
        return 0;
}

static int take_line(RoleChild *child, char *line)
{
        char *text = line[0] && line[1] == ' ' ? line + 2 : NULL;

        if (!text)
                return -EPROTO;
        switch (line[0]) {
        case 'p':
                return str_to_u64(text, UINT64_MAX, &child->progress);
        case 'b':
                return begin_body(child, text);
        case 'r':
                free(child->result);
                child->result = strdup(text);
                return child->result ? 0 : -ENOMEM;
        case 'e':
                child->err = kl_error_free(child->err);
                role_decode_error(text, &child->err);
                return 0;
        default:
                return child->on_line ? child->on_line(child, line[0], text, child->data) : -EPROTO;
        }
}

/* All complete lines and body bytes of the input. */
static int take_input(RoleChild *child)
{
        size_t at = 0;
        int r = 0;

        while (r == 0 && at < child->input.len) {
                char *from = child->input.data + at;
                size_t left = child->input.len - at;
                char *end;

                if (child->body_left > 0) {
                        size_t n = left < child->body_left ? left : child->body_left;

                        buf_add(&child->body, from, n);
                        child->body_left -= n;
                        at += n;
                        r = buf_error(&child->body);
                        continue;
                }
                end = memchr(from, '\n', left);
                if (!end) {
                        r = left > ROLE_LINE_MAX ? -EPROTO : 0;
                        break;
                }
                *end = '\0';
                at += (size_t)(end - from) + 1;
                r = take_line(child, from);
        }
        buf_consume(&child->input, at);
        return r;
}

int role_child_read(RoleChild *child)
{
        char *to = buf_reserve(&child->input, READ_SIZE);
        ssize_t n;
        int r;

        if (child->fd < 0)
                return 0;
        n = to ? read(child->fd, to, READ_SIZE) : -1;
        if (n < 0 && to && (errno == EINTR || errno == EAGAIN))
                return 1;
        if (n <= 0) {
                reap(child);
                return 0;
        }
        buf_commit(&child->input, (size_t)n);
        r = take_input(child);
        if (r < 0) {
                kl_error(&child->err, r, NULL, "a process of kubelite-image broke its protocol");
                reap(child);
                return 0;
        }
        return 1;
}

int role_child_wait_result(RoleChild *child, KlError **err)
{
        free(child->result);
        child->result = NULL;
        while (!child->result && !child->err)
                role_child_read(child);
        if (child->err)
                return kl_error_move(err, &child->err);
        return 0;
}
