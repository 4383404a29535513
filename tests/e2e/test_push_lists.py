# SPDX-License-Identifier: ISC
"""Lists of local repositories and of their tags, distribution-spec 1.1.1 "Content
Discovery" and the catalog of Docker's registry API."""

import json

import pytest

from lib import rawhttp
from lib.cachalot import Cachalot
from lib.crowd import together
from lib.hub import Hub
from lib.image import ACCEPT, OCI, digest_of, image
from lib.paths import HUB, manifest
from lib.pusher import (EVERYBODY, Pusher, begin_request, next_page, pages, read_answer,
                        refused)

INDEX = b'{"schemaVersion":2,"manifests":[]}'
TAGS = sorted(["1.0", "1.10", "1.2", "A", "Z", "_x", "a", "a-b", "a.b", "a_b", "latest", "z"])
PAGE_MAX = 10_000
TAGS_A_PUT = 32


@pytest.fixture(scope="module")
def upstream():
    hub = Hub()
    hub.hold(image("lists", (100,)), "library/app", "1")
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, upstream):
    d = Cachalot(tmp_path_factory.mktemp("push"), {HUB: upstream.url}, EVERYBODY)
    d.start()
    yield d
    d.close()


def put_tags(p, tags):
    """Many tags of one manifest, as many at once as may be."""
    for i in range(0, len(tags), TAGS_A_PUT):
        query = "&".join(f"tag={t}" for t in tags[i:i + TAGS_A_PUT])
        got = p.put_manifest(f"{digest_of(INDEX)}?{query}", INDEX, OCI["index"])
        assert got.status == 201, got


@pytest.fixture(scope="module")
def p(daemon):
    """A repository with a few tags."""
    made = Pusher(daemon.address, "lists/few")
    put_tags(made, TAGS[::-1])
    return made


@pytest.fixture(scope="module")
def many(daemon):
    """One with more tags than an answer has room for, and its tags."""
    made = Pusher(daemon.address, "lists/many")
    tags = [f"v{i}" for i in range(PAGE_MAX + 50)]
    put_tags(made, tags)
    return made, sorted(tags)


def tags(got, name="lists/few"):
    assert got.status == 200 and got["Content-Type"] == "application/json", got
    found = json.loads(got.body)
    assert found["name"] == name and set(found) == {"name", "tags"}
    return found["tags"]


def test_all_tags(p):
    """"Listing Tags", end-8a: all of them, in lexical order, without a Link."""
    got = p.get("tags/list")
    assert tags(got) == TAGS and got["Link"] is None
    head = p.get("tags/list", "HEAD")
    assert head.status == 200 and head.length == len(got.body)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 11, 12, 13])
def test_pages(p, n):
    """"Listing Tags", end-8b: n at a time, each once; a Link to the next page as long as
    there is one, and not to an empty one."""
    answers = pages(p.address, p.path(f"tags/list?n={n}"))
    found = [tags(a) for a in answers]
    assert [t for page in found for t in page] == TAGS
    assert all(len(page) == n for page in found[:-1]) and found[-1]


def test_link(p):
    """"Listing Tags": the Link has n and last, and leads to a path of ours."""
    got = p.get("tags/list?n=3")
    assert got["Link"] == f'</v2/lists/few/tags/list?n=3&last={TAGS[2]}>; rel="next"'


@pytest.mark.parametrize("last", ["", "0", "1.0", "1.1", "Zz", "a-b", "zz", "%7E", "a" * 200])
def test_last(p, last):
    """"Listing Tags": `last` is where to go on after, a tag or not, with n and without."""
    text = last.replace("%7E", "~")
    rest = [t for t in TAGS if t > text]
    assert tags(p.get(f"tags/list?last={last}")) == rest
    assert tags(p.get(f"tags/list?last={last}&n=2")) == rest[:2]


def test_none(p):
    """"Listing Tags": n=0 is an empty list without a Link."""
    for query in ("n=0", "n=0&last=a", "n=000"):
        got = p.get(f"tags/list?{query}")
        assert tags(got) == [] and got["Link"] is None


def test_many_tags(many):
    """"Listing Tags": more than an answer has room for: a Link leads on even without n,
    and however large n is (row 58 of the fault list)."""
    made, wanted = many
    name = made.repository
    for query in ("", "?n=10001", "?n=2147483648", "?n=99999999999999999999"):
        answers = pages(made.address, made.path("tags/list") + query)
        assert [len(tags(a, name)) for a in answers] == [PAGE_MAX, 50]
        assert [t for a in answers for t in tags(a, name)] == wanted
    answers = pages(made.address, made.path("tags/list?n=999"))
    assert [t for a in answers for t in tags(a, name)] == wanted and len(answers) == 11


def test_many_tags_deleted(daemon):
    """"Deleting Manifests": with a thousand tags, all go with it."""
    p = Pusher(daemon.address, "lists/deleted")
    put_tags(p, [f"v{i}" for i in range(1000)])
    assert p.remove(f"manifests/{digest_of(INDEX)}").status == 202
    assert tags(p.get("tags/list"), "lists/deleted") == []
    assert p.manifest("v500").status == 404


def test_unknown_repository(p):
    """"Listing Tags": 404 of a repository that was never seen, and of one that has blobs
    and no manifest yet."""
    other = Pusher(p.address, "lists/never")
    refused(other.get("tags/list"), 404, "NAME_UNKNOWN")
    other.push_blob(b"a blob")
    refused(other.get("tags/list"), 404, "NAME_UNKNOWN")


def test_tags_of_a_longer_name(daemon):
    """A repository whose name begins as another's has tags of its own."""
    for name, tag in (("lists/a", "1"), ("lists/a/b", "2"), ("lists/ab", "3")):
        put_tags(Pusher(daemon.address, name), [tag])
    for name, tag in (("lists/a", "1"), ("lists/a/b", "2"), ("lists/ab", "3")):
        assert tags(Pusher(daemon.address, name).get("tags/list"), name) == [tag]


@pytest.mark.parametrize("query", ["?n=-1", "?n=x", "?n=1.5", "?n=", "?n=1&n=2", "?n=+1",
                                   "?last=<script>", "?last=%3Cscript%3E", "?last=%00",
                                   "?last=%22%3E%0d%0aX:y", "?last=" + "a" * 600, "?n=%zz"])
@pytest.mark.parametrize("rest", ["lists/few/tags/list", "_catalog",
                                  f"lists/few/referrers/{digest_of(b'x')}"])
def test_odd_queries(p, rest, query):
    """Row 58 of the fault list: off its grammar a query is 400 or counts as its place in
    the order; nothing of it comes back as it was sent."""
    got = rawhttp.get(p.address, f"/v2/{rest}{query}")
    assert got.status in (200, 400), got
    assert b"<script" not in got.body and got["X"] is None
    assert "<script" not in (got["Link"] or "")
    assert got.status == 400 or not query.startswith("?n=")
    json.loads(got.body)


# --- the catalog ---


@pytest.fixture
def team(cachalot, upstream):
    """A registry with seven repositories of its own; and one that was pulled."""
    daemon = cachalot({HUB: upstream.url}, EVERYBODY)
    assert daemon.get(manifest("library/app", "1"), fields=ACCEPT).status == 200
    for name in ("b", "a/b", "a", "c/d/e", "a-b", "secret/1", "secret/2"):
        put_tags(Pusher(daemon.address, name), ["1"])
    Pusher(daemon.address, "only/blobs").push_blob(b"a blob")
    return daemon


def repositories(got):
    assert got.status == 200 and got["Content-Type"] == "application/json", got
    found = json.loads(got.body)
    assert set(found) == {"repositories"}
    return found["repositories"]


ALL = sorted(["b", "a/b", "a", "c/d/e", "a-b", "secret/1", "secret/2"])


def test_catalog(team):
    """All local repositories that have manifests, in order, page by page or at once; n=0 is
    none; what was pulled from an upstream is not one of them."""
    got = team.get("/v2/_catalog")
    assert repositories(got) == ALL and got["Link"] is None
    for n in (1, 3, 7, 8, 2**31, 10**30):
        answers = pages(team.address, f"/v2/_catalog?n={n}")
        assert [r for a in answers for r in repositories(a)] == ALL
        assert len(answers) == -(-len(ALL) // n)
    got = team.get("/v2/_catalog?n=0")
    assert repositories(got) == [] and got["Link"] is None
    assert repositories(team.get("/v2/_catalog?last=a%2Fb")) == ALL[ALL.index("a/b") + 1:]
    assert team.head("/v2/_catalog").status == 200


def test_catalog_of_what_one_may_pull(team):
    """Who may not pull from a repository does not learn that it is there, page by page
    neither; a Link leads to no empty page."""
    team.sections["access everybody"]["repositories"] = "a a/b b"
    team.write_config()
    team.hup()
    wanted = ["a", "a/b", "b"]
    assert repositories(team.get("/v2/_catalog")) == wanted
    answers = pages(team.address, "/v2/_catalog?n=2")
    assert [repositories(a) for a in answers] == [["a", "a/b"], ["b"]]
    assert next_page(team.get("/v2/_catalog?n=3")) is None


@pytest.mark.slow
def test_catalog_of_few_among_many(cachalot):
    """However many one may not pull from, a page takes no longer than for 20,000 of them: it
    ends early, and its Link leads on to the rest."""
    daemon = cachalot({}, EVERYBODY)
    hidden = [f"h/{i:05}" for i in range(20_500)]

    def put(names):
        with daemon.connect() as c:
            for name in names:
                begin_request(c, "PUT", f"/v2/{name}/manifests/1", len(INDEX),
                              [("Content-Type", OCI["index"])])
                c.send(INDEX)
                assert read_answer(c).status == 201

    together(16, lambda i: put(hidden[i::16]))
    put(["a", "z"])
    daemon.sections["access everybody"]["repositories"] = "a z"
    daemon.write_config()
    daemon.hup()
    for query in ("", "?n=1", "?n=2"):
        answers = pages(daemon.address, "/v2/_catalog" + query)
        found = [repositories(a) for a in answers]
        assert sum(found, []) == ["a", "z"] and 2 <= len(found) <= 3, found


def test_catalog_of_nothing(cachalot):
    """A registry that nobody pushed to."""
    got = cachalot({}).get("/v2/_catalog")
    assert repositories(got) == [] and got["Link"] is None
