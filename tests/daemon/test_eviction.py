# SPDX-License-Identifier: Apache-2.0
"""Pods that are ended by the node: for what they take of its disk beyond their limits, and when it runs short."""

import pytest

from support import images, pods
from support.registry import Registry
from support.wait import eventually

NEVER = {"imagePullPolicy": "Never"}
FILL = "head -c 4000000 /dev/zero > {0}/fill; sleep 100000"


@pytest.fixture
def node(fake_api, make_node, busybox):
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns)
    node.import_image(busybox, "docker.io/library/busybox:1")
    node.import_image(images.pause(), "docker.io/library/pause:1")
    return node


def pod(node, name, script, resources=None, more=(), volumes=(), mounts=(), **spec):
    main = pods.container("c", "busybox:1", script, resources=resources or {}, volumeMounts=list(mounts), **NEVER)
    return pods.pod(name, main, *more, node=node.name, volumes=list(volumes), **spec)


def limits(storage):
    return {"limits": {"ephemeral-storage": storage}}


def evicted(fake_api, p, timeout=150):
    """The status of a pod once it is evicted."""
    seen = fake_api.admin.wait_for(pods.path(p), lambda p: pods.phase(p) == "Failed", timeout)["status"]
    assert seen["reason"] == "Evicted"
    condition = next(c for c in seen["conditions"] if c["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"], condition["message"]) == (
        "True", "TerminationByKubelet", seen["message"])
    assert pods.state_of({"status": seen})[0] == "terminated"
    return seen


def test_local_storage_limits(node, fake_api):
    volume = {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}], "mounts": [{"name": "v", "mountPath": "/v"}]}
    other = pods.container("d", "pause:1", resources=limits("1Gi"), **NEVER)
    wanted = {
        "volume": (pod(node, "volume", FILL.format("/v"), **volume),
                   'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '),
        "layer": (pod(node, "layer", FILL.format("/tmp"), limits("1Mi"), [other]),
                  'Container c exceeded its local ephemeral storage limit "1Mi". '),
        "logs": (pod(node, "logs", "yes logs | head -c 4000000; sleep 100000", limits("1Mi"), [other]),
                 'Container c exceeded its local ephemeral storage limit "1Mi". '),
        "pod": (pod(node, "pod", FILL.format("/v"), limits("1Mi"), volumes=[{"name": "v", "emptyDir": {}}],
                    mounts=volume["mounts"]),
                "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "),
    }
    fine = pod(node, "fine", FILL.format("/v"), limits("16Mi"), volumes=[{"name": "v", "emptyDir": {"sizeLimit": "8Mi"}}],
               mounts=volume["mounts"])
    for p in (fine, *(p for p, _ in wanted.values())):
        fake_api.admin.post(pods.collection(), p)
    for p, message in wanted.values():
        seen = evicted(fake_api, p)
        assert seen["message"] == message
        assert "Evicted" in pods.event_reasons(fake_api.admin, p)
    assert pods.ready(fake_api.admin.get(pods.path(fine)))
    # Ended for good, and so it stays with another daemon.
    node.kill9()
    node.start()
    assert pods.phase(fake_api.admin.get(pods.path(wanted["pod"][0]))) == "Failed"
    node.wait_pods(lambda found: [p["name"] for p in found if p["ready"]] == ["fine"])


def node_condition(fake_api, node, kind):
    found = fake_api.admin.get(f"/api/v1/nodes/{node.name}")["status"]["conditions"]
    return next((c["status"], c["reason"]) for c in found if c["type"] == kind)


def under(node, fake_api, kind, reason, **config):
    """Restarts the node with another configuration and waits for a condition."""
    node.stop()
    node.extra_config = {"evictionPressureTransitionPeriod": "1s", **config}
    node.start()
    eventually(lambda: node_condition(fake_api, node, kind) == ("True" if "Insuf" in reason or "HasDisk" in reason else "False",
                                                                reason), 40, reason)


def node_events(fake_api):
    found = fake_api.admin.get("/api/v1/namespaces/default/events", {"fieldSelector": "involvedObject.kind=Node"})["items"]
    return {(e["reason"], e["message"]) for e in found}


def test_pressure(node, fake_api):
    """Thresholds that any machine is beyond: of memory, then of disk, then none."""
    eat = "x=$(head -c 8000000 /dev/zero | tr '\\0' a); while :; do sleep 1000; done"
    over = pod(node, "over", eat, {"requests": {"memory": "1Mi"}})
    important = pod(node, "important", eat, {"requests": {"memory": "1Mi"}}, priority=1000)
    within = pod(node, "within", "sleep 100000", {"requests": {"memory": "200Mi"}})
    critical = pod(node, "critical", eat, priority=2000001000)
    for p in (over, important, within, critical):
        pods.run(fake_api.admin, p)
    under(node, fake_api, "MemoryPressure", "KubeletHasInsufficientMemory", evictionHard={"memory.available": "99.9%"})
    seen = evicted(fake_api, over)
    assert seen["message"].startswith("The node was low on resource: memory. Threshold quantity: ")
    assert "Container c was using " in seen["message"]
    assert seen["message"].endswith(", request is 1Mi, has larger consumption of memory. ")
    assert pods.phase(fake_api.admin.get(pods.path(within))) == "Running"
    assert ("EvictionThresholdMet", "Attempting to reclaim memory") in node_events(fake_api)
    refused = pods.run(fake_api.admin, pod(node, "refused", "sleep 1"), lambda p: pods.phase(p) == "Failed", 20)["status"]
    assert (refused["reason"], refused["message"]) == ("Evicted", "Pod was rejected: The node had condition: [MemoryPressure]. ")

    # Disk: images that nobody needs go first; those that were brought by hand stay.
    with Registry(fake_api.netns) as registry:
        registry.push(images.pause(), "unused", "1")
        node.stop()
        node.registries = {"mirrors": {registry.host: {"endpoint": [f"http://{registry.host}"]}}}
        (node.dir / "registries.yaml").write_text(f"mirrors: {{'{registry.host}': {{endpoint: ['http://{registry.host}']}}}}\n")
        node.extra_config = {}
        node.start()
        node.cli("pull", f"{registry.host}/unused:1")
        names = lambda: [t for i in node.images() for t in i.get("tags") or i.get("names") or []]  # noqa: E731
        assert any("unused" in n for n in names())
        under(node, fake_api, "DiskPressure", "KubeletHasDiskPressure", imageMinimumGCAge="1ms",
              evictionHard={"nodefs.available": "99.999%"})
        eventually(lambda: not any("unused" in n for n in names()), 30, "unused image goes")
        assert any("busybox" in n for n in names())
    under(node, fake_api, "DiskPressure", "KubeletHasNoDiskPressure")
    # One that everything rests on stays whatever happens.
    assert pods.ready(fake_api.admin.get(pods.path(critical)))
