# SPDX-License-Identifier: Apache-2.0
"""A SPDY/3.1 client over anything with sendall() and recv(), with header compression and flow control."""

import struct
import zlib

from support.websocket import upgrade

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200,OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin")
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 "
    "Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul "
    "Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,"
    "image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,"
    "sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.")


def _words():
    for word in _WORDS.split():
        for part in ([word] if word != "200,OK" else ["200 OK"]):
            yield struct.pack(">I", len(part)) + part.encode()


DICTIONARY = b"".join(_words()) + _TEXT.encode()

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN, UNIDIRECTIONAL = 1, 2
WINDOW = 65536


def control(kind, body=b"", flags=0, version=3):
    return struct.pack(">HHI", 0x8000 | version, kind, flags << 24 | len(body)) + body


def data(stream, payload=b"", flags=0):
    return struct.pack(">II", stream, flags << 24 | len(payload)) + payload


def rst(stream, status=5):
    return control(RST_STREAM, struct.pack(">II", stream, status))


def ping(number):
    return control(PING, struct.pack(">I", number))


def goaway(last=0, status=0):
    return control(GOAWAY, struct.pack(">II", last, status))


def window_update(stream, delta):
    return control(WINDOW_UPDATE, struct.pack(">II", stream, delta))


def settings(values):
    """{id: value}"""
    body = struct.pack(">I", len(values)) + b"".join(struct.pack(">II", k, v) for k, v in values.items())
    return control(SETTINGS, body)


def plain_block(headers):
    """Header block before compression, from (name, value) pairs."""
    out = struct.pack(">I", len(headers))
    for name, value in headers:
        for text in (name, value):
            raw = text if isinstance(text, bytes) else text.encode()
            out += struct.pack(">I", len(raw)) + raw
    return out


class Compressor:
    """One direction's header compression."""

    def __init__(self, level=9):
        self.z = zlib.compressobj(level, zlib.DEFLATED, 15, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)

    def raw(self, block):
        return self.z.compress(block) + self.z.flush(zlib.Z_SYNC_FLUSH)

    def syn_stream(self, stream, headers, flags=0, block=None):
        block = plain_block(headers) if block is None else block
        return control(SYN_STREAM, struct.pack(">IIBB", stream, 0, 0, 0) + self.raw(block), flags)

    def headers(self, stream, headers, flags=0):
        return control(HEADERS, struct.pack(">I", stream) + self.raw(plain_block(headers)), flags)


class Decompressor:
    def __init__(self):
        self.z = zlib.decompressobj(zdict=DICTIONARY)

    def headers(self, block):
        plain = self.z.decompress(block)
        count, at, out = struct.unpack(">I", plain[:4])[0], 4, []
        for _ in range(2 * count):
            n, = struct.unpack(">I", plain[at:at + 4])
            out.append(plain[at + 4:at + 4 + n].decode())
            at += 4 + n
        if at != len(plain):
            raise ConnectionError("bytes after the last header")
        return dict(zip(out[::2], out[1::2]))


class Stream:
    """One stream of a client."""

    def __init__(self, session, number):
        self.session, self.id = session, number
        self.received, self.unread = b"", 0
        self.replied = self.ended = False
        self.reset = None  # status
        self.window = WINDOW

    def send(self, payload, fin=False):
        """Waits for windows, if the session keeps them."""
        while payload:
            n = min(len(payload), 32768)
            if self.session.windows:
                while min(self.window, self.session.window) <= 0 and self.reset is None:
                    self.session.step()
                n = min(n, self.window, self.session.window)
                self.window -= n
                self.session.window -= n
            if self.reset is not None:
                raise ConnectionError(f"stream {self.id} was reset ({self.reset})")
            self.session.sock.sendall(data(self.id, payload[:n]))
            payload = payload[n:]
        if fin:
            self.close()

    def close(self):
        """Half-closes."""
        self.session.sock.sendall(data(self.id, b"", FIN))

    def cancel(self, status=5):
        self.session.sock.sendall(rst(self.id, status))
        self.reset = status

    def read(self, n):
        """Exactly n bytes, fewer only at the stream's end."""
        while len(self.received) < n and not self.ended and self.reset is None:
            self.session.step()
        out, self.received = self.received[:n], self.received[n:]
        self.session.confirm(self, len(out))
        return out

    def read_all(self):
        out = b""
        while part := self.read(max(1, len(self.received))):
            out += part
        return out


class Session:
    """A client. windows=False ignores flow control, as the Go clients do."""

    def __init__(self, sock, rest=b"", windows=True, headers=None):
        self.sock, self.rest, self.windows = sock, rest, windows
        self.answer = headers or {}
        self.deflate, self.inflate = Compressor(), Decompressor()
        self.streams, self.next_id = {}, 1
        self.window, self.unconfirmed = WINDOW, 0
        self.pings, self.goaway = [], None
        self.overshoot = 0  # bytes that came against the windows
        self.credit = {0: WINDOW}

    @classmethod
    def connect(cls, sock, target, protocols=(), headers=(), host="localhost", method="POST", windows=True):
        asked = [("Upgrade", "SPDY/3.1")] + [("X-Stream-Protocol-Version", p) for p in protocols]
        answer, rest = upgrade(sock, target, asked + list(headers), host=host, method=method)
        return cls(sock, rest, windows, answer)

    def open(self, headers, flags=0, wait=True):
        stream = Stream(self, self.next_id)
        self.next_id += 2
        self.streams[stream.id] = stream
        self.credit[stream.id] = WINDOW
        self.sock.sendall(self.deflate.syn_stream(stream.id, list(headers.items()), flags))
        while wait and not stream.replied and stream.reset is None:
            self.step()
        return stream

    def ping(self, number=1):
        self.sock.sendall(ping(number))
        while number not in self.pings:
            self.step()

    def close(self):
        self.sock.sendall(goaway())

    def confirm(self, stream, n):
        if not self.windows or n == 0:
            return
        stream.unread += n
        self.unconfirmed += n
        if stream.unread >= WINDOW // 2 and not stream.ended:
            self.sock.sendall(window_update(stream.id, stream.unread))
            self.credit[stream.id] += stream.unread
            stream.unread = 0
        if self.unconfirmed >= WINDOW // 2:
            self.sock.sendall(window_update(0, self.unconfirmed))
            self.credit[0] += self.unconfirmed
            self.unconfirmed = 0

    def _read(self, n):
        while len(self.rest) < n:
            more = self.sock.recv(1 << 18)
            if not more:
                for stream in self.streams.values():
                    stream.ended = True
                raise EOFError("the server closed the connection")
            self.rest += more
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def step(self):
        """Reads one frame."""
        first, second = struct.unpack(">II", self._read(8))
        flags, body = second >> 24, self._read(second & 0xffffff)
        if first >> 31:
            self._control(first & 0xffff, flags, body)
        else:
            self._data(first, flags, body)

    def run(self):
        """To the end."""
        try:
            while True:
                self.step()
        except EOFError:
            pass

    def _data(self, number, flags, body):
        stream = self.streams[number]
        if not stream.replied:
            raise ConnectionError("data before the reply")
        for key in (0, number):
            self.credit[key] -= len(body)
            self.overshoot += max(0, -self.credit[key])
        stream.received += body
        stream.ended |= bool(flags & FIN)

    def _control(self, kind, flags, body):
        number = struct.unpack(">I", body[:4])[0] & 0x7fffffff
        stream = self.streams.get(number)
        if kind == SYN_REPLY:
            self.inflate.headers(body[4:])
            stream.replied = True
        elif kind == RST_STREAM:
            if stream:
                stream.reset = struct.unpack(">I", body[4:])[0]
        elif kind == PING:
            self.pings.append(number)
        elif kind == GOAWAY:
            self.goaway = struct.unpack(">I", body[4:])[0]
        elif kind == WINDOW_UPDATE:
            delta, = struct.unpack(">I", body[4:])
            if number == 0:
                self.window += delta
            elif stream:
                stream.window += delta
        else:
            raise ConnectionError(f"unexpected frame {kind}")
