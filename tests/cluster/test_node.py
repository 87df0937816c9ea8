# SPDX-License-Identifier: Apache-2.0
"""The Node object, its Lease and CSINode against a real API server."""

import datetime
import os
import re
import signal
import time

import pytest
from support import audit, pki
from support.api import MERGE, STRATEGIC
from support.wait import eventually

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
CSINODES = "/apis/storage.k8s.io/v1/csinodes"
ATTACH_DETACH = "volumes.kubernetes.io/controller-managed-attach-detach"
PLUGINS = "debian"
CONDITIONS = {
    "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    "Ready": ("True", "KubeletReady", "kubelet is posting ready status"),
}


def path(name):
    return f"/api/v1/nodes/{name}"


def conditions(node):
    return {c["type"]: c for c in ((node or {}).get("status") or {}).get("conditions") or []}


def ready(node):
    return conditions(node).get("Ready", {}).get("status")


def addresses(node):
    return [(a["type"], a["address"]) for a in node["status"]["addresses"]]


def when(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


@pytest.fixture
def start(make_node):
    """start("n1", ...) as make_node, with Debian's CNI plugins."""
    return lambda name, **kwargs: make_node(name, **{"plugins": PLUGINS, **kwargs})


@pytest.fixture
def spawn(start):
    """spawn("n1", ...) starts a node of which nobody expects that it becomes Ready."""
    def spawned(name, **kwargs):
        node = start(name, start=False, expect_leaks=True, **kwargs)
        node.spawn()
        return node
    return spawned


def assert_owned(owned, node):
    assert owned["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"], "uid": node["metadata"]["uid"]}]


def requests_of(cluster, name, since=0):
    return [r for r in audit.requests(cluster.audit_log) if r.node == name and r.agent != audit.TEST_AGENT][since:]


def test_new_node(cluster, start):
    node = start("new", flags=["--node-labels=example.org/a=b,topology.kubernetes.io/zone=z1",
                               "--register-with-taints=k=v:PreferNoSchedule", "--provider-id=test://new"],
                 config={"maxPods": 42, "kubeReserved": {"cpu": "100m", "memory": "64Mi"}})
    found = cluster.admin.get(path("new"))
    metadata, status = found["metadata"], found["status"]
    labels = metadata["labels"]
    arch = status["nodeInfo"]["architecture"]
    assert labels["kubernetes.io/hostname"] == "new"
    assert labels["kubernetes.io/os"] == labels["beta.kubernetes.io/os"] == "linux"
    assert labels["kubernetes.io/arch"] == labels["beta.kubernetes.io/arch"] == arch
    assert labels["example.org/a"] == "b" and labels["topology.kubernetes.io/zone"] == "z1"
    assert metadata["annotations"][ATTACH_DETACH] == "true"
    assert "ownerReferences" not in metadata
    assert found["spec"]["providerID"] == "test://new"
    assert {"key": "k", "value": "v", "effect": "PreferNoSchedule"} in found["spec"]["taints"]
    assert addresses(found) == [("InternalIP", node.address), ("Hostname", "new")]
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    for kind, (state, reason, message) in CONDITIONS.items():
        c = conditions(found)[kind]
        assert (c["status"], c["reason"], c["message"]) == (state, reason, message)


def test_resources_of_this_machine(cluster, start):
    start("size", config={"maxPods": 42, "kubeReserved": {"cpu": "100m", "memory": "64Mi"}})
    status = cluster.admin.get(path("size"))["status"]
    capacity, allocatable = status["capacity"], status["allocatable"]
    total = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    huge = sum(int(open(f"/sys/kernel/mm/hugepages/{d}/nr_hugepages").read()) * int(d[10:-2])
               for d in os.listdir("/sys/kernel/mm/hugepages"))
    cpus = os.cpu_count()
    assert capacity["cpu"] == str(cpus) and allocatable["cpu"] == f"{cpus * 1000 - 100}m"
    assert quantity(capacity["memory"]) == total * 1024
    assert quantity(allocatable["memory"]) == (total - huge - (100 + 64) * 1024) * 1024
    assert capacity["pods"] == allocatable["pods"] == "42"
    assert quantity(allocatable["ephemeral-storage"]) < quantity(capacity["ephemeral-storage"])
    assert status["nodeInfo"]["bootID"] == open("/proc/sys/kernel/random/boot_id").read().strip()
    assert status["nodeInfo"]["kernelVersion"] == os.uname().release
    assert status["nodeInfo"]["kubeletVersion"].startswith("v1.")
    assert status["nodeInfo"]["containerRuntimeVersion"].startswith("kubelite://")


def quantity(text):
    factors = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
    return int(text[:-2]) * factors[text[-2:]] if text[-2:] in factors else int(text)


def test_lease_and_csinode_belong_to_the_node(cluster, start):
    start("owner")
    node = cluster.admin.get(path("owner"))
    lease = cluster.admin.wait_for(f"{LEASES}/owner", lambda o: o is not None, 10)
    csinode = cluster.admin.wait_for(f"{CSINODES}/owner", lambda o: o is not None, 10)
    assert_owned(lease, node)
    assert_owned(csinode, node)
    assert lease["spec"]["holderIdentity"] == "owner"
    assert lease["spec"]["leaseDurationSeconds"] == 40
    assert not csinode["spec"]["drivers"]
    assert "kubernetes.io/aws-ebs" in csinode["metadata"]["annotations"]["storage.alpha.kubernetes.io/migrated-plugins"]
    assert when(node["metadata"]["creationTimestamp"]) <= when(lease["metadata"]["creationTimestamp"])


def test_lease_is_renewed_on_a_fixed_grid(cluster, start):
    start("beat", config={"nodeLeaseDurationSeconds": 4})
    lease = cluster.admin.wait_for(f"{LEASES}/beat", lambda o: o is not None, 10)
    times = []
    for event in cluster.admin.watch(LEASES, lease["metadata"]["resourceVersion"], 8,
                                     {"fieldSelector": "metadata.name=beat"}):
        if event.type == "MODIFIED":
            times.append(when(event.object["spec"]["renewTime"]).timestamp())
        if len(times) == 6:
            break
    assert len(times) == 6
    assert 4.5 < times[-1] - times[0] < 5.5
    assert all(0.5 < b - a < 1.5 for a, b in zip(times, times[1:]))


def test_idle_node_writes_only_its_lease(cluster, start):
    """Nothing changes for 40 s: no write of the Node, leases each 10 s, no other request at all."""
    start("idle")
    cluster.admin.wait_for(f"{LEASES}/idle", lambda o: o is not None, 10)
    time.sleep(2)  # what start-up still has to say
    before = len(requests_of(cluster, "idle"))
    node = cluster.admin.get(path("idle"))
    time.sleep(40)
    seen = requests_of(cluster, "idle", before)
    after = cluster.admin.get(path("idle"))
    assert conditions(after)["Ready"]["lastHeartbeatTime"] == conditions(node)["Ready"]["lastHeartbeatTime"]
    assert {(r.verb, r.resource) for r in seen} == {("patch", "leases")}
    assert 3 <= len(seen) <= 5


def test_status_is_posted_each_report_period(cluster, start):
    start("report", config={"nodeStatusUpdateFrequency": "1s", "nodeStatusReportFrequency": "2s"})
    first = conditions(cluster.admin.get(path("report")))["Ready"]
    beat = first["lastHeartbeatTime"]
    later = cluster.admin.wait_for(path("report"), lambda n: conditions(n)["Ready"]["lastHeartbeatTime"] > beat, 10)
    assert conditions(later)["Ready"]["lastTransitionTime"] == first["lastTransitionTime"]


def test_restart_adopts_and_nobody_sees_it_not_ready(cluster, start):
    node = start("again")
    found = cluster.admin.get(path("again"))
    uid, version = found["metadata"]["uid"], found["metadata"]["resourceVersion"]
    node.kill9()
    cluster.admin.patch(path("again"), {"metadata": {
        "labels": {"kubernetes.io/arch": "wrong", "mine": "stays"}, "annotations": {ATTACH_DETACH: None}}}, MERGE)
    node.start()
    adopted = cluster.admin.wait_for(path("again"), lambda n: ATTACH_DETACH in n["metadata"].get("annotations", {}), 10)
    assert adopted["metadata"]["uid"] == uid
    assert adopted["metadata"]["labels"]["kubernetes.io/arch"] != "wrong"
    assert adopted["metadata"]["labels"]["mine"] == "stays"
    events = cluster.admin.watch("/api/v1/nodes", version, 3, {"fieldSelector": "metadata.name=again"})
    assert {ready(e.object) for e in events if e.type == "MODIFIED"} == {"True"}
    since = {conditions(n)["Ready"]["lastTransitionTime"] for n in (found, adopted)}
    assert len(since) == 1


def test_deleted_node_stays_away_until_the_next_start(cluster, start):
    """As upstream: a running kubelet does not register twice."""
    node = start("gone", config={"nodeLeaseDurationSeconds": 4})
    old = cluster.admin.get(path("gone"))["metadata"]["uid"]
    cluster.admin.delete(path("gone"))
    eventually(lambda: "was deleted" in node.log(), 10, "deletion noticed")
    cluster.admin.wait_for(f"{LEASES}/gone", lambda o: o is None, 60, "lease collected with its owner")
    time.sleep(3)
    assert cluster.admin.get_or_none(path("gone")) is None
    assert cluster.admin.get_or_none(f"{LEASES}/gone") is None
    node.restart()
    found = cluster.admin.get(path("gone"))
    assert found["metadata"]["uid"] != old
    assert_owned(cluster.admin.wait_for(f"{LEASES}/gone", lambda o: o is not None, 10), found)
    csinode = cluster.admin.wait_for(
        f"{CSINODES}/gone", lambda o: o and o["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"], 30)
    assert_owned(csinode, found)


def test_node_made_anew_by_others_is_taken_up(cluster, start):
    node = start("anew", config={"nodeLeaseDurationSeconds": 4})
    cluster.admin.delete(path("anew"))
    eventually(lambda: "was deleted" in node.log(), 10, "deletion noticed")
    made = cluster.admin.post("/api/v1/nodes", {"metadata": {"name": "anew"}})
    taken = cluster.admin.wait_for(path("anew"), lambda n: ready(n) == "True", 15)
    assert taken["metadata"]["uid"] == made["metadata"]["uid"]
    assert taken["status"]["nodeInfo"]["bootID"]
    uid = made["metadata"]["uid"]
    owned = lambda o: o and o["metadata"]["ownerReferences"][0]["uid"] == uid  # noqa: E731
    cluster.admin.wait_for(f"{LEASES}/anew", owned, 60, "lease of the new owner")


def test_condition_changed_by_others_is_written_again(cluster, start):
    start("fix")
    unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "x"}
    cluster.admin.patch(path("fix") + "/status", {"status": {"conditions": [unknown]}}, STRATEGIC)
    fixed = cluster.admin.wait_for(path("fix"), lambda n: ready(n) == "True", 10)
    assert conditions(fixed)["Ready"]["reason"] == "KubeletReady"


def test_conditions_of_others_stay(cluster, start):
    start("mixed", config={"nodeStatusUpdateFrequency": "1s", "nodeStatusReportFrequency": "1s"})
    other = {"type": "KernelDeadlock", "status": "False", "reason": "KernelHasNoDeadlock", "message": "fine"}
    patched = cluster.admin.patch(path("mixed") + "/status", {"status": {"conditions": [other]}}, STRATEGIC)
    beat = conditions(patched)["Ready"]["lastHeartbeatTime"]
    after = cluster.admin.wait_for(path("mixed"), lambda n: conditions(n)["Ready"]["lastHeartbeatTime"] != beat, 10)
    assert conditions(after)["KernelDeadlock"]["message"] == "fine"


def test_register_node_false(cluster, spawn):
    node = spawn("later", flags=["--register-node=false"])
    eventually(node.healthy, 10, "healthy")
    eventually(lambda: "Waiting for somebody to make Node" in node.log(), 10, "waits")
    assert cluster.admin.get_or_none(path("later")) is None
    cluster.admin.post("/api/v1/nodes", {"metadata": {"name": "later", "labels": {"mine": "yes"}}})
    found = cluster.admin.wait_for(path("later"), lambda n: ready(n) == "True", 15)
    assert found["metadata"]["labels"]["mine"] == "yes"
    assert_owned(cluster.admin.wait_for(f"{LEASES}/later", lambda o: o is not None, 10), found)


def test_external_cloud_provider(cluster, start):
    """The taint keeps pods away until the controller has been there; its addresses are not overwritten."""
    node = start("cloud", flags=["--cloud-provider=external"],
                 config={"nodeStatusUpdateFrequency": "1s", "nodeStatusReportFrequency": "1s"})
    found = cluster.admin.get(path("cloud"))
    assert {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true",
            "effect": "NoSchedule"} in found["spec"]["taints"]
    assert found["metadata"]["annotations"]["alpha.kubernetes.io/provided-node-ip"] == node.address
    external = [{"type": "ExternalIP", "address": "192.0.2.7"}, {"type": "InternalIP", "address": node.address}]
    patch = {"status": {"addresses": [{"$patch": "replace"}, *external]}}
    beat = conditions(cluster.admin.patch(path("cloud") + "/status", patch, STRATEGIC))["Ready"]["lastHeartbeatTime"]
    after = cluster.admin.wait_for(path("cloud"), lambda n: conditions(n)["Ready"]["lastHeartbeatTime"] != beat, 10)
    assert after["status"]["addresses"] == external


def test_two_families(cluster, start):
    asked = [cluster.netns.address, cluster.netns.address6]
    start("dual", flags=["--node-ip=" + ",".join(asked)])
    found = addresses(cluster.admin.get(path("dual")))
    assert found == [("InternalIP", asked[0]), ("InternalIP", asked[1]), ("Hostname", "dual")]


@pytest.mark.parametrize("asked", ["0.0.0.0", "::"])
def test_address_is_found_out(cluster, start, asked):
    """No default route in this namespace: the first global address of the family."""
    name = "found4" if asked == "0.0.0.0" else "found6"
    start(name, flags=[f"--node-ip={asked}"])
    expected = cluster.netns.address if asked == "0.0.0.0" else cluster.netns.address6
    assert ("InternalIP", expected) in addresses(cluster.admin.get(path(name)))


def test_address_changes(cluster, start):
    """The default route moves to another interface and back."""
    start("moves", flags=["--node-ip=0.0.0.0"],
          config={"nodeStatusUpdateFrequency": "1s", "nodeStatusReportFrequency": "1h"})

    def wait_address(address):
        wanted = [("InternalIP", address), ("Hostname", "moves")]
        cluster.admin.wait_for(path("moves"), lambda n: addresses(n) == wanted, 10)

    ip = cluster.netns.ip
    wait_address(cluster.netns.address)
    ip("link", "add", "wan0", "type", "veth", "peer", "name", "wan0-far")
    try:
        ip("link", "set", "wan0-far", "up")
        ip("link", "set", "wan0", "up")
        ip("address", "add", "172.31.9.1/24", "dev", "wan0")
        ip("route", "add", "default", "dev", "wan0")
        wait_address("172.31.9.1")
    finally:
        ip("link", "del", "wan0")
    wait_address(cluster.netns.address)


def test_no_network_plugin(cluster, spawn):
    spawn("nonet", plugins=None)
    found = cluster.admin.wait_for(
        path("nonet"), lambda n: "container runtime network" in conditions(n).get("Ready", {}).get("message", ""), 15)
    assert conditions(found)["Ready"]["status"] == "False"
    assert conditions(found)["Ready"]["reason"] == "KubeletNotReady"
    assert "NetworkReady=false reason:NetworkPluginNotReady message:" in conditions(found)["Ready"]["message"]


# --- an API server that is away or says no


def renewed(cluster, name):
    lease = cluster.admin.get_or_none(f"{LEASES}/{name}")
    return lease["spec"]["renewTime"] if lease else None


def wait_renewed(cluster, name, timeout):
    last = renewed(cluster, name)
    cluster.admin.wait_for(f"{LEASES}/{name}", lambda o: o and o["spec"]["renewTime"] != last, timeout, "lease renewed")


def test_api_server_is_away_for_a_minute(cluster, start):
    node = start("away", config={"nodeLeaseDurationSeconds": 8})
    cluster.admin.wait_for(f"{LEASES}/away", lambda o: o is not None, 10)
    pid = node.process.pid
    cluster.stop_apiserver(hard=True)
    try:
        time.sleep(60)
    finally:
        cluster.start_apiserver()
    wait_renewed(cluster, "away", 10)
    cluster.admin.wait_for(path("away"), lambda n: ready(n) == "True", 30)
    assert node.process.alive() and node.process.pid == pid
    complaints = [line for line in node.log().splitlines() if " warning " in line]
    assert 1 <= len(complaints) <= 5, complaints
    assert "answers again" in node.log()


def test_unanswered_renewal_takes_a_new_connection(cluster, start):
    """An API server that hangs: the renewal is given up after 10 s, and works at once when the server goes on."""
    node = start("hang", config={"nodeLeaseDurationSeconds": 8})
    cluster.admin.wait_for(f"{LEASES}/hang", lambda o: o is not None, 10)
    server = cluster.processes["apiserver"]
    server.signal(signal.SIGSTOP)
    try:
        eventually(lambda: "Cannot reach the API server" in node.log(), 25, "renewal given up")
    finally:
        server.signal(signal.SIGCONT)
    wait_renewed(cluster, "hang", 15)
    assert node.process.alive()


COMPLAINT = re.compile(r"Cannot (register the Node|reach the API server)")


def complains(node, *texts, timeout=15):
    """The log says once what is wrong, in these words, and the daemon goes on."""
    def lines():
        return [x for x in node.log().splitlines() if COMPLAINT.search(x)]
    eventually(lines, timeout, "a complaint")
    time.sleep(2)
    assert node.process.alive(), node.log()
    assert len(lines()) == 1, lines()
    assert [t for t in texts if t.lower() in lines()[0].lower()], lines()


def test_wrong_authority(cluster, spawn, tmp_path):
    other = pki.Authority(tmp_path, "other")
    kubeconfig = cluster.kubeconfig("wrong-ca", cluster.node_pair("wrongca"), ca=other.cert_path)
    node = spawn("wrongca", kubeconfig=kubeconfig)
    complains(node, "certificate")


def test_expired_certificate(cluster, spawn):
    pair = cluster.node_pair("expired", begin=-2 * pki.ONE_DAY, end=-pki.ONE_DAY, file="expired")
    node = spawn("expired", kubeconfig=cluster.kubeconfig("expired", pair))
    complains(node, "expired")


def test_refused_token(cluster, spawn):
    node = spawn("refused", kubeconfig=cluster.kubeconfig("refused", token="not.a.token"))
    complains(node, "401")
    assert "not.a.token" not in node.log()


def test_refused_token_file(cluster, spawn, tmp_path):
    token = tmp_path / "token"
    token.write_text("wrong")
    node = spawn("tokenfile", kubeconfig=cluster.kubeconfig("tokenfile", token_file=token))
    complains(node, "401")


def test_inline_credentials(cluster, start):
    start("inline", kubeconfig=cluster.node_kubeconfig("inline", inline=True))
    assert ready(cluster.admin.get(path("inline"))) == "True"


def test_standalone_node_asks_nobody(cluster, make_node):
    node = make_node("alone", cluster=None, netns=cluster.netns, plugins=PLUGINS)
    assert node.healthy()
    assert cluster.admin.get_or_none(path("alone")) is None


def test_requests_are_those_of_a_node(cluster, start):
    """What this file's nodes have asked for is what a current node authorizer allows, and no write was refused."""
    start("last")
    nodes = {"new", "size", "owner", "beat", "idle", "report", "again", "gone", "anew", "fix", "mixed", "later",
             "cloud", "dual", "found4", "found6", "moves", "nonet", "away", "hang", "inline", "last"}
    seen = [r for r in audit.requests(cluster.audit_log) if r.node in nodes and r.agent != audit.TEST_AGENT]
    assert seen
    assert not [(r.verb, r.uri, audit.violation(r)) for r in seen if audit.violation(r)]
    # Servers were stopped in the middle of requests; an event cut off by the end of its daemon is a 500 in the log.
    stopped = {"away", "hang"}
    seen = [r for r in seen if r.resource != "events"]
    assert not [(r.verb, r.uri, r.code) for r in seen if r.code in (400, 403, 415, 422)]
    assert not [(r.node, r.verb, r.uri, r.code, r.body) for r in seen if r.code >= 500 and r.node not in stopped]
    assert not [r for r in seen if "$setElementOrder" in str(r.body)]
