# SPDX-License-Identifier: Apache-2.0
"""The kubelet API of a standalone node: TLS, HTTP/1.1, certificates, logs and their bad input."""

import contextlib
import datetime
import json
import os
import ssl
import subprocess
import threading
import time

import pytest

from support.api import Api
from support.kubelet import IMAGE, Client, head, read_all, run_pod, wait_for
from support.node import HEALTHZ_PORT, PORT
from support.pki import Authority
from support.wait import eventually


def log_path(name, **query):
    text = "&".join(f"{k}={v}" for k, v in query.items())
    return f"/containerLogs/default/{name}/c?{text}"


def wait_log(client, path, text):
    return eventually(lambda: (lambda got: got if text in got else None)(client.get(path)[1]), 15, f"{text} in the log")


# -- who may ask ------------------------------------------------------------------------------------------------------------

ROUTES = ["/healthz", "/pods", "/runningpods/", "/configz", "/containerLogs/default/x/c", "/logs/", "/metrics", "/stats/summary",
          "/exec/default/x/c?command=true", "/attach/default/x/c", "/portForward/default/x", "/nothing", "/debug/pprof/", "/"]


def test_nobody_gets_in_without_a_good_certificate(api_node, authority, admin, tmp_path):
    other = Authority(tmp_path / "other", "others")
    old = authority.issue("late", end=-datetime.timedelta(hours=1))
    for pair in (None, other.issue("admin", groups=["system:masters"]), old):
        client = Client(api_node, pair)
        for path in ROUTES:
            assert client.get(path)[0] == 401, path
            assert client.get(path, "POST")[0] == 401, path
    assert Client(api_node, token="x").get("/pods")[0] == 401
    assert admin.get("/pods")[0] == 200


def test_states(api_node, admin):
    name = run_pod(api_node, "web", "sleep 100000")
    assert admin.get("/healthz") == admin.get("/healthz/ping") == admin.get("/healthz/syncloop") == (200, "ok")
    assert admin.get("/healthz/nonsense")[0] == 404
    found = json.loads(admin.get("/pods")[1])
    assert found["kind"] == "PodList" and found["apiVersion"] == "v1"
    pod = found["items"][0]
    assert pod["metadata"]["name"] == name and pod["spec"]["containers"][0]["image"] == IMAGE
    assert pod["status"]["phase"] == "Running" and pod["status"]["containerStatuses"][0]["ready"]
    running = json.loads(admin.get("/runningpods/")[1])["items"]
    assert [p["metadata"]["name"] for p in running] == [name]
    assert running[0]["spec"]["containers"][0]["name"] == "c"
    assert json.loads(admin.get("/configz")[1])["kubeletconfig"]["port"] == PORT
    assert admin.get("/nothing")[0] == 404
    assert admin.get("/pods", "POST", {})[0] == 405
    health = Api("127.0.0.1", HEALTHZ_PORT, api_node.netns.connect, tls=False)
    assert health.request("GET", "/healthz")[::2] == (200, b"ok")
    for path in ("/", "/pods", "/metrics", "/debug/pprof/", "/healthz/x", "/configz", "/../healthz"):
        assert health.request("GET", path)[0] == 404, path


def test_authorities_are_read_again(api_node, authority, admin, tmp_path):
    other = Authority(tmp_path / "other", "others")
    client = Client(api_node, other.issue("new"))
    assert client.get("/healthz")[0] == 401
    old = authority.cert_path.read_bytes()
    fresh = authority.cert_path.with_suffix(".new")
    fresh.write_bytes(other.cert_path.read_bytes())
    os.replace(fresh, authority.cert_path)
    eventually(lambda: client.get("/healthz")[0] == 200, 15, "the new authority counts")
    assert admin.get("/healthz")[0] == 401
    authority.cert_path.write_bytes(old)


# -- TLS --------------------------------------------------------------------------------------------------------------------

def test_self_signed_certificate(api_node, admin):
    pki = api_node.dir / "root" / "pki"
    assert (pki / "kubelet.crt").exists() and (pki / "kubelet.key").stat().st_mode & 0o777 == 0o600
    text = subprocess.check_output(["openssl", "x509", "-in", pki / "kubelet.crt", "-noout", "-text"], text=True)
    assert f"DNS:{api_node.name}" in text and f"IP Address:{api_node.address}" in text
    before = (pki / "kubelet.crt").read_bytes()
    api_node.restart()
    assert (pki / "kubelet.crt").read_bytes() == before
    assert admin.get("/healthz")[0] == 200


def test_versions_and_protocol(api_node, admin):
    with contextlib.closing(admin.connect()) as s:
        assert s.version() == "TLSv1.3" and s.selected_alpn_protocol() == "http/1.1"
    second = ssl._create_unverified_context()
    second.maximum_version = ssl.TLSVersion.TLSv1_2
    with contextlib.closing(second.wrap_socket(admin.dial())) as s:
        assert s.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384", "the one that is configured"
    second.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises((ssl.SSLError, ConnectionResetError)), contextlib.closing(admin.dial()) as raw:
        second.wrap_socket(raw)
    old = ssl._create_unverified_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)), contextlib.closing(admin.dial()) as raw:
        old.wrap_socket(raw)


def test_serving_certificate_is_replaced_while_running(make_node, authority, tmp_path):
    first = authority.issue("first", names=["n1"])
    pair = authority.issue("serving", names=["n1"])
    pair.cert.write_bytes(first.cert_pem)
    pair.key.write_bytes(first.key_pem)
    node = make_node("n1", config={
        "tlsCertFile": str(pair.cert), "tlsPrivateKeyFile": str(pair.key), "tlsMinVersion": "VersionTLS13",
        "authentication": {"x509": {"clientCAFile": str(authority.cert_path)}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"}})
    client = Client(node, authority.issue("admin"))

    def served():
        with contextlib.closing(client.connect()) as s:
            return ssl.DER_cert_to_PEM_cert(s.getpeercert(True)).encode()

    with contextlib.closing(client.connect()) as kept:
        kept.sendall(head("GET", "/healthz"))
        assert b"200 OK" in kept.recv(4096)
        assert served().split() == first.cert_pem.split()
        second = authority.issue("second", names=["n1"])
        pair.cert.write_bytes(second.cert_pem)
        pair.key.write_bytes(second.key_pem)
        eventually(lambda: served().split() == second.cert_pem.split(), 15, "the new certificate")
        kept.sendall(head("GET", "/healthz"))
        assert b"200 OK" in kept.recv(4096)
    pair.cert.write_bytes(b"broken")
    time.sleep(6)
    assert served().split() == second.cert_pem.split()


# -- HTTP -------------------------------------------------------------------------------------------------------------------

def test_keep_alive_and_pipelines(admin):
    got = admin.raw(head("GET", "/healthz") * 20 + head("GET", "/configz") + head("GET", "/nothing", "Connection: close"))
    assert got.count(b"HTTP/1.1 200 OK") == 21 and got.count(b"HTTP/1.1 404") == 1
    assert got.endswith(b"404 page not found\n")


def test_old_clients_and_heads(admin):
    assert b"\r\n\r\nok" in admin.raw(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert b"405" in admin.raw(head("HEAD", "/healthz", "Connection: close"))


def test_bodies_nobody_wants(admin):
    body = b"x" * 300000
    got = admin.raw(head("POST", "/pods", f"Content-Length: {len(body)}") + body)
    assert b"HTTP/1.1 405" in got and b"Connection: close" in got
    got = admin.raw(head("POST", "/pods", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n")
    assert b"HTTP/1.1 405" in got
    assert b"HTTP/1.1 417" in admin.raw(head("GET", "/pods", "Expect: wonders", "Connection: close"))


@pytest.mark.parametrize("bad", [
    b"GET /healthz\r\n\r\n", b"GET /healthz HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /healthz HTTP/1.1\nHost: a\n\n", b"\x00\x01\x02\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: a\r\n x: y\r\n\r\n",
    b"POST /pods HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /pods HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"])
def test_requests_that_cannot_be_read(admin, bad):
    assert b"HTTP/1.1 400" in admin.raw(bad)


def test_the_end_comes_in_a_record_of_its_own(api_node, admin):
    """API servers that pass a log on through a WebSocket lose what they read together with its end."""
    name = run_pod(api_node, "p", "echo hello; sleep 100000")
    wait_log(admin, log_path(name), "hello")
    with contextlib.closing(admin.connect()) as s:
        s.sendall(head("GET", log_path(name)))
        pieces = [s.recv(65536)]
        while not pieces[-1].endswith(b"0\r\n\r\n"):
            pieces.append(s.recv(65536))
    assert pieces[-1] == b"0\r\n\r\n" and b"hello" in b"".join(pieces[:-1])


def test_heads_have_limits(admin):
    assert b"HTTP/1.1 431" in admin.raw(head("GET", "/healthz", "X: " + "y" * 20000))
    assert b"HTTP/1.1 431" in admin.raw(head("GET", "/healthz", *["X: y"] * 150))
    assert admin.get("/healthz")[0] == 200


def test_slow_heads_are_cut_off(admin):
    begin = time.monotonic()
    with contextlib.closing(admin.connect(30)) as s:
        with contextlib.suppress(OSError):
            for c in head("GET", "/healthz") * 10:
                s.sendall(bytes([c]))
                time.sleep(0.3)
        assert read_all(s) == b""
    assert time.monotonic() - begin < 25


def test_silent_connections_are_cut_off_and_push_nobody_out(api_node, admin):
    held = [admin.dial() for _ in range(400)]
    try:
        for _ in range(20):
            assert admin.get("/healthz")[0] == 200
        eventually(lambda: all(closed(s) for s in held), 20, "silent connections closed")
    finally:
        for s in held:
            s.close()


def closed(s):
    s.setblocking(False)
    try:
        return s.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def unfinished_head(client):
    s = client.connect(3)
    s.sendall(head("GET", "/pods", "X: " + "y" * 12000)[:-2])
    return s


def silent(client):
    return client.dial(3)


def silent_after_handshake(client):
    return client.connect(3)


def endless_body(client):
    s = client.connect(3)
    s.sendall(head("POST", "/pods", f"Content-Length: {1 << 40}"))
    with contextlib.suppress(OSError):
        for _ in range(64):
            s.sendall(b"z" * 65536)
    return s


def endless_chunks(client):
    s = client.connect(3)
    with contextlib.suppress(OSError):
        s.sendall(head("POST", "/exec/default/x/c", "Transfer-Encoding: chunked") + b"ffffff\r\n" + b"z" * 400000)
    return s


def pipeline(client):
    s = client.connect(3)
    s.sendall(head("GET", "/pods") * 2000)
    return s


@pytest.mark.release
def test_a_flood_keeps_memory_bounded(api_node, admin):
    """Thousands of strangers with everything that they can do before they are asked who they are."""
    def rss():
        with open(f"/proc/{api_node.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    stranger = Client(api_node, source="127.0.0.2")  # who floods pushes out only what comes from the same address
    admin.get("/healthz")
    kinds = [unfinished_head, silent, silent_after_handshake, endless_body, endless_chunks, pipeline]
    before, stop, held, most = rss(), time.monotonic() + 12, [], 0

    def flood(kind):
        while time.monotonic() < stop:
            with contextlib.suppress(OSError):
                held.append(kind(stranger))

    threads = [threading.Thread(target=flood, args=(kind,)) for kind in kinds]
    for t in threads:
        t.start()
    while time.monotonic() < stop:
        assert admin.get("/healthz") == (200, "ok")
        most = max(most, rss())
        time.sleep(0.02)
    for t in threads:
        t.join()
    for s in held:
        s.close()
    assert len(held) > 500
    assert most - before < 24 * 1024, f"{len(held)} connections: {before} -> {most} KiB"


@pytest.mark.parametrize("path", [
    "/containerLogs/default/..%2f..%2f..%2fetc/shadow", "/containerLogs/default/../../etc/shadow", "/containerLogs/default/x%00/c",
    "/containerLogs/default/%2e%2e/c", "/containerLogs//x/c", "/containerLogs/default/x/c%zz", "/logs/..%2f..%2fetc%2fshadow",
    "/logs/%2fetc/shadow", "/containerLogs/default/x/" + "y" * 10000, "pods", "http://n1/pods", "/containerLogs/default/x"])
def test_path_attacks(admin, path):
    got = admin.raw(head("GET", path, "Connection: close"))
    status = int(got.split()[1])
    assert status in (400, 404, 405), got
    assert b"root:" not in got


def test_a_taken_port_is_tried_again(make_node, authority, busybox, netns):
    taken = netns.listen("0.0.0.0", PORT)
    node = make_node("n1", config={"authorization": {"mode": "AlwaysAllow"}}, expect_leaks=True)
    assert "is not served yet" in node.log()
    taken.close()
    eventually(lambda: "The kubelet API listens" in node.log(), 15, "the port is taken up")


# -- logs -------------------------------------------------------------------------------------------------------------------

def test_log_options(api_node, admin):
    name = run_pod(api_node, "log", "for i in 1 2 3 4 5; do echo line$i; sleep 0.02; done; echo oops >&2; sleep 100000")
    wait_log(admin, log_path(name), "oops")
    text = admin.get(log_path(name))[1]
    assert [x for x in text.splitlines() if x != "oops"] == [f"line{i}" for i in range(1, 6)]
    assert admin.get(log_path(name, stream="Stdout"))[1].splitlines() == [f"line{i}" for i in range(1, 6)]
    assert admin.get(log_path(name, stream="Stderr")) == (200, "oops\n")
    assert admin.get(log_path(name, tailLines=2)) == (200, "".join(text.splitlines(True)[-2:]))
    assert admin.get(log_path(name, tailLines=0)) == (200, "")
    assert admin.get(log_path(name, tailLines=100)) == (200, text)
    assert admin.get(log_path(name, limitBytes=7)) == (200, text[:7])
    assert admin.get(log_path(name, sinceSeconds=3600)) == (200, text)
    assert admin.get(log_path(name, sinceTime="2100-01-01T00:00:00Z")) == (200, "")
    stamped = admin.get(log_path(name, timestamps="true"))[1].splitlines()
    assert len(stamped) == 6 and all(len(x.split(" ", 1)[0]) >= 30 for x in stamped)
    middle = stamped[3].split(" ", 1)[0]
    assert admin.get(log_path(name, sinceTime=middle)) == (200, "line4\nline5\noops\n")


def test_log_refusals(api_node, admin):
    name = run_pod(api_node, "log", "echo a; sleep 100000")
    for query, status in [("tailLines=-1", 422), ("tailLines=x", 400), ("limitBytes=0", 422), ("sinceSeconds=0", 422),
                          ("sinceTime=soon", 400), ("sinceSeconds=1&sinceTime=2020-01-01T00:00:00Z", 422), ("stream=Both", 422),
                          ("stream=Stdout&tailLines=1", 422), ("previous=true", 400)]:
        assert admin.get(f"/containerLogs/default/{name}/c?{query}")[0] == status, query
    assert admin.get(f"/containerLogs/default/{name}/d") == (404, f'container "d" not found in pod "{name}"\n')
    assert admin.get("/containerLogs/default/nobody/c") == (404, 'pod "nobody" does not exist\n')
    assert admin.get(f"/containerLogs/other/{name}/c")[0] == 404


def test_previous_log(api_node, admin):
    name = run_pod(api_node, "again", "echo run $(cat /tmp/n 2>/dev/null); exit 1")
    eventually(lambda: admin.get(log_path(name, previous="true"))[0] == 200, 30, "a previous run")
    assert admin.get(log_path(name, previous="true"))[1].startswith("run")


def test_large_log_is_whole(api_node, admin):
    name = run_pod(api_node, "big", "i=0; while [ $i -lt 200000 ]; do echo 0123456789-$i; i=$((i+1)); done; echo end; sleep 100000")
    eventually(lambda: admin.get(log_path(name, tailLines=1))[1] == "end\n", 60, "all written")
    lines = admin.get(log_path(name))[1].splitlines()
    assert lines[:-1] == [f"0123456789-{i}" for i in range(200000)]
    tail = admin.get(log_path(name, tailLines=50001))[1].splitlines()
    assert tail == lines[-50001:]


def test_follow(api_node, admin):
    name = run_pod(api_node, "talk", "i=0; while [ $i -lt 20 ]; do echo $i; sleep 0.2; i=$((i+1)); done")
    with contextlib.closing(admin.connect(30)) as s:
        s.sendall(head("GET", log_path(name, follow="true", tailLines=100), "Connection: close"))
        got = read_all(s)
    assert b"Transfer-Encoding: chunked" in got and got.endswith(b"0\r\n\r\n")
    words = [x for x in got.split(b"\r\n\r\n", 1)[1].replace(b"\r\n", b"\n").split(b"\n") if x]
    assert [int(w) for w in words if w.isdigit()].count(19) >= 1


def test_follow_across_rotation(api_node, admin):
    name = run_pod(api_node, "turn", "echo first; sleep 100000")
    wait_log(admin, log_path(name), "first")
    path = next((api_node.dir / "logs").glob(f"default_{name}_*/c/0.log"))
    with contextlib.closing(admin.connect(20)) as s:
        s.sendall(head("GET", log_path(name, follow="true")))
        wait_for(s, b"first")
        with open(path, "a") as f:
            f.write("2026-01-01T00:00:00.000000000Z stdout F before\n")
        path.rename(path.with_suffix(".log.20260101-000000"))
        path.write_text("2026-01-01T00:00:00.000000000Z stdout F after\n")
        got = wait_for(s, b"after")
        assert b"before" in got
        begin = time.monotonic()
        with open(path, "a") as f:
            f.write("2026-01-01T00:00:00.000000000Z stdout F soon\n")
        wait_for(s, b"soon")
        assert time.monotonic() - begin < 0.5


def test_links_in_the_log_directory_lead_nowhere(api_node, admin):
    name = run_pod(api_node, "link", "echo a; sleep 100000")
    wait_log(admin, log_path(name), "a\n")
    path = next((api_node.dir / "logs").glob(f"default_{name}_*/c/0.log"))
    kept = path.with_suffix(".kept")
    path.rename(kept)
    path.symlink_to("/etc/shadow")
    status, text = admin.get(log_path(name))
    assert status == 400 and "root:" not in text
    path.unlink()
    os.mkfifo(path)
    assert admin.get(log_path(name))[0] == 400
    path.unlink()
    kept.rename(path)
    assert admin.get(log_path(name)) == (200, "a\n")


def test_clients_that_vanish_while_following(api_node, admin):
    name = run_pod(api_node, "gone", "while :; do echo x; sleep 0.01; done")
    before = len(os.listdir(f"/proc/{api_node.process.pid}/fd"))
    for _ in range(100):
        with contextlib.closing(admin.connect()) as s:
            s.sendall(head("GET", log_path(name, follow="true", tailLines=1)))
            s.recv(100)
    eventually(lambda: len(os.listdir(f"/proc/{api_node.process.pid}/fd")) <= before + 2, 10, "descriptors given back")
