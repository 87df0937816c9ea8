/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_PREEMPT_H
#define KUBELITE_POD_PREEMPT_H

#include "api/pod.h"

/*
 * Whom to end so that a critical pod fits: as few pods as possible, best effort before burstable
 * before guaranteed, and of equal ones the smaller (pkg/kubelet/preemption). Pure.
 */

typedef struct Shortage {
        const char *resource; /* "pods" too */
        int64_t amount;
} Shortage;

#define SHORTAGES_MAX 32

/*
 * Sets chosen[i] for others that have to end. 1: all of them together would not do; chosen is then
 * all false and *ret_message, to be freed, says what would still be missing.
 */
int pod_preempt(const Pod *pod, const Pod *const *others, size_t n_others,
                const Shortage *shortages, size_t n_shortages, bool *chosen, char **ret_message);

#endif
