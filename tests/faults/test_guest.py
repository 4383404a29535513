# SPDX-License-Identifier: ISC
"""The power of a machine is cut: a real kernel, a real ext4, an emulated processor. The shim
knows what POSIX allows; here is what a file system does."""

import itertools
import random
import shutil
import subprocess
import threading

import pytest

import guest
import operations
import tally
from lib.wait import until
from loop import Mounted

SIZE = 128 << 20
CUTS = 3
STATES = 12


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    if why := guest.lacking():
        pytest.skip(why)
    return guest.make_system(tmp_path_factory.mktemp("guest"))


@pytest.fixture
def machine(system, shim_library, memory_dir, hub, closing):
    """machine(log): a guest with an empty disk; the log has room for all that is written."""

    def make(log=False):
        disks = [memory_dir / "disk.img"] + [memory_dir / "log.img"] * log
        for disk in disks:
            with open(disk, "wb") as f:
                f.truncate(SIZE if disk is disks[0] else 8 * SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-F", disks[0]], check=True)
        return closing(guest.Guest(system, shim_library, memory_dir, hub, disks))

    return make


def look(rig, image, memory_dir, promised):
    """Another daemon, on this machine, takes the disk over."""
    with Mounted(image, memory_dir / "mounted") as path:
        after = rig(name="after", disk=path)
        after.promised = dict(promised)
        try:
            after.start()
            after.check()
        except AssertionError as failure:
            failure.add_note(after.stderr_tail())
            raise
        finally:
            after.close()
    tally.add("power cuts of a machine survived")


@pytest.mark.mounts
def test_power_is_cut(machine, rig, memory_dir, hub):
    """At a random moment of pulls and pushes, after the first, again and again on the same
    disk."""
    it = machine()
    rng = random.Random(f"guest {tally.SEED}")
    numbers = itertools.count()
    for _ in range(tally.scaled(CUTS)):
        it.start()
        work = itertools.cycle(kind(it) for kind in (operations.Push, operations.Pull))
        timer = None
        while it.running():
            operation = next(work)
            operation.run(operation.prepare(next(numbers)))
            if timer is None:
                timer = threading.Timer(rng.uniform(0, 1), it.child.kill)
                timer.start()
        timer.join()
        it.cut()
        look(rig, it.disks[0], memory_dir, it.promised)
    assert it.promised and hub.count() > 0


@pytest.mark.mounts
def test_each_write(machine, rig, memory_dir):
    """The kernel keeps a log of what it told the disk. The disk as it was between any two writes
    has all that had been acknowledged by then."""
    it = machine(log=True)
    image = memory_dir / "state.img"
    shutil.copy(it.disks[0], image)
    it.start()
    for kind in (operations.Pull, operations.Push, operations.Tag, operations.Delete):
        operation = kind(it)
        operation.run(operation.prepare(0))
    until("all marks are in the log", lambda: guest.count_marks(it.disks[1]) == len(it.marks) > 3)
    it.cut()
    entries = list(guest.read_log(it.disks[1]))
    rng = random.Random(f"log {tally.SEED}")
    chosen = set(rng.sample(range(len(entries)), min(len(entries), tally.scaled(STATES))))
    promised = {}
    with open(image, "r+b") as disk:
        for at, (offset, data, flags) in enumerate(entries):
            if flags & guest.IS_MARK:
                what, value = it.marks[int(data)]
                promised[what] = value
            else:
                disk.seek(offset)
                disk.write(data)
            if at in chosen:
                disk.flush()
                shutil.copy(image, memory_dir / "cut.img")
                look(rig, memory_dir / "cut.img", memory_dir, promised)
