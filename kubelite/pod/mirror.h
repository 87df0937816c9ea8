/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_MIRROR_H
#define KUBELITE_POD_MIRROR_H

#include "api/client.h"
#include "api/pod.h"

/*
 * Mirror pods: the API's picture of one static pod. Created with the Node as owner, replaced when
 * the manifest changed, created again when somebody deleted it, deleted when the static pod goes.
 */
#define MIRROR_ANNOTATION "kubernetes.io/config.mirror"

typedef struct Mirror Mirror;

typedef struct MirrorEvents {
        /* The mirror exists in the API under this uid (NULL: it is not there). */
        void (*changed)(Mirror *mirror, const char *uid, void *data);
        /* The server refused it; told once, until something changes. */
        void (*refused)(Mirror *mirror, const char *message, void *data);
} MirrorEvents;

/* static_json and names are copied. node_uid: "" until the node is registered (mirror_set_node). */
int mirror_new(Loop *loop, ApiClient *api, const Pod *pod, const char *node_name,
               const char *node_uid, const MirrorEvents *events, void *data, Mirror **ret,
               KlError **err);
/* Leaves the mirror in the API as it is. */
Mirror *mirror_free(Mirror *mirror);
KL_DEFINE_CLEANUP(Mirror *, mirror_free);

void mirror_set_node(Mirror *mirror, const char *node_uid);

/* What the watch saw under the mirror's name; present false: it is not there. */
void mirror_observed(Mirror *mirror, bool present, const char *uid, const char *hash);

#endif
