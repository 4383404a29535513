# SPDX-License-Identifier: ISC
"""The index is lost or damaged: it is made anew from the files, the daemon comes up, and what it
may serve it serves."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from lib import image
from lib.cachalot import COMMAND
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.private import PrivateHub
from lib.pusher import EVERYBODY, Pusher
from lib.tokens import TokenServer

APP = "library/app"
SECRET = "acme/secret"
ALICE = [("Authorization", "Bearer alice-0123456789")]
BOB = [("Authorization", "Bearer bob-0123456789")]
FLIPS = int(os.environ.get("CACHALOT_FLIPS", "12"))


@pytest.fixture
def upstream(closing):
    """An image for everybody, of two platforms, and one for alice alone."""
    hub = closing(PrivateHub(closing(TokenServer(anonymous=False))))
    hub.accepted[SECRET] = {ALICE[0][1]}
    hub.secret = hub.hold(image.image("rebuild-secret", (20_000,)), SECRET, "1")
    hub.images = [image.image(f"rebuild-{a}", (30_000,), architecture=a)
                  for a in ("amd64", "arm64")]
    hub.index = hub.hold(image.index(hub.images), APP, "1")
    return hub


@pytest.fixture
def daemon(upstream, cachalot):
    """All of it is held, and an image that was pushed by its digest, in an index with a tag."""
    it = cachalot({HUB: {"url": upstream.url, "retries": 0, "tag-ttl": "1h", "proof-ttl": "1h",
                         "realm-hosts": "%s:%d" % upstream.tokens.address}}, EVERYBODY)
    pull(it, APP, upstream.index, upstream.images)
    pull(it, SECRET, upstream.secret, [], ALICE)
    it.mine = image.image("rebuild-mine", (7_000,))
    it.multi = image.index([it.mine])
    Pusher(it.address, "team/app").push(it.mine)
    Pusher(it.address, "team/app").push(it.multi, "2")
    it.wait_idle()
    return it


def pull(daemon, repository, item, children, fields=()):
    got = daemon.get(manifest(repository, "1"), fields=[*ACCEPT, *fields])
    assert got.status == 200 and got.body == item.data, got
    for each in children:
        got = daemon.get(manifest(repository, each.digest), fields=[*ACCEPT, *fields])
        assert got.status == 200 and got.body == each.data, got
    for b in [b for x in (item, *children) for b in x.blobs]:
        got = daemon.get(blob(repository, b.digest), fields=fields)
        assert got.status == 200 and got.body == b.data, got


def pull_local(daemon):
    got = daemon.get("/v2/team/app/manifests/2", fields=ACCEPT)
    assert got.status == 200 and got.body == daemon.multi.data
    got = daemon.get(f"/v2/team/app/manifests/{daemon.mine.digest}", fields=ACCEPT)
    assert got.status == 200 and got.body == daemon.mine.data
    for b in daemon.mine.blobs:
        assert daemon.get(f"/v2/team/app/blobs/{b.digest}").body == b.data


def lose_index(daemon):
    assert daemon.stop() == 0
    shutil.rmtree(daemon.cache / "db")


def said(daemon):
    return [x["message"] for x in daemon.log_lines() if "made anew" in x.get("message", "")]


def test_index_is_lost(upstream, daemon):
    """What is public is served with the line cut, by tag and by digest; the team's images, too,
    also those that no tag names. The log and a counter say what happened."""
    daemon.command("pin", "app:1")
    lose_index(daemon)
    upstream.close()
    daemon.start()
    assert daemon.metric("index_rebuilds_total") == 1
    assert "was missing" in said(daemon)[0] and "2 tags" not in said(daemon)[0]
    pull(daemon, APP, upstream.index, upstream.images)
    pull_local(daemon)
    assert daemon.command("check").returncode == 0
    daemon.stop()
    daemon.start()
    assert daemon.metric("index_rebuilds_total") == 0
    pull_local(daemon)


def test_private_stays_private(upstream, daemon):
    """What was alice's is nobody's at first. Bob is refused by cachalot as by the upstream; alice,
    whom the upstream lets in, gets it without a byte of it crossing the line again."""
    lose_index(daemon)
    daemon.start()
    for b in upstream.secret.blobs:
        assert daemon.get(blob(SECRET, b.digest), fields=BOB).status in (401, 403, 404)
        assert daemon.get(blob(SECRET, b.digest)).status in (401, 403, 404)
        assert daemon.get(blob(APP, b.digest)).status in (401, 403, 404)
        assert daemon.get(f"/v2/team/app/blobs/{b.digest}").status == 404
    assert daemon.get(manifest(SECRET, "1"), fields=[*ACCEPT, *BOB]).status in (401, 403, 404)
    upstream.forget()
    pull(daemon, SECRET, upstream.secret, [], ALICE)
    assert upstream.count("GET", "/blobs/") == 0
    assert daemon.get(blob(SECRET, upstream.secret.blobs[0].digest), fields=BOB).status in (
        401, 403, 404)


def test_lost_with_index_json(upstream, daemon):
    """Without index.json nobody knows the tags: the upstream is asked again, and no blob crosses
    the line; what was pushed is gone from its repository, and can be pushed again."""
    lose_index(daemon)
    (daemon.cache / "index.json").unlink()
    daemon.start()
    assert "all tags are lost" in said(daemon)[0]
    before = upstream.count("GET", "/blobs/")
    pull(daemon, APP, upstream.index, upstream.images)
    assert upstream.count("GET", "/blobs/") == before
    assert daemon.get("/v2/team/app/manifests/2", fields=ACCEPT).status == 404
    Pusher(daemon.address, "team/app").push(daemon.mine)
    Pusher(daemon.address, "team/app").push(daemon.multi, "2")
    pull_local(daemon)


def test_flipped_bytes(upstream, daemon):
    """Bytes of the index are flipped: each time the daemon comes up, serves, and ends in order."""
    daemon.stop()
    path = daemon.cache / "db" / "data.mdb"
    sound = path.read_bytes()
    dice = random.Random(7)
    for _ in range(FLIPS):
        at = dice.randrange(len(sound))
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << dice.randrange(8)]) + sound[at + 1:])
        daemon.start()
        pull(daemon, APP, upstream.index, upstream.images)
        assert daemon.stop() == 0, at


def test_a_crash_in_the_rebuild(daemon):
    """Killed while the index is made anew, over and over: the next start makes it anew."""
    lose_index(daemon)
    for _ in range(4):
        daemon.launch()
        daemon.kill()
    (daemon.cache / "db.new").mkdir(exist_ok=True)
    (daemon.cache / "db.new" / "data.mdb").write_bytes(b"x" * 5000)
    daemon.start()
    pull_local(daemon)


def test_command(upstream, daemon):
    """cachalot check says of a damaged index what to do; --rebuild does it without a daemon, and
    is refused beside one."""
    done = daemon.command("check", "--rebuild")
    assert done.returncode == 1 and "in use" in done.stderr
    daemon.stop()
    path = daemon.cache / "db" / "data.mdb"
    path.write_bytes(path.read_bytes()[:20_000])
    done = daemon.command("check")
    assert done.returncode == 4 and "check --rebuild" in done.stderr
    done = daemon.command("check", "--rebuild")
    assert done.returncode == 0 and "made anew" in done.stdout and "all is well" in done.stdout, done
    daemon.start()
    assert daemon.metric("index_rebuilds_total") == 0
    pull(daemon, APP, upstream.index, upstream.images)
    pull_local(daemon)


def test_not_a_cache(tmp_path):
    """check makes nothing where there is no cache."""
    done = subprocess.run([COMMAND, "-C", tmp_path / "none", "check", "--rebuild"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not (tmp_path / "none").exists()
    (tmp_path / "other").mkdir()
    done = subprocess.run([COMMAND, "-C", tmp_path / "other", "check", "--rebuild"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not list(Path(tmp_path / "other").iterdir())
