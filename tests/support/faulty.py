# SPDX-License-Identifier: Apache-2.0
"""A registry that misbehaves: a proxy in front of the real one which cuts, stalls, changes or refuses answers.

    with FaultyRegistry(registry) as faulty:
        faulty.fail("cut", "/blobs/", after=1000, times=1)
        node pulls f"{faulty.host}/busybox:1"
        assert faulty.recorded("/blobs/")[-1].headers["Range"] == "bytes=1000-"
"""

import http.server
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

PORT = 5001
FORWARDED = ("Accept", "Range", "Authorization", "User-Agent")
RETURNED = ("Content-Type", "Content-Range", "Docker-Content-Digest", "Location", "WWW-Authenticate", "Accept-Ranges", "ETag")


@dataclass
class Recorded:
    """One request as it came."""

    time: float
    method: str
    path: str
    headers: dict


@dataclass
class Fault:
    """What to do to requests that match."""

    action: str
    pattern: re.Pattern
    times: int
    method: str
    options: dict
    hits: int = 0
    released: threading.Event = field(default_factory=threading.Event)


class FaultyRegistry:
    """Context manager; without faults it is a plain proxy of the registry's http side."""

    def __init__(self, registry, port=PORT):
        self.registry, self.port = registry, port
        self.netns = registry.netns
        self.host = f"{registry.address}:{port}"
        self.requests, self.faults = [], []

    def __enter__(self):
        self.server = _Server(self)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.clear()
        self.server.shutdown()
        self.server.server_close()

    def fail(self, action, pattern=".", times=1 << 60, method="GET", **options):
        """cut: the connection ends after=N bytes of the body. reset: the same by RST. stall: it stays silent after=N bytes.
        status: an error code=N (headers=). replace: another body=. slow: rate=N bytes a second. ignore-range: answers a
        request for a range with everything. Returns the Fault."""
        fault = Fault(action, re.compile(pattern), times, method, options)
        self.faults.append(fault)
        return fault

    def clear(self):
        for fault in self.faults:
            fault.released.set()
        self.faults = []

    def recorded(self, pattern=".", method="GET"):
        return [r for r in list(self.requests) if r.method == method and re.search(pattern, r.path)]

    def fault_for(self, method, path):
        for fault in self.faults:
            if fault.hits < fault.times and fault.method == method and fault.pattern.search(path):
                fault.hits += 1
                return fault
        return None


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, faulty):
        super().__init__((faulty.registry.address, faulty.port), _Handler, bind_and_activate=False)
        self.socket.close()
        self.faulty = faulty
        self.socket = faulty.netns.listen(faulty.registry.address, faulty.port)

    def handle_error(self, request, client_address):
        pass  # clients that break off are what tests are about


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        faulty = self.server.faulty
        faulty.requests.append(Recorded(time.time(), self.command, self.path, dict(self.headers)))
        fault = faulty.fault_for(self.command, self.path)
        action = fault.action if fault else None
        if action == "status":
            self._answer(fault.options.get("code", 500), fault.options.get("headers") or {}, b'{"errors":[]}')
            return
        wanted = {k: self.headers[k] for k in FORWARDED if k in self.headers}
        if action == "ignore-range":
            wanted.pop("Range", None)
        status, headers, body = faulty.registry.request(self.command, self.path, headers=wanted)
        returned = {k: headers[k] for k in RETURNED if k in headers}
        length = int(headers.get("Content-Length") or len(body))
        if action == "replace":
            body = fault.options["body"]
            length = len(body)
        self._answer(status, returned, body, length, fault)

    do_HEAD = do_GET

    def _answer(self, status, headers, body, length=None, fault=None):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self._body(body, fault)

    def _body(self, body, fault):
        action = fault.action if fault else None
        if action == "slow":
            self._slowly(body, fault)
        elif action in ("cut", "reset", "stall"):
            self.wfile.write(body[:fault.options.get("after", 0)])
            self.wfile.flush()
            self._leave(action, fault)
        else:
            self.wfile.write(body)

    def _slowly(self, body, fault):
        step = max(1, fault.options["rate"] // 10)
        for at in range(0, len(body), step):
            self.wfile.write(body[at:at + step])
            self.wfile.flush()
            fault.released.wait(0.1)

    def _leave(self, action, fault):
        self.close_connection = True
        if action == "stall":
            fault.released.wait()
        elif action == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
