/* SPDX-License-Identifier: Apache-2.0 */

#include "server/pod-dial.h"

#include "base/str.h"
#include "net/netns-socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

struct PodDial {
        Loop *loop;
        char *netns;
        uint16_t port;
        int family;
        int errors[2]; /* of IPv4, of IPv6 */
        int fd;
        Watch *watch;
        Deferred *failed; /* tells it not within a call of the owner's */
        PodDialFunc func;
        void *data;
};

static void on_failed(Deferred *deferred, void *data)
{
        PodDial *d = data;
        KL_AUTOFREE char *why = str_format(
                "failed to connect to localhost:%u inside namespace \"%s\", IPv4: %s, IPv6: %s",
                d->port, d->netns, strerror(d->errors[0]), strerror(d->errors[1]));

        d->func(d, -1, why ? why : "out of memory", d->data);
}

static void try_next(PodDial *d);

static void on_connected(Watch *watch, int fd, unsigned int events, void *data)
{
        PodDial *d = data;
        int error = 0, one = 1;
        socklen_t len = sizeof(error);

        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
                error = errno;
        d->watch = watch_free(d->watch);
        if (error == 0) {
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                d->func(d, KL_STEAL_FD(d->fd), NULL, d->data);
                return;
        }
        d->errors[d->family == AF_INET6] = error;
        d->fd = kl_close(d->fd);
        try_next(d);
}

static int begin(PodDial *d)
{
        struct sockaddr_in in4 = { .sin_family = AF_INET,
                                   .sin_port = htons(d->port),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
                                    .sin6_port = htons(d->port),
                                    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
        bool v6 = d->family == AF_INET6;

        d->fd = netns_tcp_socket(d->netns, d->family);
        if (d->fd < 0)
                return KL_STEAL_FD(d->fd);
        if (connect(d->fd, v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in4,
                    v6 ? sizeof(in6) : sizeof(in4)) < 0 &&
            errno != EINPROGRESS)
                return -errno;
        /* Also a connection that is there at once is told by the loop. */
        return watch_new(d->loop, d->fd, WATCH_WRITE, on_connected, d, &d->watch);
}

static void try_next(PodDial *d)
{
        while (d->family != AF_INET6) {
                int r;

                d->family = d->family == 0 ? AF_INET : AF_INET6;
                r = begin(d);
                if (r == 0)
                        return;
                d->errors[d->family == AF_INET6] = -r;
                d->fd = kl_close(d->fd);
        }
        deferred_schedule(d->failed);
}

PodDial *pod_dial_new(Loop *loop, const char *netns, uint16_t port, PodDialFunc func, void *data)
{
        KL_AUTO(pod_dial_free) PodDial *d = calloc(1, sizeof(*d));

        if (!d)
                return NULL;
        *d = (PodDial){ .loop = loop, .port = port, .fd = -1, .func = func, .data = data };
        d->netns = strdup(netns);
        d->failed = deferred_new(loop, on_failed, d);
        if (!d->netns || !d->failed)
                return NULL;
        try_next(d);
        return KL_STEAL(d);
}

PodDial *pod_dial_free(PodDial *d)
{
        if (d) {
                watch_free(d->watch);
                deferred_free(d->failed);
                kl_close(d->fd);
                free(d->netns);
                free(d);
        }
        return NULL;
}
