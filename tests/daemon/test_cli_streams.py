# SPDX-License-Identifier: Apache-2.0
"""kubelite exec, attach and port-forward on a node without an API server."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import threading

import pytest

from support.kubelet import pod_netns, run_pod
from support.wait import eventually


@pytest.fixture
def pod(standalone):
    return run_pod(standalone, "web", "echo begin; while read x; do echo got $x; done; sleep 100000", stdin=True)


def start(node, *args, **kwargs):
    argv = [node.binary, args[0], "--state-dir", node.dir / "state", *args[1:]]
    return subprocess.Popen([*node.netns.prefix(), *map(str, argv)], **kwargs)


def read_until(fd, text):
    got = b""
    while text not in got:
        piece = os.read(fd, 4096)
        assert piece, got
        got += piece
    return got


def test_exec(standalone, pod):
    done = standalone.cli("exec", pod, "--", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)
    data = "0123456789abcdef\n" * 100000
    assert standalone.cli("exec", "-i", pod, "-c", "c", "--", "cat", input=data).stdout == data
    assert standalone.cli("exec", "-i", pod, "--", "true", input=data).returncode == 0
    # What is left in the background holds nobody up.
    assert standalone.cli("exec", pod, "--", "sh", "-c", "sleep 100000 & echo x").stdout == "x\n"
    for args, text in ((("exec", pod, "--", "no-such-program"), "executable file not found"), (("exec", "nobody", "--", "true"), "'nobody'"),
                       (("exec", pod, "-c", "d", "--", "true"), "container 'd'")):
        done = standalone.cli(*args, check=False)
        assert done.returncode == 1 and text in done.stderr, done
    process = start(standalone, "exec", pod, "--", "sh", "-c", "echo $$; exec sleep 33333", stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
    eventually(lambda: "33333" not in standalone.cli("exec", pod, "--", "ps").stdout, 10, "the command was killed")


def test_exec_at_a_terminal(standalone, pod):
    master, slave = pty.openpty()
    subprocess.run(["stty", "rows", "40", "cols", "100"], stdin=slave, check=True)
    process = start(standalone, "exec", "-it", pod, "--", "sh", stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    try:
        read_until(master, b"# ")
        os.write(master, b"stty size; tty\n")
        assert b"40 100" in read_until(master, b"/dev/pts/")
        subprocess.run(["stty", "rows", "50", "cols", "120"], stdin=slave, check=True)
        process.send_signal(signal.SIGWINCH)
        read_until(master, b"# ")
        os.write(master, b"sleep 0.2; stty size; exit 6\n")
        read_until(master, b"50 120")
        assert process.wait(10) == 6
    finally:
        process.kill()
        os.close(slave)
        os.close(master)


def test_attach(standalone, pod):
    process = start(standalone, "attach", "-i", pod, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got hello\n"
        standalone.remove_manifest("web")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_port_forward(standalone, pod):
    listener = pod_netns(standalone).listen("127.0.0.1", 8000)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                with contextlib.closing(listener.accept()[0]) as peer:
                    data = b""
                    while piece := peer.recv(65536):
                        data += piece
                    peer.sendall(data[::-1])

    threading.Thread(target=serve, daemon=True).start()
    process = start(standalone, "port-forward", pod, "0:8000", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        port = int(re.search(rb"127.0.0.1:(\d+) -> 8000", process.stdout.readline())[1])
        for i in range(3):
            with contextlib.closing(standalone.netns.connect("127.0.0.1", port)) as client:
                client.sendall(b"hello%d" % i)
                client.shutdown(1)
                assert client.recv(100) == (b"hello%d" % i)[::-1] and client.recv(1) == b""
    finally:
        process.kill()
        process.communicate()
        listener.shutdown(2)
        listener.close()
    assert standalone.cli("port-forward", pod, "x", check=False).returncode == 1
