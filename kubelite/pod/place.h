/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_PLACE_H
#define KUBELITE_POD_PLACE_H

#include "runtime/runtime.h"

/* Who is meant, as requests say it, and where that runs now. */

typedef struct PlaceName {
        const char *namespace, *pod;
        const char *uid;       /* of the pod; NULL: any */
        const char *container; /* NULL: only the pod is asked for */
} PlaceName;

/* Borrowed: valid until the next turn of the loop. */
typedef struct Place {
        const char *pod_uid;
        bool uid_differs;         /* the pod of that name is not the one with the uid asked for */
        Sandbox *sandbox;         /* NULL: it has none that is ready, or the uid differs */
        const char *container_id; /* NULL: it is not running, or there is none of that name */
        bool tty, stdin_open;     /* of the container */
} Place;

#endif
