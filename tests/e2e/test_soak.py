# SPDX-License-Identifier: ISC
"""Everything at once: many clients, many blobs, an upstream that fails at random."""

import os
import random
import time

import pytest

from lib import image, rawhttp
from lib.crowd import together
from lib.image import ACCEPT, noise
from lib.paths import HUB, blob, manifest
from lib.wait import until

SIZES = [0, 1, 1000, 65_536, 200_000, 600_000, 1_500_000, 3_000_000]
SECONDS = float(os.environ.get("CACHALOT_SOAK", "4"))
CLIENTS = 12
WORKERS = 2

# Wrong bytes are few enough to be held back whole until they are verified.
FAULTS = [
    {"truncate_after": 100_000}, {"truncate_after": 700_000, "reset": True}, {"status": 503},
    {"close": True}, {"stall_after": 50_000}, {"body": noise(60_000, "wrong")},
    {"ignore_range": True}, {"chunked": True}, {"no_length": True}, {"length": 12},
    {"status": 429, "retry_after": "1"}, {"content_range": "bytes 5-9/10"}, {"drip": 20_000},
]


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.child.pid}/fd"))


@pytest.mark.threads
@pytest.mark.slow
def test_soak(hub, cachalot):
    """Clients that read all, read ranges, leave early or come twice, for some seconds:
    every byte that anybody gets is the true one at its place, every complete answer is
    right; then the upstream heals, all is served, and nothing has leaked.
    (CACHALOT_SOAK=600 for a long run, CACHALOT_SEED for another one.)"""
    seed = int(os.environ.get("CACHALOT_SEED", "1"))
    contents = [noise(size, f"soak-{size}-{i}") for size in SIZES for i in range(3)]
    paths = [blob("library/app", hub.hold_blob("library/app", c)) for c in contents]
    item = hub.hold(image.image("soak", (10_000,)), "library/app", "1")
    daemon = cachalot({HUB: {"url": hub.url, "retries": 2, "stall-timeout": "300ms",
                             "tag-ttl": "0s"}},
                      {"cache": {"workers": WORKERS}, "log": {"level": "info"}})
    before = descriptors(daemon)
    deadline = time.monotonic() + SECONDS

    def visit(rng):
        which = rng.randrange(len(paths) + 1)
        if which == len(paths):
            got = daemon.get(manifest("library/app", "1"), fields=ACCEPT)
            assert got.status != 200 or (got.complete and got.body == item.data)
            return
        content = contents[which]
        fields, start = [], 0
        if content and rng.random() < 0.3:
            start = rng.randrange(len(content))
            fields = [("Range", f"bytes={start}-")]
        with daemon.connect() as c:
            c.request(paths[which], fields=fields)
            got = c.read_head()
            if got.status not in (200, 206):
                return
            assert got.status == (206 if fields else 200)
            if rng.random() < 0.2:
                part = c.read_some(rng.randrange(1 + got.length))
                assert part == content[start:start + len(part)]
                return
            c.read_body(got)
        assert got.body == content[start:start + len(got.body)]
        assert not got.complete or len(got.body) == len(content) - start

    def client(i):
        rng = random.Random(f"{seed}-{i}")
        while time.monotonic() < deadline:
            if i == 0:
                hub.fault(rng.choice(["/blobs/", "/manifests/"]), times=2, **rng.choice(FAULTS))
                victim = daemon.blob_path(image.digest_of(rng.choice(contents)))
                if rng.random() < 0.2:
                    victim.unlink(missing_ok=True)
            visit(rng)

    together(CLIENTS, client)
    hub.heal()
    daemon.wait_idle()
    # After a 429 the upstream is left alone for some seconds.
    until("the upstream is asked again",
          lambda: all(daemon.head(path).status == 200 for path in paths), 30)
    for path, content in zip(paths, contents):
        got = daemon.get(path)
        assert got.status == 200 and got.complete and got.body == content
    # Each worker keeps the files that it serves open.
    kept = WORKERS * (len(paths) + 1)
    until("its descriptors are given back", lambda: descriptors(daemon) <= before + kept + 8)
    assert daemon.metric("readers") == 0

    def connections():
        return daemon.metric("connections") <= 1

    until("connections are given back", connections)
    assert rawhttp.get(daemon.address, "/v2/").status == 200
