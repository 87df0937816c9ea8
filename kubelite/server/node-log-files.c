/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Runs in a worker, as root. Whoever can make links below /var/log (a pod with a hostPath of it)
 * must not be able to show other files through them: the kernel resolves the client's path beneath
 * the directory. Links within it count, also absolute ones, such as those of /var/log/containers.
 */

#include "server/node-log-files.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LINKS_MAX 8
#define TEXT_TYPE "text/plain; charset=utf-8"

static int put(int fd, const char *text)
{
        return fd_write_all(fd, text, strlen(text));
}

static int answer(int fd, const char *line)
{
        return put(fd, line) < 0 || put(fd, "\n") < 0;
}

/* --- opening --- */

/* The place within NODE_LOG_DIR that an absolute link in it leads to; NULL: none. To be freed. */
static char *link_target(int dir_fd, const char *path)
{
        KL_AUTOFD int fd = path_open_within(dir_fd, path, O_PATH | O_NOFOLLOW, 0);
        char to[PATH_MAX];
        ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", to, sizeof(to) - 1);

        if (n <= 0)
                return NULL;
        to[n] = '\0';
        return str_starts(to, NODE_LOG_DIR "/") ? strdup(to + strlen(NODE_LOG_DIR "/")) : NULL;
}

static int open_path(int dir_fd, const char *path)
{
        KL_AUTOFREE char *at = strdup(*path ? path : ".");

        for (int i = 0; i < LINKS_MAX && at; i++) {
                int fd = path_open_within(dir_fd, at, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
                char *next;

                if (fd != -EXDEV)
                        return fd;
                next = link_target(dir_fd, at);
                if (!next)
                        return fd;
                free(at);
                at = next;
        }
        return at ? -ELOOP : -ENOMEM;
}

static int open_beneath_logs(const char *path)
{
        KL_AUTOFD int dir = open(NODE_LOG_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return dir < 0 ? -errno : open_path(dir, path);
}

/* --- directories --- */

static int compare(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_text(Buf *to, const char *text)
{
        for (; *text; text++) {
                if (*text == '&')
                        buf_add_str(to, "&amp;");
                else if (*text == '<')
                        buf_add_str(to, "&lt;");
                else if (*text == '>')
                        buf_add_str(to, "&gt;");
                else if (*text == '"')
                        buf_add_str(to, "&#34;");
                else
                        buf_add_char(to, *text);
        }
}

static void add_place(Buf *to, const char *name)
{
        for (; *name; name++) {
                if ((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
                    (*name >= '0' && *name <= '9') || strchr("-_.~/", *name))
                        buf_add_char(to, *name);
                else
                        buf_addf(to, "%%%02X", (unsigned char)*name);
        }
}

static char *entry_name(int dir_fd, const struct dirent *entry)
{
        struct stat st;
        bool dir = entry->d_type == DT_DIR;

        if (entry->d_type == DT_UNKNOWN &&
            fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                dir = S_ISDIR(st.st_mode);
        return str_format("%s%s", entry->d_name, dir ? "/" : "");
}

static int send_list(int fd, int dir_fd)
{
        KL_AUTOFREE char **names = calloc(NODE_LOG_ENTRIES_MAX, sizeof(*names));
        KL_AUTODIR DIR *dir = fdopendir(fcntl(dir_fd, F_DUPFD_CLOEXEC, 3));
        KL_AUTOBUF text = BUF_INIT;
        struct dirent *entry;
        size_t n = 0;

        if (!names || !dir)
                return answer(fd, "500 the directory cannot be read");
        while (n < NODE_LOG_ENTRIES_MAX && (entry = readdir(dir)))
                if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, "..") &&
                    (names[n] = entry_name(dir_fd, entry)))
                        n++;
        qsort(names, n, sizeof(*names), compare);
        buf_add_str(&text, "<pre>\n");
        for (size_t i = 0; i < n; i++) {
                buf_add_str(&text, "<a href=\"");
                add_place(&text, names[i]);
                buf_add_str(&text, "\">");
                add_text(&text, names[i]);
                buf_add_str(&text, "</a>\n");
                free(names[i]);
        }
        buf_add_str(&text, "</pre>\n");
        return buf_error(&text) || answer(fd, "200 text/html; charset=utf-8") ||
               fd_write_all(fd, text.data, text.len) < 0;
}

/* --- files --- */

static int copy(int fd, int from)
{
        static char block[65536];
        ssize_t n;

        while ((n = read(from, block, sizeof(block))) != 0) {
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 || fd_write_all(fd, block, (size_t)n) < 0)
                        return 1;
        }
        return 0;
}

static const char *type_of(int from)
{
        char head[512];
        ssize_t n = pread(from, head, sizeof(head), 0);

        return n > 0 && memchr(head, '\0', (size_t)n) ? "200 application/octet-stream"
                                                      : "200 " TEXT_TYPE;
}

static int send_redirect(int fd, const char *path)
{
        const char *slash = strrchr(path, '/');
        KL_AUTOBUF line = BUF_INIT;

        buf_add_str(&line, "301 ");
        add_place(&line, slash ? slash + 1 : path);
        buf_add_str(&line, "/");
        return answer(fd, buf_str(&line));
}

int node_log_send_path(int fd, const char *path, bool ends_in_slash)
{
        KL_AUTOFD int from = open_beneath_logs(path);
        struct stat st;

        if (from == -ENOENT || from == -ENOTDIR || from == -ENAMETOOLONG)
                return answer(fd, "404 404 page not found");
        if (from < 0 || fstat(from, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
                return answer(fd, "403 403 Forbidden");
        if (S_ISDIR(st.st_mode))
                return ends_in_slash || !*path ? send_list(fd, from) : send_redirect(fd, path);
        return answer(fd, type_of(from)) || copy(fd, from);
}

/* --- queries --- */

static pid_t start_journalctl(char *const *args, int out_fd, int err_fd)
{
        pid_t pid = fork();

        if (pid != 0)
                return pid;
        if (dup2(out_fd, STDOUT_FILENO) < 0 || dup2(err_fd, STDERR_FILENO) < 0)
                _exit(127);
        execvp(args[0], args);
        _exit(127);
}

/* Its exit status, or -1. */
static int wait_for(pid_t pid)
{
        int status;

        if (pid < 0)
                return -1;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define UNITS_MAX (4U << 20)

/* The units that the journal knows, one a line; "" where there is no journal. To be freed. */
static char *journal_units(void)
{
        static char *const args[] = { (char *)"journalctl", (char *)"--field",
                                      (char *)"_SYSTEMD_UNIT", NULL };
        KL_AUTOFD int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        KL_AUTOFREE char *text = calloc(1, UNITS_MAX + 1);
        KL_AUTOFD int from = -1;
        KL_AUTOFD int to = -1;
        int fds[2];
        ssize_t n;
        pid_t pid;

        if (!text || null < 0 || pipe2(fds, O_CLOEXEC) < 0)
                return strdup("");
        from = fds[0];
        to = fds[1];
        pid = start_journalctl(args, to, null);
        to = kl_close(to);
        n = fd_read_all(from, text, UNITS_MAX);
        from = kl_close(from);
        return wait_for(pid) == 0 && n >= 0 ? KL_STEAL(text) : strdup("");
}

static bool is_unit(const char *units, const char *service)
{
        KL_AUTOFREE char *name = str_format("%s.service", service);

        return name && strstr(units, name);
}

/* <service>, <service>.log or <service>/<service>.log. */
static int send_service_file(int fd, const char *service)
{
        KL_AUTOFREE char *log = str_format("%s.log", service);
        KL_AUTOFREE char *inner = str_format("%s/%s.log", service, service);
        const char *const names[] = { service, log, inner };

        for (size_t i = 0; i < ELEMENTS(names) && names[i]; i++) {
                KL_AUTOFD int from = open_beneath_logs(names[i]);
                struct stat st;

                if (from < 0 || fstat(from, &st) < 0 || S_ISDIR(st.st_mode))
                        continue;
                if (!S_ISREG(st.st_mode))
                        break;
                return copy(fd, from);
        }
        return put(fd, "\nlog not found for ") < 0 || put(fd, service) < 0 || put(fd, "\n") < 0;
}

static int send_journal(int fd, const NodeLogQuery *q, const bool *native)
{
        KL_AUTOSTRV args = node_log_query_journalctl(q, native);

        /* As upstream: what journalctl complains of is part of the answer. */
        if (args && wait_for(start_journalctl(args, fd, fd)) != 127)
                return 0;
        return put(fd, "\nerror: journal output not available\n") < 0;
}

int node_log_send_query(int fd, const NodeLogQuery *q)
{
        KL_AUTOFREE char *units = journal_units();
        bool native[NODE_LOG_SERVICES_MAX] = { false }, any_native = false, any_file = false;
        int r = answer(fd, "200 " TEXT_TYPE);

        for (size_t i = 0; i < q->n_services; i++) {
                native[i] = units && is_unit(units, q->services[i]);
                any_native |= native[i];
                any_file |= !native[i];
        }
        if (r == 0 && any_native)
                r = send_journal(fd, q, native);
        if (r == 0 && any_file && node_log_query_has_options(q))
                return put(fd, "\noptions present and query resolved to log files\ntry without "
                               "specifying options\n") < 0;
        for (size_t i = 0; r == 0 && i < q->n_services; i++)
                if (!native[i])
                        r = send_service_file(fd, q->services[i]);
        return r;
}
