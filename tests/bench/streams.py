# SPDX-License-Identifier: Apache-2.0
"""Figures of exec and port-forward, at the node's own port."""

import contextlib
import time

import procs
from support.websocket import Channels

SERVE = "while :; do nc -l -p 8000 -e cat /dev/zero; done"


def round_trips(client, path, daemon, runs):
    """Seconds of each `exec true`, from the connection to the status, and the daemon's processor seconds for one."""
    taken = []
    _one(client, path)
    before = procs.cpu_ns(daemon)
    for _ in range(runs):
        begin = time.monotonic()
        _one(client, path)
        taken.append(time.monotonic() - begin)
    return taken, (procs.cpu_ns(daemon) - before) / 1e9 / runs


def _one(client, path):
    ws = client.websocket(path, ["v4.channel.k8s.io"])
    with contextlib.closing(ws.sock):
        status = Channels(ws).collect()[3]
    assert b'"Success"' in status, status


def forward(client, path, daemon, size):
    """(bytes a second out of a pod, the daemon's processor seconds for a gigabyte)"""
    session = client.spdy(path, ["portforward.k8s.io"], windows=False)
    with contextlib.closing(session.sock) as sock:
        for kind in ("error", "data"):
            session.open({"streamtype": kind, "port": "8000", "requestid": "0"})
        buffer, got, begin, before = bytearray(1 << 20), 0, time.monotonic(), procs.cpu_ns(daemon)
        while got < size:
            n = sock.recv_into(buffer)
            assert n, "the connection ended"
            got += n
        return got / (time.monotonic() - begin), (procs.cpu_ns(daemon) - before) / got
