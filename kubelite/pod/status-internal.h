/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_STATUS_INTERNAL_H
#define KUBELITE_POD_STATUS_INTERNAL_H

#include "pod/status.h"

bool status_is_running(const ContainerView *c);
bool status_init_done(const ContainerView *c);
bool status_initialized(const PodView *view);

/* A list of ContainerStatus for n containers from the first'th on. */
void status_write_containers(const PodView *view, size_t first, size_t n, Buf *to);

#endif
