# SPDX-License-Identifier: ISC
"""Upstreams that cannot be asked, will not answer, or say no: said as it is."""

import json

import pytest

from lib.crowd import Crowd
from lib.hub import Hub
from lib.image import noise
from lib.paths import HUB, blob, manifest
from lib.sample import BLOB, DATA, DIGEST


@pytest.fixture
def daemon(impatient):
    return impatient


def error_of(got):
    return json.loads(got.body)["errors"][0]


def test_refused(upstream, daemon):
    """Connection refused: 502 that says that the upstream cannot be reached. When it is up
    again, one request."""
    upstream.down()
    for path in (BLOB, manifest("library/app", "1")):
        got = daemon.get(path)
        assert got.status == 502 and "cannot be reached" in json.dumps(error_of(got))
    upstream.up()
    assert daemon.get(BLOB).body == DATA
    assert upstream.count() == 1


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


@pytest.mark.parametrize("said", ["17", None, "Wed, 21 Oct 2099 07:28:00 GMT", "-5", "soon"])
@pytest.mark.parametrize("path", [BLOB, manifest("library/app", "1")])
def test_limited(upstream, daemon, path, said):
    """429 stays 429, with its Retry-After, and the upstream is not pestered."""
    upstream.fault("/v2/", status=429, retry_after=said)
    got = daemon.get(path)
    assert got.status == 429
    assert got["Retry-After"] == "17" if said == "17" else (got["Retry-After"] or "1").isdigit()
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
    """Ten clients wait for one blob whose upstream fails: all ten are told. Three requests, of
    which two are retries."""
    gate = upstream.gate("/blobs/", status=500)
    crowd = Crowd()
    for _ in range(10):
        crowd.add(daemon.get, BLOB)
    gate.wait_reached()
    gate.open()
    assert {got.status for got in crowd.join()} <= {502, 503}
    assert upstream.count() == 3


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
    """One upstream is silent; what comes from another one is served at once, with one
    request."""
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
    assert other.count() == 1


def test_fail_over(upstream, cachalot):
    """Two urls of one upstream: the second is asked when the first cannot be."""
    daemon = cachalot({HUB: {"url": ["http://127.0.0.1:9", upstream.url], "retries": 2}})
    assert daemon.get(BLOB).body == DATA


def test_base_path(upstream, cachalot):
    """An upstream under a path of its host is asked there."""
    daemon = cachalot({HUB: {"url": f"{upstream.url}/registry/hub/", "retries": 0}})
    daemon.get(BLOB)
    assert upstream.requests[0].path == f"/registry/hub/v2/library/app/blobs/{DIGEST}"
