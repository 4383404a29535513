# SPDX-License-Identifier: ISC
"""[prefetch NAME]: images are fetched by the clock, before anybody asks for them. A test's
night begins a few seconds from now."""

import json
import signal
import time

import pytest

from lib import image, rawhttp
from lib.crowd import together
from lib.image import ACCEPT, DOCKER
from lib.paths import MCR, blob, manifest
from lib.wait import until
from lib.windows import REPOSITORY, layer, servercore, windows_image

SERVERCORE = f"{MCR}/{REPOSITORY}"
BASE = layer(1_500_000, "base")


def soon(seconds=2):
    """The schedule of a night that begins so soon."""
    return time.strftime("daily %H:%M:%S", time.localtime(time.time() + seconds))


def build(number, *tags, hub=None):
    """A month's Server Core: the base layer, and that month's delta."""
    item = windows_image([BASE, layer(200_000 + number, number)], f"10.0.20348.{number}")
    index = servercore(item)
    for tag in tags:
        hub.hold(index, REPOSITORY, tag)
    return index


def plans(daemon):
    got = rawhttp.get(daemon.admin_socket, "/-/api/prefetch")
    assert got.status == 200, got
    return {p["name"]: p for p in json.loads(got.body)["prefetches"]}


def next_at(daemon):
    return plans(daemon).get("windows", {"next_at": 0})["next_at"]


def pins(daemon):
    """What the section keeps."""
    listed = json.loads(daemon.command("pin", "--format", "json").stdout)
    return {p["reference"] for p in listed if p["owner"] == "prefetch windows"}


def pull(daemon, index, tag="ltsc2022"):
    got = daemon.get(manifest(REPOSITORY, tag, MCR), fields=ACCEPT)
    assert got.status == 200 and got.body == index.data
    for child in index.children:
        assert daemon.get(manifest(REPOSITORY, child.digest, MCR), fields=ACCEPT).body == child.data
        for each in child.all_blobs():
            assert daemon.get(blob(REPOSITORY, each.digest, MCR)).body == each.data


def check_pull(daemon, hub, index, tag="ltsc2022"):
    """A client pulls it and nothing but HEADs of the tag cross."""
    hub.forget()
    pull(daemon, index, tag)
    assert hub.count("GET") == 0


class Office:
    """A daemon with one section, whose nights the test lets come."""

    def __init__(self, hub, cachalot, upstream=None, **options):
        self.hub = hub
        self.section = {"references": f"{SERVERCORE}:ltsc2022", **options}
        self.daemon = cachalot({MCR: {"url": hub.url, "tag-ttl": "0s", "retries": 0,
                                      **(upstream or {})}}, start=False)

    def configure(self, **options):
        self.section.update(options)
        self.daemon.sections["prefetch windows"] = self.section
        self.daemon.write_config()

    def runs(self):
        return self.daemon.metric("prefetch_runs_total") if self.daemon.running() else 0

    def was_late(self):
        """Whether the night had begun before the daemon knew of it."""
        plan = plans(self.daemon).get("windows")
        return plan and self.section["schedule"].startswith(plan["schedule"]) and \
            plan["next_at"] > time.time() + 3600

    def night(self, **options):
        """Until what is due then has been done; returns how that went."""
        before = self.runs()
        while self.runs() == before:
            self.configure(schedule=soon(), **options)
            if self.daemon.running():
                self.daemon.hup()
            else:
                self.daemon.start()
            until("the night has passed", lambda: self.runs() > before or self.was_late())
        return plans(self.daemon)["windows"]["last"]


@pytest.fixture
def office(hub, cachalot):
    return lambda *a, **options: Office(hub, cachalot, *a, **options)


def test_patch_tuesday(hub, office):
    """October's image is held. In November the tag moves, and that night one index, one
    manifest, one config and the delta layer cross, nothing else. In the morning twenty
    machines pull at once: they are served from the store, and not a byte crosses."""
    old = build(2762, "ltsc2022", hub=hub)
    office = office()
    assert office.night()["changed"] == 1
    new = build(2849, "ltsc2022", hub=hub)
    hub.forget()

    last = office.night()
    assert last["images"] == 1 and last["changed"] == 1 and last["failed"] == 0
    config, base, delta = new.children[0].blobs
    tag = f"/v2/{REPOSITORY}/manifests/ltsc2022"
    assert [(r.method, r.path) for r in hub.asked()] == [
        ("HEAD", tag),
        ("GET", f"/v2/{REPOSITORY}/manifests/{new.digest}"),
        ("GET", f"/v2/{REPOSITORY}/manifests/{new.children[0].digest}"),
        ("GET", f"/v2/{REPOSITORY}/blobs/{config.digest}"),
        ("GET", f"/v2/{REPOSITORY}/blobs/{delta.digest}")]
    assert hub.bytes_sent() == len(config.data) + len(delta.data)
    assert hub.count(where=base.digest) == 0 and hub.count(where=old.digest) == 0

    hub.forget()
    together(20, lambda i: pull(office.daemon, new))
    assert hub.count("GET") == 0 and 1 <= hub.count("HEAD") <= 20
    assert {r.path for r in hub.asked()} == {tag}


def test_a_quiet_night(hub, office):
    """Nothing has changed: the upstream sees one HEAD for each tag, which costs nothing of
    anybody's pull limit."""
    build(2762, "ltsc2022", "ltsc2022-amd64", hub=hub)
    office = office(references=f"{SERVERCORE}:ltsc2022, {SERVERCORE}:ltsc2022-amd64")
    office.night()
    hub.forget()
    last = office.night()
    assert last["images"] == 2 and last["changed"] == 0 and last["fetched_bytes"] == 0
    assert [r.method for r in hub.asked()] == ["HEAD", "HEAD"]


def test_patterns(hub, office):
    """Tags that fit a pattern, of a list that comes in pages; of an image for several
    platforms those that are wanted; a tag that comes new is there the next night."""
    for tag in ("ltsc2019", "ltsc2022", "1809", "ltsc2019-amd64", "latest"):
        build(100 + len(tag), tag, hub=hub)
    linux = image.image("linux", types=DOCKER)
    mixed = hub.hold(image.index([linux, windows_image([layer(5000, "w")], "10.0.20348.1")],
                                 DOCKER), REPOSITORY, "ltsc2025")
    office = office(references=f"{SERVERCORE}:ltsc20??", platforms="windows/amd64:10.0.20348")
    assert office.night()["images"] == 3
    assert hub.count(where="/tags/list") == 1
    heads = {r.path.rsplit("/", 1)[-1] for r in hub.asked("HEAD")}
    assert heads == {"ltsc2019", "ltsc2022", "ltsc2025"}
    assert office.daemon.holds(mixed.children[1].digest)
    assert not office.daemon.holds(linux.digest)

    new = build(300, "ltsc2028", hub=hub)
    last = office.night()
    assert last["images"] == 4 and last["changed"] == 1
    check_pull(office.daemon, hub, new, "ltsc2028")


def test_pages(hub, office):
    """A list of tags that comes in pages is read to its end."""
    for n in range(7):
        build(500 + n, f"ltsc{n}", hub=hub)
    link = f"</v2/{REPOSITORY}/tags/list?last=ltsc3&n=3>; rel=\"next\""
    hub.fault("/tags/list", times=1, say=200, fields=[("Link", link)])
    office = office(references=f"{SERVERCORE}:ltsc*")
    assert office.night()["images"] == 7
    asked = [r.query for r in hub.asked(where="/tags/list")]
    assert asked == [{}, {"last": "ltsc3", "n": "3"}]


def test_builds_that_are_kept(hub, office):
    """With keep = 1 the newest build and the one before it are pinned, older ones not; when
    the section goes, its pins go; what is pinned names its section."""
    def pin(index):
        return f"{SERVERCORE}@{index.digest}"

    office = office(keep=1)
    builds = []
    for number in (1, 2, 3):
        builds.append(build(number, "ltsc2022", hub=hub))
        office.night()
        assert pins(office.daemon) == {pin(b) for b in builds[-2:]}
    for verb in ("rm", "unpin"):
        done = office.daemon.command(verb, pin(builds[-1]))
        assert done.returncode == 1 and "by [prefetch windows] of the settings" in done.stderr, done
    office.night(keep=0)
    assert pins(office.daemon) == {pin(builds[-1])}
    office.night(references=f"{SERVERCORE}:other")
    assert pins(office.daemon) == set()
    office.night(references=f"{SERVERCORE}:ltsc2022")
    assert pins(office.daemon) == {pin(builds[-1])}
    del office.daemon.sections["prefetch windows"]
    office.daemon.write_config()
    office.daemon.hup()
    until("its pins are gone", lambda: pins(office.daemon) == set())
    assert plans(office.daemon) == {}


def test_background(hub, office):
    """What nobody waits for is held to background-rate. A client that wants the same layer
    joins the fetch, which is nobody's background any more: it is done in no time, and one
    copy crosses."""
    index = build(2762, "ltsc2022", hub=hub)
    office = office({"background-rate": "64kbit/s"})
    office.configure(schedule=soon())
    office.daemon.start()
    hub.wait_count(1, "GET", BASE.digest)
    began = time.monotonic()
    got = office.daemon.get(blob(REPOSITORY, BASE.digest, MCR))
    assert got.body == BASE.data
    assert time.monotonic() - began < len(BASE.data) / 8000 / 4
    assert hub.count("GET", BASE.digest) == 1
    # The delta is wanted too: nobody waits half a minute for the end.
    delta = index.children[0].blobs[2]
    hub.wait_count(1, "GET", delta.digest)
    assert office.daemon.get(blob(REPOSITORY, delta.digest, MCR)).body == delta.data
    office.daemon.wait_metric("prefetch_runs_total", 1)
    assert hub.count("GET", delta.digest) == 1


def test_a_night_that_was_missed(hub, office):
    """The machine was off when it was time: it is made up for at the start."""
    index = build(2762, "ltsc2022", hub=hub)
    office = office()
    at = time.time() + 4
    office.configure(schedule=time.strftime("daily %H:%M:%S", time.localtime(at)))
    office.daemon.start()
    until("it is planned", lambda: next_at(office.daemon) == int(at))
    office.daemon.stop()
    assert hub.count() == 0
    until("the time has passed", lambda: time.time() > at + 1)
    office.daemon.start()
    office.daemon.wait_metric("prefetch_runs_total", 1)
    check_pull(office.daemon, hub, index)
    office.daemon.stop()
    hub.forget()
    office.daemon.start()
    until("it is planned again", lambda: next_at(office.daemon) > time.time())
    assert office.daemon.metric("prefetch_runs_total") == 0 and hub.count() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_night_that_is_cut_short(hub, office, how):
    """The daemon ends, or dies, in the middle: the next start goes on at once, and fetches
    no byte of the layer again that was on the disk."""
    index = build(2762, "ltsc2022", hub=hub)
    office = office()
    gate = hub.gate(BASE.digest, after=1_000_000)
    office.configure(schedule=soon())
    office.daemon.start()
    gate.wait_reached()
    assert plans(office.daemon)["windows"]["running"]["reference"] == f"{SERVERCORE}:ltsc2022"
    office.daemon.send_signal(how)
    until("it has ended", lambda: not office.daemon.running())
    office.daemon.child = None
    hub.heal()
    hub.forget()
    office.daemon.start()
    office.daemon.wait_metric("prefetch_runs_total", 1)
    assert hub.count("GET", "/manifests/") == 0
    if how == signal.SIGTERM:
        assert hub.bytes_sent(BASE.digest) < len(BASE.data)
    check_pull(office.daemon, hub, index)


def test_failures(hub, office):
    """One image of two is not there any more: the other is fetched, the failure is counted
    and told, and pins stay; an upstream that is down is asked again within a minute."""
    first = build(1, "ltsc2019", "ltsc2022", hub=hub)
    office = office(references=f"{SERVERCORE}:ltsc2019 {SERVERCORE}:ltsc2022")
    office.night()
    hub.untag(REPOSITORY, "ltsc2019")
    new = build(2, "ltsc2022", hub=hub)
    last = office.night()
    assert last["failed"] == 1 and last["changed"] == 1
    assert f"{SERVERCORE}:ltsc2019" in last["why"]
    assert office.daemon.metric("prefetch_failures_total") == 1
    assert next_at(office.daemon) > time.time() + 3600
    assert pins(office.daemon) == {f"{SERVERCORE}@{i.digest}" for i in (first, new)}

    hub.down()
    last = office.night()
    assert last["failed"] == 2
    assert next_at(office.daemon) <= time.time() + 60
    hub.up()


def test_limited(hub, office):
    """429: the upstream is left alone for as long as it says, then the night goes on."""
    index = build(2762, "ltsc2022", hub=hub)
    hub.fault("/manifests/ltsc2022", times=1, status=429, retry_after="1")
    hub.fault(BASE.digest, times=1, status=429, retry_after="1")
    office = office()
    last = office.night()
    assert last["failed"] == 0 and last["changed"] == 1
    assert sum(r.status == 429 for r in hub.asked()) == 2
    check_pull(office.daemon, hub, index)


def test_offline(hub, office):
    """offline = yes: nobody is asked, and that is what is told."""
    build(2762, "ltsc2022", hub=hub)
    office = office({"offline": "yes"})
    last = office.night()
    assert last["failed"] == 1 and "offline" in last["why"]
    assert hub.count() == 0
    assert next_at(office.daemon) > time.time() + 3600


def test_one_at_a_time(hub, office):
    """Several sections and images: one blob at a time crosses, and a fetch by hand need not
    wait for the night to end."""
    build(1, "ltsc2019", "ltsc2022", hub=hub)
    item = hub.hold(image.image("hand"), "app", "1")
    office = office(references=f"{SERVERCORE}:ltsc*")
    office.daemon.sections["prefetch other"] = {"references": f"{SERVERCORE}:ltsc2019",
                                                "schedule": soon()}
    gate = hub.gate(BASE.digest, after=1000)
    office.configure(schedule=soon())
    office.daemon.start()
    gate.wait_reached()
    done = office.daemon.command("fetch", f"{MCR}/app:1")
    assert done.returncode == 0 and office.daemon.holds(item.layers[0].digest)
    gate.open()
    office.daemon.wait_metric("prefetch_runs_total", 2)
    for path in {r.path for r in hub.asked("GET")}:
        assert hub.count("GET", path) == 1, path


def test_what_is_told(hub, office):
    """What is planned, and how it went, for programs."""
    build(2762, "ltsc2022", hub=hub)
    office = office(platforms="windows/amd64", zone="Etc/UTC", keep=2)
    office.configure(schedule="patch-tuesday 18:00+2h")
    office.daemon.start()
    plan = until("it is planned", lambda: plans(office.daemon).get("windows"))
    assert plan["references"] == [f"{SERVERCORE}:ltsc2022"]
    assert plan["platforms"] == ["windows/amd64"] and plan["keep"] == 2
    assert plan["schedule"] == "patch-tuesday 18:00+2h" and plan["zone"] == "Etc/UTC"
    assert plan["running"] is None and plan["last"] is None
    at = time.gmtime(plan["next_at"])
    assert (at.tm_wday, at.tm_hour, at.tm_min, at.tm_sec) == (1, 18, 0, 0)
    assert 8 <= at.tm_mday <= 14 and plan["next_at"] > time.time()
    assert "images" not in plans(office.daemon)


def test_status(hub, office):
    """`cachalot status` tells people, and programs, when the next night is and how the last
    one went."""
    build(2762, "ltsc2022", hub=hub)
    office = office()
    office.configure(schedule="weekly sun 03:00")
    office.daemon.start()
    until("it is planned", lambda: next_at(office.daemon) > 0)
    row = office.daemon.command("status").stdout.splitlines()[-1].split()
    assert row[0] == "windows" and row[2:] == ["-", "-"]
    office.night()
    last, = office.daemon.status()["daemon"]["prefetches"]
    assert last["name"] == "windows" and last["last"]["changed"] == 1
    assert "1 of 1 images new, 1.6 MiB fetched" in office.daemon.command("status").stdout
    hub.untag(REPOSITORY, "ltsc2022")
    office.night()
    assert f"1 failed: {SERVERCORE}:ltsc2022: tag" in office.daemon.command("status").stdout


@pytest.mark.parametrize("options, said", [
    ({"references": "UPPER:1"}, "references"),
    ({"references": f"{SERVERCORE}:a*@sha256:00"}, "references"),
    ({"references": "nowhere.test/app:1"}, "[upstream nowhere.test]"),
    ({"platforms": "windows"}, "platforms"),
    ({"schedule": "monthly 03:00"}, "does not begin with"),
    ({"schedule": "every 1s"}, "less than 1m"),
    ({"zone": "Europe/Atlantis"}, "Europe/Atlantis"),
    ({"zone": "../../etc/passwd"}, "time zone"),
    ({"keep": "32"}, "keep"),
])
def test_bad_settings(hub, office, options, said):
    """Each is refused with what is accepted."""
    office = office()
    office.configure(**{"references": f"{SERVERCORE}:1", **options})
    office.daemon.launch()
    until("it has refused", lambda: not office.daemon.running())
    assert said in office.daemon.stderr_path.read_text()
    office.daemon.child = None
