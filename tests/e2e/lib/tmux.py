# SPDX-License-Identifier: ISC
"""A screen of 80 columns and 24 lines in tmux, as people have it in front of them."""

import os
import re
import shlex
import subprocess
import tempfile

from lib.wait import until

COLUMNS, LINES = 80, 24


class Screen:
    def __init__(self, env=None):
        self.directory = tempfile.mkdtemp(prefix="e2e-", dir="/tmp")
        self.options = ["-S", f"{self.directory}/tmux", "-f", "/dev/null"]
        self.count = 0
        environ = {**os.environ, "TERM": "xterm-256color", "PS1": "$ ", **(env or {})}
        environ.pop("TMUX", None)
        subprocess.run(["tmux", *self.options, "new-session", "-d", "-x", str(COLUMNS), "-y",
                        str(LINES), "/bin/sh"], env=environ, check=True, timeout=30)

    def tmux(self, *arguments):
        return subprocess.run(["tmux", *self.options, *arguments], capture_output=True, text=True,
                              check=True, timeout=30).stdout

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def lines(self, *options):
        """What is to be seen; a line that went on in the next one is one line here."""
        return self.tmux("capture-pane", "-p", "-J", *options).rstrip("\n").split("\n")

    def colours(self):
        """Whether anything is drawn otherwise than plain."""
        return re.findall(r"\x1b\[[0-9;]+m", self.tmux("capture-pane", "-p", "-e"))

    def begin(self, argv):
        self.count += 1
        self.keys(f"clear; echo begun-{self.count}-; " + shlex.join(map(str, argv)) +
                  f"; echo ended-{self.count}-$?", "Enter")

    def has_ended(self, code=0):
        return f"ended-{self.count}-{code}" in self.lines()

    def run(self, argv):
        """The lines of a command that ends, with what has scrolled away; and its exit code."""
        self.begin(argv)
        end = re.compile(rf"ended-{self.count}-(\d+)")

        def ended():
            now = self.lines("-S", "-")
            return now if any(end.fullmatch(x) for x in now) else None
        now = until(f"{argv} has ended", ended, 60)
        first = now.index(f"begun-{self.count}-")
        last = next(i for i, x in enumerate(now) if end.fullmatch(x))
        return now[first + 1:last], int(end.fullmatch(now[last])[1])

    def close(self):
        subprocess.run(["tmux", *self.options, "kill-server"], capture_output=True, check=False,
                       timeout=30)
        for name in os.listdir(self.directory):
            os.unlink(f"{self.directory}/{name}")
        os.rmdir(self.directory)
