/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Node admission, in upstream's order: pressure (pkg/kubelet/eviction), sysctls
 * (pkg/kubelet/sysctl), then what pkg/kubelet/lifecycle/predicate.go looks at. Of several reasons
 * the first is told.
 */

#include "pod/admit.h"

#include "api/pod-resources.h"
#include "base/buf.h"
#include "base/str.h"
#include "pod/admit-security.h"
#include "pod/placement.h"
#include "pod/preempt.h"
#include "pod/status.h"

#define REASON_PREFIX "OutOf"

/* message is consumed. */
static int refuse(Admission *ret, const char *reason, char *message)
{
        snprintf(ret->reason, sizeof(ret->reason), "%s", reason);
        free(ret->message);
        ret->message = message;
        return 1;
}

/* What admit-security.c says. */
static int admit_by(int (*judge)(const PodContext *, const Pod *, const char **, char **),
                    const PodContext *context, const Pod *pod, Admission *ret)
{
        const char *reason = NULL;
        char *message = NULL;

        return judge(context, pod, &reason, &message) ? refuse(ret, reason, message) : 0;
}

/* Upstream's driver ran git as root on what a stranger chose (CVE-2024-10220, CVE-2025-1767). */
static int admit_volumes(const Pod *pod, Admission *ret)
{
        for (size_t i = 0; i < pod->n_volumes; i++)
                if (str_eq(pod->volumes[i].type, "gitRepo"))
                        return refuse(ret, "GitRepoVolumeForbidden",
                                      str_format("volume \"%s\": this node never mounts gitRepo "
                                                 "volumes; clone in an init container instead",
                                                 pod->volumes[i].name));
        return 0;
}

/* --- pressure --- */

static const char *const pressure_names[NODE_PRESSURES] = {
        [PRESSURE_MEMORY] = "MemoryPressure",
        [PRESSURE_DISK] = "DiskPressure",
        [PRESSURE_PID] = "PIDPressure",
};

static int admit_pressure(const PodContext *context, const Pod *pod, Admission *ret)
{
        const NodeTaint taint = { "node.kubernetes.io/memory-pressure", "", "NoSchedule" };
        const bool *p = context->pressure;
        KL_AUTOBUF list = BUF_INIT;

        if ((!p[PRESSURE_MEMORY] && !p[PRESSURE_DISK] && !p[PRESSURE_PID]) || pod_is_critical(pod))
                return 0;
        if (!p[PRESSURE_DISK] && !p[PRESSURE_PID] &&
            (pod_qos(pod) != POD_BEST_EFFORT || pod_tolerates(pod, &taint)))
                return 0;
        for (size_t i = 0; i < NODE_PRESSURES; i++)
                if (p[i])
                        buf_addf(&list, "%s%s", list.len ? " " : "", pressure_names[i]);
        return refuse(ret, "Evicted", str_format("The node had condition: [%s]. ", buf_str(&list)));
}

/* --- resources --- */

typedef struct Fit {
        const PodContext *context;
        const Pod *pod;
        const Pod *const *others;
        size_t n_others;
        Shortage shortages[SHORTAGES_MAX];
        size_t n_shortages;
        char *message; /* of the first */
} Fit;

static void fit_short(Fit *f, const char *name, int64_t want, int64_t used, int64_t capacity)
{
        if (f->n_shortages == 0)
                f->message =
                        str_format("Node didn't have enough resource: %s, requested: %lld, "
                                   "used: %lld, capacity: %lld",
                                   name, (long long)want, (long long)used, (long long)capacity);
        if (f->n_shortages < SHORTAGES_MAX)
                f->shortages[f->n_shortages++] = (Shortage){ name, want - (capacity - used) };
}

/* -1: the node has no such thing. */
static int64_t allocatable(const PodContext *context, const char *name)
{
        for (size_t i = 0; i < context->n_allocatable; i++)
                if (str_eq(context->allocatable[i].name, name))
                        return context->allocatable[i].value;
        return -1;
}

static void fit_resource(Fit *f, const char *name)
{
        int64_t want = pod_request(f->pod, name), capacity = allocatable(f->context, name);
        int64_t used = 0;

        /* Extended resources that the node does not know are the cluster's, not the node's. */
        if (want == 0 || (capacity < 0 && resource_is_extended(name)))
                return;
        for (size_t i = 0; i < f->n_others; i++)
                used += pod_request(f->others[i], name);
        if (capacity < 0)
                capacity = 0;
        if (want > capacity - used)
                fit_short(f, name, want, used, capacity);
}

static bool is_plain(const char *name)
{
        return str_eq(name, "cpu") || str_eq(name, "memory") || str_eq(name, "ephemeral-storage");
}

static bool is_scalar(const char *name)
{
        return resource_is_hugepages(name) || strchr(name, '/');
}

static int fit_resources(Fit *f)
{
        int64_t pods = allocatable(f->context, "pods");
        KL_AUTOFREE const char **names = NULL;
        size_t n;

        if (pods >= 0 && (int64_t)f->n_others + 1 > pods)
                fit_short(f, "pods", 1, (int64_t)f->n_others, pods);
        names = pod_requested_names(f->pod, &n);
        if (!names)
                return -ENOMEM;
        fit_resource(f, "cpu");
        fit_resource(f, "memory");
        /* A node without such a capacity (localStorageCapacityIsolation off) does not count it. */
        if (allocatable(f->context, "ephemeral-storage") >= 0)
                fit_resource(f, "ephemeral-storage");
        for (size_t i = 0; i < n; i++)
                if (!is_plain(names[i]) && is_scalar(names[i]))
                        fit_resource(f, names[i]);
        return 0;
}

/* --- the node --- */

static bool shares_any_port(const Fit *f)
{
        for (size_t i = 0; i < f->n_others; i++)
                if (pods_share_port(f->pod, f->others[i]))
                        return true;
        return false;
}

/* The first of upstream's further filters that fails, or NULL. */
static const char *misplaced(const Fit *f, const char **ret_text)
{
        const PodContext *context = f->context;
        const Pod *pod = f->pod;

        *ret_text = "node(s) didn't match Pod's node affinity/selector";
        if (!pod_selects_node(context, pod))
                return "NodeAffinity";
        *ret_text = "node(s) didn't match the requested node name";
        if (!str_empty(pod->node_name) && !str_eq(pod->node_name, context->node_name))
                return "NodeName";
        *ret_text = "node(s) didn't have free ports for the requested pod ports";
        if (shares_any_port(f))
                return "NodePorts";
        *ret_text = "node(s) had taints that the pod didn't tolerate";
        return !pod->is_static && pod_is_tainted_off(context, pod) ? "TaintToleration" : NULL;
}

static int admit_by_preemption(const Fit *f, Admission *ret)
{
        char *missing = NULL;
        KL_AUTOFREE char *text = NULL;

        ret->preempted = calloc(f->n_others + 1, sizeof(*ret->preempted));
        if (!ret->preempted)
                return refuse(ret, "UnexpectedAdmissionError", NULL);
        if (pod_preempt(f->pod, f->others, f->n_others, f->shortages, f->n_shortages,
                        ret->preempted, &missing) == 0)
                return 0;
        text = missing;
        return refuse(ret, "UnexpectedAdmissionError",
                      str_format("Unexpected error while attempting to recover from admission "
                                 "failure: %s",
                                 text ? text : "out of memory"));
}

static int admit_fit(Fit *f, Admission *ret)
{
        const char *text, *filter;
        char reason[sizeof(ret->reason)];

        if (fit_resources(f) < 0)
                return refuse(ret, "UnexpectedAdmissionError", strdup("out of memory"));
        filter = misplaced(f, &text);
        if (filter && (f->n_shortages == 0 || pod_is_critical(f->pod)))
                return refuse(ret, filter, str_format("Predicate %s failed: %s", filter, text));
        if (f->n_shortages == 0)
                return 0;
        if (pod_is_critical(f->pod))
                return admit_by_preemption(f, ret);
        snprintf(reason, sizeof(reason), REASON_PREFIX "%s", f->shortages[0].resource);
        return refuse(ret, reason, KL_STEAL(f->message));
}

static int admit_system(const Pod *pod, Admission *ret)
{
        const char *label = key_values_get(&pod->labels, "kubernetes.io/os");

        if (label && !str_eq(label, "linux"))
                return refuse(ret, "PodOSSelectorNodeLabelDoesNotMatch",
                              strdup("Failed to admit pod as the `kubernetes.io/os` label doesn't "
                                     "match node label"));
        if (!str_empty(pod->os_name) && !str_eq(pod->os_name, "linux"))
                return refuse(ret, "PodOSNotSupported",
                              strdup("Failed to admit pod as the OS field doesn't match node OS"));
        return 0;
}

int pod_admit(const PodContext *context, const Pod *pod, const Pod *const *others, size_t n_others,
              Admission *ret)
{
        Fit fit = { .context = context, .pod = pod, .others = others, .n_others = n_others };
        int r;

        *ret = (Admission){ 0 };
        if (admit_pressure(context, pod, ret) || admit_by(admit_sysctls, context, pod, ret) ||
            admit_system(pod, ret) || admit_volumes(pod, ret))
                return 1;
        r = admit_fit(&fit, ret);
        free(fit.message);
        return r ? r : admit_by(admit_modules, context, pod, ret);
}

void admission_deinit(Admission *admission)
{
        free(admission->message);
        free(admission->preempted);
        *admission = (Admission){ 0 };
}
