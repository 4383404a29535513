# SPDX-License-Identifier: ISC
"""Each call that touches the disk fails in turn while an operation runs: once, and from then
on. The first round breaks the first call, the next one the second, until the operation goes by
untouched. After each round the daemon is ended, still broken, and started again: the invariants
hold, and the operation succeeds."""

import errno
import signal

import pytest

import invariants
import operations
import shim
import tally

# The number of rounds of one test at level 1 is about this; a higher level takes every call.
ROUNDS = 30


def one_round(rig, operation, n, at, **how):
    """Whether the call `at` was met."""
    subject = operation.prepare(n)
    rig.shim.arm(at=at, **how)
    try:
        operation.run(subject)
    except AssertionError as failure:
        failure.add_note(f"call {at} failed, {rig.shim.last}; daemon: {rig.child.poll()}, {rig.stderr_tail()}")
        raise
    rig.end(signal.SIGTERM if n % 2 else signal.SIGKILL)
    met = rig.shim.failed > 0
    rig.shim.disarm()
    rig.start()
    rig.check()
    operation.again(subject)
    invariants.check_fetches_left(rig)
    return met


def count_calls(rig, operation, kinds):
    """How many calls an unbroken run of it makes, with the end of the daemon."""
    one_round(rig, operation, 1, 0, kinds=kinds)
    return rig.shim.calls


def torture(rig, operation, **how):
    """Rounds at every call at level 2 and beyond; below, at as many, spread over all of them,
    with the first and the last."""
    calls = count_calls(rig, operation, how["kinds"])
    assert calls > 3, "the shim saw nothing"
    rounds = min(calls, tally.scaled(ROUNDS)) if tally.LEVEL < 2 else calls
    at, n = 1, 2
    while one_round(rig, operation, n, round(at), **how):
        tally.add("faults injected")
        at += max(1, (calls - 1) / max(1, rounds - 1))
        n += 1
    assert n > 2, "nothing was broken"
    invariants.check_nothing_left(rig)


@pytest.mark.parametrize("count", [1, shim.EVER], ids=["once", "for-ever"])
@pytest.mark.parametrize("kind", operations.ALL, ids=lambda kind: kind.name)
def test_each_call_fails(rig, kind, count):
    """EIO."""
    daemon = rig().start()
    torture(daemon, kind(daemon), kinds=shim.DISK, errnum=errno.EIO, count=count)


@pytest.mark.parametrize("kind", [operations.Pull, operations.Push, operations.Import],
                         ids=lambda kind: kind.name)
def test_disk_fills(rig, kind):
    """ENOSPC of whatever makes a file larger, or another one, from then on."""
    daemon = rig().start()
    torture(daemon, kind(daemon), kinds=shim.WRITE | shim.SPACE | shim.MAKE, errnum=errno.ENOSPC,
            count=shim.EVER)


@pytest.mark.parametrize("count", [1, shim.EVER], ids=["once", "for-ever"])
@pytest.mark.parametrize("kind", operations.ALL, ids=lambda kind: kind.name)
def test_half_of_what_was_asked(rig, kind, count):
    """Reads and writes that do a part only are no errors, but for LMDB, which takes them for
    such."""
    daemon = rig().start()
    torture(daemon, kind(daemon), kinds=shim.WRITE | shim.READ, way=shim.HALF, count=count)
