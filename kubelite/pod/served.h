/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_SERVED_H
#define KUBELITE_POD_SERVED_H

#include "pod/manager.h"
#include "pod/place.h"
#include "pod/worker.h"
#include "stats/stats.h"

/* What the kubelet API shows of the node's pods. */

/* v1.PodList of all pods with their present status. 0 or -ENOMEM. */
int pod_manager_write_pods(PodManager *manager, Buf *to);
/* v1.PodList of pods with running containers: names, images and nothing else. */
int pod_manager_write_running(PodManager *manager, Buf *to);

/*
 * The log of a container's present run, or of the one before. -ENOENT when pod or container are not
 * here, -EINVAL when there is no such run; the message is what upstream answers. To be freed.
 */
int pod_manager_find_log(PodManager *manager, const char *namespace, const char *pod,
                         const char *container, bool previous, char **ret_path, KlError **err);
/* Whether more may be written to it. */
bool pod_manager_log_goes_on(PodManager *manager, const char *namespace, const char *pod,
                             const char *container, const char *path);

/* Names every pod that has a sandbox to the gathering. */
void pod_manager_list_stats(PodManager *manager, StatsGather *gather);
/* One pod; nothing while it has no sandbox. 0 or -ENOMEM. */
int pod_worker_list_stats(const PodWorker *worker, StatsGather *gather);
/* Sets the gauges of what there is now: pods, containers, volumes. */
void pod_manager_count(PodManager *manager);

/* Where a pod, and perhaps one of its containers, runs. -ENOENT: there is no such pod here. */
int pod_manager_find_place(PodManager *manager, const PlaceName *name, Place *ret);

#endif
