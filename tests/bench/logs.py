# SPDX-License-Identifier: Apache-2.0
"""Container logs over the kubelet API: throughput, latency, and the memory of idle followers."""

import contextlib
import time

import procs

RECORD = "2026-01-02T03:04:05.000000006Z stdout F {:09d} a line of a log as long as lines of logs are, more or less, these days\n"


def fill(path, size):
    """Appends records to a container's log; the bytes of text in them."""
    block, text = [], 0
    for i in range(20000):
        line = RECORD.format(i)
        block.append(line)
        text += len(line) - len("2026-01-02T03:04:05.000000006Z stdout F ")
    data, written = "".join(block).encode(), 0
    with open(path, "ab", buffering=0) as f:
        while written < size:
            f.write(data)
            written += len(data)
    return text * (written // len(data))


def download(netns, url, pair, times):
    """[bytes a second] as curl takes them; it does nothing with them."""
    found = []
    for _ in range(times):
        out = netns.output("curl", "-sk", "--cert", str(pair.cert), "--key", str(pair.key), "-o", "/dev/null",
                           "-w", "%{size_download} %{time_starttransfer} %{time_total}", url).split()
        found.append(float(out[0]) / float(out[2]))
    return found


def latency(connect, request, say, times):
    """Seconds from say(text), which makes the container print it, until a follower has it."""
    found = []
    with contextlib.closing(connect()) as s:
        s.sendall(request)
        got = b""
        while b"\r\n\r\n" not in got:
            got += s.recv(65536)
        for i in range(times):
            text, got = f"probe {i}", b""
            begin = time.monotonic()
            say(text)
            while text.encode() not in got:
                got += s.recv(65536)
            found.append(time.monotonic() - begin)
            time.sleep(0.05)
    return found


def followers(connect, request, pid, n):
    """KiB of PSS that each of n idle followers costs the daemon."""
    held = []
    for _ in range(20):
        warm(connect, request)
    time.sleep(6)
    before = procs.memory_kib(pid)
    try:
        for _ in range(n):
            s = connect()
            s.sendall(request)
            while b"\r\n\r\n" not in s.recv(4096):
                pass
            held.append(s)
        time.sleep(3)
        return (procs.memory_kib(pid) - before) / n
    finally:
        for s in held:
            s.close()


def warm(connect, request):
    with contextlib.closing(connect()) as s:
        s.sendall(request)
        s.recv(100)
