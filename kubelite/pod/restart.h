/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_RESTART_H
#define KUBELITE_POD_RESTART_H

#include "api/pod.h"

/*
 * Whether a container that ended is to run again: the first of its own rules that matches, else its
 * own policy, else the pod's (KEP-5307). Pure.
 */

typedef enum RestartRule {
        RULE_NONE, /* no rule matches: the policy decides */
        RULE_RESTART,
        RULE_RESTART_ALL, /* every container of the pod starts over, init containers first */
} RestartRule;

RestartRule restart_rule(const Container *container, int exit_code);

/* policy: restart_policy_of(); rule: of its last exit. */
bool restart_wanted(ContainerKind kind, RestartPolicy policy, RestartRule rule, int exit_code);

RestartPolicy restart_policy_of(const Pod *pod, const Container *container);

/* Some container has a rule with RestartAllContainers. */
bool restart_all_possible(const Pod *pod);

#endif
