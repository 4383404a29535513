# SPDX-License-Identifier: ISC
"""The power is cut after each change that the daemon makes to its disk: from a record of what
it wrote and synced, the states are made that a disk may be left in. From each, the daemon
starts, nothing that was acknowledged is lost, nothing wrong is served, and what was cut short
succeeds."""

import random
import shutil
import signal

import pytest

import operations
import powercut
import tally

STATES = 60
RECORDED = [kind for kind in operations.ALL if kind not in (operations.Start, operations.Export)]


def record(rig, kind):
    """What the operation does to the disk, twice, with its start and its end."""
    subjects = []
    rig.start()
    operation = kind(rig)
    for n in range(2):
        subjects.append(operation.prepare(n))
        operation.run(subjects[-1])
    rig.end(signal.SIGTERM)
    return subjects, powercut.read(rig.shim.record)


def restore(after, tree):
    """The disk of the other daemon is this one now."""
    shutil.rmtree(after.disk)
    after.disk.mkdir()
    powercut.write(tree, after.disk)


@pytest.mark.parametrize("kind", RECORDED, ids=lambda kind: kind.name)
def test_power_is_cut(rig, kind, memory_dir):
    before = rig(record=memory_dir / "record")
    subjects, events = record(before, kind)
    states = list(powercut.states(events, before.disk, tally.SEED))
    assert len(states) > 30
    after = rig(name="after", disk=memory_dir / "after")
    operation = kind(after)
    rng = random.Random(f"cut {tally.SEED}")
    for how, tree, marks in rng.sample(states, min(len(states), tally.scaled(STATES))):
        restore(after, tree)
        after.promised = {what: before.promised[what] for what in marks}
        try:
            after.start()
            after.check()
            for subject in subjects:
                operation.after_cut(subject)
            after.end(signal.SIGKILL)
        except AssertionError as failure:
            failure.add_note(f"{how}; {after.stderr_tail()}")
            raise
        tally.add("power cuts survived")
