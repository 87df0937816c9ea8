/* SPDX-License-Identifier: Apache-2.0 */

/* Decoding of what binds a pod to nodes: required node affinity, tolerations. */

#include "api/pod-internal.h"

#include "base/str.h"

static int decode_requirement(const Decode *d, const Field *f, NodeRequirement *ret)
{
        static const char *const operators[] = {
                "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"
        };
        Field op = field_get(f, "operator");

        KL_TRY(decode_name(d, f, "key", &ret->key));
        KL_TRY(decode_name(d, f, "operator", &ret->operator));
        KL_TRY(field_strv(f, "values", d->arena, &ret->values, d->err));
        for (size_t i = 0; i < ELEMENTS(operators); i++)
                if (strcmp(ret->operator, operators[i]) == 0)
                        return 0;
        return field_error(&op, d->err, "'%s' is no operator", ret->operator);
}

static int decode_requirements(const Decode *d, const Field *term, const char *key,
                               NodeRequirement **ret, size_t *ret_n)
{
        Field list;
        size_t n;

        KL_TRY(field_array(term, key, POD_LIST_MAX, &list, &n, d->err));
        *ret = ARENA_ARRAY(d->arena, n + 1, NodeRequirement);
        if (!*ret)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);

                KL_TRY(decode_requirement(d, &f, &(*ret)[(*ret_n)++]));
        }
        return 0;
}

static int decode_node_terms(const Decode *d, const Field *spec, Pod *pod)
{
        Field affinity = field_get(spec, "affinity"), node = field_get(&affinity, "nodeAffinity");
        Field required = field_get(&node, "requiredDuringSchedulingIgnoredDuringExecution"), list;
        size_t n;

        if (!field_present(&required))
                return 0;
        KL_TRY(field_array(&required, "nodeSelectorTerms", POD_LIST_MAX, &list, &n, d->err));
        pod->node_terms = ARENA_ARRAY(d->arena, n + 1, NodeTerm);
        if (!pod->node_terms)
                return kl_error_oom(d->err);
        pod->has_node_terms = true;
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);
                NodeTerm *term = &pod->node_terms[pod->n_node_terms++];

                KL_TRY(decode_requirements(d, &f, "matchExpressions", &term->labels,
                                           &term->n_labels));
                KL_TRY(decode_requirements(d, &f, "matchFields", &term->fields, &term->n_fields));
        }
        return 0;
}

static int decode_tolerations(const Decode *d, const Field *spec, Pod *pod)
{
        Field list;
        size_t n;

        KL_TRY(field_array(spec, "tolerations", POD_LIST_MAX, &list, &n, d->err));
        pod->tolerations = ARENA_ARRAY(d->arena, n + 1, Toleration);
        if (!pod->tolerations)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);
                Toleration *t = &pod->tolerations[pod->n_tolerations++];

                KL_TRY(field_str(&f, "key", d->arena, &t->key, d->err));
                KL_TRY(field_str(&f, "operator", d->arena, &t->operator, d->err));
                KL_TRY(field_str(&f, "value", d->arena, &t->value, d->err));
                KL_TRY(field_str(&f, "effect", d->arena, &t->effect, d->err));
        }
        return 0;
}

int decode_placement(const Decode *d, const Field *spec, Pod *pod)
{
        KL_TRY(decode_node_terms(d, spec, pod));
        return decode_tolerations(d, spec, pod);
}
