/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_ADMIT_SECURITY_H
#define KUBELITE_POD_ADMIT_SECURITY_H

#include "pod/context.h"

/*
 * What of a pod's security this node cannot give: sysctls that are not allowed, AppArmor and
 * SELinux. Pure. 0: nothing; 1: refused, *ret_message is to be freed.
 */
int admit_sysctls(const PodContext *context, const Pod *pod, const char **ret_reason,
                  char **ret_message);
int admit_modules(const PodContext *context, const Pod *pod, const char **ret_reason,
                  char **ret_message);

#endif
