# SPDX-License-Identifier: ISC
"""Bandwidth: what crosses the line is held to `rate`, by upstream and as a whole."""

import time

import pytest

from lib.crowd import Crowd
from lib.hub import Hub
from lib.image import image, noise
from lib.paths import HUB, blob, manifest
from lib.wait import until

BYTES = 2_500_000
RATE = 1_000_000  # bytes a second: 8Mbit/s
BURST = 100_000   # passes at once, at the start


def hold(hub, seed):
    return hub.hold_blob("library/app", noise(BYTES, seed))


def timed(function, *arguments):
    began = time.monotonic()
    got = function(*arguments)
    assert got.status == 200 and got.complete
    return time.monotonic() - began


def check_time(seconds, expected):
    """Never faster than the rate; how much slower is the machine's affair too."""
    assert 0.96 * expected - BURST / RATE <= seconds <= 1.5 * expected + 5, seconds


def check_not_held(seconds):
    """What has no rate took nothing like the time of what has one."""
    assert seconds < 0.6 * BYTES / RATE, seconds


def test_upstream(hub, cachalot):
    """8Mbit/s: 2.5 MB take 2.5 s, and a hit takes none."""
    daemon = cachalot({HUB: {"url": hub.url, "rate": "8Mbit/s"}})
    path = blob("library/app", hold(hub, "rate"))
    check_time(timed(daemon.get, path), BYTES / RATE)
    daemon.wait_idle()
    check_not_held(timed(daemon.get, path))


@pytest.mark.parametrize("mbit", [20, 100])
def test_how_exactly(hub, cachalot, mbit):
    """What passes in five seconds is what the rate says: when it has settled, within a
    fraction of a per cent on a machine that is idle. A busy one may hold it up, never make
    it faster."""
    rate = mbit * 1_000_000 // 8
    digest = hub.hold_blob("library/app", noise(7 * rate, "exactly"))
    daemon = cachalot({HUB: {"url": hub.url, "rate": f"{mbit}Mbit/s"}})

    def read(c, seconds):
        """So many seconds' worth."""
        left = seconds * rate
        while left > 0:
            assert c.buffer or c.receive()
            left -= len(c.buffer)
            c.buffer = b""

    with daemon.connect() as c:
        c.request(blob("library/app", digest))
        assert c.read_head().length == 7 * rate
        read(c, 1)
        began, first = time.monotonic(), daemon.metric("upstream_bytes_total")
        read(c, 5)
        last, ended = daemon.metric("upstream_bytes_total"), time.monotonic()
    assert 0.90 <= (last - first) / (ended - began) / rate <= 1.03


def test_all_together(hub, closing, cachalot):
    """The whole has 8Mbit/s: two upstreams share it, one as much as the other."""
    second = closing(Hub())
    daemon = cachalot({HUB: hub.url, "other.test": second.url},
                      {"cache": {"rate": "8Mbit/s"}})
    paths = [blob("library/app", hold(hub, "one")),
             blob("library/app", hold(second, "two"), "other.test")]
    gates = [hub.gate("/blobs/"), second.gate("/blobs/")]
    crowd = Crowd()
    for path in paths:
        crowd.add(timed, daemon.get, path)
    for gate in gates:
        gate.wait_reached()
    began = time.monotonic()
    for gate in gates:
        gate.open()
    first, last = sorted(crowd.join())
    check_time(time.monotonic() - began, 2 * BYTES / RATE)
    assert first >= 0.75 * last


def test_each_has_its_own(hub, closing, cachalot):
    """One upstream has a rate, another none: the other is not held up."""
    second = closing(Hub())
    daemon = cachalot({HUB: {"url": hub.url, "rate": "8Mbit/s"}, "other.test": second.url})
    slow = Crowd().add(timed, daemon.get, blob("library/app", hold(hub, "slow")))
    until("the slow one has begun", lambda: hub.count("GET", "/blobs/") == 1)
    fast = blob("library/app", hold(second, "fast"), "other.test")
    assert daemon.get(fast).complete
    assert slow.is_busy(), "it took as long as what has a rate"
    check_time(slow.join()[0], BYTES / RATE)


def test_small_questions_are_not_held_up(hub, cachalot):
    """While a blob takes all of a small rate, for a minute, tags are answered at once."""
    daemon = cachalot({HUB: {"url": hub.url, "rate": "400kbit/s"}})
    digest = hold(hub, "all")
    hub.hold(image("small"), "library/app", "1")
    with daemon.connect() as c:
        c.request(blob("library/app", digest))
        assert c.read_head().status == 200
        c.read_some(50_000)
        assert timed(daemon.get, manifest("library/app", "1")) < 5
        assert daemon.metric("fetches") == 1


def test_reload(hub, cachalot):
    """A rate taken away by SIGHUP no longer holds what is under way: it would take 50 s."""
    daemon = cachalot({HUB: {"url": hub.url, "rate": "400kbit/s"}})
    crowd = Crowd().add(timed, daemon.get, blob("library/app", hold(hub, "reload")))
    daemon.wait_metric("upstream_bytes_total", 50_000)
    daemon.sections[f"upstream {HUB}"]["rate"] = "0"
    daemon.write_config()
    daemon.hup()
    assert crowd.join()[0] < 20


@pytest.mark.parametrize("rate, is_slow", [
    ("8Mbit/s 00:00-24:00", True),
    ("8Mbit/s mon-sun", True),
    ("0 mon-fri, 0 sat-sun, 8Mbit/s", False),
])
def test_schedule(hub, cachalot, rate, is_slow):
    """The clause whose time it is counts."""
    daemon = cachalot({HUB: {"url": hub.url, "rate": rate}})
    seconds = timed(daemon.get, blob("library/app", hold(hub, "schedule")))
    if is_slow:
        check_time(seconds, BYTES / RATE)
    else:
        check_not_held(seconds)
