# SPDX-License-Identifier: Apache-2.0
"""The API server goes and comes back; pods do not notice, and nothing that happened meanwhile is lost."""

from support import pods
from support.wait import eventually


def test_pods_live_through_an_outage(node, cluster, cluster_registry, namespace):
    image = f"{cluster_registry.host}/busybox:1"
    stays = pods.pod("stays", pods.container("c", image, "sleep 1000"), namespace=namespace, node=node.name)
    ends = pods.pod("ends", pods.container("c", image, "until [ -e /f/end ]; do sleep 0.1; done; exit 5",
                                           volumeMounts=[{"name": "f", "mountPath": "/f"}]),
                    namespace=namespace, node=node.name, restartPolicy="Never",
                    volumes=[{"name": "f", "hostPath": {"path": str(node.dir / "flags")}}])
    before = pods.run(cluster.admin, stays)
    pods.run(cluster.admin, ends)
    cluster.stop_apiserver()
    try:
        (node.dir / "flags" / "end").write_text("")
        node.wait_pods(lambda found: any(p["name"] == "ends" and p["phase"] == "Failed" for p in found), 10, "the end seen")
        node.kill9()
        node.spawn()
        eventually(node.healthy, 10, "a daemon without an API server")
    finally:
        cluster.start_apiserver()
    seen = cluster.admin.wait_for(pods.path(ends), lambda p: pods.phase(p) == "Failed", 60)
    assert pods.state_of(seen)[1]["exitCode"] == 5
    after = cluster.admin.get(pods.path(stays))
    assert pods.status_of(after)["containerID"] == pods.status_of(before)["containerID"]
    assert pods.status_of(after)["restartCount"] == 0
    pods.delete(cluster.admin, stays)
