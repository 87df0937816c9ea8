# SPDX-License-Identifier: Apache-2.0
"""How long the API server's clients wait: requests on a kept connection, a watch that stamps every line on arrival."""

import http.client
import json
import socket
import threading
import time

from support import pods


class Connection:
    """Requests one after the other on one connection (a TLS handshake each would be most of what is measured)."""

    def __init__(self, api):
        self.api = api
        self.connection = None

    def request(self, method, path, body=None):
        """Returns when the request was sent."""
        if self.connection is None:
            self.connection = _connect(self.api)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        data = json.dumps(body) if body is not None else None
        sent = time.monotonic()
        self.connection.request(method, path, data, headers)
        response = self.connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {text[:300]!r}")
        return sent


def _connect(api):
    connection = http.client.HTTPSConnection(api.host, api.port, timeout=120, context=api.context)
    raw = api.dial(api.host, api.port, 10.0)
    raw.settimeout(120)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sock = api.context.wrap_socket(raw, server_hostname=api.host)
    return connection


class Watch:
    """A watch of one namespace's pods. Remembers when each pod was first seen Running and when DELETED."""

    def __init__(self, api, namespace):
        self.running, self.deleted, self.updates, self.failed = {}, {}, {}, {}
        self._changed = threading.Condition()
        self._connection = _connect(api)
        version = api.get(pods.collection(namespace))["metadata"]["resourceVersion"]
        self._connection.request("GET", f"{pods.collection(namespace)}?watch=1&resourceVersion={version}",
                                 headers={"Accept": "application/json"})
        self._response = self._connection.getresponse()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        while True:
            try:
                line = self._response.readline()
            except (OSError, ValueError):
                return
            now = time.monotonic()
            if not line:
                return
            event = json.loads(line)
            self._note(event["type"], event["object"], now)

    def _note(self, kind, pod, now):
        name, phase = pod["metadata"]["name"], pods.phase(pod)
        with self._changed:
            if kind == "MODIFIED":
                self.updates.setdefault(name, []).append(now)
            if kind == "DELETED":
                self.deleted.setdefault(name, now)
            elif phase == "Running":
                self.running.setdefault(name, now)
            elif phase == "Failed":
                self.failed[name] = pod["status"]
            self._changed.notify_all()

    def wait(self, table, names, timeout):
        """Until all names are in the table (self.running or self.deleted); returns when the last one came."""
        names = set(names)
        with self._changed:
            done = self._changed.wait_for(lambda: names <= table.keys() or self.failed, timeout)
            if self.failed:
                raise RuntimeError(f"pods failed: {self.failed}")
            if not done:
                raise RuntimeError(f"not within {timeout} s: {sorted(names - table.keys())[:5]} ...")
            return max(table[n] for n in names)
