# SPDX-License-Identifier: ISC
"""Real clients push to the team's registry and pull from it."""

import json

import pytest

from lib import image
from lib.clients import Buildah, Containerd, Dockerd, Podman, Skopeo, check_dir
from lib.hub import Hub
from lib.image import ACCEPT, DOCKER, Blob, Manifest, noise
from lib.paths import MCR
from lib.windows import foreign_layer

pytestmark = pytest.mark.clients

EVERYBODY = {"access everybody": {"allow": "pull push delete"}}
# Docker looks for layers of other repositories only when they are larger than 10 MB.
LARGE = (11_000_000, 300_000)


def host(address):
    return "%s:%d" % address


def url(address):
    return f"http://{host(address)}"


@pytest.fixture
def team(cachalot):
    """A registry that everybody may push to, without any upstream."""
    return cachalot({}, EVERYBODY)


@pytest.fixture
def podman(closing, tmp_path):
    """podman(): one with nothing in store."""
    made = []

    def make():
        directory = tmp_path / f"podman-{len(made)}"
        directory.mkdir()
        made.append(closing(Podman(directory)))
        return made[-1]

    return make


@pytest.fixture
def engine(closing, tmp_path):
    """engine(mirror, settings): a Docker engine with nothing in store."""
    made = []

    def make(mirror=None, **settings):
        directory = tmp_path / f"engine-{len(made)}"
        directory.mkdir()
        containerd = closing(Containerd(directory))
        made.append(closing(Dockerd(directory, containerd, mirror, settings=settings)))
        return made[-1]

    return make


def manifest_of(daemon, repository, reference):
    got = daemon.get(f"/v2/{repository}/manifests/{reference}", fields=ACCEPT)
    assert got.status == 200, got
    return got


def test_skopeo(team, tmp_path):
    """skopeo pushes an image and an index of two, and copies them back byte for byte."""
    one = image.image("skopeo")
    skopeo = Skopeo(tmp_path)
    skopeo.push(one, f"{host(team.address)}/team/app:1")
    check_dir(skopeo.copy(f"{host(team.address)}/team/app:1"), one)
    assert manifest_of(team, "team/app", "1").body == one.data
    assert team.metric("uploads_finished_total") == 3

    skopeo.push(one, f"{host(team.address)}/team/app:2")
    assert team.metric("uploads_finished_total") == 3


def test_skopeo_index(team, tmp_path):
    """An index of two platforms goes in whole and comes back whole."""
    item = image.index([image.image("l"), image.image("a", architecture="arm64")])
    image.push(team.address, item, "team/multi", "1")
    skopeo = Skopeo(tmp_path)
    skopeo.copy(f"{host(team.address)}/team/multi:1", "--all")
    check_dir(skopeo.copy(f"{host(team.address)}/team/multi:1"), item.children[0])


def test_podman(team, podman):
    """podman pulls from one repository and pushes to another: what is there is mounted or
    known, so that no layer is uploaded again in the form that it has."""
    one = image.push(team.address, image.image("podman"), "team/base", "1")
    first = podman()
    first.pull(f"{host(team.address)}/team/base:1", "--tls-verify=false")
    first.push(f"{host(team.address)}/team/base:1", f"{host(team.address)}/team/copy:1")
    podman().pull(f"{host(team.address)}/team/copy:1", "--tls-verify=false")
    assert manifest_of(team, "team/copy", "1").body
    assert manifest_of(team, "team/base", "1").body == one.data


def test_containerd(team, closing, tmp_path):
    """ctr pushes what it has pulled to another repository, digests as they were."""
    one = image.push(team.address, image.image("ctr"), "team/base", "1")
    containerd = closing(Containerd(tmp_path))
    name = host(team.address)
    containerd.use(name, url(team.address))
    containerd.pull(f"{name}/team/base:1")
    uploads = team.metric("uploads_finished_total")
    containerd.ctr("images", "tag", f"{name}/team/base:1", f"{name}/team/copy:2")
    containerd.push(f"{name}/team/copy:2", "--platform", "linux/amd64")
    assert manifest_of(team, "team/copy", "2").body == one.data
    assert team.metric("uploads_finished_total") - uploads <= len(one.blobs)


def test_docker(team, engine):
    """Docker pushes an image that it has pulled, and one machine more pulls it."""
    image.push(team.address, image.image("docker", types=image.DOCKER), "team/base", "1")
    name = host(team.address)
    first = engine()
    first.pull(f"{name}/team/base:1")
    first.docker("tag", f"{name}/team/base:1", f"{name}/team/app:5")
    first.push(f"{name}/team/app:5")
    second = engine()
    second.pull(f"{name}/team/app:5")
    assert second.image_id(f"{name}/team/app:5") == first.image_id(f"{name}/team/base:1")


def test_buildah(team, closing, podman, tmp_path):
    """buildah builds on a base of the team's registry and pushes the result there."""
    image.push(team.address, image.image("base"), "infrastructure/registry", "v2.6.2")
    buildah = closing(Buildah(tmp_path))
    name = host(team.address)
    buildah.build(f"{name}/infrastructure/registry:v2.6.2", f"{name}/team/built:1")
    buildah.push(f"{name}/team/built:1")
    got = manifest_of(team, "team/built", "1")
    assert got["Docker-Content-Digest"] == image.digest_of(got.body)
    podman().pull(f"{name}/team/built:1", "--tls-verify=false")


def test_identity(registry, cachalot, engine):
    """An image that was pulled through, tagged and pushed by Docker: no layer is uploaded,
    and its digests are the upstream's."""
    item = registry.push(image.image("nano", LARGE, types=image.DOCKER), "windows/nanoserver",
                         "1809")
    daemon = cachalot({MCR: registry.url}, EVERYBODY)
    name = host(daemon.address)
    docker = engine()
    docker.pull(f"{name}/{MCR}/windows/nanoserver:1809")
    docker.docker("tag", f"{name}/{MCR}/windows/nanoserver:1809",
                  f"{name}/microsoft/nanoserver:1809")
    docker.push(f"{name}/microsoft/nanoserver:1809")
    assert daemon.metric("upload_bytes_total") == 0
    got = manifest_of(daemon, "microsoft/nanoserver", "1809")
    for each in item.all_blobs():
        assert each.digest.encode() in got.body
    registry.stop()
    clean = engine()
    clean.pull(f"{name}/microsoft/nanoserver:1809")
    sent = daemon.metric("client_bytes_total")
    clean.pull(f"{name}/{MCR}/windows/nanoserver:1809")
    assert daemon.metric("client_bytes_total") - sent < 10_000
    assert clean.image_id(f"{name}/microsoft/nanoserver:1809") == item.blobs[0].digest


def test_five_tags(team, tmp_path):
    """The same image under five tags: one manifest, each layer once; when one tag moves the
    others stay."""
    first, second = image.image("five"), image.image("five and more")
    name = f"{host(team.address)}/team/myapp"
    skopeo = Skopeo(tmp_path)
    tags = ["latest", "5", "5.1", "5.1.6", "bc90e9"]
    for tag in tags:
        skopeo.push(first, f"{name}:{tag}")
    assert team.metric("uploads_finished_total") == len(first.blobs)
    listed = json.loads(team.get("/v2/team/myapp/tags/list").body)
    assert listed == {"name": "team/myapp", "tags": sorted(tags)}

    skopeo.push(second, f"{name}:5")
    assert manifest_of(team, "team/myapp", "5").body == second.data
    for tag in ("latest", "5.1", "5.1.6", "bc90e9"):
        assert manifest_of(team, "team/myapp", tag).body == first.data


def test_new_appliance(team, cachalot, engine):
    """The team's registry is replaced by another daemon over the same cache directory: what
    was pushed is there."""
    item = image.push(team.address, image.image("moved", types=DOCKER), "team/app", "1")
    assert team.stop() == 0
    team.start()
    docker = engine()
    docker.pull(f"{host(team.address)}/team/app:1")
    assert docker.image_id(f"{host(team.address)}/team/app:1") == item.blobs[0].digest
    assert "team/app:1" in team.command("ls").stdout


# --- layers that are kept elsewhere ---

BASE = noise(700_000, "windows base")


@pytest.fixture
def elsewhere(closing):
    """Another host, which has the base layer."""
    store = closing(Hub("127.0.0.2"))
    store.blobs["store", image.digest_of(BASE)] = BASE
    return store


def windows_app(store):
    """A team's Windows image: a foreign base layer and one of its own."""
    base = foreign_layer(BASE, [f"{store.url}/v2/store/blobs/{image.digest_of(BASE)}"])
    own = Blob(DOCKER["layer"], noise(50_000, "own"))
    config = Blob(DOCKER["config"], json.dumps({"os": "windows", "architecture": "amd64"}).encode())
    document = {"schemaVersion": 2, "mediaType": DOCKER["manifest"],
                "config": config.descriptor(), "layers": [base.descriptor(), own.descriptor()]}
    return Manifest(DOCKER["manifest"], json.dumps(document).encode(), {}, [config, base, own])


@pytest.fixture
def mirror(hub, elsewhere, cachalot):
    """A registry whose upstream may send to the other host."""
    return cachalot({MCR: {"url": hub.url, "foreign-hosts": "%s:%d" % elsewhere.address}},
                    EVERYBODY)


def ctr_with(item, daemon, closing, directory):
    """A containerd that has the image, from a registry of its own."""
    directory.mkdir()
    containerd = closing(Containerd(directory))
    containerd.use(host(daemon.address), url(daemon.address))
    image.push(daemon.address, item, "build/app", "1")
    containerd.fetch(f"{host(daemon.address)}/build/app:1", "--all-platforms")
    containerd.ctr("images", "tag", f"{host(daemon.address)}/build/app:1",
                   f"{host(daemon.address)}/team/winapp:1")
    return containerd


def test_skipped_foreign_layer(mirror, hub, elsewhere, tmp_path):
    """A client that skips foreign layers pushes a Windows image: the manifest stands. The
    first machine that asks for the base makes it be fetched, once, from where the manifest
    says; the next has it from the store, also with that host gone."""
    item = windows_app(elsewhere)
    name = f"{host(mirror.address)}/team/winapp:1"
    skopeo = Skopeo(tmp_path)
    skopeo.push(item, name)
    path = f"/v2/team/winapp/blobs/{image.digest_of(BASE)}"
    assert manifest_of(mirror, "team/winapp", "1").body == item.data
    assert mirror.head(path).status == 404 and elsewhere.count() == 0
    assert mirror.get(path).body == BASE
    mirror.wait_idle()
    assert elsewhere.count("GET") == 1 and hub.count() == 0
    elsewhere.close()
    assert mirror.get(path).body == BASE and mirror.head(path).status == 200


def test_foreign_host_that_nobody_allows(hub, elsewhere, cachalot, tmp_path):
    """The url of a pushed manifest leads where no upstream's may: nobody goes there."""
    daemon = cachalot({MCR: hub.url}, EVERYBODY)
    Skopeo(tmp_path).push(windows_app(elsewhere), f"{host(daemon.address)}/team/winapp:1")
    got = daemon.get(f"/v2/team/winapp/blobs/{image.digest_of(BASE)}")
    assert got.status == 403 and b"foreign-hosts" in got.body
    assert elsewhere.count() == 0


def test_non_distributable_layers_pushed(mirror, elsewhere, closing, tmp_path):
    """A client that is let push them does: the base is stored once, and nobody asks for it
    anywhere else, whoever pulls it."""
    item = windows_app(elsewhere)
    containerd = ctr_with(item, mirror, closing, tmp_path / "ctr")
    containerd.push(f"{host(mirror.address)}/team/winapp:1", "--allow-non-distributable-blobs",
                    "--platform", "windows/amd64")
    assert manifest_of(mirror, "team/winapp", "1").body == item.data
    asked = elsewhere.count()
    elsewhere.close()
    for each in item.all_blobs():
        assert mirror.get(f"/v2/team/winapp/blobs/{each.digest}").body == each.data
    assert asked <= 1


def test_docker_with_artifacts_allowed(team, engine):
    """An engine that is told to push non-distributable artifacts here pushes as others do."""
    item = image.push(team.address, image.image("allowed", types=DOCKER), "team/base", "1")
    name = host(team.address)
    docker = engine(**{"allow-nondistributable-artifacts": [name]})
    docker.pull(f"{name}/team/base:1")
    docker.docker("tag", f"{name}/team/base:1", f"{name}/team/copy:1")
    docker.push(f"{name}/team/copy:1")
    clean = engine()
    clean.pull(f"{name}/team/copy:1")
    assert clean.image_id(f"{name}/team/copy:1") == item.blobs[0].digest
