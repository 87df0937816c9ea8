# SPDX-License-Identifier: Apache-2.0
"""What processes cost: memory from smaps_rollup, processor time from schedstat, bytes on sockets from ss."""

import os
import re
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def pids():
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]


def executable(pid):
    """The path of its program, "" for one that is gone (or a kernel thread)."""
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return ""


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def memory_kib(pid, kind="Pss"):
    """Pss, Rss or Private_Dirty in KiB; 0 for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return int(re.search(rf"^{kind}: +(\d+)", text, re.M)[1])


def cpu_ns(pid):
    """Time on a processor: its threads' in nanoseconds, its waited children's in ticks of 10 ms; 0 when gone."""
    try:
        own = sum(int((t / "schedstat").read_text().split()[0]) for t in Path(f"/proc/{pid}/task").iterdir())
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return own + (int(fields[13]) + int(fields[14])) * TICK_NS


def io_bytes(pid):
    """What it has written to disk, in bytes."""
    try:
        return int(re.search(r"^write_bytes: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.M)[1])
    except OSError:
        return 0


def socket_bytes(netns, port, owners):
    """{connection: bytes both ways} of the established TCP connections of some processes to a port."""
    found = {}
    lines = netns.output("ss", "-tinpH", "state", "established", "dport", "=", f":{port}").splitlines()
    for head, details in zip(lines[::2], lines[1::2]):
        if not any(f"pid={pid}," in head for pid in owners):
            continue
        counts = [int(n) for n in re.findall(r"bytes_(?:acked|received):(\d+)", details)]
        found[head.split()[2]] = sum(counts)
    return found
