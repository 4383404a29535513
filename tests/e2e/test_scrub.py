# SPDX-License-Identifier: ISC
"""Disks lose bits that nobody looks at: the scrubber finds them, and has the blob again from where
it came; where there is nothing to be had, it says what is lost."""

import json
import os

import pytest

from lib import image
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.pusher import EVERYBODY, Pusher
from lib.wait import until

SCRUB = {"cache": {"scrub": "1s", "scrub-rate": "1GiB"}}
NEVER = {"cache": {"scrub": "0"}}


def flip(path, offset=100):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 1]))


def pull(daemon, item, repository="library/app", tag="1"):
    got = daemon.get(manifest(repository, tag), fields=ACCEPT)
    assert got.status == 200 and got.body == item.data
    for b in item.blobs:
        got = daemon.get(blob(repository, b.digest))
        assert got.status == 200 and got.complete and got.body == b.data
    daemon.wait_idle()


def layer_of(item):
    return max(item.blobs, key=lambda b: len(b.data))


def settings(daemon, options):
    """Other settings, by a reload."""
    for section, said in options.items():
        daemon.sections.setdefault(section, {}).update(said)
    daemon.write_config()
    daemon.hup()


def said(daemon, words):
    return [x["message"] for x in daemon.log_lines() if words in x.get("message", "")]


def check(daemon, *options):
    done = daemon.command("check", *options, "--format", "json")
    return done.returncode, json.loads(done.stdout)["findings"]


def test_counts_what_it_reads(registry, cachalot):
    """What opening a file costs is reckoned with in the pace, not counted as bytes read."""
    item = registry.push(image.image("counted", (50_000, 3_000)), "library/app", "1")
    daemon = cachalot({HUB: {"url": registry.url}}, {**NEVER, **EVERYBODY})
    pull(daemon, item)
    settings(daemon, SCRUB)
    daemon.wait_metric("scrub_blobs_total", 4)
    assert daemon.metric("scrub_bytes_total") <= (
        (daemon.metric("scrub_blobs_total") + 1) * len(layer_of(item).data))


def test_healed_and_lost(registry, cachalot):
    """A byte of a layer rots. The scrubber finds it, and a real registry is asked for it once;
    nobody notices. It rots again when the registry is gone: then it is lost, and the log, check
    and status say so and of which image; no client ever gets the bad bytes. When the registry
    is back, so is the layer."""
    item = registry.push(image.image("scrub", (50_000, 3_000)), "library/app", "1")
    layer = layer_of(item)
    daemon = cachalot({HUB: {"url": registry.url, "retries": 0}},
                      {**NEVER, **EVERYBODY})
    pull(daemon, item)
    registry.forget()
    path = daemon.blob_path(layer.digest)
    flip(path)
    settings(daemon, SCRUB)
    daemon.wait_metric("scrub_healed_total", 1)
    assert daemon.metric("scrub_bad_total") == 1 and daemon.metric("lost_blobs") == 0
    assert registry.count("GET", "/blobs/") == 1
    assert path.read_bytes() == layer.data
    assert [p.name for p in (daemon.cache / "quarantine").iterdir()] == [
        layer.digest.replace(":", "-")]
    pull(daemon, item)
    assert registry.count("GET", "/blobs/") == 1
    assert check(daemon) == (0, [])

    registry.stop()
    flip(path)
    daemon.wait_metric("lost_blobs", 1)
    assert not path.exists()
    lost, = said(daemon, "is lost")
    assert layer.digest in lost and "docker.io/library/app:1" in lost
    code, (finding,) = check(daemon)
    assert code == 4 and finding["finding"] == "lost" and finding["digest"] == layer.digest
    assert finding["images"] == ["docker.io/library/app:1"]
    assert daemon.status()["held"]["lost"] == 1
    assert "lost" in daemon.command("status").stdout
    assert daemon.get(blob("library/app", layer.digest)).status in (502, 503, 504)

    registry.start()
    until("the registry is asked again", lambda: daemon.get(
        blob("library/app", layer.digest)).body == layer.data)
    daemon.wait_idle()
    assert check(daemon) == (0, [])
    assert daemon.status()["held"]["lost"] == 0


@pytest.fixture
def upstream(hub):
    hub.item = hub.hold(image.image("scrub-hub", (40_000, 6_000)), "library/app", "1")
    return hub


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest"])
def test_other_damage(upstream, cachalot, damage):
    """A file that was cut, one that is gone, and a manifest: each is had again by one request."""
    daemon = cachalot({HUB: {"url": upstream.url, "retries": 0}}, NEVER)
    pull(daemon, upstream.item)
    victim = upstream.item if damage == "manifest" else layer_of(upstream.item)
    path = daemon.blob_path(victim.digest)
    if damage == "cut":
        os.truncate(path, 1000)
    elif damage == "gone":
        path.unlink()
    else:
        flip(path)
    upstream.forget()
    settings(daemon, SCRUB)
    daemon.wait_metric("scrub_healed_total", 1)
    until("it is there again", lambda: path.exists() and path.read_bytes() == victim.data)
    where = "/manifests/" if damage == "manifest" else "/blobs/"
    assert upstream.count("GET", where) == 1 and upstream.count("GET") == 1
    pull(daemon, upstream.item)
    assert check(daemon) == (0, [])


def test_pushed_layer(cachalot, upstream):
    """The layer of a pushed image is nowhere else: it is lost, its image is named, and a push of
    it heals. The registry is not asked. The events, which are everybody's, name no digest."""
    daemon = cachalot({HUB: {"url": upstream.url, "retries": 0}}, {**NEVER, **EVERYBODY})
    mine = image.image("scrub-mine", (9_000,))
    Pusher(daemon.address, "team/app").push(mine, "2")
    layer = layer_of(mine)
    flip(daemon.blob_path(layer.digest))
    settings(daemon, SCRUB)
    daemon.wait_metric("lost_blobs", 1)
    lost, = said(daemon, "is lost")
    assert "team/app:2" in lost and "no upstream is known to have it" in lost
    bad, = said(daemon, "has gone bad")
    events = daemon.get("/-/api/events").body.decode()
    assert layer.digest in bad and "warn" in events and layer.digest not in events
    assert daemon.get(f"/v2/team/app/blobs/{layer.digest}").status == 404
    code, findings = check(daemon)
    assert code == 4 and {f["finding"] for f in findings} == {"lost", "incomplete-image"}
    assert upstream.count() == 0
    Pusher(daemon.address, "team/app").push(mine, "2")
    assert check(daemon) == (0, [])


def test_goes_on_after_a_restart(upstream, cachalot):
    """Where a round is survives a restart, and when the last one ended."""
    daemon = cachalot({HUB: {"url": upstream.url}}, SCRUB)
    pull(daemon, upstream.item)
    daemon.wait_metric("scrub_last_timestamp_seconds", 1)
    ended = daemon.metric("scrub_last_timestamp_seconds")
    assert ended > 0
    daemon.sections["cache"]["scrub"] = "365d"
    daemon.write_config()
    daemon.stop()
    daemon.start()
    until("it knows", lambda: daemon.metric("scrub_last_timestamp_seconds") >= ended)
    assert daemon.metric("scrub_bad_total") == 0


def test_public_marks(upstream, cachalot):
    """A cache of an earlier release has no marks of what is public: the scrubber makes them."""
    daemon = cachalot({HUB: {"url": upstream.url}}, SCRUB)
    pull(daemon, upstream.item)
    path = daemon.blob_path(layer_of(upstream.item).digest)
    until("it is marked", lambda: path.stat().st_mode & 0o1777 == 0o1600)
    path.chmod(0o600)
    until("it is marked again", lambda: path.stat().st_mode & 0o1777 == 0o1600)
