# SPDX-License-Identifier: ISC
"""Pushes and the rest of the world: disks that are full, daemons that end, files that are
lost, clients that never come back. What was answered with 201 is there, whatever happens;
what was not is there whole or not at all."""

import hashlib
import json
import os
import random
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from lib import image, rawhttp, tracer
from lib.access import Client
from lib.crowd import Crowd, together
from lib.disk import fill, mount
from lib.image import ACCEPT, OCI, digest_of, noise
from lib.paths import HUB
from lib.paths import blob as blob_of
from lib.paths import manifest as manifest_of
from lib.pusher import (EVERYBODY, STYLES, Pusher, Session, begin_request, call, chunked,
                        open_request, read_answer, refused, with_digest)
from lib.wait import until

DATA = noise(3_000_000, "push faults")
DIGEST = digest_of(DATA)
LARGE = noise(40_000_000, "larger than the disk")
INDEX = b'{"schemaVersion":2,"manifests":[]}'


@pytest.fixture
def daemon(cachalot):
    return cachalot({}, EVERYBODY)


@pytest.fixture
def p(daemon):
    return Pusher(daemon.address, "team/app")


def received(s):
    """How many bytes a session has; a single one counts as none."""
    last = int(s.received().split("-")[1])
    return last + 1 if last else 0


def put_index(p, tag="1"):
    return p.put_manifest(tag, INDEX, OCI["index"])


# --- full disks ---

@pytest.fixture
def cramped(cachalot, small_disk):
    return cachalot({}, EVERYBODY, cache=small_disk / "cache")


def by_post(p, body, digest):
    return p.post(f"?digest={digest}", body)


def by_put(p, body, digest):
    return p.begin().put(digest, body)


def by_patch(p, body, digest):
    s = p.begin()
    got = s.patch(body)
    return got if got.status != 202 else s.put(digest)


@pytest.mark.mounts
@pytest.mark.parametrize("coded", [False, True], ids=["whole", "chunked"])
@pytest.mark.parametrize("way", [by_post, by_put, by_patch])
def test_disk_full(cramped, small_disk, way, coded):
    """A blob that is larger than the room on the disk, three times over: 507, and nothing is
    left of it, so that smaller ones are taken meanwhile; with more room it is taken too."""
    p = Pusher(cramped.address, "team/app")
    body = [LARGE[i:i + 1_000_000] for i in range(0, len(LARGE), 1_000_000)] if coded else LARGE
    digest = digest_of(LARGE)
    small = []
    for i in range(3):
        refused(way(p, body, digest), 507, "UNKNOWN")
        assert not p.has_blob(digest)
        until("nothing is left of it", lambda: cramped.partials() == [])
        small.append(p.push_blob(noise(1_000_000, f"small {i}")))
        assert cramped.stored() == set(small)
    assert cramped.metric("uploads") == 0
    mount(small_disk, "-o", "remount,size=200m")
    assert way(p, body, digest).status == 201
    assert p.blob(digest).body == LARGE


@pytest.mark.mounts
def test_disk_full_for_some(cramped):
    """Six clients push more than there is room for, all at once: each gets 201 or 507; what
    was 201 is there, and what was not takes no room: there is some for the next one."""
    p = Pusher(cramped.address, "team/app")
    contents = [noise(6_000_000, f"six {i}") for i in range(6)]

    def push(i):
        return by_put(p, contents[i], digest_of(contents[i]))

    statuses = [got.status for got in together(6, push)]
    assert 507 in statuses and set(statuses) <= {201, 507}, statuses
    for status, content in zip(statuses, contents):
        assert p.has_blob(digest_of(content)) == (status == 201)
        assert status == 507 or p.blob(digest_of(content)).body == content
    until("nothing is left over", lambda: cramped.partials() == [])
    assert len(cramped.stored()) == statuses.count(201)
    assert p.push_blob(b"some more")


@pytest.mark.mounts
def test_disk_fills_meanwhile(cramped, small_disk):
    """Somebody else fills the disk while a blob comes: 507 for that, and for what comes
    then, manifests too; what is there is served; when there is room again all goes on."""
    p = Pusher(cramped.address, "team/app")
    held = p.push_blob(b"{}")
    assert put_index(p).status == 201
    body = noise(8_000_000, "meanwhile")
    s = p.begin()
    with rawhttp.Connection(p.address) as c:
        begin_request(c, "PATCH", s.location, len(body))
        c.send(body[:1_000_000])
        until("some is in the file", lambda: any(f.stat().st_size for f in cramped.partials()))
        filler = fill(small_disk / "filler")
        c.send(body[1_000_000:])
        refused(read_answer(c), 507, "UNKNOWN")
    until("nothing is left of it", lambda: cramped.partials() == [])
    fill(small_disk / "more")
    refused(p.put_manifest("2", INDEX + b" " * 1_000_000, OCI["index"]), 507, "UNKNOWN")
    assert p.manifest("2").status == 404
    assert p.blob(held).body == b"{}" and p.manifest("1").body == INDEX
    for path in (filler, small_disk / "more"):
        path.unlink()
    assert p.put_manifest("2", INDEX + b" " * 1_000_000, OCI["index"]).status == 201
    assert p.push_blob(body) and p.blob(digest_of(body)).body == body


@pytest.mark.mounts
def test_disk_full_session_before(cramped, small_disk):
    """A session that was there before the disk was full is still usable when there is room
    again, if it was not the one that failed."""
    p = Pusher(cramped.address, "team/app")
    s = p.begin()
    s.patch(DATA[:1_000_000])
    filler = fill(small_disk / "filler")
    assert received(s) == 1_000_000
    filler.unlink()
    assert s.put(DIGEST, DATA[1_000_000:], 1_000_000).status == 201


@pytest.mark.parametrize("folder", ["partial", "blobs/sha256"])
def test_becomes_unwritable(daemon, p, folder):
    """A folder of the cache can no longer be written: pushes get an honest error, what is
    there is served; when it can be written again pushes are taken."""
    held = p.push_blob(b"held")
    path = daemon.cache / folder
    if subprocess.run(["chattr", "+i", path], check=False).returncode != 0:
        pytest.skip("this file system has no chattr")
    try:
        for way in (by_post, lambda p, body, digest: p.post()):
            got = way(p, DATA, DIGEST)
            assert got.status in (202, 503, 507), got
        got = put_index(p)
        assert got.status == 503, got
        assert not p.has_blob(DIGEST) and p.manifest("1").status == 404
        assert p.blob(held).body == b"held"
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    assert by_post(p, DATA, DIGEST).status == 201
    assert put_index(p).status == 201


def fill_index(p):
    """Push tags until there is no room for more: (those that were answered with 201, the
    answer that was not)."""
    made = []
    for i in range(10_000):
        tags = [f"t{i}-{j:0100}" for j in range(32)]
        query = "&".join(f"tag={t}" for t in tags)
        got = p.put_manifest(f"{digest_of(INDEX)}?{query}", INDEX, OCI["index"])
        if got.status != 201:
            return made, got
        made += tags
    raise AssertionError("the index does not fill up")


def test_index_full(cachalot):
    """An index of the smallest size that fills up: 507, and what was 201 is there, and
    nothing else; the daemon lives, serves, and starts again."""
    daemon = cachalot({}, {**EVERYBODY, "cache": {"index-size": "1MiB"}})
    p = Pusher(daemon.address, "team/app")
    held = p.push_blob(DATA)
    made, got = fill_index(p)
    refused(got, 507, "UNKNOWN")
    for _ in range(2):
        assert json.loads(p.get("tags/list").body)["tags"] == sorted(made)
        assert p.manifest(made[-1]).body == INDEX and p.blob(held).body == DATA
        daemon.stop()
        daemon.start()


# --- sessions that outlive what uses them ---


def stop(daemon):
    assert daemon.stop() == 0


def kill(daemon):
    daemon.kill()


@pytest.mark.parametrize("end", [stop, kill])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_restart(daemon, p, end, algorithm):
    """Sessions survive a restart, and kill -9: each has what was acknowledged, and goes on;
    so do those that have nothing, and another repository's are still not to be had."""
    digest = digest_of(DATA, algorithm)
    some, nothing, all_of_it = (p.begin(f"?digest-algorithm={algorithm}") for _ in range(3))
    some.patch(DATA[:1_500_001])
    all_of_it.patch([DATA[:100], DATA[100:]])
    end(daemon)
    daemon.start()
    assert daemon.metric("uploads") == 3
    assert received(some) == 1_500_001 and nothing.received() == "0-0"
    assert received(all_of_it) == len(DATA)
    other = Pusher(p.address, "team/other")
    path = other.path(f"blobs/uploads/{some.id}")
    refused(other.call("GET", path), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(all_of_it.put(digest_of(b"wrong", algorithm)), 400, "DIGEST_INVALID")
    assert nothing.put(digest, DATA).status == 201
    assert some.put(digest, DATA[1_500_001:], 1_500_001).status == 201
    assert p.blob(digest).body == DATA
    assert daemon.partials() == [] and daemon.metric("uploads") == 0


def test_restart_and_out_of_order(daemon, p):
    """After kill -9 a chunk that does not follow is 416 as before, and the session knows
    where it is."""
    s = p.begin()
    s.patch(DATA[:1000])
    daemon.kill()
    daemon.start()
    assert s.patch(DATA[500:1500], 500).status == 416
    assert s.patch(DATA[1000:2000], 1000).status == 202
    daemon.kill()
    daemon.start()
    assert received(s) == 2000
    assert s.cancel().status == 204
    daemon.kill()
    daemon.start()
    refused(s.status(), 404, "BLOB_UPLOAD_UNKNOWN")
    assert daemon.partials() == []


def test_file_of_a_session_is_lost(daemon, p):
    """Somebody removes the files in partial/: their sessions are unknown, others are not."""
    s, other = p.begin(), p.begin()
    s.patch(DATA)
    daemon.stop()
    (daemon.cache / "partial" / f"upload-{s.id}").unlink()
    daemon.start()
    for got in (s.status(), s.patch(DATA), s.put(DIGEST)):
        refused(got, 404, "BLOB_UPLOAD_UNKNOWN")
    assert other.put(DIGEST, DATA).status == 201


def test_file_of_a_session_is_damaged(daemon, p):
    """A torn write in what a session has: the digest tells; 400 and no blob."""
    s = p.begin()
    s.patch(DATA[:2_000_000])
    daemon.kill()
    with open(daemon.cache / "partial" / f"upload-{s.id}", "r+b") as f:
        f.seek(1_000_000)
        f.write(b"torn")
    daemon.start()
    refused(s.put(DIGEST, DATA[2_000_000:], 2_000_000), 400, "DIGEST_INVALID")
    assert not p.has_blob(DIGEST) and daemon.stored() == set()


def test_abandoned(cachalot, tmp_path):
    """A session that its client does not come back to is removed after upload-ttl, with what
    it received, and one that got too old while no daemon ran when the next one starts; one
    that is used meanwhile is not."""
    options = {**EVERYBODY, "cache": {"upload-ttl": "2s"}}
    daemon, other = (cachalot({}, options, name=name, cache=tmp_path / name)
                     for name in ("up", "down"))
    p, q = Pusher(daemon.address, "team/app"), Pusher(other.address, "team/app")
    lost = q.begin()
    lost.patch(DATA)
    other.kill()
    used, abandoned, empty = p.begin(), p.begin(), p.begin()
    abandoned.patch(DATA)

    def only_the_used_is_left():
        assert used.status().status == 204
        return [f.name for f in daemon.partials()] == [f"upload-{used.id}"]

    until("the abandoned ones are gone", only_the_used_is_left, 120, 0.5)
    other.start()
    until("it is gone", lambda: other.partials() == [])
    for s in (abandoned, empty, lost):
        refused(s.status(), 404, "BLOB_UPLOAD_UNKNOWN")
        refused(s.put(DIGEST, DATA), 404, "BLOB_UPLOAD_UNKNOWN")
    assert daemon.metric("uploads") == 1 and other.metric("uploads") == 0
    assert used.put(DIGEST, DATA).status == 201
    assert daemon.stored() == {DIGEST} and other.stored() == set()


def begin_many(c, p, count):
    """So many sessions by one connection; their answers."""
    for _ in range(count):
        begin_request(c, "POST", p.path("blobs/uploads/"), 0)
        got = read_answer(c)
        assert got.status == 202
        yield got


@pytest.mark.slow
def test_too_many_sessions(daemon, p):
    """One client begins more sessions than there may be: he goes on, at the cost of his own
    that have no bytes, the oldest first; nobody else is refused."""
    with rawhttp.Connection(p.address) as c:
        oldest = Session(p, next(begin_many(c, p, 1)))
        used = p.begin()
        used.patch(DATA[:1000])
        last = [Session(p, got) for got in begin_many(c, p, 4200)][-1]
    until("256 of them are left", lambda: daemon.metric("uploads") <= 258)
    refused(oldest.status(), 404, "BLOB_UPLOAD_UNKNOWN")
    assert used.put(DIGEST, DATA[1000:]).status == 201
    assert last.put(DIGEST, DATA).status == 201
    assert p.begin().put(DIGEST, DATA).status == 201


def test_too_many_sessions_with_bytes(daemon, p):
    """Of one client 256 sessions with bytes may rest: one more is 503 with Retry-After until
    one of his has ended. A client at another address is let."""
    sessions = [p.begin() for _ in range(256)]
    for s in sessions:
        assert s.patch(b"x").status == 202
    until("another one is refused", lambda: p.post().status == 503)
    refused_one = p.post()
    refused(refused_one, 503, "UNKNOWN")
    assert int(refused_one["Retry-After"]) > 0
    assert Client(p.address, source="127.0.0.2").begin_push(p.repository).status == 202
    assert sessions[0].cancel().status == 204
    assert p.begin().put(DIGEST, DATA).status == 201


# --- one digest twice ---


@pytest.mark.threads
def test_same_digest_at_once(daemon):
    """Eight clients push the same blob at once, in all styles and to several repositories:
    201 for all, one file, and each repository has it."""
    pushers = [Pusher(daemon.address, f"team/app-{i % 4}") for i in range(8)]

    def push(i):
        return STYLES[i](pushers[i], DATA, DIGEST)

    assert [got.status for got in together(8, push)] == [201] * 8
    assert daemon.stored() == {DIGEST} and daemon.partials() == []
    for p in pushers:
        assert p.blob(DIGEST).body == DATA


@pytest.mark.threads
def test_same_digest_closed_at_once(daemon, p):
    """The same when all have sent everything, and close at the same moment."""
    for _ in range(5):
        sessions = [p.begin() for _ in range(8)]
        for s in sessions:
            s.patch(DATA)
        assert [got.status for got in together(8, lambda i, x=sessions: x[i].put(DIGEST))
                ] == [201] * 8
        assert daemon.stored() == {DIGEST} and daemon.partials() == []
        assert p.blob(DIGEST).body == DATA
        assert p.remove(f"blobs/{DIGEST}").status == 202


@pytest.mark.threads
def test_many_at_once(daemon):
    """Twenty-four clients push different blobs at once, in all styles: each is what it
    was."""
    contents = [noise(4_000_000, f"many {i}") for i in range(24)]

    def push(i):
        p = Pusher(daemon.address, f"team/app-{i % 5}")
        digest = digest_of(contents[i])
        assert STYLES[i % len(STYLES)](p, contents[i], digest).status == 201
        return p.blob(digest).body == contents[i]

    assert together(24, push) == [True] * 24
    assert len(daemon.stored()) == 24 and daemon.partials() == []


def test_pushed_while_it_is_pulled(hub, cachalot):
    """A blob is pushed while the same one is on its way from an upstream (one request): both
    clients get what they should, and there is one file."""
    daemon = cachalot({HUB: hub.url}, EVERYBODY)
    p = Pusher(daemon.address, "team/app")
    gate = hub.gate("/blobs/", after=1_000_000)
    hub.hold_blob("library/app", DATA)
    with rawhttp.Connection(daemon.address) as c:
        c.request(blob_of("library/app", DIGEST))
        head = c.read_head()
        gate.wait_reached()
        p.push_blob(DATA)
        assert p.blob(DIGEST).body == DATA
        gate.open()
        assert c.read_body(head).body == DATA
    daemon.wait_idle()
    until("the partial is gone", lambda: daemon.partials() == [])
    assert daemon.stored() == {DIGEST} and hub.count("GET") == 1
    assert p.blob(DIGEST).body == DATA
    assert daemon.get(blob_of("library/app", DIGEST)).body == DATA


# --- files that are lost ---


def damage(path, how):
    if how == "deleted":
        path.unlink()
    else:
        path.chmod(0o600)
        os.truncate(path, {"truncated": 1000, "empty": 0, "longer": 3_000_001}[how])


DAMAGES = pytest.mark.parametrize("how", ["deleted", "truncated", "empty", "longer"])


@DAMAGES
def test_lost_blob(daemon, p, how):
    """The file of a pushed blob is gone or cut: 404, so that clients push it again, and never
    a short 200; it cannot be mounted or named by a manifest; a push heals it."""
    q = Pusher(daemon.address, "team/other")
    p.push_blob(DATA)
    damage(daemon.blob_path(DIGEST), how)
    assert not p.has_blob(DIGEST)
    refused(p.blob(DIGEST), 404, "BLOB_UNKNOWN")
    assert p.blob(DIGEST, fields=[("Range", "bytes=10-20")]).status == 404
    assert daemon.metric("blobs_dropped_total") >= 1
    for query in (f"?mount={DIGEST}&from=team/app", f"?mount={DIGEST}"):
        got = q.post(query)
        assert got.status == 202
        assert q.call("DELETE", got["Location"]).status == 204
    p.push_blob(DATA)
    assert p.blob(DIGEST).body == DATA


@DAMAGES
def test_lost_blob_unnoticed(daemon, p, how):
    """The same when nobody has asked for it since: a manifest that names it is refused, a
    mount is not made, and a push heals it."""
    q = Pusher(daemon.address, "team/other")
    p.push_blob(DATA)
    layer = image.Blob(OCI["layer"], DATA)
    config = image.Blob(OCI["config"], b"{}")
    p.push_blob(config.data)
    manifest = json.dumps({"schemaVersion": 2, "config": config.descriptor(),
                           "layers": [layer.descriptor()]}).encode()
    damage(daemon.blob_path(DIGEST), how)
    assert q.post(f"?mount={DIGEST}&from=team/app").status == 202
    assert DIGEST in refused(p.put_manifest("1", manifest), 404, "MANIFEST_BLOB_UNKNOWN")
    p.push_blob(DATA)
    assert p.put_manifest("1", manifest).status == 201
    assert p.blob(DIGEST).body == DATA


@DAMAGES
def test_lost_manifest(daemon, p, how):
    """The same of a manifest: 404 by its tag and its digest until it is pushed again."""
    assert put_index(p).status == 201
    daemon.stop()
    damage(daemon.blob_path(digest_of(INDEX)), how)
    daemon.start()
    for reference in ("1", digest_of(INDEX)):
        for method in ("HEAD", "GET"):
            assert p.manifest(reference, method).status == 404
    assert put_index(p).status == 201
    for reference in ("1", digest_of(INDEX)):
        assert p.manifest(reference).body == INDEX


def test_lost_public_blob(hub, cachalot):
    """A layer of a public upstream that a local image has is lost: it comes from the
    upstream again (two requests in all), under the local name."""
    daemon = cachalot({HUB: hub.url}, EVERYBODY)
    p = Pusher(daemon.address, "team/app")
    item = hub.hold(image.image("lost", (100_000,)), "library/app", "1")
    for path in [blob_of("library/app", b.digest) for b in item.blobs]:
        assert daemon.get(path).status == 200
    daemon.get("/v2/docker.io/library/app/manifests/1")
    daemon.wait_idle()
    assert p.put_manifest("1", item.data).status == 201
    lost = item.layers[0]
    damage(daemon.blob_path(lost.digest), "deleted")
    hub.forget()
    got = p.blob(lost.digest)
    assert got.status == 200 and got.complete and got.body == lost.data
    assert hub.count("GET", "/blobs/") == 1


# --- kill -9 ---


class Ledger:
    """What was acknowledged, and what may be there or not."""

    def __init__(self, p):
        self.p = p
        self.blobs = {}          # digest -> bytes, each answered with 201
        self.begun = {}          # the same, asked for
        self.manifests = []      # bytes, answered with 201
        self.tags = {}           # the last ones: tag -> bytes
        self.asked = {}          # tag -> {bytes}, since that
        self.sessions = []       # (session, bytes, how many are acknowledged)

    def push_blob(self, rng):
        data = noise(rng.choice([0, 1, 1000, 70_000, 900_000]), rng.random())
        digest = digest_of(data)
        self.begun[digest] = data
        if rng.choice(STYLES)(self.p, data, digest).status == 201:
            self.blobs[digest] = data
        return digest

    def push_manifest(self, rng, name):
        layers = [image.Blob(OCI["layer"], self.blobs[d]).descriptor()
                  for d in rng.sample(sorted(self.blobs), min(3, len(self.blobs)))]
        config = image.Blob(OCI["config"], self.blobs[self.push_blob(rng)])
        data = json.dumps({"schemaVersion": 2, "config": config.descriptor(),
                           "layers": layers}).encode()
        tag = f"{name}-{rng.randrange(5)}"
        self.asked.setdefault(tag, set()).add(data)
        assert self.p.put_manifest(tag, data).status == 201
        self.tags[tag] = data
        self.asked[tag] = set()
        self.manifests.append(data)

    def leave_session(self, rng):
        data = noise(200_000, rng.random())
        s = self.p.begin()
        noted = [s, data, 0]
        self.sessions.append(noted)
        for end in (50_000, 120_000):
            if s.patch(data[noted[2]:end]).status == 202:
                noted[2] = end

    def work(self, name, seed):
        """Push until the daemon is gone."""
        rng = random.Random(seed)
        try:
            while True:
                self.push_blob(rng)
                self.push_manifest(rng, name)
                if rng.random() < 0.1:
                    self.leave_session(rng)
        except (OSError, rawhttp.Closed):
            return

    # --- what must be true afterwards ---

    def check_blobs(self):
        for digest, data in self.blobs.items():
            got = self.p.blob(digest)
            assert got.status == 200 and got.complete and got.body == data, digest
        for digest in set(self.begun) - set(self.blobs):
            got = self.p.blob(digest)
            assert got.status == 404 or (got.complete and got.body == self.begun[digest])

    def check_manifest(self, data):
        for d in json.loads(data)["layers"]:
            assert self.p.has_blob(d["digest"])

    def check_manifests(self):
        for data in self.manifests:
            assert self.p.manifest(digest_of(data)).body == data

    def check_tags(self):
        for tag in set(self.tags) | set(self.asked):
            got = self.p.manifest(tag)
            if tag in self.tags:
                assert got.status == 200, tag
                assert got.body in {self.tags[tag]} | self.asked[tag]
            if got.status == 200:
                assert got.body in {self.tags.get(tag)} | self.asked[tag]
                self.check_manifest(got.body)

    def check_sessions(self):
        """They go on from where they are, and are closed."""
        for s, data, count in self.sessions:
            got = s.status()
            if got.status == 404:
                assert count == 0
                continue
            at = received(s)
            assert at >= count
            digest = digest_of(data)
            assert s.put(digest, data[at:], at).status == 201
            self.blobs[digest] = data
        self.sessions.clear()

    def check(self):
        self.check_sessions()
        self.check_manifests()
        self.check_tags()
        self.check_blobs()


def an_hour_later(daemon):
    """What is left in partial/ was written an hour ago."""
    for path in daemon.partials():
        os.utime(path, (time.time() - 3600,) * 2)


def only_sessions(daemon):
    """Whether each file in partial/ is that of a session, which a day ends, and each session
    has one."""
    left = daemon.partials()
    return (all(path.name.startswith("upload-") for path in left) and
            daemon.metric("uploads") == len(left))


@pytest.mark.slow
def test_kill_loop(daemon, p):
    """kill -9 at random moments while three clients push, again and again: every blob and
    manifest that was answered with 201 is there, tags lead to what somebody pushed there,
    sessions have at least what was acknowledged, and nothing is half there; in the end there
    is no file and no session without the other. (CACHALOT_KILLS=200 for the long run,
    CACHALOT_SEED for another one.)"""
    kills = int(os.environ.get("CACHALOT_KILLS", "20"))
    seed = int(os.environ.get("CACHALOT_SEED", "1"))
    rng = random.Random(seed)
    count = 0
    for i in range(kills):
        ledgers = [Ledger(Pusher(p.address, f"team/app-{i}-{j}")) for j in range(3)]
        crowd = Crowd()
        for j, ledger in enumerate(ledgers):
            crowd.add(ledger.work, "t", f"{seed}-{i}-{j}")
        timer = threading.Timer(rng.uniform(0.05, 0.8), daemon.child.kill)
        timer.start()
        timer.join()
        daemon.join()
        crowd.join()
        daemon.check_store()
        daemon.start()
        for ledger in ledgers:
            ledger.check()
            count += len(ledger.blobs)
    assert count > kills
    daemon.stop()
    an_hour_later(daemon)
    daemon.start()
    until("sessions alone are left over", lambda: only_sessions(daemon))


def test_kill_at_the_201(daemon, p):
    """kill -9 in the very moment of the 201 of a blob, of a manifest, of a mount and of a
    DELETE: it is so after the restart."""
    q = Pusher(daemon.address, "team/other")

    def restart():
        daemon.kill()
        daemon.start()

    p.push_blob(DATA)
    restart()
    assert p.blob(DIGEST).body == DATA
    assert put_index(p).status == 201
    restart()
    assert p.manifest("1").body == INDEX
    assert q.post(f"?mount={DIGEST}&from=team/app").status == 201
    restart()
    assert q.blob(DIGEST).body == DATA
    assert p.remove(f"blobs/{DIGEST}").status == 202
    assert p.remove("manifests/1").status == 202
    restart()
    assert not p.has_blob(DIGEST) and q.has_blob(DIGEST)
    assert p.manifest("1").status == 404 and p.manifest(digest_of(INDEX)).status == 200


# --- what the kernel is asked ---

traced = pytest.mark.skipif(not tracer.is_there(), reason="no strace")
ORDERED = ("fsync", "fdatasync", "renameat", "renameat2", "sendmsg")


def place(lines, call, *words):
    """Where the first such call is."""
    for i, (name, rest) in enumerate(lines):
        if name.startswith(call) and all(word in rest for word in words):
            return i
    raise AssertionError(f"no {call} with {words} in {lines}")


def check_order(lines, name):
    """data fsync < rename < fsync of the folder < commit < 201 (row 9 of the fault list)."""
    renamed = place(lines, "renameat", name)
    source = re.search(r'"([^"]*)"', lines[renamed][1])[1]
    synced = place(lines, "fsync", f"partial/{source}>")
    folder = renamed + place(lines[renamed:], "fsync", "blobs/sha256>")
    commit = folder + place(lines[folder:], "fdatasync", "db/data.mdb>")
    answer = place(lines, "sendmsg", "HTTP/1.1 201")
    assert synced < renamed < folder < commit < answer, lines


@traced
@pytest.mark.parametrize("what", ["blob", "manifest"])
def test_order(daemon, p, what):
    """What is acknowledged was written, named, and recorded before, each on the disk."""
    s = p.begin()
    with tracer.Tracer(daemon, *ORDERED) as t:
        if what == "blob":
            assert s.put(DIGEST, DATA).status == 201
        else:
            assert put_index(p).status == 201
    check_order(t.lines(), (DIGEST if what == "blob" else digest_of(INDEX)).split(":")[1])


@traced
@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
@pytest.mark.parametrize("what", ["blob", "manifest"])
def test_sync_fails(daemon, p, what, call):
    """The disk cannot be relied on (row 14): no 201, and none after that either, even when
    it works again, until the next start; what is held is served."""
    held = p.push_blob(b"held")
    s = p.begin()
    s.patch(DATA)
    with tracer.Tracer(daemon, call, inject="error=EIO"):
        got = s.put(DIGEST) if what == "blob" else put_index(p)
        refused(got, 503, "UNKNOWN")
    assert not p.has_blob(DIGEST) and p.manifest("1").status == 404
    for got in (p.post(), put_index(p, "2"), by_post(p, b"later", digest_of(b"later"))):
        refused(got, 503, "UNKNOWN")
    assert p.blob(held).body == b"held"
    assert any(line["level"] == "error" for line in daemon.log_lines() if "level" in line)
    stop(daemon)
    daemon.start()
    assert p.push_blob(DATA) and put_index(p).status == 201
    assert p.blob(DIGEST).body == DATA and p.manifest("1").body == INDEX


@traced
def test_manifest_is_removed_meanwhile(daemon, p):
    """Its file is written before it is recorded. Another push of the same bytes that is
    refused in between takes the file away: what is answered with 201 is there all the same."""
    path = daemon.blob_path(digest_of(INDEX))
    with tracer.Tracer(daemon, "fsync", inject="delay_exit=1500000"):
        crowd = Crowd().add(put_index, p)
        until("the file is written", path.exists)
        path.unlink()
        assert [got.status for got in crowd.join()] == [201]
    assert p.manifest("1").body == INDEX
    assert path.read_bytes() == INDEX


@traced
def test_pulled_manifest_is_removed_meanwhile(hub, cachalot):
    """The same of one that an upstream sends, whose bytes somebody pushes in vain."""
    item = hub.hold(image.image("removed", (100,)), "library/app", "1")
    daemon = cachalot({HUB: hub.url}, EVERYBODY)
    path = daemon.blob_path(item.digest)
    with tracer.Tracer(daemon, "fsync", inject="delay_exit=1500000"):
        crowd = Crowd().add(daemon.get, manifest_of("library/app", "1"), "GET", ACCEPT)
        until("the file is written", path.exists)
        path.unlink()
        daemon.wait_metric("manifests_stored_total", 1)
        crowd.join()
    assert path.read_bytes() == item.data


# --- drain ---


def refuses(daemon):
    try:
        return daemon.get("/v2/").status == 503
    except (OSError, rawhttp.Closed):
        return True


@pytest.mark.parametrize("body", ["PATCH", "PUT", "POST", "manifest"])
def test_drain(daemon, p, body):
    """SIGTERM while a client pushes: it pushes to its end and gets its answer, nobody else
    is taken, and the daemon ends with 0; what was pushed is there afterwards."""
    s = p.begin()
    method, path, data = {
        "PATCH": ("PATCH", s.location, DATA), "PUT": ("PUT", with_digest(s.location, DIGEST), DATA),
        "POST": ("POST", p.path(f"blobs/uploads/?digest={DIGEST}"), DATA),
        "manifest": ("PUT", p.path("manifests/1"), INDEX + b" " * 100_000)}[body]
    with rawhttp.Connection(p.address) as c:
        open_request(c, method, path, len(data), [("Content-Type", OCI["index"])])
        c.send(data[:50_000])
        daemon.child.terminate()
        until("new clients are refused", lambda: refuses(daemon))
        c.send(data[50_000:])
        got = read_answer(c)
        assert got.status == (202 if body == "PATCH" else 201)
        assert got["Connection"] == "close" and c.at_end()
    assert daemon.join() == 0
    daemon.start()
    if body == "manifest":
        assert p.manifest("1").body == data
    elif body == "PATCH":
        assert s.put(DIGEST).status == 201
    if body != "manifest":
        assert p.blob(DIGEST).body == DATA


def test_drain_deadline(cachalot):
    """SIGTERM while a client sends nothing more: after drain-timeout it is cut, the daemon
    ends with 0, and the session goes on in the next one."""
    daemon = cachalot({}, {**EVERYBODY, "cache": {"drain-timeout": "500ms"}})
    p = Pusher(daemon.address, "team/app")
    s = p.begin()
    with rawhttp.Connection(p.address) as c:
        open_request(c, "PATCH", s.location, len(DATA))
        c.send(DATA[:1_000_000])
        until("some is in the file", lambda: daemon.partials()[0].stat().st_size > 0)
        assert daemon.stop(timeout=10) == 0
    daemon.start()
    at = received(s)
    assert 0 < at <= 1_000_000
    assert s.put(DIGEST, DATA[at:], at).status == 201


def test_drain_with_sessions(daemon, p):
    """Sessions that nobody uses do not hold up the end."""
    for _ in range(20):
        p.begin().patch(DATA[:1000])
    assert daemon.stop(timeout=5) == 0


# --- memory ---


def memory_kib(daemon, name):
    text = Path(f"/proc/{daemon.child.pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", text)[1])


def is_sanitized(daemon):
    return "san.so" in Path(f"/proc/{daemon.child.pid}/maps").read_text()


def push_noise(p, size, seed):
    """A blob of many MiB, made as it is sent, by a chunked PATCH as Docker's."""
    found = hashlib.sha256()
    piece = noise(1 << 20, seed)
    s = p.begin()
    with rawhttp.Connection(p.address, timeout=120) as c:
        begin_request(c, "PATCH", s.location, None)
        for i in range(size >> 20):
            data = b"%08d" % i + piece[8:]
            found.update(data)
            c.send(b"%x\r\n%b\r\n" % (len(data), data))
        c.send(b"0\r\n\r\n")
        assert s.take(read_answer(c)).status == 202
    digest = f"sha256:{found.hexdigest()}"
    assert s.put(digest).status == 201
    return digest


@pytest.mark.slow
def test_memory_is_flat(daemon, p):
    """Pushes of large blobs, one and then five at once: the daemon's memory does not grow
    with them. (CACHALOT_PUSH_MIB=1024 for blobs of 1 GiB.)"""
    if is_sanitized(daemon):
        pytest.skip("sanitizers keep what was freed")
    size = int(os.environ.get("CACHALOT_PUSH_MIB", "128")) << 20
    push_noise(p, 16 << 20, "warm")
    before = memory_kib(daemon, "VmHWM")
    digest = push_noise(p, size, "one")
    assert p.blob(digest, "HEAD").length == size
    assert memory_kib(daemon, "VmHWM") - before < 8 << 10
    together(5, lambda i: push_noise(p, size >> 2, f"five {i}"))
    assert memory_kib(daemon, "VmHWM") - before < 32 << 10


@pytest.mark.parametrize("coded", [False, True], ids=["whole", "chunked"])
def test_client_leaves_at_the_end(daemon, p, coded):
    """A client that has sent all of a blob and goes before it has its answer: the blob is
    there, or its session is, which goes on."""
    s = p.begin()
    with rawhttp.Connection(p.address) as c:
        begin_request(c, "PUT", with_digest(s.location, DIGEST), None if coded else len(DATA))
        c.send(chunked(DATA) if coded else DATA)

    def is_there():
        if p.has_blob(DIGEST):
            return True
        got = s.status()
        if got.status != 204:
            return False
        at = received(s)
        return s.put(DIGEST, DATA[at:], at).status == 201

    until("the blob is there", is_there)
    assert p.blob(DIGEST).body == DATA
    assert daemon.partials() == []


def test_clients_that_leave(daemon, p):
    """A thousand clients that go away in the middle of a push: no descriptor and no session
    is kept for them."""
    def descriptors():
        return len(os.listdir(f"/proc/{daemon.child.pid}/fd"))

    p.push_blob(DATA)
    before = descriptors()
    for _ in range(1000):
        with rawhttp.Connection(p.address) as c:
            begin_request(c, "POST", p.path(f"blobs/uploads/?digest={DIGEST}"), len(DATA))
            c.send(DATA[:1000])
    until("no session is left", lambda: daemon.metric("uploads") == 0)
    until("no partial is left", lambda: daemon.partials() == [])
    until("descriptors are given back", lambda: descriptors() <= before + 8)
    assert call(p.address, "GET", p.path(f"blobs/{DIGEST}")).body == DATA
