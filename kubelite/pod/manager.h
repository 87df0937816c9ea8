/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_MANAGER_H
#define KUBELITE_POD_MANAGER_H

#include "codec/json.h"
#include "pod/context.h"

/*
 * All pods of the node: from the API (a watch by spec.nodeName) and from manifests, each with a
 * worker; what runs without anybody wanting it is cleared away. Statuses go back through
 * pod/sync.h.
 */
typedef struct PodManager PodManager;

typedef struct PodManagerOptions {
        const char *manifest_path; /* staticPodPath, or "" */
        uint64_t file_check_ms;
} PodManagerOptions;

int pod_manager_new(const PodContext *context, const PodManagerOptions *options, PodManager **ret,
                    KlError **err);
/* Pods go on running. */
PodManager *pod_manager_free(PodManager *manager);
KL_DEFINE_CLEANUP(PodManager *, pod_manager_free);

/* Adopts what an earlier daemon left running, then follows the sources. */
int pod_manager_start(PodManager *manager, KlError **err);

/* The context's network configuration, addresses or node uid changed. */
void pod_manager_poke(PodManager *manager);

/* Disk is short: records, writable layers and logs of containers that ended and are not needed to
 * run their pod go, in the background. True if there is any. */
bool pod_manager_remove_dead(PodManager *manager);

/* The local commands' views; server/control.h has the shapes. */
typedef struct PodFilter {
        const char *namespace; /* NULL: all */
        const char *name;      /* of the pod; NULL: all */
        const char *container; /* NULL: all */
        bool all;              /* containers that do not run, and earlier runs, too */
} PodFilter;

void pod_manager_list(PodManager *manager, const PodFilter *filter, JsonWriter *w);
void pod_manager_list_containers(PodManager *manager, const PodFilter *filter, JsonWriter *w);
/* A pod (uid, name, or namespace/name) or a container (id, its beginning, or name); 1: there is
 * none. */
int pod_manager_inspect(PodManager *manager, const char *namespace, const char *what,
                        JsonWriter *w);

#endif
