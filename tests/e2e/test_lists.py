# SPDX-License-Identifier: ISC
"""Lists of tags and of referrers: asked of the upstream, kept for when it is down."""

import json
import re

import pytest

from lib import image
from lib.paths import HUB, referrers, tags


@pytest.fixture
def daemon(hub, cachalot):
    for name in "abcdefg":
        hub.hold(image.image("lists", (100,)), "library/app", name)
    return cachalot({HUB: {"url": hub.url, "retries": 1}})


def names(answer):
    assert answer.status == 200, answer
    return json.loads(answer.body)["tags"]


def test_all_tags(hub, daemon):
    """All tags; one request."""
    got = daemon.get(tags("library/app"))
    assert names(got) == list("abcdefg") and got["Link"] is None
    assert got["Content-Type"].startswith("application/json")
    assert hub.count() == 1


@pytest.mark.parametrize("path", [
    "/v2/docker.io/library/app/tags/list", "/docker.io/v2/library/app/tags/list",
    "/v2/library/app/tags/list?ns=docker.io", "/v2/docker.io/app/tags/list",
])
def test_pages(hub, daemon, path):
    """Page by page through cachalot: each Link leads to the next page, by a path that
    cachalot takes; one request a page."""
    seen = []
    where = path + ("&" if "?" in path else "?") + "n=3"
    while where:
        got = daemon.get(where)
        seen.append(names(got))
        link = got["Link"]
        where = re.match(r'<(/[^>]*)>; *rel="?next"?$', link)[1] if link else None
    assert seen == [list("abc"), list("def"), list("g")]
    assert hub.count() == 3


def test_pages_of_a_mirror(hub, daemon):
    """The same on the mirror's listener, where names have no prefix: two pages, two
    requests."""
    got = daemon.get("/v2/library/app/tags/list?n=5", mirror=True)
    where = re.match(r"<(/[^>]*)>", got["Link"])[1]
    assert where.startswith("/v2/library/app/tags/list?")
    assert names(daemon.get(where, mirror=True)) == list("fg")
    assert hub.count() == 2


def test_last(hub, daemon):
    """`last` without `n`, and `n=0`; one request each."""
    assert names(daemon.get(tags("library/app", "?last=e"))) == list("fg")
    assert names(daemon.get(tags("library/app", "?n=0"))) == []
    assert hub.count() == 2


def test_kept_for_when_it_is_down(hub, daemon):
    """The upstream is down: the same question gets the same answer, said to be stale;
    another one is 502. One request, from when it was up."""
    before = daemon.get(tags("library/app", "?n=2"))
    hub.down()
    got = daemon.get(tags("library/app", "?n=2"))
    assert got.body == before.body and got["Link"] == before["Link"]
    assert got["Warning"] is not None
    assert daemon.get(tags("library/app", "?n=4")).status == 502
    assert hub.count() == 1


def test_unknown_repository(hub, daemon):
    """404 when the upstream says so; one request."""
    got = daemon.get(tags("library/none"))
    assert got.status == 404 and b"NAME_UNKNOWN" in got.body
    assert hub.count() == 1


@pytest.mark.parametrize("query", ["?n=-1", "?n=x", "?n=99999999999999999999",
                                   "?last=<script>", "?last=" + "a" * 600])
def test_odd_queries(hub, daemon, query):
    """A query that is off its grammar is refused or left out; nothing breaks. What is refused
    is no request, what is not is one."""
    status = daemon.get(tags("library/app", query)).status
    assert status in (200, 400, 404, 414)
    assert hub.count() == (1 if status == 200 else 0)
    assert daemon.get("/v2/").status == 200


@pytest.fixture
def signed(hub, daemon):
    """An image with two artifacts that refer to it."""
    item = hub.hold(image.image("signed", (100,)), "library/app", "s")
    found = [hub.hold(image.artifact(f"sig-{i}", item), "library/app") for i in range(2)]
    hub.referrers["library/app", item.digest] = [f.descriptor() for f in found]
    hub.forget()
    return item, found


def test_referrers(hub, daemon, signed):
    """Referrers of an image, and filtered by type; one request each."""
    item, found = signed
    got = daemon.get(referrers("library/app", item.digest))
    assert got.status == 200
    assert got["Content-Type"] == image.OCI["index"]
    assert [m["digest"] for m in json.loads(got.body)["manifests"]] == [f.digest for f in found]
    got = daemon.get(referrers("library/app", item.digest, "?artifactType=text/none"))
    assert json.loads(got.body)["manifests"] == []
    assert got["OCI-Filters-Applied"] == "artifactType"
    assert hub.count() == 2


def test_referrers_down(hub, daemon, signed):
    """Kept for when the upstream is down; one request, from when it was up."""
    path = referrers("library/app", signed[0].digest)
    before = daemon.get(path).body
    hub.down()
    got = daemon.get(path)
    assert got.status == 200 and got.body == before
    assert hub.count() == 1


def test_referrers_not_spoken(hub, daemon):
    """An upstream without the API: its 404 goes through, so that clients look for the
    fallback tag; an empty list is never invented. One request."""
    item = image.image("none", (100,))
    assert daemon.get(referrers("library/app", item.digest)).status == 404
    assert hub.count() == 1
