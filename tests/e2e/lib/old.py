# SPDX-License-Identifier: ISC
"""A cache directory as an earlier cachalotd left it, with what it pulled.

data/cache-1.tar.xz was made by the daemon of commit 210f0ce, the last that took no pushes and
had no tables of uploads, parents, holders, pins and more. To make another, of a daemon that
is built elsewhere:

    cd tests/e2e && CACHALOT_BUILD=DIR python3 -m lib.old data/cache-N.tar.xz
"""

import sys
import tarfile
import tempfile
from pathlib import Path

from lib import image, windows
from lib.cachalot import Cachalot
from lib.hub import Hub
from lib.image import ACCEPT
from lib.paths import HUB, MCR, blob, manifest, referrers, tags

DATA = Path(__file__).parents[1] / "data"


def linux():
    return image.index([image.image("old", (500, 300)),
                        image.image("old-arm", (400,), architecture="arm64")])


def signature():
    return image.artifact("old-signature", linux())


def servercore(address):
    """An index of one build; its base layer is foreign, and kept at that address."""
    base = windows.foreign_layer(image.noise(900, "old-base"), [f"http://{address}/base"])
    return windows.servercore(windows.windows_image([base, windows.layer(700, "old-delta")],
                                                    "10.0.20348.1"))


def contents():
    """(registry, repository, tag, item)"""
    return [(HUB, "library/app", "1", linux()), (MCR, "windows/servercore", "ltsc", servercore(
        "foreign.test"))]


def unpack(name, directory):
    """The directory of that cache."""
    with tarfile.open(DATA / name) as tar:
        tar.extractall(directory)
    return directory / "cache"


def pull(ours, registry, repository, tag, item):
    """By tag and by digest, as a client would."""
    assert ours.get(manifest(repository, tag, registry), fields=ACCEPT).body == item.data
    for each in item.all_manifests():
        got = ours.get(manifest(repository, each.digest, registry), fields=ACCEPT)
        assert got.body == each.data
    for each in item.all_blobs():
        assert ours.get(blob(repository, each.digest, registry)).body == each.data


def pull_all(ours):
    for what in contents():
        pull(ours, *what)
    got = ours.get(referrers("library/app", linux().digest), fields=ACCEPT)
    assert got.status == 200 and signature().digest.encode() in got.body
    assert ours.get(manifest("library/app", signature().digest), fields=ACCEPT).status == 200
    assert ours.get(tags("library/app")).body.count(b'"1"') == 1


def make(output):
    with tempfile.TemporaryDirectory() as directory:
        hub = Hub()
        for _, repository, tag, item in contents():
            hub.hold(item, repository, tag)
        hub.hold(signature(), "library/app")
        hub.referrers["library/app", linux().digest] = [signature().descriptor()]
        ours = Cachalot(Path(directory), {HUB: hub.url, MCR: hub.url})
        del ours.sections["cache"]["user"]
        ours.write_config()
        ours.start()
        pull_all(ours)
        assert ours.stop() == 0
        hub.close()
        with tarfile.open(output, "w:xz") as tar:
            tar.add(ours.cache, "cache", filter=anonymous)


def anonymous(entry):
    if entry.name.endswith(("/lock", "/lock.mdb")):
        return None  # of the running process alone
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    make(sys.argv[1])
