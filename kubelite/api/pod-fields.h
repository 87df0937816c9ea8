/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_API_POD_FIELDS_H
#define KUBELITE_API_POD_FIELDS_H

#include "api/pod.h"
#include "base/buf.h"

/* What the downward API tells of a pod, in environment variables and volumes. */
typedef struct PodFacts {
        const char *node_name;
        char *const *pod_ips; /* NULL or empty while there are none */
        char *const *host_ips;
        int64_t allocatable_cpu_milli, allocatable_memory, allocatable_storage;
} PodFacts;

/*
 * Appends the value: metadata.name, metadata.labels['k'], spec.nodeName, status.podIP,
 * limits.cpu of a container divided by its divisor (rounded up), … `container` is the one asked for
 * when a resource reference names none. -EINVAL with a message for what does not exist.
 */
int pod_field_resolve(const Pod *pod, const PodFacts *facts, const FieldSelector *field,
                      const Container *container, Buf *to, KlError **err);

#endif
