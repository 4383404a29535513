# SPDX-License-Identifier: ISC
"""HTTP as clients rely on it (RFC 9110, 9112): content that is in the store."""

import socket

import pytest

from lib import image, rawhttp
from lib.cachalot import Cachalot
from lib.crowd import Crowd
from lib.hub import Hub
from lib.image import ACCEPT, noise
from lib.paths import HUB, blob, manifest

SIZE = 300_000
DATA = noise(SIZE, "http")
BLOB = blob("library/app", image.digest_of(DATA))
ETAG = f'"{image.digest_of(DATA)}"'
ITEM = image.image("http")
MANIFEST = manifest("library/app", "1")


def fill(daemon):
    """Have it hold whatever is asked for below."""
    daemon.start()
    assert daemon.get(BLOB).body == DATA
    assert daemon.get(MANIFEST, fields=ACCEPT).body == ITEM.data
    daemon.wait_metric("manifests_stored_total", 1)
    daemon.wait_idle()
    daemon.wait_metric("blobs_stored_total", 1)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """One daemon for all, and its upstream is down."""
    hub = Hub()
    hub.hold_blob("library/app", DATA)
    hub.hold(ITEM, "library/app", "1")
    d = Cachalot(tmp_path_factory.mktemp("http"), {HUB: {"url": hub.url, "tag-ttl": "1h"}})
    try:
        fill(d)
        hub.close()
        yield d
    finally:
        d.close()


def test_ping(daemon):
    """GET /v2/ says that a registry is here."""
    for path in ("/v2/", "/v2", "//v2/", "/docker.io/v2/"):
        got = daemon.get(path)
        assert got.status == 200 and got.complete
        assert got["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_blob_fields(daemon):
    """A blob comes with its exact length, its digest as ETag, and no coding."""
    got = daemon.get(BLOB, fields=[("Accept-Encoding", "zstd, gzip, deflate")])
    assert got.status == 200 and got.body == DATA
    assert got.length == SIZE
    assert got["Docker-Content-Digest"] == image.digest_of(DATA)
    assert got["ETag"] == ETAG
    assert got["Content-Type"] == "application/octet-stream"
    assert got["Accept-Ranges"] == "bytes"
    assert got["Content-Encoding"] is None and got["Transfer-Encoding"] is None
    assert got["Cache-Status"] == "cachalot; hit"


def test_manifest_fields(daemon):
    """A manifest comes byte for byte, with its type and digest."""
    got = daemon.get(MANIFEST, fields=[*ACCEPT, ("Accept-Encoding", "gzip")])
    assert got.status == 200 and got.body == ITEM.data
    assert got["Content-Type"] == ITEM.media_type
    assert got["Docker-Content-Digest"] == ITEM.digest
    assert got["ETag"] == f'"{ITEM.digest}"'
    assert got["Content-Encoding"] is None


@pytest.mark.parametrize("path", [BLOB, MANIFEST, manifest("library/app", ITEM.digest)])
def test_head_is_get_without_body(daemon, path):
    """HEAD has the fields of GET, and no body: the connection goes on."""
    with daemon.connect() as c:
        c.request(path, "HEAD", ACCEPT)
        head = c.read_response("HEAD")
        c.request(path, "GET", ACCEPT)
        whole = c.read_response()
    for name in ("content-length", "content-type", "docker-content-digest", "etag"):
        assert head[name] == whole[name] is not None
    assert head.status == whole.status == 200


@pytest.mark.parametrize("said, start, end", [
    ("bytes=0-0", 0, 1),
    ("bytes=0-", 0, SIZE),
    ("bytes=500-1499", 500, 1500),
    ("bytes=299999-", SIZE - 1, SIZE),
    ("bytes=-500", SIZE - 500, SIZE),
    ("bytes=-999999999", 0, SIZE),
    ("bytes=299990-99999999999999999", SIZE - 10, SIZE),
    ("Bytes=5-9", 5, 10),
])
def test_range(daemon, said, start, end):
    """One range is answered with that part."""
    got = daemon.get(BLOB, fields=[("Range", said)])
    assert got.status == 206 and got.body == DATA[start:end]
    assert got["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert got.length == end - start


@pytest.mark.parametrize("said", ["bytes=300000-", "bytes=300000-400000", "bytes=-0",
                                  "bytes=18446744073709551615-"])
def test_range_outside(daemon, said):
    """A range outside of the content is 416, and says the size."""
    got = daemon.get(BLOB, fields=[("Range", said)])
    assert got.status == 416 and got["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("said", [
    "bytes=0-1,5-6", "bytes=5-3", "bytes=", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=0-1;",
    "bytes=99999999999999999999999999-", "bytes=--5", "bytes=0x0-5", "bytes 0-5",
])
def test_range_ignored(daemon, said):
    """Several ranges, and what is no range, are answered with the whole; a range that
    no content can have may be 416."""
    got = daemon.get(BLOB, fields=[("Range", said)])
    if said.startswith("bytes=9999") and got.status == 416:
        return
    assert got.status == 200 and got.body == DATA


@pytest.mark.parametrize("said, status", [
    (ETAG, 304), (f"W/{ETAG}", 304), ("*", 304), (f'"x", {ETAG}', 304),
    ('"sha256:00"', 200), (ETAG.strip('"'), 200),
])
def test_if_none_match(daemon, said, status):
    """If-None-Match with the digest: 304, no body."""
    with daemon.connect() as c:
        c.request(BLOB, fields=[("If-None-Match", said)])
        got = c.read_response()
        assert got.status == status
        if status == 304:
            assert got["ETag"] == ETAG and not c.buffer
            c.request(BLOB, "HEAD")
            assert c.read_response("HEAD").status == 200


@pytest.mark.parametrize("said, status", [
    (ETAG, 206), ('"other"', 200), (f"W/{ETAG}", 200), ("Tue, 15 Nov 1994 12:45:26 GMT", 200),
])
def test_if_range(daemon, said, status):
    """If-Range: the part only when the tag is the very same."""
    got = daemon.get(BLOB, fields=[("Range", "bytes=0-9"), ("If-Range", said)])
    assert got.status == status
    assert got.body == (DATA[:10] if status == 206 else DATA)


def test_range_of_a_manifest_head(daemon):
    """A Range on HEAD changes nothing (RFC 9110 section 14.2: only GET)."""
    got = daemon.head(BLOB, fields=[("Range", "bytes=0-9")])
    assert got.status == 200 and got.length == SIZE


def test_keep_alive(daemon):
    """A hundred requests on one connection."""
    with daemon.connect() as c:
        for i in range(100):
            c.request(BLOB if i % 10 == 0 else MANIFEST, fields=ACCEPT)
            got = c.read_response()
            assert got.status == 200 and got.body == (DATA if i % 10 == 0 else ITEM.data)


def test_pipelining(daemon):
    """Requests sent together are answered in order."""
    paths = [MANIFEST, BLOB, "/v2/", BLOB, MANIFEST, "/nothing", BLOB]
    with daemon.connect() as c:
        c.send(b"".join(f"GET {p} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for p in paths))
        got = [c.read_response() for _ in paths]
    assert [g.status for g in got] == [200, 200, 200, 200, 200, 404, 200]
    assert [g.body for g in got if g.length == SIZE] == [DATA] * 3
    assert got[4].body == ITEM.data


def test_many_pipelined(daemon):
    """Three thousand requests before the first answer is read: all are answered, in
    order, and memory does not grow with them."""
    count = 3000
    with daemon.connect() as c:
        crowd = Crowd().add(c.send, f"GET {MANIFEST} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * count)
        for _ in range(count):
            got = c.read_response()
            assert got.status == 200 and got.body == ITEM.data
        crowd.join()


def test_half_closed(daemon):
    """A client that has said that it will send no more still gets what it asked for."""
    with daemon.connect() as c:
        c.request(BLOB)
        c.socket.shutdown(socket.SHUT_WR)
        assert c.read_response().body == DATA
        assert c.at_end()


def test_request_in_pieces(daemon):
    """A head that comes byte by byte is a head."""
    with daemon.connect() as c:
        for byte in b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n":
            c.send(bytes([byte]))
        assert c.read_response().status == 200


def test_slashes_collapse(daemon):
    """Old engines ask for `//v2/`: runs of slashes count as one."""
    assert daemon.get("//v2//docker.io///library/app/manifests//1").body == ITEM.data


@pytest.mark.parametrize("fields, closes", [([], True), ([("Connection", "keep-alive")], False)])
def test_http_1_0(daemon, fields, closes):
    """HTTP/1.0 needs no Host, and is closed after the answer unless it asks."""
    with daemon.connect() as c:
        lines = "".join(f"{n}: {v}\r\n" for n, v in fields)
        c.send(f"GET {BLOB} HTTP/1.0\r\n{lines}\r\n".encode())
        got = c.read_response()
        assert got.status == 200 and got.body == DATA
        if closes:
            assert c.at_end()
        else:
            assert (got["Connection"] or "").lower() == "keep-alive" or c.at_end()


def test_connection_close(daemon):
    """Connection: close is said back and done."""
    with daemon.connect() as c:
        c.request("/v2/", fields=[("Connection", "close")])
        assert c.read_response()["Connection"] == "close"
        assert c.at_end()


def test_absolute_form(daemon):
    """A target in absolute form is served by its path."""
    got = daemon.get(f"http://cachalot.lan:5000{MANIFEST}")
    assert got.status == 200 and got.body == ITEM.data


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
def test_other_methods(daemon, method):
    """An upstream's names are read-only: 405 with Allow, as an OCI error."""
    got = rawhttp.exchange(daemon.address, f"{method} {MANIFEST} HTTP/1.1\r\nHost: x\r\n"
                           "Connection: close\r\nContent-Length: 0\r\n\r\n".encode())
    assert [g.status for g in got] == [405]
    assert b'"UNSUPPORTED"' in got[0].body
    assert got[0]["Allow"] == "GET, HEAD"


def test_escapes_are_decoded_once(daemon):
    """%-escapes in a path are decoded once."""
    assert daemon.get(MANIFEST.replace("library", "l%69brary")).status == 200
    assert daemon.get(MANIFEST.replace("library", "l%2569brary")).status in (400, 404)


def test_nothing_here(daemon):
    """A path without a meaning is 404 in the OCI form."""
    got = daemon.get("/index.php")
    assert got.status == 404 and b'"errors"' in got.body
    assert got["Content-Type"].startswith("application/json")
