# SPDX-License-Identifier: Apache-2.0
"""A virtual machine with Debian's kernel and, if wanted, Debian's systemd: for cgroup v2, reboots and little memory.

    with Vm(payload={"opt/kubelite": tree}) as vm:
        vm.run("systemctl start kubelite")
        vm.reboot()

Its disk is thrown away at the end. There is no KVM where the tests run, so that everything in it takes ten times as long.
"""

import base64
import socket
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from support import build, scratch
from support.process import Process
from support.wait import eventually

SCRIPT = build.ROOT / "tests" / "vm" / "make-image.sh"
QEMU = "qemu-system-x86_64"


def image_directory():
    """Where vmlinuz, initrd.gz and root.ext4 are; makes them when they are missing."""
    return Path(subprocess.check_output(["sh", str(SCRIPT)], text=True).strip().splitlines()[-1])


@dataclass
class Result:
    """A command's end inside the machine; `output` is both of its streams."""

    status: int
    output: str


class Vm:
    """Context manager. `payload`: {path in the machine: file or directory here}; `systemd=False` boots straight into the
    agent with cgroup v2 mounted; `append` goes to the kernel's command line."""

    def __init__(self, *, memory_mb=512, cpus=1, payload=None, systemd=True, append=""):
        self.memory_mb, self.cpus, self.payload = memory_mb, cpus, payload or {}
        self.systemd, self.append = systemd, append
        self._number = 0
        self._buffer = b""
        self.boot_id = None

    def __enter__(self):
        self.dir = scratch.make("vm")
        self.images = image_directory()
        try:
            self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        if getattr(self, "channel", None):
            self.channel.close()
        if getattr(self, "qemu", None):
            self.qemu.kill()
        scratch.remove(self.dir)

    def _write_payload(self):
        path = self.dir / "payload.tar"
        with tarfile.open(path, "w") as tar:
            for target, source in self.payload.items():
                tar.add(source, target.strip("/"))
        return path

    def _argv(self):
        init = "" if self.systemd else "init=/usr/local/sbin/test-agent"
        append = f"console=ttyS0 panic=-1 quiet mitigations=off systemd.show_status=0 {init} {self.append}"
        argv = [
            QEMU, "-accel", "tcg", "-m", self.memory_mb, "-smp", self.cpus, "-nodefaults", "-no-user-config", "-display", "none",
            "-kernel", self.images / "vmlinuz", "-initrd", self.images / "initrd.gz", "-append", append, "-nic", "none",
            "-serial", f"file:{self.dir}/console", "-serial", f"unix:{self.dir}/agent,server=on,wait=off",
            "-drive", f"file={self.images}/root.ext4,if=none,id=d0,format=raw,snapshot=on",
            "-device", "virtio-blk-pci,drive=d0", "-cpu", "max",
        ]
        if self.payload:
            argv += ["-drive", f"file={self._write_payload()},if=none,id=d1,format=raw,readonly=on",
                     "-device", "virtio-blk-pci,drive=d1"]
        return argv

    def _boot(self, timeout=240):
        self.qemu = Process(self._argv(), self.dir / "qemu.log", env={"TMPDIR": str(self.dir)}, name="qemu")
        path = self.dir / "agent"
        eventually(lambda: self.qemu.assert_alive() and path.exists(), 10, "QEMU started")
        self.channel = socket.socket(socket.AF_UNIX)
        eventually(lambda: self.channel.connect(str(path)) is None, 5, "agent's line", errors=(OSError,))
        self.boot_id = self._expect("HELLO", timeout)[0]

    def console(self):
        return (self.dir / "console").read_text(errors="replace")

    def _expect(self, verb, timeout):
        """The words of the agent's next line that begins with verb."""
        deadline = time.monotonic() + timeout
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                words = line.decode(errors="replace").split()
                if words[:1] == [verb]:
                    return words[1:]
                continue
            self._receive(verb, deadline)

    def _receive(self, verb, deadline):
        self.channel.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            data = self.channel.recv(65536)
        except TimeoutError:
            raise AssertionError(f"no {verb} from the virtual machine; its console:\n{self.console()[-6000:]}") from None
        if not data:
            raise AssertionError(f"the virtual machine has ended; its console:\n{self.console()[-6000:]}")
        self._buffer += data

    def _send(self, command):
        self._number += 1
        code = base64.b64encode(command.encode()).decode()
        self.channel.sendall(f"RUN {self._number} {code}\n".encode())
        return str(self._number)

    def run(self, command, timeout=120, check=True):
        """Runs a shell command as root; fails on a status other than 0 unless check is False."""
        number = self._send(command)
        while True:
            words = self._expect("DONE", timeout)
            if words[0] == number:
                break
        output = base64.b64decode(words[2]).decode(errors="replace") if len(words) > 2 else ""
        result = Result(int(words[1]), output)
        if check and result.status != 0:
            raise AssertionError(f"{command}: status {result.status}\n{output}")
        return result

    def eventually(self, command, timeout=120):
        """Repeats a command inside until it succeeds; returns its output."""
        def attempt():
            result = self.run(command, timeout, check=False)
            assert result.status == 0, result.output[-2000:]
            return (result.output,)
        return eventually(attempt, timeout, command, interval=0.2)[0]

    def reboot(self, hard=False, timeout=240):
        """Reboots (hard: at once, as by the power button); the disk stays. Returns when the agent is back."""
        before = self.boot_id
        self._send("sync; echo b >/proc/sysrq-trigger" if hard or not self.systemd else "systemctl reboot")
        self.boot_id = self._expect("HELLO", timeout)[0]
        assert self.boot_id != before
