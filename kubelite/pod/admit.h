/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_ADMIT_H
#define KUBELITE_POD_ADMIT_H

#include "pod/context.h"

/*
 * Whether this node takes a pod, decided once, when it comes: pressure, sysctls, operating system,
 * resources beside the pods that are here, node selector and affinity, host ports, taints. Pure.
 */

#define ADMISSION_REASON_SIZE 320 /* "OutOf" and the name of a resource */

typedef struct Admission {
        char reason[ADMISSION_REASON_SIZE];
        char *message;   /* upstream's words */
        bool *preempted; /* taken if these of the others end; NULL: nobody has to */
} Admission;

/* 0: taken. 1: refused, with reason and message. `others` are those that still hold resources. */
int pod_admit(const PodContext *context, const Pod *pod, const Pod *const *others, size_t n_others,
              Admission *ret);
void admission_deinit(Admission *admission);

#endif
