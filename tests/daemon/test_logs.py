# SPDX-License-Identifier: Apache-2.0
"""Logs on disk: rotation by the pod's log writer, compression, removal, and reading and following across all of it."""

import contextlib
import gzip
import re
import threading

import pytest

from support import images, pods
from support.kubelet import Client, head
from support.pki import Authority
from support.wait import eventually

IMAGE = "docker.io/library/busybox:1"
STAMP = r"\.\d{8}-\d{6}"
# 300 records of about 70 bytes, once a second.
TALK = "i=0; while :; do for k in $(seq 1 300); do i=$((i+1)); echo line $i of some length, so that it counts; done; sleep 1; done"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "pki", "clients")


@pytest.fixture
def log_node(make_node, busybox, authority):
    node = make_node("n1", config={
        "containerLogMaxSize": "16Ki", "containerLogMaxFiles": 4, "containerLogMonitorInterval": "3s",
        "authentication": {"x509": {"clientCAFile": str(authority.cert_path)}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"}})
    node.import_image(busybox, IMAGE)
    node.import_image(images.pause(), "docker.io/library/pause:1")
    return node


def run_pod(node, name, script, **more):
    node.add_manifest(name, pods.pod(name, pods.container("c", IMAGE, script, **more)))
    full = f"{name}-{node.name}"
    node.wait_pods(lambda found: [p for p in found if p["name"] == full and p["phase"] != "Pending"], what=f"{name} runs")
    return full


def folder(node, name):
    return next((node.dir / "logs").glob(f"default_{name}_*")) / "c"


def files(directory, attempt=0):
    return sorted(p.name for p in directory.glob(f"{attempt}.log*"))


def text_of(path):
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()


def numbers(directory, names):
    """The lines' numbers; every record is whole."""
    found = []
    for name in names:
        for line in text_of(directory / name).splitlines():
            found.append(int(re.fullmatch(r"\S+ stdout F line (\d+) of some length, so that it counts", line).group(1)))
    return found


def in_order(names):
    """As they were written: rotated ones by their time, the current one last."""
    return [*sorted(n for n in names if n != "0.log"), "0.log"]


def settled(directory):
    """Nothing is left to do when nothing is written."""
    rotated = [n for n in files(directory) if n != "0.log"]
    return len(rotated) <= 3 and [n for n in rotated if not n.endswith(".gz")] == rotated[-1:]


def test_logs_are_rotated_compressed_and_removed(log_node):
    node = log_node
    directory = folder(node, run_pod(node, "talk", TALK))
    eventually(lambda: any(n.endswith(".gz") for n in files(directory)), 30, "a compressed file")
    # Nothing of it needs the daemon.
    node.kill9()
    before = [n for n in files(directory) if not n.endswith(".tmp")]
    eventually(lambda: len(set(files(directory)) - set(before)) >= 4, 30, "rotation goes on without the daemon")
    names = in_order(n for n in files(directory) if not n.endswith(".tmp"))
    seen = numbers(directory, names[:-1])
    assert seen == list(range(seen[0], seen[0] + len(seen))), "no line is lost, torn or doubled"
    node.start()

    def tidy():
        found = in_order(files(directory))
        return found if len(found) <= 5 and [n for n in found if n.endswith(".gz")] else None

    names = eventually(tidy, 30, "the oldest are removed")
    plain = [n for n in names if re.fullmatch(r"0\.log" + STAMP, n)]
    assert 1 <= len(plain) <= 3, names
    assert all(re.fullmatch(rf"0\.log({STAMP}(\.gz)?)?", n) for n in names), names
    assert all((directory / n).stat().st_mode & 0o777 == 0o640 for n in names)


def test_logs_of_old_attempts_go(log_node):
    directory = folder(log_node, run_pod(log_node, "again", "echo run; exit 1"))
    eventually(lambda: files(directory, 2), 60, "a third attempt")
    eventually(lambda: not files(directory, 0), 20, "the first one's log is removed")
    assert files(directory, 1) == ["1.log"]


def test_logs_are_read_and_followed_over_all_files(log_node, authority):
    """What is followed misses nothing however often the file is rotated; a log is all files that are kept."""
    script = TALK.replace("while :", "for n in 1 2 3 4 5 6 7 8").replace("sleep 1;", "sleep 1.1;") + "; echo end; sleep 100000"
    name = run_pod(log_node, "talk", script)
    admin = Client(log_node, authority.issue("admin", groups=["system:masters"]))
    wanted = [f"line {i} of some length, so that it counts" for i in range(1, 2401)]
    shown = []
    cli = threading.Thread(target=lambda: shown.append(log_node.cli("logs", "-f", name)))
    cli.start()
    with contextlib.closing(admin.connect(60)) as s:
        s.sendall(head("GET", f"/containerLogs/default/{name}/c?follow=true", "Connection: close").replace(b"/1.1", b"/1.0"))
        got = b""
        while not got.endswith(b"\nend\n"):
            piece = s.recv(65536)
            assert piece, got[-200:]
            got += piece
        lines = got.split(b"\r\n\r\n", 1)[1].decode().splitlines()
    assert lines == [*wanted, "end"]
    eventually(lambda: settled(folder(log_node, name)), 30, "files are compressed and removed")

    whole = admin.get(f"/containerLogs/default/{name}/c")[1].splitlines()
    assert 600 < len(whole) < 2401 and whole == [*wanted, "end"][-len(whole):]
    for tail in (1, 50, len(whole) - 1, 100000):
        expected = whole[-tail:]
        assert admin.get(f"/containerLogs/default/{name}/c?tailLines={tail}")[1].splitlines() == expected
        assert log_node.cli("logs", name, f"--tail={tail}").stdout.splitlines() == expected
    log_node.remove_manifest("talk")
    cli.join(60)
    assert shown[0].stdout.splitlines() == [*wanted, "end"]
