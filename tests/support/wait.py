# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition of a thing that sends no event (a port, a file, a process table)."""

import time


class TimedOut(AssertionError):
    """A condition did not come true in time."""


def eventually(check, timeout=10.0, what=None, interval=0.02, errors=()):
    """Calls check() until it returns something true, and returns that.

    Exceptions of the types in `errors` (and AssertionError) count as "not yet"; the last of them is shown when time is up.
    """
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = check()
            if value:
                return value
            last = value
        except (AssertionError, *errors) as e:
            last = e
        if time.monotonic() >= deadline:
            name = what or getattr(check, "__name__", "condition")
            raise TimedOut(f"{name}: not within {timeout:g} s (last: {last!r})")
        time.sleep(interval)
