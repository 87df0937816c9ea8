# SPDX-License-Identifier: Apache-2.0
"""manifests/quickstart.sh, as a newcomer calls it; in a network namespace, with directories of the test's own."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support import build, cgroups, images, scratch
from support.netns import NetNs

SCRIPT = build.ROOT / "manifests" / "quickstart.sh"
BRIDGE = "klquickstart"


class Quickstart:
    def __init__(self, netns, directory):
        self.netns, self.dir = netns, directory
        self.sandboxes = set()
        self.builds, self.data, self.state = directory / "builds", directory / "data", directory / "run" / directory.name
        self.env = {**os.environ, "KUBELITE_BUILD_DIR": str(self.builds), "KUBELITE_QUICKSTART_DIR": str(self.data),
                    "KUBELITE_QUICKSTART_RUN_DIR": str(self.state), **build.sanitizer_environment(directory)}

    def take_programs(self):
        """Those that are built already, instead of a build that takes a minute."""
        build.kubelite()
        self.builds.mkdir(exist_ok=True)
        (self.builds / "quickstart").symlink_to(build.directory())

    def __call__(self, *arguments, check=True, timeout=300):
        self.sandboxes |= {json.loads(p.read_text())["id"] for p in self.state.glob("state/pods/*/sandbox.json")}
        done = self.netns.run(["sh", SCRIPT, *arguments], check=False, env=self.env, text=True, timeout=timeout,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert not check or done.returncode == 0, done.stdout
        return done

    def pid(self):
        return int((self.state / "kubelite.pid").read_text())

    def processes(self):
        """Of the node and of its pods."""
        mine = str(self.dir).encode()
        found = {int(p.parent.name) for p in Path("/proc").glob("[0-9]*/cmdline") if mine in _read(p)}
        return found - {os.getpid()} | cgroup_processes(self.dir.name)

    def assert_removed(self):
        assert not self.processes()
        assert not self.sandboxes & set(os.listdir("/run/netns"))
        assert not self.data.exists() and not self.state.exists() and not (self.builds / "quickstart").exists()
        assert not cgroups.groups(self.dir.name)
        assert str(self.dir) not in Path("/proc/self/mountinfo").read_text()
        assert BRIDGE not in self.netns.output("ip", "-o", "link")
        assert self.netns.output("nft", "list", "ruleset") == ""
        assert self.netns.output("cat", "/proc/sys/net/ipv4/ip_forward") == "0\n"


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def cgroup_processes(name):
    return {int(p) for g in cgroups.groups(name) for p in _read(Path(g) / "cgroup.procs").split()}


@pytest.fixture
def quickstart():
    with NetNs() as netns:
        netns.sysctl("net/ipv4/ip_forward", 0)
        directory = scratch.make("quick")
        command = Quickstart(netns, directory)
        yield command
        command("--down", check=False)
        cgroups.remove(directory.name)
        scratch.remove(directory)


def packages(path, variable):
    return set(re.search(rf'^{variable}="([^"]*)"', path.read_text(), re.M)[1].split())


def test_packages_agree_with_those_of_the_tests():
    assert packages(SCRIPT, "PACKAGES") - {"busybox-static", "curl"} == \
        packages(build.ROOT / "tests" / "run.sh", "BUILD_PACKAGES") - {"libcmocka-dev"}


@pytest.mark.release
def test_from_nothing(quickstart):
    text = quickstart(timeout=580).stdout
    assert "2/2" in text and "hello-quickstart" in text
    assert "Hello from hello-quickstart at 10.231.77." in text.partition("a request to the pod")[2]
    quickstart("--down")
    quickstart.assert_removed()


def test_again_and_after_a_kill(quickstart):
    quickstart.take_programs()
    quickstart()
    before = cgroup_processes(quickstart.dir.name)
    assert len(before) >= 4  # a shim with its log writer, a web server, a sidecar
    assert "Hello from" in quickstart().stdout
    os.kill(quickstart.pid(), signal.SIGKILL)
    assert "Hello from" in quickstart().stdout
    # Sleeps of the sidecar come and go; everything else has stayed.
    assert len(before - cgroup_processes(quickstart.dir.name)) <= 2
    quickstart("--down")
    quickstart.assert_removed()


def test_down_after_a_kill(quickstart):
    quickstart.take_programs()
    quickstart()
    os.kill(quickstart.pid(), signal.SIGKILL)
    quickstart("--down")
    quickstart.assert_removed()


def test_down_without_programs(quickstart):
    """Nothing is there that could end the pods in order: they end all the same. The masquerading rule of the pod's address
    has no bridge to apply to any more; only its plugin could remove it."""
    quickstart.take_programs()
    quickstart()
    os.kill(quickstart.pid(), signal.SIGKILL)
    (quickstart.builds / "quickstart").unlink()
    quickstart("--down")
    quickstart.netns.run(["nft", "flush", "ruleset"])
    quickstart.assert_removed()


def test_down_of_nothing(quickstart):
    began = time.monotonic()
    quickstart("--down")
    assert time.monotonic() - began < 10
    quickstart.assert_removed()


def test_bad_arguments_and_failures_speak(quickstart):
    done = quickstart("--up", check=False)
    assert done.returncode != 0 and "unknown argument '--up'" in done.stdout
    assert "--down" in quickstart("--help").stdout
    quickstart.take_programs()
    quickstart.env["KUBELITE_QUICKSTART_SUBNET"] = "10.300.0.0/24"
    done = quickstart(check=False)
    assert done.returncode != 0 and "waited in vain" in done.stdout and "10.300.0.0" in done.stdout


def test_image_is_what_docker_saves(quickstart):
    """Of the test's own reader: names, digests, and an applet that is a hard link."""
    assert images.BUSYBOX == "/bin/busybox"
    quickstart.take_programs()
    quickstart()
    kubelite = build.kubelite()
    shown = quickstart.netns.output(kubelite, "images", "--state-dir", quickstart.state / "state")
    assert "localhost/busybox" in shown and "quickstart" in shown
