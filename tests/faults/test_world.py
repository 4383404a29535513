# SPDX-License-Identifier: ISC
"""What the world around does: clocks that are set, logs that cannot be written, lines that lose
packets, and thousands of clients that are slow, on purpose or not."""

import errno
import os
import re
import resource
import selectors
import signal
import socket
import ssl
import subprocess
import time

import pytest

import invariants
import operations
import shim
import tally
from lib import intercept, rawhttp
from lib.crowd import together
from lib.image import ACCEPT, noise
from lib.internet import HUB_HOST
from lib.paths import blob, manifest
from lib.pusher import Pusher
from lib.wait import until

DAY_S = 86400
MIB = 1 << 20


# --- clocks ---

JUMPS = {"a-year-later": [400], "a-year-earlier": [-400], "there-and-back": [400, 0],
         "after-2038": [(2 ** 31 - time.time()) / DAY_S + 1], "before-1970": [-60 * 365],
         "hither-and-thither": [1, -1, 30, -30, 4000, 0]}


@pytest.mark.parametrize("days", JUMPS.values(), ids=JUMPS)
def test_clock_is_set(rig, days):
    """What is held stays held and is served, pulls and pushes go on, nothing expires by the
    thousand, and no timer spins; and so after a restart with that clock."""
    daemon = rig().start()
    pull, push = operations.Pull(daemon), operations.Push(daemon)
    held, pushed = pull.prepare("held"), push.prepare("held")
    pull.again(held)
    push.run(pushed)
    baseline = invariants.Baseline(daemon)
    stored = daemon.stored()
    for i, jump in enumerate(days):
        daemon.shim.shift_clock(round(jump * DAY_S))
        daemon.check()
        pull.again(held)
        pull.again(pull.prepare(f"{i}"))
        push.again(push.prepare(f"{i}"))
        assert stored <= daemon.stored()
        tally.add("clocks set")
    baseline.check()
    daemon.restart()
    daemon.check()
    pull.again(held)
    assert stored <= daemon.stored()


def shown(door, host):
    """The certificate that a client of the host is shown, as PEM."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with door.open(host, context) as c:
        return ssl.DER_cert_to_PEM_cert(c.socket.getpeercert(binary_form=True))


def test_certificates_follow_the_clock(rig, tmp_path):
    """The clock is set on and back: whatever the time, who is intercepted is shown a certificate
    that is valid then, and the same one for as long as it is."""
    address, options = intercept.options()
    daemon = rig(options).start()
    door = intercept.Door(daemon, address)
    authority, leaf = door.ca_file(), tmp_path / "leaf.crt"
    for days in (0, 400, 0, 100, 90, -0.5):
        daemon.shim.shift_clock(round(days * DAY_S))
        pem = shown(door, HUB_HOST)
        leaf.write_text(pem)
        done = subprocess.run(["openssl", "verify", "-CAfile", authority, "-attime",
                               str(round(time.time() + days * DAY_S)), leaf],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, (days, done)
        assert shown(door, HUB_HOST) == pem
        tally.add("clocks set")


# --- logs ---


def test_log_disk_is_full(rig):
    """No line can be written to the log any more: all is served as before; when there is room
    again, there are lines again."""
    daemon = rig({"log": {"level": "debug"}}).start()
    daemon.shim.arm(shim.LOG, errno.ENOSPC, 1, shim.EVER)
    for kind in (operations.Pull, operations.Push, operations.Delete):
        operation = kind(daemon)
        operation.again(operation.prepare(kind.name))
    assert daemon.shim.failed > 3
    tally.add("faults injected", daemon.shim.failed)
    daemon.shim.disarm()
    said = daemon.stderr_path.stat().st_size
    pull = operations.Pull(daemon)
    pull.again(pull.prepare("again"))
    until("there are lines again", lambda: daemon.stderr_path.stat().st_size > said)


@pytest.mark.parametrize("how", ["closed", "broken-pipe"])
def test_nobody_hears_it(rig, how):
    """Its standard output and error are closed, or a pipe whose reader has gone: neither ends
    it, nor does a line go into a file of the cache that has their number."""
    daemon = rig()
    if how == "closed":
        daemon.start(wrap=["sh", "-c", 'exec "$0" "$@" >&- 2>&-'])
    else:
        daemon.start(wrap=["bash", "-c", 'exec "$0" "$@" > >(exec true) 2>&1'])
    for kind in (operations.Pull, operations.Push):
        operation = kind(daemon)
        operation.again(operation.prepare(kind.name))
    daemon.check()
    daemon.restart()
    daemon.check()


def test_storm_of_reloads(rig):
    """Reloads without a pause, of a good file and of a bad one, while there is work to do."""
    daemon = rig().start()
    good = daemon.config_path.read_text()
    pull = operations.Pull(daemon)
    baseline = invariants.Baseline(daemon)
    for i in range(tally.scaled(30)):
        daemon.config_path.write_text(good if i % 2 else good + "\n[upstream\nurl=")
        for _ in range(10):
            daemon.send_signal(signal.SIGHUP)
        pull.again(pull.prepare(i))
    daemon.config_path.write_text(good)
    daemon.hup()
    daemon.check()
    baseline.check()


# --- lines ---


@pytest.fixture
def lossy():
    """lossy(port, share): of the packets to and from a port this share is lost."""
    rules = []

    def lose(port, share):
        for side in ("--dport", "--sport"):
            rule = ["INPUT", "-i", "lo", "-p", "tcp", side, str(port), "-m", "statistic", "--mode",
                    "random", "--probability", str(share), "-j", "DROP"]
            done = subprocess.run(["iptables", "-A", *rule], capture_output=True, text=True,
                                  check=False)
            if done.returncode != 0:
                pytest.skip(f"no packets can be lost here: {done.stderr.strip()}")
            rules.append(rule)

    yield lose
    for rule in rules:
        subprocess.run(["iptables", "-D", *rule], check=False)


@pytest.mark.mounts  # in a namespace of its own
@pytest.mark.parametrize("share", [0.05, 0.15])
def test_packets_are_lost(rig, lossy, share):
    """On the line to the upstream and on that of the clients: what is complete is right."""
    daemon = rig().start()
    pull, push = operations.Pull(daemon), operations.Push(daemon)
    lossy(daemon.hub.address[1], share)
    lossy(daemon.address[1], share)
    together(4, lambda i: pull.run(pull.prepare(f"lost-{i}")))
    push.run(push.prepare("lost"))
    subprocess.run(["iptables", "-F", "INPUT"], check=True)
    daemon.check()
    pull.again(pull.prepare("lost-0"))


@pytest.mark.mounts
def test_line_is_slow(rig):
    """All lines together take 256 kbit/s: it takes its time, what is complete is right, and so is
    all when the line is well again."""
    daemon = rig().start()
    pull = operations.Pull(daemon)
    shape = ["root", "tbf", "rate", "256kbit", "burst", "128kb", "latency", "1s"]
    done = subprocess.run(["tc", "qdisc", "add", "dev", "lo", *shape], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no line can be made slow here: {done.stderr.strip()}")
    try:
        pull.run(pull.prepare("slow-0"))
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)
    daemon.check()
    pull.again(pull.prepare("slow-0"))


# --- clients by the thousand ---


def descriptors(count):
    """Let us have so many; fewer where less is allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(count + 500, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return wanted - 500


class Many:
    """Connections that are opened, sent something and left alone, or drained now and then."""

    def __init__(self, address, count):
        self.selector = selectors.EpollSelector()
        self.all = []
        self.received = 0  # bytes
        for _ in range(count):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(address)
            s.setblocking(False)
            self.all.append(s)
            self.selector.register(s, selectors.EVENT_READ)

    def send(self, data):
        for s in self.all:
            try:
                s.send(data)
            except (BlockingIOError, ConnectionError):
                pass

    def closed(self):
        """Read what there is; how many the peer has closed so far."""
        while ready := self.selector.select(0):
            for key, _ in ready:
                try:
                    if got := key.fileobj.recv(65536):
                        self.received += len(got)
                        continue
                except BlockingIOError:
                    continue
                except ConnectionError:
                    pass
                self.selector.unregister(key.fileobj)
        return len(self.all) - len(self.selector.get_map())

    def close(self):
        for s in self.all:
            s.close()
        self.selector.close()


@pytest.fixture
def many(closing):
    return lambda daemon, count: closing(Many(daemon.address, count))


SLOW = {"head": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ",
        "refused-body": b"PUT /v2/team/app/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{",
        "body": b"POST /v2/team/app/blobs/uploads/?digest=sha256:" + b"0" * 64 + b" HTTP/1.1\r\n"
                  b"Host: x\r\nContent-Length: 900\r\n\r\n{"}


@pytest.mark.slow
@pytest.mark.parametrize("what", SLOW)
def test_slowloris(rig, many, what):
    """Thousands begin a request and say a byte now and then: others are answered at once, and
    the slow ones are closed when their time is over, however often they say something."""
    count = descriptors(tally.scaled(5000))
    daemon = rig({"listener main": {"head-timeout": "3s", "stall-timeout": "3s"}}).start()
    baseline = invariants.Baseline(daemon)
    crowd = many(daemon, count)
    crowd.send(SLOW[what])

    def all_are_closed():
        invariants.check_answers(daemon)
        crowd.send(b"a")
        return crowd.closed() == count

    until("they are closed", all_are_closed, 60, 0.2)
    tally.add("slow clients", count)
    crowd.close()
    baseline.check(grown_bytes=64 * MIB)


@pytest.mark.slow
def test_slow_readers(rig, many):
    """A thousand read a large blob hardly at all: they cost next to no memory, and another
    client has it at once."""
    count = descriptors(tally.scaled(1000))
    daemon = rig({"listener main": {"stall-timeout": "1h"}}).start()
    data = noise(16 * MIB, "slow")
    path = blob(operations.REPOSITORY, daemon.hub.hold_blob(operations.REPOSITORY, data))
    assert daemon.get(path).body == data
    baseline = invariants.Baseline(daemon)
    crowd = many(daemon, count)
    crowd.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    until("all are being served", lambda: daemon.metric("connections") >= count)
    began = time.monotonic()
    for _ in range(5):
        assert daemon.get(path).body == data
    assert time.monotonic() - began < 10
    assert baseline.rss_bytes() - baseline.rss < 48 * MIB
    tally.add("slow clients", count)
    crowd.close()
    baseline.check(kept_files=32)


@pytest.mark.slow
def test_idle_clients(rig, many):
    """Nine thousand connections that say nothing, and a thousand that ask again and again: each
    answer is right, and no round costs memory that is not given back."""
    count = descriptors(tally.scaled(10_000))
    idle, active = count - count // 10, count // 10
    daemon = rig({"listener main": {"head-timeout": "1h", "idle-timeout": "1h"}}).start()
    data = noise(1000, "asked for again and again")
    path = blob(operations.REPOSITORY, daemon.hub.hold_blob(operations.REPOSITORY, data))
    assert daemon.get(path).body == data
    daemon.wait_idle()
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with socket.create_connection(daemon.address) as s:
        s.sendall(request)
        until("an answer", lambda: len(s.recv(65536, socket.MSG_PEEK)) > 1000)
        answer_bytes = len(s.recv(65536))
    baseline = invariants.Baseline(daemon)
    silent = many(daemon, idle)
    until("all are connected", lambda: daemon.metric("connections") >= idle)
    assert baseline.rss_bytes() - baseline.rss < 32 * MIB
    assert baseline.is_idle()
    busy = many(daemon, active)
    most = []
    for number in range(1, 11):
        busy.send(request)
        until("all are answered", lambda n=number: busy.closed() == 0 and
              busy.received >= n * active * answer_bytes, 60)
        most.append(baseline.rss_bytes())
        invariants.check_answers(daemon)
    assert busy.received == 10 * active * answer_bytes
    assert most[-1] - most[0] < 8 * MIB
    assert silent.closed() == 0
    pull = operations.Pull(daemon)
    pull.again(pull.prepare("beside"))
    tally.add("slow clients", count)
    silent.close()
    busy.close()
    baseline.check()


def test_large_blob_for_many(rig):
    """Fifty clients have a blob that is larger than what the daemon may take more."""
    daemon = rig().start()
    data = noise(64 * MIB, "large")
    path = blob(operations.REPOSITORY, daemon.hub.hold_blob(operations.REPOSITORY, data))
    pull = operations.Pull(daemon)
    pull.again(pull.prepare("warm"))
    status = f"/proc/{daemon.child.pid}/status"

    def anonymous_bytes():
        with open(status) as f:
            return int(re.search(r"RssAnon:\s+(\d+)", f.read())[1]) * 1024

    before, most = anonymous_bytes(), 0

    def read(_):
        nonlocal most
        with daemon.connect() as c:
            c.request(path)
            got = c.read_head()
            left = got.length
            while left > 0 and (c.buffer or c.receive()):
                left -= len(c.buffer)
                c.buffer = b""
                most = max(most, anonymous_bytes())
        assert got.status == 200 and left == 0

    together(10, read)
    assert most - before < 40 * MIB
    assert daemon.hub.count("GET", path.rsplit("/", 1)[1]) == 1
