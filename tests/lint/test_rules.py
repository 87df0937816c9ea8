# SPDX-License-Identifier: Apache-2.0
"""The rules see what they are for, and nothing else."""

import pytest

from . import rules


@pytest.mark.parametrize("path, line, fine", [
    ("kubelite/pod/a.c", '#include "image/image.h"', True),
    ("kubelite/pod/a.c", '#include "node/node.h"', True),
    ("kubelite/image/a.c", '#include "pod/pod.h"', False),
    ("kubelite/base/a.c", '#include "loop/loop.h"', False),
    ("kubelite/codec/a.c", '#include "loop/loop.h"', False),
    ("kubelite/net/a.c", '#include "loop/loop.h"', True),
    ("kubelite/shim/a.c", '#include "shim/protocol.h"', True),
    ("kubelite/shim/a.c", '#include "codec/json.h"', False),
    ("kubelite/runtime/a.c", '#include "shim/protocol.h"', True),
    ("cni/a.c", '#include "net/net.h"', True),
    ("cni/a.c", '#include "config/config.h"', False),
    ("cni/plugins/a.c", '#include "loop/loop.h"', False),
    ("kubelite/main.c", '#include "cli/cli.h"', True),
    ("kubelite/cli/a.c", '#include "somewhere/else.h"', False),
    ("kubelite/codec/a.c", "#include <jansson.h>", True),
    ("kubelite/pod/a.c", "#include <jansson.h>", False),
    ("kubelite/config/a.c", "#include <yaml.h>", False),
    ("kubelite/image/a.c", "#include <curl/curl.h>", False),
    ("kubelite/image/worker/a.c", "#include <curl/curl.h>", True),
    ("kubelite/shim/a.c", "#include <seccomp.h>", False),
    ("kubelite/shim/a.c", "#include <linux/seccomp.h>", True),
    ("kubelite/pod/a.c", "#  include  <uv.h>", False),
])
def test_layers(path, line, fine):
    assert (rules.layers(path, line) == []) is fine


def test_circles():
    assert rules.circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a -> b -> c -> a"]
    assert rules.circles({"a": {"b", "c"}, "b": {"c"}}) == []


def test_private_headers():
    line = '#include "pod/x-internal.h"'
    assert rules.private_headers("kubelite/pod/a.c", line) == []
    assert rules.private_headers("kubelite/pod/sub/a.c", line) == []
    assert rules.private_headers("tests/unit/pod/test-a.c", line) == []
    assert rules.private_headers("kubelite/node/a.c", line)


@pytest.mark.parametrize("line, fine", [
    ("strcpy(a, b);", False), ("x = atoi(s);", False), ("/* strcpy(a, b) */", True), ('log("system(x)");', True),
    ("str_system(x);", True), ("p->pipe(x);", True), ("exit(1);", False), ("_exit(1);", True), ("pipe (fds);", False),
    ("dup2(a, 1);", True), ("int main(void)\n{\n        exit(0);\n}", True),
])
def test_banned_calls(line, fine):
    assert (rules.banned_calls("kubelite/pod/a.c", line) == []) is fine


@pytest.mark.parametrize("line, fine", [
    ("fd = open(p, O_RDONLY);", False), ("fd = open(p, O_RDONLY | O_CLOEXEC);", True),
    ("fd = openat(d, f(p),\n            O_RDONLY |\n            O_CLOEXEC);", True), ("socket(AF_UNIX, SOCK_STREAM, 0)", False),
    ('fopen(p, "r")', False), ('fopen(p, "re")', True), ("int open(const char *p);", True), ("my_open(p)", True),
    ("eventfd(0, EFD_CLOEXEC)", True), ("accept4(fd, NULL, NULL, 0)", False),
])
def test_close_on_exec(line, fine):
    assert (rules.close_on_exec("kubelite/pod/a.c", line) == []) is fine


def test_functions_are_measured():
    text = "static int f(int a,\n             int b)\n{\n        g();\n}\n\nstruct s {\n        int x;\n};\n\nvoid h(void)\n{\n}\n"
    assert rules.functions(text) == [("f", 3, 3), ("h", 12, 2)]


def test_license_lines():
    assert rules.license_line("a.c", f"/* {rules.SPDX} */\n") == []
    assert rules.license_line("a.sh", f"#!/bin/sh\n# {rules.SPDX}\n") == []
    assert rules.license_line("a.c", f"\n\n/* {rules.SPDX} */\n")


@pytest.mark.parametrize("line, fine", [
    ("/* TO" "DO: later */", False), ("/tmp/x.XXXXXX", True), ("/* X" "XX */", False),
])
def test_words(line, fine):
    assert (rules.words("a.c", line) == []) is fine
