# SPDX-License-Identifier: ISC
"""The cache directory: whose it is, what it holds, and when it fails."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from lib import image, tracer
from lib.cachalot import DAEMON
from lib.clients import Skopeo, check_dir
from lib.crowd import together
from lib.disk import fill, mount
from lib.image import ACCEPT, noise
from lib.paths import HUB, blob, manifest
from lib.wait import until

DATA = noise(1_000_000, "disk")
DIGEST = image.digest_of(DATA)
BLOB = blob("library/app", DIGEST)


@pytest.fixture
def upstream(hub):
    hub.hold_blob("library/app", DATA)
    return hub


@pytest.fixture
def daemon(upstream, cachalot):
    return cachalot({HUB: {"url": upstream.url, "tag-ttl": "1h"}})


@pytest.mark.parametrize("damage", ["deleted", "truncated", "empty", "longer", "directory"])
def test_damaged_blob(upstream, daemon, damage):
    """The file of a blob is gone, cut or replaced: it is fetched again, once, and never
    a short 200."""
    assert daemon.get(BLOB).body == DATA
    daemon.wait_metric("blobs_stored_total", 1)
    path = daemon.blob_path(DIGEST)
    if damage in ("deleted", "directory"):
        path.unlink()
        if damage == "directory":
            path.mkdir()
    else:
        size = {"truncated": 500_000, "empty": 0, "longer": 1_000_001}[damage]
        os.chmod(path, 0o600)
        os.truncate(path, size)
    got = daemon.get(BLOB)
    assert got.status == 200 and got.complete and got.body == DATA
    assert upstream.count() == 2 and daemon.metric("blobs_dropped_total") == 1
    if damage == "directory":
        daemon.stop()
        if path.is_dir():
            path.rmdir()
        return
    daemon.wait_metric("blobs_stored_total", 2)
    assert daemon.get(BLOB).body == DATA
    assert upstream.count() == 2


def test_damaged_blob_range(upstream, daemon):
    """The same for a Range beyond what is left of the file: a second request."""
    daemon.get(BLOB)
    daemon.wait_metric("blobs_stored_total", 1)
    os.truncate(daemon.blob_path(DIGEST), 1000)
    got = daemon.get(BLOB, fields=[("Range", "bytes=999000-")])
    assert got.status == 206 and got.body == DATA[999_000:]
    assert upstream.count() == 2


@pytest.mark.parametrize("damage", ["deleted", "truncated"])
def test_damaged_manifest(upstream, daemon, damage):
    """The file of a manifest is gone or cut: it is fetched again."""
    item = upstream.hold(image.image("damaged", (100,)), "library/app", "1")
    path = manifest("library/app", "1")
    daemon.get(path, fields=ACCEPT)
    daemon.wait_metric("manifests_stored_total", 1)
    if damage == "deleted":
        daemon.blob_path(item.digest).unlink()
    else:
        os.truncate(daemon.blob_path(item.digest), 10)
    for _ in range(2):
        got = daemon.get(path, fields=ACCEPT)
        assert got.status == 200 and got.body == item.data
    assert upstream.count("GET", "/manifests/") == 2


def test_layout(upstream, daemon, tmp_path):
    """After a drain the cache directory is an OCI image layout: skopeo copies images out
    of it by their full names. Everything crossed once."""
    items = {tag: upstream.hold(image.image(f"layout-{tag}"), "library/app", tag)
             for tag in ("1", "2")}
    index = upstream.hold(image.index(list(items.values())), "library/app", "multi")
    for tag, item in [*items.items(), ("multi", index)]:
        daemon.get(manifest("library/app", tag), fields=ACCEPT)
        for each in item.all_blobs():
            assert daemon.get(blob("library/app", each.digest)).body == each.data
    assert daemon.stop() == 0
    assert json.loads((daemon.cache / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    entries = json.loads((daemon.cache / "index.json").read_text())["manifests"]
    names = {e["annotations"]["org.opencontainers.image.ref.name"]: e for e in entries}
    assert set(names) == {f"docker.io/library/app:{tag}" for tag in ("1", "2", "multi")}
    assert names["docker.io/library/app:1"]["digest"] == items["1"].digest
    skopeo = Skopeo(tmp_path)
    for tag, item in items.items():
        check_dir(skopeo.copy_layout(daemon.cache, f"docker.io/library/app:{tag}"), item)
    asked = [(r.method, r.path) for r in upstream.asked()]
    assert len(asked) == len(set(asked)) == 3 + 3 + sum(len(x.all_blobs()) for x in items.values())


def test_directory_is_made(daemon):
    """A cache directory that is missing is made, for its owner alone."""
    assert daemon.cache.stat().st_mode & 0o777 == 0o700
    for name in ("oci-layout", "index.json", "blobs", "db", "lock"):
        assert (daemon.cache / name).exists(), name


def refused(daemon, *words):
    """The daemon does not start, with a sentence that names the directory."""
    daemon.launch()
    assert daemon.join(20) not in (0, -6, -11)
    said = daemon.stderr_path.read_text()
    assert all(word in said for word in words), said
    return said


def make(cachalot, upstream, path, **more):
    return cachalot({HUB: upstream.url}, start=False, cache=path, **more)


def test_second_daemon(upstream, daemon, cachalot):
    """A second daemon over the same directory is refused, and the first lives; after
    kill -9 of the first another one starts at once."""
    second = make(cachalot, upstream, daemon.cache, name="second")
    said = refused(second, str(daemon.cache))
    assert "in use" in said or "another" in said
    assert daemon.get(BLOB).body == DATA
    daemon.kill()
    second.start()
    assert second.get(BLOB).body == DATA


@pytest.mark.parametrize("foreground", [True, False])
def test_refusal_is_said_where_it_was_started(upstream, daemon, cachalot, tmp_path, foreground):
    """With a log file a refusal at the start is in it, and on standard error as well. The
    upstream is not asked."""
    log = tmp_path / "second.log"
    second = make(cachalot, upstream, daemon.cache, name="second", options={"log": {"file": log}})
    said = subprocess.run([DAEMON, *["-f"] * foreground, "-c", second.config_path], check=False,
                          capture_output=True, text=True, timeout=20)
    assert said.returncode == 1
    line, = said.stderr.splitlines()
    assert line.startswith("cachalotd: cannot start: ") and str(daemon.cache) in line
    assert str(daemon.cache) in log.read_text()
    assert upstream.count() == 0


@pytest.mark.skipif(not tracer.is_there(), reason="no strace")
def test_killed_while_the_index_is_walked(upstream, daemon, tmp_path):
    """kill -9 of a start whose child walks the index, for long: the next one starts at once."""
    if b"san_init" in DAEMON.read_bytes():
        pytest.skip("sanitizers call madvise, too")
    daemon.stop()
    said = tmp_path / "strace.out"
    daemon.launch(wrap=["strace", "-f", "-o", said, "-e", "trace=madvise",
                        "-e", "inject=madvise:delay_enter=10s"])
    until("the child walks", lambda: said.exists() and "MADV_WILLNEED" in said.read_text())
    os.kill(int((daemon.cache / "lock").read_text()), signal.SIGKILL)
    strace = daemon.child
    daemon.start()
    assert daemon.get(BLOB).body == DATA
    strace.kill()
    strace.wait()


def test_parent_is_missing(upstream, cachalot, tmp_path):
    """A cache directory whose parent is missing is not guessed at."""
    refused(make(cachalot, upstream, tmp_path / "no" / "such"), str(tmp_path / "no"))


def test_symbolic_link(upstream, cachalot, tmp_path):
    """A symbolic link in place of the directory is refused."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    refused(make(cachalot, upstream, tmp_path / "link"), str(tmp_path / "link"), "symbolic link")
    assert list((tmp_path / "real").iterdir()) == []


def test_another_owner(upstream, cachalot, tmp_path):
    """A directory of another user is refused."""
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 4321, 4321)
    refused(make(cachalot, upstream, tmp_path / "theirs"), str(tmp_path / "theirs"))


def test_open_to_others(upstream, daemon):
    """A cache directory that others can look into, of an older version or made by hand, is closed
    to them, and the log says so; one that all can write to is refused."""
    daemon.stop()
    daemon.cache.chmod(0o755)
    daemon.start()
    assert daemon.cache.stat().st_mode & 0o7777 == 0o700
    said = [x["message"] for x in daemon.log_lines() if "0755" in x.get("message", "")]
    assert len(said) == 1 and str(daemon.cache) in said[0] and "now it is not" in said[0]
    daemon.stop()
    daemon.cache.chmod(0o777)
    refused(daemon, str(daemon.cache), "chmod 0700")
    daemon.cache.chmod(0o700)
    daemon.start()


def test_file_in_place_of_directory(upstream, cachalot, tmp_path):
    """A file is no directory."""
    (tmp_path / "file").write_text("x")
    refused(make(cachalot, upstream, tmp_path / "file"), str(tmp_path / "file"))


def test_foreign_files(upstream, cachalot, tmp_path):
    """A directory with somebody's files and no oci-layout is refused, and untouched."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    refused(make(cachalot, upstream, tmp_path / "home"), str(tmp_path / "home"))
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["letter.txt"]


@pytest.mark.mounts
def test_not_writable(upstream, cachalot, small_disk):
    """A directory on a file system that is read-only is refused."""
    mount(small_disk, "-o", "remount,ro")
    refused(make(cachalot, upstream, small_disk / "cache"), str(small_disk))


@pytest.mark.parametrize("folder", ["partial", "blobs/sha256"])
def test_becomes_unwritable(upstream, daemon, folder):
    """A folder of the cache can no longer be written: what is held is served, what is not
    is an honest answer; when it can be written again, all is well."""
    assert daemon.get(BLOB).body == DATA
    daemon.wait_metric("blobs_stored_total", 1)
    other = noise(300_000, "other")
    item = upstream.hold(image.image("unwritable", (100,)), "library/app", "1")
    paths = {blob("library/app", upstream.hold_blob("library/app", other)): other,
             manifest("library/app", "1"): item.data}
    if subprocess.run(["chattr", "+i", daemon.cache / folder], check=False).returncode != 0:
        pytest.skip("this file system has no chattr")
    try:
        assert daemon.get(BLOB).body == DATA
        for path, content in paths.items():
            got = daemon.get(path, fields=ACCEPT)
            assert got.status == 503 or got.body == content[:len(got.body)], got
        assert daemon.get(BLOB).body == DATA
    finally:
        subprocess.run(["chattr", "-i", daemon.cache / folder], check=True)
    for path, content in paths.items():
        assert daemon.get(path, fields=ACCEPT).body == content


@pytest.mark.mounts
@pytest.mark.threads
def test_disk_full(upstream, cachalot, small_disk):
    """A blob larger than the room on the disk: the clients get all its bytes or an
    honest refusal, the daemon lives, small blobs are still stored, and when there is
    room the large one is stored too."""
    big = noise(40_000_000, "big")
    path = blob("library/app", upstream.hold_blob("library/app", big))
    daemon = make(cachalot, upstream, small_disk / "cache").start()
    for got in together(3, lambda i: daemon.get(path)):
        assert got.status in (200, 502, 503), got
        assert got.body == big[:len(got.body)] if got.status == 200 else True
        assert not (got.status == 200 and got.complete and got.body != big)
    daemon.wait_idle()
    assert daemon.get("/-/healthz").status == 200
    assert daemon.get(BLOB).body == DATA
    mount(small_disk, "-o", "remount,size=200m")
    assert daemon.get(path).body == big
    daemon.wait_idle()
    upstream.forget()
    assert daemon.get(path).body == big and upstream.count() == 0


@pytest.mark.mounts
def test_disk_fills_meanwhile(upstream, cachalot, small_disk):
    """Somebody else fills the disk while a blob arrives: a clean end for the client,
    nothing short in the store, and a daemon that goes on when there is room."""
    big = noise(12_000_000, "meanwhile")
    path = blob("library/app", upstream.hold_blob("library/app", big))
    daemon = make(cachalot, upstream, small_disk / "cache").start()
    gate = upstream.gate("/blobs/", after=4_000_000)
    with daemon.connect() as c:
        c.request(path)
        assert c.read_head().status == 200
        filler = fill(small_disk / "filler")
        gate.open()
        body = c.read_some(len(big))
        assert body == big[:len(body)]
    daemon.wait_idle()
    filler.unlink()
    assert daemon.get(path).body == big


def test_index_is_gone(upstream, daemon):
    """Somebody removed db/: the daemon starts, and what is asked for is right again."""
    daemon.get(BLOB)
    daemon.wait_metric("blobs_stored_total", 1)
    daemon.stop()
    shutil.rmtree(daemon.cache / "db")
    daemon.start()
    for _ in range(2):
        assert daemon.get(BLOB).body == DATA
        daemon.wait_idle()
    assert upstream.count() <= 2


def test_everything_is_gone(upstream, daemon):
    """Somebody empties the cache directory under the running daemon: it fetches again, and
    lives."""
    daemon.get(BLOB)
    daemon.wait_metric("blobs_stored_total", 1)
    for path in daemon.cache.glob("*/*/*"):
        path.unlink()
    assert daemon.get(BLOB).body == DATA
    daemon.wait_metric("blobs_stored_total", 2)
    assert upstream.count() == 2


@pytest.mark.parametrize("damage", ["zeros", "noise", "short"])
def test_index_is_damaged(upstream, cachalot, daemon, damage):
    """The index is rubbish: it is set aside and made anew from the files, and the daemon serves
    what it served, without asking."""
    daemon.get(BLOB)
    daemon.wait_metric("blobs_stored_total", 1)
    daemon.stop()
    path = daemon.cache / "db" / "data.mdb"
    size = path.stat().st_size
    path.write_bytes({"zeros": bytes(size), "noise": noise(size, "index"),
                      "short": path.read_bytes()[:5000]}[damage])
    daemon.start()
    assert daemon.get(BLOB).body == DATA
    assert upstream.count() == 1 and daemon.metric("index_rebuilds_total") == 1
    assert [p.name[:11] for p in daemon.cache.glob("db.*")] == ["db.damaged-"]
    said, = (x["message"] for x in daemon.log_lines()
             if "made anew" in x.get("message", ""))
    assert "was damaged" in said and "db.damaged-" in said and "tags younger than" in said


@pytest.mark.mounts
def test_index_full(upstream, cachalot):
    """An index of the smallest size that fills up: blobs are still served, and the daemon
    lives."""
    daemon = cachalot({HUB: upstream.url}, {"cache": {"index-size": "1MiB"}})
    for i in range(300):
        hub_blob = upstream.hold_blob("library/app", b"%d" % i)
        got = daemon.get(blob("library/app", hub_blob))
        assert got.status == 503 or got.body == b"%d" % i
    assert daemon.get("/v2/").status == 200
