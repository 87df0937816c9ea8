/* SPDX-License-Identifier: Apache-2.0 */

/* The pod decoder, and what is computed from a pod alone: admission, files, a rendered status. */

#include "codec/yaml.h"
#include "pod/admit.h"
#include "pod/status.h"

#include <assert.h>

static void use_pod(const Pod *pod)
{
        static const ResourceAmount amounts[] = { { "cpu", 1000 }, { "pods", 110 } };
        const PodContext context = { .node_name = "n",
                                     .allocatable = amounts,
                                     .n_allocatable = 2,
                                     .facts = { .node_name = "n" } };
        ContainerView views[POD_CONTAINERS_MAX] = { 0 };
        ConditionMemory conditions[CONDITION_COUNT] = { 0 };
        PodView view = { .pod = pod, .containers = views, .conditions = conditions };
        DnsSettings dns = { .host_resolv = "nameserver 1.1.1.1\n" };
        KL_AUTOFREE char *hostname = NULL;
        KL_AUTOFREE char *domain = NULL;
        KL_AUTOBUF text = BUF_INIT;
        PodStatus status;
        Admission admission;
        DnsNotes notes;

        for (size_t i = 0; i < pod->n_containers; i++)
                views[i].spec = &pod->containers[i];
        pod_admit(&context, pod, &pod, 1, &admission);
        admission_deinit(&admission);
        assert(pod_status_render(&view, &status) == 0);
        pod_status_deinit(&status);
        files_resolv_conf(pod, &dns, &notes, &text);
        dns_notes_deinit(&notes);
        if (files_hostname(pod, "c.local", &hostname, &domain, NULL) == 0)
                files_hosts(pod, hostname, domain, NULL, NULL, &text);
        assert(buf_error(&text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTO(value_free) Value *v = NULL;
        KL_AUTO(pod_free) Pod *pod = NULL;
        KL_AUTOERR err = NULL;

        if (yaml_read((const char *)data, size, &v, NULL) < 0 || !v)
                return 0;
        if (pod_decode(v, &pod, &err) < 0) {
                assert(err && !pod);
                return 0;
        }
        use_pod(pod);
        return 0;
}
