# SPDX-License-Identifier: ISC
"""A server process of the test: started, waited for, ended by its own pid."""

import itertools
import os
import signal
import socket
import subprocess

from lib.wait import until


# Below the ports that the kernel gives to outgoing connections, which could take
# one away between the look and the use.
ports = itertools.count(20000)


def free_port(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = next(ports)
        with socket.socket(family, socket.SOCK_STREAM) as s:
            try:
                s.bind((host, port))
            except OSError:
                continue
        return port


def accepts(address):
    """Whether somebody listens at (host, port) or at the path of a Unix socket."""
    try:
        if isinstance(address, tuple):
            socket.create_connection(address, timeout=1).close()
        else:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
                s.connect(str(address))
    except OSError:
        return False
    return True


class Process:
    """A child whose standard output and error go to files in `directory`."""

    def __init__(self, name, directory):
        self.name = name
        self.directory = directory
        self.stdout_path = directory / f"{name}.out"
        self.stderr_path = directory / f"{name}.err"
        self.child = None

    def spawn(self, argv, env=None, **options):
        with open(self.stdout_path, "ab") as out, open(self.stderr_path, "ab") as err:
            self.child = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL,
                                          stdout=out, stderr=err,
                                          env={**os.environ, **(env or {})}, **options)

    def wait_accepting(self, address, timeout=30):
        until(f"{self.name} listens at {address}",
              lambda: self.check_alive() and accepts(address), timeout)

    def check_alive(self):
        code = self.child.poll()
        assert code is None, f"{self.name} ended with {code}: {self.stderr_tail()}"
        return True

    def stderr_tail(self):
        return self.stderr_path.read_text(errors="replace")[-4000:]

    def running(self):
        return self.child is not None and self.child.poll() is None

    def send_signal(self, number):
        self.child.send_signal(number)

    def stop(self, number=signal.SIGTERM, timeout=30):
        """Send a signal and wait for the end; returns the exit status."""
        if self.running():
            self.send_signal(number)
        return self.join(timeout)

    def kill(self):
        return self.stop(signal.SIGKILL)

    def join(self, timeout=30):
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError(f"{self.name} did not end within {timeout} s: "
                                 f"{self.stderr_tail()}") from None
