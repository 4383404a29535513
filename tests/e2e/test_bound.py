# SPDX-License-Identifier: ISC
"""The cache stays within its size: what was used least goes, by image, and what is kept is
whole."""

import os
import threading
import time

import pytest

from lib import image
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.wait import until

MIB = 1 << 20


def taken(directory):
    """What du says that the directory takes."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


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
