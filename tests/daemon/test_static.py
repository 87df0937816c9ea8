# SPDX-License-Identifier: Apache-2.0
"""Static pods: manifests of all kinds, edited, replaced, broken and removed while their pods run."""

import json
import os
import time

import pytest

from support import pods
from support.wait import eventually

SLEEP = "sleep 100000"


def pod(name="p", script=SLEEP, **spec):
    return pods.pod(name, pods.container("c", "busybox:1", script, imagePullPolicy="Never"), **spec)


def full(name, node):
    return f"{name}-{node.name}"


def wait_ready(node, *names, timeout=30):
    """Waits until exactly these pods are there and ready; {name without suffix: pod}."""
    wanted = sorted(full(n, node) for n in names)
    found = node.wait_pods(lambda found: sorted(p["name"] for p in found) == wanted and all(p["ready"] for p in found),
                           timeout, f"{wanted} ready")
    return {p["name"].removesuffix(f"-{node.name}"): p for p in found}


def logged(node, text, times=1):
    return eventually(lambda: node.log().count(text) >= times, 15, f"log: {text}")


def test_yaml_json_and_many_documents(standalone):
    standalone.add_manifest("two", pod("a"), pod("b"))
    (standalone.manifests / "c.json").write_text(json.dumps(pod("c")))
    (standalone.manifests / "list-with-comments.yaml").write_text("# first\n---\n" + pods.dump(pod("d")) + "---\n# nothing\n")
    wait_ready(standalone, "a", "b", "c", "d")


def test_what_is_added(standalone):
    """Upstream's name suffix, namespace, uid and annotations; nothing of a status in the file."""
    manifest = pod(labels={"app": "x"})
    del manifest["metadata"]["namespace"]
    manifest["status"] = {"phase": "Failed"}
    standalone.add_manifest("p", manifest)
    found = wait_ready(standalone, "p")["p"]
    assert found["namespace"] == "default" and len(found["uid"]) == 32
    shown = standalone.cli_json("inspect", found["name"])
    assert shown["status"]["phase"] == "Running" and shown["status"]["qosClass"] == "BestEffort"
    assert pods.state_of(shown)[0] == "running"


def test_edit_replaces_only_what_changed(standalone):
    standalone.add_manifest("two", pod("a"), pod("b"))
    before = wait_ready(standalone, "a", "b")
    standalone.add_manifest("two", pod("a"), pod("b", "sleep 5000"))
    standalone.wait_pods(lambda found: {p["name"]: p["id"] for p in found if p["ready"]}.get(full("b", standalone))
                         not in (None, before["b"]["id"]))
    after = wait_ready(standalone, "a", "b")
    assert after["a"]["id"] == before["a"]["id"] and after["b"]["uid"] != before["b"]["uid"]
    # The same text again is no edit.
    standalone.add_manifest("two", pod("a"), pod("b", "sleep 5000"))
    standalone.add_manifest("c", pod("c"))
    again = wait_ready(standalone, "a", "b", "c")
    assert [again[n]["id"] for n in "ab"] == [after[n]["id"] for n in "ab"]


def test_removal_stops_within_grace(standalone):
    directory = standalone.dir / "told"
    directory.mkdir()
    script = "trap 'touch /told/term; exit 0' TERM; while :; do sleep 0.05; done"
    manifest = pod(script=script, terminationGracePeriodSeconds=20, volumes=[{"name": "t", "hostPath": {"path": str(directory)}}])
    manifest["spec"]["containers"][0]["volumeMounts"] = [{"name": "t", "mountPath": "/told"}]
    standalone.add_manifest("p", manifest)
    wait_ready(standalone, "p")
    standalone.remove_manifest("p")
    standalone.wait_pods(lambda found: not found, 10)
    assert (directory / "term").exists()


BROKEN = {
    "no YAML": "a: [1, 2",
    "no Pod": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: p}\n",
    "a list": "- a\n- b\n",
    "a word": "hello\n",
    "empty": "",
    "a document that ends": "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n",
    "no containers": "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n",
    "bytes": "\x01\x02\x7f" * 100,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_keeps_the_running_pod(standalone, kind):
    standalone.add_manifest("p", pod())
    before = wait_ready(standalone, "p")["p"]
    standalone.add_manifest("p", text=BROKEN[kind])
    logged(standalone, "is not used")
    standalone.add_manifest("q", pod("q"))
    assert wait_ready(standalone, "p", "q")["p"]["id"] == before["id"]
    # Whole again: the same pod; and broken again over a restart of the daemon it goes: there is no last good version.
    standalone.add_manifest("p", pod())
    standalone.add_manifest("r", pod("r"))
    assert wait_ready(standalone, "p", "q", "r")["p"]["id"] == before["id"]
    assert standalone.log().count("is not used") == 1


def refused(**spec):
    manifest = pod()
    manifest["spec"].update(spec)
    return manifest


def with_container(**fields):
    manifest = pod()
    manifest["spec"]["containers"][0].update(fields)
    return manifest


REFUSED = {
    "spec.serviceAccountName": refused(serviceAccountName="x"),
    "spec.volumes[0].secret": refused(volumes=[{"name": "v", "secret": {"secretName": "s"}}]),
    "spec.volumes[0].configMap": refused(volumes=[{"name": "v", "configMap": {"name": "s"}}]),
    "spec.volumes[0].persistentVolumeClaim": refused(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "s"}}]),
    "spec.volumes[0].projected.sources[0].serviceAccountToken": refused(
        volumes=[{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]),
    "spec.imagePullSecrets[0]": refused(imagePullSecrets=[{"name": "s"}]),
    "env{A}.valueFrom.secretKeyRef": with_container(
        env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
    "envFrom[0].configMapRef": with_container(envFrom=[{"configMapRef": {"name": "s"}}]),
    "containers[0].ports[0].containerPort: 99999 is not in 1-65535": with_container(ports=[{"containerPort": 99999}]),
    "containers[0].name": with_container(name="../../etc"),
    "metadata.name": {**pod(), "metadata": {"name": "../x", "namespace": "default"}},
    "metadata.namespace": {**pod(), "metadata": {"name": "x", "namespace": "a/b"}},
    "volumes[0].name": refused(volumes=[{"name": "../../v", "emptyDir": {}}]),
    "containers[0].image": with_container(image=5),
    "restartPolicy": refused(restartPolicy="Sometimes"),
    "terminationGracePeriodSeconds": refused(terminationGracePeriodSeconds="soon"),
    "containers[0].env[0].name": with_container(env=[{"value": "x"}]),
    "containers[0].resources.limits": with_container(resources={"limits": {"memory": "many"}}),
    "containers[0].volumeMounts[0]": with_container(volumeMounts=[{"name": "none", "mountPath": "/x"}]),
    "containers[1].name": refused(containers=[pods.container("c", "busybox:1"), pods.container("c", "busybox:1")]),
}


def test_refused_manifests(standalone):
    """Each with the path of what is wrong; a good one beside them runs."""
    for i, manifest in enumerate(REFUSED.values()):
        standalone.add_manifest(f"bad{i}", manifest)
    standalone.add_manifest("good", pod("good"))
    standalone.wait_pods(lambda found: any(p["ready"] and p["name"].startswith("good-") for p in found), 60)
    lines = {i: [line for line in standalone.log().splitlines() if f"/bad{i}.yaml' is not used" in line]
             for i in range(len(REFUSED))}
    wrong = [f"{text}: {lines[i]}" for i, text in enumerate(REFUSED) if len(lines[i]) != 1 or text not in lines[i][0]]
    assert not wrong, "\n".join(wrong)


def test_strange_files_in_the_directory(make_node, busybox):
    node = make_node("n1", config={"fileCheckFrequency": "1s"}, start=False)
    node.add_manifest("p", pod())
    (node.manifests / "directory.yaml").mkdir()
    (node.manifests / ".hidden.yaml").write_text(pods.dump(pod("hidden")))
    os.mkfifo(node.manifests / "fifo.yaml")
    (node.manifests / "loop.yaml").symlink_to("loop.yaml")
    (node.manifests / "gone.yaml").symlink_to("/nonexistent")
    (node.manifests / "endless.yaml").symlink_to("/dev/zero")
    (node.manifests / "linked.yaml").symlink_to(node.dir / "elsewhere.yaml")
    (node.dir / "elsewhere.yaml").write_text(pods.dump(pod("linked")))
    (node.manifests / "large.yaml").write_text("# " + "x" * (5 << 20) + "\n" + pods.dump(pod("large")))
    node.start()
    node.import_image(busybox, "docker.io/library/busybox:1")
    wait_ready(node, "p", "linked", timeout=60)
    assert "large.yaml' is not used" in node.log()
    (node.manifests / "directory.yaml").rmdir()


def test_directory_that_comes_later(make_node, busybox):
    node = make_node("n1", config={"fileCheckFrequency": "1s"}, start=False)
    node.manifests.rmdir()
    node.start()
    node.import_image(busybox, "docker.io/library/busybox:1")
    node.manifests.mkdir()
    node.add_manifest("p", pod())
    before = wait_ready(node, "p")["p"]
    # Replaced as a whole, as a configuration management does it.
    other = node.dir / "other"
    other.mkdir()
    for name in ("p", "q"):
        (other / f"{name}.yaml").write_text(pods.dump(pod(name)))
    node.manifests.rename(node.dir / "old")
    other.rename(node.manifests)
    assert wait_ready(node, "p", "q")["p"]["id"] == before["id"]


def test_written_in_pieces(standalone):
    """Half a file is broken or a shorter pod, and never the end of the running one by mistake."""
    text = pods.dump(pod("a"), pod("b"))
    path = standalone.manifests / "two.yaml"
    with open(path, "w", encoding="utf-8") as f:
        f.write(text[:len(text) // 3])
        f.flush()
        f.write(text[len(text) // 3:])
    before = wait_ready(standalone, "a", "b")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    standalone.add_manifest("c", pod("c"))
    after = wait_ready(standalone, "a", "b", "c")
    assert [after[n]["id"] for n in "ab"] == [before[n]["id"] for n in "ab"]


def test_two_files_name_the_same_pod(standalone):
    standalone.add_manifest("1", pod())
    wait_ready(standalone, "p")
    standalone.add_manifest("2", pod(script="sleep 7000"))
    standalone.add_manifest("3", pod("q"))
    wait_ready(standalone, "p", "q")
    # When the first one goes, the other has its turn.
    standalone.remove_manifest("1")
    standalone.wait_pods(lambda found: len(found) == 2 and all(p["ready"] for p in found))
    eventually(lambda: [p for p in standalone.ps() if p["name"] == "c"] and running(standalone, "sleep 7000"), 20, "the other")


def running(node, command):
    found = []
    for container in node.ps():
        try:
            with open(f"/proc/{container['pid']}/cmdline", encoding="utf-8") as f:
                found.append(f.read().replace("\0", " "))
        except (OSError, KeyError):
            pass
    return any(command in line for line in found)


def test_edit_back_and_forth(standalone):
    """Faster than the pod can end; what stays is the last version."""
    for seconds in (1000, 1001, 1000, 1002, 1003):
        standalone.add_manifest("p", pod(script=f"sleep {seconds}"))
    eventually(lambda: running(standalone, "sleep 1003"), 30, "the last version")
    wait_ready(standalone, "p")
    assert len(standalone.ps()) == 1


def test_start_time_survives_the_daemon(standalone):
    """Nothing but the node's own record knows it."""
    standalone.add_manifest("p", pod())
    before = wait_ready(standalone, "p")["p"]
    start = standalone.cli_json("inspect", before["name"])["status"]["startTime"]
    standalone.kill9()
    eventually(lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1)) > start, 10, "another second")
    standalone.start()
    assert wait_ready(standalone, "p")["p"]["id"] == before["id"]
    assert standalone.cli_json("inspect", before["name"])["status"]["startTime"] == start


# -- with an API server ---------------------------------------------------------------------------------------------------


@pytest.fixture
def joined(fake_api, make_node, busybox):
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns)
    node.import_image(busybox, "docker.io/library/busybox:1")
    return node


def test_refused_mirror_is_one_event(joined, fake_api):
    """The pod runs all the same, and the server is not asked all the time."""
    fault = fake_api.fail("status", "/namespaces/default/pods$", method="POST", code=403, reason="Forbidden",
                          message="no mirror pods here")
    joined.add_manifest("p", pod())
    wait_ready(joined, "p")
    events = lambda: [e for e in fake_api.admin.get("/api/v1/events")["items"]  # noqa: E731
                      if "no mirror pods here" in e["message"]]
    eventually(events, 10, "an event")
    eventually(lambda: fault.hits >= 3, 20, "attempts")
    assert len(events()) == 1 and events()[0].get("count", 1) == 1 and events()[0]["type"] == "Warning"
    fake_api.clear(fault)
    mirror = fake_api.admin.wait_for(pods.path(pod(full("p", joined))), pods.ready, 60)
    assert mirror["metadata"]["ownerReferences"][0]["kind"] == "Node"


def test_mirror_of_a_pod_that_is_gone(joined, fake_api):
    """Mirrors without a manifest are removed, also when the manifest went while the daemon was dead."""
    joined.add_manifest("p", pod())
    path = pods.path(pod(full("p", joined)))
    fake_api.admin.wait_for(path, pods.ready, 30)
    joined.kill9()
    joined.remove_manifest("p")
    joined.start()
    fake_api.admin.wait_for(path, lambda p: p is None, 30)


def test_mirror_that_somebody_deletes(joined, fake_api):
    """With grace or without: the pod stays as it is, the mirror comes back."""
    joined.add_manifest("p", pod())
    path = pods.path(pod(full("p", joined)))
    mirror = fake_api.admin.wait_for(path, pods.ready, 30)
    before = wait_ready(joined, "p")["p"]
    for grace in (0, 30):
        uid = mirror["metadata"]["uid"]
        fake_api.admin.delete(path, grace)
        mirror = fake_api.admin.wait_for(path, lambda p: p and p["metadata"]["uid"] != uid and pods.ready(p), 60)
    assert wait_ready(joined, "p")["p"]["id"] == before["id"]
