# SPDX-License-Identifier: ISC
"""The cache stays within its size: what was used least goes, by image, and what is kept is
whole."""

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from lib import image
from lib.crowd import Crowd
from lib.image import ACCEPT, digest_of
from lib.paths import HUB, blob, manifest
from lib.pusher import EVERYBODY, Pusher
from lib.wait import until

MIB = 1 << 20


def taken(directory):
    """What du says that the directory takes; a file that is renamed meanwhile counts once."""
    blocks = {}
    for folder, _, names in os.walk(directory):
        for name in [".", *names]:
            try:
                found = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            blocks[found.st_ino] = found.st_blocks
    return sum(blocks.values()) * 512


class Watch:
    """The most that the directory ever took."""

    def __init__(self, directory):
        self.directory, self.most, self.over = directory, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over.wait(0.002):
            self.most = max(self.most, taken(self.directory))

    def close(self):
        self.over.set()
        self.thread.join()


def pull(daemon, item, tag, repository="library/app"):
    """As a client does: the manifest, then what it names."""
    got = daemon.get(manifest(repository, tag), fields=ACCEPT)
    assert got.status == 200 and got.body == item.data, got
    for each in item.blobs:
        got = daemon.get(blob(repository, each.digest))
        assert got.status == 200 and got.body == each.data, got


def next_second():
    """Uses are known to the second."""
    now = int(time.time())
    until("the second is over", lambda: int(time.time()) > now)


def held(daemon, item):
    """Which of the image's files are there: its manifest, then its blobs."""
    return [daemon.blob_path(x.digest).exists() for x in [item, *item.blobs]]


def evictions(daemon, level):
    """What the log says of them."""
    return [x["message"] for x in daemon.log_lines()
            if x.get("level") == level and x.get("message", "").startswith("evicted ")]


@pytest.fixture
def bounded(hub, cachalot):
    """A daemon with a cache of so many bytes."""
    def make(size, **more):
        return cachalot({HUB: {"url": hub.url, "tag-ttl": "1h"}},
                        {"cache": {"size": f"{size}B", "min-free": "0", **more}})
    return make


def test_least_used_image_goes(hub, bounded, closing):
    """Five images of 3 MiB in a cache of 10 MiB: the first ones go, whole, each with its
    manifest, and the log says so; the directory never takes more than its size; the upstream is
    asked again for what went and for nothing else."""
    daemon = bounded(10 * MIB)
    watch = closing(Watch(daemon.cache))
    items = [hub.hold(image.image(f"bound-{n}", (2 * MIB, MIB)), "library/app", str(n))
             for n in range(5)]
    for n, item in enumerate(items):
        pull(daemon, item, n)
        daemon.wait_idle()
        next_second()
    until("what is over the low mark has gone",
          lambda: taken(daemon.cache) <= 10 * MIB and
          not any(any(held(daemon, item)) for item in items[:2]))
    assert all(held(daemon, items[4])) and all(held(daemon, items[3]))
    assert watch.most <= 10 * MIB, watch.most
    assert daemon.metric("cache_limit_bytes") == 10 * MIB
    assert daemon.metric("cache_bytes") <= 10 * MIB
    assert daemon.metric("evicted_images_total") >= 2
    said = evictions(daemon, "info")
    assert said and all("for room" in x and x.endswith(f": {HUB}/library/app") for x in said), said
    hub.forget()
    pull(daemon, items[4], 4)
    assert hub.count() == 0
    pull(daemon, items[0], 0)
    assert hub.count("GET") == 1 + len(items[0].blobs)


@pytest.mark.parametrize("fault", ["chunked", "no_length"])
def test_room_is_made_for_a_blob_of_unknown_size(hub, bounded, closing, fault):
    """Nine images of 2 MiB fill a cache of 20 MiB; a blob whose size neither a manifest nor the
    upstream says is fetched all the same, with one request, and images go for it."""
    daemon = bounded(20 * MIB)
    watch = closing(Watch(daemon.cache))
    for n in range(9):
        pull(daemon, hub.hold(image.image(f"unknown-{n}", (2 * MIB,)), "library/app", str(n)), n)
    daemon.wait_idle()
    big = image.noise(8 * MIB, "of unknown size")
    digest = hub.hold_blob("library/app", big)
    hub.fault("/blobs/" + digest, **{fault: True})
    hub.forget()
    got = daemon.get(blob("library/app", digest))
    assert got.status == 200 and got.body == big, got
    assert hub.count("GET") == 1
    until("images have gone", lambda: daemon.metric("evicted_images_total") > 0)
    until("it is stored", daemon.blob_path(digest).exists)
    assert watch.most <= 20 * MIB, watch.most


def test_indexes_that_were_set_aside_go_first(hub, bounded):
    """A damaged index that is kept takes room as all else does, and goes before any image."""
    daemon = bounded(20 * MIB)
    assert daemon.stop() == 0
    aside = daemon.cache / "db.damaged-20260101T000000Z-000"
    aside.mkdir(mode=0o700)
    (aside / "data.mdb").write_bytes(image.noise(10 * MIB, "aside"))
    daemon.start()
    items = [hub.hold(image.image(f"aside-{n}", (2 * MIB,)), "library/app", str(n))
             for n in range(6)]
    pull(daemon, items[0], 0)
    until("it is counted", lambda: daemon.metric("cache_bytes") > 12 * MIB)
    assert aside.exists()
    for n, item in enumerate(items[1:], 1):
        pull(daemon, item, n)
    daemon.wait_idle()
    assert not aside.exists()
    assert all(all(held(daemon, item)) for item in items)
    assert daemon.metric("evicted_images_total") == 0


BIG = image.noise(24 * MIB, "larger than the cache")


@pytest.fixture
def too_big(hub):
    """The path of a blob that is larger than the cache."""
    return blob("library/app", hub.hold_blob("library/app", BIG))


def test_larger_than_the_cache(hub, bounded, too_big, closing):
    """A blob that could never be stored is passed on to all who ask at once, from one
    download; nothing of it is on the disk, and a smaller one is stored as ever."""
    daemon = bounded(8 * MIB)
    watch = closing(Watch(daemon.cache))
    gate = hub.gate("/blobs/", after=MIB)
    crowd = Crowd()
    for _ in range(5):
        crowd.add(daemon.get, too_big)
    daemon.wait_metric("readers", 5)
    gate.open()
    for got in crowd.join():
        assert got.status == 200 and got.body == BIG
    daemon.wait_idle()
    assert hub.count("GET") == 1
    assert daemon.metric("streamed_unstored_total") == 1
    assert watch.most <= 8 * MIB
    assert not daemon.stored() and not daemon.partials()
    small = hub.hold_blob("library/app", BIG[:MIB])
    assert daemon.get(blob("library/app", small)).body == BIG[:MIB]
    daemon.wait_metric("blobs_stored_total", 1)


def test_passed_on_in_parts(hub, bounded, too_big):
    """Ranges of it, from anywhere, and its size; one request each at most."""
    daemon = bounded(8 * MIB)
    for first, last in ((0, 99), (MIB, 3 * MIB), (len(BIG) - 10, len(BIG) - 1)):
        got = daemon.get(too_big, fields=[("Range", f"bytes={first}-{last}")])
        assert got.status == 206 and got.body == BIG[first:last + 1]
    daemon.wait_idle()
    assert hub.count() <= 3


class Window(Watch):
    """The most memory that blobs which are passed on ever took."""

    def run(self):
        while not self.over.wait(0.002):
            found = dict(map(passing, Path(self.directory).iterdir()))
            self.most = max(self.most, sum(found.values()))


def passing(descriptor):
    """A file and what it takes: it has several descriptors."""
    try:
        is_one = "cachalot-passing" in os.readlink(descriptor)
        found = os.stat(descriptor)
    except FileNotFoundError:
        return None, 0
    return (found.st_ino, found.st_blocks * 512) if is_one else (None, 0)


def test_passed_on_from_afar(bounded, too_big, closing):
    """Who wants no more than its end costs no more memory than who wants all of it."""
    daemon = bounded(8 * MIB)
    watch = closing(Window(f"/proc/{daemon.child.pid}/fd"))
    got = daemon.get(too_big, fields=[("Range", f"bytes={len(BIG) - 100}-")])
    assert got.status == 206 and got.body == BIG[-100:]
    daemon.wait_idle()
    assert watch.most < 6 * MIB, watch.most


def test_passed_on_at_two_paces(hub, bounded, too_big):
    """One reader stops in the middle: it keeps the other waiting no longer than it stays,
    and who comes later has a download of his own."""
    daemon = bounded(8 * MIB)
    with daemon.connect() as slow:
        slow.request(too_big)
        assert slow.read_head().status == 200
        assert slow.read_some(2 * MIB) == BIG[:2 * MIB]
        daemon.wait_metric("upstream_bytes_total", 8 * MIB)
        assert daemon.get(too_big).body == BIG
        assert hub.count("GET") == 2
        assert slow.read_some(len(BIG) - 2 * MIB) == BIG[2 * MIB:]
    daemon.wait_idle()


def test_passed_on_beside_a_drip(hub, bounded, too_big):
    """Of two who share one download, one takes a byte now and then: he is cut after a while, and
    the other has all of it, by one request."""
    daemon = bounded(8 * MIB)
    gate = hub.gate("/blobs/", after=MIB)
    crowd = Crowd()
    with socket.socket() as drip:
        drip.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        drip.connect(daemon.address)
        drip.sendall(f"GET {too_big} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        daemon.wait_metric("readers", 1)
        crowd.add(daemon.get, too_big)
        daemon.wait_metric("readers", 2)
        gate.open()
        until("the other has it", lambda: drip.recv(1) and not crowd.is_busy(), 40)
        got, = crowd.join()
    assert sorted(line["outcome"] for line in daemon.wait_access(2)) == \
        ["client-stalled", "collapsed"]
    assert got.status == 200 and got.body == BIG
    assert hub.count("GET") == 1


def test_passed_on_and_left(hub, bounded, too_big):
    """Nobody is left who reads it: the download ends. The next one is a second request."""
    daemon = bounded(8 * MIB)
    gate = hub.gate("/blobs/", after=6 * MIB)
    with daemon.connect() as client:
        client.request(too_big)
        assert client.read_head().status == 200
        client.read_some(MIB)
    gate.open()
    daemon.wait_idle()
    assert daemon.get(too_big).body == BIG
    assert hub.count() == 2


def test_passed_on_and_wrong(hub, bounded, too_big):
    """No client has a complete body with a wrong digest. One request each."""
    daemon = bounded(8 * MIB)
    hub.fault("/blobs/", body=BIG[:-1] + b"x", times=1)
    got = daemon.get(too_big)
    assert got.status == 200 and not got.complete and len(got.body) <= len(BIG) - 65536
    daemon.wait_idle()
    assert daemon.get(too_big).body == BIG
    assert hub.count() == 2


def test_passed_on_over_a_broken_line(hub, bounded, too_big):
    """The line breaks in the middle: the download goes on from there, with a second
    request."""
    daemon = bounded(8 * MIB)
    hub.fault("/blobs/", truncate_after=10 * MIB, times=1)
    assert daemon.get(too_big).body == BIG
    daemon.wait_idle()
    assert hub.count() == 2


# --- what nothing leads to ---

def gc(daemon, *arguments):
    done = daemon.command("gc", "--format", "json", *arguments)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def test_gc(hub, cachalot):
    """A pushed image is deleted through the API: what it shares with another stays, the rest
    waits as what was pushed lately does, and goes when it is told to; --dry-run says so and
    removes nothing."""
    daemon = cachalot({HUB: hub.url}, EVERYBODY)
    items = [image.image("gc-shared", (MIB, 100_000 + n)) for n in range(2)]
    for n, item in enumerate(items):
        image.push(daemon.address, item, f"team/app{n}", "1")
    gone, stays = items
    assert gone.blobs[1].digest == stays.blobs[1].digest
    alone = {gone.digest} | {b.digest for b in gone.blobs} - {b.digest for b in stays.blobs}
    assert daemon.get(f"/v2/team/app0/manifests/{gone.digest}", "DELETE").status == 202
    until("the manifest is gone", lambda: not daemon.holds(gone.digest))
    said = gc(daemon, "--dry-run")
    assert {x["digest"] for x in said["contents"]} == alone - {gone.digest}
    assert all(x["why"] == "waits" and not x["goes"] for x in said["contents"]), said
    waiting = {x["digest"]: x["bytes"] for x in said["contents"]}
    table = daemon.command("gc", "--dry-run").stdout
    assert "stays for push-grace, as a push may count on it" in table, table
    assert gc(daemon)["bytes"] == 0
    said = gc(daemon, "--dry-run", "--now")
    assert {x["digest"]: x["bytes"] for x in said["contents"]} == waiting
    assert all(x["why"] == "abandoned" and x["goes"] for x in said["contents"]), said
    assert daemon.stored() & alone == alone - {gone.digest}
    assert gc(daemon, "--now")["bytes"] == said["bytes"] > 0
    until("the rest is gone", lambda: not daemon.stored() & alone)
    assert daemon.stored() == {stays.digest} | {b.digest for b in stays.blobs}
    got = daemon.get("/v2/team/app1/manifests/1", fields=ACCEPT)
    assert got.status == 200 and got.body == stays.data
    for each in stays.blobs:
        assert daemon.get(f"/v2/team/app1/blobs/{each.digest}").body == each.data


def test_gc_without_the_daemon(hub, cachalot):
    """The same when it does not run; and what rm lets go of."""
    daemon = cachalot({HUB: hub.url}, EVERYBODY)
    item = hub.hold(image.image("gc-pulled", (100_000,)), "library/app", "1")
    pull(daemon, item, "1")
    daemon.wait_idle()
    assert daemon.command("why", item.digest).stdout.count("goes when room is wanted") == 1
    daemon.stop()
    assert daemon.command("rm", f"{HUB}/library/app:1").returncode == 0
    assert "goes soon" in daemon.command("why", item.digest).stdout
    said = gc(daemon)
    assert [x["why"] for x in said["contents"]] == ["released"]
    assert said["contents"][0]["blobs"] == 1 + len(item.blobs)
    assert not daemon.stored()


def test_push_is_not_garbage(hub, cachalot):
    """A blob that was pushed waits for its manifest, whatever is collected meanwhile; after
    push-grace it goes by itself."""
    daemon = cachalot({HUB: hub.url}, {**EVERYBODY, "cache": {"push-grace": "2s"}})
    item = image.image("gc-push", (100_000,))
    image.push(daemon.address, item, "team/app", "1")
    other = image.layer(50_000, "gc-alone")[0]
    Pusher(daemon.address, "team/app").push_blob(other.data)
    assert gc(daemon)["bytes"] == 0 and daemon.holds(other.digest)
    until("it has waited long enough", lambda: not daemon.holds(other.digest))
    assert evictions(daemon, "info") == [
        "evicted 0 images, and 1 other blob, as garbage, 53248 bytes on the disk"]
    assert daemon.stored() == {item.digest} | {b.digest for b in item.blobs}


def test_pinned_and_pushed_stay(hub, cachalot):
    """What is pinned, and what was pushed, is not evicted, though it is used least; when all
    is so, what does not fit is passed on, and a push is refused by name."""
    daemon = cachalot({HUB: {"url": hub.url, "tag-ttl": "1h"}},
                      {**EVERYBODY, "cache": {"size": "10MiB", "min-free": "0"}})
    pushed = image.image("stays-pushed", (3 * MIB,))
    image.push(daemon.address, pushed, "team/app", "1")
    pinned = hub.hold(image.image("stays-pinned", (3 * MIB,)), "library/app", "pinned")
    pull(daemon, pinned, "pinned")
    daemon.wait_idle()
    assert daemon.command("pin", f"{HUB}/library/app:pinned").returncode == 0
    for n in range(3):
        next_second()
        item = hub.hold(image.image(f"stays-{n}", (3 * MIB - 100_000 * n,)), "library/app", str(n))
        pull(daemon, item, n)
        daemon.wait_idle()
        assert all(held(daemon, pushed)) and all(held(daemon, pinned)), n
    assert daemon.command("pin", f"{HUB}/library/app:2").returncode == 0
    big = hub.hold(image.image("stays-big", (4 * MIB,)), "library/app", "big")
    pull(daemon, big, "big")
    daemon.wait_metric("streamed_unstored_total", 1)
    assert not daemon.holds(big.blobs[1].digest)
    with pytest.raises(AssertionError, match="507|503"):
        image.push(daemon.address, image.image("stays-more", (4 * MIB,)), "team/app", "2")
    assert all(held(daemon, pushed)) and all(held(daemon, pinned)) and all(held(daemon, item))


def test_pushed_images_go_where_they_may(hub, cachalot):
    """With evict-local a build farm pushes one image after the other: each finds room, by the end
    of the images that were used least, whole, and of no more of them. What was mounted from one
    that goes waits for its own manifest."""
    daemon = cachalot({HUB: hub.url}, {**EVERYBODY, "cache": {
        "size": "20MiB", "min-free": "0", "evict-to": "95%", "evict-local": "yes"}})
    base = image.layer(100_000, "farm-base")[0]
    pushed = []
    for n in range(9):
        item = image.image(f"farm-{n}", (3 * MIB,))
        image.push(daemon.address, item, "team/app", str(n))
        pushed.append(item)
        if n == 0:
            layer = item.blobs[1]
            got = Pusher(daemon.address, "team/other").post(
                f"?mount={layer.digest}&from=team/app")
            assert got.status == 201, got
            Pusher(daemon.address, "team/app").push_blob(base.data)
        next_second()
    whole = [all(held(daemon, item)) for item in pushed]
    assert whole == [False] * 4 + [True] * 5, whole
    assert not daemon.holds(pushed[0].digest) and daemon.holds(pushed[0].blobs[1].digest)
    assert not any(any(held(daemon, item)) for item in pushed[1:4])
    assert daemon.holds(base.digest) and daemon.metric("evicted_images_total") == 4
    said = evictions(daemon, "warn")
    assert said and all(" of them pushed here, " in x and "team/app" in x for x in said), said
    assert not evictions(daemon, "info")


def test_pinned_stays_when_its_tag_has_moved(hub, bounded):
    """A HEAD of a pinned tag says that it is another image now: the one that is held stays, for
    nobody has the new one."""
    daemon = bounded(10 * MIB)
    old = hub.hold(image.image("moved-old", (3 * MIB,)), "library/app", "latest")
    pull(daemon, old, "latest")
    assert daemon.command("pin", f"{HUB}/library/app:latest").returncode == 0
    daemon.sections[f"upstream {HUB}"]["tag-ttl"] = "0s"
    daemon.write_config()
    daemon.hup()
    new = hub.hold(image.image("moved-new", (3 * MIB,)), "library/app", "latest")
    got = daemon.head(manifest("library/app", "latest"), fields=ACCEPT)
    assert got.status == 200
    daemon.wait_idle()
    for n in range(4):
        next_second()
        item = hub.hold(image.image(f"moved-{n}", (3 * MIB,)), "library/app", str(n))
        pull(daemon, item, n)
        daemon.wait_idle()
    assert all(held(daemon, old)) and not any(held(daemon, new))


def test_nothing_goes_for_what_cannot_fit(hub, cachalot):
    """16 of 40 MiB were pushed: 30 MiB can never be beside them, and are passed on; the images
    that are there stay, a smaller blob still has room made for it."""
    daemon = cachalot({HUB: {"url": hub.url, "tag-ttl": "1h"}},
                      {**EVERYBODY, "cache": {"size": f"{40 * MIB}B", "min-free": "0"}})
    image.push(daemon.address, image.image("beside-pushed", (16 * MIB,)), "team/app", "1")
    items = [hub.hold(image.image(f"beside-{n}", (2 * MIB,)), "library/app", str(n))
             for n in range(6)]
    for n, item in enumerate(items):
        pull(daemon, item, n)
    daemon.wait_idle()
    big = image.noise(30 * MIB, "beside")
    got = daemon.get(blob("library/app", hub.hold_blob("library/app", big)))
    assert got.status == 200 and got.body == big
    assert daemon.metric("streamed_unstored_total") == 1
    assert daemon.metric("evicted_images_total") == 0
    assert all(all(held(daemon, item)) for item in items)
    less = image.noise(14 * MIB, "less")
    digest = hub.hold_blob("library/app", less)
    assert daemon.get(blob("library/app", digest)).body == less
    until("it is stored", daemon.blob_path(digest).exists)
    assert daemon.metric("evicted_images_total") > 0


def test_nothing_goes_for_a_push_that_cannot_fit(hub, cachalot):
    """What is longer than the cache, and says so, is refused before anything goes for it."""
    daemon = cachalot({HUB: hub.url}, {**EVERYBODY, "cache": {"size": "20MiB", "min-free": "0"}})
    items = [hub.hold(image.image(f"full-{n}", (3 * MIB,)), "library/app", str(n))
             for n in range(5)]
    for n, item in enumerate(items):
        pull(daemon, item, n)
    daemon.wait_idle()
    data = image.noise(30 * MIB, "huge")
    p = Pusher(daemon.address, "team/huge")
    for send in (lambda s: s.put(digest_of(data), data), lambda s: s.patch(data)):
        got = send(p.begin())
        assert got.status == 507, got
        assert all(all(held(daemon, item)) for item in items)
    assert daemon.metric("evicted_images_total") == 0


def test_push_evicts_what_it_lacks(hub, bounded):
    """A push that goes on has its room already: no more goes than what the rest of it needs."""
    daemon = bounded(64 * MIB, **{"evict-to": "99%"})
    daemon.sections.update(EVERYBODY)
    daemon.write_config()
    daemon.hup()
    for n in range(30):
        pull(daemon, hub.hold(image.image(f"lacks-{n}", (1_900_000,)), "library/app", str(n)), n)
    daemon.wait_idle()
    Pusher(daemon.address, "team/app").push_blob(image.noise(24 * MIB, "lacks"))
    assert 9 <= daemon.metric("evicted_images_total") <= 11


def test_gc_while_room_is_short(cachalot, hub):
    """Nothing more may be evicted, and the cache is over its low mark: garbage still goes when
    it is told to."""
    daemon = cachalot({HUB: hub.url}, {**EVERYBODY, "cache": {
        "size": f"{20 * MIB}B", "min-free": "0", "evict-to": "50%"}})
    image.push(daemon.address, image.image("short", (18 * MIB + 700_000,)), "team/app", "1")
    other = image.layer(300_000, "short-alone")[0]
    Pusher(daemon.address, "team/app").push_blob(other.data)
    assert gc(daemon, "--now")["bytes"] > 0
    until("it is gone", lambda: not daemon.holds(other.digest))


def test_no_room_for_more_than_the_disk(hub, cachalot):
    """Without a size the disk is the limit: what no disk of this size holds evicts nothing."""
    daemon = cachalot({HUB: hub.url}, {"cache": {"size": "0", "min-free": "1MiB"}})
    item = hub.hold(image.image("no-limit", (MIB,)), "library/app", "1")
    pull(daemon, item, 1)
    daemon.wait_idle()
    answer = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket",
         daemon.admin_socket, "-X", "POST", f"http://x/-/api/room?bytes={10 ** 15}"],
        capture_output=True, text=True, check=True)
    assert answer.stdout == "507" and all(held(daemon, item))


def test_pushes_make_room(hub, bounded, closing):
    """A push into a cache that is full of pulled images: they make room for it."""
    daemon = bounded(10 * MIB, **{"evict-to": "99%"})
    daemon.sections.update(EVERYBODY)
    daemon.write_config()
    daemon.hup()
    watch = closing(Watch(daemon.cache))
    for n in range(4):
        item = hub.hold(image.image(f"full-{n}", (2 * MIB,)), "library/app", str(n))
        pull(daemon, item, n)
        daemon.wait_idle()
        next_second()
    for n in range(3):
        item = image.image(f"room-{n}", (2 * MIB,))
        image.push(daemon.address, item, "team/app", str(n))
        assert all(held(daemon, item))
    assert watch.most <= 10 * MIB, watch.most


# --- a disk that is full, or takes no more files ---

@pytest.fixture
def small_disk(tmp_path):
    """small_disk(options of mkfs): an ext4 file system of 64 MiB."""
    mounted = []

    def make(*options):
        file, path = tmp_path / "disk.img", tmp_path / "disk"
        with open(file, "wb") as f:
            f.truncate(64 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", *options, file], check=True)
        path.mkdir()
        subprocess.run(["mount", "-o", "loop", file, path], check=True)
        mounted.append(path)
        return path

    yield make
    for path in mounted:
        subprocess.run(["umount", "--lazy", path], check=True)


def pulls_of_all(hub, daemon, count, size, seed):
    for n in range(count):
        item = hub.hold(image.image(f"{seed}-{n}", (size,)), "library/app", f"{seed}-{n}")
        pull(daemon, item, f"{seed}-{n}")
        daemon.wait_idle()


@pytest.mark.mounts
def test_disk_is_full(hub, cachalot, small_disk):
    """No limit is set and the disk fills: images make room, every pull is whole; then somebody
    else fills the disk, and what cannot be stored is passed on."""
    disk = small_disk()
    daemon = cachalot({HUB: {"url": hub.url, "tag-ttl": "1h"}},
                      {"cache": {"size": "0", "min-free": "0"}}, cache=disk / "cache")
    pulls_of_all(hub, daemon, 12, 8 * MIB, "disk")
    assert daemon.metric("evicted_images_total") > 0
    with open(disk / "filler", "wb") as f:
        try:
            while True:
                f.write(bytes(65536))
                f.flush()
        except OSError:
            pass
    pulls_of_all(hub, daemon, 12, 8 * MIB, "filled")
    assert daemon.get("/-/healthz").status == 200
    os.unlink(disk / "filler")
    item = hub.hold(image.image("disk-after", (8 * MIB,)), "library/app", "after")
    pull(daemon, item, "after")
    daemon.wait_idle()
    assert all(held(daemon, item))


@pytest.mark.mounts
def test_min_free(hub, cachalot, small_disk):
    """What min-free says stays free, also when somebody else takes some."""
    disk = small_disk()
    daemon = cachalot({HUB: {"url": hub.url, "tag-ttl": "1h"}},
                      {"cache": {"size": "0", "min-free": "16MiB"}}, cache=disk / "cache")

    def free():
        found = os.statvfs(disk)
        return found.f_bavail * found.f_frsize
    for n in range(8):
        pulls_of_all(hub, daemon, 1, 8 * MIB, f"free-{n}")
        assert free() >= 16 * MIB, n
    (disk / "other").write_bytes(bytes(8 * MIB))
    until("room was made", lambda: free() >= 16 * MIB)


@pytest.mark.mounts
def test_no_more_files(hub, cachalot, small_disk):
    """The file system takes 128 files: images make room for others; every pull is whole."""
    disk = small_disk("-N", "128")
    daemon = cachalot({HUB: {"url": hub.url, "tag-ttl": "1h"}},
                      {"cache": {"size": "0", "min-free": "0"}}, cache=disk / "cache")
    pulls_of_all(hub, daemon, 60, 1000, "files")
    assert daemon.metric("evicted_images_total") > 0


# --- imports ---

def bundle_of(hub, cachalot, tmp_path, count):
    """A bundle of so many images of 2 MiB, from another cache."""
    source = cachalot({HUB: hub.url}, name="source", cache=tmp_path / "source")
    items = [hub.hold(image.image(f"bundle-{n}", (2 * MIB,)), "library/big", str(n))
             for n in range(count)]
    for n, item in enumerate(items):
        pull(source, item, n, "library/big")
    source.wait_idle()
    path = tmp_path / "bundle.tar"
    done = source.command("export", "-o", path,
                          *(f"{HUB}/library/big:{n}" for n in range(count)))
    assert done.returncode == 0, done
    return path, items


@pytest.mark.parametrize("is_running", [True, False], ids=["beside the daemon", "without it"])
def test_import_makes_room(hub, cachalot, bounded, tmp_path, closing, is_running):
    """A bundle comes into a cache that is full: what was used least goes for it, pinned images
    stay, and the directory never takes more than its size."""
    path, items = bundle_of(hub, cachalot, tmp_path, 3)
    daemon = bounded(14 * MIB)
    old = [hub.hold(image.image(f"before-{n}", (2 * MIB,)), "library/app", str(n))
           for n in range(5)]
    for n, item in enumerate(old):
        pull(daemon, item, n)
        daemon.wait_idle()
        next_second()
    assert daemon.command("pin", f"{HUB}/library/app:0").returncode == 0
    watch = closing(Watch(daemon.cache))
    if not is_running:
        daemon.stop()
    done = daemon.command("import", path)
    assert done.returncode == 0, done
    assert watch.most <= 14 * MIB, watch.most
    assert all(all(held(daemon, item)) for item in [old[0], *items])
    assert not any(held(daemon, old[1]))


def test_import_goes_to_the_low_mark(hub, cachalot, bounded, tmp_path):
    """Without the daemon, an import that lacks room makes as much as the daemon would, so that
    not each file of it has images evicted."""
    path, items = bundle_of(hub, cachalot, tmp_path, 2)
    daemon = bounded(10 * MIB, **{"evict-to": "40%"})
    old = [hub.hold(image.image(f"low-{n}", (2 * MIB,)), "library/app", str(n)) for n in range(3)]
    for n, item in enumerate(old):
        pull(daemon, item, n)
        daemon.wait_idle()
    daemon.stop()
    assert all(all(held(daemon, item)) for item in old)
    done = daemon.command("import", path)
    assert done.returncode == 0, done
    assert all(all(held(daemon, item)) for item in items)
    assert sum(any(held(daemon, item)) for item in old) <= 1
    assert taken(daemon.cache) <= 7 * MIB


def test_import_without_room(hub, cachalot, bounded, tmp_path):
    """A bundle that cannot fit is refused, and nothing of it is there."""
    path, items = bundle_of(hub, cachalot, tmp_path, 4)
    daemon = bounded(6 * MIB)
    done = daemon.command("import", path)
    assert done.returncode == 1 and "no space" in done.stderr, done
    assert not daemon.stored() and len(daemon.partials()) <= 1


# --- while it is in use ---

def test_evicted_while_it_is_sent(hub, bounded):
    """A client reads slowly what is evicted meanwhile: it gets all of it; the next one has it
    fetched again."""
    daemon = bounded(20 * MIB)
    data = image.noise(9 * MIB, "slowly")
    path = blob("library/app", hub.hold_blob("library/app", data))
    assert daemon.get(path).body == data
    daemon.wait_metric("blobs_stored_total", 1)
    with daemon.connect(receive_buffer=65536) as slow:
        slow.request(path)
        assert slow.read_head().status == 200
        got = slow.read_some(MIB)
        next_second()
        for n in range(3):
            other = image.noise(6 * MIB, f"slowly-{n}")
            p = blob("library/app", hub.hold_blob("library/app", other))
            assert daemon.get(p).body == other
            daemon.wait_idle()
        assert not daemon.holds(image.digest_of(data))
        got += slow.read_some(len(data) - len(got))
        assert got == data
    hub.forget()
    assert daemon.get(path).body == data and hub.count("GET") == 1


@pytest.mark.threads
def test_pushes_beside_deletes(hub, cachalot):
    """Teams push images that share layers, and delete them again, while garbage is collected all
    the time: no push ever finds a layer gone that it was told is there."""
    daemon = cachalot({HUB: hub.url}, {**EVERYBODY, "cache": {"push-grace": "20s"}})
    shared = image.layer(200_000, "race-shared")[0]

    def team(number):
        p = Pusher(daemon.address, f"team/app{number}")
        for n in range(12):
            item = image.image(f"race-{number}-{n}", (2000,))
            config, own = item.blobs
            item.blobs.append(shared)
            item.data = json.dumps({
                "schemaVersion": 2, "mediaType": item.media_type, "config": config.descriptor(),
                "layers": [own.descriptor(), shared.descriptor()]}).encode()
            if not p.has_blob(shared.digest):
                p.push_blob(shared.data)
            for each in (config, own):
                p.push_blob(each.data)
            assert p.put_manifest("1", item.data, item.media_type).status == 201
            assert p.blob(shared.digest).body == shared.data
            assert p.remove(f"manifests/{item.digest}").status == 202

    def collector():
        for _ in range(40):
            assert daemon.command("gc").returncode in (0, 3)

    crowd = Crowd()
    for number in range(4):
        crowd.add(team, number)
    crowd.add(collector)
    crowd.join()
    assert daemon.holds(shared.digest)
    assert gc(daemon, "--now")["bytes"] > 0
    until("all is gone", lambda: not daemon.stored())
