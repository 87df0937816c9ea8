# SPDX-License-Identifier: Apache-2.0
"""Directories of tests. Their names carry the process that made them: what a killed run left is known and removed."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from support import cgroups

PREFIX = "klt"
ROOTS = ("/tmp", "/dev/shm")
KEPT = ".kept"


def make(label, root="/tmp"):
    """A new directory /tmp/klt-PID-label-xxxx."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-{label}-", dir=root))


def remove(directory):
    """Removes it; with KUBELITE_TEST_KEEP it stays, marked."""
    if os.environ.get("KUBELITE_TEST_KEEP"):
        (directory / KEPT).touch()
        return
    unmount_below(directory)
    shutil.rmtree(directory, ignore_errors=True)


def unmount_below(directory):
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split()[4]
        if target.startswith(f"{directory}/"):
            subprocess.run(["umount", "-l", target], check=False, stderr=subprocess.DEVNULL)


def _ours(names):
    """(name, pid) of names that carry our prefix."""
    for name in names:
        match = re.match(rf"{PREFIX}-(\d+)-", name)
        if match:
            yield name, int(match[1])


def leftovers():
    """Paths of namespaces, directories and control groups of this very process."""
    found = []
    for root in ("/run/netns", *ROOTS, *map(str, cgroups.hierarchies())):
        names = os.listdir(root) if os.path.isdir(root) else ()
        found += [f"{root}/{name}" for name, pid in _ours(names) if pid == os.getpid()]
    return [p for p in found if not os.path.exists(f"{p}/{KEPT}")]


def remove_stale():
    """Ends what earlier runs left that were killed: control groups with their processes, mounts, directories."""
    alive = lambda pid: os.path.exists(f"/proc/{pid}")  # noqa: E731
    stale = {n for root in cgroups.hierarchies() for n, pid in _ours(os.listdir(root)) if not alive(pid)}
    for name in stale:
        cgroups.remove(name)
    for root in ROOTS:
        for name, pid in _ours(os.listdir(root) if os.path.isdir(root) else ()):
            path = Path(root) / name
            if not alive(pid) and not (path / KEPT).exists():
                unmount_below(path)
                shutil.rmtree(path, ignore_errors=True)
