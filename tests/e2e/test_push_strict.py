# SPDX-License-Identifier: ISC
"""What clients push that is off the grammar, not what they said, too large, too slow or not
theirs: it is refused in words that they can read, and nothing of it stays."""

import itertools
import json
import socket
import ssl
import time

import pytest

from lib import image, rawhttp
from lib.cachalot import Cachalot
from lib.crowd import together
from lib.hub import Hub
from lib.image import OCI, digest_of, noise
from lib.paths import HUB
from lib.process import free_port
from lib.pusher import (EVERYBODY, STYLES, Pusher, Session, begin_request, call, chunked,
                        errors, open_request, read_answer, refused, with_digest)
from lib.wait import until

DATA = noise(5000, "strict")
DIGEST = digest_of(DATA)
HEX = "0123456789abcdef" * 4
UNKNOWN = "0" * 32
STALL_MS = 700
counter = itertools.count(1)


@pytest.fixture(scope="module")
def upstream():
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, upstream):
    """One whose clients may not stop for long."""
    options = {**EVERYBODY, "listener main": {"stall-timeout": f"{STALL_MS}ms"}}
    d = Cachalot(tmp_path_factory.mktemp("strict"), {HUB: upstream.url}, options)
    d.start()
    yield d
    d.close()


def some_repository(daemon):
    return Pusher(daemon.address, f"team/strict-{next(counter)}")


@pytest.fixture
def p(daemon):
    return some_repository(daemon)


@pytest.fixture
def unchanged(daemon):
    """Nothing is stored, and no session is left, that was not there before."""
    stored, partials = daemon.stored(), daemon.partials()
    yield
    assert daemon.stored() == stored
    until("no more sessions than before", lambda: daemon.partials() == partials)


def patched(p, data=DATA[:1000]):
    """A session that has something."""
    s = p.begin()
    assert s.patch(data).status == 202
    return s


def check_goes_on(s):
    """The session still has its first 1000 bytes and takes the rest."""
    assert s.received() == "0-999"
    assert s.put(DIGEST, DATA[1000:], 1000).status == 201
    assert s.pusher.blob(DIGEST).body == DATA


# --- names ---


@pytest.mark.parametrize("name", [
    "..", "a/../b", "%2e%2e/a", "a%2fb", "a%00b", "A", "Team/App", "a_-b", "-a", "a.", "a..b",
    "/", "a/-/b", "\u00e9".encode().decode("latin-1"), "a b", "a%20b", "a" * 256,
    "a/" * 200 + "b", "_catalog/x/..", "a:b", "a@b",
])
def test_bad_names(p, unchanged, name):
    """Row 55 of the fault list: a repository's name that is off its grammar is 400, or 404
    where the path then has no meaning, for every way to push."""
    for method, rest in (("POST", "blobs/uploads/"), ("POST", f"blobs/uploads/?digest={DIGEST}"),
                         ("PUT", "manifests/1"), ("PUT", f"manifests/{DIGEST}"),
                         ("PATCH", f"blobs/uploads/{UNKNOWN}"), ("DELETE", "manifests/1"),
                         ("DELETE", f"blobs/{DIGEST}")):
        got = p.call(method, f"/v2/{name}/{rest}", DATA,
                     [("Content-Type", OCI["manifest"])])
        assert got.status in (400, 404), got
        errors(got)


@pytest.mark.parametrize("tag", ["..", "%2e%2e", "-x", ".x", "a%00", "a%2fb", "t" * 129, "a b",
                                 "a:b", "\u00e9".encode().decode("latin-1"), "%25"])
def test_bad_tags(p, unchanged, tag):
    """Row 55: of a tag; in the path, and as a parameter of a push by digest, where none of
    the other tags is made either."""
    data = b'{"schemaVersion":2,"manifests":[]}'
    got = p.put_manifest(tag, data, OCI["index"])
    assert got.status in (400, 404), got
    got = p.put_manifest(f"{digest_of(data)}?tag=good&tag={tag}", data, OCI["index"])
    assert got.status == 400, got
    assert p.manifest("good").status == 404


def test_too_many_tags(p, unchanged):
    """More tags at once than there is room for, and an empty one."""
    data = b'{"schemaVersion":2,"manifests":[]}'
    for query in ("&".join(f"tag=t{i}" for i in range(33)), "tag=", "tag"):
        got = p.put_manifest(f"{digest_of(data)}?{query}", data, OCI["index"])
        assert got.status == 400, got


BAD_DIGESTS = [
    "sha256:" + HEX[:63], "sha256:" + HEX + "0", "sha256:" + HEX.upper(), "SHA256:" + HEX,
    "md5:" + HEX[:32], "sha512:" + HEX, "sha384:" + HEX + HEX[:32], "sha256:", "sha256", HEX,
    "sha256:" + "../" * 21 + "x", "sha256:" + HEX[:-3] + "%00", "sha256:baddigeststring",
    "sha256%253A" + HEX, "sha256+b64u:" + HEX, "",
]


@pytest.mark.parametrize("digest", BAD_DIGESTS)
def test_bad_digests(p, digest):
    """Row 55: of a digest, as path and as parameter; the session that was to be closed with
    it goes on."""
    s = patched(p)
    for got in (p.post(f"?digest={digest}", DATA), p.post(f"?mount={digest}"),
                s.put(digest, DATA[1000:])):
        refused(got, 400, "DIGEST_INVALID")
    if digest:
        assert p.call("DELETE", p.path(f"blobs/{digest}")).status in (400, 404)
    check_goes_on(s)


def test_parameters(p):
    """A closing PUT without a digest, a digest twice, a broken escape, a name that is too
    long to be one: 400, and the session goes on."""
    s = patched(p)
    refused(s.call("PUT", DATA[1000:]), 400, "DIGEST_INVALID")
    for query in (f"digest={DIGEST}&digest={DIGEST}", f"digest={DIGEST}&x=%zz",
                  f"digest={DIGEST}&tag=..", "digest-algorithm=", "digest-algorithm=sha1"):
        assert p.call("PUT", f"{s.location}?{query}", DATA[1000:]).status == 400, query
    assert p.post(f"?mount={DIGEST}&from=" + "a" * 400).status == 400
    check_goes_on(s)


# --- sessions ---


METHODS_OF_A_SESSION = (("GET", b""), ("PATCH", DATA), ("PUT", DATA), ("DELETE", b""))


@pytest.mark.parametrize("id", [UNKNOWN, "x", "f" * 31, "f" * 33, "F" * 32, "g" * 32, "a%00b",
                                "..", ".", "%2e%2e", "a%2fb", "a" * 128, "a" * 129, "-",
                                "upload-x", "0" * 31 + "%30%30", "%C3%A9"])
def test_wrong_ids(p, unchanged, id):
    """Row 56: an id that no session has is 404, off its grammar or not, by every method, and
    nothing is made or removed."""
    path = p.path(f"blobs/uploads/{id}")
    for method, body in METHODS_OF_A_SESSION:
        refused(p.call(method, f"{path}?digest={DIGEST}", body), 404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("id", ["%", "%zz", "%2", "a b", "\u00e9".encode().decode("latin-1")])
def test_broken_ids(p, unchanged, id):
    """The same where it is not even a target of HTTP: 400."""
    for method, body in METHODS_OF_A_SESSION:
        got = p.call(method, p.path(f"blobs/uploads/{id}?digest={DIGEST}"), body)
        assert got.status == 400, got


def test_foreign_session(daemon, p):
    """Row 56: another repository's session is unknown here, whatever is done to it, and it
    is none the worse."""
    s = patched(p)
    thief = some_repository(daemon)
    path = thief.path(f"blobs/uploads/{s.id}")
    for method, body in METHODS_OF_A_SESSION:
        got = thief.call(method, f"{path}?digest={DIGEST}", body)
        refused(got, 404, "BLOB_UPLOAD_UNKNOWN")
    check_goes_on(s)
    assert not thief.has_blob(DIGEST)


def finish(s):
    assert s.put(DIGEST, DATA[1000:]).status == 201


def cancel(s):
    assert s.cancel().status == 204


def fail(s):
    refused(s.put(digest_of(b"x"), DATA[1000:]), 400, "DIGEST_INVALID")


@pytest.mark.parametrize("end", [finish, cancel, fail])
def test_reused_session(p, end):
    """Row 56: a session that has ended, well or badly or by a DELETE, is unknown."""
    s = patched(p)
    end(s)
    for got in (s.status(), s.patch(DATA), s.put(DIGEST, DATA), s.cancel()):
        refused(got, 404, "BLOB_UPLOAD_UNKNOWN")


def test_two_at_once(p):
    """Row 56: while one request sends to a session another is refused, by any method; then
    the session goes on."""
    s = p.begin()
    with rawhttp.Connection(p.address) as c:
        open_request(c, "PATCH", s.location, 1000)
        c.send(DATA[:500])
        for got in (s.status(), s.patch(DATA), s.put(DIGEST, DATA), s.cancel()):
            refused(got, 409, "BLOB_UPLOAD_INVALID")
        c.send(DATA[500:1000])
        assert s.take(read_answer(c)).status == 202
    check_goes_on(s)


def test_two_puts(p):
    """Row 56: eight clients close one session at once: one of them gets its 201, the others
    an error, and the blob is right."""
    for _ in range(10):
        s = patched(p)
        statuses = sorted(got.status for got in
                          together(8, lambda i, s=s: s.put(DIGEST, DATA[1000:], 1000)))
        assert statuses[0] == 201 and set(statuses[1:]) <= {404, 409, 416}, statuses
        assert p.blob(DIGEST).body == DATA


# --- digests ---


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("size", [0, 1, 1_200_000])
@pytest.mark.parametrize("style", STYLES, ids=lambda s: s.__name__)
def test_mismatch(p, unchanged, style, size, algorithm):
    """Another digest than the content's is 400 in every style; nothing is stored, and the
    session is gone."""
    wrong = digest_of(b"something else", algorithm)
    refused(style(p, noise(size, "mismatch"), wrong), 400, "DIGEST_INVALID")
    assert not p.has_blob(wrong)


def test_mismatch_of_what_is_held(p):
    """The digest of another blob that is here already: 400, and that blob stays."""
    p.push_blob(DATA)
    for style in STYLES:
        refused(style(p, DATA[:-1] + b"?", DIGEST), 400, "DIGEST_INVALID")
        refused(style(p, DATA + b"?", DIGEST), 400, "DIGEST_INVALID")
        refused(style(p, b"", DIGEST), 400, "DIGEST_INVALID")
    assert p.blob(DIGEST).body == DATA


# --- Content-Range ---


@pytest.mark.parametrize("start", [0, 1, 500, 999, 1001, 1500, 2**31, 2**32, 2**53, 2**62])
def test_gap_and_overlap(p, start):
    """Row 56: a chunk that leaves a gap or overlaps is 416; no byte of it is taken."""
    s = patched(p)
    for body in (DATA[1000:], [DATA[1000:]]):
        fields = [("Content-Range", f"{start}-{start + 3999}")]
        for got in (s.patch(body, fields=fields), s.put(DIGEST, body, fields=fields)):
            refused(got, 416, "BLOB_UPLOAD_INVALID")
    check_goes_on(s)


@pytest.mark.parametrize("value", [
    "", "x", "-", "1000", "1000-", "-1999", "1999-1000", "1000-1999-", "1000 -1999",
    "+1000-1999", "1000--1999", "0x3e8-0x7cf", "1000-1999,2000-2999", "bytes=1000-1999",
    "bytes 1000-", "bytes */5000", "octets 1000-1999", "1000-99999999999999999999",
    "99999999999999999999-99999999999999999999", "1000-9223372036854775807",
    "18446744073709551615-18446744073709552614", "1e3-2e3", "1000-1999 x",
])
def test_nonsense_range(p, value):
    """Row 56: a Content-Range that is none is 400; no byte is taken."""
    s = patched(p)
    fields = [("Content-Range", value)]
    for got in (s.patch(DATA[1000:2000], fields=fields),
                s.put(DIGEST, DATA[1000:], fields=fields)):
        refused(got, 400, "BLOB_UPLOAD_INVALID")
    check_goes_on(s)


def test_two_ranges(p):
    """RFC 9110 section 5.3: the field twice is 400."""
    s = patched(p)
    got = s.patch(DATA[1000:2000], fields=[("Content-Range", "1000-1999")] * 2)
    assert got.status == 400
    check_goes_on(s)


@pytest.mark.parametrize("last", [1000, 1998, 2000, 4999])
def test_range_and_length_disagree(p, last):
    """A Content-Range that is longer or shorter than Content-Length: 400, no byte taken."""
    s = patched(p)
    fields = [("Content-Range", f"1000-{last}")]
    for got in (s.patch(DATA[1000:2000], fields=fields),
                s.put(DIGEST, DATA[1000:2000], fields=fields)):
        refused(got, 400, "BLOB_UPLOAD_INVALID")
    check_goes_on(s)


@pytest.mark.parametrize("last", [1000, 1998, 2000, 4999])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_range_and_chunks_disagree(p, method, last):
    """A chunked body that is longer or shorter than its Content-Range: 400, and no blob. The
    session goes on from where it says that it is."""
    s = patched(p)
    path = with_digest(s.location, DIGEST) if method == "PUT" else s.location
    got = p.call(method, path, [DATA[1000:1500], DATA[1500:2000]],
                 [("Content-Range", f"1000-{last}")])
    refused(got, 400, "BLOB_UPLOAD_INVALID")
    assert not p.has_blob(DIGEST)
    at = int(s.received().split("-")[1]) + 1
    assert 1000 <= at <= 2000
    assert s.put(DIGEST, DATA[at:], at).status == 201


# --- bodies that are not what was declared ---


@pytest.mark.parametrize("ending", ["fin", "half", "reset"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_shorter_than_declared(p, method, ending):
    """A body that ends early: no 201 and no blob. What came is in the session, which says
    so and goes on."""
    s = patched(p)
    with rawhttp.Connection(p.address) as c:
        path = with_digest(s.location, DIGEST) if method == "PUT" else s.location
        open_request(c, method, path, 4000)
        c.send(DATA[1000:3000])
        if ending == "half":
            c.socket.shutdown(socket.SHUT_WR)
            assert not c.receive() or c.buffer.startswith(b"HTTP/1.1 400")
        elif ending == "reset":
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    until("the session is free", lambda: s.status().status == 204)
    assert not p.has_blob(DIGEST)
    at = int(s.received().split("-")[1]) + 1
    assert 1000 <= at <= 3000
    assert s.put(DIGEST, DATA[at:], at).status == 201
    assert p.blob(DIGEST).body == DATA


def test_post_shorter_than_declared(p, unchanged):
    """The same of a single POST, whose session nobody knows: nothing of it stays."""
    with rawhttp.Connection(p.address) as c:
        begin_request(c, "POST", p.path(f"blobs/uploads/?digest={DIGEST}"), len(DATA))
        c.send(DATA[:3000])
    assert not p.has_blob(DIGEST)


def test_manifest_shorter_than_declared(p, unchanged):
    """The same of a manifest, whole JSON though it may be."""
    data = b'{"schemaVersion":2,"manifests":[]}'
    with rawhttp.Connection(p.address) as c:
        begin_request(c, "PUT", p.path("manifests/1"), len(data) + 1,
                      [("Content-Type", OCI["index"])])
        c.send(data)
    assert p.manifest("1").status == 404


def test_longer_than_declared(p):
    """A body that goes on beyond its length: what was declared counts, what follows is read
    as a request and is none."""
    s = p.begin()
    with rawhttp.Connection(p.address) as c:
        begin_request(c, "PUT", with_digest(s.location, DIGEST), len(DATA))
        c.send(DATA + b"\x00more of it\r\n\r\n")
        assert read_answer(c).status == 201
        assert read_answer(c).status == 400
        assert c.at_end()
    assert p.blob(DIGEST).body == DATA


BROKEN_CODINGS = [
    b"zz\r\nabcde\r\n0\r\n\r\n", b"-5\r\nabcde\r\n0\r\n\r\n", b"+5\r\nabcde\r\n0\r\n\r\n",
    b"0x5\r\nabcde\r\n0\r\n\r\n", b"5 \r\nabcde\r\n0\r\n\r\n", b" 5\r\nabcde\r\n0\r\n\r\n",
    b"\r\nabcde\r\n0\r\n\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"5\r\nabcde0\r\n\r\n",
    b"5\r\nabcde\n0\r\n\r\n", b"5\nabcde\r\n0\r\n\r\n", b"5;a=b\r\nabcde\r\n0\r\n\r\n",
    b"5\rabcde\r\n0\r\n\r\n", b"ffffffffffffffff\r\nabcde", b"10000000000000000005\r\nabcde",
    b"8000000000000000\r\nabcde", b"5\r\nabcde\r\n0\r\n: nameless\r\n\r\n",
    b"5\r\nabcde\r\n0\r\nno colon\r\n\r\n", b"5\r\nabcde\r\n0\r\n bad: x\r\n\r\n",
    b"5\r\nabcde\r\n0\r\nA: b\x00\r\n\r\n", b"5\r\nabcde\r\n0\r\nA: " + b"b" * 5000 + b"\r\n\r\n",
]
CANARY = b"GET /v2/docker.io/library/canary/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("coding", BROKEN_CODINGS, ids=lambda c: ascii(c[:40])[2:-1])
@pytest.mark.parametrize("where", ["PATCH", "PUT", "manifest"])
def test_broken_chunks(p, upstream, where, coding):
    """Row 51: a chunked body that is off its coding is 400 and the end of the connection,
    what follows is not seen; no blob and no manifest, and the session goes on."""
    s = patched(p, DATA[:1000])
    path = {"PATCH": s.location, "PUT": with_digest(s.location, digest_of(DATA[:1000] + b"abcde")),
            "manifest": p.path("manifests/1")}[where]
    with rawhttp.Connection(p.address) as c:
        begin_request(c, "PUT" if where == "manifest" else where, path, None,
                      [("Content-Type", OCI["manifest"])])
        c.send(coding + CANARY)
        got = read_answer(c)
        assert got.status == 400 and got["Connection"] == "close"
        errors(got)
        assert c.at_end()
    assert upstream.count(where="canary") == 0
    assert not p.has_blob(digest_of(DATA[:1000] + b"abcde"))
    assert p.manifest("1").status == 404
    at = int(s.received().split("-")[1]) + 1
    assert at in (1000, 1005)
    assert s.cancel().status == 204


@pytest.mark.parametrize("fields", [
    [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
    [("Content-Length", "5"), ("Content-Length", "5")], [("Content-Length", "-5")],
    [("Content-Length", "5, 5")], [("Content-Length", "0x5")], [("Content-Length", "1" * 30)],
    [("Transfer-Encoding", "gzip, chunked")], [("Transfer-Encoding", "identity")],
    [("Content-Length", str(2**64))], [("Content-Length", str(2**63))],
], ids=str)
def test_framing(p, upstream, fields):
    """Row 51: a body whose end could be read in two ways is 400, once, and nothing of it is
    taken or seen as a request."""
    s = patched(p)
    with rawhttp.Connection(p.address) as c:
        c.request(s.location, "PATCH", fields)
        c.send(b"5\r\nabcde\r\n0\r\n\r\n" + CANARY)
        assert read_answer(c).status == 400
        assert c.at_end()
    assert upstream.count(where="canary") == 0
    check_goes_on(s)


# --- manifests ---


def deep(depth, opening, closing):
    return (b'{"schemaVersion":2,"manifests":[],"x":' + opening * depth + closing * depth + b"}")


def descriptor(**members):
    found = {"mediaType": OCI["manifest"], "size": 5, "digest": digest_of(b"hello"), **members}
    return json.dumps({k: v for k, v in found.items() if v is not None}).encode()


def index_of(raw):
    return b'{"schemaVersion":2,"manifests":[' + raw + b"]}"


BAD_MANIFESTS = {
    "nothing": b"", "white space": b" \n", "null": b"null", "a list": b"[]", "a text": b'"a"',
    "a number": b"2", "no JSON": b"schemaVersion: 2", "cut": b'{"schemaVersion":2,"manif',
    "more behind": b'{"schemaVersion":2,"manifests":[]}{}', "comment": b'{"manifests":[]/**/}',
    "comma": b'{"manifests":[],}', "apostrophes": b"{'manifests':[]}",
    "byte order mark": b'\xef\xbb\xbf{"schemaVersion":2,"manifests":[]}',
    "utf-16": '{"schemaVersion":2,"manifests":[]}'.encode("utf-16"),
    "latin-1": b'{"schemaVersion":2,"manifests":[],"x":"\xe9"}',
    "overlong": b'{"schemaVersion":2,"manifests":[],"x":"\xc0\xaf"}',
    "surrogates in utf-8": b'{"schemaVersion":2,"manifests":[],"x":"\xed\xa0\x80"}',
    "a lone surrogate": b'{"schemaVersion":2,"manifests":[],"x":"\\ud800"}',
    "surrogates in reverse": b'{"schemaVersion":2,"manifests":[],"x":"\\udc00\\ud800"}',
    "NUL": b'{"schemaVersion":2,"manifests":[],"x":"a\x00b"}',
    "NUL at the end": b'{"schemaVersion":2,"manifests":[]}\x00',
    "NaN": b'{"schemaVersion":2,"manifests":[],"x":NaN}',
    "a huge integer": b'{"schemaVersion":2,"manifests":[],"x":' + b"9" * 400 + b"}",
    "a huge real": b'{"schemaVersion":2,"manifests":[],"x":1e999}',
    "a leading zero": b'{"schemaVersion":02,"manifests":[]}',
    "a key twice": b'{"schemaVersion":2,"manifests":[],"manifests":[]}',
    "a key twice, escaped": b'{"schemaVersion":2,"manifests":[],"manifest\\u0073":[]}',
    "a key twice, deep": b'{"schemaVersion":2,"manifests":[],"annotations":{"a":"1","a":"2"}}',
    "lists 10,000 deep": deep(10_000, b"[", b"]"),
    "objects 10,000 deep": deep(10_000, b'{"a":', b"}").replace(b":}", b":1}"),
    "lists without an end": b"[" * 4_000_000,
    "a million values": b'{"schemaVersion":2,"manifests":[],"x":[' + b"0," * 2_000_000 + b"0]}",
    "manifests is no list": b'{"schemaVersion":2,"manifests":{}}',
    "manifests of numbers": index_of(b"5"),
    "no digest": index_of(descriptor(digest=None)),
    "a bad digest": index_of(descriptor(digest="sha256:" + "../" * 21 + "x")),
    "a digest of upper case": index_of(descriptor(digest="sha256:" + HEX.upper())),
    "an unknown digest": index_of(descriptor(digest="md5:" + HEX[:32])),
    "no size": index_of(descriptor(size=None)), "size < 0": index_of(descriptor(size=-1)),
    "a real size": index_of(descriptor(size=1.5)), "size is text": index_of(descriptor(size="5")),
    "size of 64 bits": index_of(descriptor(size=2**63)),
    "a huge size": index_of(descriptor(size=10**300)),
    "a bad subject": b'{"schemaVersion":2,"manifests":[],"subject":{"digest":"x"}}',
    "subject is text": b'{"schemaVersion":2,"manifests":[],"subject":"x"}',
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_bad_manifests(daemon, p, unchanged, name):
    """Row 57: what is no JSON that everybody reads alike, or is without bounds, or names
    what is nothing, is 400, soon; nothing of it stays, and it is JSON that says so."""
    data = BAD_MANIFESTS[name]
    began = time.monotonic()
    for reference in ("1", digest_of(data)):
        refused(p.put_manifest(reference, data, OCI["index"]), 400, "MANIFEST_INVALID")
    assert time.monotonic() - began < 5
    assert p.manifest("1").status == 404 and p.manifest(digest_of(data)).status == 404
    assert p.get(f"referrers/{digest_of(b'hello')}").status == 200
    assert daemon.get("/-/healthz").status == 200


def test_odd_but_valid_manifests(p):
    """Row 57: what JSON allows is taken as it is."""
    for i, data in enumerate((
            b'\t{ }\n', b'{"manifests":null}',
            b'{"manifests":[],"x":"\\ud83d\\ude00","\\u00e9":1E2,"":{}}',
            index_of(descriptor(size=2**63 - 1)), index_of(descriptor(size=0)),
            b'{"manifests":[],"x":' + b"[" * 20 + b"]" * 20 + b"}",
            index_of(b",".join([descriptor()] * 4096)))):
        assert p.put_manifest(str(i), data, OCI["index"]).status == 201, data[:80]
        assert p.manifest(str(i)).body == data


def test_names_itself(p):
    """Row 57: a manifest cannot have its own digest in it: pushed by the digest that it
    names, it is refused."""
    data = index_of(descriptor(digest=DIGEST))
    refused(p.put_manifest(DIGEST, data, OCI["index"]), 400, "DIGEST_INVALID")
    data = b'{"schemaVersion":2,"manifests":[],"subject":' + descriptor(digest=DIGEST) + b"}"
    refused(p.put_manifest(DIGEST, data, OCI["index"]), 400, "DIGEST_INVALID")


def test_refers_in_a_circle(p):
    """Row 57: an index under the fallback tag of itself; a manifest that refers to one that
    lists it: lists of referrers end."""
    artifact = b'{"schemaVersion":2,"manifests":[],"subject":' + descriptor() + b"}"
    assert p.put_manifest("artifact", artifact, OCI["index"]).status == 201
    index = index_of(descriptor(digest=digest_of(artifact), mediaType=OCI["index"],
                                size=len(artifact)))
    for data in (index, artifact):
        tag = digest_of(data).replace(":", "-")
        assert p.put_manifest(tag, index, OCI["index"]).status == 201
    for data in (index, artifact):
        got = p.get(f"referrers/{digest_of(data)}")
        found = json.loads(got.body)["manifests"]
        assert [d["digest"] for d in found] == [digest_of(artifact)]
    assert p.manifest(digest_of(index)).body == index


def test_texts_of_an_artifact(p):
    """Rows 57 and 66: what a manifest says of itself comes back as JSON, whatever it is."""
    odd = '"><script>alert(1)</script>\r\nX: y \u2028 \x7f \U0001f433'
    data = json.dumps({"schemaVersion": 2, "manifests": [], "artifactType": odd,
                       "annotations": {odd: odd, "n": 5, "empty": ""},
                       "subject": image.Blob(OCI["manifest"], b"hello").descriptor()}).encode()
    assert p.put_manifest("1", data, OCI["index"]).status == 201
    got = p.get(f"referrers/{digest_of(b'hello')}")
    found, = json.loads(got.body)["manifests"]
    assert found["annotations"][odd] == odd and found.get("artifactType", odd) == odd
    got = p.get(f"referrers/{digest_of(b'hello')}?artifactType=%22%3E%0d%0aX:y")
    assert got.status == 200 and json.loads(got.body)["manifests"] == [] and got["X"] is None


# --- refused before the body is there ---

LARGE = 200_000_000
EARLY = {
    "unknown session": ("PATCH", lambda p: p.path(f"blobs/uploads/{UNKNOWN}"), 404),
    "close unknown session": ("PUT", lambda p: with_digest(p.path(f"blobs/uploads/{UNKNOWN}"),
                                                           DIGEST), 404),
    "no digest": ("PUT", lambda p: p.begin().location, 400),
    "bad digest": ("POST", lambda p: p.path("blobs/uploads/?digest=sha256:x"), 400),
    "an upstream's name": ("PUT", lambda p: "/v2/docker.io/library/app/manifests/1", 405),
    "a bad name": ("POST", lambda p: f"/v2/UPPER/blobs/uploads/?digest={DIGEST}", 400),
    "no method": ("PUT", lambda p: p.path(f"blobs/{DIGEST}"), 405),
    "no path": ("PUT", lambda p: "/elsewhere", 404),
    "a manifest": ("PUT", lambda p: p.path("manifests/1"), 413),
}


BODIES = pytest.mark.parametrize("length", [LARGE, None], ids=["whole", "chunked"])


@pytest.fixture(params=EARLY)
def early(request, p, unchanged):
    """(method, path, status) of a request that is refused whatever its body is."""
    method, path, status = EARLY[request.param]
    path = path(p)
    yield method, path, status
    if request.param == "no digest":
        assert p.call("DELETE", path).status == 204


def check_early(c, status):
    """The answer can be read."""
    got = read_answer(c)
    assert got.status == status, got
    errors(got)
    return got


@BODIES
def test_refused_client_sends_all(p, early, length):
    """Row 52: a body of 200 MB is refused: a client that sends all of it before it reads
    still reads the answer, and then the end of the stream: no reset."""
    method, path, status = early
    piece = noise(1_000_000, "large")
    with rawhttp.Connection(p.address) as c:
        begin_request(c, method, path, length, [("Content-Type", OCI["manifest"])])
        for _ in range(LARGE // len(piece)):
            c.send(piece if length else b"%x\r\n%b\r\n" % (len(piece), piece))
        if not length:
            c.send(b"0\r\n\r\n")
        got = check_early(c, status)
        assert not length or got["Connection"] == "close"
        # What can go on is asked to end, which it does as well.
        if not length and status == 413:
            c.request("/v2/", fields=[("Connection", "close")])
            assert c.read_response().status == 200
        assert c.at_end()


@BODIES
def test_refused_client_reads_first(p, early, length):
    """The same of a client that looks for an answer after the head and some of the body: it
    is there already, and then the end of the stream: no reset."""
    method, path, status = early
    if status == 413 and not length:
        pytest.skip("that it is too large shows only later")
    with rawhttp.Connection(p.address) as c:
        begin_request(c, method, path, length, [("Content-Type", OCI["manifest"])])
        c.send(bytes(50_000) if length else b"%x\r\n" % LARGE + bytes(50_000))
        check_early(c, status)
        # Of a body without a length some is read, for it might end.
        c.send(bytes(50_000))
        assert c.at_end()


def test_refused_by_expect(p):
    """RFC 9110 section 10.1.1: a client that asks with Expect is refused without 100, and
    need not send."""
    for case, (method, path, status) in EARLY.items():
        with rawhttp.Connection(p.address) as c:
            begin_request(c, method, path(p), LARGE,
                          [("Content-Type", OCI["manifest"]), ("Expect", "100-continue")])
            got = c.read_head()
            assert got.status == status, case
            errors(c.read_body(got))


@pytest.fixture
def secure(cachalot):
    """A daemon's TLS listener, and a context that trusts it."""
    address = ("127.0.0.1", free_port())
    daemon = cachalot({}, {**EVERYBODY, "listener secure": {
        "role": "registry", "address": "%s:%d" % address, "tls": "yes", "names": "127.0.0.1"}})
    trusted = daemon.get("/-/setup/ca.crt").body.decode()
    return address, ssl.create_default_context(cadata=trusted)


def test_push_over_tls(secure):
    """A whole push over TLS, by one connection."""
    address, context = secure
    data = noise(5_000_000, "over TLS")
    path = "/v2/team/app/blobs"
    with rawhttp.Connection(address).secure(context, "127.0.0.1") as c:
        begin_request(c, "POST", f"{path}/uploads/", 0)
        location = read_answer(c)["Location"]
        begin_request(c, "PATCH", location, None)
        c.send(chunked(data[:3_000_000], data[3_000_000:]))
        location = read_answer(c)["Location"]
        begin_request(c, "PUT", with_digest(location, digest_of(data)), 0)
        assert read_answer(c).status == 201
        c.request(f"{path}/{digest_of(data)}")
        assert c.read_response().body == data


@BODIES
def test_refused_over_tls(secure, length):
    """Row 52 over TLS: a client that sends all of a large body first reads the answer."""
    address, context = secure
    piece = noise(1_000_000, "large")
    with rawhttp.Connection(address).secure(context, "127.0.0.1") as c:
        begin_request(c, "PATCH", f"/v2/team/app/blobs/uploads/{UNKNOWN}", length)
        for _ in range(LARGE // len(piece)):
            c.send(piece if length else b"%x\r\n%b\r\n" % (len(piece), piece))
        check_early(c, 404)


# --- slow ones ---


@pytest.mark.parametrize("sent", [0, 10, 999])
@pytest.mark.parametrize("coded", [False, True], ids=["whole", "chunked"])
def test_stalled_body(p, sent, coded):
    """Row 45: a body that stops for longer than stall-timeout: the connection is closed.
    What came of it is in the session, which goes on."""
    s = patched(p)
    with rawhttp.Connection(p.address, timeout=10) as c:
        begin_request(c, "PATCH", s.location, None if coded else 4000)
        c.send(b"fa0\r\n" * coded + DATA[1000:1000 + sent])
        began = time.monotonic()
        while c.receive():
            pass
        assert time.monotonic() - began > STALL_MS / 2000
    until("the session is free", lambda: s.status().status == 204)
    assert s.received() == f"0-{999 + sent}"
    assert s.put(DIGEST, DATA[1000 + sent:], 1000 + sent).status == 201


def test_stalled_manifest(p, unchanged):
    """The same of a manifest: nothing stays."""
    with rawhttp.Connection(p.address, timeout=10) as c:
        begin_request(c, "PUT", p.path("manifests/1"), 1000, [("Content-Type", OCI["manifest"])])
        c.send(b"{")
        while c.receive():
            pass
    assert p.manifest("1").status == 404


def test_many_stalled_bodies(daemon, p, unchanged):
    """Two hundred clients that begin a body and say no more: others push meanwhile, and all
    are closed in the end."""
    stalled = []
    for _ in range(200):
        c = rawhttp.Connection(p.address)
        begin_request(c, "POST", p.path(f"blobs/uploads/?digest={DIGEST}"), len(DATA))
        c.send(DATA[:100])
        stalled.append(c)
    manifest = p.put_manifest("1", b"{", OCI["index"])
    assert manifest.status == 400
    assert daemon.get("/v2/").status == 200
    until("the stalled ones are closed", lambda: daemon.metric("connections") <= 1)
    for c in stalled:
        c.close()


# --- one behind the other ---


@pytest.mark.parametrize("coded", [False, True], ids=["whole", "chunked"])
def test_pipeline(p, coded):
    """Row 52: requests behind bodies, all sent at once, are answered in their order."""
    s, other = p.begin(), DATA[:700]
    with rawhttp.Connection(p.address) as c:
        for _ in range(3):
            begin_request(c, "PATCH", s.location, None if coded else len(other))
            c.send(chunked(other) if coded else other)
        begin_request(c, "PUT", with_digest(s.location, digest_of(other * 3)), 0)
        c.request(p.path(f"blobs/{digest_of(other * 3)}"))
        assert [s.take(read_answer(c))["Range"] for _ in range(3)] == ["0-699", "0-1399", "0-2099"]
        assert read_answer(c).status == 201
        assert c.read_response().body == other * 3


def test_bytes_by_bytes(p):
    """Row 51: a whole push in pieces of one byte is the same push."""
    s = p.begin()
    text = (f"PATCH {s.location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + chunked(b"abc", b"defgh") +
            f"PUT {with_digest(s.location, digest_of(b'abcdefgh'))} HTTP/1.1\r\nHost: x\r\n"
            "Content-Length: 0\r\n\r\n".encode())
    with rawhttp.Connection(p.address) as c:
        c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(text)):
            c.send(text[i:i + 1])
        assert read_answer(c).status == 202
        assert read_answer(c).status == 201


@pytest.mark.parametrize("body", [b"x" * 100, CANARY, CANARY * 500])
def test_request_behind_a_refused_body(p, upstream, body):
    """Row 52: the body of a request that is refused is never a request; what is pipelined
    behind it is answered, or the connection is closed."""
    with rawhttp.Connection(p.address) as c:
        begin_request(c, "PATCH", p.path(f"blobs/uploads/{UNKNOWN}"), len(body))
        c.send(body)
        c.request("/v2/")
        got = read_answer(c)
        assert got.status == 404
        if got["Connection"] == "close":
            assert c.at_end()
        else:
            assert read_answer(c).status == 200
    assert upstream.count(where="canary") == 0


@pytest.mark.parametrize("size", [10, 60_000, 300_000])
def test_body_of_a_plain_post(p, size):
    """A POST that only asks for a session has no use for a body: the session begins empty,
    and the body is no request."""
    body = (CANARY * (size // len(CANARY) + 1))[:size]
    s = Session(p, p.post("", body))
    assert s.received() == "0-0"
    assert s.put(DIGEST, DATA).status == 201


def test_mount_and_digest(p):
    """A POST that asks for a mount and has the blob with it, in case: 201 either way."""
    for _ in range(2):
        got = p.post(f"?mount={DIGEST}&from={p.repository}&digest={DIGEST}", DATA)
        assert got.status == 201 and got["Docker-Content-Digest"] == DIGEST
        assert p.blob(DIGEST).body == DATA


def test_old_clients(p):
    """HTTP/1.0: a body with its length is taken, without 100; the connection is closed
    after the answer. A chunked one is 400."""
    s = p.begin()
    with rawhttp.Connection(p.address) as c:
        c.request(s.location, "PATCH", [("Content-Length", len(DATA)),
                                        ("Expect", "100-continue")], "HTTP/1.0")
        c.send(DATA)
        assert s.take(c.read_response()).status == 202
        assert c.at_end()
    with rawhttp.Connection(p.address) as c:
        c.request(s.location, "PATCH", [("Transfer-Encoding", "chunked")], "HTTP/1.0")
        c.send(chunked(DATA))
        assert c.read_response().status == 400
    assert s.received() == f"0-{len(DATA) - 1}"
    with rawhttp.Connection(p.address) as c:
        c.request(with_digest(s.location, DIGEST), "PUT", [], "HTTP/1.0")
        assert c.read_response().status == 201


def test_body_where_none_belongs(p):
    """A body of a GET, HEAD or DELETE is not a request, and not taken for a chunk."""
    s = patched(p)
    for method in ("GET", "DELETE"):
        got = call(p.address, method, p.path(f"blobs/uploads/{UNKNOWN}"), CANARY)
        assert got.status == 404
    assert s.call("GET", DATA).status == 204
    check_goes_on(s)
