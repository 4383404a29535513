# SPDX-License-Identifier: ISC
"""What the suite has done, in numbers; said at its end."""

import os

LEVEL = float(os.environ.get("FAULTS_LEVEL", "1"))
SEED = os.environ.get("FAULTS_SEED", "1")

counts = {}


def add(what, number=1):
    """`what` is a plural: "faults injected"."""
    counts[what] = counts.get(what, 0) + number


def scaled(number):
    """A count of repetitions at this level."""
    return max(1, round(number * LEVEL))


def lines():
    if not counts:
        return []
    said = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
    return [f"faults: seed {SEED}, level {LEVEL:g}: {said}"]
