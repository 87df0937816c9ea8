/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_VOLUME_VOLUME_H
#define KUBELITE_VOLUME_VOLUME_H

#include "api/objects.h"
#include "api/pod-fields.h"
#include "api/pod.h"
#include "loop/loop.h"

/*
 * A pod's volumes on this node: beneath
 * <root-dir>/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>, as upstream lays them out. Contents
 * from the API (config maps, secrets, downward API, tokens) are written atomically and kept up to
 * date for as long as the set exists; secrets, tokens and memory volumes live on tmpfs only.
 * Whatever may block runs in a worker.
 */
typedef struct Volumes Volumes;       /* the room, one a daemon */
typedef struct PodVolumes PodVolumes; /* the set of one pod */

typedef struct VolumesOptions {
        const char *root_dir;
        ObjectCache *objects;
        ApiClient *client; /* for tokens; NULL: none */
} VolumesOptions;

int volumes_new(Loop *loop, const VolumesOptions *options, Volumes **ret, KlError **err);
Volumes *volumes_free(Volumes *volumes);
KL_DEFINE_CLEANUP(Volumes *, volumes_free);

typedef enum VolumesState {
        VOLUMES_PENDING,
        VOLUMES_READY,
        VOLUMES_FAILED, /* at least one cannot be set up now; retried in the background */
        VOLUMES_GONE,   /* torn down */
} VolumesState;

/* The state, the error or a path changed; never within a call of the owner. */
typedef void (*VolumesFunc)(PodVolumes *set, void *data);

/*
 * Sets up everything the pod names (in parallel). Idempotent over restarts of the daemon: what is
 * mounted is found again. Failed volumes are retried with back-off (500 ms doubling to 2 min 2 s).
 * pod and facts are borrowed until pod_volumes_update gives newer ones.
 */
int pod_volumes_new(Volumes *volumes, const Pod *pod, const PodFacts *facts, VolumesFunc func,
                    void *data, PodVolumes **ret, KlError **err);
/* Forgets the set without tearing anything down. */
PodVolumes *pod_volumes_free(PodVolumes *set);
KL_DEFINE_CLEANUP(PodVolumes *, pod_volumes_free);

/* New labels, annotations or addresses. */
void pod_volumes_update(PodVolumes *set, const Pod *pod, const PodFacts *facts);

VolumesState pod_volumes_state(const PodVolumes *set);
/* What failed, as the FailedMount event says it: `MountVolume.SetUp failed for volume "x" : …`.
 * failures counts, so that the owner emits one event a failure. */
const char *pod_volumes_message(const PodVolumes *set, unsigned int *ret_failures);

/* Where a volume is on the host; NULL while it is not set up. */
const char *pod_volume_path(const PodVolumes *set, const char *name);

/* The same for handing to the runtime: a descriptor where looking at the path may block, else -1.
 * Both are borrowed. */
int pod_volume_source(const PodVolumes *set, const char *name, const char **ret_path, int *ret_fd,
                      KlError **err);

/* Unmounts and removes everything of the pod's directory; ends in VOLUMES_GONE, retried until it
 * works. */
void pod_volumes_teardown(PodVolumes *set);

/* Directories under <root-dir>/pods of uids that are not in `live`: torn down in the background. */
int volumes_collect(Volumes *volumes, char *const *live, KlError **err);

#endif
