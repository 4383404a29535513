# SPDX-License-Identifier: ISC
"""A name server of the test, in the place of the machine's; and public addresses on
loopback. Both need the namespaces of lib/isolate.py."""

import contextlib
import ctypes
import os
import select
import socket
import struct
import subprocess
import threading

PUBLIC = "203.0.113.7"  # documentation's, and nobody's in this namespace


def add_public_address(address=PUBLIC):
    subprocess.run(["ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)


class Outside:
    """Another network namespace, with public addresses: where the machine of the tests is not."""

    CLONE_NEWNET = 0x40000000

    def __init__(self, addresses):
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"],
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.holder.stdout.readline()  # it is in its namespace
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.inside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.outside = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)
        self.ip("link", "add", "line", "type", "veth", "peer", "name", "far", "netns",
                self.holder.pid)
        self.ip("address", "add", "10.99.0.1/24", "dev", "line")
        self.ip("link", "set", "line", "up")
        with self.entered():
            self.ip("address", "add", "10.99.0.2/24", "dev", "far")
            for device in ("lo", "far"):
                self.ip("link", "set", device, "up")
            for address in addresses:
                self.ip("address", "add", f"{address}/32", "dev", "lo")
        self.ip("route", "add", "203.0.113.0/24", "via", "10.99.0.2")

    @staticmethod
    def ip(*arguments):
        subprocess.run(["ip", *map(str, arguments)], check=True)

    @contextlib.contextmanager
    def entered(self):
        """Sockets and children that this thread makes belong there; what is made stays."""
        assert self.libc.setns(self.outside, self.CLONE_NEWNET) == 0
        try:
            yield
        finally:
            assert self.libc.setns(self.inside, self.CLONE_NEWNET) == 0

    def close(self):
        self.ip("link", "delete", "line")
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()
        os.close(self.inside)
        os.close(self.outside)


class NameServer:
    """`answers` is {name: [what is said the first time, the second, ...]}; the last one
    is said ever after. What is said: addresses (a tuple), () for none, "nowhere" for no
    such name, "silent", or "-> name" for an alias."""

    def __init__(self, directory):
        self.answers = {}
        self.asked = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        path = directory / "resolv.conf"
        path.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        subprocess.run(["mount", "--bind", path, "/etc/resolv.conf"], check=True)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self):
        subprocess.run(["umount", "/etc/resolv.conf"], check=True)
        self.stopping.set()
        self.thread.join()
        self.socket.close()

    def serve(self):
        while not self.stopping.is_set():
            if not select.select([self.socket], [], [], 0.05)[0]:
                continue
            query, peer = self.socket.recvfrom(512)
            answer = self.answer(query)
            if answer:
                self.socket.sendto(answer, peer)

    def said(self, name):
        """For both kinds of addresses of one look-up the same."""
        said = self.answers.get(name, ["nowhere"])
        turn = self.asked.count(name)
        return said[min(turn, len(said) - 1)]

    def answer(self, query):
        end = query.index(b"\0", 12)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        name = ".".join(labels)
        kind, = struct.unpack("!H", query[end + 1:end + 3])
        said = self.said(name)
        if kind == 28:  # AAAA: the second of the two questions
            self.asked.append(name)
        if said == "silent":
            return None
        code = 3 if said == "nowhere" else 0
        records = []
        if isinstance(said, str) and said.startswith("-> "):
            target = said.removeprefix("-> ")
            encoded = b"".join(bytes([len(x)]) + x.encode() for x in target.split(".")) + b"\0"
            records.append(struct.pack("!HHHIH", 0xC00C, 5, 1, 0, len(encoded)) + encoded)
            if kind == 1:
                records += [encoded + self.record(a) for a in self.said(target)]
        elif kind == 1 and code == 0:
            records += [b"\xC0\x0C" + self.record(a) for a in said]
        head = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        return head + query[12:end + 5] + b"".join(records)

    @staticmethod
    def record(address):
        return struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
