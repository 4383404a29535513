# SPDX-License-Identifier: ISC
"""Redirects: followed hop by hop, never to where they must not lead."""

import pytest

from lib import image
from lib.hub import Hub
from lib.image import ACCEPT, noise
from lib.names import PUBLIC, NameServer, add_public_address
from lib.paths import HUB, blob, manifest
from lib.sample import BLOB, DATA, DIGEST, check_heals


@pytest.fixture
def daemon(impatient):
    return impatient


def test_redirect(upstream, daemon, closing):
    """A blob on another host (a CDN): followed, once, and verified like any other."""
    cdn = closing(Hub())
    cdn.blobs["store", DIGEST] = DATA
    upstream.fault("/blobs/", redirect=f"{cdn.url}/v2/store/blobs/{DIGEST}?signature=abc")
    got = daemon.get(BLOB)
    assert got.status == 200 and got.body == DATA
    assert upstream.count() == 1 and cdn.count() == 1
    assert "authorization" not in cdn.requests[0].fields


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_statuses(upstream, daemon, status):
    """Every kind of redirect, to an absolute path, of a blob and of a manifest."""
    item = upstream.hold(image.image("moved", (1000,)), "other/app", "1")
    upstream.blobs["other/app", DIGEST] = DATA
    upstream.fault(f"library/app/blobs/{DIGEST}", redirect=f"/v2/other/app/blobs/{DIGEST}",
                   redirect_status=status)
    upstream.fault("library/app/manifests/", redirect=f"/v2/other/app/manifests/{item.digest}",
                   redirect_status=status)
    assert daemon.get(BLOB).body == DATA
    got = daemon.get(manifest("library/app", item.digest), fields=ACCEPT)
    assert got.status == 200 and got.body == item.data
    assert upstream.count("GET") == 4


def test_redirect_is_asked_anew(upstream, daemon, closing):
    """A signed address is not kept: on a break the registry is asked again."""
    cdn = closing(Hub())
    cdn.blobs["store", DIGEST] = DATA
    cdn.fault("/blobs/", truncate_after=400_000, times=1)
    upstream.fault("/blobs/", redirect=f"{cdn.url}/v2/store/blobs/{DIGEST}")
    assert daemon.get(BLOB).body == DATA
    assert upstream.count() == 2 and cdn.count() == 2
    assert cdn.requests[1].range == "bytes=400000-"


@pytest.mark.parametrize("where", [
    "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "http://169.254.169.254/x",
    "javascript:alert(1)", "http://", "//", "", "http://user:password@127.0.0.1:9/x",
])
def test_bad_redirects(upstream, daemon, where):
    """To another scheme, to a metadata address, to nowhere: refused, 502."""
    upstream.fault("/blobs/", redirect=where)
    got = daemon.get(BLOB)
    assert got.status == 502, got
    assert upstream.count() <= 8


def test_redirect_loop(upstream, daemon):
    """A redirect to itself ends: five are followed, the sixth is not."""
    upstream.fault("/blobs/", redirect=f"{upstream.url}/v2/library/app/blobs/{DIGEST}")
    got = daemon.get(BLOB)
    assert got.status == 502 and b"redirects more than 5 times" in got.body
    assert upstream.count() == 6


def test_redirect_to_cachalot(upstream, daemon):
    """A redirect to cachalot's own listener is seen to be a loop; one request."""
    upstream.fault("/blobs/", redirect="http://%s:%d%s" % (*daemon.address, BLOB))
    assert daemon.get(BLOB).status == 508
    assert upstream.count() == 1
    check_heals(daemon, upstream)


# --- redirect-hosts ---

@pytest.fixture
def cdn(closing):
    """On an address that is neither the upstream's nor public."""
    cdn = closing(Hub("127.0.0.2"))
    cdn.blobs["store", DIGEST] = DATA
    return cdn


def redirecting(cachalot, upstream, cdn, *hosts, host=None):
    """A daemon whose upstream redirects blobs to the CDN, under this name."""
    where = f"http://{host or cdn.address[0]}:{cdn.address[1]}"
    upstream.fault("/blobs/", redirect=f"{where}/v2/store/blobs/{DIGEST}")
    return cachalot({HUB: {"url": upstream.url, "retries": 0, "redirect-hosts": hosts}})


def test_only_to_public_hosts(upstream, cachalot, cdn):
    """There is no list: a redirect may lead to any public host, and this one is not."""
    got = redirecting(cachalot, upstream, cdn).get(BLOB)
    assert got.status == 502 and b"not public" in got.body
    assert cdn.count() == 0


@pytest.mark.parametrize("port", [True, False])
def test_listed_host(upstream, cachalot, cdn, port):
    """The operator named the host in redirect-hosts: it may have a private address."""
    host = "%s:%d" % cdn.address if port else cdn.address[0]
    daemon = redirecting(cachalot, upstream, cdn, "cdn.example.com", host)
    assert daemon.get(BLOB).body == DATA
    assert cdn.count() == 1


@pytest.mark.parametrize("listed", ["cdn.example.com", "127.0.0.2:1", "*.127.0.0.2.example"])
def test_host_that_is_not_listed(upstream, cachalot, cdn, listed):
    """There is a list and the host is not on it: 502 that names host and option, and the
    host sees nothing. The upstream's own host need not be listed."""
    daemon = redirecting(cachalot, upstream, cdn, listed)
    got = daemon.get(BLOB)
    assert got.status == 502
    assert b"redirect-hosts" in got.body and b"127.0.0.2" in got.body and b"docker.io" in got.body
    assert cdn.count() == 0 and upstream.count() == 1
    upstream.heal()
    upstream.fault(f"library/app/blobs/{DIGEST}", redirect=f"/v2/own/app/blobs/{DIGEST}")
    upstream.blobs["own/app", DIGEST] = DATA
    assert daemon.get(BLOB).body == DATA


def test_pattern_lets_public_addresses_in(upstream, cachalot, cdn):
    """A host that is allowed by *.DOMAIN must have a public address; the same one by its
    whole name need not. One request each time."""
    daemon = redirecting(cachalot, upstream, cdn, "*.localhost", host="cdn.localhost")
    got = daemon.get(BLOB)
    assert got.status == 502 and b"not public" in got.body
    daemon.sections[f"upstream {HUB}"]["redirect-hosts"] = ["*.localhost", "cdn.localhost"]
    daemon.write_config()
    daemon.hup()
    got = daemon.get(BLOB)  # nobody listens there: but it was let go
    assert got.status == 502 and b"cannot be reached" in got.body
    assert upstream.count() == 2


@pytest.mark.mounts
def test_rebinding(upstream, cachalot, closing, tmp_path):
    """The name of a CDN has a public address at first, and one within the network later:
    the connected address counts, every time."""
    add_public_address()
    names = closing(NameServer(tmp_path))
    names.answers["cdn.test"] = [(PUBLIC,), ("127.0.0.2",)]
    outside = closing(Hub(PUBLIC))
    inside = closing(Hub("127.0.0.2", port=outside.address[1]))
    digests = [outside.hold_blob("store", noise(1000, f"rebinding {i}")) for i in range(2)]
    for digest in digests:
        inside.blobs["store", digest] = outside.blobs["store", digest]
        upstream.fault(digest, redirect=f"http://cdn.test:{outside.address[1]}/v2/store/blobs/"
                                        f"{digest}")
    daemon = cachalot({HUB: {"url": upstream.url, "retries": 0, "redirect-hosts": ""}})
    assert daemon.get(blob("library/app", digests[0])).status == 200
    # Names are remembered for a minute, but not by a daemon that starts.
    assert daemon.stop() == 0
    daemon.start()
    got = daemon.get(blob("library/app", digests[1]))
    assert got.status == 502 and b"not public" in got.body
    assert names.asked.count("cdn.test") == 2 and inside.count() == 0


@pytest.mark.mounts
@pytest.mark.parametrize("said, text", [
    (["-> inside.test"], b"not public"), (["nowhere"], b"does not resolve"),
    ([()], b"does not resolve"), (["silent"], b""),
], ids=["alias-inside", "nowhere", "empty", "silent"])
def test_bad_names(upstream, cachalot, closing, tmp_path, said, text):
    """A CDN whose name is an alias of one inside, does not resolve, or resolves to
    nothing or never: an honest error, and others are not affected."""
    names = closing(NameServer(tmp_path))
    names.answers.update({"cdn.test": said, "inside.test": [("127.0.0.2",)]})
    other = noise(5000, "not affected")
    digest = upstream.hold_blob("library/app", other)
    upstream.fault(DIGEST, redirect=f"http://cdn.test:9/v2/store/blobs/{DIGEST}")
    daemon = cachalot({HUB: {"url": upstream.url, "retries": 0, "connect-timeout": "1s",
                             "redirect-hosts": ""}})
    with daemon.connect() as c:
        c.request(BLOB)
        upstream.wait_count(1, "GET", DIGEST)
        assert daemon.get(blob("library/app", digest)).body == other
        got = c.read_response()
    assert got.status in (502, 504) and text in got.body
