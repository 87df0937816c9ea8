/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_RUNTIME_CAPS_INTERNAL_H
#define KUBELITE_RUNTIME_CAPS_INTERNAL_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Capability sets as bit masks; bit n is capability n of linux/capability.h. */

#define CAP_BIT(n) (1ULL << (n))

/* "CAP_NET_ADMIN" or "NET_ADMIN", any case; the number or -EINVAL. */
int cap_from_name(const char *name);
/* "CAP_NET_ADMIN"; NULL past the last known one. Static. */
const char *cap_name(unsigned int cap);

/* What containers get that ask for nothing. */
uint64_t caps_default(void);
/* All that this kernel knows and that our own bounding set still has. */
uint64_t caps_available(void);

/*
 * The set of a container: the default plus add, minus drop; "ALL" in either is applied before
 * single names. Privileged ones get all that is available. What is not available is left out, as
 * runtimes do. -EINVAL for an unknown name.
 */
int caps_resolve(char *const *add, char *const *drop, bool privileged, uint64_t available,
                 uint64_t *ret, KlError **err);

#endif
