# SPDX-License-Identifier: ISC
"""What users live through, with their own programs and a real registry."""

import json
import time

import pytest

from lib import image
from lib.bundle import ALONE, export, have, import_, succeed
from lib.clients import (Containerd, Dockerd, Podman, Skopeo, check_dir, registries_conf, run)
from lib.crowd import Crowd, together
from lib.hub import Hub
from lib.image import ACCEPT
from lib.line import Line
from lib.paths import HUB, MCR, blob, manifest
from lib.wait import until
from lib.windows import REPOSITORY, layer, servercore, windows_image

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


# --- Patch Tuesday ---

def test_patch_tuesday(registry, cachalot, tmp_path):
    """Servercore's tag moves: the base layer is last month's, the delta is new. Twenty
    machines pull at once: the line carries the delta and the small documents (index,
    manifest, config), once, and of the base nothing; every machine has the new image."""
    base = layer(3_000_000, "base")
    old = windows_image([base, layer(900_000, "october")], "10.0.20348.2762")
    new = windows_image([base, layer(1_000_000, "november")], "10.0.20348.2849")
    daemon = cachalot({MCR: {"url": registry.url, "tag-ttl": "0s"}})
    name = f"{host(daemon.address)}/{MCR}/{REPOSITORY}:ltsc2022"

    def pull(i, item):
        directory = tmp_path / f"{i}-{item.blobs[0].digest[-8:]}"
        directory.mkdir()
        check_dir(Skopeo(directory).copy(name, os="windows"), item)

    registry.push(servercore(old), REPOSITORY, "ltsc2022")
    pull("october", old)
    daemon.wait_idle()
    index = registry.push(servercore(new), REPOSITORY, "ltsc2022")

    together(20, lambda i: pull(i, new))

    config, _, delta = new.blobs
    assert registry.count("GET", "/manifests/") == 2
    assert registry.count("GET", index.digest) == registry.count("GET", new.digest) == 1
    assert registry.count("GET", "/blobs/") == 2
    assert registry.bytes_sent("/blobs/") == len(config.data) + len(delta.data)
    assert registry.count(where=base.digest) == 0
    assert 1 <= registry.count("HEAD", "/manifests/ltsc2022") <= 20


# --- the gap ---

def test_the_gap(registry, cachalot, tmp_path):
    """An inside site has never seen the internet. A bundle is carried in; a month later a delta,
    made from the receipt that was carried out, which has the new layer and the small documents
    alone. The inside machines pull by the official name, and get Microsoft's digests."""
    name = f"{MCR}/{REPOSITORY}:ltsc2022"
    base = layer(3_000_000, "base")
    months = [windows_image([base, layer(900_000 + n, f"month {n}")], f"10.0.20348.{n}")
              for n in (2762, 2849)]
    outside = cachalot({MCR: {"url": registry.url, "tag-ttl": "0s"}}, name="outside")
    inside = cachalot({}, {"cache": {"offline": "yes"}}, start=False, name="inside",
                      cache=tmp_path / "inside-cache")
    inside.launch(wrap=ALONE)
    until("the inside daemon answers", lambda: inside.command("status", "-q").returncode == 0)
    with pytest.raises(OSError):
        inside.get("/v2/", timeout=2)
    conf = registries_conf(tmp_path / "registries.conf", MCR, f"{host(inside.address)}/{MCR}")

    def pull(item, out):
        """In the site: nothing but its own network is there."""
        run(["nsenter", f"--net=/proc/{inside.child.pid}/ns/net", "skopeo", "--insecure-policy",
             "--registries-conf", conf, "--override-os", "windows", "copy", f"docker://{name}",
             f"dir:{out}"])
        check_dir(out, item)

    sizes, receipt = [], []
    for month, item in enumerate(months):
        registry.push(servercore(item), REPOSITORY, "ltsc2022")
        bundle = tmp_path / f"{month}.tar"
        succeed(outside, "fetch", name)
        export(outside, "-o", bundle, *receipt, name)
        asked = registry.count()
        import_(inside, bundle)
        pull(item, tmp_path / f"pulled-{month}")
        assert registry.count() == asked
        receipt = ["--have", have(inside, tmp_path / f"{month}.receipt")]
        sizes.append(bundle.stat().st_size)
    assert sizes[0] > len(base.data) + len(months[0].layers[1].data)
    assert sizes[1] < len(months[1].layers[1].data) + 30_000
    # The second time, that is: what a push does is not counted.
    config, _, delta = months[1].blobs
    assert registry.bytes_sent("/blobs/") == len(config.data) + len(delta.data)
    inside.stop()


# --- the cheap line ---

def test_the_cheap_line(cachalot, closing, tmp_path):
    """A line of 50 Mbit/s that drops twice, and an upstream that says 429, once to a manifest
    and once to a blob: skopeo on four machines, podman and containerd pull a new image at
    once. None of them fails; no byte is fetched twice; and it takes about as long as the
    line needs to carry the image once."""
    line = Line(drops=[2_000_000, 6_000_000], rate=50_000_000 // 8)
    upstream = closing(Hub(line=line))
    item = upstream.hold(image.image("cheap", (9_000_000, 3_000_000)), "library/app", "1")
    daemon = cachalot({HUB: {"url": upstream.url, "tag-ttl": "1h"}})
    name = f"{HUB}/library/app:1"
    upstream.fault("/manifests/", times=1, status=429, retry_after="1")
    upstream.fault(item.layers[0].digest, times=1, status=429, retry_after="1")

    def by_skopeo(i):
        directory = tmp_path / f"skopeo-{i}"
        directory.mkdir()
        check_dir(Skopeo(directory).copy(f"{host(daemon.address)}/{name}"), item)

    podman = closing(Podman(tmp_path, HUB, f"{host(daemon.address)}/{HUB}"))
    containerd = closing(Containerd(tmp_path))
    containerd.use(HUB, url(daemon.address))
    began = time.monotonic()
    crowd = Crowd().add(podman.pull, name)
    for i in range(4):
        crowd.add(by_skopeo, i)
    crowd.join()
    containerd.pull(name)
    seconds = time.monotonic() - began

    assert podman.digest(name) == containerd.digest(name) == item.digest
    assert line.dropped == 2
    assert [r.status for r in upstream.asked()].count(429) == 2
    assert sum(r.status == 200 for r in upstream.asked("GET", "/manifests/")) == 1
    size = sum(len(x.data) for x in item.all_blobs())
    assert size * 0.98 <= upstream.bytes_sent() <= size * 1.02
    assert seconds < 3 * size / line.rate + 10


# --- the upstream forgets ---

class Forgetful:
    """An image that was pulled; what becomes of its upstream; and what users see then."""

    def __init__(self, daemon, registry, tmp_path):
        self.daemon = daemon
        self.skopeo = Skopeo(tmp_path)
        self.item = registry.push(image.image("kept", types=image.DOCKER), "library/app", "1")
        self.pull()
        daemon.wait_idle()
        self.answered_at = self.upstream()["answered_at"]

    def upstream(self):
        return self.daemon.upstream_status(HUB)

    def pull(self):
        check_dir(self.skopeo.copy(f"{host(self.daemon.address)}/{HUB}/library/app:1"), self.item)

    def check_stale(self):
        """What was held is served whole, and its client is told that it is stale."""
        self.pull()
        got = self.daemon.get(manifest("library/app", "1"), fields=ACCEPT)
        assert got.status == 200 and got.body == self.item.data
        assert "stale" in got["Warning"] and "stale" in got["Cache-Status"]
        until("they are counted, as they end",
              lambda: self.daemon.status()["daemon"]["stale_answers"] >= 2)
        assert "were stale" in self.daemon.command("status").stdout

    def checked_at(self):
        """When the upstream last confirmed the tag, as `cachalot ls` tells."""
        row, = json.loads(self.daemon.command("ls", "--format", "json").stdout)
        return row["checked_at"]


@pytest.fixture
def forgetful(registry, cachalot, tmp_path):
    daemon = cachalot({HUB: {"url": registry.url, "tag-ttl": "0s", "retries": 0,
                             "stall-timeout": "1s", "connect-timeout": "1s"}})
    return Forgetful(daemon, registry, tmp_path)


def test_a_tag_that_was_deleted(registry, forgetful):
    """Its owner deletes a tag upstream: what was held under it is served, and said to be
    stale; the upstream is up for all that; `ls` tells since when nobody confirms it. Each of
    the two clients is one HEAD, and nothing else."""
    checked_at = forgetful.checked_at()
    registry.untag("library/app", "1")
    registry.forget()
    forgetful.check_stale()
    assert registry.count("HEAD", "/manifests/1") == registry.count() == 2
    assert forgetful.upstream()["reachable"]
    assert checked_at - 1 <= forgetful.checked_at() <= checked_at


def test_a_registry_that_is_down(registry, forgetful):
    """The registry is down, for longer than anything counts as fresh: what was held is
    served, from a restart on as well; `status` says that it is down, since when, why, and
    when it last answered; and that it is up again, when it is: nothing that is held is got
    again, the two clients that it answers are one HEAD each."""
    down_at = int(time.time())
    registry.forget()
    registry.stop()
    forgetful.check_stale()
    said = forgetful.upstream()
    assert said["reachable"] is False
    assert down_at <= said["changed_at"] <= said["last_failure"]["at"] <= time.time()
    assert said["last_failure"]["result"] == "upstream-refused"
    assert forgetful.answered_at <= said["answered_at"] <= said["changed_at"]
    assert "down since" in forgetful.daemon.command("status").stdout
    checked_at = forgetful.checked_at()

    forgetful.daemon.stop()
    forgetful.daemon.start()
    forgetful.check_stale()
    assert forgetful.upstream()["reachable"] is False
    assert forgetful.upstream()["answered_at"] is None
    assert forgetful.checked_at() == checked_at

    registry.start()
    until("the registry is asked again",
          lambda: forgetful.pull() is None and forgetful.upstream()["reachable"])
    assert forgetful.checked_at() > 0 and forgetful.upstream()["answered_at"] is not None
    got = forgetful.daemon.get(manifest("library/app", "1"), fields=ACCEPT)
    assert got["Warning"] is None
    assert registry.count("HEAD", "/manifests/1") == registry.count() == 2


def test_a_line_that_is_cut(cachalot, closing, tmp_path):
    """The line is cut: no answer, no refusal. One client waits for that to be seen, the
    others are served at once; `status` says since when, and why. That client's HEAD is the one
    request; while the line stays cut, another is tried after a second and more."""
    upstream = closing(Hub())
    item = upstream.hold(image.image("cut", types=image.DOCKER), "library/app", "1")
    daemon = cachalot({HUB: {"url": upstream.url, "tag-ttl": "0s", "retries": 0,
                             "stall-timeout": "1s", "connect-timeout": "1s"}})
    Skopeo(tmp_path).copy(f"{host(daemon.address)}/{HUB}/library/app:1")
    daemon.wait_idle()
    cut_at = int(time.time())
    began = time.monotonic()
    upstream.forget()
    upstream.fault("/v2/", silent=True)

    def pull(i):
        directory = tmp_path / str(i)
        directory.mkdir()
        check_dir(Skopeo(directory).copy(f"{host(daemon.address)}/{HUB}/library/app:1"), item)

    together(5, pull)
    got = daemon.get(manifest("library/app", "1"), fields=ACCEPT)
    assert "stale" in got["Warning"] and "stale" in got["Cache-Status"]
    said = daemon.upstream_status(HUB)
    assert said["reachable"] is False and cut_at <= said["changed_at"] <= time.time()
    assert said["last_failure"]["result"] == "upstream-timeout"
    assert 1 <= upstream.count("HEAD", "/manifests/1") <= time.monotonic() - began
    assert upstream.count() == upstream.count("HEAD", "/manifests/1")
