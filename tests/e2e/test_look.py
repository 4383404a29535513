# SPDX-License-Identifier: ISC
"""Looking into the cache: what is there, why, how much of it is whose; keeping it and taking it
away; what people see on a terminal of 80 columns, and what shells complete."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from lib import image, terminal, windows
from lib.access import Client
from lib.cachalot import COMMAND
from lib.clients import Skopeo, short_directory
from lib.hub import Gate
from lib.image import ACCEPT
from lib.paths import HUB, MCR, blob, manifest
from lib.pusher import EVERYBODY, Pusher
from lib.terminal import Terminal
from lib.wait import until

SERVERCORE = "windows/servercore"
BUILD = "10.0.20348.2340"


@pytest.fixture
def office(hub, cachalot):
    """A Linux image for two platforms of which one was pulled, a Windows image that was pulled
    whole, and one of the team's own that has its base from the Linux one."""
    amd64, arm64 = (image.image(f"look-{a}", (300_000, 20_000), architecture=a)
                    for a in ("amd64", "arm64"))
    multi = hub.hold(image.index([amd64, arm64]), "library/multi", "1")
    base = windows.layer(400_000, "base")
    server = windows.windows_image([base, windows.layer(50_000, "delta")], BUILD)
    core = hub.hold(windows.servercore(server), SERVERCORE, "ltsc2022")
    daemon = cachalot({HUB: {"url": hub.url, "retries": 0}, MCR: hub.url}, EVERYBODY)
    daemon.multi, daemon.amd64, daemon.arm64 = multi, amd64, arm64
    daemon.core, daemon.server, daemon.base = core, server, base
    pull(daemon, multi, "library/multi", "1", only=[amd64])
    pull(daemon, core, SERVERCORE, "ltsc2022", registry=MCR)
    mine = image.image("look-mine", (9_000,))
    daemon.mine = image.Manifest(mine.media_type, mine.data, mine.extra, mine.blobs)
    Pusher(daemon.address, "team/app").push(daemon.mine, "2")
    until("all is listed", lambda: {r["held"] for r in listed(daemon)} ==
          {"linux/amd64", "complete"})
    return daemon


def pull(daemon, item, repository, tag, registry=HUB, only=None):
    daemon.get(manifest(repository, tag, registry), fields=ACCEPT)
    for each in only if only is not None else item.children:
        daemon.get(manifest(repository, each.digest, registry), fields=ACCEPT)
        for b in each.blobs:
            assert daemon.get(blob(repository, b.digest, registry)).status == 200
    if not item.children:
        for b in item.blobs:
            assert daemon.get(blob(repository, b.digest, registry)).status == 200


def said(daemon, *arguments):
    done = daemon.command(*arguments, "--format", "json")
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def listed(daemon, *arguments):
    return said(daemon, "ls", *arguments)


def row(daemon, pattern):
    only, = listed(daemon, pattern)
    return only


def on_terminal(daemon, *arguments, **options):
    """The lines; none is longer than the terminal is wide."""
    code, lines, output = terminal.run([COMMAND, "-c", daemon.config_path, *arguments], **options)
    assert code == 0, output
    width = options.get("columns", 80)
    assert all(len(line) <= width for line in lines), lines
    return lines


def columns(head):
    """Where the columns of a table begin or end, by its heading."""
    return [m.span() for m in re.finditer(r"\S+(?: \S+)*", head)]


# --- ls ---

def test_own_and_shared(office, hub):
    """Two tags of different images have a layer in common: it is the own of neither. A second
    tag of the same image takes nothing away from the first."""
    alone = row(office, "multi")
    assert alone["own_bytes"] == alone["held_bytes"] and alone["shared_bytes"] == 0
    held = [office.multi, office.amd64, *office.amd64.blobs]
    assert alone["held_bytes"] == sum(len(x.data) for x in held)

    next_build = windows.windows_image([office.base, windows.layer(70_000, "delta 2")], "10.0.2.3")
    hub.hold(windows.servercore(next_build), SERVERCORE, "ltsc2025")
    hub.hold(office.core, SERVERCORE, "latest")
    pull(office, windows.servercore(next_build), SERVERCORE, "ltsc2025", MCR)
    pull(office, office.core, SERVERCORE, "latest", MCR)
    shared = len(office.base.data)
    until("the second one is complete", lambda: row(office, "ltsc2025")["complete"])
    for tag in ("ltsc2022", "ltsc2025", "latest"):
        each = row(office, tag)
        assert each["shared_bytes"] == shared, each
        assert each["own_bytes"] == each["held_bytes"] - shared
    assert row(office, "ltsc2022")["digest"] == row(office, "latest")["digest"]


def test_ls_table(office):
    """The table is aligned; away from a terminal nothing is cut."""
    done = office.command("ls")
    lines = done.stdout.splitlines()
    assert re.split(r"  +", lines[0]) == ["REFERENCE", "SIZE", "OWN", "SHARED", "USED", "PIN",
                                          "HELD"]
    assert len(lines) == 4 and "\x1b" not in done.stdout
    assert any(x.startswith(f"{MCR}/{SERVERCORE}:ltsc2022 ") for x in lines)
    spans = columns(lines[0])
    for line in lines[1:]:
        for (start, end), right in zip(spans, (0, 1, 1, 1, 1, 0, 0)):
            assert line[end - 1 if right else start] != " ", line
            assert start == 0 or line[(end if right else start - 1):][:1] in (" ", ""), line


def test_ls_on_a_terminal(office):
    """At 80 columns a long reference loses its middle, and its tag is there."""
    lines = on_terminal(office, "ls")
    assert any(".." in x and "servercore:ltsc2022" in x for x in lines), lines
    assert any("servercore:ltsc2022" in x and ".." not in x
               for x in on_terminal(office, "ls", columns=120))


def test_ls_names(office):
    """--names prints the references alone, for scripts."""
    names = office.command("ls", "--names").stdout.splitlines()
    assert sorted(names) == sorted([f"{HUB}/library/multi:1", f"{MCR}/{SERVERCORE}:ltsc2022",
                                    "team/app:2"])
    assert office.command("ls", "--names", "team").stdout == "team/app:2\n"
    assert office.command("ls", "-q").stdout == ""


# --- inspect ---

def test_inspect(office):
    """An index as a tree: what is held and what is not, sizes, where it came from."""
    root = said(office, "inspect", "multi:1")
    assert root["reference"] == f"{HUB}/library/multi:1" and root["role"] == "index"
    assert root["digest"] == office.multi.digest and root["held"] and root["origin"] == "pulled"
    amd64, arm64 = root["children"]
    assert amd64["platform"] == "linux/amd64" and arm64["platform"] == "linux/arm64"
    assert amd64["held"] and not arm64["held"] and arm64["origin"] is None
    assert arm64["sources"] == [f"{HUB}/library/multi"]
    assert [c["role"] for c in amd64["children"]] == ["config", "layer", "layer"]
    assert [c["digest"] for c in amd64["children"]] == [b.digest for b in office.amd64.blobs]
    assert [c["size_bytes"] for c in amd64["children"]] == [len(b.data)
                                                            for b in office.amd64.blobs]
    text = office.command("inspect", f"{HUB}/library/multi:1").stdout
    assert re.search(r"^  linux/amd64 +\w{12} .* yes .* pulled$", text, re.M), text
    assert re.search(r"^  linux/arm64 +\w{12} .* no .* upstream$", text, re.M), text
    assert re.search(r"^    layer ", text, re.M) and office.multi.digest in text


@pytest.mark.parametrize("name, origin", [
    (f"{MCR}/{SERVERCORE}:ltsc2022", "pulled"), ("team/app:2", "pushed"), ("team/app", None)])
def test_inspect_origin(office, name, origin):
    """A name without a registry is a local repository's first; without a tag it is latest."""
    if origin:
        assert said(office, "inspect", name)["origin"] == origin
        return
    done = office.command("inspect", name)
    assert done.returncode == 5 and "team/app:latest" in done.stderr, done


def test_inspect_by_digest(office):
    """By a digest, whole, its digits, the first of them, or of a repository."""
    whole = said(office, "inspect", office.server.digest)
    assert said(office, "inspect", office.server.digest.split(":")[1]) == whole
    short = said(office, "inspect", office.server.digest.split(":")[1][:12])
    named = said(office, "inspect", f"{MCR}/{SERVERCORE}@{office.server.digest}")
    assert whole["children"] == short["children"] == named["children"]
    layer = said(office, "inspect", office.base.digest)
    assert layer["role"] == "layer" and layer["size_bytes"] == len(office.base.data)
    assert not layer.get("children")


def test_inspect_on_a_terminal(office):
    lines = on_terminal(office, "inspect", f"{MCR}/{SERVERCORE}:ltsc2022")
    assert any(f"windows/amd64:{BUILD}" in x for x in lines), lines
    assert any(office.core.digest in x for x in lines)


def test_inspect_foreign_and_referrers(hub, cachalot):
    """A foreign layer that is not held says that it has urls; a signature of an image is
    listed as what refers to it."""
    foreign = windows.foreign_layer(image.noise(9000, "look foreign"), ["https://x.test/layer"])
    old = windows.windows_image([foreign], BUILD)
    hub.hold(old, SERVERCORE, "ltsc2016")
    daemon = cachalot({MCR: hub.url}, EVERYBODY)
    daemon.get(manifest(SERVERCORE, "ltsc2016", MCR), fields=ACCEPT)
    until("it is listed", lambda: listed(daemon))
    layer = said(daemon, "inspect", f"{MCR}/{SERVERCORE}:ltsc2016")["children"][1]
    assert layer["urls"] == ["https://x.test/layer"] and not layer["held"]
    assert "upstream, has urls" in daemon.command("inspect", f"{MCR}/{SERVERCORE}:ltsc2016").stdout

    item = image.image("look-signed", (1000,))
    signature = image.artifact("look-signature", item)
    pusher = Pusher(daemon.address, "team/signed")
    pusher.push(item, "1")
    pusher.push(signature, "sig")
    referrer, = said(daemon, "inspect", "team/signed:1")["referrers"]
    assert referrer["digest"] == signature.digest
    assert referrer["artifact_type"] == "application/vnd.example.signature"
    text = daemon.command("inspect", "team/signed:1").stdout
    assert "referrer application/vnd.example.signature" in text


# --- why ---

def test_why(office):
    """What leads to a layer: its manifest, the index, the tag; where it came from, its pins."""
    why = said(office, "why", office.base.digest)
    assert why["is"] == "layer" and why["held"] and why["origin"] == "pulled"
    assert why["sources"] == [f"{MCR}/{SERVERCORE}"] and why["eviction"] == "part"
    assert why["parents"] == [{"digest": office.server.digest, "as": "layer", "tagged": True}]
    assert why["tags"] == [{"reference": f"{MCR}/{SERVERCORE}:ltsc2022", "previous": False,
                            "through": [office.core.digest, office.server.digest]}]
    assert why["pins"] == []
    assert office.command("pin", f"{MCR}/{SERVERCORE}:ltsc2022").returncode == 0
    assert said(office, "why", office.base.digest)["pins"] == [f"{MCR}/{SERVERCORE}:ltsc2022"]
    text = office.command("why", office.base.digest).stdout
    assert "a layer of" in text and "from a public upstream" in text
    assert f"> windows/amd64:{BUILD} {office.server.digest[7:19]} > layer" in text
    assert "stays with the manifests that name it" in text


def test_why_of_a_push(office):
    """What was pushed is in local repositories."""
    layer = office.mine.layers[0].digest
    why = said(office, "why", layer)
    assert why["origin"] == "pushed" and why["local_repositories"] == ["team/app"]
    assert "by a push" in office.command("why", layer).stdout


def test_why_not_held(office):
    """What is not held is known by the manifest that names it; a part of a download is told."""
    why = said(office, "why", office.arm64.digest)
    assert not why["held"] and why["is"] == "manifest"
    assert why["tags"][0]["reference"] == f"{HUB}/library/multi:1"
    assert "that is not held" in office.command("why", office.arm64.digest).stdout


def test_why_after_a_tag_moved(office, hub):
    """A tag moves to what is not pulled: the old image is what the tag was."""
    hub.hold(image.image("look-moved", (1000,)), "library/multi", "1")
    office.sections[f"upstream {HUB}"]["tag-ttl"] = "0s"
    office.write_config()
    office.hup()
    office.head(manifest("library/multi", "1"), fields=ACCEPT)
    until("the tag has moved", lambda: row(office, "multi")["moved"])
    tag, = said(office, "why", office.multi.digest)["tags"]
    assert tag["previous"] and tag["reference"] == f"{HUB}/library/multi:1"
    assert "before it moved" in office.command("why", office.multi.digest).stdout
    assert "the one before" in office.command("inspect", "multi:1").stdout
    assert "has moved" in office.command("ls", "multi").stdout


def test_why_says_who_used_it(office):
    """Who pulled it first, and who found it in the cache: once that is written, which it is
    when the daemon stops. It stays for as long as the content, and visitors are not told."""
    layer = office.base.digest
    first, second = Client(office.address), Client(office.address, source="127.0.0.2")
    path = blob(SERVERCORE, layer, MCR)
    assert second.get(path).status == 200
    office.stop()
    office.start()

    def users(digest):
        return {x["address"] for x in said(office, "why", digest)["used_by"]}

    def used_by(digest):
        text = office.command("why", digest).stdout
        return re.search(r"^used by +(.*)$", text, re.M).group(1)

    assert users(layer) == {"127.0.0.1", "127.0.0.2"}
    assert re.fullmatch(r"127\.0\.0\.[12] \(\d{4}-\d\d-\d\d \d\d:\d\d\), "
                        r"127\.0\.0\.[12] \(.*\)", used_by(layer))
    for each in (f"{MCR}/{SERVERCORE}:ltsc2022", office.server.digest, office.amd64.digest):
        assert users(each) == {"127.0.0.1"}
    assert users(office.mine.digest) == set()
    assert used_by(office.mine.digest).startswith("nobody yet")

    assert first.get(path).status == 200
    office.stop()
    office.start()
    assert users(layer) == {"127.0.0.1", "127.0.0.2"}
    for page in ("/-/api/images", "/-/api/status", "/-/"):
        assert b"127.0.0.2" not in office.get(page).body, page

    assert office.command("rm", f"{MCR}/{SERVERCORE}:ltsc2022").returncode == 0
    assert office.command("gc").returncode == 0
    until("it is gone", lambda: office.command("why", layer).returncode == 5)
    assert office.get(path).status == 200
    until("it is there again", lambda: office.command("why", layer).returncode == 0)
    assert users(layer) == set()


def test_why_on_a_terminal(office):
    lines = on_terminal(office, "why", office.base.digest[7:19])
    assert office.base.digest in lines[0]


@pytest.mark.parametrize("verb", ["why", "inspect"])
def test_unknown(office, verb):
    """Nothing of that name or digest: 5. Neither a name nor a digest: 2."""
    unknown = "sha256:" + hashlib.sha256(b"look unknown").hexdigest()
    for name in ("nginx:1", "quay.io/a/b:1", unknown, unknown[7:], "0123456789abcdef",
                 f"{MCR}/{SERVERCORE}@{unknown}"):
        done = office.command(verb, name)
        assert done.returncode == 5 and name in done.stderr and not done.stdout, done
    for name in ("Nginx", "a b", "", "../x", "sha256:-"):
        done = office.command(verb, name)
        assert done.returncode == 2 and done.stderr and not done.stdout, done
    assert office.command(verb).returncode == 2
    assert office.command(verb, "a", "b").returncode == 2
    assert office.command(verb, "multi:1", "-q").stdout == ""


# --- pin, unpin ---

def test_pins(office):
    """A pin shows, goes with its tag, and is taken away; a name without a registry will do."""
    assert "Nothing is pinned" in office.command("pin").stdout
    done = office.command("pin", "multi:1", "team/app:2")
    assert done.returncode == 0 and f"pinned {HUB}/library/multi:1" in done.stdout, done
    assert row(office, "multi")["pinned"] and row(office, "team")["pinned"]
    assert not row(office, "servercore")["pinned"]
    pins = said(office, "pin")
    assert [p["reference"] for p in pins] == ["team/app:2", f"{HUB}/library/multi:1"]
    assert all(p["held"] and p["owner"] is None for p in pins)
    assert said(office, "pin", "multi:1") == [
        {"action": "pinned", "reference": f"{HUB}/library/multi:1", "note": None}]
    assert office.command("unpin", "multi:1").returncode == 0
    assert not row(office, "multi")["pinned"]
    done = office.command("unpin", "multi:1")
    assert done.returncode == 5 and "not pinned" in done.stderr, done
    by_digest = f"{MCR}/{SERVERCORE}@{office.core.digest}"
    assert office.command("pin", by_digest).returncode == 0
    assert row(office, "servercore")["pinned"]
    assert office.command("pin", "-q", "multi:1").stdout == ""


def test_pins_outlive_the_daemon(office):
    """They are on the disk, and can be made without a daemon."""
    office.stop()
    assert office.command("pin", "multi:1").returncode == 0
    office.start()
    assert row(office, "multi")["pinned"]
    office.wait_idle()


def test_some_cannot_be_pinned(office):
    """3 when some failed; else the code of what failed. The others are done."""
    done = office.command("pin", "multi:1", "nginx:1")
    assert done.returncode == 3 and "nginx:1 is not held" in done.stderr, done
    assert row(office, "multi")["pinned"]
    assert office.command("pin", "nginx:1").returncode == 5
    assert office.command("pin", "Nginx").returncode == 2
    assert office.command("unpin").returncode == 2


# --- rm ---

def test_rm_of_an_upstreams_tag(office, hub):
    """The tag is gone from the list, from index.json too, and so are its bytes, but for what
    others need; it comes back with the next pull, which asks the upstream again."""
    done = office.command("rm", "multi:1")
    assert done.returncode == 0 and f"removed {HUB}/library/multi:1" in done.stdout, done
    assert not office.command("ls", "--names", "multi").stdout
    assert "library/multi" not in (office.cache / "index.json").read_text()
    until("its bytes are gone", lambda: not office.holds(office.multi.digest)
          and not office.holds(office.amd64.digest))
    asked = hub.count("GET", "/manifests/1")
    assert office.get(manifest("library/multi", "1"), fields=ACCEPT).status == 200
    assert office.get(blob("library/multi", office.amd64.blobs[1].digest)).status == 200
    assert hub.count("GET", "/manifests/1") >= asked
    until("it is listed again", lambda: office.command("ls", "multi").returncode == 0)


def test_rm_says_when_the_daemon_cannot_be_told(office):
    """The name is gone, but its bytes do not go at once."""
    done = office.command("rm", "-S", "/" + 200 * "x", "multi:1")
    assert done.returncode == 0 and "removed" in done.stdout, done
    assert "freed later" in done.stderr and "too long" in done.stderr, done
    assert not office.command("ls", "--names", "multi").stdout


def test_rm_of_a_local_tag(office):
    """The tag answers 404 from then on, its manifest by its digest 200; then that is removed
    too, by the digest alone."""
    path = "/v2/team/app/manifests/"
    assert office.command("rm", "team/app:2").returncode == 0
    assert office.get(path + "2", fields=ACCEPT).status == 404
    assert office.get(path + office.mine.digest, fields=ACCEPT).status == 200
    done = office.command("rm", office.mine.digest)
    assert done.returncode == 0 and f"removed team/app@{office.mine.digest}" in done.stdout, done
    assert office.get(path + office.mine.digest, fields=ACCEPT).status == 404


def test_rm_of_a_manifest(office, hub):
    """By the digest all its tags go; with a repository those there."""
    hub.hold(office.core, SERVERCORE, "latest")
    pull(office, office.core, SERVERCORE, "latest", MCR)
    until("both are listed", lambda: len(listed(office, "servercore")) == 2)
    done = office.command("rm", f"{MCR}/{SERVERCORE}@{office.core.digest}")
    assert done.returncode == 0 and done.stdout.count("removed") == 2, done
    assert office.command("ls", "servercore").returncode == 5


def test_rm_refuses(office):
    """What is pinned stays, a layer has no name, and what is not there is 5."""
    assert office.command("pin", "multi:1").returncode == 0
    done = office.command("rm", "multi:1")
    assert done.returncode == 1 and "cachalot unpin" in done.stderr, done
    done = office.command("rm", office.multi.digest)
    assert done.returncode == 1 and "cachalot unpin" in done.stderr, done
    done = office.command("rm", office.base.digest)
    assert done.returncode == 1 and "cachalot why" in done.stderr, done
    done = office.command("rm", office.server.digest)
    assert done.returncode == 5 and "cachalot why" in done.stderr, done
    assert office.command("rm", "nginx:1").returncode == 5
    assert office.command("rm", "Nginx").returncode == 2
    assert office.command("rm", "nginx:1", "team/app:2").returncode == 3
    assert len(listed(office)) == 2


def test_writing_beside_pulls(office, hub):
    """Pins are set and taken away again and again while clients pull and push: neither waits
    for ever, and nothing is lost."""
    items = [hub.hold(image.image(f"look-busy-{i}", (5000,)), "library/busy", str(i))
             for i in range(10)]
    for i, item in enumerate(items):
        pull(office, item, "library/busy", str(i))
        assert office.command("pin", "multi:1").returncode == 0
        assert office.command("unpin", "multi:1").returncode == 0
    until("all is listed", lambda: len(listed(office, "busy")) == len(items))
    assert not said(office, "pin")


# --- real programs ---

@pytest.mark.clients
def test_real_registry_and_client(registry, cachalot, tmp_path):
    """An image lies in a real docker-registry; skopeo pulls it through cachalot and pushes it
    to the team's repository. Both names are listed; its layers are held once and are nobody's
    own, and they are known to have been pulled."""
    item = registry.push(image.image("look-real", (200_000, 10_000)), "library/real", "1")
    daemon = cachalot({HUB: registry.url}, EVERYBODY)
    skopeo = Skopeo(tmp_path)
    host = "%s:%d" % daemon.address
    skopeo.copy(f"{host}/{HUB}/library/real:1")
    skopeo.push(item, f"{host}/team/real:2")
    until("both are listed", lambda: {r["held"] for r in listed(daemon, "real")} == {"complete"}
          and len(listed(daemon, "real")) == 2)
    names = {r["reference"]: r for r in listed(daemon)}
    assert set(names) == {f"{HUB}/library/real:1", "team/real:2"}
    assert all(r["digest"] == item.digest for r in names.values())
    layer = item.layers[0]
    why = said(daemon, "why", layer.digest)
    assert why["origin"] == "pulled" and why["local_repositories"] == ["team/real"]
    assert {t["reference"] for t in why["tags"]} == set(names)
    tree = said(daemon, "inspect", "team/real:2")
    assert [c["digest"] for c in tree["children"]] == [b.digest for b in item.blobs]
    assert daemon.status()["held"]["bytes"] == len(item.data) + sum(len(b.data)
                                                                    for b in item.blobs)
    assert daemon.command("rm", item.digest).stdout.count("removed") == 3
    assert daemon.command("ls", "real").returncode == 5


# --- status and top ---

def test_downloads_with_bars(office, hub):
    """A download under way: whose it is and how far; with a bar on a terminal only."""
    item = hub.hold(image.image("look-big", (2_000_000,)), "library/big", "1")
    layer = item.layers[0]
    gate = Gate(1_000_000)
    hub.fault(layer.digest, gate=gate)
    office.get(manifest("library/big", "1"), fields=ACCEPT)
    with office.connect() as client:
        client.request(blob("library/big", layer.digest))
        gate.wait_reached()
        until("half of it is there", lambda: downloads(office)
              and downloads(office)[0]["done_bytes"] > 500_000)
        one, = downloads(office)
        assert one["digest"] == layer.digest and one["name"] == f"{HUB}/library/big"
        assert one["size_bytes"] == len(layer.data) and one["kept_bytes"] == 0
        text = office.command("status").stdout
        assert re.search(rf"library/big +{layer.digest[7:19]} +\d+%", text) and "[#" not in text
        assert any("[#" in x and "%" in x for x in on_terminal(office, "status"))
        check_top(office, layer)
        gate.open()
    until("it is done", lambda: not downloads(office))


def downloads(daemon):
    return daemon.status()["daemon"]["downloads"]


def check_top(office, layer):
    """top shows it, and ends by a key; the terminal is as before."""
    top = Terminal([COMMAND, "-c", office.config_path, "top"])
    try:
        top.until("a second passed", lambda: "a second" in top.text)
        frame = top.output.split("\x1b[H")[-1]
        assert layer.digest[7:15] in top.text and "[#" in top.text and "UPSTREAM" in top.text
        assert frame.count("\n") < 24
        top.press("x")
        top.press("q")
        assert top.wait() == 0
        assert top.output.endswith("\x1b[?1049l") and top.settings_are_back()
    finally:
        top.close()


@pytest.mark.parametrize("end", [lambda t: t.press("\x03"), lambda t: t.signal(signal.SIGTERM),
                                 lambda t: t.press("q"), lambda t: t.press("Q")])
def test_top_ends(office, end):
    """By Ctrl-C, a signal or q, and the screen of before is back."""
    top = Terminal([COMMAND, "-c", office.config_path, "top"])
    try:
        top.until("it is drawn", lambda: "this month" in top.text)
        end(top)
        assert top.wait() == 0 and top.settings_are_back()
        assert top.output.endswith("\x1b[?25h\x1b[?1049l")
    finally:
        top.close()


def test_top_without_a_daemon(office):
    """It needs one at the start; when it ends meanwhile, top says so and goes on."""
    top = Terminal([COMMAND, "-c", office.config_path, "top"])
    try:
        top.until("it is drawn", lambda: "this month" in top.text)
        office.stop()
        top.until("it says so", lambda: "does not run" in top.text)
        office.start()
        top.until("it is back", lambda: "connections" in top.text.rsplit("does not run", 1)[-1])
        office.stop()
        top.press("q")
        assert top.wait() == 0
    finally:
        top.close()
    code, lines, _ = terminal.run([COMMAND, "-c", office.config_path, "top"])
    assert code == 1 and "nothing listens" in " ".join(lines)


def test_top_in_a_small_terminal(office):
    """What has no room is left out, and it follows the size."""
    top = Terminal([COMMAND, "-c", office.config_path, "top"], columns=40, lines=6)
    try:
        top.until("it is drawn", lambda: top.output.count("\x1b[J") > 0)
        for frame in top.output.split("\x1b[H")[1:]:
            shown = terminal.ESCAPE.sub("", frame.split("\x1b[?1049l")[0])
            lines = shown.replace("\r", "").split("\n")
            assert len(lines) <= 6 and all(len(x) <= 40 for x in lines), lines
        top.resize(100, 30)
        top.until("it has the room", lambda: "all  " in top.text)
        top.press("q")
        assert top.wait() == 0
    finally:
        top.close()


def test_top_is_for_terminals(office):
    done = office.command("top")
    assert done.returncode == 2 and "cachalot status" in done.stderr, done


def test_fetches_are_for_the_admin(office):
    """What is fetched is told on the socket of the command only."""
    said = json.loads(office.get("/-/api/fetches").body)
    assert said == {"fetches": [], "hidden": 0}
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(office.admin_socket))
        s.sendall(b"GET /-/api/fetches HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200") and json.loads(body) == {"fetches": [], "hidden": 0}


def test_status_on_a_terminal(office):
    lines = on_terminal(office, "status")
    assert any(x.startswith("this month") for x in lines) and any(MCR in x for x in lines)


# --- how it is printed ---

def test_styles(office):
    """Headings are bold on a terminal, not with NO_COLOR nor on a dumb one, nor elsewhere."""
    argv = [COMMAND, "-c", office.config_path, "ls"]
    assert "\x1b[1m" in terminal.run(argv)[2]
    assert "\x1b" not in terminal.run(argv, env={"NO_COLOR": "1"})[2]
    assert "\x1b" not in terminal.run(argv, env={"TERM": "dumb"})[2]
    assert "\x1b[1m" in terminal.run(argv, env={"NO_COLOR": ""})[2]
    assert "\x1b" not in office.command("ls").stdout


def test_full_disk_of_the_output(office):
    """What cannot be printed is an error."""
    for verb in (["ls"], ["status"], ["inspect", "multi:1"], ["why", office.base.digest], ["pin"],
                 ["completion", "bash"]):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([COMMAND, "-c", office.config_path, *verb], stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        assert done.returncode == 1 and "cannot be written" in done.stderr, (verb, done)


# --- caches that are empty, old, damaged, or somebody else's ---

def test_empty_cache(hub, cachalot):
    """Nothing is held yet: the commands say so, and what to do."""
    daemon = cachalot({HUB: hub.url})
    assert listed(daemon) == [] and said(daemon, "pin") == []
    assert "pull an image" in daemon.command("ls").stdout
    assert daemon.command("ls", "--names").stdout == ""
    for verb in ("inspect", "why", "pin", "unpin", "rm"):
        assert daemon.command(verb, "alpine:1").returncode == 5, verb
    assert daemon.status()["held"]["blobs"] == 0
    daemon.stop()
    assert daemon.command("status").returncode == 0


def cut_table(cache, table):
    """Rename a table of the index on the disk, as in one that an earlier release wrote."""
    path = cache / "db" / "data.mdb"
    data = path.read_bytes()
    assert table in data
    path.write_bytes(data.replace(table, b"x" * len(table)))


def test_cache_of_an_earlier_release(office):
    """An index without the tables of parents and pins: all is shown, and pins can be made."""
    office.stop()
    cut_table(office.cache, b"parents")
    cut_table(office.cache, b"pins")
    assert len(listed(office)) == 3
    why = said(office, "why", office.base.digest)
    assert why["tags"][0]["reference"] == f"{MCR}/{SERVERCORE}:ltsc2022" and why["pins"] == []
    assert said(office, "inspect", "multi:1")["children"]
    assert said(office, "pin") == []
    assert office.command("pin", "multi:1").returncode == 0
    assert row(office, "multi")["pinned"]


def test_damaged_index(office):
    """What is no index is 4 and said so; one that is cut short too. Nothing crashes."""
    office.stop()
    path = office.cache / "db" / "data.mdb"
    whole = path.read_bytes()
    for data in (b"", b"x" * 65536, whole[:8192]):
        path.write_bytes(data)
        for verb in (["ls"], ["status"], ["inspect", "multi:1"], ["why", office.base.digest],
                     ["pin", "multi:1"], ["rm", "multi:1"]):
            done = office.command(*verb)
            assert done.returncode in (1, 4) and done.stderr and not done.stdout, (verb, done)
    path.write_bytes(whole)
    assert len(listed(office)) == 3


def test_damaged_tag(office):
    """One record of the index is damaged: it is said of its tag, what is left is listed, and
    the tag can be removed; the next pull makes it anew."""
    office.stop()
    path = office.cache / "db" / "data.mdb"
    head = b"\x01" + bytes.fromhex(office.multi.digest.split(":")[1])
    size = len(office.multi.data).to_bytes(8, "little")
    data = path.read_bytes()
    assert b"\x01" + head + size in data
    path.write_bytes(data.replace(b"\x01" + head + size, b"\x63" + head + size))
    assert len(listed(office)) == 2
    for verb in ("inspect", "why"):
        done = office.command(verb, "multi:1")
        assert done.returncode == 4 and "cachalot rm" in done.stderr, done
    assert office.command("rm", "multi:1").returncode == 0
    assert office.command("inspect", "multi:1").returncode == 5
    office.start()
    pull(office, office.multi, "library/multi", "1", only=[office.amd64])
    until("it is listed again", lambda: len(listed(office)) == 3)


def test_no_permission(office):
    """Somebody else's cache: 1, and as whom to run it."""
    if os.geteuid() != 0:
        pytest.skip("only the superuser can be somebody else")
    away = office.cache.parent
    # Where it was built may be closed to others, too.
    place = Path(short_directory())
    place.chmod(0o755)
    command = shutil.copy(COMMAND, place)
    for verb in (["ls"], ["status"], ["pin", "multi:1"], ["rm", "multi:1"], ["top"]):
        done = subprocess.run([command, "-C", office.cache, *verb], capture_output=True, text=True,
                              timeout=60, check=False, cwd="/", user=65534, group=65534,
                              extra_groups=[])
        assert done.returncode in (1, 2), (verb, done)
        if verb != ["top"]:
            assert "run this as root or as the user of cachalotd" in done.stderr, (verb, done)
    shutil.rmtree(place)
    assert away.exists() and len(listed(office)) == 3


# --- completion ---

def complete(line, daemon=None, words=()):
    """What bash would offer for the line."""
    script = """
eval "$("$CACHALOT" completion bash)"
cachalot() { "$CACHALOT" "$@"; }
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:' COMP_LINE=$1 COMP_POINT=${#1}
_cachalot
printf '%s\\n' "${COMPREPLY[@]}"
"""
    env = {**os.environ, "CACHALOT": str(COMMAND)}
    if daemon:
        env["CACHALOT_CACHE"] = str(daemon.cache)
    done = subprocess.run(["bash", "-c", script, "bash", line], capture_output=True, text=True,
                          env=env, timeout=60, check=True)
    assert "not found" not in done.stderr, done
    return [x for x in done.stdout.split("\n") if x]


def test_completion_of_bash(office):
    """Commands, options, what options take, and references, with their colons."""
    commands = complete("cachalot ")
    assert {"status", "ls", "inspect", "why", "pin", "rm", "completion"} <= set(commands)
    assert complete("cachalot sta") == ["status"]
    assert complete("cachalot completion ") == ["bash", "zsh"]
    assert "--names" in complete("cachalot ls --")
    assert complete("cachalot --format ") == ["table", "json"]
    assert "show" in complete("cachalot ca ") and "top" in complete("cachalot help ")
    names = [f"{HUB}/library/multi:1", f"{MCR}/{SERVERCORE}:ltsc2022", "team/app:2"]
    assert sorted(complete("cachalot inspect ", office)) == sorted(names)
    assert str(COMMAND) in complete(f"cachalot export --like {str(COMMAND)[:-1]}")
    assert complete("cachalot pin multi:1 mcr", office) == [names[1]]
    # The shell replaces what follows the last colon only.
    assert complete(f"cachalot pin {MCR}/{SERVERCORE}:lt", office) == ["ltsc2022"]
    line = f"cachalot -C {office.cache} rm te"
    assert complete(line) == ["team/app:2"]


def test_completion_has_every_command():
    """Both scripts are made of the table; other shells are refused."""
    for shell in ("bash", "zsh"):
        done = subprocess.run([COMMAND, "completion", shell], capture_output=True, text=True,
                              timeout=60, check=True)
        for name in commands_of_help():
            assert re.search(rf"^    {name}\)$", done.stdout, re.M), (shell, name)
        if shutil.which(shell):
            subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True, timeout=60)
    done = subprocess.run([COMMAND, "completion", "fish"], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 2 and "bash or zsh" in done.stderr


# --- the manual ---

MANUAL = Path(__file__).parent / "../../tools/cachalot.1"


def help_of(*arguments):
    return subprocess.run([COMMAND, "help", *arguments], capture_output=True, text=True, timeout=60,
                          check=True).stdout


def commands_of_help():
    section = help_of().split("\ncommands:\n")[1].split("\n\n")[0]
    return re.findall(r"^  ([a-z]\S*)", section, re.M)


def options_of_help(*arguments):
    """{long name: letter or ""}"""
    return {name: letter for letter, name in
            re.findall(r"^  (?:-(\w), |    )--([a-z-]+)", help_of(*arguments), re.M)}


def options_of_manual(text):
    return {name for line in re.findall(r"^\.It .*$", text, re.M)
            for name in re.findall(r"Fl (?:\w , )?-([a-z-]+)", line)}


def test_manual_has_all():
    """The manual has a section for every command, in it every option of that, one for every
    option of all, and none that is not there."""
    text = MANUAL.read_text()
    parts = re.split(r"^\.It Cm (\S+).*$", text, flags=re.M)
    sections = {name: "" for name in parts[1::2]}
    assert set(sections) == set(commands_of_help())
    heads = re.findall(r"^\.It Cm .*$", text, re.M)
    for name, head, body in zip(parts[1::2], heads, parts[2::2]):
        sections[name] += f"{head}\n{body}"
    common = options_of_help()
    assert set(common) <= options_of_manual(text)
    own = {name: options_of_help(name) for name in sections}
    for name, options in own.items():
        said_there = options_of_manual(sections[name])
        for option, letter in options.items():
            by_letter = letter and re.search(rf"\bFl {letter}\b", sections[name])
            assert option in said_there or by_letter, (name, option)
    assert options_of_manual(text) <= set(common).union(*own.values())
