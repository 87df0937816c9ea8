# SPDX-License-Identifier: Apache-2.0
"""A network namespace of the test's own, with a bridge as its eth0.

A node in it has an address that is not loopback, every port is free, and nothing can reach the outside. Programs enter it
with nsenter; the test process itself stays outside and only makes sockets inside (a socket keeps the namespace in which it
was made).
"""

import ctypes
import itertools
import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

from support.wait import eventually

CLONE_NEWNET = 0x40000000
PREFIX = "klt"
_libc = ctypes.CDLL(None, use_errno=True)
_counter = itertools.count(1)


class NetNs:
    """Context manager. Addresses: 172.30.N.1/24 and fd00:30:N::1/64 on eth0, where N is `subnet`."""

    def __init__(self, subnet=1, name=None):
        self.name = name or f"{PREFIX}-{os.getpid()}-{next(_counter)}"
        self.subnet = subnet
        self.address = f"172.30.{subnet}.1"
        self.address6 = f"fd00:30:{subnet}::1"
        self.path = Path("/run/netns") / self.name

    def __enter__(self):
        remove_stale()
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        try:
            self._wire()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc):
        self.close()

    def _wire(self):
        self.ip("link", "set", "lo", "up")
        self.ip("link", "add", "eth0", "type", "bridge")
        # A bridge has a carrier only with a port that is up: a veth pair whose other end leads nowhere.
        self.ip("link", "add", "uplink", "type", "veth", "peer", "name", "uplink-far")
        self.ip("link", "set", "uplink", "master", "eth0")
        for link in ("uplink-far", "uplink", "eth0"):
            self.ip("link", "set", link, "up")
        self.add_address(f"{self.address}/24")
        self.add_address(f"{self.address6}/64")
        self.sysctl("net/ipv4/ip_forward", 1)
        self.sysctl("net/ipv6/conf/all/forwarding", 1)

    def close(self):
        """Kills what still runs inside, then removes the namespace; a namespace that is gone is fine."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        eventually(lambda: not self.processes(), 10, f"processes in {self.name} gone")
        eventually(self._unpinned, 10, f"{self.name} removed", interval=0.1)

    def _unpinned(self):
        """Removing may take several attempts while others change mounts at the same time."""
        if self.path.exists():
            subprocess.run(["ip", "netns", "del", self.name], check=False, stderr=subprocess.DEVNULL)
        return not self.path.exists()

    def prefix(self):
        """The argv prefix which runs a program inside."""
        return ["nsenter", f"--net={self.path}", "--"]

    def run(self, argv, **kwargs):
        kwargs.setdefault("check", True)
        return subprocess.run(self.prefix() + [str(a) for a in argv], **kwargs)

    def output(self, *argv):
        return self.run(argv, stdout=subprocess.PIPE, text=True).stdout

    def ip(self, *args):
        return self.run(["ip", *args])

    def add_address(self, cidr, device="eth0"):
        """A further address of the node; without duplicate address detection it works at once."""
        extra = ["nodad"] if ":" in cidr else []
        self.run(["ip", "address", "add", cidr, "dev", device, *extra])

    def sysctl(self, key, value):
        # /proc/sys/net shows the network namespace of whoever opens it.
        self.run(["sh", "-c", f"echo {value} >/proc/sys/{key}"])

    def inode(self):
        return self.path.stat().st_ino

    def processes(self):
        """The pids whose network namespace this is (hosts of pods: their own namespaces are others)."""
        try:
            mine = self.inode()
        except FileNotFoundError:
            return []
        return [pid for pid in _pids() if _netns_inode(pid) == mine]

    def inside(self, function, *args):
        """Calls function(*args) in a thread that is inside; returns its result. Sockets made there stay there."""
        result = []

        def body():
            try:
                enter(self.path)
                result.append((function(*args), None))
            except BaseException as e:  # handed to the caller, whatever it is
                result.append((None, e))

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        thread.join()
        value, error = result[0]
        if error is not None:
            raise error
        return value

    def connect(self, host, port, timeout=10.0, source=None):
        """A connected TCP socket inside."""
        return self.inside(socket.create_connection, (host, port), timeout, source and (source, 0))

    def listen(self, host, port, backlog=128):
        """A listening TCP socket inside; the test process can serve it."""
        def make():
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family, backlog=backlog)
        return self.inside(make)

    def reachable(self, host, port):
        try:
            self.connect(host, port, 1.0).close()
            return True
        except OSError:
            return False


def enter(path):
    """Moves the calling thread (and only it) into the network namespace at path."""
    with open(path, "rb") as f:
        if _libc.setns(f.fileno(), CLONE_NEWNET) != 0:
            e = ctypes.get_errno()
            raise OSError(e, f"setns to {path}: {os.strerror(e)}")


def remove_stale():
    """Removes the namespaces of test processes that were killed before they could."""
    root = Path("/run/netns")
    for path in root.glob(f"{PREFIX}-*") if root.is_dir() else ():
        owner = re.match(rf"{PREFIX}-(\d+)-", path.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            stale = NetNs(name=path.name)
            stale.close()


def _pids():
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]


def _netns_inode(pid):
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None
