# SPDX-License-Identifier: ISC
"""kill -9 at random moments of everything at once, and of the start that follows."""

import random
import signal
import threading

import invariants
import operations
import tally
from lib import rawhttp
from lib.crowd import Crowd
from lib.image import ACCEPT
from lib.paths import manifest
from lib.wait import TooLate, until

KILLS = 12
CLIENTS = (operations.Pull, operations.Pull, operations.Tag, operations.Push, operations.Push,
           operations.Delete, operations.Resume, operations.Import, operations.Export)


class Client:
    """It does one operation after another until it is told to stop. Nothing that it sees may be
    wrong; that nobody answers is expected."""

    def __init__(self, rig, kind, number):
        self.operation = kind(rig)
        self.number = number
        self.rounds = 0

    def __call__(self, stopping):
        while not stopping.is_set():
            self.rounds += 1
            try:
                self.operation.run(self.operation.prepare(f"{self.number}-{self.rounds}"))
            except (OSError, rawhttp.Closed):
                pass
            except TooLate:
                assert stopping.is_set(), "too slow, while the daemon lives"
            except AssertionError:
                # What it prepared needs a daemon, too.
                if not stopping.is_set():
                    raise


def kill_at(rig, rng, longest_s):
    """A moment from now."""
    timer = threading.Timer(rng.uniform(0, longest_s), rig.child.kill)
    timer.start()
    return timer


def one_kill(rig, rng, number):
    """All of them at work, then none."""
    stopping = threading.Event()
    crowd = Crowd()
    for i, kind in enumerate(CLIENTS):
        crowd.add(Client(rig, kind, f"{number}-{i}"), stopping)
    timer = kill_at(rig, rng, 0.5)
    timer.join()
    stopping.set()
    assert rig.join() == -signal.SIGKILL
    tally.add("kills survived")
    crowd.join()


def kill_starts(rig, rng):
    """The start that follows is killed, too, some times."""
    for _ in range(rng.randrange(3)):
        rig.launch()
        kill_at(rig, rng, 0.08).join()
        assert rig.join() == -signal.SIGKILL
        tally.add("kills survived")
        invariants.check_index(rig)


def test_killed_at_random(rig):
    """Pulls, pushes, deletes, imports and exports at once, and the daemon is killed; and killed
    again while it starts. It comes up, and all that it promised is there."""
    daemon = rig().start()
    rng = random.Random(f"kill {tally.SEED}")
    for number in range(tally.scaled(KILLS)):
        one_kill(daemon, rng, number)
        kill_starts(daemon, rng)
        daemon.start()
        daemon.check()
    item = daemon.hub.hold(operations.picture("last"), operations.REPOSITORY, "last")
    got = daemon.get(manifest(operations.REPOSITORY, "last"), fields=ACCEPT)
    assert got.body == item.data
    # Nobody comes back for what was begun.
    until("it is idle", invariants.Baseline(daemon).is_idle)
    daemon.settle()
    invariants.check_nothing_left(daemon)
