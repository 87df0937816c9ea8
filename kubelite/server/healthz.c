/* SPDX-License-Identifier: Apache-2.0 */

/* A listener for one question. Connections over the limit are closed at once; slow ones when their
 * time is over. */

#include "server/healthz.h"

#include "base/list.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

typedef struct HealthzConnection {
        List link;
        Healthz *healthz;
        int fd;
        Watch *watch;
        Timer *timer;
        char head[HEALTHZ_HEAD_MAX];
        size_t len;
} HealthzConnection;

struct Healthz {
        Loop *loop;
        int fd;
        Watch *watch;
        List connections;
        unsigned int n_connections;
};

static void connection_free(HealthzConnection *c)
{
        list_unlink(&c->link);
        c->healthz->n_connections--;
        watch_free(c->watch);
        timer_free(c->timer);
        kl_close(c->fd);
        free(c);
}

static void connection_answer(HealthzConnection *c)
{
        static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
                                 "Content-Length: 2\r\nConnection: close\r\n\r\nok";
        static const char missing[] = "HTTP/1.1 404 Not Found\r\n"
                                      "Content-Type: text/plain; charset=utf-8\r\n"
                                      "Content-Length: 19\r\nConnection: close\r\n\r\n"
                                      "404 page not found\n";
        bool known = str_starts(c->head, "GET /healthz ") || str_starts(c->head, "GET /healthz?");
        const char *answer = known ? ok : missing;

        /* It fits into any socket's buffer; a client that is gone does not matter. */
        (void)!send(c->fd, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
        shutdown(c->fd, SHUT_WR);
        connection_free(c);
}

static void on_readable(Watch *watch, int fd, unsigned int events, void *data)
{
        HealthzConnection *c = data;
        ssize_t n = recv(fd, c->head + c->len, sizeof(c->head) - 1 - c->len, MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                connection_free(c);
                return;
        }
        c->len += (size_t)n;
        c->head[c->len] = '\0';
        if (strstr(c->head, "\r\n\r\n"))
                connection_answer(c);
        else if (c->len == sizeof(c->head) - 1)
                connection_free(c);
}

static void on_timeout(Timer *timer, void *data)
{
        connection_free(data);
}

static void on_connection(Watch *watch, int fd, unsigned int events, void *data)
{
        Healthz *h = data;
        KL_AUTOFD int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        HealthzConnection *c;

        if (peer < 0 || h->n_connections >= HEALTHZ_CONNECTIONS_MAX)
                return;
        c = calloc(1, sizeof(*c));
        if (!c)
                return;
        c->healthz = h;
        c->fd = KL_STEAL_FD(peer);
        list_append(&h->connections, &c->link);
        h->n_connections++;
        c->timer = timer_new(h->loop, on_timeout, c);
        if (!c->timer || watch_new(h->loop, c->fd, WATCH_READ, on_readable, c, &c->watch) < 0) {
                connection_free(c);
                return;
        }
        timer_start(c->timer, HEALTHZ_TIMEOUT_MS);
}

static int bind_address(const char *address, uint16_t port, KlError **err)
{
        struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(port) };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        bool v6 = inet_pton(AF_INET6, address, &in6.sin6_addr) == 1;
        const struct sockaddr *any = v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in4;
        KL_AUTOFD int fd = -1;
        int one = 1;

        if (!v6 && inet_pton(AF_INET, address, &in4.sin_addr) != 1)
                return kl_error(err, -EINVAL, NULL, "'%s' is no IP address", address);
        fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
            bind(fd, any, v6 ? sizeof(in6) : sizeof(in4)) < 0 || listen(fd, SOMAXCONN) < 0)
                return kl_error_errno(err, -errno, NULL, "listen on %s port %u for health checks",
                                      address, port);
        return KL_STEAL_FD(fd);
}

int healthz_new(Loop *loop, const char *address, uint16_t port, Healthz **ret, KlError **err)
{
        KL_AUTO(healthz_free) Healthz *h = calloc(1, sizeof(*h));
        int r;

        if (!h)
                return kl_error_oom(err);
        h->loop = loop;
        list_init(&h->connections);
        h->fd = bind_address(address, port, err);
        if (h->fd < 0)
                return h->fd;
        r = watch_new(loop, h->fd, WATCH_READ, on_connection, h, &h->watch);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "follow the health port");
        *ret = KL_STEAL(h);
        return 0;
}

Healthz *healthz_free(Healthz *h)
{
        if (!h)
                return NULL;
        list_for_each (c, &h->connections, HealthzConnection, link)
                connection_free(c);
        watch_free(h->watch);
        kl_close(h->fd);
        free(h);
        return NULL;
}
