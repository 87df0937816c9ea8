/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Containers that another OCI runtime makes (handlers of RuntimeClasses): for these the shim is
 * what conmon is elsewhere.
 *
 * The child that would become the container becomes its driver instead. It lays out the bundle,
 * <state>/containers/<id>/bundle, in a mount namespace of its own, so that the host sees none of
 * its mounts; has the runtime create the container; tells the shim the first process, the user and
 * the terminal; has it started, and is gone. The first process is then a child of the shim, which
 * is a subreaper, and all else is as with the embedded runtime. What the runtime keeps lies in
 * <state>/runtime and goes with the pod.
 *
 * The shim parses no JSON. The daemon gives the document in parts, between which the process is
 * written: its user is known only here, from the files of the container's root.
 */

#include "shim/shim-internal.h"

#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define REASON "RunContainerError"
#define LOG_NAME "log"
#define LOG_SIZE 16384
#define ARGS_MAX 24
#define NAME_SIZE 64

static char *runtime_env[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                               NULL };

/* --- the runtime's command line --- */

/* Everything of ours is close-on-exec; ignored signals would stay ignored. */
_Noreturn static void become(const Shim *shim, const char *const *argv)
{
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        for (int i = 1; i < NSIG; i++)
                signal(i, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setrlimit(RLIMIT_NOFILE, &shim->nofile);
        execve(argv[0], (char *const *)argv, runtime_env);
        _exit(127);
}

static int point_stdio(const int *stdio)
{
        for (int i = 0; i < 3; i++) {
                int fd = stdio ? stdio[i] : -1;

                if (fd < 0)
                        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
                if (fd < 0 || dup2(fd, i) < 0)
                        return -errno;
        }
        return 0;
}

/* PROGRAM --root … --log … and the words, NULL-terminated in argv. */
static void command_line(const char *program, const char *root, const char *log,
                         const char *const *words, const char **argv)
{
        size_t n = 0;

        argv[n++] = program;
        argv[n++] = "--root";
        argv[n++] = root;
        if (log) {
                argv[n++] = "--log";
                argv[n++] = log;
        }
        while (*words && n + 1 < ARGS_MAX)
                argv[n++] = *words++;
        argv[n] = NULL;
}

/* The message of the runtime's last line, in text form: … msg="message". */
static const char *last_message(char *text)
{
        char *line, *message, *end;

        while (*text && text[strlen(text) - 1] == '\n')
                text[strlen(text) - 1] = '\0';
        line = strrchr(text, '\n');
        line = line ? line + 1 : text;
        message = strstr(line, "msg=\"");
        if (!message)
                return line;
        message += strlen("msg=\"");
        end = strrchr(message, '"');
        if (end)
                *end = '\0';
        /* Quotes within are escaped. */
        for (char *to = message, *from = message; (*to = *from); to++, from++)
                if (*from == '\\' && from[1])
                        *to = *++from;
        return message;
}

/* In the bundle's directory. */
static int run_runtime(const Setup *setup, const int *stdio, const char *const *words,
                       KlError **err)
{
        KL_AUTOFREE char *root = str_format("%s/runtime", setup->shim->state_path);
        static char log[LOG_SIZE];
        const char *argv[ARGS_MAX];
        int status = 0;
        pid_t pid;

        if (!root)
                return kl_error_errno(err, -ENOMEM, REASON, "run the runtime");
        command_line(setup->start->handler, root, LOG_NAME, words, argv);
        pid = sys_fork(0, -1);
        if (pid == 0) {
                if (point_stdio(stdio) < 0)
                        _exit(126);
                become(setup->shim, argv);
        }
        if (pid < 0)
                return kl_error_errno(err, pid, REASON, "run '%s'", argv[0]);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return 0;
        if (file_load(AT_FDCWD, LOG_NAME, log, sizeof(log)) > 0)
                return kl_error(err, -EIO, REASON, "%s", last_message(log));
        return kl_error(err, -EIO, REASON, "'%s %s' failed with status %d", argv[0], words[0],
                        WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* A command nobody waits for: it is reaped with everything else that comes to the shim. */
static void send_command(Shim *shim, const Container *c, const char *const *words)
{
        ShimStart start;
        Mapped mapped;
        pid_t pid = sys_fork(0, -1);

        if (pid != 0)
                return;
        if (spec_map(c->spec_fd, &mapped) == 0 &&
            shim_start_decode(mapped.data, mapped.len, SHIM_SPEC_FDS_MAX, &start) == 0) {
                const char *argv[ARGS_MAX];
                char *root = str_format("%s/runtime", shim->state_path);

                if (root && point_stdio(NULL) == 0) {
                        command_line(start.handler, root, NULL, words, argv);
                        become(shim, argv);
                }
        }
        _exit(126);
}

void handler_signal(Shim *shim, const Container *c, int number)
{
        char text[16];
        const char *words[] = { "kill", c->id, text, NULL };

        snprintf(text, sizeof(text), "%d", number);
        send_command(shim, c, words);
}

void handler_delete(Shim *shim, const Container *c)
{
        const char *words[] = { "delete", "--force", c->id, NULL };

        send_command(shim, c, words);
}

/* --- the process --- */

static void add_string(Buf *to, const char *s)
{
        buf_add_str(to, "\"");
        for (; *s; s++) {
                unsigned char c = (unsigned char)*s;

                if (c == '"' || c == '\\')
                        buf_addf(to, "\\%c", c);
                else if (c < 0x20)
                        buf_addf(to, "\\u%04x", c);
                else
                        buf_add(to, s, 1);
        }
        buf_add_str(to, "\"");
}

static void add_process(const Setup *setup, Buf *to)
{
        const ResolvedUser *u = &setup->user;

        buf_addf(to, "{\"user\":{\"uid\":%u,\"gid\":%u,\"additionalGids\":[", u->uid, u->gid);
        for (size_t i = 1; i < u->n_groups; i++)
                buf_addf(to, "%s%u", i > 1 ? "," : "", u->groups[i]);
        buf_addf(to, "]},\"terminal\":%s,\"args\":[", setup->tty ? "true" : "false");
        for (char *const *arg = setup->args; *arg; arg++) {
                if (arg != setup->args)
                        buf_add_str(to, ",");
                add_string(to, *arg);
        }
        buf_addf(to, "],%s}", setup->start->process_rest);
}

static int write_file(const char *name, const Buf *text)
{
        KL_AUTOFD int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (buf_error(text) < 0)
                return buf_error(text);
        return fd < 0 ? -errno : fd_write_full(fd, text->data, text->len);
}

/* --- terminals: the runtime sends the pty to a socket of ours --- */

static int listen_at(const Setup *setup, const char *name, KlError **err)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        KL_AUTOFD int fd = -1;

        if (!setup->tty)
                return -1;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        snprintf(address.sun_path, sizeof(address.sun_path), "%s", name);
        unlink(name);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            listen(fd, 1) < 0)
                return kl_error_errno(err, -errno, REASON, "listen for the terminal");
        return KL_STEAL_FD(fd);
}

/* It was sent before the runtime's command ended. */
static int take_terminal(const Setup *setup, int listener, KlError **err)
{
        KL_AUTOFD int conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        union {
                struct cmsghdr head;
                char space[CMSG_SPACE(sizeof(int))];
        } control;
        char name[256];
        struct iovec iov = { name, sizeof(name) };
        struct msghdr message = { .msg_iov = &iov,
                                  .msg_iovlen = 1,
                                  .msg_control = &control,
                                  .msg_controllen = sizeof(control) };
        Report report = { .kind = REPORT_TTY };
        KL_AUTOFD int master = -1;

        if (conn < 0 || recvmsg(conn, &message, MSG_CMSG_CLOEXEC) < 0 || !CMSG_FIRSTHDR(&message) ||
            CMSG_FIRSTHDR(&message)->cmsg_type != SCM_RIGHTS)
                return kl_error(err, -EPROTO, REASON, "the runtime sent no terminal");
        memcpy(&master, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(master));
        return report_send(setup->status_fd, &report, master);
}

/* --- driving --- */

static int report_first_process(const Setup *setup, const char *pid_file, KlError **err)
{
        Report report = { .kind = REPORT_PID };
        char text[32];
        uint64_t pid;

        if (file_load(AT_FDCWD, pid_file, text, sizeof(text)) < 0)
                return kl_error(err, -EPROTO, REASON, "the runtime wrote no pid");
        text[strcspn(text, "\n")] = '\0';
        if (str_to_u64(text, INT32_MAX, &pid) < 0 || pid < 2)
                return kl_error(err, -EPROTO, REASON, "the runtime wrote no pid");
        report.code = (int)pid;
        return report_send(setup->status_fd, &report, -1);
}

static int enter_bundle(const Setup *setup, const char *id, KlError **err)
{
        KL_AUTOFREE char *path =
                str_format("%s/" SHIM_CONTAINERS_NAME "/%s/bundle", setup->shim->state_path, id);
        int r = path ? dir_make_path(path, 0700, true) : -ENOMEM;

        if (r == 0 && chdir(path) < 0)
                r = -errno;
        return r < 0 ? kl_error_errno(err, r, REASON, "make the bundle") : 0;
}

/* A place of the mounted thing's own kind, for a detached mount. */
static int attach(int mount_fd, const char *name)
{
        KL_AUTOFD int at = -1;
        struct stat st;

        if (fstat(mount_fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode)) {
                if (mkdir(name, 0700) < 0 && errno != EEXIST)
                        return -errno;
        } else {
                at = open(name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
                kl_close(at);
        }
        at = open(name, O_PATH | O_CLOEXEC | O_NOFOLLOW);
        return at < 0 ? -errno : sys_move_mount(mount_fd, at);
}

/* m/<number of the mount>, as the document names them. */
static int attach_volumes(Setup *setup, KlError **err)
{
        if (mkdir("m", 0700) < 0 && errno != EEXIST)
                return kl_error_errno(err, -errno, REASON, "make the bundle");
        for (size_t i = 0; i < setup->start->n_mounts; i++) {
                const ShimMount *mount = &setup->start->mounts[i];
                int fd = mount->kind == SHIM_MOUNT_BIND  ? setup->fds[mount->fd]
                         : mount->kind == SHIM_MOUNT_SHM ? setup->shm_fd
                                                         : -1;
                char name[NAME_SIZE];
                int r;

                if (fd < 0)
                        continue;
                snprintf(name, sizeof(name), "m/%zu", i);
                r = attach(fd, name);
                if (r < 0)
                        return kl_error_errno(err, r, REASON, "attach the volume at '%s'",
                                              mount->target);
        }
        return 0;
}

static int lay_out(Setup *setup, KlError **err)
{
        KL_AUTOBUF config = BUF_INIT_LIMIT(SHIM_SPEC_MAX);
        int r = setup_overlay(setup, err);

        if (r == 0)
                r = setup->shm_fd = sandbox_open_shm(setup->shim, err);
        if (r >= 0)
                r = enter_bundle(setup, setup->start->id, err);
        if (r < 0)
                return r;
        r = attach(setup->root_fd, "rootfs");
        if (r < 0)
                return kl_error_errno(err, r, REASON, "attach root");
        r = attach_volumes(setup, err);
        if (r == 0)
                r = user_lookup(&setup->start->user, setup->root_fd, &setup->user, err);
        if (r < 0)
                return r;
        buf_add_str(&config, setup->start->config_head);
        add_process(setup, &config);
        buf_add_str(&config, setup->start->config_tail);
        r = write_file("config.json", &config);
        return r < 0 ? kl_error_errno(err, r, REASON, "write config.json") : 0;
}

static int create(Setup *setup, KlError **err)
{
        KL_AUTOFD int listener = listen_at(setup, "console.sock", err);
        const char *plain[] = { "create", "--bundle",       ".", "--pid-file",
                                "pid",    setup->start->id, NULL };
        const char *tty[] = {
                "create",       "--bundle",       ".", "--pid-file", "pid", "--console-socket",
                "console.sock", setup->start->id, NULL
        };
        int r = setup->tty && listener < 0 ? listener
                                           : run_runtime(setup, setup->tty ? NULL : setup->stdio,
                                                         setup->tty ? tty : plain, err);

        if (r == 0)
                r = report_first_process(setup, "pid", err);
        if (r == 0)
                r = setup_report_ids(setup);
        if (r == 0 && setup->tty)
                r = take_terminal(setup, listener, err);
        return r;
}

void handler_container(Setup *setup)
{
        const char *words[] = { "start", setup->start->id, NULL };
        KlError *err = NULL;
        int r;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        r = lay_out(setup, &err);
        if (r == 0)
                r = create(setup, &err);
        if (r == 0)
                r = run_runtime(setup, NULL, words, &err);
        if (r < 0)
                setup_fail(setup, r, err);
        _exit(0);
}

void handler_exec(Setup *setup, const char *name)
{
        char file[NAME_SIZE], pid_file[NAME_SIZE], console[NAME_SIZE];
        const char *plain[] = { "exec",   "--process",      file, "--detach", "--pid-file",
                                pid_file, setup->start->id, NULL };
        const char *tty[] = { "exec",   "--process",        file,    "--detach",       "--pid-file",
                              pid_file, "--console-socket", console, setup->start->id, NULL };
        KL_AUTOBUF process = BUF_INIT_LIMIT(SHIM_SPEC_MAX);
        KlError *err = NULL;
        int listener = -1, r;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        snprintf(file, sizeof(file), "%s.json", name);
        snprintf(pid_file, sizeof(pid_file), "%s.pid", name);
        snprintf(console, sizeof(console), "%s.sock", name);
        add_process(setup, &process);
        r = enter_bundle(setup, setup->start->id, &err);
        if (r == 0)
                r = write_file(file, &process);
        if (r == 0 && setup->tty)
                r = listener = listen_at(setup, console, &err);
        if (r >= 0)
                r = run_runtime(setup, setup->tty ? NULL : setup->stdio, setup->tty ? tty : plain,
                                &err);
        if (r == 0)
                r = report_first_process(setup, pid_file, &err);
        if (r == 0 && setup->tty)
                r = take_terminal(setup, listener, &err);
        unlink(file);
        unlink(pid_file);
        unlink(console);
        if (r < 0)
                setup_fail(setup, r, err);
        _exit(0);
}
