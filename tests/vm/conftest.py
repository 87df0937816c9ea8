# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the virtual machine tests."""

import shutil
import subprocess
from pathlib import Path

import pytest

from support import build
from support.vm import QEMU


@pytest.fixture(scope="session", autouse=True)
def qemu():
    if not shutil.which(QEMU):
        pytest.skip(f"no {QEMU}")


@pytest.fixture(scope="session")
def apparmor_parser():
    """The program of Debian's package apparmor, unpacked aside."""
    fetch = ["sh", build.ROOT / "tests" / "support" / "fetch-package.sh", "bookworm", "apparmor"]
    directory = subprocess.run(fetch, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return next(Path(directory).glob("**/sbin/apparmor_parser"))


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """kubelite as `meson install` puts it, below a directory."""
    build.kubelite()
    tree = tmp_path_factory.mktemp("installed")
    subprocess.run(["meson", "install", "-C", build.directory(), "--no-rebuild", "--quiet", "--destdir", tree], check=True)
    return tree
