# SPDX-License-Identifier: ISC
"""Upstreams over https: verified always."""

import ssl

import pytest

from lib import image
from lib.hub import Hub
from lib.image import noise
from lib.paths import HUB, blob
from lib.pki import Authority

DATA = noise(700_000, "tls")
BLOB = blob("library/app", image.digest_of(DATA))


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def upstream(closing):
    def make(context):
        hub = closing(Hub(tls=context))
        hub.hold_blob("library/app", DATA)
        return hub

    return make


def test_https(authority, upstream, cachalot):
    """An https upstream whose authority is in ca-file: served, and resumed."""
    hub = upstream(authority.context())
    hub.fault("/blobs/", truncate_after=300_000, times=1)
    daemon = cachalot({HUB: {"url": hub.url, "ca-file": authority.certificate}})
    assert daemon.get(BLOB).body == DATA
    assert hub.count() == 2


@pytest.mark.parametrize("wrong", ["unknown-authority", "wrong-host", "expired", "not-tls"])
def test_refused(authority, upstream, cachalot, closing, wrong):
    """A certificate of an unknown authority, for another host, or expired, and a server
    that speaks no TLS: 502 that says so, and not a byte of content."""
    ca = authority.certificate
    context = authority.context("DNS:other.test" if wrong == "wrong-host" else "IP:127.0.0.1",
                                ("20200101000000Z", "20200201000000Z") if wrong == "expired"
                                else None)
    options = {} if wrong == "unknown-authority" else {"ca-file": ca}
    hub = upstream(None if wrong == "not-tls" else context)
    url = hub.url.replace("http://", "https://")
    daemon = cachalot({HUB: {"url": url, "retries": 0, **options}})
    got = daemon.get(BLOB)
    assert got.status == 502 and hub.count() == 0
    line, = daemon.wait_access(1)
    assert line["outcome"] in ("upstream-tls", "upstream-refused"), line


@pytest.mark.parametrize("wrong", ["self-signed", "not-yet-valid", "missing-intermediate"])
def test_refused_as_well(authority, upstream, cachalot, tmp_path, wrong):
    """A certificate that signed itself, that will be valid one day, or whose chain has a
    gap: 502, and not a byte of content."""
    if wrong == "self-signed":
        (tmp_path / "self").mkdir()
        self_signed = Authority(tmp_path / "self")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self_signed.certificate, self_signed.key)
    elif wrong == "not-yet-valid":
        context = authority.context(dates=("20980101000000Z", "20991231235959Z"))
    else:
        context = authority.intermediate().context()
    hub = upstream(context)
    daemon = cachalot({HUB: {"url": hub.url, "retries": 0, "ca-file": authority.certificate}})
    got = daemon.get(BLOB)
    assert got.status == 502 and b"certificate" in got.body and hub.count() == 0
    assert daemon.wait_access(1)[0]["outcome"] == "upstream-tls"


def test_no_downgrade(authority, upstream, cachalot, closing):
    """A redirect from https to http is not followed."""
    hub = upstream(authority.context())
    plain = closing(Hub())
    plain.hold_blob("library/app", DATA)
    hub.fault("/blobs/", redirect=f"{plain.url}/v2/library/app/blobs/{image.digest_of(DATA)}")
    daemon = cachalot({HUB: {"url": hub.url, "ca-file": authority.certificate, "retries": 0}})
    assert daemon.get(BLOB).status == 502
    assert plain.count() == 0
