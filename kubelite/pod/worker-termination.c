/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Termination messages. The file belongs to the container's user, who may have replaced its content
 * by anything, but not the file itself: it is a bind mount, and its name lies in a directory of
 * ours. It is opened without following links and without blocking, and must be a regular file.
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

static char *read_message_file(const char *path)
{
        KL_AUTOFD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        char buf[MESSAGE_MAX];
        struct stat st;
        ssize_t n;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return NULL;
        n = fd_read_all(fd, buf, sizeof(buf));
        return n > 0 ? strndup(buf, (size_t)n) : NULL;
}

/* The text of a CRI log line: behind the time, the stream and the tag. */
static const char *log_text(const char *line)
{
        for (int i = 0; i < 3 && line; i++) {
                line = strchr(line, ' ');
                if (line)
                        line++;
        }
        return line ? line : "";
}

/* Walks back over the last lines as far as both limits allow. */
static const char *tail_start(const char *data, size_t len)
{
        const char *start = data + len;
        size_t lines = 0, chars = 0;

        while (start > data && lines < MESSAGE_LOG_LINES) {
                const char *end = start - 1, *line;

                line = end > data ? memrchr(data, '\n', (size_t)(end - data)) : NULL;
                line = line ? line + 1 : data;
                chars += strlen(log_text(line)) - strlen(end) + 1;
                if (chars > MESSAGE_LOG_MAX)
                        break;
                start = line;
                lines++;
        }
        return start;
}

static char *read_log_tail(const char *path)
{
        KL_AUTOFD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        KL_AUTOFREE char *data = malloc(LOG_TAIL_READ + 1);
        KL_AUTOBUF out = BUF_INIT;
        struct stat st;
        ssize_t n;

        if (!data || fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return NULL;
        if (st.st_size > (off_t)LOG_TAIL_READ)
                lseek(fd, st.st_size - (off_t)LOG_TAIL_READ, SEEK_SET);
        n = fd_read_all(fd, data, LOG_TAIL_READ);
        if (n <= 0)
                return NULL;
        data[n] = '\0';
        for (const char *line = tail_start(data, (size_t)n); *line;) {
                size_t len = strcspn(line, "\n");
                const char *text = log_text(line);

                if (text < line + len)
                        buf_add(&out, text, (size_t)(line + len - text));
                buf_add_char(&out, '\n');
                line += len + (line[len] == '\n');
        }
        return out.len ? buf_steal(&out) : NULL;
}

char *worker_termination_message(PodWorker *w, const WorkContainer *c, unsigned int attempt,
                                 int exit_code)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        const char *path;
        char *message;

        if (!arena || !c->view.current.id)
                return NULL;
        path = compile_termination_path(w->context, w->pod, c->name, c->view.current.id, arena);
        message = path ? read_message_file(path) : NULL;
        if (message || !c->view.spec || !c->view.spec->termination_fallback_to_logs ||
            exit_code == 0)
                return message;
        path = compile_log_path(w->context, w->pod, c->name, attempt, arena);
        return path ? read_log_tail(path) : NULL;
}
