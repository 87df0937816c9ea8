/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_PULL_SECRETS_H
#define KUBELITE_POD_PULL_SECRETS_H

#include "api/objects.h"
#include "base/map.h"
#include "image/keyring.h"

/* The Secret types of pull secrets, and the keys that their configuration has. */
#define PULL_SECRET_TYPE "kubernetes.io/dockerconfigjson"
#define PULL_SECRET_KEY ".dockerconfigjson"
#define PULL_SECRET_LEGACY_TYPE "kubernetes.io/dockercfg"
#define PULL_SECRET_LEGACY_KEY ".dockercfg"
/* The node's own credentials, beneath the root directory, as upstream reads them. */
#define NODE_DOCKER_CONFIG "config.json"

/*
 * The credentials for a pod's images: those of its pull secrets, then the node's own.
 * `secrets` are its names, `find` gives the reference to one (NULL: none). Returns 0, or 1 while a
 * secret has not been answered for yet, or -ENOMEM. *ret_missing names those that cannot be had,
 * "a, b", or is NULL; to be freed.
 */
int pull_secrets_gather(char *const *secrets, ObjectRef *(*find)(const char *name, void *data),
                        void *data, const char *root_dir, Keyring **ret, char **ret_missing);

#endif
