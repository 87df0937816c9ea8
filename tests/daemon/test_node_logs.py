# SPDX-License-Identifier: Apache-2.0
"""/logs/: files of /var/log, and queries for services' logs. What leads elsewhere is refused."""

import contextlib
import os
import shutil
import tempfile
import urllib.parse
from pathlib import Path

import pytest

from support.kubelet import Client, head
from support.pki import Authority
from support.wait import eventually

JOURNALCTL = """#!/bin/sh
[ "$1" = --field ] && { echo kubelet.service; echo other.service; exit 0; }
case "$*" in *slow*) sleep 1000 ;; esac
for a; do echo "[$a]"; done
echo complaint >&2
"""


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="kubelite-test-", dir="/var/log"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def clients(make_node, tmp_path, monkeypatch):
    """clients(**config): an administrator of a node with a journalctl that tells its arguments."""
    authority = Authority(tmp_path / "pki", "clients")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "journalctl").write_text(JOURNALCTL)
    (programs / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def make(**config):
        node = make_node("n1", config={
            "authentication": {"x509": {"clientCAFile": str(authority.cert_path)}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"}, **config})
        return Client(node, authority.issue("admin", groups=["system:masters"]))

    return make


def test_node_log_files(clients, folder):
    admin = clients()
    inside = f"/logs/{folder.name}"
    big = os.urandom(8 << 20)
    (folder / "big.bin").write_bytes(b"\0" + big)
    (folder / "a<b&.log").write_text("hello\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "x.log").write_text("x\n")
    (folder / "here").symlink_to("sub/x.log")
    (folder / "absolute").symlink_to(folder / "sub" / "x.log")
    (folder / "away").symlink_to("/etc/shadow")
    (folder / "up").symlink_to("../../etc/shadow")
    (folder / "chain").symlink_to("away")
    (folder / "root").symlink_to("/")
    (folder / "loop").symlink_to("loop")
    (folder / "device").symlink_to("/dev/zero")
    os.mkfifo(folder / "fifo")

    assert admin.get(f"{inside}/a%3Cb%26.log") == (200, "hello\n")
    status, headers, body = admin.api.request("GET", f"{inside}/big.bin")
    assert status == 200 and body == b"\0" + big and headers["Content-Type"] == "application/octet-stream"
    status, listing = admin.get(f"{inside}/")
    assert status == 200 and '<a href="a%3Cb%26.log">a&lt;b&amp;.log</a>\n' in listing and '<a href="sub/">sub/</a>\n' in listing
    status, headers, _ = admin.api.request("GET", inside)
    assert status == 301 and headers["Location"] == f"{folder.name}/"
    assert f'href="{folder.name}/"' in admin.get("/logs/")[1]
    for path in ("here", "absolute", "sub/x.log"):
        assert admin.get(f"{inside}/{path}") == (200, "x\n"), path
    for path in ("away", "up", "chain", "root/etc/shadow", "loop", "device", "fifo"):
        assert admin.get(f"{inside}/{path}") == (403, "403 Forbidden\n"), path
    for path in ("nothing", "sub/x.log/y", "sub/" + "y" * 300):
        assert admin.get(f"{inside}/{path}")[0] == 404, path
    for path in ("..%2f..%2fetc%2fshadow", "%2fetc/shadow", "..", "%2e%2e/%2e%2e/etc/shadow", "a%00b", "./x", "sub//x.log"):
        got = admin.raw(head("GET", f"{inside}/{path}", "Connection: close"))
        assert got.startswith(b"HTTP/1.1 400") and b"root:" not in got, path
    assert admin.get(f"{inside}/", "POST", {})[0] == 405
    # A client that takes nothing, or goes, leaves no worker behind.
    for _ in range(12):
        with contextlib.closing(admin.connect()) as s:
            s.sendall(head("GET", f"{inside}/big.bin"))
            s.recv(1000)
    eventually(lambda: admin.get(f"{inside}/here")[0] == 200, 10, "room for a further one")
    # A query is nothing special where it is not allowed.
    assert admin.get("/logs/?query=kubelet")[0] == 200
    assert "[--unit" not in admin.get("/logs/?query=kubelet")[1]


def test_node_log_queries(clients, folder):
    admin = clients(enableSystemLogQuery=True)
    (folder / f"{folder.name}.log").write_text("its own file\n")

    def ask(**query):
        return admin.get(f"/logs/?{urllib.parse.urlencode(query, doseq=True)}")

    base = ["[--utc]", "[--no-pager]", "[--output=short-precise]"]
    status, text = ask(query="kubelet")
    assert status == 200 and text.splitlines() == [*base, "[--unit=kubelet]", "complaint"]
    status, text = ask(query=["kubelet", "other"], tailLines=5, boot=-1, pattern="a; $(id) 'b", sinceTime="2026-01-01T00:00:00Z",
                       untilTime="2026-01-02T00:00:00Z")
    assert text.splitlines() == [*base, "[--since=@1767225600]", "[--until=@1767312000]", "[--pager-end]", "[--lines=5]",
                                 "[--unit=kubelet]", "[--unit=other]", "[--grep=a; $(id) 'b]", "[--boot=-1]", "complaint"]
    assert ask(query=folder.name) == (200, "its own file\n")
    assert ask(query=f"/{folder.name}/{folder.name}.log") == (200, "its own file\n")
    assert ask(query="nobody-knows") == (200, "\nlog not found for nobody-knows\n")
    assert "options present" in ask(query=folder.name, tailLines=1)[1]
    for status, query in [
            (400, {"query": "  "}), (400, {"query": "kubelet", "sinceTime": "soon"}), (400, {"query": "kubelet", "boot": "x"}),
            (400, {"query": "kubelet", "tailLines": "many"}), (406, {"tailLines": 1}), (406, {"query": "a b"}),
            (406, {"query": "-unit=x;y"}), (406, {"query": "kubelet", "boot": 1}), (406, {"query": "kubelet", "tailLines": -1}),
            (406, {"query": "kubelet", "tailLines": 100001}), (406, {"query": ["a"] * 5}), (406, {"query": ["a", "b/c"]}),
            (406, {"query": ["a/b", "b/c"]}), (406, {"query": "a/b", "tailLines": 1}), (406, {"query": "k" * 300}),
            (406, {"query": "k", "pattern": "x" * 2000}),
            (406, {"query": "k", "sinceTime": "2026-01-02T00:00:00Z", "untilTime": "2026-01-01T00:00:00Z"})]:
        assert ask(**query)[0] == status, query
    for file in ("/../../etc/shadow", "/..%2f..%2fetc/shadow", "\\..\\etc", "/proc/self/environ"):
        status, text = ask(query=file)
        assert status in (403, 404) and "root:" not in text, file
    assert admin.get(f"/logs/{folder.name}/?query=kubelet") == (406, "path not allowed in query mode\n")
    # One that takes long is ended with its client.
    with contextlib.closing(admin.connect()) as s:
        s.sendall(head("GET", "/logs/?query=kubelet&pattern=slow"))
        s.recv(100)
    assert admin.get("/healthz")[0] == 200


def test_debug_endpoints_can_be_disabled(clients, tmp_path):
    admin = clients(enableSystemLogHandler=False)
    assert admin.get("/logs/") == (405, "logs endpoint is disabled.\n")
    admin.node.stop()
    admin.node.extra_config["enableDebuggingHandlers"] = False
    admin.node.start()
    for path in ("/logs/", "/runningpods/", "/containerLogs/default/x/c", "/exec/default/x/c", "/attach/default/x/c",
                 "/portForward/default/x", "/run/default/x/c"):
        assert admin.get(path, "POST" if path.startswith("/run/") else "GET") == (405, "Debug endpoints are disabled.\n"), path
    assert admin.get("/pods")[0] == admin.get("/healthz")[0] == 200
