# SPDX-License-Identifier: Apache-2.0
"""Probes against servers that redirect, encrypt, stall, flood and speak gRPC; many probes that hang."""

import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support import pki, pods, process
from support.wait import eventually

SLEEP = "trap 'exit 0' TERM; sleep 100000 & wait"
HTTP, HTTPS, GRPC, SILENT = 8091, 8092, 8093, 8094


class Handler(BaseHTTPRequestHandler):
    """/loop redirects forever, /hop/N to /ok after N redirects, /away to another host, /flood never ends, others are fine."""

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        if self.path == "/flood":
            return self._flood()
        location = self._location()
        self.send_response(302 if location else 200)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(b"fine")

    def _location(self):
        if self.path == "/loop":
            return "loop"
        if self.path == "/away":
            return "http://192.0.2.1/"
        if self.path.startswith("/hop/"):
            left = int(self.path.removeprefix("/hop/"))
            return f"/hop/{left - 1}" if left > 1 else f"http://{self.headers['Host'].split(':')[0]}:{HTTP}/ok?after=hops"
        return None

    def _flood(self):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x" * 65536)
        except OSError:
            self.server.asked.append(("flood ended", {}))

    def log_message(self, *args):
        pass


def serve(netns, port, wrap=lambda sock: sock):
    http = ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
    http.socket.close()
    http.socket = wrap(netns.listen("0.0.0.0", port))
    http.daemon_threads = True
    http.asked = []
    threading.Thread(target=http.serve_forever, daemon=True).start()
    return http


@pytest.fixture(scope="module")
def http(api):
    server = serve(api.netns, HTTP)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def https(api, tmp_path_factory):
    """Its certificate is signed by nobody, for another name."""
    pair = pki.Authority(tmp_path_factory.mktemp("pki"), "nobody").issue("elsewhere.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    server = serve(api.netns, HTTPS, lambda sock: context.wrap_socket(sock, server_side=True))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def health(api):
    """A gRPC server by the official library; statuses by service, changed by tests."""
    grpc = pytest.importorskip("grpc")
    statuses = {"": 1, "sick": 2}

    def check(request, context):
        name = request[2:].decode() if request else ""
        if name not in statuses:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        if name == "slow":
            time.sleep(5)
        return bytes([8, statuses[name]])

    method = grpc.unary_unary_rpc_method_handler(check)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method}),))
    path = f"/tmp/kubelite-grpc-{time.monotonic_ns()}.sock"
    server.add_insecure_port(f"unix:{path}")
    server.start()
    listener = api.netns.listen("0.0.0.0", GRPC)
    threading.Thread(target=relay, args=(listener, path), daemon=True).start()
    yield statuses
    listener.close()
    server.stop(0).wait()


def relay(listener, path):
    """The library binds its ports in the test's own namespace: connections are carried over to it."""
    def pump(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        far = socket.socket(socket.AF_UNIX)
        far.connect(path)
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


def probe(**handler):
    return {"periodSeconds": 1, **handler}


def get(api, path, port=HTTP, **more):
    return probe(httpGet={"host": api.netns.address, "port": port, "path": path, **more})


def wait_ready(api, pod):
    return api.admin.wait_for(pods.path(pod), pods.ready, 40)


def test_request_as_upstream_sends_it(api, run, http):
    headers = [{"name": "Host", "value": "name.test"}, {"name": "X-Two", "value": "1"}, {"name": "X-Two", "value": "2"},
               {"name": "Accept", "value": ""}]
    wait_ready(api, run(SLEEP, readinessProbe=get(api, "/q?a=b c", httpHeaders=headers)))
    path, got = next(asked for asked in http.asked if asked[0].startswith("/q"))
    assert path == "/q?a=b%20c" and got["Host"] == "name.test" and "Accept" not in got
    assert got["User-Agent"].startswith("kube-probe/1.") and got["Connection"] == "close"


def test_redirects_on_the_same_host_are_followed(api, run, http):
    wait_ready(api, run(SLEEP, readinessProbe=get(api, "/hop/9")))
    assert ("/ok?after=hops" in [path for path, _ in http.asked])


def test_ten_redirects_are_too_many(api, run, http):
    pod = run(SLEEP, readinessProbe=get(api, "/loop"))
    event = pods.wait_event(api.admin, pod, "Unhealthy")
    assert event["message"] == 'Readiness probe failed: Get "loop": stopped after 10 redirects'


def test_a_redirect_to_another_host_is_a_success_with_a_warning(api, run, http):
    pod = run(SLEEP, readinessProbe=get(api, "/away"))
    wait_ready(api, pod)
    event = pods.wait_event(api.admin, pod, "ProbeWarning")
    assert event["message"] == "Readiness probe warning: Probe terminated redirects, Response body: fine"


def test_an_endless_body_is_cut_off(api, run, http):
    wait_ready(api, run(SLEEP, readinessProbe=get(api, "/flood")))
    eventually(lambda: ("flood ended", {}) in http.asked, 10, "the connection was closed")


def test_https_is_not_verified(api, run, https):
    wait_ready(api, run(SLEEP, readinessProbe=get(api, "/tls", HTTPS, scheme="HTTPS")))


def test_a_silent_server_fails_at_the_time_out(api, run):
    listener = api.netns.listen("0.0.0.0", SILENT)
    try:
        pod = run(SLEEP, readinessProbe=get(api, "/", SILENT))
        event = pods.wait_event(api.admin, pod, "Unhealthy")
    finally:
        listener.close()
    assert event["message"] == f'Readiness probe failed: Get "http://{api.netns.address}:{SILENT}/": context deadline ' \
                               "exceeded (Client.Timeout exceeded while awaiting headers)"


def grpc_pod(run, service=None, port=GRPC, **more):
    """Probes go to the pod's own address, which is the node's here."""
    handler = {"port": port, **({"service": service} if service else {})}
    return run(SLEEP, readinessProbe=probe(grpc=handler, **more), spec={"hostNetwork": True})


def test_grpc_health(api, run, health):
    wait_ready(api, grpc_pod(run))
    cases = {"sick": 'service unhealthy (responded with "NOT_SERVING")',
             "nobody": "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"}
    made = {name: grpc_pod(run, name) for name in cases}
    for name, text in cases.items():
        assert pods.wait_event(api.admin, made[name], "Unhealthy")["message"] == f"Readiness probe failed: {text}"


def test_grpc_times_out(api, run, health):
    health["slow"] = 1
    event = pods.wait_event(api.admin, grpc_pod(run, "slow"), "Unhealthy")
    assert event["message"] == "Readiness probe failed: timeout: health rpc did not complete within 1s"


def test_grpc_without_a_server_or_without_grpc(api, run, http):
    address = api.netns.address
    nobody, other = grpc_pod(run, port=8095), grpc_pod(run, port=HTTP)
    assert pods.wait_event(api.admin, nobody, "Unhealthy")["message"] == \
        f'Readiness probe failed: error: failed to connect service at "{address}:8095": dial tcp {address}:8095: connect: ' \
        "connection refused"
    assert pods.wait_event(api.admin, other, "Unhealthy")["message"].startswith("Readiness probe failed: error: ")


@pytest.mark.release
def test_many_hanging_probes_leave_the_node_fine(api, node, run):
    """Containers whose probes never end, by command and by a silent server; the node goes on at once for another pod."""
    listener = api.netns.listen("0.0.0.0", SILENT, backlog=1024)
    try:
        hang = {"livenessProbe": {"exec": {"command": ["sleep", "98765"]}, "timeoutSeconds": 60, "initialDelaySeconds": 1},
                "readinessProbe": {**get(api, "/", SILENT), "timeoutSeconds": 60}, "imagePullPolicy": "Never"}
        for _ in range(2):
            run(SLEEP, containers=[pods.container(f"c{i}", "busybox:1", SLEEP, **hang) for i in range(20)])
        eventually(lambda: len(process.running("sleep\00098765")) >= 40, 30, "40 probes hang")
        wait_ready(api, run(SLEEP, readinessProbe=probe(exec={"command": ["true"]})))
    finally:
        listener.close()
