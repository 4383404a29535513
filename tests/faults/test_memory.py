# SPDX-License-Identifier: ISC
"""Memory has a ceiling: what is served does not count against it, and where even the least that
is needed is not there, the daemon is killed, and the store is whole."""

import os
import signal
from pathlib import Path

import pytest

import invariants
import operations
import tally
from lib import rawhttp
from lib.crowd import Crowd
from lib.image import noise
from lib.paths import blob
from lib.pusher import Pusher
from lib.wait import until
from loop import SmallDisk

MIB = 1 << 20
ROOT = Path("/sys/fs/cgroup")
LARGE = 64 * MIB
CLIENTS = 8


class Ceiling:
    """A group of processes that may have so much memory, page cache included."""

    def __init__(self, limit_bytes):
        second = (ROOT / "cgroup.controllers").exists()
        above = ROOT if second else ROOT / "memory"
        self.path = above / f"cachalot-faults-{os.getpid()}"
        limit = "memory.max" if second else "memory.limit_in_bytes"
        try:
            self.path.mkdir()
            (self.path / limit).write_text(str(limit_bytes))
        except OSError as why:
            if self.path.exists():
                self.path.rmdir()
            pytest.skip(f"no group of processes with a ceiling: {why}")

    def wrap(self):
        """Put what is run after it into the group."""
        return ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', self.path]

    def close(self):
        """When the kernel has let go of the last process."""
        def is_gone():
            try:
                self.path.rmdir()
            except OSError:
                return False
            return True
        until("the group is gone", is_gone)


@pytest.fixture
def small_disk(closing, tmp_path):
    """What is written to a disk in memory would count."""
    return closing(SmallDisk(tmp_path, 512 * MIB, 2000))


def read(daemon, path, data):
    """A body, piece by piece; None when the connection ends before it."""
    at = 0
    try:
        with daemon.connect() as c:
            c.request(path)
            got = c.read_head()
            while at < got.length and (c.buffer or c.receive()):
                assert c.buffer == data[at:at + len(c.buffer)], "wrong bytes were sent"
                at += len(c.buffer)
                c.buffer = b""
    except (OSError, rawhttp.Closed):
        return None
    assert got.status == 200 or got.status in invariants.HONEST
    return at == len(data)


def push(daemon, number):
    """Whether a large blob was acknowledged."""
    data = noise(LARGE // 2, f"pushed {number}")
    try:
        digest = Pusher(daemon.address, "team/app").push_blob(data)
    except (OSError, rawhttp.Closed):
        return False
    daemon.promise(f"/v2/team/app/blobs/{digest}", data)
    return True


def herd(daemon, path, data):
    """All at once; what they have got."""
    crowd = Crowd()
    for _ in range(CLIENTS):
        crowd.add(read, daemon, path, data)
    for number in range(2):
        crowd.add(push, daemon, number)
    return crowd.join(120)


@pytest.mark.mounts
@pytest.mark.parametrize("ceiling", [96, 20, 12], ids=["ample", "tight", "too-low"])
def test_ceiling(rig, small_disk, closing, ceiling):
    """A herd wants a blob that is not held while others push, both larger than most of the memory
    that there is. With 96 MiB all have all of it. With less the kernel may kill the daemon:
    nothing wrong was sent, and the next one has all that was acknowledged."""
    daemon = rig(disk=small_disk.path)
    group = closing(Ceiling(ceiling * MIB))
    daemon.deserved |= {-signal.SIGKILL, -signal.SIGABRT, 255}
    data = noise(LARGE, "herd")
    path = blob(operations.REPOSITORY, daemon.hub.hold_blob(operations.REPOSITORY, data))
    daemon.launch(wrap=group.wrap())
    until("it serves or ends", lambda: daemon.child.poll() is not None or daemon.healthy())
    got = herd(daemon, path, data)
    if ceiling == 96:
        assert all(got), got
        assert daemon.hub.count("GET", path.rsplit("/", 1)[1]) == 1
        daemon.check()
    tally.add("memory ceilings")
    daemon.end(signal.SIGTERM)
    daemon.start()
    daemon.check()
    assert read(daemon, path, data)
