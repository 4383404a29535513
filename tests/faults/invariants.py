# SPDX-License-Identifier: ISC
"""What must hold after every test, whatever was broken meanwhile.

    I1  every indexed blob exists, and what is in blobs/ has the digest of its name
    I2  no client ever got a complete 2xx body that is wrong
    I3  no temporary file is left after a restart, once what was begun has been had
    I4  what was acknowledged with 201 is there; what was acknowledged as deleted is not
    I5  no credential is in a log
    I6  /v2/ answers within a second; descriptors, memory and processor are given back
"""

import json
import os
import time
from pathlib import Path

from lib.wait import TooLate, until

UNFINISHED = ("unrecorded-file", "left-over", "loose-pin")  # costs room, no more
KEPT = {"import-lock"}  # in partial/, for ever
HONEST = (500, 502, 503, 504, 507)  # "could not", never "is not there"


def recorded(daemon):
    """The digests that the index has."""
    done = daemon.command("have")
    assert done.returncode == 0, done
    return {line for line in done.stdout.splitlines() if line.startswith(("sha256:", "sha512:"))}


def findings(daemon, *options):
    """What `cachalot check` has to say: it reads every blob, and the index both ways."""
    done = daemon.command("check", *options, "--format", "json")
    assert done.returncode in (0, 4), done
    return [f for f in json.loads(done.stdout)["findings"] if not f["repaired"]]


def check_index(daemon):
    """I1. The daemon may be down. Returns what is indexed."""
    wrong = [f for f in findings(daemon) if f["finding"] not in UNFINISHED]
    assert not wrong, wrong
    return recorded(daemon)


def check_repaired(daemon):
    """What was cut short takes room; `check --fix` gives it back, and then all is well."""
    findings(daemon, "--fix")
    left = [f for f in findings(daemon) if f["damage"]]
    assert not left, left


def check_answer(got, data):
    """I2, of one answer that may be None (the connection was closed before it)."""
    if got is None or got.status in HONEST:
        return False
    assert got.status in (200, 206), got
    assert got.body == data[:len(got.body)], "wrong bytes were sent"
    return got.complete and len(got.body) == len(data)


def check_fetches_left(daemon):
    """I3, of what was pulled: it has been had, so no part of it is needed any more."""
    until("no part of a pull is left",
          lambda: not any(p.name.startswith(("sha256-", "sha512-")) for p in daemon.partials()))


def check_nothing_left(daemon):
    """I3, of all: what nobody came back for goes when it is old. The daemon is started again
    with files that are a month older, and for uploads a day is a second."""
    daemon.stop()
    for path in daemon.partials():
        before = path.stat().st_mtime - 30 * 86400
        os.utime(path, (before, before))
    daemon.sections["cache"]["upload-ttl"] = "1s"
    daemon.write_config()
    daemon.start()

    def left():
        return {p.name for p in daemon.partials()} - KEPT

    try:
        until("nothing is left in partial/", lambda: not left())
    except TooLate as failure:
        failure.add_note(f"left: {left()}")
        raise
    daemon.stop()
    check_repaired(daemon)
    daemon.start()


def check_secrets(daemon, secrets):
    """I5."""
    for path in (daemon.stderr_path, daemon.stdout_path):
        text = path.read_text(errors="replace")
        for secret in secrets:
            assert secret not in text, f"a credential is in {path}"


def check_answers(daemon):
    """I6, the part that is asked every time."""
    began = time.monotonic()
    assert daemon.get("/v2/", timeout=10).status in (200, 401)
    assert time.monotonic() - began < 1, "/v2/ took too long"


class Baseline:
    """I6, the rest: what a process had at its start, and must not have much more of when it is
    idle again."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.descriptors = self.count_descriptors()
        self.rss = self.rss_bytes()

    def proc(self, name):
        return Path(f"/proc/{self.daemon.child.pid}/{name}")

    def count_descriptors(self):
        return len(os.listdir(self.proc("fd")))

    def rss_bytes(self):
        return int(self.proc("statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self):
        fields = self.proc("stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_idle(self):
        """Whether a quarter of a second goes by with hardly any work."""
        before, began = self.cpu_s(), time.monotonic()
        until("a quarter of a second", lambda: time.monotonic() > began + 0.25)
        return self.cpu_s() - before <= 0.03

    def check(self, kept_files=16, grown_bytes=48 << 20):
        """`kept_files`: the workers keep files that they serve open."""
        most = self.descriptors + kept_files
        until("its descriptors are given back", lambda: self.count_descriptors() <= most)
        assert self.rss_bytes() <= self.rss + grown_bytes, (self.rss_bytes(), self.rss)
        until("it is idle", self.is_idle, 20)
