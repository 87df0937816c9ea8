/* SPDX-License-Identifier: Apache-2.0 */

/*
 * kubelite-shim: one pod's sandbox and its containers, for as long as they live; the daemon may
 * come and go. Started by the daemon with a listening socket, a first connection and the state
 * directory as descriptors 3, 4 and 5 and the arguments STATE-DIR NAME.
 *
 * Nothing ends it but SHUTDOWN, or a SIGKILL; then the daemon ends what it had by cgroup.
 */

#include "shim/shim-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_GET_SEALS
#define F_GET_SEALS 1034
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#define F_SEAL_WRITE 8
#endif

#define NOFILE_MAX 65536U

#if defined(__SANITIZE_ADDRESS__)
/* Leaks are looked for by tracing, which this program does not allow. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}
#endif

int source_add(Shim *shim, Source *source, int fd, void (*func)(Shim *shim, Source *source))
{
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = source };

        source->fd = fd;
        source->func = func;
        if (epoll_ctl(shim->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
                source->fd = kl_close(fd);
                return -errno;
        }
        return 0;
}

/* Descriptors may have been inherited by a child, so closing alone does not end the watch. */
void source_close(Shim *shim, Source *source)
{
        if (source->fd < 0)
                return;
        epoll_ctl(shim->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
        source->fd = kl_close(source->fd);
}

/* Sealed, so that it cannot change or shrink while it is mapped. */
int spec_map(int fd, Mapped *ret)
{
        const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
        struct stat st;

        *ret = (Mapped){ NULL, 0 };
        if (fstat(fd, &st) < 0 || (fcntl(fd, F_GET_SEALS) & seals) != seals || st.st_size <= 0)
                return -EBADMSG;
        if (st.st_size > (off_t)SHIM_SPEC_MAX)
                return -EMSGSIZE;
        ret->data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (ret->data == MAP_FAILED) {
                ret->data = NULL;
                return -errno;
        }
        ret->len = (size_t)st.st_size;
        return 0;
}

void spec_unmap(Mapped *mapped)
{
        if (mapped->data)
                munmap(mapped->data, mapped->len);
        *mapped = (Mapped){ NULL, 0 };
}

static void reaped(Shim *shim, pid_t pid, int status)
{
        if (pid == shim->log_pid) {
                log_reaped(shim);
                return;
        }
        if (pid == shim->init_pid)
                shim->init_pid = 0;
        list_for_each (c, &shim->containers, Container, link) {
                if (c->pid == pid) {
                        container_reaped(shim, c, status);
                        return;
                }
                if (c->helper == pid) {
                        container_helper_reaped(shim, c);
                        return;
                }
        }
        list_for_each (e, &shim->execs, Exec, link)
                if (e->pid == pid || e->helper == pid) {
                        if (e->pid == pid)
                                exec_reaped(shim, e, status);
                        else
                                exec_helper_reaped(shim, e);
                        return;
                }
}

static void signalled(Shim *shim, Source *source)
{
        struct signalfd_siginfo info;
        int status;
        pid_t pid;

        (void)!read(source->fd, &info, sizeof(info));
        for (;;) {
                siginfo_t waiting = { 0 };

                /* Looked at first: while the pid is unreaped it cannot be anybody else's, and what
                 * is not told yet about it (its number, in a report) is taken before it goes. */
                if (waitid(P_ALL, 0, &waiting, WEXITED | WNOHANG | WNOWAIT) < 0 ||
                    waiting.si_pid == 0)
                        return;
                list_for_each (c, &shim->containers, Container, link)
                        if (c->helper > 0 && c->pid == 0 && c->status.fd >= 0)
                                c->status.func(shim, &c->status);
                list_for_each (e, &shim->execs, Exec, link)
                        if (e->helper > 0 && e->pid == 0 && e->status.fd >= 0)
                                e->status.func(shim, &e->status);
                pid = waitpid(waiting.si_pid, &status, WNOHANG);
                if (pid > 0)
                        reaped(shim, pid, status);
        }
}

/* All that is due; milliseconds to the next, or -1. */
static int tick(Shim *shim)
{
        uint64_t first = 0, at, now = time_monotonic_ms();

        list_for_each (c, &shim->containers, Container, link) {
                at = container_tick(shim, c, now);
                if (at && (!first || at < first))
                        first = at;
        }
        list_for_each (e, &shim->execs, Exec, link) {
                at = exec_tick(shim, e, now);
                if (at && (!first || at < first))
                        first = at;
        }
        now = time_monotonic_ms();
        if (!first)
                return -1;
        return first <= now ? 0 : first - now > 3600000 ? 3600000 : (int)(first - now);
}

static bool all_exited(Shim *shim)
{
        list_for_each (c, &shim->containers, Container, link)
                if (c->state != SHIM_CONTAINER_EXITED)
                        return false;
        return true;
}

static void shut_down(Shim *shim)
{
        if (shim->init_pid > 0)
                kill(shim->init_pid, SIGKILL);
        /* All containers' output is written. */
        if (shim->log_pid > 0)
                kill(shim->log_pid, SIGKILL);
        sandbox_stop_making(shim);
        sandbox_unpin(shim);
        unlinkat(shim->state_fd, SHIM_SOCKET_NAME, 0);
        connection_result(shim, shim->shutdown_request, 0, NULL);
        shim->done = true;
}

static void run(Shim *shim)
{
        struct epoll_event event;

        while (!shim->done) {
                int wait = tick(shim), n;

                if (shim->shutting_down && all_exited(shim)) {
                        shut_down(shim);
                        break;
                }
                /* One at a time: an event may free the source of another. */
                n = epoll_wait(shim->epoll_fd, &event, 1, 0);
                if (n == 0 && wait != 0) {
                        connection_release();
                        stack_release();
                        n = epoll_wait(shim->epoll_fd, &event, 1, wait);
                }
                if (n == 1) {
                        Source *source = event.data.ptr;

                        source->func(shim, source);
                }
        }
}

static int set_signals(Shim *shim)
{
        struct sigaction ignore = { .sa_handler = SIG_IGN };
        static const int ignored[] = { SIGHUP,  SIGINT,  SIGQUIT, SIGPIPE, SIGALRM, SIGTERM,
                                       SIGUSR1, SIGUSR2, SIGTSTP, SIGTTIN, SIGTTOU, SIGXFSZ };
        sigset_t child;
        int fd;

        for (size_t i = 0; i < ELEMENTS(ignored); i++)
                sigaction(ignored[i], &ignore, NULL);
        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        sigprocmask(SIG_SETMASK, &child, NULL);
        fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
        return fd < 0 ? -errno : source_add(shim, &shim->signals, fd, signalled);
}

static bool is_socket(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* For the descriptors of specs and containers. */
static void raise_nofile(Shim *shim)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &shim->nofile) < 0)
                shim->nofile = (struct rlimit){ 1024, 4096 };
        limit = shim->nofile;
        limit.rlim_cur = limit.rlim_max < NOFILE_MAX ? limit.rlim_max : NOFILE_MAX;
        if (limit.rlim_cur > shim->nofile.rlim_cur)
                setrlimit(RLIMIT_NOFILE, &limit);
}

static int set_up(Shim *shim)
{
        int r;

        raise_nofile(shim);

        shim->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        shim->pidns_fd = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
        if (shim->epoll_fd < 0 || shim->pidns_fd < 0)
                return -errno;
        if (mkdirat(shim->state_fd, SHIM_CONTAINERS_NAME, 0700) < 0 && errno != EEXIST)
                return -errno;
        /* Orphans of containers in the host's pid namespace come here and are reaped. */
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        r = set_signals(shim);
        if (r == 0)
                r = source_add(shim, &shim->listener, SHIM_LISTEN_FD, connection_accept);
        return r == 0 ? connection_open(shim, SHIM_FIRST_FD) : r;
}

int main(int argc, char **argv)
{
        Shim shim = { .state_fd = SHIM_STATE_FD,
                      .sandbox_fd = -1,
                      .user_fd = -1,
                      .net_fd = -1,
                      .ipc_fd = -1,
                      .uts_fd = -1,
                      .shm_ns_fd = -1 };
        int r;

        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        if (argc == 2 && str_eq(argv[1], "--version")) {
                puts("kubelite-shim " KUBELITE_VERSION);
                return 0;
        }
        if (argc != 3 || !is_socket(SHIM_LISTEN_FD) || !is_socket(SHIM_FIRST_FD)) {
                fputs("kubelite-shim is started by kubelite\n", stderr);
                return 2;
        }
        for (int fd = SHIM_LISTEN_FD; fd <= SHIM_STATE_FD; fd++)
                fcntl(fd, F_SETFD, FD_CLOEXEC);
        umask(0022);
        shim.state_path = argv[1];
        shim.listener.fd = shim.connection.fd = shim.signals.fd = shim.log.fd = shim.sandbox.fd =
                -1;
        list_init(&shim.containers);
        list_init(&shim.execs);
        r = set_up(&shim);
        if (r < 0) {
                fprintf(stderr, "kubelite-shim: %s\n", strerror(-r));
                return 1;
        }
        run(&shim);
        return 0;
}
