# SPDX-License-Identifier: ISC
"""Signatures, SBOMs and what else refers to an image: it goes along over an air gap, and is
found there by whoever looks for it."""

import json
import tarfile

import pytest

from lib import image
from lib.bundle import export, have, import_, pull_all
from lib.clients import Containerd, Dockerd, Podman, run
from lib.image import ACCEPT, OCI, Blob, Manifest, noise
from lib.paths import HUB, blob, manifest, referrers
from lib.pusher import EVERYBODY, Pusher

REPOSITORY = "library/app"
REFERENCE = "docker.io/library/app:1"
SIGNATURE = "application/vnd.example.signature"


@pytest.fixture
def near(hub, cachalot):
    return cachalot({HUB: hub.url}, EVERYBODY, name="near")


@pytest.fixture
def far(cachalot, tmp_path):
    return cachalot({HUB: "http://127.0.0.1:9"}, {**EVERYBODY, "cache": {"offline": "yes"}},
                    name="far", cache=tmp_path / "far-cache")


def tag_of(item, suffix=""):
    return item.digest.replace(":", "-") + suffix


def cosign_signature(seed):
    """As cosign pushes it: an image by its media types, whose layer is none."""
    blobs = [Blob(OCI["config"], json.dumps({
        "architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": [
            image.digest_of(noise(200, seed))]}}).encode()),
        Blob("application/vnd.dev.cosign.simplesigning.v1+json", noise(200, seed),
             {"annotations": {"dev.cosignproject.cosign/signature": "MEUCIQ=="}})]
    document = {"schemaVersion": 2, "mediaType": OCI["manifest"],
                "config": blobs[0].descriptor(), "layers": [blobs[1].descriptor()]}
    return Manifest(OCI["manifest"], json.dumps(document).encode(), {}, blobs)


class Signed:
    """An image with what refers to it, each in another way, and something that refers to
    that."""

    def __init__(self, hub):
        self.item = hub.hold(image.image("signed", (20_000, 3_000)), REPOSITORY, "1")
        self.signature = image.artifact("signature", self.item)
        self.sbom = image.artifact("sbom", self.item)
        self.countersignature = image.artifact("countersignature", self.signature)
        self.listed = image.artifact("listed", self.item)
        for each in (self.signature, self.sbom, self.countersignature, self.listed):
            hub.hold(each, REPOSITORY)
        self.fallback = hub.hold(image.index([self.listed]), REPOSITORY, tag_of(self.item))
        self.cosign = hub.hold(cosign_signature("cosign"), REPOSITORY, tag_of(self.item, ".sig"))

    def pull(self, near):
        for item, reference in ((self.item, "1"), (self.signature, self.signature.digest),
                                (self.sbom, self.sbom.digest),
                                (self.countersignature, self.countersignature.digest),
                                (self.fallback, tag_of(self.item)),
                                (self.cosign, tag_of(self.item, ".sig"))):
            pull_all(near, item, REPOSITORY, reference)
        return self


@pytest.fixture
def signed(hub, near):
    return Signed(hub).pull(near)


def listed(answer):
    assert answer.status == 200 and answer["Content-Type"] == OCI["index"], answer
    return {x["digest"] for x in json.loads(answer.body)["manifests"]}


def test_across(near, far, signed, tmp_path):
    """All of it goes along, is told in the list, and is found by every door with no upstream:
    by the list of referrers, and by cosign's tag."""
    done = export(near, "-o", tmp_path / "bundle.tar", REFERENCE)
    assert "1 image, 6 referrers, " in done.stdout
    done = import_(far, tmp_path / "bundle.tar")
    assert "1 image, 6 referrers, " in done.stdout and done.stdout.count(" referrer\n") == 6
    wanted = {x.digest for x in (signed.signature, signed.sbom, signed.listed)}
    digest = signed.item.digest
    for path, mirror in ((referrers(REPOSITORY, digest), False),
                         (f"/v2/{REPOSITORY}/referrers/{digest}?ns={HUB}", False),
                         (f"/v2/{REPOSITORY}/referrers/{digest}", True)):
        answer = far.get(path, mirror=mirror)
        assert listed(answer) == wanted
        assert "stale" in answer["Cache-Status"]
    assert listed(far.get(referrers(REPOSITORY, signed.signature.digest))) == {
        signed.countersignature.digest}
    for query, found in ((f"?artifactType={SIGNATURE}", wanted), ("?artifactType=x/y", set())):
        answer = far.get(referrers(REPOSITORY, digest, query))
        assert listed(answer) == found and answer["OCI-Filters-Applied"] == "artifactType"
    for each in (signed.signature, signed.sbom, signed.countersignature, signed.listed):
        assert far.get(manifest(REPOSITORY, each.digest), fields=ACCEPT).body == each.data
        assert far.get(blob(REPOSITORY, each.blobs[1].digest)).body == each.blobs[1].data
    for path, mirror in ((manifest(REPOSITORY, tag_of(signed.item, ".sig")), False),
                         (f"/v2/{REPOSITORY}/manifests/{tag_of(signed.item, '.sig')}", True)):
        assert far.get(path, fields=ACCEPT, mirror=mirror).body == signed.cosign.data
    # Of what nothing is known nothing is invented.
    assert far.get(referrers(REPOSITORY, signed.cosign.digest)).status == 504


def test_all(near, far, signed, tmp_path):
    """With --all each goes once, though the tags are walked too."""
    assert json.loads(export(near, "--format", "json", "-o", tmp_path / "all.tar", "--all")
                      .stdout)["referrers"] == 6
    said = json.loads(import_(far, tmp_path / "all.tar", "--format", "json").stdout)
    assert [x["reference"] for x in said["images"] if not x["referrer"]] == [REFERENCE]
    assert len({x["reference"] for x in said["images"]}) == len(said["images"]) == 7


def test_left_out(near, far, signed, tmp_path):
    """Not with --no-referrers; and what is not held whole does not go along."""
    done = export(near, "--no-referrers", "-o", tmp_path / "bare.tar", REFERENCE)
    assert "1 image, 4 blobs" in done.stdout
    import_(far, tmp_path / "bare.tar")
    assert far.get(referrers(REPOSITORY, signed.item.digest)).status == 504
    near.blob_path(signed.sbom.blobs[1].digest).unlink()
    assert "5 referrers" in export(near, "-o", tmp_path / "less.tar", REFERENCE).stdout
    import_(far, tmp_path / "less.tar")
    assert signed.sbom.digest not in listed(far.get(referrers(REPOSITORY, signed.item.digest)))


def test_later(hub, near, far, signed, tmp_path):
    """A signature that is made later goes over with a delta: the image's layers do not. It adds
    to the list that was there, be it kept of an upstream or made of what is held."""
    export(near, "-o", tmp_path / "first.tar", REFERENCE)
    import_(far, tmp_path / "first.tar")
    receipt = have(far, tmp_path / "far.receipt")
    late = hub.hold(image.artifact("late", signed.item), REPOSITORY)
    pull_all(near, late, REPOSITORY, late.digest)
    export(near, "--have", receipt, "-o", tmp_path / "delta.tar", REFERENCE)
    with tarfile.open(tmp_path / "delta.tar") as tar:
        names = tar.getnames()
    assert not [x for x in signed.item.blobs if any(x.digest[7:] in n for n in names)]
    import_(far, tmp_path / "delta.tar")
    assert late.digest in listed(far.get(referrers(REPOSITORY, signed.item.digest)))


def test_beside_a_kept_list(hub, near, signed):
    """A list that the upstream gave once, and what was pulled since: both are told when it is
    down, each digest once."""
    digest = signed.item.digest
    unseen = hub.hold(image.artifact("unseen", signed.item), REPOSITORY)
    hub.referrers[REPOSITORY, digest] = [unseen.descriptor(), signed.sbom.descriptor()]
    assert listed(near.get(referrers(REPOSITORY, digest))) == {unseen.digest, signed.sbom.digest}
    hub.down()
    answer = near.get(referrers(REPOSITORY, digest))
    assert listed(answer) == {x.digest for x in (unseen, signed.sbom, signed.signature,
                                                 signed.listed)}
    assert len(json.loads(answer.body)["manifests"]) == 4


def test_local(near, far, tmp_path):
    """Of images that a team pushed and signed itself, too; with --as they follow the image."""
    item = image.image("team", (3000,))
    signature = image.artifact("team-signature", item)
    pusher = Pusher(near.address, "team/app")
    pusher.push(item, "1")
    pusher.push(signature, signature.digest)
    pusher.push(cosign_signature("team-cosign"), tag_of(item, ".sig"))
    export(near, "-o", tmp_path / "team.tar", "team/app:1")
    import_(far, tmp_path / "team.tar")
    import_(far, tmp_path / "team.tar", "--as", "elsewhere/app:2")
    # No tag leads to them; their subject does.
    assert far.command("gc", "--now").returncode == 0
    for repository, tag in (("team/app", "1"), ("elsewhere/app", "2")):
        q = Pusher(far.address, repository)
        assert q.get(f"manifests/{tag}", fields=ACCEPT).body == item.data
        assert listed(q.get(f"referrers/{item.digest}")) == {signature.digest}
        assert q.get(f"manifests/{signature.digest}", fields=ACCEPT).status == 200
        assert q.get(f"manifests/{tag_of(item, '.sig')}", fields=ACCEPT).status == 200


@pytest.mark.clients
def test_other_loaders(near, signed, closing, tmp_path):
    """Other programs take the image out of such a bundle and are not led astray by what is no
    image to unpack."""
    archive = tmp_path / "bundle.tar"
    export(near, "-o", archive, REFERENCE)
    containerd = closing(Containerd(tmp_path))
    containerd.ctr("images", "import", "--snapshotter", "native", archive)
    assert containerd.digest(REFERENCE) == signed.item.digest
    podman = closing(Podman(tmp_path))
    run(["podman", *podman.options, "load", "--input", archive, "--signature-policy",
         podman.policy], podman.env)
    engine = closing(Dockerd(tmp_path, containerd))
    engine.docker("load", "--input", archive)
    assert engine.image_id("app:1") == signed.item.blobs[0].digest
    for form in ("oci-archive", "docker-archive"):
        run(["skopeo", "--insecure-policy", "copy", f"{form}:{archive}:{REFERENCE}",
             f"dir:{tmp_path}/{form}"])
