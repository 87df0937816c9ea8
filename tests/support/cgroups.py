# SPDX-License-Identifier: Apache-2.0
"""Control groups of a test: a subtree of its own in every hierarchy, so that several nodes do not collide."""

import os
import signal
from pathlib import Path

from support.wait import eventually

MOUNT = Path("/sys/fs/cgroup")


def hierarchies():
    """The mount points of all hierarchies: one on v2, one per v1 controller otherwise."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        target = left.split()[4]
        if right.split()[0] in ("cgroup", "cgroup2") and target.startswith(str(MOUNT)):
            found.append(Path(target))
    return sorted(set(found))


def is_v2():
    return (MOUNT / "cgroup.controllers").exists()


def make(name):
    """Makes /name in every hierarchy, ready for children (v1 cpuset inherits, v2 delegates its controllers)."""
    for root in hierarchies():
        group = root / name
        try:
            group.mkdir(exist_ok=True)
        except OSError:
            continue  # a hierarchy that takes no groups, e.g. an empty v2 one
        _inherit_cpuset(root, group)
    if is_v2():
        _delegate(MOUNT)
        _delegate(MOUNT / name)


def _inherit_cpuset(parent, group):
    for file in ("cpuset.cpus", "cpuset.mems"):
        path = group / file
        if path.exists() and not is_v2() and not path.read_text().strip():
            path.write_text((parent / file).read_text())


def _delegate(group):
    for controller in (group / "cgroup.controllers").read_text().split():
        try:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            pass


def groups(name):
    """All groups at and below /name, as paths, children first."""
    found = []
    for root in hierarchies():
        for directory, _, _ in os.walk(root / name, topdown=False):
            found.append(Path(directory))
    return found


def processes(name):
    """The pids in /name and below."""
    found = set()
    for group in groups(name):
        try:
            found.update(int(p) for p in (group / "cgroup.procs").read_text().split())
        except OSError:
            pass
    return sorted(found - {0})


def children(name):
    """What is below /name, relative to it and without the hierarchy: {"kubepods", "kubepods/pod1", ...}."""
    found = set()
    for root in hierarchies():
        for directory, _, _ in os.walk(root / name):
            found.add(os.path.relpath(directory, root / name))
    return found - {"."}


def remove(name):
    """Kills what is in /name and removes the subtree everywhere."""
    for group in groups(name):
        state = group / "freezer.state"
        if state.exists():
            state.write_text("THAWED")

    def gone():
        for pid in processes(name):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for group in groups(name):
            try:
                group.rmdir()
            except OSError:
                pass
        return not groups(name)

    eventually(gone, 15, f"cgroup {name} removed")
