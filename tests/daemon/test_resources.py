# SPDX-License-Identifier: Apache-2.0
"""Requests and limits as values of control groups: of containers, pods, their classes and all pods together."""

import os
from pathlib import Path

import pytest

from support import cgroups, pods
from support.wait import eventually

FILES = {  # version 1: controller and file; version 2: file
    "shares": (("cpu", "cpu.shares"), "cpu.weight"),
    "quota": (("cpu", "cpu.cfs_quota_us"), "cpu.max"),
    "period": (("cpu", "cpu.cfs_period_us"), "cpu.max"),
    "memory": (("memory", "memory.limit_in_bytes"), "memory.max"),
    "pids": (("pids", "pids.max"), "pids.max"),
}


class Group:
    """A group beneath a node's root; version 1 has a directory in each hierarchy."""

    def __init__(self, node, path):
        self.node, self.path = node, path

    def read(self, what):
        old, new = FILES[what]
        if cgroups.is_v2():
            return (cgroups.MOUNT / self.node.cgroup / self.path / new).read_text().strip()
        controller, file = old
        root = next(h for h in cgroups.hierarchies() if controller in h.name.split(","))
        return (root / self.node.cgroup / self.path / file).read_text().strip()

    def values(self, *names):
        return tuple(self.read(n) for n in names)


def group_of(pid, node, levels=0):
    """The Group of a process, or so many levels above."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    path = next(p for _, names, p in lines if (names == "") == cgroups.is_v2() and (cgroups.is_v2() or "memory" in names))
    path = os.path.relpath(path, "/" + node.cgroup)
    for _ in range(levels):
        path = os.path.dirname(path)
    return Group(node, path)


def weight(shares, linear):
    """As the group shows it."""
    if not cgroups.is_v2():
        return str(shares)
    return str(1 + (shares - 2) * 9999 // 262142) if linear else None


def run(node, name, requests=None, limits=None, wanted=1, **spec):
    """A static pod of one container that sleeps; its pid."""
    resources = {k: v for k, v in (("requests", requests), ("limits", limits)) if v}
    node.add_manifest(name, pods.pod(name, pods.container("c", "busybox:1", "sleep 100000", imagePullPolicy="Never",
                                                          resources=resources), **spec))
    node.wait_pods(lambda found: any(p["name"] == f"{name}-{node.name}" and p["ready"] for p in found), 30, name)
    return next(c["pid"] for c in node.ps() if c["pod"] == f"{name}-{node.name}")


def adj(pid):
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.mark.skipif(cgroups.is_v2(), reason="version 2: see vm/")
def test_values_of_groups(make_node, busybox):
    node = make_node("n1", config={"podPidsLimit": 123, "systemReserved": {"cpu": "100m", "memory": "64Mi", "pid": "500"},
                                   "kubeReserved": {"cpu": "100m"}})
    node.import_image(busybox, "docker.io/library/busybox:1")
    guaranteed = run(node, "guaranteed", limits={"cpu": "250m", "memory": "32Mi"})
    burstable = run(node, "burstable", requests={"cpu": "500m", "memory": "16Mi"}, limits={"memory": "64Mi"})
    effort = run(node, "effort")
    own = run(node, "own", requests={"cpu": "100m"}, resources={"requests": {"cpu": "400m"}, "limits": {"cpu": "1", "memory": "48Mi"}},
              overhead={"cpu": "100m", "memory": "16Mi"})

    all_values = ("shares", "quota", "period", "memory")
    unlimited = Group(node, "kubepods/besteffort").read("memory")
    assert group_of(guaranteed, node).values(*all_values) == ("256", "25000", "100000", str(32 << 20))
    pod = group_of(guaranteed, node, 1)
    assert os.path.dirname(pod.path) == "kubepods"
    assert pod.values(*all_values, "pids") == ("256", "25000", "100000", str(32 << 20), "123")
    assert group_of(burstable, node).values(*all_values) == ("512", "-1", "100000", str(64 << 20))
    assert group_of(burstable, node, 1).values(*all_values) == ("512", "-1", "100000", str(64 << 20))
    assert group_of(effort, node).values(*all_values) == ("2", "-1", "100000", unlimited)
    assert os.path.dirname(group_of(effort, node, 1).path) == "kubepods/besteffort"
    # The pod's own resources bind its group, and its container as far as that has none.
    assert group_of(own, node).values(*all_values) == ("102", "100000", "100000", str(48 << 20))
    assert group_of(own, node, 1).values(*all_values) == ("512", "110000", "100000", str(64 << 20))

    # 500m and 400m + 100m overhead; then without the latter.
    assert Group(node, "kubepods/besteffort").read("shares") == "2"
    eventually(lambda: Group(node, "kubepods/burstable").read("shares") == str(1000 * 1024 // 1000), 10, "shares")
    node.remove_manifest("own")
    eventually(lambda: Group(node, "kubepods/burstable").read("shares") == "512", 20, "shares without one pod")

    # All pods together: what is not reserved.
    total = int(next(l for l in Path("/proc/meminfo").read_text().splitlines() if l.startswith("MemTotal")).split()[1]) << 10
    kubepods = Group(node, "kubepods")
    eventually(lambda: int(kubepods.read("memory")) == (total - (64 << 20)) // 4096 * 4096, 10, "memory of all pods")
    assert kubepods.read("shares") == str((os.cpu_count() * 1000 - 200) * 1024 // 1000)
    most = min(int(Path(f"/proc/sys/kernel/{n}").read_text()) for n in ("pid_max", "threads-max"))
    assert kubepods.read("pids") == str(most - 500)

    if adj(os.getpid()) <= 0:
        assert (adj(guaranteed), adj(effort)) in ((-997, 1000), (adj(os.getpid()), 1000))
        assert adj(burstable) == min(999, 1000 - 1000 * (16 << 20) // total)


def test_reserved_groups(make_node, netns):
    """enforceNodeAllocatable for groups that are somebody else's; one that is not there is told."""
    group = f"klt-reserved-{os.getpid()}"
    cgroups.make(group)
    try:
        node = make_node("n1", config={
            "enforceNodeAllocatable": ["pods", "system-reserved", "kube-reserved"],
            "systemReservedCgroup": f"/{group}", "systemReserved": {"cpu": "500m", "memory": "64Mi", "pid": "321"},
            "kubeReservedCgroup": "/klt-there-is-none", "kubeReserved": {"cpu": "100m"}})
        reserved = Group(node, os.path.relpath(group, node.cgroup))
        eventually(lambda: reserved.read("pids") == "321", 10, "limits of the reserved group")
        assert reserved.read("memory") == str(64 << 20)
        assert reserved.read("shares") == ("20" if cgroups.is_v2() else "512")
        eventually(lambda: "kubeReservedCgroup: " in node.log(), 10, "warning")
    finally:
        cgroups.remove(group)
