# SPDX-License-Identifier: ISC
"""One download whatever the number of clients; the file is the buffer."""

import re
from pathlib import Path

import pytest

from lib import image
from lib.crowd import Crowd, together
from lib.image import ACCEPT, noise
from lib.paths import HUB, blob, manifest

pytestmark = pytest.mark.threads

SIZE = 1_500_000


@pytest.fixture
def data(hub):
    data = noise(SIZE, "collapse")
    hub.hold_blob("library/app", data)
    return data


@pytest.fixture
def path(data):
    return blob("library/app", image.digest_of(data))


@pytest.fixture
def daemon(hub, cachalot):
    return cachalot({HUB: hub.url})


@pytest.mark.parametrize("clients", [10, 100])
def test_asked_once(hub, daemon, data, path, clients):
    """Ten, then a hundred clients ask for one blob; the registry is asked once."""
    gate = hub.gate("/blobs/", after=SIZE // 3)
    crowd = Crowd()
    for _ in range(clients):
        crowd.add(daemon.get, path)
    daemon.wait_metric("readers", clients)
    gate.open()
    for got in crowd.join():
        assert got.status == 200 and got.body == data
    assert hub.count() == 1
    assert daemon.metric("fetches_total") == 1


def test_first_bytes_before_the_last(hub, daemon, data, path):
    """A client reads what has arrived while the registry still holds the rest."""
    gate = hub.gate("/blobs/", after=SIZE // 2)
    with daemon.connect() as c:
        c.request(path)
        head = c.read_head()
        assert head.status == 200 and head.length == SIZE
        assert c.read_some(SIZE // 2) == data[:SIZE // 2]
        assert not gate.opened.is_set()
        gate.open()
        assert c.read_some(SIZE - SIZE // 2) == data[SIZE // 2:]
    assert hub.count() == 1


def test_late_joiner(hub, daemon, data, path):
    """A client that comes when half has arrived gets the whole, and the registry is
    asked once."""
    gate = hub.gate("/blobs/", after=SIZE // 2)
    crowd = Crowd().add(daemon.get, path)
    gate.wait_reached()
    crowd.add(daemon.get, path)
    daemon.wait_metric("readers", 2)
    gate.open()
    assert [got.body for got in crowd.join()] == [data, data]
    assert hub.count() == 1


def test_range_of_a_cold_blob(hub, daemon, data, path):
    """A Range into a blob that is not held: the blob is fetched whole, once, and the
    part is exact; the whole then costs nothing."""
    got = daemon.get(path, fields=[("Range", "bytes=1000000-1000999")])
    assert got.status == 206 and got.body == data[1_000_000:1_001_000]
    assert got["Content-Range"] == f"bytes 1000000-1000999/{SIZE}"
    assert daemon.get(path).body == data
    assert hub.count() == 1 and hub.requests[0].range is None


def test_parallel_chunks(hub, daemon, data, path):
    """containerd's parallel chunks: open-ended ranges, each dropped after its part.
    Every answer is 206, the registry is asked once."""
    step = SIZE // 5

    def chunk(i):
        with daemon.connect() as c:
            c.request(path, fields=[("Range", f"bytes={i * step}-")])
            head = c.read_head()
            assert head.status == 206 and head.length == SIZE - i * step
            return c.read_some(step)

    assert b"".join(together(5, chunk)) == data
    daemon.wait_idle()
    assert hub.count() == 1


def test_first_client_leaves(hub, daemon, data, path):
    """The client that began the fetch leaves in the middle of its body: the other
    one gets the whole, and the registry is asked once."""
    gate = hub.gate("/blobs/", after=SIZE // 2)
    first = daemon.connect()
    first.request(path)
    first.read_head()
    first.read_some(1000)
    crowd = Crowd().add(daemon.get, path)
    daemon.wait_metric("readers", 2)
    first.close()
    gate.open()
    assert crowd.join()[0].body == data
    assert hub.count() == 1


def test_only_client_leaves(hub, daemon, data, path):
    """The only client leaves: the fetch goes on, and the next one is a hit."""
    gate = hub.gate("/blobs/", after=SIZE // 2)
    with daemon.connect() as c:
        c.request(path)
        c.read_head()
    gate.open()
    daemon.wait_metric("blobs_stored_total", 1)
    got = daemon.get(path)
    assert got.body == data and "hit" in got["Cache-Status"]
    assert hub.count() == 1


def test_slow_reader(hub, daemon):
    """A client that takes nothing does not slow the fetch, nor another client."""
    big = noise(16_000_000, "slow")
    path = blob("library/app", hub.hold_blob("library/app", big))
    with daemon.connect(receive_buffer=4096) as slow:
        slow.request(path)
        assert slow.read_head().status == 200
        assert daemon.get(path).body == big
        daemon.wait_metric("blobs_stored_total", 1)
        assert slow.read_some(len(big)) == big
    assert hub.count() == 1


def test_slow_readers_take_no_memory(hub, daemon):
    """Ten clients that take nothing, one that takes all: what they have not read yet is in
    the file, not in memory."""
    def memory():
        status = Path(f"/proc/{daemon.child.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024

    big = noise(32_000_000, "memory")
    path = blob("library/app", hub.hold_blob("library/app", big))
    before = memory()
    slow = [daemon.connect(receive_buffer=4096) for _ in range(10)]
    for c in slow:
        c.request(path)
        assert c.read_head().status == 200
    assert daemon.get(path).body == big
    assert daemon.metric("readers") == 10
    assert memory() - before < len(slow) * len(big) / 2
    for c in slow:
        c.close()
    assert hub.count() == 1


def test_many_blobs_at_once(hub, daemon):
    """Twenty blobs, four clients each, all at once: twenty requests."""
    blobs = [noise(100_000 + i, f"many-{i}") for i in range(20)]
    paths = [blob("library/app", hub.hold_blob("library/app", b)) for b in blobs]
    got = together(80, lambda i: daemon.get(paths[i % 20]))
    assert [g.body for g in got] == blobs * 4
    assert hub.count() == 20


def test_pipelined_behind_a_cold_one(hub, daemon, data, path):
    """A request that waits for the upstream holds back those behind it on the same
    connection, and only those: answers come in order."""
    hot = noise(1000, "hot")
    hot_path = blob("library/app", hub.hold_blob("library/app", hot))
    daemon.get(hot_path)
    gate = hub.gate(path[len("/v2/docker.io"):], after=SIZE // 2)
    with daemon.connect() as c:
        c.request(path)
        c.request(hot_path)
        gate.wait_reached()
        assert daemon.get(hot_path).body == hot
        gate.open()
        assert c.read_response().body == data
        assert c.read_response().body == hot
    assert hub.count() == 2


def test_manifest_by_tag(hub, daemon):
    """Fifty clients ask for one tag: one HEAD and one GET cross."""
    item = hub.hold(image.image("herd"), "library/app", "1")
    gate = hub.gate("/manifests/")
    crowd = Crowd()
    for _ in range(50):
        crowd.add(daemon.get, manifest("library/app", "1"), "GET", ACCEPT)
    gate.wait_reached()
    gate.open()
    assert all(got.body == item.data for got in crowd.join())
    assert hub.count("HEAD") <= 1 and hub.count("GET") == 1


def test_head_of_a_blob_under_way(hub, daemon, data, path):
    """A HEAD of a blob that is being fetched is answered at once, with its size."""
    gate = hub.gate("/blobs/", after=SIZE // 2)
    crowd = Crowd().add(daemon.get, path)
    gate.wait_reached()
    got = daemon.head(path)
    assert got.status == 200 and got.length == SIZE
    gate.open()
    crowd.join()
    assert hub.count() == 1
