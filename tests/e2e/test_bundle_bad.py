# SPDX-License-Identifier: ISC
"""Archives that are refused: as a whole, with the entry named, and with nothing published."""

import json
import os
import random
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from lib import image
from lib.bundle import export, import_, pull_all, tar_bytes, wait_recorded
from lib.image import ACCEPT, digest_of
from lib.paths import HUB, manifest
from lib.pusher import EVERYBODY
from lib.rawtar import END, base256, entry, header, pax
from lib.wait import until

KILLS = int(os.environ.get("CACHALOT_KILLS", "12"))
REFERENCE = "docker.io/library/app:1"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}\n'


def blob_name(digest):
    return "blobs/" + digest.replace(":", "/")


def index_of(item, name=REFERENCE, **more):
    described = {"mediaType": item.media_type, "digest": item.digest, "size": len(item.data),
                 "annotations": {"io.containerd.image.name": name}, **more}
    return json.dumps({"schemaVersion": 2, "manifests": [described]}).encode()


def entries_of(item, index=None):
    """An image layout as (name, data) pairs."""
    contents = [*item.all_manifests(), *item.all_blobs()]
    return [("oci-layout", LAYOUT), ("index.json", index_of(item) if index is None else index),
            *((blob_name(x.digest), x.data) for x in contents)]


def raw(pairs):
    return b"".join(entry(name, data) for name, data in pairs)


@pytest.fixture
def item():
    return image.image("bad", (3000, 500))


@pytest.fixture
def far(cachalot, tmp_path):
    """No upstream is asked for anything."""
    return cachalot({HUB: "http://127.0.0.1:9"}, {"cache": {"offline": "yes"}}, name="far",
                    cache=tmp_path / "far-cache")


def nothing_of(daemon):
    """Nothing is published, and nothing is left."""
    assert daemon.stored() == set()
    assert {p.name for p in daemon.partials()} <= {"import-lock"}
    assert daemon.get(manifest("library/app", "1"), fields=ACCEPT).status == 504
    done = daemon.command("have")
    assert done.returncode == 0 and "sha256:" not in done.stdout, done


def refused(daemon, tmp_path, data, words, code=4):
    path = tmp_path / "bad.tar"
    path.write_bytes(data)
    for options in ([], ["--verify-only"]):
        done = daemon.command("import", *options, path)
        assert done.returncode == code and re.search(words, done.stderr), done
    nothing_of(daemon)


def test_good(far, item, tmp_path):
    """What the other tests spoil is good before."""
    (tmp_path / "good.tar").write_bytes(raw(entries_of(item)) + END)
    assert far.command("import", "--verify-only", tmp_path / "good.tar").returncode == 0
    nothing_of(far)
    import_(far, tmp_path / "good.tar")
    assert far.get(manifest("library/app", "1"), fields=ACCEPT).body == item.data


HEX = "0" * 64
# An entry before the good ones, and what is said of it.
ODD = {
    "absolute": (entry("/etc/passwd", b"x"), r"/etc/passwd.*absolute"),
    "climbs": (entry("blobs/../../etc/passwd", b"x"), r'etc/passwd.*"\.\."'),
    "climbs first": (entry("../x", b"x"), r'\.\./x.*"\.\."'),
    "dot inside": (entry("blobs/./x", b"x"), r"blobs/\./x"),
    "empty component": (entry("blobs//x", b"x"), r"blobs//x"),
    "backslash": (entry("..\\x", b"x"), r"backslash"),
    "no name": (entry("", b"x"), r"entry 1"),
    "not ASCII": (entry("bl\xf6b".encode("latin-1"), b"x"), r"bl\?b.*ASCII"),
    "newline": (entry("a\nb", b"x"), r"a\?b.*ASCII"),
    "symbolic link": (entry("x", kind=b"2", link=b"/etc/passwd"), r"x is a symbolic link"),
    "link that climbs": (entry("a/layer.tar", kind=b"2", link=b"../../etc/passwd"),
                         r"a/layer.tar is a symbolic link"),
    "hard link": (entry("x", kind=b"1", link=b"oci-layout"), r"\(x\) is a hard link"),
    "character device": (entry("null", kind=b"3"), r"\(null\) is a device"),
    "block device": (entry("sda", kind=b"4"), r"\(sda\) is a device"),
    "fifo": (entry("pipe", kind=b"6"), r"\(pipe\) is a fifo"),
    "sparse": (entry("holes", b"x", kind=b"S"), r"\(holes\) is a sparse file"),
    "pax sparse": (pax(GNU__sparse__major=1) + entry("x", b"x"), r"sparse"),
    "unknown kind": (entry("x", kind=b"M"), r"\(x\) is of a kind"),
    "negative size": (header(b"neg", size_field=base256(-1)), r"\(?entry 1.*size"),
    "negative octal": (header(b"neg", size_field=b"-0000000001\0"), r"size"),
    "no number": (header(b"nan", size_field=b"abcdefghijk\0"), r"size"),
    "8 GiB": (header(b"big", size_field=base256(8 << 30)), r"\(big\) is cut short|too full|space"),
    "exbibytes": (header(b"big", size_field=base256(1 << 62)), r"big|space"),
    "two to the 80": (header(b"big", size_field=base256(1 << 80)), r"size"),
    "pax path": (pax(path="blobs/sha256/" + HEX) + entry("harmless", b"x"),
                 rf"{HEX}.*another name in its header"),
    "pax path that climbs": (pax(path="../" * 40 + "etc/passwd") + entry("harmless", b"x"),
                             r"etc/passwd"),
    "pax size": (pax(size=1) + entry("x", b"xxxx"), r"\(x\) has another size"),
    "pax negative size": (pax(size=-1) + entry("x", b"x"), r"pax size"),
    "pax two names": (pax(path="a" * 120) + pax(path="b" * 120) + entry("x", b"x"), r"twice"),
    "pax nonsense": (entry(b"pax", b"99999999 path=x\n", kind=b"x") + entry("x", b"x"), r"pax"),
    "global path": (entry(b"pax", b"10 path=x\n", kind=b"g") + entry("y", b"x"), r"all entries"),
    "huge pax": (header(b"pax", size=1 << 20, kind=b"x"), r"KiB"),
    "checksum": (b"x" + entry("oci-layout", LAYOUT)[1:], r"checksum"),
    "no tar": (b"PK\x03\x04" + bytes(range(256)) * 4, r"checksum"),
    "gzip": (b"\x1f\x8b\x08" + bytes(range(1, 256)) * 4, r"compressed"),
    "too long": (pax(path="x" * 300) + entry("x", b"x"), r"255"),
    "folder with content": (entry("d/", b"x", kind=b"5"), r"\(d/\) has a size"),
}


HUGE = ("8 GiB", "exbibytes")


@pytest.mark.parametrize("what", sorted(set(ODD) - set(HUGE)))
def test_odd_entries(far, item, what, tmp_path):
    """Entries that could mean two things, or reach out of the archive."""
    first, words = ODD[what]
    refused(far, tmp_path, first + raw(entries_of(item)) + END, words)


@pytest.mark.parametrize("what", HUGE)
def test_huge_entries(far, what, tmp_path):
    """Sizes that no disk has, or the archive has not."""
    first, words = ODD[what]
    path = tmp_path / "bad.tar"
    path.write_bytes(first + bytes(4096))
    done = far.command("import", path)
    assert done.returncode in (1, 4) and re.search(words, done.stderr), done
    nothing_of(far)


def test_cut_short(far, item, tmp_path):
    """An archive that ends anywhere before its end."""
    whole = raw(entries_of(item)) + END
    rng = random.Random(7)
    for length in (0, 1, 511, 512, 600, len(whole) - 1024, len(whole) - 512,
                   *(rng.randrange(len(whole) - 1024) for _ in range(20))):
        refused(far, tmp_path, whole[:length], r"cut short|neither index.json|no tar")


def test_after_the_end(far, item, tmp_path):
    """Something after the end; zeros are no harm, tapes have them."""
    whole = raw(entries_of(item)) + END
    refused(far, tmp_path, whole + b"x", r"follows the archive's end")
    refused(far, tmp_path, whole + bytes(5000) + b"x" + bytes(3000), r"follows")
    refused(far, tmp_path, whole + raw(entries_of(item)) + END, r"follows")
    (tmp_path / "good.tar").write_bytes(whole + bytes(20 * 512))
    import_(far, tmp_path / "good.tar")


def test_twice(far, item, tmp_path):
    """An entry that is there twice: which one counts?"""
    pairs = entries_of(item)
    for k in range(len(pairs)):
        refused(far, tmp_path, raw([*pairs, pairs[k]]) + END, "twice|another")


def test_wrong_content(far, item, tmp_path):
    """A blob that is not what its name says."""
    pairs = entries_of(item)
    for k in range(2, len(pairs)):
        name, data = pairs[k]
        spoiled = [*pairs[:k], (name, data[:-1] + bytes([data[-1] ^ 1])), *pairs[k + 1:]]
        refused(far, tmp_path, raw(spoiled) + END, name.rsplit("/", 1)[1])


def test_missing_blobs(far, item, tmp_path):
    """The index, or a manifest, names what is not there."""
    pairs = entries_of(item)
    for k in range(2, len(pairs)):
        name, _ = pairs[k]
        refused(far, tmp_path, raw(pairs[:k] + pairs[k + 1:]) + END, name.rsplit("/", 1)[1], 5)


def test_bad_blob_names(far, item, tmp_path):
    for name in ("blobs/x", "blobs/sha256/" + "A" * 64, "blobs/md5/" + "0" * 32,
                 "blobs/sha256/" + "0" * 63, "blobs/sha256/" + HEX + "/x", "blobs/sha256/",
                 f"pieces/sha256/{HEX}/0"):
        refused(far, tmp_path, raw([*entries_of(item), (name, b"")]) + END,
                r"no blob|of a bundle|nothing between")


def test_bad_index(far, item, tmp_path):
    """index.json that is none, names nothing, or lies about sizes and types."""
    def described(**more):
        return index_of(item, **more)

    config = item.blobs[0]
    for index, words in (
            (b"", "index.json"), (b"[]", "index.json"), (b"{}", "names no manifests"),
            (b'{"manifests":[]}', "no image"), (b'{"manifests":[{}]}', "without digest"),
            (b'{"manifests":{}}', "a list that is none"), (b'{"a":1,"a":2}', "index.json"),
            (b'{"manifests":' + b"[" * 5000, "not all objects"),
            (b'{"manifests":[' + b'{"a":' * 5000, "levels"),
            (b'{"manifests":[],"manifests":[]}', "duplicate"),
            (described(size=1), "another size"), (described(size=-1), "without digest"),
            (described(digest="sha256:0"), "without digest"),
            (described(mediaType=None), "without digest"),
            (described(mediaType="x" * 500), "without digest"),
            (described(mediaType="application/vnd.oci.image.index.v1+json"), item.digest),
            (described(digest=config.digest, size=len(config.data)), config.digest),
            (described(annotations={"io.containerd.image.name": "UPPER/../x:1"}), "reference"),
            (described(annotations={"io.containerd.image.name": "\x1b[2J/x:1"}), r'"\?\[2J/x:1"'),
            (described(annotations={"io.containerd.image.name": f"docker.io/a/b@{config.digest}"}),
             "another"),
            (described(annotations={}), "--as"), (described(annotations=None), "--as")):
        refused(far, tmp_path, raw(entries_of(item, index)) + END, words,
                2 if words == "--as" else 4)


def test_no_layout(far, item, tmp_path):
    pairs = entries_of(item)
    refused(far, tmp_path, raw(pairs[1:]) + END, "oci-layout")
    refused(far, tmp_path, raw([("oci-layout", b'{"imageLayoutVersion":"2.0.0"}'), *pairs[1:]])
            + END, "oci-layout")
    refused(far, tmp_path, raw([pairs[0], *pairs[2:]]) + END, "neither index.json")
    refused(far, tmp_path, END, "neither index.json")


def test_bad_singles(far, item, tmp_path):
    """manifest.json that names what is not there."""
    config, layers = item.blobs[0], item.layers
    files = [("c.json", config.data), *((f"{n}.tar", x.data) for n, x in enumerate(layers))]

    def archive(**more):
        single = {"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["0.tar", "1.tar"], **more}
        return raw([*files, ("manifest.json", json.dumps([single]).encode())]) + END

    for data, words in ((archive(Config="d.json"), "d.json"), (archive(Config=None), "config"),
                        (archive(Layers=["9.tar"]), "9.tar"), (archive(RepoTags=[]), "--as"),
                        (archive(RepoTags=["../x:1"]), "reference"),
                        (raw([*files, ("manifest.json", b"{}")]) + END, "manifest.json|no image")):
        refused(far, tmp_path, data, words, 2 if words == "--as" else 4)


def test_to_name_is_no_proof(cachalot, tmp_path):
    """An archive of others that names the digest of a pushed blob, and does not bring it,
    opens that blob to nobody."""
    daemon = cachalot({}, EVERYBODY, name="far", cache=tmp_path / "far-cache")
    secret = image.push(daemon.address, image.image("secret", (3000,)), "team/secret", "1")
    wait_recorded(daemon, secret)
    bare = [("oci-layout", LAYOUT), ("index.json", index_of(secret)),
            (blob_name(secret.digest), secret.data)]
    (tmp_path / "bad.tar").write_bytes(raw(bare) + END)
    done = daemon.command("import", tmp_path / "bad.tar")
    assert done.returncode == 5 and secret.blobs[0].digest in done.stderr, done
    assert daemon.get(f"/v2/{HUB}/library/app/blobs/{secret.blobs[0].digest}").status != 200


# --- bundles ---

@pytest.fixture
def bundle(hub, cachalot, tmp_path, item):
    near = cachalot({HUB: hub.url}, name="near")
    pull_all(near, hub.hold(item, "library/app", "1"), "library/app", "1")
    export(near, "-o", tmp_path / "bundle.tar", REFERENCE)
    return tmp_path / "bundle.tar"


def read(path):
    with tarfile.open(path) as tar:
        return [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]


def test_spoiled_bundle(far, bundle, tmp_path):
    """Each entry of a bundle left out, changed, or there twice; one too many."""
    pairs = read(bundle)
    for k, (name, data) in enumerate(pairs):
        if name == "manifest.json":
            continue
        without = pairs[:k] + pairs[k + 1:]
        changed = [*pairs[:k], (name, data[:-1] + bytes([data[-1] ^ 1])), *pairs[k + 1:]]
        twice = [*pairs[:k], pairs[k], *pairs[k:]]
        for spoiled in (without, changed, twice):
            (tmp_path / "bad.tar").write_bytes(tar_bytes(spoiled))
            done = far.command("import", tmp_path / "bad.tar")
            good = spoiled is without and name == "cachalot-bundle"
            assert (done.returncode == 0) == good or done.returncode in (1, 4, 5), (name, done)
            if not good:
                nothing_of(far)
                continue
            return_to_nothing(far)


def return_to_nothing(daemon):
    """Without its record a bundle is an image layout like others'."""
    assert daemon.command("ls", "library/app:1").returncode == 0
    daemon.stop()
    for path in daemon.cache.glob("blobs/*/*"):
        path.unlink()
    for path in daemon.cache.glob("db/*"):
        path.unlink()
    daemon.start()


def test_unknown_entry(far, bundle, tmp_path):
    """What a bundle does not have, and what follows its sums."""
    pairs = read(bundle)
    for spoiled, words in (([*pairs[:-1], ("x", b"x"), pairs[-1]], "belong"),
                           ([*pairs, ("x", b"x")], "follows SHA256SUMS")):
        refused(far, tmp_path, tar_bytes(spoiled), words)


# --- the disk, and kills ---

@pytest.mark.mounts
def test_disk_full(hub, cachalot, small_disk, tmp_path):
    """A disk that is too full for the import is left as it was: what is held is served, and
    the same import works when there is room. An export to it leaves nothing, either."""
    near = cachalot({HUB: hub.url}, name="near")
    made = hub.hold(image.image("full", (3_000_000, 4_000_000)), "library/app", "1")
    pull_all(near, made, "library/app", "1")
    export(near, "-o", tmp_path / "bundle.tar", REFERENCE)
    far = cachalot({}, {"cache": {"offline": "yes", "index-size": "4MiB"}}, name="far",
                   cache=small_disk / "cache")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(free_bytes(small_disk) - 5_000_000))
    done = far.command("import", tmp_path / "bundle.tar")
    assert done.returncode == 1 and "no space left" in done.stderr, done
    nothing_of(far)
    done = near.command("export", "-o", small_disk / "copy.tar", REFERENCE)
    assert done.returncode == 1 and "no space left" in done.stderr, done
    assert not list(small_disk.glob("copy*"))
    ballast.unlink()
    import_(far, tmp_path / "bundle.tar")
    assert far.get(manifest("library/app", "1"), fields=ACCEPT).body == made.data


def free_bytes(path):
    found = os.statvfs(path)
    return found.f_bavail * found.f_bsize


def write_many(path, count):
    """An archive of so many small images; returns them."""
    many = [image.image(f"many-{n}", (10,)) for n in range(count)]
    pairs = [("oci-layout", LAYOUT),
             ("index.json", json.dumps({"manifests": [
                 {"mediaType": m.media_type, "digest": m.digest, "size": len(m.data),
                  "annotations": {"io.containerd.image.name": f"docker.io/library/m{n}:1"}}
                 for n, m in enumerate(many)]}).encode())]
    contents = {x.digest: x.data for m in many for x in (m, *m.blobs)}
    pairs += [(blob_name(d), data) for d, data in contents.items()]
    path.write_bytes(raw(pairs) + END)
    return many


def test_full_index(bundle, cachalot, tmp_path):
    """An index without room for the records: no name leads to anything, it says what to do, and
    then another try goes on."""
    far = cachalot({}, {"cache": {"offline": "yes", "index-size": "1MiB"}}, name="far",
                   cache=tmp_path / "far-cache")
    many = write_many(tmp_path / "many.tar", 2000)
    done = far.command("import", tmp_path / "many.tar")
    assert done.returncode == 1 and "index-size" in done.stderr, done
    assert far.command("ls", "m1:1").returncode == 5
    assert far.get("/v2/docker.io/library/m1/manifests/1").status in (404, 502, 503, 504)
    far.stop()
    far.sections["cache"]["index-size"] = "64MiB"
    far.write_config()
    far.start()
    import_(far, tmp_path / "many.tar")
    assert far.get("/v2/docker.io/library/m1/manifests/1", fields=ACCEPT).body == many[1].data


def test_kill(far, bundle, item, tmp_path):
    """kill -9 at any moment: then nothing, or all of it, is there; the next import is whole.
    Beside a daemon that runs on."""
    rng = random.Random(11)
    done = 0
    for _ in range(KILLS):
        child = subprocess.Popen(far.command_line("import", bundle), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        try:
            child.wait(rng.random() * 0.03)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        answer = far.get(manifest("library/app", "1"), fields=ACCEPT)
        assert answer.status in (200, 504)
        if answer.status == 200:
            assert answer.body == item.data
            for each in item.all_blobs():
                assert far.get(f"/v2/{HUB}/library/app/blobs/{each.digest}").body == each.data
            done += 1
            return_to_nothing(far)
    import_(far, bundle)
    assert far.get(manifest("library/app", "1"), fields=ACCEPT).body == item.data
    assert done <= KILLS


def test_kill_many(far, tmp_path):
    """The same of so many images that they take several transactions: all names are there, or
    none is, whenever the import is killed; the next one is whole."""
    count = 3000
    many = write_many(tmp_path / "many.tar", count)

    def names():
        return len(far.command("ls", "--names").stdout.splitlines())

    blobs = sum(1 + len(m.blobs) for m in many)
    for share in (0.3, 0.9, 1.0, 1.0):
        child = subprocess.Popen(far.command_line("import", tmp_path / "many.tar"),
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Once all files are there the records are written.
        until("it is under way", lambda: child.poll() is not None
              or len(far.stored()) + len(far.partials()) >= share * blobs, 60)
        child.kill()
        child.wait()
        assert names() in (0, count)
    import_(far, tmp_path / "many.tar")
    assert names() == count
    assert far.get("/v2/docker.io/library/m7/manifests/1", fields=ACCEPT).body == many[7].data


def test_changes_meanwhile(far, hub, cachalot, tmp_path):
    """An archive that somebody writes into while it is read: what is taken is what was read
    and verified, or nothing is."""
    made = image.image("changes", (8_000_000,))
    path = tmp_path / "changes.tar"
    whole = raw(entries_of(made)) + END
    noise = image.noise(1 << 20, "changes")
    for at in (len(whole) - (1 << 20), len(whole) // 2, 0):
        path.write_bytes(whole)
        child = subprocess.Popen(far.command_line("import", path), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE)
        with open(path, "r+b") as file:
            while child.poll() is None:
                file.seek(at)
                file.write(noise)
                file.flush()
        assert child.returncode in (0, 4), child.stderr.read()
        far.check_store()
        answer = far.get(manifest("library/app", "1"), fields=ACCEPT)
        assert answer.status == 504 or answer.body == made.data


def test_two_at_once(far, bundle, tmp_path):
    """A second import while one is under way says so."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    child = subprocess.Popen(far.command_line("import", fifo), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    with open(fifo, "wb") as f:
        f.write(bundle.read_bytes()[:2048])
        f.flush()
        until("the first has begun", lambda: (far.cache / "partial/import-lock").exists())
        done = far.command("import", bundle)
        assert done.returncode == 1 and "under way" in done.stderr, done
        f.write(bundle.read_bytes()[2048:])
    assert child.wait(30) == 0, child.stderr.read()


def test_flat_memory(far, tmp_path):
    """64 MiB of one blob through a pipe: memory does not grow with it."""
    data = bytes(1 << 20)
    child = subprocess.Popen(far.command_line("import", "-"), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdin.write(entry("oci-layout", LAYOUT))
    child.stdin.write(header(blob_name(digest_of(data * 64)).encode(), 64 << 20))
    for _ in range(64):
        child.stdin.write(data)
    child.stdin.flush()
    status = Path(f"/proc/{child.pid}/status").read_text()
    peak_kib = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    _, stderr = child.communicate(END)
    assert child.returncode == 4 and b"neither index.json" in stderr, stderr
    assert peak_kib < 50 * 1024
    nothing_of(far)
