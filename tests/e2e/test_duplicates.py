# SPDX-License-Identifier: ISC
"""Not twice: a layer that a client compressed again is noticed, counted and listed; what was
pulled through cachalot and is pushed again is not sent at all."""

import gzip
import json

import pytest

from lib import image
from lib.bundle import import_, tar_bytes
from lib.cachalot import Cachalot
from lib.hub import Hub
from lib.image import ACCEPT, DOCKER, Blob, Manifest
from lib.paths import HUB, blob, manifest
from lib.pusher import EVERYBODY, Pusher
from lib.wait import until

SIZE = 300_000


@pytest.fixture
def daemon(tmp_path):
    hub = Hub()
    d = Cachalot(tmp_path, {HUB: {"url": hub.url, "retries": 0}}, EVERYBODY)
    d.hub = hub
    d.start()
    yield d
    d.close()
    hub.close()


def compressed_again(item, types=DOCKER):
    """The same image as Docker on Windows pushes it: its config, and layers with other digests."""
    config, *layers = item.blobs
    layers = [Blob(types["layer"], gzip.compress(gzip.decompress(b.data), 9, mtime=1))
              for b in layers]
    assert all(a.digest != b.digest for a, b in zip(item.layers, layers))
    document = {"schemaVersion": 2, "mediaType": types["manifest"],
                "config": config.descriptor(), "layers": [b.descriptor() for b in layers]}
    return Manifest(types["manifest"], json.dumps(document).encode(), {}, [config, *layers])


def pull(daemon, item, repository, tag):
    daemon.get(manifest(repository, tag), fields=ACCEPT)
    for each in item.all_blobs():
        assert daemon.get(blob(repository, each.digest)).body == each.data
    until("all is stored", lambda: all(daemon.holds(b.digest) for b in item.all_blobs()))


def duplicates(daemon):
    done = daemon.command("duplicates", "--format", "json")
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def test_nothing(daemon):
    """Nothing is kept twice: the command says so."""
    assert duplicates(daemon) == {"contents": [], "wasted_bytes": 0}
    done = daemon.command("duplicates")
    assert done.returncode == 0 and "Nothing" in done.stdout, done


def test_compressed_again(daemon):
    """An image is pulled through cachalot; somebody else pushes it with its layers compressed
    again. Both layers are counted, and the list names images, digests and bytes."""
    item = daemon.hub.hold(image.image("twice", (SIZE, 1000), DOCKER), "library/base", "1")
    pull(daemon, item, "library/base", "1")
    again = compressed_again(item)
    Pusher(daemon.address, "team/base").push(again, "2")
    daemon.wait_metric("duplicate_blobs_total", 2)
    wasted = sum(len(b.data) for b in again.layers)
    assert daemon.metric("duplicate_bytes_total") == wasted

    found = duplicates(daemon)
    assert found["wasted_bytes"] == wasted
    first = found["contents"][0]
    kept, other = first["blobs"]
    assert first["diff_id"] == image.digest_of(gzip.decompress(item.layers[0].data))
    assert first["wasted_bytes"] == len(again.layers[0].data)
    assert kept["digest"] == item.layers[0].digest and kept["origin"] == "pulled"
    assert kept["images"] == [f"{HUB}/library/base:1"] and not kept["repeats"]
    assert other["digest"] == again.layers[0].digest and other["origin"] == "pushed"
    assert other["images"] == ["team/base:2"] and other["repeats"]
    done = daemon.command("duplicates")
    assert "team/base:2" in done.stdout and "pulled through cachalot" in done.stdout, done
    assert max(map(len, done.stdout.split("\n\n")[1].splitlines())) < 80
    said = [json.dumps(line) for line in daemon.log_lines()]
    assert any(item.layers[0].digest in line and again.layers[0].digest in line
               and "team/base" in line for line in said), said


def test_pushed_twice(daemon):
    """Nobody pulled it: two pushes of one content are noticed all the same."""
    item = image.image("both", (SIZE,), DOCKER)
    again = compressed_again(item)
    Pusher(daemon.address, "team/one").push(item, "1")
    Pusher(daemon.address, "team/two").push(again, "1")
    daemon.wait_metric("duplicate_blobs_total", 1)
    [content] = duplicates(daemon)["contents"]
    assert {b["digest"]: b["images"] for b in content["blobs"]} == {
        item.layers[0].digest: ["team/one:1"], again.layers[0].digest: ["team/two:1"]}


def test_identity_is_kept(daemon):
    """What was pulled through cachalot, tagged and pushed: its layers are there already, under
    their own digests, and nothing is kept twice."""
    item = daemon.hub.hold(image.image("same", (SIZE,), DOCKER), "library/base", "1")
    pull(daemon, item, "library/base", "1")
    p = Pusher(daemon.address, "team/base")
    until("all is recorded", lambda: all(p.has_blob(b.digest) for b in item.blobs))
    assert p.put_manifest("1", item.data, item.media_type).status == 201
    assert duplicates(daemon)["contents"] == []
    assert daemon.metric("duplicate_blobs_total") == 0


def test_imported(daemon, tmp_path):
    """An archive brings an image whose layers are held already, compressed otherwise, and one
    whose layers are plain tars: the configs tell."""
    item = daemon.hub.hold(image.image("carried", (SIZE, 1000)), "library/base", "1")
    pull(daemon, item, "library/base", "1")
    again = compressed_again(item, image.OCI)
    plain = [gzip.decompress(b.data) for b in item.layers]
    index = {"schemaVersion": 2, "manifests": [{
        **again.descriptor(), "annotations": {"io.containerd.image.name": "quay.io/team/a:1"}}]}
    oci = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
           ("index.json", json.dumps(index).encode()),
           *((f"blobs/sha256/{x.digest[7:]}", x.data) for x in (again, *again.blobs))]
    docker = [("config.json", item.blobs[0].data),
              *((f"{n}/layer.tar", data) for n, data in enumerate(plain)),
              ("manifest.json", json.dumps([{
                  "Config": "config.json", "RepoTags": ["quay.io/team/b:1"],
                  "Layers": [f"{n}/layer.tar" for n in range(len(plain))]}]).encode())]
    for name, entries in (("oci", oci), ("docker", docker)):
        (tmp_path / name).write_bytes(tar_bytes(entries))
        import_(daemon, tmp_path / name)
    found = duplicates(daemon)
    assert {x["diff_id"] for x in found["contents"]} == {image.digest_of(x) for x in plain}
    sizes = {x.digest: len(x.data) for x in (*item.layers, *again.layers)}
    sizes.update({image.digest_of(x): len(x) for x in plain})
    assert {b["digest"] for x in found["contents"] for b in x["blobs"]} == set(sizes)
    kept = [x["blobs"][0]["digest"] for x in found["contents"]]
    assert found["wasted_bytes"] == sum(sizes.values()) - sum(sizes[x] for x in kept)
