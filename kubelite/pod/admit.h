/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_ADMIT_H
#define KUBELITE_POD_ADMIT_H

#include "pod/context.h"

/*
 * Whether this node takes a pod, decided once, when it comes: operating system, node selector,
 * resources beside the pods that are here, host ports, sysctls. Pure.
 *
 * 0: taken. 1: refused; *ret_reason is static, *ret_message is to be freed (upstream's words).
 */
int pod_admit(const PodContext *context, const Pod *pod, const Pod *const *others, size_t n_others,
              const char **ret_reason, char **ret_message);

#endif
