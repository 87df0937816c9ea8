/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_SERVICES_H
#define KUBELITE_POD_SERVICES_H

#include "api/client.h"
#include "api/pod.h"

/*
 * The cluster's services, for the environment of containers: KUBERNETES_SERVICE_HOST and its like.
 * Only what those variables need is kept of each.
 */
typedef struct Services Services;

/* changed: called when services were read for the first time. */
int services_new(ApiClient *api, void (*changed)(void *data), void *data, Services **ret,
                 KlError **err);
Services *services_free(Services *services);
KL_DEFINE_CLEANUP(Services *, services_free);

/* They were listed at least once. */
bool services_known(const Services *services);

/*
 * KEY=value strings for a pod: the API server's service, and with enableServiceLinks those of the
 * pod's namespace. NULL when out of memory. services may be NULL: nothing.
 */
char **services_environment(const Services *services, const Pod *pod);

#endif
