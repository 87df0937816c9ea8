# SPDX-License-Identifier: Apache-2.0
"""The real daemon in a network namespace, with directories and a cgroup subtree of its own.

    with Node("n1", cluster=cluster) as node:          # joined; without cluster but with netns: standalone
        node.add_manifest("web", pod(...))
        node.kill9(); node.start()

Leaving the block deletes the node's pods and fails when anything of them is left.
"""

import json
import os
import signal
import ssl
import subprocess
from pathlib import Path

import yaml

from support import build, cgroups, leak, scratch
from support.api import Api, ApiError
from support.process import Process
from support.wait import eventually

HEALTHZ_PORT = 10248
PORT = 10250
SANITIZER_MARKS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "AddressSanitizer:DEADLYSIGNAL")


class Node:
    """One daemon. Arguments: `config` is merged into the KubeletConfiguration, `flags` come last on the command line.

    `plugins` is "ours", "debian", a directory, or None (no CNI configuration at all); `index` keeps several nodes in one
    namespace apart (address, ports, bridge, pod subnet).
    """

    def __init__(self, name, *, cluster=None, netns=None, kubeconfig=None, config=None, flags=(), plugins="ours",
                 registries=None, index=0, env=None, start=True, expect_leaks=False):
        self.name, self.cluster, self.index = name, cluster, index
        self.netns = netns or cluster.netns
        self.binary = build.kubelite()
        self.kubeconfig = kubeconfig
        self.extra_config, self.flags, self.env = config or {}, list(flags), env or {}
        self.plugins, self.registries = plugins, registries
        self.start_at_once, self.expect_leaks = start, expect_leaks
        self.process = None

    # -- set-up ---------------------------------------------------------------------------------------------------------

    def __enter__(self):
        self.dir = scratch.make(self.name)
        self.cgroup = self.dir.name
        self.scope = leak.Scope(self.netns, self.dir, self.cgroup)
        try:
            self._prepare()
            if self.start_at_once:
                self.start()
        except BaseException:
            self._abandon()
            raise
        return self

    def _prepare(self):
        for name in ("root", "state", "images", "manifests", "net.d", "cni-data", "logs"):
            (self.dir / name).mkdir()
        cgroups.make(self.cgroup)
        if self.index:
            self.netns.add_address(f"{self.address}/24")
        if self.cluster and not self.kubeconfig:
            self.kubeconfig = self.cluster.node_kubeconfig(self.name)
        if self.plugins:
            self.write_cni_config()
        if self.registries is not None:
            (self.dir / "registries.yaml").write_text(yaml.safe_dump(self.registries))
        self.before = leak.take(self.scope)

    @property
    def address(self):
        return f"172.30.{self.netns.subnet}.{1 + self.index}"

    @property
    def manifests(self):
        return self.dir / "manifests"

    @property
    def subnet(self):
        return f"10.88.{self.index}.0/24"

    @property
    def bridge(self):
        return f"cni{self.index}"

    def plugin_directory(self):
        named = {"ours": build.plugins, "debian": lambda: Path("/usr/lib/cni")}
        return named[self.plugins]() if self.plugins in named else Path(self.plugins or "/nonexistent")

    def write_cni_config(self, config=None, file="10-test.conflist"):
        """Writes (by rename) a CNI configuration list: bridge, host-local and portmap unless given."""
        config = config or {
            "cniVersion": "1.0.0", "name": f"klt{self.index}",
            "plugins": [
                {"type": "bridge", "bridge": self.bridge, "isGateway": True, "ipMasq": True, "hairpinMode": True,
                 "ipam": {"type": "host-local", "dataDir": str(self.dir / "cni-data"),
                          "ranges": [[{"subnet": self.subnet}]], "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
        _replace(self.dir / "net.d" / file, json.dumps(config, indent=1))

    def configuration(self):
        """The KubeletConfiguration of the next start()."""
        document = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cgroupDriver": "cgroupfs",
            "cgroupRoot": "/" + self.cgroup, "healthzPort": HEALTHZ_PORT + self.index, "port": PORT + self.index,
            "podLogsDir": str(self.dir / "logs"), "failSwapOn": False,
            # A machine whose disk is nearly full is good enough for tests.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%",
                             "imagefs.available": "1%", "imagefs.inodesFree": "1%"},
        }
        if self.cluster:
            document["authentication"] = {"x509": {"clientCAFile": str(self.cluster.ca.cert_path)}}
        document.update(self.extra_config)
        return document

    def argv(self):
        d = self.dir
        argv = [self.binary, "--root-dir", d / "root", "--state-dir", d / "state", "--image-dir", d / "images",
                "--cni-conf-dir", d / "net.d", "--cni-bin-dir", self.plugin_directory(), "--config", d / "config.yaml",
                "--cert-dir", d / "root" / "pki", "--hostname-override", self.name, "--node-ip", self.address,
                "--pod-manifest-path", self.manifests]
        if self.registries is not None:
            argv += ["--registries", d / "registries.yaml"]
        if self.kubeconfig:
            argv += ["--kubeconfig", self.kubeconfig]
        return [str(a) for a in argv + self.flags]

    # -- the daemon's life ----------------------------------------------------------------------------------------------

    def spawn(self):
        """Starts the daemon and does not wait for it."""
        (self.dir / "config.yaml").write_text(yaml.safe_dump(self.configuration()))
        env = {**build.sanitizer_environment(self.dir), **self.env}
        self.process = Process(self.argv(), self.dir / "kubelite.log", netns=self.netns, env=env, append=True)
        return self.process

    def start(self, timeout=20, ready=True):
        """Starts the daemon and waits until it is healthy, and (joined, `ready`) its Node Ready in the API."""
        self.spawn()
        eventually(lambda: self.process.assert_alive() and self.healthy(), timeout, f"node {self.name} healthy")
        self.descriptors = leak.descriptors(self.process.pid)
        if self.cluster and ready:
            self.cluster.admin.wait_for(f"/api/v1/nodes/{self.name}", _node_ready, timeout, f"node {self.name} Ready")

    def healthy(self):
        api = Api("127.0.0.1", HEALTHZ_PORT + self.index, self.netns.connect, tls=False)
        try:
            return api.get("/healthz", timeout=2.0) == "ok"
        except (OSError, ApiError):
            return False

    def stop(self):
        """SIGTERM; fails unless the daemon ends with status 0. Pods go on."""
        status = self.process.stop(15)
        self.check_log()
        assert status == 0, f"daemon ended with {status}:\n{self.process.tail()}"

    def restart(self):
        self.stop()
        self.start()

    def kill9(self):
        """The daemon alone; start() afterwards is up to the test."""
        self.process.kill()

    def log(self):
        path = self.dir / "kubelite.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def check_log(self):
        """Fails when a sanitizer has said something."""
        text = self.log() + "".join(p.read_text(errors="replace") for p in self.dir.glob("sanitizer.*"))
        for mark in SANITIZER_MARKS:
            at = text.find(mark)
            assert at < 0, f"sanitizer report:\n{text[max(0, at - 200):at + 6000]}"

    # -- looking at it --------------------------------------------------------------------------------------------------

    def cli(self, *args, check=True, timeout=60, **kwargs):
        """Runs a subcommand against this daemon; a CompletedProcess with text output."""
        argv = [self.binary, args[0], "--state-dir", self.dir / "state", *args[1:]]
        done = self.netns.run(argv, check=False, timeout=timeout, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, **kwargs)
        if check and done.returncode != 0:
            raise AssertionError(f"kubelite {' '.join(map(str, args))}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def cli_json(self, *args, **kwargs):
        return json.loads(self.cli(*args, "-o", "json", **kwargs).stdout)

    def _list(self, verb):
        answer = self.cli_json(verb)
        return answer if isinstance(answer, list) else answer.get("items") or []

    def pods(self):
        return self._list("pods")

    def ps(self):
        return self._list("ps")

    def images(self):
        return self._list("images")

    def wait_pods(self, predicate, timeout=30, what="pods"):
        """Waits until predicate(list of pods as the command line shows them) is true; returns the list."""
        def check():
            found = self.pods()
            return (found,) if predicate(found) else None
        return eventually(check, timeout, f"{self.name}: {what}", interval=0.05)[0]

    def kubelet(self, pair=None, token=None):
        """A client of the HTTPS port, by default with the API server's identity; it does not check the certificate."""
        api = Api(self.address, PORT + self.index, self.netns.connect, ca=self.cluster.ca.cert_path if self.cluster else None,
                  pair=pair or (self.cluster.kubelet_client_pair if self.cluster else None), token=token)
        api.context.check_hostname = False
        api.context.verify_mode = ssl.CERT_NONE
        return api

    # -- pods -----------------------------------------------------------------------------------------------------------

    def add_manifest(self, name, *objects, text=None):
        """Writes (by rename) a file into the manifest directory."""
        content = text if text is not None else yaml.safe_dump_all(objects, sort_keys=False)
        _replace(self.manifests / f"{name}.yaml", content)

    def remove_manifest(self, name):
        (self.manifests / f"{name}.yaml").unlink()

    def import_image(self, image, name):
        """Puts an Image of support.images into the node's store by `kubelite import`."""
        archive = self.dir / "import.tar"
        image.write_oci_archive(archive, [name])
        self.cli("import", archive)
        archive.unlink()

    def _api_pods(self):
        return self.cluster.admin.get("/api/v1/pods", {"fieldSelector": f"spec.nodeName={self.name}"})["items"]

    def delete_pods(self):
        """Takes every pod away, static ones by their files, others by the API with their own grace period."""
        for path in self.manifests.iterdir():
            path.unlink()
        for pod in self._api_pods() if self.cluster else ():
            if "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {}):
                continue
            self._delete_quietly(pod)
        self.wait_pods(lambda found: not found, 60, "no pods left")
        if self.cluster:
            self.cluster.admin.wait_for("/api/v1/pods", self._none_here, 30, "no pods left in the API")

    def _delete_quietly(self, pod):
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        try:
            self.cluster.admin.delete(path)
        except ApiError as e:
            if e.status != 404:
                raise

    def _none_here(self, pods):
        return not [p for p in pods if p["spec"].get("nodeName") == self.name]

    # -- the end --------------------------------------------------------------------------------------------------------

    def __exit__(self, kind, *exc):
        if kind is not None:
            self._abandon(show=True)
            return
        try:
            self._end()
        finally:
            self._abandon()

    def _end(self):
        """An orderly end: pods deleted, nothing of them left, daemon stopped."""
        if self.process and not self.process.alive():
            # Stopped or killed by its test; anything else is the daemon's own fault.
            status = self.process.popen.returncode
            self.check_log()
            assert status in (0, -signal.SIGKILL) or not self.start_at_once, f"daemon ended with {status}"
        if not self.process or not self.process.alive():
            if self.start_at_once:
                self.start()
            else:
                self.check_log()
                return
        self.delete_pods()
        if not self.expect_leaks:
            self.assert_nothing_left()
        self.stop()

    def assert_nothing_left(self, timeout=10):
        """For a running node without pods: fails with a list of what its pods left on the machine."""
        known = {"process": f"{self.process.pid} ", "link": self.bridge, "address": f"{self.bridge} "}

        def left():
            new = leak.take(self.scope).minus(self.before)
            for kind, mine in known.items():
                new[kind] = [x for x in new.get(kind, ()) if not x.startswith(mine)]
            more = leak.more_descriptors(self.descriptors, leak.descriptors(self.process.pid))
            new["descriptor"] = [more] if more else []
            return {k: v for k, v in new.items() if v}

        def none_left():
            found = left()
            assert not found, f"left on the machine: {json.dumps(found, indent=1)}"
            return True

        eventually(none_left, timeout, f"nothing of {self.name}'s pods left", interval=0.1)

    def _abandon(self, show=False):
        """Removes everything by force; never raises for what is already gone."""
        if show:
            print(f"--- log of {self.name} (last 100 lines)\n" + "\n".join(self.log().splitlines()[-100:]))
        if self.process:
            self.process.kill()
        for line in leak.take(self.scope).found["process"] - self.before_processes():
            _kill(int(line.split()[0]))
        cgroups.remove(self.cgroup)
        self._unpin_namespaces()
        scratch.unmount_below(self.dir)
        self.netns.run(["ip", "link", "del", self.bridge], check=False, stderr=subprocess.DEVNULL)
        if self.index:
            self.netns.run(["ip", "address", "del", f"{self.address}/24", "dev", "eth0"], check=False,
                           stderr=subprocess.DEVNULL)
        self._forget_node()
        scratch.remove(self.dir)

    def before_processes(self):
        before = getattr(self, "before", None)
        return before.found["process"] if before else set()

    def _unpin_namespaces(self):
        if not hasattr(self, "before"):
            return
        for name in leak.take(self.scope).minus(self.before).get("network namespace", ()):
            if (self.dir / "state").exists() and _mentions(self.dir / "state", name):
                subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)

    def _forget_node(self):
        """The Node object goes, so that a later test may use the name."""
        if self.cluster:
            try:
                self.cluster.admin.delete(f"/api/v1/nodes/{self.name}", timeout=5.0)
            except (OSError, ApiError):
                pass


def _node_ready(node):
    conditions = ((node or {}).get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _mentions(directory, text):
    """True if a file or name below directory contains text."""
    for path in directory.rglob("*"):
        if text in path.name:
            return True
        try:
            if path.is_file() and text.encode() in path.read_bytes()[:65536]:
                return True
        except OSError:
            continue  # gone, or a namespace that is pinned there
    return False


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _replace(path, text):
    temporary = path.parent / f".{path.name}.new"
    temporary.write_text(text)
    temporary.rename(path)
