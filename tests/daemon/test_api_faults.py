# SPDX-License-Identifier: Apache-2.0
"""The API client against servers that are broken, hostile or someone else."""

import ssl
import struct
import threading
import time

import pytest
from support import build, pki, scripted
from support.probe import Probe
from support.scripted import Scripted, server_context
from support.wait import eventually

LIST = '{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"10"},"items":[]}'
WATCH_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return pki.Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def pair(ca):
    return ca.issue("server", names=("127.0.0.1", "localhost"))


def silence(connection, n):
    connection.read_until_end(60)


@pytest.fixture(scope="module", autouse=True)
def silent_watch(ca, pair):
    """Begins with the first test, since it takes 45 s: an HTTP/2 server that goes silent in the middle of a watch."""
    def script(connection, n):
        connection.h2_start()
        connection.h2_answer(connection.h2_request(), LIST)
        connection.h2_answer(connection.h2_request(), "", end=False)
        if n == 0:
            connection.read_until_end(60)
            return
        connection.h2_request()
    with Scripted(script, context=server_context(pair, ["h2"])) as server:
        with Probe(server.url(), ca=ca.cert_path) as probe:
            probe.command("watch w /api/v1/pods")
            probe.expect("w", "SYNCED")
            yield server


def failure(server_or_url, **options):
    """What a call says. A watch must tell an error too, and the program must go on and end in order."""
    url = server_or_url if isinstance(server_or_url, str) else server_or_url.url()
    with Probe(url, **options) as probe:
        status, _, message = probe.call("GET", "/version")
        assert status == 0
        probe.command("watch w /api/v1/pods")
        assert probe.expect("w", "ERROR", timeout=30)[1] == "0"
        probe.quit()
    return message


def test_unknown_authority(ca, pair, tmp_path):
    other = pki.Authority(tmp_path, "other")
    with Scripted(silence, context=server_context(pair)) as server:
        assert "x509: certificate signed by unknown authority" in failure(server, ca=other.cert_path)
        assert "x509: certificate signed by unknown authority" in failure(server)  # the system's


def test_expired_certificate(ca):
    expired = ca.issue("expired", names=("127.0.0.1",), begin=-2 * pki.ONE_DAY, end=-pki.ONE_DAY)
    with Scripted(silence, context=server_context(expired)) as server:
        assert "x509: the server's certificate has expired" in failure(server, ca=ca.cert_path)


def test_certificate_of_the_future(ca):
    future = ca.issue("future", names=("127.0.0.1",), begin=pki.ONE_DAY)
    with Scripted(silence, context=server_context(future)) as server:
        assert "not yet valid; is this machine's clock right?" in failure(server, ca=ca.cert_path)


def test_other_name(ca):
    other = ca.issue("other", names=("other.example", "10.1.2.3"))
    with Scripted(silence, context=server_context(other)) as server:
        message = failure(server, ca=ca.cert_path)
        assert "x509: certificate is valid for other.example, 10.1.2.3, not 127.0.0.1" in message
        message = failure(server.url("localhost"), ca=ca.cert_path)
        assert "not localhost" in message


def test_name_given_and_insecure(ca):
    def script(connection, n):
        connection.request()
        connection.answer("{}")
    other = ca.issue("other", names=("other.example",))
    with Scripted(script, context=server_context(other)) as server:
        for options in ({"ca": ca.cert_path, "tls_name": "other.example"}, {"insecure": True}):
            with Probe(server.url(), **options) as probe:
                assert probe.call("GET", "/version")[0] == 200


def test_no_tls_at_all(ca):
    def script(connection, n):
        connection.send("HTTP/1.1 400 Bad Request\r\n\r\n")
    with Scripted(script) as server:
        assert "the server does not speak TLS" in failure(f"https://127.0.0.1:{server.port}", ca=ca.cert_path)


def test_nobody_listens(ca):
    with Scripted(silence) as server:
        port = server.port
    assert "Connection refused" in failure(f"https://127.0.0.1:{port}", ca=ca.cert_path)


def test_name_that_does_not_exist(ca):
    assert "look up 'nowhere.invalid'" in failure("https://nowhere.invalid:6443", ca=ca.cert_path)


def test_bad_configuration(ca, tmp_path):
    for argv, text in ((("ftp://x", {}), "not an https:// URL"), (("nonsense", {}), "not a URL"),
                       (("https://x", {"token_file": tmp_path / "none"}), "No such file"),
                       (("https://x", {"ca": "/etc/hostname"}), "no PEM certificate"),
                       (("https://x", {"token": "a b"}), "blanks or control"),
                       (("https://x", {"proxy": "socks5://x"}), "only http:// proxies")):
        with Probe(argv[0], **argv[1]) as probe:
            assert text in " ".join(probe.expect_end())


def test_resets(ca, pair):
    def at_once(connection, n):
        connection.reset()

    def after_request(connection, n):
        connection.request()
        connection.reset()
    with Scripted(at_once, context=server_context(pair)) as server:
        assert "reset by peer" in failure(server, ca=ca.cert_path)
    with Scripted(after_request, context=server_context(pair)) as server:
        assert "reset by peer" in failure(server, ca=ca.cert_path)


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_garbage(ca, pair, alpn):
    def script(connection, n):
        connection.send(b"\x00\xff garbage \r\n\r\n" * 100)
        connection.read_until_end()
    with Scripted(script, context=server_context(pair, [alpn])) as server:
        message = failure(server, ca=ca.cert_path)
        assert ("the server's answer: " if alpn == "http/1.1" else "the server's HTTP/2 is wrong") in message


def test_answers_that_are_no_json():
    def script(connection, n):
        while True:
            connection.request()
            connection.answer("{garbage")
    with Scripted(script) as server:
        assert "the API server's answer: " in failure(server)


def test_answers_that_are_cut_off():
    def script(connection, n):
        connection.request()
        connection.send(WATCH_HEAD + "5\r\n{")
    with Scripted(script) as server:
        assert "in the middle of a message" in failure(server)


def test_too_large_an_answer():
    def script(connection, n):
        connection.request()
        connection.send(WATCH_HEAD)
        for _ in range(40):
            connection.send("100000\r\n" + "x" * (1 << 20) + "\r\n")
    with Scripted(script) as server:
        assert "larger than 16 MiB" in failure(server)


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_endless_headers(ca, pair, alpn):
    def script(connection, n):
        if alpn == "http/1.1":
            connection.request()
            connection.send("HTTP/1.1 200 OK\r\n" + "A: b\r\n" * 10000)
            connection.read_until_end()
            return
        connection.h2_start()
        while True:
            stream = connection.h2_request()
            literal = b"\x00\x01a\x7f\xa1\x1e" + b"b" * 4000  # a: bbb…, 4000 = 127 + 33 + 30 * 128
            connection.frame(scripted.HEADERS, 0, stream, b"\x88" + literal)
            for i in range(5):
                connection.frame(scripted.CONTINUATION, scripted.END_HEADERS if i == 4 else 0, stream, literal)
    with Scripted(script, context=server_context(pair, [alpn])) as server:
        assert "larger than 16384 bytes" in failure(server, ca=ca.cert_path)


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_watch_line_without_end(ca, pair, alpn):
    """100 MB in one line: an error, a bounded memory, a closed stream; and calls go on."""
    line = '{"type":"ADDED","object":{"metadata":{"name":"' + "x" * (1 << 20)

    def h1(connection):
        connection.request()
        connection.answer(LIST)
        connection.request()
        connection.send(WATCH_HEAD)
        for _ in range(100):
            connection.send("%x\r\n%s\r\n" % (len(line), line))

    def h2(connection):
        connection.h2_start()
        connection.h2_answer(connection.h2_request(), LIST)
        stream = connection.h2_request()
        connection.frame(scripted.SETTINGS, 0, 0)
        connection.frame(scripted.HEADERS, scripted.END_HEADERS, stream, b"\x88")
        sent = 0
        while sent < 100 << 20:  # a server that does not care for windows
            connection.frame(scripted.DATA, 0, stream, b"x" * 16384)
            sent += 16384

    def script(connection, n):
        (h1 if alpn == "http/1.1" else h2)(connection)
    with Scripted(script, context=server_context(pair, [alpn])) as server:
        with Probe(server.url(), ca=ca.cert_path) as probe:
            probe.command("watch w /api/v1/pods")
            probe.expect("w", "SYNCED")
            message = " ".join(probe.expect("w", "ERROR", timeout=60))
            if alpn == "http/1.1":
                assert "a watch event larger than 8 MiB" in message
            assert build.sanitized() or probe.status().private_kib < 20 << 10
            probe.quit()


def test_watch_events_that_make_no_sense():
    lines = ["{garbage\n", '{"type":"ADDED"}\n', "[]\n", '{"type":"ERROR","object":{"code":500,"message":"x","kind":"Status"}}\n']

    def script(connection, n):
        _, path = connection.request()
        while "watch=true" not in path:
            connection.answer(LIST)
            _, path = connection.request()
        line = lines.pop(0) if lines else '{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"11"}}}\n'
        connection.send(WATCH_HEAD + f"{len(line):x}\r\n{line}\r\n")
        connection.read_until_end()
    with Scripted(script) as server:
        with Probe(server.url()) as probe:
            probe.command("watch w /api/v1/pods")
            probe.expect("w", "ERROR")
            assert probe.expect("w", "SET", timeout=30)[1] == "-/a"
            assert len(probe.seen("ERROR")) == 1  # once an outage
            probe.quit()


def test_list_that_went_back_is_no_deletion():
    """A lagging server behind a load balancer."""
    with_a = LIST.replace("[]", '[{"metadata":{"name":"a","uid":"1","resourceVersion":"9"}}]')
    answers = [with_a, LIST.replace('"10"', '"5"'), with_a.replace('"10"', '"12"')]
    gone = '{"type":"ERROR","object":{"kind":"Status","code":410}}\n'

    def script(connection, n):
        while True:
            _, path = connection.request()
            if "watch=true" not in path:
                connection.answer(answers.pop(0))
            elif answers:
                connection.send(WATCH_HEAD + f"{len(gone):x}\r\n{gone}\r\n0\r\n\r\n")
            else:
                connection.send(WATCH_HEAD)
                connection.read_until_end()
    with Scripted(script) as server:
        with Probe(server.url()) as probe:
            probe.command("watch w /api/v1/pods")
            probe.expect("w", "SET")
            probe.expect("w", "SYNCED")
            assert "older than what was seen" in " ".join(probe.expect("w", "ERROR"))
            probe.expect("w", "SYNCED")
            assert not probe.seen("DELETED")
            probe.quit()


def test_critical_call_unanswered_closes_its_connection_only():
    closed = threading.Event()

    def script(connection, n):
        _, path = connection.request()
        if path == "/critical":
            if connection.read_until_end():
                closed.set()
            return
        connection.answer("{}")
        connection.request()
        assert not closed.is_set()
        connection.answer("{}")
    with Scripted(script) as server:
        with Probe(server.url()) as probe:
            assert probe.call("GET", "/version")[0] == 200
            waiting = probe.send_call("GET", "/critical", critical=True)
            assert probe.call("GET", "/version")[0] == 200
            status, _, message = probe.answer(waiting)
            assert status == 0 and "no answer within 3000 ms" in message
            assert closed.wait(5)
            probe.quit()


def test_kept_alive_connection_that_was_closed():
    """The server closes while the connection idles: a GET is sent again, without its owner noticing."""
    def script(connection, n):
        connection.request()
        connection.answer("{}")
        if n == 0:
            connection.request()
            connection.reset()
            return
        connection.request()
        connection.answer("{}")
    with Scripted(script) as server:
        with Probe(server.url()) as probe:
            for _ in range(3):
                assert probe.call("GET", "/version")[0] == 200
            probe.quit()
        assert server.n_connections == 2


def test_refused_and_unprocessed_streams_are_sent_again(ca, pair):
    """Even what changes things: the server said that it did not look at it."""
    def script(connection, n):
        connection.h2_start()
        stream = connection.h2_request()
        if n == 0:
            connection.frame(scripted.RST_STREAM, 0, stream, scripted.REFUSED_STREAM.to_bytes(4, "big"))
            stream = connection.h2_request()
            connection.frame(scripted.GOAWAY, 0, 0, bytes(8))
            connection.read_until_end()
            return
        connection.h2_answer(stream, "{}")
        connection.h2_request()
    with Scripted(script, context=server_context(pair, ["h2"])) as server:
        with Probe(server.url(), ca=ca.cert_path) as probe:
            assert probe.call("POST", "/api", "application/json", "{}")[0] == 200
            probe.quit()
        assert server.n_connections == 2


def test_client_certificate_is_wanted(ca, pair):
    context = server_context(pair)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca.cert_path)
    with Scripted(silence, context=context) as server:
        assert "the server refused our client certificate" in failure(server, ca=ca.cert_path)


def test_answer_before_the_body_is_sent(ca, pair):
    """A server that refuses a large body says so and closes."""
    def script(connection, n):
        connection.request()
        connection.answer("too much", status="413 Payload Too Large", content_type="text/plain")
    body = '"' + "x" * (3 << 20) + '"'
    for context in (None, server_context(pair)):
        with Scripted(script, context=context) as server:
            with Probe(server.url(), ca=ca.cert_path) as probe:
                status, _, message = probe.call("POST", "/api", "application/json", body)
                assert status == 413 and message.endswith("too much")
                probe.quit()


def test_small_text_that_would_be_a_huge_tree():
    def script(connection, n):
        connection.request()
        connection.answer("[" + "[],[]," * 1000000 + "[]]")
    with Scripted(script) as server:
        assert "more than 1048576 values" in failure(server)


def test_patient_watch_keeps_quiet():
    """A node's right to an object lags behind the binding: tried again soon, told only after its grace."""
    times = []

    def script(connection, n):
        while True:
            _, path = connection.request()
            times.append(time.monotonic())
            if len(times) < 4:
                connection.answer('{"kind":"Status","reason":"Forbidden","message":"no relationship"}', "403 Forbidden")
            elif "watch=true" not in path:
                connection.answer(LIST)
            else:
                connection.send(WATCH_HEAD)
                connection.read_until_end()
    with Scripted(script) as server:
        with Probe(server.url()) as probe:
            probe.command("patient w 10000 /api/v1/pods")
            probe.expect("w", "SYNCED")
            assert not probe.seen("ERROR") and times[3] - times[0] < 3
            probe.quit()


def test_refusal_is_told_after_its_grace():
    def script(connection, n):
        while True:
            connection.request()
            connection.answer('{"kind":"Status","reason":"Forbidden","message":"no relationship"}', "403 Forbidden")
    with Scripted(script) as server:
        with Probe(server.url()) as probe:
            begin = time.monotonic()
            probe.command("patient w 500 /api/v1/pods")
            assert probe.expect("w", "ERROR") == ["ERROR", "403", "no", "relationship"]
            assert time.monotonic() - begin >= 0.5
            probe.quit()


def test_window_of_requests():
    """API_REQUESTS_MAX requests fly at once, and critical ones besides."""
    lock, release = threading.Lock(), threading.Event()
    flying = []

    def script(connection, n):
        while True:
            _, path = connection.request()
            with lock:
                flying.append(path)
            if path != "/critical":
                release.wait(20)
            connection.answer("{}")
    with Scripted(script) as server:
        with Probe(server.url()) as probe:
            ids = [probe.send_call("GET", "/version") for _ in range(100)]
            eventually(lambda: len(flying) == 32, 10, "32 requests")
            assert probe.call("GET", "/critical", critical=True)[0] == 200
            assert len(flying) == 33
            release.set()
            assert {probe.answer(i)[0] for i in ids} == {200}
            probe.quit()


def test_streams_that_are_always_refused(ca, pair):
    refused = []

    def script(connection, n):
        connection.h2_start()
        while True:
            stream = connection.h2_request()
            refused.append(stream)
            connection.frame(scripted.RST_STREAM, 0, stream, scripted.REFUSED_STREAM.to_bytes(4, "big"))
    with Scripted(script, context=server_context(pair, ["h2"])) as server:
        with Probe(server.url(), ca=ca.cert_path) as probe:
            status, _, message = probe.call("POST", "/api", "application/json", "{}")
            assert status == 0 and "REFUSED_STREAM" in message and len(refused) == 5
            probe.quit()


def test_server_that_allows_no_streams(ca, pair):
    """It is waited for on that connection; no others are opened."""
    def script(connection, n):
        connection.h2_start(max_streams=0)
        # What was sent before the limit was known is refused, as real servers do.
        stream = connection.h2_request()
        connection.frame(scripted.RST_STREAM, 0, stream, scripted.REFUSED_STREAM.to_bytes(4, "big"))
        time.sleep(0.3)
        connection.frame(scripted.SETTINGS, 0, 0, struct.pack(">HI", 3, 10))
        connection.h2_answer(connection.h2_request(), "{}")
        connection.read_until_end()
    with Scripted(script, context=server_context(pair, ["h2"])) as server:
        with Probe(server.url(), ca=ca.cert_path) as probe:
            assert probe.call("POST", "/api", "application/json", "{}")[0] == 200
            probe.quit()
        assert server.n_connections == 1


def test_more_events_than_the_queue_holds(capfd):
    """Nobody takes them: the oldest go, with a warning, and the program stays small."""
    def script(connection, n):
        connection.read_until_end(60)
    with Scripted(script) as server:
        with Probe(server.url()) as probe:
            start = probe.status().private_kib
            for i in range(3000):
                probe.command(f"event default pod-{i} uid-{i} Started Container started")
            used = probe.status().private_kib - start
            probe.quit()
    assert "more than 512 wait" in capfd.readouterr().err
    assert build.sanitized() or used < 2500, used


def test_ipv6(ca):
    def script(connection, n):
        connection.request()
        connection.answer("{}")
    six = ca.issue("six", names=("::1",))
    with Scripted(script, context=server_context(six), address="::1") as server:
        with Probe(server.url("[::1]"), ca=ca.cert_path) as probe:
            assert probe.call("GET", "/version")[0] == 200


def test_retry_after_and_plain_errors():
    def script(connection, n):
        connection.request()
        connection.answer("<html>no</html>", status="502 Bad Gateway", content_type="text/html")
    with Scripted(script) as server:
        with Probe(server.url()) as probe:
            status, _, message = probe.call("GET", "/version")
            assert status == 502 and message == "HTTP status 502: <html>no</html>"


def test_proxy(ca, pair):
    """HTTP CONNECT, with a password; the server sees TLS end to end."""
    heads = []

    def server_script(connection, n):
        connection.request()
        connection.answer("{}")

    def proxy_script(connection, n):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.read(1)
        heads.append(head.decode())
        if b"Proxy-Authorization: Basic dTpw" not in head:
            connection.send("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        connection.send("HTTP/1.1 200 Connection established\r\n\r\n")
        scripted.relay(connection, server.port)
    with Scripted(server_script, context=server_context(pair)) as server, Scripted(proxy_script) as proxy:
        with Probe(server.url("localhost"), ca=ca.cert_path, proxy=f"http://u:p@127.0.0.1:{proxy.port}") as probe:
            assert probe.call("GET", "/version")[0] == 200
        assert heads[0].startswith(f"CONNECT localhost:{server.port} HTTP/1.1\r\n")
        message = failure(server, ca=ca.cert_path, proxy=f"127.0.0.1:{proxy.port}")
        assert f"proxy 127.0.0.1:{proxy.port}: it answered 407" in message


def test_server_that_hangs_in_the_handshake(ca):
    with Scripted(silence) as server:
        assert "no answer within 10 s" in failure(f"https://127.0.0.1:{server.port}", ca=ca.cert_path)


@pytest.mark.last
def test_silent_server_is_given_up(silent_watch):
    """A PING after 30 s of silence, the end 15 s later, and the watch on a new connection."""
    eventually(lambda: silent_watch.n_connections >= 2, 60, "a second connection", interval=0.2)
