# SPDX-License-Identifier: Apache-2.0
"""File systems that stop answering: nothing of the daemon's loop waits for them."""

import os
import subprocess
import time

import pytest

from support import build, pods

IMAGE = "docker.io/library/busybox:1"
FROZEN_S = 12


def loop_device(file):
    done = subprocess.run(["losetup", "--find", "--show", file], check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    if done.returncode != 0:
        build.skip_for_kernel(f"no loop device: {done.stderr.strip()}")
    return done.stdout.strip()


class Disk:
    """An ext4 file system of its own that can be frozen: every write waits until it thaws."""

    def __init__(self, image, point):
        self.point, self.frozen = point, False
        with open(image, "wb") as f:
            f.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        self.device = loop_device(image)
        subprocess.run(["mount", self.device, point], check=True)

    def freeze(self):
        subprocess.run(["fsfreeze", "-f", self.point], check=True)
        self.frozen = True

    def thaw(self):
        if self.frozen:
            subprocess.run(["fsfreeze", "-u", self.point], check=True)
        self.frozen = False

    def end(self):
        self.thaw()
        subprocess.run(["umount", "-l", self.point], check=False)
        subprocess.run(["losetup", "-d", self.device], check=False)


@pytest.fixture
def disk(fake_api, make_node):
    """A joined node, not started, whose root and log directories are on a disk of their own."""
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns, start=False)
    point = node.dir / "disk"
    point.mkdir()
    disk = Disk(node.dir / "disk.img", point)
    try:
        for name in ("root", "logs"):
            (node.dir / name).rmdir()
            (point / name).mkdir()
            (node.dir / name).symlink_to(point / name)
        node.start()
        yield node, disk
        disk.thaw()
        node.delete_pods()
        node.stop()
    finally:
        disk.thaw()
        node.process.kill()
        disk.end()


def sleeper(node, name, script="while :; do echo x; sleep 0.2; done", **spec):
    return pods.pod(name, pods.container("c", IMAGE, script), node=node.name, **spec)


def test_frozen_root_and_log_directories_hold_up_nobody(disk, fake_api, busybox):
    """Running pods run on, the lease is renewed, events are handled; what needs the disk waits and then goes on."""
    node, disk = disk
    node.import_image(busybox, IMAGE)
    running = pods.run(fake_api.admin, sleeper(node, "running"))
    volume = {"volumes": [{"name": "c", "configMap": {"name": "c"}}, {"name": "e", "emptyDir": {}}]}
    fake_api.admin.post("/api/v1/namespaces/default/configmaps", {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": {"k": "v"}})
    reader = pods.run(fake_api.admin, sleeper(node, "reader", **volume))
    before = [pods.status_of(p)["containerID"] for p in (running, reader)]
    disk.freeze()
    try:
        end = time.monotonic() + FROZEN_S
        waiting = sleeper(node, "waiting", **volume)
        fake_api.admin.post(pods.collection(), waiting)
        # A crash makes the daemon write for the next run, and a changed object makes it write a volume.
        os.kill(next(c["pid"] for c in node.ps() if c["id"] == before[1].removeprefix("kubelite://")), 9)
        changed = fake_api.admin.get("/api/v1/namespaces/default/configmaps/c")
        changed["data"]["k"] = "w"
        fake_api.admin.put("/api/v1/namespaces/default/configmaps/c", changed)
        slowest = 0.0
        while time.monotonic() < end:
            begin = time.monotonic()
            assert node.healthy()
            slowest = max(slowest, time.monotonic() - begin)
            time.sleep(0.2)
        assert slowest < 5, f"the daemon was silent for {slowest:.1f} s"
        lease = fake_api.admin.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node.name}")
        assert lease["spec"]["renewTime"] > frozen_since(end)
        seen = fake_api.admin.get(pods.path(running))
        assert pods.ready(seen) and pods.status_of(seen)["containerID"] == before[0]
        assert not pods.ready(fake_api.admin.get(pods.path(waiting)))
    finally:
        disk.thaw()
    fake_api.admin.wait_for(pods.path(waiting), pods.ready, 60)
    again = fake_api.admin.wait_for(pods.path(reader), lambda p: pods.ready(p) and pods.status_of(p)["restartCount"] == 1, 60)
    assert pods.status_of(again)["containerID"] != before[1]


def frozen_since(end):
    """The moment of the freeze as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - (time.monotonic() - end + FROZEN_S)))
