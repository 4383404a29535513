# SPDX-License-Identifier: ISC
"""The cache stays within its size: what was used least goes, by image, and what is kept is
whole."""

import os
import threading
import time

import pytest

from lib import image
from lib.crowd import Crowd
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.wait import until

MIB = 1 << 20


def taken(directory):
    """What du says that the directory takes; a file that is renamed meanwhile counts once."""
    blocks = {}
    for folder, _, names in os.walk(directory):
        for name in [".", *names]:
            try:
                found = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            blocks[found.st_ino] = found.st_blocks
    return sum(blocks.values()) * 512


class Watch:
    """The most that the directory ever took."""

    def __init__(self, directory):
        self.directory, self.most, self.over = directory, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over.wait(0.002):
            self.most = max(self.most, taken(self.directory))

    def close(self):
        self.over.set()
        self.thread.join()


def pull(daemon, item, tag, repository="library/app"):
    """As a client does: the manifest, then what it names."""
    got = daemon.get(manifest(repository, tag), fields=ACCEPT)
    assert got.status == 200 and got.body == item.data, got
    for each in item.blobs:
        got = daemon.get(blob(repository, each.digest))
        assert got.status == 200 and got.body == each.data, got


def next_second():
    """Uses are known to the second."""
    now = int(time.time())
    until("the second is over", lambda: int(time.time()) > now)


def held(daemon, item):
    """Which of the image's files are there: its manifest, then its blobs."""
    return [daemon.blob_path(x.digest).exists() for x in [item, *item.blobs]]


@pytest.fixture
def bounded(hub, cachalot):
    """A daemon with a cache of so many bytes."""
    def make(size, **more):
        return cachalot({HUB: {"url": hub.url, "tag-ttl": "1h"}},
                        {"cache": {"size": f"{size}B", "min-free": "0", **more}})
    return make


def test_least_used_image_goes(hub, bounded, closing):
    """Five images of 3 MiB in a cache of 10 MiB: the first ones go, whole, each with its
    manifest; the directory never takes more than its size; the upstream is asked again for
    what went and for nothing else."""
    daemon = bounded(10 * MIB)
    watch = closing(Watch(daemon.cache))
    items = [hub.hold(image.image(f"bound-{n}", (2 * MIB, MIB)), "library/app", str(n))
             for n in range(5)]
    for n, item in enumerate(items):
        pull(daemon, item, n)
        daemon.wait_idle()
        next_second()
    until("what is over the low mark has gone",
          lambda: taken(daemon.cache) <= 10 * MIB and not any(held(daemon, items[0])))
    for item in items[:2]:
        assert not any(held(daemon, item)), item
    assert all(held(daemon, items[4])) and all(held(daemon, items[3]))
    assert watch.most <= 10 * MIB, watch.most
    assert daemon.metric("cache_limit_bytes") == 10 * MIB
    assert daemon.metric("cache_bytes") <= 10 * MIB
    assert daemon.metric("evicted_images_total") >= 2
    hub.forget()
    pull(daemon, items[4], 4)
    assert hub.count() == 0
    pull(daemon, items[0], 0)
    assert hub.count("GET") == 1 + len(items[0].blobs)


BIG = image.noise(24 * MIB, "larger than the cache")


@pytest.fixture
def too_big(hub):
    """The path of a blob that is larger than the cache."""
    return blob("library/app", hub.hold_blob("library/app", BIG))


def test_larger_than_the_cache(hub, bounded, too_big, closing):
    """A blob that could never be stored is passed on to all who ask at once, from one
    download; nothing of it is on the disk, and a smaller one is stored as ever."""
    daemon = bounded(8 * MIB)
    watch = closing(Watch(daemon.cache))
    gate = hub.gate("/blobs/", after=MIB)
    crowd = Crowd()
    for _ in range(5):
        crowd.add(daemon.get, too_big)
    daemon.wait_metric("readers", 5)
    gate.open()
    for got in crowd.join():
        assert got.status == 200 and got.body == BIG
    daemon.wait_idle()
    assert hub.count("GET") == 1
    assert daemon.metric("streamed_unstored_total") == 1
    assert watch.most <= 8 * MIB
    assert not daemon.stored() and not daemon.partials()
    small = hub.hold_blob("library/app", BIG[:MIB])
    assert daemon.get(blob("library/app", small)).body == BIG[:MIB]
    daemon.wait_metric("blobs_stored_total", 1)


def test_passed_on_in_parts(hub, bounded, too_big):
    """Ranges of it, from anywhere, and its size."""
    daemon = bounded(8 * MIB)
    for first, last in ((0, 99), (MIB, 3 * MIB), (len(BIG) - 10, len(BIG) - 1)):
        got = daemon.get(too_big, fields=[("Range", f"bytes={first}-{last}")])
        assert got.status == 206 and got.body == BIG[first:last + 1]
    daemon.wait_idle()


def test_passed_on_at_two_paces(hub, bounded, too_big):
    """One reader stops in the middle: it keeps the other waiting no longer than it stays,
    and who comes later has a download of his own."""
    daemon = bounded(8 * MIB)
    with daemon.connect() as slow:
        slow.request(too_big)
        assert slow.read_head().status == 200
        assert slow.read_some(2 * MIB) == BIG[:2 * MIB]
        daemon.wait_metric("upstream_bytes_total", 8 * MIB)
        assert daemon.get(too_big).body == BIG
        assert hub.count("GET") == 2
        assert slow.read_some(len(BIG) - 2 * MIB) == BIG[2 * MIB:]
    daemon.wait_idle()


def test_passed_on_and_left(hub, bounded, too_big):
    """Nobody is left who reads it: the download ends."""
    daemon = bounded(8 * MIB)
    gate = hub.gate("/blobs/", after=6 * MIB)
    with daemon.connect() as client:
        client.request(too_big)
        assert client.read_head().status == 200
        client.read_some(MIB)
    gate.open()
    daemon.wait_idle()
    assert daemon.get(too_big).body == BIG


def test_passed_on_and_wrong(hub, bounded, too_big):
    """No client has a complete body with a wrong digest."""
    daemon = bounded(8 * MIB)
    hub.fault("/blobs/", body=BIG[:-1] + b"x", times=1)
    got = daemon.get(too_big)
    assert got.status == 200 and not got.complete and len(got.body) <= len(BIG) - 65536
    daemon.wait_idle()
    assert daemon.get(too_big).body == BIG


def test_passed_on_over_a_broken_line(hub, bounded, too_big):
    """The line breaks in the middle: the download goes on from there."""
    daemon = bounded(8 * MIB)
    hub.fault("/blobs/", truncate_after=10 * MIB, times=1)
    assert daemon.get(too_big).body == BIG
    daemon.wait_idle()
