/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Host names and addresses. getaddrinfo(3) blocks and runs whatever nsswitch.conf names, so it runs
 * in a worker that writes Address records to its output.
 */

#include "net/conn-internal.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

struct Resolve {
        Worker *worker;
        const char *host;
        uint16_t port;
        ResolveFunc func;
        void *data;
};

int address_parse(const char *host, uint16_t port, Address *ret)
{
        struct sockaddr_in *v4 = (struct sockaddr_in *)&ret->to;
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret->to;

        *ret = (Address){ 0 };
        if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
                v4->sin_family = AF_INET;
                v4->sin_port = htons(port);
                ret->len = sizeof(*v4);
                return 0;
        }
        if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
                v6->sin6_family = AF_INET6;
                v6->sin6_port = htons(port);
                ret->len = sizeof(*v6);
                return 0;
        }
        return -EINVAL;
}

/* A socket's path may be longer than sun_path: it is then named through its directory. */
int address_unix(const char *path, Address *ret, int *ret_dir_fd)
{
        struct sockaddr_un *un = (struct sockaddr_un *)&ret->to;
        const char *base = strrchr(path, '/');
        KL_AUTOFREE char *dir = NULL;
        KL_AUTOFD int fd = -1;
        int n;

        *ret = (Address){ .len = sizeof(*un) };
        un->sun_family = AF_UNIX;
        if (strlen(path) < sizeof(un->sun_path)) {
                memcpy(un->sun_path, path, strlen(path) + 1);
                *ret_dir_fd = -1;
                return 0;
        }
        dir = base && base > path ? strndup(path, (size_t)(base - path)) : NULL;
        if (!dir)
                return base ? -ENOMEM : -ENAMETOOLONG;
        fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        n = snprintf(un->sun_path, sizeof(un->sun_path), "/proc/self/fd/%d%s", fd, base);
        if (n < 0 || (size_t)n >= sizeof(un->sun_path))
                return -ENAMETOOLONG;
        *ret_dir_fd = KL_STEAL_FD(fd);
        return 0;
}

void address_format(const Address *address, char *buf, size_t size)
{
        char host[INET6_ADDRSTRLEN] = "";

        if (address->to.ss_family == AF_INET) {
                const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->to;

                inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
                snprintf(buf, size, "%s:%u", host, ntohs(v4->sin_port));
        } else if (address->to.ss_family == AF_INET6) {
                const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->to;

                inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
                snprintf(buf, size, "[%s]:%u", host, ntohs(v6->sin6_port));
        } else {
                snprintf(buf, size, "unix:%s",
                         ((const struct sockaddr_un *)&address->to)->sun_path);
        }
}

/* In the worker. Its exit status is 1 with getaddrinfo's error as text. */
static int resolve_body(void *arg)
{
        const Resolve *r = arg;
        struct addrinfo hints = {
                .ai_socktype = SOCK_STREAM,
                .ai_flags = AI_NUMERICSERV,
        };
        struct addrinfo *found = NULL;
        char port[8];
        int code;

        snprintf(port, sizeof(port), "%u", r->port);
        code = getaddrinfo(r->host, port, &hints, &found);
        if (code != 0) {
                dprintf(STDERR_FILENO, "%s", gai_strerror(code));
                return 1;
        }
        for (struct addrinfo *a = found; a; a = a->ai_next) {
                Address record = { .len = a->ai_addrlen };

                if (a->ai_addrlen > sizeof(record.to))
                        continue;
                memcpy(&record.to, a->ai_addr, a->ai_addrlen);
                if (write(STDOUT_FILENO, &record, sizeof(record)) != sizeof(record))
                        return 1;
        }
        freeaddrinfo(found);
        return 0;
}

static void on_resolved(Worker *worker, WorkerResult *result, void *data)
{
        Resolve *r = data;
        KL_AUTOERR err = NULL;
        Address addresses[CONN_ADDRESSES_MAX];
        size_t n = result->out_len / sizeof(addresses[0]);

        if (result->timed_out)
                kl_error(&err, -ETIMEDOUT, NULL, "look up '%s': no answer within %d s", r->host,
                         CONN_CONNECT_TIMEOUT_MS / 1000);
        else if (result->status != 0 || n == 0)
                kl_error(&err, -EHOSTUNREACH, NULL, "look up '%s': %s", r->host,
                         result->errors_len ? result->errors : "no address");
        if (err)
                n = 0;
        else
                memcpy(addresses, result->out, n * sizeof(addresses[0]));
        r->worker = worker_free(worker);
        r->func(addresses, n, err, r->data);
}

int resolve_start(Loop *loop, const char *host, uint16_t port, ResolveFunc func, void *data,
                  Resolve **ret, KlError **err)
{
        Resolve *r = calloc(1, sizeof(*r));
        WorkerSpec spec = {
                .name = "resolve",
                .body = resolve_body,
                .body_arg = r,
                .out_max = sizeof(Address) * CONN_ADDRESSES_MAX,
                .deadline_ms = CONN_CONNECT_TIMEOUT_MS,
                .done = on_resolved,
                .data = r,
        };
        int code;

        if (!r)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *r = (Resolve){ .host = host, .port = port, .func = func, .data = data };
        code = worker_start(loop, &spec, &r->worker, err);
        if (code < 0) {
                free(r);
                return code;
        }
        *ret = r;
        return 0;
}

Resolve *resolve_free(Resolve *resolve)
{
        if (resolve) {
                worker_free(resolve->worker);
                free(resolve);
        }
        return NULL;
}
