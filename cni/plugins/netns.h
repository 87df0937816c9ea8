/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_PLUGINS_NETNS_H
#define KUBELITE_CNI_PLUGINS_NETNS_H

#include "base/error.h"

#include <stdbool.h>

/* A descriptor of the network namespace pinned at path; -ENOENT when there is nothing or something
 * else (a mount point that is left behind is a plain file). */
int netns_open(const char *path);

/* True if path is the namespace that this process is in. */
bool netns_is_own(const char *path);

/* Moves the process; a plugin has one thread. */
int netns_enter(int fd, KlError **err);

/*
 * Writes net/<...> beneath /proc/sys, which shows the namespace of the process. Only when the value
 * differs. -ENOENT where the kernel does not have it (IPv6 disabled).
 */
int sysctl_set(const char *value, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
