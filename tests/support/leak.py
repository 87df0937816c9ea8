# SPDX-License-Identifier: Apache-2.0
"""What a node may leave on a machine: a snapshot before, one after, and the difference as text.

Only what can be a node's is looked at, so that other work on the machine does not disturb: its directory, its cgroup
subtree, its network namespace, and the global places that a node writes to (/run/netns, /var/log/containers).
"""

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from support import cgroups

# Chains that iptables-based plugins keep for the next container; those of a container have a hash in their name.
CONTAINER_CHAIN = re.compile(r"chain (CNI-[0-9a-f]{16,}|CNI-DN-[0-9a-f]{6,}\w*|CNI-SN-[0-9a-f]{6,}\w*)")
IPTABLES_TABLE = re.compile(r"table \w+ (nat|filter|mangle|raw) ")
# Links of all nodes lie there; each leads to its node's own directory of logs.
LINKS_DIRECTORY = "/var/log/containers"
SANDBOX_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Scope:
    """Where to look. `cgroup` is the node's root group, `directory` all of its directories' parent."""

    netns: object
    directory: Path
    cgroup: str


@dataclass
class Snapshot:
    """Sets of short texts by kind."""

    found: dict = field(default_factory=dict)

    def minus(self, before):
        """{kind: [texts]} of what is new since `before`; empty when nothing is."""
        new = {k: sorted(v - before.found.get(k, set())) for k, v in self.found.items()}
        return {k: v for k, v in new.items() if v}


def take(scope):
    """A snapshot of everything but descriptors (see descriptors())."""
    found = {
        "process": set(_processes(scope)), "mount": set(_mounts(scope)), "network namespace": set(_namespaces(scope)),
        "cgroup": set(_pod_cgroups(scope)), "file": set(_files(scope)),
    }
    if scope.netns.path.exists():
        found.update({"link": set(_links(scope)), "address": set(_addresses(scope)), "nftables": set(_nftables(scope))})
    return Snapshot(found)


def _processes(scope):
    marked = str(scope.directory).encode()
    in_cgroup = set(cgroups.processes(scope.cgroup))
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        try:
            line = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if marked in line or int(path.name) in in_cgroup:
            text = line.replace(b"\0", b" ").decode(errors="replace")[:160]
            yield f"{path.name} {text}"


def _mounts(scope):
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if str(scope.directory) in line:
            yield " ".join(line.split()[4:])[:300]


def _sandboxes_of_others(scope):
    """Ids of sandboxes whose shims say, by their command line, that they belong to another node."""
    ids = set()
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[0] == "kubelite-shim" and len(words) > 2 and not words[1].startswith(str(scope.directory)):
            ids.add(words[2])
    return ids


def _namespaces(scope):
    """Those named as a sandbox is; tests of the shim and other runtimes on the machine name theirs otherwise."""
    root = Path("/run/netns")
    others = _sandboxes_of_others(scope)
    for path in root.iterdir() if root.exists() else ():
        if SANDBOX_ID.fullmatch(path.name) and path.name not in others:
            yield path.name


def _pod_cgroups(scope):
    """Groups of pods and below; the quality-of-service groups above them belong to the daemon."""
    return (g for g in cgroups.children(scope.cgroup) if any(p.startswith("pod") for p in g.split("/")))


def _files(scope):
    links = Path(LINKS_DIRECTORY)
    for path in links.iterdir() if links.is_dir() else ():
        if path.is_symlink() and os.readlink(path).startswith(f"{scope.directory}/"):
            yield str(path)
    for pattern in ("state/pods/*", "root/pods/*", "logs/*", "cni-data/*/[0-9]*.*", "cni-data/*/*:*"):
        for path in scope.directory.glob(pattern):
            yield str(path)


def _links(scope):
    for link in json.loads(scope.netns.output("ip", "-j", "link")):
        yield link["ifname"]


def _addresses(scope):
    for link in json.loads(scope.netns.output("ip", "-j", "address")):
        for address in link["addr_info"]:
            if address.get("scope") != "link":
                yield f"{link['ifname']} {address['local']}/{address['prefixlen']}"


def _nftables(scope):
    """One text per rule set line of each table; of tables that belong to iptables, only the chains of containers."""
    table = None
    for line in scope.netns.output("nft", "-s", "list", "ruleset").splitlines():
        if line.startswith("table "):
            table = line.rstrip(" {")
        iptables = IPTABLES_TABLE.match(f"{table} ")
        if not iptables or CONTAINER_CHAIN.search(line):
            yield f"{table}: {line.strip()}"


# What may come and go by itself while a daemon runs.
# Over HTTP/1.1 (the stand-in API server) each concurrent request had a connection, kept for 90 s.
DESCRIPTOR_SLACK = {"socket": 24, "/dev/null": 2}


def descriptors(pid):
    """A Counter of the kinds of descriptors of a process: numbers and ids taken out of their names."""
    kinds = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        kinds[re.sub(r":?\[\d+\]|[0-9a-f]{8,}", "", target)] += 1
    return kinds


def more_descriptors(before, now):
    """The kinds of which there are more than before (beyond the slack), as text; empty when none."""
    more = {k: n - before[k] for k, n in now.items() if n - before[k] > DESCRIPTOR_SLACK.get(k, 0)}
    return ", ".join(f"{n} more of {k}" for k, n in sorted(more.items()))
