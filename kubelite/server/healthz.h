/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_HEALTHZ_H
#define KUBELITE_SERVER_HEALTHZ_H

#include "loop/loop.h"

/*
 * The health port (healthzBindAddress:healthzPort): GET /healthz says "ok", everything else is 404.
 * That the loop answers is what it tells. One request a connection; nothing is authenticated, so
 * nothing else may ever be served here.
 */
#define HEALTHZ_CONNECTIONS_MAX 16
#define HEALTHZ_HEAD_MAX 4096
#define HEALTHZ_TIMEOUT_MS 5000

typedef struct Healthz Healthz;

/* address: numeric, IPv4 or IPv6. -EADDRINUSE and the like with a message. */
int healthz_new(Loop *loop, const char *address, uint16_t port, Healthz **ret, KlError **err);
Healthz *healthz_free(Healthz *healthz);
KL_DEFINE_CLEANUP(Healthz *, healthz_free);

#endif
