/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_POD_DIAL_H
#define KUBELITE_SERVER_POD_DIAL_H

#include "loop/loop.h"

#include <stdint.h>

/*
 * A TCP connection to the loopback of a network namespace: first IPv4, then IPv6, as upstream does.
 */
typedef struct PodDial PodDial;

/* fd is taken over, or -1 and why. The dial is over: it is freed by its owner, here or later. */
typedef void (*PodDialFunc)(PodDial *dial, int fd, const char *why, void *data);

/* netns: path, or "" for our own. The callback never comes within the call. NULL when out of
 * memory. */
PodDial *pod_dial_new(Loop *loop, const char *netns, uint16_t port, PodDialFunc func, void *data);
PodDial *pod_dial_free(PodDial *dial);
KL_DEFINE_CLEANUP(PodDial *, pod_dial_free);

#endif
