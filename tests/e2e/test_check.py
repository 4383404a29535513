# SPDX-License-Identifier: ISC
"""cachalot check: what is held is what it was, or it says what is not, and repairs it."""

import json
import os

import pytest

from lib import image
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.pusher import EVERYBODY, Pusher


@pytest.fixture
def upstream(hub):
    hub.item = hub.hold(image.image("check", (40_000, 9_000)), "library/app", "1")
    return hub


@pytest.fixture
def daemon(upstream, cachalot):
    """An image of an upstream, and one that was pushed, are held whole."""
    it = cachalot({HUB: {"url": upstream.url, "retries": 0}}, EVERYBODY)
    pull(it, upstream.item)
    it.mine = image.image("check-mine", (7_000,))
    Pusher(it.address, "team/app").push(it.mine, "2")
    it.wait_idle()
    return it


def pull(daemon, item):
    got = daemon.get(manifest("library/app", "1"), fields=ACCEPT)
    assert got.status == 200 and got.body == item.data
    for b in item.blobs:
        assert daemon.get(blob("library/app", b.digest)).body == b.data
    daemon.wait_metric("blobs_stored_total", len(item.blobs))


def check(daemon, *options, code=None):
    done = daemon.command("check", *options, "--format", "json")
    assert done.returncode in ((0, 4) if code is None else (code,)), done
    return json.loads(done.stdout)


def found(daemon, *options, code=None):
    """[(finding, what it is about, whether it was repaired)]"""
    return sorted((f["finding"], f.get("digest") or f.get("name"), f["repaired"])
                  for f in check(daemon, *options, code=code)["findings"])


def flip(path, offset=100):
    os.chmod(path, 0o600)
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 4]))


def test_all_is_well(daemon):
    """Beside a running daemon and without it, everything is read and nothing is found."""
    said = check(daemon, code=0)
    assert said["findings"] == []
    assert said["checked"]["blobs"] == 7 and said["checked"]["tags"] == 2
    assert said["checked"]["bytes"] == sum(os.path.getsize(p)
                                           for p in daemon.cache.glob("blobs/*/*"))
    daemon.stop()
    assert check(daemon, code=0)["findings"] == []
    done = daemon.command("check")
    assert "all is well" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("lives", [True, False])
def test_bad_files(upstream, daemon, lives):
    """A flipped byte, a cut file and a missing one: each is found, with the image that it is
    of; --fix forgets them, and the next pull asks the upstream for each of them, once."""
    layers = sorted(upstream.item.blobs, key=lambda b: len(b.data), reverse=True)
    if not lives:
        daemon.stop()
    flip(daemon.blob_path(layers[0].digest))
    os.truncate(daemon.blob_path(layers[1].digest), 10)
    daemon.blob_path(layers[2].digest).unlink()
    wanted = {("wrong-digest", layers[0].digest), ("wrong-size", layers[1].digest),
              ("missing-file", layers[2].digest)}
    said = check(daemon, code=4)["findings"]
    assert {(f["finding"], f["digest"]) for f in said} == wanted
    assert all(f["images"] == ["docker.io/library/app:1"] for f in said)
    quick = check(daemon, "--quick", code=4)["findings"]
    assert {f["finding"] for f in quick} == {"wrong-size", "missing-file"}
    done = daemon.command("check")
    assert done.returncode == 4 and "docker.io/library/app:1" in done.stdout
    assert "--fix forgets the record" in done.stdout

    said = check(daemon, "--fix", code=0)["findings"]
    assert {(f["finding"], f["digest"]) for f in said} == wanted
    assert all(f["repaired"] for f in said)
    assert check(daemon, code=0)["findings"] == []
    kept = {p.name for p in (daemon.cache / "quarantine").iterdir()}
    assert kept == {x.digest.replace(":", "-") for x in layers[:2]}
    if not lives:
        daemon.start()
    before = upstream.count("GET", "/blobs/")
    pull_again(daemon, upstream.item)
    daemon.wait_idle()
    pull_again(daemon, upstream.item)
    assert upstream.count("GET", "/blobs/") == before + 3


def pull_again(daemon, item):
    for b in item.blobs:
        got = daemon.get(blob("library/app", b.digest))
        assert got.status == 200 and got.body == b.data


def test_orphans(upstream, daemon):
    """Without a daemon: a file that has no record is recorded when it is right, and removed when
    not; what does not belong into blobs/, and what is left of downloads, goes away."""
    daemon.stop()
    right = image.noise(5_000, "right")
    path = daemon.blob_path(image.digest_of(right))
    path.write_bytes(right)
    wrong = daemon.blob_path(image.digest_of(b"wrong"))
    wrong.write_bytes(b"other")
    (path.parent / "README").write_text("hello")
    (daemon.cache / "partial" / "tmp-0123456789abcdef").write_bytes(b"x" * 100)
    wanted = [("foreign-file", "blobs/sha256/README"),
              ("left-over", "partial/tmp-0123456789abcdef"),
              ("unrecorded-file", image.digest_of(right)),
              ("unrecorded-file", image.digest_of(b"wrong"))]
    assert [x[:2] for x in found(daemon, code=4)] == sorted(wanted)
    assert found(daemon, "--fix", code=0) == [(*x, True) for x in sorted(wanted)]
    assert found(daemon, code=0) == []
    assert path.exists() and not wrong.exists()
    daemon.start()
    assert daemon.get(manifest("library/app", "1"), fields=ACCEPT).body == upstream.item.data


def test_incomplete_push(daemon):
    """The layer of a pushed image is lost: nothing but another push brings it back, and check
    says so until that is done."""
    layer = max(daemon.mine.blobs, key=lambda b: len(b.data))
    flip(daemon.blob_path(layer.digest))
    assert found(daemon, "--fix", code=0) == [("wrong-digest", layer.digest, True)]
    said = check(daemon, "--fix", code=4)["findings"]
    assert [(f["finding"], f["digest"], f["repaired"]) for f in said] == [
        ("incomplete-image", layer.digest, False)]
    assert said[0]["name"] == f"team/app@{daemon.mine.digest}"
    Pusher(daemon.address, "team/app").push(daemon.mine, "2")
    assert found(daemon, code=0) == []
