# SPDX-License-Identifier: Apache-2.0
"""Pods' networks in a cluster, with our plugins and with Debian's."""

import pytest

from support import pods
from support.wait import eventually


@pytest.fixture(params=["ours", "debian"])
def networked(request, make_node, cluster_registry):
    return make_node("n1", plugins=request.param)


def fetch(node, url):
    done = node.netns.run(["curl", "-s", "-m", "5", url], check=False, text=True, capture_output=True)
    return done.stdout


def server(name, image, namespace, node, **port):
    script = f"mkdir /www; echo {name} > /www/index.html; exec httpd -f -p 8080 -h /www"
    return pods.pod(name, pods.container("c", image, script, ports=[{"containerPort": 8080, **port}]), namespace=namespace,
                    node=node.name)


def test_pods_reach_each_other_and_host_ports(networked, cluster, cluster_registry, namespace):
    image = f"{cluster_registry.host}/busybox:1"
    a = pods.run(cluster.admin, server("a", image, namespace, networked, hostPort=8081))
    b = pods.run(cluster.admin, server("b", image, namespace, networked))
    address = b["status"]["podIP"]
    assert a["status"]["podIP"] != address
    assert a["status"]["podIPs"] == [{"ip": a["status"]["podIP"]}]
    eventually(lambda: fetch(networked, f"http://{address}:8080/") == "b\n", 10, "the pod's address")
    for host in (networked.address, "127.0.0.1"):
        assert fetch(networked, f"http://{host}:8081/") == "a\n"
    client = pods.pod("client", pods.container("c", image, f"wget -qO- http://{address}:8080/ http://{networked.address}:8081/"),
                      namespace=namespace, node=networked.name, restartPolicy="Never")
    pods.run(cluster.admin, client, lambda p: pods.phase(p) == "Succeeded")
    assert networked.cli("logs", "-n", namespace, "client").stdout == "b\na\n"
    pods.delete(cluster.admin, a)
    assert fetch(networked, "http://127.0.0.1:8081/") == ""
