# SPDX-License-Identifier: ISC
"""A morning at an office: twenty machines, one line, and what may go wrong on it."""

import pytest

from lib.crowd import together
from lib.hub import Hub
from lib.image import digest_of, noise
from lib.line import Line
from lib.machine import Machine, by_host, by_mirror, by_ns, by_prefix
from lib.paths import MCR
from lib.process import free_port
from lib.windows import REPOSITORY, foreign_layer, layer, servercore, windows_image

MIB = 1 << 20
# What a connection had in flight when it was cut may cross once more.
LOST_BYTES = 256 * 1024


class Office:
    """Microsoft's registry without the foreign layer, the store that has it, and cachalot
    behind one line."""

    def __init__(self, closing, cachalot, line, base_bytes):
        self.line = line
        self.registry = closing(Hub(line=line))
        self.store = closing(Hub("127.0.0.2", line=line))
        old = noise(4 * MIB, "office foreign")
        self.store.blobs["store", digest_of(old)] = old
        self.foreign = foreign_layer(
            old, [f"{self.store.url}/v2/store/blobs/{digest_of(old)}"])
        self.base = layer(base_bytes, "office base")
        self.delta = layer(6 * MIB, "office delta")
        self.image = windows_image([self.foreign, self.base, self.delta], "10.0.20348.2700")
        older = windows_image([self.base, layer(MIB, "office 1809")], "10.0.17763.6293")
        self.index = self.registry.hold(servercore(older, self.image), REPOSITORY, "ltsc2022")
        del self.registry.blobs[REPOSITORY, self.foreign.digest]
        mirror = ("127.0.0.1", free_port())
        self.daemon = cachalot(
            {MCR: {"url": self.registry.url, "foreign-hosts": "%s:%d" % self.store.address}},
            {"listener mcr": {"role": "mirror", "upstream": MCR,
                              "address": "%s:%d" % mirror}})
        doors = [(self.daemon.address, by_prefix), (self.daemon.address, by_ns),
                 (mirror, by_mirror), (self.daemon.address, by_host)]
        self.machines = [Machine(*doors[i % len(doors)]) for i in range(20)]

    def answered(self, method, where):
        """How often the registry gave what it was asked for."""
        return sum(r.status == 200 for r in self.registry.asked(method, where))

    def check_line(self):
        """What crossed the line, by the logs of those at its other end."""
        small = self.answered("GET", "/manifests/") + self.answered("HEAD", "/manifests/")
        assert self.answered("HEAD", "/manifests/ltsc2022") == 1, "the tag was asked for once"
        assert self.answered("GET", self.index.digest) == 1, "the index crossed once"
        assert self.answered("GET", self.image.digest) == 1, "the manifest crossed once"
        assert small == 3, "nothing else was asked for"
        for blob, hub in ((self.image.blobs[0], self.registry), (self.base, self.registry),
                          (self.delta, self.registry), (self.foreign, self.store)):
            size = len(blob.data)
            lost = LOST_BYTES * self.line.dropped
            assert size - lost <= hub.bytes_sent(blob.digest) <= size + lost, blob.media_type
        asked = {r.path.rpartition("/")[2] for r in self.registry.asked("GET", "/blobs/")}
        assert asked == {b.digest for b in self.image.blobs}, "no other image's blobs crossed"


@pytest.mark.parametrize("base_bytes", [12 * MIB, 72 * MIB], ids=["whole", "pieces"])
def test_a_morning_at_an_office(closing, cachalot, base_bytes):
    """Twenty machines come in and pull servercore: some by cachalot's name for it, some with
    containerd's ns, some through a mirror. The registry says 429 to the first question, and
    then the line drops twice. Nobody's pull fails, nobody sees a body cut, every digest is
    right; and each document and each blob crossed the line once."""
    line = Line(drops=[5 * MIB, base_bytes])
    office = Office(closing, cachalot, line, base_bytes)
    office.registry.fault("/manifests/", status=429, retry_after="1", times=1)

    pulled = together(20, lambda i: office.machines[i].pull(REPOSITORY, "ltsc2022", "10.0.20348."))

    everything = [office.image.digest, *(b.digest for b in office.image.blobs)]
    assert pulled == [everything] * 20
    assert line.dropped == 2
    assert sum(m.cuts for m in office.machines) == 0
    assert any(m.limited for m in office.machines)
    assert [r.status for r in office.registry.asked()].count(429) == 1
    office.daemon.wait_idle()
    office.check_line()
