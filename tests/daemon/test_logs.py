# SPDX-License-Identifier: Apache-2.0
"""Logs on disk: rotation by the pod's log writer, compression, removal, and reading and following across all of it."""

import gzip
import re

import pytest

from support import images, pods
from support.wait import eventually

IMAGE = "docker.io/library/busybox:1"
STAMP = r"\.\d{8}-\d{6}"
# 300 records of about 70 bytes, once a second.
TALK = "i=0; while :; do for k in $(seq 1 300); do i=$((i+1)); echo line $i of some length, so that it counts; done; sleep 1; done"


@pytest.fixture
def log_node(make_node, busybox):
    node = make_node("n1", config={"containerLogMaxSize": "16Ki", "containerLogMaxFiles": 4, "containerLogMonitorInterval": "3s"})
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
