# SPDX-License-Identifier: ISC
"""What users live through, with their own programs and a real registry."""

import json

import pytest

from lib import image
from lib.clients import Containerd, Dockerd, Podman, Skopeo, check_dir
from lib.image import ACCEPT
from lib.paths import HUB, MCR, blob, manifest

pytestmark = pytest.mark.clients


def host(address):
    return "%s:%d" % address


def url(address):
    return f"http://{host(address)}"


class Machines:
    """Four machines, each with its own kind of client, none with anything in store."""

    def __init__(self, directory, daemon, closing):
        directory.mkdir()
        self.daemon = daemon
        self.skopeo = Skopeo(directory)
        self.podman = closing(Podman(directory, HUB, f"{host(daemon.address)}/{HUB}"))
        self.containerd = closing(Containerd(directory))
        self.containerd.use(HUB, url(daemon.address))
        self.dockerd = closing(Dockerd(directory, self.containerd, url(daemon.mirror)))

    def pull(self, name, item):
        """Each pulls the image by its door, and has it with its digest."""
        self.dockerd.pull(name)
        assert self.dockerd.image_id(name) == item.blobs[0].digest
        check_dir(self.skopeo.copy(f"{host(self.daemon.address)}/{HUB}/{name}"), item)
        self.podman.pull(f"{HUB}/{name}")
        assert self.podman.digest(f"{HUB}/{name}") == item.digest
        self.containerd.pull(f"{HUB}/{name}")
        assert self.containerd.digest(f"{HUB}/{name}") == item.digest


@pytest.mark.parametrize("types", [image.OCI, image.DOCKER], ids=["oci", "docker"])
def test_one_copy_for_all_doors(registry, cachalot, closing, tmp_path, types):
    """Docker pulls an image through the mirror, skopeo and podman by the prefix,
    containerd with ns: one manifest and one copy of each blob cross for all four, and
    the registry is asked for the tag once."""
    item = registry.push(image.image("story1", types=types), "dockeronwindows/ch02", "2e")
    daemon = cachalot({HUB: registry.url})
    Machines(tmp_path / "first", daemon, closing).pull("dockeronwindows/ch02:2e", item)

    assert registry.count("GET", "/manifests/") == 1
    assert registry.count("HEAD", "/manifests/") <= 1
    for each in item.all_blobs():
        assert registry.count("GET", each.digest) == 1
    assert registry.count(where="/blobs/") == len(item.all_blobs())


def test_second_pull_costs_nothing(registry, cachalot, closing, tmp_path):
    """Four new machines pull what four others have pulled: nothing crosses, the
    registry sees no request at all, and once more with the registry off."""
    item = registry.push(image.image("again", types=image.DOCKER), "library/app", "1")
    daemon = cachalot({HUB: {"url": registry.url, "tag-ttl": "1h"}})
    Machines(tmp_path / "first", daemon, closing).pull("library/app:1", item)
    daemon.wait_idle()
    registry.forget()

    Machines(tmp_path / "second", daemon, closing).pull("library/app:1", item)
    assert registry.count() == 0
    registry.stop()
    Machines(tmp_path / "third", daemon, closing).pull("library/app:1", item)


def test_short_name_is_library(registry, cachalot, closing, tmp_path):
    """`docker pull alpine` through the mirror is docker.io/library/alpine by every
    other door: nothing more crosses."""
    item = registry.push(image.image("alpine", types=image.DOCKER), "library/alpine", "latest")
    daemon = cachalot({HUB: registry.url})
    containerd = closing(Containerd(tmp_path))
    dockerd = closing(Dockerd(tmp_path, containerd, url(daemon.mirror)))
    dockerd.pull("alpine")
    daemon.wait_idle()
    registry.forget()
    skopeo = Skopeo(tmp_path)
    for name in ("docker.io/library/alpine", "docker.io/alpine", "index.docker.io/alpine"):
        check_dir(skopeo.copy(f"{host(daemon.address)}/{name}:latest"), item)
    assert registry.count() == 0


def test_one_tag_many_platforms(registry, cachalot, tmp_path):
    """A tag is an index of Linux and Windows images. A Linux client and a Windows
    client (by os.version) each get theirs: the index crosses once, and of the images
    only the two that were asked for."""
    amd64 = image.image("p-amd64", types=image.DOCKER)
    arm64 = image.image("p-arm64", types=image.DOCKER, architecture="arm64")
    old = image.image("p-1809", types=image.DOCKER, os="windows", os_version="10.0.17763.6293")
    new = image.image("p-2022", types=image.DOCKER, os="windows", os_version="10.0.20348.2700")
    index = registry.push(image.index([amd64, arm64, old, new], image.DOCKER), "dotnet", "2.2")
    daemon = cachalot({MCR: registry.url})

    skopeo = Skopeo(tmp_path)
    check_dir(skopeo.copy(f"{host(daemon.address)}/{MCR}/dotnet:2.2"), amd64)

    listed = json.loads(daemon.get(manifest("dotnet", "2.2", MCR), fields=ACCEPT).body)
    chosen = next(m for m in listed["manifests"]
                  if m["platform"].get("os.version", "").startswith("10.0.20348."))
    got = daemon.get(manifest("dotnet", chosen["digest"], MCR), fields=ACCEPT)
    assert got.body == new.data
    for each in new.all_blobs():
        assert daemon.get(blob("dotnet", each.digest, MCR)).body == each.data

    again = daemon.get(manifest("dotnet", "2.2", MCR), fields=ACCEPT)
    assert again.body == index.data and again["Docker-Content-Digest"] == index.digest
    assert registry.count("GET", "/manifests/") == 3
    for each in [*amd64.all_blobs(), *new.all_blobs()]:
        assert registry.count("GET", each.digest) == 1
    for each in [*arm64.all_blobs(), *old.all_blobs()]:
        assert registry.count(where=each.digest) == 0


def test_all_platforms(registry, cachalot, tmp_path):
    """skopeo copies the whole index: every image of it crosses, each blob once."""
    linux = image.image("a-linux")
    windows = image.image("a-windows", os="windows", os_version="10.0.20348.2700")
    registry.push(image.index([linux, windows]), "library/multi", "1")
    daemon = cachalot({HUB: registry.url})
    for _ in range(2):
        Skopeo(tmp_path).copy(f"{host(daemon.address)}/{HUB}/library/multi:1", "--all")
    assert registry.count("GET", "/manifests/") == 3
    assert registry.count("GET", "/blobs/") == 6


def test_two_registries_one_layer(registry, cachalot, tmp_path):
    """The same layers under two registries: a blob that came by one name is served
    under the other, which is asked for its manifest only."""
    item = registry.push(image.image("shared"), "library/app", "1")
    registry.push(item, "copy/app", "1")
    daemon = cachalot({HUB: registry.url, "quay.io": registry.url})
    check_dir(Skopeo(tmp_path).copy(f"{host(daemon.address)}/{HUB}/library/app:1"), item)
    daemon.wait_idle()
    registry.forget()
    check_dir(Skopeo(tmp_path / "").copy(f"{host(daemon.address)}/quay.io/copy/app:1"), item)
    assert registry.count("GET", "/blobs/") == 0
