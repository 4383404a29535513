# SPDX-License-Identifier: ISC
"""A terminal of 80 columns and 24 lines with a program in it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`output` is all that came, `text` the same without escapes."""

    def __init__(self, argv, columns=80, lines=24, env=None):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.fd = master
        self.output = ""
        self.status = None
        self.pid = os.fork()
        if self.pid == 0:
            os.login_tty(slave)
            os.execve(str(argv[0]), [str(a) for a in argv],
                      {**os.environ, "TERM": "xterm", **(env or {})})

    @property
    def text(self):
        return ESCAPE.sub("", self.output).replace("\r", "")

    def read(self, timeout=0.05):
        ready, _, _ = select.select([self.fd], [], [], timeout)
        if ready:
            self.output += os.read(self.fd, 65536).decode()
        return bool(ready)

    def until(self, what, condition, timeout=20):
        end = time.monotonic() + timeout
        while not condition():
            self.read()
            assert time.monotonic() < end, f"not within {timeout} s: {what}: {self.output[-4000:]}"

    def press(self, keys):
        os.write(self.fd, keys.encode())

    def resize(self, columns, lines):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def signal(self, number=signal.SIGTERM):
        os.kill(self.pid, number)

    def ended(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self, timeout=20):
        """Its exit code."""
        self.until("the program ended", self.ended, timeout)
        while self.read(0):
            pass
        return self.status

    def settings_are_back(self):
        return termios.tcgetattr(self.slave) == self.before

    def close(self):
        if not self.ended():
            self.signal(signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)
        os.close(self.slave)


def run(argv, **options):
    """The exit code, and the lines as people see them."""
    terminal = Terminal(argv, **options)
    try:
        code = terminal.wait()
        return code, terminal.text.splitlines(), terminal.output
    finally:
        terminal.close()
