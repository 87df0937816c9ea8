/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Registration: POST the Node; if it exists, GET it, put right the labels and annotation that are
 * ours (upstream's adoption), take over its conditions. Then follow it by a watch of the one
 * object. With registerNode false there is only the watch: the node begins when somebody has made
 * it.
 */

#include "node/node-internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

static void try_to_create(Node *node);

static void again(Node *node, const ApiResponse *response)
{
        node_retry_later(&node->register_retry, NODE_REGISTER_RETRY_MAX_MS, response);
}

/* --- the view: labels, taints, pod CIDRs, extended resources --- */

static void view_deinit(NodeView *view)
{
        arena_free(view->arena);
        *view = (NodeView){ 0 };
}

static bool pairs_equal(const ConfigPair *a, const ConfigPair *b)
{
        for (; a && b && a->key && b->key; a++, b++)
                if (!str_eq(a->key, b->key) || !str_eq(a->value, b->value))
                        return false;
        return !(a && a->key) && !(b && b->key);
}

static bool taints_equal(const ConfigTaint *a, const ConfigTaint *b)
{
        for (; a && b && a->key && b->key; a++, b++)
                if (!str_eq(a->key, b->key) || !str_eq(a->value, b->value) ||
                    !str_eq(a->effect, b->effect))
                        return false;
        return !(a && a->key) && !(b && b->key);
}

static bool lists_equal(char *const *a, char *const *b)
{
        for (; a && b && *a && *b; a++, b++)
                if (!str_eq(*a, *b))
                        return false;
        return !(a && *a) && !(b && *b);
}

/* "example.com/dongle": what an administrator wrote into the status, and no kubelet computes. */
static int read_extended(NodeView *view, const Value *object)
{
        const Value *amounts = value_path(object, "status.allocatable"), *child;
        const char *name;
        size_t n = 0;

        view->extended = ARENA_ARRAY(view->arena, value_len(amounts) + 1, ConfigPair);
        if (!view->extended)
                return -ENOMEM;
        for (void *it = NULL; value_next(amounts, &it, &name, &child);) {
                if (!strchr(name, '/') || !value_str(child))
                        continue;
                view->extended[n].key = arena_strdup(view->arena, name);
                view->extended[n++].value = arena_strdup(view->arena, value_str(child));
        }
        return 0;
}

static int view_read(NodeView *view, const Value *object)
{
        const Value *labels = value_path(object, "metadata.labels");
        const Value *taints = value_path(object, "spec.taints");
        const Value *cidrs = value_path(object, "spec.podCIDRs");
        size_t n_labels = value_len(labels), n_taints = value_len(taints), n = 0;
        const char *key;
        const Value *child;

        view->arena = arena_new();
        if (!view->arena)
                return -ENOMEM;
        view->labels = ARENA_ARRAY(view->arena, n_labels + 1, ConfigPair);
        view->taints = ARENA_ARRAY(view->arena, n_taints + 1, ConfigTaint);
        view->pod_cidrs = ARENA_ARRAY(view->arena, value_len(cidrs) + 1, char *);
        if (!view->labels || !view->taints || !view->pod_cidrs)
                return -ENOMEM;
        for (void *it = NULL; value_next(labels, &it, &key, &child); n++) {
                const char *text = value_str(child);

                view->labels[n].key = arena_strdup(view->arena, key);
                view->labels[n].value = arena_strdup(view->arena, text ? text : "");
        }
        for (size_t i = 0; i < n_taints; i++) {
                const Value *taint = value_at(taints, i);
                const char *value = value_get_str(taint, "value");

                key = value_get_str(taint, "key");
                view->taints[i].key = arena_strdup(view->arena, key ? key : "");
                view->taints[i].value = arena_strdup(view->arena, value ? value : "");
                view->taints[i].effect = arena_strdup(view->arena, value_get_str(taint, "effect"));
        }
        n = 0;
        for (size_t i = 0; i < value_len(cidrs); i++)
                if (value_str(value_at(cidrs, i)))
                        view->pod_cidrs[n++] =
                                arena_strdup(view->arena, value_str(value_at(cidrs, i)));
        return read_extended(view, object);
}

static void view_update(Node *node, const Value *object)
{
        NodeView next = { 0 }, old;
        bool same;

        if (view_read(&next, object) < 0) {
                log_error(NULL, "Cannot take over the Node's labels: out of memory, ignoring");
                view_deinit(&next);
                return;
        }
        same = pairs_equal(node->view.labels, next.labels) &&
               taints_equal(node->view.taints, next.taints) &&
               pairs_equal(node->view.extended, next.extended) &&
               lists_equal(node->view.pod_cidrs, next.pod_cidrs);
        if (same) {
                view_deinit(&next);
                return;
        }
        old = node->view;
        node->view = next;
        if (node->options.on_changed)
                node->options.on_changed(node, node->options.data);
        view_deinit(&old);
}

/* Before the server has told anything: as the object would be registered. */
int node_view_from_options(Node *node)
{
        KL_AUTO(value_free) Value *object = value_new_object();
        const NodeIdentity *id = &node->identity;
        NodeView *view = &node->view;
        const ConfigPair own[] = {
                { (char *)(uintptr_t) "kubernetes.io/arch", (char *)(uintptr_t)id->architecture },
                { (char *)(uintptr_t) "kubernetes.io/hostname", (char *)(uintptr_t)id->hostname },
                { (char *)(uintptr_t) "kubernetes.io/os", (char *)(uintptr_t) "linux" },
        };
        Value *labels;

        labels = object ? value_object_at(value_object_at(object, "metadata"), "labels") : NULL;
        if (!labels)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTS(own); i++)
                if (value_set_str(labels, own[i].key, own[i].value) < 0)
                        return -ENOMEM;
        for (const ConfigPair *p = id->labels; p && p->key; p++)
                if (value_set_str(labels, p->key, p->value) < 0)
                        return -ENOMEM;
        if (view_read(view, object) < 0)
                return -ENOMEM;
        if (id->taints)
                view->taints = node->options.config->register_with_taints;
        if (!str_empty(node->options.config->pod_cidr)) {
                view->pod_cidrs = ARENA_ARRAY(view->arena, 2, char *);
                if (!view->pod_cidrs)
                        return -ENOMEM;
                view->pod_cidrs[0] = arena_strdup(view->arena, node->options.config->pod_cidr);
        }
        return 0;
}

/* --- following --- */

static void on_set(Node *node, const Value *object, const char *uid)
{
        bool other = !str_eq(node->uid, uid);
        bool back = node->uid && (other || !node->exists);

        if (back)
                log_info(NULL, "Node '%s' is there again", node->identity.name);
        if (other || back) {
                node_compute(node);
                node_status_adopt(node, object);
                /* An exact copy of another object's status is no proof that ours was written. */
                if (back)
                        node_status_forget(node);
                node_set_uid(node, uid);
                node_mark_dirty(node);
        } else {
                node_status_compare(node, object);
        }
        view_update(node, object);
}

static void on_event(ApiWatch *watch, const ApiEvent *event, void *data)
{
        Node *node = data;

        switch (event->type) {
        case API_EVENT_SET:
                if (event->uid && str_eq(event->name, node->identity.name))
                        on_set(node, event->object, event->uid);
                break;
        case API_EVENT_DELETED:
                if (!node->exists)
                        break;
                log_warning(NULL,
                            "Node '%s' was deleted; it is registered again when the daemon "
                            "starts",
                            node->identity.name);
                node->exists = false;
                break;
        case API_EVENT_SYNCED:
                if (!node->uid && !node->options.config->register_node)
                        log_info(NULL,
                                 "Waiting for somebody to make Node '%s' (registerNode is "
                                 "false)",
                                 node->identity.name);
                break;
        case API_EVENT_ERROR:
                log_debug(NULL, "Cannot follow the Node: %s", event->message);
                break;
        }
}

static void follow(Node *node)
{
        KL_AUTOERR err = NULL;
        KL_AUTOFREE char *selector = str_format("metadata.name=%s", node->identity.name);
        ApiWatchSpec spec = {
                .path = "/api/v1/nodes",
                .field_selector = selector,
                .func = on_event,
                .data = node,
        };

        if (node->watch || !selector)
                return;
        if (api_watch(node->client, &spec, &node->watch, &err) < 0)
                log_error(NULL, "Cannot follow the Node: %s", kl_error_msg(err));
}

/* --- registering --- */

static bool good(const ApiResponse *response)
{
        return response->status >= 200 && response->status < 300;
}

static void finish(Node *node, const char *uid)
{
        node_satisfied(node);
        node_retry_reset(&node->register_retry);
        node_set_uid(node, uid);
        node_mark_dirty(node);
        follow(node);
}

static void on_reconciled(ApiRequest *request, const ApiResponse *response, void *data)
{
        Node *node = data;

        node->register_request = NULL;
        if (good(response))
                return;
        /* Not worth another round: the node runs without, and the next start tries again. */
        log_warning(NULL, "Cannot put right the Node's labels and annotations: %d %s, ignoring",
                    response->status, response->message);
}

static void adopt(Node *node, const Value *object)
{
        const char *uid = value_str(value_path(object, "metadata.uid"));
        KL_AUTOBUF patch = BUF_INIT;

        if (!uid) {
                again(node, NULL);
                return;
        }
        log_info(NULL, "Node '%s' was registered before", node->identity.name);
        node_compute(node);
        node_status_adopt(node, object);
        view_update(node, object);
        node_adopt_print(&node->identity, object, &patch);
        if (patch.len)
                node->register_request =
                        node_call(node, "PATCH", node->status_path, &patch, NODE_STRATEGIC,
                                  NODE_ACCEPT_METADATA, on_reconciled);
        finish(node, uid);
}

static void on_existing(ApiRequest *request, const ApiResponse *response, void *data)
{
        Node *node = data;

        node->register_request = NULL;
        if (good(response) && response->object) {
                adopt(node, response->object);
                return;
        }
        if (response->status != 404)
                node_complain(node, "read the Node", response);
        again(node, response);
}

static void on_created(ApiRequest *request, const ApiResponse *response, void *data)
{
        Node *node = data;
        const char *uid = value_str(value_path(response->object, "metadata.uid"));

        node->register_request = NULL;
        if (response->status == 409) {
                node->register_request =
                        node_call(node, "GET", node->node_path, NULL, NULL, NULL, on_existing);
                if (!node->register_request)
                        again(node, NULL);
                return;
        }
        if (!good(response) || !uid) {
                node_complain(node, "register the Node", response);
                again(node, response);
                return;
        }
        node_status_forget(node);
        node->accepted = node->sent;
        memcpy(node->accepted_conditions, node->sent_conditions, sizeof(node->sent_conditions));
        node->sent = (NodeSections){ 0 };
        memset(node->sent_conditions, 0, sizeof(node->sent_conditions));
        node->reported_ms = time_monotonic_ms();
        view_update(node, response->object);
        finish(node, uid);
}

static void try_to_create(Node *node)
{
        KL_AUTOBUF body = BUF_INIT;

        node_compute(node);
        if (node_sections_copy(&node->sections, &node->sent) < 0 ||
            node_conditions_copy(node->conditions, node->sent_conditions) < 0) {
                again(node, NULL);
                return;
        }
        node_object_print(&node->identity, &node->sections, node->conditions, time_realtime_us(),
                          &body);
        node->register_request =
                node_call(node, "POST", "/api/v1/nodes", &body, NULL, NULL, on_created);
        if (!node->register_request)
                again(node, NULL);
}

static void on_register_timer(Timer *timer, void *data)
{
        Node *node = data;

        if (!node->register_request && !node->uid)
                try_to_create(node);
}

static void on_status_timer(Timer *timer, void *data)
{
        node_mark_dirty(data);
}

int node_register_init(Node *node)
{
        node->register_retry.timer = timer_new(node->loop, on_register_timer, node);
        node->status_retry.timer = timer_new(node->loop, on_status_timer, node);
        return node->register_retry.timer && node->status_retry.timer ? 0 : -ENOMEM;
}

void node_register_start(Node *node)
{
        if (node->options.config->register_node)
                try_to_create(node);
        else
                follow(node);
}

void node_register_deinit(Node *node)
{
        api_watch_free(node->watch);
        if (node->register_request)
                api_request_cancel(node->register_request);
        if (node->status_request)
                api_request_cancel(node->status_request);
        timer_free(node->register_retry.timer);
        timer_free(node->status_retry.timer);
        view_deinit(&node->view);
}
