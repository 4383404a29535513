# SPDX-License-Identifier: ISC
"""Redirects: followed hop by hop, never to where they must not lead."""

import pytest

from lib import image
from lib.hub import Hub
from lib.image import ACCEPT
from lib.paths import manifest
from lib.sample import BLOB, DATA, DIGEST, check_heals


@pytest.fixture
def daemon(impatient):
    return impatient


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
