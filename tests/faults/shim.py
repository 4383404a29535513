# SPDX-License-Identifier: ISC
"""The shim (shim.h) from the side of the tests: built, and told what to break."""

import mmap
import os
import shlex
import struct
import subprocess
from pathlib import Path

WRITE, SYNC, RENAME, SPACE, MAKE, OPEN, REMOVE, MAP, READ, MEMORY, LOG = (
    1 << i for i in range(11))
CHANGES = WRITE | SYNC | RENAME | SPACE | MAKE | REMOVE
DISK = CHANGES | OPEN | MAP | READ

SOURCES = ("shim.c", "files.c", "record.c")
FAIL, KILL, HALF = range(3)
EVER = 1 << 62

# armed, kinds, way, errno; fail_at, fail_count; clock_shift_s; calls, failed; last
HEAD = struct.Struct("=IIIiQQ")
CLOCK = struct.Struct("=q")
COUNTS_AT = HEAD.size + CLOCK.size
COUNTS = struct.Struct("=QQ32s")


def build(directory):
    """The library, from its source; its path."""
    library = Path(directory) / "shim.so"
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    here = Path(__file__).parent
    subprocess.run([*compiler, "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra",
                    "-fPIC", "-shared", "-pthread", "-o", library,
                    *(here / name for name in SOURCES)], check=True)
    return library


class Shim:
    """One program under the shim. What it does counts from arm() on."""

    def __init__(self, library, directory, root, log, record=None):
        self.library = library
        self.path = Path(directory) / "control"
        self.path.write_bytes(bytes(4096))
        self.root = root
        self.log = log
        self.record = record
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 4096)

    def environment(self):
        # The runtime of a sanitizer that is linked wants to be the first.
        before = os.environ.get("FAULTS_PRELOAD", "")
        found = {"LD_PRELOAD": f"{before} {self.library}".strip(),
                 "FAULTS_ROOT": str(self.root), "FAULTS_LOG": str(self.log),
                 "FAULTS_CONTROL": str(self.path)}
        if self.record:
            found["FAULTS_RECORD"] = str(self.record)
        return found

    def arm(self, kinds, errnum=0, at=0, count=1, way=FAIL):
        """Break the call `at` (from 1) of these kinds and those after it, `count` in all; 0
        breaks none."""
        self.map[:HEAD.size] = HEAD.pack(0, kinds, way, errnum, at, count)
        self.map[COUNTS_AT:COUNTS_AT + COUNTS.size] = COUNTS.pack(0, 0, b"")
        self.map[:4] = struct.pack("=I", 1)

    def disarm(self):
        self.map[:4] = bytes(4)

    def shift_clock(self, seconds):
        """Somebody sets the clock: so much later than it is, or earlier."""
        self.map[HEAD.size:COUNTS_AT] = CLOCK.pack(seconds)

    def counts(self):
        return COUNTS.unpack(self.map[COUNTS_AT:COUNTS_AT + COUNTS.size])

    @property
    def calls(self):
        return self.counts()[0]

    @property
    def failed(self):
        return self.counts()[1]

    @property
    def last(self):
        """The call that failed last."""
        return self.counts()[2].rstrip(b"\0").decode()
