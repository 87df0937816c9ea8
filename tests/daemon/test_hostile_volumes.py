# SPDX-License-Identifier: Apache-2.0
"""Volumes whose content changes under the node's hands: while a container is started, and when its pod is removed."""

import contextlib
import ctypes
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from support import images, pods
from support.inside import IMAGE, phase, start
from support.netns import NetNs
from support.node import Node
from support.wait import eventually

RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="module")
def node():
    with NetNs() as netns, Node("hv", netns=netns) as n:
        n.import_image(images.busybox(), IMAGE)
        yield n


@contextlib.contextmanager
def exchanging(a, b):
    """Two names that change places all the time, as a container can have them do it."""
    stop, turns = threading.Event(), [0]

    def run():
        one, two = os.fsencode(a), os.fsencode(b)
        while not stop.is_set():
            if _libc.renameat2(-100, one, -100, two, RENAME_EXCHANGE) < 0:
                return
            turns[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield turns
    finally:
        stop.set()
        thread.join()


def many(node, name, n, script, mounts, volumes):
    """A pod of n containers that all have the same mounts: how each ended, or why it waits, and what it printed."""
    containers = [pods.container(f"c{i}", IMAGE, script, imagePullPolicy="Never", volumeMounts=mounts) for i in range(n)]
    node.add_manifest(name, pods.pod(name, *containers, restartPolicy="Never", volumes=volumes))

    def settled():
        done = node.cli("inspect", f"{name}-{node.name}", "-o", "json", check=False)
        states = [pods.state_of(json.loads(done.stdout), f"c{i}") for i in range(n)] if done.returncode == 0 else []
        over = [k for k, details in states if k == "terminated" or details.get("reason") not in (None, "ContainerCreating")]
        return over if len(over) == n else None
    try:
        kinds = eventually(settled, 60, f"{n} containers have a verdict", interval=0.1)
        return [(kind, node.cli("logs", f"{name}-{node.name}", f"c{i}", check=False).stdout) for i, kind in enumerate(kinds)]
    finally:
        node.remove_manifest(name)


def test_sub_path_that_turns_into_a_link_to_the_host(node):
    """CVE-2021-25741: what is mounted is what was looked at, or nothing. The same against the function that looks:
    tests/unit/base/test-path.c, thousands of times."""
    directory = node.dir / "raced"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "inside").touch()
    (directory / "link").symlink_to("/")
    volumes = [{"name": "v", "hostPath": {"path": str(directory)}}]
    mounts = [{"name": "v", "mountPath": "/v", "subPath": "sub"}]
    seen = set()
    with exchanging(directory / "sub", directory / "link") as turns:
        for i in range(2):
            for kind, out in many(node, f"race{i}", 16, "ls -a /v", mounts, volumes):
                seen.add(kind)
                assert not {"etc", "proc", "root", "usr"} & set(out.split()), out
    assert turns[0] > 1000 and "terminated" in seen


def test_mount_target_in_a_volume_that_turns_into_a_link(node):
    """CVE-2021-30465: a mount inside a volume never lands where a link in that volume leads to."""
    directory, canary = node.dir / "target", node.dir / "canary"
    canary.mkdir()
    (directory / "sub").mkdir(parents=True)
    (directory / "link").symlink_to(f"../../../../../../../..{canary}")
    volumes = [{"name": "v", "hostPath": {"path": str(directory)}}, {"name": "w", "emptyDir": {}}]
    mounts = [{"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/v/sub"}]
    with exchanging(directory / "sub", directory / "link") as turns:
        for i in range(2):
            many(node, f"target{i}", 16, "touch /v/sub/made; sleep 0.2", mounts, volumes)
            assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(canary) in line]
    assert turns[0] > 1000 and os.listdir(canary) == []


def pod_directory(node):
    found = list((node.dir / "root" / "pods").iterdir())
    assert len(found) == 1
    return found[0]


def test_links_and_mounts_in_volumes_are_not_followed_at_the_removal(node):
    """CVE-2017-1002102: what a container planted in its volumes removes nothing of the host's."""
    eventually(lambda: not node.pods() and not list((node.dir / "root" / "pods").iterdir()), 30, "no other pods")
    canary = node.dir / "precious"
    (canary / "deep").mkdir(parents=True)
    (canary / "deep" / "file").write_text("keep")
    volumes = [{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}},
               {"name": "info", "downwardAPI": {"items": [{"path": "a/name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
    name = start(node, f"ln -s {canary} /disk/link; ln -s {canary} /memory/link; mkdir /disk/dir; echo up; exec sleep 1000",
                 container={"volumeMounts": mounts}, volumes=volumes)
    eventually(lambda: node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout == "up\n", 30, "its links")
    directory = pod_directory(node) / "volumes"
    info = next(directory.glob("*downward-api/info"))
    (info / "..data").unlink()
    (info / "..data").symlink_to(canary)
    (info / "..2020_01_01").symlink_to(canary)
    disk = next(directory.glob("*empty-dir/disk"))
    subprocess.run(["mount", "--bind", canary, disk / "dir"], check=True)
    (disk / "dir" / "through").touch()
    node.remove_manifest(name)
    eventually(lambda: not node.pods() and not list((node.dir / "root" / "pods").iterdir()), 30, "the pod's directory is gone")
    assert (canary / "deep" / "file").read_text() == "keep" and (canary / "through").exists()


def test_links_in_an_atomically_written_volume_are_not_followed_by_updates(fake_api, make_node):
    """A new version of a config map is written beside the old one, whatever `..data` has become."""
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns)
    node.import_image(images.busybox(), IMAGE)
    canary = node.dir / "elsewhere"
    canary.mkdir()
    (canary / "a").write_text("mine")
    path = "/api/v1/namespaces/default/configmaps"
    fake_api.create(path, {"kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": "1"}})
    p = pods.pod("p", pods.container("c", IMAGE, "while :; do cat /cm/a; echo; sleep 0.1; done", imagePullPolicy="Never",
                                     volumeMounts=[{"name": "cm", "mountPath": "/cm"}]), node="n1",
                 volumes=[{"name": "cm", "configMap": {"name": "cm"}}])
    pods.run(fake_api.admin, p)
    volume = next((pod_directory(node) / "volumes").glob("*configmap/cm"))
    (volume / "..data").unlink()
    (volume / "..data").symlink_to(canary)
    found = fake_api.admin.get(f"{path}/cm")
    found["data"] = {"a": "2", "b": "new"}
    fake_api.admin.put(f"{path}/cm", found)
    eventually(lambda: "2\n" in node.cli("logs", "p", "c").stdout, 30, "the update")
    assert sorted(os.listdir(canary)) == ["a"] and (canary / "a").read_text() == "mine"


def test_nothing_of_annotations_labels_and_image_labels_reaches_a_container(node):
    """CVE-2022-0811, CVE-2024-3154, CVE-2026-53488: no runtime of ours has hooks, and none is told of these."""
    mark = "kubelite-mark-$(touch${IFS}/x)"
    node.import_image(images.busybox().with_(labels={"io.podman.annotations.x": mark}), "docker.io/library/labelled:1")
    keys = ["io.kubernetes.cri-o.ociRuntimeHooks", "org.systemd.property.ExecStop", "run.oci.hooks.stdout", "io.kubernetes.cri.x",
            "io.kubelite.seccomp", "container.seccomp.security.alpha.kubernetes.io/c"]
    p = pods.pod("marked", pods.container("c", "docker.io/library/labelled:1", "env; cat /proc/1/cgroup; grep Seccomp: /proc/self/status;"
                                          "echo up; sleep 1000", imagePullPolicy="Never"),
                 annotations=dict.fromkeys(keys, mark), labels={"a": "kubelite-mark"})
    node.add_manifest("marked", p)
    log = lambda: node.cli("logs", f"marked-{node.name}", "c", check=False).stdout  # noqa: E731
    eventually(lambda: "up\n" in log(), 30, "its log")
    assert "kubelite-mark" not in log() and "Seccomp:\t0" in log()
    documents = list((node.dir / "state" / "pods").rglob("*.json"))
    assert documents
    for document in documents:
        assert "kubelite-mark" not in document.read_text(), document
    config = next(d for d in documents if d.name == "config.json")
    assert all(k.startswith(("io.kubernetes.cri.", "io.kubelite.")) for k in json.loads(config.read_text())["annotations"])
    node.remove_manifest("marked")


def test_values_of_sysctls_are_values(node):
    """Whatever stands in one goes into one file, or is refused by the kernel."""
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    for value in ("1\nkernel.core_pattern=|/x", "1+kernel.core_pattern=x", "=1", "1 \n", "../../x"):
        name = start(node, "cat /proc/sys/net/ipv4/tcp_syncookies", securityContext={
            "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": value}]})
        eventually(lambda: phase(node, name) in ("Failed", "Succeeded") or f"{name}-{node.name}: Event Warning FailedCreatePodSandBox"
                   in node.log(), 20, "the verdict")
        assert node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout in ("", "1\n")
        node.remove_manifest(name)
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_other_users_of_the_machine_see_nothing(node):
    """Directories that only root may enter, and no socket whose name anybody may use."""
    name = start(node, "cp /bin/busybox /v/su && chmod 4755 /v/su && stat -c %a /v/su; exec sleep 1000",
                 container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[{"name": "v", "emptyDir": {}}])
    eventually(lambda: node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout == "4755\n", 30, "its program")
    program = next((node.dir / "root" / "pods").rglob("su"))
    assert (node.dir / "state" / "kubelite.sock").stat().st_mode & 0o777 == 0o600
    node.dir.chmod(0o755)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    try:
        layer = next((node.dir / "images" / "layers").iterdir())
        writable = next((node.dir / "containers").iterdir())
        for path in (layer, writable, node.dir / "state" / "pods", program.parent):
            listed = subprocess.run([*nobody, "ls", path], check=False, capture_output=True)
            assert listed.returncode != 0, path
        assert subprocess.run([*nobody, program, "true"], check=False, capture_output=True).returncode != 0
    finally:
        node.dir.chmod(0o700)
        node.remove_manifest(name)
    assert not [line for line in Path("/proc/net/unix").read_text().splitlines() if "@" in line and "kubelite" in line]
