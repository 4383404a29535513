# SPDX-License-Identifier: ISC
"""An upstream that counts requests: it is asked little, and left alone when it says so."""

import pytest

from lib import image
from lib.crowd import together
from lib.image import ACCEPT, noise
from lib.paths import HUB, blob, manifest, tags
from lib.sample import BLOB, DATA, DIGEST
from lib.wait import until

TAG = manifest("library/app", "1")
LIMITED = {"status": 429, "retry_after": "20"}


@pytest.fixture
def item(upstream):
    return upstream.hold(image.image("limits", (2000,)), "library/app", "1")


@pytest.fixture
def daemon(upstream, item, cachalot):
    """It asks about a tag each time, and tries again what may pass."""
    return cachalot({HUB: {"url": upstream.url, "tag-ttl": "0s", "retries": 3}})


def tag(daemon, path=TAG, fields=()):
    return daemon.get(path, fields=[*ACCEPT, *fields])


# --- what is left ---

def test_what_is_left_is_shown(upstream, daemon):
    """What Docker Hub says of its limit is in the metrics; before it has said anything,
    and of who says nothing, no series is. To know it costs no request of its own: three
    HEADs for three clients, and one GET."""
    names = [f'cachalot_upstream_ratelimit_{x}{{registry="{HUB}"}}' for x in ("limit", "remaining")]
    assert tag(daemon).status == 200
    assert not any("ratelimit" in name for name in daemon.metrics())
    upstream.fields = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "7;w=21600"),
                       ("docker-ratelimit-source", "192.0.2.17")]
    tag(daemon)
    assert [daemon.metrics()[name] for name in names] == [100, 7]
    said = [line["message"] for line in daemon.log_lines() if "192.0.2.17" in str(line)]
    assert len(said) == 1 and "7 more requests of 100" in said[0]
    upstream.fields[1] = ("ratelimit-remaining", "6;w=21600")
    tag(daemon)
    assert [daemon.metrics()[name] for name in names] == [100, 6]
    assert upstream.count("HEAD") == 3 and upstream.count("GET") == 1


# --- 429 ---

def test_left_alone(upstream, daemon, item):
    """429 with Retry-After: what is held is served stale, all else is 429 with the time
    that is left, and the upstream hears nothing more, whoever asks for whatever."""
    tag(daemon)
    upstream.forget()
    upstream.fault("/manifests/", **LIMITED)
    upstream.fault("/tags/", **LIMITED)
    assert tag(daemon)["Warning"] is not None
    assert upstream.count() == 1
    for _ in range(5):
        got = tag(daemon)
        assert got.status == 200 and got.body == item.data and got["Warning"] is not None
    answers = together(40, lambda i: tag(daemon, manifest("library/app", f"t{i % 20}")))
    answers.append(daemon.get(tags("library/app")))
    for got in answers:
        assert got.status == 429 and b"TOOMANYREQUESTS" in got.body
        assert 1 <= int(got["Retry-After"]) <= 20
    assert upstream.count() == 1


def test_blobs_go_on(upstream, daemon):
    """Manifests are limited, blobs are not: one under way goes on, another begins. One request
    each."""
    gate = upstream.gate(DIGEST, after=1000)
    other = noise(40_000, "limits")
    digest = upstream.hold_blob("library/app", other)
    with daemon.connect() as c:
        c.request(BLOB)
        gate.wait_reached()
        upstream.fault("/manifests/", **LIMITED)
        assert tag(daemon).status == 429
        assert daemon.get(blob("library/app", digest)).body == other
        gate.open()
        assert c.read_response().body == DATA
    assert upstream.count("HEAD") == 1 and upstream.count("GET") == 2


def test_blobs_limited(upstream, daemon, item):
    """When even blobs are limited, nothing is asked."""
    upstream.fault("/blobs/", **LIMITED)
    assert daemon.get(BLOB).status == 429
    asked = upstream.count()
    for path in (BLOB, blob("library/app", image.digest_of(b"x")), TAG):
        got = daemon.get(path)
        assert got.status == 429 and 1 <= int(got["Retry-After"]) <= 20
    assert upstream.count() == asked == 1


@pytest.mark.parametrize("said, expected", [(None, 10), ("soon", 10), ("86400", 300)])
def test_how_long(upstream, daemon, said, expected):
    """Without a usable Retry-After it is 10 seconds, and never more than five minutes."""
    upstream.fault("/manifests/", status=429, retry_after=said)
    assert int(tag(daemon)["Retry-After"]) == expected
    assert 0 < int(tag(daemon)["Retry-After"]) <= expected
    assert upstream.count() == 1


def test_asked_again(upstream, daemon, item):
    """When the time has passed the upstream is asked again."""
    upstream.fault("/manifests/", times=1, status=429, retry_after="1")
    assert tag(daemon).status == 429
    until("the upstream is asked again", lambda: tag(daemon).status == 200)
    assert tag(daemon)["Warning"] is None


def test_what_a_client_is_told_is_its_own(upstream, daemon, item):
    """A client whose own credentials are limited is told so; others go on being served,
    and the limit of others does not bind it. Five requests: four HEADs, and GET of what is
    there."""
    alice = [("Authorization", "Bearer alice")]
    upstream.fault("/manifests/", times=1, status=403)
    upstream.fault("/manifests/", times=1, **LIMITED)
    assert tag(daemon, fields=alice).status == 429
    got = tag(daemon)
    assert got.status == 200 and got.body == item.data
    upstream.fault("/manifests/", times=1, **LIMITED)
    assert tag(daemon, manifest("library/app", "2")).status == 429
    assert upstream.count("HEAD") == 4 and upstream.count("GET") == 1


# --- what is not there ---

@pytest.mark.parametrize("path", [manifest("library/app", "nope"),
                                  manifest("library/app", image.digest_of(b"nope")),
                                  blob("library/app", image.digest_of(b"nope"))])
def test_absence_is_remembered(upstream, daemon, path):
    """What was not there is not asked for again for a while, by GET nor by HEAD, nor by
    a crowd; what is there is."""
    assert daemon.get(path).status == 404
    asked = upstream.count()
    for got in together(30, lambda i: daemon.get(path, "HEAD" if i % 2 else "GET")):
        assert got.status == 404
    assert b"UNKNOWN" in daemon.get(path).body
    assert upstream.count() == asked <= 2
    assert daemon.get(path.replace("library/app", "library/other")).status == 404
    assert upstream.count() > asked
    assert tag(daemon).status == 200 and daemon.get(BLOB).body == DATA


def test_absence_passes(upstream, item, cachalot):
    """After not-found-ttl it is asked for again: somebody has pushed it by now."""
    daemon = cachalot({HUB: {"url": upstream.url, "not-found-ttl": "300ms"}})
    late = manifest("library/app", "late")
    assert tag(daemon, late).status == 404
    upstream.hold(item, "library/app", "late")
    until("the new tag is seen", lambda: tag(daemon, late).status == 200)


def test_absence_not_remembered(upstream, item, cachalot):
    """not-found-ttl = 0: every question crosses."""
    daemon = cachalot({HUB: {"url": upstream.url, "not-found-ttl": "0"}})
    for _ in range(3):
        assert tag(daemon, manifest("library/app", "nope")).status == 404
    assert upstream.count() == 3


def test_absence_is_for_nobody_in_particular(upstream, daemon, item):
    """A registry says "not found" of what it hides: a client with credentials is let
    through to it all the same, each time."""
    path = manifest("library/app", "hidden")
    assert tag(daemon, path).status == 404
    upstream.forget()
    for i in range(2):
        assert tag(daemon, path, [("Authorization", "Bearer alice")]).status == 404
        assert [r.fields.get("authorization") for r in upstream.requests] == ["Bearer alice"] * (
            i + 1)


def test_absence_of_what_is_held(upstream, daemon, item):
    """A tag that was deleted upstream is served stale, and when it is back it is fresh at
    once: its absence was not remembered. A HEAD each time, one GET."""
    tag(daemon)
    upstream.untag("library/app", "1")
    assert tag(daemon)["Warning"] is not None
    upstream.hold(item, "library/app", "1")
    assert tag(daemon)["Warning"] is None
    assert upstream.count("HEAD") == 3 and upstream.count("GET") == 1
