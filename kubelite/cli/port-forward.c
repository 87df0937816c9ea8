/* SPDX-License-Identifier: Apache-2.0 */

/*
 * port-forward: a listening socket a port; for each connection a process, which asks the daemon for
 * a connection into the pod and copies.
 */

#include "cli/cli-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#define PORTS_MAX 32
#define CHUNK 65536

typedef struct Ports {
        struct pollfd listeners[2 * PORTS_MAX];
        uint16_t remote[2 * PORTS_MAX];
        size_t n;
} Ports;

/* --- one connection --- */

static int receive(int socket, Buf *answer, int *ret_fd)
{
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control;
        struct iovec iov = { buf_reserve(answer, 4096), 4096 };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof(control.bytes) };
        ssize_t n = iov.iov_base ? recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) : -1;

        if (n <= 0)
                return n < 0 && errno == EINTR ? 0 : -ECONNRESET;
        buf_commit(answer, (size_t)n);
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
                        kl_close(*ret_fd);
                        memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
                }
        return 0;
}

static int dial(const char *state_dir, const CliTarget *target, uint16_t port, int *ret,
                KlError **err)
{
        KL_AUTOFD int socket = -1;
        KL_AUTOBUF json = BUF_INIT, answer = BUF_INIT_LIMIT(CHUNK);
        KL_AUTO(value_free) Value *result = NULL;
        JsonWriter w = JSON_WRITER(&json);
        CliRequest request = { .fd = -1 };
        char *end = NULL;

        jw_object(&w);
        jw_kstr(&w, "command", "forward");
        jw_kstr(&w, "namespace", target->namespace);
        jw_kstr(&w, "pod", target->pod);
        jw_kint(&w, "port", port);
        jw_end(&w);
        KL_TRY(cli_connect(state_dir, &socket, err));
        cli_send(socket, buf_str(&json), NULL, 0);
        while (!end) {
                if (receive(socket, &answer, ret) < 0)
                        return kl_error(err, -ECONNRESET, NULL,
                                        "the daemon went away before it answered");
                end = answer.len ? memchr(answer.data, '\n', answer.len) : NULL;
        }
        KL_TRY(cli_take_line(&request, answer.data, (size_t)(end - answer.data), &result, err));
        return *ret < 0 ? kl_error(err, -EPROTO, NULL, "the daemon passed no connection") : 0;
}

/* One direction of two; false at its end. */
static bool move(int from, int to)
{
        char chunk[CHUNK];
        ssize_t n = read(from, chunk, sizeof(chunk));

        if (n < 0 && errno == EINTR)
                return true;
        if (n > 0 && fd_write_all(to, chunk, (size_t)n) == 0)
                return true;
        shutdown(to, SHUT_WR);
        return false;
}

/* A direction a process: a side that does not take its bytes must not hold back the other's. */
static void copy_both(int a, int b)
{
        pid_t pid = fork();

        while (move(pid == 0 ? a : b, pid == 0 ? b : a))
                ;
}

static void serve(const char *state_dir, const CliTarget *target, uint16_t port, int client)
{
        KL_AUTOERR err = NULL;
        int fd = -1;

        if (dial(state_dir, target, port, &fd, &err) < 0) {
                cli_fail("%s", kl_error_msg(err));
                return;
        }
        fd_set_nonblock(fd, false);
        copy_both(client, fd);
}

/* --- the ports --- */

static int listen_on(int family, uint16_t *port, KlError **err)
{
        struct sockaddr_in in4 = { .sin_family = AF_INET,
                                   .sin_port = htons(*port),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
                                    .sin6_port = htons(*port),
                                    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
        struct sockaddr *to = family == AF_INET ? (struct sockaddr *)&in4 : (struct sockaddr *)&in6;
        socklen_t len = family == AF_INET ? sizeof(in4) : sizeof(in6);
        KL_AUTOFD int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int one = 1;

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
            bind(fd, to, len) < 0 || listen(fd, 128) < 0 || getsockname(fd, to, &len) < 0)
                return kl_error_errno(err, -errno, NULL, "listen on port %u", *port);
        *port = ntohs(family == AF_INET ? in4.sin_port : in6.sin6_port);
        return KL_STEAL_FD(fd);
}

static int add_port(Ports *ports, const char *text, KlError **err)
{
        const char *colon = strchr(text, ':');
        KL_AUTOFREE char *first = colon ? strndup(text, (size_t)(colon - text)) : strdup(text);
        uint64_t local = 0, remote;

        if (!first)
                return kl_error_oom(err);
        if (str_to_u64(colon ? colon + 1 : text, UINT16_MAX, &remote) < 0 || remote == 0 ||
            (*first && str_to_u64(first, UINT16_MAX, &local) < 0))
                return kl_error(err, -EINVAL, NULL, "'%s' is no [LOCAL:]REMOTE", text);
        for (int i = 0; i < 2; i++) {
                uint16_t port = (uint16_t)local;
                /* Without IPv6 one is enough. */
                int fd = listen_on(i ? AF_INET6 : AF_INET, &port, i ? NULL : err);

                if (fd < 0 && i == 0)
                        return fd;
                if (fd < 0)
                        continue;
                local = port;
                ports->remote[ports->n] = (uint16_t)remote;
                ports->listeners[ports->n++] = (struct pollfd){ fd, POLLIN, 0 };
                printf("Forwarding from %s:%u -> %u\n", i ? "[::1]" : "127.0.0.1", port,
                       (unsigned int)remote);
        }
        fflush(stdout);
        return 0;
}

static void accept_one(const char *state_dir, const CliTarget *target, const Ports *ports, size_t i)
{
        KL_AUTOFD int client = accept4(ports->listeners[i].fd, NULL, NULL, SOCK_CLOEXEC);

        if (client < 0 || fork() != 0)
                return;
        for (size_t k = 0; k < ports->n; k++)
                kl_close(ports->listeners[k].fd);
        serve(state_dir, target, ports->remote[i], client);
        _exit(0);
}

int cli_run_port_forward(const CliCommand *command, int argc, char **argv)
{
        const char *namespace = NULL;
        const CliOption options[] = {
                { 'n', "namespace", "NAME", "of the pod", NULL, &namespace },
                { 0 },
        };
        Ports ports = { .n = 0 };
        KL_AUTOERR err = NULL;
        CliTarget target;
        CliCommon common;
        char **args;
        int r = cli_parse(command, options, 2, 1 + PORTS_MAX, argc, argv, &common, &args);

        if (r >= 0)
                return r;
        signal(SIGPIPE, SIG_IGN);
        signal(SIGCHLD, SIG_IGN);
        r = cli_find_target(common.state_dir, namespace, args[0], NULL, &target, &err);
        for (char **port = args + 1; r == 0 && *port; port++)
                r = add_port(&ports, *port, &err);
        while (r == 0 && poll(ports.listeners, ports.n, -1) >= 0)
                for (size_t i = 0; i < ports.n; i++)
                        if (ports.listeners[i].revents)
                                accept_one(common.state_dir, &target, &ports, i);
        for (size_t i = 0; i < ports.n; i++)
                kl_close(ports.listeners[i].fd);
        cli_target_deinit(&target);
        return cli_fail("%s", err ? kl_error_msg(err) : strerror(errno));
}
