# SPDX-License-Identifier: ISC
"""kill -9, drain, and what comes after."""

import os
import random
import threading
import time

import pytest

from lib import image, rawhttp, tracer
from lib.crowd import Crowd
from lib.image import ACCEPT, noise
from lib.paths import HUB, blob, manifest
from lib.wait import until

SIZE = 12_000_000
DATA = noise(SIZE, "restart")
DIGEST = image.digest_of(DATA)
BLOB = blob("library/app", DIGEST)


@pytest.fixture
def daemon(hub, cachalot):
    hub.hold_blob("library/app", DATA)
    return cachalot({HUB: hub.url})


def begin(hub, daemon, after):
    """A client in the middle of a download: (gate, connection)."""
    gate = hub.gate("/blobs/", after=after, times=1)
    c = daemon.connect()
    c.request(BLOB)
    assert c.read_head().status == 200
    assert c.read_some(after - 100_000) == DATA[:after - 100_000]
    return gate, c


def test_kill_and_resume(hub, daemon):
    """kill -9 in the middle of a download: the next daemon goes on from what is on
    disk. Two requests, the second for the rest, less than twice the bytes."""
    _, c = begin(hub, daemon, SIZE // 2)
    daemon.wait_metric("commits_total", 1)
    daemon.kill()
    c.close()
    hub.heal()
    daemon.start()
    assert daemon.get(BLOB).body == DATA
    ranges = [r.range for r in hub.asked()]
    assert len(ranges) == 2 and ranges[0] is None
    start = int(ranges[1].removeprefix("bytes=").split("-")[0])
    assert SIZE // 4 < start <= SIZE // 2
    daemon.wait_metric("blobs_stored_total", 1)
    assert daemon.partials() == []


@pytest.mark.skipif(not tracer.is_there(), reason="no strace")
def test_killed_before_the_commit(hub, daemon):
    """kill -9 when the layer has its name in blobs/ and the index does not know: all of it came,
    and none of it comes again. Two requests, the manifest and the layer."""
    item = hub.hold(image.image("commit", (3_000_000,)), "library/app", "1")
    layer = item.layers[0]
    assert daemon.get(manifest("library/app", item.digest), fields=ACCEPT).body == item.data
    with tracer.Tracer(daemon, "fsync", inject="signal=KILL:when=2"):
        assert daemon.get(blob("library/app", layer.digest)).body == layer.data
        daemon.join()
    assert daemon.blob_path(layer.digest).exists()
    daemon.start()
    assert daemon.get(blob("library/app", layer.digest)).body == layer.data
    daemon.wait_metric("blobs_stored_total", 1)
    assert [r.range for r in hub.asked()] == [None, None] and daemon.partials() == []


def test_partial_was_damaged(hub, daemon):
    """After kill -9 the bytes on disk are not what they were (a torn write): the digest
    tells, no client gets a wrong body, and the blob is had in the end. Three requests: the
    first, the rest of it by Range, and the whole; two where no record named the torn bytes."""
    _, c = begin(hub, daemon, SIZE // 2)
    daemon.wait_metric("commits_total", 1)
    daemon.kill()
    c.close()
    hub.heal()
    partial, = daemon.partials()
    with open(partial, "r+b") as f:
        f.seek(1_000_000)
        f.write(b"torn" * 1000)
    daemon.start()
    first = daemon.get(BLOB)
    assert not first.complete or first.body == DATA
    daemon.wait_idle()
    again = daemon.get(BLOB)
    assert again.complete and again.body == DATA
    assert hub.count() == (3 if not first.complete else 2)


def test_partial_of_other_size(hub, daemon):
    """The partial is longer than the blob, or empty: it is not believed. Two requests,
    or a third where the rest was asked for before the digest told."""
    for size in (SIZE + 5000, 0):
        hub.forget()
        _, c = begin(hub, daemon, SIZE // 2)
        daemon.wait_metric("commits_total", 1)
        daemon.kill()
        c.close()
        hub.heal()
        partial, = daemon.partials()
        os.truncate(partial, size)
        daemon.start()
        daemon.get(BLOB)
        daemon.wait_idle()
        assert daemon.get(BLOB).body == DATA
        assert hub.count() in (2, 3)
        assert daemon.stop() == 0
        daemon.blob_path(DIGEST).unlink()
        daemon.start()


@pytest.mark.slow
def test_kill_loop(hub, daemon):
    """kill -9 at random moments of a download, again and again: no wrong byte at any
    client, no orphan in the end, and a daemon that works. (CACHALOT_KILLS=200 for the long run.)"""
    kills = int(os.environ.get("CACHALOT_KILLS", "20"))
    seed = int(os.environ.get("CACHALOT_SEED", "1"))
    rng = random.Random(seed)
    began = time.monotonic()
    assert daemon.get(BLOB).body == DATA
    whole = time.monotonic() - began

    def pull():
        try:
            got = daemon.get(BLOB)
        except (OSError, rawhttp.Closed):
            return
        assert got.status == 200
        assert got.body == DATA[:len(got.body)]

    for i in range(kills):
        if daemon.holds(DIGEST):
            daemon.stop()
            daemon.blob_path(DIGEST).unlink(missing_ok=True)
            daemon.start()
        crowd = Crowd().add(pull).add(pull)
        timer = threading.Timer(rng.uniform(0, 1.5 * whole), daemon.child.kill)
        timer.start()
        timer.join()
        daemon.join()
        crowd.join()
        daemon.check_store()
        daemon.start()
    got = daemon.get(BLOB)
    assert got.complete and got.body == DATA
    until("it is published", lambda: daemon.holds(DIGEST))
    until("nothing is left over", lambda: daemon.partials() == [])
    assert daemon.stored() == {DIGEST}


def test_drain(hub, daemon):
    """SIGTERM: who is being served is served to the end, nobody else is taken, and the
    daemon ends with 0."""
    gate, c = begin(hub, daemon, SIZE // 2)
    daemon.child.terminate()

    def refuses():
        try:
            return daemon.get("/v2/").status == 503
        except (OSError, rawhttp.Closed):
            return True

    until("new clients are refused", refuses)
    gate.open()
    rest = c.read_some(SIZE)
    assert len(rest) == SIZE // 2 + 100_000
    assert rest == DATA[SIZE // 2 - 100_000:]
    assert daemon.join() == 0
    assert daemon.holds(DIGEST)
    assert hub.count() == 1


def test_drain_deadline(hub, cachalot):
    """SIGTERM while the upstream has nothing more to say: after drain-timeout the
    client is cut, the daemon ends with 0, and the next one resumes."""
    hub.hold_blob("library/app", DATA)
    daemon = cachalot({HUB: {"url": hub.url, "stall-timeout": "60s"}},
                      {"cache": {"drain-timeout": "500ms"}})
    _, c = begin(hub, daemon, SIZE // 2)
    assert daemon.stop(timeout=10) == 0
    c.read_some(SIZE)
    hub.heal()
    daemon.start()
    assert daemon.get(BLOB).body == DATA
    assert hub.requests[1].range is not None


def test_drain_of_idle_connections(daemon):
    """Connections without a request do not hold up the end."""
    with daemon.connect() as c:
        c.request("/v2/")
        c.read_response()
        assert daemon.stop(timeout=5) == 0


def test_term_twice(hub, daemon):
    """A second SIGTERM ends the drain."""
    begin(hub, daemon, SIZE // 2)
    daemon.child.terminate()
    until("new clients are refused", lambda: not daemon.healthy())
    daemon.stop(timeout=10)
