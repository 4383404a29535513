# SPDX-License-Identifier: ISC
"""What content is: every type, every size, both digests; byte for byte."""

import json

import pytest

from lib import image
from lib.image import ACCEPT, Blob, Manifest, digest_of, noise
from lib.paths import HUB, blob, manifest


@pytest.fixture
def daemon(hub, cachalot):
    return cachalot({HUB: {"url": hub.url, "retries": 1}})


@pytest.mark.parametrize("size", [0, 1, 100, 65_535, 65_536, 65_537, 524_288, 524_289, 1_048_577])
def test_sizes(hub, daemon, size):
    """Blobs around the sizes of buffers, the empty one among them: cold, then held; one
    request."""
    data = noise(size, f"size-{size}")
    path = blob("library/app", hub.hold_blob("library/app", data))
    for _ in range(2):
        got = daemon.get(path)
        assert got.status == 200 and got.complete and got.length == size and got.body == data
    assert daemon.head(path).length == size
    assert hub.count() == 1


def test_sha512(hub, daemon):
    """Blobs and manifests by sha512 digests."""
    data = noise(100_000, "sha512")
    digest = hub.hold_blob("library/app", data, "sha512")
    for _ in range(2):
        got = daemon.get(blob("library/app", digest))
        assert got.body == data and got["Docker-Content-Digest"] == digest
    item = image.image("sha512", (100,))
    name = digest_of(item.data, "sha512")
    hub.manifests["library/app", name] = (item.media_type, item.data)
    hub.fault(name, digest=name)
    for _ in range(2):
        got = daemon.get(manifest("library/app", name), fields=ACCEPT)
        assert got.status == 200 and got.body == item.data
        assert got["Docker-Content-Digest"] == name
    assert hub.count("GET") == 2
    assert daemon.holds(digest) and daemon.holds(name)


def test_wrong_sha512(hub, daemon):
    """sha512 is verified too; wrong bytes are not asked for again: one request."""
    digest = hub.hold_blob("library/app", noise(100_000, "good"), "sha512")
    hub.fault("/blobs/", body=noise(100_000, "bad"))
    got = daemon.get(blob("library/app", digest))
    assert got.status == 502 or not got.complete
    daemon.wait_idle()
    assert daemon.stored() == set()
    assert hub.count() == 1


def manifests():
    one = image.image("types", (100,))
    docker = image.image("types-d", (100,), image.DOCKER)
    windows = image.image("types-w", (100,), image.DOCKER, os="windows",
                          os_version="10.0.20348.2700")
    return {
        "oci": one,
        "docker": docker,
        "oci-index": image.index([one]),
        "docker-list": image.index([docker, windows], image.DOCKER),
        "artifact": image.artifact("types", one),
        "nested-index": image.index([image.index([one])]),
        "empty-index": image.index([]),
        "foreign": foreign(),
    }


def foreign():
    """An image as Microsoft made them until 2023: its base layer has urls."""
    base, diff_id = image.layer(500, "foreign")
    base.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    base.extra = {"urls": [f"https://mcr.microsoft.com/v2/windows/blobs/{base.digest}"]}
    config = Blob(image.DOCKER["config"], json.dumps(
        {"os": "windows", "architecture": "amd64",
         "rootfs": {"type": "layers", "diff_ids": [diff_id]}}).encode())
    document = {"schemaVersion": 2, "mediaType": image.DOCKER["manifest"],
                "config": config.descriptor(), "layers": [base.descriptor()],
                "x-unknown": {"kept": [1.0, "é", None]}}
    return Manifest(image.DOCKER["manifest"], json.dumps(document, indent=7).encode(), {},
                    [config, base])


@pytest.mark.parametrize("kind", manifests())
def test_manifest_types(hub, daemon, kind):
    """Every type of manifest, by tag and by digest: byte for byte, with its type; one
    GET."""
    item = hub.hold(manifests()[kind], "library/app", "1")
    for reference in ("1", item.digest, "1", item.digest):
        got = daemon.get(manifest("library/app", reference), fields=ACCEPT)
        assert got.status == 200 and got.body == item.data
        assert got["Content-Type"] == item.media_type
        assert got["Docker-Content-Digest"] == item.digest
    assert hub.count("GET") == 1


def sized_manifest(size):
    item = image.image("large", (100,))
    document = json.loads(item.data)
    document["annotations"] = {"filler": ""}
    empty = len(json.dumps(document))
    document["annotations"]["filler"] = "x" * (size - empty)
    data = json.dumps(document).encode()
    assert len(data) == size
    return Manifest(item.media_type, data, {}, item.blobs)


@pytest.mark.parametrize("size, status, gets", [(3_900_000, 200, 1), (4 * 1024 * 1024, 200, 1),
                                                (4 * 1024 * 1024 + 1, 502, 2)])
def test_large_manifests(hub, daemon, size, status, gets):
    """Manifests up to 4 MiB are taken, with one HEAD of the tag and one GET; larger ones are
    refused, with one GET each time."""
    item = hub.hold(sized_manifest(size), "library/app", "big")
    for reference in ("big", item.digest):
        got = daemon.get(manifest("library/app", reference), fields=ACCEPT)
        assert got.status == status, got
        assert status != 200 or got.body == item.data
    assert hub.count("HEAD") == 1 and hub.count("GET") == gets


def test_head_of_what_is_not_held(hub, daemon):
    """After the manifest, a HEAD of its layers is answered from their descriptors: the
    upstream is not asked. Another blob's HEAD is asked of the upstream, as a HEAD."""
    item = hub.hold(image.image("heads", (5000,)), "library/app", "1")
    daemon.get(manifest("library/app", "1"), fields=ACCEPT)
    hub.forget()
    for each in item.all_blobs():
        got = daemon.head(blob("library/app", each.digest))
        assert got.status == 200 and got.length == len(each.data)
        assert got["Docker-Content-Digest"] == each.digest
    assert hub.count() == 0
    data = noise(3000, "unannounced")
    got = daemon.head(blob("library/app", hub.hold_blob("library/app", data)))
    assert got.status == 200 and got.length == 3000
    assert hub.count("HEAD") == 1 and hub.count() == 1
    assert daemon.head(blob("library/app", digest_of(b"none"))).status == 404


def test_index_of_platforms_never_pulled(hub, daemon):
    """An index whose other platforms were never pulled is served from the store with
    the upstream down; those platforms are 502, not 404. Three requests: HEAD of the tag, and
    GET of the index and of the image that was pulled."""
    here = image.image("here", (100,))
    there = image.image("there", (100,), architecture="arm64")
    index = hub.hold(image.index([here, there]), "library/app", "1")
    for reference in ("1", here.digest):
        assert daemon.get(manifest("library/app", reference), fields=ACCEPT).status == 200
    daemon.wait_metric("manifests_stored_total", 2)
    hub.down()
    assert daemon.get(manifest("library/app", "1"), fields=ACCEPT).body == index.data
    assert daemon.get(manifest("library/app", here.digest), fields=ACCEPT).body == here.data
    assert daemon.get(manifest("library/app", there.digest), fields=ACCEPT).status == 502
    got = daemon.get(blob("library/app", there.layers[0].digest))
    assert got.status == 502
    assert hub.count("HEAD", "/manifests/1") == hub.count("GET", index.digest) == 1
    assert hub.count("GET", here.digest) == 1 and hub.count() == 3


def test_manifest_as_a_blob(hub, daemon):
    """A blob asked of /manifests/ and a manifest asked of /blobs/: the upstream's answer
    decides; nothing breaks."""
    item = hub.hold(image.image("cross", (100,)), "library/app", "1")
    daemon.get(manifest("library/app", "1"), fields=ACCEPT)
    assert daemon.get(blob("library/app", item.digest)).status in (200, 404)
    assert daemon.get(manifest("library/app", item.layers[0].digest)).status in (404, 502)
    assert daemon.get(blob("library/app", item.layers[0].digest)).body == item.layers[0].data
