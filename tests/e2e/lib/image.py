# SPDX-License-Identifier: ISC
"""Images made here: deterministic bytes, OCI or Docker media types."""

import gzip
import hashlib
import http.client
import io
import json
import random
import tarfile
from dataclasses import dataclass, field

OCI = {
    "index": "application/vnd.oci.image.index.v1+json",
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
}
DOCKER = {
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
# What a client sends that takes everything.
ACCEPT = [("Accept", ", ".join((OCI["index"], OCI["manifest"], DOCKER["index"],
                                DOCKER["manifest"], "*/*")))]


def digest_of(data, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def noise(size, seed):
    """Bytes that do not compress; the same ones for the same seed."""
    return random.Random(f"cachalot {seed}").randbytes(size)


@dataclass
class Blob:
    media_type: str
    data: bytes
    extra: dict = field(default_factory=dict)  # further members of its descriptor

    @property
    def digest(self):
        return digest_of(self.data)

    def descriptor(self):
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data),
                **self.extra}


@dataclass
class Manifest(Blob):
    blobs: list = field(default_factory=list)
    children: list = field(default_factory=list)

    def all_blobs(self):
        return {b.digest: b for m in [self, *self.children] for b in m.blobs}.values()

    def all_manifests(self):
        """The children first, as a push must have it."""
        return [*self.children, self]

    @property
    def layers(self):
        return self.blobs[1:]


def layer(size, seed, types=OCI):
    """A tar.gz with one file of `size` bytes that do not compress."""
    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w") as tar:
        entry = tarfile.TarInfo(f"data-{seed}")
        entry.size = size
        tar.addfile(entry, io.BytesIO(noise(size, seed)))
    diff_id = digest_of(tar_bytes.getvalue())
    return Blob(types["layer"], gzip.compress(tar_bytes.getvalue(), 1, mtime=0)), diff_id


def image(seed, layer_sizes=(200_000, 50_000), types=OCI, os="linux", architecture="amd64",
          os_version=None, subject=None, annotations=None):
    made = [layer(size, f"{seed}-{i}", types) for i, size in enumerate(layer_sizes)]
    config = {"architecture": architecture, "os": os, "config": {"Cmd": ["/data"]},
              "rootfs": {"type": "layers", "diff_ids": [d for _, d in made]},
              "history": [{"created_by": str(seed)} for _ in made]}
    platform = {"architecture": architecture, "os": os}
    if os_version:
        config["os.version"] = platform["os.version"] = os_version
    blobs = [Blob(types["config"], json.dumps(config).encode()), *(b for b, _ in made)]
    document = {"schemaVersion": 2, "mediaType": types["manifest"],
                "config": blobs[0].descriptor(), "layers": [b.descriptor() for b in blobs[1:]]}
    if subject:
        document["subject"] = subject.descriptor()
    if annotations:
        document["annotations"] = annotations
    # Odd white space: a document that is parsed and written again changes its digest.
    data = json.dumps(document, indent=5).encode() + b"\n"
    return Manifest(types["manifest"], data, {"platform": platform}, blobs)


def index(children, types=OCI):
    document = {"schemaVersion": 2, "mediaType": types["index"],
                "manifests": [m.descriptor() for m in children]}
    return Manifest(types["index"], json.dumps(document, indent=2).encode(), {}, [],
                    list(children))


def artifact(seed, subject, size=300):
    """An artifact (a signature, say) that refers to an image."""
    blobs = [Blob("application/vnd.oci.empty.v1+json", b"{}"),
             Blob("application/vnd.example.signature", noise(size, seed))]
    document = {"schemaVersion": 2, "mediaType": OCI["manifest"],
                "artifactType": "application/vnd.example.signature",
                "config": blobs[0].descriptor(), "layers": [blobs[1].descriptor()],
                "subject": {k: v for k, v in subject.descriptor().items() if k != "platform"}}
    return Manifest(OCI["manifest"], json.dumps(document).encode(),
                    {"artifactType": document["artifactType"]}, blobs)


def push(address, item, repository, tag):
    """Upload an image or index to a registry over its HTTP API."""
    c = http.client.HTTPConnection(*address, timeout=30)

    def call(method, path, body=None, fields=None, expect=201):
        c.request(method, path, body=body, headers=fields or {})
        answer = c.getresponse()
        text = answer.read()
        assert answer.status == expect, f"{method} {path}: {answer.status} {text[:300]!r}"
        return answer

    for blob in item.all_blobs():
        started = call("POST", f"/v2/{repository}/blobs/uploads/", expect=202)
        location = started.headers["Location"].split(f":{address[1]}", 1)[-1]
        mark = "&" if "?" in location else "?"
        call("PUT", f"{location}{mark}digest={blob.digest}", blob.data,
             {"Content-Type": "application/octet-stream"})
    for manifest in item.all_manifests():
        reference = tag if manifest is item else manifest.digest
        call("PUT", f"/v2/{repository}/manifests/{reference}", manifest.data,
             {"Content-Type": manifest.media_type})
    c.close()
    return item
