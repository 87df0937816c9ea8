/* SPDX-License-Identifier: Apache-2.0 */

#include "pod/preempt.h"

#include "api/pod-resources.h"
#include "base/buf.h"
#include "base/str.h"
#include "pod/placement.h"
#include "pod/status.h"

typedef struct Preemption {
        const Pod *const *others;
        size_t n_others;
        bool *candidate, *chosen;
} Preemption;

static bool may_preempt(const Pod *pod, const Pod *other)
{
        if (pod_is_critical(pod) && !pod_is_critical(other))
                return true;
        return pod->has_priority && other->has_priority && pod->priority > other->priority;
}

static int64_t frees(const Pod *pod, const char *resource)
{
        return str_eq(resource, "pods") ? 1 : pod_request(pod, resource);
}

/* What is still missing when these pods are gone: shortages shrink, and go at 0. */
static size_t subtract(const Shortage *from, size_t n, const Pod *pod, Shortage *ret)
{
        size_t left = 0;

        for (size_t i = 0; i < n; i++) {
                int64_t amount = from[i].amount - frees(pod, from[i].resource);

                if (amount > 0)
                        ret[left++] = (Shortage){ from[i].resource, amount };
        }
        return left;
}

/* Of the candidates of other classes those that are chosen (or, of classes below, all) are counted
 * as gone already. */
static size_t left_after(const Preemption *p, const Shortage *shortages, size_t n, PodQos qos,
                         Shortage *ret)
{
        for (size_t i = 0; i < n; i++)
                ret[i] = shortages[i];
        for (size_t i = 0; i < p->n_others; i++) {
                PodQos other = pod_qos(p->others[i]);

                if (p->candidate[i] && (p->chosen[i] || other > qos))
                        n = subtract(ret, n, p->others[i], ret);
        }
        return n;
}

static double distance(const Pod *pod, const Shortage *shortages, size_t n)
{
        double sum = 0;

        for (size_t i = 0; i < n; i++) {
                double left = (double)(shortages[i].amount - frees(pod, shortages[i].resource)) /
                              (double)shortages[i].amount;

                if (left > 0)
                        sum += left * left;
        }
        return sum;
}

static bool is_smaller(const Pod *a, const Pod *b)
{
        int64_t x = pod_request(a, "memory"), y = pod_request(b, "memory");

        if (x != y)
                return x < y;
        return pod_request(a, "cpu") <= pod_request(b, "cpu");
}

/* -1: there is none left. */
static int nearest(const Preemption *p, PodQos qos, const Shortage *shortages, size_t n)
{
        double best_distance = 0;
        int best = -1;

        for (size_t i = 0; i < p->n_others; i++) {
                double d;

                if (!p->candidate[i] || p->chosen[i] || pod_qos(p->others[i]) != qos)
                        continue;
                d = distance(p->others[i], shortages, n);
                if (best < 0 || d < best_distance ||
                    (d == best_distance && is_smaller(p->others[i], p->others[best]))) {
                        best = (int)i;
                        best_distance = d;
                }
        }
        return best;
}

static void choose(Preemption *p, PodQos qos, const Shortage *shortages, size_t n)
{
        Shortage left[SHORTAGES_MAX];
        int i;

        n = left_after(p, shortages, n, qos, left);
        while (n > 0 && (i = nearest(p, qos, left, n)) >= 0) {
                p->chosen[i] = true;
                n = subtract(left, n, p->others[i], left);
        }
}

static char *missing_text(const Shortage *left, size_t n)
{
        KL_AUTOBUF text = BUF_INIT;

        buf_add_str(&text, "preemption: error finding a set of pods to preempt: no set of running "
                           "pods found to reclaim resources: [");
        for (size_t i = 0; i < n; i++)
                buf_addf(&text, "(res: %s, q: %lld), ", left[i].resource,
                         (long long)left[i].amount);
        buf_add_char(&text, ']');
        return buf_steal(&text);
}

int pod_preempt(const Pod *pod, const Pod *const *others, size_t n_others,
                const Shortage *shortages, size_t n_shortages, bool *chosen, char **ret_message)
{
        KL_AUTOFREE bool *candidate = calloc(n_others + 1, sizeof(*candidate));
        Preemption p = { others, n_others, candidate, chosen };
        Shortage left[SHORTAGES_MAX];
        size_t n = n_shortages < SHORTAGES_MAX ? n_shortages : SHORTAGES_MAX;

        for (size_t i = 0; i < n_others; i++)
                chosen[i] = false;
        if (!candidate)
                return 1;
        for (size_t i = 0; i < n; i++)
                left[i] = shortages[i];
        for (size_t i = 0; i < n_others; i++) {
                candidate[i] = may_preempt(pod, others[i]);
                if (candidate[i])
                        n = subtract(left, n, others[i], left);
        }
        if (n > 0) {
                *ret_message = missing_text(left, n);
                return 1;
        }
        n = n_shortages < SHORTAGES_MAX ? n_shortages : SHORTAGES_MAX;
        choose(&p, POD_GUARANTEED, shortages, n);
        choose(&p, POD_BURSTABLE, shortages, n);
        choose(&p, POD_BEST_EFFORT, shortages, n);
        return 0;
}
