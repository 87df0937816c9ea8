/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_CONFINE_INTERNAL_H
#define KUBELITE_IMAGE_CONFINE_INTERNAL_H

#include "base/error.h"

/* Irrevocable reductions of this process' privileges. */

/*
 * For what unpacks: directory becomes the root, no network, no other file system, the capabilities
 * to make files of any owner and kind; then, for all threads, a list of system calls.
 */
int confine_unpacker(const char *directory, KlError **err);
int confine_unpacker_calls(KlError **err);

/*
 * For what talks to registries: user and group 65534, no capabilities, no new privileges, no
 * system calls but those of a network client; where Landlock is there (Linux 5.13), files are
 * read-only and only those that name resolution and TLS need.
 */
int confine_fetcher(KlError **err);

/* For what reads archives and nothing else: an empty root, no network, no capabilities. */
int confine_reader(KlError **err);

#endif
