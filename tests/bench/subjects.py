# SPDX-License-Identifier: Apache-2.0
"""The two nodes that can be measured: this project's, and a kubelet with containerd whose programs are given by path.

Both are used the same way: `name`, agents() (pids by role), pull(reference), remove_image(reference), disk_bytes().
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from support import cgroups, scratch
from support.node import Node
from support.process import Process
from support.wait import eventually

import procs

CNI_CONFIG = {
    "cniVersion": "0.4.0", "name": "peer",
    "plugins": [
        {"type": "bridge", "bridge": "cni9", "isGateway": True, "ipMasq": True, "hairpinMode": True,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.89.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


class Ours:
    """kubelite: the daemon, a shim and a log writer a pod."""

    label = "kubelite"

    def __init__(self, cluster, plugins, build, verbosity=None):
        flags = [f"--v={verbosity}"] if verbosity else []
        self.node = Node("bench-ours", cluster=cluster, plugins=plugins, flags=flags,
                         config={"registryPullQPS": 0, "containerLogMaxSize": "4Gi"}, start=False, expect_leaks=True)
        self.name, self.build = self.node.name, build
        self.netns, self.address, self.port = cluster.netns, self.node.address, 10250

    def __enter__(self):
        self.node.__enter__()
        try:
            _in_memory(self.node.dir / "state")
            self.node.start()
        except BaseException:
            self.node.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exc):
        self.node.__exit__(*exc)

    @property
    def log_dir(self):
        return self.node.dir / "logs"

    def agents(self):
        mine = set(cgroups.processes(self.node.cgroup))
        shims = [p for p in mine if procs.executable(p).endswith("kubelite-shim")]  # run from a sealed copy
        return {"daemon": [self.node.process.pid], "shims": shims}

    def pull(self, reference):
        started = time.monotonic()
        self.node.cli("pull", reference, timeout=300)
        return time.monotonic() - started

    def remove_image(self, reference):
        self.node.cli("rmi", reference, timeout=300)

    def installed(self):
        """{part: bytes} of a stripped installation into a temporary prefix."""
        target = scratch.make("install")
        try:
            subprocess.run(["meson", "install", "-C", self.build, "--no-rebuild", "--strip", "--destdir", str(target)],
                           check=True, stdout=subprocess.DEVNULL)
            files = [p for p in target.rglob("*") if p.is_file() and not p.is_symlink()]
            return {p.name: p.stat().st_size for p in files if os.access(p, os.X_OK)}
        finally:
            shutil.rmtree(target)


class Peer:
    """A kubelet and containerd; runc, ctr and the shim are looked for beside containerd, then in PATH."""

    label = "kubelet + containerd"

    def __init__(self, cluster, kubelet, containerd, pause_image):
        self.cluster, self.netns, self.name = cluster, cluster.netns, "bench-peer"
        self.address, self.port, self.log_dir = cluster.netns.address, 10260, Path("/var/log/pods")
        self.programs = {"kubelet": Path(kubelet).resolve(), "containerd": Path(containerd).resolve()}
        for name in ("containerd-shim-runc-v2", "runc", "ctr"):
            self.programs[name] = self._beside(name)
        self.pause_image = pause_image
        self.processes = {}

    def _beside(self, name):
        directory = self.programs["containerd"].parent
        for candidate in (directory / name, directory.parent / "sbin" / name, shutil.which(name)):
            if candidate and Path(candidate).exists():
                return Path(candidate).resolve()
        raise SystemExit(f"bench: no {name} beside {directory} nor in PATH")

    @property
    def socket(self):
        return self.dir / "containerd.sock"

    def __enter__(self):
        self.dir = scratch.make("peer")
        self.cgroup = self.dir.name
        try:
            self._prepare()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _prepare(self):
        for name in ("root", "state", "kubelet", "net.d", "bin", "cni-data"):
            (self.dir / name).mkdir()
        _in_memory(self.dir / "state")
        cgroups.make(self.cgroup)
        for name in ("containerd-shim-runc-v2", "runc"):
            (self.dir / "bin" / name).symlink_to(self.programs[name])
        (self.dir / "net.d" / "10-peer.conflist").write_text(json.dumps(CNI_CONFIG))
        (self.dir / "containerd.toml").write_text(self._containerd_config())
        (self.dir / "kubelet.yaml").write_text(yaml.safe_dump(self._kubelet_config()))

    def _containerd_config(self):
        d = self.dir
        return f"""version = 2
root = "{d}/root"
state = "{d}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{self.pause_image}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{d}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{self.programs['runc']}"
"""

    def _kubelet_config(self):
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cgroupDriver": "cgroupfs",
            "cgroupRoot": "/" + self.cgroup, "failSwapOn": False, "containerLogMaxSize": "4Gi", "healthzPort": 10258, "port": 10260,
            "volumePluginDir": str(self.dir / "kubelet" / "exec"), "maxPods": 110,
            "authentication": {"x509": {"clientCAFile": str(self.cluster.ca.cert_path)}},
        }

    def _start(self):
        env = {"PATH": f"{self.dir}/bin:{os.environ['PATH']}", "GOTRACEBACK": "all"}
        containerd = Process([self.programs["containerd"], "--config", self.dir / "containerd.toml"],
                             self.dir / "containerd.log", netns=self.netns, env=env)
        self.processes["containerd"] = containerd
        eventually(lambda: containerd.assert_alive() and self.socket.exists(), 30, "containerd's socket")
        kubelet = Process([self.programs["kubelet"], "--config", self.dir / "kubelet.yaml",
                           "--kubeconfig", self.cluster.node_kubeconfig(self.name), "--root-dir", self.dir / "kubelet",
                           "--cert-dir", self.dir / "kubelet" / "pki", "--hostname-override", self.name,
                           "--node-ip", self.netns.address, "--container-runtime=remote",
                           "--container-runtime-endpoint", f"unix://{self.socket}"],
                          self.dir / "kubelet.log", netns=self.netns, env=env)
        self.processes["kubelet"] = kubelet
        self.cluster.admin.wait_for(f"/api/v1/nodes/{self.name}", _ready, 90, "the peer's Node Ready")

    def __exit__(self, *exc):
        for name in ("kubelet", "containerd"):
            if name in self.processes:
                self.processes[name].stop(10)
        cgroups.remove(self.cgroup)
        for pid in self._shims():
            os.kill(pid, signal.SIGKILL)
        self.netns.run(["ip", "link", "del", "cni9"], check=False, stderr=subprocess.DEVNULL)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(f"{self.dir}/"):
                subprocess.run(["umount", "-l", line.split()[4]], check=False, stderr=subprocess.DEVNULL)
        scratch.remove(self.dir)

    def _shims(self):
        ours = str(self.dir)
        return [p for p in procs.pids() if Path(procs.executable(p)).name == "containerd-shim-runc-v2"
                and ours in procs.command_line(p)]

    def agents(self):
        return {"kubelet": [self.processes["kubelet"].pid], "containerd": [self.processes["containerd"].pid],
                "shims": self._shims()}

    def _ctr(self, *args):
        argv = [self.programs["ctr"], "-a", self.socket, "-n", "k8s.io", "images", *args]
        return self.netns.run(argv, stdout=subprocess.PIPE, text=True, timeout=300).stdout

    def pull(self, reference):
        self.kept = set(self._ctr("ls", "-q").split())
        started = time.monotonic()
        self._ctr("pull", "--plain-http", reference)
        return time.monotonic() - started

    def remove_image(self, reference):
        """Also the names which containerd's CRI plugin gave it meanwhile: each of them keeps the layers."""
        def gone():
            new = set(self._ctr("ls", "-q").split()) - self.kept
            for name in sorted(new):
                self._ctr("rm", "--sync", name)
            return not new
        time.sleep(1)
        eventually(gone, 30, f"{reference} removed", interval=1)

    def installed(self):
        return {n: p.stat().st_size for n, p in self.programs.items() if n != "ctr"}


def _in_memory(directory):
    """What is in /run where a node is installed is not on a disk here either."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "bench", directory], check=True)


def _ready(node):
    conditions = ((node or {}).get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
