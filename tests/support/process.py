# SPDX-License-Identifier: Apache-2.0
"""Long-running programs of a test: started with a log file, stopped for certain."""

import os
import signal
import subprocess
from pathlib import Path


class Process:
    """One running program. It dies with the test process, whatever happens to that."""

    def __init__(self, argv, log, *, netns=None, env=None, cwd=None, name=None, pass_fds=(), append=False):
        self.argv = [str(a) for a in argv]
        self.name = name or Path(self.argv[0]).name
        self.log_path = Path(log)
        command = ["setpriv", "--pdeathsig", "KILL"]
        if netns is not None:
            command += netns.prefix()
        # Both helpers exec: popen.pid is the program's own.
        with open(self.log_path, "ab" if append else "wb") as out:
            self.popen = subprocess.Popen(
                command + self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})}, cwd=cwd, pass_fds=pass_fds, start_new_session=True)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def assert_alive(self):
        """Raises RuntimeError (no "not yet" for eventually()) when the program has ended."""
        if not self.alive():
            raise RuntimeError(f"{self.name} ended with {self.popen.returncode}:\n{self.tail()}")
        return True

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def wait(self, timeout=10):
        return self.popen.wait(timeout)

    def stop(self, timeout=10):
        """SIGTERM, then SIGKILL when that is not enough; returns the exit status."""
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.popen.wait(10)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def tail(self, lines=40):
        return "\n".join(self.log().splitlines()[-lines:])


def running(text):
    """Command lines, their words joined by NUL, of the machine's processes that have this in them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_text(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found
