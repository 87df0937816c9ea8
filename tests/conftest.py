# SPDX-License-Identifier: Apache-2.0
"""What all groups share: skips that count as failures where parts must not be missing, order, general fixtures."""

import sys
from pathlib import Path

import pytest

# Helpers are found from any directory and by any way of starting pytest.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from support import build, images, scratch  # noqa: E402
from support.netns import NetNs  # noqa: E402
from support.registry import Registry  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    _judge_skip((yield).get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    _judge_skip((yield).get_result())


def _judge_skip(report):
    """In CI a part that is missing is a failure; what the kernel cannot do is still a skip."""
    if not report.skipped or hasattr(report, "wasxfail") or not build.must_run():
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(build.KERNEL):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be missing: {reason}"


def pytest_collection_modifyitems(config, items):
    left_out = [item for item in items if build.sanitized() and item.get_closest_marker("release")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind():
    """Judges when all other fixtures are gone.

    pytest ends session fixtures in an order of its own: one that makes namespaces, directories or control groups has to
    request this one, so that it ends earlier.
    """
    scratch.remove_stale()
    yield
    left = scratch.leftovers()
    assert not left


@pytest.fixture(scope="module")
def netns():
    """A network namespace for one file of tests."""
    with NetNs() as ns:
        yield ns


@pytest.fixture(scope="module")
def registry(netns):
    """A registry in that namespace with busybox:1 and pause:1 in it."""
    with Registry(netns) as r:
        r.push(images.busybox(), "busybox", "1")
        r.push(images.pause(), "pause", "1")
        yield r


@pytest.fixture(scope="session")
def busybox():
    return images.busybox()
