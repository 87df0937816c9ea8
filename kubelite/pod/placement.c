/* SPDX-License-Identifier: Apache-2.0 */

#include "pod/placement.h"

#include "base/str.h"

#define PRIORITY_SYSTEM 2000000000 /* scheduling.SystemCriticalPriority */

/* --- node selector and affinity --- */

static bool compares(const NodeRequirement *r, const char *value)
{
        bool greater = str_eq(r->operator, "Gt");
        int64_t have, want;

        if (strv_len(r->values) != 1 || !value ||
            str_to_i64(value, INT64_MIN, INT64_MAX, &have) < 0 ||
            str_to_i64(r->values[0], INT64_MIN, INT64_MAX, &want) < 0)
                return false;
        return greater ? have > want : have < want;
}

static bool requirement_holds(const NodeRequirement *r, const char *value)
{
        bool listed = value && r->values && strv_contains(r->values, value);

        if (str_eq(r->operator, "In"))
                return listed;
        if (str_eq(r->operator, "NotIn"))
                return !listed;
        if (str_eq(r->operator, "Exists"))
                return value;
        if (str_eq(r->operator, "DoesNotExist"))
                return !value;
        return compares(r, value);
}

static bool term_holds(const PodContext *context, const NodeTerm *term)
{
        for (size_t i = 0; i < term->n_labels; i++) {
                const NodeRequirement *r = &term->labels[i];

                if (!requirement_holds(r, key_values_get(&context->node_labels, r->key)))
                        return false;
        }
        for (size_t i = 0; i < term->n_fields; i++) {
                const NodeRequirement *r = &term->fields[i];
                const char *value = str_eq(r->key, "metadata.name") ? context->node_name : NULL;

                if (!requirement_holds(r, value))
                        return false;
        }
        return term->n_labels + term->n_fields > 0;
}

bool pod_selects_node(const PodContext *context, const Pod *pod)
{
        for (size_t i = 0; i < pod->node_selector.n; i++) {
                const KeyValue *want = &pod->node_selector.items[i];

                if (!str_eq(key_values_get(&context->node_labels, want->key), want->value))
                        return false;
        }
        if (!pod->has_node_terms)
                return true;
        for (size_t i = 0; i < pod->n_node_terms; i++)
                if (term_holds(context, &pod->node_terms[i]))
                        return true;
        return false;
}

/* --- taints --- */

static bool tolerates(const Toleration *t, const NodeTaint *taint)
{
        if (!str_empty(t->effect) && !str_eq(t->effect, taint->effect))
                return false;
        if (!str_empty(t->key) && !str_eq(t->key, taint->key))
                return false;
        if (str_eq(t->operator, "Exists"))
                return true;
        return (str_empty(t->operator) || str_eq(t->operator, "Equal")) &&
               str_eq(t->value ? t->value : "", taint->value ? taint->value : "");
}

bool pod_tolerates(const Pod *pod, const NodeTaint *taint)
{
        for (size_t i = 0; i < pod->n_tolerations; i++)
                if (tolerates(&pod->tolerations[i], taint))
                        return true;
        return false;
}

bool pod_is_tainted_off(const PodContext *context, const Pod *pod)
{
        for (size_t i = 0; i < context->n_node_taints; i++) {
                const NodeTaint *taint = &context->node_taints[i];

                if (str_eq(taint->effect, "NoExecute") && !pod_tolerates(pod, taint))
                        return true;
        }
        return false;
}

/* --- ports --- */

/* Init containers' ports do not count: upstream looks at spec.containers, and at sidecars. */
static bool holds_ports(const Container *c)
{
        return c->kind == CONTAINER_MAIN || c->sidecar;
}

static bool ports_conflict(const ContainerPort *a, const ContainerPort *b)
{
        bool any = str_empty(a->host_ip) || str_empty(b->host_ip) ||
                   str_eq(a->host_ip, "0.0.0.0") || str_eq(b->host_ip, "0.0.0.0");

        return a->host_port && a->host_port == b->host_port && str_eq(a->protocol, b->protocol) &&
               (any || str_eq(a->host_ip, b->host_ip));
}

static bool container_wants(const Container *c, const ContainerPort *port)
{
        for (size_t i = 0; holds_ports(c) && i < c->n_ports; i++)
                if (ports_conflict(&c->ports[i], port))
                        return true;
        return false;
}

static bool pod_wants(const Pod *pod, const ContainerPort *port)
{
        for (size_t i = 0; i < pod->n_containers; i++)
                if (container_wants(&pod->containers[i], port))
                        return true;
        return false;
}

bool pods_share_port(const Pod *a, const Pod *b)
{
        for (size_t i = 0; i < a->n_containers; i++)
                for (size_t p = 0; holds_ports(&a->containers[i]) && p < a->containers[i].n_ports;
                     p++)
                        if (pod_wants(b, &a->containers[i].ports[p]))
                                return true;
        return false;
}

bool pod_is_critical(const Pod *pod)
{
        return pod->is_static || (pod->has_priority && pod->priority >= PRIORITY_SYSTEM);
}
