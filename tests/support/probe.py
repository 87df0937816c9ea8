# SPDX-License-Identifier: Apache-2.0
"""Leads api-probe, the API client as a program: commands in, lines out."""

import itertools
import os
import queue
import signal
import subprocess
import threading
import time
from dataclasses import dataclass

from support import build


@dataclass
class Status:
    """How the client is."""

    connections: int
    reachable: bool
    private_kib: int


class Probe:
    """Context manager."""

    def __init__(self, server, *, netns=None, ca=None, pair=None, **options):
        argv = [str(build.program("tests/unit/api/api-probe")), "--server", server]
        if ca:
            argv += ["--ca", str(ca)]
        if pair:
            argv += ["--cert", str(pair.cert), "--key", str(pair.key)]
        for key, value in options.items():
            argv += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
        self.argv = (netns.prefix() if netns else []) + argv
        self._ids = itertools.count()
        self._lines = {}
        self._all = []

    @classmethod
    def of_cluster(cls, cluster, **options):
        """As the cluster's admin, unless another identity is given."""
        if not options.keys() & {"pair", "token", "token_file", "cert_file"}:
            options["pair"] = cluster.admin_pair
        options.setdefault("ca", cluster.ca.cert_path)
        return cls(cluster.url, netns=cluster.netns, **options)

    def __enter__(self):
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *self.argv], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def _queue(self, key):
        return self._lines.setdefault(key, queue.Queue())

    def _read(self):
        for line in self.process.stdout:
            words = line.split()
            self._all.append(words)
            self._queue(words[0]).put(words[1:])

    def command(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def quit(self):
        """Ends in order; what the sanitizers find then is an exit status."""
        self.command("quit")
        assert self.process.wait(20) == 0

    def expect_end(self):
        """The words of its complaint, when it refuses to start."""
        assert self.process.wait(20) == 1
        return self._queue("FAILED").get(timeout=5)

    def stop(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def expect(self, key, *wanted, timeout=20):
        """The next line of `key` whose first word is one of `wanted` (and for which every callable in it is true)."""
        words = [w for w in wanted if isinstance(w, str)]
        checks = [w for w in wanted if callable(w)]
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._queue(key).get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{key}: no {wanted} within {timeout} s, last: {self._all[-5:]}") from None
            if line[0] in words and all(check(line) for check in checks):
                return line

    def seen(self, word):
        return [line for line in self._all if word in line[1:2]]

    def send_call(self, method, path, content_type=None, body=None, *, critical=False):
        key = f"c{next(self._ids)}"
        rest = f" {content_type} {body}" if body else ""
        self.command(f"{'critical' if critical else 'call'} {key} {method} {path}{rest}")
        return key

    def answer(self, key, timeout=20):
        """(status, reason, message)"""
        line = self.expect(key, "DONE", "FAILED", timeout=timeout)
        return int(line[1]), line[2], " ".join(line[3:])

    def call(self, *args, timeout=20, **kwargs):
        return self.answer(self.send_call(*args, **kwargs), timeout)

    def status(self):
        self.command("status")
        connections, reachable, private_kib = self._queue("STATUS").get(timeout=20)
        return Status(int(connections), reachable == "1", int(private_kib))
