# SPDX-License-Identifier: Apache-2.0
"""A small schema-less API server: for fields that the real one (1.20) drops, and for faults that no real one commits.

It stores whatever JSON it gets: list, watch with bookmarks, the three kinds of writes, the status, resize,
ephemeralcontainers, binding and token subresources, graceful deletion of pods. It authorises everybody, records every
request (`requests`), and misbehaves on demand (`fail`). TLS and HTTP/1.1; served by threads of the test process on a socket
made inside the network namespace.
"""

import base64
import collections
import copy
import datetime
import http.server
import itertools
import json
import re
import socket
import ssl
import struct
import threading
import time
import urllib.parse
import uuid
from dataclasses import dataclass, field

from support import merge, pki, scratch
from support.api import Api, kubeconfig

PORT = 6443
KEPT_EVENTS = 10000
BOOKMARK_SECONDS = 5.0
STATUS_SUBRESOURCES = ("status",)
SPEC_SUBRESOURCES = ("resize", "ephemeralcontainers")


class Refused(Exception):
    """An answer that is a Status of kind Failure."""

    def __init__(self, code, reason, message):
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def status(self):
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
                "reason": self.reason, "code": self.code}


@dataclass
class Recorded:
    """One request as it came."""

    time: float
    method: str
    path: str
    query: dict
    headers: dict
    body: object
    user: str


@dataclass
class Fault:
    """What to do to requests that match; see FakeApi.fail()."""

    action: str
    method: str
    pattern: re.Pattern
    watch: object
    times: int
    options: dict
    hits: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def matches(self, method, path, watch):
        return (self.hits < self.times and self.method in (method, None) and self.pattern.search(path)
                and self.watch in (watch, None))


@dataclass(frozen=True)
class Target:
    """A parsed path."""

    version: str
    resource: str
    namespace: str
    name: str
    subresource: str

    @property
    def collection(self):
        group = self.version.rpartition("/")[0]
        return group, self.resource


def parse_path(path):
    """The Target of /api/v1/... and /apis/GROUP/VERSION/..., None for anything else."""
    parts = [urllib.parse.unquote(p) for p in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) >= 3:
        version, rest = parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        version, rest = "/".join(parts[1:3]), parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    rest += ["", ""]
    return Target(version, rest[0], namespace, rest[1], rest[2])


def _now(offset=0):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=offset)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _value(item, dotted):
    for part in dotted.split("."):
        item = item.get(part) if isinstance(item, dict) else None
    return "" if item is None else str(item)


def selects(item, field_selector="", label_selector=""):
    """Whether an object meets field and label selectors of = and != terms."""
    labels = item["metadata"].get("labels") or {}
    return (_terms(field_selector, lambda k: _value(item, k))
            and _terms(label_selector, lambda k: labels.get(k, "")))


def _terms(selector, value_of):
    for term in filter(None, (selector or "").split(",")):
        key, operator, wanted = re.match(r"([^=!]+)(==|=|!=)?(.*)", term).groups()
        if operator is None:
            equal = bool(value_of(key))
        else:
            equal = (value_of(key) == wanted) == (operator != "!=")
        if not equal:
            return False
    return True


class Store:
    """Objects and their history. Everything under one lock; watchers wait on its condition."""

    def __init__(self):
        self.changed = threading.Condition(threading.RLock())
        self.version = 1
        self.objects = {}
        self.events = collections.deque(maxlen=KEPT_EVENTS)
        self.oldest = 0

    def key(self, target, name=None):
        return (*target.collection, target.namespace, name or target.name)

    def get(self, target):
        try:
            return self.objects[self.key(target)]
        except KeyError:
            raise Refused(404, "NotFound", f'{target.resource} "{target.name}" not found') from None

    def list(self, target, query):
        """Copies of what is selected, and the version of this moment."""
        with self.changed:
            found = [copy.deepcopy(o) for k, o in sorted(self.objects.items()) if self._within(k, target)
                     and selects(o, query.get("fieldSelector"), query.get("labelSelector"))]
            return found, self.version

    def _within(self, key, target):
        return key[:2] == target.collection and target.namespace in ("", key[2]) and target.name in ("", key[3])

    def put(self, key, item, kind):
        """Stores a new state and tells watchers."""
        with self.changed:
            old = self.objects.get(key)
            self.version += 1
            item["metadata"]["resourceVersion"] = str(self.version)
            if kind == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = item
            if len(self.events) == KEPT_EVENTS:
                self.oldest = self.events[0][0]
            self.events.append((self.version, key, kind, item, old))
            self.changed.notify_all()
            return item

    def compact(self):
        """Forgets history: watches from before this moment get 410 Gone."""
        with self.changed:
            self.events.clear()
            self.oldest = self.version

    def since(self, version):
        """Events after version; Refused 410 when they are forgotten."""
        if version < self.oldest:
            raise Refused(410, "Expired", f"too old resource version: {version} ({self.version})")
        return [e for e in self.events if e[0] > version]


class FakeApi:
    """Context manager; `admin` is an Api client, `kubeconfig()` writes a node's credentials."""

    def __init__(self, netns, *, watch_list=False, port=PORT):
        self.netns, self.port, self.watch_list = netns, port, watch_list
        self.store = Store()
        self.requests = []
        self.faults = []
        self.tokens = itertools.count(1)
        self.closing = False
        self.bookmark_seconds = BOOKMARK_SECONDS

    def __enter__(self):
        self.dir = scratch.make("fakeapi")
        self.ca = pki.Authority(self.dir, "fake")
        pair = self.ca.issue("apiserver", names=["localhost", "127.0.0.1", self.netns.address])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(str(pair.cert), str(pair.key))
        self.context.load_verify_locations(str(self.ca.cert_path))
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.set_alpn_protocols(["http/1.1"])
        self.admin_pair = self.ca.issue("admin", groups=["system:masters"])
        self.kubelet_client_pair = self.ca.issue("kube-apiserver-kubelet-client", groups=["system:masters"])
        self.admin = Api(self.netns.address, self.port, self.netns.connect, ca=self.ca.cert_path, pair=self.admin_pair)
        for name in ("default", "kube-system", "kube-node-lease"):
            self.create("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": name}})
        self.open()
        return self

    def __exit__(self, *exc):
        self.close()
        scratch.remove(self.dir)

    def open(self):
        """Starts to listen (again, after close())."""
        self.closing = False
        self.server = _Server(self)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        """Stops listening and breaks every connection: the server is gone."""
        self.closing = True
        for fault in self.faults:
            fault.released.set()
        with self.store.changed:
            self.store.changed.notify_all()
        self.server.shutdown()
        self.server.server_close()
        self.server.break_connections()

    @property
    def url(self):
        return f"https://{self.netns.address}:{self.port}"

    def kubeconfig(self, node, **kwargs):
        """Credentials of system:node:<node>, as a file."""
        if not {"token", "token_file", "pair"} & set(kwargs):
            kwargs["pair"] = self.ca.issue(f"system:node:{node}", groups=["system:nodes"])
        kwargs.setdefault("ca", self.ca.cert_path)
        return kubeconfig(self.dir / f"{node}.kubeconfig", self.url, **kwargs)

    def node_kubeconfig(self, node, inline=False):
        """As Cluster's: a Node takes either."""
        return self.kubeconfig(node, inline=inline)

    # -- faults ---------------------------------------------------------------------------------------------------------

    def fail(self, action, path=".", method=None, watch=None, times=1 << 60, **options):
        """Requests whose path matches are answered wrongly, `times` times. Returns the Fault (`hits`, `clear()`).

        reset: the connection is reset. hang: no answer until released. garbage: bytes that are no HTTP. status: an error
        (code=, reason=, message=, headers=). truncate: half a body. gone: 410. huge: a watch line of size= bytes, never
        ended. break: a watch line that is no JSON. silent: a watch that never says anything.
        """
        fault = Fault(action, method, re.compile(path), watch, times, options)
        self.faults.append(fault)
        return fault

    def clear(self, fault=None):
        """Ends one fault, or all."""
        for each in [fault] if fault else list(self.faults):
            each.released.set()
            if each in self.faults:
                self.faults.remove(each)

    def fault_for(self, method, path, watch):
        for fault in self.faults:
            if fault.matches(method, path, watch):
                fault.hits += 1
                return fault
        return None

    # -- what tests do directly -----------------------------------------------------------------------------------------

    def create(self, path, item):
        """Stores an object as a POST to a collection would."""
        return self.do_create(parse_path(path), copy.deepcopy(item))

    def recorded(self, method=None, pattern="."):
        """The requests so far that match."""
        return [r for r in list(self.requests) if method in (None, r.method) and re.search(pattern, r.path)]

    # -- verbs ----------------------------------------------------------------------------------------------------------

    def do_create(self, target, item):
        metadata = item.setdefault("metadata", {})
        if target.name and target.subresource:
            return self._create_subresource(target, item)
        if not metadata.get("name"):
            metadata["name"] = metadata.get("generateName", "") + uuid.uuid4().hex[:5]
        if target.namespace:
            metadata["namespace"] = target.namespace
        key = self.store.key(target, metadata["name"])
        with self.store.changed:
            if key in self.store.objects:
                raise Refused(409, "AlreadyExists", f'{target.resource} "{metadata["name"]}" already exists')
            metadata.update(uid=str(uuid.uuid4()), creationTimestamp=_now())
            item.setdefault("apiVersion", target.version)
            if "spec" in item:
                metadata["generation"] = 1
            if target.resource == "pods":
                item.setdefault("status", {}).setdefault("phase", "Pending")
            return self.store.put(key, item, "ADDED")

    def _create_subresource(self, target, item):
        if (target.resource, target.subresource) == ("serviceaccounts", "token"):
            return self._token(target, item)
        if (target.resource, target.subresource) == ("pods", "binding"):
            return self.update(target, lambda o: o["spec"].update(nodeName=item["target"]["name"]))
        if (target.resource, target.subresource) == ("pods", "eviction"):
            return self.do_delete(Target("v1", "pods", target.namespace, target.name, ""), item.get("deleteOptions") or {})
        raise Refused(405, "MethodNotAllowed", f"no create of {target.subresource}")

    def _token(self, target, item):
        spec = item.get("spec") or {}
        seconds = spec.get("expirationSeconds") or 3600
        claims = {"sub": f"system:serviceaccount:{target.namespace}:{target.name}", "n": next(self.tokens),
                  "aud": spec.get("audiences") or [], "exp": int(time.time()) + seconds}
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        item["status"] = {"token": f"eyJhbGciOiJub25lIn0.{body}.x", "expirationTimestamp": _now(seconds)}
        return item

    def update(self, target, change):
        """Applies change(object) and stores what it leaves; returns the new object."""
        with self.store.changed:
            old = self.store.get(target)
            new = copy.deepcopy(old)
            change(new)
            _keep_identity(old, new)
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
            if new == old:
                return old
            kind = "MODIFIED"
            if new["metadata"].get("deletionTimestamp") and not _held(new):
                kind = "DELETED"
            return self.store.put(self.store.key(target), new, kind)

    def do_patch(self, target, patch, content_type):
        def change(item):
            uid = (patch.get("metadata") or {}).get("uid")
            if uid and uid != item["metadata"]["uid"]:
                raise Refused(409, "Conflict", f"the UID in the precondition ({uid}) does not match the UID in record")
            if content_type.startswith("application/strategic-merge-patch+json"):
                result = merge.strategic(item, patch)
            elif content_type.startswith("application/merge-patch+json"):
                result = merge.merge_patch(item, patch)
            else:
                raise Refused(415, "UnsupportedMediaType", f"no patches of type {content_type}")
            _only_part(target.subresource, item, result)
        return self.update(target, change)

    def do_put(self, target, item):
        def change(old):
            sent = (item.get("metadata") or {}).get("resourceVersion")
            if sent and sent != old["metadata"]["resourceVersion"]:
                raise Refused(409, "Conflict", "the object has been modified; please apply your changes to the latest version")
            _only_part(target.subresource, old, copy.deepcopy(item))
        return self.update(target, change)

    def do_delete(self, target, options):
        with self.store.changed:
            item = self.store.get(target)
            wanted = (options.get("preconditions") or {}).get("uid")
            if wanted and wanted != item["metadata"]["uid"]:
                raise Refused(409, "Conflict", "Precondition failed: UID in precondition does not match UID in object meta")
            grace = self._grace(target, item, options)
            if grace or item["metadata"].get("finalizers"):
                return self._mark_deleted(target, item, grace)
            return self.store.put(self.store.key(target), copy.deepcopy(item), "DELETED")

    def _grace(self, target, item, options):
        if target.resource != "pods" or not item["spec"].get("nodeName"):
            return 0
        grace = options.get("gracePeriodSeconds")
        if grace is None:
            grace = item["spec"].get("terminationGracePeriodSeconds", 30)
        if "deletionTimestamp" in item["metadata"]:
            grace = min(grace, item["metadata"]["deletionGracePeriodSeconds"])
        return grace

    def _mark_deleted(self, target, item, grace):
        new = copy.deepcopy(item)
        metadata = new["metadata"]
        metadata.setdefault("deletionTimestamp", _now(grace))
        metadata["deletionGracePeriodSeconds"] = grace
        return self.store.put(self.store.key(target), new, "MODIFIED")


def _held(item):
    """An object under deletion stays while finalizers or a grace period hold it."""
    return item["metadata"].get("finalizers") or item["metadata"].get("deletionGracePeriodSeconds")


def _keep_identity(old, new):
    for key in ("name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion"):
        if key in old["metadata"]:
            new["metadata"][key] = old["metadata"][key]


def _only_part(subresource, item, result):
    """Moves into item what a write to this subresource may change."""
    if subresource in STATUS_SUBRESOURCES:
        item["status"] = result.get("status") or {}
        for key in ("labels", "annotations"):
            if key in result.get("metadata", {}):
                item["metadata"][key] = result["metadata"][key]
        return
    status = item.get("status")
    if subresource not in SPEC_SUBRESOURCES:
        item.clear()
        item.update(result)
    else:
        item["spec"] = result.get("spec", item.get("spec"))
    if status is not None:
        item["status"] = status


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, fake):
        super().__init__((fake.netns.address, fake.port), _Handler, bind_and_activate=False)
        self.socket.close()
        self.fake = fake
        self.connections = set()
        self.socket = fake.netns.listen(fake.netns.address, fake.port)

    def get_request(self):
        raw, address = self.socket.accept()
        self.connections.add(raw)
        return raw, address

    def finish_request(self, request, client_address):
        # In the connection's own thread: a client that says nothing holds up nobody.
        request.settimeout(600)
        with self.fake.context.wrap_socket(request, server_side=True) as tls:
            self.connections.discard(request)
            self.connections.add(tls)
            try:
                super().finish_request(tls, client_address)
            finally:
                self.connections.discard(tls)

    def handle_error(self, request, client_address):
        pass  # clients that break off are what tests are about

    def break_connections(self):
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    @property
    def fake(self):
        return self.server.fake

    def _serve(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        body = self._body()
        self.fake.requests.append(Recorded(time.time(), self.command, url.path, query, dict(self.headers), body, self._user()))
        watch = query.get("watch") in ("1", "true")
        fault = self.fake.fault_for(self.command, url.path, watch)
        if fault and self._misbehave(fault, url.path):
            return
        try:
            self._route(url.path, query, body, watch)
        except Refused as e:
            self._json(e.code, e.status())

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b"".join(iter(self._chunk, b""))
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            return json.loads(data) if data else None
        except ValueError:
            return data

    def _chunk(self):
        size = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _user(self):
        certificate = self.connection.getpeercert() or {}
        for part in certificate.get("subject", ()):
            if part[0][0] == "commonName":
                return part[0][1]
        return self.headers.get("Authorization", "")

    def _route(self, path, query, body, watch):
        target = parse_path(path)
        if target is None:
            self._well_known(path)
        elif self.command == "GET" and watch:
            self._watch(target, query)
        elif self.command == "GET":
            self._json(200, self._read(target, query))
        else:
            self._write(target, body)

    def _well_known(self, path):
        if path == "/version":
            self._json(200, {"major": "1", "minor": "36", "gitVersion": "v1.36.0", "platform": "linux/amd64"})
        elif path in ("/healthz", "/readyz", "/livez"):
            self._bytes(200, b"ok", "text/plain")
        else:
            raise Refused(404, "NotFound", "the server could not find the requested resource")

    def _read(self, target, query):
        if target.name:
            with self.fake.store.changed:
                return copy.deepcopy(self.fake.store.get(target))
        items, version = self.fake.store.list(target, query)
        return {"kind": "List", "apiVersion": target.version, "metadata": {"resourceVersion": str(version)}, "items": items}

    def _write(self, target, body):
        review = {"tokenreviews": {"authenticated": True, "user": {"username": "admin"}},
                  "subjectaccessreviews": {"allowed": True}}.get(target.resource)
        if review:
            self._json(201, {**body, "status": review})
        elif self.command == "POST":
            self._json(201, self.fake.do_create(target, body))
        elif self.command == "PUT":
            self._json(200, self.fake.do_put(target, body))
        elif self.command == "PATCH":
            self._json(200, self.fake.do_patch(target, body, self.headers.get("Content-Type", "")))
        else:
            self._json(200, self.fake.do_delete(target, body or {}))

    # -- watches --------------------------------------------------------------------------------------------------------

    def _watch(self, target, query):
        initial = query.get("sendInitialEvents") == "true"
        if initial and not self.fake.watch_list:
            raise Refused(422, "Invalid", "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch")
        store = self.fake.store
        version = int(query.get("resourceVersion") or 0)
        with store.changed:
            items, now = store.list(target, query)
            if version == 0 or initial:
                version, first = now, [("ADDED", i) for i in items]
            else:
                store.since(version)
                first = []
        self._start_stream()
        for kind, item in first:
            self._event(kind, item)
        if initial:
            self._bookmark(target, version, {"k8s.io/initial-events-end": "true"})
        self._follow(target, query, version)

    def _follow(self, target, query, version):
        deadline = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
        store, bookmarks = self.fake.store, query.get("allowWatchBookmarks") in ("1", "true")
        while time.monotonic() < deadline and not self.fake.closing:
            with store.changed:
                if store.version == version:
                    store.changed.wait(self.fake.bookmark_seconds)
                try:
                    events, latest = store.since(version), store.version
                except Refused as e:
                    self._event("ERROR", e.status())
                    break
            for event in events:
                self._send_change(event, target, query)
            if bookmarks and not events:
                self._bookmark(target, latest)
            version = latest
        self._chunk_out(b"")

    def _send_change(self, event, target, query):
        """An object that begins or ceases to be selected is one that comes or goes."""
        _, key, kind, item, old = event
        if not self.fake.store._within(key, target):
            return
        selectors = query.get("fieldSelector"), query.get("labelSelector")
        now = kind != "DELETED" and selects(item, *selectors)
        before = old is not None and selects(old, *selectors)
        if now:
            self._event("MODIFIED" if before else "ADDED", item)
        elif before:
            self._event("DELETED", item)

    def _bookmark(self, target, version, annotations=None):
        metadata = {"resourceVersion": str(version)}
        if annotations:
            metadata["annotations"] = annotations
        self._event("BOOKMARK", {"kind": "Bookmark", "apiVersion": target.version, "metadata": metadata})

    def _start_stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _event(self, kind, item):
        self._chunk_out(json.dumps({"type": kind, "object": item}).encode() + b"\n")

    def _chunk_out(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _json(self, code, value):
        self._bytes(code, json.dumps(value).encode(), "application/json")

    def _bytes(self, code, data, kind, headers=None):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for key, value in (headers or {}).items():
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(data)

    # -- faults ---------------------------------------------------------------------------------------------------------

    def _misbehave(self, fault, path):
        """Does what the fault says; True when the request needs no answer any more."""
        return getattr(self, "_fault_" + fault.action)(fault, path)

    def _fault_reset(self, fault, path):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket(fileno=self.connection.detach()).close()
        return self._end()

    def _end(self):
        self.close_connection = True
        return True

    def _fault_hang(self, fault, path):
        fault.released.wait()
        return self._end()

    def _fault_garbage(self, fault, path):
        self.wfile.write(b"\x00\x01\xff this is no HTTP\r\n\r\n" * 10)
        return self._end()

    def _fault_status(self, fault, path):
        options = {"code": 500, "reason": "InternalError", "message": "told to fail", "headers": None, **fault.options}
        refused = Refused(options["code"], options["reason"], options["message"])
        self._bytes(refused.code, json.dumps(refused.status()).encode(), "application/json", options["headers"])
        return True

    def _fault_truncate(self, fault, path):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"kind": "List", "items": [')
        return self._end()

    def _fault_gone(self, fault, path):
        raise_ = Refused(410, "Expired", "too old resource version")
        self._json(410, raise_.status())
        return True

    def _fault_huge(self, fault, path):
        self._start_stream()
        self._chunk_out(b'{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"')
        block = b"x" * 65536
        for _ in range(fault.options.get("size", 100 << 20) // len(block)):
            self._chunk_out(block)
        fault.released.wait(60)
        return self._end()

    def _fault_break(self, fault, path):
        self._start_stream()
        self._chunk_out(fault.options.get("line", b'{"type":"ADDED","object":}') + b"\n")
        fault.released.wait(60)
        return self._end()

    def _fault_silent(self, fault, path):
        self._start_stream()
        fault.released.wait()
        return self._end()
