# SPDX-License-Identifier: Apache-2.0
"""The kubelet API with a real API server before and behind it: logs through it, tokens and rights judged by it."""

import base64
import contextlib

import pytest

from support import pods
from support.kubelet import Client, head
from support.pki import Authority
from support.wait import eventually

IMAGE = "busybox:1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
# What who is let in gets for GET and POST. Nobody else gets anything of it.
LET_IN = {
    "/healthz": (200, 405), "/pods": (200, 405), "/runningpods/": (200, 405), "/configz": (200, 405), "/logs/": (200, 405),
    "/containerLogs/default/x/c": (404, 405), "/stats/summary": (200, 405), "/metrics": (200, 405),
    "/metrics/cadvisor": (200, 405), "/metrics/nothing": (404, 405), "/spec/": (404, 405), "/nothing": (404, 404),
    "/": (404, 404), "/debug/pprof/": (404, 404), "/checkpoint/default/x/c": (405, 405),
    "/exec/default/x/c?command=true": (400, 400), "/attach/default/x/c": (400, 400), "/portForward/default/x": (404, 404),
    "/run/default/x/c": (405, 404)}
REFUSED = {"/healthz": "healthz proxy", "/pods": "pods proxy", "/runningpods/": "pods proxy", "/configz": "configz proxy",
           "/containerLogs/default/x/c": "proxy", "/logs/": "log", "/metrics": "metrics", "/stats/summary": "stats", "/spec/": "spec",
           "/nothing": "proxy"}
RUNS = ["/exec/default/x/c?command=true", "/attach/default/x/c", "/portForward/default/x", "/run/default/x/c"]


@pytest.fixture
def image(cluster_registry):
    return cluster_registry.reference(IMAGE) if hasattr(cluster_registry, "reference") else IMAGE


def status(client, path, method="GET"):
    return client.request(method, path)[0]


def text(client, path, method="GET"):
    code, _, body = client.request(method, path)
    return code, body.decode()


def role(cluster, name, rules):
    cluster.admin.post(f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": rules})


def bind(cluster, name, subject):
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    cluster.admin.post(f"{RBAC}/clusterrolebindings", {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]})


@pytest.fixture
def token(cluster, namespace):
    """token("name", *rules): a service account with these rights; its token."""
    made = []

    def make(name, *rules):
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        cluster.admin.post(accounts, {"metadata": {"name": name}, "automountServiceAccountToken": False})
        if rules:
            full = f"{namespace}-{name}"
            role(cluster, full, list(rules))
            made.append(full)
            bind(cluster, full, {"kind": "ServiceAccount", "name": name, "namespace": namespace})
        return cluster.admin.post(f"{accounts}/{name}/token", {"spec": {}})["status"]["token"]

    yield make
    for full in made:
        cluster.admin.delete(f"{RBAC}/clusterrolebindings/{full}")
        cluster.admin.delete(f"{RBAC}/clusterroles/{full}")


def rule(verbs, *subresources):
    return {"apiGroups": [""], "resources": [f"nodes/{s}" for s in subresources], "verbs": list(verbs)}


def plain(node, cluster, bearer):
    client = node.kubelet(token=bearer)
    client.context = type(client.context)(client.context.protocol)
    client.context.check_hostname, client.context.verify_mode = False, 0
    return client


def test_every_route_and_everybody(node, cluster, token, tmp_path):
    other = Authority(tmp_path / "other", "others").issue("admin", groups=["system:masters"])
    nobody = node.kubelet(cluster.ca.issue("nobody-in-particular"))
    everything = rule(["get", "create"], "proxy", "stats", "log", "metrics", "spec", "healthz", "pods", "configz", "checkpoint")
    strangers = {"anonymous": plain(node, cluster, None), "wrong authority": node.kubelet(other),
                 "bogus token": plain(node, cluster, "bogus")}
    without = {"certificate without rights": nobody, "token without rights": plain(node, cluster, token("none"))}
    allowed = {"token with rights": plain(node, cluster, token("all", everything)), "administrator": node.kubelet()}
    found, wanted = {}, {}
    for path, statuses in LET_IN.items():
        for method, status_let_in in zip(("GET", "POST"), statuses):
            for expected, clients in ((401, strangers), (403, without), (status_let_in, allowed)):
                for name, client in clients.items():
                    found[path, method, name] = status(client, path, method)
                    wanted[path, method, name] = expected
    assert {k: (v, wanted[k]) for k, v in found.items() if v != wanted[k]} == {}
    for path, subresources in REFUSED.items():
        assert text(nobody, path) == (403, f"Forbidden (user=nobody-in-particular, verb=get, resource=nodes, "
                                           f"subresource(s)=[{subresources}])\n")
    for path in RUNS:
        assert "verb=create" in text(nobody, path)[1]


def test_tokens_and_fine_rights(node, cluster, token):
    assert status(plain(node, cluster, token("none")), "/pods") == 403
    fine = plain(node, cluster, token("fine", rule(["get"], "pods", "healthz")))
    assert status(fine, "/pods") == status(fine, "/runningpods/") == status(fine, "/healthz") == 200
    assert status(fine, "/configz") == status(fine, "/metrics") == 403
    proxy = plain(node, cluster, token("proxy", rule(["get"], "proxy")))
    assert status(proxy, "/pods") == status(proxy, "/configz") == 200
    assert status(proxy, "/metrics") == 403
    for path in RUNS:
        assert status(proxy, path) == 403, "the right to read is not the right to run"
        assert status(proxy, path, "POST") == 403
    runner = plain(node, cluster, token("runner", rule(["create"], "proxy")))
    assert status(runner, RUNS[0]) not in (401, 403, 500)
    assert status(runner, "/pods") == 403


def websocket_status(node, protocols):
    """The status of an exec over WebSocket whose token is one of its protocols."""
    client = Client(node)
    with contextlib.closing(client.connect()) as s:
        s.sendall(head("GET", RUNS[0], "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Sec-WebSocket-Protocol: {protocols}"))
        return int(s.recv(4096).split()[1])


def test_tokens_as_websocket_protocols(node, cluster, token):
    """What browsers do, who cannot send an Authorization header."""
    def protocol(bearer):
        return "base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(bearer.encode()).decode().rstrip("=")

    runner, none = protocol(token("runner", rule(["create"], "proxy"))), protocol(token("none"))
    assert websocket_status(node, f"{runner}, v4.channel.k8s.io") not in (401, 403, 500)
    assert websocket_status(node, f"v4.channel.k8s.io, {none}") == 403
    for bad in (runner, f"{runner}, {none}, v4.channel.k8s.io", f"{protocol('bogus')}, v4.channel.k8s.io",
                "base64url.bearer.authorization.k8s.io.!!, v4.channel.k8s.io", "v4.channel.k8s.io"):
        assert websocket_status(node, bad) == 401, bad


def test_anonymous_only_when_configured(make_node, cluster, namespace):
    name = f"{namespace}-anonymous"
    role(cluster, name, [rule(["get"], "healthz")])
    bind(cluster, name, {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"})
    try:
        node = make_node("n2", cluster=cluster, config={"authentication": {
            "anonymous": {"enabled": True}, "x509": {"clientCAFile": str(cluster.ca.cert_path)}}})
        stranger = plain(node, cluster, None)
        assert text(stranger, "/healthz") == (200, "ok")
        assert text(stranger, "/pods") == (403, "Forbidden (user=system:anonymous, verb=get, resource=nodes, "
                                                "subresource(s)=[pods proxy])\n")
        assert status(plain(node, cluster, "bogus"), "/healthz") == 401
        assert status(node.kubelet(), "/pods") == 200
    finally:
        cluster.admin.delete(f"{RBAC}/clusterrolebindings/{name}")
        cluster.admin.delete(f"{RBAC}/clusterroles/{name}")


def run_talker(node, namespace, name, script):
    pod = pods.pod(name, pods.container("c", "docker.io/library/busybox:1", script), namespace=namespace, node=node.name)
    return pods.run(node.cluster.admin, pod)


@pytest.fixture
def talker(node, busybox, namespace):
    node.import_image(busybox, "docker.io/library/busybox:1")
    run_talker(node, namespace, "p", "echo hello; echo world; sleep 100000")
    return f"/api/v1/namespaces/{namespace}/pods/p"


def test_logs_through_the_api_server(node, cluster, talker):
    got = eventually(lambda: (lambda t: t if "world" in t[1] else None)(text(cluster.admin, f"{talker}/log")), 10, "the log")
    assert got == (200, "hello\nworld\n")
    assert text(cluster.admin, f"{talker}/log?tailLines=1") == (200, "world\n")
    assert text(cluster.admin, f"{talker}/log?limitBytes=3") == (200, "hel")
    assert len(text(cluster.admin, f"{talker}/log?timestamps=true")[1].split()) == 4
    assert text(cluster.admin, f"{talker}/log?previous=true")[0] == 400


def test_states_are_those_of_the_api(node, cluster, talker, namespace):
    items = node.kubelet().get("/pods")["items"]
    mine = [p for p in items if p["metadata"]["namespace"] == namespace]
    there = cluster.admin.get(talker)
    assert mine[0]["metadata"]["uid"] == there["metadata"]["uid"]
    assert mine[0]["spec"]["containers"] == there["spec"]["containers"]
    assert mine[0]["status"]["podIP"] == there["status"]["podIP"]


def test_metrics_with_and_without_the_right(node, cluster, talker, namespace, token):
    """Through the API server's proxy, and directly as metrics-server and Prometheus do."""
    through = f"/api/v1/nodes/{node.name}/proxy"
    line = f'container_memory_working_set_bytes{{container="c",namespace="{namespace}",pod="p"}}'
    assert line in text(cluster.admin, f"{through}/metrics/resource")[1]
    assert "kubelet_running_pods" in text(cluster.admin, f"{through}/metrics")[1]
    found = cluster.admin.get(f"{through}/stats/summary")
    mine = [p for p in found["pods"] if p["podRef"]["namespace"] == namespace]
    assert mine[0]["podRef"]["uid"] == cluster.admin.get(talker)["metadata"]["uid"]
    assert mine[0]["volume"], "the service account's token"

    scraper = plain(node, cluster, token("scraper", rule(["get"], "metrics")))
    for page in ("/metrics", "/metrics/cadvisor", "/metrics/resource", "/metrics/probes"):
        assert status(scraper, page) == 200, page
    assert line in text(scraper, "/metrics/resource")[1]
    assert status(scraper, "/stats/summary") == status(scraper, "/pods") == 403
    reader = plain(node, cluster, token("reader", rule(["get"], "stats")))
    assert status(reader, "/stats/summary") == 200
    assert status(reader, "/metrics") == status(reader, "/metrics/resource") == 403
    requests = [v for v in text(scraper, "/metrics")[1].splitlines() if v.startswith("rest_client_requests_total{")]
    assert any('code="201"' in v and 'method="POST"' in v for v in requests)


@pytest.mark.last
def test_without_the_api_server_only_what_is_known_counts(node, cluster, token):
    known = plain(node, cluster, token("known", rule(["get"], "pods")))
    unknown = plain(node, cluster, token("unknown", rule(["get"], "pods")))
    nobody = cluster.ca.issue("unheard-of")
    assert status(known, "/pods") == 200
    cluster.stop_apiserver(hard=True)
    try:
        assert status(known, "/pods") == 200
        assert status(known, "/configz") == 500
        assert status(unknown, "/pods") == 401
        assert status(node.kubelet(nobody), "/pods") == 500
    finally:
        cluster.start_apiserver()
    eventually(lambda: status(unknown, "/pods") == 200, 60, "the API server is asked again")
