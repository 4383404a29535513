# SPDX-License-Identifier: ISC
"""Behind the proxy: pings, learned urls, requests that are passed on, tunnels; with an internet
of real names."""

import json
import socket
import ssl
import threading

import pytest

from lib import image, intercept, rawhttp
from lib.crowd import together
from lib.image import ACCEPT, digest_of, noise
from lib.intercept import Door
from lib.internet import (ADDRESSES, AUTH, ECHO, ELSEWHERE, HUB_CDN, HUB_HOST, LAYERS,
                          LINKS, MCR_CDN, Internet)
from lib.memory import check_forgotten
from lib.paths import HUB, MCR
from lib.tokens import basic
from lib.wait import until
from lib.windows import foreign_layer, windows_image

pytestmark = pytest.mark.clients  # needs the namespace

PASSWORD = "alice's password"
FOREIGN = noise(700_000, "foreign by url")
LINK = "/fwlink/"


@pytest.fixture
def internet(closing, tmp_path):
    return closing(Internet(tmp_path / "internet", {"alice": PASSWORD}))


@pytest.fixture
def door(internet, cachalot):
    address, options = intercept.options()
    options["intercept"] = {"tunnel": f"{ELSEWHERE} *.pattern.example"}
    return Door(cachalot(internet.upstreams, options), address)


@pytest.fixture
def item(internet):
    return internet.hub.hold(image.image("intercept"), "library/app", "1")


def idle(door):
    until("no relay is left", lambda: door.daemon.metric("relays") == 0)


def token(door, internet, repository="library/app", actions="pull", user=None):
    """From the token server, through a tunnel."""
    c, head = door.connect(f"{AUTH}:443")
    with c:
        assert head.status == 200
        c.secure(internet.client_context(), AUTH)
        fields = [("Authorization", basic(user, PASSWORD))] if user else []
        c.request(f"/token?service=registry.test&scope=repository:{repository}:{actions}",
                  fields=[("Host", AUTH), *fields])
        got = c.read_response()
        assert got.status == 200
    return [("Authorization", "Bearer " + json.loads(got.body)["token"])]


# --- the ping, tokens ---

def test_ping(internet, door):
    """GET /v2/ is answered with the registry's own challenge, asked for once; MCR's is 200.
    With the line cut the challenge is still known."""
    for _ in range(3):
        got = door.ask(HUB_HOST, "/v2/")
        assert got.status == 401 and f'realm="https://{AUTH}/token"' in got["WWW-Authenticate"]
        assert door.ask(MCR, "/v2/").status == 200
    assert internet.hub.count() == internet.mcr.count() == internet.count() / 2 == 1
    internet.cut()
    assert door.ask(HUB_HOST, "/v2/").status == 401
    assert door.ask(MCR, "/v2/").status == 200


def test_login(internet, door):
    """A ping with credentials is the registry's to judge: right ones are good, wrong are not."""
    assert door.ask(HUB_HOST, "/v2/").status == 401
    bearer = token(door, internet, user="alice")
    assert door.ask(HUB_HOST, "/v2/", fields=bearer).status == 200
    wrong = [("Authorization", "Bearer wrong-0123456789")]
    assert door.ask(HUB_HOST, "/v2/", fields=wrong).status == 401
    assert door.ask(HUB_HOST, "/v2/").status == 401


def test_ping_when_down(internet, door):
    """A registry that was never asked and cannot be: the client goes on, to what is held."""
    internet.cut()
    assert door.ask(HUB_HOST, "/v2/").status == 200


def test_as_docker_pulls(internet, door, item):
    """Ping, token through the tunnel, manifest and blobs from the CDN behind its redirect: each
    once; whoever comes next costs a token."""
    for _ in range(2):
        assert door.ask(HUB_HOST, "/v2/").status == 401
        bearer = token(door, internet)
        got = door.ask(HUB_HOST, "/v2/library/app/manifests/1", fields=[*ACCEPT, *bearer])
        assert got.body == item.data
        for each in item.all_blobs():
            got = door.ask(HUB_HOST, f"/v2/library/app/blobs/{each.digest}", fields=bearer)
            assert got.status == 200 and got.body == each.data
        door.daemon.wait_idle()
    assert internet.hub.count("GET", "/manifests/") == 1
    for each in item.all_blobs():
        assert internet.hub_cdn.count("GET", each.digest) == 1
    assert internet.tokens.count() == 3  # ours, and one of each client
    idle(door)


def test_tunnel_is_not_opened(internet, door):
    """The token server's own certificate comes through the tunnel, and what is said there is
    nowhere in our log."""
    with pytest.raises(ssl.SSLCertVerificationError):
        door.open(AUTH)
    token(door, internet, user="alice")
    idle(door)
    until("the tunnel is in the log",
          lambda: any(x["reference"] == f"{AUTH}:443" for x in door.daemon.access_log()))
    assert "/token" not in door.daemon.stderr_path.read_text()
    assert door.daemon.metric("relays_total") == 2
    assert door.daemon.metric("tls_handshakes_total") == 0


# --- what is passed on ---

def test_passed_on(internet, door, item):
    """What is no pull goes to the registry as it is and its answer comes back: method, path,
    query, fields, body; nothing is stored, each request is asked."""
    bearer = token(door, internet, "library/app", "pull,push")
    # The HEAD of a blob too: who asks that wants to push, and know what the registry has.
    held = item.layers[0]
    assert door.ask(HUB_HOST, f"/v2/library/app/blobs/{held.digest}").body == held.data
    door.daemon.wait_idle()
    stored = door.daemon.stored()
    for repository, status in (("library/app", 200), ("library/none", 401)):
        got = door.ask(HUB_HOST, f"/v2/{repository}/blobs/{held.digest}", "HEAD", bearer)
        assert got.status == status
    relayed = door.daemon.metric("relays_total")
    rows = [("GET", "/v2/_catalog?n=5", b""), ("POST", "/v2/library/app/blobs/uploads/", b""),
            ("PATCH", "/v2/library/app/blobs/uploads/x?_state=a%2Fb", noise(3_000_000, "patch")),
            ("PUT", "/v2/library/app/manifests/2", b"{}"), ("OPTIONS", "/v2/x", b""),
            ("DELETE", "/v2/library/app/manifests/1", b""), ("GET", "/v1/search?q=a", b""),
            ("HEAD", "/", b"")]
    for method, path, body in rows:
        internet.hub.forget()
        for _ in range(2):
            with door.open(HUB_HOST) as c:
                c.request(path, method, [("Host", HUB_HOST), ("X-Own", "a, b"), *bearer,
                                         ("Content-Length", str(len(body))),
                                         ("Proxy-Authorization", "Basic eHg6eXk="),
                                         ("Connection", "X-Hop"), ("X-Hop", "1")])
                c.send(body)
                got = c.read_response(method)
        seen, again = internet.hub.asked()
        assert (seen.method, seen.body) == (method, body) and seen.path == path.split("?")[0]
        assert seen.fields["x-own"] == "a, b" and seen.fields["host"] == HUB_HOST
        assert seen.fields["authorization"] == bearer[0][1] and "cdn-loop" in seen.fields
        assert not {"x-hop", "proxy-authorization"} & set(seen.fields)
        assert got.status == seen.status and (method == "HEAD" or b"hub says" in got.body or
                                              got.status == 200)
    idle(door)
    assert door.daemon.stored() == stored
    assert door.daemon.metric("relays_total") == relayed + 2 * len(rows)


def test_memory(internet, door, item):
    """Of what was passed on, to the registry and through a tunnel, no credential is left."""
    bearer = token(door, internet, "library/app", "pull,push", user="alice")
    secret = basic("alice", "a wrong one of a relay")
    for fields in (bearer, [("Authorization", secret)]):
        for body in (b"", noise(300_000, "memory")):
            with door.open(HUB_HOST) as c:
                c.request("/v2/library/app/blobs/uploads/", "POST", [
                    ("Host", HUB_HOST), *fields, ("Content-Length", str(len(body)))])
                c.send(body)
                c.read_response()
    idle(door)
    until("the connections are closed", lambda: door.daemon.metric("connections") == 1)
    door.daemon.get("/a-canary-of-26-characters")
    check_forgotten(door.daemon, "/a-canary-of-26-characters", bearer[0][1][-40:], secret[-24:-4],
                    basic("alice", PASSWORD).removeprefix("Basic ")[4:-4])


def test_pulls_in_between(internet, door, item):
    """After a request that was passed on the connection ends, and the next one is as new."""
    bearer = token(door, internet)
    for _ in range(3):
        with door.open(HUB_HOST) as c:
            c.request("/v2/library/app/manifests/1", fields=[("Host", HUB_HOST), *ACCEPT, *bearer])
            assert c.read_response().body == item.data
            c.request("/v2/_catalog", fields=[("Host", HUB_HOST), *bearer])
            assert c.read_response().status == 401
            assert c.at_end()
    idle(door)


def test_passed_on_in_vain(internet, door):
    """The registry cannot be reached, or its certificate is not good: 502 with the cause."""
    internet.mcr.down()
    got = door.ask(MCR, "/v2/_catalog")
    assert got.status == 502, got
    internet.elsewhere.down()
    assert door.error(f"{ELSEWHERE}:443")[0] == 502
    for name in ("upstream docker.io", f"upstream {MCR}"):
        door.daemon.sections[name].pop("ca-file")
    door.daemon.write_config()
    door.daemon.hup()
    got = door.ask(HUB_HOST, "/v2/_catalog")
    assert got.status == 502 and b"certificate" in got.body, got
    assert internet.hub.count() == 0
    idle(door)


def test_answer_that_breaks(internet, door):
    """The registry's answer ends before its length: so does ours, without a word added; and
    where it says nothing."""
    internet.mcr.fault("/_catalog", say=200, truncate_after=10)
    got = door.ask(MCR, "/v2/_catalog")
    assert got.status == 200 and not got.complete and len(got.body) == 10
    internet.mcr.fault("/silent", close=True)
    with pytest.raises(rawhttp.Closed):
        door.ask(MCR, "/v2/silent")
    idle(door)


# --- layers by their urls ---

@pytest.fixture
def windows(internet):
    """An image of old, whose base layer only its link has."""
    item = windows_image([foreign_layer(FOREIGN, [f"https://{LINKS}{LINK}?linkid=837858"])],
                         "10.0.14393.1")
    internet.mcr.hold(item, "windows/nanoserver", "sac2016")
    internet.mcr.blobs.pop(("windows/nanoserver", item.layers[0].digest))
    internet.hold_foreign(item.layers[0].digest, FOREIGN, LINK)
    return item


def test_learned_url(internet, door, windows):
    """A client asks for the url that a manifest names, at its host: it gets the layer by its
    digest. The link is followed once; then the line may be cut."""
    got = door.ask(MCR, "/v2/windows/nanoserver/manifests/sac2016", fields=ACCEPT)
    assert got.body == windows.data
    url = f"{LINK}?linkid=837858"
    until("the url is learned", lambda: door.ask(LINKS, url, "HEAD").status == 200)
    internet.links.forget()
    for method in ("HEAD", "GET", "GET"):
        got = door.ask(LINKS, url, method)
        assert got.status == 200 and got.length == len(FOREIGN)
        assert method == "HEAD" or got.body == FOREIGN
        door.daemon.wait_idle()
    got = door.ask(LINKS, url, fields=[("Range", "bytes=100-")])
    assert got.status == 206 and got.body == FOREIGN[100:]
    assert internet.links.count("GET") == 1 and internet.layers.count("GET") == 1
    internet.cut()
    assert door.ask(LINKS, url).body == FOREIGN
    assert rawhttp.get(door.address, f"http://{LINKS}{url}").body == FOREIGN
    assert door.ask(MCR, f"/v2/windows/nanoserver/blobs/{digest_of(FOREIGN)}").body == FOREIGN


def test_url_of_nobody(internet, door, windows):
    """Urls that no manifest names, at the same hosts, are passed on and never stored."""
    door.ask(MCR, "/v2/windows/nanoserver/manifests/sac2016", fields=ACCEPT)
    stored = door.daemon.stored()
    for path in (f"{LINK}?linkid=1", f"{LINK}?linkid=837858&x", "/fwlink?linkid=837858"):
        got = door.ask(LINKS, path)
        assert got.status in (307, 404) and got.body != FOREIGN
    got = door.ask(LAYERS, f"/v2/store/blobs/{digest_of(FOREIGN)}")
    assert got.status == 200 and got.body == FOREIGN
    idle(door)
    assert door.daemon.stored() == stored


def test_url_claimed_by_anybody(internet, door):
    """Whoever pushes an image to Docker Hub may say in it what is at a link of Microsoft's: the
    image itself is pulled, and the link leads to what it led to."""
    evil = noise(50_000, "evil")
    link = f"{LINK}?linkid=2088631"
    item = windows_image([foreign_layer(evil, [f"https://{LINKS}{link}"])], "10.0.1.1")
    internet.hub.hold(item, "evil/app", "1")
    internet.links.fault(LINK, say=404)
    bearer = token(door, internet, "evil/app")
    for path in ("manifests/1", f"blobs/{item.layers[0].digest}"):
        got = door.ask(HUB_HOST, f"/v2/evil/app/{path}", fields=[*ACCEPT, *bearer])
        assert got.status == 200
    door.daemon.wait_idle()
    assert door.ask(HUB_HOST, f"/v2/evil/app/blobs/{item.layers[0].digest}").body == evil
    got = door.ask(LINKS, link)
    assert got.status == 404 and got.body != evil


def test_credentials_for_a_url(internet, door, windows):
    """What a client says to a url's host of itself does not reach the registry, and the
    registry's refusal is not the url's: no challenge."""
    door.ask(MCR, "/v2/windows/nanoserver/manifests/sac2016", fields=ACCEPT)
    url = f"{LINK}?linkid=837858"
    until("the url is learned", lambda: door.ask(LINKS, url, "HEAD").status == 200)
    internet.mcr.forget()
    internet.mcr.fault(f"/blobs/{windows.layers[0].digest}", say=401)
    internet.layers.blobs.clear()
    secret = "Bearer for-the-link-only"
    got = door.ask(LINKS, url, fields=[("Authorization", secret)])
    assert got.status >= 400 and got["WWW-Authenticate"] is None
    assert not any(secret in r.fields.get("authorization", "") for r in internet.mcr.asked())


@pytest.mark.parametrize("path", ["/v2/library/app/../app/x", "/v2/./x", "/..", "/v2/%2e%2E/x",
                                  "/v2/.%2e/x"])
def test_dots(internet, door, path):
    """Paths that lead up and out again go nowhere."""
    assert door.ask(HUB_HOST, path).status == 400
    assert internet.hub.count() == 0


def test_docker_search(internet, door):
    """index.docker.io is the registry for images, and another server for searches: what is for
    that one does not go to the registry."""
    door.ask("index.docker.io", "/v1/search?q=a")
    assert internet.hub.count() == 0


def test_private_upstream(internet, cachalot, tmp_path):
    """What an upstream's configured credentials open is not opened by passing requests on."""
    address, options = intercept.options()
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    internet.hub.hold(image.image("private"), "library/app", "1")
    upstreams = {**internet.upstreams}
    upstreams[HUB] = {**upstreams[HUB], "username": "alice", "password-file": password,
                      "visibility": "private"}
    door = Door(cachalot(upstreams, options), address)
    for method, path in (("GET", "/v2/library/app/manifests/1"), ("GET", "/v2/_catalog"),
                         ("DELETE", "/v2/library/app/manifests/1")):
        assert door.ask(HUB_HOST, path, method, ACCEPT).status == 403
    assert internet.hub.count() == 0


def test_cdn(internet, door, item):
    """Hosts of redirects, whose certificates we make, pass on what they have."""
    digest = item.layers[0].digest
    for host in (HUB_CDN, MCR_CDN):
        internet.mcr_cdn.blobs[("library/app", digest)] = item.layers[0].data
        got = door.ask(host, f"/v2/library/app/blobs/{digest}?verify=1")
        assert got.status == 200 and got.body == item.layers[0].data
    idle(door)


# --- tunnels ---

def test_tunnel_hosts(internet, door):
    """[intercept] tunnel: connected to on port 443 without a look inside; patterns too, but those
    must not lead inside; other ports never."""
    for _ in range(2):
        c, head = door.connect(f"{ELSEWHERE}:443")
        with c:
            assert head.status == 200
            c.secure(internet.client_context(), ELSEWHERE)
            c.request("/v2/", fields=[("Host", ELSEWHERE)])
            assert c.read_response().status == 200
    assert internet.elsewhere.count() == 2
    for port in (22, 80, 8443):
        assert door.error(f"{ELSEWHERE}:{port}")[0] == 403
    inside = socket.create_server(("127.0.0.1", 443))
    internet.names.answers["inside.pattern.example"] = [("127.0.0.1",)]
    status, why = door.error("inside.pattern.example:443")
    assert status in (403, 502), why
    inside.setblocking(False)
    with pytest.raises(BlockingIOError):
        inside.accept()
    inside.close()
    assert door.error("nowhere.pattern.example:443")[0] == 502
    idle(door)


class Echo:
    """It sends back what comes, and ends when the peer does."""

    def __init__(self, internet):
        with internet.outside.entered():
            self.listener = socket.create_server((ADDRESSES[ECHO], 443), backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        with c:
            try:
                while data := c.recv(65536):
                    c.sendall(data)
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def echo(internet, closing):
    closing(Echo(internet))
    return f"{ECHO}:443"


@pytest.mark.threads
def test_tunnel_both_ways(door, echo):
    """Twenty tunnels, five megabytes each way at once, whole and in order; the end of one way
    is not the end of the other."""
    data = noise(5_000_000, "tunnel")

    def through(i):
        c, head = door.connect(echo)
        assert head.status == 200
        with c:
            sender = threading.Thread(target=lambda: (c.send(data),
                                                      c.socket.shutdown(socket.SHUT_WR)))
            sender.start()
            got = c.read_some(len(data) + 1)
            sender.join()
        return got == data

    assert all(together(20, through))
    idle(door)


def test_tunnel_client_leaves(door, echo):
    """Clients go in the middle, with FIN and RST, with bytes under way: nothing stays."""
    for i in range(40):
        c, head = door.connect(echo)
        assert head.status == 200
        c.send(b"x" * 200_000 if i % 3 else b"")
        if i % 2:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        c.close()
    idle(door)
    until("they are gone", lambda: door.daemon.metric("connections") == 1)


def test_drain_with_a_tunnel(door, echo):
    """A tunnel is open when the daemon is told to stop: it stops in its time."""
    door.daemon.sections["cache"]["drain-timeout"] = "1s"
    door.daemon.write_config()
    door.daemon.hup()
    c, head = door.connect(echo)
    assert head.status == 200
    c.send(b"hello")
    assert c.read_some(5) == b"hello"
    assert door.daemon.stop(timeout=20) == 0
    c.close()


# --- offline ---

def test_offline(internet, door, item):
    """offline = yes: what is held is served, and nothing is passed on, nor tunnelled."""
    door.ask(HUB_HOST, "/v2/library/app/manifests/1", fields=ACCEPT)
    door.daemon.sections["cache"]["offline"] = "yes"
    door.daemon.write_config()
    door.daemon.hup()
    internet.forget()
    assert door.ask(HUB_HOST, "/v2/").status == 200
    got = door.ask(HUB_HOST, "/v2/library/app/manifests/1", fields=ACCEPT)
    assert got.body == item.data
    assert door.ask(HUB_HOST, "/v2/_catalog").status == 504
    assert door.error(f"{AUTH}:443")[0] == 504
    assert internet.count() == 0


def test_what_was_pushed_is_pulled(internet, door):
    """A tag that is moved through the proxy is the new one for who pulls next, as soon as the
    index says so, however long tags count as fresh."""
    old, new = image.image("old"), image.image("new")
    internet.mcr.hold(old, "team/app", "1")
    assert door.ask(MCR, "/v2/team/app/manifests/1", fields=ACCEPT).body == old.data
    internet.mcr.hold(new, "team/app", "1")
    door.ask(MCR, "/v2/team/app/manifests/1", "PUT", [("Content-Length", "0")])
    until("the new one is pulled", lambda: door.ask(
        MCR, "/v2/team/app/manifests/1", fields=ACCEPT).body == new.data)
