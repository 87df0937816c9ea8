# SPDX-License-Identifier: Apache-2.0
"""The cluster under the tests is what they take it for."""

import pytest

from support import audit, pods
from support.api import MERGE, ApiError
from support.wait import eventually

OWN_LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


@pytest.fixture
def own_node(cluster):
    """(client, name) of a node that has registered itself."""
    client = cluster.node_client("infra")
    client.post("/api/v1/nodes", {"metadata": {"name": "infra"}})
    yield client, "infra"
    cluster.admin.delete("/api/v1/nodes/infra")


def refused(call, *args, **kwargs):
    with pytest.raises(ApiError) as e:
        call(*args, **kwargs)
    return e.value.status


def test_json_writes_of_maps_work(cluster, namespace):
    """A server with the vendored reflect2 panics here."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    cluster.admin.post(path, {"metadata": {"name": "c", "labels": {"a": "b", "c": "d"}}, "data": {"k": "v"}})
    assert cluster.admin.get(f"{path}/c")["metadata"]["labels"] == {"a": "b", "c": "d"}
    cluster.admin.patch(f"{path}/c", {"data": {"k": "w"}}, MERGE)
    assert cluster.admin.get(f"{path}/c")["data"] == {"k": "w"}


def test_watch_sees_changes(cluster, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    version = cluster.admin.get(path)["metadata"]["resourceVersion"]
    cluster.admin.post(path, {"metadata": {"name": "seen"}})
    # The namespace's own kube-root-ca.crt may come in between.
    names = (e.object["metadata"]["name"] for e in cluster.admin.watch(path, version, 10) if e.type == "ADDED")
    assert "seen" in names


def test_wait_for_follows_one_object(cluster, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    cluster.admin.post(path, {"metadata": {"name": "x"}})
    assert cluster.admin.wait_for(f"{path}/x", lambda o: o is not None, 5)["metadata"]["name"] == "x"
    with pytest.raises(AssertionError, match="not within"):
        cluster.admin.wait_for(f"{path}/x", lambda o: o is None, 0.3)


def test_node_may_write_its_own_node_only(cluster, own_node):
    client, name = own_node
    client.patch(f"/api/v1/nodes/{name}/status", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    assert refused(client.post, "/api/v1/nodes", {"metadata": {"name": "other"}}) == 403
    client.post(OWN_LEASE, {"metadata": {"name": name, "namespace": "kube-node-lease"}})
    assert refused(client.post, OWN_LEASE, {"metadata": {"name": "other", "namespace": "kube-node-lease"}}) == 403


def test_node_reads_only_secrets_of_its_pods(cluster, own_node, namespace):
    client, name = own_node
    base = f"/api/v1/namespaces/{namespace}"
    for secret in ("mine", "other"):
        cluster.admin.post(f"{base}/secrets", {"metadata": {"name": secret}, "stringData": {"k": "v"}})
    volume = {"name": "s", "secret": {"secretName": "mine"}}
    pod = pods.pod("p", pods.container("c", "busybox"), namespace=namespace, node=name, volumes=[volume])
    cluster.admin.post(f"{base}/pods", pod)

    def reads():
        try:
            return client.get(f"{base}/secrets/mine")["metadata"]["name"] == "mine"
        except ApiError as e:
            assert e.status == 403
            return False

    eventually(reads, 5, "the authorizer's graph knows the pod")
    assert refused(client.get, f"{base}/secrets/other") == 403
    assert refused(client.get, f"{base}/secrets") == 403
    cluster.admin.delete(pods.path(pod), grace=0)


def test_service_account_tokens_are_made(cluster, namespace):
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    request = {"spec": {"audiences": ["x"], "expirationSeconds": 600}}
    assert cluster.admin.post(path, request)["status"]["token"].count(".") == 2


def test_scheduler_binds(cluster, own_node, namespace):
    client, name = own_node
    capacity = {"cpu": "2", "memory": "1Gi", "pods": "10"}
    status = {"capacity": capacity, "allocatable": capacity, "conditions": [
        {"type": "Ready", "status": "True", "reason": "x", "message": "x"}]}
    client.patch(f"/api/v1/nodes/{name}/status", {"status": status})
    untainted = lambda n: not [t for t in n["spec"].get("taints") or [] if t["effect"] == "NoSchedule"]  # noqa: E731
    cluster.admin.wait_for(f"/api/v1/nodes/{name}", untainted, 30)
    pod = pods.pod("p", pods.container("c", "busybox"), namespace=namespace)
    cluster.admin.post(pods.collection(namespace), pod)
    bound = cluster.admin.wait_for(pods.path(pod), lambda p: p["spec"].get("nodeName"), 30)
    assert bound["spec"]["nodeName"] == name
    assert bound["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
    cluster.admin.delete(pods.path(pod), grace=0)


def test_audit_log_has_the_nodes_requests(cluster, own_node):
    client, name = own_node
    client.get(f"/api/v1/nodes/{name}")
    found = [r for r in audit.requests(cluster.audit_log) if r.node == name]
    assert {"create", "get"} <= {r.verb for r in found}


def test_registry_serves_over_both_schemes(cluster, cluster_registry):
    accept = "Accept: application/vnd.oci.image.manifest.v1+json"
    path = "/v2/busybox/manifests/1"
    plain = cluster.netns.output("curl", "-sSf", "-H", accept, f"http://{cluster_registry.host}{path}")
    secure = cluster.netns.output("curl", "-sSf", "--cacert", cluster_registry.ca.cert_path, "-H", accept,
                                  f"https://{cluster_registry.https_host}{path}")
    assert plain == secure
    assert '"schemaVersion":2' in plain
