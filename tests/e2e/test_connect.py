# SPDX-License-Identifier: ISC
"""The proxy door: whose TLS is opened, and all that is refused. None of what is refused here
reaches an upstream."""

import json
import socket
import ssl
import subprocess

import pytest

from lib import intercept, rawhttp
from lib.cachalot import COMMAND
from lib.hub import Hub
from lib.image import ACCEPT, image
from lib.intercept import Door, DnsDoor, messages
from lib.paths import HUB, MCR
from lib.pki import Authority
from lib.wait import until

HUB_HOST = "registry-1.docker.io"
NEW = "registry.example"
PING = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def item(hub):
    return hub.hold(image("connect", (200_000,)), "library/app", "1")


@pytest.fixture
def door(hub, item, cachalot):
    """A daemon with a proxy, whose upstreams are the hub."""
    address, options = intercept.options(**{"head-timeout": "5s"})
    return Door(cachalot({HUB: hub.url, MCR: hub.url}, options), address)


@pytest.fixture
def dns_door(hub, item, cachalot, tmp_path):
    """The same for clients to whom the names lead."""
    address, options = intercept.options(role="tls-intercept", **{"head-timeout": "5s"})
    daemon = cachalot({HUB: hub.url, MCR: hub.url}, options, name="cachalotd-dns",
                      cache=tmp_path / "dns-cache")
    return DnsDoor(daemon, address)


def pull(door, item, host=HUB_HOST, **more):
    """The image by its tag, each part of it right."""
    got = door.ask(host, "/v2/library/app/manifests/1", fields=ACCEPT, **more)
    assert got.status == 200 and got.body == item.data
    for each in item.all_blobs():
        got = door.ask(host, f"/v2/library/app/blobs/{each.digest}", **more)
        assert got.status == 200 and got.complete and got.body == each.data


# --- what is opened ---

def test_pull(hub, door, item):
    """A pull through the proxy, by the names of Docker Hub, is a pull as by every door: one
    copy, then none; and its log line says how it came."""
    pull(door, item)
    door.daemon.wait_idle()
    hub.forget()
    pull(door, item)
    pull(door, item, "index.docker.io")
    assert hub.count() == 0
    assert door.daemon.get(f"/v2/docker.io/library/app/blobs/{item.blobs[0].digest}").status == 200
    def lines():
        return [x for x in door.daemon.access_log() if x["method"] == "GET"]

    until("all is in the log", lambda: len(lines()) == 10)
    assert [x["door"] for x in lines()].count("intercept") == 9
    assert {(x["registry"], x["repository"]) for x in lines()} == {(HUB, "library/app")}


def test_pull_by_dns(hub, dns_door, item):
    """The same where DNS leads the names to us: the name in the ClientHello counts."""
    pull(dns_door, item)
    dns_door.daemon.wait_idle()
    hub.forget()
    pull(dns_door, item, "index.docker.io")
    assert hub.count() == 0


def test_plain_proxy_requests(hub, door, item):
    """A client that asks a proxy for http: the same answers."""
    for path, data in [("/v2/library/app/manifests/1", item.data),
                       (f"/v2/library/app/blobs/{item.layers[0].digest}", item.layers[0].data)]:
        got = rawhttp.get(door.address, f"http://{HUB_HOST}{path}", fields=ACCEPT)
        assert got.status == 200 and got.body == data
    got = rawhttp.get(door.address, f"http://{HUB_HOST}:80/v2/library/app/manifests/1",
                      fields=ACCEPT)
    assert got.body == item.data


def test_many_requests_in_one_tunnel(hub, door, item):
    """The connection goes on, as within any TLS; requests may come together."""
    digest = item.layers[0].digest
    with door.open(HUB_HOST) as c:
        one = (f"GET /v2/library/app/blobs/{digest} HTTP/1.1\r\nHost: {HUB_HOST}\r\n\r\n").encode()
        c.send(one * 3)
        for _ in range(3):
            assert c.read_response().body == item.layers[0].data
        for byte in one:
            c.send(bytes([byte]))
        assert c.read_response().body == item.layers[0].data
    assert door.daemon.metric("tls_handshakes_total") == 1


def test_own_pages(door, hub):
    """Asked as a server, a proxy has its pages, and is no registry."""
    assert rawhttp.get(door.address, "/-/healthz").status == 200
    assert rawhttp.get(door.address, "/-/setup/ca.crt").body.decode() == door.ca()
    got = rawhttp.get(door.address, "/v2/")
    assert got.status == 404 and b"proxy" in got.body
    assert rawhttp.get(door.address, "/v2/library/app/manifests/1").status == 404
    assert hub.count() == 0


@pytest.mark.parametrize("head", [f"CONNECT {HUB_HOST}:443 HTTP/1.0\r\n\r\n",
                                  f"CONNECT {HUB_HOST}:443 HTTP/1.1\r\nHost: {HUB_HOST}:443\r\n"
                                  "Proxy-Connection: close\r\nConnection: close\r\n\r\n",
                                  f"CONNECT {HUB_HOST.upper()}:0443 HTTP/1.1\r\n"
                                  f"Host: {HUB_HOST}\r\n\r\n"],
                         ids=["old", "close", "upper-case"])
def test_ways_to_say_connect(door, item, head):
    """A tunnel is not a request that ends: what is said of the connection after it, or an old
    version, is about the connection to us."""
    with door.raw() as c:
        c.send(head.encode())
        assert c.read_head().status == 200
        c.secure(door.context(), HUB_HOST)
        c.request("/v2/library/app/manifests/1", fields=[("Host", HUB_HOST), *ACCEPT])
        assert c.read_response().body == item.data


def test_openssl(door):
    """`openssl s_client -proxy` is shown a certificate for the host, that verifies."""
    done = subprocess.run(["openssl", "s_client", "-proxy", "%s:%d" % door.address, "-connect",
                           f"{HUB_HOST}:443", "-CAfile", door.ca_file(), "-verify_return_error",
                           "-verify_hostname", HUB_HOST, "-servername", HUB_HOST,
                           "-ign_eof"],
                          input=PING.decode().replace("Host: x", f"Host: {HUB_HOST}\r\n"
                                                      "Connection: close"),
                          capture_output=True, text=True, timeout=30, check=False)
    assert "Verify return code: 0 (ok)" in done.stdout, done
    assert "HTTP/1.1 200" in done.stdout, done


def test_no_name_in_the_hello(hub, door, item, dns_door):
    """Without SNI the host of the CONNECT counts; without either there is no certificate."""
    unnamed = door.context(check_hostname=False)
    c, head = door.connect(f"{HUB_HOST}:443")
    with c:
        assert head.status == 200
        c.secure(unnamed)
        c.request("/v2/library/app/manifests/1", fields=[("Host", HUB_HOST), *ACCEPT])
        assert c.read_response().body == item.data
    with dns_door.raw() as c, pytest.raises((ssl.SSLError, OSError)):
        c.secure(dns_door.context(check_hostname=False))
    until("it is in the log", lambda: messages(dns_door.daemon, "named no host"))


# --- hosts and ports ---

@pytest.mark.parametrize("target, status", [
    (f"{HUB_HOST}:22", 403), (f"{HUB_HOST}:25", 403), (f"{HUB_HOST}:80", 403),
    (f"{HUB_HOST}:0", 403), (f"{HUB_HOST}:65535", 403), (f"{HUB_HOST}:65536", 400),
    (f"{HUB_HOST}:", 400), (HUB_HOST, 400), (f"{HUB_HOST}:443443", 400),
    ("evil.example:443", 403), ("docker.io:443", 403), (f"x.{HUB_HOST}:443", 403),
    (f"{HUB_HOST}.:443", 403), (f"{HUB_HOST}.evil.example:443", 403), ("microsoft.com:443", 403),
    ("localhost:443", 403), ("127.0.0.1:443", 403), ("127.1:443", 403), ("2130706433:443", 403),
    ("0x7f000001:443", 403), ("0.0.0.0:443", 403), ("203.0.113.7:443", 403),
    ("169.254.169.254:443", 403), ("[::1]:443", 403), ("[::]:443", 403),
    ("[2001:db8::1]:443", 403), ("[::ffff:127.0.0.1]:443", 403), ("[fe80::1%25eth0]:443", 400),
    ("[fe80::1%eth0]:443", 400), ("fe80::1:443", 400), ("[::1:443", 400), ("[]:443", 400),
    (":443", 400), (f"user@{HUB_HOST}:443", 400), (f"{HUB_HOST}:443/", 400),
    (f"https://{HUB_HOST}:443", 400), (f"{HUB_HOST}:443#x", 400), ("*:443", 400),
    (f"{HUB_HOST}%00:443", 400), (f"{HUB_HOST}:+443", 400), (f"{HUB_HOST}:443:443", 400),
])
def test_refused(hub, door, target, status):
    """Other ports, addresses of all kinds, hosts of nobody's, and what is no authority: refused
    with the reason, the connection ends, no look-up is made and no upstream hears of it."""
    got, why = door.error(target)
    assert got == status, why
    if status == 403:
        assert "443" in why if target.startswith(HUB_HOST + ":") else "configured" in why
        host = target.rsplit(":", 1)[0].lower()
        until("it is in the log",
              lambda: [x for x in messages(door.daemon, "was refused") if host in x])
    assert hub.count() == 0 and door.daemon.metric("tls_handshakes_total") == 0


def test_own_ports(hub, door):
    """Nor is there a way through a proxy to the daemon itself, by whatever name."""
    for address in (door.daemon.address, door.address):
        for host in ("127.0.0.1", "localhost", "[::1]", socket.gethostname()):
            assert door.error(f"{host}:{address[1]}")[0] == 403
    assert hub.count() == 0


@pytest.mark.parametrize("where, status", [
    ("http://evil.example/v2/", 403), ("http://127.0.0.1/-/metrics", 403),
    ("http://[::1]/v2/", 403), (f"http://{HUB_HOST}:8080/v2/", 421),
    (f"http://{HUB_HOST}:443/v2/", 421), ("http:///v2/", 400), (f"ftp://{HUB_HOST}/v2/", 400),
    (f"http://user@{HUB_HOST}/v2/", 400), (f"http://{HUB_HOST}:x/v2/", 400)])
def test_plain_refused(hub, door, where, status):
    """Proxy requests without TLS: for hosts of upstreams alone, on port 80."""
    assert rawhttp.get(door.address, where).status == status
    assert hub.count() == 0


def test_other_listeners(hub, door):
    """Registry and mirror are no proxies."""
    for address in (door.daemon.address, door.daemon.mirror):
        with rawhttp.Connection(address) as c:
            c.request(f"{HUB_HOST}:443", "CONNECT", [("Host", HUB_HOST)])
            assert c.read_response().status in (400, 404, 405)
    assert hub.count() == 0


@pytest.mark.parametrize("fields", [[("Content-Length", "5")], [("Transfer-Encoding", "chunked")]],
                         ids=["length", "chunked"])
def test_connect_with_a_body(hub, door, fields):
    """There is no such thing, RFC 9110 section 9.3.6: what followed would be taken for what
    it is not."""
    c, head = door.connect(f"{HUB_HOST}:443", fields)
    with c:
        assert head.status == 400


# --- within the tunnel ---

def fails(door, make):
    """make() does not get TLS; returns the reason in the log."""
    before = door.daemon.metric("tls_failures_total")
    with pytest.raises((ssl.SSLError, OSError, rawhttp.Closed)):
        make()
    door.daemon.wait_metric("tls_failures_total", before + 1)
    return until("it is in the log", lambda: messages(door.daemon, "no TLS with"))[-1]


@pytest.mark.parametrize("sni", [MCR, "evil.example", "docker.io", "x" * 63 + ".example"])
def test_another_name_in_the_hello(hub, door, sni):
    """SNI is another than the CONNECT said, be it one that is opened too: refused."""
    why = fails(door, lambda: door.open(HUB_HOST, door.context(check_hostname=False), sni))
    assert HUB_HOST in why and sni in why
    assert hub.count() == 0


@pytest.mark.parametrize("sni", ["evil.example", "docker.io", "auth.docker.io", "localhost"])
def test_unlisted_by_dns(hub, dns_door, sni):
    """No certificate is made for a host that is not opened."""
    context = dns_door.context(check_hostname=False)
    assert "not intercepted" in fails(dns_door, lambda: dns_door.open(sni, context))
    assert hub.count() == 0


@pytest.mark.parametrize("host", [MCR, "evil.example", f"{HUB_HOST}:444", f"{HUB_HOST}:80",
                                  "127.0.0.1", f"x{HUB_HOST}"])
def test_another_host_in_the_request(hub, door, dns_door, host):
    """Host is another than the connection is for: 421, and it ends."""
    for each in (door, dns_door):
        with each.open(HUB_HOST) as c:
            c.request("/v2/library/app/manifests/1", fields=[("Host", host), *ACCEPT])
            got = c.read_response()
            assert got.status == 421 and HUB_HOST in got.body.decode()
            assert c.at_end()
    assert hub.count() == 0


def test_absolute_form_within(hub, door, item):
    """The same where the request line says the host."""
    with door.open(HUB_HOST) as c:
        c.request(f"https://{HUB_HOST}/v2/library/app/manifests/1",
                  fields=[("Host", HUB_HOST), *ACCEPT])
        assert c.read_response().body == item.data
        hub.forget()
        c.request(f"https://{MCR}/v2/library/app/manifests/1", fields=[("Host", HUB_HOST)])
        assert c.read_response().status == 421
    assert hub.count() == 0


def test_connect_within_connect(hub, door):
    """A CONNECT within TLS is refused, whatever it is to."""
    for target in (f"{HUB_HOST}:443", f"{MCR}:443", "evil.example:443"):
        with door.open(HUB_HOST) as c:
            c.request(target, "CONNECT", [("Host", target)])
            assert c.read_response().status == 400
    assert hub.count() == 0


def test_old_request_without_host(hub, door, item):
    """HTTP/1.0 within TLS, without Host: the CONNECT has said the host."""
    with door.open(HUB_HOST) as c:
        c.send(b"GET /v2/library/app/manifests/1 HTTP/1.0\r\nAccept: */*\r\n\r\n")
        got = c.read_response()
        assert got.status == 200 and got.body == item.data


@pytest.mark.parametrize("inside", [PING, b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 100, b"\x16\x03",
                                    b"\x80\x2e\x01\0\x02", b"\x15\x03\x01\0\x02\x02\x28"],
                         ids=["http", "ssh", "zeros", "cut", "sslv2", "alert"])
def test_no_tls_inside(hub, door, inside):
    """After the 200 something else than TLS: closed, and said so."""
    c, head = door.connect(f"{HUB_HOST}:443")
    with c:
        assert head.status == 200
        c.send(inside)
        c.socket.shutdown(socket.SHUT_WR)
        while c.receive():
            pass
        assert b"HTTP/1.1" not in c.buffer
    door.daemon.wait_metric("tls_failures_total", 1)
    assert hub.count() == 0 and door.daemon.get("/-/healthz").status == 200


@pytest.mark.parametrize("early", [b"\x16\x03\x01\x02\0\x01", PING, b"x"], ids=["tls", "http", "x"])
def test_bytes_before_the_200(hub, door, early):
    """What is sent before the tunnel is said to be there was not said within it: closed."""
    with door.raw() as c:
        c.send(f"CONNECT {HUB_HOST}:443 HTTP/1.1\r\nHost: {HUB_HOST}\r\n\r\n".encode() + early)
        c.socket.shutdown(socket.SHUT_WR)
        while c.receive():
            pass
        assert c.buffer.count(b"HTTP/1.1") <= 1
    until("it is in the log", lambda: messages(door.daemon, "did not wait"))
    assert hub.count() == 0 and door.daemon.metric("tls_handshakes_total") == 0


def handshake_message(length, sent):
    """A ClientHello that says this length, in records, of which so much is sent."""
    data = b"\x01" + length.to_bytes(3, "big") + b"\x03\x03" + b"\0" * (sent - 6)
    records = [data[i:i + 16384] for i in range(0, len(data), 16384)]
    return b"".join(b"\x16\x03\x01" + len(x).to_bytes(2, "big") + x for x in records)


@pytest.mark.parametrize("length, sent", [(0xFFFFFF, 4096), (1 << 20, 1 << 20)])
def test_oversized_hello(hub, door, length, sent):
    """A ClientHello that is too long is refused at its length, not gathered."""
    c, head = door.connect(f"{HUB_HOST}:443")
    with c:
        assert head.status == 200
        try:
            c.send(handshake_message(length, sent))
            while c.receive():
                pass
        except OSError:
            pass
    door.daemon.wait_metric("tls_failures_total", 1)
    assert door.daemon.get("/-/healthz").status == 200


@pytest.mark.threads
def test_slow_handshakes(hub, door, dns_door, item):
    """A thousand connections that say nothing, or half of a ClientHello, on both doors: they
    are cut at head-timeout; others are served meanwhile."""
    hello = handshake_message(400, 300)
    slow = []
    for i in range(500):
        c, head = door.connect(f"{HUB_HOST}:443")
        assert head.status == 200
        slow += [c, dns_door.raw()]
        if i % 2:
            for each in slow[-2:]:
                each.send(hello)
    assert door.daemon.metric("connections") >= 500
    pull(door, item)
    pull(dns_door, item)
    for each in (door, dns_door):
        until("the slow ones are gone", lambda: each.daemon.metric("connections") == 1)
    for c in slow:
        assert c.at_end()
        c.close()
    pull(door, item)


def test_renegotiation(door):
    """A client of TLS 1.2 that wants to negotiate anew is not obeyed."""
    done = subprocess.run(["openssl", "s_client", "-proxy", "%s:%d" % door.address, "-connect",
                           f"{HUB_HOST}:443", "-tls1_2", "-CAfile", door.ca_file(),
                           "-servername", HUB_HOST], input="R\n",
                          capture_output=True, text=True, timeout=30, check=False)
    assert "RENEGOTIATING" in done.stderr and "no renegotiation" in done.stderr, done
    assert door.daemon.get("/-/healthz").status == 200


# --- who may ask ---

def test_allow(hub, item, cachalot):
    """A client from an address that is not in `allow` gets 403 to everything, and nothing is
    opened for it; /-/healthz too."""
    address, options = intercept.options(allow="10.0.0.0/8 2001:db8::/32")
    door = Door(cachalot({HUB: hub.url}, options), address)
    status, why = door.error(f"{HUB_HOST}:443")
    assert status == 403 and "allow" in why
    for path in (f"http://{HUB_HOST}/v2/", "/-/healthz", "/-/setup/ca.crt"):
        assert rawhttp.get(address, path).status == 403
    assert hub.count() == 0
    options["listener door"]["allow"] = "127.0.0.0/8"
    door.daemon.sections.update(options)
    door.daemon.write_config()
    door.daemon.hup()
    pull(door, item)


def test_allow_by_dns(hub, item, cachalot):
    """The same where DNS leads the names to us."""
    address, options = intercept.options(role="tls-intercept", allow="10.0.0.0/8")
    door = DnsDoor(cachalot({HUB: hub.url}, options), address)
    try:
        got = door.ask(HUB_HOST, "/v2/")
        assert got.status == 403
    except (OSError, rawhttp.Closed):
        pass
    assert hub.count() == 0


# --- the authority ---

def refuses_to_start(daemon, *words):
    """With a sentence."""
    daemon.launch()
    assert daemon.join() != 0
    said = daemon.stderr_path.read_text()
    for word in words:
        assert word in said, said
    daemon.child = None


@pytest.fixture
def damaged(door):
    """The directory of the authority of a daemon that has ended."""
    assert door.daemon.stop() == 0
    return door.daemon.cache / "ca"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o666])
def test_open_key(door, damaged, mode):
    """Others may read the key: it does not start, and says what to do."""
    (damaged / "ca.key").chmod(mode)
    refuses_to_start(door.daemon, "ca.key", "chmod 0600")


def test_missing_parts(door, damaged):
    """Half of an authority is none, and is not made whole by itself."""
    for name in ("ca.key", "ca.crt"):
        (damaged / name).rename(damaged / "aside")
        refuses_to_start(door.daemon, name, "missing", "cachalot ca rotate")
        (damaged / "aside").rename(damaged / name)
    door.daemon.start()


def test_mismatch(door, damaged, tmp_path):
    """Key and certificate of two authorities."""
    (damaged / "ca.crt").rename(tmp_path / "ca.crt")
    (damaged / "ca.key").unlink()
    door.daemon.start()
    assert door.daemon.stop() == 0
    (damaged / "ca.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
    refuses_to_start(door.daemon, "ca.key", "rotate")


def test_kept(door, item):
    """The authority is made once: a restart and a reload keep it; its fingerprint is in the
    log, and the command shows the same."""
    ca = door.ca()
    shown = json.loads(door.daemon.command("ca", "show", "--format", "json").stdout)
    assert door.daemon.command("ca", "cert").stdout == ca
    assert messages(door.daemon, shown["sha256"])
    door.daemon.hup()
    assert door.ca() == ca
    assert door.daemon.stop() == 0
    door.daemon.start()
    assert door.ca() == ca
    pull(door, item)
    assert {HUB_HOST, "index.docker.io", MCR} <= set(shown["names"])
    assert not {"docker.io", "auth.docker.io"} & set(shown["names"])


def test_a_host_that_is_new(hub, door, item):
    """A host is configured that the authority does not cover: start-up and reload say so and
    name the command, it is not opened, all others are. After `cachalot ca rotate` it is, and
    who trusted the old authority refuses."""
    old = door.context()
    door.daemon.sections[f"upstream {NEW}"] = {"url": hub.url}
    door.daemon.write_config()
    for take in (door.daemon.hup, lambda: door.daemon.stop() == 0 and door.daemon.start()):
        seen = len(messages(door.daemon, NEW))
        take()
        said = messages(door.daemon, NEW)[seen:]
        assert any("cachalot ca rotate" in x for x in said), said
        pull(door, item)
    with pytest.raises((ssl.SSLError, OSError)):
        door.open(NEW)
    done = door.daemon.command("ca", "rotate")
    assert done.returncode == 0, done
    pull(door, item, context=old)
    door.daemon.hup()
    pull(door, item, NEW)
    with pytest.raises(ssl.SSLCertVerificationError):
        door.open(NEW, old)


def test_bad_authority_at_a_reload(door, item):
    """At a reload the same faults leave all as it was."""
    key = door.daemon.cache / "ca" / "ca.key"
    key.chmod(0o644)
    door.daemon.hup()
    assert door.daemon.metric("reload_failures_total") == 1
    pull(door, item)


def test_other_verifiers(door):
    """OpenSSL's, with the certificate in hand: for its host and no other."""
    with door.open(HUB_HOST) as c:
        leaf = ssl.DER_cert_to_PEM_cert(c.socket.getpeercert(True))
    path = door.daemon.directory / "leaf.pem"
    path.write_text(leaf)
    for host, good in ((HUB_HOST, True), (MCR, False), ("docker.io", False)):
        done = subprocess.run(["openssl", "verify", "-CAfile", door.ca_file(), "-verify_hostname",
                               host, "-purpose", "sslserver", path], capture_output=True,
                              check=False)
        assert (done.returncode == 0) == good, done


def test_command_without_daemon(door):
    """`cachalot ca show` needs no daemon."""
    assert door.daemon.stop() == 0
    done = subprocess.run([COMMAND, "-c", door.daemon.config_path, "ca", "show"],
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0 and HUB_HOST in done.stdout, done


# --- upstreams ---

@pytest.mark.parametrize("wrong", ["unknown-authority", "wrong-host", "expired"])
def test_bad_certificate_upstream(cachalot, closing, tmp_path, wrong):
    """What is wrong with the upstream's certificate is not hidden behind ours: 502 with the
    cause, and nothing is stored."""
    authority = Authority(tmp_path)
    dates = ("20200101000000Z", "20200201000000Z") if wrong == "expired" else None
    names = "DNS:other.test" if wrong == "wrong-host" else "IP:127.0.0.1"
    upstream = closing(Hub(tls=authority.context(names, dates)))
    more = {} if wrong == "unknown-authority" else {"ca-file": authority.certificate}
    address, options = intercept.options()
    door = Door(cachalot({MCR: {"url": upstream.url, "retries": 0, **more}}, options), address)
    for path in ("/v2/library/app/manifests/1", "/v2/library/app/blobs/sha256:" + "0" * 64):
        got = door.ask(MCR, path, fields=ACCEPT)
        assert got.status == 502 and b"certificate" in got.body, got
    assert upstream.count() == 0 and not door.daemon.stored()


def test_upstream_down(hub, door, item):
    """The line is cut: what is held is served, all else is 502 and not 404."""
    pull(door, item)
    door.daemon.wait_idle()
    hub.down()
    pull(door, item)
    assert door.ask(HUB_HOST, "/v2/library/other/manifests/1", fields=ACCEPT).status == 502
