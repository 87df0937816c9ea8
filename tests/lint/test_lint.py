# SPDX-License-Identifier: Apache-2.0
"""The sources keep the house rules."""

import collections
import functools
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from support.build import ROOT
from . import rules

HERE = Path(__file__).resolve().parent
OURS = ("kubelite/", "cni/", "csi/")
C = (".c", ".h")
SCRIPTS = (".py", ".sh")


def _tracked():
    """What git knows or would; None without git."""
    if not shutil.which("git"):
        return None
    command = ["git", "-c", "safe.directory=*", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return listed.stdout.decode().split("\0") if listed.returncode == 0 else None


@functools.lru_cache(maxsize=None)
def sources():
    """{path: text} of the repository's own text files; what git ignores does not count."""
    found = {}
    for name in _tracked() or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")]:
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink() and name.endswith((*C, *SCRIPTS, ".build", ".service")):
            found[name] = path.read_text(errors="replace")
    return found


def chosen(endings, folders=("",)):
    return {p: t for p, t in sources().items() if p.endswith(endings) and p.startswith(folders)}


def every(rule, files):
    found = [complaint for path, text in sorted(files.items()) for complaint in rule(path, text)]
    if found:
        pytest.fail(f"{len(found)} complaints:\n" + "\n".join(found), pytrace=False)


def test_layers():
    every(rules.layers, chosen(C, OURS))


def test_rooms_include_each_other_in_no_circle():
    assert rules.circles(rules.room_graph(chosen(C, OURS))) == []


def test_private_headers():
    every(rules.private_headers, chosen(C))


def test_banned_calls():
    every(rules.banned_calls, chosen(C, OURS))


def test_descriptors_are_closed_on_exec():
    every(rules.close_on_exec, chosen(C, OURS))


def test_license_lines():
    every(rules.license_line, chosen((*C, *SCRIPTS)))


def test_words():
    every(rules.words, sources())


def test_blanks():
    every(rules.blanks, chosen((*C, *SCRIPTS)))


def test_file_lengths():
    lengths = {p: t.count("\n") for p, t in chosen(C).items()}
    for path, lines in sorted(lengths.items()):
        if rules.FILE_LINES_WARN < lines <= rules.FILE_LINES:
            warnings.warn(f"{path}: {lines} lines, look hard")
    assert not [f"{p}: {n} lines" for p, n in lengths.items() if n > rules.FILE_LINES]


def test_function_lengths():
    """The list of exceptions may only shrink: an entry whose function got shorter is wrong, too."""
    allowed = {}
    for line in (HERE / "long-functions.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, lines = line.split()
            allowed[name] = int(lines)
    long = {}
    for path, text in chosen(C, OURS).items():
        long.update(rules.long_functions(path, text))
    wrong = [f"{n}: {lines} lines (allowed: {allowed.get(n, rules.FUNCTION_LINES)})"
             for n, lines in long.items() if lines != allowed.get(n)]
    wrong += [f"{n}: no longer than the limit, take it off the list" for n in allowed if n not in long]
    assert not wrong, "\n".join(wrong)


def test_shell_scripts_parse():
    bad = [p for p in chosen((".sh",)) if subprocess.run(["dash", "-n", ROOT / p], check=False).returncode != 0]
    assert not bad


def test_python_is_tidy():
    if not shutil.which("pyflakes3"):
        pytest.skip("no pyflakes3")
    done = subprocess.run(["pyflakes3", *chosen((".py",))], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.stdout:
        pytest.fail(done.stdout, pytrace=False)


def test_formatting():
    if not (ROOT / ".clang-format").exists():
        pytest.skip("no .clang-format")
    if not shutil.which("clang-format"):
        pytest.skip("no clang-format")
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", *chosen(C)], cwd=ROOT, stderr=subprocess.PIPE, text=True,
                          check=False)
    places = collections.Counter(line.split(":")[0] for line in done.stderr.splitlines() if ": error: " in line)
    if places:
        counts = "\n".join(f"{path}: {n} places" for path, n in sorted(places.items()))
        pytest.fail(f"clang-format -i these:\n{counts}", pytrace=False)
