# SPDX-License-Identifier: ISC
"""Archives of images, of whatever program: each is loaded by each other, and the image is the
same. What a program cannot load is tried, too, and says why: so the table is known to be true."""

import json

import pytest

from lib import image
from lib.bundle import export, pull_all
from lib.cachalot import Cachalot
from lib.clients import Containerd, Dockerd, Podman, run
from lib.hub import Hub
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest

pytestmark = pytest.mark.clients

NAME = "docker.io/library/matrix:1"
TAG = "matrix:1"


class Programs:
    """All that write and read archives, each with state of its own, and the image in it."""

    def __init__(self, directory, keep):
        self.directory = directory
        self.hub = keep(Hub())
        self.near = keep(Cachalot(directory, {HUB: self.hub.url}, name="near"))
        self.near.start()
        self.item = self.hub.hold(image.image("matrix", (30_000, 4_000)), "library/matrix", "1")
        pull_all(self.near, self.item, "library/matrix", "1")
        self.containerd = keep(Containerd(directory))
        self.docker = keep(Dockerd(directory, self.containerd))
        self.podman = keep(Podman(directory))
        self.near_name = "%s:%d/%s" % (*self.near.address, NAME)
        self.diff_ids = json.loads(self.item.blobs[0].data)["rootfs"]["diff_ids"]

    def run_podman(self, *arguments):
        return run(["podman", *self.podman.options, *arguments], self.podman.env)

    def skopeo(self, *arguments):
        return run(["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", *arguments])


# --- who writes ---

def by_cachalot(p, path):
    export(p.near, "-o", path, NAME)


def by_skopeo_oci(p, path):
    p.skopeo(f"docker://{p.near_name}", f"oci-archive:{path}:{NAME}")


def by_skopeo_docker(p, path):
    p.skopeo(f"docker://{p.near_name}", f"docker-archive:{path}:{NAME}")


def by_docker(p, path):
    by_cachalot(p, path.with_suffix(".in"))
    p.docker.docker("load", "--input", path.with_suffix(".in"))
    p.docker.docker("save", "--output", path, TAG)
    p.docker.docker("image", "rm", "--force", TAG)


def by_podman(p, path, form):
    by_cachalot(p, path.with_suffix(".in"))
    p.run_podman("load", "--input", path.with_suffix(".in"), "--signature-policy", p.podman.policy)
    p.run_podman("save", "--format", form, "--output", path, NAME)
    p.run_podman("image", "rm", "--all", "--force")


def by_podman_oci(p, path):
    by_podman(p, path, "oci-archive")


def by_podman_docker(p, path):
    by_podman(p, path, "docker-archive")


def by_ctr(p, path):
    by_cachalot(p, path.with_suffix(".in"))
    p.containerd.ctr("images", "import", "--snapshotter", "native", path.with_suffix(".in"))
    p.containerd.ctr("images", "export", path, NAME)
    p.containerd.ctr("images", "rm", "--sync", NAME)


def by_umoci(p, path):
    """A layout whose index umoci wrote, packed."""
    layout = path.with_suffix(".layout")
    p.skopeo(f"docker://{p.near_name}", f"oci:{layout}:first")
    run(["umoci", "tag", "--image", f"{layout}:first", NAME])
    run(["umoci", "rm", "--image", f"{layout}:first"])
    run(["tar", "-C", layout, "-cf", path, "oci-layout", "index.json", "blobs"])


# --- who reads ---

def into_cachalot(p, path, out):
    far = Cachalot(out, {HUB: "http://127.0.0.1:9"}, {"cache": {"offline": "yes"}}, name="far")
    try:
        far.start()
        done = far.command("import", path)
        assert done.returncode == 0, done
        said = json.loads(far.get(manifest("library/matrix", "1"), fields=ACCEPT).body)
        config = far.get(blob("library/matrix", said["config"]["digest"])).body
        for each in said["layers"]:
            assert far.get(blob("library/matrix", each["digest"])).status == 200
        return json.loads(config)["rootfs"]["diff_ids"]
    finally:
        far.close()


def into_podman(p, path, out):
    try:
        p.run_podman("load", "--input", path, "--signature-policy", p.podman.policy)
        # Docker writes short names, which podman takes for its own.
        name, = json.loads(p.run_podman("images", "--format", "json"))[0]["Names"]
        assert name in (NAME, f"localhost/{TAG}")
        found, = json.loads(p.run_podman("image", "inspect", name))
        return found["RootFS"]["Layers"]
    finally:
        p.run_podman("image", "rm", "--all", "--force")


def into_docker(p, path, out):
    p.docker.docker("load", "--input", path)
    try:
        found, = json.loads(p.docker.docker("image", "inspect", TAG))
        return found["RootFS"]["Layers"]
    finally:
        p.docker.docker("image", "rm", "--force", TAG)


def into_ctr(p, path, out):
    p.containerd.ctr("images", "import", "--snapshotter", "native", path)
    try:
        digest = p.containerd.digest(NAME)
        assert digest, p.containerd.ctr("images", "list")
        config = json.loads(p.containerd.content(digest))["config"]["digest"]
        return json.loads(p.containerd.content(config))["rootfs"]["diff_ids"]
    finally:
        for name in p.containerd.ctr("images", "list", "-q").split():
            p.containerd.ctr("images", "rm", "--sync", name)


def config_of_dir(out):
    config = json.loads((out / "manifest.json").read_text())["config"]["digest"]
    return json.loads((out / config.removeprefix("sha256:")).read_text())["rootfs"]["diff_ids"]


def layout_name(path):
    """ctr has the tag alone where others look for the name."""
    return "1" if path.stem == "ctr-export" else NAME


def into_skopeo_oci(p, path, out):
    p.skopeo(f"oci-archive:{path}:{layout_name(path)}", f"dir:{out}/dir")
    return config_of_dir(out / "dir")


def into_skopeo_docker(p, path, out):
    p.skopeo(f"docker-archive:{path}:{NAME}", f"dir:{out}/dir")
    return config_of_dir(out / "dir")


def into_umoci(p, path, out):
    layout = out / "layout"
    layout.mkdir()
    run(["tar", "-xf", path, "-C", layout])
    name = layout_name(path)
    assert run(["umoci", "ls", "--layout", layout]).split() == [name]
    run(["umoci", "unpack", "--rootless", "--image", f"{layout}:{name}", out / "root"])
    sizes = {f.name: f.stat().st_size for f in (out / "root/rootfs").iterdir()}
    assert sizes == {"data-matrix-0": 30_000, "data-matrix-1": 4_000}
    return p.diff_ids


WRITERS = {"cachalot": by_cachalot, "skopeo oci-archive": by_skopeo_oci,
           "skopeo docker-archive": by_skopeo_docker, "docker save": by_docker,
           "podman oci-archive": by_podman_oci, "podman docker-archive": by_podman_docker,
           "ctr export": by_ctr, "umoci": by_umoci}
READERS = {"cachalot import": into_cachalot, "podman load": into_podman,
           "docker load": into_docker, "ctr import": into_ctr,
           "skopeo oci-archive": into_skopeo_oci, "skopeo docker-archive": into_skopeo_docker,
           "umoci": into_umoci}


# What cannot be: (what the archive lacks, who needs it) and how that says so.
OCI_ONLY = ("skopeo oci-archive", "podman oci-archive", "umoci")
DOCKER_ONLY = ("skopeo docker-archive", "podman docker-archive", "docker save")
REFUSED = {
    **{(x, "docker load"): "blobs/json: no such file" for x in OCI_ONLY},
    **{(x, "skopeo docker-archive"): "manifest.json: file does not exist" for x in OCI_ONLY},
    **{(x, "skopeo oci-archive"): "index.json: no such file" for x in DOCKER_ONLY},
    **{(x, "umoci"): "invalid image detected" for x in DOCKER_ONLY},
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    kept = []

    def keep(x):
        kept.append(x)
        return x

    yield Programs(tmp_path_factory.mktemp("matrix"), keep)
    for x in reversed(kept):
        x.close()


@pytest.fixture(scope="module")
def archives(programs):
    made = {}
    for name, write in WRITERS.items():
        made[name] = programs.directory / (name.replace(" ", "-") + ".tar")
        write(programs, made[name])
    return made


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("writer", WRITERS)
def test_matrix(programs, archives, writer, reader, tmp_path):
    """The layers that come out are those of the image; or the program refuses, as it must.
    Nobody refuses what cachalot writes, and cachalot refuses nobody."""
    refused = REFUSED.get((writer, reader))
    if refused:
        with pytest.raises(AssertionError, match=refused):
            READERS[reader](programs, archives[writer], tmp_path)
    else:
        assert READERS[reader](programs, archives[writer], tmp_path) == programs.diff_ids


def test_cachalot_is_never_refused():
    assert not [x for x in REFUSED if x[0] == "cachalot" or x[1] == "cachalot import"]
