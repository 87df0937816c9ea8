/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NET_CONN_INTERNAL_H
#define KUBELITE_NET_CONN_INTERNAL_H

#include "loop/worker.h"
#include "net/conn.h"

#include <sys/socket.h>

/* Addresses of a host. */
typedef struct Address {
        socklen_t len;
        struct sockaddr_storage to;
} Address;

typedef struct Resolve Resolve;

/* addresses is empty when err is set. */
typedef void (*ResolveFunc)(const Address *addresses, size_t n, const KlError *err, void *data);

/* 0 when `host` is an address itself, else -EINVAL. */
int address_parse(const char *host, uint16_t port, Address *ret);
int address_unix(const char *path, Address *ret, int *ret_dir_fd);
void address_format(const Address *address, char *buf, size_t size);
/* Asks getaddrinfo(3) in a worker; freeing cancels. host must live as long. */
int resolve_start(Loop *loop, const char *host, uint16_t port, ResolveFunc func, void *data,
                  Resolve **ret, KlError **err);
Resolve *resolve_free(Resolve *resolve);

#endif
