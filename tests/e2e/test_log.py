# SPDX-License-Identifier: ISC
"""One access line a request, with the word of how it ended; the same in the metrics."""

import json
import re

from lib import image, rawhttp
from lib.image import ACCEPT, noise
from lib.paths import HUB, blob, manifest, tags
from lib.pusher import EVERYBODY, Pusher

DATA = noise(200_000, "log")


def test_outcomes(hub, cachalot):
    """A line a request, in order, with the words of what happened; and each counted."""
    item = hub.hold(image.image("log", (1000,)), "library/app", "1")
    path = blob("library/app", hub.hold_blob("library/app", DATA))
    # One worker: each has lines of its own.
    daemon = cachalot({HUB: {"url": hub.url, "tag-ttl": "0s", "retries": 0}},
                      {"cache": {"workers": 1}})
    tag = manifest("library/app", "1")
    asked = [
        (path, "miss"), (path, "hit"), (tag, "miss"), (tag, "revalidated"),
        (manifest("library/app", item.digest), "hit"), ("/v2/", "local"),
        (blob("library/app", "sha256:" + "0" * 64), "blob-unknown"),
        (manifest("library/app", "nope"), "manifest-unknown"),
        ("/v2/evil.example/a/manifests/1", "name-unknown"),
        (manifest("library/app", ".."), "no-route tag-invalid"), ("/nothing", "no-route"),
        (blob("library/app", "sha256:1"), "digest-invalid"), (tags("library/app"), "miss"),
    ]
    for where, word in asked:
        daemon.get(where, fields=ACCEPT)
        if word == "miss":
            daemon.wait_idle()
    hub.down()
    daemon.get(tag, fields=ACCEPT)
    daemon.get(manifest("library/app", "2"))
    daemon.get(path, fields=[("Range", "bytes=300000-")])
    words = [word for _, word in asked] + ["stale", "upstream-refused", "range"]
    lines = daemon.wait_access(len(words))
    for line, word in zip(lines, words):
        assert line["outcome"] in word.split(), line
    metrics = daemon.metrics()
    for word in ("stale", "upstream-refused", "name-unknown", "digest-invalid"):
        assert any(word in name and value == 1 for name, value in metrics.items()), word


def test_fields(hub, cachalot):
    """What an access line says."""
    hub.hold(image.image("log", (1000,)), "library/app", "1")
    digest = hub.hold_blob("library/app", DATA)
    daemon = cachalot({HUB: hub.url}, {"cache": {"workers": 1}})
    daemon.get(f"/v2/app/blobs/{digest}?ns=docker.io",
               fields=[("User-Agent", 'docker/20 "quoted"\t\\x')])
    daemon.get(blob("app", digest), fields=[("Range", "bytes=5-14")])
    daemon.head("/v2/app/manifests/1", ACCEPT, mirror=True)
    first, second, third = daemon.wait_access(3)
    assert first["client"].startswith("127.0.0.1")
    assert first["registry"] == "docker.io" and first["repository"] == "library/app"
    assert first["reference"] == digest
    assert (first["method"], first["door"], first["status"], first["bytes"]) \
        == ("GET", "ns", 200, len(DATA))
    assert first["user_agent"] == 'docker/20 "quoted"\t\\x'
    assert first["ms"] >= 0 and re.match(r"\d{4}-\d\d-\d\dT", first["time"])
    assert (second["door"], second["status"], second["bytes"]) == ("prefix", 206, 10)
    assert (third["method"], third["door"], third["bytes"]) == ("HEAD", "mirror", 0)
    assert third["reference"] == "1"


def test_one_line_whatever_is_sent(hub, cachalot):
    """Bytes of a peer never make a second line, and a JSON line is JSON."""
    daemon = cachalot({HUB: hub.url})
    daemon.get("/v2/%0a%7b%22method%22%7d/x", fields=[("User-Agent", "a\x80\xffb\x1b[31m")])
    daemon.get("/" + "y" * 3000)
    rawhttp.exchange(daemon.address, b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n")
    daemon.wait_access(3)
    for line in daemon.stderr_path.read_text().splitlines():
        json.loads(line)


def test_upload_ids(cachalot):
    """Who has the id of an upload session has the session: however a request with it ends, the
    log has the beginning alone."""
    daemon = cachalot({}, EVERYBODY)
    p = Pusher(daemon.address, "team/app")
    s = p.begin()
    s.patch(b"abc")
    s.status()
    asked = [s.location, s.location + "?digest=nonsense", "/v2/UPPER/x/blobs/uploads/" + s.id,
             s.location + "/more", s.location.replace("/v2/", "/v2/docker.io/")]
    for path in asked:
        for method in ("GET", "PUT", "HEAD", "POST"):
            p.call(method, path)
    daemon.wait_access(3 + 4 * len(asked))
    said = daemon.stderr_path.read_text()
    assert s.id[:9] not in said and s.id[:8] in said


def test_client_left(hub, cachalot):
    """A client that leaves in the middle is told from one that was cut."""
    digest = hub.hold_blob("library/app", DATA)
    daemon = cachalot({HUB: {"url": hub.url, "retries": 0}})
    gate = hub.gate("/blobs/", after=100_000, times=1)
    with daemon.connect() as c:
        c.request(blob("library/app", digest))
        c.read_head()
        c.read_some(50_000)
    line, = daemon.wait_access(1)
    assert line["outcome"] == "client-left" and line["status"] == 200
    gate.open()
    daemon.wait_metric("blobs_stored_total", 1)

    other = noise(200_000, "cut")
    digest = hub.hold_blob("library/app", other)
    hub.fault("/blobs/", body=DATA)
    got = daemon.get(blob("library/app", digest))
    assert got.status == 502 or not got.complete
    assert daemon.wait_access(2)[1]["outcome"] in ("cut", "bad-content")


def test_client_stalled(hub, cachalot):
    """A client that takes no bytes for stall-timeout is let go, and said so."""
    digest = hub.hold_blob("library/app", noise(20_000_000, "stalled"))
    daemon = cachalot({HUB: hub.url}, {"listener main": {"stall-timeout": "300ms"}})
    with daemon.connect(receive_buffer=4096) as c:
        c.request(blob("library/app", digest))
        assert c.read_head().status == 200
        line, = daemon.wait_access(1)
        assert line["outcome"] == "client-stalled"


def test_text_format(hub, cachalot):
    """The text form: a line a request, with the same words."""
    daemon = cachalot({HUB: hub.url}, {"log": {"format": "text"}})
    digest = hub.hold_blob("library/app", DATA)
    daemon.get(blob("library/app", digest), fields=[("User-Agent", "a b")])
    assert daemon.stop() == 0
    line, = [x for x in daemon.stderr_path.read_text().splitlines() if digest in x
             and " access " in x]
    assert " GET prefix docker.io library/app " in line
    assert f" 200 {len(DATA)} miss " in line and line.endswith('"a b"')


def test_no_access_log(hub, cachalot):
    """access = no: no access lines, the counters still count."""
    daemon = cachalot({HUB: hub.url}, {"log": {"access": "no"}})
    daemon.get("/nothing")
    assert daemon.stop() == 0
    assert not [x for x in daemon.log_lines() if x.get("type") == "access"]


def test_metrics(hub, cachalot):
    """Prometheus text: each series has help and type, none is by image or client, and the
    bytes add up."""
    digest = hub.hold_blob("library/app", DATA)
    daemon = cachalot({HUB: hub.url})
    for _ in range(3):
        daemon.get(blob("library/app", digest))
    got = daemon.get("/-/metrics")
    assert got["Content-Type"].startswith("text/plain; version=0.0.4")
    text = got.body.decode()
    for name in {re.match(r"[a-z0-9_]+", x)[0] for x in text.splitlines() if x[:1] not in "#"}:
        assert f"# HELP {name} " in text and f"# TYPE {name} " in text
        assert name.startswith("cachalot_") or name == "process_start_time_seconds"
    daemon.wait_metric("blobs_stored_total", 1)
    assert "library/app" not in text and "127.0.0.1" not in text
    metrics = daemon.metrics()
    assert metrics["cachalot_client_bytes_total"] == 3 * len(DATA)
    assert metrics["cachalot_upstream_bytes_total"] == len(DATA)
    assert metrics["cachalot_upstream_requests_total"] == 1
    assert metrics["cachalot_blobs_stored_total"] == 1
