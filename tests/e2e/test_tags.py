# SPDX-License-Identifier: ISC
"""Tags move; manifests by digest do not."""

import pytest

from lib import image
from lib.image import ACCEPT
from lib.paths import HUB, manifest
from lib.wait import until

TAG = manifest("library/app", "1")


def tag(daemon, method="GET"):
    return daemon.get(TAG, method, ACCEPT)


@pytest.fixture
def first(hub):
    return hub.hold(image.image("tag-1", (2000,)), "library/app", "1")


@pytest.fixture
def fresh(hub, cachalot):
    """A daemon for which tags stay fresh."""
    return cachalot({HUB: {"url": hub.url, "tag-ttl": "1h", "retries": 1}})


@pytest.fixture
def daemon(hub, cachalot):
    """A daemon that asks about a tag each time."""
    return cachalot({HUB: {"url": hub.url, "tag-ttl": "0s", "retries": 1}})


def test_fresh_is_not_asked(hub, fresh, first):
    """A tag that was asked within tag-ttl is not asked again: one GET, at most one
    HEAD, for ten pulls."""
    for _ in range(10):
        assert tag(fresh).body == first.data
        assert tag(fresh, "HEAD")["Docker-Content-Digest"] == first.digest
    assert hub.count("GET") == 1 and hub.count("HEAD") <= 1


def test_stale_is_asked_by_head(hub, daemon, first):
    """After tag-ttl one HEAD is asked, and nothing crosses when the tag stands."""
    tag(daemon)
    hub.forget()
    got = tag(daemon)
    assert got.status == 200 and got.body == first.data
    assert hub.count("HEAD") == 1 and hub.count() == 1


def test_docker_pulls(hub, daemon, first):
    """Docker's way, HEAD of the tag and GET by the digest: one of each crosses."""
    head = tag(daemon, "HEAD")
    assert head.status == 200 and head.length == len(first.data)
    assert head["Docker-Content-Digest"] == first.digest
    assert head["Content-Type"] == first.media_type
    got = daemon.get(manifest("library/app", first.digest), fields=ACCEPT)
    assert got.body == first.data
    assert hub.count("HEAD") == 1 and hub.count("GET") == 1


def test_moved(hub, daemon, first):
    """A moved tag is seen after tag-ttl: one HEAD, and one GET of the new manifest.
    The old one is still served by its digest, for nothing."""
    tag(daemon)
    second = hub.hold(image.image("tag-2", (2000,)), "library/app", "1")
    hub.forget()
    assert tag(daemon).body == second.data
    assert hub.count("HEAD") == 1 and hub.count("GET") == 1
    hub.forget()
    assert daemon.get(manifest("library/app", first.digest), fields=ACCEPT).body == first.data
    assert hub.count() == 0


def check_stale(got, item):
    assert got.status == 200 and got.body == item.data
    assert got["Docker-Content-Digest"] == item.digest
    assert got["Warning"] is not None
    assert "stale" in got["Cache-Status"]


@pytest.mark.parametrize("switches", [
    {"status": 429, "retry_after": "1"}, {"status": 500}, {"status": 503}, {"close": True},
    {"status": 404}, {"status": 403}, {"status": 401},
], ids=lambda s: "-".join(map(str, s.values())))
def test_served_stale(hub, daemon, first, switches):
    """The upstream limits, fails, or has deleted the tag: what is held is served, and
    said to be stale."""
    tag(daemon)
    hub.fault("/manifests/", **switches)
    hub.forget()
    check_stale(tag(daemon), first)
    assert hub.count() <= 4
    hub.heal()
    until("nothing is stale any more", lambda: tag(daemon)["Warning"] is None)


def test_served_stale_when_down(hub, daemon, first):
    """The line is cut: tags and manifests are served, a tag that was never asked for is
    502, and when the line is back nothing is stale."""
    tag(daemon)
    hub.down()
    check_stale(tag(daemon), first)
    head = tag(daemon, "HEAD")
    assert head.status == 200 and head["Warning"] is not None
    assert daemon.get(manifest("library/app", "2")).status == 502
    assert daemon.get(manifest("library/app", first.digest), fields=ACCEPT)["Warning"] is None
    hub.up()
    until("nothing is stale any more", lambda: tag(daemon)["Warning"] is None)


def test_moved_but_not_to_be_had(hub, daemon, first):
    """The tag has moved but the new manifest cannot be fetched: the old one is served
    stale rather than nothing. A HEAD each time; the old one is got once, the new one twice
    without success (one retry) and once with."""
    tag(daemon)
    second = hub.hold(image.image("tag-2b", (2000,)), "library/app", "1")
    hub.fault("/manifests/", method="GET", status=500)
    check_stale(tag(daemon), first)
    hub.heal()
    assert tag(daemon).body == second.data
    assert hub.count("HEAD") == 3 and hub.count("GET", first.digest) == 1
    assert hub.count("GET", second.digest) == 3 and hub.count() == 7


@pytest.mark.parametrize("switches", [{"status": 405}, {"status": 500}, {"close": True},
                                      {"digest": ""}], ids=str)
def test_broken_head(hub, daemon, first, switches):
    """An upstream whose HEAD is broken is asked with GET."""
    hub.fault("/manifests/", method="HEAD", **switches)
    assert tag(daemon).body == first.data
    hub.forget()
    got = tag(daemon)
    assert got.body == first.data and got["Warning"] is None
    assert hub.count("GET") <= 1


def test_unknown_tag(hub, daemon, first):
    """404 only because the upstream said so."""
    got = daemon.get(manifest("library/app", "nope"))
    assert got.status == 404 and b"MANIFEST_UNKNOWN" in got.body
    assert hub.count() <= 2


def test_tag_survives_a_restart(hub, fresh, first):
    """A tag that is fresh is fresh after a restart: the upstream is not asked."""
    tag(fresh)
    fresh.wait_metric("manifests_stored_total", 1)
    assert fresh.stop() == 0
    hub.forget()
    fresh.start()
    assert tag(fresh).body == first.data
    assert hub.count() == 0
