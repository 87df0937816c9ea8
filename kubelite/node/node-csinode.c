/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The CSINode: must exist from the start, owned by the Node, or nothing is ever attached here. Its
 * drivers belong to the plugin registration; here it is made empty, and an existing one gets the
 * right owner and annotation. The annotation says which in-tree volume plugins this node has handed
 * over to CSI: all of them.
 */

#include "node/node-internal.h"

#include "base/str.h"
#include "codec/json.h"

#define CSINODES "/apis/storage.k8s.io/v1/csinodes"
#define MIGRATED_KEY "storage.alpha.kubernetes.io/migrated-plugins"
#define MIGRATED                                                                                   \
        "kubernetes.io/aws-ebs,kubernetes.io/azure-disk,kubernetes.io/azure-file,"                 \
        "kubernetes.io/cinder,kubernetes.io/gce-pd,kubernetes.io/portworx-volume,"                 \
        "kubernetes.io/vsphere-volume"
#define CSI_RETRY_MAX_MS 10000

static void look(Node *node);

static void again(Node *node, const ApiResponse *response)
{
        node_retry_later(&node->csi.retry, CSI_RETRY_MAX_MS, response);
}

static void done(Node *node)
{
        node_retry_reset(&node->csi.retry);
        node_satisfied(node);
        node->csi.done = true;
        node_mark_dirty(node);
}

static void on_written(ApiRequest *request, const ApiResponse *response, void *data)
{
        Node *node = data;

        node->csi.request = NULL;
        if (response->status >= 200 && response->status < 300) {
                done(node);
                return;
        }
        if (response->status != 409)
                node_complain(node, "write the CSINode", response);
        again(node, response);
}

static void write_csinode(Node *node, bool create)
{
        KL_AUTOBUF body = BUF_INIT;
        KL_AUTOBUF owner = BUF_INIT;
        JsonWriter w = JSON_WRITER(&body);

        node_owner_print(node, &owner);
        jw_object(&w);
        if (create) {
                jw_kstr(&w, "apiVersion", "storage.k8s.io/v1");
                jw_kstr(&w, "kind", "CSINode");
        }
        jw_kobject(&w, "metadata");
        jw_kobject(&w, "annotations");
        jw_kstr(&w, MIGRATED_KEY, MIGRATED);
        jw_end(&w);
        if (create)
                jw_kstr(&w, "name", node->identity.name);
        jw_key(&w, "ownerReferences");
        jw_raw(&w, buf_str(&owner), owner.len);
        jw_end(&w);
        if (create) {
                jw_kobject(&w, "spec");
                jw_karray(&w, "drivers");
                jw_end(&w);
                jw_end(&w);
        }
        jw_end(&w);
        if (create)
                node->csi.request = node_call(node, "POST", CSINODES, &body, NULL,
                                              NODE_ACCEPT_METADATA, on_written);
        else
                node->csi.request = node_call(node, "PATCH", node->csinode_path, &body, NODE_MERGE,
                                              NODE_ACCEPT_METADATA, on_written);
        if (!node->csi.request)
                again(node, NULL);
}

static bool as_it_should_be(const Node *node, const Value *object)
{
        const Value *owners = value_path(object, "metadata.ownerReferences");
        const Value *annotations = value_path(object, "metadata.annotations");

        if (!str_eq(value_get_str(annotations, MIGRATED_KEY), MIGRATED))
                return false;
        for (size_t i = 0; i < value_len(owners); i++)
                if (str_eq(value_get_str(value_at(owners, i), "uid"), node->uid))
                        return true;
        return false;
}

static void on_read(ApiRequest *request, const ApiResponse *response, void *data)
{
        Node *node = data;

        node->csi.request = NULL;
        if (response->status == 404) {
                write_csinode(node, true);
        } else if (response->status != 200 || !response->object) {
                node_complain(node, "read the CSINode", response);
                again(node, response);
        } else if (as_it_should_be(node, response->object)) {
                done(node);
        } else {
                write_csinode(node, false);
        }
}

static void look(Node *node)
{
        node->csi.request = node_call(node, "GET", node->csinode_path, NULL, NULL, NULL, on_read);
        if (!node->csi.request)
                again(node, NULL);
}

static void on_timer(Timer *timer, void *data)
{
        Node *node = data;

        if (node->csi.request)
                return;
        if (node->exists)
                look(node);
        else
                again(node, NULL);
}

int node_csi_init(Node *node)
{
        node->csi.retry.timer = timer_new(node->loop, on_timer, node);
        return node->csi.retry.timer ? 0 : -ENOMEM;
}

void node_csi_start(Node *node)
{
        if (node->csi.request)
                api_request_cancel(node->csi.request);
        node->csi.request = NULL;
        node_retry_reset(&node->csi.retry);
        look(node);
}

void node_csi_deinit(Node *node)
{
        if (node->csi.request)
                api_request_cancel(node->csi.request);
        timer_free(node->csi.retry.timer);
}
