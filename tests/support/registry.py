# SPDX-License-Identifier: Apache-2.0
"""Debian's docker-registry on loopback of the namespace, over http and https."""

import hashlib
import http.client
import json
import secrets
import ssl
import urllib.parse
import warnings

import yaml

from support import pki, scratch
from support.process import Process
from support.wait import eventually

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import crypt

HTTP_PORT = 5000
HTTPS_PORT = 5443
PRIVATE_PORT = 5001


class Registry:
    """Context manager. `host` and `https_host` are what image references begin with.

    With `users` ({name: password}) the same images are also at `private_host`, for these alone.
    """

    def __init__(self, netns, address="127.0.0.1", users=None):
        self.users = users
        self.netns, self.address = netns, address
        self.host = f"{address}:{HTTP_PORT}"
        self.https_host = f"{address}:{HTTPS_PORT}"
        self.private_host = f"{address}:{PRIVATE_PORT}"
        self.processes = []
        self.dir = None

    def __enter__(self):
        self.dir = scratch.make("registry")
        self.ca = pki.Authority(self.dir / "pki", "registry")
        pair = self.ca.issue("registry", names=["localhost", "127.0.0.1", "::1", self.address])
        try:
            self._serve("http", HTTP_PORT, {})
            self._serve("https", HTTPS_PORT, {"certificate": str(pair.cert), "key": str(pair.key)})
            if self.users:
                self._serve("private", PRIVATE_PORT, {}, {"htpasswd": {"realm": "private", "path": self._password_file()}})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        for process in self.processes:
            process.stop(5)
        scratch.remove(self.dir)

    def _password_file(self):
        path = self.dir / "htpasswd"
        hashed = {u: crypt.crypt(p, "$2b$05$" + secrets.token_hex(11)) for u, p in self.users.items()}
        path.write_text("".join(f"{u}:{h}\n" for u, h in hashed.items()))
        return str(path)

    def _serve(self, name, port, tls, auth=None):
        """All serve the same storage."""
        config = {
            "version": 0.1, "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.dir / "storage")}, "delete": {"enabled": True}},
            "http": {"addr": f"{self.address}:{port}", **({"tls": tls} if tls else {})},
            **({"auth": auth} if auth else {}),
        }
        path = self.dir / f"{name}.yml"
        path.write_text(yaml.safe_dump(config))
        process = Process(["docker-registry", "serve", path], self.dir / f"{name}.log", netns=self.netns,
                          name=f"registry-{name}", env={"OTEL_TRACES_EXPORTER": "none"})
        self.processes.append(process)
        ready = lambda: process.assert_alive() and self.netns.reachable(self.address, port)  # noqa: E731
        eventually(ready, 20, f"registry ({name}) listening")

    def access_log(self):
        return (self.dir / "http.log").read_text(errors="replace") + (self.dir / "https.log").read_text(errors="replace")

    def request(self, method, path, body=None, headers=None, secure=False):
        """(status, headers, body) of one request from the test process."""
        connection = http.client.HTTPConnection(self.address, HTTPS_PORT if secure else HTTP_PORT)
        connection.sock = self.netns.connect(connection.host, connection.port)
        if secure:
            context = ssl.create_default_context(cafile=str(self.ca.cert_path))
            connection.sock = context.wrap_socket(connection.sock, server_hostname=self.address)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def _expect(self, wanted, method, path, *args, **kwargs):
        status, headers, body = self.request(method, path, *args, **kwargs)
        if status != wanted:
            raise AssertionError(f"{method} {path}: {status} {body[:300]!r}")
        return headers, body

    def push_blob(self, repository, data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if self.request("HEAD", f"/v2/{repository}/blobs/{digest}")[0] == 200:
            return digest
        headers, _ = self._expect(202, "POST", f"/v2/{repository}/blobs/uploads/")
        url = urllib.parse.urlsplit(headers["Location"])
        target = f"{url.path}?{url.query}{'&' if url.query else ''}digest={digest}"
        self._expect(201, "PUT", target, data, {"Content-Type": "application/octet-stream"})
        return digest

    def push(self, image, repository, tag="latest"):
        """Pushes an Image or Index; returns its reference by tag, on the http port."""
        for blob in image.blobs():
            self.push_blob(repository, blob.data)
        manifests = image.manifests()
        for blob in manifests[:-1]:
            self._put_manifest(repository, blob.digest, blob)
        self._put_manifest(repository, tag, manifests[-1])
        return f"{self.host}/{repository}:{tag}"

    def _put_manifest(self, repository, reference, blob):
        path = f"/v2/{repository}/manifests/{reference}"
        self._expect(201, "PUT", path, blob.data, {"Content-Type": blob.media_type})

    def blob_path(self, digest):
        """Where the registry keeps a blob: a test may cut, change or remove it there (a registry that lies)."""
        algorithm, _, hexa = digest.partition(":")
        base = self.dir / "storage" / "docker" / "registry" / "v2" / "blobs"
        return base / algorithm / hexa[:2] / hexa / "data"

    def tags(self, repository):
        return json.loads(self._expect(200, "GET", f"/v2/{repository}/tags/list")[1])["tags"]
