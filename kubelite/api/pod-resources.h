/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_API_POD_RESOURCES_H
#define KUBELITE_API_POD_RESOURCES_H

#include "api/pod.h"

/*
 * What a pod as a whole asks for: its containers' resources added up as scheduler and kubelet do it
 * (KEP-753: sidecars run beside the main containers and beside the init containers after them;
 * KEP-2837: values of the pod itself win; overhead comes on top). CPU in thousandths, all others in
 * units, saturating at INT64_MAX.
 */

/* Of a list; -1 where it does not name the resource. */
int64_t resource_amount(const KeyValues *list, const char *name);

/* 0 where nothing asks for it. */
int64_t pod_request(const Pod *pod, const char *name);
/* The sum of the limits that there are; -1 where nothing limits it. */
int64_t pod_limit(const Pod *pod, const char *name);
/* The same if it binds the pod as a whole: every container has one, or the pod itself. 0 if not. */
int64_t pod_limit_bound(const Pod *pod, const char *name);

/* Names of the resources that a pod requests, each once, in the order of their first appearance.
 * Borrowed from the pod; to be freed. NULL: out of memory. */
const char **pod_requested_names(const Pod *pod, size_t *ret_n);

/* "hugepages-2Mi" and the like; "example.com/gpu": a name with a domain that is not Kubernetes'. */
bool resource_is_hugepages(const char *name);
bool resource_is_extended(const char *name);

#endif
