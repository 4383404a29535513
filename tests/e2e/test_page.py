# SPDX-License-Identifier: ISC
"""The status page in a real browser, which has no way to anywhere but the daemon."""

import json
import re
import urllib.parse

import pytest

from lib import image
from lib.access import PasswordFile, rule
from lib.browser import Browser
from lib.image import ACCEPT
from lib.paths import HUB, MCR, blob, manifest
from lib.pusher import Pusher
from lib.tokens import basic
from lib.wait import until


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
    return cachalot({HUB: {"url": hub.url, "retries": 0},
                     MCR: {"url": hub.url, "retries": 0, "stall-timeout": "1m"}})


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


# --- names that would be more than names ---

NAUGHTY = [
    "<script>window.hit = 1</script>",
    "\"><img src=x onerror=window.hit=1>",
    "'-alert(1)-'",
    "javascript:window.hit=1",
    "<svg/onload=window.hit=1>",
    "{{constructor.constructor('window.hit=1')()}}",
    "</title><script src=http://198.51.100.1/x.js></script>",
    "\u202egnp.exe",
    "%3Cscript%3Ewindow.hit=1%3C/script%3E",
    "&lt;b&gt; &#60;b&#62;",
]


def naughty_index(hub):
    """An index whose platforms, labels and annotations are such, half of it pulled."""
    items = [image.image(f"naughty-{i}", (2000, 1000), os=text, architecture=text,
                         annotations={"org.opencontainers.image.title": text, text: text})
             for i, text in enumerate(NAUGHTY)]
    return hub.hold(image.index(items), "library/naughty", "latest"), items


def test_naughty_names(hub, browser, cachalot, tmp_path):
    """Whatever is in platforms, annotations, User-Agents, names asked for, what an upstream says
    of an error, the name of a user and the search itself: it is shown as it is, or not at all."""
    users = PasswordFile(tmp_path / "htpasswd", **{NAUGHTY[0]: "password"})
    daemon = cachalot({HUB: {"url": hub.url, "retries": 0}}, users.options)
    index, items = naughty_index(hub)
    assert daemon.get(manifest("library/naughty", "latest"), fields=ACCEPT).body == index.data
    for item in items:
        got = daemon.get(manifest("library/naughty", item.digest), fields=ACCEPT)
        assert got.status == 200
        assert daemon.get(blob("library/naughty", item.layers[0].digest)).status == 200
    for text in NAUGHTY:
        raw = text.encode().decode("latin-1")
        daemon.get("/v2/" + urllib.parse.quote(text) + "/manifests/1",
                   fields=[("User-Agent", raw)])
        hub.fault("/manifests/", status=400, times=2, content_type="text/html",
                  body=json.dumps({"errors": [{"code": text, "message": text}]}).encode())
        daemon.get(manifest("library/naughty", "other"), fields=[*ACCEPT, ("User-Agent", raw)])
    hub.heal()
    daemon.wait_idle()

    # The protocol gives no password; the browser would send it by itself once it was told.
    browser.cdp("Network.setExtraHTTPHeaders",
                headers={"Authorization": basic(NAUGHTY[0], "password")})
    opened(browser, daemon)
    browser.until("the images are listed",
                  "return document.querySelectorAll('#image-rows tr').length === 1")
    browser.until("the events are listed",
                  "return document.querySelectorAll('#event-list li').length > 0")
    # Platforms of no platform's grammar are not taken over at all.
    held = browser.run("return document.querySelector('#image-rows td[data-label=Held]').innerText")
    assert held == ", ".join(["no platform (1 of 3 blobs)"] * len(NAUGHTY))
    assert f"{HUB}/library/naughty failed" in browser.text("#event-list")
    assert browser.text("#user") == f"You are {NAUGHTY[0]}."
    for text in NAUGHTY:
        browser.run("document.getElementById('search').value = ''")
        browser.type("#search", text)
        browser.until("nothing is found", "return document.getElementById('image-empty')"
                      ".innerText.includes(arguments[0])", text)
    check_quiet(browser, daemon)
    # In the log each is on one line, with nothing that a terminal would obey.
    lines = daemon.stderr_path.read_bytes().splitlines()
    assert len(lines) == len(daemon.log_lines()) and len(lines) > 2 * len(NAUGHTY)
    assert all(0x20 <= byte < 0x7f for line in lines for byte in line)


def test_naughty_answers(browser, daemon):
    """Were the API itself to say such things, the page would show them as they are."""
    opened(browser, daemon)
    browser.until("the tabs are there", "return document.querySelectorAll('[role=tab]').length > 3")
    for text in NAUGHTY:
        shown = browser.run("""
            const text = arguments[0];
            draw_images({total: 1, offset: 0, images: [{reference: text, digest: text, complete:
                false, index: true, bytes: 1, of: 2, blobs: 1, platforms: 1, pinned: true, local:
                true, moved: true, held: [{name: text, blobs: 1, of: 2}], used_at: 1}]});
            draw_events({events: [{first_at: 1, last_at: 1, count: 2, level: "warn", text}]});
            draw_fetches({hidden: 1, fetches: [{digest: text, name: text, state: "streaming",
                size_bytes: 9, done_bytes: 3, kept_bytes: 0, readers: 1, elapsed_ms: 5,
                bytes_per_second: 1, eta_seconds: 6}]});
            draw_upstreams({upstreams: [{registry: text, configured: true, offline: false, up: 0,
                answered_at: 1, limited_until: null, ratelimit_limit: null, line_bytes: 1,
                ratelimit_remaining: null, failure: {at: 1, result: text, text}}]});
            draw_setup({ca_sha256: text, clients: [{title: text, page: text, command: text}]});
            return ["image-rows", "event-list", "fetch-list", "upstream-rows", "tabs", "command",
                    "authority"].filter(id => !document.getElementById(id).textContent
                                                  .includes(text));""", text)
        assert shown == []
        href = browser.run("return document.getElementById('script').href")
        assert href.startswith(url(daemon, "/-/setup/")), href
    check_quiet(browser, daemon)


def test_withheld_events(browser, daemon):
    """Warnings that may not be read here look alike: those in a row are one line with their
    number."""
    opened(browser, daemon)
    shown = browser.run("""
        const one = {first_at: 1, last_at: 1, level: "error", text: null, count: 1};
        draw_events({events: [one, {...one, count: 3}, {...one, text: "b"}, one,
                              {...one, level: "warn"}]});
        return [...document.querySelectorAll('#event-list li')].map(e => e.textContent);""")
    assert len(shown) == 4 and [" times" in x for x in shown] == [True, False, False, False], shown
    assert " · 4 times" in shown[0]
    check_quiet(browser, daemon)


def test_its_json_is_no_page(browser, daemon):
    """Opened for itself, what the API and the registry answer is no HTML, and nothing in it
    can be."""
    for path in ("/-/api/status", "/-/api/images?search=<script>window.hit=1</script>",
                 "/v2/<script>window.hit=1</script>/manifests/1", "/-/metrics", "/-/setup/docker.sh"):
        got = daemon.get(urllib.parse.quote(path, safe="/?=-"))
        assert not got["Content-Type"].startswith("text/html"), got
    browser.open(url(daemon, "/-/api/images?search=<script>window.hit=1</script>"))
    assert browser.run("return window.hit === undefined")


def test_what_the_policy_forbids(browser, daemon):
    """The policy is in force: inline scripts, styles from elsewhere, frames, forms and markup
    made of text are refused by the browser itself."""
    got = daemon.get("/")
    assert "unsafe" not in got["Content-Security-Policy"]
    assert got["Referrer-Policy"] == "no-referrer" and got["X-Frame-Options"] == "DENY"
    opened(browser, daemon)
    refused = browser.run("""
        const refused = [];
        try { document.body.innerHTML = "<b>x</b>"; } catch { refused.push("innerHTML"); }
        const script = document.createElement("script");
        try { script.textContent = "window.hit = 1"; document.body.append(script); }
        catch { refused.push("script"); }
        const image = document.createElement("img");
        image.src = "http://198.51.100.1/x.png";
        document.body.append(image);
        return refused;""")
    assert refused == ["innerHTML", "script"]
    browser.until("the browser has complained",
                  "return performance.getEntriesByType('resource').length >= 0")
    assert browser.run("return window.hit === undefined")
    assert any("198.51.100.1" in x["message"] for x in browser.complaints())


# --- in use ---

def test_search_and_order(hub, browser, daemon):
    """Typing narrows the list; the order and the pages follow."""
    for i in range(52):
        item = hub.hold(image.image("search", (100,)), "library/many", f"t{i:02}")
        assert daemon.get(manifest("library/many", f"t{i:02}"), fields=ACCEPT).status == 200
    pull(daemon, item, "library/many", "t51")
    opened(browser, daemon)
    rows = "return document.querySelectorAll('#image-rows tr').length === arguments[0]"
    browser.until("a page is full", rows, 50)
    assert browser.text("#page-text") == "1 to 50 of 52" and browser.text("#image-count") == "52 tags"
    browser.click("#next")
    browser.until("the second has the rest", rows, 2)
    assert browser.text("#page-text") == "51 to 52 of 52"
    browser.click("#prev")
    browser.until("back again", rows, 50)
    browser.type("#search", "MANY:t5")
    browser.until("two are found", rows, 2)
    assert browser.text("#image-count") == "2 tags"
    browser.run("const o = document.getElementById('order'); o.value = 'name';"
                "o.dispatchEvent(new Event('change'))")
    browser.until("in order", "return document.querySelectorAll('#image-rows .name')[0].innerText"
                  ".endsWith(':t50')")
    browser.type("#search", "nothing has this")
    browser.until("nothing is found", rows, 0)
    assert "nothing has this" in browser.text("#image-empty")
    check_quiet(browser, daemon)


def test_fetch_under_way(hub, browser, daemon):
    """A fetch shows with its bar, its readers and what is left, and goes when it is done."""
    item = hub.hold(image.image("under-way", (3_000_000,)), "library/big", "1")
    layer = item.layers[0]
    daemon.get(manifest("library/big", "1"), fields=ACCEPT)
    gate = hub.gate(layer.digest, after=1_500_000)
    opened(browser, daemon)
    with daemon.connect() as a, daemon.connect() as b:
        for c in (a, b):
            c.request(blob("library/big", layer.digest))
        gate.wait_reached()
        browser.until("both readers are shown, and how long they have to wait", """
            const shown = document.getElementById('fetch-list').innerText;
            return shown.includes('2 readers') && shown.includes('left')""")
        shown = browser.text("#fetch-list")
        assert f"{HUB}/library/big" in shown and "left" in shown and "/s" in shown
        bar = browser.run("const p = document.querySelector('#fetch-list progress');"
                          "return [p.value, p.max, p.getAttribute('aria-label')]")
        assert 0 < bar[0] < bar[1] == len(layer.data) and "library/big" in bar[2]
        gate.open()
        assert a.read_response().complete and b.read_response().complete
    browser.until("it is gone", "return !document.getElementById('fetch-empty').hidden")
    check_quiet(browser, daemon)


def test_rates(hub, browser, daemon):
    """What comes by the line, and goes to the clients, draws a curve."""
    item = hub.hold(image.image("rates", (4_000_000,)), "library/big", "1")
    opened(browser, daemon)
    pull(daemon, item, "library/big", "1")
    for name in ("line", "lan"):
        browser.until(f"the {name} has a curve",
                      "return !!document.querySelector(`#${arguments[0]}-chart .edge`)", name)
        peak = browser.until("its peak is said",
                             "return document.getElementById(`${arguments[0]}-peak`).innerText",
                             name)
        assert re.fullmatch(r"at most [\d.]+ [KM]iB/s", peak), peak
    pull(daemon, item, "library/big", "1")
    browser.until("the day has what came and what was saved",
                  "return document.querySelectorAll('#days rect').length === 2")
    check_quiet(browser, daemon)


def test_silence_and_return(hub, browser, daemon):
    """When the daemon is gone the page says so and keeps what it had; when it is back, it goes
    on."""
    item = hub.hold(image.image("gone", (1000,)), "library/app", "1")
    pull(daemon, item, "library/app", "1")
    opened(browser, daemon)
    browser.until("the images are listed",
                  "return document.querySelectorAll('#image-rows tr').length === 1")
    daemon.stop()
    browser.until("it is missed", "return document.getElementById('state-text').innerText"
                  ".startsWith('No answer since')")
    assert browser.run("return document.querySelectorAll('#image-rows tr').length") == 1
    daemon.start()
    browser.until("it is back", "return document.getElementById('state-text').innerText === 'Ready'")


def test_trouble(hub, browser, cachalot):
    """An upstream that cannot be reached, and what went wrong, are in sight: what is held is
    stale, and since when."""
    daemon = cachalot({HUB: {"url": hub.url, "retries": 0, "tag-ttl": "0s"}})
    item = hub.hold(image.image("stale", (1000,)), "library/held", "1")
    pull(daemon, item, "library/held", "1")
    hub.down()
    assert daemon.get(manifest("library/app", "1"), fields=ACCEPT).status == 502
    got = daemon.get(manifest("library/held", "1"), fields=ACCEPT)
    assert got.body == item.data and "stale" in got["Cache-Status"]
    opened(browser, daemon)
    browser.until("the image is said to be stale", """
        load_images();
        return document.getElementById('image-rows').innerText.includes('stale, confirmed')""")
    assert "not confirmed by an upstream" in browser.text("#disk-facts")
    browser.until("it is said in front", "return document.getElementById('state-text').innerText"
                  " === 'Ready; not reached: docker.io'")
    row = browser.run("return document.querySelector('[data-registry=\"docker.io\"]').innerText")
    assert "not reached" in row and "cannot be reached" in row
    check_quiet(browser, daemon)


def test_full(hub, browser, cachalot):
    """A cache that is full goes on saving: the page says how much it may have and what went, and
    what was saved with images that are gone stays in the sums."""
    mib = 1 << 20
    daemon = cachalot({HUB: {"url": hub.url, "tag-ttl": "1h"}},
                      {"cache": {"size": f"{10 * mib}B", "min-free": "0"}})
    items = [hub.hold(image.image(f"full-{n}", (2 * mib, mib)), "library/app", str(n))
             for n in range(5)]
    for n, item in enumerate(items):
        for _ in range(2):
            pull(daemon, item, "library/app", str(n))
        daemon.wait_metric("blobs_stored_total", 3 * (n + 1))
    said = until("something went", lambda: (x := api(daemon, "status"))
                 ["stats"]["evicted_images"] and x)
    assert said["stats"]["cache_limit_bytes"] == 10 * mib
    assert said["month"]["saved_bytes"] > 14 * mib
    opened(browser, daemon)
    browser.until("images are listed",
                  "return document.querySelectorAll('#image-rows tr').length > 1")
    facts = browser.text("#disk-facts")
    assert "Evicted since the start" in facts and "of the 10.0 MiB" in browser.text("#disk-unit")
    assert float(browser.values("#month-saved")[0]) >= said["month"]["saved_bytes"]
    held = browser.texts("#image-rows td[data-label=Held]")
    assert held.count("complete") < len(items), held
    check_quiet(browser, daemon)


def test_login(hub, browser, cachalot, tmp_path):
    """Where there are passwords the page offers a login; who has logged in sees his images."""
    users = PasswordFile(tmp_path / "htpasswd", alice="password")
    daemon = cachalot({HUB: hub.url}, {**users.options, **rule("in", allow="push"),
                                       **rule("team", users="alice")})
    Pusher(daemon.address, "team/app").push(image.image("team", (1000,)), "1")
    opened(browser, daemon)
    browser.until("the images are known",
                  "return !document.getElementById('image-empty').hidden")
    assert browser.text("#login") == "Log in"
    # As if a person had filled the browser's own form in.
    browser.open("http://alice:password@%s:%d/-/api/login" % daemon.address)
    browser.until("the team's image is listed",
                  "return document.querySelectorAll('#image-rows tr').length === 1")
    assert browser.text("#user") == "You are alice." and browser.text("#login") == ""
    assert browser.texts("#image-rows .name") == ["team/app:1"]
    got = daemon.get("/-/api/login")
    assert got.status == 401 and got["WWW-Authenticate"].startswith("Basic ")
    got = daemon.get("/-/api/login", fields=[("Authorization", basic("alice", "password"))])
    assert got.status == 303 and got["Location"] == "/"


# --- for everybody ---

def test_keyboard(browser, daemon):
    """The clients' tabs go by the arrow keys, and each has its command with this host's name."""
    opened(browser, daemon)
    browser.until("the tabs are there", "return document.querySelectorAll('[role=tab]').length > 3")
    browser.run("document.querySelector('[role=tab]').focus()")
    commands = set()
    for _ in browser.texts("[role=tab]"):
        commands.add(browser.text("#command"))
        browser.press("\ue014")
        assert browser.run("return document.activeElement.getAttribute('aria-selected')") == "true"
    assert len(commands) == len(browser.texts("[role=tab]"))
    assert all("%s:%d" % daemon.address in x for x in commands)
    assert browser.run("return document.querySelectorAll('[role=tab][tabindex=\"0\"]').length") == 1


def test_without_script(browser, daemon):
    """Without JavaScript the page says where to look instead."""
    browser.cdp("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(url(daemon))
    browser.cdp("Emulation.setScriptExecutionDisabled", value=False)
    shown = browser.text("noscript")
    assert "JavaScript" in shown and "cachalot status" in shown
    assert browser.run("return !!document.querySelector('noscript a[href=\"/-/metrics\"]')")


# The ratio of WCAG 2.2 of each text to the nearest ground that is painted.
CONTRAST = """
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const light = c => { const l = c.slice(0, 3).map(v => { v /= 255;
  return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
  return .2126 * l[0] + .7152 * l[1] + .0722 * l[2]; };
const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
const found = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || !e.checkVisibility() || e.closest("noscript")) continue;
  const a = light(parse(getComputedStyle(e).color)), b = light(ground(e));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (e.closest(":disabled")) continue;
  found.push([ratio, walk.currentNode.data.trim().slice(0, 40)]);
}
return found.sort((a, b) => a[0] - b[0]);
"""

# What assistive programs need, without one of them.
NAMELESS = """
const name = e => (e.getAttribute("aria-label") || e.textContent || (e.labels && e.labels[0] &&
  e.labels[0].textContent) || "").trim();
const wrong = [];
for (const e of document.querySelectorAll("a, button, input, select, svg[role], progress, table"))
  if (e.checkVisibility() && !name(e) && !e.getAttribute("aria-labelledby")) wrong.push(e.outerHTML);
const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
if (new Set(ids).size !== ids.length) wrong.push("an id is there twice");
for (const e of document.querySelectorAll("[aria-labelledby], [aria-controls]"))
  for (const id of (e.getAttribute("aria-labelledby") || e.getAttribute("aria-controls")).split(" "))
    if (!document.getElementById(id)) wrong.push(`no ${id}`);
for (const e of document.querySelectorAll("a[href^='#']"))
  if (!document.querySelector(e.getAttribute("href"))) wrong.push(e.outerHTML);
if (document.querySelectorAll("main, header, footer, nav").length !== 4) wrong.push("landmarks");
if (document.querySelectorAll("h1").length !== 1) wrong.push("h1");
if (!document.documentElement.lang) wrong.push("lang");
return wrong;
"""


def populate(hub, daemon):
    """An office's worth: several images, one that was pulled often, and one that failed."""
    for i, name in enumerate(("library/alpine", "library/nginx", "library/redis")):
        item = hub.hold(image.image(name, (200_000 * (i + 1), 50_000)), name, "latest")
        for _ in range(3):
            pull(daemon, item, name, "latest")
    core = image.image("core", (900_000, 400_000), os="windows", os_version="10.0.20348.2700")
    hub.hold(core, "windows/servercore", "ltsc2022")
    pull(daemon, core, "windows/servercore", "ltsc2022", MCR)
    daemon.command("pin", f"{MCR}/windows/servercore:ltsc2022")
    hub.fault("/manifests/1.27", status=500)
    assert daemon.get(manifest("library/nginx", "1.27"), fields=ACCEPT).status == 502
    hub.fault("library/alpine/manifests", fields=(("RateLimit-Limit", "100;w=21600"),
                                                  ("RateLimit-Remaining", "8;w=21600")))
    assert daemon.get(manifest("library/alpine", "3"), fields=ACCEPT).status == 404


# Words of the set-up's buttons that stand in more than one line.
BROKEN = """return [...document.querySelectorAll('[role=tab]')].flatMap(tab => {
    const text = document.createTreeWalker(tab, NodeFilter.SHOW_TEXT), broken = [];
    while (text.nextNode())
        for (const word of text.currentNode.data.matchAll(/\\S+/g)) {
            const range = document.createRange();
            range.setStart(text.currentNode, word.index);
            range.setEnd(text.currentNode, word.index + word[0].length);
            if (range.getClientRects().length > 1)
                broken.push(word[0]);
        }
    return broken;
});"""

LOOKS = [("desktop-light", 1280, 900, False, "light"), ("desktop-dark", 1280, 900, False, "dark"),
         ("tablet", 768, 1024, False, "light"),
         ("phone-light", 360, 740, True, "light"), ("phone-dark", 360, 740, True, "dark"),
         ("small", 320, 640, True, "light")]


def test_looks(hub, browser, daemon, tmp_path):
    """In light and dark, on a desk and on a phone: nothing sticks out to the right, each text
    stands out from its ground, and whatever can be used has a name. The pictures stay in the
    directory of the test."""
    populate(hub, daemon)
    big = hub.hold(image.image("big", (3_000_000,)), "windows/server", "ltsc2025")
    daemon.get(manifest("windows/server", "ltsc2025", MCR), fields=ACCEPT)
    gate = hub.gate(big.layers[0].digest, after=1_800_000)
    with daemon.connect() as c:
        c.request(blob("windows/server", big.layers[0].digest, MCR))
        gate.wait_reached()
        for name, width, height, is_phone, scheme in LOOKS:
            browser.size(width, height, is_phone)
            browser.media(prefers_color_scheme=scheme)
            opened(browser, daemon)
            browser.until("all is drawn", """return document.querySelector('#image-rows tr') &&
                document.querySelector('#event-list li') && document.querySelector('progress') &&
                document.querySelector('[role=tab]') && document.querySelector('.edge')""")
            assert browser.picture(tmp_path / f"{name}.png").stat().st_size > 20_000
            assert browser.run("return document.documentElement.scrollWidth") <= width, name
            weakest = browser.run(CONTRAST)
            assert len(weakest) > 60 and weakest[0][0] >= 4.5, weakest[:5]
            assert browser.run(NAMELESS) == []
            assert browser.run(BROKEN) == [], name
        gate.open()
        assert c.read_response().complete
    check_quiet(browser, daemon)


def test_long_names(hub, browser, daemon):
    """One name as long as names may be takes no room from the words beside it."""
    name = "/".join(["a" * 60] * 3)
    for repository, tag in (("library/app", "1"), (name, "t" * 128)):
        item = hub.hold(image.image(tag, (1000,)), repository, tag)
        pull(daemon, item, repository, tag)
    for width in (768, 1280):
        browser.size(width, 900)
        opened(browser, daemon)
        browser.until("both are there", "return document.querySelectorAll('#image-rows tr').length === 2")
        assert browser.run("return document.documentElement.scrollWidth") <= width
        lines = browser.run("""return [...document.querySelectorAll('[data-label="Held"]')].map(e => {
            const r = document.createRange(); r.selectNodeContents(e);
            return [e.textContent, new Set([...r.getClientRects()].map(x => x.top)).size]; })""")
        assert lines == [["complete", 1]] * 2, lines


def test_calm(browser, daemon):
    """Who wants less motion gets none."""
    browser.media(prefers_reduced_motion="reduce")
    opened(browser, daemon)
    assert browser.run("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert browser.run("return document.getAnimations().length") == 0
    check_quiet(browser, daemon)
