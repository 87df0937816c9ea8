# SPDX-License-Identifier: Apache-2.0
"""RuntimeClass objects of a real API server: which runtime a pod's containers get."""

from support import pods

CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"


def test_classes_name_handlers(make_node, cluster, cluster_registry, namespace):
    node = make_node("n1", flags=["--runtime-handlers", "oci=/usr/sbin/runc"])
    for name, handler in (("other", "oci"), ("nothing", "missing")):
        cluster.admin.post(CLASSES, {"metadata": {"name": name}, "handler": handler})
    try:
        image = f"{cluster_registry.host}/busybox:1"
        good = pods.pod("good", pods.container("c", image, "exec sleep 1000"), namespace=namespace, node=node.name)
        good["spec"]["runtimeClassName"] = "other"
        assert pods.run(cluster.admin, good)
        assert list(node.dir.glob("state/pods/*/runtime/*/state.json")), "runc has made it"
        bad = pods.pod("bad", pods.container("c", image, "exec sleep 1000"), namespace=namespace, node=node.name)
        bad["spec"]["runtimeClassName"] = "nothing"
        path = f"/api/v1/namespaces/{namespace}"
        cluster.admin.post(f"{path}/pods", bad)
        events = cluster.admin.wait_for(f"{path}/events", lambda found: [e for e in found if e["reason"] == "FailedCreatePodSandBox"],
                                        30, "the event")
        assert any('no runtime for "missing" is configured' in e["message"] for e in events)
    finally:
        for name in ("other", "nothing"):
            cluster.admin.delete(f"{CLASSES}/{name}")
