# SPDX-License-Identifier: ISC
"""Whom the daemon runs as, and what it could do if it were taken over."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib import image, rawhttp, unit
from lib.cachalot import DAEMON, Cachalot
from lib.clients import short_directory
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.process import free_port
from lib.pusher import Pusher
from lib.wait import until

TAG = manifest("library/app", "1")
SOMEBODY = 54321  # who has no account
NOBODY = 65534
DAC_OVERRIDE = 1 << 1

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@pytest.fixture
def item(hub):
    return hub.hold(image.image("privileges", (1000,)), "library/app", "1")


class Place(type(Path())):
    """A directory that every user gets to."""

    def close(self):
        shutil.rmtree(self)


@pytest.fixture
def place(closing):
    directory = closing(Place(short_directory()))
    directory.chmod(0o755)
    return directory


@pytest.fixture
def daemon(hub, item, place, closing):
    """daemon(uid): it is not started; its cache directory is there, empty, and that user's."""

    def make(uid, **options):
        made = closing(Cachalot(place, {HUB: hub.url}, options))
        del made.sections["cache"]["user"]
        made.sections["admin"]["socket"] = ""
        made.write_config()
        made.cache.mkdir(mode=0o700)
        os.chown(made.cache, uid, uid)
        return made

    return make


def statuses(daemon):
    """/proc/PID/status of each thread."""
    found = []
    for path in Path(f"/proc/{daemon.child.pid}/task").glob("*/status"):
        found.append(dict(line.split(":\t", 1) for line in path.read_text().splitlines()
                          if ":\t" in line))
    return found


def capabilities(status):
    return {name: int(status[name], 16)
            for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


def is_sanitized(daemon):
    return "san.so" in Path(f"/proc/{daemon.child.pid}/maps").read_text()


def low_port():
    """A free one that only root may bind."""
    for port in range(600, 1000):
        if not subprocess.run(["ss", "-Htln", f"sport = {port}"], capture_output=True,
                              check=True).stdout:
            return port
    raise AssertionError("every port below 1000 is taken")


def test_root_becomes_the_owner(item, place, daemon):
    """Started by root for the directory of another user: it is that user in every thread, with
    nothing of root's left, on a port that is root's to open; and goes on so when it reloads."""
    ours = daemon(SOMEBODY)
    log = place / "log" / "cachalot.log"
    log.parent.mkdir()
    os.chown(log.parent, SOMEBODY, SOMEBODY)
    port = low_port()
    ours.sections["log"]["file"] = log
    ours.sections["listener low"] = {"address": f"127.0.0.1:{port}"}
    ours.write_config()
    ours.start()
    for status in statuses(ours):
        assert status["Uid"].split() == [str(SOMEBODY)] * 4
        assert status["Gid"].split() == [str(SOMEBODY)] * 4
        assert status["Groups"].split() == []
        assert not any(capabilities(status).values()), status
        assert status["NoNewPrivs"] == "1"
    assert rawhttp.get(("127.0.0.1", port), TAG, fields=ACCEPT).body == item.data
    log.rename(log.with_suffix(".1"))
    ours.hup()
    assert ours.metric("reloads_total") == 1
    until("a new log", log.exists)
    assert rawhttp.get(("127.0.0.1", port), TAG, fields=ACCEPT).body == item.data
    owners = {path.stat().st_uid for path in (ours.cache, *ours.cache.rglob("*"), log)}
    assert owners == {SOMEBODY}
    assert (ours.cache / "cachalot.sock").stat().st_mode & 0o777 == 0o660


def test_memory_is_closed(daemon):
    """No core is written, and no other process of the same user can look into the memory."""
    ours = daemon(SOMEBODY)
    ours.start()
    limits = Path(f"/proc/{ours.child.pid}/limits").read_text()
    core = next(x for x in limits.splitlines() if x.startswith("Max core file size"))
    assert core.split()[4:6] == ["1", "1"]
    if is_sanitized(ours):
        pytest.skip("the look for leaks needs the memory open")
    assert os.stat(f"/proc/{ours.child.pid}/mem").st_uid == 0
    look = subprocess.run(["head", "-c1", f"/proc/{ours.child.pid}/environ"], check=False,
                          capture_output=True, user=SOMEBODY, group=SOMEBODY, extra_groups=[])
    assert b"Permission denied" in look.stderr


def test_reload_opens_no_low_port(daemon):
    """A port below 1024 that comes with a reload: that is refused, and all stays as it was."""
    ours = daemon(SOMEBODY)
    ours.start()
    ours.sections["listener low"] = {"address": f"127.0.0.1:{low_port()}"}
    ours.write_config()
    ours.hup()
    assert ours.metric("reload_failures_total") == 1
    assert any("Permission denied" in line.get("message", "") for line in ours.log_lines())
    assert ours.healthy()


def test_settings_that_are_closed(daemon, place):
    """What the user cannot read stops the start, not the first reload."""
    ours = daemon(SOMEBODY)
    secret = place / "password"
    secret.write_text("xyzzy\n")
    secret.chmod(0o600)
    ours.sections[f"upstream {HUB}"].update({"username": "me", "password-file": secret})
    ours.write_config()
    ours.launch()
    assert ours.join() == 2
    assert str(secret) in ours.stderr_tail() and str(SOMEBODY) in ours.stderr_tail()
    os.chown(secret, 0, SOMEBODY)
    secret.chmod(0o640)
    ours.start()


def test_named_user(daemon):
    """`user` says whom: an empty directory of root's becomes his, one in use does not."""
    ours = daemon(0)
    ours.sections["cache"]["user"] = "nobody"
    ours.write_config()
    ours.start()
    assert {s["Uid"].split()[0] for s in statuses(ours)} == {str(NOBODY)}
    assert ours.cache.stat().st_uid == NOBODY
    assert ours.stop() == 0
    ours.sections["cache"]["user"] = "daemon"
    ours.write_config()
    ours.launch()
    assert ours.join() == 1
    assert "belongs to user 65534" in ours.stderr_tail()


@pytest.mark.parametrize("user, words", [("no-such-user", "there is no user"),
                                         ("root", "cannot become root")])
def test_user_that_cannot_be(daemon, user, words):
    """A user whom the machine does not know, or whom one who is not root cannot become."""
    ours = daemon(SOMEBODY)
    ours.sections["cache"]["user"] = user
    ours.write_config()
    ours.launch(**({} if user != "root" else
                   {"user": SOMEBODY, "group": SOMEBODY, "extra_groups": []}))
    assert ours.join() == 1
    assert words in ours.stderr_tail()


def test_root_stays_where_it_owns(item, cachalot, hub, tmp_path):
    """A cache of root's is served by root, who is left without rights over others' processes,
    network and machine; unless the settings name root, the log says so."""
    ours = cachalot({HUB: hub.url}, start=False)
    for user in ("", "root"):
        ours.sections["cache"]["user"] = user
        ours.write_config()
        ours.start()
        for status in statuses(ours):
            assert status["NoNewPrivs"] == "1"
            assert capabilities(status) == {"CapInh": 0, "CapPrm": DAC_OVERRIDE,
                                            "CapEff": DAC_OVERRIDE, "CapBnd": 0, "CapAmb": 0}
        assert ours.get(TAG, fields=ACCEPT).body == item.data
        assert ours.stop() == 0
        warned = [x for x in ours.log_lines() if "runs as root" in x.get("message", "")]
        assert len(warned) == 1


@pytest.mark.parametrize("sandbox", ["yes", "no"])
def test_sandbox(item, cachalot, hub, place, sandbox):
    """What the settings did not name at the start stays shut for a reload, as it would for who
    has taken the daemon over; without the sandbox it does not."""
    ours = cachalot({HUB: hub.url}, {"cache": {"sandbox": sandbox}})
    said = [line.get("message", "") for line in ours.log_lines()]
    if any("no Landlock" in line for line in said):
        pytest.skip("the kernel has no Landlock")
    assert not any("no sandbox" in line for line in said)
    secret = place / "password"
    secret.write_text("xyzzy\n")
    secret.chmod(0o600)
    ours.sections[f"upstream {HUB}"].update({"username": "me", "password-file": secret})
    ours.write_config()
    ours.hup()
    shut = sandbox == "yes"
    assert ours.metric("reload_failures_total") == shut
    said = [line.get("message", "") for line in ours.log_lines()]
    assert any(str(secret) in line and "Permission denied" in line for line in said) == shut
    assert any("the sandbox is closed to directories" in line for line in said) == shut
    for option in ("username", "password-file"):
        del ours.sections[f"upstream {HUB}"][option]
    ours.sections[f"upstream {HUB}"]["credential-helper"] = "/bin/true"
    ours.write_config()
    ours.hup()
    said = [line.get("message", "") for line in ours.log_lines()]
    assert any("a credential helper can be run" in line for line in said) == shut
    assert not any("user and sandbox of [cache]" in line for line in said)
    ours.sections["cache"]["sandbox"] = "no" if shut else "yes"
    ours.write_config()
    ours.hup()
    said = [line.get("message", "") for line in ours.log_lines()]
    assert any("user and sandbox of [cache] change with a restart only" in line for line in said)
    assert ours.get(TAG, fields=ACCEPT).status in (200, 502)


def test_filter_of_the_unit(item, hub, place, daemon):
    """A day under the system calls, families of sockets and memory that the unit allows, any
    other of which would kill: the authority is made; content is pulled from a host by its name,
    served, pushed, deleted; a credential helper is asked; the settings are read again."""
    if not unit.is_there():
        pytest.skip("no systemd-analyze")
    if b"san_init" in DAEMON.read_bytes():
        pytest.skip("sanitizers call more")
    ours = daemon(SOMEBODY)
    helper = place / "helper"
    helper.write_text("#!/bin/sh\nread server\necho '{\"Username\":\"me\",\"Secret\":\"xyzzy\"}'\n")
    helper.chmod(0o755)
    ours.sections[f"upstream {HUB}"].update({"url": hub.url.replace("127.0.0.1", "localhost"),
                                             "credential-helper": helper})
    ours.sections["access all"] = {"addresses": "any", "allow": "pull push delete"}
    ours.sections["listener proxy"] = {"role": "intercept", "address": f"127.0.0.1:{free_port()}"}
    ours.sections["listener tls"] = {"address": f"127.0.0.1:{free_port()}", "tls": "yes",
                                     "names": "localhost"}
    ours.write_config()
    ours.start(wrap=[sys.executable, unit.__file__, SOMEBODY])
    assert {s["Seccomp"] for s in statuses(ours)} == {"2"}
    for _ in range(2):
        assert ours.get(TAG, fields=ACCEPT).body == item.data
        for each in item.all_blobs():
            path = blob("library/app", each.digest)
            assert ours.get(path).body == each.data
            assert ours.get(path, fields=[("Range", "bytes=1-2")]).status == 206
    pusher = Pusher(ours.address, "team/app")
    pusher.push(item, "1")
    assert pusher.remove("manifests/1").status == 202
    assert ours.command("status").returncode == 0
    ours.hup()
    assert ours.metric("reloads_total") == 1
    assert ours.healthy()
    assert ours.stop() == 0
