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
ROUNDS = 20


def broken(rig, operation, subject, at, **how):
    """It is begun, broken and ended."""
    rig.shim.arm(at=at, **how)
    try:
        operation.run(subject)
        rig.end(signal.SIGTERM if at % 2 else signal.SIGKILL)
    except AssertionError as failure:
        failure.add_note(f"call {at} was broken, {rig.shim.last}; the log: {rig.stderr_tail()}")
        raise


def one_round(rig, operation, n, at, **how):
    """Whether the call `at` was met."""
    subject = operation.prepare(n)
    broken(rig, operation, subject, at, **how)
    met = rig.shim.failed > 0
    rig.shim.disarm()
    rig.start()
    rig.check()
    operation.again(subject)
    invariants.check_fetches_left(rig)
    return met


def count_calls(rig, operation, **how):
    """How many calls an unbroken run of it makes, with the end of the daemon."""
    one_round(rig, operation, 1, 0, **{**how, "way": shim.FAIL})
    return rig.shim.calls


def torture(rig, operation, **how):
    """Rounds at every call at level 2 and beyond; below, at some, spread over all of them."""
    calls = count_calls(rig, operation, **how)
    assert calls > 3, "the shim saw nothing"
    rounds = min(calls, tally.scaled(ROUNDS)) if tally.LEVEL < 2 else calls
    at, n = 1, 2
    while one_round(rig, operation, n, round(at), **how):  # the count of a run varies a little
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


@pytest.mark.parametrize("kind, why", [
    (operations.Pull, "ENOSPC"), (operations.Push, "ENOSPC"), (operations.Import, "ENOSPC"),
    (operations.Pull, "EDQUOT")], ids=lambda x: getattr(x, "name", x))
def test_disk_fills(rig, kind, why):
    """No room, or a quota, for whatever makes a file larger, or another one, from then on."""
    daemon = rig().start()
    torture(daemon, kind(daemon), kinds=shim.WRITE | shim.SPACE | shim.MAKE,
            errnum=getattr(errno, why), count=shim.EVER)


@pytest.mark.parametrize("count", [1, shim.EVER], ids=["once", "for-ever"])
@pytest.mark.parametrize("kind", operations.ALL, ids=lambda kind: kind.name)
def test_half_of_what_was_asked(rig, kind, count):
    """Reads and writes that do a part only are no errors, but for LMDB, which takes them for
    such."""
    daemon = rig().start()
    torture(daemon, kind(daemon), kinds=shim.WRITE | shim.READ, way=shim.HALF, count=count)


@pytest.mark.parametrize("kind", operations.ALL, ids=lambda kind: kind.name)
def test_killed_at_each_call(rig, kind):
    """Whoever makes the call is killed in place of it: the daemon, or the command."""
    daemon = rig().start()
    daemon.deserved.add(-signal.SIGKILL)
    torture(daemon, kind(daemon), kinds=shim.DISK, way=shim.KILL)


@pytest.mark.parametrize("count", [1, shim.EVER], ids=["once", "for-ever"])
@pytest.mark.parametrize("kind", operations.ALL, ids=lambda kind: kind.name)
def test_memory_is_short(rig, kind, count):
    """Allocations fail. That ends the program, by design, for all that it allocates is small or
    bounded (libraries have their own ways: libevent exits with 255, libarchive does not look);
    never is the store the worse for it."""
    daemon = rig().start()
    daemon.deserved |= {-signal.SIGABRT, -signal.SIGSEGV, 255}
    torture(daemon, kind(daemon), kinds=shim.MEMORY, errnum=errno.ENOMEM, count=count)
