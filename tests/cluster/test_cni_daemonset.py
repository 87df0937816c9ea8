# SPDX-License-Identifier: Apache-2.0
"""A network that installs itself through a pod, as flannel and its like do, on a node that has none."""

import json

from support import build, pods
from support.wait import eventually

INSTALL = """
cp /from/bridge /from/host-local /bin-dir/
cat > /net.d/.new <<'EOF'
%s
EOF
mv /net.d/.new /net.d/10-self.conflist
echo done > /run-file
sleep 1000
"""


def network(bridge, data):
    return json.dumps({"cniVersion": "1.0.0", "name": "self", "plugins": [
        {"type": "bridge", "bridge": bridge, "isGateway": True,
         "ipam": {"type": "host-local", "dataDir": data, "ranges": [[{"subnet": "10.77.0.0/24"}]]}}]})


def host_path(name, path, kind=""):
    return {"name": name, "hostPath": {"path": str(path), "type": kind}}


def test_network_installs_itself(make_node, cluster, cluster_registry, namespace, tmp_path):
    image = f"{cluster_registry.host}/busybox:1"
    bins = tmp_path / "bin"
    node = make_node("n1", plugins=None, flags=["--cni-bin-dir", str(bins)], start=False)
    node.start(ready=False)
    unready = cluster.admin.wait_for(f"/api/v1/nodes/{node.name}", lambda n: pods.condition(n, "Ready") == "False", 20)
    ready = next(c for c in unready["status"]["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "KubeletNotReady"
    assert "cni plugin not initialized" in ready["message"]

    waiting = pods.pod("waiting", pods.container("c", image, "sleep 1000"), namespace=namespace, node=node.name)
    cluster.admin.post(pods.collection(namespace), waiting)
    eventually(lambda: "NetworkNotReady" in pods.event_reasons(cluster.admin, waiting), 20, "NetworkNotReady")

    mounts = {"bin": "/bin-dir", "conf": "/net.d", "from": "/from", "file": "/run-file"}
    script = INSTALL % network(node.bridge, str(tmp_path / "data"))
    installer = pods.pod(
        "installer", pods.container("c", image, script, volumeMounts=[{"name": n, "mountPath": p} for n, p in mounts.items()]),
        namespace=namespace, node=node.name, hostNetwork=True,
        volumes=[host_path("bin", bins, "DirectoryOrCreate"), host_path("conf", node.dir / "net.d", "DirectoryOrCreate"),
                 host_path("from", build.plugins()), host_path("file", tmp_path / "flag", "FileOrCreate")])
    pods.run(cluster.admin, installer)
    seen = cluster.admin.wait_for(pods.path(waiting), pods.ready, 30)
    assert seen["status"]["podIP"].startswith("10.77.0.")
    assert (tmp_path / "flag").read_text() == "done\n"
    cluster.admin.wait_for(f"/api/v1/nodes/{node.name}", lambda n: pods.condition(n, "Ready") == "True", 20)
