# SPDX-License-Identifier: ISC
"""The cachalot command beside a daemon."""

import json
import time

import pytest

from lib import image
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.wait import until


@pytest.fixture
def item(hub):
    return hub.hold(image.image("command", (4000,)), "library/app", "1")


@pytest.fixture
def daemon(hub, item, cachalot):
    d = cachalot({HUB: hub.url})
    d.get(manifest("library/app", "1"), fields=ACCEPT)
    for each in item.all_blobs():
        d.get(blob("library/app", each.digest))
    d.wait_metric("blobs_stored_total", len(item.all_blobs()))
    d.wait_metric("manifests_stored_total", 1)
    return d


def test_status(daemon):
    """`cachalot status` tells people how it goes, and programs in JSON."""
    done = daemon.command("status")
    assert done.returncode == 0 and done.stdout, done
    done = daemon.command("status", "--format", "json")
    assert done.returncode == 0, done
    assert isinstance(json.loads(done.stdout), dict)


def test_ls(daemon, item):
    """`cachalot ls` lists what is held, by its full name, with its digest."""
    done = daemon.command("ls")
    assert done.returncode == 0 and "docker.io/library/app" in done.stdout, done
    done = daemon.command("ls", "--format", "json")
    assert done.returncode == 0, done
    assert item.digest in done.stdout and "docker.io/library/app" in done.stdout
    json.loads(done.stdout)


def test_without_a_daemon(daemon):
    """Without a daemon both read the directory, and status says that none answers; with
    -q its exit code says so."""
    assert daemon.command("status", "-q").returncode == 0
    daemon.stop()
    done = daemon.command("status")
    assert done.returncode == 0 and "not running" in done.stdout, done
    assert daemon.command("status", "-q").returncode == 1
    done = daemon.command("ls")
    assert done.returncode == 0 and "docker.io/library/app" in done.stdout, done


def test_status_numbers(daemon, item):
    """What is held is counted while the daemon runs; what was saved is there when it has
    ended."""
    daemon.get(blob("library/app", item.layers[0].digest))
    said = json.loads(daemon.command("status", "--format", "json").stdout)
    held = [item, *item.all_blobs()]
    assert said["held"]["blobs"] == len(held) and said["held"]["tags"] == 1
    assert said["held"]["bytes"] == sum(len(x.data) for x in held)
    assert said["daemon"]["running"] and said["daemon"]["fetches"] == 0
    now = said["daemon"]["since_start"]
    assert 0 < now["line_bytes"] < now["lan_bytes"] and now["hits"] >= 1
    assert now["saved_bytes"] == now["lan_bytes"] - now["line_bytes"]
    daemon.stop()
    said = json.loads(daemon.command("status", "--format", "json").stdout)
    assert not said["daemon"]["running"]
    for period in ("today", "month", "all"):
        assert said["ledger"][period]["lan_bytes"] == now["lan_bytes"], said
        assert said["ledger"][period]["hit_ratio"] == now["hit_ratio"]


def test_status_of_upstreams(hub, item, cachalot):
    """What `status` says of each upstream: of one that was never asked nothing is known; of
    one that answers, when it did; of one that is down, since when, and why; of one that
    counts requests, how many are left; and that it is left alone after a 429. People see
    those that were asked."""
    options = {"tag-ttl": "0s", "retries": 0}
    daemon = cachalot({HUB: {"url": hub.url, **options}, "quay.io": hub.url,
                       "down.test": {"url": "http://127.0.0.1:9", **options}})
    began = int(time.time())

    def tag(reference="1", registry=HUB):
        return daemon.get(manifest("library/app", reference, registry), fields=ACCEPT)

    for registry in (HUB, "quay.io", "down.test"):
        assert daemon.upstream_status(registry) == {
            "registry": registry, "reachable": None, "changed_at": None, "answered_at": None,
            "limited_until": None, "ratelimit": None, "last_failure": None}
    hub.fields = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "7;w=21600")]
    assert tag().status == 200
    assert tag(registry="down.test").status == 502
    now = int(time.time())
    said = daemon.upstream_status(HUB)
    assert said["reachable"] and said["last_failure"] is None and said["changed_at"] is None
    assert began <= said["answered_at"] <= now and began <= said["ratelimit"]["told_at"] <= now
    assert (said["ratelimit"]["limit"], said["ratelimit"]["remaining"]) == (100, 7)
    assert said["ratelimit"]["window_seconds"] == 21600 and said["limited_until"] is None
    said = daemon.upstream_status("down.test")
    assert said["reachable"] is False and said["answered_at"] is None
    assert began <= said["changed_at"] <= now
    assert said["last_failure"]["result"] == "upstream-refused"
    assert "cannot be reached" in said["last_failure"]["text"]
    assert began <= said["last_failure"]["at"] <= now

    hub.fault("/manifests/", status=429, retry_after="100", times=1)
    assert tag()["Warning"] is not None
    said = daemon.upstream_status(HUB)
    assert said["reachable"] and began + 100 <= said["limited_until"] <= int(time.time()) + 100
    assert daemon.status()["daemon"]["stale_answers"] == 1

    text = daemon.command("status").stdout
    rows = {}
    for line in filter(None, text.splitlines()):
        rows[line.split()[0]] = rows.get(line.split()[0], "") + line
    assert "1 answers since its start were stale" in text
    assert "left alone for" in rows[HUB] and "7 of 100 left (6h)" in rows[HUB]
    assert "down since" in rows["down.test"] and "never" in rows["down.test"]
    assert "cannot be reached" in rows["down.test"]
    assert "quay.io" not in rows


def test_ls_platforms(hub, cachalot):
    """Of an index, `ls` says which platforms are held, and which in part."""
    amd64, arm64 = (image.image(f"ls-{a}", (1000, 2000), architecture=a)
                    for a in ("amd64", "arm64"))
    windows = image.image("ls-windows", (3000,), os="windows", os_version="10.0.17763.1")
    hub.hold(image.index([amd64, arm64, windows]), "library/multi", "1")
    daemon = cachalot({HUB: hub.url})
    daemon.get(manifest("library/multi", "1"), fields=ACCEPT)

    def listed():
        row, = json.loads(daemon.command("ls", "multi", "--format", "json").stdout)
        return row

    until("the tag is listed", lambda: daemon.command("ls", "multi").returncode == 0)
    assert listed()["held"] == "none of 3 platforms"
    for each in (amd64, windows):
        daemon.get(manifest("library/multi", each.digest), fields=ACCEPT)
        for b in each.blobs:
            daemon.get(blob("library/multi", b.digest))
    daemon.get(manifest("library/multi", arm64.digest), fields=ACCEPT)
    daemon.get(blob("library/multi", arm64.blobs[0].digest))
    names = ["linux/amd64", "linux/arm64 (1 of 3 blobs)", "windows/amd64:10.0.17763.1"]
    until("what was pulled is listed", lambda: listed()["platforms"] == names)
    assert listed()["held"] == ", ".join(names)
    for b in arm64.blobs:
        daemon.get(blob("library/multi", b.digest))
    until("all is listed", lambda: listed()["held"] == "complete, 3 platforms")
    row = listed()
    assert row["held_bytes"] == row["total_bytes"] and row["held_blobs"] == row["total_blobs"]


def test_ls_pattern(daemon):
    """A pattern without wildcards may stand anywhere; one that matches nothing is 5."""
    for pattern in ("app", "library/app:1", "docker.io/*", "*:?"):
        assert daemon.command("ls", pattern).returncode == 0, pattern
    for pattern in ("nginx", "app*", "library/?pp:1"):
        done = daemon.command("ls", pattern)
        assert done.returncode == 5 and pattern in done.stderr and not done.stdout, done


def test_no_cache(daemon, tmp_path):
    """A directory that is not a cache, or not there: 1, what is wrong and what to do."""
    (tmp_path / "other").mkdir()
    for path in (tmp_path / "other", tmp_path / "none"):
        done = daemon.command("-C", path, "ls")
        assert done.returncode == 1 and str(path) in done.stderr and "-C" in done.stderr, done


@pytest.mark.parametrize("arguments, code", [
    (["frobnicate"], 2), (["status", "--no-such"], 2), (["ls", "--format", "yaml"], 2), ([], 2)])
def test_usage(daemon, arguments, code):
    """Usage errors are 2, with a word of help on standard error."""
    done = daemon.command(*arguments)
    assert done.returncode == code and done.stderr, done


def test_help(daemon):
    """--help lists the commands."""
    done = daemon.command("--help")
    assert done.returncode == 0 and "status" in done.stdout and "ls" in done.stdout
