# SPDX-License-Identifier: Apache-2.0
"""The helpers of these tests do what they say: without this, a passing test proves little."""

import http.client
import json
import os
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from support import audit, cgroups, images, leak, merge, pods, scratch
from support.api import MERGE, STRATEGIC, ApiError
from support.faulty import FaultyRegistry
from support.netns import NetNs
from support.node import Node
from support.process import Process
from support.wait import eventually

PODS = "/api/v1/namespaces/default/pods"


# -- namespaces and leaks -------------------------------------------------------------------------------------------------

def test_netns_is_a_place_of_its_own(netns):
    assert netns.address in netns.output("ip", "address", "show", "eth0")
    listener = netns.listen(netns.address, 8080)
    netns.connect(netns.address, 8080).close()
    listener.close()
    assert not netns.reachable(netns.address, 8080)
    with pytest.raises(OSError):
        netns.connect("192.0.2.1", 80, 1.0)


def test_netns_takes_its_processes_along():
    with NetNs() as ns:
        child = subprocess.Popen(ns.prefix() + ["sleep", "100"])
        while child.pid not in ns.processes():
            assert child.poll() is None
    assert child.wait(5) == -9
    assert not ns.path.exists()


@pytest.fixture
def scope(netns, tmp_path):
    cgroups.make("klt-support")
    yield leak.Scope(netns, tmp_path, "klt-support")
    cgroups.remove("klt-support")


def test_leaks_are_seen(scope, tmp_path):
    before = leak.take(scope)
    assert leak.take(scope).minus(before) == {}
    (tmp_path / "mnt").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "leak", tmp_path / "mnt"], check=True)
    scope.netns.ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
    scope.netns.run(["nft", "add", "table", "ip", "leak"])
    for root in cgroups.hierarchies():
        if (root / "klt-support").is_dir():
            (root / "klt-support" / "kubepods" / "pod1").mkdir(parents=True)
            break
    try:
        new = leak.take(scope).minus(before)
    finally:
        subprocess.run(["umount", tmp_path / "mnt"], check=True)
        scope.netns.ip("link", "del", "v0")
        scope.netns.run(["nft", "delete", "table", "ip", "leak"])
    assert set(new) == {"mount", "link", "nftables", "cgroup"}
    assert new["link"] == ["v0", "v1"]
    assert new["cgroup"] == ["kubepods/pod1"]


def test_leaked_process_is_seen(scope, tmp_path):
    before = leak.take(scope)
    process = Process(["tail", "-f", tmp_path / "log"], tmp_path / "log")
    try:
        new = eventually(lambda: leak.take(scope).minus(before).get("process"), 5, "the process is seen")
        assert [line.split()[0] for line in new] == [str(process.pid)]
    finally:
        process.kill()


def test_leftovers_of_killed_runs_are_removed(tmp_path):
    dead = subprocess.run(["sh", "-c", "echo $$"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    name = f"klt-{dead}-x-abc"
    cgroups.make(name)
    Path(f"/tmp/{name}/mnt").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "stale", f"/tmp/{name}/mnt"], check=True)
    mine = scratch.make("own")
    scratch.remove_stale()
    assert cgroups.groups(name) == []
    assert not Path(f"/tmp/{name}").exists()
    assert str(mine) in scratch.leftovers()
    scratch.remove(mine)
    assert str(mine) not in scratch.leftovers()


def test_leaked_descriptors_are_seen():
    before = leak.descriptors(os.getpid())
    opened = [os.open("/etc/hostname", os.O_RDONLY) for _ in range(3)]
    assert leak.more_descriptors(before, leak.descriptors(os.getpid())) == "3 more of /etc/hostname"
    for fd in opened:
        os.close(fd)
    assert leak.more_descriptors(before, leak.descriptors(os.getpid())) == ""


def test_container_chains_of_iptables_plugins_are_seen(netns, scope):
    before = leak.take(scope)
    netns.run(["nft", "add", "table", "ip", "nat"])
    netns.run(["nft", "add", "chain", "ip", "nat", "CNI-HOSTPORT-DNAT"])
    assert leak.take(scope).minus(before) == {}
    netns.run(["nft", "add", "chain", "ip", "nat", "CNI-5f8c3bd2fd9ba0c5e0a1f3f4"])
    assert len(leak.take(scope).minus(before)["nftables"]) == 1
    netns.run(["nft", "delete", "table", "ip", "nat"])


# -- images ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("family", [images.DOCKER, images.OCI])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_registry_takes_images(registry, family, compression):
    image = images.busybox(family, compression)
    registry.push(image, "forms", compression)
    status, headers, body = registry.request("GET", f"/v2/forms/manifests/{compression}", headers={"Accept": family["manifest"]})
    assert (status, headers["Docker-Content-Digest"]) == (200, image.digest)
    layer = json.loads(body)["layers"][0]
    assert registry.request("GET", f"/v2/forms/blobs/{layer['digest']}", secure=True)[2] == image.layer_blobs()[0].data


@pytest.mark.parametrize("family", [images.DOCKER, images.OCI])
def test_registry_takes_indexes(registry, busybox, family):
    index = images.Index([busybox.with_(family=family), busybox.with_(family=family, architecture="arm64")], family)
    registry.push(index, "multi", "1")
    status, _, body = registry.request("GET", "/v2/multi/manifests/1", headers={"Accept": family["index"]})
    assert status == 200
    assert [m["platform"]["architecture"] for m in json.loads(body)["manifests"]] == ["amd64", "arm64"]


def test_archives_are_what_their_names_say(busybox, tmp_path):
    with tarfile.open(busybox.write_docker_archive(tmp_path / "d.tar", ["b:1"])) as tar:
        entry = json.load(tar.extractfile("manifest.json"))[0]
        assert entry["RepoTags"] == ["b:1"]
        config = json.load(tar.extractfile(entry["Config"]))
        layer = tar.extractfile(entry["Layers"][0]).read()
        assert config["rootfs"]["diff_ids"] == [images.digest_of(layer)]
    with tarfile.open(busybox.write_oci_archive(tmp_path / "o.tar", ["b:1"])) as tar:
        top = json.load(tar.extractfile("index.json"))["manifests"][0]
        assert images.digest_of(tar.extractfile("blobs/" + top["digest"].replace(":", "/")).read()) == top["digest"]


def test_layers_hold_anything():
    layer = images.Layer("none").file("../up", "x").symlink("l", "/etc").whiteout("a/b").opaque("d").device("n", 10, 229)
    layer.file("x", "x", xattrs={"user.a": b"1"})
    import io
    with tarfile.open(fileobj=io.BytesIO(layer.tar())) as tar:
        assert tar.getnames() == ["../up", "l", "a/.wh.b", "d/.wh..wh..opq", "n", "x"]
        assert tar.getmember("x").pax_headers["SCHILY.xattr.user.a"] == "1"


# -- the stand-in API server ----------------------------------------------------------------------------------------------

def make_pod(api, name="p", **spec):
    return api.admin.post(PODS, pods.pod(name, pods.container("c", "x"), **spec))


def test_fake_stores_unknown_fields_and_counts_generations(fake_api):
    made = make_pod(fake_api, node="n1", hostUsers=False)
    assert (made["spec"]["hostUsers"], made["metadata"]["generation"]) == (False, 1)
    changed = fake_api.admin.patch(f"{PODS}/p", {"spec": {"containers": [{"name": "c", "image": "y"}]}})
    assert (changed["spec"]["containers"][0]["image"], changed["metadata"]["generation"]) == ("y", 2)
    fake_api.admin.patch(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}}, MERGE)
    assert fake_api.admin.get(f"{PODS}/p")["metadata"]["generation"] == 2


def test_fake_status_patches_touch_only_the_status(fake_api):
    uid = make_pod(fake_api, node="n1")["metadata"]["uid"]
    patch = {"metadata": {"uid": uid}, "spec": {"nodeName": "evil"},
             "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    got = fake_api.admin.patch(f"{PODS}/p/status", patch)
    assert (got["spec"]["nodeName"], got["status"]["phase"]) == ("n1", "Running")
    got = fake_api.admin.patch(f"{PODS}/p/status", {"status": {"conditions": [{"type": "Initialized", "status": "True"}]}})
    assert [c["type"] for c in got["status"]["conditions"]] == ["Ready", "Initialized"]
    with pytest.raises(ApiError) as e:
        fake_api.admin.patch(f"{PODS}/p/status", {"metadata": {"uid": "other"}})
    assert e.value.status == 409


def test_fake_deletes_pods_gracefully(fake_api):
    make_pod(fake_api, node="n1")
    assert fake_api.admin.delete(f"{PODS}/p")["metadata"]["deletionGracePeriodSeconds"] == 1
    assert fake_api.admin.get(f"{PODS}/p")["metadata"]["deletionTimestamp"]
    fake_api.admin.delete(f"{PODS}/p", grace=0)
    assert fake_api.admin.get_or_none(f"{PODS}/p") is None


def test_fake_watch_follows_the_selector(fake_api):
    version = fake_api.admin.get(PODS)["metadata"]["resourceVersion"]
    make_pod(fake_api, "other", node="n2")
    make_pod(fake_api, "mine")
    fake_api.admin.post(f"{PODS}/mine/binding", {"target": {"name": "n1"}})
    fake_api.admin.delete(f"{PODS}/mine", grace=0)
    query = {"fieldSelector": "spec.nodeName=n1"}
    events = fake_api.admin.watch("/api/v1/pods", version, 5, query)
    assert [(e.type, e.object["metadata"]["name"]) for e in (next(events), next(events))] == [
        ("ADDED", "mine"), ("DELETED", "mine")]


def test_fake_watch_sends_bookmarks_and_ends_when_history_is_gone(fake_api):
    fake_api.bookmark_seconds = 0.05
    version = fake_api.admin.get(PODS)["metadata"]["resourceVersion"]
    assert next(fake_api.admin.watch(PODS, version, 5)).type == "BOOKMARK"
    make_pod(fake_api)
    fake_api.store.compact()
    with pytest.raises(ApiError) as e:
        next(fake_api.admin.watch(PODS, version, 5))
    assert e.value.status == 410


def test_fake_wakes_waiting_watches(fake_api):
    timer = threading.Timer(0.2, make_pod, (fake_api,))
    timer.start()
    assert fake_api.admin.wait_for(f"{PODS}/p", lambda p: p is not None, 5)
    timer.join()


def test_fake_gives_tokens(fake_api):
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    status = fake_api.admin.post(path, {"spec": {"audiences": ["a"], "expirationSeconds": 600}})["status"]
    assert status["token"].count(".") == 2 and status["expirationTimestamp"].endswith("Z")


def test_fake_refuses_stale_writes(fake_api):
    made = make_pod(fake_api)
    make = {**made, "metadata": {**made["metadata"], "resourceVersion": "1"}}
    with pytest.raises(ApiError) as e:
        fake_api.admin.put(f"{PODS}/p", make)
    assert e.value.status == 409


@pytest.mark.parametrize("action, error", [
    ("reset", OSError), ("garbage", http.client.HTTPException), ("truncate", http.client.IncompleteRead),
    ("status", ApiError), ("gone", ApiError), ("hang", TimeoutError)])
def test_fake_misbehaves_when_told(fake_api, action, error):
    fault = fake_api.fail(action, "/pods", times=1)
    with pytest.raises(error):
        fake_api.admin.get(PODS, timeout=1.0)
    assert fault.hits == 1
    fake_api.clear()
    assert fake_api.admin.get(PODS)["items"] == []


def test_fake_sends_huge_and_broken_watch_lines(fake_api):
    fake_api.fail("huge", "/pods", watch=True, times=1, size=1 << 20)
    sock_lines = fake_api.admin.watch(PODS, 1, 2)
    assert list(sock_lines) == []
    fake_api.clear()
    fake_api.fail("break", "/pods", watch=True, times=1)
    with pytest.raises(ValueError):
        next(fake_api.admin.watch(PODS, 1, 2))


def test_fake_records_who_asked(fake_api):
    fake_api.admin.get("/api/v1/nodes")
    assert [r.user for r in fake_api.recorded("GET", "^/api/v1/nodes$")] == ["admin"]


def test_fake_goes_away_and_comes_back(fake_api):
    make_pod(fake_api)
    fake_api.close()
    with pytest.raises(OSError):
        fake_api.admin.get(PODS, timeout=1.0)
    fake_api.open()
    assert len(fake_api.admin.get(PODS)["items"]) == 1


# -- patches --------------------------------------------------------------------------------------------------------------

def test_strategic_merge():
    old = {"conditions": [{"type": "A", "status": "1"}, {"type": "B", "status": "1"}], "images": [1], "m": {"a": 1, "b": 2}}
    patch = {"conditions": [{"type": "B", "status": "2"}, {"type": "A", "$patch": "delete"}], "images": [2],
             "$setElementOrder/conditions": [{"type": "B"}], "m": {"a": None}}
    assert merge.strategic(old, patch) == {"conditions": [{"type": "B", "status": "2"}], "images": [2], "m": {"b": 2}}
    assert merge.merge_patch({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}) == {"a": {"c": 2}}
    assert STRATEGIC != MERGE


# -- the audit rules ------------------------------------------------------------------------------------------------------

def asked(verb, uri, group="", resource="", body=None, **reference):
    line = {"stage": "ResponseComplete", "verb": verb, "requestURI": uri, "user": {"username": "system:node:n1"},
            "objectRef": {"apiGroup": group, "resource": resource, **reference}, "requestObject": body}
    return audit.violation(audit.parse(json.dumps(line)))


OWNER = [{"kind": "Node", "name": "n1", "controller": True, "uid": "u"}]
MIRROR = {"metadata": {"name": "s-n1", "annotations": {"kubernetes.io/config.mirror": "h"}, "ownerReferences": OWNER}}
BOUND = {"kind": "Pod", "name": "p", "uid": "u"}


@pytest.mark.parametrize("request_", [
    dict(verb="list", uri="/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", resource="pods"),
    dict(verb="watch", uri="/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dn1", resource="nodes"),
    dict(verb="create", uri="/api/v1/nodes", resource="nodes", body={"metadata": {"name": "n1"}}),
    dict(verb="patch", uri="/x", resource="nodes", name="n1", subresource="status"),
    dict(verb="get", uri="/x", resource="secrets", name="s", namespace="d"),
    dict(verb="watch", uri="/x?fieldSelector=metadata.name%3Ds", resource="configmaps", namespace="d"),
    dict(verb="create", uri="/x", resource="events"),
    dict(verb="create", uri="/x", resource="pods", body=MIRROR),
    dict(verb="patch", uri="/x", group="coordination.k8s.io", resource="leases", name="n1", namespace="kube-node-lease"),
    dict(verb="create", uri="/x", resource="serviceaccounts", name="a", subresource="token",
         body={"spec": {"audiences": ["x"], "boundObjectRef": BOUND}}),
    dict(verb="list", uri="/x", group="node.k8s.io", resource="runtimeclasses"),
])
def test_audit_accepts(request_):
    assert asked(**request_) is None


@pytest.mark.parametrize("request_", [
    dict(verb="list", uri="/api/v1/pods", resource="pods"),
    dict(verb="list", uri="/api/v1/pods?fieldSelector=spec.nodeName%3Dn2", resource="pods"),
    dict(verb="list", uri="/api/v1/nodes", resource="nodes"),
    dict(verb="get", uri="/x", resource="nodes", name="n2"),
    dict(verb="list", uri="/x", resource="secrets", namespace="d"),
    dict(verb="watch", uri="/x", resource="persistentvolumes"),
    dict(verb="list", uri="/x", group="storage.k8s.io", resource="volumeattachments"),
    dict(verb="create", uri="/x", group="events.k8s.io", resource="events"),
    dict(verb="create", uri="/x", resource="pods", body={"metadata": {"name": "p"}}),
    dict(verb="patch", uri="/x", group="coordination.k8s.io", resource="leases", name="n2", namespace="kube-node-lease"),
    dict(verb="create", uri="/x", resource="serviceaccounts", name="a", subresource="token",
         body={"spec": {"audiences": ["x", "y"], "boundObjectRef": BOUND}}),
    dict(verb="list", uri="/x", group="apps", resource="deployments"),
])
def test_audit_refuses(request_):
    assert asked(**request_)


# -- a registry that misbehaves -------------------------------------------------------------------------------------------

@pytest.fixture
def faulty(registry):
    with FaultyRegistry(registry) as f:
        yield f


def fetch(faulty, path, *options):
    done = faulty.netns.run(["curl", "-sS", *options, f"http://{faulty.host}{path}"], check=False, capture_output=True)
    return done.returncode, done.stdout


def test_faulty_registry_is_a_proxy(faulty, busybox):
    digest = busybox.layer_blobs()[0].digest
    assert fetch(faulty, f"/v2/busybox/blobs/{digest}") == (0, busybox.layer_blobs()[0].data)
    assert fetch(faulty, f"/v2/busybox/blobs/{digest}", "-r", "10-19") == (0, busybox.layer_blobs()[0].data[10:20])
    assert faulty.recorded("/blobs/")[-1].headers["Range"] == "bytes=10-19"


@pytest.mark.parametrize("action, status, size", [("cut", 18, 100), ("reset", 56, None), ("stall", 28, 100)])
def test_faulty_registry_breaks_off(faulty, busybox, action, status, size):
    fault = faulty.fail(action, "/blobs/", after=100, times=1)
    returned, data = fetch(faulty, f"/v2/busybox/blobs/{busybox.layer_blobs()[0].digest}", "-m", "1")
    assert returned == status and size in (None, len(data))
    assert fault.hits == 1


def test_faulty_registry_lies(faulty, busybox):
    faulty.fail("replace", "/blobs/", body=b"evil")
    assert fetch(faulty, f"/v2/busybox/blobs/{busybox.layer_blobs()[0].digest}") == (0, b"evil")
    faulty.clear()
    faulty.fail("status", "/manifests/", code=429)
    assert fetch(faulty, "/v2/busybox/manifests/1", "-f")[0] == 22


# -- nodes ----------------------------------------------------------------------------------------------------------------
# A stand-in daemon that is healthy and has no pods: what is tested here is how Node judges what is left behind.

STUB = """#!/usr/bin/python3
import http.server, json, signal, sys, yaml
if not sys.argv[1].startswith("-"):
    print(json.dumps({"items": []}))
    sys.exit(0)
signal.signal(signal.SIGTERM, lambda *a: sys.exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
config = yaml.safe_load(open(sys.argv[sys.argv.index("--config") + 1]))
http.server.HTTPServer(("127.0.0.1", config["healthzPort"]), Handler).serve_forever()
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    program = tmp_path / "kubelite" / "kubelite"
    program.parent.mkdir()
    program.write_text(STUB)
    program.chmod(0o755)
    monkeypatch.setenv("KUBELITE_BUILD", str(tmp_path))
    monkeypatch.setenv("KUBELITE_SANITIZED", "0")


def test_node_ends_in_order(stub, netns):
    with Node("a", netns=netns, plugins="debian") as node, Node("b", netns=netns, plugins="debian", index=1) as other:
        assert node.address != other.address
        assert node.pods() == [] == other.pods()
        node.add_manifest("x", pods.pod("x", pods.container("c", "busybox")))
        node.kill9()
        node.start()
        node.restart()
        directory, cgroup = node.dir, node.cgroup
    assert not directory.exists()
    assert cgroups.groups(cgroup) == []


def leave_link(node):
    node.netns.ip("link", "add", "left0", "type", "veth", "peer", "name", "left1")


def leave_cgroup(node):
    (next(p for p in cgroups.groups(node.cgroup)) / "kubepods" / "pod7").mkdir(parents=True)


def leave_mount(node):
    subprocess.run(["mount", "-t", "tmpfs", "left", node.dir / "root"], check=True)


def leave_process(node):
    Process(["tail", "-f", node.dir / "config.yaml"], node.dir / "left.log")


def leave_log(node):
    (node.dir / "logs" / "default_x_1").mkdir()


@pytest.mark.parametrize("leave, kind", [(leave_link, "link"), (leave_cgroup, "cgroup"), (leave_mount, "mount"),
                                         (leave_process, "process"), (leave_log, "file")])
def test_node_reports_what_is_left(stub, netns, monkeypatch, leave, kind):
    monkeypatch.setattr(Node.assert_nothing_left, "__defaults__", (0.3,))
    with pytest.raises(AssertionError, match=f'left on the machine.*"{kind}"'), Node("a", netns=netns, plugins="debian") as node:
        leave(node)
    netns.run(["ip", "link", "del", "left0"], check=False, stderr=subprocess.DEVNULL)
    assert not node.dir.exists()
    assert str(node.dir) not in open("/proc/self/mountinfo").read()
    assert cgroups.groups(node.cgroup) == []


def test_node_reports_a_daemon_that_ends(stub, netns):
    with pytest.raises(RuntimeError, match="ended with"), Node("a", netns=netns, plugins="debian") as node:
        node.kill9()
        node.binary.write_text("#!/bin/sh\necho cannot; exit 3\n")
        node.start()


def test_node_reports_sanitizers(stub, netns):
    with pytest.raises(AssertionError, match="sanitizer report"), Node("a", netns=netns, plugins="debian") as node:
        (node.dir / "sanitizer.1").write_text("==1==ERROR: AddressSanitizer: heap-use-after-free\n")
