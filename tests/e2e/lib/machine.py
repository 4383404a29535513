# SPDX-License-Identifier: ISC
"""A Windows machine that pulls an image as Docker's engine does: the tag, the manifest of its
build by digest, then each blob. It checks every digest, and keeps no byte."""

import hashlib
import json

from lib import rawhttp
from lib.image import ACCEPT, digest_of
from lib.paths import MCR
from lib.wait import until


def by_prefix(path, registry=MCR):
    return f"/v2/{registry}/{path}"


def by_host(path, registry=MCR):
    return f"/{registry}/v2/{path}"


def by_ns(path, registry=MCR):
    return f"/v2/{path}?ns={registry}"


def by_mirror(path, registry=None):
    return f"/v2/{path}"


class Machine:
    """`door` makes the path of a request from "repository/kind/reference"."""

    def __init__(self, address, door):
        self.address = address
        self.door = door
        self.limited = 0     # times that it was told to come back later
        self.stale = 0       # answers that were said to be stale
        self.cuts = 0        # bodies that were cut short

    def ask(self, path, method="GET"):
        """As long as the answer is 429 it asks again, more eagerly than it should."""
        def answered():
            got = rawhttp.get(self.address, self.door(path), method, ACCEPT, timeout=60)
            if got.status == 429:
                assert int(got["Retry-After"]) >= 1
                self.limited += 1
            return got.status != 429 and got
        got = until(f"{path} is not limited any more", answered, 60)
        assert got.status == 200, got
        self.stale += got["Warning"] is not None
        return got

    def manifest(self, repository, reference):
        got = self.ask(f"{repository}/manifests/{reference}")
        digest = digest_of(got.body)
        assert got.complete and got["Docker-Content-Digest"] == digest
        assert ":" not in reference or reference == digest
        return json.loads(got.body)

    def blob(self, repository, descriptor):
        """Asks for the rest when the body is cut."""
        path = self.door(f"{repository}/blobs/{descriptor['digest']}")
        found = hashlib.sha256()
        at = 0
        while at < descriptor["size"]:
            with rawhttp.Connection(self.address, timeout=60) as c:
                c.request(path, fields=[("Range", f"bytes={at}-")] if at else [])
                head = c.read_head()
                assert head.status == (206 if at else 200), head
                while at < descriptor["size"] and (c.buffer or c.receive()):
                    found.update(c.buffer)
                    at += len(c.buffer)
                    c.buffer = b""
            self.cuts += at < descriptor["size"]
        assert at == descriptor["size"] and f"sha256:{found.hexdigest()}" == descriptor["digest"]

    def pull(self, repository, tag, build=None):
        """The digests of what it has then, in order. Of an index it takes the Windows image
        whose os.version begins with `build`."""
        document = self.manifest(repository, tag)
        have = []
        if "manifests" in document:
            chosen = next(m for m in document["manifests"]
                          if m["platform"].get("os.version", "").startswith(build))
            document = self.manifest(repository, chosen["digest"])
            have.append(chosen["digest"])
        for descriptor in [document["config"], *document["layers"]]:
            self.blob(repository, descriptor)
            have.append(descriptor["digest"])
        return have
