/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon's connection. Sending never waits: what the socket does not take is marked and sent
 * when it does, so a daemon that stands still costs no memory here and hears the newest state in
 * the end. No request is read before the result of the last one is out.
 */

#include "shim/shim-internal.h"

#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <termios.h>

#define PAGE 4096

typedef union Body {
        ShimHello hello;
        ShimStop stop;
        ShimTarget target;
        ShimResize resize;
        ShimAttach attach;
        ShimWelcome welcome;
        ShimResult result;
        ShimSandboxState sandbox;
        ShimContainerState container;
        ShimExecDone done;
} Body;

typedef struct Packet {
        ShimHeader header;
        Body body;
} Packet;

/* Larger ones of newer daemons are cut to what is known. */
static union {
        Packet packet;
        char bytes[SHIM_PACKET_MAX];
} in __attribute__((aligned(PAGE)));

void connection_release(void)
{
        madvise(&in, sizeof(in), MADV_DONTNEED);
}

static void watch(Shim *shim, uint32_t events)
{
        struct epoll_event event = { .events = events, .data.ptr = &shim->connection };

        epoll_ctl(shim->epoll_fd, EPOLL_CTL_MOD, shim->connection.fd, &event);
}

static void drop_fds(Shim *shim)
{
        while (shim->n_fds > 0)
                close(shim->fds[--shim->n_fds]);
        free(shim->fds);
        shim->fds = NULL;
}

static void disconnect(Shim *shim)
{
        source_close(shim, &shim->connection);
        drop_fds(shim);
        free(shim->result_message);
        shim->result_message = NULL;
        shim->result_untold = shim->sandbox_untold = shim->listed_untold = false;
        shim->version = 0;
        execs_abandon(shim);
        /* Started for a daemon that died before it said what for. */
        if (shim->sandbox_fd < 0)
                shim->done = true;
}

/* False: the connection takes no more now. */
static bool send_packet(Shim *shim, uint32_t type, uint32_t request, const void *body, size_t len)
{
        Packet packet = { .header = { type, request } };
        int r;

        if (shim->connection.fd < 0)
                return true;
        if (len)
                memcpy(&packet.body, body, len);
        r = packet_send(shim->connection.fd, &packet, offsetof(Packet, body) + len, NULL, 0, false);
        if (r == -EAGAIN || r == -ENOBUFS) {
                watch(shim, EPOLLIN | EPOLLOUT);
                return false;
        }
        /* A broken connection is noticed by reading. */
        return true;
}

static void send_result(Shim *shim)
{
        ShimResult result = { .code = shim->result_code };

        snprintf(result.message, sizeof(result.message), "%s",
                 shim->result_message ? shim->result_message : "");
        shim->result_untold =
                !send_packet(shim, SHIM_RESULT, shim->result_request, &result, sizeof(result));
        if (shim->result_untold) {
                watch(shim, EPOLLOUT);
                return;
        }
        free(shim->result_message);
        shim->result_message = NULL;
}

void connection_result(Shim *shim, uint32_t request, int code, const char *message)
{
        if (shim->connection.fd < 0)
                return;
        free(shim->result_message);
        shim->result_request = request;
        shim->result_code = code;
        shim->result_message = message ? strdup(message) : NULL;
        send_result(shim);
}

void connection_sandbox(Shim *shim)
{
        ShimSandboxState state = { .state = shim->sandbox_state,
                                   .code = shim->sandbox_code,
                                   .init_pid = shim->init_pid };

        if (!shim->version || !shim->sandbox_id)
                return;
        snprintf(state.id, sizeof(state.id), "%s", shim->sandbox_id);
        snprintf(state.netns_path, sizeof(state.netns_path), "%s", shim->netns_path);
        snprintf(state.message, sizeof(state.message), "%s",
                 shim->sandbox_message ? shim->sandbox_message : "");
        shim->sandbox_untold = !send_packet(shim, SHIM_SANDBOX_STATE, 0, &state, sizeof(state));
}

void connection_container(Shim *shim, Container *container)
{
        ShimContainerState state;

        if (!shim->version)
                return;
        container_state(container, &state);
        container->untold = !send_packet(shim, SHIM_CONTAINER, 0, &state, sizeof(state));
}

void connection_log_rotated(Shim *shim, Container *container)
{
        ShimTarget target = { 0 };

        /* Who connects later looks for itself. */
        if (!shim->version)
                return;
        memcpy(target.id, container->id, sizeof(target.id));
        container->rotation_untold =
                !send_packet(shim, SHIM_LOG_ROTATED, 0, &target, sizeof(target));
}

bool connection_exec_done(Shim *shim, const Exec *e)
{
        int status = e->wait_status;
        ShimExecDone done = { .exec = e->id, .timed_out = e->timed_out };

        if (!shim->version || e->connection != shim->connections)
                return true;
        done.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        done.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        if (e->message) {
                done.start_error = 1;
                done.error_code = e->error_code;
                done.exit_code = e->error_code == -ENOENT ? 127 : 126;
                done.signal = 0;
                snprintf(done.message, sizeof(done.message), "%s", e->message);
        }
        return send_packet(shim, SHIM_EXEC_DONE, 0, &done, sizeof(done));
}

void connection_flush(Shim *shim)
{
        if (shim->result_untold)
                send_result(shim);
        if (shim->result_untold)
                return;
        watch(shim, EPOLLIN);
        if (shim->sandbox_untold)
                connection_sandbox(shim);
        list_for_each (c, &shim->containers, Container, link)
                if (c->untold && !shim->sandbox_untold)
                        connection_container(shim, c);
        list_for_each (c, &shim->containers, Container, link)
                if (c->untold)
                        return;
        if (shim->listed_untold)
                shim->listed_untold = !send_packet(shim, SHIM_LISTED, 0, NULL, 0);
        list_for_each (c, &shim->containers, Container, link)
                if (c->rotation_untold)
                        connection_log_rotated(shim, c);
        list_for_each (e, &shim->execs, Exec, link)
                if (e->told && connection_exec_done(shim, e))
                        exec_free(shim, e);
}

/* --- requests --- */

static void hello(Shim *shim, const ShimHello *body)
{
        ShimWelcome welcome = { .pid = getpid(),
                                .log_pid = shim->log_pid,
                                .n_containers = (uint32_t)shim->n_containers };

        if (body->version_min <= SHIM_VERSION_MAX && body->version_max >= SHIM_VERSION_MIN)
                welcome.version =
                        body->version_max < SHIM_VERSION_MAX ? body->version_max : SHIM_VERSION_MAX;
        send_packet(shim, SHIM_WELCOME, 0, &welcome, sizeof(welcome));
        shim->version = welcome.version;
        if (!shim->version) {
                disconnect(shim);
                return;
        }
        shim->sandbox_untold = shim->sandbox_fd >= 0 && shim->sandbox_state != SHIM_SANDBOX_MAKING;
        shim->listed_untold = true;
        list_for_each (c, &shim->containers, Container, link)
                c->untold = true;
        connection_flush(shim);
}

static int keep_fds(Shim *shim, const int *fds, size_t n)
{
        if (!shim->fds)
                shim->fds = calloc(SHIM_SPEC_FDS_MAX, sizeof(*shim->fds));
        if (!shim->fds || shim->n_fds + n > SHIM_SPEC_FDS_MAX) {
                for (size_t i = 0; i < n; i++)
                        close(fds[i]);
                return shim->fds ? -EMSGSIZE : -ENOMEM;
        }
        memcpy(shim->fds + shim->n_fds, fds, n * sizeof(*fds));
        shim->n_fds += n;
        return 0;
}

/* fds[0] is the spec; it goes to the callee. */
static int with_spec(Shim *shim, const ShimHeader *header, int spec, KlError **err)
{
        int r;

        if (header->type == SHIM_SANDBOX)
                r = sandbox_start(shim, spec, header->request, err);
        else if (header->type == SHIM_START)
                r = container_start(shim, spec, shim->fds, shim->n_fds, err);
        else
                r = exec_start(shim, header->request, spec, shim->fds, shim->n_fds, err);
        drop_fds(shim);
        return r;
}

static int resize(Shim *shim, const ShimResize *body)
{
        const Container *c = body->target.id[0] ? container_find(shim, body->target.id) : NULL;
        Exec *e = body->target.id[0] ? NULL : exec_find(shim, body->target.exec);
        struct winsize size = { .ws_row = body->rows, .ws_col = body->columns };

        if (e)
                return exec_resize(e, body->rows, body->columns);
        if (!c)
                return -ENOENT;
        if (!c->tty || c->out_fd < 0)
                return -ENOTTY;
        return ioctl(c->out_fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

static int forget(Shim *shim, const ShimTarget *body)
{
        Container *c = container_find(shim, body->id);

        /* Asked twice is no error: the answer to the first may have been lost. */
        if (!c)
                return 0;
        if (c->state != SHIM_CONTAINER_EXITED)
                return -EBUSY;
        container_forget(shim, c);
        return 0;
}

static int stop(Shim *shim, const ShimStop *body)
{
        Container *c = container_find(shim, body->id);

        if (!c)
                return -ENOENT;
        container_stop(shim, c, body->grace_ms);
        return 0;
}

static int exec_kill_by_id(Shim *shim, const ShimTarget *body)
{
        Exec *e = exec_find(shim, body->exec);

        if (!e)
                return -ENOENT;
        exec_kill(shim, e);
        return 0;
}

static int attach(Shim *shim, const ShimAttach *body, const int *fds, size_t n_fds)
{
        const Container *c = container_find(shim, body->id);

        if (!c)
                return -ENOENT;
        if (c->state == SHIM_CONTAINER_EXITED || c->ended)
                return -ESRCH;
        return log_attach(shim, c, body->streams & 7, fds, n_fds);
}

static int reopen(Shim *shim, const ShimTarget *body, int *fds, size_t n_fds)
{
        Container *c = container_find(shim, body->id);

        if (!c)
                return -ENOENT;
        if (n_fds < 1)
                return -EBADMSG;
        if (c->state == SHIM_CONTAINER_EXITED)
                return 0;
        n_fds = (size_t)fds[0];
        fds[0] = -1;
        return log_reopen(shim, c, (int)n_fds);
}

/* Small requests, whose descriptors are closed by the caller. */
static int dispatch_small(Shim *shim, uint32_t type, Body *body, int *fds, size_t n_fds)
{
        /* Whatever was sent, texts end. */
        body->target.id[SHIM_ID_SIZE - 1] = '\0';
        switch (type) {
        case SHIM_STOP:
                return stop(shim, &body->stop);
        case SHIM_FORGET:
                return forget(shim, &body->target);
        case SHIM_EXEC_KILL:
                return exec_kill_by_id(shim, &body->target);
        case SHIM_RESIZE:
                return resize(shim, &body->resize);
        case SHIM_ATTACH:
                return attach(shim, &body->attach, fds, n_fds);
        case SHIM_REOPEN_LOG:
                return reopen(shim, &body->target, fds, n_fds);
        default:
                return -EOPNOTSUPP;
        }
}

static void begin_shutdown(Shim *shim, uint32_t request)
{
        shim->shutting_down = true;
        shim->shutdown_request = request;
        list_for_each (c, &shim->containers, Container, link)
                container_stop(shim, c, 0);
}

static void dispatch(Shim *shim, ShimHeader header, Body *body, int *fds, size_t n_fds)
{
        KL_AUTOERR err = NULL;
        int r = 0;

        if (header.type == SHIM_HELLO) {
                hello(shim, &body->hello);
        } else if (!shim->version) {
                disconnect(shim);
        } else if (header.type == SHIM_FDS) {
                r = keep_fds(shim, fds, n_fds);
                n_fds = 0;
                if (r < 0)
                        disconnect(shim);
        } else if (header.type == SHIM_SHUTDOWN) {
                begin_shutdown(shim, header.request);
        } else if (header.type == SHIM_SANDBOX || header.type == SHIM_START ||
                   header.type == SHIM_EXEC) {
                r = n_fds == 1 ? with_spec(shim, &header, fds[0], &err) : -EBADMSG;
                if (n_fds == 1)
                        n_fds = 0;
                connection_result(shim, header.request, r, err ? kl_error_msg(err) : NULL);
        } else {
                r = dispatch_small(shim, header.type, body, fds, n_fds);
                connection_result(shim, header.request, r, r < 0 ? strerror(-r) : NULL);
        }
        for (size_t i = 0; i < n_fds; i++)
                kl_close(fds[i]);
}

static void readable(Shim *shim, Source *source)
{
        int fds[SHIM_PACKET_FDS_MAX];
        ShimHeader header;
        size_t n_fds;
        ssize_t n;

        if (shim->result_untold || shim->sandbox_untold || shim->listed_untold)
                connection_flush(shim);
        if (shim->result_untold)
                return;
        n = packet_receive(source->fd, &in, sizeof(in), fds, SHIM_PACKET_FDS_MAX, &n_fds);
        if (n == -EAGAIN) {
                connection_flush(shim);
                return;
        }
        if (n < (ssize_t)sizeof(ShimHeader)) {
                while (n_fds > 0)
                        close(fds[--n_fds]);
                disconnect(shim);
                return;
        }
        /* What an older daemon did not send is zero. */
        if ((size_t)n < sizeof(in.packet))
                memset(in.bytes + n, 0, sizeof(in.packet) - (size_t)n);
        header = in.packet.header;
        dispatch(shim, header, &in.packet.body, fds, n_fds);
}

int connection_open(Shim *shim, int fd)
{
        if (shim->connection.fd >= 0)
                disconnect(shim);
        shim->done = false;
        shim->connections++;
        return source_add(shim, &shim->connection, fd, readable);
}

/* The socket's mode lets in root only; this holds even if that was changed. */
void connection_accept(Shim *shim, Source *source)
{
        int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC);
        struct ucred peer;
        socklen_t len = sizeof(peer);

        if (fd < 0)
                return;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != geteuid()) {
                close(fd);
                return;
        }
        if (connection_open(shim, fd) < 0)
                shim->connection.fd = -1;
}
