# SPDX-License-Identifier: Apache-2.0
"""Pods with hostUsers: false: ids of their own, and everything around a container as its root expects it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from support import build, images, pods
from support.inside import IMAGE, imported, inside, phase, start
from support.netns import NetNs
from support.node import Node
from support.wait import eventually
from support.websocket import Channels

UNIT = 65536


def _kernel():
    return tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups()))


@pytest.fixture(scope="module")
def node():
    if _kernel() < (6, 3):
        build.skip_for_kernel("hostUsers: false needs Linux 6.3")
    with NetNs() as netns, Node("uns", netns=netns) as n:
        n.import_image(images.busybox(), IMAGE)
        yield n


def apart(node, script, **more):
    return inside(node, script, hostUsers=False, **more)


def mounts(**paths):
    return {"volumeMounts": [{"name": name, "mountPath": path} for name, path in paths.items()]}


def test_ids_are_the_pods_own(node):
    """No two pods share a range, a new daemon knows those that are taken, and the host sees no process of its own users."""
    script = "sed 's/ \\+/ /g' /proc/self/uid_map /proc/self/gid_map; echo up; exec sleep 1000"
    names = [start(node, script, hostUsers=False, restartPolicy="Always") for _ in range(2)]
    first = {name: _range(node, name) for name in names}
    node.kill9()
    node.start()
    names.append(start(node, script, hostUsers=False, restartPolicy="Always"))
    ranges = {name: _range(node, name) for name in names}
    assert {name: ranges[name] for name in first} == first
    assert len(set(ranges.values())) == 3 and all(r >= UNIT and r % UNIT == 0 for r in ranges.values())
    for name, begin in ranges.items():
        pid = next(c["pid"] for c in node.ps() if c["pod"] == f"{name}-{node.name}")
        uids = re.search(r"Uid:\s(.*)", Path(f"/proc/{pid}/status").read_text())[1].split()
        assert set(uids) == {str(begin)}
    for name in names:
        node.remove_manifest(name)
    eventually(lambda: not node.pods(), 30, "their end")


def _range(node, name):
    log = lambda: node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout  # noqa: E731
    eventually(lambda: "up\n" in log(), 30, f"{name} runs", interval=0.05)
    lines = log().splitlines()
    assert lines[0] == lines[1] and lines[0].split()[0::2] == ["0", str(UNIT)], lines
    return int(lines[0].split()[1])


def test_files_belong_to_whom_the_image_says(node):
    layer = images.Layer().file("mine", "x", uid=1000, gid=2000).file("roots", "x", mode=0o600)
    image = imported(node, images.busybox().with_(layers=[layer]), "owners")
    found = apart(node, "stat -c '%n %u %g' / /bin/busybox /mine /roots /etc/hosts /etc/resolv.conf /dev /dev/null /dev/stdout "
                        "/dev/shm /proc/1; cat /roots; echo y > /new; stat -c %u /new; chown 1000 /new && stat -c %u /new",
                  image=image)
    owners = {line.split()[0]: line.split()[1:] for line in found.lines if line.startswith("/")}
    assert owners.pop("/mine") == ["1000", "2000"]
    assert set(map(tuple, owners.values())) == {("0", "0")}, owners
    assert found.out.endswith("x0\n1000\n")


def test_a_user_of_the_pod(node):
    """Streams that may be opened again, the pod's files, a termination message, groups; ids as inside in the status."""
    context = {"securityContext": {"runAsUser": 1001, "runAsGroup": 3000}}
    found = apart(node, "id; echo again > /dev/stdout; echo error > /dev/stderr; cat /etc/hosts | wc -l; touch /tmp/x /dev/shm/x;"
                        "echo bye > /dev/termination-log; cat /proc/1/environ | wc -c; exit 3",
                  container=context, securityContext={"supplementalGroups": [4000], "fsGroup": 5000})
    assert found.lines[0] == "uid=1001 gid=3000 groups=3000,4000,5000"
    assert "again" in found.lines and "error" in found.err and "denied" not in found.err
    assert (found.code, found.message) == (3, "bye\n")
    assert found.shown["status"]["containerStatuses"][0]["user"]["linux"] == {
        "uid": 1001, "gid": 3000, "supplementalGroups": [3000, 4000, 5000]}


def test_volumes_hold_unmapped_ids(node):
    """What is written as 1000 inside is 1000 on disk, so that the next pod, with other ids, reads it again."""
    directory = node.dir / "shared"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    (directory / "theirs").write_text("hello\n")
    os.chown(directory / "theirs", 1234, 1234)
    volumes = [{"name": "host", "hostPath": {"path": str(directory)}}, {"name": "disk", "emptyDir": {}},
               {"name": "memory", "emptyDir": {"medium": "Memory"}},
               {"name": "info", "projected": {"sources": [{"downwardAPI": {"items": [
                   {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}}]
    where = mounts(host="/host", disk="/disk", memory="/memory", info="/info")
    found = apart(node, "stat -c %u /host/theirs; touch /host/mine /disk/x /memory/x; chown 77 /host/mine;"
                        "stat -c %u /disk/x /memory/x; cat /info/name", container=where, volumes=volumes)
    assert found.lines[:3] == ["1234", "0", "0"] and found.lines[3].startswith("p")
    assert (directory / "mine").stat().st_uid == 77
    where["securityContext"] = {"runAsUser": 77}
    found = apart(node, "echo more > /host/mine && cat /host/mine; touch /disk/y /memory/y && echo written",
                  container=where, volumes=volumes)
    assert found.lines == ["more", "written"]


def test_a_volume_that_cannot_be_mapped_is_refused(node):
    found = apart(node, "echo ran", container=mounts(v="/v"), volumes=[{"name": "v", "hostPath": {"path": "/sys/kernel"}}])
    assert found.reason == "StartError" and "MOUNT_ATTR_IDMAP" in found.message and "'/v'" in found.message
    assert found.out == ""


def test_mounts_beneath_a_volume_that_cannot_be_mapped_are_nobodys(node):
    directory = node.dir / "nested"
    (directory / "proc").mkdir(parents=True)
    subprocess.run(["mount", "--bind", "/proc/sys", directory / "proc"], check=True)
    try:
        found = apart(node, "stat -c %u /v /v/proc", container=mounts(v="/v"),
                      volumes=[{"name": "v", "hostPath": {"path": str(directory)}}])
        assert found.lines == ["0", "65534"]
    finally:
        subprocess.run(["umount", directory / "proc"], check=True)


def test_privileged_is_privileged_inside_only(node):
    """All capabilities, none of which reach the host: its disks, its kernel's settings, its root."""
    script = ("grep CapEff /proc/self/status; mount -t tmpfs none /mnt 2>/dev/null || { mkdir -p /mnt; mount -t tmpfs none /mnt; } &&"
              "echo mounted; mknod /tmp/mem c 1 1 2>&1; stat -c %u /dev/mem; (: < /dev/mem) 2>&1; echo 1 > /proc/sys/kernel/panic;"
              "echo x > /sys/kernel/uevent_helper; ls /proc/1/root/bin | head -1; hostname changed && hostname")
    before = Path("/proc/sys/kernel/panic").read_text()
    found = apart(node, script, container={"securityContext": {"privileged": True}})
    assert int(found.lines[0].split()[1], 16) & (1 << 21) and "mounted" in found.out and found.lines[-1] == "changed"
    assert "mknod: /tmp/mem: Operation not permitted" in found.out
    if os.path.exists("/dev/mem"):
        assert "65534" in found.lines and "Permission denied" in found.out or "not permitted" in found.out
    assert found.err.count("ermission denied") + found.err.count("Read-only") >= 2
    assert Path("/proc/sys/kernel/panic").read_text() == before and os.uname().nodename != "changed"


def test_mounts_do_not_come_out(node):
    """Bidirectional follows the host and goes no further than the pod."""
    directory = node.dir / "both"
    for name in ("in", "out"):
        (directory / name).mkdir(parents=True)
    volumes = [{"name": "v", "hostPath": {"path": str(directory)}}]
    name = start(node, "mount -t tmpfs none /v/out && touch /v/out/x && echo up; while ! [ -e /v/in/y ]; do sleep 0.1; done; echo seen",
                 hostUsers=False, volumes=volumes,
                 container={"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}],
                            "securityContext": {"privileged": True}})
    log = lambda: node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout  # noqa: E731
    eventually(lambda: log() == "up\n", 30, "its mount")
    assert not os.path.ismount(directory / "out")
    subprocess.run(["mount", "-t", "tmpfs", "none", directory / "in"], check=True)
    try:
        (directory / "in" / "y").touch()
        eventually(lambda: phase(node, name) == "Succeeded", 30, "it sees the host's")
        assert log() == "up\nseen\n"
    finally:
        subprocess.run(["umount", directory / "in"], check=True)
        node.remove_manifest(name)


def test_the_pods_first_process(node):
    """shareProcessNamespace: the init is nobody inside, too."""
    found = apart(node, "grep ^Uid /proc/1/status; ls /proc/1/root/ 2>&1 | grep -c etc; (sleep 0.1 &); kill -9 1; echo alive",
                  shareProcessNamespace=True)
    assert found.lines[0] == "Uid:\t65535\t65535\t65535\t65535" and "alive" in found.lines and "0" in found.lines


def test_unmasked_proc(node):
    context = {"securityContext": {"procMount": "Unmasked", "capabilities": {"add": ["SYS_ADMIN"]}}}
    found = apart(node, "grep -c ' /proc/' /proc/self/mountinfo; unshare -r true 2>&1; mkdir /p; mount -t proc none /p && echo proc",
                  container={**context, "securityContext": {**context["securityContext"], "seccompProfile": {"type": "Unconfined"}}})
    assert found.lines[0] == "0" and "proc" in found.lines
    masked = apart(node, "grep -c ' /proc/' /proc/self/mountinfo")
    assert int(masked.out) > 3


def test_image_volumes_with_a_read_only_root(node):
    layer = images.Layer().dir("data", uid=1000, gid=1000, mode=0o750)
    image = imported(node, images.busybox().with_(layers=[layer], volumes=["/data"]), "volumes-ro")
    found = apart(node, "touch /data/x && stat -c %u /data /data/x; touch /x", image=image,
                  container={"securityContext": {"readOnlyRootFilesystem": True}})
    assert found.lines == ["1000", "0"] and "Read-only file system" in found.err


def test_commands_in_it(api_node, admin):
    """By the kubelet's API: as the container's user, with its ids, also with a terminal; nothing inheritable."""
    if _kernel() < (6, 3):
        build.skip_for_kernel("hostUsers: false needs Linux 6.3")
    script = ("echo 'id -u; cat /proc/self/uid_map; grep CapInh /proc/self/status; readlink /proc/self/ns/user; echo again > /dev/stdout'"
              "> /tmp/look; readlink /proc/self/ns/user; trap 'exit 0' TERM; while :; do sleep 0.1; done")
    api_node.add_manifest("p", pods.pod("p", pods.container("c", IMAGE, script, imagePullPolicy="Never", securityContext={
        "runAsUser": 1000}), hostUsers=False))
    log = lambda: api_node.cli("logs", f"p-{api_node.name}", "c", check=False).stdout  # noqa: E731
    eventually(lambda: log().startswith("user:"), 30, "it runs")
    wanted = ["1000", f"0 {UNIT} {UNIT}", "CapInh: 0000000000000000", log().strip(), "again"]
    status, out = admin.get(f"/run/default/p-{api_node.name}/c?cmd=sh+/tmp/look", "POST")
    assert status == 200 and [" ".join(line.split()) for line in out.splitlines()] == wanted
    path = f"/exec/default/p-{api_node.name}/c?command=sh&command=/tmp/look&output=1&tty=1"
    got = Channels(admin.websocket(path, ["v4.channel.k8s.io"])).collect()
    assert [" ".join(line.split()) for line in got[1].decode().splitlines()] == wanted


def test_restarts_keep_who_runs(node):
    """The second run's writable layer is new, and as writable."""
    name = start(node, "id -u; echo x >> /tmp/count; [ $(cat /tmp/count | wc -l) = 1 ] && echo fresh; exit 1", hostUsers=False,
                 restartPolicy="Always", container={"securityContext": {"runAsUser": 1000}})
    shown = lambda: node.cli_json("inspect", f"{name}-{node.name}")  # noqa: E731
    eventually(lambda: pods.status_of(shown()).get("restartCount", 0) >= 1
               and node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout == "1000\nfresh\n", 30, "a second run")
    node.remove_manifest(name)


def test_objects_and_the_nodes_word(fake_api, make_node):
    """Volumes from the API on tmpfs; the handler's features say that it works."""
    if _kernel() < (6, 3):
        build.skip_for_kernel("hostUsers: false needs Linux 6.3")
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns)
    node.import_image(images.busybox(), IMAGE)
    features = fake_api.admin.get("/api/v1/nodes/n1")["status"]["runtimeHandlers"][0]["features"]
    assert features["userNamespaces"] is True
    base = "/api/v1/namespaces/default"
    fake_api.create(f"{base}/configmaps", {"kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": "1"}})
    fake_api.create(f"{base}/secrets", {"kind": "Secret", "metadata": {"name": "s"}, "data": {"b": "Mg=="}})
    p = pods.pod("p", pods.container("c", IMAGE, "cat /cm/a /s/b; stat -Lc '%u %a' /s/b; exit 5", imagePullPolicy="Never",
                                     **mounts(cm="/cm", s="/s")), node="n1", hostUsers=False, restartPolicy="Never",
                 volumes=[{"name": "cm", "configMap": {"name": "cm"}}, {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}}])
    ended = pods.run(fake_api.admin, p, lambda found: pods.phase(found) == "Failed")
    assert pods.state_of(ended)[1]["exitCode"] == 5
    assert node.cli("logs", "p", "c").stdout == "120 400\n"


@pytest.mark.parametrize("field", ["hostNetwork", "hostPID", "hostIPC"])
def test_the_hosts_namespaces_do_not_go_with_it(node, field):
    name = start(node, "echo ran", hostUsers=False, **{field: True})
    eventually(lambda: f"spec.{field}: Forbidden: when `hostUsers` is false" in node.log(), 20, "the refusal")
    assert phase(node, name) is None
    node.remove_manifest(name)
