# SPDX-License-Identifier: Apache-2.0
"""exec, attach, port-forward and run of the kubelet API, over every protocol, with clients that behave and others."""

import contextlib
import hashlib
import json
import os
import socket
import struct
import threading
import time
import urllib.parse

import pytest

from support import build, pods, spdy
from support.kubelet import IMAGE, Client, pod_netns, run_pod
from support.wait import eventually
from support.websocket import Channels, Refused, Tunnel

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)


def query(**values):
    return urllib.parse.urlencode([(k, x) for k, v in values.items() for x in (v if isinstance(v, list) else [v])])


def exec_path(pod, *command, uid="", stdin=False, stdout=True, stderr=True, tty=False, verb="exec"):
    asked = {k: "1" for k, v in (("input", stdin), ("output", stdout), ("error", stderr), ("tty", tty)) if v}
    return f"/{verb}/default/{pod}/{uid}c?" + query(command=list(command), **asked)


class Command:
    """A remote command over SPDY, as kubectl makes it."""

    def __init__(self, client, path, protocol="v4.channel.k8s.io", windows=True, **kwargs):
        self.session = client.spdy(path, [protocol] if protocol else [], windows=windows, **kwargs)
        asked = urllib.parse.parse_qs(path.split("?", 1)[1])
        self.error = self.session.open({"streamtype": "error"})
        self.stdin = self._open("stdin", "input" in asked)
        self.stdout = self._open("stdout", "output" in asked)
        self.stderr = self._open("stderr", "error" in asked and "tty" not in asked)
        self.resize = self._open("resize", "tty" in asked and protocol[1:2] in "345")

    def _open(self, kind, wanted):
        return self.session.open({"streamtype": kind}) if wanted else None

    def finish(self):
        """(stdout, stderr, what the error stream says)"""
        self.session.run()
        return tuple(s.received if s else b"" for s in (self.stdout, self.stderr, self.error))


def status_of(text):
    status = json.loads(text)
    if status["status"] == "Success":
        return 0
    assert status["reason"] == "NonZeroExitCode", status
    return int(next(c["message"] for c in status["details"]["causes"] if c["reason"] == "ExitCode"))


@pytest.fixture
def pod(api_node):
    return run_pod(api_node, "web", "trap 'exit 1' TERM; sleep 100000 & wait")


SCRIPT = ["sh", "-c", "read x; echo out $x; echo err >&2; exit 3"]


# -- exec -------------------------------------------------------------------------------------------------------------------

def test_exec_over_spdy_in_every_version(admin, pod, api_node):
    for version in ("v5.", "v4.", "v3.", "v2.", ""):
        c = Command(admin, exec_path(pod, *SCRIPT, stdin=True), f"{version}channel.k8s.io")
        assert c.session.answer["x-stream-protocol-version"] == f"{version}channel.k8s.io"
        c.stdin.send(b"hello\n")
        out, err, status = c.finish()
        assert (out, err) == (b"out hello\n", b"err\n")
        if version in ("v5.", "v4."):
            assert status_of(status) == 3
        else:
            assert status == b"command terminated with non-zero exit code: exit status 3"
    c = Command(admin, exec_path(pod, "true"), "v4.channel.k8s.io")
    assert json.loads(c.finish()[2]) == {"metadata": {}, "status": "Success"}
    uid = json.loads(admin.get("/pods")[1])["items"][0]["metadata"]["uid"]
    c = Command(admin, exec_path(pod, "echo", "by uid", uid=f"{uid}/", stderr=False))
    assert c.finish()[0] == b"by uid\n"


def test_exec_over_websocket_in_every_version(admin, pod):
    for protocol in ("v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io"):
        ws = admin.websocket(exec_path(pod, *SCRIPT, stdin=True), [protocol])
        assert ws.protocol == protocol
        channels = Channels(ws)
        channels.send(STDIN, b"hello\n")
        got = channels.collect()
        assert (got[STDOUT], got[STDERR]) == (b"out hello\n", b"err\n")
        if protocol[0] == "v":
            assert status_of(got[ERROR]) == 3
        assert ws.close_code == 1000
    channels = Channels(admin.websocket(exec_path(pod, "cat", stdin=True), ["v5.channel.k8s.io"]))
    channels.send(STDIN, b"all of it")
    channels.half_close(STDIN)
    got = channels.collect()
    assert got[STDOUT] == b"all of it" and status_of(got[ERROR]) == 0


def test_exec_that_cannot_be(admin, pod, authority, api_node):
    def refused(path, *args, **kwargs):
        with pytest.raises(Refused) as e:
            admin.spdy(path, *args, **kwargs)
        return e.value.status, e.value.body.decode().strip()

    assert refused(exec_path("nobody", "true")) == (404, "pod does not exist")
    assert refused(exec_path(pod, "true").replace("/c?", "/d?")) == (500, 'container not found ("d")')
    assert refused(exec_path(pod, "true", uid="0-0-0-0/")) == (500, 'container not found ("c")')
    assert refused(exec_path(pod, "true").replace("/c?", "/d?").replace("/exec/", "/attach/")) == (
        500, f"container d not found in pod {pod}_default")
    assert refused(exec_path(pod, "true", stdout=False, stderr=False)) == (400, "you must specify at least 1 of stdin, stdout, stderr")
    assert refused(exec_path(pod, "true"), ["v9.channel.k8s.io"])[0] == 403
    assert admin.get(exec_path(pod, "true"), "POST")[0] == 400
    assert admin.get(exec_path(pod, "true"), "PUT")[0] == 405
    out, _, status = Command(admin, exec_path(pod, "no-such-program")).finish()
    status = json.loads(status)
    assert (status["reason"], status["code"]) == ("InternalError", 500)
    assert status["message"].startswith("Internal error occurred: error executing command in container: ")
    assert "executable file not found in $PATH" in status["message"]
    assert "no command specified" in Command(admin, exec_path(pod)).finish()[2].decode()


def test_much_data_both_ways(admin, pod):
    data = os.urandom(1 << 20) * 8
    digest = hashlib.sha256(data).hexdigest()

    def feed(send, end):
        thread = threading.Thread(target=lambda: (send(data), end()))
        thread.start()
        return thread

    # A client without flow control, as kubectl: it writes while another thread reads.
    c = Command(admin, exec_path(pod, "cat", stdin=True, stderr=False), windows=False, shared=True)
    thread = feed(c.stdin.send, c.stdin.close)
    out, _, status = c.finish()
    thread.join()
    assert (len(out), hashlib.sha256(out).hexdigest(), status_of(status)) == (len(data), digest, 0)
    # With windows in both directions.
    c = Command(admin, exec_path(pod, "sha256sum", stdin=True, stderr=False))
    c.stdin.send(data, fin=True)
    assert c.finish()[0].split()[0].decode() == digest
    c = Command(admin, exec_path(pod, "sh", "-c", f"head -c {len(data)} /dev/zero", stderr=False))
    assert c.stdout.read_all() == bytes(len(data)) and c.session.overshoot == 0
    # WebSocket, in messages of all sizes.
    channels = Channels(admin.websocket(exec_path(pod, "cat", stdin=True, stderr=False), ["v5.channel.k8s.io"], shared=True))

    def send():
        at, n = 0, 1
        while at < len(data):
            channels.send(STDIN, data[at:at + n])
            at, n = at + n, min(2 * n, 100000)

    thread = feed(lambda _: send(), lambda: channels.half_close(STDIN))
    got = channels.collect()
    thread.join()
    assert hashlib.sha256(got[STDOUT]).hexdigest() == digest and status_of(got[ERROR]) == 0


def test_exec_with_a_terminal(admin, pod):
    script = "tty; stty size; read x; echo got $x; stty size; echo error >&2; exit 7"
    c = Command(admin, exec_path(pod, "sh", "-c", script, stdin=True, tty=True))
    assert c.stderr is None
    size = lambda columns, rows: json.dumps({"Width": columns, "Height": rows}).encode()
    c.resize.send(size(100, 40))
    while b"40 100" not in c.stdout.received:
        c.session.step()
    c.resize.send(size(120, 50))
    c.session.ping()
    c.stdin.send(b"it\n")
    out, _, status = c.finish()
    assert out.startswith(b"/dev/pts/") and b"got it\r\n" in out and b"50 120\r\n" in out and b"error\r\n" in out
    assert status_of(status) == 7
    channels = Channels(admin.websocket(exec_path(pod, "sh", stdin=True, tty=True), ["v4.channel.k8s.io"]))
    channels.send(RESIZE, size(90, 30))
    channels.send(STDIN, b"stty size; exit 4\n")
    got = channels.collect()
    assert b"30 90\r\n" in got[STDOUT] and status_of(got[ERROR]) == 4
    # A terminal's interrupt is the command's.
    c = Command(admin, exec_path(pod, "sleep", "100000", stdin=True, tty=True))
    c.session.ping()
    eventually(lambda: running(pod_cgroups(admin.node), "sleep\x00100000") == 2, 10, "it runs")
    c.stdin.send(b"\x03")
    assert status_of(c.finish()[2]) == 130


def pod_cgroups(node):
    """All processes of the node's pods, as command lines."""
    found = []
    for root, _, files in os.walk("/sys/fs/cgroup"):
        if node.cgroup in root and "cgroup.procs" in files and ("freezer" in root or not os.path.isdir("/sys/fs/cgroup/freezer")):
            with contextlib.suppress(OSError), open(os.path.join(root, "cgroup.procs")) as f:
                found += f.read().split()
    lines = []
    for pid in set(found):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as f:
            lines.append(f.read().rstrip("\x00"))
    return lines


def running(lines, what):
    return sum(what == line for line in lines)


def assert_little_more(node, before, kib=4096):
    """A sanitizer keeps what was freed."""
    more = rss_kib(node.process.pid) - before
    assert build.sanitized() or more < kib, f"{before} KiB + {more} KiB"


def reset(sock):
    """Closes at once, whatever is still on its way."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


# -- clients that do not behave ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("framing", ["spdy", "websocket"])
def test_a_client_that_does_not_read_stops_the_process(admin, pod, api_node, framing):
    command = ["sh", "-c", "while :; do head -c 65536 /dev/zero; echo x >>/tmp/written; done"]
    before = rss_kib(api_node.process.pid)
    if framing == "spdy":
        c = Command(admin, exec_path(pod, *command, stderr=False), windows=False)
        sock = c.session.sock
    else:
        sock = admin.websocket(exec_path(pod, *command, stderr=False), ["v5.channel.k8s.io"]).sock

    def written():
        return int(Command(admin, exec_path(pod, "sh", "-c", "wc -l </tmp/written", stderr=False)).finish()[0] or 0)

    def stands_still():
        n = written()
        time.sleep(0.5)
        return n if n and n == written() else None

    n = eventually(stands_still, 30, "the process waits")
    assert n < 400, f"{n} times 64 KiB were taken in"
    assert_little_more(api_node, before)
    # It goes on when the client reads again.
    got = 0
    while got < (n + 40) * 65536:
        got += len(sock.recv(1 << 18))
    sock.close()
    eventually(lambda: not any("while :" in x for x in pod_cgroups(api_node)), 10, "the command was killed")


def test_a_process_that_does_not_read_stops_the_client(admin, pod, api_node):
    before = rss_kib(api_node.process.pid)
    sock = admin.websocket(exec_path(pod, "sleep", "99999", stdin=True), ["v5.channel.k8s.io"]).sock
    sock.settimeout(1.0)
    sent, message = 0, b"\x82\xff" + struct.pack(">Q", 70001) + b"\0\0\0\0\0" + bytes(70000)
    with contextlib.suppress(socket.timeout):
        while sent < 64 << 20:
            sock.sendall(message)
            sent += len(message)
    assert sent < 32 << 20
    assert_little_more(api_node, before)
    # The client's end is noticed all the same, as soon as the kernel hears of it.
    assert running(pod_cgroups(api_node), "sleep\x0099999") == 1
    reset(sock)
    eventually(lambda: running(pod_cgroups(api_node), "sleep\x0099999") == 0, 15, "the command was killed")


def test_cycles_of_clients_that_vanish_leave_nothing(admin, pod, api_node):
    def state():
        pid = api_node.process.pid
        return len(os.listdir(f"/proc/{pid}/fd")), len(pod_cgroups(api_node))

    def cycle(i):
        path = exec_path(pod, "sh", "-c", "echo ready; exec sleep 77777", stdin=bool(i & 1), tty=not i & 4)
        if i & 2:
            c = Command(admin, path)
            c.stdout.read(1)
            sock = c.session.sock
        else:
            ws = admin.websocket(path, ["v5.channel.k8s.io"])
            channels = Channels(ws)
            while channels.recv()[1] == b"":
                pass
            sock = ws.sock
        reset(sock) if i & 8 else sock.close()

    rounds = int(os.environ.get("KUBELITE_TEST_EXEC_CYCLES", "240"))
    for i in range(32):
        cycle(i)
    eventually(lambda: running(pod_cgroups(api_node), "sleep\x0077777") == 0, 20, "commands killed")
    before, rss = state(), rss_kib(api_node.process.pid)
    for i in range(rounds):
        cycle(i)
    eventually(lambda: state() == before, 20, f"as before: {before}")
    print(f"{rounds} cycles: descriptors and processes {before} -> {state()}, RSS {rss} -> {rss_kib(api_node.process.pid)} KiB")
    assert_little_more(api_node, rss, 1024)


def test_streams_end_with_the_container_the_pod_and_the_daemon(admin, pod, api_node):
    c = Command(admin, exec_path(pod, "sh", "-c", "kill 1; sleep 55555"))
    out, _, status = c.finish()
    assert status_of(status) == 137
    eventually(lambda: '"restartCount":1' in admin.get("/pods")[1] and '"c"' in admin.get("/runningpods/")[1], 30, "the container runs again")
    held = [Command(admin, exec_path(pod, "sleep", "55555")), Command(admin, exec_path(pod, verb="attach"))]
    held[0].session.ping()
    api_node.remove_manifest("web")
    for c in held:
        c.finish()
    assert status_of(held[0].error.received) == 137
    assert status_of(held[1].error.received) == 0
    name = run_pod(api_node, "next", "sleep 99999")
    c = Command(admin, exec_path(name, "sleep", "55555"))
    ws = admin.websocket(exec_path(name, "sleep", "55555"), ["v5.channel.k8s.io"])
    eventually(lambda: running(pod_cgroups(api_node), "sleep\x0055555") == 2, 10, "both run")
    api_node.stop()
    c.session.run()
    with contextlib.suppress(EOFError, OSError):
        Channels(ws).collect()
    eventually(lambda: running(pod_cgroups(api_node), "sleep\x0055555") == 0, 10, "commands of a daemon that stopped")
    api_node.start()
    c = Command(admin, exec_path(name, "sleep", "55555"))
    eventually(lambda: running(pod_cgroups(api_node), "sleep\x0055555") == 1, 10, "it runs")
    api_node.kill9()
    eventually(lambda: running(pod_cgroups(api_node), "sleep\x0055555") == 0, 10, "commands of a daemon that was killed")
    api_node.start()


# -- attach -----------------------------------------------------------------------------------------------------------------

def test_attach_with_several_clients(admin, api_node):
    name = run_pod(api_node, "talk", "while read x; do echo got $x; echo err $x >&2; done; echo over; sleep 100000", stdin=True)
    path = exec_path(name, verb="attach", stdin=True)
    first, second = Command(admin, path), Command(admin, path)
    ws = Channels(admin.websocket(exec_path(name, verb="attach", stderr=False), ["v5.channel.k8s.io"]))
    ws.recv()
    for c in (first, second):
        c.session.ping()
    time.sleep(0.5)
    first.stdin.send(b"one\n")
    for c in (first, second):
        assert c.stdout.read(8) == b"got one\n" and c.stderr.read(8) == b"err one\n"
    assert ws.recv() == (STDOUT, b"got one\n")
    first.session.sock.close()
    second.stdin.send(b"two\n")
    assert second.stdout.read(8) == b"got two\n"
    assert ws.recv() == (STDOUT, b"got two\n")
    # The end of one client's input is not the container's.
    second.stdin.close()
    third = Command(admin, path)
    third.session.ping()
    time.sleep(0.3)
    third.stdin.send(b"three\n")
    assert third.stdout.read(10) == b"got three\n"


def test_attach_once_and_with_a_terminal(admin, api_node):
    name = run_pod(api_node, "once", "cat; echo over; sleep 100000", stdin=True, stdinOnce=True)
    c = Command(admin, exec_path(name, verb="attach", stdin=True))
    c.stdin.send(b"all\n", fin=True)
    assert c.stdout.read(9) == b"all\nover\n"
    name = run_pod(api_node, "tty", "stty -echo; while read x; do stty size; done", stdin=True, tty=True)
    c = Command(admin, exec_path(name, verb="attach", stdin=True, tty=True))
    c.resize.send(json.dumps({"Width": 77, "Height": 33}).encode())
    c.session.ping()
    while b"33 77\r\n" not in c.stdout.received:
        c.stdin.send(b"x\n")
        time.sleep(0.1)
        c.session.step()
    api_node.remove_manifest("tty")
    assert status_of(c.finish()[2]) == 0


# -- port-forward -----------------------------------------------------------------------------------------------------------

class Echo:
    """Servers in a pod's network: "got", then all that comes, then "end"."""

    def __init__(self, node):
        self.netns = pod_netns(node)
        self.sockets = [self.netns.listen("127.0.0.1", 8000), self.netns.listen("::1", 8006)]
        for s in self.sockets:
            threading.Thread(target=self._accept, args=(s,), daemon=True).start()

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(listener.accept()[0],), daemon=True).start()

    def _serve(self, peer):
        with contextlib.suppress(OSError), contextlib.closing(peer):
            begun = False
            while data := peer.recv(65536):
                peer.sendall((b"" if begun else b"got ") + data)
                begun = True
            peer.sendall(b"end\n")

    def close(self):
        for s in self.sockets:
            s.shutdown(socket.SHUT_RDWR)
            s.close()


@pytest.fixture
def served(pod, api_node):
    with contextlib.closing(Echo(api_node)):
        yield pod


def forward_path(name, **more):
    return f"/portForward/default/{name}" + (f"?{query(**more)}" if more else "")


class Forward:
    """A port-forward session over SPDY."""

    def __init__(self, session):
        self.session, self.next = session, 0

    def open(self, port, request_id=True):
        headers = {"streamtype": "error", "port": str(port)}
        if request_id:
            headers["requestid"] = str(self.next)
            self.next += 1
        error = self.session.open(headers)
        error.close()
        data = self.session.open({**headers, "streamtype": "data"})
        return data, error


def talk(forward, port, text=b"hello"):
    data, error = forward.open(port)
    data.send(text + b"\nmore", fin=True)
    return data, error


def check_forward(forward):
    data, error = talk(forward, 8000)
    assert data.read_all() == b"got hello\nmoreend\n" and error.read_all() == b""
    data, error = talk(forward, 8006)
    assert data.read_all() == b"got hello\nmoreend\n", error.read_all()
    _, error = talk(forward, 8001)
    return error.read_all().decode()


def test_port_forward_over_spdy_and_tunnel(admin, served, api_node):
    uid = json.loads(admin.get("/pods")[1])["items"][0]["metadata"]["uid"]
    text = check_forward(Forward(admin.spdy(forward_path(served), ["portforward.k8s.io"])))
    assert text.startswith(f"error forwarding port 8001 to pod {served}, uid {uid}: failed to connect to localhost:8001 inside namespace ")
    assert "IPv4: Connection refused" in text and "IPv6: Connection refused" in text
    ws = admin.websocket(f"/portForward/default/{served}/{uid}", ["SPDY/3.1+portforward.k8s.io"])
    assert check_forward(Forward(spdy.Session(Tunnel(ws)))) == text
    # Old clients name no connection.
    data, _ = Forward(admin.spdy(forward_path(served), ["portforward.k8s.io"])).open(8000, request_id=False)
    data.send(b"old\n", fin=True)
    assert data.read_all() == b"got old\nend\n"

    def refused(path):
        with pytest.raises(Refused) as e:
            admin.spdy(path, ["portforward.k8s.io"])
        return e.value.status, e.value.body.decode().strip()

    assert refused(forward_path("nobody")) == (404, "pod does not exist")
    assert refused(f"/portForward/default/{served}/0-0-0") == (404, "pod not found")


def test_port_forward_over_websocket_channels(admin, served, api_node):
    for protocol in ("v4.channel.k8s.io", "v4.base64.channel.k8s.io"):
        channels = Channels(admin.websocket(forward_path(served, port="8000,8001"), [protocol]))
        first = [channels.recv() for _ in range(4)]
        assert first == [(0, struct.pack("<H", 8000)), (1, struct.pack("<H", 8000)), (2, struct.pack("<H", 8001)),
                         (3, struct.pack("<H", 8001))]
        channel, text = channels.recv()
        assert channel == 3 and b"Connection refused" in text
        channels.send(0, b"ws\n")
        assert channels.recv() == (0, b"got ws\n")
        channels.ws.close()
    for ports, text in (("", 'query parameter "port" is required'), ("?port=x", 'unable to parse "x" as a port'),
                        ("?port=0", 'port "0" must be > 0'), ("?port=70000", 'unable to parse "70000" as a port')):
        with pytest.raises(Refused) as e:
            admin.websocket(forward_path(served) + ports, ["v4.channel.k8s.io"])
        assert e.value.status == 400 and text in e.value.body.decode()


def test_many_port_forward_connections(admin, served, api_node):
    before = len(os.listdir(f"/proc/{api_node.process.pid}/fd"))
    sessions = [Forward(admin.spdy(forward_path(served), ["portforward.k8s.io"])) for _ in range(3)]
    for round in range(2):
        opened = [(i, *s.open(8000)) for s in sessions for i in range(40)]
        for i, data, _ in reversed(opened):
            data.send(f"{i}\n".encode())
        for i, data, _ in opened:
            assert data.read(len(f"got {i}\n")) == f"got {i}\n".encode()
        for i, data, _ in opened:
            if i % 3 == 0:
                data.cancel()
            else:
                data.close()
        for i, data, _ in opened:
            if i % 3:
                assert data.read_all() == b"end\n"
    for s in sessions:
        s.session.ping()
        s.session.sock.close()
    eventually(lambda: len(os.listdir(f"/proc/{api_node.process.pid}/fd")) <= before, 10, "descriptors given back")


def test_port_forward_holds_back_and_ends_with_its_pod(admin, served, api_node, netns):
    flood = pod_netns(api_node).listen("127.0.0.1", 8001)
    before = rss_kib(api_node.process.pid)
    forward = Forward(admin.spdy(forward_path(served), ["portforward.k8s.io"]))
    # More for all streams together than for one: only so can one stand still without the others.
    forward.session.sock.sendall(spdy.window_update(0, 1 << 24))
    forward.session.credit[0] += 1 << 24
    data, _ = forward.open(8001)
    peer = flood.accept()[0]
    peer.settimeout(1.0)
    sent = 0
    with contextlib.closing(flood), contextlib.suppress(socket.timeout):
        while sent < 256 << 20:
            sent += peer.send(bytes(1 << 20))
    assert sent < 128 << 20
    peer.settimeout(None)
    for _ in range(64):
        assert data.read(16384) == bytes(16384)
    # One connection that is not read does not hold back another.
    other, _ = forward.open(8006)
    other.send(b"x" * 300000, fin=True)
    assert len(other.read_all()) == 300000 + len("got end\n")
    assert forward.session.overshoot == 0
    assert_little_more(api_node, before)
    api_node.remove_manifest("web")
    forward.session.run()
    host = pods.pod("host", pods.container("c", IMAGE, "sleep 100000"), hostNetwork=True)
    api_node.add_manifest("host", host)
    full = f"host-{api_node.name}"
    api_node.wait_pods(lambda found: [p for p in found if p["name"] == full and p["phase"] == "Running"])
    listener = netns.listen("127.0.0.1", 8765)
    forward = Forward(admin.spdy(forward_path(full), ["portforward.k8s.io"]))
    data, _ = forward.open(8765)
    with contextlib.closing(listener), contextlib.closing(listener.accept()[0]) as peer:
        data.send(b"to the host", fin=True)
        assert peer.recv(100) == b"to the host" and peer.recv(100) == b""
        peer.sendall(b"and back")
        peer.shutdown(socket.SHUT_WR)
        assert data.read_all() == b"and back"


# -- the rest ---------------------------------------------------------------------------------------------------------------

def test_run(admin, pod):
    assert admin.get(f"/run/default/{pod}/c?cmd=echo+a+b", "POST") == (200, "a b\n")
    assert admin.get(f"/run/default/{pod}/c?cmd=false", "POST") == (500, "command 'false' exited with 1: \n")
    assert admin.get(f"/run/default/{pod}/d?cmd=true", "POST") == (500, 'container not found ("d")\n')
    assert admin.get("/run/default/nobody/c?cmd=true", "POST") == (404, "pod does not exist\n")
    assert admin.get(f"/run/default/{pod}/c?cmd=true")[0] == 405


@pytest.mark.release
def test_a_quiet_session_is_not_cut_off(admin, pod):
    assert Command(admin, exec_path(pod, "sh", "-c", "sleep 11; echo done")).finish()[0] == b"done\n"


def test_settings_of_streams(make_node, busybox, authority):
    node = make_node("n1", config={
        "authentication": {"x509": {"clientCAFile": str(authority.cert_path)}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"}, "streamingConnectionIdleTimeout": "1s"})
    node.import_image(busybox, IMAGE)
    client = Client(node, authority.issue("admin"))
    name = run_pod(node, "web", "sleep 100000")
    begin = time.monotonic()
    Command(client, exec_path(name, "sleep", "44444")).finish()
    assert time.monotonic() - begin > 0.9
    eventually(lambda: running(pod_cgroups(node), "sleep\x0044444") == 0, 10, "an idle session's command")
    node.extra_config["enableDebuggingHandlers"] = False
    node.restart()
    for path in (exec_path(name, "true"), exec_path(name, verb="attach"), forward_path(name), f"/run/default/{name}/c", "/runningpods/",
                 f"/containerLogs/default/{name}/c"):
        assert client.get(path, "POST") == (405, "Debug endpoints are disabled.\n"), path
    assert client.get("/pods")[0] == 200
    assert node.cli_json("inspect", node.name)["status"]["declaredFeatures"] == ["ExtendWebSocketsToKubelet"]
