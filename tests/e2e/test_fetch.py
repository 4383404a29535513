# SPDX-License-Identifier: ISC
"""`cachalot fetch`: whole images before anybody asks for them."""

import json
import signal
import subprocess

import pytest

from lib import image, rawhttp
from lib.crowd import Crowd
from lib.hub import Hub
from lib.image import ACCEPT, DOCKER, noise
from lib.paths import HUB, MCR, blob, manifest
from lib.wait import until
from lib.windows import foreign_layer, layer, servercore, windows_image

REPOSITORY = "dotnet"


@pytest.fixture
def images(hub):
    """An index of four, as MCR has it for its SDKs."""
    made = {
        "amd64": image.image("f-amd64", types=DOCKER),
        "arm64": image.image("f-arm64", types=DOCKER, architecture="arm64"),
        "1809": windows_image([layer(300_000, "1809")], "10.0.17763.6293"),
        "2022": windows_image([layer(400_000, "2022")], "10.0.20348.2700"),
    }
    made["index"] = hub.hold(image.index(list(made.values()), DOCKER), REPOSITORY, "2.2")
    return made


@pytest.fixture
def daemon(hub, cachalot):
    return cachalot({MCR: {"url": hub.url, "tag-ttl": "1h", "retries": 0}})


def size(*items):
    return sum(len(b.data) for i in items for b in i.all_blobs())


def fetch(daemon, *arguments):
    """Of one image: the answer for programs, and the exit code."""
    done = daemon.command("fetch", "--format", "json", *arguments)
    return json.loads(done.stdout)[0] if done.stdout else None, done


def check_served_from_store(daemon, hub, item):
    """A client pulls all of it, and the upstream is not asked."""
    hub.forget()
    got = daemon.get(manifest(REPOSITORY, item.digest, MCR), fields=ACCEPT)
    assert got.status == 200 and got.body == item.data
    for each in item.all_blobs():
        assert daemon.get(blob(REPOSITORY, each.digest, MCR)).body == each.data
    assert hub.count() == 0


def test_one_platform(hub, images, daemon):
    """A Windows build by its number: the index, that manifest, and its blobs cross, each
    once, and nothing of the other platforms. Clients are served from the store."""
    said, done = fetch(daemon, f"{MCR}/{REPOSITORY}:2.2", "--platform", "windows/amd64:10.0.20348")
    new = images["2022"]
    assert done.returncode == 0, done
    assert said["reference"] == f"{MCR}/{REPOSITORY}:2.2" and said["result"] == "fetched"
    assert said["digest"] == images["index"].digest
    assert said["blobs"] == len(new.all_blobs()) and said["bytes"] == size(new)
    assert hub.count("HEAD", "/manifests/") == 1
    assert hub.count("GET", "/manifests/") == 2
    assert hub.count("GET", "/blobs/") == len(new.all_blobs())
    for each in new.all_blobs():
        assert hub.count("GET", each.digest) == 1
    assert daemon.stored() == {images["index"].digest, new.digest,
                               *(b.digest for b in new.all_blobs())}
    check_served_from_store(daemon, hub, new)
    assert daemon.get(manifest(REPOSITORY, "2.2", MCR), fields=ACCEPT).body == images["index"].data
    assert hub.count() == 0


def test_again(hub, images, daemon):
    """What is held is not fetched again: one HEAD, and that is all."""
    for expected in ("fetched", "held already"):
        hub.forget()
        said, done = fetch(daemon, f"{MCR}/{REPOSITORY}:2.2")
        assert done.returncode == 0 and said["result"] == expected
    assert [(r.method, r.path) for r in hub.asked()] == [("HEAD", f"/v2/{REPOSITORY}/manifests/2.2")]
    assert said["fetched_bytes"] == 0 and said["bytes"] == size(images["index"])


def test_all_platforms(hub, images, daemon):
    """Without a platform all are fetched; two platforms are two."""
    _, done = fetch(daemon, f"{MCR}/{REPOSITORY}:2.2", "--platform", "linux/x86_64",
                    "--platform", "linux/arm64/v8")
    assert done.returncode == 0 and hub.count("GET", "/manifests/") == 3
    _, done = fetch(daemon, f"{MCR}/{REPOSITORY}:2.2")
    assert done.returncode == 0 and hub.count("GET", "/manifests/") == 5
    for each in images["index"].all_manifests():
        check_served_from_store(daemon, hub, each)


def test_for_people(hub, images, daemon):
    """People get a line for each image, and for each that failed why."""
    done = daemon.command("fetch", f"{MCR}/{REPOSITORY}:2.2", "nowhere.test/app")
    assert done.returncode == 3
    head, first, second = done.stdout.splitlines()
    assert head.split() == ["REFERENCE", "RESULT", "SIZE", "FETCHED"]
    assert first.startswith(f"{MCR}/{REPOSITORY}:2.2 ") and " fetched " in first
    assert second.startswith("nowhere.test/app:latest ") and " not found " in second
    assert "add a section [upstream nowhere.test]" in done.stderr
    assert daemon.command("fetch", "-q", f"{MCR}/{REPOSITORY}:2.2").stdout == ""


def test_short_names(hub, cachalot):
    """A name without a registry is Docker Hub's, as everywhere."""
    item = hub.hold(image.image("short"), "library/alpine", "latest")
    daemon = cachalot({HUB: hub.url})
    said, done = fetch(daemon, "alpine")
    assert done.returncode == 0 and said["reference"] == "docker.io/library/alpine:latest"
    assert said["digest"] == item.digest


def test_single_image(hub, daemon):
    """A tag that is an image rather than an index is fetched whatever the platform; by
    digest the tag is not asked for."""
    item = hub.hold(image.image("single"), REPOSITORY, "1")
    _, done = fetch(daemon, f"{MCR}/{REPOSITORY}@{item.digest}", "--platform", "linux/arm64")
    assert done.returncode == 0 and hub.count("HEAD", "/manifests/") == 0
    check_served_from_store(daemon, hub, item)


def test_not_there(hub, images, daemon):
    """What is not there is 5, a part of several that is not 3; a platform that the index
    does not have is told with those that it has."""
    said, done = fetch(daemon, f"{MCR}/{REPOSITORY}:9")
    assert done.returncode == 5 and said["result"] == "not found" and "tag 9" in said["why"]
    assert fetch(daemon, f"{MCR}/{REPOSITORY}:9", f"{MCR}/{REPOSITORY}:2.2")[1].returncode == 3
    _, done = fetch(daemon, f"{MCR}/{REPOSITORY}:2.2", "--platform", "windows/arm64")
    assert done.returncode == 5
    assert "linux/amd64, linux/arm64, windows/amd64:10.0.17763.6293" in done.stderr
    assert fetch(daemon, "nowhere.test/app:1")[1].returncode == 5


@pytest.mark.parametrize("arguments", [
    [], ["UPPER/case"], ["app:1:2"], ["app@sha256:short"], ["app", "--platform", "windows"],
    ["app", "--platform", "linux/amd64,linux/arm64"], ["app", "--platform"],
])
def test_usage(daemon, arguments):
    """What cannot be meant is 2, and nothing is asked."""
    done = daemon.command("fetch", *arguments)
    assert done.returncode == 2 and done.stderr and not done.stdout


def test_one_layer_is_missing(hub, images, daemon):
    """One platform's layer is gone upstream: the others are fetched whole, and what is
    missing is named."""
    gone = images["1809"].layers[0]
    del hub.blobs[REPOSITORY, gone.digest]
    said, done = fetch(daemon, f"{MCR}/{REPOSITORY}:2.2")
    assert done.returncode == 5 and gone.digest in said["why"]
    assert daemon.metric("order_failures_total") == 1
    check_served_from_store(daemon, hub, images["2022"])
    check_served_from_store(daemon, hub, images["amd64"])


def test_upstream_is_down(hub, images, daemon):
    """It says why, does not go on with what can only fail alike, and gets the rest when it
    is told again."""
    hub.fault(images["amd64"].layers[0].digest, close=True)
    said, done = fetch(daemon, f"{MCR}/{REPOSITORY}:2.2")
    assert done.returncode == 1 and said["result"] == "failed" and said["why"]
    hub.heal()
    hub.forget()
    said, done = fetch(daemon, f"{MCR}/{REPOSITORY}:2.2")
    assert done.returncode == 0
    assert hub.count("GET", "/manifests/") == 0
    assert hub.count("GET", images["amd64"].blobs[0].digest) == 0


def test_no_daemon(hub, daemon):
    """It is the daemon that fetches: without one the command says how to start it."""
    daemon.stop()
    done = daemon.command("fetch", f"{MCR}/{REPOSITORY}:2.2")
    assert done.returncode == 1 and "start cachalotd" in done.stderr


def test_limited(hub, images, daemon):
    """An upstream that says 429, to the tag, a manifest and a blob, is left alone for as
    long as it says, and asked again: the fetch succeeds, and nothing is fetched twice."""
    new = images["2022"]
    hub.fault("/manifests/2.2", times=1, status=429, retry_after="1")
    hub.fault(new.digest, times=1, status=429, retry_after="1")
    hub.fault(new.layers[0].digest, times=1, status=429, retry_after="1")
    said, done = fetch(daemon, f"{MCR}/{REPOSITORY}:2.2", "--platform", "windows/amd64:10.0.20348")
    assert done.returncode == 0 and said["result"] == "fetched", done
    assert sum(r.status == 429 for r in hub.asked()) == 3
    assert hub.count() == 3 + 1 + 2 + len(new.all_blobs())


def test_foreign_layer(hub, closing, cachalot):
    """A layer that only its url has is fetched from there."""
    store = closing(Hub("127.0.0.2"))
    data = noise(200_000, "foreign")
    digest = image.digest_of(data)
    store.blobs["store", digest] = data
    item = windows_image([foreign_layer(data, [f"{store.url}/v2/store/blobs/{digest}"])],
                         "10.0.16299.15")
    hub.hold(servercore(item), REPOSITORY, "1709")
    del hub.blobs[REPOSITORY, digest]
    daemon = cachalot({MCR: {"url": hub.url, "foreign-hosts": "%s:%d" % store.address}})
    _, done = fetch(daemon, f"{MCR}/{REPOSITORY}:1709")
    assert done.returncode == 0, done
    assert store.count("GET", digest) == 1
    check_served_from_store(daemon, hub, item)


def test_clients_meanwhile(hub, images, daemon):
    """Clients who pull what is being fetched join it: one copy crosses, and they need not
    wait for its end."""
    new = images["2022"]
    big = new.layers[0]
    gate = hub.gate(big.digest, after=100_000)
    crowd = Crowd().add(fetch, daemon, f"{MCR}/{REPOSITORY}:2.2", "--platform", "windows/amd64")
    gate.wait_reached()
    for _ in range(3):
        crowd.add(daemon.get, blob(REPOSITORY, big.digest, MCR))
    until("three clients read along", lambda: daemon.metric("readers") == 3)
    gate.open()
    (said, done), *got = crowd.join()
    assert done.returncode == 0 and said["result"] == "fetched"
    assert all(g.body == big.data for g in got)
    assert hub.count("GET", big.digest) == 1


def test_the_command_may_leave(hub, images, daemon):
    """The daemon goes on with what it was told when the command has ended; a daemon that
    ends gives it up, and who waits is told; the next one goes on where it was."""
    new = images["2022"]
    big = new.layers[0]
    gate = hub.gate(big.digest, after=200_000)
    crowd = Crowd().add(fetch, daemon, f"{MCR}/{REPOSITORY}:2.2", "--platform",
                        "windows/amd64:10.0.20348")
    gate.wait_reached()
    until("what came is on the disk", lambda: any(p.stat().st_size for p in daemon.partials()))
    daemon.stop()
    (said, done), = crowd.join()
    assert done.returncode == 1 and "run this again" in said["why"] or "shutting down" in said["why"]
    hub.heal()
    daemon.start()
    said, done = fetch(daemon, f"{MCR}/{REPOSITORY}:2.2", "--platform", "windows/amd64:10.0.20348")
    assert done.returncode == 0 and said["result"] == "fetched"
    check_served_from_store(daemon, hub, new)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancel(hub, images, daemon, number):
    """Ctrl-C cancels all that was ordered: the blob that is under way comes to its end, and
    nothing is asked for after it. Then the daemon takes orders as before."""
    new, other = images["2022"], hub.hold(image.image("other", types=DOCKER), "other", "1")
    gate = hub.gate(new.blobs[0].digest, after=10)
    names = [f"{MCR}/{REPOSITORY}:2.2", f"{MCR}/other:1"]
    with subprocess.Popen(daemon.command_line("fetch", "--platform", "windows/amd64:10.0.20348",
                                              *names), text=True, stderr=subprocess.PIPE) as run:
        gate.wait_reached()
        run.send_signal(number)
        assert run.wait(20) == 1
        assert "cancelled with 2 of 2 images to go" in run.stderr.read()
    until("it was cancelled", lambda: any("it was cancelled" in x.get("message", "")
                                          for x in daemon.log_lines()))
    gate.open()
    daemon.wait_idle()
    assert daemon.holds(new.blobs[0].digest)
    assert hub.count("GET", new.layers[0].digest) == hub.count("GET", "other") == 0
    said, done = fetch(daemon, names[1])
    assert done.returncode == 0 and said["result"] == "fetched"
    assert daemon.stored() >= {b.digest for b in other.all_blobs()}


def test_detached(hub, images, daemon):
    """With --detach the command leaves at once, and the daemon goes on."""
    new = images["2022"]
    gate = hub.gate(new.blobs[0].digest, after=10)
    done = daemon.command("fetch", "-d", "--platform", "windows/amd64:10.0.20348",
                          f"{MCR}/{REPOSITORY}:2.2")
    assert done.returncode == 0 and "1 image is ordered" in done.stdout
    gate.wait_reached()
    gate.open()
    until("all came", lambda: daemon.stored() >= {b.digest for b in new.all_blobs()})


def test_bad_upstream(hub, daemon):
    """Manifests that are none, indexes that name themselves or what is not there, wrong
    bytes: told, and nothing wrong is stored."""
    item = image.image("bad", types=DOCKER)
    hub.hold(item, REPOSITORY, "wrong")
    hub.fault(item.layers[0].digest, body=noise(len(item.layers[0].data), "other"))
    _, done = fetch(daemon, f"{MCR}/{REPOSITORY}:wrong")
    assert done.returncode == 1 and item.layers[0].digest in done.stderr
    hub.heal()
    hub.manifests[REPOSITORY, "none"] = (DOCKER["manifest"], b"[]")
    hub.manifests[REPOSITORY, image.digest_of(b"[]")] = (DOCKER["manifest"], b"[]")
    assert fetch(daemon, f"{MCR}/{REPOSITORY}:none")[1].returncode == 1
    hub.hold(image.index([item, image.image("absent", types=DOCKER)], DOCKER), REPOSITORY, "half")
    for key in [k for k, (kind, data) in hub.manifests.items()
                if data == image.image("absent", types=DOCKER).data]:
        del hub.manifests[key]
    _, done = fetch(daemon, f"{MCR}/{REPOSITORY}:half")
    assert done.returncode == 5
    check_served_from_store(daemon, hub, item)


def test_only_by_its_socket(hub, images, daemon):
    """Clients cannot have anything fetched, nor see what is: that is for the Unix socket."""
    path = f"/-/api/fetch?reference={MCR}/{REPOSITORY}:2.2"
    assert daemon.get(path, "POST", [("Content-Length", "0")]).status == 404
    assert daemon.get("/-/api/fetch?id=1").status == 404
    assert daemon.get("/-/api/prefetch").status == 404
    assert hub.count() == 0


@pytest.mark.parametrize("method, target, status", [
    ("POST", "/-/api/fetch", 400),
    ("POST", "/-/api/fetch?reference=", 400),
    ("POST", "/-/api/fetch?reference=a%00b", 400),
    ("POST", "/-/api/fetch?reference=%zz", 400),
    ("POST", "/-/api/fetch?reference=app&reference=app", 400),
    ("POST", "/-/api/fetch?reference=app&platform=x", 400),
    ("POST", "/-/api/fetch?reference=app" + "&platform=linux/amd64" * 17, 400),
    ("POST", "/-/api/fetch?reference=" + "a" * 2000, 400),
    ("POST", "/-/api/fetch?reference=nowhere.test/app", 404),
    ("POST", "/-/api/fetch?cancel", 404),
    ("POST", "/-/api/fetch?cancel&id=7", 404),
    ("POST", "/-/api/fetch?cancel&id=x", 400),
    ("PUT", "/-/api/fetch?reference=app", 405),
    ("DELETE", "/-/api/prefetch", 405),
    ("GET", "/-/api/fetch?id=7", 404),
    ("GET", "/-/api/fetch", 404),
    ("GET", "/-/api/fetch?id=x", 400),
    ("GET", "/-/api/prefetch", 200),
])
def test_interface(daemon, method, target, status):
    """What the socket answers to what the command never sends."""
    got = rawhttp.get(daemon.admin_socket, target, method, [("Content-Length", "0")])
    assert got.status == status, got
