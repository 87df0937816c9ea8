/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Termination messages. The file belongs to the container's user, who may have replaced its content
 * by anything, but not the file itself: it is a bind mount, and its name lies in a directory of
 * ours, on the disk where all of a pod's records are. It is opened without following links and
 * without blocking, and must be a regular file; of that the last few kilobytes are read.
 */

#include "pod/worker-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/stat.h>

/* pkg/kubelet/container/runtime.go: MaxContainerTerminationMessageLength and the log fall-back. */
#define MESSAGE_MAX 4096
#define MESSAGE_LOG_MAX 2048
#define MESSAGE_LOG_LINES 80
#define LOG_TAIL_READ (64U << 10)

/* The last bytes of a regular file, at most `size` - 1, and a NUL; *ret_cut: there is more before
 * them. The length or -errno. */
static ssize_t read_tail(const char *path, char *buf, size_t size, bool *ret_cut)
{
        KL_AUTOFD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        struct stat st;
        ssize_t n;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        *ret_cut = st.st_size > (off_t)(size - 1);
        if (*ret_cut && lseek(fd, st.st_size - (off_t)(size - 1), SEEK_SET) < 0)
                return -errno;
        n = fd_read_all(fd, buf, size - 1);
        if (n >= 0)
                buf[n] = '\0';
        return n;
}

static char *read_message_file(const char *path, bool *ret_empty)
{
        char buf[MESSAGE_MAX + 1];
        bool cut;
        ssize_t n = read_tail(path, buf, sizeof(buf), &cut);

        *ret_empty = n == 0 || n == -ENOENT;
        if (n < 0 && n != -ENOENT)
                return str_format("Error on reading termination log %s: %s", path,
                                  strerror((int)-n));
        return n > 0 ? strndup(buf, (size_t)n) : NULL;
}

/* Where the last MESSAGE_LOG_LINES lines begin. */
static const char *last_lines(const char *data, size_t len)
{
        const char *start = data + len;
        size_t lines = 0;

        if (len > 0 && start[-1] == '\n')
                start--;
        while (start > data && lines < MESSAGE_LOG_LINES) {
                start = memrchr(data, '\n', (size_t)(start - data));
                if (!start)
                        return data;
                lines++;
        }
        return lines < MESSAGE_LOG_LINES ? data : start + 1;
}

/* "<time> <stream> <F or P> <text>": the text, with a line feed where it is no part of a line. */
static void add_log_line(const char *line, size_t len, Buf *to)
{
        const char *end = line + len, *tag = NULL;

        for (int i = 0; i < 3; i++) {
                tag = line;
                line = memchr(line, ' ', (size_t)(end - line));
                if (!line)
                        return;
                line++;
        }
        buf_add(to, line, (size_t)(end - line));
        if (*tag != 'P')
                buf_add_char(to, '\n');
}

static char *read_log_tail(const char *path)
{
        KL_AUTOFREE char *data = malloc(LOG_TAIL_READ + 1);
        KL_AUTOBUF out = BUF_INIT;
        bool cut = false;
        ssize_t n = data ? read_tail(path, data, LOG_TAIL_READ + 1, &cut) : -ENOMEM;
        const char *line = data;

        if (n <= 0)
                return NULL;
        /* The first line may have lost its beginning. */
        if (cut)
                line += strcspn(line, "\n") + 1;
        if (line < data + n)
                line = last_lines(line, (size_t)(data + n - line));
        while (line < data + n) {
                const char *end = memchr(line, '\n', (size_t)(data + n - line));
                size_t len = (size_t)((end ? end : data + n) - line);

                add_log_line(line, len, &out);
                line += len + 1;
        }
        if (out.len > MESSAGE_LOG_MAX)
                buf_consume(&out, out.len - MESSAGE_LOG_MAX);
        return out.len ? buf_steal(&out) : NULL;
}

char *worker_termination_message(PodWorker *w, const WorkContainer *c, const ContainerInfo *info)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        bool empty = false;
        const char *path;
        char *message;

        if (!arena)
                return NULL;
        path = compile_termination_path(w->context, w->pod, c->name, info->id, arena);
        message = path ? read_message_file(path, &empty) : NULL;
        if (!empty || !c->view.spec || !c->view.spec->termination_fallback_to_logs ||
            info->exit_code == 0)
                return message;
        path = compile_log_path(w->context, w->pod, c->name, info->attempt, arena);
        return path ? read_log_tail(path) : NULL;
}

void worker_remove_termination_file(PodWorker *w, const WorkContainer *c, const char *id)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        const char *path =
                arena ? compile_termination_path(w->context, w->pod, c->name, id, arena) : NULL;

        if (path)
                unlink(path);
}
