# SPDX-License-Identifier: ISC
"""Upstreams that break off in the middle: what can be continued is continued."""

import pytest

from lib.crowd import Crowd, together
from lib.image import noise
from lib.paths import HUB, blob
from lib.sample import BLOB, DATA, OTHER, SIZE, check_heals, check_never_wrong


@pytest.fixture
def daemon(impatient):
    return impatient


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


def test_half_closed(upstream, daemon):
    """The upstream ends its side in the middle and keeps the connection: the rest is asked
    for at once, not after a timeout."""
    daemon.sections[f"upstream {HUB}"]["stall-timeout"] = "1h"
    daemon.write_config()
    daemon.hup()
    upstream.fault("/blobs/", truncate_after=400_000, half_close=True, times=1)
    assert daemon.get(BLOB).body == DATA
    assert [r.range for r in upstream.asked()] == [None, "bytes=400000-"]


def test_another_etag(upstream, daemon):
    """After a break the rest comes with another ETag, as from another host of a CDN: it
    says nothing of content that has a digest. No byte crosses twice."""
    upstream.fault("/blobs/", truncate_after=400_000, times=1)
    upstream.fault("/blobs/", etag='"fedcba9876543210"')
    assert daemon.get(BLOB).body == DATA
    assert upstream.bytes_sent() == SIZE and daemon.metric("verify_failures_total") == 0


def test_drip(upstream, daemon):
    """A few bytes a second are no progress: after stall-timeout the rest is asked for. When
    nothing better comes, the retries end, and all who wait are told."""
    upstream.fault("/blobs/", drip=1, times=1)
    got = daemon.get(BLOB)
    assert got.status == 200 and got.body == DATA
    dripped, rest = upstream.asked()
    start = int(rest.range.removeprefix("bytes=").split("-")[0])
    assert 0 < start <= dripped.sent < 200

    other = noise(SIZE, "dripping")
    path = blob("library/app", upstream.hold_blob("library/app", other))
    upstream.fault(path.rpartition("/")[2], drip=1)
    upstream.forget()
    for got in together(5, lambda i: daemon.get(path)):
        assert got.status == 504 or not got.complete
    assert upstream.count() == 3


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
    tells. Two requests; the next client's is a third, for the whole."""
    upstream.fault("/blobs/", truncate_after=400_000, times=1)
    upstream.fault("/blobs/", body=OTHER, times=1)
    got = daemon.get(BLOB)
    assert not got.complete
    assert upstream.count() == 2
    check_heals(daemon, upstream)
    assert [r.range for r in upstream.asked()][2] in (None, "bytes=0-")
    assert upstream.count() == 3


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


def test_idle_connections_are_closed(upstream, daemon):
    """The upstream closes its idle connections between two requests: no error is seen, and
    none is asked twice."""
    for i in range(5):
        data = noise(1000, f"idle-{i}")
        path = blob("library/app", upstream.hold_blob("library/app", data))
        assert daemon.get(path).body == data
        upstream.cut()
    assert upstream.count() == 5


def test_restart_of_the_upstream(upstream, daemon):
    """The upstream goes away and comes back in the middle of a blob: it is continued, with a
    second request."""
    gate = upstream.gate("/blobs/", after=500_000, times=1)
    crowd = Crowd().add(daemon.get, BLOB)
    gate.wait_reached()
    upstream.down()
    upstream.up()
    gate.open()
    assert crowd.join()[0].body == DATA
    assert upstream.count() == 2
