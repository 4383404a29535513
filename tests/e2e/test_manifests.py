# SPDX-License-Identifier: ISC
"""Upstreams that lie about a manifest."""

import pytest

from lib import image
from lib.image import ACCEPT
from lib.paths import manifest
from lib.sample import DIGEST


@pytest.fixture
def daemon(impatient):
    return impatient


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
    length. Two requests, HEAD and GET of the tag."""
    upstream.fault("/manifests/", **switches)
    for reference in ("1", item.digest):
        got = daemon.get(manifest("library/app", reference), fields=ACCEPT)
        assert got.status == 200 and got.body == item.data and got.length == len(item.data)
    assert upstream.count("HEAD") == 1 and upstream.count() == 2


@pytest.mark.parametrize("lie", ["wrong-body", "not-json", "truncated", "too-large"])
def test_manifest_of_another_digest(upstream, daemon, item, lie):
    """Asked by digest, other bytes come: 502. One request; what is cut short is asked for
    again, twice."""
    upstream.fault("/manifests/", **MANIFEST_LIES[lie])
    assert daemon.get(manifest("library/app", item.digest), fields=ACCEPT).status == 502
    assert upstream.count() == (3 if lie == "truncated" else 1)
