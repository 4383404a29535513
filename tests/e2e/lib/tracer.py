# SPDX-License-Identifier: ISC
"""strace at a daemon of the test: what it asks of the kernel, and calls that fail."""

import re
import shutil
import signal
from pathlib import Path

from lib.process import Process
from lib.wait import until

LINE = re.compile(r"^\d+ +(?P<call>\w+)\((?P<rest>.*)$")


def is_there():
    return shutil.which("strace") is not None


class Tracer(Process):
    """Follows the threads that the daemon has. `calls` are names of system calls; `inject` is
    what becomes of them, in strace's words ("error=EIO")."""

    def __init__(self, daemon, *calls, inject=None):
        super().__init__("strace", daemon.directory)
        self.daemon = daemon
        self.output = daemon.directory / "strace.out"
        self.calls = ",".join(calls)
        self.options = ["-e", f"inject={self.calls}:{inject}"] if inject else []

    def __enter__(self):
        self.spawn([shutil.which("strace"), "-f", "-y", "-s", "64", "-o", self.output,
                    "-e", f"trace={self.calls}", *self.options, "-p", self.daemon.child.pid])
        until("strace follows", lambda: self.check_alive() and self.follows())
        return self

    def __exit__(self, *exc):
        self.stop(signal.SIGINT)

    def follows(self):
        """Each of the threads."""
        states = [path.read_text()
                  for path in Path(f"/proc/{self.daemon.child.pid}/task").glob("*/status")]
        return all(f"TracerPid:\t{self.child.pid}\n" in state for state in states)

    def lines(self):
        """(call, the rest of its line) in order, of those that have returned."""
        found = [LINE.match(line) for line in self.output.read_text().splitlines()]
        return [(m["call"], m["rest"]) for m in found if m]
