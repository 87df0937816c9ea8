/* SPDX-License-Identifier: Apache-2.0 */

/* Conditions, the sections of the status, and the whole object. */

#include "node/node-object.h"

#include "api/quantity.h"
#include "base/clock.h"
#include "base/str.h"
#include "codec/json.h"

#include <stdio.h>

const char *const node_condition_names[NODE_CONDITIONS] = {
        [NODE_MEMORY_PRESSURE] = "MemoryPressure",
        [NODE_DISK_PRESSURE] = "DiskPressure",
        [NODE_PID_PRESSURE] = "PIDPressure",
        [NODE_READY] = "Ready",
};

const char *const node_section_names[NODE_SECTIONS] = {
        [NODE_SECTION_ADDRESSES] = "addresses",
        [NODE_SECTION_ALLOCATABLE] = "allocatable",
        [NODE_SECTION_CAPACITY] = "capacity",
        [NODE_SECTION_ENDPOINTS] = "daemonEndpoints",
        [NODE_SECTION_DECLARED] = "declaredFeatures",
        [NODE_SECTION_FEATURES] = "features",
        [NODE_SECTION_IMAGES] = "images",
        [NODE_SECTION_INFO] = "nodeInfo",
        [NODE_SECTION_HANDLERS] = "runtimeHandlers",
};

/* --- conditions --- */

static const struct {
        const char *reason[2], *message[2]; /* by "is under pressure" */
} pressure_texts[NODE_READY] = {
        [NODE_MEMORY_PRESSURE] = { { "KubeletHasSufficientMemory", "KubeletHasInsufficientMemory" },
                                   { "kubelet has sufficient memory available",
                                     "kubelet has insufficient memory available" } },
        [NODE_DISK_PRESSURE] = { { "KubeletHasNoDiskPressure", "KubeletHasDiskPressure" },
                                 { "kubelet has no disk pressure", "kubelet has disk pressure" } },
        [NODE_PID_PRESSURE] = { { "KubeletHasSufficientPID", "KubeletHasInsufficientPID" },
                                { "kubelet has sufficient PID available",
                                  "kubelet has insufficient PID available" } },
};

/* One reason as it is, several as Go prints a list of errors. */
static char *ready_message(const NodeHealth *health)
{
        KL_AUTOBUF text = BUF_INIT;
        int n = !!health->runtime_error + !!health->network_error + !!health->storage_error;

        if (n == 0)
                return strdup("kubelet is posting ready status");
        if (n > 1)
                buf_add_char(&text, '[');
        if (health->runtime_error)
                buf_add_str(&text, health->runtime_error);
        if (health->network_error)
                buf_addf(&text,
                         "%scontainer runtime network not ready: NetworkReady=false "
                         "reason:NetworkPluginNotReady message:%s",
                         text.len > 1 ? ", " : "", health->network_error);
        if (health->storage_error)
                buf_addf(&text, "%s%s", text.len > 1 ? ", " : "", health->storage_error);
        if (n > 1)
                buf_add_char(&text, ']');
        return buf_steal(&text);
}

int node_conditions(const NodeHealth *health, int64_t now_us, const NodeCondition *last,
                    NodeCondition *ret)
{
        bool ready = !health->runtime_error && !health->network_error && !health->storage_error;

        for (int i = 0; i < NODE_READY; i++) {
                bool pressed = health->pressure[i];

                ret[i].status = pressed ? "True" : "False";
                ret[i].reason = pressure_texts[i].reason[pressed];
                ret[i].message = strdup(pressure_texts[i].message[pressed]);
        }
        ret[NODE_READY].status = ready ? "True" : "False";
        ret[NODE_READY].reason = ready ? "KubeletReady" : "KubeletNotReady";
        ret[NODE_READY].message = ready_message(health);
        for (int i = 0; i < NODE_CONDITIONS; i++) {
                bool same = last && str_eq(last[i].status, ret[i].status);

                ret[i].transition_us = same ? last[i].transition_us : now_us;
                if (!ret[i].message) {
                        node_conditions_deinit(ret);
                        return -ENOMEM;
                }
        }
        return 0;
}

void node_conditions_deinit(NodeCondition *conditions)
{
        for (int i = 0; i < NODE_CONDITIONS; i++) {
                free(conditions[i].message);
                conditions[i] = (NodeCondition){ 0 };
        }
}

/* --- sections --- */

static void print_resources(JsonWriter *w, const NodeResource *resources, size_t n)
{
        jw_object(w);
        for (size_t i = 0; i < n; i++) {
                char text[QUANTITY_SIZE];
                int64_t value = resources[i].value;

                if (str_eq(resources[i].name, "cpu")) {
                        quantity_format_milli(value, text);
                } else if (str_eq(resources[i].name, "pods")) {
                        /* Canonical decimal: "1k". */
                        if (value && value % 1000 == 0)
                                snprintf(text, sizeof(text), "%lldk", (long long)(value / 1000));
                        else
                                snprintf(text, sizeof(text), "%lld", (long long)value);
                } else {
                        quantity_format_bytes(value, text);
                }
                jw_kstr(w, resources[i].name, text);
        }
        jw_end(w);
}

static void print_addresses(JsonWriter *w, const NodeStatus *status)
{
        jw_array(w);
        for (char *const *a = status->addresses; *a; a++) {
                jw_object(w);
                jw_kstr(w, "address", *a);
                jw_kstr(w, "type", "InternalIP");
                jw_end(w);
        }
        jw_object(w);
        jw_kstr(w, "address", status->hostname);
        jw_kstr(w, "type", "Hostname");
        jw_end(w);
        jw_end(w);
}

static void print_info(JsonWriter *w, const NodeStatus *status)
{
        const NodeFacts *facts = status->facts;

        jw_object(w);
        jw_kstr(w, "architecture", facts->architecture);
        jw_kstr(w, "bootID", facts->boot_id);
        jw_kstrf(w, "containerRuntimeVersion", "kubelite://%s", status->runtime_version);
        jw_kstr(w, "kernelVersion", facts->kernel_version);
        jw_kstr(w, "kubeProxyVersion", "");
        jw_kstr(w, "kubeletVersion", status->kubelet_version);
        jw_kstr(w, "machineID", facts->machine_id);
        jw_kstr(w, "operatingSystem", "linux");
        jw_kstr(w, "osImage", facts->os_image);
        if (facts->swap_bytes > 0) {
                jw_kobject(w, "swap");
                jw_kint(w, "capacity", facts->swap_bytes);
                jw_end(w);
        }
        jw_kstr(w, "systemUUID", facts->system_uuid);
        jw_end(w);
}

/* "" is the embedded runtime; of others ("name=program") no feature is known. */
static void print_handler(JsonWriter *w, const NodeStatus *status, const char *handler)
{
        bool embedded = !*handler;

        jw_object(w);
        jw_kobject(w, "features");
        jw_kbool(w, "recursiveReadOnlyMounts", embedded && status->recursive_read_only);
        jw_kbool(w, "userNamespaces", embedded && status->user_namespaces);
        jw_end(w);
        jw_key(w, "name");
        jw_strn(w, handler, strcspn(handler, "="));
        jw_end(w);
}

static void print_section(JsonWriter *w, const NodeStatus *status, NodeSection section)
{
        switch (section) {
        case NODE_SECTION_ADDRESSES:
                print_addresses(w, status);
                break;
        case NODE_SECTION_ALLOCATABLE:
                print_resources(w, status->resources->allocatable, status->resources->n);
                break;
        case NODE_SECTION_CAPACITY:
                print_resources(w, status->resources->capacity, status->resources->n);
                break;
        case NODE_SECTION_ENDPOINTS:
                jw_object(w);
                jw_kobject(w, "kubeletEndpoint");
                jw_kint(w, "Port", status->port);
                jw_end(w);
                jw_end(w);
                break;
        case NODE_SECTION_DECLARED:
                /* KEP-5328: what the control plane may rely on; sorted. */
                jw_array(w);
                jw_str(w, "ExtendWebSocketsToKubelet");
                jw_end(w);
                break;
        case NODE_SECTION_FEATURES:
                jw_object(w);
                jw_kbool(w, "supplementalGroupsPolicy", true);
                jw_end(w);
                break;
        case NODE_SECTION_IMAGES:
                jw_raw(w, status->images, strlen(status->images));
                break;
        case NODE_SECTION_INFO:
                print_info(w, status);
                break;
        case NODE_SECTION_HANDLERS:
                jw_array(w);
                print_handler(w, status, "");
                for (char *const *h = status->handlers; h && *h; h++)
                        print_handler(w, status, *h);
                jw_end(w);
                break;
        case NODE_SECTIONS:
                break;
        }
}

int node_sections(const NodeStatus *status, NodeSections *ret)
{
        for (int i = 0; i < NODE_SECTIONS; i++) {
                KL_AUTOBUF text = BUF_INIT;
                JsonWriter w = JSON_WRITER(&text);

                ret->text[i] = NULL;
                if (i == NODE_SECTION_ADDRESSES && !status->addresses)
                        continue;
                print_section(&w, status, (NodeSection)i);
                ret->text[i] = buf_steal(&text);
                if (!ret->text[i]) {
                        node_sections_deinit(ret);
                        return -ENOMEM;
                }
        }
        return 0;
}

void node_sections_deinit(NodeSections *sections)
{
        for (int i = 0; i < NODE_SECTIONS; i++) {
                free(sections->text[i]);
                sections->text[i] = NULL;
        }
}

static int by_size_descending(const void *a, const void *b)
{
        const NodeImage *const *x = a, *const *y = b;

        return (*x)->size_bytes < (*y)->size_bytes   ? 1
               : (*x)->size_bytes > (*y)->size_bytes ? -1
                                                     : 0;
}

static void print_image(JsonWriter *w, const NodeImage *image)
{
        int left = NODE_IMAGE_NAMES_MAX;

        jw_object(w);
        jw_karray(w, "names");
        for (char *const *name = image->digests; name && *name && left > 0; name++, left--)
                jw_str(w, *name);
        for (char *const *name = image->tags; name && *name && left > 0; name++, left--)
                jw_str(w, *name);
        jw_end(w);
        jw_key(w, "sizeBytes");
        jw_uint(w, image->size_bytes);
        jw_end(w);
}

char *node_images_print(const NodeImage *images, size_t n, int64_t max)
{
        KL_AUTOFREE const NodeImage **sorted = calloc(n ? n : 1, sizeof(*sorted));
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);

        if (!sorted)
                return NULL;
        for (size_t i = 0; i < n; i++)
                sorted[i] = &images[i];
        qsort(sorted, n, sizeof(*sorted), by_size_descending);
        jw_array(&w);
        for (size_t i = 0; i < n && (max < 0 || i < (size_t)max); i++)
                print_image(&w, sorted[i]);
        jw_end(&w);
        return buf_steal(&text);
}

/* --- the object --- */

static void print_labels(JsonWriter *w, const NodeIdentity *identity)
{
        const ConfigPair own[] = {
                { (char *)(uintptr_t) "beta.kubernetes.io/arch",
                  (char *)(uintptr_t)identity->architecture },
                { (char *)(uintptr_t) "beta.kubernetes.io/os", (char *)(uintptr_t) "linux" },
                { (char *)(uintptr_t) "kubernetes.io/arch",
                  (char *)(uintptr_t)identity->architecture },
                { (char *)(uintptr_t) "kubernetes.io/hostname",
                  (char *)(uintptr_t)identity->hostname },
                { (char *)(uintptr_t) "kubernetes.io/os", (char *)(uintptr_t) "linux" },
        };

        jw_kobject(w, "labels");
        for (size_t i = 0; i < ELEMENTS(own); i++)
                if (!config_pair_get(identity->labels, own[i].key))
                        jw_kstr(w, own[i].key, own[i].value);
        for (const ConfigPair *label = identity->labels; label && label->key; label++)
                jw_kstr(w, label->key, label->value);
        jw_end(w);
}

#define ATTACH_DETACH "volumes.kubernetes.io/controller-managed-attach-detach"
#define PROVIDED_IP "alpha.kubernetes.io/provided-node-ip"

static void print_annotations(JsonWriter *w, const NodeIdentity *identity)
{
        if (!identity->attach_detach && !identity->provided_ip)
                return;
        jw_kobject(w, "annotations");
        if (identity->provided_ip)
                jw_kstr(w, PROVIDED_IP, identity->provided_ip);
        if (identity->attach_detach)
                jw_kstr(w, ATTACH_DETACH, "true");
        jw_end(w);
}

static void print_taint(JsonWriter *w, const char *key, const char *value, const char *effect)
{
        jw_object(w);
        jw_kstr(w, "effect", effect);
        jw_kstr(w, "key", key);
        jw_kstr_opt(w, "value", value);
        jw_end(w);
}

static void print_spec(JsonWriter *w, const NodeIdentity *identity)
{
        const ConfigTaint *taints = identity->taints;

        jw_kobject(w, "spec");
        jw_kstr_opt(w, "providerID", identity->provider_id);
        if ((taints && taints->key) || identity->external_cloud) {
                jw_karray(w, "taints");
                for (; taints && taints->key; taints++)
                        print_taint(w, taints->key, taints->value, taints->effect);
                if (identity->external_cloud)
                        print_taint(w, "node.cloudprovider.kubernetes.io/uninitialized", "true",
                                    "NoSchedule");
                jw_end(w);
        }
        jw_end(w);
}

static void print_condition(JsonWriter *w, int type, const NodeCondition *condition,
                            const char *heartbeat)
{
        char transition[TIME_RFC3339_SIZE];

        time_format_rfc3339(condition->transition_us, transition);
        jw_object(w);
        jw_kstr(w, "lastHeartbeatTime", heartbeat);
        jw_kstr(w, "lastTransitionTime", transition);
        jw_kstr(w, "message", condition->message);
        jw_kstr(w, "reason", condition->reason);
        jw_kstr(w, "status", condition->status);
        jw_kstr(w, "type", node_condition_names[type]);
        jw_end(w);
}

int node_object_print(const NodeIdentity *identity, const NodeSections *sections,
                      const NodeCondition *conditions, int64_t now_us, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);
        char now[TIME_RFC3339_SIZE];

        time_format_rfc3339(now_us, now);
        jw_object(&w);
        jw_kstr(&w, "apiVersion", "v1");
        jw_kstr(&w, "kind", "Node");
        jw_kobject(&w, "metadata");
        print_annotations(&w, identity);
        print_labels(&w, identity);
        jw_kstr(&w, "name", identity->name);
        jw_end(&w);
        print_spec(&w, identity);
        jw_kobject(&w, "status");
        for (int i = 0; i < NODE_SECTIONS; i++) {
                if (!sections->text[i])
                        continue;
                jw_key(&w, node_section_names[i]);
                jw_raw(&w, sections->text[i], strlen(sections->text[i]));
        }
        jw_karray(&w, "conditions");
        for (int i = 0; i < NODE_CONDITIONS; i++)
                print_condition(&w, i, &conditions[i], now);
        jw_end(&w);
        jw_end(&w);
        jw_end(&w);
        return buf_error(to);
}
