/* SPDX-License-Identifier: Apache-2.0 */

/* Restart policies and rules of containers. */

#include "pod/restart.h"

static bool rule_matches(const RestartRuleSpec *rule, int exit_code)
{
        for (size_t i = 0; i < rule->n_exit_codes; i++)
                if (rule->exit_codes[i] == exit_code)
                        return !rule->not_in;
        return rule->not_in;
}

RestartRule restart_rule(const Container *container, int exit_code)
{
        for (size_t i = 0; i < container->n_restart_rules; i++) {
                const RestartRuleSpec *rule = &container->restart_rules[i];

                if (rule_matches(rule, exit_code))
                        return rule->all_containers ? RULE_RESTART_ALL : RULE_RESTART;
        }
        return RULE_NONE;
}

bool restart_wanted(ContainerKind kind, RestartPolicy policy, RestartRule rule, int exit_code)
{
        if (kind == CONTAINER_EPHEMERAL)
                return false;
        if (rule != RULE_NONE)
                return true;
        return policy == RESTART_ALWAYS || (policy == RESTART_ON_FAILURE && exit_code != 0);
}

RestartPolicy restart_policy_of(const Pod *pod, const Container *container)
{
        if (container->has_restart_policy)
                return container->restart_policy;
        /* Init containers end: of them, Always means until they succeed. */
        if (container->kind == CONTAINER_INIT && pod->restart_policy == RESTART_ALWAYS)
                return RESTART_ON_FAILURE;
        return pod->restart_policy;
}

bool restart_all_possible(const Pod *pod)
{
        for (size_t i = 0; i < pod->n_containers; i++)
                for (size_t k = 0; k < pod->containers[i].n_restart_rules; k++)
                        if (pod->containers[i].restart_rules[k].all_containers)
                                return true;
        return false;
}
