/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_SYNC_H
#define KUBELITE_POD_SYNC_H

#include "api/client.h"
#include "pod/status.h"

/*
 * Brings one pod's status to the API: one patch in flight, of what changed against what was last
 * accepted; failures are retried with back-off (500 ms doubling to 30 s); at the end the pod's
 * deletion. The newest status wins, none that matters is lost.
 */
typedef struct StatusSync StatusSync;

typedef struct StatusSyncEvents {
        /* The API does not hold this pod any more (404, another uid, or our deletion succeeded). */
        void (*gone)(StatusSync *sync, void *data);
} StatusSyncEvents;

int status_sync_new(Loop *loop, ApiClient *api, const StatusSyncEvents *events, void *data,
                    StatusSync **ret, KlError **err);
StatusSync *status_sync_free(StatusSync *sync);
KL_DEFINE_CLEANUP(StatusSync *, status_sync_free);

/* Whom the status belongs to. A changed uid (a new mirror pod) starts from nothing. 0 or -ENOMEM.
 */
int status_sync_target(StatusSync *sync, const char *namespace, const char *name, const char *uid);

/* Consumes status. Sent at the end of the turn, or when the one in flight is done. */
void status_sync_post(StatusSync *sync, PodStatus *status);

/* Deletes the pod from the API with grace 0 and its uid as a precondition, after the last status.
 */
void status_sync_delete(StatusSync *sync);

/* The last status posted, accepted or not; NULL before the first. */
const PodStatus *status_sync_last(const StatusSync *sync);

#endif
