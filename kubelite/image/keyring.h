/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_KEYRING_H
#define KUBELITE_IMAGE_KEYRING_H

#include "image/image.h"

/*
 * Credentials for registries out of docker configurations: pull secrets and the node's own
 * config.json. Which of them belong to an image is decided as upstream does
 * (pkg/credentialprovider/keyring.go): by host, whose labels may be globs, port, and the beginning
 * of the path; the longest path first.
 */
#define KEYRING_CONFIG_MAX (1U << 20) /* bytes of one configuration, as a Secret may have */
#define KEYRING_ENTRIES_MAX 1024

typedef struct Keyring Keyring;

Keyring *keyring_new(void);
Keyring *keyring_free(Keyring *keyring);
KL_DEFINE_CLEANUP(Keyring *, keyring_free);

/* Adds a configuration behind those that are there: config.json and `.dockerconfigjson` have their
 * entries below "auths", the older `.dockercfg` (legacy) is that object itself. An entry that
 * cannot be read is left out. -EINVAL for what is no configuration, -E2BIG, -ENOMEM. */
int keyring_add(Keyring *keyring, const char *json, size_t len, bool legacy, KlError **err);

/* The i-th credential for a reference, best first; NULL: there is no further one. Borrowed. */
const ImageAuth *keyring_find(const Keyring *keyring, const ImageRef *ref, size_t i);

#endif
