# SPDX-License-Identifier: ISC
"""Stock clients behind the proxy: no image name changes, nothing is set but HTTPS_PROXY and the
authority to trust; the registries are what their names lead to."""

import shutil
import subprocess

import pytest

from lib import image, intercept
from lib.clients import Containerd, Dockerd, Podman, Skopeo, check_dir, run, through_proxy
from lib.image import noise
from lib.intercept import DnsDoor, Door
from lib.internet import HUB_HOST, LINKS, Internet, PublicRegistry
from lib.paths import HUB, MCR
from lib.wait import until
from lib.windows import foreign_layer, layer, servercore, windows_image

pytestmark = pytest.mark.clients

PASSWORD = "alice's password"
WINDOWS = "windows/servercore"
FOREIGN = noise(900_000, "foreign base")
LINK = "/fwlink/"


@pytest.fixture
def internet(closing, tmp_path):
    return closing(Internet(tmp_path / "internet", {"alice": PASSWORD}))


@pytest.fixture
def door(internet, cachalot):
    address, options = intercept.options()
    return Door(cachalot(internet.upstreams, options), address)


class Machine:
    """A computer with nothing in store; its clients go by way of the proxy."""

    def __init__(self, directory, door, internet, closing):
        directory.mkdir()
        self.directory = directory
        self.env = through_proxy(door.address, internet.trusting(door.ca()))
        self.closing = closing
        self.skopeo = Skopeo(directory, env=self.env, verify=True)

    def podman(self):
        return self.closing(Podman(self.directory, env=self.env))

    def containerd(self):
        return self.closing(Containerd(self.directory, env=self.env))

    def dockerd(self):
        return self.closing(Dockerd(self.directory, self.containerd(), env=self.env))


@pytest.fixture
def machine(tmp_path, door, internet, closing):
    return lambda name: Machine(tmp_path / name, door, internet, closing)


def seen_by_registries(internet, item):
    """Manifest and blobs of the image crossed the line once each."""
    assert internet.count("GET", f"/manifests/{item.digest}") <= 1
    for each in item.all_blobs():
        assert internet.mcr_cdn.count("GET", each.digest) + internet.hub_cdn.count(
            "GET", each.digest) == 1


def test_dockerd_twice(internet, door, machine):
    """A stock engine without registry-mirrors pulls an image of Microsoft's and one of Docker
    Hub, each of whose parts crosses once. Another engine pulls the same with the line cut:
    the same images, no request."""
    powershell = internet.mcr.hold(image.image("powershell", types=image.DOCKER),
                                   "windows/powershell", "7")
    alpine = internet.hub.hold(image.image("alpine", types=image.DOCKER), "library/alpine",
                               "latest")
    names = {f"{MCR}/windows/powershell:7": powershell, "alpine": alpine}

    first = machine("first").dockerd()
    for name, item in names.items():
        first.pull(name)
        assert first.image_id(name) == item.blobs[0].digest
        seen_by_registries(internet, item)
    door.daemon.wait_idle()
    assert all("cachalot" in r.fields["user-agent"] for server in (internet.mcr, internet.hub)
               for r in server.asked(where="/manifests/"))
    internet.cut()
    internet.forget()
    # An engine does not go on without a token, where it was told to fetch one.
    until("the registry is known to be away", lambda: door.ask(HUB_HOST, "/v2/").status == 200)
    second = machine("second").dockerd()
    for name, item in names.items():
        second.pull(name)
        assert second.image_id(name) == item.blobs[0].digest
    assert internet.count() == 0


def test_mcr_with_everything_cut(internet, door, machine):
    """Of a registry that gives to everybody all is served when nothing answers at all; also by
    podman, skopeo and containerd."""
    item = internet.mcr.hold(image.image("open", types=image.DOCKER), "dotnet/runtime", "8.0")
    name = f"{MCR}/dotnet/runtime:8.0"
    first = machine("first")
    check_dir(first.skopeo.copy(name), item)
    door.daemon.wait_idle()
    seen_by_registries(internet, item)
    internet.cut()
    second = machine("second")
    check_dir(second.skopeo.copy(name), item)
    podman = second.podman()
    podman.pull(name)
    assert podman.digest(name) == item.digest
    dockerd = second.dockerd()
    dockerd.pull(name)
    assert dockerd.image_id(name) == item.blobs[0].digest
    containerd = machine("third").containerd()
    containerd.pull(name)
    assert containerd.digest(name) == item.digest


def test_story_one(internet, door, machine, closing, tmp_path):
    """One image by mirror, prefix, ns and interception: one manifest and one copy of each blob
    cross the line for all four."""
    item = internet.hub.hold(image.image("story1", types=image.DOCKER),
                             "dockeronwindows/ch02", "2e")
    name = "dockeronwindows/ch02:2e"
    daemon = door.daemon
    plain = tmp_path / "plain"
    plain.mkdir()
    containerd = closing(Containerd(plain))
    containerd.use(HUB, "http://%s:%d" % daemon.address)
    dockerd = closing(Dockerd(plain, containerd, "http://%s:%d" % daemon.mirror))

    stock = machine("stock")
    stock_dockerd = stock.dockerd()
    stock_dockerd.pull(name)
    assert stock_dockerd.image_id(name) == item.blobs[0].digest
    dockerd.pull(name)
    assert dockerd.image_id(name) == item.blobs[0].digest
    check_dir(Skopeo(plain).copy("%s:%d" % daemon.address + f"/{HUB}/{name}"), item)
    containerd.pull(f"{HUB}/{name}")
    assert containerd.digest(f"{HUB}/{name}") == item.digest
    check_dir(stock.skopeo.copy(f"{HUB}/{name}"), item)
    podman = stock.podman()
    podman.pull(f"{HUB}/{name}")
    assert podman.digest(f"{HUB}/{name}") == item.digest

    assert internet.hub.count("GET", "/manifests/") == 1
    for each in item.all_blobs():
        assert internet.hub_cdn.count("GET", each.digest) == 1
    assert internet.hub_cdn.bytes_sent() == sum(len(x.data) for x in item.all_blobs())


@pytest.mark.parametrize("platform", ["windows/amd64", "all"])
def test_windows_by_containerd(internet, door, machine, platform):
    """containerd pulls a Windows image whose base layer is behind a link of Microsoft's, which
    leads to a CDN: it asks the link before the registry. An empty containerd does so again
    with the line cut."""
    base = foreign_layer(FOREIGN, [f"https://{LINKS}{LINK}?linkid=837858"])
    windows = windows_image([base, layer(300_000, "delta")], "10.0.14393.2906")
    linux = image.image("other", types=image.DOCKER)
    index = internet.mcr.hold(servercore(windows, linux), WINDOWS, "ltsc2016")
    internet.mcr.blobs.pop((WINDOWS, base.digest))
    internet.hold_foreign(base.digest, FOREIGN, LINK)
    name = f"{MCR}/{WINDOWS}:ltsc2016"
    which = ["--all-platforms"] if platform == "all" else ["--platform", platform]
    items = [windows, linux] if platform == "all" else [windows]

    for turn in ("first", "second"):
        containerd = machine(turn).containerd()
        containerd.fetch(name, *which)
        assert containerd.content(index.digest) == index.data
        for item in items:
            assert containerd.content(item.digest) == item.data
            for each in item.all_blobs():
                assert containerd.content(each.digest) == each.data
        if turn == "first":
            door.daemon.wait_idle()
            assert door.daemon.holds(base.digest)
            assert internet.links.count("GET") == internet.layers.count("GET") == 1
            assert internet.mcr_cdn.count("GET") == sum(len(x.all_blobs()) for x in items) - 1
            internet.cut()


def test_private_image(internet, door, machine):
    """A developer with credentials of Docker Hub pulls a private image; a colleague without them
    is refused, as by Docker Hub, although every byte is held; so is one with a wrong
    password; and the developer's second machine costs no content."""
    item = internet.hub.hold(image.image("secret", types=image.DOCKER), "acme/secret", "1")
    internet.hub.private.add("acme/secret")
    name = "acme/secret:1"

    developer = machine("developer").dockerd()
    with pytest.raises(AssertionError, match="denied|unauthorized"):
        developer.pull(name)
    developer.docker("login", "--username", "alice", "--password", PASSWORD)
    developer.pull(name)
    assert developer.image_id(name) == item.blobs[0].digest
    door.daemon.wait_idle()
    assert all(door.daemon.holds(x.digest) for x in item.all_blobs())
    sent = internet.hub_cdn.bytes_sent()

    colleague = machine("colleague")
    dockerd = colleague.dockerd()
    with pytest.raises(AssertionError, match="denied|unauthorized"):
        dockerd.pull(name)
    with pytest.raises(AssertionError, match="denied|unauthorized"):
        colleague.skopeo.copy(f"{HUB}/{name}")
    with pytest.raises(AssertionError, match="denied|unauthorized"):
        colleague.skopeo.copy(f"{HUB}/{name}", "--src-creds", "alice:wrong")
    check_dir(colleague.skopeo.copy(f"{HUB}/{name}", "--src-creds", f"alice:{PASSWORD}"), item)
    assert internet.hub_cdn.bytes_sent() == sent
    log = door.daemon.stderr_path.read_text()
    assert PASSWORD not in log and "eyJ." not in log


def test_push(internet, door, machine, closing, tmp_path):
    """docker push through the proxy: to the real registry, whole, and nothing of it is stored;
    another machine pulls what was pushed, once over the line."""
    internet.mcr.down()
    place = tmp_path / "registry"
    place.mkdir()
    registry = closing(PublicRegistry(place, internet, MCR))
    item = internet.hub.hold(image.image("push", (3_000_000, 10_000), types=image.DOCKER),
                             "library/push", "1")
    first = machine("first").dockerd()
    first.pull("push:1")
    door.daemon.wait_idle()
    stored = door.daemon.stored()
    first.docker("tag", "push:1", f"{MCR}/team/push:1")
    first.docker("push", f"{MCR}/team/push:1")
    assert door.daemon.stored() == stored
    assert registry.count("PATCH") == 3 and registry.count("PUT", "/manifests/1") == 1
    until("the relays are gone", lambda: door.daemon.metric("relays") == 0)

    registry.forget()
    out = machine("second").skopeo.copy(f"{MCR}/team/push:1")
    config = (out / item.blobs[0].digest.removeprefix("sha256:")).read_bytes()
    assert config == item.blobs[0].data
    assert registry.count("GET", "/manifests/") == 1
    internet.cut()
    registry.stop()
    machine("third").skopeo.copy(f"{MCR}/team/push:1")


def test_dns_override(internet, cachalot, closing, tmp_path):
    """Where DNS leads the names to us: podman with nothing set but the authority. Here it is a
    hosts file of its own that says so."""
    address, options = intercept.options(("127.0.0.9", 443), "tls-intercept")
    daemon = cachalot(internet.upstreams, options)
    door = DnsDoor(daemon, address)
    item = internet.mcr.hold(image.image("dns"), "dotnet/runtime", "8.0")
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n127.0.0.9 {MCR} {HUB_HOST}\n")
    ca = door.ca_file()
    for turn in (1, 2):
        out = tmp_path / f"out-{turn}"
        run(["unshare", "--mount", "sh", "-c",
             'mount --bind "$1" /etc/hosts && shift && exec "$@"', "sh", hosts,
             "skopeo", "--insecure-policy", "--override-os", "linux", "--override-arch", "amd64",
             "copy", f"docker://{MCR}/dotnet/runtime:8.0", f"dir:{out}"],
            {"SSL_CERT_FILE": str(ca), "SSL_CERT_DIR": "/nowhere"})
        check_dir(out, item)
        daemon.wait_idle()
        internet.cut()
    assert daemon.metric("tls_handshakes_total") >= 2


def test_not_trusted(internet, door, machine):
    """A client that was not given our authority: it refuses, and nothing is asked upstream."""
    internet.mcr.hold(image.image("x"), "dotnet/runtime", "8.0")
    one = machine("one")
    one.skopeo.env = {**one.env, "SSL_CERT_FILE": str(internet.authority.certificate)}
    with pytest.raises(AssertionError, match="x509"):
        one.skopeo.copy(f"{MCR}/dotnet/runtime:8.0")
    assert internet.count() == 0


def test_curl(internet, door, tmp_path):
    """curl by the proxy, with the authority from /-/setup/ca.crt alone."""
    ca = tmp_path / "ca.crt"
    assert shutil.which("curl")
    done = subprocess.run(["curl", "-sS", "-o", ca, "http://%s:%d/-/setup/ca.crt" % door.address],
                          check=False)
    assert done.returncode == 0
    done = subprocess.run(["curl", "-sS", "--cacert", ca, "-x", "http://%s:%d" % door.address,
                           f"https://{MCR}/v2/"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "{}", done
    assert internet.mcr.count() == 1
