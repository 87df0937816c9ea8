/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The Lease: the node's sign of life. Renewed on a fixed grid of a quarter of its duration by a
 * merge patch of renewTime alone, answered in protobuf (half the bytes of JSON). The first write of
 * a daemon, and any after a failure that leaves doubt, carries owner, holder and duration, too. One
 * that is missing is created, but only with an owner: without a Node there is no Lease.
 *
 * A renewal that is not answered within NODE_CALL_TIMEOUT_MS takes its connection with it
 * (api/client.h), the next try goes out on a new one.
 */

#include "node/node-internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"

#define LEASE_COLLECTION "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

static uint64_t interval_ms(const Node *node)
{
        return (uint64_t)node->options.config->node_lease_duration_seconds * 1000 / 4;
}

static void write_lease(Node *node);

static void wait_for_next(Node *node)
{
        NodeLease *lease = &node->lease;
        uint64_t now = time_monotonic_ms(), interval = interval_ms(node);

        while (lease->due_ms <= now)
                lease->due_ms += interval ? interval : 1;
        timer_start(lease->retry.timer, lease->due_ms - now);
}

static void on_answer(ApiRequest *request, const ApiResponse *response, void *data)
{
        Node *node = data;
        NodeLease *lease = &node->lease;

        lease->request = NULL;
        if (response->status >= 200 && response->status < 300) {
                lease->whole = lease->create = false;
                node_satisfied(node);
                node_retry_reset(&lease->retry);
                wait_for_next(node);
                return;
        }
        if (response->status == 404 && !lease->create) {
                lease->create = true;
                write_lease(node);
                return;
        }
        /* Somebody made it between our two requests; or it is not as we believe. */
        if (response->status == 409)
                lease->create = false;
        lease->whole = true;
        node_complain(node, "renew the node's Lease", response);
        node_retry_later(&lease->retry, interval_ms(node), response);
}

static void print_spec(JsonWriter *w, const Node *node, bool whole)
{
        char now[TIME_RFC3339_SIZE];

        time_format_rfc3339_micro(time_realtime_us(), now);
        jw_kobject(w, "spec");
        if (whole) {
                jw_kstr(w, "holderIdentity", node->identity.name);
                jw_kint(w, "leaseDurationSeconds",
                        node->options.config->node_lease_duration_seconds);
        }
        jw_kstr(w, "renewTime", now);
        jw_end(w);
}

static void print_lease(const Node *node, Buf *to)
{
        const NodeLease *lease = &node->lease;
        JsonWriter w = JSON_WRITER(to);
        KL_AUTOBUF owner = BUF_INIT;

        jw_object(&w);
        if (lease->create) {
                jw_kstr(&w, "apiVersion", "coordination.k8s.io/v1");
                jw_kstr(&w, "kind", "Lease");
        }
        if (lease->create || lease->whole) {
                node_owner_print(node, &owner);
                jw_kobject(&w, "metadata");
                if (lease->create) {
                        jw_kstr(&w, "name", node->identity.name);
                        jw_kstr(&w, "namespace", "kube-node-lease");
                }
                jw_key(&w, "ownerReferences");
                jw_raw(&w, buf_str(&owner), owner.len);
                jw_end(&w);
        }
        print_spec(&w, node, lease->create || lease->whole);
        jw_end(&w);
}

static void write_lease(Node *node)
{
        NodeLease *lease = &node->lease;
        KL_AUTOBUF body = BUF_INIT;

        if (!node->exists) {
                /* Collected with its Node; a new one begins with the Node's next uid. */
                wait_for_next(node);
                return;
        }
        print_lease(node, &body);
        if (lease->create)
                lease->request = node_call(node, "POST", LEASE_COLLECTION, &body, NULL,
                                           NODE_ACCEPT_PROTOBUF, on_answer);
        else
                lease->request = node_call(node, "PATCH", node->lease_path, &body, NODE_MERGE,
                                           NODE_ACCEPT_PROTOBUF, on_answer);
        if (!lease->request)
                node_retry_later(&lease->retry, interval_ms(node), NULL);
}

static void on_timer(Timer *timer, void *data)
{
        Node *node = data;

        if (!node->lease.request)
                write_lease(node);
}

int node_lease_init(Node *node)
{
        node->lease.retry.timer = timer_new(node->loop, on_timer, node);
        return node->lease.retry.timer ? 0 : -ENOMEM;
}

void node_lease_start(Node *node)
{
        NodeLease *lease = &node->lease;

        lease->whole = true;
        if (lease->request)
                return;
        lease->due_ms = time_monotonic_ms();
        timer_stop(lease->retry.timer);
        write_lease(node);
}

void node_lease_deinit(Node *node)
{
        if (node->lease.request)
                api_request_cancel(node->lease.request);
        timer_free(node->lease.retry.timer);
}
