/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Posting the status: on any difference from what the server accepted last, and every report
 * period. The server is asked for metadata only; what it made of the rest is told by the watch of
 * the own Node. A write that others' changes call for (a controller that set Ready to Unknown) goes
 * out when the watch shows it.
 */

#include "node/node-internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"

int node_conditions_copy(const NodeCondition *from, NodeCondition *to)
{
        node_conditions_deinit(to);
        for (int i = 0; i < NODE_CONDITIONS; i++) {
                to[i] = from[i];
                to[i].message = from[i].message ? strdup(from[i].message) : NULL;
                if (from[i].message && !to[i].message)
                        return -ENOMEM;
        }
        return 0;
}

int node_sections_copy(const NodeSections *from, NodeSections *to)
{
        node_sections_deinit(to);
        for (int i = 0; i < NODE_SECTIONS; i++) {
                to->text[i] = from->text[i] ? strdup(from->text[i]) : NULL;
                if (from->text[i] && !to->text[i])
                        return -ENOMEM;
        }
        return 0;
}

void node_status_forget(Node *node)
{
        node_sections_deinit(&node->accepted);
        node_conditions_deinit(node->accepted_conditions);
}

void node_status_distrust(Node *node)
{
        for (int i = 0; i < NODE_CONDITIONS; i++)
                node->accepted_conditions[i].status = NULL;
        node_mark_dirty(node);
}

static uint64_t version_of(const Value *object)
{
        uint64_t version;
        const char *text = value_str(value_path(object, "metadata.resourceVersion"));

        return text && str_to_u64(text, UINT64_MAX, &version) >= 0 ? version : 0;
}

/* Holds what was seen against what was accepted; what was seen before our last write says nothing.
 * The watch may be ahead of the answer to a write: then it is looked at again with that. */
static void compare_seen(Node *node)
{
        bool differs = false;

        if (node->status_request || !node->seen_version || node->seen_version < node->version)
                return;
        for (int i = 0; i < NODE_CONDITIONS; i++) {
                NodeCondition *accepted = &node->accepted_conditions[i];

                if (!accepted->status || str_eq(node->seen[i], accepted->status))
                        continue;
                accepted->status = NULL;
                differs = true;
        }
        if (differs)
                node_mark_dirty(node);
}

static void on_answer(ApiRequest *request, const ApiResponse *response, void *data)
{
        Node *node = data;

        node->status_request = NULL;
        if (response->status >= 200 && response->status < 300) {
                uint64_t version = version_of(response->object);

                if (version > node->version)
                        node->version = version;
                node_retry_reset(&node->status_retry);
                node->reported_ms = time_monotonic_ms();
                node_sections_deinit(&node->accepted);
                node_conditions_deinit(node->accepted_conditions);
                node->accepted = node->sent;
                memcpy(node->accepted_conditions, node->sent_conditions,
                       sizeof(node->sent_conditions));
                node->sent = (NodeSections){ 0 };
                memset(node->sent_conditions, 0, sizeof(node->sent_conditions));
                strv_free(node->stale_resources);
                node->stale_resources = NULL;
                compare_seen(node);
                node_satisfied(node);
                node_mark_dirty(node);
                return;
        }
        node_complain(node, "post the Node's status", response);
        node_retry_later(&node->status_retry, NODE_STATUS_RETRY_MAX_MS, response);
}

static bool report_due(const Node *node)
{
        uint64_t period = (uint64_t)node->options.config->node_status_report_frequency_us / 1000;

        return time_monotonic_ms() - node->reported_ms >= period;
}

void node_status_send(Node *node)
{
        NodePatch patch = {
                .uid = node->uid,
                .now = &node->sections,
                .accepted = &node->accepted,
                .conditions = node->conditions,
                .accepted_conditions = node->accepted_conditions,
                .stale_resources = node->stale_resources,
                .now_us = time_realtime_us(),
        };
        KL_AUTOBUF body = BUF_INIT;

        if (!node->client || !node->uid || !node->exists || node->status_request ||
            timer_active(node->status_retry.timer))
                return;
        if (!node_patch_needed(&patch) && !report_due(node))
                return;
        if (node_sections_copy(&node->sections, &node->sent) < 0 ||
            node_conditions_copy(node->conditions, node->sent_conditions) < 0)
                return;
        node_patch_print(&patch, &body);
        node->status_request = node_call(node, "PATCH", node->status_path, &body, NODE_STRATEGIC,
                                         NODE_ACCEPT_METADATA, on_answer);
        if (!node->status_request)
                node_retry_later(&node->status_retry, NODE_STATUS_RETRY_MAX_MS, NULL);
}

/* --- an existing Node --- */

/* The reason as one of the constants that we use ourselves; NULL for any other. */
static const char *known_reason(const char *reason)
{
        static const char *const known[] = {
                "KubeletReady",
                "KubeletNotReady",
                "KubeletHasSufficientMemory",
                "KubeletHasInsufficientMemory",
                "KubeletHasNoDiskPressure",
                "KubeletHasDiskPressure",
                "KubeletHasSufficientPID",
                "KubeletHasInsufficientPID",
        };

        for (size_t i = 0; i < ELEMENTS(known); i++)
                if (str_eq(known[i], reason))
                        return known[i];
        return NULL;
}

static const char *known_status(const char *status)
{
        static const char *const known[] = { "True", "False", "Unknown" };

        for (size_t i = 0; i < ELEMENTS(known); i++)
                if (str_eq(known[i], status))
                        return known[i];
        return NULL;
}

static const Value *find_condition(const Value *object, const char *type)
{
        const Value *conditions = value_path(object, "status.conditions");

        for (size_t i = 0; i < value_len(conditions); i++)
                if (str_eq(value_get_str(value_at(conditions, i), "type"), type))
                        return value_at(conditions, i);
        return NULL;
}

static void read_conditions(const Value *object, NodeCondition *ret)
{
        node_conditions_deinit(ret);
        for (int i = 0; i < NODE_CONDITIONS; i++) {
                const Value *v = find_condition(object, node_condition_names[i]);
                const char *since = value_get_str(v, "lastTransitionTime");
                const char *message = value_get_str(v, "message");

                ret[i].status = known_status(value_get_str(v, "status"));
                ret[i].reason = known_reason(value_get_str(v, "reason"));
                ret[i].message = message ? strdup(message) : NULL;
                if (!since || time_parse_rfc3339(since, &ret[i].transition_us) < 0)
                        ret[i].transition_us = time_realtime_us();
        }
}

static void find_stale_resources(Node *node, const Value *capacity)
{
        const char *key;
        const Value *child;

        strv_free(node->stale_resources);
        node->stale_resources = NULL;
        for (void *it = NULL; value_next(capacity, &it, &key, &child);) {
                bool ours = false;

                for (size_t i = 0; i < node->resources.n; i++)
                        ours = ours || str_eq(node->resources.capacity[i].name, key);
                if (!ours && str_starts(key, "hugepages-"))
                        strv_add(&node->stale_resources, key);
        }
}

static void adopt_sections(Node *node, const Value *status)
{
        for (int i = 0; i < NODE_SECTIONS; i++) {
                const char *text = node->sections.text[i];
                KL_AUTO(value_free) Value *ours = NULL;

                if (!text || json_parse(text, strlen(text), &ours, NULL) < 0)
                        continue;
                if (node_value_contains(value_get(status, node_section_names[i]), ours))
                        node->accepted.text[i] = strdup(text);
        }
}

void node_status_adopt(Node *node, const Value *object)
{
        const Value *status = value_get(object, "status");
        const char *boot_id = value_str(value_path(status, "nodeInfo.bootID"));
        bool rebooted = !str_empty(boot_id) && !str_eq(boot_id, node->facts.boot_id);
        const char *ready;

        node_status_forget(node);
        adopt_sections(node, status);
        find_stale_resources(node, value_get(status, "capacity"));
        read_conditions(object, node->accepted_conditions);
        ready = node->accepted_conditions[NODE_READY].status;
        if (rebooted)
                node_event(node, "Warning", "Rebooted", "Node %s has been rebooted, boot id: %s",
                           node->identity.name, node->facts.boot_id);
        else if (str_eq(ready, "True"))
                node->hold_ready_until_ms = time_monotonic_ms() + NODE_ADOPT_GRACE_MS;
        /* Transition times go on from what the server has. */
        node_conditions_copy(node->accepted_conditions, node->conditions);
        node->version = version_of(object);
        node->seen_version = 0;
        node->reported_ms = time_monotonic_ms();
}

void node_status_compare(Node *node, const Value *object)
{
        node->seen_version = version_of(object);
        for (int i = 0; i < NODE_CONDITIONS; i++) {
                const Value *v = find_condition(object, node_condition_names[i]);

                node->seen[i] = known_status(value_get_str(v, "status"));
        }
        compare_seen(node);
}
