# SPDX-License-Identifier: Apache-2.0
"""A small client of the Kubernetes API for tests: plain http.client over a socket made inside the network namespace."""

import base64
import contextlib
import http.client
import json
import ssl
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import yaml

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class ApiError(Exception):
    """Any answer of 400 and above; `body` is the Status object when the server sent one."""

    def __init__(self, method, path, status, body):
        message = body.get("message") if isinstance(body, dict) else body
        super().__init__(f"{method} {path}: {status} {message}")
        self.status = status
        self.body = body


@dataclass
class Event:
    """One line of a watch."""

    type: str
    object: dict


class _Connection(http.client.HTTPConnection):
    def __init__(self, api, timeout):
        super().__init__(api.host, api.port, timeout=timeout)
        self._api = api

    def connect(self):
        raw = self._api.dial(self.host, self.port, self.timeout)
        context = self._api.context
        self.sock = context.wrap_socket(raw, server_hostname=self.host) if context else raw


class Api:
    """A client with one identity. `dial(host, port, timeout)` returns a connected socket: NetNs.connect is one."""

    def __init__(self, host, port, dial, *, ca=None, pair=None, token=None, tls=True):
        self.host, self.port, self.dial, self.token = host, port, dial, token
        self.context = None
        if tls:
            self.context = ssl.create_default_context(cafile=str(ca) if ca else None)
            if pair:
                self.context.load_cert_chain(str(pair.cert), str(pair.key))

    def request(self, method, path, body=None, *, content_type="application/json", headers=None, timeout=30.0):
        """Returns (status, headers, body bytes) and judges nothing."""
        connection = _Connection(self, timeout)
        with contextlib.closing(connection):
            connection.request(method, path, _encode(body), self._headers(content_type, headers))
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def _headers(self, content_type=None, more=None):
        headers = {"Accept": "application/json", "User-Agent": "kubelite-tests"}
        if content_type:
            headers["Content-Type"] = content_type
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return {**headers, **(more or {})}

    def call(self, method, path, body=None, query=None, **kwargs):
        """The decoded answer; ApiError when it is one."""
        if query:
            path += "?" + urllib.parse.urlencode(query)
        status, _, data = self.request(method, path, body, **kwargs)
        value = _decode(data)
        if status >= 400:
            raise ApiError(method, path, status, value)
        return value

    def get(self, path, query=None, **kwargs):
        return self.call("GET", path, query=query, **kwargs)

    def post(self, path, body, **kwargs):
        return self.call("POST", path, body, **kwargs)

    def put(self, path, body, **kwargs):
        return self.call("PUT", path, body, **kwargs)

    def patch(self, path, body, kind=STRATEGIC, **kwargs):
        return self.call("PATCH", path, body, content_type=kind, **kwargs)

    def delete(self, path, grace=None, **kwargs):
        body = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        return self.call("DELETE", path, body, **kwargs)

    def get_or_none(self, path):
        try:
            return self.get(path)
        except ApiError as e:
            if e.status != 404:
                raise
            return None

    def watch(self, path, version, timeout=30.0, query=None):
        """Yields Events after `version` until `timeout` passes. An ERROR event is raised as ApiError."""
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", **(query or {})}
        path += "?" + urllib.parse.urlencode(query)
        deadline = time.monotonic() + timeout
        connection = _Connection(self, timeout)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=self._headers())
            sock = connection.sock  # getresponse() takes it away from a connection that will close
            response = connection.getresponse()
            if response.status >= 400:
                raise ApiError("GET", path, response.status, _decode(response.read()))
            yield from _events(path, sock, response, deadline)

    def wait_for(self, path, predicate, timeout=30.0, what=None):
        """Follows one object (or a list) until predicate(object) is true; returns that object.

        The object is None while it does not exist. For a list path the predicate sees the list of items.
        """
        collection, name = _split(path)
        deadline = time.monotonic() + timeout
        follow = _Follow(name)
        while time.monotonic() < deadline:
            try:
                listed = self.get(collection, {"fieldSelector": f"metadata.name={name}"} if name else None)
            except OSError:
                time.sleep(0.1)  # a server that is being restarted
                continue
            follow.reset(listed)
            if predicate(follow.value()):
                return follow.value()
            with contextlib.suppress(_Gone):
                for _ in self._changes(collection, follow, listed, deadline):
                    if predicate(follow.value()):
                        return follow.value()
        shown = json.dumps(follow.value(), indent=1)[-4000:]
        raise AssertionError(f"{what or path}: not within {timeout:g} s, last seen: {shown}")

    def _changes(self, collection, follow, listed, deadline):
        query = {"fieldSelector": f"metadata.name={follow.name}"} if follow.name else None
        version = listed["metadata"]["resourceVersion"]
        try:
            for event in self.watch(collection, version, max(0.01, deadline - time.monotonic()), query):
                if event.type != "BOOKMARK":
                    follow.apply(event)
                    yield event
        except ApiError as e:
            if e.status == 410:
                raise _Gone from e
            raise


class _Gone(Exception):
    pass


class _Follow:
    """What a watch knows of one object or of a collection."""

    def __init__(self, name):
        self.name = name
        self.items = {}

    def reset(self, listed):
        self.items = {_key(i): i for i in listed.get("items") or []}

    def apply(self, event):
        if event.type == "DELETED":
            self.items.pop(_key(event.object), None)
        else:
            self.items[_key(event.object)] = event.object

    def value(self):
        items = list(self.items.values())
        return items if self.name is None else (items[0] if items else None)


def _key(item):
    return item["metadata"].get("namespace"), item["metadata"]["name"]


def _split(path):
    """(collection, name) of an object's path; (collection, None) of a collection's."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if rest[0] == "namespaces" and len(rest) >= 3:
        rest = rest[2:]
    if len(rest) == 1:
        return path, None
    return path.rsplit("/", 1)[0], parts[-1]


def _events(path, sock, response, deadline):
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        sock.settimeout(left)
        try:
            line = response.readline()
        except (TimeoutError, ssl.SSLError, OSError, ValueError):
            return
        if not line:
            return
        event = json.loads(line)
        if event["type"] == "ERROR":
            raise ApiError("WATCH", path, event["object"].get("code", 500), event["object"])
        yield Event(event["type"], event["object"])


def _encode(body):
    if body is None or isinstance(body, (bytes, str)):
        return body
    return json.dumps(body).encode()


def _decode(data):
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")


def kubeconfig(path, server, *, ca=None, pair=None, token=None, token_file=None, inline=False, user=None):
    """Writes a kubeconfig; `inline` puts certificates and key into it instead of their paths."""
    cluster = {"server": server}
    user = dict(user or {})
    _reference(cluster, "certificate-authority", ca, inline)
    if pair:
        _reference(user, "client-certificate", pair.cert, inline)
        _reference(user, "client-key", pair.key, inline)
    if token:
        user["token"] = token
    if token_file:
        user["tokenFile"] = str(token_file)
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "default",
        "clusters": [{"name": "default", "cluster": cluster}],
        "users": [{"name": "default", "user": user}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
    }
    path = Path(path)
    path.write_text(yaml.safe_dump(document))
    path.chmod(0o600)
    return path


def _reference(target, key, file, inline):
    if file is None:
        return
    if inline:
        target[f"{key}-data"] = base64.b64encode(Path(file).read_bytes()).decode()
    else:
        target[key] = str(file)
