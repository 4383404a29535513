# SPDX-License-Identifier: ISC
"""Upstreams that lie about a blob: what is wrong is never complete at any client and
never in the store, and the next pull heals."""

import pytest

from lib import image
from lib.crowd import together
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.sample import BLOB, DATA, OTHER, SIZE, check_heals, check_never_wrong
from lib.wait import until


@pytest.fixture
def daemon(impatient):
    return impatient


LIES = {
    "wrong-bytes": {"body": OTHER},
    "one-bit": {"body": DATA[:-1] + bytes([DATA[-1] ^ 1])},
    "shorter": {"body": DATA[:-1]},
    "longer": {"body": DATA + b"x"},
    "empty": {"body": b""},
    "over-long": {"length": SIZE, "extra": b"GET / HTTP/1.1\r\n" * 100},
    "length-too-large": {"length": SIZE + 1000},
    "length-too-small": {"length": SIZE - 1000},
    "length-absurd": {"length": 2 ** 62},
    "length-negative": {"length": -1},
    "length-two-to-the-64": {"length": 2 ** 64 + SIZE},
    "truncated": {"truncate_after": SIZE // 2, "ignore_range": True},
    "reset": {"truncate_after": SIZE // 2, "reset": True, "ignore_range": True},
    "wrong-digest-field": {"digest": image.digest_of(OTHER)},
    "html": {"body": b"<html>log in to the guest network</html>", "content_type": "text/html"},
    "chunked-wrong": {"chunked": True, "body": OTHER},
    "chunked-short": {"chunked": True, "body": DATA[:-1]},
    "until-close-short": {"no_length": True, "body": DATA[:-1]},
    "unasked-206": {"say": 206, "body": DATA[1:]},
    "no-content": {"say": 204, "body": b""},
    "teapot": {"say": 418},
    "http-2": {"say": 99},
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.threads
def test_lies_about_a_blob(upstream, daemon, lie):
    """Wrong bytes, lengths, types and digests. Two clients, neither gets a complete
    wrong body; nothing wrong is stored; the upstream is asked a few times at most."""
    upstream.fault("/blobs/", **LIES[lie])
    for got in together(2, lambda i: daemon.get(BLOB)):
        check_never_wrong(got)
    assert upstream.count() <= 8
    check_heals(daemon, upstream)


@pytest.mark.parametrize("lie", ["wrong-bytes", "longer", "shorter", "html", "chunked-wrong"])
def test_lies_when_the_size_is_known(upstream, daemon, lie):
    """The same when a manifest has said how large the blob is. Four requests: HEAD and GET of
    the tag, the lie once, the blob when the upstream is well."""
    item = upstream.hold(image.image("known", (50_000,)), "library/app", "1")
    layer = item.layers[0]
    daemon.get(manifest("library/app", "1"), fields=ACCEPT)
    wrong = {**LIES[lie]}
    if lie in ("longer", "shorter"):
        wrong["body"] = layer.data + b"x" if lie == "longer" else layer.data[:-1]
    upstream.fault(layer.digest, **wrong)
    got = daemon.get(blob("library/app", layer.digest))
    assert not (got.status == 200 and got.complete)
    daemon.wait_idle()
    assert not daemon.holds(layer.digest)
    assert upstream.count("GET", layer.digest) == 1
    upstream.heal()
    assert daemon.get(blob("library/app", layer.digest)).body == layer.data
    assert upstream.count("GET", layer.digest) == 2 and upstream.count() == 4


def test_wrong_bytes_are_counted(upstream, daemon):
    """Wrong bytes of the right length: the client is cut before the end, and it is
    counted and logged. One request."""
    upstream.fault("/blobs/", body=OTHER)
    got = daemon.get(BLOB)
    assert not got.complete or got.status == 502
    daemon.wait_metric("verify_failures_total", 1)
    daemon.wait_metric("fetch_failures_total", 1)
    until("the partial is removed", lambda: daemon.partials() == [])
    assert upstream.count() == 1


@pytest.mark.parametrize("switches", [{"chunked": True}, {"no_length": True}], ids=str)
def test_no_length_but_a_manifest(upstream, daemon, switches):
    """An upstream that does not say the length: the manifest does."""
    item = upstream.hold(image.image("chunked", (50_000,)), "library/app", "1")
    daemon.get(manifest("library/app", "1"), fields=ACCEPT)
    layer = item.layers[0]
    upstream.fault("/blobs/", **switches)
    got = daemon.get(blob("library/app", layer.digest))
    assert got.status == 200 and got.complete and got.body == layer.data
    assert upstream.count("GET", "/blobs/") == 1


@pytest.mark.parametrize("raw", [
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nA: " + b"b" * 1_000_000 + b"\r\n\r\n",
    b"HTTP/1.1 307 Moved\r\nLocation: \x00\xff\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 99999 Much\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/9.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"\x00" * 100,
], ids=lambda raw: raw[:70].decode("latin-1").encode("unicode_escape").decode())
def test_not_http(upstream, daemon, raw):
    """What is hardly HTTP: an error for the client, and the daemon goes on. The tag is asked
    for by one HEAD; each of the three is got once, and twice more where it looks like a line
    that broke."""
    item = upstream.hold(image.image("raw", (1000,)), "library/app", "1")
    upstream.fault("/v2/", raw=raw)
    for path in (BLOB, manifest("library/app", "1"), manifest("library/app", item.digest)):
        got = daemon.get(path)
        assert got.status in (502, 504) or (got.status == 200 and not got.complete), got
        assert upstream.count("GET", path.removeprefix(f"/v2/{HUB}")) in (1, 3)
    assert upstream.count("HEAD") == 1
    check_heals(daemon, upstream)


def test_interim_answers(upstream, daemon):
    """Interim answers (103) before the real one are passed over; one request."""
    upstream.fault("/blobs/", before=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3)
    assert daemon.get(BLOB).body == DATA
    assert upstream.count() == 1
