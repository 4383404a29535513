# SPDX-License-Identifier: ISC
"""The disk cannot read what it holds."""

import errno

import pytest

import shim
import tally
from lib.image import digest_of, noise
from lib.paths import blob
from lib.wait import until

DATA = noise(3_000_000, "unreadable")
BLOB = blob("library/app", digest_of(DATA))


@pytest.fixture
def daemon(rig, hub):
    hub.hold_blob("library/app", DATA)
    return rig


def held(daemon):
    daemon.start()
    assert daemon.get(BLOB).body == DATA
    daemon.settle()
    return daemon.blob_path(digest_of(DATA))


def inode(path):
    """None while there is no such file."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def again(path, before):
    until("it is there again", lambda: inode(path) not in (None, before))


def quarantined(daemon):
    return [p.name for p in daemon.cache.glob("quarantine/*")]


def test_while_it_is_sent(daemon, hub):
    """Each read of a body fails in turn: the client gets all of it, or what was read and then the
    end, never anything in its place. A blob that could not be sent is dropped and fetched again,
    once; who asks next gets it."""
    it = daemon({"cache": {"scrub": "0"}})
    path = held(it)
    cuts = 0
    for at in range(1, 100):
        before = inode(path)
        it.shim.arm(shim.READ, errno.EIO, at=at)
        got = it.get(BLOB)
        failed = it.shim.failed
        it.shim.disarm()
        tally.add("faults injected", failed)
        assert got.status == 200 and DATA.startswith(got.body)
        if not got.complete:
            cuts += 1
            again(path, before)
            it.settle()
            assert quarantined(it) == [f"sha256-{path.name}"]
        assert it.get(BLOB).body == DATA
        if failed == 0:
            break
    assert cuts > 0 and hub.count("GET", "/blobs/") == 1 + cuts
    assert it.metric("blobs_dropped_total") == cuts
    until("the last is healed", lambda: it.metric("lost_blobs") == 0)


def test_while_it_is_scrubbed(daemon, hub):
    """The same is found by the scrubber, before anybody asks."""
    it = daemon({"cache": {"scrub": "0"}})
    path = held(it)
    before = inode(path)
    it.shim.arm(shim.READ, errno.EIO, at=1, count=2)  # it looks twice
    it.sections["cache"]["scrub"] = "1s"
    it.write_config()
    it.hup()
    it.wait_metric("scrub_bad_total", 1)
    it.shim.disarm()
    tally.add("faults injected")
    again(path, before)
    it.settle()
    assert it.get(BLOB).body == DATA
    assert hub.count("GET", "/blobs/") == 2
    it.wait_metric("scrub_healed_total", 1)
