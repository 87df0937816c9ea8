# SPDX-License-Identifier: Apache-2.0
"""exec, cp, attach, port-forward and logs by two kubectls through the real API server: 1.20 speaks SPDY, 1.32 WebSocket first."""

import contextlib
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

from support import pods
from support.kubelet import pod_netns

HERE = Path(__file__).resolve().parent
PACKAGES = {"1.20": ("bookworm", "kubernetes-client"), "1.32": ("trixie", "kubectl")}


class Kubectl:
    def __init__(self, version, cluster, namespace):
        directory = subprocess.run(["sh", HERE.parent / "support" / "fetch-package.sh", *PACKAGES[version]], check=True, text=True,
                                   stdout=subprocess.PIPE).stdout.strip()
        self.netns = cluster.netns
        self.argv = [f"{directory}/usr/bin/kubectl", f"--kubeconfig={cluster.admin_kubeconfig}", "-n", namespace]

    def __call__(self, *args, check=True, **kwargs):
        kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **kwargs}
        done = self.netns.run([*self.argv, *args], check=False, **kwargs)
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(map(str, args))}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *args, **kwargs):
        return subprocess.Popen([str(a) for a in [*self.netns.prefix(), *self.argv, *args]], **kwargs)


@pytest.fixture(params=PACKAGES)
def kubectl(request, cluster, namespace):
    return Kubectl(request.param, cluster, namespace)


@pytest.fixture
def pod(node, busybox, namespace):
    """Of a container that echoes its input lines, and of one that was not asked for."""
    node.import_image(busybox, "docker.io/library/busybox:1")
    image = "docker.io/library/busybox:1"
    script = "echo begin; while read x; do echo got $x; done; sleep 100000"
    pods.run(node.cluster.admin, pods.pod("p", pods.container("c", image, script, stdin=True), pods.container("d", image, "sleep 100000"),
                                          namespace=namespace, node=node.name))
    return "p"


def read_until(fd, text, timeout=20):
    got, end = b"", time.monotonic() + timeout
    while text not in got:
        assert select.select([fd], [], [], max(0, end - time.monotonic()))[0], f"no {text} in {got}"
        with contextlib.suppress(OSError):
            piece = os.read(fd, 4096)
            assert piece, f"no {text} in {got}"
            got += piece
    return got


def test_exec(kubectl, pod):
    done = kubectl("exec", pod, "-c", "d", "--", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert done.stdout == b"out\n" and done.stderr.startswith(b"err\n") and done.returncode == 3
    data = os.urandom(300000)
    assert kubectl("exec", "-i", pod, "-c", "d", "--", "cat", input=data).stdout == data
    done = kubectl("exec", pod, "-c", "d", "--", "no-such-program", check=False)
    assert done.returncode != 0 and b"executable file not found in $PATH" in done.stderr
    # At a terminal: what is typed comes back, sizes are passed on, and the exit status is the command's.
    master, slave = pty.openpty()
    process = kubectl.start("exec", "-it", pod, "-c", "d", "--", "sh", stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    read_until(master, b"# ")
    os.write(master, b"tty; exit 5\n")
    assert b"/dev/pts/" in read_until(master, b"/dev/pts/")
    assert process.wait(20) == 5
    os.close(master)


def test_cp(kubectl, pod, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    there.mkdir()
    for name, size in (("small", 5), ("large", 3 << 20), ("empty", 0)):
        (there / name).write_bytes(os.urandom(size))
    kubectl("cp", there, f"{pod}:/tmp/copied", "-c", "d")
    kubectl("cp", f"{pod}:/tmp/copied", back, "-c", "d")
    for path in there.iterdir():
        assert (back / path.name).read_bytes() == path.read_bytes()


def test_attach_and_logs(kubectl, pod):
    log = kubectl.start("logs", "-f", pod, "-c", "c", stdout=subprocess.PIPE)
    attached = kubectl.start("attach", "-i", pod, "-c", "c", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        read_until(log.stdout.fileno(), b"begin\n")
        attached.stdin.write(b"one\n")
        attached.stdin.flush()
        read_until(attached.stdout.fileno(), b"got one\n")
        read_until(log.stdout.fileno(), b"got one\n")
    finally:
        for process in (log, attached):
            process.kill()
            process.communicate()
    assert kubectl("logs", pod, "-c", "c", "--tail=1").stdout == b"got one\n"


def test_port_forward(kubectl, pod, node, cluster):
    listener = pod_netns(node).listen("127.0.0.1", 8000)
    process = kubectl.start("port-forward", pod, ":8000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        port = int(re.search(rb"127.0.0.1:(\d+) ", read_until(process.stdout.fileno(), b" -> 8000"))[1])
        for i in range(5):
            with contextlib.closing(cluster.netns.connect("127.0.0.1", port, 20)) as client:
                client.sendall(b"hello %d" % i)
                with contextlib.closing(listener.accept()[0]) as peer:
                    assert peer.recv(100) == b"hello %d" % i
                    peer.sendall(bytes(200000))
                got = 0
                while piece := client.recv(65536):
                    got += len(piece)
                assert got == 200000
    finally:
        process.kill()
        process.communicate()
        listener.close()
