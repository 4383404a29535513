# SPDX-License-Identifier: ISC
"""What the daemon says of itself, and to whom: readiness, metrics, the JSON of the page."""

import json
import re
import signal
import subprocess

import pytest

from lib import image, rawhttp
from lib.access import ALICE, Client, PasswordFile, rule
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.private import PrivateHub
from lib.process import free_port
from lib.tokens import TokenServer, basic
from lib.wait import until

SECRET = "acme/secret"
OWN = [("Authorization", "Bearer alice-0123456789")]


def api(address, path, fields=()):
    got = rawhttp.get(address, f"/-/api/{path}", fields=fields)
    assert got.status == 200 and got["Content-Type"] == "application/json", got
    assert got["Cache-Control"] == "no-store" and got["X-Content-Type-Options"] == "nosniff"
    return json.loads(got.body)


def references(address, query="", fields=()):
    return [x["reference"] for x in api(address, f"images{query}", fields)["images"]]


def pull(daemon, item, repository="library/app", tag="1", registry=HUB, fields=()):
    got = daemon.get(manifest(repository, tag, registry), fields=[*ACCEPT, *fields])
    assert got.status == 200, got
    for b in item.all_blobs():
        assert daemon.get(blob(repository, b.digest, registry), fields=fields).status == 200
    daemon.wait_idle()


@pytest.fixture
def item(hub):
    return hub.hold(image.image("seen", (300_000, 90_000)), "library/app", "1")


@pytest.fixture
def daemon(hub, item, cachalot):
    return cachalot({HUB: {"url": hub.url, "retries": 0}})


# --- alive, ready ---

def test_ready(daemon):
    for path in ("/-/healthz", "/-/readyz"):
        for mirror in (False, True):
            assert daemon.get(path, mirror=mirror).status == 200
    assert daemon.head("/-/readyz").length == len(b"ready\n")
    assert daemon.get("/-/readyz", "POST").status == 405


@pytest.mark.threads
def test_draining(hub, item, daemon):
    """While it shuts down it is alive and not ready: on a connection that is still open it says
    so, and no new ones are taken."""
    gate = hub.gate("/blobs/", after=100_000)
    with daemon.connect() as slow, daemon.connect() as asks:
        slow.request(blob("library/app", item.layers[0].digest))
        gate.wait_reached()
        asks.send(b"GET /-/readyz HTTP/1.1\r\nHost: x\r\n")
        until("the head has begun", lambda: daemon.metric("connections") >= 3)
        daemon.send_signal(signal.SIGTERM)

        def refused():
            try:
                rawhttp.get(daemon.address, "/-/healthz", timeout=2)
            except ConnectionRefusedError:
                return True
            except (OSError, rawhttp.Closed):
                pass
            return False
        until("no more connections are taken", refused)
        asks.send(b"\r\n")
        got = asks.read_response()
        assert got.status == 503 and b"shutting down" in got.body
        gate.open()
        assert slow.read_response().complete
    assert daemon.join() == 0


# --- metrics ---

LABELS = {"version", "result", "registry", "text"}


def test_metrics(hub, item, daemon):
    """What promtool says of them: nothing. Every series is there before the first request, has
    its unit, and no label names an image or a client."""
    before = daemon.get("/-/metrics").body
    pull(daemon, item)
    daemon.get(manifest("library/none", "1"), fields=ACCEPT)
    hub.down()
    daemon.get(manifest("library/later", "1"), fields=ACCEPT)
    after = daemon.get("/-/metrics")
    assert after["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    for text in (before, after.body):
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True,
                              timeout=60, check=False)
        assert done.returncode == 0 and not done.stdout and not done.stderr, done
    names = [set(re.findall(r"^(\w+)[ {]", x.decode(), re.M)) for x in (before, after.body)]
    # Only what a registry alone can say comes later.
    assert all(x.startswith("cachalot_upstream_") for x in names[1] - names[0])
    found = set(re.findall(r'[{,](\w+)="', after.body.decode()))
    assert found <= LABELS, found
    assert b"library/app" not in after.body and b"127.0.0.1" not in after.body
    start, = re.findall(rb"^process_start_time_seconds (\d+)$", after.body, re.M)
    assert int(start) > 1_700_000_000


# --- who sees what ---

def test_only_where_it_belongs(hub, cachalot):
    """Proxies have no page; elsewhere nothing is at the paths beside it."""
    port = free_port()
    daemon = cachalot({HUB: hub.url}, {"listener way": {"role": "intercept",
                                                        "address": "127.0.0.1:%d" % port}})
    for path in ("/", "/-/page/page.css", "/-/api/status"):
        assert daemon.get(path).status == daemon.get(path, mirror=True).status == 200
        assert rawhttp.get(("127.0.0.1", port), path).status == 404
        assert daemon.get(path, "POST").status == 405
    assert rawhttp.get(("127.0.0.1", port), "/-/readyz").status == 200
    for path in ("/index.html", "/-/page/", "/-/page/index.html", "/-/page/../page.css", "/-/",
                 "/-/api/", "/-/api/nothing", "/favicon.ico", "/-/page/page%2ecss/"):
        assert daemon.get(path).status == 404, path
    for query in ("?count=201", "?offset=10001", "?order=size", "?search=%zz", "?count=",
                  "?search=" + "a" * 128, "?search=%00", "?count=99999999999"):
        assert daemon.get("/-/api/images" + query).status == 400, query


def test_addresses(hub, item, cachalot):
    """[admin] page says whose addresses get the page; the rest of the daemon is as before, and
    the socket of the command has all of it."""
    daemon = cachalot({HUB: hub.url}, {"admin": {"page": "127.0.0.2"}})
    for path in ("/", "/-/page/page.js", "/-/api/status", "/-/api/images", "/-/api/login"):
        assert daemon.get(path).status == 403, path
    for path in ("/-/metrics", "/-/readyz", "/-/setup/doctor"):
        assert daemon.get(path).status == 200, path
    assert Client(daemon.address, source="127.0.0.2").get("/-/api/status").status == 200
    assert api(daemon.admin_socket, "status")["viewer"]["operator"]
    daemon.sections["admin"]["page"] = ""
    daemon.write_config()
    daemon.hup()
    assert Client(daemon.address, source="127.0.0.2").get("/").status == 403
    assert rawhttp.get(daemon.admin_socket, "/").status == 200


def test_private_repositories(closing, cachalot):
    """A repository that only its owner's credentials opened is listed to nobody, not even to
    the owner; its fetch and what went wrong with it name it to nobody. The socket names it."""
    hub = closing(PrivateHub(closing(TokenServer(anonymous=False))))
    hub.accepted[SECRET] = {OWN[0][1]}
    secret = hub.hold(image.image("secret", (300_000,)), SECRET, "1")
    open_one = hub.hold(image.image("open", (1000,)), "library/app", "1")
    daemon = cachalot({HUB: {"url": hub.url, "realm-hosts": "%s:%d" % hub.tokens.address,
                             "retries": 0}})
    pull(daemon, open_one)
    got = daemon.get(manifest(SECRET, "1"), fields=[*ACCEPT, *OWN])
    assert got.status == 200
    gate = hub.gate(secret.layers[0].digest, after=100_000)
    with daemon.connect() as c:
        c.request(blob(SECRET, secret.layers[0].digest), fields=OWN)
        gate.wait_reached()
        # The owner's token is the registry's: here it says nothing.
        for fields in ((), OWN):
            assert references(daemon.address, fields=fields) == [f"{HUB}/library/app:1"]
            assert api(daemon.address, "fetches", fields) == {"fetches": [], "hidden": 1}
        said = api(daemon.admin_socket, "fetches")["fetches"]
        assert [x["name"] for x in said] == [f"{HUB}/{SECRET}"] and said[0]["readers"] == 1
        hub.down()
        gate.open()
        c.read_response()
    daemon.wait_idle()
    event = api(daemon.address, "events")["events"][0]
    assert event["text"] is None and event["level"] == "warn"
    assert SECRET in api(daemon.admin_socket, "events")["events"][0]["text"]
    assert f"{HUB}/{SECRET}:1" in references(daemon.admin_socket)
    assert references(daemon.address, "?search=secret") == []
    for path in ("/-/api/images", "/-/api/fetches", "/-/api/events", "/-/api/status",
                 "/-/api/upstreams", "/-/metrics"):
        assert b"secret" not in daemon.get(path).body, path


def test_local_repositories(hub, cachalot, tmp_path):
    """Local repositories are listed to whom the rules let pull: alice sees the team's with her
    password, others only what is for everybody; a wrong password is refused."""
    users = PasswordFile(tmp_path / "htpasswd", alice=ALICE)
    daemon = cachalot({HUB: hub.url}, {**users.options,
                                       **rule("in", allow="push", addresses="127.0.0.9"),
                                       **rule("open", repositories="open/**"),
                                       **rule("team", users="alice")})
    for repository in ("open/app", "team/app"):
        done = image.image(repository, (1000,))
        seed = Client(daemon.address, source="127.0.0.9")
        for b in done.all_blobs():
            assert seed.call("POST", f"/v2/{repository}/blobs/uploads/?digest={b.digest}",
                             b.data).status == 201
        assert seed.call("PUT", f"/v2/{repository}/manifests/1", done.data,
                         [("Content-Type", done.media_type)]).status == 201
    me = [("Authorization", basic("alice", ALICE))]
    assert references(daemon.address) == ["open/app:1"]
    assert references(daemon.address, fields=me) == ["open/app:1", "team/app:1"]
    assert references(daemon.admin_socket) == ["open/app:1", "team/app:1"]
    assert references(daemon.mirror) == []
    assert api(daemon.address, "status", me)["viewer"] == {
        "operator": False, "user": "alice", "may_login": True}
    wrong = rawhttp.get(daemon.address, "/-/api/images",
                        fields=[("Authorization", basic("alice", "no"))])
    assert wrong.status == 401 and wrong["WWW-Authenticate"].startswith("Basic ")


def test_polls_are_not_logged(hub, item, cachalot):
    """A page that is left open does not fill the log; who is refused is in it, and everybody is
    at level debug."""
    daemon = cachalot({HUB: hub.url}, {"log": {"level": "info"}, "admin": {"page": "127.0.0.2"}})
    for _ in range(3):
        assert Client(daemon.address, source="127.0.0.2").get("/-/api/status").status == 200
    assert daemon.get("/-/api/status").status == 403
    daemon.sections["log"]["level"] = "debug"
    daemon.write_config()
    daemon.hup()
    assert Client(daemon.address, source="127.0.0.2").get("/-/api/events").status == 200

    def logged():
        return [(x["reference"], x["status"]) for x in daemon.log_lines()
                if x.get("reference", "").startswith("/-/api/")]
    until("two lines are there", lambda: len(logged()) >= 2)
    assert sorted(logged()) == [("/-/api/events", 200), ("/-/api/status", 403)]


# --- what it says ---

@pytest.mark.threads
def test_fetch_under_way(hub, item, daemon):
    """Of a fetch: how much is here, for how many; it leads to one request of the line."""
    layer = item.layers[0]
    daemon.get(manifest("library/app", "1"), fields=ACCEPT)
    gate = hub.gate(layer.digest, after=150_000)
    with daemon.connect() as a, daemon.connect() as b:
        for c in (a, b):
            c.request(blob("library/app", layer.digest))
        gate.wait_reached()

        def two():
            found = api(daemon.address, "fetches")["fetches"]
            return (found and found[0]["readers"] == 2 and found[0]["done_bytes"] > 0
                    and found[0])
        said = until("both are counted", two)
        assert said["name"] == f"{HUB}/library/app" and said["digest"] == layer.digest
        assert said["size_bytes"] == len(layer.data) and said["state"] == "streaming"
        assert 0 < said["done_bytes"] < said["size_bytes"]
        gate.open()
        assert a.read_response().body == b.read_response().body == layer.data
    daemon.wait_idle()
    assert hub.count("GET", layer.digest) == 1
    assert api(daemon.address, "fetches") == {"fetches": [], "hidden": 0}


@pytest.mark.threads
def test_pages_of_images(hub, daemon):
    """Many tags come in pages, by name or by use, and a search finds its own."""
    items = [hub.hold(image.image(f"many-{i}", (100,)), "library/many", f"t{i:02}")
             for i in range(12)]
    for i, item in enumerate(items):
        pull(daemon, item, "library/many", f"t{i:02}")
    names = [f"{HUB}/library/many:t{i:02}" for i in range(12)]
    assert references(daemon.address, "?order=name&count=5") == names[:5]
    assert references(daemon.address, "?order=name&count=5&offset=10") == names[10:]
    assert references(daemon.address, "?search=MANY:t1") == names[10:]
    assert api(daemon.address, "images?count=1&order=use")["total"] == 12
    assert api(daemon.address, "images?count=0")["images"] == []


def test_ratelimit(hub, item, daemon):
    """Pulls left, as the registry says."""
    hub.fault("/manifests/", fields=(("RateLimit-Limit", "100;w=21600"),
                                     ("RateLimit-Remaining", "7;w=21600")))
    pull(daemon, item)
    said = next(x for x in api(daemon.address, "upstreams")["upstreams"] if x["registry"] == HUB)
    assert (said["ratelimit_remaining"], said["ratelimit_limit"]) == (7, 100)
    assert said["ratelimit_window_s"] == 21600 and said["up"] == 1 and said["failure"] is None


# --- the ledger ---

def sums(daemon, what="all"):
    said = api(daemon.address, "status")[what]
    return said["lan_bytes"], said["line_bytes"], said["hits"]


def test_ledger_outlives_restarts_and_evictions(hub, item, daemon):
    """The sums go on after a restart, and after all that they tell of is gone."""
    pull(daemon, item)
    pull(daemon, item)
    before = until("two pulls are counted", lambda: sums(daemon) if sums(daemon)[2] >= 4 else None)
    assert sums(daemon, "run") == before
    assert daemon.stop() == 0
    daemon.start()
    assert sums(daemon) == before and sums(daemon, "run") == (0, 0, 0)
    done = daemon.command("rm", f"{HUB}/library/app:1")
    assert done.returncode == 0 and references(daemon.address) == [], done
    assert sums(daemon) == before and sums(daemon, "month") == before


@pytest.mark.slow
def test_ledger_after_a_kill(hub, item, daemon):
    """A daemon that is killed loses what was counted since the last minute's flush, and no
    more; what it had flushed is there, once."""
    pull(daemon, item)
    flushed = until("the pull is counted", lambda: sums(daemon) if sums(daemon)[0] else None)
    until("the minute is over", lambda: daemon.status()["ledger"]["all"]["lan_bytes"] ==
          flushed[0], 90)
    pull(daemon, item)
    until("the second is counted", lambda: sums(daemon)[0] > flushed[0])
    daemon.kill()
    daemon.start()
    assert sums(daemon) == flushed
    pull(daemon, item)
    until("it goes on from there", lambda: sums(daemon)[0] > flushed[0])
