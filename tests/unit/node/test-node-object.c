/* SPDX-License-Identifier: Apache-2.0 */

/* The Node's status held against what an upstream node of the same machine and configuration says,
 * and the patches that keep it up to date. */

#include "node/node-object.h"

#include "base/str.h"
#include "codec/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define T0 1700000000000000LL

static KubeletConfig *configured(const char *yaml)
{
        KL_AUTOFREE char *text = str_format(
                "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n%s", yaml);
        KubeletConfig *config = NULL;
        KL_AUTOERR err = NULL;

        assert_int_equal(kubelet_config_new(&config, NULL), 0);
        if (kubelet_config_read(config, "x", text, strlen(text), &err) < 0 ||
            kubelet_config_finish(config, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        return config;
}

static NodeFacts machine(void)
{
        NodeFacts facts = {
                .cpus = 2,
                .memory_bytes = 24684084LL * 1024,
                .root_bytes = 264212084LL * 1024,
                .hugepages = { { 2 << 20, 0 }, { 1 << 30, 0 } },
                .n_hugepages = 2,
                .machine_id = "3d1219c7c4c5404aaa1f6d2a48adfda4",
                .system_uuid = "3d1219c7c4c5404aaa1f6d2a48adfda4",
                .boot_id = "a4e723a0-09c2-44c3-b246-a045829c76c9",
                .kernel_version = "6.18.44",
                .os_image = "Debian GNU/Linux 12 (bookworm)",
                .architecture = "amd64",
        };

        return facts;
}

static char *addresses[] = { (char *)"172.30.0.1", NULL };

typedef struct Fixture {
        KubeletConfig *config;
        NodeFacts facts;
        NodeResources resources;
        NodeSections sections;
        NodeCondition conditions[NODE_CONDITIONS];
} Fixture;

static void fixture_fill(Fixture *f, const char *yaml, const NodeHealth *health)
{
        NodeStatus status = {
                .facts = &f->facts,
                .resources = &f->resources,
                .addresses = addresses,
                .hostname = "rig-node",
                .kubelet_version = "v1.36.0+kubelite.1",
                .runtime_version = "0.1.0",
                .port = 10250,
                .images = "[]",
                .recursive_read_only = true,
        };
        KL_AUTOERR err = NULL;

        f->config = configured(yaml);
        f->facts = machine();
        if (node_resources(&f->facts, f->config, &f->resources, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_int_equal(node_sections(&status, &f->sections), 0);
        assert_int_equal(node_conditions(health, T0, NULL, f->conditions), 0);
}

static void fixture_deinit(Fixture *f)
{
        kubelet_config_free(f->config);
        node_sections_deinit(&f->sections);
        node_conditions_deinit(f->conditions);
}

#define FIXTURE __attribute__((cleanup(fixture_deinit))) Fixture

static void test_same_numbers_as_upstream(void **state)
{
        FIXTURE f = { 0 };

        fixture_fill(&f,
                     "maxPods: 250\nevictionHard: {memory.available: 50Mi, nodefs.available: 1%, "
                     "imagefs.available: 1%}\n",
                     &(NodeHealth){ 0 });
        assert_string_equal(f.sections.text[NODE_SECTION_CAPACITY],
                            "{\"cpu\":\"2\",\"ephemeral-storage\":\"264212084Ki\","
                            "\"hugepages-2Mi\":\"0\",\"hugepages-1Gi\":\"0\","
                            "\"memory\":\"24684084Ki\",\"pods\":\"250\"}");
        assert_string_equal(f.sections.text[NODE_SECTION_ALLOCATABLE],
                            "{\"cpu\":\"2\",\"ephemeral-storage\":\"267847642337\","
                            "\"hugepages-2Mi\":\"0\",\"hugepages-1Gi\":\"0\","
                            "\"memory\":\"24632884Ki\",\"pods\":\"250\"}");
        assert_string_equal(f.sections.text[NODE_SECTION_ADDRESSES],
                            "[{\"address\":\"172.30.0.1\",\"type\":\"InternalIP\"},"
                            "{\"address\":\"rig-node\",\"type\":\"Hostname\"}]");
        assert_string_equal(f.sections.text[NODE_SECTION_ENDPOINTS],
                            "{\"kubeletEndpoint\":{\"Port\":10250}}");
        assert_string_equal(f.sections.text[NODE_SECTION_HANDLERS],
                            "[{\"features\":{\"recursiveReadOnlyMounts\":true,"
                            "\"userNamespaces\":false},\"name\":\"\"}]");
}

static void test_reservations(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = configured(
                "kubeReserved: {cpu: 70m, memory: 442Mi, ephemeral-storage: 1Gi}\n"
                "systemReserved: {cpu: 0.1, memory: 100Mi}\nmaxPods: 1000\npodsPerCore: 7\n");
        NodeFacts facts = machine();
        NodeResources r;

        facts.hugepages[0].total_bytes = 64 << 20;
        assert_int_equal(node_resources(&facts, config, &r, NULL), 0);
        assert_int_equal(node_resources_allocatable(&r, "cpu"), 1830);
        assert_int_equal(node_resources_allocatable(&r, "hugepages-2Mi"), 64 << 20);
        assert_int_equal(node_resources_allocatable(&r, "memory"),
                         facts.memory_bytes - ((442LL + 100 + 100 + 64) << 20));
        assert_int_equal(node_resources_allocatable(&r, "ephemeral-storage"),
                         facts.root_bytes - (1LL << 30) -
                                 (int64_t)((double)facts.root_bytes * (double)0.1F));
        assert_int_equal(node_resources_allocatable(&r, "pods"), 14);
        assert_int_equal(node_resources_allocatable(&r, "nothing"), 0);
}

static void test_reservations_beyond_the_machine(void **state)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config =
                configured("kubeReserved: {cpu: 70, memory: 442Gi}\nreservedSystemCPUs: 0-1\n");
        NodeFacts facts = machine();
        NodeResources r;

        assert_int_equal(node_resources(&facts, config, &r, NULL), 0);
        assert_int_equal(node_resources_allocatable(&r, "cpu"), 0);
        assert_int_equal(node_resources_allocatable(&r, "memory"), 0);
}

static void test_ready_texts(void **state)
{
        static const struct {
                NodeHealth health;
                const char *status, *reason, *message;
        } cases[] = {
                { { .runtime_error = NULL },
                  "True",
                  "KubeletReady",
                  "kubelet is posting ready status" },
                { { .network_error = "Network plugin returns error: cni plugin not initialized" },
                  "False",
                  "KubeletNotReady",
                  "container runtime network not ready: NetworkReady=false "
                  "reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin "
                  "not initialized" },
                { { .runtime_error = "a", .storage_error = "CSINode is not yet initialized" },
                  "False",
                  "KubeletNotReady",
                  "[a, CSINode is not yet initialized]" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                NodeCondition c[NODE_CONDITIONS];

                assert_int_equal(node_conditions(&cases[i].health, T0, NULL, c), 0);
                assert_string_equal(c[NODE_READY].status, cases[i].status);
                assert_string_equal(c[NODE_READY].reason, cases[i].reason);
                assert_string_equal(c[NODE_READY].message, cases[i].message);
                node_conditions_deinit(c);
        }
}

static void test_transition_times(void **state)
{
        NodeCondition first[NODE_CONDITIONS], second[NODE_CONDITIONS];
        NodeHealth health = { .network_error = "x" };

        assert_int_equal(node_conditions(&health, T0, NULL, first), 0);
        health.network_error = NULL;
        health.pressure[NODE_DISK_PRESSURE] = true;
        assert_int_equal(node_conditions(&health, T0 + 5, first, second), 0);
        assert_int_equal(second[NODE_READY].transition_us, T0 + 5);
        assert_int_equal(second[NODE_MEMORY_PRESSURE].transition_us, T0);
        assert_int_equal(second[NODE_DISK_PRESSURE].transition_us, T0 + 5);
        assert_string_equal(second[NODE_DISK_PRESSURE].reason, "KubeletHasDiskPressure");
        node_conditions_deinit(first);
        node_conditions_deinit(second);
}

static ConfigPair labels[] = {
        { (char *)"example.org/a", (char *)"b" },
        { (char *)"topology.kubernetes.io/zone", (char *)"z1" },
        { NULL, NULL },
};
static ConfigTaint taints[] = {
        { (char *)"k", (char *)"v", (char *)"NoSchedule" },
        { NULL, NULL, NULL },
};

static NodeIdentity identity(void)
{
        return (NodeIdentity){
                .name = "rig-node",
                .hostname = "rig-node",
                .architecture = "amd64",
                .labels = labels,
                .taints = taints,
                .provider_id = "x://1",
                .attach_detach = true,
        };
}

static const char *text_at(const Value *v, const char *path)
{
        const char *text = value_str(value_path(v, path));

        return text ? text : "(nothing)";
}

static void test_object(void **state)
{
        FIXTURE f = { 0 };
        NodeIdentity id = identity();
        KL_AUTO(value_free) Value *node = NULL;
        KL_AUTOBUF text = BUF_INIT;
        const Value *node_labels, *condition;

        fixture_fill(&f, "", &(NodeHealth){ .network_error = "x" });
        id.external_cloud = true;
        assert_int_equal(node_object_print(&id, &f.sections, f.conditions, T0, &text), 0);
        assert_int_equal(json_parse(text.data, text.len, &node, NULL), 0);
        assert_string_equal(text_at(node, "metadata.name"), "rig-node");
        assert_null(value_path(node, "metadata.ownerReferences"));
        node_labels = value_path(node, "metadata.labels");
        assert_string_equal(value_get_str(node_labels, "beta.kubernetes.io/arch"), "amd64");
        assert_string_equal(value_get_str(node_labels, "kubernetes.io/hostname"), "rig-node");
        assert_string_equal(value_get_str(node_labels, "example.org/a"), "b");
        assert_string_equal(value_get_str(value_path(node, "metadata.annotations"),
                                          "volumes.kubernetes.io/controller-managed-attach-detach"),
                            "true");
        assert_string_equal(text_at(node, "spec.providerID"), "x://1");
        assert_int_equal(value_len(value_path(node, "spec.taints")), 2);
        assert_string_equal(value_get_str(value_at(value_path(node, "spec.taints"), 1), "key"),
                            "node.cloudprovider.kubernetes.io/uninitialized");
        assert_string_equal(text_at(node, "status.nodeInfo.kubeletVersion"), "v1.36.0+kubelite.1");
        assert_string_equal(text_at(node, "status.nodeInfo.containerRuntimeVersion"),
                            "kubelite://0.1.0");
        condition = value_at(value_path(node, "status.conditions"), NODE_READY);
        assert_string_equal(value_get_str(condition, "type"), "Ready");
        assert_string_equal(value_get_str(condition, "status"), "False");
        assert_string_equal(value_get_str(condition, "lastHeartbeatTime"), "2023-11-14T22:13:20Z");
}

static void test_label_asked_for_replaces_default(void **state)
{
        FIXTURE f = { 0 };
        ConfigPair own[] = { { (char *)"kubernetes.io/hostname", (char *)"other" },
                             { NULL, NULL } };
        NodeIdentity id = identity();
        KL_AUTOBUF text = BUF_INIT;

        fixture_fill(&f, "", &(NodeHealth){ 0 });
        id.labels = own;
        assert_int_equal(node_object_print(&id, &f.sections, f.conditions, T0, &text), 0);
        assert_non_null(strstr(buf_str(&text), "\"kubernetes.io/hostname\":\"other\""));
        assert_null(strstr(buf_str(&text), "\"kubernetes.io/hostname\":\"rig-node\""));
}

static void test_patch_of_nothing_is_heartbeats(void **state)
{
        FIXTURE f = { 0 };
        KL_AUTOBUF text = BUF_INIT;
        NodePatch patch;

        fixture_fill(&f, "", &(NodeHealth){ 0 });
        patch = (NodePatch){ .uid = "u",
                             .now = &f.sections,
                             .accepted = &f.sections,
                             .conditions = f.conditions,
                             .accepted_conditions = f.conditions,
                             .now_us = T0 };
        assert_false(node_patch_needed(&patch));
        assert_int_equal(node_patch_print(&patch, &text), 0);
        assert_string_equal(
                buf_str(&text),
                "{\"metadata\":{\"uid\":\"u\"},\"status\":{\"conditions\":["
                "{\"lastHeartbeatTime\":\"2023-11-14T22:13:20Z\",\"type\":\"MemoryPressure\"},"
                "{\"lastHeartbeatTime\":\"2023-11-14T22:13:20Z\",\"type\":\"DiskPressure\"},"
                "{\"lastHeartbeatTime\":\"2023-11-14T22:13:20Z\",\"type\":\"PIDPressure\"},"
                "{\"lastHeartbeatTime\":\"2023-11-14T22:13:20Z\",\"type\":\"Ready\"}]}}");
}

static void test_patch_has_what_differs(void **state)
{
        FIXTURE f = { 0 };
        FIXTURE g = { 0 };
        char *stale[] = { (char *)"hugepages-64Ki", NULL };
        KL_AUTO(value_free) Value *v = NULL;
        KL_AUTOBUF text = BUF_INIT;
        NodePatch patch;
        const Value *first;

        fixture_fill(&f, "", &(NodeHealth){ .network_error = "x" });
        fixture_fill(&g, "", &(NodeHealth){ 0 });
        free(f.sections.text[NODE_SECTION_ADDRESSES]);
        f.sections.text[NODE_SECTION_ADDRESSES] = strdup("[]");
        patch = (NodePatch){ .uid = "u",
                             .now = &g.sections,
                             .accepted = &f.sections,
                             .conditions = g.conditions,
                             .accepted_conditions = f.conditions,
                             .stale_resources = stale,
                             .now_us = T0 };
        assert_true(node_patch_needed(&patch));
        assert_int_equal(node_patch_print(&patch, &text), 0);
        assert_int_equal(json_parse(text.data, text.len, &v, NULL), 0);
        assert_null(strstr(buf_str(&text), "setElementOrder"));
        assert_null(value_path(v, "status.nodeInfo"));
        first = value_at(value_path(v, "status.addresses"), 0);
        assert_string_equal(value_get_str(first, "$patch"), "replace");
        assert_int_equal(value_len(value_path(v, "status.addresses")), 3);
        assert_non_null(value_path(v, "status.capacity.hugepages-64Ki"));
        assert_int_equal(value_type(value_path(v, "status.capacity.hugepages-64Ki")), VALUE_NULL);
        assert_string_equal(
                value_get_str(value_at(value_path(v, "status.conditions"), NODE_READY), "status"),
                "True");
        assert_null(value_get(value_at(value_path(v, "status.conditions"), 0), "status"));
}

static void test_images(void **state)
{
        char *tags[] = { (char *)"t1", (char *)"t2", NULL };
        char *digests[] = { (char *)"d1", (char *)"d2", (char *)"d3", (char *)"d4", NULL };
        NodeImage images[] = {
                { NULL, tags, 5 },
                { digests, tags, 50 },
                { NULL, tags, 7 },
        };
        KL_AUTOFREE char *two = node_images_print(images, 3, 2);
        KL_AUTOFREE char *none = node_images_print(NULL, 0, 50);
        KL_AUTOFREE char *all = node_images_print(images, 3, -1);

        assert_string_equal(two,
                            "[{\"names\":[\"d1\",\"d2\",\"d3\",\"d4\",\"t1\"],\"sizeBytes\":50},"
                            "{\"names\":[\"t1\",\"t2\"],\"sizeBytes\":7}]");
        assert_string_equal(none, "[]");
        assert_non_null(strstr(all, "\"sizeBytes\":5}"));
}

static void test_adoption(void **state)
{
        static const char same[] =
                "{\"metadata\":{\"uid\":\"u\",\"labels\":{\"kubernetes.io/arch\":\"amd64\","
                "\"kubernetes.io/hostname\":\"rig-node\",\"kubernetes.io/os\":\"linux\","
                "\"topology.kubernetes.io/zone\":\"z1\",\"mine\":\"stays\"},\"annotations\":{"
                "\"volumes.kubernetes.io/controller-managed-attach-detach\":\"true\"}}}";
        static const char bare[] = "{\"metadata\":{\"uid\":\"u\",\"labels\":{"
                                   "\"kubernetes.io/arch\":\"arm64\"}}}";
        KL_AUTO(value_free) Value *has = NULL, *lacks = NULL, *patch = NULL;
        KL_AUTOBUF nothing = BUF_INIT;
        KL_AUTOBUF text = BUF_INIT;
        NodeIdentity id = identity();

        assert_int_equal(json_parse(same, strlen(same), &has, NULL), 0);
        assert_int_equal(node_adopt_print(&id, has, &nothing), 0);
        assert_int_equal(nothing.len, 0);
        assert_int_equal(json_parse(bare, strlen(bare), &lacks, NULL), 0);
        assert_int_equal(node_adopt_print(&id, lacks, &text), 0);
        assert_int_equal(json_parse(text.data, text.len, &patch, NULL), 0);
        assert_string_equal(text_at(patch, "metadata.uid"), "u");
        assert_string_equal(
                value_get_str(value_path(patch, "metadata.labels"), "kubernetes.io/arch"), "amd64");
        assert_null(value_get(value_path(patch, "metadata.labels"), "example.org/a"));
        assert_null(value_path(patch, "spec"));
        id.attach_detach = false;
        buf_clear(&text);
        assert_int_equal(node_adopt_print(&id, has, &text), 0);
        assert_non_null(strstr(buf_str(&text), "attach-detach\":null"));
}

static void test_contains(void **state)
{
        static const struct {
                const char *theirs, *ours;
                bool contained;
        } cases[] = {
                { "{\"a\":1,\"b\":{\"c\":2,\"d\":3}}", "{\"b\":{\"c\":2}}", true },
                { "{\"a\":1}", "{\"a\":2}", false },
                { "{\"a\":[1,2]}", "{\"a\":[1]}", false },
                { "{}", "{\"a\":\"\",\"b\":[]}", true },
                { "{}", "{\"a\":\"x\"}", false },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTO(value_free) Value *theirs = NULL, *ours = NULL;

                json_parse(cases[i].theirs, strlen(cases[i].theirs), &theirs, NULL);
                json_parse(cases[i].ours, strlen(cases[i].ours), &ours, NULL);
                assert_int_equal(node_value_contains(theirs, ours), cases[i].contained);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_same_numbers_as_upstream),
                cmocka_unit_test(test_reservations),
                cmocka_unit_test(test_reservations_beyond_the_machine),
                cmocka_unit_test(test_ready_texts),
                cmocka_unit_test(test_transition_times),
                cmocka_unit_test(test_object),
                cmocka_unit_test(test_label_asked_for_replaces_default),
                cmocka_unit_test(test_patch_of_nothing_is_heartbeats),
                cmocka_unit_test(test_patch_has_what_differs),
                cmocka_unit_test(test_images),
                cmocka_unit_test(test_adoption),
                cmocka_unit_test(test_contains),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
