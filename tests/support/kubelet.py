# SPDX-License-Identifier: Apache-2.0
"""Clients of a node's kubelet API that see every byte."""

import contextlib
import re
import select
import socket
import ssl
import threading

from support import pods, spdy, websocket
from support.api import Api
from support.netns import NetNs
from support.node import PORT

IMAGE = "docker.io/library/busybox:1"


class Client:
    """Connections to the port with one identity."""

    def __init__(self, node, pair=None, token=None, source=None, port=PORT):
        self.node, self.source, self.port = node, source, port
        self.context = ssl._create_unverified_context()
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.api = Api(node.address, port, lambda host, port, timeout: self.dial(timeout), tls=False, token=token)
        self.api.context = self.context
        if pair:
            self.context.load_cert_chain(str(pair.cert), str(pair.key))

    def get(self, path, method="GET", body=None, **kwargs):
        status, headers, data = self.api.request(method, path, body, **kwargs)
        return status, data.decode(errors="replace")

    def dial(self, timeout=10.0):
        s = self.node.netns.connect(self.node.address, self.port, timeout, self.source)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def connect(self, timeout=10.0):
        return self.context.wrap_socket(self.dial(timeout))

    def raw(self, data, timeout=10.0):
        """Everything that comes back until the server closes, which may be before it has read all."""
        with contextlib.closing(self.connect(timeout)) as s:
            with contextlib.suppress(ssl.SSLEOFError, BrokenPipeError, ConnectionResetError):
                s.sendall(data)
            return read_all(s)

    def spdy(self, path, protocols=(), timeout=30.0, shared=False, **kwargs):
        sock = self.connect(timeout)
        session = spdy.Session.connect(Shared(sock) if shared else sock, path, protocols, host=self.node.name, **kwargs)
        if session.windows:
            # The server counts a client's windows from the moment on when it shows that it has some.
            session.sock.sendall(spdy.settings({7: spdy.WINDOW}))
        return session

    def websocket(self, path, protocols=(), timeout=30.0, shared=False):
        sock = self.connect(timeout)
        return websocket.WebSocket.connect(Shared(sock) if shared else sock, path, protocols, host=self.node.name)


class Shared:
    """A TLS connection that one thread reads and another one writes: OpenSSL lets only one in at a time."""

    def __init__(self, sock):
        self.sock, self.lock, self.timeout = sock, threading.Lock(), sock.gettimeout()
        sock.setblocking(False)

    def _try(self, call, *args):
        """What to wait for, or the call's result."""
        with self.lock:
            try:
                return None, call(*args)
            except ssl.SSLWantReadError:
                return "read", None
            except ssl.SSLWantWriteError:
                return "write", None

    def _until_done(self, call, *args):
        while True:
            wait, result = self._try(call, *args)
            if wait is None:
                return result
            s = [self.sock]
            if not any(select.select(s if wait == "read" else [], s if wait == "write" else [], [], self.timeout)):
                raise socket.timeout("timed out")

    def recv(self, n):
        return self._until_done(self.sock.recv, n)

    def sendall(self, data):
        view = memoryview(data)
        while view:
            view = view[self._until_done(self.sock.send, view):]

    def close(self):
        self.sock.close()


def read_all(s):
    got = b""
    with contextlib.suppress(ssl.SSLError, ConnectionResetError, socket.timeout):
        while True:
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
    return got


def run_pod(node, name, script, **more):
    """A static pod of one container c; its full name."""
    node.add_manifest(name, pods.pod(name, pods.container("c", IMAGE, script, **more)))
    full = f"{name}-{node.name}"
    node.wait_pods(lambda found: [p for p in found if p["name"] == full and p["phase"] != "Pending"], what=f"{name} runs")
    return full


def pod_netns(node):
    """The network of a node's only pod."""
    record, = (node.dir / "state" / "pods").glob("*/sandbox.json")
    return NetNs(name=re.search(r'"id":"([0-9a-f]{64})"', record.read_text())[1])


def head(method, path, *headers):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: n1", *headers, "", ""]).encode()


def wait_for(s, text):
    got = b""
    while text not in got:
        piece = s.recv(4096)
        assert piece, got
        got += piece
    return got
