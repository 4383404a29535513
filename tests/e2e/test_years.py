# SPDX-License-Identifier: ISC
"""Years of an appliance that nobody looks at, in a minute."""

import json
import os

from lib import image
from lib.browser import Browser
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.wait import until

MIB = 1 << 20
SIZE = 12 * MIB
MONTHS = 12
MACHINES = 3


def next_month(base, month):
    """An image on the base that all months share."""
    item = image.image(f"month-{month}", (100, 2 * MIB))
    document = json.loads(item.data)
    document["layers"][0] = base.descriptor()
    item.blobs[1] = base
    item.data = json.dumps(document).encode()
    return item


def pull(daemon, item, tag):
    """As a machine does that has nothing yet; the bytes that it got."""
    got = daemon.get(manifest("windows/servercore", tag), fields=ACCEPT)
    assert got.status == 200 and got.body == item.data
    total = len(got.body)
    for each in item.blobs:
        got = daemon.get(blob("windows/servercore", each.digest))
        assert got.status == 200 and got.complete and got.body == each.data
        total += len(got.body)
    daemon.wait_idle()
    return total


def flip(path):
    with open(path, "r+b") as file:
        file.seek(1000)
        byte = file.read(1)[0]
        file.seek(1000)
        file.write(bytes([byte ^ 0x40]))


def taken(directory):
    """What it takes on the disk."""
    total = 0
    for folder, _, names in os.walk(directory):
        total += sum(os.lstat(os.path.join(folder, name)).st_blocks for name in names) * 512
    return total


def test_story_fourteen(registry, cachalot, closing, tmp_path):
    """A year of months, each with a new image on the same base for three machines, in a cache
    with room for a few. The line carries every layer once and the base once in the year; the
    directory stays within its size; the daemon is replaced in July, and the new one killed. In
    December a bit rots, and is fetched again, once, before any machine sees it. The page says
    what was saved, to the byte, though most of it was evicted long ago."""
    base, _ = image.layer(3 * MIB, "years-base")
    daemon = cachalot({HUB: {"url": registry.url, "tag-ttl": "1h"}},
                      {"cache": {"size": f"{SIZE}B", "min-free": "0", "scrub": "0"}})
    items, lan = [], 0
    for month in range(MONTHS):
        items.append(registry.push(next_month(base, month), "windows/servercore", str(month)))
    registry.forget()
    for month, item in enumerate(items):
        lan += sum(pull(daemon, item, month) for _ in range(MACHINES))
        assert taken(daemon.cache) <= SIZE
        if month == MONTHS // 2:
            assert daemon.stop() == 0
            daemon.start()
            daemon.kill()
            daemon.start()
    line = registry.bytes_sent("/windows/servercore/")
    assert registry.count("GET", base.digest) == 1
    assert all(registry.count("GET", each.digest) == 1 for item in items for each in item.blobs)
    until("the first months have gone",
          lambda: not any(daemon.holds(items[0].blobs[i].digest) for i in (0, 2)))
    assert all(daemon.holds(each.digest) for each in items[-1].blobs)

    registry.forget()
    flip(daemon.blob_path(base.digest))
    daemon.sections["cache"]["scrub"] = "1s"
    daemon.write_config()
    daemon.hup()
    daemon.wait_metric("scrub_healed_total", 1)
    lan += pull(daemon, items[-1], MONTHS - 1)
    assert registry.count("GET") == 1 and daemon.metric("lost_blobs") == 0
    line += registry.bytes_sent("/windows/servercore/")

    browser = closing(Browser(tmp_path))
    until("the sums are up to date",
          lambda: json.loads(daemon.get("/-/api/status").body)["all"]["lan_bytes"] == lan)
    browser.open("http://%s:%d/" % daemon.address)
    browser.until("the page shows what was saved",
                  "return document.getElementById('all-saved').value == arguments[0]",
                  str(lan - line))
    assert taken(daemon.cache) <= SIZE
