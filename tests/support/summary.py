# SPDX-License-Identifier: Apache-2.0
"""Counts of test groups, for run.sh.

  summary.py meson BUILD SUITE RESULTS [PATTERN...]    runs a suite and appends its counts
  summary.py junit FILE RESULTS [STATUS]               appends the counts of a pytest run
  summary.py total RESULTS [PATTERNS]                  prints the last line; status 1 when something failed

RESULTS has a line "passed failed skipped" per group.
"""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

KERNEL = "kernel: "
CMOCKA = re.compile(r"\[  (PASSED|FAILED|SKIPPED) +\] (\d+) test")


def must_run():
    return os.environ.get("CI") == "true" or os.environ.get("KUBELITE_TEST_MUST_RUN") == "1"


def append(path, counts):
    with open(path, "a") as f:
        f.write(" ".join(map(str, counts)) + "\n")


def selected(build, suite, patterns):
    """The names of a suite's tests that match; - and _ are the same."""
    listed = json.loads(subprocess.check_output(["meson", "introspect", build, "--tests"]))
    names = [t["name"] for t in listed if suite in [s.rpartition(":")[2] for s in t["suite"]]]
    plain = lambda s: s.replace("_", "-")  # noqa: E731
    return [n for n in names if not patterns or any(plain(p) in plain(n) for p in patterns)]


def judge(entry):
    """(passed, failed, skipped) of one meson test; a cmocka program tells how many tests it had."""
    found = dict.fromkeys(("PASSED", "FAILED", "SKIPPED"), 0)
    for word, number in CMOCKA.findall(entry.get("stdout", "") + entry.get("stderr", "")):
        found[word] += int(number)
    counts = [found["PASSED"], found["FAILED"], found["SKIPPED"]]
    if entry["result"] == "OK":
        return counts if any(counts) else [1, 0, 0]
    if entry["result"] in ("SKIP", "EXPECTEDFAIL"):
        return [0, 0, 1]
    return [counts[0], max(1, counts[1]), counts[2]]


def run_meson(build, suite, results, *patterns):
    names = selected(build, suite, patterns)
    if not names:
        print("no tests")
        return 0
    log = Path(build) / "meson-logs" / f"{suite}.json"
    log.unlink(missing_ok=True)
    command = ["meson", "test", "-C", build, "--no-rebuild", "--logbase", suite, "--suite", suite, "--print-errorlogs"]
    environment = {**os.environ, "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1", "ASAN_OPTIONS": "detect_leaks=1"}
    subprocess.run(command + (names if patterns else []), check=False, env=environment)
    if not log.exists():
        return 1
    total = [0, 0, 0]
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        counts = judge(entry)
        if counts[2]:
            output = entry.get("stdout", "") + entry.get("stderr", "")
            given = [line for line in output.splitlines() if line.startswith(KERNEL)]
            reason = given[0] if given else output.strip()[-400:]
            print(f"SKIPPED {entry['name']}: {reason}")
            if must_run() and KERNEL not in reason:
                counts = [counts[0], counts[1] + counts[2], 0]
        total = [a + b for a, b in zip(total, counts)]
    append(results, total)
    return 0


def count_junit(path, results, status="0"):
    """A run that failed without a failed test (a session that could not end) is one failure."""
    suite = xml.etree.ElementTree.parse(path).getroot().find("testsuite")
    number = {k: int(suite.get(k)) for k in ("tests", "failures", "errors", "skipped")}
    bad = number["failures"] + number["errors"]
    passed = number["tests"] - bad - number["skipped"]
    append(results, [passed, max(bad, int(status == "1")), number["skipped"]])
    return 0


def total(results, patterns=""):
    lines = [list(map(int, line.split())) for line in Path(results).read_text().splitlines()]
    passed, failed, skipped = [sum(column) for column in zip(*lines)] if lines else (0, 0, 0)
    if patterns.strip() and not passed + failed + skipped:
        print(f"no test matches{patterns}")
        failed = 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    verbs = {"meson": run_meson, "junit": count_junit, "total": total}
    sys.exit(verbs[sys.argv[1]](*sys.argv[2:]))
