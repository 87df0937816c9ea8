# SPDX-License-Identifier: Apache-2.0
"""Clients of a node's kubelet API that see every byte."""

import contextlib
import socket
import ssl

from support.api import Api
from support.node import PORT


class Client:
    """Connections to the port with one identity."""

    def __init__(self, node, pair=None, token=None):
        self.node = node
        self.context = ssl._create_unverified_context()
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.api = Api(node.address, PORT, node.netns.connect, tls=False, token=token)
        self.api.context = self.context
        if pair:
            self.context.load_cert_chain(str(pair.cert), str(pair.key))

    def get(self, path, method="GET", body=None, **kwargs):
        status, headers, data = self.api.request(method, path, body, **kwargs)
        return status, data.decode(errors="replace")

    def dial(self, timeout=10.0):
        return self.node.netns.connect(self.node.address, PORT, timeout)

    def connect(self, timeout=10.0):
        return self.context.wrap_socket(self.dial(timeout))

    def raw(self, data, timeout=10.0):
        """Everything that comes back until the server closes, which may be before it has read all."""
        with contextlib.closing(self.connect(timeout)) as s:
            with contextlib.suppress(ssl.SSLEOFError, BrokenPipeError, ConnectionResetError):
                s.sendall(data)
            return read_all(s)


def read_all(s):
    got = b""
    with contextlib.suppress(ssl.SSLError, ConnectionResetError, socket.timeout):
        while True:
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
    return got


def head(method, path, *headers):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: n1", *headers, "", ""]).encode()


def wait_for(s, text):
    got = b""
    while text not in got:
        piece = s.recv(4096)
        assert piece, got
        got += piece
    return got
