/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The node: what is known about it, its timers, and helpers of the four machines around it, which
 * share the struct of node-internal.h: registration and following (node-register.c), the status
 * (node-status.c), the Lease (node-lease.c), the CSINode (node-csinode.c). Each has at most one
 * request in flight; all go over the critical connection. The Lease and CSINode begin when the uid
 * is known, since they are owned by the Node.
 */

#include "node/node-internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"

#include <stdarg.h>

/* --- helpers of the machines --- */

void node_retry_later(NodeRetry *retry, uint64_t max_ms, const ApiResponse *response)
{
        uint64_t delay = retry->delay_ms ? retry->delay_ms * 2 : NODE_RETRY_MIN_MS;
        uint64_t asked = response ? response->retry_after_ms : 0;

        if (delay > max_ms)
                delay = max_ms;
        retry->delay_ms = delay;
        delay = delay * 4 / 5 + random_u64() % (delay * 2 / 5 + 1);
        if (asked > max_ms)
                asked = max_ms;
        timer_start(retry->timer, delay > asked ? delay : asked);
}

ApiRequest *node_call(Node *node, const char *method, const char *path, const Buf *body,
                      const char *content_type, const char *accept, ApiFunc done)
{
        KL_AUTOERR err = NULL;
        ApiRequest *request = NULL;
        ApiCall call = {
                .method = method,
                .path = path,
                .body = body ? buf_str(body) : NULL,
                .body_len = body ? body->len : 0,
                .content_type = content_type,
                .accept = accept,
                .critical = true,
                .timeout_ms = NODE_CALL_TIMEOUT_MS,
                .done = done,
                .data = node,
        };

        if (body && buf_error(body) < 0)
                kl_error(&err, buf_error(body), NULL, "out of memory");
        else if (api_call(node->client, &call, &request, &err) >= 0)
                return request;
        log_error(NULL, "Cannot ask the API server to %s '%s': %s", method, path,
                  kl_error_msg(err));
        return NULL;
}

void node_complain(Node *node, const char *what, const ApiResponse *response)
{
        const char *message = *response->message ? response->message : response->reason;
        KL_AUTOFREE char *text = NULL;

        node->outage = true;
        if (response->status == 0) {
                log_debug(NULL, "Cannot %s: %s", what, message);
                return;
        }
        text = str_format("%s (HTTP status %d)", message, response->status);
        if (!text || str_eq(text, node->complaint)) {
                log_debug(NULL, "Cannot %s: %s", what, message);
                return;
        }
        log_warning(NULL, "Cannot %s, will go on trying: %s", what, text);
        free(node->complaint);
        node->complaint = KL_STEAL(text);
}

void node_satisfied(Node *node)
{
        if (!node->outage)
                return;
        node->outage = false;
        if (node->complaint)
                log_info(NULL, "The API server takes this node's requests again");
        free(node->complaint);
        node->complaint = NULL;
        node_status_distrust(node);
        timer_stop(node->status_retry.timer);
        if (node->watch)
                api_watch_poke(node->watch);
}

void node_event(Node *node, const char *type, const char *reason, const char *format, ...)
{
        /* As upstream, events of a kubelet about its Node carry the name as uid. */
        EventObject object = {
                .api_version = "v1",
                .kind = "Node",
                .namespace = "",
                .name = node->identity.name,
                .uid = node->identity.name,
        };
        KL_AUTOBUF text = BUF_INIT;
        va_list args;

        if (!node->events)
                return;
        va_start(args, format);
        buf_vaddf(&text, format, args);
        va_end(args);
        event_emit(node->events, &object, type, reason, "%s", buf_str(&text));
}

void node_owner_print(const Node *node, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);

        jw_array(&w);
        jw_object(&w);
        jw_kstr(&w, "apiVersion", "v1");
        jw_kstr(&w, "kind", "Node");
        jw_kstr(&w, "name", node->identity.name);
        jw_kstr(&w, "uid", node->uid);
        jw_end(&w);
        jw_end(&w);
}

void node_set_uid(Node *node, const char *uid)
{
        KL_AUTOFREE char *copy = NULL;
        KL_AUTOFREE char *old = NULL;

        node->exists = true;
        if (str_eq(node->uid, uid))
                return;
        copy = strdup(uid);
        if (!copy)
                return;
        old = node->uid;
        node->uid = KL_STEAL(copy);
        log_info(NULL, "Node '%s' is registered, uid %s", node->identity.name, uid);
        node_lease_start(node);
        node_csi_start(node);
        if (node->options.on_registered)
                node->options.on_registered(node, node->options.data);
}

/* --- computing --- */

static NodeHealth health(const Node *node)
{
        bool hold = time_monotonic_ms() < node->hold_ready_until_ms;
        NodeHealth h = { .runtime_error = node->runtime_error,
                         .network_error = node->network_error };

        memcpy(h.pressure, node->pressure, sizeof(h.pressure));
        if (hold)
                return h;
        if (!node->runtime_known)
                h.runtime_error = "container runtime status check may not have completed yet";
        if (!node->network_known)
                h.network_error = "network state unknown";
        if (node->client && !node->csi.done)
                h.storage_error = "CSINode is not yet initialized";
        return h;
}

static const struct {
        const char *calm, *pressed;
} pressure_events[NODE_READY] = {
        [NODE_MEMORY_PRESSURE] = { "NodeHasSufficientMemory", "NodeHasInsufficientMemory" },
        [NODE_DISK_PRESSURE] = { "NodeHasNoDiskPressure", "NodeHasDiskPressure" },
        [NODE_PID_PRESSURE] = { "NodeHasSufficientPID", "NodeHasInsufficientPID" },
};

static void tell_transition(Node *node, int i, const char *from, const char *to)
{
        const char *reason;

        if (i == NODE_READY)
                reason = str_eq(to, "True") ? "NodeReady" : "NodeNotReady";
        else
                reason = str_eq(to, "True") ? pressure_events[i].pressed : pressure_events[i].calm;
        if (str_eq(from, to) || (i == NODE_READY && !from))
                return;
        /* The event is logged, too; it does not say why. */
        if (i == NODE_READY && !str_eq(to, "True"))
                log_info(NULL, "The node is not ready: %s", node->conditions[i].message);
        node_event(node, "Normal", reason, "Node %s status is now: %s", node->identity.name,
                   reason);
}

static void compute_conditions(Node *node)
{
        NodeCondition next[NODE_CONDITIONS] = { 0 };
        const char *before[NODE_CONDITIONS];
        NodeHealth h = health(node);

        if (node_conditions(&h, time_realtime_us(), node->conditions, next) < 0)
                return;
        for (int i = 0; i < NODE_CONDITIONS; i++)
                before[i] = node->conditions[i].status;
        node_conditions_deinit(node->conditions);
        memcpy(node->conditions, next, sizeof(next));
        for (int i = 0; i < NODE_CONDITIONS; i++)
                tell_transition(node, i, before[i], node->conditions[i].status);
}

/* An external cloud provider's addresses are not ours to write, but for the first ones. */
static bool addresses_are_ours(const Node *node)
{
        return !node->options.external_cloud || (!node->exists && node->identity.provided_ip);
}

void node_compute(Node *node)
{
        NodeStatus status = {
                .facts = &node->facts,
                .resources = &node->resources,
                .addresses = addresses_are_ours(node) ? node_addresses(node) : NULL,
                .hostname = node->identity.hostname,
                .kubelet_version = node->options.kubelet_version,
                .runtime_version = node->options.runtime_version,
                .port = node->options.config->port,
                .images = node->images,
                .handlers = node->options.runtime_handlers,
                .user_namespaces = node->options.user_namespaces,
                .recursive_read_only = node->options.recursive_read_only,
        };
        NodeSections next = { 0 };

        compute_conditions(node);
        if (node_sections(&status, &next) < 0)
                return;
        node_sections_deinit(&node->sections);
        node->sections = next;
}

/* The old list stays until the next change: its borrowers may hear of this one a turn later. */
static void take_addresses(Node *node, char **addresses)
{
        strv_free(node->old_addresses);
        node->old_addresses = node->addresses;
        node->addresses = addresses;
        if (node->options.on_changed)
                node->options.on_changed(node, node->options.data);
}

static bool same_addresses(char *const *a, char *const *b)
{
        size_t n = strv_len(a);

        if (n != strv_len(b))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!str_eq(a[i], b[i]))
                        return false;
        return true;
}

/* Memory, huge pages and addresses may change under us. A machine that has lost all its addresses
 * keeps the last ones, as upstream does. */
static void look_again(Node *node)
{
        KL_AUTOERR err = NULL;
        KL_AUTOSTRV addresses = NULL;

        if (facts_refresh(node->options.facts_prefix, &node->facts) >= 0)
                node_resources(&node->facts, node->options.config, &node->resources, NULL);
        if (facts_addresses(node->options.facts_prefix, node->options.node_ips, &addresses, &err) <
            0) {
                log_debug(NULL, "Cannot tell the node's addresses: %s", kl_error_msg(err));
                return;
        }
        if (addresses && !same_addresses(node->addresses, addresses))
                take_addresses(node, KL_STEAL(addresses));
}

static void on_tick(Timer *timer, void *data)
{
        Node *node = data;
        uint64_t now = time_monotonic_ms();
        uint64_t interval = (uint64_t)node->options.config->node_status_update_frequency_us / 1000;

        while (node->tick_due_ms <= now)
                node->tick_due_ms += interval ? interval : 1;
        timer_start(timer, node->tick_due_ms - now);
        look_again(node);
        node_compute(node);
        node_status_send(node);
}

static void on_dirty(Deferred *deferred, void *data)
{
        Node *node = data;

        node_compute(node);
        node_status_send(node);
}

void node_mark_dirty(Node *node)
{
        if (node->started)
                deferred_schedule(node->dirty);
}

/* --- life --- */

static char **copy_strv(Arena *arena, char *const *v)
{
        size_t n = strv_len((char *const *)v);
        char **copy = v ? ARENA_ARRAY(arena, n + 1, char *) : NULL;

        for (size_t i = 0; copy && i < n; i++)
                if (!(copy[i] = arena_strdup(arena, v[i])))
                        return NULL;
        return copy;
}

static int copy_options(Node *node, const NodeOptions *options)
{
        NodeOptions *o = &node->options;
        Arena *arena = node->arena;

        *o = *options;
        o->name = arena_strdup(arena, options->name);
        o->root_dir = arena_strdup(arena, options->root_dir);
        o->kubelet_version = arena_strdup(arena, options->kubelet_version);
        o->runtime_version = arena_strdup(arena, options->runtime_version);
        o->facts_prefix = arena_strdup(arena, options->facts_prefix ? options->facts_prefix : "");
        o->node_ips = copy_strv(arena, options->node_ips);
        o->runtime_handlers = copy_strv(arena, options->runtime_handlers);
        if (!o->name || !o->root_dir || !o->kubelet_version || !o->runtime_version ||
            !o->facts_prefix || (options->node_ips && !o->node_ips) ||
            (options->runtime_handlers && !o->runtime_handlers))
                return -ENOMEM;
        node->node_path = arena_format(arena, "/api/v1/nodes/%s", o->name);
        node->status_path = arena_format(arena, "/api/v1/nodes/%s/status", o->name);
        node->lease_path = arena_format(
                arena, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/%s",
                o->name);
        node->csinode_path = arena_format(arena, "/apis/storage.k8s.io/v1/csinodes/%s", o->name);
        return node->node_path && node->status_path && node->lease_path && node->csinode_path
                       ? 0
                       : -ENOMEM;
}

static void fill_identity(Node *node)
{
        const NodeOptions *o = &node->options;
        const char *ip = o->node_ips ? o->node_ips[0] : NULL;

        if (str_eq(ip, "0.0.0.0") || str_eq(ip, "::"))
                ip = NULL;
        node->identity = (NodeIdentity){
                .name = o->name,
                .hostname = o->name,
                .architecture = node->facts.architecture,
                .labels = o->labels,
                .taints = o->config->register_with_taints,
                .provider_id = o->config->provider_id,
                .provided_ip = o->external_cloud ? ip : NULL,
                .external_cloud = o->external_cloud,
                .attach_detach = o->config->enable_controller_attach_detach,
        };
}

static int find_facts(Node *node, KlError **err)
{
        const NodeOptions *o = &node->options;
        int r = facts_read(o->facts_prefix, &node->facts, err);

        if (r < 0)
                return r;
        r = facts_root_size(o->root_dir, &node->facts.root_bytes);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "look at the file system of '%s'", o->root_dir);
        r = facts_addresses(o->facts_prefix, o->node_ips, &node->addresses, err);
        if (r < 0)
                return r;
        return node_resources(&node->facts, o->config, &node->resources, err);
}

static int make_parts(Node *node)
{
        node->tick = timer_new(node->loop, on_tick, node);
        node->dirty = deferred_new(node->loop, on_dirty, node);
        node->images = strdup("[]");
        if (!node->tick || !node->dirty || !node->images)
                return -ENOMEM;
        if (node_register_init(node) < 0 || node_lease_init(node) < 0 || node_csi_init(node) < 0)
                return -ENOMEM;
        return node_view_from_options(node);
}

int node_new(Loop *loop, ApiClient *client, EventRecorder *events, const NodeOptions *options,
             Node **ret, KlError **err)
{
        KL_AUTO(node_free) Node *node = calloc(1, sizeof(*node));
        int r;

        if (!node)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        node->loop = loop;
        node->client = client;
        node->events = events;
        node->arena = arena_new();
        if (!node->arena || copy_options(node, options) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = find_facts(node, err);
        if (r < 0)
                return r;
        fill_identity(node);
        if (make_parts(node) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *ret = KL_STEAL(node);
        return 0;
}

Node *node_free(Node *node)
{
        if (!node)
                return NULL;
        node_csi_deinit(node);
        node_lease_deinit(node);
        node_register_deinit(node);
        deferred_free(node->dirty);
        timer_free(node->tick);
        node_sections_deinit(&node->sections);
        node_sections_deinit(&node->sent);
        node_sections_deinit(&node->accepted);
        node_conditions_deinit(node->conditions);
        node_conditions_deinit(node->sent_conditions);
        node_conditions_deinit(node->accepted_conditions);
        strv_free(node->stale_resources);
        strv_free(node->addresses);
        strv_free(node->old_addresses);
        free(node->images);
        free(node->runtime_error);
        free(node->network_error);
        free(node->uid);
        free(node->complaint);
        arena_free(node->arena);
        free(node);
        return NULL;
}

void node_start(Node *node)
{
        node->started = true;
        node_event(node, "Normal", "Starting", "Starting kubelet.");
        node_compute(node);
        if (!node->client)
                return;
        node->tick_due_ms = time_monotonic_ms();
        on_tick(node->tick, node);
        node_register_start(node);
}

/* --- inputs --- */

static void set_error(Node *node, bool *known, char **error, bool ready, const char *message)
{
        char *next = NULL;

        if (!ready) {
                next = strdup(message ? message : "");
                if (!next)
                        return;
        }
        if (*known && (ready ? !*error : str_eq(*error, next))) {
                free(next);
                return;
        }
        *known = true;
        free(*error);
        *error = next;
        node_mark_dirty(node);
}

void node_set_network_ready(Node *node, bool ready, const char *message)
{
        set_error(node, &node->network_known, &node->network_error, ready, message);
}

void node_set_runtime_ready(Node *node, bool ready, const char *message)
{
        set_error(node, &node->runtime_known, &node->runtime_error, ready, message);
}

void node_set_pressure(Node *node, NodeConditionType which, bool pressed)
{
        if (which >= NODE_READY || node->pressure[which] == pressed)
                return;
        node->pressure[which] = pressed;
        node_mark_dirty(node);
}

int node_set_images(Node *node, const NodeImage *images, size_t n)
{
        char *text = node_images_print(images, n, node->options.config->node_status_max_images);

        if (!text)
                return -ENOMEM;
        free(node->images);
        node->images = text;
        return 0;
}

/* --- what is known --- */

const char *node_name(const Node *node)
{
        return node->identity.name;
}

const char *node_uid(const Node *node)
{
        return node->uid ? node->uid : "";
}

bool node_registered(const Node *node)
{
        return node->uid && node->exists;
}

bool node_ready(const Node *node)
{
        return str_eq(node->conditions[NODE_READY].status, "True");
}

char *const *node_addresses(const Node *node)
{
        static char *none[] = { NULL };

        return node->addresses ? node->addresses : none;
}

const NodeResources *node_resource_list(const Node *node)
{
        return &node->resources;
}

const NodeFacts *node_facts(const Node *node)
{
        return &node->facts;
}

const ConfigPair *node_labels(const Node *node)
{
        return node->view.labels;
}

const ConfigPair *node_extended_resources(const Node *node)
{
        return node->view.extended;
}

const ConfigTaint *node_taints(const Node *node)
{
        return node->view.taints;
}

char *const *node_pod_cidrs(const Node *node)
{
        return node->view.pod_cidrs;
}

int node_print(Node *node, Buf *to)
{
        node_compute(node);
        return node_object_print(&node->identity, &node->sections, node->conditions,
                                 time_realtime_us(), to);
}

ApiEndpoint node_api_endpoint(const Kubeconfig *kubeconfig, const char *user_agent)
{
        return (ApiEndpoint){
                .server = kubeconfig->server,
                .tls_server_name = kubeconfig->tls_server_name,
                .ca_pem = kubeconfig->ca_pem,
                .cert_pem = kubeconfig->cert_pem,
                .key_pem = kubeconfig->key_pem,
                .cert_file = kubeconfig->cert_file,
                .key_file = kubeconfig->key_file,
                .token = kubeconfig->token,
                .token_file = kubeconfig->token_file,
                .proxy_url = kubeconfig->proxy_url,
                .insecure_skip_verify = kubeconfig->insecure_skip_verify,
                .user_agent = user_agent,
        };
}
