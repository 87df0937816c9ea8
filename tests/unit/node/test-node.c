/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The node's four machines against a scripted API server: api_call, api_watch and event_emit are
 * defined here, so that each request is seen, and answered (or not) as the test likes.
 */

#include "node/node-internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct ApiRequest {
        char *method, *path, *body;
        char *content_type, *accept;
        bool critical, open;
        ApiFunc done;
        void *data;
};

struct ApiWatch {
        ApiWatchSpec spec;
};

#define CALLS_MAX 64

static ApiRequest *calls[CALLS_MAX];
static size_t n_calls;
static ApiWatch *watching;
static char *watched_selector;
static int n_pokes;
static Buf events;

int api_call(ApiClient *client, const ApiCall *call, ApiRequest **ret, KlError **err)
{
        ApiRequest *request = calloc(1, sizeof(*request));

        assert_true(n_calls < CALLS_MAX);
        request->method = strdup(call->method);
        request->path = strdup(call->path);
        request->body = strdup(call->body ? call->body : "");
        request->content_type = strdup(call->content_type ? call->content_type : "");
        request->accept = strdup(call->accept ? call->accept : "");
        request->critical = call->critical;
        request->open = true;
        request->done = call->done;
        request->data = call->data;
        calls[n_calls++] = request;
        *ret = request;
        return 0;
}

ApiRequest *api_request_cancel(ApiRequest *request)
{
        request->open = false;
        return NULL;
}

int api_watch(ApiClient *client, const ApiWatchSpec *spec, ApiWatch **ret, KlError **err)
{
        assert_null(watching);
        watching = calloc(1, sizeof(*watching));
        watching->spec = *spec;
        free(watched_selector);
        watched_selector = strdup(spec->field_selector);
        *ret = watching;
        return 0;
}

ApiWatch *api_watch_free(ApiWatch *watch)
{
        free(watch);
        watching = NULL;
        return NULL;
}

void api_watch_poke(ApiWatch *watch)
{
        n_pokes++;
}

void event_emit(EventRecorder *recorder, const EventObject *object, const char *type,
                const char *reason, const char *format, ...)
{
        buf_addf(&events, "%s ", reason);
}

/* --- the test's side --- */

typedef struct Rig {
        Loop *loop;
        Node *node;
        KubeletConfig *config;
        int registered, changed;
} Rig;

static void forget_calls(void)
{
        for (size_t i = 0; i < n_calls; i++) {
                free(calls[i]->method);
                free(calls[i]->path);
                free(calls[i]->body);
                free(calls[i]->content_type);
                free(calls[i]->accept);
                free(calls[i]);
        }
        n_calls = 0;
        buf_deinit(&events);
        events = (Buf)BUF_INIT;
        free(watched_selector);
        watched_selector = NULL;
}

static void on_registered(Node *node, void *data)
{
        ((Rig *)data)->registered++;
}

static void on_changed(Node *node, void *data)
{
        ((Rig *)data)->changed++;
}

static void rig_start(Rig *rig, const char *yaml)
{
        KL_AUTOFREE char *text = str_format(
                "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n%s", yaml);
        static char *ips[] = { (char *)"10.0.0.1", NULL };
        NodeOptions options = {
                .name = "n1",
                .root_dir = "/",
                .node_ips = ips,
                .kubelet_version = "v1.36.0+kubelite.1",
                .runtime_version = "0.1.0",
                .on_registered = on_registered,
                .on_changed = on_changed,
                .data = rig,
        };
        KL_AUTOERR err = NULL;

        /* A test that failed may have left these. */
        watching = NULL;
        forget_calls();
        assert_int_equal(loop_new(&rig->loop, NULL), 0);
        assert_int_equal(kubelet_config_new(&rig->config, NULL), 0);
        assert_int_equal(kubelet_config_read(rig->config, "x", text, strlen(text), NULL), 0);
        assert_int_equal(kubelet_config_finish(rig->config, NULL), 0);
        options.config = rig->config;
        if (node_new(rig->loop, (ApiClient *)&events, (EventRecorder *)&events, &options,
                     &rig->node, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        node_start(rig->node);
}

static void rig_deinit(Rig *rig)
{
        node_free(rig->node);
        loop_free(rig->loop);
        kubelet_config_free(rig->config);
        forget_calls();
}

#define RIG __attribute__((cleanup(rig_deinit))) Rig

static void settle(Rig *rig)
{
        for (int i = 0; i < 5; i++)
                loop_turn(rig->loop, false);
}

/* The only open request whose path ends so; waits (retries have delays) up to 3 s. */
static ApiRequest *open_call(Rig *rig, const char *method, const char *end)
{
        uint64_t deadline = time_monotonic_ms() + 3000;

        for (;;) {
                for (size_t i = 0; i < n_calls; i++)
                        if (calls[i]->open && str_eq(calls[i]->method, method) &&
                            str_ends(calls[i]->path, end))
                                return calls[i];
                if (time_monotonic_ms() > deadline)
                        fail_msg("no open %s …%s", method, end);
                loop_turn(rig->loop, false);
                usleep(1000);
        }
}

static bool has_open(const char *method, const char *end)
{
        for (size_t i = 0; i < n_calls; i++)
                if (calls[i]->open && str_eq(calls[i]->method, method) &&
                    str_ends(calls[i]->path, end))
                        return true;
        return false;
}

static void answer(Rig *rig, ApiRequest *request, int status, const char *body)
{
        KL_AUTO(value_free) Value *object = NULL;
        ApiResponse response = { .status = status, .reason = "", .message = "because" };

        if (body)
                assert_int_equal(json_parse(body, strlen(body), &object, NULL), 0);
        response.object = object;
        response.body = body ? body : "";
        assert_true(request->open);
        assert_true(request->critical);
        request->open = false;
        request->done(request, &response, request->data);
        settle(rig);
}

static void event_set(Rig *rig, const char *body)
{
        KL_AUTO(value_free) Value *object = NULL;
        ApiEvent event = { .type = API_EVENT_SET, .name = "n1" };

        assert_int_equal(json_parse(body, strlen(body), &object, NULL), 0);
        event.object = object;
        event.uid = value_str(value_path(object, "metadata.uid"));
        watching->spec.func(watching, &event, watching->spec.data);
        settle(rig);
}

static void event_deleted(Rig *rig)
{
        ApiEvent event = { .type = API_EVENT_DELETED, .name = "n1" };

        watching->spec.func(watching, &event, watching->spec.data);
        settle(rig);
}

#define CREATED "{\"metadata\":{\"uid\":\"u1\",\"resourceVersion\":\"10\"}}"
#define WRITTEN "{\"metadata\":{\"uid\":\"u1\",\"resourceVersion\":\"20\"}}"

/* A new node that is Ready; leaves no request open. */
static void bring_up(Rig *rig)
{
        answer(rig, open_call(rig, "POST", "/api/v1/nodes"), 201, CREATED);
        answer(rig, open_call(rig, "PATCH", "/leases/n1"), 404, NULL);
        answer(rig, open_call(rig, "POST", "/leases"), 201, NULL);
        answer(rig, open_call(rig, "GET", "/csinodes/n1"), 404, NULL);
        answer(rig, open_call(rig, "POST", "/csinodes"), 201, "{}");
        node_set_runtime_ready(rig->node, true, NULL);
        node_set_network_ready(rig->node, true, NULL);
        while (node_registered(rig->node) && !has_open("PATCH", "/nodes/n1/status"))
                loop_turn(rig->loop, false);
        while (has_open("PATCH", "/nodes/n1/status"))
                answer(rig, open_call(rig, "PATCH", "/nodes/n1/status"), 200, WRITTEN);
        assert_true(node_ready(rig->node));
}

static void test_new_node(void **state)
{
        RIG rig = { 0 };
        ApiRequest *post, *lease, *csi;

        rig_start(&rig, "");
        post = open_call(&rig, "POST", "/api/v1/nodes");
        assert_int_equal(n_calls, 1);
        assert_non_null(strstr(post->body, "\"reason\":\"KubeletNotReady\""));
        assert_null(strstr(post->body, "ownerReferences"));
        assert_false(node_registered(rig.node));
        answer(&rig, post, 201, CREATED);
        assert_true(node_registered(rig.node));
        assert_string_equal(node_uid(rig.node), "u1");
        assert_int_equal(rig.registered, 1);
        assert_string_equal(watched_selector, "metadata.name=n1");

        lease = open_call(&rig, "PATCH", "/kube-node-lease/leases/n1");
        assert_string_equal(lease->content_type, "application/merge-patch+json");
        assert_true(str_starts(lease->accept, "application/vnd.kubernetes.protobuf"));
        answer(&rig, lease, 404, NULL);
        lease = open_call(&rig, "POST", "/kube-node-lease/leases");
        assert_non_null(strstr(lease->body, "\"ownerReferences\":[{\"apiVersion\":\"v1\","
                                            "\"kind\":\"Node\",\"name\":\"n1\",\"uid\":\"u1\"}]"));
        assert_non_null(
                strstr(lease->body, "\"holderIdentity\":\"n1\",\"leaseDurationSeconds\":40"));
        answer(&rig, lease, 201, NULL);

        csi = open_call(&rig, "GET", "/csinodes/n1");
        answer(&rig, csi, 404, NULL);
        csi = open_call(&rig, "POST", "/csinodes");
        assert_non_null(strstr(csi->body, "\"drivers\":[]"));
        assert_non_null(strstr(csi->body, "\"uid\":\"u1\""));
        assert_non_null(strstr(csi->body, "migrated-plugins"));
        answer(&rig, csi, 201, "{}");
}

static void test_becomes_ready_by_a_small_patch(void **state)
{
        RIG rig = { 0 };
        ApiRequest *patch;

        rig_start(&rig, "");
        bring_up(&rig);
        node_set_network_ready(rig.node, false, "cni plugin not initialized");
        patch = open_call(&rig, "PATCH", "/nodes/n1/status");
        assert_string_equal(patch->content_type, "application/strategic-merge-patch+json");
        assert_non_null(strstr(patch->accept, "PartialObjectMetadata"));
        assert_true(str_starts(patch->body,
                               "{\"metadata\":{\"uid\":\"u1\"},\"status\":{\"conditions\""));
        assert_non_null(strstr(patch->body, "message:cni plugin not initialized"));
        assert_null(strstr(patch->body, "nodeInfo"));
        assert_non_null(
                strstr(buf_str(&events),
                       "Starting NodeHasSufficientMemory "
                       "NodeHasNoDiskPressure NodeHasSufficientPID NodeReady NodeNotReady"));
}

static void test_nothing_changed_nothing_sent(void **state)
{
        RIG rig = { 0 };

        rig_start(&rig, "");
        bring_up(&rig);
        node_set_network_ready(rig.node, true, NULL);
        node_set_pressure(rig.node, NODE_DISK_PRESSURE, false);
        node_mark_dirty(rig.node);
        settle(&rig);
        assert_false(has_open("PATCH", "/nodes/n1/status"));
}

static void test_report_period(void **state)
{
        RIG rig = { 0 };

        rig_start(&rig, "nodeStatusUpdateFrequency: 50ms\nnodeStatusReportFrequency: 100ms\n");
        bring_up(&rig);
        assert_non_null(
                strstr(open_call(&rig, "PATCH", "/nodes/n1/status")->body, "lastHeartbeatTime"));
}

static void test_images_wait_for_the_tick(void **state)
{
        RIG rig = { 0 };
        char *tags[] = { (char *)"docker.io/library/x:1", NULL };
        NodeImage image = { NULL, tags, 5 };

        rig_start(&rig, "nodeStatusUpdateFrequency: 300ms\nnodeStatusReportFrequency: 1h\n");
        bring_up(&rig);
        assert_int_equal(node_set_images(rig.node, &image, 1), 0);
        settle(&rig);
        assert_non_null(strstr(open_call(&rig, "PATCH", "/nodes/n1/status")->body,
                               "\"images\":[{\"names\":[\"docker.io/library/x:1\"]"));
}

static void test_refused_status_is_sent_again(void **state)
{
        RIG rig = { 0 };

        rig_start(&rig, "");
        bring_up(&rig);
        node_set_pressure(rig.node, NODE_PID_PRESSURE, true);
        settle(&rig);
        answer(&rig, open_call(&rig, "PATCH", "/nodes/n1/status"), 500, NULL);
        assert_false(has_open("PATCH", "/nodes/n1/status"));
        assert_non_null(strstr(open_call(&rig, "PATCH", "/nodes/n1/status")->body,
                               "KubeletHasInsufficientPID"));
}

#define EXISTING                                                                                   \
        "{\"metadata\":{\"uid\":\"u7\",\"resourceVersion\":\"5\",\"labels\":{\"zone\":\"z\"}},"    \
        "\"spec\":{\"taints\":[{\"key\":\"k\",\"effect\":\"NoExecute\"}],\"podCIDRs\":[\"10.1.0."  \
        "0/24\"]},"                                                                                \
        "\"status\":{\"nodeInfo\":{\"bootID\":\"%s\"},\"capacity\":{\"hugepages-3Mi\":\"0\"},"     \
        "\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\",\"reason\":\"KubeletReady\","     \
        "\"message\":\"kubelet is posting ready status\","                                         \
        "\"lastTransitionTime\":\"2020-01-01T00:00:00Z\"}]}}"

static void test_adoption(void **state)
{
        RIG rig = { 0 };
        KL_AUTOFREE char *existing = NULL;
        ApiRequest *metadata, *status;

        rig_start(&rig, "");
        existing = str_format(EXISTING, node_facts(rig.node)->boot_id);
        answer(&rig, open_call(&rig, "POST", "/api/v1/nodes"), 409, NULL);
        answer(&rig, open_call(&rig, "GET", "/nodes/n1"), 200, existing);
        assert_string_equal(node_uid(rig.node), "u7");
        assert_string_equal(config_pair_get(node_labels(rig.node), "zone"), "z");
        assert_string_equal(node_taints(rig.node)[0].effect, "NoExecute");
        assert_string_equal(node_pod_cidrs(rig.node)[0], "10.1.0.0/24");
        assert_int_equal(rig.changed, 1);

        metadata = calls[2];
        assert_non_null(strstr(metadata->body, "controller-managed-attach-detach\":\"true\""));
        assert_non_null(strstr(metadata->body, "kubernetes.io/hostname\":\"n1\""));
        answer(&rig, metadata, 200, WRITTEN);

        /* It was Ready and the machine has not been rebooted: nobody sees it NotReady. */
        status = open_call(&rig, "PATCH", "/nodes/n1/status");
        assert_null(strstr(status->body, "KubeletNotReady"));
        assert_null(strstr(status->body, "\"status\":\"True\",\"type\":\"Ready\""));
        assert_non_null(strstr(status->body, "\"hugepages-3Mi\":null"));
        assert_non_null(strstr(status->body, "\"uid\":\"u7\""));
        assert_true(node_ready(rig.node));
        assert_null(strstr(buf_str(&events), "Rebooted"));

        /* A known failure is told at once all the same. */
        answer(&rig, status, 200, WRITTEN);
        node_set_network_ready(rig.node, false, "x");
        assert_non_null(
                strstr(open_call(&rig, "PATCH", "/nodes/n1/status")->body, "KubeletNotReady"));
}

static void test_adoption_after_reboot(void **state)
{
        RIG rig = { 0 };
        KL_AUTOFREE char *existing = str_format(EXISTING, "another");

        rig_start(&rig, "");
        answer(&rig, open_call(&rig, "POST", "/api/v1/nodes"), 409, NULL);
        answer(&rig, open_call(&rig, "GET", "/nodes/n1"), 200, existing);
        assert_non_null(strstr(buf_str(&events), "Rebooted"));
        assert_false(node_ready(rig.node));
}

static void test_registration_goes_on_trying(void **state)
{
        RIG rig = { 0 };

        rig_start(&rig, "");
        answer(&rig, open_call(&rig, "POST", "/api/v1/nodes"), 0, NULL);
        answer(&rig, open_call(&rig, "POST", "/api/v1/nodes"), 401, NULL);
        answer(&rig, open_call(&rig, "POST", "/api/v1/nodes"), 503, NULL);
        answer(&rig, open_call(&rig, "POST", "/api/v1/nodes"), 409, NULL);
        answer(&rig, open_call(&rig, "GET", "/nodes/n1"), 404, NULL);
        answer(&rig, open_call(&rig, "POST", "/api/v1/nodes"), 201, CREATED);
        assert_true(node_registered(rig.node));
}

static void test_retry_after(void **state)
{
        RIG rig = { 0 };
        ApiResponse busy = { .status = 429, .reason = "", .message = "", .retry_after_ms = 700 };
        ApiRequest *post;
        uint64_t start;

        rig_start(&rig, "");
        post = open_call(&rig, "POST", "/api/v1/nodes");
        start = time_monotonic_ms();
        post->open = false;
        post->done(post, &busy, post->data);
        open_call(&rig, "POST", "/api/v1/nodes");
        assert_in_range(time_monotonic_ms() - start, 690, 1500);
}

static void test_lease_renewals(void **state)
{
        RIG rig = { 0 };
        ApiRequest *renewal;
        uint64_t start;

        rig_start(&rig, "nodeLeaseDurationSeconds: 1\n");
        answer(&rig, open_call(&rig, "POST", "/api/v1/nodes"), 201, CREATED);
        renewal = open_call(&rig, "PATCH", "/leases/n1");
        assert_non_null(strstr(renewal->body, "ownerReferences"));
        answer(&rig, renewal, 200, NULL);
        start = time_monotonic_ms();
        for (int i = 0; i < 4; i++) {
                renewal = open_call(&rig, "PATCH", "/leases/n1");
                assert_true(str_starts(renewal->body, "{\"spec\":{\"renewTime\":\"2"));
                assert_null(strstr(renewal->body, "holderIdentity"));
                /* A late answer does not shift the grid of 250 ms. */
                usleep(100000);
                answer(&rig, renewal, 200, NULL);
        }
        assert_in_range(time_monotonic_ms() - start, 950, 1300);
}

static void test_lease_troubles(void **state)
{
        RIG rig = { 0 };
        ApiRequest *renewal;

        rig_start(&rig, "nodeLeaseDurationSeconds: 4\n");
        bring_up(&rig);
        renewal = open_call(&rig, "PATCH", "/leases/n1");
        answer(&rig, renewal, 0, NULL);
        renewal = open_call(&rig, "PATCH", "/leases/n1");
        assert_non_null(strstr(renewal->body, "ownerReferences"));
        answer(&rig, renewal, 409, NULL);
        renewal = open_call(&rig, "PATCH", "/leases/n1");
        answer(&rig, renewal, 404, NULL);
        renewal = open_call(&rig, "POST", "/leases");
        answer(&rig, renewal, 409, NULL);
        renewal = open_call(&rig, "PATCH", "/leases/n1");
        answer(&rig, renewal, 200, NULL);
}

static void test_deleted_node_stays_away_until_made_anew(void **state)
{
        RIG rig = { 0 };

        rig_start(&rig, "nodeLeaseDurationSeconds: 1\nnodeStatusUpdateFrequency: 20ms\n"
                        "nodeStatusReportFrequency: 20ms\n");
        bring_up(&rig);
        event_deleted(&rig);
        assert_false(node_registered(rig.node));
        for (size_t i = 0; i < n_calls; i++)
                if (calls[i]->open)
                        answer(&rig, calls[i], 404, NULL);
        size_t before = n_calls;
        for (uint64_t end = time_monotonic_ms() + 600; time_monotonic_ms() < end; usleep(1000))
                loop_turn(rig.loop, false);
        /* The one renewal that was on its way may have been followed by a POST; nothing else. */
        assert_in_range(n_calls, before, before + 1);
        event_set(&rig, "{\"metadata\":{\"uid\":\"u2\",\"resourceVersion\":\"90\"}}");
        assert_string_equal(node_uid(rig.node), "u2");
        assert_int_equal(rig.registered, 2);
        assert_non_null(strstr(open_call(&rig, "PATCH", "/nodes/n1/status")->body, "nodeInfo"));
        assert_true(has_open("GET", "/csinodes/n1"));
}

static void test_condition_changed_by_others_is_written_again(void **state)
{
        RIG rig = { 0 };

        rig_start(&rig, "");
        bring_up(&rig);
        /* An event from before our last write says nothing. */
        event_set(&rig, "{\"metadata\":{\"uid\":\"u1\",\"resourceVersion\":\"15\"},\"status\":{"
                        "\"conditions\":[{\"type\":\"Ready\",\"status\":\"False\"}]}}");
        assert_false(has_open("PATCH", "/nodes/n1/status"));
        event_set(&rig, "{\"metadata\":{\"uid\":\"u1\",\"resourceVersion\":\"30\"},\"status\":{"
                        "\"conditions\":[{\"type\":\"Ready\",\"status\":\"Unknown\"},"
                        "{\"type\":\"MemoryPressure\",\"status\":\"Unknown\"}]}}");
        assert_non_null(strstr(open_call(&rig, "PATCH", "/nodes/n1/status")->body,
                               "\"status\":\"True\",\"type\":\"Ready\""));
}

/* The watch is a connection of its own and may be faster than the answer to our write. */
static void test_change_seen_before_the_answer(void **state)
{
        RIG rig = { 0 };
        ApiRequest *patch;

        rig_start(&rig, "");
        bring_up(&rig);
        node_set_pressure(rig.node, NODE_DISK_PRESSURE, true);
        patch = open_call(&rig, "PATCH", "/nodes/n1/status");
        event_set(&rig, "{\"metadata\":{\"uid\":\"u1\",\"resourceVersion\":\"30\"},\"status\":{"
                        "\"conditions\":[{\"type\":\"Ready\",\"status\":\"Unknown\"}]}}");
        answer(&rig, patch, 200, "{\"metadata\":{\"uid\":\"u1\",\"resourceVersion\":\"25\"}}");
        assert_non_null(strstr(open_call(&rig, "PATCH", "/nodes/n1/status")->body,
                               "\"status\":\"True\",\"type\":\"Ready\""));
}

static void test_register_node_false(void **state)
{
        RIG rig = { 0 };

        rig_start(&rig, "registerNode: false\n");
        settle(&rig);
        assert_int_equal(n_calls, 0);
        event_set(&rig, "{\"metadata\":{\"uid\":\"u5\",\"resourceVersion\":\"3\"}}");
        assert_string_equal(node_uid(rig.node), "u5");
        open_call(&rig, "PATCH", "/leases/n1");
        assert_non_null(strstr(open_call(&rig, "PATCH", "/nodes/n1/status")->body, "nodeInfo"));
}

static void test_csinode_with_another_owner(void **state)
{
        RIG rig = { 0 };
        ApiRequest *patch;

        rig_start(&rig, "");
        answer(&rig, open_call(&rig, "POST", "/api/v1/nodes"), 201, CREATED);
        answer(&rig, open_call(&rig, "GET", "/csinodes/n1"), 200,
               "{\"metadata\":{\"ownerReferences\":[{\"uid\":\"old\"}]},\"spec\":{\"drivers\":null}"
               "}");
        patch = open_call(&rig, "PATCH", "/csinodes/n1");
        assert_non_null(strstr(patch->body, "\"uid\":\"u1\""));
        assert_null(strstr(patch->body, "drivers"));
        answer(&rig, patch, 500, NULL);
        open_call(&rig, "GET", "/csinodes/n1");
}

static void test_standalone(void **state)
{
        Loop *loop = NULL;
        KL_AUTO(node_free) Node *node = NULL;
        KL_AUTO(kubelet_config_free) KubeletConfig *config = NULL;
        KL_AUTOBUF text = BUF_INIT;
        NodeOptions options = {
                .name = "n1", .root_dir = "/", .kubelet_version = "v1", .runtime_version = "0"
        };

        assert_int_equal(loop_new(&loop, NULL), 0);
        assert_int_equal(kubelet_config_new(&config, NULL), 0);
        assert_int_equal(kubelet_config_finish(config, NULL), 0);
        options.config = config;
        assert_int_equal(node_new(loop, NULL, NULL, &options, &node, NULL), 0);
        node_start(node);
        node_set_runtime_ready(node, true, NULL);
        node_set_network_ready(node, true, NULL);
        assert_int_equal(node_print(node, &text), 0);
        assert_non_null(strstr(buf_str(&text), "\"reason\":\"KubeletReady\""));
        assert_int_equal(n_calls, 0);
        assert_string_equal(config_pair_get(node_labels(node), "kubernetes.io/hostname"), "n1");
        node = node_free(node);
        loop_free(loop);
}

static void test_wrong_options(void **state)
{
        Loop *loop = NULL;
        KL_AUTO(node_free) Node *node = NULL;
        KL_AUTO(kubelet_config_free) KubeletConfig *config = NULL;
        NodeOptions options = { .name = "n1",
                                .root_dir = "/nonexistent",
                                .kubelet_version = "v1",
                                .runtime_version = "0" };
        KL_AUTOERR err = NULL;

        assert_int_equal(loop_new(&loop, NULL), 0);
        assert_int_equal(kubelet_config_new(&config, NULL), 0);
        assert_int_equal(kubelet_config_finish(config, NULL), 0);
        options.config = config;
        assert_int_equal(node_new(loop, NULL, NULL, &options, &node, &err), -ENOENT);
        assert_non_null(strstr(kl_error_msg(err), "/nonexistent"));
        loop_free(loop);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_new_node),
                cmocka_unit_test(test_becomes_ready_by_a_small_patch),
                cmocka_unit_test(test_nothing_changed_nothing_sent),
                cmocka_unit_test(test_report_period),
                cmocka_unit_test(test_images_wait_for_the_tick),
                cmocka_unit_test(test_refused_status_is_sent_again),
                cmocka_unit_test(test_adoption),
                cmocka_unit_test(test_adoption_after_reboot),
                cmocka_unit_test(test_registration_goes_on_trying),
                cmocka_unit_test(test_retry_after),
                cmocka_unit_test(test_lease_renewals),
                cmocka_unit_test(test_lease_troubles),
                cmocka_unit_test(test_deleted_node_stays_away_until_made_anew),
                cmocka_unit_test(test_condition_changed_by_others_is_written_again),
                cmocka_unit_test(test_change_seen_before_the_answer),
                cmocka_unit_test(test_register_node_false),
                cmocka_unit_test(test_csinode_with_another_owner),
                cmocka_unit_test(test_standalone),
                cmocka_unit_test(test_wrong_options),
        };

        log_set_level(LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
