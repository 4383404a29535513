# SPDX-License-Identifier: ISC
"""The stage of the benches: namespaces, the shaped line, processes and what they cost.

Everything runs in network and process namespaces of its own: the congestion control can be
the same for all without touching the host, and nothing outlives the bench.
"""
import contextlib
import json
import mmap
import os
import re
import socket
import subprocess
import sys
import time

GIB = 1 << 30
MIB = 1 << 20

# The line of the herd: the far end has the upstream, the near end is the stage itself.
FAR_ADDRESS = "10.77.0.1"
NEAR_ADDRESS = "10.77.0.2"

INSIDE = "CACHALOT_BENCH_INSIDE"

# After it, memory that was free before is with the host, see warm_memory.
GIVING_BACK_SECONDS = 2.5


class BenchError(Exception):
    """Something that makes the numbers worthless; the message says what."""


def enter_namespaces():
    """Run this program again inside its own namespaces, unless it is there already."""
    if os.environ.get(INSIDE):
        return
    environ = dict(os.environ, **{INSIDE: "1"})
    command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
               sys.executable, *sys.argv]
    os.execvpe(command[0], command, environ)


def call(*command):
    """Run a command that must succeed; its standard output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def raise_loopback(congestion):
    """Bring lo up, its routes with this congestion control, or the host's when it is "host".

    A pacing congestion control (BBR) holds loopback back to a third and hides the servers.
    """
    call("ip", "link", "set", "lo", "up")
    if congestion == "host":
        return
    for prefix in ("127.0.0.0/8", "127.0.0.1"):
        call("ip", "route", "replace", "table", "local", "local", prefix, "dev", "lo", "proto",
             "kernel", "scope", "host", "src", "127.0.0.1", "congctl", congestion)


class Line:
    """A second network namespace behind a veth pair that is shaped at its far end."""

    def __init__(self, mbit, congestion):
        self.far = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        try:
            self._build(mbit, congestion)
        except BenchError:
            self.close()
            raise

    def _build(self, mbit, congestion):
        # unshare must have left our namespace before the pair is moved.
        mine = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{self.far.pid}/ns/net") != mine, "a namespace")
        options = [] if congestion == "host" else ["congctl", congestion]
        call("ip", "link", "add", "near", "type", "veth", "peer", "name", "far")
        call("ip", "link", "set", "far", "netns", str(self.far.pid))
        # Without segmentation offload the frames counted are those of a real line.
        call("ip", "link", "set", "near", "up", "gso_max_segs", "1")
        self.call("ip", "link", "set", "far", "up", "gso_max_segs", "1")
        self.call("ip", "link", "set", "lo", "up")
        for where, address, device in ((call, NEAR_ADDRESS, "near"), (self.call, FAR_ADDRESS, "far")):
            where("ip", "address", "add", f"{address}/24", "dev", device)
            where("ip", "route", "replace", "10.77.0.0/24", "dev", device, "src", address, *options)
        self.call("tc", "qdisc", "add", "dev", "far", "root", "tbf", "rate", f"{mbit}mbit",
                  "burst", "128kb", "latency", "20ms")

    def wrap(self, command):
        """The command line that runs `command` at the far end."""
        return ["nsenter", "-t", str(self.far.pid), "-n", *command]

    def call(self, *command):
        return call(*self.wrap(command))

    def bytes(self):
        """Bytes of frames that came and went at the near end."""
        stats = json.loads(call("ip", "-s", "-j", "link", "show", "dev", "near"))[0]["stats64"]
        return stats["rx"]["bytes"], stats["tx"]["bytes"]

    def close(self):
        self.far.kill()
        self.far.wait()


def wait_until(condition, what, seconds=30.0):
    """Poll a condition that another process brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.01)


def pinned(cpu, command):
    return command if cpu is None else ["taskset", "-c", str(cpu), *command]


class Process:
    """A server with all its children and threads."""

    def __init__(self, command, log_path, cpu=None):
        self.command = command
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self.child = subprocess.Popen(pinned(cpu, command), stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log)

    def wait_for_port(self, address, port, seconds=30.0):
        def listens():
            if self.child.poll() is not None:
                raise BenchError(f"{self.command[0]} ended at its start; see {self.log_path}")
            with contextlib.suppress(OSError):
                socket.create_connection((address, port), timeout=1).close()
                return True
            return False
        wait_until(listens, f"port {port} of {' '.join(self.command)}", seconds)

    def pids(self):
        """The process and its descendants."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as stat:
                    parents[int(entry)] = int(stat.read().rsplit(")", 1)[1].split()[1])
        family = [self.child.pid]
        for pid in family:
            family += [child for child, parent in parents.items() if parent == pid]
        return family

    def cpu_seconds(self):
        """User and system time of all threads, from schedstat: /proc/PID/stat counts in 10 ms."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/schedstat") as schedstat:
                        total += int(schedstat.read().split()[0])
        return total / 1e9

    def peak_rss_bytes(self):
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/status") as status:
                total += int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1)) * 1024
        return total

    def stop(self, seconds=60.0):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Drain:
    """The client (drain.c); see its top for what the arguments mean."""

    def __init__(self, program):
        self.program = program

    def run(self, server, path=None, cpu=None, **options):
        command = [self.program]
        for name, value in options.items():
            command += [f"-{name}", str(value)]
        command.append(f"{server.address}:{server.port}")
        if path:
            command.append(path)
        done = subprocess.run(pinned(cpu, command), stdout=subprocess.PIPE, text=True)
        if not done.stdout:
            raise BenchError(f"{' '.join(command)} ended with {done.returncode}")
        result = json.loads(done.stdout)
        if result["error"]:
            raise BenchError(f"{server.name}: {' '.join(command)}: {result['error']}")
        return result


def drop_from_page_cache(path):
    """Make a file cold, and see that it is."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    resident = int(call("fincore", "-n", "-b", "-r", "-o", "RES", path))
    if resident > os.path.getsize(path) // 100:
        raise BenchError(f"{path} stays in the page cache (is it on a disk?)")


def warm_page_cache(path):
    with open(path, "rb") as file:
        while file.read(4 * MIB):
            pass


def warm_memory(size):
    """Leave so much free memory that was just in use, the same for each contestant.

    A virtual machine may give memory that is free for some two seconds back to its host, and
    has it back at a page fault of the host a page: a file written there costs up to five times
    as much. Who runs just after another's files were removed would get, or escape, just that.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    with contextlib.closing(mmap.mmap(-1, size, flags=flags)):
        time.sleep(GIVING_BACK_SECONDS)
