# SPDX-License-Identifier: Apache-2.0
"""What the node takes and refuses, beside what runs already: also after a restart, and for critical pods."""

import pytest

from support import images, pods
from support.wait import eventually

NEVER = {"imagePullPolicy": "Never"}


@pytest.fixture
def node(fake_api, make_node, busybox):
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns)
    node.import_image(busybox, "docker.io/library/busybox:1")
    node.import_image(images.pause(), "docker.io/library/pause:1")
    return node


def pod(node, name, milli=0, priority=None, **spec):
    resources = {"requests": {"cpu": f"{milli}m"}} if milli else {}
    if priority is not None:
        spec["priority"] = priority
    return pods.pod(name, pods.container("c", "pause:1", resources=resources, **NEVER), node=node.name, **spec)


def allocatable(fake_api, node):
    """In thousandths of a CPU."""
    text = fake_api.admin.get(f"/api/v1/nodes/{node.name}")["status"]["allocatable"]["cpu"]
    return int(text[:-1]) if text.endswith("m") else 1000 * int(text)


def refused(fake_api, p):
    """The status of a pod that is refused: nothing but reason and message."""
    seen = pods.run(fake_api.admin, p, lambda p: pods.phase(p) == "Failed", 20)["status"]
    assert not seen.get("containerStatuses") and not seen.get("conditions")
    eventually(lambda: seen["reason"] in pods.event_reasons(fake_api.admin, p), 10, "event")
    return seen["reason"], seen["message"].removeprefix("Pod was rejected: ")


def test_refusals(node, fake_api):
    """Labels and taints as the API has them, not as the node registered."""
    path = f"/api/v1/nodes/{node.name}"
    total = allocatable(fake_api, node)
    pods.run(fake_api.admin, pod(node, "here", 200))
    assert refused(fake_api, pod(node, "cpu", 64000)) == (
        "OutOfcpu", f"Node didn't have enough resource: cpu, requested: 64000, used: 200, capacity: {total}")
    assert refused(fake_api, pod(node, "label", nodeSelector={"disk": "fast"})) == (
        "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")
    fake_api.admin.patch(path, {"metadata": {"labels": {"disk": "fast"}}})
    labelled = pod(node, "labelled", affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]}]}}})
    # The label reaches the node by its watch, some time: one of a few tries is late enough.
    for i in range(20):
        labelled["metadata"]["name"] = f"labelled-{i}"
        seen = pods.run(fake_api.admin, labelled, lambda p: pods.ready(p) or pods.phase(p) == "Failed", 20)
        if pods.ready(seen):
            break
    assert pods.ready(seen)
    fake_api.admin.patch(path, {"spec": {"taints": [{"key": "broken", "effect": "NoExecute"}]}})
    for i in range(20):
        seen = pods.run(fake_api.admin, pod(node, f"tainted-{i}"), lambda p: pods.ready(p) or pods.phase(p) == "Failed", 20)
        if pods.phase(seen) == "Failed":
            break
    assert (seen["status"]["reason"], seen["status"]["message"]) == (
        "TaintToleration", "Pod was rejected: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate")
    pods.run(fake_api.admin, pod(node, "tolerant", tolerations=[{"operator": "Exists"}]))


def test_restart_counts_what_runs(node, fake_api):
    """What was here stays, whatever came meanwhile and would fit alone; newcomers are admitted in the order of creation."""
    total = allocatable(fake_api, node)
    old = [pods.run(fake_api.admin, pod(node, f"old-{i}", total * 4 // 10)) for i in range(2)]
    node.kill9()
    # Listed before the old ones, by name.
    for name, milli in (("b-first", total * 15 // 100), ("a-second", total * 15 // 100), ("a-large", total * 4 // 10)):
        fake_api.create(pods.collection(), pod(node, name, milli))
    newer = fake_api.store.objects[("", "pods", "default", "a-second")]["metadata"]
    newer["creationTimestamp"] = "2100-01-01T00:00:00Z"
    node.start()
    admin = fake_api.admin
    admin.wait_for("/api/v1/namespaces/default/pods/b-first", pods.ready, 30)
    for name in ("a-second", "a-large"):
        seen = admin.wait_for(f"/api/v1/namespaces/default/pods/{name}", lambda p: pods.phase(p) == "Failed", 20)
        assert seen["status"]["reason"] == "OutOfcpu"
    for before in old:
        now = admin.get(pods.path(before))
        assert pods.ready(now) and pods.status_of(now)["containerID"] == pods.status_of(before)["containerID"]


def test_static_pod_preempts(node, fake_api):
    """A critical pod that lacks room ends as few lesser ones as do; these stay in the API as Failed."""
    total = allocatable(fake_api, node)
    lesser = pod(node, "lesser", total * 5 // 10)
    small = pod(node, "small", total * 2 // 10)
    for p in (lesser, small, pod(node, "system", total * 1 // 10, priority=2000001000)):
        pods.run(fake_api.admin, p)
    static = pods.pod("static", pods.container("c", "pause:1", resources={"requests": {"cpu": f"{total * 6 // 10}m"}}, **NEVER))
    node.add_manifest("static", static)
    gone = fake_api.admin.wait_for(pods.path(lesser), lambda p: pods.phase(p) == "Failed", 30)["status"]
    assert (gone["reason"], gone["message"]) == ("Preempting", "Preempted in order to admit critical pod")
    condition = next(c for c in gone["conditions"] if c["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
    assert pods.state_of({"status": gone})[0] == "terminated"
    assert "Preempting" in pods.event_reasons(fake_api.admin, lesser)
    fake_api.admin.wait_for(f"/api/v1/namespaces/default/pods/static-{node.name}", pods.ready, 30)
    assert pods.ready(fake_api.admin.get(pods.path(small)))
    # Over a restart it stays ended, and its resources stay free.
    node.kill9()
    node.start()
    pods.run(fake_api.admin, pod(node, "later", total * 1 // 20))
    assert pods.phase(fake_api.admin.get(pods.path(lesser))) == "Failed"
