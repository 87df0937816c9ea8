# SPDX-License-Identifier: Apache-2.0
"""Where the programs under test are, and what a missing part means."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A skip of this kind is about the machine, which no installation can change: it stays a skip in CI, too.
KERNEL = "kernel: "


def directory():
    """The meson build directory; run.sh says which."""
    base = os.environ.get("KUBELITE_BUILD_DIR", "/var/tmp/kubelite-build")
    return Path(os.environ.get("KUBELITE_BUILD", f"{base}/rel"))


def sanitized():
    return os.environ.get("KUBELITE_SANITIZED") == "1"


def program(path):
    """A built program, e.g. "kubelite/kubelite"; skips when it is not there."""
    full = directory() / path
    if not full.exists():
        pytest.skip(f"{path} is not built in {directory()}")
    return full


def kubelite():
    return program("kubelite/kubelite")


def plugins():
    """The directory of our own CNI plugins."""
    return program("cni/plugins/bridge").parent


def must_run():
    """True where a skip for a missing part is a failure."""
    return os.environ.get("KUBELITE_TEST_MUST_RUN") == "1" or os.environ.get("CI") == "true"


def skip_for_kernel(reason):
    """For what this machine's kernel or privileges cannot do."""
    pytest.skip(KERNEL + reason)


def sanitizer_environment(directory):
    """Reports of the daemon and of what inherits its environment go to directory/sanitizer.PID, where Node looks."""
    if not sanitized():
        return {}
    log = f"log_path={directory}/sanitizer"
    return {"ASAN_OPTIONS": f"detect_leaks=1:exitcode=99:{log}", "UBSAN_OPTIONS": f"print_stacktrace=1:{log}"}
