# SPDX-License-Identifier: Apache-2.0
"""Static pods with one container that looks around and tells: what it printed, how it ended, why it did not start.

    assert inside(node, "id -u", container={"securityContext": {"runAsUser": 1000}}).out == "1000\n"
"""

import itertools
import json

from support import pods
from support.wait import eventually

IMAGE = "docker.io/library/busybox:1"
_numbers = itertools.count(1)


class Inside:
    """The outcome of a pod with one container: its log, exit code and message."""

    def __init__(self, node, name):
        self.shown = node.cli_json("inspect", f"{name}-{node.name}")
        kind, details = pods.state_of(self.shown)
        self.kind, self.code, self.reason = kind, details.get("exitCode"), details.get("reason")
        self.message = details.get("message") or ""
        done = node.cli("logs", f"{name}-{node.name}", "c", check=False)
        self.out, self.err = done.stdout, done.stderr
        self.lines = self.out.splitlines()


def start(node, script, image=IMAGE, container=None, **spec):
    name = f"p{next(_numbers)}"
    more = {"imagePullPolicy": "Never", **(container or {})}
    spec.setdefault("restartPolicy", "Never")
    node.add_manifest(name, pods.pod(name, pods.container("c", image, more.pop("command", script), **more), **spec))
    return name


def phase(node, name):
    found = [p for p in node.pods() if p["name"] == f"{name}-{node.name}"]
    return found[0]["phase"] if found else None


def inside(node, script, image=IMAGE, container=None, **spec):
    """Runs the script to its end."""
    name = start(node, script, image, container, **spec)
    eventually(lambda: phase(node, name) in ("Succeeded", "Failed"), 60, f"{name} ended", interval=0.05)
    found = Inside(node, name)
    node.remove_manifest(name)
    return found


def waiting(node, name):
    """Waits for a reason why the container does not run."""
    try:
        return eventually(lambda: refused(node, name), 30, f"{name} waits", interval=0.05)
    finally:
        node.remove_manifest(name)


def imported(node, image, tag):
    name = f"docker.io/library/{tag}:1"
    node.import_image(image, name)
    return name


def refused(node, name):
    """Why the container does not run; None while it may yet."""
    done = node.cli("inspect", f"{name}-{node.name}", "-o", "json", check=False)
    kind, details = pods.state_of(json.loads(done.stdout)) if done.returncode == 0 else (None, {})
    return details if kind == "waiting" and details.get("reason") not in (None, "ContainerCreating") else None
