# SPDX-License-Identifier: ISC
"""Images carried to a cache that no line leads to: export, import, deltas and parts."""

import json
import os
import shutil
import subprocess
import tarfile
import threading

import pytest

from lib import image
from lib.bundle import (ALONE, carry, export, have, import_, keys, listing, pull_all, tar_bytes,
                        wait_recorded)
from lib.clients import check_dir, run
from lib.hub import Hub, error
from lib.image import ACCEPT
from lib.paths import HUB, MCR, blob, manifest
from lib.pusher import EVERYBODY, Pusher
from lib.wait import until
from lib.windows import FOREIGN, foreign_layer, layer, servercore, windows_image

MIB = 1 << 20


@pytest.fixture
def near(hub, cachalot):
    """The side that has a line to the registries."""
    return cachalot({HUB: hub.url, MCR: hub.url}, EVERYBODY, name="near")


@pytest.fixture
def far(cachalot, tmp_path):
    """The other side: no upstream is asked for anything."""
    return cachalot({HUB: "http://127.0.0.1:9", MCR: "http://127.0.0.1:9"},
                    {**EVERYBODY, "cache": {"offline": "yes"}}, name="far",
                    cache=tmp_path / "far-cache")


@pytest.fixture
def item(hub, near):
    """An image that the near side holds."""
    made = hub.hold(image.image("bundle", (300_000, 40_000)), "library/app", "1")
    pull_all(near, made, "library/app", "1")
    return made


def check_pulls(daemon, item, repository, tag, registry=HUB):
    """It is there by name and by digest, byte for byte."""
    answer = daemon.get(manifest(repository, tag, registry), fields=ACCEPT)
    assert answer.status == 200 and answer.body == item.data, answer
    for each in item.all_manifests():
        assert daemon.get(manifest(repository, each.digest, registry),
                          fields=ACCEPT).body == each.data
    for each in item.all_blobs():
        assert daemon.get(blob(repository, each.digest, registry)).body == each.data


# --- across ---

def test_across(near, far, item, hub, tmp_path):
    """A file is carried across; there the same name pulls the same bytes by every door, with
    no upstream at all, and no restart."""
    bundle = tmp_path / "bundle.tar"
    done = export(near, "-o", bundle, "docker.io/library/app:1")
    assert "1 image, 4 blobs" in done.stdout
    said = json.loads(import_(far, bundle, "--format", "json").stdout)
    assert said["images"] == [{"reference": "docker.io/library/app:1", "digest": item.digest,
                               "sparse": False, "referrer": False}]
    assert said["blobs"] == said["added_blobs"] == 4
    before = hub.count()
    check_pulls(far, item, "library/app", "1")
    for path, mirror in ((f"/v2/library/app/manifests/1?ns={HUB}", False),
                         ("/v2/library/app/manifests/1", True)):
        answer = far.get(path, fields=ACCEPT, mirror=mirror)
        assert answer.status == 200 and answer.body == item.data, answer
    assert hub.count() == before
    assert "docker.io/library/app:1" in far.command("ls").stdout


def test_form(near, item, tmp_path):
    """The file is an image layout in a plain tar: the texts first, then manifests, then the
    blobs, and the sums of all; two exports are the same bytes."""
    one, two = tmp_path / "1.tar", tmp_path / "2.tar"
    export(near, "-o", one, "library/app:1")
    export(near, "-o", two, "docker.io/library/app:1")
    assert one.read_bytes() == two.read_bytes()
    names = listing(one)
    assert names[:4] == ["oci-layout", "index.json", "cachalot-bundle", "manifest.json"]
    assert names[4] == f"blobs/sha256/{item.digest[7:]}" and names[-1] == "SHA256SUMS"
    with tarfile.open(one) as tar:
        described, = json.load(tar.extractfile("index.json"))["manifests"]
        single, = json.load(tar.extractfile("manifest.json"))
        tar.extractall(tmp_path / "out")
        assert all(m.isreg() and m.uid == m.gid == m.mtime == 0 for m in tar.getmembers())
    name = "docker.io/library/app:1"
    assert set(described["annotations"].values()) == {name}
    assert described["digest"] == item.digest and single["RepoTags"] == [name]
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
                   cwd=tmp_path / "out", check=True)


def test_pipe(near, far, item, tmp_path):
    """Through a pipe, with nothing on the disk between."""
    sender = subprocess.Popen(near.command_line("export", "-o", "-", "library/app:1"),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    receiver = subprocess.run(far.command_line("import", "-"), stdin=sender.stdout,
                              capture_output=True, text=True, timeout=60, check=False)
    sender.stdout.close()
    assert sender.wait(30) == 0 and receiver.returncode == 0, (sender.stderr.read(), receiver)
    check_pulls(far, item, "library/app", "1")


def test_without_daemons(near, far, item, tmp_path):
    """Both work without their daemons; what was imported is there when one starts."""
    near.stop()
    far.stop()
    carry(near, far, tmp_path / "bundle.tar", "library/app:1")
    far.start()
    check_pulls(far, item, "library/app", "1")
    index = json.loads((far.cache / "index.json").read_text())
    assert [m["digest"] for m in index["manifests"]] == [item.digest]


def test_again(near, far, item, tmp_path):
    """A second import of the same file changes nothing."""
    bundle = tmp_path / "bundle.tar"
    carry(near, far, bundle, "library/app:1")
    said = json.loads(import_(far, bundle, "--format", "json").stdout)
    assert said["blobs"] == 4 and said["added_blobs"] == said["added_bytes"] == 0
    check_pulls(far, item, "library/app", "1")


def test_local(near, far, hub, tmp_path):
    """A pushed image arrives as a local one, and its layers are not visible elsewhere."""
    item = image.push(near.address, image.image("pushed", (5000,)), "team/app", "1")
    carry(near, far, tmp_path / "bundle.tar", "team/app:1")
    answer = far.get("/v2/team/app/manifests/1", fields=ACCEPT)
    assert answer.status == 200 and answer.body == item.data
    digest = item.layers[0].digest
    assert far.get(f"/v2/team/app/blobs/{digest}").body == item.layers[0].data
    assert far.get(f"/v2/team/other/blobs/{digest}").status == 404


def test_by_digest(near, far, item, tmp_path):
    """An image that is named by its digest arrives without a tag."""
    carry(near, far, tmp_path / "bundle.tar", f"docker.io/library/app@{item.digest}")
    assert far.get(manifest("library/app", item.digest), fields=ACCEPT).body == item.data
    assert far.get(manifest("library/app", "1"), fields=ACCEPT).status == 504


# --- what is held ---

@pytest.fixture
def multi(hub, near):
    """An index with two platforms, of which one is held."""
    amd64, arm64 = (image.image(f"multi-{a}", (9000,), architecture=a)
                    for a in ("amd64", "arm64"))
    made = hub.hold(image.index([amd64, arm64]), "library/multi", "1")
    near.get(manifest("library/multi", "1"), fields=ACCEPT)
    pull_all(near, amd64, "library/multi", amd64.digest)
    return made


def test_missing(near, multi, tmp_path):
    """What is not held is said, and how to get it; no file is written."""
    bundle = tmp_path / "bundle.tar"
    done = near.command("export", "-o", bundle, "library/multi:1")
    assert done.returncode == 5 and not list(tmp_path.glob("bundle.tar*")), done
    arm64 = multi.children[1]
    assert arm64.digest in done.stderr and "linux/arm64" in done.stderr
    assert "cachalot fetch" in done.stderr and "--platform held" in done.stderr
    done = near.command("export", "--format", "json", "-o", bundle, "library/multi:1")
    missing, = json.loads(done.stdout)["missing"]
    assert missing["digest"] == arm64.digest and missing["platform"] == "linux/arm64"


@pytest.mark.parametrize("platform", ["linux/amd64", "held", "linux/amd64/"])
def test_platform(near, far, multi, platform, tmp_path):
    """One platform of an index: the index keeps its bytes, and is marked as sparse."""
    bundle = tmp_path / "bundle.tar"
    done = near.command("export", "-o", bundle, "--platform", platform, "library/multi:1")
    if platform.endswith("/"):
        assert done.returncode == 2 and "os/arch" in done.stderr, done
        return
    assert done.returncode == 0, done
    said = json.loads(import_(far, bundle, "--format", "json").stdout)
    assert said["images"][0]["sparse"] and said["images"][0]["digest"] == multi.digest
    assert far.get(manifest("library/multi", "1"), fields=ACCEPT).body == multi.data
    amd64, arm64 = multi.children
    assert far.get(blob("library/multi", amd64.layers[0].digest)).body == amd64.layers[0].data
    assert far.get(manifest("library/multi", arm64.digest), fields=ACCEPT).status == 504
    assert near.command("export", "-o", bundle, "--platform", "linux/s390x",
                        "library/multi:1").returncode == 5


def test_all(near, far, item, multi, hub, tmp_path):
    """--all takes what is held whole, and says what it leaves out."""
    part = hub.hold(image.image("part", (700,)), "library/part", "1")
    near.get(manifest("library/part", "1"), fields=ACCEPT)
    bundle = tmp_path / "bundle.tar"
    done = near.command("export", "-o", bundle, "--all")
    assert done.returncode == 3 and "library/part:1 is left out" in done.stderr, done
    import_(far, bundle)
    check_pulls(far, item, "library/app", "1")
    assert far.get(manifest("library/multi", "1"), fields=ACCEPT).body == multi.data
    assert far.get(manifest("library/part", "1"), fields=ACCEPT).status == 504
    assert part.digest not in far.stored()


def test_list(near, far, item, tmp_path):
    """References from a file, with comments."""
    names = tmp_path / "list"
    names.write_text("# base\r\n\n \t\n  docker.io/library/app:1  # the app\r\n")
    done = near.command("export", "-o", tmp_path / "b.tar", "-f", names)
    assert done.returncode == 0, done
    for text, words in (("# two\n\nlibrary/app:1 library/app:2\n", f"line 3 of {names}"),
                        ("library/app:1\n\0library/app:2\n", "NUL"),
                        ("library/app:1\rlibrary/app:2", "line 1"), ("library/APP", "reference")):
        names.write_text(text)
        done = near.command("export", "-o", tmp_path / "c.tar", "-f", names)
        assert done.returncode == 2 and words in done.stderr, (text, done)
    assert not list(tmp_path.glob("c.tar*"))
    assert near.command("export", "-o", tmp_path / "c.tar").returncode == 2
    done = near.command("export", "-o", tmp_path / "c.tar", "library/app:none")
    assert done.returncode == 5 and "app:none" in done.stderr, done


def test_named_twice(near, item, tmp_path):
    """However often an image is named, and however it is written, it is there once."""
    (tmp_path / "list").write_text("library/app:1\nlibrary/app:1\n")
    one, two = tmp_path / "1.tar", tmp_path / "2.tar"
    export(near, "-o", one, "library/app:1")
    done = export(near, "-o", two, "library/app:1", "docker.io/library/app:1", "-f",
                  tmp_path / "list")
    assert done.stdout.startswith("1 image, ") and one.read_bytes() == two.read_bytes()


def test_damaged_blob(near, item, tmp_path):
    """A blob that rots on the disk is found out here, not at the far side."""
    path = near.blob_path(item.layers[0].digest)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    done = near.command("export", "-o", tmp_path / "b.tar", "library/app:1")
    assert done.returncode == 4 and item.layers[0].digest in done.stderr, done
    assert not list(tmp_path.glob("b.tar*"))
    path.unlink()
    done = near.command("export", "-o", tmp_path / "b.tar", "library/app:1")
    assert done.returncode == 5 and item.layers[0].digest in done.stderr, done


def test_foreign_layers(near, far, hub, tmp_path):
    """Layers that registries do not have are carried, and pulled there without their urls."""
    data = image.noise(60_000, "foreign")
    base = foreign_layer(data, [f"{hub.url}/foreign/base"])
    assert base.media_type == FOREIGN
    made = hub.hold(windows_image([base, layer(9000, "app")], "10.0.17763.1"), "windows/old", "1")
    pull_all(near, made, "windows/old", "1", MCR)
    carry(near, far, tmp_path / "b.tar", "mcr.microsoft.com/windows/old:1")
    check_pulls(far, made, "windows/old", "1", MCR)


# --- deltas ---

def months():
    """Two months of Server Core: the base layer stays, the delta is new."""
    base = layer(2 * MIB, "base")
    return [windows_image([base, layer(MIB // 2, f"delta-{n}")], f"10.0.20348.{n}")
            for n in (2700, 2849)]


def test_patch_tuesday(near, far, hub, tmp_path):
    """The second bundle rests on the receiver's receipt: it holds the new layer and the
    manifests, and no more."""
    first, second = months()
    name = "mcr.microsoft.com/windows/servercore:ltsc2022"
    one, two = servercore(first), servercore(second)
    hub.hold(one, "windows/servercore", "ltsc2022")
    pull_all(near, one, "windows/servercore", "ltsc2022", MCR)
    carry(near, far, tmp_path / "1.tar", name)
    receipt = have(far, tmp_path / "far.receipt")
    hub.hold(two, "windows/servercore", "ltsc2022")
    near.sections[f"upstream {MCR}"]["tag-ttl"] = "0s"
    near.write_config()
    near.hup()
    pull_all(near, two, "windows/servercore", "ltsc2022", MCR)
    done = export(near, "--have", receipt, "-o", tmp_path / "2.tar", name, "--format", "json")
    said = json.loads(done.stdout)
    assert said["spared_blobs"] == 1 and said["spared_bytes"] == 2 * MIB
    config, _, delta = second.blobs
    assert {n for n in listing(tmp_path / "2.tar") if n.startswith("blobs/")} == {
        f"blobs/sha256/{x.digest[7:]}" for x in (two, second, config, delta)}
    assert "manifest.json" not in listing(tmp_path / "2.tar")
    assert (tmp_path / "2.tar").stat().st_size < len(delta.data) + 30_000
    import_(far, tmp_path / "2.tar")
    check_pulls(far, two, "windows/servercore", "ltsc2022", MCR)
    check_pulls(far, first, "windows/servercore", first.digest, MCR)


def test_lying_receipt(near, far, item, tmp_path):
    """A receipt that claims what is not there: the import says what is missing and how to
    ask for it; nothing is published. Then that is done."""
    receipt = tmp_path / "far.receipt"
    lost = item.layers[0].digest
    receipt.write_text(f"cachalot receipt 1\nmade 1774000000\n{lost}\n")
    export(near, "--have", receipt, "-o", tmp_path / "1.tar", "library/app:1")
    done = far.command("import", tmp_path / "1.tar")
    assert done.returncode == 5 and lost in done.stderr, done
    assert "have -o here.receipt" in done.stderr
    assert "export --have here.receipt -o FILE docker.io/library/app:1" in done.stderr
    assert far.stored() == set() and far.command("ls", "app").returncode == 5
    have(far, receipt, force=True)
    export(near, "--have", receipt, "-o", tmp_path / "2.tar", "library/app:1")
    import_(far, tmp_path / "2.tar")
    check_pulls(far, item, "library/app", "1")


def test_lying_receipt_for_some_platforms(near, far, multi, tmp_path):
    """What is said to be done is right for a sender that has some platforms alone."""
    receipt = tmp_path / "here.receipt"
    lost = multi.children[0].layers[0].digest
    receipt.write_text(f"cachalot receipt 1\nmade 1774000000\n{lost}\n")
    near.command("export", "--have", receipt, "-o", tmp_path / "1.tar", "-p", "linux/amd64",
                 "library/multi:1")
    done = far.command("import", tmp_path / "1.tar")
    assert done.returncode == 5 and lost in done.stderr, done
    told = done.stderr.splitlines()[-1].replace("FILE", "2.tar").split()
    have(far, receipt, force=True)
    done = subprocess.run(near.command_line(*told[1:]), cwd=tmp_path, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, (told, done)
    import_(far, tmp_path / "2.tar")
    assert far.get(blob("library/multi", lost)).status == 200


def test_no_receipt(near, item, tmp_path):
    """What is no receipt is said to be none."""
    for text in ("", "cachalot receipt 2\nmade 1\n", "cachalot receipt 1\nmade 1\nsha256:00\n",
                 "cachalot receipt 1\nmade 1\n" + "sha256:" + "0" * 64):
        (tmp_path / "r").write_text(text)
        done = near.command("export", "--have", tmp_path / "r", "-o", tmp_path / "b.tar",
                            "library/app:1")
        assert done.returncode == 1 and "no receipt" in done.stderr, (text, done)


# --- parts ---

@pytest.fixture
def large(hub, near):
    """An image whose largest layer is larger than a part."""
    made = hub.hold(image.image("large", (5 * MIB, 300_000, 700_000)), "library/large", "1")
    pull_all(near, made, "library/large", "1")
    return made


@pytest.fixture
def parts(near, large, item, tmp_path):
    folder = tmp_path / "parts"
    export(near, "-o", f"{folder}/", "--part-size", "2MiB", "library/large:1", "library/app:1")
    return sorted(folder.iterdir())


def test_parts(far, parts, large, item):
    """Parts are no larger than asked, each is verified alone, and together they are the
    whole."""
    assert len(parts) == 4 and all(p.stat().st_size <= 2 * MIB for p in parts)
    for each in parts:
        done = far.command("import", "--verify-only", each)
        assert done.returncode == 0, done
    assert far.stored() == set()
    import_(far, parts[0].parent)
    check_pulls(far, large, "library/large", "1")
    check_pulls(far, item, "library/app", "1")


def test_part_sums(parts, tmp_path):
    """Each part has the sums of its entries, for who has nothing but sha256sum."""
    for each in parts:
        out = tmp_path / each.stem
        with tarfile.open(each) as tar:
            tar.extractall(out)
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=out,
                       check=True)


def test_lost_part(near, far, parts, large):
    """A part that is lost is named; any other is enough to make it again, byte for byte,
    and what was verified of the others is not written twice."""
    lost = parts[1].read_bytes()
    parts[1].unlink()
    done = far.command("import", parts[0].parent)
    assert done.returncode == 5 and "part 2 of 4" in done.stderr and "--like" in done.stderr, done
    assert far.stored() == set()
    done = near.command("export", "--like", parts[3], "--part", "2", "-o", parts[1])
    assert done.returncode == 0 and parts[1].read_bytes() == lost, done
    import_(far, parts[0].parent)
    check_pulls(far, large, "library/large", "1")
    near.command("rm", "library/large:1")
    until("its bytes are gone", lambda: not near.holds(large.layers[0].digest))
    done = near.command("export", "--like", parts[3], "--part", "2", "-o", parts[1])
    assert done.returncode == 5 and "not held" in done.stderr, done


def test_parts_one_after_another(near, far, parts, large):
    """Parts on standard input are none: they are given together."""
    with open(parts[0], "rb") as f:
        done = subprocess.run(far.command_line("import", "-"), stdin=f, capture_output=True,
                              text=True, timeout=60, check=False)
    assert done.returncode == 5 and "part 2 of 4 is missing" in done.stderr, done
    assert far.stored() == set() and far.partials()
    import_(far, *reversed(parts))
    check_pulls(far, large, "library/large", "1")
    assert [p.name for p in far.partials()] == ["import-lock"]


def test_swapped_parts(near, far, parts, item, tmp_path):
    """A part of another bundle, or one twice, is refused."""
    other = tmp_path / "other"
    export(near, "-o", f"{other}/", "--part-size", "2MiB", "library/large:1")
    foreign = sorted(other.iterdir())
    parts[1].unlink()
    shutil.copy(foreign[1], parts[1])
    done = far.command("import", parts[0].parent)
    assert done.returncode == 5 and "missing" in done.stderr, done
    shutil.copy(parts[0], parts[1])
    done = far.command("import", parts[0].parent)
    assert done.returncode == 2 and "same part" in done.stderr, done
    assert far.stored() == set()


def test_swapped_contents(far, parts):
    """A part whose record says another number than its contents: refused."""
    data = parts[1].read_bytes()
    parts[1].write_bytes(tar_bytes(
        [(n, d.replace(b"part 0002 of", b"part 0003 of") if n == "cachalot-bundle" else d)
         for n, d in entries(parts[1])]))
    done = far.command("import", "--verify-only", parts[1])
    assert done.returncode == 4, done
    parts[2].unlink()
    done = far.command("import", parts[0].parent)
    assert done.returncode != 0 and far.stored() == set(), done
    parts[1].write_bytes(data)


def entries(path):
    with tarfile.open(path) as tar:
        return [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]


def test_folder_in_use(near, parts, item):
    """Two bundles in one folder are not made; a part without a folder is not, either."""
    done = near.command("export", "-o", parts[0].parent, "library/app:1")
    assert done.returncode == 1 and "parts of a bundle already" in done.stderr, done
    done = near.command("export", "-o", parts[0].parent / "x.tar", "--part-size", "2MiB",
                        "library/large:1")
    assert done.returncode == 2 and "-o DIR/" in done.stderr, done
    for size in ("0", "12 elephants", "10KiB"):
        done = near.command("export", "-o", parts[0].parent / "x/", "--part-size", size,
                            "library/large:1")
        assert done.returncode == 2 and "--part-size" in done.stderr or "4095MiB" in done.stderr


# --- signatures ---

def test_signed(near, far, item, tmp_path):
    """A signed bundle is taken with the right key alone; openssl agrees about it."""
    private, public = keys(tmp_path, "here")
    _, wrong = keys(tmp_path, "there")
    bundle, bare = tmp_path / "signed.tar", tmp_path / "bare.tar"
    export(near, "--sign", private, "-o", bundle, "library/app:1")
    export(near, "-o", bare, "library/app:1")
    for path, key, words in ((bundle, wrong, "not signed with"), (bare, public, "not signed")):
        done = far.command("import", "--verify", key, path)
        assert done.returncode == 4 and words in done.stderr, done
    assert far.stored() == set()
    import_(far, "--verify", public, bundle)
    check_pulls(far, item, "library/app", "1")
    with tarfile.open(bundle) as tar:
        tar.extractall(tmp_path / "out")
    subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in",
                    "index.json", "-sigfile", "index.json.sig"], cwd=tmp_path / "out", check=True,
                   capture_output=True)


def test_require_signature(near, far, item, tmp_path):
    """require-signature in the settings: nobody imports without it, whatever he says."""
    private, public = keys(tmp_path, "here")
    _, wrong = keys(tmp_path, "there")
    far.sections["cache"]["require-signature"] = public
    far.write_config()
    far.hup()
    export(near, "-o", tmp_path / "bare.tar", "library/app:1")
    export(near, "--sign", private, "-o", tmp_path / "signed.tar", "library/app:1")
    assert far.command("import", tmp_path / "bare.tar").returncode == 4
    done = far.command("import", "--verify", wrong, tmp_path / "signed.tar")
    assert done.returncode == 2 and "require-signature" in done.stderr, done
    import_(far, tmp_path / "signed.tar")


def test_signed_receipt(near, far, item, tmp_path):
    """So with receipts, whose signature is over all of their lines."""
    private, public = keys(tmp_path, "far")
    receipt = tmp_path / "r"
    carry(near, far, tmp_path / "b.tar", "library/app:1")
    have(far, receipt, "--sign", private)
    arguments = ("export", "--have", receipt, "--verify", public, "-o", tmp_path / "d.tar",
                 "library/app:1")
    assert near.command(*arguments).returncode == 0
    lines = receipt.read_text().splitlines(keepends=True)
    receipt.write_text("".join(lines[:2] + lines[3:]))
    done = near.command(*arguments)
    assert done.returncode == 4 and "not signed" in done.stderr, done
    receipt.write_text("".join(lines[:-1]))
    assert near.command(*arguments).returncode == 4


def test_wrong_keys(near, far, item, tmp_path):
    """Keys that are none, or of another kind."""
    export(near, "-o", tmp_path / "b.tar", "library/app:1")
    (tmp_path / "none.pem").write_text("no key\n")
    rsa = tmp_path / "rsa.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "rsa", "-out", rsa], check=True,
                   capture_output=True)
    for key in (tmp_path / "none.pem", rsa):
        done = near.command("export", "--sign", key, "-o", tmp_path / "c.tar", "library/app:1")
        assert done.returncode == 2 and "Ed25519" in done.stderr, done
        done = far.command("import", "--verify", key, tmp_path / "b.tar")
        assert done.returncode == 2 and "Ed25519" in done.stderr, done


# --- private content ---

class CredentialHub(Hub):
    """It answers those alone who have the credential."""

    def answer(self, request, f):
        if request.fields.get("authorization") == SECRET[0][1]:
            return super().answer(request, f)
        refusal = error(401, "UNAUTHORIZED")
        refusal.fields.append(("WWW-Authenticate", 'Basic realm="hub"'))
        return refusal


SECRET = [("Authorization", "Basic YWxpY2U6c2VjcmV0")]


def test_private(closing, cachalot, far, tmp_path):
    """Who exports what is private is told so: there it is for everybody."""
    upstream = closing(CredentialHub())
    near = cachalot({HUB: upstream.url}, name="near")
    made = upstream.hold(image.image("private", (4000,)), "acme/private", "1")
    for path in (manifest("acme/private", "1"), *(blob("acme/private", b.digest)
                                                  for b in made.blobs)):
        assert near.get(path, fields=[*ACCEPT, *SECRET]).status == 200
    wait_recorded(near, made)
    done = export(near, "-o", tmp_path / "b.tar", "acme/private:1")
    assert "docker.io/acme/private:1 is private" in done.stderr
    import_(far, tmp_path / "b.tar")
    check_pulls(far, made, "acme/private", "1")


def test_private_at_the_receiver(closing, cachalot, near, item, tmp_path):
    """A repository that the receiver knows to be private stays so: an import of the same
    name opens it to nobody."""
    upstream = closing(CredentialHub())
    there = cachalot({HUB: upstream.url}, name="far", cache=tmp_path / "far-cache")
    other = upstream.hold(image.image("other", (4000,)), "library/app", "1")
    assert there.get(manifest("library/app", "1"), fields=[*ACCEPT, *SECRET]).status == 200
    wait_recorded(there, image.Manifest(other.media_type, other.data))
    carry(near, there, tmp_path / "b.tar", "library/app:1")
    for path in (manifest("library/app", item.digest), blob("library/app", item.layers[0].digest)):
        assert there.get(path, fields=ACCEPT).status == 401


# --- what is missing is fetched ---

def test_fetch(near, far, hub, tmp_path):
    """--fetch has the daemon bring what is missing; without a daemon it says so."""
    made = hub.hold(image.index([image.image(f"fetch-{a}", (9000,), architecture=a)
                                 for a in ("amd64", "arm64")]), "library/fetched", "1")
    amd64, arm64 = made.children
    # The list comes through a pipe.
    hub.hold(image.image("piped", (90,)), "library/piped", "1")
    done = subprocess.run(near.command_line("export", "--fetch", "-o", tmp_path / "p.tar", "-f",
                                            "-"), input="library/piped:1", capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0 and "1 image" in done.stdout, done
    arguments = ("--fetch", "-o", tmp_path / "b.tar", "docker.io/library/fetched:1")
    export(near, *arguments, "--platform", "linux/amd64")
    assert hub.count("GET", arm64.layers[0].digest) == 0
    import_(far, tmp_path / "b.tar")
    assert far.get(blob("library/fetched", amd64.layers[0].digest)).body == amd64.layers[0].data
    near.stop()
    done = near.command("export", *arguments)
    assert done.returncode == 1 and "cachalotd" in done.stderr, done
    near.start()
    export(near, *arguments)
    import_(far, tmp_path / "b.tar")
    check_pulls(far, made, "library/fetched", "1")
    assert hub.count("GET", amd64.layers[0].digest) == 1


def test_fetch_of_a_tag_that_moved(near, far, hub, item, tmp_path):
    """--fetch carries what the tag leads to now, though all of an older image is held; when
    the upstream cannot be asked that is said, and the old one is not carried instead."""
    name = "docker.io/library/app:1"
    carry(near, far, tmp_path / "1.tar", name)
    receipt = have(far, tmp_path / "site.receipt")
    new = hub.hold(image.image("bundle-2", (300_000, 50_000)), "library/app", "1")
    arguments = ("-o", tmp_path / "2.tar", "--have", receipt, "--fetch", name)
    hub.fault("/manifests/1", status=503)
    done = near.command("export", *arguments)
    assert done.returncode == 1 and "503" in done.stderr and "--fetch" in done.stderr, done
    assert not list(tmp_path.glob("2.tar*"))
    hub.heal()
    export(near, *arguments)
    import_(far, tmp_path / "2.tar")
    check_pulls(far, new, "library/app", "1")


# --- the air gap ---

@pytest.mark.clients
def test_air_gap(near, item, cachalot, tmp_path):
    """The far side has no network but its own loopback; a file is all that comes across.
    skopeo there pulls the image by its name."""
    far = cachalot({}, {"cache": {"offline": "yes"}}, start=False, name="far",
                   cache=tmp_path / "far-cache")
    far.launch(wrap=ALONE)
    until("the far daemon answers", lambda: far.command("status", "-q").returncode == 0)
    with pytest.raises(OSError):
        far.get("/v2/", timeout=2)
    carry(near, far, tmp_path / "b.tar", "library/app:1")
    inside = ["nsenter", f"--net=/proc/{far.child.pid}/ns/net"]
    out = tmp_path / "out"
    run([*inside, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false",
         "docker://%s:%d/docker.io/library/app:1" % far.address, f"dir:{out}"])
    check_dir(out, item)
    assert far.child.poll() is None
    far.stop()


def test_ownership(near, far, item, tmp_path):
    """What root imports into the cache of another user belongs to that user: the daemon can
    read it."""
    owner = 65534
    near.stop()
    far.stop()
    for path in (far.cache, *far.cache.rglob("*")):
        os.chown(path, owner, owner)
    (far.cache / "db/lock.mdb").unlink()
    carry(near, far, tmp_path / "b.tar", "library/app:1")
    made = list(far.cache.rglob("*"))
    assert far.holds(item.digest) and (far.cache / "db/lock.mdb") in made
    assert {(p.stat().st_uid, p.stat().st_gid) for p in made} == {(owner, owner)}
    for path in (far.cache, *made):
        os.chown(path, os.getuid(), os.getgid())
    far.start()
    check_pulls(far, item, "library/app", "1")


def test_export_meanwhile(near, tmp_path):
    """Exports while images are pushed under the same tag, and taken away: each is of one
    moment, and whole; skopeo reads it."""
    pusher = Pusher(near.address, "team/app")
    items = [image.image(f"meanwhile-{n}", (60_000,)) for n in range(4)]
    pusher.push(items[0], "1")
    ended = threading.Event()

    def move():
        """On and on."""
        while not ended.is_set():
            for item in items:
                pusher.push(item, "1")
                near.command("gc", "--now")

    thread = threading.Thread(target=move)
    thread.start()
    try:
        for n in range(8):
            bundle = tmp_path / f"{n}.tar"
            export(near, "-o", bundle, "team/app:1")
            said = json.loads(import_(near, "--verify-only", bundle, "--format", "json").stdout)
            found, = (x for x in items if x.digest == said["images"][0]["digest"])
            assert f"blobs/sha256/{found.layers[0].digest[7:]}" in listing(bundle)
            run(["skopeo", "--insecure-policy", "copy", f"oci-archive:{bundle}:team/app:1",
                 f"dir:{tmp_path}/{n}"])
            check_dir(tmp_path / str(n), found)
    finally:
        ended.set()
        thread.join()


# --- looks ---

def test_progress(near, large, tmp_path):
    """Bars are for terminals alone: there is nothing on a pipe, nor with -q or JSON."""
    done = export(near, "-o", tmp_path / "b.tar", "library/large:1")
    assert done.stderr == "" and done.stdout.count("\n") == 1
    done = near.command("-q", "export", "-o", tmp_path / "b.tar", "library/large:1")
    assert done.returncode == 0 and done.stdout == done.stderr == ""
    seen = on_terminal(near.command_line("export", "-o", tmp_path / "b.tar", "library/large:1"))
    assert "1 image, 5 blobs" in seen and "\x1b" not in seen


def on_terminal(command):
    """What a command writes to a terminal of 80 columns."""
    master, slave = os.openpty()
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            got = os.read(master, 4096)
        except OSError:
            break
        if not got:
            break
        seen += got
    os.close(master)
    assert child.wait(30) == 0, seen
    return seen.decode()


def test_usage(near, item, tmp_path):
    """Usage errors are 2, and say what to do."""
    for arguments, words in (
            (["export", "library/app:1"], "-o FILE"), (["export", "-o", tmp_path / "b"], "--all"),
            (["export", "-o", tmp_path / "b", "--all", "library/app:1"], "--all"),
            (["export", "-o", tmp_path / "b", "UPPER/x"], "reference"),
            (["export", "-o"], "argument"), (["export", "--nonsense"], "help export"),
            (["export", "--like", tmp_path / "b", "-o", tmp_path / "c"], "--part"),
            (["export", "--verify", "x", "-o", tmp_path / "b", "library/app:1"], "--have"),
            (["import"], "FILE"), (["-o", "x", "export"], "no option -o")):
        done = near.command(*arguments)
        assert done.returncode == 2 and words in done.stderr, done
    for arguments in (["import", tmp_path / "none.tar"], ["import", tmp_path]):
        done = near.command(*arguments)
        assert done.returncode in (4, 5) and "name" in done.stderr, done
    none = tmp_path / "none"
    for arguments in (["-f", none, "-o", tmp_path / "b"], ["-o", f"{none}/a/", "library/app:1"],
                      ["--sign", none, "-o", tmp_path / "b", "library/app:1"]):
        done = near.command("export", *arguments)
        assert done.returncode == 1 and "; name a" in done.stderr, done
    done = near.command("import", "--as", "../x", tmp_path / "none.tar")
    assert done.returncode == 2 and "--as ../x" in done.stderr, done
    image.push(near.address, image.image("usage", (50,)), "team/app", "1")
    export(near, "-o", none, "library/app:1", "team/app:1")
    done = near.command("import", "--as", "team/x", none)
    assert done.returncode == 2 and "several images" in done.stderr, done
    assert not list(tmp_path.glob("b*"))
