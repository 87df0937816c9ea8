# SPDX-License-Identifier: Apache-2.0
"""The API client against a real API server that closes connections and allows few streams on each."""

import base64
import contextlib
import http.client
import json
import time

import pytest
from support import build, pki
from support.cluster import Cluster, missing_parts
from support.probe import Probe

pytestmark = pytest.mark.cluster
N_WATCHES = 24


@pytest.fixture(scope="module")
def cluster():
    if missing_parts():
        pytest.skip(f"no {missing_parts()}")
    args = ("--goaway-chance=0.02", "--http2-max-streams-per-connection=10")
    with Cluster(apiserver_args=args, controllers=False, scheduler=False) as c:
        yield c


@pytest.fixture
def probe(cluster):
    with Probe.of_cluster(cluster) as p:
        yield p
        p.quit()


def config_map(name, value="0"):
    return {"metadata": {"name": name, "labels": {"a": "b"}}, "data": {"k": value}}


def test_calls(probe):
    assert probe.call("GET", "/api/v1/namespaces/default")[0] == 200
    status, reason, message = probe.call("GET", "/api/v1/namespaces/nowhere")
    assert (status, reason) == (404, "NotFound") and "nowhere" in message
    body = '{"metadata":{"name":"called"},"data":{"x":"' + "y" * 300000 + '"}}'
    path = "/api/v1/namespaces/default/configmaps"
    assert probe.call("POST", path, "application/json", body)[0] == 201
    assert probe.call("POST", path, "application/json", body)[:2] == (409, "AlreadyExists")
    patch = "application/strategic-merge-patch+json"
    assert probe.call("PATCH", path + "/called", patch, '{"data":{"z":"1"}}', critical=True)[0] == 200
    assert probe.call("DELETE", path + "/called")[0] == 200


def test_many_calls_at_once(probe):
    ids = [probe.send_call("GET", "/api/v1/namespaces/default") for _ in range(500)]
    assert {probe.answer(i)[0] for i in ids} == {200}
    assert probe.status().reachable


def test_watch_tells_every_change(cluster, probe):
    namespace = cluster.namespace("api-watch")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    cluster.admin.post(path, config_map("before"))
    probe.command(f"watch w {path}")
    assert probe.expect("w", "SET")[1] == f"{namespace}/before"
    probe.expect("w", "SYNCED")
    cluster.admin.post(path, config_map("later"))
    assert probe.expect("w", "SET")[1] == f"{namespace}/later"
    cluster.admin.delete(f"{path}/before")
    assert probe.expect("w", "DELETED")[1] == f"{namespace}/before"
    probe.command("unwatch w")


def test_lists_come_in_pages(cluster, probe):
    namespace = cluster.namespace("api-pages")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for i in range(1001):
        cluster.admin.post(path, config_map(f"m{i}"))
    probe.command(f"watch pages {path}")
    names = {probe.expect("pages", "SET", timeout=60)[1] for _ in range(1001)}
    assert len(names) == 1001
    probe.expect("pages", "SYNCED")


def test_watches_survive_goaways_and_few_streams(cluster, probe):
    """More watches than one connection may carry, each of which sees every write, while the server sends GOAWAYs."""
    namespace = cluster.namespace("api-many")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for i in range(N_WATCHES):
        cluster.admin.post(path, config_map(f"m{i}"))
        probe.command(f"watch w{i} {path} metadata.name=m{i}")
    for i in range(N_WATCHES):
        probe.expect(f"w{i}", "SYNCED")
    assert probe.status().connections >= 3
    deadline, rounds = time.monotonic() + 25, 0
    while time.monotonic() < deadline:
        rounds += 1
        versions = {}
        for i in range(N_WATCHES):
            made = cluster.admin.patch(f"{path}/m{i}", {"data": {"k": str(rounds)}})
            versions[i] = made["metadata"]["resourceVersion"]
            probe.call("GET", "/api/v1/namespaces/default")  # each may draw a GOAWAY
        for i in range(N_WATCHES):
            probe.expect(f"w{i}", "SET", lambda words, v=versions[i]: words[2] == v)
    assert not probe.seen("ERROR")
    for i in range(N_WATCHES):
        probe.command(f"unwatch w{i}")


def test_memory_of_three_watches(cluster):
    namespace = cluster.namespace("api-memory")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    with Probe.of_cluster(cluster) as probe:
        start = probe.status().private_kib
        for i in range(3):
            probe.command(f"watch w{i} {path}")
        for i in range(3):
            probe.expect(f"w{i}", "SYNCED")
        cluster.admin.post(path, config_map("one"))
        for i in range(3):
            probe.expect(f"w{i}", "SET")
        used = probe.status().private_kib - start
        probe.quit()
    assert build.sanitized() or used <= 1300, f"{start} KiB before, {used} KiB more"


def test_outage_and_what_went_meanwhile(cluster, probe):
    """The server restarts; what was deleted and made while nobody watched is told after it."""
    namespace = cluster.namespace("api-outage")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in ("stays", "goes"):
        cluster.admin.post(path, config_map(name))
    probe.command(f"watch w {path}")
    probe.expect("w", "SYNCED")
    cluster.stop_apiserver(hard=True)
    probe.expect("w", "ERROR")
    assert not probe.status().reachable
    cluster.start_apiserver()
    cluster.admin.delete(f"{path}/goes")
    cluster.admin.post(path, config_map("comes"))
    changes = {tuple(probe.expect("w", "SET", "DELETED", timeout=60)[:2]) for _ in range(2)}
    assert changes == {("DELETED", f"{namespace}/goes"), ("SET", f"{namespace}/comes")}
    assert probe.status().reachable


def test_compaction_makes_it_list_again(cluster, probe):
    """410 Gone: what went in the meantime is known by the list alone. The probe sleeps without a connection."""
    namespace = cluster.namespace("api-gone")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in ("stays", "goes"):
        cluster.admin.post(path, config_map(name))
    probe.command(f"watch w {path}")
    probe.expect("w", "SYNCED")
    cluster.stop_apiserver(hard=True)
    probe.expect("w", "ERROR")
    probe.stop()
    cluster.start_apiserver()
    cluster.admin.delete(f"{path}/goes")
    for i in range(120):
        cluster.admin.post(path, config_map(f"filler{i}"))
    cluster.stop_apiserver(hard=True)
    compact(cluster)
    cluster.start_apiserver()
    probe.go_on()
    assert probe.expect("w", "DELETED", timeout=60)[1] == f"{namespace}/goes"
    probe.expect("w", "SYNCED")


def compact(cluster):
    """Makes etcd forget every version but the newest."""
    def post(path, body):
        connection = http.client.HTTPConnection("127.0.0.1", 2379)
        connection.sock = cluster.netns.connect("127.0.0.1", 2379, 10.0)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body))
            response = connection.getresponse()
            answer = json.load(response)
            assert response.status == 200, answer
            return answer
    revision = post("/v3/kv/range", {"key": base64.b64encode(b"none").decode()})["header"]["revision"]
    post("/v3/kv/compaction", {"revision": revision})


def test_events_are_counted_and_limited(cluster, probe):
    namespace = cluster.namespace("api-events")
    path = f"/api/v1/namespaces/{namespace}/events"

    def events(predicate):
        return cluster.admin.wait_for(path, predicate, 20)

    for _ in range(3):
        probe.command(f"event {namespace} pod uid-1 Started Container started")
    found = events(lambda items: items and items[0]["count"] == 3)
    assert len(found) == 1
    event = found[0]
    assert event["metadata"]["name"].startswith("pod.") and event["type"] == "Normal"
    assert event["involvedObject"] == {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "pod",
                                       "uid": "uid-1", "fieldPath": "spec.containers{c}"}
    assert event["source"] == {"component": "kubelet", "host": "probe"}
    cluster.admin.delete(f"{path}/{event['metadata']['name']}")
    events(lambda items: not items)
    probe.command(f"event {namespace} pod uid-1 Started Container started")
    assert events(lambda items: items)[0]["count"] == 4  # made anew
    for i in range(40):
        probe.command(f"event {namespace} other uid-2 Failed Try {i}")
    found = events(lambda items: any(e["message"] == "(combined from similar events): Try 24" for e in items))
    others = [e for e in found if e["involvedObject"]["name"] == "other"]
    assert len(others) == 10 and sum(e["count"] for e in others) == 25


def test_identities(cluster):
    """What a refused identity is told to be."""
    expired = cluster.ca.issue("expired", groups=["system:masters"], begin=-2 * pki.ONE_DAY, end=-pki.ONE_DAY)
    with Probe.of_cluster(cluster, pair=expired) as probe:
        status, reason, message = probe.call("GET", "/api/v1/namespaces/default")
        assert status == 401 and reason == "Unauthorized" and "client certificate expired at 20" in message
        probe.command("watch w /api/v1/pods")
        assert "client certificate expired" in " ".join(probe.expect("w", "ERROR"))
    with Probe.of_cluster(cluster, token="wrong") as probe:
        status, _, message = probe.call("GET", "/api/v1/namespaces/default")
        assert status == 401 and "refused the bearer token" in message
    with Probe.of_cluster(cluster, pair=cluster.node_pair("probe-node")) as probe:
        assert probe.call("GET", "/api/v1/secrets")[:2] == (403, "Forbidden")


def test_requests_have_the_shape_that_nodes_may_make(cluster):
    """Pods by spec.nodeName, secrets one by one and only while a pod needs them."""
    namespace, node = cluster.namespace("api-node"), "shape-node"
    path = f"/api/v1/namespaces/{namespace}"
    for name in ("used", "unused"):
        cluster.admin.post(f"{path}/secrets", {"metadata": {"name": name}})
    with Probe.of_cluster(cluster, pair=cluster.node_pair(node)) as probe:
        probe.command(f"watch pods /api/v1/pods spec.nodeName={node}")
        probe.expect("pods", "SYNCED")
        probe.command(f"watch used {path}/secrets metadata.name=used")
        assert probe.expect("used", "ERROR")[1] == "403"
        cluster.admin.post(f"{path}/pods", {"metadata": {"name": "p"}, "spec": {
            "nodeName": node, "automountServiceAccountToken": False, "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "secret": {"secretName": "used"}}]}})
        assert probe.expect("pods", "SET")[1] == f"{namespace}/p"
        assert probe.expect("used", "SET", timeout=40)[1] == f"{namespace}/used"
        probe.command(f"watch unused {path}/secrets metadata.name=unused")
        assert probe.expect("unused", "ERROR")[1] == "403"
        probe.quit()


def test_token_file_is_read_again(cluster, tmp_path):
    """A token that expired is replaced in its file: the next 401 takes it, and nobody notices."""
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    request = {"spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 600}}
    good = cluster.admin.post(account + "/token", request)["status"]["token"]
    file = tmp_path / "token"
    file.write_text("outdated\n")
    with Probe.of_cluster(cluster, token_file=file) as probe:
        assert probe.call("GET", "/version")[0] == 401
        file.write_text(good + "\n")
        assert probe.call("GET", "/version")[0] == 200


def test_certificate_files_are_read_again(cluster, tmp_path):
    """Rotation: a 401 makes the client look at its files."""
    expired = cluster.ca.issue("rotated", groups=["system:masters"], begin=-2 * pki.ONE_DAY, end=-pki.ONE_DAY)
    cert, key = tmp_path / "cert", tmp_path / "key"
    cert.write_bytes(expired.cert_pem)
    key.write_bytes(expired.key_pem)
    with Probe.of_cluster(cluster, cert_file=cert, key_file=key) as probe:
        assert probe.call("GET", "/version")[0] == 401
        cert.write_bytes(cluster.admin_pair.cert_pem)
        key.write_bytes(cluster.admin_pair.key_pem)
        # The connection with the old identity may still answer one request.
        assert 200 in {probe.call("GET", "/version")[0] for _ in range(3)}
        assert probe.call("GET", "/api/v1/secrets")[0] == 200
