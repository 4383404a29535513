# SPDX-License-Identifier: ISC
"""Input that is off the grammar, too large or too slow: refused, and nothing follows."""

import json

import pytest

from lib import rawhttp
from lib.cachalot import Cachalot
from lib.hub import Hub
from lib.paths import HUB
from lib.wait import until

HEX = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def upstream():
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, upstream):
    d = Cachalot(tmp_path_factory.mktemp("strict"), {HUB: upstream.url},
                 {"listener main": {"head-timeout": "600ms", "idle-timeout": "900ms"}})
    d.start()
    yield d
    d.close()


@pytest.mark.parametrize("path, code", [
    ("/v2/docker.io/../etc/manifests/1", "NAME_INVALID"),
    ("/v2/docker.io/%2e%2e/etc/manifests/1", "NAME_INVALID"),
    ("/v2/docker.io/a%00b/manifests/1", "NAME_INVALID"),
    ("/v2/docker.io/a%2fb%2f/manifests/1", "NAME_INVALID"),
    ("/v2/docker.io/Library/App/manifests/1", "NAME_INVALID"),
    ("/v2/docker.io/a_-b/manifests/1", "NAME_INVALID"),
    ("/v2/docker.io/-a/manifests/1", "NAME_INVALID"),
    ("/v2/docker.io/a./manifests/1", "NAME_INVALID"),
    ("/v2/docker.io/" + "a" * 256 + "/manifests/1", "NAME_INVALID"),
    ("/v2/docker.io/" + "a/" * 200 + "b/manifests/1", "NAME_INVALID"),
    ("/v2/docker.io/app/manifests/..", "MANIFEST_INVALID"),
    ("/v2/docker.io/app/manifests/%2e%2e", "MANIFEST_INVALID"),
    ("/v2/docker.io/app/manifests/-x", "MANIFEST_INVALID"),
    ("/v2/docker.io/app/manifests/a%00", "MANIFEST_INVALID"),
    ("/v2/docker.io/app/manifests/" + "t" * 129, "MANIFEST_INVALID"),
    ("/v2/docker.io/app/blobs/sha256:" + HEX[:63], "DIGEST_INVALID"),
    ("/v2/docker.io/app/blobs/sha256:" + HEX + "0", "DIGEST_INVALID"),
    ("/v2/docker.io/app/blobs/sha256:" + HEX.upper(), "DIGEST_INVALID"),
    ("/v2/docker.io/app/blobs/SHA256:" + HEX, "DIGEST_INVALID"),
    ("/v2/docker.io/app/blobs/md5:" + HEX[:32], "DIGEST_INVALID"),
    ("/v2/docker.io/app/blobs/sha512:" + HEX, "DIGEST_INVALID"),
    ("/v2/docker.io/app/blobs/sha256:" + "../" * 21 + "x", "DIGEST_INVALID"),
    ("/v2/docker.io/app/blobs/sha256:" + HEX[:-3] + "%00", "DIGEST_INVALID"),
    ("/v2/docker.io/app/blobs/latest", "DIGEST_INVALID"),
    ("/v2/docker.io/app/manifests/sha256:short", "DIGEST_INVALID"),
    ("/v2/docker.io/app/referrers/sha256:short", "DIGEST_INVALID"),
    ("/v2/docker.io/app/manifests/1%", "UNSUPPORTED"),
    ("/v2/docker.io/app/manifests/%zz", "UNSUPPORTED"),
    ("/v2/app/manifests/1?ns=UPPER_case!", "NAME_INVALID"),
    ("/v2/app/manifests/1?ns=../..", "NAME_INVALID"),
])
def test_bad_names(daemon, upstream, path, code):
    """A name, tag or digest that is off its grammar is 400 (404 where the path then has
    no meaning) with its code, and the registry is not asked."""
    before = upstream.count()
    got = daemon.get(path)
    assert got.status in (400, 404) and got.complete
    if got.status == 400:
        assert json.loads(got.body)["errors"][0]["code"] == code
    assert upstream.count() == before
    assert daemon.stored() == set()


def smuggle(*lines, body=b""):
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


CANARY = b"GET /v2/docker.io/canary/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("data", [
    smuggle("GET /v2/ HTTP/1.1", "Host: x", f"Content-Length: {len(CANARY)}",
            "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Content-Length: 0", "Content-Length: 5"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Content-Length: 0, 0"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Content-Length: +0"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Content-Length: -1"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Content-Length: 0x10"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Content-Length:"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Content-Length: 99999999999999999999999"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Transfer-Encoding: identity"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Transfer-Encoding: chunked, chunked"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Transfer-Encoding: gzip, chunked"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Transfer-Encoding: xchunked"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Transfer-Encoding : chunked"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity"),
    smuggle("GET /v2/ HTTP/1.0", "Host: x", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "A: b", " folded: c"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", ": nameless"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "no colon"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Bad Name: y"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "A: nul\x00"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "A: bare\rcr"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "A: bell\x07"),
    smuggle("GET /v2/ HTTP/1.1"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Host: y"),
    smuggle("GET /v2/ HTTP/1.1", "Host: x", "Range: bytes=0-1", "Range: bytes=2-3"),
    smuggle("GET  /v2/ HTTP/1.1", "Host: x"),
    smuggle("GET /v2/ x HTTP/1.1", "Host: x"),
    smuggle("GET /v2/\x80 HTTP/1.1", "Host: x"),
    smuggle("GET /v2/#top HTTP/1.1", "Host: x"),
    smuggle("GET v2/ HTTP/1.1", "Host: x"),
    smuggle("GET /v2/ HTTP/1.1 ", "Host: x"),
    smuggle("GET /v2/ http/1.1", "Host: x"),
    smuggle("G@T /v2/ HTTP/1.1", "Host: x"),
    b"GET /v2/ HTTP/1.1\nHost: x\n\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\n\r\n\r\n",
    b"GET /v2/\r\n\r\n",
    b"\x00\x01\x02\x03\r\n\r\n",
], ids=lambda d: d[:60].decode("latin-1").encode("unicode_escape").decode())
def test_smuggling(daemon, upstream, data):
    """What could be read in two ways is answered once, with 400, and the connection is
    closed: the request that hides behind it is never seen."""
    answers = rawhttp.exchange(daemon.address, data + CANARY)
    assert [a.status for a in answers] == [400]
    assert answers[0].complete and answers[0]["Connection"] == "close"
    assert upstream.count(where="canary") == 0


@pytest.mark.parametrize("data, status", [
    (b"GET /v2/ HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    (b"GET /v2/ HTTP/0.9\r\nHost: x\r\n\r\n", 505),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 20000 + b"\r\n\r\n", 431),
    (b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
])
def test_limits(daemon, upstream, data, status):
    """Heads that are too large, and other versions, have statuses of their own."""
    answers = rawhttp.exchange(daemon.address, data + CANARY)
    assert [a.status for a in answers] == [status]
    assert upstream.count(where="canary") == 0


def test_megabyte_head(daemon):
    """A client that sends a megabyte of head gets its refusal or a reset, soon."""
    with daemon.connect() as c:
        try:
            c.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 1_000_000)
            assert c.read_response().status == 431
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert daemon.get("/v2/").status == 200


def test_body_of_a_get(daemon, upstream):
    """A body where none belongs never becomes a request."""
    answers = rawhttp.exchange(daemon.address, smuggle(
        "GET /v2/ HTTP/1.1", "Host: x", f"Content-Length: {len(CANARY)}", body=CANARY))
    assert 1 <= len(answers) <= 1
    assert upstream.count(where="canary") == 0


def test_slow_head(daemon):
    """A head that does not end within head-timeout: the connection is closed."""
    with daemon.connect(timeout=10) as c:
        c.send(b"GET /v2/ HTTP/1.1\r\nHo")
        while c.receive():
            pass
        assert c.buffer == b"" or c.buffer.startswith(b"HTTP/1.1 408")


def test_idle_connection(daemon):
    """A connection without a request is closed after idle-timeout, without a word."""
    with daemon.connect(timeout=10) as c:
        c.request("/v2/")
        c.read_response()
        assert c.at_end()


def test_silent_connections_do_no_harm(daemon):
    """Two hundred connections that say nothing: others are served, and all are
    closed in the end."""
    silent = [daemon.connect() for _ in range(200)]
    assert daemon.get("/v2/").status == 200
    until("the silent ones are closed", lambda: daemon.metric("connections") <= 1)
    for c in silent:
        c.close()


def test_tls_at_a_plain_port(upstream, cachalot):
    """podman and skopeo try TLS first where a mirror is marked insecure, and wait ten
    seconds for an answer: a ClientHello is refused at once."""
    daemon = cachalot({HUB: upstream.url}, {"listener main": {"head-timeout": "60s"}})
    hello = bytes.fromhex("16030100c0010000bc0303") + bytes(range(180))
    with daemon.connect(timeout=8) as c:
        c.send(hello)
        while c.receive():
            pass
