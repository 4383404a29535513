# SPDX-License-Identifier: ISC
"""A cache that another version wrote: an older one goes on, a newer one is refused."""

import hashlib
import json
import sys

import pytest

from lib import image, old
from lib.image import ACCEPT
from lib.paths import HUB, MCR, manifest
from lib.process import free_port
from lib.pusher import Pusher

CACHES = [path.name for path in sorted(old.DATA.glob("cache-*.tar.xz"))]
VERSION, CHECK = b"version", b"version-check"  # keys of the index, beside their values

pytestmark = pytest.mark.skipif(sys.byteorder != "little" or sys.maxsize < 2**63 - 1,
                                reason="LMDB's files are those of another kind of machine")


@pytest.fixture(params=CACHES)
def daemon(request, cachalot, tmp_path):
    """It is not started; its upstreams are down."""
    down = f"http://127.0.0.1:{free_port()}"
    cache = old.unpack(request.param, tmp_path / "old")
    return cachalot({HUB: {"url": down, "retries": 0}, MCR: {"url": down, "retries": 0}},
                    {"access all": {"addresses": "any", "allow": "pull push delete"}},
                    start=False, cache=cache)


def number(x):
    """As the index has it."""
    return (x & 0xFFFFFFFF).to_bytes(4, "little")


def listed(daemon):
    done = daemon.command("ls", "--format", "json")
    assert done.returncode == 0, done
    return {each["reference"] for each in json.loads(done.stdout) if each["complete"]}


def test_older(daemon):
    """All that an older daemon held is served without its upstreams, listed and whole; what is
    new works on it; and it is all there after another start. The older one would refuse it now,
    since it keeps up less."""
    daemon.start()
    for _ in range(2):
        old.pull_all(daemon)
        done = daemon.command("check")
        assert done.returncode == 0, done
        assert listed(daemon) == {f"{registry}/{repository}:{tag}"
                                  for registry, repository, tag, _ in old.contents()}
        assert daemon.stop() == 0
        daemon.start()
    pusher = Pusher(daemon.address, "team/app")
    pusher.push(old.linux(), "1")
    fresh = pusher.push(image.image("fresh", (2000,)), "2")
    assert daemon.command("pin", f"{HUB}/library/app:1").returncode == 0
    assert pusher.remove("manifests/1").status == 202
    assert daemon.stop() == 0
    data = (daemon.cache / "db/data.mdb").read_bytes()
    assert VERSION + number(2) in data and CHECK + number(~2) in data
    daemon.start()
    old.pull_all(daemon)
    assert pusher.manifest("2", fields=ACCEPT).body == fresh.data
    assert pusher.manifest("1", fields=ACCEPT).status == 404


def test_newer(daemon):
    """An index with a number that this daemon does not know: it does not start, says why, and
    leaves every byte as it is."""
    path = daemon.cache / "db/data.mdb"
    data = path.read_bytes()
    for key, now, then in ((VERSION, 1, 3), (CHECK, ~1, ~3)):
        data = data.replace(key + number(now), key + number(then))
    assert data != path.read_bytes()
    path.write_bytes(data)
    daemon.launch()
    assert daemon.join() == 1
    assert "written by another version" in daemon.stderr_tail()
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(data).digest()
    assert daemon.holds(old.linux().children[0].blobs[0].digest)
    assert not [x for x in daemon.cache.iterdir() if "aside" in x.name or "damaged" in x.name]


def test_newer_layout(daemon):
    """The same of a layout of another version."""
    layout = daemon.cache / "oci-layout"
    layout.write_text('{"imageLayoutVersion":"2.0.0"}')
    daemon.launch()
    assert daemon.join() == 1
    assert "not that of an OCI image layout of version 1.0.0" in daemon.stderr_tail()
    layout.write_text('{"imageLayoutVersion":"1.0.0"}')
    daemon.start()
    assert daemon.get(manifest("library/app", "1"), fields=ACCEPT).body == old.linux().data
