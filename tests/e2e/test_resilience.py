# SPDX-License-Identifier: ISC
"""When the upstream is gone, slow, or not to be asked: what is held is served."""

import time
from email.utils import parsedate_to_datetime

import pytest

from lib import image
from lib.crowd import together
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest, tags
from lib.sample import BLOB, DATA
from lib.wait import until

TAG = manifest("library/app", "1")
UP = f'cachalot_upstream_up{{registry="{HUB}"}}'


@pytest.fixture
def item(upstream):
    return upstream.hold(image.image("resilience", (30_000,)), "library/app", "1")


def daemon_of(cachalot, upstream, **options):
    return cachalot({HUB: {"url": upstream.url, "tag-ttl": "0s", "retries": 1,
                           "stall-timeout": "400ms", **options}})


def tag(daemon, path=TAG):
    return daemon.get(path, fields=ACCEPT)


def pull(daemon, item):
    """Everything of the image; the answer for its tag."""
    got = tag(daemon)
    assert got.status == 200 and got.body == item.data, got
    for x in item.all_blobs():
        assert daemon.get(blob("library/app", x.digest)).body == x.data
    daemon.wait_idle()
    return got


def check_stale(got, item):
    assert got.status == 200 and got.body == item.data
    assert "stale" in got["Cache-Status"]
    since = got["Warning"].partition("not confirmed by the upstream since ")[2].rstrip('"')
    assert abs(parsedate_to_datetime(since).timestamp() - time.time()) < 300


# --- down ---

def test_a_silent_upstream_is_waited_for_once(upstream, cachalot, item):
    """The line is dead, and every question takes its time to fail. One client waits for
    that; the others are served what is held at once, and nobody asks."""
    daemon = daemon_of(cachalot, upstream)
    pull(daemon, item)
    assert daemon.metrics()[UP] == 1
    upstream.fault("/v2/", silent=True)
    check_stale(tag(daemon), item)
    assert daemon.metrics()[UP] == 0
    upstream.forget()
    for got in together(20, lambda i: tag(daemon)):
        check_stale(got, item)
    assert upstream.count() == 0


def test_one_at_a_time_looks_whether_it_is_back(upstream, cachalot, item):
    """After a pause one request goes through to see, while others are served at once;
    when it is back all is fresh."""
    daemon = daemon_of(cachalot, upstream)
    pull(daemon, item)
    upstream.fault("/v2/", silent=True)
    tag(daemon)
    upstream.forget()

    def probed():
        for got in together(10, lambda i: tag(daemon)):
            check_stale(got, item)
        return upstream.count()

    assert until("somebody looks", probed) == 1
    upstream.heal()
    until("nothing is stale any more", lambda: tag(daemon)["Warning"] is None)
    assert daemon.metrics()[UP] == 1


def test_what_is_not_held_is_asked_for(upstream, cachalot, item):
    """While the upstream is thought to be down, what is not held is asked for all the
    same: nobody gets an error because of what others have seen."""
    daemon = daemon_of(cachalot, upstream)
    pull(daemon, item)
    upstream.down()
    check_stale(tag(daemon), item)
    upstream.up()
    assert daemon.get(BLOB).body == DATA
    assert daemon.metrics()[UP] == 1
    assert tag(daemon)["Warning"] is None


def test_error_answers_are_no_outage(upstream, cachalot, item):
    """An upstream that answers with errors is up: it is asked each time."""
    daemon = daemon_of(cachalot, upstream, retries=0)
    pull(daemon, item)
    upstream.fault("/manifests/", status=500)
    upstream.forget()
    for _ in range(3):
        check_stale(tag(daemon), item)
    assert upstream.count("HEAD") == 3 and daemon.metrics()[UP] == 1


def test_a_cdn_that_is_down_is_not_the_registry(upstream, cachalot, item):
    """Where blobs are redirected to cannot be reached: the registry is up for all that. One
    request."""
    daemon = daemon_of(cachalot, upstream, retries=0)
    upstream.fault("/blobs/", redirect="http://127.0.0.1:9/x")
    assert daemon.get(BLOB).status == 502
    assert daemon.metrics()[UP] == 1
    assert upstream.count() == 1


def test_down_from_start_up_on(upstream, cachalot, item):
    """The daemon starts without an upstream: all that was pulled before is served, by
    tag, by digest and as lists; what was not is an honest error."""
    daemon = daemon_of(cachalot, upstream)
    pull(daemon, item)
    assert daemon.get(tags("library/app")).status == 200
    assert daemon.stop() == 0
    upstream.down()
    daemon.start()
    check_stale(pull(daemon, item), item)
    got = tag(daemon, manifest("library/app", item.digest))
    assert got.status == 200 and got["Warning"] is None
    assert daemon.get(tags("library/app")).status == 200
    assert tag(daemon, manifest("library/app", "2")).status == 502


def test_another_url(upstream, cachalot, closing, item):
    """One of two urls is down: that is no outage, and the one that works is asked first
    from then on."""
    daemon = daemon_of(cachalot, upstream, url=["http://127.0.0.1:9", upstream.url])
    for _ in range(3):
        assert tag(daemon)["Warning"] is None
    assert daemon.metrics()[UP] == 1
    assert daemon.metric("upstream_requests_total") == upstream.count() + 1


def test_reload_gives_a_new_chance(upstream, cachalot, item):
    """The operator corrects the url of an upstream that was down: it is asked at once."""
    daemon = daemon_of(cachalot, upstream)
    pull(daemon, item)
    section = daemon.sections[f"upstream {HUB}"]
    section["url"] = "http://127.0.0.1:9"
    daemon.write_config()
    daemon.hup()
    check_stale(tag(daemon), item)
    section["url"] = upstream.url
    daemon.write_config()
    daemon.hup()
    assert tag(daemon)["Warning"] is None


# --- offline ---

@pytest.mark.parametrize("where", ["upstream docker.io", "cache"])
def test_offline(upstream, cachalot, item, where):
    """offline = yes, for one upstream or for all: it is never asked. What is held is
    served whatever its age, said to be stale when it is; the rest is 504 and says why.
    A reload ends it."""
    daemon = daemon_of(cachalot, upstream)
    pull(daemon, item)
    upstream.forget()
    daemon.sections[where]["offline"] = "yes"
    daemon.write_config()
    daemon.hup()
    check_stale(pull(daemon, item), item)
    assert daemon.head(TAG).status == 200
    for path in (manifest("library/app", "2"), BLOB, tags("library/app"),
                 manifest("library/app", image.digest_of(b"x"))):
        for method in ("GET", "HEAD"):
            got = daemon.get(path, method)
            assert got.status == 504
        assert b"offline = yes" in daemon.get(path).body
    assert upstream.count() == 0
    daemon.sections[where]["offline"] = "no"
    daemon.write_config()
    daemon.hup()
    assert daemon.get(BLOB).body == DATA


def test_offline_and_fresh(upstream, cachalot, item):
    """What is within tag-ttl is not stale, though nobody could be asked."""
    daemon = daemon_of(cachalot, upstream, **{"tag-ttl": "1h"})
    pull(daemon, item)
    daemon.sections["cache"]["offline"] = "yes"
    daemon.write_config()
    daemon.hup()
    got = pull(daemon, item)
    assert got["Warning"] is None and "stale" not in got["Cache-Status"]


# --- an upstream whose HEAD is broken ---

@pytest.mark.parametrize("switches", [{"status": 405}, {"status": 501}, {"status": 500},
                                      {"close": True}], ids=str)
@pytest.mark.parametrize("answer", [{}, {"ignore_range": True}], ids=["range", "no-range"])
def test_head_of_a_blob(upstream, cachalot, switches, answer):
    """HEAD of a blob, of which the upstream wants to know nothing: its size is learned by
    GET, of one byte, or without reading the rest."""
    daemon = daemon_of(cachalot, upstream, retries=0)
    upstream.fault("/blobs/", method="HEAD", **switches)
    gate = upstream.gate("/blobs/", after=1, **answer)
    got = daemon.head(BLOB)
    assert got.status == 200 and got.length == len(DATA)
    asked, = upstream.asked("GET")
    assert asked.range == "bytes=0-0" and asked.sent <= 1
    gate.open()
    assert daemon.stored() == set()


def test_head_of_an_empty_blob(upstream, cachalot):
    """The same of an empty one, which has no first byte: HEAD, then GET."""
    daemon = daemon_of(cachalot, upstream, retries=0)
    upstream.fault("/blobs/", method="HEAD", status=405)
    got = daemon.head(blob("library/app", upstream.hold_blob("library/app", b"")))
    assert got.status == 200 and got.length == 0
    assert [r.method for r in upstream.asked()] == ["HEAD", "GET"]


def test_head_of_a_blob_that_is_not_there(upstream, cachalot):
    """404 is an answer: GET is not tried."""
    daemon = daemon_of(cachalot, upstream, retries=0)
    assert daemon.head(blob("library/app", image.digest_of(b"nope"))).status == 404
    assert upstream.count("GET") == 0
