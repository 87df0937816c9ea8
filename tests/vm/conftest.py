# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the virtual machine tests."""

import shutil
import subprocess

import pytest

from support import build
from support.vm import QEMU


@pytest.fixture(scope="session", autouse=True)
def qemu():
    if not shutil.which(QEMU):
        pytest.skip(f"no {QEMU}")


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """kubelite as `meson install` puts it, below a directory."""
    build.kubelite()
    tree = tmp_path_factory.mktemp("installed")
    subprocess.run(["meson", "install", "-C", build.directory(), "--no-rebuild", "--quiet", "--destdir", tree], check=True)
    return tree
