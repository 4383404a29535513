# SPDX-License-Identifier: ISC
"""A cachalot behind another: the branch office's asks the head office's."""

import pytest

from lib import image
from lib.cachalot import Cachalot
from lib.image import ACCEPT
from lib.paths import HUB, MCR, blob, manifest, tags
from lib.wait import until


@pytest.fixture
def item(hub):
    return hub.hold(image.image("parent", (300_000, 20_000)), "library/app", "1")


@pytest.fixture
def office(closing, tmp_path):
    """office(name, {registry: options}): a daemon of its own."""
    def make(name, upstreams, start=True):
        (tmp_path / name).mkdir()
        daemon = closing(Cachalot(tmp_path / name, upstreams))
        return daemon.start() if start else daemon

    return make


def behind(daemon, door, **options):
    """Options of an upstream that is this cachalot."""
    return {"url": "http://%s:%d" % daemon.address, "parent": door, "retries": 0, "tag-ttl": "0s",
            **options}


def pull(daemon, item, registry=HUB):
    got = daemon.get(manifest("library/app", "1", registry), fields=ACCEPT)
    assert got.status == 200 and got.body == item.data, got
    for x in item.all_blobs():
        assert daemon.get(blob("library/app", x.digest, registry)).body == x.data
    return got


@pytest.mark.parametrize("door", ["prefix", "ns"])
@pytest.mark.parametrize("registry", [HUB, MCR, "quay.io"])
def test_branch_and_head_office(hub, office, item, door, registry):
    """Two branches pull one image: it crosses the head office's line once, whatever the
    registry and the door between them."""
    head = office("head", {registry: {"url": hub.url}})
    branches = [office(f"branch{i}", {registry: behind(head, door)}) for i in range(2)]
    for branch in branches:
        pull(branch, item, registry)
    for x in item.all_blobs():
        assert hub.count("GET", x.digest) == 1
    got = branches[0].get(tags("library/app", "?n=1", registry))
    assert got.status == 200 and b'"1"' in got.body
    assert all(r.query.get("ns") is None for r in hub.requests)


@pytest.mark.parametrize("door", ["prefix", "ns"])
def test_three_in_a_chain(hub, office, item, door):
    """Branch, region, head office: each keeps its copy, and serves it when the ones
    behind it are gone."""
    head = office("head", {HUB: {"url": hub.url}})
    region = office("region", {HUB: behind(head, door)})
    branch = office("branch", {HUB: behind(region, door)})
    pull(branch, item)
    for daemon in (head, region, branch):
        daemon.wait_idle()
        assert {x.digest for x in item.all_blobs()} <= daemon.stored()
    assert region.stop() == 0
    assert pull(branch, item)["Warning"] is not None


@pytest.mark.parametrize("status, answered", [(404, 404), (403, 403), (429, 429), (500, 502)])
def test_errors_come_through(hub, office, item, status, answered):
    """What the registry says reaches the branch as it is."""
    head = office("head", {HUB: {"url": hub.url, "retries": 0}})
    branch = office("branch", {HUB: behind(head, "prefix")})
    hub.fault("/v2/", status=status, retry_after="17" if status == 429 else None)
    got = branch.get(manifest("library/app", "1"))
    assert got.status == answered
    if status == 429:
        assert 1 <= int(got["Retry-After"]) <= 17


def test_head_office_offline(hub, office, item):
    """The head office is offline: the branch is told so, and has what is held there."""
    head = office("head", {HUB: {"url": hub.url}})
    pull(head, item)
    head.wait_idle()
    head.sections["cache"]["offline"] = "yes"
    head.write_config()
    head.hup()
    branch = office("branch", {HUB: behind(head, "ns")})
    pull(branch, item)
    assert branch.get(manifest("library/app", "2")).status == 502


PATHS = [manifest("library/app", "1"), blob("library/app", image.digest_of(b"nowhere")),
         manifest("library/app", image.digest_of(b"nowhere")), tags("library/app")]


def circle(office, door, count):
    """So many, each of which is the next one's upstream."""
    made = [office(f"office{i}", {HUB: {"url": "http://127.0.0.1:9"}}, start=False)
            for i in range(count)]
    for i, daemon in enumerate(made):
        daemon.sections[f"upstream {HUB}"] = behind(made[(i + 1) % count], door)
        daemon.write_config()
        daemon.launch()
    for daemon in made:
        until("it is healthy", lambda d=daemon: d.check_alive() and d.healthy())
    return made


@pytest.mark.parametrize("door", ["prefix", "ns"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_in_a_circle(office, door, count):
    """A cachalot is its own upstream, by way of others: 508 at once, for everything, and
    each was asked once."""
    made = circle(office, door, count)
    for path in PATHS:
        got = made[0].get(path, timeout=10)
        assert got.status == 508, got
        assert b"loop" in got.body
    for method in ("GET", "HEAD"):
        assert made[-1].get(PATHS[0], method, timeout=10).status == 508
    for daemon in made:
        assert daemon.metric("upstream_requests_total") <= 3 * len(PATHS) + 6
