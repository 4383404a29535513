# SPDX-License-Identifier: ISC
"""What was read is what was written: a register per tag, and what its readers may see.

A register has one writer. Its values are in the order in which their writing began; the last one
that was acknowledged is the floor. A read may see the floor of its beginning, and all that began
after that until its end, whether it was acknowledged or not.
"""

import collections
import threading
import time

KEPT = 2000
STALE = 500  # values that are remembered for readers of what is stale


class Wrong(AssertionError):
    """The history does not allow it."""


class Register:
    def __init__(self, name, history):
        self.name = name
        self.history = history
        self.lock = threading.Lock()
        self.values = [None]  # nothing is there at first
        self.first = 0        # the place of the first of them
        self.floor = 0

    def begin_write(self, value):
        with self.lock:
            self.values.append(value)
            place = self.first + len(self.values) - 1
            surplus = self.floor - STALE - self.first
            if surplus > STALE:
                del self.values[:surplus]
                self.first += surplus
        self.history.note("write", self.name, value)
        return place

    def end_write(self, place):
        """It was acknowledged."""
        with self.lock:
            self.floor = max(self.floor, place)
        self.history.note("written", self.name, self.values[place - self.first])

    def begin_read(self):
        with self.lock:
            return self.floor

    def end_read(self, floor, value, is_stale=False):
        """`is_stale`: the answer itself said that it is of an earlier time."""
        with self.lock:
            possible = self.values[0 if is_stale else floor - self.first:]
        self.history.note("read", self.name, value)
        if value not in possible:
            raise Wrong(f"{self.name} was {value}; possible: {possible}\n{self.history.tail()}")

    def now(self):
        """What a read could see."""
        with self.lock:
            return self.values[self.floor - self.first:]

    @property
    def last(self):
        """What it has if nothing is being written."""
        return self.now()[0]


class History:
    """The last events, for whoever must find out why."""

    def __init__(self):
        self.began = time.monotonic()
        self.events = collections.deque(maxlen=KEPT)
        self.counts = collections.Counter()

    def note(self, word, *what):
        self.counts[word] += 1
        self.events.append((round(time.monotonic() - self.began, 4), word, *what))

    def tail(self, count=40):
        return "\n".join(map(str, list(self.events)[-count:]))
