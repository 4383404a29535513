# SPDX-License-Identifier: ISC
"""Large blobs come in pieces over several connections."""

import json

import pytest

from lib.crowd import Crowd
from lib.hub import Hub
from lib.image import OCI, Blob, Manifest, noise
from lib.paths import HUB, blob, manifest
from lib.rawhttp import Closed
from lib.wait import until

MIB = 1 << 20
SIZE = 80 * MIB + 12345
PIECE = 4 * MIB


@pytest.fixture(scope="module")
def big():
    """An image whose one layer is large: its manifest tells the size."""
    layer = Blob(OCI["layer"], noise(SIZE, "pieces"))
    config = Blob(OCI["config"], b"{}")
    document = {"schemaVersion": 2, "mediaType": OCI["manifest"],
                "config": config.descriptor(), "layers": [layer.descriptor()]}
    return Manifest(OCI["manifest"], json.dumps(document).encode(), {}, [config, layer])


@pytest.fixture
def layer(big):
    return big.layers[0]


@pytest.fixture
def upstream(hub, big):
    hub.hold(big, "library/app", "1")
    return hub


@pytest.fixture
def path(layer):
    return blob("library/app", layer.digest)


def begin(cachalot, upstream, **more):
    """A daemon that knows the manifest, and so the size."""
    daemon = cachalot({HUB: {"url": upstream.url, "connections": 4, "stall-timeout": "1s",
                             "connect-timeout": "1s", **more}})
    learn(daemon, upstream)
    return daemon


def learn(daemon, upstream):
    assert daemon.get(manifest("library/app", "1")).status == 200
    daemon.wait_metric("manifests_stored_total", 1)
    upstream.forget()


def pieces_of(upstream):
    """What was asked for: [(start, end)] in order, None for the whole."""
    asked = []
    for r in upstream.asked("GET", "/blobs/"):
        if r.range is None:
            asked.append(None)
            continue
        first, last = r.range.removeprefix("bytes=").split("-")
        asked.append((int(first), int(last) + 1 if last else SIZE))
    return asked


def check_cover(upstream, waste=1.02):
    """Every byte was asked for, and few crossed twice."""
    at = 0
    for start, end in sorted(pieces_of(upstream)):
        assert start <= at
        at = max(at, end)
    assert at == SIZE
    assert SIZE <= upstream.bytes_sent() <= waste * SIZE


def test_in_pieces(upstream, cachalot, layer, path):
    """The first question is for the first piece alone; then four connections share the
    rest, each piece a power of two; nothing crosses twice; what is stored is the blob."""
    daemon = begin(cachalot, upstream)
    upstream.fault("/blobs/", drip=2_000_000)
    got = daemon.get(path)
    assert got.status == 200 and got.complete and got.body == layer.data
    asked = pieces_of(upstream)
    assert asked[0] == (0, PIECE)
    assert all(end - start in (PIECE, SIZE % PIECE) for start, end in asked)
    assert len(asked) == len(set(asked)) == SIZE // PIECE + 1
    assert upstream.bytes_sent() == SIZE
    assert upstream.most_at_once("/blobs/") == 4
    daemon.wait_metric("blobs_stored_total", 1)
    assert daemon.metric("upstream_resumes_total") == 0
    assert daemon.partials() == []


@pytest.mark.parametrize("connections", [1, 2, 16])
def test_as_many_as_configured(upstream, cachalot, layer, path, connections):
    """`connections` bounds how many there are at once; 1 is today's one request."""
    daemon = begin(cachalot, upstream, connections=connections)
    gate = upstream.gate("/blobs/")
    crowd = Crowd().add(daemon.get, path)
    gate.wait_reached()
    if connections > 1:
        assert upstream.count("GET", "/blobs/") >= 1
    else:
        assert pieces_of(upstream) == [None]
    upstream.wait_count(connections, "GET", "/blobs/")
    gate.open()
    assert crowd.join()[0].body == layer.data
    assert upstream.most_at_once("/blobs/") == connections
    assert upstream.bytes_sent() == SIZE


def test_small_blobs_come_whole(upstream, cachalot):
    """Up to 64 MiB one connection does."""
    data = noise(2_000_000, "small")
    daemon = begin(cachalot, upstream)
    path = blob("library/app", upstream.hold_blob("library/app", data))
    assert daemon.get(path).body == data
    assert pieces_of(upstream) == [None]


def test_size_from_the_first_answer(upstream, cachalot, layer, path):
    """Nobody told the size before: the first answer does, and that it takes ranges;
    what it brings after some time is cut where others have begun."""
    daemon = cachalot({HUB: upstream.url})
    upstream.fault("/blobs/", drip=2_000_000)
    got = daemon.get(path)
    assert got.complete and got.body == layer.data
    asked = pieces_of(upstream)
    assert asked[0] is None and len(asked) > 4 and None not in asked[1:]
    assert upstream.bytes_sent() <= SIZE + 16 * MIB


def test_range_is_ignored(upstream, cachalot, layer, path):
    """The upstream answers the first range with the whole: one connection, one request."""
    upstream.fault("/blobs/", ignore_range=True)
    daemon = begin(cachalot, upstream)
    assert daemon.get(path).body == layer.data
    assert pieces_of(upstream) == [(0, PIECE)]
    assert upstream.bytes_sent() == SIZE


@pytest.mark.parametrize("reset", [False, True])
def test_connections_break(upstream, cachalot, layer, path, reset):
    """Connections break in the middle of pieces, again and again: each is continued
    where it broke."""
    daemon = begin(cachalot, upstream)
    upstream.fault("/blobs/", truncate_after=1_500_000, reset=reset, times=12)
    assert daemon.get(path).body == layer.data
    check_cover(upstream, 1.25 if reset else 1.0)
    assert daemon.metric("upstream_resumes_total") >= 6


WRONG = [
    {"content_range": f"bytes 0-{PIECE - 1}/{SIZE}"},
    {"content_range": f"bytes {PIECE}-{2 * PIECE - 1}/{SIZE + 1}"},
    {"content_range": f"bytes {PIECE}-{2 * PIECE - 1}/*"},
    {"content_range": "pages 1-2/3"},
    {"ignore_range": True},
    {"status": 416},
    {"extra": b"more"},
    {"chunked": True, "extra": b"more"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_one_piece_is_answered_wrongly(upstream, cachalot, layer, path, wrong):
    """One piece gets another range, another size, the whole, an error: it is asked for
    again; the others do not mind."""
    daemon = begin(cachalot, upstream)
    second = f"bytes={PIECE}-{2 * PIECE - 1}"
    upstream.fault("/blobs/", range=second, times=1, **wrong)
    assert daemon.get(path).body == layer.data
    asked = pieces_of(upstream)
    assert asked.count((PIECE, 2 * PIECE)) <= 2
    assert None not in asked and len(asked) <= SIZE // PIECE + 3


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_pieces_are_answered_wrongly_for_ever(upstream, cachalot, layer, path, wrong):
    """All but the first piece are answered with nonsense: after a few tries one
    connection asks for the whole, and the client has its blob."""
    daemon = begin(cachalot, upstream)
    for start in range(PIECE, SIZE, PIECE):
        upstream.fault("/blobs/", range=f"bytes={start}-", **wrong)
    got = daemon.get(path)
    assert got.complete and got.body == layer.data
    assert upstream.count("GET", "/blobs/") < 40


def test_slow_piece(upstream, cachalot, layer, path):
    """One connection is very slow: the others bring all the rest meanwhile, and the
    client has what comes before it."""
    daemon = begin(cachalot, upstream)
    slow = upstream.gate("/blobs/", after=1_000_000, range=f"bytes={2 * PIECE}-", times=1)
    with daemon.connect() as c:
        c.request(path)
        assert c.read_head().status == 200
        assert c.read_some(2 * PIECE + 1_000_000) == layer.data[:2 * PIECE + 1_000_000]
        until("all the rest has come",
              lambda: daemon.metric("upstream_bytes_total") >= SIZE - PIECE + 1_000_000)
        slow.open()
        rest = layer.data[2 * PIECE + 1_000_000:]
        assert c.read_some(len(rest)) == rest


def test_readers_are_served_from_the_front(upstream, cachalot, layer, path):
    """While later pieces come, the first client reads what is there from the front."""
    daemon = begin(cachalot, upstream)
    gate = upstream.gate("/blobs/", after=2_000_000, range="bytes=0-", times=1)
    with daemon.connect() as c:
        c.request(path)
        assert c.read_head().status == 200
        assert c.read_some(2_000_000) == layer.data[:2_000_000]
        gate.open()
        assert c.read_some(SIZE - 2_000_000) == layer.data[2_000_000:]


def test_stalled_piece(upstream, cachalot, layer, path):
    """A connection stalls: after stall-timeout its piece is asked for anew."""
    daemon = begin(cachalot, upstream)
    upstream.fault("/blobs/", range=f"bytes={PIECE}-", stall_after=1_000_000, times=1)
    assert daemon.get(path).body == layer.data
    assert (PIECE + 1_000_000, 2 * PIECE) in pieces_of(upstream)
    assert upstream.bytes_sent() == SIZE


def test_upstream_limits_connections(upstream, cachalot, layer, path):
    """A third connection is refused, whenever it is tried: two do the work."""
    daemon = begin(cachalot, upstream, retries=1)
    upstream.fault("/blobs/", above=2, status=503)
    got = daemon.get(path)
    assert got.complete and got.body == layer.data
    assert upstream.bytes_sent() < SIZE + 1000


def test_fail_over(upstream, cachalot, closing, big, layer, path):
    """The first url breaks in the middle and refuses then: the second one goes on."""
    second = closing(Hub())
    second.hold(big, "library/app", "1")
    daemon = begin(cachalot, upstream, url=[upstream.url, second.url])
    upstream.fault("/blobs/", truncate_after=1_000_000, times=2)
    upstream.fault("/blobs/", status=503)
    got = daemon.get(path)
    assert got.complete and got.body == layer.data
    assert second.count("GET", "/blobs/") >= 4


def test_every_piece_asks_the_registry(upstream, cachalot, closing, layer, path):
    """Blobs are redirected to a signed url of another server: each piece begins at the
    registry again, with a new signature."""
    store = closing(Hub("127.0.0.1"))
    digest = layer.digest
    store.blobs["data", digest] = layer.data
    upstream.fault("/blobs/", redirect=f"{store.url}/v2/data/blobs/{digest}?signed=1")
    daemon = begin(cachalot, upstream)
    upstream.forget()
    assert daemon.get(path).body == layer.data
    assert upstream.count("GET", "/blobs/") == store.count("GET") == SIZE // PIECE + 1
    assert store.bytes_sent() == SIZE


def test_wrong_content(upstream, cachalot, layer, path):
    """The pieces are well-formed and one is wrong: no client has a whole body, all is
    thrown away, and the next fetch begins from nothing."""
    daemon = begin(cachalot, upstream)
    bad = bytearray(layer.data)
    bad[50 * MIB] ^= 1
    upstream.fault("/blobs/", body=bytes(bad))
    got = daemon.get(path)
    assert not got.complete
    daemon.wait_idle()
    assert daemon.metric("verify_failures_total") == 1
    assert not daemon.holds(layer.digest)
    until("the partial is gone", lambda: daemon.partials() == [])
    upstream.heal()
    upstream.forget()
    assert daemon.get(path).body == layer.data
    assert pieces_of(upstream)[0] == (0, PIECE)


def stop_half_way(upstream, daemon, path):
    """Pieces at and after the middle stall half-way; returns when the rest has come."""
    gates = [upstream.gate("/blobs/", after=PIECE // 2, range=f"bytes={start}-")
             for start in range(10 * PIECE, SIZE, PIECE)]

    def pull():
        try:
            daemon.get(path)
        except (OSError, Closed):
            pass

    crowd = Crowd().add(pull)
    for gate in gates[:4]:
        gate.wait_reached()
    until("what came is written",
          lambda: daemon.metric("upstream_bytes_total") >= 12 * PIECE)
    return crowd


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_continued_after_a_restart(upstream, cachalot, layer, path, how):
    """kill -9, or a drain that runs out of time, in the middle: the next daemon asks
    only for what is not on disk."""
    daemon = cachalot({HUB: {"url": upstream.url, "stall-timeout": "60s"}},
                      {"cache": {"drain-timeout": "300ms"}})
    learn(daemon, upstream)
    before = daemon.metric("commits_total")
    crowd = stop_half_way(upstream, daemon, path)
    if how == "kill":
        # The record of the beginning, and one of what was there after 64 MiB.
        daemon.wait_metric("commits_total", before + 2)
        daemon.kill()
    else:
        assert daemon.stop(timeout=20) == 0
    crowd.join()
    upstream.heal()
    sent = upstream.bytes_sent()
    daemon.start()
    assert daemon.get(path).body == layer.data
    assert upstream.bytes_sent() - sent <= SIZE - (6 if how == "kill" else 10) * PIECE
    assert upstream.bytes_sent() < 1.3 * SIZE
    daemon.wait_idle()
    assert daemon.partials() == []


def test_partial_was_damaged(upstream, cachalot, layer, path):
    """What the index says is on disk is not what it was: the digest tells."""
    daemon = cachalot({HUB: {"url": upstream.url, "stall-timeout": "60s"}},
                      {"cache": {"drain-timeout": "300ms"}})
    learn(daemon, upstream)
    crowd = stop_half_way(upstream, daemon, path)
    assert daemon.stop(timeout=20) == 0
    crowd.join()
    upstream.heal()
    partial, = daemon.partials()
    with open(partial, "r+b") as f:
        f.seek(5 * PIECE + 77)
        f.write(b"torn" * 1000)
    daemon.start()
    first = daemon.get(path)
    assert not first.complete or first.body == layer.data
    daemon.wait_idle()
    assert daemon.get(path).body == layer.data


def test_fetch_given_up(upstream, cachalot, layer, path):
    """The upstream is gone for good in the middle: the client is cut after the retries;
    what had come is used by the next fetch."""
    daemon = begin(cachalot, upstream, retries=1)
    upstream.fault("/blobs/", range=f"bytes=0-{PIECE - 1}", times=1)
    for start in range(PIECE, 8 * PIECE, PIECE):
        upstream.fault("/blobs/", range=f"bytes={start}-", times=1)
    upstream.fault("/blobs/", status=500)
    got = daemon.get(path)
    assert got.status == 200 and not got.complete
    assert upstream.count("GET", "/blobs/") <= 8 + 4 * 3
    daemon.wait_idle()
    upstream.heal()
    upstream.forget()
    assert daemon.get(path).body == layer.data
    assert upstream.bytes_sent() == SIZE - 8 * PIECE
