# SPDX-License-Identifier: ISC
"""The way to an upstream: through a proxy, with a certificate, by IPv4 or IPv6, in time."""

import ssl

import pytest

from lib import image
from lib.hub import Hub
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.pki import Authority, openssl
from lib.sample import BLOB, DATA, DIGEST
from lib.tunnel import Tunnel

ALICE = [("Authorization", "Bearer alice")]


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def secure(closing, authority):
    """An https upstream with the blob."""
    hub = closing(Hub(tls=authority.context("IP:127.0.0.1,DNS:hub.test")))
    hub.hold_blob("library/app", DATA)
    return hub


@pytest.fixture
def tunnel(closing):
    return closing(Tunnel())


def error(got, status=502):
    assert got.status == status, got
    return got.body.decode()


# --- a proxy ---

def test_through_a_proxy(secure, tunnel, authority, cachalot):
    """Everything goes through it by CONNECT, and what the proxy says of itself is not
    taken for the upstream's answer."""
    daemon = cachalot({HUB: {"url": secure.url, "ca-file": authority.certificate, "retries": 0,
                             "proxy": tunnel.url}})
    got = daemon.get(BLOB, fields=ALICE)
    assert got.status == 200 and got.body == DATA
    assert set(tunnel.targets) == {"%s:%d" % secure.address}
    assert secure.count() == 1
    assert not any("authorization" in head.lower() for head in tunnel.heads)


def test_http_is_tunnelled_too(upstream, tunnel, cachalot):
    """An upstream without TLS goes by CONNECT as well; one request."""
    daemon = cachalot({HUB: {"url": upstream.url, "proxy": tunnel.url}})
    assert daemon.get(BLOB).body == DATA
    assert tunnel.targets == ["%s:%d" % upstream.address]
    assert upstream.count() == 1


def test_names_are_the_proxys(secure, tunnel, authority, cachalot):
    """Where no name server is, the proxy resolves; the certificate is checked all the
    same: of two requests the upstream sees one."""
    tunnel.names["hub.test"] = tunnel.names["other.test"] = "127.0.0.1"
    port = secure.address[1]
    options = {"ca-file": authority.certificate, "retries": 0, "proxy": tunnel.url}
    daemon = cachalot({HUB: {"url": f"https://hub.test:{port}", **options},
                       "quay.io": {"url": f"https://other.test:{port}", **options}})
    assert daemon.get(BLOB).body == DATA
    assert "certificate" in error(daemon.get(blob("library/app", image.digest_of(b"x"), "quay.io")))
    assert secure.count() == 1


def proxy_password(tmp_path, text="open sesame"):
    path = tmp_path / "proxy-password"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


def test_proxy_credentials(upstream, cachalot, closing, tmp_path):
    """The proxy wants a name and a password: it gets them, and the upstream does not see
    them, nor a log."""
    tunnel = closing(Tunnel("office", "open sesame"))
    daemon = cachalot({HUB: {"url": upstream.url, "proxy": tunnel.url, "proxy-username": "office",
                             "proxy-password-file": proxy_password(tmp_path)}})
    assert daemon.get(BLOB).body == DATA
    assert tunnel.wanted in tunnel.heads[0]
    secret = tunnel.wanted.removeprefix("Basic ")
    assert b"proxy-authorization" not in tunnel.sent.lower()
    assert secret.encode() not in tunnel.sent
    log = daemon.stderr_path.read_text()
    assert secret not in log and "sesame" not in log


def test_wrong_proxy_password(upstream, cachalot, closing, tmp_path):
    """The proxy refuses them: 502 that says who refused what."""
    tunnel = closing(Tunnel("office", "open sesame"))
    daemon = cachalot({HUB: {"url": upstream.url, "proxy": tunnel.url, "proxy-username": "office",
                             "proxy-password-file": proxy_password(tmp_path, "open barley"),
                             "retries": 0}})
    said = error(daemon.get(BLOB))
    assert "the proxy" in said and "407" in said and "barley" not in said
    assert upstream.count() == 0


def test_no_proxy_password(upstream, tunnel, cachalot, tmp_path):
    """Its file is gone since the start: 502 that names the option, and the proxy is not
    asked."""
    password = proxy_password(tmp_path)
    daemon = cachalot({HUB: {"url": upstream.url, "proxy": tunnel.url, "proxy-username": "office",
                             "proxy-password-file": password, "retries": 0}})
    password.unlink()
    assert "proxy-password-file" in error(daemon.get(BLOB))
    assert tunnel.heads == []


@pytest.mark.parametrize("status", [403, 407, 502, 503])
def test_proxy_refuses(upstream, tunnel, cachalot, status):
    """Another error of the proxy's: 502 that says that it is the proxy's. The upstream sees
    nothing."""
    tunnel.refuse = status
    daemon = cachalot({HUB: {"url": upstream.url, "proxy": tunnel.url, "retries": 0}})
    said = error(daemon.get(BLOB))
    assert f"answered {status}" in said and tunnel.url in said
    assert upstream.count() == 0


def test_proxy_is_gone(upstream, tunnel, cachalot):
    """Nobody listens there: 502 that says so, and no way around it."""
    tunnel.close()
    daemon = cachalot({HUB: {"url": upstream.url, "proxy": tunnel.url, "retries": 0}})
    said = error(daemon.get(BLOB))
    assert tunnel.url in said and "cannot be reached" in said
    assert upstream.count() == 0


@pytest.mark.parametrize("where", ["127.0.0.2", "169.254.169.254", "[::1]", "localhost",
                                   "0x7f000002", "10.0.0.1"])
def test_redirects_behind_a_proxy(upstream, tunnel, cachalot, where):
    """A redirect that says by itself that it leads within the network is not followed,
    though the proxy would connect."""
    upstream.fault("/blobs/", redirect=f"http://{where}:9/x")
    daemon = cachalot({HUB: {"url": upstream.url, "proxy": tunnel.url, "retries": 0,
                             "redirect-hosts": ""}})
    assert "not public" in error(daemon.get(BLOB))
    assert len(tunnel.heads) == 1


def test_redirect_through_the_proxy(upstream, tunnel, cachalot, closing):
    """A CDN is reached through the proxy as well, by its name."""
    cdn = closing(Hub("127.0.0.2"))
    cdn.blobs["store", DIGEST] = DATA
    tunnel.names["cdn.test"] = "127.0.0.2"
    upstream.fault("/blobs/", redirect=f"http://cdn.test:{cdn.address[1]}/v2/store/blobs/{DIGEST}")
    daemon = cachalot({HUB: {"url": upstream.url, "proxy": tunnel.url, "redirect-hosts": ""}})
    assert daemon.get(BLOB, fields=ALICE).body == DATA
    assert tunnel.targets[-1] == f"cdn.test:{cdn.address[1]}"
    assert "authorization" not in cdn.requests[0].fields


def test_the_environment_does_not_count(upstream, tunnel, cachalot, secure, authority):
    """Variables that would send all traffic elsewhere, or past the proxy, do nothing."""
    nowhere = "http://127.0.0.1:9"
    names = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    daemon = cachalot({HUB: {"url": upstream.url, "retries": 0},
                       "quay.io": {"url": secure.url, "ca-file": authority.certificate,
                                   "proxy": tunnel.url, "retries": 0}}, start=False)
    daemon.start(env={**dict.fromkeys(names, nowhere), "no_proxy": "127.0.0.1"})
    assert daemon.get(BLOB).body == DATA
    daemon.get(blob("library/app", DIGEST, "quay.io"))
    assert daemon.get(manifest("library/app", "1", "quay.io")).status == 404
    assert tunnel.targets == ["%s:%d" % secure.address]


# --- a client's certificate ---

@pytest.fixture
def identity(authority):
    """(certificate, key) that the authority gave us."""
    made = authority.directory / "client.pem"
    key = authority.directory / "client.key"
    request = authority.directory / "client.csr"
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", request, "-subj", "/CN=cachalot")
    openssl("x509", "-req", "-in", request, "-CA", authority.certificate, "-CAkey", authority.key,
            "-CAcreateserial", "-days", 1, "-out", made)
    return made, key


def demanding(authority, mode=ssl.CERT_REQUIRED, names="IP:127.0.0.1"):
    context = authority.context(names)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = mode
    return context


def test_certificate(authority, identity, cachalot, closing):
    """The upstream wants to know us by a certificate; without it there is nothing."""
    hub = closing(Hub(tls=demanding(authority)))
    hub.hold_blob("library/app", DATA)
    options = {"url": hub.url, "ca-file": authority.certificate, "retries": 0}
    daemon = cachalot({HUB: {**options, "certificate": identity[0], "key": identity[1]},
                       "quay.io": options})
    assert daemon.get(blob("library/app", DIGEST, "quay.io")).status == 502
    assert hub.count() == 0
    assert daemon.get(BLOB).body == DATA


def test_certificate_is_for_the_upstream_alone(authority, identity, cachalot, closing):
    """A CDN that would like to see a certificate is shown none."""
    hub = closing(Hub(tls=demanding(authority)))
    cdn = closing(Hub("127.0.0.2", tls=demanding(authority, ssl.CERT_OPTIONAL, "IP:127.0.0.2")))
    cdn.blobs["store", DIGEST] = DATA
    hub.fault("/blobs/", redirect=f"{cdn.url}/v2/store/blobs/{DIGEST}")
    daemon = cachalot({HUB: {"url": hub.url, "ca-file": authority.certificate, "retries": 0,
                             "certificate": identity[0], "key": identity[1],
                             "redirect-hosts": "127.0.0.2"}})
    assert daemon.get(BLOB).body == DATA
    assert hub.requests[0].certificate is not None
    assert cdn.requests[0].certificate is None


@pytest.mark.parametrize("wrong", ["missing", "garbage", "swapped"])
def test_certificate_that_cannot_be_used(authority, identity, secure, cachalot, tmp_path, wrong):
    """Files that are missing or no certificate: 502 that says so."""
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate\n")
    certificate, key = {"missing": (tmp_path / "none.pem", identity[1]),
                        "garbage": (garbage, garbage), "swapped": identity[::-1]}[wrong]
    daemon = cachalot({HUB: {"url": secure.url, "ca-file": authority.certificate, "retries": 0,
                             "certificate": certificate, "key": key}})
    assert "certificate or key" in error(daemon.get(BLOB))
    assert secure.count() == 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
@pytest.mark.parametrize("version, status", [(ssl.TLSVersion.TLSv1_1, 502),
                                             (ssl.TLSVersion.TLSv1_2, 200),
                                             (ssl.TLSVersion.TLSv1_3, 200)])
def test_versions_of_tls(authority, cachalot, closing, version, status):
    """TLS 1.2 at least."""
    context = authority.context(maximum_version=version)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    hub = closing(Hub(tls=context))
    hub.hold_blob("library/app", DATA)
    daemon = cachalot({HUB: {"url": hub.url, "ca-file": authority.certificate, "retries": 0}})
    assert daemon.get(BLOB).status == status
    assert hub.count() == (1 if status == 200 else 0)


def test_status_tells(authority, cachalot, secure):
    """A certificate that is not acceptable: `status` says that the upstream is not to be
    had, and why; and that it is, when it is."""
    daemon = cachalot({HUB: {"url": secure.url, "retries": 0}})
    assert daemon.get(BLOB).status == 502
    said = daemon.upstream_status(HUB)
    assert said["reachable"] is False and said["last_failure"]["result"] == "upstream-tls"
    assert "certificate" in said["last_failure"]["text"]
    assert "certificate" in daemon.command("status").stdout
    daemon.sections[f"upstream {HUB}"]["ca-file"] = authority.certificate
    daemon.write_config()
    daemon.hup()
    assert daemon.get(BLOB).status == 200
    said = daemon.upstream_status(HUB)
    assert said["reachable"] is True and said["answered_at"] >= said["changed_at"]


# --- addresses and time ---

@pytest.mark.parametrize("said, expected", [("any", {4, 6}), ("ipv4", {4}), ("ipv6", {6})])
def test_addresses(upstream, cachalot, closing, said, expected):
    """The upstream's name has addresses of both kinds; one kind is asked for."""
    six = closing(Hub("::1", port=upstream.address[1]))
    six.hold_blob("library/app", DATA)
    daemon = cachalot({HUB: {"url": f"http://localhost:{upstream.address[1]}", "addresses": said,
                             "retries": 0}})
    assert daemon.get(BLOB).body == DATA
    assert {kind for kind, hub in ((4, upstream), (6, six)) if hub.count()} <= expected


@pytest.mark.parametrize("said", ["ipv4", "ipv6"])
def test_addresses_of_the_other_kind(upstream, cachalot, said):
    """The upstream has none of that kind: an honest error."""
    where = "[::1]" if said == "ipv4" else "127.0.0.1"
    daemon = cachalot({HUB: {"url": f"http://{where}:{upstream.address[1]}", "addresses": said,
                             "retries": 0}})
    assert daemon.get(BLOB).status == 502
    assert upstream.count() == 0


def test_request_timeout(upstream, cachalot):
    """A manifest that drips in is given up after request-timeout, though bytes come all
    the while; a blob has all the time that it needs."""
    item = upstream.hold(image.image("drip", (3000,)), "library/app", "1")
    upstream.fault(item.digest, method="GET", drip=60)
    upstream.fault("/blobs/", drip=600_000)
    daemon = cachalot({HUB: {"url": upstream.url, "request-timeout": "150ms", "retries": 0}})
    got = daemon.get(manifest("library/app", "1"), fields=ACCEPT)
    assert got.status == 504
    assert daemon.get(BLOB).body == DATA
