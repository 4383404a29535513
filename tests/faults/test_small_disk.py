# SPDX-License-Identifier: ISC
"""Disks that are full, that fail, that are read-only: for real, or by the shim."""

import errno
import shutil
import signal

import pytest

import invariants
import operations
import shim
import tally
from lib.image import ACCEPT, digest_of, noise
from lib.paths import blob
from lib.pusher import Pusher
from lib.wait import until
from loop import SmallDisk

MIB = 1 << 20
DONE = (operations.Pull, operations.Push, operations.Resume, operations.Import)


@pytest.fixture
def small_disk(closing, tmp_path):
    """small_disk(size, inodes): a mounted ext4."""
    return lambda size=24 * MIB, inodes=2000: closing(SmallDisk(tmp_path, size, inodes))


# --- full ---


@pytest.mark.mounts
@pytest.mark.parametrize("kind", DONE, ids=lambda kind: kind.name)
def test_full(rig, small_disk, kind):
    """So much room is left that the disk is full at another point each time: before the data,
    within it, at the rename, at the commit of the index. Honest answers, and when there is room,
    all goes on without a restart."""
    disk = small_disk()
    daemon = rig(disk=disk.path, bundles=True).start()
    operation = kind(daemon)
    for left in range(0, 240_000, round(20_000 / tally.LEVEL)):
        subject = operation.prepare(f"full-{left}")
        filler = disk.fill(left)
        operation.run(subject)
        tally.add("disks filled")
        invariants.check_answers(daemon)
        filler.unlink()
        operation.again(subject)
        daemon.check()
    assert daemon.metric("store_failures_total") + daemon.failed_commands > 1
    invariants.check_fetches_left(daemon)
    invariants.check_nothing_left(daemon)


@pytest.mark.mounts
@pytest.mark.parametrize("kind", [kind for kind in DONE if kind is not operations.Resume],
                         ids=lambda kind: kind.name)
def test_out_of_inodes(rig, small_disk, kind):
    """The same with room, but without inodes."""
    disk = small_disk(inodes=128)
    daemon = rig(disk=disk.path, bundles=True).start()
    operation = kind(daemon)
    for left in range(5):
        subject = operation.prepare(f"inodes-{left}")
        taken = disk.take_inodes(left)
        operation.run(subject)
        tally.add("disks filled")
        invariants.check_answers(daemon)
        shutil.rmtree(taken)
        operation.again(subject)
        daemon.check()
    assert daemon.metric("store_failures_total") + daemon.failed_commands > 1
    invariants.check_nothing_left(daemon)


# --- failing ---


@pytest.mark.mounts
def test_becomes_read_only(rig, small_disk):
    """The kernel gives the file system up, as it does after an error of the disk: what is held
    is served, a push is refused with 503, a pull of something else passes or is refused, the
    daemon ends well, and does not start again before it can write."""
    disk = small_disk()
    daemon = rig(disk=disk.path).start()
    held = operations.Pull(daemon)
    subject = held.prepare("held")
    held.again(subject)
    daemon.wait_idle()
    disk.remount("abort")
    for path, data in held.paths(subject)[1:]:
        got = daemon.get(path, fields=ACCEPT)
        assert got.status == 200 and got.body == data
    assert Pusher(daemon.address, "team/app").post().status == 503
    operation = operations.Pull(daemon)
    operation.run(operation.prepare("another"))
    assert daemon.get(held.paths(subject)[1][0]).status == 200
    invariants.check_answers(daemon)
    daemon.end(signal.SIGTERM)
    daemon.launch()
    assert daemon.join() in (1, 2)
    assert str(disk.path) in daemon.stderr_tail()


def test_sync_fails_once(rig):
    """fsync fails once: no 201, and no other fsync may say that all is well afterwards: nothing
    more is written, pushes are refused, what is held is served. After a restart all is well."""
    daemon = rig().start()
    p = Pusher(daemon.address, "team/app")
    held = noise(50_000, "held")
    p.push_blob(held)
    data = noise(50_000, "not synced")
    session = p.begin()
    daemon.shim.arm(shim.SYNC, errno.EIO, 1)
    assert session.put(digest_of(data), data).status == 503
    tally.add("faults injected")
    daemon.shim.arm(shim.SYNC | shim.RENAME)
    assert p.post().status == 503
    assert not p.has_blob(digest_of(data))
    assert p.blob(digest_of(held)).body == held
    assert daemon.shim.calls == 0
    daemon.shim.disarm()
    daemon.restart()
    assert p.push_blob(data) == digest_of(data)
    assert p.blob(digest_of(held)).body == held


READS = {"once": 1, "for-ever": shim.EVER}


@pytest.mark.parametrize("count", READS.values(), ids=READS)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_read_fails(rig, at, count):
    """EIO in the middle of a blob that is held: the client is cut, never padded, the others go
    on, and the blob is had from the upstream again if it stays so."""
    daemon = rig().start()
    data = noise(3_000_000, "unreadable")
    path = blob(operations.REPOSITORY, daemon.hub.hold_blob(operations.REPOSITORY, data))
    assert daemon.get(path).body == data
    daemon.wait_metric("blobs_stored_total", 1)
    daemon.shim.arm(shim.READ, errno.EIO, at, count)
    for _ in range(3):
        invariants.check_answer(daemon.ask(path), data)
        invariants.check_answers(daemon)
    tally.add("faults injected", daemon.shim.failed)
    daemon.shim.disarm()
    got = daemon.get(path)
    assert got.status == 200 and got.complete and got.body == data
    daemon.check()


# --- the index, which others have open too ---


@pytest.mark.parametrize("which", ["import", "export"])
def test_commands_are_killed(rig, which):
    """More commands than the index has readers are killed in the middle of their transactions,
    beside the daemon: it goes on, and so do others."""
    daemon = rig().start()
    daemon.deserved.add(-signal.SIGKILL)
    operation = {"import": operations.Import, "export": operations.Export}[which](daemon)
    p = Pusher(daemon.address, "team/app")
    kills = 0
    for number in range(tally.scaled(30 if which == "import" else 140)):
        subject = operation.prepare(number)
        daemon.shim.arm(shim.READ | shim.WRITE, at=3 + number % 3, way=shim.KILL)
        operation.run(subject)
        kills += daemon.shim.failed
        daemon.shim.disarm()
        assert daemon.running()
        p.push_blob(b"%d" % number)
    assert kills > number / 2
    tally.add("kills survived", kills)
    operation.again(operation.prepare("last"))
    daemon.check()
