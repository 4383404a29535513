# SPDX-License-Identifier: ISC
"""One thread of the daemon that stands still, while all others go on."""

import ctypes
import os
from pathlib import Path

import pytest

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17  # of ptrace(2)
WALL = 0x40000000


class Stopped:
    """A thread, by its name; the main one has that of the program."""

    def __init__(self, daemon, name):
        tasks = Path(f"/proc/{daemon.child.pid}/task").iterdir()
        self.tid = next(int(task.name) for task in tasks
                        if (task / "comm").read_text().strip() == name)
        self.libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(self, request):
        if self.libc.ptrace(request, self.tid, None, None) != 0:
            pytest.skip(f"no thread can be stopped here: {os.strerror(ctypes.get_errno())}")

    def __enter__(self):
        self.ptrace(SEIZE)
        self.ptrace(INTERRUPT)
        os.waitpid(self.tid, WALL)
        return self

    def __exit__(self, *exc):
        self.ptrace(DETACH)
