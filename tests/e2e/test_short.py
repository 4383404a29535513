# SPDX-License-Identifier: ISC
"""Short of what a process has from the system: descriptors, a log, somebody who reads it."""

import os
import signal
import time
from pathlib import Path

import pytest

from lib import image, rawhttp
from lib.image import ACCEPT
from lib.paths import HUB, manifest
from lib.process import free_port
from lib.wait import TooLate, until

TAG = manifest("library/app", "1")
OTHER = manifest("library/app", "2")
FILES = 72
TICK = 1 / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def item(hub):
    return hub.hold(image.image("short", (1000,)), "library/app", "1")


def cpu_seconds(daemon):
    fields = Path(f"/proc/{daemon.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def open_files(daemon):
    return len(os.listdir(f"/proc/{daemon.child.pid}/fd"))


def is_paused(daemon):
    return any("Too many open files" in line.get("message", "") or "as many are open" in
               line.get("message", "") for line in daemon.log_lines())


def test_no_descriptors(item, hub, cachalot):
    """More clients than there are descriptors: those that are in are served, the daemon idles,
    the command still gets in; when some leave, who waited is served, and so is a miss."""
    other = hub.hold(image.image("short-2", (1000,)), "library/app", "2")
    daemon = cachalot({HUB: hub.url}, start=False)
    daemon.start(wrap=["prlimit", f"--nofile={FILES}:{FILES}"])
    assert daemon.get(TAG, fields=ACCEPT).body == item.data
    until("the probes are gone", lambda: daemon.command("status", "-q").returncode == 0)
    before = open_files(daemon)
    clients = [daemon.connect() for _ in range(FILES)]
    try:
        until("it takes no more", lambda: is_paused(daemon))
        inside = clients[0]
        inside.request(TAG, fields=ACCEPT)
        assert inside.read_response().body == item.data
        busy, begun = cpu_seconds(daemon), time.monotonic()
        with pytest.raises(TooLate):
            until("a second of trying again", lambda: False, timeout=1)
        assert cpu_seconds(daemon) - busy < 0.2 * (time.monotonic() - begun)
        assert daemon.command("status", "-q").returncode == 0
        late = daemon.connect()
        late.request(TAG, fields=ACCEPT)
    finally:
        for c in clients:
            c.close()
    assert late.read_response().body == item.data
    late.close()
    assert daemon.get(OTHER, fields=ACCEPT).body == other.data
    until("no descriptor is left over", lambda: open_files(daemon) <= before + 2)


def test_nobody_reads_the_log(item, hub, cachalot, tmp_path):
    """Standard error is a pipe whose reader is gone, standard output is closed: it serves."""
    daemon = cachalot({HUB: hub.url}, start=False)
    daemon.start(wrap=["sh", "-c", 'exec "$@" 2>&1 >&- | :', "sh"], start_new_session=True)
    for _ in range(20):
        assert daemon.get(TAG, fields=ACCEPT).body == item.data
    pid = int((daemon.cache / "lock").read_text())
    os.kill(pid, signal.SIGTERM)
    assert daemon.join() == 0


def test_log_disk_is_full(item, hub, cachalot):
    """The log cannot be written: it serves, and a reload to a log that can be goes on there."""
    daemon = cachalot({HUB: hub.url}, {"log": {"file": "/dev/full", "level": "debug"}})
    for _ in range(20):
        assert daemon.get(TAG, fields=ACCEPT).body == item.data
    daemon.hup()
    log = daemon.cache.parent / "good.log"
    daemon.sections["log"]["file"] = log
    daemon.sections["cache"]["sandbox"] = "no"
    daemon.write_config()
    daemon.hup()
    assert daemon.get(TAG, fields=ACCEPT).body == item.data
    assert daemon.metric("reload_failures_total") == 0


def test_storm_of_bad_reloads(item, hub, cachalot):
    """A hundred SIGHUPs, of which half find bad settings, and a listener that comes and goes:
    each is taken or refused, and clients see nothing of it. Two requests, HEAD and GET."""
    daemon = cachalot({HUB: hub.url})
    extra = ("127.0.0.1", free_port())
    before = open_files(daemon)
    for i in range(100):
        daemon.sections["log"]["level"] = "debug" if i % 2 else "no such level"
        if i % 4 == 1:
            daemon.sections["listener extra"] = {"address": "%s:%d" % extra}
        else:
            daemon.sections.pop("listener extra", None)
        daemon.write_config()
        daemon.send_signal(signal.SIGHUP)
        assert daemon.get(TAG, fields=ACCEPT).body == item.data
    daemon.sections.pop("listener extra", None)
    daemon.write_config()
    daemon.hup()
    assert daemon.metric("reloads_total") > 0 and daemon.metric("reload_failures_total") > 0
    with pytest.raises(OSError):
        rawhttp.get(extra, "/v2/")
    until("no descriptor is left over", lambda: open_files(daemon) <= before + 3)
    assert hub.count("HEAD") == hub.count("GET") == 1
