# SPDX-License-Identifier: ISC
"""The case of many clients at once: idle ones, and slow readers beside one that hurries."""
import contextlib
import re
import resource
import socket
import statistics
import threading

from contestants import TAG
from stage import BenchError, wait_until

IDLE = 9000
IDLE_MIB = 15
SLOW = 1000
# What each slow reader takes in a turn, and how long it then leaves the rest.
SLOW_BYTES = 8192
SLOW_PAUSE_SECONDS = 0.5
SLOW_BUFFER_BYTES = 16384
ROUNDS = 6  # and one that is thrown away


def rss_mib(server):
    """Of the one process of cachalotd."""
    with open(f"/proc/{server.process.child.pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) / 1024


def ask(server, path, buffer_bytes=None):
    """A connection on which a GET was sent."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if buffer_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    connection.settimeout(60)
    connection.connect((server.address, server.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    return connection


def idle(b, server, make_row):
    """Connections that have asked once and are kept alive."""
    count = IDLE // 10 if b.quick else IDLE
    before = rss_mib(server)
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(ask(server, "/v2/"))
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                raise BenchError("an idle client was not answered")
        more = rss_mib(server) - before
    return make_row("many", f"{count} idle connections: RSS above none", "MiB",
                    {"cachalot": more}, at_most=IDLE_MIB * count / IDLE)


class SlowReaders:
    """Clients of one blob who take a little now and then."""

    def __init__(self, server, path, count):
        self.stack = contextlib.ExitStack()
        self.connections = [self.stack.enter_context(ask(server, path, SLOW_BUFFER_BYTES))
                            for _ in range(count)]
        for connection in self.connections:
            if not connection.recv(SLOW_BYTES).startswith(b"HTTP/1.1 200"):
                raise BenchError("a slow reader was not answered")
        self.enough = threading.Event()
        self.turns = 0
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        while not self.enough.wait(SLOW_PAUSE_SECONDS):
            for connection in self.connections:
                if not connection.recv(SLOW_BYTES):
                    return
            self.turns += 1

    def close(self):
        self.enough.set()
        self.thread.join()
        self.stack.close()


def beside_slow(b, server, client_cpu, make_row):
    """What another client's downloads lose by slow readers of the same blob."""
    path = server.blob(b.content.large)
    count = SLOW // 10 if b.quick else SLOW

    def rate():
        result = b.drain.run(server, path, client_cpu, c=1, r=4)
        return result["bytes"] / 1e9 / result["seconds"]

    alone, beside = [], []
    for number in range(2 if b.quick else ROUNDS + 1):
        pair = [rate()]
        readers = SlowReaders(server, path, count)
        wait_until(lambda: readers.turns > 0, "a turn of the slow readers")
        pair.append(rate())
        if not readers.thread.is_alive():
            raise BenchError("a slow reader was sent away")
        readers.close()
        if number:
            alone.append(pair[0])
            beside.append(pair[1])
    ratio = statistics.median([x / y for x, y in zip(beside, alone)])
    return make_row("many", f"a client beside {count} slow readers / alone", "GB/s",
                    {"cachalot": statistics.median(beside)}, ratio, [alone, beside],
                    at_least=0.9, of_ratio=True)


def many_case(b, upstream, cachalot, server_cpu, client_cpu, make_row):
    if b.peers_only:
        return []
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with upstream, cachalot:
        upstream.start()
        cachalot.start(server_cpu)
        b.fill(cachalot, cachalot.manifest(TAG))
        b.fill(cachalot, cachalot.blob(b.content.large))
        return [idle(b, cachalot, make_row), beside_slow(b, cachalot, client_cpu, make_row)]
