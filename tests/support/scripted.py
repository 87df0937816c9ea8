# SPDX-License-Identifier: Apache-2.0
"""Servers that do whatever a script says, byte by byte: what no real server would do, or only when it breaks."""

import contextlib
import socket
import ssl
import struct
import threading

H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
REFUSED_STREAM = 7


class Scripted:
    """Context manager: calls script(connection, n) in a thread for the n-th connection (from 0), then closes that."""

    def __init__(self, script, *, context=None, address="127.0.0.1"):
        self.script, self.context = script, context
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.create_server((address, 0), family=family)
        self.address, self.port = self.listener.getsockname()[:2]
        self.n_connections = 0
        self.errors = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc):
        # shutdown() wakes accept(), close() alone does not.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def url(self, host=None):
        return f"{'https' if self.context else 'http'}://{host or self.address}:{self.port}"

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(sock, self.n_connections), daemon=True).start()
                self.n_connections += 1

    def _serve(self, sock, n):
        try:
            if self.context:
                sock = self.context.wrap_socket(sock, server_side=True)
            self.script(Connection(sock), n)
        except (OSError, EOFError) as e:
            self.errors.append(e)
        finally:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            sock.close()


class Connection:
    """One accepted connection."""

    def __init__(self, sock):
        self.sock = sock

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def read_until_end(self, timeout=20):
        """Waits for the peer to close; True if it does."""
        self.sock.settimeout(timeout)
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def reset(self):
        """Closes with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def request(self):
        """Reads an HTTP/1.1 request without looking at its body: (method, path)."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
        return tuple(head.split(b"\r\n")[0].decode().split()[:2])

    def answer(self, body, status="200 OK", content_type="application/json", **headers):
        more = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
        self.send(f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n{body}")

    # HTTP/2 frames

    def h2_start(self, max_streams=100):
        assert self.read(len(H2_PREFACE)) == H2_PREFACE
        self.frame(SETTINGS, 0, 0, struct.pack(">HI", 3, max_streams))

    def frame(self, kind, flags, stream, payload=b""):
        self.send(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)

    def read_frame(self):
        """(kind, flags, stream, payload)"""
        head = self.read(9)
        length = int.from_bytes(head[:3], "big")
        return head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, self.read(length)

    def h2_request(self, answer_pings=True):
        """The stream of the next request; answers what lies in between."""
        while True:
            kind, flags, stream, payload = self.read_frame()
            if kind == SETTINGS and not flags & ACK:
                self.frame(SETTINGS, ACK, 0)
            if kind == PING and not flags & ACK and answer_pings:
                self.frame(PING, ACK, 0, payload)
            if kind == HEADERS:
                return stream

    def h2_answer(self, stream, body, end=True):
        # :status 200 from the static table, content-type as a literal with an indexed name
        self.frame(HEADERS, END_HEADERS, stream, b"\x88\x0f\x10" + bytes([16]) + b"application/json")
        self.frame(DATA, END_STREAM if end else 0, stream, body.encode())


def server_context(pair, alpn=("http/1.1",)):
    """TLS as a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.set_alpn_protocols(list(alpn))
    return context


def relay(connection, port):
    """Joins the connection to a port on loopback until either side ends."""
    with socket.create_connection(("127.0.0.1", port)) as other:
        back = threading.Thread(target=_copy, args=(other, connection.sock), daemon=True)
        back.start()
        _copy(connection.sock, other)
        back.join()


def _copy(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
