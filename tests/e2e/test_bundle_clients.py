# SPDX-License-Identifier: ISC
"""Bundles and the archives of other programs: each one's is loaded by the other."""

import json

import pytest

from lib import image
from lib.bundle import export, import_, pull_all
from lib.clients import Containerd, Dockerd, Podman, run
from lib.hub import Hub
from lib.image import ACCEPT, DOCKER, digest_of
from lib.paths import HUB, MCR, blob, manifest
from lib.pusher import EVERYBODY
from lib.windows import servercore, windows_image, layer as windows_layer

pytestmark = pytest.mark.clients

APP = "docker.io/library/app:1"
MULTI = "docker.io/library/multi:2"
WINDOWS = "mcr.microsoft.com/windows/servercore:ltsc2022"


@pytest.fixture
def near(hub, cachalot):
    return cachalot({HUB: hub.url, MCR: hub.url}, name="near")


@pytest.fixture
def far(cachalot, tmp_path):
    return cachalot({HUB: "http://127.0.0.1:9", MCR: "http://127.0.0.1:9"},
                    {**EVERYBODY, "cache": {"offline": "yes"}}, name="far",
                    cache=tmp_path / "far-cache")


@pytest.fixture
def app(hub, near):
    made = hub.hold(image.image("app", (90_000, 20_000), DOCKER), "library/app", "1")
    pull_all(near, made, "library/app", "1")
    return made


@pytest.fixture
def oci(hub, near):
    """An image of OCI's media types."""
    made = hub.hold(image.image("oci", (50_000, 7_000)), "library/oci", "1")
    pull_all(near, made, "library/oci", "1")
    return made


@pytest.fixture
def multi(hub, near):
    made = hub.hold(image.index([image.image(f"multi-{a}", (30_000,), architecture=a)
                                 for a in ("arm64", "amd64")]), "library/multi", "2")
    pull_all(near, made, "library/multi", "2")
    return made


@pytest.fixture
def bundle(near, app, multi, tmp_path):
    export(near, "-o", tmp_path / "bundle.tar", APP, MULTI)
    return tmp_path / "bundle.tar"


@pytest.fixture
def containerd(closing, tmp_path):
    return closing(Containerd(tmp_path))


@pytest.fixture
def engine(closing, tmp_path, containerd):
    return closing(Dockerd(tmp_path, containerd))


@pytest.fixture
def podman(closing, tmp_path):
    return closing(Podman(tmp_path))


def skopeo(*arguments):
    return run(["skopeo", "--insecure-policy", "--override-os", "linux", "--override-arch",
                "amd64", *arguments])


def diff_ids(item):
    return json.loads(item.blobs[0].data)["rootfs"]["diff_ids"]


def amd64_of(index):
    return next(m for m in index.children if m.extra["platform"]["architecture"] == "amd64")


# --- what others make of a bundle ---

def test_podman_load(bundle, podman, app, multi):
    """podman load takes all images, by their full names."""
    done = run(["podman", *podman.options, "load", "--input", bundle, "--signature-policy",
                podman.policy], podman.env)
    assert APP in done and MULTI in done
    for reference, item in ((APP, app), (MULTI, amd64_of(multi))):
        found, = json.loads(run(["podman", *podman.options, "image", "inspect", reference],
                                podman.env))
        assert found["RootFS"]["Layers"] == diff_ids(item)


def test_docker_load(bundle, engine, app, multi):
    """So does docker load; the image is that of the config."""
    engine.docker("load", "--input", bundle)
    assert engine.image_id("app:1") == app.blobs[0].digest
    assert engine.image_id("multi:2") == amd64_of(multi).blobs[0].digest


def test_windows_beside_linux(near, hub, app, engine, tmp_path):
    """Images for Windows come after those for Linux, where a Docker on Linux stops."""
    made = hub.hold(servercore(windows_image([windows_layer(9000, "w")], "10.0.20348.1")),
                    "windows/servercore", "ltsc2022")
    pull_all(near, made, "windows/servercore", "ltsc2022", MCR)
    export(near, "-o", tmp_path / "b.tar", WINDOWS, APP)
    with pytest.raises(AssertionError, match="windows|unknown|unsupported|invalid"):
        engine.docker("load", "--input", tmp_path / "b.tar")
    assert engine.image_id("app:1") == app.blobs[0].digest


def test_ctr_import(bundle, containerd, app, multi):
    """ctr keeps names and digests, of indexes too."""
    containerd.ctr("images", "import", "--snapshotter", "native", "--all-platforms", bundle)
    assert containerd.digest(APP) == app.digest
    assert containerd.digest(MULTI) == multi.digest
    for item in (app, *multi.children):
        assert containerd.content(item.digest) == item.data


def test_skopeo_copy(near, bundle, app, multi, oci, tmp_path):
    """skopeo copies out of it in both forms: as docker-archive by name, and as oci-archive
    where the image is of OCI's media types."""
    skopeo("copy", f"docker-archive:{bundle}:{APP}", f"dir:{tmp_path}/out")
    config = json.loads((tmp_path / "out" / "manifest.json").read_text())["config"]["digest"]
    assert config == app.blobs[0].digest
    export(near, "-o", tmp_path / "oci.tar", "docker.io/library/oci:1", MULTI)
    skopeo("copy", f"oci-archive:{tmp_path}/oci.tar:docker.io/library/oci:1",
           f"dir:{tmp_path}/oci")
    assert (tmp_path / "oci" / "manifest.json").read_bytes() == oci.data
    skopeo("copy", "--all", f"oci-archive:{tmp_path}/oci.tar:{MULTI}", f"dir:{tmp_path}/multi")
    assert (tmp_path / "multi" / "manifest.json").read_bytes() == multi.data


def test_umoci(near, oci, tmp_path):
    """umoci, an independent reader of layouts, unpacks it."""
    export(near, "-o", tmp_path / "b.tar", "docker.io/library/oci:1")
    layout = tmp_path / "layout"
    layout.mkdir()
    run(["tar", "-xf", tmp_path / "b.tar", "-C", layout])
    reference = "docker.io/library/oci:1"
    said = json.loads(run(["umoci", "stat", "--image", f"{layout}:{reference}", "--json"]))
    assert len(said["history"]) == len(oci.layers)
    assert reference in run(["umoci", "ls", "--layout", layout])
    run(["umoci", "unpack", "--rootless", "--image", f"{layout}:{reference}", tmp_path / "root"])
    assert (tmp_path / "root" / "rootfs" / "data-oci-0").stat().st_size == 50_000


# --- what is made of theirs ---

def check_image(far, reference, item, same_digest):
    """The image pulls from the far side: the layers are those of the original, if they were
    not packed anew, and the config is."""
    registry, rest = reference.split("/", 1)
    repository, tag = rest.rsplit(":", 1)
    answer = far.get(manifest(repository, tag, registry), fields=ACCEPT)
    assert answer.status == 200, answer
    if same_digest:
        assert answer.body == item.data
    said = json.loads(answer.body)
    config = far.get(blob(repository, said["config"]["digest"], registry)).body
    assert json.loads(config)["rootfs"]["diff_ids"] == diff_ids(item)
    for each in said["layers"]:
        assert digest_of(far.get(blob(repository, each["digest"], registry)).body) \
            == each["digest"]


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_skopeo_archives(near, far, oci, app, form, tmp_path):
    """oci-archive keeps digests; docker-archive unpacks layers and has no manifest: one is
    made. Names without a registry mean Docker's, as everywhere."""
    archive = tmp_path / "a.tar"
    source = "%s:%d/docker.io/library/" % near.address
    for item, name, tag in ((oci, "oci", "docker.io/library/oci:1"), (app, "app", "app:1")):
        archive.unlink(missing_ok=True)
        skopeo("copy", "--src-tls-verify=false", f"docker://{source}{name}:1",
               f"{form}:{archive}:{tag}")
        import_(far, archive)
        check_image(far, f"docker.io/library/{name}:1", item,
                    form == "oci-archive" and item is oci)


def test_unnamed(near, far, oci, tmp_path):
    """An archive whose image has no name gets one by --as."""
    archive = tmp_path / "a.tar"
    skopeo("copy", "--src-tls-verify=false", "docker://%s:%d/docker.io/library/oci:1"
           % near.address, f"oci-archive:{archive}")
    done = far.command("import", archive)
    assert done.returncode == 2 and "--as" in done.stderr, done
    import_(far, archive, "--as", "team/oci:7")
    assert far.get("/v2/team/oci/manifests/7", fields=ACCEPT).body == oci.data
    import_(far, archive, "--as", "quay.io/team/oci")
    assert far.get(manifest("team/oci", "latest", "quay.io"), fields=ACCEPT).body == oci.data


def test_docker_save(far, bundle, engine, app, multi, tmp_path):
    """docker save, of several images that share nothing and of one with two tags."""
    engine.docker("load", "--input", bundle)
    engine.docker("tag", "app:1", "registry.example/team/app:stable")
    archive = tmp_path / "saved.tar"
    engine.docker("save", "--output", archive, "app:1", "multi:2",
                  "registry.example/team/app:stable")
    said = json.loads(import_(far, archive, "--format", "json").stdout)
    assert {x["reference"] for x in said["images"]} == {
        APP, MULTI, "registry.example/team/app:stable"}
    check_image(far, APP, app, False)
    check_image(far, MULTI, amd64_of(multi), False)
    again = json.loads(import_(far, archive, "--format", "json").stdout)
    assert again["images"] == said["images"] and again["added_blobs"] == 0


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_podman_save(far, bundle, podman, app, form, tmp_path):
    """podman save in both forms, and several images in one docker-archive."""
    run(["podman", *podman.options, "load", "--input", bundle, "--signature-policy",
         podman.policy], podman.env)
    archive = tmp_path / "saved.tar"
    more = ["--multi-image-archive"] if form == "docker-archive" else []
    references = [APP, MULTI] if more else [APP]
    run(["podman", *podman.options, "save", "--format", form, *more, "--output", archive,
         *references], podman.env)
    said = json.loads(import_(far, archive, "--format", "json").stdout)
    assert [x["reference"] for x in said["images"]] == references
    check_image(far, APP, app, False)


def test_ctr_export(far, bundle, containerd, app, multi, tmp_path):
    """ctr export of all platforms and of one: digests stay, and the index is whole or
    sparse."""
    containerd.ctr("images", "import", "--snapshotter", "native", "--all-platforms", bundle)
    for options, children in ((["--platform", "linux/amd64"], [amd64_of(multi)]),
                              (["--all-platforms"], multi.children)):
        archive = tmp_path / "exported.tar"
        containerd.ctr("images", "export", *options, archive, APP, MULTI)
        import_(far, archive)
        check_image(far, APP, app, True)
        assert far.get(manifest("library/multi", "2"), fields=ACCEPT).body == multi.data
        for each in children:
            assert far.get(manifest("library/multi", each.digest), fields=ACCEPT).body \
                == each.data
            for b in each.blobs:
                assert far.get(blob("library/multi", b.digest)).body == b.data


def test_layout_of_the_cache(near, far, oci, tmp_path):
    """A cache directory that was packed as it is, is an archive, too."""
    near.stop()
    archive = tmp_path / "cache.tar"
    run(["tar", "-C", near.cache, "-cf", archive, "oci-layout", "index.json", "blobs"])
    import_(far, archive)
    check_image(far, "docker.io/library/oci:1", oci, True)
    assert Hub
