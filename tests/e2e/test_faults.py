# SPDX-License-Identifier: ISC
"""Upstreams that fail and lie: what is wrong is never complete at any client and never
in the store, what can be continued is continued, and the next pull heals."""

import json

import pytest

from lib import image
from lib.crowd import Crowd, together
from lib.hub import Hub
from lib.image import ACCEPT, noise
from lib.paths import HUB, blob, manifest
from lib.wait import until

SIZE = 1_100_000
DATA = noise(SIZE, "faults")
DIGEST = image.digest_of(DATA)
BLOB = blob("library/app", DIGEST)
OTHER = noise(SIZE, "other")


@pytest.fixture
def upstream(hub):
    hub.hold_blob("library/app", DATA)
    return hub


@pytest.fixture
def daemon(upstream, cachalot):
    return cachalot({HUB: {"url": upstream.url, "retries": 2, "stall-timeout": "400ms",
                           "connect-timeout": "1s", "tag-ttl": "0s"}})


def check_never_wrong(got):
    """An error, a body that is cut short, or the true one."""
    if got.status == 200 and got.complete:
        assert got.body == DATA
    else:
        assert got.status in (200, 502, 503, 504), got


def check_heals(daemon, upstream):
    daemon.wait_idle()
    assert daemon.stored() <= {DIGEST}
    upstream.heal()
    got = daemon.get(BLOB)
    assert got.status == 200 and got.complete and got.body == DATA
    assert daemon.get("/-/healthz").status == 200


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
    """The same when a manifest has said how large the blob is."""
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
    upstream.heal()
    assert daemon.get(blob("library/app", layer.digest)).body == layer.data


def test_wrong_bytes_are_counted(upstream, daemon):
    """Wrong bytes of the right length: the client is cut before the end, and it is
    counted and logged."""
    upstream.fault("/blobs/", body=OTHER)
    got = daemon.get(BLOB)
    assert not got.complete or got.status == 502
    assert daemon.metric("verify_failures_total") >= 1
    assert daemon.metric("fetch_failures_total") >= 1
    until("the partial is removed", lambda: daemon.partials() == [])


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


# --- it breaks off: continue ---

@pytest.mark.threads
@pytest.mark.parametrize("reset", [False, True])
def test_resumed(upstream, daemon, reset):
    """The line breaks in the middle: the client notices nothing; two requests, the
    second for the rest alone, and no byte crosses twice."""
    upstream.fault("/blobs/", truncate_after=400_000, reset=reset, times=1)
    got = daemon.get(BLOB)
    assert got.status == 200 and got.body == DATA
    ranges = [r.range for r in upstream.asked()]
    assert len(ranges) == 2 and ranges[0] is None
    start = int(ranges[1].removeprefix("bytes=").split("-")[0])
    assert 0 < start <= 400_000
    if not reset:
        assert start == 400_000 and upstream.bytes_sent() == SIZE
    assert daemon.metric("upstream_resumes_total") == 1


def test_resumed_again_and_again(upstream, cachalot):
    """A line that breaks every 150 kB and gets on each time: eight requests; three
    retries would not do if progress did not count."""
    daemon = cachalot({HUB: {"url": upstream.url, "retries": 3}})
    upstream.fault("/blobs/", truncate_after=150_000)
    got = daemon.get(BLOB)
    assert got.status == 200 and got.body == DATA
    assert upstream.count() == 8 and upstream.bytes_sent() == SIZE


def test_stall_is_resumed(upstream, daemon):
    """The upstream stalls in the middle: after stall-timeout the rest is asked for."""
    upstream.fault("/blobs/", stall_after=300_000, times=1)
    got = daemon.get(BLOB)
    assert got.status == 200 and got.body == DATA
    assert [r.range for r in upstream.asked()] == [None, "bytes=300000-"]


@pytest.mark.parametrize("wrong", [
    {"ignore_range": True},
    {"content_range": f"bytes 0-699999/{SIZE}"},
    {"content_range": f"bytes 400000-1099999/{SIZE + 1}"},
    {"content_range": "bytes 400000-1099999/*"},
    {"content_range": "pages 1-2/3"},
    {"status": 416},
], ids=str)
def test_resume_is_answered_wrongly(upstream, daemon, wrong):
    """The answer to the Range is a 200, or another range, or another length: start over,
    and the client still gets the true bytes or a body cut short."""
    upstream.fault("/blobs/", truncate_after=400_000, times=1)
    upstream.fault("/blobs/", times=1, **wrong)
    check_never_wrong(daemon.get(BLOB))
    assert upstream.count() <= 4
    check_heals(daemon, upstream)


def test_resume_by_another_content(upstream, daemon):
    """After the break the upstream has other bytes of the same length: the digest
    tells."""
    upstream.fault("/blobs/", truncate_after=400_000, times=1)
    upstream.fault("/blobs/", body=OTHER, times=1)
    got = daemon.get(BLOB)
    assert not got.complete
    check_heals(daemon, upstream)


def test_never_gets_on(upstream, daemon):
    """Every try breaks at the first byte: given up after the retries, the client is
    told or cut; the partial does no harm."""
    upstream.fault("/blobs/", truncate_after=0)
    check_never_wrong(daemon.get(BLOB))
    assert upstream.count() == 3
    check_heals(daemon, upstream)


def test_partial_of_a_failed_fetch_is_used(upstream, daemon):
    """A fetch that was given up has left its bytes: the next one asks for the rest."""
    upstream.fault("/blobs/", truncate_after=500_000, times=1)
    upstream.fault("/blobs/", close=True, times=3)
    got = daemon.get(BLOB)
    assert got.status == 200 and not got.complete
    daemon.wait_idle()
    upstream.heal()
    upstream.forget()
    assert daemon.get(BLOB).body == DATA
    assert [r.range for r in upstream.asked()] == ["bytes=500000-"]


# --- it cannot be asked ---

def error_of(got):
    return json.loads(got.body)["errors"][0]


def test_refused(upstream, daemon):
    """Connection refused: 502 that says that the upstream cannot be reached."""
    upstream.down()
    for path in (BLOB, manifest("library/app", "1")):
        got = daemon.get(path)
        assert got.status == 502 and "cannot be reached" in json.dumps(error_of(got))
    upstream.up()
    assert daemon.get(BLOB).body == DATA


def test_unresolvable(cachalot):
    """A name that does not resolve: 502 that names it."""
    daemon = cachalot({HUB: {"url": "http://nowhere.invalid", "retries": 0}})
    got = daemon.get(BLOB)
    assert got.status == 502 and "nowhere.invalid" in json.dumps(error_of(got))


@pytest.mark.parametrize("path", [BLOB, manifest("library/app", "1")])
def test_silent(upstream, daemon, path):
    """An upstream that accepts and never answers: 504 after stall-timeout."""
    upstream.fault("/v2/", silent=True)
    got = daemon.get(path)
    assert got.status == 504, got
    assert upstream.count() <= 6


@pytest.mark.parametrize("status, answered", [(500, 502), (503, 502), (502, 502)])
def test_server_errors(upstream, daemon, status, answered):
    """Errors of the upstream are tried again, then told: 502 or 503, never 404."""
    upstream.fault("/v2/", status=status)
    got = daemon.get(BLOB)
    assert got.status in (answered, 503), got
    assert upstream.count() == 3


def test_errors_that_pass(upstream, daemon):
    """Twice 503, then the blob: the client sees no error; three requests."""
    upstream.fault("/blobs/", status=503, times=2)
    assert daemon.get(BLOB).body == DATA
    assert upstream.count() == 3


@pytest.mark.parametrize("path", [BLOB, manifest("library/app", "1")])
def test_limited(upstream, daemon, path):
    """429 stays 429, with its Retry-After, and the upstream is not pestered."""
    upstream.fault("/v2/", status=429, retry_after="17")
    got = daemon.get(path)
    assert got.status == 429 and got["Retry-After"] == "17"
    assert error_of(got)["code"] == "TOOMANYREQUESTS"
    assert upstream.count() <= 3


@pytest.mark.parametrize("path, code", [(BLOB, "BLOB_UNKNOWN"),
                                        (manifest("library/app", "1"), "MANIFEST_UNKNOWN"),
                                        (manifest("library/app", DIGEST), "MANIFEST_UNKNOWN")])
def test_not_found(upstream, daemon, path, code):
    """404 stays 404, and is not tried again."""
    upstream.fault("/v2/", status=404)
    got = daemon.get(path)
    assert got.status == 404 and error_of(got)["code"] == code
    assert upstream.count() <= 2


@pytest.mark.parametrize("status", [401, 403])
def test_denied(upstream, daemon, status):
    """An upstream that wants credentials that cachalot has not: 403 or 401, not 404 and
    not 5xx."""
    upstream.fault("/v2/", status=status)
    assert daemon.get(BLOB).status in (401, 403)
    assert upstream.count() <= 2


def test_waiting_clients_are_told(upstream, daemon):
    """Ten clients wait for one blob whose upstream fails: all ten are told."""
    gate = upstream.gate("/blobs/", status=500)
    crowd = Crowd()
    for _ in range(10):
        crowd.add(daemon.get, BLOB)
    gate.wait_reached()
    gate.open()
    assert {got.status for got in crowd.join()} <= {502, 503}


def test_drip(upstream, daemon):
    """A drip of bytes is no stall: the client gets each as it comes, others are served
    meanwhile, and the whole is right."""
    small = noise(600, "drip")
    path = blob("library/app", upstream.hold_blob("library/app", small))
    upstream.fault(path[len("/v2/docker.io"):], drip=100)
    with daemon.connect() as c:
        c.request(path)
        assert c.read_head().length == 600
        assert daemon.get(BLOB).body == DATA
        assert c.read_some(600) == small
    assert upstream.count() == 2


def test_another_upstream_is_not_affected(upstream, daemon, cachalot, closing, tmp_path):
    """One upstream is silent; what comes from another one is served at once."""
    other = closing(Hub())
    other.hold_blob("app", DATA)
    (tmp_path / "two").mkdir()
    upstream.fault("/v2/", silent=True)
    daemon.sections["upstream quay.io"] = {"url": other.url}
    daemon.write_config()
    daemon.hup()
    crowd = Crowd()
    for i in range(8):
        crowd.add(daemon.get, manifest("library/app", f"t{i}"))
    upstream.wait_count(1)
    assert daemon.get(blob("app", DIGEST, "quay.io")).body == DATA
    assert {got.status for got in crowd.join()} == {504}


def test_fail_over(upstream, cachalot):
    """Two urls of one upstream: the second is asked when the first cannot be."""
    daemon = cachalot({HUB: {"url": ["http://127.0.0.1:9", upstream.url], "retries": 2}})
    assert daemon.get(BLOB).body == DATA


# --- redirects ---

def test_redirect(upstream, daemon, closing):
    """A blob on another host (a CDN): followed, once, and verified like any other."""
    cdn = closing(Hub())
    cdn.blobs["store", DIGEST] = DATA
    upstream.fault("/blobs/", redirect=f"{cdn.url}/v2/store/blobs/{DIGEST}?signature=abc")
    got = daemon.get(BLOB)
    assert got.status == 200 and got.body == DATA
    assert upstream.count() == 1 and cdn.count() == 1
    assert "authorization" not in cdn.requests[0].fields


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_statuses(upstream, daemon, status):
    """Every kind of redirect, to an absolute path, of a blob and of a manifest."""
    item = upstream.hold(image.image("moved", (1000,)), "other/app", "1")
    upstream.blobs["other/app", DIGEST] = DATA
    upstream.fault(f"library/app/blobs/{DIGEST}", redirect=f"/v2/other/app/blobs/{DIGEST}",
                   redirect_status=status)
    upstream.fault("library/app/manifests/", redirect=f"/v2/other/app/manifests/{item.digest}",
                   redirect_status=status)
    assert daemon.get(BLOB).body == DATA
    got = daemon.get(manifest("library/app", item.digest), fields=ACCEPT)
    assert got.status == 200 and got.body == item.data
    assert upstream.count("GET") == 4


def test_redirect_is_asked_anew(upstream, daemon, closing):
    """A signed address is not kept: on a break the registry is asked again."""
    cdn = closing(Hub())
    cdn.blobs["store", DIGEST] = DATA
    cdn.fault("/blobs/", truncate_after=400_000, times=1)
    upstream.fault("/blobs/", redirect=f"{cdn.url}/v2/store/blobs/{DIGEST}")
    assert daemon.get(BLOB).body == DATA
    assert upstream.count() == 2 and cdn.count() == 2
    assert cdn.requests[1].range == "bytes=400000-"


@pytest.mark.parametrize("where", [
    "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "http://169.254.169.254/x",
    "javascript:alert(1)", "http://", "//", "", "http://user:password@127.0.0.1:9/x",
])
def test_bad_redirects(upstream, daemon, where):
    """To another scheme, to a metadata address, to nowhere: refused, 502."""
    upstream.fault("/blobs/", redirect=where)
    got = daemon.get(BLOB)
    assert got.status == 502, got
    assert upstream.count() <= 8


def test_redirect_loop(upstream, daemon):
    """A redirect to itself ends."""
    upstream.fault("/blobs/", redirect=f"{upstream.url}/v2/library/app/blobs/{DIGEST}")
    assert daemon.get(BLOB).status == 502
    assert upstream.count() <= 24


def test_redirect_to_cachalot(upstream, daemon):
    """A redirect to cachalot's own listener does not make it wait for itself."""
    upstream.fault("/blobs/", redirect="http://%s:%d%s" % (*daemon.address, BLOB))
    assert daemon.get(BLOB).status in (502, 504)
    check_heals(daemon, upstream)


# --- connections ---

def test_idle_connections_are_closed(upstream, daemon):
    """The upstream closes its idle connections between two requests: no error is seen."""
    for i in range(5):
        data = noise(1000, f"idle-{i}")
        path = blob("library/app", upstream.hold_blob("library/app", data))
        assert daemon.get(path).body == data
        upstream.cut()


def test_restart_of_the_upstream(upstream, daemon):
    """The upstream goes away and comes back in the middle of a blob: it is continued."""
    gate = upstream.gate("/blobs/", after=500_000, times=1)
    crowd = Crowd().add(daemon.get, BLOB)
    gate.wait_reached()
    upstream.down()
    upstream.up()
    gate.open()
    assert crowd.join()[0].body == DATA


# --- manifests ---

@pytest.fixture
def item(upstream):
    return upstream.hold(image.image("m", (1000,)), "library/app", "1")


MANIFEST_LIES = {
    "wrong-body": {"body": b'{"schemaVersion":2,"mediaType":"%s","layers":[]}'
                           % image.OCI["manifest"].encode()},
    "not-json": {"body": b"<html></html>"},
    "html": {"content_type": "text/html", "body": b"<html></html>"},
    "wrong-type": {"content_type": image.OCI["index"]},
    "type-lies": {"content_type": "text/html"},
    "wrong-digest": {"digest": DIGEST},
    "bad-digest": {"digest": "sha256:nothing"},
    "truncated": {"truncate_after": 100},
    "too-large": {"body": b" " * (4 * 1024 * 1024 + 1)},
    "empty": {"body": b""},
}


@pytest.mark.parametrize("lie", MANIFEST_LIES)
@pytest.mark.parametrize("how", ["tag", "digest"])
def test_lies_about_a_manifest(upstream, daemon, item, lie, how):
    """A manifest that is not what it should be: never served, never stored."""
    upstream.fault("/manifests/", **MANIFEST_LIES[lie])
    path = manifest("library/app", "1" if how == "tag" else item.digest)
    got = daemon.get(path, fields=ACCEPT)
    if got.status == 200 and got.complete:
        assert got.body == item.data and got["Content-Type"] == item.media_type
    else:
        assert got.status in (404, 502, 504), got
    assert upstream.count() <= 9
    daemon.wait_idle()
    assert daemon.stored() <= {item.digest}
    upstream.heal()
    assert daemon.get(path, fields=ACCEPT).body == item.data


@pytest.mark.parametrize("switches", [{"chunked": True}, {"no_length": True}], ids=str)
def test_manifest_without_length(upstream, daemon, item, switches):
    """A manifest that comes chunked, or until the close, is taken, and served with its
    length."""
    upstream.fault("/manifests/", **switches)
    for reference in ("1", item.digest):
        got = daemon.get(manifest("library/app", reference), fields=ACCEPT)
        assert got.status == 200 and got.body == item.data and got.length == len(item.data)


@pytest.mark.parametrize("lie", ["wrong-body", "not-json", "truncated", "too-large"])
def test_manifest_of_another_digest(upstream, daemon, item, lie):
    """Asked by digest, other bytes come: 502."""
    upstream.fault("/manifests/", **MANIFEST_LIES[lie])
    assert daemon.get(manifest("library/app", item.digest), fields=ACCEPT).status == 502
