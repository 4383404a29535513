# SPDX-License-Identifier: ISC
"""The status page in a real browser, which has no way to anywhere but the daemon."""

import json

import pytest

from lib import image, rawhttp
from lib.browser import Browser
from lib.image import ACCEPT
from lib.paths import HUB, MCR, blob, manifest
from lib.wait import until

NAUGHTY = [
    "<script>window.hit = 1</script>",
    "\"><img src=x onerror=window.hit=1>",
    "'-alert(1)-'",
    "javascript:window.hit=1",
    "<svg/onload=window.hit=1>",
    "{{constructor.constructor('window.hit=1')()}}",
    "</title><script src=http://198.51.100.1/x.js></script>",
    "\u202egnp.exe",
]


def pull(daemon, item, repository, reference, registry=HUB):
    """As a client does: the manifest, then its blobs."""
    got = daemon.get(manifest(repository, reference, registry), fields=ACCEPT)
    assert got.status == 200, got
    for b in item.all_blobs():
        assert daemon.get(blob(repository, b.digest, registry)).status == 200
    daemon.wait_idle()


def api(daemon, path, fields=()):
    got = daemon.get(f"/-/api/{path}", fields=fields)
    assert got.status == 200, got
    return json.loads(got.body)


@pytest.fixture
def browser(closing, tmp_path):
    return closing(Browser(tmp_path))


@pytest.fixture
def daemon(hub, cachalot):
    return cachalot({HUB: {"url": hub.url, "retries": 0}, MCR: {"url": hub.url, "retries": 0}})


def url(daemon, path="/"):
    return "http://%s:%d%s" % (*daemon.address, path)


def check_quiet(browser, daemon):
    """Nothing ran that is not ours, nothing was forbidden, nobody else was asked."""
    assert browser.complaints() == []
    assert browser.hosts() == {"%s:%d" % daemon.address}
    assert browser.run("return window.hit === undefined && document.scripts.length === 1")


def opened(browser, daemon):
    browser.open(url(daemon))
    browser.until("the page has its numbers",
                  "return document.getElementById('state-text').textContent !== 'Loading'")
    return browser


def test_empty(browser, daemon):
    """Before the first pull each section says what to do next."""
    opened(browser, daemon)
    browser.until("the images are known",
                  "return !document.getElementById('image-empty').hidden")
    assert browser.text("#state-text") == "Ready"
    assert "Nothing has been pulled yet" in browser.text("#welcome")
    for empty in ("#fetch-empty", "#image-empty", "#event-empty"):
        assert browser.text(empty)
    assert browser.text("#month-ratio") == "–"
    check_quiet(browser, daemon)


def test_numbers(hub, browser, daemon):
    """What was pulled twice was saved once: the page says what the API says."""
    item = hub.hold(image.image("page", (300_000, 90_000)), "library/app", "1")
    pull(daemon, item, "library/app", "1")
    pull(daemon, item, "library/app", "1")
    until("the sums are up to date", lambda: api(daemon, "status")["month"]["hits"] >= 4)
    opened(browser, daemon)
    said = api(daemon, "status")
    assert said["month"] == said["today"] == said["all"] == said["run"]
    saved = said["month"]["saved_bytes"]
    assert saved > 300_000
    assert browser.values("#month-saved, #today-saved, #all-saved") == [str(saved)] * 3
    assert float(browser.values("#month-ratio")[0]) == said["month"]["hit_ratio"]
    browser.until("the image is listed",
                  "return document.querySelectorAll('#image-rows tr').length === 1")
    row, = api(daemon, "images")["images"]
    assert row["reference"] == f"{HUB}/library/app:1" and row["complete"]
    assert browser.texts("#image-rows .name") == [row["reference"]]
    assert browser.values("#image-rows data") == [str(row["bytes"])]
    check_quiet(browser, daemon)


def populate(hub, daemon):
    """An office's worth: several images, one that was pulled often, and one that failed."""
    for i, name in enumerate(("library/alpine", "library/nginx", "library/redis")):
        item = hub.hold(image.image(name, (200_000 * (i + 1), 50_000)), name, "latest")
        for _ in range(3):
            pull(daemon, item, name, "latest")
    names = image.image("core", (900_000, 400_000), os="windows", os_version="10.0.20348.2700")
    hub.hold(names, "windows/servercore", "ltsc2022")
    pull(daemon, names, "windows/servercore", "ltsc2022", MCR)
    assert daemon.get(manifest("library/nowhere", "1"), fields=ACCEPT).status == 404


LOOKS = [("desktop-light", 1280, 900, False, "light"), ("desktop-dark", 1280, 900, False, "dark"),
         ("phone-light", 360, 740, True, "light"), ("phone-dark", 360, 740, True, "dark"),
         ("small", 320, 640, True, "light")]


def test_looks(hub, browser, daemon, tmp_path):
    """In light and dark, on a desk and on a phone nothing sticks out to the right."""
    populate(hub, daemon)
    hub.gate("/blobs/", after=120_000)
    for name, width, height, is_phone, scheme in LOOKS:
        browser.size(width, height, is_phone)
        browser.media(prefers_color_scheme=scheme)
        opened(browser, daemon)
        browser.until("the images are listed",
                      "return document.querySelectorAll('#image-rows tr').length > 0")
        picture = browser.picture(tmp_path / f"{name}.png")
        assert picture.stat().st_size > 20_000
        assert browser.run("return document.documentElement.scrollWidth") <= width
    check_quiet(browser, daemon)
