# SPDX-License-Identifier: Apache-2.0
"""A WebSocket client (RFC 6455) over any connected socket, and a tunnel that looks like one."""

import base64
import hashlib
import os
import struct

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def accept_key(key):
    """What a server must answer to this Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def frame(opcode, payload=b"", *, fin=True, mask=None, masked=True, rsv=0):
    """One frame; a random mask unless one is given."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", len(payload))
    if not masked:
        return head + payload
    mask = os.urandom(4) if mask is None else mask
    wide = mask * (len(payload) // 4 + 1)
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(wide[:len(payload)], "big")
    return head + mask + mixed.to_bytes(len(payload), "big")


class Refused(Exception):
    """The server did not switch protocols."""

    def __init__(self, status, headers, body):
        super().__init__(f"{status}: {body[:200]!r}")
        self.status, self.headers, self.body = status, headers, body


def read_head(sock):
    """(status, headers in lower case, bytes after the head) of an HTTP/1.1 response."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise ConnectionError(f"the server closed after {data!r}")
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, value = line.split(":", 1)
        headers[name.strip().lower()] = value.strip()
    return int(lines[0].split()[1]), headers, rest


def upgrade(sock, target, headers, *, host="localhost", method="GET"):
    """Sends the request and wants a 101; returns (headers, bytes after the head)."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: Upgrade"]
    lines += [f"{name}: {value}" for name, value in headers]
    sock.sendall("\r\n".join(lines + ["", ""]).encode())
    status, answer, rest = read_head(sock)
    if status != 101:
        length = int(answer.get("content-length", 0))
        while len(rest) < length:
            more = sock.recv(65536)
            if not more:
                break
            rest += more
        raise Refused(status, answer, rest)
    return answer, rest


class WebSocket:
    """Messages over a socket. Pings are answered while somebody reads."""

    def __init__(self, sock, rest=b"", protocol=None):
        self.sock, self.data, self.protocol = sock, rest, protocol
        self.close_code = None
        self.pongs = []

    @classmethod
    def connect(cls, sock, target, protocols=(), headers=(), host="localhost"):
        key = base64.b64encode(os.urandom(16)).decode()
        asked = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]
        if protocols:
            asked.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
        answer, rest = upgrade(sock, target, asked + list(headers), host=host)
        if answer.get("sec-websocket-accept") != accept_key(key):
            raise ConnectionError("wrong Sec-WebSocket-Accept")
        return cls(sock, rest, answer.get("sec-websocket-protocol"))

    def send(self, payload, opcode=BINARY):
        self.sock.sendall(frame(opcode, payload))

    def close(self, code=1000):
        self.send(struct.pack(">H", code), CLOSE)

    def _read(self, n):
        while len(self.data) < n:
            more = self.sock.recv(1 << 18)
            if not more:
                raise EOFError("the server closed the connection")
            self.data += more
        data, self.data = self.data[:n], self.data[n:]
        return data

    def _frame(self):
        first, second = self._read(2)
        length = second & 0x7f
        if length == 126:
            length, = struct.unpack(">H", self._read(2))
        elif length == 127:
            length, = struct.unpack(">Q", self._read(8))
        if second & 0x80 or first & 0x70:
            raise ConnectionError("a server's frame is masked or has extension bits")
        return first & 0x0f, bool(first & 0x80), self._read(length)

    def recv(self):
        """(opcode, message); None after the server's close frame."""
        message, kind = b"", None
        while True:
            opcode, fin, payload = self._frame()
            if opcode == PING:
                self.send(payload, PONG)
            elif opcode == PONG:
                self.pongs.append(payload)
            elif opcode == CLOSE:
                self.close_code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                return None
            else:
                kind = opcode if kind is None else kind
                message += payload
                if fin:
                    return kind, message


class Channels:
    """The channel protocols of Kubernetes: messages that begin with a channel's number."""

    def __init__(self, ws):
        self.ws = ws
        self.text = bool(ws.protocol) and "base64" in ws.protocol

    def send(self, channel, payload):
        if self.text:
            self.ws.send(bytes([ord("0") + channel]) + base64.b64encode(payload), TEXT)
        else:
            self.ws.send(bytes([channel]) + payload)

    def half_close(self, channel):
        """v5: no more input on this channel."""
        self.ws.send(bytes([255, channel]))

    def recv(self):
        """(channel, bytes), or None at the end."""
        got = self.ws.recv()
        if got is None:
            return None
        payload = got[1]
        if self.text:
            return payload[0] - ord("0"), base64.b64decode(payload[1:])
        return payload[0], payload[1:]

    def collect(self):
        """All messages to the end, joined by channel."""
        out = {}
        while (got := self.recv()) is not None:
            out[got[0]] = out.get(got[0], b"") + got[1]
        return out


class Tunnel:
    """Bytes in binary messages: has sendall() and recv() as a socket has."""

    def __init__(self, ws):
        self.ws, self.data = ws, b""

    def sendall(self, data):
        self.ws.send(data)

    def recv(self, n):
        if not self.data:
            got = self.ws.recv()
            if got is None:
                return b""
            self.data = got[1]
        data, self.data = self.data[:n], self.data[n:]
        return data
