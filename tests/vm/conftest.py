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
def apparmor_parser(tmp_path_factory):
    """The program of Debian's package apparmor, unpacked aside."""
    directory = tmp_path_factory.mktemp("apparmor")
    download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "apparmor"]
    if subprocess.run(download, cwd=directory, check=False).returncode != 0:
        subprocess.run(["apt-get", "-q", "update"], check=True)
        subprocess.run(download, cwd=directory, check=True)
    subprocess.run(["dpkg", "-x", next(directory.glob("*.deb")), directory / "tree"], check=True)
    return next(directory.glob("tree/**/sbin/apparmor_parser"))


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """kubelite as `meson install` puts it, below a directory."""
    build.kubelite()
    tree = tmp_path_factory.mktemp("installed")
    subprocess.run(["meson", "install", "-C", build.directory(), "--no-rebuild", "--quiet", "--destdir", tree], check=True)
    return tree
