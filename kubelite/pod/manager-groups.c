/* SPDX-License-Identifier: Apache-2.0 */

/* The group of all burstable pods weighs as much as they request together; that of best effort
 * pods has the least weight, set when it is made (pkg/kubelet/cm/qos_container_manager_linux.go).
 */

#include "base/log.h"
#include "pod/compile.h"
#include "pod/manager-internal.h"

static void on_regroup(Deferred *deferred, void *data)
{
        PodManager *m = data;
        size_t n = 0;
        KL_AUTOFREE const Pod **pods = manager_active_pods(m, NULL, NULL, &n);
        KL_AUTOERR err = NULL;
        Resources resources;

        if (!pods)
                return;
        resources = compile_burstable_resources(pods, n);
        if (resources.cpu_shares == m->burstable_shares)
                return;
        m->burstable_shares = resources.cpu_shares;
        if (runtime_set_qos_resources(m->context->runtime, QOS_BURSTABLE, &resources, &err) < 0)
                log_warning(NULL, "Burstable pods keep their weight, ignoring: %s",
                            kl_error_msg(err));
}

int manager_groups_init(PodManager *m)
{
        m->regroup = deferred_new(m->context->loop, on_regroup, m);
        if (!m->regroup)
                return -ENOMEM;
        deferred_schedule(m->regroup);
        return 0;
}
