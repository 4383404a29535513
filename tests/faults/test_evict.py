# SPDX-License-Identifier: ISC
"""A cache that is full: each pull has another image evicted, while calls fail and the daemon is
killed."""

import errno
import os
import random
import signal
import threading

import pytest

import invariants
import operations
import shim
import tally
from lib.crowd import Crowd
from lib.wait import until
from test_kill import Client, kill_starts
from test_torture import torture

MIB = 1 << 20
SIZE = 3 * MIB
FULL = {"cache": {"size": f"{SIZE}B", "min-free": "0", "evict-to": "90%", "push-grace": "10s"}}
IMAGES = 30
KILLS = 12


def taken(directory):
    """What the files take, each once."""
    blocks = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                found = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            blocks[found.st_ino] = found.st_blocks
    return sum(blocks.values()) * 512


def fill(rig):
    """Until something had to go."""
    pull = operations.Pull(rig)
    for n in range(IMAGES):
        pull.again(pull.prepare(f"fill-{n}"))
    rig.wait_metric("evicted_images_total", 1)


def check_few_unrecorded(rig, most):
    """Unfinished files, of which each client may leave one, are told from a lost index: that
    would leave all."""
    recorded = invariants.recorded(rig)
    assert len(rig.stored() - recorded) <= most, (len(recorded), rig.stderr_tail())


class Evict(operations.Pull):
    """A few pulls into a cache that is full."""

    name = "evict"

    def prepare(self, n):
        return [super(Evict, self).prepare(f"{n}-{i}") for i in range(4)]

    def run(self, subject):
        for one in subject:
            super().run(one)

    def again(self, subject):
        for one in subject:
            super().again(one)
        assert taken(self.rig.cache) <= SIZE


class Delete(operations.Delete):
    """What is pushed and deleted goes, too, soon; until then there may be no room for more."""

    def prepare(self, n):
        try:
            return super().prepare(n)
        except AssertionError as failure:
            if "<507 " not in str(failure):
                raise
            raise OSError("full") from failure


@pytest.mark.parametrize("count", [1, shim.EVER], ids=["once", "for-ever"])
def test_each_call_fails(rig, count):
    """EIO."""
    daemon = rig(FULL).start()
    fill(daemon)
    torture(daemon, Evict(daemon), kinds=shim.DISK, errnum=errno.EIO, count=count)


def test_killed_at_each_call(rig):
    """Between the records and the files, too."""
    daemon = rig(FULL).start()
    daemon.deserved.add(-signal.SIGKILL)
    fill(daemon)
    torture(daemon, Evict(daemon), kinds=shim.DISK, way=shim.KILL)


def test_killed_at_random(rig):
    """With pulls, pushes and deletes under way and images being evicted: never a record without
    its file, never more than the size, and what was deleted stays so."""
    daemon = rig(FULL).start()
    fill(daemon)
    rng = random.Random(f"evict {tally.SEED}")
    kinds = (operations.Pull, operations.Pull, operations.Pull, Delete, Delete)
    for number in range(tally.scaled(KILLS)):
        stopping = threading.Event()
        crowd = Crowd()
        for i, kind in enumerate(kinds):
            crowd.add(Client(daemon, kind, f"{number}-{i}"), stopping)
        timer = threading.Timer(rng.uniform(0.05, 1), daemon.child.kill)
        timer.start()
        timer.join()
        stopping.set()
        assert daemon.join() == -signal.SIGKILL
        tally.add("kills survived")
        crowd.join()
        kill_starts(daemon, rng)
        daemon.start()
        daemon.check()
        check_few_unrecorded(daemon, len(kinds))
        until("what was left over is gone", lambda: taken(daemon.cache) <= SIZE)
    until("it is idle", invariants.Baseline(daemon).is_idle)
    invariants.check_index(daemon)
    pull = operations.Pull(daemon)
    pull.again(pull.prepare("last"))
